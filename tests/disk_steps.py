"""Records what is synced to the disk and what is renamed, in order: a missing fsync shows only in a power cut."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

Step = tuple[str, int | str]


def disk_steps(monkeypatch: pytest.MonkeyPatch) -> list[Step]:
    """A list that fills with ("name", size) for each fsync, and ("old", "new") for each rename."""
    steps: list[Step] = []
    fsync, replace = os.fsync, Path.replace

    def spy_fsync(file: int) -> None:
        name = Path(f"/proc/self/fd/{file}").readlink().name if Path("/proc/self/fd").exists() else ""
        steps.append((name, os.fstat(file).st_size))
        fsync(file)

    def spy_replace(self: Path, target: str | os.PathLike[str]) -> Path:
        steps.append((self.name, Path(target).name))
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", spy_fsync)
    monkeypatch.setattr(Path, "replace", spy_replace)
    return steps

"""Writing a bundle's manifest; spladerunner.model.bundle reads it."""

from __future__ import annotations

import json
import shlex
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from spladerunner.export.source import Source
from spladerunner.model.manifest import MANIFEST, FileRecord, RoleName

_TOOLS = ("spladerunner", "onnxruntime", "onnx", "optimum-onnx", "transformers", "torch")


def write_manifest(bundle: Path, manifest: dict[str, Any]) -> None:
    """Writes manifest.json, with the record of every other file in the folder."""
    files = {path.name: asdict(FileRecord.of(path)) for path in sorted(bundle.iterdir()) if path.name != MANIFEST}
    text = json.dumps({**manifest, "files": files}, indent=2, ensure_ascii=False)
    (bundle / MANIFEST).write_text(text + "\n", encoding="utf-8")


def export_command(sources: dict[RoleName, Source], output: Path, options: dict[str, str | bool | None]) -> str:
    """The command that makes the bundle; folders by their last two parts."""
    words = ["spladerunner", "export"]
    for role, source in sources.items():
        words += [f"--{role}", f"{source.name}@{source.revision}" if source.revision else source.name]
    words += ["-o", "/".join(output.resolve().parts[-2:])]
    for option, value in options.items():
        words += [option] if value is True else [option, str(value)] if value else []
    return shlex.join(words)


def tool_versions() -> dict[str, str]:
    """The versions of what makes a bundle."""
    return {package: version(package) for package in _TOOLS}

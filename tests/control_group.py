"""Control groups of the tests' own, where the system lets them be made."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def control_group(controller: str, limits: Mapping[str, str], old_limits: Mapping[str, str]) -> Iterator[str]:
    """Python code with which a process enters a group that has these limits: those of version 2, or else of version 1.

    Where no such group can be made the test is skipped. In CI it fails if root runs it, who can make one.
    """
    root = Path("/sys/fs/cgroup")
    for parent, files in ((root, limits), (root / controller, old_limits)):
        group = parent / f"spladerunner-test-{os.getpid()}"
        try:
            group.mkdir()
        except OSError:
            continue
        try:
            try:
                for file, value in files.items():
                    if not (group / file).exists():
                        raise FileNotFoundError(file)
                    (group / file).write_text(value)
            except OSError:
                continue
            yield f"import os; open({str(group / 'cgroup.procs')!r}, 'w').write(str(os.getpid()))"
        finally:
            group.rmdir()
        return
    message = f"this system lets no control group with a limit of {controller} be made"
    if os.environ.get("CI") and os.geteuid() == 0:
        pytest.fail(message)
    pytest.skip(message)

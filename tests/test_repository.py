"""Files for contributors: CONTRIBUTING.md names paths that exist, and the workflows run targets of the Makefile."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from tests.conftest import ROOT

CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
MADE = re.compile(r"\.|build$|dist$|__pycache__$|.*\.egg-info$")


def folders() -> set[str]:
    """The folders of the tree, two levels deep, but for what tools have made."""
    return {
        f"{folder.relative_to(ROOT).as_posix()}/"
        for pattern in ("*", "*/*")
        for folder in ROOT.glob(pattern)
        if folder.is_dir()
        and not folder.is_symlink()
        and not any(MADE.match(part) for part in folder.relative_to(ROOT).parts)
    }


def makefile_targets() -> set[str]:
    (declared,) = re.findall(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    return set(declared.split())


def test_the_map_has_a_line_for_each_folder() -> None:
    (drawn,) = re.findall(r"^## Map\n+```text\n(.*?)^```", CONTRIBUTING, re.MULTILINE | re.DOTALL)
    lines = [line.split(maxsplit=1) for line in drawn.splitlines()]
    assert all(len(line) == 2 for line in lines)
    assert {folder for folder, _ in lines} == folders()


def test_every_path_in_contributing_exists() -> None:
    paths = set(re.findall(r"`((?:[\w.-]+/)+[\w.-]*|\w+\.(?:md|yml))`", CONTRIBUTING))
    assert len(paths) > 15
    assert [path for path in sorted(paths) if not (ROOT / path).exists()] == []


def test_contributing_names_targets_of_the_makefile() -> None:
    named = set(re.findall(r"^make (\w+)", CONTRIBUTING, re.MULTILINE))
    assert {"check", "test", "docs"} <= named <= makefile_targets()


def test_workflows_run_targets_of_the_makefile() -> None:
    runs = [
        step["run"]
        for path in (ROOT / ".github" / "workflows").glob("*.yml")
        for job in yaml.safe_load(path.read_text(encoding="utf-8"))["jobs"].values()
        for step in job["steps"]
        if "run" in step
    ]
    used = {target for run in runs for target in re.findall(r"^make (\w+)", run)}
    assert {"check", "test", "docs"} <= used <= makefile_targets()


def test_the_workflow_has_the_pythons_of_the_classifiers() -> None:
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "test.yml").read_text(encoding="utf-8"))
    classifiers = re.findall(r"Python :: (3\.\d+)", (ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert workflow["jobs"]["without-torch"]["strategy"]["matrix"]["python"] == classifiers


def test_hooks_use_the_tools_of_the_project() -> None:
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    hooks = {hook["id"]: hook["entry"] for repository in config["repos"] for hook in repository["hooks"]}
    assert set(hooks) == {"ruff-format", "ruff", "mypy"}
    assert all(Path(entry.split()[0]).parts[:2] == (".venv-check", "bin") for entry in hooks.values())

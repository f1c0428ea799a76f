"""Writing a bundle's manifest; spladerunner.model.bundle reads it."""

from __future__ import annotations

import json
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from spladerunner.model.manifest import MANIFEST, FileRecord

_TOOLS = ("spladerunner", "onnxruntime", "onnx", "optimum-onnx", "transformers", "torch")


def write_manifest(bundle: Path, manifest: dict[str, Any]) -> None:
    """Writes manifest.json, with the record of every other file in the folder."""
    files = {path.name: asdict(FileRecord.of(path)) for path in sorted(bundle.iterdir()) if path.name != MANIFEST}
    text = json.dumps({**manifest, "files": files}, indent=2, ensure_ascii=False)
    (bundle / MANIFEST).write_text(text + "\n", encoding="utf-8")


def tool_versions() -> dict[str, str]:
    """The versions of what makes a bundle."""
    return {package: version(package) for package in _TOOLS}

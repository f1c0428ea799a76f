"""Installs the wheel, and tests what an import loads, writes and asks."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import venv
import zipfile
from email import message_from_bytes
from email.message import Message
from pathlib import Path

import pytest

import spladerunner
from spladerunner.model.manifest import MANIFEST
from spladerunner.model.provenance import ExportManifest
from tests.conftest import ROOT
from tests.test_docs import project_urls

HEAVY = {
    *("concurrent", "huggingface_hub", "jinja2", "logging", "matplotlib"),
    *("onnx", "optimum", "scipy", "torch", "tqdm", "transformers"),
}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, so that nothing is left in the tree."""
    source = tmp_path_factory.mktemp("source") / "spladerunner"
    shutil.copytree(ROOT, source, ignore=shutil.ignore_patterns(".*", "build", "*.egg-info", "__pycache__"))
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", folder, source],
        check=True,
    )
    (built,) = folder.iterdir()
    return built


def read_metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith("METADATA"))
        return message_from_bytes(archive.read(name))


@pytest.mark.slow
def test_the_wheel_holds_the_packages_the_bundle_the_license_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        found = set(archive.namelist())
    sources = [*(ROOT / "spladerunner").rglob("*"), *(ROOT / "export").rglob("*"), *(ROOT / "models").rglob("*")]
    files = {str(path.relative_to(ROOT)) for path in sources if path.is_file() and path.suffix != ".pyc"}
    expected = {name if name.startswith("spladerunner/") else f"spladerunner/{name}" for name in files}
    information = f"spladerunner-{spladerunner.__version__}.dist-info"
    expected |= {
        f"{information}/{name}"
        for name in ("METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE", "top_level.txt")
    }
    assert found == expected
    assert "spladerunner/models/tiny-en/doc.onnx" in found and "spladerunner/py.typed" in found


@pytest.mark.slow
def test_the_metadata_is_complete(wheel: Path) -> None:
    metadata = read_metadata(wheel)
    assert metadata["Name"] == "spladerunner" and metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Requires-Python"] == ">=3.10"
    assert not any(line.startswith("Operating System") for line in metadata.get_all("Classifier", []))
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert len(str(metadata.get_payload())) > 2000
    required = [line for line in metadata.get_all("Requires-Dist", []) if "extra ==" not in line]
    names = sorted(line.split(">")[0] for line in required)
    assert names == ["huggingface_hub", "numpy", "onnxruntime", "tokenizers", "tqdm"]


@pytest.mark.slow
def test_the_readme_shows_on_a_package_index_with_its_picture(wheel: Path) -> None:
    """PyPI's own renderer keeps the picture, and its proxy passes on what is served as an image.

    GitHub Pages, where the site is, serves .svg as one; raw.githubusercontent.com may serve it as text.
    """
    from readme_renderer import markdown

    html = markdown.render(str(read_metadata(wheel).get_payload()), variant="GFM")
    assert html is not None and "<table>" in html and "<pre" in html
    (url,) = re.findall(r'<img src="([^"]+)" alt="[^"]{20,}">', html)
    assert url == f"{project_urls()['Documentation']}expansion.svg"
    assert (ROOT / "docs" / "expansion.svg").read_text(encoding="utf-8").startswith('<svg xmlns="http')


@pytest.mark.slow
def test_the_wheel_works_in_an_environment_of_its_own(wheel: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "env", with_pip=True)
    python = tmp_path / "env" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", wheel], check=True)
    code = """
import importlib.util, spladerunner
print(importlib.util.find_spec("export"), importlib.util.find_spec("models"), importlib.util.find_spec("torch"))
print(spladerunner.__file__)
print(*spladerunner.Expander().expand("The Manhattan Project and its atomic bomb")[0])
"""
    output = subprocess.check_output([python, "-I", "-c", code], text=True, cwd=tmp_path).splitlines()
    assert output[0] == "None None None"
    assert str(tmp_path) in output[1]
    assert {"manhattan", "atomic", "nuclear"} <= set(output[2].split())
    done = subprocess.run(
        [tmp_path / "env" / "bin" / "spladerunner", "export", "--doc", "x", "-o", "y"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert done.returncode == 1 and "pip install 'spladerunner[export]'" in done.stderr


@pytest.mark.slow
def test_importing_loads_nothing_heavy_and_prints_nothing() -> None:
    code = f"""
import sys
import spladerunner
spladerunner.Expander().expand("atomic bomb")
print(sorted({HEAVY!r} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("[]\n", "")


@pytest.mark.slow
def test_nothing_is_written_and_no_network_is_asked_with_a_home_or_without(tmp_path: Path) -> None:
    code = """
import os, sys
seen = []
def audit(event, arguments):
    if event == "open" and isinstance(arguments[2], int):
        if arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) and arguments[0] != os.devnull:
            seen.append((event, arguments))
    elif event.startswith(("socket.", "os.mkdir", "os.remove", "os.rename", "subprocess.", "tempfile.", "urllib.")):
        seen.append((event, arguments))
sys.addaudithook(audit)
import spladerunner
spladerunner.Expander().explain("atomic bomb", "nuclear weapon")
print(seen)
"""
    # Without CI's own variables, of which onnxruntime takes note.
    without_home = {"PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1"}
    for environment in (without_home, {**without_home, "HOME": str(tmp_path)}):
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, env=environment
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "[]\n", "")
        assert list(tmp_path.iterdir()) == []


def test_the_embedded_bundle_is_small_and_made_by_the_export() -> None:
    folder = ROOT / "models" / "tiny-en"
    assert sum(path.stat().st_size for path in folder.iterdir()) <= 12_000_000
    manifest = ExportManifest.read(folder / MANIFEST)
    assert manifest.made_by is not None
    command = "spladerunner export --doc ./tiny-en/doc --query ./tiny-en/query -o ./models/tiny-en"
    assert manifest.made_by.command.startswith(command)

from __future__ import annotations

import os
import re
import shutil
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from spladerunner import Expander
from spladerunner.model.manifest import MANIFEST
from spladerunner.models import embedded_folder
from tests.small_model import write_bundle

if TYPE_CHECKING:
    from tests.hub_server import Hub

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"
NEEDS_TORCH = re.compile(
    r"^(?:from|import) (?:torch|transformers|optimum|safetensors|sentence_transformers|spladerunner\.export"
    r"|tests\.checkpoints|tests\.torch_reference)\b",
    re.MULTILINE,
)
NEEDS_POSIX = re.compile(
    r"^import (?:fcntl|pty|resource)\b|^from tests\.test_bulk_job import|^from spladerunner\.bulk import encode"
    r"|\"sh\"|os\.mkfifo|import in_terminal",
    re.MULTILINE,
)


with suppress(ImportError):  # the environments of the Hub's clients have no hypothesis
    from hypothesis import settings

    # A slow machine is no failure: no test has a deadline.
    settings.register_profile("spladerunner", deadline=None)
    settings.load_profile("spladerunner")


def pytest_configure() -> None:
    """Interrupts reach the processes that tests start: a shell starts its background jobs with SIGINT ignored."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def marks(module: Path) -> list[str]:
    """The markers of a test module, read from its source: modules that need torch cannot be imported without it."""
    source = module.read_text(encoding="utf-8")
    return [mark for mark, pattern in (("torch", NEEDS_TORCH), ("posix", NEEDS_POSIX)) if pattern.search(source)]


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leaves modules out before they are imported if -m deselects them anyway."""
    if collection_path.suffix == ".py" and collection_path.name.startswith("test_"):
        return any(f"not {mark}" in config.option.markexpr for mark in marks(collection_path)) or None
    return None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for mark in marks(item.path):
            item.add_marker(mark)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of trained checkpoints and judged collections. CI has it, so CI must not skip."""
    if not SHARED.is_dir():
        message = f"needs the trained checkpoints and the collections in {SHARED}, which are not part of the repository"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return SHARED


@pytest.fixture(scope="session")
def document_graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded document graph with its weights inside, and its decoder in one product, as of wide models."""
    return _decoded_whole("doc.onnx", tmp_path_factory.mktemp("embedded"))


@pytest.fixture(scope="session")
def whole_logits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded pair as a bundle whose graphs give all logits, as those of wide models do."""
    from spladerunner.export.passes import Graph
    from spladerunner.export.passes.external_data import ExternalData
    from tests.small_model import change_manifest, records

    folder = Path(shutil.copytree(embedded_folder(), tmp_path_factory.mktemp("whole") / "bundle"))
    for name in ("doc.onnx", "query.onnx"):
        ExternalData()(Graph(_decoded_whole(name, folder.parent)), folder / name)
    names = sorted(each.name for each in folder.iterdir() if each.is_file() and each.name != MANIFEST)
    change_manifest(folder, files=records(folder, *names))
    return folder


def _decoded_whole(name: str, folder: Path) -> Path:
    import onnx

    from tests.small_model import decode_whole

    model = onnx.load(embedded_folder() / name)
    decode_whole(model.graph)
    onnx.save(model, folder / name)
    return folder / name


@pytest.fixture
def hub() -> Iterator[Hub]:
    """A Hub on loopback, without repositories."""
    from tests.hub_server import Hub, serving

    with serving(Hub()) as hub:
        yield hub


@pytest.fixture
def quiet_libraries() -> Iterator[None]:
    """sentence-transformers deprecates, on every use, the module names that published models have."""
    from spladerunner.export.silence import silenced

    with silenced():
        yield


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_bundle(tmp_path / "bundle")


@pytest.fixture(scope="session")
def expander() -> Expander:
    """The embedded pair."""
    return Expander()

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from spladerunner import Expander
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
    """The embedded document graph with its weights inside."""
    import onnx

    path = tmp_path_factory.mktemp("embedded") / "doc.onnx"
    onnx.save(onnx.load(embedded_folder() / "doc.onnx"), path)
    return path


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

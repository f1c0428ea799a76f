"""The decoder over slices of positions: bit for bit the whole decoder's maximum, on the embedded document graph."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import helper

from spladerunner import CheckpointError, Expander, ModelFilesError
from spladerunner.export.passes import Graph, passes
from spladerunner.export.passes.contract import UnmetError
from spladerunner.export.passes.external_data import ExternalData
from spladerunner.export.passes.slice_decoder import SliceDecoder
from spladerunner.inference.encoder import GraphEncoder
from spladerunner.inference.session import Session
from spladerunner.inference.tokenizer import TokenizedText
from spladerunner.models import embedded_folder
from tests.small_model import change_manifest, records

TEXTS = ["x", "the moon orbits the earth", "a river bank is where the trout are " * 9, "nuclear " * 300]


@pytest.fixture(scope="module")
def sliced(document_graph: Path) -> Path:
    """In slices of 16 positions."""
    result = SliceDecoder(slice_bytes=0)(Graph(document_graph), document_graph.with_name("sliced.onnx"))
    assert result.changed and result.note == "16 positions a slice"
    return result.graph.path


def outputs(graph: Path, lengths: tuple[int, ...]) -> Iterator[NDArray[np.floating]]:
    session, random = Session(graph), np.random.default_rng(0)  # exact products on every processor
    for length in lengths:
        ids = random.integers(5, 20_000, (1, length))
        yield session.run(TokenizedText(ids, np.ones_like(ids), np.zeros_like(ids), length))


def test_the_largest_logits_are_bit_for_bit_those_of_the_whole(document_graph: Path, sliced: Path) -> None:
    lengths = (2, 3, 15, 16, 17, 31, 32, 33, 100, 256)
    for logits, largest in zip(outputs(document_graph, lengths), outputs(sliced, lengths), strict=True):
        assert largest.shape == (1, 1, logits.shape[2])
        assert np.array_equal(largest[0, 0], logits[0].max(axis=0))


def test_a_bundle_with_slices_gives_the_same_vectors(sliced: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(embedded_folder(), tmp_path / "bundle"))
    expected = Expander(folder).encode(TEXTS)
    ExternalData()(Graph(sliced), folder / "doc.onnx")
    names = [each.name for each in sorted(folder.iterdir()) if each.name != "manifest.json"]
    change_manifest(folder, files=records(folder, *names))
    assert Expander(folder).encode(TEXTS) == expected


def test_such_a_graph_cannot_be_summed(sliced: Path) -> None:
    with pytest.raises(ModelFilesError, match="keeps the largest logits alone, which cannot become the pooling 'sum'"):
        GraphEncoder(Session(sliced), Expander().vocabulary, "sum", "log1p_relu")


def test_the_matrix_stays_single(document_graph: Path, sliced: Path) -> None:
    """It is the embedding's too, transposed as the graph is opened."""
    assert sliced.stat().st_size < document_graph.stat().st_size + 10_000


def test_large_logits_alone_are_sliced() -> None:
    def names(positions: int, vocabulary_size: int, pooling: str = "max") -> list[str]:
        found = passes("cpu", positions=positions, vocabulary_size=vocabulary_size, pooling=pooling)
        return [each.name for each in found]

    assert names(8192, 30_522)[-2:] == ["slice decoder", "external data"]
    assert "slice decoder" in names(512, 105_879) and "slice decoder" in names(512, 250_002)
    assert "slice decoder" not in names(512, 30_522) + names(256, 20_480) + names(8192, 30_522, "sum")


def test_what_the_pass_requires_and_ensures(document_graph: Path, sliced: Path, tmp_path: Path) -> None:
    found = SliceDecoder()(Graph(sliced), tmp_path / "again.onnx")
    assert not found.changed and found.note == "not needed: the decoder is rows"
    model = onnx.load(document_graph)
    (decoder,) = (node for node in model.graph.node if "logits" in node.output)
    decoder.op_type = "MatMul"
    onnx.save(model, tmp_path / "other.onnx")
    with pytest.raises(
        CheckpointError, match=r"'slice decoder' requires logits by a DynamicQuantizeMatMul, but MatMul"
    ):
        SliceDecoder()(Graph(tmp_path / "other.onnx"), tmp_path / "again.onnx")
    model = onnx.load(document_graph)
    with pytest.raises(UnmetError, match=r"the largest logits \(1, 1, V\), but the output is logits"):
        SliceDecoder().ensures(model)
    model.graph.node.append(helper.make_node("Identity", ["logits"], ["other"]))
    model.graph.output[0].name = "nothing"
    with pytest.raises(UnmetError, match="an operator that gives the logits, but there is none"):
        SliceDecoder().requires(model)

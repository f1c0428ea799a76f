"""A smaller decoder: what is left has bit for bit the weights of the full one, on the embedded document graph."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from spladerunner import CheckpointError, Expander, ModelFilesError, SparseVector, compare
from spladerunner.export.passes import Graph, passes
from spladerunner.export.passes.external_data import ExternalData
from spladerunner.export.passes.keep_entries import KeepEntries
from spladerunner.export.passes.slice_decoder import SliceDecoder
from spladerunner.inference.session import Session
from spladerunner.inference.tokenizer import TokenizedText
from spladerunner.model.manifest import MANIFEST, GraphRole, Manifest
from spladerunner.models import embedded_folder
from tests.small_model import change_manifest, records, untie

TEXTS = ["x", "the moon orbits the earth", "a river bank is where the trout are " * 9, "nuclear " * 300]
ENTRIES = tuple(sorted({*range(1_000, 20_000, 3), 1_620, 3_013}))  # not the special tokens


@pytest.fixture(scope="module")
def smaller(document_graph: Path) -> Path:
    result = KeepEntries(ENTRIES)(Graph(document_graph), document_graph.with_name("smaller.onnx"))
    assert result.note == f"{len(ENTRIES):,} of 20,480 entries"
    return result.graph.path


@pytest.fixture
def bundle(smaller: Path, tmp_path: Path) -> Path:
    """The embedded pair with a smaller decoder for documents."""
    return bundle_with(smaller, tmp_path / "bundle")


def bundle_with(graph: Path, folder: Path, entries: object = ENTRIES) -> Path:
    shutil.copytree(embedded_folder(), folder)
    ExternalData()(Graph(graph), folder / "doc.onnx")
    (folder / "entries.json").write_text(json.dumps(entries))
    manifest = Manifest.read(folder / MANIFEST)
    assert isinstance(manifest.roles["doc"], GraphRole)
    names = [each.name for each in sorted(folder.iterdir()) if each.name != MANIFEST]
    roles = {**manifest.roles, "doc": replace(manifest.roles["doc"], entries="entries.json")}
    change_manifest(folder, roles=roles, files=records(folder, *names))
    return folder


def logits(graph: Path, length: int) -> NDArray[np.floating]:
    ids = np.random.default_rng(0).integers(5, 20_000, (1, length))  # also of tokens that are not kept
    return Session(graph).run(TokenizedText(ids, np.ones_like(ids), np.zeros_like(ids), length))


@pytest.mark.parametrize("length", [2, 3, 31, 256])
def test_logits_are_bit_for_bit_those_of_the_full_decoder(document_graph: Path, smaller: Path, length: int) -> None:
    found = logits(smaller, length)
    assert found.shape == (1, length, len(ENTRIES))
    assert np.array_equal(found, logits(document_graph, length)[:, :, ENTRIES])


@pytest.mark.parametrize("entries", [(7,), (5, 20_479), tuple(range(1, 20_479)), tuple(range(20_480))])
def test_any_number_of_entries_may_be_kept(document_graph: Path, tmp_path: Path, entries: tuple[int, ...]) -> None:
    result = KeepEntries(entries)(Graph(document_graph), tmp_path / "kept.onnx")
    assert np.array_equal(logits(result.graph.path, 20), logits(document_graph, 20)[:, :, entries])


def test_vectors_have_the_positions_and_weights_of_the_full_model(bundle: Path) -> None:
    kept = np.isin(np.arange(20_480), ENTRIES)
    full = Expander().encode(TEXTS)
    expected = [SparseVector(v.indices[kept[v.indices]], v.values[kept[v.indices]]) for v in full]
    expander = Expander(bundle)
    assert expander.encode(TEXTS) == expected
    assert all(0 < len(some) < len(all_) for some, all_ in zip(expected[1:], full[1:], strict=True))
    assert expander.encode(TEXTS, role="query") == Expander().encode(TEXTS, role="query")
    assert expander.expand(TEXTS) == [expander.vocabulary.weights(vector) for vector in expected]


def test_the_embedding_is_stored_once(document_graph: Path, smaller: Path) -> None:
    """In full, as texts may contain all tokens."""
    assert smaller.stat().st_size < document_graph.stat().st_size + 8 * len(ENTRIES) + 8 * len(ENTRIES) + 2_000


def test_a_smaller_decoder_in_slices(document_graph: Path, smaller: Path, tmp_path: Path) -> None:
    sliced = SliceDecoder(slice_bytes=0)(Graph(smaller), tmp_path / "sliced.onnx")
    largest = logits(sliced.graph.path, 100)
    assert np.array_equal(largest[0, 0], logits(document_graph, 100)[0, :, ENTRIES].max(axis=1))
    folder = bundle_with(sliced.graph.path, tmp_path / "sliced")
    assert Expander(folder).encode(TEXTS) == Expander(bundle_with(smaller, tmp_path / "smaller")).encode(TEXTS)


def test_an_embedding_that_is_not_tied(document_graph: Path, smaller: Path, tmp_path: Path) -> None:
    """Its decoder is a matrix of its own, of which the columns are kept."""
    model = onnx.load(document_graph)
    untie(model.graph)
    onnx.save(model, tmp_path / "apart.onnx")
    result = KeepEntries(ENTRIES)(Graph(tmp_path / "apart.onnx"), tmp_path / "kept.onnx")
    assert np.array_equal(logits(result.graph.path, 20), logits(smaller, 20))


def test_the_pass_is_used_only_when_asked_for() -> None:
    names = [each.name for each in passes("cpu", positions=512, vocabulary_size=105_879, entries=(1, 2, 3))]
    assert names[-3:] == ["keep entries", "decode rows", "external data"]  # slices are not needed any more
    assert "keep entries" not in [each.name for each in passes("cpu", positions=512)]


def test_what_the_pass_requires(document_graph: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="'keep entries' requires logits of more than 20480 entries, but there"):
        KeepEntries((1, 20_480))(Graph(document_graph), tmp_path / "kept.onnx")


@pytest.mark.parametrize("entries", [[], [3, 3], [5, 4], [-1, 2], [1, 20_480], [1.0], [True], {"1": 2}, "1"])
def test_a_file_of_entries_that_is_invalid(smaller: Path, tmp_path: Path, entries: object) -> None:
    expander = Expander(bundle_with(smaller, tmp_path / "bundle", entries))
    with pytest.raises(
        ModelFilesError,
        match=r"entries\.json is not an array of vocabulary entries, ascending integers from 0 to 20479",
    ):
        expander.encode("x")


@pytest.mark.parametrize("count", [10_000, len(ENTRIES) - 1])
def test_another_number_of_entries_than_the_graph_has(smaller: Path, tmp_path: Path, count: int) -> None:
    expander = Expander(bundle_with(smaller, tmp_path / "bundle", [*range(count)]))
    with pytest.raises(ModelFilesError, match=f"weighs {len(ENTRIES)} tokens, but its manifest says {count}"):
        expander.encode("x")


def test_graphs_with_entries_are_compared_by_them(bundle: Path) -> None:
    expander = Expander(bundle)
    assert compare(expander, TEXTS, expander.encode(TEXTS)).agrees
    doubled = [SparseVector(vector.indices, np.expm1(vector.values)) for vector in expander.encode(TEXTS)]
    found = compare(expander, TEXTS, doubled)
    assert found.findings == ("A logarithm is missing: relu(x), not log(1 + relu(x)).",)
    full = compare(expander, TEXTS, Expander().encode(TEXTS))
    assert full.findings[0].startswith("Tokens are not in the model's vocabulary: ")

"""The decoder as rows: bit for bit the maximum of whole logits, on the embedded document graph."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from spladerunner import CheckpointError, Expander
from spladerunner.export.passes import Graph, passes
from spladerunner.export.passes.contract import UnmetError
from spladerunner.export.passes.decode_rows import WIDEST, DecodeRows
from spladerunner.export.passes.keep_entries import KeepEntries
from spladerunner.inference.session import LARGEST_LOGITS, Session
from spladerunner.inference.tokenizer import TokenizedText
from spladerunner.model.manifest import ROLES
from spladerunner.models import embedded_folder
from tests.small_model import untie

LENGTHS = (2, 3, 15, 16, 17, 100, 256)


def output(graph: Path, length: int) -> NDArray[np.floating]:
    ids = np.random.default_rng(length).integers(5, 20_000, (1, length))
    return Session(graph).run(TokenizedText(ids, np.ones_like(ids), np.zeros_like(ids), length))


def change_constant(graph: Path, name: str, value: NDArray[np.generic], target: Path) -> Path:
    model = onnx.load(graph)
    (constant,) = (each for each in model.graph.initializer if each.name == name)
    constant.CopyFrom(numpy_helper.from_array(value, name))
    onnx.save(model, target)
    return target


@pytest.fixture(scope="module")
def rows(document_graph: Path) -> Path:
    result = DecodeRows()(Graph(document_graph), document_graph.with_name("rows.onnx"))
    assert result.changed and not result.note
    return result.graph.path


@pytest.mark.parametrize("length", LENGTHS)
def test_the_largest_logits_are_bit_for_bit_those_of_the_whole(document_graph: Path, rows: Path, length: int) -> None:
    largest, logits = output(rows, length), output(document_graph, length)
    assert largest.shape == (1, 1, logits.shape[2]) and logits.shape[1] == length
    assert np.array_equal(largest[0, 0], logits[0].max(axis=0))


@pytest.mark.parametrize("length", LENGTHS)
def test_where_products_saturate_the_unsigned_ones_are_the_same(rows: Path, length: int, tmp_path: Path) -> None:
    """The number that the product is compared with is another one, as if it had saturated."""
    unsigned = change_constant(rows, "rows_exact", np.array(0, dtype=np.int32), tmp_path / "unsigned.onnx")
    assert np.array_equal(output(unsigned, length), output(rows, length))


@pytest.mark.parametrize(("exact", "branch"), [(8 * 127, "then_branch"), (0, "else_branch")])
def test_the_branch_is_that_of_the_product_that_is_tried(rows: Path, exact: int, branch: str, tmp_path: Path) -> None:
    """A product of ones does not saturate on any processor. A branch with another zero of the rows is wrong."""
    ones = change_constant(rows, "rows_largest_byte", np.ones((8, 8), dtype=np.uint8), tmp_path / "ones.onnx")
    told = change_constant(ones, "rows_exact", np.array(exact, dtype=np.int32), tmp_path / "told.onnx")
    model = onnx.load(told)
    (choice,) = (node for node in model.graph.node if node.op_type == "If")
    model.graph.initializer.append(numpy_helper.from_array(np.array(127, dtype=np.uint8), "wrong"))
    for attribute in choice.attribute:
        for node in attribute.g.node:
            if node.op_type == "MatMulInteger" and attribute.name == branch:
                node.input[2] = "wrong"
    onnx.save(model, tmp_path / "wrong.onnx")
    assert not np.array_equal(output(tmp_path / "wrong.onnx", 20), output(told, 20))


@pytest.mark.parametrize("size", [1, 7, 1000, 20_479, 30_000])
def test_tiles_of_any_size(document_graph: Path, rows: Path, size: int, tmp_path: Path) -> None:
    if size < 1000:  # thousands of tiles take long, so there are fewer entries
        smaller = KeepEntries(tuple(range(0, 20_480, 1024)))(Graph(document_graph), tmp_path / "smaller.onnx")
        expected = output(rows, 20)[:, :, ::1024]
        found = DecodeRows(rows=size)(smaller.graph, tmp_path / "tiles.onnx")
    else:
        expected = output(rows, 20)
        found = DecodeRows(rows=size)(Graph(document_graph), tmp_path / "tiles.onnx")
    assert np.array_equal(output(found.graph.path, 20), expected)


def test_some_entries_of_the_vocabulary(document_graph: Path, rows: Path, tmp_path: Path) -> None:
    entries = tuple(range(3, 20_000, 7))
    kept = KeepEntries(entries)(Graph(document_graph), tmp_path / "kept.onnx")
    found = DecodeRows()(kept.graph, tmp_path / "rows.onnx").graph.path
    assert np.array_equal(output(found, 50), output(rows, 50)[:, :, entries])
    assert found.stat().st_size < rows.stat().st_size + 20 * len(entries), "the matrix is stored once"


def test_a_decoder_that_is_not_tied_and_one_without_bias(document_graph: Path, rows: Path, tmp_path: Path) -> None:
    model = onnx.load(document_graph)
    untie(model.graph)
    onnx.save(model, tmp_path / "apart.onnx")
    found = DecodeRows()(Graph(tmp_path / "apart.onnx"), tmp_path / "rows.onnx")
    assert np.array_equal(output(found.graph.path, 20), output(rows, 20))

    (decoder,) = (node for node in model.graph.node if "logits" in node.output)
    del decoder.input[4:]
    onnx.save(model, tmp_path / "unbiased.onnx")
    found = DecodeRows()(Graph(tmp_path / "unbiased.onnx"), tmp_path / "rows.onnx")
    expected = output(tmp_path / "unbiased.onnx", 20).max(axis=1, keepdims=True)
    assert np.array_equal(output(found.graph.path, 20), expected)


def test_the_matrix_stays_single(document_graph: Path, rows: Path) -> None:
    assert rows.stat().st_size < document_graph.stat().st_size + 30_000


def test_the_embedded_pair_has_rows_and_the_vectors_of_whole_logits(whole_logits: Path) -> None:
    texts = ["x", "the moon orbits the earth", "a river bank is where the trout are " * 9, "nuclear " * 300]
    assert [each.name for each in onnx.load(embedded_folder() / "doc.onnx", load_external_data=False).graph.output] == [
        LARGEST_LOGITS
    ]
    for role in ROLES:
        assert Expander(whole_logits).encode(texts, role=role) == Expander().encode(texts, role=role)


def test_a_wide_decoder_is_left_as_it_is(document_graph: Path, tmp_path: Path) -> None:
    found = DecodeRows(widest=191)(Graph(document_graph), tmp_path / "wide.onnx")
    assert not found.changed and found.note == "left as it is: 192 columns, more than 191"
    assert 192 <= WIDEST < 768


def test_the_pass_runs_where_the_maximum_is_pooled_on_a_cpu() -> None:
    assert DecodeRows() in passes("cpu", positions=512)
    assert DecodeRows() not in passes("cpu", positions=512, pooling="sum") + passes("cuda", positions=512)
    assert DecodeRows() not in passes("cpu", positions=512, head="token")


def test_logits_of_another_operator_are_left_as_they_are(document_graph: Path, tmp_path: Path) -> None:
    model = onnx.load(document_graph)
    (decoder,) = (node for node in model.graph.node if "logits" in node.output)
    decoder.output[0] = "before"
    model.graph.node.append(helper.make_node("Identity", ["before"], ["logits"]))
    onnx.save(model, tmp_path / "other.onnx")
    found = DecodeRows()(Graph(tmp_path / "other.onnx"), tmp_path / "after.onnx")
    assert not found.changed and found.note.startswith("left as it is: logits by a DynamicQuantizeMatMul, but Identity")
    assert np.array_equal(output(found.graph.path, 20), output(document_graph, 20))


def test_what_the_pass_requires_and_ensures(document_graph: Path, tmp_path: Path) -> None:
    model = onnx.load(document_graph)
    with pytest.raises(UnmetError, match="the output largest_logits, but it is logits"):
        DecodeRows().ensures(model)
    del model.graph.output[0].type.tensor_type.shape.dim[2:]
    onnx.save(model, tmp_path / "flat.onnx")
    with pytest.raises(CheckpointError, match=r"'decode rows' requires input_ids and logits \(B, L, V\)"):
        DecodeRows()(Graph(tmp_path / "flat.onnx"), tmp_path / "after.onnx")

"""The few fields of ONNX that are read, against the package onnx."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from spladerunner.model.onnx_file import ExternalTensor, external_tensors, output_rank
from spladerunner.models import embedded_folder
from tests.small_model import SmallGraph, move_weights


def by_onnx(path: Path) -> list[ExternalTensor]:
    found = []
    for tensor in onnx.load(path, load_external_data=False).graph.initializer:
        entries = {entry.key: entry.value for entry in tensor.external_data}
        if entries:
            kind = np.dtype(helper.tensor_dtype_to_np_dtype(tensor.data_type)).name
            offset = int(entries.get("offset", 0))
            found.append(ExternalTensor(tensor.name, entries["location"], offset, kind, tuple(tensor.dims)))
    return found


@pytest.mark.parametrize("name", ["doc.onnx", "query.onnx"])
def test_the_external_tensors_of_the_embedded_pair(name: str) -> None:
    path = embedded_folder() / name
    expected = by_onnx(path)
    assert len(expected) > 10
    assert sorted(external_tensors(path.read_bytes())) == sorted(expected)
    assert output_rank(path.read_bytes()) == 3


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = SmallGraph(vocabulary_size=20).save(tmp_path_factory.mktemp("graph") / "model.onnx")
    move_weights(path)
    assert sorted(external_tensors(path.read_bytes())) == sorted(by_onnx(path)) != []
    return path.read_bytes()


def test_a_graph_without_external_data_has_none(tmp_path: Path) -> None:
    path = SmallGraph().save(tmp_path / "location.onnx", pools_inside=True)
    assert external_tensors(path.read_bytes()) == []
    assert output_rank(path.read_bytes()) == 2


def test_a_graph_cut_anywhere_is_an_error_or_has_fewer_tensors(graph: bytes) -> None:
    whole = set(external_tensors(graph))
    for end in range(len(graph)):
        try:
            assert set(external_tensors(graph[:end])) <= whole
        except ValueError:
            continue


@pytest.mark.parametrize(
    ("damaged", "message"),
    [
        (b"\x3a\x05abc", "a field of 5 bytes has only 3"),  # field 7, the graph, of 5 bytes
        (b"\x3a\x00\x0b", "byte 2 starts a field of kind 3"),
        (b"\x3a\x00\x3d\x00\x00", "a field of 4 bytes has only 2"),
        (b"\x3a\x00\x39\x00\x00", "a field of 8 bytes has only 2"),
    ],
)
def test_what_is_wrong_with_a_message_is_said(damaged: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        external_tensors(damaged)


def test_numbers_of_four_and_eight_bytes_are_passed_over() -> None:
    """alpha is one of four bytes, in a message that is read, as it holds the name of a location."""
    assert external_tensors(
        made(external(location="x"), nodes=(helper.make_node("Elu", ["w"], ["location"], alpha=0.5),))
    )
    assert external_tensors(b"\x39" + bytes(8) + b"\x3d" + bytes(4)) == []


@pytest.mark.slow
@given(data=st.data())
@settings(deadline=None, max_examples=300)
def test_changed_bytes_are_an_error_or_another_graph(graph: bytes, data: st.DataObject) -> None:
    changed = bytearray(graph)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(graph) - 1))
        changed[at : at + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=3))
    for read in (external_tensors, output_rank):
        try:
            read(bytes(changed))
        except ValueError:
            continue


def made(*initializers: TensorProto, nodes: tuple[onnx.NodeProto, ...] = ()) -> bytes:
    found: bytes = helper.make_model(helper.make_graph([*nodes], "g", [], [], [*initializers])).SerializeToString()
    return found


def external(name: str = "w", **entries: str) -> TensorProto:
    tensor = numpy_helper.from_array(np.ones((2, 3), dtype=np.float32), name)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in entries.items():
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value
    return tensor


def test_offset_and_length_are_read() -> None:
    assert external_tensors(made(external(location="x", offset="12", length="24"))) == [
        ExternalTensor("w", "x", 12, "float32", (2, 3))
    ]


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"location": "x", "length": "25"}, "takes 24 bytes, but is said to have 25"),
        ({"location": "x", "length": "-1"}, "'-1' is not a number of bytes"),
        ({"location": "x", "offset": "9" * 30}, "is not a number of bytes"),
        ({"location": "x", "offset": "0x10"}, "is not a number of bytes"),
    ],
)
def test_what_an_external_tensor_says_is_checked(entries: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        external_tensors(made(external(**entries)))


def test_a_tensor_with_two_locations_is_refused() -> None:
    tensor = external(location="inside")
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "../outside"
    with pytest.raises(ValueError, match="two entries 'location'"):
        external_tensors(made(tensor))


def test_a_type_that_numpy_lacks_is_refused() -> None:
    tensor = external(location="x")
    tensor.data_type = TensorProto.BFLOAT16
    with pytest.raises(ValueError, match="type 16, which is not supported"):
        external_tensors(made(tensor))


def hidden_places() -> dict[str, bytes]:
    """An external tensor in every place of a graph where ONNX allows a tensor."""
    inner = helper.make_graph([], "inner", [], [], [external(location="x")])
    sparse = helper.make_sparse_tensor(external(location="x"), numpy_helper.from_array(np.array([1]), "i"), [6])
    model = helper.make_model(helper.make_graph([], "g", [], []))
    node = helper.make_node("Constant", [], ["c"], value=external(location="x"))
    model.functions.append(helper.make_function("d", "f", [], ["c"], [node], [helper.make_opsetid("", 18)]))
    in_sparse = helper.make_model(helper.make_graph([], "g", [], []))
    in_sparse.graph.sparse_initializer.append(sparse)
    return {
        "attribute": made(nodes=(node,)),
        "attributes": made(nodes=(helper.make_node("C", [], ["c"], value=[external(location="x")]),)),
        "graph": made(nodes=(helper.make_node("If", [], ["c"], then_branch=inner),)),
        "graphs": made(nodes=(helper.make_node("If", [], ["c"], branches=[inner]),)),
        "sparse": in_sparse.SerializeToString(),
        "function": model.SerializeToString(),
    }


@pytest.mark.parametrize("place", sorted(hidden_places()))
def test_an_external_tensor_in_another_place_is_refused(place: str) -> None:
    with pytest.raises(ValueError, match="is not an initializer of the main graph"):
        external_tensors(hidden_places()[place])


def test_graphs_within_graphs_do_not_exhaust_the_stack() -> None:
    tensor = external(location="x").SerializeToString()
    message = _field(5, tensor)
    for _ in range(2000):
        message = _field(1, _field(5, _field(6, message)))
    with pytest.raises(ValueError, match="is not an initializer of the main graph"):
        external_tensors(_field(7, message))


def _field(number: int, content: bytes) -> bytes:
    """A field of bytes, as Protocol Buffers writes it."""
    size, length = len(content), b""
    while size >= 0x80:
        length += bytes([size & 0x7F | 0x80])
        size >>= 7
    return bytes([number << 3 | 2]) + length + bytes([size]) + content

"""Feed-forward blocks in parts: the same logits, from narrower values."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from spladerunner import CheckpointError
from spladerunner.export.passes import Graph, passes
from spladerunner.export.passes.quantize import Quantize
from spladerunner.export.passes.split_feed_forward import SplitFeedForward

VOCABULARY, HIDDEN, WIDTH = 11, 4, 10
"""WIDTH is no multiple of the 3 parts."""

GELU = [
    ("Div", ["wide", "root"], "scaled"),
    ("Erf", ["scaled"], "erf"),
    ("Add", ["erf", "one"], "above"),
    ("Mul", ["wide", "above"], "doubled"),
    ("Mul", ["doubled", "half"], "activated"),
]

PLAIN = [
    ("MatMul", ["hidden", "widen"], "product"),
    ("Add", ["widen_bias", "product"], "wide"),
    *GELU,
    ("MatMul", ["activated", "narrow"], "narrowed"),
]
GATED = [
    ("MatMul", ["hidden", "widen"], "wide"),
    *GELU,
    ("MatMul", ["hidden", "gate"], "gated"),
    ("Mul", ["activated", "gated"], "product"),
    ("MatMul", ["product", "narrow"], "narrowed"),
]
LAST = [
    ("Add", ["narrowed", "narrow_bias"], "biased"),
    ("Add", ["biased", "hidden"], "state"),
    ("MatMul", ["state", "decoder"], "logits"),
]


def save(path: Path, block: list[tuple[str, list[str], str]]) -> Graph:
    random = np.random.default_rng(0)
    shapes = {
        **{"embedding": (VOCABULARY, HIDDEN), "decoder": (HIDDEN, VOCABULARY)},
        **{"widen": (HIDDEN, WIDTH), "gate": (HIDDEN, WIDTH), "widen_bias": (WIDTH,)},
        **{"narrow": (WIDTH, HIDDEN), "narrow_bias": (HIDDEN,)},
    }
    constants = {name: random.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    constants |= {name: np.float32(value) for name, value in {"root": 2**0.5, "one": 1, "half": 0.5}.items()}
    steps = [("Gather", ["embedding", "input_ids"], "hidden"), *block, *LAST]
    nodes = [helper.make_node(kind, inputs, [output], name=output) for kind, inputs, output in steps]
    used = {name for node in nodes for name in node.input}
    graph = helper.make_graph(
        nodes,
        "feed forward",
        [helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["B", "L"])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["B", "L", VOCABULARY])],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items() if name in used],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    return Graph(path)


def logits(graph: Path) -> np.ndarray:
    session = onnxruntime.InferenceSession(str(graph), providers=["CPUExecutionProvider"])
    found: np.ndarray = session.run(None, {"input_ids": np.arange(22).reshape(2, 11) % VOCABULARY})[0]
    return found


def widths(graph: Path) -> list[int]:
    """Columns of the matrices of products, but for the decoder's."""
    model = onnx.load(graph).graph
    columns = {constant.name: constant.dims[-1] for constant in model.initializer if constant.dims}
    return sorted(columns[node.input[1]] for node in model.node if node.op_type == "MatMul")[:-1]


@pytest.mark.parametrize(("block", "widening"), [(PLAIN, 1), (GATED, 2)])
def test_the_parts_of_a_block_give_its_logits(
    tmp_path: Path, block: list[tuple[str, list[str], str]], widening: int
) -> None:
    before = save(tmp_path / "before.onnx", block)
    after = SplitFeedForward(positions=100, most_bytes=1400)(before, tmp_path / "after.onnx")
    assert after.changed and after.note == "3 parts"
    np.testing.assert_allclose(logits(after.graph.path), logits(before.path), rtol=1e-4, atol=1e-5)
    assert widths(after.graph.path) == sorted([HIDDEN] * 3 + [3, 3, 4] * widening)
    weights = [sum(c.dims[0] * c.dims[-1] for c in Graph(each).model.graph.initializer if len(c.dims) == 2)
               for each in (before.path, after.graph.path)]  # fmt: skip
    assert weights[0] == weights[1]


def test_blocks_may_share_their_constants(tmp_path: Path) -> None:
    """onnxruntime makes one of constants that are equal, such as the biases of a new model."""
    names = {output for _, _, output in PLAIN} | {"hidden"}
    second = [
        (kind, [f"{name}_2" if name in names - {"hidden"} else name for name in inputs], f"{output}_2")
        for kind, inputs, output in PLAIN
    ]
    second[0] = ("MatMul", ["narrowed", "widen"], "product_2")
    block = [*PLAIN, *second[:-1], ("MatMul", ["activated_2", "narrow"], "narrowed_2")]
    last = [
        (kind, ["narrowed_2" if name == "narrowed" else name for name in inputs], out) for kind, inputs, out in LAST
    ]
    with pytest.MonkeyPatch.context() as patched:
        patched.setitem(globals(), "LAST", last)
        before = save(tmp_path / "before.onnx", block)
    after = SplitFeedForward(positions=100, most_bytes=1400)(before, tmp_path / "after.onnx")
    assert after.note == "3 parts"
    np.testing.assert_allclose(logits(after.graph.path), logits(before.path), rtol=1e-3, atol=1e-4)


def test_a_model_of_short_texts_is_left_unchanged(tmp_path: Path) -> None:
    before = save(tmp_path / "before.onnx", GATED)
    after = SplitFeedForward(positions=100, most_bytes=4000)(before, tmp_path / "after.onnx")
    assert not after.changed and after.note == "no block is wide"
    names = [[each.name for each in passes("cpu", positions=positions)] for positions in (2048, 2049)]
    assert [list_.count("split feed-forward") for list_ in names] == [0, 1]


@pytest.mark.parametrize(
    "last",
    [
        [("MatMul", ["activated", "narrow"], "narrowed"), ("Softmax", ["activated"], "unused")],
        [("Softmax", ["activated"], "shares"), ("MatMul", ["shares", "narrow"], "narrowed")],
        [("LayerNormalization", ["activated", "widen_bias"], "shares"), ("MatMul", ["shares", "narrow"], "narrowed")],
    ],
)
def test_what_depends_on_all_columns_is_not_split(tmp_path: Path, last: list[tuple[str, list[str], str]]) -> None:
    block = [*PLAIN[:-1], *last]
    before = save(tmp_path / "before.onnx", block)
    if last[-1][2] == "unused":
        before.model.graph.output.append(helper.make_tensor_value_info("unused", TensorProto.FLOAT, ["B", "L", WIDTH]))
        onnx.save(before.model, before.path)
    after = SplitFeedForward(positions=100, most_bytes=1400)(Graph(before.path), tmp_path / "after.onnx")
    assert not after.changed and np.array_equal(logits(after.graph.path), logits(before.path))


def test_it_comes_before_int8(tmp_path: Path) -> None:
    quantized = Quantize()(save(tmp_path / "before.onnx", GATED), tmp_path / "quantized.onnx")
    with pytest.raises(CheckpointError, match=r"'split feed-forward' requires float32 weights, but \S+ is U?INT8"):
        SplitFeedForward(positions=8192)(quantized.graph, tmp_path / "after.onnx")

"""Candidates for a faster graph, each measured alone against the graph before its decoder becomes rows.

    python -m benchmarks.lab.levers SHARED FOLDER

Milliseconds to run a text on one thread and pool it, at three lengths, all graphs in turn, nine rounds.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnxruntime import InferenceSession

from benchmarks.harness import (
    LAB_RESULTS,
    argument_parser,
    in_rounds,
    machine,
    markdown_table,
    save_result,
    seconds,
)
from benchmarks.lab.sessions import open_session, run
from benchmarks.lab.variants import build_masked
from benchmarks.workload import MAX_LENGTH, models_of, prepare, read_texts
from spladerunner.export.passes import Graph
from spladerunner.export.passes.decode_rows import DecodeRows
from spladerunner.inference.pooling import max_pool
from spladerunner.inference.tokenizer import TokenizedText, Tokenizer

SHAPES = ("bert-base", "bert-tiny", "tiny-en")
LENGTHS = (32, 128, 256)
ROUNDS = 9
TILE = 2048
WIDEST_TRIED = 1024
BASE = "as exported, decoder in one product"
ROWS = "decoder as rows, in tiles"
VARIANTS = (
    BASE,
    "products told to be exact everywhere",
    "sums fused with layer normalization",
    "attention in separate operators, with its mask",
    "embedding looked up in the decoder's columns",
    "not optimized at export",
    "pooling inside",
    "pooling inside, scale and bias after it",
    f"the same, vocabulary in tiles of {TILE}",
    ROWS,
)

Result = tuple[Mapping[str, Mapping[str, Sequence[float]]], Mapping[str, float], Mapping[str, float]]
"""Seconds by variant and length, differences and seconds to open by variant."""


def embed_from_columns(graph: onnx.GraphProto) -> None:
    """Looks the embedding up in columns of the decoder's matrix, instead of rows transposed once at the start."""
    (transpose,) = (node for node in graph.node if node.op_type == "Transpose")
    rows, columns = transpose.input[0], transpose.output[0]
    (matrix,) = (constant for constant in graph.initializer if constant.name == rows)
    (lookup,) = (node for node in graph.node if node.op_type == "Gather" and node.input[0] == rows)
    graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(numpy_helper.to_array(matrix).T), columns))
    graph.initializer.remove(matrix)
    graph.node.remove(transpose)
    at = list(graph.node).index(lookup)
    graph.node.remove(lookup)
    graph.node.insert(at, helper.make_node("Transpose", ["looked_up"], list(lookup.output), perm=[1, 2, 0]))
    graph.node.insert(at, helper.make_node("Gather", [columns, "input_ids"], ["looked_up"], axis=1))


def pool_logits(graph: onnx.GraphProto) -> None:
    """Appends the maximum over the logits."""
    _append_pooling(graph, [helper.make_node("ReduceMax", ["logits", "pool_axes"], ["pooled"], keepdims=0)])


def pool_integers(graph: onnx.GraphProto, tile: int | None = None) -> None:
    """Pools the integers of the decoder's product before scale and bias, which are the same for all tokens.

    tile: columns of the vocabulary in each product, None for one product.
    """
    (decoder,) = (node for node in graph.node if "logits" in node.output)
    given, matrix, scale, _, bias = decoder.input
    (transpose,) = (node for node in graph.node if matrix in node.output)
    (rows,) = (constant for constant in graph.initializer if constant.name == transpose.input[0])
    columns = np.ascontiguousarray(numpy_helper.to_array(rows).T)
    graph.node.remove(decoder)
    graph.node.remove(transpose)
    nodes = [helper.make_node("DynamicQuantizeLinear", [given], ["p_given", "p_step", "p_zero"])]
    parts = []
    width = tile or columns.shape[1]
    for start in range(0, columns.shape[1], width):
        name = f"p_{start}"
        graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(columns[:, start : start + width]), name))
        nodes.append(helper.make_node("MatMulInteger", ["p_given", name, "p_zero"], [f"{name}_product"]))
        nodes.append(helper.make_node("ReduceMax", [f"{name}_product", "pool_axes"], [f"{name}_largest"], keepdims=0))
        parts.append(f"{name}_largest")
    nodes += [
        helper.make_node("Concat", parts, ["p_largest"], axis=1),
        helper.make_node("Cast", ["p_largest"], ["p_floats"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["p_step", scale], ["p_scale"]),
        helper.make_node("Mul", ["p_floats", "p_scale"], ["p_scaled"]),
        helper.make_node("Add", ["p_scaled", bias], ["pooled"]),
    ]
    _append_pooling(graph, nodes)


def _append_pooling(graph: onnx.GraphProto, nodes: Sequence[onnx.NodeProto]) -> None:
    """Appends nodes that compute `pooled`, and makes it the output."""
    graph.node.extend(nodes)
    graph.initializer.append(numpy_helper.from_array(np.array([1]), "pool_axes"))
    vocabulary = graph.output[0].type.tensor_type.shape.dim[2].dim_value
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info("pooled", TensorProto.FLOAT, ["batch", vocabulary]))


def edit(graph: Path, edited: Path, change: Callable[[onnx.GraphProto], None]) -> Path:
    """Writes a changed copy of a graph."""
    model = onnx.load(graph)
    change(model.graph)
    onnx.save(model, edited)
    return edited


def random_text(length: int) -> TokenizedText:
    """Text of random tokens."""
    ids = np.random.default_rng(length).integers(1000, 20000, (1, length))
    return TokenizedText(ids, np.ones_like(ids), np.zeros_like(ids), content_tokens=length)


def pool(session: InferenceSession, text: TokenizedText) -> NDArray[np.float32]:
    """Largest logits (1, V)."""
    output = run(session, text)
    return output if output.ndim == 2 else max_pool(output, text.mask)


def open_variants(models: Path, scratch: Path) -> tuple[dict[str, InferenceSession], dict[str, float]]:
    """Session of each variant, and the seconds to open it."""
    scratch.mkdir(parents=True, exist_ok=True)
    base = models / "passes" / "tie-embedding.onnx"
    apart = build_masked(models, scratch / "attention-apart")
    opens: list[Callable[[], InferenceSession]] = [
        partial(open_session, base),
        partial(open_session, base, exact=True),
        partial(open_session, base, disabled=()),
        partial(open_session, apart),
        partial(open_session, edit(base, scratch / "columns.onnx", embed_from_columns)),
        partial(open_session, models / "passes" / "quantize.onnx"),
        partial(open_session, edit(base, scratch / "inside.onnx", pool_logits)),
        partial(open_session, edit(base, scratch / "late.onnx", pool_integers)),
        partial(open_session, edit(base, scratch / "tiles.onnx", partial(pool_integers, tile=TILE))),
        partial(open_session, DecodeRows(widest=WIDEST_TRIED)(Graph(base), scratch / "rows.onnx").graph.path),
    ]
    sessions, opening = {}, {}
    for name, open_one in zip(VARIANTS, opens, strict=True):
        started = time.perf_counter()
        sessions[name] = open_one()
        opening[name] = time.perf_counter() - started
    return sessions, opening


def measure(models: Path, scratch: Path) -> Result:
    """Seconds by variant and length, largest differences of a logit from the first, and seconds to open."""
    sessions, opening = open_variants(models, scratch)
    found: dict[str, dict[str, Sequence[float]]] = {name: {} for name in VARIANTS}
    differences = dict.fromkeys(VARIANTS, 0.0)
    for length in LENGTHS:
        text = random_text(length)
        expected = np.maximum(pool(sessions[BASE], text), 0)
        for name, session in sessions.items():
            difference = float(np.abs(np.maximum(pool(session, text), 0) - expected).max())
            differences[name] = max(differences[name], difference)
        calls = {name: partial(seconds, partial(pool, session, text)) for name, session in sessions.items()}
        for name, times in in_rounds(calls, ROUNDS).items():
            found[name][str(length)] = times
    return found, differences, opening


def report(shape: str, result: Result) -> str:
    """Medians of one shape in milliseconds, and the speed relative to the first."""
    found, differences, opening = result
    rows = []
    for name in VARIANTS:
        cells = []
        for length in map(str, LENGTHS):
            own = median(found[name][length])
            cells.append(f"{own * 1e3:.2f} ({median(found[BASE][length]) / own:.2f})")
        rows.append([name, *cells, f"{differences[name]:.2g}", f"{opening[name] * 1e3:.0f}"])
    head = [f"{shape}, ms (speed relative to the first row)", *(f"{n} tokens" for n in LENGTHS)]
    return markdown_table([*head, "largest difference of a logit", "ms to open"], rows)


def skippable_tiles(models: Path, texts: Sequence[str], tile: int = 512) -> float:
    """Share of the vocabulary's tiles that the Cauchy-Schwarz bound proves to have no positive logit in a text."""
    model = onnx.load(models / "passes" / "optimize.onnx")
    producer = {output: node for node in model.graph.node for output in node.output}
    constants = {constant.name: numpy_helper.to_array(constant) for constant in model.graph.initializer}
    add = producer["logits"]
    bias = next(constants[value] for value in add.input if value in constants)
    product = next(producer[value] for value in add.input if value in producer)
    norms = np.linalg.norm(constants[product.input[1]], axis=0)
    del model.graph.output[:]
    model.graph.output.append(helper.make_tensor_value_info(product.input[0], TensorProto.FLOAT, None))
    session = open_session(model.SerializeToString())
    tokenizer = Tokenizer(models / "bundle" / "tokenizer.json")
    skipped = []
    for text in texts:
        (states,) = run(session, tokenizer.encode(text, MAX_LENGTH))
        bounds = np.linalg.norm(states, axis=1).max() * norms + bias
        skipped.append(np.mean([bounds[start : start + tile].max() <= 0 for start in range(0, len(bounds), tile)]))
    return float(np.mean(skipped))


def main() -> None:
    """Measures, saves the results and prints the tables."""
    arguments = argument_parser(__doc__).parse_args()
    shared, folder = arguments.shared, arguments.folder
    prepare(shared, folder, SHAPES)
    print(f"{machine()}\n")
    for shape in SHAPES:
        result = measure(models_of(folder, shape), folder / "levers" / shape)
        save_result(f"levers {shape}", result, LAB_RESULTS)
        print(f"{report(shape, result)}\n")
    skippable = skippable_tiles(models_of(folder, "tiny-en"), read_texts(folder)["mixed"])
    save_result("tiles that a lower bound skips", skippable, LAB_RESULTS)
    print(f"Tiles of 512 that the bound |state| × |row| + bias proves to be empty, trained model: {skippable:.1%}")


if __name__ == "__main__":
    main()

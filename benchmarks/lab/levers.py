"""What could make a graph faster, each alone against the graph as it is exported.

    python -m benchmarks.lab.levers SHARED FOLDER

Milliseconds to run a text on one thread and to pool it, for three lengths, every graph in turn, nine rounds.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from benchmarks.materials import make, make_texts
from benchmarks.measure import in_turn, keep, machine, median, table
from spladerunner.export.passes.optimize import fuse
from spladerunner.export.passes.quantize import quantize
from spladerunner.export.passes.tie_embedding import quantize_embedding
from spladerunner.inference.pooling import max_pool
from spladerunner.inference.session import SLOWER_FUSIONS
from spladerunner.inference.tokenizer import Tokenizer

LENGTHS = (32, 128, 256)
ROUNDS = 9
TILE = 2048


def opened(
    graph: Path, *, exact_everywhere: bool = False, disabled: tuple[str, ...] = SLOWER_FUSIONS
) -> tuple[onnxruntime.InferenceSession, float]:
    """A session of one thread, and the seconds it took to open."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.enable_mem_pattern = False
    options.log_severity_level = 4
    if exact_everywhere:
        options.add_session_config_entry("session.x64quantprecision", "1")
    started = time.perf_counter()
    session = onnxruntime.InferenceSession(
        str(graph), options, providers=["CPUExecutionProvider"], disabled_optimizers=list(disabled)
    )
    return session, time.perf_counter() - started


def in_columns(graph: onnx.GraphProto) -> None:
    """The embedding looked up as columns of the decoder's matrix, in place of rows that are transposed once."""
    (transpose,) = (node for node in graph.node if node.op_type == "Transpose")
    rows, columns = transpose.input[0], transpose.output[0]
    (table_of_rows,) = (constant for constant in graph.initializer if constant.name == rows)
    (lookup,) = (node for node in graph.node if node.op_type == "Gather" and node.input[0] == rows)
    graph.initializer.append(
        numpy_helper.from_array(np.ascontiguousarray(numpy_helper.to_array(table_of_rows).T), columns)
    )
    graph.initializer.remove(table_of_rows)
    graph.node.remove(transpose)
    at = list(graph.node).index(lookup)
    graph.node.remove(lookup)
    graph.node.insert(at, helper.make_node("Transpose", ["looked_up"], list(lookup.output), perm=[1, 2, 0]))
    graph.node.insert(at, helper.make_node("Gather", [columns, "input_ids"], ["looked_up"], axis=1))


def pooled_inside(graph: onnx.GraphProto) -> None:
    """The maximum over the logits, as the graph's last operator."""
    _give(graph, [helper.make_node("ReduceMax", ["logits", "pool_axes"], ["pooled"], keepdims=0)])


def pooled_before_scale_and_bias(graph: onnx.GraphProto, tile: int | None = None) -> None:
    """The maximum over the integers of the product; scale and bias, which are the same for all tokens, after it."""
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
    _give(graph, nodes)


def _give(graph: onnx.GraphProto, nodes: list[onnx.NodeProto]) -> None:
    graph.node.extend(nodes)
    graph.initializer.append(numpy_helper.from_array(np.array([1]), "pool_axes"))
    vocabulary = graph.output[0].type.tensor_type.shape.dim[2].dim_value
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info("pooled", TensorProto.FLOAT, ["batch", vocabulary]))


def changed(graph: Path, to: Path, change: Callable[[onnx.GraphProto], None]) -> Path:
    """A graph with a change."""
    model = onnx.load(graph)
    change(model.graph)
    onnx.save(model, to)
    return to


def feeds(session: onnxruntime.InferenceSession, length: int) -> dict[str, NDArray[np.int64]]:
    """A text of so many tokens."""
    ids = np.random.default_rng(length).integers(1000, 20000, (1, length))
    values = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
    return {given.name: values[given.name] for given in session.get_inputs()}


def pooled(session: onnxruntime.InferenceSession, length: int) -> NDArray[np.float32]:
    """The largest logits, (1, V)."""
    (output,) = session.run(None, feeds(session, length))
    return output if output.ndim == 2 else max_pool(output, np.ones((1, length), dtype=np.int64))


def measure(
    folder: Path, scratch: Path
) -> tuple[dict[str, dict[int, list[float]]], dict[str, float], dict[str, float]]:
    """Seconds by graph and length, the largest difference from the exported graph, and seconds to open."""
    scratch.mkdir(exist_ok=True)
    exported, steps = folder / "bundle" / "doc.onnx", folder / "steps"
    quantize(steps / "optimized.onnx", scratch / "quantized.onnx")
    quantize_embedding(fuse(scratch / "quantized.onnx", scratch / "fused.onnx"), scratch / "apart.onnx")
    ways = {
        "as exported": opened(exported),
        "products told to be exact everywhere": opened(exported, exact_everywhere=True),
        "sums fused with layer normalization": opened(exported, disabled=()),
        "attention in separate operators, with its mask": opened(scratch / "apart.onnx"),
        "embedding looked up in the decoder's columns": opened(changed(exported, scratch / "columns.onnx", in_columns)),
        "not optimized at export": opened(steps / "quantized.onnx"),
        "pooling inside": opened(changed(exported, scratch / "inside.onnx", pooled_inside)),
        "pooling inside, scale and bias after it": opened(
            changed(exported, scratch / "late.onnx", pooled_before_scale_and_bias)
        ),
        f"the same, vocabulary in tiles of {TILE}": opened(
            changed(exported, scratch / "tiles.onnx", lambda graph: pooled_before_scale_and_bias(graph, TILE))
        ),
    }
    found: dict[str, dict[int, list[float]]] = {name: {} for name in ways}
    differences: dict[str, float] = dict.fromkeys(ways, 0.0)

    def timed(session: onnxruntime.InferenceSession, length: int) -> Callable[[], float]:
        def once() -> float:
            started = time.perf_counter()
            pooled(session, length)
            return time.perf_counter() - started

        return once

    for length in LENGTHS:
        expected = np.maximum(pooled(ways["as exported"][0], length), 0)
        for name, (session, _) in ways.items():
            difference = float(np.abs(np.maximum(pooled(session, length), 0) - expected).max())
            differences[name] = max(differences[name], difference)
        times = in_turn({name: timed(session, length) for name, (session, _) in ways.items()}, ROUNDS)
        for name, seconds in times.items():
            found[name][length] = seconds
    return found, differences, {name: seconds for name, (_, seconds) in ways.items()}


def skippable_tiles(folder: Path, texts: list[str], tile: int = 512) -> float:
    """The part of the vocabulary's tiles that the Cauchy-Schwarz bound shows to hold no positive logit of a text."""
    model = onnx.load(folder / "steps" / "optimized.onnx")
    made = {output: node for node in model.graph.node for output in node.output}
    constants = {constant.name: numpy_helper.to_array(constant) for constant in model.graph.initializer}
    add = made["logits"]
    bias = next(constants[value] for value in add.input if value in constants)
    product = next(made[value] for value in add.input if value in made)
    norms = np.linalg.norm(constants[product.input[1]], axis=0)
    del model.graph.output[:]
    model.graph.output.append(helper.make_tensor_value_info(product.input[0], TensorProto.FLOAT, None))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    tokenizer = Tokenizer(folder / "bundle" / "tokenizer.json")
    skipped = []
    for text in texts:
        batch = tokenizer.encode(text, 256)
        values = {"input_ids": batch.ids, "attention_mask": batch.mask, "token_type_ids": batch.type_ids}
        (states,) = session.run(None, {given.name: values[given.name] for given in session.get_inputs()})
        bounds = np.linalg.norm(states[0], axis=1).max() * norms + bias
        tiles = [bounds[start : start + tile].max() <= 0 for start in range(0, len(bounds), tile)]
        skipped.append(np.mean(tiles))
    return float(np.mean(skipped))


def print_shape(
    shape: str,
    found: Mapping[str, Mapping[int, list[float]]],
    differences: Mapping[str, float],
    opening: Mapping[str, float],
) -> None:
    """The table of one shape."""
    rows = []
    for name, by_length in found.items():
        cells = []
        for length, seconds in by_length.items():
            ratio = median(found["as exported"][length]) / median(seconds)
            cells.append(f"{median(seconds) * 1e3:.2f} ({ratio:.2f})")
        rows.append([name, *cells, f"{differences[name]:.2g}", f"{opening[name] * 1e3:.0f}"])
    head = [f"{shape}, ms (speed, of the exported graph's)", *(f"{n} tokens" for n in LENGTHS)]
    print(table([*head, "largest difference of a logit", "ms to open"], rows), "\n")


def main() -> None:
    """Measures, keeps and prints."""
    shared, folder = Path(sys.argv[1]), Path(sys.argv[2]).resolve()
    make(shared, folder)
    print(machine(), "\n")
    for shape in ("bert-base", "tiny-en"):
        result = measure(folder / f"{shape}-made", folder / f"{shape}-levers")
        keep(f"levers {shape}", result)
        print_shape(shape, *result)
    texts = make_texts(shared, folder)["mixed"]
    skippable = skippable_tiles(folder / "tiny-en-made", texts)
    keep("tiles that a lower bound skips", skippable)
    print(f"Tiles of 512 that the bound |state| × |row| + bias shows to be empty, trained model: {skippable:.1%}")


if __name__ == "__main__":
    main()

"""What it costs that a text's vector does not depend on its neighbours.

    python -m benchmarks.lab.invariance SHARED FOLDER

Runs the embedded document graph over SciFact abstracts of mixed lengths in each way of putting texts together, in
turn, five rounds. Prints documents a second and by how much weights differ from those of the text run alone.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from benchmarks.materials import make, make_texts
from benchmarks.measure import keep, machine, median, spread, table
from spladerunner.export.passes.optimize import fuse
from spladerunner.export.passes.quantize import quantize
from spladerunner.export.passes.tie_embedding import quantize_embedding
from spladerunner.inference.cpu_count import available_cores
from spladerunner.inference.pooling import max_pool
from spladerunner.inference.tokenizer import TokenizedText, Tokenizer
from spladerunner.model.registry import embedded_folder

ROUNDS = 5
TEXTS = 200
MAX_LENGTH = 256

Weights = NDArray[np.float32]


def open_session(graph: Path, threads: int) -> onnxruntime.InferenceSession:
    """A session with `threads` threads for each run, otherwise as spladerunner opens it."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.enable_mem_pattern = False
    return onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])


def run(session: onnxruntime.InferenceSession, batch: TokenizedText) -> Weights:
    """(B, V) weights."""
    values = {"input_ids": batch.ids, "attention_mask": batch.mask, "token_type_ids": batch.type_ids}
    feeds = {given.name: values[given.name] for given in session.get_inputs()}
    return np.log1p(np.maximum(max_pool(session.run(None, feeds)[0], batch.mask), 0))


def one_text_a_run(
    session: onnxruntime.InferenceSession, batches: Sequence[TokenizedText], workers: int
) -> list[Weights]:
    """Each text alone, several side by side."""
    with ThreadPoolExecutor(workers) as executor:
        return [weights[0] for weights in executor.map(lambda batch: run(session, batch), batches)]


def padded(session: onnxruntime.InferenceSession, batches: Sequence[TokenizedText], size: int) -> list[Weights]:
    """Batches of `size` texts of similar length, padded to the longest."""
    order = sorted(range(len(batches)), key=lambda at: batches[at].ids.size)
    found: dict[int, Weights] = {}
    for start in range(0, len(order), size):
        chosen = order[start : start + size]
        longest = max(batches[at].ids.size for at in chosen)

        def stacked(name: str, chosen: list[int] = chosen, longest: int = longest) -> NDArray[np.int64]:
            rows = [getattr(batches[at], name)[0] for at in chosen]
            return np.stack([np.pad(row, (0, longest - row.size)) for row in rows])

        together = TokenizedText(stacked("ids"), stacked("mask"), stacked("type_ids"), content_tokens=0)
        found.update(zip(chosen, run(session, together), strict=True))
    return [found[at] for at in range(len(batches))]


def scale_each_token(graph: Path, changed: Path) -> Path:
    """The graph with each token's activations quantized by a scale of their own, in standard operators."""
    model = onnx.load(graph)
    nodes = []
    for node in model.graph.node:
        if node.op_type != "DynamicQuantizeLinear":
            nodes.append(node)
            continue
        (given,), (quantized, scale, zero) = node.input, node.output
        nodes += [
            helper.make_node("Abs", [given], [f"{given}_abs"]),
            helper.make_node("ReduceMax", [f"{given}_abs", "last_axis"], [f"{given}_max"], keepdims=1),
            helper.make_node("Div", [f"{given}_max", "steps"], [scale]),
            helper.make_node("Div", [given, scale], [f"{given}_scaled"]),
            helper.make_node("Round", [f"{given}_scaled"], [f"{given}_rounded"]),
            helper.make_node("Add", [f"{given}_rounded", "middle"], [f"{given}_shifted"]),
            helper.make_node("Cast", [f"{given}_shifted"], [quantized], to=onnx.TensorProto.UINT8),
            helper.make_node("Identity", ["zero"], [zero]),
        ]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    constants = {
        "last_axis": np.array([-1]),
        "steps": np.array(127, dtype=np.float32),
        "middle": np.array(128, dtype=np.float32),
        "zero": np.array(128, dtype=np.uint8),
    }
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in constants.items())
    onnx.save(model, changed)
    return changed


def main() -> None:
    """Measures every way, and prints the table."""
    shared, folder = Path(sys.argv[1]), Path(sys.argv[2]).resolve()
    make(shared, folder, ("bert-base", "tiny-en"))
    cores = available_cores()
    tokenizer = Tokenizer(embedded_folder() / "tokenizer.json")
    batches = [tokenizer.encode(text, MAX_LENGTH) for text in make_texts(shared, folder)["collection"][:TEXTS]]
    shipped = embedded_folder() / "doc.onnx"
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        quantized = quantize(folder / "tiny-en-made" / "steps" / "optimized.onnx", scratch / "quantized.onnx")
        own_scales = scale_each_token(quantized, scratch / "own_scales.onnx")
        masked = scratch / "masked.onnx"  # in a batch, attention needs its mask
        quantize_embedding(fuse(quantized, scratch / "fused.onnx"), masked)
        one, all_cores = open_session(shipped, 1), open_session(shipped, cores)
        masked_one, masked_all = open_session(masked, 1), open_session(masked, cores)
        own_one, own_all = open_session(own_scales, 1), open_session(own_scales, cores)
    ways: dict[str, tuple[onnxruntime.InferenceSession, Callable[[], list[Weights]]]] = {
        f"one text a run, {cores} side by side, 1 thread each": (one, lambda: one_text_a_run(one, batches, cores)),
        f"one text a run, one after another, {cores} threads each": (
            one,
            lambda: one_text_a_run(all_cores, batches, 1),
        ),
        f"padded batches of 8, {cores} threads": (masked_one, lambda: padded(masked_all, batches, 8)),
        f"padded batches of 32, {cores} threads": (masked_one, lambda: padded(masked_all, batches, 32)),
        "a scale for each token, one text a run, side by side": (
            own_one,
            lambda: one_text_a_run(own_one, batches, cores),
        ),
        f"a scale for each token, padded batches of 8, {cores} threads": (own_one, lambda: padded(own_all, batches, 8)),
    }
    alone = {session: one_text_a_run(session, batches, 1) for session in (one, masked_one, own_one)}
    speeds: dict[str, list[float]] = {name: [] for name in ways}
    differences: dict[str, float] = {}
    for _ in range(ROUNDS):
        for name, (session, way) in ways.items():
            started = time.perf_counter()
            found = way()
            speeds[name].append(len(batches) / (time.perf_counter() - started))
            pairs = zip(found, alone[session], strict=True)
            differences[name] = max(float(np.abs(a - b).max()) for a, b in pairs)
    first = median(next(iter(speeds.values())))
    rows = [
        [
            name,
            f"{median(rounds):.0f}",
            f"{median(rounds) / first:.2f}",
            f"{spread(rounds):.0%}",
            "none" if differences[name] == 0 else f"{differences[name]:.2g}",
        ]
        for name, rounds in speeds.items()
    ]
    print(machine(), "\n")
    print(table(["", "documents a second", "of the first", "spread", "largest difference from the text alone"], rows))
    keep("invariance", {"speeds": speeds, "differences": differences})


if __name__ == "__main__":
    main()

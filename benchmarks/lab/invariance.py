"""Cost of vectors that do not depend on other texts: one text a run, against padded batches.

    python -m benchmarks.lab.invariance SHARED FOLDER

Runs the embedded document model over SciFact abstracts, one text a run and in padded batches, in turn, five rounds.
Prints documents a second, and the largest difference of a weight from that of the text run alone.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from onnxruntime import InferenceSession

from benchmarks.harness import (
    LAB_RESULTS,
    argument_parser,
    in_rounds,
    machine,
    markdown_table,
    save_result,
    seconds,
    spread,
)
from benchmarks.lab.sessions import open_session, run
from benchmarks.lab.variants import build_masked
from benchmarks.workload import MAX_LENGTH, models_of, prepare, read_texts
from spladerunner.inference.cpu_count import available_cores
from spladerunner.inference.pooling import max_pool
from spladerunner.inference.tokenizer import TokenizedText, Tokenizer
from spladerunner.models import embedded_folder

TEXTS = 200

Weights = NDArray[np.float32]


def variants(cores: int) -> list[str]:
    """Names of the variants, in the order of the table."""
    return [
        f"one text a run, {cores} side by side, 1 thread each",
        f"one text a run, one after another, {cores} threads each",
        f"padded batches of 8, {cores} threads",
        f"padded batches of 32, {cores} threads",
        "a scale for each token, one text a run, side by side",
        f"a scale for each token, padded batches of 8, {cores} threads",
    ]


def run_one_by_one(session: InferenceSession, texts: Sequence[TokenizedText], workers: int) -> list[Weights]:
    """Weights (V,) of each text, each run alone by one of `workers` threads."""

    def weights(text: TokenizedText) -> Weights:
        row: Weights = activate(run(session, text), text)[0]
        return row

    with ThreadPoolExecutor(workers) as executor:
        return list(executor.map(weights, texts))


def run_padded(session: InferenceSession, texts: Sequence[TokenizedText], size: int) -> list[Weights]:
    """Weights (V,) of each text, run in batches of `size` texts of similar length, padded to the longest."""
    order = sorted(range(len(texts)), key=lambda at: texts[at].ids.size)
    found: dict[int, Weights] = {}
    for start in range(0, len(order), size):
        chosen = order[start : start + size]
        batch = pad([texts[at] for at in chosen])
        found.update(zip(chosen, activate(run(session, batch), batch), strict=True))
    return [found[at] for at in range(len(texts))]


def pad(texts: Sequence[TokenizedText]) -> TokenizedText:
    """Batch (B, L) of texts, padded with zeros."""
    longest = max(text.ids.size for text in texts)

    def stack(rows: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
        return np.stack([np.pad(row[0], (0, longest - row.size)) for row in rows])

    return TokenizedText(
        stack([text.ids for text in texts]),
        stack([text.mask for text in texts]),
        stack([text.type_ids for text in texts]),
        content_tokens=0,
    )


def activate(logits: NDArray[np.float32], texts: TokenizedText) -> Weights:
    """Weights (B, V) of logits (B, L, V)."""
    weights: Weights = np.log1p(np.maximum(max_pool(logits, texts.mask), 0))
    return weights


def scale_each_token(graph: Path, changed: Path) -> Path:
    """Writes the graph with the activations of each token quantized by their own scale, in standard operators."""
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


def measure(models: Path, texts: Sequence[TokenizedText], cores: int) -> dict[str, Any]:
    """Documents a second in each round, and the largest difference of a weight, by variant."""
    alone = models / "passes" / "tie-embedding.onnx"
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        # Padding needs the attention mask, and all logits. The other graph has the same decoder, in one product.
        masked = build_masked(models, scratch)
        token_scales = scale_each_token(scratch / "quantize.onnx", scratch / "token-scales.onnx")
        alone_one, alone_all = open_session(alone), open_session(alone, cores)
        masked_one, masked_all = open_session(masked), open_session(masked, cores)
        scaled_one, scaled_all = open_session(token_scales), open_session(token_scales, cores)
    sessions = [alone_one, alone_one, masked_one, masked_one, scaled_one, scaled_one]
    calls: list[Callable[[], list[Weights]]] = [
        partial(run_one_by_one, alone_one, texts, cores),
        partial(run_one_by_one, alone_all, texts, 1),
        partial(run_padded, masked_all, texts, 8),
        partial(run_padded, masked_all, texts, 32),
        partial(run_one_by_one, scaled_one, texts, cores),
        partial(run_padded, scaled_all, texts, 8),
    ]
    names = variants(cores)
    singly = {session: run_one_by_one(session, texts, 1) for session in (alone_one, masked_one, scaled_one)}
    differences = {
        name: max(float(np.abs(a - b).max()) for a, b in zip(call(), singly[session], strict=True))
        for name, session, call in zip(names, sessions, calls, strict=True)
    }
    times = in_rounds({name: partial(seconds, call) for name, call in zip(names, calls, strict=True)})
    speeds = {name: [len(texts) / taken for taken in rounds] for name, rounds in times.items()}
    return {"speeds": speeds, "differences": differences}


def report(found: Mapping[str, Any], cores: int) -> str:
    """Medians of documents a second, and differences."""
    speeds: Mapping[str, Sequence[float]] = found["speeds"]
    names = variants(cores)
    first = median(speeds[names[0]])
    rows = [
        [
            name,
            f"{median(speeds[name]):.0f}",
            f"{median(speeds[name]) / first:.2f}",
            f"{spread(speeds[name]):.0%}",
            f"{found['differences'][name]:.2g}" if found["differences"][name] else "none",
        ]
        for name in names
    ]
    head = ["", "documents a second", "of the first", "spread", "largest difference from the text alone"]
    return markdown_table(head, rows)


def main() -> None:
    """Measures, saves the result and prints the table."""
    arguments = argument_parser(__doc__).parse_args()
    shared, folder = arguments.shared, arguments.folder
    prepare(shared, folder, ["tiny-en"])
    tokenizer = Tokenizer(embedded_folder() / "tokenizer.json")
    texts = [tokenizer.encode(text, MAX_LENGTH) for text in read_texts(folder)["collection"][:TEXTS]]
    cores = available_cores()
    found = measure(models_of(folder, "tiny-en"), texts, cores)
    save_result("invariance", found, LAB_RESULTS)
    print(f"{machine()}\n\n{report(found, cores)}")


if __name__ == "__main__":
    main()

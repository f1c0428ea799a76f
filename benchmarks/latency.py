"""Latency of one query from text to {token: weight}, beside the bare run of its graph and each stage alone.

python -m benchmarks.latency SHARED FOLDER
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import median

from benchmarks.harness import argument_parser, in_rounds, machine, markdown_table, save_result
from benchmarks.workload import bundle_of, prepare
from spladerunner import Expander
from spladerunner.inference.pooling import ACTIVATIONS, max_pool, sparsify
from spladerunner.inference.session import Session
from spladerunner.inference.tokenizer import Tokenizer
from spladerunner.models import embedded_folder

QUERIES = 100
ROUNDS = 3
MODELS = ("BERT-tiny, vocabulary 30,522", "embedded pair")
WARM_UP = 20
TOTAL = "text to dict"
BARE_RUN = "bare run"
STAGES = (TOTAL, "tokenizing", BARE_RUN, "pooling", "to a vector", "to a dict")


def measure(bundle: Path, graph: Path, queries: Sequence[str]) -> dict[str, list[float]]:
    """Seconds of each query in total, and of each stage alone, in turn."""
    expander = Expander(bundle, 64)
    session, tokenizer = Session(graph), Tokenizer(bundle / "tokenizer.json")
    vocabulary = tokenizer.vocabulary
    found: dict[str, list[float]] = {stage: [] for stage in STAGES}
    for query in [*queries[:WARM_UP], *queries]:
        laps = [time.perf_counter()]
        expander.expand_query(query)
        laps.append(time.perf_counter())
        text = tokenizer.encode(query, 64)
        laps.append(time.perf_counter())
        logits = session.run(text)
        laps.append(time.perf_counter())
        pooled = max_pool(logits, text.mask)[0, : len(vocabulary)]
        laps.append(time.perf_counter())
        vector = sparsify(pooled, vocabulary.carries_weight, ACTIVATIONS["log1p_relu"])
        laps.append(time.perf_counter())
        vocabulary.weights(vector)
        laps.append(time.perf_counter())
        for stage, started, ended in zip(STAGES, laps, laps[1:], strict=False):
            found[stage].append(ended - started)
    return {stage: times[-len(queries) :] for stage, times in found.items()}


def report(found: Mapping[str, Sequence[Mapping[str, Sequence[float]]]]) -> str:
    """Medians in milliseconds over the queries of all rounds."""
    rows = []
    for name in MODELS:
        middle = {stage: median(second for times in found[name] for second in times[stage]) for stage in STAGES}
        milliseconds = [f"{middle[stage] * 1e3:.3f}" for stage in STAGES]
        rows.append([name, *milliseconds, f"{middle[TOTAL] / middle[BARE_RUN]:.2f}"])
    return markdown_table(["p50, ms", *STAGES, f"{TOTAL} / {BARE_RUN}"], rows)


def main() -> None:
    """Measures, saves the result and prints the table."""
    arguments = argument_parser(__doc__).parse_args()
    shared, folder = arguments.shared, arguments.folder
    prepare(shared, folder, ["bert-tiny"])
    with (shared / "data" / "scifact" / "queries.jsonl").open(encoding="utf-8") as file:
        queries = [json.loads(line)["text"] for line in file][:QUERIES]
    tiny = bundle_of(folder, "bert-tiny")
    graphs = (tiny / "doc.onnx", embedded_folder() / "query.onnx")
    found = in_rounds(
        {name: partial(measure, graph.parent, graph, queries) for name, graph in zip(MODELS, graphs, strict=True)},
        ROUNDS,
    )
    save_result("latency", found)
    print(f"{machine()}\n\n{report(found)}")


if __name__ == "__main__":
    main()

"""One query from text to {token: weight}, against the bare run of its graph, and where the time goes.

python -m benchmarks.latency SHARED FOLDER
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from benchmarks.materials import make
from benchmarks.measure import keep, machine, median, table
from spladerunner import Expander
from spladerunner.inference.pooling import ACTIVATIONS, max_pool, sparsify
from spladerunner.inference.session import Session
from spladerunner.inference.tokenizer import Tokenizer
from spladerunner.model.registry import embedded_folder

QUERIES = 300
PARTS = ("text to dict", "tokenizing", "bare run", "pooling", "to a vector", "to a dict")


def p50(measured: list[float]) -> str:
    """The median in milliseconds."""
    return f"{median(measured) * 1e3:.3f}"


def measure(bundle: Path, graph: Path, queries: list[str]) -> dict[str, list[float]]:
    """Seconds of each query: whole, and of each part alone, in turn."""
    expander = Expander(bundle, 64)
    session, tokenizer = Session(graph), Tokenizer(bundle / "tokenizer.json")
    vocabulary = tokenizer.vocabulary
    found: dict[str, list[float]] = {part: [] for part in PARTS}
    for query in [*queries[:20], *queries]:
        laps = [time.perf_counter()]
        expander.expand_query(query)
        laps.append(time.perf_counter())
        batch = tokenizer.encode(query, 64)
        laps.append(time.perf_counter())
        logits = session.run(batch)
        laps.append(time.perf_counter())
        pooled = max_pool(logits, batch.mask)[0, : len(vocabulary)]
        laps.append(time.perf_counter())
        vector = sparsify(pooled, vocabulary.carries_weight, ACTIVATIONS["log1p_relu"])
        laps.append(time.perf_counter())
        vocabulary.weights(vector)
        laps.append(time.perf_counter())
        for part, started, ended in zip(PARTS, laps, laps[1:], strict=False):
            found[part].append(ended - started)
    return {part: times[20:] for part, times in found.items()}  # the first ones warm up


def main() -> None:
    """Measures, keeps and prints."""
    shared, folder = Path(sys.argv[1]), Path(sys.argv[2]).resolve()
    make(shared, folder)
    with (shared / "data" / "scifact" / "queries.jsonl").open(encoding="utf-8") as file:
        queries = [json.loads(line)["text"] for line in file][:QUERIES]
    tiny = folder / "bert-tiny-made" / "bundle"
    found = {
        "embedded pair": measure(embedded_folder(), embedded_folder() / "query.onnx", queries),
        "BERT-tiny, vocabulary 30,522": measure(tiny, tiny / "doc.onnx", queries),
    }
    print(machine(), "\n")
    rows = [
        [name, *(p50(laps[part]) for part in PARTS), f"{median(laps['text to dict']) / median(laps['bare run']):.2f}"]
        for name, laps in found.items()
    ]
    print(table(["p50, ms", *PARTS, "text to dict / bare run"], rows))
    keep("latency", found)


if __name__ == "__main__":
    main()

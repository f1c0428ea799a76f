"""Share of the machine's int8 throughput that BERT-base at 128 tokens reaches.

    python -m benchmarks.lab.share SHARED FOLDER

The throughput of the machine is that of a large MatMulInteger. Both are the best of five runs in each round, because
disturbances only slow a run down.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper, save

from benchmarks.environments import own_python
from benchmarks.harness import LAB_RESULTS, argument_parser, in_rounds, machine, run_job, save_result, spread
from benchmarks.workload import bundle_of, prepare, texts_file
from spladerunner.inference.cpu_count import available_cores

ROUNDS = 7
REPEATS = 5
SIZE = 2048
LENGTH = 128


def write_product(path: Path, size: int = SIZE) -> Path:
    """Writes a graph with one MatMulInteger of (m, size) and (size, size)."""
    weights = np.random.default_rng(0).integers(-127, 127, (size, size)).astype(np.int8)
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["a", "b"], ["c"])],
        "product",
        [helper.make_tensor_value_info("a", TensorProto.UINT8, ["m", size])],
        [helper.make_tensor_value_info("c", TensorProto.INT32, ["m", size])],
        [numpy_helper.from_array(weights, "b")],
    )
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def operations(length: int, layers: int = 12, width: int = 768, vocabulary: int = 30522) -> float:
    """Multiplications and additions in the matrix products of BERT for one text, attention included."""
    layer = 2 * length * (4 * width**2 + 8 * width**2) + 4 * length**2 * width
    return layers * layer + 2 * length * (width**2 + width * vocabulary)


def measure(folder: Path, cores: int) -> dict[str, list[float]]:
    """Operations a second of the product and of BERT-base, in turn."""
    python = own_python(folder)
    common = {"texts": str(texts_file(folder)), "lists": ["cut at 256"], "threads": cores, "max_length": LENGTH}
    product = {"system": "matrix products", **common, "product": str(write_product(folder / "product.onnx"))}
    documents = {"system": "spladerunner", **common, "bundle": str(bundle_of(folder, "bert-base"))}
    return in_rounds(
        {
            "product": lambda: texts_a_second(python, product) * 2 * SIZE**3,
            "documents": lambda: texts_a_second(python, documents) * operations(LENGTH),
        },
        ROUNDS,
    )


def texts_a_second(python: Path, job: Mapping[str, Any]) -> float:
    """Speed of the fastest of five runs."""
    figures = run_job(python, {**job, "repeat": REPEATS})
    assert "failed" not in figures, figures
    return max(map(float, figures["docs_per_second"].values()))


def report(found: Mapping[str, Sequence[float]]) -> str:
    """Sentence with the medians."""
    product, documents = found["product"], found["documents"]
    return (
        f"BERT-base at {LENGTH} tokens: {median(documents) / 1e9:.0f} of {median(product) / 1e9:.0f} GOP/s, "
        f"{median(documents) / median(product):.0%} of what a MatMulInteger of {SIZE} × {SIZE} × {SIZE} reaches "
        f"(spread {spread(documents):.0%} and {spread(product):.0%})"
    )


def main() -> None:
    """Measures, saves the result and prints it."""
    arguments = argument_parser(__doc__).parse_args()
    prepare(arguments.shared, arguments.folder, ["bert-base"])
    found = measure(arguments.folder, available_cores())
    save_result("share of the machine's int8 products", found, LAB_RESULTS)
    print(f"{machine()}\n\n{report(found)}")


if __name__ == "__main__":
    main()

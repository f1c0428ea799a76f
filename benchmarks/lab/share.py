"""BERT-base at 128 tokens, as a part of what the machine's int8 matrix products can do.

    python -m benchmarks.lab.share SHARED FOLDER

What it can do is the speed of a plain large MatMulInteger, the best of several in each round, as whatever disturbs it
does not add to what the machine can do; documents are measured likewise.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper, save

from benchmarks.materials import make, own_environment
from benchmarks.measure import keep, machine, median, run, spread
from spladerunner.inference.cpu_count import available_cores

ROUNDS = 7
SIZE = 2048
LENGTH = 128


def save_product(path: Path, size: int = SIZE) -> Path:
    """A graph with one MatMulInteger of (m, size) and (size, size)."""
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
    """Multiplications and additions of BERT's products for a text of so many tokens; attention included."""
    layer = 2 * length * (4 * width**2 + 8 * width**2) + 4 * length**2 * width
    return layers * layer + 2 * length * (width**2 + width * vocabulary)


def measure(folder: Path, cores: int) -> dict[str, list[float]]:
    """Operations a second, in turn: of the product, and of BERT-base."""
    own = own_environment(folder)
    common = {"texts": str(folder / "texts.json"), "lists": ["cut at 256"], "threads": cores, "max_length": LENGTH}
    product = {"system": "matrix products", **common, "product": str(save_product(folder / "product.onnx"))}
    documents = {"system": "spladerunner", **common, "bundle": str(folder / "bert-base-made" / "bundle")}
    found: dict[str, list[float]] = {"product": [], "documents": []}
    for _ in range(ROUNDS):
        found["product"].append(best(run(own, {**product, "repeat": 5})) * 2 * SIZE**3)
        found["documents"].append(best(run(own, {**documents, "repeat": 5})) * operations(LENGTH))
    return found


def best(found: dict[str, Any]) -> float:
    """Texts a second, the best time of all."""
    assert "failed" not in found, found
    return max(map(float, found["docs_per_second"].values()))


def main() -> None:
    """Measures, keeps and prints."""
    shared, folder = Path(sys.argv[1]), Path(sys.argv[2]).resolve()
    make(shared, folder, ["bert-base"])
    found = measure(folder, available_cores())
    keep("share of the machine's int8 products", found)
    product, documents = found["product"], found["documents"]
    print(machine(), "\n")
    print(
        f"BERT-base at {LENGTH} tokens: {median(documents) / 1e9:.0f} of {median(product) / 1e9:.0f} GOP/s, "
        f"{median(documents) / median(product):.0%} of what a MatMulInteger of {SIZE} × {SIZE} × {SIZE} reaches "
        f"(spread {spread(documents):.0%} and {spread(product):.0%})"
    )


if __name__ == "__main__":
    main()

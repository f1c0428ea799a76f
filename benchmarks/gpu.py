"""Documents a second on a GPU, tokenizing included, beside peers in float16; the share of the card's float16 limit.

    python -m benchmarks.gpu SHARED FOLDER [--provider NAME] [SHAPE...]

Each peer runs at the best batch size of a sweep, then all run in turn, five rounds, each run in a fresh process. Then a
graph that selects the largest weights is compared with the one in use, which leaves the selection to the host. With
--provider CPUExecutionProvider the same code runs without a card, on graphs of the same form in float32 and few texts;
its figures are not saved.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from subprocess import CalledProcessError
from typing import Any

from benchmarks.environments import gpu_python, own_python, python_of
from benchmarks.harness import ROUNDS, argument_parser, machine, markdown_table, run_job, save_result, spread
from benchmarks.lab.share import operations
from benchmarks.throughput import Figures, Setting, check_agreement, failures_of, median_speed, write_reference
from benchmarks.workload import (
    FP32,
    MAX_LENGTH,
    fp32_of,
    models_of,
    prepare,
    texts_file,
    write_sentence_transformers_models,
)
from spladerunner.inference.providers import CPU, CUDA

SHAPES = ("bert-base", "distilbert", "tiny-en")
OWN = "spladerunner"
UNPADDED = "sentence-transformers, torch, unpadded FlashAttention"
COLLECTION, MIXED, SHORT = "collection", "mixed", "short"
BATCH_SIZES = (32, 64, 128, 256, 512)
GRAPH = "doc.onnx"
LARGEST = 512
"""Weights of a text that a graph selects; vectors of trained models have fewer."""

LAYERS = {"bert-base": 12, "distilbert": 6}
"""Of the shapes whose share of the card's limit is computed; both are 768 wide."""


def write_graph(models: Path, *, float16: bool) -> Path:
    """Writes the graph for devices, once, beside its tokenizer: float16, or float32 for the CPU provider."""
    from spladerunner.export.passes import Graph, passes
    from spladerunner.export.passes.float16 import Float16

    folder = models / ("gpu-float16" if float16 else "gpu-float32")
    if not (folder / GRAPH).exists():
        folder.mkdir(exist_ok=True)
        graph = Graph(models / FP32 / "model.onnx")
        wanted = [each for each in passes("cuda", positions=0) if float16 or not isinstance(each, Float16)]
        for each in wanted:
            target = GRAPH if each is wanted[-1] else f"{each.name.replace(' ', '-')}.onnx"
            graph = each(graph, folder / target).graph
    return folder / GRAPH


def settings_of_systems(folder: Path, shape: str, provider: str, lists: Sequence[str]) -> dict[str, list[Setting]]:
    """Settings to try, by system."""
    models, on_card = models_of(folder, shape), provider != CPU
    python = python_of_provider(folder, provider)
    common = {"texts": str(texts_file(folder)), "lists": list(lists), "max_length": MAX_LENGTH, "provider": provider}
    sizes = BATCH_SIZES if on_card else BATCH_SIZES[:1]

    def by_batch_size(name: str, **job: Any) -> list[Setting]:
        try:
            python = python_of(folder, f"{name}-gpu" if on_card else name)
        except CalledProcessError:  # of pip, which has said why
            return []
        return [Setting(f"batch {size}", python, "float32", {**common, **job, "batch": size}) for size in sizes]

    torch = {
        "system": "sentence-transformers",
        "backend": "torch",
        "st": str(models / "st"),
        "device": "cuda" if on_card else "cpu",
        "type": "float16" if on_card else "float32",
    }
    flash = {**torch, "attention": "flash_attention_2"}  # which needs a card
    unpadded = {UNPADDED: by_batch_size("sentence-transformers-flash", **flash)} if on_card else {}
    graph = write_graph(models, float16=on_card)
    own = {**common, "system": "spladerunner batches", "graph": str(graph), "tokenizer": str(fp32_of(folder, shape))}
    return {
        OWN: [Setting("its own batches", python, "float32", own)],
        "FastEmbed": by_batch_size("fastembed", system="fastembed", fp32=str(fp32_of(folder, shape))),
        "sentence-transformers, torch": by_batch_size("sentence-transformers", **torch),
        **unpadded,
    }


def python_of_provider(folder: Path, provider: str) -> Path:
    """Python of the environment with spladerunner and an onnxruntime that has the provider."""
    return gpu_python(folder) if provider != CPU else own_python(folder)


def measure(folder: Path, shape: str, provider: str, rounds: int = ROUNDS) -> dict[str, Any]:
    """Sweep and rounds of one shape."""
    lists = [MIXED, COLLECTION] if provider != CPU else [SHORT]
    reference = write_reference(folder, shape, lists[0], MAX_LENGTH)

    def run(system: str, setting: Setting) -> Figures:
        found = run_job(setting.python, {**setting.job, "agree": reference})
        print(f"  {shape}, {system}, {setting.name}: {found}", flush=True)
        return check_agreement(found, setting.weight_type)

    settings = settings_of_systems(folder, shape, provider, lists)
    absent: dict[str, Figures] = {"no setting": {"failed": "pip cannot install it here"}}
    sweep = {system: {each.name: run(system, each) for each in tried} or absent for system, tried in settings.items()}
    best: dict[str, Setting] = {}
    for system, tried in settings.items():
        valid = [each for each in tried if "failed" not in sweep[system][each.name]]
        if valid:
            speeds = sweep[system]
            best[system] = max(valid, key=lambda each: speeds[each.name]["docs_per_second"][lists[-1]])
    found: dict[str, list[Figures]] = {system: [] for system in best}
    for _ in range(rounds):
        for system, setting in best.items():
            found[system].append(run(system, setting))
    return {"sweep": sweep, "best": {system: each.name for system, each in best.items()}, "rounds": found}


def report(shape: str, result: Mapping[str, Any], kind: str = COLLECTION) -> str:
    """Table of one shape, and the reasons of failures."""
    rows = []
    for system, rounds in result["rounds"].items():
        if not failures_of(rounds):
            speeds = [float(figures["docs_per_second"][kind]) for figures in rounds]
            ours = median_speed(result["rounds"][OWN], kind)
            peak = median(float(figures["peak_mb"]) for figures in rounds)
            rows.append(
                [
                    system,
                    result["best"][system],
                    f"{median(speeds):.0f}",
                    f"{ours / median(speeds):.2f}",
                    f"{spread(speeds):.0%}",
                    f"{peak:.0f}",
                    f"{rounds[0]['mean_cosine']:.4f}",
                ]
            )
    head = ["system", "setting", "documents a second", "spladerunner's speedup", "spread", "host MB", "mean cosine"]
    failed = [
        f"{system} failed: {reason}"
        for system, runs in result["sweep"].items()
        for reason in failures_of(list(runs.values()))
    ]
    return "\n\n".join([f"### {shape}", markdown_table(head, rows), *failed])


def share_of_limit(folder: Path, shape: str, provider: str) -> dict[str, float]:
    """Operations a second of texts of 128 tokens, tokenizing left out, and of a large float16 product."""
    on_card = provider != CPU
    job = {"product": str(write_product(folder, float16=on_card)), "size": 8192 if on_card else 512}
    rates = measure_batch(folder, shape, provider, "share of limit", job)["docs_per_second"]
    return {"texts": rates["texts"] * operations(128, LAYERS[shape]), "product": rates["product"]}


def speedup_of_selection(folder: Path, shape: str, provider: str) -> dict[str, float]:
    """Speedup of a graph that selects the LARGEST weights, and the share of the sum of all weights that it keeps."""
    graph = write_graph(models_of(folder, shape), float16=provider != CPU)
    figures = measure_batch(folder, shape, provider, "selection", {"selecting": str(write_selecting_graph(graph))})
    rates = figures["docs_per_second"]
    return {"speedup": rates["selected"] / rates["all"], "kept": figures["kept"]}


def measure_batch(folder: Path, shape: str, provider: str, system: str, job: Mapping[str, Any]) -> Figures:
    """Figures of a batch of texts of 128 tokens. Raises RuntimeError if it fails."""
    on_card = provider != CPU
    common = {
        "texts": str(texts_file(folder)),
        "lists": [MIXED],
        "max_length": 128,
        "provider": provider,
        "graph": str(write_graph(models_of(folder, shape), float16=on_card)),
        "tokenizer": str(fp32_of(folder, shape)),
        "batch": 256 if on_card else 2,
    }
    figures = run_job(python_of_provider(folder, provider), {**common, **job, "system": system})
    if "failed" in figures:
        raise RuntimeError(figures["failed"])
    return figures


def write_selecting_graph(graph: Path) -> Path:
    """Writes a graph that gives the LARGEST weights of a text and their indices, beside the one that gives all."""
    import numpy as np
    from onnx import TensorProto, helper, load, numpy_helper, save

    model = load(graph)
    (weights,) = model.graph.output
    kind, vocabulary = weights.type.tensor_type.elem_type, weights.type.tensor_type.shape.dim[1].dim_value
    largest = min(LARGEST, vocabulary)
    model.graph.initializer.append(numpy_helper.from_array(np.array([largest]), "largest"))
    top = helper.make_node("TopK", [weights.name, "largest"], ["values", "places"], axis=1, sorted=0)
    model.graph.node.extend([top, helper.make_node("Cast", ["places"], ["indices"], to=TensorProto.INT32)])
    outputs = {"values": kind, "indices": TensorProto.INT32}
    del model.graph.output[:]
    model.graph.output.extend(
        helper.make_tensor_value_info(name, type_, ["batch", largest]) for name, type_ in outputs.items()
    )
    path = graph.with_name("selecting.onnx")
    save(model, path)
    return path


def write_product(folder: Path, *, float16: bool) -> Path:
    """Writes a graph with one product of two square matrices."""
    from onnx import TensorProto, helper, save

    path = folder / f"product-{'float16' if float16 else 'float32'}.onnx"
    kind = TensorProto.FLOAT16 if float16 else TensorProto.FLOAT
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["a", "b"], ["c"])],
        "product",
        [helper.make_tensor_value_info(name, kind, ["n", "n"]) for name in "ab"],
        [helper.make_tensor_value_info("c", kind, ["n", "n"])],
    )
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def main() -> None:
    """Measures, saves the results of a card, and prints the tables."""
    parser = argument_parser(__doc__)
    parser.add_argument("--provider", default=CUDA, help=f"default: {CUDA}")
    parser.add_argument("shapes", metavar="SHAPE", nargs="*", help=f"default: {' '.join(SHAPES)}")
    arguments = parser.parse_intermixed_args()  # shapes may follow the option
    folder, provider = arguments.folder, arguments.provider
    shapes = arguments.shapes or SHAPES
    prepare(arguments.shared, folder, shapes)
    for shape in shapes:
        write_sentence_transformers_models(folder, shape, int8=False)
    print(machine())
    for shape in shapes:
        result = measure(folder, shape, provider, ROUNDS if provider != CPU else 1)
        result["selection"] = speedup_of_selection(folder, shape, provider)
        if shape in LAYERS:
            result["share"] = share_of_limit(folder, shape, provider)
        if provider != CPU:
            save_result(f"gpu {shape}", result)
        print(f"\n{report(shape, result, COLLECTION if provider != CPU else SHORT)}")
        speedup, kept = result["selection"]["speedup"], result["selection"]["kept"]
        print(f"\n{shape}: the largest {LARGEST} weights, selected in the graph: {speedup:.2f} times, {kept:.1%} kept")
        if "share" in result:
            share = result["share"]["texts"] / result["share"]["product"]
            print(f"\n{shape} at 128 tokens: {share:.0%} of the rate of a large product")


if __name__ == "__main__":
    main()

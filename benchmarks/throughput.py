"""Documents a second of spladerunner and its peers, on the same texts and the same weights.

    python -m benchmarks.throughput SHARED FOLDER [SHAPE...]

For each shape: first a sweep over each system's settings, one run each; then the best of each in turn, five rounds,
every run in a fresh process. Vectors are compared with the checkpoint's own formula in torch before a time counts.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from benchmarks.materials import SHAPES, environment, make, own_environment
from benchmarks.measure import ROUNDS, keep, machine, median, run, spread, table

LISTS = ("mixed", "short", "typical", "cut at 256")
LONG = "cut at 512"
"""Measured apart, where the model has room for it."""

AGREES = {"float32": 0.9999, "int8": 0.95}
"""The least mean cosine with the reference. Random weights leave int8 less room than trained ones."""


Entry = tuple[str, Path, str, dict[str, Any]]
"""(setting, Python, weight type, job)."""


def systems(folder: Path, shape: str, cores: int) -> dict[str, list[Entry]]:
    """The settings to try, by system."""
    made = folder / f"{shape}-made"
    own = own_environment(folder)
    fastembed = environment(folder, "fastembed", "fastembed")
    splade = environment(folder, "splade", "SPLADERunner==0.1.6")
    st = environment(folder, "st", "torch==2.13.0", "sentence-transformers[onnx,openvino] datasets<5 huggingface_hub<1")
    batches = (1, 8, 32)
    common = {"texts": str(folder / "texts.json"), "lists": LISTS, "max_length": 256}

    def job(system: str, **more: Any) -> dict[str, Any]:
        return {"system": system, **common, **more}

    def by_batch(python: Path, kind: str, system: str, **more: Any) -> list[Entry]:
        return [(f"batch {batch}", python, kind, job(system, batch=batch, **more)) for batch in batches]

    return {
        "spladerunner": [
            (f"{n} threads", own, "int8", job("spladerunner", bundle=str(made / "bundle"), threads=n))
            for n in range(cores, 0, -1)
        ],
        "FastEmbed": [
            *by_batch(fastembed, "float32", "fastembed", fp32=str(made / "fp32")),
            (
                f"batch 1, {cores} processes",
                fastembed,
                "float32",
                job("fastembed", fp32=str(made / "fp32"), batch=1, parallel=cores),
            ),
        ],
        "SPLADERunner 0.1.6": by_batch(splade, "float32", "splade-0.1", splade_0_1=str(made / "splade-0.1")),
        "sentence-transformers, torch": by_batch(
            st, "float32", "sentence-transformers", backend="torch", st=str(made / "st")
        ),
        "sentence-transformers, ONNX int8": by_batch(
            st, "int8", "sentence-transformers", backend="onnx", st=str(made / "st")
        ),
        "sentence-transformers, OpenVINO int8": by_batch(
            st, "int8", "sentence-transformers", backend="openvino", st=str(made / "st")
        ),
        "optimum and onnxruntime, int8": by_batch(st, "int8", "optimum", optimum=str(made / "optimum")),
    }


def judged(found: dict[str, Any], kind: str) -> dict[str, Any]:
    """What was measured, as failed where the vectors are not the reference's: then no time counts."""
    if "failed" in found or found["mean_cosine"] >= AGREES[kind]:
        return found
    return {**found, "failed": f"wrong: mean cosine with the reference {found['mean_cosine']:.3f}"}


def measure_shape(folder: Path, shape: str, cores: int) -> dict[str, Any]:
    """The sweep and the rounds of one shape."""
    made = folder / f"{shape}-made"
    every = systems(folder, shape, cores)
    texts = {"agree": save_reference(folder, shape, "mixed", 256)}
    best: dict[str, Entry] = {}
    sweep: dict[str, dict[str, Any]] = {}
    for system, settings in every.items():
        sweep[system] = {}
        for setting, python, kind, job in settings:
            found = judged(run(python, {**job, "lists": ["mixed"], **texts}), kind)
            sweep[system][setting] = found
            print(f"  {shape} {system} {setting}: {found}", flush=True)
        right = {
            setting: found["docs_per_second"]["mixed"]
            for setting, found in sweep[system].items()
            if "failed" not in found
        }
        if right:
            fastest = max(right, key=lambda setting: right[setting])
            best[system] = next(entry for entry in settings if entry[0] == fastest)
    result = {
        "sweep": sweep,
        "best": {system: entry[0] for system, entry in best.items()},
        "rounds": measure_rounds(best, texts, {}),
    }
    config = json.loads((folder / shape / "config.json").read_text(encoding="utf-8"))
    if config["max_position_embeddings"] >= 512:
        long = {"agree": save_reference(folder, shape, LONG, 512), "lists": [LONG], "max_length": 512}
        result["long rounds"] = measure_rounds(
            best, long, {"fp32": str(made / "fp32-512"), "splade_0_1": str(made / "splade-0.1-512")}
        )
    return result


def save_reference(folder: Path, shape: str, texts: str, max_length: int) -> str:
    """The file with the vectors of these texts by the published formula."""
    reference = str(folder / f"{shape}-made" / f"reference-{max_length}.npz")
    job = {"system": "reference", "texts": str(folder / "texts.json"), "lists": [texts], "max_length": max_length}
    found = run(environment(folder, "st"), {**job, "checkpoint": str(folder / shape), "save": reference})
    assert "failed" not in found, found
    return reference


def measure_rounds(
    best: dict[str, Entry], texts: dict[str, Any], instead: dict[str, str]
) -> dict[str, list[dict[str, Any]]]:
    """The best setting of each system in turn. instead: files in place of those that a job names."""
    rounds: dict[str, list[dict[str, Any]]] = {system: [] for system in best}
    for _ in range(ROUNDS):
        for system, (_, python, kind, job) in best.items():
            files = {name: file for name, file in instead.items() if name in job}
            rounds[system].append(judged(run(python, {**job, **files, **texts}), kind))
            print(f"  {system}: {rounds[system][-1]}", flush=True)
    return rounds


def print_shape(shape: str, result: dict[str, Any]) -> None:
    """The tables of one shape."""
    rows = []
    own = median([found["docs_per_second"]["mixed"] for found in result["rounds"]["spladerunner"]])
    ordered = sorted(result["sweep"], key=lambda system: system != "spladerunner")
    for system in ordered:
        settings = result["sweep"][system]
        measured = result["rounds"].get(system, list(settings.values()))
        if why := "; ".join(sorted({found["failed"] for found in measured if "failed" in found})):
            rows.append([system, "", *[""] * len(LISTS), "", "", "", "", why])
            continue
        speeds = [found["docs_per_second"]["mixed"] for found in measured]
        others = [median([found["docs_per_second"][name] for found in measured]) for name in LISTS[1:]]
        long = result.get("long rounds", {}).get(system, [])
        rows.append(
            [
                system,
                result["best"][system],
                f"{median(speeds):.1f}",
                *[f"{speed:.1f}" for speed in others],
                next((found["failed"] for found in long if "failed" in found), None)
                or (f"{median([found['docs_per_second'][LONG] for found in long]):.1f}" if long else ""),
                f"{own / median(speeds):.1f}",
                f"{spread(speeds):.0%}",
                f"{median([found['peak_mb'] for found in measured]):.0f}",
                f"{measured[0]['mean_cosine']:.4f}",
            ]
        )
    head = [
        "system",
        "best setting",
        *LISTS,
        LONG,
        "spladerunner is × faster, mixed",
        "spread",
        "peak MB",
        "mean cosine",
    ]
    print(f"\n### {shape}\n\n{table(head, rows)}\n")
    settings = sorted({setting for found in result["sweep"].values() for setting in found})
    sweep = [[system, *[cell(result["sweep"][system].get(setting)) for setting in settings]] for system in ordered]
    print(table(["documents a second, one run of each setting", *settings], sweep))


def cell(found: dict[str, Any] | None) -> str:
    """A cell of the sweep."""
    if found is None:
        return ""
    return found["failed"] if "failed" in found else f"{found['docs_per_second']['mixed']:.1f}"


def main() -> None:
    """Measures, keeps and prints."""
    import subprocess

    from spladerunner.inference.cpu_count import available_cores

    shared, folder = Path(sys.argv[1]), Path(sys.argv[2]).resolve()
    shapes = sys.argv[3:] or SHAPES
    make(shared, folder, shapes)
    cores = available_cores()
    systems(folder, shapes[0], cores)  # makes the environments
    for shape in shapes:
        command = [environment(folder, "st"), Path(__file__).with_name("make_st.py"), folder / shape]
        subprocess.run([*command, folder / f"{shape}-made", folder / "texts.json"], check=False, capture_output=True)
    print(machine())
    for shape in shapes:
        result = measure_shape(folder, shape, cores)
        keep(f"throughput {shape}", result)
        print_shape(shape, result)


if __name__ == "__main__":
    main()

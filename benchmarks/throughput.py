"""Documents a second of spladerunner and its peers, with the same weights on the same texts.

    python -m benchmarks.throughput SHARED FOLDER [SHAPE...]

For each shape: a sweep with one run of each system's settings, then five rounds with the best setting of each system,
in turn. Every run is a fresh process. A run counts only if its vectors agree with the checkpoint's formula in torch.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.environments import own_python, python_of
from benchmarks.harness import ROUNDS, argument_parser, machine, markdown_table, run_job, save_result, spread
from benchmarks.workload import (
    MAX_LENGTH,
    SHAPES,
    bundle_of,
    checkpoint_of,
    fp32_of,
    models_of,
    prepare,
    texts_file,
    write_sentence_transformers_models,
)
from spladerunner.inference.cpu_count import available_cores

OWN = "spladerunner"
MIXED = "mixed"
KINDS = (MIXED, "short", "typical", "cut at 256")
LONG = "cut at 512"
"""Texts of rounds of their own, for models that accept 512 tokens."""

LEAST_COSINE = {"float32": 0.9999, "int8": 0.95}
"""Least mean cosine with the reference. int8 loses more with random weights than with trained ones."""

BATCH_SIZES = (1, 8, 32)

FAILED = "failed"

Job = dict[str, Any]
"""Job of systems.py."""

Figures = dict[str, Any]
"""Figures of a run, or {"failed": reason}."""


@dataclass(frozen=True)
class Setting:
    """Setting of a system: the Python that runs the job, and the weight type of its model."""

    name: str
    python: Path
    weight_type: str
    job: Job


def settings_of_systems(folder: Path, shape: str, cores: int) -> dict[str, list[Setting]]:
    """Settings to try, by system."""
    models = models_of(folder, shape)
    own = own_python(folder)
    fastembed = python_of(folder, "fastembed")
    splade_0_1 = python_of(folder, "spladerunner-0.1")
    sentence_transformers = python_of(folder, "sentence-transformers")
    common = {"texts": str(texts_file(folder)), "lists": KINDS, "max_length": MAX_LENGTH}

    def by_batch_size(python: Path, weight_type: str, **job: Any) -> list[Setting]:
        return [Setting(f"batch {size}", python, weight_type, {**common, **job, "batch": size}) for size in BATCH_SIZES]

    def sparse_encoder(backend: str, weight_type: str) -> list[Setting]:
        job = {"system": "sentence-transformers", "backend": backend, "st": str(models / "st")}
        return by_batch_size(sentence_transformers, weight_type, **job)

    fastembed_job = {"system": "fastembed", "fp32": str(fp32_of(folder, shape))}
    own_job = {**common, "system": "spladerunner", "bundle": str(bundle_of(folder, shape))}
    return {
        OWN: [Setting(f"{n} threads", own, "int8", {**own_job, "threads": n}) for n in range(cores, 0, -1)],
        "FastEmbed": [
            *by_batch_size(fastembed, "float32", **fastembed_job),
            Setting(
                f"batch 1, {cores} processes",
                fastembed,
                "float32",
                {**common, **fastembed_job, "batch": 1, "parallel": cores},
            ),
        ],
        "SPLADERunner 0.1.6": by_batch_size(
            splade_0_1, "float32", system="splade-0.1", splade_0_1=str(models / "splade-0.1")
        ),
        "sentence-transformers, torch": sparse_encoder("torch", "float32"),
        "sentence-transformers, ONNX int8": sparse_encoder("onnx", "int8"),
        "sentence-transformers, OpenVINO int8": sparse_encoder("openvino", "int8"),
        "optimum and onnxruntime, int8": by_batch_size(
            sentence_transformers, "int8", system="optimum", optimum=str(models / "optimum")
        ),
    }


def check_agreement(figures: Figures, weight_type: str) -> Figures:
    """Marks figures as failed if the vectors differ too much from the reference's."""
    if "failed" in figures or figures["mean_cosine"] >= LEAST_COSINE[weight_type]:
        return figures
    return {**figures, "failed": f"wrong: mean cosine with the reference {figures['mean_cosine']:.3f}"}


def measure(folder: Path, shape: str, cores: int) -> dict[str, Any]:
    """Sweep and rounds of one shape."""
    reference = write_reference(folder, shape, MIXED, MAX_LENGTH)
    best: dict[str, Setting] = {}
    sweep: dict[str, dict[str, Figures]] = {}
    for system, settings in settings_of_systems(folder, shape, cores).items():
        sweep[system] = {}
        for setting in settings:
            job = {**setting.job, "lists": [MIXED], "agree": reference}
            figures = check_agreement(run_job(setting.python, job), setting.weight_type)
            sweep[system][setting.name] = figures
            print(f"  {shape} {system} {setting.name}: {figures}", flush=True)
        speeds = {
            name: figures["docs_per_second"][MIXED]
            for name, figures in sweep[system].items()
            if "failed" not in figures
        }
        if speeds:
            fastest = max(speeds, key=lambda name: speeds[name])
            best[system] = next(setting for setting in settings if setting.name == fastest)
    result = {
        "sweep": sweep,
        "best": {system: setting.name for system, setting in best.items()},
        "rounds": measure_rounds({system: with_job(setting, agree=reference) for system, setting in best.items()}),
    }
    config = json.loads((checkpoint_of(folder, shape) / "config.json").read_text(encoding="utf-8"))
    if config["max_position_embeddings"] >= 512:
        reference = write_reference(folder, shape, LONG, 512)
        models = models_of(folder, shape)
        files = {"fp32": str(models / "fp32-512"), "splade_0_1": str(models / "splade-0.1-512")}
        result["long rounds"] = measure_rounds(
            {
                system: with_job(
                    setting,
                    agree=reference,
                    lists=[LONG],
                    max_length=512,
                    **{key: file for key, file in files.items() if key in setting.job},
                )
                for system, setting in best.items()
            }
        )
    return result


def write_reference(folder: Path, shape: str, texts: str, max_length: int) -> str:
    """Writes the vectors of these texts by the published formula in torch, and returns the file."""
    reference = str(models_of(folder, shape) / f"reference-{max_length}.npz")
    job = {"system": "reference", "texts": str(texts_file(folder)), "lists": [texts], "max_length": max_length}
    figures = run_job(
        python_of(folder, "sentence-transformers"),
        {**job, "checkpoint": str(checkpoint_of(folder, shape)), "save": reference},
    )
    assert "failed" not in figures, figures
    return reference


def with_job(setting: Setting, **changes: Any) -> Setting:
    """Copy of a setting with changed fields of its job."""
    return replace(setting, job={**setting.job, **changes})


def measure_rounds(settings: Mapping[str, Setting]) -> dict[str, list[Figures]]:
    """Five runs of each system, in turn."""
    rounds: dict[str, list[Figures]] = {system: [] for system in settings}
    for _ in range(ROUNDS):
        for system, setting in settings.items():
            rounds[system].append(check_agreement(run_job(setting.python, setting.job), setting.weight_type))
            print(f"  {system}: {rounds[system][-1]}", flush=True)
    return rounds


def report(shape: str, result: Mapping[str, Any]) -> str:
    """Tables of one shape: the rounds of each system, and the sweep; then the reasons of failures."""
    sweep: Mapping[str, Mapping[str, Figures]] = result["sweep"]
    systems = sorted(sweep, key=lambda system: system != OWN)
    own_speed = median_speed(result["rounds"][OWN], MIXED)
    head = [
        "system",
        "best setting",
        *KINDS,
        LONG,
        "spladerunner's speedup, mixed",
        "spread",
        "peak MB",
        "mean cosine",
    ]
    rows = []
    for system in systems:
        rounds = result["rounds"].get(system, list(sweep[system].values()))
        if failures_of(rounds):
            rows.append([system, FAILED, *[""] * (len(head) - 2)])
            continue
        long = result.get("long rounds", {}).get(system, [])
        rows.append(
            [
                system,
                result["best"][system],
                *(f"{median_speed(rounds, kind):.1f}" for kind in KINDS),
                FAILED if failures_of(long) else f"{median_speed(long, LONG):.1f}" if long else "",
                f"{own_speed / median_speed(rounds, MIXED):.1f}",
                f"{spread([figures['docs_per_second'][MIXED] for figures in rounds]):.0%}",
                f"{median(figures['peak_mb'] for figures in rounds):.0f}",
                f"{rounds[0]['mean_cosine']:.4f}",
            ]
        )
    settings = sorted({setting for found in sweep.values() for setting in found})
    swept = [[system, *(sweep_cell(sweep[system].get(setting)) for setting in settings)] for system in systems]
    tables = [
        f"### {shape}",
        markdown_table(head, rows),
        markdown_table(["documents a second, one run of each setting", *settings], swept),
    ]
    for system in systems:
        runs = [
            *sweep[system].values(),
            *result["rounds"].get(system, []),
            *result.get("long rounds", {}).get(system, []),
        ]
        tables += [f"{system} failed: {reason}" for reason in failures_of(runs)]
    return "\n\n".join(tables)


def median_speed(rounds: Sequence[Figures], kind: str) -> float:
    """Median of documents a second."""
    return median(float(figures["docs_per_second"][kind]) for figures in rounds)


def failures_of(runs: Sequence[Figures]) -> list[str]:
    """Reasons of failed runs, each once."""
    return sorted({figures["failed"] for figures in runs if "failed" in figures})


def sweep_cell(figures: Figures | None) -> str:
    """Speed of a setting in the sweep."""
    if figures is None:
        return ""
    return FAILED if "failed" in figures else f"{figures['docs_per_second'][MIXED]:.1f}"


def main() -> None:
    """Measures, saves the results and prints the tables."""
    parser = argument_parser(__doc__)
    parser.add_argument("shapes", metavar="SHAPE", nargs="*", help=f"default: {' '.join(SHAPES)}")
    arguments = parser.parse_args()
    folder, shapes = arguments.folder, arguments.shapes or SHAPES
    prepare(arguments.shared, folder, shapes)
    for shape in shapes:
        write_sentence_transformers_models(folder, shape)
    print(machine())
    for shape in shapes:
        result = measure(folder, shape, available_cores())
        save_result(f"throughput {shape}", result)
        print(f"\n{report(shape, result)}")


if __name__ == "__main__":
    main()

"""Documents a second of spladerunner and its peers, with the same weights on the same texts.

    python -m benchmarks.throughput SHARED FOLDER [SHAPE...]

For each shape: every setting of each system encodes each list of texts once to warm up and once for the sweep. The best
setting of a system for each list then runs in rounds, all systems in turn. Processes stay loaded, so the systems of
each precision run apart, each beside spladerunner, to fit into memory. A setting counts only if its vectors agree with
the checkpoint's formula in torch.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.environments import own_python, python_of
from benchmarks.harness import argument_parser, in_rounds, machine, markdown_table, run_job, save_result, spread
from benchmarks.origin import machine as this_machine
from benchmarks.workers import SystemFailedError, Workers
from benchmarks.workload import (
    MAX_LENGTH,
    SHAPES,
    bundle_of,
    checkpoint_of,
    fp32_of,
    models_of,
    onnx_int8,
    prepare,
    read_texts,
    texts_file,
    write_sentence_transformers_models,
)
from spladerunner.inference.cpu_count import available_cores

OWN = "spladerunner"
MIXED = "mixed"
KINDS = (MIXED, "short", "typical", "cut at 256")
LONG = "cut at 512"
"""Texts for models that accept 512 tokens, in processes of their own."""

TEXTS = {MIXED: 12, "short": 16, "typical": 8, "cut at 256": 4, LONG: 2}
SMALL = {"bert-tiny", "tiny-en"}
TEXTS_OF_SMALL = {MIXED: 24, "short": 32, "typical": 8, "cut at 256": 8, LONG: 4}
COPIES_FOR_SMALL = 4
"""Small models encode more texts, and copies of them, so that no time is shorter than a few hundredths of a second.
Their lists are multiples of the batch size, so that copies run in the same batches as the list."""

ROUNDS = {"bert-base": 5}
OTHER_ROUNDS = 3

LEAST_COSINE = {"float32": 0.9999, "bfloat16": 0.99, "int8": 0.95}
"""Least mean cosine with the reference, for all systems. int8 loses more with random weights than with trained ones."""

BFLOAT16: dict[str, dict[str, str]] = {"bfloat16": {"type": "bfloat16"}, "bfloat16 products": {"products": "medium"}}
"""Settings of torch on processors that have bfloat16."""

BATCH = 8
"""The batch size beside 1. Larger ones were slower for every system in every earlier sweep, but by padding alone."""

FAILED = "failed"

Job = dict[str, Any]
"""Job of systems.py."""

Figures = dict[str, Any]
"""Figures of a run, or {"failed": reason}."""


@dataclass(frozen=True)
class Setting:
    """Setting of a system: the Python that runs the job, the weight type of its model, and the number of processes."""

    name: str
    python: Path
    weight_type: str
    job: Job
    processes: int = 1


def settings_of_systems(folder: Path, shape: str, cores: int) -> dict[str, list[Setting]]:
    """Settings to try, by system. Each has a single process on all cores, and a process on each core."""
    models = models_of(folder, shape)
    sentence_transformers = python_of(folder, "sentence-transformers")
    flags = this_machine()["flags"]

    def settings(python: Path, weight_type: str, batches: Sequence[int] = (1, BATCH), **job: Any) -> list[Setting]:
        def named(name: str, batch: int, processes: int = 1) -> Setting:
            threads = cores if processes == 1 else 1
            whole = {"threads": threads, "max_length": MAX_LENGTH, **job, "batch": batch}
            return Setting(name, python, weight_type, whole, processes)

        by_batch = [named(f"batch {batch}", batch) for batch in batches]
        return [*by_batch, named(f"{cores} processes", 1, cores)] if cores > 1 else by_batch

    def sparse_encoder(backend: str, weight_type: str, **job: Any) -> list[Setting]:
        job = {"system": "sentence-transformers", "backend": backend, "st": str(models / "st"), **job}
        return settings(sentence_transformers, weight_type, **job)

    def torch(python: Path) -> list[Setting]:
        job: Job = {"system": "sentence-transformers", "backend": "torch", "st": str(models / "st")}
        found = settings(python, "float32", **job)
        if {"avx512_bf16", "amx_bf16"} & set(flags):
            found += [
                replace(each, name=f"{name}, {each.name}", weight_type="bfloat16", job={**each.job, **kind})
                for name, kind in BFLOAT16.items()
                for each in found
            ]
        return found

    queue = {"system": "openvino", "st": str(models / "st"), "max_length": MAX_LENGTH, "threads": cores}
    graph = {"graph": onnx_int8(flags)}
    return {
        OWN: [
            replace(each, name=each.name.replace("batch 1", f"{cores} threads"))
            for each in settings(
                own_python(folder), "int8", [1], system="spladerunner", bundle=str(bundle_of(folder, shape))
            )
        ],
        "FastEmbed": settings(
            python_of(folder, "fastembed"), "float32", system="fastembed", fp32=str(fp32_of(folder, shape))
        ),
        "SPLADERunner 0.1.6": settings(
            python_of(folder, "spladerunner-0.1"), "float32", system="splade-0.1", splade_0_1=str(models / "splade-0.1")
        ),
        "EmbedAnything, ONNX": settings(
            python_of(folder, "embed-anything"),
            "float32",
            [BATCH],
            system="embed-anything",
            fp32=str(fp32_of(folder, shape)),
        )[:1],
        "sentence-transformers 5, torch": torch(sentence_transformers),
        "sentence-transformers 6, torch": torch(python_of(folder, "sentence-transformers-6")),
        "sentence-transformers, ONNX int8": sparse_encoder("onnx", "int8", **graph),
        "sentence-transformers, OpenVINO int8": sparse_encoder("openvino", "int8"),
        "OpenVINO int8, its queue": [
            Setting(
                f"{streams} stream{'s' if streams > 1 else ''}",
                sentence_transformers,
                "int8",
                {**queue, "streams": streams},
            )
            for streams in sorted({1, cores})
        ],
        "optimum and onnxruntime, int8": settings(
            sentence_transformers, "int8", system="optimum", optimum=str(models / "optimum")
        ),
    }


def check_agreement(figures: Figures, weight_type: str) -> Figures:
    """Marks figures as failed if the vectors differ too much from the reference's."""
    if "failed" in figures or figures["mean_cosine"] >= LEAST_COSINE[weight_type]:
        return figures
    return {**figures, "failed": f"wrong: mean cosine with the reference {figures['mean_cosine']:.3f}"}


def measure(folder: Path, shape: str, cores: int) -> list[dict[str, Any]]:
    """Sweep and rounds of one shape, for the systems of each precision beside spladerunner.

    For texts of up to 256 tokens, then for those of 512 if the model accepts them.
    """
    counts, copies = (TEXTS_OF_SMALL, COPIES_FOR_SMALL) if shape in SMALL else (TEXTS, 1)
    texts = {kind: found[: counts[kind]] for kind, found in read_texts(folder).items() if kind in counts}
    settings = settings_of_systems(folder, shape, cores)
    reference = write_reference(folder, shape, MIXED, MAX_LENGTH)
    lists = {kind: texts[kind] for kind in KINDS}
    found = [
        measure_lists(group, lists, reference, copies, ROUNDS.get(shape, OTHER_ROUNDS)) for group in apart(settings)
    ]
    config = json.loads((checkpoint_of(folder, shape) / "config.json").read_text(encoding="utf-8"))
    if config["max_position_embeddings"] >= 512:
        models = models_of(folder, shape)
        files = {"fp32": str(models / "fp32-512"), "splade_0_1": str(models / "splade-0.1-512")}
        long = {
            system: [
                with_job(each, max_length=512, **{key: file for key, file in files.items() if key in each.job})
                for each in tried
                if each.job.get("batch", 1) == 1  # a padded batch of such texts is a gigabyte of logits
            ]
            for system, tried in settings.items()
        }
        reference = write_reference(folder, shape, LONG, 512)
        lists = {LONG: texts[LONG]}
        found += [measure_lists(group, lists, reference, copies, OTHER_ROUNDS) for group in apart(long)]
    return found


def apart(settings: Mapping[str, Sequence[Setting]]) -> list[dict[str, Sequence[Setting]]]:
    """The float32 systems and the int8 systems, each group with spladerunner."""
    own = {OWN: settings[OWN]}
    int8 = {system: tried for system, tried in settings.items() if any(each.weight_type == "int8" for each in tried)}
    return [own | {system: tried for system, tried in settings.items() if system not in int8}, own | int8]


def measure_lists(
    settings: Mapping[str, Sequence[Setting]],
    lists: Mapping[str, Sequence[str]],
    reference: str,
    copies: int,
    rounds: int,
) -> dict[str, Any]:
    """Figures of a sweep over all settings, and of rounds with the best setting of a system for each list.

    The first list is compared with the reference.
    """
    sweep: dict[str, dict[str, Figures]] = {}
    timed = {kind: list(texts) * copies for kind, texts in lists.items()}
    with ExitStack() as stack:
        calls = {}
        for system, tried in settings.items():
            sweep[system] = {}
            running: dict[str, Workers] = {}
            for setting in tried:
                figures, workers = sweep_setting(setting, lists, timed, reference)
                sweep[system][setting.name] = figures
                print(f"  {system}, {setting.name}: {figures}", flush=True)
                if workers:
                    running[setting.name] = stack.enter_context(workers)
            best = {kind: name for kind in lists if (name := best_setting(sweep[system], kind))}
            for name in running.keys() - set(best.values()):
                running[name].close()
            for kind, name in best.items():
                calls[f"{system}|{name}|{kind}"] = partial(running[name].seconds, timed[kind])
        measured = in_rounds(calls, rounds)
    return {"texts": {kind: len(texts) for kind, texts in timed.items()}, "sweep": sweep, "rounds": nested(measured)}


def sweep_setting(
    setting: Setting, lists: Mapping[str, Sequence[str]], timed: Mapping[str, Sequence[str]], reference: str
) -> tuple[Figures, Workers | None]:
    """Figures of a setting after a warm-up with every list, and its processes unless they failed."""
    workers = None
    try:
        workers = Workers(setting.python, setting.job, setting.processes)
        first, *others = lists.values()
        cosines = workers.encode(first, reference).cosines
        for texts in others:
            workers.encode(texts)
        figures = check_agreement({"mean_cosine": float(np.mean(cosines))}, setting.weight_type)
        if "failed" not in figures:
            figures["seconds"] = {kind: workers.seconds(texts) for kind, texts in timed.items()}
            return {**figures, "peak_mb": workers.peak_mb, "load_seconds": workers.load_seconds}, workers
    except SystemFailedError as error:
        figures = {"failed": str(error)}
    if workers:
        workers.close()
    return figures, None


def best_setting(sweep: Mapping[str, Figures], kind: str) -> str | None:
    """The fastest setting of a system for a list; None if all failed."""
    seconds = {name: figures["seconds"][kind] for name, figures in sweep.items() if "failed" not in figures}
    return min(seconds, key=lambda name: seconds[name]) if seconds else None


def nested(rounds: Mapping[str, Sequence[float]]) -> dict[str, dict[str, dict[str, Any]]]:
    """Rounds by system, then by list: the setting, and seconds."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for name, seconds in rounds.items():
        system, setting, kind = name.split("|")
        found.setdefault(system, {})[kind] = {"setting": setting, "seconds": list(seconds)}
    return found


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


def speeds(result: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, list[float]]]:
    """Documents a second in each round, by system and list; spladerunner's from beside both groups of systems."""
    found: dict[str, dict[str, list[float]]] = {}
    for part in result:
        for system, rounds in part["rounds"].items():
            for kind, measured in rounds.items():
                rates = [part["texts"][kind] / seconds for seconds in measured["seconds"]]
                found.setdefault(system, {}).setdefault(kind, []).extend(rates)
    return found


def ratios(result: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Speed of spladerunner divided by that of each system, for each list of texts, from medians of the same rounds."""
    found: dict[str, dict[str, float]] = {}
    for part in result:
        own = part["rounds"][OWN]
        for system, rounds in part["rounds"].items():
            for kind, measured in rounds.items():
                ratio = median(measured["seconds"]) / median(own[kind]["seconds"])
                found.setdefault(system, {})[kind] = ratio
    return found


def setting_of(result: Sequence[Mapping[str, Any]], system: str, kind: str = MIXED) -> str:
    """The setting that ran in rounds; "" if all settings failed."""
    return next(
        (part["rounds"][system][kind]["setting"] for part in result if kind in part["rounds"].get(system, {})), ""
    )


def best_figures(result: Sequence[Mapping[str, Any]], system: str, kind: str = MIXED) -> Figures | None:
    """Figures in the sweep of the setting that ran in rounds; None if all settings failed."""
    for part in result:
        if measured := part["rounds"].get(system, {}).get(kind):
            figures: Figures = part["sweep"][system][measured["setting"]]
            return figures
    return None


def systems_of(result: Sequence[Mapping[str, Any]]) -> list[str]:
    """The systems, spladerunner first."""
    found = dict.fromkeys(system for part in result for system in part["sweep"])
    return sorted(found, key=lambda system: system != OWN)


def report(shape: str, result: Sequence[Mapping[str, Any]]) -> str:
    """Tables of one shape: documents a second, spladerunner's speedup, settings and the sweep; and failures."""
    systems, kinds = systems_of(result), kinds_of(result)
    setting_rows, sweep_rows = [], []
    for system in systems:
        settings = {
            kind: measured["setting"] for part in result for kind, measured in part["rounds"].get(system, {}).items()
        }
        setting_rows.append([system, *(settings.get(kind, "") for kind in kinds)])
        sweep_rows += list(rows_of_sweep(result, system, kinds))
    tables = [
        f"### {shape}",
        *summary(result),
        markdown_table(["best setting", *kinds], setting_rows),
        markdown_table(["documents a second in the sweep, one run", "setting", *kinds], sweep_rows),
        *(f"{system} failed: {why}" for system in systems for why in failures(result, system)),
    ]
    return "\n\n".join(tables)


def summary(result: Sequence[Mapping[str, Any]]) -> tuple[str, str]:
    """Tables of the rounds: documents a second of each system, and spladerunner's speedup."""
    rates, faster, kinds = speeds(result), ratios(result), kinds_of(result)
    speed_rows, ratio_rows = [], []
    for system in systems_of(result):
        found = {kind: median(each) for kind, each in rates.get(system, {}).items()}
        best = best_figures(result, system)
        figures = [f"{best['peak_mb']:.0f}", f"{best['mean_cosine']:.4f}"] if best else ["", ""]
        spreads = f"{max(map(spread, rates[system].values())):.0%}" if found else ""
        speed_rows.append(
            [system, *(number(found[kind]) if kind in found else FAILED for kind in kinds), spreads, *figures]
        )
        if system != OWN:
            ratio_rows.append([system, *(f"{faster[system][kind]:.2f}" if kind in found else "" for kind in kinds)])
    return (
        markdown_table(["documents a second", *kinds, "largest spread", "peak MB", "mean cosine"], speed_rows),
        markdown_table(["spladerunner is × as fast as", *kinds], ratio_rows),
    )


def kinds_of(result: Sequence[Mapping[str, Any]]) -> list[str]:
    """The kinds of texts that were measured."""
    return [kind for kind in (*KINDS, LONG) if any(kind in part["texts"] for part in result)]


def rows_of_sweep(result: Sequence[Mapping[str, Any]], system: str, kinds: Sequence[str]) -> Iterator[list[str]]:
    """Documents a second of each setting of a system."""
    names = dict.fromkeys(name for part in result for name in part["sweep"].get(system, {}))
    for setting in names:
        cells = dict.fromkeys(kinds, "")
        for part in result:
            figures = part["sweep"].get(system, {}).get(setting)
            for kind, texts in part["texts"].items() if figures else ():
                cells[kind] = FAILED if "failed" in figures else number(texts / figures["seconds"][kind])
        yield [system, setting, *cells.values()]


def failures(result: Sequence[Mapping[str, Any]], system: str) -> list[str]:
    """Reasons of the failed settings of a system, each once."""
    return failures_of([figures for part in result for figures in part["sweep"].get(system, {}).values()])


def failures_of(runs: Sequence[Figures]) -> list[str]:
    """Reasons of failed runs, each once."""
    return sorted({figures["failed"] for figures in runs if "failed" in figures})


def median_speed(rounds: Sequence[Figures], kind: str) -> float:
    """Median of documents a second of runs of systems.py."""
    return median(float(figures["docs_per_second"][kind]) for figures in rounds)


def number(rate: float) -> str:
    """A rate with three figures or more.

    >>> number(4.567), number(123.4)
    ('4.57', '123')
    """
    return f"{rate:.2f}" if rate < 10 else f"{rate:.1f}" if rate < 100 else f"{rate:.0f}"


def record_name(shape: str, machine: str | None = None) -> str:
    """Name of the record of a shape. machine: the name of another machine than the first.

    >>> record_name("bert-base"), record_name("bert-base", "AMX")
    ('throughput bert-base', 'throughput bert-base on AMX')
    """
    return f"throughput {shape} on {machine}" if machine else f"throughput {shape}"


def main() -> None:
    """Measures, saves the results and prints the tables."""
    parser = argument_parser(__doc__)
    parser.add_argument("shapes", metavar="SHAPE", nargs="*", help=f"default: {' '.join(SHAPES)}")
    parser.add_argument(
        "--machine", metavar="NAME", help="keep the records of the first machine, and add those of this one by name"
    )
    arguments = parser.parse_args()
    folder, shapes = arguments.folder, arguments.shapes or SHAPES
    prepare(arguments.shared, folder, shapes)
    for shape in shapes:
        write_sentence_transformers_models(folder, shape)
    print(machine())
    for shape in shapes:
        result = measure(folder, shape, available_cores())
        save_result(record_name(shape, arguments.machine), result)
        print(f"\n{report(shape, result)}")


if __name__ == "__main__":
    main()

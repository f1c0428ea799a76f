"""Writes every table, and every sentence with a measured figure, of README.md, benchmarks/ and docs/ from the records.

    python -m benchmarks.tables

Rewrites what stands between `<!-- figures: NAME -->` and `<!-- end -->`.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import (
    callers,
    cold_start,
    gpu,
    latency,
    long_texts,
    memory,
    pace,
    scale,
    scaling,
    size,
    throughput,
    vocabulary,
    windows,
)
from benchmarks.harness import LAB_RESULTS, RESULTS, markdown_table, spread
from benchmarks.lab import invariance, levers, share
from benchmarks.origin import PROJECT, describe
from benchmarks.throughput import MIXED, OWN
from benchmarks.workload import SHAPES
from spladerunner.atomic_file import write_atomically

Records = Mapping[str, Mapping[str, Any]]

MARKED = re.compile(r"(<!-- figures: ([^>]+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)

FLOATS = frozenset(
    {
        "FastEmbed",
        "SPLADERunner 0.1.6",
        "EmbedAnything, ONNX",
        "sentence-transformers 5, torch",
        "sentence-transformers 6, torch",
    }
)
"""Systems that run in float32, or in bfloat16 if the setting says so; the others in int8, as their names say."""

STARTS = {
    OWN: "BERT-base int8",
    "FastEmbed": "BERT-base, FastEmbed",
    "SPLADERunner 0.1.6": "BERT-base, SPLADERunner 0.1.6",
    "sentence-transformers 5, torch": "BERT-base, sentence-transformers on torch",
}
"""Systems whose start is measured, and its row."""


@dataclass(frozen=True)
class Block:
    """Part of a page, and the records that it is computed from."""

    records: tuple[str, ...]
    text: Callable[[Records], str]

    def missing(self, records: Records) -> list[str]:
        """Records that are missing."""
        return [name for name in self.records if name not in records]


def result(records: Records, name: str) -> Any:
    """Samples of a record."""
    return records[name]["result"]


def versions(records: Records, name: str, *packages: str) -> str:
    """Versions of packages in the environments of a record."""
    found: dict[str, set[str]] = {package: set() for package in packages}
    for environment in records[name]["versions"].values():
        for package in packages:
            found[package] |= {environment[package]} if package in environment else set()
    return ", ".join(f"{package} {' and '.join(sorted(each))}" for package, each in found.items() if each)


def paces(record: Mapping[str, Any]) -> str:
    """The pace of the machine beside the rounds of a record."""
    rounds = record["pace"]["rounds"]
    if not rounds:
        return ""
    kept = [seconds for seconds, was_kept in rounds if was_kept]
    fastest = min(seconds for seconds, _ in rounds)
    disturbed = sum(pace.disturbed(each, fastest) for each in kept)
    again = len(rounds) - len(kept)
    parts = [f"{median(kept) * 1e3:.0f} ms, spread {spread(kept):.0%}"]
    parts += [f"{again} rounds measured again"] if again else []
    parts += [f"{disturbed} of {len(kept)} rounds disturbed"] if disturbed else []
    return "; ".join(parts)


def origins(records: Records) -> str:
    """Command, commit, machine, day and pace of each record."""
    rows = []
    for name, record in sorted(records.items()):
        commit = f"{record['commit'][:10]}{'' if record['clean'] else ' and changes'}" if record["commit"] else ""
        day = record["time"][:16].replace("T", " ")
        rows.append([name, f"`{record['command']}`", commit, day, paces(record)])
    places = sorted({place(record) for record in records.values()})
    return "\n\n".join(
        [
            "Machines: " + "; ".join(places) + ".",
            markdown_table(["record", "command", "commit", "time (UTC)", "pace beside its rounds"], rows),
        ]
    )


def place(record: Mapping[str, Any]) -> str:
    """The machine of a record in words."""
    return f"{describe(record['machine'])}, kernel {record['machine']['kernel']}"


def headline(records: Records) -> str:
    """The table of the README: BERT-base, texts of mixed lengths."""
    record = records["throughput bert-base"]
    measured = record["result"]
    rates, ratios = throughput.speeds(measured), throughput.ratios(measured)
    starts = result(records, "cold start")["processes"]
    rows = []
    for system in throughput.systems_of(measured):
        setting, best = throughput.setting_of(measured, system), throughput.best_figures(measured, system)
        title = titled(system, setting)
        if not best:
            rows.append([title, "failed", "", "", "", ""])
            continue
        speed = throughput.number(median(rates[system][MIXED]))
        start = f"{median(starts[STARTS[system]]) * 1e3:.0f}" if system in STARTS else ""
        spreads = f"{spread(rates[system][MIXED]):.0%}"
        rows.append([title, speed, spreads, f"{ratios[system][MIXED]:.2f}", f"{best['peak_mb']:.0f}", start])
    head = ["", "documents a second", "spread", "spladerunner is × as fast", "peak MB", "start to first expansion, ms"]
    return "\n\n".join(
        [
            f"BERT-base of random weights, SciFact texts of mixed lengths, {describe(record['machine'])}, each system "
            f"at the best setting that a sweep found, {throughput.ROUNDS['bert-base']} rounds in turn, medians.",
            markdown_table(head, rows),
            peers_ahead(records),
        ]
    )


def titled(system: str, setting: str) -> str:
    """Name of a system with the type of its weights.

    >>> titled("FastEmbed", "batch 1"), titled("sentence-transformers 5, torch", "bfloat16, batch 8")
    ('FastEmbed, float32', 'sentence-transformers 5, torch, bfloat16')
    """
    if system in FLOATS:
        return f"{system}, {'bfloat16' if setting.startswith('bfloat16') else 'float32'}"
    return f"{system}, int8" if system == OWN else system


def machines(records: Records) -> list[str | None]:
    """The machines whose throughput was measured: None for the first, then the names of the others."""
    first = throughput.record_name(SHAPES[0])
    named = (name.removeprefix(f"{first} on ") for name in records if name.startswith(f"{first} on "))
    return [None, *sorted(named)]


def peers_ahead(records: Records) -> str:
    """The peers that were faster than spladerunner on each machine, with model and texts."""
    lines = []
    for at in machines(records):
        ahead: dict[str, list[str]] = {}
        measured = throughputs(records, at)
        for shape, record in measured.items():
            for system, kinds in throughput.ratios(record["result"]).items():
                faster = [f"{shape} {kind} ({1 / ratio:.2f})" for kind, ratio in kinds.items() if ratio < 1]
                ahead.setdefault(system, []).extend(faster)
        found = "; ".join(f"{system}: {', '.join(cases)}" for system, cases in ahead.items() if cases)
        machine = describe(measured[SHAPES[0]]["machine"])
        left_out = [shape for shape in SHAPES if shape not in measured]
        note = f" ({', '.join(left_out)} not measured)" if left_out else ""
        lines.append(f"- {machine}{note}: {found or 'none'}.")
    return "\n".join(["Peers that were ahead, with model and texts, and how many times as fast they were:", "", *lines])


def throughputs(records: Records, at: str | None) -> dict[str, Mapping[str, Any]]:
    """Records of the throughput of each shape that was measured on a machine."""
    names = {shape: throughput.record_name(shape, at) for shape in SHAPES}
    return {shape: records[name] for shape, name in names.items() if name in records}


def other_machines(records: Records) -> str:
    """Speed of spladerunner, and its speedup, on the machines other than the first."""
    parts = []
    for at in filter(None, machines(records)):
        measured = throughputs(records, at)
        parts.append(f"### {at}\n\n{describe(measured[SHAPES[0]]['machine'])}.")
        for shape, record in measured.items():
            parts += [f"{shape}:", *throughput.summary(record["result"])]
    return "\n\n".join(parts)


def goals(records: Records) -> str:
    """Each goal, what was measured, and whether it was met."""
    base = throughput.ratios(result(records, "throughput bert-base"))
    starts = result(records, "cold start")["processes"]
    bare = median(starts[cold_start.PROCESSES[0]])
    machine_share = result(records, "share of the machine's int8 products")

    def against(peer: str, least: float) -> tuple[str, str, bool]:
        goal = f"BERT-base, mixed lengths: {least:g} × {peer}"
        if MIXED not in base.get(peer, {}):
            return goal, "failed", False
        ratio = base[peer][MIXED]
        return goal, f"{ratio:.2f}", ratio >= least

    def start(row: str, most: float) -> tuple[str, str, bool]:
        ratio = median(starts[row]) / bare
        return f"start, {row}: at most {most:g} × the import of its libraries", f"{ratio:.2f}", ratio <= most

    def peak(name: str, most: float) -> tuple[str, str, bool]:
        measured = median(max(round_.values()) for round_ in result(records, "memory")[name])
        return f"peak memory, {name}: at most {most:.0f} MB", f"{measured:.1f} MB", measured <= most

    def flat(name: str) -> tuple[str, str, bool]:
        grown = median(max(round_.values()) / round_["1000"] - 1 for round_ in result(records, "memory")[name])
        return f"peak memory, {name}: within 1 % after 1,000 documents", f"{grown:.1%}", grown <= 0.01

    installed = sum(result(records, "size")["installed"][size.OWN].values())
    reached = median(machine_share["documents"]) / median(machine_share["product"])
    rows: list[tuple[str, str, bool]] = [
        against("FastEmbed", 4),
        against("FastEmbed", 3),
        against("SPLADERunner 0.1.6", 3),
        against("sentence-transformers 5, torch", 3),
        against("sentence-transformers, ONNX int8", 1.3),
        against("sentence-transformers, OpenVINO int8", 1),
        ("BERT-base, 128 tokens: 70 % of the machine's int8 products", f"{reached:.0%}", reached >= 0.7),
        start("embedded pair, a document", 1.3),
        start("BERT-base int8", 2),
        peak("embedded pair", 150),
        peak("BERT-base int8", 450),
        flat("embedded pair"),
        ("installation: at most 190 MB", f"{installed:.0f} MB", installed <= 190),
    ]
    return markdown_table(["goal", "measured", ""], [[*row[:2], "met" if row[2] else "missed"] for row in rows])


def lever_summary(records: Records) -> str:
    """Table of the levers: the gain of each over all lengths and models, and the decision."""
    measured = {shape: result(records, f"levers {shape}") for shape in levers.SHAPES}

    def gains(variant: str, shapes: Sequence[str] = levers.SHAPES) -> list[float]:
        found = [measured[shape][0] for shape in shapes]
        return [
            median(seconds[levers.BASE][length]) / median(seconds[variant][length])
            for seconds in found
            for length in seconds[variant]
        ]

    def between(values: Sequence[float]) -> str:
        return f"{min(values):.2f} to {max(values):.2f}"

    def lost(variant: str) -> str:
        """Gain of the first graph, over a variant without a lever."""
        return between([1 / gain for gain in gains(variant)])

    alone = result(records, "invariance")["speeds"]
    names = invariance.variants(2)
    batch = median(alone[names[0]]) / median(alone[names[2]])
    token_scales = median(alone[names[4]]) / median(alone[names[0]])
    opening = [opened["not optimized at export"] - opened[levers.BASE] for _, _, opened in measured.values()]
    skipped = result(records, "tiles that a lower bound skips")
    tiles = levers.VARIANTS[-2]
    narrow, wide = levers.SHAPES[1:], levers.SHAPES[:1]
    rows = [
        ["exact products only where fast ones saturate", lost("products told to be exact everywhere"), "kept"],
        ["one text a run, against padded batches of 8 (below)", f"{batch:.2f}", "kept; exact, too"],
        ["sums and layer normalizations left apart", lost("sums fused with layer normalization"), "kept"],
        ["one matrix as rows for embedding and decoder", lost("embedding looked up in the decoder's columns"), "kept"],
        ["attention as one operator, without its mask", lost("attention in separate operators, with its mask"), "kept"],
        ["graph optimized at export", f"{between(opening)} s less to open", "kept"],
        [f"decoder as rows, {' and '.join(narrow)}", between(gains(levers.ROWS, narrow)), "kept"],
        [f"decoder as rows, {' and '.join(wide)}", between(gains(levers.ROWS, wide)), "not kept"],
        [
            "pooling of one product inside the graph",
            between(gains("pooling inside")),
            "not kept: slower than NumPy's maximum",
        ],
        [
            "scale and bias after the maximum of one product",
            between(gains("pooling inside, scale and bias after it")),
            "not kept",
        ],
        ["vocabulary of one product in tiles of columns", between(gains(tiles)), "not kept"],
        ["a scale for each token", f"{token_scales:.2f}", "not kept"],
        ["a lower bound that skips tiles", f"skips {skipped:.0%} of the trained model's", "not kept"],
    ]
    return markdown_table(["lever", "speed with it, of that without", ""], rows)


def report(name: str, write: Callable[[Any], str]) -> Block:
    """Block with the report of one record."""
    return Block((name,), lambda records: write(result(records, name)))


THROUGHPUTS = tuple(map(throughput.record_name, SHAPES))
LEVERS = tuple(f"levers {shape}" for shape in levers.SHAPES)
SHARE = "share of the machine's int8 products"
BLOCKS: Mapping[str, Block] = {
    "headline": Block((*THROUGHPUTS, "cold start"), headline),
    "goals": Block(("throughput bert-base", "cold start", "memory", "size", SHARE), goals),
    **{f"throughput {shape}": report(f"throughput {shape}", partial(throughput.report, shape)) for shape in SHAPES},
    "peers ahead": Block(THROUGHPUTS, peers_ahead),
    "other machines": Block(THROUGHPUTS, other_machines),
    "cold start": report("cold start", cold_start.report),
    "latency": report("latency", latency.report),
    "memory": report("memory", memory.report),
    "long texts": report("long texts", long_texts.report),
    "callers": report("callers", callers.report),
    "scaling": report("scaling", scaling.report),
    "installed": report("size", lambda found: size.report(found["installed"])),
    "graphs": report("size", lambda found: size.report_graphs(found["graphs"])),
    "scale": report("scale", scale.report),
    "vocabulary": report("vocabulary", vocabulary.report),
    "windows": report("windows", windows.report),
    **{f"gpu {shape}": report(f"gpu {shape}", partial(gpu.report, shape)) for shape in gpu.SHAPES},
    **{f"levers {shape}": report(f"levers {shape}", partial(levers.report, shape)) for shape in levers.SHAPES},
    "levers": Block((*LEVERS, "invariance", "tiles that a lower bound skips"), lever_summary),
    "invariance": report("invariance", partial(invariance.report, cores=2)),
    "share": report(SHARE, share.report),
    "origins": Block((), origins),
}
PAGES = (
    "README.md",
    "benchmarks/README.md",
    "benchmarks/lab/README.md",
    "docs/design.md",
    "docs/guide/encode.md",
    "docs/guide/export.md",
)


def read_records() -> dict[str, Any]:
    """All records by name."""
    return {
        name: record
        for path in (RESULTS, LAB_RESULTS)
        for name, record in json.loads(path.read_text(encoding="utf-8")).items()
    }


def marked(page: str) -> Iterator[str]:
    """Names of the blocks of a page's text, in order."""
    return (match[2] for match in MARKED.finditer(page))


def rewrite(page: str, records: Records) -> str:
    """The text of a page with its blocks computed again, except those whose records are missing."""

    def block(match: re.Match[str]) -> str:
        found = BLOCKS[match[2]]
        return match[0] if found.missing(records) else f"{match[1]}\n{found.text(records)}\n\n{match[4]}"

    return MARKED.sub(block, page)


def main() -> None:
    """Rewrites the pages."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    records = read_records()
    for name in PAGES:
        path: Path = PROJECT / name
        page = path.read_text(encoding="utf-8")
        write_atomically(path, rewrite(page, records))
        for block in marked(page):
            missing = BLOCKS[block].missing(records)
            print(f"{name}, {block}: {'left as it was, without ' + ', '.join(missing) if missing else 'computed'}")


if __name__ == "__main__":
    main()

"""The steps in their order: convert, optimize, quantize, share the table, verify, and the bundle is there or is not."""

from __future__ import annotations

import json
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from spladerunner.bundle import MANIFEST, ROLES, SCHEMA, TOKENIZER, RoleName, file_record
from spladerunner.errors import CheckpointError, VerificationError
from spladerunner.expander import Expander
from spladerunner.tokenizer import Tokenizer

from .card import card
from .checkpoint import Checkpoint
from .convert import convert
from .optimize import optimize
from .quantize import quantize
from .share_table import share_table
from .verify import Agreement, measure, verification_texts

Progress = Callable[[str], None]


def export_bundle(
    doc: str | os.PathLike[str],
    output: str | os.PathLike[str],
    query: str | os.PathLike[str] | None = None,
    *,
    name: str | None = None,
    licence: str | None = None,
    accept_drift: bool = False,
    progress: Progress | None = None,
) -> Path:
    """Makes a bundle of a document checkpoint and, where the model is a pair, a query checkpoint.

    output: the bundle's folder, which must not exist. It appears whole, or not at all.
    name, licence: what manifest and card say; unless given, the folder's name and "unknown".
    accept_drift: keep a bundle that falls short in verification, with the shortfalls in its manifest.
    progress: called with a line for each step done.

    Raises CheckpointError where a checkpoint cannot be exported, two vocabularies differ, or the output exists;
    VerificationError where the vectors stray too far from the checkpoint's.
    """
    output = Path(output)
    progress = progress or _silent
    if output.exists() or output.is_symlink():
        raise CheckpointError(f"{output} exists already. Remove it, or give another folder.")
    output.parent.mkdir(parents=True, exist_ok=True)
    sources: dict[RoleName, Path] = {"doc": Path(doc)}
    if query is not None:
        sources["query"] = Path(query)
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=f".{output.name}.") as scratch:
        bundle = Path(scratch) / "bundle"
        bundle.mkdir()
        exporter = _Exporter(sources, bundle, Path(scratch), progress)
        manifest = exporter.run(name or output.name, licence or "unknown")
        shortfalls = [f"{role}: {text}" for role, found in exporter.agreements.items() for text in found.shortfalls()]
        if shortfalls and not accept_drift:
            raise VerificationError(
                f"The bundle strays too far from {', '.join(map(str, sources.values()))}: {'; '.join(shortfalls)}. "
                "No bundle was written; --accept-drift keeps one like this, with a warning in its manifest."
            )
        for shortfall in shortfalls:
            progress(f"warning: {shortfall}")
        manifest["verification"]["shortfalls"] = shortfalls
        manifest["made_by"]["command"] = _command(sources, output, name, licence, accept_drift)
        (bundle / "README.md").write_text(card(manifest), encoding="utf-8")
        _write_manifest(bundle, manifest)
        bundle.rename(output)
    progress(f"{output}  {_megabytes(sum(path.stat().st_size for path in output.iterdir()))}")
    return output


class _Exporter:
    """One export under way: what the steps share."""

    def __init__(self, sources: dict[RoleName, Path], bundle: Path, scratch: Path, progress: Progress) -> None:
        self.agreements: dict[RoleName, Agreement] = {}
        self._bundle = bundle
        self._scratch = scratch
        self._progress = progress
        self._sources = sources
        self._checkpoints: dict[RoleName, Checkpoint] = {}
        self._sizes: dict[RoleName, int] = {}

    def run(self, name: str, licence: str) -> dict[str, Any]:
        for role, folder in self._sources.items():
            with self._step("read", role):
                self._checkpoints[role] = Checkpoint(folder)
        vocabulary = self._save_tokenizer().vocabulary
        for role, checkpoint in self._checkpoints.items():
            self._make_graph(role, checkpoint, len(vocabulary))
        graph_of = {role: role if role in self._checkpoints else "doc" for role in ROLES}
        manifest: dict[str, Any] = {
            "schema": SCHEMA,
            "name": name,
            "licence": licence,
            "roles": {
                role: {
                    "graph": f"{graph_of[role]}.onnx",
                    "max_length": self._checkpoints[graph_of[role]].max_length,
                    "checkpoint": "/".join(self._sources[graph_of[role]].resolve().parts[-2:]),
                    "checkpoint_weights": self._checkpoints[graph_of[role]].weights,
                }
                for role in ROLES
            },
            "pooling": "max",
            "activation": "log1p_relu",
            "vocabulary": {"size": len(vocabulary), "sha256": vocabulary.sha256()},
            "weight_type": "int8",
        }
        _write_manifest(self._bundle, manifest)
        for role, checkpoint in self._checkpoints.items():
            self.agreements[role] = self._verify(role, checkpoint)
        manifest["verification"] = {
            "machine": f"{platform.machine()}, {os.cpu_count()} cores",
            **{
                role: {"fp32_bytes": self._sizes[role], **asdict(agreement)}
                for role, agreement in self.agreements.items()
            },
        }
        manifest["made_by"] = {
            "versions": {
                package: version(package)
                for package in ("spladerunner", "onnxruntime", "onnx", "optimum-onnx", "transformers", "torch")
            }
        }
        return manifest

    def _save_tokenizer(self) -> Tokenizer:
        saved: dict[RoleName, Tokenizer] = {}
        for role, checkpoint in self._checkpoints.items():
            path = self._scratch / f"{role}-{TOKENIZER}"
            checkpoint.save_tokenizer(path)
            saved[role] = Tokenizer(path)
        first, *others = saved.values()
        for other in others:
            mine, theirs = first.vocabulary.tokens, other.vocabulary.tokens
            if mine != theirs:
                at = next(
                    (i for i, pair in enumerate(zip(mine, theirs, strict=False)) if pair[0] != pair[1]), len(mine)
                )
                raise CheckpointError(
                    f"{self._sources['doc']} and {self._sources['query']} cannot be paired: their vocabularies have "
                    f"{len(mine)} and {len(theirs)} tokens and differ from position {at} on."
                )
        shutil.copyfile(self._scratch / f"doc-{TOKENIZER}", self._bundle / TOKENIZER)
        return first

    def _make_graph(self, role: RoleName, checkpoint: Checkpoint, vocabulary_size: int) -> None:
        fp32 = self._scratch / f"{role}-fp32"
        with self._step("convert", role) as made:
            made.append(convert(checkpoint.folder, fp32, vocabulary_size))
        self._sizes[role] = made[0].stat().st_size
        with self._step("optimize", role) as made:
            made.append(optimize(fp32 / "model.onnx", self._scratch / f"{role}-optimized.onnx"))
        with self._step("quantize", role) as made:
            made.append(quantize(made_from := self._scratch / f"{role}-optimized.onnx", made_from.with_suffix(".int8")))
        with self._step("share table", role) as made:
            made.append(self._bundle / f"{role}.onnx")
            share_table(made_from.with_suffix(".int8"), made[0])

    def _verify(self, role: RoleName, checkpoint: Checkpoint) -> Agreement:
        texts = verification_texts()
        with self._step("verify", role):
            agreement = measure(
                texts,
                checkpoint.weights_of(texts, checkpoint.max_length),
                Expander(self._scratch / f"{role}-fp32", checkpoint.max_length, threads=1),
                Expander(self._bundle, threads=1),
                role,
            )
        self._progress(
            f"  {agreement.texts} texts: cosine worst {agreement.worst_cosine:.4f}, mean {agreement.mean_cosine:.5f}; "
            f"shared top-20 {agreement.mean_shared_top20:.1%}; {agreement.mean_weights:.0f} weights a text; "
            f"{agreement.fp32_ms:.1f} ms a text in float32, {agreement.int8_ms:.1f} in int8"
        )
        return agreement

    @contextmanager
    def _step(self, label: str, role: RoleName) -> Iterator[list[Path]]:
        """Times a step; a file that it puts into the list is reported with its size."""
        made: list[Path] = []
        started = time.perf_counter()
        yield made
        size = _megabytes(made[0].stat().st_size) if made else ""
        self._progress(f"{label:<12} {role:<6} {size:>9} {time.perf_counter() - started:6.1f} s")


def _write_manifest(bundle: Path, manifest: dict[str, Any]) -> None:
    """The manifest, with the record of every other file in the folder."""
    files = {path.name: file_record(path) for path in sorted(bundle.iterdir()) if path.name != MANIFEST}
    text = json.dumps({**manifest, "files": files}, indent=2, ensure_ascii=False)
    (bundle / MANIFEST).write_text(text + "\n", encoding="utf-8")


def _command(
    sources: dict[RoleName, Path], output: Path, name: str | None, licence: str | None, accept_drift: bool
) -> str:
    words = ["spladerunner export"]
    words += [f"--{role} {'/'.join(folder.resolve().parts[-2:])}" for role, folder in sources.items()]
    words += [f"-o {'/'.join(output.resolve().parts[-2:])}"]
    words += [f"--name {name}"] if name else []
    words += [f"--licence {licence}"] if licence else []
    words += ["--accept-drift"] if accept_drift else []
    return " ".join(words)


def _silent(_: str) -> None:
    pass


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"

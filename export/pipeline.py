"""From checkpoints to a bundle that is there whole, and verified, or is not there."""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from spladerunner.errors import CheckpointError, VerificationError
from spladerunner.expander import Expander
from spladerunner.export.card import card
from spladerunner.export.checkpoint import Checkpoint
from spladerunner.export.graphs import Graphs
from spladerunner.export.manifest import tool_versions, write_manifest
from spladerunner.export.options import ExportOptions, Target
from spladerunner.export.progress import Progress, megabytes, step
from spladerunner.export.roles import open_roles
from spladerunner.export.source import Source
from spladerunner.export.token_weights import Table
from spladerunner.export.verify import (
    Agreement,
    TokenWeightsAgreement,
    measure,
    measure_token_weights,
    verification_texts,
)
from spladerunner.inference.tokenizer import Tokenizer
from spladerunner.model.bundle import TOKENIZER
from spladerunner.model.manifest import ROLES, RoleName
from spladerunner.vocabulary import Vocabulary

_WEIGHT_TYPES = {"cpu": "int8", "cuda": "float16"}


def build_bundle(options: ExportOptions, progress: Progress) -> Path:
    """Builds a verified bundle atomically; spladerunner.export.export_bundle documents it."""
    output = Path(options.output)
    if output.exists() or output.is_symlink():
        raise CheckpointError(f"{output} exists already. Remove it, or give another folder.")
    sources: dict[RoleName, Source] = {"doc": Source.open(str(options.doc), allow_pickle=options.allow_pickle)}
    if options.query is not None:
        sources["query"] = Source.open(str(options.query), allow_pickle=options.allow_pickle)
    sides = open_roles(
        sources["doc"],
        sources.get("query"),
        inference_free=options.inference_free,
        pooling=options.pooling,
        activation=options.activation,
        allow_pickle=options.allow_pickle,
    )
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=f".{output.name}.") as scratch:
        bundle = Path(scratch) / "bundle"
        bundle.mkdir()
        manifest = _Export(sources, sides, options.target, bundle, Path(scratch), progress).run(
            options.name or output.name, options.license or sources["doc"].license() or "unknown"
        )
        if (shortfalls := manifest["verification"]["shortfalls"]) and not options.accept_drift:
            raise VerificationError(
                f"The bundle strays too far from {' and '.join(source.name for source in sources.values())}: "
                f"{'; '.join(shortfalls)}. No bundle was written; --accept-drift keeps one like this, with a warning "
                "in its manifest."
            )
        for shortfall in shortfalls:
            progress(f"warning: {shortfall}")
        manifest["made_by"]["command"] = _recorded(options, sources)
        (bundle / "README.md").write_text(card(manifest), encoding="utf-8")
        write_manifest(bundle, manifest)
        bundle.rename(output)
    progress(f"{output}  {megabytes(sum(path.stat().st_size for path in output.iterdir()))}")
    return output


class _Export:
    """One export under way: what its steps share."""

    def __init__(
        self,
        sources: dict[RoleName, Source],
        sides: dict[RoleName, Checkpoint | Table],
        target: Target,
        bundle: Path,
        scratch: Path,
        progress: Progress,
    ) -> None:
        self._sources = sources
        self._sides = sides
        self._target = target
        self._bundle = bundle
        self._scratch = scratch
        self._progress = progress
        self._graphs = Graphs(target, bundle, scratch, progress)
        self._weights: dict[str, list[str]] = {}

    def run(self, name: str, licence: str) -> dict[str, Any]:
        """Fills the bundle's folder, but for its card, and returns its manifest."""
        vocabulary = self._save_tokenizer()
        manifest: dict[str, Any] = {
            "schema": 1,
            "name": name,
            "licence": licence,
            "roles": {},
            "vocabulary": {"size": len(vocabulary), "sha256": vocabulary.sha256},
            "weight_type": _WEIGHT_TYPES[self._target],
        }
        verification: dict[str, Any] = {"machine": f"{platform.machine()}, {os.cpu_count()} cores"}
        shortfalls: list[str] = []
        converted = {
            role: self._graphs.convert(role, side, len(vocabulary))
            for role, side in self._own_sides().items()
            if isinstance(side, Checkpoint)
        }
        for role, side in self._own_sides().items():
            if isinstance(side, Table):
                side.save(self._bundle / f"{role}.npy", vocabulary)
        # The expander that verifies one role opens the whole bundle, so every role has a graph before the first is
        # verified.
        for role, graph in converted.items():
            self._finish(role, graph, self._graphs.ways[0])
        manifest["roles"] = {role: self._describe(role) for role in ROLES}
        for role, side in self._own_sides().items():
            if isinstance(side, Table):
                write_manifest(self._bundle, manifest)
                found: Agreement | TokenWeightsAgreement = self._verify_table(role, side)
                measured = asdict(found)
            else:
                found, way = self._verify_ways(role, side, converted[role], manifest)
                measured = {"fp32_bytes": self._converted_size[role], **asdict(found)}
                if way:
                    manifest["roles"][role]["quantization"] = way
            described = manifest["roles"][role]
            files = [described.get("graph") or described["table"], *described.get("weights", [])]
            verification[role] = {**measured, "bytes": sum((self._bundle / file).stat().st_size for file in files)}
            shortfalls += [f"{role}: {text}" for text in found.shortfalls()]
        for role in ROLES:
            if role not in verification:  # served by the other's graph
                manifest["roles"][role] = {**manifest["roles"]["doc"], **self._describe(role)}
        manifest["verification"] = {**verification, "shortfalls": shortfalls}
        manifest["made_by"] = {"versions": tool_versions()}
        return manifest

    def _own_sides(self) -> dict[RoleName, Checkpoint | Table]:
        """The sides, each once."""
        if self._sides["query"] is self._sides["doc"]:
            return {"doc": self._sides["doc"]}
        return self._sides

    def _describe(self, role: RoleName) -> dict[str, Any]:
        """What the manifest says of a role."""
        side = self._sides[role]
        source = self._sources.get(role, self._sources["doc"])
        described: dict[str, Any] = {"max_length": side.max_length, "checkpoint": source.name}
        if source.revision:
            described["revision"] = source.revision
        if isinstance(side, Table):
            return {"table": f"{role}.npy", **described, "max_length": self._sides["doc"].max_length}
        graph = "doc" if side is self._sides["doc"] else role
        return {
            "graph": f"{graph}.onnx",
            **({"weights": self._weights[graph]} if self._weights.get(graph) else {}),
            "pooling": side.pooling,
            "activation": side.activation,
            **({"positions": side.positions} if side.positions else {}),
            **described,
            "checkpoint_weights": side.weights,
        }

    def _save_tokenizer(self) -> Vocabulary:
        vocabularies: dict[RoleName, Vocabulary] = {}
        for role, side in self._own_sides().items():
            path = self._scratch / f"{role}-{TOKENIZER}"
            side.save_tokenizer(path)
            vocabularies[role] = Tokenizer(path).vocabulary
        mine, theirs = vocabularies["doc"].tokens, vocabularies.get("query", vocabularies["doc"]).tokens
        if mine != theirs:
            at = next((i for i, pair in enumerate(zip(mine, theirs, strict=False)) if pair[0] != pair[1]), len(mine))
            raise CheckpointError(
                f"{self._sides['doc'].folder} and {self._sides['query'].folder} cannot be paired: their vocabularies "
                f"have {len(mine)} and {len(theirs)} tokens and differ from position {at} on."
            )
        shutil.copyfile(self._scratch / f"doc-{TOKENIZER}", self._bundle / TOKENIZER)
        return vocabularies["doc"]

    def _finish(self, role: RoleName, optimized: Path, way: str) -> None:
        """Puts the role's graph into the bundle."""
        checkpoint = self._sides[role]
        assert isinstance(checkpoint, Checkpoint)
        _, *beside = self._graphs.finish(role, checkpoint, optimized, way)
        self._weights[role] = [path.name for path in beside]

    def _verify_ways(
        self, role: RoleName, checkpoint: Checkpoint, optimized: Path, manifest: dict[str, Any]
    ) -> tuple[Agreement, str]:
        """Keeps the first way to quantize that does not fall short, or else the one with the best worst cosine."""
        found: dict[str, Agreement] = {}
        for way in self._graphs.ways:
            if found:
                self._progress(f"  falls short; next: {way}")
                self._finish(role, optimized, way)
            write_manifest(self._bundle, manifest)
            found[way] = self._verify(role, checkpoint)
            if not found[way].shortfalls():
                return found[way], way
        best = max(found, key=lambda way: found[way].worst_cosine)
        if best != self._graphs.ways[-1]:
            self._finish(role, optimized, best)
        return found[best], best

    def _verify(self, role: RoleName, checkpoint: Checkpoint) -> Agreement:
        texts = verification_texts()
        with step(self._progress, "verify", role):
            agreement = measure(
                texts,
                checkpoint.weights_of(texts, checkpoint.max_length),
                self._fp32_expander(role, checkpoint),
                Expander(self._bundle, threads=1),
                role,
            )
        self._progress(
            f"  {agreement.texts} texts: cosine worst {agreement.worst_cosine:.4f}, mean {agreement.mean_cosine:.5f}; "
            f"shared top-20 {agreement.mean_shared_top20:.1%}; {agreement.mean_weights:.0f} weights a text; "
            f"{agreement.fp32_ms:.1f} ms a text in float32, {agreement.ms:.1f} in {_WEIGHT_TYPES[self._target]}"
        )
        return agreement

    def _fp32_expander(self, role: RoleName, checkpoint: Checkpoint) -> Expander:
        """Runs the graph as it was converted."""
        folder = self._graphs.converted(role)
        described = {**self._describe(role), "graph": "model.onnx", "weights": []}
        tokenizer = Tokenizer(folder / TOKENIZER).vocabulary
        manifest = {
            "schema": 1,
            "name": "float32",
            "licence": "",
            "roles": dict.fromkeys(ROLES, described),
            "vocabulary": {"size": len(tokenizer), "sha256": tokenizer.sha256},
            "weight_type": "float32",
        }
        write_manifest(folder, manifest)
        return Expander(folder, checkpoint.max_length, threads=1)

    def _verify_table(self, role: RoleName, table: Table) -> TokenWeightsAgreement:
        texts = verification_texts()
        expander = Expander(self._bundle, threads=1)
        with step(self._progress, "verify", role):
            agreement = measure_token_weights(
                texts, table.weights_of(texts, self._sides["doc"].max_length), expander, role
            )
        self._progress(
            f"  {agreement.texts} texts: largest difference {agreement.largest_difference:.1e}; "
            f"{agreement.mean_weights:.0f} weights a text; {agreement.ms:.2f} ms a text"
        )
        return agreement

    @property
    def _converted_size(self) -> dict[RoleName, int]:
        return {
            role: sum(path.stat().st_size for path in self._graphs.converted(role).glob("model.onnx*"))
            for role in ROLES
        }


def _recorded(options: ExportOptions, sources: dict[RoleName, Source]) -> str:
    """The command that makes the bundle, with commits, and with folders by their last two parts."""
    names: dict[RoleName, str] = {
        role: f"{source.name}@{source.revision}" if source.revision else source.name for role, source in sources.items()
    }
    output = "/".join(Path(options.output).resolve().parts[-2:])
    return replace(options, doc=names["doc"], query=names.get("query"), output=output).command()

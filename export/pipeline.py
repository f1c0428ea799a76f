"""From checkpoints or graphs to a verified bundle."""

from __future__ import annotations

import json
import os
import platform
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from spladerunner.errors import CheckpointError, VerificationError
from spladerunner.export.card import card
from spladerunner.export.entries import positive_entries
from spladerunner.export.graph import GraphBuilder, passes_of
from spladerunner.export.language_model import LanguageModel
from spladerunner.export.options import ExportOptions
from spladerunner.export.passes import QUANTIZATIONS, WEIGHT_TYPES, Graph
from spladerunner.export.passes.external_data import ExternalData
from spladerunner.export.progress import Progress, megabytes, stage
from spladerunner.export.roles import Served, open_roles
from spladerunner.export.scratch import scratch_folder
from spladerunner.export.source import Source, last_two_parts
from spladerunner.export.token_weights import TokenWeights
from spladerunner.export.verify import GraphVerifier, density_warning, measure_copy, shortfalls, verification_texts
from spladerunner.inference.encoder import Encoder, GraphEncoder, TokenWeightsEncoder
from spladerunner.inference.session import Session
from spladerunner.inference.tokenizer import Tokenizer
from spladerunner.model.bundle import TOKENIZER
from spladerunner.model.manifest import (
    MANIFEST,
    CheckpointRecord,
    FileRecord,
    GraphRole,
    Role,
    RoleName,
    TokenWeightsRole,
    VocabularyRecord,
)
from spladerunner.model.provenance import (
    Agreement,
    CopyAgreement,
    ExportManifest,
    GraphAgreement,
    MadeBy,
    Verification,
)

_TOOLS = ("spladerunner", "onnxruntime", "onnx")
ENTRIES = "entries.json"
_CONFIGURATIONS = ("config.json", "tokenizer_config.json")
_ELSEWHERE = ("_name_or_path", "name_or_path", "auto_map")
"""Keys of configurations that name a folder of whoever trained the model, or remote code."""


def build_bundle(options: ExportOptions, progress: Progress) -> Path:
    """Builds a verified bundle atomically; spladerunner.export.export_bundle documents it."""
    output = Path(options.output)
    if output.exists() or output.is_symlink():
        raise CheckpointError(f"{output} exists already. Remove it, or give another folder.", path=output)
    sources: dict[RoleName, Source] = {
        "doc": Source.open(options.doc, onnx=options.onnx, allow_pickle=options.allow_pickle)
    }
    if options.query is not None:
        sources["query"] = Source.open(options.query, onnx=options.onnx, allow_pickle=options.allow_pickle)
    roles = open_roles(sources["doc"], sources.get("query"), options)
    with scratch_folder(output, progress) as scratch:
        bundle = scratch / "bundle"
        bundle.mkdir()
        manifest = _Export(options, sources, roles, bundle, scratch, progress).run()
        assert manifest.verification is not None
        for shortfall in manifest.verification.shortfalls:
            progress(f"warning: {shortfall}")
        (bundle / "README.md").write_text(card(manifest, sources["doc"].languages()), encoding="utf-8")
        files = {path.name: FileRecord.of(path) for path in sorted(bundle.iterdir())}
        replace(manifest, files=files).write(bundle / MANIFEST)
        bundle.rename(output)
    progress(f"{output}  {megabytes(sum(path.stat().st_size for path in output.iterdir()))}")
    return output


class _Export:
    """One export: fills the folder of the bundle, one role after the other."""

    def __init__(
        self,
        options: ExportOptions,
        sources: dict[RoleName, Source],
        roles: dict[RoleName, Served],
        bundle: Path,
        scratch: Path,
        progress: Progress,
    ) -> None:
        self._options = options
        self._sources = sources
        self._roles = roles
        self._bundle = bundle
        self._scratch = scratch
        self._progress = progress
        self._texts = verification_texts()
        self._tokenizer = self._save_tokenizer()
        self._entries = self._save_entries()
        self._save_configuration()

    def run(self) -> ExportManifest:
        """Exports and verifies each role, and returns the manifest without the records of files.

        Raises VerificationError if a role falls short and the options do not accept that.
        """
        vocabulary, document = self._tokenizer.vocabulary, self._document
        roles: dict[RoleName, Role] = {}
        agreements: dict[RoleName, Agreement] = {}
        for name, served in self._roles.items():
            if name == "query" and _same_graph(served, document):
                roles["query"] = replace(roles["doc"], prompt=served.prompt)
            elif isinstance(served, TokenWeights):
                roles[name], agreements[name] = self._export_token_weights(name, served)
            else:
                roles[name], agreements[name] = self._export_graph(name, served)
        if self._options.lexical:
            query = roles["query"]
            assert isinstance(query, GraphRole)
            roles["query"] = replace(query, lexical=True)
        for name, agreement in agreements.items():
            if warning := density_warning(agreement, len(vocabulary)):
                self._progress(f"warning: {name}: {warning}")
        found = tuple(
            f"{name}: {text}" for name, agreement in agreements.items() for text in self._shortfalls(agreement)
        )
        if found and not self._options.accept_drift:
            raise VerificationError(
                f"The bundle differs too much from {' and '.join(source.name for source in self._sources.values())}: "
                f"{'; '.join(found)}. No bundle was written; --accept-drift writes it, with a warning in its manifest.",
                shortfalls=found,
            )
        return ExportManifest(
            name=self._options.name or Path(self._options.output).name,
            license=self._options.license or self._sources["doc"].license() or "unknown",
            weight_type=document.weight_type if document.quantization else WEIGHT_TYPES[self._options.target],
            vocabulary=VocabularyRecord(len(vocabulary), vocabulary.sha256),
            roles=roles,
            files={},
            verification=Verification(f"{platform.machine()}, {os.cpu_count()} cores", agreements, found),
            made_by=MadeBy(
                self._command(),
                {package: version(package) for package in (*_TOOLS, *document.tools)},
                document.converter,
            ),
        )

    def _export_graph(self, name: RoleName, model: LanguageModel) -> tuple[GraphRole, Agreement]:
        graph = self._bundle / f"{name}.onnx"
        folder = self._scratch / name
        folder.mkdir()
        builder = GraphBuilder(model, name, folder, self._progress)
        if model.quantization:
            quantization: str | None = model.quantization
            agreement: Agreement = self._copy_graph(name, model, builder, graph)
        else:
            quantization, agreement = self._quantize_graph(name, model, builder, graph)
        role = GraphRole(
            graph=graph.name,
            max_length=model.max_length,
            pooling=model.pooling,
            activation=model.activation,
            positions=model.positions,
            prompt=model.prompt,
            head=model.head,
            external_data=tuple(path.name for path in sorted(self._bundle.glob(f"{graph.name}.*"))),
            quantization=quantization,
            checkpoint=self._checkpoint_record(name),
            entries=None if self._entries is None else ENTRIES,
        )
        return role, agreement

    def _quantize_graph(
        self, name: RoleName, model: LanguageModel, builder: GraphBuilder, graph: Path
    ) -> tuple[str | None, GraphAgreement]:
        """Keeps the graph of the first quantization that does not fall short, else of the best worst cosine."""
        target = self._options.target
        kept = None if self._entries is None else tuple(self._entries.tolist())
        verifier = GraphVerifier(model, builder.converted, self._tokenizer, self._texts, self._progress, self._entries)
        measured: dict[str, GraphAgreement] = {}
        for quantization in QUANTIZATIONS if target == "cpu" else QUANTIZATIONS[:1]:  # passes for CUDA have none
            if measured:
                self._progress(f"  falls short; next: {quantization}")
            builder.build(passes_of(model, target, quantization, kept), graph)
            measured[quantization] = self._verify(name, verifier, graph)
            if not self._shortfalls(measured[quantization]):
                break
        best = max(measured, key=lambda each: (not self._shortfalls(measured[each]), measured[each].worst_cosine))
        if best != quantization:
            builder.build(passes_of(model, target, best, kept), graph)
        return best if target == "cpu" else None, measured[best]

    def _copy_graph(self, name: RoleName, model: LanguageModel, builder: GraphBuilder, graph: Path) -> CopyAgreement:
        """Keeps a graph that was quantized already as it is, with its weights in a file beside it."""
        if self._options.target != "cpu":
            raise CheckpointError(
                f"{model.folder} has {model.weight_type} weights; --for cuda needs a float32 graph.", path=model.folder
            )
        if self._entries is not None:
            raise CheckpointError(
                f"{model.folder} has {model.weight_type} weights; --vocabulary needs a float32 graph.",
                path=model.folder,
            )
        builder.build((ExternalData(),), graph)
        self._progress(f"  {name}: {model.quantization}; there is no float32 graph to compare with")
        encoder = GraphEncoder(Session(graph), self._tokenizer.vocabulary, model.pooling, model.activation)
        return self._verify_copy(name, model, encoder, Graph(graph).size)

    def _shortfalls(self, agreement: Agreement) -> list[str]:
        return shortfalls(agreement, self._options.target)

    def _verify(self, name: RoleName, verifier: GraphVerifier, graph: Path) -> GraphAgreement:
        with stage(self._progress, "verify", name) as done:
            found = verifier.measure(graph)
            done.note = (
                f"{found.texts} texts: cosine worst {found.worst_cosine:.4f}, mean {found.mean_cosine:.5f}; "
                f"shared top-20 {found.mean_shared_top20:.1%}; {found.mean_weights:.0f} weights a text; "
                f"{found.fp32_ms:.1f} ms a text in float32, {found.ms:.1f} in {WEIGHT_TYPES[self._options.target]}"
            )
        if found.lost_weight is not None:
            self._progress(f"  {name}: entries that were left out have {found.lost_weight:.1%} of the texts' weight")
        return found

    def _export_token_weights(self, name: RoleName, source: TokenWeights) -> tuple[TokenWeightsRole, CopyAgreement]:
        saved = self._bundle / f"{name}.npy"
        source.save(saved, self._tokenizer.vocabulary)
        encoder = TokenWeightsEncoder(saved, np.load(saved), self._tokenizer.vocabulary)
        agreement = self._verify_copy(name, source, encoder, saved.stat().st_size)
        record = self._checkpoint_record(name)
        return TokenWeightsRole(saved.name, self._document.max_length, record, source.prompt), agreement

    def _verify_copy(self, name: RoleName, source: Served, encoder: Encoder, size: int) -> CopyAgreement:
        with stage(self._progress, "verify", name) as done:
            found = measure_copy(source, encoder, self._tokenizer, self._texts, self._document.max_length, size)
            done.note = (
                f"{found.texts} texts: largest difference {found.largest_difference:.1e}; "
                f"{found.mean_weights:.0f} weights a text; {found.ms:.2f} ms a text"
            )
        return found

    @property
    def _document(self) -> LanguageModel:
        served = self._roles["doc"]
        assert not isinstance(served, TokenWeights)
        return served

    def _save_tokenizer(self) -> Tokenizer:
        """Saves the tokenizer of the bundle. Raises CheckpointError if the vocabularies of the roles differ."""
        tokenizers: dict[RoleName, Tokenizer] = {}
        for name, served in self._roles.items():
            if name == "doc" or served is not self._roles["doc"]:
                path = self._scratch / f"{name}-{TOKENIZER}"
                served.save_tokenizer(path)
                tokenizers[name] = Tokenizer(path)
        mine = tokenizers["doc"].vocabulary.tokens
        theirs = tokenizers.get("query", tokenizers["doc"]).vocabulary.tokens
        if mine != theirs:
            at = next((i for i, pair in enumerate(zip(mine, theirs, strict=False)) if pair[0] != pair[1]), len(mine))
            raise CheckpointError(
                f"{self._roles['doc'].folder} and {self._roles['query'].folder} cannot be paired: their vocabularies "
                f"have {len(mine)} and {len(theirs)} tokens and differ from position {at} on.",
                path=self._roles["query"].folder,
            )
        (self._scratch / f"doc-{TOKENIZER}").rename(self._bundle / TOKENIZER)
        return tokenizers["doc"]

    def _save_entries(self) -> NDArray[np.int32] | None:
        """Saves the vocabulary entries that options.vocabulary keeps, and returns them; None for all of them."""
        if self._options.vocabulary is None:
            return None
        entries = positive_entries(self._options.vocabulary, self._tokenizer.vocabulary)
        (self._bundle / ENTRIES).write_text(json.dumps(entries.tolist()) + "\n", encoding="utf-8")
        return entries

    def _save_configuration(self) -> None:
        """Saves the configurations by which other libraries know the model, without the names of files elsewhere."""
        for name in _CONFIGURATIONS:
            path = self._document.folder / name
            if path.is_file():
                content = json.loads(path.read_text(encoding="utf-8"))
                kept = {key: value for key, value in content.items() if key not in _ELSEWHERE}
                (self._bundle / name).write_text(json.dumps(kept, indent=2) + "\n", encoding="utf-8")

    def _checkpoint_record(self, name: RoleName) -> CheckpointRecord:
        source = self._sources.get(name, self._sources["doc"])
        return CheckpointRecord(source.name, source.revision)

    def _command(self) -> str:
        """The command that makes the bundle, with commits, and with folders by the last two parts of their paths."""
        names = {name: str(source) for name, source in self._sources.items()}
        output, kept = last_two_parts(self._options.output), self._options.vocabulary
        vocabulary = None if kept is None else last_two_parts(kept)
        given = replace(self._options, doc=names["doc"], query=names.get("query"), output=output, vocabulary=vocabulary)
        return given.command()


def _same_graph(query: Served, document: LanguageModel) -> bool:
    """True if one graph serves both roles; their prompts may differ."""
    if isinstance(query, TokenWeights) or query.folder != document.folder:
        return False
    return (query.pooling, query.activation) == (document.pooling, document.activation)

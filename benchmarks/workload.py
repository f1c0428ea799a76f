"""Inputs of the benchmarks: texts, and the same weights in the files that each system reads.

Files that exist already are kept.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import onnx

from benchmarks.environments import python_of
from benchmarks.harness import HERE
from benchmarks.origin import machine
from spladerunner.inference.tokenizer import Tokenizer
from spladerunner.model.bundle import TOKENIZER
from spladerunner.model.manifest import MANIFEST, ROLES, FileRecord, GraphRole, Manifest, VocabularyRecord

SHAPES = ("bert-base", "distilbert", "bert-tiny", "tiny-en")
"""Models with random weights of these shapes, and the trained document model of the embedded pair."""

FP32 = "passes/convert"
"""Folder of the float32 graph, below that of the models: the first of the export's intermediate graphs."""

TEXTS = {"short": 32, "typical": 16, "cut at 256": 8, "cut at 512": 4}
MIXED_OF_EACH = 8

MAX_LENGTH = 256


def checkpoint_of(folder: Path, shape: str) -> Path:
    """Folder of a checkpoint."""
    return folder / "checkpoints" / shape


def models_of(folder: Path, shape: str) -> Path:
    """Folder of the models exported from a checkpoint: bundle/, and the files of its peers."""
    return folder / "models" / shape


def fp32_of(folder: Path, shape: str) -> Path:
    """Folder of the float32 graph, model.onnx, with its tokenizer."""
    return models_of(folder, shape) / FP32


def bundle_of(folder: Path, shape: str) -> Path:
    """Folder of spladerunner's bundle."""
    return models_of(folder, shape) / "bundle"


def texts_file(folder: Path) -> Path:
    """File of the texts: a JSON object with a list of texts for each kind."""
    return folder / "texts.json"


def read_texts(folder: Path) -> dict[str, list[str]]:
    """Texts by kind, as `prepare` wrote them."""
    texts: dict[str, list[str]] = json.loads(texts_file(folder).read_text(encoding="utf-8"))
    return texts


def prepare(shared: Path, folder: Path, shapes: Sequence[str] = SHAPES) -> None:
    """Writes texts, checkpoints, bundles, and the graphs of FastEmbed and SPLADERunner 0.1 below `folder`."""
    documents = _read_json_lines(shared / "data" / "scifact" / "corpus.jsonl")
    vocabulary = shared / "data" / "bert-base-uncased-vocab.txt"
    folder.mkdir(parents=True, exist_ok=True)
    if not texts_file(folder).exists():
        texts_file(folder).write_text(json.dumps(choose_texts(documents, vocabulary)), encoding="utf-8")
    for shape in shapes:
        checkpoint = checkpoint_of(folder, shape)
        if not checkpoint.exists() and shape == "tiny-en":
            shutil.copytree(shared / "tiny-en" / "doc", checkpoint)
        elif not checkpoint.exists():
            from benchmarks.checkpoints import write_checkpoint

            write_checkpoint(shape, checkpoint, vocabulary, [document["text"] for document in documents[200:208]])
        _set_max_length(checkpoint, MAX_LENGTH)
        models = models_of(folder, shape)
        write_bundle(checkpoint, models)
        write_graph_for_0_1(models)
        write_graphs_for_512_tokens(models)
        print(f"{shape}: ready", flush=True)


def choose_texts(documents: Sequence[dict[str, str]], vocabulary: Path) -> dict[str, list[str]]:
    """Texts of SciFact by kind; "mixed" has three of them in turn, "collection" has all abstracts."""
    from tokenizers import BertWordPieceTokenizer
    from tokenizers.models import WordPiece

    tokenizer = BertWordPieceTokenizer(WordPiece.read_file(str(vocabulary)), lowercase=True)
    abstracts = [f"{document['title']} {document['text']}" for document in documents]
    lengths = [len(encoding.ids) for encoding in tokenizer.encode_batch(abstracts)]
    measured = list(zip(abstracts, lengths, strict=True))
    chosen = {
        "short": [document["title"] for document in documents],
        "typical": [text for text, n in measured if 100 <= n <= 200],
        "cut at 256": [text for text, n in measured if n > 300],
    }
    mixed = [text for texts in zip(*chosen.values(), strict=False) for text in texts][: len(chosen) * MIXED_OF_EACH]
    chosen["cut at 512"] = [f"{text} {text}" for text in chosen["cut at 256"]]
    kinds = {kind: texts[: TEXTS[kind]] for kind, texts in chosen.items()}
    return {**kinds, "mixed": mixed, "collection": abstracts}


def write_bundle(checkpoint: Path, models: Path, max_length: int = MAX_LENGTH) -> Path:
    """Writes models/bundle without verification, which random weights would not pass, and keeps models/passes."""
    from spladerunner.export.checkpoint import Checkpoint
    from spladerunner.export.graph import build_graph
    from spladerunner.export.passes import WEIGHT_TYPES
    from spladerunner.model.sentence_transformers import MaskedLanguageModel

    bundle = models / "bundle"
    if bundle.exists():
        return bundle
    unfinished = models / "bundle.unfinished"
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    opened = Checkpoint(MaskedLanguageModel(checkpoint))
    opened.save_tokenizer(unfinished / TOKENIZER)
    graph = build_graph(opened, unfinished / "doc.onnx", keep=models / "passes")
    vocabulary = Tokenizer(unfinished / TOKENIZER).vocabulary
    role = GraphRole(
        graph.name,
        max_length=max_length,
        pooling=opened.pooling,
        activation=opened.activation,
        positions=opened.positions,
        external_data=tuple(path.name for path in unfinished.glob(f"{graph.name}.*")),
    )
    Manifest(
        name=models.name,
        license="none",
        weight_type=WEIGHT_TYPES["cpu"],
        vocabulary=VocabularyRecord(len(vocabulary), vocabulary.sha256),
        roles=dict.fromkeys(ROLES, role),
        files={path.name: FileRecord.of(path) for path in sorted(unfinished.iterdir())},
    ).write(unfinished / MANIFEST)
    return unfinished.rename(bundle)


def write_graph_for_0_1(models: Path) -> None:
    """Writes the float32 graph with the input names and the path that SPLADERunner 0.1 expects."""
    target = models / "splade-0.1" / "Splade_PP_en_v1"
    if target.exists():
        return
    shutil.copytree(models / FP32, target, ignore=shutil.ignore_patterns("model.onnx*"))
    model = onnx.load(models / FP32 / "model.onnx")
    names = {"attention_mask": "input_mask", "token_type_ids": "segment_ids"}
    for node in model.graph.node:
        node.input[:] = [names.get(value, value) for value in node.input]
    for given in model.graph.input:
        given.name = names.get(given.name, given.name)
    if "segment_ids" not in {given.name for given in model.graph.input}:
        # SPLADERunner 0.1 feeds them to every graph, and onnxruntime refuses an unknown input.
        segments = onnx.ValueInfoProto()
        segments.CopyFrom(next(given for given in model.graph.input if given.name == "input_ids"))
        segments.name = "segment_ids"
        model.graph.input.append(segments)
    onnx.save(model, target / "model.onnx")


def write_graphs_for_512_tokens(models: Path) -> None:
    """Links the float32 graphs into folders whose configuration makes FastEmbed and SPLADERunner read 512 tokens."""
    for source, name in ((FP32, "fp32-512"), ("splade-0.1", "splade-0.1-512")):
        target = models / name
        if target.exists():
            continue
        shutil.copytree(models / source, target, copy_function=os.link)
        for config in target.rglob("tokenizer_config.json"):
            content = json.loads(config.read_text())
            config.unlink()  # writing through the link would change the original
            config.write_text(json.dumps({**content, "model_max_length": 512, "max_length": 512}))


def quantization(flags: Sequence[str]) -> str:
    """Kind of optimum's dynamic int8 for a processor: unsigned weights where products of bytes would saturate."""
    return "avx512_vnni" if "avx512_vnni" in flags else "avx2"


def onnx_int8(flags: Sequence[str]) -> str:
    """Name of the file that sentence-transformers writes with that kind."""
    kind = quantization(flags)
    return f"model_{'qint8' if kind == 'avx512_vnni' else 'quint8'}_{kind}.onnx"


def write_sentence_transformers_models(folder: Path, shape: str, *, int8: bool = True) -> None:
    """Writes the models of sentence-transformers and optimum, in their environment; a failure is printed.

    int8: those in int8, too.
    """
    script = HERE / "sentence_transformers_models.py"
    places = [checkpoint_of(folder, shape), models_of(folder, shape), fp32_of(folder, shape), texts_file(folder)]
    arguments = [*map(str, places), *([quantization(machine()["flags"])] if int8 else [])]
    command = [str(python_of(folder, "sentence-transformers")), str(script), *arguments]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:  # the models that are missing fail in their own runs, and the tables show them so
        print(f"{shape}: {done.stderr.strip().splitlines()[-1]}", flush=True)


def _set_max_length(checkpoint: Path, length: int) -> None:
    """Sets the number of tokens at which FastEmbed and others truncate."""
    config = checkpoint / "tokenizer_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "model_max_length": length}))


def _read_json_lines(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8") as file:
        return list(map(json.loads, file))

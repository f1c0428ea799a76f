"""What is measured: the same weights in the form that each system takes, and the same texts for all.

    python -m benchmarks.materials SHARED FOLDER

Makes checkpoints of random weights, their bundles, the graphs of the peers, and the texts. What is there is kept.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import onnx

SHAPES = ("bert-base", "distilbert", "bert-tiny", "tiny-en")
SLICE = 16
"""Texts of each kind."""


def make_texts(shared: Path, folder: Path) -> dict[str, list[str]]:
    """Texts of SciFact by kind, and a list that mixes the kinds."""
    from tokenizers import Tokenizer

    path = folder / "texts.json"
    if not path.exists():
        tokenizer = Tokenizer.from_file(str(folder / "bert-base" / "tokenizer.json"))
        tokenizer.no_truncation()
        with (shared / "data" / "scifact" / "corpus.jsonl").open(encoding="utf-8") as file:
            documents = [json.loads(line) for line in file]
        abstracts = [f"{document['title']} {document['text']}" for document in documents]
        lengths = [len(encoding.ids) for encoding in tokenizer.encode_batch(abstracts)]
        kinds = {
            "short": [document["title"] for document in documents[:SLICE]],
            "typical": [text for text, n in zip(abstracts, lengths, strict=True) if 100 <= n <= 200][:SLICE],
            "cut at 256": [text for text, n in zip(abstracts, lengths, strict=True) if n > 300][:SLICE],
        }
        mixed = [text for texts in kinds.values() for text in texts]
        random.Random(0).shuffle(mixed)
        kinds["mixed"] = mixed
        kinds["cut at 512"] = [f"{text} {text}" for text in kinds["cut at 256"][:6]]
        kinds["collection"] = abstracts
        path.write_text(json.dumps(kinds), encoding="utf-8")
    texts: dict[str, list[str]] = json.loads(path.read_text(encoding="utf-8"))
    return texts


def make_bundle(checkpoint: Path, folder: Path) -> Path:
    """The bundle as the export makes it, without its verification, which random weights do not stand."""
    from spladerunner.export.manifest import write_manifest
    from spladerunner.export.passes.convert import convert
    from spladerunner.export.passes.external_data import put_weights_beside
    from spladerunner.export.passes.fuse_attention import fuse_attention
    from spladerunner.export.passes.optimize import fuse, optimize
    from spladerunner.export.passes.quantize import quantize
    from spladerunner.export.passes.tie_embedding import quantize_embedding
    from spladerunner.inference.tokenizer import Tokenizer
    from spladerunner.model.bundle import TOKENIZER

    bundle, steps = folder / "bundle", folder / "steps"
    if bundle.exists():
        return bundle
    shutil.rmtree(steps, ignore_errors=True)
    (made := folder / "making").mkdir(parents=True, exist_ok=True)
    shutil.copy(checkpoint / TOKENIZER, made)
    vocabulary = Tokenizer(made / TOKENIZER).vocabulary
    converted = convert(checkpoint, folder / "fp32", len(vocabulary))
    steps.mkdir()
    optimized = optimize(converted, steps / "optimized.onnx")
    fuse_attention(optimized, steps / "attention.onnx", len(vocabulary), 256)
    quantize(steps / "attention.onnx", steps / "quantized.onnx")
    quantize_embedding(fuse(steps / "quantized.onnx", steps / "fused.onnx"), steps / "shared.onnx")
    put_weights_beside(steps / "shared.onnx", made / "doc.onnx")
    weights = ["doc.onnx.data"]
    role = {
        "graph": "doc.onnx",
        "weights": weights,
        "max_length": 256,
        "pooling": "max",
        "activation": "log1p_relu",
        "positions": 512,
    }
    manifest = {
        "schema": 1,
        "name": folder.name,
        "licence": "none",
        "roles": {"doc": role, "query": role},
        "vocabulary": {"size": len(vocabulary), "sha256": vocabulary.sha256},
        "weight_type": "int8",
    }
    write_manifest(made, manifest)
    made.rename(bundle)
    return bundle


def make_graph_for_0_1(folder: Path) -> None:
    """The float32 graph as SPLADERunner 0.1 expects it: with other names for the inputs, below /MODEL/model.onnx."""
    target = folder / "splade-0.1" / "Splade_PP_en_v1"
    if target.exists():
        return
    shutil.copytree(folder / "fp32", target, ignore=shutil.ignore_patterns("model.onnx*"))
    model = onnx.load(folder / "fp32" / "model.onnx")
    names = {"attention_mask": "input_mask", "token_type_ids": "segment_ids"}
    for node in model.graph.node:
        node.input[:] = [names.get(value, value) for value in node.input]
    for given in model.graph.input:
        given.name = names.get(given.name, given.name)
    if "segment_ids" not in {given.name for given in model.graph.input}:
        # Its code always feeds them, as to BERT.
        like = next(given for given in model.graph.input if given.name == "input_ids")
        segments = onnx.ValueInfoProto()
        segments.CopyFrom(like)
        segments.name = "segment_ids"
        model.graph.input.append(segments)
    onnx.save(model, target / "model.onnx")


def make_graphs_for_512_tokens(folder: Path) -> None:
    """The graphs beside another configuration, where FastEmbed and SPLADERunner read the length to cut at."""
    for name in ("fp32", "splade-0.1"):
        target = folder / f"{name}-512"
        if target.exists():
            continue
        shutil.copytree(folder / name, target, copy_function=os.link)
        for config in target.rglob("tokenizer_config.json"):
            found = json.loads(config.read_text())
            config.unlink()  # the link, not the file that it shares with the other folder
            config.write_text(json.dumps({**found, "model_max_length": 512, "max_length": 512}))


def make(shared: Path, folder: Path, shapes: Sequence[str] = SHAPES) -> None:
    """Everything, below folder/SHAPE."""
    from benchmarks import checkpoints

    folder.mkdir(parents=True, exist_ok=True)
    with (shared / "data" / "scifact" / "corpus.jsonl").open(encoding="utf-8") as file:
        some = [json.loads(line)["text"] for line in file][200:208]
    for shape in shapes:
        checkpoint = folder / shape
        if shape == "tiny-en":
            if not checkpoint.exists():
                shutil.copytree(shared / "tiny-en" / "doc", checkpoint)
        elif not checkpoint.exists():
            vocabulary = shared / "data" / "bert-base-uncased-vocab.txt"
            checkpoints.make_checkpoint(shape, checkpoint, vocabulary, some)
        for name in ("tokenizer_config.json",):  # where FastEmbed and others read the length to cut at
            config = json.loads((checkpoint / name).read_text())
            (checkpoint / name).write_text(json.dumps({**config, "model_max_length": 256}))
        make_bundle(checkpoint, folder / f"{shape}-made")
        make_graph_for_0_1(folder / f"{shape}-made")
        make_graphs_for_512_tokens(folder / f"{shape}-made")
        print(f"{shape}: made", flush=True)
    make_texts(shared, folder)


@cache
def own_environment(folder: Path) -> Path:
    """The Python of an environment with spladerunner as it is here now."""
    project = Path(__file__).resolve().parents[1]
    shutil.rmtree(project / "build", ignore_errors=True)  # setuptools would take files from there that are gone here
    python = environment(folder, "spladerunner", str(project))
    again = ["install", "--quiet", "--force-reinstall", "--no-deps", str(project)]
    subprocess.run([python, "-m", "pip", *again], check=True)
    return python


def environment(folder: Path, name: str, *requirements: str) -> Path:
    """The Python of a virtual environment with these packages; made once."""
    python = folder / "envs" / name / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(python.parents[1])], check=True)
        for each in requirements:
            subprocess.run([python, "-m", "pip", "install", "--quiet", *each.split()], check=True)
    return python


if __name__ == "__main__":
    make(Path(sys.argv[1]), Path(sys.argv[2]))

"""Small real models, built in memory: a WordPiece tokenizer, a graph with its NumPy twin, and a bundle of both."""

from __future__ import annotations

import string
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import tokenizers
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from tokenizers import models, normalizers, pre_tokenizers, processors

from spladerunner.model.bundle import TOKENIZER
from spladerunner.model.manifest import MANIFEST, FileRecord, GraphRole, Manifest, VocabularyRecord
from spladerunner.vocabulary import Vocabulary

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = ["the", "cat", "sat", "on", "mat", "dog", "river", "bank", "money", "run", "naïve", "数", "😀", "##ning"]
TOKENS = [*SPECIAL, *WORDS, *string.ascii_lowercase, *(f"##{c}" for c in string.ascii_lowercase), *"!?.,'-[]0123456789"]
HIDDEN = 8


def tokenizer(tokens: list[str] = TOKENS, lowercase: bool = True) -> tokenizers.Tokenizer:
    made = tokenizers.Tokenizer(
        models.WordPiece({token: position for position, token in enumerate(tokens)}, unk_token="[UNK]")
    )
    made.add_special_tokens(SPECIAL)
    made.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", tokens.index("[CLS]")), ("[SEP]", tokens.index("[SEP]"))],
    )
    return made


class SmallGraph:
    """logits = (E[ids] + mean of E over the unmasked tokens) · W, so each logit depends on all tokens."""

    def __init__(self, vocabulary_size: int = len(TOKENS), seed: int = 0) -> None:
        random = np.random.default_rng(seed)
        self.embedding = random.standard_normal((vocabulary_size, HIDDEN)).astype(np.float32)
        self.decoder = random.standard_normal((HIDDEN, vocabulary_size)).astype(np.float32)

    def logits(self, ids: list[int]) -> NDArray[np.float32]:
        """(L, V) for one text, in NumPy."""
        hidden = self.embedding[ids]
        logits: NDArray[np.float32] = (hidden + hidden.mean(axis=0)) @ self.decoder
        return logits

    def save(
        self,
        path: Path,
        *,
        inputs: tuple[str, ...] = ("input_ids", "attention_mask"),
        pools_inside: bool = False,
        factor: float = 1.0,
        positions: int | None = None,
        token_head: bool = False,
    ) -> Path:
        """token_head: keeps the first column of the decoder alone, so one logit at each position."""
        decoder = self.decoder[:, :1] if token_head else self.decoder
        nodes = [
            helper.make_node("Gather", ["embedding", "input_ids"], ["hidden"]),
            helper.make_node("Cast", ["attention_mask"], ["mask_float"], to=TensorProto.FLOAT),
            helper.make_node("Unsqueeze", ["mask_float", "last"], ["mask"]),
            helper.make_node("Mul", ["hidden", "mask"], ["unmasked"]),
            helper.make_node("ReduceSum", ["unmasked", "middle"], ["total"], keepdims=1),
            helper.make_node("ReduceSum", ["mask", "middle"], ["count"], keepdims=1),
            helper.make_node("Div", ["total", "count"], ["mean"]),
            helper.make_node("Add", ["hidden", "mean"], ["context"]),
            helper.make_node("MatMul", ["context", "decoder"], ["raw"]),
            helper.make_node("Mul", ["raw", "factor"], ["logits"]),
        ]
        if positions:  # an embedding of positions, all zero, without rows for more
            nodes[0] = helper.make_node("Gather", ["embedding", "input_ids"], ["token"])
            nodes[1:1] = [
                helper.make_node("Shape", ["input_ids"], ["shape"]),
                helper.make_node("Gather", ["shape", "one_index"], ["length"]),
                helper.make_node("Range", ["zero", "length", "one_index"], ["places"]),
                helper.make_node("Gather", ["positions", "places"], ["position"]),
                helper.make_node("Add", ["token", "position"], ["hidden"]),
            ]
        output = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["B", "L", decoder.shape[1]])
        if pools_inside:
            nodes += [
                helper.make_node("Sub", ["mask", "one"], ["minus_one_at_padding"]),
                helper.make_node("Mul", ["minus_one_at_padding", "huge"], ["below_all_logits"]),
                helper.make_node("Add", ["logits", "below_all_logits"], ["visible"]),
                helper.make_node("ReduceMax", ["visible", "middle"], ["pooled"], keepdims=0),
                helper.make_node("Relu", ["pooled"], ["positive"]),
                helper.make_node("Add", ["positive", "one"], ["above_one"]),
                helper.make_node("Log", ["above_one"], ["weights"]),
            ]
            output = helper.make_tensor_value_info("weights", TensorProto.FLOAT, ["B", self.embedding.shape[0]])
        constants = {
            "embedding": self.embedding,
            "decoder": decoder,
            "last": np.array([-1]),
            "middle": np.array([1]),
            "one": np.array(1, dtype=np.float32),
            "factor": np.array(factor, dtype=np.float32),
            "huge": np.array(1e9, dtype=np.float32),
            "zero": np.array(0),
            "one_index": np.array(1),
            "positions": np.zeros((positions or 0, HIDDEN), dtype=np.float32),
        }
        used = {name for node in nodes for name in node.input}
        graph = helper.make_graph(
            nodes,
            "small",
            [helper.make_tensor_value_info(name, TensorProto.INT64, ["B", "L"]) for name in inputs],
            [output],
            [numpy_helper.from_array(array, name) for name, array in constants.items() if name in used],
        )
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
        return path


def expected_weights(logits: NDArray[np.float32], tokens: list[str] = TOKENS) -> dict[str, float]:
    """The published formula over (L, V) logits, activation before the maximum, special tokens left out."""
    weights = np.log1p(np.maximum(logits, 0)).max(axis=0)
    return {
        token: float(weight)
        for token, weight in zip(tokens, weights, strict=True)
        if weight > 0 and token not in SPECIAL
    }


def write_bundle(folder: Path, **changes: Any) -> Path:
    """A bundle of two small graphs; `changes` replace fields of its Manifest."""
    folder.mkdir(parents=True)
    made = tokenizer()
    made.save(str(folder / TOKENIZER))
    SmallGraph(seed=1).save(folder / "doc.onnx")
    SmallGraph(seed=2).save(folder / "query.onnx")
    vocabulary = Vocabulary([made.id_to_token(at) for at in range(made.get_vocab_size())], [])
    manifest = Manifest(
        name="small",
        license="Apache-2.0",
        weight_type="float32",
        vocabulary=VocabularyRecord(len(vocabulary), vocabulary.sha256),
        roles={"doc": graph_role("doc.onnx", 32), "query": graph_role("query.onnx", 16)},
        files=records(folder, TOKENIZER, "doc.onnx", "query.onnx"),
    )
    replace(manifest, **changes).write(folder / MANIFEST)
    return folder


SYMMETRIC: dict[str, Any] = {"pooling": "max", "activation": "log1p_relu", "query": "model"}
"""Options of Expander for a folder that has a graph and does not say how to run it."""


def write_token_head_bundle(folder: Path, **changes: Any) -> Path:
    """A bundle of one graph with a token head, for both roles; `changes` replace fields of its GraphRole."""
    write_bundle(folder)
    (folder / "query.onnx").unlink()
    SmallGraph(seed=1).save(folder / "doc.onnx", token_head=True)
    role = replace(graph_role("doc.onnx", 32, activation="relu"), head="token", **changes)
    change_manifest(folder, roles={"doc": role, "query": role}, files=records(folder, TOKENIZER, "doc.onnx"))
    return folder


def write_bare_folder(folder: Path, graph: str = "model.onnx", **options: Any) -> Path:
    """A folder without a manifest: a tokenizer, and a small graph saved with the options."""
    (folder / graph).parent.mkdir(parents=True, exist_ok=True)
    SmallGraph().save(folder / graph, **options)
    tokenizer().save(str(folder / TOKENIZER))
    return folder


def move_weights(graph: Path, name: str | None = None) -> Path:
    """Moves the weights of a graph into a file beside it, as exporters do with large ones; returns that file."""
    data = graph.with_name(name or f"{graph.name}_data")
    onnx.save(onnx.load(graph), graph, save_as_external_data=True, location=data.name, size_threshold=64)
    return data


def graph_role(graph: str, max_length: int, *, pooling: str = "max", activation: str = "log1p_relu") -> GraphRole:
    return GraphRole(graph, max_length, pooling, activation)


def records(folder: Path, *names: str) -> dict[str, FileRecord]:
    return {name: FileRecord.of(folder / name) for name in names}


def change_manifest(folder: Path, **changes: Any) -> None:
    """Replaces fields of a bundle's Manifest."""
    replace(Manifest.read(folder / MANIFEST), **changes).write(folder / MANIFEST)


def decode_whole(graph: onnx.GraphProto) -> None:
    """Undoes DecodeRows in place: whole logits, by one product with the int8 embedding transposed."""
    from spladerunner.export.passes.unused import remove_unused  # some environments have no export

    made = {output: node for node in graph.node for output in node.output}
    size = graph.output[0].type.tensor_type.shape.dim[2].dim_value
    (split,) = (node for node in graph.node if node.op_type == "Split")
    table = split.input[0]
    (stored,) = (constant for constant in graph.initializer if constant.name == table)
    stored.CopyFrom(numpy_helper.from_array((numpy_helper.to_array(stored).astype(int) - 128).astype(np.int8), table))
    (lookup,) = (node for node in graph.node if node.op_type == "Gather" and node.input[0] == table)
    (cast,) = (node for node in graph.node if lookup.output[0] in node.input)
    (shift,) = (node for node in graph.node if cast.output[0] in node.input)
    cast.output[0] = shift.output[0]
    graph.node.remove(shift)
    # The output is scaled integers plus the bias. The scale is that of the decoder times that of the hidden states.
    add = made[made[graph.output[0].name].input[0]]
    multiply = made[add.input[0]]
    scales = made[multiply.input[1]]
    hidden, scale, bias = made[scales.input[0]].input[0], scales.input[1], add.input[1]
    graph.initializer.append(numpy_helper.from_array(np.zeros(size, dtype=np.int8), "zero"))
    graph.node.extend(
        [
            helper.make_node("Transpose", [table], ["matrix"], perm=[1, 0]),
            helper.make_node(
                "DynamicQuantizeMatMul", [hidden, "matrix", scale, "zero", bias], ["logits"], domain="com.microsoft"
            ),
        ]
    )
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", "length", size]))
    remove_unused(graph)


def untie(graph: onnx.GraphProto) -> None:
    """Gives the decoder a matrix of its own, in place, instead of the embedding transposed."""
    (transposed,) = (node for node in graph.node if node.op_type == "Transpose" and "table" in node.input[0])
    (table,) = (each for each in graph.initializer if each.name == transposed.input[0])
    matrix = np.ascontiguousarray(numpy_helper.to_array(table).T)
    graph.initializer.append(numpy_helper.from_array(matrix, transposed.output[0]))
    graph.node.remove(transposed)

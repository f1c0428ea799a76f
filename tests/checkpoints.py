"""Checkpoints of every family and layout: small random ones, full-size ones, and the trained pair carried over."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertForMaskedLM,
    DistilBertConfig,
    DistilBertForMaskedLM,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaForMaskedLM,
    XLMRobertaConfig,
    XLMRobertaForMaskedLM,
    XLMRobertaModel,
)

from tests.small_model import TOKENS, tokenizer

WORDS = ["the", "cat", "sat", "river", "bank", "naïve", "données", "数据", "running", "mat"]


def save_tokenizer(
    folder: Path, tokens: list[str] = TOKENS, *, made: Tokenizer | None = None, max_length: int = 64, **names: str
) -> None:
    special = {"unk": "[UNK]", "pad": "[PAD]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]", **names}
    PreTrainedTokenizerFast(
        tokenizer_object=made or tokenizer(tokens),
        model_max_length=max_length,
        **{f"{name}_token": token for name, token in special.items()},
    ).save_pretrained(folder)


def sizes(vocabulary: int) -> dict[str, Any]:
    """One layer, 32 wide."""
    return {
        "vocab_size": vocabulary,
        "hidden_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "max_position_embeddings": 64,
    }


def save_bert(folder: Path, tokens: list[str] = TOKENS, **changes: Any) -> Path:
    torch.manual_seed(0)
    model = BertForMaskedLM(BertConfig(**{**sizes(len(tokens)), **changes}))
    return _save(model, folder, tokens)


def save_distilbert(folder: Path) -> Path:
    torch.manual_seed(0)
    config = DistilBertConfig(
        vocab_size=len(TOKENS), dim=32, n_layers=1, n_heads=2, hidden_dim=64, max_position_embeddings=64
    )
    return _save(DistilBertForMaskedLM(config), folder, TOKENS)


def save_roberta(folder: Path) -> Path:
    """With a byte-level BPE tokenizer that has each of WORDS as one token."""
    torch.manual_seed(0)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    splits = [piece for word in WORDS for piece, _ in pre_tokenizers.ByteLevel(True).pre_tokenize_str(word)]
    tokens = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", *alphabet]
    merges: list[tuple[str, str]] = []
    for word in splits:
        for end in range(2, len(word) + 1):
            if word[:end] not in tokens:
                tokens.append(word[:end])
                merges.append((word[: end - 1], word[end - 1]))
    made = Tokenizer(models.BPE({token: at for at, token in enumerate(tokens)}, merges, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens(tokens[:5])
    return _save_like_roberta(RobertaForMaskedLM, RobertaConfig, folder, made)


def save_xlm_roberta(folder: Path) -> Path:
    """With a unigram tokenizer, as SentencePiece makes them."""
    torch.manual_seed(0)
    return _save_like_roberta(XLMRobertaForMaskedLM, XLMRobertaConfig, folder, _unigram())


def save_bge_m3(folder: Path, head: Mapping[str, torch.Tensor] | None = None) -> Path:
    """Saves a model in the layout of BAAI/bge-m3: a dense encoder, pickled weights, and its heads in files of float16.

    head: replaces the tensors of sparse_linear.pt.
    """
    torch.manual_seed(0)
    _save_like_roberta(XLMRobertaModel, XLMRobertaConfig, folder, _unigram())
    pickle_weights(folder)
    width = sizes(0)["hidden_size"]
    made = {"weight": torch.randn(1, width), "bias": torch.randn(1)} if head is None else head
    torch.save({name: tensor.half() for name, tensor in made.items()}, folder / "sparse_linear.pt")
    colbert = torch.nn.Linear(width, width).half()
    torch.save(colbert.state_dict(), folder / "colbert_linear.pt")
    modules = [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")]
    dense = [
        {"idx": at, "name": str(at), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for at, (path, kind) in enumerate(modules)
    ]
    (folder / "1_Pooling").mkdir()
    for name, content in {
        "modules.json": dense,
        "1_Pooling/config.json": {"word_embedding_dimension": width, "pooling_mode_cls_token": True},
        "sentence_bert_config.json": {"max_seq_length": 64, "do_lower_case": False},
        "config_sentence_transformers.json": {"__version__": {"sentence_transformers": "2.2.2"}},
    }.items():
        (folder / name).write_text(json.dumps(content), encoding="utf-8")
    return folder


def _unigram() -> Tokenizer:
    letters = sorted({character for word in WORDS for character in word})
    pieces = ["<s>", "<pad>", "</s>", "<unk>", "▁", *(f"▁{word}" for word in WORDS), *letters, "<mask>"]
    made = Tokenizer(models.Unigram([(piece, -float(at)) for at, piece in enumerate(pieces)], unk_id=3))
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    made.decoder = decoders.Metaspace()
    made.add_special_tokens([*pieces[:4], "<mask>"])
    return made


def _save_like_roberta(
    model: type[PreTrainedModel], config: type[PretrainedConfig], folder: Path, made: Tokenizer
) -> Path:
    """With RoBERTa's special tokens, and positions that start after the padding's."""
    made.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)])
    shape = {**sizes(made.get_vocab_size()), "max_position_embeddings": 66, "type_vocab_size": 1}
    model(config(**shape, pad_token_id=1, bos_token_id=0, eos_token_id=2)).save_pretrained(folder)
    save_tokenizer(
        folder, made=made, unk="<unk>", pad="<pad>", cls="<s>", sep="</s>", mask="<mask>", bos="<s>", eos="</s>"
    )
    return folder


def save_modernbert(folder: Path) -> Path:
    """With a vocabulary rounded up beyond the tokenizer's."""
    from transformers import ModernBertConfig, ModernBertForMaskedLM  # takes seconds to import

    torch.manual_seed(0)
    config = ModernBertConfig(
        **{**sizes(len(TOKENS) + 9), "num_hidden_layers": 2},
        global_attn_every_n_layers=2,
        local_attention=16,
        pad_token_id=0,
        cls_token_id=2,
        sep_token_id=3,
        bos_token_id=2,
        eos_token_id=3,
    )
    return _save(ModernBertForMaskedLM(config), folder, TOKENS)


SMALL = {
    "bert": save_bert,
    "distilbert": save_distilbert,
    "roberta": save_roberta,
    "xlm-roberta": save_xlm_roberta,
    "modernbert": save_modernbert,
}


def save_full_size(folder: Path, shape: str, vocabulary: Path) -> Path:
    """Random weights of the real shapes, over the vocabulary that most SPLADE models use."""
    torch.manual_seed(0)
    tokens = vocabulary.read_text(encoding="utf-8").splitlines()
    model: PreTrainedModel
    if shape == "bert-base":
        model = BertForMaskedLM(BertConfig())
    elif shape == "distilbert":
        model = DistilBertForMaskedLM(DistilBertConfig())
    else:
        model = BertForMaskedLM(
            BertConfig(hidden_size=128, num_hidden_layers=2, num_attention_heads=2, intermediate_size=512)
        )
    model.save_pretrained(folder)
    save_tokenizer(folder, tokens)
    return folder


def carry_into_distilbert(source: Path, folder: Path) -> Path:
    """Saves a BERT as the DistilBERT that computes the same, with token types added to positions."""
    bert = BertForMaskedLM.from_pretrained(source)
    config = bert.config
    model = DistilBertForMaskedLM(
        DistilBertConfig(
            vocab_size=config.vocab_size,
            dim=config.hidden_size,
            n_layers=config.num_hidden_layers,
            n_heads=config.num_attention_heads,
            hidden_dim=config.intermediate_size,
            max_position_embeddings=config.max_position_embeddings,
        )
    )
    old, new = bert.state_dict(), {}
    new["distilbert.embeddings.word_embeddings.weight"] = old["bert.embeddings.word_embeddings.weight"]
    new["distilbert.embeddings.position_embeddings.weight"] = (
        old["bert.embeddings.position_embeddings.weight"] + old["bert.embeddings.token_type_embeddings.weight"][0]
    )
    parts = {
        "attention.self.query": "attention.q_lin",
        "attention.self.key": "attention.k_lin",
        "attention.self.value": "attention.v_lin",
        "attention.output.dense": "attention.out_lin",
        "attention.output.LayerNorm": "sa_layer_norm",
        "intermediate.dense": "ffn.lin1",
        "output.dense": "ffn.lin2",
        "output.LayerNorm": "output_layer_norm",
    }
    for kind in ("weight", "bias"):
        new[f"distilbert.embeddings.LayerNorm.{kind}"] = old[f"bert.embeddings.LayerNorm.{kind}"]
        new[f"vocab_transform.{kind}"] = old[f"cls.predictions.transform.dense.{kind}"]
        new[f"vocab_layer_norm.{kind}"] = old[f"cls.predictions.transform.LayerNorm.{kind}"]
        new[f"vocab_projector.{kind}"] = old[f"cls.predictions.decoder.{kind}"]
        for layer in range(config.num_hidden_layers):
            for theirs, ours in parts.items():
                name = f"distilbert.transformer.layer.{layer}.{ours}.{kind}"
                new[name] = old[f"bert.encoder.layer.{layer}.{theirs}.{kind}"]
    model.load_state_dict(new)
    return _save_with_tokenizer_of(model, source, folder)


def carry_into_roberta(source: Path, folder: Path) -> Path:
    """Saves a BERT as the RoBERTa that computes the same, with positions that start after the padding's."""
    bert = BertForMaskedLM.from_pretrained(source)
    config = bert.config
    model = RobertaForMaskedLM(
        RobertaConfig(
            vocab_size=config.vocab_size,
            hidden_size=config.hidden_size,
            num_hidden_layers=config.num_hidden_layers,
            num_attention_heads=config.num_attention_heads,
            intermediate_size=config.intermediate_size,
            max_position_embeddings=config.max_position_embeddings + 1,
            type_vocab_size=config.type_vocab_size,
            layer_norm_eps=config.layer_norm_eps,
            pad_token_id=0,
            bos_token_id=2,
            eos_token_id=3,
        )
    )
    new = {}
    for name, tensor in bert.state_dict().items():
        renamed = (
            name.replace("bert.", "roberta.")
            .replace("cls.predictions.transform.dense.", "lm_head.dense.")
            .replace("cls.predictions.transform.LayerNorm.", "lm_head.layer_norm.")
            .replace("cls.predictions.decoder.", "lm_head.decoder.")
            .replace("cls.predictions.bias", "lm_head.bias")
        )
        if "position_embeddings" in name:
            tensor = torch.cat([torch.zeros_like(tensor[:1]), tensor])
        new[renamed] = tensor
    model.load_state_dict(new)
    return _save_with_tokenizer_of(model, source, folder)


def save_sentence_transformers(
    folder: Path,
    doc: Path,
    query: Path | None = None,
    *,
    activation: str = "relu",
    pooling: str = "max",
    doc_length: int = 64,
    query_length: int = 64,
) -> Path:
    """A sparse encoder as sentence-transformers saves it: symmetric, or a Router with another route for queries.

    query: a checkpoint, or doc itself for a static embedding whose weight is 1 + position / 1000.
    doc_length, query_length: in the sentence_bert_config.json of each.
    """
    from sentence_transformers import SparseEncoder
    from sentence_transformers.models import Router
    from sentence_transformers.sparse_encoder.models import MLMTransformer, SparseStaticEmbedding, SpladePooling

    def route(checkpoint: Path, length: int = doc_length) -> list[torch.nn.Module]:
        return [
            MLMTransformer(str(checkpoint), max_seq_length=length),
            SpladePooling(pooling_strategy=pooling, activation_function=activation),
        ]

    if query is None:
        modules = route(doc)
    elif query == doc:
        tokens = AutoTokenizer.from_pretrained(doc)
        static = SparseStaticEmbedding(tokens, weight=1 + torch.arange(len(tokens)) / 1000)
        modules = [Router.for_query_document(query_modules=[static], document_modules=route(doc))]
    else:
        modules = [Router.for_query_document(query_modules=route(query, query_length), document_modules=route(doc))]
    SparseEncoder(modules=modules, device="cpu").save_pretrained(str(folder), create_model_card=False)
    return folder


def add_idf(folder: Path, weights: dict[str, float]) -> Path:
    (folder / "idf.json").write_text(json.dumps(weights), encoding="utf-8")
    return folder


def pickle_weights(folder: Path) -> Path:
    """Replaces a checkpoint's safetensors by the pickle that older ones have."""
    from safetensors.torch import load_file

    weights = folder / "model.safetensors"
    torch.save(load_file(weights), folder / "pytorch_model.bin")
    weights.unlink()
    return folder


def _save(model: PreTrainedModel, folder: Path, tokens: list[str]) -> Path:
    for name, parameter in model.named_parameters():
        if name.endswith("bias") and parameter.shape[0] == model.config.vocab_size:
            torch.nn.init.normal_(parameter)
    model.save_pretrained(folder)
    save_tokenizer(folder, tokens)
    return folder


def _save_with_tokenizer_of(model: PreTrainedModel, source: Path, folder: Path) -> Path:
    model.save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        shutil.copyfile(source / name, folder / name)
    config = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({**config, "tokenizer_class": "PreTrainedTokenizerFast"}))
    return folder

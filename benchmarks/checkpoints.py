"""Checkpoints with random weights and real shapes, so that any system can be measured on the same numbers.

A trained SPLADE model weighs about a hundred tokens of a text, a random one half the vocabulary. The decoder's bias is
set so that a typical text gets about as many weights as from a trained model; else the cost of what comes after the
model would be measured on something that does not occur.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertTokenizerFast,
    DistilBertConfig,
    DistilBertForMaskedLM,
    DistilBertTokenizerFast,
)

WEIGHTS = 150
"""The weights of a typical text."""

SHAPES = ("bert-base", "distilbert", "bert-tiny")


def make_checkpoint(shape: str, folder: Path, vocabulary: Path, texts: Sequence[str]) -> Path:
    """Writes a checkpoint of one of SHAPES to a folder, and returns it. vocabulary: a token a line."""
    torch.manual_seed(0)
    tokenizer_class = DistilBertTokenizerFast if shape == "distilbert" else BertTokenizerFast
    tokenizer = tokenizer_class(vocab_file=str(vocabulary), do_lower_case=True, model_max_length=512)
    size = len(tokenizer)
    model: BertForMaskedLM | DistilBertForMaskedLM
    if shape == "bert-base":
        model = BertForMaskedLM(BertConfig(vocab_size=size))
    elif shape == "distilbert":
        model = DistilBertForMaskedLM(DistilBertConfig(vocab_size=size))
    else:
        model = BertForMaskedLM(
            BertConfig(
                vocab_size=size, hidden_size=128, num_hidden_layers=2, num_attention_heads=2, intermediate_size=512
            )
        )
    model.eval()
    bias = model.get_output_embeddings().bias
    assert isinstance(bias, torch.Tensor)
    with torch.inference_mode():
        largest = [
            model(tokenizer(text, truncation=True, max_length=256, return_tensors="pt").input_ids).logits.amax(
                dim=(0, 1)
            )
            for text in texts
        ]
        bias -= torch.stack(largest).sort(dim=1, descending=True).values[:, WEIGHTS].mean()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder

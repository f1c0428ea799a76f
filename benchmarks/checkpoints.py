"""Checkpoints with random weights in the shapes of published models, so that every system runs the same weights.

A document of a trained SPLADE model has about a hundred weights; with random parameters it would have half the
vocabulary. The decoder's bias is shifted so that a typical text gets as many weights as from a trained model, because
their number sets the cost of everything after the graph.
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
"""Number of weights of a typical text."""


def write_checkpoint(shape: str, folder: Path, vocabulary: Path, texts: Sequence[str]) -> Path:
    """Writes a checkpoint with its tokenizer to `folder`, and returns it.

    shape: "bert-base", "distilbert" or "bert-tiny". vocabulary: a file with one token per line. texts: typical texts,
    which calibrate the bias.
    """
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

"""The published formula, in torch and transformers alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoModelForMaskedLM, AutoTokenizer


def torch_weights(checkpoint: Path, texts: Sequence[str], max_length: int = 256) -> NDArray[np.float32]:
    """max over tokens of log(1 + relu(logit)) · mask, as naver/splade computes it; (texts, V), special tokens zero."""
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    model = AutoModelForMaskedLM.from_pretrained(checkpoint).eval()
    rows = []
    with torch.inference_mode():
        for text in texts:
            tokens = tokenizer(text, truncation=True, max_length=max_length, return_tensors="pt")
            mask = tokens["attention_mask"]
            logits = model(input_ids=tokens["input_ids"], attention_mask=mask).logits
            activated = torch.log(1 + torch.relu(logits)) * mask.unsqueeze(-1)
            rows.append(torch.max(activated, dim=1).values[0].numpy())
    weights = np.stack(rows)
    weights[:, tokenizer.all_special_ids] = 0
    return weights

"""The published formulas, in torch and transformers alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoModel, AutoModelForMaskedLM, AutoTokenizer


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


def torch_token_head_weights(checkpoint: Path, texts: Sequence[str], max_length: int = 256) -> NDArray[np.float32]:
    """BGE-M3's, position by position, as FlagEmbedding computes it; (texts, V).

    Of the special tokens, FlagEmbedding drops all but <mask>, which no text has; here it never carries weight either.
    """
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    encoder = AutoModel.from_pretrained(checkpoint).eval()
    head = torch.load(checkpoint / "sparse_linear.pt", weights_only=True)
    unused = {tokenizer.cls_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id, tokenizer.unk_token_id}
    unused.add(tokenizer.mask_token_id)
    weights = np.zeros((len(texts), len(tokenizer)), dtype=np.float32)
    with torch.inference_mode():
        for row, text in zip(weights, texts, strict=True):
            tokens = tokenizer(text, truncation=True, max_length=max_length, return_tensors="pt")
            hidden = encoder(**tokens).last_hidden_state[0]
            scores = torch.relu(hidden @ head["weight"][0].float() + head["bias"].float())
            for token, score in zip(tokens["input_ids"][0].tolist(), scores.tolist(), strict=True):
                if token not in unused and score > row[token]:
                    row[token] = score
    return weights

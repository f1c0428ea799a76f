"""A checkpoint as it was published: its files, its tokenizer, and what its authors' formula says of a text."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoModelForMaskedLM, AutoTokenizer

from spladerunner.bundle import file_record
from spladerunner.errors import CheckpointError

from .quiet import quiet

WEIGHTS = "model.safetensors"


class Checkpoint:
    """A local folder with a masked language model in Hugging Face's layout, safetensors alone.

    max_length: the most tokens it reads, by its tokenizer's and its model's configuration.
    Raises CheckpointError where the folder is not such a checkpoint.
    """

    @quiet()
    def __init__(self, folder: Path) -> None:
        for name in ("config.json", WEIGHTS):
            if not (folder / name).is_file():
                raise CheckpointError(
                    f"{folder} holds no {name}. Give the folder of a checkpoint in Hugging Face's layout, with "
                    f"config.json, a tokenizer and {WEIGHTS}."
                )
        self.folder = folder
        self.weights: dict[str, str | int] = file_record(folder / WEIGHTS)
        try:
            config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
            self._tokenizer = AutoTokenizer.from_pretrained(  # type: ignore[no-untyped-call]
                folder, local_files_only=True, trust_remote_code=False
            )
            self._model, loading = AutoModelForMaskedLM.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False, use_safetensors=True, output_loading_info=True
            )
        except Exception as error:  # transformers raises whatever its parts do
            raise CheckpointError(f"{folder} cannot be loaded as a masked language model: {error}") from error
        if missing := sorted(loading["missing_keys"]):
            raise CheckpointError(
                f"{folder} is no whole masked language model: {WEIGHTS} lacks {missing[:3]} ({len(missing)} in all), "
                "which would be random. A SPLADE checkpoint has its masked-LM head."
            )
        if not self._tokenizer.is_fast:
            raise CheckpointError(f"{folder} has a tokenizer that cannot be written as tokenizer.json.")
        self._model.eval()
        self.max_length = min(
            length
            for length in (self._tokenizer.model_max_length, config.get("max_position_embeddings"))
            if isinstance(length, int)
        )

    def save_tokenizer(self, path: Path) -> None:
        """Writes the tokenizer as transformers runs it, which need not be the tokenizer.json in the folder."""
        self._tokenizer.backend_tokenizer.no_truncation()
        self._tokenizer.backend_tokenizer.no_padding()
        self._tokenizer.backend_tokenizer.save(str(path))

    def weights_of(self, texts: Iterable[str], max_length: int) -> Iterator[NDArray[np.float32]]:
        """The published formula in torch, float32, one text at a time: a (V,) array of weights for each.

        weight = max over tokens of log(1 + relu(logit)) · mask, as in naver/splade's models/transformer_rep.py;
        special tokens get none.
        """
        special = self._tokenizer.all_special_ids
        with torch.inference_mode():
            for text in texts:
                tokens = self._tokenizer(text, truncation=True, max_length=max_length, return_tensors="pt")
                logits = self._model(**tokens).logits
                mask = tokens["attention_mask"].unsqueeze(-1)
                weights: NDArray[np.float32] = (
                    torch.max(torch.log(1 + torch.relu(logits)) * mask, dim=1).values[0].numpy()
                )
                weights[special] = 0
                yield weights

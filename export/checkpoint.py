"""A checkpoint as it was published: its files, its tokenizer, and what its authors' formula says of a text."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoModelForMaskedLM, AutoTokenizer, PreTrainedTokenizerFast

from spladerunner.errors import CheckpointError
from spladerunner.export.silence import quiet
from spladerunner.export.source import PICKLE, SAFETENSORS
from spladerunner.model.manifest import FileRecord
from spladerunner.model.sentence_transformers import MaskedLanguageModel

ROUNDED_UP = 128
"""Some checkpoints round their vocabulary up to a multiple of this or less; more rows without a token are a mistake."""

_ACTIVATIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "relu": torch.relu,
    "log1p_relu": lambda logits: torch.log(1 + torch.relu(logits)),
    "log1p_log1p_relu": lambda logits: torch.log(1 + torch.log(1 + torch.relu(logits))),
}


class Checkpoint:
    """A folder with a masked language model in Hugging Face's layout, and how its logits become weights.

    max_length: the most tokens it reads, by the configurations of its layout, its tokenizer and its model.
    positions: the most that the model has room for, None where it sets no limit.
    Raises CheckpointError where the folder holds no whole masked language model with its tokenizer.
    """

    @quiet()
    def __init__(self, side: MaskedLanguageModel, *, allow_pickle: bool = False) -> None:
        self.folder = folder = side.folder
        self.pooling, self.activation = side.pooling, side.activation
        if not (folder / "config.json").is_file():
            raise CheckpointError(
                f"{folder} holds no config.json. Give a checkpoint in Hugging Face's layout: config.json, a tokenizer "
                f"and {SAFETENSORS}."
            )
        self.weights = _record_weights(folder, allow_pickle)
        try:
            config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
            self._tokenizer = AutoTokenizer.from_pretrained(  # type: ignore[no-untyped-call]
                folder, local_files_only=True, trust_remote_code=False
            )
            self._model, loading = AutoModelForMaskedLM.from_pretrained(
                folder,
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=PICKLE not in self.weights,
                output_loading_info=True,
                torch_dtype=torch.float32,
            )
        except Exception as error:  # transformers raises whatever its parts do
            raise CheckpointError(f"{folder} cannot be loaded as a masked language model: {error}") from error
        if missing := sorted(loading["missing_keys"]):
            raise CheckpointError(
                f"{folder} is no whole masked language model: its weights lack {missing[:3]} ({len(missing)} in all), "
                "which would be random. A SPLADE checkpoint has its masked-LM head."
            )
        for name, parameter in self._model.named_parameters():
            if not torch.isfinite(parameter).all():
                raise CheckpointError(f"{folder} has weights that are infinite or not a number, in {name}.")
        if not self._tokenizer.is_fast:
            raise CheckpointError(f"{folder} has a tokenizer that cannot be written as tokenizer.json.")
        rows, tokens = self._model.config.vocab_size, len(self._tokenizer)
        if not tokens <= rows < tokens + ROUNDED_UP:
            raise CheckpointError(
                f"{folder} has a vocabulary of {rows} entries and a tokenizer of {tokens} tokens: they are not of one "
                "model."
            )
        self._model.eval()
        self.positions = _positions(config)
        self.max_length = min(
            length
            for length in (side.max_length, self._tokenizer.model_max_length, self.positions)
            if length is not None
        )

    def save_tokenizer(self, path: Path) -> None:
        """Writes the tokenizer as transformers runs it, which need not be the tokenizer.json in the folder."""
        save_tokenizer(self._tokenizer, path)

    def weights_of(self, texts: Iterable[str], max_length: int) -> Iterator[NDArray[np.float32]]:
        """The published formula in torch, float32, one text at a time: a (V,) array of weights for each.

        weight = max, or sum, over tokens of activation(logit) · mask, with log(1 + relu(x)) for most activations, as
        in naver/splade's models/transformer_rep.py; special tokens get none.
        """
        special = self._tokenizer.all_special_ids
        activation = _ACTIVATIONS[self.activation]
        taken = inspect.signature(self._model.forward).parameters
        with torch.inference_mode():
            for text in texts:
                tokens = self._tokenizer(text, truncation=True, max_length=max_length, return_tensors="pt")
                logits = self._model(**{name: tensor for name, tensor in tokens.items() if name in taken}).logits
                activated = activation(logits) * tokens["attention_mask"].unsqueeze(-1)
                pooled = activated.amax(dim=1) if self.pooling == "max" else activated.sum(dim=1)
                weights: NDArray[np.float32] = pooled[0].numpy()
                weights[special] = 0
                weights[len(self._tokenizer) :] = 0  # rows that only round the vocabulary up
                yield weights


def save_tokenizer(tokenizer: PreTrainedTokenizerFast, path: Path) -> None:
    """Writes a tokenizer of transformers as tokenizer.json."""
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.backend_tokenizer.no_padding()
    tokenizer.backend_tokenizer.save(str(path))


def _record_weights(folder: Path, allow_pickle: bool) -> dict[str, dict[str, int | str]]:
    """The records of the files of weights, by name."""
    files = sorted(folder.glob("model*.safetensors"))
    if not files and allow_pickle:
        files = sorted(folder.glob(PICKLE))
    if not files:
        pickled = (folder / PICKLE).is_file()
        hint = f" It has {PICKLE}; if you trust that: --allow-pickle." if pickled else ""
        raise CheckpointError(f"{folder} holds no {SAFETENSORS}.{hint}")
    return {path.name: asdict(FileRecord.of(path)) for path in files}


def _positions(config: dict[str, int | str | None]) -> int | None:
    """How many tokens the position embedding has room for."""
    positions = config.get("max_position_embeddings")
    if not isinstance(positions, int):
        return None
    if str(config.get("model_type")) in ("roberta", "xlm-roberta", "camembert"):
        padding = config.get("pad_token_id")
        return positions - 1 - (padding if isinstance(padding, int) else 1)  # positions count on from the padding's
    return positions

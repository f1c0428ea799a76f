"""A published checkpoint: its model, its tokenizer, and the weights of a text by its published formula."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoModelForMaskedLM, AutoTokenizer, PreTrainedTokenizerFast

from spladerunner.errors import CheckpointError
from spladerunner.export.silence import silenced
from spladerunner.export.source import PICKLE, SAFETENSORS
from spladerunner.model.sentence_transformers import MaskedLanguageModel

ROUNDED_UP_TO = 128
"""Checkpoints may round their vocabulary up to a multiple of this; more rows without a token are an error."""

_ACTIVATIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "relu": torch.relu,
    "log1p_relu": lambda logits: torch.log(1 + torch.relu(logits)),
    "log1p_log1p_relu": lambda logits: torch.log(1 + torch.log(1 + torch.relu(logits))),
}


class Checkpoint:
    """A masked language model in Hugging Face's layout, with the pooling and activation of its logits.

    max_length: tokens read of a text, the least that its layout, its tokenizer and its model allow.
    positions: the most tokens that the model accepts, None if it sets no limit.
    vocabulary_size: number of tokens; the model may have a few rows more.

    Raises CheckpointError if the folder does not hold a complete masked language model with its tokenizer.
    """

    @silenced()
    def __init__(self, model: MaskedLanguageModel, *, allow_pickle: bool = False) -> None:
        self.folder = folder = model.folder
        self.pooling, self.activation = model.pooling, model.activation
        if not (folder / "config.json").is_file():
            raise CheckpointError(
                f"{folder} has no config.json. Give a checkpoint in Hugging Face's layout: config.json, a tokenizer "
                f"and {SAFETENSORS}.",
                path=folder,
            )
        use_safetensors = _has_safetensors(folder, allow_pickle=allow_pickle)
        try:
            config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
            self._tokenizer = AutoTokenizer.from_pretrained(  # type: ignore[no-untyped-call]
                folder, local_files_only=True, trust_remote_code=False
            )
            self._model, loading = AutoModelForMaskedLM.from_pretrained(
                folder,
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=use_safetensors,
                output_loading_info=True,
                torch_dtype=torch.float32,
            )
        except Exception as error:  # the parts of transformers share no narrower type
            raise CheckpointError(
                f"{folder} cannot be loaded as a masked language model: {error}", path=folder
            ) from error
        if missing := sorted(loading["missing_keys"]):
            raise CheckpointError(
                f"{folder} is not a complete masked language model: its weights lack {missing[:3]} ({len(missing)} in "
                "all), which would be random. A SPLADE checkpoint includes its masked-LM head.",
                path=folder,
            )
        for name, parameter in self._model.named_parameters():
            if not torch.isfinite(parameter).all():
                raise CheckpointError(
                    f"{folder} has weights that are infinite or not a number, in {name}.", path=folder
                )
        if not self._tokenizer.is_fast:
            raise CheckpointError(f"{folder} has a tokenizer that cannot be written as tokenizer.json.", path=folder)
        rows, tokens = self._model.config.vocab_size, len(self._tokenizer)
        if not tokens <= rows < tokens + ROUNDED_UP_TO:
            raise CheckpointError(
                f"{folder} has a vocabulary of {rows} entries and a tokenizer of {tokens} tokens: they belong to "
                "different models.",
                path=folder,
            )
        self._model.eval()
        self.vocabulary_size = tokens
        self.positions = _positions(config)
        self.max_length = min(
            length
            for length in (model.max_length, self._tokenizer.model_max_length, self.positions)
            if length is not None
        )

    def save_tokenizer(self, path: Path) -> None:
        """Writes tokenizer.json as transformers runs it, which may differ from the one in the folder."""
        save_tokenizer(self._tokenizer, path)

    def weights_of(self, texts: Iterable[str], max_length: int) -> Iterator[NDArray[np.float32]]:
        """Weights by the published formula in torch, float32, one text at a time: a (V,) array each.

        weight = max, or sum, over tokens of activation(logit) · mask, where most activations are log(1 + relu(x)), as
        in naver/splade's models/transformer_rep.py; special tokens get 0.
        """
        special = self._tokenizer.all_special_ids
        activation = _ACTIVATIONS[self.activation]
        accepted = inspect.signature(self._model.forward).parameters
        with torch.inference_mode():
            for text in texts:
                tokens = self._tokenizer(text, truncation=True, max_length=max_length, return_tensors="pt")
                logits = self._model(**{name: tensor for name, tensor in tokens.items() if name in accepted}).logits
                activated = activation(logits) * tokens["attention_mask"].unsqueeze(-1)
                pooled = activated.amax(dim=1) if self.pooling == "max" else activated.sum(dim=1)
                weights: NDArray[np.float32] = pooled[0].numpy()
                weights[special] = 0
                weights[len(self._tokenizer) :] = 0  # rows that round the vocabulary up
                yield weights


def save_tokenizer(tokenizer: PreTrainedTokenizerFast, path: Path) -> None:
    """Writes a tokenizer of transformers as tokenizer.json."""
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.backend_tokenizer.no_padding()
    tokenizer.backend_tokenizer.save(str(path))


def _has_safetensors(folder: Path, *, allow_pickle: bool) -> bool:
    """Returns False for a pickle that is allowed. Raises CheckpointError if no file of weights may be loaded."""
    if any(folder.glob("model*.safetensors")):
        return True
    pickled = (folder / PICKLE).is_file()
    if pickled and allow_pickle:
        return False
    hint = f" It has {PICKLE}; if you trust that file: --allow-pickle." if pickled else ""
    raise CheckpointError(f"{folder} has no {SAFETENSORS}.{hint}", path=folder)


def _positions(config: dict[str, int | str | None]) -> int | None:
    """Number of tokens that the position embedding accepts."""
    positions = config.get("max_position_embeddings")
    if not isinstance(positions, int):
        return None
    if str(config.get("model_type")) in ("roberta", "xlm-roberta", "camembert"):
        padding = config.get("pad_token_id")
        return positions - 1 - (padding if isinstance(padding, int) else 1)  # positions start after the padding's
    return positions

"""A published checkpoint: its model, its tokenizer, and the weights of a text by its published formula."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoModelForMaskedLM, AutoTokenizer

from spladerunner.errors import CheckpointError
from spladerunner.export.convert import CONVERTER, PACKAGES, convert
from spladerunner.export.gte import read_gte_config
from spladerunner.export.language_model import check_vocabulary
from spladerunner.export.passes.contract import Graph
from spladerunner.export.silence import silenced
from spladerunner.export.source import PICKLE, SAFETENSORS
from spladerunner.export.tokenizer import save_tokenizer
from spladerunner.model.sentence_transformers import MaskedLanguageModel
from spladerunner.model.transformers_files import read_positions

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_ACTIVATIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "relu": torch.relu,
    "log1p_relu": lambda logits: torch.log(1 + torch.relu(logits)),
    "log1p_log1p_relu": lambda logits: torch.log(1 + torch.log(1 + torch.relu(logits))),
}


class Checkpoint:
    """A LanguageModel in Hugging Face's layout.

    max_length: the least that its layout, its tokenizer and its model allow.

    Raises CheckpointError if the folder does not hold a complete masked language model with its tokenizer.
    """

    head = "masked_lm"
    weight_type = "float32"
    quantization: str | None = None
    converter = CONVERTER
    tools: tuple[str, ...] = (*PACKAGES, "transformers", "torch")

    @silenced()
    def __init__(self, model: MaskedLanguageModel, *, allow_pickle: bool = False) -> None:
        self.folder = folder = model.folder
        self.pooling, self.activation, self.prompt = model.pooling, model.activation, model.prompt
        if not (folder / "config.json").is_file():
            raise CheckpointError(
                f"{folder} has no config.json. Give a checkpoint in Hugging Face's layout: config.json, a tokenizer "
                f"and {SAFETENSORS}.",
                path=folder,
            )
        use_safetensors = _has_safetensors(folder, allow_pickle=allow_pickle)
        try:
            self._tokenizer = AutoTokenizer.from_pretrained(  # type: ignore[no-untyped-call]
                folder, local_files_only=True, trust_remote_code=False
            )
            self._model, missing = self._load(use_safetensors=use_safetensors)
            self._model.float()
        except CheckpointError:
            raise
        except Exception as error:  # the parts of transformers share no narrower type
            raise CheckpointError(
                f"{folder} cannot be loaded as a masked language model: {error}", path=folder
            ) from error
        if missing:
            raise CheckpointError(
                f"{folder} is not a complete masked language model: its weights lack {sorted(missing)[:3]} "
                f"({len(missing)} in all), which would be random. A SPLADE checkpoint includes its masked-LM head.",
                path=folder,
            )
        for name, parameter in self._model.named_parameters():
            if not torch.isfinite(parameter).all():
                raise CheckpointError(
                    f"{folder} has weights that are infinite or not a number, in {name}.", path=folder
                )
        if not self._tokenizer.is_fast:
            raise CheckpointError(f"{folder} has a tokenizer that cannot be written as tokenizer.json.", path=folder)
        self.vocabulary_size = tokens = len(self._tokenizer)
        check_vocabulary(folder, tokens=tokens, rows=self._model.config.vocab_size)
        self._model.eval()
        self.positions = read_positions(folder)
        self.max_length = min(
            length
            for length in (model.max_length, self._tokenizer.model_max_length, self.positions)
            if length is not None
        )

    def _load(self, **options: Any) -> tuple[PreTrainedModel, Collection[str]]:
        """The model, and the names of the weights that its files lack. options: of from_pretrained."""
        config = read_gte_config(self.folder)
        return load_model(AutoModelForMaskedLM, self.folder, **({"config": config} if config else {}), **options)

    def save_tokenizer(self, path: Path) -> None:
        """Writes tokenizer.json as transformers runs it, which may differ from the one in the folder."""
        save_tokenizer(self._tokenizer.backend_tokenizer, path)

    def convert(self, folder: Path) -> Graph:
        """Writes folder/model.onnx, and returns the graph."""
        return convert(self.folder, self._model, folder, "fill-mask", self.vocabulary_size)

    def weights_of(self, texts: Iterable[str], max_length: int) -> Iterator[NDArray[np.float32]]:
        """Weights by the published formula in torch, float32, one text at a time: a (V,) array each.

        weight = max, or sum, over tokens of activation(logit), where most activations are log(1 + relu(x)), as
        in naver/splade's models/transformer_rep.py; special tokens get 0.
        """
        special = self._tokenizer.all_special_ids
        accepted = inspect.signature(self._model.forward).parameters
        with torch.inference_mode():
            for text in texts:
                tokens = self._tokenizer(text, truncation=True, max_length=max_length, return_tensors="pt")
                logits = self._model(**{name: tensor for name, tensor in tokens.items() if name in accepted}).logits
                weights: NDArray[np.float32] = self._pool(logits[0], tokens["input_ids"][0]).numpy()
                weights[special] = 0
                weights[len(self._tokenizer) :] = 0  # rows that round the vocabulary up
                yield weights

    def _pool(self, logits: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:  # noqa: ARG002  (a token head needs them)
        """The weights (V,) of one text. logits: (L, V). ids: (L,), without padding."""
        activated = _ACTIVATIONS[self.activation](logits)
        return activated.amax(dim=0) if self.pooling == "max" else activated.sum(dim=0)


def load_model(kind: type[Any], folder: Path, **options: Any) -> tuple[PreTrainedModel, Collection[str]]:
    """A model of the folder's files alone, without remote code, and the names of the weights that they lack.

    kind: one of transformers' Auto classes. options: of its from_pretrained.
    """
    model, loading = kind.from_pretrained(
        folder, local_files_only=True, trust_remote_code=False, output_loading_info=True, **options
    )
    return model, loading["missing_keys"]


def _has_safetensors(folder: Path, *, allow_pickle: bool) -> bool:
    """Returns False for a pickle that is allowed. Raises CheckpointError if no file of weights may be loaded."""
    if any(folder.glob("model*.safetensors")):
        return True
    pickled = (folder / PICKLE).is_file()
    if pickled and allow_pickle:
        return False
    hint = f" It has {PICKLE}; if you trust that file: --allow-pickle." if pickled else ""
    raise CheckpointError(f"{folder} has no {SAFETENSORS}.{hint}", path=folder)

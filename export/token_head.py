"""A checkpoint with a token head: BGE-M3, whose sparse_linear.pt weighs the tokens of a text.

The published formula is FlagEmbedding's, for each token of the text that is not special: the largest
relu(weight · hidden state + bias) of its positions.
"""

from __future__ import annotations

import pickle
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import AutoModelForTokenClassification

from spladerunner.errors import CheckpointError
from spladerunner.export.checkpoint import Checkpoint, load_model
from spladerunner.export.convert import convert
from spladerunner.export.passes.contract import Graph
from spladerunner.export.source import SPARSE_LINEAR
from spladerunner.model.sentence_transformers import MaskedLanguageModel

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class TokenHeadCheckpoint(Checkpoint):
    """A LanguageModel with a token head, which transformers has as the classification of tokens with one label.

    Raises CheckpointError as Checkpoint does, and if the pickled head is not allowed or does not fit the model.
    """

    head = "token"

    def __init__(self, model: MaskedLanguageModel, *, allow_pickle: bool = False) -> None:
        if not allow_pickle:
            raise CheckpointError(
                f"{model.folder} has its token head as a pickle, {SPARSE_LINEAR}. If you trust it: --allow-pickle, "
                "which loads tensors only.",
                path=model.folder / SPARSE_LINEAR,
            )
        super().__init__(model, allow_pickle=allow_pickle)

    def _load(self, **options: Any) -> tuple[PreTrainedModel, Collection[str]]:
        model, missing = load_model(AutoModelForTokenClassification, self.folder, num_labels=1, **options)
        head = model.get_submodule("classifier")
        _load_head(head, self.folder / SPARSE_LINEAR)
        return model, {*missing} - {f"classifier.{name}" for name in head.state_dict()}

    def convert(self, folder: Path) -> Graph:
        """Writes folder/model.onnx, and returns the graph. Its weights are beside it if they pass 2 GB."""
        return convert(self.folder, self._model, folder, "token-classification", 1)

    def _pool(self, logits: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        weights = torch.zeros(self._model.config.vocab_size)
        return weights.scatter_reduce_(0, ids, torch.relu(logits[:, 0]), "amax")


def _load_head(head: torch.nn.Module, path: Path) -> None:
    """Loads weight (1, D) and bias (1,) from a pickle of tensors. Raises CheckpointError if it holds anything else."""
    try:
        head.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    except (OSError, EOFError, RuntimeError, TypeError, AttributeError, pickle.UnpicklingError) as error:
        expected = {name: tuple(tensor.shape) for name, tensor in head.state_dict().items()}
        raise CheckpointError(
            f"{path} cannot be read as the tensors {expected} of a token head: {error}", path=path
        ) from error

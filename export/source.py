"""Source of a checkpoint: a folder, or a repository on the Hub at a commit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

from huggingface_hub import metadata_load

from spladerunner.errors import CheckpointError
from spladerunner.model.bundle import choose_graph
from spladerunner.model.hub import download
from spladerunner.model.sentence_transformers import MODULES, ROUTER
from spladerunner.model.token_weights import IDF

SAFETENSORS, PICKLE = "model.safetensors", "pytorch_model.bin"
SPARSE_LINEAR = "sparse_linear.pt"
"""BGE-M3's token head, a pickle."""

_DESCRIPTIONS = (
    "config.json",
    "*/config.json",
    MODULES,
    ROUTER,
    "sentence_bert_config.json",
    "*/sentence_bert_config.json",
    "README.md",
    IDF,
    *(
        f"{folder}{name}"
        for folder in ("", "*/")
        for name in (
            "tokenizer.json",
            "tokenizer_config.json",
            "special_tokens_map.json",
            "added_tokens.json",
            "vocab.txt",
            "vocab.json",
            "merges.txt",
            "*.model",
        )
    ),
)
_SAFETENSORS = (SAFETENSORS, "model.safetensors.index.json", "model-*.safetensors", f"*/{SAFETENSORS}")


@dataclass(frozen=True)
class Source:
    """Files of a checkpoint. name: the repository, or "./" and the end of a folder's path. revision: the commit."""

    name: str
    folder: Path
    revision: str | None = None

    @classmethod
    def open(cls, given: str | PathLike[str], *, onnx: bool = False, allow_pickle: bool = False) -> Source:
        """Opens a folder, or REPOSITORY[@REVISION] on the Hub, of which it downloads only the files of an export.

        onnx: its weights are an ONNX graph.

        Raises CheckpointError if given is neither, or its weights are only pickled and allow_pickle is false;
        UnknownModelError or DownloadError if the repository cannot be downloaded.
        """
        folder = Path(given)
        if folder.is_dir():
            return cls(last_two_parts(folder), folder)
        repository, _, revision = str(given).partition("@")
        if repository.count("/") != 1 or repository.startswith((".", "/")):
            raise CheckpointError(
                f"{given} is neither a folder nor a repository on the Hub (OWNER/NAME[@REVISION]).", name=str(given)
            )
        weights = () if onnx else _SAFETENSORS
        folder, commit, names = download(repository, revision or None, [*_DESCRIPTIONS, *weights])
        if onnx:
            graph = graph_among(names, repository)
            folder, _, _ = download(repository, commit, [graph, f"{graph}_data", f"{graph}.data", f"*/{SAFETENSORS}"])
            return cls(repository, folder, commit)
        only_pickled = (
            {SPARSE_LINEAR} if any(name.endswith(".safetensors") for name in names) else {SPARSE_LINEAR, PICKLE}
        )
        if pickles := sorted(only_pickled & {*names}):
            if not allow_pickle:
                raise CheckpointError(
                    f"{repository} has its weights only as a pickle, {' and '.join(pickles)}. If you trust it: "
                    "--allow-pickle, which loads tensors only.",
                    name=repository,
                )
            folder, commit, _ = download(repository, commit, [*_DESCRIPTIONS, *_SAFETENSORS, *pickles])
        return cls(repository, folder, commit)

    def __str__(self) -> str:
        """NAME, or NAME@REVISION."""
        return f"{self.name}@{self.revision}" if self.revision else self.name

    def license(self) -> str | None:
        """License in the front matter of the checkpoint's own card."""
        found = self._front_matter().get("license")
        return found if isinstance(found, str) else None

    def languages(self) -> tuple[str, ...]:
        """Languages in the front matter of the checkpoint's own card."""
        found = self._front_matter().get("language")
        return tuple(str(each) for each in (found if isinstance(found, list) else [found] if found else []))

    def _front_matter(self) -> dict[str, object]:
        card = self.folder / "README.md"
        try:
            return (metadata_load(card) if card.is_file() else None) or {}
        except ValueError:  # a malformed card does not stop an export
            return {}


def find_graph(folder: Path) -> Path:
    """The ONNX graph in a folder. Raises CheckpointError as graph_among does."""
    names = [path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*.onnx"))]
    return folder / graph_among(names, str(folder))


def graph_among(names: Sequence[str], origin: str) -> str:
    """The graph among the files of a model: as choose_graph, or the only one. Raises CheckpointError if none is.

    Examples:
        >>> graph_among(["vocab.txt", "splade-v3.onnx"], "castorini/splade-v3-onnx")
        'splade-v3.onnx'
    """
    graphs = [name for name in names if name.endswith(".onnx")]
    found = choose_graph(graphs) or (graphs[0] if len(graphs) == 1 else None)
    if found is None:
        raise CheckpointError(
            f"{origin} has {f'the graphs {graphs}' if graphs else 'no graph'}; model.onnx, onnx/model*.onnx or a "
            "single .onnx file is needed. For a checkpoint: --doc instead of --onnx.",
            name=origin,
        )
    return found


def last_two_parts(folder: str | PathLike[str]) -> str:
    """The last two parts of a folder's path, for records that should not hold the rest; "./" tells it from a name.

    Examples:
        >>> last_two_parts("/home/ada/models/tiny-en")
        './models/tiny-en'
    """
    return "/".join([".", *Path(folder).resolve().parts[-2:]])

"""Where a checkpoint comes from: a folder, or a repository on the Hub at a commit."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import metadata_load

from spladerunner.errors import CheckpointError
from spladerunner.model.hub import download
from spladerunner.model.sentence_transformers import MODULES, ROUTER

SAFETENSORS, PICKLE = "model.safetensors", "pytorch_model.bin"
IDF = "idf.json"

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
    """A checkpoint's files. name: the repository, or the last two parts of the folder. revision: the commit."""

    name: str
    folder: Path
    revision: str | None = None

    @classmethod
    def open(cls, given: str, *, allow_pickle: bool = False) -> Source:
        """given: a folder, or REPOSITORY[@REVISION] on the Hub; of that, only what an export reads is downloaded.

        Raises CheckpointError where there are only pickled weights and allow_pickle is not set, and what
        spladerunner.model.hub raises where the repository cannot be had.
        """
        folder = Path(given)
        if folder.is_dir():
            return cls("/".join(folder.resolve().parts[-2:]), folder)
        repository, _, revision = given.partition("@")
        if repository.count("/") != 1 or repository.startswith((".", "/")):
            raise CheckpointError(f"{given} is neither a folder nor a repository on the Hub (OWNER/NAME[@REVISION]).")
        folder, commit, names = download(repository, revision or None, [*_DESCRIPTIONS, *_SAFETENSORS])
        if not any(name.endswith(".safetensors") for name in names) and PICKLE in names:
            if not allow_pickle:
                raise CheckpointError(
                    f"{repository} has its weights only as a pickle, {PICKLE}. If you trust it: --allow-pickle; it is "
                    "then loaded as weights alone."
                )
            folder, commit, _ = download(repository, commit, [*_DESCRIPTIONS, PICKLE])
        return cls(repository, folder, commit)

    def license(self) -> str | None:
        """What the front matter of the checkpoint's own card says."""
        card = self.folder / "README.md"
        try:
            front = metadata_load(card) if card.is_file() else None
        except ValueError:  # the card is for people, and an odd one is no reason to stop
            return None
        found = front.get("license") if front else None
        return found if isinstance(found, str) else None

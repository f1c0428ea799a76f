"""From a name to a folder: the embedded pair, a folder as it is, or a repository on the Hub.

The only import of huggingface_hub, and only where something may come from there. Files lie in huggingface_hub's own
cache, which writes each whole and lets two processes download at once. What is cached is used without asking the Hub.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatch
from os import PathLike
from pathlib import Path

from spladerunner.errors import DownloadError, ModelFilesError, SpladeRunnerError, UnknownModelError
from spladerunner.model.bundle import TOKENIZER, choose_graph
from spladerunner.model.manifest import MANIFEST
from spladerunner.model.registry import EMBEDDED, close_names, embedded_folder, find_model
from spladerunner.model.sentence_transformers import MODULES, POOLING_FILES

_REPOSITORY = re.compile(r"(?!\.)[\w.-]+/(?!\.)[\w.-]+")
_TRIES = 3
_BESIDE_A_GRAPH = (
    TOKENIZER,
    "tokenizer_config.json",
    "config.json",
    MODULES,
    "sentence_bert_config.json",
    POOLING_FILES,
)


def fetch(model: str | PathLike[str], *, revision: str | None = None, update: bool = False) -> Path:
    """The folder of a model: downloaded, if it is on the Hub and was not before.

    model: as Expander takes it. revision: a branch, tag or commit on the Hub, the default branch unless given.
    update: ask the Hub whether the revision has moved, and download what has changed.

    Raises UnknownModelError where there is neither such a folder nor such a model, with the close matches or with the
    command that makes the model; DownloadError where the Hub has it and it cannot be had from there now;
    ModelFilesError where the repository holds no graph.
    """
    name = str(model)
    if name == EMBEDDED:
        return embedded_folder()
    try:
        if Path(model).is_dir():
            return Path(model)
    except (OSError, ValueError) as error:  # too long, or not to be looked at
        raise UnknownModelError(f"{name[:200]!r} cannot be looked up as a folder: {error}.") from error
    spec = find_model(name)
    if spec and spec.onnx is None:
        raise UnknownModelError(
            f"{name} is not on this machine, and no graph of it is on the Hub. Make a bundle, and give its folder: "
            f"{spec.export_command}"
        )
    repository = spec.onnx if spec and spec.onnx else name
    if not _REPOSITORY.fullmatch(repository):
        close = close_names(name)
        hint = f" Close to it: {', '.join(close)}." if close else ""
        raise UnknownModelError(
            f"There is no folder {name!r} and no known model of that name.{hint} `spladerunner models` lists them."
        )
    return (None if update else _cached(repository, revision)) or _download_model(repository, revision)


def split_revision(text: str) -> tuple[str, str | None]:
    """Splits NAME@REVISION into a model's name on the Hub and its revision, None without "@".

    The name of a folder that exists is never split, nor is text whose first part cannot be a name on the Hub.

    >>> split_revision("Qdrant/Splade_PP_en_v1@main")
    ('Qdrant/Splade_PP_en_v1', 'main')
    >>> split_revision("./bundles@2/small")
    ('./bundles@2/small', None)
    """
    name, _, revision = text.partition("@")
    on_the_hub = _REPOSITORY.fullmatch(name) or (find_model(name) and name != EMBEDDED)
    if not on_the_hub or Path(text).is_dir():
        return text, None
    return name, revision or None


def download(repository: str, revision: str | None, wanted: Sequence[str]) -> tuple[Path, str, list[str]]:
    """The files of a repository that match one of the wanted patterns.

    Returns the folder that holds them, the commit they are of, and the names of all files in the repository.
    Raises UnknownModelError where there is no such repository for this user, DownloadError where it cannot be had.
    """
    names, commit = _list_files(repository, revision)
    return _snapshot(repository, commit, _matching(names, wanted)), commit, names


def _download_model(repository: str, revision: str | None) -> Path:
    names, commit = _list_files(repository, revision)
    if MANIFEST in names:
        last, others = MANIFEST, _files_of_manifest(repository, commit)
    else:
        graph = choose_graph(names)
        if graph is None or TOKENIZER not in names:
            raise ModelFilesError(
                f"{repository} on the Hub holds no graph to run: neither {MANIFEST}, nor {TOKENIZER} with model.onnx "
                f"or onnx/model*.onnx. Make a bundle of it: spladerunner export --doc {repository} -o FOLDER"
            )
        last, others = (
            graph,
            [*_matching(names, _BESIDE_A_GRAPH), *_matching(names, [f"{graph}_data", f"{graph}.data"])],
        )
    # What makes the folder a model comes last: where it is, the rest is.
    _snapshot(repository, commit, others)
    folder = _snapshot(repository, commit, [last])
    if _remember(repository, revision, last) != folder / last:
        return _download_model(repository, revision)  # the revision has moved meanwhile
    return folder


def _cached(repository: str, revision: str | None) -> Path | None:
    """The folder of a model that was downloaded whole, or None."""
    from huggingface_hub import try_to_load_from_cache

    manifest = try_to_load_from_cache(repository, MANIFEST, revision=revision)
    if isinstance(manifest, str):
        return Path(manifest).parent
    tokenizer = try_to_load_from_cache(repository, TOKENIZER, revision=revision)
    if not isinstance(tokenizer, str):
        return None
    folder = Path(tokenizer).parent
    found = choose_graph([path.relative_to(folder).as_posix() for path in folder.rglob("*.onnx")])
    return folder if found else None


def _list_files(repository: str, revision: str | None) -> tuple[list[str], str]:
    """The names of a repository's files, and the commit that the revision is now."""
    from huggingface_hub import HfApi

    with _explained(repository, revision):
        found = HfApi().model_info(repository, revision=revision)
    return [file.rfilename for file in found.siblings or []], str(found.sha)


def _snapshot(repository: str, commit: str, names: Iterable[str]) -> Path:
    from huggingface_hub import errors, snapshot_download

    for tries_left in reversed(range(_TRIES)):
        try:
            with _explained(repository, commit):
                return Path(snapshot_download(repository, revision=commit, allow_patterns=list(names)))
        except DownloadError as error:
            # Some generations of huggingface_hub give up where a connection breaks in the middle of a file.
            if not tries_left or isinstance(error.__cause__, errors.HfHubHTTPError):
                raise
    raise AssertionError("unreachable: the last try returns or raises")


def _remember(repository: str, revision: str | None, name: str) -> Path:
    """Has huggingface_hub note in its cache which commit the revision is, and returns the file, there already."""
    from huggingface_hub import hf_hub_download

    with _explained(repository, revision):
        return Path(hf_hub_download(repository, name, revision=revision))


def _files_of_manifest(repository: str, commit: str) -> list[str]:
    import tempfile  # only for a download

    from huggingface_hub import hf_hub_download

    with tempfile.TemporaryDirectory() as scratch, _explained(repository, commit):
        path = hf_hub_download(repository, MANIFEST, revision=commit, local_dir=scratch)
        try:
            files = json.loads(Path(path).read_text(encoding="utf-8"))["files"]
            return [str(name) for name in files]
        except (ValueError, TypeError, KeyError) as error:
            raise ModelFilesError(
                f"{repository} on the Hub has a {MANIFEST} that is none of ours: {error!r}."
            ) from error


def _matching(names: Iterable[str], patterns: Sequence[str]) -> list[str]:
    return [name for name in names if any(fnmatch(name, pattern) for pattern in patterns)]


@contextmanager
def _explained(repository: str, revision: str | None) -> Iterator[None]:
    """Turns what huggingface_hub and the network raise into errors that say what to do."""
    from huggingface_hub import errors

    login = "`hf auth login`, or set HF_TOKEN"
    close = [name for name in close_names(repository) if name != repository]
    hint = f" Close to it: {', '.join(close)}." if close else ""
    try:
        yield
    except SpladeRunnerError:
        raise
    except errors.GatedRepoError as error:
        raise DownloadError(f"{repository} is gated: ask for access on its page on the Hub, then {login}.") from error
    except errors.RepositoryNotFoundError as error:
        raise UnknownModelError(
            f"There is no folder {repository!r}, and the Hub has no repository of that name that you may read.{hint} "
            f"If it is private: {login}."
        ) from error
    except errors.RevisionNotFoundError as error:
        raise DownloadError(f"{repository} on the Hub has no revision {revision!r}.") from error
    except errors.OfflineModeIsEnabled as error:
        raise DownloadError(
            f"{repository} is not in the cache, and HF_HUB_OFFLINE forbids to ask the Hub. Where the network is "
            f"allowed, run: spladerunner fetch {repository}"
        ) from error
    except Exception as error:  # the network's errors are of another library in each generation of huggingface_hub
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the disk, not the Hub
        raise DownloadError(
            f"There is no folder {repository!r}, and it could not be downloaded from the Hub: {type(error).__name__}: "
            f"{error}. What has arrived is kept; try again.{hint}"
        ) from error

"""Finds the folder of a model: the embedded pair, a local folder, or a repository on the Hub.

The only import of huggingface_hub, and only if a model may come from the Hub. Its cache holds the files; it writes each
atomically, and lets two processes download at once. A cached model is used without asking the Hub.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatch
from os import PathLike
from pathlib import Path

from spladerunner.errors import DownloadError, ModelFilesError, SpladeRunnerError, UnknownModelError
from spladerunner.log import debug
from spladerunner.model.bundle import TOKENIZER, choose_graph
from spladerunner.model.manifest import MANIFEST, Manifest
from spladerunner.models import EMBEDDED, embedded_folder

_REPOSITORY = r"(?!\.)[\w.-]+/(?!\.)[\w.-]+"
_TRIES = 3


def fetch(model: str | PathLike[str], *, revision: str | None = None, update: bool = False) -> Path:
    """Returns the folder of a model; downloads it first if it is on the Hub and not cached.

    model: as for Expander. revision: branch, tag or commit on the Hub, the default branch by default.
    update: ask the Hub if the revision has moved, and download changed files.

    Raises UnknownModelError if no folder or model has the name, with close matches, or with the command that makes the
    model; DownloadError if the Hub has the model and it cannot be downloaded; ModelFilesError if the repository has no
    graph.

    >>> fetch("tiny-en").name
    'tiny-en'
    """
    name = str(model)
    if name == EMBEDDED:
        return embedded_folder()
    try:
        if Path(model).is_dir():
            return Path(model)
    except (OSError, ValueError) as error:  # a name too long, a folder that cannot be read
        raise UnknownModelError(f"{name[:200]!r} cannot be looked up as a folder: {error}.", name=name) from error
    from spladerunner.model.registry import find_model  # a folder starts without it

    spec = find_model(name)
    if spec and spec.onnx is None:
        raise UnknownModelError(
            f"{name} is not on this machine, and no graph of it is on the Hub. Make a bundle, and give its folder: "
            f"{spec.export_command}",
            name=name,
        )
    repository = spec.onnx if spec and spec.onnx else name
    if not re.fullmatch(_REPOSITORY, repository):
        matches, hint = _close(name)
        raise UnknownModelError(
            f"There is no folder {name!r} and no known model of that name.{hint} `spladerunner models` lists them.",
            name=name,
            matches=matches,
        )
    cached = None if update else _cached(repository, revision)
    if cached:
        debug(__name__, "%s: cached in %s", repository, cached)
    return cached or _download_model(repository, revision)


def split_revision(text: str) -> tuple[str, str | None]:
    """Splits NAME@REVISION into a model's name on the Hub and its revision, None without "@".

    The name of a folder that exists is never split, nor is text whose first part cannot be a name on the Hub.

    >>> split_revision("Qdrant/Splade_PP_en_v1@main")
    ('Qdrant/Splade_PP_en_v1', 'main')
    >>> split_revision("./bundles@2/small")
    ('./bundles@2/small', None)
    """
    from spladerunner.model.registry import find_model

    name, _, revision = text.partition("@")
    on_the_hub = re.fullmatch(_REPOSITORY, name) or (find_model(name) and name != EMBEDDED)
    if not on_the_hub or Path(text).is_dir():
        return text, None
    return name, revision or None


def download(repository: str, revision: str | None, wanted: Sequence[str]) -> tuple[Path, str, list[str]]:
    """Downloads the files of a repository that match one of the patterns.

    Returns their folder, their commit, and the names of all files in the repository.
    Raises UnknownModelError if this user may read no such repository, DownloadError if the download fails.
    """
    names, commit = _list_files(repository, revision)
    return _snapshot(repository, commit, _matching(names, wanted)), commit, names


def _download_model(repository: str, revision: str | None) -> Path:
    from spladerunner.model.sentence_transformers import MODULES, POOLING_FILES  # a cached model starts without it

    names, commit = _list_files(repository, revision)
    if MANIFEST in names:
        last, others = MANIFEST, _files_of_manifest(repository, commit)
    else:
        graph = choose_graph(names)
        if graph is None or TOKENIZER not in names:
            raise ModelFilesError(
                f"{repository} on the Hub has no graph to run: neither {MANIFEST}, nor {TOKENIZER} with model.onnx "
                f"or onnx/model*.onnx. Make a bundle of it: spladerunner export --doc {repository} -o FOLDER",
                found=names,
            )
        configurations = (
            *(TOKENIZER, "tokenizer_config.json", "config.json"),
            *(MODULES, "sentence_bert_config.json", POOLING_FILES),
        )
        last, others = graph, _matching(names, [*configurations, f"{graph}_data", f"{graph}.data"])
    debug(__name__, "%s: downloading %s and %s of commit %s", repository, others, last, commit)
    # The file that marks a folder as a model comes last: if it is cached, all others are.
    _snapshot(repository, commit, others)
    folder = _snapshot(repository, commit, [last])
    if _remember(repository, revision, last) != folder / last:
        return _download_model(repository, revision)  # the revision has moved in the meantime
    return folder


def _cached(repository: str, revision: str | None) -> Path | None:
    """The folder of a model that is completely cached, or None."""
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
    """The names of a repository's files, and the commit of the revision."""
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
            # Some versions of huggingface_hub give up if a connection breaks in the middle of a file.
            if not tries_left or isinstance(error.__cause__, errors.HfHubHTTPError):
                raise
    raise AssertionError("unreachable: the last try returns or raises")


def _remember(repository: str, revision: str | None, name: str) -> Path:
    """Lets huggingface_hub record the commit of the revision in its cache; returns the cached file."""
    from huggingface_hub import hf_hub_download

    with _explained(repository, revision):
        return Path(hf_hub_download(repository, name, revision=revision))


def _files_of_manifest(repository: str, commit: str) -> list[str]:
    """Downloads the manifest outside the cache, where it would mark an incomplete model as complete."""
    import tempfile  # only for a download

    from huggingface_hub import hf_hub_download

    with tempfile.TemporaryDirectory() as scratch, _explained(repository, commit):
        path = hf_hub_download(repository, MANIFEST, revision=commit, local_dir=scratch)
        return list(Manifest.read(Path(path), origin=f"{repository}/{MANIFEST}").files)


def _matching(names: Iterable[str], patterns: Sequence[str]) -> list[str]:
    return [name for name in names if any(fnmatch(name, pattern) for pattern in patterns)]


def _close(name: str) -> tuple[list[str], str]:
    """Known names similar to an unknown one, and a sentence with them, empty if there are none."""
    from spladerunner.model.registry import close_names

    matches = close_names(name)
    return matches, f" Close to it: {', '.join(matches)}." if matches else ""


@contextmanager
def _explained(repository: str, revision: str | None) -> Iterator[None]:
    """Turns exceptions of huggingface_hub and the network into errors that say what to do."""
    from huggingface_hub import errors

    login = "`hf auth login`, or set HF_TOKEN"
    matches, hint = _close(repository)
    try:
        yield
    except SpladeRunnerError:
        raise
    except errors.GatedRepoError as error:
        raise DownloadError(
            f"{repository} is gated: ask for access on its page on the Hub, then {login}.",
            name=repository,
            revision=revision,
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise UnknownModelError(
            f"There is no folder {repository!r}, and the Hub has no repository of that name that you may read.{hint} "
            f"If it is private: {login}.",
            name=repository,
            matches=matches,
        ) from error
    except errors.RevisionNotFoundError as error:
        raise DownloadError(
            f"{repository} on the Hub has no revision {revision!r}.", name=repository, revision=revision
        ) from error
    except errors.OfflineModeIsEnabled as error:
        raise DownloadError(
            f"{repository} is not in the cache, and HF_HUB_OFFLINE forbids asking the Hub. With a network, run: "
            f"spladerunner fetch {repository}",
            name=repository,
            revision=revision,
        ) from error
    except Exception as error:  # huggingface_hub's versions use different network libraries, with their own errors
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the disk, not the Hub
        raise DownloadError(
            f"There is no folder {repository!r}, and it could not be downloaded from the Hub: {type(error).__name__}: "
            f"{error}. Files that arrived are kept; try again.{hint}",
            name=repository,
            revision=revision,
        ) from error

"""Finds the folder of a model: the embedded pair, a local folder, or a repository on the Hub.

It imports huggingface_hub only if a model may come from the Hub. Its cache holds the files; it writes each
atomically, and lets two processes download at once. A cached model is used without asking the Hub.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatch
from os import PathLike
from pathlib import Path, PurePosixPath

from spladerunner.errors import DownloadError, IntegrityError, ModelFilesError, SpladeRunnerError, UnknownModelError
from spladerunner.log import debug
from spladerunner.model.bundle import GRAPHS, TOKENIZER, choose_graph
from spladerunner.model.integrity import digest_by_length
from spladerunner.model.manifest import MANIFEST, FileRecord, Manifest
from spladerunner.models import EMBEDDED, embedded_folder

REPOSITORY = r"(?!\.)[\w.-]+/(?!\.)[\w.-]+"
_TRIES = 3


def fetch(model: str | PathLike[str], *, revision: str | None = None, update: bool = False) -> Path:
    """Returns the folder of a model; downloads it first if it is on the Hub and not cached.

    All files of a model from the Hub are compared with their digests.

    model: as for Expander. revision: branch, tag or commit on the Hub, the default branch by default.
    update: ask the Hub if the revision has moved, and download changed and damaged files.

    Raises IntegrityError if a file is damaged; UnknownModelError if no folder or model has the name, with close
    matches, or with the command that makes the model; DownloadError if the Hub has the model and it cannot be
    downloaded; ModelFilesError if the repository has no graph.

    >>> fetch("tiny-en").name
    'tiny-en'
    """
    folder, repository = _look_up(model)
    if folder:
        return folder
    assert repository
    cached = None if update else _cached(repository, revision)
    if cached is None:
        return _download_model(repository, revision)
    check_files(cached, repository)
    return cached


def find_folder(model: str | PathLike[str], *, revision: str | None = None) -> Path:
    """As fetch, but does not read the files of a cached model: an Expander compares each when it opens it."""
    folder, repository = _look_up(model)
    if folder:
        return folder
    assert repository
    cached = _cached(repository, revision)
    if cached:
        debug(__name__, "%s: cached in %s", repository, cached)
    return cached or _download_model(repository, revision)


def _look_up(model: str | PathLike[str]) -> tuple[Path | None, str | None]:
    """The folder of a model that is on this machine, or its repository on the Hub."""
    name = str(model)
    if name == EMBEDDED:
        return embedded_folder(), None
    try:
        if Path(model).is_dir():
            return Path(model), None
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
    if not re.fullmatch(REPOSITORY, repository):
        matches, hint = _close(name)
        raise UnknownModelError(
            f"There is no folder {name!r} and no known model of that name.{hint} `spladerunner models` lists them.",
            name=name,
            matches=matches,
        )
    return None, repository


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
    on_the_hub = re.fullmatch(REPOSITORY, name) or (find_model(name) and name != EMBEDDED)
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
    """Downloads a model at the commit of a revision, and checks its files; once more if the revision moves meanwhile.

    What marks the model as complete comes last: the manifest, or the record that there is none.
    """
    for _ in range(_TRIES):
        names, commit = _list_files(repository, revision)
        if MANIFEST in names:
            last, others = MANIFEST, _files_of_manifest(repository, commit)
        else:
            last, others = TOKENIZER, _files_of_bare_folder(repository, commit, names)
        debug(__name__, "%s: downloading %s and %s of commit %s", repository, others, last, commit)
        _snapshot(repository, commit, others)
        folder = _snapshot(repository, commit, [last])
        _repair(folder, repository, commit)
        if last != MANIFEST:
            _remember_missing(repository, commit, set(names))
        if _remember(repository, revision, last) == folder / last:
            return folder
    raise DownloadError(
        f"{repository} changed on the Hub during each of {_TRIES} downloads. Give a commit as the revision, or try "
        "again.",
        name=repository,
        revision=revision,
    )


def _files_of_bare_folder(repository: str, commit: str, names: list[str]) -> list[str]:
    """The files of a repository without a manifest that are needed; downloads its graph, which names some of them."""
    from spladerunner.model.graph import external_files  # a cached model starts without it
    from spladerunner.model.sentence_transformers import POOLING_FILES, STATIC_FILES

    graph = choose_graph(names)
    if graph is None or TOKENIZER not in names:
        raise ModelFilesError(
            f"{repository} on the Hub has no graph to run: neither {MANIFEST}, nor {TOKENIZER} with model.onnx "
            f"or onnx/model*.onnx. Make a bundle of it: spladerunner export --doc {repository} -o FOLDER",
            found=names,
        )
    folder = _snapshot(repository, commit, [graph])
    beside = [(PurePosixPath(graph).parent / name).as_posix() for name in external_files(folder / graph)]
    wanted = [name for name in names if fnmatch(name, POOLING_FILES) or fnmatch(name, STATIC_FILES)]
    return [graph, *beside, *wanted, *(name for name in _deciding() if name in names)]


def _deciding() -> tuple[str, ...]:
    """The files that, present or not, decide how a folder without a manifest is run."""
    from spladerunner.model.sentence_transformers import LENGTH, MODULES, PROMPTS, ROUTER
    from spladerunner.model.token_weights import IDF

    return (MODULES, ROUTER, PROMPTS, LENGTH, IDF, "config.json", "tokenizer_config.json", *GRAPHS)


def _cached(repository: str, revision: str | None) -> Path | None:
    """The folder of a model that is completely cached, or None.

    Other programs put files into the same cache. A folder without a manifest is complete if of each file that decides
    how it is run, the cache has the file, or has the record that the repository lacks it; the manifest's comes last.
    """
    from huggingface_hub import try_to_load_from_cache

    def find(name: str) -> Path | bool:
        """The cached file; False if the repository lacks it, True if that is not known."""
        found = try_to_load_from_cache(repository, name, revision=revision)
        return Path(found) if isinstance(found, str) else found is None

    manifest = find(MANIFEST)
    if isinstance(manifest, Path):
        return manifest.parent if _is_complete(manifest) else None
    tokenizer = find(TOKENIZER)
    if manifest or not isinstance(tokenizer, Path) or any(find(name) is True for name in _deciding()):
        return None
    return tokenizer.parent


def _is_complete(manifest: Path) -> bool:
    """True if the folder of a manifest has its files; one that cannot be read is left to the error of its opening."""
    try:
        names = Manifest.read(manifest).files
    except ModelFilesError:
        return True
    return all((manifest.parent / name).exists() for name in names)


def check_files(folder: Path, repository: str) -> None:
    """Compares all files of a cached model with their digests. Raises IntegrityError with the command that repairs."""
    damaged = _damaged(folder)
    if damaged:
        raise IntegrityError(
            f"{' and '.join(str(folder / name) for name in damaged)} of {repository} are damaged. Download again: "
            f"spladerunner fetch {repository} --update",
            path=folder / damaged[0],
        )


def _damaged(folder: Path) -> list[str]:
    """The files of a cached folder that differ from the digest in the manifest, or in the name of their blob.

    huggingface_hub names a blob after what the Hub gives for it: its SHA-256, or git's SHA-1 of it. On systems without
    links there are no blobs, and only a manifest has digests.
    """
    manifest = folder / MANIFEST
    records = Manifest.read(manifest).files if manifest.exists() else {}
    damaged = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = path.relative_to(folder).as_posix()
        blob = path.resolve()
        if name in records:
            intact = FileRecord.of(path) == records[name]
        else:
            intact = blob.parent.name != "blobs" or digest_by_length(blob, len(blob.name)) in (None, blob.name)
        if not intact:
            damaged.append(name)
    return damaged


def _repair(folder: Path, repository: str, commit: str) -> None:
    """Downloads damaged files again. Raises IntegrityError if they differ on the Hub too."""
    from huggingface_hub import hf_hub_download

    for name in _damaged(folder):
        debug(__name__, "%s: downloading %s again, which is damaged", repository, name)
        with _explained(repository, commit):
            hf_hub_download(repository, name, revision=commit, force_download=True)
    if damaged := _damaged(folder):
        (folder / MANIFEST).unlink(missing_ok=True)
        raise IntegrityError(
            f"{' and '.join(damaged)} of {repository} on the Hub differ from its {MANIFEST}. Tell its authors, or give "
            "another revision.",
            path=folder / damaged[0],
        )


def _remember_missing(repository: str, commit: str, names: set[str]) -> None:
    """Lets huggingface_hub record which deciding files the repository lacks; the manifest is the last."""
    from huggingface_hub import errors, hf_hub_download

    for name in (*_deciding(), MANIFEST):
        if name not in names:
            with _explained(repository, commit):
                try:
                    hf_hub_download(repository, name, revision=commit)
                except errors.LocalEntryNotFoundError:  # the Hub could not be asked
                    raise
                except errors.EntryNotFoundError:
                    pass


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

"""Uploads a bundle to a repository on the Hub."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path

from spladerunner.errors import IntegrityError, ModelFilesError, SpladeRunnerError, UploadError
from spladerunner.model.hub import REPOSITORY
from spladerunner.model.manifest import MANIFEST, FileRecord, Manifest

_GIT_ATTRIBUTES = ".gitattributes"
"""Files that the Hub puts into a repository that it makes."""


def push(folder: str | PathLike[str], repository: str, *, public: bool = False, overwrite: bool = False) -> str:
    """Uploads the files of a bundle as one commit, and returns the commit's address.

    repository: OWNER/NAME; it is made if it does not exist, private unless `public`. overwrite: replaces what it holds.

    Raises ModelFilesError if the folder is not a bundle, IntegrityError if a file differs from its manifest, and
    UploadError if the repository holds files and overwrite is false, is public and `public` is not given, or the other
    way round, or has changed meanwhile, or if the Hub refuses the upload.

    >>> try:
    ...     push("no-such-folder", "owner/name")
    ... except ModelFilesError as error:
    ...     print(error)
    no-such-folder is not a bundle: it has no manifest.json. Make one: spladerunner export
    """
    folder = Path(folder)
    manifest = _intact_manifest(folder)
    if not re.fullmatch(REPOSITORY, repository):
        raise UploadError(f"{repository!r} is not the name of a repository, OWNER/NAME.", name=repository)
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
    from huggingface_hub.errors import RepositoryNotFoundError

    api, ours = HfApi(), [*manifest.files, MANIFEST]
    with _explained(repository):
        try:
            found = api.model_info(repository)
        except RepositoryNotFoundError:
            api.create_repo(repository, private=not public)
            found = api.model_info(repository)
        theirs = [file.rfilename for file in found.siblings or [] if file.rfilename != _GIT_ATTRIBUTES]
        if theirs and not overwrite:
            raise UploadError(
                f"{repository} on the Hub holds {len(theirs)} files already, such as {theirs[0]}. --overwrite replaces "
                "all of them.",
                name=repository,
            )
        if bool(found.private) == public:
            state, option = ("private", "without --public") if public else ("public", "with --public")
            raise UploadError(
                f"{repository} on the Hub is {state}: push {option}, or change it there.", name=repository
            )
        commit = api.create_commit(
            repository,
            [
                *(CommitOperationAdd(name, folder / name) for name in ours),
                *(CommitOperationDelete(name) for name in theirs if name not in ours),
            ],
            commit_message=f"Upload {manifest.name}",
            parent_commit=found.sha,
        )
    return commit.commit_url


def _intact_manifest(folder: Path) -> Manifest:
    path = folder / MANIFEST
    if not path.is_file():
        raise ModelFilesError(
            f"{folder} is not a bundle: it has no {MANIFEST}. Make one: spladerunner export", path=folder
        )
    manifest = Manifest.read(path)
    for name, record in manifest.files.items():
        try:
            found = FileRecord.of(folder / name)
        except OSError as error:
            raise ModelFilesError(
                f"{folder / name}, which {MANIFEST} names, cannot be read: {error}.", path=folder / name
            ) from error
        if found != record:
            raise IntegrityError(
                f"{folder / name} differs from {MANIFEST}. Export the bundle again.",
                path=folder / name,
                expected=record,
                found=found,
            )
    return manifest


@contextmanager
def _explained(repository: str) -> Iterator[None]:
    """Turns exceptions of huggingface_hub and the network into UploadError."""
    from huggingface_hub import errors

    try:
        yield
    except SpladeRunnerError:
        raise
    except errors.OfflineModeIsEnabled as error:
        raise UploadError("HF_HUB_OFFLINE forbids asking the Hub. Unset it to push.", name=repository) from error
    except errors.HfHubHTTPError as error:
        status = getattr(error.response, "status_code", None)
        if status in (401, 403):
            advice = "`hf auth login`, or set HF_TOKEN, with a token that may write there."
        elif status == 412:
            advice = "Somebody else changed the repository meanwhile; look at it, then try again."
        else:
            advice = "Nothing was changed; try again."
        raise UploadError(f"{repository} could not be written on the Hub: {error} {advice}", name=repository) from error
    except Exception as error:  # huggingface_hub's versions use different network libraries, with their own errors
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the disk, not the Hub
        raise UploadError(
            f"{repository} could not be written on the Hub: {type(error).__name__}: {error}. Nothing was changed; try "
            "again.",
            name=repository,
        ) from error

"""Exceptions, as one tree. A message says what happened, with the value, and what to do next.

SpladeRunnerError
├── UnknownModelError    no model or folder has the name
├── DownloadError        a model on the Hub could not be downloaded
├── UploadError          a bundle could not be uploaded to the Hub
├── ModelFilesError      files of a model are missing, unreadable, or do not fit together
│   └── IntegrityError   a file differs from its manifest
├── ProviderError        an execution provider is not available
├── MissingExtraError    the packages of an optional extra are not installed
├── CollectionError      a judged collection is missing, damaged, or gives no reliable figure
├── InputError           a file of texts is damaged, or one of its lines is invalid
├── OutputError          a file of vectors cannot be started or resumed
├── CheckpointError      a checkpoint cannot be exported
└── VerificationError    an exported bundle differs too much from its checkpoint

Beside the message, an exception has its data as attributes, None or () if they do not apply. All can be pickled and
copied.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path


class SpladeRunnerError(Exception):
    """Base of all exceptions that spladerunner raises on purpose.

    >>> from spladerunner import Expander, SpladeRunnerError
    >>> try:
    ...     Expander("tiny-eng")
    ... except SpladeRunnerError as error:
    ...     print(type(error).__name__)
    UnknownModelError
    """

    def __init__(self, message: str) -> None:
        super().__init__(message)


class UnknownModelError(SpladeRunnerError):
    """No model or folder has the name.

    name: as given. matches: known names close to it, best first.

    >>> from spladerunner import Expander, UnknownModelError
    >>> try:
    ...     Expander("tiny-eng")
    ... except UnknownModelError as error:
    ...     print(error.name, error.matches)
    tiny-eng ('tiny-en',)
    """

    def __init__(self, message: str, *, name: str | None = None, matches: Iterable[str] = ()) -> None:
        super().__init__(message)
        self.name = name
        self.matches = tuple(matches)


class DownloadError(SpladeRunnerError):
    """A model on the Hub could not be downloaded: no network, no permission, no such revision.

    name: the repository. revision: the branch, tag or commit that was asked for.
    """

    def __init__(self, message: str, *, name: str | None = None, revision: str | None = None) -> None:
        super().__init__(message)
        self.name = name
        self.revision = revision


class UploadError(SpladeRunnerError):
    """A bundle could not be uploaded to the Hub: no permission, or the repository holds other files.

    name: the repository.
    """

    def __init__(self, message: str, *, name: str | None = None) -> None:
        super().__init__(message)
        self.name = name


class ModelFilesError(SpladeRunnerError):
    """A file of a model is missing, unreadable, or does not fit the others.

    path: of the file or folder. expected, found: the two values that differ, if the error is such a difference.
    """

    def __init__(
        self,
        message: str,
        *,
        path: str | PathLike[str] | None = None,
        expected: object = None,
        found: object = None,
    ) -> None:
        super().__init__(message)
        self.path = _path(path)
        self.expected = expected
        self.found = found


class IntegrityError(ModelFilesError):
    """A file differs from its manifest.

    path: of the file. expected: its size, its SHA-256, or its vocabulary's, by the manifest. found: the same, measured.
    """


class ProviderError(SpladeRunnerError):
    """An execution provider is not available.

    providers: those that are missing or did not start. available: those that onnxruntime has here.

    >>> from spladerunner import Expander, ProviderError
    >>> try:
    ...     Expander(providers=["NoSuchProvider"])
    ... except ProviderError as error:
    ...     print(error.providers, "CPUExecutionProvider" in error.available)
    ('NoSuchProvider',) True
    """

    def __init__(self, message: str, *, providers: Iterable[str] = (), available: Iterable[str] = ()) -> None:
        super().__init__(message)
        self.providers = tuple(providers)
        self.available = tuple(available)


class MissingExtraError(SpladeRunnerError):
    """The packages of an optional extra are not installed.

    extra: its name, as in `pip install 'spladerunner[extra]'`.
    """

    def __init__(self, message: str, *, extra: str | None = None) -> None:
        super().__init__(message)
        self.extra = extra


class CollectionError(SpladeRunnerError):
    """A judged collection is missing, damaged, or gives no reliable figure.

    path, line: the file, and the number of the line from 1.
    """

    def __init__(self, message: str, *, path: str | PathLike[str] | None = None, line: int | None = None) -> None:
        super().__init__(message)
        self.path = _path(path)
        self.line = line


class InputError(SpladeRunnerError):
    """A file of texts cannot be read, or one of its lines is invalid.

    path, line: the file, "-" for standard input, and the number of the line from 1.
    """

    def __init__(self, message: str, *, path: str | PathLike[str] | None = None, line: int | None = None) -> None:
        super().__init__(message)
        self.path = _path(path)
        self.line = line


class OutputError(SpladeRunnerError):
    """A file of vectors cannot be written: it exists, another run writes it, or it was started with other options.

    path: of the file.
    """

    def __init__(self, message: str, *, path: str | PathLike[str] | None = None) -> None:
        super().__init__(message)
        self.path = _path(path)


class CheckpointError(SpladeRunnerError):
    """A checkpoint cannot be exported.

    path: the folder or file at fault. name: the checkpoint's repository, or the last two parts of its folder.
    """

    def __init__(self, message: str, *, path: str | PathLike[str] | None = None, name: str | None = None) -> None:
        super().__init__(message)
        self.path = _path(path)
        self.name = name


class VerificationError(SpladeRunnerError):
    """An exported bundle differs too much from its checkpoint.

    shortfalls: each measurement that misses its limit, in words.
    """

    def __init__(self, message: str, *, shortfalls: Iterable[str] = ()) -> None:
        super().__init__(message)
        self.shortfalls = tuple(shortfalls)


@contextmanager
def requires_extra(extra: str, what: str) -> Iterator[None]:
    """Turns a failed import of a third-party package into MissingExtraError with the pip command.

    what: the start of the message, as "Reading .zst files".

    >>> with requires_extra("parquet", "Reading Parquet files"):
    ...     import json
    """
    try:
        yield
    except ImportError as error:
        if (error.name or "").partition(".")[0] == "spladerunner":
            raise  # a fault of this package
        raise MissingExtraError(
            f"{what} needs packages that are not installed ({error}): pip install 'spladerunner[{extra}]'", extra=extra
        ) from error


def _path(path: str | PathLike[str] | None) -> Path | None:
    return None if path is None else Path(path)

"""What can go wrong, as one small tree. Every message says what happened, with the value, and what to do.

SpladeRunnerError
├── UnknownModelError    no model of that name, and no folder either
├── DownloadError        a model on the Hub cannot be had from there now
├── ModelFilesError      a model's files are missing, unreadable, or do not fit together
│   └── IntegrityError   a file is not the one that its manifest describes
├── ProviderError        an execution provider was asked for that onnxruntime does not have here
├── MissingExtraError    a command needs packages of an optional extra
├── CollectionError      a judged collection is missing, broken, or gives no figure that can be trusted
├── InputError           a file of texts is damaged, or a line of it bad
├── OutputError          a file of vectors cannot be begun, or not be resumed
├── CheckpointError      a checkpoint cannot become a bundle
└── VerificationError    an exported bundle strays too far from its checkpoint
"""

from __future__ import annotations


class SpladeRunnerError(Exception):
    """The root: catch this to catch everything that spladerunner raises on purpose."""


class UnknownModelError(SpladeRunnerError):
    """The name is neither a known model nor a folder."""


class DownloadError(SpladeRunnerError):
    """A model cannot be downloaded: no network, no permission, no such revision."""


class ModelFilesError(SpladeRunnerError):
    """A file of a model is missing, unreadable, or does not fit the others."""


class IntegrityError(ModelFilesError):
    """A file differs from what the manifest says of it."""


class ProviderError(SpladeRunnerError):
    """The execution provider that was asked for is not available."""


class MissingExtraError(SpladeRunnerError):
    """Packages of an optional extra are not installed."""


class CollectionError(SpladeRunnerError):
    """A judged collection cannot be read, or no figure that can be trusted comes of it."""


class InputError(SpladeRunnerError):
    """A file of texts cannot be read, or one of its lines is bad."""


class OutputError(SpladeRunnerError):
    """A file of vectors cannot be written: it exists, another run writes it, or it was begun otherwise."""


class CheckpointError(SpladeRunnerError):
    """A checkpoint is not one that can be exported."""


class VerificationError(SpladeRunnerError):
    """A bundle's vectors are too far from those of the checkpoint it was made from."""

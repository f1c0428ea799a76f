"""SPLADE sparse expansion without torch: texts in, weighted tokens out.

from spladerunner import Expander
Expander().expand("The Manhattan Project and its atomic bomb")
"""

from spladerunner.errors import (
    CheckpointError,
    CollectionError,
    DownloadError,
    InputError,
    IntegrityError,
    MissingExtraError,
    ModelFilesError,
    OutputError,
    ProviderError,
    SpladeRunnerError,
    UnknownModelError,
    VerificationError,
)
from spladerunner.expander import Expander
from spladerunner.explanation import Explanation, SharedToken
from spladerunner.model.hub import fetch
from spladerunner.model.registry import ModelSpec, list_models
from spladerunner.vector import SparseVector

__version__ = "0.2.0"

__all__ = [
    "CheckpointError",
    "CollectionError",
    "DownloadError",
    "Expander",
    "Explanation",
    "InputError",
    "IntegrityError",
    "MissingExtraError",
    "ModelFilesError",
    "ModelSpec",
    "OutputError",
    "ProviderError",
    "SharedToken",
    "SparseVector",
    "SpladeRunnerError",
    "UnknownModelError",
    "VerificationError",
    "fetch",
    "list_models",
]

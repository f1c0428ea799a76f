"""SPLADE sparse expansion without torch: texts in, weighted tokens out.

    from spladerunner import Expander
    Expander().expand("The Manhattan Project and its atomic bomb")

The public names are those in `__all__` of this package and of its packages formats, readers, parquet, bulk,
distributed and export, and those of the modules of evaluation. All others may change in any version.
"""

from importlib import import_module
from typing import TYPE_CHECKING

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
    UploadError,
    VerificationError,
)
from spladerunner.expander import Expander
from spladerunner.inference.providers import Provider
from spladerunner.inference.tokenizer import Span
from spladerunner.model.hub import fetch
from spladerunner.model.manifest import RoleName
from spladerunner.vector import SparseVector
from spladerunner.vocabulary import Vocabulary

if TYPE_CHECKING:
    from spladerunner.comparison import Comparison, compare
    from spladerunner.explanation import Explanation, SharedToken
    from spladerunner.model.push import push
    from spladerunner.model.registry import ModelSpec, list_models
    from spladerunner.passages import Passage, TokenCount

__version__ = "0.2.0"

__all__ = [
    "CheckpointError",
    "CollectionError",
    "Comparison",
    "DownloadError",
    "Expander",
    "Explanation",
    "InputError",
    "IntegrityError",
    "MissingExtraError",
    "ModelFilesError",
    "ModelSpec",
    "OutputError",
    "Passage",
    "Provider",
    "ProviderError",
    "RoleName",
    "SharedToken",
    "Span",
    "SparseVector",
    "SpladeRunnerError",
    "TokenCount",
    "UnknownModelError",
    "UploadError",
    "VerificationError",
    "Vocabulary",
    "compare",
    "fetch",
    "list_models",
    "push",
]

# Imported when first used: expansion starts without them.
_LAZY = {
    "Comparison": "spladerunner.comparison",
    "Explanation": "spladerunner.explanation",
    "ModelSpec": "spladerunner.model.registry",
    "Passage": "spladerunner.passages",
    "SharedToken": "spladerunner.explanation",
    "TokenCount": "spladerunner.passages",
    "compare": "spladerunner.comparison",
    "list_models": "spladerunner.model.registry",
    "push": "spladerunner.model.push",
}


def __getattr__(name: str) -> object:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_LAZY[name]), name)
    return value


def __dir__() -> list[str]:
    return [*globals(), *_LAZY]

"""Export of checkpoints to bundles. It needs the extra `export`, which is imported when an export starts."""

from __future__ import annotations

from pathlib import Path

from spladerunner.errors import MissingExtraError
from spladerunner.export.options import ExportOptions, Target
from spladerunner.export.progress import Progress

__all__ = ["ExportOptions", "Progress", "Target", "export_bundle"]


def export_bundle(options: ExportOptions, *, progress: Progress | None = None) -> Path:
    """Builds a verified bundle atomically, and returns its folder.

    progress: called with a line after each pass and each verification.

    Raises MissingExtraError if the packages of the extra are not installed; CheckpointError if a checkpoint cannot be
    exported, the vocabularies of a pair differ, or the output exists; VerificationError if the vectors differ too much
    from the checkpoint's; UnknownModelError or DownloadError if a repository cannot be downloaded.
    """
    try:
        from spladerunner.export import pipeline
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("spladerunner"):
            raise
        raise MissingExtraError(
            f"The export needs packages that are not installed ({error}): pip install 'spladerunner[export]'"
        ) from error
    return pipeline.build_bundle(options, progress or (lambda _: None))

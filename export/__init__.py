"""Export of checkpoints to bundles. It needs the extra `export`, whose packages are imported when an export starts."""

from __future__ import annotations

import logging
from pathlib import Path

from spladerunner.errors import requires_extra
from spladerunner.export.options import ExportOptions, Target
from spladerunner.export.progress import Progress

__all__ = ["ExportOptions", "Progress", "Target", "export_bundle"]


def export_bundle(options: ExportOptions, *, progress: Progress | None = None) -> Path:
    """Builds a verified bundle atomically, and returns its folder.

    progress: called with a line after each pass and each verification; by default they are logged.

    Raises MissingExtraError if the packages of the extra are not installed; CheckpointError if a checkpoint cannot be
    exported, the vocabularies of a pair differ, or the output exists; VerificationError if the vectors differ too much
    from the checkpoint's; UnknownModelError or DownloadError if a repository cannot be downloaded.

    Examples:
        >>> from spladerunner import CheckpointError
        >>> try:
        ...     export_bundle(ExportOptions("no-such-folder", "bundle"))
        ... except CheckpointError as error:
        ...     print(error)
        no-such-folder is neither a folder nor a repository on the Hub (OWNER/NAME[@REVISION]).
    """
    with requires_extra("onnx" if options.onnx else "export", "The export"):
        from spladerunner.export import pipeline

        if not options.onnx:
            from spladerunner.export import checkpoint  # noqa: F401  # imports the rest of the extra
    return pipeline.build_bundle(options, progress or logging.getLogger(__name__).info)

"""The build-time half: a checkpoint becomes a bundle. Needs the extra `export`; the runtime never imports it."""

from spladerunner.export.pipeline import export_bundle

__all__ = ["export_bundle"]

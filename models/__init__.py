"""Bundles that are part of the package, a folder each."""

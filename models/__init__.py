"""The bundles that ship inside the package, a folder each."""

"""Experiments behind design decisions; README.md has their tables."""

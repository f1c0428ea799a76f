"""Loads models: a name, or a folder, becomes a checked bundle. Private to spladerunner.

name ─ registry, hub ─▶ folder ─ bundle (manifest, integrity) ─▶ files of each role

sentence_transformers reads the layout of folders that have no manifest.
"""

"""Vectors in Parquet: a file, or a folder of parts with a manifest, on any file system that PyArrow knows by its URL.

A row is a document: id, and indices (list<int32>) and values (list<float32>), or vector, a map of token to weight. The
schema's metadata says which model made it.

table has the columns, parts the folder: each part says which lines of which job it holds, and the manifest, written
last, lists them.
"""

from spladerunner.parquet.parts import Part, Parts, open_parts, read_vectors

__all__ = ["Part", "Parts", "open_parts", "read_vectors"]

"""A graph in memory, with its weights: what is compared with the manifest is what onnxruntime gets.

The file of a graph, and the files that it names, are read or mapped once. The bytes that are hashed are those that are
given to onnxruntime, which opens no file itself, so a file that is replaced in the meantime changes nothing.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from spladerunner.errors import ModelFilesError
from spladerunner.model.content import is_inside, open_regular
from spladerunner.model.onnx_file import ExternalTensor, external_tensors, output_rank

if TYPE_CHECKING:  # numpy.typing is slow to import
    from numpy.typing import NDArray

Content = bytes | mmap.mmap

COPIED = 64 << 20
"""Bytes of a file that is copied into memory. A larger one is mapped, so that its weights are not held twice: once as
the file has them, and once as onnxruntime arranges them for its products."""


class Graph(NamedTuple):
    """A graph and its weights.

    path: of its file. content: of its file. files: the contents of all its files, by their names in the folder.
    initializers: the tensors that are in other files than the graph's, by their names in the graph.
    """

    path: Path
    content: Content
    files: dict[str, Content]
    initializers: dict[str, NDArray[Any]]

    @property
    def pools_inside(self) -> bool:
        """True if the graph's output is (B, V). Raises ModelFilesError if it is not a graph."""
        try:
            return output_rank(self.content) == 2
        except ValueError as error:
            raise _not_opened(self.path, error) from error

    @property
    def is_large(self) -> bool:
        """True if all weights are in the graph's own file, and that is mapped.

        To give its bytes to onnxruntime would hold them several times.
        """
        return isinstance(self.content, mmap.mmap) and not self.initializers

    def release(self) -> None:
        """Drops the pages of mapped files from memory: onnxruntime has its own copy of most weights by now."""
        for content in self.files.values():
            if isinstance(content, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
                content.madvise(mmap.MADV_DONTNEED)


def read_graph(folder: Path, name: str, read: Callable[[str], Content]) -> Graph:
    """Reads a graph and the files that it names.

    read: gives the content of a file by its name in the folder, and raises ModelFilesError if it cannot.
    Raises ModelFilesError if the file is not a graph, or names a file that is not in the graph's folder.
    """
    path = folder / name
    content = read(name)
    files, initializers = {name: content}, {}
    beside: dict[str, str] = {}  # to look for a file takes longer than to find its tensors
    try:
        for tensor in external_tensors(content):
            if tensor.location not in beside:
                beside[tensor.location] = _beside(folder, name, tensor)
            file = beside[tensor.location]
            if file not in files:
                files[file] = read(file)
            if tensor.name in initializers:
                raise ValueError(f"it has two tensors of the name {tensor.name!r}")
            initializers[tensor.name] = _array(tensor, files[file])
    except ValueError as error:
        raise _not_opened(path, error) from error
    return Graph(path, content, files, initializers)


def external_files(path: Path) -> list[str]:
    """The files that a graph names, relative to its folder. Raises ModelFilesError if it is not a graph."""
    try:
        return sorted({tensor.location for tensor in external_tensors(read_or_map(path))})
    except (OSError, ValueError) as error:
        raise _not_opened(path, error) from error


def read_or_map(path: Path) -> Content:
    """The content of a regular file, in memory up to COPIED bytes, else mapped. Raises OSError or ModelFilesError."""
    with os.fdopen(open_regular(path), "rb") as file:
        size = os.fstat(file.fileno()).st_size
        return file.read(size) if size <= COPIED else mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ)


def _beside(folder: Path, graph: str, tensor: ExternalTensor) -> str:
    """The file of a tensor, by its name in the folder. Raises ValueError if it is elsewhere.

    A link may lead to the folder that the graph itself is in: so the Hub's cache stores them.
    """
    if not tensor.location or not is_inside(tensor.location):
        raise ValueError(f"the tensor {tensor.name!r} is in {tensor.location!r}, which is outside the graph's folder")
    name = (PurePosixPath(graph).parent / tensor.location).as_posix()
    real = Path(os.path.realpath(folder / name))
    allowed = (Path(os.path.realpath(folder)), Path(os.path.realpath(folder / graph)).parent)
    if not any(real.is_relative_to(each) for each in allowed):
        raise ValueError(f"the tensor {tensor.name!r} is in {tensor.location!r}, a link that leads out of the folder")
    return name


def _array(tensor: ExternalTensor, content: Content) -> NDArray[Any]:
    if tensor.offset + tensor.size > len(content):
        raise ValueError(
            f"the tensor {tensor.name!r} ends at byte {tensor.offset + tensor.size} of {tensor.location}, which has "
            f"{len(content)}"
        )
    kind = np.dtype(tensor.type)
    flat = np.frombuffer(memoryview(content)[tensor.offset :][: tensor.size], np.uint8)
    if tensor.offset % kind.itemsize:
        flat = flat.copy()  # numbers at odd places are slow, and on some processors not allowed
    return flat.view(kind).reshape(tensor.shape)


def _not_opened(path: Path, error: Exception) -> ModelFilesError:
    return ModelFilesError(f"{path} cannot be opened: {error}. Fetch or export the model again.", path=path)

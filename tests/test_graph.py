"""Graphs and the files that they name: nothing outside the folder is read, and what is checked is what runs."""

from __future__ import annotations

import os
import shutil
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from spladerunner import Expander, IntegrityError, ModelFilesError
from spladerunner.inference.session import Session
from spladerunner.model import graph as module
from spladerunner.model.graph import read_graph, read_or_map
from spladerunner.models import embedded_folder
from tests.small_model import (
    SYMMETRIC,
    SmallGraph,
    change_manifest,
    graph_role,
    move_weights,
    records,
    write_bare_folder,
    write_bundle,
)
from tests.test_session import text_of


def with_external_data(folder: Path, graph: str = "model.onnx") -> Path:
    write_bare_folder(folder, graph)
    move_weights(folder / graph)
    return folder


def relocate(graph: Path, location: str) -> None:
    """Lets a graph name another file for its weights."""
    model = onnx.load(graph, load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = location
    graph.write_bytes(model.SerializeToString())


@pytest.mark.parametrize("copied", [True, False])
@pytest.mark.parametrize("graph", ["model.onnx", "onnx/model.onnx"])
def test_weights_in_another_file_give_the_same_vectors(
    tmp_path: Path, graph: str, copied: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = Expander(write_bare_folder(tmp_path / "inline", graph), **SYMMETRIC).expand("the cat sat")
    monkeypatch.setattr(module, "COPIED", module.COPIED if copied else 0)
    folder = with_external_data(tmp_path / "external", graph)
    assert Expander(folder, **SYMMETRIC).expand("the cat sat") == expected
    inline = Expander(write_bare_folder(tmp_path / "mapped", graph), **SYMMETRIC)
    assert inline.expand("the cat sat") == expected


def test_numbers_at_odd_places_are_read(tmp_path: Path) -> None:
    path = SmallGraph().save(tmp_path / "model.onnx")
    data = move_weights(path)
    data.write_bytes(b"x" + data.read_bytes())
    model = onnx.load(path, load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "offset":
                entry.value = str(int(entry.value) + 1)
        if tensor.external_data and not any(entry.key == "offset" for entry in tensor.external_data):
            entry = tensor.external_data.add()
            entry.key, entry.value = "offset", "1"
    path.write_bytes(model.SerializeToString())
    found = read_graph(tmp_path, "model.onnx", lambda name: read_or_map(tmp_path / name))
    session = Session(path, content=bytes(found.content), initializers=found.initializers)
    np.testing.assert_allclose(session.run(text_of([2, 7, 3]))[0], SmallGraph().logits([2, 7, 3]), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "location", ["../secret", "/etc/passwd", "a/../../secret", "", "nul\0", "..\\secret", "*/_ORT_MEM_ADDR_/*"]
)
@pytest.mark.parametrize("kind", ["bare", "bundle"])
def test_a_graph_reads_no_file_outside_its_folder(tmp_path: Path, kind: str, location: str) -> None:
    folder = with_external_data(tmp_path / "bare")
    shutil.copy(folder / "model.onnx_data", tmp_path / "secret")
    relocate(folder / "model.onnx", location)
    if kind == "bundle":
        bundle = write_bundle(tmp_path / "bundle")
        shutil.copy(folder / "model.onnx", bundle / "doc.onnx")
        change_manifest(bundle, files=records(bundle, "tokenizer.json", "doc.onnx", "query.onnx"))
        folder = bundle
    with pytest.raises(ModelFilesError, match=r"(model|doc)\.onnx|_ORT_MEM_ADDR_"):
        Expander(folder, **(SYMMETRIC if kind == "bare" else {})).expand("the cat")


def test_links_that_lead_out_of_the_folder_are_refused(tmp_path: Path) -> None:
    folder = with_external_data(tmp_path / "bare")
    (folder / "model.onnx_data").rename(tmp_path / "secret")
    (folder / "model.onnx_data").symlink_to(tmp_path / "secret")
    with pytest.raises(ModelFilesError, match="a link that leads out of the folder"):
        Expander(folder, **SYMMETRIC).expand("the cat")


def test_links_of_the_cache_of_the_hub_work(tmp_path: Path) -> None:
    """There all files of a snapshot are links into one folder of blobs."""
    folder = with_external_data(tmp_path / "bare")
    expected = Expander(folder, **SYMMETRIC).expand("the cat")
    snapshot, blobs = tmp_path / "cache" / "snapshots" / "abc", tmp_path / "cache" / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    for number, path in enumerate(sorted(folder.iterdir())):
        shutil.copy(path, blobs / str(number))
        (snapshot / path.name).symlink_to(f"../../blobs/{number}")
    assert Expander(snapshot, **SYMMETRIC).expand("the cat") == expected


def test_a_folder_reached_by_a_link_works(tmp_path: Path) -> None:
    folder = with_external_data(tmp_path / "bare")
    (tmp_path / "link").symlink_to(folder)
    assert Expander(tmp_path / "link", **SYMMETRIC).expand("the cat")[0]


def test_weights_beyond_the_end_of_their_file_are_refused(tmp_path: Path) -> None:
    folder = with_external_data(tmp_path / "bare")
    os.truncate(folder / "model.onnx_data", (folder / "model.onnx_data").stat().st_size - 1)
    with pytest.raises(ModelFilesError, match=r"model\.onnx cannot be opened: the tensor .* ends at byte"):
        Expander(folder, **SYMMETRIC).expand("the cat")


def test_a_file_that_the_manifest_does_not_list_is_refused(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "bundle")
    move_weights(bundle / "doc.onnx")
    change_manifest(bundle, files=records(bundle, "tokenizer.json", "doc.onnx", "query.onnx"))
    with pytest.raises(ModelFilesError, match=r"manifest\.json does not list doc\.onnx_data, which a graph reads"):
        Expander(bundle).expand("the cat")


def bundle_with_external_data(folder: Path) -> Path:
    bundle = write_bundle(folder)
    move_weights(bundle / "doc.onnx")
    change_manifest(
        bundle,
        roles={
            "doc": replace(graph_role("doc.onnx", 32), external_data=("doc.onnx_data",)),
            "query": graph_role("query.onnx", 16),
        },
        files=records(bundle, "tokenizer.json", "doc.onnx", "doc.onnx_data", "query.onnx"),
    )
    return bundle


@pytest.mark.slow
def test_no_tampered_weight_runs_while_files_are_swapped(tmp_path: Path) -> None:
    """Another thread swaps graph and weights for others of the same size, by renaming, beside 300 opens."""
    bundle = bundle_with_external_data(tmp_path / "bundle")
    expected = Expander(bundle).expand("the cat sat")
    right, wrong = tmp_path / "right", tmp_path / "wrong"
    wrong.mkdir()
    move_weights(SmallGraph(seed=9).save(wrong / "doc.onnx"))
    shutil.copytree(bundle, right)
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            for source in (wrong, right):
                for name in ("doc.onnx_data", "doc.onnx"):
                    shutil.copy(source / name, tmp_path / "new")
                    (tmp_path / "new").replace(bundle / name)

    swapping = threading.Thread(target=swap)
    swapping.start()
    refused = 0
    try:
        for _ in range(300):
            try:
                assert Expander(bundle, threads=1).expand("the cat sat") == expected
            except IntegrityError:
                refused += 1
    finally:
        stop.set()
        swapping.join()
    assert 0 < refused < 300


def test_weights_changed_in_place_do_not_reach_a_process_that_opened_them(tmp_path: Path) -> None:
    """Weights of the embedded pair's size are copied."""
    shutil.copytree(embedded_folder(), tmp_path / "copied")
    expander = Expander(tmp_path / "copied")
    expected = expander.expand("the nuclear reactor")
    for path in (tmp_path / "copied").glob("*.data"):
        assert path.stat().st_size <= module.COPIED
        with path.open("r+b") as file:
            file.write(bytes(path.stat().st_size))
        os.truncate(path, 0)
    assert expander.expand("the nuclear reactor") == expected


def resident_kilobytes(path: Path) -> int:
    """The kilobytes of a mapped file that are in this process's memory, as the kernel says."""
    lines = Path("/proc/self/smaps").read_text().splitlines()
    begins = [at for at, line in enumerate(lines) if line.endswith(str(path))]
    return sum(int(next(line for line in lines[at:] if line.startswith("Rss:")).split()[1]) for at in begins)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_pages_of_a_mapped_file_leave_the_memory_once_they_are_not_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "COPIED", 0)
    graph = read_graph(
        with_external_data(tmp_path / "external"), "model.onnx", lambda name: read_or_map(tmp_path / "external" / name)
    )
    (mapped,) = (tmp_path / "external" / name for name in graph.files if name != "model.onnx")
    assert sum(bytes(graph.files[mapped.name])) > 0 and resident_kilobytes(mapped) > 0
    graph.release()
    assert resident_kilobytes(mapped) == 0

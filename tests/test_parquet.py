"""Vectors as Arrow columns and parts, and what a reader refuses."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pyarrow.dataset
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from spladerunner import Expander, InputError, SparseVector, Vocabulary
from spladerunner.bulk import encode
from spladerunner.filesystem import Folder
from spladerunner.parquet import Parts, open_parts, read_vectors
from spladerunner.parquet.parts import MANIFEST, find_part
from spladerunner.parquet.table import FORMATS, rows, table
from spladerunner.readers import Input

VOCABULARY = Vocabulary([f"token{at}" for at in range(50)], [])
WEIGHTS = st.dictionaries(st.integers(0, 49), st.floats(0, 100, width=32, exclude_min=True), max_size=20)


@pytest.mark.slow
@given(weights=st.lists(WEIGHTS, max_size=8), format=st.sampled_from(FORMATS), cut=st.integers(0, 8))
@settings(deadline=None)
def test_vectors_come_back_bit_for_bit_from_any_slice(weights: list[dict[int, float]], format: str, cut: int) -> None:
    vectors = [SparseVector(sorted(row), [row[at] for at in sorted(row)]) for row in weights]
    names = [f"d{at}" for at in range(len(vectors))]
    made = table(names, vectors, VOCABULARY, format, {})
    assert list(rows(made.slice(cut), VOCABULARY)) == list(zip(names, vectors, strict=True))[cut:]
    assert made.to_pylist() == [
        {"id": name, "indices": vector.indices.tolist(), "values": vector.values.tolist()}
        if format == "indices"
        else {"id": name, "vector": list(VOCABULARY.weights(vector).items())}
        for name, vector in zip(names, vectors, strict=True)
    ]


def test_other_columns_and_maps_without_a_vocabulary_are_refused() -> None:
    with pytest.raises(InputError, match="give the vocabulary"):
        list(rows(table(["d"], [SparseVector([3], [1.0])], VOCABULARY, "json", {})))
    with pytest.raises(InputError, match=r"columns \['a'\] are not those of vectors"):
        list(rows(pyarrow.table({"a": [1]})))


@pytest.fixture
def parts(tmp_path: Path, bundle: Path) -> Parts:
    """25 documents in parts of 10 lines."""
    (tmp_path / "corpus.tsv").write_text("".join(f"d{n}\tthe cat sat {n}\n" for n in range(25)))
    encode(Expander(bundle), [Input(str(tmp_path / "corpus.tsv"))], f"{tmp_path}/parts/", part_lines=10)
    return open_parts(str(tmp_path / "parts"))


def test_a_manifest_says_what_the_parts_are(tmp_path: Path, bundle: Path, parts: Parts) -> None:
    expander = Expander(bundle)
    assert (parts.model, parts.fingerprint, parts.role, parts.rows) == ("small", expander.fingerprint, "doc", 25)
    assert [part.rows for part in parts.parts] == [10, 10, 5]
    files = [tmp_path / "parts" / part.name for part in parts.parts]
    assert [part.bytes for part in parts.parts] == [file.stat().st_size for file in files]
    parts.check()
    metadata = [parquet.read_schema(file).metadata for file in files]
    assert {each[b"spladerunner.fingerprint"].decode() for each in metadata} == {expander.fingerprint}
    vectors = expander.encode([f"the cat sat {n}" for n in range(25)])
    expected = [(f"d{n}", vector) for n, vector in enumerate(vectors)]
    assert list(read_vectors(str(tmp_path / "parts"))) == list(parts.vectors()) == expected
    copy = pickle.loads(pickle.dumps(parts))
    assert [row for part in copy.parts for row in copy.vectors(part)] == expected
    assert pyarrow.dataset.dataset(tmp_path / "parts").count_rows() == 25  # other readers pass over the manifest


def test_an_incomplete_or_mixed_set_is_refused(tmp_path: Path, bundle: Path, parts: Parts) -> None:
    folder = tmp_path / "parts"
    first, second, _ = (folder / part.name for part in parts.parts)

    def refused(message: str) -> None:
        with pytest.raises(InputError, match=message):
            list(read_vectors(str(folder)))

    (folder / "part-000009.parquet").write_bytes(b"")
    refused(r"0 are missing \[\], and 1 belong to another set \['part-000009")
    (folder / "part-000009.parquet").unlink()
    content = second.read_bytes()
    second.unlink()
    refused(r"1 are missing \['part-000001")
    second.write_bytes(content[:-9])
    refused("is damaged or missing")
    encode(Expander(bundle, 8), [Input(str(tmp_path / "corpus.tsv"))], f"{tmp_path}/other/", part_lines=10)
    shutil.copy(tmp_path / "other" / second.name, second)
    refused(r"part-000001.parquet by a model with the fingerprint")
    shutil.copy(first, second)
    with pytest.raises(InputError, match=r"part-000001.parquet has SHA-256"):
        open_parts(str(folder)).check()
    manifest = folder / MANIFEST
    manifest.write_text(manifest.read_text()[:-30])
    refused("damaged, or from another version")
    manifest.unlink()
    refused("no _manifest.json: it is not a folder of parts, or not complete yet")


def test_a_manifest_of_two_models_is_refused(tmp_path: Path, parts: Parts) -> None:
    path = tmp_path / "parts" / MANIFEST
    manifest = json.loads(path.read_text())
    manifest["parts"][1]["fingerprint"] = "another"
    path.write_text(json.dumps(manifest))
    with pytest.raises(InputError, match=r"by another model or with other options: \['part-000001"):
        open_parts(str(tmp_path / "parts"))


def test_a_part_that_is_cut_or_foreign_is_no_part(tmp_path: Path, parts: Parts) -> None:
    folder = Folder(str(tmp_path / "parts"))
    part = parts.parts[1]
    assert find_part(folder, 1) == (part, parts.job)
    content = folder.read(part.name)
    for cut in np.linspace(0, len(content) - 1, 20, dtype=int):
        folder.write(part.name, content[:cut])
        assert find_part(folder, 1) is None
    parquet.write_table(pyarrow.table({"id": ["d"]}), tmp_path / "parts" / part.name)
    assert find_part(folder, 1) is None
    assert find_part(folder, 7) is None

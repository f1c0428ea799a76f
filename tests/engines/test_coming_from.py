"""docs/coming-from.md: the code of FastEmbed and of SPLADERunner 0.1 runs on a small graph, and agrees with ours."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from spladerunner import Expander
from tests.conftest import ROOT
from tests.page_runner import blocks
from tests.small_model import SPECIAL, SYMMETRIC, TOKENS, SmallGraph, tokenizer

FORMER = Path(sys.prefix) / "spladerunner-0.1"
"""Folder where `make engines` installs SPLADERunner 0.1, outside the environment, as it has this package's name."""

CODE = [
    block.content
    for block in blocks((ROOT / "docs" / "coming-from.md").read_text(encoding="utf-8"))
    if block.language == "python"
]
DOCUMENT, QUERY = "the cat sat on the mat", "river bank"


def graph_folder(folder: Path, **renamed: str) -> Path:
    """A float32 graph with the files beside it that both packages read. renamed: inputs, by the names they get."""
    folder.mkdir(parents=True)
    path = SmallGraph().save(folder / "model.onnx")
    model = onnx.load(path)
    for node in model.graph.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]
    for given in model.graph.input:
        given.name = renamed.get(given.name, given.name)
    if "segment_ids" in renamed.values():  # which 0.1 feeds to every graph
        segments = onnx.ValueInfoProto()
        segments.CopyFrom(model.graph.input[0])
        segments.name = "segment_ids"
        model.graph.input.append(segments)
    onnx.save(model, path)
    tokenizer().save(str(folder / "tokenizer.json"))
    (folder / "config.json").write_text(json.dumps({"pad_token_id": 0, "max_position_embeddings": 512}))
    (folder / "tokenizer_config.json").write_text(json.dumps({"model_max_length": 512, "pad_token": "[PAD]"}))
    (folder / "special_tokens_map.json").write_text(json.dumps({"pad_token": "[PAD]", "unk_token": "[UNK]"}))
    return folder


def block_with(*words: str) -> str:
    """The block of the page that has all the words, with texts that the small graph knows."""
    (found,) = [code for code in CODE if all(word in code for word in words)]
    for given, instead in ("a document", DOCUMENT), ("a query", QUERY), ("a text", DOCUMENT), ("another", QUERY):
        found = found.replace(f'"{given}"', f'"{instead}"')
    return found


def test_fastembed_and_spladerunner_give_the_same(tmp_path: Path) -> None:
    pytest.importorskip("fastembed", reason="make engines installs FastEmbed")
    folder = graph_folder(tmp_path / "model")
    model = '"prithivida/Splade_PP_en_v1"'
    theirs: dict[str, Any] = {}
    exec(block_with("SparseTextEmbedding").replace(model, f"{model}, specific_model_path={str(folder)!r}"), theirs)
    ours: dict[str, Any] = {}
    code = block_with("from spladerunner import Expander\n\nmodel = Expander()")
    exec(code.replace("Expander()  #", f"Expander({str(folder)!r}, **{SYMMETRIC})  #"), ours)
    special = [TOKENS.index(token) for token in SPECIAL]
    for name in ("documents", "queries"):
        (their,), (our,) = theirs[name], ours[name]
        kept = ~np.isin(their.indices, special)
        assert kept.sum() > 20 and not kept.all(), "the page says that special tokens have weights there"
        assert our.indices.tolist() == their.indices[kept].tolist()
        np.testing.assert_allclose(our.values, their.values[kept], rtol=1e-5)


@pytest.mark.skipif(not FORMER.exists(), reason="make engines installs SPLADERunner 0.1")
def test_the_calls_of_0_1_run_in_both(tmp_path: Path) -> None:
    folder = graph_folder(
        tmp_path / "cache" / "Splade_PP_en_v1", attention_mask="input_mask", token_type_ids="segment_ids"
    )
    code = block_with('from spladerunner import Expander\n\nexpander = Expander("Splade_PP_en_v1", 128)')
    *setup, one, two = code.strip().splitlines()
    former = "\n".join(
        [
            "import json",
            *setup,
            f"print(json.dumps([{one}, {two}, expander.expand({DOCUMENT!r}, outformat='lucene')]))",
        ]
    ).replace("128)", f"128, cache_dir={str(folder.parent)!r})")
    environment = {**os.environ, "PYTHONPATH": str(FORMER)}
    done = subprocess.run(
        [sys.executable, "-c", former], env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    (single,), both, (by_token,) = json.loads(done.stdout.splitlines()[-1])
    assert len(both) == 2 and both[0]["indices"] == single["indices"]
    our: dict[str, Any] = {}
    exec("\n".join(setup).replace('"Splade_PP_en_v1", 128', f"{str(folder)!r}, 128, **{SYMMETRIC}"), our)
    expander: Expander = our["expander"]
    (weights,), many = eval(one, our), eval(two, our)
    assert many[0] == weights and len(many) == 2
    indices = [index for index in single["indices"] if TOKENS[index] not in SPECIAL]
    values = [value for index, value in zip(single["indices"], single["values"], strict=True) if index in indices]
    (vector,) = expander.encode(DOCUMENT)
    assert len(indices) > 20 and vector.indices.tolist() == indices
    assert vector.values.tolist() == pytest.approx(values, rel=1e-5)
    rounded = {token: weight for token, weight in by_token.items() if token not in SPECIAL}
    assert len(rounded) < len(by_token), "the page says that special tokens have weights there"
    assert weights == pytest.approx(rounded, abs=0.0051)

"""Every family and layout through the export: against torch, and against sentence-transformers' own encoder."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

from spladerunner import CheckpointError, Expander, VerificationError
from spladerunner.export import ExportOptions, Target, export_bundle, pipeline
from spladerunner.export.checkpoint import Checkpoint
from spladerunner.export.graph import GraphBuilder, passes_of
from spladerunner.export.passes import QUANTIZATIONS
from spladerunner.export.passes.quantize import Quantize
from spladerunner.export.roles import open_roles
from spladerunner.export.source import Source
from spladerunner.export.token_weights import TokenWeights
from spladerunner.export.verify import GraphVerifier, verification_texts
from spladerunner.inference import providers
from spladerunner.model.manifest import MANIFEST, ROLES, GraphRole, RoleName
from spladerunner.model.provenance import ExportManifest, GraphAgreement
from spladerunner.model.sentence_transformers import MaskedLanguageModel
from spladerunner.vocabulary import Vocabulary
from tests.checkpoints import (
    SMALL,
    WORDS,
    add_idf,
    carry_into_distilbert,
    carry_into_roberta,
    save_bert,
    save_full_size,
    save_sentence_transformers,
)
from tests.small_model import TOKENS
from tests.torch_reference import torch_weights

pytestmark = pytest.mark.usefixtures("quiet_libraries")

TEXTS = ["the cat sat on the mat", "river bank naïve", " ".join(WORDS) * 3, "数据 running données", "x"]


@pytest.fixture(autouse=True)
def few_texts(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "all_texts" not in request.keywords:
        monkeypatch.setattr(pipeline, "verification_texts", lambda: TEXTS)


def document(folder: Path) -> tuple[ExportManifest, GraphRole, GraphAgreement]:
    """The manifest of a bundle, its document role, and the measurements of that."""
    manifest = ExportManifest.read(folder / MANIFEST)
    role, verification = manifest.roles["doc"], manifest.verification
    assert isinstance(role, GraphRole) and verification is not None
    agreement = verification.roles["doc"]
    assert isinstance(agreement, GraphAgreement)
    return manifest, role, agreement


def weights_of(expander: Expander, texts: list[str], size: int, role: RoleName = "doc") -> np.ndarray:
    rows = np.zeros((len(texts), size), dtype=np.float32)
    for row, vector in zip(rows, expander.encode(texts, role=role), strict=True):
        row[vector.indices] = vector.values
    return rows


def cosines(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    found: np.ndarray = np.einsum("tv,tv->t", first, second)
    found /= np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    return found


@pytest.mark.parametrize("target", ["cpu", "cuda"])
@pytest.mark.parametrize("family", SMALL)
def test_every_family_exports_and_agrees_with_torch(
    family: str, target: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Graphs for CUDA run in padded batches, here on the CPU provider."""
    if target == "cuda":
        monkeypatch.setattr(providers, "_GPU_DEVICES", {providers.CPU: "cpu"})
    checkpoint = SMALL[family](tmp_path / "checkpoint")
    folder = export_bundle(ExportOptions(checkpoint, tmp_path / "bundle", target=target))  # verified: float32 to 1e-4
    size = len(AutoTokenizer.from_pretrained(checkpoint))
    found = weights_of(Expander(folder), TEXTS, size)
    assert cosines(found, torch_weights(checkpoint, TEXTS, max_length=64)[:, :size]).min() > 0.99
    manifest, _, measured = document(folder)
    assert measured.fp32_largest_difference <= 1e-4
    assert manifest.weight_type == {"cpu": "int8", "cuda": "float16"}[target]
    kinds = {
        constant.data_type for constant in onnx.load(folder / "doc.onnx").graph.initializer if len(constant.dims) > 1
    }
    if target == "cuda":
        assert onnx.TensorProto.FLOAT16 in kinds and onnx.TensorProto.FLOAT not in kinds


def test_byte_level_tokens_come_out_as_words(tmp_path: Path) -> None:
    folder = export_bundle(ExportOptions(SMALL["roberta"](tmp_path / "checkpoint"), tmp_path / "bundle"))
    own = Expander(folder).own_tokens(" " + " ".join(WORDS))
    assert {f"▁{word}" for word in WORDS} <= own
    assert all(token.isprintable() and " " not in token for token in Expander(folder).expand("the cat")[0])


def test_unigram_tokens_come_out_as_words(tmp_path: Path) -> None:
    folder = export_bundle(ExportOptions(SMALL["xlm-roberta"](tmp_path / "checkpoint"), tmp_path / "bundle"))
    assert {f"▁{word}" for word in WORDS} <= Expander(folder).own_tokens(" ".join(WORDS))


@pytest.mark.parametrize("pooling", ["max", "sum"])
@pytest.mark.parametrize("activation", ["relu", "log1p_relu"])
def test_the_symmetric_layout_of_sentence_transformers(tmp_path: Path, pooling: str, activation: str) -> None:
    from sentence_transformers import SparseEncoder

    layout = save_sentence_transformers(
        tmp_path / "layout", save_bert(tmp_path / "bert"), pooling=pooling, activation=activation
    )
    folder = export_bundle(ExportOptions(layout, tmp_path / "bundle"))
    expected = SparseEncoder(str(layout), device="cpu").encode(TEXTS, convert_to_sparse_tensor=False).numpy()
    expected[:, :5] = 0  # special tokens carry no weight here
    for name in ROLES:
        assert cosines(weights_of(Expander(folder), TEXTS, len(TOKENS), name), expected).min() > 0.999
    role = document(folder)[1]
    assert role.pooling == pooling
    assert role.activation == {"relu": "log1p_relu", "log1p_relu": "log1p_log1p_relu"}[activation]


def test_a_router_with_two_models(tmp_path: Path) -> None:
    from sentence_transformers import SparseEncoder

    """Its two lengths and two numbers of positions are four numbers, each less than some text."""
    doc = save_bert(tmp_path / "doc", max_position_embeddings=40)
    query = save_bert(tmp_path / "query", num_hidden_layers=2, max_position_embeddings=30)
    layout = save_sentence_transformers(tmp_path / "layout", doc, query, doc_length=24, query_length=16)
    folder = export_bundle(ExportOptions(layout, tmp_path / "bundle"))
    roles = ExportManifest.read(folder / MANIFEST).roles
    lengths = {name: (served.max_length, served.positions) for name, served in roles.items()}  # type: ignore[union-attr]
    assert lengths == {"doc": (24, 40), "query": (16, 30)}
    encoder, expander = SparseEncoder(str(layout), device="cpu"), Expander(folder)
    for role, encode in zip(ROLES, (encoder.encode_document, encoder.encode_query), strict=True):
        expected = encode(TEXTS, convert_to_sparse_tensor=False).numpy()
        expected[:, :5] = 0
        assert cosines(weights_of(expander, TEXTS, len(TOKENS), role), expected).min() > 0.999


def test_a_router_with_a_static_embedding_needs_no_query_graph(tmp_path: Path) -> None:
    from sentence_transformers import SparseEncoder

    doc = save_bert(tmp_path / "doc")
    layout = save_sentence_transformers(tmp_path / "layout", doc, doc, activation="log1p_relu", doc_length=48)
    folder = export_bundle(ExportOptions(layout, tmp_path / "bundle"))
    assert not (folder / "query.onnx").exists()
    roles = ExportManifest.read(folder / MANIFEST).roles
    assert roles["doc"].max_length == roles["query"].max_length == 48
    encoder, expander = SparseEncoder(str(layout), device="cpu"), Expander(folder)
    expected = encoder.encode_query(TEXTS, convert_to_sparse_tensor=False).numpy()
    expected[:, :5] = 0
    np.testing.assert_allclose(weights_of(expander, TEXTS, len(TOKENS), "query"), expected, atol=1e-6)
    documents = encoder.encode_document(TEXTS, convert_to_sparse_tensor=False).numpy()
    documents[:, :5] = 0
    assert cosines(weights_of(expander, TEXTS, len(TOKENS)), documents).min() > 0.999


def test_an_idf_file_weighs_queries_once_the_activation_is_given(tmp_path: Path) -> None:
    checkpoint = add_idf(save_bert(tmp_path / "checkpoint"), {"cat": 2.5, "river": 1.25, "[SEP]": 9.0})
    with pytest.raises(CheckpointError, match=r"idf\.json.*--activation log1p_relu"):
        export_bundle(ExportOptions(checkpoint, tmp_path / "bundle"))
    folder = export_bundle(ExportOptions(checkpoint, tmp_path / "bundle", activation="log1p_log1p_relu"))
    expander = Expander(folder)
    assert expander.expand_query(["the cat cat", "river cat"]) == [{"cat": 2.5}, {"cat": 2.5, "river": 1.25}]
    assert document(folder)[1].activation == "log1p_log1p_relu"
    card = (folder / "README.md").read_text()
    assert "query.npy, a weight for each token" in card and "--activation log1p_log1p_relu" in card


def test_inference_free_queries_weigh_each_token_one(tmp_path: Path) -> None:
    folder = export_bundle(ExportOptions(save_bert(tmp_path / "checkpoint"), tmp_path / "bundle", inference_free=True))
    assert Expander(folder).expand_query("the cat the mat") == [{"the": 1.0, "cat": 1.0, "mat": 1.0}]


@pytest.mark.parametrize("quantization", QUANTIZATIONS)
@pytest.mark.parametrize("width", [256, 264])
def test_a_decoder_has_the_same_logits_as_rows_and_whole(tmp_path: Path, width: int, quantization: str) -> None:
    """Models of up to 256 columns have rows. Both are compared with torch."""
    checkpoint = save_bert(tmp_path / "checkpoint", hidden_size=width, num_attention_heads=8)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(pipeline, "QUANTIZATIONS", (quantization,))
        folder = export_bundle(ExportOptions(checkpoint, tmp_path / "bundle", accept_drift=True))
    (output,) = onnx.load(folder / "doc.onnx", load_external_data=False).graph.output
    assert output.name == ("largest_logits" if width == 256 else "logits")
    manifest, role, _ = document(folder)
    assert role.quantization == quantization and manifest.verification is not None
    for text, expected in zip(TEXTS, torch_weights(checkpoint, TEXTS, max_length=64), strict=True):
        (vector,) = Expander(folder).encode(text)
        found = np.zeros(len(TOKENS), dtype=np.float32)
        found[vector.indices] = vector.values
        np.testing.assert_allclose(found, expected, rtol=0, atol=0.1)


def test_lexical_queries_are_weighed_and_not_expanded(tmp_path: Path) -> None:
    checkpoint = save_bert(tmp_path / "checkpoint")
    folder = export_bundle(ExportOptions(checkpoint, tmp_path / "bundle", lexical=True))
    expander = Expander(folder)
    (document,) = expander.expand("the cat")
    assert expander.expand_query("the cat") == [
        {token: weight for token, weight in document.items() if token in ("the", "cat")}
    ]
    assert 0 < len(expander.expand_query("the cat")[0]) < len(document)
    card = (folder / "README.md").read_text()
    assert "vectors keep only the tokens of the text" in card and "--lexical" in card


def test_lexical_queries_need_a_model(tmp_path: Path) -> None:
    checkpoint = add_idf(save_bert(tmp_path / "checkpoint"), {"cat": 1.5})
    options = ExportOptions(checkpoint, tmp_path / "bundle", activation="log1p_relu", lexical=True)
    with pytest.raises(
        CheckpointError, match="adds no tokens to queries, which have a weight for each of their own: l"
    ):
        export_bundle(options)


def test_a_known_lexical_model_needs_the_option(tmp_path: Path) -> None:
    checkpoint = save_bert(tmp_path / "checkpoint")
    lexical, other = Source("naver/splade-v3-lexical", checkpoint), Source("./checkpoint", checkpoint)
    options = ExportOptions(checkpoint, tmp_path / "bundle")
    for doc, query in ((lexical, None), (other, lexical)):
        with pytest.raises(CheckpointError, match=r"Queries of naver/splade-v3-lexical keep only their own .* --lexi"):
            open_roles(doc, query, options)
        assert open_roles(doc, query, replace(options, lexical=True))
    assert open_roles(lexical, other, options) and open_roles(lexical, None, replace(options, inference_free=True))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"query": "itself", "inference_free": True}, "exclude each other"),
        ({"lexical": True, "inference_free": True}, "--lexical needs a query model, and --inference-free is for none"),
        ({"lexical": True, "target": "cuda"}, "Queries that keep only their own tokens run on CPUs: leave --lexical"),
        ({"activation": "softmax"}, "--activation softmax is not known"),
        ({"pooling": "mean"}, "--pooling mean is not known"),
    ],
)
def test_options_that_exclude_each_other_are_errors(
    tmp_path: Path, options: dict[str, str | bool], message: str
) -> None:
    checkpoint = save_bert(tmp_path / "checkpoint")
    if options.get("query") == "itself":
        options = {**options, "query": str(checkpoint)}
    with pytest.raises(CheckpointError, match=message):
        export_bundle(ExportOptions(checkpoint, tmp_path / "bundle", **options))  # type: ignore[arg-type]
    assert not (tmp_path / "bundle").exists()


def test_an_option_that_contradicts_the_files_is_an_error(tmp_path: Path) -> None:
    layout = save_sentence_transformers(tmp_path / "layout", save_bert(tmp_path / "bert"))
    with pytest.raises(CheckpointError, match="states that its pooling is max, not sum: leave --pooling out"):
        export_bundle(ExportOptions(layout, tmp_path / "bundle", pooling="sum"))


@pytest.mark.parametrize(("pooling", "activation"), [("sum", None), ("max", "relu"), ("sum", "log1p_log1p_relu")])
@pytest.mark.parametrize("target", ["cpu", "cuda"])
def test_options_decide_what_a_plain_checkpoint_leaves_open(
    tmp_path: Path, pooling: str, activation: str | None, target: Target
) -> None:
    folder = export_bundle(
        ExportOptions(
            save_bert(tmp_path / "checkpoint"),
            tmp_path / "bundle",
            pooling=pooling,
            activation=activation,
            target=target,
        )
    )  # verified against the formula in torch
    role = document(folder)[1]
    assert (role.pooling, role.activation) == (pooling, activation or "log1p_relu")


def spoil(quantized: Path) -> None:
    """Negates the scales of a quantized graph."""
    model = onnx.load(quantized)
    for constant in model.graph.initializer:
        if constant.name.endswith("_scale") and constant.dims[0] in (32, 64):
            constant.CopyFrom(numpy_helper.from_array(-numpy_helper.to_array(constant), constant.name))
    onnx.save(model, quantized)


def test_quantization_is_chosen_by_measurement_and_the_reference_computed_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[str] = []
    computed: list[Path] = []
    run, weights_of = Quantize.run, Checkpoint.weights_of

    def spoil_the_first(self: Quantize, source: Path, target: Path) -> None:
        tried.append(self.quantization)
        run(self, source, target)
        if len(tried) == 1:
            spoil(target)

    def count(self: Checkpoint, texts: Iterable[str], max_length: int) -> Iterator[NDArray[np.float32]]:
        computed.append(self.folder)
        return weights_of(self, texts, max_length)

    monkeypatch.setattr(Quantize, "run", spoil_the_first)
    monkeypatch.setattr(Checkpoint, "weights_of", count)
    lines: list[str] = []
    checkpoint = save_bert(tmp_path / "checkpoint")
    folder = export_bundle(ExportOptions(checkpoint, tmp_path / "bundle"), progress=lines.append)
    assert tried == list(QUANTIZATIONS[:2])
    assert document(folder)[1].quantization == QUANTIZATIONS[1]
    assert any(f"falls short; next: {QUANTIZATIONS[1]}" in line for line in lines)
    assert computed == [checkpoint]
    assert sum(line.startswith("convert") for line in lines) == 1


def test_the_best_quantization_is_kept_if_all_fall_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measure = GraphVerifier.measure
    cosines = iter([0.5, 0.8, 0.6])

    def worsen(self: GraphVerifier, graph: Path) -> GraphAgreement:
        return replace(measure(self, graph), worst_cosine=next(cosines))

    monkeypatch.setattr(GraphVerifier, "measure", worsen)
    checkpoint = save_bert(tmp_path / "checkpoint")
    folder = export_bundle(ExportOptions(checkpoint, tmp_path / "bundle", accept_drift=True))
    _, role, measured = document(folder)
    assert (role.quantization, measured.worst_cosine) == (QUANTIZATIONS[1], 0.8)
    opened = Checkpoint(MaskedLanguageModel(checkpoint))
    builder = GraphBuilder(opened, "doc", tmp_path, lambda _: None)
    builder.build(passes_of(opened, "cpu", QUANTIZATIONS[1]), tmp_path / "doc.onnx")
    for name in ("doc.onnx", "doc.onnx.data"):
        assert (folder / name).read_bytes() == (tmp_path / name).read_bytes()


def test_a_quantization_that_does_not_fall_short_wins_over_a_better_cosine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first keeps too few of the heaviest tokens, though its worst cosine is better than the second's."""
    measure = GraphVerifier.measure
    measured = iter([{"worst_cosine": 0.999, "mean_shared_top20": 0.5}, {"worst_cosine": 0.991}])

    def worsen(self: GraphVerifier, graph: Path) -> GraphAgreement:
        return replace(measure(self, graph), **next(measured))  # type: ignore[arg-type]

    monkeypatch.setattr(GraphVerifier, "measure", worsen)
    folder = export_bundle(ExportOptions(save_bert(tmp_path / "checkpoint"), tmp_path / "bundle"))
    manifest, role, agreement = document(folder)
    assert (role.quantization, agreement.worst_cosine) == (QUANTIZATIONS[1], 0.991)
    assert manifest.verification is not None and manifest.verification.shortfalls == ()


def test_a_table_that_is_saved_wrong_falls_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The query weights of one token are a thousandth too small on the disk."""
    save = TokenWeights.save

    def damage(self: TokenWeights, path: Path, vocabulary: Vocabulary) -> None:
        save(self, path, vocabulary)
        weights = np.load(path)
        weights[TOKENS.index("cat")] -= 0.001
        np.save(path, weights)

    monkeypatch.setattr(TokenWeights, "save", damage)
    options = ExportOptions(save_bert(tmp_path / "checkpoint"), tmp_path / "bundle", inference_free=True)
    message = "query: the largest difference from the source 0.001 is above 1e-04"
    with pytest.raises(VerificationError, match=message) as raised:
        export_bundle(options)
    assert raised.value.shortfalls == (message,)


def test_a_graph_that_is_made_wrong_falls_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The decoder's bias is reversed, by every quantization."""
    run = Quantize.run

    def reverse_bias(self: Quantize, source: Path, target: Path) -> None:
        run(self, source, target)
        model = onnx.load(target)
        for constant in model.graph.initializer:
            if list(constant.dims) == [len(TOKENS)] and constant.data_type == onnx.TensorProto.FLOAT:
                constant.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(constant)[::-1], constant.name))
        onnx.save(model, target)

    monkeypatch.setattr(Quantize, "run", reverse_bias)
    with pytest.raises(VerificationError, match=r"doc: the worst cosine -?0\.\d+ is below 0\.99") as raised:
        export_bundle(ExportOptions(save_bert(tmp_path / "checkpoint"), tmp_path / "bundle"))
    assert not any("float32" in shortfall for shortfall in raised.value.shortfalls)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]


def test_pickled_weights_are_taken_only_when_allowed(tmp_path: Path) -> None:
    checkpoint = save_bert(tmp_path / "checkpoint")
    torch.save(load_file(checkpoint / "model.safetensors"), checkpoint / "pytorch_model.bin")
    expected = torch_weights(checkpoint, TEXTS, max_length=64)
    (checkpoint / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="--allow-pickle"):
        export_bundle(ExportOptions(checkpoint, tmp_path / "bundle"))
    folder = export_bundle(ExportOptions(checkpoint, tmp_path / "bundle", allow_pickle=True))
    assert cosines(weights_of(Expander(folder), TEXTS, len(TOKENS)), expected).min() > 0.999


def test_weights_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    checkpoint = save_bert(tmp_path / "checkpoint")
    tensors = load_file(checkpoint / "model.safetensors")
    tensors["cls.predictions.bias"][3] = torch.nan
    save_file(tensors, checkpoint / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"infinite or not a number, in cls\.predictions\.bias"):
        export_bundle(ExportOptions(checkpoint, tmp_path / "bundle"))


def test_a_vocabulary_of_another_size_than_the_tokenizers_is_refused(tmp_path: Path) -> None:
    from tests.checkpoints import save_tokenizer

    checkpoint = save_bert(tmp_path / "checkpoint")
    save_tokenizer(checkpoint, [*TOKENS, "extra"])
    with pytest.raises(CheckpointError, match=rf"{len(TOKENS)} entries and a tokenizer of {len(TOKENS) + 1} tokens"):
        export_bundle(ExportOptions(checkpoint, tmp_path / "bundle"))


def test_a_generative_model_is_refused(tmp_path: Path) -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    checkpoint = save_bert(tmp_path / "checkpoint")
    config = GPT2Config(vocab_size=len(TOKENS), n_positions=64, n_embd=32, n_layer=1, n_head=2)
    GPT2LMHeadModel(config).save_pretrained(checkpoint)
    with pytest.raises(CheckpointError, match="cannot be loaded as a masked language model"):
        export_bundle(ExportOptions(checkpoint, tmp_path / "bundle"))


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(onnx, "save", full)
    checkpoint = save_bert(tmp_path / "checkpoint")
    with pytest.raises(CheckpointError, match="no space is left on its disk"):
        export_bundle(ExportOptions(checkpoint, tmp_path / "bundle"))
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]


@pytest.mark.all_texts
@pytest.mark.parametrize("layout", ["distilbert", "roberta", "sentence-transformers"])
def test_the_trained_weights_hold_the_thresholds_in_every_layout(shared: Path, tmp_path: Path, layout: str) -> None:
    trained = shared / "tiny-en" / "doc"
    if layout == "distilbert":
        checkpoint = carry_into_distilbert(trained, tmp_path / "checkpoint")
    elif layout == "roberta":
        checkpoint = carry_into_roberta(trained, tmp_path / "checkpoint")
    else:
        checkpoint = save_sentence_transformers(tmp_path / "checkpoint", trained)
    texts = [text for text in verification_texts() if len(text) < 200][:40]
    if layout != "sentence-transformers":
        expected = torch_weights(trained, texts, max_length=256)
        np.testing.assert_allclose(torch_weights(checkpoint, texts, max_length=256), expected, atol=1e-4)
    folder = export_bundle(ExportOptions(checkpoint, tmp_path / "bundle"))  # raises where it falls short
    manifest, _, measured = document(folder)
    assert manifest.verification is not None and manifest.verification.shortfalls == ()
    assert measured.texts >= 200 and measured.mean_cosine >= 0.999


def test_the_trained_weights_hold_the_limits_of_float16(shared: Path, tmp_path: Path) -> None:
    options = ExportOptions(shared / "tiny-en" / "doc", tmp_path / "bundle", target="cuda")
    measured = document(export_bundle(options))[2]  # raises if it falls short
    assert measured.worst_cosine >= 0.999 and measured.mean_shared_top20 >= 0.99


@pytest.mark.parametrize(("shape", "megabytes"), [("bert-base", 115), ("distilbert", 72), ("bert-tiny", 5)])
def test_full_size_models_are_as_small_as_they_should_be(
    shared: Path, tmp_path: Path, shape: str, megabytes: float
) -> None:
    checkpoint = save_full_size(tmp_path / "checkpoint", shape, shared / "data" / "bert-base-uncased-vocab.txt")
    folder = export_bundle(ExportOptions(checkpoint, tmp_path / "bundle"))
    assert sum(path.stat().st_size for path in folder.glob("doc.onnx*")) <= megabytes * 1e6
    assert document(folder)[2].fp32_largest_difference <= 1e-4


def test_a_static_embedding_in_the_files_wins_over_weights_of_one(tmp_path: Path) -> None:
    doc, query = save_bert(tmp_path / "doc"), save_bert(tmp_path / "query")
    static = save_sentence_transformers(tmp_path / "static", doc, doc)
    folder = export_bundle(ExportOptions(static, tmp_path / "bundle", inference_free=True))
    (weights,) = Expander(folder).expand_query("the cat")
    assert weights["the"] == pytest.approx(1 + TOKENS.index("the") / 1000)
    two_models = save_sentence_transformers(tmp_path / "two", doc, query)
    with pytest.raises(CheckpointError, match="leave --inference-free out"):
        export_bundle(ExportOptions(two_models, tmp_path / "other", inference_free=True))

"""Loading by name: huggingface_hub's real client, in processes of its own, against a small Hub on loopback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import errors

from spladerunner import DownloadError, Expander, IntegrityError, UnknownModelError, fetch
from spladerunner.model import hub as hub_module
from spladerunner.model.hub import _explained as explained
from spladerunner.model.hub import split_revision
from spladerunner.model.manifest import MANIFEST
from spladerunner.models import EMBEDDED, embedded_folder
from tests.conftest import ROOT
from tests.hub_server import TOKEN, Hub, Repository
from tests.small_model import SYMMETRIC, SmallGraph, move_weights, tokenizer, write_bundle

pytestmark = pytest.mark.slow  # each test starts processes

BUNDLE = "owner/bundle"


@pytest.fixture
def with_bundle(hub: Hub, bundle: Path) -> Repository:
    (bundle / "training_state.bin").write_bytes(b"not needed")
    return hub.add_folder(BUNDLE, bundle)


def onnx_folder(
    folder: Path, *, graph: str = "model.onnx", inputs: tuple[str, ...] = ("input_ids", "attention_mask")
) -> Path:
    (folder / graph).parent.mkdir(parents=True)
    SmallGraph().save(folder / graph, inputs=inputs)
    tokenizer().save(str(folder / "tokenizer.json"))
    (folder / "config.json").write_text(json.dumps({"max_position_embeddings": 40}))
    (folder / "model.safetensors").write_bytes(b"not needed")
    return folder


def environment(hub: Hub, home: Path, **changes: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
    return {
        **kept,
        "HF_ENDPOINT": hub.endpoint,
        "HF_HOME": str(home),
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "PYTHONPATH": str(ROOT),
        **changes,
    }


def command(hub: Hub, home: Path, *arguments: str, **changes: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "spladerunner", *arguments],
        env=environment(hub, home, **changes),
        capture_output=True,
        text=True,
        cwd=home,
    )


AS_SYMMETRIC = ("--pooling", "max", "--activation", "log1p_relu", "--queries", "model")


def expanded(hub: Hub, home: Path, model: str, *options: str, **changes: str) -> dict[str, float]:
    done = command(hub, home, "expand", "--model", model, "the cat sat", *options, **changes)
    assert done.returncode == 0, done.stderr
    weights: dict[str, float] = json.loads(done.stdout)
    return weights


def refused(hub: Hub, home: Path, model: str, *options: str, **changes: str) -> str:
    done = command(hub, home, "fetch", model, *options, **changes)
    assert done.returncode == 1 and done.stdout == ""
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("spladerunner: ")
    return last


@pytest.mark.usefixtures("with_bundle")
def test_a_bundle_loads_by_its_repository_and_only_its_files_are_downloaded(
    hub: Hub, tmp_path: Path, bundle: Path
) -> None:
    assert expanded(hub, tmp_path, BUNDLE) == Expander(bundle).expand("the cat sat")[0]
    assert set(hub.downloads()) == {"manifest.json", "tokenizer.json", "doc.onnx", "query.onnx"}
    assert hub.downloads()[-1] == "manifest.json"  # which makes a folder a model


@pytest.mark.usefixtures("with_bundle")
def test_once_cached_the_network_is_not_asked_again(hub: Hub, tmp_path: Path) -> None:
    first = expanded(hub, tmp_path, BUNDLE)
    hub.requests.clear()
    assert expanded(hub, tmp_path, BUNDLE) == first
    assert hub.requests == []
    assert expanded(hub, tmp_path, BUNDLE, HF_HUB_OFFLINE="1") == first
    assert expanded(hub, tmp_path, BUNDLE, HF_ENDPOINT="http://127.0.0.1:9") == first


def test_fetch_prints_the_folder_and_update_takes_what_has_changed(
    hub: Hub, tmp_path: Path, with_bundle: Repository
) -> None:
    first = Path(command(hub, tmp_path, "fetch", BUNDLE).stdout.strip())
    assert (first / "manifest.json").is_file()
    with_bundle.files["manifest.json"] = with_bundle.files["manifest.json"].replace(b'"small"', b'"moved"')
    with_bundle.move()
    assert Path(command(hub, tmp_path, "fetch", BUNDLE).stdout.strip()) == first
    hub.requests.clear()
    second = Path(command(hub, tmp_path, "fetch", BUNDLE, "--update").stdout.strip())
    assert second != first and b'"moved"' in (second / "manifest.json").read_bytes()
    assert set(hub.downloads()) == {"manifest.json"}
    assert Path(command(hub, tmp_path, "fetch", BUNDLE).stdout.strip()) == second


def test_a_revision_can_be_given(hub: Hub, tmp_path: Path, with_bundle: Repository) -> None:
    done = command(hub, tmp_path, "fetch", BUNDLE, "--revision", with_bundle.commit)
    assert with_bundle.commit in done.stdout
    hub.requests.clear()
    assert command(hub, tmp_path, "fetch", BUNDLE, "--revision", with_bundle.commit).stdout == done.stdout
    assert hub.requests == []
    assert "has no revision 'v9'" in refused(hub, tmp_path, BUNDLE, "--revision", "v9")


@pytest.mark.parametrize("graph", ["model.onnx", "onnx/model.onnx", "onnx/model_quantized.onnx"])
def test_a_repository_with_a_graph_loads_as_a_symmetric_model(hub: Hub, tmp_path: Path, graph: str) -> None:
    folder = onnx_folder(tmp_path / "repository", graph=graph)
    hub.add_folder("owner/onnx", folder)
    local = Expander(folder, **SYMMETRIC)
    assert expanded(hub, tmp_path, "owner/onnx", *AS_SYMMETRIC) == local.expand("the cat sat")[0]
    assert set(hub.downloads()) == {graph, "tokenizer.json", "config.json"}
    hub.requests.clear()
    assert expanded(hub, tmp_path, "owner/onnx", *AS_SYMMETRIC) and hub.requests == []


def test_a_repository_with_a_pooling_of_its_own_is_pooled_so(hub: Hub, tmp_path: Path) -> None:
    folder = onnx_folder(tmp_path / "repository")
    write_layout(folder)
    hub.add_folder("owner/onnx", folder)
    weights = expanded(hub, tmp_path, "owner/onnx")
    assert weights == Expander(folder).expand("the cat sat")[0]
    (folder / "modules.json").unlink()
    assert weights != Expander(folder, **SYMMETRIC).expand("the cat sat")[0]


def test_the_calls_of_spladerunner_0_1_run_unchanged(hub: Hub, tmp_path: Path) -> None:
    folder = onnx_folder(tmp_path / "repository", inputs=("input_ids", "attention_mask", "token_type_ids"))
    hub.add_folder("Qdrant/Splade_PP_en_v1", folder)
    code = """
import json
from spladerunner import Expander
expander = Expander("Splade_PP_en_v1", 128)
print(json.dumps([expander.expand("the cat"), expander.expand(["the cat", "river bank"])]))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(hub, tmp_path), capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    local = Expander(folder, 128, **SYMMETRIC)
    assert json.loads(done.stdout) == [local.expand("the cat"), local.expand(["the cat", "river bank"])]


def external_data_folder(folder: Path) -> Path:
    onnx_folder(folder)
    move_weights(folder / "model.onnx")
    return folder


def test_a_graph_with_external_data_brings_it_along(hub: Hub, tmp_path: Path) -> None:
    hub.add_folder("owner/onnx", external_data_folder(tmp_path / "repository"))
    assert expanded(hub, tmp_path, "owner/onnx", *AS_SYMMETRIC)
    assert "model.onnx_data" in hub.downloads()


def test_a_large_file_is_taken_up_where_it_broke(hub: Hub, tmp_path: Path) -> None:
    folder = external_data_folder(tmp_path / "repository")
    with (folder / "model.onnx_data").open("ab") as file:
        file.write(bytes(30_000_000))  # no tensor is there: external data may be longer than what it holds
    hub.add_folder("owner/onnx", folder)
    hub.cuts["model.onnx_data"] = 1
    local = Expander(folder, **SYMMETRIC)
    assert expanded(hub, tmp_path, "owner/onnx", *AS_SYMMETRIC) == local.expand("the cat sat")[0]
    ranges = [asked for line, asked in hub.requests if line.startswith("GET") and line.endswith("model.onnx_data")]
    assert any(asked and not asked.startswith("bytes=0-") for asked in ranges)


@pytest.mark.usefixtures("with_bundle")
def test_two_processes_that_load_at_once_both_succeed(hub: Hub, tmp_path: Path) -> None:
    hub.delays["doc.onnx"] = 0.5
    arguments = [sys.executable, "-m", "spladerunner", "expand", "--model", BUNDLE, "the cat sat"]
    processes = [
        subprocess.Popen(arguments, env=environment(hub, tmp_path), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        for _ in range(4)
    ]
    outputs = [process.communicate()[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * 4
    assert len(set(outputs)) == 1 and json.loads(outputs[0])


@pytest.mark.usefixtures("with_bundle")
def test_a_connection_cut_in_the_middle_is_taken_up_again(hub: Hub, tmp_path: Path, bundle: Path) -> None:
    hub.cuts["doc.onnx"] = 2
    assert expanded(hub, tmp_path, BUNDLE) == Expander(bundle).expand("the cat sat")[0]
    assert hub.downloads().count("doc.onnx") == 3


@pytest.mark.usefixtures("with_bundle")
def test_a_connection_that_is_always_cut_is_an_error(hub: Hub, tmp_path: Path) -> None:
    hub.cuts["doc.onnx"] = 1000
    assert "could not be downloaded" in refused(hub, tmp_path, BUNDLE)


def test_a_download_that_never_ends_well_is_an_error_and_leaves_nothing_that_passes_for_a_model(
    hub: Hub, tmp_path: Path, with_bundle: Repository
) -> None:
    whole = with_bundle.files["query.onnx"]
    with_bundle.files["query.onnx"] = b"another file of another size"
    assert "query.onnx of owner/bundle on the Hub differ from its manifest.json" in refused(hub, tmp_path, BUNDLE)
    with_bundle.files["query.onnx"] = whole
    assert expanded(hub, tmp_path, BUNDLE, HF_HOME=str(tmp_path / "other"))


@pytest.mark.parametrize("by_commit", [False, True])
@pytest.mark.parametrize("kind", ["bundle", "graph"])
def test_an_interrupted_download_is_not_taken_for_a_model(
    hub: Hub, tmp_path: Path, bundle: Path, kind: str, by_commit: bool
) -> None:
    """Killed between two files: the next start asks the Hub for the rest."""
    folder, slow = (bundle, "doc.onnx") if kind == "bundle" else (onnx_folder(tmp_path / "onnx"), "config.json")
    repository = hub.add_folder(BUNDLE, folder)
    revision = ["--revision", repository.commit] if by_commit else []
    hub.delays[slow] = 60
    process = subprocess.Popen(
        [sys.executable, "-m", "spladerunner", "fetch", BUNDLE, *revision],
        env=environment(hub, tmp_path, HF_HUB_DOWNLOAD_TIMEOUT="90"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while not any(line.endswith(slow) and line.startswith("GET /cdn") for line, _ in hub.requests):
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    process.wait()
    hub.requests.clear()
    model = f"{BUNDLE}@{repository.commit}" if by_commit else BUNDLE
    options: dict[str, Any] = {} if kind == "bundle" else SYMMETRIC
    on_the_command_line = () if kind == "bundle" else AS_SYMMETRIC
    local = Expander(folder, **options)
    assert expanded(hub, tmp_path, model, *on_the_command_line) == local.expand("the cat sat")[0]
    assert slow in hub.downloads()


@pytest.mark.usefixtures("with_bundle")
def test_a_slow_reply_is_waited_for_again(hub: Hub, tmp_path: Path) -> None:
    hub.delays["doc.onnx"] = 2.5
    assert expanded(hub, tmp_path, BUNDLE, HF_HUB_DOWNLOAD_TIMEOUT="1")


def test_what_the_hub_refuses_is_an_error_that_says_what_to_do(hub: Hub, tmp_path: Path, bundle: Path) -> None:
    hub.add_folder("owner/gated", bundle, access="gated")
    hub.add_folder("owner/private", bundle, access="private")
    hub.repositories["owner/empty"] = Repository({"README.md": b"nothing to run"})
    assert "owner/gated is gated" in refused(hub, tmp_path, "owner/gated")
    assert "HF_TOKEN" in refused(hub, tmp_path, "owner/private")
    assert "no repository of that name" in refused(hub, tmp_path, "owner/nowhere")
    assert "naver/splade-v3-distilbert" in refused(hub, tmp_path, "naver/splade-v3-destilbert")
    assert "spladerunner export --doc owner/empty -o FOLDER" in refused(hub, tmp_path, "owner/empty")
    for name in ("owner/gated", "owner/private"):
        assert expanded(hub, tmp_path, name, HF_TOKEN=TOKEN)


@pytest.mark.usefixtures("with_bundle")
def test_without_a_network_it_says_so(hub: Hub, tmp_path: Path) -> None:
    assert f"spladerunner fetch {BUNDLE}" in refused(hub, tmp_path, BUNDLE, HF_HUB_OFFLINE="1")
    assert "could not be downloaded" in refused(hub, tmp_path, BUNDLE, HF_ENDPOINT="http://127.0.0.1:9")
    misspelt = refused(hub, tmp_path, "naver/splade-v3-destilbert", HF_ENDPOINT="http://127.0.0.1:9")
    assert "Close to it: naver/splade-v3-distilbert" in misspelt


def put_into_cache(hub: Hub, home: Path, repository: str, *names: str) -> None:
    """As another program does that uses huggingface_hub."""
    code = f"from huggingface_hub import hf_hub_download\nfor name in {names!r}: hf_hub_download({repository!r}, name)"
    subprocess.run([sys.executable, "-c", code], env=environment(hub, home), check=True, capture_output=True)


def write_layout(folder: Path) -> None:
    modules = [
        {"path": "", "type": "sentence_transformers.sparse_encoder.models.MLMTransformer"},
        {"path": "1_SpladePooling", "type": "sentence_transformers.sparse_encoder.models.SpladePooling"},
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_SpladePooling").mkdir()
    pooling = {"pooling_strategy": "sum", "activation_function": "log1p_relu"}
    (folder / "1_SpladePooling" / "config.json").write_text(json.dumps(pooling))


def test_what_another_program_has_cached_is_completed(hub: Hub, tmp_path: Path) -> None:
    """Without modules.json, the files look like a model that is pooled otherwise."""
    folder = onnx_folder(tmp_path / "repository")
    write_layout(folder)
    hub.add_folder("owner/onnx", folder)
    put_into_cache(hub, tmp_path, "owner/onnx", "config.json", "tokenizer.json", "model.onnx")
    assert "not in the cache" in refused(hub, tmp_path, "owner/onnx", HF_HUB_OFFLINE="1")
    expected = Expander(folder).expand("the cat sat")[0]
    assert expanded(hub, tmp_path, "owner/onnx") == expected
    assert expanded(hub, tmp_path, "owner/onnx", HF_HUB_OFFLINE="1") == expected


def test_another_graph_that_is_cached_is_not_taken_for_the_model(hub: Hub, tmp_path: Path) -> None:
    folder = onnx_folder(tmp_path / "repository", graph="onnx/model.onnx")
    SmallGraph(seed=3).save(folder / "onnx" / "model_quantized.onnx")
    hub.add_folder("owner/onnx", folder)
    put_into_cache(hub, tmp_path, "owner/onnx", "tokenizer.json", "onnx/model_quantized.onnx")
    assert "not in the cache" in refused(hub, tmp_path, "owner/onnx", HF_HUB_OFFLINE="1")
    expected = Expander(folder, **SYMMETRIC).expand("the cat sat")[0]
    assert expanded(hub, tmp_path, "owner/onnx", *AS_SYMMETRIC) == expected


@pytest.mark.usefixtures("with_bundle")
def test_a_manifest_alone_is_no_model(hub: Hub, tmp_path: Path, bundle: Path) -> None:
    put_into_cache(hub, tmp_path, BUNDLE, "manifest.json")
    assert "not in the cache" in refused(hub, tmp_path, BUNDLE, HF_HUB_OFFLINE="1")
    folder = Path(command(hub, tmp_path, "fetch", BUNDLE).stdout.strip())
    assert Expander(folder).expand("the cat") == Expander(bundle).expand("the cat")


@pytest.mark.parametrize("kind", ["bundle", "graph"])
def test_a_damaged_file_is_found_and_repaired(hub: Hub, tmp_path: Path, bundle: Path, kind: str) -> None:
    source, options = (bundle, ()) if kind == "bundle" else (onnx_folder(tmp_path / "onnx"), AS_SYMMETRIC)
    damaged = "query.onnx" if kind == "bundle" else "model.onnx"
    hub.add_folder(BUNDLE, source)
    folder = Path(command(hub, tmp_path, "fetch", BUNDLE).stdout.strip())
    before = expanded(hub, tmp_path, BUNDLE, *options)
    blob = (folder / damaged).resolve()
    content = blob.read_bytes()
    blob.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    message = refused(hub, tmp_path, BUNDLE)
    assert f"{damaged} of {BUNDLE} are damaged" in message
    assert f"spladerunner fetch {BUNDLE} --update" in message
    hub.requests.clear()
    assert Path(command(hub, tmp_path, "fetch", BUNDLE, "--update").stdout.strip()) == folder
    assert damaged in hub.downloads() and (folder / damaged).read_bytes() == content
    assert Path(command(hub, tmp_path, "fetch", BUNDLE).stdout.strip()) == folder
    assert expanded(hub, tmp_path, BUNDLE, *options) == before


def test_a_revision_that_keeps_moving_is_an_error(hub: Hub, tmp_path: Path, with_bundle: Repository) -> None:
    with_bundle.keeps_moving = True
    assert f"{BUNDLE} changed on the Hub during each of 3 downloads" in refused(hub, tmp_path, BUNDLE)
    assert len(hub.requests) < 200
    assert expanded(hub, tmp_path, f"{BUNDLE}@{with_bundle.commit}")


def test_external_data_of_any_name_is_brought_along(hub: Hub, tmp_path: Path) -> None:
    folder = onnx_folder(tmp_path / "repository", graph="onnx/model.onnx")
    move_weights(folder / "onnx" / "model.onnx", "weights.bin")
    (folder / "onnx" / "model.onnx.data").write_bytes(b"not needed")
    hub.add_folder("owner/onnx", folder)
    expected = Expander(folder, **SYMMETRIC).expand("the cat sat")[0]
    assert expanded(hub, tmp_path, "owner/onnx", *AS_SYMMETRIC) == expected
    assert "onnx/weights.bin" in hub.downloads() and "onnx/model.onnx.data" not in hub.downloads()


def test_queries_are_served_by_the_idf_json_of_a_known_repository(hub: Hub, tmp_path: Path) -> None:
    folder = onnx_folder(tmp_path / "repository")
    (folder / "idf.json").write_text(json.dumps({"cat": 2.5, "the": 0.5}))
    hub.add_folder("Qdrant/opensearch-neural-sparse-encoding-doc-v3-gte", folder)
    name = "opensearch-neural-sparse-encoding-doc-v3-gte"
    local = Expander(folder, pooling="max", activation="log1p_log1p_relu")
    assert expanded(hub, tmp_path, name) == local.expand("the cat sat")[0]
    done = command(hub, tmp_path, "expand", "--query", "--model", name, "the cat sat")
    assert json.loads(done.stdout) == {"cat": 2.5, "the": 0.5}


def test_a_known_model_without_a_graph_says_exactly_what_makes_it() -> None:
    for name, expected in {
        "naver/efficient-splade-V-large": "spladerunner export --doc naver/efficient-splade-V-large-doc "
        "--query naver/efficient-splade-V-large-query -o FOLDER",
        "naver/splade-v3-doc": "spladerunner export --doc naver/splade-v3-doc --inference-free --allow-pickle "
        "-o FOLDER",
        "rasyosef/splade-tiny": "spladerunner export --doc rasyosef/splade-tiny -o FOLDER",
    }.items():
        with pytest.raises(UnknownModelError, match=expected):
            fetch(name)


def test_what_is_on_the_disk_is_itself(tmp_path: Path) -> None:
    assert fetch(EMBEDDED) == embedded_folder()
    assert fetch(tmp_path) == fetch(str(tmp_path)) == tmp_path


@pytest.mark.parametrize("name", ["zzzzzz", "a/b/c", "./nowhere", "/nowhere", "../a"])
def test_what_is_no_name_of_a_repository_is_not_asked_for(name: str) -> None:
    with pytest.raises(UnknownModelError, match="no known model of that name"):
        fetch(name)


def test_a_local_folder_comes_before_a_repository(hub: Hub, tmp_path: Path) -> None:
    write_bundle(tmp_path / "owner" / "bundle")
    assert expanded(hub, tmp_path, BUNDLE) and hub.requests == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("owner/model", ("owner/model", None)),
        ("owner/model@v1", ("owner/model", "v1")),
        ("owner/model@refs/pr/1", ("owner/model", "refs/pr/1")),
        ("owner/model@a@b", ("owner/model", "a@b")),
        ("owner/model@", ("owner/model", None)),
        ("Splade_PP_en_v1@main", ("Splade_PP_en_v1", "main")),
        ("tiny-en@main", ("tiny-en@main", None)),  # not on the Hub
        ("no-such-model@main", ("no-such-model@main", None)),
        ("./owner@2/model", ("./owner@2/model", None)),
        ("/a/b@2", ("/a/b@2", None)),
        ("@", ("@", None)),
        ("", ("", None)),
    ],
)
def test_a_revision_follows_the_name(text: str, expected: tuple[str, str | None]) -> None:
    assert split_revision(text) == expected


def test_the_name_of_a_folder_is_not_split(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "owner" / "model@v1").mkdir(parents=True)
    assert split_revision("owner/model@v1") == ("owner/model@v1", None)


@pytest.mark.parametrize(
    ("error", "expected", "message"),
    [
        (
            errors.GatedRepoError,
            DownloadError,
            "owner/model is gated: ask .*`hf auth login`, or set HF_TOKEN",
        ),
        (
            errors.RepositoryNotFoundError,
            UnknownModelError,
            "There is no folder 'owner/model', and the Hub has no ",
        ),
    ],
)
def test_answers_of_the_hub_are_told_with_what_to_do(
    error: type[Exception], expected: type[Exception], message: str
) -> None:
    with pytest.raises(expected, match=message) as told, explained("owner/model", "v1"):
        raise error.__new__(error)  # its arguments differ between versions of huggingface_hub
    assert getattr(told.value, "name", None) == "owner/model"


def test_errors_of_the_disk_are_told_as_such_and_others_as_those_of_the_hub() -> None:
    with pytest.raises(OSError, match="No space left on device"), explained("owner/model", None):
        raise OSError(28, "No space left on device")
    with pytest.raises(IntegrityError, match=r"^damaged$"), explained("owner/model", None):
        raise IntegrityError("damaged")
    for error in (OSError("connection reset"), ValueError("not an answer")):
        told = f"could not be downloaded from the Hub: {type(error).__name__}: {error}"
        with pytest.raises(DownloadError, match=told), explained("owner/model", None):
            raise error


def test_a_download_that_breaks_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = list[str]()

    def download(repository: str, **options: object) -> str:
        tried.append(repository)
        if len(tried) < 3:
            raise ConnectionError("cut in the middle of a file")
        return str(tmp_path)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    assert hub_module._snapshot("owner/model", "0" * 40, ["a"]) == tmp_path
    assert tried == ["owner/model"] * 3


def test_a_damaged_file_is_downloaded_again_and_a_wrong_one_is_an_error(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    damaged = bundle / "doc.onnx"
    content = damaged.read_bytes()

    def download(repository: str, name: str, *, revision: str, force_download: bool) -> str:
        assert (repository, name, revision, force_download) == ("owner/model", "doc.onnx", "0" * 40, True)
        damaged.write_bytes(content)
        return str(damaged)

    damaged.write_bytes(content[:-1])
    with monkeypatch.context() as patch:
        patch.setattr("huggingface_hub.hf_hub_download", download)
        hub_module._repair(bundle, "owner/model", "0" * 40)
    assert damaged.read_bytes() == content
    damaged.write_bytes(content[:-1])
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda *given, **options: str(damaged))
    with pytest.raises(IntegrityError, match=r"doc\.onnx of owner/model on the Hub differ"):
        hub_module._repair(bundle, "owner/model", "0" * 40)
    assert not (bundle / MANIFEST).exists()

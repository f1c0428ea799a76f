from __future__ import annotations

import json
import platform
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from spladerunner import Expander
from spladerunner.errors import ModelFilesError, ProviderError
from spladerunner.inference import arena
from spladerunner.inference.providers import check_providers
from spladerunner.inference.session import Session
from spladerunner.inference.tokenizer import TokenizedText
from spladerunner.models import embedded_folder
from tests.control_group import control_group
from tests.small_model import TOKENS, SmallGraph, change_manifest, records


def text_of(ids: list[int]) -> TokenizedText:
    array = np.array([ids], dtype=np.int64)
    return TokenizedText(array, np.ones_like(array), np.zeros_like(array), content_tokens=len(ids))


@pytest.mark.parametrize("inputs", [("input_ids", "attention_mask"), ("input_ids", "attention_mask", "token_type_ids")])
def test_feeds_the_inputs_that_the_graph_has(tmp_path: Path, inputs: tuple[str, ...]) -> None:
    graph = SmallGraph()
    session = Session(graph.save(tmp_path / "doc.onnx", inputs=inputs))
    logits = session.run(text_of([2, 7, 9, 3]))
    np.testing.assert_allclose(logits[0], graph.logits([2, 7, 9, 3]), rtol=1e-5, atol=1e-5)
    assert not session.pools_inside and session.vocabulary_size == graph.embedding.shape[0]


@pytest.mark.parametrize("names", [("attention_mask", "token_type_ids"), ("input_mask", "segment_ids")])
def test_each_input_gets_its_own_array(tmp_path: Path, names: tuple[str, str]) -> None:
    """The graph returns its three inputs side by side, as (1, L, 3)."""
    inputs = ["input_ids", *names]
    nodes = [
        node
        for at, name in enumerate(inputs)
        for node in (
            helper.make_node("Cast", [name], [f"float{at}"], to=TensorProto.FLOAT),
            helper.make_node("Unsqueeze", [f"float{at}", "last"], [f"column{at}"]),
        )
    ]
    nodes.append(helper.make_node("Concat", ["column0", "column1", "column2"], ["logits"], axis=2))
    graph = helper.make_graph(
        nodes,
        "inputs",
        [helper.make_tensor_value_info(name, TensorProto.INT64, ["B", "L"]) for name in inputs],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["B", "L", 3])],
        [numpy_helper.from_array(np.array([-1]), "last")],
    )
    opsets = [helper.make_opsetid("", 18)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), tmp_path / "doc.onnx")
    ids, mask, types = ([7, 5, 9], [1, 1, 0], [0, 1, 1])
    text = text_of(ids)._replace(mask=np.array([mask]), type_ids=np.array([types]))
    assert Session(tmp_path / "doc.onnx").run(text)[0].T.tolist() == [ids, mask, types]


def test_recognizes_a_graph_that_pools_inside(tmp_path: Path) -> None:
    assert Session(SmallGraph().save(tmp_path / "doc.onnx", pools_inside=True)).pools_inside


def test_a_graph_cut_in_half_is_named(tmp_path: Path) -> None:
    path = SmallGraph().save(tmp_path / "doc.onnx")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ModelFilesError, match=r"doc\.onnx.*cannot be opened"):
        Session(path)


def test_a_graph_of_another_kind_is_refused(tmp_path: Path) -> None:
    path = SmallGraph().save(tmp_path / "vision.onnx", inputs=("input_ids", "attention_mask", "pixel_values"))
    with pytest.raises(ModelFilesError, match="pixel_values"):
        Session(path)


@pytest.mark.parametrize("axes", [(0, 2, 1), (1, 0, 2)])
def test_an_output_of_other_axes_is_refused(bundle: Path, axes: tuple[int, int, int]) -> None:
    def transpose(model: onnx.ModelProto) -> None:
        model.graph.node.append(onnx.helper.make_node("Transpose", ["logits"], ["turned"], perm=axes))
        output = onnx.helper.make_tensor_value_info("turned", onnx.TensorProto.FLOAT, ["a", "b", "c"])
        model.graph.output[0].CopyFrom(output)

    change_graph(bundle, transpose)
    with pytest.raises(ModelFilesError, match=r"doc\.onnx: its output for 4 tokens has the shape"):
        Expander(bundle).expand("the cat")


def test_an_output_of_integers_is_refused(bundle: Path) -> None:
    def cast(model: onnx.ModelProto) -> None:
        model.graph.node.append(onnx.helper.make_node("Cast", ["logits"], ["whole"], to=onnx.TensorProto.INT64))
        output = onnx.helper.make_tensor_value_info("whole", onnx.TensorProto.INT64, ["B", "L", len(TOKENS)])
        model.graph.output[0].CopyFrom(output)

    change_graph(bundle, cast)
    with pytest.raises(ModelFilesError, match=r"doc\.onnx has the output whole of type tensor\(int64\)"):
        Expander(bundle).expand("the cat")


def test_of_several_outputs_the_logits_are_taken(bundle: Path) -> None:
    expected = Expander(bundle).expand("the cat")

    def add_hidden_states(model: onnx.ModelProto) -> None:
        hidden = onnx.helper.make_tensor_value_info("hidden", onnx.TensorProto.FLOAT, ["B", "L", 8])
        model.graph.output.insert(0, hidden)

    change_graph(bundle, add_hidden_states)
    assert Expander(bundle).expand("the cat") == expected


def change_graph(bundle: Path, change: Callable[[onnx.ModelProto], None]) -> None:
    model = onnx.load(bundle / "doc.onnx")
    change(model)
    onnx.save(model, bundle / "doc.onnx")
    change_manifest(bundle, files=records(bundle, "tokenizer.json", "doc.onnx", "query.onnx"))


def test_a_provider_that_is_not_there_is_an_error_that_names_those_that_are() -> None:
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime has CUDA")
    with pytest.raises(ProviderError, match=r"CUDAExecutionProvider.*CPUExecutionProvider"):
        check_providers(["CUDAExecutionProvider", "CPUExecutionProvider"])


def test_no_provider_at_all_is_an_error() -> None:
    with pytest.raises(ProviderError, match=r"\[\]"):
        check_providers([])


def test_a_provider_that_does_not_start_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    available = [*onnxruntime.get_available_providers(), "CUDAExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: available)
    path = SmallGraph().save(tmp_path / "doc.onnx")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # onnxruntime warns, and goes on with the CPU
        with pytest.raises(ProviderError, match=r"\['CUDAExecutionProvider'\] did not start") as raised:
            Session(path, ["CUDAExecutionProvider", "CPUExecutionProvider"])
    assert raised.value.providers == ("CUDAExecutionProvider",)
    assert raised.value.available == ("CPUExecutionProvider",)


def test_a_provider_that_fails_while_the_graph_is_opened_is_the_one_that_did_not_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = onnxruntime.InferenceSession

    def fail_on_a_card(*given: Any, providers: list[str], **options: Any) -> Any:
        if providers == ["CPUExecutionProvider"]:
            return opened(*given, providers=providers, **options)
        raise RuntimeError("CUDA failure 100: no CUDA-capable device is detected")

    available = [*onnxruntime.get_available_providers(), "CUDAExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: available)
    monkeypatch.setattr(onnxruntime, "InferenceSession", fail_on_a_card)
    path = SmallGraph().save(tmp_path / "doc.onnx")
    with pytest.raises(
        ProviderError, match=r"\['CUDAExecutionProvider'\] did not start.*no CUDA-capable device"
    ) as raised:
        Session(path, ["CUDAExecutionProvider", "CPUExecutionProvider"])
    assert raised.value.providers == ("CUDAExecutionProvider",)


EMULATOR = shutil.which("qemu-x86_64")


@pytest.mark.slow
@pytest.mark.skipif(platform.machine() != "x86_64", reason="only x86 has such processors")
@pytest.mark.skipif(not EMULATOR, reason="needs qemu-x86_64 (Debian's qemu-user) for a processor without VNNI")
def test_a_processor_without_vnni_is_told_to_be_exact(tmp_path: Path) -> None:
    """A Haswell, whose products of unsigned and signed bytes saturate at 16 bits, gives the vectors of this one."""
    code = (
        "import json\n"
        "from spladerunner import Expander\n"
        "from spladerunner.inference.arena import products_saturate\n"
        "expander = Expander(threads=1)\n"
        "print(json.dumps([products_saturate(), expander.expand('the nuclear reactor')[0]]))\n"
    )
    assert EMULATOR
    command = [EMULATOR, "-cpu", "Haswell", sys.executable, "-c", code]
    saturates, weights = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert saturates
    assert weights == pytest.approx(Expander(threads=1).expand("the nuclear reactor")[0], abs=1e-3)


def test_an_arena_that_the_program_has_made_before_serves_too(tmp_path: Path) -> None:
    graph = SmallGraph().save(tmp_path / "doc.onnx")
    code = (
        "import onnxruntime as ort\n"
        "memory = ort.OrtMemoryInfo('Cpu', ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT)\n"
        "ort.create_and_register_allocator(memory, ort.OrtArenaCfg({}))\n"
        "from spladerunner.inference.session import Session\n"
        "from spladerunner.inference.tokenizer import TokenizedText\n"
        "import numpy as np\n"
        f"session = Session({str(graph)!r})\n"
        "for length in [40] + [4] * 300:\n"  # less memory is needed, and that arena is left alone
        "    ids = np.full((1, length), 5)\n"
        "    logits = session.run(TokenizedText(ids, np.ones_like(ids), np.zeros_like(ids), length))\n"
        "print(logits.shape[:2])\n"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "(1, 4)\n"


ORDER = """
import resource, sys
from spladerunner import Expander
expander, role = Expander(sys.argv[4], threads=int(sys.argv[2])), sys.argv[3]
texts = ["cat " * length for length in range(1, 255)]
if sys.argv[1] == "descending":
    texts.reverse()
if sys.argv[2] == "1":
    for text in texts:
        expander.encode(text, role=role)
else:
    expander.encode(texts, role=role)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
@pytest.mark.parametrize("role", ["doc", "query"])
@pytest.mark.parametrize("threads", ["1", "2"])
@pytest.mark.parametrize("logits", ["whole", "the largest"])
def test_peak_memory_is_that_of_the_longest_text_in_any_order(
    threads: str, role: str, logits: str, whole_logits: Path
) -> None:
    command = [sys.executable, "-c", ORDER]
    bundle = whole_logits if logits == "whole" else embedded_folder()
    peaks = {
        order: int(subprocess.check_output([*command, order, threads, role, str(bundle)], text=True))
        for order in ("descending", "ascending")
    }
    assert peaks["ascending"] <= 1.3 * peaks["descending"], peaks


MEMORY = """
import sys
from spladerunner import Expander
from spladerunner.inference.arena import PATIENCE
def megabytes():
    (line,) = (line for line in open("/proc/self/status") if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024
expander, role = Expander(sys.argv[3], threads=int(sys.argv[1])), sys.argv[2]
expander.encode(["a short text"] * 8, role=role)
expander.encode(["a short text"] * 8)
short = megabytes()
expander.encode(["nuclear reactor " * 200] * 8)
long = megabytes()
expander.encode(["a short text"] * (2 * PATIENCE), role=role)
print(short, long, megabytes())
"""


@pytest.mark.slow
@pytest.mark.parametrize(("threads", "role"), [("1", "doc"), ("4", "doc"), ("1", "query"), ("4", "query")])
def test_memory_that_only_long_texts_needed_is_given_back(threads: str, role: str, whole_logits: Path) -> None:
    if not Path("/proc/self/status").exists():
        pytest.skip("this system does not say how much memory a process has in /proc")
    command = [sys.executable, "-c", MEMORY, threads, role, str(whole_logits)]
    printed = subprocess.check_output(command, text=True)
    short, long, later = map(float, printed.split())
    assert long - short > 15, "256 tokens give 20 MB of logits"
    assert later - short < (long - short) / 3


@pytest.mark.slow
def test_the_embedded_pair_serves_within_256_megabytes() -> None:
    """Both its graphs, texts of full length on every core, with the swap file closed to it."""
    limit = str(256 << 20)
    with control_group(
        "memory",
        {"memory.max": limit, "memory.swap.max": "0"},
        {"memory.limit_in_bytes": limit, "memory.memsw.limit_in_bytes": limit},
    ) as enter:
        code = (
            f"{enter}\nfrom spladerunner import Expander\nexpander = Expander()\n"
            "long = ' '.join(f'reactor {n}' for n in range(400))\n"
            "print(len(expander.expand([long, 'a short one'] * 100)), len(expander.expand_query(['why'] * 100)))\n"
        )
        assert subprocess.check_output([sys.executable, "-c", code], text=True) == "200 100\n"


def test_a_run_on_a_cpu_may_ask_its_arena_to_shrink(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the number of logits, which take the most memory; on other devices there is no such arena."""
    asked: list[int] = []
    monkeypatch.setattr(arena, "run_options", asked.append)
    session = Session(SmallGraph().save(tmp_path / "model.onnx"))
    session.run(text_of([1, 2, 3]))
    assert asked == [3 * len(TOKENS)]

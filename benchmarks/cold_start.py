"""From the start of a process to its first expansion, against importing numpy, tokenizers and onnxruntime alone.

And against what these three need by themselves to open the same model and run one text: no start can be shorter.

python -m benchmarks.cold_start SHARED FOLDER
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.materials import environment, make, own_environment
from benchmarks.measure import in_turn, keep, machine, median, spread, table
from spladerunner.inference.session import SLOWER_FUSIONS
from spladerunner.model.registry import embedded_folder

ROUNDS = 15

STAGES = """
import json, time
laps, last = {}, time.perf_counter()
def lap(name):
    global last
    now = time.perf_counter()
    laps[name] = now - last
    last = now
import numpy, tokenizers, onnxruntime
lap("numpy, tokenizers, onnxruntime")
from spladerunner import Expander
lap("spladerunner's own modules")
expander = Expander(MODEL)
lap("manifest and tokenizer")
expander.encode(TEXT)
lap("graph opened, its SHA-256 compared, first run")
expander.expand(TEXT)
lap("second run")
print(json.dumps(laps))
"""
TEXT = "The Manhattan Project and its atomic bomb helped bring an end to World War II."


LIBRARIES = """
import numpy, tokenizers, onnxruntime
tokenizer = tokenizers.Tokenizer.from_file(FOLDER + "/tokenizer.json")
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
session = onnxruntime.InferenceSession(FOLDER + "/doc.onnx", options, disabled_optimizers=DISABLED)
encoding = tokenizer.encode(TEXT)
values = {"input_ids": encoding.ids, "attention_mask": encoding.attention_mask, "token_type_ids": encoding.type_ids}
session.run(None, {given.name: numpy.array([values[given.name]]) for given in session.get_inputs()})
"""


def libraries(model: Path) -> str:
    """What opens a model and runs a text, without spladerunner."""
    code = LIBRARIES.replace("FOLDER", repr(str(model))).replace("DISABLED", repr(list(SLOWER_FUSIONS)))
    return code.replace("TEXT", repr(TEXT))


def seconds(python: Path, code: str) -> float:
    """How long a process has run when it has done this."""
    environment = {"PATH": os.defpath, "HOME": "/nonexistent", "ORT_DISABLE_TELEMETRY": "1", "HF_HUB_OFFLINE": "1"}
    command = [str(python), "-c", f"{code}\nimport time; print(time.monotonic())"]
    started = time.monotonic()  # the same clock in all processes of a machine
    done = subprocess.run(command, check=True, env=environment, cwd="/", capture_output=True, text=True)
    return float(done.stdout.split()[-1]) - started


def main() -> None:
    """Measures, keeps and prints."""
    shared, folder = Path(sys.argv[1]), Path(sys.argv[2]).resolve()
    make(shared, folder)
    own = own_environment(folder)
    made = folder / "bert-base-made"
    fastembed = (
        "from fastembed import SparseTextEmbedding as S; "
        f"model = S('prithivida/Splade_PP_en_v1', specific_model_path={str(made / 'fp32')!r}, cuda=False); "
        f"list(model.embed([{TEXT!r}]))"
    )
    splade = (
        "from spladerunner import Expander; "
        f"Expander('Splade_PP_en_v1', 256, cache_dir={str(made / 'splade-0.1')!r}).expand([{TEXT!r}])"
    )
    st = (
        "from sentence_transformers import SparseEncoder; "
        f"SparseEncoder({str(made / 'st')!r}, device='cpu').encode([{TEXT!r}])"
    )
    expand = "from spladerunner import Expander; Expander({}).{}({!r})"
    ways: dict[str, tuple[Path, str]] = {
        "import numpy, tokenizers, onnxruntime": (own, "import numpy, tokenizers, onnxruntime"),
        "the same, and open the embedded document model, run a text": (own, libraries(embedded_folder())),
        "the same, and open BERT-base int8, run a text": (own, libraries(made / "bundle")),
        "embedded pair, a document": (own, expand.format("", "expand", TEXT)),
        "embedded pair, a query": (own, expand.format("", "expand_query", TEXT)),
        "BERT-base int8": (own, expand.format(repr(str(made / "bundle")), "expand", TEXT)),
        "BERT-base, FastEmbed": (environment(folder, "fastembed"), fastembed),
        "BERT-base, SPLADERunner 0.1.6": (environment(folder, "splade"), splade),
        "BERT-base, sentence-transformers on torch": (environment(folder, "st"), st),
    }

    def measurement(python: Path, code: str) -> Callable[[], float]:
        return lambda: seconds(python, code)

    found = in_turn({name: measurement(*way) for name, way in ways.items()}, ROUNDS)
    first = median(next(iter(found.values())))
    print(machine(), "\n")
    rows = [
        [name, f"{median(times) * 1e3:.0f}", f"{median(times) / first:.2f}", f"{spread(times):.0%}"]
        for name, times in found.items()
    ]
    print(table(["process", "ms", "of the first", "spread"], rows), "\n")
    stages: dict[str, dict[str, list[float]]] = {}
    for model in ("", str(made / "bundle")):
        name = "BERT-base int8" if model else "embedded pair"
        code = STAGES.replace("MODEL", repr(model) if model else "").replace("TEXT", repr(TEXT))
        for _ in range(ROUNDS):
            done = subprocess.run([str(own), "-c", code], check=True, capture_output=True, text=True, cwd="/")
            for stage, lap in json.loads(done.stdout).items():
                stages.setdefault(stage, {}).setdefault(name, []).append(lap)
    names = ["embedded pair", "BERT-base int8"]
    rows = [[stage, *(f"{median(laps[name]) * 1e3:.1f}" for name in names)] for stage, laps in stages.items()]
    print(table(["where the time goes, ms", *names], rows))
    keep("cold start", {"processes": found, "stages": stages})


if __name__ == "__main__":
    main()

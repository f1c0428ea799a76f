"""Time from the start of a process to its first expansion, beside the shortest start that its libraries allow.

    python -m benchmarks.cold_start SHARED FOLDER

The shortest start imports numpy, tokenizers and onnxruntime alone, opens the same model with them and runs one text.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.environments import own_python, python_of
from benchmarks.harness import argument_parser, in_rounds, machine, markdown_table, save_result, spread
from benchmarks.workload import bundle_of, fp32_of, models_of, prepare, write_sentence_transformers_models
from spladerunner.inference.session import SLOWER_FUSIONS
from spladerunner.models import embedded_folder

ROUNDS = 9
TEXT = "The Manhattan Project and its atomic bomb helped bring an end to World War II."
IMPORTS = "import numpy, tokenizers, onnxruntime"

PROCESSES = (
    "import numpy, tokenizers, onnxruntime",
    "the same, and open the embedded document model, run a text",
    "the same, and open BERT-base int8, run a text",
    "embedded pair, a document",
    "embedded pair, a query",
    "BERT-base int8",
    "BERT-base, FastEmbed",
    "BERT-base, SPLADERunner 0.1.6",
    "BERT-base, sentence-transformers on torch",
)
STAGES = (
    "numpy, tokenizers, onnxruntime",
    "spladerunner's own modules",
    "manifest and tokenizer",
    "graph opened, its SHA-256 compared, first run",
    "second run",
)
MODELS = ("embedded pair", "BERT-base int8")

STAGES_CODE = """
import json, time
laps = [time.perf_counter()]
def lap():
    laps.append(time.perf_counter())
import numpy, tokenizers, onnxruntime
lap()
from spladerunner import Expander
lap()
expander = Expander(MODEL)
lap()
expander.encode(TEXT)
lap()
expander.expand(TEXT)
lap()
print(json.dumps([after - before for before, after in zip(laps, laps[1:])]))
"""

LIBRARIES_CODE = """
import numpy, tokenizers, onnxruntime
tokenizer = tokenizers.Tokenizer.from_file(FOLDER + "/tokenizer.json")
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
session = onnxruntime.InferenceSession(FOLDER + "/doc.onnx", options, disabled_optimizers=DISABLED)
encoding = tokenizer.encode(TEXT)
values = {"input_ids": encoding.ids, "attention_mask": encoding.attention_mask, "token_type_ids": encoding.type_ids}
session.run(None, {given.name: numpy.array([values[given.name]]) for given in session.get_inputs()})
"""


def libraries_code(bundle: Path) -> str:
    """Code that opens a model and runs a text without spladerunner."""
    code = LIBRARIES_CODE.replace("FOLDER", repr(str(bundle))).replace("DISABLED", repr(list(SLOWER_FUSIONS)))
    return code.replace("TEXT", repr(TEXT))


def start_seconds(python: Path, code: str) -> float:
    """Time from the start of a Python process until it has run `code`."""
    environment = {"PATH": os.defpath, "HOME": "/nonexistent", "ORT_DISABLE_TELEMETRY": "1", "HF_HUB_OFFLINE": "1"}
    command = [str(python), "-c", f"{code}\nimport time; print(time.monotonic())"]
    started = time.monotonic()  # the processes of a machine share this clock
    done = subprocess.run(command, check=True, env=environment, cwd="/", capture_output=True, text=True)
    return float(done.stdout.split()[-1]) - started


def stage_seconds(python: Path, model: Path | None) -> dict[str, float]:
    """Seconds of each of STAGES in a fresh process. model: a bundle's folder, None for the embedded pair."""
    code = STAGES_CODE.replace("MODEL", repr(str(model)) if model else "").replace("TEXT", repr(TEXT))
    done = subprocess.run([str(python), "-c", code], check=True, capture_output=True, text=True, cwd="/")
    return dict(zip(STAGES, json.loads(done.stdout), strict=True))


def processes(folder: Path, own: Path) -> dict[str, Callable[[], float]]:
    """Measurements of PROCESSES."""
    models = models_of(folder, "bert-base")
    bundle = bundle_of(folder, "bert-base")
    expand = "from spladerunner import Expander; Expander({}).{}({!r})"
    fp32 = str(fp32_of(folder, "bert-base"))
    fastembed = (
        "from fastembed import SparseTextEmbedding as S; "
        f"model = S('prithivida/Splade_PP_en_v1', specific_model_path={fp32!r}, cuda=False); "
        f"list(model.embed([{TEXT!r}]))"
    )
    splade_0_1 = (
        "from spladerunner import Expander; "
        f"Expander('Splade_PP_en_v1', 256, cache_dir={str(models / 'splade-0.1')!r}).expand([{TEXT!r}])"
    )
    sparse_encoder = (
        "from sentence_transformers import SparseEncoder; "
        f"SparseEncoder({str(models / 'st')!r}, device='cpu').encode([{TEXT!r}])"
    )
    programs = [
        (own, IMPORTS),
        (own, libraries_code(embedded_folder())),
        (own, libraries_code(bundle)),
        (own, expand.format("", "expand", TEXT)),
        (own, expand.format("", "expand_query", TEXT)),
        (own, expand.format(repr(str(bundle)), "expand", TEXT)),
        (python_of(folder, "fastembed"), fastembed),
        (python_of(folder, "spladerunner-0.1"), splade_0_1),
        (python_of(folder, "sentence-transformers"), sparse_encoder),
    ]
    return {name: partial(start_seconds, *program) for name, program in zip(PROCESSES, programs, strict=True)}


def measure_stages(own: Path, bundle: Path) -> dict[str, dict[str, list[float]]]:
    """Seconds by stage and model."""
    models = zip(MODELS, (None, bundle), strict=True)
    rounds = in_rounds({name: partial(stage_seconds, own, model) for name, model in models}, ROUNDS)
    return {stage: {name: [laps[stage] for laps in rounds[name]] for name in MODELS} for stage in STAGES}


def report(found: Mapping[str, Any]) -> str:
    """Medians in milliseconds, by process and by stage."""
    measured: Mapping[str, Sequence[float]] = found["processes"]
    first = median(measured[PROCESSES[0]])
    by_process = [
        [name, f"{median(times) * 1e3:.0f}", f"{median(times) / first:.2f}", f"{spread(times):.0%}"]
        for name, times in ((name, measured[name]) for name in PROCESSES)
    ]
    by_stage = [[stage, *(f"{median(found['stages'][stage][name]) * 1e3:.1f}" for name in MODELS)] for stage in STAGES]
    return "\n\n".join(
        [
            markdown_table(["process", "ms", "relative to the first", "spread"], by_process),
            markdown_table(["stage, ms", *MODELS], by_stage),
        ]
    )


def main() -> None:
    """Measures, saves the result and prints the tables."""
    arguments = argument_parser(__doc__).parse_args()
    folder = arguments.folder
    prepare(arguments.shared, folder, ["bert-base"])
    write_sentence_transformers_models(folder, "bert-base")
    own = own_python(folder)
    found = {
        "processes": in_rounds(processes(folder, own), ROUNDS),
        "stages": measure_stages(own, bundle_of(folder, "bert-base")),
    }
    save_result("cold start", found)
    print(f"{machine()}\n\n{report(found)}")


if __name__ == "__main__":
    main()

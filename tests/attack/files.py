"""Attacks by files: bundles and bare folders of which one file is damaged or malformed."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from random import Random

from tests.attack.tries import Tried
from tests.conftest import ROOT
from tests.small_model import write_bundle

FOLDERS_PER_PROCESS = 20
TEXT = "the cat sat on the mat"

OPEN = """
import sys, warnings
from spladerunner import Expander, SpladeRunnerError
for folder in sys.argv[2:]:
    try:
        vectors = [Expander(folder).encode(sys.argv[1], role=role)[0] for role in ("doc", "query")]
        print("gave", hash(tuple(vectors)), flush=True)
    except SpladeRunnerError as error:
        print("refused", type(error).__name__, flush=True)
    except BaseException as error:
        print("raised", repr(error)[:200].replace("\\n", " "), flush=True)
"""
"""Opens folders in a process of its own, which a file may kill; a line for each."""

LONG_WORD = "x" * 10_000
ODD: tuple[object, ...] = (
    None,
    True,
    -1,
    0,
    1 << 70,
    1.5,
    float("nan"),
    "",
    "../x",
    "mean",
    "\x1b[2J",
    [],
    [None],
    {},
    "x" * 10_000,
)


def malformed(chosen: Random) -> Iterator[Tried]:
    """A folder with one file changed is refused with a SpladeRunnerError, or gives vectors.

    If the manifest has the hash of the file, they are the vectors of the unchanged bundle.
    """
    with tempfile.TemporaryDirectory() as made:
        good = write_bundle(Path(made) / "good")
        bare = bare_folder(good, Path(made) / "bare")
        (expected,) = opened([good])
        for number in range(1_000_000):
            folders, changes = [], list[tuple[str, bool]]()
            for at in range(FOLDERS_PER_PROCESS):
                source = chosen.choice((good, bare))
                folder = shutil.copytree(source, Path(made) / f"{number}-{at}")
                file = chosen.choice(sorted(path for path in folder.rglob("*") if path.is_file()))
                change = damage(chosen, file)
                folders.append(folder)
                changes.append(
                    (f"{source.name}/{file.relative_to(folder)}, {change}", (folder / "manifest.json") == file)
                )
            found = opened(folders)
            for folder, (change, unhashed), outcome in zip(folders, changes, found, strict=True):
                wrong = outcome.startswith(("raised", "died")) or (
                    outcome.startswith("gave") and change.startswith("good") and not unhashed and outcome != expected
                )
                yield Tried(1, f"{change}: {outcome}" if wrong else None)
                shutil.rmtree(folder)


def opened(folders: list[Path]) -> list[str]:
    """What came of each folder. After one that ended the process, another process takes the rest."""
    found = list[str]()
    while len(found) < len(folders):
        rest = folders[len(found) :]
        command = [sys.executable, "-c", OPEN, TEXT, *map(str, rest)]
        environment = {"PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "0", "PATH": "", "HF_HUB_OFFLINE": "1"}
        try:
            done = subprocess.run(
                command, env=environment, capture_output=True, text=True, timeout=300, check=False, errors="replace"
            )
            printed, how = done.stdout, f"died with status {done.returncode}"
        except subprocess.TimeoutExpired as error:
            printed, how = (error.stdout or b"").decode(), "died: it was not done after five minutes"
        found += printed.splitlines()
        if len(printed.splitlines()) < len(rest):
            found.append(how)
    return found


def bare_folder(bundle: Path, folder: Path) -> Path:
    """A folder without a manifest, as other tools write it."""
    folder.mkdir()
    shutil.copy(bundle / "doc.onnx", folder / "model.onnx")
    shutil.copy(bundle / "tokenizer.json", folder)
    modules = [
        {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.sparse_encoder.models.MLMTransformer"},
        {
            "idx": 1,
            "name": "1",
            "path": "1_SpladePooling",
            "type": "sentence_transformers.sparse_encoder.models.SpladePooling",
        },
    ]
    (folder / "1_SpladePooling").mkdir()
    (folder / "modules.json").write_text(json.dumps(modules))
    pooling = {"pooling_strategy": "max", "activation_function": "relu", "word_embedding_dimension": None}
    (folder / "1_SpladePooling" / "config.json").write_text(json.dumps(pooling))
    (folder / "config.json").write_text(json.dumps({"max_position_embeddings": 40, "model_type": "bert"}))
    (folder / "tokenizer_config.json").write_text(json.dumps({"model_max_length": 32}))
    return folder


def damage(chosen: Random, path: Path) -> str:
    """Changes a file, and says how: bytes of any file, or a value of a JSON file."""
    content = path.read_bytes()
    if path.suffix == ".json" and chosen.random() < 0.7:
        document = json.loads(content)
        at = change_value(chosen, document)
        path.write_text(json.dumps(document))
        return at
    kind = chosen.choice(("cut", "flipped", "emptied", "repeated", "filled"))
    place = chosen.randrange(len(content))
    if kind == "cut":
        path.write_bytes(content[:place])
    elif kind == "flipped":
        bits = bytes([content[place] ^ (1 << chosen.randrange(8))])
        path.write_bytes(content[:place] + bits + content[place + 1 :])
    elif kind == "emptied":
        path.write_bytes(b"")
    elif kind == "repeated":
        path.write_bytes(content[:place] + content)
    else:
        path.write_bytes(content[:place] + chosen.randbytes(min(40, len(content) - place)) + content[place + 40 :])
    return f"{kind} at byte {place}"


def change_value(chosen: Random, document: object) -> str:
    """Replaces or removes one value at a random place of a JSON document."""
    where = list[str]()
    while True:
        assert isinstance(document, dict | list)
        keys = list(document) if isinstance(document, dict) else range(len(document))
        if not keys:
            return f"{where} left"
        key = chosen.choice(list(keys))
        where.append(str(key))
        inner = document[key]
        if isinstance(inner, dict | list) and inner and chosen.random() < 0.8:
            document = inner
            continue
        if chosen.random() < 0.3:
            del document[key]
            return f"{'.'.join(where)} removed"
        document[key] = value = chosen.choice(ODD)
        return f"{'.'.join(where)} set to {str(value)[:40]!r}"

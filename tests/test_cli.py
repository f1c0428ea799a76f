"""The command line, run as processes."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from spladerunner import Expander, Vocabulary, __version__, explanation_page, list_models
from spladerunner.model.bundle import TOKENIZER
from spladerunner.model.manifest import VocabularyRecord
from tests.small_collection import write_beir
from tests.small_model import TOKENS, WORDS, change_manifest, records, tokenizer, write_bundle

COMMAND = [sys.executable, "-m", "spladerunner"]


def run(*arguments: str | Path, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # type: ignore[call-overload, no-any-return]
        [*COMMAND, *map(str, arguments)], capture_output=True, text=True, encoding="utf-8", **options
    )


def in_terminal(
    *arguments: str | Path, columns: int = 60, status: int = 0, typed: bytes | None = None, **environment: str
) -> str:
    """Returns what the command prints if its output is a terminal, without color unless the environment has a TERM.

    typed: what is typed on the terminal, which echoes it; None leaves standard input as it is.
    """
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [*COMMAND, *map(str, arguments)],
        stdin=None if typed is None else slave,
        stdout=slave,
        stderr=slave,
        env={**os.environ, "TERM": "dumb", "COLUMNS": str(columns), **environment},
    )
    os.close(slave)
    if typed is not None:
        os.write(master, typed)
    output = b""
    while True:
        try:
            chunk = os.read(master, 4096)
        except OSError:  # Linux's end of file on a terminal
            break
        if not chunk:
            break
        output += chunk
    os.close(master)
    assert process.wait() == status
    return output.decode().replace("\r\n", "\n")


@pytest.mark.slow
def test_in_a_pipe_expand_prints_json_lines(expander: Expander) -> None:
    texts = ["The Manhattan Project and its atomic bomb", "", "naïve 数"]
    done = run("expand", *texts)
    assert done.returncode == 0 and done.stderr == ""
    assert [json.loads(line) for line in done.stdout.splitlines()] == expander.expand(texts)


@pytest.mark.slow
def test_expand_takes_queries_and_a_number_of_tokens(expander: Expander) -> None:
    done = run("expand", "--query", "--top", "3", "who built the bomb")
    assert list(json.loads(done.stdout).items()) == list(expander.expand_query("who built the bomb")[0].items())[:3]


@pytest.mark.slow
def test_expand_reads_standard_input_line_by_line(expander: Expander) -> None:
    done = run("expand", input="atomic bomb\n\nnaïve\r\nlast without an end")
    expected = expander.expand(["atomic bomb", "", "naïve", "last without an end"])
    assert [json.loads(line) for line in done.stdout.splitlines()] == expected


@pytest.mark.slow
def test_a_slow_writer_gets_each_result_at_once() -> None:
    # With PYTHONUNBUFFERED the test would pass without the flush it is about.
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    with subprocess.Popen([*COMMAND, "expand"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=buffered) as process:
        assert process.stdin is not None and process.stdout is not None
        give_up = threading.Timer(60, process.kill)
        give_up.start()
        for text in (b"atomic bomb\n", b"river bank\n"):
            process.stdin.write(text)
            process.stdin.flush()
            assert json.loads(process.stdout.readline())
        give_up.cancel()
        process.stdin.close()
        assert process.wait() == 0


@pytest.mark.slow
def test_invalid_utf8_on_standard_input_is_replaced() -> None:
    done = subprocess.run([*COMMAND, "expand"], input=b"atomic \xff\xfe bomb\n", capture_output=True, check=True)
    assert "atomic" in json.loads(done.stdout)


@pytest.mark.slow
def test_json_is_utf8_in_every_locale() -> None:
    done = run("expand", "naïve café", env={**os.environ, "LC_ALL": "C", "PYTHONIOENCODING": "ascii"})
    assert done.returncode == 0 and json.loads(done.stdout)


@pytest.mark.slow
def test_on_a_terminal_expand_draws_bars() -> None:
    drawn = in_terminal("expand", "--top", "12", "The Manhattan Project and its atomic bomb")
    title, *lines, blank, legend = drawn.rstrip().splitlines()
    assert title == "The Manhattan Project and its atomic bomb" and len(lines) == 12
    assert blank == "" and legend == "  █ a token of the text   + ░ added by the model"
    assert {line[0] for line in lines} == {" ", "+"}
    assert all(("█" in line) == (line[0] == " ") and ("░" in line) == (line[0] == "+") for line in lines)
    assert len({line.index(".") for line in lines}) == 1
    assert all(len(line) <= 60 for line in lines)


@pytest.mark.slow
def test_bars_are_in_color_where_the_terminal_has_it() -> None:
    expand = ("expand", "--top", "12", "The Manhattan Project and its atomic bomb")
    plain, colored = in_terminal(*expand), in_terminal(*expand, TERM="xterm-256color", NO_COLOR="")
    assert re.sub(r"\x1b\[(36|33|0)m", "", colored) == plain and "\x1b" not in plain
    for line in colored.splitlines():
        assert ("\x1b[36m█" in line, "\x1b[33m░" in line) == ("█" in line, "░" in line)
        assert line.count("\x1b[0m") == ("█" in line) + ("░" in line)
    assert in_terminal(*expand, TERM="xterm-256color", NO_COLOR="1") == plain
    assert "\x1b" not in run(*expand, env={**os.environ, "TERM": "xterm-256color", "NO_COLOR": ""}).stdout


@pytest.mark.slow
def test_expand_on_a_terminal_says_what_it_waits_for_and_reads_what_is_typed() -> None:
    drawn = in_terminal("expand", "--top", "3", typed=b"atomic bomb\n\x04")
    assert "spladerunner: type a text and press Enter; Ctrl-D ends\n" in drawn
    assert drawn.count("atomic bomb") == 2 and "█" in drawn  # its echo, and its title
    assert "press Enter" not in in_terminal("expand", "atomic bomb", typed=b"")
    assert "press Enter" not in run("expand", input="atomic bomb\n").stderr


@pytest.mark.slow
def test_explain_reads_standard_input_and_files(expander: Expander, tmp_path: Path) -> None:
    query, document = "who built the nuclear bomb", "The Manhattan Project\nand its naïve bomb"
    (tmp_path / "document.txt").write_bytes(b"\xef\xbb\xbf" + document.encode() + b"\r\n")
    (tmp_path / "query.txt").write_text(query + "\n")
    expected = expander.explain(query, document).score
    at = f"@{tmp_path / 'document.txt'}"
    for done in (
        run("explain", query, "-", input=document + "\n"),
        run("explain", query, at),
        run("explain", "-", at, input=query),
        run("explain", f"@{tmp_path / 'query.txt'}", at),
    ):
        assert json.loads(done.stdout)["score"] == expected
    both = run("explain", "-", "-", input="text")
    assert both.returncode == 2 and "only one of QUERY and DOCUMENT" in both.stderr
    missing = run("explain", "@nobody hi", document)
    assert missing.returncode == 1 and "nobody hi cannot be read" in missing.stderr and "as -" in missing.stderr


@pytest.mark.slow
def test_expand_prints_json_on_a_terminal_if_asked() -> None:
    assert "manhattan" in json.loads(in_terminal("expand", "--json", "The Manhattan Project"))


@pytest.mark.slow
def test_explain_prints_the_shared_tokens(expander: Expander) -> None:
    query, document = "who built the nuclear bomb", "The Manhattan Project and its atomic bomb"
    explanation = expander.explain(query, document)
    printed = json.loads(run("explain", query, document).stdout)
    assert printed["score"] == explanation.score
    assert [match["token"] for match in printed["shared"]] == [match.token for match in explanation.shared]
    assert f"{explanation.score:.2f}" in in_terminal("explain", query, document).splitlines()[-1]


def test_models_lists_every_known_model_and_what_to_run_in_80_columns() -> None:
    lines = run("models").stdout.splitlines()
    assert [line for line in lines if not line.startswith(" ")] == [spec.name for spec in list_models()]
    assert max(map(len, lines)) <= 80
    unwrapped = " ".join("\n".join(lines).replace(" \\\n", " ").split())
    for spec in list_models():
        entry = unwrapped.partition(f"{spec.name} ")[2]
        assert (spec.license or "license not stated") in entry and (spec.score or "") in entry
        assert (f"$ {spec.command}" if spec.command else "part of the package, 11.1 MB") in entry


@pytest.mark.slow
def test_models_filters() -> None:
    def names(*options: str) -> set[str]:
        return {line for line in run("models", *options).stdout.splitlines() if not line.startswith(" ")}

    commercial = {spec.name for spec in list_models() if spec.commercial_use}
    assert names("--commercial") == commercial and len(commercial) > 5
    assert names("modernbert", "--language", "ko") == {"telepix/PIXIE-Splade-Preview", "yjoonjang/splade-ko-v1.0"}
    assert names("Splade_PP") == {"prithivida/Splade_PP_en_v1", "prithivida/Splade_PP_en_v2"}
    nothing = run("models", "no such model")
    assert nothing.returncode == 1 and nothing.stdout == "" and "No known model matches" in nothing.stderr


def test_models_prints_json() -> None:
    records = json.loads(run("models", "--json").stdout)
    assert [record["name"] for record in records] == [spec.name for spec in list_models()]
    granite = next(record for record in records if "granite" in record["name"])
    assert granite["commercial_use"] is True and granite["vocabulary"] == 50_265
    assert granite["command"] == "spladerunner export --doc ibm-granite/granite-embedding-30m-sparse -o FOLDER"


def write_vectors(path: Path, rows: Sequence[Mapping[str, object]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.mark.slow
def test_check_says_that_vectors_agree(expander: Expander, tmp_path: Path) -> None:
    texts = ["atomic bomb", "the cat"]
    rows = [{"text": text, "vector": weights} for text, weights in zip(texts, expander.expand(texts), strict=True)]
    done = run("check", write_vectors(tmp_path / "vectors.jsonl", rows))
    assert done.returncode == 0 and done.stderr == ""
    assert done.stdout.endswith("\nmissing tokens  none\nextra tokens    none\n\nThey agree.\n")


@pytest.mark.slow
def test_check_names_what_differs_in_80_columns(expander: Expander, tmp_path: Path) -> None:
    texts = ["where do trout live in the river, and do they swim up to the lakes in spring?", "salmon"]
    vectors = [vector.prune(top=5) for vector in expander.encode(texts, role="query")]
    rows = [
        {"text": text, "indices": vector.indices.tolist(), "values": (3 * vector.values).tolist()}
        for text, vector in zip(texts, vectors, strict=True)
    ]
    path = write_vectors(tmp_path / "vectors.jsonl", rows)
    done = run("check", "--query", path)
    assert done.returncode == 3 and done.stderr == ""
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert done.stdout.startswith("model           tiny-en, for queries\ntexts           2\n")
    assert "They differ.\n- Only the heaviest weights of each text are kept.\n- Each weight is 3 times" in done.stdout
    found = json.loads(run("check", "--query", "--json", path).stdout)
    assert not found["agrees"] and len(found["findings"]) == 2 and found["extra"] == {} and found["missing"]


@pytest.mark.slow
def test_check_reads_standard_input_and_names_a_line_without_a_text(tmp_path: Path) -> None:
    done = run("check", "-", input='{"text": "", "vector": {}}\n{"_id": 1, "vector": {"a": 1}}\n')
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.startswith("spladerunner: standard input, line 2: no text")
    assert run("check", "-", input='{"text": "", "vector": {}}\n').returncode == 0


def test_expand_runs_another_model(bundle: Path) -> None:
    assert json.loads(run("expand", "--model", bundle, "the cat").stdout) == Expander(bundle).expand("the cat")[0]


@pytest.mark.slow
@pytest.mark.parametrize("closed", [">&-", "<&-"])
def test_closed_standard_streams_are_one_line_and_exit_1(closed: str) -> None:
    done = subprocess.run(
        ["sh", "-c", f'"$0" -m spladerunner models {closed}', sys.executable], capture_output=True, text=True
    )
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and "standard" in done.stderr


def test_a_full_disk_is_one_line_and_exit_1() -> None:
    done = subprocess.run(
        ["sh", "-c", '"$0" -m spladerunner models >/dev/full', sys.executable], capture_output=True, text=True
    )
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and "No space left" in done.stderr


def test_help_into_a_closed_pipe_prints_no_error() -> None:
    done = subprocess.run(
        ["sh", "-c", '"$0" -m spladerunner --help | true', sys.executable], capture_output=True, text=True
    )
    assert done.stderr == ""


EVIL = "\x1b]0;title\x07\x1b[2J\x9b1A\r\x7f\u202e\u2066"
"""What a terminal obeys: its title, its screen, its cursor, and the direction of text."""


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """A bundle with EVIL in its tokens, its name and its path."""
    folder = write_bundle(tmp_path / f"bundle{EVIL}")
    tokens = [f"{token}{EVIL}\n" if token in WORDS and token != "cat" else token for token in TOKENS]
    made = tokenizer(tokens)
    made.save(str(folder / TOKENIZER))
    vocabulary = Vocabulary([made.id_to_token(at) for at in range(made.get_vocab_size())], [])
    change_manifest(
        folder,
        name=f"model{EVIL}",
        vocabulary=VocabularyRecord(len(vocabulary), vocabulary.sha256),
        files=records(folder, TOKENIZER, "doc.onnx", "query.onnx"),
    )
    return folder


def shown_without_control(printed: str) -> str:
    """The text, if each of its lines is printable."""
    assert [line for line in printed.split("\n") if not line.isprintable()] == []
    return printed


@pytest.mark.slow
def test_nothing_of_a_model_reaches_the_terminal_raw(hostile: Path, tmp_path: Path) -> None:
    title = r"\u001b]0;title\u0007\u001b[2J\u009b1A"
    model = ("--model", hostile)
    assert title in shown_without_control(in_terminal("expand", *model, f"the cat {EVIL}\n"))
    drawn = shown_without_control(in_terminal("expand", *model, "--json", "the cat", columns=200))
    assert json.loads(drawn) == Expander(hostile).expand("the cat")[0]
    explanation = Expander(hostile).explain("the cat", "cat")
    assert any(EVIL in match.token for match in explanation.shared)
    assert title in shown_without_control(in_terminal("explain", *model, "the cat", "cat"))
    assert json.loads(shown_without_control(in_terminal("explain", *model, "--json", "the cat", "cat")))["shared"]
    assert title in shown_without_control(in_terminal("explain", *model, "--html", "--", "the cat", "cat"))
    assert title in shown_without_control(in_terminal("fetch", hostile))
    given = write_vectors(tmp_path / "vectors.jsonl", [{"text": f"cat{EVIL}", "vector": {f"[UNK]{EVIL}": 1.0}}])
    assert title in shown_without_control(in_terminal("check", *model, str(given), status=3))


@pytest.mark.slow
def test_no_error_reaches_the_terminal_raw(hostile: Path, tmp_path: Path) -> None:
    nowhere = tmp_path / f"nowhere{EVIL}"
    for arguments, status in (
        (("expand", "--model", nowhere, "text"), 1),
        (("expand", "--model", hostile.parent, "text"), 1),
        (("fetch", nowhere), 1),
        (("fetch", "cat", EVIL), 2),
        (("expand", f"--{EVIL}"), 2),
        (("encode", nowhere, "-o", tmp_path / "out.jsonl", "--format", EVIL), 2),
        (("eval", nowhere), 1),
    ):
        printed = shown_without_control(in_terminal(*arguments, status=status))
        assert "spladerunner" in printed, arguments
    done = run("encode", nowhere, "-o", tmp_path / "out.jsonl")  # a terminal would get a bar too
    assert done.returncode == 1 and "nowhere" in shown_without_control(done.stderr)
    (hostile / "manifest.json").write_text(json.dumps({"schema": EVIL}))
    assert "schema" in shown_without_control(in_terminal("expand", "--model", hostile, "text", status=1))


@pytest.mark.slow
def test_nothing_of_a_collection_reaches_the_terminal_raw(hostile: Path, tmp_path: Path) -> None:
    collection = write_beir(tmp_path / f"collection{EVIL}")
    with (collection / "qrels" / "test.tsv").open("a", newline="") as judgments:
        judgments.write(f"q1\tnone{EVIL.replace(chr(13), '')}\t1\n")
    assert "collection" in shown_without_control(in_terminal("eval", collection, "--model", hostile, columns=200))
    corpus = collection / "corpus.jsonl"
    done = run("encode", corpus, "-o", tmp_path / f"out{EVIL}.jsonl", "--model", hostile)
    assert done.returncode == 0 and "out" in shown_without_control(done.stderr)


def test_a_folder_is_printed_into_a_pipe_as_it_is(hostile: Path) -> None:
    done = subprocess.run([*COMMAND, "fetch", hostile], capture_output=True, check=True)
    assert done.stdout.removesuffix(b"\n") == os.fsencode(hostile)


@pytest.mark.slow
def test_a_huge_top_shows_all_tokens() -> None:
    assert run("expand", "--top", "9" * 30, "bomb").stdout == run("expand", "bomb").stdout


@pytest.mark.slow
def test_version() -> None:
    assert run("--version").stdout.strip() == __version__


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["expand", "--model", "no-such-model", "text"], "no-such-model"),
        (["expand", "--model", os.sep + "dev", "text"], "has no model"),
        pytest.param(
            ["export", "--doc", "no-such-folder", "-o", "never-made"], "no-such-folder", marks=pytest.mark.torch
        ),
    ],
)
def test_a_library_error_is_one_line_and_exit_1(arguments: list[str], message: str, tmp_path: Path) -> None:
    done = run(*arguments, cwd=tmp_path)
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.startswith("spladerunner: ") and message in done.stderr and done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arguments", [[], ["expand", "--top", "0", "text"], ["expand", "--top", "many", "text"]])
def test_a_usage_error_is_exit_2(arguments: list[str]) -> None:
    done = run(*arguments)
    assert done.returncode == 2 and "usage: spladerunner" in done.stderr


@pytest.mark.slow
def test_export_without_its_extra_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "onnx.py").write_text("raise ModuleNotFoundError('No module named onnx', name='onnx')")
    done = run("export", "--doc", "x", "-o", "y", env={**os.environ, "PYTHONPATH": str(tmp_path)})
    assert done.returncode == 1
    assert "pip install 'spladerunner[export]'" in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.slow
def test_a_closed_pipe_ends_the_command_without_a_message() -> None:
    with subprocess.Popen(
        [*COMMAND, "expand"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdin is not None and process.stdout is not None and process.stderr is not None
        process.stdin.write(b"atomic bomb\n")
        process.stdin.flush()
        assert process.stdout.readline()
        process.stdout.close()
        process.stdin.write(b"river bank\n" * 100)
        process.stdin.close()
        assert process.stderr.read() == b""
        assert process.wait() == 141


@pytest.mark.slow
def test_an_interrupt_ends_the_command_without_a_message() -> None:
    with subprocess.Popen(
        [*COMMAND, "expand"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdin is not None and process.stdout is not None and process.stderr is not None
        process.stdin.write(b"atomic bomb\n")
        process.stdin.flush()
        assert process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait() == 130
        assert process.stderr.read() == b""


@pytest.mark.slow
def test_explain_writes_its_page_to_a_file_or_standard_output(expander: Expander, tmp_path: Path) -> None:
    query, document = "nuclear bomb", "naïve <b>Manhattan</b> Project 数"
    page = explanation_page.page(expander.explain(query, document))
    printed = run("explain", query, document, "--html", env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert printed.stdout == page and "<b>" not in page
    written = run("explain", query, document, "--html", tmp_path / "page.html")
    assert written.stdout == "" and (tmp_path / "page.html").read_text(encoding="utf-8") == page


@pytest.mark.slow
def test_expand_imports_only_what_it_needs() -> None:
    unneeded = {
        *("bm25s", "huggingface_hub", "ir_measures", "jinja2", "onnx", "optimum", "pyarrow", "scipy", "shtab"),
        *("torch", "tqdm", "transformers", "zstandard"),
        *("asyncio", "concurrent.futures", "email", "gzip", "http", "signal", "ssl", "subprocess", "tempfile"),
        *("spladerunner.bulk", "spladerunner.evaluation", "spladerunner.export", "spladerunner.formats"),
        "spladerunner.readers",
    }
    if sys.version_info < (3, 11):
        unneeded -= {"signal", "subprocess"}  # Python's own platform module imports them there
    code = f"""
import sys
from spladerunner.cli.main import main
main(["expand", "--top", "1", "atomic bomb"])
print(sorted({unneeded!r} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[1] == "[]"

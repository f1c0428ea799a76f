"""Shell completion: the script of each shell, and bash at work with it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.test_cli import run


def completed(script: Path, words: str, folder: Path) -> list[str]:
    """Completions that bash offers for the last word."""
    code = f"""
source {script}
COMP_WORDS=({words})
COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
COMP_LINE="${{COMP_WORDS[*]}}"
COMP_POINT=${{#COMP_LINE}}
$(complete -p spladerunner | sed 's/.*-F \\([^ ]*\\).*/\\1/') spladerunner "${{COMP_WORDS[COMP_CWORD]}}"
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
    done = subprocess.run(["bash", "-c", code], capture_output=True, text=True, cwd=folder, check=True)
    return [word.strip() for word in done.stdout.splitlines()]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_bash_completes_commands_options_values_and_files(tmp_path: Path) -> None:
    script = tmp_path / "spladerunner.bash"
    script.write_text(run("completion", "bash").stdout)
    (tmp_path / "corpus.tsv").write_text("1\tthe cat\n")
    assert completed(script, "spladerunner exp", tmp_path) == ["expand", "explain", "export"]
    assert completed(script, "spladerunner encode --ski", tmp_path) == ["--skip-bad"]
    assert completed(script, "spladerunner encode --role q", tmp_path) == ["query"]
    assert completed(script, "spladerunner encode --model corp", tmp_path) == ["corpus.tsv"]
    assert completed(script, "spladerunner encode corp", tmp_path) == ["corpus.tsv"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("shell", "start"), [("bash", "# AUTOMATICALLY"), ("zsh", "#compdef spladerunner"), ("tcsh", "#")]
)
def test_every_shell_has_a_script(shell: str, start: str) -> None:
    done = run("completion", shell)
    assert done.returncode == 0 and done.stdout.startswith(start) and "skip-bad" in done.stdout


def test_without_the_extra_the_command_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "shtab.py").write_text("raise ModuleNotFoundError('No module named shtab', name='shtab')")
    done = run("completion", "bash", env={**os.environ, "PYTHONPATH": str(tmp_path)})
    assert done.returncode == 1 and done.stdout == "" and done.stderr.count("\n") == 1
    assert "pip install 'spladerunner[completion]'" in done.stderr


@pytest.mark.slow
def test_no_other_command_imports_the_library() -> None:
    code = """
import sys
from spladerunner.cli.main import main
main(["models"])
main(["expand", "the cat"])
assert "spladerunner.cli.completion" in sys.modules and "shtab" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)

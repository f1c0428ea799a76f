"""The scratch folder of an export: what ends it, what it leaves, and who removes that."""

from __future__ import annotations

import errno
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from spladerunner import CheckpointError
from spladerunner.export.scratch import scratch_folder
from tests.conftest import ROOT

HOLD = """
import sys, time
from pathlib import Path
from spladerunner.cli.exit_status import exit_on_signals
from spladerunner.export.scratch import scratch_folder
exit_on_signals()
with scratch_folder(Path(sys.argv[1]), print) as scratch:
    (scratch / "graph").write_text("large")
    print(scratch, flush=True)
    time.sleep(60)
"""


def hold(output: Path) -> tuple[subprocess.Popen[str], Path]:
    """A process that is inside its scratch folder, and the folder."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(output)], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert process.stdout is not None
    return process, Path(process.stdout.readline().strip())


def end(process: subprocess.Popen[str]) -> int:
    process.communicate()
    return process.returncode


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_removes_the_folder(tmp_path: Path, ending: signal.Signals) -> None:
    process, scratch = hold(tmp_path / "made")
    assert scratch.parent == tmp_path and (scratch / "graph").exists()
    process.send_signal(ending)
    assert end(process) == (128 + ending if ending != signal.SIGINT else -ending)
    assert list(tmp_path.iterdir()) == []


def test_a_signal_that_is_ignored_stays_ignored(tmp_path: Path) -> None:
    code = HOLD.replace("time.sleep(60)", "sys.stdin.readline()")
    command = ["nohup", sys.executable, "-c", code, str(tmp_path / "made")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGHUP)
        process.communicate("go on\n")
        assert process.returncode == 0


def test_the_next_export_removes_what_a_killed_one_left_and_nothing_else(tmp_path: Path) -> None:
    (running, theirs), (killed, left) = hold(tmp_path / "made"), hold(tmp_path / "made")
    killed.kill()
    end(killed)
    others = [tmp_path / ".made.mine", tmp_path / "made.mine", tmp_path / ".other.1"]
    for folder in others:
        folder.mkdir()
    shutil.copyfile(left / "spladerunner-export.lock", others[-1] / "spladerunner-export.lock")
    said: list[str] = []
    with scratch_folder(tmp_path / "made", said.append) as mine:
        assert set(tmp_path.iterdir()) == {theirs, mine, *others}
    assert said == [f"removed {left}, which an export left that was killed"]
    running.terminate()
    end(running)
    assert set(tmp_path.iterdir()) == set(others)


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), OSError(errno.EDQUOT, "quota")])
def test_no_space_is_called_that(tmp_path: Path, error: OSError) -> None:
    with (
        pytest.raises(CheckpointError, match="no space is left on its disk") as caught,
        scratch_folder(tmp_path / "made", print),
    ):
        raise error
    assert caught.value.path == tmp_path / "made" and list(tmp_path.iterdir()) == []


def test_other_errors_keep_their_words(tmp_path: Path) -> None:
    for error in (CheckpointError("another reason"), PermissionError(errno.EACCES, "not yours")):
        with pytest.raises(type(error)) as caught, scratch_folder(tmp_path / "made", print):
            raise error
        assert caught.value is error

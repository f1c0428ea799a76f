"""Output: a file that is written in steps that survive a kill or a power cut, and that appears when it is complete.

Until then, the lines are in OUT.partial and the bad lines in OUT.bad.jsonl.partial; OUT.partial.json is the state: how
many bytes of each are valid, and which input lines they come from. A save writes and syncs the lines, then a new state
under another name, then renames it. So the state never counts bytes that are not on the disk; bytes beyond it are cut
off on resume.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path

from spladerunner.bulk.writer import State
from spladerunner.errors import OutputError
from spladerunner.readers.records import Record
from spladerunner.vector import SparseVector

_START: State = {"lines": 0, "documents": 0, "bad": 0, "digest": "", "bytes": 0, "bad_bytes": 0, "complete": False}


class Output:
    """Writer of OUT and OUT.bad.jsonl, which resumes an interrupted job that had the same options.

    line: turns a record and its vector into a line, without its newline; ValueError if the format refuses it.
    state: what the saved state file holds, and what has been written since.
    finished: the interrupted job had written everything; only the files were left to rename, which is done now.
    Raises OutputError if OUT exists, another process is writing it, or the interrupted job had other options.
    """

    def __init__(self, path: Path, options: State, line: Callable[[Record, SparseVector], str]) -> None:
        self._line = line
        self._path, self._bad = path, Path(f"{path}.bad.jsonl")
        self._partial, self._bad_partial = Path(f"{path}.partial"), Path(f"{path}.bad.jsonl.partial")
        self._state_path = Path(f"{path}.partial.json")
        self.finished = False
        self._file = self._lock()
        try:
            self._bad_file: int | None = None
            self._begin(options)
        except BaseException:
            self.close()
            raise

    def _begin(self, options: State) -> None:
        state = self._read_state()
        if state is None and os.fstat(self._file).st_size:
            raise self._error(
                f"{self._partial} exists without its state file {self._state_path}. Delete {self._partial} to start "
                "over."
            )
        if state is not None:
            self._compare(state["options"], options)
        if self._path.exists():
            if state is not None and state["complete"] and not os.fstat(self._file).st_size:
                self.state: State = state
                self._partial.unlink()  # empty: created by _lock after the rename
                self._state_path.unlink()
                self.finished = True
                return
            if not os.fstat(self._file).st_size and state is None:
                self._partial.unlink()
            raise self._error(f"{self._path} exists already. Give another -o, or delete it.")
        if self._bad.exists() and not (state and state["complete"]):
            raise self._error(f"{self._bad} exists already, from another job. Move or delete it.")
        self.state = state or {"options": options, **_START}
        if self.state["complete"] and os.fstat(self._file).st_size == self.state["bytes"]:
            self._rename()
            return
        self._bad_file = os.open(self._bad_partial, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        for file, name, key in ((self._file, self._partial, "bytes"), (self._bad_file, self._bad_partial, "bad_bytes")):
            if os.fstat(file).st_size < self.state[key]:
                raise self._error(
                    f"{name} was changed: it is shorter than the {self.state[key]} bytes that {self._state_path} "
                    f"records. Delete {self._partial}* to start over."
                )
            os.ftruncate(file, self.state[key])
        self._lines: list[bytes] = []
        self._bad_lines: list[bytes] = []
        self.save()

    @property
    def digests(self) -> Mapping[int, str]:
        """The digest of the lines that are done, by their count."""
        return {self.state["lines"]: self.state["digest"]} if self.state["lines"] else {}

    def write(self, record: Record, vector: SparseVector) -> None:
        """Writes a line of OUT. Raises ValueError if its format refuses the record."""
        self._lines.append(self._line(record, vector).encode() + b"\n")
        self.state["documents"] += 1
        if len(self._lines) >= 1000:
            self._flush()

    def write_bad(self, line: str) -> None:
        """Writes a line of OUT.bad.jsonl, given without its newline."""
        self._bad_lines.append(line.encode() + b"\n")
        self.state["bad"] += 1
        if len(self._bad_lines) >= 1000:
            self._flush()

    def reached(self, lines: int, digest: str) -> None:
        """Records that the lines written so far come from the first `lines` lines of the input, with this digest."""
        self.state["lines"], self.state["digest"] = lines, digest

    def save(self) -> None:
        """Saves what was written so far. Raises OSError, for example if the disk is full; the last save stays valid."""
        self._flush()
        assert self._bad_file is not None
        os.fsync(self._file)
        os.fsync(self._bad_file)
        self._write_state(self.state)

    def finish(self) -> None:
        """Saves, and renames the complete files. OUT.bad.jsonl exists only if there are bad lines."""
        self.state["complete"] = True
        self.save()
        self._rename()

    def close(self) -> None:
        """Closes the files without saving; lines that were not saved are encoded again on resume."""
        os.close(self._file)
        if self._bad_file is not None:
            os.close(self._bad_file)

    def _error(self, message: str) -> OutputError:
        return OutputError(message, path=self._path)

    def _lock(self) -> int:
        try:
            import fcntl
        except ModuleNotFoundError as error:
            raise self._error(
                "Encoding files needs a POSIX system: this one has no file locks. Use Linux, macOS or WSL."
            ) from error
        file = os.open(self._partial, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not self._partial.exists() or not os.path.samestat(os.fstat(file), self._partial.stat()):
                raise BlockingIOError  # another process renamed it between the two calls
        except BlockingIOError:
            os.close(file)
            raise self._error(f"{self._path} is being written by another process. Wait for it, or stop it.") from None
        return file

    def _read_state(self) -> State | None:
        try:
            state = json.loads(self._state_path.read_bytes())
            return {key: state[key] for key in ("options", *_START)}
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError) as error:
            raise self._error(
                f"{self._state_path} is damaged or from another version of spladerunner: {error!r}. Delete "
                f"{self._partial}* to start over."
            ) from error

    def _compare(self, saved: State, options: State) -> None:
        for key, value in options.items():
            if saved.get(key) != value:
                raise self._error(
                    f"{self._partial} belongs to a job with another {key}: {saved.get(key)!r}, not {value!r}. "
                    f"Repeat the original command, or delete {self._partial}* to start over."
                )

    def _flush(self) -> None:
        for file, lines, key in ((self._file, self._lines, "bytes"), (self._bad_file, self._bad_lines, "bad_bytes")):
            data = memoryview(b"".join(lines))
            assert file is not None
            while data:
                written = os.pwrite(file, data, self.state[key])
                self.state[key] += written
                data = data[written:]
            lines.clear()

    def _write_state(self, state: State) -> None:
        fresh = Path(f"{self._state_path}.new")
        with fresh.open("w", encoding="utf-8") as file:
            json.dump(state, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self._state_path)
        self._sync_folder()

    def _rename(self) -> None:
        """Renames the files. Any of the steps may have been done before the process was killed."""
        if self._path.exists():
            raise self._error(
                f"{self._path} was created by another process meanwhile. Move it, and repeat the command."
            )
        if self._bad_partial.exists():
            if self._bad_partial.stat().st_size:
                self._bad_partial.replace(self._bad)
            else:
                self._bad_partial.unlink()
        self._partial.replace(self._path)
        self._sync_folder()
        self._state_path.unlink()
        self.finished = True

    def _sync_folder(self) -> None:
        folder = os.open(self._path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

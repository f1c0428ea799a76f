"""Output: a file that is written in steps which survive a kill or a power cut, and that appears when it is whole.

While under way, the lines lie in OUT.partial and the bad ones in OUT.bad.jsonl.partial; OUT.partial.json says up to
which byte of each they count. A step is: the lines to the disk, then a new state to the disk under another name, then
its rename. So the state never tells of bytes that are not there, and what lies beyond it is cut off on resume.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from spladerunner.errors import OutputError

State = dict[str, Any]


class Output:
    """Lines for OUT and for OUT.bad.jsonl, and how far they are done; resumed where a run with `options` was killed.

    finished: an earlier run got all done and was killed before it could say so; nothing is left to do.
    Raises OutputError where OUT is there already, another run writes it, or it was begun with other options.
    """

    def __init__(self, path: Path, options: State) -> None:
        self._path, self._bad = path, Path(f"{path}.bad.jsonl")
        self._partial, self._bad_partial = Path(f"{path}.partial"), Path(f"{path}.bad.jsonl.partial")
        self._state_path = Path(f"{path}.partial.json")
        self._restart = f"Run the command that began it, or delete {self._partial}* to start over."
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
            raise OutputError(
                f"{self._partial} is there without {self._state_path}, which says how far it is good. "
                f"Delete {self._partial} to start over."
            )
        if state is not None:
            self._compare(state["options"], options)
        if self._path.exists():
            if state is not None and state["complete"] and not os.fstat(self._file).st_size:
                self.state: State = state
                self._partial.unlink()  # the lock alone, which is made anew where the file was renamed
                self._state_path.unlink()
                self.finished = True
                return
            if not os.fstat(self._file).st_size and state is None:
                self._partial.unlink()
            raise OutputError(f"{self._path} exists already. Give another -o, or delete it.")
        if self._bad.exists() and not (state and state["complete"]):
            raise OutputError(f"{self._bad} exists already, of another run. Move or delete it.")
        self.state = state or {
            "options": options,
            "lines": 0,
            "documents": 0,
            "digest": "",
            "bytes": 0,
            "bad_bytes": 0,
            "complete": False,
        }
        if self.state["complete"] and os.fstat(self._file).st_size == self.state["bytes"]:
            self._rename()
            return
        self._bad_file = os.open(self._bad_partial, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        for file, name, key in ((self._file, self._partial, "bytes"), (self._bad_file, self._bad_partial, "bad_bytes")):
            if os.fstat(file).st_size < self.state[key]:
                raise OutputError(
                    f"{name} is shorter than the {self.state[key]} bytes that {self._state_path} tells "
                    f"of: it was changed. Delete {self._partial}* to start over."
                )
            os.ftruncate(file, self.state[key])
        self._lines: list[bytes] = []
        self._bad_lines: list[bytes] = []
        self.save()

    def write(self, line: str) -> None:
        """A line of OUT, without its newline."""
        self._lines.append(line.encode() + b"\n")
        self.state["documents"] += 1
        if len(self._lines) >= 1000:
            self._flush()

    def write_bad(self, line: str) -> None:
        """A line of OUT.bad.jsonl, without its newline."""
        self._bad_lines.append(line.encode() + b"\n")
        if len(self._bad_lines) >= 1000:
            self._flush()

    def reached(self, lines: int, digest: str) -> None:
        """All that was written so far came from this many lines of the input, which have this digest."""
        self.state["lines"], self.state["digest"] = lines, digest

    def save(self) -> None:
        """Makes what was written so far survive. Raises OSError where the disk is full; the last save then holds."""
        self._flush()
        assert self._bad_file is not None
        os.fsync(self._file)
        os.fsync(self._bad_file)
        self._write_state(self.state)

    def finish(self) -> None:
        """The output is whole: gives it its name, and the bad lines theirs where there are any."""
        self.state["complete"] = True
        self.save()
        self._rename()

    def close(self) -> None:
        """Lets go of the files. What was not saved will be done again."""
        os.close(self._file)
        if self._bad_file is not None:
            os.close(self._bad_file)

    def _lock(self) -> int:
        try:
            import fcntl
        except ModuleNotFoundError as error:
            raise OutputError("Files are encoded on POSIX systems alone: this one cannot lock a file.") from error
        file = os.open(self._partial, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not self._partial.exists() or not os.path.samestat(os.fstat(file), self._partial.stat()):
                raise BlockingIOError  # the other run renamed it between the two calls
        except BlockingIOError:
            os.close(file)
            raise OutputError(f"{self._path} is being written by another run. Wait for it, or stop it.") from None
        return file

    def _read_state(self) -> State | None:
        try:
            state = json.loads(self._state_path.read_bytes())
            return {
                key: state[key] for key in ("options", "lines", "documents", "digest", "bytes", "bad_bytes", "complete")
            }
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError) as error:
            raise OutputError(
                f"{self._state_path} is damaged: {error}. Delete {self._partial}* to start over."
            ) from error

    def _compare(self, begun: State, options: State) -> None:
        for key, value in options.items():
            if begun.get(key) != value:
                raise OutputError(
                    f"{self._partial} was begun with another {key}: {begun.get(key)!r}, not {value!r}. {self._restart}"
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
        """Each step may have been done by a run that was killed after it."""
        if self._path.exists():
            raise OutputError(f"{self._path} was made by another meanwhile. Move it, and run the same command again.")
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

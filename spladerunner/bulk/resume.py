"""Output: a file that is written in steps that survive a kill or a power cut, and that appears when it is complete.

Until then, the lines are in OUT.partial and the bad lines in OUT.bad.jsonl.partial; OUT.partial.json is the state: how
many bytes of each are valid, and which input lines they come from. A save writes and syncs the lines, then a new state
under another name, then renames it. So the state never counts bytes that are not on the disk; bytes beyond it are cut
off on resume. At the end, the state becomes OUT.done.json, by which the same command recognizes what it has done.

A compressed file consists of frames that hold whole lines and can be decompressed one after another. A frame ends
where its lines reach FRAME bytes, never where a save happens to come, so that a resumed job writes the same bytes.
"""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from spladerunner.bulk.writer import START, State
from spladerunner.errors import OutputError, requires_extra
from spladerunner.filesystem import file_locks
from spladerunner.readers.records import Record
from spladerunner.vector import SparseVector

FRAME = 1 << 18
"""Bytes of lines in a frame of a compressed file, at least; also what an uncompressed one collects before a write."""

_START: State = {**START, "bytes": 0, "bad_bytes": 0, "complete": False}


class Output:
    """Writer of OUT and OUT.bad.jsonl, which resumes an interrupted job that had the same options.

    line: turns a record and its vector into a line, without its newline; ValueError if the format refuses it.
    compress: turns lines into a frame; None writes them as they are.
    state: what the saved state file holds, and what has been written since.
    finished: the job has been done before, with the same options.
    Raises OutputError if OUT exists, another process is writing it, or the interrupted job had other options.
    """

    def __init__(
        self,
        path: Path,
        options: State,
        line: Callable[[Record, SparseVector], str],
        compress: Callable[[bytes], bytes] | None = None,
    ) -> None:
        self._line, self._compress = line, compress
        self._path, self._bad, self._partial, self._bad_partial, self._state_path, self._new, self._done = files(path)
        self.finished = False
        self.state: State = {"options": options, **_START}
        self._ours = False  # the partial files are this job's, to remove if nothing comes of it
        self._bad_file: int | None = None
        self._file = self._lock()
        try:
            self._begin(options)
        except BaseException:
            self.close()
            raise

    def _begin(self, options: State) -> None:
        state = self._read_state(self._state_path)
        if state is None and os.fstat(self._file).st_size:
            raise self._error(
                f"{self._partial} exists without its state file {self._state_path}. Delete {self._partial} to start "
                "over."
            )
        if self._path.exists():
            self._recognize(state, options)
            if self.finished:
                return
            state = None
        elif state is not None and _is_empty(state):
            state = None
        if state is not None:
            self._compare(state["options"], options)
            self.state = state
            if state["complete"] and state["bad"] and self._bad.exists() and not self._bad_partial.exists():
                self._bad.replace(self._bad_partial)  # killed between the renames of the two files
        if self._bad.exists():
            raise self._error(f"{self._bad} exists already, from another job. Move or delete it.")
        self._bad_file = os.open(self._bad_partial, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        for file, name, key in ((self._file, self._partial, "bytes"), (self._bad_file, self._bad_partial, "bad_bytes")):
            if os.fstat(file).st_size < self.state[key]:
                raise self._error(
                    f"{name} was changed: it is shorter than the {self.state[key]} bytes that {self._state_path} "
                    f"records. Delete {self._partial}* to start over."
                )
            os.ftruncate(file, self.state[key])
        self._ours = True
        self._lines: list[bytes] = []
        self._bad_lines: list[bytes] = []
        self._waiting_bytes = 0
        self.state["complete"] = False
        self._safe = dict(self.state)
        self.save()

    @property
    def digests(self) -> Mapping[int, str]:
        """The digest of the lines that are done, by their count."""
        return {self.state["lines"]: self.state["digest"]} if self.state["lines"] else {}

    def _recognize(self, state: State | None, options: State) -> None:
        """Sets finished if OUT is this job's; removes it if it is of a job that wrote nothing. Raises OutputError."""
        if state is not None and state["complete"] and not os.fstat(self._file).st_size:
            self._state_path.replace(self._done)  # killed after the rename of OUT
        done = self._read_state(self._done)
        if done is None or done["bytes"] != self._path.stat().st_size:
            raise self._error(f"{self._path} exists already. Give another -o, or delete it.")
        different = [key for key, value in options.items() if done["options"].get(key) != value]
        if not different:
            self.state = done
            self.finished = True
        elif done["documents"]:
            raise self._error(
                f"{self._path} exists already, and was encoded with another {different[0]}: "
                f"{done['options'].get(different[0])!r}, not {options[different[0]]!r}. Give another -o, or delete it."
            )
        else:
            for path in (self._path, self._bad, self._done):
                path.unlink(missing_ok=True)

    def write(self, record: Record, vector: SparseVector) -> None:
        """Writes a line of OUT. Raises ValueError if its format refuses the record."""
        line = self._line(record, vector).encode() + b"\n"
        self._lines.append(line)
        self.state["documents"] += 1
        self._waiting_bytes += len(line)
        if self._compress is None and self._waiting_bytes >= FRAME:
            self._flush()

    def write_bad(self, line: str) -> None:
        """Writes a line of OUT.bad.jsonl, given without its newline."""
        self._bad_lines.append(line.encode() + b"\n")
        self.state["bad"] += 1
        if len(self._bad_lines) >= 1000:
            self._flush_bad()

    def reached(self, lines: int, digest: str) -> None:
        """Records that the lines written so far come from the first `lines` lines of the input, with this digest."""
        self.state["lines"], self.state["digest"] = lines, digest
        if self._compress is not None and self._waiting_bytes >= FRAME:
            self._flush()
            self._safe = dict(self.state)

    def save(self) -> None:
        """Saves what was written so far; of a compressed file, its complete frames.

        Raises OSError, for example if the disk is full; the last save stays valid.
        """
        if self._compress is None:
            self._flush()
            self._safe = dict(self.state)
        assert self._bad_file is not None
        os.fsync(self._file)
        os.fsync(self._bad_file)
        self._write_state(self._safe)

    def finish(self) -> None:
        """Saves, and renames the complete files. OUT.bad.jsonl exists only if there are bad lines."""
        self.state["complete"] = True
        self._flush()
        self._safe = dict(self.state)
        self.save()
        self._rename()

    def close(self) -> None:
        """Closes the files without saving; lines that were not saved are encoded again on resume.

        A job that has saved nothing leaves no files behind.
        """
        if self._ours and not self.finished and _is_empty(self._safe):
            self._bad_partial.unlink(missing_ok=True)
            self._state_path.unlink(missing_ok=True)
            self._partial.unlink(missing_ok=True)
        elif not os.fstat(self._file).st_size and not self._state_path.exists():
            self._partial.unlink(missing_ok=True)  # created by _lock
        os.close(self._file)
        if self._bad_file is not None:
            os.close(self._bad_file)

    def _error(self, message: str) -> OutputError:
        return OutputError(message, path=self._path)

    def _lock(self) -> int:
        fcntl = file_locks(self._path)
        file = os.open(self._partial, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not self._partial.exists() or not os.path.samestat(os.fstat(file), self._partial.stat()):
                raise BlockingIOError  # another process renamed it between the two calls
        except BlockingIOError:
            os.close(file)
            raise self._error(f"{self._path} is being written by another process. Wait for it, or stop it.") from None
        return file

    def _read_state(self, path: Path) -> State | None:
        try:
            state = json.loads(path.read_bytes())
            return {key: state[key] for key in ("options", *_START)}
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError) as error:
            raise self._error(
                f"{path} is damaged or from another version of spladerunner: {error!r}. Delete {self._partial}* and "
                f"{self._done} to start over."
            ) from error

    def _compare(self, saved: State, options: State) -> None:
        for key, value in options.items():
            if saved.get(key) != value:
                raise self._error(
                    f"{self._partial} belongs to a job with another {key}: {saved.get(key)!r}, not {value!r}. "
                    f"Repeat the original command, or delete {self._partial}* to start over."
                )

    def _flush(self) -> None:
        lines = b"".join(self._lines)
        if lines:
            self._append(self._file, lines if self._compress is None else self._compress(lines), "bytes")
        self._lines.clear()
        self._waiting_bytes = 0
        self._flush_bad()

    def _flush_bad(self) -> None:
        assert self._bad_file is not None
        self._append(self._bad_file, b"".join(self._bad_lines), "bad_bytes")
        self._bad_lines.clear()

    def _append(self, file: int, content: bytes, key: str) -> None:
        data = memoryview(content)
        while data:
            written = os.pwrite(file, data, self.state[key])
            self.state[key] += written
            data = data[written:]

    def _write_state(self, state: State) -> None:
        with self._new.open("w", encoding="utf-8") as file:
            json.dump(state, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        self._new.replace(self._state_path)
        self._sync_folder()

    def _rename(self) -> None:
        """Renames the files. Any of the steps may be the last before the process is killed."""
        if self._path.exists():
            raise self._error(
                f"{self._path} was created by another process meanwhile. Move it, and repeat the command."
            )
        if self._bad_partial.stat().st_size:
            self._bad_partial.replace(self._bad)
        else:
            self._bad_partial.unlink()
        self._partial.replace(self._path)
        self._sync_folder()
        self._state_path.replace(self._done)
        self._sync_folder()
        self.finished = True

    def _sync_folder(self) -> None:
        folder = os.open(self._path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def files(path: Path) -> Sequence[Path]:
    """All files that an Output with this path writes: itself, its bad lines, both while partial, and its states.

    >>> [each.name for each in files(Path("v.jsonl"))][2:5]
    ['v.jsonl.partial', 'v.jsonl.bad.jsonl.partial', 'v.jsonl.partial.json']
    """
    suffixes = (
        *("", ".bad.jsonl", ".partial", ".bad.jsonl.partial"),
        *(".partial.json", ".partial.json.new", ".done.json"),
    )
    return [Path(f"{path}{suffix}") for suffix in suffixes]


def compression(output: str) -> Callable[[bytes], bytes] | None:
    """The function that compresses lines to a frame, by the suffix of an output; None if there is none to compress.

    Raises MissingExtraError if a package is missing.

    >>> compress = compression("vectors.jsonl.gz")
    >>> gzip.decompress(compress(b"one") + compress(b"two"))
    b'onetwo'
    """
    if output.endswith(".gz"):
        return partial(gzip.compress, compresslevel=6, mtime=0)
    if output.endswith(".zst"):
        with requires_extra("zstd", "Writing .zst files"):
            import zstandard
        return zstandard.ZstdCompressor().compress
    return None


def _is_empty(state: State) -> bool:
    return not state["documents"] and not state["bad"]

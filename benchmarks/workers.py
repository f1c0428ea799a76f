"""Processes of one setting of a system, which stay loaded and encode lists of texts when asked."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

from benchmarks.harness import HERE, environment_of_jobs, reason
from spladerunner.inference.cpu_count import available_cores

TIMEOUT = 600


class SystemFailedError(RuntimeError):
    """A process of a system ended; its message is the last line that it wrote to standard error."""


class Encoded(NamedTuple):
    """Seconds of the slowest process, and the cosines of vectors with those of the reference, if one was named."""

    seconds: float
    cosines: list[float]


class Workers:
    """Processes that each encode a share of every list, at the same time, on cores of their own.

    python: of the environment of the system. job: of systems.py. processes: their number; the time to load is not
    part of any measurement.
    Raises SystemFailedError if a process ends.
    """

    def __init__(self, python: Path, job: Mapping[str, Any], processes: int = 1) -> None:
        started = time.perf_counter()
        cores = sorted(os.sched_getaffinity(0))[: available_cores()]
        self._errors = [
            tempfile.TemporaryFile("w+")  # noqa: SIM115, closed by close
            for _ in range(processes)
        ]
        self._processes = []
        for at, errors in enumerate(self._errors):
            own = cores[at :: min(processes, len(cores))] if processes > 1 else cores
            self._processes.append(
                subprocess.Popen(
                    [str(python), str(HERE / "systems.py"), json.dumps({**job, "serve": True, "cores": own})],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=errors,
                    text=True,
                    env=environment_of_jobs(),
                )
            )
        try:
            self._replies()
        except BaseException:
            self.close()
            raise
        self.load_seconds = time.perf_counter() - started
        self.peak_mb = 0.0
        self._at_once = max(len(cores), processes * int(job.get("batch", 1)))

    def encode(self, texts: Sequence[str], reference: str = "") -> Encoded:
        """Encodes texts, dealt by length so that the shares are alike. reference: file with the expected vectors."""
        longest_first = sorted(range(len(texts)), key=lambda at: len(texts[at]), reverse=True)
        count = len(self._processes)
        shares = [sorted(longest_first[at::count]) if count > 1 else list(range(len(texts))) for at in range(count)]
        for process, share in zip(self._processes, shares, strict=True):
            request = {"texts": [texts[at] for at in share], "at": share, "reference": reference}
            assert process.stdin
            try:
                process.stdin.write(json.dumps(request) + "\n")
                process.stdin.flush()
            except BrokenPipeError:
                break  # the replies tell why
        replies = self._replies()
        self.peak_mb = sum(reply["peak_mb"] for reply in replies)
        return Encoded(
            max(reply["seconds"] for reply in replies), [each for reply in replies for each in reply["cosines"]]
        )

    def seconds(self, texts: Sequence[str]) -> float:
        """Seconds to encode texts, after an untimed run of the longest, of as many as run at once.

        On some virtual machines a process that was idle for seconds is slow at first. The first list that a system
        encodes in a round would take longer by that.
        """
        self.encode(sorted(texts, key=len)[-self._at_once :])
        return self.encode(texts).seconds

    def _replies(self) -> list[dict[str, Any]]:
        """A line of each process."""
        watch = threading.Timer(TIMEOUT, self._kill)
        watch.start()
        try:
            lines = [process.stdout.readline() if process.stdout else "" for process in self._processes]
        finally:
            watch.cancel()
        for line, process, errors in zip(lines, self._processes, self._errors, strict=True):
            if not line:
                process.wait()
                errors.seek(0)
                raise SystemFailedError(reason(errors.read(), process.returncode))
        return [json.loads(line) for line in lines]

    def _kill(self) -> None:
        for process in self._processes:
            process.kill()

    def close(self) -> None:
        """Ends the processes."""
        self._kill()
        for process, errors in zip(self._processes, self._errors, strict=True):
            process.wait()
            for stream in (process.stdin, process.stdout, errors):
                if stream:
                    with contextlib.suppress(BrokenPipeError):
                        stream.close()

    def __enter__(self) -> Workers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

"""One way to run a tool: a process group of its own, a time limit, and nothing left over however it ends."""

import os
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

PATIENCE = 0.2  # seconds between two looks at `stop` and `watch`


@dataclass(frozen=True)
class Finished:
    """How a command ended. code: its exit status, negative: the signal that ended it, None: it was ended
    because its time ran out or it was told to stop."""

    code: int | None
    stdout: str
    stderr: str
    seconds: float

    @property
    def output(self) -> str:
        """What it printed, errors last."""
        return self.stdout + self.stderr

    def last(self, lines: int) -> list[str]:
        """The last lines that it printed, without empty ones."""
        return [line for line in self.output.splitlines() if line.strip()][-lines:]


def run(
    command: Sequence[str],
    folder: Path,
    seconds: float,
    environment: Mapping[str, str] | None = None,
    stop: threading.Event | None = None,
    watch: Callable[[bytes], bool] | None = None,
) -> Finished:
    """Run `command` in `folder`, for at most `seconds` and until `stop` is set.

    environment: what differs from ours. watch: is told what came to the standard error since it was told
    last, now and then while the command runs, and ends it by returning True.
    When this function is left, by whatever way (the command ended, its time ran out, Ctrl-C), every process
    that the command started is ended with it, unless that one left the process group. Raises OSError where
    the command cannot be started.
    """
    start = time.monotonic()
    process = None
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as errors:
        try:
            process = subprocess.Popen(
                command,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=errors,
                env={**os.environ, **(environment or {})},
                start_new_session=True,
            )
            code = _wait(process, start + seconds, _enough(stop, watch, errors.fileno()))
        finally:
            if process is not None:
                _end_group(process)
        stdout, stderr = _text(out), _text(errors)
    return Finished(code, stdout, stderr, time.monotonic() - start)


def _text(file: IO[bytes]) -> str:
    """All that was written to a file that is still open."""
    file.seek(0)
    return file.read().decode(errors="replace")


def _enough(
    stop: threading.Event | None, watch: Callable[[bytes], bool] | None, errors: int
) -> Callable[[], bool] | None:
    """What says that a command is to end before its time, or None where nothing can."""
    if stop is None and watch is None:
        return None
    seen = 0

    def ask() -> bool:
        nonlocal seen
        if stop is not None and stop.is_set():
            return True
        if watch is None:
            return False
        more = os.pread(errors, 2**20, seen)
        seen += len(more)
        return watch(more)

    return ask


def _wait(process: subprocess.Popen, deadline: float, enough: Callable[[], bool] | None) -> int | None:
    """The exit status of `process`; None if the deadline comes first, or it has run for long `enough`."""
    while True:
        left = max(0.0, deadline - time.monotonic())
        try:
            return process.wait(timeout=left if enough is None else min(left, PATIENCE))
        except subprocess.TimeoutExpired:
            if time.monotonic() >= deadline or (enough is not None and enough()):
                return None


def _end_group(process: subprocess.Popen) -> None:
    """End every process of the group that `process` leads, and wait for `process`."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()

"""Where trainings run: an executor runs one job after another on the workers it has; `Local` on this machine.

The groups of a batch depend on its architectures alone (groups.plan_groups) and a group is trained the
same way wherever it lands, so the result does not depend on the number of workers.
"""

import math
import multiprocessing
import os
import signal
import socket
import threading
import time
import traceback
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import connection
from typing import NamedTuple, Protocol

import torch

from scnas import plugins
from scnas.contract import Refused, one_of, whole
from scnas.snn import training
from scnas.snn.budget import Budget
from scnas.snn.training import Trained
from scnas.space import Architecture
from scnas.tasks import Task


def pick_device(name: str) -> str:
    """`auto` as cuda where there is one, else cpu; Refused for what is no device or is missing."""
    one_of("executor.device", name, ("auto", "cpu", "cuda"))
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise Refused("executor.device must be auto or cpu on this machine, got cuda: no CUDA device found")
    return name


# -- what an executor is ------------------------------------------------------------------------------


class Job(NamedTuple):
    """Candidates that are trained together, and how."""

    group: tuple[Architecture, ...]
    seed: int
    budget: Budget


class Finished(NamedTuple):
    """How a job ended.

    ticket: that of its submit(). trained: one of each candidate, in order, or None. fault: why there is
    none. lost: the fault is that of the machine (its worker died), so the job is worth another try.
    worker: who did it, for people. seconds: how long it took.
    """

    ticket: int
    trained: list[Trained] | None
    fault: str | None
    lost: bool
    worker: str
    seconds: float


class Executor(Protocol):
    """Runs jobs. Every submitted job comes out of collect() once, in any order, unless cancelled.

    A job that breaks comes out with its fault; what to do about it is the Trainer's to decide. slots:
    how many jobs it works on at a time. device: cpu or cuda, where they are trained.
    """

    slots: int
    device: str

    def submit(self, ticket: int, job: Job) -> None:
        """Queue a job; jobs submitted first start first."""

    def collect(self) -> Finished:
        """The next job that ends; waits for it. Only called while there is one."""

    def cancel(self) -> None:
        """Forget all jobs, those that run included."""


def run_job(ticket: int, job: Job, task: Task, device: str) -> Finished:
    """Train a group in this process, whatever comes of it."""
    started = time.perf_counter()
    worker = f"{socket.gethostname()}:{os.getpid()}:{device}"
    trained = fault = None
    try:
        trained = training.train_group(list(job.group), task, job.budget, job.seed, device)
    except Exception as error:  # of one candidate, probably: the Trainer finds out which
        fault = _told(error)
    return Finished(ticket, trained, fault, False, worker, time.perf_counter() - started)


def _told(error: Exception) -> str:
    """An exception in one line, with the place it came from."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    words = " ".join(str(error).split())[:300]
    return f"{type(error).__name__}: {words} ({os.path.basename(last.filename)}:{last.lineno})"


# -- this machine -------------------------------------------------------------------------------------


@contextmanager
def _one_thread() -> Iterator[None]:
    """One torch thread: small tensors on busy cores run many times slower with more."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _interrupts_ignored() -> Iterator[None]:
    """Ctrl-C is the parent's to handle; a worker ignores it from its first instruction on."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _work(pipe: connection.Connection, imported: Sequence[plugins.Plugin], task: Task, device: str) -> None:
    """What a worker process does: says that it is ready, then trains what comes, until nobody asks.

    imported: the plugins of the process that started it. What is wrong with them it says instead.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(1)
    try:
        try:
            plugins.repeat(imported)
        except Refused as refusal:
            pipe.send(refusal)
            return
        pipe.send(None)
        while True:
            ticket, job = pipe.recv()
            pipe.send(run_job(ticket, job, task, device))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return


def _end_with_parent() -> None:
    """A killed search leaves no worker behind that trains for nobody."""
    parent = multiprocessing.parent_process()
    assert parent is not None  # a worker was started by one
    connection.wait([parent.sentinel])
    os._exit(1)


class _Worker:
    """A process and what it works on."""

    def __init__(self, task: Task, device: str):
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(
            target=_work, args=(theirs, plugins.loaded(), task, device), daemon=True
        )
        with _interrupts_ignored():  # by the worker, which inherits it
            self.process.start()
        theirs.close()  # so that its end is seen here
        self.ready = False
        self.ticket: int | None = None
        self.started = math.inf  # when it began its job

    def give(self, ticket: int, job: Job) -> None:
        self.ticket = ticket
        self.started = time.monotonic() if self.ready else math.inf
        try:
            self.pipe.send((ticket, job))
        except OSError:
            pass  # it is dead, which collect() will see

    def end(self) -> int:
        """Kill it; returns the exit code, negative for a signal."""
        self.process.kill()
        self.process.join()
        self.pipe.close()
        assert self.process.exitcode is not None  # it was waited for
        return self.process.exitcode


class Local:
    """Trains on this machine. workers: processes, 0 for one per core; a GPU is always fed by one.

    timeout_s: a job that takes longer is given up; None: no limit. The first one on a machine compiles the
    kernels, which counts. One worker without a time limit is this process itself. A context manager; leaving
    it ends the workers.
    """

    def __init__(self, task: Task, workers: int = 1, device: str = "auto", timeout_s: float | None = None):
        self.task, self.device, self.timeout_s = task, pick_device(device), timeout_s
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        workers = whole("executor.workers", workers, 0, 4096)
        self.slots = 1 if self.device != "cpu" else workers or cores
        self._queue: deque[tuple[int, Job]] = deque()
        self._workers: list[_Worker] = []

    def __enter__(self) -> "Local":
        return self

    def __exit__(self, *_: object) -> None:
        self.cancel()
        for worker in self._workers:
            worker.end()
        self._workers.clear()

    def submit(self, ticket: int, job: Job) -> None:
        self._queue.append((ticket, job))
        self._feed()

    def cancel(self) -> None:
        self._queue.clear()
        for worker in [w for w in self._workers if w.ticket is not None]:
            worker.end()
            self._workers.remove(worker)

    def collect(self) -> Finished:
        if self._here:
            with _one_thread():
                return run_job(*self._queue.popleft(), self.task, self.device)
        while True:
            self._feed()
            if (finished := self._next()) is not None:
                return finished

    @property
    def _here(self) -> bool:
        return self.slots == 1 and self.timeout_s is None

    def _feed(self) -> None:
        """Give what waits to workers that wait, and start those that are missing."""
        if self._here:
            return
        while self._queue:
            idle = [w for w in self._workers if w.ticket is None]
            if not idle:
                if len(self._workers) == self.slots:
                    return
                self._workers.append(_Worker(self.task, self.device))
                idle = self._workers[-1:]
            idle[0].give(*self._queue.popleft())

    def _next(self) -> Finished | None:
        """Wait for something to happen; the job that ended by it, or None if none did."""
        busy = [w for w in self._workers if w.ticket is not None]
        limit = math.inf if self.timeout_s is None else self.timeout_s
        now = time.monotonic()
        left = min(w.started + limit - now if w.started < math.inf else math.inf for w in busy)
        said = connection.wait([w.pipe for w in busy], None if left == math.inf else max(0.0, left))
        for worker in busy:
            if worker.pipe in said:
                return self._heard(worker)
        for worker in busy:
            if time.monotonic() >= worker.started + limit:
                reason = f"took longer than executor.timeout_s = {self.timeout_s:g}"
                worker.end()
                return self._gone(worker, reason, lost=False)
        return None

    def _heard(self, worker: _Worker) -> Finished | None:
        try:
            message = worker.pipe.recv()
        except (EOFError, OSError):
            return self._died(worker)
        if isinstance(message, Refused):
            raise message
        if message is None:
            worker.ready, worker.started = True, time.monotonic()
            return None
        worker.ticket = None
        return message

    def _died(self, worker: _Worker) -> Finished:
        worker.process.join(5)  # it is gone or about to be; its own end says more than being killed
        code = worker.end()
        if code >= 0 and not worker.ready:
            self._workers.remove(worker)
            raise RuntimeError(
                f"a worker process ended with exit code {code} before it could train; a script that calls "
                'scnas with workers needs `if __name__ == "__main__":`'
            )
        if code < 0:
            return self._gone(worker, f"its worker was killed by {_signal_name(-code)}", lost=True)
        return self._gone(worker, f"its worker ended with exit code {code}", lost=True)

    def _gone(self, worker: _Worker, reason: str, lost: bool) -> Finished:
        self._workers.remove(worker)
        assert worker.ticket is not None  # only a worker that has a job is listened to
        name = f"{socket.gethostname()}:{worker.process.pid}:{self.device}"
        seconds = time.monotonic() - worker.started if worker.started < math.inf else 0.0
        return Finished(worker.ticket, None, reason, lost, name, seconds)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"

"""Where trainings run, and what happens to one that breaks.

An executor runs one job after another on the workers it has: `Local` on this machine. A `Trainer` stands
above it and is the same for every executor: it plans the groups, takes from the archive what is known,
tries again what a machine lost, halves what a candidate broke, and stores each group when it is whole.

The groups of a batch depend on its architectures alone (training.plan_groups) and a group is trained the
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
from dataclasses import dataclass, field
from multiprocessing import connection
from typing import TYPE_CHECKING, NamedTuple, Protocol

import torch

from scnas.contract import one_of, whole
from scnas.snn import training
from scnas.snn.training import Budget, Trained
from scnas.space import Architecture
from scnas.tasks import Task

if TYPE_CHECKING:
    from scnas.archive import Archive

ATTEMPTS = 3  # how often a job whose worker died is tried before the candidates are blamed
OUT_OF_MEMORY = "out of memory"  # what training.train_group says of a candidate too large for this machine


def pick_device(name: str) -> str:
    """`auto` as cuda where there is one, else cpu; ValueError for what is no device or is missing."""
    one_of("executor.device", name, ("auto", "cpu", "cuda"))
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError(
            "executor.device must be auto or cpu on this machine, got cuda: no CUDA device found"
        )
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


def _work(pipe: connection.Connection, task: Task, device: str) -> None:
    """What a worker process does: says that it is ready, then trains what comes, until nobody asks."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(1)
    try:
        pipe.send(None)
        while True:
            ticket, job = pipe.recv()
            pipe.send(run_job(ticket, job, task, device))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return


def _end_with_parent() -> None:
    """A killed search leaves no worker behind that trains for nobody."""
    connection.wait([multiprocessing.parent_process().sentinel])
    os._exit(1)


class _Worker:
    """A process and what it works on."""

    def __init__(self, task: Task, device: str):
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_work, args=(theirs, task, device), daemon=True)
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
                return self._gone(worker, worker.end(), reason, lost=False)
        return None

    def _heard(self, worker: _Worker) -> Finished | None:
        try:
            message = worker.pipe.recv()
        except (EOFError, OSError):
            return self._died(worker)
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
            return self._gone(worker, code, f"its worker was killed by {_signal_name(-code)}", lost=True)
        return self._gone(worker, code, f"its worker ended with exit code {code}", lost=True)

    def _gone(self, worker: _Worker, code: int, reason: str, lost: bool) -> Finished:
        self._workers.remove(worker)
        name = f"{socket.gethostname()}:{worker.process.pid}:{self.device}"
        seconds = time.monotonic() - worker.started if worker.started < math.inf else 0.0
        return Finished(worker.ticket, None, reason, lost, name, seconds)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


# -- above every executor -----------------------------------------------------------------------------


@dataclass
class _Group:
    """A group on its way: what is found of it, and how many of its jobs are still out."""

    members: tuple[Architecture, ...]
    seed: int
    budget: Budget
    found: dict[Architecture, Trained] = field(default_factory=dict)
    workers: dict[Architecture, str] = field(default_factory=dict)
    repeatable: bool = True  # nothing in it is owed to this machine and this hour


class Trainer:
    """Architectures -> trainings, on any executor.

    archive: where finished groups are kept; a group that is there is not trained again. shared: another
    archive, which lends its groups to this run and takes those that any run could repeat.

    A group that breaks is tried again in halves, down to the candidate that breaks it, which alone is
    reported as failed. A job whose worker died is tried ATTEMPTS times before it counts as broken.
    """

    def __init__(
        self,
        task: Task,
        executor: Executor,
        archive: "Archive | None" = None,
        shared: "Archive | None" = None,
    ):
        self.task, self.executor, self.archive, self.shared = task, executor, archive, shared
        self._groups: dict[int, _Group] = {}
        self._jobs: dict[int, tuple[int, Job, int]] = {}  # ticket: group, job, attempts before
        self._done: deque[tuple[int, list[Trained]]] = deque()
        self._tickets = 0

    def start(self, group: Sequence[Architecture], seed: int, budget: Budget) -> int:
        """Set a group going; returns the ticket with which wait() hands it out."""
        ticket = self._ticket()
        members = tuple(group)
        known = self._known(members, seed, budget)
        if known is not None:
            self._done.append((ticket, known))
        else:
            self._groups[ticket] = _Group(members, seed, budget)
            self._submit(ticket, Job(members, seed, budget), 0)
        return ticket

    def wait(self) -> tuple[int, list[Trained]]:
        """The next group that is whole: its ticket, and a training of every member in order."""
        while not self._done:
            self._settle(self.executor.collect())
        return self._done.popleft()

    def train(
        self, architectures: Sequence[Architecture], budget: Budget, seeds: Sequence[int]
    ) -> list[list[Trained]]:
        """Each architecture trained with each seed: one list over `architectures` for every seed."""
        groups = training.plan_groups(architectures, self.task, budget, self.executor.device)
        jobs = [(s, group) for s in range(len(seeds)) for group in groups]
        jobs.sort(key=lambda job: -training.work(job[1]))  # so that none is left with a long one at the end
        found: list[dict[Architecture, Trained]] = [{} for _ in seeds]
        try:
            tickets = {self.start(group, seeds[s], budget): s for s, group in jobs}
            for _ in jobs:
                ticket, trained = self.wait()
                found[tickets[ticket]].update((t.architecture, t) for t in trained)
        except BaseException:
            self.cancel()
            raise
        return [[training.remapped(by[a.training_key], a) for a in architectures] for by in found]

    def cancel(self) -> None:
        """Forget every group that was started and not handed out."""
        self.executor.cancel()
        self._groups.clear()
        self._jobs.clear()
        self._done.clear()

    def _ticket(self) -> int:
        self._tickets += 1
        return self._tickets

    def _submit(self, group: int, job: Job, attempts: int) -> None:
        ticket = self._ticket()
        self._jobs[ticket] = (group, job, attempts)
        self.executor.submit(ticket, job)

    def _known(self, members: tuple[Architecture, ...], seed: int, budget: Budget) -> list[Trained] | None:
        if self.archive is not None and (known := self.archive.find(members, seed, budget)) is not None:
            return known
        if self.shared is None or (known := self.shared.find(members, seed, budget)) is None:
            return None
        if self.archive is not None:
            workers = ["" for _ in known]
            self.archive.store(members, seed, budget, known, workers, lent_from=str(self.shared.path))
        return known

    def _settle(self, finished: Finished) -> None:
        number, job, attempts = self._jobs.pop(finished.ticket)
        group = self._groups[number]
        half = len(job.group) // 2
        if finished.trained is not None:
            results = finished.trained
            group.repeatable &= not any(t.failed == OUT_OF_MEMORY for t in results)
        elif finished.lost and attempts + 1 < ATTEMPTS:
            return self._submit(number, job, attempts + 1)
        elif half:
            group.repeatable = False
            for part in (job.group[:half], job.group[half:]):
                self._submit(number, job._replace(group=part), 0)
            return None
        else:
            times = f", {ATTEMPTS} times in a row" if finished.lost else ""
            results = [failure(job.group[0], f"{finished.fault}{times}", finished.seconds)]
            group.repeatable = False
        group.found.update((t.architecture, t) for t in results)
        group.workers.update((t.architecture, finished.worker) for t in results)
        if len(group.found) == len(group.members):
            self._finish(number)
        return None

    def _finish(self, number: int) -> None:
        group = self._groups.pop(number)
        trained = [group.found[a] for a in group.members]
        workers = [group.workers[a] for a in group.members]
        for archive in (self.archive, self.shared if group.repeatable else None):
            if archive is not None:
                archive.store(group.members, group.seed, group.budget, trained, workers)
        self._done.append((number, trained))


def failure(architecture: Architecture, reason: str, seconds: float) -> Trained:
    """The training of a candidate that could not be trained."""
    nan = math.nan
    return Trained(architecture, None, nan, nan, nan, nan, (), reason, seconds)

"""Where a batch of trainings runs: in this process, or in worker processes of this machine.

The groups of a batch depend on its architectures alone (training.plan_groups) and a group is trained
the same way wherever it lands, so the result does not depend on the number of workers.
"""

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager

import torch

from scnas.snn import training
from scnas.snn.training import Budget, Trained
from scnas.space import Architecture
from scnas.tasks import Task

_task: Task | None = None  # of a worker process: sent once, not with every group


def pick_device(name: str) -> str:
    """`auto` as cuda where there is one, else cpu; ValueError when cuda is asked for and missing."""
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError(
            "executor.device must be auto or cpu on this machine, got cuda: no CUDA device found"
        )
    return name


def _cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


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


def _start_worker(task: Task) -> None:
    global _task
    _task = task
    torch.set_num_threads(1)


def _train_group(group: list[Architecture], budget: Budget, seed: int, device: str) -> list[Trained]:
    assert _task is not None
    return training.train_group(group, _task, budget, seed, device)


class Local:
    """Trains on this machine. workers: processes, 0 for one per core; a GPU is always fed by one.

    A context manager; leaving it ends the workers.
    """

    def __init__(self, task: Task, workers: int = 1, device: str = "auto"):
        self.task, self.device = task, pick_device(device)
        if self.device != "cpu":
            workers = 1
        self.workers = (
            workers or len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else workers
        )
        self.workers = self.workers or os.cpu_count() or 1
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> "Local":
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            processes = list((self._pool._processes or {}).values())
            self._pool.shutdown(wait=False, cancel_futures=True)
            for process in processes:
                process.terminate()
            self._pool = None

    def train(
        self, architectures: Sequence[Architecture], budget: Budget, seeds: Sequence[int]
    ) -> list[list[Trained]]:
        """Each architecture trained with each seed: one list over `architectures` for every seed."""
        groups = training.plan_groups(architectures, self.task, budget)
        jobs = [(seed, group) for seed in seeds for group in groups]
        found: list[dict[Architecture, Trained]] = [{} for _ in seeds]
        for i, results in enumerate(self._run(jobs, budget)):
            found[i // len(groups)].update((r.architecture, r) for r in results)
        return [[training.remapped(by[a.training_key], a) for a in architectures] for by in found]

    def _run(self, jobs: list[tuple[int, list[Architecture]]], budget: Budget) -> list[list[Trained]]:
        if self.workers == 1 or not jobs:
            with _one_thread():
                return [training.train_group(g, self.task, budget, seed, self.device) for seed, g in jobs]
        if self._pool is None:
            self._pool = ProcessPoolExecutor(
                self.workers,
                multiprocessing.get_context("spawn"),
                initializer=_start_worker,
                initargs=(self.task,),
            )
        # The largest first, so that no worker starts a long group when the others are done.
        order = sorted(range(len(jobs)), key=lambda i: -training.work(jobs[i][1]))
        with _interrupts_ignored():  # by the workers, which start here and inherit it
            futures = {
                i: self._pool.submit(_train_group, jobs[i][1], budget, jobs[i][0], self.device) for i in order
            }
        return [futures[i].result() for i in range(len(jobs))]

"""The executor `ray`: every job is a task of a Ray cluster, here or anywhere. Extra `cluster`.

    executor=ray                                  a cluster of its own on this machine, for this run
    executor=ray executor.address=auto            the one that `make cluster` started on this machine
    executor=ray executor.address=ray-head:6379   any other; scnas is installed on every node, and where the
                                                  cluster has a token, RAY_AUTH_MODE=token is set here

A job is trained by the function that trains it everywhere (executor.run_job), so where it lands changes
nothing in what comes out, on machines of one kind. Ray is told to try nothing again: a worker or a node that
dies loses its job, which the Trainer submits once more.
"""

import math
import os
import socket
import time
from collections import deque
from collections.abc import Iterator, Sequence
from types import ModuleType
from typing import Any

import torch

from scnas import plugins
from scnas.contract import Refused
from scnas.tasks import Task
from scnas.trials import executor
from scnas.trials.executor import Finished, Job

INSTALL = "pip install 'scnas[cluster]'"


class Cluster:
    """Trains on a Ray cluster. workers: jobs at a time, 0 for as many as the cluster has room for.

    address: of a running cluster, `auto` for the one of this machine; None starts one for this run alone.
    cpus, gpus: what a job asks for; fractions share a core or a GPU; gpus counts on `cuda` only.
    timeout_s: a job that takes longer is given up; None: no limit.
    A context manager; leaving it ends the cluster if it was its own.
    Raises Refused, one line, without Ray, without a cluster at `address`, or if no job fits into it.
    """

    def __init__(
        self,
        task: Task,
        workers: int = 0,
        device: str = "auto",
        timeout_s: float | None = None,
        *,
        address: str | None = None,
        cpus: float = 1.0,
        gpus: float = 1.0,
    ):
        self._ray = ray = _ray()
        _connect(ray, address, workers, cpus)
        try:
            total = ray.cluster_resources()
            if device == "auto":
                device = "cuda" if total.get("GPU", 0) >= gpus else "cpu"
            self.device, self.timeout_s = device, timeout_s
            room = total.get("CPU", 0) / cpus if cpus else math.inf
            if device == "cuda":
                room = min(room, total.get("GPU", 0) / gpus)
            if room < 1:
                raise Refused(
                    f"executor.cpus = {cpus:g} and executor.gpus = {gpus:g} on {device} fit no job into a "
                    f"cluster of {total.get('CPU', 0):g} CPUs and {total.get('GPU', 0):g} GPUs"
                )
            self.slots = workers or int(min(room, 4096))
            resources = {"num_cpus": cpus, "num_gpus": gpus if device == "cuda" else 0}
            self._options = {**resources, "max_retries": 0, "num_returns": "streaming"}
            self._run = ray.remote(_run_job).options(**self._options)
            self._task = ray.put(task)  # once, not with every job
        except BaseException:
            ray.shutdown()
            raise
        self._queue: deque[tuple[int, Job]] = deque()
        # What a task yields (of a class of Ray), task by task: ticket, and when it began (infinity before).
        self._running: dict[Any, tuple[int, float]] = {}

    def __enter__(self) -> "Cluster":
        return self

    def __exit__(self, *_: object) -> None:
        self.cancel()
        self._ray.shutdown()

    def submit(self, ticket: int, job: Job) -> None:
        self._queue.append((ticket, job))
        self._feed()

    def cancel(self) -> None:
        self._queue.clear()
        for task in self._running:
            self._ray.cancel(task, force=True)
        self._running.clear()

    def collect(self) -> Finished:
        while True:
            self._feed()
            limit = math.inf if self.timeout_s is None else self.timeout_s
            first = min(start for _, start in self._running.values()) + limit - time.monotonic()
            timeout = None if first == math.inf else max(0.0, first)
            ready, _ = self._ray.wait(list(self._running), num_returns=1, timeout=timeout)
            if ready and (finished := self._heard(ready[0])) is not None:
                return finished
            for task, (_, start) in list(self._running.items()):
                if time.monotonic() >= start + limit:
                    self._ray.cancel(task, force=True)
                    reason = f"took longer than executor.timeout_s = {self.timeout_s:g}"
                    return self._gone(task, reason, lost=False)

    def _feed(self) -> None:
        while self._queue and len(self._running) < self.slots:
            ticket, job = self._queue.popleft()
            task = self._run.remote(ticket, job, self._task, self.device, plugins.loaded())
            self._running[task] = ticket, math.inf

    def _heard(self, task: Any) -> Finished | None:
        """What a task has to say: None that it begins, or how it ended."""
        errors = self._ray.exceptions
        try:
            finished = self._ray.get(next(task))
        except errors.RayTaskError as error:  # not in the training: run_job catches that
            if isinstance(error.cause, Refused):  # a plugin that is not there, or another one
                raise error.cause from None
            fault = f"{type(error.cause).__name__}: {_first_line(error.cause)}"
            return self._gone(task, fault, lost=False)
        except errors.RayError as error:  # of the worker or its node: dead, out of memory, out of reach
            return self._gone(task, f"its worker was lost: {type(error).__name__}", lost=True)
        if finished is None:
            self._running[task] = self._running[task][0], time.monotonic()
        else:
            del self._running[task]
        return finished

    def _gone(self, task: object, reason: str, lost: bool) -> Finished:
        ticket, start = self._running.pop(task)
        return Finished(ticket, None, reason, lost, f"ray:{self.device}", max(0.0, time.monotonic() - start))


def _run_job(
    ticket: int, job: Job, task: Task, device: str, imported: Sequence[plugins.Plugin] = ()
) -> Iterator[Finished | None]:
    """executor.run_job on a worker of the cluster; before it None, so that the time starts then."""
    torch.set_num_threads(1)  # as everywhere: the order of sums would change with it
    plugins.repeat(imported)
    yield None
    yield executor.run_job(ticket, job, task, device)


def _ray() -> ModuleType:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is reported to anybody
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
        import ray.exceptions
    except ImportError:
        raise Refused(f"executor=ray needs the extra cluster: {INSTALL}") from None
    return ray


def _connect(ray: ModuleType, address: str | None, workers: int, cpus: float) -> None:
    """Join the cluster at `address`, or start one; Refused if that cannot be done."""
    quiet = {"include_dashboard": False, "log_to_driver": False, "logging_level": "ERROR"}
    if address is None:
        size = {"num_cpus": math.ceil(workers * cpus)} if workers else {}
        ray.init(address="local", **size, **quiet)
        return
    quiet.pop("include_dashboard")
    try:
        if address != "auto":  # Ray tries for minutes, and does not say so
            host, _, port = address.rpartition(":")
            socket.create_connection((host, int(port)), timeout=10).close()
        ray.init(address=address, **quiet)
    except (OSError, ValueError, RuntimeError) as error:
        line = f"executor.address must be auto or host:port of a running cluster, got {address}"
        hint = "; a cluster with a token wants RAY_AUTH_MODE=token" if address != "auto" else ""
        raise Refused(f"{line}: {_first_line(error)}{hint}") from None


def _first_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]

"""The Trainer, which stands above every executor and is the same for each.

It plans the groups, takes from the archive what is known, tries again what a machine lost, halves what a
candidate broke, and stores each group when it is whole.
"""

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from scnas.snn import training
from scnas.snn.budget import Budget
from scnas.snn.groups import plan_groups, work
from scnas.snn.training import Trained
from scnas.space import Architecture
from scnas.tasks import Task
from scnas.trials.archive import Archive
from scnas.trials.executor import Executor, Finished, Job

ATTEMPTS = 3  # how often a job whose worker died is tried before the candidates are blamed
OUT_OF_MEMORY = "out of memory"  # what training.train_group says of a candidate too large for this machine


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
        archive: Archive | None = None,
        shared: Archive | None = None,
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
        groups = plan_groups(architectures, self.task, budget, self.executor.device)
        jobs = [(s, group) for s in range(len(seeds)) for group in groups]
        jobs.sort(key=lambda job: -work(job[1]))  # so that none is left with a long one at the end
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

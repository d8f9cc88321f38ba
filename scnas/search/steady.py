"""Steady-state NSGA-II: evolve_steady() gives a worker that is free the next candidate at once."""

import time
from collections import deque
from collections.abc import Iterator, Sequence

from scnas.contract import Refused
from scnas.evaluation import Evaluation, Generation
from scnas.hardware.cost import price
from scnas.search import nsga2
from scnas.search.evaluation import (
    HOPELESS,
    Evaluator,
    Reference,
    _untrained,
    pareto_front,
    scores,
    violations,
)
from scnas.search.evolve import _children, _Dice, _distinct, _draw
from scnas.snn.budget import Budget
from scnas.snn.training import Trained
from scnas.space import Architecture, SearchSpace
from scnas.trials import executor
from scnas.trials.trainer import Trainer


class Feed:
    """Candidates one by one to the workers of a trainer; their evaluations as they end.

    What an estimate rules out, or is trained already under another mapping, takes no worker.
    """

    def __init__(self, evaluator: Evaluator, trainer: Trainer, budget: Budget, seed: int):
        self.evaluator, self.trainer, self.budget, self.seed = evaluator, trainer, budget, seed
        self.slots = trainer.executor.slots
        self._trained: dict[Architecture, Trained] = {}  # by training key
        self._waiting: dict[Architecture, list[Architecture]] = {}  # training key: for whom it is trained
        self._tickets: dict[int, Architecture] = {}
        self._ready: deque[Evaluation] = deque()

    def submit(self, a: Architecture) -> None:
        """Set a candidate going."""
        cost, key = price.estimate(a, self.evaluator.target), a.training_key
        excess = price.violations(cost, self.evaluator.budgets)
        if excess > HOPELESS:
            self._ready.append(_untrained(a, cost, excess))
        elif key in self._trained:
            self._end(a)
        elif key in self._waiting:
            self._waiting[key].append(a)
        else:
            self._waiting[key] = [a]
            self._tickets[self.trainer.start((key,), self.seed, self.budget)] = key

    def collect(self) -> Evaluation:
        """The evaluation of the next candidate that ends. Only called while there is one."""
        while not self._ready:
            ticket, (trained,) = self.trainer.wait()
            key = self._tickets.pop(ticket)
            self._trained[key] = trained
            for a in self._waiting.pop(key):
                self._end(a)
        return self._ready.popleft()

    def cancel(self) -> None:
        """Forget what was set going."""
        self.trainer.cancel()
        self._waiting.clear()
        self._tickets.clear()
        self._ready.clear()

    def _end(self, a: Architecture) -> None:
        trained = self._trained[a.training_key]
        self._ready.append(self.evaluator.trained(executor.training.remapped(trained, a)))


def evolve_steady(
    space: SearchSpace,
    feed: Feed,
    reference: Reference,
    size: int,
    seed: int,
    total: int,
    first: Sequence[Architecture] = (),
    order: Sequence[Architecture] = (),
) -> Iterator[Generation]:
    """Steady-state NSGA-II: whenever a candidate ends, the population takes it in, and a worker that is
    free gets the next child at once. After every `size` candidates, and at the end, a Generation.

    total: candidates in all. first: as in evolve(). order: candidates in the order in which they ended
    before, which is followed as far as it goes: with the same slots the search repeats itself. Beyond it
    the order is that of this machine and hour, and children depend on it; with one slot it is always the
    same. Raises ValueError where `order` names a candidate that this search does not come to.
    """
    begun = time.perf_counter()
    dice = _Dice(seed, 0)
    opening = _distinct([*first, *_draw(space, size - len(first), dice, set(first))])[:size]
    coming, wanted = deque(opening), deque(order)
    started: dict[Architecture, None] = {}
    early: dict[Architecture, Evaluation] = {}  # ended before their turn in `order`
    archive: list[Evaluation] = []
    population: list[Evaluation] = []
    new: list[Evaluation] = []
    number = 0
    try:
        while True:
            while len(started) - len(archive) < feed.slots and len(started) < total:
                if not coming and population:
                    bred = _Dice(seed, len(started))  # a child's address is its place in the search
                    coming += _children(space, population, reference.objectives, 1, bred, started)
                if not coming:
                    break
                started[coming[0]] = None
                feed.submit(coming.popleft())
            over = len(started) == len(archive)
            if not over:
                evaluation = _next_in_order(feed, wanted, early, len(started) - len(archive))
                archive.append(evaluation)
                new.append(evaluation)
                both = [*population, evaluation]
                points = scores(both, reference.objectives)
                keep = nsga2.survive(points, violations(both), min(size, len(both)))
                population = [both[i] for i in keep]
            if new and (over or len(new) == size):
                front = [e for e in pareto_front(archive, reference.objectives) if e.trained]
                volume, seconds = reference.hypervolume(front), time.perf_counter() - begun
                yield Generation(number, population, front, new, list(archive), volume, seconds)
                number, new = number + 1, []
            if over:
                return
    finally:
        feed.cancel()


def _next_in_order(
    feed: Feed, wanted: deque[Architecture], early: dict[Architecture, Evaluation], running: int
) -> Evaluation:
    """The evaluation whose turn it is; `wanted` and `early` change. running: candidates that did not have
    their turn yet."""
    if not wanted:
        return early.pop(next(iter(early))) if early else feed.collect()
    while wanted[0] not in early:
        if len(early) == running:
            raise Refused(
                f"the search does not repeat what is kept: it does not come to {wanted[0].name}; begin in "
                "another folder"
            )
        evaluation = feed.collect()
        early[evaluation.architecture] = evaluation
    return early.pop(wanted.popleft())

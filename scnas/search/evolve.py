"""NSGA-II: evolve() yields generations."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from scnas.evaluation import Evaluation, Generation
from scnas.hardware.cost import price
from scnas.hardware.targets import Target
from scnas.randomness import rng
from scnas.search import nsga2
from scnas.search.evaluation import Reference, pareto_front, scores, violations
from scnas.space import Architecture, SearchSpace

CROSSOVER = 0.9  # share of children with two parents; the others, and half of these, are mutated


def evolve(
    space: SearchSpace,
    evaluate: Callable[[Sequence[Architecture]], list[Evaluation]],
    reference: Reference,
    size: int,
    seed: int,
    first: Sequence[Architecture] = (),
) -> Iterator[Generation]:
    """Generations of NSGA-II (Deb et al. 2002), the first one being random, for as long as there is
    anything new in the space.

    evaluate: called once per generation, with architectures never seen before.
    first: architectures that open the first generation, e.g. those that an estimate says will fit.
    Every child has its own random address (seed, generation, place), so any generation can be
    repeated without the ones before it.
    """
    begun = time.perf_counter()
    known: dict[Architecture, Evaluation] = {}
    population: list[Evaluation] = []
    number = 0
    while True:
        dice = _Dice(seed, number)
        if number == 0:
            new = _distinct([*first, *_draw(space, size - len(first), dice, set(first))])[:size]
        else:
            new = _children(space, population, reference.objectives, size, dice, known)
        if not new:
            return
        evaluated = evaluate(new)
        known.update((e.architecture, e) for e in evaluated)
        both = [*population, *evaluated]  # parents first: of equals the older stays
        keep = nsga2.survive(scores(both, reference.objectives), violations(both), min(size, len(both)))
        population = [both[i] for i in keep]
        archive = list(known.values())
        front = [e for e in pareto_front(archive, reference.objectives) if e.trained]
        yield Generation(
            number, population, front, evaluated, archive,
            reference.hypervolume(front), time.perf_counter() - begun,
        )  # fmt: skip
        number += 1


class _Dice(NamedTuple):
    """Random addresses of one generation."""

    seed: int
    number: int

    def at(self, *place: int | str) -> np.random.Generator:
        return rng(self.seed, "generation", self.number, *place)


def _distinct(architectures: Sequence[Architecture]) -> list[Architecture]:
    return list(dict.fromkeys(architectures))


def _draw(
    space: SearchSpace, count: int, dice: _Dice, taken: set[Architecture], tries: int = 200
) -> list[Architecture]:
    """Up to `count` random architectures that are not in `taken`, which grows by them."""
    drawn: list[Architecture] = []
    for i in range(count):
        for attempt in range(tries):
            if len(taken) >= space.space_size:
                return drawn
            candidate = space.random_architecture(dice.at("random", i, attempt))
            if candidate not in taken:
                taken.add(candidate)
                drawn.append(candidate)
                break
    return drawn


def _children(
    space: SearchSpace,
    population: Sequence[Evaluation],
    objectives: Sequence[str],
    size: int,
    dice: _Dice,
    known: Iterable[Architecture],
    tries: int = 50,
) -> list[Architecture]:
    """Up to `size` architectures bred from `population`, none of them known."""
    points = scores(population, objectives)
    rank = nsga2.ranks(points, violations(population))
    lonely = nsga2.crowding(points, rank)
    taken = set(known)
    children: list[Architecture] = []
    for i in range(size):
        for attempt in range(tries):
            if len(taken) >= space.space_size:
                return children
            here = dice.at("child", i, attempt)
            if len(population) > 1:
                mother, father = nsga2.tournament(rank, lonely, here, 2)
            else:
                mother = father = 0
            a, b = population[mother].architecture, population[father].architecture
            child = a
            if here.random() < CROSSOVER and a != b:
                child = space.crossover(a, b, here)
                if here.random() < 0.5 and space.space_size > 1:
                    child = space.mutate(child, here)
            elif space.space_size > 1:
                child = space.mutate(a, here)
            if child not in taken:
                taken.add(child)
                children.append(child)
                break
        else:  # a corner bred empty: fresh blood
            children += _draw(space, 1, _Dice(dice.seed, dice.number * size + i), taken)
    return children


def likely_to_fit(
    space: SearchSpace, count: int, target: Target, budgets: Mapping[str, float | None], seed: int
) -> list[Architecture]:
    """Up to `count` random architectures for a first generation, of 20 times as many those whose
    estimates keep the budgets, then those that come nearest."""
    drawn = _draw(space, 20 * count, _Dice(seed, -1), set())
    excess = [price.violations(c, budgets) for c in price.estimate_many(drawn, target)]
    order = sorted(range(len(drawn)), key=lambda i: excess[i])  # stable: fitting ones stay random
    return [drawn[i] for i in order[:count]]

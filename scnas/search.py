"""The search: evolve() yields generations, evolve_steady() waits for none; nas() is the one-call form.

Letters: N members of a population, M objectives, all minimised.
"""

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np

from scnas import executor, nsga2, tasks
from scnas.contract import OBJECTIVES, one_of, whole
from scnas.hardware import cost, targets
from scnas.hardware.cost import Cost
from scnas.hardware.targets import Target
from scnas.randomness import rng
from scnas.snn.network import Network
from scnas.snn.training import Budget, Trained
from scnas.space import Architecture, SearchSpace
from scnas.tasks import Task

CROSSOVER = 0.9  # share of children with two parents; the others, and half of these, are mutated
FAILED = 1e9  # violation of a candidate that could not be trained: behind everything that was
HOPELESS = 0.25  # an estimate this far above its budgets is not worth a training


class NothingFitsError(ValueError):
    """No architecture that was looked at keeps the budgets."""


@dataclass(frozen=True)
class Evaluation:
    """What is known of one architecture.

    metrics: error (1 - validation accuracy; 1 if not trained), accuracy, validation_loss,
    train_accuracy, and the fields of Cost. violation: 0 where every budget is kept, else how far
    off. trained: whether there is a real accuracy. failed: why there is none, or None.
    """

    architecture: Architecture
    metrics: Mapping[str, float]
    violation: float
    trained: bool
    failed: str | None = None
    network: Network | None = field(default=None, repr=False)

    @property
    def feasible(self) -> bool:
        return self.violation == 0


class Generation(NamedTuple):
    """number: 0 for the first. population: N survivors, best first. front: feasible and mutually
    non-dominated of all evaluated so far, accuracy descending. evaluated: what is new.
    archive: everything evaluated so far, in order. hypervolume: of the front, see `Reference`.
    seconds: since the search began."""

    number: int
    population: list[Evaluation]
    front: list[Evaluation]
    evaluated: list[Evaluation]
    archive: list[Evaluation]
    hypervolume: float
    seconds: float


@dataclass(frozen=True)
class Reference:
    """Maps objectives to 0..1, the same for every run on a task and a target, 1 being the worst.

    error: linear up to chance. luts, ffs, brams: linear up to the capacity of the chip.
    latency_us: logarithmic, 0.1 us to 100 ms. energy_nj: logarithmic, 1 nJ to 1 mJ. The hypervolume
    is that of the box up to (1, ..., 1); the reference point lies at 1 in every objective.
    """

    objectives: tuple[str, ...]
    n_classes: int
    target: Target

    def normalise(self, scores: np.ndarray) -> np.ndarray:
        """[N, M] scores -> [N, M], 0 best and 1 worst; beyond 1 where worse than the reference."""
        columns = []
        for name, column in zip(self.objectives, scores.T, strict=True):
            match name:
                case "error":
                    columns.append(column / (1 - 1 / self.n_classes))
                case "latency_us":
                    columns.append((np.log10(np.maximum(column, 0.1)) + 1) / 6)
                case "energy_nj":
                    columns.append(np.log10(np.maximum(column, 1.0)) / 6)
                case _:
                    columns.append(column / getattr(self.target, name))
        return np.stack(columns, 1)

    def hypervolume(self, evaluations: Sequence[Evaluation]) -> float:
        """Share of the box that the feasible, trained `evaluations` dominate, 0..1."""
        good = [e for e in evaluations if e.feasible and e.trained]
        if not good:
            return 0.0
        return nsga2.hypervolume(self.normalise(scores(good, self.objectives)), np.ones(len(self.objectives)))


def scores(evaluations: Sequence[Evaluation], objectives: Sequence[str]) -> np.ndarray:
    """[N, M] objectives of `evaluations`, lower is better."""
    rows = [[e.metrics[name] for name in objectives] for e in evaluations]
    return np.array(rows, dtype=np.float64).reshape(len(evaluations), len(objectives))


def violations(evaluations: Sequence[Evaluation]) -> np.ndarray:
    return np.array([e.violation for e in evaluations], dtype=np.float64)


def pareto_front(evaluations: Sequence[Evaluation], objectives: Sequence[str]) -> list[Evaluation]:
    """The feasible, mutually non-dominated ones, accuracy descending, then fewer LUTs."""
    index = nsga2.pareto_front(scores(evaluations, objectives), violations(evaluations))
    front = [evaluations[i] for i in index]
    return sorted(front, key=lambda e: (e.metrics["error"], e.metrics["luts"], e.architecture.name))


# -- evaluation ---------------------------------------------------------------------------------


class Evaluator:
    """Architectures -> evaluations: a real accuracy, and the cost of the network behind it.

    train: (architectures) -> one Trained each, or None for `accuracy_fn`: architecture -> accuracy
    in 0..1. budgets: limits by name, see cost.BUDGETS. What differs in mapping only is trained once.
    """

    def __init__(
        self,
        target: Target,
        budgets: Mapping[str, float | None],
        train: Callable[[list[Architecture]], list[Trained]] | None = None,
        accuracy_fn: Callable[[Architecture], float] | None = None,
    ):
        assert (train is None) != (accuracy_fn is None)
        self.target, self.budgets = target, dict(budgets)
        self.train, self.accuracy_fn = train, accuracy_fn
        self._trained: dict[Architecture, Trained] = {}

    def __call__(self, architectures: Sequence[Architecture]) -> list[Evaluation]:
        estimates = dict(zip(architectures, cost.estimate_many(architectures, self.target), strict=True))
        excess = {a: cost.violations(c, self.budgets) for a, c in estimates.items()}
        if self.accuracy_fn is not None:
            return [self._scored(a, estimates[a], excess[a]) for a in architectures]
        wanted = [a for a in architectures if excess[a] <= HOPELESS]
        new = list(dict.fromkeys(a.training_key for a in wanted if a.training_key not in self._trained))
        for trained in self.train(new) if new else []:
            self._trained[trained.architecture] = trained
        return [
            self.trained(executor.training.remapped(self._trained[a.training_key], a))
            if excess[a] <= HOPELESS
            else _untrained(a, estimates[a], excess[a])
            for a in architectures
        ]

    def trained(self, trained: Trained) -> Evaluation:
        """The evaluation of a training: its exact structure priced."""
        a = trained.architecture
        if trained.failed is not None:
            estimate = cost.estimate(a, self.target)
            return Evaluation(a, {"error": 1.0, **_figures(estimate)}, FAILED, False, trained.failed)
        price = cost.measure(trained.network, self.target, trained.activity)
        metrics = {
            "error": 1.0 - trained.validation_accuracy,
            "accuracy": trained.validation_accuracy,
            "validation_loss": trained.validation_loss,
            "train_accuracy": trained.train_accuracy,
            "synapses": trained.network.n_synapses,
            **_figures(price),
        }
        return Evaluation(
            _measured(a, price, trained.validation_accuracy),
            metrics,
            cost.violations(price, self.budgets),
            True,
            network=trained.network,
        )

    def _scored(self, a: Architecture, price: Cost, excess: float) -> Evaluation:
        accuracy = self.accuracy_fn(a)
        try:
            accuracy = float(accuracy)
        except (TypeError, ValueError):
            raise ValueError(f"accuracy_fn must return a number from 0 to 1, got {accuracy!r}") from None
        if not 0 <= accuracy <= 1:
            raise ValueError(f"accuracy_fn must return a number from 0 to 1, got {accuracy}")
        metrics = {"error": 1.0 - accuracy, "accuracy": accuracy, **_figures(price)}
        return Evaluation(_measured(a, price, accuracy), metrics, excess, True)


def _figures(price: Cost) -> dict[str, float]:
    return {name: value for name, value in price._asdict().items() if not isinstance(value, str)}


def _measured(a: Architecture, price: Cost, accuracy: float) -> Architecture:
    return replace(a, fitness_accuracy=accuracy, fitness_luts=price.luts, fitness_energy_nj=price.energy_nj)


def _untrained(a: Architecture, price: Cost, excess: float) -> Evaluation:
    """Far above its budgets by the estimate: ranked by how far, and never trained."""
    priced = replace(a, fitness_luts=price.luts, fitness_energy_nj=price.energy_nj)
    return Evaluation(priced, {"error": 1.0, **_figures(price)}, excess, False)


# -- evolution ----------------------------------------------------------------------------------


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


class Feed:
    """Candidates one by one to the workers of a trainer; their evaluations as they end.

    What an estimate rules out, or is trained already under another mapping, takes no worker.
    """

    def __init__(self, evaluator: Evaluator, trainer: executor.Trainer, budget: Budget, seed: int):
        self.evaluator, self.trainer, self.budget, self.seed = evaluator, trainer, budget, seed
        self.slots = trainer.executor.slots
        self._trained: dict[Architecture, Trained] = {}  # by training key
        self._waiting: dict[Architecture, list[Architecture]] = {}  # training key: for whom it is trained
        self._tickets: dict[int, Architecture] = {}
        self._ready: deque[Evaluation] = deque()

    def submit(self, a: Architecture) -> None:
        """Set a candidate going."""
        price, key = cost.estimate(a, self.evaluator.target), a.training_key
        excess = cost.violations(price, self.evaluator.budgets)
        if excess > HOPELESS:
            self._ready.append(_untrained(a, price, excess))
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
            raise ValueError(
                f"the search does not repeat what is kept: it does not come to {wanted[0].name}; begin in "
                "another folder"
            )
        evaluation = feed.collect()
        early[evaluation.architecture] = evaluation
    return early.pop(wanted.popleft())


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
    drawn = []
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
    known: Mapping[Architecture, Evaluation],
    tries: int = 50,
) -> list[Architecture]:
    """Up to `size` architectures bred from `population`, none of them known."""
    points = scores(population, objectives)
    rank = nsga2.ranks(points, violations(population))
    lonely = nsga2.crowding(points, rank)
    taken = set(known)
    children = []
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
    excess = [cost.violations(c, budgets) for c in cost.estimate_many(drawn, target)]
    order = sorted(range(len(drawn)), key=lambda i: excess[i])  # stable: fitting ones stay random
    return [drawn[i] for i in order[:count]]


# -- the one-call form --------------------------------------------------------------------------


@dataclass(frozen=True)
class NASResult:
    """What nas() found. Architectures carry fitness_accuracy, fitness_luts and fitness_energy_nj.

    pareto_front: feasible, mutually non-dominated, accuracy descending, no duplicates.
    all_evaluated: every architecture looked at, in order. evaluations: the same with all metrics.
    """

    pareto_front: list[Architecture]
    all_evaluated: list[Architecture]
    generations: int
    total_evaluations: int
    evaluations: list[Evaluation] = field(repr=False)

    def best_accuracy(self) -> Architecture:
        """The most accurate member of the front."""
        return self.pareto_front[0]

    def best_efficiency(self) -> Architecture:
        """The member of the front that needs least energy per inference."""
        return min(self.pareto_front, key=lambda a: a.fitness_energy_nj)

    def summary(self) -> str:
        """A few lines for people: counts, and the front as a table."""
        lines = [
            f"{self.generations} generations, {self.total_evaluations} evaluations, "
            f"{len(self.pareto_front)} on the front",
            f"{'accuracy':>9} {'luts':>8} {'energy nJ':>10}  architecture",
        ]
        lines += [
            f"{a.fitness_accuracy:9.2%} {a.fitness_luts:8,} {a.fitness_energy_nj:10.1f}  {describe(a)}"
            for a in self.pareto_front
        ]
        return "\n".join(lines)


def describe(a: Architecture) -> str:
    """An architecture in a few words, e.g. `64-32-10 lif L16,8 T8`."""
    neurons = [n for i, n in enumerate(a.neuron_types) if a.fires(i)]

    def brief(values: Sequence, plain: object = None) -> str:
        same = len(set(values)) == 1
        if same and values[0] == plain:
            return ""
        return str(values[0]) if same else ",".join(map(str, values))

    parts = ["-".join(map(str, (a.n_inputs, *a.layer_widths)))]
    if neurons:
        parts.append(brief(neurons))
    parts.append(f"L{brief(a.bitstream_lengths)}")
    for label, values, plain in (
        ("D", a.delay_ranges, 0), ("density ", [f"{d:g}" for d in a.densities], "1"),
        ("", a.generators, "sobol"),
    ):  # fmt: skip
        if text := brief(values, plain):
            parts.append(label + text)
    if "folded" in a.mappings:
        mapped = [
            f"x{lanes}{f'u{units}' if units > 1 else ''}" if mapping == "folded" else "par"
            for mapping, lanes, units in zip(a.mappings, a.lanes, a.units, strict=True)
        ]
        parts.append("folded " + brief(mapped))
    return " ".join([*parts, f"T{a.timesteps}", f"W{a.word}"])


def capacity(target: Target, **limits: float | None) -> dict[str, float | None]:
    """Budgets of a search: what the chip has, less where a limit says so."""
    full = {**target.capacity, "latency_us": None}
    return full | {name: limit for name, limit in limits.items() if limit is not None}


def nothing_fits(evaluations: Sequence[Evaluation], budgets: Mapping[str, float | None]) -> NothingFitsError:
    """The error that says which budget is out of reach, and how near the nearest came."""
    failed = [e for e in evaluations if e.failed]
    if failed and len(failed) == len(evaluations):
        return NothingFitsError(
            f"all {len(failed)} candidates failed to train; the first: {failed[0].failed}"
        )
    nearest = min(evaluations, key=lambda e: e.violation)
    over = [
        f"{name} must be at most {limit:g} and is {nearest.metrics[name]:g} at the least violation"
        for name, limit in budgets.items()
        if limit is not None and nearest.metrics[name] > limit
    ]
    return NothingFitsError(
        f"no feasible architecture among {len(evaluations)} evaluated: {'; '.join(over) or 'all failed'}"
    )


def nas(
    space: SearchSpace,
    target: str = "ice40",
    population_size: int = 50,
    generations: int = 20,
    max_luts: int | None = None,
    accuracy_fn: Callable[[Architecture], float] | None = None,
    seed: int = 42,
    *,
    task: Task | None = None,
    budget: Budget | None = None,
    objectives: Sequence[str] = ("error", "luts", "energy_nj"),
    max_ffs: int | None = None,
    max_brams: int | None = None,
    max_latency_us: float | None = None,
    workers: int = 1,
    device: str = "auto",
    on_generation: Callable[[Generation], None] | None = None,
) -> NASResult:
    """Search `space` for networks that are accurate and cheap on `target`, with NSGA-II.

    Candidates are trained on `task` (default: the embedded digits) with `budget`, or scored by
    accuracy_fn(architecture) -> accuracy in 0..1. generations counts the random first one.
    max_*: budgets; the default is the capacity of the target. workers: processes that train.
    Raises ValueError for a bad argument and NothingFitsError, a ValueError, when no architecture
    that was evaluated keeps the budgets.
    """
    chip = targets.target(target)
    whole("population_size", population_size, 2, 65536)
    whole("generations", generations, 1, 1_000_000)
    for name, limit in (("max_luts", max_luts), ("max_ffs", max_ffs), ("max_brams", max_brams)):
        if limit is not None:
            whole(name, limit, int(name != "max_brams"), 2**31)
    if max_latency_us is not None:
        real = isinstance(max_latency_us, int | float | np.number) and not isinstance(max_latency_us, bool)
        if not real or not 0 < max_latency_us < np.inf:
            raise ValueError(f"max_latency_us must be a number above 0, got {max_latency_us!r}")
    objectives = tuple(one_of("objectives", name, OBJECTIVES) for name in objectives)
    if not objectives or len(set(objectives)) < len(objectives):
        raise ValueError(f"objectives must be one or more different ones, got {objectives}")
    budgets = capacity(chip, luts=max_luts, ffs=max_ffs, brams=max_brams, latency_us=max_latency_us)
    if accuracy_fn is not None:
        return _search(
            space, Evaluator(chip, budgets, accuracy_fn=accuracy_fn),
            Reference(objectives, max(2, space.n_outputs), chip), population_size, generations, seed,
            on_generation,
        )  # fmt: skip
    task = tasks.digits.digits() if task is None else task
    budget = Budget() if budget is None else budget
    if (space.n_inputs, space.n_outputs) != (task.n_inputs, task.n_classes):
        raise ValueError(
            f"the space must have the {task.n_inputs} inputs and {task.n_classes} outputs of task "
            f"{task.name}, got {space.n_inputs} and {space.n_outputs}"
        )
    with executor.Local(task, workers, device) as local:
        trainer = executor.Trainer(task, local)
        evaluator = Evaluator(chip, budgets, train=lambda batch: trainer.train(batch, budget, [seed])[0])
        return _search(
            space, evaluator, Reference(objectives, task.n_classes, chip), population_size, generations, seed,
            on_generation,
        )  # fmt: skip


def _search(
    space: SearchSpace,
    evaluator: Evaluator,
    reference: Reference,
    size: int,
    generations: int,
    seed: int,
    on_generation: Callable[[Generation], None] | None,
) -> NASResult:
    first = likely_to_fit(space, size, evaluator.target, evaluator.budgets, seed)
    latest = None
    for latest in evolve(space, evaluator, reference, size, seed, first):
        if on_generation is not None:
            on_generation(latest)
        if latest.number + 1 >= generations:
            break
    if latest is None or not latest.front:
        raise nothing_fits(latest.archive if latest else [], evaluator.budgets)
    return NASResult(
        pareto_front=[e.architecture for e in latest.front],
        all_evaluated=[e.architecture for e in latest.archive],
        generations=latest.number + 1,
        total_evaluations=len(latest.archive),
        evaluations=latest.archive,
    )

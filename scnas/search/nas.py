"""nas(): a whole search in one call."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from scnas import metrics, tasks
from scnas.contract import Interval, Refused, one_of, whole
from scnas.evaluation import Evaluation, Generation
from scnas.hardware import targets
from scnas.search.evaluation import Evaluator, Reference, capacity, nothing_fits
from scnas.search.evolve import evolve, likely_to_fit
from scnas.snn.budget import Budget
from scnas.space import Architecture, SearchSpace, describe
from scnas.tasks import Task
from scnas.trials import executor
from scnas.trials.trainer import Trainer


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
        return min(self.pareto_front, key=lambda a: a.fitness_energy_nj or 0.0)

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
    workers: int = 1,
    device: str = "auto",
    on_generation: Callable[[Generation], None] | None = None,
    **max_others: float | None,
) -> NASResult:
    """Search `space` for networks that are accurate and cheap on `target`, with NSGA-II.

    Candidates are trained on `task` (default: the embedded digits) with `budget`, or scored by
    accuracy_fn(architecture) -> accuracy in 0..1. generations counts the random first one.
    max_luts, max_ffs, max_brams, max_latency_us and so on: budgets, see metrics.limits(); the default is
    the capacity of the target. workers: processes that train.
    Raises ValueError for a bad argument and NothingFitsError, a ValueError, when no architecture
    that was evaluated keeps the budgets.
    """
    chip = targets.target(target)
    whole("population_size", population_size, 2, 65536)
    whole("generations", generations, 1, 1_000_000)
    limits = _limits(max_luts=max_luts, **max_others)
    objectives = tuple(one_of("objectives", name, metrics.objectives()) for name in objectives)
    if not objectives or len(set(objectives)) < len(objectives):
        raise Refused(f"objectives must be one or more different ones, got {objectives}")
    budgets = capacity(chip, **limits)
    if accuracy_fn is not None:
        return _search(
            space, Evaluator(chip, budgets, accuracy_fn=accuracy_fn),
            Reference(objectives, max(2, space.n_outputs), chip), population_size, generations, seed,
            on_generation,
        )  # fmt: skip
    task = tasks.digits.digits() if task is None else task
    budget = Budget() if budget is None else budget
    if (space.n_inputs, space.n_outputs) != (task.n_inputs, task.n_classes):
        raise Refused(
            f"the space must have the {task.n_inputs} inputs and {task.n_classes} outputs of task "
            f"{task.name}, got {space.n_inputs} and {space.n_outputs}"
        )
    with executor.Local(task, workers, device) as local:
        trainer = Trainer(task, local)
        evaluator = Evaluator(chip, budgets, train=lambda batch: trainer.train(batch, budget, [seed])[0])
        return _search(
            space, evaluator, Reference(objectives, task.n_classes, chip), population_size, generations, seed,
            on_generation,
        )  # fmt: skip


def _limits(**given: float | None) -> dict[str, float]:
    """Budgets by name from arguments called max_ and the name."""
    allowed = {f"max_{name}": limit for name, limit in metrics.limits().items()}
    found = {}
    for name, value in given.items():
        if name not in allowed:
            raise TypeError(f"nas() has no argument {name}; budgets are {', '.join(allowed)}")
        limit = allowed[name]
        if isinstance(limit, Interval):
            limit = replace(limit, high=math.inf)  # what nobody reaches may be asked for
        if value is not None:
            found[name.removeprefix("max_")] = limit.check(name, value)
    return found


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

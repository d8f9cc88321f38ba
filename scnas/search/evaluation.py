"""Architectures become evaluations: a real accuracy, and the cost of the network behind it.

Letters: N evaluations, M objectives, all minimised.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from scnas import metrics
from scnas.contract import Refused
from scnas.evaluation import Evaluation
from scnas.hardware.cost import price
from scnas.hardware.cost.price import Cost
from scnas.hardware.targets import Target
from scnas.metrics import METRICS
from scnas.search import nsga2
from scnas.snn.training import Trained
from scnas.space import Architecture
from scnas.trials import executor

FAILED = 1e9  # violation of a candidate that could not be trained: behind everything that was
HOPELESS = 0.25  # an estimate this far above its budgets is not worth a training


class NothingFitsError(Refused):
    """No architecture that was looked at keeps the budgets."""


@dataclass(frozen=True)
class Reference:
    """Maps objectives to 0..1, the same for every run on a task and a target, 1 being the worst.

    The scales are those of scnas.metrics.METRICS. The hypervolume is that of the box up to (1, ..., 1); the
    reference point lies at 1 in every objective.
    """

    objectives: tuple[str, ...]
    n_classes: int
    target: Target

    def normalise(self, scores: np.ndarray) -> np.ndarray:
        """[N, M] scores -> [N, M], 0 best and 1 worst; beyond 1 where worse than the reference."""
        columns = []
        for name, column in zip(self.objectives, scores.T, strict=True):
            scale = METRICS[name].scale
            assert scale is not None  # objectives were checked where they came in
            columns.append(scale.share(column, self.n_classes, self.target))
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


class Evaluator:
    """Architectures -> evaluations: a real accuracy, and the cost of the network behind it.

    train: (architectures) -> one Trained each, or None for `accuracy_fn`: architecture -> accuracy
    in 0..1. budgets: limits by name, see metrics.budgets(). What differs in mapping only is trained once.
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
        estimates = dict(zip(architectures, price.estimate_many(architectures, self.target), strict=True))
        excess = {a: price.violations(c, self.budgets) for a, c in estimates.items()}
        if self.accuracy_fn is not None:
            return [self._scored(a, self.accuracy_fn(a), estimates[a], excess[a]) for a in architectures]
        wanted = [a for a in architectures if excess[a] <= HOPELESS]
        new = list(dict.fromkeys(a.training_key for a in wanted if a.training_key not in self._trained))
        assert self.train is not None  # where there is no accuracy_fn
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
            estimate = price.estimate(a, self.target)
            return Evaluation(a, {"error": 1.0, **_figures(estimate)}, FAILED, False, trained.failed)
        assert trained.network is not None  # of a training that did not fail
        cost = price.measure(trained.network, self.target, trained.activity)
        figures = {
            "error": 1.0 - trained.validation_accuracy,
            "accuracy": trained.validation_accuracy,
            "validation_loss": trained.validation_loss,
            "train_accuracy": trained.train_accuracy,
            "synapses": trained.network.n_synapses,
            **_figures(cost),
        }
        return Evaluation(
            _measured(a, cost, trained.validation_accuracy),
            figures,
            price.violations(cost, self.budgets),
            True,
            network=trained.network,
        )

    def _scored(self, a: Architecture, accuracy: Any, cost: Cost, excess: float) -> Evaluation:
        try:
            accuracy = float(accuracy)
        except (TypeError, ValueError):
            raise Refused(f"accuracy_fn must return a number from 0 to 1, got {accuracy!r}") from None
        if not 0 <= accuracy <= 1:
            raise Refused(f"accuracy_fn must return a number from 0 to 1, got {accuracy}")
        figures = {"error": 1.0 - accuracy, "accuracy": accuracy, **_figures(cost)}
        return Evaluation(_measured(a, cost, accuracy), figures, excess, True)


def _figures(cost: Cost) -> dict[str, float]:
    return {name: value for name, value in cost._asdict().items() if not isinstance(value, str)}


def _measured(a: Architecture, cost: Cost, accuracy: float) -> Architecture:
    return replace(a, fitness_accuracy=accuracy, fitness_luts=cost.luts, fitness_energy_nj=cost.energy_nj)


def _untrained(a: Architecture, cost: Cost, excess: float) -> Evaluation:
    """Far above its budgets by the estimate: ranked by how far, and never trained."""
    priced = replace(a, fitness_luts=cost.luts, fitness_energy_nj=cost.energy_nj)
    return Evaluation(priced, {"error": 1.0, **_figures(cost)}, excess, False)


def capacity(target: Target, **limits: float | None) -> dict[str, float | None]:
    """Budgets of a search: what the chip has, less where a limit says so."""
    full: dict[str, float | None] = {name: target.capacity.get(name) for name in metrics.budgets()}
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

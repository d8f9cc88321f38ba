"""The figures of an evaluation: one row each, read by whatever minimises, limits, prints or draws them.

    search     objectives, the budgets that make a candidate feasible, the reference of the hypervolume
    settings   search.objectives, search.budgets.*, search.winner.smallest; nas(max_*)
    record     tables, CSV, TensorBoard, the page of the winner, in the order of this table

A new objective with a budget is a row here, and what computes it: a field of scnas.hardware.cost.price.Cost.
A figure without a row is kept and follows the others by name in CSV and JSON.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Annotated, Any, Protocol, TypeVar

import numpy as np

from scnas.contract import Interval, Range
from scnas.hardware.targets import Target

T = TypeVar("T", bound=type)


def percent(value: float) -> str:
    return f"{100 * value:.2f}%"


def count(value: float) -> str:
    return f"{value:,.0f}"


def four_digits(value: float) -> str:
    return f"{value:,.4g}" if value < 1e4 else f"{value:,.0f}"


def number(value: float) -> str:
    """Whole numbers whole, others with four digits."""
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.4g}"


class Scale(Protocol):
    """Maps an objective to 0..1, 1 being the worst that counts, alike for all runs on a task and a target."""

    def share(self, values: np.ndarray, n_classes: int, chip: Target) -> np.ndarray:
        """[N] values -> [N], 0 best and 1 worst; beyond 1 where worse than the reference."""


@dataclass(frozen=True)
class Linear:
    """From 0 to a top that follows from the number of classes and the chip."""

    top: Callable[[int, Target], float]

    def share(self, values: np.ndarray, n_classes: int, chip: Target) -> np.ndarray:
        return values / self.top(n_classes, chip)


@dataclass(frozen=True)
class Logarithmic:
    """The logarithm, from low to high; what is below low counts as low."""

    low: float
    high: float

    def share(self, values: np.ndarray, n_classes: int, chip: Target) -> np.ndarray:
        first, last = math.log10(self.low), math.log10(self.high)
        return (np.log10(np.maximum(values, self.low)) - first) / (last - first)


@dataclass(frozen=True)
class Budget:
    """An upper limit of feasible candidates: the capacity of the chip, where it has one, or less.

    limit: what a user may ask for; None where the capacity alone counts. least: an excess is relative to the
    limit, or to this where the limit is smaller.
    """

    limit: Range | Interval | None
    least: float = 1


@dataclass(frozen=True)
class Metric:
    """One row.

    name: its key in Evaluation.metrics. meaning: what it is, unit: of its values, both for people.
    heading: of its column in tables of fronts, and of what TensorBoard keeps of the winner; "" for neither.
    source: where it comes from, on the page of the winner; "" leaves it out there. form: how a value is
    written. meaning and source may name {unit} of the target and the other words of record.page.
    scale: of the hypervolume; a metric with a scale may be an objective, which is minimised.
    budget: a metric with one may be limited. It has to be known before training: a field of Cost.
    """

    name: str
    meaning: str
    unit: str = ""
    heading: str = ""
    source: str = ""
    form: Callable[[float], str] = number
    scale: Scale | None = None
    budget: Budget | None = None

    @property
    def title(self) -> str:
        """The heading with the unit."""
        return _with_unit(self.heading, self.unit)

    @property
    def line(self) -> str:
        """The meaning with the unit."""
        return _with_unit(self.meaning, self.unit)


def _with_unit(text: str, unit: str) -> str:
    return f"{text}, {unit}" if unit else text


_MOST = 2**31
_ENERGY, _TOGGLES = "energy of one inference", "from counted toggles, {label}"
_ROWS = (
    Metric(
        "accuracy", "validation accuracy", heading="accuracy", form=percent,
        source="measured with the exact integer network",
    ),
    Metric(
        "error", "1 - validation accuracy, 1 where it is not trained",
        scale=Linear(lambda n_classes, chip: 1 - 1 / n_classes),  # that of chance
    ),
    Metric("validation_loss", "loss on the validation data"),
    Metric(
        "test_accuracy", "test accuracy", heading="test", form=percent,
        source="measured once, after every choice was made",
    ),
    Metric(
        "luts", "{unit}s", heading="LUTs", form=count, source="modelled{refitted}",
        scale=Linear(lambda n_classes, chip: chip.luts), budget=Budget(Range(1, _MOST)),
    ),
    Metric("published_luts", "{unit}s", source="modelled before that"),
    Metric("routed_luts", "{unit}s", source="{did}"),
    Metric(
        "ffs", "flip-flops", heading="FFs", form=count, source="modelled",
        scale=Linear(lambda n_classes, chip: chip.ffs), budget=Budget(Range(1, _MOST)),
    ),
    Metric("routed_ffs", "flip-flops", source="{did}"),
    Metric(
        "brams", "block RAMs", heading="BRAMs", form=count, source="modelled",
        scale=Linear(lambda n_classes, chip: chip.brams), budget=Budget(Range(0, _MOST)),
    ),
    Metric("routed_brams", "block RAMs", source="{did}"),
    Metric("dsps", "multiplier blocks", source="modelled", budget=Budget(None)),
    Metric("modelled_fmax_mhz", "highest clock", "MHz", source="modelled, {fmax_label}"),
    Metric("fmax_mhz", "highest clock", "MHz", source="placed and routed, worst case of the tool"),
    Metric(
        "latency_us", "latency at {clock:.4g} MHz", "us", heading="latency", form=four_digits,
        source="exact clocks, {clock_from}",
        scale=Logarithmic(0.1, 1e5), budget=Budget(Interval(0, 1e9, above=True), least=1e-9),
    ),
    Metric(
        "routed_latency_us", "latency", "us",
        source="exact clocks, at the routed highest clock where that is below the target's "
        "{target_clock:g} MHz",
    ),
    Metric("latency_clocks", "clocks from the first input step to the class", source="exact"),
    Metric(
        "energy_nj", _ENERGY, "nJ", heading="energy", form=four_digits, source="modelled, {label}",
        scale=Logarithmic(1, 1e6),
    ),
    Metric("energy_low_nj", "lower end of that energy", "nJ", source="modelled, {label}"),
    Metric("energy_high_nj", "upper end of that energy", "nJ", source="modelled, {label}"),
    Metric("simulated_energy_nj", _ENERGY, "nJ", source=_TOGGLES),
    Metric("simulated_energy_low_nj", "lower end of that energy", "nJ", source=_TOGGLES),
    Metric("simulated_energy_high_nj", "upper end of that energy", "nJ", source=_TOGGLES),
    Metric(
        "toggles", "toggles of routed nets in one inference", source="counted on the simulated netlist"
    ),
    Metric("synapses", "synapses with a weight other than 0"),
    Metric("accuracy_mean", "mean validation accuracy over the seeds", form=percent),
    Metric("accuracy_sd", "standard deviation of the validation accuracy over the seeds", form=percent),
    Metric("clock_mhz", "clock that latency and energy are quoted at", "MHz"),
    Metric("seeds", "trainings with the full budget that succeeded"),
    Metric("train_accuracy", "accuracy on the training data", form=percent),
)  # fmt: skip
METRICS: dict[str, Metric] = {row.name: row for row in _ROWS}


def objectives() -> tuple[str, ...]:
    """What a search may minimise."""
    return tuple(name for name, row in METRICS.items() if row.scale is not None)


def budgets() -> dict[str, Budget]:
    """What has an upper limit in a feasible candidate."""
    return {name: row.budget for name, row in METRICS.items() if row.budget is not None}


def limits() -> dict[str, Range | Interval]:
    """What a user may limit, and to what."""
    return {name: budget.limit for name, budget in budgets().items() if budget.limit is not None}


def shown() -> tuple[Metric, ...]:
    """The columns of tables of fronts."""
    return tuple(row for row in METRICS.values() if row.heading)


def in_order(names: Iterable[str]) -> list[str]:
    """`names` once each: those of the table in its order, then the others by name."""
    known = set(names)
    return [*(name for name in METRICS if name in known), *sorted(known - set(METRICS))]


def budget_fields(cls: T) -> T:
    """Class decorator of the settings: a field for everything that a user may limit, None unless set."""
    for name, limit in limits().items():
        kind: Any = int if isinstance(limit, Range) else float
        cls.__annotations__[name] = Annotated[kind | None, limit]
        setattr(cls, name, None)
    return cls

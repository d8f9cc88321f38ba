"""What is known of an architecture, and of a generation of them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from scnas.snn.network import Network
from scnas.space import Architecture


@dataclass(frozen=True)
class Evaluation:
    """What is known of one architecture.

    metrics: those of scnas.metrics.METRICS that are known. violation: 0 where every budget is kept, else
    how far off. trained: whether there is a real accuracy. failed: why there is none, or None.
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

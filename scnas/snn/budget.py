"""What a training may spend."""

from dataclasses import dataclass

from scnas.contract import PRUNE_BY, PRUNE_PER, Refused, one_of, whole

GIB = 2**30


@dataclass(frozen=True)
class Budget:
    """What a candidate may spend, the same for all.

    epochs: passes over the training data. samples: training samples of an epoch, drawn anew for each;
    None for all. batch_size: samples a step. learning_rate: peak of a cosine schedule for weights;
    thresholds, gains, leaks and delays have their own share of it.
    prune_from, prune_to: share of the training between which the density falls to its target.
    prune_by: what is kept, the largest `magnitude` or `sensitivity` (see sparsity.saliencies). prune_per:
    what a density is of, `layer` or `neuron`. regrow: share of the kept synapses of a sparse layer that moves
    to where the gradient is largest (see sparsity.rewire), 0 for none. powers_of_two: gain and leak as
    shifts.
    clip: largest gradient norm of a candidate. memory_gib: what one group may take; larger groups are split.
    """

    epochs: int = 10
    samples: int | None = None
    batch_size: int = 32
    learning_rate: float = 0.03
    prune_from: float = 0.0
    prune_to: float = 0.4
    prune_by: str = "sensitivity"
    prune_per: str = "layer"
    regrow: float = 0.3
    powers_of_two: bool = True
    clip: float = 1.0
    memory_gib: float = 2.0

    def __post_init__(self) -> None:
        whole("epochs", self.epochs, 0, 100_000)
        if self.samples is not None:
            whole("samples", self.samples, 1, 2**31)
        whole("batch_size", self.batch_size, 1, 2**20)
        one_of("prune_by", self.prune_by, PRUNE_BY)
        one_of("prune_per", self.prune_per, PRUNE_PER)
        for name, high in (
            ("learning_rate", 10),
            ("clip", 1e9),
            ("memory_gib", 1e6),
            ("prune_from", 1),
            ("prune_to", 1),
            ("regrow", 1),
        ):
            value, share = getattr(self, name), name not in ("learning_rate", "clip", "memory_gib")
            good = isinstance(value, int | float) and not isinstance(value, bool)
            if not good or not 0 <= value <= high or (value == 0 and not share):
                least = "from 0 to" if share else "above 0 and at most"
                raise Refused(f"{name} must be a number {least} {high:g}, got {value!r}")

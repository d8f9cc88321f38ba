"""Gradual pruning with regrowth.

Liu et al. 2021, "Sparse training via boosting pruning plasticity with neuroregeneration". With prune_to = 0 a
layer is sparse from the start: Evci et al. 2020, "Rigging the lottery".

Letters: P candidates, n_in and n_out of a layer.
"""

import math

import torch
from torch import Tensor

from scnas.snn.budget import Budget
from scnas.snn.cpu.adam import CpuAdam
from scnas.snn.population import PopulationStack
from scnas.snn.reference.adam import TorchAdam

MASK_UPDATES = 64  # how often at most, in a training, the density falls
REGROW_EVERY = 150  # steps at least between two regrowths: a synapse that starts at 0 needs time to grow
REGROW_TO = 0.75  # share of the training after which no synapse moves any more


def _prune(stack: PopulationStack, adam: CpuAdam | TorchAdam, progress: float, budget: Budget) -> None:
    """Bring the density to where it should be at `progress` of the training.

    Cubic schedule of Zhu and Gupta 2017, "To prune, or not to prune".
    """
    span = budget.prune_to - budget.prune_from
    done = progress - budget.prune_from
    share = min(1.0, max(0.0, done / span)) if span > 0 else float(done >= 0)
    stack.prune(1 - (1 - share) ** 3, budget.prune_per, _saliencies(stack, adam, budget))


@torch.no_grad()
def _regrow(stack: PopulationStack, adam: CpuAdam | TorchAdam, progress: float, budget: Budget) -> None:
    """Move synapses along the gradients that lie in the tensors; what moved starts with empty moments.

    The share that moves falls as half a cosine from budget.regrow to 0 at REGROW_TO.
    """
    share = budget.regrow * 0.5 * (1 + math.cos(math.pi * progress / REGROW_TO))
    for layer in stack.layers:
        moved = layer.regrow(share, budget.prune_per, layer.tensors["weight"].grad)
        for p in adam.parameters:
            if p.mask is layer.buffers["keep"]:
                p.first.masked_fill_(moved, 0.0)
                p.second.masked_fill_(moved, 0.0)


@torch.no_grad()
def _saliencies(stack: PopulationStack, adam: CpuAdam | TorchAdam, budget: Budget) -> list[Tensor | None]:
    """What the synapses of every layer are worth, [P, n_in, n_out]; None: the magnitudes of their weights.

    sensitivity: about the square root of what the loss would gain without the synapse, w^2 times its Fisher
    information, for which the mean squared gradient of Adam stands (LeCun et al. 1990, "Optimal brain
    damage"; Theis et al. 2018, "Faster gaze prediction with dense networks and Fisher pruning"). Synapses
    from an input that never spikes are worth nothing. Before the first step nothing is known of gradients.
    """
    if budget.prune_by == "magnitude" or not adam.taken:
        return [None] * len(stack.layers)
    squares = {id(p.tensor): p.second for p in adam.parameters}
    weights = [layer.tensors["weight"] for layer in stack.layers]
    return [weight.abs() * squares[id(weight)].sqrt() for weight in weights]

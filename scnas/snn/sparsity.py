"""Gradual pruning with regrowth: which synapses a layer keeps, and when that changes in a training.

Liu et al. 2021, "Sparse training via boosting pruning plasticity with neuroregeneration". With prune_to = 0 a
layer is sparse from the start: Evci et al. 2020, "Rigging the lottery".

Letters: P candidates, n_in and n_out of a layer.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from scnas.snn.backends import Adam
from scnas.snn.budget import Budget
from scnas.snn.population import LayerStack, PopulationStack

MASK_UPDATES = 64  # how often at most, in a training, the density falls
REGROW_EVERY = 150  # steps at least between two regrowths: a synapse that starts at 0 needs time to grow
REGROW_TO = 0.75  # share of the training after which no synapse moves any more
SORTED = 2**25  # numbers that are put in order at once, which takes some thirty bytes for each


# -- a layer --------------------------------------------------------------------------------------


def allowed(layer: LayerStack, share: float, per: str) -> Tensor:
    """Synapses that every candidate may keep at a `share` of its density: of the layer, [P, 1], or of every
    neuron, [P, n_out], where the first ones get what is left over."""
    (n_in, n_out), kept = np.array(layer.sizes).T, np.array(layer.kept)
    density = 1 - (1 - kept / (n_in * n_out)) * share
    count = np.maximum(1, np.rint(density * n_in * n_out)).astype(np.int64)[:, None]
    if per == "neuron":
        n_out, number = n_out[:, None], np.arange(layer.tensors["weight"].shape[2])
        count = np.where(number < n_out, count // n_out + (number < count % n_out), 0)
    return torch.tensor(count, device=layer.buffers["keep"].device)


def _in_groups(values: Tensor, per: str) -> Tensor:
    """values [P, n_in, n_out] as [P, members, groups]."""
    return values.reshape(len(values), -1, 1) if per == "layer" else values


@torch.no_grad()
def prune(layer: LayerStack, progress: float, per: str, saliency: Tensor | None = None) -> None:
    """Keep the most salient of the synapses that are left.

    Letting pruned weights learn on and return was tried: behind the rounding they drift without any effect on
    the loss, and digits at 10% of the synapses fell from 90% to 42%.
    progress: 0 (all kept) to 1 (the density of the architecture). per: `layer` or `neuron`. saliency:
    [P, n_in, n_out], not negative; None for the magnitudes of the weights.
    """
    if not layer.sparse:
        return
    keep = layer.buffers["keep"]
    salient = layer.tensors["weight"].abs() if saliency is None else saliency
    left = _in_groups(torch.where(keep, salient, -math.inf), per)
    keep.copy_(largest(left, allowed(layer, progress, per)).view_as(keep) & keep)


@torch.no_grad()
def regrow(layer: LayerStack, share: float, per: str, gradient: Tensor) -> Tensor:
    """What was pruned or came back, [P, n_in, n_out]: a `share` of the kept synapses, those with the smallest
    weights, gives way to as many pruned ones, those with the largest gradients; either have weight 0.

    per: see prune. gradient: [P, n_in, n_out], of the loss to all weights, pruned ones too, each at the delay
    that it has: with that delay a synapse comes back.
    """
    weight, keep = layer.tensors["weight"], layer.buffers["keep"]
    if not layer.sparse:
        return torch.zeros_like(keep)
    pruned = layer.buffers["real"] & ~keep
    count = torch.minimum((share * _in_groups(keep, per).sum(1)).long(), _in_groups(pruned, per).sum(1))
    small = _in_groups(torch.where(keep, -weight.abs(), -math.inf), per)
    pull = _in_groups(torch.where(pruned, gradient.abs(), -math.inf), per)
    goes, comes = (largest(values, count).view_as(keep) for values in (small, pull))
    keep.copy_(keep & ~goes | comes)
    moved = goes | comes
    weight.masked_fill_(moved, 0.0)
    return moved


def largest(values: Tensor, counts: Tensor) -> Tensor:
    """Where the `counts` [P, m] largest of every column of `values` [P, n, m] are; of equals the first. NaN
    counts as the largest."""
    several = max(1, SORTED // values[0].numel())
    parts = zip(values.split(several), counts.split(several), strict=True)
    return torch.cat([_largest_of_few(few, own) for few, own in parts])


def _largest_of_few(values: Tensor, counts: Tensor) -> Tensor:
    """What `largest` returns, in memory for all at once."""
    values = values.nan_to_num(nan=math.inf, posinf=math.inf, neginf=-math.inf)
    ordered, counts = values.sort(dim=1, descending=True).values, counts[:, None]
    last = ordered.gather(1, (counts - 1).clamp(min=0))
    above, tied = values > last, values == last
    first = tied.cumsum(1) <= counts - above.sum(1, keepdim=True)
    return above | tied & first


# -- a training -----------------------------------------------------------------------------------


def prune_all(
    stack: PopulationStack, progress: float, per: str, worth: Sequence[Tensor | None] | None = None
) -> None:
    """Prune all layers; see prune. worth: saliencies of each layer; None for the magnitudes of the
    weights."""
    for layer, saliency in zip(stack.layers, worth or [None] * len(stack.layers), strict=True):
        prune(layer, progress, per, saliency)


def thin(stack: PopulationStack, adam: Adam, progress: float, budget: Budget) -> None:
    """Bring the density to where it should be at `progress` of the training.

    Cubic schedule of Zhu and Gupta 2017, "To prune, or not to prune".
    """
    span = budget.prune_to - budget.prune_from
    done = progress - budget.prune_from
    share = min(1.0, max(0.0, done / span)) if span > 0 else float(done >= 0)
    prune_all(stack, 1 - (1 - share) ** 3, budget.prune_per, saliencies(stack, adam, budget))


@torch.no_grad()
def rewire(stack: PopulationStack, adam: Adam, progress: float, budget: Budget) -> None:
    """Move synapses along the gradients that lie in the tensors; what moved starts with empty moments.

    The share that moves falls as half a cosine from budget.regrow to 0 at REGROW_TO.
    """
    share = budget.regrow * 0.5 * (1 + math.cos(math.pi * progress / REGROW_TO))
    for layer in stack.layers:
        gradient = layer.tensors["weight"].grad
        assert gradient is not None  # those of a minibatch were taken before
        moved = regrow(layer, share, budget.prune_per, gradient)
        for p in adam.parameters:
            if p.mask is layer.buffers["keep"]:
                p.first.masked_fill_(moved, 0.0)
                p.second.masked_fill_(moved, 0.0)


@torch.no_grad()
def saliencies(stack: PopulationStack, adam: Adam, budget: Budget) -> list[Tensor | None]:
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

"""A step of Adam for every candidate of a population, each with its own gradient clipping.

Kingma and Ba 2014, "Adam", without weight decay; betas 0.9 and 0.99. The gradient of a candidate is scaled
to a norm of at most `clip`. Padding and pruned synapses get no gradient. A gradient that is not finite is
dropped whole, so that it stays with its candidate. Both classes do the same; a CPU has compiled loops, one
pass over each tensor, because the many small operations of torch cost more than the mathematics.
"""

import math
from collections.abc import Callable
from functools import reduce

import torch

from scnas.snn.population import PopulationStack

BETAS, EPSILON = (0.9, 0.99), 1e-8


class Parameter:
    """One trained tensor, what masks it (None: nothing), its peak rate and its moments."""

    def __init__(self, kind: str, tensor: torch.Tensor, mask: torch.Tensor | None, rate: float):
        self.kind, self.tensor, self.mask, self.rate = kind, tensor, mask, rate
        self.first, self.second = (torch.zeros_like(tensor, requires_grad=False) for _ in range(2))


def _parameters(stack: PopulationStack, rates: dict[str, float]) -> list[Parameter]:
    masks = {
        id(layer.tensors[name]): layer.buffers["keep"]
        for layer in stack.layers
        for name in ("weight", "position")
        if name in layer.tensors
    }
    return [
        Parameter(kind, tensor, masks.get(id(tensor)), rates[kind])
        for kind, tensors in stack.parameters.items()
        for tensor in tensors
    ]


class TorchAdam:
    """On any device, without waiting for it. rates: peak learning rate of every kind of parameter.

    What changes from step to step lies on the device, so that a move can be recorded once and repeated. Where
    there are kernels, they move all parameters at once: see Operations.adam.
    """

    def __init__(
        self, stack: PopulationStack, rates: dict[str, float], clip: float, flat: Callable | None = None
    ):
        self.stack, self.clip, self.taken = stack, clip, 0
        self.parameters = _parameters(stack, rates)
        device = self.parameters[0].tensor.device
        self._pace, self._root = torch.ones((), device=device), torch.ones((), device=device)
        self._flat = flat and flat(self.parameters, lambda p: stack.bounds(p.kind, p.tensor))

    def step(self, factor: float) -> torch.Tensor:
        """Move all parameters by their gradients, at `factor` times their peak rates; returns the norms of
        the gradients before clipping, [P]."""
        self.pace(factor)
        return self.move()

    def pace(self, factor: float) -> None:
        """Make ready for the next move, at `factor` times the peak rates."""
        self.taken += 1
        near, far = (1 - beta**self.taken for beta in BETAS)
        self._pace.fill_(-factor / near)  # the number travels with the command: nothing is copied
        self._root.fill_(math.sqrt(far))

    @torch.no_grad()
    def move(self) -> torch.Tensor:
        """What step does, after pace."""
        if self._flat is not None:
            return self._flat.move(self._pace, self._root, self.clip, BETAS, EPSILON)
        used = [(p, p.tensor.grad) for p in self.parameters if p.tensor.grad is not None]
        for p, gradient in used:
            if p.mask is not None:
                gradient.masked_fill_(~p.mask, 0.0)
        squares = [gradient.reshape(len(gradient), -1).square().sum(1) for _, gradient in used]
        norms = torch.sqrt(reduce(torch.add, squares))
        finite = torch.isfinite(norms)
        scale = torch.where(finite, (self.clip / (norms + 1e-12)).clamp(max=1.0), 0.0)
        for p, gradient in used:
            shape = (-1, *[1] * (p.tensor.ndim - 1))
            gradient.copy_(torch.where(finite.view(shape), gradient * scale.view(shape), 0.0))
            p.first.lerp_(gradient, 1 - BETAS[0])
            p.second.mul_(BETAS[1]).addcmul_(gradient, gradient, value=1 - BETAS[1])
            spread = (p.second.sqrt() / self._root).add_(EPSILON)
            p.tensor.addcdiv_(p.first * (p.rate * self._pace), spread)
        self.stack.clamp()
        return norms

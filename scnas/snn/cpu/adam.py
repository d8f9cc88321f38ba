"""A step of Adam with compiled loops, one pass over each tensor; see scnas.snn.reference.adam.

The many small operations of torch cost more on a CPU than the mathematics.
"""

import math

import numpy as np
import torch

from scnas.snn.cpu.moments import Pace, move, squares
from scnas.snn.population import PopulationStack
from scnas.snn.reference.adam import BETAS, EPSILON, _parameters


class CpuAdam:
    """A step of Adam for all parameters of a stack on a CPU. rates: peak learning rate of every kind of
    parameter. clip: largest norm of the gradient of a candidate."""

    def __init__(self, stack: PopulationStack, rates: dict[str, float], clip: float):
        self.stack, self.clip, self.taken = stack, clip, 0
        self.parameters = _parameters(stack, rates)
        everything = np.ones((1, 1), bool)
        self._sizes = [stack.own_sizes(p.tensor) for p in self.parameters]
        self._masks = [everything if p.mask is None else _rows(p.mask) for p in self.parameters]
        self._views = [
            (
                _rows(p.tensor),
                _rows(p.first),
                _rows(p.second),
                *(_rows(bound) for bound in stack.bounds(p.kind, p.tensor)),
            )
            for p in self.parameters
        ]

    def step(self, factor: float) -> torch.Tensor:
        """Move all parameters by their gradients; see TorchAdam.step."""
        self.taken += 1
        norms = np.zeros(self.stack.count)
        gradients = [None if p.tensor.grad is None else _rows(p.tensor.grad) for p in self.parameters]
        for p, gradient, sizes, mask in zip(
            self.parameters, gradients, self._sizes, self._masks, strict=True
        ):
            if gradient is not None:
                columns = p.tensor.shape[-1] if p.tensor.ndim > 1 else 1
                squares(gradient, columns, sizes, mask, norms)
        norms = np.sqrt(norms)
        near, far = (1 - beta**self.taken for beta in BETAS)
        for p, gradient, sizes, views in zip(
            self.parameters, gradients, self._sizes, self._views, strict=True
        ):
            if gradient is not None:
                columns = p.tensor.shape[-1] if p.tensor.ndim > 1 else 1
                pace = Pace(-p.rate * factor / near, 1 / math.sqrt(far), *BETAS, EPSILON)
                move(gradient, columns, sizes, norms, self.clip, *views, pace)
        return torch.from_numpy(norms)


def _rows(tensor: torch.Tensor) -> np.ndarray:
    """The tensor as [candidates, everything else], sharing its memory."""
    return tensor.detach().view(len(tensor), -1).numpy()

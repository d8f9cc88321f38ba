"""A step of Adam with compiled loops, one pass over each tensor; see scnas.snn.reference.adam.

The many small operations of torch cost more on a CPU than the mathematics.
"""

import math

import numpy as np
import torch
from numba import njit

from scnas.snn.population import PopulationStack
from scnas.snn.reference.adam import BETAS, EPSILON, _parameters


class CpuAdam:
    """The same with compiled loops; see TorchAdam."""

    def __init__(self, stack: PopulationStack, rates: dict[str, float], clip: float):
        self.stack, self.clip, self.taken = stack, clip, 0
        self.parameters = _parameters(stack, rates)
        everything = np.ones((1, 1), bool)
        self._sizes = [stack.own_sizes(p.tensor) for p in self.parameters]
        self._masks = [everything if p.mask is None else _rows(p.mask) for p in self.parameters]
        self._views = [
            (
                _rows(p.tensor), _rows(p.first), _rows(p.second),
                *(_rows(bound) for bound in stack.bounds(p.kind, p.tensor)),
            )
            for p in self.parameters
        ]  # fmt: skip

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
                _squares(gradient, columns, sizes, mask, norms)
        norms = np.sqrt(norms)
        near, far = (1 - beta**self.taken for beta in BETAS)
        for p, gradient, sizes, views in zip(
            self.parameters, gradients, self._sizes, self._views, strict=True
        ):
            if gradient is not None:
                columns, pace = p.tensor.shape[-1] if p.tensor.ndim > 1 else 1, -p.rate * factor / near
                _adam(gradient, columns, sizes, norms, self.clip, *views, pace, 1 / math.sqrt(far))
        return torch.from_numpy(norms)


def _rows(tensor: torch.Tensor) -> np.ndarray:
    """The tensor as [candidates, everything else], sharing its memory."""
    return tensor.detach().view(len(tensor), -1).numpy()


# A loop is vectorised by the compiler only if it starts at 0, hence a slice for each row.


@njit(cache=True, error_model="numpy", fastmath={"reassoc", "contract"})
def _squares(gradient, columns, sizes, mask, norms):
    """norms [P] += sum of squares of the gradient [P, n] where the mask, [P, n] or [1, 1], lets it.

    columns: of a row of the tensor. sizes: [P, 2], rows and columns that are no padding: the order of the
    sum, and so its last bit, must not depend on how wide the neighbours are.
    """
    masked = mask.shape[1] == gradient.shape[1] and len(mask) == len(gradient)
    for p in range(len(gradient)):
        total = 0.0
        for i in range(sizes[p, 0]):
            own = gradient[p, i * columns : i * columns + sizes[p, 1]]
            if masked:
                kept = mask[p, i * columns : i * columns + sizes[p, 1]]
                for n in range(len(own)):
                    own[n] = own[n] if kept[n] else np.float32(0)
            row = np.float32(0)
            for n in range(len(own)):
                row += own[n] * own[n]
            total += row
        norms[p] += total


@njit(cache=True, error_model="numpy")
def _adam(gradient, columns, sizes, norms, clip, value, first, second, low, high, rate, spread):
    """One step of value [P, n] along gradient, kept within low..high, each [P or 1, 1].

    columns, sizes: see _squares; padding has no gradient and stays where it is.
    """
    less, slow = np.float32(1 - BETAS[0]), np.float32(BETAS[1])
    fast, tiny = np.float32(1 - BETAS[1]), np.float32(EPSILON)
    by, root = np.float32(rate), np.float32(spread)
    for p in range(len(value)):
        finite = norms[p] < np.inf  # false for what is no number, too
        scale = np.float32(min(1.0, clip / (norms[p] + 1e-12))) if finite else np.float32(0)
        a = p if len(low) > 1 else 0
        least, most = low[a, 0], high[a, 0]
        rows, length = sizes[p]
        if length == columns:  # one behind the other
            rows, length = 1, rows * columns
        for i in range(rows):
            place = slice(i * columns, i * columns + length)
            g, x, m, v = gradient[p, place], value[p, place], first[p, place], second[p, place]
            if not finite:
                g[:] = 0
            for n in range(length):
                g[n] *= scale
                m[n] += (g[n] - m[n]) * less
                v[n] = v[n] * slow + g[n] * g[n] * fast
                moved = x[n] + by * m[n] / (np.sqrt(v[n]) * root + tiny)
                x[n] = min(max(moved, least), most)

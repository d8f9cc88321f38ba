"""A step of Adam for every candidate of a population, each with its own gradient clipping.

Kingma and Ba 2014, "Adam", without weight decay; betas 0.9 and 0.99. The gradient of a candidate is scaled
to a norm of at most `clip`. Padding and pruned synapses get no gradient. A gradient that is not finite is
dropped whole, so that it stays with its candidate. Both classes do the same; a CPU has compiled loops, one
pass over each tensor, because the many small operations of torch cost more than the mathematics.
"""

import math

import numpy as np
import torch
from numba import njit

from scnas.snn import devices
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
    there are kernels, they move all parameters at once.
    """

    def __init__(self, stack: PopulationStack, rates: dict[str, float], clip: float):
        self.stack, self.clip, self.taken = stack, clip, 0
        self.parameters = _parameters(stack, rates)
        device = self.parameters[0].tensor.device
        self._pace, self._root = torch.ones((), device=device), torch.ones((), device=device)
        kernels, self._flat = devices.kernels_on(device.type), None
        if kernels is not None:
            self._flat = kernels.FlatAdam(self.parameters, lambda p: stack.bounds(p.kind, p.tensor))

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
        used = [p for p in self.parameters if p.tensor.grad is not None]
        for p in used:
            if p.mask is not None:
                p.tensor.grad.masked_fill_(~p.mask, 0.0)
        norms = torch.sqrt(sum(p.tensor.grad.reshape(len(p.tensor), -1).square().sum(1) for p in used))
        finite = torch.isfinite(norms)
        scale = torch.where(finite, (self.clip / (norms + 1e-12)).clamp(max=1.0), 0.0)
        for p in used:
            shape = (-1, *[1] * (p.tensor.ndim - 1))
            gradient = p.tensor.grad
            gradient.copy_(torch.where(finite.view(shape), gradient * scale.view(shape), 0.0))
            p.first.lerp_(gradient, 1 - BETAS[0])
            p.second.mul_(BETAS[1]).addcmul_(gradient, gradient, value=1 - BETAS[1])
            spread = (p.second.sqrt() / self._root).add_(EPSILON)
            p.tensor.addcdiv_(p.first * (p.rate * self._pace), spread)
        self.stack.clamp()
        return norms


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

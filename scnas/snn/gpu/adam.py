"""A step of Adam for all parameters of a population in three commands; see snn.reference.adam.TorchAdam.

All parameters lie one behind the other in memory, and so do their moments and masks. A program owns a block
of one parameter of one candidate. The sum of squares of a candidate is taken block by block and then over its
blocks in their order, so that a training can be repeated.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
import triton
import triton.language as tl
from torch import Tensor

from scnas.snn.reference.adam import Parameter

BLOCK = 1024  # numbers of one program
LINE = 64  # parameters begin at multiples of so many numbers
# Columns of the tables: where a block begins, its numbers, its candidate, where its mask begins, -BLOCK for
# none; peak rate and range of its parameter.
_PLACES, _ENDS = tl.constexpr(4), tl.constexpr(3)


@triton.jit
def _masked(gradient, keep, places, BLOCK: tl.constexpr):
    """The gradient of a block, 0 where a mask leaves it out, and where in memory it lies."""
    row = places + tl.program_id(0).to(tl.int64) * _PLACES
    here, mask_at = tl.arange(0, BLOCK), tl.load(row + 3)
    mine, at = here < tl.load(row + 1), tl.load(row) + here
    kept = tl.load(keep + mask_at + here, mine & (mask_at + here >= 0), other=1)
    return tl.where(kept != 0, tl.load(gradient + at, mine, other=0), 0.0), at, mine


@triton.jit
def _squares(gradient, keep, places, squares, BLOCK: tl.constexpr):
    """squares: [blocks], the sum of the squares of each."""
    g, _, _ = _masked(gradient, keep, places, BLOCK)
    tl.store(squares + tl.program_id(0), tl.sum(g * g, 0))


@triton.jit
def _move(
    gradient,
    keep,
    places,
    ends,
    squares,
    firsts,
    norms,
    value,
    first,
    second,
    pace,
    root,
    clip,
    less,
    fast,
    tiny,
    BLOCK: tl.constexpr,
):
    """firsts: [P + 1], the first block of every candidate. norms: [P]. pace, root: [] on the device."""
    g, at, mine = _masked(gradient, keep, places, BLOCK)
    b = tl.program_id(0).to(tl.int64)
    p = tl.load(places + b * _PLACES + 2)
    begin, end = tl.load(firsts + p), tl.load(firsts + p + 1)
    total = tl.zeros([BLOCK], tl.float32)
    for start in range(begin, end, BLOCK):
        some = start + tl.arange(0, BLOCK)
        total += tl.load(squares + some, some < end, other=0)
    norm = tl.sqrt_rn(tl.sum(total, 0))
    if b == begin:
        tl.store(norms + p, norm)
    scale = tl.minimum(clip / (norm + 1e-12), 1.0)
    g = tl.where(norm < float("inf"), g * scale, 0.0)  # false for NaN, too
    ends += b * _ENDS
    low, high = tl.load(ends + 1), tl.load(ends + 2)
    m = tl.load(first + at, mine, other=0)
    m += (g - m) * less
    v = tl.load(second + at, mine, other=0) * (1 - fast) + g * g * fast
    x = tl.load(value + at, mine, other=0)
    x += m * (tl.load(ends) * tl.load(pace)) / (tl.sqrt_rn(v) / tl.load(root) + tiny)
    tl.store(first + at, m, mine)
    tl.store(second + at, v, mine)
    x = tl.minimum(x, high, tl.PropagateNan.ALL)  # NaN is to be seen
    tl.store(value + at, tl.maximum(x, low, tl.PropagateNan.ALL), mine)


class FlatAdam:
    """Moves `parameters`, whose tensors, moments and masks it brings into one order in memory; whoever holds
    them goes on holding them. bounds: the range of a parameter, two tensors [P or 1, ...]."""

    def __init__(self, parameters: Sequence[Parameter], bounds: Callable[[Parameter], tuple[Tensor, Tensor]]):
        device = parameters[0].tensor.device
        masks = {id(p.mask): p.mask for p in parameters if p.mask is not None}
        mask_at, begins = _places(masks.values()), _places([p.tensor for p in parameters])
        self._keep = torch.zeros(max(1, mask_at[-1]), dtype=torch.bool, device=device)
        for mask, at in zip(masks.values(), mask_at, strict=False):
            _move_to(mask, self._keep, at)
        masks_at = dict(zip(masks, mask_at, strict=False))
        flat = [torch.zeros(begins[-1], device=device) for _ in range(4)]
        self._value, self._first, self._second, self._gradient = flat
        self._slopes, places, ends = [], [], []
        for p, at in zip(parameters, begins, strict=False):
            self._slopes.append(self._gradient[at : at + p.tensor.numel()].view(p.tensor.shape))
            for tensor, array in zip((p.tensor, p.first, p.second), flat, strict=False):
                _move_to(tensor, array, at)
            count, each = len(p.tensor), p.tensor[0].numel()
            start = np.arange(0, each, BLOCK)  # within a candidate
            of = np.arange(count)[:, None]
            masked = of * 0 - BLOCK if p.mask is None else masks_at[id(p.mask)] + of * each + start
            row = at + of * each + start, np.minimum(BLOCK, each - start), of, masked
            places.append(np.stack(np.broadcast_arrays(*row), -1).reshape(-1, _PLACES.value))
            low, high = (end.reshape(-1, 1).cpu().numpy() for end in bounds(p))
            row = p.rate, low, high, of * 0 + start
            ends.append(np.stack(np.broadcast_arrays(*row)[:3], -1).reshape(-1, _ENDS.value))
        table, order = np.concatenate(places), np.argsort(np.concatenate(places)[:, 2], kind="stable")
        firsts = np.searchsorted(table[order, 2], np.arange(len(parameters[0].tensor) + 1))
        self._places = torch.tensor(table[order], device=device)
        self._ends = torch.tensor(np.concatenate(ends)[order], dtype=torch.float32, device=device)
        self._firsts = torch.tensor(firsts, device=device)
        self._squares = torch.zeros(len(table), device=device)
        self._norms = torch.zeros(len(firsts) - 1, device=device)
        self._parameters, self._learning = list(parameters), None

    def move(
        self, pace: Tensor, root: Tensor, clip: float, betas: tuple[float, float], tiny: float
    ) -> Tensor:
        """TorchAdam.move; returns norms [P] that the next move overwrites. A parameter without a gradient has
        none in any move."""
        learning = [i for i, p in enumerate(self._parameters) if p.tensor.grad is not None]
        assert self._learning in (None, learning)
        self._learning = learning
        gradients = [self._parameters[i].tensor.grad for i in learning]
        torch._foreach_copy_([self._slopes[i] for i in learning], gradients)
        grid, keep = (len(self._squares),), self._keep.view(torch.uint8)
        _squares[grid](self._gradient, keep, self._places, self._squares, BLOCK=BLOCK)
        _move[grid](
            self._gradient,
            keep,
            self._places,
            self._ends,
            self._squares,
            self._firsts,
            self._norms,
            self._value,
            self._first,
            self._second,
            pace,
            root,
            clip,
            1 - betas[0],
            1 - betas[1],
            tiny,
            BLOCK=BLOCK,
        )
        return self._norms


def _places(tensors: Sequence[Tensor]) -> list[int]:
    """Where each of several tensors begins in memory that holds them all, and how much that is."""
    places = [0]
    for tensor in tensors:
        places.append(places[-1] + -(-tensor.numel() // LINE) * LINE)
    return places


def _move_to(tensor: Tensor, memory: Tensor, at: int) -> None:
    """Bring a tensor to memory[at :], where it is from now on."""
    place = memory[at : at + tensor.numel()].view(tensor.shape)
    place.copy_(tensor.detach())
    tensor.data = place

"""Cross-entropies of all candidates and their gradients in one command; see PopulationStack.losses."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from scnas.snn.reference import loss as reference

ROWS, NUMBERS = 64, 1024  # samples of one turn, and scores of them, at most: more do not fit the registers
MOST_CLASSES = NUMBERS  # of which there is one sample a turn


@triton.jit
def _losses(
    scores,
    scale,
    labels,
    losses,
    slopes,
    to_scale,
    batch,
    classes,
    unit,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """A candidate. scores, slopes: [P, batch, classes]. labels: [batch], -1 of samples that do not count.
    scale, losses, to_scale: [P]."""
    p = tl.program_id(0).to(tl.int64)
    factor = (tl.exp(tl.load(scale + p)) * unit).to(scores.dtype.element_ty)
    loss, pull = tl.zeros([ROWS], scores.dtype.element_ty), tl.zeros([ROWS], scores.dtype.element_ty)
    column = tl.arange(0, COLUMNS)
    counted = tl.zeros([ROWS], tl.int32)
    for start in range(0, batch, ROWS):
        row = start + tl.arange(0, ROWS)
        counted += (tl.load(labels + row, row < batch, other=-1) >= 0).to(tl.int32)
    many = tl.sum(counted, 0).to(scores.dtype.element_ty)
    for start in range(0, batch, ROWS):
        row = start + tl.arange(0, ROWS)
        at = (p * batch + row[:, None]) * classes + column[None, :]
        label = tl.load(labels + row, row < batch, other=-1)
        mine = (row < batch)[:, None] & (column < classes)[None, :]
        logits = tl.load(scores + at, mine, other=0) * factor
        known = tl.where((column < classes)[None, :], logits, float("-inf"))
        above = logits - tl.max(known, 1)[:, None]
        powers = tl.where(mine, tl.exp(above), 0.0)
        total = tl.where(row < batch, tl.sum(powers, 1), 1.0)
        right = column[None, :] == label[:, None]
        named = tl.sum(tl.where(right, above, 0.0), 1)
        loss += tl.where(label >= 0, tl.log(total) - named, 0.0)
        slope = (powers / total[:, None] - tl.where(right, 1.0, 0.0)) / many
        slope = tl.where(mine & (label >= 0)[:, None], slope, 0.0)
        pull += tl.sum(slope * logits, 1)
        tl.store(slopes + at, slope * factor, mine)
    tl.store(losses + p, tl.sum(loss, 0) / many)
    tl.store(to_scale + p, tl.sum(pull, 0))


def tile(classes: int) -> dict[str, int]:
    """Rows and columns of what a program takes at a time."""
    columns = triton.next_power_of_2(classes)
    return dict(ROWS=min(ROWS, NUMBERS // columns), COLUMNS=columns)


class _Losses(torch.autograd.Function):
    @staticmethod
    def forward(ctx, scores, scale, labels, unit):
        count, batch, classes = scores.shape
        losses, to_scale = scores.new_empty(count), scores.new_empty(count)
        slopes = torch.empty_like(scores)
        _losses[(count,)](
            scores, scale, labels, losses, slopes, to_scale, batch, classes, 1 / unit, **tile(classes)
        )
        ctx.save_for_backward(slopes, to_scale, scale)
        return losses

    @staticmethod
    def backward(ctx, gradient):
        slopes, to_scale, scale = ctx.saved_tensors
        return slopes * gradient[:, None, None], (to_scale * gradient).to(scale.dtype), None, None


def losses(scores: Tensor, scale: Tensor, labels: Tensor, unit: float) -> Tensor:
    """Mean cross-entropy of each candidate, [P], of scores [P, B, n_classes], float32 or float64, labels [B],
    and scale [P], the logarithm of what turns a score in units of `unit`, a power of two, into a logit. More
    than MOST_CLASSES are left to the reference."""
    if scores.shape[2] > MOST_CLASSES:
        return reference.losses(scores, scale, labels, unit)
    return _Losses.apply(scores.contiguous(), scale, labels, float(unit))

"""Matrices of a layer from its parameters, and their gradients back, each in one command; see
scnas.snn.reference.synapses, where the references stand.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from scnas.snn.reference.synapses import Given, laid_out

BLOCK = 256  # synapses of one program
# Adding and subtracting it rounds a float32 of up to 2^22 to the nearest whole number, ties to even.
_ROUND = tl.constexpr(1.5 * 2**23)


@triton.jit(do_not_specialize=["slices"])
def _matrices(
    weights,
    keep,
    magnitudes,
    units,
    positions,
    out,
    columns,
    count,
    slices,
    per_candidate,
    per_slice,
    per_row,
    DELAYED: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """One candidate (axis 1 of the grid), one block of its `count` = n_in * n_out synapses (axis 0).

    weights, keep, positions: [P, count]. magnitudes, units: [P]. out: [P, slices, n_in, n_out] with strides
    per_candidate, per_slice, per_row and 1.
    """
    p = tl.program_id(1).to(tl.int64)
    here = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mine, at = here < count, p * count + here
    whole = (tl.load(weights + at, mine, other=0) * tl.load(magnitudes + p) + _ROUND) - _ROUND
    # NaN stays NaN, kept or not, as in a product with the mask.
    entry = whole * (tl.load(keep + at, mine, other=0) != 0).to(tl.float32) * tl.load(units + p)
    target = out + p * per_candidate + (here // columns).to(tl.int64) * per_row + here % columns
    if DELAYED:
        placed = (tl.load(positions + at, mine, other=0) + _ROUND) - _ROUND
        for d in range(slices):
            found = entry * (placed == d).to(tl.float32)
            tl.store(target, found.to(out.dtype.element_ty), mine)
            target += per_slice
    else:
        tl.store(target, entry.to(out.dtype.element_ty), mine)


def matrices(
    weights: Tensor,
    keep: Tensor,
    magnitudes: Tensor,
    units: Tensor,
    positions: Tensor | None,
    slices: int,
    dtype: torch.dtype,
    shared: bool,
) -> Tensor:
    """See scnas.snn.reference.synapses.matrices; shared: laid out for a product of all candidates."""
    out = laid_out(weights, slices, dtype, shared)
    count, n_in, n_out = weights.shape
    _matrices[(triton.cdiv(n_in * n_out, BLOCK), count)](
        weights,
        keep.view(torch.uint8),
        magnitudes,
        units,
        weights if positions is None else positions,
        out,
        n_out,
        n_in * n_out,
        slices,
        *out.stride()[:3],
        DELAYED=positions is not None,
        BLOCK=BLOCK,
    )
    return out


@triton.jit(do_not_specialize=["slices", "span"])
def _collect(
    found,
    weights,
    positions,
    matrices,
    limits,
    widths,
    to_weights,
    to_positions,
    drives,
    columns,
    count,
    everything,
    slices,
    span,
    one,
    per_candidate,
    per_slice,
    per_row,
    DELAYED: tl.constexpr,
    DRIVES: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """As _matrices. found: [slices, P, count], `everything` = P * count apart. matrices: as out of _matrices.
    span: the longest delay. limits, widths: [P]. drives: [P, blocks], sums of entries times gradients."""
    p = tl.program_id(1).to(tl.int64)
    here = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mine, at = here < count, p * count + here
    entry = matrices + p * per_candidate + (here // columns).to(tl.int64) * per_row + here % columns
    driven = tl.zeros([BLOCK], tl.float64)  # what is large of either sign cancels in it
    if not DELAYED:
        g = tl.load(found + at, mine, other=0)
        tl.store(to_weights + at, g * one, mine)
        if DRIVES:
            driven += g.to(tl.float64) * tl.load(entry, mine, other=0).to(tl.float64)
    else:
        place, limit, width = tl.load(positions + at, mine, other=0), tl.load(limits + p), tl.load(widths + p)
        placed, narrow = (place + _ROUND) - _ROUND, 2 * width * width
        total, mean = tl.zeros([BLOCK], tl.float32), tl.zeros([BLOCK], tl.float32)
        own, pull, moved = total, total, total
        for d in range(span + 1):
            there = mine & (here * 0 + d < slices)  # what is later never arrives
            g = tl.load(found + at, there, other=0)
            found += everything
            off = d - place
            share = tl.where(d <= limit, tl.exp(-off * off / narrow), 0.0)
            total += share
            mean += share * off
            pull += share * g
            moved += share * off * g
            own += tl.where(placed == d, g, 0.0)
            if DRIVES:
                driven += g.to(tl.float64) * tl.load(entry, there, other=0).to(tl.float64)
                entry += per_slice
        tl.store(to_weights + at, own * one, mine)
        slope = (moved - pull * mean / total) / total * one / (width * width)
        tl.store(to_positions + at, slope * tl.load(weights + at, mine, other=0), mine)
    if DRIVES:
        tl.store(drives + p * tl.num_programs(0) + tl.program_id(0), tl.sum(driven, 0))


def collect(found: Tensor, given: Given, drives: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """See scnas.snn.reference.synapses.collect."""
    count, n_in, n_out = given.weights.shape
    found, delayed = found.contiguous(), given.positions is not None
    to_weights = torch.empty_like(given.weights)
    to_positions = torch.empty_like(given.weights) if delayed else to_weights
    blocks = triton.cdiv(n_in * n_out, BLOCK)
    driven = found.new_empty((count, blocks), dtype=torch.float64) if drives is not None else found
    _collect[(blocks, count)](
        found,
        given.weights,
        given.positions if delayed else found,
        given.matrices,
        given.limits,
        given.widths,
        to_weights,
        to_positions,
        driven,
        n_out,
        n_in * n_out,
        count * n_in * n_out,
        len(found),
        given.span,
        given.one,
        *given.matrices.stride()[:3],
        DELAYED=delayed,
        DRIVES=drives is not None,
        BLOCK=BLOCK,
    )
    if drives is not None:
        drives += driven.sum(1)
    return to_weights, to_positions if delayed else None


@triton.jit
def _streams(
    integers, tables, out, steps, width, columns, count, per_candidate, per_step, per_row, BLOCK: tl.constexpr
):
    """One candidate (axis 1 of the grid), one block of its `count` = n_in * n_out synapses (axis 0).

    integers: [P, count]. tables: [P, T, width]. out: [P, T, n_in, n_out] with strides per_candidate,
    per_step, per_row and 1.
    """
    p = tl.program_id(1).to(tl.int64)
    here = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mine = here < count
    w = tl.load(integers + p * count + here, mine, other=0)
    magnitude = tl.where(w == w, tl.abs(w), 0.0).to(tl.int32)  # NaN stays NaN, below
    source = tables + p * steps * width + magnitude
    target = out + p * per_candidate + (here // columns).to(tl.int64) * per_row + here % columns
    for _ in range(steps):
        ones = tl.load(source, mine, other=0)
        signed = tl.where(w > 0, ones, tl.where(w < 0, -ones, w))
        tl.store(target, signed.to(out.dtype.element_ty), mine)
        source += width
        target += per_step


def fill(integers: Tensor, tables: Tensor, out: Tensor) -> None:
    """The signed ones of every stream in every step, written once, in the layout and type of `out`; see
    synapses.stream_matrix. integers: contiguous."""
    count, n_in, n_out = integers.shape
    steps, width = tables.shape[1:]
    _streams[(triton.cdiv(n_in * n_out, BLOCK), count)](
        integers, tables, out, steps, width, n_out, n_in * n_out, *out.stride()[:3], BLOCK=BLOCK
    )

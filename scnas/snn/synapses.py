"""Currents of a layer from its input spikes: exact products, and the gradients behind them.

Letters: P candidates, T steps, B samples, n_in and n_out of a layer, D the largest delay, F fraction bits,
L clocks of a stream.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec

import torch
from torch import Tensor

BF16_INTEGERS = 256  # bfloat16 has 8 significant bits: the first integer that it lacks is 257
BATCHES = 2**15  # matrices of one batched product; CUDA may refuse more than 65,535


# -- operands -----------------------------------------------------------------------------------


def exact_in_bf16(length: int) -> bool:
    """Whether bfloat16 holds every entry of the matrix of a layer whose streams have `length` clocks.

    An entry is a signed number of ones, at most `length`, times 2^F / L, which is a power of two and so moves
    the exponent alone. Spikes, 0 and 1, are held always.
    """
    return length <= BF16_INTEGERS


def operand_dtype(device: str, exact: bool) -> torch.dtype:
    """What the operands of a forward product are held in on a type of device: bfloat16 on CUDA where it is
    `exact`, else float32."""
    return torch.bfloat16 if device == "cuda" and exact else torch.float32


def stream_matrix(integers: Tensor, tables: Tensor, dtype: torch.dtype, shared: bool) -> Tensor:
    """The signed ones of every stream of lfsr layers in every step, [P, T, n_in, n_out] of `dtype`.

    integers: [P, n_in, n_out] float32, signed magnitudes. tables: [P, T, M + 1] float32, ones of each
    magnitude. shared: laid out as [T, n_in, P, n_out], for a product with inputs that all share.
    """
    count, n_in, n_out = integers.shape
    steps = tables.shape[1]
    if shared:
        out = integers.new_empty((steps, n_in, count, n_out), dtype=dtype).permute(2, 0, 1, 3)
    else:
        out = integers.new_empty((count, steps, n_in, n_out), dtype=dtype)
    _fill_on(integers.device.type)(integers, tables, out)
    return out


def _fill(integers: Tensor, tables: Tensor, out: Tensor) -> None:
    """The reference of stream_matrix: a step at a time, so that nothing is as large as `out` but `out`."""
    magnitudes = integers.abs().nan_to_num(0.0).long().flatten(1)
    for t in range(tables.shape[1]):
        ones = tables[:, t].gather(1, magnitudes).view(integers.shape)
        # What is no number stays none, so that its candidate is seen to diverge.
        out[:, t] = torch.where(integers > 0, ones, torch.where(integers < 0, -ones, integers))


@cache
def _fill_on(device: str):
    if device == "cuda" and find_spec("triton") is not None:
        from scnas.snn import triton_kernels

        return triton_kernels.fill
    return _fill


# -- products -----------------------------------------------------------------------------------


@contextmanager
def full_float32() -> Iterator[None]:
    """Products of float32 on CUDA keep its 24 bits while this is open, whatever the process has set: TF32
    keeps 11, so that neither counts nor gradients would be what they are.

    torch has an older and a newer switch for it and refuses to multiply while they disagree; the older one
    sets both.
    """
    switch, elsewhere = torch.backends.cuda.matmul, torch.backends.mkldnn.matmul
    before, beside, reduced = (
        switch.fp32_precision, elsewhere.fp32_precision, switch.allow_bf16_reduced_precision_reduction
    )  # fmt: skip
    try:
        word = torch.get_float32_matmul_precision()
    except RuntimeError:  # the two disagree: the newer was set, the older was not
        word = None
    switch.allow_tf32 = False
    switch.allow_bf16_reduced_precision_reduction = False
    try:
        yield
    finally:
        if word is not None:
            torch.set_float32_matmul_precision(word)
        elsewhere.fp32_precision, switch.fp32_precision = beside, before
        switch.allow_bf16_reduced_precision_reduction = reduced


def product(rows: Tensor, matrix: Tensor) -> Tensor:
    """[P or 1, T, B, n] times [P, 1 or T, n, m] -> [P, T, B, m], float32 for bfloat16.

    Rows that all candidates share are multiplied once, with all matrices side by side; what comes back is
    then laid out as [T, B, P, m]. Of bfloat16 operands every product is exact, and so is a sum that stays
    below 2^24 units, in whatever order: the tensor cores align and add with 24 bits or more (Fasi, Higham,
    Mikaitis and Pranesh 2021, "Numerical behavior of NVIDIA tensor cores").
    """
    count, streams, n, m = matrix.shape
    steps, batch = rows.shape[1:3]
    if len(rows) == 1:
        wide = matrix.permute(1, 2, 0, 3).reshape(streams, n, count * m)
        if streams == 1:
            out = _dot(rows.reshape(steps * batch, n), wide[0])
        else:
            out = _dot(rows[0], wide)
        return out.view(steps, batch, count, m).permute(2, 0, 1, 3)
    if streams == 1:
        return _batched(rows.reshape(count, steps * batch, n), matrix[:, 0]).view(count, steps, batch, m)
    flat = rows.reshape(count * steps, batch, n), matrix.reshape(count * steps, n, m)
    return _batched(*flat).view(count, steps, batch, m)


def _batched(a: Tensor, b: Tensor) -> Tensor:
    if len(a) <= BATCHES:
        return _dot(a, b)
    return torch.cat([_dot(x, y) for x, y in zip(a.split(BATCHES), b.split(BATCHES), strict=True)])


def _dot(a: Tensor, b: Tensor) -> Tensor:
    """A product of matrices, or of two rows of them. A bfloat16 result would round sums above 256."""
    multiply = torch.mm if a.ndim == 2 else torch.bmm
    return multiply(a, b, out_dtype=torch.float32) if a.dtype == torch.bfloat16 else multiply(a, b)


def _per_synapse(spikes: Tensor, gradient: Tensor) -> Tensor:
    """Sum over steps and samples of spikes [P or 1, T, B, n] times gradient [P, T, B, m]: [P, n, m]."""
    count, steps, batch, m = gradient.shape
    n, rows = spikes.shape[3], steps * batch
    if len(spikes) == 1:
        wide = gradient.permute(1, 2, 0, 3).reshape(rows, count * m)
        return _dot(spikes.reshape(rows, n).T, wide).view(n, count, m).transpose(0, 1)
    return _batched(spikes.reshape(count, rows, n).transpose(1, 2), gradient.reshape(count, rows, m))


# -- one layer ----------------------------------------------------------------------------------


class Synapses(torch.autograd.Function):
    """Currents of a layer from its input spikes, exact; gradients to spikes, weights and delays.

    spikes: [P or 1, T, B, n_in] (1: the input, shared by all). weights: [P, n_in, n_out] real.
    positions: [P, n_in, n_out] real delays, or None. matrix: [P, 1 or T, n_in, n_out], the signed
    ones of every stream in current units (times 2^F / L), in the type that the product is taken in.
    limits: [P, 1, 1] largest delay. widths: [P, 1, 1], how softly the gradient sees a delay, in steps.
    span: the largest of limits; 0 without positions.
    returns [P, T, B, n_out]. The current is linear in a weight with slope 2^F per active spike,
    which is exact for sobol streams but for rounding, and the mean over seeds for lfsr. Gradients are
    float32 throughout.
    """

    @staticmethod
    def forward(ctx, spikes, weights, positions, matrix, limits, widths, one, span):
        timesteps = spikes.shape[1]
        placed = None if positions is None else torch.round(positions)
        rows, out = spikes.to(matrix.dtype), None
        for d in range(span + 1):
            at = matrix if placed is None else matrix * (placed == d)[:, None]
            part = product(rows[:, : timesteps - d], at[:, d:] if at.shape[1] > 1 else at)
            if out is None:
                out = part
            else:
                out[:, d:] += part
        ctx.save_for_backward(spikes, weights, positions, matrix, limits, widths)
        ctx.one, ctx.span = one, span
        return out

    @staticmethod
    def backward(ctx, gradient):
        spikes, weights, positions, matrix, limits, width = ctx.saved_tensors
        timesteps = spikes.shape[1]
        to_spikes = to_positions = None
        to_weights = torch.zeros_like(weights)
        if ctx.needs_input_grad[0]:
            to_spikes, matrix = torch.zeros_like(spikes), matrix.to(spikes.dtype)
        if len(spikes) > 1:
            gradient = gradient.contiguous()
        if positions is not None:
            to_positions = torch.zeros_like(positions)
            placed = torch.round(positions)
            soft = shares(positions, limits, ctx.span, width)
            mean = sum(share * d for d, share in enumerate(soft))
        for d in range(ctx.span + 1):
            late = gradient[:, d:]
            per_weight = _per_synapse(spikes[:, : timesteps - d], late) * ctx.one
            at = matrix
            if positions is None:
                to_weights += per_weight
            else:
                here = placed == d
                to_weights += per_weight * here
                # d/dposition of a softmax over exp(-(d - position)^2 / (2 width^2))
                to_positions += per_weight * weights * soft[d] * (d - mean) / width**2
                at = matrix * here[:, None] if to_spikes is not None else None
            if to_spikes is not None:
                back = product(late, (at[:, d:] if at.shape[1] > 1 else at).transpose(2, 3))
                to_spikes[:, : timesteps - d] += back
        return to_spikes, to_weights, to_positions, None, None, None, None, None


def shares(positions: Tensor, limits: Tensor, span: int, width: Tensor) -> list[Tensor]:
    """How much of a synapse sits at each delay 0..span when its position is seen softly."""
    weights = [torch.exp(-((d - positions) ** 2) / (2 * width**2)) * (limits >= d) for d in range(span + 1)]
    total = sum(weights)
    return [weight / total for weight in weights]

"""Currents of a layer from its input spikes: exact products, and the gradients behind them.

Letters: P candidates, T steps, B samples, n_in and n_out of a layer, D the largest delay, F fraction bits,
L clocks of a stream.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from scnas.snn import devices

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


# -- layers that are counted and scanned at once ------------------------------------------------

MOST_INPUTS = 256  # with 64 neurons their matrix of 32 KiB stays on the chip
ROWS, COLUMNS = 32, 64  # samples and neurons of one program, at most


def fuses(kind: tuple[str, bool], inputs: int, neurons: int, span: int, shared: bool) -> bool:
    """Whether a layer with neurons is counted and scanned in one kernel, gpu.layer: where that
    moves fewer bytes.

    kind: its generator, and whether bfloat16 holds its matrix. span: its longest delay. shared: all
    candidates have the same input. Of a sample and step, in two kernels: spikes are read, 4 bytes, written as
    bfloat16 and read again, 2 and 2, for every delay copied and read once more, 6; if shared, that is nothing
    for one candidate. Currents are written and read by the scan and by the way back, 12, and for every delay
    a part is written, read and added to what is read and written again, 16. In one kernel, every block of
    neurons reads all spikes anew for each delay, 4, and, where the matrices are several, every block of
    samples those, 2 a synapse. What is read again most often comes from a cache and is counted as if it did
    not. The products are the same in both.

    lfsr layers stay apart: their matrix differs from step to step, so that every block of samples would read
    it anew, 2 bytes an input for each of 32 samples; and the way back would need the current, which only a
    matrix that stays can replace (see back_through_synapses).
    """
    generator, exact = kind
    apart = neurons * (12 + 16 * span) + (0 if shared else inputs * (8 + 6 * span))
    blocks, matrices = -(-neurons // columns_of(inputs, neurons, span)), span + 1
    fused = 4 * inputs * blocks * matrices + (2 * inputs * neurons * matrices / ROWS if span else 0)
    return generator == "sobol" and exact and inputs <= MOST_INPUTS and fused <= apart


def columns_of(inputs: int, neurons: int, span: int) -> int:
    """Neurons of one program: as many as there are, but no more than registers hold."""
    return min(COLUMNS // 2 if span and inputs > 128 else COLUMNS, tile(neurons))


def tile(n: int) -> int:
    """The power of two that n fits in, and at least what a product of tensor cores takes."""
    return max(16, 1 << (n - 1).bit_length())


# -- streams ------------------------------------------------------------------------------------


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
    kernels = devices.kernels_on(integers.device.type)
    (_fill if kernels is None else kernels.fill)(integers, tables, out)
    return out


def _fill(integers: Tensor, tables: Tensor, out: Tensor) -> None:
    """The reference of stream_matrix: a step at a time, so that nothing is as large as `out` but `out`."""
    magnitudes = integers.abs().nan_to_num(0.0).long().flatten(1)
    for t in range(tables.shape[1]):
        ones = tables[:, t].gather(1, magnitudes).view(integers.shape)
        # What is no number stays none, so that its candidate is seen to diverge.
        out[:, t] = torch.where(integers > 0, ones, torch.where(integers < 0, -ones, integers))


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
        for d in range(min(span + 1, timesteps)):  # what is later never arrives
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
        wanted = ctx.needs_input_grad[0]
        found = back_through_synapses(gradient, *ctx.saved_tensors, ctx.one, ctx.span, wanted)
        return *found, None, None, None, None, None


def back_through_synapses(
    gradient: Tensor, spikes: Tensor, weights: Tensor, positions: Tensor | None, matrix: Tensor,
    limits: Tensor, width: Tensor, one: float, span: int, wanted: bool, drives: Tensor | None = None,
) -> tuple[Tensor | None, Tensor, Tensor | None]:  # fmt: skip
    """Gradients to spikes, if wanted, weights and positions of that to the currents; see Synapses.

    drives: [P] float64, to which is added the sum of gradient times current, where each synapse has one
    stream for all steps: the same as that of matrix entries times the gradients that they would have.
    """
    timesteps = spikes.shape[1]
    to_spikes = to_positions = None
    to_weights = torch.zeros_like(weights)
    if wanted or drives is not None:
        matrix = matrix.to(spikes.dtype)
    if wanted:
        to_spikes = torch.zeros_like(spikes)
    if len(spikes) > 1:
        gradient = gradient.contiguous()
    if positions is not None:
        to_positions = torch.zeros_like(positions)
        placed = torch.round(positions)
        soft = shares(positions, limits, span, width)
        mean = sum(share * d for d, share in enumerate(soft))
    for d in range(min(span + 1, timesteps)):
        late = gradient[:, d:]
        per_synapse = _per_synapse(spikes[:, : timesteps - d], late)
        per_weight, at = per_synapse * one, matrix
        if positions is None:
            to_weights += per_weight
        else:
            here = placed == d
            to_weights += per_weight * here
            # d/dposition of a softmax over exp(-(d - position)^2 / (2 width^2))
            to_positions += per_weight * weights * soft[d] * (d - mean) / width**2
            at = matrix * here[:, None] if wanted or drives is not None else None
        if drives is not None:
            drives += (at[:, 0] * per_synapse).sum((1, 2), dtype=drives.dtype)
        if wanted:
            back = product(late, (at[:, d:] if at.shape[1] > 1 else at).transpose(2, 3))
            to_spikes[:, : timesteps - d] += back
    return to_spikes, to_weights, to_positions


def shares(positions: Tensor, limits: Tensor, span: int, width: Tensor) -> list[Tensor]:
    """How much of a synapse sits at each delay 0..span when its position is seen softly."""
    weights = [torch.exp(-((d - positions) ** 2) / (2 * width**2)) * (limits >= d) for d in range(span + 1)]
    total = sum(weights)
    return [weight / total for weight in weights]

"""Currents of a layer from its input spikes: exact products, and the gradients behind them.

Letters: P candidates, T steps, B samples, n_in and n_out of a layer, D the largest delay, F fraction bits,
L clocks of a stream.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

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


def operand_dtype(bf16: bool, exact: bool) -> torch.dtype:
    """What the operands of a forward product are held in: bfloat16 on a device that multiplies it faster,
    where it is `exact`, else float32."""
    return torch.bfloat16 if bf16 and exact else torch.float32


# -- kinds of layers ------------------------------------------------------------------------------


class Kind(NamedTuple):
    """Of layers that are multiplied together: their generator, whether bfloat16 holds their matrices, and
    whether their currents are summed up over the steps at once, see sums_up."""

    generator: str
    exact: bool
    summed: bool = False


# -- matrices -----------------------------------------------------------------------------------


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
    """What a spike brings to a neuron over each synapse of a sobol layer, [P, slices, n_in, n_out]: the
    signed ones of a stream in current units, in the slice of its delay.

    weights: [P, n_in, n_out] real. keep: the same, bool. magnitudes: [P, 1, 1], the largest of a weight.
    units: [P, 1, 1], current units of a magnitude of 1. positions: [P, n_in, n_out] real delays, or None,
    with one slice. shared: for a product with inputs that all share; the reference lays nothing out for it.
    """
    entries = (torch.round(weights * magnitudes) * keep * units)[:, None]
    if positions is not None:
        delays = torch.arange(slices, device=weights.device).view(-1, 1, 1)
        entries = entries * (torch.round(positions)[:, None] == delays)
    return entries.to(dtype)


def stream_matrix(
    integers: Tensor,
    tables: Tensor,
    dtype: torch.dtype,
    shared: bool,
    write: Callable[[Tensor, Tensor, Tensor], None] | None = None,
) -> Tensor:
    """The signed ones of every stream of lfsr layers in every step, [P, T, n_in, n_out] of `dtype`.

    integers: [P, n_in, n_out] float32, signed magnitudes. tables: [P, T, M + 1] float32, ones of each
    magnitude. shared: laid out as [T, n_in, P, n_out], for a product with inputs that all share. write: what
    fills it in, the reference or a kernel.
    """
    out = laid_out(integers, tables.shape[1], dtype, shared)
    (write or fill)(integers, tables, out)
    return out


def laid_out(weights: Tensor, slices: int, dtype: torch.dtype, shared: bool) -> Tensor:
    """Room for [P, slices, n_in, n_out]; if shared as [slices, n_in, P, n_out], so that a product of all
    candidates takes it as it lies."""
    count, n_in, n_out = weights.shape
    if shared:
        return weights.new_empty((slices, n_in, count, n_out), dtype=dtype).permute(2, 0, 1, 3)
    return weights.new_empty((count, slices, n_in, n_out), dtype=dtype)


def fill(integers: Tensor, tables: Tensor, out: Tensor) -> None:
    """Write the signed ones of every stream in every step to `out`, a step at a time, so that nothing else is
    as large; see stream_matrix."""
    magnitudes = integers.abs().nan_to_num(0.0).long().flatten(1)
    for t in range(tables.shape[1]):
        ones = tables[:, t].gather(1, magnitudes).view(integers.shape)
        # NaN stays NaN, so that its candidate is seen to diverge.
        out[:, t] = torch.where(integers > 0, ones, torch.where(integers < 0, -ones, integers))


# -- products -----------------------------------------------------------------------------------


@contextmanager
def full_float32() -> Iterator[None]:
    """Products of float32 on CUDA keep its 24 bits while this is open, whatever the process has set: TF32
    keeps 11, so that neither counts nor gradients would be what they are.

    torch has an older and a newer switch for it and refuses to multiply while they disagree; the older one
    sets both.
    """
    switch = torch.backends.cuda.matmul
    elsewhere = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]  # is there, but not in its types
    before, beside = switch.fp32_precision, elsewhere.fp32_precision
    reduced = switch.allow_bf16_reduced_precision_reduction
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


class Given(NamedTuple):
    """Synapses of a layer, as Synapses takes them.

    weights: [P, n_in, n_out] real. positions: [P, n_in, n_out] real delays, or None. matrices: of sobol
    layers see matrices(), of others (`streams`) [P, T, n_in, n_out], see stream_matrix(). limits: [P, 1, 1]
    largest delay. widths: [P, 1, 1], how softly the gradient sees a delay, in steps. one: 2^F. span: the
    largest of limits; 0 without positions.
    """

    weights: Tensor
    positions: Tensor | None
    matrices: Tensor
    limits: Tensor
    widths: Tensor
    one: float
    span: int
    streams: bool = False

    def at(self, d: int, dtype: torch.dtype | None = None) -> Tensor:
        """Matrices of the synapses with delay d, [P, 1 or T - d, n_in, n_out], of another type if given."""
        if not self.streams:
            found = self.matrices[:, d : d + 1]
        elif self.positions is None:
            found = self.matrices[:, d:]
        else:
            found = self.matrices[:, d:] * (torch.round(self.positions) == d)[:, None]
        return found if dtype is None else found.to(dtype)


# What carries gradients to matrices on to weights and positions; see collect.
Gather = Callable[[Tensor, Given, Tensor | None], tuple[Tensor, Tensor | None]]


class Synapses(torch.autograd.Function):
    """Currents of a layer from its input spikes, exact; gradients to spikes, weights and delays.

    spikes: [P or 1, T, B, n_in] (1: the input, shared by all). returns [P, T, B, n_out], or if `summed` their
    sum over the steps, [P, 1, B, n_out], for which the spikes are counted first; see sums_up. weights and
    positions are given once more, apart, for their gradients. The current is linear in a weight with slope
    2^F per active spike, which is exact for sobol streams but for rounding, and the mean over seeds for lfsr.
    Gradients are float32 throughout. gather: what carries those to matrices on to weights and positions,
    `collect` or a kernel.
    """

    @staticmethod
    def forward(
        ctx: Any,
        spikes: Tensor,
        weights: Tensor,
        positions: Tensor | None,
        given: Given,
        summed: bool,
        gather: Gather | None = None,
    ) -> Tensor:
        timesteps = spikes.shape[1]
        last = min(given.span, timesteps - 1)  # what is later never arrives
        if summed:
            early = [spikes[:, : timesteps - d].sum(1, keepdim=True) for d in range(last + 1)]
            spikes = early[0] if last == 0 else torch.cat(early, 1)
        rows = spikes.to(given.matrices.dtype)
        out = product(rows[:, :1] if summed else rows, given.at(0))
        for d in range(1, last + 1):
            part = product(rows[:, d : d + 1] if summed else rows[:, : timesteps - d], given.at(d))
            if summed:
                out += part
            else:
                out[:, d:] += part
        ctx.save_for_backward(spikes, *given[:5])
        ctx.rest, ctx.steps, ctx.gather = given[5:], timesteps if summed else 0, gather
        return out

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        spikes, *tensors = ctx.saved_tensors
        given, wanted = Given(*tensors, *ctx.rest), ctx.needs_input_grad[0]
        found = back_through_synapses(gradient, spikes, given, wanted, steps=ctx.steps, gather=ctx.gather)
        return *found, None, None, None


def sums_up(generator: str, inputs: int, timesteps: int, fraction: int, word: int) -> bool:
    """Whether the currents of a layer that only integrates need not be known one by one: each synapse brings
    the same in all steps, no current can leave the word, and their sums, like the counts of spikes, are exact
    in the types of a product.
    """
    largest = inputs * 2**fraction
    exact = timesteps * largest < 2**24 and timesteps <= BF16_INTEGERS
    return generator == "sobol" and largest < 2 ** (word - 1) and exact


def back_through_synapses(
    gradient: Tensor,
    spikes: Tensor,
    given: Given,
    wanted: bool,
    drives: Tensor | None = None,
    steps: int = 0,
    gather: Gather | None = None,
) -> tuple[Tensor | None, Tensor, Tensor | None]:
    """Gradients to spikes, if wanted, weights and positions of that to the currents; see Synapses.

    drives: [P] float64, to which is added the sum of gradient times current of a sobol layer: the same as
    that of matrix entries times the gradients that they would have. steps: of the spikes, where what is given
    of them are counts up to the last step from which each delay arrives, [P or 1, delays, B, n_in], and one
    gradient for all steps; else 0. gather: see Synapses.
    """
    timesteps = steps or spikes.shape[1]
    last = min(given.span, timesteps - 1)
    if len(spikes) > 1:
        gradient = gradient.contiguous()
    found, to_spikes = [], None
    if wanted and last:
        to_spikes = gradient.new_zeros((len(gradient), timesteps, *spikes.shape[2:]))
    for d in range(last + 1):
        late = gradient if steps else gradient[:, d:]
        found.append(_per_synapse(spikes[:, d : d + 1] if steps else spikes[:, : timesteps - d], late))
        if wanted:
            back = product(late, given.at(d, spikes.dtype).transpose(2, 3))
            if to_spikes is None:
                to_spikes = back.expand(-1, timesteps, -1, -1)
            else:
                to_spikes[:, : timesteps - d] += back
    stacked = torch.stack(found) if last else found[0][None]
    to_weights, to_positions = (gather or collect)(stacked, given, drives)
    return to_spikes, to_weights, to_positions


def collect(found: Tensor, given: Given, drives: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Gradients to weights and positions from those to the matrix of each delay, over 2^F, `found`
    [D + 1, P, n_in, n_out]. drives: see back_through_synapses."""
    if drives is not None:
        for d, per_synapse in enumerate(found):
            drives += (given.at(d, drives.dtype)[:, 0] * per_synapse).sum((1, 2))
    if given.positions is None:
        return found[0] * given.one, None
    to_weights, pull, moved = (torch.zeros_like(given.weights) for _ in range(3))
    placed = torch.round(given.positions)
    soft = shares(given.positions, given.limits, given.span, given.widths)
    mean = sum(share * (d - given.positions) for d, share in enumerate(soft))
    for d, per_synapse in enumerate(found):
        to_weights += per_synapse * given.one * (placed == d)
        pull += soft[d] * per_synapse
        moved += soft[d] * (d - given.positions) * per_synapse
    # d/dposition of a softmax over exp(-(d - position)^2 / (2 width^2)); seen from the position, so that
    # little is lost where the gradients of all delays are much alike.
    return to_weights, (moved - pull * mean) * given.one * given.weights / given.widths**2


def shares(positions: Tensor, limits: Tensor, span: int, width: Tensor) -> list[Tensor]:
    """How much of a synapse sits at each delay 0..span when its position is seen softly."""
    weights = [torch.exp(-((d - positions) ** 2) / (2 * width**2)) * (limits >= d) for d in range(span + 1)]
    total = sum(weights)
    return [weight / total for weight in weights]

"""What a GPU does in kernels of its own: the neuron scan, forward and back, and the streams of lfsr layers.

The same integers as neurons.scan_reference and the same gradients. A program owns a block of the B * N
neurons of one candidate and keeps their state in registers; per neuron and step it reads a current,
saturates it, and writes a spike; where a gradient is wanted also the distance to the threshold, the membrane
before the step, and one byte of flags. The bytes of these are what a scan costs, so that a current is taken
as the product left it, and the candidates of every model as they lie in the stack: nothing is copied.
Multiplying and adding in one instruction changes nothing: every intermediate is an integer that its float
type holds exactly (neurons.exact_dtype).

Without a GPU the kernels run in Triton's interpreter: TRITON_INTERPRET=1, set before this is imported.
"""

import math
from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from scnas.snn.kernels import ALPHA
from scnas.snn.neurons import Part

BLOCK = 256  # neurons of one program
# What a step remembers besides numbers, one bit each.
_INSIDE, _WAITING, _STEADY, _FIRED, _GIVEN = (tl.constexpr(bit) for bit in (1, 2, 4, 8, 16))
# Columns of the table of constants, in the order of `_table`.
_COLUMNS = (
    "leak_k", "gain_k", "decay_k", "bump_k", "a_k", "b_k", "d_k", "v_rest", "v_reset", "refractory",
    "bound", "scale",
)  # fmt: skip
_WIDTH = tl.constexpr(len(_COLUMNS))


@triton.jit
def _forward(
    members, current, threshold, table, noise, spikes, margin, before, flags, steps, neurons, count,
    per_candidate, per_step, per_sample, one, c14,
    LEAKS: tl.constexpr, NOISY: tl.constexpr, ADAPTS: tl.constexpr, IZHIKEVICH: tl.constexpr,
    REFRACTORY: tl.constexpr, LEARNS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """One of the Q members (axis 1 of the grid, at most 65,535), one block of its `count` = B * N neurons
    (axis 0).

    members: [Q], their places among the P of the stack. current: [P, T, B, N] with strides per_candidate,
    per_step, per_sample and 1. spikes, margin, before, flags: [P, T, count], the last three only where it
    LEARNS. threshold: [Q, N], infinite where a neuron is padding. table: [Q, 12]. noise: [Q, T].
    """
    q = tl.program_id(1).to(tl.int64)
    p = tl.load(members + q)
    here = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mine = here < count
    source = current + p * per_candidate + (here // neurons).to(tl.int64) * per_sample + here % neurons
    limit = tl.load(threshold + q * neurons + here % neurons, mine, other=0)
    k = table + q * _WIDTH
    leak, gain = tl.load(k) / one, tl.load(k + 1) / one
    decay, bump = tl.load(k + 2) / one, tl.load(k + 3)
    ka, kb, kd = tl.load(k + 4) / one, tl.load(k + 5) / one, tl.load(k + 6)
    rest, reset, pause = tl.load(k + 7), tl.load(k + 8), tl.load(k + 9)
    low = -tl.load(k + 10)
    high = -low - 1
    zero = tl.zeros([BLOCK], limit.dtype)
    v, slow, waiting = zero + rest, zero, zero
    if IZHIKEVICH:
        v = zero + reset
        slow = zero + tl.floor(kb * reset)
    for t in range(steps):
        at = (p * steps + t) * count + here
        given = tl.load(source, mine, other=0).to(limit.dtype)
        source += per_step
        drive = tl.floor(tl.minimum(tl.maximum(given, low), high) * gain)
        if IZHIKEVICH:
            raw = 4 * tl.floor(v * v / one) + 6 * v + c14 - slow + drive
        else:
            raw = v + drive
            if LEAKS:
                raw += tl.floor((rest - v) * leak)
            if NOISY:
                raw += tl.load(noise + q * steps + t)
        x = tl.minimum(tl.maximum(raw, low), high)
        over = x - limit
        if ADAPTS:
            over -= slow
        fired = over >= 0
        flag = tl.where(raw == x, _INSIDE, 0) + tl.where((given >= low) & (given <= high), _GIVEN, 0)
        if REFRACTORY:
            fired = fired & (waiting <= 0)
            flag += tl.where(waiting > 0, _WAITING, 0)
        after = tl.where(fired, reset, x)
        if ADAPTS:
            slow = slow - tl.floor(slow * decay) + tl.where(fired, bump, 0)
            slow = tl.minimum(tl.maximum(slow, low), high)
        if IZHIKEVICH:
            moved = slow + tl.floor((tl.floor(v * kb) - slow) * ka) + tl.where(fired, kd, 0)
            slow = tl.minimum(tl.maximum(moved, low), high)
            flag += tl.where(moved == slow, _STEADY, 0)
        flag += tl.where(fired, _FIRED, 0)
        tl.store(spikes + at, tl.where(fired, 1.0, 0.0), mine)
        if LEARNS:
            tl.store(margin + at, over.to(tl.float32), mine)
            tl.store(before + at, v.to(tl.float32), mine)
            tl.store(flags + at, flag.to(tl.uint8), mine)
        if REFRACTORY:
            after = tl.where(waiting > 0, rest, after)
            waiting = tl.where(fired, pause, tl.maximum(waiting - 1, 0))
        v = after


@triton.jit
def _backward(
    members, gradient, current, table, margin, before, flags, to_current, to_threshold, to_gain, to_leak,
    steps, neurons, count, per_candidate, per_step, per_sample, back_candidate, back_step, back_sample,
    one, steep, height,
    LEAKS: tl.constexpr, IZHIKEVICH: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """The way back. gradient: [P, T, count]; to_current: [P, T, B, N] with strides back_candidate, back_step,
    back_sample and 1; to_threshold, to_gain, to_leak: [Q, count], sums over the steps."""
    q = tl.program_id(1).to(tl.int64)
    p = tl.load(members + q)
    here = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mine = here < count
    sample, neuron = (here // neurons).to(tl.int64), here % neurons
    last = tl.zeros([BLOCK], tl.int64) + (steps - 1)
    source = current + p * per_candidate + sample * per_sample + neuron + last * per_step
    target = to_current + p * back_candidate + sample * back_sample + neuron + last * back_step
    k = table + q * _WIDTH
    leak, gain = (tl.load(k) / one).to(tl.float32), (tl.load(k + 1) / one).to(tl.float32)
    ka, kb = (tl.load(k + 4) / one).to(tl.float32), (tl.load(k + 5) / one).to(tl.float32)
    rest, scale = tl.load(k + 7).to(tl.float32), tl.load(k + 11).to(tl.float32)
    low = -tl.load(k + 10).to(tl.float32)
    high = -low - 1
    zero = tl.zeros([BLOCK], tl.float32)
    gv, gu, threshold_sum, gain_sum, leak_sum = zero, zero, zero, zero, zero
    for back in range(steps):
        at = (p * steps + steps - 1 - back) * count + here
        flag = tl.load(flags + at, mine, other=0)
        drive = tl.load(source, mine, other=0)
        drive = tl.minimum(tl.maximum(drive, low), high)
        v = tl.load(before + at, mine, other=0)
        z = steep * tl.load(margin + at, mine, other=0) / scale
        gm = tl.load(gradient + at, mine, other=0) * (height / scale) / (1 + z * z)
        gm = tl.where((flag & _WAITING) == 0, gm, 0.0)
        through = tl.where((flag & (_WAITING + _FIRED)) == 0, gv, 0.0)
        gp = tl.where((flag & _INSIDE) != 0, gm + through, 0.0)
        threshold_sum -= gm
        gain_sum += gp * drive
        tl.store(target, tl.where((flag & _GIVEN) != 0, gp * gain, 0.0), mine)
        source -= per_step
        target -= back_step
        if IZHIKEVICH:
            kept = tl.where((flag & _STEADY) != 0, gu, 0.0)
            bend = tl.minimum(tl.maximum(6 + 8 * v / one, -1.0), 1.0)
            gv = gp * bend + kept * ka * kb
            gu = kept * (1 - ka) - gp
        elif LEAKS:
            leak_sum += gp * (rest - v)
            gv = gp * (1 - leak)
        else:
            gv = gp
    tl.store(to_threshold + q * count + here, threshold_sum, mine)
    tl.store(to_gain + q * count + here, gain_sum / one, mine)
    tl.store(to_leak + q * count + here, leak_sum / one, mine)


class _Scan(torch.autograd.Function):
    """Spikes [P, T, B, N] of currents; gradients to current and to threshold, gain_k and leak_k of every
    part, one after another in `learned`."""

    @staticmethod
    def forward(ctx, current, parts, fraction, refractory, *learned):
        if current.stride(3) != 1:
            current = current.contiguous()
        count, steps, batch, neurons = current.shape
        one = float(2**fraction)
        spikes = current.new_empty(current.shape)
        learns = any(ctx.needs_input_grad)
        margin, before = (current.new_empty(current.shape if learns else 1) for _ in range(2))
        flags = margin.new_empty(margin.shape, dtype=torch.uint8)
        tables = []
        for model, members, c in parts:
            table = torch.stack([getattr(c, name).reshape(-1) for name in _COLUMNS], 1).contiguous()
            tables.append(table)
            _forward[_grid(members, batch * neurons)](
                members, current, c.threshold.contiguous(), table, c.noise.contiguous(), spikes, margin,
                before, flags, steps, neurons, batch * neurons, *current.stride()[:3], one,
                float(round(1.4 * one)),
                LEAKS=_leaks(model), NOISY=model == "stochastic_lif", ADAPTS=model == "homeostatic_lif",
                IZHIKEVICH=model == "izhikevich", REFRACTORY=refractory, LEARNS=learns, BLOCK=BLOCK,
            )  # fmt: skip
        ctx.save_for_backward(current, margin, before, flags, *tables)
        ctx.parts = [(model, members, c.threshold.shape, c.threshold.dtype) for model, members, c in parts]
        ctx.one = one
        return spikes

    @staticmethod
    def backward(ctx, gradient):
        current, margin, before, flags, *tables = ctx.saved_tensors
        _, steps, batch, neurons = current.shape
        gradient = gradient.contiguous()
        to_current = torch.empty_like(current)  # laid out like it where that leaves no gaps
        if to_current.stride(3) != 1:
            to_current = current.new_empty(current.shape)
        results = []
        for (model, members, shape, dtype), table in zip(ctx.parts, tables, strict=True):
            sums = [current.new_empty(len(members), batch, neurons) for _ in range(3)]
            _backward[_grid(members, batch * neurons)](
                members, gradient, current, table, margin, before, flags, to_current, *sums, steps, neurons,
                batch * neurons, *current.stride()[:3], *to_current.stride()[:3], ctx.one,
                math.pi / 2 * ALPHA, ALPHA / 2,
                LEAKS=_leaks(model), IZHIKEVICH=model == "izhikevich", BLOCK=BLOCK,
            )  # fmt: skip
            results.append(sums[0].sum(1, dtype=dtype).view(shape))
            to_gain, to_leak = (x.sum((1, 2), dtype=dtype).view(-1, 1, 1) for x in sums[1:])
            results += [to_gain, to_leak if _leaks(model) else None]
        return to_current, None, None, None, *results


def _leaks(model: str) -> bool:
    return model not in ("if", "izhikevich")


def _grid(members: Tensor, count: int) -> tuple[int, int]:
    return triton.cdiv(count, BLOCK), len(members)


def scan(current: Tensor, parts: Sequence[Part], fraction: int, refractory: bool) -> Tensor:
    """All T steps of a layer whose candidates have the models in `parts`; see neurons.scan_reference."""
    learned = [getattr(c, name) for _, _, c in parts for name in ("threshold", "gain_k", "leak_k")]
    return _Scan.apply(current, parts, fraction, refractory, *learned)


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
    magnitude = tl.where(w == w, tl.abs(w), 0.0).to(tl.int32)  # what is no number stays none, below
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

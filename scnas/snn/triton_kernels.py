"""The neuron scan on a GPU: all T steps of a layer in one kernel, forward and back.

The same integers as neurons.scan, the reference, and the same gradients. A program owns a block of the
B * N neurons of one candidate and keeps their state in registers; per neuron and step it reads a current
and writes a spike, the distance to the threshold, the membrane before the step, and one byte of flags.
Multiplying and adding in one instruction changes nothing: every intermediate is an integer that its float
type holds exactly (neurons.exact_dtype).

Without a GPU the kernels run in Triton's interpreter: TRITON_INTERPRET=1, set before this is imported.
"""

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from scnas.snn.kernels import ALPHA
from scnas.snn.neurons import Constants

BLOCK = 256  # neurons of one program
# What a step remembers besides numbers, one bit each.
_INSIDE, _WAITING, _STEADY, _FIRED = (tl.constexpr(bit) for bit in (1, 2, 4, 8))
# Columns of the table of constants, in the order of `_table`.
_COLUMNS = (
    "leak_k", "gain_k", "decay_k", "bump_k", "a_k", "b_k", "d_k", "v_rest", "v_reset", "refractory",
    "bound", "scale",
)  # fmt: skip
_WIDTH = tl.constexpr(len(_COLUMNS))


@triton.jit
def _forward(
    current, threshold, table, noise, spikes, margin, before, flags, steps, neurons, count, one, c14,
    LEAKS: tl.constexpr, NOISY: tl.constexpr, ADAPTS: tl.constexpr, IZHIKEVICH: tl.constexpr,
    REFRACTORY: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """One candidate (axis 1 of the grid, at most 65,535), one block of its `count` = B * N neurons (axis 0).

    current, spikes, margin, before, flags: [P, T, count]. threshold: [P, N]. table: [P, 12]. noise: [P, T].
    """
    p = tl.program_id(1).to(tl.int64)
    here = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mine = here < count
    limit = tl.load(threshold + p * neurons + here % neurons, mine, other=0)
    k = table + p * _WIDTH
    leak, gain = tl.load(k) / one, tl.load(k + 1) / one
    decay, bump = tl.load(k + 2) / one, tl.load(k + 3)
    ka, kb, kd = tl.load(k + 4) / one, tl.load(k + 5) / one, tl.load(k + 6)
    rest, reset, pause = tl.load(k + 7), tl.load(k + 8), tl.load(k + 9)
    low = -tl.load(k + 10)
    high = -low - 1
    zero = limit * 0
    v, slow, waiting = zero + rest, zero, zero
    if IZHIKEVICH:
        v = zero + reset
        slow = zero + tl.floor(kb * reset)
    for t in range(steps):
        at = (p * steps + t) * count + here
        drive = tl.floor(tl.load(current + at, mine, other=0).to(limit.dtype) * gain)
        if IZHIKEVICH:
            raw = 4 * tl.floor(v * v / one) + 6 * v + c14 - slow + drive
        else:
            raw = v + drive
            if LEAKS:
                raw += tl.floor((rest - v) * leak)
            if NOISY:
                raw += tl.load(noise + p * steps + t)
        x = tl.minimum(tl.maximum(raw, low), high)
        over = x - limit
        if ADAPTS:
            over -= slow
        fired = over >= 0
        flag = tl.where(raw == x, _INSIDE, 0)
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
        tl.store(margin + at, over.to(tl.float32), mine)
        tl.store(before + at, v.to(tl.float32), mine)
        tl.store(flags + at, flag.to(tl.uint8), mine)
        if REFRACTORY:
            after = tl.where(waiting > 0, rest, after)
            waiting = tl.where(fired, pause, tl.maximum(waiting - 1, 0))
        v = after


@triton.jit
def _backward(
    gradient, current, table, margin, before, flags, to_current, to_threshold, to_gain, to_leak, steps,
    count, one, steep, height,
    LEAKS: tl.constexpr, IZHIKEVICH: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """The way back. gradient, to_current: [P, T, count]; to_threshold, to_gain, to_leak: [P, count], sums
    over the steps."""
    p = tl.program_id(1).to(tl.int64)
    here = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mine = here < count
    k = table + p * _WIDTH
    leak, gain = (tl.load(k) / one).to(tl.float32), (tl.load(k + 1) / one).to(tl.float32)
    ka, kb = (tl.load(k + 4) / one).to(tl.float32), (tl.load(k + 5) / one).to(tl.float32)
    rest, scale = tl.load(k + 7).to(tl.float32), tl.load(k + 11).to(tl.float32)
    zero = tl.zeros([BLOCK], tl.float32)
    gv, gu, threshold_sum, gain_sum, leak_sum = zero, zero, zero, zero, zero
    for back in range(steps):
        at = (p * steps + steps - 1 - back) * count + here
        flag = tl.load(flags + at, mine, other=0)
        drive = tl.load(current + at, mine, other=0)
        v = tl.load(before + at, mine, other=0)
        z = steep * tl.load(margin + at, mine, other=0) / scale
        gm = tl.load(gradient + at, mine, other=0) * (height / scale) / (1 + z * z)
        gm = tl.where((flag & _WAITING) == 0, gm, 0.0)
        through = tl.where((flag & (_WAITING + _FIRED)) == 0, gv, 0.0)
        gp = tl.where((flag & _INSIDE) != 0, gm + through, 0.0)
        threshold_sum -= gm
        gain_sum += gp * drive
        tl.store(to_current + at, gp * gain, mine)
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
    tl.store(to_threshold + p * count + here, threshold_sum, mine)
    tl.store(to_gain + p * count + here, gain_sum / one, mine)
    tl.store(to_leak + p * count + here, leak_sum / one, mine)


class _Scan(torch.autograd.Function):
    """Spikes [P, T, B, N] of currents; gradients to current, threshold, gain_k and leak_k."""

    @staticmethod
    def forward(ctx, current, threshold, gain_k, leak_k, table, noise, model, fraction, refractory):
        current = current.contiguous()
        count, steps, batch, neurons = current.shape
        one = float(2**fraction)
        spikes, margin, before = (torch.empty_like(current) for _ in range(3))
        flags = torch.empty_like(current, dtype=torch.uint8)
        leaks, izhikevich = model not in ("if", "izhikevich"), model == "izhikevich"
        grid = (triton.cdiv(batch * neurons, BLOCK), count)
        _forward[grid](
            current, threshold.contiguous(), table, noise, spikes, margin, before, flags, steps, neurons,
            batch * neurons, one, float(round(1.4 * one)),
            LEAKS=leaks, NOISY=model == "stochastic_lif", ADAPTS=model == "homeostatic_lif",
            IZHIKEVICH=izhikevich, REFRACTORY=refractory, BLOCK=BLOCK,
        )  # fmt: skip
        ctx.save_for_backward(current, table, margin, before, flags)
        ctx.settings = grid, one, leaks, izhikevich, threshold.shape, gain_k.dtype
        return spikes

    @staticmethod
    def backward(ctx, gradient):
        current, table, margin, before, flags = ctx.saved_tensors
        grid, one, leaks, izhikevich, shape, dtype = ctx.settings
        count, steps, batch, neurons = current.shape
        to_current = torch.empty_like(current)
        sums = [current.new_empty(count, batch, neurons) for _ in range(3)]
        _backward[grid](
            gradient.contiguous(), current, table, margin, before, flags, to_current, *sums, steps,
            batch * neurons, one, math.pi / 2 * ALPHA, ALPHA / 2,
            LEAKS=leaks, IZHIKEVICH=izhikevich, BLOCK=BLOCK,
        )  # fmt: skip
        to_threshold = sums[0].sum(1, dtype=dtype).view(shape)
        to_gain, to_leak = (x.sum((1, 2), dtype=dtype).view(-1, 1, 1) for x in sums[1:])
        return to_current, to_threshold, to_gain, to_leak if leaks else None, None, None, None, None, None


def scan(model: str, current: Tensor, c: Constants, fraction: int, refractory: bool) -> Tensor:
    """All T steps of a layer of one model; see neurons.scan.

    current: [P, T, B, N] float32, saturated. c: its dtype decides the arithmetic. refractory: whether any
    candidate has one. returns spikes [P, T, B, N] float32.
    """
    with torch.no_grad():
        table = torch.stack([getattr(c, name).reshape(-1) for name in _COLUMNS], 1).contiguous()
    return _Scan.apply(
        current, c.threshold, c.gain_k, c.leak_k, table, c.noise.contiguous(), model, fraction, refractory
    )

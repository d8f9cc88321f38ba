"""Neurons on a GPU: their scan, forward and back, by itself and together with the counts of a layer.

The same integers as neurons.scan_reference and the same gradients. A program owns some neurons of one
candidate and keeps their state in registers; per neuron and step it writes a spike, and where a gradient is
wanted four bytes more, from which the backward pass computes again what it needs: the membrane before it was
reset, and a few bits (see _update). Only homeostatic_lif adds another four, its adaptation. The scan reads
a current, as the product left it; in a layer that is fused (see fusion.fuses) it is summed up on the chip
and never written. The candidates of every model are taken as they lie in the stack: nothing is copied.
Multiplying and adding in one instruction changes nothing: every intermediate is an integer that its float
type holds exactly (neurons.exact_dtype). Nothing is divided forward, since a GPU does not round a quotient of
float32 to the nearest: constants are multiplied by `unit`, 2^-F.
"""

import math
from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from scnas.snn.fusion import ROWS, columns_of, tile
from scnas.snn.gpu.synapses import collect
from scnas.snn.reference.neurons import Constants, Part
from scnas.snn.reference.synapses import Given, back_through_synapses
from scnas.snn.surrogate import ALPHA

BLOCK = 256  # neurons of one program
# Bits of what is saved of a step: the membrane was not clamped, the neuron waits, the recovery was not
# clamped, it fired, the current lay below or above the word. The membrane stands above them: 24 and 6 bits.
_INSIDE, _WAITING, _STEADY, _FIRED, _BELOW, _ABOVE = (tl.constexpr(1 << bit) for bit in range(6))
_BITS, _ALL = tl.constexpr(6), tl.constexpr(63)
# Columns of the table of constants, a row for every candidate of a part.
_COLUMNS = (
    "leak_k",
    "gain_k",
    "decay_k",
    "bump_k",
    "a_k",
    "b_k",
    "d_k",
    "v_rest",
    "v_reset",
    "refractory",
    "bound",
    "scale",
)
_WIDTH, _GAIN = tl.constexpr(len(_COLUMNS)), _COLUMNS.index("gain_k")


# -- one step -----------------------------------------------------------------------------------


@triton.jit
def _start(k, unit, zero, IZHIKEVICH: tl.constexpr):
    """From a row `k` of the table the constants of _update, and the state before step 0, shaped and typed as
    `zero`: the membrane, and the recovery or adaptation."""
    own = zero.dtype
    low = -tl.load(k + 10).to(own)
    rest, reset, kb = tl.load(k + 7).to(own), tl.load(k + 8).to(own), tl.load(k + 5).to(own) * unit
    constants = (
        tl.load(k).to(own) * unit,
        tl.load(k + 1).to(own) * unit,
        tl.load(k + 2).to(own) * unit,
        tl.load(k + 3).to(own),
        tl.load(k + 4).to(own) * unit,
        kb,
        tl.load(k + 6).to(own),
        rest,
        reset,
        tl.load(k + 9).to(own),
        low,
        -low - 1,
    )
    v, slow = zero + rest, zero
    if IZHIKEVICH:
        v = zero + reset
        slow = zero + tl.floor(kb * reset)
    return constants, v, slow


@triton.jit
def _update(
    given,
    v,
    slow,
    waiting,
    limit,
    added,
    constants,
    unit,
    c14,
    LEAKS: tl.constexpr,
    NOISY: tl.constexpr,
    ADAPTS: tl.constexpr,
    IZHIKEVICH: tl.constexpr,
    REFRACTORY: tl.constexpr,
):
    """One update of some neurons by their currents `given`: whether each fired; int32, the membrane that it
    had then, times 64, plus the bits; and the state after. added: noise."""
    leak, gain, decay, bump, ka, kb, kd, rest, reset, pause, low, high = constants
    drive = tl.floor(tl.minimum(tl.maximum(given, low), high) * gain)
    if IZHIKEVICH:
        raw = 4 * tl.floor(v * v * unit) + 6 * v + c14 - slow + drive
    else:
        raw = v + drive
        if LEAKS:
            raw += tl.floor((rest - v) * leak)
        if NOISY:
            raw += added
    x = tl.minimum(tl.maximum(raw, low), high)
    over = x - limit
    if ADAPTS:
        over -= slow
    fired = over >= 0
    # NaN counts as below.
    bits = tl.where(raw == x, _INSIDE, 0) + tl.where(given > high, _ABOVE, tl.where(given >= low, 0, _BELOW))
    if REFRACTORY:
        fired = fired & (waiting <= 0)
        bits += tl.where(waiting > 0, _WAITING, 0)
    after = tl.where(fired, reset, x)
    if ADAPTS:
        slow = slow - tl.floor(slow * decay) + tl.where(fired, bump, 0)
        slow = tl.minimum(tl.maximum(slow, low), high)
    if IZHIKEVICH:
        moved = slow + tl.floor((tl.floor(v * kb) - slow) * ka) + tl.where(fired, kd, 0)
        slow = tl.minimum(tl.maximum(moved, low), high)
        bits += tl.where(moved == slow, _STEADY, 0)
    bits += tl.where(fired, _FIRED, 0)
    if REFRACTORY:
        after = tl.where(waiting > 0, rest, after)
        waiting = tl.where(fired, pause, tl.maximum(waiting - 1, 0))
    return fired, (x.to(tl.int32) << _BITS) + bits, after, slow, waiting


# -- the scan -----------------------------------------------------------------------------------


@triton.jit
def _forward(
    members,
    current,
    threshold,
    table,
    noise,
    spikes,
    membranes,
    adaptations,
    steps,
    neurons,
    count,
    per_candidate,
    per_step,
    per_sample,
    unit,
    c14,
    LEAKS: tl.constexpr,
    NOISY: tl.constexpr,
    ADAPTS: tl.constexpr,
    IZHIKEVICH: tl.constexpr,
    REFRACTORY: tl.constexpr,
    LEARNS: tl.constexpr,
    TYPE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """One of the Q members (axis 1 of the grid, at most 65,535), one block of its `count` = B * N neurons
    (axis 0).

    members: [Q], their places among the P of the stack. current: [P, T, B, N] with strides per_candidate,
    per_step, per_sample and 1. spikes: [P, T, count]; only where it LEARNS membranes, int32 of the same
    shape, see _update, and if it ADAPTS adaptations, [Q, T, count], those before each step. threshold:
    [P, N], infinite where a neuron is padding. table: [P, 12]. noise: [P, T]. All three are float64; TYPE is
    what they are computed with.
    """
    q = tl.program_id(1).to(tl.int64)
    p = tl.load(members + q)
    here = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mine = here < count
    source = current + p * per_candidate + (here // neurons).to(tl.int64) * per_sample + here % neurons
    limit = tl.load(threshold + p * neurons + here % neurons, mine, other=0).to(TYPE)
    waiting = tl.zeros([BLOCK], TYPE)
    constants, v, slow = _start(table + p * _WIDTH, unit, waiting, IZHIKEVICH)
    for t in range(steps):
        at = (p * steps + t) * count + here
        given = tl.load(source, mine, other=0).to(TYPE)
        source += per_step
        if LEARNS and ADAPTS:
            tl.store(adaptations + (q * steps + t) * count + here, slow.to(tl.float32), mine)
        fired, kept, v, slow, waiting = _update(
            given,
            v,
            slow,
            waiting,
            limit,
            tl.load(noise + p * steps + t).to(TYPE),
            constants,
            unit,
            c14,
            LEAKS,
            NOISY,
            ADAPTS,
            IZHIKEVICH,
            REFRACTORY,
        )
        tl.store(spikes + at, tl.where(fired, 1.0, 0.0), mine)
        if LEARNS:
            tl.store(membranes + at, kept, mine)


@triton.jit
def _backward(
    members,
    gradient,
    current,
    threshold,
    table,
    membranes,
    adaptations,
    to_current,
    sums,
    steps,
    neurons,
    count,
    everything,
    pull_candidate,
    pull_step,
    pull_sample,
    per_candidate,
    per_step,
    per_sample,
    back_candidate,
    back_step,
    back_sample,
    unit,
    steep,
    height,
    LEAKS: tl.constexpr,
    ADAPTS: tl.constexpr,
    IZHIKEVICH: tl.constexpr,
    FUSED: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """The backward pass. gradient, current, to_current: [P, T, B, N], each with three strides and 1. sums: of
    the gradients to threshold, gain_k and leak_k over the steps, [3, P, count], `everything` = P * count.
    FUSED: there is no current; that to gain_k is then a sum over steps in which it was clamped, for the rest
    see _Layer."""
    q = tl.program_id(1).to(tl.int64)
    p = tl.load(members + q)
    here = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mine = here < count
    sample, neuron = (here // neurons).to(tl.int64), here % neurons
    last = tl.zeros([BLOCK], tl.int64) + (steps - 1)
    pulls = gradient + p * pull_candidate + sample * pull_sample + neuron + last * pull_step
    source = current
    if not FUSED:
        source = current + p * per_candidate + sample * per_sample + neuron + last * per_step
    target = to_current + p * back_candidate + sample * back_sample + neuron + last * back_step
    k = table + p * _WIDTH
    leak, gain = (tl.load(k) * unit).to(tl.float32), (tl.load(k + 1) * unit).to(tl.float32)
    ka, kb = (tl.load(k + 4) * unit).to(tl.float32), (tl.load(k + 5) * unit).to(tl.float32)
    rest, reset = tl.load(k + 7).to(tl.float32), tl.load(k + 8).to(tl.float32)
    scale = tl.load(k + 11).to(tl.float32)
    low = -tl.load(k + 10).to(tl.float32)
    high = -low - 1
    limit = tl.load(threshold + p * neurons + neuron, mine, other=0).to(tl.float32)
    zero = tl.zeros([BLOCK], tl.float32)
    gv, gu, threshold_sum, gain_sum, leak_sum = zero, zero, zero, zero, zero
    kept = tl.load(membranes + (p * steps + steps - 1) * count + here, mine, other=0)
    for back in range(steps):
        t = steps - 1 - back
        at = (p * steps + t) * count + here
        bits, x = kept & _ALL, (kept >> _BITS).to(tl.float32)
        # The membrane before the step is what the step before left.
        later = tl.zeros([BLOCK], tl.int32) + t > 0
        kept = tl.load(membranes + at - count, mine & later, other=0)
        v = tl.where((kept & _FIRED) != 0, reset, (kept >> _BITS).to(tl.float32))
        v = tl.where((kept & _WAITING) != 0, rest, v)
        v = tl.where(later, v, rest)  # of izhikevich, what it was before step 0 is not asked
        over = x - limit
        if ADAPTS:
            over -= tl.load(adaptations + (q * steps + t) * count + here, mine, other=0)
        z = steep * over / scale
        gm = tl.load(pulls, mine, other=0) * (height / scale) / (1 + z * z)
        pulls -= pull_step
        gm = tl.where((bits & _WAITING) == 0, gm, 0.0)
        through = tl.where((bits & (_WAITING + _FIRED)) == 0, gv, 0.0)
        gp = tl.where((bits & _INSIDE) != 0, gm + through, 0.0)
        threshold_sum -= gm
        if FUSED:
            drive = tl.where((bits & _BELOW) != 0, low, tl.where((bits & _ABOVE) != 0, high, 0.0))
        else:
            drive = tl.load(source, mine, other=0)
            drive = tl.minimum(tl.maximum(drive, low), high)
            source -= per_step
        gain_sum += gp * drive
        tl.store(target, tl.where((bits & (_BELOW + _ABOVE)) == 0, gp * gain, 0.0), mine)
        target -= back_step
        if IZHIKEVICH:
            steady = tl.where((bits & _STEADY) != 0, gu, 0.0)
            bend = tl.minimum(tl.maximum(6 + 8 * v * unit, -1.0), 1.0)
            gv = gp * bend + steady * ka * kb
            gu = steady * (1 - ka) - gp
        elif LEAKS:
            leak_sum += gp * (rest - v)
            gv = gp * (1 - leak)
        else:
            gv = gp
    sums += p * count + here
    tl.store(sums, threshold_sum, mine)
    sums += everything  # twice, for twice as many may need more than 32 bits
    tl.store(sums, gain_sum * unit, mine)
    sums += everything
    tl.store(sums, leak_sum * unit, mine)


@triton.jit
def _reduce(
    sums,
    gain_k,
    drives,
    to_threshold,
    to_gain,
    to_leak,
    batch,
    neurons,
    everything,
    DRIVEN: tl.constexpr,
    WIDTH: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """A candidate: its part of `sums`, see _backward, over samples, and over neurons but for thresholds.
    gain_k: a column of the table. drives: [P]. to_threshold: [P, N], to_gain, to_leak: [P]; float64.
    DRIVEN: see _Layer."""
    p = tl.program_id(0).to(tl.int64)
    row, column = tl.arange(0, ROWS), tl.arange(0, COLUMNS)
    gains, leaks = tl.zeros([COLUMNS], tl.float64), tl.zeros([COLUMNS], tl.float64)
    for start in range(0, neurons, COLUMNS):
        neuron = start + column
        thresholds = tl.zeros([COLUMNS], tl.float64)
        for first in range(0, batch, ROWS):
            sample = first + row
            mine = (sample < batch)[:, None] & (neuron < neurons)[None, :]
            at = sums + (p * batch + sample[:, None]) * neurons + neuron[None, :]
            thresholds += tl.sum(tl.load(at, mine, other=0).to(tl.float64), 0)
            at += everything
            gains += tl.sum(tl.load(at, mine, other=0).to(tl.float64), 0)
            at += everything
            leaks += tl.sum(tl.load(at, mine, other=0).to(tl.float64), 0)
        tl.store(to_threshold + p * neurons + neuron, thresholds, neuron < neurons)
    gain = tl.sum(gains, 0)
    if DRIVEN:
        gain += tl.load(drives + p) / tl.load(gain_k + p * WIDTH)
    tl.store(to_gain + p, gain)
    tl.store(to_leak + p, tl.sum(leaks, 0))


class _Kept:
    """What the backward pass needs of a scan: of every neuron and step `membranes`, int32 [P, T, B, N], the
    table [P, 12], thresholds [P, N], and of every part adaptations [Q, T, B, N]; a [1] stands for what is not
    needed."""

    def __init__(self, spikes: Tensor, c: Constants, parts: Sequence[Part], learns: bool):
        self.learns = learns
        self.membranes = spikes.new_empty(spikes.shape if learns else 1, dtype=torch.int32)
        self.table = torch.stack([getattr(c, name).reshape(-1) for name in _COLUMNS], 1)
        self.threshold = c.threshold.contiguous()
        self.adaptations = [
            spikes.new_empty(
                (len(members), *spikes.shape[1:]) if learns and model == "homeostatic_lif" else 1
            )
            for model, members, _ in parts
        ]

    @property
    def tensors(self) -> list[Tensor]:
        return [self.membranes, self.table, self.threshold, *self.adaptations]


def _kinds(model: str) -> dict[str, bool]:
    """What of a model the kernels are compiled for, forward and back."""
    return dict(
        LEAKS=model not in ("if", "izhikevich"),
        ADAPTS=model == "homeostatic_lif",
        IZHIKEVICH=model == "izhikevich",
    )


def _grid(members: Tensor, count: int) -> tuple[int, int]:
    return triton.cdiv(count, BLOCK), len(members)


def _settings(model: str, dtype: torch.dtype) -> dict:
    """What a kernel that goes forward is compiled for besides."""
    return dict(NOISY=model == "stochastic_lif", TYPE=tl.float64 if dtype == torch.float64 else tl.float32)


class _Scan(torch.autograd.Function):
    """Spikes [P, T, B, N] of currents; gradients to current, threshold, gain_k and leak_k."""

    @staticmethod
    def forward(ctx, current, c, parts, fraction, refractory, *_):
        if current.stride(3) != 1:
            current = current.contiguous()
        _, steps, batch, neurons = current.shape
        one = float(2**fraction)
        spikes = current.new_empty(current.shape)
        kept = _Kept(spikes, c, parts, any(ctx.needs_input_grad))
        for (model, members, dtype), adaptations in zip(parts, kept.adaptations, strict=True):
            _forward[_grid(members, batch * neurons)](
                members,
                current,
                kept.threshold,
                kept.table,
                c.noise,
                spikes,
                kept.membranes,
                adaptations,
                steps,
                neurons,
                batch * neurons,
                *current.stride()[:3],
                1 / one,
                float(round(1.4 * one)),
                **_kinds(model),
                **_settings(model, dtype),
                REFRACTORY=refractory,
                LEARNS=kept.learns,
                BLOCK=BLOCK,
            )
        ctx.save_for_backward(current, *kept.tensors)
        ctx.parts, ctx.one = parts, one
        return spikes

    @staticmethod
    def backward(ctx, gradient):
        current, *kept = ctx.saved_tensors
        to_current = torch.empty_like(current)  # laid out like it where that leaves no gaps
        if to_current.stride(3) != 1:
            to_current = current.new_empty(current.shape)
        sums = _back_through_scan(ctx.parts, gradient, current, kept, to_current, ctx.one)
        return to_current, None, None, None, None, *_to_learned(sums, kept[1], None)


def _back_through_scan(
    parts: Sequence[Part],
    gradient: Tensor,
    current: Tensor | None,
    kept: Sequence[Tensor],
    to_current: Tensor,
    one: float,
) -> Tensor:
    """Fills in the gradient to the current; returns the sums of _backward. current: None where the layer is
    fused."""
    count, steps, batch, neurons = gradient.shape
    if gradient.stride(3) != 1:
        gradient = gradient.contiguous()
    membranes, table, threshold, *adaptations = kept
    sums = gradient.new_empty(3, count, batch, neurons)
    source = gradient if current is None else current
    for (model, members, _), own in zip(parts, adaptations, strict=True):
        _backward[_grid(members, batch * neurons)](
            members,
            gradient,
            source,
            threshold,
            table,
            membranes,
            own,
            to_current,
            sums,
            steps,
            neurons,
            batch * neurons,
            count * batch * neurons,
            *gradient.stride()[:3],
            *source.stride()[:3],
            *to_current.stride()[:3],
            1 / one,
            math.pi / 2 * ALPHA,
            ALPHA / 2,
            **_kinds(model),
            FUSED=current is None,
            BLOCK=BLOCK,
        )
    return sums


def _to_learned(sums: Tensor, table: Tensor, drives: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients to threshold [P, 1, N], gain_k and leak_k [P, 1, 1], float64. drives: see _Layer."""
    _, count, batch, neurons = sums.shape
    to_threshold = table.new_empty(count, 1, neurons)
    to_gain, to_leak = table.new_empty(count, 1, 1), table.new_empty(count, 1, 1)
    _reduce[(count,)](
        sums,
        table[:, _GAIN],
        table if drives is None else drives,
        to_threshold,
        to_gain,
        to_leak,
        batch,
        neurons,
        count * batch * neurons,
        DRIVEN=drives is not None,
        WIDTH=len(_COLUMNS),
        ROWS=32,
        COLUMNS=64,
    )
    return to_threshold, to_gain, to_leak


def scan(current: Tensor, c: Constants, parts: Sequence[Part], fraction: int, refractory: bool) -> Tensor:
    """All T steps of a layer whose candidates have the models in `parts`; see neurons.scan_reference. c:
    float64."""
    return _Scan.apply(current, c, parts, fraction, refractory, c.threshold, c.gain_k, c.leak_k)


# -- counts and scan in one ---------------------------------------------------------------------


def _warps(rows: int, columns: int) -> int:
    """Warps of one program: each has products of 16 rows and 8 columns of its own, and spills nothing."""
    return 8 if rows * columns >= 1024 else 4


@triton.jit(do_not_specialize=["steps", "batch", "slices", "inputs", "neurons", "apart"])
def _layer(
    members,
    source,
    matrices,
    threshold,
    table,
    noise,
    spikes,
    membranes,
    adaptations,
    steps,
    batch,
    slices,
    inputs,
    neurons,
    apart,
    unit,
    c14,
    FACTOR: tl.constexpr,
    FACTOR_OUT: tl.constexpr,
    DELAYED: tl.constexpr,
    INPUTS: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    WIDENED: tl.constexpr,
    LEAKS: tl.constexpr,
    NOISY: tl.constexpr,
    ADAPTS: tl.constexpr,
    IZHIKEVICH: tl.constexpr,
    LEARNS: tl.constexpr,
    TYPE: tl.constexpr,
):
    """One of the Q members (axis 1 of the grid), ROWS samples of COLUMNS neurons (axis 0, those of the same
    samples one after another, so that they find the spikes in a cache).

    source: [P or 1, T, B, inputs] float32, candidates `apart` rows apart. matrices: [P, slices, inputs,
    neurons] bfloat16, of each delay, of which there is but one if not DELAYED. inputs, neurons: divided by
    FACTOR, FACTOR_OUT. INPUTS: a power of two, inputs and what fills up. WIDENED: operands, rounded to
    bfloat16, are multiplied as float32, because the interpreter would take the bits of bfloat16 for numbers.
    The others as in _forward.
    """
    q = tl.program_id(1).to(tl.int64)
    p = tl.load(members + q)
    inputs, neurons = inputs * FACTOR, neurons * FACTOR_OUT  # so that what they can be divided by is known
    blocks = (neurons + COLUMNS - 1) // COLUMNS
    sample = tl.program_id(0) // blocks * ROWS + tl.arange(0, ROWS)
    neuron = tl.program_id(0) % blocks * COLUMNS + tl.arange(0, COLUMNS)
    i = tl.arange(0, INPUTS)
    here = sample[:, None] * neurons + neuron[None, :]
    mine = (sample < batch)[:, None] & (neuron < neurons)[None, :]
    given_at = sample[:, None] * inputs + i[None, :]
    given_mine = (sample < batch)[:, None] & (i < inputs)[None, :]
    entry = i[:, None] * neurons + neuron[None, :]
    entry_mine = (i < inputs)[:, None] & (neuron < neurons)[None, :]
    limit = tl.load(threshold + p * neurons + neuron, neuron < neurons, other=0).to(TYPE)[None, :]
    waiting = tl.zeros([ROWS, COLUMNS], TYPE)
    constants, v, slow = _start(table + p * _WIDTH, unit, waiting, IZHIKEVICH)
    source += p * apart * inputs
    matrices += p * slices * inputs * neurons
    matrix = tl.load(matrices + entry, entry_mine, other=0)  # stays, where it is the only one
    for t in range(steps):
        total = tl.zeros([ROWS, COLUMNS], tl.float32)
        for d in range(slices if DELAYED else 1):
            there = given_mine
            if DELAYED:
                matrix = tl.load(matrices + d * inputs * neurons + entry, entry_mine, other=0)
                there = given_mine & (given_at * 0 + t >= d)
            s = tl.load(source - d * batch * inputs + given_at, there, other=0).to(tl.bfloat16)
            own = matrix
            if WIDENED:
                s, own = s.to(tl.float32), matrix.to(tl.float32)
            total = tl.dot(s, own, total)
        source += batch * inputs
        at = (p * steps + t) * batch * neurons + here
        if LEARNS and ADAPTS:
            tl.store(adaptations + (q * steps + t) * batch * neurons + here, slow.to(tl.float32), mine)
        fired, kept, v, slow, waiting = _update(
            total.to(TYPE),
            v,
            slow,
            waiting,
            limit,
            tl.load(noise + p * steps + t).to(TYPE),
            constants,
            unit,
            c14,
            LEAKS,
            NOISY,
            ADAPTS,
            IZHIKEVICH,
            False,
        )
        tl.store(spikes + at, tl.where(fired, 1.0, 0.0), mine)
        if LEARNS:
            tl.store(membranes + at, kept, mine)


class _Layer(torch.autograd.Function):
    """Spikes [P, T, B, n_out] of the spikes before: Synapses and _Scan in one kernel, forward. A current is
    never written. The backward pass needs none either: where it was clamped a bit tells its value; elsewhere
    the gradient to gain_k is the sum of gradient times current over gain_k, and that sum follows from the
    gradients to the weights, see back_through_synapses. Gradients as those of Synapses and _Scan."""

    @staticmethod
    def forward(ctx, learns, spikes, weights, positions, given, c, parts, *_):
        count, slices, inputs, neurons = given.matrices.shape
        steps, batch = spikes.shape[1:3]
        spikes = spikes.contiguous()
        out = spikes.new_empty(count, steps, batch, neurons)
        kept = _Kept(out, c, parts, learns)
        factors = [math.gcd(n, 16) for n in (inputs, neurons)]
        for (model, members, dtype), adaptations in zip(parts, kept.adaptations, strict=True):
            rows = ROWS // 2 if dtype == torch.float64 else ROWS
            columns = columns_of(inputs, neurons, slices - 1)
            grid = triton.cdiv(neurons, columns) * triton.cdiv(batch, rows), len(members)
            _layer[grid](
                members,
                spikes,
                given.matrices,
                kept.threshold,
                kept.table,
                c.noise,
                out,
                kept.membranes,
                adaptations,
                steps,
                batch,
                slices,
                inputs // factors[0],
                neurons // factors[1],
                steps * batch if len(spikes) > 1 else 0,
                1 / given.one,
                float(round(1.4 * given.one)),
                FACTOR=factors[0],
                FACTOR_OUT=factors[1],
                DELAYED=slices > 1,
                INPUTS=tile(inputs),
                ROWS=rows,
                COLUMNS=columns,
                WIDENED=triton.knobs.runtime.interpret,
                **_kinds(model),
                **_settings(model, dtype),
                LEARNS=kept.learns,
                num_warps=_warps(rows, columns),
                num_stages=2,
            )
        ctx.save_for_backward(spikes, *given[:5], *kept.tensors)
        ctx.parts, ctx.rest = parts, given[5:]
        return out

    @staticmethod
    def backward(ctx, gradient):
        spikes, *tensors = ctx.saved_tensors
        given, kept = Given(*tensors[:5], *ctx.rest), tensors[5:]
        count, steps, batch, neurons = gradient.shape
        if len(spikes) == 1:  # laid out for the product of all candidates
            to_current = gradient.new_empty(steps, batch, count, neurons).permute(2, 0, 1, 3)
        else:
            to_current = gradient.new_empty(count, steps, batch, neurons)
        sums = _back_through_scan(ctx.parts, gradient, None, kept, to_current, given.one)
        drives = gradient.new_zeros(count, dtype=torch.float64)
        wanted = ctx.needs_input_grad[1]
        found = back_through_synapses(to_current, spikes, given, wanted, drives, gather=collect)
        return None, *found, None, None, None, *_to_learned(sums, kept[1], drives)


def layer(spikes: Tensor, given: Given, c: Constants, parts: Sequence[Part]) -> Tensor:
    """Spikes [P, T, B, n_out] of a layer that fuses: synapses.Synapses, with bfloat16 matrices, and scan
    without a refractory period."""
    # Asked here: within a function no gradient is ever enabled, and what it needs is said of leaves always.
    learns = torch.is_grad_enabled()
    return _Layer.apply(
        learns, spikes, given.weights, given.positions, given, c, parts, c.threshold, c.gain_k, c.leak_k
    )

"""Neuron models: one update a step, exact integers in the forward pass, surrogate gradients behind.

Letters: P candidates side by side, T steps, B samples, N neurons. Numbers are integers in Q(F) held
in floating point; `exact_dtype` says which one holds them exactly. SEMANTICS section 3 is the law.

Gradients: a floor is the identity, saturation stops what it clamps, a spike is the arctangent
surrogate of Fang et al. 2021 ("Incorporating learnable membrane time constant"), and the reset is
not differentiated through (Zenke and Vogels 2021 found that this trains better).
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from scnas.snn.backends import has_kernels
from scnas.snn.cpu.kernels import ALPHA


class Constants(NamedTuple):
    """Constants of one layer in Q(F), each [P, 1, 1], integers held in floating point.

    threshold: [P, 1, N]. refractory: steps. bound: 2^(W - 1). noise: [P, T], what stochastic_lif adds.
    scale: what counts as a large distance to the threshold, for the surrogate.
    """

    threshold: Tensor
    leak_k: Tensor
    gain_k: Tensor
    decay_k: Tensor
    bump_k: Tensor
    a_k: Tensor
    b_k: Tensor
    d_k: Tensor
    v_rest: Tensor
    v_reset: Tensor
    refractory: Tensor
    bound: Tensor
    noise: Tensor
    scale: Tensor

    def select(self, index: Tensor) -> "Constants":
        """The constants of some candidates."""
        return Constants(*(value.index_select(0, index) for value in self))

    def to(self, dtype: torch.dtype) -> "Constants":
        return Constants(*(value.to(dtype) for value in self))


class State(NamedTuple):
    """Of every neuron, [P, B, N]: membrane v, recovery u, adaptation a, refractory steps left."""

    v: Tensor
    u: Tensor
    a: Tensor
    waiting: Tensor


def exact_dtype(model: str, word: int, fraction: int, powers_of_two: bool) -> torch.dtype:
    """The smallest float type in which every intermediate of a neuron update is an exact integer.

    With power-of-two constants a product only moves the exponent, so the largest number is a sum
    of v and a gained current below 2^(2W - 2 - F); anything below 2^24 is exact in float32.
    Arbitrary constants, and the square in izhikevich, need up to 3W bits: exact in float64.
    """
    small = 2 * word - 2 - fraction <= 22 and word <= 20
    return torch.float32 if powers_of_two and small and model != "izhikevich" else torch.float64


class _Floor(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return torch.floor(x)

    @staticmethod
    def backward(ctx, gradient):
        return gradient


class _Fire(torch.autograd.Function):
    """1 where x >= 0, with the arctangent surrogate of width `scale` behind it."""

    @staticmethod
    def forward(ctx, x, scale):
        ctx.save_for_backward(x, scale)
        return (x >= 0).to(x.dtype)

    @staticmethod
    def backward(ctx, gradient):
        x, scale = ctx.saved_tensors
        z = (math.pi / 2 * ALPHA) * (x / scale)
        return gradient * (ALPHA / 2) / (1 + z * z) / scale, None


class _IzhikevichField(torch.autograd.Function):
    """4 * mul(v, v) + 6 * v, whose slope 6 + 8v is clipped to -1..1 behind it.

    The quadratic makes gradients through time explode within a few steps; the clip keeps them.
    """

    @staticmethod
    def forward(ctx, v, one):
        ctx.save_for_backward(v)
        ctx.one = one
        return 4 * torch.floor(v * v / one) + 6 * v

    @staticmethod
    def backward(ctx, gradient):
        (v,) = ctx.saved_tensors
        return gradient * (6 + 8 * v / ctx.one).clamp(-1, 1), None


def initial_state(model: str, shape: tuple[int, int, int], c: Constants, one: float) -> State:
    """The state before step 0. shape: (P, B, N). one: 2^F."""
    zero = c.v_rest.new_zeros(shape)
    if model == "izhikevich":
        u = torch.floor(c.b_k * c.v_reset / one)
        return State(zero + c.v_reset, zero + u, zero, zero)
    return State(zero + c.v_rest, zero, zero, zero)


def step(
    model: str, current: Tensor, noise: Tensor, state: State, c: Constants, one: float, refractory: bool
) -> tuple[Tensor, State]:
    """One update. current: [P, B, N]; noise: [P, 1, 1]; refractory: whether any layer here has one.

    returns: spikes [P, B, N] in {0, 1} and the state for the next step.
    """
    low, high = -c.bound, c.bound - 1
    v, u, a, waiting = state

    def mul(x, k):
        return _Floor.apply(x * k / one)

    def saturate(x):
        return torch.clamp(x, low, high)

    if model == "izhikevich":
        p = saturate(_IzhikevichField.apply(v, one) + _constant_1_4(one) - u + mul(current, c.gain_k))
        margin = p - c.threshold
    else:
        p = v + mul(current, c.gain_k)
        if model != "if":
            p = p + mul(c.v_rest - v, c.leak_k)
        if model == "stochastic_lif":
            p = p + noise
        p = saturate(p)
        margin = p - c.threshold - a if model == "homeostatic_lif" else p - c.threshold
    fired = _Fire.apply(margin, c.scale)
    if refractory:
        fired = fired * (waiting == 0)
    hard = fired.detach()
    after = torch.where(hard > 0, c.v_reset, p)
    if refractory:
        after = torch.where(waiting > 0, c.v_rest, after)
        waiting = torch.where(hard > 0, c.refractory, (waiting - 1).clamp(min=0))
    if model == "homeostatic_lif":
        a = saturate(a - mul(a, c.decay_k) + c.bump_k * hard)
    if model == "izhikevich":
        u = saturate(u + mul(mul(v, c.b_k) - u, c.a_k) + c.d_k * hard)
    return fired, State(after, u, a, waiting)


def _constant_1_4(one: float) -> int:
    """1.4 in Q(F): rounded once."""
    return round(1.4 * one)


def scan(
    model: str, current: Tensor, c: Constants, fraction: int, membranes: bool = False,
    refractory: bool | None = None,
) -> tuple[Tensor, Tensor | None]:  # fmt: skip
    """All T steps of a layer of one model: the reference, in plain torch on any device.

    current: [P, T, B, N], saturated already. c: see Constants; its dtype decides the arithmetic.
    refractory: whether any candidate has one; None looks, and waits for the device to do so.
    returns: spikes [P, T, B, N] in the dtype of `current`, and the membrane after every step if asked.
    """
    one = float(2**fraction)
    dtype = c.threshold.dtype
    if refractory is None:
        refractory = bool((c.refractory > 0).any())
    steps = current.to(dtype).unbind(1)
    state = initial_state(model, steps[0].shape, c, one)
    spikes, trace = [], []
    for t, now in enumerate(steps):
        fired, state = step(model, now, c.noise[:, t, None, None], state, c, one, refractory)
        spikes.append(fired)
        if membranes:
            trace.append(state.v)
    return torch.stack(spikes, 1).to(current.dtype), torch.stack(trace, 1) if membranes else None


# Candidates of one model: its name, their places in the stack [Q], and the float type in which its updates
# are exact, see exact_dtype.
Part = tuple[str, Tensor, torch.dtype]


def scan_reference(
    current: Tensor, c: Constants, parts: Sequence[Part], fraction: int, refractory: bool
) -> Tensor:
    """Spikes [P, T, B, N] of a layer whose candidates, each in one of `parts`, have models of their own.

    current: [P, T, B, N] float32, saturated here. c: of all candidates, in the order of the stack.
    refractory: whether any candidate has such a period.
    """
    spikes = []
    for model, members, dtype in parts:
        own = c.select(members).to(dtype)
        bound = own.bound.to(current.dtype)[:, None]
        mine = current.index_select(0, members).clamp(-bound, bound - 1)
        spikes.append(scan(model, mine, own, fraction, refractory=refractory)[0])
    return together(spikes, torch.argsort(torch.cat([members for _, members, _ in parts])))


def together(parts: Sequence[Tensor], order: Tensor) -> Tensor:
    """Rows of several tensors in one; order: where each row of the result stands among theirs."""
    return parts[0] if len(parts) == 1 else torch.cat(list(parts)).index_select(0, order)


def scan_bytes(device: str, fused: bool, adapts: bool) -> tuple[int, int]:
    """Of every neuron and step on a type of device, at most: what is kept for the way back, its spike and
    what the scan remembers, its current where the layer is not `fused`, and its adaptation if it `adapts`;
    and what is there besides while its layer is worked on. The kernels need as much whatever the float type.
    """
    return (8 + 4 * (not fused) + 4 * adapts, 12) if has_kernels(device) else (48, 48)

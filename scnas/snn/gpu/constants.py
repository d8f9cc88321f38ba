"""What neurons learn as the integers that it stands for, and the gradients back, each in one command; see
LayerStack.thresholds and LayerStack.power, which compute the same one by one.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK = 256  # neurons of one turn
# Adding and subtracting it rounds a float64 of up to 2^51 to the nearest whole number, ties to even.
_ROUND = tl.constexpr(1.5 * 2**52)


@triton.jit
def _power(exponent, fraction):
    """2^fraction times a power of two, float64, from a float32 exponent; exact, for it is an integer."""
    given = (exponent.to(tl.float64) + fraction + _ROUND) - _ROUND
    whole = tl.where(given == given, given, 0.0).to(tl.int64)
    power = (tl.zeros_like(whole) + 1 << whole).to(tl.float64)
    return tl.where(given == given, power, given)  # NaN stays NaN


@triton.jit
def _rounded(threshold, start, neurons, unit, BLOCK: tl.constexpr):
    """The thresholds of a candidate's neurons from `start` on as whole numbers, not limited yet, float64;
    where they lie, and which are there."""
    at = start + tl.arange(0, BLOCK)
    mine = at < neurons
    return (tl.load(threshold + at, mine, other=0).to(tl.float64) * unit + _ROUND) - _ROUND, at, mine


@triton.jit
def _learned(
    threshold, gain, leak, base, bound, real, integers, gain_k, leak_k, neurons, fraction, BLOCK: tl.constexpr
):
    """A candidate. threshold, real: [P, neurons]; gain, leak, base, bound: [P]; the others float64."""
    p = tl.program_id(0).to(tl.int64)
    unit, most, own = tl.load(base + p), tl.load(bound + p) - 1, p * neurons
    for start in range(0, neurons, BLOCK):
        whole, at, mine = _rounded(threshold + own, start, neurons, unit, BLOCK)
        whole = tl.maximum(whole, 1.0, tl.PropagateNan.ALL)
        whole = tl.minimum(whole, most, tl.PropagateNan.ALL)
        whole = tl.where(tl.load(real + own + at, mine, other=0) != 0, whole, float("inf"))
        tl.store(integers + own + at, whole, mine)
    tl.store(gain_k + p, _power(tl.load(gain + p), fraction))
    tl.store(leak_k + p, _power(tl.load(leak + p), fraction))


@triton.jit
def _back(
    to_integers,
    to_gain_k,
    to_leak_k,
    threshold,
    gain,
    leak,
    base,
    bound,
    real,
    to_threshold,
    to_gain,
    to_leak,
    neurons,
    fraction,
    BLOCK: tl.constexpr,
):
    """The backward pass; to_integers, to_gain_k and to_leak_k are float64."""
    p = tl.program_id(0).to(tl.int64)
    unit, most, own = tl.load(base + p), tl.load(bound + p) - 1, p * neurons
    for start in range(0, neurons, BLOCK):
        whole, at, mine = _rounded(threshold + own, start, neurons, unit, BLOCK)
        # A clamp passes what it leaves alone, torch.minimum half of what equals its bound.
        passed = tl.where(whole < most, 1.0, tl.where(whole == most, 0.5, 0.0))
        passed = tl.where((whole >= 1) & (tl.load(real + own + at, mine, other=0) != 0), passed, 0.0)
        pull = tl.load(to_integers + own + at, mine, other=0)
        found = tl.where(passed > 0, pull * passed * unit, 0.0)
        tl.store(to_threshold + own + at, found.to(tl.float32), mine)
    tl.store(to_gain + p, (tl.load(to_gain_k + p) * _slope(tl.load(gain + p), fraction)).to(tl.float32))
    tl.store(to_leak + p, (tl.load(to_leak_k + p) * _slope(tl.load(leak + p), fraction)).to(tl.float32))


@triton.jit
def _slope(exponent, fraction):
    """The slope of 2^(exponent + fraction), float64 of a float32."""
    return (tl.exp2(exponent + fraction) * 0.6931471805599453).to(tl.float64)


class _Learned(torch.autograd.Function):
    @staticmethod
    def forward(ctx, threshold, gain, leak, base, bound, real, fraction):
        count, neurons = len(threshold), threshold.shape[2]
        integers = torch.empty_like(threshold, dtype=torch.float64)
        gain_k, leak_k = (torch.empty_like(gain, dtype=torch.float64) for _ in range(2))
        _learned[(count,)](
            threshold,
            gain,
            leak,
            base,
            bound,
            real.view(torch.uint8),
            integers,
            gain_k,
            leak_k,
            neurons,
            fraction,
            BLOCK=BLOCK,
        )
        ctx.save_for_backward(threshold, gain, leak, base, bound, real)
        ctx.fraction = fraction
        return integers, gain_k, leak_k

    @staticmethod
    def backward(ctx, to_integers, to_gain_k, to_leak_k):
        threshold, gain, leak, base, bound, real = ctx.saved_tensors
        found = [torch.empty_like(x) for x in (threshold, gain, leak)]
        _back[(len(threshold),)](
            to_integers.contiguous(),
            to_gain_k.contiguous(),
            to_leak_k.contiguous(),
            threshold,
            gain,
            leak,
            base,
            bound,
            real.view(torch.uint8),
            *found,
            threshold.shape[2],
            ctx.fraction,
            BLOCK=BLOCK,
        )
        return *found, None, None, None, None


def learned(
    threshold: Tensor, gain: Tensor, leak: Tensor, base: Tensor, bound: Tensor, real: Tensor, fraction: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Thresholds [P, 1, N], infinite where a neuron is padding, gain_k and leak_k [P, 1, 1], powers of two;
    float64 integers in Q(F), straight through the rounding.

    threshold: [P, 1, N], multiples of base. gain, leak: [P, 1, 1], base-2 logarithms. base, bound: [P, 1, 1]
    float64, bound 2^(W - 1). real: [P, 1, N] bool, which neurons are no padding.
    """
    return _Learned.apply(threshold, gain, leak, base, bound, real, fraction)

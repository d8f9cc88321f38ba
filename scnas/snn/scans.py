"""The whole time loop of a layer in one call: scan(), by the fastest means of the device.

On a CPU two Numba kernels, forward and the hand-derived backward, run every model of a stack with
the state in cache; elsewhere the reference of neurons.py runs, model by model. Both compute the
same integers and the same gradients.

Letters: P candidates, T steps, B samples, N neurons.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from numba import njit
from torch import Tensor

from scnas.snn.neurons import ALPHA, Constants, exact_dtype
from scnas.snn.neurons import scan as reference_scan

# What a step remembers for the backward pass, one byte per neuron.
IN_RANGE, WAITING, SLOW_IN_RANGE = 1, 2, 4

# The arctangent surrogate, HEIGHT / (1 + (STEEP * x)^2), with x in units of the scale.
_STEEP, _HEIGHT = np.float32(math.pi / 2 * ALPHA), np.float32(ALPHA / 2)

# Columns of the table of constants that the kernels read, each [P].
LEAK, GAIN, DECAY, BUMP, A, B, D, REST, RESET, REFRACTORY, BOUND, SCALE = range(12)
_COLUMNS = (
    "leak_k", "gain_k", "decay_k", "bump_k", "a_k", "b_k", "d_k", "v_rest", "v_reset", "refractory",
    "bound", "scale",
)  # fmt: skip


def scan(
    models: Sequence[str], current: Tensor, c: Constants, fraction: int, word: int, powers_of_two: bool
) -> Tensor:
    """Spikes [P, T, B, N] of a stack of layers, gradients to the current, threshold, gain and leak.

    models: of each candidate. current: [P, T, B, N] float32, saturated. c: float64 on the device of
    current. word: the widest of the candidates. powers_of_two: whether gain_k and leak_k all are.
    """
    if current.device.type == "cpu":
        return _Fused.apply(
            current, c.threshold, c.gain_k, c.leak_k, c, tuple(models), fraction, word, powers_of_two
        )
    return by_model(models, current, c, fraction, word, powers_of_two)


def by_model(
    models: Sequence[str], current: Tensor, c: Constants, fraction: int, word: int, powers_of_two: bool
) -> Tensor:
    """The same by the reference scan, on any device."""
    parts, indices = [], []
    for model in dict.fromkeys(models):
        index = torch.tensor([p for p, m in enumerate(models) if m == model], device=current.device)
        constants = c.select(index).to(exact_dtype(model, word, fraction, powers_of_two))
        parts.append(reference_scan(model, current.index_select(0, index), constants, fraction)[0])
        indices.append(index)
    if len(parts) == 1:
        return parts[0]
    return torch.cat(parts).index_select(0, torch.argsort(torch.cat(indices)))


class _Fused(torch.autograd.Function):
    @staticmethod
    def forward(ctx, current, threshold, gain_k, leak_k, c, models, fraction, word, powers_of_two):
        current = current.contiguous()
        count, timesteps, batch, neurons = current.shape
        table = np.stack([getattr(c, name).detach().numpy().reshape(count) for name in _COLUMNS], 1)
        plain = np.array([m == "if" for m in models])
        table[plain, LEAK] = 0
        adapting = np.array([m == "homeostatic_lif" for m in models])
        table[~adapting, DECAY] = table[~adapting, BUMP] = 0
        noise = c.noise.numpy() * np.array([m == "stochastic_lif" for m in models])[:, None]
        limits = threshold.detach().numpy().reshape(count, neurons)
        shape = current.shape
        spikes = np.empty(shape, np.float32)
        margin, before = np.empty(shape, np.float32), np.empty(shape, np.float32)
        flags = np.empty(shape, np.uint8)
        runs = []
        for kernels, wanted in (
            (_LIF, lambda m: m != "izhikevich"),
            (_IZHIKEVICH, lambda m: m == "izhikevich"),
        ):
            index = np.array([p for p, m in enumerate(models) if wanted(m)], dtype=np.int64)
            if len(index):
                exact = exact_dtype(models[index[0]], word, fraction, powers_of_two)
                dtype = np.float32 if exact == torch.float32 else np.float64
                runs.append((kernels, index, dtype))
                kernels[0](
                    index, current.numpy(), limits.astype(dtype), table.astype(dtype), noise.astype(dtype),
                    dtype(2**fraction), dtype(round(1.4 * 2**fraction)), spikes, margin, before, flags,
                )  # fmt: skip
        ctx.kept = current, torch.from_numpy(spikes), margin, before, flags, table, plain, runs
        ctx.one = float(2**fraction)
        return ctx.kept[1]

    @staticmethod
    def backward(ctx, gradient):
        current, spikes, margin, before, flags, table, plain, runs = ctx.kept
        count, _, _, neurons = current.shape
        to_current = np.empty(current.shape, np.float32)
        to_threshold = np.zeros((count, neurons))
        to_gain, to_leak = np.zeros(count), np.zeros(count)
        for kernels, index, _ in runs:
            kernels[1](
                index, gradient.contiguous().numpy(), current.numpy(), spikes.numpy(), margin, before, flags,
                table.astype(np.float32), np.float32(ctx.one), _STEEP, _HEIGHT,
                to_current, to_threshold, to_gain, to_leak,
            )  # fmt: skip
        to_leak[plain] = 0  # `if` has none
        return (
            torch.from_numpy(to_current), torch.from_numpy(to_threshold)[:, None],
            torch.from_numpy(to_gain).view(-1, 1, 1), torch.from_numpy(to_leak).view(-1, 1, 1),
            None, None, None, None, None,
        )  # fmt: skip


# Every array is indexed by candidate, so a kernel takes its candidates in place. The inner loop runs
# over neurons, contiguous and without branches between its iterations, so that it vectorises. A
# product with a power of two and its floor are exact in either float type; see exact_dtype.


@njit(cache=True, error_model="numpy")
def _lif_forward(index, current, threshold, k, noise, one, _, spikes, margin, before, flags):
    timesteps, batch, neurons = current.shape[1:]
    v = np.empty(neurons, k.dtype)
    a = np.empty(neurons, k.dtype)
    waiting = np.empty(neurons, k.dtype)
    zero, unit = k.dtype.type(0), k.dtype.type(1)
    for p in index:
        leak, gain = k[p, LEAK] / one, k[p, GAIN] / one
        decay, bump = k[p, DECAY] / one, k[p, BUMP]
        rest, reset, pause, bound = k[p, REST], k[p, RESET], k[p, REFRACTORY], k[p, BOUND]
        limit = threshold[p]
        adapts = bump != zero or decay != zero
        for b in range(batch):
            v[:] = rest
            a[:] = zero
            waiting[:] = zero
            for t in range(timesteps):
                added = noise[p, t]
                drive, fire = current[p, t, b], spikes[p, t, b]
                over, old, flag = margin[p, t, b], before[p, t, b], flags[p, t, b]
                for n in range(neurons):
                    raw = v[n] + np.floor(drive[n] * gain) + np.floor((rest - v[n]) * leak) + added
                    x = min(max(raw, -bound), bound - unit)
                    gap = x - limit[n] - a[n]
                    waits = waiting[n] > zero
                    fires = gap >= zero and not waits
                    old[n] = v[n]
                    over[n] = gap
                    fire[n] = 1.0 if fires else 0.0
                    flag[n] = (IN_RANGE if raw == x else 0) | (WAITING if waits else 0)
                    v[n] = rest if waits else (reset if fires else x)
                    waiting[n] = pause if fires else max(waiting[n] - unit, zero)
                if adapts:
                    for n in range(neurons):
                        raw = a[n] - np.floor(a[n] * decay) + (bump if fire[n] > 0 else zero)
                        a[n] = min(max(raw, -bound), bound - unit)


@njit(cache=True, error_model="numpy", fastmath={"reassoc", "contract"})
def _lif_backward(
    index, gradient, current, spikes, margin, before, flags, k, one, steep, height,
    to_current, to_threshold, to_gain, to_leak,
):  # fmt: skip
    # The adaptation of homeostatic_lif depends on spikes alone, behind the reset: no gradient.
    timesteps, batch, neurons = current.shape[1:]
    gv = np.empty(neurons, np.float32)
    gt = np.empty(neurons, np.float32)
    nothing, unit = np.float32(0), np.float32(1)
    for p in index:
        leak, gain = k[p, LEAK] / one, k[p, GAIN] / one
        rest, scale = k[p, REST], k[p, SCALE]
        slope, keep, top = steep / scale, unit - leak, height / scale
        gt[:] = nothing
        total_gain = total_leak = 0.0
        for b in range(batch):
            gv[:] = nothing
            for t in range(timesteps - 1, -1, -1):
                g, drive, fire = gradient[p, t, b], current[p, t, b], spikes[p, t, b]
                over, old, flag, out = margin[p, t, b], before[p, t, b], flags[p, t, b], to_current[p, t, b]
                sum_gain = sum_leak = nothing
                for n in range(neurons):
                    z = slope * over[n]
                    active = nothing if flag[n] & WAITING else unit
                    gm = g[n] * top / (unit + z * z) * active
                    gp = (gm + gv[n] * (unit - fire[n]) * active) * (unit if flag[n] & IN_RANGE else nothing)
                    gt[n] -= gm
                    sum_gain += gp * drive[n]
                    sum_leak += gp * (rest - old[n])
                    out[n] = gp * gain
                    gv[n] = gp * keep
                total_gain += sum_gain
                total_leak += sum_leak
        to_gain[p] = total_gain / one
        to_leak[p] = total_leak / one
        for n in range(neurons):
            to_threshold[p, n] = gt[n]


@njit(cache=True, error_model="numpy")
def _izhikevich_forward(index, current, threshold, k, _, one, c14, spikes, margin, before, flags):
    timesteps, batch, neurons = current.shape[1:]
    v = np.empty(neurons, k.dtype)
    u = np.empty(neurons, k.dtype)
    waiting = np.empty(neurons, k.dtype)
    zero, unit = k.dtype.type(0), k.dtype.type(1)
    for p in index:
        gain, ka, kb, bump = k[p, GAIN] / one, k[p, A] / one, k[p, B] / one, k[p, D]
        rest, reset, pause, bound = k[p, REST], k[p, RESET], k[p, REFRACTORY], k[p, BOUND]
        limit = threshold[p]
        for b in range(batch):
            v[:] = reset
            u[:] = np.floor(kb * reset)
            waiting[:] = zero
            for t in range(timesteps):
                drive, fire = current[p, t, b], spikes[p, t, b]
                over, old, flag = margin[p, t, b], before[p, t, b], flags[p, t, b]
                for n in range(neurons):
                    raw = 4 * np.floor(v[n] * v[n] / one) + 6 * v[n] + c14 - u[n] + np.floor(drive[n] * gain)
                    x = min(max(raw, -bound), bound - unit)
                    gap = x - limit[n]
                    waits = waiting[n] > zero
                    fires = gap >= zero and not waits
                    slow = u[n] + np.floor((np.floor(v[n] * kb) - u[n]) * ka) + (bump if fires else zero)
                    u[n] = min(max(slow, -bound), bound - unit)
                    old[n] = v[n]
                    over[n] = gap
                    fire[n] = 1.0 if fires else 0.0
                    flag[n] = (
                        (IN_RANGE if raw == x else 0)
                        | (WAITING if waits else 0)
                        | (SLOW_IN_RANGE if slow == u[n] else 0)
                    )
                    v[n] = rest if waits else (reset if fires else x)
                    waiting[n] = pause if fires else max(waiting[n] - unit, zero)


@njit(cache=True, error_model="numpy", fastmath={"reassoc", "contract"})
def _izhikevich_backward(
    index, gradient, current, spikes, margin, before, flags, k, one, steep, height,
    to_current, to_threshold, to_gain, to_leak,
):  # fmt: skip
    timesteps, batch, neurons = current.shape[1:]
    gv = np.empty(neurons, np.float32)
    gu = np.empty(neurons, np.float32)
    gt = np.empty(neurons, np.float32)
    nothing, unit = np.float32(0), np.float32(1)
    for p in index:
        gain, ka, kb = k[p, GAIN] / one, k[p, A] / one, k[p, B] / one
        scale = k[p, SCALE]
        slope, stay, cross, top = steep / scale, unit - ka, ka * kb, height / scale
        gt[:] = nothing
        total_gain = 0.0
        for b in range(batch):
            gv[:] = nothing
            gu[:] = nothing
            for t in range(timesteps - 1, -1, -1):
                g, drive, fire = gradient[p, t, b], current[p, t, b], spikes[p, t, b]
                over, old, flag, out = margin[p, t, b], before[p, t, b], flags[p, t, b], to_current[p, t, b]
                sum_gain = nothing
                for n in range(neurons):
                    z = slope * over[n]
                    active = nothing if flag[n] & WAITING else unit
                    gm = g[n] * top / (unit + z * z) * active
                    gp = (gm + gv[n] * (unit - fire[n]) * active) * (unit if flag[n] & IN_RANGE else nothing)
                    gt[n] -= gm
                    sum_gain += gp * drive[n]
                    out[n] = gp * gain
                    slow = gu[n] if flag[n] & SLOW_IN_RANGE else nothing
                    bend = min(max(np.float32(6) + np.float32(8) * old[n] / one, -unit), unit)
                    gv[n] = gp * bend + slow * cross
                    gu[n] = slow * stay - gp
                total_gain += sum_gain
        to_gain[p] = total_gain / one
        for n in range(neurons):
            to_threshold[p, n] = gt[n]


_LIF = _lif_forward, _lif_backward
_IZHIKEVICH = _izhikevich_forward, _izhikevich_backward

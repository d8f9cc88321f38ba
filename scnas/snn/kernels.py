"""The CPU's way through one layer of one candidate: compiled loops that stay in cache.

What the stacked tensors of population.py compute for all candidates at once, these kernels compute
sample by sample, with the same integers forward and the same hand-derived gradients backward. Three
things make them fast: a sample's currents and states never leave the cache; a spike adds one row of
the matrix and a silent input costs nothing; and a rate-coded input is a thermometer (it spikes in the
steps whose reversed index lies below its level), so that its currents in all T steps are running sums
of T partial sums, and the first layer costs one row per input instead of one per spike.

Letters: T steps, B samples, D largest delay, S = 1 for streams that repeat every step (sobol), else T.
matrix: [D + 1, S, n_in, n_out], turned: [D + 1, S, n_out, n_in] float32, signed ones in current units,
one slice per delay. Spikes are uint8. Only the first n_in and n_out of padded arrays are touched.
"""

import math

import numpy as np
from numba import njit

from scnas.snn.neurons import ALPHA

# What a step remembers for the way back, one byte per neuron.
MEMBRANE_IN_RANGE, WAITING, RECOVERY_IN_RANGE, CURRENT_IN_RANGE = 1, 2, 4, 8

# The arctangent surrogate, HEIGHT / (1 + (STEEP * x)^2), with x in units of the scale.
STEEP, HEIGHT = np.float32(math.pi / 2 * ALPHA), np.float32(ALPHA / 2)

# Constants of a layer in one vector; see neurons.Constants. C14 is 1.4 in Q(F).
LEAK, GAIN, DECAY, BUMP, A, B, D, REST, RESET, REFRACTORY, BOUND, SCALE, ONE, C14 = range(14)

_exact = njit(cache=True, error_model="numpy")
_loose = njit(cache=True, error_model="numpy", fastmath={"reassoc", "contract"})


@_exact
def prepare(weight, keep, position, top, unit, table, matrix, turned):
    """Fill `matrix` and, where it has slices, `turned` with the integers behind real weights.

    weight, keep, position: [n_in, n_out]. top: M. unit: 2^F / L, what a count of one adds. table:
    [T, M + 1], ones of a magnitude times unit; empty where a stream holds exactly w ones.
    """
    slices, streams, n_in, n_out = matrix.shape
    for s in range(streams):
        for i in range(n_in):
            for j in range(n_out):
                w = np.rint(weight[i, j] * top)
                if not keep[i, j]:
                    value = np.float32(0)
                elif len(table) == 0 or w != w:  # what is no number stays none and is no index
                    value = w * unit
                else:
                    value = table[s, int(abs(w))] if w >= 0 else -table[s, int(abs(w))]
                for d in range(slices):
                    matrix[d, s, i, j] = value
                    if slices > 1 and np.rint(position[i, j]) != d:
                        matrix[d, s, i, j] = 0
        if len(turned):
            for d in range(slices):
                turned[d, s] = matrix[d, s].T


@_loose
def readout(raw, labels, factor, gradient):
    """Cross-entropy of scores summed over the steps, [B, T, classes] raw; its mean over the batch and
    the gradient to the logarithm of `factor`, what turns a score into a logit.

    gradient: [B, T, classes] float32 out, with respect to raw.
    """
    batch, timesteps, classes = raw.shape
    loss = to_factor = 0.0
    logits = np.empty(classes)
    for b in range(batch):
        logits[:] = 0
        for t in range(timesteps):
            for j in range(classes):
                logits[j] += raw[b, t, j] * factor
        top = logits.max()
        total = np.exp(logits - top).sum()
        loss += math.log(total) + top - logits[labels[b]]
        for j in range(classes):
            slope = (math.exp(logits[j] - top) / total - (1.0 if j == labels[b] else 0.0)) / batch
            to_factor += slope * logits[j]
            for t in range(timesteps):
                gradient[b, t, j] = slope * factor
    return loss / batch, to_factor


@_exact
def _compact(spikes, active):
    """How many of `spikes` [n] are set; their indices come first in `active`, [n + 1].

    Without a branch: which inputs spike is what a processor cannot guess.
    """
    count = 0
    for i in range(len(spikes)):
        active[count] = i
        count += spikes[i] != 0
    return count


@_exact
def _add_spikes(spikes, matrix, active, current):
    """current [T, n_out] += what input spikes [T, n_in] of one sample bring."""
    slices, streams = matrix.shape[:2]
    timesteps = len(spikes)
    for arrives in range(timesteps):
        count = _compact(spikes[arrives], active)
        for d in range(min(slices, timesteps - arrives)):
            row = current[arrives + d]
            at = matrix[d, arrives + d if streams > 1 else 0]
            n = 0
            while n + 4 <= count:
                first, second = at[active[n]], at[active[n + 1]]
                third, fourth = at[active[n + 2]], at[active[n + 3]]
                for j in range(len(row)):
                    row[j] += (first[j] + second[j]) + (third[j] + fourth[j])
                n += 4
            while n < count:
                first = at[active[n]]
                for j in range(len(row)):
                    row[j] += first[j]
                n += 1


@_exact
def _add_levels(levels, ramp, matrix, part, current):
    """The same for rate-coded inputs of levels 0..T, [n_in], and streams that repeat every step.

    ramp: [T], R_T(t): a level q spikes in the steps t with ramp[t] < q. part: [T, n_out] scratch.
    """
    timesteps = len(ramp)
    for d in range(len(matrix)):
        part[:] = 0
        for i in range(len(levels)):
            if levels[i]:
                add, row = matrix[d, 0, i], part[levels[i] - 1]
                for j in range(len(row)):
                    row[j] += add[j]
        for r in range(timesteps - 1, -1, -1):  # an input of level q > r spikes in step ramp[r]
            row = part[r]
            if r < timesteps - 1:
                above = part[r + 1]
                for j in range(len(row)):
                    row[j] += above[j]
            if ramp[r] + d < timesteps:
                out = current[ramp[r] + d]
                for j in range(len(row)):
                    out[j] += row[j]


@_exact
def forward(
    x, rated, ramp, matrix, fires, izhikevich, threshold, noise, k, current, spikes, margin, before, flags
):
    """One layer over a batch.

    x: levels [B, 1, n_in] if rated, else spikes [B, T, n_in]; uint8. threshold, noise, k: in the
    float type that holds the neuron's integers exactly. current, margin, before: [B, T, n_out]
    float32 out; spikes, flags: uint8 out. What `before` and `margin` hold is the membrane before the
    step and its distance to the threshold.
    """
    batch, timesteps, n_out = current.shape
    part = np.empty((timesteps, n_out), np.float32)
    active = np.empty(x.shape[2] + 1, np.int64)
    bound = np.float32(k[BOUND])
    v, slow, waiting = np.empty(n_out, k.dtype), np.empty(n_out, k.dtype), np.empty(n_out, k.dtype)
    for b in range(batch):
        now = current[b]
        now[:] = 0
        if rated:
            _add_levels(x[b, 0], ramp, matrix, part, now)
        else:
            _add_spikes(x[b], matrix, active, now)
        for t in range(timesteps):
            row, flag = now[t], flags[b, t]
            for j in range(n_out):
                clamped = min(max(row[j], -bound), bound - np.float32(1))
                flag[j] = CURRENT_IN_RANGE if clamped == row[j] else 0
                row[j] = clamped
        if fires:
            if izhikevich:
                _izhikevich(now, threshold, k, v, slow, waiting, spikes[b], margin[b], before[b], flags[b])
            else:
                _lif(now, threshold, noise, k, v, slow, waiting, spikes[b], margin[b], before[b], flags[b])


@_exact
def _lif(current, threshold, noise, k, v, a, waiting, spikes, margin, before, flags):
    """if, lif, stochastic_lif and homeostatic_lif over the steps of one sample, all [T, n_out]."""
    timesteps, neurons = current.shape
    zero, unit = k.dtype.type(0), k.dtype.type(1)
    leak, gain, decay, bump = k[LEAK] / k[ONE], k[GAIN] / k[ONE], k[DECAY] / k[ONE], k[BUMP]
    rest, reset, pause, bound = k[REST], k[RESET], k[REFRACTORY], k[BOUND]
    adapts = bump != zero or decay != zero
    v[:] = rest
    a[:] = zero
    waiting[:] = zero
    for t in range(timesteps):
        added = noise[t]
        drive, fire, over, old, flag = current[t], spikes[t], margin[t], before[t], flags[t]
        for n in range(neurons):
            raw = v[n] + np.floor(drive[n] * gain) + np.floor((rest - v[n]) * leak) + added
            x = min(max(raw, -bound), bound - unit)
            gap = x - threshold[n] - a[n]
            waits = waiting[n] > zero
            fires = gap >= zero and not waits
            old[n] = v[n]
            over[n] = gap
            fire[n] = 1 if fires else 0
            flag[n] |= (MEMBRANE_IN_RANGE if raw == x else 0) | (WAITING if waits else 0)
            v[n] = rest if waits else (reset if fires else x)
            waiting[n] = pause if fires else max(waiting[n] - unit, zero)
        if adapts:
            for n in range(neurons):
                raw = a[n] - np.floor(a[n] * decay) + (bump if fire[n] else zero)
                a[n] = min(max(raw, -bound), bound - unit)


@_exact
def _izhikevich(current, threshold, k, v, u, waiting, spikes, margin, before, flags):
    """izhikevich over the steps of one sample, all [T, n_out]."""
    timesteps, neurons = current.shape
    zero, unit = k.dtype.type(0), k.dtype.type(1)
    one, gain, ka, kb = k[ONE], k[GAIN] / k[ONE], k[A] / k[ONE], k[B] / k[ONE]
    rest, reset, pause, bound = k[REST], k[RESET], k[REFRACTORY], k[BOUND]
    v[:] = reset
    u[:] = np.floor(kb * reset)
    waiting[:] = zero
    for t in range(timesteps):
        drive, fire, over, old, flag = current[t], spikes[t], margin[t], before[t], flags[t]
        for n in range(neurons):
            raw = 4 * np.floor(v[n] * v[n] / one) + 6 * v[n] + k[C14] - u[n] + np.floor(drive[n] * gain)
            x = min(max(raw, -bound), bound - unit)
            gap = x - threshold[n]
            waits = waiting[n] > zero
            fires = gap >= zero and not waits
            next_u = u[n] + np.floor((np.floor(v[n] * kb) - u[n]) * ka) + (k[D] if fires else zero)
            u[n] = min(max(next_u, -bound), bound - unit)
            old[n] = v[n]
            over[n] = gap
            fire[n] = 1 if fires else 0
            flag[n] |= (
                (MEMBRANE_IN_RANGE if raw == x else 0)
                | (WAITING if waits else 0)
                | (RECOVERY_IN_RANGE if next_u == u[n] else 0)
            )
            v[n] = rest if waits else (reset if fires else x)
            waiting[n] = pause if fires else max(waiting[n] - unit, zero)


@_loose
def backward(
    x, rated, ramp, turned, fires, izhikevich, k, gradient, current, spikes, margin, before, flags,
    per_weight, to_threshold, to_spikes,
):  # fmt: skip
    """The way back through one layer.

    gradient: [B, T, n_out] float32 with respect to the spikes, or to the clamped current where the
    layer does not fire; overwritten. per_weight: [D + 1, n_in, n_out] float32, gradient to the
    matrix of each delay, summed over steps, out. to_threshold: [n_out] out. to_spikes: [B, T, n_in]
    float32 out, empty for the first layer. returns the gradients to gain_k and leak_k.
    """
    batch, timesteps, n_out = gradient.shape
    delays = len(per_weight)
    per_weight[:] = 0
    to_threshold[:] = 0
    part = np.empty((timesteps + 1, n_out), np.float32)
    active = np.empty(x.shape[2] + 1, np.int64)
    gv, gu = np.empty(n_out, np.float32), np.empty(n_out, np.float32)
    to_gain = to_leak = 0.0
    for b in range(batch):
        g = gradient[b]
        if fires:
            if izhikevich:
                to_gain += _izhikevich_back(
                    g, current[b], spikes[b], margin[b], before[b], flags[b], k, gv, gu, to_threshold
                )
            else:
                gain, leak = _lif_back(
                    g, current[b], spikes[b], margin[b], before[b], flags[b], k, gv, to_threshold
                )
                to_gain += gain
                to_leak += leak
        for t in range(timesteps):
            row, flag = g[t], flags[b, t]
            for j in range(n_out):
                if not flag[j] & CURRENT_IN_RANGE:
                    row[j] = 0
        if rated:
            levels = x[b, 0]
            for d in range(delays):
                part[0] = 0
                for r in range(timesteps):
                    for j in range(n_out):
                        part[r + 1, j] = part[r, j]
                    if ramp[r] + d < timesteps:
                        row = g[ramp[r] + d]
                        for j in range(n_out):
                            part[r + 1, j] += row[j]
                for i in range(len(levels)):
                    if levels[i]:
                        add, row = part[levels[i]], per_weight[d, i]
                        for j in range(n_out):
                            row[j] += add[j]
        else:
            for t in range(timesteps):
                count = _compact(x[b, t], active)
                for d in range(min(delays, timesteps - t)):
                    add = g[t + d]
                    for n in range(count):
                        row = per_weight[d, active[n]]
                        for j in range(n_out):
                            row[j] += add[j]
        if len(to_spikes):
            out = to_spikes[b]
            out[:] = 0
            for t in range(timesteps):
                for d in range(min(delays, t + 1)):
                    at = turned[d, t if turned.shape[1] > 1 else 0]
                    row = out[t - d]
                    for j in range(n_out):
                        factor = g[t, j]
                        if factor != 0:
                            add = at[j]
                            for i in range(len(row)):
                                row[i] += factor * add[i]
    return to_gain / k[ONE], to_leak / k[ONE]


@_loose
def _lif_back(gradient, current, spikes, margin, before, flags, k, gv, to_threshold):
    """Gradient to the spikes of one sample, [T, n_out], replaced by that to its current.

    The adaptation of homeostatic_lif depends on spikes alone, behind the reset: no gradient.
    """
    timesteps, neurons = gradient.shape
    nothing, unit = np.float32(0), np.float32(1)
    leak, gain = k[LEAK] / k[ONE], k[GAIN] / k[ONE]
    slope, keep, top, rest = STEEP / k[SCALE], unit - leak, HEIGHT / k[SCALE], k[REST]
    to_gain = to_leak = nothing
    gv[:] = nothing
    for t in range(timesteps - 1, -1, -1):
        g, drive, fire, over, old, flag = gradient[t], current[t], spikes[t], margin[t], before[t], flags[t]
        for n in range(neurons):
            z = slope * over[n]
            active = nothing if flag[n] & WAITING else unit
            gm = g[n] * top / (unit + z * z) * active
            silent = nothing if fire[n] else unit
            in_range = unit if flag[n] & MEMBRANE_IN_RANGE else nothing
            gp = (gm + gv[n] * silent * active) * in_range
            to_threshold[n] -= gm
            to_gain += gp * drive[n]
            to_leak += gp * (rest - old[n])
            g[n] = gp * gain
            gv[n] = gp * keep
    return to_gain, to_leak


@_loose
def _izhikevich_back(gradient, current, spikes, margin, before, flags, k, gv, gu, to_threshold):
    """The same for izhikevich; the slope of its quadratic is clipped to -1..1."""
    timesteps, neurons = gradient.shape
    nothing, unit = np.float32(0), np.float32(1)
    one, gain, ka, kb = k[ONE], k[GAIN] / k[ONE], k[A] / k[ONE], k[B] / k[ONE]
    slope, stay, cross, top = STEEP / k[SCALE], unit - ka, ka * kb, HEIGHT / k[SCALE]
    to_gain = nothing
    gv[:] = nothing
    gu[:] = nothing
    for t in range(timesteps - 1, -1, -1):
        g, drive, fire, over, old, flag = gradient[t], current[t], spikes[t], margin[t], before[t], flags[t]
        for n in range(neurons):
            z = slope * over[n]
            active = nothing if flag[n] & WAITING else unit
            gm = g[n] * top / (unit + z * z) * active
            silent = nothing if fire[n] else unit
            in_range = unit if flag[n] & MEMBRANE_IN_RANGE else nothing
            gp = (gm + gv[n] * silent * active) * in_range
            to_threshold[n] -= gm
            to_gain += gp * drive[n]
            g[n] = gp * gain
            slow = gu[n] if flag[n] & RECOVERY_IN_RANGE else nothing
            bend = min(max(np.float32(6) + np.float32(8) * old[n] / one, -unit), unit)
            gv[n] = gp * bend + slow * cross
            gu[n] = slow * stay - gp
    return to_gain


@_loose
def collect(per_weight, weight, position, limit, width, one, to_weight, to_position):
    """Gradients to real weights and delay positions from those to the matrix of each delay.

    A weight moves the current by 2^F = `one` where its delay is; a position moves its synapse between
    delays as a softmax over exp(-(d - position)^2 / (2 width^2)), d = 0..limit, would.
    """
    delays, n_in, n_out = per_weight.shape
    if delays == 1:
        for i in range(n_in):
            for j in range(n_out):
                to_weight[i, j] = per_weight[0, i, j] * one
        return
    scale = np.float32(-0.5) / (width * width)
    for i in range(n_in):
        for j in range(n_out):
            here = position[i, j]
            total = mean = np.float32(0)
            for d in range(limit + 1):
                share = math.exp(scale * (d - here) ** 2)
                total += share
                mean += share * d
            mean /= total
            moved = np.float32(0)
            for d in range(limit + 1):
                share = math.exp(scale * (d - here) ** 2) / total
                moved += per_weight[d, i, j] * share * (d - mean)
            to_position[i, j] = moved * one * weight[i, j] / (width * width)
            at = np.rint(here)
            to_weight[i, j] = per_weight[int(at), i, j] * one if at == at else at

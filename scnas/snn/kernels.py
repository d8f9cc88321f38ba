"""The CPU's way through one candidate: compiled loops whose working set stays in cache.

What the stacked tensors of population.py compute for all candidates at once, `run` computes for one of
them, a block of samples at a time: forward through all layers, then back through all of them, so that
what the way back needs is still in the cache. The integers forward are the same, and so are the
hand-derived gradients backward. What makes it fast besides:

- A spike adds one row of the matrix and a silent input costs nothing. Which inputs of a batch spike is
  worked out once for all candidates (`sort_levels`, `list_spikes`).
- A rate-coded input is a thermometer: it spikes in the steps whose reversed index lies below its level.
  Its currents in all T steps are running sums of T partial sums, so the first layer costs one row per
  input instead of one per spike.
- A last layer that only integrates, without saturation and with streams that repeat every step, is
  linear in the number of spikes of each input: one product for all T steps, forward and back.
- Inner loops run over neurons and are vectorised by the compiler. It gives up where the loop around them
  counts down, hence `down`, an array of the steps from last to first.

Letters: T steps, B samples, S samples of a block, D largest delay, M largest magnitude.
matrix: [D + 1, 1 or T, n_in, n_out] float32, signed ones in current units, one slice per delay; T where
streams differ from step to step (lfsr). turned: the same as [D + 1, 1 or T, n_out, n_in].
"""

import math

import numpy as np
from numba import njit

# The arctangent surrogate, HEIGHT / (1 + (STEEP * x)^2), with x in units of the scale. Here and not in
# neurons.py: numba keeps what it compiled, constants included, for as long as this file stays the same.
ALPHA = 2.0  # steepness, as in SpikingJelly's ATan
STEEP, HEIGHT = np.float32(math.pi / 2 * ALPHA), np.float32(ALPHA / 2)

# Constants of a layer in one vector; see neurons.Constants. C14 is 1.4 in Q(F).
LEAK, GAIN, DECAY, BUMP, A, B, D, REST, RESET, BOUND, SCALE, ONE, C14 = range(13)

# What `run` must know of a layer: its shape; whether its input is rate-coded (RATED), its neurons fire,
# are izhikevich or need float64 (WIDE); whether its delays are offsets (LATE) and its sum over the steps
# is taken in one product (SUMMED); and where in the flat arrays its matrices, gradients, activations,
# lists of spikes and delays begin.
(
    N_IN, N_OUT, SLICES, STREAMS, RATED, FIRES, IZHIKEVICH, WIDE, LATE, SUMMED, AT_MATRIX, AT_WEIGHT,
    AT_STATE, AT_LIST, AT_LATE,
) = range(15)  # fmt: skip
STATES = 6  # arrays [T, S, n_out] that a layer keeps for the way back

_exact = njit(cache=True, error_model="numpy")
_loose = njit(cache=True, error_model="numpy", fastmath={"reassoc", "contract", "nsz"})


@_exact
def prepare(weight, keep, position, top, unit, table, matrix, turned, whole, late):
    """Fill `matrix` and `turned`, as far as they have slices, with the integers behind real weights.

    Where `whole` has rows, [n_out, n_in], it gets the matrix of all delays, and `late` their delays.

    weight, keep, position: [n_in, n_out], or larger. top: M. unit: 2^F / L, what a count of one adds.
    table: [T, M + 1], ones of a magnitude times unit; empty where a stream holds exactly w ones.
    returns: the largest current that the layer can bring about, an upper bound.
    """
    slices, streams, n_in, n_out = matrix.shape
    column = np.zeros(n_out, np.float32)
    most = np.float32(top * unit) if len(table) == 0 else table[:, -1].max()
    for i in range(n_in):
        for j in range(n_out):
            column[j] += abs(np.rint(weight[i, j] * top)) * keep[i, j] if len(table) == 0 else keep[i, j]
    for i in range(n_in if len(whole) else 0):
        for j in range(n_out):
            whole[j, i] = np.rint(weight[i, j] * top) * unit if keep[i, j] else np.float32(0)
            here = np.rint(position[i, j])
            late[j, i] = int(here) if here == here else 0
    for s in range(0 if len(whole) else streams):
        for i in range(n_in):
            if len(table) == 0:
                for j in range(n_out):
                    matrix[0, s, i, j] = np.rint(weight[i, j] * top) * unit if keep[i, j] else np.float32(0)
            else:
                for j in range(n_out):
                    w = np.rint(weight[i, j] * top)
                    value = w
                    if not keep[i, j]:
                        value = np.float32(0)
                    elif w == w:  # what is no number stays none and is no index
                        value = table[s, int(abs(w))] if w >= 0 else -table[s, int(abs(w))]
                    matrix[0, s, i, j] = value
            for d in range(slices - 1, -1, -1):
                if slices > 1:
                    for j in range(n_out):
                        here = np.rint(position[i, j]) == d
                        matrix[d, s, i, j] = matrix[0, s, i, j] if here else np.float32(0)
        if len(turned):
            for d in range(slices):
                turned[d, s] = matrix[d, s].T
    return float(column.max()) * (unit if len(table) == 0 else most)


@_exact
def sort_levels(levels, steps, order, starts):
    """Inputs of every sample by level: those of level q are order[b, starts[b, q - 1] : starts[b, q]].

    levels: [B, n] integers 0..T. order: [B, n], starts: [B, T + 1] out; level 0 is left out.
    """
    batch, n = levels.shape
    place = np.empty(steps + 2, np.int64)
    for b in range(batch):
        place[:] = 0
        for i in range(n):
            place[levels[b, i] + 1] += 1
        place[1] = 0  # of level 0
        for q in range(steps + 1):
            place[q + 1] += place[q]
        for q in range(steps + 1):
            starts[b, q] = place[q + 1]
        for i in range(n):
            q = levels[b, i]
            if q:
                order[b, place[q]] = i
                place[q] += 1


@_exact
def list_spikes(spikes, active, counts):
    """Indices of the spikes [B, T, n] of every step first in `active` [B, T, n + 1]; how many: [B, T]."""
    batch, timesteps, n = spikes.shape
    for b in range(batch):
        for t in range(timesteps):
            count = 0
            for i in range(n):  # without a branch: a processor cannot guess which input spikes
                active[b, t, count] = i
                count += spikes[b, t, i] != 0
            counts[b, t] = count


@_exact
def _list_fired(gap, s, active, counts):
    """The same for neurons of sample s, which fired where their gap [T, S, n] is not negative."""
    timesteps, _, n = gap.shape
    for t in range(timesteps):
        count = 0
        for i in range(n):
            active[s, t, count] = i
            count += gap[t, s, i] >= np.float32(0)
        counts[s, t] = count


# -- forward ------------------------------------------------------------------------------------


@_exact
def _add_spikes(active, counts, a, matrix, current, s):
    """current [T, S, n_out] of sample s: what the spikes in the lists of sample a bring."""
    slices, streams, n_in, n_out = matrix.shape
    timesteps = len(current)
    for t in range(timesteps):
        for j in range(n_out):
            current[t, s, j] = 0
    for arrives in range(timesteps):
        count = counts[a, arrives]
        for d in range(min(slices, timesteps - arrives)):
            at = arrives + d
            m = at if streams > 1 else 0
            n = 0
            while n + 4 <= count:
                i0, i1 = active[a, arrives, n], active[a, arrives, n + 1]
                i2, i3 = active[a, arrives, n + 2], active[a, arrives, n + 3]
                for j in range(n_out):
                    current[at, s, j] += (matrix[d, m, i0, j] + matrix[d, m, i1, j]) + (
                        matrix[d, m, i2, j] + matrix[d, m, i3, j]
                    )
                n += 4
            while n < count:
                i0 = active[a, arrives, n]
                for j in range(n_out):
                    current[at, s, j] += matrix[d, m, i0, j]
                n += 1


@_exact
def _add_levels(order, starts, b, ramp, matrix, part, current, s):
    """The same for the rate-coded inputs of sample b. part: [n_out] scratch."""
    slices, _, n_in, n_out = matrix.shape
    timesteps = len(ramp)
    if slices > 1:
        for t in range(timesteps):
            for j in range(n_out):
                current[t, s, j] = 0
    for d in range(slices):
        for j in range(n_out):
            part[j] = 0
        for r in range(timesteps - 1, -1, -1):  # an input of level q > r spikes in step ramp[r]
            n, end = starts[b, r], starts[b, r + 1]
            while n + 2 <= end:
                i0, i1 = order[b, n], order[b, n + 1]
                for j in range(n_out):
                    part[j] += matrix[d, 0, i0, j] + matrix[d, 0, i1, j]
                n += 2
            if n < end:
                i0 = order[b, n]
                for j in range(n_out):
                    part[j] += matrix[d, 0, i0, j]
            at = ramp[r] + d
            if slices == 1:
                for j in range(n_out):
                    current[at, s, j] = part[j]
            elif at < timesteps:
                for j in range(n_out):
                    current[at, s, j] += part[j]


@_exact
def _lif(current, neurons, threshold, noise, k, v, a, gap, before, inside):
    """if, lif, stochastic_lif and homeostatic_lif over all steps; arrays [T, m or more], the m `neurons`
    of all samples side by side; threshold, v and a [m or more].

    gap: distance of the membrane to the threshold, 0 and more is a spike; before: the membrane before the
    step; inside: 1 where it was not clamped. All constants in the float type that holds the neuron's
    integers exactly.
    """
    timesteps = len(current)
    zero, unit = k.dtype.type(0), k.dtype.type(1)
    leak, gain, decay, bump = k[LEAK] / k[ONE], k[GAIN] / k[ONE], k[DECAY] / k[ONE], k[BUMP]
    rest, reset, low, high = k[REST], k[RESET], -k[BOUND], k[BOUND] - unit
    least, most = np.float32(low), np.float32(high)
    adapts = bump != zero or decay != zero
    for n in range(neurons):
        v[n], a[n] = rest, zero
    for t in range(timesteps):
        added = noise[t]
        for n in range(neurons):
            drive = min(max(current[t, n], least), most)
            raw = v[n] + np.floor(drive * gain) + np.floor((rest - v[n]) * leak) + added
            x = min(max(raw, low), high)
            over = x - threshold[n] - a[n]
            before[t, n] = v[n]
            gap[t, n] = over
            inside[t, n] = np.float32(1) if raw == x else np.float32(0)
            v[n] = reset if over >= zero else x
        if adapts:
            for n in range(neurons):
                fired = bump if gap[t, n] >= np.float32(0) else zero
                a[n] = min(max(a[n] - np.floor(a[n] * decay) + fired, low), high)


@_exact
def _izhikevich(current, neurons, threshold, k, v, u, gap, before, inside, steady):
    """izhikevich over all steps. steady: 1 where the recovery was not clamped."""
    timesteps = len(current)
    zero, unit = k.dtype.type(0), k.dtype.type(1)
    one, gain, ka, kb = k[ONE], k[GAIN] / k[ONE], k[A] / k[ONE], k[B] / k[ONE]
    reset, low, high = k[RESET], -k[BOUND], k[BOUND] - unit
    least, most = np.float32(low), np.float32(high)
    for n in range(neurons):
        v[n], u[n] = reset, np.floor(kb * reset)
    for t in range(timesteps):
        for n in range(neurons):
            drive = min(max(current[t, n], least), most)
            raw = 4 * np.floor(v[n] * v[n] / one) + 6 * v[n] + k[C14] - u[n] + np.floor(drive * gain)
            x = min(max(raw, low), high)
            over = x - threshold[n]
            next_u = u[n] + np.floor((np.floor(v[n] * kb) - u[n]) * ka) + (k[D] if over >= zero else zero)
            u[n] = min(max(next_u, low), high)
            before[t, n] = v[n]
            gap[t, n] = over
            inside[t, n] = np.float32(1) if raw == x else np.float32(0)
            steady[t, n] = np.float32(1) if next_u == u[n] else np.float32(0)
            v[n] = reset if over >= zero else x


# -- backward -----------------------------------------------------------------------------------


@_loose
def _lif_back(gradient, neurons, current, gap, before, inside, k, down, gv, to_threshold):
    """Gradient to spikes, [T, m], replaced by that to the currents; returns those to gain_k and leak_k,
    times 2^F. to_threshold: [m], added to.

    The adaptation of homeostatic_lif depends on spikes alone, behind the reset: no gradient.
    """
    timesteps = len(gradient)
    nothing, unit = np.float32(0), np.float32(1)
    leak, gain = k[LEAK] / k[ONE], k[GAIN] / k[ONE]
    slope, keep, top, rest = STEEP / k[SCALE], unit - leak, HEIGHT / k[SCALE], k[REST]
    least, most = -k[BOUND], k[BOUND] - unit
    to_gain = to_leak = nothing
    for n in range(neurons):
        gv[n] = nothing
    for step in range(timesteps):
        t = down[step]
        for n in range(neurons):
            z = slope * gap[t, n]
            gm = gradient[t, n] * top / (unit + z * z)
            silent = unit if gap[t, n] < nothing else nothing
            gp = (gm + gv[n] * silent) * inside[t, n]
            drive = min(max(current[t, n], least), most)
            to_threshold[n] -= gm
            to_gain += gp * drive
            to_leak += gp * (rest - before[t, n])
            gradient[t, n] = gp * gain if drive == current[t, n] else nothing
            gv[n] = gp * keep
    return to_gain, to_leak


@_loose
def _izhikevich_back(gradient, neurons, current, gap, before, inside, steady, k, down, gv, gu, to_threshold):
    """The same for izhikevich; the slope of its quadratic is clipped to -1..1."""
    timesteps = len(gradient)
    nothing, unit = np.float32(0), np.float32(1)
    one, gain, ka, kb = k[ONE], k[GAIN] / k[ONE], k[A] / k[ONE], k[B] / k[ONE]
    slope, stay, cross, top = STEEP / k[SCALE], unit - ka, ka * kb, HEIGHT / k[SCALE]
    least, most = -k[BOUND], k[BOUND] - unit
    to_gain = nothing
    for n in range(neurons):
        gv[n] = gu[n] = nothing
    for step in range(timesteps):
        t = down[step]
        for n in range(neurons):
            z = slope * gap[t, n]
            gm = gradient[t, n] * top / (unit + z * z)
            silent = unit if gap[t, n] < nothing else nothing
            gp = (gm + gv[n] * silent) * inside[t, n]
            drive = min(max(current[t, n], least), most)
            to_threshold[n] -= gm
            to_gain += gp * drive
            gradient[t, n] = gp * gain if drive == current[t, n] else nothing
            slow = gu[n] * steady[t, n]
            bend = min(max(np.float32(6) + np.float32(8) * before[t, n] / one, -unit), unit)
            gv[n] = gp * bend + slow * cross
            gu[n] = slow * stay - gp
    return to_gain


@_loose
def _to_weights_of_levels(order, starts, b, ramp, gradient, s, part, per_weight):
    """per_weight [D + 1, n_in, n_out] += what the gradient of sample s gives. part: [n_out] scratch."""
    slices, _, n_out = per_weight.shape
    timesteps = len(ramp)
    for d in range(slices):
        for j in range(n_out):
            part[j] = 0
        for r in range(timesteps):
            at = ramp[r] + d
            if at < timesteps:
                for j in range(n_out):
                    part[j] += gradient[at, s, j]
            for n in range(starts[b, r], starts[b, r + 1]):  # inputs of level r + 1 spiked in r + 1 steps
                i = order[b, n]
                for j in range(n_out):
                    per_weight[d, i, j] += part[j]


@_loose
def _to_weights_of_spikes(active, counts, first, size, gradient, places, ends, per_weight):
    """The same for the spikes in the lists of samples first, first + 1, ..., as many as `size`.

    Sorted by input, so that a row of per_weight is read and written once for four spikes. places:
    [n_in, T * S] and ends: [D + 1, n_in], scratch.
    """
    slices, n_in, n_out = per_weight.shape
    timesteps, block = gradient.shape[:2]
    rows = gradient.reshape(timesteps * block, n_out)
    found = np.zeros(n_in, np.int32)
    for t in range(timesteps):
        for s in range(size):
            for n in range(counts[first + s, t]):
                i = active[first + s, t, n]
                places[i, found[i]] = t * block + s
                found[i] += 1
        if timesteps - 1 - t < slices:  # these spikes arrive in time after that delay, later ones do not
            ends[timesteps - 1 - t] = found
    for i in range(n_in):
        for d in range(slices):
            n, end = 0, ends[d, i]
            while n + 4 <= end:
                r0, r1 = places[i, n] + d * block, places[i, n + 1] + d * block
                r2, r3 = places[i, n + 2] + d * block, places[i, n + 3] + d * block
                for j in range(n_out):
                    per_weight[d, i, j] += (rows[r0, j] + rows[r1, j]) + (rows[r2, j] + rows[r3, j])
                n += 4
            while n < end:
                r0 = places[i, n] + d * block
                for j in range(n_out):
                    per_weight[d, i, j] += rows[r0, j]
                n += 1


@_loose
def _to_spikes(gradient, s, turned, out):
    """out [T, S, n_in] of sample s, of the gradient to currents [T, S, n_out]."""
    slices, streams, n_out, n_in = turned.shape
    timesteps = len(gradient)
    for t in range(timesteps):
        for i in range(n_in):
            out[t, s, i] = 0
    for t in range(timesteps):
        m = t if streams > 1 else 0
        for d in range(min(slices, t + 1)):
            j = 0
            while j + 4 <= n_out:
                g0, g1 = gradient[t, s, j], gradient[t, s, j + 1]
                g2, g3 = gradient[t, s, j + 2], gradient[t, s, j + 3]
                for i in range(n_in):
                    out[t - d, s, i] += (g0 * turned[d, m, j, i] + g1 * turned[d, m, j + 1, i]) + (
                        g2 * turned[d, m, j + 2, i] + g3 * turned[d, m, j + 3, i]
                    )
                j += 4
            while j < n_out:
                g0 = gradient[t, s, j]
                for i in range(n_in):
                    out[t - d, s, i] += g0 * turned[d, m, j, i]
                j += 1


# -- delays ---------------------------------------------------------------------------------------

# A layer with delays would cost D + 1 products, nearly all of their factors zero. Here the samples of a
# block lie side by side instead, [n, T, S], and a delay is an offset: one product whatever D is.


@_exact
def _delayed_currents(active, counts, first, size, whole, late, span, lanes, sums, current):
    """current [T, S, n_out] of the spikes in the lists. whole, late: [n_out, n_in]; see prepare. span: D.
    lanes, sums: flat scratch."""
    n_out, n_in = whole.shape
    timesteps = len(current)
    head, length = span * size, timesteps * size
    x = lanes[: n_in * (head + length)].reshape(n_in, head + length)
    out = sums[: n_out * length].reshape(n_out, length)
    x[:] = 0
    for s in range(size):
        for t in range(timesteps):
            for n in range(counts[first + s, t]):
                x[active[first + s, t, n], head + t * size + s] = 1
    end = np.uint64(length)
    for j in range(n_out):
        out[j] = 0
        i = 0
        while i + 4 <= n_in:
            w0, w1, w2, w3 = whole[j, i], whole[j, i + 1], whole[j, i + 2], whole[j, i + 3]
            o0, o1 = np.uint64(head - late[j, i] * size), np.uint64(head - late[j, i + 1] * size)
            o2, o3 = np.uint64(head - late[j, i + 2] * size), np.uint64(head - late[j, i + 3] * size)
            for r in range(end):
                out[j, r] += (w0 * x[i, o0 + r] + w1 * x[i + 1, o1 + r]) + (
                    w2 * x[i + 2, o2 + r] + w3 * x[i + 3, o3 + r]
                )
            i += 4
        while i < n_in:
            w0, o0 = whole[j, i], np.uint64(head - late[j, i] * size)
            for r in range(end):
                out[j, r] += w0 * x[i, o0 + r]
            i += 1
    for t in range(timesteps):
        for s in range(size):
            for j in range(n_out):
                current[t, s, j] = out[j, t * size + s]


@_loose
def _to_delayed_spikes(gradient, size, whole, late, span, lanes, sums, to_spikes):
    """The way back: to_spikes [T, S, n_in] of the gradient to currents [T, S, n_out]."""
    n_out, n_in = whole.shape
    timesteps = len(gradient)
    length = timesteps * size
    g = lanes[: n_out * (length + span * size)].reshape(n_out, length + span * size)
    out = sums[: n_in * length].reshape(n_in, length)
    for j in range(n_out):
        for r in range(length, length + span * size):
            g[j, r] = 0
    for s in range(size):
        for t in range(timesteps):
            for j in range(n_out):
                g[j, t * size + s] = gradient[t, s, j]
    end = np.uint64(length)
    for i in range(n_in):
        out[i] = 0
        j = 0
        while j + 4 <= n_out:
            w0, w1, w2, w3 = whole[j, i], whole[j + 1, i], whole[j + 2, i], whole[j + 3, i]
            o0, o1 = np.uint64(late[j, i] * size), np.uint64(late[j + 1, i] * size)
            o2, o3 = np.uint64(late[j + 2, i] * size), np.uint64(late[j + 3, i] * size)
            for r in range(end):
                out[i, r] += (w0 * g[j, o0 + r] + w1 * g[j + 1, o1 + r]) + (
                    w2 * g[j + 2, o2 + r] + w3 * g[j + 3, o3 + r]
                )
            j += 4
        while j < n_out:
            w0, o0 = whole[j, i], np.uint64(late[j, i] * size)
            for r in range(end):
                out[i, r] += w0 * g[j, o0 + r]
            j += 1
    for t in range(timesteps):
        for s in range(size):
            for i in range(n_in):
                to_spikes[t, s, i] = out[i, t * size + s]


# -- a last layer that only sums up ---------------------------------------------------------------


@_exact
def _count_fired(gap, total):
    """total [D + 1, m]: spikes of neurons early enough to arrive after each delay. gap: [T, m]."""
    slices, m = len(total), gap.shape[1]
    timesteps = len(gap)
    total[:] = 0
    for t in range(timesteps):
        for d in range(min(slices, timesteps - t)):
            for n in range(m):
                total[d, n] += np.float32(1) if gap[t, n] >= np.float32(0) else np.float32(0)


@_exact
def _count_listed(active, counts, a, total, s):
    """total [D + 1, S, n] of sample s: the same for the spikes in the lists of sample a."""
    slices = len(total)
    timesteps = counts.shape[1]
    total[:, s] = 0
    for t in range(timesteps):
        for d in range(min(slices, timesteps - t)):
            for n in range(counts[a, t]):
                total[d, s, active[a, t, n]] += 1


@_loose
def _sum_of_counts(total, s, turned, scores, b):
    """scores[b] of integers below 2^24, which any order of summation leaves exact."""
    slices, _, n_out, n_in = turned.shape
    for j in range(n_out):
        score = np.float32(0)
        for d in range(slices):
            for i in range(n_in):
                score += total[d, s, i] * turned[d, 0, j, i]
        scores[b, j] = score


@_loose
def _back_through_counts(total, turned, slope, per_weight_turned, out, s):
    """The way back of sample s: the gradient to such a layer is the same `slope` [S, n_out] in all steps.

    per_weight_turned: [D + 1, n_out, n_in], added to. out: [T, S, n_in], or empty for the first layer.
    """
    slices, n_out, n_in = per_weight_turned.shape
    for d in range(slices):
        for j in range(n_out):
            g = slope[s, j]
            for i in range(n_in):
                per_weight_turned[d, j, i] += g * total[d, s, i]
    if out.shape[0] == 0:
        return
    timesteps = len(out)
    for d in range(slices):  # a spike in step t <= T - 1 - d is heard after delay d
        last = timesteps - 1 - d
        for i in range(n_in):
            out[last, s, i] = np.float32(0) if d == 0 else out[last + 1, s, i]
        for j in range(n_out):
            g = slope[s, j]
            for i in range(n_in):
                out[last, s, i] += g * turned[d, 0, j, i]
    for t in range(timesteps - slices):
        for i in range(n_in):
            out[t, s, i] = out[timesteps - slices, s, i]


# -- all layers ---------------------------------------------------------------------------------


@_loose
def _slope(scores, b, label, factor, batch, slope):
    """Cross-entropy of scores[b] and, in `slope`, its gradient to them over the batch; also the gradient
    to the logarithm of `factor`, what turns a score into a logit."""
    classes = scores.shape[1]
    top = scores[b, 0] * factor
    for j in range(classes):
        top = max(top, scores[b, j] * factor)
    total = 0.0
    for j in range(classes):
        total += math.exp(scores[b, j] * factor - top)
    to_factor = 0.0
    for j in range(classes):
        logit = scores[b, j] * factor
        share = (math.exp(logit - top) / total - (1.0 if j == label else 0.0)) / batch
        to_factor += share * logit
        slope[j] = share * factor
    return math.log(total) + top - scores[b, label] * factor, to_factor


@_exact
def _state(states, layer, which, block, timesteps):
    """Array `which` of the STATES of a layer, [T, S, n_out]."""
    size = block * timesteps * layer[N_OUT]
    at = layer[AT_STATE] + which * size
    return states[at : at + size].reshape(timesteps, block, layer[N_OUT])


@_exact
def _matrix(flat, layer):
    size = layer[SLICES] * layer[STREAMS] * layer[N_IN] * layer[N_OUT]
    at = layer[AT_MATRIX]
    return flat[at : at + size].reshape(layer[SLICES], layer[STREAMS], layer[N_IN], layer[N_OUT])


@_exact
def _turned(flat, layer):
    size = layer[SLICES] * layer[STREAMS] * layer[N_IN] * layer[N_OUT]
    at = layer[AT_MATRIX]
    return flat[at : at + size].reshape(layer[SLICES], layer[STREAMS], layer[N_OUT], layer[N_IN])


@_exact
def _lists(lists, layer, block, timesteps):
    """Room for what the neurons of a layer fired: indices [S, T, n + 1] and counts [S, T]."""
    size = block * timesteps * (layer[N_OUT] + 1)
    at = layer[AT_LIST]
    active = lists[at : at + size].reshape(block, timesteps, layer[N_OUT] + 1)
    return active, lists[at + size : at + size + block * timesteps].reshape(block, timesteps)


@_exact
def _flat(state):
    """[T, S, n] as [T, S * n]."""
    return state.reshape(state.shape[0], state.shape[1] * state.shape[2])


@_loose
def run(
    layers, k, threshold, noise, order, starts, active, counts, ramp, labels, factor, block, down,
    matrices, turneds, lates, states, lists, lanes, sums_of_lanes, places, per_weights, to_threshold, to_k,
    scores, fired,
):  # fmt: skip
    """One candidate over a batch: forward, and back if there are labels.

    layers: [layers, 15] see above. k: [layers, 13], threshold: [layers, widest], noise: [layers, T]
    float64. order, starts: of rate-coded inputs, or active, counts: of spikes; see sort_levels and
    list_spikes. ramp: R_T(t). down: T - 1 ... 0. labels: [B], or empty to go forward alone. factor: what
    turns a score into a logit. block: S. matrices, turneds, lates, states, lists, per_weights: flat room;
    lanes, sums_of_lanes, places: scratch.

    Out: per_weights, gradient to the matrix of each delay, summed over steps, [D + 1, n_in, n_out] of
    every layer; to_threshold [layers, widest]; to_k [layers, 2], gradients to gain_k and leak_k; scores
    [B, classes] float64; fired [layers], spikes. returns the mean loss and the gradient to the logarithm
    of factor.
    """
    depth, batch, timesteps = len(layers), len(scores), len(down)
    training = len(labels) > 0
    widest = threshold.shape[1]
    k32, noise32 = k.astype(np.float32), noise.astype(np.float32)
    beside = np.empty((depth, widest * block))  # thresholds of the neurons of all samples side by side
    for i in range(depth):
        n = layers[i, N_OUT]
        for s in range(block):
            beside[i, s * n : s * n + n] = threshold[i, :n]
    beside32 = beside.astype(np.float32)
    summed = np.zeros((depth, widest * block), np.float32)  # gradients to them
    v, slow = np.empty(widest * block), np.empty(widest * block)
    v32, slow32 = np.empty(widest * block, np.float32), np.empty(widest * block, np.float32)
    part = np.empty(widest, np.float32)
    slope = np.empty((block, scores.shape[1]), np.float32)
    nothing = np.empty((0, 0, 0), np.float32)
    last = layers[depth - 1]
    total = np.zeros((last[SLICES], block, last[N_IN]), np.float32)
    sums = np.zeros((last[SLICES], last[N_OUT], last[N_IN]), np.float32)
    per_weights[:] = 0
    to_threshold[:] = 0
    to_k[:] = 0
    fired[:] = 0
    loss = to_factor = 0.0
    for first in range(0, batch, block):
        size = min(block, batch - first)
        for i in range(depth):
            layer = layers[i]
            n = layer[N_OUT]
            turned = _turned(turneds, layer)
            if layer[SUMMED]:
                if i > 0:
                    fired_before = _state(states, layers[i - 1], 1, block, timesteps)
                    _count_fired(_flat(fired_before), _flat(total))
                for s in range(size):
                    if i == 0:
                        _count_listed(active, counts, first + s, total, s)
                    _sum_of_counts(total, s, turned, scores, first + s)
                if i > 0 and not training:
                    for s in range(size):
                        for j in range(layer[N_IN]):
                            fired[i - 1] += int(total[0, s, j])
                continue
            matrix = _matrix(matrices, layer)
            current, gap = (
                _state(states, layer, 0, block, timesteps),
                _state(states, layer, 1, block, timesteps),
            )
            before, inside = (
                _state(states, layer, 2, block, timesteps),
                _state(states, layer, 3, block, timesteps),
            )
            steady = _state(states, layer, 4, block, timesteps)
            into, into_counts = active, counts
            if i > 0:
                into, into_counts = _lists(lists, layers[i - 1], block, timesteps)
            if layer[LATE]:
                whole = turned[0, 0]
                late = lates[layer[AT_LATE] : layer[AT_LATE] + n * layer[N_IN]].reshape(n, layer[N_IN])
                _delayed_currents(
                    into, into_counts, first if i == 0 else 0, size, whole, late, layer[SLICES] - 1, lanes,
                    sums_of_lanes, current,
                )  # fmt: skip
            for s in range(size):
                if layer[RATED]:
                    _add_levels(order, starts, first + s, ramp, matrix, part[:n], current, s)
                elif not layer[LATE]:
                    _add_spikes(into, into_counts, first + s if i == 0 else s, matrix, current, s)
                if not layer[FIRES]:
                    bound = np.float32(k[i, BOUND])
                    scores[first + s] = 0
                    for t in range(timesteps):
                        for j in range(n):
                            scores[first + s, j] += min(max(current[t, s, j], -bound), bound - np.float32(1))
            if not layer[FIRES]:
                continue
            m = size * n
            drive, gaps, old, open_ = _flat(current), _flat(gap), _flat(before), _flat(inside)
            if layer[IZHIKEVICH]:
                _izhikevich(drive, m, beside[i], k[i], v, slow, gaps, old, open_, _flat(steady))
            elif layer[WIDE]:
                _lif(drive, m, beside[i], noise[i], k[i], v, slow, gaps, old, open_)
            else:
                _lif(drive, m, beside32[i], noise32[i], k32[i], v32, slow32, gaps, old, open_)
            if i < depth - 1 and layers[i + 1, SUMMED]:
                continue
            for s in range(size):
                if i == depth - 1:
                    scores[first + s] = 0
                    for t in range(timesteps):
                        for j in range(n):
                            scores[first + s, j] += 1.0 if gap[t, s, j] >= 0 else 0.0
                    for j in range(n):
                        fired[i] += int(scores[first + s, j])
                else:
                    listed, listed_counts = _lists(lists, layer, block, timesteps)
                    _list_fired(gap, s, listed, listed_counts)
                    for t in range(timesteps):
                        fired[i] += listed_counts[s, t]
        if not training:
            continue
        for s in range(size):
            more, change = _slope(scores, first + s, labels[first + s], factor, batch, slope[s])
            loss += more
            to_factor += change
        for i in range(depth - 1, -1, -1):
            layer = layers[i]
            n = layer[N_OUT]
            turned = _turned(turneds, layer)
            out = nothing
            if i > 0:
                out = _state(states, layers[i - 1], 5, block, timesteps)
            if layer[SUMMED]:
                for s in range(size):
                    _back_through_counts(total, turned, slope, sums, out, s)
                continue
            current, gap = (
                _state(states, layer, 0, block, timesteps),
                _state(states, layer, 1, block, timesteps),
            )
            before, inside = (
                _state(states, layer, 2, block, timesteps),
                _state(states, layer, 3, block, timesteps),
            )
            steady, gradient = (
                _state(states, layer, 4, block, timesteps),
                _state(states, layer, 5, block, timesteps),
            )
            at = layer[AT_WEIGHT]
            per_weight = per_weights[at : at + layer[SLICES] * layer[N_IN] * n].reshape(
                layer[SLICES], layer[N_IN], n
            )
            into, into_counts = active, counts
            if i > 0:
                into, into_counts = _lists(lists, layers[i - 1], block, timesteps)
            if i == depth - 1:
                bound = np.float32(k[i, BOUND])
                for t in range(timesteps):
                    for s in range(size):
                        for j in range(n):
                            now = current[t, s, j]
                            open_now = layer[FIRES] or (now >= -bound and now <= bound - np.float32(1))
                            gradient[t, s, j] = slope[s, j] if open_now else np.float32(0)
            if layer[FIRES]:
                m = size * n
                pull, drive, gaps = _flat(gradient), _flat(current), _flat(gap)
                old, open_ = _flat(before), _flat(inside)
                if layer[IZHIKEVICH]:
                    gain = _izhikevich_back(
                        pull, m, drive, gaps, old, open_, _flat(steady), k32[i], down, v32, slow32, summed[i]
                    )
                    leak = np.float32(0)
                else:
                    gain, leak = _lif_back(pull, m, drive, gaps, old, open_, k32[i], down, v32, summed[i])
                to_k[i, 0] += gain / k[i, ONE]
                to_k[i, 1] += leak / k[i, ONE]
            for s in range(size):
                if layer[RATED]:
                    _to_weights_of_levels(order, starts, first + s, ramp, gradient, s, part[:n], per_weight)
                if i > 0 and not layer[LATE]:
                    _to_spikes(gradient, s, turned, out)
            if not layer[RATED]:
                into_places = places[: layer[N_IN] * block * timesteps].reshape(
                    layer[N_IN], block * timesteps
                )
                ends = np.empty((layer[SLICES], layer[N_IN]), np.int32)
                _to_weights_of_spikes(
                    into, into_counts, first if i == 0 else 0, size, gradient, into_places, ends, per_weight
                )
            if i > 0 and layer[LATE]:
                whole = turned[0, 0]
                late = lates[layer[AT_LATE] : layer[AT_LATE] + n * layer[N_IN]].reshape(n, layer[N_IN])
                _to_delayed_spikes(gradient, size, whole, late, layer[SLICES] - 1, lanes, sums_of_lanes, out)
    for i in range(depth if training else 0):
        n = layers[i, N_OUT]
        for s in range(block):
            for j in range(n):
                to_threshold[i, j] += summed[i, s * n + j]
    if training and last[SUMMED]:
        at = last[AT_WEIGHT]
        for d in range(last[SLICES]):
            for a in range(last[N_IN]):
                for j in range(last[N_OUT]):
                    per_weights[at] = sums[d, j, a]
                    at += 1
    return loss / batch, to_factor


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
    shares = np.empty(delays, np.float32)
    for i in range(n_in):
        for j in range(n_out):
            here = position[i, j]
            total = mean = moved = np.float32(0)
            for d in range(limit + 1):
                share = np.float32(math.exp(scale * (d - here) ** 2))
                shares[d] = share
                total += share
                mean += share * d
            mean /= total
            for d in range(limit + 1):
                moved += per_weight[d, i, j] * shares[d] * (d - mean)
            to_position[i, j] = moved / total * one * weight[i, j] / (width * width)
            at = np.rint(here)
            to_weight[i, j] = per_weight[int(at), i, j] * one if at == at else at

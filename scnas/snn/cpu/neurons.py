"""Neurons of a layer, all steps at once: forward and backward.

Inner loops run over the neurons of all samples of a block. A neuron stays in registers through all steps and
saves for backward the membrane before it was clamped, from which all else follows. Integers that float32 does
not hold are computed in float64, by loops that the compiler vectorises.
"""

from typing import NamedTuple

import numpy as np

from scnas.snn.cpu.cache import borrowing, exact, loose
from scnas.snn.cpu.counted import count_neurons
from scnas.snn.cpu.layout import (
    BEFORE,
    BOUND,
    BUMP,
    C14,
    CURRENT,
    DECAY,
    DISTANCE,
    GAIN,
    GRADIENT,
    INSIDE,
    LEAK,
    ONE,
    RESET,
    REST,
    SCALE,
    STEADY,
    A,
    B,
    D,
    clear,
    flat_state,
    for_all_samples,
    offsets_of,
)
from scnas.snn.cpu.vectors import (
    FOUR,
    PAIR,
    WIDTH,
    add,
    add_product,
    broadcast_like,
    clamp,
    divide,
    floor,
    load,
    load_like,
    multiply,
    store,
    subtract,
    where_equal,
    where_least,
    zeros_four,
    zeros_pair,
)
from scnas.snn.surrogate import HEIGHT, STEEP

# -- forward --------------------------------------------------------------------------------------


@exact
def adapts(k):
    """Whether the constants are those of a homeostatic_lif."""
    return k[BUMP] != 0 or k[DECAY] != 0


@borrowing
def _lif(states, at, thresholds, noise, saturates, k, total):
    """All steps of if, lif, stochastic_lif and homeostatic_lif in float32, for the neurons of all samples.

    states: flat, with the currents in. at: Offsets; `at.neurons` is a multiple of 16. Out: the membrane
    before it is clamped, and of homeostatic_lif the distance of the membrane to the threshold. total: None,
    or out, spikes early enough to arrive after each delay, [D + 1, neurons or more].
    """
    n = 0
    while n + FOUR <= at.neurons:
        _lif_vector(states, at, n, load_like(thresholds, n, zeros_four()), noise, saturates, k, total)
        n += FOUR
    while n < at.neurons:
        _lif_vector(states, at, n, load(thresholds, n), noise, saturates, k, total)
        n += WIDTH


@borrowing
def _lif_vector(states, at, n, threshold, noise, saturates, k, total):
    """All steps of as many neurons from n on as there are thresholds, all of whose numbers stay in registers;
    see _lif."""
    current, gap, raw, step = at.current + n, at.distance + n, at.membrane + n, at.step
    leak, gain = broadcast_like(k[LEAK] / k[ONE], threshold), broadcast_like(k[GAIN] / k[ONE], threshold)
    decay, bump = broadcast_like(k[DECAY] / k[ONE], threshold), broadcast_like(k[BUMP], threshold)
    rest, reset = broadcast_like(k[REST], threshold), broadcast_like(k[RESET], threshold)
    low, high = broadcast_like(-k[BOUND], threshold), broadcast_like(k[BOUND] - np.float32(1), threshold)
    zero = broadcast_like(np.float32(0), threshold)
    unit = broadcast_like(np.float32(1), threshold)
    v, a, spikes = rest, zero, zero
    if adapts(k):
        for t in range(len(noise)):
            drive = load_like(states, current + t * step, threshold)
            if saturates:
                drive = clamp(drive, low, high)
            leaking = floor(multiply(subtract(rest, v), leak))
            whole = add(add(v, floor(multiply(drive, gain))), leaking)
            x = clamp(whole, low, high)
            over = subtract(subtract(x, threshold), a)
            store(states, gap + t * step, over)
            store(states, raw + t * step, whole)
            v = where_least(over, zero, reset, x)
            fired = where_least(over, zero, bump, zero)
            a = clamp(add(subtract(a, floor(multiply(a, decay))), fired), low, high)
            if total is not None:
                spikes = add(spikes, where_least(over, zero, unit, zero))
                _store_early(total, n, spikes, len(noise) - 1 - t)
        return
    for t in range(len(noise)):
        drive = load_like(states, current + t * step, threshold)
        if saturates:
            drive = clamp(drive, low, high)
        leaking = floor(multiply(subtract(rest, v), leak))
        whole = add(add(add(v, floor(multiply(drive, gain))), leaking), broadcast_like(noise[t], threshold))
        store(states, raw + t * step, whole)
        x = clamp(whole, low, high)
        v = where_least(x, threshold, reset, x)
        if total is not None:
            spikes = add(spikes, where_least(x, threshold, unit, zero))
            _store_early(total, n, spikes, len(noise) - 1 - t)


@borrowing
def _store_early(total, n, spikes, left):
    """Keep how many spikes there were when `left` steps are left to come, where a delay is as long."""
    if left < len(total):
        store(total, left * total.shape[1] + n, spikes)


@borrowing
def _izhikevich(states, at, thresholds, timesteps, saturates, k, total):
    """All steps of izhikevich in float32, for the neurons of all samples.

    states: flat, with the currents in. Out: membrane and recovery before they are clamped. total: see _lif.
    """
    n = 0
    while n + PAIR <= at.neurons:
        few = load_like(thresholds, n, zeros_pair())
        _izhikevich_vector(states, at, n, few, timesteps, saturates, k, total)
        n += PAIR
    while n < at.neurons:
        _izhikevich_vector(states, at, n, load(thresholds, n), timesteps, saturates, k, total)
        n += WIDTH


@borrowing
def _izhikevich_vector(states, at, n, threshold, timesteps, saturates, k, total):
    """All steps of as many neurons from n on as there are thresholds; see _izhikevich.

    The square of v needs 32 bits: with v = 256 h + l it is 2^16 h^2 + l (v + 256 h), each of which float32
    holds. What is too large for it is clamped.
    """
    current, raw, slow, step = at.current + n, at.membrane + n, at.recovery + n, at.step
    one = k[ONE]
    gain, ka, kb = broadcast_like(k[GAIN] / one, threshold), broadcast_like(k[A] / one, threshold), k[B] / one
    reset, bump, base = (
        broadcast_like(k[RESET], threshold),
        broadcast_like(k[D], threshold),
        broadcast_like(k[C14], threshold),
    )
    low, high = broadcast_like(-k[BOUND], threshold), broadcast_like(k[BOUND] - np.float32(1), threshold)
    four, six = broadcast_like(np.float32(4), threshold), broadcast_like(np.float32(6), threshold)
    split, part = broadcast_like(np.float32(256), threshold), broadcast_like(np.float32(1 / 256), threshold)
    whole_square, below = (
        broadcast_like(np.float32(2**16) / one, threshold),
        broadcast_like(np.float32(1) / one, threshold),
    )
    unit, spikes = broadcast_like(np.float32(1), threshold), broadcast_like(np.float32(0), threshold)
    v, u = reset, broadcast_like(np.floor(kb * k[RESET]), threshold)
    follow, zero = broadcast_like(kb, threshold), broadcast_like(np.float32(0), threshold)
    for t in range(timesteps):
        drive = load_like(states, current + t * step, threshold)
        if saturates:
            drive = clamp(drive, low, high)
        h = floor(multiply(v, part))
        most = multiply(h, split)
        rest = floor(multiply(multiply(subtract(v, most), add(v, most)), below))
        square = add(multiply(multiply(h, h), whole_square), rest)
        whole = add(
            subtract(add(add(multiply(square, four), multiply(v, six)), base), u),
            floor(multiply(drive, gain)),
        )
        x = clamp(whole, low, high)
        fired = where_least(x, threshold, bump, zero)
        recovery = add(add(u, floor(multiply(subtract(floor(multiply(v, follow)), u), ka))), fired)
        store(states, raw + t * step, whole)
        store(states, slow + t * step, recovery)
        u = clamp(recovery, low, high)
        v = where_least(x, threshold, reset, x)
        if total is not None:
            spikes = add(spikes, where_least(x, threshold, unit, zero))
            _store_early(total, n, spikes, timesteps - 1 - t)


@exact
def _lif_float64(current, neurons, threshold, noise, k, v, a, gap, before, inside):
    """All steps of if, lif, stochastic_lif and homeostatic_lif in float64, for the neurons of all samples.

    Arrays [T, neurons or more]; threshold, v and a [neurons or more]. gap: distance to the threshold. before:
    the membrane before the step; inside: 1 where it was not clamped.
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


@exact
def _izhikevich_float64(current, neurons, threshold, k, v, u, gap, before, inside, steady):
    """All steps of izhikevich in float64; see _lif_float64. steady: 1 where the recovery was not clamped."""
    timesteps = len(current)
    zero, unit = k.dtype.type(0), k.dtype.type(1)
    one, gain, ka, kb = unit / k[ONE], k[GAIN] / k[ONE], k[A] / k[ONE], k[B] / k[ONE]
    reset, low, high = k[RESET], -k[BOUND], k[BOUND] - unit
    least, most = np.float32(low), np.float32(high)
    for n in range(neurons):
        v[n], u[n] = reset, np.floor(kb * reset)
    for t in range(timesteps):
        for n in range(neurons):
            drive = min(max(current[t, n], least), most)
            raw = 4 * np.floor(v[n] * v[n] * one) + 6 * v[n] + k[C14] - u[n] + np.floor(drive * gain)
            x = min(max(raw, low), high)
            over = x - threshold[n]
            next_u = u[n] + np.floor((np.floor(v[n] * kb) - u[n]) * ka) + (k[D] if over >= zero else zero)
            u[n] = min(max(next_u, low), high)
            before[t, n] = v[n]
            gap[t, n] = over
            inside[t, n] = np.float32(1) if raw == x else np.float32(0)
            steady[t, n] = np.float32(1) if next_u == u[n] else np.float32(0)
            v[n] = reset if over >= zero else x


@borrowing
def neurons(candidate, i, states, size, thresholds, sums_up, total):
    """Membranes and spikes of layer i of a candidate from its currents, in its states, for `size` samples of
    a block.

    thresholds: of the neurons of all samples. total: if `sums_up`, spikes early enough to arrive after each
    delay, [D + 1, neurons of all samples], out.
    """
    layer, k32, noise32 = candidate.layers[i], candidate.k32[i], candidate.noise32[i]
    block, timesteps, saturates = candidate.block, candidate.timesteps, not layer.unsaturated
    at = offsets_of(layer, block, timesteps)
    if not layer.interleaved:
        clear(states, at.current, timesteps, at.step, size * layer.n_out, at.neurons)
    if layer.float64:
        _neurons_float64(candidate, i, states)
        if sums_up:
            count_neurons(flat_state(states, layer, DISTANCE, block, timesteps), total)
    elif layer.izhikevich and sums_up:
        _izhikevich(states, at, thresholds, timesteps, saturates, k32, total)
    elif layer.izhikevich:
        _izhikevich(states, at, thresholds, timesteps, saturates, k32, None)
    elif sums_up:
        _lif(states, at, thresholds, noise32, saturates, k32, total)
    else:
        _lif(states, at, thresholds, noise32, saturates, k32, None)


@exact
def _neurons_float64(candidate, i, states):
    """Membranes and spikes of layer i, whose neurons need float64."""
    layer, block, timesteps = candidate.layers[i], candidate.block, candidate.timesteps
    m = offsets_of(layer, block, timesteps).neurons
    current = flat_state(states, layer, CURRENT, block, timesteps)
    distance = flat_state(states, layer, DISTANCE, block, timesteps)
    before = flat_state(states, layer, BEFORE, block, timesteps)
    inside = flat_state(states, layer, INSIDE, block, timesteps)
    v, u, thresholds = np.empty(m), np.empty(m), np.ones(m)
    for_all_samples(candidate.threshold[i], layer, block, thresholds)
    if layer.izhikevich:
        steady = flat_state(states, layer, STEADY, block, timesteps)
        _izhikevich_float64(current, m, thresholds, candidate.k[i], v, u, distance, before, inside, steady)
    else:
        _lif_float64(
            current, m, thresholds, candidate.noise[i], candidate.k[i], v, u, distance, before, inside
        )


# -- backward -------------------------------------------------------------------------------------


class SpikeGradient(NamedTuple):
    """The gradient to the spikes of the last step, in array[row:]; that of an earlier step lies `jump`
    further, `moves` times, and is the same after that."""

    array: np.ndarray
    row: int
    jump: int
    moves: int


@loose
def _lif_backward(states, at, given, timesteps, thresholds, saturates, k, to_threshold):
    """Backward pass of _lif: writes the gradient to the currents of that to the spikes, adds that to the
    thresholds of all samples to to_threshold, and returns those to gain_k and leak_k, times 2^F.

    given: SpikeGradient. The adaptation of homeostatic_lif depends on spikes alone, behind the reset: no
    gradient.
    """
    sums = np.zeros(2 * PAIR, np.float32)
    adaptive = adapts(k)
    # Written out: with the choice in a function of its own a training takes 7% longer.
    n = 0
    while n + PAIR <= at.neurons:
        many, gap = load_like(thresholds, n, zeros_pair()), at.distance + n
        if adaptive:
            _lif_vector_backward(states, at, gap, given, n, timesteps, many, saturates, k, to_threshold, sums)
        else:
            _lif_vector_backward(
                states, at, None, given, n, timesteps, many, saturates, k, to_threshold, sums
            )
        n += PAIR
    while n < at.neurons:
        few, gap = load(thresholds, n), at.distance + n
        if adaptive:
            _lif_vector_backward(states, at, gap, given, n, timesteps, few, saturates, k, to_threshold, sums)
        else:
            _lif_vector_backward(states, at, None, given, n, timesteps, few, saturates, k, to_threshold, sums)
        n += WIDTH
    return sums[:PAIR].sum(), sums[PAIR:].sum()


@loose
def _lif_vector_backward(states, at, gap, given, n, timesteps, threshold, saturates, k, to_threshold, sums):
    """Backward pass of as many neurons from n on as there are thresholds; see _lif_backward.

    gap: where their distances to the threshold begin, or None where they do not adapt. sums: [2 * 32], those
    to gain and to leak, added to.
    """
    current, raw, gradient, step = at.current + n, at.membrane + n, at.gradient + n, at.step
    pulls, row, jump, moves = given.array, given.row + n, given.jump, given.moves
    unit, zero = broadcast_like(np.float32(1), threshold), broadcast_like(np.float32(0), threshold)
    leak, gain = broadcast_like(k[LEAK] / k[ONE], threshold), broadcast_like(k[GAIN] / k[ONE], threshold)
    slope, top = broadcast_like(STEEP / k[SCALE], threshold), broadcast_like(HEIGHT / k[SCALE], threshold)
    rest, reset, keep = (
        broadcast_like(k[REST], threshold),
        broadcast_like(k[RESET], threshold),
        subtract(unit, leak),
    )
    low, high = broadcast_like(-k[BOUND], threshold), broadcast_like(k[BOUND] - np.float32(1), threshold)
    to_gain, to_leak = load_like(sums, 0, threshold), load_like(sums, PAIR, threshold)
    pull, gv = zero, zero
    here = (timesteps - 1) * step
    whole = load_like(states, raw + here, threshold)
    clamped = clamp(whole, low, high)
    over = subtract(clamped, threshold) if gap is None else load_like(states, gap + here, threshold)
    while here >= 0:
        # The membrane before the step is what the step before left.
        before, earlier_over, earlier, earlier_clamped = rest, over, whole, clamped
        if here > 0:
            earlier = load_like(states, raw + here - step, threshold)
            earlier_clamped = clamp(earlier, low, high)
            if gap is None:
                earlier_over = subtract(earlier_clamped, threshold)
            else:
                earlier_over = load_like(states, gap + here - step, threshold)
            before = where_least(earlier_over, zero, reset, earlier_clamped)
        z = multiply(slope, over)
        now, pulled = load_like(states, current + here, threshold), load_like(pulls, row, threshold)
        gm = divide(multiply(pulled, top), add_product(z, z, unit))
        gp = where_equal(whole, clamped, add(gm, where_least(over, zero, zero, gv)), zero)
        drive = clamp(now, low, high) if saturates else now
        pull = subtract(pull, gm)
        to_gain = add_product(gp, drive, to_gain)
        to_leak = add_product(gp, subtract(rest, before), to_leak)
        to_current = multiply(gp, gain)
        if saturates:
            to_current = where_equal(now, drive, to_current, zero)
        store(states, gradient + here, to_current)
        gv = multiply(gp, keep)
        over, whole, clamped = earlier_over, earlier, earlier_clamped
        here -= step
        if moves > 0:
            row, moves = row + jump, moves - 1
    store(to_threshold, n, add(load_like(to_threshold, n, zero), pull))
    store(sums, 0, to_gain)
    store(sums, PAIR, to_leak)


@loose
def _izhikevich_backward(states, at, given, timesteps, thresholds, saturates, k, to_threshold):
    """Backward pass of _izhikevich, as _lif_backward; returns the gradient to gain_k, times 2^F. The slope of
    the quadratic is clipped to -1..1."""
    sums = np.zeros(PAIR, np.float32)
    n = 0
    while n + PAIR <= at.neurons:
        many = load_like(thresholds, n, zeros_pair())
        _izhikevich_vector_backward(states, at, given, n, timesteps, many, saturates, k, to_threshold, sums)
        n += PAIR
    while n < at.neurons:
        few = load(thresholds, n)
        _izhikevich_vector_backward(states, at, given, n, timesteps, few, saturates, k, to_threshold, sums)
        n += WIDTH
    return sums.sum()


@loose
def _izhikevich_vector_backward(states, at, given, n, timesteps, threshold, saturates, k, to_threshold, sums):
    """Backward pass of as many neurons from n on as there are thresholds; see _izhikevich_backward. sums:
    [32], added to."""
    current, raw, gradient, step = at.current + n, at.membrane + n, at.gradient + n, at.step
    pulls, row, jump, moves = given.array, given.row + n, given.jump, given.moves
    slow, one = at.recovery + n, k[ONE]
    unit, zero = broadcast_like(np.float32(1), threshold), broadcast_like(np.float32(0), threshold)
    gain, stay = (
        broadcast_like(k[GAIN] / one, threshold),
        broadcast_like(np.float32(1) - k[A] / one, threshold),
    )
    cross = broadcast_like(k[A] / one * (k[B] / one), threshold)
    slope, top = broadcast_like(STEEP / k[SCALE], threshold), broadcast_like(HEIGHT / k[SCALE], threshold)
    reset, six, eight = (
        broadcast_like(k[RESET], threshold),
        broadcast_like(np.float32(6), threshold),
        broadcast_like(np.float32(8) / one, threshold),
    )
    low, high = broadcast_like(-k[BOUND], threshold), broadcast_like(k[BOUND] - np.float32(1), threshold)
    to_gain, pull, gv, gu = load_like(sums, 0, threshold), zero, zero, zero
    here = (timesteps - 1) * step
    whole = load_like(states, raw + here, threshold)
    clamped = clamp(whole, low, high)
    while here >= 0:
        before, earlier, earlier_clamped = reset, whole, clamped
        if here > 0:
            earlier = load_like(states, raw + here - step, threshold)
            earlier_clamped = clamp(earlier, low, high)
            before = where_least(earlier_clamped, threshold, reset, earlier_clamped)
        over = subtract(clamped, threshold)
        z = multiply(slope, over)
        now, pulled = load_like(states, current + here, threshold), load_like(pulls, row, threshold)
        recovery = load_like(states, slow + here, threshold)
        gm = divide(multiply(pulled, top), add_product(z, z, unit))
        gp = where_equal(whole, clamped, add(gm, where_least(over, zero, zero, gv)), zero)
        drive = clamp(now, low, high) if saturates else now
        pull = subtract(pull, gm)
        to_gain = add_product(gp, drive, to_gain)
        to_current = multiply(gp, gain)
        if saturates:
            to_current = where_equal(now, drive, to_current, zero)
        store(states, gradient + here, to_current)
        steady = where_equal(recovery, clamp(recovery, low, high), gu, zero)
        bend = clamp(add_product(before, eight, six), subtract(zero, unit), unit)
        gv = add_product(gp, bend, multiply(steady, cross))
        gu = subtract(multiply(steady, stay), gp)
        whole, clamped = earlier, earlier_clamped
        here -= step
        if moves > 0:
            row, moves = row + jump, moves - 1
    store(to_threshold, n, add(load_like(to_threshold, n, zero), pull))
    store(sums, 0, to_gain)


@loose
def _lif_float64_backward(gradient, neurons, current, gap, before, inside, k, down, gv, to_threshold):
    """Backward pass of _lif_float64, as _lif_backward. gradient: [T, neurons], to the spikes, which becomes
    that to the currents."""
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


@loose
def _izhikevich_float64_backward(
    gradient, neurons, current, gap, before, inside, steady, k, down, gv, gu, to_threshold
):
    """Backward pass of _izhikevich_float64, as _izhikevich_backward. gradient: [T, neurons], to the spikes,
    which becomes that to the currents."""
    timesteps = len(gradient)
    nothing, unit = np.float32(0), np.float32(1)
    one, gain, ka, kb = unit / k[ONE], k[GAIN] / k[ONE], k[A] / k[ONE], k[B] / k[ONE]
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
            bend = min(max(np.float32(6) + np.float32(8) * before[t, n] * one, -unit), unit)
            gv[n] = gp * bend + slow * cross
            gu[n] = slow * stay - gp
    return to_gain


@exact
def neurons_backward(candidate, i, states, size, rows, thresholds, down, to_threshold):
    """Backward pass of neurons: writes the gradient to currents, in the states, of that to the spikes, and
    returns those to gain_k and leak_k, times 2^F.

    The gradient to the spikes is in the states or, where the next layer is summed up, in `rows`, see
    counted.arrange_back. down: T - 1 ... 0.
    """
    layer, k32 = candidate.layers[i], candidate.k32[i]
    block, timesteps, saturates = candidate.block, candidate.timesteps, not layer.unsaturated
    at = offsets_of(layer, block, timesteps)
    given = SpikeGradient(states, at.gradient + (timesteps - 1) * at.step, -at.step, timesteps)
    if len(rows):
        given = SpikeGradient(rows.reshape(rows.size), 0, rows.shape[1], len(rows) - 1)
    elif not layer.interleaved:
        clear(states, at.gradient, timesteps, at.step, size * layer.n_out, at.neurons)
    if layer.float64:
        return _neurons_float64_backward(candidate, i, states, rows, down, to_threshold)
    if layer.izhikevich:
        gain = _izhikevich_backward(states, at, given, timesteps, thresholds, saturates, k32, to_threshold)
        return gain, np.float32(0)
    return _lif_backward(states, at, given, timesteps, thresholds, saturates, k32, to_threshold)


@exact
def _neurons_float64_backward(candidate, i, states, rows, down, to_threshold):
    """Backward pass of layer i, whose neurons need float64; see neurons_backward."""
    layer, k32 = candidate.layers[i], candidate.k32[i]
    block, timesteps = candidate.block, candidate.timesteps
    m = offsets_of(layer, block, timesteps).neurons
    current = flat_state(states, layer, CURRENT, block, timesteps)
    distance = flat_state(states, layer, DISTANCE, block, timesteps)
    before = flat_state(states, layer, BEFORE, block, timesteps)
    inside = flat_state(states, layer, INSIDE, block, timesteps)
    gradient = flat_state(states, layer, GRADIENT, block, timesteps)
    for t in range(timesteps if len(rows) else 0):
        for j in range(m):
            gradient[t, j] = rows[min(timesteps - 1 - t, len(rows) - 1), j]
    gv, gu = np.empty(m, np.float32), np.empty(m, np.float32)
    if layer.izhikevich:
        steady = flat_state(states, layer, STEADY, block, timesteps)
        gain = _izhikevich_float64_backward(
            gradient, m, current, distance, before, inside, steady, k32, down, gv, gu, to_threshold
        )
        return gain, np.float32(0)
    return _lif_float64_backward(gradient, m, current, distance, before, inside, k32, down, gv, to_threshold)

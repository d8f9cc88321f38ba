"""Where everything lies in memory: constants of neurons, plans of layers, buffers, and how they are
addressed.

Letters: T steps, B samples, S samples of a block, D largest delay, M largest magnitude.

A state of a layer, such as its currents, is [T, S + 1, n]: steps that lie a power of two apart would evict
each other from the cache, so that there is a sample more, which is never used. Where a layer is interleaved
it is [T' + D, n', 16], the samples of a block innermost, T' and n' rounded up to fours, since a product is
done for four steps of four neurons at once. Matrices: [D + 1, 1 or T, n_in, n_out] float32, signed ones in
current units, one slice per delay; T where streams differ from step to step (lfsr). Transposed ones: [D + 1,
1 or T, n_out, n_in].
"""

from typing import NamedTuple

import numpy as np
from numba import carray

from scnas.snn.cpu.cache import exact, view
from scnas.snn.cpu.vectors import WIDTH, pointer_to, transpose

# Constants of a layer in one vector; see neurons.Constants. C14 is 1.4 in Q(F); EACH is 2^F / L, what a count
# of one adds to a current, UNIT the same, or NaN if a weight is NaN; TOP is M.
LEAK, GAIN, DECAY, BUMP, A, B, D, REST, RESET, BOUND, SCALE, ONE, C14, UNIT, EACH, TOP = range(16)

# The plan of a layer. n_in, n_out, slices (D + 1), streams (matrices of a slice): its shape. rate_coded: its
# inputs are levels. fires: it has neurons. izhikevich, float64: their model, and that they need float64.
# interleaved: the samples of a block are innermost in its states. summed: its sum over the steps is taken in
# one product. narrow: sums of magnitudes stay below 2^15. unsaturated: no current can saturate. sobol: its
# streams are. at_...: where in the flat buffers its matrices, gradients, states, lists of spikes, weights of
# an interleaved layer (forward and backward) and table of ones begin.
_FIELDS = (
    *("n_in", "n_out", "slices", "streams", "rate_coded", "fires", "izhikevich", "float64", "interleaved"),
    *("summed", "narrow", "unsaturated", "sobol"),
    *("at_matrix", "at_weight", "at_state", "at_list", "at_forward", "at_backward", "at_table"),
)
LAYER = np.dtype([(name, np.int64) for name in _FIELDS])

# Tensors of a layer, [P, n_in, n_out] or larger, by their addresses, which are integers.
WEIGHT, KEEP, POSITION, TO_WEIGHT, TO_POSITION = range(5)
TILE = 4  # neurons and steps of an interleaved layer that a product does at once

# The states of a layer. MEMBRANE: before it was clamped. DISTANCE: to the threshold, where a neuron adapts or
# needs float64. RECOVERY: of izhikevich, before it was clamped. GRADIENT: to spikes, then to currents. In
# float64 instead: BEFORE, the membrane before the step, INSIDE, 1 where it was not clamped, STEADY, 1 where
# the recovery was not.
CURRENT, DISTANCE, MEMBRANE, RECOVERY, _, GRADIENT = range(6)
BEFORE, INSIDE, STEADY = range(2, 5)
STATES = 6


# -- values that travel together ------------------------------------------------------------------


class Synapses(NamedTuple):
    """Of a layer of one candidate, [n_in, n_out] or larger: real weights, which are kept, real delays."""

    weight: np.ndarray
    keep: np.ndarray
    position: np.ndarray


class Inputs(NamedTuple):
    """A batch, the same for all candidates.

    order, starts, places, ends: of rate-coded inputs, see spikes.sort_levels and spikes.place_levels. active,
    counts: of spikes, see spikes.list_spikes. Of either kind only what is used is there, else empty arrays.
    ramp: R_T(t) [T]. down: T - 1 ... 0, since a loop that counts down is not vectorised.
    """

    order: np.ndarray
    starts: np.ndarray
    places: np.ndarray
    ends: np.ndarray
    active: np.ndarray
    counts: np.ndarray
    ramp: np.ndarray
    down: np.ndarray


class Buffers(NamedTuple):
    """Flat arrays, large enough for any candidate.

    matrices, transposed, levels (of rate-coded inputs), forward, forward_at, backward, backward_at (of
    interleaved layers): see prepare. states, lists: of all layers. per_weight: gradients to the matrices, [D
    + 1, n_in, n_out] of every layer. spare (a state), masks, tiles, places: scratch of one layer.
    """

    matrices: np.ndarray
    transposed: np.ndarray
    levels: np.ndarray
    forward: np.ndarray
    forward_at: np.ndarray
    backward: np.ndarray
    backward_at: np.ndarray
    states: np.ndarray
    lists: np.ndarray
    spare: np.ndarray
    masks: np.ndarray
    tiles: np.ndarray
    places: np.ndarray
    per_weight: np.ndarray


class Population(NamedTuple):
    """All candidates. layers: [P, layers] plans. k: [P, layers, 16], threshold: [P, layers, widest], noise:
    [P, layers, T] float64. blocks: [P], S, 16 if a layer is interleaved or the inputs are rate-coded.
    addresses: [layers, 5] and shapes: [layers, 2], of the tensors. tables: flat, [T, M + 1] of each layer
    whose streams differ from step to step, see prepare."""

    layers: np.ndarray
    k: np.ndarray
    threshold: np.ndarray
    noise: np.ndarray
    blocks: np.ndarray
    addresses: np.ndarray
    shapes: np.ndarray
    tables: np.ndarray


class Candidate(NamedTuple):
    """One candidate: the same without its first axis. k32, noise32: float32."""

    layers: np.ndarray
    k: np.ndarray
    k32: np.ndarray
    threshold: np.ndarray
    noise: np.ndarray
    noise32: np.ndarray
    block: int
    timesteps: int


class Results(NamedTuple):
    """What a batch leads to. to_threshold: [P, layers, widest]. to_k: [P, layers, 2], gradients to gain_k and
    leak_k. scores: [P, B, classes], or [1, B, classes], those of the last candidate. fired: [P, layers],
    spikes, of a batch without labels. losses, to_factor: [P], the mean loss and the gradient to the logarithm
    of the factor."""

    to_threshold: np.ndarray
    to_k: np.ndarray
    scores: np.ndarray
    fired: np.ndarray
    losses: np.ndarray
    to_factor: np.ndarray


class Result(NamedTuple):
    """What a batch leads to for one candidate: to_threshold, to_k, scores and fired without their first
    axis."""

    to_threshold: np.ndarray
    to_k: np.ndarray
    scores: np.ndarray
    fired: np.ndarray


class Offsets(NamedTuple):
    """Where the states of a layer begin, and `step`, how far one step of time lies from the next. neurons: of
    all samples of a block, one behind the other."""

    current: int
    distance: int
    membrane: int
    recovery: int
    gradient: int
    step: int
    neurons: int


# -- addresses ------------------------------------------------------------------------------------


@exact
def whole_tiles(n):
    """n rounded up to whole tiles."""
    return -(-n // TILE) * TILE


@exact
def state_at(layer, which, block, timesteps):
    """Where state `which` of a layer begins."""
    size = timesteps * (block + 1) * layer.n_out
    if layer.interleaved:
        size = (whole_tiles(timesteps) + layer.slices - 1) * whole_tiles(layer.n_out) * WIDTH
    return layer.at_state + which * size


@view
def state_of(states, layer, which, block, timesteps):
    """State `which` of a layer, [T, S + 1, n_out], or [T, n', 16] of an interleaved layer."""
    at, n = state_at(layer, which, block, timesteps), layer.n_out
    if layer.interleaved:
        return states[at : at + timesteps * whole_tiles(n) * WIDTH].reshape(timesteps, whole_tiles(n), WIDTH)
    return states[at : at + timesteps * (block + 1) * n].reshape(timesteps, block + 1, n)


@exact
def offsets_of(layer, block, timesteps):
    """Offsets of a layer."""
    neurons = step = whole_tiles(layer.n_out) * WIDTH
    if not layer.interleaved:
        neurons, step = block * layer.n_out, (block + 1) * layer.n_out
    return Offsets(
        state_at(layer, CURRENT, block, timesteps),
        state_at(layer, DISTANCE, block, timesteps),
        state_at(layer, MEMBRANE, block, timesteps),
        state_at(layer, RECOVERY, block, timesteps),
        state_at(layer, GRADIENT, block, timesteps),
        step,
        neurons,
    )


@view
def flat_state(states, layer, which, block, timesteps):
    """State `which` of a layer, [T, neurons of all samples]."""
    state = state_of(states, layer, which, block, timesteps)
    return state.reshape(state.shape[0], state.shape[1] * state.shape[2])


@view
def matrix_of(matrices, layer):
    """The matrices of a layer, [D + 1, 1 or T, n_in, n_out]."""
    size, at = layer.slices * layer.streams * layer.n_in * layer.n_out, layer.at_matrix
    return matrices[at : at + size].reshape(layer.slices, layer.streams, layer.n_in, layer.n_out)


@view
def transposed_of(transposed, layer):
    """The transposed matrices of a layer, [D + 1, 1 or T, n_out, n_in]."""
    size, at = layer.slices * layer.streams * layer.n_in * layer.n_out, layer.at_matrix
    return transposed[at : at + size].reshape(layer.slices, layer.streams, layer.n_out, layer.n_in)


@view
def lists_of(lists, layer, block, timesteps):
    """Room for the spikes of a layer's neurons: indices [S, T, n + 1] and counts [S, T]."""
    size, at = block * timesteps * (layer.n_out + 1), layer.at_list
    active = lists[at : at + size].reshape(block, timesteps, layer.n_out + 1)
    return active, lists[at + size : at + size + block * timesteps].reshape(block, timesteps)


@exact
def tensor_of(address, like, p, shape):
    """What candidate p has of a tensor [P, *shape] of the type of `like` at an address, [*shape]."""
    return carray(pointer_to(address, like), (p + 1, shape[0], shape[1]))[p]


# -- from one layout to the other -----------------------------------------------------------------


@exact
def clear(states, at, timesteps, step, first, last):
    """Elements `first` to `last` of all steps of a state [T, step] from `at` on become 0."""
    for t in range(timesteps):
        for n in range(at + t * step + first, at + t * step + last):
            states[n] = 0


@exact
def separate(interleaved, at, timesteps, n, out, to):
    """out[to:], a state [T, 17, n], becomes what the interleaved state [T, n', 16] from `at` on is."""
    rows = whole_tiles(n)
    for t in range(timesteps):
        for j in range(0, n, WIDTH):
            here, there = at + (t * rows + j) * WIDTH, to + t * (WIDTH + 1) * n + j
            transpose(interleaved, here, WIDTH, out, there, n, n - j)


@exact
def interleave(flat, timesteps, n, size, out, to):
    """out[to:], an interleaved state [T, n', 16], becomes what the state [T, 17, n] is, of which samples from
    `size` on are set to 0. Up to fifteen rows behind it are overwritten."""
    rows, step = whole_tiles(n), (WIDTH + 1) * n
    for t in range(timesteps):
        flat[t * step + size * n : t * step + WIDTH * n] = 0
        for j in range(0, n, WIDTH):
            transpose(flat, t * step + j, n, out, to + (t * rows + j) * WIDTH, WIDTH, WIDTH)
    for t in range(timesteps):
        out[to + (t * rows + n) * WIDTH : to + (t + 1) * rows * WIDTH] = 0


@exact
def interleave_few(state, size, out):
    """out, an interleaved state [T, n', 16], becomes what the first `size` samples of state [T, S, n] are."""
    timesteps, _, n = state.shape
    out[:] = 0
    for t in range(timesteps):
        for s in range(size):
            for j in range(n):
                out[t, j, s] = state[t, s, j]


@exact
def for_all_samples(threshold, layer, block, out):
    """out becomes the thresholds of a layer's neurons for all samples of a block, as they lie in a state."""
    n = layer.n_out
    if layer.interleaved:
        for j in range(n):
            for s in range(WIDTH):
                out[j * WIDTH + s] = threshold[j]
    else:
        for s in range(block):
            for j in range(n):
                out[s * n + j] = threshold[j]

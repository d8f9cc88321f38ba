"""Which inputs and neurons spike, as lists, as masks, and as places of rows.

Spikes of a batch are worked out once for all candidates, those of a layer once for a block of samples.
"""

import numpy as np

from scnas.snn.cpu.cache import exact
from scnas.snn.cpu.layout import whole_tiles
from scnas.snn.cpu.vectors import WIDTH, list_fired, store_fired


@exact
def sort_levels(levels, steps, order, starts):
    """Sort the inputs of every sample by level: those of level q become order[b, starts[b, q - 1] : starts[b,
    q]].

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


@exact
def place_levels(order, starts, places, ends):
    """Write where in the pieces of `weights.of_levels` the rows of an input begin, for each block of 16
    samples: places [blocks, n, 16], and how many there are, ends [blocks, n]. order, starts: see
    sort_levels."""
    timesteps = starts.shape[1] - 1
    ends[:] = 0
    for b in range(len(order)):
        block, s = b // WIDTH, b % WIDTH
        for r in range(timesteps):
            for n in range(starts[b, r], starts[b, r + 1]):
                i = order[b, n]
                places[block, i, ends[block, i]] = (s * timesteps + r) * WIDTH
                ends[block, i] += 1


@exact
def list_spikes(spikes, active, counts):
    """Write the indices of the spikes [B, T, n] of every step to the front of `active` [B, T, n + 1], and how
    many there are to counts [B, T]."""
    batch, timesteps, n = spikes.shape
    for b in range(batch):
        for t in range(timesteps):
            count = 0
            for i in range(n):  # no branch, since spikes cannot be predicted
                active[b, t, count] = i
                count += spikes[b, t, i] != 0
            counts[b, t] = count


@exact
def list_neurons(state, level, interleaved, s, active, counts):
    """Write the spikes of the neurons of sample s to `active` [S, T, n + 1] and counts [S, T]: they fired
    where their state [T, S, n], or [T, n', 16] if interleaved, is their level [S * n], or [n' * 16], or
    more."""
    timesteps, n = len(state), active.shape[2] - 1
    for t in range(timesteps):
        count = 0
        for i in range(n):
            active[s, t, count] = i
            if interleaved:
                count += state[t, i, s] >= level[i * WIDTH + s]
            else:
                count += state[t, s, i] >= level[s * n + i]
        counts[s, t] = count


@exact
def masks_of_lists(active, counts, first, size, n, span, height, masks):
    """Write the spikes in the lists of samples first, first + 1, ..., as many as `size`, as masks [n, height,
    16] of -1 and 0, behind `span` empty steps."""
    masks[: n * height * WIDTH] = 0
    for s in range(size):
        for t in range(counts.shape[1]):
            for m in range(counts[first + s, t]):
                masks[(active[first + s, t, m] * height + span + t) * WIDTH + s] = -1


@exact
def masks_of_states(states, at, level, timesteps, size, n, span, height, masks):
    """Write the spikes of an interleaved layer as masks [n, height, 16] of -1 and 0, behind `span` empty
    steps, and return how many they are: neurons fired where their state, [T, n', 16] from `at` on, is their
    level or more."""
    rows, found = whole_tiles(n), 0
    for i in range(n):
        row = i * height * WIDTH
        masks[row : row + span * WIDTH] = 0
        masks[row + (span + timesteps) * WIDTH : row + height * WIDTH] = 0
    for t in range(timesteps):
        for i in range(n):
            now = at + (t * rows + i) * WIDTH
            found += store_fired(states, now, level, i * WIDTH, size, masks, (i * height + span + t) * WIDTH)
    return found


@exact
def places_of_lists(active, counts, first, size, block, places, ends):
    """Write where in a tile the rows of an input begin, places [n, T * block], and how many there are, ends
    [n], from the lists of samples first, first + 1, ..., as many as `size`."""
    timesteps = counts.shape[1]
    most = timesteps * block
    ends[:] = 0
    for t in range(timesteps):
        for s in range(size):
            for n in range(counts[first + s, t]):
                i = active[first + s, t, n]
                places[i * most + ends[i]] = (t * block + s) * WIDTH
                ends[i] += 1


@exact
def places_of_states(states, at, level, timesteps, size, n_in, places, ends):
    """Write where in a tile the rows of an input begin, places [n_in, T * 16], and how many there are, ends
    [n_in], from the state of an interleaved layer, [T, n', 16] from `at` on: neurons fired where it is their
    level or more."""
    rows = whole_tiles(n_in)
    for i in range(n_in):
        start = i * timesteps * WIDTH
        found = start
        for t in range(timesteps):
            now = at + (t * rows + i) * WIDTH
            found += list_fired(states, now, level, i * WIDTH, size, places, found, t * WIDTH * WIDTH, WIDTH)
        ends[i] = found - start

"""A last layer that is summed up at once.

Where a last layer only integrates, without saturation and with streams that repeat every step, its scores are
linear in the number of spikes of each input: one product for all T steps, forward and backward. A delay of d
leaves out the spikes of the last d steps.
"""

import numpy as np

from scnas.snn.cpu.cache import exact, loose
from scnas.snn.cpu.vectors import (
    FOUR,
    WIDTH,
    add_product,
    broadcast_like,
    load_like,
    store_first,
    zeros,
    zeros_four,
)


@exact
def count_neurons(distance, total):
    """Write total [D + 1, m]: spikes of neurons early enough to arrive after each delay. distance: to the
    threshold, [T, m or more]."""
    slices, m = total.shape
    timesteps = len(distance)
    total[:] = 0
    for t in range(timesteps):
        for n in range(m):
            total[0, n] += np.float32(1) if distance[t, n] >= np.float32(0) else np.float32(0)
        if 0 < timesteps - 1 - t < slices:
            total[timesteps - 1 - t] = total[0]


@exact
def arrange(found, layer, interleaved, size, total):
    """Write total [D + 1, S, n] of the counts of the layer before, [D + 1, m], which lie as its states do."""
    n = layer.n_in
    for d in range(layer.slices):
        if interleaved:
            for s in range(size):
                for j in range(n):
                    total[d, s, j] = found[d, j * WIDTH + s]
        else:
            for s in range(size):
                for j in range(n):
                    total[d, s, j] = found[d, s * n + j]


@exact
def count_listed(active, counts, a, total, s):
    """Write total [D + 1, S, n] of sample s: spikes in the lists of sample a early enough to arrive after
    each delay."""
    slices = len(total)
    timesteps = counts.shape[1]
    total[:, s] = 0
    for t in range(timesteps):
        for d in range(min(slices, timesteps - t)):
            for n in range(counts[a, t]):
                total[d, s, active[a, t, n]] += 1


@loose
def scores_of(total, s, transposed, scores, b):
    """Write scores[b] from the counts of sample s: integers below 2^24, which any order of summation leaves
    exact."""
    slices, _, n_out, n_in = transposed.shape
    for j in range(n_out):
        score = np.float32(0)
        for d in range(slices):
            for i in range(n_in):
                score += total[d, s, i] * transposed[d, 0, j, i]
        scores[b, j] = score


@loose
def backward(total, transposed, layer, slope, sums, back):
    """Backward pass: the gradient to a layer that is summed up is the same `slope` [S, n_out] in all steps.

    total: flat [D + 1, S, n_in]. sums: flat [D + 1, n_out, n_in], the gradient to the weights, added to.
    back: None, or flat [D + 1, S, n_in] out, the gradient to a spike that arrives after delays up to d, which
    is one in step T - 1 - d, or earlier for d = D.
    """
    n_in, slices = layer.n_in, layer.slices
    for d in range(slices):
        i = 0
        while i + FOUR <= n_in:
            _backward(total, transposed, layer, slope, d, i, sums, back, zeros_four())
            i += FOUR
        while i < n_in:
            _backward(total, transposed, layer, slope, d, i, sums, back, zeros())
            i += WIDTH


@loose
def _backward(total, transposed, layer, slope, d, i, sums, back, nothing):
    """Backward pass of a delay d and as many inputs from i on as the vector `nothing` is wide; see
    backward."""
    n_in, n_out, at = layer.n_in, layer.n_out, layer.at_matrix
    block, left = len(slope), n_in - i
    for j in range(n_out):
        to = (d * n_out + j) * n_in + i
        pull = load_like(sums, to, nothing)
        for s in range(block):
            heard = load_like(total, (d * block + s) * n_in + i, nothing)
            pull = add_product(broadcast_like(slope[s, j], nothing), heard, pull)
        store_first(sums, to, pull, left)
    if back is None:
        return
    for s in range(block):
        to = (d * block + s) * n_in + i
        pull = nothing if d == 0 else load_like(back, to - block * n_in, nothing)
        for j in range(n_out):
            weights = load_like(transposed, at + (d * n_out + j) * n_in + i, nothing)
            pull = add_product(broadcast_like(slope[s, j], nothing), weights, pull)
        store_first(back, to, pull, left)


@exact
def arrange_back(back, interleaved, block, n, rows):
    """Write rows [D + 1, m] of back, flat [D + 1, S, n], as the states of the layer before lie."""
    for d in range(len(rows)):
        for s in range(block):
            for j in range(n):
                rows[d, j * WIDTH + s if interleaved else s * n + j] = back[(d * block + s) * n + j]

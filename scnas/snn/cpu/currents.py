"""Currents of a layer, forward: of spikes in lists, of rate-coded inputs, of masks of spikes.

A spike adds one row of the matrix, and a silent input costs nothing. Where samples are interleaved, what a
product loads serves all of them, and a delay is an offset: a layer costs one product whatever D is. Currents
are sums of magnitudes, integers of 16 bits where that is enough.
"""

from scnas.snn.cpu.cache import exact
from scnas.snn.cpu.layout import TILE, whole_tiles
from scnas.snn.cpu.vectors import (
    FOUR,
    WIDTH,
    add_counts,
    both,
    broadcast_like,
    load_counts,
    load_like,
    of_counts,
    rows_of,
    shorts_of,
    store,
    store_first,
    store_rows,
)


@exact
def of_lists(active, counts, a, matrix, current, s):
    """Write current [T, S, n_out] of sample s: the sum of what the spikes in the lists of sample a bring."""
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


@exact
def of_levels(inputs, first, size, layer, levels, states, to, step, unit, sums, nothing):
    """Write the currents of the rate-coded inputs of samples first, first + 1, ..., as many as `size`, into
    states, [T, S + 1, n_out] from `to` on, `step` elements from one step of time to the next.

    A rate-coded input is a thermometer: it spikes in the steps whose reversed index lies below its level. Its
    currents in all T steps are running sums of T partial sums, so that an input costs one row instead of one
    a spike. levels: see prepare.prepare_levels. unit: what a count of one adds. sums: scratch. nothing: a
    vector of 64 integers that hold every sum.
    """
    order, starts, ramp = inputs.order, inputs.starts, inputs.ramp
    at, n_in, n_out, slices = layer.at_matrix, layer.n_in, layer.n_out, layer.slices
    timesteps = len(ramp)
    piece, pieces, row = n_in * FOUR, -(-n_out // FOUR), shorts_of(nothing)
    kept = (n_in + 1) * row  # where the sums of the steps begin, behind those of the inputs
    for j in range(0, n_out, FOUR):
        for s in range(size):
            b = first + s
            begin, end = starts[b, 0], starts[b, timesteps]
            for d in range(slices):
                weights = at + (d * pieces + j // FOUR) * piece
                total, place = nothing, (end - begin) * row
                store(sums, place, total)
                for n in range(end - 1, begin - 1, -1):  # no branch a level, which cannot be predicted
                    total = add_counts(total, load_counts(levels, weights + order[b, n] * FOUR, total))
                    place -= row
                    store(sums, place, total)
                for t in range(timesteps - d if slices > 1 else 0):
                    total, now = (
                        load_like(sums, (starts[b, ramp[t]] - begin) * row, nothing),
                        kept + (t + d) * row,
                    )
                    if d > 0:
                        total = add_counts(total, load_like(sums, now, nothing))
                    store(sums, now, total)
            for t in range(timesteps):  # an input spikes in step t if its level exceeds ramp[t]
                place = kept + t * row if slices > 1 else (starts[b, ramp[t]] - begin) * row
                k, total = to + t * step + s * n_out + j, load_like(sums, place, nothing)
                if j + FOUR <= n_out:
                    store(states, k, of_counts(total, unit))
                else:
                    store_first(states, k, of_counts(total, unit), n_out - j)


@exact
def of_masks(masks, weights, places, layer, timesteps, out, to, unit, eight, four):
    """Write the currents of an interleaved layer, [T', n', 16] from out[to] on: a spike is a mask that lets a
    weight through.

    masks: int16, see spikes.masks_of_lists. weights, places: see prepare.prepare_interleaved. unit: what a
    count of one adds. eight, four: vectors of integers that hold every sum, of as many steps; the first may
    be of four as well.
    """
    t, broad = 0, rows_of(eight)
    while t < timesteps:
        if t + broad <= whole_tiles(timesteps):
            _of_masks(masks, t, weights, places, layer, out, to, unit, eight)
            t += broad
        else:
            _of_masks(masks, t, weights, places, layer, out, to, unit, four)
            t += TILE


@exact
def _of_masks(masks, t, weights, places, layer, out, to, unit, nothing):
    """Write the currents of as many steps from t on as the vector `nothing` has rows; see of_masks."""
    n, count, first = layer.n_out, layer.n_in, layer.at_forward
    row = whole_tiles(n) * WIDTH
    for a in range(0, n, TILE):
        k = first + a * count
        base = t * WIDTH
        a0 = a1 = a2 = a3 = nothing
        for _ in range(count):
            w, x = broadcast_like(weights[k], nothing), load_counts(masks, base + places[k], nothing)
            a0 = add_counts(a0, both(w, x))
            w, x = broadcast_like(weights[k + 1], nothing), load_counts(masks, base + places[k + 1], nothing)
            a1 = add_counts(a1, both(w, x))
            w, x = broadcast_like(weights[k + 2], nothing), load_counts(masks, base + places[k + 2], nothing)
            a2 = add_counts(a2, both(w, x))
            w, x = broadcast_like(weights[k + 3], nothing), load_counts(masks, base + places[k + 3], nothing)
            a3 = add_counts(a3, both(w, x))
            k += TILE
        o = to + t * row + a * WIDTH
        store_rows(out, o, row, a0, unit)
        store_rows(out, o + WIDTH, row, a1, unit)
        store_rows(out, o + 2 * WIDTH, row, a2, unit)
        store_rows(out, o + 3 * WIDTH, row, a3, unit)

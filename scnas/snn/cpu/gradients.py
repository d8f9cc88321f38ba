"""Backward pass of the synapses: gradients to weights, delays and spikes of that to the currents.

A gradient to weights is a sum of rows: of the gradient to the currents of a step and sample, one row for
every spike of an input. Tiles have the rows in pieces of 16 neurons, [pieces, rows, 16], so that those of one
piece stay near the core while all inputs are summed up, four pieces or delays at a time. places: [n_in,
most], where in a piece the rows of an input begin; ends: [n_in], how many there are. per_weight: flat, [D +
1, n_in, n_out] of every layer.
"""

import numpy as np

from scnas.snn.cpu.cache import exact, loose
from scnas.snn.cpu.layout import TILE, whole_tiles
from scnas.snn.cpu.loss import exp
from scnas.snn.cpu.vectors import (
    WIDTH,
    add,
    add_product,
    broadcast_like,
    load,
    store,
    store_first,
    transpose,
    zeros,
)


@exact
def _add_to(array, at, values, count):
    """array[at : at + count] += values, a vector of 16, where count may exceed 16."""
    if count >= WIDTH:
        store(array, at, add(values, load(array, at)))
    else:
        store_first(array, at, add(values, load(array, at)), count)


@exact
def _sum_rows(tiles, step, jump, offset, first, streams, places, most, ends, layer, per_weight):
    """Add to per_weight the sums of the rows of `streams` streams, 1 or 4, for every input.

    Stream u belongs to delay (first + u) % (D + 1) of the piece (first + u) // (D + 1), which begins with
    neuron 16 times that, and lies at piece * step + delay * jump + offset of the tiles. most: of rows of an
    input.
    """
    n_in, n_out, slices, to = layer.n_in, layer.n_out, layer.slices, layer.at_weight
    at, into, left = np.zeros(4, np.int64), np.zeros(4, np.int64), np.zeros(4, np.int64)
    for u in range(streams):
        piece, d = (first + u) // slices, (first + u) % slices
        at[u] = offset + piece * step + d * jump
        into[u] = to + d * n_in * n_out + piece * WIDTH
        left[u] = n_out - piece * WIDTH
    o0, o1, o2, o3 = at[0], at[1], at[2], at[3]
    for i in range(n_in):
        if ends[i] == 0:
            continue
        a0 = a1 = a2 = a3 = zeros()
        n, end = i * most, i * most + ends[i]
        if streams == 4:
            while n < end:
                k = places[n]
                a0 = add(a0, load(tiles, o0 + k))
                a1 = add(a1, load(tiles, o1 + k))
                a2 = add(a2, load(tiles, o2 + k))
                a3 = add(a3, load(tiles, o3 + k))
                n += 1
        else:
            while n + 4 <= end:
                a0 = add(a0, load(tiles, o0 + places[n]))
                a1 = add(a1, load(tiles, o0 + places[n + 1]))
                a2 = add(a2, load(tiles, o0 + places[n + 2]))
                a3 = add(a3, load(tiles, o0 + places[n + 3]))
                n += 4
            while n < end:
                a0 = add(a0, load(tiles, o0 + places[n]))
                n += 1
            a0 = add(add(a0, a1), add(a2, a3))
        _add_to(per_weight, into[0] + i * n_out, a0, left[0])
        if streams == 4:
            _add_to(per_weight, into[1] + i * n_out, a1, left[1])
            _add_to(per_weight, into[2] + i * n_out, a2, left[2])
            _add_to(per_weight, into[3] + i * n_out, a3, left[3])


@exact
def of_levels(places, ends, size, ramp, states, at, layer, tiles, per_weight):
    """Add to per_weight what the rate-coded inputs of `size` samples give. places, ends: of their block, see
    spikes.place_levels. states: gradient to currents, [T, 17, n_out] from `at` on."""
    n_out, slices = layer.n_out, layer.slices
    timesteps = len(ramp)
    every = -(-n_out // WIDTH) * slices
    stream, piece = 0, WIDTH * timesteps * WIDTH
    while stream < every:
        streams = 4 if stream + 4 <= every else 1
        for u in range(streams):
            j, d = (stream + u) // slices * WIDTH, (stream + u) % slices
            for s in range(size):  # inputs of level r + 1 spiked in r + 1 steps
                total = zeros()
                for r in range(timesteps):
                    now = ramp[r] + d
                    if now < timesteps:
                        total = add(total, load(states, at + (now * (WIDTH + 1) + s) * n_out + j))
                    store(tiles, u * piece + (s * timesteps + r) * WIDTH, total)
        # The streams lie one behind the other.
        offset = -stream * piece
        _sum_rows(
            tiles, piece * slices, piece, offset, stream, streams, places, WIDTH, ends, layer, per_weight
        )
        stream += streams


@exact
def of_spikes(places, ends, most, tiles, rows, block, layer, per_weight):
    """Add to per_weight what spikes give. places, ends: see spikes.places_of_lists, `most` of them for an
    input. tiles: see cut, `rows` of a piece."""
    every, stream = -(-layer.n_out // WIDTH) * layer.slices, 0
    while stream < every:
        streams = 4 if stream + 4 <= every else 1
        _sum_rows(
            tiles, rows * WIDTH, block * WIDTH, 0, stream, streams, places, most, ends, layer, per_weight
        )
        stream += streams


@exact
def cut(states, at, timesteps, block, rows, n, tiles):
    """Write a state [T, S + 1, n] from `at` on as tiles [pieces, rows, 16], without the last sample; the rows
    that are left, for what arrives after the last step, are zero."""
    length = timesteps * block
    for j in range(0, n, WIDTH):
        for t in range(timesteps):
            for s in range(block):
                row = load(states, at + (t * (block + 1) + s) * n + j)
                store(tiles, j * rows + (t * block + s) * WIDTH, row)
        tiles[j * rows + length * WIDTH : (j + WIDTH) * rows] = 0


@exact
def cut_interleaved(states, at, timesteps, rows, n, tiles):
    """Write an interleaved state [T, n', 16] from `at` on as tiles [pieces, rows, 16]; the rows that are
    left, for what arrives after the last step, are zero."""
    neurons = whole_tiles(n)
    length = timesteps * WIDTH
    for j in range(0, n, WIDTH):
        for t in range(timesteps):
            here, there = at + (t * neurons + j) * WIDTH, j * rows + t * WIDTH * WIDTH
            transpose(states, here, WIDTH, tiles, there, WIDTH, WIDTH)
        tiles[j * rows + length * WIDTH : (j + WIDTH) * rows] = 0


@loose
def to_spikes(gradient, s, transposed, out):
    """Write the gradient to the spikes of sample s, [T, S, n_in], of that to the currents [T, S, n_out]."""
    slices, streams, n_out, n_in = transposed.shape
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
                    out[t - d, s, i] += (g0 * transposed[d, m, j, i] + g1 * transposed[d, m, j + 1, i]) + (
                        g2 * transposed[d, m, j + 2, i] + g3 * transposed[d, m, j + 3, i]
                    )
                j += 4
            while j < n_out:
                g0 = gradient[t, s, j]
                for i in range(n_in):
                    out[t - d, s, i] += g0 * transposed[d, m, j, i]
                j += 1


@exact
def to_interleaved_spikes(x, at, weights, places, layer, timesteps, out, to):
    """Write the gradient to the spikes of an interleaved layer, [T', n_in', 16] from out[to] on, of that to
    its currents, x [T' + D, n_out', 16] from `at` on. weights, places: see prepare.prepare_interleaved."""
    n, count, first = layer.n_in, layer.n_out, layer.at_backward
    row, step = whole_tiles(n) * WIDTH, whole_tiles(count) * WIDTH
    for t in range(0, timesteps, TILE):
        for a in range(0, n, TILE):
            k = first + a * count
            base = at + t * step
            a0 = a1 = a2 = a3 = zeros()
            b0, b1, b2, b3 = a0, a1, a2, a3
            c0, c1, c2, c3 = a0, a1, a2, a3
            d0, d1, d2, d3 = a0, a1, a2, a3
            for _ in range(count):
                w, p = broadcast_like(weights[k], a0), base + places[k]
                a0 = add_product(w, load(x, p), a0)
                a1 = add_product(w, load(x, p + step), a1)
                a2 = add_product(w, load(x, p + 2 * step), a2)
                a3 = add_product(w, load(x, p + 3 * step), a3)
                w, p = broadcast_like(weights[k + 1], a0), base + places[k + 1]
                b0 = add_product(w, load(x, p), b0)
                b1 = add_product(w, load(x, p + step), b1)
                b2 = add_product(w, load(x, p + 2 * step), b2)
                b3 = add_product(w, load(x, p + 3 * step), b3)
                w, p = broadcast_like(weights[k + 2], a0), base + places[k + 2]
                c0 = add_product(w, load(x, p), c0)
                c1 = add_product(w, load(x, p + step), c1)
                c2 = add_product(w, load(x, p + 2 * step), c2)
                c3 = add_product(w, load(x, p + 3 * step), c3)
                w, p = broadcast_like(weights[k + 3], a0), base + places[k + 3]
                d0 = add_product(w, load(x, p), d0)
                d1 = add_product(w, load(x, p + step), d1)
                d2 = add_product(w, load(x, p + 2 * step), d2)
                d3 = add_product(w, load(x, p + 3 * step), d3)
                k += TILE
            o = to + t * row + a * WIDTH
            for u in range(TILE):
                store(out, o + u * row, a0)
                store(out, o + u * row + WIDTH, b0)
                store(out, o + u * row + 2 * WIDTH, c0)
                store(out, o + u * row + 3 * WIDTH, d0)
                a0, a1, a2 = a1, a2, a3
                b0, b1, b2 = b1, b2, b3
                c0, c1, c2 = c1, c2, c3
                d0, d1, d2 = d1, d2, d3


@loose
def collect(width, per_weight, synapses, limit, one, to_weight, to_position):
    """Write the gradients to real weights and delay positions, of those to the matrix of each delay.

    A weight moves the current by 2^F = `one` where its delay is; a position moves its synapse between delays
    as a softmax over exp(-(d - position)^2 / (2 width^2)), d = 0..limit, would.
    """
    weight, position = synapses.weight, synapses.position
    delays, n_in, n_out = per_weight.shape
    if delays == 1:
        for i in range(n_in):
            for j in range(n_out):
                to_weight[i, j] = per_weight[0, i, j] * one
        return
    scale, nothing = np.float32(-0.5) / (width * width), np.float32(0)
    total, mean = np.empty(n_out, np.float32), np.empty(n_out, np.float32)
    pull, moved = np.empty(n_out, np.float32), np.empty(n_out, np.float32)
    for i in range(n_in):
        for j in range(n_out):
            total[j] = mean[j] = pull[j] = moved[j] = nothing
            # NaN stays NaN.
            to_weight[i, j] = nothing if position[i, j] == position[i, j] else position[i, j]
        for d in range(limit + 1):
            for j in range(n_out):
                off = np.float32(d) - position[i, j]
                share = exp(max(scale * off * off, np.float32(-87)))
                total[j] += share
                mean[j] += share * off
                pull[j] += share * per_weight[d, i, j]
                moved[j] += share * off * per_weight[d, i, j]
                here = np.rint(position[i, j]) == np.float32(d)
                to_weight[i, j] += per_weight[d, i, j] * one if here else nothing
        for j in range(n_out):
            slope = (moved[j] - pull[j] * mean[j] / total[j]) / total[j]
            to_position[i, j] = slope * one * weight[i, j] / (width * width)

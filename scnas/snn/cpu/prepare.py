"""The integers of a layer from its real weights, laid out as the products of the layer take them."""

import numpy as np

from scnas.snn.cpu.cache import exact
from scnas.snn.cpu.layout import BOUND, EACH, TILE, TOP, UNIT, matrix_of, transposed_of, whole_tiles
from scnas.snn.cpu.vectors import FOUR, WIDTH


@exact
def prepare(layer, k, synapses, first, timesteps, tables, buffers):
    """Fill the buffers with the integers of a layer of one candidate, in the form in which its products take
    them. first: whether it is the first layer. tables: see Population."""
    n_in, n, slices, streams = layer.n_in, layer.n_out, layer.slices, layer.streams
    levels = (
        buffers.levels[: slices * n_in * (-(-n // FOUR) * FOUR)] if layer.rate_coded else buffers.levels[:0]
    )
    if layer.interleaved and not layer.rate_coded:
        to, at = layer.at_forward, layer.at_backward
        many, few = n_in * whole_tiles(n), whole_tiles(n_in) * n
        height = whole_tiles(timesteps) + slices - 1
        forward, forward_at = buffers.forward[to : to + many], buffers.forward_at[to : to + many]
        backward, backward_at = buffers.backward[at : at + few], buffers.backward_at[at : at + few]
        prepare_interleaved(synapses, layer, k, height, forward, forward_at, backward, backward_at)
        return
    if layer.rate_coded and layer.fires:
        prepare_levels(synapses, layer, k, levels)
        return
    matrix, transposed = matrix_of(buffers.matrices, layer), transposed_of(buffers.transposed, layer)
    if layer.sobol and not layer.fires:
        table = tables[:0].reshape(0, 1)
        prepare_sum(synapses, layer, k, timesteps, levels, table, matrix, transposed)
        return
    magnitudes = 0 if layer.sobol else int(np.float32(k[TOP])) + 1
    table = tables[layer.at_table : layer.at_table + streams * magnitudes].reshape(
        streams if magnitudes else 0, max(magnitudes, 1)
    )
    prepare_matrices(synapses, k, table, matrix, transposed[:0] if first else transposed)


@exact
def prepare_matrices(synapses, k, table, matrix, transposed):
    """Fill `matrix` and `transposed`, as far as they have slices, with the integers behind real weights, in
    current units, each in the slice of its delay.

    k: constants of the layer. table: [T, M + 1], ones of a magnitude in current units; empty where a stream
    holds exactly w ones."""
    weight, keep, position = synapses.weight, synapses.keep, synapses.position
    top, unit = np.float32(k[TOP]), np.float32(k[EACH])
    slices, streams, n_in, n_out = matrix.shape
    for s in range(streams):
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
                    elif w == w:  # NaN stays NaN and is no index
                        value = table[s, int(abs(w))] if w >= 0 else -table[s, int(abs(w))]
                    matrix[0, s, i, j] = value
            for d in range(slices - 1, -1, -1):
                if slices > 1:
                    for j in range(n_out):
                        here = np.rint(position[i, j]) == d
                        matrix[d, s, i, j] = matrix[0, s, i, j] if here else np.float32(0)
        if len(transposed):
            for d in range(slices):
                transposed[d, s] = matrix[d, s].T


@exact
def prepare_levels(synapses, layer, k, levels):
    """Fill `levels` with what a layer of sobol streams needs for rate-coded inputs: signed magnitudes, int16,
    in pieces of 64 neurons, [D + 1, pieces, n_in, 64], flat. What follows from the weights goes into layer
    and k."""
    weight, keep, position = synapses.weight, synapses.keep, synapses.position
    n_in, n_out, span = layer.n_in, layer.n_out, layer.slices - 1
    top = np.float32(k[TOP])
    levels[:] = 0
    size = -(-n_out // FOUR) * n_in * FOUR
    sums, value = np.zeros(n_out, np.float32), np.empty(n_out, np.float32)
    for i in range(n_in):
        own, kept = weight[i], keep[i]
        for j in range(n_out):
            value[j] = magnitude(own[j], kept[j], top)
            sums[j] += abs(value[j])
        for first in range(0, n_out, FOUR):
            at, count = first * n_in + i * FOUR, min(FOUR, n_out - first)
            if span > 0:
                for j in range(count):
                    levels[at + delay_of(position[i, first + j], span) * size + j] = short(value[first + j])
            else:
                row, few = levels[at : at + count], value[first : first + count]
                for j in range(count):
                    row[j] = short(few[j])
    note(sums, layer, k)


@exact
def prepare_interleaved(synapses, layer, k, height, forward, forward_at, backward, backward_at):
    """Fill in the weights of an interleaved layer of sobol streams, and where in the state that they are
    multiplied with their factors begin.

    forward, forward_at: [n_out / 4, n_in, 4], signed magnitudes, int16, for masks of spikes [n_in, height,
    16] behind D empty steps. backward, backward_at: [n_in / 4, n_out, 4], in current units, for the gradient
    to currents [T' + D, n_out', 16]. All flat; sizes are rounded up, with weights of 0. What follows from the
    weights goes into layer and k.
    """
    weight, keep, position = synapses.weight, synapses.keep, synapses.position
    n_in, n_out, span = layer.n_in, layer.n_out, layer.slices - 1
    top, unit = np.float32(k[TOP]), np.float32(k[EACH])
    forward[:] = 0
    backward[:] = 0
    forward_at[:] = 0
    backward_at[:] = 0
    step_out = WIDTH * whole_tiles(n_out)
    sums, value, late = np.zeros(n_out, np.float32), np.empty(n_out, np.float32), np.zeros(n_out, np.int64)
    for i in range(n_in):
        own, kept = weight[i], keep[i]
        for j in range(n_out):
            value[j] = magnitude(own[j], kept[j], top)
            sums[j] += abs(value[j])
        for j in range(n_out if span > 0 else 0):
            late[j] = delay_of(position[i, j], span)
        for a in range(0, n_out, TILE):
            at, place = a * n_in + i * TILE, (i * height + span) * WIDTH
            for u in range(min(TILE, n_out - a)):
                forward[at + u] = short(value[a + u])
                forward_at[at + u] = place - late[a + u] * WIDTH
        at = (i - i % TILE) * n_out + i % TILE
        for j in range(n_out):
            backward[at + j * TILE] = value[j] * unit
            backward_at[at + j * TILE] = late[j] * step_out + j * WIDTH
    note(sums, layer, k)


@exact
def prepare_sum(synapses, layer, k, timesteps, levels, table, matrix, transposed):
    """Prepare a last layer that only integrates, and decide whether it is summed up at once: where no current
    can saturate, and sums are exact in float32."""
    n_in, n_out = layer.n_in, layer.n_out
    top = np.float32(k[TOP])
    sums = np.zeros(n_out, np.float32)
    for i in range(n_in):
        for j in range(n_out):
            sums[j] += abs(magnitude(synapses.weight[i, j], synapses.keep[i, j], top))
    current = largest_of(sums) * np.float32(k[EACH])
    layer.summed = current < k[BOUND] and current * timesteps < 2**24
    if layer.rate_coded and not layer.summed:
        prepare_levels(synapses, layer, k, levels)
    else:
        prepare_matrices(synapses, k, table, matrix, transposed)


@exact
def magnitude(weight, keep, top):
    """A real weight as a signed magnitude; NaN if it is NaN or beyond 2^15."""
    value = np.rint(weight * top) if keep else np.float32(0)
    return value if abs(value) < np.float32(2**15) else np.float32(np.nan)


@exact
def short(value):
    """An integer of 16 bits; 0 for NaN."""
    return np.int16(value) if value == value else np.int16(0)


@exact
def delay_of(position, span):
    """The delay of a synapse, 0..span; 0 where its position is NaN."""
    here = np.rint(position)
    return int(min(here, np.float32(span))) if here > 0 else 0


@exact
def largest_of(sums):
    """The largest of sums of magnitudes; NaN if one is NaN, or larger than any can be."""
    return sums.max() if sums.sum() < np.float32(2**40) else np.float32(np.nan)


@exact
def note(sums, layer, k):
    """Write into layer and k what follows from the sums of magnitudes of a layer's neurons."""
    unit, largest = np.float32(k[EACH]), largest_of(sums)
    layer.narrow = largest < 2**15
    layer.unsaturated = largest * unit < k[BOUND]
    k[UNIT] = unit if largest == largest else largest  # integers have no NaN

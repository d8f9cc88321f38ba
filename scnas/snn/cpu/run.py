"""All candidates over a batch, one after the other, with a working set that stays in cache.

What the stacked tensors of population.py compute for all candidates at once, `run` computes for one after the
other, a block of samples at a time: forward through all layers, then backward through all of them, so that
what was saved for backward is still in the cache. The integers forward are the same, and so are the
hand-derived gradients backward. A layer has one of four forms, see layout.LAYER: summed, rate-coded,
interleaved, or by lists of spikes.
"""

from typing import NamedTuple

import numpy as np

from scnas.snn.cpu import counted, currents, gradients, spikes
from scnas.snn.cpu.cache import borrowing, borrowing_loose, exact, inner, inner_loose, view
from scnas.snn.cpu.layout import (
    BOUND,
    CURRENT,
    DISTANCE,
    GRADIENT,
    KEEP,
    MEMBRANE,
    ONE,
    POSITION,
    TO_POSITION,
    TO_WEIGHT,
    UNIT,
    WEIGHT,
    Candidate,
    Result,
    Synapses,
    for_all_samples,
    interleave,
    interleave_few,
    lists_of,
    matrix_of,
    separate,
    state_at,
    state_of,
    tensor_of,
    transposed_of,
    whole_tiles,
)
from scnas.snn.cpu.loss import cross_entropy, sum_of_currents, sum_of_spikes, to_last_layer
from scnas.snn.cpu.neurons import adapts, neurons, neurons_backward
from scnas.snn.cpu.prepare import prepare
from scnas.snn.cpu.vectors import FOUR, WIDTH, counts_eight, counts_four, long_counts_four


class Work(NamedTuple):
    """Scratch of one candidate.

    thresholds, to_threshold: [layers, neurons of all samples], and the gradient to them. A neuron fired where
    state `seen` of its layer, [layers], is its `level`, [layers, neurons of all samples], or more. slope: [S,
    classes], gradient to scores. Of a last layer that is summed up, with room for whole vectors: total and
    to_total, flat [D + 1, S, n_in], spikes of its inputs and the gradients to them; found and rows, [D + 1,
    m], the same as they lie in the states of the layer before; to_weights, flat [D + 1, n_out, n_in].
    """

    thresholds: np.ndarray
    to_threshold: np.ndarray
    seen: np.ndarray
    level: np.ndarray
    slope: np.ndarray
    total: np.ndarray
    to_total: np.ndarray
    found: np.ndarray
    rows: np.ndarray
    to_weights: np.ndarray


@inner
def _work(candidate, classes):
    """Work of a candidate, with its thresholds."""
    layers, block = candidate.layers, candidate.block
    depth, widest = len(layers), whole_tiles(candidate.threshold.shape[1])
    thresholds = np.ones((depth, widest * block), np.float32)
    seen, level = np.full(depth, MEMBRANE), thresholds
    for i in range(depth):
        for_all_samples(candidate.threshold[i], layers[i], block, thresholds[i])
        if layers[i].float64 or (not layers[i].izhikevich and adapts(candidate.k[i])):
            seen[i] = DISTANCE
    if (seen == DISTANCE).any():
        level = thresholds.copy()
        for i in range(depth):
            if seen[i] == DISTANCE:
                level[i] = 0
    last = layers[depth - 1]
    size = last.slices * block * last.n_in
    m = block * last.n_in
    if depth > 1 and layers[depth - 2].interleaved:
        m = whole_tiles(last.n_in) * WIDTH
    return Work(
        thresholds,
        np.zeros((depth, widest * block), np.float32),
        seen,
        level,
        np.zeros((block, classes), np.float32),
        np.zeros(size + FOUR, np.float32),
        np.zeros(size + FOUR, np.float32),
        np.zeros((last.slices, m), np.float32),
        np.zeros((last.slices, m), np.float32),
        np.zeros(last.slices * last.n_out * last.n_in + FOUR, np.float32),
    )


# -- forward --------------------------------------------------------------------------------------


@view
def _totals(work, layer, block):
    """Spikes of the inputs of a last layer that is summed up, [D + 1, S, n_in]."""
    size = layer.slices * block * layer.n_in
    return work.total[:size].reshape(layer.slices, block, layer.n_in)


@borrowing
def _forward_summed(candidate, i, inputs, first, size, buffers, work, scores):
    """Scores of a last layer that is summed up."""
    layer = candidate.layers[i]
    total, transposed = _totals(work, layer, candidate.block), transposed_of(buffers.transposed, layer)
    for s in range(size if i == 0 else 0):
        counted.count_listed(inputs.active, inputs.counts, first + s, total, s)
    if i > 0:
        counted.arrange(work.found, layer, candidate.layers[i - 1].interleaved, size, total)
    for s in range(size):
        counted.scores_of(total, s, transposed, scores, first + s)


@borrowing
def _counted(work, layer, size, block):
    """How many spikes the inputs of a last layer that is summed up have."""
    total, found = _totals(work, layer, block), 0
    for s in range(size):
        for j in range(layer.n_in):
            found += int(total[0, s, j])
    return found


@borrowing
def _currents_of_levels(candidate, i, inputs, first, size, buffers):
    """Currents of layer i, whose inputs are rate-coded."""
    layer, block, timesteps = candidate.layers[i], candidate.block, candidate.timesteps
    n, unit = layer.n_out, np.float32(candidate.k[i, UNIT])
    at, step = state_at(layer, CURRENT, block, timesteps), (block + 1) * n
    to, target = at, buffers.states
    if layer.interleaved:
        to, target = 0, buffers.spare
    levels, sums = buffers.levels, buffers.masks
    if layer.narrow:
        currents.of_levels(inputs, first, size, layer, levels, target, to, step, unit, sums, counts_four())
    else:
        currents.of_levels(
            inputs, first, size, layer, levels, target, to, step, unit, sums, long_counts_four()
        )
    if layer.interleaved:
        interleave(buffers.spare, timesteps, n, size, buffers.states, at)


@borrowing
def _currents_of_masks(candidate, i, inputs, first, size, buffers, work):
    """Currents of layer i, which is interleaved; returns the spikes of its inputs where they are neurons of
    an interleaved layer."""
    layers, layer, block, timesteps = (
        candidate.layers,
        candidate.layers[i],
        candidate.block,
        candidate.timesteps,
    )
    n_in, span, found = layer.n_in, layer.slices - 1, 0
    height, masks, states = whole_tiles(timesteps) + span, buffers.masks, buffers.states
    if i > 0 and layers[i - 1].interleaved:
        at = state_at(layers[i - 1], work.seen[i - 1], block, timesteps)
        level = work.level[i - 1]
        found = spikes.masks_of_states(states, at, level, timesteps, size, n_in, span, height, masks)
    elif i > 0:
        active, counts = lists_of(buffers.lists, layers[i - 1], block, timesteps)
        spikes.masks_of_lists(active, counts, 0, size, n_in, span, height, masks)
    else:
        spikes.masks_of_lists(inputs.active, inputs.counts, first, size, n_in, span, height, masks)
    to, unit = state_at(layer, CURRENT, block, timesteps), np.float32(candidate.k[i, UNIT])
    weights, places = buffers.forward, buffers.forward_at
    if layer.narrow:
        eight, four = counts_eight(), counts_four()
        currents.of_masks(masks, weights, places, layer, timesteps, states, to, unit, eight, four)
    else:
        four = long_counts_four()
        currents.of_masks(masks, weights, places, layer, timesteps, states, to, unit, four, four)
    return found


@borrowing
def _currents_of_lists(candidate, i, inputs, first, size, buffers):
    """Currents of layer i from lists of spikes."""
    layer, block, timesteps = candidate.layers[i], candidate.block, candidate.timesteps
    matrix = matrix_of(buffers.matrices, layer)
    current = state_of(buffers.states, layer, CURRENT, block, timesteps)
    active, counts, at = inputs.active, inputs.counts, first
    if i > 0:
        active, counts = lists_of(buffers.lists, candidate.layers[i - 1], block, timesteps)
        at = 0
    for s in range(size):
        currents.of_lists(active, counts, at + s, matrix, current, s)


@borrowing
def _forward(candidate, inputs, first, size, buffers, work, result, counts_spikes):
    """All layers for the samples first, first + 1, ..., as many as `size`: scores, and if `counts_spikes` how
    many spikes each layer fired."""
    layers, block, timesteps = candidate.layers, candidate.block, candidate.timesteps
    depth, fired, scores = len(layers), result.fired, result.scores
    for i in range(depth):
        layer = layers[i]
        if layer.summed:
            _forward_summed(candidate, i, inputs, first, size, buffers, work, scores)
            if counts_spikes and i > 0:
                fired[i - 1] += _counted(work, layer, size, block)
            continue
        if layer.rate_coded:
            _currents_of_levels(candidate, i, inputs, first, size, buffers)
        elif layer.interleaved:
            found = _currents_of_masks(candidate, i, inputs, first, size, buffers, work)
            if i > 0:
                fired[i - 1] += found
        else:
            _currents_of_lists(candidate, i, inputs, first, size, buffers)
        if not layer.fires:
            current = state_of(buffers.states, layer, CURRENT, block, timesteps)
            sum_of_currents(current, candidate.k[i, BOUND], first, size, scores)
            continue
        sums_up = i < depth - 1 and layers[i + 1].summed != 0
        neurons(candidate, i, buffers.states, size, work.thresholds[i], sums_up, work.found)
        if sums_up:
            continue
        state = state_of(buffers.states, layer, work.seen[i], block, timesteps)
        if i == depth - 1:
            sum_of_spikes(state, work.level[i], layer.interleaved, first, size, scores)
            for s in range(size):
                for j in range(layer.n_out):
                    fired[i] += int(scores[first + s, j])
        elif not (layer.interleaved and layers[i + 1].interleaved):
            active, counts = lists_of(buffers.lists, layer, block, timesteps)
            for s in range(size):
                spikes.list_neurons(state, work.level[i], layer.interleaved, s, active, counts)
            if counts_spikes:
                fired[i] += counts[:size].sum()


# -- backward -------------------------------------------------------------------------------------


@borrowing
def _backward_summed(candidate, i, buffers, work):
    """Backward pass of a last layer that is summed up."""
    layer = candidate.layers[i]
    if i > 0:
        counted.backward(work.total, buffers.transposed, layer, work.slope, work.to_weights, work.to_total)
        interleaved = candidate.layers[i - 1].interleaved
        counted.arrange_back(work.to_total, interleaved, candidate.block, layer.n_in, work.rows)
    else:
        counted.backward(work.total, buffers.transposed, layer, work.slope, work.to_weights, None)


@borrowing
def _levels_to_weights(candidate, i, inputs, first, size, buffers):
    """Gradients to the weights of layer i, whose inputs are rate-coded."""
    layer, timesteps = candidate.layers[i], candidate.timesteps
    at, target = state_at(layer, GRADIENT, candidate.block, timesteps), buffers.states
    if layer.interleaved:
        separate(buffers.states, at, timesteps, layer.n_out, buffers.spare, 0)
        at, target = 0, buffers.spare
    places = inputs.places[first // WIDTH].reshape(layer.n_in * WIDTH)
    ends = inputs.ends[first // WIDTH]
    gradients.of_levels(places, ends, size, inputs.ramp, target, at, layer, buffers.tiles, buffers.per_weight)


@inner
def _spikes_to_weights(candidate, i, inputs, first, size, buffers, work):
    """Gradients to the weights of layer i, whose inputs are spikes."""
    layers, layer, block, timesteps = (
        candidate.layers,
        candidate.layers[i],
        candidate.block,
        candidate.timesteps,
    )
    n_in, places, ends = layer.n_in, buffers.places, np.zeros(layer.n_in, np.int32)
    if i > 0 and layers[i - 1].interleaved:
        at = state_at(layers[i - 1], work.seen[i - 1], block, timesteps)
        spikes.places_of_states(buffers.states, at, work.level[i - 1], timesteps, size, n_in, places, ends)
    elif i > 0:
        active, counts = lists_of(buffers.lists, layers[i - 1], block, timesteps)
        spikes.places_of_lists(active, counts, 0, size, block, places, ends)
    else:
        spikes.places_of_lists(inputs.active, inputs.counts, first, size, block, places, ends)
    length = timesteps * block
    height, at = length + (layer.slices - 1) * block, state_at(layer, GRADIENT, block, timesteps)
    if layer.interleaved:
        gradients.cut_interleaved(buffers.states, at, timesteps, height, layer.n_out, buffers.tiles)
    else:
        gradients.cut(buffers.states, at, timesteps, block, height, layer.n_out, buffers.tiles)
    gradients.of_spikes(places, ends, length, buffers.tiles, height, block, layer, buffers.per_weight)


@borrowing
def _to_layer_before(candidate, i, size, buffers):
    """Gradients to the spikes of layer i - 1 of those to the currents of layer i, in the states of both."""
    layer, before = candidate.layers[i], candidate.layers[i - 1]
    block, timesteps, states, spare = candidate.block, candidate.timesteps, buffers.states, buffers.spare
    at, to = state_at(layer, GRADIENT, block, timesteps), state_at(before, GRADIENT, block, timesteps)
    if layer.interleaved:
        step, height = whole_tiles(layer.n_out) * WIDTH, whole_tiles(timesteps) + layer.slices - 1
        states[at + timesteps * step : at + height * step] = 0
        weights, places = buffers.backward, buffers.backward_at
        if before.interleaved:
            gradients.to_interleaved_spikes(states, at, weights, places, layer, timesteps, states, to)
        else:
            gradients.to_interleaved_spikes(states, at, weights, places, layer, timesteps, spare, 0)
            separate(spare, 0, timesteps, layer.n_in, states, to)
        return
    target = out = state_of(states, before, GRADIENT, block, timesteps)
    if before.interleaved:
        target = spare[: timesteps * block * layer.n_in].reshape(timesteps, block, layer.n_in)
    transposed = transposed_of(buffers.transposed, layer)
    gradient = state_of(states, layer, GRADIENT, block, timesteps)
    for s in range(size):
        gradients.to_spikes(gradient, s, transposed, target)
    if before.interleaved:
        interleave_few(target, size, out)


@borrowing_loose
def _backward(candidate, inputs, first, size, buffers, work, result):
    """All layers backward, of the gradient to scores in `work.slope`: gradients to matrices, to thresholds of
    all samples, to gain_k and leak_k."""
    layers, block, timesteps, states = candidate.layers, candidate.block, candidate.timesteps, buffers.states
    depth, to_k = len(layers), result.to_k
    for i in range(depth - 1, -1, -1):
        layer = layers[i]
        if layer.summed:
            _backward_summed(candidate, i, buffers, work)
            continue
        if i == depth - 1:
            gradient = state_of(states, layer, GRADIENT, block, timesteps)
            current = state_of(states, layer, CURRENT, block, timesteps)
            to_last_layer(current, work.slope, candidate.k[i, BOUND], layer, size, gradient)
        if layer.fires:
            sums_up = i < depth - 1 and layers[i + 1].summed != 0
            rows, own = work.rows if sums_up else work.rows[:0], work.to_threshold[i]
            gain, leak = neurons_backward(
                candidate, i, states, size, rows, work.thresholds[i], inputs.down, own
            )
            to_k[i, 0] += gain / candidate.k[i, ONE]
            to_k[i, 1] += leak / candidate.k[i, ONE]
        if layer.rate_coded:
            _levels_to_weights(candidate, i, inputs, first, size, buffers)
            continue
        _spikes_to_weights(candidate, i, inputs, first, size, buffers, work)
        if i > 0:
            _to_layer_before(candidate, i, size, buffers)


@inner_loose
def _gather(candidate, work, per_weight, to_threshold):
    """Gradients to thresholds from those of all samples, and to the matrix of a last layer that is summed
    up."""
    layers, block = candidate.layers, candidate.block
    for i in range(len(layers)):
        for j in range(layers[i].n_out):
            for s in range(block):
                to_threshold[i, j] += work.to_threshold[
                    i, j * WIDTH + s if layers[i].interleaved else s * layers[i].n_out + j
                ]
    last = layers[len(layers) - 1]
    if last.summed:
        at = last.at_weight
        for d in range(last.slices):
            for a in range(last.n_in):
                for j in range(last.n_out):
                    per_weight[at] = work.to_weights[(d * last.n_out + j) * last.n_in + a]
                    at += 1


# -- a candidate, a population --------------------------------------------------------------------


@inner_loose
def _run(candidate, inputs, labels, factor, buffers, result):
    """One candidate over a batch: forward, and backward if there are labels, [B]; without any it goes forward
    alone. Returns the mean loss and the gradient to the logarithm of factor, what turns a score into a
    logit."""
    batch, block, scores = len(result.scores), candidate.block, result.scores
    training, last = len(labels) > 0, candidate.layers[len(candidate.layers) - 1]
    work = _work(candidate, scores.shape[1])
    buffers.per_weight[: last.at_weight + last.slices * last.n_in * last.n_out] = 0
    result.to_threshold[:] = 0
    result.to_k[:] = 0
    result.fired[:] = 0
    loss = to_factor = 0.0
    for first in range(0, batch, block):
        size = min(block, batch - first)
        _forward(candidate, inputs, first, size, buffers, work, result, not training)
        if not training:
            continue
        work.slope[:] = 0
        for s in range(size):
            more, change = cross_entropy(scores, first + s, labels[first + s], factor, batch, work.slope[s])
            loss += more
            to_factor += change
        _backward(candidate, inputs, first, size, buffers, work, result)
    if training:
        _gather(candidate, work, buffers.per_weight, result.to_threshold)
    return loss / batch, to_factor


@inner
def _synapses(population, i, p):
    """Synapses of layer i of candidate p, in its tensors."""
    addresses, shape, real = population.addresses[i], population.shapes[i], np.float32(0)
    return Synapses(
        tensor_of(addresses[WEIGHT], real, p, shape),
        tensor_of(addresses[KEEP], np.uint8(0), p, shape),
        tensor_of(addresses[POSITION], real, p, shape),
    )


@inner
def _collect(population, p, softness, per_weight):
    """Gradients of candidate p to weights and delays, in its tensors, of those to its matrices."""
    real = np.float32(0)
    for i in range(population.layers.shape[1]):
        layer, addresses, shape = population.layers[p, i], population.addresses[i], population.shapes[i]
        n_in, n, slices, at = layer.n_in, layer.n_out, layer.slices, layer.at_weight
        gradients.collect(
            np.float32(max(0.5, (slices - 1) * softness / 2)),
            per_weight[at : at + slices * n_in * n].reshape(slices, n_in, n),
            _synapses(population, i, p),
            slices - 1,
            np.float32(population.k[p, i, ONE]),
            tensor_of(addresses[TO_WEIGHT], real, p, shape),
            tensor_of(addresses[TO_POSITION], real, p, shape),
        )


@exact
def run(population, inputs, labels, factors, softness, buffers, results):
    """All candidates over a batch: forward, and backward if there are labels, [B]; without any it goes
    forward alone.

    factors: [P], what turns a score into a logit. softness: of delays, see LayerStack.forward. Gradients to
    weights and delays go into the tensors, all else into `results`.
    """
    timesteps = len(inputs.down)
    for p in range(len(population.layers)):
        for i in range(population.layers.shape[1]):
            layer, k, synapses = population.layers[p, i], population.k[p, i], _synapses(population, i, p)
            prepare(layer, k, synapses, i == 0, timesteps, population.tables, buffers)
        candidate = Candidate(
            population.layers[p],
            population.k[p],
            population.k[p].astype(np.float32),
            population.threshold[p],
            population.noise[p],
            population.noise[p].astype(np.float32),
            population.blocks[p],
            timesteps,
        )
        scores = results.scores[min(p, len(results.scores) - 1)]
        result = Result(results.to_threshold[p], results.to_k[p], scores, results.fired[p])
        results.losses[p], results.to_factor[p] = _run(candidate, inputs, labels, factors[p], buffers, result)
        if len(labels):
            _collect(population, p, softness, buffers.per_weight)

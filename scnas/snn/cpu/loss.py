"""Scores of the last layer, their cross-entropy, and the gradients to both."""

import math

import numpy as np

from scnas.snn.cpu.cache import exact, loose
from scnas.snn.cpu.vectors import WIDTH


@exact
def exp(x):
    """exp(x) of x from -87 to 0, to a few units in the last place, such that a loop of it is vectorised.

    Moshier's Cephes, single/expf.c: a power of two times a polynomial.
    """
    whole = np.rint(x * np.float32(1.44269504))
    r = x - whole * np.float32(0.693359375) + whole * np.float32(2.12194440e-4)
    p = np.float32(1.9875691500e-4) * r + np.float32(1.3981999507e-3)
    p = p * r + np.float32(8.3334519073e-3)
    p = p * r + np.float32(4.1665795894e-2)
    p = p * r + np.float32(1.6666665459e-1)
    p = p * r + np.float32(5.0000001201e-1)
    return (p * r * r + r + np.float32(1)) * np.int32((np.int32(whole) + np.int32(127)) << 23).view(
        np.float32
    )


@loose
def cross_entropy(scores, b, label, factor, batch, slope):
    """Cross-entropy of scores[b] and the gradient to the logarithm of `factor`, what turns a score into a
    logit; the gradient to the scores, over the batch, goes into `slope`."""
    classes = scores.shape[1]
    top = scores[b, 0] * factor
    for j in range(classes):
        top = max(top, scores[b, j] * factor)
    total = 0.0
    for j in range(classes):
        slope[j] = exp(np.float32(max(scores[b, j] * factor - top, -87.0)))
        total += slope[j]
    to_factor = 0.0
    for j in range(classes):
        share = (slope[j] / total - (1.0 if j == label else 0.0)) / batch
        to_factor += share * scores[b, j] * factor
        slope[j] = share * factor
    return math.log(total) + top - scores[b, label] * factor, to_factor


@exact
def judge(scores, labels, factors, losses, right):
    """Write what scores [P, B, classes] are worth: summed cross-entropies and numbers of right answers, both
    [P]. factors: [P], what turns a score into a logit. The class is the first of the highest scores; none if
    one is NaN."""
    count, batch, classes = scores.shape
    for p in range(count):
        losses[p] = right[p] = 0
        for b in range(batch):
            best, most, total = 0, scores[p, b, 0], 0.0
            for j in range(1, classes):
                if scores[p, b, j] > most:
                    best, most = j, scores[p, b, j]
            for j in range(classes):
                total += math.exp((scores[p, b, j] - most) * factors[p])
            losses[p] += math.log(total) + (most - scores[p, b, labels[b]]) * factors[p]
            right[p] += best == labels[b] and total == total


@exact
def sum_of_currents(current, bound, first, size, scores):
    """Write the scores of a last layer that only integrates, whose currents are [T, S, n]."""
    low, high = np.float32(-bound), np.float32(bound) - np.float32(1)
    timesteps, _, n = current.shape
    for s in range(size):
        scores[first + s] = 0
        for t in range(timesteps):
            for j in range(n):
                scores[first + s, j] += min(max(current[t, s, j], low), high)


@exact
def sum_of_spikes(state, level, interleaved, first, size, scores):
    """Write the scores of a last layer that fires, its spikes: neurons fired where their state is their level
    or more, see spikes.list_neurons."""
    n = scores.shape[1]
    scores[first : first + size] = 0
    for t in range(len(state)):
        for s in range(size):
            for j in range(n):
                now = state[t, j, s] if interleaved else state[t, s, j]
                over = now >= level[j * WIDTH + s if interleaved else s * n + j]
                scores[first + s, j] += 1.0 if over else 0.0


@exact
def to_last_layer(current, slope, bound, layer, size, gradient):
    """Write the gradient to the spikes of a last layer in all steps, or to its currents where it only
    integrates, of that to its scores, `slope` [S, classes]."""
    low, high = np.float32(-bound), np.float32(bound) - np.float32(1)
    gradient[:] = 0
    for t in range(len(gradient)):
        for s in range(size):
            for j in range(layer.n_out):
                if layer.interleaved:
                    gradient[t, j, s] = slope[s, j]
                else:
                    open_now = layer.fires or (current[t, s, j] >= low and current[t, s, j] <= high)
                    gradient[t, s, j] = slope[s, j] if open_now else np.float32(0)

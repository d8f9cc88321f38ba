"""Loops over the parameters of a population: norms of gradients, and a step of Adam.

A loop is vectorised by the compiler only if it starts at 0, hence a slice for each row.
"""

from typing import NamedTuple

import numpy as np

from scnas.snn.cpu.cache import compiled, exact


class Pace(NamedTuple):
    """Of a step: minus the learning rate over the correction of the first moment, one over the root of that
    of the second, what both moments keep of themselves (the betas), and what is added to the divisor."""

    rate: float
    root: float
    first: float
    second: float
    epsilon: float


@compiled(error_model="numpy", fastmath={"reassoc", "contract"})
def squares(gradient, columns, sizes, mask, norms):
    """norms [P] += sum of squares of the gradient [P, n] where the mask, [P, n] or [1, 1], lets it.

    columns: of a row of the tensor. sizes: [P, 2], rows and columns that are no padding: the order of the
    sum, and so its last bit, must not depend on how wide the neighbours are.
    """
    masked = mask.shape[1] == gradient.shape[1] and len(mask) == len(gradient)
    for p in range(len(gradient)):
        total = 0.0
        for i in range(sizes[p, 0]):
            own = gradient[p, i * columns : i * columns + sizes[p, 1]]
            if masked:
                kept = mask[p, i * columns : i * columns + sizes[p, 1]]
                for n in range(len(own)):
                    own[n] = own[n] if kept[n] else np.float32(0)
            row = np.float32(0)
            for n in range(len(own)):
                row += own[n] * own[n]
            total += row
        norms[p] += total


@exact
def move(gradient, columns, sizes, norms, clip, value, first, second, low, high, pace):
    """One step of value [P, n] along gradient, kept within low..high, each [P or 1, 1].

    columns, sizes: see squares; padding has no gradient and stays where it is.
    """
    less, slow = np.float32(1 - pace.first), np.float32(pace.second)
    fast, tiny = np.float32(1 - pace.second), np.float32(pace.epsilon)
    by, root = np.float32(pace.rate), np.float32(pace.root)
    for p in range(len(value)):
        finite = norms[p] < np.inf  # false for NaN, too
        scale = np.float32(min(1.0, clip / (norms[p] + 1e-12))) if finite else np.float32(0)
        a = p if len(low) > 1 else 0
        least, most = low[a, 0], high[a, 0]
        rows, length = sizes[p]
        if length == columns:  # one behind the other
            rows, length = 1, rows * columns
        for i in range(rows):
            place = slice(i * columns, i * columns + length)
            g, x, m, v = gradient[p, place], value[p, place], first[p, place], second[p, place]
            if not finite:
                g[:] = 0
            for n in range(length):
                g[n] *= scale
                m[n] += (g[n] - m[n]) * less
                v[n] = v[n] * slow + g[n] * g[n] * fast
                moved = x[n] + by * m[n] / (np.sqrt(v[n]) * root + tiny)
                x[n] = min(max(moved, least), most)

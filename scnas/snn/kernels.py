"""The CPU's way through one candidate: compiled loops whose working set stays in cache.

What the stacked tensors of population.py compute for all candidates at once, `run` computes for one of
them, a block of samples at a time: forward through all layers, then back through all of them, so that
what the way back needs is still in the cache. The integers forward are the same, and so are the
hand-derived gradients backward. What makes it fast besides:

- A spike adds one row of the matrix and a silent input costs nothing. Which inputs of a batch spike is
  worked out once for all candidates (`sort_levels`, `list_spikes`).
- A rate-coded input is a thermometer: it spikes in the steps whose reversed index lies below its level.
  Its currents in all T steps are running sums of T partial sums, so the first layer costs one row per
  input instead of one per spike.
- A last layer that only integrates, without saturation and with streams that repeat every step, is
  linear in the number of spikes of each input: one product for all T steps, forward and back.
- Inner loops run over neurons and are vectorised by the compiler. It gives up where the loop around them
  counts down, hence `down`, an array of the steps from last to first.
- Sums over many rows stay in registers, which takes a type of our own.
- A hidden layer has the samples of a block side by side (LANED): what a product takes from memory serves
  all of them, and a delay is an offset, so that a layer costs one product whatever D is.

Letters: T steps, B samples, S samples of a block, D largest delay, M largest magnitude. A state of a layer
is [T, S + 1, n], since steps that lie a power of two apart would drive each other out of the cache; the last
sample is none. Where the layer is laned it is [T' + D, n', 16], T' and n' rounded up to fours, since a
product is done for four steps of four neurons at once.
matrix: [D + 1, 1 or T, n_in, n_out] float32, signed ones in current units, one slice per delay; T where
streams differ from step to step (lfsr). turned: the same as [D + 1, 1 or T, n_out, n_in].
"""

import math

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic, models, register_model

# The arctangent surrogate, HEIGHT / (1 + (STEEP * x)^2), with x in units of the scale. Here and not in
# neurons.py: numba keeps what it compiled, constants included, for as long as this file stays the same.
ALPHA = 2.0  # steepness, as in SpikingJelly's ATan
STEEP, HEIGHT = np.float32(math.pi / 2 * ALPHA), np.float32(ALPHA / 2)

# Constants of a layer in one vector; see neurons.Constants. C14 is 1.4 in Q(F).
LEAK, GAIN, DECAY, BUMP, A, B, D, REST, RESET, BOUND, SCALE, ONE, C14 = range(13)

# What `run` must know of a layer: its shape; whether its input is rate-coded (RATED), its neurons fire,
# are izhikevich or need float64 (WIDE); whether samples lie side by side (LANED) and its sum over the steps
# is taken in one product (SUMMED); and where in the flat arrays its matrices, gradients, activations,
# lists of spikes and laned weights (forward and back) begin.
(
    N_IN, N_OUT, SLICES, STREAMS, RATED, FIRES, IZHIKEVICH, WIDE, LANED, SUMMED, AT_MATRIX, AT_WEIGHT,
    AT_STATE, AT_LIST, AT_AHEAD, AT_BACK,
) = range(16)  # fmt: skip
TILE = 4  # neurons and steps that a laned product does at once
STATES = 6  # arrays [T, S, n_out] that a layer keeps for the way back

_exact = njit(cache=True, error_model="numpy")
_loose = njit(cache=True, error_model="numpy", fastmath={"reassoc", "contract", "nsz"})


# -- sixteen numbers side by side -----------------------------------------------------------------

# The compiler keeps a sum over many rows in memory, one load and one store for every few numbers added. A
# value of the type below, 16 float32, stays in a register; where registers are narrower, in two or four. It
# is defined here and not in a file of its own for the reason that is given for the surrogate.
#
# Arrays are contiguous, indices are those of their flat numbers, and nothing is checked: all 16 numbers from
# `at` on must lie within the array, also where only some of them are written.

WIDTH = 16
PAIR, FOUR = 2 * WIDTH, 4 * WIDTH  # for loops over steps, where one number waits for another
_FLOAT, _INT = ir.FloatType(), ir.IntType(32)
_LANES = ir.VectorType(_FLOAT, WIDTH)


class _Lanes(types.Type):
    def __init__(self, width):
        super().__init__(name=f"Lanes{width}")
        self.vector = ir.VectorType(_FLOAT, width)


_lanes, _pair, _four = _Lanes(WIDTH), _Lanes(PAIR), _Lanes(FOUR)


@register_model(_Lanes)
class _Model(models.PrimitiveModel):
    def __init__(self, manager, kind):
        super().__init__(manager, kind, kind.vector)


def _spread(builder, scalar, kind):
    """A vector of copies of a scalar."""
    first = builder.insert_element(ir.Constant(kind, ir.Undefined), scalar, _INT(0))
    places = ir.Constant(ir.VectorType(_INT, kind.count), [0] * kind.count)
    return builder.shuffle_vector(first, first, places)


def _pointer(context, builder, array_type, array, at, vector=_LANES):
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [at]), vector.as_pointer())


@intrinsic
def load(typing, array, at):
    """The numbers array[at : at + 16]."""

    def generate(context, builder, signature, arguments):
        pointer = _pointer(context, builder, signature.args[0], *arguments)
        return builder.load(pointer, align=4)

    return _lanes(array, types.intp), generate


@intrinsic
def load_like(typing, array, at, other):
    """As many numbers of array from `at` on as `other` has."""

    def generate(context, builder, signature, arguments):
        pointer = _pointer(context, builder, signature.args[0], *arguments[:2], other.vector)
        return builder.load(pointer, align=4)

    return other(array, types.intp, other), generate


@intrinsic
def store(typing, array, at, lanes):
    """array[at : at + 16] = lanes, or as many as there are."""

    def generate(context, builder, signature, arguments):
        pointer = _pointer(context, builder, signature.args[0], *arguments[:2], lanes.vector)
        builder.store(arguments[2], pointer, align=4)
        return context.get_dummy_value()

    return types.void(array, types.intp, lanes), generate


@intrinsic
def store_first(typing, array, at, lanes, count):
    """array[at : at + count] = lanes[:count], where count may exceed 16; the others are read and written
    back unchanged."""

    def generate(context, builder, signature, arguments):
        pointer = _pointer(context, builder, signature.args[0], *arguments[:2])
        kind = ir.VectorType(_INT, WIDTH)
        numbers = ir.Constant(kind, list(range(WIDTH)))
        among = builder.icmp_signed("<", numbers, _spread(builder, builder.trunc(arguments[3], _INT), kind))
        kept = builder.select(among, arguments[2], builder.load(pointer, align=4))
        builder.store(kept, pointer, align=4)
        return context.get_dummy_value()

    return types.void(array, types.intp, _lanes, types.intp), generate


@intrinsic
def spread(typing, number):
    """Sixteen times the same float32."""

    def generate(context, builder, signature, arguments):
        return _spread(builder, arguments[0], _LANES)

    return _lanes(types.float32), generate


@intrinsic
def spread_pair(typing, number):
    """The same 32 times."""

    def generate(context, builder, signature, arguments):
        return _spread(builder, arguments[0], _pair.vector)

    return _pair(types.float32), generate


@intrinsic
def spread_four(typing, number):
    """The same 64 times."""

    def generate(context, builder, signature, arguments):
        return _spread(builder, arguments[0], _four.vector)

    return _four(types.float32), generate


@intrinsic
def spread_like(typing, number, other):
    """As many times as `other` has numbers."""

    def generate(context, builder, signature, arguments):
        return _spread(builder, arguments[0], other.vector)

    return other(types.float32, other), generate


def _elementwise(build):
    """An operation on lanes of one width; build(builder, *lanes) -> lanes."""

    def generate(context, builder, signature, arguments):
        return build(builder, *arguments)

    return generate


def _call(name):
    """An operation of the compiler, such as llvm.floor, by its name."""

    def build(builder, *lanes):
        kind = lanes[0].type
        operation = ir.FunctionType(kind, [kind] * len(lanes))
        full = f"llvm.{name}.v{kind.count}f32"
        return builder.call(cgutils.get_or_insert_function(builder.module, operation, full), lanes)

    return build


@intrinsic
def add(typing, a, b):
    """a + b."""
    return a(a, a), _elementwise(lambda builder, a, b: builder.fadd(a, b))


@intrinsic
def subtract(typing, a, b):
    """a - b."""
    return a(a, a), _elementwise(lambda builder, a, b: builder.fsub(a, b))


@intrinsic
def multiply(typing, a, b):
    """a * b."""
    return a(a, a), _elementwise(lambda builder, a, b: builder.fmul(a, b))


@intrinsic
def divide(typing, a, b):
    """a / b."""
    return a(a, a), _elementwise(lambda builder, a, b: builder.fdiv(a, b))


@intrinsic
def add_product(typing, a, b, c):
    """a * b + c, rounded once or twice."""
    return a(a, a, a), _elementwise(_call("fmuladd"))


@intrinsic
def floor(typing, a):
    """The whole numbers below."""
    return a(a), _elementwise(_call("floor"))


@intrinsic
def clamp(typing, a, low, high):
    """min(max(a, low), high); what is no number stays none."""

    def build(builder, a, low, high):
        above = builder.select(builder.fcmp_ordered("<", a, low), low, a)
        return builder.select(builder.fcmp_ordered(">", above, high), high, above)

    return a(a, a, a), _elementwise(build)


@intrinsic
def where_positive(typing, a, yes, no):
    """yes where a is 0 or more, else no."""

    def build(builder, a, yes, no):
        return builder.select(
            builder.fcmp_ordered(">=", a, ir.Constant(a.type, [0.0] * a.type.count)), yes, no
        )

    return a(a, a, a), _elementwise(build)


@intrinsic
def where_equal(typing, a, b, yes, no):
    """yes where a equals b, else no."""

    def build(builder, a, b, yes, no):
        return builder.select(builder.fcmp_ordered("==", a, b), yes, no)

    return a(a, a, a, a), _elementwise(build)


@intrinsic
def list_fired(typing, array, at, real, places, to, base, step):
    """Write base + b * step into places from `to` on for every b below `real` of which array[at + b] is 0 or
    more; returns how many. Up to sixteen places behind `to` are overwritten."""

    def generate(context, builder, signature, arguments):
        array, at, real, places, to, base, step = arguments
        half, whole = WIDTH // 2, ir.IntType(64)
        few = ir.VectorType(_INT, half)
        rows = [[b for b in range(half) if n >> b & 1] for n in range(2**half)]
        table = ir.Constant(ir.ArrayType(few, 2**half), [row + [0] * (half - len(row)) for row in rows])
        table = cgutils.global_constant(builder.module, "places_of_bits", table)
        counts = ir.Constant(ir.ArrayType(whole, 2**half), [len(row) for row in rows])
        counts = cgutils.global_constant(builder.module, "number_of_bits", counts)
        numbers = ir.Constant(ir.VectorType(_INT, WIDTH), list(range(WIDTH)))
        pointer = _pointer(context, builder, signature.args[0], array, at)
        zero = ir.Constant(_LANES, [0.0] * WIDTH)
        fired = builder.fcmp_ordered(">=", builder.load(pointer, align=4), zero)
        limit = _spread(builder, builder.trunc(real, _INT), ir.VectorType(_INT, WIDTH))
        fired = builder.and_(fired, builder.icmp_signed("<", numbers, limit))
        bits = builder.zext(builder.bitcast(fired, ir.IntType(WIDTH)), whole)
        out = context.make_array(signature.args[3])(context, builder, places).data
        by = _spread(builder, builder.trunc(step, _INT), few)
        found = whole(0)
        for first in (0, half):  # without a branch: a processor cannot guess what fires
            row = builder.and_(builder.lshr(bits, whole(first)), whole(2**half - 1))
            start = builder.trunc(builder.add(base, builder.mul(step, whole(first))), _INT)
            listed = builder.load(builder.gep(table, [whole(0), row]), align=4)
            listed = builder.add(builder.mul(listed, by), _spread(builder, start, few))
            target = builder.bitcast(builder.gep(out, [builder.add(to, found)]), few.as_pointer())
            builder.store(listed, target, align=4)
            found = builder.add(found, builder.load(builder.gep(counts, [whole(0), row])))
        return found

    integer = types.intp
    return integer(array, integer, integer, places, integer, integer, integer), generate


@intrinsic
def turn(typing, array, at, step, out, to, out_step, count):
    """out[to + c * out_step + r] = array[at + r * step + c] for r below `count` and c below 16; what `out`
    holds for the other r below 16 is read and written back unchanged."""

    def generate(context, builder, signature, arguments):
        array, at, step, out, to, out_step, count = arguments
        numbers = ir.VectorType(_INT, WIDTH)
        lanes = []
        for r in range(WIDTH):
            place = builder.add(at, builder.mul(step, ir.IntType(64)(r)))
            pointer = _pointer(context, builder, signature.args[0], array, place)
            lanes.append(builder.load(pointer, align=4))
        half = WIDTH // 2
        while half:  # exchange the blocks off the diagonal, of half the size each time
            for r in range(WIDTH):
                if r & half:
                    continue
                a, b = lanes[r], lanes[r + half]
                first = [c if not c & half else c - half + WIDTH for c in range(WIDTH)]
                second = [c + half if not c & half else c + WIDTH for c in range(WIDTH)]
                lanes[r] = builder.shuffle_vector(a, b, ir.Constant(numbers, first))
                lanes[r + half] = builder.shuffle_vector(a, b, ir.Constant(numbers, second))
            half //= 2
        limit = _spread(builder, builder.trunc(count, _INT), numbers)
        own = builder.icmp_signed("<", ir.Constant(numbers, list(range(WIDTH))), limit)
        for c in range(WIDTH):
            place = builder.add(to, builder.mul(out_step, ir.IntType(64)(c)))
            pointer = _pointer(context, builder, signature.args[3], out, place)
            builder.store(builder.select(own, lanes[c], builder.load(pointer, align=4)), pointer, align=4)
        return context.get_dummy_value()

    integer = types.intp
    return types.void(array, integer, integer, out, integer, integer, integer), generate


# -- what a batch is worked out from ----------------------------------------------------------------


@_exact
def prepare(weight, keep, position, top, unit, table, matrix, turned):
    """Fill `matrix` and `turned`, as far as they have slices, with the integers behind real weights.

    weight, keep, position: [n_in, n_out], or larger. top: M. unit: 2^F / L, what a count of one adds.
    table: [T, M + 1], ones of a magnitude times unit; empty where a stream holds exactly w ones.
    """
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
                    elif w == w:  # what is no number stays none and is no index
                        value = table[s, int(abs(w))] if w >= 0 else -table[s, int(abs(w))]
                    matrix[0, s, i, j] = value
            for d in range(slices - 1, -1, -1):
                if slices > 1:
                    for j in range(n_out):
                        here = np.rint(position[i, j]) == d
                        matrix[d, s, i, j] = matrix[0, s, i, j] if here else np.float32(0)
        if len(turned):
            for d in range(slices):
                turned[d, s] = matrix[d, s].T


@_exact
def prepare_levels(weight, keep, position, n_in, n_out, span, top, unit, matrix):
    """The same for rate-coded inputs and sobol streams, in pieces of 16 neurons: [D + 1, pieces, n_in, 16],
    flat. span: D."""
    matrix[:] = 0
    piece = n_in * WIDTH
    size = -(-n_out // WIDTH) * piece
    for i in range(n_in):
        for j in range(n_out):
            value = np.rint(weight[i, j] * top) * unit if keep[i, j] else np.float32(0)
            late = 0
            if span > 0:
                here = np.rint(position[i, j])
                late = int(here) if here == here else 0
            matrix[late * size + (j // WIDTH) * piece + i * WIDTH + j % WIDTH] = value


@_exact
def largest_current(weight, keep, n_in, n_out, top, unit):
    """The largest current that a sobol layer can bring about, an upper bound."""
    column = np.zeros(n_out, np.float32)
    for i in range(n_in):
        for j in range(n_out):
            column[j] += abs(np.rint(weight[i, j] * top)) * keep[i, j]
    return float(column.max()) * unit


@_exact
def prepare_lanes(weight, keep, position, n_in, n_out, span, top, unit, ahead, ahead_at, back, back_at):
    """The same for a laned layer of sobol streams: weights, and where in the state that they are multiplied
    with their factors begin.

    ahead, ahead_at: [n_out / 4, n_in, 4], for currents of spikes [T' + D, n_in', 16] behind D empty steps.
    back, back_at: [n_in / 4, n_out, 4], for the gradient to spikes of that to currents [T' + D, n_out', 16].
    All flat; sizes are rounded up, with weights of 0. position: empty without delays. span: D.
    """
    ahead[:] = 0
    back[:] = 0
    ahead_at[:] = 0
    back_at[:] = 0
    step_in, step_out = WIDTH * (-(-n_in // TILE) * TILE), WIDTH * (-(-n_out // TILE) * TILE)
    for i in range(n_in):
        for j in range(n_out):
            value = np.rint(weight[i, j] * top) * unit if keep[i, j] else np.float32(0)
            late = 0
            if span > 0:
                here = np.rint(position[i, j])
                late = int(here) if here == here else 0
            at = ((j // TILE) * n_in + i) * TILE + j % TILE
            ahead[at] = value
            ahead_at[at] = (span - late) * step_in + i * WIDTH
            at = ((i // TILE) * n_out + j) * TILE + i % TILE
            back[at] = value
            back_at[at] = late * step_out + j * WIDTH


@_exact
def sort_levels(levels, steps, order, starts):
    """Inputs of every sample by level: those of level q are order[b, starts[b, q - 1] : starts[b, q]].

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


@_exact
def place_levels(order, starts, places, ends):
    """Where in the pieces of `_to_weights_of_levels` the rows of an input begin, for each block of 16
    samples: places [blocks, n, 16] and ends [blocks, n], how many. order, starts: see sort_levels."""
    timesteps = starts.shape[1] - 1
    ends[:] = 0
    for b in range(len(order)):
        block, s = b // WIDTH, b % WIDTH
        for r in range(timesteps):
            for n in range(starts[b, r], starts[b, r + 1]):
                i = order[b, n]
                places[block, i, ends[block, i]] = (s * timesteps + r) * WIDTH
                ends[block, i] += 1


@_exact
def list_spikes(spikes, active, counts):
    """Indices of the spikes [B, T, n] of every step first in `active` [B, T, n + 1]; how many: [B, T]."""
    batch, timesteps, n = spikes.shape
    for b in range(batch):
        for t in range(timesteps):
            count = 0
            for i in range(n):  # without a branch: a processor cannot guess which input spikes
                active[b, t, count] = i
                count += spikes[b, t, i] != 0
            counts[b, t] = count


@_exact
def _list_fired(gap, laned, s, active, counts):
    """The same for neurons of sample s, which fired where their gap [T, S, n], or [T, n', 16] if laned, is
    not negative."""
    timesteps, n = len(gap), active.shape[2] - 1
    for t in range(timesteps):
        count = 0
        for i in range(n):
            active[s, t, count] = i
            count += (gap[t, i, s] if laned else gap[t, s, i]) >= np.float32(0)
        counts[s, t] = count


# -- forward ------------------------------------------------------------------------------------


@_exact
def _add_spikes(active, counts, a, matrix, current, s):
    """current [T, S, n_out] of sample s: what the spikes in the lists of sample a bring."""
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


@_exact
def _add_levels(order, starts, first, size, ramp, matrices, at, n_in, n_out, slices, states, to, step):
    """The same for the rate-coded inputs of samples first, first + 1, ..., as many as `size`. matrices: flat,
    the layer's from `at` on. states: flat, the currents [T, S + 1, n_out] from `to` on, `step` numbers from
    one step of time to the next."""
    timesteps = len(ramp)
    piece = n_in * WIDTH
    for d in range(slices):
        j = 0
        while j < n_out:
            broad = j + 4 * WIDTH <= n_out
            row = at + d * (-(-n_out // WIDTH) * piece) + j * n_in
            for s in range(size):
                b = first + s
                a0 = a1 = a2 = a3 = spread(np.float32(0))
                for r in range(timesteps - 1, -1, -1):  # an input of level q > r spikes in step ramp[r]
                    if broad:
                        for n in range(starts[b, r], starts[b, r + 1]):
                            k = row + order[b, n] * WIDTH
                            a0 = add(a0, load(matrices, k))
                            a1 = add(a1, load(matrices, k + piece))
                            a2 = add(a2, load(matrices, k + 2 * piece))
                            a3 = add(a3, load(matrices, k + 3 * piece))
                    else:
                        for n in range(starts[b, r], starts[b, r + 1]):
                            a0 = add(a0, load(matrices, row + order[b, n] * WIDTH))
                    here = ramp[r] + d
                    if here >= timesteps:
                        continue
                    k = to + s * n_out + here * step + j
                    b0, b1, b2, b3 = a0, a1, a2, a3
                    # The first to write to a step leaves nothing of what stood there.
                    if d > 0:
                        b0 = add(a0, load(states, k))
                        if broad:
                            b1 = add(a1, load(states, k + WIDTH))
                            b2 = add(a2, load(states, k + 2 * WIDTH))
                            b3 = add(a3, load(states, k + 3 * WIDTH))
                    if broad:
                        store(states, k, b0)
                        store(states, k + WIDTH, b1)
                        store(states, k + 2 * WIDTH, b2)
                        store(states, k + 3 * WIDTH, b3)
                    else:
                        store_first(states, k, b0, n_out - j)
            j += 4 * WIDTH if broad else WIDTH


@_exact
def _lif(states, current, gap, raw, step, neurons, thresholds, noise, k):
    """if, lif, stochastic_lif and homeostatic_lif whose integers float32 holds, over all steps, for the
    `neurons` of all samples side by side, a multiple of 16.

    states: flat, with the currents [T, m] in, from `current` on, `step` numbers from one step of time to the
    next. Out, laid out alike from `gap` and `raw` on: the distance of the membrane to the threshold, 0 and
    more is a spike, and the membrane before it is clamped.
    """
    n = 0
    while n + FOUR <= neurons:
        many = load_like(thresholds, n, spread_four(np.float32(0)))
        _lif_of(states, current + n, gap + n, raw + n, step, many, noise, k)
        n += FOUR
    while n < neurons:
        _lif_of(states, current + n, gap + n, raw + n, step, load(thresholds, n), noise, k)
        n += WIDTH


@_exact
def _lif_of(states, current, gap, raw, step, threshold, noise, k):
    """The same for as many neurons as there are thresholds, all of whose numbers stay in registers."""
    leak, gain = spread_like(k[LEAK] / k[ONE], threshold), spread_like(k[GAIN] / k[ONE], threshold)
    decay, bump = spread_like(k[DECAY] / k[ONE], threshold), spread_like(k[BUMP], threshold)
    rest, reset = spread_like(k[REST], threshold), spread_like(k[RESET], threshold)
    low, high = spread_like(-k[BOUND], threshold), spread_like(k[BOUND] - np.float32(1), threshold)
    zero = spread_like(np.float32(0), threshold)
    adapts = k[BUMP] != 0 or k[DECAY] != 0
    v, a = rest, zero
    for t in range(len(noise)):
        drive = clamp(load_like(states, current + t * step, threshold), low, high)
        leaking = floor(multiply(subtract(rest, v), leak))
        whole = add(add(add(v, floor(multiply(drive, gain))), leaking), spread_like(noise[t], threshold))
        x = clamp(whole, low, high)
        over = subtract(subtract(x, threshold), a)
        store(states, gap + t * step, over)
        store(states, raw + t * step, whole)
        v = where_positive(over, reset, x)
        if adapts:
            fired = where_positive(over, bump, zero)
            a = clamp(add(subtract(a, floor(multiply(a, decay))), fired), low, high)


@_exact
def _wide_lif(current, neurons, threshold, noise, k, v, a, gap, before, inside):
    """The same for integers that need float64. Arrays [T, m or more]; threshold, v and a [m or more].

    before: the membrane before the step; inside: 1 where it was not clamped.
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


@_exact
def _izhikevich(current, neurons, threshold, k, v, u, gap, before, inside, steady):
    """izhikevich over all steps. steady: 1 where the recovery was not clamped."""
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


# -- backward -----------------------------------------------------------------------------------


@_loose
def _lif_back(states, gradient, current, gap, raw, step, neurons, timesteps, k, to_threshold):
    """Gradient to spikes, [T, m] from `gradient` on, replaced by that to the currents; returns those to
    gain_k and leak_k, times 2^F. to_threshold: [m], added to. The others as in _lif.

    The adaptation of homeostatic_lif depends on spikes alone, behind the reset: no gradient.
    """
    sums = np.zeros(2 * PAIR, np.float32)
    n = 0
    while n + PAIR <= neurons:
        few = spread_pair(np.float32(0))
        _lif_back_of(
            states,
            gradient + n,
            current + n,
            gap + n,
            raw + n,
            step,
            timesteps,
            k,
            to_threshold,
            n,
            sums,
            few,
        )
        n += PAIR
    while n < neurons:
        few = spread(np.float32(0))
        _lif_back_of(
            states,
            gradient + n,
            current + n,
            gap + n,
            raw + n,
            step,
            timesteps,
            k,
            to_threshold,
            n,
            sums,
            few,
        )
        n += WIDTH
    return sums[:PAIR].sum(), sums[PAIR:].sum()


@_loose
def _lif_back_of(states, gradient, current, gap, raw, step, timesteps, k, to_threshold, n, sums, zero):
    """The same for as many neurons as `zero` has; to_threshold from `n` on. sums: [2 * 32], those to gain and
    to leak, added to."""
    unit = spread_like(np.float32(1), zero)
    leak, gain = spread_like(k[LEAK] / k[ONE], zero), spread_like(k[GAIN] / k[ONE], zero)
    slope, top = spread_like(STEEP / k[SCALE], zero), spread_like(HEIGHT / k[SCALE], zero)
    rest, reset, keep = spread_like(k[REST], zero), spread_like(k[RESET], zero), subtract(unit, leak)
    low, high = spread_like(-k[BOUND], zero), spread_like(k[BOUND] - np.float32(1), zero)
    to_gain, to_leak = load_like(sums, 0, zero), load_like(sums, PAIR, zero)
    pull, gv = zero, zero
    at = (timesteps - 1) * step
    over, whole = load_like(states, gap + at, zero), load_like(states, raw + at, zero)
    clamped = clamp(whole, low, high)
    while at >= 0:
        # The membrane before the step is what the step before left.
        before, earlier_over, earlier, earlier_clamped = rest, over, whole, clamped
        if at > 0:
            earlier_over = load_like(states, gap + at - step, zero)
            earlier = load_like(states, raw + at - step, zero)
            earlier_clamped = clamp(earlier, low, high)
            before = where_positive(earlier_over, reset, earlier_clamped)
        z = multiply(slope, over)
        now, given = load_like(states, current + at, zero), load_like(states, gradient + at, zero)
        gm = divide(multiply(given, top), add_product(z, z, unit))
        gp = where_equal(whole, clamped, add(gm, where_positive(over, zero, gv)), zero)
        drive = clamp(now, low, high)
        pull = subtract(pull, gm)
        to_gain = add_product(gp, drive, to_gain)
        to_leak = add_product(gp, subtract(rest, before), to_leak)
        store(states, gradient + at, where_equal(now, drive, multiply(gp, gain), zero))
        gv = multiply(gp, keep)
        over, whole, clamped = earlier_over, earlier, earlier_clamped
        at -= step
    store(to_threshold, n, add(load_like(to_threshold, n, zero), pull))
    store(sums, 0, to_gain)
    store(sums, PAIR, to_leak)


@_loose
def _wide_lif_back(gradient, neurons, current, gap, before, inside, k, down, gv, to_threshold):
    """The same of _wide_lif; arrays [T, m]."""
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


@_loose
def _izhikevich_back(gradient, neurons, current, gap, before, inside, steady, k, down, gv, gu, to_threshold):
    """The same for izhikevich; the slope of its quadratic is clipped to -1..1."""
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


# Gradients to weights are sums of rows: of the gradient to the currents of a step and sample, one row for
# every spike of an input. `tiles` has the rows in pieces of 16 neurons, [pieces, rows, 16], so that those of
# one piece stay near the core while all inputs are summed up, four pieces or delays at a time. places:
# [n_in, most], where in a piece the rows of an input begin; ends: [n_in], how many there are.


@_exact
def _add_to(array, at, lanes, count):
    """array[at : at + count] += lanes, where count may exceed 16."""
    if count >= WIDTH:
        store(array, at, add(lanes, load(array, at)))
    else:
        store_first(array, at, add(lanes, load(array, at)), count)


@_exact
def _sum_rows(tiles, first, step, jump, streams, slices, j, places, most, ends, n_in, n_out, per_weights, to):
    """Add to per_weights, [D + 1, n_in, n_out] from `to` on, the sums of rows of `streams` streams, 1 or 4.

    Stream u belongs to delay (first + u) % (D + 1) of the piece (first + u) // (D + 1), which begins with
    neuron 16 times that, and lies at piece * step + delay * jump + j of the tiles.
    """
    at, into, left = np.zeros(4, np.int64), np.zeros(4, np.int64), np.zeros(4, np.int64)
    for u in range(streams):
        piece, d = (first + u) // slices, (first + u) % slices
        at[u] = j + piece * step + d * jump
        into[u] = to + d * n_in * n_out + piece * WIDTH
        left[u] = n_out - piece * WIDTH
    o0, o1, o2, o3 = at[0], at[1], at[2], at[3]
    for i in range(n_in):
        if ends[i] == 0:
            continue
        a0 = a1 = a2 = a3 = spread(np.float32(0))
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
        _add_to(per_weights, into[0] + i * n_out, a0, left[0])
        if streams == 4:
            _add_to(per_weights, into[1] + i * n_out, a1, left[1])
            _add_to(per_weights, into[2] + i * n_out, a2, left[2])
            _add_to(per_weights, into[3] + i * n_out, a3, left[3])


@_exact
def _to_weights_of_levels(
    places, ends, size, ramp, states, at, n_in, n_out, slices, tiles, per_weights, to
):  # fmt: skip
    """per_weights [D + 1, n_in, n_out] from `to` on += what the rate-coded inputs of `size` samples give;
    places, ends: of their block, see place_levels; states: gradient to currents [T, 17, n_out] from `at` on.
    """
    timesteps = len(ramp)
    every = -(-n_out // WIDTH) * slices
    stream, piece = 0, WIDTH * timesteps * WIDTH
    while stream < every:
        streams = 4 if stream + 4 <= every else 1
        for u in range(streams):
            j, d = (stream + u) // slices * WIDTH, (stream + u) % slices
            for s in range(size):  # inputs of level r + 1 spiked in r + 1 steps
                total = spread(np.float32(0))
                for r in range(timesteps):
                    now = ramp[r] + d
                    if now < timesteps:
                        total = add(total, load(states, at + (now * (WIDTH + 1) + s) * n_out + j))
                    store(tiles, u * piece + (s * timesteps + r) * WIDTH, total)
        # The streams lie one behind the other.
        _sum_rows(
            tiles, stream, piece * slices, piece, streams, slices, -stream * piece, places, WIDTH, ends, n_in,
            n_out, per_weights, to,
        )  # fmt: skip
        stream += streams


@_exact
def _to_weights_of_spikes(places, ends, most, tiles, rows, block, n_in, n_out, slices, per_weights, to):
    """The same for spikes. most: of them for an input. tiles: [pieces, rows, 16], of which the last S D
    rows are zero: what arrives after the last step."""
    every, stream = -(-n_out // WIDTH) * slices, 0
    while stream < every:
        streams = 4 if stream + 4 <= every else 1
        _sum_rows(
            tiles, stream, rows * WIDTH, block * WIDTH, streams, slices, 0, places, most, ends, n_in, n_out,
            per_weights, to,
        )  # fmt: skip
        stream += streams


@_exact
def _places_of_lists(active, counts, first, size, block, places, ends):
    """Places and ends of the spikes in the lists of samples first, first + 1, ..., as many as `size`."""
    timesteps = counts.shape[1]
    most = timesteps * block
    ends[:] = 0
    for t in range(timesteps):
        for s in range(size):
            for n in range(counts[first + s, t]):
                i = active[first + s, t, n]
                places[i * most + ends[i]] = (t * block + s) * WIDTH
                ends[i] += 1


@_exact
def _places_of_lanes(states, at, timesteps, wide, size, n_in, places, ends):
    """The same of a laned layer, whose neurons fired where their gap, [T, wide, 16] from `at` on, is not
    negative."""
    for i in range(n_in):
        start = i * timesteps * WIDTH
        found = start
        for t in range(timesteps):
            gap = at + (t * wide + i) * WIDTH
            found += list_fired(states, gap, size, places, found, t * WIDTH * WIDTH, WIDTH)
        ends[i] = found - start


@_exact
def _cut(states, at, timesteps, block, rows, n, tiles):
    """tiles [pieces, rows, 16] of a state [T, S + 1, n] from `at` on, without the last sample; what is left
    of the rows is zero."""
    length = timesteps * block
    for j in range(0, n, WIDTH):
        for t in range(timesteps):
            for s in range(block):
                row = load(states, at + (t * (block + 1) + s) * n + j)
                store(tiles, j * rows + (t * block + s) * WIDTH, row)
        tiles[j * rows + length * WIDTH : (j + WIDTH) * rows] = 0


@_exact
def _cut_lanes(states, at, timesteps, wide, rows, n, tiles):
    """The same of a laned state [T, wide, 16]."""
    length = timesteps * WIDTH
    for j in range(0, n, WIDTH):
        for t in range(timesteps):
            turn(
                states, at + (t * wide + j) * WIDTH, WIDTH, tiles, j * rows + t * WIDTH * WIDTH, WIDTH, WIDTH
            )
        tiles[j * rows + length * WIDTH : (j + WIDTH) * rows] = 0


@_loose
def _to_spikes(gradient, s, turned, out):
    """out [T, S, n_in] of sample s, of the gradient to currents [T, S, n_out]."""
    slices, streams, n_out, n_in = turned.shape
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
                    out[t - d, s, i] += (g0 * turned[d, m, j, i] + g1 * turned[d, m, j + 1, i]) + (
                        g2 * turned[d, m, j + 2, i] + g3 * turned[d, m, j + 3, i]
                    )
                j += 4
            while j < n_out:
                g0 = gradient[t, s, j]
                for i in range(n_in):
                    out[t - d, s, i] += g0 * turned[d, m, j, i]
                j += 1


# -- samples side by side -------------------------------------------------------------------------


@_exact
def _laned_product(x, at, weights, places, first, n, count, step, timesteps, out, to):
    """out, [T', n', 16] from `to` on: for each of n neurons the sum of `count` weights times their factors.

    x: factors from `at` on, `step` numbers from one step of time to the next. weights, places: from `first`
    on, see prepare_lanes.
    """
    row = -(-n // TILE) * TILE * WIDTH
    for t in range(0, timesteps, TILE):
        for a in range(0, n, TILE):
            k = first + a * count
            base = at + t * step
            a0 = a1 = a2 = a3 = spread(np.float32(0))
            b0, b1, b2, b3 = a0, a1, a2, a3
            c0, c1, c2, c3 = a0, a1, a2, a3
            d0, d1, d2, d3 = a0, a1, a2, a3
            for _ in range(count):
                w, p = spread(weights[k]), base + places[k]
                a0 = add_product(w, load(x, p), a0)
                a1 = add_product(w, load(x, p + step), a1)
                a2 = add_product(w, load(x, p + 2 * step), a2)
                a3 = add_product(w, load(x, p + 3 * step), a3)
                w, p = spread(weights[k + 1]), base + places[k + 1]
                b0 = add_product(w, load(x, p), b0)
                b1 = add_product(w, load(x, p + step), b1)
                b2 = add_product(w, load(x, p + 2 * step), b2)
                b3 = add_product(w, load(x, p + 3 * step), b3)
                w, p = spread(weights[k + 2]), base + places[k + 2]
                c0 = add_product(w, load(x, p), c0)
                c1 = add_product(w, load(x, p + step), c1)
                c2 = add_product(w, load(x, p + 2 * step), c2)
                c3 = add_product(w, load(x, p + 3 * step), c3)
                w, p = spread(weights[k + 3]), base + places[k + 3]
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


@_exact
def _lanes_of_lists(active, counts, first, size, span, x):
    """Spikes in the lists as 0 and 1, x [T' + D, n', 16], behind D empty steps."""
    x[:] = 0
    for s in range(size):
        for t in range(counts.shape[1]):
            for n in range(counts[first + s, t]):
                x[span + t, active[first + s, t, n], s] = 1


@_exact
def _lanes_of_gaps(gap, size, span, x):
    """The same for neurons that fired where their gap [T, n', 16] is not negative."""
    timesteps, n = gap.shape[:2]
    x[:span] = 0
    for t in range(timesteps):
        row, spikes = gap[t].reshape(n * WIDTH), x[span + t].reshape(n * WIDTH)
        for r in range(n * WIDTH):
            spikes[r] = np.float32(1) if row[r] >= np.float32(0) else np.float32(0)
    if size < WIDTH:
        x[:, :, size:] = 0
    x[span + timesteps :] = 0


# -- a last layer that only sums up ---------------------------------------------------------------


@_exact
def _count_fired(gap, total):
    """total [D + 1, m]: spikes of neurons early enough to arrive after each delay. gap: [T, m or more]."""
    slices, m = total.shape
    timesteps = len(gap)
    total[:] = 0
    for t in range(timesteps):
        for n in range(m):
            total[0, n] += np.float32(1) if gap[t, n] >= np.float32(0) else np.float32(0)
        if 0 < timesteps - 1 - t < slices:
            total[timesteps - 1 - t] = total[0]


@_exact
def _count_listed(active, counts, a, total, s):
    """total [D + 1, S, n] of sample s: the same for the spikes in the lists of sample a."""
    slices = len(total)
    timesteps = counts.shape[1]
    total[:, s] = 0
    for t in range(timesteps):
        for d in range(min(slices, timesteps - t)):
            for n in range(counts[a, t]):
                total[d, s, active[a, t, n]] += 1


@_loose
def _sum_of_counts(total, s, turned, scores, b):
    """scores[b] of integers below 2^24, which any order of summation leaves exact."""
    slices, _, n_out, n_in = turned.shape
    for j in range(n_out):
        score = np.float32(0)
        for d in range(slices):
            for i in range(n_in):
                score += total[d, s, i] * turned[d, 0, j, i]
        scores[b, j] = score


@_loose
def _back_through_counts(total, turned, slope, per_weight_turned, rows, s):
    """The way back of sample s: the gradient to such a layer is the same `slope` [S, n_out] in all steps.

    per_weight_turned: [D + 1, n_out, n_in], added to. rows: [D + 1, S, n_in] out, the gradient to a spike
    that is heard after delays up to d, which is one in step T - 1 - d, or earlier for d = D; or empty.
    """
    slices, n_out, n_in = per_weight_turned.shape
    for d in range(slices):
        for j in range(n_out):
            g = slope[s, j]
            for i in range(n_in):
                per_weight_turned[d, j, i] += g * total[d, s, i]
    for d in range(len(rows)):
        for i in range(n_in):
            rows[d, s, i] = np.float32(0) if d == 0 else rows[d - 1, s, i]
        for j in range(n_out):
            g = slope[s, j]
            for i in range(n_in):
                rows[d, s, i] += g * turned[d, 0, j, i]


# -- all layers ---------------------------------------------------------------------------------


@_exact
def _exp(x):
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


@_loose
def _slope(scores, b, label, factor, batch, slope):
    """Cross-entropy of scores[b] and, in `slope`, its gradient to them over the batch; also the gradient
    to the logarithm of `factor`, what turns a score into a logit."""
    classes = scores.shape[1]
    top = scores[b, 0] * factor
    for j in range(classes):
        top = max(top, scores[b, j] * factor)
    total = 0.0
    for j in range(classes):
        slope[j] = _exp(np.float32(max(scores[b, j] * factor - top, -87.0)))
        total += slope[j]
    to_factor = 0.0
    for j in range(classes):
        share = (slope[j] / total - (1.0 if j == label else 0.0)) / batch
        to_factor += share * scores[b, j] * factor
        slope[j] = share * factor
    return math.log(total) + top - scores[b, label] * factor, to_factor


@_exact
def _wide(n):
    """n rounded up to whole tiles."""
    return -(-n // TILE) * TILE


@_exact
def _state_at(layer, which, block, timesteps):
    """Where array `which` of the STATES of a layer begins."""
    size = timesteps * (block + 1) * layer[N_OUT]
    if layer[LANED]:
        size = (_wide(timesteps) + layer[SLICES] - 1) * _wide(layer[N_OUT]) * WIDTH
    return layer[AT_STATE] + which * size


@_exact
def _state(states, layer, which, block, timesteps):
    """Array `which` of the STATES of a layer, [T, S + 1, n_out], or [T, n', 16] of a laned layer."""
    at, n = _state_at(layer, which, block, timesteps), layer[N_OUT]
    if layer[LANED]:
        return states[at : at + timesteps * _wide(n) * WIDTH].reshape(timesteps, _wide(n), WIDTH)
    return states[at : at + timesteps * (block + 1) * n].reshape(timesteps, block + 1, n)


@_exact
def _matrix(flat, layer):
    size = layer[SLICES] * layer[STREAMS] * layer[N_IN] * layer[N_OUT]
    at = layer[AT_MATRIX]
    return flat[at : at + size].reshape(layer[SLICES], layer[STREAMS], layer[N_IN], layer[N_OUT])


@_exact
def _turned(flat, layer):
    size = layer[SLICES] * layer[STREAMS] * layer[N_IN] * layer[N_OUT]
    at = layer[AT_MATRIX]
    return flat[at : at + size].reshape(layer[SLICES], layer[STREAMS], layer[N_OUT], layer[N_IN])


@_exact
def _lists(lists, layer, block, timesteps):
    """Room for what the neurons of a layer fired: indices [S, T, n + 1] and counts [S, T]."""
    size = block * timesteps * (layer[N_OUT] + 1)
    at = layer[AT_LIST]
    active = lists[at : at + size].reshape(block, timesteps, layer[N_OUT] + 1)
    return active, lists[at + size : at + size + block * timesteps].reshape(block, timesteps)


@_exact
def _flat(state):
    """[T, S, n] as [T, S * n]."""
    return state.reshape(state.shape[0], state.shape[1] * state.shape[2])


@_exact
def _to_flat(lanes, timesteps, n, states, to):
    """A state [T, 17, n] from `to` on, of what would be that of a laned layer, [T, n', 16]."""
    wide = _wide(n)
    for t in range(timesteps):
        for j in range(0, n, WIDTH):
            at, here = (t * wide + j) * WIDTH, to + t * (WIDTH + 1) * n + j
            turn(lanes, at, WIDTH, states, here, n, n - j)


@_exact
def _to_lanes(flat, size, laned):
    """A laned state [T, n', 16] of flat, [T, S, n]."""
    timesteps, _, n = flat.shape
    laned[:] = 0
    for t in range(timesteps):
        for s in range(size):
            for j in range(n):
                laned[t, j, s] = flat[t, s, j]


@_exact
def _spread_rows(rows, size, laned, out):
    """The gradient to spikes in a state of the layer before, from that of _back_through_counts."""
    slices, _, n = rows.shape
    timesteps = len(out)
    if laned:
        out[:] = 0
        for j in range(n):
            for d in range(min(slices, timesteps)):
                for s in range(size):
                    out[timesteps - 1 - d, j, s] = rows[d, s, j]
        for t in range(timesteps - slices):
            out[t] = out[timesteps - slices]
        return
    for t in range(timesteps):
        d = min(slices - 1, timesteps - 1 - t)
        for s in range(size):
            for j in range(n):
                out[t, s, j] = rows[d, s, j]


@_exact
def _fired(gap, laned, n, size):
    """Spikes of n neurons for `size` samples in a state."""
    found = 0
    for t in range(len(gap)):
        for a in range(n if laned else size):
            for b in range(size if laned else n):
                found += gap[t, a, b] >= np.float32(0)
    return found


@_loose
def run(
    layers, k, threshold, noise, order, starts, level_places, level_ends, active, counts, ramp, labels,
    factor, block, down, matrices, turneds, ahead, ahead_at, back, back_at, states, lists, lanes, tiles,
    places, per_weights, to_threshold, to_k, scores, fired,
):  # fmt: skip
    """One candidate over a batch: forward, and back if there are labels.

    layers: [layers, 16] see above. k: [layers, 13], threshold: [layers, widest], noise: [layers, T]
    float64. order, starts, level_places, level_ends: of rate-coded inputs, or active, counts: of spikes;
    see sort_levels, place_levels and list_spikes. ramp: R_T(t). down: T - 1 ... 0. labels: [B], or empty to
    go forward alone. factor: what turns a score into a logit. block: S, 16 if a layer is laned or the inputs
    are rate-coded. matrices, turneds, ahead, ahead_at, back, back_at, states, lists, per_weights: flat room;
    lanes, tiles, places: scratch.

    Out: per_weights, gradient to the matrix of each delay, summed over steps, [D + 1, n_in, n_out] of
    every layer; to_threshold [layers, widest]; to_k [layers, 2], gradients to gain_k and leak_k; scores
    [B, classes] float64; fired [layers], spikes, where there are no labels. returns the mean loss and the
    gradient to the logarithm of factor.
    """
    depth, batch, timesteps = len(layers), len(scores), len(down)
    training = len(labels) > 0
    widest = _wide(threshold.shape[1])
    k32, noise32 = k.astype(np.float32), noise.astype(np.float32)
    beside = np.ones((depth, widest * block))  # thresholds of the neurons of all samples side by side
    for i in range(depth):
        n = layers[i, N_OUT]
        for s in range(block):
            for j in range(n):
                beside[i, j * WIDTH + s if layers[i, LANED] else s * n + j] = threshold[i, j]
    beside32 = beside.astype(np.float32)
    summed = np.zeros((depth, widest * block), np.float32)  # gradients to them
    v, slow = np.empty(widest * block), np.empty(widest * block)
    v32, slow32 = np.empty(widest * block, np.float32), np.empty(widest * block, np.float32)
    slope = np.zeros((block, scores.shape[1]), np.float32)
    last = layers[depth - 1]
    total = np.zeros((last[SLICES], block, last[N_IN]), np.float32)
    rows = np.zeros((last[SLICES] if depth > 1 else 0, block, last[N_IN]), np.float32)
    laned_total = np.zeros((last[SLICES], _wide(last[N_IN]), WIDTH), np.float32)
    sums = np.zeros((last[SLICES], last[N_OUT], last[N_IN]), np.float32)
    per_weights[:] = 0
    to_threshold[:] = 0
    to_k[:] = 0
    fired[:] = 0
    loss = to_factor = 0.0
    for first in range(0, batch, block):
        size = min(block, batch - first)
        for i in range(depth):
            layer = layers[i]
            n_in, n = layer[N_IN], layer[N_OUT]
            laned, before_laned = layer[LANED], i > 0 and layers[i - 1, LANED]
            if layer[SUMMED]:
                turned = _turned(turneds, layer)
                for s in range(size if i == 0 else 0):
                    _count_listed(active, counts, first + s, total, s)
                if i > 0:
                    gap = _state(states, layers[i - 1], 1, block, timesteps)
                    if before_laned:
                        _count_fired(_flat(gap), _flat(laned_total))
                        for d in range(layer[SLICES]):
                            for s in range(size):
                                for j in range(n_in):
                                    total[d, s, j] = laned_total[d, j, s]
                    else:
                        _count_fired(_flat(gap), _flat(total))
                for s in range(size):
                    _sum_of_counts(total, s, turned, scores, first + s)
                if i > 0 and not training:
                    for s in range(size):
                        for j in range(n_in):
                            fired[i - 1] += int(total[0, s, j])
                continue
            current = _state(states, layer, 0, block, timesteps)
            gap = _state(states, layer, 1, block, timesteps)
            before = _state(states, layer, 2, block, timesteps)
            inside = _state(states, layer, 3, block, timesteps)
            steady = _state(states, layer, 4, block, timesteps)
            into, into_counts, at = active, counts, first
            if i > 0:
                into, into_counts = _lists(lists, layers[i - 1], block, timesteps)
                at = 0
            if laned:
                span, step = layer[SLICES] - 1, _wide(n_in) * WIDTH
                height = _wide(timesteps) + span
                x = lanes[: height * step].reshape(height, _wide(n_in), WIDTH)
                if before_laned:
                    spikes = _state(states, layers[i - 1], 1, block, timesteps)
                    _lanes_of_gaps(spikes, size, span, x)
                else:
                    _lanes_of_lists(into, into_counts, at, size, span, x)
                _laned_product(
                    lanes, 0, ahead, ahead_at, layer[AT_AHEAD], n, n_in, step, timesteps, states,
                    _state_at(layer, 0, block, timesteps),
                )  # fmt: skip
            elif layer[RATED]:
                _add_levels(
                    order, starts, first, size, ramp, matrices, layer[AT_MATRIX], n_in, n, layer[SLICES],
                    states, _state_at(layer, 0, block, timesteps), (block + 1) * n,
                )  # fmt: skip
            else:
                matrix = _matrix(matrices, layer)
                for s in range(size):
                    _add_spikes(into, into_counts, at + s, matrix, current, s)
            if not layer[FIRES]:
                bound = np.float32(k[i, BOUND])
                for s in range(size):
                    scores[first + s] = 0
                    for t in range(timesteps):
                        for j in range(n):
                            scores[first + s, j] += min(max(current[t, s, j], -bound), bound - np.float32(1))
                continue
            m = stride = _wide(n) * WIDTH
            if not laned:
                m, stride = block * n, (block + 1) * n
                current[:, size:] = 0
            drive, gaps, old, open_ = _flat(current), _flat(gap), _flat(before), _flat(inside)
            if layer[IZHIKEVICH]:
                _izhikevich(drive, m, beside[i], k[i], v, slow, gaps, old, open_, _flat(steady))
            elif layer[WIDE]:
                _wide_lif(drive, m, beside[i], noise[i], k[i], v, slow, gaps, old, open_)
            else:
                _lif(
                    states, _state_at(layer, 0, block, timesteps), _state_at(layer, 1, block, timesteps),
                    _state_at(layer, 2, block, timesteps), stride, m, beside32[i], noise32[i], k32[i],
                )  # fmt: skip
            if i == depth - 1:
                scores[first : first + size] = 0
                for t in range(timesteps):
                    for s in range(size):
                        for j in range(n):
                            over = gap[t, j, s] if laned else gap[t, s, j]
                            scores[first + s, j] += 1.0 if over >= 0 else 0.0
                for s in range(size):
                    for j in range(n):
                        fired[i] += int(scores[first + s, j])
                continue
            if not (layers[i + 1, SUMMED] or (laned and layers[i + 1, LANED])):
                listed, listed_counts = _lists(lists, layer, block, timesteps)
                for s in range(size):
                    _list_fired(gap, laned, s, listed, listed_counts)
            if not (training or layers[i + 1, SUMMED]):
                fired[i] += _fired(gap, laned, n, size)
        if not training:
            continue
        slope[:] = 0
        for s in range(size):
            more, change = _slope(scores, first + s, labels[first + s], factor, batch, slope[s])
            loss += more
            to_factor += change
        for i in range(depth - 1, -1, -1):
            layer = layers[i]
            n_in, n, slices = layer[N_IN], layer[N_OUT], layer[SLICES]
            laned, before_laned = layer[LANED], i > 0 and layers[i - 1, LANED]
            out = _state(states, layers[max(i - 1, 0)], 5, block, timesteps)
            if layer[SUMMED]:
                turned = _turned(turneds, layer)
                for s in range(size):
                    _back_through_counts(total, turned, slope, sums, rows, s)
                if i > 0:
                    _spread_rows(rows, size, before_laned, out)
                continue
            current = _state(states, layer, 0, block, timesteps)
            gap = _state(states, layer, 1, block, timesteps)
            before = _state(states, layer, 2, block, timesteps)
            inside = _state(states, layer, 3, block, timesteps)
            steady = _state(states, layer, 4, block, timesteps)
            gradient = _state(states, layer, 5, block, timesteps)
            at_gradient = _state_at(layer, 5, block, timesteps)
            if i == depth - 1:
                bound = np.float32(k[i, BOUND])
                gradient[:] = 0
                for t in range(timesteps):
                    for s in range(size):
                        for j in range(n):
                            if laned:
                                gradient[t, j, s] = slope[s, j]
                            else:
                                now = current[t, s, j]
                                open_now = layer[FIRES] or (now >= -bound and now <= bound - np.float32(1))
                                gradient[t, s, j] = slope[s, j] if open_now else np.float32(0)
            if layer[FIRES]:
                m = stride = _wide(n) * WIDTH
                if not laned:
                    m, stride = block * n, (block + 1) * n
                    gradient[:, size:] = 0
                pull, drive, gaps = _flat(gradient), _flat(current), _flat(gap)
                old, open_ = _flat(before), _flat(inside)
                if layer[IZHIKEVICH]:
                    gain = _izhikevich_back(
                        pull, m, drive, gaps, old, open_, _flat(steady), k32[i], down, v32, slow32, summed[i]
                    )
                    leak = np.float32(0)
                elif layer[WIDE]:
                    gain, leak = _wide_lif_back(
                        pull, m, drive, gaps, old, open_, k32[i], down, v32, summed[i]
                    )
                else:
                    gain, leak = _lif_back(
                        states, at_gradient, _state_at(layer, 0, block, timesteps),
                        _state_at(layer, 1, block, timesteps), _state_at(layer, 2, block, timesteps), stride,
                        m, timesteps, k32[i], summed[i],
                    )  # fmt: skip
                to_k[i, 0] += gain / k[i, ONE]
                to_k[i, 1] += leak / k[i, ONE]
            ends = np.zeros(n_in, np.int32)
            if layer[RATED]:
                into_places = level_places[first // WIDTH].reshape(n_in * WIDTH)
                _to_weights_of_levels(
                    into_places, level_ends[first // WIDTH], size, ramp, states, at_gradient, n_in, n, slices,
                    tiles, per_weights, layer[AT_WEIGHT],
                )  # fmt: skip
                continue
            if before_laned:
                at = _state_at(layers[i - 1], 1, block, timesteps)
                _places_of_lanes(states, at, timesteps, _wide(n_in), size, n_in, places, ends)
            elif i > 0:
                into, into_counts = _lists(lists, layers[i - 1], block, timesteps)
                _places_of_lists(into, into_counts, 0, size, block, places, ends)
            else:
                _places_of_lists(active, counts, first, size, block, places, ends)
            length = timesteps * block
            height = length + (slices - 1) * block
            if laned:
                _cut_lanes(states, at_gradient, timesteps, _wide(n), height, n, tiles)
            else:
                _cut(states, at_gradient, timesteps, block, height, n, tiles)
            _to_weights_of_spikes(
                places, ends, length, tiles, height, block, n_in, n, slices, per_weights, layer[AT_WEIGHT]
            )
            if i == 0:
                continue
            if laned:
                step, height = _wide(n) * WIDTH, _wide(timesteps) + slices - 1
                states[at_gradient + timesteps * step : at_gradient + height * step] = 0
                x, to = states, _state_at(layers[i - 1], 5, block, timesteps)
                if not before_laned:
                    x, to = lanes, 0
                _laned_product(
                    states, at_gradient, back, back_at, layer[AT_BACK], n_in, n, step, timesteps, x, to
                )  # fmt: skip
                if not before_laned:
                    to = _state_at(layers[i - 1], 5, block, timesteps)
                    _to_flat(lanes, timesteps, n_in, states, to)
            else:
                flat_out = out
                if before_laned:
                    flat_out = lanes[: timesteps * block * n_in].reshape(timesteps, block, n_in)
                turned = _turned(turneds, layer)
                for s in range(size):
                    _to_spikes(gradient, s, turned, flat_out)
                if before_laned:
                    _to_lanes(flat_out, size, out)
    for i in range(depth if training else 0):
        n = layers[i, N_OUT]
        for s in range(block):
            for j in range(n):
                to_threshold[i, j] += summed[i, j * WIDTH + s if layers[i, LANED] else s * n + j]
    if training and last[SUMMED]:
        at = last[AT_WEIGHT]
        for d in range(last[SLICES]):
            for a in range(last[N_IN]):
                for j in range(last[N_OUT]):
                    per_weights[at] = sums[d, j, a]
                    at += 1
    return loss / batch, to_factor


@_loose
def collect(per_weight, weight, position, limit, width, one, to_weight, to_position):
    """Gradients to real weights and delay positions from those to the matrix of each delay.

    A weight moves the current by 2^F = `one` where its delay is; a position moves its synapse between
    delays as a softmax over exp(-(d - position)^2 / (2 width^2)), d = 0..limit, would.
    """
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
            # What is no number stays none.
            to_weight[i, j] = nothing if position[i, j] == position[i, j] else position[i, j]
        for d in range(limit + 1):
            for j in range(n_out):
                off = np.float32(d) - position[i, j]
                share = _exp(max(scale * off * off, np.float32(-87)))
                total[j] += share
                mean[j] += share * off
                pull[j] += share * per_weight[d, i, j]
                moved[j] += share * off * per_weight[d, i, j]
                here = np.rint(position[i, j]) == np.float32(d)
                to_weight[i, j] += per_weight[d, i, j] * one if here else nothing
        for j in range(n_out):
            slope = (moved[j] - pull[j] * mean[j] / total[j]) / total[j]
            to_position[i, j] = slope * one * weight[i, j] / (width * width)

"""The CPU's way through one candidate: compiled loops whose working set stays in cache.

What the stacked tensors of population.py compute for all candidates at once, `run` computes for one after
the other, a block of samples at a time: forward through all layers, then back through all of them, so that
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
- Forward, currents are sums of magnitudes, integers of 16 bits where that is enough (NARROW); a spike is a
  mask that lets a weight through. Neurons stay in registers through all steps and leave behind what the way
  back needs: the membrane before it was clamped, from which all else follows.

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
from numba import carray, njit, types
from numba.core import cgutils
from numba.extending import intrinsic, models, register_model

# The arctangent surrogate, HEIGHT / (1 + (STEEP * x)^2), with x in units of the scale. Here and not in
# neurons.py: numba keeps what it compiled, constants included, for as long as this file stays the same.
ALPHA = 2.0  # steepness, as in SpikingJelly's ATan
STEEP, HEIGHT = np.float32(math.pi / 2 * ALPHA), np.float32(ALPHA / 2)

# Constants of a layer in one vector; see neurons.Constants. C14 is 1.4 in Q(F); EACH is 2^F / L, what a count
# of one adds to a current, UNIT the same, or no number if a weight is none; TOP is M.
LEAK, GAIN, DECAY, BUMP, A, B, D, REST, RESET, BOUND, SCALE, ONE, C14, UNIT, EACH, TOP = range(16)

# What `_run` must know of a layer: its shape; whether its input is rate-coded (RATED), its neurons fire, are
# izhikevich or need float64 (WIDE); whether samples lie side by side (LANED) and its sum over the steps is
# taken in one product (SUMMED); where in the flat arrays its matrices, gradients, activations, lists of
# spikes and laned weights (forward and back) begin; whether sums of magnitudes stay below 2^15 (NARROW) and
# its currents cannot saturate (OPEN); whether its streams are those of sobol, and else where its table
# begins.
(
    N_IN, N_OUT, SLICES, STREAMS, RATED, FIRES, IZHIKEVICH, WIDE, LANED, SUMMED, AT_MATRIX, AT_WEIGHT,
    AT_STATE, AT_LIST, AT_AHEAD, AT_BACK, NARROW, OPEN, SOBOL, AT_TABLE,
) = range(20)  # fmt: skip
# Tensors of a layer, [P, n_in, n_out] or larger, by their addresses, which are integers.
WEIGHT, KEEP, POSITION, TO_WEIGHT, TO_POSITION = range(5)
TILE = 4  # neurons and steps that a laned product does at once
STATES = 6  # arrays [T, S, n_out] that a layer keeps for the way back

_exact = njit(cache=True, error_model="numpy")
_loose = njit(cache=True, error_model="numpy", fastmath={"reassoc", "contract", "nsz"})


# -- sixteen numbers side by side -----------------------------------------------------------------

# The compiler keeps a sum over many rows in memory, one load and one store for every few numbers added. A
# value of the types below, some 16 numbers, stays in registers: one or several, as wide as the machine's.
# They are defined here and not in a file of their own for the reason that is given for the surrogate.
#
# Arrays are contiguous, indices are those of their flat numbers, and nothing is checked: all numbers of a
# value from `at` on must lie within the array, also where only some of them are written.

WIDTH = 16
PAIR, FOUR, EIGHT = 2 * WIDTH, 4 * WIDTH, 8 * WIDTH
_FLOAT, _INT, _COUNT, _PLACE = ir.FloatType(), ir.IntType(32), ir.IntType(16), ir.IntType(64)


class _Lanes(types.Type):
    """`width` numbers: float32, or integers of 16 or 32 bits."""

    def __init__(self, width, element=_FLOAT):
        super().__init__(name=f"Lanes{width}x{element}")
        self.vector = ir.VectorType(element, width)


_lanes = _Lanes(WIDTH)


@register_model(_Lanes)
class _Model(models.PrimitiveModel):
    def __init__(self, manager, kind):
        super().__init__(manager, kind, kind.vector)


def _spread(builder, scalar, kind):
    """A vector of copies of a scalar."""
    first = builder.insert_element(ir.Constant(kind, ir.Undefined), scalar, _INT(0))
    places = ir.Constant(ir.VectorType(_INT, kind.count), [0] * kind.count)
    return builder.shuffle_vector(first, first, places)


def _pointer(context, builder, array_type, array, at, vector=_lanes.vector):
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [at]), vector.as_pointer())


def _below(builder, count, width=WIDTH):
    """Which of `width` lanes have a number below count, one bit each."""
    kind = ir.VectorType(_INT, width)
    numbers = ir.Constant(kind, list(range(width)))
    return builder.icmp_signed("<", numbers, _spread(builder, builder.trunc(count, _INT), kind))


def _nothing(lanes):
    """A maker of zeros of one kind, lanes()."""

    @intrinsic
    def zeros(typing):
        def generate(context, builder, signature, arguments):
            return ir.Constant(lanes.vector, [0] * lanes.vector.count)

        return lanes(), generate

    return zeros


zeros, zeros_pair, zeros_four = (_nothing(_Lanes(width)) for width in (WIDTH, PAIR, FOUR))
# Integers: of 16 bits where sums stay below 2^15, else of 32.
counts_four, counts_eight = (_nothing(_Lanes(width, _COUNT)) for width in (FOUR, EIGHT))
long_counts_four = _nothing(_Lanes(FOUR, _INT))


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
def load_counts(typing, array, at, other):
    """As many integers of an int16 array as `other` has, as integers of its size."""

    def generate(context, builder, signature, arguments):
        vector = ir.VectorType(_COUNT, other.vector.count)
        numbers = builder.load(_pointer(context, builder, signature.args[0], *arguments[:2], vector), align=2)
        return numbers if vector == other.vector else builder.sext(numbers, other.vector)

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
    """array[at : at + count] = lanes[:count], where count may exceed their number; the others are read and
    written back unchanged."""

    def generate(context, builder, signature, arguments):
        pointer = _pointer(context, builder, signature.args[0], *arguments[:2], lanes.vector)
        among = _below(builder, arguments[3], lanes.vector.count)
        kept = builder.select(among, arguments[2], builder.load(pointer, align=4))
        builder.store(kept, pointer, align=4)
        return context.get_dummy_value()

    return types.void(array, types.intp, lanes, types.intp), generate


@intrinsic
def store_rows(typing, array, at, step, counts, unit):
    """The integers in `counts` times unit, float32, sixteen at a time: array[at + u * step : ... + 16]."""

    def generate(context, builder, signature, arguments):
        array, at, step, lanes, unit = arguments
        by = _spread(builder, unit, _lanes.vector)
        for u in range(counts.vector.count // WIDTH):
            places = ir.Constant(ir.VectorType(_INT, WIDTH), [u * WIDTH + n for n in range(WIDTH)])
            row = builder.sitofp(builder.shuffle_vector(lanes, lanes, places), _lanes.vector)
            place = builder.add(at, builder.mul(step, _PLACE(u)))
            pointer = _pointer(context, builder, signature.args[0], array, place)
            builder.store(builder.fmul(row, by), pointer, align=4)
        return context.get_dummy_value()

    return types.void(array, types.intp, types.intp, counts, types.float32), generate


@intrinsic
def of_counts(typing, counts, unit):
    """The integers in `counts` times unit, float32."""
    kind = _Lanes(counts.vector.count)

    def generate(context, builder, signature, arguments):
        lanes, unit = arguments
        return builder.fmul(builder.sitofp(lanes, kind.vector), _spread(builder, unit, kind.vector))

    return kind(counts, types.float32), generate


@intrinsic
def spread_like(typing, number, other):
    """As many times the same number, float32 or int16, as `other` has numbers."""

    element = other.vector.element

    def generate(context, builder, signature, arguments):
        number = arguments[0]
        return _spread(builder, builder.sext(number, element) if element == _INT else number, other.vector)

    return other(types.float32 if element == _FLOAT else types.int16, other), generate


def _signed(kinds, build):
    """What an operation on values of one kind is; build(builder, *vectors) -> vector."""

    def generate(context, builder, signature, arguments):
        return build(builder, *arguments)

    return kinds[0](*kinds), generate


def _on_one(build):
    return intrinsic(lambda typing, a: _signed([a], build))


def _on_two(build):
    return intrinsic(lambda typing, a, b: _signed([a, b], build))


def _on_three(build):
    return intrinsic(lambda typing, a, b, c: _signed([a, b, c], build))


def _on_four(build):
    return intrinsic(lambda typing, a, b, c, d: _signed([a, b, c, d], build))


def _call(name):
    """An operation of the compiler, such as llvm.floor, by its name."""

    def build(builder, *lanes):
        kind = lanes[0].type
        operation = ir.FunctionType(kind, [kind] * len(lanes))
        full = f"llvm.{name}.v{kind.count}f32"
        return builder.call(cgutils.get_or_insert_function(builder.module, operation, full), lanes)

    return build


def _clamp(builder, a, low, high):
    above = builder.select(builder.fcmp_ordered("<", a, low), low, a)
    return builder.select(builder.fcmp_ordered(">", above, high), high, above)


def _where(relation):
    """yes where a stands in `relation` to b, else no."""

    def build(builder, a, b, yes, no):
        return builder.select(builder.fcmp_ordered(relation, a, b), yes, no)

    return build


add = _on_two(lambda builder, a, b: builder.fadd(a, b))
subtract = _on_two(lambda builder, a, b: builder.fsub(a, b))
multiply = _on_two(lambda builder, a, b: builder.fmul(a, b))
divide = _on_two(lambda builder, a, b: builder.fdiv(a, b))
add_product = _on_three(_call("fmuladd"))  # a * b + c, rounded once or twice
floor = _on_one(_call("floor"))
clamp = _on_three(_clamp)  # min(max(a, low), high); what is no number stays none
where_equal = _on_four(_where("=="))
where_least = _on_four(_where(">="))  # where a is b or more
add_counts = _on_two(lambda builder, a, b: builder.add(a, b))
both = _on_two(lambda builder, a, b: builder.and_(a, b))


def _fired(context, builder, kinds, array, at, level, level_at, real):
    """Which of 16 neurons fired, one bit each; see list_fired."""
    state = builder.load(_pointer(context, builder, kinds[0], array, at), align=4)
    levels = builder.load(_pointer(context, builder, kinds[1], level, level_at), align=4)
    return builder.and_(builder.fcmp_ordered(">=", state, levels), _below(builder, real))


@intrinsic
def store_fired(typing, array, at, level, level_at, real, masks, to):
    """masks[to + b], int16, for every b below 16: -1 where array[at + b] is level[level_at + b] or more and b
    is below `real`, else 0. Returns how many are -1."""

    def generate(context, builder, signature, arguments):
        array, at, level, level_at, real, masks, to = arguments
        kinds = signature.args[0], signature.args[2]
        fired = _fired(context, builder, kinds, array, at, level, level_at, real)
        vector = ir.VectorType(_COUNT, WIDTH)
        pointer = _pointer(context, builder, signature.args[5], masks, to, vector)
        builder.store(builder.sext(fired, vector), pointer, align=2)
        bits = builder.bitcast(fired, ir.IntType(WIDTH))
        return builder.zext(builder.ctpop(bits), _PLACE)

    integer = types.intp
    return integer(array, integer, level, integer, integer, masks, integer), generate


@intrinsic
def list_fired(typing, array, at, level, level_at, real, places, to, base, step):
    """Write base + b * step into places from `to` on for every b below `real` of which array[at + b] is
    level[level_at + b] or more; returns how many. Up to sixteen places behind `to` are overwritten."""

    def generate(context, builder, signature, arguments):
        array, at, level, level_at, real, places, to, base, step = arguments
        half = WIDTH // 2
        few = ir.VectorType(_INT, half)
        rows = [[b for b in range(half) if n >> b & 1] for n in range(2**half)]
        table = ir.Constant(ir.ArrayType(few, 2**half), [row + [0] * (half - len(row)) for row in rows])
        table = cgutils.global_constant(builder.module, "places_of_bits", table)
        counts = ir.Constant(ir.ArrayType(_PLACE, 2**half), [len(row) for row in rows])
        counts = cgutils.global_constant(builder.module, "number_of_bits", counts)
        kinds = signature.args[0], signature.args[2]
        fired = _fired(context, builder, kinds, array, at, level, level_at, real)
        bits = builder.zext(builder.bitcast(fired, ir.IntType(WIDTH)), _PLACE)
        out = context.make_array(signature.args[5])(context, builder, places).data
        by = _spread(builder, builder.trunc(step, _INT), few)
        found = _PLACE(0)
        for first in (0, half):  # without a branch: a processor cannot guess what fires
            row = builder.and_(builder.lshr(bits, _PLACE(first)), _PLACE(2**half - 1))
            start = builder.trunc(builder.add(base, builder.mul(step, _PLACE(first))), _INT)
            listed = builder.load(builder.gep(table, [_PLACE(0), row]), align=4)
            listed = builder.add(builder.mul(listed, by), _spread(builder, start, few))
            target = builder.bitcast(builder.gep(out, [builder.add(to, found)]), few.as_pointer())
            builder.store(listed, target, align=4)
            found = builder.add(found, builder.load(builder.gep(counts, [_PLACE(0), row])))
        return found

    integer = types.intp
    return (
        integer(array, integer, level, integer, integer, places, integer, integer, integer),
        generate,
    )


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
def prepare_levels(weight, keep, position, n_in, n_out, span, top, unit, most, layer, k, matrix):
    """The same for rate-coded inputs and sobol streams: magnitudes with their signs, int16, in pieces of 64
    neurons, [D + 1, pieces, n_in, 64], flat. span: D. most: 2^(W - 1), where a current saturates. layer, k:
    what `_run` must know, filled in as far as it depends on weights."""
    matrix[:] = 0
    size = -(-n_out // FOUR) * n_in * FOUR
    sums, value = np.zeros(n_out, np.float32), np.empty(n_out, np.float32)
    for i in range(n_in):
        own, kept = weight[i], keep[i]
        for j in range(n_out):
            value[j] = _magnitude(own[j], kept[j], top)
            sums[j] += abs(value[j])
        for first in range(0, n_out, FOUR):
            at, count = first * n_in + i * FOUR, min(FOUR, n_out - first)
            if span > 0:
                for j in range(count):
                    matrix[at + _late(position[i, first + j], span) * size + j] = _whole_number(
                        value[first + j]
                    )
            else:
                row, few = matrix[at : at + count], value[first : first + count]
                for j in range(count):
                    row[j] = _whole_number(few[j])
    _note(sums, unit, most, layer, k)


@_exact
def prepare_lanes(
    weight, keep, position, n_in, n_out, span, top, unit, most, layer, k, height, ahead, ahead_at, back,
    back_at
):  # fmt: skip
    """The same for a laned layer of sobol streams: weights, and where in the state that they are multiplied
    with their factors begin.

    ahead, ahead_at: [n_out / 4, n_in, 4], int16 magnitudes with their signs, for masks of spikes
    [n_in, height, 16] behind D empty steps. back, back_at: [n_in / 4, n_out, 4], currents, for the gradient
    to spikes of that to currents [T' + D, n_out', 16]. All flat; sizes are rounded up, with weights of 0.
    position: empty without delays.
    """
    ahead[:] = 0
    back[:] = 0
    ahead_at[:] = 0
    back_at[:] = 0
    step_out = WIDTH * (-(-n_out // TILE) * TILE)
    sums, value, late = np.zeros(n_out, np.float32), np.empty(n_out, np.float32), np.zeros(n_out, np.int64)
    for i in range(n_in):
        own, kept = weight[i], keep[i]
        for j in range(n_out):
            value[j] = _magnitude(own[j], kept[j], top)
            sums[j] += abs(value[j])
        for j in range(n_out if span > 0 else 0):
            late[j] = _late(position[i, j], span)
        for a in range(0, n_out, TILE):
            at, place = a * n_in + i * TILE, (i * height + span) * WIDTH
            for u in range(min(TILE, n_out - a)):
                ahead[at + u] = _whole_number(value[a + u])
                ahead_at[at + u] = place - late[a + u] * WIDTH
        at = (i - i % TILE) * n_out + i % TILE
        for j in range(n_out):
            back[at + j * TILE] = value[j] * unit
            back_at[at + j * TILE] = late[j] * step_out + j * WIDTH
    _note(sums, unit, most, layer, k)


@_exact
def prepare_sum(
    weight, keep, position, n_in, n_out, span, top, unit, most, layer, k, timesteps, levels, table, matrix,
    turned
):  # fmt: skip
    """The same for a last layer that only integrates: summed up where no current can saturate, and sums are
    exact in float32."""
    sums = np.zeros(n_out, np.float32)
    for i in range(n_in):
        for j in range(n_out):
            sums[j] += abs(_magnitude(weight[i, j], keep[i, j], top))
    current = _largest(sums) * unit
    layer[SUMMED] = current < most and current * timesteps < 2**24
    if layer[RATED] and not layer[SUMMED]:
        prepare_levels(weight, keep, position, n_in, n_out, span, top, unit, most, layer, k, levels)
    else:
        prepare(weight, keep, position, top, unit, table, matrix, turned)


@_exact
def _magnitude(weight, keep, top):
    """The magnitude of a real weight, with its sign; no number if it is none or beyond 2^15."""
    value = np.rint(weight * top) if keep else np.float32(0)
    return value if abs(value) < np.float32(2**15) else np.float32(np.nan)


@_exact
def _whole_number(value):
    """An integer of 16 bits; 0 for what is no number."""
    return np.int16(value) if value == value else np.int16(0)


@_exact
def _late(position, span):
    """The delay of a synapse, 0..span; 0 where its position is no number."""
    here = np.rint(position)
    return int(min(here, np.float32(span))) if here > 0 else 0


@_exact
def _largest(sums):
    """The largest of some sums of magnitudes; no number if one is none, or larger than any can be."""
    return sums.max() if sums.sum() < np.float32(2**40) else np.float32(np.nan)


@_exact
def _note(sums, unit, most, layer, k):
    """What follows from the sums of magnitudes of a layer's neurons."""
    largest = _largest(sums)
    layer[NARROW] = largest < 2**15
    layer[OPEN] = largest * unit < most
    k[UNIT] = unit if largest == largest else largest  # integers cannot say that a weight is no number


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
def _list_fired(state, level, laned, s, active, counts):
    """The same for neurons of sample s, which fired where their state [T, S, n], or [T, n', 16] if laned, is
    their level [S * n], or [n' * 16], or more."""
    timesteps, n = len(state), active.shape[2] - 1
    for t in range(timesteps):
        count = 0
        for i in range(n):
            active[s, t, count] = i
            if laned:
                count += state[t, i, s] >= level[i * WIDTH + s]
            else:
                count += state[t, s, i] >= level[s * n + i]
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
def _add_levels(
    order, starts, first, size, ramp, matrices, at, n_in, n_out, slices, states, to, step, unit, sums, nothing
):  # fmt: skip
    """The same for the rate-coded inputs of samples first, first + 1, ..., as many as `size`. matrices: flat,
    the layer's from `at` on, see prepare_levels. states: flat, the currents [T, S + 1, n_out] from `to` on,
    `step` numbers from one step of time to the next. unit: what a count of one adds. sums: scratch. nothing:
    64 integers that hold every sum."""
    timesteps = len(ramp)
    piece, pieces, row = n_in * FOUR, -(-n_out // FOUR), _row(nothing)
    kept = (n_in + 1) * row  # where the sums of the steps begin, behind those of the inputs
    for j in range(0, n_out, FOUR):
        for s in range(size):
            b = first + s
            begin, end = starts[b, 0], starts[b, timesteps]
            for d in range(slices):
                weights = at + (d * pieces + j // FOUR) * piece
                total, place = nothing, (end - begin) * row
                store(sums, place, total)
                for n in range(end - 1, begin - 1, -1):  # without a branch a level, which nothing foretells
                    total = add_counts(total, load_counts(matrices, weights + order[b, n] * FOUR, total))
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


@_exact
def _lif(states, current, gap, raw, step, neurons, thresholds, noise, saturates, k, total):
    """if, lif, stochastic_lif and homeostatic_lif whose integers float32 holds, over all steps, for the
    `neurons` of all samples side by side, a multiple of 16.

    states: flat, with the currents [T, m] in, from `current` on, `step` numbers from one step of time to the
    next. Out, laid out alike from `raw` on: the membrane before it is clamped; of homeostatic_lif also, from
    `gap` on, the distance of the membrane to the threshold. total: None, or spikes early enough to arrive
    after each delay, [D + 1, m or more], out.
    """
    n = 0
    while n + FOUR <= neurons:
        many = load_like(thresholds, n, zeros_four())
        _lif_of(states, current + n, gap + n, raw + n, step, many, noise, saturates, k, total, n)
        n += FOUR
    while n < neurons:
        _lif_of(
            states, current + n, gap + n, raw + n, step, load(thresholds, n), noise, saturates, k, total, n
        )
        n += WIDTH


@_exact
def adapts(k):
    """Whether the constants are those of a homeostatic_lif."""
    return k[BUMP] != 0 or k[DECAY] != 0


@_exact
def _lif_of(states, current, gap, raw, step, threshold, noise, saturates, k, total, n):
    """The same for as many neurons as there are thresholds, all of whose numbers stay in registers; total
    from `n` on."""
    leak, gain = spread_like(k[LEAK] / k[ONE], threshold), spread_like(k[GAIN] / k[ONE], threshold)
    decay, bump = spread_like(k[DECAY] / k[ONE], threshold), spread_like(k[BUMP], threshold)
    rest, reset = spread_like(k[REST], threshold), spread_like(k[RESET], threshold)
    low, high = spread_like(-k[BOUND], threshold), spread_like(k[BOUND] - np.float32(1), threshold)
    zero = spread_like(np.float32(0), threshold)
    unit = spread_like(np.float32(1), threshold)
    v, a, spikes = rest, zero, zero
    if adapts(k):
        for t in range(len(noise)):
            drive = load_like(states, current + t * step, threshold)
            if saturates:
                drive = clamp(drive, low, high)
            leaking = floor(multiply(subtract(rest, v), leak))
            whole = add(add(v, floor(multiply(drive, gain))), leaking)
            x = clamp(whole, low, high)
            over = subtract(subtract(x, threshold), a)
            store(states, gap + t * step, over)
            store(states, raw + t * step, whole)
            v = where_least(over, zero, reset, x)
            fired = where_least(over, zero, bump, zero)
            a = clamp(add(subtract(a, floor(multiply(a, decay))), fired), low, high)
            if total is not None:
                spikes = add(spikes, where_least(over, zero, unit, zero))
                _store_early(total, n, spikes, len(noise) - 1 - t)
        return
    for t in range(len(noise)):
        drive = load_like(states, current + t * step, threshold)
        if saturates:
            drive = clamp(drive, low, high)
        leaking = floor(multiply(subtract(rest, v), leak))
        whole = add(add(add(v, floor(multiply(drive, gain))), leaking), spread_like(noise[t], threshold))
        store(states, raw + t * step, whole)
        x = clamp(whole, low, high)
        v = where_least(x, threshold, reset, x)
        if total is not None:
            spikes = add(spikes, where_least(x, threshold, unit, zero))
            _store_early(total, n, spikes, len(noise) - 1 - t)


@_exact
def _store_early(total, n, spikes, left):
    """Keep how many spikes there were when `left` steps are left to come, where a delay is as long."""
    if left < len(total):
        store(total, left * total.shape[1] + n, spikes)


@_exact
def _izhikevich(states, current, raw, slow, step, neurons, thresholds, timesteps, saturates, k, total):
    """The same for izhikevich; from `slow` on, the recovery before it is clamped."""
    n = 0
    while n + PAIR <= neurons:
        few = load_like(thresholds, n, zeros_pair())
        _izhikevich_of(states, current + n, raw + n, slow + n, step, few, timesteps, saturates, k, total, n)
        n += PAIR
    while n < neurons:
        few = load(thresholds, n)
        _izhikevich_of(states, current + n, raw + n, slow + n, step, few, timesteps, saturates, k, total, n)
        n += WIDTH


@_exact
def _izhikevich_of(states, current, raw, slow, step, threshold, timesteps, saturates, k, total, n):
    """The same for as many neurons as there are thresholds. The square of v needs 32 bits: with v = 256 h + l
    it is 2^16 h^2 + l (v + 256 h), each of which float32 holds. What is too large for it is clamped."""
    one = k[ONE]
    gain, ka, kb = spread_like(k[GAIN] / one, threshold), spread_like(k[A] / one, threshold), k[B] / one
    reset, bump, base = (
        spread_like(k[RESET], threshold),
        spread_like(k[D], threshold),
        spread_like(k[C14], threshold),
    )
    low, high = spread_like(-k[BOUND], threshold), spread_like(k[BOUND] - np.float32(1), threshold)
    four, six = spread_like(np.float32(4), threshold), spread_like(np.float32(6), threshold)
    split, part = spread_like(np.float32(256), threshold), spread_like(np.float32(1 / 256), threshold)
    whole_square, below = (
        spread_like(np.float32(2**16) / one, threshold),
        spread_like(np.float32(1) / one, threshold),
    )
    unit, spikes = spread_like(np.float32(1), threshold), spread_like(np.float32(0), threshold)
    v, u = reset, spread_like(np.floor(kb * k[RESET]), threshold)
    follow, zero = spread_like(kb, threshold), spread_like(np.float32(0), threshold)
    for t in range(timesteps):
        drive = load_like(states, current + t * step, threshold)
        if saturates:
            drive = clamp(drive, low, high)
        h = floor(multiply(v, part))
        most = multiply(h, split)
        rest = floor(multiply(multiply(subtract(v, most), add(v, most)), below))
        square = add(multiply(multiply(h, h), whole_square), rest)
        whole = add(
            subtract(add(add(multiply(square, four), multiply(v, six)), base), u),
            floor(multiply(drive, gain)),
        )
        x = clamp(whole, low, high)
        fired = where_least(x, threshold, bump, zero)
        recovery = add(add(u, floor(multiply(subtract(floor(multiply(v, follow)), u), ka))), fired)
        store(states, raw + t * step, whole)
        store(states, slow + t * step, recovery)
        u = clamp(recovery, low, high)
        v = where_least(x, threshold, reset, x)
        if total is not None:
            spikes = add(spikes, where_least(x, threshold, unit, zero))
            _store_early(total, n, spikes, timesteps - 1 - t)


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
def _wide_izhikevich(current, neurons, threshold, k, v, u, gap, before, inside, steady):
    """The same of izhikevich. steady: 1 where the recovery was not clamped."""
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
def _lif_back(
    states, given, row, jump, moves, gradient, current, gap, raw, step, neurons, timesteps, thresholds,
    saturates, k, to_threshold,
):  # fmt: skip
    """The gradient to the currents, [T, m] from `gradient` on, of that to the spikes; returns those to gain_k
    and leak_k, times 2^F. to_threshold: [m], added to. The others as in _lif.

    given: the gradient to the spikes of the last step, from `row` on; that of an earlier step lies `jump`
    further, `moves` times, and is the same after that.

    The adaptation of homeostatic_lif depends on spikes alone, behind the reset: no gradient.
    """
    sums = np.zeros(2 * PAIR, np.float32)
    adaptive = adapts(k)
    # Written out: with the choice in a function of its own a training takes 7% longer.
    n = 0
    while n + PAIR <= neurons:
        many, a, g, w, c = load_like(thresholds, n, zeros_pair()), gradient + n, gap + n, raw + n, current + n
        if adaptive:
            _lif_back_of(
                states, given, row + n, jump, moves, a, c, g, w, step, timesteps, many, saturates, k,
                to_threshold, n, sums,
            )  # fmt: skip
        else:
            _lif_back_of(
                states, given, row + n, jump, moves, a, c, None, w, step, timesteps, many, saturates, k,
                to_threshold, n, sums,
            )  # fmt: skip
        n += PAIR
    while n < neurons:
        few, a, g, w, c = load(thresholds, n), gradient + n, gap + n, raw + n, current + n
        if adaptive:
            _lif_back_of(
                states, given, row + n, jump, moves, a, c, g, w, step, timesteps, few, saturates, k,
                to_threshold, n, sums,
            )  # fmt: skip
        else:
            _lif_back_of(
                states, given, row + n, jump, moves, a, c, None, w, step, timesteps, few, saturates, k,
                to_threshold, n, sums,
            )  # fmt: skip
        n += WIDTH
    return sums[:PAIR].sum(), sums[PAIR:].sum()


@_loose
def _lif_back_of(
    states, given, row, jump, moves, gradient, current, gap, raw, step, timesteps, threshold, saturates, k,
    to_threshold, n, sums,
):  # fmt: skip
    """The same for as many neurons as there are thresholds; to_threshold from `n` on. sums: [2 * 32], those
    to gain and to leak, added to."""
    unit, zero = spread_like(np.float32(1), threshold), spread_like(np.float32(0), threshold)
    leak, gain = spread_like(k[LEAK] / k[ONE], threshold), spread_like(k[GAIN] / k[ONE], threshold)
    slope, top = spread_like(STEEP / k[SCALE], threshold), spread_like(HEIGHT / k[SCALE], threshold)
    rest, reset, keep = (
        spread_like(k[REST], threshold),
        spread_like(k[RESET], threshold),
        subtract(unit, leak),
    )
    low, high = spread_like(-k[BOUND], threshold), spread_like(k[BOUND] - np.float32(1), threshold)
    to_gain, to_leak = load_like(sums, 0, threshold), load_like(sums, PAIR, threshold)
    pull, gv = zero, zero
    at = (timesteps - 1) * step
    whole = load_like(states, raw + at, threshold)
    clamped = clamp(whole, low, high)
    over = subtract(clamped, threshold) if gap is None else load_like(states, gap + at, threshold)
    while at >= 0:
        # The membrane before the step is what the step before left.
        before, earlier_over, earlier, earlier_clamped = rest, over, whole, clamped
        if at > 0:
            earlier = load_like(states, raw + at - step, threshold)
            earlier_clamped = clamp(earlier, low, high)
            if gap is None:
                earlier_over = subtract(earlier_clamped, threshold)
            else:
                earlier_over = load_like(states, gap + at - step, threshold)
            before = where_least(earlier_over, zero, reset, earlier_clamped)
        z = multiply(slope, over)
        now, pulled = load_like(states, current + at, threshold), load_like(given, row, threshold)
        gm = divide(multiply(pulled, top), add_product(z, z, unit))
        gp = where_equal(whole, clamped, add(gm, where_least(over, zero, zero, gv)), zero)
        drive = clamp(now, low, high) if saturates else now
        pull = subtract(pull, gm)
        to_gain = add_product(gp, drive, to_gain)
        to_leak = add_product(gp, subtract(rest, before), to_leak)
        to_current = multiply(gp, gain)
        if saturates:
            to_current = where_equal(now, drive, to_current, zero)
        store(states, gradient + at, to_current)
        gv = multiply(gp, keep)
        over, whole, clamped = earlier_over, earlier, earlier_clamped
        at -= step
        if moves > 0:
            row, moves = row + jump, moves - 1
    store(to_threshold, n, add(load_like(to_threshold, n, zero), pull))
    store(sums, 0, to_gain)
    store(sums, PAIR, to_leak)


@_loose
def _izhikevich_back(
    states, given, row, jump, moves, gradient, current, raw, slow, step, neurons, timesteps, thresholds,
    saturates, k, to_threshold,
):  # fmt: skip
    """The same for izhikevich, without a leak; the slope of its quadratic is clipped to -1..1."""
    sums = np.zeros(PAIR, np.float32)
    n = 0
    while n + PAIR <= neurons:
        many = load_like(thresholds, n, zeros_pair())
        _izhikevich_back_of(
            states, given, row + n, jump, moves, gradient + n, current + n, raw + n, slow + n, step,
            timesteps, many, saturates, k, to_threshold, n, sums,
        )  # fmt: skip
        n += PAIR
    while n < neurons:
        few = load(thresholds, n)
        _izhikevich_back_of(
            states, given, row + n, jump, moves, gradient + n, current + n, raw + n, slow + n, step,
            timesteps, few, saturates, k, to_threshold, n, sums,
        )  # fmt: skip
        n += WIDTH
    return sums.sum()


@_loose
def _izhikevich_back_of(
    states, given, row, jump, moves, gradient, current, raw, slow, step, timesteps, threshold, saturates, k,
    to_threshold, n, sums,
):  # fmt: skip
    """The same for as many neurons as there are thresholds; see _lif_back_of."""
    one = k[ONE]
    unit, zero = spread_like(np.float32(1), threshold), spread_like(np.float32(0), threshold)
    gain, stay = spread_like(k[GAIN] / one, threshold), spread_like(np.float32(1) - k[A] / one, threshold)
    cross = spread_like(k[A] / one * (k[B] / one), threshold)
    slope, top = spread_like(STEEP / k[SCALE], threshold), spread_like(HEIGHT / k[SCALE], threshold)
    reset, six, eight = (
        spread_like(k[RESET], threshold),
        spread_like(np.float32(6), threshold),
        spread_like(np.float32(8) / one, threshold),
    )
    low, high = spread_like(-k[BOUND], threshold), spread_like(k[BOUND] - np.float32(1), threshold)
    to_gain, pull, gv, gu = load_like(sums, 0, threshold), zero, zero, zero
    at = (timesteps - 1) * step
    whole = load_like(states, raw + at, threshold)
    clamped = clamp(whole, low, high)
    while at >= 0:
        before, earlier, earlier_clamped = reset, whole, clamped
        if at > 0:
            earlier = load_like(states, raw + at - step, threshold)
            earlier_clamped = clamp(earlier, low, high)
            before = where_least(earlier_clamped, threshold, reset, earlier_clamped)
        over = subtract(clamped, threshold)
        z = multiply(slope, over)
        now, pulled = load_like(states, current + at, threshold), load_like(given, row, threshold)
        recovery = load_like(states, slow + at, threshold)
        gm = divide(multiply(pulled, top), add_product(z, z, unit))
        gp = where_equal(whole, clamped, add(gm, where_least(over, zero, zero, gv)), zero)
        drive = clamp(now, low, high) if saturates else now
        pull = subtract(pull, gm)
        to_gain = add_product(gp, drive, to_gain)
        to_current = multiply(gp, gain)
        if saturates:
            to_current = where_equal(now, drive, to_current, zero)
        store(states, gradient + at, to_current)
        steady = where_equal(recovery, clamp(recovery, low, high), gu, zero)
        bend = clamp(add_product(before, eight, six), subtract(zero, unit), unit)
        gv = add_product(gp, bend, multiply(steady, cross))
        gu = subtract(multiply(steady, stay), gp)
        whole, clamped = earlier, earlier_clamped
        at -= step
        if moves > 0:
            row, moves = row + jump, moves - 1
    store(to_threshold, n, add(load_like(to_threshold, n, zero), pull))
    store(sums, 0, to_gain)


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
def _wide_izhikevich_back(
    gradient, neurons, current, gap, before, inside, steady, k, down, gv, gu, to_threshold
):  # fmt: skip
    """The same of _wide_izhikevich."""
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
                total = zeros()
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
def _places_of_lanes(states, at, level, timesteps, wide, size, n_in, places, ends):
    """The same of a laned layer, whose neurons fired where their state, [T, wide, 16] from `at` on, is their
    level or more."""
    for i in range(n_in):
        start = i * timesteps * WIDTH
        found = start
        for t in range(timesteps):
            now = at + (t * wide + i) * WIDTH
            found += list_fired(states, now, level, i * WIDTH, size, places, found, t * WIDTH * WIDTH, WIDTH)
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
            a0 = a1 = a2 = a3 = zeros()
            b0, b1, b2, b3 = a0, a1, a2, a3
            c0, c1, c2, c3 = a0, a1, a2, a3
            d0, d1, d2, d3 = a0, a1, a2, a3
            for _ in range(count):
                w, p = spread_like(weights[k], a0), base + places[k]
                a0 = add_product(w, load(x, p), a0)
                a1 = add_product(w, load(x, p + step), a1)
                a2 = add_product(w, load(x, p + 2 * step), a2)
                a3 = add_product(w, load(x, p + 3 * step), a3)
                w, p = spread_like(weights[k + 1], a0), base + places[k + 1]
                b0 = add_product(w, load(x, p), b0)
                b1 = add_product(w, load(x, p + step), b1)
                b2 = add_product(w, load(x, p + 2 * step), b2)
                b3 = add_product(w, load(x, p + 3 * step), b3)
                w, p = spread_like(weights[k + 2], a0), base + places[k + 2]
                c0 = add_product(w, load(x, p), c0)
                c1 = add_product(w, load(x, p + step), c1)
                c2 = add_product(w, load(x, p + 2 * step), c2)
                c3 = add_product(w, load(x, p + 3 * step), c3)
                w, p = spread_like(weights[k + 3], a0), base + places[k + 3]
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
def _sums_of_masks(
    masks, weights, places, first, n, count, timesteps, out, to, unit, eight, four
):  # fmt: skip
    """out, [T', n', 16] from `to` on: for each of n neurons what the spikes of `count` inputs bring.

    masks: int16, see prepare_lanes. weights, places: from `first` on. unit: what a count of one adds. eight,
    four: integers that hold every sum, of as many steps; the first may be of four as well.
    """
    t, broad = 0, _steps(eight)
    while t < timesteps:
        if t + broad <= _wide(timesteps):
            _sums_of_steps(masks, t, weights, places, first, n, count, out, to, unit, eight)
            t += broad
        else:
            _sums_of_steps(masks, t, weights, places, first, n, count, out, to, unit, four)
            t += TILE


@_exact
def _sums_of_steps(masks, t, weights, places, first, n, count, out, to, unit, nothing):
    """The same for as many steps from t on as `nothing` has."""
    row = _wide(n) * WIDTH
    for a in range(0, n, TILE):
        k = first + a * count
        base = t * WIDTH
        a0 = a1 = a2 = a3 = nothing
        for _ in range(count):
            w, x = spread_like(weights[k], nothing), load_counts(masks, base + places[k], nothing)
            a0 = add_counts(a0, both(w, x))
            w, x = spread_like(weights[k + 1], nothing), load_counts(masks, base + places[k + 1], nothing)
            a1 = add_counts(a1, both(w, x))
            w, x = spread_like(weights[k + 2], nothing), load_counts(masks, base + places[k + 2], nothing)
            a2 = add_counts(a2, both(w, x))
            w, x = spread_like(weights[k + 3], nothing), load_counts(masks, base + places[k + 3], nothing)
            a3 = add_counts(a3, both(w, x))
            k += TILE
        o = to + t * row + a * WIDTH
        store_rows(out, o, row, a0, unit)
        store_rows(out, o + WIDTH, row, a1, unit)
        store_rows(out, o + 2 * WIDTH, row, a2, unit)
        store_rows(out, o + 3 * WIDTH, row, a3, unit)


@_exact
def _masks_of_lists(active, counts, first, size, n, span, height, masks):
    """Spikes in the lists as masks [n, height, 16] of -1 and 0, behind D empty steps."""
    masks[: n * height * WIDTH] = 0
    for s in range(size):
        for t in range(counts.shape[1]):
            for m in range(counts[first + s, t]):
                masks[(active[first + s, t, m] * height + span + t) * WIDTH + s] = -1


@_exact
def _masks_of_lanes(states, at, level, timesteps, size, n, span, height, masks):
    """The same for neurons that fired where their state, [T, n', 16] from `at` on, is their level or more.
    Returns how many did."""
    wide, found = _wide(n), 0
    for i in range(n):
        row = i * height * WIDTH
        masks[row : row + span * WIDTH] = 0
        masks[row + (span + timesteps) * WIDTH : row + height * WIDTH] = 0
    for t in range(timesteps):
        for i in range(n):
            now = at + (t * wide + i) * WIDTH
            found += store_fired(states, now, level, i * WIDTH, size, masks, (i * height + span + t) * WIDTH)
    return found


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
def _turn_counts(found, layer, laned, size, total):
    """total [D + 1, S, n] of the counts of a state, [D + 1, m]."""
    n = layer[N_IN]
    for d in range(layer[SLICES]):
        if laned:
            for s in range(size):
                for j in range(n):
                    total[d, s, j] = found[d, j * WIDTH + s]
        else:
            for s in range(size):
                for j in range(n):
                    total[d, s, j] = found[d, s * n + j]


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
def _back_through_counts(total, turneds, at, slope, n_in, n_out, slices, sums, back):
    """The way back: the gradient to such a layer is the same `slope` [S, n_out] in all steps.

    total: flat [D + 1, S, n_in]. turneds: flat, the layer's from `at` on. sums: flat [D + 1, n_out, n_in],
    the gradient to the weights, added to. back: None, or flat [D + 1, S, n_in] out, the gradient to a spike
    that is heard after delays up to d, which is one in step T - 1 - d, or earlier for d = D.
    """
    for d in range(slices):
        i = 0
        while i + FOUR <= n_in:
            _back_of_counts(total, turneds, at, slope, d, i, n_in, n_out, sums, back, zeros_four())
            i += FOUR
        while i < n_in:
            _back_of_counts(total, turneds, at, slope, d, i, n_in, n_out, sums, back, zeros())
            i += WIDTH


@_loose
def _back_of_counts(total, turneds, at, slope, d, i, n_in, n_out, sums, back, nothing):
    """The same for a delay d and as many inputs from i on as `nothing` has numbers."""
    block, left = len(slope), n_in - i
    for j in range(n_out):
        to = (d * n_out + j) * n_in + i
        pull = load_like(sums, to, nothing)
        for s in range(block):
            heard = load_like(total, (d * block + s) * n_in + i, nothing)
            pull = add_product(spread_like(slope[s, j], nothing), heard, pull)
        store_first(sums, to, pull, left)
    if back is None:
        return
    for s in range(block):
        to = (d * block + s) * n_in + i
        pull = nothing if d == 0 else load_like(back, to - block * n_in, nothing)
        for j in range(n_out):
            weights = load_like(turneds, at + (d * n_out + j) * n_in + i, nothing)
            pull = add_product(spread_like(slope[s, j], nothing), weights, pull)
        store_first(back, to, pull, left)


@_exact
def _rows_of_counts(back, laned, block, n, rows):
    """rows [D + 1, m] in the order of the states of the layer before, of back, flat [D + 1, S, n]."""
    for d in range(len(rows)):
        for s in range(block):
            for j in range(n):
                rows[d, j * WIDTH + s if laned else s * n + j] = back[(d * block + s) * n + j]


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


@intrinsic
def _row(typing, lanes):
    """How many int16 take as much room as a value."""

    def generate(context, builder, signature, arguments):
        return _PLACE(lanes.vector.count * lanes.vector.element.width // 16)

    return types.intp(lanes), generate


@intrinsic
def _steps(typing, lanes):
    """How many steps of 16 samples a value has."""

    def generate(context, builder, signature, arguments):
        return _PLACE(lanes.vector.count // WIDTH)

    return types.intp(lanes), generate


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
def _clear(states, at, timesteps, step, first, m):
    """Numbers `first` to m of all steps of a state [T, step] from `at` on become 0."""
    for t in range(timesteps):
        for n in range(at + t * step + first, at + t * step + m):
            states[n] = 0


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
def _to_flat(laned, at, timesteps, n, flat, to):
    """A state [T, 17, n] from `to` on, of what would be that of a laned layer, [T, n', 16] from `at` on."""
    wide = _wide(n)
    for t in range(timesteps):
        for j in range(0, n, WIDTH):
            here, there = at + (t * wide + j) * WIDTH, to + t * (WIDTH + 1) * n + j
            turn(laned, here, WIDTH, flat, there, n, n - j)


@_exact
def _of_flat(flat, timesteps, n, size, laned, to):
    """A laned state [T, n', 16] from `to` on, of one that is [T, 17, n], whose samples from `size` on are set
    to 0. Up to fifteen rows behind it are overwritten."""
    wide, step = _wide(n), (WIDTH + 1) * n
    for t in range(timesteps):
        flat[t * step + size * n : t * step + WIDTH * n] = 0
        for j in range(0, n, WIDTH):
            turn(flat, t * step + j, n, laned, to + (t * wide + j) * WIDTH, WIDTH, WIDTH)
    for t in range(timesteps):
        laned[to + (t * wide + n) * WIDTH : to + (t + 1) * wide * WIDTH] = 0


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
def _beside(threshold, layer, block, beside):
    """Thresholds of the neurons of a layer for all samples side by side, as in its states."""
    n = layer[N_OUT]
    if layer[LANED]:
        for j in range(n):
            for s in range(WIDTH):
                beside[j * WIDTH + s] = threshold[j]
    else:
        for s in range(block):
            for j in range(n):
                beside[s * n + j] = threshold[j]


@_exact
def _neurons(layer, states, block, size, timesteps, threshold, beside, noise, noise32, k, k32, sums, total):
    """Membranes and spikes of a layer from its currents, in its states, for `size` samples of a block.
    beside: its thresholds for all samples, see _beside. total: if `sums`, spikes early enough to arrive after
    each delay, [D + 1, m], out."""
    n, laned, saturates = layer[N_OUT], layer[LANED], not layer[OPEN]
    current, gap, raw, slow = (
        _state_at(layer, 0, block, timesteps), _state_at(layer, 1, block, timesteps),
        _state_at(layer, 2, block, timesteps), _state_at(layer, 3, block, timesteps),
    )  # fmt: skip
    m = stride = _wide(n) * WIDTH
    if not laned:
        m, stride = block * n, (block + 1) * n
        _clear(states, current, timesteps, stride, size * n, m)
    if layer[WIDE]:
        a, b, c, d, e = _arrays(states, layer, block, timesteps)
        v, u, wide = np.empty(m), np.empty(m), np.ones(m)
        _beside(threshold, layer, block, wide)
        if layer[IZHIKEVICH]:
            _wide_izhikevich(a, m, wide, k, v, u, b, c, d, e)
        else:
            _wide_lif(a, m, wide, noise, k, v, u, b, c, d)
        if sums:
            _count_fired(b, total)
    elif layer[IZHIKEVICH] and sums:
        _izhikevich(states, current, raw, slow, stride, m, beside, timesteps, saturates, k32, total)
    elif layer[IZHIKEVICH]:
        _izhikevich(states, current, raw, slow, stride, m, beside, timesteps, saturates, k32, None)
    elif sums:
        _lif(states, current, gap, raw, stride, m, beside, noise32, saturates, k32, total)
    else:
        _lif(states, current, gap, raw, stride, m, beside, noise32, saturates, k32, None)


@_exact
def _neurons_back(layer, states, block, size, timesteps, rows, beside, k32, down, to_threshold):
    """The way back of _neurons: the gradient to currents, in the states, of that to the spikes, which is
    there or, where the next layer is summed up, in `rows`, see _back_through_counts. Returns those to gain_k
    and leak_k, times 2^F."""
    n, laned, saturates = layer[N_OUT], layer[LANED], not layer[OPEN]
    current, gap, raw, slow, gradient = (
        _state_at(layer, 0, block, timesteps), _state_at(layer, 1, block, timesteps),
        _state_at(layer, 2, block, timesteps), _state_at(layer, 3, block, timesteps),
        _state_at(layer, 5, block, timesteps),
    )  # fmt: skip
    m = stride = _wide(n) * WIDTH
    if not laned:
        m, stride = block * n, (block + 1) * n
    given, row, jump, moves = states, gradient + (timesteps - 1) * stride, -stride, timesteps
    if len(rows):
        given, row, jump, moves = rows.reshape(rows.size), 0, rows.shape[1], len(rows) - 1
    elif not laned:
        _clear(states, gradient, timesteps, stride, size * n, m)
    nothing = np.float32(0)
    if layer[WIDE]:
        a, b, c, d, e = _arrays(states, layer, block, timesteps)
        pull = _flat(_state(states, layer, 5, block, timesteps))
        for t in range(timesteps if len(rows) else 0):
            for j in range(m):
                pull[t, j] = rows[min(timesteps - 1 - t, len(rows) - 1), j]
        gv, gu = np.empty(m, np.float32), np.empty(m, np.float32)
        if layer[IZHIKEVICH]:
            return _wide_izhikevich_back(pull, m, a, b, c, d, e, k32, down, gv, gu, to_threshold), nothing
        return _wide_lif_back(pull, m, a, b, c, d, k32, down, gv, to_threshold)
    if layer[IZHIKEVICH]:
        gain = _izhikevich_back(
            states, given, row, jump, moves, gradient, current, raw, slow, stride, m, timesteps, beside,
            saturates, k32, to_threshold,
        )  # fmt: skip
        return gain, nothing
    return _lif_back(
        states, given, row, jump, moves, gradient, current, gap, raw, stride, m, timesteps, beside, saturates,
        k32, to_threshold,
    )  # fmt: skip


@_exact
def _arrays(states, layer, block, timesteps):
    """Arrays 0 to 4 of the states of a layer, [T, m]."""
    return (
        _flat(_state(states, layer, 0, block, timesteps)), _flat(_state(states, layer, 1, block, timesteps)),
        _flat(_state(states, layer, 2, block, timesteps)), _flat(_state(states, layer, 3, block, timesteps)),
        _flat(_state(states, layer, 4, block, timesteps)),
    )  # fmt: skip


@_exact
def _sum_of_steps(current, bound, first, size, scores):
    """Scores of a last layer that only integrates, whose currents are [T, S, n]."""
    low, high = np.float32(-bound), np.float32(bound) - np.float32(1)
    timesteps, _, n = current.shape
    for s in range(size):
        scores[first + s] = 0
        for t in range(timesteps):
            for j in range(n):
                scores[first + s, j] += min(max(current[t, s, j], low), high)


@_exact
def _score_of_spikes(state, level, laned, first, size, scores):
    """Scores of a last layer that fires: its spikes; see _list_fired."""
    n = scores.shape[1]
    scores[first : first + size] = 0
    for t in range(len(state)):
        for s in range(size):
            for j in range(n):
                now = state[t, j, s] if laned else state[t, s, j]
                over = now >= level[j * WIDTH + s if laned else s * n + j]
                scores[first + s, j] += 1.0 if over else 0.0


@_exact
def _slope_of_steps(current, slope, bound, layer, size, gradient):
    """The gradient to the spikes of a last layer in all steps, or to its currents where it only
    integrates."""
    low, high = np.float32(-bound), np.float32(bound) - np.float32(1)
    gradient[:] = 0
    for t in range(len(gradient)):
        for s in range(size):
            for j in range(layer[N_OUT]):
                if layer[LANED]:
                    gradient[t, j, s] = slope[s, j]
                else:
                    open_now = layer[FIRES] or (current[t, s, j] >= low and current[t, s, j] <= high)
                    gradient[t, s, j] = slope[s, j] if open_now else np.float32(0)


@_loose
def _run(
    layers, k, threshold, noise, order, starts, level_places, level_ends, active, counts, ramp, labels,
    factor, block, down, matrices, turneds, levels, ahead, ahead_at, back, back_at, states, lists, lanes,
    masks, tiles, places, per_weights, to_threshold, to_k, scores, fired,
):  # fmt: skip
    """One candidate over a batch: forward, and back if there are labels.

    layers: [layers, 20] see above. k: [layers, 16], threshold: [layers, widest], noise: [layers, T] float64.
    order, starts, level_places, level_ends: of rate-coded inputs, or active, counts: of spikes; see
    sort_levels, place_levels and list_spikes. ramp: R_T(t). down: T - 1 ... 0. labels: [B], or empty to go
    forward alone. factor: what turns a score into a logit. block: S, 16 if a layer is laned or the inputs are
    rate-coded. matrices, turneds, levels, ahead, ahead_at, back, back_at, states, lists, per_weights: flat
    room; lanes, masks, tiles, places: scratch.

    Out: per_weights, gradient to the matrix of each delay, summed over steps, [D + 1, n_in, n_out] of
    every layer; to_threshold [layers, widest]; to_k [layers, 2], gradients to gain_k and leak_k; scores
    [B, classes] float64; fired [layers], spikes, where there are no labels. returns the mean loss and the
    gradient to the logarithm of factor.
    """
    depth, batch, timesteps = len(layers), len(scores), len(down)
    training = len(labels) > 0
    widest = _wide(threshold.shape[1])
    k32, noise32 = k.astype(np.float32), noise.astype(np.float32)
    # Thresholds of the neurons of all samples side by side, and the gradients to them.
    beside = np.ones((depth, widest * block), np.float32)
    summed = np.zeros((depth, widest * block), np.float32)
    # A neuron fired where array `seen` of its states is its level or more.
    seen, level = np.full(depth, 2), beside
    for i in range(depth):
        _beside(threshold[i], layers[i], block, beside[i])
        if layers[i, WIDE] or (not layers[i, IZHIKEVICH] and adapts(k[i])):
            seen[i] = 1
    if (seen == 1).any():
        level = beside.copy()
        for i in range(depth):
            if seen[i] == 1:
                level[i] = 0
    slope = np.zeros((block, scores.shape[1]), np.float32)
    last = layers[depth - 1]
    # Of a last layer that is summed up, with room for whole pieces: spikes of its inputs and the gradients to
    # them, [D + 1, S, n_in]; the same as they lie in the states of the layer before; the gradient to its
    # weights.
    size = last[SLICES] * block * last[N_IN]
    heard, pulled = np.zeros(size + FOUR, np.float32), np.zeros(size + FOUR, np.float32)
    total = heard[:size].reshape(last[SLICES], block, last[N_IN])
    before_last = depth > 1 and layers[depth - 2, LANED]
    m = _wide(last[N_IN]) * WIDTH if before_last else block * last[N_IN]
    found, rows = np.zeros((last[SLICES], m), np.float32), np.zeros((last[SLICES], m), np.float32)
    sums = np.zeros(last[SLICES] * last[N_OUT] * last[N_IN] + FOUR, np.float32)
    per_weights[: last[AT_WEIGHT] + last[SLICES] * last[N_IN] * last[N_OUT]] = 0
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
                    _turn_counts(found, layer, before_laned, size, total)
                for s in range(size):
                    _sum_of_counts(total, s, turned, scores, first + s)
                if i > 0 and not training:
                    for s in range(size):
                        for j in range(n_in):
                            fired[i - 1] += int(total[0, s, j])
                continue
            at_current, unit = _state_at(layer, 0, block, timesteps), np.float32(k[i, UNIT])
            if layer[RATED]:
                to, target = (0, lanes) if laned else (at_current, states)
                if layer[NARROW]:
                    _add_levels(
                        order, starts, first, size, ramp, levels, layer[AT_MATRIX], n_in, n, layer[SLICES],
                        target, to, (block + 1) * n, unit, masks, counts_four(),
                    )  # fmt: skip
                else:
                    _add_levels(
                        order, starts, first, size, ramp, levels, layer[AT_MATRIX], n_in, n, layer[SLICES],
                        target, to, (block + 1) * n, unit, masks, long_counts_four(),
                    )  # fmt: skip
                if laned:
                    _of_flat(lanes, timesteps, n, size, states, at_current)
            elif laned:
                span = layer[SLICES] - 1
                height = _wide(timesteps) + span
                if before_laned:
                    at = _state_at(layers[i - 1], seen[i - 1], block, timesteps)
                    spikes = _masks_of_lanes(
                        states, at, level[i - 1], timesteps, size, n_in, span, height, masks
                    )
                    if not training:
                        fired[i - 1] += spikes
                elif i > 0:
                    into, into_counts = _lists(lists, layers[i - 1], block, timesteps)
                    _masks_of_lists(into, into_counts, 0, size, n_in, span, height, masks)
                else:
                    _masks_of_lists(active, counts, first, size, n_in, span, height, masks)
                if layer[NARROW]:
                    _sums_of_masks(
                        masks, ahead, ahead_at, layer[AT_AHEAD], n, n_in, timesteps, states, at_current, unit,
                        counts_eight(), counts_four(),
                    )  # fmt: skip
                else:
                    _sums_of_masks(
                        masks, ahead, ahead_at, layer[AT_AHEAD], n, n_in, timesteps, states, at_current, unit,
                        long_counts_four(), long_counts_four(),
                    )  # fmt: skip
            else:
                matrix, current = _matrix(matrices, layer), _state(states, layer, 0, block, timesteps)
                into, into_counts, at = active, counts, first
                if i > 0:
                    into, into_counts = _lists(lists, layers[i - 1], block, timesteps)
                    at = 0
                for s in range(size):
                    _add_spikes(into, into_counts, at + s, matrix, current, s)
            if not layer[FIRES]:
                _sum_of_steps(_state(states, layer, 0, block, timesteps), k[i, BOUND], first, size, scores)
                continue
            sums_up = i < depth - 1 and layers[i + 1, SUMMED] != 0
            _neurons(
                layer, states, block, size, timesteps, threshold[i], beside[i], noise[i], noise32[i], k[i],
                k32[i], sums_up, found,
            )  # fmt: skip
            if sums_up:
                continue
            if i == depth - 1:
                state = _state(states, layer, seen[i], block, timesteps)
                _score_of_spikes(state, level[i], laned, first, size, scores)
                for s in range(size):
                    for j in range(n):
                        fired[i] += int(scores[first + s, j])
                continue
            if not (laned and layers[i + 1, LANED]):
                state = _state(states, layer, seen[i], block, timesteps)
                listed, listed_counts = _lists(lists, layer, block, timesteps)
                for s in range(size):
                    _list_fired(state, level[i], laned, s, listed, listed_counts)
                if not training:
                    fired[i] += listed_counts[:size].sum()
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
            if layer[SUMMED]:
                if i > 0:
                    _back_through_counts(
                        heard, turneds, layer[AT_MATRIX], slope, n_in, n, slices, sums, pulled
                    )
                    _rows_of_counts(pulled, before_laned, block, n_in, rows)
                else:
                    _back_through_counts(heard, turneds, layer[AT_MATRIX], slope, n_in, n, slices, sums, None)
                continue
            at_gradient = _state_at(layer, 5, block, timesteps)
            if i == depth - 1:
                gradient = _state(states, layer, 5, block, timesteps)
                current = _state(states, layer, 0, block, timesteps)
                _slope_of_steps(current, slope, k[i, BOUND], layer, size, gradient)
            if layer[FIRES]:
                sums_up = i < depth - 1 and layers[i + 1, SUMMED] != 0
                gain, leak = _neurons_back(
                    layer, states, block, size, timesteps, rows if sums_up else rows[:0], beside[i], k32[i],
                    down, summed[i],
                )  # fmt: skip
                to_k[i, 0] += gain / k[i, ONE]
                to_k[i, 1] += leak / k[i, ONE]
            if layer[RATED]:
                into_places = level_places[first // WIDTH].reshape(n_in * WIDTH)
                at, target = at_gradient, states
                if laned:
                    at, target = 0, lanes
                    _to_flat(states, at_gradient, timesteps, n, lanes, 0)
                _to_weights_of_levels(
                    into_places, level_ends[first // WIDTH], size, ramp, target, at, n_in, n, slices, tiles,
                    per_weights, layer[AT_WEIGHT],
                )  # fmt: skip
                continue
            ends = np.zeros(n_in, np.int32)
            if before_laned:
                at = _state_at(layers[i - 1], seen[i - 1], block, timesteps)
                _places_of_lanes(states, at, level[i - 1], timesteps, _wide(n_in), size, n_in, places, ends)
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
                    _to_flat(lanes, 0, timesteps, n_in, states, to)
            else:
                flat_out = out = _state(states, layers[i - 1], 5, block, timesteps)
                if before_laned:
                    flat_out = lanes[: timesteps * block * n_in].reshape(timesteps, block, n_in)
                turned, gradient = _turned(turneds, layer), _state(states, layer, 5, block, timesteps)
                for s in range(size):
                    _to_spikes(gradient, s, turned, flat_out)
                if before_laned:
                    _to_lanes(flat_out, size, out)
    for i in range(depth if training else 0):
        for j in range(layers[i, N_OUT]):
            for s in range(block):
                to_threshold[i, j] += summed[
                    i, j * WIDTH + s if layers[i, LANED] else s * layers[i, N_OUT] + j
                ]
    if training and last[SUMMED]:
        at = last[AT_WEIGHT]
        for d in range(last[SLICES]):
            for a in range(last[N_IN]):
                for j in range(last[N_OUT]):
                    per_weights[at] = sums[(d * last[N_OUT] + j) * last[N_IN] + a]
                    at += 1
    return loss / batch, to_factor


@_loose
def _collect(width, per_weight, weight, position, limit, one, to_weight, to_position):
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


# -- all candidates -----------------------------------------------------------------------------


@intrinsic
def _pointer_to(typing, address, like):
    """The address, an integer, as that of numbers like `like`."""
    kind = types.CPointer(like)

    def generate(context, builder, signature, arguments):
        return builder.inttoptr(arguments[0], context.get_value_type(kind))

    return kind(address, like), generate


@_exact
def _own(address, like, p, shape):
    """What candidate p has of a tensor [P, *shape] at an address."""
    return carray(_pointer_to(address, like), (p + 1, shape[0], shape[1]))[p]


@_exact
def _prepare(
    layer, k, p, first, addresses, shape, timesteps, tables, matrices, turneds, levels, ahead, ahead_at, back,
    back_at,
):  # fmt: skip
    """Bring the integers of a layer of candidate p where _run expects them. first: is it the first layer?"""
    real = np.float32(0)
    weight, position = _own(addresses[WEIGHT], real, p, shape), _own(addresses[POSITION], real, p, shape)
    keep = _own(addresses[KEEP], np.uint8(0), p, shape)
    n_in, n, slices, streams = layer[N_IN], layer[N_OUT], layer[SLICES], layer[STREAMS]
    top, unit, most, span = np.float32(k[TOP]), np.float32(k[EACH]), k[BOUND], slices - 1
    own = levels[: slices * n_in * (-(-n // FOUR) * FOUR)] if layer[RATED] else levels[:0]
    if layer[LANED] and not layer[RATED]:
        to, at = layer[AT_AHEAD], layer[AT_BACK]
        many, few = n_in * _wide(n), _wide(n_in) * n
        prepare_lanes(
            weight, keep, position, n_in, n, span, top, unit, most, layer, k, _wide(timesteps) + span,
            ahead[to : to + many], ahead_at[to : to + many], back[at : at + few], back_at[at : at + few],
        )  # fmt: skip
        return
    if layer[RATED] and layer[FIRES]:
        prepare_levels(weight, keep, position, n_in, n, span, top, unit, most, layer, k, own)
        return
    matrix, turned = _matrix(matrices, layer), _turned(turneds, layer)
    if layer[SOBOL] and not layer[FIRES]:
        table = tables[:0].reshape(0, 1)
        prepare_sum(
            weight, keep, position, n_in, n, span, top, unit, most, layer, k, timesteps, own, table, matrix,
            turned,
        )  # fmt: skip
        return
    magnitudes = 0 if layer[SOBOL] else int(top) + 1
    table = tables[layer[AT_TABLE] : layer[AT_TABLE] + streams * magnitudes].reshape(
        streams if magnitudes else 0, max(magnitudes, 1)
    )
    prepare(weight, keep, position, top, unit, table, matrix, turned[:0] if first else turned)


@_exact
def run(
    layers, k, threshold, noise, blocks, addresses, shapes, tables, order, starts, level_places, level_ends,
    active, counts, ramp, labels, factors, softness, down, matrices, turneds, levels, ahead, ahead_at, back,
    back_at, states, lists, lanes, masks, tiles, places, per_weights, to_threshold, to_k, scores, fired,
    losses, to_factor,
):  # fmt: skip
    """All candidates over a batch: forward, and back if there are labels.

    layers: [P, layers, 20], k: [P, layers, 16], threshold: [P, layers, widest], noise: [P, layers, T], blocks
    and factors: [P], see _run, which has the others. addresses: [layers, 5] and shapes: [layers, 2], of the
    tensors. tables: flat, [T, M + 1] of each layer whose streams differ from step to step, see prepare.
    softness: of delays, see LayerStack.forward.

    Out: gradients in the tensors; to_threshold [P, layers, widest], to_k [P, layers, 2]; scores [P, B,
    classes], or [1, B, classes], those of the last candidate; fired [P, layers]; losses [P], and the
    gradients to the logarithms of the factors, [P].
    """
    real = np.float32(0)
    for p in range(len(layers)):
        for i in range(layers.shape[1]):
            _prepare(
                layers[p, i], k[p, i], p, i == 0, addresses[i], shapes[i], len(down), tables, matrices,
                turneds, levels, ahead, ahead_at, back, back_at,
            )  # fmt: skip
        losses[p], to_factor[p] = _run(
            layers[p], k[p], threshold[p], noise[p], order, starts, level_places, level_ends, active, counts,
            ramp, labels, factors[p], blocks[p], down, matrices, turneds, levels, ahead, ahead_at, back,
            back_at, states, lists, lanes, masks, tiles, places, per_weights, to_threshold[p], to_k[p],
            scores[min(p, len(scores) - 1)], fired[p],
        )  # fmt: skip
        for i in range(layers.shape[1] if len(labels) else 0):
            layer, shape = layers[p, i], shapes[i]
            n_in, n, slices, at = layer[N_IN], layer[N_OUT], layer[SLICES], layer[AT_WEIGHT]
            _collect(
                np.float32(max(0.5, (slices - 1) * softness / 2)),
                per_weights[at : at + slices * n_in * n].reshape(slices, n_in, n),
                _own(addresses[i, WEIGHT], real, p, shape), _own(addresses[i, POSITION], real, p, shape),
                slices - 1, np.float32(k[p, i, ONE]), _own(addresses[i, TO_WEIGHT], real, p, shape),
                _own(addresses[i, TO_POSITION], real, p, shape),
            )  # fmt: skip


@_exact
def judge(scores, labels, factors, losses, right):
    """What scores [P, B, classes] are worth: summed cross-entropies and right answers, both [P], out.
    factors: [P], what turns a score into a logit. The class is the first of the highest scores; none if one
    is no number."""
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

"""SIMD vectors: a type for Numba whose values stay in registers, and the operations on it.

LLVM keeps a sum over many rows in memory, one load and one store for every few numbers added. A value of the
types below stays in registers: one or several, as wide as the machine's.

Arrays are contiguous, indices are those of their flat elements, and nothing is checked: all elements of a
vector from `at` on must lie within the array, also where only some of them are written.
"""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, register_model

WIDTH = 16
PAIR, FOUR, EIGHT = 2 * WIDTH, 4 * WIDTH, 8 * WIDTH
_FLOAT, _INT, _SHORT, _LONG = ir.FloatType(), ir.IntType(32), ir.IntType(16), ir.IntType(64)


class Vector(types.Type):
    """A SIMD vector of `width` float32, or integers of 16 or 32 bits."""

    def __init__(self, width, element=_FLOAT):
        super().__init__(name=f"Vector{width}x{element}")
        self.vector = ir.VectorType(element, width)


_floats = Vector(WIDTH)


@register_model(Vector)
class _Model(models.PrimitiveModel):
    def __init__(self, manager, kind):
        super().__init__(manager, kind, kind.vector)


def _broadcast(builder, scalar, kind):
    """A vector of this LLVM type whose elements are all the scalar."""
    first = builder.insert_element(ir.Constant(kind, ir.Undefined), scalar, _INT(0))
    places = ir.Constant(ir.VectorType(_INT, kind.count), [0] * kind.count)
    return builder.shuffle_vector(first, first, places)


def _pointer(context, builder, array_type, array, at, vector=_floats.vector):
    """The address of array[at], an index of its flat elements, as that of a vector."""
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [at]), vector.as_pointer())


def _below(builder, count, width=WIDTH):
    """A mask of `width` bits, of which the first `count` are set."""
    kind = ir.VectorType(_INT, width)
    numbers = ir.Constant(kind, list(range(width)))
    return builder.icmp_signed("<", numbers, _broadcast(builder, builder.trunc(count, _INT), kind))


def _zeros(kind):
    """A function without arguments that returns a vector of zeros of one kind."""

    @intrinsic
    def zeros(typing):
        def generate(context, builder, signature, arguments):
            return ir.Constant(kind.vector, [0] * kind.vector.count)

        return kind(), generate

    return zeros


zeros, zeros_pair, zeros_four = (_zeros(Vector(width)) for width in (WIDTH, PAIR, FOUR))
# Integers of 16 bits, for sums below 2^15, and of 32.
counts_four, counts_eight = (_zeros(Vector(width, _SHORT)) for width in (FOUR, EIGHT))
long_counts_four = _zeros(Vector(FOUR, _INT))


@intrinsic
def load(typing, array, at):
    """array[at : at + 16]."""

    def generate(context, builder, signature, arguments):
        pointer = _pointer(context, builder, signature.args[0], *arguments)
        return builder.load(pointer, align=4)

    return _floats(array, types.intp), generate


@intrinsic
def load_like(typing, array, at, other):
    """A vector of the type of `other` from array[at] on."""

    def generate(context, builder, signature, arguments):
        pointer = _pointer(context, builder, signature.args[0], *arguments[:2], other.vector)
        return builder.load(pointer, align=4)

    return other(array, types.intp, other), generate


@intrinsic
def load_counts(typing, array, at, other):
    """A vector of the type of `other`, integers, from array[at] of int16 on."""

    def generate(context, builder, signature, arguments):
        vector = ir.VectorType(_SHORT, other.vector.count)
        numbers = builder.load(_pointer(context, builder, signature.args[0], *arguments[:2], vector), align=2)
        return numbers if vector == other.vector else builder.sext(numbers, other.vector)

    return other(array, types.intp, other), generate


@intrinsic
def store(typing, array, at, values):
    """array[at : at + n] = the n elements of a vector."""

    def generate(context, builder, signature, arguments):
        pointer = _pointer(context, builder, signature.args[0], *arguments[:2], values.vector)
        builder.store(arguments[2], pointer, align=4)
        return context.get_dummy_value()

    return types.void(array, types.intp, values), generate


@intrinsic
def store_first(typing, array, at, values, count):
    """array[at : at + count] = values[:count], where count may exceed the width of the vector; the array's
    elements behind them, up to the width, are read and written back unchanged."""

    def generate(context, builder, signature, arguments):
        pointer = _pointer(context, builder, signature.args[0], *arguments[:2], values.vector)
        among = _below(builder, arguments[3], values.vector.count)
        kept = builder.select(among, arguments[2], builder.load(pointer, align=4))
        builder.store(kept, pointer, align=4)
        return context.get_dummy_value()

    return types.void(array, types.intp, values, types.intp), generate


@intrinsic
def store_rows(typing, array, at, step, counts, unit):
    """array[at + u * step : at + u * step + 16] = the u-th sixteen integers in `counts`, times unit,
    float32."""

    def generate(context, builder, signature, arguments):
        array, at, step, values, unit = arguments
        by = _broadcast(builder, unit, _floats.vector)
        for u in range(counts.vector.count // WIDTH):
            places = ir.Constant(ir.VectorType(_INT, WIDTH), [u * WIDTH + n for n in range(WIDTH)])
            row = builder.sitofp(builder.shuffle_vector(values, values, places), _floats.vector)
            place = builder.add(at, builder.mul(step, _LONG(u)))
            pointer = _pointer(context, builder, signature.args[0], array, place)
            builder.store(builder.fmul(row, by), pointer, align=4)
        return context.get_dummy_value()

    return types.void(array, types.intp, types.intp, counts, types.float32), generate


@intrinsic
def of_counts(typing, counts, unit):
    """A float32 vector: the integers in `counts` times unit."""
    kind = Vector(counts.vector.count)

    def generate(context, builder, signature, arguments):
        values, unit = arguments
        return builder.fmul(builder.sitofp(values, kind.vector), _broadcast(builder, unit, kind.vector))

    return kind(counts, types.float32), generate


@intrinsic
def broadcast_like(typing, number, other):
    """A vector of the type of `other` whose elements are all `number`, float32 or int16."""

    element = other.vector.element

    def generate(context, builder, signature, arguments):
        number = arguments[0]
        return _broadcast(builder, builder.sext(number, element) if element == _INT else number, other.vector)

    return other(types.float32 if element == _FLOAT else types.int16, other), generate


def _signed(kinds, build):
    """Signature and code of an operation on vectors of one type; build(builder, *vectors) -> vector."""

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
    """An LLVM intrinsic on float32 vectors, such as llvm.floor, by its name."""

    def build(builder, *values):
        kind = values[0].type
        operation = ir.FunctionType(kind, [kind] * len(values))
        full = f"llvm.{name}.v{kind.count}f32"
        return builder.call(cgutils.get_or_insert_function(builder.module, operation, full), values)

    return build


def _clamp(builder, a, low, high):
    above = builder.select(builder.fcmp_ordered("<", a, low), low, a)
    return builder.select(builder.fcmp_ordered(">", above, high), high, above)


def _where(relation):
    """An operation on a, b, yes, no: the elements of yes where a stands in `relation` to b, else those of
    no."""

    def build(builder, a, b, yes, no):
        return builder.select(builder.fcmp_ordered(relation, a, b), yes, no)

    return build


add = _on_two(lambda builder, a, b: builder.fadd(a, b))
subtract = _on_two(lambda builder, a, b: builder.fsub(a, b))
multiply = _on_two(lambda builder, a, b: builder.fmul(a, b))
divide = _on_two(lambda builder, a, b: builder.fdiv(a, b))
add_product = _on_three(_call("fmuladd"))  # a * b + c, rounded once or twice
floor = _on_one(_call("floor"))
clamp = _on_three(_clamp)  # min(max(a, low), high); NaN stays NaN
where_equal = _on_four(_where("=="))
where_least = _on_four(_where(">="))  # where a is b or more
add_counts = _on_two(lambda builder, a, b: builder.add(a, b))
both = _on_two(lambda builder, a, b: builder.and_(a, b))


def _fired(context, builder, kinds, array, at, level, level_at, real):
    """A mask of 16 bits: array[at + b] is level[level_at + b] or more, and b is below `real`."""
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
        vector = ir.VectorType(_SHORT, WIDTH)
        pointer = _pointer(context, builder, signature.args[5], masks, to, vector)
        builder.store(builder.sext(fired, vector), pointer, align=2)
        bits = builder.bitcast(fired, ir.IntType(WIDTH))
        return builder.zext(builder.ctpop(bits), _LONG)

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
        counts = ir.Constant(ir.ArrayType(_LONG, 2**half), [len(row) for row in rows])
        counts = cgutils.global_constant(builder.module, "number_of_bits", counts)
        kinds = signature.args[0], signature.args[2]
        fired = _fired(context, builder, kinds, array, at, level, level_at, real)
        bits = builder.zext(builder.bitcast(fired, ir.IntType(WIDTH)), _LONG)
        out = context.make_array(signature.args[5])(context, builder, places).data
        by = _broadcast(builder, builder.trunc(step, _INT), few)
        found = _LONG(0)
        for first in (0, half):  # no branch, since spikes cannot be predicted
            row = builder.and_(builder.lshr(bits, _LONG(first)), _LONG(2**half - 1))
            start = builder.trunc(builder.add(base, builder.mul(step, _LONG(first))), _INT)
            listed = builder.load(builder.gep(table, [_LONG(0), row]), align=4)
            listed = builder.add(builder.mul(listed, by), _broadcast(builder, start, few))
            target = builder.bitcast(builder.gep(out, [builder.add(to, found)]), few.as_pointer())
            builder.store(listed, target, align=4)
            found = builder.add(found, builder.load(builder.gep(counts, [_LONG(0), row])))
        return found

    integer = types.intp
    return (
        integer(array, integer, level, integer, integer, places, integer, integer, integer),
        generate,
    )


@intrinsic
def transpose(typing, array, at, step, out, to, out_step, count):
    """out[to + c * out_step + r] = array[at + r * step + c] for r below `count` and c below 16; what `out`
    holds for the other r below 16 is read and written back unchanged."""

    def generate(context, builder, signature, arguments):
        array, at, step, out, to, out_step, count = arguments
        numbers = ir.VectorType(_INT, WIDTH)
        rows = []
        for r in range(WIDTH):
            place = builder.add(at, builder.mul(step, ir.IntType(64)(r)))
            pointer = _pointer(context, builder, signature.args[0], array, place)
            rows.append(builder.load(pointer, align=4))
        half = WIDTH // 2
        while half:  # exchange the blocks off the diagonal, of half the size each time
            for r in range(WIDTH):
                if r & half:
                    continue
                a, b = rows[r], rows[r + half]
                first = [c if not c & half else c - half + WIDTH for c in range(WIDTH)]
                second = [c + half if not c & half else c + WIDTH for c in range(WIDTH)]
                rows[r] = builder.shuffle_vector(a, b, ir.Constant(numbers, first))
                rows[r + half] = builder.shuffle_vector(a, b, ir.Constant(numbers, second))
            half //= 2
        limit = _broadcast(builder, builder.trunc(count, _INT), numbers)
        own = builder.icmp_signed("<", ir.Constant(numbers, list(range(WIDTH))), limit)
        for c in range(WIDTH):
            place = builder.add(to, builder.mul(out_step, ir.IntType(64)(c)))
            pointer = _pointer(context, builder, signature.args[3], out, place)
            builder.store(builder.select(own, rows[c], builder.load(pointer, align=4)), pointer, align=4)
        return context.get_dummy_value()

    integer = types.intp
    return types.void(array, integer, integer, out, integer, integer, integer), generate


@intrinsic
def shorts_of(typing, vector):
    """How many int16 take as much memory as a vector."""

    def generate(context, builder, signature, arguments):
        return _LONG(vector.vector.count * vector.vector.element.width // 16)

    return types.intp(vector), generate


@intrinsic
def rows_of(typing, vector):
    """How many rows of 16 elements a vector has."""

    def generate(context, builder, signature, arguments):
        return _LONG(vector.vector.count // WIDTH)

    return types.intp(vector), generate


@intrinsic
def pointer_to(typing, address, like):
    """An address, an integer, as a pointer to numbers of the type of `like`."""
    kind = types.CPointer(like)

    def generate(context, builder, signature, arguments):
        return builder.inttoptr(arguments[0], context.get_value_type(kind))

    return kind(address, like), generate

"""What follows from the description of a neuron: its arithmetic in whole numbers, floats and source text,
its backward pass, the bounds of its sums, and facts such as the constants that it uses.

`read` folds an expression with an Arithmetic, which says what each operator is; `step` is one update of any
model with any Arithmetic. The torch reference is such an Arithmetic in scnas.snn.reference.neurons, the
Verilog one in scnas.hardware.circuit.datapath.

Gradients: a floor is the identity, saturation stops what it clamps, a spike is the arctangent surrogate, and
neither the reset nor `on_spike` is differentiated through.

Letters: F fraction bits, W bits of a word; `unit` is 2^-F.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cache
from itertools import product
from math import gcd
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from scnas.contract import Refused
from scnas.snn.models import COMMON, CONSTANTS, POWERS_OF_TWO, TRAINABLE, Format, Model, Node, lifted

T = TypeVar("T")
Array = NDArray[Any]  # of float64, or bool


# -- reading an expression -------------------------------------------------------------------------


class Arithmetic(Generic[T]):
    """What the operators of an expression are. Those of gradients (`plain`, `unit`, `clip`) and of `step`
    (`saturated`, `fires`, `choose`, `rest_left`) are missing where nobody asks for them."""

    def number(self, value: int) -> T:
        raise NotImplementedError

    def real(self, numerator: int, denominator: int) -> T:
        raise NotImplementedError

    def add(self, a: T, b: T) -> T:
        raise NotImplementedError

    def sub(self, a: T, b: T) -> T:
        raise NotImplementedError

    def times(self, factor: int, a: T) -> T:
        raise NotImplementedError

    def mul(self, a: T, b: T) -> T:
        """a * b / 2^F, rounded down."""
        raise NotImplementedError

    def choose(self, condition: T, a: T, b: T) -> T:
        raise NotImplementedError

    def clipped_slope(self, node: Node, by: str, names: Mapping[str, T]) -> T:
        """The value of `node`; an Arithmetic that differentiates clips its slope along `by`."""
        return read(node, names, self)

    def plain(self, a: T, b: T) -> T:
        """The product of a gradient and a slope, not rounded."""
        raise NotImplementedError

    def unit(self, a: T) -> T:
        """a / 2^F, not rounded."""
        raise NotImplementedError

    def clip(self, a: T) -> T:
        """`a` clipped to -1..1."""
        raise NotImplementedError

    def saturated(self, a: T) -> T:
        raise NotImplementedError

    def fires(self, p: T, limit: T, waiting: T | None) -> T:
        """Whether p >= limit and nothing is waited for."""
        raise NotImplementedError

    def rest_left(self, waiting: T) -> T:
        """The refractory steps left after one more."""
        raise NotImplementedError


def read(node: Node, names: Mapping[str, T], arithmetic: Arithmetic[T]) -> T:
    """The value of an expression. names: of everything that it reads, `fires` included where it asks
    on_spike. Equal parts are worked out once, in the order in which they are written."""
    return _value(node, names, arithmetic, {})


def _value(node: Node, names: Mapping[str, T], arithmetic: Arithmetic[T], known: dict[Node, T]) -> T:
    # No function within a function: the cycle between the two would keep tensors until it is collected.
    if node in known:
        return known[node]
    args = node.args
    if node.op == "clipped_slope":
        known[node] = arithmetic.clipped_slope(args[0], args[1].args[0], names)
        return known[node]
    values = [_value(arg, names, arithmetic, known) for arg in node.nodes]
    match node.op:
        case "name":
            found = names[args[0]]
        case "number":
            found = arithmetic.number(args[0])
        case "real":
            found = arithmetic.real(*args)
        case "times":
            found = arithmetic.times(args[0], *values)
        case "on_spike":
            found = arithmetic.choose(names["fires"], *values)
        case "add":
            found = arithmetic.add(*values)
        case "sub":
            found = arithmetic.sub(*values)
        case "mul":
            found = arithmetic.mul(*values)
        case "plain":
            found = arithmetic.plain(*values)
        case "unit":
            found = arithmetic.unit(*values)
        case "clip":
            found = arithmetic.clip(*values)
        case _:
            raise Refused(f"an expression has no operator {node.op!r}")
    known[node] = found
    return found


class Stepped(NamedTuple, Generic[T]):
    """A step's outcome: whether the neuron fires, its state (`v`, further words), refractory steps left."""

    fires: T
    state: dict[str, T]
    waiting: T | None


def step(model: Model, names: Mapping[str, T], waiting: T | None, arithmetic: Arithmetic[T]) -> Stepped[T]:
    """One update. names: the state, the current `I`, saturated, `threshold`, `noise`, and constants,
    `refractory` among them. waiting: refractory steps left, this one included; None where no neuron ever
    waits."""
    p = arithmetic.saturated(read(model.charge, names, arithmetic))
    fires = arithmetic.fires(p, read(model.limit, names, arithmetic), waiting)
    names = {**names, "fires": fires}
    state = {w.name: arithmetic.saturated(read(w.update, names, arithmetic)) for w in model.words}
    state["v"] = arithmetic.choose(fires, names["v_reset"], p)
    if waiting is not None:
        state["v"] = arithmetic.choose(waiting, names["v_rest"], state["v"])
        waiting = arithmetic.choose(fires, names["refractory"], arithmetic.rest_left(waiting))
    return Stepped(fires, state, waiting)


def first_state(model: Model, constants: Mapping[str, T], arithmetic: Arithmetic[T]) -> dict[str, T]:
    """The state before step 0: `v` and the further words."""
    starts = {"v": model.first} | {word.name: word.start for word in model.words}
    return {word: read(start, constants, arithmetic) for word, start in starts.items()}


class Whole(Arithmetic[int]):
    """Python integers: exact whatever the format."""

    def __init__(self, q: Format):
        self.q = q

    def number(self, value: int) -> int:
        return value

    def real(self, numerator: int, denominator: int) -> int:
        return (2 * numerator * self.q.one + denominator) // (2 * denominator)

    def add(self, a: int, b: int) -> int:
        return a + b

    def sub(self, a: int, b: int) -> int:
        return a - b

    def times(self, factor: int, a: int) -> int:
        return factor * a

    def mul(self, a: int, b: int) -> int:
        return a * b >> self.q.fraction

    def choose(self, condition: int, a: int, b: int) -> int:
        return a if condition else b

    def saturated(self, a: int) -> int:
        return max(-self.q.half, min(self.q.half - 1, a))

    def fires(self, p: int, limit: int, waiting: int | None) -> int:
        return int(not waiting and p >= limit)

    def rest_left(self, waiting: int) -> int:
        return max(0, waiting - 1)


class Floats(Arithmetic[Array]):
    """NumPy float64, which holds the integers exactly below 2^53; gradients, too."""

    def __init__(self, q: Format):
        self.q, self._unit = q, 1 / q.one

    def number(self, value: int) -> Array:
        return np.asarray(value, dtype=np.float64)

    def real(self, numerator: int, denominator: int) -> Array:
        return np.asarray(Whole(self.q).real(numerator, denominator), dtype=np.float64)

    def add(self, a: Array, b: Array) -> Array:
        return a + b

    def sub(self, a: Array, b: Array) -> Array:
        return a - b

    def times(self, factor: int, a: Array) -> Array:
        return factor * a

    def mul(self, a: Array, b: Array) -> Array:
        return np.floor(a * b * self._unit)

    def choose(self, condition: Array, a: Array, b: Array) -> Array:
        return np.where(condition, a, b)

    def plain(self, a: Array, b: Array) -> Array:
        return a * b

    def unit(self, a: Array) -> Array:
        return a * self._unit

    def clip(self, a: Array) -> Array:
        return np.clip(a, -1, 1)

    def saturated(self, a: Array) -> Array:
        return np.clip(a, -self.q.half, self.q.half - 1)

    def fires(self, p: Array, limit: Array, waiting: Array | None) -> Array:
        return p >= limit if waiting is None else (waiting == 0) & (p >= limit)

    def rest_left(self, waiting: Array) -> Array:
        return np.clip(waiting - 1, 0, None)


# -- gradients -------------------------------------------------------------------------------------

_ZERO, _ONE = lifted(0), lifted(1)


def slope(node: Node, by: str) -> Node | None:
    """The slope of an expression along a name, not rounded; None where it does not depend on it.

    Besides those of scnas.snn.models it has the operators `plain`, a product that is not in Q(F), `unit`,
    a number in Q(F) as a plain one, and `clip`, to -1..1.
    """
    match node.op, node.args:
        case "name", (word,):
            return _ONE if word == by else None
        case (("number" | "real"), _):
            return None
        case "add", (a, b):
            return _sum(slope(a, by), slope(b, by))
        case "sub", (a, b):
            return _sum(slope(a, by), _times(-1, slope(b, by)))
        case "times", (factor, a):
            return _times(factor, slope(a, by))
        case "mul", (a, b):
            return _sum(_plain(slope(a, by), b), _plain(slope(b, by), a))
        case "on_spike", (a, b):
            ends = slope(a, by), slope(b, by)
            return None if ends == (None, None) else Node("on_spike", tuple(x or _ZERO for x in ends))
        case "clipped_slope", (a, along):
            found = slope(a, by)
            return Node("clip", (found,)) if found is not None and along.args[0] == by else found
    raise Refused(f"the operator {node.op!r} has no slope")


def _times(factor: int, a: Node | None) -> Node | None:
    """factor * a, None being 0."""
    if a is None or factor == 0:
        return None
    if a.op == "number":
        return lifted(factor * a.args[0])
    if a.op == "times":
        return _times(factor * a.args[0], a.args[1])
    return a if factor == 1 else Node("times", (factor, a))


def _sum(a: Node | None, b: Node | None) -> Node | None:
    if a is None or b is None:
        return a or b
    if b.op == "times" and b.args[0] < 0:
        return Node("sub", (a, _times(-1, b)))
    return Node("add", (a, b))


def _plain(a: Node | None, k: Node) -> Node | None:
    """a * k / 2^F."""
    if a is None:
        return None
    return _product(a, Node("unit", (k,)))


def _product(a: Node | None, b: Node | None) -> Node | None:
    """a * b of plain numbers, None being 0."""
    if a is None or b is None:
        return None
    for whole, other in ((a, b), (b, a)):
        if whole.op == "number":
            return _times(whole.args[0], other)
        if whole.op == "times":
            return _times(whole.args[0], _product(whole.args[1], other))
    return Node("plain", (a, b))


@cache
def carrying(model: Model) -> tuple[str, ...]:
    """The further words through which a gradient runs back in time: those that depend on the membrane, the
    current, a trainable constant, or another such word, and act on a membrane or a spike."""
    sources, found = {"v", "I", *TRAINABLE}, frozenset[str]()
    for _ in model.words:
        found = frozenset(w.name for w in model.words if any(slope(w.update, by) for by in sources | found))
    read_by = model.charge.names | model.limit.names
    for _ in model.words:
        read_by = read_by.union(*(w.update.names for w in model.words if w.name in read_by))
    return tuple(w.name for w in model.words if w.name in found & read_by)


@cache
def backward(model: Model) -> dict[str, Node]:
    """The backward pass of a step: name -> gradient to it, of `v`, the words in `carrying`, `I`, `threshold`
    and the trainable constants that are used.

    It reads what the step read, `fires`, and gradients: `g_p`, to the membrane before saturation; `g_m`, to
    its distance to the limit; `g_<word>`, to each carrying word before saturation.
    """
    words = [word for word in model.words if word.name in carrying(model)]
    pulls = [("g_p", model.charge, 1), *((f"g_{word.name}", word.update, 1) for word in words)]
    pulls += [("g_m", model.limit, -1)]
    found = {}
    for target in ("v", *carrying(model), "I", "threshold", *trainable(model)):
        total = None
        for pull, node, sign in pulls:
            total = _sum(total, _times(sign, _product(Node("name", (pull,)), slope(node, target))))
        found[target] = total if total is not None else _ZERO
    return found


# -- source text -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Dialect:
    """How an array language writes an operator, as formats of its operands."""

    add: str = "{} + {}"
    sub: str = "{} - {}"
    product: str = "{} * {}"
    floor: str = "np.floor({})"
    clip: str = "np.minimum(np.maximum({}, {}), {})"
    choose: str = "np.where({}, {}, {})"
    at_least: str = "{} >= {}"
    both: str = "({}) & ({})"
    number: str = "{}.0"


NUMPY = Dialect()
NUMBA = Dialect(clip="min(max({}, {}), {})", choose="({1} if {0} else {2})", both="({}) and ({})")


@dataclass
class Source(Arithmetic[str]):
    """Straight-line text: every operator is a line of its own in `lines`, its value a name.

    A constant k is also there as `k_unit`, k / 2^F; beside it `unit`, 2^-F, and of a `real` a name such as
    `real_7_5`. outside: those names that the text reads and does not make.
    """

    dialect: Dialect
    constants: frozenset[str]
    prefix: str = "_t"
    lines: list[str] = field(default_factory=list)
    outside: dict[str, None] = field(default_factory=dict)

    def let(self, text: str, name: str | None = None) -> str:
        """A line that gives `text` a name; where `text` is the line before, that line gets the name."""
        if name and self.lines and self.lines[-1].startswith(f"{text} = "):
            text = self.lines.pop().removeprefix(f"{text} = ")
        name = name or f"{self.prefix}{len(self.lines)}"
        self.lines.append(f"{name} = {text}")
        return name

    def taken(self, name: str) -> str:
        """A name from outside."""
        self.outside[name] = None
        return name

    def number(self, value: int) -> str:
        text = self.dialect.number.format(abs(value))
        return f"(-{text})" if value < 0 else text

    def real(self, numerator: int, denominator: int) -> str:
        return self.taken(f"real_{numerator}_{denominator}".replace("-", "m"))

    def add(self, a: str, b: str) -> str:
        return self.let(self.dialect.add.format(a, b))

    def sub(self, a: str, b: str) -> str:
        return self.let(self.dialect.sub.format(a, b))

    def times(self, factor: int, a: str) -> str:
        return self.plain(self.number(factor), a)

    def mul(self, a: str, b: str) -> str:
        if a in self.constants:
            a, b = b, a
        return self.let(self.dialect.floor.format(self.plain(a, self.unit(b))))

    def choose(self, condition: str, a: str, b: str) -> str:
        return self.let(self.dialect.choose.format(condition, a, b))

    def plain(self, a: str, b: str) -> str:
        return self.let(self.dialect.product.format(a, b))

    def unit(self, a: str) -> str:
        return self.taken(f"{a}_unit") if a in self.constants else self.plain(a, self.taken("unit"))

    def clip(self, a: str) -> str:
        return self.let(self.dialect.clip.format(a, self.number(-1), self.number(1)))

    def saturated(self, a: str) -> str:
        return self.let(self.dialect.clip.format(a, self.taken("low"), self.taken("high")))


class Text(NamedTuple):
    """Lines of source, and the names that they read from outside."""

    lines: tuple[str, ...]
    outside: tuple[str, ...]


def _names(source: Source, nodes: tuple[Node, ...]) -> dict[str, str]:
    """The names of some expressions as text: themselves, read from outside, but for `fires`."""
    words = sorted(frozenset[str]().union(*(node.names for node in nodes)))
    return {word: source.taken(word) for word in words} | {"fires": "fires"}


def forward_source(model: Model, dialect: Dialect, refractory: bool = False) -> Text:
    """A step as text.

    It reads the state, `I`, saturated, `threshold`, `noise`, constants, and the ends `low` and `high` of a
    word; `waiting` if there are refractory steps. It makes `raw` and `p`, the membrane before and after
    saturation; `margin`, its distance to the limit; `fires`; `raw_<word>` and `next_<word>` of every further
    word. What the membrane is after a spike or at rest is the same for all models and the caller's.
    """
    source = Source(dialect, used_constants(model))
    names = _names(source, model.expressions)
    source.let(read(model.charge, names, source), "raw")
    source.let(source.saturated("raw"), "p")
    source.let(dialect.sub.format("p", read(model.limit, names, source)), "margin")
    fires = dialect.at_least.format("margin", source.number(0))
    if refractory:
        waits = dialect.at_least.format(source.number(0), source.taken("waiting"))
        fires = dialect.both.format(fires, waits)
    source.let(fires, "fires")
    for word in model.words:
        source.let(read(word.update, names, source), f"raw_{word.name}")
        source.let(source.saturated(f"raw_{word.name}"), f"next_{word.name}")
    return Text(tuple(source.lines), tuple(source.outside))


def backward_source(model: Model, dialect: Dialect) -> Text:
    """`backward` as text: makes `to_<name>` of every name there."""
    source = Source(dialect, used_constants(model), "_b")
    gradients = backward(model)
    names = _names(source, tuple(gradients.values()))
    for target, node in gradients.items():
        source.let(read(node, names, source), f"to_{target}")
    return Text(tuple(source.lines), tuple(source.outside))


# -- facts -----------------------------------------------------------------------------------------


@cache
def constants_of(model: Model) -> tuple[str, ...]:
    """The constants that a layer of this model has in network.json: CONSTANTS, then the model's own."""
    return (*CONSTANTS, *model.constants)


@cache
def used_constants(model: Model) -> frozenset[str]:
    """Those that are used; the others are 0 in network.json."""
    noise = {"noise_k"} if "noise" in model.names else set()
    return (model.names & frozenset(constants_of(model))) | noise | frozenset(COMMON)


@cache
def trainable(model: Model) -> tuple[str, ...]:
    """Constants that training changes, besides the thresholds."""
    return tuple(name for name in TRAINABLE if name in model.names)


@cache
def remembered(model: Model) -> tuple[str, ...]:
    """Further words that the backward pass reads, besides the membrane."""
    read_by = model.limit.names.union(*(node.names for node in backward(model).values()))
    return tuple(word.name for word in model.words if word.name in read_by)


class Products(NamedTuple):
    """Multiplications of a step. by_constant: constant -> how many; a constant expression of several names
    counts as `other`. of_signals: of two numbers that change from step to step; squares: of those, of a
    number by itself."""

    by_constant: dict[str, int]
    of_signals: int
    squares: int


@cache
def products(model: Model) -> Products:
    constants = frozenset(constants_of(model))
    by_constant: dict[str, int] = {}
    of_signals = squares = 0
    inner = dict.fromkeys(node for top in model.expressions for node in top.walk() if node.op == "mul")
    for node in inner:
        fixed = [side for side in node.args if side.names <= constants]
        if not fixed:
            of_signals, squares = of_signals + 1, squares + (node.args[0] == node.args[1])
        else:
            key = fixed[0].args[0] if fixed[0].op == "name" else "other"
            by_constant[key] = by_constant.get(key, 0) + 1
    return Products(by_constant, of_signals, squares)


def only_moves_exponents(model: Model) -> bool:
    """Whether every product is one with a constant that training makes a power of two."""
    found = products(model)
    return not found.of_signals and set(found.by_constant) <= set(POWERS_OF_TWO)


# -- bounds ----------------------------------------------------------------------------------------


class Ranges(Arithmetic[tuple[int, int]]):
    """Intervals of whole numbers, both ends in it."""

    def __init__(self, q: Format):
        self.q, self._whole = q, Whole(q)

    def number(self, value: int) -> tuple[int, int]:
        return value, value

    def real(self, numerator: int, denominator: int) -> tuple[int, int]:
        return (self._whole.real(numerator, denominator),) * 2

    def add(self, a: tuple[int, int], b: tuple[int, int]) -> tuple[int, int]:
        return a[0] + b[0], a[1] + b[1]

    def sub(self, a: tuple[int, int], b: tuple[int, int]) -> tuple[int, int]:
        return a[0] - b[1], a[1] - b[0]

    def times(self, factor: int, a: tuple[int, int]) -> tuple[int, int]:
        ends = [factor * end for end in a]
        return min(ends), max(ends)

    def mul(self, a: tuple[int, int], b: tuple[int, int]) -> tuple[int, int]:
        ends = [self._whole.mul(x, y) for x, y in product(a, b)]
        return min(ends), max(ends)

    def choose(self, condition: tuple[int, int], a: tuple[int, int], b: tuple[int, int]) -> tuple[int, int]:
        return min(a[0], b[0]), max(a[1], b[1])

    def saturated(self, a: tuple[int, int]) -> tuple[int, int]:
        return self._whole.saturated(a[0]), self._whole.saturated(a[1])


class _Unrounded(Arithmetic[Fraction]):
    """Exact fractions, nothing rounded: what an expression would be without its floors."""

    def __init__(self, q: Format):
        self.q = q

    def number(self, value: int) -> Fraction:
        return Fraction(value)

    def real(self, numerator: int, denominator: int) -> Fraction:
        return Fraction(Whole(self.q).real(numerator, denominator))

    def add(self, a: Fraction, b: Fraction) -> Fraction:
        return a + b

    def sub(self, a: Fraction, b: Fraction) -> Fraction:
        return a - b

    def times(self, factor: int, a: Fraction) -> Fraction:
        return factor * a

    def mul(self, a: Fraction, b: Fraction) -> Fraction:
        return a * b / self.q.one

    def unit(self, a: Fraction) -> Fraction:
        return a / self.q.one

    def plain(self, a: Fraction, b: Fraction) -> Fraction:
        return a * b


def bounds(node: Node, ranges: Mapping[str, tuple[int, int]], q: Format) -> tuple[int, int]:
    """An interval that holds every value of an expression whose names lie in `ranges`.

    An interval of sums does not see that v falls where v_rest - v rises. Where the expression is a sum of
    products with constants, without `on_spike`, its largest and smallest values are also those at the ends of
    the ranges, but for what its floors take off; the narrower of both is the answer.
    """
    low, high = read(node, {**ranges, "fires": (0, 1)}, Ranges(q))
    signals = [word for word in sorted(node.names) if ranges[word][0] < ranges[word][1]]
    slopes = {word: slope(node, word) or _ZERO for word in signals}
    straight = not any(found.names & set(signals) for found in slopes.values())
    odd = any(inner.op in ("on_spike", "clipped_slope") for inner in node.walk())
    if not straight or odd:
        return low, high
    unrounded = _Unrounded(q)
    fixed = {word: Fraction(low) for word, (low, high) in ranges.items() if low == high}
    corners: list[dict[str, Fraction]] = [{}, {}]
    for word in signals:
        rises = read(slopes[word], fixed, unrounded) >= 0
        for corner, end in zip(corners, ranges[word] if rises else ranges[word][::-1], strict=True):
            corner[word] = Fraction(end)
    least, most = (read(node, fixed | corner, unrounded) for corner in corners)
    down, up = _rounding(node, fixed, q)
    return max(low, int(-(-(least - down) // 1))), min(high, int((most + up) // 1))


def _rounding(node: Node, fixed: Mapping[str, Fraction], q: Format) -> tuple[Fraction, Fraction]:
    """How far at most the floors within an expression move it down and up. fixed: values of the constants."""
    match node.op, node.args:
        case (("add" | "sub"), (a, b)):
            (a_down, a_up), (b_down, b_up) = _rounding(a, fixed, q), _rounding(b, fixed, q)
            return (a_down + b_down, a_up + b_up) if node.op == "add" else (a_down + b_up, a_up + b_down)
        case "times", (factor, a):
            down, up = (abs(factor) * end for end in _rounding(a, fixed, q))
            return (down, up) if factor >= 0 else (up, down)
        case "mul", (a, b):
            unrounded, step, down, up = _Unrounded(q), 1, Fraction(0), Fraction(0)
            for inner, other in ((a, b), (b, a)):
                if other.names <= fixed.keys() and not any(_rounding(other, fixed, q)):
                    step = max(step, gcd(int(read(other, fixed, unrounded)), q.one))  # of the product
                moved = _rounding(inner, fixed, q)
                if any(moved):  # then the other side is a constant
                    k = read(other, fixed, unrounded) / q.one
                    moved = moved if k >= 0 else moved[::-1]
                    down, up = down + abs(k) * moved[0], up + abs(k) * moved[1]
            return down + 1 - Fraction(step, q.one), up
    return Fraction(0), Fraction(0)


def signed_bits(low: int, high: int) -> int:
    """Bits of a two's complement number that holds low..high, at least 1."""
    return max(int(high).bit_length(), int(-low - 1).bit_length() if low < 0 else 0) + 1

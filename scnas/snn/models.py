"""The description of the neurons: every model once, as expressions over named integers. SEMANTICS section 3.

What is the same for all models is not said here but by the readers (`scnas.snn.derive`,
`scnas.hardware.circuit.datapath`), each of which has it once:

    p     = sat(charge)                       the membrane after charging, W bits
    fires = no refractory step is left and p >= limit
    v'    = v_rest while refractory, else v_reset if it fires, else p
    word' = sat(update)                       of every further word of state; reads the old v and `fires`

Expressions are written with + and -, `mul` (a product in Q(F), rounded down), `times` (by a small whole
number), `real` (a number in Q(F)), `on_spike` and `clipped_slope`. The names in them: the membrane `v` and
the model's further words, the saturated current `I`, `threshold`, `noise`, and constants.

A model of one's own is a `Model` handed to `register`, in a module outside the package.

Letters: F fraction bits, so that an integer n stands for n / 2^F; W bits of a word.
"""

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from scnas import contract
from scnas.contract import Refused

# Constants of a layer in network.json, all of them in every layer; 0 where a model does not use one.
CONSTANTS = (
    "leak_k", "gain_k", "noise_k", "decay_k", "bump_k", "a_k", "b_k", "d_k", "v_rest", "v_reset",
    "refractory",
)  # fmt: skip
COMMON = ("v_rest", "v_reset", "refractory")  # used by every model
TRAINABLE = ("gain_k", "leak_k")  # where a model uses them; so is the threshold, always
# Constants that are powers of two where training keeps to such, so that a product moves an exponent only.
POWERS_OF_TWO = ("gain_k", "leak_k", "decay_k", "noise_k")
# What readers call their own; no word of state may have such a name.
TAKEN = ("I", "threshold", "noise", "fires", "charge", "limit", "p", "raw", "margin", "rests", "waiting")


# -- expressions -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Node:
    """An expression: an operator and what it is applied to. Equal expressions are equal nodes."""

    op: str
    args: tuple[Any, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "_hash", hash((self.op, self.args)))  # once, not for all within it each time

    def __hash__(self) -> int:
        return int(getattr(self, "_hash"))  # noqa: B009

    def __add__(self, other: "Node | int") -> "Node":
        return Node("add", (self, lifted(other)))

    def __radd__(self, other: int) -> "Node":
        return Node("add", (lifted(other), self))

    def __sub__(self, other: "Node | int") -> "Node":
        return Node("sub", (self, lifted(other)))

    def __rsub__(self, other: int) -> "Node":
        return Node("sub", (lifted(other), self))

    def __str__(self) -> str:
        match self.op, self.args:
            case (("name" | "number"), (value,)):
                return str(value)
            case "add", (a, b):
                return f"{a} + {b}"
            case "sub", (a, b):
                return f"{a} - ({b})" if b.op in ("add", "sub") else f"{a} - {b}"
        return f"{self.op}({', '.join(map(str, self.args))})"

    @property
    def nodes(self) -> "tuple[Node, ...]":
        """The expressions that the operator is applied to."""
        return tuple(arg for arg in self.args if isinstance(arg, Node))

    def walk(self) -> "Iterator[Node]":
        """This expression and every one within it, those within first, equal ones once."""
        seen: set[Node] = set()

        def visit(node: Node) -> Iterator[Node]:
            if node not in seen:
                seen.add(node)
                for inner in node.nodes:
                    yield from visit(inner)
                yield node

        return visit(self)

    @property
    def names(self) -> frozenset[str]:
        """The names that the value depends on."""
        return frozenset(node.args[0] for node in self.walk() if node.op == "name")


def lifted(value: Node | int) -> Node:
    """A whole number as an expression: itself, not in Q(F)."""
    if isinstance(value, Node):
        return value
    if isinstance(value, bool) or not isinstance(value, int):
        raise Refused(f"a number in an expression must be whole, see `real`, got {value!r}")
    return Node("number", (value,))


def name(word: str) -> Node:
    """The value of a name."""
    return Node("name", (word,))


def real(numerator: int, denominator: int) -> Node:
    """A number in Q(F), to the nearest, halves up: numerator / denominator * 2^F."""
    return Node("real", (numerator, denominator))


def mul(a: Node | int, b: Node | int) -> Node:
    """The product of two numbers in Q(F): a * b / 2^F, rounded down."""
    return Node("mul", (lifted(a), lifted(b)))


def times(factor: int, a: Node) -> Node:
    """`a` times a small whole number, exact."""
    return Node("times", (factor, a))


def on_spike(a: Node | int, b: Node | int = 0) -> Node:
    """`a` in a step in which the neuron fires, else `b`. Whether it fires is not differentiated through."""
    return Node("on_spike", (lifted(a), lifted(b)))


def clipped_slope(a: Node, by: Node) -> Node:
    """`a`, whose slope along the name `by` is clipped to -1..1 in the backward pass.

    A quadratic makes gradients through time explode within a few steps; the clip keeps them.
    """
    return Node("clipped_slope", (a, by))


# -- models ----------------------------------------------------------------------------------------


class Format(NamedTuple):
    """Numbers of a network: W and F."""

    word: int
    fraction: int

    @property
    def one(self) -> int:
        return 1 << self.fraction

    @property
    def half(self) -> int:
        """2^(W - 1), the first number above a word."""
        return 1 << self.word - 1

    def nearest(self, value: float) -> int:
        """`value` in Q(F), clamped to a word."""
        return max(-self.half, min(self.half - 1, round(value * self.one)))


@dataclass(frozen=True)
class Word:
    """A word of state besides the membrane: its value before step 0, and after a step before saturation."""

    name: str
    start: Node
    update: Node


@dataclass(frozen=True)
class Start:
    """What training begins with, integers in Q(F).

    threshold: of every neuron. scale: the distance to it that counts as large for the surrogate gradient.
    target: what the first gains drive an average neuron to in a step. constants: those that training leaves
    alone; 0 where not named.
    """

    threshold: int
    scale: int
    target: float
    constants: Mapping[str, int]


@dataclass(frozen=True)
class Cell:
    """Hand-written Verilog of a model. parallel: its neuron in hdl/. reference: what that is proved against,
    in hdl/equiv/. update: MODEL of sc_neuron_update, the datapath of a folded layer; extra: the word that
    this keeps as `extra`. leaks: whether they take leak_k, 0 for a model without a leak."""

    parallel: str
    reference: str
    update: int
    extra: str | None = None
    leaks: bool = True


@dataclass(frozen=True)
class Model:
    """A neuron: see the module.

    start: function from a Format to the Start of training. first: the membrane before step 0. words: of
    state besides the membrane. constants: those of its own, which stand in network.json behind CONSTANTS in
    its layers alone. cell: None where the Verilog is derived, too.
    """

    name: str
    charge: Node
    start: Callable[[Format], Start]
    limit: Node = Node("name", ("threshold",))
    first: Node = Node("name", ("v_rest",))
    words: tuple[Word, ...] = ()
    constants: tuple[str, ...] = ()
    cell: Cell | None = None

    def __post_init__(self) -> None:
        for said in (self.name, *(word.name for word in self.words)):
            if not re.fullmatch(r"[a-z][a-z0-9_]*", said):
                raise Refused(
                    f"a neuron and its words must be named in small letters, digits and _, got {said!r}"
                )
        known = set(CONSTANTS) - {"refractory", "noise_k"}
        taken = [w for w in self.constants if w in CONSTANTS or not re.fullmatch(r"[a-z][a-z0-9_]*_k", w)]
        if taken:
            raise Refused(f"{self.name}: constants of its own must be new and end in _k, got {taken[0]!r}")
        state = ["v", *(word.name for word in self.words)]
        clash = set(state) & (known | set(self.constants) | set(TAKEN))
        if clash or len(set(state)) < len(state):
            raise Refused(f"{self.name}: words of state must have names of their own, got {state}")
        constants = known | set(self.constants)
        readers = {
            "charge": (self.charge, constants | set(state) | {"I", "noise"}, False),
            "limit": (self.limit, constants | set(state) | {"threshold"}, False),
            "first": (self.first, constants, False),
        }
        for word in self.words:
            readers[f"{word.name}, start"] = (word.start, constants, False)
            readers[f"{word.name}, update"] = (word.update, constants | set(state) | {"I"}, True)
        for what, (node, allowed, may_fire) in readers.items():
            unknown = sorted(node.names - allowed)
            if unknown:
                raise Refused(
                    f"{self.name}, {what}: names must be among {', '.join(sorted(allowed))}, got {unknown[0]}"
                )
            for inner in node.walk():
                if inner.op == "on_spike" and not may_fire:
                    raise Refused(f"{self.name}, {what}: only an update of a word may ask on_spike")
                if inner.op == "clipped_slope" and inner.args[1].op != "name":
                    raise Refused(f"{self.name}, {what}: a slope is clipped along a name")
        if "I" not in self.charge.names:
            raise Refused(f"{self.name}, charge: must depend on the current, I")
        if "threshold" not in self.limit.names:
            raise Refused(f"{self.name}, limit: must depend on threshold")
        unused = sorted(set(self.constants) - self.names)
        if unused:
            raise Refused(f"{self.name}: constants of its own must be used, got {unused[0]}")

    def __hash__(self) -> int:
        return hash(self.name)

    @property
    def expressions(self) -> tuple[Node, ...]:
        """Of a step: charge, limit, and the update of every further word."""
        return (self.charge, self.limit, *(word.update for word in self.words))

    @property
    def names(self) -> frozenset[str]:
        """All names that any expression reads."""
        starts = (self.first, *(word.start for word in self.words))
        return frozenset().union(*(node.names for node in (*self.expressions, *starts)))


v, current, noise, threshold = name("v"), name("I"), name("noise"), name("threshold")
leak_k, gain_k, v_rest, v_reset = name("leak_k"), name("gain_k"), name("v_rest"), name("v_reset")
a, decay_k, bump_k = name("a"), name("decay_k"), name("bump_k")  # adaptation of the threshold
u, a_k, b_k, d_k = name("u"), name("a_k"), name("b_k"), name("d_k")  # recovery of Izhikevich's neuron

drive = mul(current, gain_k)
leaking = v + drive + mul(v_rest - v, leak_k)


def _plain(q: Format, **constants: int) -> Start:
    """Around a threshold of one, or as much of it as the word holds."""
    one = min(q.one, q.half // 4)
    return Start(threshold=one, scale=one, target=one, constants=constants)


def _noisy(q: Format) -> Start:
    # The noise byte has a standard deviation of 74; a tenth of the threshold is wanted.
    wanted = max(1.0, 0.1 * _plain(q).threshold * q.one / 74)
    return _plain(q, noise_k=min(2 ** round(math.log2(wanted)), q.half // 2))


def _adapting(q: Format) -> Start:
    bump = max(1, _plain(q).threshold // 4)
    return _plain(q, decay_k=max(1, min(q.one // 8, q.half // 2)), bump_k=bump)


def _regular_spiking(q: Format) -> Start:
    """Izhikevich 2003, "Simple model of spiking neurons", in units of 100 mV."""
    numbers = {"a_k": 0.02, "b_k": 0.2, "d_k": 0.08, "v_rest": -0.65, "v_reset": -0.65}
    return Start(
        threshold=max(1, q.nearest(0.3)),
        scale=max(1, q.one // 2),
        target=0.5 * q.one,
        constants={word: q.nearest(value) for word, value in numbers.items()},
    )


_LIF = Cell("sc_lif_neuron", "sc_lif_reference", update=0)
_BUILT_IN = (
    Model("if", charge=v + drive, start=_plain, cell=_LIF),
    Model("lif", charge=leaking, start=_plain, cell=_LIF),
    Model("stochastic_lif", charge=leaking + noise, start=_noisy, cell=_LIF),
    Model(
        "homeostatic_lif",
        charge=leaking,
        start=_adapting,
        limit=threshold + a,
        words=(Word("a", start=lifted(0), update=a - mul(a, decay_k) + on_spike(bump_k)),),
        cell=Cell("sc_homeostatic_lif_neuron", "sc_homeostatic_lif_reference", update=1, extra="a"),
    ),
    Model(
        "izhikevich",
        charge=clipped_slope(times(4, mul(v, v)) + times(6, v), v) + real(7, 5) - u + drive,
        start=_regular_spiking,
        first=v_reset,
        words=(Word("u", start=mul(b_k, v_reset), update=u + mul(mul(v, b_k) - u, a_k) + on_spike(d_k)),),
        cell=Cell("sc_izhikevich_neuron", "sc_izhikevich_reference", update=2, extra="u", leaks=False),
    ),
)
MODELS: dict[str, Model] = {model.name: model for model in _BUILT_IN}


def register(model: Model) -> Model:
    """Add a model to MODELS, which every reader looks into, and its name to contract.NEURONS; the same model.

    ValueError if another one has its name.
    """
    if MODELS.setdefault(model.name, model) is not model:
        raise Refused(f"neuron {model.name!r} is registered already")
    contract.NEURONS.add(model.name)
    return model


def model_of(neuron: str) -> Model:
    """The model of that name; ValueError listing those there are if there is none."""
    return MODELS[contract.one_of("neuron", neuron, contract.NEURONS)]

"""A Verilog module as a transition system that can be run on symbols: Yosys BTOR2 in, bitwuzla terms out.

A value is an int where it is known, else a `Word`: a tuple of bits, lowest first, each 0, 1 or (term, index)
for bit `index` of a bitwuzla term. So a wire that only moves bits about costs no term, what is constant
folds, and the same bits are equal as tuples. Arithmetic on words that are not known makes terms.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import bitwuzla
from bitwuzla import Kind

from scnas.equiv import tools

Bit = int | tuple[int, int]  # 0, 1 or (number of a term in Terms, bit of it)
Word = tuple[Bit, ...]
Value = int | Word | dict  # dict: a memory, address -> value; key None is the content of the others


_CALCULATES = {
    Kind.BV_ADD, Kind.BV_SUB, Kind.BV_NEG, Kind.BV_MUL, Kind.BV_UDIV, Kind.BV_SDIV, Kind.BV_UREM, Kind.BV_SREM
}  # fmt: skip


class NotUnderstood(Exception):
    """The design holds something that a proof here does not know: nothing is said about it."""


class YosysFailed(Exception):
    """Yosys could not read the design; the text is its last lines."""


class Terms:
    """Makes and remembers terms: same operation on the same operands, same term."""

    def __init__(self):
        self.manager = bitwuzla.TermManager()
        self.terms: list[bitwuzla.Term] = []
        self.widths: list[int] = []
        self._known: dict = {}
        self._names: dict[str, int] = {}
        self._supports: dict[int, frozenset[str]] = {}

    def variable(self, name: str, width: int) -> Word:
        """The free symbol `name`; the same one every time it is asked for."""
        if name not in self._names:
            sort = self.manager.mk_bv_sort(width)
            self._names[name] = self._add(self.manager.mk_const(sort, name), width)
        number = self._names[name]
        return tuple((number, i) for i in range(width))

    def fresh(self) -> str:
        """A name that no variable has yet."""
        return f"any.{len(self._names)}.{len(self.terms)}"

    def _add(self, term: bitwuzla.Term, width: int) -> int:
        self.terms.append(term)
        self.widths.append(width)
        return len(self.terms) - 1

    def operation(self, kind: Kind, operands: Sequence[bitwuzla.Term], width: int, indices=()) -> Word:
        """The value of an operator; `width` bits."""
        key = (kind, tuple(t.id() for t in operands), tuple(indices))
        if key not in self._known:
            self._known[key] = self._add(self.manager.mk_term(kind, list(operands), list(indices)), width)
        number = self._known[key]
        return tuple((number, i) for i in range(width))

    def symbols(self, word: int | Word) -> frozenset[str]:
        """The names of the variables that `word` is made of."""
        if word.__class__ is int:
            return frozenset()
        found = [self._symbols(self.terms[bit[0]]) for bit in set(word) if bit.__class__ is tuple]
        return frozenset().union(*found)

    def _symbols(self, term: bitwuzla.Term) -> frozenset[str]:
        stack = [term]
        while stack:  # not recursive: a sum of a thousand clocks is a thousand terms deep
            top = stack[-1]
            if top.id() in self._supports:
                stack.pop()
                continue
            children = list(top.children())
            if open_ := [c for c in children if c.id() not in self._supports]:
                stack += open_
                continue
            own = (
                [frozenset([top.symbol()])] if top.is_const() else [self._supports[c.id()] for c in children]
            )
            self._supports[top.id()] = frozenset().union(*own)
            stack.pop()
        return self._supports[term.id()]

    def plain(self, word: int | Word) -> bool:
        """Is `word` made without arithmetic: a wire, a register, a choice between such?"""
        stack = []
        if word.__class__ is tuple:
            stack = [self.terms[bit[0]] for bit in word if bit.__class__ is tuple]
        seen = set()
        while stack:
            term = stack.pop()
            if term.id() not in seen:
                seen.add(term.id())
                if term.kind() in _CALCULATES:
                    return False
                stack += term.children()
        return True

    def term(self, value: int | Word, width: int) -> bitwuzla.Term:
        """`value` as one bit-vector term."""
        if isinstance(value, int):
            return self.manager.mk_bv_value(self.manager.mk_bv_sort(width), value % 2**width)
        pieces, i = [], 0
        while i < width:
            bit, start = value[i], i
            i += 1
            if isinstance(bit, int):
                number = bit
                while i < width and isinstance(value[i], int):
                    number |= value[i] << (i - start)
                    i += 1
                pieces.append(self.manager.mk_bv_value(self.manager.mk_bv_sort(i - start), number))
                continue
            source, low = bit
            while i < width and value[i] == (source, low + i - start):
                i += 1
            term = self.terms[source]
            if i - start < self.widths[source]:
                term = self.manager.mk_term(Kind.BV_EXTRACT, [term], [low + i - start - 1, low])
            pieces.append(term)
        return pieces[0] if len(pieces) == 1 else self.manager.mk_term(Kind.BV_CONCAT, pieces[::-1])

    def truth(self, value: int | Word) -> bitwuzla.Term:
        """A one-bit value as a Boolean term."""
        one = self.manager.mk_bv_value(self.manager.mk_bv_sort(1), 1)
        return self.manager.mk_term(Kind.EQUAL, [self.term(value, 1), one])


def known(value: Word) -> int | Word:
    """`value` as an int if all its bits are known."""
    number = 0
    for i, bit in enumerate(value):
        if bit.__class__ is not int:
            return value
        number |= bit << i
    return number


def bits(value: int | Word, width: int) -> Word:
    """`value` as a tuple of bits."""
    if value.__class__ is int:
        return tuple(value >> i & 1 for i in range(width))
    return value


def _signed(value: int, width: int) -> int:
    return value - (1 << width) if value >> (width - 1) & 1 else value


def _towards_zero(a: int, b: int) -> int:
    """a / b, rounded towards zero; by zero as SMT-LIB has it."""
    if b == 0:
        return 1 if a < 0 else -1
    return abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)


def _remainder(a: int, b: int) -> int:
    return a - b * _towards_zero(a, b) if b else a


# op -> (bitwuzla's operator, the same on Python ints given a, b and the width of a)
_ARITHMETIC: dict[str, tuple[Kind, Callable[[int, int, int], int]]] = {
    "add": (Kind.BV_ADD, lambda a, b, w: a + b),
    "sub": (Kind.BV_SUB, lambda a, b, w: a - b),
    "mul": (Kind.BV_MUL, lambda a, b, w: a * b),
    "and": (Kind.BV_AND, lambda a, b, w: a & b),
    "or": (Kind.BV_OR, lambda a, b, w: a | b),
    "xor": (Kind.BV_XOR, lambda a, b, w: a ^ b),
    "nand": (Kind.BV_NAND, lambda a, b, w: ~(a & b)),
    "nor": (Kind.BV_NOR, lambda a, b, w: ~(a | b)),
    "xnor": (Kind.BV_XNOR, lambda a, b, w: ~(a ^ b)),
    "udiv": (Kind.BV_UDIV, lambda a, b, w: a // b if b else -1),
    "urem": (Kind.BV_UREM, lambda a, b, w: a % b if b else a),
    "sll": (Kind.BV_SHL, lambda a, b, w: a << b if b < w else 0),
    "srl": (Kind.BV_SHR, lambda a, b, w: a >> b if b < w else 0),
    "sra": (Kind.BV_ASHR, lambda a, b, w: _signed(a, w) >> min(b, w)),
    "sdiv": (Kind.BV_SDIV, lambda a, b, w: _towards_zero(_signed(a, w), _signed(b, w))),
    "srem": (Kind.BV_SREM, lambda a, b, w: _remainder(_signed(a, w), _signed(b, w))),
}
_COMPARISON: dict[str, tuple[Kind, Callable[[int, int, int], bool]]] = {
    "eq": (Kind.EQUAL, lambda a, b, w: a == b),
    "neq": (Kind.DISTINCT, lambda a, b, w: a != b),
    "ult": (Kind.BV_ULT, lambda a, b, w: a < b),
    "ulte": (Kind.BV_ULE, lambda a, b, w: a <= b),
    "ugt": (Kind.BV_UGT, lambda a, b, w: a > b),
    "ugte": (Kind.BV_UGE, lambda a, b, w: a >= b),
    "slt": (Kind.BV_SLT, lambda a, b, w: _signed(a, w) < _signed(b, w)),
    "slte": (Kind.BV_SLE, lambda a, b, w: _signed(a, w) <= _signed(b, w)),
    "sgt": (Kind.BV_SGT, lambda a, b, w: _signed(a, w) > _signed(b, w)),
    "sgte": (Kind.BV_SGE, lambda a, b, w: _signed(a, w) >= _signed(b, w)),
}
_NUMBERS = {op: function for op, (_, function) in (_ARITHMETIC | _COMPARISON).items()}
_BITWISE = {"and", "or", "xor"}


@dataclass
class Node:
    """One line of BTOR2: operator, width of the result (a pair for a memory), arguments, name."""

    op: str
    width: int | tuple[int, int]
    args: tuple[int, ...]
    name: str = ""


@dataclass
class Machine:
    """nodes: number -> Node, in the order of evaluation. inputs, states: number -> name. initial, following:
    state -> node of its first and next value. outputs, asserts, assumptions: name -> node (assert: node of
    its violation)."""

    nodes: dict[int, Node] = field(default_factory=dict)
    inputs: dict[int, str] = field(default_factory=dict)
    states: dict[int, str] = field(default_factory=dict)
    initial: dict[int, int] = field(default_factory=dict)
    following: dict[int, int] = field(default_factory=dict)
    outputs: dict[str, int] = field(default_factory=dict)
    asserts: dict[str, int] = field(default_factory=dict)
    assumptions: list[int] = field(default_factory=list)
    _plan: dict = field(default_factory=dict)  # number -> see _planned

    def first_state(self, terms: Terms, prefix: str = "init") -> dict[int, Value]:
        """The state before clock 0: initial values, and a free symbol for everything without one."""
        state: dict[int, Value] = {}
        for number, name in self.states.items():
            node = self.nodes[number]
            if isinstance(node.width, tuple):
                state[number] = {None: (f"{prefix}.{name}.{number}", node.width[1])}
            else:
                state[number] = terms.variable(f"{prefix}.{name}.{number}", node.width)
        for number, node in self.initial.items():
            memories = {s: v for s, v in state.items() if isinstance(v, dict)}
            state[number] = self.run([node], memories, terms)[node]
        return state

    def free_state(self, terms: Terms, prefix: str) -> dict[int, Value]:
        """Any state at all."""
        return {
            n: terms.variable(f"{prefix}.{name}.{n}", self.nodes[n].width) for n, name in self.states.items()
        }

    def run(
        self,
        wanted: Sequence[int],
        leaves: Mapping[int, Value],
        terms: Terms,
        replace: Mapping[Bit, Bit] | None = None,
    ) -> dict[int, Value]:
        """The values of nodes, given those of all inputs and states they depend on.

        replace: bits that stand for others from where they are made: a cut through the logic.
        """
        values: dict[int, Value] = dict(leaves)
        for number in self.order(wanted):
            if number not in values:
                value = self.value(number, values, terms)
                if replace and value.__class__ is tuple:
                    value = known(tuple(replace.get(bit, bit) for bit in value))
                values[number] = value
        return values

    def extend(self, values: dict[int, Value], wanted: Sequence[int], terms: Terms) -> None:
        """Add the values of the `wanted` nodes, and of those they need, to `values`.

        Of a choice whose condition is known only the branch that is taken.
        """
        plan = self._plan
        if len(plan) != len(self.nodes):
            plan.update((number, self._planned(number)) for number in self.nodes)
        stack = [number for number in wanted if number not in values]
        while stack:
            number = stack[-1]
            if number in values:
                stack.pop()
                continue
            op, arguments, needed = plan[number]
            if op == "ite":
                if needed[0] not in values:
                    stack.append(needed[0])
                    continue
                condition = values[needed[0]]
                if condition.__class__ is int:
                    taken = 1 if condition ^ (arguments[0] < 0) else 2
                    if needed[taken] not in values:
                        stack.append(needed[taken])
                    else:
                        values[number] = self._argument(arguments[taken], values, terms)
                        stack.pop()
                    continue
            waits = len(stack)
            for argument in needed:
                if argument not in values:
                    stack.append(argument)
            if len(stack) == waits:
                values[number] = self.value(number, values, terms)
                stack.pop()

    def _planned(self, number: int) -> tuple[str, tuple[int, ...], tuple[int, ...]]:
        """Operator, arguments and their nodes."""
        arguments = self.arguments(number)
        return self.nodes[number].op, arguments, tuple(abs(a) for a in arguments)

    def invert(self, number: int, values: Mapping[int, Value], terms: Terms) -> Value:
        """The value of a reference to a node; a negative one means the complement."""
        return self._argument(number, values, terms)

    def order(self, wanted: Sequence[int]) -> list[int]:
        """The nodes that `wanted` depend on, each after its arguments."""
        needed, stack = set(), list(wanted)
        while stack:
            number = stack.pop()
            if number not in needed:
                needed.add(number)
                stack += [abs(a) for a in self.arguments(number)]
        return sorted(needed)

    def arguments(self, number: int) -> tuple[int, ...]:
        node = self.nodes[number]
        match node.op:
            case "input" | "state" | "value":
                return ()
            case "slice":
                return node.args[:1]
            case "uext" | "sext":
                return node.args[:1]
        return node.args

    def value(self, number: int, values: Mapping[int, Value], terms: Terms) -> Value:
        """The value of one node from those of its arguments."""
        node = self.nodes[number]
        width, op = node.width, node.op
        if op == "value":
            return node.args[0]
        if op in ("input", "state"):
            raise NotUnderstood(f"{op} {node.name or number} has no value")
        if op in _NUMBERS:  # control is numbers alone, and most of what is run
            a, b = values[abs(node.args[0])], values[abs(node.args[1])]
            if a.__class__ is int and b.__class__ is int:
                w = self.nodes[abs(node.args[0])].width
                a = a if node.args[0] >= 0 else a ^ ((1 << w) - 1)
                b = b if node.args[1] >= 0 else b ^ ((1 << self.nodes[-node.args[1]].width) - 1)
                return int(_NUMBERS[op](a, b, w)) & ((1 << width) - 1)
        args = [self._argument(a, values, terms) for a in self.arguments(number)]
        if op in ("uext", "slice", "sext"):
            a, source = args[0], self.nodes[abs(node.args[0])].width
            if op == "slice":
                high, low = node.args[1:]
                if a.__class__ is int:
                    return a >> low & ((1 << (high - low + 1)) - 1)
                return known(a[low : high + 1])
            if a.__class__ is int:
                return a if op == "uext" else _signed(a, source) % (1 << width)
            return a + ((0,) if op == "uext" else (a[-1],)) * (width - source)
        if op == "ite":
            condition, then, other = args
            if condition.__class__ is int:
                return then if condition else other
            if then == other:
                return then
            if isinstance(width, tuple):
                return self._anything(width, terms)
            return self._choose(condition, then, other, width, terms)
        if op == "read":
            return self._read(args[0], args[1], width, terms)
        if op == "write":
            memory, address, data = args
            if address.__class__ is not int:  # somewhere: from now on anything may be anywhere
                return self._anything(width, terms)
            return {**memory, address: data}
        if op == "concat":
            low_width = self.nodes[abs(node.args[1])].width
            if args[0].__class__ is int and args[1].__class__ is int:
                return args[0] << low_width | args[1]
            return bits(args[1], low_width) + bits(args[0], width - low_width)
        w = self.nodes[abs(node.args[0])].width
        if op in ("not", "neg", "inc", "dec", "redor", "redand", "redxor"):
            return self._unary(op, args[0], w, terms)
        return self._binary(op, args[0], args[1], w, terms)

    def _argument(self, number: int, values: Mapping[int, Value], terms: Terms) -> Value:
        if number >= 0:
            return values[number]
        return self._unary("not", values[-number], self.nodes[-number].width, terms)

    def _choose(self, condition: Word, then, other, width: int, terms: Terms) -> int | Word:
        """Where both branches have the same bits, those bits."""
        a, b = bits(then, width), bits(other, width)
        if width == 1 and a == (1,) and b == (0,):
            return condition
        term = terms.operation(
            Kind.ITE, [terms.truth(condition), terms.term(then, width), terms.term(other, width)], width
        )
        return tuple(x if x == y else z for x, y, z in zip(a, b, term, strict=True))

    def _anything(self, width: tuple[int, int], terms: Terms) -> dict:
        """A memory of unknown content."""
        return {None: (terms.fresh(), width[1])}

    def _read(self, memory: dict, address, width: int, terms: Terms) -> int | Word:
        if address.__class__ is not int:
            return terms.variable(terms.fresh(), width)  # any content: more than there is
        if address in memory:
            return memory[address]
        default = memory.get(None, 0)
        if isinstance(default, tuple):
            return terms.variable(f"{default[0]}[{address}]", width)
        return default

    def _unary(self, op: str, a, w: int, terms: Terms) -> int | Word:
        if a.__class__ is int:
            mask = (1 << w) - 1
            match op:
                case "not":
                    return ~a & mask
                case "neg":
                    return -a & mask
                case "inc":
                    return a + 1 & mask
                case "dec":
                    return a - 1 & mask
                case "redor":
                    return int(a != 0)
                case "redand":
                    return int(a == mask)
            return a.bit_count() & 1
        if op in ("redor", "redand"):
            absorbing = int(op == "redor")
            if absorbing in a:
                return absorbing
            rest = tuple(b for b in a if b.__class__ is not int)
            if len(rest) == 1:
                return rest
            kind = Kind.BV_REDOR if op == "redor" else Kind.BV_REDAND
            return terms.operation(kind, [terms.term(rest, len(rest))], 1)
        kind = {
            "not": Kind.BV_NOT,
            "neg": Kind.BV_NEG,
            "inc": Kind.BV_INC,
            "dec": Kind.BV_DEC,
            "redxor": Kind.BV_REDXOR,
        }[op]
        result = terms.operation(kind, [terms.term(a, w)], 1 if op == "redxor" else w)
        if op == "not" and any(b.__class__ is int for b in a):
            return tuple(1 - b if b.__class__ is int else r for b, r in zip(a, result, strict=True))
        return result

    def _binary(self, op: str, a, b, w: int, terms: Terms) -> int | Word:
        both = a.__class__ is int and b.__class__ is int
        if op in _COMPARISON:
            kind, function = _COMPARISON[op]
            if both:
                return int(function(a, b, w))
            if a == b:
                return int(function(0, 0, w))
            if op in ("eq", "neq") and any(
                x.__class__ is int and y.__class__ is int and x != y
                for x, y in zip(bits(a, w), bits(b, w), strict=True)
            ):
                return int(op == "neq")
            if w == 1 and op in ("eq", "neq") and (a.__class__ is int or b.__class__ is int):
                number, word = (a, b) if a.__class__ is int else (b, a)
                return word if number == (op == "eq") else self._unary("not", word, 1, terms)
            condition = terms.manager.mk_term(kind, [terms.term(a, w), terms.term(b, w)])
            one, zero = terms.term(1, 1), terms.term(0, 1)
            return terms.operation(Kind.ITE, [condition, one, zero], 1)
        kind, function = _ARITHMETIC[op]
        if both:
            return function(a, b, w) % (1 << w)
        if op in _BITWISE and (a.__class__ is int or b.__class__ is int):
            number, word = (a, b) if a.__class__ is int else (b, a)
            mask = bits(number, w)
            if op == "and":
                return known(tuple(x if m else 0 for x, m in zip(word, mask, strict=True)))
            if op == "or":
                return known(tuple(1 if m else x for x, m in zip(word, mask, strict=True)))
        if op in ("and", "or") and a == b:
            return a
        if op in ("sll", "srl", "sra") and b.__class__ is int:
            word = bits(a, w)
            shift = min(b, w)
            if op == "sll":
                return known((0,) * shift + word[: w - shift])
            return known(word[shift:] + ((word[-1] if op == "sra" else 0),) * shift)
        if op in ("add", "sub") and b == 0:
            return a
        if op == "add" and a == 0:
            return b
        if op == "mul" and (a.__class__ is int or b.__class__ is int):
            number, word = (a, b) if a.__class__ is int else (b, a)
            if number == 0:
                return 0
            if number & (number - 1) == 0:  # a power of two: a shift
                shift = number.bit_length() - 1
                return known((0,) * shift + word[: w - shift])
        if (
            op == "sdiv"
            and a.__class__ is tuple
            and b.__class__ is int
            and 0 < b < 1 << (w - 1)
            and b & (b - 1) == 0
        ):
            # Towards zero by a power of two: add b - 1 to a negative number, then shift.
            bias = tuple(a[-1] if b - 1 >> i & 1 else 0 for i in range(w))
            biased = self._binary("add", a, known(bias), w, terms)
            return self._binary("sra", biased, b.bit_length() - 1, w, terms)
        return terms.operation(kind, [terms.term(a, w), terms.term(b, w)], w)


def read_btor(text: str) -> Machine:
    """The machine that a BTOR2 text describes; NotUnderstood for an operator that is not known here."""
    machine = Machine()
    sorts: dict[int, int | tuple[int, int]] = {}
    anonymous = 0
    for line in text.splitlines():
        words = line.partition(";")[0].split()
        if not words:
            continue
        number, op, *rest = words
        number = int(number)
        match op:
            case "sort":
                sorts[number] = (
                    int(rest[1]) if rest[0] == "bitvec" else (sorts[int(rest[1])], sorts[int(rest[2])])
                )
            case "input" | "state":
                name = rest[1] if len(rest) > 1 else f"_{op}_{number}"
                machine.nodes[number] = Node(op, sorts[int(rest[0])], (), name)
                (machine.inputs if op == "input" else machine.states)[number] = name
            case "const" | "constd" | "consth" | "zero" | "one" | "ones":
                width = sorts[int(rest[0])]
                base = {"const": 2, "constd": 10, "consth": 16}.get(op)
                value = int(rest[1], base) if base else {"zero": 0, "one": 1, "ones": -1}[op]
                machine.nodes[number] = Node("value", width, (value % (1 << width),))
            case "init" | "next":
                target = machine.initial if op == "init" else machine.following
                target[int(rest[1])] = int(rest[2])
            case "bad":
                name = rest[1] if len(rest) > 1 else f"assert_{number}"
                machine.asserts[name] = int(rest[0])
            case "constraint":
                machine.assumptions.append(int(rest[0]))
            case "output":
                name = rest[1] if len(rest) > 1 else f"output_{anonymous}"
                anonymous += 1
                machine.outputs[name] = int(rest[0])
            case "uext" | "sext" | "slice" | "not" | "neg" | "inc" | "dec" | "redor" | "redand" | "redxor":
                arguments = tuple(
                    int(w) for w in rest[1 : 4 if op == "slice" else 3 if op[1:] == "ext" else 2]
                )
                machine.nodes[number] = Node(op, sorts[int(rest[0])], arguments)
            case "ite" | "read" | "write" | "concat" | _ if (
                op in _ARITHMETIC or op in _COMPARISON or op in ("ite", "read", "write", "concat")
            ):
                arguments = tuple(int(w) for w in rest[1 : 4 if op in ("ite", "write") else 3])
                machine.nodes[number] = Node(op, sorts[int(rest[0])], arguments)
            case "implies" | "iff" | _:
                raise NotUnderstood(f"BTOR2 operator {op}")
    return machine


def elaborate(commands: Sequence[str], folder: Path, seconds: float) -> Machine:
    """Run Yosys commands that leave one flat module, and read what they leave.

    Raises YosysFailed when it fails, TimeoutError when it takes too long, NotUnderstood as `read_btor`.
    """
    commands = [*commands, "async2sync", "dffunmap", "setundef -undriven -anyseq", "opt_clean"]
    done = tools.yosys([*commands, "write_btor -x machine.btor"], folder, seconds)
    if done.code is None:
        raise TimeoutError("yosys did not finish in time")
    if done.code != 0:
        lines = [line for line in done.output.splitlines() if line.strip()]
        raise YosysFailed("yosys: " + " | ".join(lines[-4:]))
    return read_btor((folder / "machine.btor").read_text())

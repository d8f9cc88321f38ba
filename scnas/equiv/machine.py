"""A Verilog module as a transition system that can be run on symbols: Yosys BTOR2 in, values out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from scnas.equiv import tools
from scnas.equiv.operators import ARITHMETIC, COMPARISON, NUMBERS, UNARY, binary, choose, signed, unary
from scnas.equiv.terms import Bit, Number, Terms, Value, bits, known


class NotUnderstood(Exception):
    """The design holds something that a proof here does not know: nothing is said about it."""


class YosysFailed(Exception):
    """Yosys could not read the design; the text is its last lines."""


@dataclass
class Node:
    """One line of BTOR2: operator, width of the result (of a memory: of its words), arguments, name."""

    op: str
    width: int
    args: tuple[int, ...]
    name: str = ""
    is_memory: bool = False


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
            if node.is_memory:
                state[number] = {None: (f"{prefix}.{name}.{number}", node.width)}
            else:
                state[number] = terms.variable(f"{prefix}.{name}.{number}", node.width)
        for number, first in self.initial.items():
            memories = {s: v for s, v in state.items() if isinstance(v, dict)}
            state[number] = self.run([first], memories, terms)[first]
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
                        values[number] = self.invert(arguments[taken], values, terms)
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
        """The nodes that a node is made of, a negative one for the complement."""
        node = self.nodes[number]
        match node.op:
            case "input" | "state" | "value":
                return ()
            case "slice" | "uext" | "sext":
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
        if op in NUMBERS:  # control is numbers alone, and most of what is run
            a, b = values[abs(node.args[0])], values[abs(node.args[1])]
            if a.__class__ is int and b.__class__ is int:
                w = self.nodes[abs(node.args[0])].width
                a = a if node.args[0] >= 0 else a ^ ((1 << w) - 1)
                b = b if node.args[1] >= 0 else b ^ ((1 << self.nodes[-node.args[1]].width) - 1)
                return int(NUMBERS[op](a, b, w)) & ((1 << width) - 1)
        args = [self.invert(a, values, terms) for a in self.arguments(number)]
        if op in ("uext", "slice", "sext"):
            return self._cut_out(node, args[0])
        if op == "ite":
            condition, then, other = args
            if condition.__class__ is int:
                return then if condition else other
            if then == other:
                return then
            return _anything(node, terms) if node.is_memory else choose(condition, then, other, width, terms)
        if op == "read":
            return _read(args[0], args[1], width, terms)
        if op == "write":
            memory, address, data = args
            if address.__class__ is not int:  # somewhere: from now on anything may be anywhere
                return _anything(node, terms)
            return {**memory, address: data}
        if op == "concat":
            low_width = self.nodes[abs(node.args[1])].width
            if args[0].__class__ is int and args[1].__class__ is int:
                return args[0] << low_width | args[1]
            return bits(args[1], low_width) + bits(args[0], width - low_width)
        w = self.nodes[abs(node.args[0])].width
        return unary(op, args[0], w, terms) if op in UNARY else binary(op, args[0], args[1], w, terms)

    def _cut_out(self, node: Node, a: Number) -> Number:
        """Some bits of `a`, or it with more bits above it."""
        if node.op == "slice":
            high, low = node.args[1:]
            if isinstance(a, int):
                return a >> low & ((1 << (high - low + 1)) - 1)
            return known(a[low : high + 1])
        source = self.nodes[abs(node.args[0])].width
        if isinstance(a, int):
            return a if node.op == "uext" else signed(a, source) % (1 << node.width)
        above: Bit = 0 if node.op == "uext" else a[-1]
        return a + (above,) * (node.width - source)

    def invert(self, number: int, values: Mapping[int, Value], terms: Terms) -> Value:
        """The value of a reference to a node; a negative one means the complement."""
        if number >= 0:
            return values[number]
        return unary("not", values[-number], self.nodes[-number].width, terms)


def _anything(node: Node, terms: Terms) -> dict:
    """A memory of unknown content."""
    return {None: (terms.fresh(), node.width)}


def _read(memory: dict, address: Number, width: int, terms: Terms) -> Number:
    """The word of a memory at an address."""
    if not isinstance(address, int):
        return terms.variable(terms.fresh(), width)  # any content: more than there is
    if address in memory:
        return memory[address]
    default = memory.get(None, 0)
    if isinstance(default, tuple):
        return terms.variable(f"{default[0]}[{address}]", width)
    return default


# operator -> how many of the words after its sort are arguments
_ARGUMENTS = (
    dict.fromkeys(UNARY, 1)
    | dict.fromkeys((*ARITHMETIC, *COMPARISON, "uext", "sext", "read", "concat"), 2)
    | dict.fromkeys(("ite", "write", "slice"), 3)
)


def read_btor(text: str) -> Machine:
    """The machine that a BTOR2 text describes; NotUnderstood for an operator that is not known here."""
    machine = Machine()
    sorts: dict[int, tuple[int, bool]] = {}  # width of a value, or of the words of a memory; is it one?
    anonymous = 0
    for line in text.splitlines():
        words = line.partition(";")[0].split()
        if not words:
            continue
        number, op, rest = int(words[0]), words[1], words[2:]
        match op:
            case "sort":
                is_memory = rest[0] != "bitvec"
                sorts[number] = (sorts[int(rest[2])][0] if is_memory else int(rest[1]), is_memory)
            case "input" | "state":
                width, is_memory = sorts[int(rest[0])]
                name = rest[1] if len(rest) > 1 else f"_{op}_{number}"
                machine.nodes[number] = Node(op, width, (), name, is_memory)
                (machine.inputs if op == "input" else machine.states)[number] = name
            case "const" | "constd" | "consth" | "zero" | "one" | "ones":
                width, _ = sorts[int(rest[0])]
                base = {"const": 2, "constd": 10, "consth": 16}.get(op)
                value = int(rest[1], base) if base else {"zero": 0, "one": 1, "ones": -1}[op]
                machine.nodes[number] = Node("value", width, (value % (1 << width),))
            case "init" | "next":
                target = machine.initial if op == "init" else machine.following
                target[int(rest[1])] = int(rest[2])
            case "bad":
                machine.asserts[rest[1] if len(rest) > 1 else f"assert_{number}"] = int(rest[0])
            case "constraint":
                machine.assumptions.append(int(rest[0]))
            case "output":
                machine.outputs[rest[1] if len(rest) > 1 else f"output_{anonymous}"] = int(rest[0])
                anonymous += 1
            case _ if op in _ARGUMENTS:
                width, is_memory = sorts[int(rest[0])]
                arguments = tuple(int(word) for word in rest[1 : 1 + _ARGUMENTS[op]])
                machine.nodes[number] = Node(op, width, arguments, is_memory=is_memory)
            case _:
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


def write_sources(sources: Mapping[str, str], folder: Path) -> None:
    """Write files, name -> text, into `folder`."""
    for name, text in sources.items():
        (folder / name).write_text(text)

"""Assertions of a machine, for ever: k-induction over bitwuzla, each assertion with an answer of its own."""

import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import bitwuzla
from bitwuzla import Kind, Option, Result

from scnas.equiv.cut import Cut
from scnas.equiv.machine import Machine, NotUnderstood
from scnas.equiv.terms import Bit, Terms, Value, bits


@dataclass(frozen=True)
class Answer:
    """status: `proved`, `refuted` or `unknown`. failed: the assertion. depth: steps of induction, or the
    clock of the difference. table: one row per clock, name of an input or output -> value."""

    status: str
    depth: int
    failed: str = ""
    table: tuple[Mapping[str, int], ...] = ()


class Solver:
    """Questions to bitwuzla about terms, each until `deadline` (time.monotonic seconds)."""

    def __init__(self, terms: Terms, deadline: float) -> None:
        self.terms, self.deadline = terms, deadline

    def within(self, share: float) -> "Solver":
        """The same with this share of the time that is left."""
        now = time.monotonic()
        return Solver(self.terms, now + share * max(0.0, self.deadline - now))

    def satisfiable(self, formulas: Sequence[bitwuzla.Term]) -> tuple[Result, bitwuzla.Bitwuzla]:
        """Can all be true at once? UNKNOWN when time has run out."""
        options = bitwuzla.Options()
        options.set(Option.PRODUCE_MODELS, True)
        left = int((self.deadline - time.monotonic()) * 1000)
        options.set(Option.TIME_LIMIT_PER, max(1, left))
        solver = bitwuzla.Bitwuzla(self.terms.manager, options)
        for formula in formulas:
            solver.assert_formula(formula)
        return (solver.check_sat() if left > 0 else Result.UNKNOWN), solver


def undecided(deadline: float, what: str) -> tuple[str, str]:
    """Status and detail where `what` was not shown: refuted, or unknown because the deadline has passed."""
    return ("unknown", f"time ran out at {what}") if time.monotonic() >= deadline else ("refuted", what)


def number(solver: bitwuzla.Bitwuzla, terms: Terms, value: Value, width: int) -> int:
    """The number that `value` has in the model of `solver`."""
    if value.__class__ is int:
        return value
    return int(solver.get_value(terms.term(value, width)).value(10))


class _Unrolled:
    """A machine, clock after clock. clocks[i]: values of all nodes of interest in clock i."""

    def __init__(self, machine: Machine, terms: Terms, state: Mapping[int, Value], prefix: str) -> None:
        self.machine, self.terms, self.prefix = machine, terms, prefix
        self.state = dict(state)
        self.clocks: list[dict[int, Value]] = []
        self.wanted = [*machine.asserts.values(), *machine.assumptions, *machine.following.values()]

    def advance(
        self,
        solver: Solver | None = None,
        cuts: Sequence[Cut] = (),
    ) -> list[bitwuzla.Term]:
        """One clock more; what is known of the symbols of `cuts`, those that `solver` could prove."""
        machine, clock = self.machine, len(self.clocks)
        leaves = dict(self.state)
        for node, name in machine.inputs.items():
            width = machine.nodes[node].width
            leaves[node] = self.terms.variable(f"{self.prefix}{clock}.{name}", width)
        values = machine.run(self.wanted, leaves, self.terms)
        self.clocks.append(values)
        known: list[bitwuzla.Term] = []
        if solver is not None and cuts:
            replace, known = self._cut(cuts, leaves, solver)
            values = machine.run(self.wanted, leaves, self.terms, replace)
        self.state = {s: _node(values, node, machine, self.terms) for s, node in machine.following.items()}
        for number in machine.states:  # without a next value: free in every clock
            if number not in machine.following:
                name = f"{self.prefix}{clock + 1}.free.{number}"
                self.state[number] = self.terms.variable(name, machine.nodes[number].width)
        return known

    def _cut(
        self, cuts: Sequence[Cut], leaves: Mapping[int, Value], solver: Solver
    ) -> tuple[dict[Bit, Bit], list[bitwuzla.Term]]:
        """Bits to replace for the cuts that can be proved, and the ranges of their symbols."""
        machine, terms = self.machine, self.terms
        manager = terms.manager
        facts = self.assumed()
        facts += [manager.mk_term(Kind.NOT, [self.bad(name)]) for name in machine.asserts]
        replace: dict[Bit, Bit] = {}
        ranges: list[bitwuzla.Term] = []
        for cut in cuts:
            nodes = [machine.outputs[cut.dut], machine.outputs[cut.ref]]
            values = machine.run(nodes, leaves, terms, replace)
            widths = [machine.nodes[node].width for node in nodes]
            full = max(
                *widths, cut.high.bit_length() + 2, cut.low.bit_length() + 2, abs(cut.offset).bit_length() + 2
            )
            full += 1
            dut, ref = (bits(values[node], width) for node, width in zip(nodes, widths, strict=True))
            dut_term, ref_term = (
                terms.term(word + (word[-1],) * (full - len(word)), full) for word in (dut, ref)
            )
            shifted = manager.mk_term(Kind.BV_ADD, [dut_term, terms.term(cut.offset, full)])
            low, high = terms.term(cut.low, full), terms.term(cut.high, full)
            lemma = [
                manager.mk_term(Kind.EQUAL, [shifted, ref_term]),
                manager.mk_term(Kind.BV_SLE, [low, dut_term]),
                manager.mk_term(Kind.BV_SLE, [dut_term, high]),
            ]
            negated = manager.mk_term(Kind.NOT, [manager.mk_term(Kind.AND, lemma)])
            result, _ = solver.within(0.4).satisfiable([*facts, *ranges, negated])
            if result != Result.UNSAT:
                continue
            size = max(cut.low.bit_length(), cut.high.bit_length()) + 1
            symbol = terms.variable(f"{self.prefix}.cut.{cut.dut}", size)
            wide = symbol + (symbol[-1],) * (full - size)
            term = terms.term(wide, full)
            moved = terms.operation(Kind.BV_ADD, [term, terms.term(cut.offset, full)], full)
            replace |= {old: new for old, new in zip(dut, wide, strict=False) if old.__class__ is tuple}
            moved = wide if cut.offset == 0 else moved
            for old, new in zip(ref, moved, strict=False):
                if old.__class__ is tuple:
                    replace.setdefault(old, new)
            ranges.append(manager.mk_term(Kind.BV_SLE, [low, term]))
            ranges.append(manager.mk_term(Kind.BV_SLE, [term, high]))
            # A product by 0 or 1 is a mere wire of a register or an input, which is used, or held, elsewhere
            # too: free of it, the symbol would be one value here and the register another one there.
            for word, side, same in ((dut, dut_term, term), (ref, ref_term, terms.term(moved, full))):
                if terms.plain(word):
                    ranges.append(manager.mk_term(Kind.EQUAL, [side, same]))
        return replace, ranges

    def assumed(self) -> list[bitwuzla.Term]:
        """The assumptions of the last clock."""
        values = self.clocks[-1]
        return [
            self.terms.truth(_node(values, node, self.machine, self.terms))
            for node in self.machine.assumptions
        ]

    def bad(self, name: str) -> bitwuzla.Term:
        """Assertion `name` is violated in the last clock."""
        return self.terms.truth(_node(self.clocks[-1], self.machine.asserts[name], self.machine, self.terms))


def _node(values: Mapping[int, Value], node: int, machine: Machine, terms: Terms) -> Value:
    return machine.invert(node, values, terms)


def prove(machine: Machine, depth: int, deadline: float, cuts: Sequence[Cut] = ()) -> Answer:
    """Are all assertions of `machine` true for ever? k-induction with 1 to `depth` steps.

    cuts: where to cut the logic in the induction step; one that cannot be proved is left out.
    """
    terms = Terms()
    solver = Solver(terms, deadline)
    base = _Unrolled(machine, terms, machine.first_state(terms), "t")
    step = _Unrolled(machine, terms, machine.free_state(terms, "any"), "i")
    initial, hypothesis = [], []
    hypothesis += step.advance(solver, cuts)
    for k in range(1, depth + 1):
        base.advance()
        initial += base.assumed()
        for name in machine.asserts:
            result, model = solver.satisfiable([*initial, base.bad(name)])
            if result == Result.SAT:
                table = _concrete(machine, base, model, terms)
                return Answer("refuted", k - 1, name, table)
            if result != Result.UNSAT:
                return Answer("unknown", k - 1, name)
        hypothesis += step.assumed()
        hypothesis += [terms.manager.mk_term(Kind.NOT, [step.bad(name)]) for name in machine.asserts]
        step.advance()
        assumed, open_ = step.assumed(), ""
        for name in machine.asserts:
            result, _ = solver.satisfiable([*hypothesis, *assumed, step.bad(name)])
            if result != Result.UNSAT:
                open_ = name
                break
        if not open_:
            return Answer("proved", k)
        if time.monotonic() > deadline:
            break
    return Answer("unknown", depth, open_)


def bounded(machine: Machine, depth: int, deadline: float) -> Answer:
    """Is no assertion violated in the first `depth` clocks? `proved` then means: not within `depth`."""
    terms = Terms()
    solver = Solver(terms, deadline)
    base = _Unrolled(machine, terms, machine.first_state(terms), "t")
    initial: list[bitwuzla.Term] = []
    for clock in range(depth):
        base.advance()
        initial += base.assumed()
        for name in machine.asserts:
            result, model = solver.satisfiable([*initial, base.bad(name)])
            if result == Result.SAT:
                return Answer("refuted", clock, name, _concrete(machine, base, model, terms))
            if result != Result.UNSAT:
                return Answer("unknown", clock, name)
    return Answer("proved", depth)


def simulated(machine: Machine, clocks: int, seed: int, deadline: float) -> Answer:
    """Does a random run violate an assertion? `refuted`, or `unknown`: a run that finds nothing says nothing.

    Inputs are drawn anew where they break an assumption. Ends of the range are drawn often.
    """
    dice, terms = random.Random(seed), Terms()
    asserted = list(machine.asserts.values())
    wanted = [*asserted, *machine.assumptions, *machine.outputs.values(), *machine.following.values()]
    state: dict[int, Value] = {}
    for number, name in machine.states.items():
        if machine.nodes[number].is_memory:
            raise NotUnderstood(f"a random run cannot begin with the memory {name}")
        state[number] = dice.getrandbits(machine.nodes[number].width)
    for number, node in machine.initial.items():
        state[number] = machine.run([node], {}, terms)[node]

    def draw(width: int) -> int:
        if width == 1:  # enables and resets, active low: a reset in every other clock would hide much
            return int(dice.random() < 0.95)
        half = 1 << (width - 1)
        return dice.choice(
            [dice.getrandbits(width), dice.getrandbits(width), half, half - 1, 0, dice.randrange(half)]
        )

    rows: list[dict[str, int]] = []
    free = [n for n in (*machine.inputs, *machine.states) if n not in machine.following]
    for clock in range(clocks):
        for _ in range(200):
            leaves = state | {n: draw(machine.nodes[n].width) for n in free}
            values = machine.run(wanted, leaves, terms)
            if all(_node(values, node, machine, terms) for node in machine.assumptions):
                break
        else:
            return Answer("unknown", clock)
        row = {name: _shown(leaves[n], machine.nodes[n].width) for n, name in machine.inputs.items()}
        for name, node in machine.outputs.items():
            row[name] = _shown(_node(values, node, machine, terms), machine.nodes[abs(node)].width)
        rows.append(row)
        for name, node in machine.asserts.items():
            if _node(values, node, machine, terms):
                return Answer("refuted", clock, name, tuple(rows))
        state = {n: _node(values, node, machine, terms) for n, node in machine.following.items()}
        if time.monotonic() > deadline:
            return Answer("unknown", clock)
    return Answer("unknown", clocks)


def _concrete(
    machine: Machine, run: _Unrolled, model: bitwuzla.Bitwuzla, terms: Terms
) -> tuple[dict[str, int], ...]:
    """The counterexample again on numbers: inputs and outputs of every clock, computed by the machine."""
    state = {s: number(model, terms, run.clocks[0][s], machine.nodes[s].width) for s in machine.states}
    rows = []
    for values in run.clocks:
        leaves: dict[int, Value] = dict(state)
        row = {}
        for node in machine.states:
            if node not in machine.following:
                leaves[node] = number(model, terms, values[node], machine.nodes[node].width)
        for node, name in machine.inputs.items():
            leaves[node] = number(model, terms, values[node], machine.nodes[node].width)
            if not name.startswith("_"):
                row[name] = _shown(leaves[node], machine.nodes[node].width)
        wanted = [*machine.outputs.values(), *machine.following.values()]
        now = machine.run(wanted, leaves, terms)
        for name, node in machine.outputs.items():
            row[name] = _shown(_node(now, node, machine, terms), machine.nodes[abs(node)].width)
        rows.append(row)
        state = state | {s: _node(now, node, machine, terms) for s, node in machine.following.items()}
    return tuple(rows)


def _shown(value: Value, width: int) -> int:
    assert isinstance(value, int)
    return value - 2**width if width > 1 and value >> (width - 1) else value

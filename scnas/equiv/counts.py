"""The obligation of the counts of a parallel layer: every neuron adds exactly its synapses.

Letters: T steps, L stream clocks, s[t, i] spike of input i in step t, R(t, c) the number of stream clock c.
"""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import bitwuzla
from bitwuzla import Kind, Result

from scnas.equiv import induction, machine
from scnas.equiv.terms import Number, Terms


class Sum:
    """A signed word that should be the sum of some bits, each times its coefficient.

    Proved bit by bit: with no bit set the word is 0, and setting any one bit, whatever the others are, adds
    its coefficient. By induction over the bits that are set this is the sum, however it is built.
    """

    def __init__(self, terms: Terms, solver: induction.Solver) -> None:
        self.terms, self.solver = terms, solver

    def adds(
        self,
        before: Number,
        after: Number,
        amount: Number,
        width: int,
        facts: Sequence[bitwuzla.Term] = (),
    ) -> Result:
        """Is after == before + amount for every value of the symbols? UNSAT: yes."""
        if amount == 0 and before == after:
            return Result.UNSAT
        terms, manager = self.terms, self.terms.manager
        total = manager.mk_term(Kind.BV_ADD, [terms.term(before, width), terms.term(amount, width)])
        differs = manager.mk_term(Kind.DISTINCT, [terms.term(after, width), total])
        return self.solver.satisfiable([*facts, differs])[0]


def counts(task: Mapping, folder: Path, deadline: float) -> tuple[str, str]:
    """Counts of some neurons of a parallel layer: for all spikes and numbers, the sum of SEMANTICS.md.

    count_j == sum over taps of sign * tap * [w > number]. weights: neuron -> [[tap, signed weight], ...];
    a tap that is not listed must not matter.
    """
    machine.write_sources(task["sources"], folder)
    name = task["module"]
    commands = [f"read_verilog {file}" for file in task["sources"]] + [f"prep -flatten -top {name}"]
    model = machine.elaborate(commands, folder, deadline - time.monotonic())
    if model.states:
        raise machine.NotUnderstood(f"{name} holds registers")
    terms = Terms()
    lemma = Sum(terms, induction.Solver(terms, deadline))
    ports = {port: node for node, port in model.inputs.items()}
    n_taps = model.nodes[ports["tap"]].width
    if n_taps != task["n_taps"]:
        return "refuted", f"{n_taps} taps, {task['n_taps']} synapse inputs"
    tap = terms.variable("tap", n_taps)
    number_bits = model.nodes[ports["number"]].width if "number" in ports else 1
    number: Number = terms.variable("number", number_bits) if task["numbers"] > 1 else 0
    for j, synapses in task["weights"].items():
        output = model.outputs[f"count_{j}"]
        width = model.nodes[abs(output)].width

        def count(spikes: Number, output: int = output) -> Number:
            leaves = {node: spikes if port == "tap" else number for port, node in ports.items()}
            return model.invert(output, model.run([abs(output)], leaves, terms), terms)

        coefficients = dict(synapses)
        reach = sum(abs(w) > 0 for w in coefficients.values())
        low = -sum(w < 0 for w in coefficients.values())
        high = sum(w > 0 for w in coefficients.values())
        if not -(1 << (width - 1)) <= low <= high < 1 << (width - 1):
            return "refuted", f"count_{j} has {width} bits, and {reach} synapses"
        if lemma.adds(0, count(0), 0, width) != Result.UNSAT:
            return induction.undecided(deadline, f"count_{j} is not 0 without spikes")
        for i in range(n_taps):
            weight = coefficients.get(i, 0)
            step = stream_bit(terms, number, number_bits, abs(weight))
            amount = _signed(step, 1 if weight > 0 else -1, width)
            one = tuple(1 if k == i else tap[k] for k in range(n_taps))
            none = tuple(0 if k == i else tap[k] for k in range(n_taps))
            if lemma.adds(count(none), count(one), amount, width) != Result.UNSAT:
                return induction.undecided(deadline, f"tap {i} of count_{j}")
    return "proved", f"{len(task['weights'])} neurons"


def stream_bit(terms: Terms, number: Number, width: int, magnitude: int) -> Number:
    """[magnitude > number] as one bit."""
    if magnitude >> width:
        return 1
    if isinstance(number, int):
        return int(magnitude > number)
    above = terms.manager.mk_term(Kind.BV_UGT, [terms.term(magnitude, width), terms.term(number, width)])
    return terms.operation(Kind.ITE, [above, terms.term(1, 1), terms.term(0, 1)], 1)


def _signed(bit: Number, sign: int, width: int) -> Number:
    """bit * sign as a word."""
    if isinstance(bit, int):
        return bit * sign
    return bit + (0,) * (width - 1) if sign > 0 else bit * width  # -1 is all ones

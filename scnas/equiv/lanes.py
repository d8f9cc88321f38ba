"""The lane sum of a unit of a folded layer: every ring, every weights, every number.

Each lane is on as it should be, and then the sum is that of the lanes that are on, whatever they are. The
adder trees are gone through wire by wire (`trees`); where one of their wires means something else than usual,
or is not to be found, the sum is asked for as a whole, lane by lane, which takes minutes where there are
hundreds.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bitwuzla import Kind, Result, Term

from scnas.equiv import induction
from scnas.equiv.composition.view import elaborate
from scnas.equiv.counts import Sum
from scnas.equiv.machine import Machine, NotUnderstood
from scnas.equiv.terms import Bit, Number, Terms, Value, Word, bits, known
from scnas.equiv.trees import Trees
from scnas.hardware import schedule
from scnas.hardware.circuit.folded import ending
from scnas.snn.network import Layer, Network


def lanes(task: Mapping, folder: Path, deadline: float) -> tuple[str, str]:
    """The lane sum of unit task["unit"] of a folded layer, for every ring, every weights and every number.

    The register `sum` takes sum over lanes of ring * sign * [magnitude > number]; where a register `stage`
    lies in between, one clock later.
    """
    network = Network.from_dict(task["network"])
    model = elaborate(network, task["sources"], folder, deadline - time.monotonic())
    unit = _unit(network.layers[task["layer"]], f"layer_{task['layer']}", task["unit"], model)
    terms, layer, width = unit.terms, unit.layer, model.nodes[unit.output("sum")].width
    if not (-(1 << (width - 1)) <= -layer.lanes and layer.lanes < 1 << (width - 1)):
        return "refuted", f"sum has {width} bits, and there are {layer.lanes} lanes"
    lemma = Sum(terms, induction.Solver(terms, deadline))
    # First each lane: on_i == ring[i] and [magnitude > number]. Then their sum, whatever they are.
    for i in range(layer.lanes):
        if lemma.solver.satisfiable([unit.is_off(i)])[0] != Result.UNSAT:
            return induction.undecided(deadline, f"lane {i}")
    on = terms.variable("on", layer.lanes)
    trees = Trees(layer, task["unit"], unit.path, model, terms, lemma.solver)
    signs = tuple(code[-1] for code in unit.codes)
    if trees.add_up(unit.values, unit.on_nodes, on, signs):
        return "proved", f"{layer.lanes} lanes"
    wrong = _one_by_one(unit, on, lemma, width)
    return induction.undecided(deadline, wrong) if wrong else ("proved", f"{layer.lanes} lanes")


@dataclass(frozen=True)
class _Unit:
    """A unit of a folded layer with symbols for all that its lane sum depends on.

    end: what the names of its signals end in. values: of registers and inputs; those of `other` are free and
    of no concern. weights: the whole word of the ROM. number: of the generator, of number_width bits.
    codes: of each lane, magnitude and sign. on_nodes: the wire of each lane.
    """

    layer: Layer
    path: str
    end: str
    model: Machine
    terms: Terms
    values: Mapping[int, Value]
    other: Mapping[int, Value]
    weights: Word
    starts: Sequence[int]
    ring: Word
    number: Number
    number_width: int
    on_nodes: Sequence[int]

    def output(self, name: str) -> int:
        """The node of a wire of the unit."""
        return self.model.outputs[f"{self.path}.{name}{self.end}"]

    @property
    def code_bits(self) -> tuple[int, bool]:
        """Bits of a magnitude in the ROM, and whether they are its stream instead of its number."""
        streams = self.layer.generator == "sobol" and self.layer.length <= 2
        return (self.layer.length if streams else self.layer.max_weight.bit_length()), streams

    @property
    def codes(self) -> list[Word]:
        size, _ = self.code_bits
        return [self.weights[at : at + size + 1] for at in self.starts]

    def value(self, node: int, values: Mapping[int, Value]) -> Number:
        """The value of a reference to a node, from those of registers and inputs."""
        return self.model.invert(node, self.model.run([abs(node)], values, self.terms), self.terms)

    def is_off(self, lane: int) -> Term:
        """The wire of a lane is not what it should be."""
        terms, (size, streams) = self.terms, self.code_bits
        bit = _lane_bit(terms, self.codes[lane], self.number, self.number_width, size, streams)
        both = terms.operation(
            Kind.BV_AND, [terms.term(self.ring[lane : lane + 1], 1), terms.term(bit, 1)], 1
        )
        got = self.value(self.on_nodes[lane], self.values)
        return terms.manager.mk_term(Kind.DISTINCT, [terms.term(got, 1), terms.term(both, 1)])

    def next_sum(self, lanes_on: Word, lane: int, sign: Bit) -> Number:
        """What `sum` takes with these lanes on, where that lane has this sign bit and the others any."""
        cut: dict[int, Value] = {
            abs(node): known(lanes_on[i : i + 1]) for i, node in enumerate(self.on_nodes)
        }
        rom = self.model.outputs[f"{self.path}.weights"]
        if self.model.nodes[rom].op != "value":
            at = self.starts[lane] + self.code_bits[0]
            cut[rom] = self.weights[:at] + (sign,) + self.weights[at + 1 :]
        values = {**self.values, **cut}
        if schedule.is_staged(
            self.layer.mapping, self.layer.lanes
        ):  # what it takes now, the sum a clock later
            stage = self.output("stage")
            values = {**self.other, stage: self.value(self.model.following[stage], values)}
        return self.value(self.model.following[self.output("sum")], values)


def _unit(layer: Layer, path: str, unit: int, model: Machine) -> _Unit:
    """A unit of the elaborated top. NotUnderstood where a lane has no wire."""
    terms, end = Terms(), ending(unit)
    rom, ring_node = model.outputs[f"{path}.weights"], model.outputs[f"{path}.ring"]
    rom_bits, fixed = model.nodes[rom].width, model.nodes[rom].op == "value"
    weights: Number = model.nodes[rom].args[0] if fixed else terms.variable("weights", rom_bits)
    given: dict[int, Value] = {} if fixed else {rom: weights}
    # The number is bits of the generator's register: free, too.
    number: Number = 0
    number_width = 1
    if layer.generator == "lfsr":
        node = model.outputs[f"{path}.generator.state"]
        given[node] = terms.variable("generator", model.nodes[node].width)
        number, number_width = given[node][:8], 8
    elif layer.length > 1:
        node = model.outputs[f"{path}.generator.count"]
        number_width = model.nodes[node].width
        given[node] = terms.variable("generator", number_width)
        number = given[node][::-1]
    other = {
        node: terms.variable(f"{name}.{node}", model.nodes[node].width)
        for node, name in (model.states | model.inputs).items()
        if not model.nodes[node].is_memory
    }
    ring = terms.variable("ring", model.nodes[ring_node].width)
    on_nodes = []
    for i in range(layer.lanes):
        if (on := model.outputs.get(f"{path}.on_{i}{end}")) is None:
            raise NotUnderstood(f"the design has no wire {path}.on_{i}{end}")
        on_nodes.append(on)
    streams = layer.generator == "sobol" and layer.length <= 2
    size = layer.length if streams else layer.max_weight.bit_length()
    starts = [(unit * layer.lanes + i) * (size + 1) for i in range(layer.lanes)]
    values = {**other, **given, ring_node: ring}
    word = bits(weights, rom_bits)
    return _Unit(
        layer=layer,
        path=path,
        end=end,
        model=model,
        terms=terms,
        values=values,
        other=other,
        weights=word,
        starts=starts,
        ring=ring,
        number=number,
        number_width=number_width,
        on_nodes=on_nodes,
    )


def _one_by_one(unit: _Unit, on: Word, lemma: Sum, width: int) -> str:
    """The sum asked for as a whole: 0 without spikes, and every lane adds its sign. What is wrong, or ""."""
    n = unit.layer.lanes
    if lemma.adds(unit.next_sum((0,) * n, 0, 0), 0, 0, width) != Result.UNSAT:
        return "the sum is not 0 without spikes"
    fixed = unit.model.nodes[unit.model.outputs[f"{unit.path}.weights"]].op == "value"
    for i in range(n):
        none, one = (tuple(v if k == i else on[k] for k in range(n)) for v in (0, 1))
        for sign in (unit.codes[i][-1],) if fixed else (0, 1):
            before, after = unit.next_sum(none, i, sign), unit.next_sum(one, i, sign)
            if lemma.adds(before, after, -1 if sign else 1, width) != Result.UNSAT:
                return f"lane {i} in the sum"
    return ""


def _lane_bit(
    terms: Terms, code: Word, number: Number, number_width: int, size: int, streams: bool
) -> Number:
    """[magnitude > number] of a lane, one bit."""
    manager, magnitude = terms.manager, code[:-1]
    if streams and size == 1:
        return known(magnitude)
    if streams:  # the stream itself, its lowest bit is that of number 0
        chosen = [terms.truth(bits(number, 1)), terms.term(magnitude[1:2], 1), terms.term(magnitude[:1], 1)]
        return terms.operation(Kind.ITE, chosen, 1)
    full = max(size, number_width) + 1
    wide = [
        terms.term(bits(x, w) + (0,) * (full - w), full)
        for x, w in ((magnitude, size), (number, number_width))
    ]
    above = manager.mk_term(Kind.BV_UGT, wide)
    return terms.operation(Kind.ITE, [above, terms.term(1, 1), terms.term(0, 1)], 1)

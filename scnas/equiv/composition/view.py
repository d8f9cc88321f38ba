"""A layer in the elaborated top: its wires, the registers it depends on, and where its inputs come from."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from scnas.equiv import machine
from scnas.equiv.machine import Machine, NotUnderstood
from scnas.equiv.terms import Terms, Value
from scnas.hardware import schedule
from scnas.hardware.circuit import derived
from scnas.hardware.circuit.folded import ending
from scnas.snn.network import Network


class Differs(Exception):
    """The design does something else than the contract; the text says what."""


CELLS = ("sc_lif_neuron", "sc_homeostatic_lif_neuron", "sc_izhikevich_neuron", "sc_neuron_update")


def elaborate(network: Network, sources: Mapping[str, str], folder: Path, seconds: float) -> machine.Machine:
    """The top with the counts of parallel layers and all neurons turned into ports."""
    machine.write_sources(sources, folder)
    apart = [
        f"scnas_layer{depth}_counts"
        for depth, layer in enumerate(network.layers)
        if layer.mapping == "parallel"
    ]
    apart += [f"*{cell}" for cell in CELLS if f"{cell}.v" in sources]
    apart += derived.cut_out(network)
    commands = [f"read_verilog {name}" for name in sources] + ["hierarchy -check -top scnas_top"]
    if apart:
        commands.append(f"setattr -mod -set keep_hierarchy 1 {' '.join(apart)}")
    commands += ["proc", "flatten", "expose -evert scnas_top", "prep -top scnas_top"]
    return machine.elaborate(commands, folder, seconds)


class View:
    """Layer `depth` of the top.

    path: of its wires. names: of inputs -> node. port: `in_spikes` or `in_byte`. given_go, given_spikes: a
    later layer gets its go and its spikes from the one before, which is left out; nodes, and which spikes.
    registers: that the layer, or what belongs to it, depends on. cut_registers: those of lane sums, see
    `_cut_registers`. following: of the other registers, the node of the next value. unfollowed: registers
    without one. changing: those that two states can differ in.
    """

    def __init__(self, network: Network, model: Machine, terms: Terms, depth: int) -> None:
        self.network, self.model, self.terms, self.depth = network, model, terms, depth
        self.layer, self.path, self.fires = network.layers[depth], f"layer_{depth}", network.fires(depth)
        self.first, self.last = depth == 0, depth == len(network.layers) - 1
        self.names = {name: node for node, name in model.inputs.items()}
        self.port = "in_byte" if "in_byte" in self.names else "in_spikes"
        self.each = self.layer.n_out // self.layer.units  # neurons of a unit
        self.staged = schedule.is_staged(self.layer.mapping, self.layer.lanes)
        self.given_go, self.given_spikes = (None, []) if self.first else self._given()
        self.registers = self._registers()
        self.cut_registers = self._cut_registers() if self.layer.mapping == "folded" else {}
        self.following = {
            number: node
            for number, node in model.following.items()
            if number in self.registers and number not in self.cut_registers
        }
        self.wanted = [abs(node) for node in self.following.values()]
        self.unfollowed = [number for number in self.registers if number not in model.following]
        memories = {number for number in self.registers if model.nodes[number].is_memory}
        roms = {number for number in memories if model.following.get(number, number) == number}
        self.changing = sorted(self.registers - roms)

    def _given(self) -> tuple[int | None, list[tuple[int, Iterable[int]]]]:
        """The nodes of the go and of the spikes of a later layer, which must be those of the one before."""
        network, before, n_in = self.network, f"layer_{self.depth - 1}", self.layer.n_in
        go, spikes = self.output(f"{self.path}.go"), self.output(f"{self.path}.spikes")
        if go != self.output(f"{before}.next"):
            raise Differs(f"the go of layer {self.depth} is not the next of the layer before")
        if spikes != self.output(f"{before}.fired"):
            raise Differs(f"the spikes of layer {self.depth} are not those of the layer before")
        given: list[tuple[int, Iterable[int]]] = [(spikes, range(n_in))]
        if (below := network.layers[self.depth - 1]).mapping == "parallel":
            given += [(self.names[f"{before}.neuron_{i}.spike_out"], [i]) for i in range(n_in)]
        elif below.units > 1:
            each = below.n_out // below.units
            kind = "held" if self.layer.mapping == "parallel" else "shifted"
            given += [
                (self.output(f"{before}.{kind}{ending(unit)}"), range(unit * each, (unit + 1) * each))
                for unit in range(below.units)
            ]
        return go, given

    def _registers(self) -> set[int]:
        """The registers that the layer, or what belongs to it, depends on."""
        model = self.model
        given = {self.given_go, *(node for node, _ in self.given_spikes)}
        ends = {"in_ready"} if self.first else set()
        ends |= {"done", "score_valid", "score", "class_index"} if self.last else set()
        found = {n for name, n in model.outputs.items() if name.startswith(f"{self.path}.") or name in ends}
        found, stack = found - given, list(found - given)
        while stack:
            number = stack.pop()
            more = [abs(a) for a in model.arguments(number)]
            more += [abs(model.following[number])] if number in model.following else []
            new = {n for n in more if n not in found and n not in given}
            found |= new
            stack += new
        return {number for number in model.states if number in found}

    def _cut_registers(self) -> dict[int, tuple[int, str]]:
        """Register -> unit and name, of those that hold the lane sums of a folded layer, or lead to them.

        What they take is proved by `equiv.lanes`, and stands here for its meaning.
        """
        names = ("stage", "sum") if self.staged else ("sum",)
        found = {
            self.output(f"{self.path}.{name}{ending(unit)}"): (unit, name)
            for unit in range(self.layer.units)
            for name in names
        }
        if missing := found.keys() - self.registers:
            raise NotUnderstood(f"{found[min(missing)][1]} of a folded layer is not a register")
        return found

    def output(self, name: str) -> int:
        """The node of a wire of the flattened top."""
        if name not in self.model.outputs:
            raise NotUnderstood(f"the design has no wire {name}")
        return self.model.outputs[name]

    def get(self, values: dict[int, Value], name: str) -> Value:
        """The value of a wire, worked out if it is not there yet."""
        node = self.output(name)
        if node not in values:
            self.model.extend(values, [node], self.terms)
        return values[node]

    def control(self, values: dict[int, Value], name: str) -> int:
        """The value of a wire that no data may reach."""
        value = self.get(values, name)
        if value.__class__ is not int:
            raise Differs(f"{name} depends on data or on the state before the start")
        return value

    def constant(self, values: dict[int, Value], name: str, wanted: int, what: str) -> None:
        """Differs if a wire is not `wanted`; what: whose it is."""
        width = self.model.nodes[self.output(name)].width
        if self.get(values, name) != wanted % 2**width:
            raise Differs(f"{what}: {name.rsplit('.', 1)[1]} is not {wanted}")

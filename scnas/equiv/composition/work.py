"""One clock of a layer: what is checked of it, and the symbols of what is cut out."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from bitwuzla import Kind

from scnas.equiv.composition.sums import Sums
from scnas.equiv.composition.view import Differs, View
from scnas.equiv.reading import lane_weights
from scnas.equiv.terms import Value, Word, bits, known
from scnas.hardware.circuit.cells import cell_of, first_ports, state_ports
from scnas.hardware.circuit.folded import ending
from scnas.snn.models import model_of
from scnas.snn.streams import noise_sequence


@dataclass
class Past:
    """What a layer has done so far in an inference.

    taken: transfers of inputs (first layer). goes: steps that it was told to begin; since: clocks since the
    last one, as far as they matter. ages: clocks since each that `next` has not answered yet; told: it did in
    the clock before. updates: of the layer (parallel) or of its neurons (folded). ran: stream clocks.
    spikes: [t][j], bits. now: what the spike outputs of neuron cells show. memory: neuron -> field -> word
    that a folded layer should have kept. scores: those that were shown.
    """

    taken: int = 0
    goes: int = 0
    since: int = 0
    ages: tuple[int, ...] = ()
    told: bool = False
    updates: int = 0
    ran: int = 0
    spikes: tuple[tuple, ...] = ()
    now: tuple = ()
    memory: Mapping[int, Mapping] = field(default_factory=dict)
    scores: tuple = ()

    def key(self) -> tuple:
        """Equal for two pasts from which everything goes on alike. Spikes and memory are named by step and
        neuron, so the updates say what they are."""
        return self.taken, self.goes, self.since, self.ages, self.told, self.updates, self.ran, self.scores


class Work:
    """A layer at work. next_symbol: register of a lane sum -> the symbol that it will hold."""

    def __init__(self, view: View, sums: Sums) -> None:
        self.view, self.sums = view, sums
        layer, T, half = view.layer, view.network.timesteps, 2 ** (view.network.word - 1)
        self.noise = noise_sequence(layer.noise_seed, T)
        self.next_symbol: dict[int, str] = {}
        # Somewhere in a parallel layer, which then saturates in every step instead of adding all up.
        self.saturates = False
        if layer.mapping == "parallel":
            ends = [sums.bounds(sums.expected(t, j)) for t in range(T) for j in range(layer.n_out)]
            self.saturates = any(
                low << sums.scale < -half or high << sums.scale >= half for low, high in ends
            )

    def clock(self, values: dict[int, Value], past: Past, clock: int) -> None:
        """The layer in this clock, the second after the start or a later one: it is settled then."""
        if self.view.layer.mapping == "parallel":
            self._parallel(values, past, clock)
        else:
            self._folded(values, past, clock >= 2)

    def _ran(self, values: dict[int, Value], past: Past, settled: bool) -> int:
        """How many stream clocks the layer ran before this one; this one is counted."""
        ran = past.ran
        if settled:
            past.ran += self.view.control(values, f"{self.view.path}.run")
        return ran

    def _updates(self, values: dict[int, Value], past: Past) -> int:
        """Is this the clock of an update? It may not come more often than there are steps."""
        update = self.view.control(values, f"{self.view.path}.update")
        each = 1 if self.view.layer.mapping == "parallel" else self.view.each
        if update and past.updates >= each * past.goes:
            raise Differs(f"layer {self.view.depth} updates more often than there are steps")
        past.updates += update
        return update

    def _constants(self, values: dict[int, Value], cell: str, t: int, what: str) -> None:
        """The inputs of a neuron that the network fixes."""
        k, layer = self.view.layer.constants, self.view.layer
        noise = int(self.noise[t]) * k["noise_k"] >> self.view.network.fraction
        if (model := model_of(layer.neuron)).cell is None:  # all its other constants are in its text
            if "noise" in model.names:
                self.view.constant(values, f"{cell}.noise_in", noise, what)
            return
        self.view.constant(values, f"{cell}.noise_in", noise, what)
        self.view.constant(values, f"{cell}.gain_k", k["gain_k"], what)
        if cell_of(layer.neuron).leaks:
            self.view.constant(values, f"{cell}.leak_k", k["leak_k"], what)

    def _parallel(self, values: dict[int, Value], past: Past, clock: int) -> None:
        """Counts and neurons of a parallel layer in this clock."""
        settled = clock >= 2
        if self.view.fires:
            self._cells(values, past, clock)
        self._count_symbols(values, past, settled)
        if not settled:
            return
        t, update = past.updates, self._updates(values, past)
        if self.view.fires:
            self._neurons(values, past, t, update)
        elif update and self.saturates:
            counts = {j: f"{self.view.path}.total_{j}" for j in range(self.view.layer.n_out)}
            self._cut_counts(values, t, counts)

    def _cells(self, values: dict[int, Value], past: Past, clock: int) -> None:
        """The spikes that neuron cells show, and that they are cleared at a start alone."""
        path, depth, n = self.view.path, self.view.depth, self.view.layer.n_out
        for j in range(n):
            cleared = self.view.get(values, f"{path}.neuron_{j}.rst_n")
            if clock >= 1 and cleared != int(clock > 1):
                raise Differs(f"neuron {j} of layer {depth} is not cleared by a start alone")
            now = past.now[j] if past.now else 0
            if clock == 0:  # whatever it did before the start
                now = self.view.terms.variable(f"before.{depth}.{j}", 1)[0]
            values[self.view.names[f"{path}.neuron_{j}.spike_out"]] = known((now,))
            v = self.view.names.get(f"{path}.neuron_{j}.v_out")
            if v is not None:
                values[v] = self.view.terms.variable(self.view.terms.fresh(), self.view.network.word)

    def _count_symbols(self, values: dict[int, Value], past: Past, settled: bool) -> None:
        """Symbols for the counts of a stream clock, and what they mean."""
        path, depth, n = self.view.path, self.view.depth, self.view.layer.n_out
        taps = bits(self.view.get(values, f"{path}.counts.tap"), len(self.sums.taps))
        number = self.view.get(values, f"{path}.counts.number")
        numbered = number.__class__ is int
        if settled and not numbered:
            raise Differs(f"the number generator of layer {depth} depends on data")
        ran = self._ran(values, past, settled)
        for j in range(n):
            node = self.view.names.get(f"{path}.counts.count_{j}")
            if node is None:
                continue
            name = self.sums.named(f"c.{depth}.{j}", ran, taps, number)
            values[node] = self.sums.symbol(name, self.view.model.nodes[node].width)
            if numbered:
                self.sums.meanings[name] = (taps, number, self.sums.weights[j])

    def _neurons(self, values: dict[int, Value], past: Past, t: int, update: int) -> None:
        """Neuron cells step with their layer, and get the right current, noise and constants."""
        path, depth, n = self.view.path, self.view.depth, self.view.layer.n_out
        for j in range(n):
            if self.view.control(values, f"{path}.neuron_{j}.step") != update:
                raise Differs(f"neuron {j} of layer {depth} does not step with its layer")
        if not update:
            return
        for j in range(n):
            what = f"step {t} of neuron {j} of layer {depth}"
            self._constants(values, f"{path}.neuron_{j}", t, what)
            if model_of(self.view.layer.neuron).cell is None:
                threshold = int(self.view.layer.threshold[j])
                self.view.constant(values, f"{path}.neuron_{j}.threshold", threshold, what)
            current = self.view.get(values, f"{path}.neuron_{j}.I_t")
            what = f"the current in {what}"
            self.sums.check_sum(current, self.view.network.word, self.sums.expected(t, j), what, True)
        past.now = tuple(self.view.terms.variable(f"f.{depth}.{t}.{j}", 1)[0] for j in range(n))
        past.spikes += (past.now,)

    def _folded(self, values: dict[int, Value], past: Past, settled: bool) -> None:
        """Lanes and datapaths of a folded layer in this clock."""
        t, place = divmod(past.updates, self.view.each)
        updating = settled and bool(self._updates(values, past))
        ran = self._ran(values, past, settled)
        for unit in range(self.view.layer.units):
            x, j = ending(unit), unit * self.view.each + place
            what = f"step {t} of neuron {j} of layer {self.view.depth}"
            if updating:
                count = f"{self.view.path}.count"
                if not self.view.fires and self.view.output(count) in self.view.registers:
                    self._cut_counts(values, t, {j: count})
                else:
                    current = self.view.get(values, f"{self.view.path}.current{x}")
                    wanted, word = self.sums.expected(t, j), self.view.network.word
                    self.sums.check_sum(current, word, wanted, f"the current in {what}", True)
            if self.view.fires:
                self._datapath(values, past if updating else None, t, unit, j)
            self._lane_sum(values, unit, ran)

    def _lane_sum(self, values: dict[int, Value], unit: int, ran: int) -> None:
        """What the lane sum of a unit will mean, and the stage before it."""
        path, x = self.view.path, ending(unit)
        ring, weights = self.view.get(values, f"{path}.ring"), self.view.get(values, f"{path}.weights")
        number = self.view.get(values, f"{path}.number")
        name = self.sums.named(f"z.{self.view.depth}", unit, ran, ring, weights, number)
        if weights.__class__ is int and number.__class__ is int and name not in self.sums.meanings:
            spikes = bits(ring, self.view.model.nodes[self.view.output(f"{path}.ring")].width)
            lanes = [(i, w) for i, w in enumerate(lane_weights(self.view.layer, unit, weights)) if w]
            self.sums.meanings[name] = (spikes, number, lanes)
        total = self.view.output(f"{path}.sum{x}")
        if self.view.staged:
            stage = self.view.output(f"{path}.stage{x}")
            self.next_symbol[stage] = name
            held = values[stage]
            name = self.sums.named(f"y.{self.view.depth}", unit, held)
            meaning = self.sums.meanings.get(self.sums.word_symbol(held))
            if meaning and name not in self.sums.meanings:
                self.sums.meanings[name] = meaning
        self.next_symbol[total] = name

    def in_order(self, spikes: Word) -> Word:
        """Spikes of a step, as the units found them, neuron by neuron."""
        units = self.view.layer.units
        return tuple(spikes[j % self.view.each * units + j // self.view.each] for j in range(len(spikes)))

    def _cut_counts(self, values: dict[int, Value], t: int, counts: Mapping[int, str]) -> None:
        """The counts of step t of some neurons, j -> wire, are what they should be. Where a register holds
        one, a symbol stands for it from here on, and the score is made of that."""
        cut = {}
        for j, name in counts.items():
            node, wanted = self.view.output(name), self.sums.expected(t, j)
            width, word = self.view.model.nodes[node].width, self.view.get(values, name)
            what = f"the count in step {t} of neuron {j} of layer {self.view.depth}"
            self.sums.check_sum(word, width, wanted, what, False, 0)
            if node in self.view.registers:
                word = cut[node] = self.sums.symbol(f"n.{self.view.depth}.{t}.{j}", width)
            self.sums.totals[t, j] = word = bits(word, width)
            manager, term = self.view.terms.manager, self.view.terms.term(word, width)
            low, high = (self.view.terms.term(end, width) for end in self.sums.bounds(wanted))
            self.sums.ranges[t, j] = [
                manager.mk_term(Kind.BV_SLE, [low, term]),
                manager.mk_term(Kind.BV_SLE, [term, high]),
            ]
        inputs = {*self.view.model.states, *self.view.model.inputs}
        inputs |= {node for node, _ in self.view.given_spikes}
        inputs |= {self.view.given_go} if self.view.given_go is not None else set()
        kept = {node: values[node] for node in inputs if node in values}
        values.clear()
        values.update(kept | cut)

    def _datapath(self, values: dict[int, Value], past: Past | None, t: int, unit: int, j: int) -> None:
        """Symbols for what the datapath of a unit answers. past: in an update, of neuron j in step t."""
        view = self.view
        cell, kept = f"{view.path}.datapath{ending(unit)}", {}
        if past is not None:
            self._datapath_inputs(values, past, t, unit, j)
        for name in ("fires", *(f"{port}_next" for port in state_ports(view.layer.neuron))):
            node = view.names.get(f"{cell}.{name}")
            if node is None:
                continue
            if past is not None:
                symbol = f"{'f' if name == 'fires' else name}.{view.depth}.{t}.{j}"
            else:
                symbol = self.sums.named(f"{name}.{view.depth}", unit, *self._inputs_of(cell, values))
            values[node] = view.terms.variable(symbol, view.model.nodes[node].width)
            if name != "fires":
                kept[name.removesuffix("_next")] = values[node]
        if past is not None:
            past.memory = {**past.memory, j: kept}
            spike = view.terms.variable(f"f.{view.depth}.{t}.{j}", 1)[0]
            so_far = past.spikes[t] if len(past.spikes) > t else ()
            past.spikes = (*past.spikes[:t], (*so_far, spike))

    def _datapath_inputs(self, values: dict[int, Value], past: Past, t: int, unit: int, j: int) -> None:
        """The datapath of a unit gets constants, threshold, current and the state of neuron j."""
        view, layer = self.view, self.view.layer
        cell, what = f"{view.path}.datapath{ending(unit)}", f"step {t} of neuron {j} of layer {view.depth}"
        start = first_ports(layer, view.network)
        self._constants(values, cell, t, what)
        view.constant(values, f"{cell}.threshold", int(layer.threshold[j]), what)
        if view.get(values, f"{cell}.I_t") != view.get(values, f"{view.path}.current{ending(unit)}"):
            raise Differs(f"{what}: the datapath gets another current")
        for name in start:
            width = view.model.nodes[view.output(f"{cell}.{name}")].width
            wanted = past.memory.get(j, {}).get(name, start[name] % 2**width)
            if view.get(values, f"{cell}.{name}") != wanted:
                raise Differs(f"{what}: {name} is not that of its last step")

    def _inputs_of(self, cell: str, values: dict[int, Value]) -> tuple:
        """What the inputs of a datapath are."""
        state = state_ports(self.view.layer.neuron)
        ports = (*state, "I_t", "noise_in", "leak_k", "gain_k", "threshold")
        names = [f"{cell}.{port}" for port in ports]
        return tuple(self.view.get(values, name) for name in names if name in self.view.model.outputs)

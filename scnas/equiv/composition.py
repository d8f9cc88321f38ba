"""A whole inference on the generated top, for every input at once, from any state.

The top is run clock by clock with symbols for spikes while its control, which no data reaches, is known. What
is proved on its own is cut out and stands here for what it was proved to be:

- the counts of a parallel layer and the lane sum of a folded one: a free symbol that means a signed sum of
  the spike bits that were at its inputs (`obligations.counts`, `lanes`);
- a neuron: checked to get the right current, noise and constants once a step, and to be cleared at the start;
  its spike is a free symbol (`obligations.neuron`).

Then every current is compared with the contract: the meanings of its symbols add up to
sum_i sign_ij * ones_ij(t) * s[t - d_ij, i], and the term is sat_W of that sum, scaled. So are the scores, the
class, and the clock in which `done` comes. Letters as in SEMANTICS.md; depth: number of a layer, j neuron.
"""

import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from bitwuzla import Kind, Result

from scnas.equiv import induction, machine
from scnas.equiv.machine import NotUnderstood, Terms, Word, bits, known
from scnas.equiv.obligations import Sum
from scnas.snn.network import Layer, Network
from scnas.snn.streams import noise_sequence, ones_table, stream_thresholds

CELLS = ("sc_lif_neuron", "sc_homeostatic_lif_neuron", "sc_izhikevich_neuron", "sc_neuron_update")


class Differs(Exception):
    """The design does something else than the contract; the text says what."""


def elaborate(network: Network, sources: Mapping[str, str], folder: Path, seconds: float) -> machine.Machine:
    """The top with the counts of parallel layers and all neurons turned into ports."""
    for name, text in sources.items():
        (folder / name).write_text(text)
    apart = [
        f"scnas_layer{depth}_counts"
        for depth, layer in enumerate(network.layers)
        if layer.mapping == "parallel"
    ]
    apart += [f"*{cell}" for cell in CELLS if f"{cell}.v" in sources]
    commands = [f"read_verilog {name}" for name in sources] + ["hierarchy -check -top scnas_top"]
    if apart:
        commands.append(f"setattr -mod -set keep_hierarchy 1 {' '.join(apart)}")
    commands += ["proc", "flatten", "expose -evert scnas_top", "prep -top scnas_top"]
    return machine.elaborate(commands, folder, seconds)


def composition(task: Mapping, folder: Path, deadline: float) -> tuple[str, str]:
    """One inference; pauses[i]: clocks in which transfer i (a step of spikes, or a byte of them) is late."""
    network = Network.from_dict(task["network"])
    model = elaborate(network, task["sources"], folder, deadline - time.monotonic())
    inference = Inference(network, model, deadline)
    try:
        latency = inference.run(task["pauses"], 2 * task["latency_clocks"] + 2 * sum(task["pauses"]) + 100)
    except Differs as difference:
        return "refuted", f"{difference} (clock {inference.clock})"
    except TimeoutError:
        return "unknown", f"time ran out in clock {inference.clock}"
    if not any(task["pauses"]) and latency != task["latency_clocks"]:
        return "refuted", f"{latency} clocks to done, {task['latency_clocks']} in the schedule"
    return "proved", f"{inference.clock} clocks"


class Inference:
    """The run of one inference; see the head of this module."""

    def __init__(self, network: Network, model: machine.Machine, deadline: float):
        self.network, self.model = network, model
        self.terms = Terms()
        self.solver = induction.Solver(self.terms, deadline)
        self.clock = 0
        self.names = {name: node for node, name in model.inputs.items()}
        self.orders: dict[int, list[int]] = {}
        self.next_state: list[int] = []
        self.symbol_word: dict[str, Word] = {}
        T = network.timesteps
        self.arriving = [[self.terms.variable(f"s.{t}", network.n_inputs)[i] for i in range(network.n_inputs)]
                         for t in range(T)]  # fmt: skip
        self.spikes: list[list[list]] = [[] for _ in network.layers]  # [depth][t][j] bit
        self.updates = [0] * len(network.layers)
        self.meanings: dict[str, tuple] = {}  # symbol -> (layer, neuron or None, tap bits, number, weights)
        self.ranges: list = []
        self.memory: list[dict] = [defaultdict(dict) for _ in network.layers]  # folded: n -> field -> word
        self.numbers = [
            stream_thresholds(layer.generator, layer.length, T, layer.seed) for layer in network.layers
        ]
        self.ones = [ones_table(layer.generator, layer.length, T, layer.seed) for layer in network.layers]
        self.noise = [noise_sequence(layer.noise_seed, T) for layer in network.layers]
        self.totals: dict[
            tuple[int, int, int], Word
        ] = {}  # (depth, t, j) -> symbol of a count that was checked
        self.parallel_now = [[0] * layer.n_out for layer in network.layers]  # spike_out of neuron cells
        # The registers of lane sums: what they take is proved by `lanes`, and stands here for its meaning.
        self.cut_registers = {
            self.output(f"layer_{depth}.sum"): depth
            for depth, layer in enumerate(network.layers)
            if layer.mapping == "folded"
        }
        if not set(self.cut_registers) <= set(model.states):
            raise NotUnderstood("the lane sum of a folded layer is not a register")
        self.taps = [tap_order(layer) for layer in network.layers]

    # --- small things ---------------------------------------------------------------------------------------

    def output(self, name: str) -> int:
        """The node of a wire of the flattened top."""
        if name not in self.model.outputs:
            raise NotUnderstood(f"the design has no wire {name}")
        return self.model.outputs[name]

    def get(self, values: dict, name: str):
        """The value of a wire, worked out if it is not there yet."""
        node = self.output(name)
        if node not in values:
            self.model.extend(values, self._order(node), self.terms)
        return values[node]

    def control(self, values: dict, name: str) -> int:
        """The value of a wire that no data may reach."""
        value = self.get(values, name)
        if value.__class__ is not int:
            raise Differs(f"{name} depends on data or on the state before the start")
        return value

    def _order(self, node: int) -> list[int]:
        if node not in self.orders:
            self.orders[node] = self.model.order([node])
        return self.orders[node]

    def previous(self, depth: int, t: int, i: int):
        """s[t, i] of the input of layer `depth`."""
        if t < 0:
            return 0
        source = self.arriving if depth == 0 else self.spikes[depth - 1]
        if t >= len(source):
            raise Differs(f"layer {depth} works on step {t} before it is there")
        return source[t][i]

    # --- what is expected -----------------------------------------------------------------------------------

    def expected(self, depth: int, t: int, j: int) -> Counter:
        """Spike bit -> coefficient of count[t, j] of layer `depth`."""
        layer, wanted = self.network.layers[depth], Counter()
        for i in np.flatnonzero(layer.weights[:, j]):
            w = int(layer.weights[i, j])
            bit = self.previous(depth, t - int(layer.delays[i, j]), int(i))
            if bit != 0:
                wanted[bit] += int(np.sign(w)) * int(self.ones[depth][t, abs(w)])
        return Counter({bit: n for bit, n in wanted.items() if n})

    def meaning(self, names: Sequence[str], depth: int) -> Counter:
        """The sum of what some symbols of layer `depth` mean."""
        found: Counter = Counter()
        for name in names:
            if name not in self.meanings or self.meanings[name][0] != depth:
                raise Differs(f"layer {depth} adds {name}, which is none of its sums")
            _, taps, number, weights = self.meanings[name]
            for k, w in weights:
                if taps[k].__class__ is int:
                    if taps[k] and abs(w) > number:
                        raise Differs(f"layer {depth} sees a spike that is not there")
                elif abs(w) > number:
                    found[taps[k]] += 1 if w > 0 else -1
        return Counter({bit: n for bit, n in found.items() if n})

    def check_sum(
        self, depth: int, word, width: int, wanted: Counter, what: str, scale: int, saturate: bool
    ) -> None:
        """`word` == sat_W(sum * 2^scale), or the plain product, where the sum is `wanted`."""
        terms, manager = self.terms, self.terms.manager
        names = sorted(self.terms.symbols(word), key=lambda name: int(name.rsplit(".", 1)[1]))
        if (got := self.meaning(names, depth)) != wanted:
            extra, less = got - wanted, wanted - got
            raise Differs(
                f"{what} adds other spikes than it should ({len(extra)} too much, {len(less)} too little)"
            )
        low = sum(n for n in wanted.values() if n < 0)
        high = sum(n for n in wanted.values() if n > 0)
        full = max(width, self.network.word) + scale + 2 + len(names).bit_length() + 8
        total = terms.term(0, full)
        for name in names:
            symbol = self.symbol_word[name]
            wide = symbol + (symbol[-1],) * (full - len(symbol))
            total = manager.mk_term(Kind.BV_ADD, [total, terms.term(wide, full)])
        inside = [
            manager.mk_term(Kind.BV_SLE, [terms.term(low, full), total]),
            manager.mk_term(Kind.BV_SLE, [total, terms.term(high, full)]),
        ]
        scaled = manager.mk_term(Kind.BV_SHL, [total, terms.term(scale, full)])
        if saturate:
            scaled = self.saturated(scaled, full)
        got = bits(word, width)
        wide = terms.term(got + (got[-1],) * (full - width), full)
        differs = manager.mk_term(Kind.DISTINCT, [wide, scaled])
        self.decide([*inside, differs], what)

    def saturated(self, term, width: int):
        manager, half = self.terms.manager, 2 ** (self.network.word - 1)
        top, bottom = self.terms.term(half - 1, width), self.terms.term(-half, width)
        high = manager.mk_term(Kind.BV_SGT, [term, top])
        low = manager.mk_term(Kind.BV_SLT, [term, bottom])
        return manager.mk_term(Kind.ITE, [high, top, manager.mk_term(Kind.ITE, [low, bottom, term])])

    def decide(self, formulas: Sequence, what: str) -> None:
        result, _ = self.solver.satisfiable(formulas)
        if result == Result.UNKNOWN:
            raise TimeoutError
        if result == Result.SAT:
            raise Differs(f"{what} is not what it should be")

    def symbol(self, name: str, width: int) -> Word:
        """The free symbol `name` of a sum, remembered with its width."""
        self.symbol_word[name] = self.terms.variable(name, width)
        return self.symbol_word[name]

    # --- the run --------------------------------------------------------------------------------------------

    def transfers(self) -> tuple[str, list[Word]]:
        """The port of the input and what goes through it: steps of spikes, or their bytes."""
        if "in_byte" not in self.names:
            return "in_spikes", [tuple(step) for step in self.arriving]
        padding = (0,) * (-self.network.n_inputs % 8)
        steps = [tuple(step) + padding for step in self.arriving]
        return "in_byte", [step[i : i + 8] for step in steps for i in range(0, len(step), 8)]

    def run(self, pauses: Sequence[int], limit: int) -> int:
        """Run until `done`, for at most `limit` clocks; clocks from the first accepted input to it.

        After the last input more are offered, and must not be taken.
        """
        model, terms = self.model, self.terms
        port, transfers = self.transfers()
        state = model.first_state(terms)
        taken, first, paused, scores = 0, None, 0, []
        while self.clock < limit:
            if time.monotonic() > self.solver.deadline:
                raise TimeoutError
            leaves = dict(state)
            left = taken < len(transfers)
            offered = self.clock >= 2 and (not left or paused >= pauses[taken])
            leaves[self.names["clk"]] = 0
            leaves[self.names["rst_n"]] = 1
            leaves[self.names["start"]] = int(self.clock == 0)
            leaves[self.names["in_valid"]] = int(offered)
            leaves[self.names[port]] = (
                transfers[taken]
                if offered and left
                else terms.variable(f"none.{self.clock}", len(transfers[0]))
            )
            settled = self.clock >= 2
            values = dict(leaves)
            for depth, layer in enumerate(self.network.layers):
                (self.parallel if layer.mapping == "parallel" else self.folded)(depth, layer, values, settled)
            if settled:
                ready = self.control(values, "in_ready")
                if ready and not left:
                    raise Differs("more inputs are taken than there are")
                if offered and ready:
                    first = self.clock if first is None else first
                    taken, paused = taken + 1, 0
                elif ready:
                    paused += 1
                if self.control(values, "score_valid"):
                    scores.append(self.score(len(scores), values))
                if self.control(values, "done"):
                    self.classify(values, scores)
                    return self.clock - first
            model.extend(values, self.everything(), terms)
            state = {}
            for number, node in model.following.items():
                if number not in self.cut_registers:
                    state[number] = model.invert(node, values, terms)
            for number, depth in self.cut_registers.items():
                width, name = model.nodes[number].width, f"z.{depth}.{self.clock}"
                state[number] = (
                    self.symbol(name, width)
                    if name in self.meanings
                    else terms.variable(terms.fresh(), width)
                )
            for number in model.states:
                if number not in state:
                    kept = isinstance(model.nodes[number].width, tuple)  # a ROM
                    state[number] = (
                        leaves[number]
                        if kept
                        else terms.variable(f"free.{number}.{self.clock}", model.nodes[number].width)
                    )
            self.clock += 1
        raise Differs("done never comes")

    def everything(self) -> list[int]:
        """The nodes that the next state needs, without the sums that are cut out."""
        if not self.next_state:
            wanted = [abs(n) for state, n in self.model.following.items() if state not in self.cut_registers]
            self.next_state = self.model.order(wanted)
        return self.next_state

    # --- layers ---------------------------------------------------------------------------------------------

    def parallel(self, depth: int, layer: Layer, values: dict, settled: bool) -> None:
        """Counts and neurons of a parallel layer in this clock."""
        path, fires = f"layer_{depth}", self.network.fires(depth)
        if fires:
            for j in range(layer.n_out):
                cleared = self.get(values, f"{path}.neuron_{j}.rst_n")
                if self.clock >= 1 and cleared != int(self.clock > 1):
                    raise Differs(f"neuron {j} of layer {depth} is not cleared by a start alone")
                now = 0 if self.clock == 1 else self.parallel_now[depth][j]
                if self.clock == 0:  # whatever it did before the start
                    now = self.terms.variable(f"before.{depth}.{j}", 1)[0]
                spike = (now,) if now.__class__ is tuple else now
                values[self.names[f"{path}.neuron_{j}.spike_out"]] = spike
                v = self.names.get(f"{path}.neuron_{j}.v_out")
                if v is not None:
                    values[v] = self.terms.variable(f"v.{depth}.{j}.{self.clock}", self.network.word)
        taps = bits(self.get(values, f"{path}.counts.tap"), len(self.taps[depth]))
        number = self.get(values, f"{path}.counts.number")
        known = number.__class__ is int
        if settled and not known:
            raise Differs(f"the number generator of layer {depth} depends on data")
        for j in range(layer.n_out):
            node = self.names.get(f"{path}.counts.count_{j}")
            if node is None:
                continue
            name = f"c.{depth}.{j}.{self.clock}"
            values[node] = self.symbol(name, self.model.nodes[node].width)
            if known:
                weights = [
                    (k, int(layer.weights[i, j]))
                    for k, (i, d) in enumerate(self.taps[depth])
                    if layer.weights[i, j] and layer.delays[i, j] == d
                ]
                self.meanings[name] = (depth, taps, number, weights)
        if not settled:
            return
        update = self.control(values, f"{path}.update")
        if fires:
            for j in range(layer.n_out):
                if self.control(values, f"{path}.neuron_{j}.step") != update:
                    raise Differs(f"neuron {j} of layer {depth} does not step with its layer")
        if not update:
            return
        t = self.updates[depth]
        self.updates[depth] += 1
        if t >= self.network.timesteps:
            raise Differs(f"layer {depth} updates more often than there are steps")
        if not fires:
            return
        k, new = layer.constants, []
        noise = int(self.noise[depth][t]) * k["noise_k"] >> self.network.fraction
        wanted_noise = noise if layer.neuron == "stochastic_lif" else 0
        scale = (2**self.network.fraction // layer.length).bit_length() - 1
        for j in range(layer.n_out):
            cell, what = f"{path}.neuron_{j}", f"step {t} of neuron {j} of layer {depth}"
            self.constant(values, f"{cell}.noise_in", wanted_noise, what)
            self.constant(values, f"{cell}.gain_k", k["gain_k"], what)
            if layer.neuron != "izhikevich":
                self.constant(values, f"{cell}.leak_k", k["leak_k"], what)
            current = self.get(values, f"{cell}.I_t")
            self.check_sum(
                depth,
                current,
                self.network.word,
                self.expected(depth, t, j),
                f"the current in {what}",
                scale,
                True,
            )
            new.append(self.terms.variable(f"f.{depth}.{t}.{j}", 1)[0])
        self.spikes[depth].append(new)
        self.parallel_now[depth] = new

    def constant(self, values: dict, name: str, wanted: int, what: str) -> None:
        node = self.output(name)
        width = self.model.nodes[node].width
        if self.get(values, name) != wanted % 2**width:
            raise Differs(f"{what}: {name.rsplit('.', 1)[1]} is not {wanted}")

    def folded(self, depth: int, layer: Layer, values: dict, settled: bool) -> None:
        """Lanes and datapath of a folded layer in this clock."""
        path, fires = f"layer_{depth}", self.network.fires(depth)
        n, W = layer.n_out, self.network.word
        update = self.get(values, f"{path}.update")
        if settled and update.__class__ is not int:
            raise Differs(f"the update of layer {depth} depends on data")
        updating = settled and update == 1
        t, j = divmod(self.updates[depth], n)
        scale = (2**self.network.fraction // layer.length).bit_length() - 1
        what = f"step {t} of neuron {j} of layer {depth}"
        if updating:
            if t >= self.network.timesteps:
                raise Differs(f"layer {depth} updates more often than there are steps")
            current = self.get(values, f"{path}.current")
            self.check_sum(
                depth, current, W, self.expected(depth, t, j), f"the current in {what}", scale, True
            )
            self.updates[depth] += 1
            register = self.output(f"{path}.count")
            if not fires and register in self.model.states:  # the score goes on with a symbol
                width = self.model.nodes[register].width
                symbol = self.symbol(f"n.{depth}.{t}.{j}", width)
                self.totals[depth, t, j] = symbol
                low = sum(min(0, c) for c in self.expected(depth, t, j).values())
                high = sum(max(0, c) for c in self.expected(depth, t, j).values())
                term = self.terms.term(symbol, width)
                self.ranges += [
                    self.terms.manager.mk_term(Kind.BV_SLE, [self.terms.term(low, width), term]),
                    self.terms.manager.mk_term(Kind.BV_SLE, [term, self.terms.term(high, width)]),
                ]
                kept = {s: values[s] for s in (*self.model.states, *self.model.inputs) if s in values}
                values.clear()
                values.update(kept)
                values[register] = symbol
        if fires:
            self.datapath(depth, layer, values, updating, t, j, what)
        # What the register `sum` will mean.
        ring, weights = self.get(values, f"{path}.ring"), self.get(values, f"{path}.weights")
        number = self.get(values, f"{path}.number")
        if weights.__class__ is int and number.__class__ is int:
            width = self.model.nodes[self.output(f"{path}.ring")].width
            signed = lane_weights(layer, weights)
            self.meanings[f"z.{depth}.{self.clock}"] = (
                depth,
                bits(ring, width),
                number,
                list(enumerate(signed)),
            )

    def datapath(
        self, depth: int, layer: Layer, values: dict, updating: bool, t: int, j: int, what: str
    ) -> None:
        """The neuron datapath of a folded layer: state of neuron j in, symbols out."""
        path, k, network = f"layer_{depth}", layer.constants, self.network
        cell = f"{path}.datapath"
        start = {"v": k["v_rest"], "extra": 0, "waiting": 0}
        if layer.neuron == "izhikevich":
            start = {"v": k["v_reset"], "extra": k["b_k"] * k["v_reset"] >> network.fraction, "waiting": 0}
        used = {"v"} | ({"extra"} if layer.neuron in ("homeostatic_lif", "izhikevich") else set())
        used |= {"waiting"} if k["refractory"] else set()
        if updating:
            noise = int(self.noise[depth][t]) * k["noise_k"] >> network.fraction
            self.constant(values, f"{cell}.noise_in", noise if layer.neuron == "stochastic_lif" else 0, what)
            self.constant(values, f"{cell}.gain_k", k["gain_k"], what)
            self.constant(values, f"{cell}.threshold", int(layer.threshold[j]), what)
            if layer.neuron != "izhikevich":
                self.constant(values, f"{cell}.leak_k", k["leak_k"], what)
            current = self.get(values, f"{cell}.I_t")
            if current != self.get(values, f"{path}.current"):
                raise Differs(f"{what}: the datapath gets another current")
            for field in used:
                width = self.model.nodes[self.output(f"{cell}.{field}")].width
                wanted = self.memory[depth][j].get(field, start[field] % 2**width)
                if self.get(values, f"{cell}.{field}") != wanted:
                    raise Differs(f"{what}: {field} is not that of its last step")
        for field in ("fires", "v_next", "extra_next", "waiting_next"):
            node = self.names.get(f"{cell}.{field}")
            if node is None:
                continue
            name = f"f.{depth}.{t}.{j}" if field == "fires" and updating else f"{field}.{depth}.{self.clock}"
            values[node] = self.terms.variable(name, self.model.nodes[node].width)
            if updating and field != "fires":
                self.memory[depth][j][field.removesuffix("_next")] = values[node]
        if updating:
            if j == 0:
                self.spikes[depth].append([])
            self.spikes[depth][t].append(self.terms.variable(f"f.{depth}.{t}.{j}", 1)[0])

    # --- readout --------------------------------------------------------------------------------------------

    def score(self, index: int, values: dict) -> Word | int:
        """Check the score that is shown; the word that stands for it from now on."""
        depth, network = len(self.network.layers) - 1, self.network
        layer, T = network.layers[depth], network.timesteps
        if index >= layer.n_out:
            raise Differs("more scores than classes")
        shown = self.get(values, "score")
        width = self.model.nodes[self.output("score")].width
        what = f"score {index}"
        if self.updates[depth] < T * (1 if layer.mapping == "parallel" else layer.n_out) - (
            layer.n_out - 1 - index if layer.mapping == "folded" else 0
        ):
            raise Differs(f"{what} is shown before its last step")
        terms, manager = self.terms, self.terms.manager
        scale = (2**network.fraction // layer.length).bit_length() - 1
        if network.fires(depth):
            full = width + 1
            total = terms.term(0, full)
            for t in range(T):
                spike = (self.spikes[depth][t][index],) + (0,) * (full - 1)
                total = manager.mk_term(Kind.BV_ADD, [total, terms.term(spike, full)])
            wide = bits(shown, width)
            got = terms.term(wide + (wide[-1],), full)
            self.decide([manager.mk_term(Kind.DISTINCT, [got, total])], what)
        elif (depth, 0, index) in self.totals:
            full = width + 2
            total = terms.term(0, full)
            for t in range(T):
                symbol = self.totals[depth, t, index]
                inner = max(network.word, len(symbol)) + scale + 2
                wide = terms.term(
                    (0,) * scale + symbol + (symbol[-1],) * (inner - scale - len(symbol)), inner
                )
                current = self.saturated(wide, inner)
                if inner < full:
                    current = manager.mk_term(Kind.BV_SIGN_EXTEND, [current], [full - inner])
                elif inner > full:
                    current = manager.mk_term(Kind.BV_EXTRACT, [current], [full - 1, 0])
                total = manager.mk_term(Kind.BV_ADD, [total, current])
            wide = bits(shown, width)
            got = terms.term(wide + (wide[-1],) * 2, full)
            self.decide([*self.ranges, manager.mk_term(Kind.DISTINCT, [got, total])], what)
        else:
            wanted: Counter = Counter()
            for t in range(T):
                for bit, n in self.expected(depth, t, index).items():
                    wanted[bit] += n
            half = 2 ** (network.word - 1)
            bounds = [self.expected(depth, t, index) for t in range(T)]
            low = min(sum(n for n in b.values() if n < 0) for b in bounds) << scale
            high = max(sum(n for n in b.values() if n > 0) for b in bounds) << scale
            if low < -half or high >= half:
                raise NotUnderstood("a parallel membrane readout whose current saturates")
            wanted = Counter({bit: n for bit, n in wanted.items() if n})
            self.check_sum(depth, shown, width, wanted, what, scale, False)
        return shown

    def classify(self, values: dict, scores: list) -> None:
        """The class is the lowest with the highest score."""
        layer = self.network.layers[-1]
        if len(scores) != layer.n_out:
            raise Differs(f"{len(scores)} scores at done, {layer.n_out} classes")
        terms, manager = self.terms, self.terms.manager
        width = self.model.nodes[self.output("score")].width
        size = self.model.nodes[self.output("class_index")].width
        best, index = terms.term(scores[0], width), terms.term(0, size)
        for j in range(1, len(scores)):
            other = terms.term(scores[j], width)
            higher = manager.mk_term(Kind.BV_SGT, [other, best])
            best = manager.mk_term(Kind.ITE, [higher, other, best])
            index = manager.mk_term(Kind.ITE, [higher, terms.term(j, size), index])
        got = terms.term(self.get(values, "class_index"), size)
        self.decide([manager.mk_term(Kind.DISTINCT, [got, index])], "the class")


def tap_order(layer: Layer) -> list[tuple[int, int]]:
    """(input, delay) of every tap of a parallel layer."""
    pairs = {(int(i), int(layer.delays[i, j])) for i, j in zip(*np.nonzero(layer.weights), strict=True)}
    return sorted(pairs or {(0, 0)})


def lane_weights(layer: Layer, word: int) -> list[int]:
    """The signed weights of the lanes in one ROM word: magnitude, then sign, lane 0 lowest."""
    size = layer.max_weight.bit_length()
    streams = layer.generator == "sobol" and layer.length <= 2
    if streams:
        size = layer.length
    weights = []
    for lane in range(layer.lanes):
        code = word >> lane * (size + 1) & (2 ** (size + 1) - 1)
        magnitude = code & (2**size - 1)
        if streams:
            magnitude = magnitude.bit_count()
        weights.append(-magnitude if code >> size else magnitude)
    return weights


def lanes(task: Mapping, folder: Path, deadline: float) -> tuple[str, str]:
    """The lane sum of a folded layer, for every ring, every weights and every number.

    The register `sum` takes sum over lanes of ring * sign * [magnitude > number].
    """
    network = Network.from_dict(task["network"])
    depth = task["layer"]
    layer = network.layers[depth]
    model = elaborate(network, task["sources"], folder, deadline - time.monotonic())
    terms = Terms()
    lemma = Sum(terms, induction.Solver(terms, deadline))
    path = f"layer_{depth}"
    register, ring_node = (model.outputs[f"{path}.{name}"] for name in ("sum", "ring"))
    width, ring_width = model.nodes[register].width, model.nodes[ring_node].width
    weights_node = model.outputs[f"{path}.weights"]
    word_width = model.nodes[weights_node].width
    streams = layer.generator == "sobol" and layer.length <= 2
    size = layer.length if streams else layer.max_weight.bit_length()
    fixed = model.nodes[weights_node].op == "value"
    weights = model.nodes[weights_node].args[0] if fixed else terms.variable("weights", word_width)
    given = {} if fixed else {weights_node: weights}

    # The number is bits of the generator's register: free, too.
    number: Word | int = 0
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
    following = model.following[register]

    # Whatever else there is may be anything.
    free = {}
    for node, name in (model.states | model.inputs).items():
        if not isinstance(model.nodes[node].width, tuple):
            free[node] = terms.variable(f"{name}.{node}", model.nodes[node].width)
    ring = terms.variable("ring", ring_width)

    if not (-(1 << (width - 1)) <= -layer.lanes and layer.lanes < 1 << (width - 1)):
        return "refuted", f"sum has {width} bits, and there are {layer.lanes} lanes"
    word = bits(weights, word_width)
    codes = [word[i * (size + 1) : (i + 1) * (size + 1)] for i in range(layer.lanes)]

    # First each lane: on_i == ring[i] and [magnitude > number]. Then their sum, whatever they are.
    on_nodes = [model.outputs.get(f"{path}.on_{i}") for i in range(layer.lanes)]
    leaves = free | given | {ring_node: ring}
    for i, node in enumerate(on_nodes):
        if node is None:
            raise NotUnderstood(f"the design has no wire {path}.on_{i}")
        bit = _lane_bit(terms, codes[i], number, number_width, size, streams)
        both = terms.operation(Kind.BV_AND, [terms.term(ring[i : i + 1], 1), terms.term(bit, 1)], 1)
        got = model.invert(node, model.run([abs(node)], leaves, terms), terms)
        differs = terms.manager.mk_term(Kind.DISTINCT, [terms.term(got, 1), terms.term(both, 1)])
        if lemma.solver.satisfiable([differs])[0] != Result.UNSAT:
            return _late(deadline, f"lane {i}")
    on = terms.variable("on", layer.lanes)

    def sum_of(lanes_on: Word, sign: tuple[int, int]):
        """The next `sum` with these lanes on; sign: (lane, its sign bit), the others are free."""
        cut = {abs(node): known(lanes_on[i : i + 1]) for i, node in enumerate(on_nodes)}
        if not fixed:
            at = sign[0] * (size + 1) + size
            cut[weights_node] = word[:at] + (sign[1],) + word[at + 1 :]
        leaves = free | given | {ring_node: ring} | cut
        return model.invert(following, model.run([abs(following)], leaves, terms), terms)

    if lemma.adds(sum_of((0,) * layer.lanes, (0, 0)), 0, 0, width) != Result.UNSAT:
        return _late(deadline, "the sum is not 0 without spikes")
    for i in range(layer.lanes):
        one, none = (tuple(v if k == i else on[k] for k in range(layer.lanes)) for v in (1, 0))
        for sign in (codes[i][-1],) if fixed else (0, 1):
            before, after = (sum_of(lanes_on, (i, sign)) for lanes_on in (none, one))
            if lemma.adds(before, after, -1 if sign else 1, width) != Result.UNSAT:
                return _late(deadline, f"lane {i} in the sum")
    return "proved", f"{layer.lanes} lanes"


def _late(deadline: float, what: str) -> tuple[str, str]:
    return ("unknown", f"time ran out at {what}") if time.monotonic() >= deadline else ("refuted", what)


def _lane_bit(terms: Terms, code: Word, number, number_width: int, size: int, streams: bool) -> Word | int:
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

"""A whole inference on the generated top: every input, every timing of the inputs, from any state.

The top is run clock by clock with symbols for spikes while its control, which no data reaches, is known. What
is proved on its own is cut out and stands here for what it was proved to be:

- the counts of a parallel layer and the lane sum of a folded one: a free symbol that means a signed sum of
  the spike bits that were at its inputs (`counts`, `lanes`);
- a neuron: checked to get the right current, noise and constants once a step, and to be cleared at the start;
  its spike is a free symbol (`neuron`).

Then every current is compared with the contract: the meanings of its symbols add up to
sum_i sign_ij * ones_ij(t) * s[t - d_ij, i], and the term is sat_W of that sum, scaled. So are the scores, the
class, and the clock in which `done` comes.

Layers are taken one by one, the input registers with the first, the class with the last. S, P, d, r are those
of `hardware.schedule`. What one promises the next, and may rely on itself:

    go      in the clock after it the spikes of a step are there (a parallel layer: until the next go); two
            lie at least S clocks apart. The first layer's lie P apart, T of them, as soon as the inputs are
            there; a later one gets `next` of the layer before
    next    comes d clocks after each go and at no other time, with the spikes of its step
    done    comes d + r clocks after the last go

By induction over the layers the inference is right, and takes the clocks of the schedule if no input is late.
Letters as in SEMANTICS.md; depth: number of a layer, j neuron.
"""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from bitwuzla import Kind, Result

from scnas.equiv import induction, machine
from scnas.equiv.machine import NotUnderstood
from scnas.equiv.reading import lane_weights, tap_order
from scnas.equiv.terms import Terms, Word, bits, known
from scnas.hardware import schedule
from scnas.hardware.circuit.folded import ending
from scnas.hardware.circuit.signal import layer_step_clocks
from scnas.snn.network import Network
from scnas.snn.streams import noise_sequence, ones_table

CELLS = ("sc_lif_neuron", "sc_homeostatic_lif_neuron", "sc_izhikevich_neuron", "sc_neuron_update")


class Differs(Exception):
    """The design does something else than the contract; the text says what."""


def elaborate(network: Network, sources: Mapping[str, str], folder: Path, seconds: float) -> machine.Machine:
    """The top with the counts of parallel layers and all neurons turned into ports."""
    machine.write_sources(sources, folder)
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
    """Layer task["layer"] and what belongs to it, in every inference."""
    network = Network.from_dict(task["network"])
    model = elaborate(network, task["sources"], folder, deadline - time.monotonic())
    part = None
    try:
        part = Part(network, model, task["layer"], deadline)
        return "proved", f"{part.explore()} states"
    except Differs as difference:
        return "refuted", f"{difference} (after {part.past.goes} steps began)" if part else str(difference)
    except TimeoutError:
        return "unknown", f"time ran out after {part.states} states, {part.past.goes} steps began"


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


class Part:
    """One layer in all inferences, with what belongs to it; see the head of this module."""

    def __init__(self, network: Network, model: machine.Machine, depth: int, deadline: float):
        self.network, self.model, self.depth = network, model, depth
        self.layer, self.path, self.fires = network.layers[depth], f"layer_{depth}", network.fires(depth)
        self.first, self.last = depth == 0, depth == len(network.layers) - 1
        self.terms = Terms()
        self.solver = induction.Solver(self.terms, deadline)
        self.clock, self.states, self.past = 0, 0, Past()
        self.names = {name: node for node, name in model.inputs.items()}

        layer, T = self.layer, network.timesteps
        self.scale = (2**network.fraction // layer.length).bit_length() - 1
        self.ones = ones_table(layer.generator, layer.length, T, layer.seed)
        self.noise = noise_sequence(layer.noise_seed, T)
        self.steps = [self._step(t) for t in range(T)]  # [t][i] bits: the spikes that come in
        self.port, self.transfers = self._transfers()
        every = [layer_step_clocks(other) for other in network.layers]
        self.input_clocks = schedule.byte_clocks(network.n_inputs) if self.port == "in_byte" else 0
        self.gap = schedule.period(every, self.input_clocks) if self.first else every[depth]
        self.delay = schedule.layer_delay(every[depth], layer.mapping, self.first, layer.lanes)
        self.to_done = self.delay + schedule.readout_clocks(layer.mapping, layer.n_out, network.readout)

        self.content: dict[tuple, str] = {}  # what a cell got -> the symbol that it answers
        self.symbol_word: dict[str, Word] = {}
        self.meanings: dict[str, tuple] = {}  # symbol of a sum -> (tap bits, number, [(tap, weight)])
        self.totals: dict[tuple[int, int], Word] = {}  # (t, j) -> symbol of a count that was checked
        self.ranges: dict[tuple[int, int], list] = {}  # (t, j) -> its bounds
        self.decided: set[tuple] = set()  # questions to the solver that had the right answer
        self.asked: list[Sequence] = []  # their terms
        self.added: set[tuple] = set()  # sums that were what they should be
        self.taps = tap_order(layer)
        self.weights = [  # of neuron j of a parallel layer: tap, weight
            [
                (k, int(layer.weights[i, j]))
                for k, (i, d) in enumerate(self.taps)
                if layer.weights[i, j] and layer.delays[i, j] == d
            ]
            for j in range(layer.n_out)
        ]
        self.synapses = [  # of neuron j: input, delay, weight
            [(int(i), int(layer.delays[i, j]), int(layer.weights[i, j])) for i in np.flatnonzero(column)]
            for j, column in enumerate(layer.weights.T)
        ]

        # A later layer gets its go and its spikes from the one before, which is left out.
        self.given_go, self.given_spikes = None, []
        if not self.first:
            self.given_go = self.output(f"{self.path}.go")
            self.given_spikes = [(self.output(f"{self.path}.spikes"), range(layer.n_in))]
            before = f"layer_{depth - 1}"
            if self.given_go != self.output(f"{before}.next"):
                raise Differs(f"the go of layer {depth} is not the next of the layer before")
            if self.given_spikes[0][0] != self.output(f"{before}.fired"):
                raise Differs(f"the spikes of layer {depth} are not those of the layer before")
            if (below := network.layers[depth - 1]).mapping == "parallel":
                cells = (f"layer_{depth - 1}.neuron_{i}.spike_out" for i in range(layer.n_in))
                self.given_spikes += [(self.names[cell], [i]) for i, cell in enumerate(cells)]
            elif below.units > 1:
                each = below.n_out // below.units
                kind = "held" if layer.mapping == "parallel" else "shifted"
                self.given_spikes += [
                    (self.output(f"{before}.{kind}{ending(unit)}"), range(unit * each, (unit + 1) * each))
                    for unit in range(below.units)
                ]
        # Somewhere in a parallel layer, which then saturates in every step instead of adding all up.
        self.saturates = layer.mapping == "parallel" and any(
            low << self.scale < -(2 ** (network.word - 1)) or high << self.scale >= 2 ** (network.word - 1)
            for t in range(T) for low, high in (self.bounds(self.expected(t, j)) for j in range(layer.n_out))
        )  # fmt: skip
        self.registers = self._registers()
        # The registers of lane sums: what they take is proved by `lanes`, and stands here for its meaning.
        self.each = layer.n_out // layer.units
        self.staged = schedule.is_staged(layer.mapping, layer.lanes)
        self.cut_registers = self._cut_registers() if layer.mapping == "folded" else {}
        self.next_symbol: dict[int, str] = {}  # of those: what each will hold
        self.following = {
            number: node
            for number, node in model.following.items()
            if number in self.registers and number not in self.cut_registers
        }
        self.wanted = [abs(node) for node in self.following.values()]
        self.unfollowed = [number for number in self.registers if number not in model.following]
        memories = {number for number in self.registers if model.nodes[number].is_memory}
        roms = {number for number in memories if model.following.get(number, number) == number}
        self.changing = sorted(self.registers - roms)  # what two states can differ in

    def _step(self, t: int) -> tuple:
        if self.first:
            return self.terms.variable(f"s.{t}", self.layer.n_in)
        return tuple(self.terms.variable(f"f.{self.depth - 1}.{t}.{i}", 1)[0] for i in range(self.layer.n_in))

    def _transfers(self) -> tuple[str, list[Word]]:
        """The port of the input and what goes through it: steps of spikes, or their bytes."""
        if "in_byte" not in self.names:
            return "in_spikes", self.steps
        padding = (0,) * (-self.network.n_inputs % 8)
        steps = [step + padding for step in self.steps]
        return "in_byte", [step[i : i + 8] for step in steps for i in range(0, len(step), 8)]

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
        """Register -> unit and name of those that hold the lane sums of a folded layer, or lead to them."""
        names = ("stage", "sum") if self.staged else ("sum",)
        found = {
            self.output(f"{self.path}.{name}{ending(unit)}"): (unit, name)
            for unit in range(self.layer.units)
            for name in names
        }
        if missing := found.keys() - self.registers:
            raise NotUnderstood(f"{found[min(missing)][1]} of a folded layer is not a register")
        return found

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
            self.model.extend(values, [node], self.terms)
        return values[node]

    def control(self, values: dict, name: str) -> int:
        """The value of a wire that no data may reach."""
        value = self.get(values, name)
        if value.__class__ is not int:
            raise Differs(f"{name} depends on data or on the state before the start")
        return value

    def constant(self, values: dict, name: str, wanted: int, what: str) -> None:
        width = self.model.nodes[self.output(name)].width
        if self.get(values, name) != wanted % 2**width:
            raise Differs(f"{what}: {name.rsplit('.', 1)[1]} is not {wanted}")

    def named(self, kind: str, *content) -> str:
        """The name of what a cell answers to `content`: the same answer whenever it is the same."""
        return self.content.setdefault((kind, *content), f"{kind}.{len(self.content)}")

    def symbol(self, name: str, width: int) -> Word:
        """The free symbol `name` of a sum, remembered with its width."""
        self.symbol_word[name] = self.terms.variable(name, width)
        return self.symbol_word[name]

    def decide(self, formulas: Sequence, what: str) -> None:
        """Differs if the formulas can all be true. Asked once."""
        question = tuple(formula.id() for formula in formulas)
        if question in self.decided:
            return
        result, _ = self.solver.satisfiable(formulas)
        if result == Result.UNKNOWN:
            raise TimeoutError
        if result == Result.SAT:
            raise Differs(f"{what} is not what it should be")
        self.decided.add(question)
        self.asked.append(formulas)  # keeps the terms, and so their numbers

    # --- what is expected -----------------------------------------------------------------------------------

    def expected(self, t: int, j: int) -> Counter:
        """Spike bit -> coefficient of count[t, j]."""
        wanted: Counter = Counter()
        for i, delay, w in self.synapses[j]:
            if t >= delay:
                wanted[self.steps[t - delay][i]] += w // abs(w) * int(self.ones[t, abs(w)])
        return Counter({bit: n for bit, n in wanted.items() if n})

    def bounds(self, wanted: Counter) -> tuple[int, int]:
        """The least and the greatest value of a sum of spikes."""
        return sum(min(0, n) for n in wanted.values()), sum(max(0, n) for n in wanted.values())

    def meaning(self, names: Sequence[str]) -> Counter:
        """The sum of what some symbols mean."""
        found: Counter = Counter()
        for name in names:
            if name not in self.meanings:
                raise Differs(f"layer {self.depth} adds {name}, which is none of its sums")
            taps, number, weights = self.meanings[name]
            for k, w in weights:
                if taps[k].__class__ is int:
                    if taps[k] and abs(w) > number:
                        raise Differs(f"layer {self.depth} sees a spike that is not there")
                elif abs(w) > number:
                    found[taps[k]] += 1 if w > 0 else -1
        return Counter({bit: n for bit, n in found.items() if n})

    def check_sum(
        self, word, width: int, wanted: Counter, what: str, saturate: bool, scale: int | None = None
    ) -> None:
        """`word` == sat_W(sum * 2^scale), or the plain product, where the sum is `wanted`.

        scale: that of a current, unless another is given.
        """
        scale = self.scale if scale is None else scale
        question = (word, width, frozenset(wanted.items()), saturate, scale)
        if question in self.added:
            return
        terms, manager = self.terms, self.terms.manager
        names = sorted(self.terms.symbols(word), key=lambda name: int(name.rsplit(".", 1)[1]))
        if (got := self.meaning(names)) != wanted:
            extra, less = got - wanted, wanted - got
            raise Differs(
                f"{what} adds other spikes than it should ({len(extra)} too much, {len(less)} too little)"
            )
        low, high = self.bounds(wanted)
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
        self.added.add(question)

    def saturated(self, term, width: int):
        manager, half = self.terms.manager, 2 ** (self.network.word - 1)
        top, bottom = self.terms.term(half - 1, width), self.terms.term(-half, width)
        high = manager.mk_term(Kind.BV_SGT, [term, top])
        low = manager.mk_term(Kind.BV_SLT, [term, bottom])
        return manager.mk_term(Kind.ITE, [high, top, manager.mk_term(Kind.ITE, [low, bottom, term])])

    # --- all inferences -------------------------------------------------------------------------------------

    def explore(self) -> int:
        """Follow every inference; how many states there are.

        Whenever an input may come, or the layer before may pass a step on, both are followed: it does, and it
        does not yet. Two runs that have come to the same registers and the same past go on alike, so each is
        followed once: waiting changes nothing after a while.
        """
        state = {n: v for n, v in self.model.first_state(self.terms).items() if n in self.registers}
        for self.clock in (0, 1):
            values = self.leaves(state, None)
            self.work(values)
            if self.clock == 1:
                self.promises(values)
            state = self.after(state, values)
        self.clock = 2
        varied = {self.given_go} if self.given_go else {self.names["in_valid"], self.names[self.port]}
        reached = self._reached(varied)
        fed = [number for number, node in self.following.items() if abs(node) in reached]
        number: dict[tuple, int] = {}
        eager: dict[int, tuple[int | None, bool, bool]] = {}  # state -> next if the input is there, ready, go

        contents: dict[object, int] = {}  # what a register held -> a number for it: a key is short then

        def content(value) -> int:
            value = frozenset(value.items()) if value.__class__ is dict else value
            return contents.setdefault(value, len(contents))

        def enter(state: dict) -> tuple[int, bool]:
            key = (self.past.key(), *(content(state[n]) for n in self.changing))
            known = key in number
            self.states = len(number)
            return number.setdefault(key, len(number)), not known

        waiting = [(enter(state)[0], state, self.past)]
        while waiting:
            if time.monotonic() > self.solver.deadline:
                raise TimeoutError
            here, state, past = waiting.pop()
            self.past = replace(past)
            values = self.leaves(state, None)
            self.work(values)
            if self.last and self.done(values):
                eager[here] = (None, False, False)
                continue
            self.promises(values)
            now = self.past
            choices, ready = self.choices(values)
            while choices:
                choice = choices.pop(0)
                self.past = replace(now)
                again = values
                if choice is not None:
                    again = {node: value for node, value in values.items() if node not in reached}
                    again |= self.environment(choice)
                go = self.get(again, f"{self.path}.go")
                following = self.after(state, again)
                if choice is None and (go.__class__ is not int or self._heard(following, fed)):
                    choices = [0, 1]
                    continue
                self.begin(go, ready and choice == 1)
                there, new = enter(following)
                if choice != 0:
                    ended = self.past.goes == self.network.timesteps and not self.last
                    eager[here] = (None if ended else there, ready, bool(go))
                if new:
                    waiting.append((there, following, self.past))
        if self.first:
            self._in_time(eager)
        return len(number)

    def leaves(self, state: Mapping, choice: int | None) -> dict:
        """Registers and inputs in this clock; the run begins with a start."""
        inputs = {"clk": 0, "rst_n": 1, "start": int(self.clock == 0)}
        return dict(state) | {self.names[n]: v for n, v in inputs.items()} | self.environment(choice)

    def environment(self, choice: int | None) -> dict:
        """What comes in: 1: an input (first layer), a go (later ones); 0: none; None: undecided, or none.

        In the first clock anything may be.
        """
        past, clock, port = self.past, self.clock, self.names[self.port]
        if self.first:
            if choice == 1 and past.taken < len(self.transfers):
                offered = self.transfers[past.taken]
            else:
                offered = self.terms.variable("not.offered", self.model.nodes[port].width)
            valid = self.terms.variable("in_valid", 1) if choice is None else choice
            return {self.names["in_valid"]: valid, port: offered}
        n = self.layer.n_in
        if clock == 0:
            spikes, go = self.terms.variable("before.spikes", n), self.terms.variable("before.go", 1)
        else:
            go = choice or 0
            if self.layer.mapping == "parallel":
                spikes = self.steps[past.goes - 1] if past.goes else (0,) * n
            elif past.goes and past.since == 1:
                spikes = self.steps[past.goes - 1]
            else:
                spikes = self.terms.variable(f"none.{past.goes}.{past.since}", n)
        given = {node: known(tuple(spikes[i] for i in which)) for node, which in self.given_spikes}
        anything = {self.names["in_valid"]: 1, port: self.model.nodes[port].width}  # not for this layer
        anything = {node: self.terms.variable(f"input.{node}", width) for node, width in anything.items()}
        return anything | given | {self.given_go: go}

    def choices(self, values: dict) -> tuple[list[int | None], bool]:
        """What may come in now, and whether an input would be taken."""
        past = self.past
        if self.first:
            ready, left = self.control(values, "in_ready"), past.taken < len(self.transfers)
            if ready and not left:
                raise Differs("more inputs are taken than there are")
            return ([0, 1] if ready else [None]), bool(ready)
        may = past.goes < self.network.timesteps and (past.goes == 0 or past.since >= self.gap)
        return ([0, 1] if may else [None]), False

    def begin(self, go: int, taken: bool) -> None:
        """Go on to the next clock; go: a step begins in this one."""
        past = self.past
        past.taken += taken
        if go and past.goes == self.network.timesteps:
            raise Differs("more steps begin than there are")
        if go and past.goes and past.since < self.gap:
            raise Differs(f"two steps begin within {past.since} clocks, the slowest layer needs {self.gap}")
        past.ages = () if self.last else tuple(age + 1 for age in past.ages) + (1,) * go
        past.goes += go
        end = self.to_done + 1 if self.last and past.goes == self.network.timesteps else self.gap
        past.since = 1 if go else min(past.since + 1, end) if past.goes else 0

    def promises(self, values: dict) -> None:
        """What the next layer relies on, in this clock."""
        if self.last:
            return
        past, n = self.past, self.layer.n_out
        answered = past.goes - len(past.ages)
        if past.told or self.network.layers[self.depth + 1].mapping == "parallel":
            fired = bits(self.get(values, f"{self.path}.fired"), n)
            if fired != (self.in_order(past.spikes[answered - 1]) if answered else (0,) * n):
                raise Differs(f"layer {self.depth} shows other spikes than those of step {answered - 1}")
        due = bool(past.ages) and past.ages[0] == self.delay
        if self.control(values, f"{self.path}.next") != due:
            raise Differs(f"layer {self.depth} passes step {answered} on " + ("late" if due else "early"))
        past.told = due
        if due:
            past.ages = past.ages[1:]
            if len(past.spikes) != answered + 1 or len(past.spikes[answered]) != n:
                raise Differs(f"layer {self.depth} passes step {answered} on before it has its spikes")

    def done(self, values: dict) -> bool:
        """Scores and class in this clock; True when the inference is over."""
        past = self.past
        if self.control(values, "score_valid"):
            past.scores += (self.score(len(past.scores), values),)
        due = past.goes == self.network.timesteps and past.since == self.to_done
        if self.control(values, "done") != due:
            raise Differs(
                f"done does not come {self.to_done} clocks after the last step began, and only then"
            )
        if due:
            self.classify(values, past.scores)
        return due

    def _in_time(self, eager: Mapping[int, tuple[int | None, bool, bool]]) -> None:
        """With inputs that are there every step begins, from any state; from the start in its clock."""
        ends: set[int] = set()
        for start in eager:
            path, here = set(), start
            while here is not None and here not in ends:
                if here in path:
                    raise Differs("a step never begins")
                path.add(here)
                here = eager[here][0]
            ends |= path
        clock, first, begun, here = 0, None, [], 0
        while here is not None:
            here, ready, go = eager[here]
            first = clock if ready and first is None else first
            begun += [clock] * go
            clock += 1
        wanted = [first + self.input_clocks + t * self.gap for t in range(self.network.timesteps)]
        if begun != wanted:
            raise Differs(f"steps begin in clocks {begun}, in the schedule {wanted}")

    def _heard(self, following: Mapping, fed: Sequence[int]) -> bool:
        """Did an input that is not there yet reach a register?"""
        return any({"in_valid", "not.offered"} & self.terms.symbols(following[n]) for n in fed)

    def _reached(self, sources: set[int]) -> set[int]:
        """The nodes that some nodes reach within a clock."""
        found = set(sources)
        for number in sorted(self.model.nodes):
            if any(abs(a) in found for a in self.model.arguments(number)):
                found.add(number)
        return found

    def after(self, state: Mapping, values: dict) -> dict:
        """The registers one clock later."""
        model, terms = self.model, self.terms
        model.extend(values, self.wanted, terms)
        following = {n: model.invert(node, values, terms) for n, node in self.following.items()}
        for number, name in self.next_symbol.items():
            width = model.nodes[number].width
            following[number] = (
                self.symbol(name, width) if name in self.meanings else terms.variable(terms.fresh(), width)
            )
        for number in self.unfollowed:
            if model.nodes[number].is_memory:  # a ROM
                following[number] = state[number]
            else:  # undefined: anything, and something else in every clock that differs by more than waiting
                width = model.nodes[number].width
                name = f"free.{number}.{self.past.goes}.{self.past.since}.{self.past.ran}"
                following[number] = terms.variable(name, width)
        return following

    # --- the layer ------------------------------------------------------------------------------------------

    def work(self, values: dict) -> None:
        """The layer in this clock: what is checked of it, and the symbols of what is cut out."""
        (self.parallel if self.layer.mapping == "parallel" else self.folded)(values, self.clock >= 2)

    def run_clock(self, values: dict, settled: bool) -> int:
        """How many stream clocks the layer ran before this one; this one is counted."""
        ran = self.past.ran
        if settled:
            self.past.ran += self.control(values, f"{self.path}.run")
        return ran

    def update(self, values: dict) -> int:
        """Is this the clock of an update? It may not come more often than there are steps."""
        update = self.control(values, f"{self.path}.update")
        each = 1 if self.layer.mapping == "parallel" else self.each
        if update and self.past.updates >= each * self.past.goes:
            raise Differs(f"layer {self.depth} updates more often than there are steps")
        self.past.updates += update
        return update

    def constants(self, values: dict, cell: str, t: int, what: str) -> None:
        """The inputs of a neuron that the network fixes."""
        k, layer = self.layer.constants, self.layer
        noise = int(self.noise[t]) * k["noise_k"] >> self.network.fraction
        self.constant(values, f"{cell}.noise_in", noise if layer.neuron == "stochastic_lif" else 0, what)
        self.constant(values, f"{cell}.gain_k", k["gain_k"], what)
        if layer.neuron != "izhikevich":
            self.constant(values, f"{cell}.leak_k", k["leak_k"], what)

    def parallel(self, values: dict, settled: bool) -> None:
        """Counts and neurons of a parallel layer in this clock."""
        path, depth, n = self.path, self.depth, self.layer.n_out
        if self.fires:
            for j in range(n):
                cleared = self.get(values, f"{path}.neuron_{j}.rst_n")
                if self.clock >= 1 and cleared != int(self.clock > 1):
                    raise Differs(f"neuron {j} of layer {depth} is not cleared by a start alone")
                now = self.past.now[j] if self.past.now else 0
                if self.clock == 0:  # whatever it did before the start
                    now = self.terms.variable(f"before.{depth}.{j}", 1)[0]
                values[self.names[f"{path}.neuron_{j}.spike_out"]] = known((now,))
                v = self.names.get(f"{path}.neuron_{j}.v_out")
                if v is not None:
                    values[v] = self.terms.variable(self.terms.fresh(), self.network.word)
        taps = bits(self.get(values, f"{path}.counts.tap"), len(self.taps))
        number = self.get(values, f"{path}.counts.number")
        numbered = number.__class__ is int
        if settled and not numbered:
            raise Differs(f"the number generator of layer {depth} depends on data")
        ran = self.run_clock(values, settled)
        for j in range(n):
            node = self.names.get(f"{path}.counts.count_{j}")
            if node is None:
                continue
            name = self.named(f"c.{depth}.{j}", ran, taps, number)
            values[node] = self.symbol(name, self.model.nodes[node].width)
            if numbered:
                self.meanings[name] = (taps, number, self.weights[j])
        if not settled:
            return
        t, update = self.past.updates, self.update(values)
        if not self.fires:
            if update and self.saturates:
                self.cut_counts(values, t, {j: f"{path}.total_{j}" for j in range(n)})
            return
        for j in range(n):
            if self.control(values, f"{path}.neuron_{j}.step") != update:
                raise Differs(f"neuron {j} of layer {depth} does not step with its layer")
        if not update:
            return
        for j in range(n):
            what = f"step {t} of neuron {j} of layer {depth}"
            self.constants(values, f"{path}.neuron_{j}", t, what)
            current = self.get(values, f"{path}.neuron_{j}.I_t")
            what = f"the current in {what}"
            self.check_sum(current, self.network.word, self.expected(t, j), what, True)
        self.past.now = tuple(self.terms.variable(f"f.{depth}.{t}.{j}", 1)[0] for j in range(n))
        self.past.spikes += (self.past.now,)

    def folded(self, values: dict, settled: bool) -> None:
        """Lanes and datapaths of a folded layer in this clock."""
        t, place = divmod(self.past.updates, self.each)
        updating = settled and bool(self.update(values))
        ran = self.run_clock(values, settled)
        for unit in range(self.layer.units):
            x, j = ending(unit), unit * self.each + place
            what = f"step {t} of neuron {j} of layer {self.depth}"
            if updating:
                if not self.fires and self.output(f"{self.path}.count") in self.registers:
                    self.cut_counts(values, t, {j: f"{self.path}.count"})
                else:
                    current = self.get(values, f"{self.path}.current{x}")
                    wanted = self.expected(t, j)
                    self.check_sum(current, self.network.word, wanted, f"the current in {what}", True)
            if self.fires:
                self.datapath(values, updating, t, unit, j, what)
            self.sums(values, unit, ran)

    def sums(self, values: dict, unit: int, ran: int) -> None:
        """What the lane sum of a unit will mean, and the stage before it."""
        path, x = self.path, ending(unit)
        ring, weights = self.get(values, f"{path}.ring"), self.get(values, f"{path}.weights")
        number = self.get(values, f"{path}.number")
        name = self.named(f"z.{self.depth}", unit, ran, ring, weights, number)
        if weights.__class__ is int and number.__class__ is int and name not in self.meanings:
            spikes = bits(ring, self.model.nodes[self.output(f"{path}.ring")].width)
            lanes = [(i, w) for i, w in enumerate(lane_weights(self.layer, unit, weights)) if w]
            self.meanings[name] = (spikes, number, lanes)
        total = self.output(f"{path}.sum{x}")
        if self.staged:
            stage = self.output(f"{path}.stage{x}")
            self.next_symbol[stage] = name
            held = values[stage]
            name = self.named(f"y.{self.depth}", unit, held)
            if name not in self.meanings and (known := self.meanings.get(self.word_symbol(held))):
                self.meanings[name] = known
        self.next_symbol[total] = name

    def word_symbol(self, word) -> str:
        """The symbol that `word` is, whole and nothing else; "" if it is none."""
        names = self.terms.symbols(word)
        name = min(names, default="")
        return name if len(names) == 1 and self.symbol_word.get(name) == word else ""

    def in_order(self, spikes: Sequence) -> tuple:
        """Spikes of a step, as the units found them, neuron by neuron."""
        units = self.layer.units
        return tuple(spikes[j % self.each * units + j // self.each] for j in range(len(spikes)))

    def cut_counts(self, values: dict, t: int, counts: Mapping[int, str]) -> None:
        """The counts of step t of some neurons, j -> wire, are what they should be. Where a register holds
        one, a symbol stands for it from here on, and the score is made of that."""
        cut = {}
        for j, name in counts.items():
            node, wanted = self.output(name), self.expected(t, j)
            width, word = self.model.nodes[node].width, self.get(values, name)
            what = f"the count in step {t} of neuron {j} of layer {self.depth}"
            self.check_sum(word, width, wanted, what, False, 0)
            if node in self.registers:
                word = cut[node] = self.symbol(f"n.{self.depth}.{t}.{j}", width)
            self.totals[t, j] = word = bits(word, width)
            manager, term = self.terms.manager, self.terms.term(word, width)
            low, high = (self.terms.term(end, width) for end in self.bounds(wanted))
            self.ranges[t, j] = [
                manager.mk_term(Kind.BV_SLE, [low, term]),
                manager.mk_term(Kind.BV_SLE, [term, high]),
            ]
        kept = {s: values[s] for s in (*self.model.states, *self.model.inputs) if s in values}
        kept |= {node: values[node] for node in self.environment(None)}
        values.clear()
        values.update(kept | cut)

    def datapath(self, values: dict, updating: bool, t: int, unit: int, j: int, what: str) -> None:
        """The neuron datapath of a unit: state of neuron j in, symbols out."""
        path, k, layer, past = self.path, self.layer.constants, self.layer, self.past
        x = ending(unit)
        cell = f"{path}.datapath{x}"
        start = {"v": k["v_rest"], "extra": 0, "waiting": 0}
        if layer.neuron == "izhikevich":
            start |= {"v": k["v_reset"], "extra": k["b_k"] * k["v_reset"] >> self.network.fraction}
        used = {"v"} | ({"extra"} if layer.neuron in ("homeostatic_lif", "izhikevich") else set())
        used |= {"waiting"} if k["refractory"] else set()
        if updating:
            self.constants(values, cell, t, what)
            self.constant(values, f"{cell}.threshold", int(layer.threshold[j]), what)
            if self.get(values, f"{cell}.I_t") != self.get(values, f"{path}.current{x}"):
                raise Differs(f"{what}: the datapath gets another current")
            for name in used:
                width = self.model.nodes[self.output(f"{cell}.{name}")].width
                wanted = past.memory.get(j, {}).get(name, start[name] % 2**width)
                if self.get(values, f"{cell}.{name}") != wanted:
                    raise Differs(f"{what}: {name} is not that of its last step")
        kept = {}
        for name in ("fires", "v_next", "extra_next", "waiting_next"):
            node = self.names.get(f"{cell}.{name}")
            if node is None:
                continue
            if updating:
                symbol = f"{'f' if name == 'fires' else name}.{self.depth}.{t}.{j}"
            else:
                symbol = self.named(f"{name}.{self.depth}", unit, *self.inputs_of(cell, values))
            values[node] = self.terms.variable(symbol, self.model.nodes[node].width)
            if name != "fires":
                kept[name.removesuffix("_next")] = values[node]
        if updating:
            past.memory = {**past.memory, j: kept}
            spike = self.terms.variable(f"f.{self.depth}.{t}.{j}", 1)[0]
            before = past.spikes[:t]
            past.spikes = before + ((*(past.spikes[t] if len(past.spikes) > t else ()), spike),)

    def inputs_of(self, cell: str, values: dict) -> tuple:
        """What the inputs of a datapath are."""
        ports = ("v", "extra", "waiting", "I_t", "noise_in", "leak_k", "gain_k", "threshold")
        names = [f"{cell}.{port}" for port in ports]
        return tuple(self.get(values, name) for name in names if name in self.model.outputs)

    # --- readout --------------------------------------------------------------------------------------------

    def score(self, index: int, values: dict) -> Word | int:
        """Check the score that is shown; the word that stands for it from now on."""
        network, layer, T = self.network, self.layer, self.network.timesteps
        if index >= layer.n_out:
            raise Differs("more scores than classes")
        shown = self.get(values, "score")
        width = self.model.nodes[self.output("score")].width
        what = f"score {index}"
        if self.past.updates < T * (1 if layer.mapping == "parallel" else layer.n_out) - (
            layer.n_out - 1 - index if layer.mapping == "folded" else 0
        ):
            raise Differs(f"{what} is shown before its last step")
        terms, manager, scale = self.terms, self.terms.manager, self.scale
        if self.fires:
            full = width + 1
            total = terms.term(0, full)
            for t in range(T):
                spike = (self.past.spikes[t][index],) + (0,) * (full - 1)
                total = manager.mk_term(Kind.BV_ADD, [total, terms.term(spike, full)])
            wide = bits(shown, width)
            got = terms.term(wide + (wide[-1],), full)
            self.decide([manager.mk_term(Kind.DISTINCT, [got, total])], what)
        elif (0, index) in self.totals:
            full = width + 2
            total = terms.term(0, full)
            for t in range(T):
                symbol = self.totals[t, index]
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
            ranges = [bound for t in range(T) for bound in self.ranges[t, index]]
            self.decide([*ranges, manager.mk_term(Kind.DISTINCT, [got, total])], what)
        else:
            wanted: Counter = Counter()
            for t in range(T):
                for bit, n in self.expected(t, index).items():
                    wanted[bit] += n
            wanted = Counter({bit: n for bit, n in wanted.items() if n})
            self.check_sum(shown, width, wanted, what, False)
        return shown

    def classify(self, values: dict, scores: Sequence) -> None:
        """The class is the lowest with the highest score."""
        if len(scores) != self.layer.n_out:
            raise Differs(f"{len(scores)} scores at done, {self.layer.n_out} classes")
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

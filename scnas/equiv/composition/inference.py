"""Every inference of a layer followed, clock by clock; see the head of the package."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from scnas.equiv import induction
from scnas.equiv.composition.readout import Readout
from scnas.equiv.composition.sums import Sums
from scnas.equiv.composition.view import Differs, View, elaborate
from scnas.equiv.composition.work import Past, Work
from scnas.equiv.machine import Machine
from scnas.equiv.terms import Terms, Value, Word, bits, known
from scnas.hardware import schedule
from scnas.hardware.circuit.signal import layer_step_clocks
from scnas.snn.network import Network

State = Mapping[int, Value]  # register -> what it holds


def composition(task: Mapping, folder: Path, deadline: float) -> tuple[str, str]:
    """Layer task["layer"] and what belongs to it, in every inference."""
    network = Network.from_dict(task["network"])
    model = elaborate(network, task["sources"], folder, deadline - time.monotonic())
    try:
        part = Part(network, model, task["layer"], deadline)
    except Differs as difference:
        return "refuted", str(difference)
    try:
        return "proved", f"{part.explore()} states"
    except Differs as difference:
        return "refuted", f"{difference} (after {part.past.goes} steps began)"
    except TimeoutError:
        return "unknown", f"time ran out after {part.states} states, {part.past.goes} steps began"


class Part:
    """One layer in all inferences, with what belongs to it.

    past: of the inference that is followed now. states: how many were found. gap: clocks between two goes,
    at least; delay: between go and `next`; to_done: from the last go to `done`.
    """

    def __init__(self, network: Network, model: Machine, depth: int, deadline: float) -> None:
        terms = Terms()
        self.solver = induction.Solver(terms, deadline)
        self.view = View(network, model, terms, depth)
        self.sums = Sums(self.view, self.solver)
        self.work, self.readout = Work(self.view, self.sums), Readout(self.view, self.sums)
        self.states, self.past = 0, Past()
        layer, first = self.view.layer, self.view.first
        self.transfers = self._transfers()
        every = [layer_step_clocks(other) for other in network.layers]
        self.input_clocks = schedule.byte_clocks(network.n_inputs) if self.view.port == "in_byte" else 0
        self.gap = schedule.period(every, self.input_clocks) if first else every[depth]
        self.delay = schedule.layer_delay(every[depth], layer.mapping, first, layer.lanes)
        self.to_done = self.delay + schedule.readout_clocks(layer.mapping, layer.n_out, network.readout)

    def _transfers(self) -> list[Word]:
        """What goes through the port of the input: steps of spikes, or their bytes."""
        if self.view.port == "in_spikes":
            return self.sums.steps
        padding = (0,) * (-self.view.network.n_inputs % 8)
        steps = [step + padding for step in self.sums.steps]
        return [step[i : i + 8] for step in steps for i in range(0, len(step), 8)]

    def explore(self) -> int:
        """Follow every inference; how many states there are.

        Whenever an input may come, or the layer before may pass a step on, both are followed: it does, and it
        does not yet. Two runs that have come to the same registers and the same past go on alike, so each is
        followed once: waiting changes nothing after a while.
        """
        view, seen = self.view, _Seen(self.view.changing)
        given = {view.names["in_valid"], view.names[view.port]} if view.given_go is None else {view.given_go}
        reached = self._reached(given)
        fed = [number for number, node in view.following.items() if abs(node) in reached]
        eager: dict[int, tuple[int | None, bool, bool]] = {}  # state -> next if the input is there, ready, go
        state = self._started()
        waiting = [(seen.enter(state, self.past)[0], state, self.past)]
        while waiting:
            if time.monotonic() > self.solver.deadline:
                raise TimeoutError
            here, state, past = waiting.pop()
            self.past = replace(past)
            values = self._leaves(state, None, 2)
            self.work.clock(values, self.past, 2)
            if view.last and self._done(values):
                eager[here] = (None, False, False)
                continue
            self._promises(values)
            now = self.past
            choices, ready = self._choices(values)
            while choices:
                choice = choices.pop(0)
                self.past = replace(now)
                again = values
                if choice is not None:
                    again = {node: value for node, value in values.items() if node not in reached}
                    again |= self._environment(choice, 2)
                go = view.get(again, f"{view.path}.go")
                following = self._after(state, again)
                if choice is None and (go.__class__ is not int or self._heard(following, fed)):
                    choices = [0, 1]
                    continue
                self._begin(go, ready and choice == 1)
                there, new = seen.enter(following, self.past)
                self.states = len(seen.number) - new
                if choice != 0:
                    ended = self.past.goes == view.network.timesteps and not view.last
                    eager[here] = (None if ended else there, ready, bool(go))
                if new:
                    waiting.append((there, following, self.past))
        if view.first:
            self._in_time(eager)
        return len(seen.number)

    def _started(self) -> State:
        """The registers after a start in clock 0, two clocks later, from any state before."""
        registers = self.view.registers
        state: State = {
            number: value
            for number, value in self.view.model.first_state(self.view.terms).items()
            if number in registers
        }
        for clock in (0, 1):
            values = self._leaves(state, None, clock)
            self.work.clock(values, self.past, clock)
            if clock == 1:
                self._promises(values)
            state = self._after(state, values)
        return state

    # --- what comes in --------------------------------------------------------------------------------------

    def _leaves(self, state: State, choice: int | None, clock: int) -> dict[int, Value]:
        """Registers and inputs in this clock; the run begins with a start."""
        inputs = {"clk": 0, "rst_n": 1, "start": int(clock == 0)}
        named = {self.view.names[name]: value for name, value in inputs.items()}
        return {**state, **named, **self._environment(choice, clock)}

    def _environment(self, choice: int | None, clock: int) -> dict[int, Value]:
        """What comes in: 1: an input (first layer), a go (later ones); 0: none; None: undecided, or none.

        In the first clock anything may be.
        """
        view, terms, past = self.view, self.view.terms, self.past
        valid, port = view.names["in_valid"], view.names[view.port]
        size = view.model.nodes[port].width
        if view.given_go is None:
            offered = terms.variable("not.offered", size)
            if choice == 1 and past.taken < len(self.transfers):
                offered = self.transfers[past.taken]
            return {valid: terms.variable("in_valid", 1) if choice is None else choice, port: offered}
        spikes = self._step_in(clock)
        go = terms.variable("before.go", 1) if clock == 0 else choice or 0
        given = {node: known(tuple(spikes[i] for i in which)) for node, which in view.given_spikes}
        # not for this layer: anything
        anything = {
            node: terms.variable(f"input.{node}", width) for node, width in ((valid, 1), (port, size))
        }
        return {**anything, **given, view.given_go: go}

    def _step_in(self, clock: int) -> Word:
        """The spikes that the layer before shows in this clock."""
        past, n, variable = self.past, self.view.layer.n_in, self.view.terms.variable
        if clock == 0:
            return variable("before.spikes", n)
        if self.view.layer.mapping == "parallel":
            return self.sums.steps[past.goes - 1] if past.goes else (0,) * n
        if past.goes and past.since == 1:
            return self.sums.steps[past.goes - 1]
        return variable(f"none.{past.goes}.{past.since}", n)

    def _choices(self, values: dict[int, Value]) -> tuple[list[int | None], bool]:
        """What may come in now, and whether an input would be taken."""
        past = self.past
        if self.view.first:
            ready, left = self.view.control(values, "in_ready"), past.taken < len(self.transfers)
            if ready and not left:
                raise Differs("more inputs are taken than there are")
            return ([0, 1] if ready else [None]), bool(ready)
        may = past.goes < self.view.network.timesteps and (past.goes == 0 or past.since >= self.gap)
        return ([0, 1] if may else [None]), False

    def _heard(self, following: State, fed: Sequence[int]) -> bool:
        """Did an input that is not there yet reach a register?"""
        return any({"in_valid", "not.offered"} & self.view.terms.symbols(following[n]) for n in fed)

    def _reached(self, sources: set[int]) -> set[int]:
        """The nodes that some nodes reach within a clock."""
        found = set(sources)
        for number in sorted(self.view.model.nodes):
            if any(abs(a) in found for a in self.view.model.arguments(number)):
                found.add(number)
        return found

    # --- from clock to clock --------------------------------------------------------------------------------

    def _after(self, state: State, values: dict[int, Value]) -> State:
        """The registers one clock later."""
        view, model, terms, past = self.view, self.view.model, self.view.terms, self.past
        model.extend(values, view.wanted, terms)
        following = {n: model.invert(node, values, terms) for n, node in view.following.items()}
        for number, name in self.work.next_symbol.items():
            width = model.nodes[number].width
            known_sum = name in self.sums.meanings
            following[number] = (
                self.sums.symbol(name, width) if known_sum else terms.variable(terms.fresh(), width)
            )
        for number in view.unfollowed:
            if model.nodes[number].is_memory:  # a ROM
                following[number] = state[number]
            else:  # undefined: anything, and something else in every clock that differs by more than waiting
                name = f"free.{number}.{past.goes}.{past.since}.{past.ran}"
                following[number] = terms.variable(name, model.nodes[number].width)
        return following

    def _begin(self, go: int, taken: bool) -> None:
        """Go on to the next clock; go: a step begins in this one."""
        past, T, last = self.past, self.view.network.timesteps, self.view.last
        past.taken += taken
        if go and past.goes == T:
            raise Differs("more steps begin than there are")
        if go and past.goes and past.since < self.gap:
            raise Differs(f"two steps begin within {past.since} clocks, the slowest layer needs {self.gap}")
        past.ages = () if last else tuple(age + 1 for age in past.ages) + (1,) * go
        past.goes += go
        end = self.to_done + 1 if last and past.goes == T else self.gap
        past.since = 1 if go else min(past.since + 1, end) if past.goes else 0

    # --- what goes out --------------------------------------------------------------------------------------

    def _promises(self, values: dict[int, Value]) -> None:
        """What the next layer relies on, in this clock."""
        view, past, depth, n = self.view, self.past, self.view.depth, self.view.layer.n_out
        if view.last:
            return
        answered = past.goes - len(past.ages)
        if past.told or view.network.layers[depth + 1].mapping == "parallel":
            fired = bits(view.get(values, f"{view.path}.fired"), n)
            if fired != (self.work.in_order(past.spikes[answered - 1]) if answered else (0,) * n):
                raise Differs(f"layer {depth} shows other spikes than those of step {answered - 1}")
        due = bool(past.ages) and past.ages[0] == self.delay
        if view.control(values, f"{view.path}.next") != due:
            raise Differs(f"layer {depth} passes step {answered} on " + ("late" if due else "early"))
        past.told = due
        if due:
            past.ages = past.ages[1:]
            if len(past.spikes) != answered + 1 or len(past.spikes[answered]) != n:
                raise Differs(f"layer {depth} passes step {answered} on before it has its spikes")

    def _done(self, values: dict[int, Value]) -> bool:
        """Scores and class in this clock; True when the inference is over."""
        past = self.past
        if self.view.control(values, "score_valid"):
            past.scores += (self.readout.score(values, past),)
        due = past.goes == self.view.network.timesteps and past.since == self.to_done
        if self.view.control(values, "done") != due:
            raise Differs(
                f"done does not come {self.to_done} clocks after the last step began, and only then"
            )
        if due:
            self.readout.classify(values, past.scores)
        return due

    def _in_time(self, eager: Mapping[int, tuple[int | None, bool, bool]]) -> None:
        """With inputs that are there every step begins, from any state; from the start in its clock.

        eager: state -> the next one if the input is there, whether it is taken, and whether a step begins.
        """
        ends: set[int] = set()
        for start in eager:
            path: set[int] = set()
            state: int | None = start
            while state is not None and state not in ends:
                if state in path:
                    raise Differs("a step never begins")
                path.add(state)
                state = eager[state][0]
            ends |= path
        clock, first, begun = 0, None, []
        here: int | None = 0
        while here is not None:
            here, ready, go = eager[here]
            first = clock if ready and first is None else first
            begun += [clock] * go
            clock += 1
        steps = range(self.view.network.timesteps)
        wanted = [] if first is None else [first + self.input_clocks + t * self.gap for t in steps]
        if begun != wanted:
            raise Differs(f"steps begin in clocks {begun}, in the schedule {wanted}")


class _Seen:
    """The states that were found, by number: registers, and a past from which everything goes on alike."""

    def __init__(self, changing: Sequence[int]) -> None:
        self.changing = changing
        self.number: dict[tuple, int] = {}
        self._contents: dict[object, int] = {}  # what a register held -> a number for it: a key is short then

    def enter(self, state: State, past: Past) -> tuple[int, bool]:
        """The number of a state, and whether it is a new one."""
        key = (past.key(), *(self._content(state[number]) for number in self.changing))
        new = key not in self.number
        return self.number.setdefault(key, len(self.number)), new

    def _content(self, value: Value) -> int:
        content = frozenset(value.items()) if value.__class__ is dict else value
        return self._contents.setdefault(content, len(self._contents))

"""What has to hold for a design to be its network, each as a function that answers (status, detail).

status: `proved`, `refuted` or `unknown`. A design that they do not understand raises machine.NotUnderstood,
which the caller reports as unknown; whatever else goes wrong is an exception, too, and an error. All of them
get their sources as text and work in a folder of their own.

Letters: T steps, L stream clocks, s[t, i] spike of input i in step t, R(t, c) the number of stream clock c.
"""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from bitwuzla import Kind, Result

from scnas.equiv import induction, machine
from scnas.equiv.cells import Hidden, generate_miter, hidden_state, miter_script
from scnas.equiv.machine import Machine
from scnas.equiv.terms import Terms, bits


def neuron(task: Mapping, folder: Path, deadline: float) -> tuple[str, str]:
    """A neuron of the design, with the parameters it has there, against the reference with the network's."""
    _write(task["sources"], folder)
    settings = {
        "dut_parameters": task["dut_parameters"],
        "noise_width": task["noise_width"],
        "constants": task["constants"],
    }
    folded = task["dut"] == "sc_update_as_neuron"
    word = (task["data_width"], task["fraction"])

    def model(hidden: Hidden) -> Machine:
        miter = generate_miter(
            task["dut"], task["ref"], "miter", *word, parameters=task["parameters"],
            noise_range=task.get("noise_range"), hidden=hidden, **settings,
        )  # fmt: skip
        (folder / "miter.v").write_text(miter)
        commands = miter_script("miter", [*task["sources"], "miter.v"], hidden)
        return machine.elaborate(commands, folder, deadline - time.monotonic())

    hidden = hidden_state(task["ref"], task["parameters"], *word, **settings, folded=folded)
    why = "induction failed"
    try:
        now = time.monotonic()
        answer = induction.prove(model(hidden), 1, now + 0.7 * (deadline - now), hidden.cuts)
    except (machine.NotUnderstood, machine.YosysFailed) as inside:  # not built as thought, or broken
        answer, why = induction.Answer("unknown", 0), str(inside)
    inner = answer.status == "refuted" and not answer.failed.endswith("_equal")
    if answer.status == "unknown" or inner:  # only what the ports show refutes: look for a difference there
        pair = model(Hidden())
        answer = induction.simulated(pair, 2000, 0, deadline)
        if answer.status == "unknown":
            answer = induction.bounded(pair, 6, deadline)
        if answer.status != "refuted":
            return "unknown", f"{why}; no difference within {answer.depth} clocks"
    detail = f"{answer.failed} in clock {answer.depth}" if answer.status != "proved" else ""
    if answer.status == "refuted":
        shown = ("rst_n", "step", "I_t", "noise_in", "spike_out", "v_out")
        detail += ": " + "; ".join(
            " ".join(f"{name}={row[name]}" for name in shown if name in row) for row in answer.table[-4:]
        )
    return answer.status, detail


class Sum:
    """A signed word that should be the sum of some bits, each times its coefficient.

    Proved bit by bit: with no bit set the word is 0, and setting any one bit, whatever the others are, adds
    its coefficient. By induction over the bits that are set this is the sum, however it is built.
    """

    def __init__(self, terms: Terms, solver: induction.Solver):
        self.terms, self.solver = terms, solver

    def adds(self, before, after, amount, width: int, facts: Sequence = ()) -> Result:
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
    _write(task["sources"], folder)
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
    number = terms.variable("number", number_bits) if task["numbers"] > 1 else 0
    for j, synapses in task["weights"].items():
        output = model.outputs[f"count_{j}"]
        width = model.nodes[abs(output)].width

        def count(spikes, output=output):
            leaves = {node: spikes if port == "tap" else number for port, node in ports.items()}
            return model.invert(output, model.run([abs(output)], leaves, terms), terms)

        coefficients = dict(synapses)
        reach = sum(abs(w) > 0 for w in coefficients.values())
        low = -sum(w < 0 for w in coefficients.values())
        high = sum(w > 0 for w in coefficients.values())
        if not -(1 << (width - 1)) <= low <= high < 1 << (width - 1):
            return "refuted", f"count_{j} has {width} bits, and {reach} synapses"
        if lemma.adds(0, count(0), 0, width) != Result.UNSAT:
            return _undecided(deadline, f"count_{j} is not 0 without spikes")
        for i in range(n_taps):
            weight = coefficients.get(i, 0)
            step = _stream_bit(terms, number, number_bits, abs(weight))
            amount = _signed(terms, step, 1 if weight > 0 else -1, width)
            one = tuple(1 if k == i else tap[k] for k in range(n_taps))
            none = tuple(0 if k == i else tap[k] for k in range(n_taps))
            if lemma.adds(count(none), count(one), amount, width) != Result.UNSAT:
                return _undecided(deadline, f"tap {i} of count_{j}")
    return "proved", f"{len(task['weights'])} neurons"


def _undecided(deadline: float, what: str) -> tuple[str, str]:
    return ("unknown", f"time ran out at {what}") if time.monotonic() >= deadline else ("refuted", what)


def _stream_bit(terms: Terms, number, width: int, magnitude: int):
    """[magnitude > number] as one bit."""
    if magnitude >> width:
        return 1
    if number.__class__ is int:
        return int(magnitude > number)
    above = terms.manager.mk_term(Kind.BV_UGT, [terms.term(magnitude, width), terms.term(number, width)])
    return terms.operation(Kind.ITE, [above, terms.term(1, 1), terms.term(0, 1)], 1)


def _signed(terms: Terms, bit, sign: int, width: int):
    """bit * sign as a word."""
    if bit.__class__ is int:
        return bit * sign
    wide = bits(bit, 1) + (0,) * (width - 1)
    if sign > 0:
        return wide
    return bits(bit, 1) * width  # -1 is all ones


def generator(task: Mapping, folder: Path, deadline: float) -> tuple[str, str]:
    """A number generator over a full period, its reset included.

    The counter is run through two periods. Of the LFSR, every transition is proved at once (all 65536
    states), and the first 256 clocks are run.
    """
    from scnas.snn.streams import lfsr_states, van_der_corput

    _write(task["sources"], folder)
    cell, setting = task["cell"], task["setting"]
    parameter = "SEED" if cell == "sc_lfsr" else "BITS"
    commands = [f"read_verilog {file}" for file in task["sources"]]
    commands += [f"chparam -set {parameter} {setting} {cell}", f"prep -flatten -top {cell}"]
    model = machine.elaborate(commands, folder, deadline - time.monotonic())
    terms = Terms()
    state = model.first_state(terms)
    inputs = {"clk": 0, "rst_n": 0, "step": 1, "back": 0, "mark": 0}
    if cell == "sc_lfsr":
        expected = [int(x) & 0xFF for x in lfsr_states(setting, 256)]
        if not _lfsr_transition(model, terms, deadline):
            return _undecided(deadline, "a transition")
    else:
        expected = [int(x) for x in van_der_corput(2**setting)] * 2
    for clock in range(-1, len(expected)):
        leaves = dict(state) | {n: inputs[name] for n, name in model.inputs.items() if name in inputs}
        wanted = [*model.outputs.values(), *model.following.values()]
        values = model.run(wanted, leaves, terms)
        got = values[model.outputs["number"]]
        if clock >= 0 and got != expected[clock]:
            return "refuted", f"clock {clock}: {got}, wanted {expected[clock]}"
        if cell == "sc_sobol_counter" and clock >= 0:
            last = values[model.outputs["last"]]
            if last != int((clock + 1) % 2**setting == 0):
                return "refuted", f"clock {clock}: last is {last}"
        state = {s: model.invert(n, values, terms) for s, n in model.following.items()}
        inputs["rst_n"] = 1
        if time.monotonic() > deadline:
            return "unknown", f"time ran out in clock {clock}"
    return "proved", "every state" if cell == "sc_lfsr" else "two periods"


def _lfsr_transition(model: Machine, terms: Terms, deadline: float) -> bool:
    """From every state the next number is that of eight shifts, and without `step` the state stays."""
    (register,) = {node for node in model.states if _reaches(model, model.outputs["number"], node)}
    state = terms.variable("state", 16)
    free = {node: terms.variable(f"free{node}", model.nodes[node].width) for node in model.states}
    shifted = list(state)
    for _ in range(8):
        feedback = [terms.term((shifted[i],), 1) for i in (15, 14, 12, 3)]
        bit = terms.operation(Kind.BV_XOR, feedback, 1)[0]
        shifted = [bit, *shifted[:-1]]
    solver = induction.Solver(terms, deadline)
    for step, wanted in ((1, tuple(shifted)), (0, state)):
        inputs = {"clk": 0, "rst_n": 1, "step": step, "back": 0, "mark": 0}
        leaves = (
            free | {register: state} | {n: inputs[name] for n, name in model.inputs.items() if name in inputs}
        )
        node = model.following[register]
        following = model.invert(node, model.run([abs(node)], leaves, terms), terms)
        differs = terms.manager.mk_term(Kind.DISTINCT, [terms.term(following, 16), terms.term(wanted, 16)])
        if solver.satisfiable([differs])[0] != Result.UNSAT:
            return False
    return True


def _reaches(model: Machine, node: int, source: int) -> bool:
    return source in model.order([abs(node)])


def encoder(task: Mapping, folder: Path, deadline: float) -> tuple[str, str]:
    """The rate encoder for every value and every step."""
    from scnas.snn.streams import van_der_corput

    _write(task["sources"], folder)
    steps_log2 = task["steps_log2"]
    commands = [f"read_verilog {file}" for file in task["sources"]]
    commands += [
        f"chparam -set STEPS_LOG2 {steps_log2} sc_rate_encoder",
        "prep -flatten -top sc_rate_encoder",
    ]
    model = machine.elaborate(commands, folder, deadline - time.monotonic())
    terms = Terms()
    solver = induction.Solver(terms, deadline)
    ports = {port: node for node, port in model.inputs.items()}
    width = steps_log2 + 1
    value = terms.variable("value", width)
    for t, threshold in enumerate(van_der_corput(2**steps_log2).tolist()):
        leaves = {ports["value"]: value, ports["t"]: t}
        output = model.outputs["spike"]
        spike = terms.term(model.invert(output, model.run([abs(output)], leaves, terms), terms), 1)
        above = terms.manager.mk_term(Kind.BV_UGT, [terms.term(value, width), terms.term(threshold, width)])
        wanted = terms.manager.mk_term(Kind.ITE, [above, terms.term(1, 1), terms.term(0, 1)])
        result, _ = solver.satisfiable([terms.manager.mk_term(Kind.DISTINCT, [spike, wanted])])
        if result != Result.UNSAT:
            return _undecided(deadline, f"step {t}")
    return "proved", f"{2**steps_log2} steps, every value"


def _write(sources: Mapping[str, str], folder: Path) -> None:
    for name, text in sources.items():
        (folder / name).write_text(text)

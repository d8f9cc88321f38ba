"""The obligations of number generators and of the rate encoder: they follow their definitions."""

import time
from collections.abc import Mapping
from pathlib import Path

from bitwuzla import Kind, Result

from scnas.equiv import induction, machine
from scnas.equiv.machine import Machine
from scnas.equiv.terms import Terms
from scnas.snn.streams import lfsr_states, van_der_corput


def generator(task: Mapping, folder: Path, deadline: float) -> tuple[str, str]:
    """A number generator over a full period, its reset included.

    The counter is run through two periods. Of the LFSR, every transition is proved at once (all 65536
    states), and the first 256 clocks are run.
    """
    machine.write_sources(task["sources"], folder)
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
            return induction.undecided(deadline, "a transition")
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
    machine.write_sources(task["sources"], folder)
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
            return induction.undecided(deadline, f"step {t}")
    return "proved", f"{2**steps_log2} steps, every value"

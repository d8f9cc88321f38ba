"""The obligation of a neuron: as it stands in a design it does what the contract says, for ever."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scnas.equiv import derived, induction, machine
from scnas.equiv.hidden import hidden_state
from scnas.equiv.machine import Machine
from scnas.equiv.miter import Hidden, generate_miter, miter_script


def neuron(task: Mapping, folder: Path, deadline: float) -> tuple[str, str]:
    """A neuron of the design, with the parameters it has there, against the reference with the network's."""
    if "missing" in task:
        return "unknown", task["missing"]
    machine.write_sources(task["sources"], folder)
    settings: dict[str, Any] = {
        "dut_parameters": task["dut_parameters"],
        "noise_width": task["noise_width"],
        "constants": task["constants"],
    }
    folded = task["dut"] == "sc_update_as_neuron"
    word = (task["data_width"], task["fraction"])

    def model(hidden: Hidden) -> Machine:
        given = settings | {"parameters": task["parameters"], "noise_range": task.get("noise_range")}
        miter = generate_miter(task["dut"], task["ref"], "miter", *word, **given, hidden=hidden)
        (folder / "miter.v").write_text(miter)
        commands = miter_script("miter", [*task["sources"], "miter.v"], hidden)
        return machine.elaborate(commands, folder, deadline - time.monotonic())

    if task["dut"] == derived.DUT:
        hidden = derived.hidden_state(task)
    else:
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

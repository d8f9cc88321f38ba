"""Proofs: what is proved, what is refuted, and that nothing else ever reads as either."""

import json
import random
import re
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from networks import random_layer, random_network

from scnas import processes, resources
from scnas.contract import Refused
from scnas.equiv import EquivResult, check_equivalence, generate_miter, generate_sby, tools, trace
from scnas.equiv.tasks import tasks_of
from scnas.hardware import schedule
from scnas.hardware.circuit import tree as trees
from scnas.hardware.circuit.top import write_design
from scnas.hardware.tools.cosimulation import SIMULATORS
from scnas.snn.network import Network

needs_tools = pytest.mark.skipif(bool(tools.missing_tools()), reason=tools.missing_tools() or "-")

CONSTANTS = {"leak_k": 64, "gain_k": 256, "noise_in": 0}
HDL = resources.hdl()


def small_network(mappings=("parallel", "parallel"), readout="membrane", seed=1, **settings) -> Network:
    """4-3-2 with delays, T = 2, 10-bit words: every obligation in about a second."""
    rng = np.random.default_rng(seed)
    sizes, layers = (4, 3, 2), []
    for i, mapping in enumerate(mappings):
        folded = mapping == "folded"
        options = {
            "neuron": ("lif", "if")[i],
            "generator": ("sobol", "lfsr")[i],
            "length": 2,
            "refractory": 1,
        }
        options |= {"max_delay": 1, "timesteps": 2, "word": 10, "fraction": 4} | settings
        options |= {"mapping": mapping, "lanes": 3 if folded else None}
        layers.append(random_layer(rng, sizes[i], sizes[i + 1], **options))
    return Network(4, 2, "rate", 4, 10, readout, tuple(layers))


# --- what a result says ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "status, passed",
    [
        ("proved", True),
        ("bounded", True),
        ("refuted", False),
        ("unknown", None),
        ("not_run", None),
        ("error", None),
    ],
)
def test_only_proved_and_bounded_pass(status, passed):
    result = EquivResult("dut", status, 30, "smtbmc bitwuzla", "the log")
    assert result.passed is passed
    shown = {"not_run": "NOT RUN", "bounded": "no difference within 30"}.get(status, status.upper())
    assert shown in result.summary()


def test_a_status_nobody_knows_is_refused():
    with pytest.raises(ValueError, match="status must be one of proved, bounded, .* got 'PROVED'"):
        EquivResult("dut", "PROVED", 30, "smtbmc bitwuzla", "")


def test_without_running_nothing_is_proved(tmp_path):
    result = check_equivalence(folder=tmp_path)
    assert (result.status, result.passed) == ("not_run", None)
    assert "NOT RUN" in result.summary() and "PROVED" not in result.summary()
    assert {path.name for path in result.files} >= {
        "sc_lif_neuron.v",
        "sc_lif_reference.v",
        "sc_lif_neuron_miter.v",
        "sc_lif_neuron_miter_prove.sby",
    }
    assert all(path.is_file() for path in result.files)


def test_a_missing_tool_is_named_and_nothing_is_proved(tmp_path, monkeypatch):
    monkeypatch.setattr(
        tools, "missing_tools", lambda *_: "bitwuzla not installed: pip install 'scnas[hardware]'"
    )
    result = check_equivalence(folder=tmp_path, run=True)
    assert (result.status, result.passed) == ("not_run", None)
    assert "pip install" in result.summary()


# --- the texts ---------------------------------------------------------------------------------------------


def test_the_miter_has_the_port_list_of_the_contract():
    text = generate_miter("a", "b", "top")
    ports = [line.split()[-1].rstrip(",") for line in text.splitlines() if line.startswith("    input")]
    assert ports == ["clk", "rst_n", "step", "leak_k", "gain_k", "I_t", "noise_in"]
    for port in (*ports, "spike_out", "v_out"):
        assert text.count(f".{port}(") == 2  # both modules
    assert "assert (dut_spike == ref_spike)" in text and "assert (dut_v == ref_v)" in text
    assert "assume (!rst_n)" in text and "cover (" in text


def test_a_tied_input_is_no_port():
    text = generate_miter("a", "b", "top", 8, constants={"leak_k": -3})
    assert "wire signed [7:0] leak_k = 8'hfd;" in text and "input wire signed [7:0] leak_k" not in text


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: generate_miter("a b", "b", "top"), "a module name must be an identifier, got 'a b'"),
        (lambda: generate_miter("a", "b", "top", constants={"leek": 1}), "constants may hold .* got leek"),
        (lambda: generate_sby("top", ["a.v"], mode="guess"), "mode must be prove, bmc or cover, got 'guess'"),
        (lambda: generate_sby("top", ["a.v"], depth=0), "depth must be at least 1, got 0"),
        (lambda: check_equivalence(mode="cover"), "mode must be prove or bmc, got 'cover'"),
    ],
)
def test_a_wrong_setting_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_the_proof_files_of_the_cells_are_those_that_are_generated():
    from scnas.equiv.__main__ import prebuilt

    files = prebuilt()
    assert {f"{cell.stem}.sby" for cell in HDL.glob("*.v")} - {"sc_neuron_update.sby"} <= set(files)
    for name, text in files.items():
        assert (HDL / "equiv" / name).read_text() == text, f"{name}: python -m scnas.equiv --write"


# --- SymbiYosys --------------------------------------------------------------------------------------------


@needs_tools
def test_the_lif_cell_is_proved_for_ever(tmp_path):
    result = check_equivalence(folder=tmp_path, run=True, constants=CONSTANTS)
    assert (result.status, result.passed) == ("proved", True), result.log


@pytest.fixture(scope="module")
def unequal(tmp_path_factory) -> EquivResult:
    """The refuted proof of a cell with a threshold that is one too high."""
    late, folder = {"V_THRESHOLD": 257}, tmp_path_factory.mktemp("unequal")
    return check_equivalence(folder=folder, run=True, constants=CONSTANTS, dut_parameters=late)


@needs_tools
def test_a_refuted_proof_shows_the_inputs(unequal):
    result = unequal
    assert (result.status, result.passed) == ("refuted", False), result.log
    assert result.trace.is_file()
    assert result.table[0]["rst_n"] == 0  # begins with a reset
    wrong = [i for i, row in enumerate(result.table) if row["dut_spike"] != row["ref_spike"]]
    assert wrong and result.table[wrong[0]]["ref_v"] == 0
    assert str(result.table[1]["I_t"]) in result.summary()


@needs_tools
@pytest.mark.parametrize(
    "simulator",
    [
        pytest.param(name, marks=pytest.mark.slow if trace.simulators()[:1] == ("icarus",) != (name,) else ())
        for name in SIMULATORS
    ],  # Verilator compiles C++: on the way to every commit only where there is nothing else
)
def test_the_trace_of_a_refuted_proof_replays_to_the_same_mismatch(simulator, unequal):
    if simulator not in trace.simulators():
        pytest.skip(f"{simulator} is not there: {trace.INSTALL}")
    seen = [{wire: row[wire] for wire in trace.SHOWN} for row in unequal.table]
    assert any(row["dut_spike"] != row["ref_spike"] for row in seen)
    assert list(unequal.replay(simulator)) == seen


def test_a_replay_says_which_simulator_is_missing(monkeypatch, tmp_path):
    monkeypatch.setattr(trace, "simulators", lambda: ())
    with pytest.raises(Refused, match="no simulator: install Icarus"):
        trace.replay("top", [], [{}], tmp_path)
    with pytest.raises(Refused, match="verilator is not there: install Icarus"):
        trace.replay("top", [], [{}], tmp_path, "verilator")


@needs_tools
def test_two_dead_neurons_are_not_equal_ones(tmp_path):
    # gain 0: no input ever reaches the membrane, so neither can fire, whatever its threshold.
    result = check_equivalence(folder=tmp_path, run=True, depth=3, constants=CONSTANTS | {"gain_k": 0})
    assert (result.status, result.passed) == ("unknown", None)
    assert "no spike was reached" in result.log


@needs_tools
def test_a_missing_file_is_an_error(tmp_path):
    result = check_equivalence("no_such_cell", folder=tmp_path, run=True)
    assert (result.status, result.passed) == ("error", None)
    assert "no_such_cell" in result.log


@needs_tools
def test_a_syntax_error_is_an_error(tmp_path):
    cell = tmp_path / "sc_lif_neuron.v"
    cell.write_text((HDL / "sc_lif_neuron.v").read_text().replace("endmodule", "endmodul"))
    result = check_equivalence(cell, folder=tmp_path / "proof", run=True, constants=CONSTANTS)
    assert (result.status, result.passed) == ("error", None)


def proof_of_a_wire(folder: Path, engine="smtbmc bitwuzla", claim="a == a") -> Path:
    """A script in `folder` that proves `claim` about a free wire."""
    text = f"module top(input a); always @* begin assert ({claim}); end endmodule\n"
    (folder / "top.v").write_text(text)
    (folder / "top.sby").write_text(generate_sby("top", ["top.v"], 2, engine))
    return folder / "top.sby"


@needs_tools
@pytest.mark.parametrize(
    "before, after",
    [
        ("prep -top top", "prepp -top top"),
        ("top.v\n", "topp.v\n"),
        ("mode prove", "mode proove"),
        ("[engines]", "[engine]"),
    ],
    ids=["command", "file", "mode", "section"],
)
def test_a_typing_slip_in_the_script_is_an_error(before, after, tmp_path):
    from scnas.equiv.sby import verdict

    script = proof_of_a_wire(tmp_path)
    assert verdict(tools.sby(script.name, tmp_path, 60)) == "passed"
    script.write_text(script.read_text().replace(before, after))
    assert verdict(tools.sby(script.name, tmp_path, 60)) == "error"


@needs_tools
def test_a_crashing_solver_is_an_error_and_a_false_claim_is_refuted(tmp_path, monkeypatch):
    from scnas.equiv.sby import verdict

    script = proof_of_a_wire(tmp_path, claim="a == 0")
    assert verdict(tools.sby(script.name, tmp_path, 60)) == "refuted"
    crash = tmp_path / "broken"
    crash.mkdir()
    for name in ("yosys.py", "solver.py"):
        shutil.copy(tools.HERE / name, crash / name)
    (crash / "solver.py").write_text(
        "import sys\nprint('--lang') if '--help' in sys.argv else sys.exit(139)\n"
    )
    monkeypatch.setattr(tools, "HERE", crash)
    assert verdict(tools.sby(script.name, tmp_path, 60)) == "error"


@needs_tools
def test_time_that_runs_out_is_unknown_and_leaves_no_process(tmp_path):
    result = check_equivalence(folder=tmp_path, run=True, timeout_s=0.3)
    assert (result.status, result.passed) == ("unknown", None)
    mine = str(tmp_path).encode()

    def alive() -> list[str]:
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if mine in (process / "environ").read_bytes():
                    found.append(process.name)
            except OSError:
                continue
        return found

    deadline = time.monotonic() + 20  # what was killed may take a moment to go on a busy machine
    while alive() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not alive()


@pytest.mark.parametrize(
    "code, output, answer",
    [
        (0, "DONE (PASS, rc=0)", "passed"),
        (2, "DONE (FAIL, rc=2)", "refuted"),
        (4, "DONE (UNKNOWN, rc=4)", "unknown"),
        (8, "DONE (TIMEOUT, rc=8)", "unknown"),
        (16, "DONE (ERROR, rc=16)", "error"),
        (0, "", "error"),  # ended well, said nothing
        (2, "usage: sby", "error"),
        (1, "Traceback", "error"),
        (-11, "", "error"),
        (None, "DONE (PASS, rc=0)", "unknown"),
    ],
)
def test_only_two_endings_are_a_verdict(code, output, answer):
    from scnas.equiv.sby import verdict

    assert verdict(processes.Finished(code, output, "", 1.0)) == answer


def test_statements_are_cut_where_they_end():
    from scnas.equiv.solver import statements

    text = ["(set-logic QF_BV)\n", "; a ) comment\n", "(assert (= |a)| \n", "  b))(check-sat)\n"]
    assert list(statements(text)) == ["(set-logic QF_BV)", "(assert (= |a)| \n  b))", "(check-sat)"]
    with pytest.raises(ValueError, match="ends inside a statement"):
        list(statements(["(assert (a)"]))


# --- machines ----------------------------------------------------------------------------------------------


@needs_tools
def test_an_operator_on_numbers_is_that_of_the_solver():
    from scnas.equiv.operators import ARITHMETIC, COMPARISON, binary
    from scnas.equiv.terms import Terms

    dice = random.Random(0)
    terms = Terms()
    operators = {**ARITHMETIC, **COMPARISON}
    assert len(operators) > 20
    for op, (kind, _) in operators.items():
        for _ in range(12):
            width = dice.choice([1, 4, 9])
            a, b = (dice.choice([0, 1, 2**width - 1, dice.randrange(2**width)]) for _ in range(2))
            term = terms.manager.mk_term(kind, [terms.term(a, width), terms.term(b, width)])
            import bitwuzla

            solver = bitwuzla.Bitwuzla(terms.manager, bitwuzla.Options())
            value = solver.simplify_term(term)
            wanted = int(value.is_true()) if op in COMPARISON else int(value.value(10))
            assert binary(op, a, b, width, terms) == wanted, (op, a, b, width)


@needs_tools
def test_operators_on_partly_known_words_are_those_of_the_solver():
    """Shortcuts for known bits: whatever the unknown ones are, the same as the operator itself."""
    import bitwuzla
    from bitwuzla import Kind, Result

    from scnas.equiv.operators import ARITHMETIC, COMPARISON, binary
    from scnas.equiv.terms import Terms, known

    dice = random.Random(1)
    terms = Terms()
    x = terms.variable("x", 5)
    for op, (kind, _) in {**ARITHMETIC, **COMPARISON}.items():
        for _ in range(8):
            word = known(tuple(dice.choice([bit, bit, 0, 1]) for bit in x))
            other = dice.choice([0, 1, 2, 4, 8, 31, x, word])
            a, b = dice.choice([(word, other), (other, word)])
            got = binary(op, a, b, 5, terms)
            plain = terms.manager.mk_term(kind, [terms.term(a, 5), terms.term(b, 5)])
            if op in COMPARISON:
                differs = terms.manager.mk_term(Kind.DISTINCT, [terms.truth(got), plain])
            else:
                differs = terms.manager.mk_term(Kind.DISTINCT, [terms.term(got, 5), plain])
            solver = bitwuzla.Bitwuzla(terms.manager, bitwuzla.Options())
            solver.assert_formula(differs)
            assert solver.check_sat() == Result.UNSAT, (op, a, b)


# --- neurons without SymbiYosys ----------------------------------------------------------------------------


def neuron(change=None, **settings) -> tuple[str, str]:
    """The obligation of an 8-bit LIF cell; change: (text, replacement) in the cell."""
    import tempfile

    from scnas.equiv.neuron import neuron as prove_neuron

    text = (HDL / "sc_lif_neuron.v").read_text()
    if change is not None:
        assert text.count(change[0]) == 1, "the mistake no longer applies; update the test"
        text = text.replace(*change)
    parameters = {"V_REST": -1, "V_RESET": -2, "V_THRESHOLD": 16, "REFRACTORY_PERIOD": 2}
    files = {"sc_lif_neuron.v": text}
    files["sc_lif_reference.v"] = (HDL / "equiv" / "sc_lif_reference.v").read_text()
    task = {
        "dut": "sc_lif_neuron",
        "ref": "sc_lif_reference",
        "data_width": 8,
        "fraction": 4,
        "parameters": parameters,
        "dut_parameters": parameters,
        "noise_width": 8,
        "constants": {"leak_k": 3, "gain_k": 13, "noise_in": 0},
        "sources": files,
    } | settings
    with tempfile.TemporaryDirectory() as folder:
        return prove_neuron(task, Path(folder), time.monotonic() + 60)


MISTAKES = {
    "one too high": ("= V_THRESHOLD - V_REST;", "= V_THRESHOLD - V_REST + 1;"),
    "no step": ("else if (step) x <= p + noise;", "else x <= p + noise;"),
    "one rest too few": ("REFRACTORY_PERIOD - 1 : 0;", "REFRACTORY_PERIOD - 2 : 0;"),
    "rounds up": ("(current * gain) >>> FRACTION", "(current * gain + 15) >>> FRACTION"),
    "no floor": ("fired ? RESET : MINIMUM;", "fired ? RESET : x;"),
}


@needs_tools
def test_a_neuron_with_odd_constants_is_proved():
    assert neuron()[0] == "proved"


@needs_tools
@pytest.mark.parametrize("change", MISTAKES.values(), ids=MISTAKES)
def test_a_broken_neuron_is_refuted(change):
    status, detail = neuron(change)
    assert status == "refuted" and "clock" in detail


@needs_tools
def test_a_neuron_that_is_built_otherwise_but_wrong_is_refuted_too():
    """Another refractory period: inside there is not even a counter to compare."""
    parameters = {"V_REST": -1, "V_RESET": -2, "V_THRESHOLD": 16, "REFRACTORY_PERIOD": 0}
    assert neuron(dut_parameters=parameters)[0] == "refuted"


# Integrate-and-fire as a winner has it: the cuts of the induction then lie on mere wires.
INTEGRATE = {
    "as generated": {"V_REST": 0, "V_RESET": 0, "V_THRESHOLD": 513, "REFRACTORY_PERIOD": 0},
    "lowest threshold": {"V_REST": 0, "V_RESET": 0, "V_THRESHOLD": 1, "REFRACTORY_PERIOD": 0},
    "away from zero": {"V_REST": -11, "V_RESET": -20, "V_THRESHOLD": 300, "REFRACTORY_PERIOD": 0},
    "with a rest": {"V_REST": 5, "V_RESET": -3, "V_THRESHOLD": 256, "REFRACTORY_PERIOD": 2},
}


def integrate(change=None, case="away from zero", gain=256, sum_width=14, **settings) -> tuple[str, str]:
    """The obligation of a 12-bit neuron without leak, as `neuron`."""
    own = INTEGRATE[case] | {"NOISE_WIDTH": 12, "SUM_WIDTH": sum_width, "LEAK_AS_SUM": 0}
    settings |= {"constants": {"leak_k": 0, "gain_k": gain, "noise_in": 0}, "noise_width": 12}
    word = {"data_width": 12, "fraction": 8}
    return neuron(change, parameters=INTEGRATE[case], dut_parameters=own, **word, **settings)


@needs_tools
@pytest.mark.parametrize("gain", [256, 128, 512, 77])
@pytest.mark.parametrize("case", INTEGRATE)
def test_a_neuron_without_leak_is_proved(case, gain):
    assert integrate(case=case, gain=gain) == ("proved", "")


@needs_tools
def test_the_sum_of_a_neuron_without_leak_needs_one_bit_more_than_its_word():
    assert integrate(case="as generated", sum_width=13) == ("proved", "")
    assert integrate(case="as generated", sum_width=12)[0] == "refuted"


INTEGRATE_MISTAKES = {
    "resets to another value": ("= V_RESET - V_REST;", "= V_RESET - V_REST + 1;"),
    "keeps the membrane of a spike": ("fired ? RESET : MINIMUM;", "fired ? x : MINIMUM;"),
    "starts elsewhere": ("if (!rst_n) x <= {SUM_WIDTH{1'b0}};", "if (!rst_n) x <= 1;"),
    "threshold one too high": ("= V_THRESHOLD - V_REST;", "= V_THRESHOLD - V_REST + 1;"),
    "threshold one too low": ("= V_THRESHOLD - V_REST;", "= V_THRESHOLD - V_REST - 1;"),
    "lower bound one too high": ("= WORD_MINIMUM - V_REST;", "= WORD_MINIMUM - V_REST + 1;"),
    "lower bound one too low": ("= WORD_MINIMUM - V_REST;", "= WORD_MINIMUM - V_REST - 1;"),
    "no lower bound": ("= ~at_least(x, MINIMUM);", "= 1'b0;"),
    "leaks": ("(wide <<< FRACTION) - wide * k;", "(wide <<< FRACTION) - wide * (k + 1);"),
    "subtracts its current": ("= kept + driven[", "= kept - driven["),
    "takes the current's sign for a bit": ("{{(PRODUCT - DATA_WIDTH){I_t[DATA_WIDTH-1]}}, I_t}", "I_t[10:0]"),
    "integrates without a step": ("else if (step) x <= p + noise;", "else x <= p + noise;"),
    "holds what it should add": ("x <= p + noise;", "x <= driven + noise;"),
}


@needs_tools
@pytest.mark.parametrize("change", INTEGRATE_MISTAKES.values(), ids=INTEGRATE_MISTAKES)
def test_a_broken_neuron_without_leak_is_refuted(change):
    status, detail = integrate(change)
    assert status == "refuted" and "_equal in clock" in detail


@needs_tools
def test_only_what_is_made_without_arithmetic_is_plain():
    from bitwuzla import Kind

    from scnas.equiv.terms import Terms

    terms = Terms()
    a, b, bit = terms.variable("a", 4), terms.variable("b", 4), terms.variable("bit", 1)
    word = [terms.term(a, 4), terms.term(b, 4)]
    choice = terms.operation(Kind.ITE, [terms.truth(bit), *word], 4)
    total = terms.operation(Kind.BV_ADD, word, 4)
    hidden = terms.operation(Kind.ITE, [terms.truth(bit), terms.term(total, 4), word[0]], 4)
    assert terms.plain(5) and terms.plain(a) and terms.plain((0, *a[:2], 1)) and terms.plain(choice)
    assert not terms.plain(total) and not terms.plain(hidden) and not terms.plain((*a[:3], hidden[0]))


# --- designs -----------------------------------------------------------------------------------------------


@needs_tools
@pytest.mark.parametrize("mappings", [("parallel", "parallel"), ("folded", "folded")], ids="-".join)
def test_a_design_is_proved_and_its_proofs_are_kept(mappings, tmp_path):
    from scnas.equiv import check_winner

    network = small_network(mappings)
    folder = tmp_path / "winner"
    write_design(network, folder)
    network.save(folder / "network.json")
    verdict = check_winner(folder, cache=tmp_path / "proofs")
    assert (verdict.status, verdict.passed) == ("proved", True), verdict.summary()
    kinds = {o.kind for o in verdict.obligations}
    assert kinds == {"neuron", "generator", "encoder", "composition"} | {
        {"parallel": "counts", "folded": "lanes"}[m] for m in mappings
    }
    stored = json.loads((folder / "verdict.json").read_text())
    assert stored["status"] == "proved" and len(stored["obligations"]) == len(verdict.obligations)
    again = check_winner(folder, cache=tmp_path / "proofs")
    assert all(o.cached for o in again.obligations) and again.status == "proved"


def refuted(network: Network, before: str, after: str, only: str) -> str:
    """The detail of the refuted obligations of kind `only`, of a design with one text replaced."""
    import tempfile

    from scnas.equiv import counts, lanes
    from scnas.equiv.composition.inference import composition

    sources = write_design(network).sources
    assert before in sources["design.v"], "the mistake no longer applies; update the test"
    sources["design.v"] = sources["design.v"].replace(before, after, 1)
    functions = {
        "counts": counts.counts,
        "lanes": lanes.lanes,
        "composition": composition,
    }
    found = []
    for task in tasks_of(network, sources).values():
        if task["kind"] == only:
            with tempfile.TemporaryDirectory() as folder:
                found.append(functions[only](task, Path(folder), time.monotonic() + 60))
    assert "refuted" in [status for status, _ in found], found
    return next(detail for status, detail in found if status == "refuted")


LAYER_MISTAKES = {
    "a synapse on the wrong tap": ("parallel", "counts", "{1'd0, tap[1]} +", "{1'd0, tap[2]} +"),
    "a sign": ("parallel", "counts", "} - {", "} + {"),
    "one stream clock too few": ("parallel", "composition", "go | (running & ~stream_end)", "go"),
    "a current twice": ("parallel", "composition", ".I_t(current_1)", ".I_t(current_0)"),
    "the wrong delay": ("parallel", "composition", "past_0[0]}", "spikes[0]}"),
    "a sum that is not begun anew": ("parallel", "composition", "fresh ? grown_0 : total_0 +", "total_0 +"),
    "inputs after the last": ("parallel", "composition", "taken = all_taken", "taken = 1'b0"),
    "done never": ("parallel", "composition", "update <= complete", "update <= 1'b0"),
    "a step too many": ("parallel", "composition", ".step(update)", ".step(update | summed)"),
    "a weight": ("folded", "composition", "weights_rom[0] = ", "weights_rom[0] = 1 + "),
    "the wrong way round": ("folded", "lanes", "ring[0] &", "ring[1] &"),
    "neighbours swapped": ("folded", "composition", "states[neuron] <=", "states[neuron_next] <="),
    "a state that is kept": ("folded", "composition", "first ?", "1'b0 ?"),
    # Seen only when an input is late, or when two steps are as close as they may be.
    "what is not valid": ("parallel", "composition", "else if (accept) inputs", "else if (in_ready) inputs"),
    "a step that is not there": (
        "parallel",
        "composition",
        "accept = in_valid & in_ready",
        "accept = in_ready",
    ),
    "counts while it waits": ("parallel", "composition", "else if (accept) step", "else if (in_ready) step"),
    "ready too early": ("folded", "composition", "ready = ~run | step_end", "ready = ~run | advance"),
    # Step control, delay line, readout.
    "the update a clock early": ("parallel", "composition", "update <= complete", "update <= stream_end"),
    "the go of another layer": ("parallel", "composition", ".go(next_0)", ".go(accept)"),
    "spikes turned around": (
        "folded",
        "composition",
        ".spikes(fired_0)",
        ".spikes({fired_0[0], fired_0[1], fired_0[2]})",
    ),
    "a delay of another input": ("parallel", "composition", ".spike(spikes[0])", ".spike(spikes[1])"),
    "a delay less": ("parallel", "composition", ".step(go), .spike(", ".step(update), .spike("),
    "a readout of the step before": ("folded", "composition", "update & step_last", "update & ~step_last"),
    "a readout that subtracts": ("folded", "composition", "score_state + current", "score_state - current"),
}


@needs_tools
@pytest.mark.parametrize("mapping, kind, before, after", LAYER_MISTAKES.values(), ids=LAYER_MISTAKES)
def test_a_broken_layer_is_refuted(mapping, kind, before, after):
    network = small_network((mapping, mapping))
    design = write_design(network).text
    if before not in design:
        pytest.fail(f"{before!r} is not in the design; update the test")
    assert refuted(network, before, after, kind)


def shared_network(lanes: int) -> Network:
    """Two folded layers of two units each, the first with so many lanes, and a last one."""
    rng = np.random.default_rng(5)
    network = random_network(
        rng,
        (lanes + 2, 4, 4, 2),
        mapping="folded",
        neuron="lif",
        generator="sobol",
        length=1,
        timesteps=2,
        word=8,
        fraction=4,
        max_delay=0,
        density=0.6,
        encoder="events",
        readout="membrane",
        refractory=0,
        lanes=2,
    )
    first, second, last = network.layers
    layers = (replace(first, lanes=lanes, units=2), replace(second, units=2), last)
    return replace(network, layers=layers)


UNIT_MISTAKES = {
    "a bit of the stage": ("lanes", "= stage[3:0]", "= stage[7:4]"),
    "a first sum of the other unit": ("lanes", "{1'd0, p_u1_w0, ", "{1'd0, p_w0, "),
    "weights of the other unit": ("lanes", "ring[0] & (weights[48])", "ring[0] & (weights[0])"),
    "a stage of the other unit": ("lanes", "stage_u1[3:0]", "stage[3:0]"),
    "the sum of the other unit": ("composition", "total_u1 = rest_u1 + ", "total_u1 = rest + "),
    "the current of the other unit": ("composition", ".I_t(current_u1)", ".I_t(current)"),
    "the state of the other unit": ("composition", "state_u1 <= states_u1[", "state_u1 <= states["),
    "units in the wrong order": ("composition", "{shifted_u1, shifted}", "{shifted, shifted_u1}"),
    "a stage that is forgotten": ("composition", "summed <= staged", "summed <= run"),
    "an end that does not wait for the stage": ("composition", "complete <= ended", "complete <= neuron_end"),
}


@needs_tools
def test_units_and_stages_are_proved(tmp_path):
    from scnas.equiv import check_winner

    network = shared_network(schedule.STAGED + 1)
    write_design(network, tmp_path)
    network.save(tmp_path / "network.json")
    verdict = check_winner(tmp_path, cache=tmp_path / "proofs")
    assert verdict.status == "proved", verdict.summary()
    names = [o.name for o in verdict.obligations if o.kind == "lanes"]
    assert len(names) == 5 and sum("of unit 1" in name for name in names) == 2


@needs_tools
@pytest.mark.parametrize("kind, before, after", UNIT_MISTAKES.values(), ids=UNIT_MISTAKES)
def test_a_broken_unit_is_refuted(kind, before, after, monkeypatch):
    monkeypatch.setattr(schedule, "STAGED", 23)  # few lanes are soon looked through
    assert refuted(shared_network(24), before, after, kind)


@needs_tools
def test_trees_are_looked_at_wire_by_wire(tmp_path, monkeypatch):
    """No lane needs a question about a whole tree, unless a wire is not there."""
    from scnas.equiv import counts, lanes

    asked = []
    adds = counts.Sum.adds
    monkeypatch.setattr(counts.Sum, "adds", lambda *a, **b: asked.append(0) or adds(*a, **b))
    network = shared_network(70)
    sources = write_design(network).sources
    found = []
    for name in ("n_u1_s0", "other"):
        sources["design.v"] = sources["design.v"].replace("n_u1_s0", name)
        tasks = tasks_of(network, sources).items()
        task = next(task for key, task in tasks if "70 lanes of unit 1" in key)
        asked.clear()
        found.append((lanes.lanes(task, tmp_path, time.monotonic() + 20)[0], len(asked)))
    assert found[0] == ("proved", 0) and found[1][1] > 1


@needs_tools
def test_a_plan_that_adds_a_lane_twice_is_not_believed(tmp_path, monkeypatch):
    """The design follows the plan of its trees, and so does the proof: the plan itself must be right."""
    from scnas.equiv import lanes
    from scnas.equiv import trees as proof

    plan_tree = trees.plan_tree

    def wrong(leaves, staged):
        tree = plan_tree(leaves, staged)
        if len(tree.words) > 1:
            tree.words[0][0] = tree.words[1][0]
        return tree

    for module in (trees, proof):
        monkeypatch.setattr(module, "plan_tree", wrong)
    network = shared_network(24)
    tasks = tasks_of(network, write_design(network).sources).items()
    task = next(task for key, task in tasks if "24 lanes of unit 1" in key)
    assert lanes.lanes(task, tmp_path, time.monotonic() + 60)[0] == "refuted"


@needs_tools
@pytest.mark.parametrize("mapping", ["parallel", "folded"])
def test_two_states_are_compared_in_all_but_their_roms(mapping, tmp_path):
    from scnas.equiv.composition.inference import Part
    from scnas.equiv.composition.view import elaborate

    network = small_network((mapping, mapping))
    model = elaborate(network, write_design(network).sources, tmp_path, 60)
    for depth in (0, 1):
        view = Part(network, model, depth, time.monotonic() + 60).view
        left_out = {model.states[number] for number in view.registers - set(view.changing)}
        assert all(name.endswith("_rom") for name in left_out)
        assert bool(left_out) == (mapping == "folded")
        memories = [n for n in view.changing if model.nodes[n].is_memory]
        assert bool(memories) == (mapping == "folded")


@needs_tools
def test_a_prover_that_breaks_is_an_error_and_not_kept(tmp_path):
    from scnas.equiv import verdict as verdicts

    answer = verdicts._settle("nonsense", {"kind": "no such kind"}, 20, tmp_path)
    assert answer.status == "error" and "KeyError" in answer.detail
    assert not list(tmp_path.iterdir())


@needs_tools
@pytest.mark.parametrize(
    "text, status, why",
    [
        (
            "module odd(input clk, tap, output reg count_0); always @(posedge clk) count_0 <= tap; endmodule",
            "unknown",
            "the prover does not understand the design: odd holds registers",
        ),
        ("module odd(input tap, output count_0); assign count_0 = ; endmodule", "error", "yosys: .*syntax"),
    ],
    ids=["not understood", "broken"],
)
def test_what_is_not_understood_is_unknown_and_what_is_broken_an_error(text, status, why, tmp_path):
    from scnas.equiv import Verdict
    from scnas.equiv import verdict as verdicts

    task = {"kind": "counts", "module": "odd", "n_taps": 1, "numbers": 1, "weights": {}}
    task["sources"] = {"odd.v": text}
    answer = verdicts._settle("odd", task, 20, tmp_path)
    assert answer.status == status and re.match(why, answer.detail)
    verdict = Verdict((answer,))
    assert (verdict.status, verdict.passed) == (status, None) and answer.detail in verdict.summary()
    assert not list(tmp_path.iterdir())  # not kept: another prover may understand it


@needs_tools
def test_a_neuron_that_the_proof_cannot_look_into_is_unknown_and_says_why():
    """The same neuron, with another name for a wire that the proof wants to see."""
    files = {name: (HDL / name).read_text() for name in ("sc_lif_neuron.v", "equiv/sc_lif_reference.v")}
    files["sc_lif_neuron.v"] = files["sc_lif_neuron.v"].replace("driven", "pushed")
    status, detail = integrate(sources={Path(name).name: text for name, text in files.items()})
    assert status == "unknown"
    assert re.match("yosys: .*dut.driven.*; no difference within 6 clocks", detail)


@needs_tools
def test_time_that_runs_out_in_an_obligation_is_unknown(tmp_path):
    from scnas.equiv import verdict as verdicts

    network = small_network()
    tasks = tasks_of(network, write_design(network).sources)
    task = next(task for task in tasks.values() if task["kind"] == "composition")
    answer = verdicts._settle("slow", task, 0.0, tmp_path)
    assert answer.status == "unknown"
    assert not list(tmp_path.iterdir())


def test_the_weakest_obligation_is_the_verdict():
    from scnas.equiv import Obligation, Verdict

    def status(*statuses):
        return Verdict(tuple(Obligation(f"o{i}", "neuron", s) for i, s in enumerate(statuses))).status

    assert status("proved", "tested") == "tested" and status("tested", "unknown") == "unknown"
    assert status("proved", "proved") == "proved"
    assert status("proved", "bounded") == "bounded"
    assert status("bounded", "unknown", "proved") == "unknown"
    assert status("unknown", "error") == "error"
    assert status("error", "refuted", "proved") == "refuted"
    assert Verdict(()).status == "not_run" and Verdict(()).passed is None


def with_simulation(simulated: str | None, tmp_path, monkeypatch, **answers):
    """The verdict on a network whose obligations end as `answers` say (kind -> status, else proved), and
    whose simulation ended as `simulated`."""
    from scnas.equiv import Obligation, check_design
    from scnas.equiv import verdict as verdicts
    from scnas.hardware.tools.cosimulation import CosimulationResult, Mismatch

    def settled(name, task, *_):
        return Obligation(name, task["kind"], answers.get(task["kind"], "proved"), "why")

    monkeypatch.setattr(verdicts, "_settle", settled)
    monkeypatch.setattr(tools, "missing_tools", lambda *_: "")
    simulation = None
    if simulated is not None:
        first = Mismatch("spikes", 3, 1, 0, 2, 1, 0) if simulated == "failed" else None
        simulation = CosimulationResult(
            simulated, 359, int(simulated == "failed"), first, 40, 40, "icarus", "12", 1.0, 1.0, "broken\n"
        )
    network = small_network()
    return check_design(network, write_design(network).sources, cache=tmp_path, simulation=simulation)


@pytest.mark.parametrize(
    "composition, simulated, status, how",
    [
        ("proved", "passed", "proved", "proved"),
        ("proved", None, "proved", "proved"),
        ("proved", "not_run", "proved", "proved"),
        ("unknown", "passed", "tested", "tested"),
        ("unknown", None, "unknown", "unknown"),
        ("unknown", "not_run", "not_run", "not_run"),
        ("unknown", "error", "error", "error"),
        ("unknown", "failed", "refuted", "refuted"),
        ("proved", "failed", "refuted", "refuted"),
        ("refuted", "passed", "refuted", "refuted"),
    ],
)
def test_a_simulation_stands_in_for_a_composition_and_is_never_called_a_proof(
    composition, simulated, status, how, tmp_path, monkeypatch
):
    verdict = with_simulation(simulated, tmp_path, monkeypatch, composition=composition)
    assert verdict.status == status and verdict.to_dict()["composition"] == how
    assert verdict.passed is {"proved": True, "refuted": False}.get(status)
    assert ("PROVED" in verdict.summary()) == (status == "proved")
    added = [o for o in verdict.obligations if o.kind == "simulation"]
    if composition == "unknown" and simulated == "passed":
        (test,) = added
        assert "359 test samples (a test, no proof)" in test.name and "359/359" in test.detail
        assert "TESTED ONLY, not proved: 2 unknown, 1 tested" in verdict.summary()
        assert "why" in verdict.summary()  # what kept it from being proved
    elif status == "proved":
        assert not added


def test_a_simulation_stands_in_for_nothing_else(tmp_path, monkeypatch):
    answers = {"composition": "unknown", "counts": "unknown"}
    assert with_simulation("passed", tmp_path, monkeypatch, **answers).status == "unknown"


@needs_tools
def test_ctrl_c_ends_the_proofs_at_once(tmp_path):
    import os
    import signal
    import subprocess
    import sys

    rng = np.random.default_rng(0)  # minutes of proofs
    settings = {"timesteps": 16, "neuron": "lif", "length": 64, "mapping": "folded", "lanes": 2}
    layers = (random_layer(rng, 64, 64, **settings), random_layer(rng, 64, 10, **settings))
    network = Network(64, 16, "rate", 8, 16, "membrane", layers)
    network.save(tmp_path / "network.json")
    write_design(network, tmp_path)
    root = Path(tools.HERE).parents[1]
    script = (
        f"import sys; sys.path.insert(0, {str(root)!r})\n"
        "from scnas.equiv import check_winner\n"
        "check_winner('.', cache='proofs', workers=2)\n"
    )
    started = tmp_path / "tmp"
    started.mkdir()
    ours = subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(started), "OMP_NUM_THREADS": "1"},
    )
    try:
        deadline = time.monotonic() + 60
        while not of(started) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert of(started), "no proof was ever started"
        ours.send_signal(signal.SIGINT)
        begin = time.monotonic()
        _, errors = ours.communicate(timeout=60)
    finally:
        ours.kill()
    assert "KeyboardInterrupt" in errors and time.monotonic() - begin < 30
    while of(started) and time.monotonic() - begin < 30:  # killed ones that still give their memory back
        time.sleep(0.02)
    assert not of(started) and not list(started.glob("scnas-proof-*"))


def of(folder: Path) -> list[str]:
    """The processes that work below `folder`."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if str((process / "cwd").readlink()).startswith(str(folder)):
                found.append(process.name)
        except OSError:
            continue
    return found


def test_a_folder_without_a_design_is_refused(tmp_path):
    from scnas.equiv import check_winner

    small_network().save(tmp_path / "network.json")
    with pytest.raises(ValueError, match="no design.v to prove"):
        check_winner(tmp_path)


@needs_tools
@pytest.mark.parametrize("length", [1, 4])
def test_a_readout_whose_current_saturates_is_proved_and_its_faults_are_found(length, tmp_path):
    from scnas.equiv import check_design

    settings = {"timesteps": 2, "word": 6, "fraction": 4, "max_delay": 1, "generator": "sobol"}
    layer = random_layer(np.random.default_rng(1), 6, 2, neuron="lif", length=length, **settings)
    network = Network(6, 2, "rate", 4, 6, "membrane", (layer,))
    sources = write_design(network).sources
    assert "current_0_fits" in sources["design.v"]
    verdict = check_design(network, sources, cache=tmp_path)
    assert verdict.status == "proved", verdict.summary()
    for right, wrong in (
        ("current_0_fits ? ", "1'b1 ? "),  # wraps round instead
        ("{5{~current_0_full", "{5{current_0_full"),  # the wrong end
        ("score_0 + ", "score_0 - "),
        ("sum_0 <= count_0;", "sum_0 <= ~count_0;"),  # a count that is none
    ):
        assert right in sources["design.v"]
        faulty = sources | {"design.v": sources["design.v"].replace(right, wrong)}
        verdict = check_design(network, faulty, cache=tmp_path)
        assert verdict.status == "refuted", (right, verdict.summary())


# --- minutes -----------------------------------------------------------------------------------------------


@pytest.mark.slow
@needs_tools
def test_all_prebuilt_proofs_pass():
    from scnas.equiv.__main__ import main

    assert main([]) == 0


@pytest.mark.slow
@needs_tools
@pytest.mark.parametrize("readout", ["membrane", "spikes"])
@pytest.mark.parametrize("mappings", [("parallel", "folded"), ("folded", "parallel")], ids="-".join)
@pytest.mark.parametrize("neuron", ["if", "stochastic_lif", "homeostatic_lif", "izhikevich"])
def test_every_model_mapping_and_readout_is_proved(neuron, mappings, readout, tmp_path):
    from scnas.equiv import check_design

    network = small_network(mappings, readout, neuron=neuron)
    verdict = check_design(network, write_design(network).sources, cache=tmp_path)
    assert verdict.status == "proved", verdict.summary()


def test_a_proof_that_runs_out_of_memory_is_unknown(tmp_path):
    (tmp_path / "task.json").write_text(json.dumps({"kind": "neuron", "seconds": 9}))
    code = (
        f"import sys; sys.path.insert(0, {str(Path(tools.HERE).parents[1])!r});"
        "from scnas.equiv import neuron, worker; import resource;"
        "neuron.neuron = lambda *_: bytearray(resource.getrlimit(resource.RLIMIT_AS)[0]);"
        "worker.main()"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
    answer = json.loads((tmp_path / "answer.json").read_text())
    assert answer == {"status": "unknown", "detail": "its share of the memory ran out"}

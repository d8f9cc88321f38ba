"""The neurons of the reference: by hand, against the oracle in both float types, and surrogate gradients.

Letters: W bits of a word, F fraction bits.
"""

import math
from itertools import product

import numpy as np
import pytest
import torch
from networks import random_layer
from oracle import layer_spikes

from scnas.contract import NEURONS
from scnas.snn import derive
from scnas.snn.models import CONSTANTS, model_of
from scnas.snn.reference.neurons import Constants, exact_dtype, initial_state, scan, step
from scnas.snn.streams import noise_sequence
from scnas.snn.surrogate import ALPHA


def constants(layers: list[dict], word: int, fraction: int, timesteps: int, dtype=torch.float64) -> Constants:
    """Of candidates side by side; layers: as in network.json."""

    def column(values) -> torch.Tensor:
        return torch.tensor([float(value) for value in values], dtype=dtype).view(-1, 1, 1)

    noise = [
        noise_sequence(x["noise_seed"], timesteps) * x["constants"]["noise_k"] >> fraction for x in layers
    ]
    return Constants(
        threshold=torch.tensor([x["threshold"] for x in layers], dtype=dtype)[:, None],
        bound=column([2 ** (word - 1)] * len(layers)),
        noise=torch.tensor(np.array(noise), dtype=dtype),
        scale=column([1] * len(layers)),
        **{name: column(x["constants"][name] for x in layers) for name in CONSTANTS if name != "noise_k"},
    )


def ran(neuron: str, currents: list[int], threshold=100, word=16, fraction=8, noise_seed=1, **k) -> tuple:
    """Spikes and membranes of one neuron, step by step."""
    layer = dict(threshold=[threshold], noise_seed=noise_seed, constants=dict.fromkeys(CONSTANTS, 0) | k)
    c = constants([layer], word, fraction, len(currents))
    current = torch.tensor(currents, dtype=torch.float64).view(1, -1, 1, 1)
    spikes, membranes = scan(neuron, current, c, fraction, membranes=True)
    return spikes.flatten().tolist(), membranes.flatten().tolist()


# --- by hand, F = 8 -------------------------------------------------------------------------------


def test_if_worked_by_hand():
    assert ran("if", [60, 60, -10, 50], gain_k=256) == ([0, 1, 0, 0], [60, 0, -10, 40])
    assert ran("if", [60, 60, -10, 50], gain_k=128, v_reset=-7) == ([0, 0, 0, 0], [30, 60, 55, 80])
    assert ran("if", [100, -300, 99], gain_k=256, v_reset=-7) == (
        [1, 0, 0],
        [-7, -307, -208],
    )  # 100 is enough


def test_a_product_rounds_down_below_zero_too():
    assert ran("if", [3, -3], gain_k=128) == ([0, 0], [1, -1])  # 1.5 -> 1, -1.5 -> -2


def test_lif_worked_by_hand():
    # A quarter of the way back to rest, rounded down: (0 - 60) * 64 >> 8 = -15, (0 - 65) / 4 = -16.25 -> -17.
    assert ran("lif", [60, 20, 0], gain_k=256, leak_k=64) == ([0, 0, 0], [60, 65, 48])
    assert ran("lif", [0, 0, 0], gain_k=256, leak_k=128, v_rest=-64) == ([0, 0, 0], [-64, -64, -64])
    assert ran("lif", [164, 0, 0], gain_k=256, leak_k=128, v_rest=-64) == ([1, 0, 0], [0, -32, -48])


def test_stochastic_lif_worked_by_hand():
    # Noise bytes of seed 1 are 1 and 17 (273 = 0x0111), times 128 >> 8: 0 and 8.
    k = dict(gain_k=256, noise_k=128)
    assert ran("stochastic_lif", [50, 50], **k) == ([0, 1], [50, 0])
    assert ran("stochastic_lif", [50, 41], **k) == ([0, 0], [50, 99])
    assert ran("stochastic_lif", [0], noise_seed=0x80FF, **k) == ([0], [-1])  # -1 * 128 >> 8
    assert ran("lif", [50, 50], gain_k=256, noise_seed=77) == ([0, 1], [50, 0])  # no other model hears it


def test_homeostatic_lif_worked_by_hand():
    # a: 0, 40 after the spike, 40 - 10 = 30, 30 - 7 = 23. The threshold is 100 + a.
    k = dict(gain_k=256, decay_k=64, bump_k=40)
    assert ran("homeostatic_lif", [100, 139, 0, 0], **k) == ([1, 0, 1, 0], [0, 139, 0, 0])
    assert ran("homeostatic_lif", [100, 140], **k) == ([1, 1], [0, 0])
    assert ran("homeostatic_lif", [100, 129, 0], **k) == ([1, 0, 0], [0, 129, 129])  # 129 < 100 + 30


def test_izhikevich_worked_by_hand():
    # v = -166 = -0.65 * 256: mul(v, v) = 107, so 4 * 107 - 5 * 166 + 358 = -44 is added, and u is taken off.
    # u = mul(51, -166) = -34 before step 0: p = -166 - 44 + 34 + I.
    k = dict(gain_k=256, a_k=5, b_k=51, d_k=20, v_rest=-166, v_reset=-166)
    assert ran("izhikevich", [0], **k) == ([0], [-176])
    assert ran("izhikevich", [275], **k) == ([0], [99])
    # Fires, and u = -34 + mul(5, -34 + 34) + 20 = -14, so the next p is 20 lower.
    assert ran("izhikevich", [276, 0], **k) == ([1, 0], [-166, -196])


def test_refractory_worked_by_hand():
    """Two steps after the spike in step 0: no spike, v at rest; step 3 is free again."""
    k = dict(gain_k=256, refractory=2, v_rest=5, v_reset=-9)
    assert ran("if", [100, 100, 500, 95, 0], **k) == ([1, 0, 0, 1, 0], [-9, 5, 5, -9, 5])


def test_adaptation_and_recovery_go_on_while_refractory():
    # a: 40, 30, 23 in the steps after the spike; in step 3 the threshold is 100 + 23 - 5 = 118 (23 >> 2 = 5).
    k = dict(gain_k=256, decay_k=64, bump_k=40, refractory=2)
    assert ran("homeostatic_lif", [100, 0, 0, 122], **k)[0] == [1, 0, 0, 0]
    assert ran("homeostatic_lif", [100, 0, 0, 123], **k)[0] == [1, 0, 0, 1]


def test_saturation_worked_by_hand():
    assert ran("if", [127, 127, -100], threshold=127, word=8, gain_k=64) == ([0, 0, 0], [31, 62, 37])
    assert ran("if", [-128, -128], word=8, gain_k=127, fraction=4) == ([0, 0], [-128, -128])
    assert ran("if", [127], word=8, gain_k=127, fraction=0, threshold=127) == ([1], [0])


def test_state_goes_in_and_comes_out():
    """Step by step from any state is the scan."""
    layer = dict(threshold=[90], noise_seed=3, constants=dict.fromkeys(CONSTANTS, 0) | dict(
        gain_k=256, leak_k=64, decay_k=64, bump_k=40, refractory=1))  # fmt: skip
    c = constants([layer], 16, 8, 6)
    current = torch.tensor([50.0, 60, 70, 80, 90, 100], dtype=torch.float64).view(1, 6, 1, 1)
    expected = scan("homeostatic_lif", current, c, 8)[0]
    state = initial_state("homeostatic_lif", (1, 1, 1), c, 256.0, True)
    fired = []
    for t in range(6):
        spike, state = step("homeostatic_lif", current[:, t], c.noise[:, t, None, None], state, c, 256.0)
        fired.append(spike)
    assert torch.equal(torch.stack(fired, 1), expected) and expected.sum() > 1


# --- against the oracle, in both float types ------------------------------------------------------


def random_case(rng, neuron, word, fraction, powers_of_two, candidates=6, timesteps=12, n=8):
    """Layers with constants up to their ends, and currents that reach theirs."""
    half, used = 2 ** (word - 1), derive.used_constants(model_of(neuron))
    layers = []
    for p in range(candidates):
        layer = random_layer(
            rng, 1, n, word=word, fraction=fraction, neuron=neuron, timesteps=timesteps,
            powers_of_two=powers_of_two, refractory=p % 3,
        )  # fmt: skip
        k = dict(layer.constants)
        if powers_of_two:  # the largest that a gain or a leak may be trained to
            k["gain_k"] = int(rng.choice([1, 2 ** (word - 2), 2 ** rng.integers(0, word - 1)]))
            if "leak_k" in used:
                k["leak_k"] = int(rng.choice([1, min(2**fraction, 2 ** (word - 2))]))
            if "decay_k" in used:
                k["decay_k"] = int(rng.choice([1, min(2**fraction, 2 ** (word - 2))]))
            if "noise_k" in used:
                k["noise_k"] = min(k["noise_k"], half // 2)
        for name in ("v_rest", "v_reset", "bump_k"):
            if name in used and neuron != "izhikevich" and rng.random() < 0.5:
                k[name] = int(rng.choice([-half, half - 1]))
        threshold = rng.choice([-half, half - 1, 1, half // 2, half // 8], n).tolist()
        layers.append(dict(neuron=neuron, threshold=threshold, noise_seed=layer.noise_seed, constants=k))
    ends = rng.choice([-half, half - 1, -half + 1, half - 2, 0, 1, -1], (candidates, timesteps, n))
    small = rng.integers(-half, half, (candidates, timesteps, n)) >> rng.integers(0, word, (candidates, 1, n))
    return layers, np.where(rng.random(ends.shape) < 0.5, ends, small)


def disagreement(neuron, word, fraction, powers_of_two, dtype, seed=0) -> tuple[int, int, int]:
    """Numbers in which scan in `dtype` differs from the oracle; spikes; membranes at an end."""
    rng = np.random.default_rng([seed, word, fraction, NEURONS.index(neuron), powers_of_two])
    layers, currents = random_case(rng, neuron, word, fraction, powers_of_two)
    c = constants(layers, word, fraction, currents.shape[1]).to(dtype)
    given = torch.tensor(currents, dtype=torch.float64)[:, :, None]  # one sample
    spikes, membranes = scan(neuron, given, c, fraction, membranes=True)
    network = dict(word=word, fraction=fraction)
    expected = [layer_spikes(network, x, i) for x, i in zip(layers, currents, strict=True)]
    wrong = (spikes[:, :, 0].numpy() != [e[0] for e in expected]).sum()
    wrong += (membranes[:, :, 0].double().numpy() != [e[1] for e in expected]).sum()
    half = 2 ** (word - 1)
    ends = sum(((e[1] == half - 1) | (e[1] == -half)).sum() for e in expected)
    return int(wrong), int(spikes.sum()), int(ends)


WIDTHS = [
    (4, 0), (4, 8), (8, 4), (11, 0), (12, 0), (12, 8), (12, 12), (16, 4), (16, 8), (16, 12), (17, 8),
    (18, 12), (20, 8), (20, 12), (24, 0), (24, 8), (24, 12),
]  # fmt: skip


@pytest.mark.parametrize("neuron", NEURONS)
@pytest.mark.parametrize("powers_of_two", [True, False])
def test_the_chosen_float_type_is_exact(neuron, powers_of_two):
    spikes = ends = 0
    for word, fraction in WIDTHS:
        dtype = exact_dtype(neuron, word, fraction, powers_of_two)
        wrong, fired, reached = disagreement(neuron, word, fraction, powers_of_two, dtype)
        assert wrong == 0, (word, fraction, dtype)
        spikes, ends = spikes + fired, ends + reached
    assert spikes > 500 and ends > 50


def test_the_float_type_is_the_small_one_where_it_matters():
    """float32 for the words that searches use, float64 where a product could need more than 24 bits."""
    for neuron in NEURONS:
        wanted = torch.float64 if neuron == "izhikevich" else torch.float32
        assert exact_dtype(neuron, 16, 8, True) == exact_dtype(neuron, 12, 8, True) == wanted
        assert exact_dtype(neuron, 16, 8, False) == torch.float64
        assert exact_dtype(neuron, 24, 8, True) == exact_dtype(neuron, 20, 0, True) == torch.float64


@pytest.mark.parametrize("neuron", NEURONS)
def test_float32_would_be_wrong_where_it_is_not_chosen(neuron):
    """Without this, the test above could not fail."""
    assert sum(disagreement(neuron, 24, 12, False, torch.float32, seed)[0] for seed in range(5)) > 10


def test_candidates_and_samples_do_not_touch_each_other():
    rng = np.random.default_rng(1)
    layers, currents = random_case(rng, "homeostatic_lif", 16, 8, True)
    c = constants(layers, 16, 8, 12)
    given = torch.tensor(currents, dtype=torch.float64)[:, :, None].expand(-1, -1, 3, -1).clone()
    given[:, :, 1] *= -1
    together = scan("homeostatic_lif", given, c, 8)[0]
    for p, b in product(range(6), range(3)):
        alone = scan("homeostatic_lif", given[p : p + 1, :, b : b + 1], c.select(torch.tensor([p])), 8)[0]
        assert torch.equal(alone[0, :, 0], together[p, :, b])
    assert torch.equal(together[:, :, 0], together[:, :, 2]) and not torch.equal(
        together[:, :, 0], together[:, :, 1]
    )


# --- gradients ------------------------------------------------------------------------------------


def gradients(neuron: str, currents: list[float], threshold=100.0, scale=100.0, word=16, **k) -> tuple:
    """Spikes, and the slopes of their sum along currents, threshold, gain_k and leak_k."""
    layer = dict(threshold=[threshold], noise_seed=1, constants=dict.fromkeys(CONSTANTS, 0) | k)
    c = constants([layer], word, 8, len(currents))
    leaves = [c.threshold.requires_grad_(), c.gain_k.requires_grad_(), c.leak_k.requires_grad_()]
    c = c._replace(scale=torch.full((1, 1, 1), scale, dtype=torch.float64))
    current = torch.tensor(currents, dtype=torch.float64).view(1, -1, 1, 1).requires_grad_()
    spikes = scan(neuron, current, c, 8)[0]
    spikes.sum().backward()
    slopes = [0.0 if leaf.grad is None else leaf.grad.item() for leaf in leaves]
    return spikes.flatten().tolist(), current.grad.flatten().tolist(), *slopes


def surrogate(margin: float, scale=100.0) -> float:
    """ATan of Fang et al. 2021: alpha / 2 / (1 + (pi / 2 * alpha * x)^2), x = margin / scale."""
    return ALPHA / 2 / (1 + (math.pi / 2 * ALPHA * margin / scale) ** 2) / scale


def test_a_spike_has_the_slope_of_the_arctangent():
    spikes, (slope,), to_threshold, to_gain, _ = gradients("if", [30], gain_k=512)
    assert spikes == [0]
    assert slope == pytest.approx(2 * surrogate(60 - 100), rel=1e-12)  # p = 2 * I
    assert to_threshold == pytest.approx(-surrogate(-40), rel=1e-12)
    assert to_gain == pytest.approx(30 / 256 * surrogate(-40), rel=1e-12)


def test_the_slope_runs_back_through_time_and_ends_at_a_reset():
    # v: 30, 60, then 130 fires and resets, 40.
    spikes, slopes, to_threshold, *_ = gradients("if", [30, 30, 70, 40], gain_k=256)
    s = [surrogate(v - 100) for v in (30, 60, 130, 40)]
    assert spikes == [0, 0, 1, 0]
    assert slopes == pytest.approx([s[0] + s[1] + s[2], s[1] + s[2], s[2], s[3]], rel=1e-12)
    assert to_threshold == pytest.approx(-sum(s), rel=1e-12)


def test_a_leak_shortens_the_memory():
    spikes, slopes, _, _, to_leak = gradients("lif", [32, 32], gain_k=256, leak_k=64)
    s = [surrogate(v - 100) for v in (32, 56)]
    assert spikes == [0, 0]
    assert slopes == pytest.approx([s[0] + 0.75 * s[1], s[1]], rel=1e-12)
    assert to_leak == pytest.approx(-32 / 256 * s[1], rel=1e-12)  # v was 32, rest is 0


def test_what_is_clamped_has_no_slope():
    _, slopes, *_ = gradients("if", [100, 100], threshold=127, word=8, gain_k=127)
    assert slopes[0] > 0 and slopes[1] > 0
    _, slopes, *_ = gradients("if", [-120, -120, 5], threshold=127, word=8, gain_k=127, v_rest=-100)
    assert slopes[:2] == [0, 0] and slopes[2] > 0


def test_no_spike_no_slope_while_refractory():
    _, slopes, *_ = gradients("if", [100, 50, 50], gain_k=256, refractory=1)
    assert slopes[1] == 0 and slopes[0] > 0 and slopes[2] > 0


def test_the_slope_of_izhikevich_is_clipped_to_one():
    """Without the clip it would be 6 + 8v = 6 + 8 * 0.65 above zero: 11 times larger each step."""
    k = dict(gain_k=256, b_k=0, a_k=0, v_rest=166, v_reset=166)
    _, slopes, *_ = gradients("izhikevich", [-700, 0], threshold=30000, scale=1000, **k)
    v = [166 + 4 * (166 * 166 >> 8) + 5 * 166 + 358 - 700]
    v.append(v[0] + 4 * (v[0] * v[0] >> 8) + 5 * v[0] + 358)
    s = [surrogate(x - 30000, 1000) for x in v]
    assert slopes == pytest.approx([s[0] + 1.0 * s[1], s[1]], rel=1e-12)

"""scnas.hardware.cost.energy: by hand, by law, and the published figures from the counted designs."""

import importlib.util
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from networks import random_network

from scnas.build import Built
from scnas.hardware import targets
from scnas.hardware.cost import blocks, energy, price
from scnas.hardware.cost.energy import (
    E_TOGGLE_PJ,
    E_TOGGLES_PJ,
    FIGURES,
    FITTED,
    PRIOR,
    features,
    of_inference,
)
from scnas.hardware.cost.folding import folding_of
from scnas.hardware.tools.toggles import Toggles
from scnas.record.page import energy_line

SCRIPT = Path(__file__).parents[2] / "experiments" / "energy.py"
CHIP = replace(targets.target("ice40"), static_mw=2.0, energy_label="calibrated")


def test_energy_by_hand():
    # 2 mW for 10 us: 20 nJ. 1,000 clocks of 53 pJ: 53 nJ. 100,000 toggles of 0.378 pJ: 37.8 nJ.
    found = of_inference(CHIP, 10.0, 1000, 100_000)
    assert found.nominal == pytest.approx(20 + 53 + 37.76, abs=0.01)
    # 0.8 and 1.3 of the static, 0.95 and 1.3 of the clock's; 0.202 and 0.706 pJ a toggle
    assert found.low == pytest.approx(16 + 50.35 + 20.2)
    assert found.high == pytest.approx(26 + 68.9 + 70.6)
    assert E_TOGGLES_PJ[0] < E_TOGGLE_PJ < E_TOGGLES_PJ[1]


def test_the_interval_widens_with_what_is_less_known():
    widths = []
    for label in ("calibrated", "extrapolated", "uncalibrated"):
        for error in (0.0, 0.5):
            found = of_inference(replace(CHIP, energy_label=label), 10.0, 1000, 100_000, error)
            assert found.low < found.nominal < found.high
            widths.append(found.high / found.low)
    assert widths == sorted(set(widths))
    assert found.nominal == of_inference(CHIP, 10.0, 1000, 100_000).nominal


def structure(network, spikes, chip="ice40"):
    x = replace(price.structure_of(network, chip), spikes=np.array(spikes, dtype=float))
    family = targets.target(chip).family
    return x, blocks.blocks(x, family), folding_of(x, family)


@pytest.fixture(params=["parallel", "folded"])
def network(request):
    rng = np.random.default_rng(5)
    return random_network(rng, (30, 20, 10), mapping=request.param, lanes=8, length=16, refractory=0)


def modelled(network, spikes, family="ice40"):
    return energy.toggles(*structure(network, spikes), FIGURES[family])


@pytest.mark.parametrize("chip", targets.TARGETS)
def test_features_are_those_that_have_a_figure_and_never_negative(network, chip):
    found = features(*structure(network, [0, 20], chip))
    assert found.keys() == PRIOR.keys() == FIGURES[targets.target(chip).family].keys()
    for counts in found.values():
        assert counts.shape == (2,) and (counts >= 0).all() and np.isfinite(counts).all()


def test_more_spikes_toggle_more_and_their_layer_alone(network):
    quiet, busy = modelled(network, [0, 5]), modelled(network, [10, 5])
    assert quiet[0] < busy[0] and quiet[1] == busy[1] and quiet[0] > 0  # number generators never rest


def test_twice_the_steps_toggle_twice(network):
    once = features(*structure(network, [8, 5]))
    twice = features(*structure(replace(network, timesteps=2 * network.timesteps), [8, 5]))
    wider = (
        "readout",
        "scores",
        "totals",
        "folded_totals",
        "states",
        "neuron_clocks",
        "neuron_updates",
        "datapath_clocks",
        "datapath_updates",
    )
    per_step = [name for name in PRIOR if name not in wider]
    for name in per_step:  # the others hold widths that may grow with the steps
        assert twice[name] == pytest.approx(2 * once[name]), name


def test_what_a_network_costs_uses_its_activity_and_its_toggles(network):
    for spikes in ([1, 1], [15, 10]):
        found = price.measure(network, CHIP, spikes)
        toggles = modelled(network, spikes).sum()
        expected = of_inference(
            CHIP, found.latency_us, found.latency_clocks, toggles, energy.toggle_error("ice40", True)
        )
        assert (found.energy_nj, found.energy_low_nj, found.energy_high_nj) == pytest.approx(tuple(expected))


def test_published_figures_and_errors_are_what_the_counted_designs_give():
    spec = importlib.util.spec_from_file_location("energy_experiment", SCRIPT)
    experiment = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(experiment)
    for family, published in FITTED.items():
        made = experiment.fit if "fitted" in published else experiment.check
        found = made(published["target"])["record"]
        assert found["figures"] == pytest.approx(published["figures"], rel=0.02, abs=0.02), family
        for what in ("network", "architecture"):
            designs, mean = published["held_out"][what]["designs"], published["held_out"][what]["mean"]
            assert found["held_out"][what]["designs"] == designs >= 8
            assert found["held_out"][what]["mean"] == pytest.approx(mean, abs=0.02)


def test_the_error_of_the_model_is_published_per_use():
    assert "ice40" in FITTED
    for family in ("ice40", "ecp5", "xilinx"):
        known, guessed = energy.toggle_error(family, True), energy.toggle_error(family, False)
        assert 0 < known < guessed
    assert energy.toggle_error("xilinx", True) > energy.toggle_error("ice40", True)


def test_the_terminal_shows_counted_beside_modelled_energy():
    metrics = {"energy_nj": 28.0, "toggles": 1234567, "simulated_energy_nj": 31.04}
    metrics |= {"simulated_energy_low_nj": 6.0, "simulated_energy_high_nj": 15000.0}
    assert energy_line(metrics, "uncalibrated") == [
        "energy: 31.04 nJ an inference from 1,234,567 counted toggles "
        "(modelled 28 nJ; uncalibrated, 6 to 15,000 nJ)"
    ]
    assert energy_line({"energy_nj": 28.0}, "calibrated") == []


@pytest.mark.parametrize(
    "status, broken",
    [("counted", False), ("not_run", False), ("timeout", False), ("failed", True), ("error", True)],
)
def test_a_netlist_that_is_wrong_breaks_the_hardware(status, broken):
    found = Toggles(status, "ice40", "the netlist differs")
    built = Built(None, "", None, None, None, toggles=found, simulated={"toggles": 5})
    assert (built.broken is not None) == broken
    assert found.summary() in built.page and built.figures == {"toggles": 5}

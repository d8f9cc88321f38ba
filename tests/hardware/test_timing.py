"""scnas.hardware.cost.timing: the clock that is modelled, and where it is no limit."""

from dataclasses import replace

import numpy as np
import pytest

from scnas.hardware.cost import price, timing
from scnas.hardware.cost.folding import folding_of
from scnas.hardware.cost.plan import drawn_network, plan
from scnas.hardware.cost.price import FITTED, estimate, structure_of
from scnas.hardware.targets import TARGETS, target
from scnas.space import Architecture

BASE = Architecture(
    n_inputs=64,
    layer_widths=(32, 10),
    neuron_types=("lif", "lif"),
    bitstream_lengths=(16, 16),
    delay_ranges=(0, 0),
    densities=(0.5, 0.5),
    timesteps=8,
    word=12,
)


def test_the_soft_maximum_by_hand():
    # one network of two layers with one path each, and one of a single layer
    ns = timing.soft_maximum(np.array([[10.0, 10.0, 7.0]]), np.array([0, 0, 1]), 2)
    assert ns == pytest.approx([10 * 2 ** (1 / timing.SHARPNESS), 7.0])
    far = timing.soft_maximum(np.array([[10.0], [5.0]]), np.array([0]), 1)
    assert far == pytest.approx([10.0], rel=1e-4)  # a path of half the delay does not count


@pytest.mark.parametrize("index", range(0, 72, 11))
def test_every_feature_has_a_delay_and_every_layer_a_path(index):
    architecture = plan(72, 3)[index]
    x = structure_of(drawn_network(architecture, index), "ice40")
    counts = timing.features(x, folding_of(x, "ice40"))
    for family in timing.PRIOR_NS:
        assert counts.keys() == timing.PRIOR_NS[family].keys()
    assert all((count >= 0).all() for count in counts.values())
    for layer, folded in enumerate(x.folded):
        there = {name.split(".")[0] for name, count in counts.items() if count[layer] > 0}
        assert there & {"tree", "lanes"} == ({"lanes"} if folded else {"tree"})
        neurons = {"neuron", "datapath", "izhikevich", "folded_izhikevich"}
        assert len(there & neurons) == x.fires[layer]


def test_the_slowest_layer_sets_the_clock():
    slow = replace(BASE, neuron_types=("izhikevich", "lif"), word=16)
    for name in TARGETS:
        assert estimate(slow, name).modelled_fmax_mhz < estimate(BASE, name).modelled_fmax_mhz


def test_latency_is_quoted_at_a_clock_that_the_design_reaches():
    plain = estimate(BASE, "ice40")
    assert plain.fmax_label == "calibrated"
    assert plain.clock_mhz == target("ice40").clock_mhz < plain.modelled_fmax_mhz
    fast = estimate(BASE, replace(target("ice40"), clock_mhz=500.0))
    assert fast.clock_mhz == fast.modelled_fmax_mhz == plain.modelled_fmax_mhz
    assert fast.latency_us == pytest.approx(fast.latency_clocks / fast.modelled_fmax_mhz)


def test_a_clock_that_nothing_was_fitted_to_is_no_limit():
    cost_ = estimate(BASE, replace(target("zynq"), clock_mhz=500.0))
    assert cost_.fmax_label == "uncalibrated" and cost_.clock_mhz == 500.0
    assert cost_.modelled_fmax_mhz > 0


def test_the_published_clock_model_keeps_its_goal():
    for family in ("ice40", "ecp5"):
        held = FITTED[family]["held_out"]["fmax_mhz"]
        assert held["designs"] >= 15 and held["mean"] < 0.1
        assert min(FITTED[family]["delays"].values()) >= 0
        apart = {name for name in timing.PRIOR_NS[family] if name.startswith("stage.")}
        # no design with a stage was in the fit
        assert FITTED[family]["delays"].keys() == timing.PRIOR_NS[family].keys() - apart


def test_a_chip_of_its_own_speed():
    speeds = {name: s for fitted in FITTED.values() for name, s in fitted.get("speeds", {}).items()}
    assert price.SPEEDS == {name: s["factor"] for name, s in speeds.items()}
    for name, speed in speeds.items():
        base = FITTED[target(name).family]["target"]
        same = replace(target(base), name=name, pins=None)
        assert estimate(BASE, same).modelled_fmax_mhz == pytest.approx(
            speed["factor"] * estimate(BASE, base).modelled_fmax_mhz
        )
        assert estimate(BASE, name).fmax_label == "calibrated"

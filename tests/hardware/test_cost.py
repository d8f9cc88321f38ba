"""scnas.hardware.cost.price: estimate and measure by hand, by law, and beside synthesised designs."""

import csv
import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from networks import random_network

from scnas import contract
from scnas.hardware import schedule
from scnas.hardware.circuit.top import write_design
from scnas.hardware.circuit.tree import Leaf, adder_tree
from scnas.hardware.cost import counted, derived, folding, held, structure
from scnas.hardware.cost.blocks import PRIOR
from scnas.hardware.cost.expected import of_architectures
from scnas.hardware.cost.plan import drawn_network
from scnas.hardware.cost.price import (
    FIGURES,
    FITTED,
    Cost,
    estimate,
    estimate_many,
    logic_blocks,
    measure,
    violations,
)
from scnas.hardware.cost.structure import SHORT, signed_digits, tree_counts
from scnas.hardware.targets import TARGETS, target
from scnas.snn import models
from scnas.space import Architecture, SearchSpace

BASE = Architecture(
    n_inputs=64,
    layer_widths=(48, 10),
    neuron_types=("lif", "lif"),
    bitstream_lengths=(16, 16),
    delay_ranges=(1, 0),
    densities=(0.5, 0.5),
    generators=("sobol", "sobol"),
    mappings=("parallel", "parallel"),
    timesteps=8,
    word=16,
)
FOLDED = replace(BASE, mappings=("folded", "parallel"), lanes=(16, 0))
COLUMNS = ("luts", "ffs", "brams", "latency_clocks", "energy_nj")


def architectures(n, seed=0):
    space, rng = SearchSpace(64, 10, L_choices=(1, 2, 4, 16, 256)), np.random.default_rng(seed)
    return [space.random_architecture(rng) for _ in range(n)]


def figures(cost: Cost) -> tuple:
    return tuple(getattr(cost, name) for name in COLUMNS)


@pytest.mark.parametrize("k, digits", [(0, 0), (1, 1), (256, 1), (3, 2), (7, 2), (-8, 1), (85, 4), (255, 2)])
def test_signed_digits_by_hand(k, digits):
    assert signed_digits(k) == digits  # 7 = 8 - 1, 85 = 64 + 16 + 4 + 1


def test_a_batch_costs_what_its_members_cost():
    batch = architectures(40)
    assert estimate_many(batch, "ecp5") == [estimate(a, "ecp5") for a in batch]
    assert estimate_many([], "ecp5") == []


def test_a_target_is_taken_by_name_or_as_a_value_and_a_wrong_name_is_refused():
    assert estimate(BASE, "zynq") == estimate(BASE, target("zynq"))
    with pytest.raises(ValueError, match="target must be one of ice40, "):
        estimate(BASE, "virtex")


@pytest.mark.parametrize("name", TARGETS)
def test_figures_are_counts_and_an_interval(name):
    for cost in estimate_many(architectures(60), name):
        assert all(type(getattr(cost, f)) is int for f in ("luts", "ffs", "brams", "latency_clocks"))
        assert cost.luts > 0 and cost.ffs > 0 and cost.brams >= 0
        assert 0 < cost.energy_low_nj < cost.energy_nj < cost.energy_high_nj
        assert cost.energy_label == target(name).energy_label
        assert cost.latency_us == cost.latency_clocks / cost.clock_mhz


def prices() -> list:
    """Of designs with every neuron, both mappings, on every target: before training, and with weights."""
    neurons = ("if", "lif", "stochastic_lif", "homeostatic_lif", "izhikevich")
    ours = [replace(base, neuron_types=(n, "lif"), word=12) for n in neurons for base in (BASE, FOLDED)]
    small = [replace(a, n_inputs=12, layer_widths=(6, 3)) for a in ours]
    drawn = [drawn_network(a, 0) for a in small]
    return [[estimate_many(ours, name), [measure(n, name) for n in drawn]] for name in TARGETS]


def test_no_price_depends_on_the_order_of_the_neurons():
    """A folded stochastic_lif once cost what has a second word of state where it stood behind such."""
    script = (
        "import sys; from scnas import contract; contract.NEURONS = tuple(sys.argv[1:]); "
        "from test_cost import prices; print(prices())"
    )
    here = Path(__file__).parent
    path = os.pathsep.join(map(str, (here.parents[1], here.parent / "helpers", here)))
    for names in (contract.NEURONS[::-1], (*contract.NEURONS[2:], *contract.NEURONS[:2])):
        command = [sys.executable, "-c", script, *names]
        found = subprocess.run(
            command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path}, check=True
        )
        assert found.stdout.strip() == str(prices())


def test_a_neuron_whose_circuit_nobody_measured_has_a_price_of_its_own_that_says_so(monkeypatch):
    stranger = replace(models.MODELS["homeostatic_lif"], name="stranger", cell=None)
    monkeypatch.setattr(models, "MODELS", models.MODELS | {"stranger": stranger})
    monkeypatch.setattr(contract.NEURONS, "_names", [*contract.NEURONS, "stranger"])
    assert structure.traits("stranger") == (False, False, False, True, True)
    assert structure.traits("homeostatic_lif") == (True, False, True, False, False)
    known, own = (
        estimate(replace(BASE, neuron_types=(name, "lif")), "ice40")
        for name in ("homeostatic_lif", "stranger")
    )
    assert known.energy_label != own.energy_label == own.fmax_label == "uncalibrated"
    assert 0.5 * known.luts < own.luts < 2 * known.luts and abs(known.ffs - own.ffs) < 0.1 * known.ffs


def test_a_derived_circuit_is_counted_by_hand(monkeypatch):
    """v + mul(I, gain_k), W = 8, F = 4: what its wires say on paper."""
    plain = replace(models.MODELS["if"], name="plain", cell=None)
    monkeypatch.setattr(models, "MODELS", models.MODELS | {"plain": plain})
    monkeypatch.setattr(contract.NEURONS, "_names", [*contract.NEURONS, "plain"])
    # I * 3 has 10 bits, and two digits: 3 = 4 - 1; I * 3 >> 4 is -24..23; v + that is -152..150, 9 bits
    noise, k = (0, 0), (("gain_k", 3), ("refractory", 3))
    found = derived._circuit("plain", 8, 4, k, noise)
    # chosen: saturation 8, reset and rest 2 * 8, and refractory steps 1 + 2; compared: 8 bits
    assert found == (0, 9 + 8, 10, 0, 8 + 16 + 3, 1)
    assert derived._circuit("plain", 8, 4, (("gain_k", 4),), noise)._replace(choice_bits=0) == (
        0,
        9 + 8,
        0,
        0,
        0,
        0,
    )
    assert derived.of_layer(*lif_layer()) == derived.NONE


def lif_layer():
    network = drawn_network(BASE, 0)
    return network.layers[0], network


def test_latency_is_the_schedule_of_the_pipeline():
    # 64 inputs with 2 delays through 16 lanes: 48 neurons * 16 clocks * 8 groups; the slowest layer
    steps = [48 * 16 * 8, 16]
    expected = schedule.latency_clocks(8, steps, ("folded", "parallel"), 10, "membrane")
    assert estimate(FOLDED, "ice40").latency_clocks == expected


def test_static_power_for_the_latency_is_part_of_the_energy():
    slow = replace(FOLDED, bitstream_lengths=(256, 16))
    for name, chip in TARGETS.items():
        cost = estimate(slow, name)
        assert cost.energy_nj > chip.static_mw * cost.latency_us  # mW * us = nJ


CHANGES = {
    "n_inputs": 80,
    "layer_widths": (64, 10),
    "neuron_types": ("izhikevich", "lif"),
    "bitstream_lengths": (64, 16),
    "delay_ranges": (4, 0),
    "densities": (1.0, 0.5),
    "generators": ("lfsr", "sobol"),
    "mappings": ("folded", "parallel"),
    "timesteps": 16,
    "word": 12,
    "readout": "spikes",
}


@pytest.mark.parametrize("gene", CHANGES)
@pytest.mark.parametrize("name", TARGETS)
def test_every_gene_changes_the_cost(gene, name):
    changed = replace(BASE, **{gene: CHANGES[gene]}, **({"lanes": None} if gene == "mappings" else {}))
    assert figures(estimate(changed, name)) != figures(estimate(BASE, name))


def test_lanes_trade_logic_for_clocks():
    narrow, wide = (estimate(replace(FOLDED, lanes=(n, 0)), "ice40") for n in (4, 32))
    assert narrow.luts < wide.luts and narrow.latency_clocks > wide.latency_clocks


@pytest.mark.parametrize("name", TARGETS)
def test_neuron_models_cost_in_the_order_of_their_arithmetic(name):
    models = ("if", "lif", "stochastic_lif", "homeostatic_lif", "izhikevich")
    luts = [estimate(replace(BASE, neuron_types=(m, "lif")), name).luts for m in models]
    assert luts == sorted(set(luts))


@pytest.mark.parametrize(
    "gene, values",
    [
        ("n_inputs", (16, 64, 65, 256)),
        ("layer_widths", ((8, 10), (9, 10), (64, 10), (64, 11))),
        ("densities", ((0.01, 0.5), (0.1, 0.5), (0.5, 0.5), (1.0, 0.5), (1.0, 1.0))),
        ("delay_ranges", ((0, 0), (1, 0), (2, 0), (7, 0), (7, 7))),
        ("word", (16, 18, 20)),  # a narrower one may saturate, which costs, too
        ("timesteps", (2, 8, 64)),
        ("bitstream_lengths", ((4, 16), (16, 16), (64, 16), (256, 16), (256, 256))),
    ],
)
@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize("base", [BASE, FOLDED, replace(BASE, generators=("lfsr", "lfsr"))])
def test_more_of_anything_never_costs_less(gene, values, name, base):
    if gene == "timesteps":
        base = replace(base, delay_ranges=(0, 0))
    costs = [estimate(replace(base, **{gene: value}), name) for value in values]
    for less, more in zip(costs[:-1], costs[1:], strict=True):
        assert all(a <= b for a, b in zip(figures(less), figures(more), strict=True))
    assert figures(costs[0]) != figures(costs[-1])


@pytest.mark.parametrize("units", [1, 3, 4])
@pytest.mark.parametrize("lanes", [16, 70])
def test_estimate_expects_of_units_what_measure_finds(lanes, units):
    """Units and a tree that a register cuts, in the clocks exactly and in the areas about."""
    a = replace(FOLDED, densities=(0.7, 0.5), lanes=(lanes, 0), units=(units, 1))
    network = drawn_network(a, 0)
    assert network.layers[0].units == units
    before, after = estimate(a, "ice40"), measure(network, "ice40")
    assert before.latency_clocks == after.latency_clocks == write_design(network).latency_clocks
    assert before.ffs == pytest.approx(after.ffs, rel=0.1)
    assert before.brams == pytest.approx(after.brams, rel=0.25)
    assert before.luts == pytest.approx(after.luts, rel=0.1)


def test_units_trade_logic_and_memory_for_clocks():
    one, four = (estimate(replace(FOLDED, layer_widths=(48, 10), units=(n, 1)), "ecp5_25k") for n in (1, 4))
    assert four.luts > 1.3 * one.luts and four.brams > 3 * one.brams
    assert four.latency_clocks < 0.3 * one.latency_clocks


def test_a_folded_layer_swaps_logic_for_memory_and_clocks():
    dense = replace(BASE, densities=(1.0, 0.5), layer_widths=(128, 10))
    parallel, folded = (
        estimate(dense, "ice40"),
        estimate(replace(dense, mappings=("folded", "parallel"), lanes=None), "ice40"),
    )
    assert folded.luts < parallel.luts / 2
    assert parallel.brams == 0 < folded.brams
    assert folded.latency_clocks > 100 * parallel.latency_clocks


def as_drawn(network) -> Architecture:
    """The architecture that `network` could have been trained from."""
    layers = network.layers
    return Architecture(
        n_inputs=network.n_inputs,
        layer_widths=tuple(x.n_out for x in layers),
        neuron_types=tuple(x.neuron for x in layers),
        bitstream_lengths=tuple(x.length for x in layers),
        delay_ranges=tuple(max(x.delays_in_use) for x in layers),
        densities=tuple(x.n_synapses / x.weights.size for x in layers),
        generators=tuple(x.generator for x in layers),
        mappings=tuple(x.mapping for x in layers),
        lanes=tuple(x.lanes for x in layers),
        timesteps=network.timesteps,
        word=network.word,
        fraction=network.fraction,
        readout=network.readout,
    )


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("mapping", ["parallel", "folded"])
def test_estimate_expects_what_measure_finds(seed, mapping):
    neuron = ("if", "lif", "stochastic_lif", "homeostatic_lif")[seed % 4]
    network = random_network(
        np.random.default_rng(seed),
        (40, 24, 10),
        mapping=mapping,
        neuron=neuron,
        powers_of_two=True,
        refractory=0,
    )
    before, after = estimate(as_drawn(network), "ice40"), measure(network, "ice40")
    assert before.latency_clocks == after.latency_clocks
    assert before.brams == pytest.approx(after.brams, rel=0.25)
    assert before.luts == pytest.approx(after.luts, rel=0.15)  # a leak of 1/4 or 1/2 is cheaper
    assert before.ffs == pytest.approx(after.ffs, rel=0.1)
    assert before.energy_nj == pytest.approx(after.energy_nj, rel=0.1)


def test_measure_sees_what_the_weights_use():
    network = random_network(
        np.random.default_rng(0), (40, 24, 10), max_delay=3, generator="sobol", length=64
    )
    layer = network.layers[0]

    def cost(**change):
        return measure(replace(network, layers=(replace(layer, **change), network.layers[1])), "ice40")

    whole = cost()
    half = np.where(np.arange(40)[:, None] % 2, layer.weights, 0)
    assert cost(weights=half).luts < whole.luts
    same = np.sign(layer.weights) * 32  # one magnitude instead of up to 64
    assert cost(weights=same).luts < whole.luts
    assert cost(delays=np.zeros_like(layer.delays)).ffs < whole.ffs
    constants = dict(layer.constants) | {"gain_k": 171, "refractory": 0}  # 171 = 128 + 32 + 8 + 2 + 1
    assert cost(constants=constants).luts > cost(constants=constants | {"gain_k": 128}).luts


def test_unused_delays_cost_no_clocks():
    network = random_network(np.random.default_rng(1), (20, 10, 4), mapping="folded", lanes=4, max_delay=3)
    weights = np.where(network.layers[0].delays == 2, network.layers[0].weights, 0)
    one_delay = replace(network, layers=(replace(network.layers[0], weights=weights), network.layers[1]))
    assert measure(one_delay, "ice40").latency_clocks < measure(network, "ice40").latency_clocks


def test_more_spikes_take_more_energy_and_nothing_else():
    network = random_network(np.random.default_rng(2), (40, 24, 10))
    quiet, busy = (measure(network, "ice40_up5k", [s * 40, s * 24]) for s in (0.05, 0.4))
    assert quiet.energy_nj < busy.energy_nj
    assert quiet[:6] == busy[:6]


@pytest.mark.parametrize(
    "activity, message",
    [([1.0], "activity must have one entry per layer"), ([1.0, 25.0], r"activity\[1\] must be 0 to 24")],
)
def test_a_wrong_activity_is_refused(activity, message):
    with pytest.raises(ValueError, match=message):
        measure(random_network(np.random.default_rng(2), (40, 24, 10)), "ice40", activity)


COST = Cost(
    luts=1000,
    ffs=500,
    brams=8,
    dsps=0,
    latency_clocks=1200,
    latency_us=100.0,
    energy_nj=1.0,
    energy_low_nj=0.5,
    energy_high_nj=2.0,
    energy_label="extrapolated",
    clock_mhz=12.0,
    modelled_fmax_mhz=50.0,
    fmax_label="calibrated",
)


@pytest.mark.parametrize(
    "budgets, violation",
    [
        ({}, 0.0),
        ({"luts": 1000, "ffs": 500, "brams": 8, "latency_us": 100.0}, 0.0),
        ({"luts": 800}, 0.25),
        ({"luts": 800, "ffs": 400, "brams": 16}, 0.5),
        ({"luts": None, "latency_us": 50.0}, 1.0),
        ({"brams": 0}, 8.0),
    ],
)
def test_violations_by_hand(budgets, violation):
    assert violations(COST, budgets) == pytest.approx(violation)


@pytest.mark.parametrize(
    "name, value, limit, excess",
    [
        ("latency_us", 0.6, 0.5, 0.2),
        ("latency_us", 0.6, 0.25, 1.4),
        ("latency_us", 0.6, 0.6, 0.0),
        ("latency_us", 1.5, 0.75, 1.0),
        ("latency_us", 0.002, 0.001, 1.0),
        ("latency_us", 0.6, 0, 0.6e9),  # a nanosecond is the least that a latency is counted in
        ("luts", 3, 0.5, 2.5),  # no chip has half a LUT: an excess in LUTs
        ("ffs", 3, 0.25, 2.75),
        ("brams", 3, 0, 3.0),
        ("brams", 3, 0.5, 2.5),
        ("brams", 0, 0, 0.0),
        ("dsps", 3, 0, 3.0),
        ("dsps", 3, 1.5, 1.0),
    ],
)
def test_budgets_below_one_by_hand(name, value, limit, excess):
    cost = COST._replace(**{name: value})
    assert violations(cost, {name: limit}) == pytest.approx(excess)
    assert violations(cost, {name: limit, "luts": 800 if name != "luts" else limit}) == pytest.approx(
        excess + 0.25 * (name != "luts")
    )


@pytest.mark.parametrize("limit", [0.2, 0.7, 3.0])
def test_a_latency_budget_scales_with_the_clock(limit):
    """Twice the latency of the budget is as far off at 2 us as at 0.4 us: no unit is special."""
    far = violations(COST._replace(latency_us=2 * limit), {"latency_us": limit})
    assert far == pytest.approx(1.0)


def test_the_capacity_of_the_chip_is_a_budget():
    assert violations(COST, target("ice40").capacity) == 0
    assert violations(COST._replace(luts=7681), target("ice40").capacity) == pytest.approx(1 / 7680)


@pytest.mark.parametrize("budgets", [{"lut": 5}, {"luts": -1}, {"luts": float("nan")}])
def test_wrong_budgets_are_refused(budgets):
    with pytest.raises(ValueError, match="budget"):
        violations(COST, budgets)


def test_a_population_is_costed_at_search_speed():
    population = architectures(5000)
    estimate_many(population[:10], "ice40")
    start = time.process_time()
    estimate_many(population, "ice40")
    assert len(population) / (time.process_time() - start) > 20_000  # goal of the search; 130,000 seen


def test_fitted_figures_are_used_and_say_how_far_off_they_were():
    assert "ice40" in FITTED
    for family, record in FITTED.items():
        own = {name for name in PRIOR[family] if name.startswith("derived_")}  # by hand, of no cell
        assert record["figures"].keys() == PRIOR[family].keys() - own
        assert FIGURES[family] == record["figures"] | {name: PRIOR[family][name] for name in own}
        assert min(record["figures"].values()) >= 0
        assert record["held_out"]["luts"]["designs"] >= 8
        held = record["held_out"]
        assert held["latency_clocks"]["exact"] == 1 and held["brams"]["exact"] > 0.95
        assert held["ffs"]["mean"] < 0.005 and held["luts"]["mean"] < 0.08
        assert record["tools"] and record["flags"]


def test_figures_of_ones_own_take_the_place_of_the_fitted():
    twice = {name: 2 * figure for name, figure in FIGURES["ice40"].items()}
    network = random_network(np.random.default_rng(3), (40, 24, 10))
    for cost, own in (
        (estimate(BASE, "ice40"), estimate(BASE, "ice40", twice)),
        (measure(network, "ice40"), measure(network, "ice40", figures=twice)),
    ):
        assert own.luts == pytest.approx(2 * cost.luts, abs=1)
        assert own[1:] == cost[1:]


@pytest.mark.parametrize("seed", range(30))
def test_trees_are_counted_as_they_are_written(seed):
    rng = np.random.default_rng(seed)
    groups = rng.integers(0, 9, int(rng.integers(1, 12))).tolist()
    leaves = [Leaf(f"t[{i}_{j}]", f"a{i:02}") for i, n in enumerate(groups) for j in range(n)]
    lines, _, _ = adder_tree(leaves, "x")
    same, mixed, pairs, ands, bits, carries, odd, short = tree_counts(groups)
    words = [line for line in lines if "_w" in line.split("=")[0]]
    sums = [line for line in lines if "_s" in line.split("=")[0] and "_c" not in line.split("=")[0]]
    if len(leaves) > 1:
        assert same + mixed + pairs + ands == len(words)
    assert carries == sum("_c = " in line for line in lines)
    sizes = [int(line.split("[")[1].split(":")[0]) + 1 for line in sums]
    chains = [line for line in lines if "_s" in line.split("=")[0] and " + " in line]
    widths = [int(line.split("[")[1].split(":")[0]) + 1 for line in chains]  # one bit more with a carry
    assert len(chains) == len(sums)
    assert bits == sum(size for size, width in zip(sizes, widths, strict=True) if width > SHORT)
    assert short == sum(size for size, width in zip(sizes, widths, strict=True) if width <= SHORT)
    assert odd == sum(width % 2 for width in widths if width > SHORT)
    assert 3 * (same + mixed) + 2 * pairs + ands + carries == len(leaves)


GENES = Path(__file__).parents[2] / "experiments" / "cost_genes.csv"


@pytest.mark.parametrize("row", list(csv.DictReader(GENES.open())), ids=lambda row: row["gene"])
def test_each_gene_moves_the_cost_as_it_moves_synthesis(row):
    """By record: what iCE40 synthesis made of a design before and after one gene changed.

    Leaks and weights of the two networks were drawn anew, which moves their logic by a few percent more;
    `measure` knows them, `estimate` does not.
    """
    before, after = (Architecture(**json.loads(row[when])) for when in ("before", "after"))
    assert getattr(before, row["gene"]) != getattr(after, row["gene"])
    measured = [measure(drawn_network(a, 0), "ice40") for a in (before, after)]
    estimated = estimate_many([before, after], "ice40")
    moved = []
    for name in ("luts", "ffs", "brams", "latency_clocks"):
        real = [int(row[f"{name}_{when}"]) for when in ("before", "after")]
        if name != "luts":
            assert [getattr(price, name) for price in measured] == real
        for prices, least in ((measured, 0.03), (estimated, 0.08)):
            if abs(real[1] - real[0]) > least * max(real):
                moved.append(name)
                change = getattr(prices[1], name) - getattr(prices[0], name)
                assert np.sign(change) == np.sign(real[1] - real[0]), name
    assert moved


@pytest.mark.parametrize(
    "family, width, depth, blocks, rows",
    [
        ("ice40", 16, 256, 1, 1),
        ("ice40", 40, 741, 8, 3),  # three times 40 bits side by side in blocks of 256 x 16
        ("ice40", 17, 256, 2, 1),
        ("ice40", 2, 2048, 1, 1),
        ("ecp5", 40, 741, 3, 1),  # also 2 x 40 bits in blocks of 512 x 36, but no choice between two
        ("xilinx", 72, 512, 1, 1),
    ],
)
def test_block_rams_by_hand(family, width, depth, blocks, rows):
    found = folding.block_shapes(np.array([width]), np.array([depth]), family)
    assert (found[0][0], found[1][0]) == (blocks, rows)


def test_tables_of_a_rom_by_hand():
    # bit 0: 0101.., the address itself; bit 1: 0110.., a table; bit 2: constant; bit 3: as bit 1
    words = [0b0100, 0b1111, 0b1110, 0b0101] * 4
    assert held.tables(words, 4) == 1
    assert held.tables(words * 2, 4) == 1  # the same table again
    assert held.tables([*words, *(word ^ 2 for word in words)], 4) == 2


def test_the_lowest_bytes_of_an_input_that_nobody_reads_are_not_kept():
    read = np.zeros(20, bool)
    assert held.byte_registers(read, 3) == 0
    read[[0, 9, 17]] = True  # lane 0 from byte 0, lane 1 from byte 1
    assert held.byte_registers(read, 3) == 3 + 2


@pytest.mark.parametrize("mapping, folded", [("parallel", False), ("folded", True)])
def test_multipliers_are_counted(mapping, folded):
    a = replace(
        BASE,
        neuron_types=("izhikevich", "lif"),
        mappings=(mapping, "parallel"),
        lanes=None,
        densities=(0.5, 1.0),
    )
    neurons = 1 if folded else 48
    assert estimate(a, "ice40").dsps == 0  # synth_ice40 without -dsp
    assert measure(drawn_network(a, 0), "ecp5").dsps == estimate(a, "ecp5").dsps == 3 * neurons
    wide = replace(a, word=20)  # 20 x 20 bits in four of 18 x 18; 21 bits by a constant in two
    assert measure(drawn_network(wide, 0), "ecp5").dsps == (2 * 2 + 4) * neurons
    small = target("ecp5_25k")
    assert (violations(estimate(a, small), small.capacity | {"luts": None}) > 0) == (3 * neurons > small.dsps)
    assert estimate(BASE, "ecp5").dsps == 0


# Multiplier blocks of an Izhikevich neuron by the width of its word, as yosys made them: two products with
# constants and a square. A block of the ECP5 takes 18 x 18 bits, and a single bit more goes into logic; one
# of the 7 series takes 25 x 18.
BLOCKS = {
    ("ecp5", 16): 1 + 1 + 1, ("ecp5", 17): 1 + 1 + 1, ("ecp5", 18): 1 + 1 + 1, ("ecp5", 20): 2 + 2 + 4,
    ("ecp5", 24): 2 + 2 + 4, ("artix7", 17): 1 + 1 + 1, ("artix7", 18): 1 + 1 + 1, ("artix7", 19): 1 + 1 + 2,
    ("artix7", 24): 1 + 1 + 2,
}  # fmt: skip


@pytest.mark.parametrize("units", [1, 3, 0])
@pytest.mark.parametrize("chip, word", BLOCKS)
def test_multipliers_of_wide_words_by_record(chip, word, units):
    """units: of a folded layer of 12 neurons, 0 for a parallel one, where each has blocks of its own."""
    a = replace(
        BASE, layer_widths=(12, 10), neuron_types=("izhikevich", "lif"), densities=(0.5, 1.0), word=word,
        mappings=("folded" if units else "parallel", "parallel"), lanes=(8, 0), units=(units or 1, 1),
    )  # fmt: skip
    expected = BLOCKS[chip, word] * (units or 12)
    assert measure(drawn_network(a, 0), chip).dsps == estimate(a, chip).dsps == expected


@pytest.mark.parametrize("units, blocks", [(1, 1 + 1), (2, 2 + 2), (4, 4 + 4)])
def test_states_and_thresholds_of_every_unit_have_memories_of_their_own(units, blocks):
    """By hand: 1024 membranes and 1024 thresholds of 16 bits are a block of 1024 x 18 each; 512 or 256 of
    them are as many of 512 x 36. The weights, of 2 inputs, share one block in any case."""
    a = Architecture(
        2, (1024, 4), ("lif", "lif"), (4, 4), (0, 0), mappings=("folded", "parallel"), lanes=(2, 0), word=16,
        units=(units, 1),
    )  # fmt: skip
    assert measure(drawn_network(a, 0), "ecp5").brams == estimate(a, "ecp5").brams == blocks + 1


@pytest.mark.parametrize("units", [1, 2, 4])
def test_blocks_of_units_by_hand(units):
    """Every unit saturates, adds up, and reads a state and thresholds of its own."""
    a = replace(FOLDED, layer_widths=(24, 10), bitstream_lengths=(256, 256), densities=(1.0, 1.0), word=10,
                delay_ranges=(0, 0), units=(units, 1))  # fmt: skip
    network = drawn_network(a, 0)
    layer = network.layers[0]
    found = counted.of_network(network)
    assert found.saturating.tolist()[0] == 1
    alone = replace(
        network, layers=(layer, replace(network.layers[1], weights=0 * network.layers[1].weights))
    )
    blocks = logic_blocks(alone, "ecp5")
    assert blocks["saturated_bits"] == 10 * units
    assert blocks["state_bits"] == 10 * units
    assert blocks["folded_total_bits"] == units * found.total_bits[0]
    tables = [held.tables([t % 2**10 for t in own], 10) for own in np.split(layer.threshold, units)]
    assert found.threshold_luts[0] == sum(tables)
    expected = of_architectures([a], [0])
    steps = 24 // units * 256 * 4  # 64 inputs in four groups of 16
    assert expected.period.tolist() == found.period.tolist() == [steps, steps]
    assert expected.waits.tolist() == found.waits.tolist() == [False, False]
    turned = replace(a, mappings=("parallel", "folded"), lanes=(0, 1), units=None)  # the second is the slower
    assert of_architectures([turned], [0]).waits.tolist() == [True, False]


def test_noise_is_multiplied_once_for_all_units():
    a = replace(FOLDED, layer_widths=(12, 10), neuron_types=("stochastic_lif", "lif"), units=(3, 1), word=16)
    network = drawn_network(a, 0)
    layer = network.layers[0]

    def dsps(**constants):
        changed = replace(layer, constants=layer.constants | constants)
        return measure(replace(network, layers=(changed, network.layers[1])), "ecp5").dsps

    powers = {"gain_k": 128, "leak_k": 32, "noise_k": 64}
    assert layer.units == 3 and dsps(**powers) == 0
    assert dsps(**powers | {"noise_k": 37}) == 1
    assert dsps(**powers | {"gain_k": 37}) == 3


def test_multipliers_of_odd_constants_are_counted():
    network = random_network(np.random.default_rng(0), (12, 5, 3), neuron="lif", mapping="parallel")
    layer = network.layers[0]

    def dsps(**constants):
        changed = replace(layer, constants=dict(layer.constants) | constants)
        return measure(replace(network, layers=(changed, network.layers[1])), "ecp5").dsps

    live = int((network.layers[1].weights != 0).any(axis=1).sum())
    none = dsps(gain_k=128, leak_k=32)  # those of the second layer
    assert dsps(gain_k=171, leak_k=32) == none + live
    assert dsps(gain_k=171, leak_k=33) == none + 2 * live

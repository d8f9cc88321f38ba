from dataclasses import FrozenInstanceError, fields

import pytest

from scnas.hardware.targets import TARGETS, Target, target


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
        none = {"pins": "xilinx", "dsps": "ice40"}.get(f.name)
        assert getattr(chip, f.name) or chip.family == none
    assert chip.family in ("ice40", "ecp5", "xilinx")
    assert chip.energy_label in ("calibrated", "extrapolated", "uncalibrated")
    with pytest.raises(FrozenInstanceError):
        chip.luts = 1


def test_only_the_measured_part_is_called_calibrated():
    assert [t.name for t in TARGETS.values() if t.energy_label == "calibrated"] == ["ice40_up5k"]

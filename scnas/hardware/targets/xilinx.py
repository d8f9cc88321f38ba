"""The 7 series of AMD: the family, and the chips of it that are known.

There is no open place and route for it to install from PyPI: designs are synthesised only.
"""

from scnas.hardware.targets.chip import NOT_SEEN, Target
from scnas.hardware.targets.family import Family

FAMILY = Family(
    name="xilinx",
    lut_unit="LUT6",
    lut_inputs=6,
    lut_ram=True,
    bram_bits=36864,
    bram_shapes=(
        *((72, 512), (36, 1024), (18, 2048), (9, 4096), (4, 8192), (2, 16384), (1, 32768)),  # UG473
    ),
    multiplier_bits=25,
    synth="synth_xilinx -family xc7 -flatten -noiopad -noclkbuf",
    cells={  # UG474: LUTs that a memory or shift register takes. RAMB18 is half of the counted RAMB36.
        "lut_cells": {
            r"LUT[1-6]|INV|SRL16E|SRLC32E|RAM32X1S|RAM64X1S": 1,
            r"RAM32X1D|RAM64X1D": 2,
            r"RAM32M|RAM64M|RAM128X1D": 4,
        },
        "ffs": {r"FD[RSCP]E(_1)?": 1},
        "carries": {r"CARRY4": 4},
        "brams": {r"RAMB36E1": 1, r"RAMB18E1": 0.5},
        "dsps": {r"DSP48E1": 1},
    },
    models="xilinx/cells_sim.v",
    unmodelled=r"RAMB\w+",
    drivers=(
        (r"FD[RSCP]E(_1)?\.Q", "flip_flops"),
        (r"CARRY4\.CO", "carries"),
        (r"LUT[1-6]\.O|INV\.O|MUXF[78]\.O|CARRY4\.O", "luts"),
        (r"(RAM|SRL)\w+\.\w+|DSP48E1\.\w+", "blocks"),
    ),
    data_inputs=r"FD[RSCP]E(_1)?\.D",
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
    },
    delay_share=0.5,
    bram_ns=1.8,  # DS181
)
CHIPS = (
    Target(
        name="artix7",
        title="AMD Artix-7 XC7A100T",
        family=FAMILY.name,
        luts=63400,
        ffs=126800,
        brams=135,
        dsps=240,
        pins=None,
        clock_mhz=100.0,
        static_mw=223.8,
        energy_label="uncalibrated",
        capacity_source="AMD DS180, 7 Series Overview: 15,850 slices of 4 LUT6 and 8 FF, 135 block RAMs of "
        "36 kbit, 240 DSP slices",
        clock_source="100 MHz oscillator of the Nexys A7-100T board",
        static_source="AMD DS181, table 7, typical quiescent supply current at a junction of 85 C: VCCINT "
        "155 mA at 1.0 V, VCCAUX 36 mA at 1.8 V, VCCBRAM 4 mA at 1.0 V, " + NOT_SEEN + "; the XC7A35T has "
        "95, 22 and 2 mA there",
    ),
    Target(
        name="zynq",
        title="AMD Zynq-7000 XC7Z020 (programmable logic only)",
        family=FAMILY.name,
        luts=53200,
        ffs=106400,
        brams=140,
        dsps=220,
        pins=None,
        clock_mhz=100.0,
        static_mw=152.4,
        energy_label="uncalibrated",
        capacity_source="AMD DS190, Zynq-7000 Overview: 53,200 LUT6, 106,400 FF, 140 block RAMs of "
        "36 kbit, 220 DSP slices",
        clock_source="100 MHz FCLK0 that the processor of the PYNQ-Z2 board gives by default",
        static_source="AMD DS187, typical quiescent supply current of the programmable logic: VCCINT 78 mA "
        "at 1.0 V, VCCAUX 38 mA at 1.8 V, VCCBRAM 6 mA at 1.0 V, " + NOT_SEEN + "; the XC7Z007S has "
        "34, 18 and 3 mA there; the processor is not counted",
    ),
)

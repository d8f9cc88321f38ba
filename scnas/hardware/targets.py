"""The chips a network can be built for: what they hold, what they draw at rest, and who says so."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from scnas.contract import Refused


@dataclass(frozen=True)
class Target:
    """One chip.

    name: the word in settings. title: the part, for people. family: `ice40`, `ecp5` or `xilinx`,
    which share a synthesis flow and block costs.
    lut_unit: what `luts` counts. luts, ffs, brams, dsps: capacity; brams are blocks of bram_bits each,
    parity included; dsps are multiplier blocks that the synthesis flow of the target can use.
    pins: inputs and outputs of the package that designs are routed for, None where none are routed.
    clock_mhz: the clock that latency and energy are quoted at, unless a design cannot reach it: that of
    the usual board.
    static_mw: typical power at rest of the core and, where named, its auxiliary supplies.
    energy_label: `calibrated` (a third-party measurement of this very part), `extrapolated` (same
    process and architecture) or `uncalibrated` (data-sheet static power only).
    *_source: where the figures come from.
    """

    name: str
    title: str
    family: str
    lut_unit: str
    luts: int
    ffs: int
    brams: int
    dsps: int
    bram_bits: int
    pins: int | None
    clock_mhz: float
    static_mw: float
    energy_label: str
    capacity_source: str
    clock_source: str
    static_source: str

    @property
    def capacity(self) -> Mapping[str, int]:
        """The budgets that the chip itself sets: `luts`, `ffs`, `brams`, `dsps`."""
        return MappingProxyType({"luts": self.luts, "ffs": self.ffs, "brams": self.brams, "dsps": self.dsps})

    def byte_serial(self, n_inputs: int) -> bool:
        """Whether a design takes its input spikes in bytes: where pins are too few for one each."""
        return self.pins is not None and n_inputs + OTHER_PINS > self.pins


OTHER_PINS = 56  # clock, reset, handshake, score and class of the widest design
_NOT_SEEN = "from memory, not seen again in the data sheet"  # the intervals of energy allow for it
_ICE40_CELL = "logic cell"  # one LUT4, one carry, one flip-flop; what nextpnr packs as ICESTORM_LC
_TARGETS = (
    Target(
        name="ice40",
        title="Lattice iCE40 HX8K",
        family="ice40",
        lut_unit=_ICE40_CELL,
        luts=7680,
        ffs=7680,
        brams=32,
        dsps=0,
        bram_bits=4096,
        pins=206,
        clock_mhz=12.0,
        static_mw=1.37,
        energy_label="extrapolated",
        capacity_source="Lattice FPGA-DS-02029, iCE40 LP/HX Family Data Sheet, table 1.1: 7,680 logic "
        "cells, 32 EBR of 4 kbit",
        clock_source="12 MHz oscillator of the iCE40-HX8K breakout board",
        static_source="FPGA-DS-02029, static supply current HX4K/HX8K: 1.14 mA typical at 1.2 V",
    ),
    Target(
        name="ice40_up5k",
        title="Lattice iCE40 UltraPlus UP5K",
        family="ice40",
        lut_unit=_ICE40_CELL,
        luts=5280,
        ffs=5280,
        brams=30,
        dsps=0,
        bram_bits=4096,
        pins=39,
        clock_mhz=12.0,
        static_mw=0.104,
        energy_label="calibrated",
        capacity_source="Lattice FPGA-DS-02008, iCE40 UltraPlus Family Data Sheet, table 1.1: 5,280 logic "
        "cells, 30 EBR of 4 kbit (the 4 SPRAM of 256 kbit and 8 multipliers are not used)",
        clock_source="12 MHz oscillator of the UPduino and iCEBreaker boards",
        static_source="measured, blank design: 104 uW (github.com/tinyvision-ai-inc/ice40_power, UP5K-SG48)",
    ),
    Target(
        name="ecp5",
        title="Lattice ECP5 LFE5U-85",
        family="ecp5",
        lut_unit="LUT4",
        luts=83640,
        ffs=83640,
        brams=208,
        dsps=156,
        bram_bits=18432,
        pins=205,
        clock_mhz=25.0,
        static_mw=233.2,
        energy_label="uncalibrated",
        capacity_source="Lattice FPGA-DS-02012, ECP5 Family Data Sheet, table 1.1: 84 k LUT (83,640 in "
        "nextpnr's chip database), 208 sysMEM blocks of 18 kbit, 156 multipliers of 18 x 18",
        clock_source="25 MHz oscillator of the ULX3S board",
        static_source="FPGA-DS-02012, supply current (standby), core only: 212 mA typical at 1.1 V, "
        + _NOT_SEEN,
    ),
    Target(
        name="ecp5_25k",
        title="Lattice ECP5 LFE5U-25",
        family="ecp5",
        lut_unit="LUT4",
        luts=24288,
        ffs=24288,
        brams=56,
        dsps=28,
        bram_bits=18432,
        pins=197,
        clock_mhz=25.0,
        static_mw=84.7,
        energy_label="uncalibrated",
        capacity_source="Lattice FPGA-DS-02012, ECP5 Family Data Sheet, table 1.1: 24 k LUT (24,288 in "
        "nextpnr's chip database), 56 sysMEM blocks of 18 kbit, 28 multipliers of 18 x 18",
        clock_source="25 MHz oscillator of the Colorlight i5 board",
        static_source="FPGA-DS-02012, supply current (standby), core only: 77 mA typical at 1.1 V, "
        + _NOT_SEEN,
    ),
    Target(
        name="artix7",
        title="AMD Artix-7 XC7A100T",
        family="xilinx",
        lut_unit="LUT6",
        luts=63400,
        ffs=126800,
        brams=135,
        dsps=240,
        bram_bits=36864,
        pins=None,
        clock_mhz=100.0,
        static_mw=223.8,
        energy_label="uncalibrated",
        capacity_source="AMD DS180, 7 Series Overview: 15,850 slices of 4 LUT6 and 8 FF, 135 block RAMs of "
        "36 kbit, 240 DSP slices",
        clock_source="100 MHz oscillator of the Nexys A7-100T board",
        static_source="AMD DS181, table 7, typical quiescent supply current at a junction of 85 C: VCCINT "
        "155 mA at 1.0 V, VCCAUX 36 mA at 1.8 V, VCCBRAM 4 mA at 1.0 V, " + _NOT_SEEN + "; the XC7A35T has "
        "95, 22 and 2 mA there",
    ),
    Target(
        name="zynq",
        title="AMD Zynq-7000 XC7Z020 (programmable logic only)",
        family="xilinx",
        lut_unit="LUT6",
        luts=53200,
        ffs=106400,
        brams=140,
        dsps=220,
        bram_bits=36864,
        pins=None,
        clock_mhz=100.0,
        static_mw=152.4,
        energy_label="uncalibrated",
        capacity_source="AMD DS190, Zynq-7000 Overview: 53,200 LUT6, 106,400 FF, 140 block RAMs of "
        "36 kbit, 220 DSP slices",
        clock_source="100 MHz FCLK0 that the processor of the PYNQ-Z2 board gives by default",
        static_source="AMD DS187, typical quiescent supply current of the programmable logic: VCCINT 78 mA "
        "at 1.0 V, VCCAUX 38 mA at 1.8 V, VCCBRAM 6 mA at 1.0 V, " + _NOT_SEEN + "; the XC7Z007S has "
        "34, 18 and 3 mA there; the processor is not counted",
    ),
)
TARGETS: Mapping[str, Target] = MappingProxyType({t.name: t for t in _TARGETS})


def target(name: str) -> Target:
    """The chip of that name; ValueError listing the names otherwise."""
    if not isinstance(name, str) or name not in TARGETS:
        raise Refused(f"target must be one of {', '.join(TARGETS)}, got {name!r}")
    return TARGETS[name]

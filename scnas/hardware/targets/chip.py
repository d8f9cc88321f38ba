"""Target: one chip, and the registry of chips."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from scnas.contract import Refused, identifier, one_of, short, whole
from scnas.hardware.targets.family import FAMILIES

OTHER_PINS = 56  # clock, reset, handshake, score and class of the widest design
NOT_SEEN = "from memory, not seen again in the data sheet"  # the intervals of energy allow for it
ENERGY_LABELS = ("calibrated", "extrapolated", "uncalibrated")


@dataclass(frozen=True)
class Target:
    """One chip.

    name: the word in settings. title: the part, for people. family: the name of a registered Family, whose
    chips share a synthesis flow and block costs.
    luts, ffs, brams, dsps: capacity; luts in the family's `lut_unit`, brams in blocks of its `bram_bits`;
    dsps are multiplier blocks that the synthesis flow of the family can use.
    pins: inputs and outputs of the package that designs are routed for, None where none are routed.
    clock_mhz: the clock that latency and energy are quoted at, unless a design cannot reach it: that of
    the usual board.
    static_mw: typical power at rest of the core and, where named, its auxiliary supplies.
    energy_label: `calibrated` (a third-party measurement of this very part), `extrapolated` (same
    process and architecture) or `uncalibrated` (data-sheet static power only).
    place: nextpnr's options that choose the chip and its package; () where none are routed. synth: options
    that its Yosys command has on top of the family's.
    *_source: where the figures come from.
    """

    name: str
    title: str
    family: str
    luts: int
    ffs: int
    brams: int
    dsps: int
    pins: int | None
    clock_mhz: float
    static_mw: float
    energy_label: str
    capacity_source: str
    clock_source: str
    static_source: str
    place: tuple[str, ...] = ()
    synth: str = ""

    @property
    def capacity(self) -> Mapping[str, int]:
        """The budgets that the chip itself sets: `luts`, `ffs`, `brams`, `dsps`."""
        return MappingProxyType({"luts": self.luts, "ffs": self.ffs, "brams": self.brams, "dsps": self.dsps})

    @property
    def routed(self) -> bool:
        """Whether designs are placed and routed; otherwise they are synthesised only."""
        return FAMILIES[self.family].routed

    @property
    def yosys(self) -> str:
        """The command of Yosys that synthesises for this chip."""
        return f"{FAMILIES[self.family].synth} {self.synth}".rstrip()

    @property
    def lut_unit(self) -> str:
        """What `luts` counts."""
        return FAMILIES[self.family].lut_unit

    @property
    def bram_bits(self) -> int:
        """Bits of a block RAM, parity included."""
        return FAMILIES[self.family].bram_bits

    def byte_serial(self, n_inputs: int) -> bool:
        """Whether a design takes its input spikes in bytes: where pins are too few for one each."""
        return self.pins is not None and n_inputs + OTHER_PINS > self.pins


_TARGETS: dict[str, Target] = {}
TARGETS: Mapping[str, Target] = MappingProxyType(_TARGETS)  # grows as chips are registered


def target(name: str) -> Target:
    """The chip of that name; ValueError listing the names otherwise."""
    if not isinstance(name, str) or name not in TARGETS:
        raise Refused(f"target must be one of {', '.join(TARGETS)}, got {short(name)}")
    return TARGETS[name]


def register(chip: Target) -> Target:
    """Add a chip, so that `target=<its name>` means it; returns it.

    Refused if the name is taken, its family is not registered, or a figure is off.
    """
    identifier("target.name", chip.name)
    if chip.name in _TARGETS:
        raise Refused(f"a target named {chip.name} is registered already")
    family = FAMILIES[one_of(f"{chip.name}.family", chip.family, tuple(FAMILIES))]
    for name, least in (("luts", 1), ("ffs", 1), ("brams", 0), ("dsps", 0)):
        whole(f"{chip.name}.{name}", getattr(chip, name), least, 2**31)
    for name in ("clock_mhz", "static_mw"):
        figure = getattr(chip, name)
        if isinstance(figure, bool) or not isinstance(figure, int | float) or not 0 < figure < 1e6:
            raise Refused(f"{chip.name}.{name} must be a number above 0, got {short(figure)}")
    one_of(f"{chip.name}.energy_label", chip.energy_label, ENERGY_LABELS)
    if family.routed:
        whole(f"{chip.name}.pins", chip.pins, 1, 2**16)
        if not chip.place or not isinstance(chip.place, tuple):
            raise Refused(
                f"{chip.name}.place must name the chip and package for {family.nextpnr}, got {chip.place!r}"
            )
    elif chip.pins is not None or chip.place:
        raise Refused(f"{chip.name} must have no pins and no place: {family.name} is synthesised only")
    _TARGETS[chip.name] = chip
    return chip

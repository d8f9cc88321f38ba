"""How often the nets of the real netlist change: counted by simulating what place and route takes.

    design -> Yosys -> netlist (JSON) -> Verilog of its cells, with counters -> Verilator -> toggles

The netlist is the very file that place and route reads; its cells behave as Yosys' own simulation models
say. It plays whole inferences, and its scores, classes and clocks must be those of the network: so the
count is of a circuit that computes the right thing, and synthesis is checked on the way.

A net is counted once, where it is driven, and only if something reads it; the clock is not counted. Nets
that never leave their logic cell are told apart from those that are routed through the chip, which is where
the energy goes: a LUT's or a sum's output that only a flip-flop's data input reads is packed with it, and
carries run on wires of their own. The simulation has no delays: a net changes at most once in a clock,
glitches are not seen. What a memory or a multiplier does inside is not seen either, only its outputs.
"""

import json
import re
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from scnas import processes
from scnas.hardware import targets
from scnas.hardware.circuit.top import Design
from scnas.hardware.targets import FAMILIES, Family, Target
from scnas.hardware.tools import cosimulation, synthesis
from scnas.hardware.tools.cosimulation import Expected, ToolFailed, ToolMissing
from scnas.snn.network import Network

SAMPLES = 32  # that a winner is counted on
MANY_CLOCKS = 30_000  # from here on optimising the simulation takes less time than it saves

# What drives a net. Which cell and port is which: Family.drivers.
ROUTED = ("flip_flops", "luts", "blocks", "inputs")
KINDS = (*ROUTED, "local", "carries")  # local: from a LUT to the flip-flop in its cell


@dataclass(frozen=True)
class Toggles:
    """What a count said, per inference.

    status: `counted`; `failed`: the netlist computes something else than the network; `not_run`: a tool or
    the model of a cell is missing, `message` says which; `timeout`; `error`: a tool broke.
    samples: inferences counted, all of them equal to the network's in scores, class and clocks.
    clocks: of one inference, from `start` to `done`. nets: that were watched.
    toggles: of routed nets, mean per inference; lowest, highest, deviation: over the samples. by_kind: the
    mean of each of KINDS, by what drives the net. input_spikes: mean per inference of the counted samples.
    seconds: of everything; simulated_clocks_per_second: of the simulation alone.
    """

    status: str
    target: str
    message: str = ""
    samples: int = 0
    clocks: int = 0
    nets: int = 0
    toggles: float = 0.0
    lowest: int = 0
    highest: int = 0
    deviation: float = 0.0
    by_kind: Mapping[str, float] = field(default_factory=dict)
    input_spikes: float = 0.0
    seconds: float = 0.0
    simulated_clocks_per_second: float = 0.0
    tools: Mapping[str, str] = field(default_factory=dict)

    @property
    def counted(self) -> bool:
        """Whether there is a count, of a netlist that computes what the network computes."""
        return self.status == "counted"

    def summary(self) -> str:
        """One line."""
        match self.status:
            case "counted":
                return (
                    f"netlist = network on {self.samples}/{self.samples} samples; "
                    f"{self.toggles:,.0f} toggles an inference ({self.lowest:,} to {self.highest:,})"
                )
            case "not_run":
                return f"toggles not counted: {self.message}"
        last = self.message.strip().splitlines()[-1] if self.message.strip() else "no message"
        return f"toggles {self.status}: {last}"


class _Stopped(Exception):
    """No count: status and why."""

    def __init__(self, status: str, message: str):
        super().__init__(message)
        self.status = status


def count(
    network: Network,
    design: Design,
    chip: str | Target,
    x: np.ndarray,
    *,
    samples: int = SAMPLES,
    expected: Expected | None = None,
    seconds: float = 600.0,
) -> Toggles:
    """Toggles per inference of `design` of `network`, synthesised for `chip`, on the first samples of `x`.

    x: as the network takes it. samples: how many of them; one more inference goes before, so that every
    counted one starts where another ended. expected: what the network says of x, computed if None.
    seconds: for all tools together. Raises ValueError for a wrong target or without samples.
    """
    chip = chip if isinstance(chip, Target) else targets.target(chip)
    if samples < 1 or len(x) < 1:
        raise ValueError(f"samples must be 1 or more, got {min(samples, len(x))}")
    x = x[:samples]
    start = time.monotonic()
    spikes = cosimulation.input_spikes(network, x)
    if expected is None:
        expected = cosimulation.expectation(network, x)
    tools: dict[str, str] = {}
    try:
        with tempfile.TemporaryDirectory(prefix="scnas_toggles_") as name:
            run = _Run(Path(name), chip, start + seconds)
            tools = run.tools
            module = run.synthesise("\n".join(design.sources.values()), design.top)
            nets = run.write_netlist(module, design.top)
            found = _play(run, network, design, np.concatenate([spikes[-1:], spikes]))
    except ToolMissing as missing:
        return Toggles("not_run", chip.name, str(missing))
    except ToolFailed as failed:
        return Toggles("error", chip.name, str(failed), tools=tools)
    except _Stopped as stopped:
        return Toggles(stopped.status, chip.name, str(stopped), tools=tools)
    wrong = (
        (found["classes"][1:] != expected.classes[: len(x)])
        | (found["scores"][1:] != expected.scores[: len(x)]).any(1)
        | (found["clocks"][1:] != design.latency_clocks)
    )
    if wrong.any():
        first = int(np.flatnonzero(wrong)[0])
        scores, clocks = found["scores"][first + 1].tolist(), int(found["clocks"][first + 1])
        return Toggles(
            "failed",
            chip.name,
            f"the netlist differs from the network on {int(wrong.sum())} of {len(x)} samples; first {first}: "
            f"scores {scores} instead of {expected.scores[first].tolist()}, "
            f"clocks {clocks} instead of {design.latency_clocks}",
            tools=tools,
        )
    each = np.diff(found["membranes"], axis=0)  # running totals at `done`, [samples, kinds and clocks]
    totals = each[:, : len(ROUTED)].sum(1)
    return Toggles(
        status="counted",
        target=chip.name,
        samples=len(x),
        clocks=round(float(each[:, -1].mean())),
        nets=sum(nets),
        toggles=float(totals.mean()),
        lowest=int(totals.min()),
        highest=int(totals.max()),
        deviation=float(totals.std()),
        by_kind={kind: float(mean) for kind, mean in zip(KINDS, each[:, :-1].mean(0), strict=True)},
        input_spikes=float(spikes.reshape(len(spikes), -1).sum(1).mean()),
        seconds=round(time.monotonic() - start, 2),
        simulated_clocks_per_second=round(int(found["total"]) / max(float(found["took"]), 1e-9)),
        tools=tools,
    )


def free_running(
    verilog: str, top: str, chip: str | Target, clocks: int, seconds: float = 600.0
) -> dict[str, float]:
    """Mean toggles per clock of module `top` of `verilog`, whose only input is `clk`, by KINDS.

    For circuits that need no stimulus, such as counters. clocks: how many are simulated, 2 or more; the
    first does not count. Raises ToolMissing, ToolFailed or ValueError.
    """
    chip = chip if isinstance(chip, Target) else targets.target(chip)
    if clocks < 2:
        raise ValueError(f"clocks must be 2 or more, got {clocks}")
    try:
        with tempfile.TemporaryDirectory(prefix="scnas_toggles_") as name:
            run = _Run(Path(name), chip, time.monotonic() + seconds)
            run.write_netlist(run.synthesise(verilog, top), top)
            reads = " ".join(f'printf("%lu ", (unsigned long)top->toggles_{k});' for k in range(len(KINDS)))
            harness = FREE_RUNNING.replace("CLOCKS", str(clocks)).replace("READS", reads)
            run.compile(top, harness, "main", clocks, shared=False)
            out = run.tool("simulation", [str(Path(name) / "main")])
    except _Stopped as stopped:
        raise ToolFailed(str(stopped)) from None
    first, last = (np.array(line.split(), dtype=np.int64) for line in out.strip().splitlines())
    return dict(zip(KINDS, ((last - first) / (clocks - 1)).tolist(), strict=True))


FREE_RUNNING = r"""
#include "Vnetlist.h"
#include "verilated.h"
#include <cstdio>
int main() {
    VerilatedContext context;
    Vnetlist* top = new Vnetlist{&context};
    for (long clock = 0; clock < CLOCKS; clock++) {
        top->clk = 0; top->eval(); top->clk = 1; top->eval();
        if (clock == 0 || clock == CLOCKS - 1) { READS puts(""); }
    }
    return 0;
}
"""


def as_verilog(module: Mapping, top: str, family: Family) -> tuple[str, list[int]]:
    """A netlist as Verilog that counts its own toggles, and how many nets of each of KINDS it watches.

    module: as Yosys writes it to JSON, flat, of library cells of `family`. The text keeps the ports of
    `module` and adds `toggles_0` and so on, one running total per kind, counted at each rising clock from
    what the nets had settled to. Raises ToolMissing for a cell without a model.
    """
    cells = {n: c for n, c in module["cells"].items() if c["type"] != "$scopeinfo"}
    readers: dict[int, list[str]] = defaultdict(list)
    drivers: dict[str, list[int]] = {kind: [] for kind in KINDS}
    for cell in cells.values():
        for port, bits in cell["connections"].items():
            if cell["port_directions"][port] == "input":
                for bit in bits:
                    if isinstance(bit, int):
                        readers[bit].append(f"{cell['type']}.{port}")
    for name, port in module["ports"].items():
        bits = [bit for bit in port["bits"] if isinstance(bit, int)]
        if port["direction"] == "output":
            for bit in bits:
                readers[bit].append("output")
        elif name != "clk":
            drivers["inputs"] += bits
    wires: set[int] = set(readers) | set(drivers["inputs"])
    lines = []
    for number, cell in enumerate(cells.values()):
        plugs = []
        for port, bits in cell["connections"].items():
            if cell["port_directions"][port] == "output":
                kind = _kind(cell["type"], port, family)
                for bit in bits:
                    alone = kind == "luts" and len(readers[bit]) == 1
                    local = alone and re.fullmatch(family.data_inputs, readers[bit][0])
                    drivers["local" if local else kind].append(bit)
                wires.update(bits)
            plugs.append(f".{port}({_concatenated(bits)})")
        if cell["type"] in _OWN_MODELS:
            lines.append(_OWN_MODELS[cell["type"]](cell, number))
            continue
        settings = ", ".join(f".{name}({_setting(value)})" for name, value in cell["parameters"].items())
        lines.append(f"    {cell['type']} #({settings}) c{number} ({', '.join(plugs)});")
    heads, ends = [], []
    for name, port in module["ports"].items():
        width = len(port["bits"])
        heads.append(f"    {port['direction']} [{width - 1}:0] {name}")
        if port["direction"] == "output":
            ends.append(f"    assign {name} = {_concatenated(port['bits'])};")
        else:
            ends += [f"    assign n{bit} = {name}[{i}];" for i, bit in enumerate(port["bits"])]
            wires.update(port["bits"])
    counters, sizes = [], []
    for k, kind in enumerate(KINDS):
        watched = sorted({bit for bit in drivers[kind] if readers[bit]})
        sizes.append(len(watched))
        heads.append(f"    output reg [63:0] toggles_{k} = 0")
        for at in range(0, len(watched), 32):
            word = watched[at : at + 32]
            w = f"w{k}_{at // 32}"
            counters.append(f"    wire [{len(word) - 1}:0] {w} = {_concatenated(word)};")
            counters.append(f"    reg [{len(word) - 1}:0] {w}_before = 0;")
            counters.append(f"    always @(posedge clk) {w}_before <= {w};")
        words = [f"$countones(w{k}_{at // 32} ^ w{k}_{at // 32}_before)" for at in range(0, len(watched), 32)]
        if words:
            counters.append(f"    always @(posedge clk) toggles_{k} <= toggles_{k} + {' + '.join(words)};")
    text = [f"module {top} (", ",\n".join(heads), ");"]
    text += [f"    wire n{bit};" for bit in sorted(wires)]
    used = {cell["type"] for cell in cells.values()} & set(_OWN_MODELS)
    return "\n".join([*text, *ends, *lines, *counters, "endmodule", MODELS if used else ""]), sizes


# -- models of ECP5 blocks, which Yosys brings none of ------------------------------------------

# A block RAM of 1,024 rows of 18 bits as Yosys uses it (share/lattice/brams_map_16kd.v): outputs without
# registers, no reset. Narrow words lie in units of 9 bits; a word of 36 bits is two rows, writes through A
# and reads through B. MODE: what a port shows while it writes, 0 nothing new, 1 the new word, 2 the old.
MODELS = """
module scnas_block_ram #(
    parameter [18431:0] INIT = 0, parameter WIDTH_A = 18, WIDTH_B = 18, MODE_A = 0, MODE_B = 0
) (
    input clka, cea, wea, clkb, ceb, web, input [13:0] ada, adb, input [17:0] dia, dib,
    output reg [17:0] doa = 0, dob = 0
);
    reg [17:0] rows [0:1023];
    integer i;
    initial for (i = 0; i < 1024; i = i + 1) rows[i] = INIT[18*i +: 18];

    function [17:0] mask(input integer width, input [13:0] at);  // the bits of its row that a word has
        case (width)
            18: mask = {{9{at[1]}}, {9{at[0]}}};
            9: mask = 18'h1ff << 9 * at[3];
            4: mask = 18'hf << 9 * at[3] + 4 * at[2];
            2: mask = 18'h3 << 9 * at[3] + 2 * at[2:1];
            default: mask = 18'h1 << 9 * at[3] + at[2:0];
        endcase
    endfunction
    function [4:0] place(input integer width, input [13:0] at);
        case (width)
            18: place = 0;
            9: place = 9 * at[3];
            4: place = 9 * at[3] + 4 * at[2];
            2: place = 9 * at[3] + 2 * at[2:1];
            default: place = 9 * at[3] + at[2:0];
        endcase
    endfunction
    function [17:0] word(input integer width, input [13:0] at, input [17:0] row);
        word = width == 18 ? row : (row & mask(width, at)) >> place(width, at);
    endfunction
    wire [17:0] mask_a = mask(WIDTH_A, ada), mask_b = mask(WIDTH_B, adb);
    wire [17:0] old_a = rows[ada[13:4]], old_b = rows[adb[13:4]];
    wire [17:0] new_a = old_a & ~mask_a | (dia << place(WIDTH_A, ada)) & mask_a;
    wire [17:0] new_b = old_b & ~mask_b | (dib << place(WIDTH_B, adb)) & mask_b;
    wire [17:0] low = {{9{ada[1]}}, {9{ada[0]}}}, high = {{9{ada[3]}}, {9{ada[2]}}};
    always @(posedge clka) if (cea) begin
        if (wea && WIDTH_A == 36) begin
            rows[{ada[13:5], 1'b0}] <= rows[{ada[13:5], 1'b0}] & ~low | dia & low;
            rows[{ada[13:5], 1'b1}] <= rows[{ada[13:5], 1'b1}] & ~high | dib & high;
        end else if (wea) rows[ada[13:4]] <= new_a;
        if (WIDTH_B != 36 && (!wea || MODE_A != 0))
            doa <= word(WIDTH_A, ada, wea && MODE_A == 1 ? new_a : old_a);
    end
    always @(posedge clkb) if (ceb) begin
        if (web && WIDTH_A != 36) rows[adb[13:4]] <= new_b;
        if (!web || MODE_B != 0) dob <= word(WIDTH_B, adb, web && MODE_B == 1 ? new_b : old_b);
        if (WIDTH_B == 36) begin
            doa <= rows[{adb[13:5], 1'b0}];
            dob <= rows[{adb[13:5], 1'b1}];
        end
    end
endmodule

module scnas_multiplier (input [17:0] a, b, input signed_a, signed_b, output signed [35:0] p);
    wire signed [18:0] wide_a = {signed_a & a[17], a}, wide_b = {signed_b & b[17], b};
    wire signed [37:0] product = wide_a * wide_b;
    assign p = product[35:0];
endmodule
"""


def _ports(cell: Mapping, name: str, width: int) -> str:
    """Ports name0, name1 ... of a cell as one vector; {} where an output is not connected."""
    return _concatenated([cell["connections"].get(f"{name}{i}", ["0"])[0] for i in range(width)])


def _block_ram(cell: Mapping, number: int) -> str:
    settings, wires = cell["parameters"], cell["connections"]
    usual = {"REGMODE_A": "NOREG", "REGMODE_B": "NOREG", "CLKAMUX": "CLKA", "CLKBMUX": "CLKB"}
    other = [name for name, value in usual.items() if settings.get(name, value) != value]
    other += [name for name in ("RSTA", "RSTB") if wires.get(name, ["0"]) != ["0"]]
    if other:
        raise ToolMissing(f"no simulation model of a DP16KD with {other[0]}")
    slices = [settings.get(f"INITVAL_{i:02X}", "0" * 320) for i in range(64)]  # of 16 rows, 20 bits apart
    rows = "".join(text[end - 18 : end] for text in slices[::-1] for end in range(20, 321, 20))
    modes = {"NORMAL": 0, "WRITETHROUGH": 1, "READBEFOREWRITE": 2}
    plugs = [f".{side}({_concatenated(wires.get(side.upper(), ['0']))})" for side in
             ("clka", "cea", "wea", "clkb", "ceb", "web")]  # fmt: skip
    plugs += [f".{name}({_ports(cell, name.upper(), width)})" for name, width in
              (("ada", 14), ("adb", 14), ("dia", 18), ("dib", 18), ("doa", 18), ("dob", 18))]  # fmt: skip
    values = [f".INIT(18432'b{rows.replace('x', '0').replace('z', '0')})"]
    for side in "AB":
        values.append(f".WIDTH_{side}({int(settings.get(f'DATA_WIDTH_{side}', '10010'), 2)})")
        values.append(f".MODE_{side}({modes[settings.get(f'WRITEMODE_{side}', 'NORMAL')]})")
    return f"    scnas_block_ram #({', '.join(values)}) c{number} ({', '.join(plugs)});"


def _multiplier(cell: Mapping, number: int) -> str:
    registers = [n for n, v in cell["parameters"].items() if n.startswith("REG_") and v != "NONE"]
    if registers:
        raise ToolMissing(f"no simulation model of a MULT18X18D with {registers[0]}")
    signs = [_concatenated(cell["connections"].get(f"SIGNED{side}", ["0"])) for side in "AB"]
    return (
        f"    scnas_multiplier c{number} (.a({_ports(cell, 'A', 18)}), .b({_ports(cell, 'B', 18)}), "
        f".signed_a({signs[0]}), .signed_b({signs[1]}), .p({_ports(cell, 'P', 36)}));"
    )


_OWN_MODELS = {"DP16KD": _block_ram, "MULT18X18D": _multiplier}


def _kind(cell: str, port: str, family: Family) -> str:
    if family.unmodelled and re.fullmatch(family.unmodelled, cell):
        raise ToolMissing(f"no simulation model of {cell}")
    for pattern, kind in family.drivers:
        if re.fullmatch(pattern, f"{cell}.{port}"):
            return kind
    raise ToolMissing(f"no simulation model of {cell}, whose output {port} drives a net")


def _concatenated(bits: list) -> str:
    """Bits, lowest first, as Verilog. What may be anything is 0."""
    return "{" + ", ".join(f"n{b}" if isinstance(b, int) else f"1'b{int(b == '1')}" for b in bits[::-1]) + "}"


def _setting(value: str) -> str:
    """A parameter of a cell: bits as Yosys writes them, or a text."""
    if value and set(value) <= set("01xz"):
        return f"{len(value)}'b{value.replace('x', '0').replace('z', '0')}"
    return '"' + value.rstrip(" ") + '"' if set(value) - set("01xz ") else '"' + value[:-1] + '"'


class _Run:
    """The steps from Verilog to a simulation, in one folder and until one deadline."""

    def __init__(self, folder: Path, chip: Target, deadline: float):
        self.folder, self.chip, self.deadline = folder, chip, deadline
        pyosys = find_spec("pyosys")
        if pyosys is None or pyosys.origin is None:
            raise ToolMissing(f"pyosys not installed: {synthesis.INSTALL}")
        self.share = Path(pyosys.origin).parent / "share"
        self.verilator, self.compiler, self.include = cosimulation.verilator_parts()
        self.tools = {
            "pyosys": synthesis.tool_versions(chip)["pyosys"] or "",
            "verilator": cosimulation.tool_version("verilator"),
        }

    def tool(self, name: str, command: list[str]) -> str:
        done = processes.run(command, self.folder, self.deadline - time.monotonic())
        if done.code is None:
            raise _Stopped("timeout", f"{name} did not finish in time")
        if done.code != 0:
            raise _Stopped("error", f"{name} ended with {done.code}: " + " | ".join(done.last(6)))
        return done.stdout

    def synthesise(self, verilog: str, top: str) -> Mapping:
        """Module `top` of the netlist that place and route would take."""
        (self.folder / "design.v").write_text(verilog)
        try:
            synthesis._Tools(self.folder, self.deadline).yosys(
                "read_verilog -sv design.v",
                f"{self.chip.yosys} -top {top} -json design.json",
            )
        except synthesis._Failed as failed:
            raise _Stopped(failed.status, str(failed)) from None
        return json.loads((self.folder / "design.json").read_text())["modules"][top]

    def write_netlist(self, module: Mapping, top: str) -> list[int]:
        """netlist.v; the nets of each kind."""
        text, nets = as_verilog(module, top, FAMILIES[self.chip.family])
        (self.folder / "netlist.v").write_text(text)
        return nets

    def compile(self, top: str, harness: str, name: str, clocks: int, *, shared: bool) -> None:
        """The netlist with `harness` as the program or shared library `name`. clocks: that it will run."""
        cells = self.share / FAMILIES[self.chip.family].models
        self.tool(
            "verilator",
            [self.verilator, "--cc", "--top-module", top, "--prefix", "Vnetlist", "-O3", "-Wno-fatal",
             "-Wno-lint", "-Wno-style", "-Wno-TIMESCALEMOD", "--no-timing", f"-I{cells.parent}",
             "--Mdir", "obj", "netlist.v", str(cells)],
        )  # fmt: skip
        # Two units instead of Verilator's many: its headers are read twice only, and what runs once, or for a
        # few clocks, needs no optimisation.
        sources = sorted(p.relative_to(self.folder).as_posix() for p in (self.folder / "obj").glob("*.cpp"))
        slow = [source for source in sources if "Slow" in source]
        level = {"once": "-O0", "often": "-O1" if clocks >= MANY_CLOCKS else "-O0"}
        units = {"once": slow, "often": [source for source in sources if source not in slow]}
        for unit, parts in units.items():
            text = "".join(f'#include "{part}"\n' for part in parts)
            (self.folder / f"{unit}.cpp").write_text(text + (harness if unit == "often" else ""))
            self.tool(
                "the C++ compiler",
                [self.compiler, *cosimulation.COMPILE, level[unit], "-I.", "-Iobj",
                 f"-I{self.include}", "-c", f"{unit}.cpp", "-o", f"{unit}.o"],
            )  # fmt: skip
        runtime = cosimulation.verilator_runtime(self.compiler, self.include, 600)
        self.tool(
            "the linker",
            [self.compiler, *(["-shared"] if shared else []), "-o", name, "once.o", "often.o", *runtime,
             "-lpthread"],
        )  # fmt: skip


def _play(run: _Run, network: Network, design: Design, spikes: np.ndarray) -> Mapping[str, np.ndarray]:
    """What the netlist does with `spikes`: scores, classes, clocks, and in the place of membranes the running
    totals of each kind and of the clocks, at the `done` of every sample."""
    reads = [f"sample_membranes[{k}] = top->toggles_{k};" for k in range(len(KINDS))]
    reads.append(f"sample_membranes[{len(KINDS)}] = now;")
    macros = {
        "Vscnas_top": "Vnetlist",
        "LAYERS": 0,
        "TRACE": len(reads),
        "STEPS": network.timesteps,
        "TRANSFERS": network.timesteps * (-(-network.n_inputs // 8) if design.byte_serial else 1),
        "IN_BITS": 8 if design.byte_serial else network.n_inputs,
        "CLASSES": network.n_classes,
        "SCORE_BITS": design.score_width,
        "IN": "in_byte" if design.byte_serial else "in_spikes",
        "WATCH": f"if (top->done) {{ {' '.join(reads)} }}",
    }
    define = "".join(f"#define {key} {value}\n" for key, value in macros.items())
    harness = define + cosimulation.HARNESS.replace("Vscnas_top.h", "Vnetlist.h")
    run.compile(design.top, harness, "design.so", len(spikes) * design.latency_clocks, shared=True)
    np.save(run.folder / "in.npy", cosimulation.transfers(network, design, spikes))
    limit = cosimulation.idle_limit(design, 0)
    run.tool(
        "the simulation",
        [sys.executable, "-c", cosimulation.RUNNER, str(limit), "0", str(network.n_classes), str(len(reads))],
    )
    with np.load(run.folder / "out.npz") as found:
        return {name: found[name] for name in found.files}

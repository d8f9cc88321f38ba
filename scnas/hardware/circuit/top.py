"""A network as synthesizable Verilog that computes the same, bit for bit.

`write_design` turns a Network into one file, `design.v`, with a module per layer and a top, over the cells in
`hdl/`. How it moves through time is written in `scnas.hardware.schedule`; here is how it is built.

Top: `start` (any clock, also in the middle of an inference) clears all state through `clear_n`, a register,
so that its asynchronous use is free of glitches and costs no multiplexer. Then T steps of input are taken,
each in a clock with `in_valid & in_ready`. Scores appear one per clock with `score_valid`, class 0 first;
`done` stays high, with `class_index`, until the next start. Every layer is started by a pulse `go` and
passes one on (`next`) in the clock before its new spikes are visible.

Letters: T steps, L stream clocks of a step, G groups of lanes, F fraction bits, W bits of a word, U units.
"""

from dataclasses import dataclass
from pathlib import Path

from scnas import resources
from scnas.contract import Refused
from scnas.files import write_whole
from scnas.hardware import schedule
from scnas.hardware.circuit.folded import folded_layer
from scnas.hardware.circuit.parallel import parallel_layer
from scnas.hardware.circuit.shared import Place
from scnas.hardware.circuit.signal import (
    counter,
    layer_step_clocks,
    module,
    score_bounds,
    signed_bits,
    unsigned_bits,
)
from scnas.snn import derive
from scnas.snn.models import COMMON, Cell, Format, model_of
from scnas.snn.network import Layer, Network

TOP = "scnas_top"


@dataclass(frozen=True)
class Port:
    """name, direction (`input`, `output`), width in bits, and what it means."""

    name: str
    direction: str
    width: int
    meaning: str


@dataclass(frozen=True)
class Design:
    """The Verilog of a network.

    text: design.v. cells: names of the files in hdl/ that it instantiates. latency_clocks: from the first
    accepted input to `done`, when inputs never wait. period_clocks: between two steps.
    score_width: bits of the signed port `score`.
    """

    top: str
    text: str
    cells: tuple[str, ...]
    ports: tuple[Port, ...]
    latency_clocks: int
    period_clocks: int
    score_width: int
    byte_serial: bool

    @property
    def sources(self) -> dict[str, str]:
        """File name -> text of everything that a tool needs to read."""
        return {"design.v": self.text} | {
            f"{cell}.v": (resources.hdl() / f"{cell}.v").read_text() for cell in self.cells
        }

    def write(self, folder: str | Path) -> list[Path]:
        """Write `sources` into `folder`, which is made if it is not there; the paths, design.v first."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        paths = [folder / name for name in self.sources]
        for path, text in zip(paths, self.sources.values(), strict=True):
            write_whole(path, text)
        return paths


def first_state(layer: Layer, network: Network) -> dict[str, int]:
    """The words of a neuron of this layer before step 0."""
    whole = derive.Whole(Format(network.word, network.fraction))
    return derive.first_state(model_of(layer.neuron), layer.constants, whole)


def cell_of(neuron: str) -> Cell:
    """The hand-written Verilog of a model; ValueError for one that has none."""
    cell = model_of(neuron).cell
    if cell is None:
        raise Refused(f"neuron must be one with a cell in hdl/, got {neuron!r}")
    return cell


def cell_constants(neuron: str) -> tuple[str, ...]:
    """Constants that are parameters of this cell alone."""
    common = {*COMMON, "leak_k", "gain_k", "noise_k"}
    model = model_of(neuron)
    return tuple(k for k in derive.constants_of(model) if k in derive.used_constants(model) - common)


# --- the whole design --------------------------------------------------------------------------------------


def write_design(
    network: Network, folder: str | Path | None = None, *, byte_serial: bool = False, name: str = ""
) -> Design:
    """The design of `network`; same network and options, same bytes. With `folder`, written there as well.

    byte_serial: take the inputs of a step as ceil(n_inputs / 8) bytes, input 8k + b in bit b of byte k.
    name: put into the header (letters, digits and `_-.` are kept), for instance the architecture's.
    """
    classes, T, layers = network.n_classes, network.timesteps, network.layers
    score_width = signed_bits(*score_bounds(network))
    steps = [layer_step_clocks(layer) for layer in layers]
    mappings = [layer.mapping for layer in layers]
    input_clocks = schedule.byte_clocks(network.n_inputs) if byte_serial else 0
    lanes = [layer.lanes for layer in layers]
    latency = schedule.latency_clocks(T, steps, mappings, classes, network.readout, input_clocks, lanes)

    kept = "".join(c for c in name if c.isascii() and (c.isalnum() or c in "_-."))
    lines = [f"// scnas design {kept}".rstrip(), f"// {describe(network)}"]
    lines += ["// Generated by scnas.hardware.verilog; the cells it uses are in hdl/.", ""]
    for number, layer in enumerate(layers):
        last = number == len(layers) - 1
        place = Place(
            number=number,
            first=number == 0,
            last=last,
            fires=network.fires(number),
            feeds_parallel=not last and layers[number + 1].mapping == "parallel",
            score_width=score_width,
        )
        write = parallel_layer if layer.mapping == "parallel" else folded_layer
        lines += write(layer, network, place)

    ports = [
        Port("clk", "input", 1, "clock, rising edge"),
        Port("rst_n", "input", 1, "asynchronous reset, active low; needed once after power-up"),
        Port("start", "input", 1, "begin an inference; one clock, at any time"),
        Port("in_valid", "input", 1, "the input is there; hold it until in_ready"),
        Port("in_byte", "input", 8, "eight inputs of this step, input 8k + b in bit b of byte k")
        if byte_serial
        else Port("in_spikes", "input", network.n_inputs, "the spikes of this step, input i in bit i"),
        Port("in_ready", "output", 1, "the input is taken in this clock if in_valid"),
        Port("score_valid", "output", 1, "a score is there; class 0 first, one for every class"),
        Port(
            "score",
            "output",
            score_width,
            "signed score, Q(F)" if network.readout == "membrane" else "spikes",
        ),
        Port("class_index", "output", unsigned_bits(classes - 1), "the class, when done"),
        Port("done", "output", 1, "high from the result until the next start"),
    ]
    lines += top_module(network, ports, steps, byte_serial)
    text = "\n".join(lines).rstrip() + "\n"
    cells = tuple(sorted(path.stem for path in resources.hdl().glob("*.v") if f"{path.stem} " in text))
    design = Design(
        top=TOP,
        text=text,
        cells=cells,
        ports=tuple(ports),
        latency_clocks=latency,
        period_clocks=schedule.period(steps, input_clocks),
        score_width=score_width,
        byte_serial=byte_serial,
    )
    if folder is not None:
        design.write(folder)
    return design


def describe(network: Network) -> str:
    """One line that says what network this is."""
    parts = [
        f"{layer.n_in}-{layer.n_out} {layer.neuron} {layer.generator} L={layer.length} {layer.mapping}"
        + (f" {layer.lanes} lanes" if layer.mapping == "folded" else "")
        + (f" {layer.units} units" if layer.units > 1 else "")
        for layer in network.layers
    ]
    return (
        f"T={network.timesteps} Q{network.word - network.fraction}.{network.fraction} "
        f"{network.readout} readout: {'; '.join(parts)}"
    )


def top_module(network: Network, ports: list[Port], steps: list[int], byte_serial: bool) -> list[str]:
    """The top: control, input registers, layers in a row, the class."""
    layers, T, n_in = network.layers, network.timesteps, network.n_inputs
    classes, W = network.n_classes, network.word
    class_bits = unsigned_bits(classes - 1)
    header, debug = [], []
    for port in ports:
        signed = "signed " if port.name == "score" else ""
        size = (
            f"[{port.width - 1}:0] "
            if port.width > 1 or port.name in ("in_spikes", "class_index", "score")
            else ""
        )
        header.append(f"{port.direction} wire {signed}{size}{port.name}")
    body = [
        "// A start clears everything else, asynchronously but from a register.",
        "reg clear_n, clearing, open;",
        "always @(posedge clk or negedge rst_n)",
        "    if (!rst_n) begin",
        "        clear_n <= 1'b0;",
        "        clearing <= 1'b1;",
        "        open <= 1'b0;",
        "    end else begin",
        "        clear_n <= ~start;",
        "        clearing <= start;",
        "        if (start) open <= 1'b1;",
        "    end",
        "",
        "// T steps are taken; `accept` is the clock in which the first layer gets one.",
        "wire accept, taken, core_ready;",
    ]

    def cleared(lines: list[str]) -> list[str]:
        return [line.replace("rst_n", "clear_n") for line in lines]

    if byte_serial:
        n_bytes = schedule.byte_clocks(n_in)
        body += [f"reg [{8 * n_bytes - 1}:0] gathered;", "reg full;"]
        body += [
            "wire take = in_valid & in_ready;",
            "assign in_ready = open & ~clearing & ~taken & (~full | accept);",
            "assign accept = full & core_ready;",
        ]
        after = f"{{in_byte, gathered[{8 * n_bytes - 1}:8]}}" if n_bytes > 1 else "in_byte"
        body += [f"always @(posedge clk) if (take) gathered <= {after};"]
        body += (
            counter("byte_number", n_bytes - 1, "take", "clear_n")
            if n_bytes > 1
            else ["wire byte_number_last = 1'b1;"]
        )
        body += [
            "wire gathers = take & byte_number_last;",
            "always @(posedge clk or negedge clear_n)",
            "    if (!clear_n) full <= 1'b0;",
            "    else full <= gathers | (full & ~accept);",
            f"wire [{n_in - 1}:0] arriving = gathered[{n_in - 1}:0];",
        ]
        step_taken = "gathers"
    else:
        body += [
            "assign in_ready = open & ~clearing & ~taken & core_ready;",
            "assign accept = in_valid & in_ready;",
            f"wire [{n_in - 1}:0] arriving = in_spikes;",
        ]
        step_taken = "accept"
    body += counter("step", T - 1, step_taken, "clear_n") if T > 1 else ["wire step_last = 1'b1;"]
    body += [
        "reg all_taken;",
        "assign taken = all_taken;",
        "always @(posedge clk or negedge clear_n)",
        "    if (!clear_n) all_taken <= 1'b0;",
        f"    else if ({step_taken} & step_last) all_taken <= 1'b1;",
    ]
    period = schedule.period(steps)
    if steps[0] == period:
        body += ["assign core_ready = ready_0;"]
    else:
        size = unsigned_bits(period - 1)
        body += [
            f"reg [{size - 1}:0] pause;  // clocks until the slowest layer can follow",
            f"assign core_ready = pause == {size}'d0;",
            "always @(posedge clk or negedge clear_n)",
            f"    if (!clear_n) pause <= {size}'d0;",
            f"    else if (accept) pause <= {size}'d{period - 1};",
            f"    else if (~core_ready) pause <= pause - {size}'d1;",
        ]
    body += [""]
    source = "arriving"
    if layers[0].mapping == "parallel":
        body += [
            f"reg [{n_in - 1}:0] inputs;",
            "always @(posedge clk or negedge clear_n)",
            f"    if (!clear_n) inputs <= {n_in}'d0;",
            "    else if (accept) inputs <= arriving;",
        ]
        source = "inputs"
    go = "accept"
    for number, layer in enumerate(layers):
        fires, n = network.fires(number), layer.n_out
        body += [f"wire ready_{number}, next_{number};"]
        plugs = [".clk(clk)", ".rst_n(clear_n)", f".go({go})", f".spikes({source})"]
        plugs += [f".ready(ready_{number})", f".next(next_{number})"]
        if fires:
            body += [f"wire [{n - 1}:0] fired_{number};"]
            plugs.append(f".fired(fired_{number})")
            debug += [
                f"output wire [{n - 1}:0] debug_spikes_{number}",
                f"output wire [{n * W - 1}:0] debug_v_{number}",
            ]
            debug += [f"output reg debug_step_{number}"]
        if number == len(layers) - 1:
            body += [f"wire [{class_bits - 1}:0] index;"]
            plugs += [".index(index)", ".score_valid(score_valid)", ".score(score)"]
        body += [f"scnas_layer{number} layer_{number} ("]
        if fires:
            body += ["`ifdef SCNAS_DEBUG", f"    .debug_v(debug_v_{number}),", "`endif"]
        body += [f"    {plug}," for plug in plugs[:-1]] + [f"    {plugs[-1]}", ");"]
        if fires:
            body += [
                "`ifdef SCNAS_DEBUG",
                f"assign debug_spikes_{number} = fired_{number};",
                f"always @(posedge clk or negedge clear_n) if (!clear_n) debug_step_{number} <= 1'b0;",
                f"    else debug_step_{number} <= next_{number};",
                "`endif",
            ]
        go, source = f"next_{number}", f"fired_{number}"
    width = next(port.width for port in ports if port.name == "score")
    body += [
        f"sc_argmax #(.CLASSES({classes}), .SCORE_WIDTH({width}), .CLASS_WIDTH({class_bits})) argmax ("
        ".clk(clk), .rst_n(clear_n), .valid(score_valid), .score(score), .index(index), "
        ".best_class(class_index), .done(done));",
    ]
    return module(TOP, header, body, debug)

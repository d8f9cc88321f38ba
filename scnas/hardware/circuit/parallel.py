"""A parallel layer: one popcount tree per neuron, weights wired in.

Threshold signals [m > R], one per magnitude m in use, are shared by all its synapses; `circuit.tree` adds
what they let through.

Letters: T steps, W bits of a word.
"""

from dataclasses import dataclass

import numpy as np

from scnas.hardware.circuit.shared import Place, generator_lines, neuron_instance, noise_lines
from scnas.hardware.circuit.signal import (
    below,
    bounds,
    count_bounds,
    counter,
    current_bounds,
    module,
    number_width,
    register,
    saturated_current,
    sign_extended,
    signed_bits,
    unsigned_bits,
)
from scnas.hardware.circuit.tree import Leaf, adder_tree
from scnas.snn.network import Layer, Network


@dataclass(frozen=True)
class Parallel:
    """A parallel layer, where it stands, and the widths that its circuit is built to.

    taps: (input, delay) -> bit of the bus `tap`. sum_bits: [n_out] of the count of one stream clock.
    total_bits: [n_out] of the count of a step. saturates: [n_out], can its current saturate?
    """

    layer: Layer
    network: Network
    place: Place
    taps: dict[tuple[int, int], int]
    sum_bits: list[int]
    total_bits: list[int]
    saturates: np.ndarray

    @property
    def shift(self) -> int:
        """A current is a count times 2^shift."""
        return (2**self.network.fraction // self.layer.length).bit_length() - 1

    @property
    def adds_clocks(self) -> bool:
        """Whether the scores add up the counts of stream clocks, and no step has a total of its own."""
        return self.place.last and not self.place.fires and not self.saturates.any()


def counts_module(name: str, layer: Layer, taps: dict[tuple[int, int], int]) -> tuple[list[str], list[int]]:
    """Module of all counts of one stream clock of a parallel layer, and the width of each count.

    taps: (input, delay) -> bit of the port `tap`. Purely combinational: spikes and the generator's number in,
    signed counts out.
    """
    bits = number_width(layer)
    magnitudes = sorted({int(m) for m in np.abs(layer.weights).ravel()} - {0, layer.max_weight})
    body = [f"wire above_{m} = {below('number', bits, m)};" for m in magnitudes]
    ports = [f"input wire [{len(taps) - 1}:0] tap", f"input wire [{bits - 1}:0] number"]
    widths = []
    for j in range(layer.n_out):
        totals = []
        for sign, letter in ((1, "p"), (-1, "n")):
            leaves = []
            for i in np.flatnonzero(layer.weights[:, j] * sign > 0):
                m = abs(int(layer.weights[i, j]))
                gate = None if m == layer.max_weight else f"above_{m}"
                leaves.append(Leaf(f"tap[{taps[int(i), int(layer.delays[i, j])]}]", gate))
            lines, total, most = adder_tree(leaves, f"{letter}{j}")
            body += lines
            totals.append((total, most))
        (_, plus_most), (_, minus_most) = totals
        width = signed_bits(-minus_most, plus_most)
        widths.append(width)
        ports.append(f"output wire signed [{width - 1}:0] count_{j}")
        plus, minus = (_padded(total, most, width) for total, most in totals)
        if minus_most == 0:
            body.append(f"assign count_{j} = {plus};")
        elif plus_most == 0:
            body.append(f"assign count_{j} = -{minus};")
        else:
            body.append(f"assign count_{j} = {plus} - {minus};")
    return module(name, ports, body), widths


def _padded(total: str, most: int, width: int) -> str:
    """An unsigned signal 0..most with zeros above it, `width` bits."""
    padding = width - unsigned_bits(most)
    return f"{{{padding}'d0, {total}}}" if padding > 0 else total


def parallel_layer(layer: Layer, network: Network, place: Place) -> list[str]:
    """The modules of a parallel layer."""
    name, n, W = f"scnas_layer{place.number}", layer.n_out, network.word
    pairs = {(int(i), int(layer.delays[i, j])) for i, j in zip(*np.nonzero(layer.weights), strict=True)}
    taps = {pair: bit for bit, pair in enumerate(sorted(pairs or {(0, 0)}))}
    lines, sum_bits = counts_module(f"{name}_counts", layer, taps)
    low, high = count_bounds(layer, network.timesteps)
    total_bits = [signed_bits(int(low[j]), int(high[j])) for j in range(n)]
    _, _, saturates = current_bounds(layer, network)
    x = Parallel(layer, network, place, taps, sum_bits, total_bits, saturates)

    body = [*_taps(x), *_stream(x), *_counts(x), *_currents(x), ""]
    ports = ["input wire clk", "input wire rst_n", "input wire go", f"input wire [{layer.n_in - 1}:0] spikes"]
    ports += ["output wire ready", "output wire next"]
    debug = []
    if place.fires:
        body += noise_lines(layer, network, "update")
        body += [f"wire [{n * W - 1}:0] v;"]
        body += [neuron_instance(j, layer, network, place.number) for j in range(n)]
        body += ["`ifdef SCNAS_DEBUG", "assign debug_v = v;", "`endif"]
        ports.append(f"output wire [{n - 1}:0] fired")
        debug = [f"output wire [{n * W - 1}:0] debug_v"]
    if place.last:
        body += _readout(x)
        ports += [f"input wire [{unsigned_bits(n - 1) - 1}:0] index", "output wire score_valid"]
        ports += [f"output reg signed [{place.score_width - 1}:0] score"]
    return lines + module(name, ports, body, debug)


def _taps(x: Parallel) -> list[str]:
    """The bus `tap`: every spike, of this step or from a delay line, that some synapse sees."""
    lines = []
    deepest: dict[int, int] = {}
    for i, d in x.taps:
        deepest[i] = max(deepest.get(i, 0), d)
    for i, depth in sorted(deepest.items()):
        if depth:
            lines += [
                f"wire [{depth - 1}:0] past_{i};",
                f"sc_delay_line #(.DEPTH({depth})) delay_{i} (.clk(clk), .rst_n(rst_n), .step(go), "
                f".spike(spikes[{i}]), .past(past_{i}));",
            ]
    signals = [f"past_{i}[{d - 1}]" if d else f"spikes[{i}]" for i, d in reversed(sorted(x.taps))]
    return [*lines, f"wire [{len(x.taps) - 1}:0] tap = {{{', '.join(signals)}}};", ""]


def _stream(x: Parallel) -> list[str]:
    """The number generator, and the registers that follow a stream clock through the layer."""
    lines = [
        "// run: a stream clock. summed: its sums are there; complete: the last ones. update: so are totals."
    ]
    lines += ["wire run, stream_end;"] + register("running", "go | (running & ~stream_end)")
    lines += ["assign run = running;"] + generator_lines(x.layer)
    lines += ["assign stream_end = run & stream_last;", "assign ready = ~run | stream_last;"]
    if x.layer.length > 1:
        lines += register("summed", "run") + register("complete", "stream_end")
        lines += register("fresh", "~summed | complete", reset_to=1)  # the next sum begins a step
        lines += register("update", "complete")
    else:
        lines += register("update", "run") + ["wire summed = update;"]
    return [*lines, "assign next = update;", ""]


def _counts(x: Parallel) -> list[str]:
    """The counts of a stream clock, and the registers `sum_j` that take them."""
    n, widths = x.layer.n_out, x.sum_bits
    plugs = ", ".join(f".count_{j}(count_{j})" for j in range(n))
    lines = [f"wire signed [{widths[j] - 1}:0] count_{j};" for j in range(n)]
    lines += [f"scnas_layer{x.place.number}_counts counts (.tap(tap), .number(number), {plugs});"]
    lines += [f"reg signed [{widths[j] - 1}:0] sum_{j};" for j in range(n)]
    lines += ["always @(posedge clk) if (run) begin", *(f"    sum_{j} <= count_{j};" for j in range(n))]
    return [*lines, "end"]


def _currents(x: Parallel) -> list[str]:
    """The counts of a step, `total_j`, and the currents made of them; none where scores add up clocks."""
    lines: list[str] = []
    if x.adds_clocks:
        return lines
    for j, width in enumerate(x.total_bits):
        grown = sign_extended(f"sum_{j}", x.sum_bits[j], width)
        if x.layer.length > 1:
            lines += [
                f"reg signed [{width - 1}:0] total_{j};",
                f"wire signed [{width - 1}:0] grown_{j} = {grown};",
                f"always @(posedge clk) if (summed) total_{j} <= fresh ? grown_{j} : total_{j} + grown_{j};",
            ]
        else:
            lines += [f"wire signed [{width - 1}:0] total_{j} = {grown};"]
        saturates = bool(x.saturates[j])
        lines += saturated_current(f"total_{j}", width, f"current_{j}", x.network, x.shift, saturates)
    return lines


def _readout(x: Parallel) -> list[str]:
    """Score registers of a last layer and the scan that shows them one by one."""
    n, T = x.layer.n_out, x.network.timesteps
    lines = ["", "// Scores, and the scan that shows them one by one after the last step."]
    event = "update"
    if x.place.fires:
        lines += register("counted", "update")
        event = "counted"
    shown = []
    for j in range(n):
        score, port = _spikes_counted(x, j) if x.place.fires else _currents_added(x, j)
        lines += score
        shown.append(port)
    index_width = unsigned_bits(n - 1)
    lines += counter("step", T - 1, event) if T > 1 else ["wire step_last = 1'b1;"]
    lines += register("scanning", f"({event} & step_last) | (scanning & index != {index_width}'d{n - 1})")
    lines += ["assign score_valid = scanning;", "always @* begin", "    case (index)"]
    lines += [f"        {index_width}'d{j}: score = {shown[j]};" for j in range(n - 1)]
    return lines + [f"        default: score = {shown[n - 1]};", "    endcase", "end"]


def _spikes_counted(x: Parallel, j: int) -> tuple[list[str], str]:
    """The register that counts the spikes of neuron j, and it as a score."""
    width = unsigned_bits(x.network.timesteps)
    lines = register(f"score_{j}", f"score_{j} + {width}'d1", width, f"counted & fired[{j}]")
    return lines, f"{{{x.place.score_width - width}'d0, score_{j}}}"


def _currents_added(x: Parallel, j: int) -> tuple[list[str], str]:
    """The register that adds up the currents of neuron j, or its counts, and it as a score."""
    ends = bounds(x.layer, x.network, x.adds_clocks, j)
    width = signed_bits(*(end * x.network.timesteps for end in ends))
    source, size = (f"sum_{j}", x.sum_bits[j]) if x.adds_clocks else (f"current_{j}", x.network.word)
    enable = "summed" if x.adds_clocks else "update"
    lines = register(f"score_{j}", f"score_{j} + {sign_extended(source, size, width)}", width, enable)
    # fewer zeros than a current has only if the score is always 0
    zeros = min(x.shift, x.place.score_width - width) if x.adds_clocks else 0
    padding = x.place.score_width - width - zeros
    sign = f"{{{padding}{{score_{j}[{width - 1}]}}}}, " if padding else ""
    return lines, f"{{{sign}score_{j}" + (f", {zeros}'d0}}" if zeros else "}")

"""A parallel layer: one popcount tree per neuron, weights wired in.

Threshold signals [m > R], one per magnitude m in use, are shared by all its synapses; `circuit.tree` adds
what they let through.

Letters: T steps, L stream clocks of a step, G groups of lanes, F fraction bits, W bits of a word, U units.
"""

from collections import defaultdict

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
        (plus, plus_most), (minus, minus_most) = totals
        width = signed_bits(-minus_most, plus_most)
        widths.append(width)
        ports.append(f"output wire signed [{width - 1}:0] count_{j}")

        def extended(total: str, most: int, width: int = width) -> str:
            padding = width - unsigned_bits(most)
            return f"{{{padding}'d0, {total}}}" if padding > 0 else total

        if minus_most == 0:
            body.append(f"assign count_{j} = {extended(plus, plus_most)};")
        elif plus_most == 0:
            body.append(f"assign count_{j} = -{extended(minus, minus_most)};")
        else:
            body.append(f"assign count_{j} = {extended(plus, plus_most)} - {extended(minus, minus_most)};")
    return module(name, ports, body), widths


def parallel_layer(layer: Layer, network: Network, place: Place) -> list[str]:
    """The modules of a parallel layer."""
    name, n, W, L = f"scnas_layer{place.number}", layer.n_out, network.word, layer.length
    shift = (2**network.fraction // L).bit_length() - 1
    pairs = {(int(i), int(layer.delays[i, j])) for i, j in zip(*np.nonzero(layer.weights), strict=True)} or {
        (0, 0)
    }
    taps = {pair: bit for bit, pair in enumerate(sorted(pairs))}
    lines, widths = counts_module(f"{name}_counts", layer, taps)
    low, high = count_bounds(layer, network.timesteps)
    _, _, saturates = current_bounds(layer, network)

    body = []
    depth = defaultdict(int)
    for i, d in taps:
        depth[i] = max(depth[i], d)
    for i, deepest in sorted(depth.items()):
        if deepest:
            body += [
                f"wire [{deepest - 1}:0] past_{i};",
                f"sc_delay_line #(.DEPTH({deepest})) delay_{i} (.clk(clk), .rst_n(rst_n), .step(go), "
                f".spike(spikes[{i}]), .past(past_{i}));",
            ]
    signals = [f"past_{i}[{d - 1}]" if d else f"spikes[{i}]" for i, d in reversed(sorted(taps))]
    body += [f"wire [{len(taps) - 1}:0] tap = {{{', '.join(signals)}}};", ""]

    body += [
        "// run: a stream clock. summed: its sums are there; complete: the last ones. update: so are totals."
    ]
    body += ["wire run, stream_end;"] + register("running", "go | (running & ~stream_end)")
    body += ["assign run = running;"] + generator_lines(layer)
    body += ["assign stream_end = run & stream_last;", "assign ready = ~run | stream_last;"]
    if L > 1:
        body += register("summed", "run") + register("complete", "stream_end")
        body += register("fresh", "~summed | complete", reset_to=1)  # the next sum begins a step
        body += register("update", "complete")
    else:
        body += register("update", "run") + ["wire summed = update;"]
    body += ["assign next = update;", ""]

    connections = ", ".join(f".count_{j}(count_{j})" for j in range(n))
    body += [f"wire signed [{widths[j] - 1}:0] count_{j};" for j in range(n)]
    body += [f"{name}_counts counts (.tap(tap), .number(number), {connections});"]
    body += [f"reg signed [{widths[j] - 1}:0] sum_{j};" for j in range(n)]
    body += ["always @(posedge clk) if (run) begin", *(f"    sum_{j} <= count_{j};" for j in range(n)), "end"]

    whole_inference = place.last and not place.fires and not saturates.any()
    total_widths = [signed_bits(int(low[j]), int(high[j])) for j in range(n)]
    if not whole_inference:
        for j in range(n):
            width = total_widths[j]
            grown = sign_extended(f"sum_{j}", widths[j], width)
            if L > 1:
                body += [
                    f"reg signed [{width - 1}:0] total_{j};",
                    f"wire signed [{width - 1}:0] grown_{j} = {grown};",
                    f"always @(posedge clk) if (summed) "
                    f"total_{j} <= fresh ? grown_{j} : total_{j} + grown_{j};",
                ]
            else:
                body += [f"wire signed [{width - 1}:0] total_{j} = {grown};"]
            body += saturated_current(f"total_{j}", width, f"current_{j}", network, shift, bool(saturates[j]))
    body += [""]
    if place.fires:
        body += noise_lines(layer, network, "update")
        body += [f"wire [{n * W - 1}:0] v;"]
        body += [neuron_instance(j, layer, network, place.number) for j in range(n)]
        body += ["`ifdef SCNAS_DEBUG", "assign debug_v = v;", "`endif"]
    ports = ["input wire clk", "input wire rst_n", "input wire go", f"input wire [{layer.n_in - 1}:0] spikes"]
    ports += ["output wire ready", "output wire next"]
    if place.fires:
        ports.append(f"output wire [{n - 1}:0] fired")
    if place.last:
        body += parallel_readout(layer, network, place, total_widths, widths, shift, whole_inference)
        ports += [f"input wire [{unsigned_bits(n - 1) - 1}:0] index", "output wire score_valid"]
        ports += [f"output reg signed [{place.score_width - 1}:0] score"]
    debug = [f"output wire [{n * W - 1}:0] debug_v"] if place.fires else []
    return lines + module(name, ports, body, debug)


def parallel_readout(
    layer: Layer, network: Network, place: Place, total_widths: list[int], widths: list[int], shift: int,
    whole_inference: bool,
) -> list[str]:  # fmt: skip
    """Score registers of a parallel last layer and the scan that shows them one by one."""
    n, T, SW, W = layer.n_out, network.timesteps, place.score_width, network.word
    body = ["", "// Scores, and the scan that shows them one by one after the last step."]
    shown = []
    event = "update"
    if place.fires:
        body += register("counted", "update")
        event = "counted"
        width = unsigned_bits(T)
        for j in range(n):
            body += register(f"score_{j}", f"score_{j} + {width}'d1", width, f"counted & fired[{j}]")
            shown.append(f"{{{SW - width}'d0, score_{j}}}")
    else:
        for j in range(n):
            width = signed_bits(*(int(b) * T for b in bounds(layer, network, whole_inference, j)))
            source, a = (f"sum_{j}", widths[j]) if whole_inference else (f"current_{j}", W)
            grown = sign_extended(source, a, width)
            enable = "summed" if whole_inference else "update"
            body += register(f"score_{j}", f"score_{j} + {grown}", width, enable)
            zeros = min(shift, SW - width) if whole_inference else 0  # fewer only if the score is always 0
            padding = SW - width - zeros
            sign = f"{{{padding}{{score_{j}[{width - 1}]}}}}, " if padding else ""
            shown.append(f"{{{sign}score_{j}" + (f", {zeros}'d0}}" if zeros else "}"))
    index_width = unsigned_bits(n - 1)
    body += counter("step", T - 1, event) if T > 1 else ["wire step_last = 1'b1;"]
    body += register("scanning", f"({event} & step_last) | (scanning & index != {index_width}'d{n - 1})")
    body += ["assign score_valid = scanning;", "always @* begin", "    case (index)"]
    body += [f"        {index_width}'d{j}: score = {shown[j]};" for j in range(n - 1)]
    return body + [f"        default: score = {shown[n - 1]};", "    endcase", "end"]

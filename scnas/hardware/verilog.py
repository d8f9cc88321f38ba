"""A network as synthesizable Verilog that computes the same, bit for bit.

`write_design` turns a Network into one file, `design.v`, with a module per layer and a top, over the cells in
`hdl/`. How it moves through time is written in `scnas.hardware.schedule`; here is how it is built.

Top: `start` (any clock, also in the middle of an inference) clears all state through `clear_n`, a register,
so that its asynchronous use is free of glitches and costs no multiplexer. Then T steps of input are taken,
each in a clock with `in_valid & in_ready`. Scores appear one per clock with `score_valid`, class 0 first;
`done` stays high, with `class_index`, until the next start. Every layer is started by a pulse `go` and
passes one on (`next`) in the clock before its new spikes are visible.

Parallel layer: threshold signals [m > R], one per magnitude m in use, are shared by all its synapses. Three
spikes of one magnitude are added before they meet their threshold signal: a full adder of three spikes and
the AND fit two 4-input LUTs. Their sums meet in a tree of carry chains, and each chain takes one synapse more
through its carry input, where the AND is free: the carry out of a + b + c is that of s + [m > R].

Folded layer: the weights of `lanes` taps lie in one word of a ROM; the spikes turn past the lanes in a ring;
neuron states wait in a RAM for their turn. Each of `units` has lanes, a RAM and a datapath of its own and
takes an equal share of the neurons, all of them in step; ring, control and ROM serve them all. An adder tree
of many lanes is cut by a register, `stage`, after its first sums.

Letters: T steps, L stream clocks of a step, G groups of lanes, F fraction bits, W bits of a word, U units.
"""

import heapq
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from scnas.files import write_whole
from scnas.hardware import schedule
from scnas.snn.network import Layer, Network
from scnas.snn.streams import ones_table

HDL = Path(__file__).resolve().parents[2] / "hdl"
if not HDL.is_dir():  # installed: the cells lie inside the package
    HDL = Path(__file__).resolve().parents[1] / "hdl"

TOP = "scnas_top"
UPDATE_MODEL = {"if": 0, "lif": 0, "stochastic_lif": 0, "homeostatic_lif": 1, "izhikevich": 2}
NEURON_CELL = {
    "if": "sc_lif_neuron",
    "lif": "sc_lif_neuron",
    "stochastic_lif": "sc_lif_neuron",
    "homeostatic_lif": "sc_homeostatic_lif_neuron",
    "izhikevich": "sc_izhikevich_neuron",
}


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
        return {"design.v": self.text} | {f"{cell}.v": (HDL / f"{cell}.v").read_text() for cell in self.cells}

    def write(self, folder: str | Path) -> list[Path]:
        """Write `sources` into `folder`, which is made if it is not there; the paths, design.v first."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        paths = [folder / name for name in self.sources]
        for path, text in zip(paths, self.sources.values(), strict=True):
            write_whole(path, text)
        return paths


def unsigned_bits(largest: int) -> int:
    """Bits of an unsigned number 0..largest, at least 1."""
    return max(1, int(largest).bit_length())


def signed_bits(low: int, high: int) -> int:
    """Bits of a two's complement number that holds low..high, at least 1."""
    return max(int(high).bit_length(), int(-low - 1).bit_length() if low < 0 else 0) + 1


def signed_literal(value: int, width: int) -> str:
    """`value` as a sized Verilog literal of `width` bits, two's complement."""
    return f"{width}'h{value % 2**width:x}"


def count_bounds(layer: Layer, timesteps: int) -> tuple[np.ndarray, np.ndarray]:
    """The least and the greatest count of every neuron in any step, exact for every input: [n_out] each.

    A spike may be there or not, so the bounds are the sums of the negative and of the positive streams. An
    lfsr stream holds another number of ones in every step; the most of any step counts.
    """
    most = ones_table(layer.generator, layer.length, timesteps, layer.seed).max(axis=0)
    ones = np.sign(layer.weights) * most[np.abs(layer.weights)]
    return np.minimum(ones, 0).sum(axis=0), np.maximum(ones, 0).sum(axis=0)


def current_bounds(layer: Layer, network: Network) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Least and greatest I of every neuron and whether saturation can occur: [n_out] each."""
    scale = 2**network.fraction // layer.length
    low, high = (bound.astype(np.int64) * scale for bound in count_bounds(layer, network.timesteps))
    half = 2 ** (network.word - 1)
    saturates = (low < -half) | (high > half - 1)
    return np.clip(low, -half, half - 1), np.clip(high, -half, half - 1), saturates


def layer_step_clocks(layer: Layer) -> int:
    """Clocks of one step of `layer`."""
    n_delays = max(1, len(layer.delays_in_use))
    return schedule.step_clocks(
        layer.mapping, layer.length, layer.n_in, layer.n_out, n_delays, layer.lanes, layer.units
    )


def noise_bounds(layer: Layer, fraction: int) -> tuple[int, int]:
    """Least and greatest noise added in a step."""
    if layer.neuron != "stochastic_lif":
        return 0, 0
    ends = [n * layer.constants["noise_k"] >> fraction for n in (-128, 127)]
    return min(ends), max(ends)


def sum_width(layer: Layer, network: Network, threshold: int) -> int:
    """SUM_WIDTH of a leaky neuron cell: holds p - V_REST, and all it is compared with, for every I_t."""
    k, one, half = layer.constants, 2**network.fraction, 2 ** (network.word - 1)
    word = (-half, half - 1)
    kept = [(v - k["v_rest"]) * (one - k["leak_k"]) >> network.fraction for v in word]
    driven = [i * k["gain_k"] >> network.fraction for i in word]
    noise = noise_bounds(layer, network.fraction)
    extra = word if layer.neuron == "homeostatic_lif" else (0, 0)
    ends = [
        min(kept) + min(driven) + noise[0],
        max(kept) + max(driven) + noise[1],
        -half - k["v_rest"],
        half - 1 - k["v_rest"],
        threshold - k["v_rest"] + extra[0],
        threshold - k["v_rest"] + extra[1],
    ]
    return max(signed_bits(min(ends), max(ends)), noise_width(layer, network) + 1, network.word + 1)


def noise_width(layer: Layer, network: Network) -> int:
    """Bits of noise_in: a word, or more if the noise of this layer needs more."""
    return max(network.word, signed_bits(*noise_bounds(layer, network.fraction)))


# --- the count of a neuron ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Leaf:
    """One synapse: its tap (spike signal) and its threshold signal, None at full scale."""

    tap: str
    threshold: str | None

    @property
    def product(self) -> str:
        return self.tap if self.threshold is None else f"{self.tap} & {self.threshold}"


class Tree(NamedTuple):
    """How adder_tree adds two or more leaves.

    Nodes are numbered: words of up to three leaves, then adders; the last node is the sum. adders: the two
    nodes and the single (its place in `singles`), which the carry input takes, or None. most: greatest value
    of every node. held, held_singles: nodes and singles that pass the register `stage`.
    """

    words: list[list[Leaf]]
    singles: list[Leaf]
    adders: list[tuple[int, int, int | None]]
    most: list[int]
    held: set[int]
    held_singles: set[int]


FIRST_SUMS = 2  # adders between a word and the register that cuts a tree


def plan_tree(leaves: list[Leaf], staged: bool) -> Tree:
    """Groups leaves, as the head of this module describes it. staged: a register cuts the tree."""
    groups = defaultdict(list)
    for leaf in leaves:
        groups[leaf.threshold or ""].append(leaf)
    words, singles = [], []
    for key in sorted(groups):
        same = groups[key]
        whole = len(same) // 3 * 3
        words += [same[i : i + 3] for i in range(0, whole, 3)]
        singles += same[whole:]
    # A tree of n words has n - 1 adders; each takes one single through its carry input.
    while len(words) > 1 and len(singles) + 3 <= len(words) - 2:
        singles += words.pop()
    while len(singles) > max(len(words) - 1, 0):
        words.append(singles[:3])
        del singles[:3]
    most, depth = [len(word) for word in words], [0] * len(words)
    heap = [(most[i], i) for i in range(len(words))]
    heapq.heapify(heap)
    left, adders, behind = len(singles), [], set()
    tree = Tree(words, singles, adders, most, set(), set())
    for i in range(len(words) - 1):
        (_, a), (_, b) = heapq.heappop(heap), heapq.heappop(heap)
        total = most[a] + most[b]
        fits = unsigned_bits(total + 1) == unsigned_bits(total)
        takes = left > 0 and (fits or left >= len(words) - 1 - i)
        left -= takes
        if staged and (max(depth[a], depth[b]) >= FIRST_SUMS or {a, b} & behind):
            tree.held.update({a, b} - behind)
            tree.held_singles.update([left] * takes)
            behind.add(len(most))
        adders.append((a, b, left if takes else None))
        depth.append(max(depth[a], depth[b]) + 1)
        most.append(total + takes)
        heapq.heappush(heap, (most[-1], len(most) - 1))
    if staged and len(most) - 1 not in behind:
        tree.held.add(len(most) - 1)
    return tree


def adder_tree(
    leaves: list[Leaf], name: str, stage: tuple[str, list[str]] | None = None
) -> tuple[list[str], str, int]:
    """Verilog lines that add the products of `leaves`, the name of the sum, and its greatest value.

    `name` begins every signal of the tree. stage: the name of a register that cuts the tree and the signals
    that its bits take, to which those of this tree are added; the sum is then that of the clock before.
    """
    if not leaves:
        return [], "1'b0", 0
    if len(leaves) == 1 and stage is None:
        return [f"wire {name} = {leaves[0].product};"], name, 1
    tree = plan_tree(leaves, stage is not None)
    lines: list[str] = []

    def held(signal: str, width: int) -> str:
        """The same signal behind the register."""
        register, bits = stage
        at = len(bits)
        bits.extend([signal] if width == 1 else [f"{signal}[{bit}]" for bit in range(width)])
        size, part = (f"[{width - 1}:0] ", f"[{at + width - 1}:{at}]") if width > 1 else ("", f"[{at}]")
        lines.append(f"wire {size}{signal}_held = {register}{part};")
        return f"{signal}_held"

    signals = []
    for i, word in enumerate(tree.words):
        thresholds = {leaf.threshold for leaf in word}
        signal, width = f"{name}_w{i}", unsigned_bits(len(word))
        if len(word) == 1:
            lines.append(f"wire {signal} = {word[0].product};")
        elif len(thresholds) == 1:
            total = " + ".join(f"{{{width - 1}'d0, {leaf.tap}}}" for leaf in word)
            gate = thresholds.pop()
            gated = total if gate is None else f"{{{width}{{{gate}}}}} & ({total})"
            lines.append(f"wire [{width - 1}:0] {signal} = {gated};")
        else:
            total = " + ".join(f"{{{width - 1}'d0, {leaf.product}}}" for leaf in word)
            lines.append(f"wire [{width - 1}:0] {signal} = {total};")
        signals.append(signal)
    singles = list(tree.singles)
    for i in sorted(tree.held_singles):
        lines.append(f"wire {name}_c{i} = {singles[i].product};")
        singles[i] = Leaf(held(f"{name}_c{i}", 1), None)
    for i, (a, b, single) in enumerate(tree.adders):
        for node in (a, b):
            if node in tree.held:
                signals[node] = held(signals[node], unsigned_bits(tree.most[node]))
        width, signal = unsigned_bits(tree.most[len(signals)]), f"{name}_s{i}"
        terms = []
        for node in (a, b):
            padding = width - unsigned_bits(tree.most[node])
            terms.append(f"{padding}'d0, {signals[node]}" if padding else signals[node])
        if single is None:
            lines.append(f"wire [{width - 1}:0] {signal} = {{{terms[0]}}} + {{{terms[1]}}};")
        else:
            carry = singles[single]
            gate = carry.threshold or carry.tap
            lines.append(
                f"wire [{width}:0] {signal}_c = {{{terms[0]}, {carry.tap}}} + {{{terms[1]}, {gate}}};"
            )
            lines.append(f"wire [{width - 1}:0] {signal} = {signal}_c[{width}:1];")
        signals.append(signal)
    if len(signals) - 1 in tree.held:
        signals[-1] = held(signals[-1], unsigned_bits(tree.most[-1]))
    return lines, signals[-1], tree.most[-1]


def below(number: str, width: int, magnitude: int) -> str:
    """Verilog of [magnitude > number] as AND and OR of the bits: a constant needs no carry chain."""
    text = "1'b0"
    for i in range(width):
        bit = f"~{number}[{i}]" if width > 1 else f"~{number}"
        if magnitude >> i & 1:
            text = bit if text == "1'b0" else f"({bit} | {text})"
        elif text != "1'b0":
            text = f"({bit} & {text})"
    return text


def number_width(layer: Layer) -> int:
    """Bits of the number generator's output."""
    return 8 if layer.generator == "lfsr" else max(1, layer.length.bit_length() - 1)


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


# --- pieces of text ----------------------------------------------------------------------------------------


def module(name: str, ports: list[str], body: list[str], debug_ports: list[str] = ()) -> list[str]:
    lines = [f"module {name} ("]
    if debug_ports:
        lines += ["`ifdef SCNAS_DEBUG", *(f"    {port}," for port in debug_ports), "`endif"]
    lines += [f"    {port}," for port in ports[:-1]] + [f"    {ports[-1]}", ");"]
    lines += [f"    {line}" if line and not line.startswith("`") else line for line in body]
    return lines + ["endmodule", ""]


def sign_extended(signal: str, width: int, to: int) -> str:
    """Verilog of a signed `signal` of `width` bits as one of `to` bits; narrower: modulo 2^to."""
    if to > width:
        return f"{{{{{to - width}{{{signal}[{width - 1}]}}}}, {signal}}}"
    return signal if to == width else f"{signal}[{to - 1}:0]"


def saturated_current(total: str, total_width: int, name: str, network: Network, shift: int, saturates: bool):
    """Lines that make the word `name` = sat_W(total * 2^shift)."""
    word, full = network.word, max(network.word, total_width + shift) + 1
    lines = [
        f"wire signed [{full - 1}:0] {name}_full = "
        + f"{{{{{full - total_width - shift}{{{total}[{total_width - 1}]}}}}, {total}"
        + (f", {shift}'d0}};" if shift else "};")
    ]
    if not saturates:
        return lines + [f"wire signed [{word - 1}:0] {name} = {name}_full[{word - 1}:0];"]
    top = f"{name}_full[{full - 1}:{word - 1}]"
    lines.append(f"wire {name}_fits = (&{top}) | ~(|{top});")
    lines.append(
        f"wire signed [{word - 1}:0] {name} = {name}_fits ? {name}_full[{word - 1}:0] : "
        f"{{{name}_full[{full - 1}], {{{word - 1}{{~{name}_full[{full - 1}]}}}}}};"
    )
    return lines


def counter(name: str, last: int, step: str, reset: str = "rst_n") -> list[str]:
    """A counter 0..last that moves on with `step` and begins again: register `name`, wire `name`_last."""
    width = unsigned_bits(last)
    wraps = last == 2**width - 1
    after = f"{name} + {width}'d1" if wraps else f"{name}_last ? {width}'d0 : {name} + {width}'d1"
    return [
        f"reg [{width - 1}:0] {name};",
        f"wire {name}_last = {name} == {width}'d{last};",
        f"always @(posedge clk or negedge {reset})",
        f"    if (!{reset}) {name} <= {width}'d0;",
        f"    else if ({step}) {name} <= {after};",
    ]


def register(
    name: str, value: str, width: int | None = None, enable: str = "", reset_to: int = 0
) -> list[str]:
    """A register that is cleared at a start: one bit, or a vector if `width` is given."""
    kind = "reg" if width is None else f"reg [{width - 1}:0]"
    width = width or 1
    when = f"if ({enable}) " if enable else ""
    return [
        f"{kind} {name};",
        "always @(posedge clk or negedge rst_n)",
        f"    if (!rst_n) {name} <= {width}'d{reset_to};",
        f"    else {when}{name} <= {value};",
    ]


def generator_lines(layer: Layer, back: str = "1'b0", mark: str = "1'b0") -> list[str]:
    """The number generator of a layer that runs with `run`: wires `number` and `stream_last`."""
    bits = number_width(layer)
    lines = [f"wire [{bits - 1}:0] number;", "wire stream_last;"]
    if layer.generator == "lfsr":
        lines += [
            f"sc_lfsr #(.SEED(16'd{layer.seed})) generator (.clk(clk), .rst_n(rst_n), .step(run), "
            f".back({back}), .mark({mark}), .number(number));"
        ]
        if layer.length > 1:
            lines += counter("stream_clock", layer.length - 1, "run")
            return lines + ["assign stream_last = stream_clock_last;"]
        return lines + ["assign stream_last = 1'b1;"]
    if layer.length > 1:
        return lines + [
            f"sc_sobol_counter #(.BITS({bits})) generator (.clk(clk), .rst_n(rst_n), .step(run), "
            ".number(number), .last(stream_last));"
        ]
    return lines + ["assign number = 1'b0;", "assign stream_last = 1'b1;"]


def noise_lines(layer: Layer, network: Network, step: str) -> list[str]:
    """Wire `noise`: what the neurons of the layer add in this step."""
    width, F = noise_width(layer, network), network.fraction
    if layer.neuron != "stochastic_lif":
        return [f"wire signed [{width - 1}:0] noise = {width}'d0;"]
    full = max(width + F, 8 + network.word) + 1
    return [
        "wire [7:0] noise_number;",
        f"sc_lfsr #(.SEED(16'd{layer.noise_seed})) noise_generator (.clk(clk), .rst_n(rst_n), "
        f".step({step}), .back(1'b0), .mark(1'b0), .number(noise_number));",
        f"wire signed [{full - 1}:0] noise_full = {{{{{full - 8}{{noise_number[7]}}}}, noise_number}};",
        f"wire signed [{full - 1}:0] noise_k = {signed_literal(layer.constants['noise_k'], full)};",
        f"wire signed [{full - 1}:0] noise_product = noise_full * noise_k;",
        f"wire signed [{width - 1}:0] noise = noise_product[{F + width - 1}:{F}];",
    ]


def neuron_instance(j: int, layer: Layer, network: Network) -> str:
    """The cell of neuron j with its constants."""
    k, W = layer.constants, network.word
    threshold = int(layer.threshold[j])
    parameters = {
        "DATA_WIDTH": W,
        "FRACTION": network.fraction,
        "V_REST": k["v_rest"],
        "V_RESET": k["v_reset"],
        "V_THRESHOLD": threshold,
        "REFRACTORY_PERIOD": k["refractory"],
        "NOISE_WIDTH": noise_width(layer, network),
    }
    if layer.neuron == "izhikevich":
        parameters |= {"A_K": k["a_k"], "B_K": k["b_k"], "D_K": k["d_k"]}
    else:
        quarter = 4 * k["leak_k"] == 2**network.fraction
        parameters |= {"SUM_WIDTH": sum_width(layer, network, threshold), "LEAK_AS_SUM": int(quarter)}
    if layer.neuron == "homeostatic_lif":
        parameters |= {"DECAY_K": k["decay_k"], "BUMP_K": k["bump_k"]}
    settings = ", ".join(f".{key}({value})" for key, value in parameters.items())
    leak, gain = (signed_literal(k[key], W) for key in ("leak_k", "gain_k"))
    return (
        f"{NEURON_CELL[layer.neuron]} #({settings}) neuron_{j} (.clk(clk), .rst_n(rst_n), .step(update), "
        f".leak_k({leak}), .gain_k({gain}), .I_t(current_{j}), .noise_in(noise), "
        f".spike_out(fired[{j}]), .v_out(v[{(j + 1) * W - 1}:{j * W}]));"
    )


# --- layers ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Place:
    """Where a layer stands in its network."""

    number: int
    first: bool
    last: bool
    fires: bool
    feeds_parallel: bool
    score_width: int


def score_bounds(network: Network) -> tuple[int, int]:
    """Least and greatest score of any class, exact bounds."""
    if network.readout == "spikes":
        return 0, network.timesteps
    low, high, _ = current_bounds(network.layers[-1], network)
    return int(low.min()) * network.timesteps, int(high.max()) * network.timesteps


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
        body += [neuron_instance(j, layer, network) for j in range(n)]
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


def bounds(layer: Layer, network: Network, counts: bool, j: int) -> tuple[int, int]:
    """Bounds of one step of neuron j, as a count or as a current."""
    if counts:
        low, high = count_bounds(layer, network.timesteps)
    else:
        low, high, _ = current_bounds(layer, network)
    return int(low[j]), int(high[j])


def weight_code(layer: Layer) -> tuple[int, bool]:
    """Bits of a magnitude in the ROM, and whether they are its stream instead of its number.

    The stream is stored where it is no longer than the number: sobol with L = 1 or 2.
    """
    if layer.generator == "sobol" and layer.length <= 2:
        return layer.length, True
    return layer.max_weight.bit_length(), False


def weight_words(layer: Layer) -> Iterator[str]:
    """The ROM of a folded layer as hexadecimal words: of the neurons that all units take at once, group by
    group; unit 0 lowest, lane 0 lowest."""
    bits, streams = weight_code(layer)
    delays = layer.delays_in_use or (0,)
    lanes, each = layer.lanes, layer.n_out // layer.units
    groups = -(-layer.n_in * len(delays) // lanes)
    for first in range(each):
        neurons = []
        for j in range(first, layer.n_out, each):
            codes = []
            for d in delays:
                for i in range(layer.n_in):
                    w = int(layer.weights[i, j]) if layer.delays[i, j] == d else 0
                    magnitude = (1 << abs(w)) - 1 if streams else abs(w)
                    codes.append(magnitude | (w < 0) << bits)
            neurons.append(codes + [0] * (groups * lanes - len(codes)))
        for g in range(groups):
            word = 0
            for unit, codes in enumerate(neurons):
                for lane, code in enumerate(codes[g * lanes : (g + 1) * lanes]):
                    word |= code << (unit * lanes + lane) * (bits + 1)
            yield f"{word:x}"


BLOCK_BITS = 1024  # a memory of more bits goes to block RAM, a smaller one to logic


def rom_lines(name: str, words: list[str], width: int, address: str, block: bool) -> list[str]:
    """A ROM whose output register `name` shows word `address` one clock later."""
    style = '(* rom_style = "block" *) ' if block else '(* rom_style = "logic" *) '
    lines = [f"{style}reg [{width - 1}:0] {name}_rom [0:{len(words) - 1}];", "initial begin"]
    lines += [f"    {name}_rom[{i}] = {width}'h{word};" for i, word in enumerate(words)]
    return lines + [
        "end",
        f"reg [{width - 1}:0] {name};",
        f"always @(posedge clk) {name} <= {name}_rom[{address}];",
    ]


def ending(unit: int) -> str:
    """What the names of the signals of a unit of a folded layer end in."""
    return f"_u{unit}" if unit else ""


def folded_layer(layer: Layer, network: Network, place: Place) -> list[str]:
    """The module of a folded layer."""
    name, n_in, W, L, U = f"scnas_layer{place.number}", layer.n_in, network.word, layer.length, layer.units
    k, T, lanes, n = layer.constants, network.timesteps, layer.lanes, layer.n_out // layer.units
    shift = (2**network.fraction // L).bit_length() - 1
    delays = layer.delays_in_use or (0,)
    groups = -(-n_in * len(delays) // lanes)
    ring, depth = groups * lanes, n * groups
    low, high = count_bounds(layer, T)
    low, high = int(low.min()), int(high.max())
    _, _, saturates = current_bounds(layer, network)
    ends = [ending(unit) for unit in range(U)]

    body = ["// Spikes: a ring that turns past the lanes. The last turn home is left to `load`."]
    if place.first:
        body += ["wire load = go;"]
    else:
        body += register("load", "go")
    body += [f"reg [{ring - 1}:0] ring;"]
    body += [
        f"wire [{ring - 1}:0] home = "
        + (f"{{ring[{lanes - 1}:0], ring[{ring - 1}:{lanes}]}};" if groups > 1 else "ring;")
    ]
    before = "spikes"  # what a delay loads: the spikes one step younger
    pieces = []
    for d in range(max(delays) + 1):
        if d in delays:
            at = delays.index(d) * n_in
            pieces.append(before)
            before = f"home[{at + n_in - 1}:{at}]"
        else:
            body += register(f"waiting_{d}", before, n_in, "load")
            before = f"waiting_{d}"
    padding = ring - len(delays) * n_in
    pieces += [f"{padding}'d0"] if padding else []
    body += [f"wire [{ring - 1}:0] loaded = {{{', '.join(reversed(pieces))}}};"]
    turn = " | turn" if groups > 1 else ""
    body += ["wire turn;"] if groups > 1 else []
    body += [
        "always @(posedge clk or negedge rst_n)",
        f"    if (!rst_n) ring <= {ring}'d0;",
        f"    else if (load{turn}) ring <= " + ("load ? loaded : home;" if groups > 1 else "loaded;"),
        "",
    ]

    body += ["// Neuron by neuron, group by group, stream clock by stream clock."]
    body += ["wire run, step_end;"] + register("running", "load | (running & ~step_end)")
    body += ["assign run = running;", "wire address_last;"]
    body += generator_lines(layer, back="stream_last & ~address_last", mark="address_last & stream_last")
    body += ["wire advance = run & stream_last;", "assign step_end = advance & address_last;"]
    body += ["assign ready = ~run | step_end;"]
    if groups > 1:
        body += counter("group", groups - 1, "advance")
        body += ["assign turn = advance & ~address_last;", "wire neuron_end = advance & group_last;"]
    else:
        body += ["wire neuron_end = advance;"]
    bits, streams = weight_code(layer)
    words = list(weight_words(layer))
    width = U * lanes * (bits + 1)
    if depth > 1:
        address_bits = unsigned_bits(depth - 1)
        body += [
            f"reg [{address_bits - 1}:0] address;",
            f"assign address_last = address == {address_bits}'d{depth - 1};",
            f"wire [{address_bits - 1}:0] address_next = step_end ? {address_bits}'d0 : "
            f"advance ? address + {address_bits}'d1 : address;",
            "always @(posedge clk or negedge rst_n)",
            f"    if (!rst_n) address <= {address_bits}'d0;",
            "    else address <= address_next;",
        ]
        body += rom_lines("weights", words, width, "address_next", depth * width > BLOCK_BITS)
    else:
        body += ["assign address_last = 1'b1;", f"wire [{width - 1}:0] weights = {width}'h{words[0]};"]
    body += [""]

    body += ["// One stream clock of the lanes."]
    number_bits = number_width(layer)
    sum_bits = signed_bits(-lanes, lanes)
    for unit, x in enumerate(ends):
        for lane in range(lanes):
            at = (unit * lanes + lane) * (bits + 1)
            if streams:
                bit = f"weights[{at}]" if L == 1 else f"(number ? weights[{at + 1}] : weights[{at}])"
            else:
                padding = bits - number_bits
                bit = f"weights[{at + bits - 1}:{at}] > {{{padding}'d0, number}}"
            body += [f"wire on_{lane}{x} = ring[{lane}] & ({bit});"]
        stage, trees = [], []
        staged = schedule.is_staged(layer.mapping, lanes)
        for letter, gate in (("p", "~"), ("n", "")):
            leaves = lane_leaves(layer, unit, gate)
            lines, total, most = adder_tree(leaves, f"{letter}{x}", (f"stage{x}", stage) if staged else None)
            trees += [*lines, f"wire [{unsigned_bits(most) - 1}:0] {letter}_total{x} = {total};"]
        if staged:
            body += [f"reg [{len(stage) - 1}:0] stage{x};  // after the first sums", *trees]
            body += [f"always @(posedge clk) stage{x} <= {{{', '.join(reversed(stage))}}};"]
        else:
            body += trees
        grown = [f"{{{sum_bits - unsigned_bits(lanes)}'d0, {letter}_total{x}}}" for letter in "pn"]
        body += [f"reg signed [{sum_bits - 1}:0] sum{x};"]
        body += [f"always @(posedge clk) sum{x} <= {grown[0]} - {grown[1]};"]
    if schedule.is_staged(layer.mapping, lanes):
        body += register("staged", "run") + register("ended", "neuron_end")
        body += register("summed", "staged") + register("complete", "ended")
    else:
        body += register("summed", "run") + register("complete", "neuron_end")
    total_bits = signed_bits(low, high)
    for x in ends:
        extended = sign_extended(f"sum{x}", sum_bits, total_bits)
        if L * groups > 1:
            body += [
                f"reg signed [{total_bits - 1}:0] rest{x};",
                f"wire signed [{total_bits - 1}:0] total{x} = rest{x} + {extended};",
                f"always @(posedge clk) rest{x} <= summed & ~complete ? total{x} : {total_bits}'d0;",
            ]
        else:
            body += [f"wire signed [{total_bits - 1}:0] total{x} = {extended};"]
        body += [f"reg signed [{total_bits - 1}:0] count{x};", f"always @(posedge clk) count{x} <= total{x};"]
    body += register("update", "complete")
    for x in ends:
        body += saturated_current(
            f"count{x}", total_bits, f"current{x}", network, shift, bool(saturates.any())
        )
    body += ["", "// One neuron at a time: its state comes from the memory and goes back."]

    if n > 1:
        neuron_bits = unsigned_bits(n - 1)
        body += [
            f"reg [{neuron_bits - 1}:0] neuron;",
            f"wire neuron_last = neuron == {neuron_bits}'d{n - 1};",
            f"wire [{neuron_bits - 1}:0] neuron_next = ~update ? neuron : "
            f"neuron_last ? {neuron_bits}'d0 : neuron + {neuron_bits}'d1;",
            "always @(posedge clk or negedge rst_n)",
            f"    if (!rst_n) neuron <= {neuron_bits}'d0;",
            "    else neuron <= neuron_next;",
        ]
    else:
        body += ["wire neuron_last = 1'b1;"]
    body += ["assign next = update & neuron_last;"] + register("first", "1'b0", enable="next", reset_to=1)
    if place.last:
        body += counter("step", T - 1, "next") if T > 1 else ["wire step_last = 1'b1;"]

    fields = []  # (name, bits, start value): the state of a neuron
    SW = place.score_width
    if place.fires:
        fields.append(("v", W, k["v_reset"] if layer.neuron == "izhikevich" else k["v_rest"]))
        if layer.neuron == "homeostatic_lif":
            fields.append(("extra", W, 0))
        if layer.neuron == "izhikevich":
            fields.append(("extra", W, k["b_k"] * k["v_reset"] >> network.fraction))
        if k["refractory"]:
            fields.append(("waiting", unsigned_bits(k["refractory"]), 0))
    if place.last:
        fields.append(("score_state", SW if not place.fires else unsigned_bits(T), 0))
    for x in ends:
        body += state_lines(fields, n, x)

    ports = ["input wire clk", "input wire rst_n", "input wire go", f"input wire [{n_in - 1}:0] spikes"]
    ports += ["output wire ready", "output wire next"]
    debug = []
    if place.fires:
        body += noise_lines(layer, network, "next")
        for unit, x in enumerate(ends):
            neurons = range(unit * n, (unit + 1) * n)
            body += folded_neuron(layer, network, neurons, {field[0] for field in fields}, x)
        kind = "held" if place.feeds_parallel else "shifted"
        for x in ends:
            after = f"{{fires{x}, shifted{x}[{n - 1}:1]}}" if n > 1 else f"fires{x}"
            body += register(f"shifted{x}", after, n, "update")
            if place.feeds_parallel:
                body += register(f"held{x}", after, n, "next")
        fired = ", ".join(f"{kind}{x}" for x in reversed(ends))
        body += [f"assign fired = {fired if U == 1 else f'{{{fired}}}'};"]
        ports.append(f"output wire [{layer.n_out - 1}:0] fired")
        debug = [f"output reg [{layer.n_out * W - 1}:0] debug_v"]
        body += ["`ifdef SCNAS_DEBUG"]
        for unit, x in enumerate(ends):
            lowest, size = unit * n * W, n * W
            own = f"debug_v[{lowest + size - 1}:{lowest}]" if U > 1 else "debug_v"
            moved = f"{{v_new{x}, debug_v[{lowest + size - 1}:{lowest + W}]}}" if n > 1 else f"v_new{x}"
            body += [f"always @(posedge clk) if (update) {own} <= {moved};"]
        body += ["`endif"]
    if place.last:
        if place.fires:
            width = unsigned_bits(T)
            body += [
                f"assign score_state_new = score_state + {{{width - 1}'d0, fires}};"
                if width > 1
                else "assign score_state_new = score_state | fires;"
            ]
            shown = f"{{{SW - width}'d0, score_state_new}}"
        else:
            grown = sign_extended("current", W, SW)
            body += [f"assign score_state_new = score_state + {grown};"]
            shown = "score_state_new"
        body += [f"reg signed [{SW - 1}:0] score_shown;", f"always @(posedge clk) score_shown <= {shown};"]
        body += register("showing", "update & step_last")
        body += ["assign score_valid = showing;", "always @* score = score_shown;"]
        ports += [f"input wire [{unsigned_bits(n - 1) - 1}:0] index", "output wire score_valid"]
        ports += [f"output reg signed [{SW - 1}:0] score"]
    return module(name, ports, body, debug)


def state_lines(fields: list[tuple[str, int, int]], n: int, x: str) -> list[str]:
    """The states of the n neurons of a unit, in a memory if there are several, and of the one at work.

    fields: name, bits, start value. x: what the names of its signals end in.
    """
    bits = sum(size for _, size, _ in fields)
    lines = [f"wire [{bits - 1}:0] state_new{x};"]
    if n > 1:
        style = "block" if n * bits > BLOCK_BITS else "auto"
        lines += [
            f'(* no_rw_check, ram_style = "{style}" *) reg [{bits - 1}:0] states{x} [0:{n - 1}];',
            f"reg [{bits - 1}:0] state{x};",
            "always @(posedge clk) begin",
            f"    if (update) states{x}[neuron] <= state_new{x};",
            f"    state{x} <= states{x}[neuron_next];",
            "end",
        ]
    else:
        lines += [f"reg [{bits - 1}:0] state{x};"]
        lines += [f"always @(posedge clk) if (update) state{x} <= state_new{x};"]
    at, fires = 0, fields[0][0] == "v"
    for field, size, start in fields:
        sign = "signed " if field in ("v", "extra") or (field == "score_state" and not fires) else ""
        lines += [
            f"wire {sign}[{size - 1}:0] {field}{x} = first ? {signed_literal(start, size)} : "
            f"state{x}[{at + size - 1}:{at}];",
            f"wire {sign}[{size - 1}:0] {field}_new{x};",
        ]
        at += size
    return [*lines, f"assign state_new{x} = {{{', '.join(f'{f[0]}_new{x}' for f in reversed(fields))}}};"]


def lane_leaves(layer: Layer, unit: int, gate: str) -> list[Leaf]:
    """The leaves of one tree of a unit: every lane, gated by its sign bit (`gate` is "") or by none ("~")."""
    size, x = weight_code(layer)[0] + 1, ending(unit)
    signs = [(unit * layer.lanes + i + 1) * size - 1 for i in range(layer.lanes)]
    return [Leaf(f"on_{i}{x}", f"{gate}weights[{sign}]") for i, sign in enumerate(signs)]


def folded_neuron(layer: Layer, network: Network, neurons: range, fields: set[str], x: str) -> list[str]:
    """The datapath of a unit: wires `fires` and the new state from state, threshold and current.

    x: what the names of its signals end in.
    """
    k, W, n = layer.constants, network.word, len(neurons)
    thresholds = [int(layer.threshold[j]) for j in neurons]
    lines = []
    if len(set(thresholds)) == 1:
        lines += [f"wire signed [{W - 1}:0] threshold{x} = {signed_literal(thresholds[0], W)};"]
    elif n * W > BLOCK_BITS:
        words = [f"{t % 2**W:x}" for t in thresholds]
        lines += rom_lines(f"threshold_word{x}", words, W, "neuron_next", block=True)
        lines += [f"wire signed [{W - 1}:0] threshold{x} = threshold_word{x};"]
    else:
        lines += [f"reg signed [{W - 1}:0] threshold{x};", "always @* begin", "    case (neuron)"]
        size = unsigned_bits(n - 1)
        for j, t in enumerate(thresholds):
            label = f"{size}'d{j}" if j < n - 1 else "default"
            lines += [f"        {label}: threshold{x} = {signed_literal(t, W)};"]
        lines += ["    endcase", "end"]
    waiting_bits = unsigned_bits(k["refractory"])
    parameters = {
        "MODEL": UPDATE_MODEL[layer.neuron],
        "DATA_WIDTH": W,
        "FRACTION": network.fraction,
        "V_REST": k["v_rest"],
        "V_RESET": k["v_reset"],
        "REFRACTORY_PERIOD": k["refractory"],
        "DECAY_K": k["decay_k"],
        "BUMP_K": k["bump_k"],
        "A_K": k["a_k"],
        "B_K": k["b_k"],
        "D_K": k["d_k"],
        "WAITING_WIDTH": waiting_bits,
        "NOISE_WIDTH": noise_width(layer, network),
    }
    settings = ", ".join(f".{key}({value})" for key, value in parameters.items())
    leak, gain = (signed_literal(k[key], W) for key in ("leak_k", "gain_k"))
    extra = (f"extra{x}", f"extra_new{x}") if "extra" in fields else (f"{W}'d0", f"no_extra{x}")
    waiting = (
        (f"waiting{x}", f"waiting_new{x}")
        if "waiting" in fields
        else (f"{waiting_bits}'d0", f"no_waiting{x}")
    )
    return lines + [
        f"wire fires{x};",
        f"wire signed [{W - 1}:0] no_extra{x};",
        f"wire [{waiting_bits - 1}:0] no_waiting{x};",
        f"sc_neuron_update #({settings}) datapath{x} (.leak_k({leak}), .gain_k({gain}), "
        f".threshold(threshold{x}), .I_t(current{x}), .noise_in(noise), .v(v{x}), .extra({extra[0]}), "
        f".waiting({waiting[0]}), .fires(fires{x}), .v_next(v_new{x}), .extra_next({extra[1]}), "
        f".waiting_next({waiting[1]}));",
    ]


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
    cells = tuple(sorted(path.stem for path in HDL.glob("*.v") if f"{path.stem} " in text))
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

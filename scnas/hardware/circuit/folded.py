"""A folded layer: `units` neurons at a time, weights in a ROM, states in a memory.

The weights of `lanes` taps lie in one word of a ROM; the spikes turn past the lanes in a ring;
neuron states wait in a RAM for their turn. Each of `units` has lanes, a RAM and a datapath of its own and
takes an equal share of the neurons, all of them in step; ring, control and ROM serve them all. An adder tree
of many lanes is cut by a register, `stage`, after its first sums.

Letters: T steps, W bits of a word.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from scnas.hardware import schedule
from scnas.hardware.circuit import derived
from scnas.hardware.circuit.cells import cell_of, state_fields
from scnas.hardware.circuit.shared import (
    BLOCK_BITS,
    Place,
    generator_lines,
    noise_lines,
    rom_lines,
)
from scnas.hardware.circuit.signal import (
    count_bounds,
    counter,
    current_bounds,
    module,
    noise_width,
    number_width,
    register,
    saturated_current,
    sign_extended,
    signed_bits,
    signed_literal,
    unsigned_bits,
    weight_code,
)
from scnas.hardware.circuit.tree import Leaf, Stage, adder_tree
from scnas.snn.models import model_of
from scnas.snn.network import Layer, Network


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


def ending(unit: int) -> str:
    """What the names of the signals of a unit of a folded layer end in."""
    return f"_u{unit}" if unit else ""


@dataclass(frozen=True)
class Folded:
    """A folded layer, where it stands, and the sizes that its circuit is built to."""

    layer: Layer
    network: Network
    place: Place

    @property
    def delays(self) -> tuple[int, ...]:
        """The delays in use, ascending, at least one."""
        return self.layer.delays_in_use or (0,)

    @property
    def groups(self) -> int:
        """Groups of lanes in which the taps of a neuron are taken."""
        return -(-self.layer.n_in * len(self.delays) // self.layer.lanes)

    @property
    def ring(self) -> int:
        """Bits of the ring of spikes: a place for every lane of every group."""
        return self.groups * self.layer.lanes

    @property
    def each(self) -> int:
        """Neurons of a unit."""
        return self.layer.n_out // self.layer.units

    @property
    def depth(self) -> int:
        """Words of the weight ROM."""
        return self.each * self.groups

    @property
    def ends(self) -> list[str]:
        """What the names of the signals of each unit end in."""
        return [ending(unit) for unit in range(self.layer.units)]

    @property
    def staged(self) -> bool:
        """Whether a register cuts the adder trees."""
        return schedule.is_staged(self.layer.mapping, self.layer.lanes)

    @property
    def sum_bits(self) -> int:
        """Bits of the signed sum of the lanes of a unit."""
        return signed_bits(-self.layer.lanes, self.layer.lanes)

    @property
    def fields(self) -> list[tuple[str, int, int]]:
        """Name, bits and start value of every word of state of a neuron."""
        layer, network, place = self.layer, self.network, self.place
        k = layer.constants
        fields = []
        if place.fires:
            fields += state_fields(layer, network)
            if k["refractory"]:
                fields.append(("waiting", unsigned_bits(k["refractory"]), 0))
        if place.last:
            bits = unsigned_bits(network.timesteps) if place.fires else place.score_width
            fields.append(("score_state", bits, 0))
        return fields


def folded_layer(layer: Layer, network: Network, place: Place) -> list[str]:
    """The module of a folded layer."""
    x = Folded(layer, network, place)
    body = [*_spike_ring(x), *_walk(x), *_weights(x), *_lane_sums(x), *_pipeline(x), *_currents(x)]
    body += _neuron_walk(x)
    for end in x.ends:
        body += state_lines(x.fields, x.each, end)
    ports = ["input wire clk", "input wire rst_n", "input wire go", f"input wire [{layer.n_in - 1}:0] spikes"]
    ports += ["output wire ready", "output wire next"]
    debug = []
    if place.fires:
        body += [*_neurons(x), *_debug_membranes(x)]
        ports.append(f"output wire [{layer.n_out - 1}:0] fired")
        debug = [f"output reg [{layer.n_out * network.word - 1}:0] debug_v"]
    if place.last:
        body += _scores(x)
        ports += [f"input wire [{unsigned_bits(x.each - 1) - 1}:0] index", "output wire score_valid"]
        ports += [f"output reg signed [{place.score_width - 1}:0] score"]
    return module(f"scnas_layer{place.number}", ports, body, debug)


def _spike_ring(x: Folded) -> list[str]:
    """Register `ring`: the spikes of this step and, behind them, of those as many steps ago as there are
    delays. Registers `waiting_d` hold the spikes of delays that no synapse has."""
    n_in, lanes, ring, delays = x.layer.n_in, x.layer.lanes, x.ring, x.delays
    turns = x.groups > 1
    home = f"{{ring[{lanes - 1}:0], ring[{ring - 1}:{lanes}]}}" if turns else "ring"
    lines = ["// Spikes: a ring that turns past the lanes. The last turn home is left to `load`."]
    lines += ["wire load = go;"] if x.place.first else register("load", "go")
    lines += [f"reg [{ring - 1}:0] ring;", f"wire [{ring - 1}:0] home = {home};"]
    before = "spikes"  # what a delay loads: the spikes one step younger
    pieces = []
    for d in range(max(delays) + 1):
        if d in delays:
            at = delays.index(d) * n_in
            pieces.append(before)
            before = f"home[{at + n_in - 1}:{at}]"
        else:
            lines += register(f"waiting_{d}", before, n_in, "load")
            before = f"waiting_{d}"
    padding = ring - len(delays) * n_in
    pieces += [f"{padding}'d0"] if padding else []
    lines += [f"wire [{ring - 1}:0] loaded = {{{', '.join(reversed(pieces))}}};"]
    lines += ["wire turn;"] if turns else []
    lines += ["always @(posedge clk or negedge rst_n)", f"    if (!rst_n) ring <= {ring}'d0;"]
    after = "(load | turn) ring <= load ? loaded : home" if turns else "(load) ring <= loaded"
    return [*lines, f"    else if {after};", ""]


def _walk(x: Folded) -> list[str]:
    """The number generator, and the counters that walk through neurons, groups and stream clocks."""
    lines = ["// Neuron by neuron, group by group, stream clock by stream clock."]
    lines += ["wire run, step_end;"] + register("running", "load | (running & ~step_end)")
    lines += ["assign run = running;", "wire address_last;"]
    lines += generator_lines(x.layer, back="stream_last & ~address_last", mark="address_last & stream_last")
    lines += ["wire advance = run & stream_last;", "assign step_end = advance & address_last;"]
    lines += ["assign ready = ~run | step_end;"]
    if x.groups == 1:
        return lines + ["wire neuron_end = advance;"]
    lines += counter("group", x.groups - 1, "advance")
    return lines + ["assign turn = advance & ~address_last;", "wire neuron_end = advance & group_last;"]


def _weights(x: Folded) -> list[str]:
    """The word `weights` of the ROM at the address of this clock."""
    words = list(weight_words(x.layer))
    width = x.layer.units * x.layer.lanes * (weight_code(x.layer)[0] + 1)
    if x.depth == 1:
        lines = ["assign address_last = 1'b1;", f"wire [{width - 1}:0] weights = {width}'h{words[0]};"]
        return [*lines, ""]
    size = unsigned_bits(x.depth - 1)
    lines = [
        f"reg [{size - 1}:0] address;",
        f"assign address_last = address == {size}'d{x.depth - 1};",
        f"wire [{size - 1}:0] address_next = step_end ? {size}'d0 : advance ? address + {size}'d1 : address;",
        "always @(posedge clk or negedge rst_n)",
        f"    if (!rst_n) address <= {size}'d0;",
        "    else address <= address_next;",
    ]
    return [*lines, *rom_lines("weights", words, width, "address_next", x.depth * width > BLOCK_BITS), ""]


def _lane_sums(x: Folded) -> list[str]:
    """Registers `sum` of every unit: its lanes that are on in a stream clock, each with its sign."""
    lines = ["// One stream clock of the lanes."]
    for unit, end in enumerate(x.ends):
        lines += _lanes(x, unit)
        stage = Stage(f"stage{end}") if x.staged else None
        trees = []
        for letter, gate in (("p", "~"), ("n", "")):
            tree, total, most = adder_tree(lane_leaves(x.layer, unit, gate), f"{letter}{end}", stage)
            trees += [*tree, f"wire [{unsigned_bits(most) - 1}:0] {letter}_total{end} = {total};"]
        if stage is not None:
            lines += [f"reg [{len(stage.bits) - 1}:0] stage{end};  // after the first sums", *trees]
            lines += [f"always @(posedge clk) stage{end} <= {{{', '.join(reversed(stage.bits))}}};"]
        else:
            lines += trees
        padding = x.sum_bits - unsigned_bits(x.layer.lanes)
        plus, minus = (f"{{{padding}'d0, {letter}_total{end}}}" for letter in "pn")
        lines += [f"reg signed [{x.sum_bits - 1}:0] sum{end};"]
        lines += [f"always @(posedge clk) sum{end} <= {plus} - {minus};"]
    return lines


def _lanes(x: Folded, unit: int) -> list[str]:
    """Wires on_i of a unit: the spike of lane i where its magnitude is above the number."""
    layer, end = x.layer, ending(unit)
    bits, streams = weight_code(layer)
    lines = []
    for lane in range(layer.lanes):
        at = (unit * layer.lanes + lane) * (bits + 1)
        if not streams:
            padding = bits - number_width(layer)
            bit = f"weights[{at + bits - 1}:{at}] > {{{padding}'d0, number}}"
        elif layer.length == 1:
            bit = f"weights[{at}]"
        else:
            bit = f"(number ? weights[{at + 1}] : weights[{at}])"
        lines += [f"wire on_{lane}{end} = ring[{lane}] & ({bit});"]
    return lines


def _pipeline(x: Folded) -> list[str]:
    """Registers that say what is there: `summed`, the sum of a stream clock; `complete`, the last one of a
    neuron."""
    if not x.staged:
        return register("summed", "run") + register("complete", "neuron_end")
    lines = register("staged", "run") + register("ended", "neuron_end")
    return lines + register("summed", "staged") + register("complete", "ended")


def _currents(x: Folded) -> list[str]:
    """Registers `count` of every unit, wires `current` made of them, and `update`, when they are there."""
    layer, network = x.layer, x.network
    shift = (2**network.fraction // layer.length).bit_length() - 1
    low, high = count_bounds(layer, network.timesteps)
    total_bits = signed_bits(int(low.min()), int(high.max()))
    saturates = bool(current_bounds(layer, network)[2].any())
    lines = []
    for end in x.ends:
        extended = sign_extended(f"sum{end}", x.sum_bits, total_bits)
        if layer.length * x.groups > 1:
            lines += [
                f"reg signed [{total_bits - 1}:0] rest{end};",
                f"wire signed [{total_bits - 1}:0] total{end} = rest{end} + {extended};",
                f"always @(posedge clk) rest{end} <= summed & ~complete ? total{end} : {total_bits}'d0;",
            ]
        else:
            lines += [f"wire signed [{total_bits - 1}:0] total{end} = {extended};"]
        lines += [
            f"reg signed [{total_bits - 1}:0] count{end};",
            f"always @(posedge clk) count{end} <= total{end};",
        ]
    lines += register("update", "complete")
    for end in x.ends:
        lines += saturated_current(f"count{end}", total_bits, f"current{end}", network, shift, saturates)
    return lines


def _neuron_walk(x: Folded) -> list[str]:
    """Counters `neuron` and, where scores are shown, `step`; `next` when the last neuron is through."""
    n, T = x.each, x.network.timesteps
    lines = ["", "// One neuron at a time: its state comes from the memory and goes back."]
    if n > 1:
        size = unsigned_bits(n - 1)
        lines += [
            f"reg [{size - 1}:0] neuron;",
            f"wire neuron_last = neuron == {size}'d{n - 1};",
            f"wire [{size - 1}:0] neuron_next = ~update ? neuron : "
            f"neuron_last ? {size}'d0 : neuron + {size}'d1;",
            "always @(posedge clk or negedge rst_n)",
            f"    if (!rst_n) neuron <= {size}'d0;",
            "    else neuron <= neuron_next;",
        ]
    else:
        lines += ["wire neuron_last = 1'b1;"]
    lines += ["assign next = update & neuron_last;"] + register("first", "1'b0", enable="next", reset_to=1)
    if x.place.last:
        lines += counter("step", T - 1, "next") if T > 1 else ["wire step_last = 1'b1;"]
    return lines


def _neurons(x: Folded) -> list[str]:
    """The noise, the datapath of every unit, and `fired`: the spikes of a step, collected one by one."""
    n, names = x.each, {name for name, _, _ in x.fields}
    lines = noise_lines(x.layer, x.network, "next")
    for unit, end in enumerate(x.ends):
        lines += folded_neuron(
            x.layer, x.network, x.place.number, range(unit * n, (unit + 1) * n), names, end
        )
    for end in x.ends:
        after = f"{{fires{end}, shifted{end}[{n - 1}:1]}}" if n > 1 else f"fires{end}"
        lines += register(f"shifted{end}", after, n, "update")
        if x.place.feeds_parallel:
            lines += register(f"held{end}", after, n, "next")
    kind = "held" if x.place.feeds_parallel else "shifted"
    fired = ", ".join(f"{kind}{end}" for end in reversed(x.ends))
    return lines + [f"assign fired = {fired if len(x.ends) == 1 else f'{{{fired}}}'};"]


def _debug_membranes(x: Folded) -> list[str]:
    """Port debug_v: the membranes, collected as the spikes are. For simulations alone."""
    n, W = x.each, x.network.word
    size, lines = n * W, ["`ifdef SCNAS_DEBUG"]
    for unit, end in enumerate(x.ends):
        low, high = unit * size, (unit + 1) * size - 1
        own = f"debug_v[{high}:{low}]" if len(x.ends) > 1 else "debug_v"
        moved = f"{{v_new{end}, debug_v[{high}:{low + W}]}}" if n > 1 else f"v_new{end}"
        lines += [f"always @(posedge clk) if (update) {own} <= {moved};"]
    return lines + ["`endif"]


def _scores(x: Folded) -> list[str]:
    """The score of the neuron at work, shown after its last step."""
    SW = x.place.score_width
    if x.place.fires:
        width = unsigned_bits(x.network.timesteps)
        fires = f"score_state + {{{width - 1}'d0, fires}}" if width > 1 else "score_state | fires"
        lines = [f"assign score_state_new = {fires};"]
        shown = f"{{{SW - width}'d0, score_state_new}}"
    else:
        grown = sign_extended("current", x.network.word, SW)
        lines = [f"assign score_state_new = score_state + {grown};"]
        shown = "score_state_new"
    lines += [f"reg signed [{SW - 1}:0] score_shown;", f"always @(posedge clk) score_shown <= {shown};"]
    lines += register("showing", "update & step_last")
    return lines + ["assign score_valid = showing;", "always @* score = score_shown;"]


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
        sign = "" if field == "waiting" or (field == "score_state" and fires) else "signed "
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


def folded_neuron(
    layer: Layer, network: Network, number: int, neurons: range, fields: set[str], x: str
) -> list[str]:
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
    if model_of(layer.neuron).cell is None:
        return lines + derived.folded_instance(layer, network, number, x)
    waiting_bits = unsigned_bits(k["refractory"])
    parameters = {
        "MODEL": cell_of(layer.neuron).update,
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

"""A folded layer: `units` neurons at a time, weights in a ROM, states in a memory.

The weights of `lanes` taps lie in one word of a ROM; the spikes turn past the lanes in a ring;
neuron states wait in a RAM for their turn. Each of `units` has lanes, a RAM and a datapath of its own and
takes an equal share of the neurons, all of them in step; ring, control and ROM serve them all. An adder tree
of many lanes is cut by a register, `stage`, after its first sums.

Letters: T steps, L stream clocks of a step, G groups of lanes, F fraction bits, W bits of a word, U units.
"""

from collections.abc import Iterator

from scnas.hardware import schedule
from scnas.hardware.circuit import derived
from scnas.hardware.circuit.cells import cell_of, state_fields
from scnas.hardware.circuit.shared import BLOCK_BITS, Place, generator_lines, noise_lines, rom_lines
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
from scnas.hardware.circuit.tree import Leaf, adder_tree
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
        fields += state_fields(layer, network)
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
            body += folded_neuron(layer, network, place.number, neurons, {f[0] for f in fields}, x)
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

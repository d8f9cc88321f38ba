"""The structure of a network that its cost follows from: read off a trained one, or expected from its genes.

`of_network` counts what `scnas.hardware.verilog` will write: registers, adders, memories. `of_architectures`
knows the genes only and puts the expected value in the place of everything that training decides. Both fill
the same `Structure`, one row per layer, from which `scnas.hardware.cost`, `timing` and `energy` go on.

Letters: N layers of all networks in a batch, T timesteps, L clocks of a stream, M largest magnitude,
W bits of a word, D largest delay, F fraction bits, G groups of lanes, U units of a folded layer.
"""

from bisect import insort
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from functools import cache, reduce
from itertools import chain
from operator import and_, or_
from typing import NamedTuple

import numpy as np

from scnas.contract import NEURONS
from scnas.hardware import schedule, verilog
from scnas.randomness import rng
from scnas.snn.network import Layer, Network
from scnas.space import Architecture

DEFAULT_ACTIVITY = 0.25  # share of inputs that spike in a step, where nothing was observed
WEIGHT_SPREAD = 0.4  # of M: standard deviation of weights, as training draws them


@dataclass(frozen=True)
class Structure:
    """All layers of a batch of networks; every field is an array [N] over layers, or expected values.

    network: index of the layer's network, ascending. first, last: ends of a network.
    fires: there are neurons (else the layer only integrates). feeds_parallel: a parallel layer follows.
    waits: the input waits for a slower layer (`pause` of the design). period: clocks between steps.
    live: neurons that something reads; synthesis removes the others of a parallel layer.
    spike_bits: registers of the spikes that a folded layer passes on. ring_idle: bits of its ring that no
    lane with a weight ever sees. unseen_bits: low bits of its count that a gain below one cuts off.
    synapses: non-zero weights of live neurons. magnitudes: distinct non-zero |w| < M in the layer, and
    magnitude_bits: the bits that their comparison needs. inputs_used: inputs with a synapse.
    taps: pairs of input and delay in use (parallel) or n_in * delays in use (folded).
    delay_bits: flip-flops that hold spikes of earlier steps.
    same, mixed, pairs, ands: words of three synapses of one magnitude, of three, of two, of one.
    adder_bits, carries: of the trees above them; difference_bits: of positive minus negative sums;
    short_bits: of adders and differences of at most SHORT bits, which the former two leave out; odd: longer
    carry chains of an odd number of bits, sums of steps and scores included.
    units: of a folded layer; lanes: of each of them.
    count_bits, total_bits, drive_bits, score_bits: sums over neurons (parallel) or of one unit
    (folded) of the widths of a clock's count, of a step's, of the current, and of the score.
    membrane_bits: registers of the membranes. saturating: neurons whose current can saturate.
    score_width: of the port. gain, noise, decay, recovery: signed binary digits of the constants.
    leak: adders that 1 - leak takes in a neuron, none if it is 1/2 or 1/4; quarter: it is 1/4. spread:
    adders in a folded datapath, whose comparisons stay as wide as its products.
    refractory: steps. rom_bits: width of the weight ROM without constant columns; magnitude_columns: those
    of magnitudes. lanes_used: of all units, with a weight in some word. lane_words, lane_adder_bits,
    lane_short_bits: of the trees of all units, words of three and adder bits above them, those of short
    adders apart. stage_bits: of the registers that cut them. lane_reach, lane_span: bits of the magnitudes
    of all lanes, up to the highest that is ever set, and from the lowest. rom_luts, threshold_luts: tables
    of 16 entries that the weight ROM and the thresholds of a folded layer take in logic. driven_bits: of
    membrane_bits, or of a word of one unit, those that the current reaches.
    products: multiplications by constants that are no powers of two. squares: of a membrane by itself.
    byte_clocks: in which a byte-serial input takes a step, in the first layer; else 0. byte_registers: of
    the register it comes into, those that are read.
    spikes: input spikes per step.
    """

    network: np.ndarray
    first: np.ndarray
    last: np.ndarray
    n_in: np.ndarray
    n_out: np.ndarray
    live: np.ndarray
    neuron: np.ndarray
    fires: np.ndarray
    feeds_parallel: np.ndarray
    lfsr: np.ndarray
    length: np.ndarray
    folded: np.ndarray
    lanes: np.ndarray
    units: np.ndarray
    timesteps: np.ndarray
    word: np.ndarray
    fraction: np.ndarray
    period: np.ndarray
    waits: np.ndarray
    spike_bits: np.ndarray
    ring_idle: np.ndarray
    unseen_bits: np.ndarray
    synapses: np.ndarray
    magnitudes: np.ndarray
    magnitude_bits: np.ndarray
    inputs_used: np.ndarray
    taps: np.ndarray
    delay_bits: np.ndarray
    same: np.ndarray
    mixed: np.ndarray
    pairs: np.ndarray
    ands: np.ndarray
    adder_bits: np.ndarray
    carries: np.ndarray
    odd: np.ndarray
    short_bits: np.ndarray
    difference_bits: np.ndarray
    count_bits: np.ndarray
    total_bits: np.ndarray
    drive_bits: np.ndarray
    score_bits: np.ndarray
    membrane_bits: np.ndarray
    saturating: np.ndarray
    score_width: np.ndarray
    gain: np.ndarray
    leak: np.ndarray
    quarter: np.ndarray
    spread: np.ndarray
    noise: np.ndarray
    decay: np.ndarray
    recovery: np.ndarray
    refractory: np.ndarray
    rom_bits: np.ndarray
    magnitude_columns: np.ndarray
    lanes_used: np.ndarray
    lane_words: np.ndarray
    lane_adder_bits: np.ndarray
    lane_short_bits: np.ndarray
    stage_bits: np.ndarray
    lane_reach: np.ndarray
    lane_span: np.ndarray
    rom_luts: np.ndarray
    threshold_luts: np.ndarray
    driven_bits: np.ndarray
    products: np.ndarray
    squares: np.ndarray
    byte_clocks: np.ndarray
    byte_registers: np.ndarray
    spikes: np.ndarray


_NEURON_INDEX = {name: i for i, name in enumerate(NEURONS)}
STOCHASTIC, HOMEOSTATIC, IZHIKEVICH = (
    _NEURON_INDEX[n] for n in ("stochastic_lif", "homeostatic_lif", "izhikevich")
)
_TREE = ("same", "mixed", "pairs", "ands", "adder_bits", "carries", "odd", "short_bits")
SHORT = 4  # bits of an adder that synth_ecp5 and synth_lattice make of LUTs instead of a carry chain


def tree_counts(groups: Sequence[int]) -> tuple[int, int, int, int, int, int, int, int]:
    """What verilog.adder_tree makes of groups of synapses with one magnitude each: counts of _TREE.

    groups: synapses per magnitude. A single synapse is one AND and no tree. short_bits: of adders of at
    most SHORT bits; adder_bits and odd are of the others.
    """
    sizes, same, singles = [], 0, 0
    for n in groups:
        same += n // 3
        singles += n % 3
    if sum(groups) == 0:
        return (0, 0, 0, 0, 0, 0, 0, 0)
    if sum(groups) == 1:
        return (0, 0, 0, 1, 0, 0, 0, 0)
    while same > 1 and singles + 3 <= same - 2:
        same -= 1
        singles += 3
    sizes = [3] * same
    while singles > max(len(sizes) - 1, 0):
        sizes.append(min(3, singles))
        singles -= sizes[-1]
    mixed, pairs, ands = len(sizes) - same, 0, 0
    if mixed and sizes[-1] < 3:
        mixed -= 1
        pairs, ands = (1, 0) if sizes[-1] == 2 else (0, 1)
    carries, adders, bits, odd, short = singles, len(sizes) - 1, 0, 0, 0
    words = sorted(sizes)
    for i in range(adders):  # the two smallest words meet first
        most = words[0] + words[1]
        del words[:2]
        fits = (most + 1).bit_length() == most.bit_length()
        takes = singles and (fits or singles >= adders - i)
        if takes:
            singles -= 1
            most += 1
        chain = most.bit_length() + bool(takes)
        if chain <= SHORT:
            short += most.bit_length()
        else:
            bits += most.bit_length()
            odd += chain % 2
        insort(words, most)
    return (same, mixed, pairs, ands, bits, carries, odd, short)


def _difference_counts(plus: int, minus: int) -> np.ndarray:
    """What a difference of sums up to `plus` and `minus` adds to odd, short_bits, difference_bits and
    count_bits."""
    width = verilog.signed_bits(-minus, plus)
    is_short, is_long = bool(minus) & (width <= SHORT), bool(minus) & (width > SHORT)
    return np.array([is_long * (width % 2), is_short * width, is_long * width, width])


@cache
def _expected_trees(top: int) -> tuple[np.ndarray, np.ndarray]:
    """Trees of a neuron with f synapses of each sign on average, weights spread over 1..top.

    returns: f [K] ascending, and [10, K] expected counts: those of _TREE, difference_bits, count_bits.
    Drawn, from an address of its own, so always the same.
    """
    grid = np.array([0, 0.1, 0.25, 0.5, 1, 1.5, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 256, 512])
    dice = rng(0, "expected trees", top)
    table = np.zeros((10, len(grid)))
    for column, f in enumerate(grid):
        draws = int(np.clip(300 / (f + 0.1), 4, 60))
        for _ in range(draws):
            most = []
            for _ in range(2):
                leaves = dice.poisson(f)
                weights = np.abs(dice.standard_normal(leaves)) * WEIGHT_SPREAD * top
                magnitudes = np.clip(np.rint(weights), 1, top).astype(int)
                groups = np.bincount(magnitudes)
                table[:8, column] += tree_counts(groups[groups > 0].tolist())
                most.append(leaves)
            table[6:, column] += _difference_counts(*most)
        table[:, column] /= draws
    return grid, table


_LANE_TREE = ("lane_words", "lane_adder_bits", "lane_short_bits", "stage_bits")


def lane_tree(lanes: np.ndarray, staged: np.ndarray) -> np.ndarray:
    """Counts of _LANE_TREE of one tree of a folded layer, [4, N]; lanes: [N] that are ever on.

    staged: [N], a register cuts the tree after its first sums, and what would meet a carry input there
    needs a gate of its own.
    """
    found = np.zeros((4, len(lanes)))
    for n in np.unique(lanes[lanes > 0]).tolist():
        for cut in (False, True):
            here = (lanes == n) & (staged == cut)
            if here.any():
                found[:, here] = np.array(_lane_tree(int(n), cut))[:, None]
    return found


@cache
def _lane_tree(n: int, staged: bool) -> tuple[float, float, float, float]:
    _, mixed, pairs, ands, adder_bits, _, _, short_bits = tree_counts([1] * n)
    words, held = mixed + 0.6 * pairs + 0.25 * ands, 0
    if staged:
        leaves = [verilog.Leaf(f"on_{i}", f"sign_{i}") for i in range(n)]
        words += 0.25 * len(verilog.plan_tree(leaves, True).held_singles)
        held = _stage_bits(leaves, np.ones(n, bool))
    return words, adder_bits, short_bits, held


def _stage_bits(leaves: Sequence[verilog.Leaf], there: np.ndarray) -> int:
    """Registers of the stage of one tree, without those that are always 0. there: [lanes], ever on."""
    tree, on = verilog.plan_tree(list(leaves), True), dict(zip(leaves, there.tolist(), strict=True))
    bits = [min(2, sum(on[leaf] for leaf in word)) for word in tree.words]
    for a, b, single in tree.adders:
        short, long = sorted((bits[a], bits[b]))
        carry = single is not None and on[tree.singles[single]]
        full = verilog.unsigned_bits(tree.most[len(bits)])
        bits.append(min(full, long + 1) if short or (long and carry) else max(long, int(carry)))
    return sum(bits[node] for node in tree.held) + sum(on[tree.singles[i]] for i in tree.held_singles)


def _trees_of_architectures(top: np.ndarray, fan_in: np.ndarray) -> np.ndarray:
    """Expected counts per neuron, [10, N], of neurons with fan_in [N] synapses of magnitude up to top [N]."""
    found = np.zeros((10, len(top)))
    f = fan_in / 2
    for value in np.unique(top).tolist():
        here = top == value
        grid, table = _expected_trees(int(value))
        beyond = np.maximum(0, f[here] - grid[-1])
        for k in range(10):
            slope = (table[k, -1] - table[k, -2]) / (grid[-1] - grid[-2])
            found[k, here] = np.interp(f[here], grid, table[k]) + beyond * slope
    return found


def of_architectures(architectures: Sequence[Architecture], input_clocks: Sequence[int]) -> Structure:
    """Expected structure: density's share of synapses, normal weights, delays spread evenly over 0..D."""
    flat = chain.from_iterable
    depth = np.array([len(a.layer_widths) for a in architectures])
    total = int(depth.sum())

    def per_layer(values: Iterable, dtype=np.int64) -> np.ndarray:
        return np.fromiter(flat(values), dtype, total)

    def per_network(values: Iterable, dtype=np.int64) -> np.ndarray:
        return np.repeat(np.fromiter(values, dtype, len(depth)), depth)

    last = np.zeros(total, bool)
    last[np.cumsum(depth) - 1] = True
    first = np.roll(last, 1)
    n_out = per_layer(a.layer_widths for a in architectures)
    n_in = np.where(first, per_network(a.n_inputs for a in architectures), np.roll(n_out, 1))
    fires = ~(last & per_network((a.readout == "membrane" for a in architectures), bool))
    neuron = per_layer((_NEURON_INDEX[n] for n in a.neuron_types) for a in architectures)
    lfsr = per_layer(((g == "lfsr" for g in a.generators) for a in architectures), bool)
    folded = per_layer(((m == "folded" for m in a.mappings) for a in architectures), bool)
    lanes = per_layer(a.lanes for a in architectures)
    units = per_layer(a.units for a in architectures)
    length = per_layer(a.bitstream_lengths for a in architectures)
    delay = per_layer(a.delay_ranges for a in architectures)
    density = per_layer((a.densities for a in architectures), np.float64)
    timesteps = per_network(a.timesteps for a in architectures)
    word = per_network(a.word for a in architectures)
    fraction = per_network(a.fraction for a in architectures)

    synapses = np.maximum(1, np.rint(density * n_in * n_out))
    fan_in = synapses / n_out
    top = np.where(lfsr, 256, length)
    shift = fraction - np.log2(length)
    per_input = synapses / n_in
    used = n_in * -np.expm1(-per_input)
    feeds_parallel = ~last & ~np.roll(folded, -1)
    live = np.where(~folded & feeds_parallel, np.roll(used / n_in, -1), 1) * n_out
    trees = np.where(folded, 0, live) * _trees_of_architectures(top, fan_in)
    # weights of one sign add up to about fan_in / 2 * E|w|, and one of many neurons to more
    reach = np.maximum(1, fan_in / 2 * np.maximum(1 / length, 0.8 * WEIGHT_SPREAD) * length + 1)
    total_bits = np.log2(reach * np.where(folded, 1.5, 1)) + 1.5
    neurons = np.where(folded, 1, live)
    drive = np.minimum(total_bits + shift, word)
    saturating = np.clip(total_bits + shift - word, 0, 1)
    score = np.where(fires, bits_of(timesteps), np.minimum(total_bits, word - shift) + np.log2(timesteps))
    magnitudes = top * -np.expm1(-synapses / np.maximum(1, top * 2 * WEIGHT_SPREAD))
    magnitudes = np.minimum(magnitudes, np.maximum(0, top - 1))
    groups = np.ceil(n_in * (delay + 1) / np.maximum(1, lanes))
    words = n_out // units * groups
    steps = np.where(folded, words * length, length)
    signed = lanes * -np.expm1(words * np.log1p(-density / (delay + 1) / 2))  # of a unit, with one sign
    lane_trees = 2 * units * lane_tree(np.rint(signed), schedule.STAGED < lanes)
    period = np.repeat(np.maximum.reduceat(steps, np.cumsum(depth) - depth), depth)
    slots = lanes * units
    magnitude = np.where(lfsr, 8, np.where(length <= 2, 0, np.log2(length)))  # bits that a lane compares
    ones = np.ones(total)
    byte_clocks = first * per_network(input_clocks)
    return Structure(
        network=np.repeat(np.arange(len(depth)), depth),
        first=first,
        last=last,
        n_in=n_in,
        n_out=n_out,
        live=live,
        neuron=neuron,
        fires=fires,
        feeds_parallel=feeds_parallel,
        lfsr=lfsr,
        length=length,
        folded=folded,
        lanes=lanes,
        units=units,
        timesteps=timesteps,
        word=word,
        fraction=fraction,
        period=period,
        waits=first & (steps < period),
        spike_bits=folded * fires * ~last * (n_out * (1 + feeds_parallel) - feeds_parallel),
        ring_idle=0 * ones,
        unseen_bits=folded * fires * np.clip(2 - shift, 0, 2),  # at a gain of about 1/4
        synapses=synapses,
        magnitudes=magnitudes,
        magnitude_bits=magnitudes * np.maximum(0, np.log2(top) - 1),
        inputs_used=used,
        taps=np.where(folded, n_in * (delay + 1), used * (1 + delay * (1 - 1 / np.maximum(1, per_input)))),
        delay_bits=np.where(folded, 0, used * delay * per_input / (per_input + 1)),
        **dict(zip(_TREE[:6], trees[:6], strict=True)),
        odd=trees[6] + np.where(folded, 0, 0.5 * live * ((length > 1) & fires | last)),
        short_bits=trees[7],
        difference_bits=trees[8],
        count_bits=trees[9],
        total_bits=neurons * total_bits,
        drive_bits=neurons * drive,
        score_bits=last * n_out * score,
        # `if` stays a multiple of what a spike adds, 2^shift times a gain of about 1/4
        membrane_bits=fires
        * live
        * (word + (neuron != IZHIKEVICH) - (neuron == 0) * np.maximum(0, shift - 2)),
        saturating=neurons * saturating,
        score_width=last * (score + np.where(fires, 1, shift + 1)),
        gain=ones,
        leak=np.where(neuron > 0, 0.5, 0),  # of 1/2 .. 1/16, where training leaves it
        quarter=np.where(neuron > 0, 0.25, 0),
        spread=np.where(neuron > 0, 0.9, 0),
        noise=ones,
        decay=ones,
        recovery=6 * ones,  # a_k = 0.02 and b_k = 0.2 at F = 8
        refractory=0 * ones,
        rom_bits=slots * np.where(lfsr, 9, np.where(length <= 2, length + 1, np.log2(length) + 2)),
        magnitude_columns=slots * magnitude,
        lanes_used=slots * -np.expm1(words * np.log1p(-np.minimum(0.999, density / (delay + 1)))),
        **dict(zip(_LANE_TREE, lane_trees, strict=True)),
        lane_reach=slots * magnitude,
        lane_span=slots * magnitude,
        # of the bits of an entry, some are the same everywhere or as another
        rom_luts=slots * np.where(lfsr, 9, np.log2(length) + 1) * np.ceil(words / 16),
        threshold_luts=fires * (n_out > units) * (0.75 * word) * units * np.ceil(n_out / units / 16),
        driven_bits=fires * (neuron != IZHIKEVICH) * neurons * (word - np.maximum(0, shift - 2)),
        products=2 * neurons * units * fires * (neuron == IZHIKEVICH),
        squares=neurons * units * fires * (neuron == IZHIKEVICH),
        byte_clocks=byte_clocks,
        byte_registers=8 * byte_clocks,
        spikes=DEFAULT_ACTIVITY * n_in,
    )


def of_network(network: Network, activity: Sequence[float] | None = None, input_clocks: int = 0) -> Structure:
    """The structure of the design that verilog.write_design makes of `network`."""
    layers = network.layers
    if activity is None:
        activity = [DEFAULT_ACTIVITY * layer.n_in for layer in layers]
    if len(activity) != len(layers):
        raise ValueError(f"activity must have one entry per layer ({len(layers)}), got {len(activity)}")
    for i, (spikes, layer) in enumerate(zip(activity, layers, strict=True)):
        if not 0 <= spikes <= layer.n_in:
            raise ValueError(f"activity[{i}] must be 0 to {layer.n_in} spikes per step, got {spikes}")
    steps = [verilog.layer_step_clocks(layer) for layer in layers]
    lives = [np.ones(layer.n_out, bool) for layer in layers]  # neurons that something reads
    rings = [_ring(layer) if layer.mapping == "folded" else None for layer in layers]
    for i in range(len(layers) - 2, -1, -1):
        if layers[i].mapping == "parallel":
            ring = rings[i + 1]
            below = layers[i + 1].weights[:, lives[i + 1]]
            lives[i] = (below != 0).any(axis=1) if ring is None else ring.inputs
    rows = []
    for i, (layer, live) in enumerate(zip(layers, lives, strict=True)):
        k, folded, fires, T = layer.constants, layer.mapping == "folded", network.fires(i), network.timesteps
        last = i == len(layers) - 1
        shift = network.fraction - (layer.length.bit_length() - 1)
        low, high = verilog.count_bounds(layer, T)
        if folded:
            low, high = low.min(keepdims=True), high.max(keepdims=True)
        else:
            low, high = low[live], high[live]
        current_low, current_high, saturates = (x[live] for x in verilog.current_bounds(layer, network))
        totals = np.array([_range_bits(int(a), int(b)) for a, b in zip(low, high, strict=True)])
        exists = (layer.weights != 0) & live
        magnitudes = np.unique(np.abs(layer.weights[exists]))
        magnitudes = magnitudes[magnitudes < layer.max_weight]
        bits = verilog.number_width(layer)
        delays = layer.delays_in_use or (0,)
        counts = np.zeros(10)
        if not folded:
            for column in layer.weights.T[live]:
                plus, minus = np.bincount(column[column > 0]), np.bincount(-column[column < 0])
                counts[:8] += tree_counts(plus[plus > 0].tolist())
                counts[:8] += tree_counts(minus[minus > 0].tolist())
                counts[6:] += _difference_counts(int(plus.sum()), int(minus.sum()))
        gain = k["gain_k"]
        lowest_driven = shift + ((gain & -gain).bit_length() - 1 if gain else 0) - network.fraction
        if gain & (gain - 1):
            lowest_driven = max(0, lowest_driven)
        whole_inference = last and not fires and not folded and not saturates.any()
        if not folded:  # bits of a clock's count that a narrower total leaves out
            reach = T if whole_inference else 1
            used = (_range_bits(int(a) * reach, int(b) * reach) for a, b in zip(low, high, strict=True))
            widths = (_count_width(column) for column in layer.weights.T[live])
            counts[9] = sum(map(min, widths, used))
            if layer.length > 1 and not whole_inference:
                counts[6] += (totals % 2 * (totals > SHORT)).sum()
        if not last:
            scores = 0
        elif fires:
            scores = layer.n_out * verilog.unsigned_bits(T)
        elif folded:
            scores = layer.n_out * verilog.signed_bits(*verilog.score_bounds(network))
        else:
            ends = (low, high) if whole_inference else (current_low, current_high)
            scores = sum(_range_bits(int(a) * T, int(b) * T) for a, b in zip(*ends, strict=True))
            if not whole_inference:  # low bits of a current that never saturates are zeros
                scores -= shift * int((~saturates & (current_high > current_low)).sum())
        membranes = 0
        if fires and not folded:
            membranes = int(live.sum()) * network.word
            if layer.neuron != "izhikevich":
                thresholds = layer.threshold[live]
                membranes = sum(verilog.sum_width(layer, network, int(t)) for t in thresholds)
                membranes += int((thresholds <= k["v_rest"]).sum()) if not k["refractory"] else 0
            if layer.neuron == "if":  # without a leak it stays a multiple of what a spike adds
                step = max(1, 2**shift * k["gain_k"] >> network.fraction)
                membranes -= ((step & -step).bit_length() - 1) * int((~saturates).sum())
            if layer.neuron in ("lif", "stochastic_lif") and 2 * k["leak_k"] == 2**network.fraction:
                # a leak of 1/2 is a shift: bits below all that the limits look at move out unseen
                lowest = 2 ** (network.word - 1) + k["v_rest"]
                for threshold, cut in zip(layer.threshold[live], saturates, strict=True):
                    seen = int(threshold) - k["v_rest"] | lowest
                    # ... unless they are added to, and carry into bits that are seen
                    added = 0 if cut or layer.neuron == "stochastic_lif" else max(0, lowest_driven)
                    membranes -= min((seen & -seen).bit_length() - 1, added + 1)
        weights = _WeightRom(0, 0, 0, np.zeros(len(_LANE_TREE)), 0, 0, 0)
        if folded:
            held = rings[i].waiting
            taps = layer.n_in * len(delays)
            weights = _weight_rom(layer)
        else:
            held = int(np.where(exists, layer.delays, 0).max(axis=1).sum())
            tap = np.arange(layer.n_in)[:, None] * (int(layer.delays.max()) + 1) + layer.delays
            taps = len(np.unique(tap[exists]))
        byte_registers = 0
        if i == 0 and input_clocks:
            read = rings[0].inputs if folded else exists.any(axis=1)
            byte_registers = _byte_registers(read, input_clocks)
        neurons = 1 if folded else int(live.sum())
        each = layer.n_out // layer.units
        spike_bits = 0
        if folded and fires and not last:
            below = lives[i + 1]
            read = (
                rings[i + 1].inputs
                if rings[i + 1] is not None
                else ((layers[i + 1].weights != 0) & below).any(axis=1)
            )
            for shown in read.reshape(layer.units, each):
                if shown.any():  # spikes below the lowest that is read are shifted out unseen
                    spike_bits += each - int(np.argmax(shown))
                    spike_bits += int(shown.sum()) - 1 if rings[i + 1] is None else 0
        rows.append(
            dict(
                network=0,
                first=i == 0,
                last=last,
                n_in=layer.n_in,
                n_out=layer.n_out,
                live=int(live.sum()),
                neuron=_NEURON_INDEX[layer.neuron],
                fires=fires,
                feeds_parallel=not last and layers[i + 1].mapping == "parallel",
                lfsr=layer.generator == "lfsr",
                length=layer.length,
                folded=folded,
                lanes=layer.lanes,
                units=layer.units,
                timesteps=T,
                word=network.word,
                fraction=network.fraction,
                period=max(steps),
                waits=i == 0 and steps[0] < max(steps),
                spike_bits=spike_bits,
                ring_idle=rings[i].idle if folded else 0,
                unseen_bits=max(0, -lowest_driven) if folded and fires else 0,
                synapses=int(exists.sum()),
                magnitudes=len(magnitudes),
                magnitude_bits=sum(bits - (int(m) & -int(m)).bit_length() for m in magnitudes),
                inputs_used=int(exists.any(axis=1).sum()),
                taps=taps,
                delay_bits=held,
                **dict(zip(_TREE, counts[:8], strict=True)),
                difference_bits=counts[8],
                count_bits=counts[9],
                total_bits=totals.sum(),
                drive_bits=np.minimum(totals + shift, network.word).sum(),
                score_bits=scores,
                membrane_bits=membranes,
                saturating=int(saturates.any()) if folded else int(saturates.sum()),
                score_width=verilog.signed_bits(*verilog.score_bounds(network)) if last else 0,
                gain=signed_digits(k["gain_k"]),
                leak=_leak_adders(layer.neuron, k["leak_k"], network.fraction)[0],
                quarter=layer.neuron not in ("if", "izhikevich") and 4 * k["leak_k"] == 2**network.fraction,
                spread=_leak_adders(layer.neuron, k["leak_k"], network.fraction)[1],
                noise=signed_digits(k["noise_k"]),
                decay=signed_digits(k["decay_k"]),
                recovery=signed_digits(k["a_k"]) + signed_digits(k["b_k"]),
                refractory=k["refractory"],
                rom_bits=weights.columns,
                magnitude_columns=weights.magnitude_columns,
                lanes_used=weights.used,
                **dict(zip(_LANE_TREE, weights.trees, strict=True)),
                lane_reach=weights.reach,
                lane_span=weights.span,
                rom_luts=weights.luts,
                threshold_luts=sum(
                    _tables([int(t) % 2**network.word for t in own], network.word)
                    for own in layer.threshold.reshape(layer.units, each)
                )
                if folded and fires
                else 0,
                driven_bits=max(0, (network.word if folded else membranes) - neurons * max(0, lowest_driven))
                if fires and layer.neuron != "izhikevich"
                else 0,
                products=fires * _products(layer, neurons * layer.units),
                squares=fires * neurons * layer.units * (layer.neuron == "izhikevich"),
                byte_clocks=input_clocks if i == 0 else 0,
                byte_registers=byte_registers,
                spikes=activity[i],
            )
        )
    return Structure(**{f.name: np.array([row[f.name] for row in rows]) for f in fields(Structure)})


def _range_bits(low: int, high: int) -> int:
    """Bits of a register that holds low..high: none where it is always 0."""
    return verilog.signed_bits(low, high) if low or high else 0


def _count_width(weights: np.ndarray) -> int:
    """Bits of the sum of one stream clock of a neuron with these weights."""
    return verilog.signed_bits(-int((weights < 0).sum()), int((weights > 0).sum()))


def _byte_registers(read: np.ndarray, clocks: int) -> int:
    """Registers of a byte-serial input, a byte wide and `clocks` long, that hold what is read later on.

    A byte enters at the top and moves down; below the lowest input of a lane that is read nothing is kept.
    """
    lanes = np.zeros(8 * clocks, bool)
    lanes[: len(read)] = read
    lanes = lanes.reshape(clocks, 8)
    return int((clocks - np.where(lanes.any(axis=0), lanes.argmax(axis=0), clocks)).sum())


def _products(layer: Layer, units: int) -> int:
    """Multiplications of a layer with `units` neuron datapaths by constants that are no powers of two."""

    def counts(name: str) -> bool:
        k = abs(layer.constants[name])
        return bool(k & (k - 1))

    shared = layer.neuron == "stochastic_lif" and counts("noise_k")
    return units * sum(counts(name) for name in ("gain_k", "leak_k", "decay_k", "a_k", "b_k")) + shared


class _Ring(NamedTuple):
    """What of a folded layer's spike registers is ever seen by a lane with a weight.

    idle: bits of the ring that are not. waiting: bits of the registers beside it that are.
    inputs: [n_in] inputs that are.
    """

    idle: int
    waiting: int
    inputs: np.ndarray


def _ring(layer: Layer) -> _Ring:
    """Follows every bit of the spike registers that verilog.folded_layer writes."""
    delays, n_in, lanes = layer.delays_in_use or (0,), layer.n_in, layer.lanes
    groups = -(-n_in * len(delays) // lanes)
    size = groups * lanes
    used = np.zeros(size, bool)  # taps with a weight in some neuron
    for at, d in enumerate(delays):
        used[at * n_in : (at + 1) * n_in] = ((layer.weights != 0) & (layer.delays == d)).any(axis=1)
    live = np.zeros(size, bool)
    live[:lanes] = used.reshape(groups, lanes).any(axis=0)
    stages = [[] for _ in range(max(delays) + 1)]  # live bits of the register of each delay, [n_in]
    while True:
        before = live.copy()
        if groups > 1:  # a turn moves every bit `lanes` places down
            live |= np.roll(live, lanes)
        for d in range(max(delays), -1, -1):
            if d in delays:
                at = delays.index(d) * n_in
                stages[d] = live[at : at + n_in].copy()
            else:
                stages[d] = stages[d + 1]  # a register between: seen if what it loads is
            if d and d - 1 in delays:  # this one loads from `home`, a turn further
                at = delays.index(d - 1) * n_in
                source = (np.arange(at, at + n_in) + (lanes if groups > 1 else 0)) % size
                live[source] |= stages[d]
        if (live == before).all():
            break
    constant = size - n_in * len(delays) if groups == 1 else 0  # padding, always 0
    waiting = sum(int(stages[d].sum()) for d in range(max(delays)) if d not in delays)
    live_bits = int(live[: n_in * len(delays)].sum()) if constant else int(live.sum())
    return _Ring(size - live_bits, waiting, np.asarray(stages[0], bool))


def _leak_adders(neuron: str, leak_k: int, fraction: int) -> tuple[float, float]:
    """Adders that the leak takes in a neuron and in a folded datapath, in units of an eighth's.

    Shares of one adder were read off neurons synthesised alone (yosys, iCE40, 10 and 16 bits): a leak of
    1/2 is a shift, 1/4 a sum of two shifts.
    """
    one = 2**fraction
    if neuron == "izhikevich":
        return 0.0, 0.0
    if leak_k == 0:
        return 0.0, 0.0
    if 2 * leak_k == one:
        return 0.0, 0.75
    spread = float(signed_digits(leak_k))
    if 4 * leak_k == one:
        return 0.0, spread
    return float(max(1, signed_digits(one - leak_k) - 1)), spread


class _WeightRom(NamedTuple):
    """columns: that are no constant; of a ROM in logic, equal ones count once. magnitude_columns: those of
    magnitudes, which are compared with the generator's number. reach, span: bits of the lanes' magnitudes
    up to the highest that is ever set, and from the lowest. used: lanes with a weight. trees: counts of
    _LANE_TREE. luts: see _tables."""

    columns: int
    magnitude_columns: int
    used: int
    trees: np.ndarray
    reach: int
    span: int
    luts: int


def _weight_rom(layer: Layer) -> _WeightRom:
    """What is in the weight ROM of a folded layer."""
    words = [int(word, 16) for word in verilog.weight_words(layer)]
    bits, streams = verilog.weight_code(layer)
    slots = layer.lanes * layer.units
    width = slots * (bits + 1)
    varies = reduce(or_, words) & ~reduce(and_, words)
    signs = sum(1 << lane * (bits + 1) + bits for lane in range(slots))
    signed = np.zeros((2, slots), bool)  # lanes with a positive, with a negative weight
    moving = np.zeros((2, slots), bool)  # lanes whose product of either sign synthesis cannot rule out
    taps = layer.n_in * len(layer.delays_in_use or (0,))
    for lane in range(slots):
        at = lane * (bits + 1)
        codes = [word >> at & 2 ** (bits + 1) - 1 for word in words]
        for sign in {code >> bits for code in codes if code & 2**bits - 1}:
            signed[sign, lane] = True
        signs_seen = {code >> bits for code in codes}
        # a comparison with 0 is seen through only after the registers have been made
        exists = signed[:, lane].any() if streams else lane % layer.lanes < taps
        moving[:, lane] = [exists and sign in signs_seen for sign in (0, 1)]
    used_lanes = int(signed.any(axis=0).sum())
    trees = np.zeros(len(_LANE_TREE))
    staged = schedule.is_staged(layer.mapping, layer.lanes)
    for sign, gate in enumerate(("~", "")):
        for unit in range(layer.units):
            leaves = verilog.lane_leaves(layer, unit, gate)
            own = slice(unit * layer.lanes, (unit + 1) * layer.lanes)
            trees[:3] += lane_tree(signed[sign, own].sum(keepdims=True), np.array([staged]))[:3, 0]
            trees[3] += staged * _stage_bits(leaves, moving[sign, own])
    magnitudes = reach = span = 0
    if not streams:
        magnitudes = (varies & ~signs).bit_count()
        for lane in range(slots):
            used = reduce(or_, words) >> lane * (bits + 1) & 2**bits - 1
            reach += used.bit_length()
            span += used.bit_length() - max(0, (used & -used).bit_length() - 1)
    if len(words) * width > verilog.BLOCK_BITS:
        return _WeightRom(varies.bit_count(), magnitudes, used_lanes, trees, reach, span, 0)
    columns = set(_columns(words, width)) - {0, 2 ** len(words) - 1}
    luts = _tables(words, width)
    return _WeightRom(len(columns), magnitudes, used_lanes, trees, reach, span, luts)


def _columns(words: Sequence[int], width: int) -> list[int]:
    """Every bit of a ROM as a number, with bit r that of word r."""
    return [sum((word >> bit & 1) << row for row, word in enumerate(words)) for bit in range(width)]


def _tables(words: Sequence[int], width: int) -> int:
    """Different tables of 16 entries, LUT4s, that a ROM of these words takes without those that choose.

    None for a constant, nor for a bit of the address itself.
    """
    found = set()
    for column in set(_columns(words, width)):
        for start in range(0, len(words), 16):
            size = min(16, len(words) - start)
            full = 2**size - 1
            table = column >> start & full
            free = {0, full, *(pattern & full for pattern in _ADDRESS_BITS)}
            if table not in free:
                found.add((table, size))
    return len(found)


_ADDRESS_BITS = (0xAAAA, 0xCCCC, 0xF0F0, 0xFF00)


def signed_digits(k: int) -> int:
    """Non-zero digits of k in the non-adjacent form: shifted terms of a product by k."""
    k = abs(int(k))
    return (k ^ 3 * k).bit_count()


# -- sizes of folded layers ------------------------------------------------------------------------


def bits_of(n: np.ndarray) -> np.ndarray:
    """Bits of an unsigned number up to n, at least 1."""
    return np.maximum(1, np.floor(np.log2(np.maximum(1, n))) + 1)


@dataclass(frozen=True)
class Folding:
    """Sizes that only folded layers have, [N] each."""

    groups: np.ndarray
    each: np.ndarray  # neurons of a unit
    ring: np.ndarray  # bits
    address: np.ndarray
    counters: np.ndarray  # bits of the counters of groups, addresses and neurons
    long_counters: np.ndarray  # of those of more than SHORT bits
    state: np.ndarray  # bits of a neuron's state
    rom_in_logic: np.ndarray
    states_in_block: np.ndarray
    states_in_logic: np.ndarray  # registers on iCE40, LUT RAM elsewhere
    thresholds_in_block: np.ndarray
    banks: np.ndarray  # address bits that choose between block RAMs of the weights
    rows: np.ndarray  # of block RAMs, one above the other, that hold the weights


def folding_of(x: Structure, family: str) -> Folding:
    groups, each = np.ceil(x.taps / np.maximum(1, x.lanes)), x.n_out // x.units
    depth = each * groups
    word = np.where(x.lfsr, 10, np.where(x.length <= 2, x.length + 1, np.log2(x.length) + 2))
    adapts = x.fires & (x.neuron >= HOMEOSTATIC)
    state = x.fires * x.word * (1 + adapts) + x.fires * (x.refractory > 0) * bits_of(x.refractory)
    state = state + x.last * np.where(x.fires, bits_of(x.timesteps), x.score_width)
    counters = [(last > 0) * bits_of(last) for last in (groups - 1, depth - 1, each - 1)]
    memory = x.folded & (each > 1)
    in_block = each * state > verilog.BLOCK_BITS
    if family == "ice40":  # has no LUT RAM; yosys takes a block where it saves 64 registers
        in_block = in_block | (each * state > 1 + 64 * block_shapes(state, each, family)[0])
    rom_in_logic = x.folded & (depth * x.lanes * x.units * word <= verilog.BLOCK_BITS)
    rows = np.where(x.folded & ~rom_in_logic, block_shapes(x.rom_bits, depth, family)[1], 1)
    return Folding(
        groups=groups,
        each=each,
        ring=groups * x.lanes,
        address=depth,
        counters=sum(counters),
        long_counters=sum(bits * (bits > SHORT) for bits in counters),
        state=state,
        rom_in_logic=rom_in_logic,
        states_in_block=memory & in_block,
        states_in_logic=memory & ~in_block,
        thresholds_in_block=x.folded & x.fires & (each * x.word > verilog.BLOCK_BITS),
        banks=np.ceil(np.log2(rows)),
        rows=rows,
    )


def block_shapes(width: np.ndarray, depth: np.ndarray, family: str) -> tuple[np.ndarray, np.ndarray]:
    """Block RAMs of a memory of `depth` words of `width` bits, and how many lie one above the other.

    As yosys' memory_libmap does it: a block of d words holds a memory that is deeper as
    ceil(depth / d) words side by side, and all of these bits share blocks. The shape that takes the
    fewest blocks is used, and of two the deeper.
    """
    shapes = _MEMORY_SHAPES[family]
    rows = np.array([np.ceil(depth / d) for _, d in shapes])
    blocks = np.array([np.ceil(r * width / w) for r, (w, _) in zip(rows, shapes, strict=True)])
    best = np.argmin(blocks + 1e-6 * rows, axis=0)
    return np.take_along_axis(blocks, best[None], 0)[0], np.maximum(
        1, np.take_along_axis(rows, best[None], 0)[0]
    )


# Width and depth of one block RAM. iCE40: FPGA-DS-02029; ECP5: FPGA-DS-02012; 7 series: UG473.
_MEMORY_SHAPES = {
    "ice40": ((16, 256), (8, 512), (4, 1024), (2, 2048)),
    "ecp5": ((36, 512), (18, 1024), (9, 2048), (4, 4096), (2, 8192), (1, 16384)),
    "xilinx": ((72, 512), (36, 1024), (18, 2048), (9, 4096), (4, 8192), (2, 16384), (1, 32768)),
}

"""What a network costs on a chip: LUT, FF, block RAM, multipliers, clocks, Fmax and energy, before and
after training.

One model, two readers. `measure` reads off a trained network what `scnas.hardware.verilog` will write for
it: registers, adders, memories. `estimate` knows the genes only and puts the expected value in the place
of everything that training decides. Both fill the same `Structure`, and everything after it is shared, so
they cannot drift apart:

    architectures or network -> Structure (one row per layer) -> blocks (how many of each circuit
    block) -> figures per block of the target's family -> sums per network

Of a trained network clocks and registers are exact: `measure` counts what the design declares and leaves
out what synthesis can do without. Its block RAMs and multipliers were exact in every held-out design.
Before training all of these but the clocks are expected values. Logic is a sum over blocks with
figures that are fitted to synthesis for the families in FITTED (which says how far off `measure` was on
designs it had not seen) and counted by hand, uncalibrated, for the others. So are the delays that Fmax
follows from: `scnas.hardware.timing`. Energy: `scnas.hardware.energy`.

Letters: N layers of all networks in a batch, T timesteps, L clocks of a stream, M largest magnitude,
W bits of a word, D largest delay, F fraction bits, G groups of lanes.
"""

import json
from bisect import insort
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache, reduce
from itertools import chain
from operator import and_, or_
from pathlib import Path
from typing import NamedTuple

import numpy as np

from scnas.contract import NEURONS
from scnas.hardware import energy, schedule, targets, timing, verilog
from scnas.hardware.targets import Target
from scnas.randomness import rng
from scnas.snn.network import Layer, Network
from scnas.space import Architecture

BUDGETS = ("luts", "ffs", "brams", "dsps", "latency_us")
DEFAULT_ACTIVITY = 0.25  # share of inputs that spike in a step, where nothing was observed
WEIGHT_SPREAD = 0.4  # of M: standard deviation of weights, as training draws them


class Cost(NamedTuple):
    """Modelled cost of one network on one target.

    luts: of the target's `lut_unit`. ffs, brams, dsps (multiplier blocks): as the chip counts them.
    latency_clocks: first input step accepted to result, exact. latency_us: the same at clock_mhz.
    energy_nj: total energy of one inference, static power during the latency included;
    energy_low_nj..energy_high_nj: what constants and modelled toggles leave open.
    energy_label: `calibrated`, `extrapolated` or `uncalibrated`, see Target.
    clock_mhz: the target's clock, or the modelled Fmax where that is lower and calibrated.
    modelled_fmax_mhz: highest clock. fmax_label: `calibrated` where it was fitted to place and route of
    this chip, `uncalibrated` where its delays are counted by hand.
    """

    luts: int
    ffs: int
    brams: int
    dsps: int
    latency_clocks: int
    latency_us: float
    energy_nj: float
    energy_low_nj: float
    energy_high_nj: float
    energy_label: str
    clock_mhz: float
    modelled_fmax_mhz: float
    fmax_label: str


# -- structure: what the cost depends on ---------------------------------------------------------


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
    count_bits, total_bits, drive_bits, score_bits: sums over neurons (parallel) or of the one datapath
    (folded) of the widths of a clock's count, of a step's, of the current, and of the score.
    membrane_bits: registers of the membranes. saturating: neurons whose current can saturate.
    score_width: of the port. gain, noise, decay, recovery: signed binary digits of the constants.
    leak: adders that 1 - leak takes in a neuron, none if it is 1/2 or 1/4; quarter: it is 1/4. spread:
    adders in a folded datapath, whose comparisons stay as wide as its products.
    refractory: steps. rom_bits: width of the weight ROM without constant columns; magnitude_columns: those
    of magnitudes. lanes_used: with a weight in some word, lanes_plus and lanes_minus: with one of that
    sign. lane_reach, lane_span: bits of the magnitudes of all lanes, up to the highest that is
    ever set, and from the lowest. rom_luts, threshold_luts: tables of 16 entries that the weight ROM and
    the thresholds of a folded layer take in logic. driven_bits: of membrane_bits, or of a word of the one
    datapath, those that the current reaches.
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
    lanes_plus: np.ndarray
    lanes_minus: np.ndarray
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
_STOCHASTIC, _HOMEOSTATIC, _IZHIKEVICH = (
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


def _structure_of_architectures(
    architectures: Sequence[Architecture], input_clocks: Sequence[int]
) -> Structure:
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
    units = np.where(folded, 1, live)
    drive = np.minimum(total_bits + shift, word)
    saturating = np.clip(total_bits + shift - word, 0, 1)
    score = np.where(fires, _bits(timesteps), np.minimum(total_bits, word - shift) + np.log2(timesteps))
    magnitudes = top * -np.expm1(-synapses / np.maximum(1, top * 2 * WEIGHT_SPREAD))
    magnitudes = np.minimum(magnitudes, np.maximum(0, top - 1))
    groups = np.ceil(n_in * (delay + 1) / np.maximum(1, lanes))
    steps = np.where(folded, n_out * length * groups, length)
    period = np.repeat(np.maximum.reduceat(steps, np.cumsum(depth) - depth), depth)
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
        total_bits=units * total_bits,
        drive_bits=units * drive,
        score_bits=last * n_out * score,
        # `if` stays a multiple of what a spike adds, 2^shift times a gain of about 1/4
        membrane_bits=fires
        * live
        * (word + (neuron != _IZHIKEVICH) - (neuron == 0) * np.maximum(0, shift - 2)),
        saturating=units * saturating,
        score_width=last * (score + np.where(fires, 1, shift + 1)),
        gain=ones,
        leak=np.where(neuron > 0, 0.5, 0),  # of 1/2 .. 1/16, where training leaves it
        quarter=np.where(neuron > 0, 0.25, 0),
        spread=np.where(neuron > 0, 0.9, 0),
        noise=ones,
        decay=ones,
        recovery=6 * ones,  # a_k = 0.02 and b_k = 0.2 at F = 8
        refractory=0 * ones,
        rom_bits=lanes * np.where(lfsr, 9, np.where(length <= 2, length + 1, np.log2(length) + 2)),
        magnitude_columns=lanes * np.where(lfsr, 8, np.where(length <= 2, 0, np.log2(length))),
        lanes_used=lanes * -np.expm1(n_out * groups * np.log1p(-np.minimum(0.999, density / (delay + 1)))),
        lanes_plus=lanes * -np.expm1(n_out * groups * np.log1p(-density / (delay + 1) / 2)),
        lanes_minus=lanes * -np.expm1(n_out * groups * np.log1p(-density / (delay + 1) / 2)),
        lane_reach=lanes * np.where(lfsr, 8, np.where(length <= 2, 0, np.log2(length))),
        lane_span=lanes * np.where(lfsr, 8, np.where(length <= 2, 0, np.log2(length))),
        # of the bits of an entry, some are the same everywhere or as another
        rom_luts=lanes * np.where(lfsr, 9, np.log2(length) + 1) * np.ceil(n_out * groups / 16),
        threshold_luts=fires * (n_out > 1) * (0.75 * word) * np.ceil(n_out / 16),
        driven_bits=fires * (neuron != _IZHIKEVICH) * units * (word - np.maximum(0, shift - 2)),
        products=2 * units * fires * (neuron == _IZHIKEVICH),
        squares=units * fires * (neuron == _IZHIKEVICH),
        byte_clocks=byte_clocks,
        byte_registers=8 * byte_clocks,
        spikes=DEFAULT_ACTIVITY * n_in,
    )


def _structure_of_network(
    network: Network, activity: Sequence[float] | None = None, input_clocks: int = 0
) -> Structure:
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
        weights = _WeightRom(0, 0, 0, 0, 0, 0, 0, 0)
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
        units = 1 if folded else int(live.sum())
        spike_bits = 0
        if folded and fires and not last:
            below = lives[i + 1]
            read = (
                rings[i + 1].inputs
                if rings[i + 1] is not None
                else ((layers[i + 1].weights != 0) & below).any(axis=1)
            )
            lowest = int(np.argmax(read))  # spikes below it are shifted out unseen
            spike_bits = layer.n_out - lowest
            if rings[i + 1] is None:
                spike_bits += int(read.sum()) - 1
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
                gain=_signed_digits(k["gain_k"]),
                leak=_leak_adders(layer.neuron, k["leak_k"], network.fraction)[0],
                quarter=layer.neuron not in ("if", "izhikevich") and 4 * k["leak_k"] == 2**network.fraction,
                spread=_leak_adders(layer.neuron, k["leak_k"], network.fraction)[1],
                noise=_signed_digits(k["noise_k"]),
                decay=_signed_digits(k["decay_k"]),
                recovery=_signed_digits(k["a_k"]) + _signed_digits(k["b_k"]),
                refractory=k["refractory"],
                rom_bits=weights.columns,
                magnitude_columns=weights.magnitude_columns,
                lanes_used=weights.used,
                lanes_plus=weights.plus,
                lanes_minus=weights.minus,
                lane_reach=weights.reach,
                lane_span=weights.span,
                rom_luts=weights.luts,
                threshold_luts=_tables([int(t) % 2**network.word for t in layer.threshold], network.word)
                if folded and fires
                else 0,
                driven_bits=max(0, (network.word if folded else membranes) - units * max(0, lowest_driven))
                if fires and layer.neuron != "izhikevich"
                else 0,
                products=fires * _products(layer, units),
                squares=fires * units * (layer.neuron == "izhikevich"),
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
    spread = float(_signed_digits(leak_k))
    if 4 * leak_k == one:
        return 0.0, spread
    return float(max(1, _signed_digits(one - leak_k) - 1)), spread


class _WeightRom(NamedTuple):
    """columns: that are no constant; of a ROM in logic, equal ones count once. magnitude_columns: those of
    magnitudes, which are compared with the generator's number. reach, span: bits of the lanes' magnitudes
    up to the highest that is ever set, and from the lowest. used, plus, minus: lanes with a weight, with a
    positive and with a negative one. luts: see _tables."""

    columns: int
    magnitude_columns: int
    used: int
    plus: int
    minus: int
    reach: int
    span: int
    luts: int


def _weight_rom(layer: Layer) -> _WeightRom:
    """What is in the weight ROM of a folded layer."""
    words = [int(word, 16) for word in verilog.weight_words(layer)]
    bits, streams = verilog.weight_code(layer)
    width = layer.lanes * (bits + 1)
    varies = reduce(or_, words) & ~reduce(and_, words)
    signs = sum(1 << lane * (bits + 1) + bits for lane in range(layer.lanes))
    plus = minus = used_lanes = 0
    for lane in range(layer.lanes):
        at = lane * (bits + 1)
        codes = [word >> at & 2 ** (bits + 1) - 1 for word in words]
        signs_used = {code >> bits for code in codes if code & 2**bits - 1}
        plus, minus, used_lanes = (
            plus + (0 in signs_used),
            minus + (1 in signs_used),
            used_lanes + bool(signs_used),
        )
    magnitudes = reach = span = 0
    if not streams:
        magnitudes = (varies & ~signs).bit_count()
        for lane in range(layer.lanes):
            used = reduce(or_, words) >> lane * (bits + 1) & 2**bits - 1
            reach += used.bit_length()
            span += used.bit_length() - max(0, (used & -used).bit_length() - 1)
    if len(words) * width > verilog.BLOCK_BITS:
        return _WeightRom(varies.bit_count(), magnitudes, used_lanes, plus, minus, reach, span, 0)
    columns = set(_columns(words, width)) - {0, 2 ** len(words) - 1}
    luts = _tables(words, width)
    return _WeightRom(len(columns), magnitudes, used_lanes, plus, minus, reach, span, luts)


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


def _signed_digits(k: int) -> int:
    """Non-zero digits of k in the non-adjacent form: shifted terms of a product by k."""
    k = abs(int(k))
    return (k ^ 3 * k).bit_count()


# -- blocks: how many of each circuit a layer needs ----------------------------------------------


def _bits(n: np.ndarray) -> np.ndarray:
    """Bits of an unsigned number up to n, at least 1."""
    return np.maximum(1, np.floor(np.log2(np.maximum(1, n))) + 1)


@dataclass(frozen=True)
class _Folding:
    """Sizes that only folded layers have, [N] each."""

    groups: np.ndarray
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


def _folding(x: Structure, family: str) -> _Folding:
    groups = np.ceil(x.taps / np.maximum(1, x.lanes))
    depth = x.n_out * groups
    word = np.where(x.lfsr, 10, np.where(x.length <= 2, x.length + 1, np.log2(x.length) + 2))
    adapts = x.fires & (x.neuron >= _HOMEOSTATIC)
    state = x.fires * x.word * (1 + adapts) + x.fires * (x.refractory > 0) * _bits(x.refractory)
    state = state + x.last * np.where(x.fires, _bits(x.timesteps), x.score_width)
    each = [(last > 0) * _bits(last) for last in (groups - 1, depth - 1, x.n_out - 1)]
    memory = x.folded & (x.n_out > 1)
    in_block = x.n_out * state > verilog.BLOCK_BITS
    if family == "ice40":  # has no LUT RAM; yosys takes a block where it saves 64 registers
        in_block = in_block | (x.n_out * state > 1 + 64 * _block_shapes(state, x.n_out, family)[0])
    rom_in_logic = x.folded & (depth * x.lanes * word <= verilog.BLOCK_BITS)
    rows = np.where(x.folded & ~rom_in_logic, _block_shapes(x.rom_bits, depth, family)[1], 1)
    return _Folding(
        groups=groups,
        ring=groups * x.lanes,
        address=depth,
        counters=sum(each),
        long_counters=sum(bits * (bits > SHORT) for bits in each),
        state=state,
        rom_in_logic=rom_in_logic,
        states_in_block=memory & in_block,
        states_in_logic=memory & ~in_block,
        thresholds_in_block=x.folded & x.fires & (x.n_out * x.word > verilog.BLOCK_BITS),
        banks=np.ceil(np.log2(rows)),
        rows=rows,
    )


def _registers(x: Structure, family: str) -> np.ndarray:
    """Flip-flops of every layer after synthesis, [N]; those of the top are with its ends."""
    f = _folding(x, family)
    streams = x.length > 1
    generator = np.where(x.lfsr, 16 + streams * _bits(x.length - 1), np.log2(x.length))
    noise = 16 * (x.fires & (x.neuron == _STOCHASTIC))
    whole = x.last & ~x.fires & (x.saturating < 0.5)  # sums go straight into the scores
    scan = x.last * ((x.timesteps > 1) * _bits(x.timesteps - 1) + 1)
    second = x.fires * ((x.neuron == _HOMEOSTATIC) * x.word + (x.neuron == _IZHIKEVICH) * (x.word + 1))
    rests = (x.refractory > 0) * np.where(
        x.neuron == _IZHIKEVICH,
        np.ceil(np.log2(x.refractory + 1)),
        1 + np.maximum(1, np.ceil(np.log2(np.maximum(1, x.refractory)))),
    )
    # bits of a score that can be anything: a count of spikes has no sign, an unsaturated sum low zeros
    zeros = np.where(x.fires, 1, (~x.folded & (x.saturating < 0.5)) * (x.fraction - np.log2(x.length)))
    score_shown = x.last * (x.score_width - zeros)
    control = 2 + streams * (2 + ~whole) + generator + noise
    neurons = x.membrane_bits + x.live * (second + x.fires * rests)
    sums = x.count_bits + (streams & ~whole) * x.total_bits
    parallel = control + x.delay_bits + sums + neurons + x.score_bits + scan + (x.last & x.fires)
    folded = (
        4 + (x.length * f.groups > 1) - x.unseen_bits + ~x.first
        + generator + 16 * x.lfsr + noise + f.ring - x.ring_idle + x.delay_bits + f.counters
        + np.minimum(_bits(x.lanes) + 1, x.total_bits) + x.total_bits * (1 + (x.length * f.groups > 1))
        + f.rom_in_logic * x.rom_bits + x.spike_bits + f.banks
        + scan + score_shown
        + ~f.states_in_block * f.state  # the one that is read
        + (f.states_in_logic * x.n_out * f.state if family == "ice40" else 0)
    )  # fmt: skip
    top = 3 + 1 + (x.timesteps > 1) * _bits(x.timesteps - 1) + x.waits * _bits(x.period - 1)
    top = x.first * (top + np.where(x.folded, 0, x.inputs_used))
    top = top + (x.byte_clocks > 0) * (x.byte_registers + 1 + _byte_counter(x))
    top = top + x.last * (2 * _bits(x.n_out - 1) + 1) + score_shown
    return np.where(x.folded, folded, parallel) + top


def _byte_counter(x: Structure) -> np.ndarray:
    """Bits of the counter of the bytes of a step."""
    return (x.byte_clocks > 1) * _bits(x.byte_clocks - 1)


def blocks(x: Structure, family: str) -> dict[str, np.ndarray]:
    """How many of each logic block every layer needs, [N] each. What a block is counted in: its comment."""
    f = _folding(x, family)
    wired, folded, W, n = ~x.folded, x.folded, x.word, x.live
    whole = x.last & ~x.fires & wired & (x.saturating < 0.5)
    leaky = x.fires & (x.neuron != _IZHIKEVICH)
    stochastic, homeostatic, izhikevich = (
        x.fires & (x.neuron == model) for model in (_STOCHASTIC, _HOMEOSTATIC, _IZHIKEVICH)
    )
    units = np.where(folded, 1, n)
    lane_words, lane_adder_bits, lane_short_bits = _lane_trees(np.rint(x.lanes_plus)) + _lane_trees(
        np.rint(x.lanes_minus)
    )
    difference = np.minimum(_bits(x.lanes) + 1, x.total_bits)  # of both signs of the lanes
    magnitude = np.where(x.lfsr, 9, np.log2(x.length) + 1)  # bits that a lane compares
    membrane = wired * leaky * x.membrane_bits
    more_gain = np.maximum(0, x.gain - 1)
    products = x.recovery + more_gain  # shifted terms that an Izhikevich neuron adds
    return {
        # parallel: from spikes to the sum of a clock
        "same": x.same * 1.0,  # words of three synapses of one magnitude
        "mixed": x.mixed * 1.0,  # words of three synapses
        "pairs": x.pairs * 1.0,
        "ands": x.ands * 1.0,
        "adder_bits": x.adder_bits * 1.0,
        "carries": x.carries * 1.0,  # adders that take a synapse through their carry input
        "odd_chains": x.odd * 1.0,  # where a chip makes carry chains two bits at a time
        "difference_bits": x.difference_bits * 1.0,
        "short_bits": x.short_bits * 1.0,  # of short adders and differences
        "magnitude_bits": wired * x.magnitude_bits,  # bits compared with the generator's number
        # parallel: from sums to spikes
        "total_bits": wired * ~whole * (x.length > 1) * x.total_bits,
        "saturated_bits": x.saturating * W,
        "membrane_bits": membrane,
        "driven_bits": wired * x.driven_bits,
        "leak_bits": membrane * x.leak,
        "quarter_bits": membrane * x.quarter,  # a sum of two shifts
        "gain_bits": membrane * more_gain,
        "noise_bits": membrane * stochastic * x.noise,
        "adaptation_bits": wired * homeostatic * n * W,
        "decay_bits": wired * homeostatic * n * W * x.decay,
        "izhikevich_bits": wired * izhikevich * n * W,
        "recovery_bits": wired * izhikevich * n * W * products,
        "square_bits": wired * izhikevich * n * W * W,
        "refractory_bits": x.fires * units * (x.refractory > 0) * _bits(x.refractory),
        # parallel: readout
        "score_bits": wired * x.score_bits,
        "scan_bits": wired * x.last * n * x.score_width,
        # registers that have no logic before them
        "plain_registers": (x.first & wired) * x.inputs_used + x.delay_bits
        + x.spike_bits + x.byte_registers,
        # folded
        "lanes": folded * x.lanes_used * 1.0,  # those without a weight are never on
        # of the lanes' comparators; ice40_opt cuts a carry chain at both ends
        "lane_bits": folded * (x.lane_span if family == "ice40" else (magnitude > SHORT) * x.lane_reach),
        "short_lane_bits": folded * (family != "ice40") * (magnitude <= SHORT) * x.lane_reach,
        "weight_bits": folded * x.magnitude_columns,  # of all lanes, that are no constants
        "bank_bits": folded * (f.rows - 1) * x.rom_bits,  # chosen from block RAMs above each other
        "lane_words": folded * lane_words,
        "lane_adder_bits": folded * (lane_adder_bits + difference * (difference > SHORT)),
        "lane_short_bits": folded * (lane_short_bits + difference * (difference <= SHORT)),
        "ring_bits": folded * (f.ring - x.ring_idle),
        "turning_bits": folded * (f.groups > 1) * (f.ring - x.ring_idle),
        "counter_bits": folded * f.counters,
        "long_counter_bits": folded * f.long_counters,
        "rom_luts": f.rom_in_logic * x.rom_luts,
        "folded_total_bits": folded * x.total_bits,
        "threshold_luts": folded * ~f.thresholds_in_block * x.threshold_luts,
        "state_bits": folded * f.state,
        # registers on iCE40, elsewhere LUT RAM of 16 words of 4 bits
        "logic_state_bits": f.states_in_logic * (
            f.state * n if family == "ice40" else 4 * np.ceil(f.state / 4) * np.ceil(n / 16)
        ),
        "datapath_bits": folded * leaky * W,
        "folded_driven_bits": folded * x.driven_bits,
        "folded_leak_bits": folded * leaky * W * (x.spread + more_gain),
        "folded_noise_bits": folded * stochastic * W * x.noise,
        "folded_adaptation_bits": folded * homeostatic * W * (1 + x.decay),
        "folded_izhikevich_bits": folded * izhikevich * W * (1 + products),
        "folded_square_bits": folded * izhikevich * W * W,
        # both
        "lfsr": x.lfsr * np.where(folded, 2.2, 1.0) + stochastic,  # one that can go back is twice as large
        "generator_bits": (x.length > 1) * np.log2(x.length),
        "step_bits": (x.first + x.last) * (x.timesteps > 1) * _bits(x.timesteps - 1)
        + x.waits * _bits(x.period - 1) + (x.byte_clocks > 0) * (2 + _byte_counter(x)),
        "argmax_bits": x.last * (x.score_width + 2 * _bits(n - 1)),
        "layers": np.ones(len(x.network)),
        "networks": x.last * 1.0,
    }  # fmt: skip


def _lane_trees(lanes: np.ndarray) -> np.ndarray:
    """Words of three lanes, bits of the adders above them, and of short ones: [3, N]."""
    found = np.zeros((3, len(lanes)))
    for n in np.unique(lanes[lanes > 0]).tolist():
        _, mixed, pairs, ands, adder_bits, _, _, short_bits = tree_counts([1] * int(n))
        words = mixed + 0.6 * pairs + 0.25 * ands
        found[:, lanes == n] = [[words], [adder_bits], [short_bits]]
    return found


def _memories(x: Structure, family: str) -> np.ndarray:
    """Block RAMs of every layer, [N]: weights, states and thresholds of folded layers."""
    f = _folding(x, family)
    total = np.zeros(len(x.network))
    for used, width, depth in (
        (x.folded & ~f.rom_in_logic & (f.address > 1), x.rom_bits, f.address),
        (f.states_in_block, f.state, x.n_out),
        (f.thresholds_in_block, x.word, x.n_out),
    ):
        total = total + used * _block_shapes(width, depth, family)[0]
    return total


def _multipliers(x: Structure, family: str) -> np.ndarray:
    """Multiplier blocks of every layer, [N]: synth_ice40 takes none without -dsp."""
    if family == "ice40":
        return np.zeros(len(x.network))
    side = {"ecp5": 18, "xilinx": 25}[family]  # bits of the wider operand; the other one has 18
    return x.products * np.ceil((x.word + 1) / side) + x.squares * np.ceil(x.word / side) * np.ceil(
        x.word / 18
    )


def _block_shapes(width: np.ndarray, depth: np.ndarray, family: str) -> tuple[np.ndarray, np.ndarray]:
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


# -- figures of a block --------------------------------------------------------------------------

# Logic per block, counted by hand for a chip of LUT4 with one output each: where a fit starts, and what
# holds where nothing was fitted. Those of neurons, folded datapaths and LFSRs were read off these cells
# synthesised alone with 10 and 16 bits (yosys 0.70, synth_ice40, packed by nextpnr 0.11.1).
LUT4 = {
    "same": 2.0,
    "mixed": 4.5,
    "pairs": 2.0,
    "ands": 1.0,
    "adder_bits": 1.0,
    "carries": 1.0,
    "odd_chains": 0.0,
    "difference_bits": 1.0,
    "short_bits": 1.0,
    "magnitude_bits": 0.35,
    "total_bits": 2.0,  # an adder, and a choice after it that no carry chain takes in
    "saturated_bits": 1.0,
    "membrane_bits": 1.6,
    "driven_bits": 1.0,
    "leak_bits": 1.4,
    "quarter_bits": 0.4,
    "gain_bits": 1.0,
    "noise_bits": 1.4,
    "adaptation_bits": 4.7,
    "decay_bits": 1.2,
    "izhikevich_bits": 1.5,
    "recovery_bits": 0.5,
    "square_bits": 5.5,
    "refractory_bits": 3.0,
    "score_bits": 1.0,
    "scan_bits": 0.6,
    "plain_registers": 0.01,
    "lanes": 1.5,
    "lane_bits": 0.7,
    "short_lane_bits": 0.7,
    "weight_bits": 0.5,
    "bank_bits": 1.0,
    "lane_words": 4.5,
    "lane_adder_bits": 1.0,
    "lane_short_bits": 1.0,
    "ring_bits": 0.1,
    "turning_bits": 1.0,
    "counter_bits": 1.5,
    "long_counter_bits": 0.5,
    "rom_luts": 1.0,
    "folded_total_bits": 1.5,
    "threshold_luts": 0.8,
    "state_bits": 1.0,
    "logic_state_bits": 0.8,
    "datapath_bits": 3.0,
    "folded_driven_bits": 1.0,
    "folded_leak_bits": 4.0,
    "folded_noise_bits": 1.2,
    "folded_adaptation_bits": 1.5,
    "folded_izhikevich_bits": 2.0,
    "folded_square_bits": 4.8,
    "lfsr": 27.0,
    "generator_bits": 1.0,
    "step_bits": 1.5,
    "argmax_bits": 2.0,
    "layers": 5.0,
    "networks": 10.0,
}
# On iCE40 a register without logic before it takes a logic cell of its own.
ICE40_CELLS = LUT4 | {"plain_registers": 1.0, "ring_bits": 1.0, "logic_state_bits": 1.0}
# ECP5 and 7 series square in multiplier blocks and keep small memories in LUT RAM.
_MULTIPLIERS = {
    "square_bits": 0.5,
    "folded_square_bits": 0.5,
    "izhikevich_bits": 8.0,
    "logic_state_bits": 1.0,
}
ECP5_LUTS = LUT4 | _MULTIPLIERS | {"odd_chains": 1.0}
# A LUT6 holds two LUT5 that share inputs, and a carry chain takes two operands of three inputs.
LUT6 = {n: figure * (1.0 if "bits" in n else 0.65) for n, figure in (LUT4 | _MULTIPLIERS).items()}
PRIOR: Mapping[str, Mapping[str, float]] = {"ice40": ICE40_CELLS, "ecp5": ECP5_LUTS, "xilinx": LUT6}
FIGURES_FILE = Path(__file__).with_name("figures.json")
FITTED: Mapping[str, dict] = json.loads(FIGURES_FILE.read_text())
# Used by the model. Family -> block -> LUTs of that family; fitted where there is a fit.
FIGURES: Mapping[str, Mapping[str, float]] = {
    family: prior | FITTED.get(family, {}).get("figures", {}) for family, prior in PRIOR.items()
}
# Family -> feature of a path -> ns, on the chip the family was fitted on. SPEEDS: chip -> how many times
# its clock, where that was fitted to place and route of this chip.
DELAYS: Mapping[str, Mapping[str, float]] = {
    family: timing.PRIOR_NS[family] | FITTED.get(family, {}).get("delays", {}) for family in PRIOR
}
SPEEDS: Mapping[str, float] = {
    name: speed["factor"] for fitted in FITTED.values() for name, speed in fitted.get("speeds", {}).items()
}


# -- the model -----------------------------------------------------------------------------------


def _costs(
    x: Structure,
    latencies: Sequence[int],
    chip: Target,
    figures: Mapping[str, float] | None,
    delays: Mapping[str, float] | None = None,
    trained: bool = False,
) -> list[Cost]:
    """Cost of every network in the batch. trained: `x` was read off networks, not expected."""
    figures = FIGURES[chip.family] if figures is None else figures
    n = len(latencies)
    logic = blocks(x, chip.family)

    def total(values: np.ndarray) -> np.ndarray:
        return np.bincount(x.network, weights=values, minlength=n)

    def whole(values: np.ndarray) -> list[int]:
        return np.rint(total(values)).astype(int).tolist()

    clocks = np.array(latencies, dtype=np.int64)
    folding = _folding(x, chip.family)
    fmax = 1000 / timing.slowest_ns(x, folding, n, DELAYS[chip.family] if delays is None else delays)
    fmax *= SPEEDS.get(chip.name, 1.0)
    label = fmax_label(chip)
    clock = np.minimum(chip.clock_mhz, np.where(label == "calibrated", fmax, np.inf))
    latency_us = clocks / clock
    toggles = total(energy.toggles(x, logic, folding, energy.FIGURES[chip.family]))
    nominal, low, high = energy.of_inference(
        chip, latency_us, clocks, toggles, energy.toggle_error(chip.family, trained)
    )
    columns = (
        whole(sum(figure * logic[name] for name, figure in figures.items())),
        whole(_registers(x, chip.family)),
        whole(_memories(x, chip.family)),
        whole(_multipliers(x, chip.family)),
        clocks.tolist(),
        latency_us.tolist(),
        nominal.tolist(),
        low.tolist(),
        high.tolist(),
        [chip.energy_label] * n,
        clock.tolist(),
        fmax.tolist(),
        [label] * n,
    )
    return list(map(Cost, *columns))


def estimate_many(
    architectures: Sequence[Architecture],
    target: str | Target,
    figures: Mapping[str, float] | None = None,
) -> list[Cost]:
    """Modelled cost of every architecture before training, in order. See `estimate`."""
    if not architectures:
        return []
    chip = _chip(target)
    input_clocks = [_input_clocks(a.n_inputs, chip) for a in architectures]
    latencies = [_latency(a, clocks) for a, clocks in zip(architectures, input_clocks, strict=True)]
    return _costs(_structure_of_architectures(architectures, input_clocks), latencies, chip, figures)


def estimate(
    architecture: Architecture, target: str | Target, figures: Mapping[str, float] | None = None
) -> Cost:
    """Modelled cost of `architecture` on `target` before it is trained.

    Takes `kept_synapses` as the non-zero weights, all D + 1 delays as used, weights as normally
    distributed, delays evenly, gains and leaks as powers of two, no refractory steps, and
    DEFAULT_ACTIVITY. The clocks are exact if training uses every delay. figures: LUTs per block
    instead of FIGURES, from a fit of one's own.
    """
    return estimate_many([architecture], target, figures)[0]


def measure(
    network: Network,
    target: str | Target,
    activity: Sequence[float] | None = None,
    figures: Mapping[str, float] | None = None,
    delays: Mapping[str, float] | None = None,
) -> Cost:
    """Modelled cost of a trained network on `target`, from the structure its weights really have.

    activity: mean input spikes per step of each layer, 0..n_in; DEFAULT_ACTIVITY * n_in if None.
    figures: as in `estimate`; delays: ns instead of DELAYS. The clocks are exact; FITTED tells how far
    the rest was off.
    """
    steps = [verilog.layer_step_clocks(layer) for layer in network.layers]
    mappings = [layer.mapping for layer in network.layers]
    chip = _chip(target)
    input_clocks = _input_clocks(network.n_inputs, chip)
    clocks = schedule.latency_clocks(
        network.timesteps, steps, mappings, network.n_classes, network.readout, input_clocks
    )
    x = _structure_of_network(network, activity, input_clocks)
    return _costs(x, [clocks], chip, figures, delays, trained=True)[0]


def logic_blocks(network: Network, target: str | Target) -> dict[str, float]:
    """Blocks of the whole network, as `FIGURES` counts them: what a fit to synthesis needs."""
    chip = _chip(target)
    x = structure(network, chip)
    return {name: float(count.sum()) for name, count in blocks(x, chip.family).items()}


def structure(network: Network, target: str | Target) -> Structure:
    """What the cost of `network` on `target` is worked out from."""
    return _structure_of_network(network, None, _input_clocks(network.n_inputs, _chip(target)))


def slow_paths(network: Network, target: str | Target) -> dict[str, np.ndarray]:
    """Features of every path of every layer of the network, [N] each: what a fit of its clock needs."""
    chip = _chip(target)
    x = structure(network, chip)
    return timing.features(x, _folding(x, chip.family))


def fmax_label(chip: Target) -> str:
    fitted = FITTED.get(chip.family, {})
    known = "delays" in fitted and (chip.name == fitted["target"] or chip.name in SPEEDS)
    return "calibrated" if known else "uncalibrated"


def _input_clocks(n_inputs: int, chip: Target) -> int:
    """Clocks in which a step of input arrives in bytes; 0 where every input has its pin."""
    return schedule.byte_clocks(n_inputs) if chip.byte_serial(n_inputs) else 0


def _latency(a: Architecture, input_clocks: int) -> int:
    ends = (a.n_inputs, *a.layer_widths)
    steps = [
        schedule.step_clocks(mapping, length, n_in, n_out, delay + 1, lanes)
        for mapping, length, n_in, n_out, delay, lanes in zip(
            a.mappings, a.bitstream_lengths, ends, a.layer_widths, a.delay_ranges, a.lanes, strict=False
        )
    ]
    return schedule.latency_clocks(a.timesteps, steps, a.mappings, a.n_outputs, a.readout, input_clocks)


def _chip(name: str | Target) -> Target:
    return name if isinstance(name, Target) else targets.target(name)


def violations(cost: Cost, budgets: Mapping[str, float | None]) -> float:
    """How far `cost` exceeds its budgets: sum of the relative excesses, 0.0 when it keeps them all.

    budgets: any of BUDGETS; None or a missing name is no limit. Raises ValueError for another name
    or a limit that is negative or no number.
    """
    excess = 0.0
    for name, limit in budgets.items():
        if name not in BUDGETS:
            raise ValueError(f"a budget must be one of {', '.join(BUDGETS)}, got {name!r}")
        if limit is None:
            continue
        if not limit >= 0:
            raise ValueError(f"budget {name} must be 0 or more, got {limit!r}")
        value = getattr(cost, name)
        if value > limit:
            excess += (value - limit) / max(limit, 1e-9 if name == "latency_us" else 1)
    return excess

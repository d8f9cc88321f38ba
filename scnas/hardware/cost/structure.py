"""The structure of a network that its cost follows from, one row per layer, and facts that it is filled with.

`counted` fills it from a trained network, `expected` from genes; `blocks`, `timing` and `energy` read it.

Letters: N layers of all networks in a batch, M largest magnitude.
"""

from bisect import insort
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import numpy as np

from scnas.hardware.circuit import signal
from scnas.hardware.circuit.tree import Leaf, plan_tree
from scnas.snn import derive
from scnas.snn.models import model_of

DEFAULT_ACTIVITY = 0.25  # share of inputs that spike in a step, where nothing was observed


@dataclass(frozen=True)
class Structure:
    """All layers of a batch of networks; every field is an array [N] over layers, or expected values.

    network: index of the layer's network, ascending. first, last: ends of a network.
    fires: there are neurons (else the layer only integrates). feeds_parallel: a parallel layer follows.
    waits: the input waits for a slower layer (`pause` of the design). period: clocks between steps.
    live: neurons that something reads; synthesis removes the others of a parallel layer.
    leaks, noisy, adapts, quadratic, derived: of its neurons, see Traits.
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
    count_bits, total_bits, score_bits: sums over neurons (parallel) or of one unit (folded) of the
    widths of a clock's count, of a step's, and of the score.
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
    derived_words: further words of state of a neuron whose circuit is derived; derived_adder_bits and so on:
    of all such datapaths, see cost.derived.Circuit; 0 where the neurons have a cell.
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
    leaks: np.ndarray
    noisy: np.ndarray
    adapts: np.ndarray
    quadratic: np.ndarray
    derived: np.ndarray
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
    derived_words: np.ndarray
    derived_adder_bits: np.ndarray
    derived_digit_bits: np.ndarray
    derived_product_bits: np.ndarray
    derived_choice_bits: np.ndarray
    derived_multipliers: np.ndarray


class Traits(NamedTuple):
    """What the circuit of a neuron has: a leak; noise; a word of state that its threshold rises by; a square
    of the membrane, and a word of recovery. derived: it is none of the cells; then it has no leak of theirs
    and no adaptation, and the membrane as plain as with a square."""

    leaks: bool
    noisy: bool
    adapts: bool
    quadratic: bool
    derived: bool


@cache
def traits(neuron: str) -> Traits:
    """Read off the description of the model."""
    model = model_of(neuron)
    leaks, noisy = ("leak_k" in derive.used_constants(model)), "noise" in model.names
    if model.cell is None:
        return Traits(leaks=False, noisy=noisy, adapts=False, quadratic=True, derived=True)
    return Traits(leaks, noisy, bool(derive.remembered(model)), derive.products(model).squares > 0, False)


TREE = ("same", "mixed", "pairs", "ands", "adder_bits", "carries", "odd", "short_bits")
SHORT = 4  # bits of an adder that synth_ecp5 and synth_lattice make of LUTs instead of a carry chain


def tree_counts(groups: Sequence[int]) -> tuple[int, int, int, int, int, int, int, int]:
    """What circuit.tree.adder_tree makes of groups of synapses with one magnitude each: counts of TREE.

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


def difference_counts(plus: int, minus: int) -> np.ndarray:
    """What a difference of sums up to `plus` and `minus` adds to odd, short_bits, difference_bits and
    count_bits."""
    width = signal.signed_bits(-minus, plus)
    is_short, is_long = bool(minus) & (width <= SHORT), bool(minus) & (width > SHORT)
    return np.array([is_long * (width % 2), is_short * width, is_long * width, width])


LANE_TREE = ("lane_words", "lane_adder_bits", "lane_short_bits", "stage_bits")


def lane_tree(lanes: np.ndarray, staged: np.ndarray) -> np.ndarray:
    """Counts of LANE_TREE of one tree of a folded layer, [4, N]; lanes: [N] that are ever on.

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
        leaves = [Leaf(f"on_{i}", f"sign_{i}") for i in range(n)]
        words += 0.25 * len(plan_tree(leaves, True).held_singles)
        held = stage_bits(leaves, np.ones(n, bool))
    return words, adder_bits, short_bits, held


def stage_bits(leaves: Sequence[Leaf], there: np.ndarray) -> int:
    """Registers of the stage of one tree, without those that are always 0. there: [lanes], ever on."""
    tree, on = plan_tree(list(leaves), True), dict(zip(leaves, there.tolist(), strict=True))
    bits = [min(2, sum(on[leaf] for leaf in word)) for word in tree.words]
    for a, b, single in tree.adders:
        short, long = sorted((bits[a], bits[b]))
        carry = single is not None and on[tree.singles[single]]
        full = signal.unsigned_bits(tree.most[len(bits)])
        bits.append(min(full, long + 1) if short or (long and carry) else max(long, int(carry)))
    return sum(bits[node] for node in tree.held) + sum(on[tree.singles[i]] for i in tree.held_singles)


def leak_adders(leak_k: int, fraction: int) -> tuple[float, float]:
    """Adders that the leak takes in a neuron and in a folded datapath, in units of an eighth's.

    Shares of one adder were read off neurons synthesised alone (yosys, iCE40, 10 and 16 bits): a leak of
    1/2 is a shift, 1/4 a sum of two shifts.
    """
    one = 2**fraction
    if leak_k == 0:
        return 0.0, 0.0
    if 2 * leak_k == one:
        return 0.0, 0.75
    spread = float(signed_digits(leak_k))
    if 4 * leak_k == one:
        return 0.0, spread
    return float(max(1, signed_digits(one - leak_k) - 1)), spread


def signed_digits(k: int) -> int:
    """Non-zero digits of k in the non-adjacent form: shifted terms of a product by k."""
    k = abs(int(k))
    return (k ^ 3 * k).bit_count()


def bits_of(n: np.ndarray) -> np.ndarray:
    """Bits of an unsigned number up to n, at least 1."""
    return np.maximum(1, np.floor(np.log2(np.maximum(1, n))) + 1)

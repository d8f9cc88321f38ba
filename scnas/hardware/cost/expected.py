"""The structure of a network that is expected from its genes, before training."""

from collections.abc import Iterable, Sequence
from functools import cache
from itertools import chain

import numpy as np

from scnas.hardware import schedule
from scnas.hardware.circuit import signal
from scnas.hardware.cost import derived
from scnas.hardware.cost.structure import (
    _LANE_TREE,
    _TREE,
    DEFAULT_ACTIVITY,
    SHORT,
    Structure,
    bits_of,
    lane_tree,
    traits,
    tree_counts,
)
from scnas.randomness import rng
from scnas.space import Architecture

WEIGHT_SPREAD = 0.4  # of M: standard deviation of weights, as training draws them


def _difference_counts(plus: int, minus: int) -> np.ndarray:
    """What a difference of sums up to `plus` and `minus` adds to odd, short_bits, difference_bits and
    count_bits."""
    width = signal.signed_bits(-minus, plus)
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
    kinds = np.array([traits(n) for a in architectures for n in a.neuron_types])
    leaks, noisy, adapts, quadratic, is_derived = kinds.T
    circuits = [derived.expected(n, a.word, a.fraction) for a in architectures for n in a.neuron_types]
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
        leaks=leaks,
        noisy=noisy,
        adapts=adapts,
        quadratic=quadratic,
        derived=is_derived,
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
        # without a leak it stays a multiple of what a spike adds, 2^shift times a gain of about 1/4
        membrane_bits=fires * live * (word + ~quadratic - ~(leaks | quadratic) * np.maximum(0, shift - 2)),
        saturating=neurons * saturating,
        score_width=last * (score + np.where(fires, 1, shift + 1)),
        gain=ones,
        leak=np.where(leaks, 0.5, 0),  # of 1/2 .. 1/16, where training leaves it
        quarter=np.where(leaks, 0.25, 0),
        spread=np.where(leaks, 0.9, 0),
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
        driven_bits=fires * ~quadratic * neurons * (word - np.maximum(0, shift - 2)),
        products=2 * neurons * units * fires * quadratic,
        squares=neurons * units * fires * quadratic,
        byte_clocks=byte_clocks,
        byte_registers=8 * byte_clocks,
        spikes=DEFAULT_ACTIVITY * n_in,
        **derived.fields(derived.Circuit(*np.array(circuits).T), fires * neurons * units),
    )

"""The structure of a network that is expected from its genes, before training.

Letters: N layers of all networks in a batch, M largest magnitude, D largest delay, F fraction bits.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import chain

import numpy as np

from scnas.hardware import schedule
from scnas.hardware.cost.derived import Circuit
from scnas.hardware.cost.derived import expected as expected_circuit
from scnas.hardware.cost.derived import fields as circuit_fields
from scnas.hardware.cost.structure import (
    DEFAULT_ACTIVITY,
    LANE_TREE,
    TREE,
    Structure,
    bits_of,
    difference_counts,
    lane_tree,
    traits,
    tree_counts,
)
from scnas.randomness import rng
from scnas.space import Architecture

WEIGHT_SPREAD = 0.4  # of M: standard deviation of weights, as training draws them


@cache
def _expected_trees(top: int) -> tuple[np.ndarray, np.ndarray]:
    """Trees of a neuron with f synapses of each sign on average, weights spread over 1..top.

    returns: f [K] ascending, and [10, K] expected counts: those of TREE, difference_bits, count_bits.
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
            table[6:, column] += difference_counts(*most)
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
    """Expected structure: density's share of synapses, normal weights, delays spread evenly over 0..D.

    input_clocks: of each architecture, in which a byte-serial input takes a step, else 0.
    """
    g = _genes(architectures, input_clocks)
    return Structure(**_place(g), **_synapses(g), **_sums(g), **_neurons(g), **_memories(g))


Columns = dict[str, np.ndarray]  # fields of Structure, [N] each


@dataclass(frozen=True)
class _Genes:
    """All layers of a batch of architectures, [N] each: their genes and what follows from them at once."""

    network: np.ndarray
    first: np.ndarray
    last: np.ndarray
    fires: np.ndarray
    n_in: np.ndarray
    n_out: np.ndarray
    leaks: np.ndarray
    noisy: np.ndarray
    adapts: np.ndarray
    quadratic: np.ndarray
    derived: np.ndarray
    circuits: Circuit
    lfsr: np.ndarray
    folded: np.ndarray
    lanes: np.ndarray
    units: np.ndarray
    length: np.ndarray
    delay: np.ndarray
    density: np.ndarray
    timesteps: np.ndarray
    word: np.ndarray
    fraction: np.ndarray
    byte_clocks: np.ndarray

    @property
    def ones(self) -> np.ndarray:
        return np.ones(len(self.network))

    @cached_property
    def synapses(self) -> np.ndarray:
        return np.maximum(1, np.rint(self.density * self.n_in * self.n_out))

    @property
    def per_input(self) -> np.ndarray:
        """Synapses of an input."""
        return self.synapses / self.n_in

    @property
    def fan_in(self) -> np.ndarray:
        """Synapses of a neuron."""
        return self.synapses / self.n_out

    @cached_property
    def used(self) -> np.ndarray:
        """Inputs with a synapse."""
        return self.n_in * -np.expm1(-self.per_input)

    @property
    def top(self) -> np.ndarray:
        """The largest magnitude."""
        return np.where(self.lfsr, 256, self.length)

    @property
    def shift(self) -> np.ndarray:
        """A current is a count times 2^shift."""
        return self.fraction - np.log2(self.length)

    @property
    def feeds_parallel(self) -> np.ndarray:
        return ~self.last & ~np.roll(self.folded, -1)

    @cached_property
    def live(self) -> np.ndarray:
        """Neurons that something reads."""
        read = np.roll(self.used / self.n_in, -1)
        return np.where(~self.folded & self.feeds_parallel, read, 1) * self.n_out

    @property
    def neurons(self) -> np.ndarray:
        """Neurons of a parallel layer, one of a unit of a folded one."""
        return np.where(self.folded, 1, self.live)

    @cached_property
    def words(self) -> np.ndarray:
        """Words of the weight ROM of a folded layer."""
        groups = np.ceil(self.n_in * (self.delay + 1) / np.maximum(1, self.lanes))
        return self.n_out // self.units * groups

    @cached_property
    def steps(self) -> np.ndarray:
        """Clocks of a step."""
        return np.where(self.folded, self.words * self.length, self.length)


def _genes(architectures: Sequence[Architecture], input_clocks: Sequence[int]) -> _Genes:
    """The genes of a batch, layer after layer."""
    depth = np.array([len(a.layer_widths) for a in architectures])
    total = int(depth.sum())

    def per_layer(values: Iterable[Iterable], dtype: type = np.int64) -> np.ndarray:
        return np.fromiter(chain.from_iterable(values), dtype, total)

    def per_network(values: Iterable, dtype: type = np.int64) -> np.ndarray:
        return np.repeat(np.fromiter(values, dtype, len(depth)), depth)

    last = np.zeros(total, bool)
    last[np.cumsum(depth) - 1] = True
    first = np.roll(last, 1)
    n_out = per_layer(a.layer_widths for a in architectures)
    kinds = np.array([traits(n) for a in architectures for n in a.neuron_types])
    leaks, noisy, adapts, quadratic, is_derived = kinds.T
    circuits = [expected_circuit(n, a.word, a.fraction) for a in architectures for n in a.neuron_types]
    return _Genes(
        network=np.repeat(np.arange(len(depth)), depth),
        first=first,
        last=last,
        fires=~(last & per_network((a.readout == "membrane" for a in architectures), bool)),
        n_in=np.where(first, per_network(a.n_inputs for a in architectures), np.roll(n_out, 1)),
        n_out=n_out,
        leaks=leaks,
        noisy=noisy,
        adapts=adapts,
        quadratic=quadratic,
        derived=is_derived,
        circuits=Circuit(*np.array(circuits).T),
        lfsr=per_layer(((g == "lfsr" for g in a.generators) for a in architectures), bool),
        folded=per_layer(((m == "folded" for m in a.mappings) for a in architectures), bool),
        lanes=per_layer(a.lanes for a in architectures),
        units=per_layer(a.units for a in architectures),
        length=per_layer(a.bitstream_lengths for a in architectures),
        delay=per_layer(a.delay_ranges for a in architectures),
        density=per_layer((a.densities for a in architectures), np.float64),
        timesteps=per_network(a.timesteps for a in architectures),
        word=per_network(a.word for a in architectures),
        fraction=per_network(a.fraction for a in architectures),
        byte_clocks=first * per_network(input_clocks),
    )


def _place(g: _Genes) -> Columns:
    """What the genes say, the pace of the network, and its inputs."""
    depth = np.bincount(g.network)
    period = np.repeat(np.maximum.reduceat(g.steps, np.cumsum(depth) - depth), depth)
    return dict(
        network=g.network,
        first=g.first,
        last=g.last,
        n_in=g.n_in,
        n_out=g.n_out,
        live=g.live,
        leaks=g.leaks,
        noisy=g.noisy,
        adapts=g.adapts,
        quadratic=g.quadratic,
        derived=g.derived,
        fires=g.fires,
        feeds_parallel=g.feeds_parallel,
        lfsr=g.lfsr,
        length=g.length,
        folded=g.folded,
        lanes=g.lanes,
        units=g.units,
        timesteps=g.timesteps,
        word=g.word,
        fraction=g.fraction,
        period=period,
        waits=g.first & (g.steps < period),
        byte_clocks=g.byte_clocks,
        byte_registers=8 * g.byte_clocks,
        spikes=DEFAULT_ACTIVITY * g.n_in,
    )


def _synapses(g: _Genes) -> Columns:
    """Synapses, their taps and magnitudes, and the registers of spikes."""
    top, delay, per_input = g.top, g.delay, g.per_input
    magnitudes = top * -np.expm1(-g.synapses / np.maximum(1, top * 2 * WEIGHT_SPREAD))
    magnitudes = np.minimum(magnitudes, np.maximum(0, top - 1))
    tapped = g.used * (1 + delay * (1 - 1 / np.maximum(1, per_input)))
    return dict(
        spike_bits=g.folded * g.fires * ~g.last * (g.n_out * (1 + g.feeds_parallel) - g.feeds_parallel),
        ring_idle=0 * g.ones,
        synapses=g.synapses,
        magnitudes=magnitudes,
        magnitude_bits=magnitudes * np.maximum(0, np.log2(top) - 1),
        inputs_used=g.used,
        taps=np.where(g.folded, g.n_in * (delay + 1), tapped),
        delay_bits=np.where(g.folded, 0, g.used * delay * per_input / (per_input + 1)),
    )


def _sums(g: _Genes) -> Columns:
    """Adder trees of parallel layers, and the registers of counts, currents and scores."""
    trees = np.where(g.folded, 0, g.live) * _trees_of_architectures(g.top, g.fan_in)
    # weights of one sign add up to about fan_in / 2 * E|w|, and one of many neurons to more
    weight = np.maximum(1 / g.length, 0.8 * WEIGHT_SPREAD)
    reach = np.maximum(1, g.fan_in / 2 * weight * g.length + 1)
    total_bits = np.log2(reach * np.where(g.folded, 1.5, 1)) + 1.5
    unsaturated = np.minimum(total_bits, g.word - g.shift) + np.log2(g.timesteps)
    score = np.where(g.fires, bits_of(g.timesteps), unsaturated)
    return dict(
        **dict(zip(TREE[:6], trees[:6], strict=True)),
        odd=trees[6] + np.where(g.folded, 0, 0.5 * g.live * ((g.length > 1) & g.fires | g.last)),
        short_bits=trees[7],
        difference_bits=trees[8],
        count_bits=trees[9],
        total_bits=g.neurons * total_bits,
        score_bits=g.last * g.n_out * score,
        saturating=g.neurons * np.clip(total_bits + g.shift - g.word, 0, 1),
        score_width=g.last * (score + np.where(g.fires, 1, g.shift + 1)),
    )


def _neurons(g: _Genes) -> Columns:
    """Membranes, and what the constants of the neurons cost: gains and leaks as powers of two."""
    leaks, quadratic, fires, word, shift = g.leaks, g.quadratic, g.fires, g.word, g.shift
    return dict(
        unseen_bits=g.folded * fires * np.clip(2 - shift, 0, 2),  # at a gain of about 1/4
        # without a leak it stays a multiple of what a spike adds, 2^shift times a gain of about 1/4
        membrane_bits=fires * g.live * (word + ~quadratic - ~(leaks | quadratic) * np.maximum(0, shift - 2)),
        gain=g.ones,
        leak=np.where(leaks, 0.5, 0),  # of 1/2 .. 1/16, where training leaves it
        quarter=np.where(leaks, 0.25, 0),
        spread=np.where(leaks, 0.9, 0),
        noise=g.ones,
        decay=g.ones,
        recovery=6 * g.ones,  # a_k = 0.02 and b_k = 0.2 at F = 8
        refractory=0 * g.ones,
        driven_bits=fires * ~quadratic * g.neurons * (word - np.maximum(0, shift - 2)),
        products=2 * g.neurons * g.units * fires * quadratic,
        squares=g.neurons * g.units * fires * quadratic,
        **circuit_fields(g.circuits, fires * g.neurons * g.units),
    )


def _memories(g: _Genes) -> Columns:
    """Weight ROM and thresholds of folded layers, and the trees of their lanes."""
    lfsr, length, words, slots = g.lfsr, g.length, g.words, g.lanes * g.units
    one_sign = g.density / (g.delay + 1) / 2  # of the places of a ROM, with a weight of that sign
    signed = g.lanes * -np.expm1(words * np.log1p(-one_sign))  # lanes of a unit that have one
    lane_trees = 2 * g.units * lane_tree(np.rint(signed), schedule.STAGED < g.lanes)
    magnitude = np.where(lfsr, 8, np.where(length <= 2, 0, np.log2(length)))  # bits that a lane compares
    return dict(
        rom_bits=slots * np.where(lfsr, 9, np.where(length <= 2, length + 1, np.log2(length) + 2)),
        magnitude_columns=slots * magnitude,
        lanes_used=slots * -np.expm1(words * np.log1p(-np.minimum(0.999, g.density / (g.delay + 1)))),
        **dict(zip(LANE_TREE, lane_trees, strict=True)),
        lane_reach=slots * magnitude,
        lane_span=slots * magnitude,
        # of the bits of an entry, some are the same everywhere or as another
        rom_luts=slots * np.where(lfsr, 9, np.log2(length) + 1) * np.ceil(words / 16),
        threshold_luts=g.fires
        * (g.n_out > g.units)
        * (0.75 * g.word)
        * g.units
        * np.ceil(g.n_out / g.units / 16),
    )

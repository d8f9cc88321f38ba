"""The structure of a trained network, counted as `scnas.hardware.circuit` will write it.

Letters: T timesteps.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np

from scnas.contract import Refused
from scnas.hardware.circuit import signal
from scnas.hardware.cost import derived
from scnas.hardware.cost.held import Ring, WeightRom, byte_registers, ring_of, tables, weight_rom
from scnas.hardware.cost.structure import (
    DEFAULT_ACTIVITY,
    LANE_TREE,
    SHORT,
    TREE,
    Structure,
    difference_counts,
    leak_adders,
    signed_digits,
    traits,
    tree_counts,
)
from scnas.snn import derive
from scnas.snn.models import model_of
from scnas.snn.network import Layer, Network


def of_network(network: Network, activity: Sequence[float] | None = None, input_clocks: int = 0) -> Structure:
    """The structure of the design that circuit.top.write_design makes of `network`.

    activity: mean input spikes per step of each layer, 0..n_in; DEFAULT_ACTIVITY * n_in if None.
    input_clocks: in which a byte-serial input takes a step, else 0.
    """
    layers = network.layers
    if activity is None:
        activity = [DEFAULT_ACTIVITY * layer.n_in for layer in layers]
    if len(activity) != len(layers):
        raise Refused(f"activity must have one entry per layer ({len(layers)}), got {len(activity)}")
    for i, (spikes, layer) in enumerate(zip(activity, layers, strict=True)):
        if not 0 <= spikes <= layer.n_in:
            raise Refused(f"activity[{i}] must be 0 to {layer.n_in} spikes per step, got {spikes}")
    rings = [ring_of(layer) if layer.mapping == "folded" else None for layer in layers]
    reads = _reads(network, rings)
    rows = []
    for i, spikes in enumerate(activity):
        x = _Layer(network, i, reads[i], rings[i])
        row = _place(x) | _spikes(x) | _synapses(x) | _sums(x) | _currents(x) | _neurons(x) | _memories(x)
        clocks = input_clocks if i == 0 else 0
        held = byte_registers(_inputs(x), clocks) if clocks else 0
        rows.append(row | {"byte_clocks": clocks, "byte_registers": held, "spikes": spikes})
    return Structure(**{f.name: np.array([row[f.name] for row in rows]) for f in fields(Structure)})


@dataclass(frozen=True)
class _Layer:
    """Layer `number` of a network.

    read: [n_out] spikes or scores that something reads. ring: of a folded layer, else None.
    """

    network: Network
    number: int
    read: np.ndarray
    ring: Ring | None

    @property
    def layer(self) -> Layer:
        return self.network.layers[self.number]

    @property
    def folded(self) -> bool:
        return self.ring is not None

    @property
    def last(self) -> bool:
        return self.number == len(self.network.layers) - 1

    @property
    def fires(self) -> bool:
        return self.network.fires(self.number)

    @property
    def live(self) -> np.ndarray:
        """[n_out] neurons that synthesis keeps: of a parallel layer those that are read, else all."""
        return np.ones(self.layer.n_out, bool) if self.folded else self.read

    @property
    def n_live(self) -> int:
        return int(self.live.sum())

    @property
    def datapaths(self) -> int:
        """Neurons of a parallel layer, one of a unit of a folded one."""
        return 1 if self.folded else self.n_live

    @property
    def shift(self) -> int:
        """A current is a count times 2^shift."""
        return self.network.fraction - (self.layer.length.bit_length() - 1)

    @property
    def exists(self) -> np.ndarray:
        """[n_in, n_out] synapses of live neurons."""
        return (self.layer.weights != 0) & self.live

    @cached_property
    def ends(self) -> tuple[np.ndarray, np.ndarray]:
        """Least and greatest count of a step: of every live neuron, [n_live], or of a folded layer, [1]."""
        low, high = signal.count_bounds(self.layer, self.network.timesteps)
        if self.folded:
            return low.min(keepdims=True), high.max(keepdims=True)
        return low[self.live], high[self.live]

    @cached_property
    def current_ends(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Least and greatest current of every live neuron and whether it can saturate, [n_live] each."""
        low, high, saturates = signal.current_bounds(self.layer, self.network)
        return low[self.live], high[self.live], saturates[self.live]

    @property
    def adds_clocks(self) -> bool:
        """Whether the scores of a parallel layer add up the counts of stream clocks, without totals."""
        return self.last and not self.fires and not self.folded and not self.current_ends[2].any()

    @property
    def lowest_driven(self) -> int:
        """The lowest bit of a membrane that the current reaches; below 0: low bits of it are lost."""
        gain = self.layer.constants["gain_k"]
        lowest = self.shift + ((gain & -gain).bit_length() - 1 if gain else 0) - self.network.fraction
        return max(0, lowest) if gain & (gain - 1) else lowest


Row = dict[str, Any]  # fields of Structure: int, float or bool each


def _reads(network: Network, rings: Sequence[Ring | None]) -> list[np.ndarray]:
    """[n_out] of every layer: does the layer after it read this neuron? All of the last are read."""
    reads = [np.ones(layer.n_out, bool) for layer in network.layers]
    for i in range(len(reads) - 2, -1, -1):
        ring, weights = rings[i + 1], network.layers[i + 1].weights
        reads[i] = (weights[:, reads[i + 1]] != 0).any(axis=1) if ring is None else ring.inputs
    return reads


def _place(x: _Layer) -> Row:
    """What the genes of the layer and of its network say."""
    layer, network = x.layer, x.network
    steps = [signal.layer_step_clocks(other) for other in network.layers]
    return dict(
        network=0,
        first=x.number == 0,
        last=x.last,
        n_in=layer.n_in,
        n_out=layer.n_out,
        live=x.n_live,
        **traits(layer.neuron)._asdict(),
        fires=x.fires,
        feeds_parallel=not x.last and network.layers[x.number + 1].mapping == "parallel",
        lfsr=layer.generator == "lfsr",
        length=layer.length,
        folded=x.folded,
        lanes=layer.lanes,
        units=layer.units,
        timesteps=network.timesteps,
        word=network.word,
        fraction=network.fraction,
        period=max(steps),
        waits=x.number == 0 and steps[0] < max(steps),
    )


def _spikes(x: _Layer) -> Row:
    """Registers of spikes: those that a folded layer passes on, and those that it takes in."""
    spike_bits = 0
    if x.folded and x.fires and not x.last:
        held = x.network.layers[x.number + 1].mapping == "parallel"
        each = x.layer.n_out // x.layer.units
        for shown in x.read.reshape(x.layer.units, each):
            if shown.any():  # spikes below the lowest that is read are shifted out unseen
                spike_bits += each - int(np.argmax(shown))
                spike_bits += int(shown.sum()) - 1 if held else 0
    if x.ring is not None:
        delay_bits = x.ring.waiting
    else:
        delay_bits = int(np.where(x.exists, x.layer.delays, 0).max(axis=1).sum())
    ring_idle = x.ring.idle if x.ring is not None else 0
    return dict(spike_bits=spike_bits, ring_idle=ring_idle, delay_bits=delay_bits)


def _inputs(x: _Layer) -> np.ndarray:
    """[n_in] inputs that a synapse sees."""
    if x.ring is not None:
        return x.ring.inputs
    return np.asarray(x.exists.any(axis=1))


def _synapses(x: _Layer) -> Row:
    """Synapses, their taps, and what their magnitudes are compared with."""
    layer, exists, bits = x.layer, x.exists, signal.number_width(x.layer)
    magnitudes = np.unique(np.abs(layer.weights[exists]))
    magnitudes = magnitudes[magnitudes < layer.max_weight]
    if x.folded:
        taps = layer.n_in * len(layer.delays_in_use or (0,))
    else:
        tap = np.arange(layer.n_in)[:, None] * (int(layer.delays.max()) + 1) + layer.delays
        taps = len(np.unique(tap[exists]))
    return dict(
        synapses=int(exists.sum()),
        magnitudes=len(magnitudes),
        magnitude_bits=sum(bits - (int(m) & -int(m)).bit_length() for m in magnitudes),
        inputs_used=int(exists.any(axis=1).sum()),
        taps=taps,
    )


def _sums(x: _Layer) -> Row:
    """The adder trees of a parallel layer, and the registers of counts and scores of every layer."""
    layer, T = x.layer, x.network.timesteps
    low, high = x.ends
    totals = np.array([_range_bits(int(a), int(b)) for a, b in zip(low, high, strict=True)])
    counts = np.zeros(10)
    if not x.folded:
        for column in layer.weights.T[x.live]:
            plus, minus = np.bincount(column[column > 0]), np.bincount(-column[column < 0])
            counts[:8] += tree_counts(plus[plus > 0].tolist())
            counts[:8] += tree_counts(minus[minus > 0].tolist())
            counts[6:] += difference_counts(int(plus.sum()), int(minus.sum()))
        # bits of a clock's count that a narrower total leaves out
        reach = T if x.adds_clocks else 1
        used = (_range_bits(int(a) * reach, int(b) * reach) for a, b in zip(low, high, strict=True))
        widths = (_count_width(column) for column in layer.weights.T[x.live])
        counts[9] = sum(map(min, widths, used))
        if layer.length > 1 and not x.adds_clocks:
            counts[6] += (totals % 2 * (totals > SHORT)).sum()
    return dict(
        **dict(zip(TREE, counts[:8], strict=True)),
        difference_bits=counts[8],
        count_bits=counts[9],
        total_bits=totals.sum(),
        score_bits=_score_bits(x),
        score_width=signal.signed_bits(*signal.score_bounds(x.network)) if x.last else 0,
    )


def _score_bits(x: _Layer) -> int:
    """Registers of the scores of a last layer, without bits that are always 0."""
    n, T = x.layer.n_out, x.network.timesteps
    if not x.last:
        return 0
    if x.fires:
        return n * signal.unsigned_bits(T)
    if x.folded:
        return n * signal.signed_bits(*signal.score_bounds(x.network))
    low, high, saturates = x.current_ends
    ends = x.ends if x.adds_clocks else (low, high)
    scores = sum(_range_bits(int(a) * T, int(b) * T) for a, b in zip(*ends, strict=True))
    if not x.adds_clocks:  # low bits of a current that never saturates are zeros
        scores -= x.shift * int((~saturates & (high > low)).sum())
    return scores


def _currents(x: _Layer) -> Row:
    """Where currents saturate, and the bits of them and of membranes that they reach."""
    saturates, fires, membranes = x.current_ends[2], x.fires, _membrane_bits(x)
    bits = x.network.word if x.folded else membranes
    drives = fires and not traits(x.layer.neuron).quadratic
    return dict(
        membrane_bits=membranes,
        saturating=int(saturates.any()) if x.folded else int(saturates.sum()),
        unseen_bits=max(0, -x.lowest_driven) if x.folded and fires else 0,
        driven_bits=max(0, bits - x.datapaths * max(0, x.lowest_driven)) if drives else 0,
    )


def _membrane_bits(x: _Layer) -> int:
    """Registers of the membranes of a parallel layer, without bits that synthesis sees to be constant."""
    layer, network, k, saturates = x.layer, x.network, x.layer.constants, x.current_ends[2]
    if not x.fires or x.folded:
        return 0
    membranes, kind = x.n_live * network.word, traits(layer.neuron)
    if not kind.quadratic:
        thresholds = layer.threshold[x.live]
        membranes = sum(signal.sum_width(layer, network, int(t)) for t in thresholds)
        membranes += int((thresholds <= k["v_rest"]).sum()) if not k["refractory"] else 0
    if not (kind.leaks or kind.quadratic):  # without a leak it stays a multiple of what a spike adds
        step = max(1, 2**x.shift * k["gain_k"] >> network.fraction)
        membranes -= ((step & -step).bit_length() - 1) * int((~saturates).sum())
    if kind.leaks and not kind.adapts and 2 * k["leak_k"] == 2**network.fraction:
        # a leak of 1/2 is a shift: bits below all that the limits look at move out unseen
        lowest = 2 ** (network.word - 1) + k["v_rest"]
        for threshold, cut in zip(layer.threshold[x.live], saturates, strict=True):
            seen = int(threshold) - k["v_rest"] | lowest
            # ... unless they are added to, and carry into bits that are seen
            added = 0 if cut or kind.noisy else max(0, x.lowest_driven)
            membranes -= min((seen & -seen).bit_length() - 1, added + 1)
    return membranes


def _neurons(x: _Layer) -> Row:
    """What the constants of the neurons cost."""
    layer, k, datapaths = x.layer, x.layer.constants, x.datapaths * x.layer.units
    leak, spread = leak_adders(k["leak_k"], x.network.fraction)
    kind = traits(layer.neuron)
    return dict(
        gain=signed_digits(k["gain_k"]),
        leak=leak,
        quarter=kind.leaks and 4 * k["leak_k"] == 2**x.network.fraction,
        spread=spread,
        noise=signed_digits(k["noise_k"]),
        decay=signed_digits(k["decay_k"]),
        recovery=signed_digits(k["a_k"]) + signed_digits(k["b_k"]),
        refractory=k["refractory"],
        products=x.fires * _products(layer, datapaths),
        squares=x.fires * datapaths * kind.quadratic,
        **derived.fields(derived.of_layer(layer, x.network), x.fires * datapaths),
    )


def _memories(x: _Layer) -> Row:
    """What weight ROM and thresholds of a folded layer hold, and the trees of its lanes."""
    layer, word = x.layer, x.network.word
    weights = WeightRom(0, 0, 0, np.zeros(len(LANE_TREE)), 0, 0, 0)
    threshold_luts = 0
    if x.folded:
        weights = weight_rom(layer)
        if x.fires:
            units = layer.threshold.reshape(layer.units, layer.n_out // layer.units)
            threshold_luts = sum(tables([int(t) % 2**word for t in own], word) for own in units)
    return dict(
        rom_bits=weights.columns,
        magnitude_columns=weights.magnitude_columns,
        lanes_used=weights.used,
        **dict(zip(LANE_TREE, weights.trees, strict=True)),
        lane_reach=weights.reach,
        lane_span=weights.span,
        rom_luts=weights.luts,
        threshold_luts=threshold_luts,
    )


def _range_bits(low: int, high: int) -> int:
    """Bits of a register that holds low..high: none where it is always 0."""
    return signal.signed_bits(low, high) if low or high else 0


def _count_width(weights: np.ndarray) -> int:
    """Bits of the sum of one stream clock of a neuron with these weights."""
    return signal.signed_bits(-int((weights < 0).sum()), int((weights > 0).sum()))


def _products(layer: Layer, units: int) -> int:
    """Multiplications of a layer with `units` neuron datapaths by constants that are no powers of two."""

    def counts(name: str) -> bool:
        k = abs(layer.constants[name])
        return bool(k & (k - 1))

    factors = derive.products(model_of(layer.neuron)).by_constant
    return units * sum(counts(name) * times for name, times in factors.items()) + counts("noise_k")

"""The structure of a trained network, counted as `scnas.hardware.circuit` will write it."""

from collections.abc import Sequence
from dataclasses import fields
from functools import reduce
from operator import and_, or_
from typing import NamedTuple

import numpy as np

from scnas.contract import Refused
from scnas.hardware import schedule
from scnas.hardware.circuit import shared, signal
from scnas.hardware.circuit.folded import lane_leaves, weight_words
from scnas.hardware.cost import derived
from scnas.hardware.cost.expected import _difference_counts
from scnas.hardware.cost.structure import (
    _LANE_TREE,
    _TREE,
    DEFAULT_ACTIVITY,
    SHORT,
    Structure,
    _leak_adders,
    _stage_bits,
    lane_tree,
    signed_digits,
    traits,
    tree_counts,
)
from scnas.snn import derive
from scnas.snn.models import model_of
from scnas.snn.network import Layer, Network


def of_network(network: Network, activity: Sequence[float] | None = None, input_clocks: int = 0) -> Structure:
    """The structure of the design that verilog.write_design makes of `network`."""
    layers = network.layers
    if activity is None:
        activity = [DEFAULT_ACTIVITY * layer.n_in for layer in layers]
    if len(activity) != len(layers):
        raise Refused(f"activity must have one entry per layer ({len(layers)}), got {len(activity)}")
    for i, (spikes, layer) in enumerate(zip(activity, layers, strict=True)):
        if not 0 <= spikes <= layer.n_in:
            raise Refused(f"activity[{i}] must be 0 to {layer.n_in} spikes per step, got {spikes}")
    steps = [signal.layer_step_clocks(layer) for layer in layers]
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
        kind = traits(layer.neuron)
        last = i == len(layers) - 1
        shift = network.fraction - (layer.length.bit_length() - 1)
        low, high = signal.count_bounds(layer, T)
        if folded:
            low, high = low.min(keepdims=True), high.max(keepdims=True)
        else:
            low, high = low[live], high[live]
        current_low, current_high, saturates = (x[live] for x in signal.current_bounds(layer, network))
        totals = np.array([_range_bits(int(a), int(b)) for a, b in zip(low, high, strict=True)])
        exists = (layer.weights != 0) & live
        magnitudes = np.unique(np.abs(layer.weights[exists]))
        magnitudes = magnitudes[magnitudes < layer.max_weight]
        bits = signal.number_width(layer)
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
            scores = layer.n_out * signal.unsigned_bits(T)
        elif folded:
            scores = layer.n_out * signal.signed_bits(*signal.score_bounds(network))
        else:
            ends = (low, high) if whole_inference else (current_low, current_high)
            scores = sum(_range_bits(int(a) * T, int(b) * T) for a, b in zip(*ends, strict=True))
            if not whole_inference:  # low bits of a current that never saturates are zeros
                scores -= shift * int((~saturates & (current_high > current_low)).sum())
        membranes = 0
        if fires and not folded:
            membranes = int(live.sum()) * network.word
            if not kind.quadratic:
                thresholds = layer.threshold[live]
                membranes = sum(signal.sum_width(layer, network, int(t)) for t in thresholds)
                membranes += int((thresholds <= k["v_rest"]).sum()) if not k["refractory"] else 0
            if not (kind.leaks or kind.quadratic):  # without a leak it stays a multiple of what a spike adds
                step = max(1, 2**shift * k["gain_k"] >> network.fraction)
                membranes -= ((step & -step).bit_length() - 1) * int((~saturates).sum())
            if kind.leaks and not kind.adapts and 2 * k["leak_k"] == 2**network.fraction:
                # a leak of 1/2 is a shift: bits below all that the limits look at move out unseen
                lowest = 2 ** (network.word - 1) + k["v_rest"]
                for threshold, cut in zip(layer.threshold[live], saturates, strict=True):
                    seen = int(threshold) - k["v_rest"] | lowest
                    # ... unless they are added to, and carry into bits that are seen
                    added = 0 if cut or kind.noisy else max(0, lowest_driven)
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
                **kind._asdict(),
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
                score_width=signal.signed_bits(*signal.score_bounds(network)) if last else 0,
                gain=signed_digits(k["gain_k"]),
                leak=_leak_adders(k["leak_k"], network.fraction)[0],
                quarter=kind.leaks and 4 * k["leak_k"] == 2**network.fraction,
                spread=_leak_adders(k["leak_k"], network.fraction)[1],
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
                if fires and not kind.quadratic
                else 0,
                products=fires * _products(layer, neurons * layer.units),
                squares=fires * neurons * layer.units * kind.quadratic,
                byte_clocks=input_clocks if i == 0 else 0,
                byte_registers=byte_registers,
                spikes=activity[i],
                **derived.fields(
                    derived.of_layer(layer, network, signal.noise_bounds(layer, network.fraction)),
                    fires * neurons * layer.units,
                ),
            )
        )
    return Structure(**{f.name: np.array([row[f.name] for row in rows]) for f in fields(Structure)})


def _range_bits(low: int, high: int) -> int:
    """Bits of a register that holds low..high: none where it is always 0."""
    return signal.signed_bits(low, high) if low or high else 0


def _count_width(weights: np.ndarray) -> int:
    """Bits of the sum of one stream clock of a neuron with these weights."""
    return signal.signed_bits(-int((weights < 0).sum()), int((weights > 0).sum()))


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

    factors = derive.products(model_of(layer.neuron)).by_constant
    return units * sum(counts(name) * times for name, times in factors.items()) + counts("noise_k")


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
    words = [int(word, 16) for word in weight_words(layer)]
    bits, streams = signal.weight_code(layer)
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
            leaves = lane_leaves(layer, unit, gate)
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
    if len(words) * width > shared.BLOCK_BITS:
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

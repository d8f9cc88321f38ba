"""What the registers and memories of a layer hold that something reads later: ring, byte input, weight ROM.

Synthesis removes the rest. Every bit is followed, as `circuit.folded` writes it.
"""

from collections.abc import Sequence
from functools import reduce
from operator import and_, or_
from typing import NamedTuple

import numpy as np

from scnas.hardware import schedule
from scnas.hardware.circuit import signal
from scnas.hardware.circuit.folded import lane_leaves, weight_words
from scnas.hardware.circuit.shared import BLOCK_BITS
from scnas.hardware.cost.structure import LANE_TREE, lane_tree, stage_bits
from scnas.snn.network import Layer


class Ring(NamedTuple):
    """What of the spike registers of a folded layer is ever seen by a lane with a weight.

    idle: bits of the ring that are not. waiting: bits of the registers beside it that are.
    inputs: [n_in] inputs that are.
    """

    idle: int
    waiting: int
    inputs: np.ndarray


def ring_of(layer: Layer) -> Ring:
    """Follows every bit of the spike registers that circuit.folded writes."""
    delays, n_in, lanes = layer.delays_in_use or (0,), layer.n_in, layer.lanes
    groups = -(-n_in * len(delays) // lanes)
    size = groups * lanes
    used = np.zeros(size, bool)  # taps with a weight in some neuron
    for at, d in enumerate(delays):
        used[at * n_in : (at + 1) * n_in] = ((layer.weights != 0) & (layer.delays == d)).any(axis=1)
    live = np.zeros(size, bool)
    live[:lanes] = used.reshape(groups, lanes).any(axis=0)
    stages = [np.zeros(n_in, bool) for _ in range(max(delays) + 1)]  # live bits of the register of each delay
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
    return Ring(size - live_bits, waiting, stages[0])


def byte_registers(read: np.ndarray, clocks: int) -> int:
    """Registers of a byte-serial input, a byte wide and `clocks` long, that hold what is read later on.

    A byte enters at the top and moves down; below the lowest input of a lane that is read nothing is kept.
    """
    bits = np.zeros(8 * clocks, bool)
    bits[: len(read)] = read
    lanes = bits.reshape(clocks, 8)
    return int((clocks - np.where(lanes.any(axis=0), lanes.argmax(axis=0), clocks)).sum())


class WeightRom(NamedTuple):
    """columns: that are no constant; of a ROM in logic, equal ones count once. magnitude_columns: those of
    magnitudes, which are compared with the generator's number. reach, span: bits of the lanes' magnitudes
    up to the highest that is ever set, and from the lowest. used: lanes with a weight. trees: counts of
    LANE_TREE. luts: see tables."""

    columns: int
    magnitude_columns: int
    used: int
    trees: np.ndarray
    reach: int
    span: int
    luts: int


def weight_rom(layer: Layer) -> WeightRom:
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
    trees = np.zeros(len(LANE_TREE))
    staged = schedule.is_staged(layer.mapping, layer.lanes)
    for sign, gate in enumerate(("~", "")):
        for unit in range(layer.units):
            leaves = lane_leaves(layer, unit, gate)
            own = slice(unit * layer.lanes, (unit + 1) * layer.lanes)
            trees[:3] += lane_tree(signed[sign, own].sum(keepdims=True), np.array([staged]))[:3, 0]
            trees[3] += staged * stage_bits(leaves, moving[sign, own])
    magnitudes = reach = span = 0
    if not streams:
        magnitudes = (varies & ~signs).bit_count()
        for lane in range(slots):
            used = reduce(or_, words) >> lane * (bits + 1) & 2**bits - 1
            reach += used.bit_length()
            span += used.bit_length() - max(0, (used & -used).bit_length() - 1)
    if len(words) * width > BLOCK_BITS:
        return WeightRom(varies.bit_count(), magnitudes, used_lanes, trees, reach, span, 0)
    columns = set(_columns(words, width)) - {0, 2 ** len(words) - 1}
    luts = tables(words, width)
    return WeightRom(len(columns), magnitudes, used_lanes, trees, reach, span, luts)


def _columns(words: Sequence[int], width: int) -> list[int]:
    """Every bit of a ROM as a number, with bit r that of word r."""
    return [sum((word >> bit & 1) << row for row, word in enumerate(words)) for bit in range(width)]


def tables(words: Sequence[int], width: int) -> int:
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

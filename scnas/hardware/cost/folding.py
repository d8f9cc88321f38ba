"""Sizes that only folded layers have, and the block RAMs that a memory takes.

Letters: N layers of all networks in a batch.
"""

from dataclasses import dataclass

import numpy as np

from scnas.hardware.circuit import shared
from scnas.hardware.cost.structure import SHORT, Structure, bits_of
from scnas.hardware.targets import FAMILIES


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
    states_in_logic: np.ndarray  # LUT RAM, or registers on a family without
    thresholds_in_block: np.ndarray
    banks: np.ndarray  # address bits that choose between block RAMs of the weights
    rows: np.ndarray  # of block RAMs, one above the other, that hold the weights


def folding_of(x: Structure, family: str) -> Folding:
    groups, each = np.ceil(x.taps / np.maximum(1, x.lanes)), x.n_out // x.units
    depth = each * groups
    word = np.where(x.lfsr, 10, np.where(x.length <= 2, x.length + 1, np.log2(x.length) + 2))
    # words of state besides the membrane
    second = x.fires * ((x.adapts | x.quadratic & ~x.derived) + x.derived_words)
    state = x.fires * x.word * (1 + second) + x.fires * (x.refractory > 0) * bits_of(x.refractory)
    state = state + x.last * np.where(x.fires, bits_of(x.timesteps), x.score_width)
    counters = [(last > 0) * bits_of(last) for last in (groups - 1, depth - 1, each - 1)]
    memory = x.folded & (each > 1)
    in_block = each * state > shared.BLOCK_BITS
    if not FAMILIES[family].lut_ram:  # yosys takes a block where it saves 64 registers
        in_block = in_block | (each * state > 1 + 64 * block_shapes(state, each, family)[0])
    rom_in_logic = x.folded & (depth * x.lanes * x.units * word <= shared.BLOCK_BITS)
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
        thresholds_in_block=x.folded & x.fires & (each * x.word > shared.BLOCK_BITS),
        banks=np.ceil(np.log2(rows)),
        rows=rows,
    )


def block_shapes(width: np.ndarray, depth: np.ndarray, family: str) -> tuple[np.ndarray, np.ndarray]:
    """Block RAMs of a memory of `depth` words of `width` bits, and how many lie one above the other.

    As yosys' memory_libmap does it: a block of d words holds a memory that is deeper as
    ceil(depth / d) words side by side, and all of these bits share blocks. The shape that takes the
    fewest blocks is used, and of two the deeper.
    """
    shapes = FAMILIES[family].bram_shapes
    rows = np.array([np.ceil(depth / d) for _, d in shapes])
    blocks = np.array([np.ceil(r * width / w) for r, (w, _) in zip(rows, shapes, strict=True)])
    best = np.argmin(blocks + 1e-6 * rows, axis=0)
    return np.take_along_axis(blocks, best[None], 0)[0], np.maximum(
        1, np.take_along_axis(rows, best[None], 0)[0]
    )

"""How many of each circuit block every layer needs, and what a block costs by hand on each family.

Letters: N layers of all networks in a batch, W bits of a word.
"""

from collections.abc import Mapping

import numpy as np

from scnas.hardware import schedule
from scnas.hardware.cost.folding import block_shapes, folding_of
from scnas.hardware.cost.structure import SHORT, Structure, bits_of
from scnas.hardware.targets import FAMILIES, ByFamily, Family


def registers(x: Structure, family: str) -> np.ndarray:
    """Flip-flops of every layer after synthesis, [N]; those of the top are with its ends."""
    f, lut_ram = folding_of(x, family), FAMILIES[family].lut_ram
    streams = x.length > 1
    generator = np.where(x.lfsr, 16 + streams * bits_of(x.length - 1), np.log2(x.length))
    noise = 16 * (x.fires & x.noisy)
    whole = x.last & ~x.fires & (x.saturating < 0.5)  # sums go straight into the scores
    scan = x.last * ((x.timesteps > 1) * bits_of(x.timesteps - 1) + 1)
    second = x.fires * (x.adapts * x.word + x.quadratic * ((~x.derived + x.derived_words) * x.word + 1))
    rests = (x.refractory > 0) * np.where(
        x.quadratic,
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
    staged = x.folded & (x.lanes > schedule.STAGED)
    folded = (
        (4 + staged) + (1 + staged) * (x.length * f.groups > 1) - x.units * x.unseen_bits + ~x.first
        + generator + 16 * x.lfsr + noise + f.ring - x.ring_idle + x.delay_bits + f.counters
        + x.units * np.minimum(bits_of(x.lanes) + 1, x.total_bits) + x.stage_bits
        + x.units * x.total_bits * (1 + (x.length * f.groups > 1))
        + f.rom_in_logic * x.rom_bits + x.spike_bits + f.banks
        + scan + score_shown
        + x.units * ~f.states_in_block * f.state  # the one that is read
        + (0 if lut_ram else f.states_in_logic * x.n_out * f.state)
    )  # fmt: skip
    top = 3 + 1 + (x.timesteps > 1) * bits_of(x.timesteps - 1) + x.waits * bits_of(x.period - 1)
    top = x.first * (top + np.where(x.folded, 0, x.inputs_used))
    top = top + (x.byte_clocks > 0) * (x.byte_registers + 1 + _byte_counter(x))
    top = top + x.last * (2 * bits_of(x.n_out - 1) + 1) + score_shown
    return np.where(x.folded, folded, parallel) + top


def _byte_counter(x: Structure) -> np.ndarray:
    """Bits of the counter of the bytes of a step."""
    return (x.byte_clocks > 1) * bits_of(x.byte_clocks - 1)


def blocks(x: Structure, family: str) -> dict[str, np.ndarray]:
    """How many of each logic block every layer needs, [N] each. What a block is counted in: its comment."""
    f, lut_ram, trims = folding_of(x, family), FAMILIES[family].lut_ram, FAMILIES[family].trims_chains
    wired, folded, W, n = ~x.folded, x.folded, x.word, x.live
    whole = x.last & ~x.fires & wired & (x.saturating < 0.5)
    leaky, izhikevich = x.fires & ~x.quadratic, x.fires & x.quadratic & ~x.derived
    stochastic, homeostatic = x.fires & x.noisy, x.fires & x.adapts
    units = np.where(folded, x.units, n)
    difference = np.minimum(bits_of(x.lanes) + 1, x.total_bits)  # of both signs of the lanes
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
        "saturated_bits": x.saturating * W * x.units,
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
        "refractory_bits": x.fires * units * (x.refractory > 0) * bits_of(x.refractory),
        # parallel: readout
        "score_bits": wired * x.score_bits,
        "scan_bits": wired * x.last * n * x.score_width,
        # registers that have no logic before them
        "plain_registers": (x.first & wired) * x.inputs_used + x.delay_bits
        + x.spike_bits + x.byte_registers,
        # folded
        "lanes": folded * x.lanes_used * 1.0,  # those without a weight are never on
        # of the lanes' comparators
        "lane_bits": folded * (x.lane_span if trims else (magnitude > SHORT) * x.lane_reach),
        "short_lane_bits": folded * (not trims) * (magnitude <= SHORT) * x.lane_reach,
        "weight_bits": folded * x.magnitude_columns,  # of all lanes, that are no constants
        "bank_bits": folded * (f.rows - 1) * x.rom_bits,  # chosen from block RAMs above each other
        "lane_words": folded * x.lane_words,
        "lane_adder_bits": folded * (x.lane_adder_bits + x.units * difference * (difference > SHORT)),
        "lane_short_bits": folded * (x.lane_short_bits + x.units * difference * (difference <= SHORT)),
        "ring_bits": folded * (f.ring - x.ring_idle),
        "turning_bits": folded * (f.groups > 1) * (f.ring - x.ring_idle),
        "counter_bits": folded * f.counters,
        "long_counter_bits": folded * f.long_counters,
        "rom_luts": f.rom_in_logic * x.rom_luts,
        "folded_total_bits": folded * x.units * x.total_bits,
        "threshold_luts": folded * ~f.thresholds_in_block * x.threshold_luts,
        "state_bits": folded * x.units * f.state,
        # LUT RAM of 16 words of 4 bits, or registers
        "logic_state_bits": f.states_in_logic * (
            x.units * 4 * np.ceil(f.state / 4) * np.ceil(f.each / 16) if lut_ram else f.state * n
        ),
        "datapath_bits": folded * leaky * units * W,
        "folded_driven_bits": folded * units * x.driven_bits,
        "folded_leak_bits": folded * leaky * units * W * (x.spread + more_gain),
        "folded_noise_bits": folded * stochastic * units * W * x.noise,
        "folded_adaptation_bits": folded * homeostatic * units * W * (1 + x.decay),
        "folded_izhikevich_bits": folded * izhikevich * units * W * (1 + products),
        "folded_square_bits": folded * izhikevich * units * W * W,
        # of datapaths that are derived
        "derived_adder_bits": x.derived_adder_bits * 1.0,
        "derived_digit_bits": x.derived_digit_bits * 1.0,
        "derived_product_bits": x.derived_product_bits * 1.0,
        "derived_choice_bits": x.derived_choice_bits * 1.0,
        # both
        "lfsr": x.lfsr * np.where(folded, 2.2, 1.0) + stochastic,  # one that can go back is twice as large
        "generator_bits": (x.length > 1) * np.log2(x.length),
        "step_bits": (x.first + x.last) * (x.timesteps > 1) * bits_of(x.timesteps - 1)
        + x.waits * bits_of(x.period - 1) + (x.byte_clocks > 0) * (2 + _byte_counter(x)),
        "argmax_bits": x.last * (x.score_width + 2 * bits_of(n - 1)),
        "layers": np.ones(len(x.network)),
        "networks": x.last * 1.0,
    }  # fmt: skip


def memories(x: Structure, family: str) -> np.ndarray:
    """Block RAMs of every layer, [N]: weights, states and thresholds of folded layers."""
    f = folding_of(x, family)
    total = np.zeros(len(x.network))
    for used, width, depth in (
        (x.folded & ~f.rom_in_logic & (f.address > 1), x.rom_bits, f.address),
        (x.units * f.states_in_block, f.state, f.each),
        (x.units * f.thresholds_in_block, x.word, f.each),
    ):
        total = total + used * block_shapes(width, depth, family)[0]
    return total


def multipliers(x: Structure, family: str) -> np.ndarray:
    """Multiplier blocks of every layer, [N]."""
    side, spare = FAMILIES[family].multiplier_bits, FAMILIES[family].multiplier_spare
    if side is None:
        return np.zeros(len(x.network))
    word = x.word - spare
    known = x.products * np.ceil((word + 1) / side) + x.squares * np.ceil(word / side) * np.ceil(word / 18)
    return ~x.derived * known + x.derived_multipliers


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
    "derived_adder_bits": 0.6,  # these four: of 13 designs with invented neurons, experiments/derived.md
    "derived_digit_bits": 1.2,
    "derived_product_bits": 2.4,
    "derived_choice_bits": 1.5,
    "lfsr": 27.0,
    "generator_bits": 1.0,
    "step_bits": 1.5,
    "argmax_bits": 2.0,
    "layers": 5.0,
    "networks": 10.0,
}


def _prior(family: Family) -> dict[str, float]:
    """Logic per block by hand: the table, and what the family's logic does otherwise."""
    figures = {**LUT4, **family.figures}
    if family.lut_inputs == 4:
        return figures
    # A LUT6 holds two LUT5 that share inputs, and a carry chain takes two operands of three inputs.
    return {n: figure * (1.0 if "bits" in n else 0.65) for n, figure in figures.items()}


PRIOR: Mapping[str, Mapping[str, float]] = ByFamily(_prior)

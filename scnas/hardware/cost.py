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
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from scnas.hardware import energy, schedule, structure, targets, timing, verilog
from scnas.hardware.structure import (
    HOMEOSTATIC,
    IZHIKEVICH,
    SHORT,
    STOCHASTIC,
    Structure,
    bits_of,
    block_shapes,
    folding_of,
)
from scnas.hardware.targets import Target
from scnas.snn.network import Network
from scnas.space import Architecture

BUDGETS = ("luts", "ffs", "brams", "dsps", "latency_us")


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


# -- blocks: how many of each circuit a layer needs ----------------------------------------------


def _registers(x: Structure, family: str) -> np.ndarray:
    """Flip-flops of every layer after synthesis, [N]; those of the top are with its ends."""
    f = folding_of(x, family)
    streams = x.length > 1
    generator = np.where(x.lfsr, 16 + streams * bits_of(x.length - 1), np.log2(x.length))
    noise = 16 * (x.fires & (x.neuron == STOCHASTIC))
    whole = x.last & ~x.fires & (x.saturating < 0.5)  # sums go straight into the scores
    scan = x.last * ((x.timesteps > 1) * bits_of(x.timesteps - 1) + 1)
    second = x.fires * ((x.neuron == HOMEOSTATIC) * x.word + (x.neuron == IZHIKEVICH) * (x.word + 1))
    rests = (x.refractory > 0) * np.where(
        x.neuron == IZHIKEVICH,
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
        + (f.states_in_logic * x.n_out * f.state if family == "ice40" else 0)
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
    f = folding_of(x, family)
    wired, folded, W, n = ~x.folded, x.folded, x.word, x.live
    whole = x.last & ~x.fires & wired & (x.saturating < 0.5)
    leaky = x.fires & (x.neuron != IZHIKEVICH)
    stochastic, homeostatic, izhikevich = (
        x.fires & (x.neuron == model) for model in (STOCHASTIC, HOMEOSTATIC, IZHIKEVICH)
    )
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
        # of the lanes' comparators; ice40_opt cuts a carry chain at both ends
        "lane_bits": folded * (x.lane_span if family == "ice40" else (magnitude > SHORT) * x.lane_reach),
        "short_lane_bits": folded * (family != "ice40") * (magnitude <= SHORT) * x.lane_reach,
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
        # registers on iCE40, elsewhere LUT RAM of 16 words of 4 bits
        "logic_state_bits": f.states_in_logic * (
            f.state * n if family == "ice40" else x.units * 4 * np.ceil(f.state / 4) * np.ceil(f.each / 16)
        ),
        "datapath_bits": folded * leaky * units * W,
        "folded_driven_bits": folded * units * x.driven_bits,
        "folded_leak_bits": folded * leaky * units * W * (x.spread + more_gain),
        "folded_noise_bits": folded * stochastic * units * W * x.noise,
        "folded_adaptation_bits": folded * homeostatic * units * W * (1 + x.decay),
        "folded_izhikevich_bits": folded * izhikevich * units * W * (1 + products),
        "folded_square_bits": folded * izhikevich * units * W * W,
        # both
        "lfsr": x.lfsr * np.where(folded, 2.2, 1.0) + stochastic,  # one that can go back is twice as large
        "generator_bits": (x.length > 1) * np.log2(x.length),
        "step_bits": (x.first + x.last) * (x.timesteps > 1) * bits_of(x.timesteps - 1)
        + x.waits * bits_of(x.period - 1) + (x.byte_clocks > 0) * (2 + _byte_counter(x)),
        "argmax_bits": x.last * (x.score_width + 2 * bits_of(n - 1)),
        "layers": np.ones(len(x.network)),
        "networks": x.last * 1.0,
    }  # fmt: skip


def _memories(x: Structure, family: str) -> np.ndarray:
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


def _multipliers(x: Structure, family: str) -> np.ndarray:
    """Multiplier blocks of every layer, [N]: synth_ice40 takes none without -dsp."""
    if family == "ice40":
        return np.zeros(len(x.network))
    side = {"ecp5": 18, "xilinx": 25}[family]  # bits of the wider operand; the other one has 18
    return x.products * np.ceil((x.word + 1) / side) + x.squares * np.ceil(x.word / side) * np.ceil(
        x.word / 18
    )


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
    folding = folding_of(x, chip.family)
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
    return _costs(structure.of_architectures(architectures, input_clocks), latencies, chip, figures)


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
        network.timesteps, steps, mappings, network.n_classes, network.readout, input_clocks,
        [layer.lanes for layer in network.layers],
    )  # fmt: skip
    x = structure.of_network(network, activity, input_clocks)
    return _costs(x, [clocks], chip, figures, delays, trained=True)[0]


def logic_blocks(network: Network, target: str | Target) -> dict[str, float]:
    """Blocks of the whole network, as `FIGURES` counts them: what a fit to synthesis needs."""
    chip = _chip(target)
    x = structure_of(network, chip)
    return {name: float(count.sum()) for name, count in blocks(x, chip.family).items()}


def structure_of(network: Network, target: str | Target) -> Structure:
    """What the cost of `network` on `target` is worked out from."""
    return structure.of_network(network, None, _input_clocks(network.n_inputs, _chip(target)))


def slow_paths(network: Network, target: str | Target) -> dict[str, np.ndarray]:
    """Features of every path of every layer of the network, [N] each: what a fit of its clock needs."""
    chip = _chip(target)
    x = structure_of(network, chip)
    return timing.features(x, folding_of(x, chip.family))


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
        schedule.step_clocks(mapping, length, n_in, n_out, delay + 1, lanes, units)
        for mapping, length, n_in, n_out, delay, lanes, units in zip(
            a.mappings, a.bitstream_lengths, ends, a.layer_widths, a.delay_ranges, a.lanes, a.units,
            strict=False,
        )
    ]  # fmt: skip
    return schedule.latency_clocks(
        a.timesteps, steps, a.mappings, a.n_outputs, a.readout, input_clocks, a.lanes
    )


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

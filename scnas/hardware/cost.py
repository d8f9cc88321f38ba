"""What a network costs on a chip: LUT, FF, block RAM, clocks and energy, before and after training.

One model, two readers. `estimate` knows the genes only and puts expected values where training will
decide; `measure` reads the same structure off the weights. Both go through `_blocks`, so they cannot
drift apart.

    architectures or network -> _Layers (one row per layer) -> _blocks (how many of each circuit
    block) -> figures per block of the target's family (FIGURES) -> sums per network

Every figure is modelled. At this stage LUT, FF and BRAM are uncalibrated: analytic counts set by a
few published and measured block figures, not fitted to synthesis. Only `latency_clocks` is exact.

Letters: N layers of all networks in a batch, T timesteps, L clocks of a stream, M largest magnitude,
W bits of a membrane, D largest delay.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple

import numpy as np

from scnas.contract import NEURONS
from scnas.hardware import schedule, targets
from scnas.hardware.targets import Target
from scnas.snn.network import Network, count_bound
from scnas.space import Architecture

BUDGETS = ("luts", "ffs", "brams", "latency_us")
DEFAULT_ACTIVITY = 0.25  # share of inputs that spike in a step, where nothing was observed


class Cost(NamedTuple):
    """Modelled cost of one network on one target.

    luts: of the target's `lut_unit`. ffs, brams: as the chip counts them.
    latency_clocks: first input step accepted to result, exact. latency_us: the same at clock_mhz.
    energy_nj: total energy of one inference, static power during the latency included;
    energy_low_nj..energy_high_nj: what the constants of the energy model leave open.
    energy_label: `calibrated`, `extrapolated` or `uncalibrated`, see Target.
    """

    luts: int
    ffs: int
    brams: int
    latency_clocks: int
    latency_us: float
    energy_nj: float
    energy_low_nj: float
    energy_high_nj: float
    energy_label: str
    clock_mhz: float


# -- structure: what the cost depends on ---------------------------------------------------------


@dataclass(frozen=True)
class _Layers:
    """Structure of all layers of a batch of networks; every field is an array [N] over layers.

    network: index of the layer's network, ascending. first, last: ends of a network.
    neuron: index into NEURONS, fires: whether there are neurons (else the layer only integrates).
    synapses: non-zero weights. magnitudes: distinct non-zero |w| in the layer.
    bound: largest |count| a step can reach. taps: inputs times delays in use.
    delay_bits: flip-flops of the delay line, one per input and step up to its longest delay in use.
    gain_terms, leak_terms, noise_terms, decay_terms, recovery_terms: signed binary digits of the
    constants (1 for a power of two, 0 for zero). refractory: steps. spikes: input spikes per step.
    """

    network: np.ndarray
    first: np.ndarray
    last: np.ndarray
    n_in: np.ndarray
    n_out: np.ndarray
    neuron: np.ndarray
    fires: np.ndarray
    lfsr: np.ndarray
    length: np.ndarray
    folded: np.ndarray
    lanes: np.ndarray
    synapses: np.ndarray
    magnitudes: np.ndarray
    bound: np.ndarray
    taps: np.ndarray
    delay_bits: np.ndarray
    gain_terms: np.ndarray
    leak_terms: np.ndarray
    noise_terms: np.ndarray
    decay_terms: np.ndarray
    recovery_terms: np.ndarray
    refractory: np.ndarray
    spikes: np.ndarray
    timesteps: np.ndarray
    word: np.ndarray
    fraction: np.ndarray


_NEURON_INDEX = {name: i for i, name in enumerate(NEURONS)}
_LIF, _STOCHASTIC, _HOMEOSTATIC, _IZHIKEVICH = (
    _NEURON_INDEX[n] for n in ("lif", "stochastic_lif", "homeostatic_lif", "izhikevich")
)


def _layers_of_architectures(architectures: Sequence[Architecture]) -> _Layers:
    """Expected structure: density's share of synapses, delays spread evenly over 0..D."""
    flat = chain.from_iterable
    depth = np.array([len(a.layer_widths) for a in architectures])
    total = int(depth.sum())

    def per_layer(values: Iterable, dtype=np.int64) -> np.ndarray:
        return np.fromiter(flat(values), dtype, total)

    def per_network(values: Iterable, dtype=np.int64) -> np.ndarray:
        return np.repeat(np.fromiter(values, dtype, len(depth)), depth)

    network = np.repeat(np.arange(len(depth)), depth)
    last = np.zeros(total, bool)
    last[np.cumsum(depth) - 1] = True
    first = np.roll(last, 1)
    n_out = per_layer(a.layer_widths for a in architectures)
    n_in = np.where(first, per_network(a.n_inputs for a in architectures), np.roll(n_out, 1))
    membrane = per_network((a.readout == "membrane" for a in architectures), bool)
    neuron = per_layer((_NEURON_INDEX[n] for n in a.neuron_types) for a in architectures)
    lfsr = per_layer(((g == "lfsr" for g in a.generators) for a in architectures), bool)
    length = per_layer(a.bitstream_lengths for a in architectures)
    delay = per_layer(a.delay_ranges for a in architectures)
    density = per_layer((a.densities for a in architectures), np.float64)
    synapses = np.maximum(1, np.rint(density * n_in * n_out))
    top = np.where(lfsr, 256, length)
    fan_in = synapses / n_out
    ones = np.zeros(total)
    return _Layers(
        network=network,
        first=first,
        last=last,
        n_in=n_in,
        n_out=n_out,
        neuron=neuron,
        fires=~(last & membrane),
        lfsr=lfsr,
        length=length,
        folded=per_layer(((m == "folded" for m in a.mappings) for a in architectures), bool),
        lanes=per_layer(a.lanes for a in architectures),
        synapses=synapses,
        magnitudes=top * -np.expm1(synapses * np.log1p(-1 / (top + 1))),  # drawn evenly from M
        bound=np.maximum(1, fan_in * np.where(lfsr, length, (length + 1) / 2)),
        taps=n_in * (delay + 1),
        delay_bits=n_in * delay * (synapses / (synapses + n_in)),  # longest of synapses / n_in delays
        gain_terms=ones + 1,
        leak_terms=ones + 1,
        noise_terms=ones + 1,
        decay_terms=ones + 1,
        recovery_terms=ones + 6,  # a_k = 0.02 and b_k = 0.2 at F = 8
        refractory=np.zeros(total),
        spikes=DEFAULT_ACTIVITY * n_in,
        timesteps=per_network(a.timesteps for a in architectures),
        word=per_network(a.word for a in architectures),
        fraction=per_network(a.fraction for a in architectures),
    )


def _layers_of_network(network: Network, activity: Sequence[float] | None) -> _Layers:
    """The structure that the weights of `network` have."""
    if activity is None:
        activity = [DEFAULT_ACTIVITY * layer.n_in for layer in network.layers]
    if len(activity) != len(network.layers):
        raise ValueError(
            f"activity must have one entry per layer ({len(network.layers)}), got {len(activity)}"
        )
    for i, (spikes, layer) in enumerate(zip(activity, network.layers, strict=True)):
        if not 0 <= spikes <= layer.n_in:
            raise ValueError(f"activity[{i}] must be 0 to {layer.n_in} spikes per step, got {spikes}")
    rows = []
    for i, layer in enumerate(network.layers):
        k = layer.constants
        longest = np.where(layer.weights != 0, layer.delays, 0).max(axis=1)
        rows.append(
            dict(
                network=0,
                first=i == 0,
                last=i == len(network.layers) - 1,
                n_in=layer.n_in,
                n_out=layer.n_out,
                neuron=_NEURON_INDEX[layer.neuron],
                fires=network.fires(i),
                lfsr=layer.generator == "lfsr",
                length=layer.length,
                folded=layer.mapping == "folded",
                lanes=layer.lanes,
                synapses=layer.n_synapses,
                magnitudes=np.count_nonzero(np.unique(np.abs(layer.weights))),
                bound=max(1, count_bound(layer)),
                taps=layer.n_in * max(1, len(layer.delays_in_use)),
                delay_bits=longest.sum(),
                gain_terms=_signed_digits(k["gain_k"]),
                leak_terms=_signed_digits(k["leak_k"]),
                noise_terms=_signed_digits(k["noise_k"]),
                decay_terms=_signed_digits(k["decay_k"]),
                recovery_terms=_signed_digits(k["a_k"]) + _signed_digits(k["b_k"]),
                refractory=k["refractory"],
                spikes=activity[i],
                timesteps=network.timesteps,
                word=network.word,
                fraction=network.fraction,
            )
        )
    return _Layers(**{name: np.array([row[name] for row in rows]) for name in rows[0]})


def _signed_digits(k: int) -> int:
    """Non-zero digits of k in the non-adjacent form: shifted terms of a product by k."""
    k = abs(int(k))
    return (k ^ 3 * k).bit_count()


# -- blocks: how many of each circuit a layer needs ----------------------------------------------


def _bits(n: np.ndarray) -> np.ndarray:
    """Bits of an unsigned number up to n, as a real number that grows smoothly with n."""
    return np.log2(1 + n)


def _blocks(x: _Layers) -> dict[str, np.ndarray]:
    """Blocks that use logic, [N] each. What a block is counted in stands beside it."""
    units = np.where(x.folded, 1, x.n_out)  # neuron datapaths and popcounts
    top = np.where(x.lfsr, 256, x.length)
    magnitude_bits = np.where(x.lfsr, 8, np.log2(x.length))  # of the compared number R
    groups = np.ceil(x.taps / np.maximum(1, x.lanes))
    score_bits = _bits(x.bound * x.timesteps) + 1 + x.fraction - np.log2(x.length)
    drive_bits = np.minimum(_bits(x.bound) + 1 + x.fraction - np.log2(x.length), x.word)
    lif_like = x.fires & (x.neuron != _IZHIKEVICH)
    stochastic = x.fires & (x.neuron == _STOCHASTIC)
    homeostatic = x.fires & (x.neuron == _HOMEOSTATIC)
    izhikevich = x.fires & (x.neuron == _IZHIKEVICH)
    leaky = lif_like & (x.neuron >= _LIF)
    adders = (
        lif_like * (2 + x.gain_terms)  # threshold, reset and saturation, membrane; gain shifts wires
        + leaky * x.leak_terms
        + stochastic * 1.0
        + homeostatic * (2 + x.decay_terms)
        + izhikevich * (7 + x.gain_terms + x.recovery_terms)
    )
    states = 1 + homeostatic + izhikevich  # words of state per neuron
    return {
        # stream bits: one comparator per distinct magnitude, shared by the whole layer (parallel),
        # one per lane (folded)
        "stream_bits": np.where(x.folded, x.lanes, np.minimum(x.magnitudes, top)) * magnitude_bits,
        "counter": ~x.lfsr * np.log2(x.length),  # bits of a Sobol generator
        "lfsr": x.lfsr * 1.0,
        "noise_lfsr": stochastic * 1.0,
        # parallel: AND and popcount per synapse that exists
        "synapses": ~x.folded * x.synapses,
        # folded: AND, sign and popcount per lane, a multiplexer that brings every tap to its lane
        "lanes": x.folded * x.lanes * 1.0,
        "tap_selects": x.folded * np.maximum(0, x.taps - x.lanes) * 1.0,
        "group_bits": x.folded * (_bits(groups) + _bits(x.n_out)),
        "folded_spikes": x.folded * x.fires * x.n_out * 1.0,
        "folded_state_bits": x.folded * x.n_out * np.where(x.fires, x.word * states, 0),
        "folded_score_bits": x.folded * ~x.fires * x.n_out * score_bits,
        "count_bits": units * (_bits(x.bound) + 1),
        "adder_bits": units * x.word * adders + units * np.where(x.fires, drive_bits, 0),
        "square_bits": izhikevich * units * x.word * x.word,
        "state_bits": ~x.folded * x.fires * x.n_out * x.word * states,
        "refractory_bits": x.fires * units * _bits(x.refractory),
        "delay_bits": x.delay_bits * 1.0,
        "score_bits": ~x.folded * x.last * x.n_out * np.where(x.fires, _bits(x.timesteps), score_bits),
        "argmax_bits": x.last * (x.n_out - 1) * np.where(x.fires, _bits(x.timesteps), score_bits),
        "layers": np.ones(len(x.network)),
        "step_bits": x.last * _bits(x.timesteps),
        "networks": x.last * 1.0,
    }


def _memory(x: _Layers, family: str) -> np.ndarray:
    """Block RAMs of the weights of folded layers, [N].

    A word holds what `lanes` taps need: sign and magnitude, or sign and stream where that is
    shorter; one word per neuron and group of taps.
    """
    magnitude = np.where(x.lfsr, 9, np.minimum(_bits(x.length), x.length))
    width = np.ceil(x.lanes * (1 + np.ceil(magnitude)))
    depth = x.n_out * np.ceil(x.taps / np.maximum(1, x.lanes))
    blocks = np.min(
        [np.ceil(width / w) * np.ceil(depth / d) for w, d in _MEMORY_SHAPES[family]],
        axis=0,
    )
    return np.where(x.folded, blocks, 0)


# Width and depth of one block RAM. iCE40: FPGA-DS-02029; ECP5: FPGA-DS-02012; 7 series: UG473.
_MEMORY_SHAPES = {
    "ice40": ((16, 256), (8, 512), (4, 1024), (2, 2048)),
    "ecp5": ((36, 512), (18, 1024), (9, 2048), (4, 4096), (2, 8192), (1, 16384)),
    "xilinx": ((72, 512), (36, 1024), (18, 2048), (9, 4096), (4, 8192), (2, 16384), (1, 32768)),
}


# -- figures of a block --------------------------------------------------------------------------

# LUT4 per block. Synthesis of a 64x32 layer of 16-bit LIF neurons with yosys gave 5,908 LUT4 dense
# and 3,592 with 30% of the weights: about 2 per synapse and 67 per neuron, which 4 adder words of 16
# bits and a count of 9 bits share out. The rest is counted by hand: one LUT per bit of an adder, a
# register beside it, a third of a LUT per compared bit. Uncalibrated.
_LUT4 = {
    "stream_bits": 1 / 3,
    "counter": 1.0,
    "lfsr": 12.0,
    "noise_lfsr": 12.0,
    "synapses": 2.0,
    "lanes": 4.0,
    "tap_selects": 0.7,
    "group_bits": 1.5,
    "folded_spikes": 1.0,
    "folded_state_bits": 0.1,
    "folded_score_bits": 0.1,
    "count_bits": 1.0,
    "adder_bits": 0.8,
    "square_bits": 1.1,
    "refractory_bits": 2.0,
    "score_bits": 1.0,
    "argmax_bits": 1.5,
    "layers": 8.0,
    "step_bits": 1.5,
    "networks": 10.0,
}
_FF = {
    "counter": 1.0,
    "lfsr": 16.0,
    "noise_lfsr": 16.0,
    "group_bits": 1.0,
    "folded_spikes": 1.0,
    "folded_state_bits": 1.0,
    "folded_score_bits": 1.0,
    "count_bits": 1.0,
    "state_bits": 1.0,
    "refractory_bits": 1.0,
    "delay_bits": 1.0,
    "score_bits": 1.0,
    "argmax_bits": 0.2,
    "layers": 3.0,
    "step_bits": 1.0,
    "networks": 4.0,
}
# A flip-flop without logic before it takes a logic cell of its own on iCE40.
_ICE40_CELLS = _LUT4 | {"delay_bits": 1.0}
# A LUT6 holds two LUT5 that share inputs: a full adder pair instead of one, 4:1 multiplexers.
_LUT6 = {name: figure * (0.65 if name != "adder_bits" else 1.0) for name, figure in _LUT4.items()}
FIGURES: Mapping[str, Mapping[str, Mapping[str, float]]] = {
    "ice40": {"luts": _ICE40_CELLS, "ffs": _FF},
    "ecp5": {"luts": _LUT4, "ffs": _FF},
    "xilinx": {"luts": _LUT6, "ffs": _FF},
}


# -- energy --------------------------------------------------------------------------------------

# P = P_static + f * (E_clk + e_toggle * toggles per clock). E_clk and e_toggle were measured on the
# UP5K (github.com/tinyvision-ai-inc/ice40_power): clock and base 53 uW per MHz, 0.20 pJ per toggle
# with clock load and routing. They are used for every chip; the label and the interval say how
# far they are carried.
E_CLOCK_PJ = 53.0
E_TOGGLE_PJ = 0.20
# Factors on static and on dynamic energy: our judgement, not a measurement. Dynamic: the activity
# model alone is uncertain by half; another part of the same process doubles that; another process
# doubles it again. Static: part spread and temperature.
_INTERVAL = {
    "calibrated": ((0.8, 1.3), (0.6, 1.6)),
    "extrapolated": ((0.7, 1.5), (0.4, 2.5)),
    "uncalibrated": ((0.5, 2.0), (0.2, 5.0)),
}


def _toggles(x: _Layers) -> np.ndarray:
    """Expected net toggles of each layer in one inference, [N].

    A stream of a weight spread evenly over 0..M changes in half of the clocks (sobol) or a third
    (lfsr); a synapse passes it on while its input spikes, and every change runs through about two
    adders of the popcount. Neurons change once a step, a quarter of their bits. Uncalibrated.
    """
    rate = np.where(x.lfsr, 1 / 3, 1 / 2)
    active = x.spikes / x.n_in
    fan_in = x.synapses / x.n_out
    blocks = _blocks(x)
    groups = np.ceil(x.taps / np.maximum(1, x.lanes))
    clocks = np.where(x.folded, x.n_out * x.length * groups, x.length)  # per step
    operands = np.where(x.folded, x.lanes * active, x.synapses * active)
    busy = np.minimum(1, np.where(x.folded, x.lanes, fan_in) * active)  # a count that moves
    units = np.where(x.folded, 1, x.n_out)
    updates = np.where(x.folded, x.n_out, 1)  # of a datapath in a step
    per_clock = (
        operands * rate * 3
        + np.where(x.folded, x.lanes, np.minimum(x.magnitudes, x.synapses)) * rate
        + units * busy * 2.5
        + np.where(x.lfsr, 8, 2)
        + np.where(x.folded, x.lanes * 2.0 + 4, 0)  # the weight word and its address
    )
    per_step = (
        0.25 * updates * (blocks["adder_bits"] + blocks["square_bits"])
        + 0.25 * x.n_out * x.word * x.fires
        + 2 * active * (1 - active) * (x.delay_bits + x.n_in)
        + 0.3 * (blocks["score_bits"] + blocks["folded_score_bits"])
        + blocks["noise_lfsr"] * 8
    )
    return x.timesteps * (clocks * per_clock + per_step)


# -- the model -----------------------------------------------------------------------------------


def _costs(x: _Layers, latencies: Sequence[int], chip: Target) -> list[Cost]:
    """Cost of every network in the batch."""
    n = len(latencies)
    blocks = _blocks(x)
    figures = FIGURES[chip.family]

    def total(values: np.ndarray) -> np.ndarray:
        return np.bincount(x.network, weights=values, minlength=n)

    def count(resource: str) -> list[int]:
        figure = figures[resource]
        return np.ceil(total(sum(k * blocks[name] for name, k in figure.items())) - 1e-6).astype(int).tolist()

    clocks = np.array(latencies, dtype=np.int64)
    latency_us = clocks / chip.clock_mhz
    static = chip.static_mw * latency_us
    dynamic = (clocks * E_CLOCK_PJ + total(_toggles(x)) * E_TOGGLE_PJ) * 1e-3
    (static_low, static_high), (low, high) = _INTERVAL[chip.energy_label]
    columns = (
        count("luts"),
        count("ffs"),
        total(_memory(x, chip.family)).astype(int).tolist(),
        clocks.tolist(),
        latency_us.tolist(),
        (static + dynamic).tolist(),
        (static_low * static + low * dynamic).tolist(),
        (static_high * static + high * dynamic).tolist(),
        [chip.energy_label] * n,
        [chip.clock_mhz] * n,
    )
    return list(map(Cost, *columns))


def estimate_many(architectures: Sequence[Architecture], target: str | Target) -> list[Cost]:
    """Modelled cost of every architecture before training, in order. See `estimate`."""
    if not architectures:
        return []
    return _costs(_layers_of_architectures(architectures), list(map(_latency, architectures)), _chip(target))


def estimate(architecture: Architecture, target: str | Target) -> Cost:
    """Modelled cost of `architecture` on `target` before it is trained.

    Takes `kept_synapses` as the non-zero weights, all D + 1 delays as used, weights and delays spread
    evenly, constants as powers of two, no refractory steps, and DEFAULT_ACTIVITY. LUT, FF, BRAM and
    energy are uncalibrated; the clocks are exact if training uses every delay.
    """
    return estimate_many([architecture], target)[0]


def measure(network: Network, target: str | Target, activity: Sequence[float] | None = None) -> Cost:
    """Modelled cost of a trained network on `target`, from the structure its weights really have.

    activity: mean input spikes per step of each layer, 0..n_in; DEFAULT_ACTIVITY * n_in if None.
    LUT, FF, BRAM and energy are uncalibrated; the clocks are exact.
    """
    steps = [
        schedule.step_clocks(
            layer.mapping,
            layer.length,
            layer.n_in,
            layer.n_out,
            max(1, len(layer.delays_in_use)),
            layer.lanes,
        )
        for layer in network.layers
    ]
    mappings = [layer.mapping for layer in network.layers]
    clocks = schedule.latency_clocks(network.timesteps, steps, mappings, network.n_classes, network.readout)
    return _costs(_layers_of_network(network, activity), [clocks], _chip(target))[0]


def _latency(a: Architecture) -> int:
    ends = (a.n_inputs, *a.layer_widths)
    steps = [
        schedule.step_clocks(mapping, length, n_in, n_out, delay + 1, lanes)
        for mapping, length, n_in, n_out, delay, lanes in zip(
            a.mappings, a.bitstream_lengths, ends, a.layer_widths, a.delay_ranges, a.lanes, strict=False
        )
    ]
    return schedule.latency_clocks(a.timesteps, steps, a.mappings, a.n_outputs, a.readout)


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

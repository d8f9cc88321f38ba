"""Which designs a calibration builds: networks drawn from a space, in a plan that can be repeated."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from scnas.randomness import rng
from scnas.snn import derive
from scnas.snn.models import CONSTANTS, model_of
from scnas.snn.network import Layer, Network
from scnas.snn.streams import max_weight
from scnas.space import Architecture

# Designs with these remainders by 9 are never used in a fit: a third of a plan, of every depth.
HELD_OUT = (2, 4, 6)
# First number of plan 1. Rows with lower numbers are of an earlier plan, whose errors were looked at while
# the features were chosen: all of those that are still true are fitted.
FIRST = 100


# LUTs per bit of a neuron, roughly.
_NEURON_SIZE = {"if": 4, "lif": 5, "stochastic_lif": 6, "homeostatic_lif": 12, "izhikevich": 50}


@dataclass(frozen=True)
class Plan:
    """What the designs of a plan may be.

    choices: gene of a layer -> what it may be. network: gene of a network -> the same. width: neurons.
    inputs: of the network, from..to. synapses: of the first layer, from..to, which sets the inputs;
    None: the inputs are drawn themselves. luts: from..to, by `_size`; a larger design shrinks until it
    keeps what was drawn for it. izhikevich_word: widest word of a network with such a neuron: a squarer
    of 16 bits takes a minute to synthesise. weight_bits: most that the weights of folded layers may take.
    """

    choices: Mapping[str, tuple]
    network: Mapping[str, tuple]
    width: tuple[int, int]
    inputs: tuple[int, int]
    synapses: tuple[int, int] | None
    luts: tuple[int, int]
    izhikevich_word: int
    weight_bits: int = 10**9


# Izhikevich neurons take minutes to synthesise: one layer in nine is enough for their few figures.
_NEURONS = ("if", "lif", "stochastic_lif", "homeostatic_lif") * 2 + ("izhikevich",)
_SMALL = Plan(  # a core synthesises ten a minute
    choices={
        "neuron_types": _NEURONS,
        "bitstream_lengths": (1, 2, 4, 8, 16, 32, 64, 128, 256),
        "delay_ranges": (0, 0, 1, 2, 4),
        "densities": (0.2, 0.4, 0.7, 1.0),
        "generators": ("sobol", "lfsr"),
        "mappings": ("parallel", "folded"),
        "lanes": (4, 8, 16, 32),
    },
    network={"timesteps": (2, 4, 8, 16), "word": (10, 12, 16), "readout": ("membrane", "spikes")},
    width=(3, 16),
    inputs=(8, 96),
    synapses=(40, 320),
    luts=(1100, 1100),
    izhikevich_word=12,
)
_LARGE = Plan(  # as large as those that a search keeps: more lanes, wider layers, images as inputs
    choices={**_SMALL.choices, "densities": (0.1, 0.25, 0.5, 1.0), "lanes": (4, 8, 16, 32, 64)},
    network={**_SMALL.network, "word": (8, 12, 16)},
    width=(4, 64),
    inputs=(16, 784),
    synapses=None,
    luts=(700, 6000),
    izhikevich_word=16,
    weight_bits=90_000,  # an HX8K holds 131,072
)
# By number, which is also the seed. The designs of plan p are numbered from 100 p.
PLANS = {1: _SMALL, 2: _SMALL, 3: _LARGE}


def plan(n: int, number: int = 1) -> list[Architecture]:
    """n architectures to build, spread like a Latin hypercube over every gene of PLANS[number].

    A third are single layers, the others whole networks of two or three layers.
    """
    ranges, draws = PLANS[number], rng(number, "plan")
    rows = 3 * n  # as many layers as could be needed

    def spread() -> np.ndarray:  # [rows] in 0..1, one in each of `rows` equal parts
        return (draws.permutation(rows) + draws.random(rows)) / rows

    columns = {gene: spread() for gene in (*ranges.choices, *ranges.network, "synapses", "width", "luts")}

    def pick(choices: tuple, gene: str, row: int) -> Any:
        return choices[int(columns[gene][row] * len(choices))]

    designs = []
    for i in range(n):
        depth, row = 1 + i % 3, 3 * i
        widths = [round(_log_between(ranges.width, columns["width"][row + j])) for j in range(depth)]
        genes: dict[str, Any] = {
            gene: [pick(choices, gene, row + j) for j in range(depth)]
            for gene, choices in ranges.choices.items()
        }
        least, most = ranges.inputs
        if ranges.synapses:
            synapses = _log_between(ranges.synapses, columns["synapses"][row])
            n_inputs = synapses / (widths[0] * genes["densities"][0])
        else:
            n_inputs = _log_between(ranges.inputs, columns["synapses"][row])
        genes["lanes"] = [
            lanes if m == "folded" else None
            for lanes, m in zip(genes["lanes"], genes["mappings"], strict=True)
        ]
        genes |= {gene: pick(choices, gene, row) for gene, choices in ranges.network.items()}
        if "izhikevich" in genes["neuron_types"]:
            genes["word"] = min(ranges.izhikevich_word, genes["word"])
        keep = _log_between(ranges.luts, columns["luts"][row])
        while True:
            design = Architecture(min(most, max(least, round(n_inputs))), tuple(widths), **genes)
            small = _size(design) <= keep and _weight_bits(design) <= ranges.weight_bits
            if small or max(widths) == ranges.width[0]:
                break
            widths = [max(ranges.width[0], round(0.8 * n)) for n in widths]
            n_inputs *= 0.9
        designs.append(design)
    return designs


def _weight_bits(a: Architecture) -> int:
    """Bits of the weight memories of the folded layers."""
    bits = 0
    for i, (taps, (_, n_out)) in enumerate(zip(a.taps, a.layer_sizes, strict=True)):
        if a.mappings[i] == "folded":
            entry = 10 if a.generators[i] == "lfsr" else a.bitstream_lengths[i].bit_length() + 1
            bits += taps * n_out * entry
    return bits


def _size(a: Architecture) -> float:
    """LUTs of a design, roughly. Not by the cost model: the plan must not change with what is learnt."""
    total = 100.0
    for i, (n_in, n_out) in enumerate(a.layer_sizes):
        neuron = (i < a.n_layers - 1 or a.readout == "spikes") * a.word * _NEURON_SIZE[a.neuron_types[i]]
        if a.mappings[i] == "parallel":
            total += n_out * (neuron + 20 + 2.5 * a.densities[i] * n_in)
        else:
            total += 130 + neuron + 9 * a.lanes[i] + 0.2 * n_out * a.word
    return total


def _log_between(ends: tuple[float, float], u: float) -> float:
    return ends[0] * (ends[1] / ends[0]) ** u


def drawn_network(architecture: Architecture, seed: int) -> Network:
    """A network such as training makes of `architecture`, with drawn weights.

    Every neuron keeps its largest of normally distributed weights, one of each sign at least; delays are
    drawn evenly, gains and leaks are powers of two, thresholds about one.
    """
    r = rng(seed, "drawn network", architecture.name)
    one, half = 2**architecture.fraction, 2 ** (architecture.word - 1)
    layers = []
    for i, (n_in, n_out) in enumerate(architecture.layer_sizes):
        neuron, generator = architecture.neuron_types[i], architecture.generators[i]
        length = architecture.bitstream_lengths[i]
        top = max_weight(generator, length)
        values = r.normal(0, 0.4, (n_in, n_out))
        order = np.argsort(-np.abs(values), axis=0)
        kept = max(2, round(architecture.densities[i] * n_in))
        rows, columns = order[:kept], np.arange(n_out)
        base = min(one, half // 4)
        weights = np.zeros((n_in, n_out), dtype=np.int32)
        magnitudes = np.clip(np.rint(np.abs(values) * top), 1, top)
        signs = np.sign(values)
        signs[rows[0], columns] = 1  # something that excites
        signs[rows[1], columns] = -1  # something that inhibits
        weights[rows, columns] = (signs * magnitudes)[rows, columns]
        delays = r.integers(0, architecture.delay_ranges[i] + 1, (n_in, n_out))
        drawn = {
            "leak_k": min(one >> int(r.integers(1, 5)), half // 2),
            "gain_k": min(one >> int(r.integers(0, 4)), half // 2),
            "noise_k": min(one >> int(r.integers(0, 4)), half // 2),
            "decay_k": one >> 3,
            "bump_k": one >> 2,
            "a_k": round(0.02 * one),
            "b_k": round(0.2 * one),
            "d_k": round(0.08 * one),
            "v_rest": max(round(-0.65 * one), -half) if neuron == "izhikevich" else 0,
            "v_reset": max(round(-0.65 * one), -half) if neuron == "izhikevich" else 0,
            "refractory": 0,
        }
        used = derive.used_constants(model_of(neuron))
        constants = {k: drawn[k] if k in used else 0 for k in CONSTANTS}
        threshold = np.clip(np.rint(base * r.uniform(0.3, 1.5, n_out)), 1, half - 1).astype(np.int32)
        seeds = r.integers(1, 2**16, 2)
        layers.append(
            Layer(
                neuron=neuron,
                generator=generator,
                length=length,
                seed=int(seeds[0]),
                noise_seed=int(seeds[1]),
                mapping=architecture.mappings[i],
                lanes=architecture.lanes[i],
                weights=weights,
                delays=delays,
                threshold=threshold,
                constants=constants,
                units=architecture.units[i],
            )
        )
    return Network(
        n_inputs=architecture.n_inputs,
        timesteps=architecture.timesteps,
        encoder="events",
        fraction=architecture.fraction,
        word=architecture.word,
        readout=architecture.readout,
        layers=tuple(layers),
    )

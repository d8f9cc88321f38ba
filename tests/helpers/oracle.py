"""The oracle: one SC-SNN inference from its network.json, by definition, in plain integers.

Too simple to be wrong rather than fast: every stream bit is generated, ANDed with its delayed spike and
counted, clock by clock; every neuron is updated in Python integers, which never overflow. It shares no code
with the package that it judges. Vectorised is one thing only: the synapses of a layer within one clock.

    python tests/helpers/oracle.py network.json samples.npz     # accuracy over the arrays x and y

Letters: T steps of an inference, t one of them; L clocks of a step; F fraction bits, so that an integer n
stands for n / 2^F; W bits of a word; M the largest weight magnitude; R(t, c) the number that the layer's
generator shows at clock c of step t; n_in, n_out the inputs and neurons of a layer.
"""

import json
import sys
from collections.abc import Iterator
from itertools import repeat
from pathlib import Path
from typing import NamedTuple

import numpy as np


class Inference(NamedTuple):
    """All that one sample does to a network. Arrays are int64 and hold one step per row."""

    scores: list[int]  # one per class
    label: int  # the lowest class with the highest score
    spikes: list[np.ndarray]  # per layer [T, n_out], 0 or 1
    membranes: list[np.ndarray]  # per layer [T, n_out], v after the step, Q(F)
    currents: list[np.ndarray]  # per layer [T, n_out], I of the step, Q(F)


class State(NamedTuple):
    """One neuron between two steps; all but `waiting` in Q(F)."""

    v: int  # membrane
    u: int  # recovery, izhikevich alone
    a: int  # adaptation of the threshold, homeostatic_lif alone
    waiting: int  # refractory steps still to come


def reversed_bits(number: int, size: int) -> int:
    """`number`, 0 to size - 1, with its log2(size) bits in reverse order; size is a power of two."""
    if size < 1 or size & (size - 1):
        raise ValueError(f"bits can be reversed in a power of two, got {size}")
    width = size.bit_length() - 1
    return sum((number >> bit & 1) << (width - 1 - bit) for bit in range(width))


def lfsr_bytes(seed: int) -> Iterator[int]:
    """The low 8 bits of a 16-bit LFSR for ever: those of the seed first, then after every 8 shifts.

    Polynomial x^16 + x^15 + x^13 + x^4 + 1, shifting left, the feedback entering at bit 0.
    """
    if not 1 <= seed <= 65535:
        raise ValueError(f"an LFSR seed must be 1 to 65535, got {seed}")
    state = seed
    while True:
        yield state & 0xFF
        for _ in range(8):
            feedback = (state >> 15 ^ state >> 14 ^ state >> 12 ^ state >> 3) & 1
            state = (state << 1 | feedback) & 0xFFFF


def generator_numbers(layer: dict) -> Iterator[int]:
    """R(0, 0), R(0, 1), ..., R(0, L - 1), R(1, 0), ...: one number per clock of the layer, for ever."""
    match layer["generator"]:
        case "sobol":
            while True:
                yield from (reversed_bits(clock, layer["length"]) for clock in range(layer["length"]))
        case "lfsr":
            yield from lfsr_bytes(layer["seed"])
        case other:
            raise ValueError(f"generator must be sobol or lfsr, got {other!r}")


def encode(network: dict, x: np.ndarray) -> np.ndarray:
    """The input spikes [T, n_inputs] of one sample, 0 or 1.

    x: [n_inputs] values in 0..1 for the rate encoder, [T, n_inputs] spikes for events.
    """
    x, T, n_inputs = np.asarray(x), network["timesteps"], network["n_inputs"]
    shapes = {"rate": (n_inputs,), "events": (T, n_inputs)}
    if network["encoder"] not in shapes:
        raise ValueError(f"encoder must be rate or events, got {network['encoder']!r}")
    if x.shape != shapes[network["encoder"]]:
        raise ValueError(f"x must have shape {shapes[network['encoder']]}, got {x.shape}")
    if network["encoder"] == "events":
        if not ((x == 0) | (x == 1)).all():
            raise ValueError("events must be 0 or 1")
        return x.astype(np.int64)
    if not ((x >= 0) & (x <= 1)).all():
        raise ValueError("values for the rate encoder must be 0 to 1")
    q = [round(float(value) * T) for value in x]  # half to even; the product is exact, T being a power of two
    return np.array([[int(q_i > reversed_bits(t, T)) for q_i in q] for t in range(T)])


def saturated(number: int, word: int) -> int:
    """`number` clamped to the signed range of `word` bits."""
    return max(-(2 ** (word - 1)), min(2 ** (word - 1) - 1, number))


def layer_currents(network: dict, layer: dict, spikes: np.ndarray) -> np.ndarray:
    """I [T, n_out] in Q(F): the signed count of every step, scaled by 2^F / L and saturated.

    spikes: [T, n_in] arriving at the layer. Before step 0 there are none.
    """
    one, length = 2 ** network["fraction"], layer["length"]
    weights, delays = np.array(layer["weights"], dtype=np.int64), np.array(layer["delays"], dtype=np.int64)
    sign, magnitude = np.sign(weights), np.abs(weights)
    largest = length if layer["generator"] == "sobol" else 256  # M
    if one % length or magnitude.max() > largest or delays.min() < 0:
        raise ValueError(f"wanted a length that divides {one}, weights to {largest} and delays from 0")
    sources = np.arange(len(weights))[:, None]  # i of every synapse
    R = generator_numbers(layer)
    currents = []
    for t in range(len(spikes)):
        then = t - delays
        arriving = np.where(then >= 0, spikes[np.maximum(then, 0), sources], 0)  # s[t - d_ij, i]
        count = np.zeros(weights.shape[1], dtype=np.int64)
        for _ in range(length):
            stream_bit = magnitude > next(R)
            count += (sign * (arriving & stream_bit)).sum(axis=0)
        currents.append([saturated(total * one // length, network["word"]) for total in count.tolist()])
    return np.array(currents)


def first_state(network: dict, layer: dict) -> State:
    """The state of each neuron of the layer when an inference begins."""
    k = layer["constants"]
    if layer["neuron"] == "izhikevich":
        return State(v=k["v_reset"], u=k["b_k"] * k["v_reset"] >> network["fraction"], a=0, waiting=0)
    return State(v=k["v_rest"], u=0, a=0, waiting=0)


def neuron_step(
    network: dict, layer: dict, threshold: int, state: State, current: int, noise_byte: int
) -> tuple[bool, State]:
    """Whether one neuron fires in this step, and its state after it.

    threshold, current: Q(F). noise_byte: -128..127, read by stochastic_lif alone.
    """

    def mul(a: int, b: int) -> int:
        return a * b >> network["fraction"]

    def sat(number: int) -> int:
        return saturated(number, network["word"])

    neuron, k, (v, u, a, waiting) = layer["neuron"], layer["constants"], state
    drive = mul(current, k["gain_k"])
    match neuron:
        case "if":
            p = sat(v + drive)
        case "lif" | "homeostatic_lif":
            p = sat(v + mul(k["v_rest"] - v, k["leak_k"]) + drive)
        case "stochastic_lif":
            p = sat(v + mul(k["v_rest"] - v, k["leak_k"]) + drive + mul(noise_byte, k["noise_k"]))
        case "izhikevich":
            one_point_four = (7 * 2 ** network["fraction"] + 2) // 5  # 1.4 in Q(F), to the nearest
            p = sat(v + 4 * mul(v, v) + 5 * v + one_point_four - u + drive)
        case _:
            raise ValueError(
                f"neuron must be if, lif, stochastic_lif, homeostatic_lif or izhikevich, got {neuron!r}"
            )
    fires = waiting == 0 and p >= threshold + a
    if neuron == "homeostatic_lif":
        a = sat(a - mul(a, k["decay_k"]) + (k["bump_k"] if fires else 0))
    if neuron == "izhikevich":  # with the v from before the step
        u = sat(u + mul(k["a_k"], mul(k["b_k"], v) - u) + (k["d_k"] if fires else 0))
    if waiting > 0:
        return False, State(k["v_rest"], u, a, waiting - 1)
    if fires:
        return True, State(k["v_reset"], u, a, k["refractory"])
    return False, State(p, u, a, 0)


def layer_spikes(network: dict, layer: dict, currents: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Spikes and membranes, both [T, n_out], of a layer driven by `currents` [T, n_out]."""
    # One byte per step for the whole layer. Other models read no noise, whatever noise_seed the file holds.
    noise = lfsr_bytes(layer["noise_seed"]) if layer["neuron"] == "stochastic_lif" else repeat(0)
    states = [first_state(network, layer)] * len(layer["threshold"])
    spikes, membranes = [], []
    for row in currents.tolist():
        byte = next(noise)
        signed = byte - 256 if byte >= 128 else byte
        steps = [
            neuron_step(network, layer, threshold, state, current, signed)
            for threshold, state, current in zip(layer["threshold"], states, row, strict=True)
        ]
        states = [state for _, state in steps]
        spikes.append([int(fires) for fires, _ in steps])
        membranes.append([state.v for state in states])
    return np.array(spikes), np.array(membranes)


def infer(network: dict | str | Path, x: np.ndarray) -> Inference:
    """One inference.

    network: a network.json, parsed or its path. x: one sample as in `encode`.
    With the membrane readout the last layer has currents but neither spikes nor membranes (all 0).
    """
    if not isinstance(network, dict):
        network = json.loads(Path(network).read_text())
    if network["format"] != "scnas-network/1":
        raise ValueError(f"format must be scnas-network/1, got {network['format']!r}")
    if network["readout"] not in ("membrane", "spikes"):
        raise ValueError(f"readout must be membrane or spikes, got {network['readout']!r}")
    arriving = encode(network, x)
    spikes, membranes, currents = [], [], []
    for number, layer in enumerate(network["layers"], start=1):
        current = layer_currents(network, layer, arriving)
        if number == len(network["layers"]) and network["readout"] == "membrane":
            arriving, membrane = np.zeros_like(current), np.zeros_like(current)
        else:
            arriving, membrane = layer_spikes(network, layer, current)
        spikes.append(arriving)
        membranes.append(membrane)
        currents.append(current)
    scored = currents[-1] if network["readout"] == "membrane" else spikes[-1]
    scores = [sum(column) for column in zip(*scored.tolist(), strict=True)]
    return Inference(scores, scores.index(max(scores)), spikes, membranes, currents)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: python tests/helpers/oracle.py network.json samples.npz")
    network, samples = json.loads(Path(sys.argv[1]).read_text()), np.load(sys.argv[2])
    right = [infer(network, x).label == y for x, y in zip(samples["x"], samples["y"], strict=True)]
    print(f"accuracy {np.mean(right):.4f}: {sum(right)} of {len(right)} samples")

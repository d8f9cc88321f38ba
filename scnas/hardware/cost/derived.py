"""What the circuit of a neuron without a cell is made of: counted from the wires of its datapath.

Nothing of it is fitted. The price of such a neuron is `uncalibrated`: experiments/derived.md says how far off
it was.
"""

from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any, NamedTuple

from scnas.hardware.circuit.datapath import Operation, update_wires
from scnas.hardware.circuit.signal import noise_bounds, unsigned_bits
from scnas.snn import derive
from scnas.snn.models import Format, model_of
from scnas.snn.network import Layer, Network
from scnas.space import Architecture


class Circuit(NamedTuple):
    """Of one datapath. words: of state besides the membrane. adder_bits: of sums, differences, comparisons.
    digit_bits: of products by constants, a shifted term each. product_bits: of products of two numbers that
    change, all their partial products. choice_bits: chosen between two numbers. multipliers: multiplier
    blocks of 18 bits that take the products, where a chip has any."""

    words: float = 0
    adder_bits: float = 0
    digit_bits: float = 0
    product_bits: float = 0
    choice_bits: float = 0
    multipliers: float = 0


NONE = Circuit()
SIDE = 18  # bits of a factor of a multiplier block


def of_layer(layer: Layer, network: Network) -> Circuit:
    """Of a trained layer; nothing where its neurons have a cell."""
    if model_of(layer.neuron).cell is not None:
        return NONE
    noise = noise_bounds(layer, network.fraction)
    return _circuit(layer.neuron, network.word, network.fraction, tuple(layer.constants.items()), noise)


def unsure(architectures: Iterable[Architecture]) -> str:
    """What is to be said of prices of these architectures, a line; "" where every neuron has a cell."""
    fire = {n for a in architectures for i, n in enumerate(a.neuron_types) if a.fires(i)}
    names = sorted(n for n in fire if model_of(n).cell is None)
    if not names:
        return ""
    return f"LUTs, clock and energy of {', '.join(names)} are uncalibrated: counted from the description"


def fields(circuit: Circuit, datapaths: Any) -> dict[str, Any]:
    """The fields of a Structure: of so many datapaths; numbers, or arrays over layers."""
    counts = {name: datapaths * count for name, count in circuit._asdict().items()}
    return {f"derived_{name}": count for name, count in (counts | {"words": circuit.words}).items()}


@cache
def expected(neuron: str, word: int, fraction: int) -> Circuit:
    """Before training: constants that training begins with; of those that it changes, the gain 1/4 and the
    leak 1/4. Nothing where the neuron has a cell."""
    model, q = model_of(neuron), Format(word, fraction)
    if model.cell is not None:
        return NONE
    quarter = max(1, q.one // 4)
    constants = {"gain_k": quarter, "leak_k": quarter} | dict(model.start(q).constants)
    ends = [n * constants.get("noise_k", 0) >> fraction for n in (-128, 127)]
    return _circuit(neuron, word, fraction, tuple(constants.items()), (min(ends), max(ends)))


@cache
def _circuit(
    neuron: str, word: int, fraction: int, constants: tuple[tuple[str, int], ...], noise: tuple[int, int]
) -> Circuit:
    model, q = model_of(neuron), Format(word, fraction)
    known: Mapping[str, int] = dict.fromkeys(derive.constants_of(model), 0) | dict(constants)
    made = update_wires(model, q, known, noise).wires.made
    counts = dict.fromkeys(Circuit._fields, 0.0) | {"words": len(model.words)}
    for operation in made:
        for feature, count in _of(operation).items():
            counts[feature] += count
    counts["choice_bits"] += 2 * word + (1 + unsigned_bits(known["refractory"])) * (known["refractory"] > 0)
    return Circuit(**counts)


def _of(operation: Operation) -> dict[str, float]:
    """What one operation adds."""
    kind, a, b, result = operation
    fixed = [x.low == x.high for x in (a, b)]
    if all(fixed):
        return {}
    match kind:
        case "mul" if any(fixed):
            constant, other = (a, b) if fixed[0] else (b, a)
            digits = (abs(constant.low) ^ 3 * abs(constant.low)).bit_count()
            if digits <= 1:
                return {}
            return {"digit_bits": (digits - 1) * result.bits, "multipliers": _multipliers(a.bits, b.bits)}
        case "mul":
            return {"product_bits": a.bits * b.bits, "multipliers": _multipliers(a.bits, b.bits)}
        case "add" | "compare":
            return {"adder_bits": max(result.bits, a.bits if kind == "compare" else 0)}
    return {"choice_bits": result.bits}


def _multipliers(a: int, b: int) -> int:
    return -(-a // SIDE) * -(-b // SIDE)

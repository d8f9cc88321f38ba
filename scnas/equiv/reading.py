"""How the text and the signals of a design are read, written apart from what generates them.

Needs no solver.
"""

import re

import numpy as np

from scnas.contract import Refused
from scnas.snn.network import Layer


def module_text(text: str, name: str) -> str:
    """The text of module `name`; "" if it is not there."""
    found = re.search(rf"^module {name} \(.*?^endmodule", text, re.DOTALL | re.MULTILINE)
    return found[0] if found else ""


def instances(text: str, cell: str, name: str) -> dict[str, dict[str, int]]:
    """Instances of `cell` whose name matches `name` -> their parameters."""
    found = {}
    for match in re.finditer(rf"\b{cell} #\((.*?)\) ({name}) \(", text):
        values = re.findall(r"\.(\w+)\((-?\d+)\)", match[1])
        if ", ".join(f".{key}({value})" for key, value in values) != match[1]:
            raise Refused(f"design.v: the parameters of {match[2]} are no plain numbers: {match[1]:.120}")
        found[match[2]] = {key: int(value) for key, value in values}
    return found


def tap_order(layer: Layer) -> list[tuple[int, int]]:
    """(input, delay) of every tap of a parallel layer."""
    pairs = {(int(i), int(layer.delays[i, j])) for i, j in zip(*np.nonzero(layer.weights), strict=True)}
    return sorted(pairs or {(0, 0)})


def lane_weights(layer: Layer, unit: int, word: int) -> list[int]:
    """The signed weights of the lanes of a unit in one ROM word: magnitude, then sign, lane 0 lowest."""
    size = layer.max_weight.bit_length()
    streams = layer.generator == "sobol" and layer.length <= 2
    if streams:
        size = layer.length
    weights = []
    for lane in range(unit * layer.lanes, (unit + 1) * layer.lanes):
        code = word >> lane * (size + 1) & (2 ** (size + 1) - 1)
        magnitude = code & (2**size - 1)
        if streams:
            magnitude = magnitude.bit_count()
        weights.append(-magnitude if code >> size else magnitude)
    return weights

"""The words and limits of the SC-SNN contract, and the checks that guard them. Imports nothing of ours."""

import math
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Annotated, Any, NamedTuple, Protocol, get_args, get_origin, get_type_hints, overload

import numpy as np


class Names(Sequence[str]):
    """Names in the order in which they were added. A module from outside the package may add to them, and
    whoever holds them sees it."""

    def __init__(self, *names: str):
        self._names = list(names)

    def add(self, name: str) -> None:
        """One more, at the end; nothing where it is there."""
        if name not in self._names:
            self._names.append(name)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        return self._names[index]

    def __len__(self) -> int:
        return len(self._names)

    def __repr__(self) -> str:
        return f"Names{tuple(self._names)}"


# What a neuron is stands in scnas.snn.models, where more are registered.
NEURONS = Names("if", "lif", "stochastic_lif", "homeostatic_lif", "izhikevich")
GENERATORS = ("sobol", "lfsr")
MAPPINGS = ("parallel", "folded")
ENCODERS = ("rate", "events")
READOUTS = ("membrane", "spikes")
PRUNE_BY = ("sensitivity", "magnitude")  # what tells the synapses of a sparse layer that stay
PRUNE_PER = ("layer", "neuron")  # what a density is of

# What a network may be. Large enough for any FPGA, small enough that a hostile value cannot
# exhaust the machine and that every intermediate stays exact in float64 (below 2^53).
MAX_LAYERS = 64
MAX_WIDTH = 2**16
MAX_SYNAPSES = 2**24  # of one layer
MAX_TIMESTEPS = 2**12
MAX_LANES = 2**16
MAX_UNITS = 2**8  # neurons that a folded layer takes at once


class Refused(ValueError):
    """What is the user's to mend: settings, data, files, arguments.

    One line that says which of them, what it got and what it may be.

    Whatever else is raised is a fault of scnas or of the machine, and keeps its traceback.
    """


def is_power_of_two(n: int) -> bool:
    return n >= 1 and n & (n - 1) == 0


def whole(name: str, value: Any, low: int, high: int) -> int:
    """`value` as an int in low..high; ValueError naming `name` otherwise. A bool is no number."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or not low <= value <= high:
        raise Refused(f"{name} must be a whole number from {low} to {high}, got {short(value)}")
    return int(value)


def one_of(name: str, value: object, allowed: Sequence[str]) -> str:
    """`value` if it is one of `allowed`; ValueError listing them otherwise."""
    if not isinstance(value, str) or value not in allowed:
        raise Refused(f"{name} must be one of {', '.join(allowed)}, got {short(value)}")
    return str(value)


def identifier(name: str, value: object) -> str:
    """`value` if it can be a word of the command line and of a file's name: letters, digits, underscores."""
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,63}", value):
        raise Refused(f"{name} must be letters, digits and underscores, got {short(value)}")
    return value


def share(name: str, value: Any) -> float:
    """`value` as a float with 0 < value <= 1."""
    real = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
    if not real or not 0 < value <= 1:
        raise Refused(f"{name} must be a share above 0 and at most 1, got {short(value)}")
    return float(value)


def stream_length(name: str, value: Any, fraction: int) -> int:
    """`value` as L: a power of two that divides 2^fraction."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise Refused(f"{name} must be a whole number, got {short(value)}")
    if not is_power_of_two(int(value)) or value > 2**fraction:
        raise Refused(
            f"{name} must be a power of two that divides 2^fraction = {2**fraction}, got {short(value)}"
        )
    return int(value)


class Allowed(Protocol):
    """What a value may be."""

    def check(self, name: str, value: Any) -> Any:
        """`value` as its plain Python type; Refused, naming `name`, where it is not allowed."""


class Range(NamedTuple):
    """Whole numbers from low to high, both allowed."""

    low: int
    high: int

    def check(self, name: str, value: Any) -> int:
        return whole(name, value, self.low, self.high)


@dataclass(frozen=True)
class Interval:
    """Finite numbers from low to high, both allowed; `low` itself is not where they must lie above it."""

    low: float
    high: float
    above: bool = False

    def check(self, name: str, value: Any) -> float:
        real = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
        finite = real and self.low <= value <= min(self.high, sys.float_info.max)
        if not finite or (self.above and value == self.low):
            raise Refused(f"{name} must be a number {self}, got {short(value)}")
        return float(value)

    def __str__(self) -> str:
        if self.above:
            return f"above {self.low:g}" + (f" and at most {self.high:g}" if self.high < math.inf else "")
        return f"from {self.low:g} to {self.high:g}"


@dataclass(frozen=True)
class OneOf:
    """One of a few words."""

    words: Sequence[str]

    def check(self, name: str, value: Any) -> str:
        return one_of(name, value, self.words)


class Share:
    """A number above 0 and at most 1."""

    def check(self, name: str, value: Any) -> float:
        return share(name, value)


@dataclass(frozen=True)
class StreamLength:
    """L: powers of two that divide 2^fraction."""

    fraction: int

    def check(self, name: str, value: Any) -> int:
        return stream_length(name, value, self.fraction)


WIDTHS = Range(1, MAX_WIDTH)  # inputs, or neurons of a layer
LAYERS = Range(1, MAX_LAYERS)
TIMESTEPS = Range(1, MAX_TIMESTEPS)
DELAYS = Range(0, MAX_TIMESTEPS)  # steps
LANES = Range(1, MAX_LANES)
UNITS = Range(1, MAX_UNITS)
WORD_RANGE = Range(4, 24)  # W, bits of a saturating register
FRACTION_RANGE = Range(0, 12)  # F of Q(F)


def check_fields(prefix: str, values: Any) -> None:
    """Refused unless every field of a dataclass is what its annotation allows.

    `x: Annotated[int, Range(1, 9)]` is checked under the name `prefix` + x; None is allowed where the type
    says so, and each entry of a list.
    """
    hints = get_type_hints(type(values), include_extras=True)
    for f in fields(values):
        hint, value = hints[f.name], getattr(values, f.name)
        if get_origin(hint) is not Annotated:
            continue
        kind, allowed = get_args(hint)[:2]
        if value is None and type(None) in get_args(kind):
            continue
        for entry in value if get_origin(kind) is list else [value]:
            allowed.check(prefix + f.name, entry)


def one_line(text: str, most: int = 200) -> str:
    """`text`, from wherever it comes, as one line of at most `most` printable characters."""
    return "".join(c if c.isprintable() else "?" for c in " ".join(text[: 4 * most].split()))[:most]


def short(value: object) -> str:
    """`value` as an error message may show it: its repr, at most 80 characters."""
    try:
        text = repr(value)
    except (RecursionError, ValueError):  # nested too deep; an int of more digits than Python prints
        text = f"a very long {type(value).__name__}"
    return text if len(text) <= 80 else text[:77] + "..."

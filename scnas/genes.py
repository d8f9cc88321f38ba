"""The genes of an architecture: one row each, read by everything that draws, checks, counts or names them.

    Architecture   one field a gene: checked, in its canonical form
    SearchSpace    one field of choices a gene: drawn, mutated, crossed, counted
    settings       space.*, the same choices
    names          Architecture.name, and what `space.describe` tells people
    files          archive, front.json, front.csv, the metadata of NIR graphs

A new gene is one row at the end of GENES, and the code that makes use of it. What was written before the gene
was there has its default.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, TypeVar

from scnas.contract import (
    DELAYS,
    FRACTION_RANGE,
    GENERATORS,
    LANES,
    MAPPINGS,
    NEURONS,
    READOUTS,
    TIMESTEPS,
    UNITS,
    WIDTHS,
    WORD_RANGE,
    Allowed,
    OneOf,
    Range,
    Share,
    StreamLength,
)

LAYER, NETWORK = "layer", "network"


class _NoValue:
    """In the place of a value where there is none."""


REQUIRED: Any = _NoValue()  # default of a gene that has to be given
NEVER: Any = _NoValue()  # no value is left out

# What a rule of a row may look at: every gene of the network and, for a gene of a layer, the genes of that
# layer in the rows above, all in canonical form; also `n_in`, the inputs of the layer, and `last`, whether it
# is the last one.
Here = Mapping[str, Any]
T = TypeVar("T", bound=type)


@dataclass(frozen=True)
class Gene:
    """One row.

    name: the field of Architecture. per: LAYER or NETWORK. kind: int, float or str.
    about: what it is, for people. allowed: what one value may be, or a function of Here that says so.
    choices: the field of SearchSpace and of the settings; equal to `name` where a space holds one value for
    all of its architectures; "" where the task decides. standard: what a SearchSpace holds unless told
    otherwise; the default alone if not given.
    default: of Architecture.

    depends: the genes that `effect`, `canonical` and `allowed` look at, but for the width of the layer. They
    stand in rows above, or are genes of the network; a gene of the network depends on none of a layer.
    effect: whether a value matters here; where it does not, the canonical form is `idle` (the default, if not
    given). canonical: the form of a value that matters, so that equal networks are equal architectures.

    mapping: no spike depends on it, so training does not see it.
    short: its part of Architecture.name, left out for the value `unnamed`. label: what stands before its
    values in `describe`, None to leave it out; so it is where all values are `untold`.
    stored: the field of a Layer, or of the Network, in network.json that holds the same.

    Two rules keep the random streams of recorded searches. always_drawn: mutation and crossover draw for it
    even where there is one choice. kept: a canonical value that is a choice stays; without it, or where it is
    none, it becomes any of the choices that it could have come from.
    """

    name: str
    per: str
    kind: type
    about: str
    allowed: Allowed | Callable[[Here], Allowed]
    choices: str = ""
    standard: Sequence[Any] = ()
    default: Any = REQUIRED
    depends: tuple[str, ...] = ()
    effect: Callable[[Here], bool] | None = None
    idle: Any = REQUIRED
    canonical: Callable[[Any, Here], Any] | None = None
    mapping: bool = False
    short: str = ""
    unnamed: Any = NEVER
    label: str | None = None
    untold: Any = NEVER
    stored: str = ""
    always_drawn: bool = False
    kept: bool = False

    def check(self, name: str, value: Any, here: Here) -> Any:
        """`value` as a plain int, float or str; Refused, naming `name`, where it is not allowed."""
        allowed = self.allowed(here) if callable(self.allowed) else self.allowed
        return allowed.check(name, value)

    def form(self, value: Any, here: Here) -> Any:
        """The canonical form of an allowed value."""
        if self.effect is not None and not self.effect(here):
            return self.default if self.idle is REQUIRED else self.idle
        return value if self.canonical is None else self.canonical(value, here)

    @property
    def fixed(self) -> bool:
        """Whether a space holds one value for all of its architectures."""
        return self.choices in ("", self.name)


def dividing(width: int, units: int) -> int:
    """The largest number up to `units` that divides `width` and leaves two neurons or more for each, or 1."""
    return next(n for n in range(max(1, min(units, width // 2)), 0, -1) if width % n == 0)


def inputs(here: Here) -> int:
    """Inputs of the first layer of a network with these genes."""
    return int(here["n_inputs"])


def taps(here: Here) -> int:
    """Inputs of a layer times the delays that a synapse may choose from."""
    return int(here["n_in"] * (here["delay_ranges"] + 1))


def fires(here: Here) -> bool:
    """Whether a layer has neurons: all do, but for the last one of a membrane readout."""
    return bool(here["readout"] == "spikes" or not here["last"])


def _folded(here: Here) -> bool:
    return bool(here["mappings"] == "folded")


GENES: tuple[Gene, ...] = (
    Gene("n_inputs", NETWORK, int, "features of a sample", WIDTHS, short="n{}"),
    Gene(
        "layer_widths", LAYER, int, "neurons of a layer; those of the last are the outputs", WIDTHS,
        choices="width_choices", standard=(8, 16, 32, 64, 128, 256), short="{}", always_drawn=True,
    ),
    Gene(
        "neuron_types", LAYER, str, "neuron model", OneOf(NEURONS),
        choices="neuron_choices", standard=NEURONS, depends=("readout",), effect=fires, idle="lif",
        short="{}", label="", stored="neuron", always_drawn=True,
    ),
    Gene(
        "bitstream_lengths", LAYER, int, "L: clocks of a bitstream, a power of two",
        lambda here: StreamLength(here["fraction"]), depends=("fraction",),
        choices="L_choices", standard=(4, 8, 16, 32, 64, 128, 256),
        short="L{}", label="L", stored="length", always_drawn=True,
    ),
    Gene(
        "delay_ranges", LAYER, int, "D: largest delay of a layer, in steps; at most T - 1 can matter", DELAYS,
        choices="delay_choices", standard=(0, 1, 2, 4, 8),
        depends=("timesteps",), canonical=lambda delay, here: min(delay, here["timesteps"] - 1),
        short="D{}", label="D", untold=0, always_drawn=True, kept=True,
    ),
    Gene(
        "densities", LAYER, float, "share of synapses kept", Share(),
        choices="density_choices", standard=(0.1, 0.25, 0.5, 1.0), default=1.0,
        short="p{!r}", label="density ", untold=1.0, always_drawn=True,
    ),
    Gene(
        "generators", LAYER, str, "random numbers behind a bitstream", OneOf(GENERATORS),
        choices="generator_choices", standard=GENERATORS, default="sobol",
        short="{}", label="", untold="sobol", stored="generator", always_drawn=True,
    ),
    Gene(
        "mappings", LAYER, str, "one circuit a synapse, or one that takes them in turn", OneOf(MAPPINGS),
        choices="mapping_choices", standard=MAPPINGS, default="parallel", mapping=True,
        stored="mapping", always_drawn=True,
    ),
    Gene(
        "lanes", LAYER, int, "inputs per clock of a folded layer, at most its taps",
        lambda here: LANES if here.get("mappings") != "parallel" else Range(0, LANES.high),
        choices="lanes_choices", standard=(4, 8, 16, 32, 64), default=8, mapping=True,
        depends=("mappings", "delay_ranges"), effect=_folded, idle=0,
        canonical=lambda lanes, here: min(lanes, taps(here)),
        short="x{}", unnamed=0, stored="lanes", always_drawn=True, kept=True,
    ),
    Gene(
        "timesteps", NETWORK, int, "T: steps of an inference; a task of events brings its own", TIMESTEPS,
        choices="timesteps_choices", standard=(4, 8, 16), default=8, short="T{}", label="T",
        always_drawn=True,
    ),
    Gene(
        "word", NETWORK, int, "W: bits of a membrane", WORD_RANGE,
        choices="word_choices", standard=(12, 16), default=16, short="W{}", label="W", always_drawn=True,
    ),
    Gene(
        "fraction", NETWORK, int, "F: a number n stands for n / 2^F", FRACTION_RANGE,
        choices="fraction", default=8, short="F{}",
    ),
    Gene(
        "readout", NETWORK, str, "membrane: the last layer only integrates; or spikes", OneOf(READOUTS),
        choices="readout", default="membrane", short="{}",
    ),
    # Scores of the last layer come one by one, so that units would not help it.
    Gene(
        "units", LAYER, int, "neurons that a folded layer takes at once, which share out its neurons", UNITS,
        choices="units_choices", default=1, mapping=True,
        depends=("mappings",), effect=lambda here: _folded(here) and not here["last"],
        canonical=lambda units, here: dividing(here["layer_widths"], units),
        short="u{}", unnamed=1, stored="units",
    ),
)  # fmt: skip


@cache
def of_layer() -> tuple[Gene, ...]:
    """The genes of a layer, in the order of the table."""
    return tuple(gene for gene in GENES if gene.per == LAYER)


@cache
def of_network() -> tuple[Gene, ...]:
    """The genes of the network, in the order of the table."""
    return tuple(gene for gene in GENES if gene.per == NETWORK)


# -- fields of dataclasses ------------------------------------------------------------------------------


def from_table() -> Any:
    """In the place of a default: that of the row. To a type checker it has the type of any field."""
    return _FROM_TABLE


_FROM_TABLE = _NoValue()


def architecture_fields(cls: T) -> T:
    """Class decorator: a field for every gene that `cls` does not declare, and defaults from the table.

    A declared field says to a type checker what the package reads by name; the table decides what there is.
    """
    for gene in GENES:
        kind = gene.kind if gene.per == NETWORK else tuple[gene.kind, ...]  # type: ignore[name-defined] # at run time
        default = None if gene.per == LAYER and gene.default is not REQUIRED else gene.default
        _declare(cls, gene.name, kind, default)
    return cls


def space_fields(cls: T) -> T:
    """Class decorator of SearchSpace: adds a field of choices for every gene that `cls` does not declare."""
    for gene in GENES:
        if gene.fixed and gene.choices:
            _declare(cls, gene.choices, gene.kind, gene.default)
        elif gene.choices:
            default = gene.standard or (gene.default,)
            _declare(cls, gene.choices, tuple[gene.kind, ...], default)  # type: ignore[name-defined] # at run time
    return cls


def settings_fields(cls: T) -> T:
    """Class decorator of the settings of a space: after the fields of `cls` one for every gene with choices,
    those of a layer first. A gene that joined the table later has its default there, so that settings written
    before stay whole; the others have none."""
    own = dict(cls.__annotations__)
    rows = sorted(GENES, key=lambda gene: (gene.fixed, gene.per == NETWORK))  # stable: the order of the table
    names = {gene.choices for gene in rows}
    cls.__annotations__ = {name: kind for name, kind in own.items() if name not in names}
    for gene in rows:
        if not gene.choices:
            continue
        joined = not gene.fixed and not gene.always_drawn
        default: Any = "???"  # omegaconf.MISSING
        if joined:
            default = field(default_factory=(lambda value: lambda: [value])(gene.default))
        cls.__annotations__[gene.choices] = gene.kind if gene.fixed else list[gene.kind]  # type: ignore[name-defined] # at run time
        setattr(cls, gene.choices, default)
    return cls


def _declare(cls: type, name: str, kind: Any, default: Any) -> None:
    known = name in cls.__annotations__
    if not known:
        cls.__annotations__[name] = kind
    if default is not REQUIRED and (not known or cls.__dict__.get(name) is _FROM_TABLE):
        setattr(cls, name, default)


# -- words ----------------------------------------------------------------------------------------------


def name_of(rows: Sequence[Gene], here: Here) -> str:
    """The part of a name that these genes make up."""
    return "-".join(g.short.format(here[g.name]) for g in rows if g.short and here[g.name] != g.unnamed)

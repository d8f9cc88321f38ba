"""Architecture and SearchSpace: what may change, how to draw, mutate and cross.

Letters: n_in and n_out of a layer, T timesteps, L clocks of a bitstream, D largest delay.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property

import numpy as np

from scnas.contract import (
    FRACTION_RANGE,
    GENERATORS,
    MAPPINGS,
    MAX_LANES,
    MAX_LAYERS,
    MAX_SYNAPSES,
    MAX_TIMESTEPS,
    MAX_UNITS,
    MAX_WIDTH,
    NEURONS,
    READOUTS,
    WORD_RANGE,
    Refused,
    one_of,
    share,
    short,
    stream_length,
    whole,
)

DEFAULT_LANES = 8

Rng = np.random.Generator | np.random.RandomState


def _list(gene: str, values: object) -> tuple:
    if isinstance(values, str) or not isinstance(values, Iterable) or getattr(values, "ndim", 1) == 0:
        raise Refused(f"{gene} must be a list with one entry per layer, got {short(values)}")
    return tuple(values)


@dataclass(frozen=True)
class Architecture:
    """One candidate: a value, equal and hashed by its genes.

    Lists have one entry per layer, the input side first.

    n_inputs:          features of a sample, 1..65536.
    layer_widths:      neurons; the last width is the number of outputs.
    neuron_types:      one of NEURONS.
    bitstream_lengths: L, clocks of a stochastic number; a power of two dividing 2^fraction.
    delay_ranges:      D >= 0; a synapse delays spikes by 0..D steps.
    densities:         share of synapses kept, 0 < d <= 1. Default 1.
    generators:        one of GENERATORS. Default `sobol`.
    mappings:          one of MAPPINGS. Default `parallel`.
    lanes:             inputs per clock of a folded layer. Default 8; 0 in a parallel layer.
    units:             neurons that a folded layer takes at once. Default 1; 1 in a parallel layer.
    timesteps:         T, steps of an inference. word: W, bits of a membrane. fraction: F of Q(F).
    readout:           `membrane` (the last layer only integrates) or `spikes`.

    Genes without effect take one canonical value, so that equal networks are equal architectures:
    lanes of a parallel layer (0), lanes beyond the taps of a layer, units that do not share out the
    neurons of a layer (see `dividing`; 1 in the last layer, whose scores come one by one),
    the neuron of a last layer that only integrates (`lif`), a delay that T makes impossible (T - 1).

    The fitness fields are measurements: results carry them, equality ignores them. None: not
    measured. Raises ValueError with the gene, what it got and what it may be.
    """

    n_inputs: int
    layer_widths: tuple[int, ...]
    neuron_types: tuple[str, ...]
    bitstream_lengths: tuple[int, ...]
    delay_ranges: tuple[int, ...]
    densities: tuple[float, ...] | None = None
    generators: tuple[str, ...] | None = None
    mappings: tuple[str, ...] | None = None
    lanes: tuple[int, ...] | None = None
    timesteps: int = 8
    word: int = 16
    fraction: int = 8
    readout: str = "membrane"
    fitness_accuracy: float | None = field(default=None, compare=False)
    fitness_luts: int | None = field(default=None, compare=False)
    fitness_energy_nj: float | None = field(default=None, compare=False)
    units: tuple[int, ...] | None = None

    def __post_init__(self):
        def put(gene: str, value: object) -> None:
            object.__setattr__(self, gene, value)

        put("n_inputs", whole("n_inputs", self.n_inputs, 1, MAX_WIDTH))
        put("timesteps", whole("timesteps", self.timesteps, 1, MAX_TIMESTEPS))
        put("word", whole("word", self.word, *WORD_RANGE))
        put("fraction", whole("fraction", self.fraction, *FRACTION_RANGE))
        one_of("readout", self.readout, READOUTS)
        widths = _list("layer_widths", self.layer_widths)
        n = len(widths)
        if not 1 <= n <= MAX_LAYERS:
            raise Refused(f"layer_widths must hold 1 to {MAX_LAYERS} layers, got {n}")

        def per_layer(gene: str, default: object) -> tuple:
            values = getattr(self, gene)
            values = (default,) * n if values is None else _list(gene, values)
            if len(values) != n:
                raise Refused(f"{gene} must have one entry per layer ({n}), got {len(values)}")
            return values

        def each(gene: str, check, *args, default: object = None) -> None:
            values = per_layer(gene, default)
            put(gene, tuple(check(f"{gene}[{i}]", v, *args) for i, v in enumerate(values)))

        each("layer_widths", whole, 1, MAX_WIDTH)
        each("neuron_types", one_of, NEURONS)
        each("bitstream_lengths", stream_length, self.fraction)
        each("delay_ranges", whole, 0, MAX_TIMESTEPS)
        each("densities", share, default=1.0)
        each("generators", one_of, GENERATORS, default="sobol")
        each("mappings", one_of, MAPPINGS, default="parallel")
        put("delay_ranges", tuple(min(d, self.timesteps - 1) for d in self.delay_ranges))
        if self.readout == "membrane":
            put("neuron_types", (*self.neuron_types[:-1], "lif"))

        lanes = []
        for i, (value, mapping) in enumerate(zip(per_layer("lanes", None), self.mappings, strict=True)):
            if mapping == "parallel":
                if value is not None:
                    whole(f"lanes[{i}]", value, 0, MAX_LANES)
                lanes.append(0)
            else:
                value = DEFAULT_LANES if value is None else whole(f"lanes[{i}]", value, 1, MAX_LANES)
                lanes.append(min(value, self.taps[i]))
        put("lanes", tuple(lanes))
        if set(self.units or ()) == {1}:
            put("units", None)  # what is nowhere used fits any depth
        each("units", whole, 1, MAX_UNITS, default=1)
        put("units", tuple(self._canonical_units(i, value) for i, value in enumerate(self.units)))
        for i, (n_in, n_out) in enumerate(self.layer_sizes):
            if n_in * n_out > MAX_SYNAPSES:
                raise Refused(
                    f"layer_widths[{i}] makes a layer of {n_in} x {n_out} synapses, at most {MAX_SYNAPSES}"
                )

    def _canonical_units(self, index: int, value: int) -> int:
        if self.mappings[index] == "parallel" or index == self.n_layers - 1:
            return 1
        return dividing(self.layer_widths[index], value)

    @property
    def n_layers(self) -> int:
        return len(self.layer_widths)

    @property
    def n_outputs(self) -> int:
        return self.layer_widths[-1]

    @property
    def layer_sizes(self) -> list[tuple[int, int]]:
        """(n_in, n_out) of every layer."""
        ends = (self.n_inputs, *self.layer_widths)
        return list(zip(ends[:-1], ends[1:], strict=True))

    @property
    def total_params(self) -> int:
        """Synapses before pruning, over all layers."""
        return sum(n_in * n_out for n_in, n_out in self.layer_sizes)

    @property
    def kept_synapses(self) -> tuple[int, ...]:
        """Synapses that the density of each layer keeps, at least one."""
        return tuple(
            max(1, round(d * a * b)) for d, (a, b) in zip(self.densities, self.layer_sizes, strict=True)
        )

    @property
    def taps(self) -> tuple[int, ...]:
        """Inputs of each layer times the delays a synapse may choose from."""
        return tuple(n * (d + 1) for (n, _), d in zip(self.layer_sizes, self.delay_ranges, strict=True))

    def fires(self, index: int) -> bool:
        """Whether layer `index` has neurons: all do, but for the last one of a membrane readout."""
        return self.readout == "spikes" or index < self.n_layers - 1

    @cached_property
    def training_key(self) -> "Architecture":
        """This architecture without its mapping, which no spike depends on: what training sees."""
        measured = (self.fitness_accuracy, self.fitness_luts, self.fitness_energy_nj)
        if set(self.mappings) == {"parallel"} and measured == (None, None, None):
            return self
        return replace(
            self, mappings=None, lanes=None, units=None,
            fitness_accuracy=None, fitness_luts=None, fitness_energy_nj=None,
        )  # fmt: skip

    @property
    def name(self) -> str:
        """Same architecture, same name, on any machine: files, random addresses, logs."""
        parts = [f"n{self.n_inputs}-T{self.timesteps}-W{self.word}-F{self.fraction}-{self.readout}"]
        for i, width in enumerate(self.layer_widths):
            part = f"{width}-{self.neuron_types[i]}-L{self.bitstream_lengths[i]}-D{self.delay_ranges[i]}"
            part += f"-p{self.densities[i]!r}-{self.generators[i]}"
            if self.mappings[i] == "folded":
                part += f"-x{self.lanes[i]}"
            if self.units[i] > 1:
                part += f"-u{self.units[i]}"
            parts.append(part)
        return "_".join(parts)

    def to_dict(self) -> dict:
        """The genes as plain lists and numbers; `Architecture(**d)` gives it back."""
        return {
            f.name: list(v) if isinstance(v := getattr(self, f.name), tuple) else v
            for f in fields(self)
            if f.compare
        }


# Genes of one layer in the order of SearchSpace's choices.
_LAYER_GENES = (
    "layer_widths", "neuron_types", "bitstream_lengths", "delay_ranges", "densities", "generators",
    "mappings", "lanes", "units",
)  # fmt: skip


def dividing(width: int, units: int) -> int:
    """The largest number up to `units` that divides `width` and leaves two neurons or more for each, or 1."""
    return next(n for n in range(max(1, min(units, width // 2)), 0, -1) if width % n == 0)


@dataclass(frozen=True)
class SearchSpace:
    """Every architecture with these inputs, outputs, depths and choices.

    n_inputs, n_outputs: of the task. min_layers..max_layers: depth, the output layer counted.
    *_choices: what a gene may be; per layer, but for timesteps_choices and word_choices.
    width_choices: of hidden layers. fraction, readout: the same for all.
    Raises ValueError with the setting, what it got and what it may be.
    """

    n_inputs: int
    n_outputs: int
    min_layers: int = 1
    max_layers: int = 4
    width_choices: tuple[int, ...] = (8, 16, 32, 64, 128, 256)
    neuron_choices: tuple[str, ...] = field(default_factory=lambda: tuple(NEURONS))
    L_choices: tuple[int, ...] = (4, 8, 16, 32, 64, 128, 256)
    delay_choices: tuple[int, ...] = (0, 1, 2, 4, 8)
    density_choices: tuple[float, ...] = (0.1, 0.25, 0.5, 1.0)
    generator_choices: tuple[str, ...] = GENERATORS
    mapping_choices: tuple[str, ...] = MAPPINGS
    lanes_choices: tuple[int, ...] = (4, 8, 16, 32, 64)
    timesteps_choices: tuple[int, ...] = (4, 8, 16)
    word_choices: tuple[int, ...] = (12, 16)
    fraction: int = 8
    readout: str = "membrane"
    units_choices: tuple[int, ...] = (1,)

    def __post_init__(self):
        whole("n_inputs", self.n_inputs, 1, MAX_WIDTH)
        whole("n_outputs", self.n_outputs, 1, MAX_WIDTH)
        whole("fraction", self.fraction, *FRACTION_RANGE)
        one_of("readout", self.readout, READOUTS)
        whole("min_layers", self.min_layers, 1, MAX_LAYERS)
        whole("max_layers", self.max_layers, 1, MAX_LAYERS)
        if self.min_layers > self.max_layers:
            raise Refused(f"min_layers must be at most max_layers = {self.max_layers}, got {self.min_layers}")
        checks = {
            "width_choices": (whole, 1, MAX_WIDTH),
            "neuron_choices": (one_of, NEURONS),
            "L_choices": (stream_length, self.fraction),
            "delay_choices": (whole, 0, MAX_TIMESTEPS),
            "density_choices": (share,),
            "generator_choices": (one_of, GENERATORS),
            "mapping_choices": (one_of, MAPPINGS),
            "lanes_choices": (whole, 1, MAX_LANES),
            "units_choices": (whole, 1, MAX_UNITS),
            "timesteps_choices": (whole, 1, MAX_TIMESTEPS),
            "word_choices": (whole, *WORD_RANGE),
        }
        for name, (check, *args) in checks.items():
            values = getattr(self, name)
            if isinstance(values, str) or not isinstance(values, Iterable):
                raise Refused(f"{name} must be a list of choices, got {short(values)}")
            values = tuple(dict.fromkeys(check(name, value, *args) for value in values))
            if not values:
                raise Refused(f"{name} must hold at least one choice, got none")
            object.__setattr__(self, name, values)
        hidden = self.width_choices if self.max_layers > 1 else ()
        ends_in = max((self.n_inputs, *hidden))
        ends_out = max((self.n_outputs, *hidden))
        if ends_in * ends_out > MAX_SYNAPSES:
            raise Refused(
                f"width_choices allow a layer of {ends_in} x {ends_out} synapses, at most {MAX_SYNAPSES}"
            )

    @cached_property
    def _layer_choices(self) -> dict[str, tuple]:
        return {
            "layer_widths": self.width_choices,
            "neuron_types": self.neuron_choices,
            "bitstream_lengths": self.L_choices,
            "delay_ranges": self.delay_choices,
            "densities": self.density_choices,
            "generators": self.generator_choices,
            "mappings": self.mapping_choices,
            "lanes": self.lanes_choices,
            "units": self.units_choices,
        }

    @cached_property
    def _genes_of_layer(self) -> tuple[str, ...]:
        """What is inherited and changes. `units` only where the space has a choice: the same searches as ever
        where it has none."""
        return tuple(gene for gene in _LAYER_GENES if gene != "units" or len(self.units_choices) > 1)

    # -- size and membership --------------------------------------------------------------------

    @cached_property
    def space_size(self) -> int:
        """How many different architectures the space holds, exactly.

        Canonical genes are counted once. What a layer can be depends on its width and the one before it
        only (lanes beyond the taps are one choice), so the sum over depths runs along the layers.
        """
        total, neurons = 0, len(self.neuron_choices)
        for timesteps in self.timesteps_choices:
            delays = {min(d, timesteps - 1) for d in self.delay_choices}
            paths = {self.n_inputs: 1}  # width of the layer before -> ways to get there
            for depth in range(1, self.max_layers + 1):
                if depth >= self.min_layers:
                    last = 1 if self.readout == "membrane" else neurons
                    total += sum(ways * self._layer_ways(n, delays, last, 1) for n, ways in paths.items())
                units = {w: len({dividing(w, u) for u in self.units_choices}) for w in self.width_choices}
                paths = {
                    w: sum(ways * self._layer_ways(n, delays, neurons, units[w]) for n, ways in paths.items())
                    for w in self.width_choices
                }
        return total * len(self.word_choices)

    def _layer_ways(self, n_in: int, delays: set[int], neurons: int, units: int) -> int:
        """Different layers of one width behind n_in inputs. neurons, units: how many choices there are."""
        free = neurons * len(self.L_choices) * len(self.density_choices) * len(self.generator_choices)
        mapped = 0
        for d in delays:
            mapped += "parallel" in self.mapping_choices
            if "folded" in self.mapping_choices:
                mapped += len({min(lane, n_in * (d + 1)) for lane in self.lanes_choices}) * units
        return free * mapped

    def __contains__(self, item: object) -> bool:
        if not isinstance(item, Architecture):
            return False
        if (
            (item.n_inputs, item.n_outputs) != (self.n_inputs, self.n_outputs)
            or (item.fraction, item.readout) != (self.fraction, self.readout)
            or not self.min_layers <= item.n_layers <= self.max_layers
            or item.timesteps not in self.timesteps_choices
            or item.word not in self.word_choices
        ):
            return False
        delays = {min(d, item.timesteps - 1) for d in self.delay_choices}
        for i in range(item.n_layers):
            lanes = {min(lane, item.taps[i]) for lane in self.lanes_choices}
            units = {item._canonical_units(i, n) for n in self.units_choices}
            if (
                (i < item.n_layers - 1 and item.layer_widths[i] not in self.width_choices)
                or (item.fires(i) and item.neuron_types[i] not in self.neuron_choices)
                or item.bitstream_lengths[i] not in self.L_choices
                or item.delay_ranges[i] not in delays
                or item.densities[i] not in self.density_choices
                or item.generators[i] not in self.generator_choices
                or item.mappings[i] not in self.mapping_choices
                or (item.mappings[i] == "folded" and item.lanes[i] not in lanes)
                or item.units[i] not in units
            ):
                return False
        return True

    # -- drawing --------------------------------------------------------------------------------

    def random_architecture(self, rng: Rng) -> Architecture:
        """Depth first, each depth as likely as any other, then every gene on its own."""
        depth = self.min_layers + _below(rng, self.max_layers - self.min_layers + 1)
        return self._build(
            [self._random_layer(rng) for _ in range(depth)],
            _pick(rng, self.timesteps_choices),
            _pick(rng, self.word_choices),
        )

    def mutate(self, arch: Architecture, rng: Rng) -> Architecture:
        """A different architecture near `arch`: on average one gene changes, or the depth by one.

        Every gene of every layer can change, and a layer can appear or vanish anywhere.
        Raises ValueError if `arch` is not in the space or the space holds nothing else.
        """
        self._expect(arch)
        if self.space_size == 1:
            raise Refused("the space holds one architecture only, so it has no mutants")
        while True:
            layers, timesteps, word = self._genes(arch, rng)
            if _below(rng, 4) == 0:
                self._change_depth(layers, rng)
            rate = 1 / (len(self._genes_of_layer) * len(layers) + 2)
            for layer in layers:
                for gene, choices in self._layer_choices.items():
                    if len(choices) > 1 and rng.random() < rate:
                        layer[gene] = _other(rng, choices, layer[gene])
            if rng.random() < rate:
                timesteps = _pick(rng, self.timesteps_choices)
            if rng.random() < rate:
                word = _pick(rng, self.word_choices)
            child = self._build(layers, timesteps, word)
            if child != arch:
                return child

    def crossover(self, a: Architecture, b: Architecture, rng: Rng) -> Architecture:
        """A child of a and b, with the depth of either and different from both where the space allows.

        Hidden layers are lined up at the input side or at the output side, by coin; every gene of
        a layer comes from either parent that has this layer. A child equal to a parent is mutated.
        Raises ValueError if a parent is not in the space.
        """
        self._expect(a)
        self._expect(b)
        first, second = (a, b) if _below(rng, 2) == 0 else (b, a)
        mine, timesteps, word = self._genes(first, rng)  # the child has the depth of `first`
        theirs, their_timesteps, their_word = self._genes(second, rng)
        shift = len(theirs) - len(mine) if _below(rng, 2) == 0 else 0
        for i, layer in enumerate(mine):
            last = i == len(mine) - 1
            j = len(theirs) - 1 if last else i + shift
            if not last and not 0 <= j < len(theirs) - 1:
                continue
            for gene in self._genes_of_layer:
                if _below(rng, 2):
                    layer[gene] = theirs[j][gene]
        child = self._build(
            mine,
            their_timesteps if _below(rng, 2) else timesteps,
            their_word if _below(rng, 2) else word,
        )
        if child in (a, b) and self.space_size > len({a, b}):
            while child in (a, b):
                child = self.mutate(child, rng)
        return child

    def _expect(self, arch: Architecture) -> None:
        if arch not in self:
            raise Refused(f"the architecture must lie in the search space, got {arch!r}")

    def _random_layer(self, rng: Rng) -> dict:
        return {gene: _pick(rng, choices) for gene, choices in self._layer_choices.items()}

    def _change_depth(self, layers: list[dict], rng: Rng) -> None:
        """Insert or remove one layer in place, where the depth allows either."""
        grow = len(layers) < self.max_layers
        shrink = len(layers) > self.min_layers
        if grow and (not shrink or _below(rng, 2) == 0):
            layers.insert(_below(rng, len(layers)), self._random_layer(rng))
        elif shrink:
            del layers[_below(rng, len(layers) - 1)]

    def _genes(self, arch: Architecture, rng: Rng) -> tuple[list[dict], int, int]:
        """Genes of `arch` as choices of the space.

        What was made canonical becomes a choice it could have come from, drawn at random, so that
        a gene that gains an effect (lanes when a layer is folded) is not stuck at one value.
        """
        layers = []
        for i in range(arch.n_layers):
            layer = {gene: getattr(arch, gene)[i] for gene in _LAYER_GENES}
            if i == arch.n_layers - 1:
                layer["layer_widths"] = _pick(rng, self.width_choices)
            if not arch.fires(i):
                layer["neuron_types"] = _pick(rng, self.neuron_choices)
            for gene in ("delay_ranges", "lanes"):
                choices = self._layer_choices[gene]
                if layer[gene] not in choices:  # a capped value, or 0 lanes
                    layer[gene] = _pick(rng, [c for c in choices if c >= layer[gene]])
            came = [u for u in self.units_choices if arch._canonical_units(i, u) == layer["units"]]
            if came != [layer["units"]]:
                layer["units"] = _pick(rng, came)
            layers.append(layer)
        return layers, arch.timesteps, arch.word

    def _build(self, layers: list[dict], timesteps: int, word: int) -> Architecture:
        genes = {gene: tuple(layer[gene] for layer in layers) for gene in _LAYER_GENES}
        genes["layer_widths"] = (*genes["layer_widths"][:-1], self.n_outputs)
        return Architecture(
            self.n_inputs, **genes,
            timesteps=timesteps, word=word, fraction=self.fraction, readout=self.readout,
        )  # fmt: skip


def _below(rng: Rng, n: int) -> int:
    """A whole number in 0..n-1 from a Generator or a RandomState."""
    return int(rng.integers(n) if isinstance(rng, np.random.Generator) else rng.randint(n))


def _pick(rng: Rng, choices: Sequence):
    return choices[_below(rng, len(choices))]


def _other(rng: Rng, choices: Sequence, current: object):
    """A choice that differs from `current`."""
    left = [c for c in choices if c != current]
    return left[_below(rng, len(left))]

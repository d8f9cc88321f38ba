"""Architecture and SearchSpace: what may change, how to draw, mutate and cross.

What a gene is, what it may be and what it depends on stands in its row of scnas.genes.
Letters: n_in and n_out of a layer, T timesteps, L clocks of a bitstream, D largest delay.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from itertools import product
from math import prod
from typing import Any

import numpy as np

from scnas import genes
from scnas.contract import LAYERS, MAX_SYNAPSES, WIDTHS, Refused, short
from scnas.genes import Gene, from_table

Rng = np.random.Generator | np.random.RandomState


def _list(gene: str, values: Any) -> tuple:
    if isinstance(values, str) or not isinstance(values, Iterable) or getattr(values, "ndim", 1) == 0:
        raise Refused(f"{gene} must be a list with one entry per layer, got {short(values)}")
    return tuple(values)


@dataclass(frozen=True)
@genes.architecture_fields
class Architecture:
    """One candidate: a value, equal and hashed by its genes.

    The genes are those of scnas.genes.GENES, which says what each of them is and may be. Those of a layer are
    lists with one entry per layer, the input side first; None is the default, of a layer or of all of them.

    Genes without effect take one canonical value, so that equal networks are equal architectures: lanes of a
    parallel layer (0), lanes beyond the taps of a layer, units that do not share out the neurons of a layer
    (the next smaller number that does; 1 in the last layer, whose scores come one by one), the neuron of a
    last layer that only integrates (`lif`), a delay that T makes impossible (T - 1).

    The fitness fields are measurements: results carry them, equality ignores them. None: not
    measured. Raises ValueError with the gene, what it got and what it may be.
    """

    n_inputs: int
    layer_widths: tuple[int, ...]
    neuron_types: tuple[str, ...]
    bitstream_lengths: tuple[int, ...]
    delay_ranges: tuple[int, ...]
    densities: tuple[float, ...] = from_table()
    generators: tuple[str, ...] = from_table()
    mappings: tuple[str, ...] = from_table()
    lanes: tuple[int, ...] = from_table()
    timesteps: int = from_table()
    word: int = from_table()
    fraction: int = from_table()
    readout: str = from_table()
    fitness_accuracy: float | None = field(default=None, compare=False)
    fitness_luts: int | None = field(default=None, compare=False)
    fitness_energy_nj: float | None = field(default=None, compare=False)
    units: tuple[int, ...] = from_table()

    def __post_init__(self) -> None:
        network: dict[str, Any] = {}
        for gene in genes.of_network():
            value = gene.check(gene.name, getattr(self, gene.name), network)
            network[gene.name] = gene.form(value, network)
        widths = _list("layer_widths", self.layer_widths)
        n = len(widths)
        if not LAYERS.low <= n <= LAYERS.high:
            raise Refused(f"layer_widths must hold {LAYERS.low} to {LAYERS.high} layers, got {n}")
        layers = [{**network, "last": i == n - 1} for i in range(n)]
        n_in = genes.inputs(network)
        for gene in genes.of_layer():
            for i, (here, value) in enumerate(zip(layers, self._values(gene, n), strict=True)):
                value = gene.check(f"{gene.name}[{i}]", value, here)
                if gene.name == "layer_widths":
                    here["n_in"], n_in = n_in, value
                here[gene.name] = gene.form(value, here)
        put = object.__setattr__
        for name, value in network.items():
            put(self, name, value)
        for gene in genes.of_layer():
            put(self, gene.name, tuple(here[gene.name] for here in layers))
        for i, here in enumerate(layers):
            n_in, n_out = here["n_in"], here["layer_widths"]
            if n_in * n_out > MAX_SYNAPSES:
                raise Refused(
                    f"layer_widths[{i}] makes a layer of {n_in} x {n_out} synapses, at most {MAX_SYNAPSES}"
                )

    def _values(self, gene: Gene, n: int) -> tuple:
        """What was given for a gene of a layer, one entry per layer."""
        values = getattr(self, gene.name)
        if values is None and gene.default is not genes.REQUIRED:
            return (gene.default,) * n
        values = _list(gene.name, values)
        if gene.default is not genes.REQUIRED:
            values = tuple(gene.default if value is None else value for value in values)
        if not gene.always_drawn and all(value == gene.default for value in values):
            return (gene.default,) * n  # what is nowhere used fits any depth
        if len(values) != n:
            raise Refused(f"{gene.name} must have one entry per layer ({n}), got {len(values)}")
        return values

    def layer(self, index: int) -> dict[str, Any]:
        """The genes of layer `index` with those of the network, as rules of genes look at them."""
        here = {gene.name: getattr(self, gene.name) for gene in genes.of_network()}
        here |= {gene.name: getattr(self, gene.name)[index] for gene in genes.of_layer()}
        before = self.layer_widths[index - 1] if index else genes.inputs(here)
        return here | {"n_in": before, "last": index == self.n_layers - 1}

    @property
    def n_layers(self) -> int:
        return len(self.layer_widths)

    @property
    def n_outputs(self) -> int:
        return self.layer_widths[-1]

    @property
    def layer_sizes(self) -> list[tuple[int, int]]:
        """(n_in, n_out) of every layer."""
        first = genes.inputs({gene.name: getattr(self, gene.name) for gene in genes.of_network()})
        ends = (first, *self.layer_widths)
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
        return genes.fires({"readout": self.readout, "last": index == self.n_layers - 1})

    @cached_property
    def training_key(self) -> "Architecture":
        """This architecture without its mapping, which no spike depends on: what training sees."""
        plain: dict[str, Any] = {
            g.name: None if g.per == genes.LAYER else g.default for g in genes.GENES if g.mapping
        }
        measured: dict[str, Any] = dict.fromkeys(("fitness_accuracy", "fitness_luts", "fitness_energy_nj"))
        key = replace(self, **plain, **measured)
        return self if key == self and all(getattr(self, name) is None for name in measured) else key

    @property
    def name(self) -> str:
        """Same architecture, same name, on any machine: files, random addresses, logs."""
        parts = [genes.name_of(genes.of_network(), self.layer(0))]
        parts += [genes.name_of(genes.of_layer(), self.layer(i)) for i in range(self.n_layers)]
        return "_".join(parts)

    def to_dict(self) -> dict[str, Any]:
        """The genes as plain lists and numbers; `Architecture(**d)` gives it back."""
        values = {gene.name: getattr(self, gene.name) for gene in genes.GENES}
        return {name: list(v) if isinstance(v, tuple) else v for name, v in values.items()}


@dataclass(frozen=True)
@genes.space_fields
class SearchSpace:
    """Every architecture with these inputs, outputs, depths and choices.

    n_inputs, n_outputs: of the task. min_layers..max_layers: depth, the output layer counted.
    *_choices: what a gene of scnas.genes.GENES may be, width_choices of hidden layers. fraction, readout: the
    same for all. Raises ValueError with the setting, what it got and what it may be.
    """

    n_inputs: int
    n_outputs: int
    min_layers: int = 1
    max_layers: int = 4
    width_choices: tuple[int, ...] = from_table()
    neuron_choices: tuple[str, ...] = from_table()
    L_choices: tuple[int, ...] = from_table()
    delay_choices: tuple[int, ...] = from_table()
    density_choices: tuple[float, ...] = from_table()
    generator_choices: tuple[str, ...] = from_table()
    mapping_choices: tuple[str, ...] = from_table()
    lanes_choices: tuple[int, ...] = from_table()
    timesteps_choices: tuple[int, ...] = from_table()
    word_choices: tuple[int, ...] = from_table()
    fraction: int = from_table()
    readout: str = from_table()
    units_choices: tuple[int, ...] = from_table()

    def __post_init__(self) -> None:
        WIDTHS.check("n_inputs", self.n_inputs)
        WIDTHS.check("n_outputs", self.n_outputs)
        fixed: dict[str, Any] = {}
        for gene in genes.GENES:
            if gene.fixed and gene.choices:
                fixed[gene.name] = gene.check(gene.name, getattr(self, gene.name), fixed)
        LAYERS.check("min_layers", self.min_layers)
        LAYERS.check("max_layers", self.max_layers)
        if self.min_layers > self.max_layers:
            raise Refused(f"min_layers must be at most max_layers = {self.max_layers}, got {self.min_layers}")
        for gene in (*genes.of_layer(), *genes.of_network()):
            if gene.fixed:
                continue
            values = getattr(self, gene.choices)
            if isinstance(values, str) or not isinstance(values, Iterable):
                raise Refused(f"{gene.choices} must be a list of choices, got {short(values)}")
            values = tuple(dict.fromkeys(gene.check(gene.choices, value, fixed) for value in values))
            if not values:
                raise Refused(f"{gene.choices} must hold at least one choice, got none")
            object.__setattr__(self, gene.choices, values)
        hidden = self.width_choices if self.max_layers > 1 else ()
        ends_in = max((*map(genes.inputs, self._networks), *hidden))
        ends_out = max((self.n_outputs, *hidden))
        if ends_in * ends_out > MAX_SYNAPSES:
            raise Refused(
                f"width_choices allow a layer of {ends_in} x {ends_out} synapses, at most {MAX_SYNAPSES}"
            )

    def _choices(self, gene: Gene) -> tuple:
        """What a gene may be in this space, before it is made canonical."""
        return (getattr(self, gene.choices or gene.name),) if gene.fixed else getattr(self, gene.choices)

    @cached_property
    def _layer_choices(self) -> dict[str, tuple]:
        return {gene.name: self._choices(gene) for gene in genes.of_layer()}

    @cached_property
    def _free(self) -> tuple[Gene, ...]:
        """Genes of the network that a space has a choice of."""
        return tuple(gene for gene in genes.of_network() if not gene.fixed)

    def _drawn(self, gene: Gene) -> bool:
        """Whether breeding draws for a gene: one that joined the table later needs a choice, so that a search
        of a space without one stays the same search."""
        return gene.always_drawn or len(self._choices(gene)) > 1

    # -- size and membership --------------------------------------------------------------------

    @cached_property
    def _networks(self) -> list[dict[str, Any]]:
        """The different genes of the network that there are, in canonical form."""
        found = {}
        rows = genes.of_network()
        for values in product(*map(self._choices, rows)):
            here: dict[str, Any] = {}
            for gene, value in zip(rows, values, strict=True):
                here[gene.name] = gene.form(value, here)
            found[tuple(here.values())] = here
        return list(found.values())

    @cached_property
    def space_size(self) -> int:
        """How many different architectures the space holds, exactly.

        Canonical genes are counted once. What a layer can be depends on its width, the one before it and the
        genes of the network that its own depend on, so the sum over depths runs along the layers, once for
        all networks that are alike in those.
        """
        above = {name for gene in genes.of_layer() for name in gene.depends} & {g.name for g in self._free}
        networks = {}
        alike: Counter[tuple] = Counter()
        for network in self._networks:
            key = (genes.inputs(network), *(network[name] for name in sorted(above)))
            networks[key] = network
            alike[key] += 1
        return sum(self._ways(networks[key]) * count for key, count in alike.items())

    def _ways(self, network: dict[str, Any]) -> int:
        """Different stacks of layers of a network with these genes."""
        total, paths = 0, {genes.inputs(network): 1}  # width of the layer before -> ways to get there
        hidden: dict[tuple[int, int], int] = {}
        for depth in range(1, self.max_layers + 1):
            if depth >= self.min_layers:
                total += sum(
                    ways * self._layer_ways(network, n, self.n_outputs, last=True)
                    for n, ways in paths.items()
                )
            if depth == self.max_layers:
                break
            for n, width in product(paths, self.width_choices):
                if (n, width) not in hidden:
                    hidden[n, width] = self._layer_ways(network, n, width, last=False)
            paths = {w: sum(ways * hidden[n, w] for n, ways in paths.items()) for w in self.width_choices}
        return total

    def _layer_ways(self, network: dict[str, Any], n_in: int, width: int, *, last: bool) -> int:
        """Different layers of one width behind n_in inputs: genes that depend on each other are counted
        together, and the others on their own."""
        here = network | {"n_in": n_in, "layer_widths": width, "last": last}
        return prod(self._forms(rows, dict(here)) for rows in _dependent())

    def _forms(self, rows: Sequence[Gene], here: dict[str, Any]) -> int:
        """How many canonical forms these genes of one layer can take together. `here` gains them,
        so that one that reads a gene it does not say it depends on finds nothing."""
        if len(rows) == 1 and rows[0].effect is None and rows[0].canonical is None:
            return len(self._layer_choices[rows[0].name])
        forms: set[tuple] = {()}
        for gene in rows:
            found = set()
            for form in forms:
                here.update(zip((row.name for row in rows), form, strict=False))
                found |= {(*form, gene.form(choice, here)) for choice in self._layer_choices[gene.name]}
            forms = found
        return len(forms)

    def __contains__(self, item: object) -> bool:
        if not isinstance(item, Architecture) or item.n_outputs != self.n_outputs:
            return False
        network = {gene.name: getattr(item, gene.name) for gene in genes.of_network()}
        if not self.min_layers <= item.n_layers <= self.max_layers:
            return False
        if any(not self._origins(gene, network) for gene in genes.of_network()):
            return False
        return all(
            self._origins(gene, here)
            for here in map(item.layer, range(item.n_layers))
            for gene in genes.of_layer()
        )

    def _origins(self, gene: Gene, here: dict[str, Any]) -> list:
        """The choices of a gene whose canonical form is the value that it has `here`."""
        if gene.name == "layer_widths" and here["last"]:
            return list(self.width_choices)  # the number of outputs is the task's
        choices, value = self._choices(gene), here[gene.name]
        if gene.effect is None and gene.canonical is None:
            return [value] if value in choices else []
        return [choice for choice in choices if gene.form(choice, here) == value]

    # -- drawing --------------------------------------------------------------------------------

    def random_architecture(self, rng: Rng) -> Architecture:
        """Depth first, each depth as likely as any other, then every gene on its own."""
        depth = self.min_layers + _below(rng, self.max_layers - self.min_layers + 1)
        layers = [self._random_layer(rng) for _ in range(depth)]
        return self._build(layers, {gene.name: _pick(rng, self._choices(gene)) for gene in self._free})

    def mutate(self, arch: Architecture, rng: Rng) -> Architecture:
        """A different architecture near `arch`: on average one gene changes, or the depth by one.

        Every gene of every layer can change, and a layer can appear or vanish anywhere.
        Raises ValueError if `arch` is not in the space or the space holds nothing else.
        """
        self._expect(arch)
        if self.space_size == 1:
            raise Refused("the space holds one architecture only, so it has no mutants")
        per_layer = sum(map(self._drawn, genes.of_layer()))
        per_network = [gene for gene in self._free if self._drawn(gene)]
        while True:
            layers, network = self._genes(arch, rng)
            if _below(rng, 4) == 0:
                self._change_depth(layers, rng)
            rate = 1 / (per_layer * len(layers) + len(per_network))
            for layer in layers:
                for gene, choices in self._layer_choices.items():
                    if len(choices) > 1 and rng.random() < rate:
                        layer[gene] = _other(rng, choices, layer[gene])
            for row in per_network:
                if rng.random() < rate:
                    network[row.name] = _pick(rng, self._choices(row))
            child = self._build(layers, network)
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
        mine, network = self._genes(first, rng)  # the child has the depth of `first`
        theirs, their_network = self._genes(second, rng)
        shift = len(theirs) - len(mine) if _below(rng, 2) == 0 else 0
        inherited = [gene.name for gene in genes.of_layer() if self._drawn(gene)]
        for i, layer in enumerate(mine):
            last = i == len(mine) - 1
            j = len(theirs) - 1 if last else i + shift
            if not last and not 0 <= j < len(theirs) - 1:
                continue
            for gene in inherited:
                if _below(rng, 2):
                    layer[gene] = theirs[j][gene]
        for row in self._free:
            if self._drawn(row) and _below(rng, 2):
                network[row.name] = their_network[row.name]
        child = self._build(mine, network)
        if child in (a, b) and self.space_size > len({a, b}):
            while child in (a, b):
                child = self.mutate(child, rng)
        return child

    def _expect(self, arch: Architecture) -> None:
        if arch not in self:
            raise Refused(f"the architecture must lie in the search space, got {arch!r}")

    def _random_layer(self, rng: Rng) -> dict[str, Any]:
        return {gene: _pick(rng, choices) for gene, choices in self._layer_choices.items()}

    def _change_depth(self, layers: list[dict[str, Any]], rng: Rng) -> None:
        """Insert or remove one layer in place, where the depth allows either."""
        grow = len(layers) < self.max_layers
        shrink = len(layers) > self.min_layers
        if grow and (not shrink or _below(rng, 2) == 0):
            layers.insert(_below(rng, len(layers)), self._random_layer(rng))
        elif shrink:
            del layers[_below(rng, len(layers) - 1)]

    def _genes(self, arch: Architecture, rng: Rng) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        """Genes of `arch` as choices of the space, of every layer and of the network.

        What was made canonical becomes a choice it could have come from, drawn at random, so that
        a gene that gains an effect (lanes when a layer is folded) is not stuck at one value.
        """
        layers = []
        for i in range(arch.n_layers):
            here = arch.layer(i)
            layers.append({gene.name: self._choice(gene, here, rng) for gene in genes.of_layer()})
        return layers, {gene.name: self._choice(gene, here, rng) for gene in self._free}

    def _choice(self, gene: Gene, here: dict[str, Any], rng: Rng) -> Any:
        """A choice that the value of a gene `here` could have come from."""
        value = here[gene.name]
        if gene.kept and value in self._choices(gene):
            return value
        came = self._origins(gene, here)
        return value if came == [value] else _pick(rng, came)

    def _build(self, layers: list[dict[str, Any]], network: dict[str, Any]) -> Architecture:
        chosen = {gene.name: tuple(layer[gene.name] for layer in layers) for gene in genes.of_layer()}
        chosen["layer_widths"] = (*chosen["layer_widths"][:-1], self.n_outputs)
        fixed = {gene.name: self._choices(gene)[0] for gene in genes.of_network() if gene.fixed}
        return Architecture(**chosen | fixed | network)


@cache
def _dependent() -> list[list[Gene]]:
    """Genes of a layer but for its width, in groups that do not depend on each other."""
    groups: list[list[Gene]] = []
    for gene in genes.of_layer():
        if gene.name == "layer_widths":
            continue
        mine = [group for group in groups if any(other.name in gene.depends for other in group)]
        groups = [group for group in groups if group not in mine]
        groups.append([*(other for group in mine for other in group), gene])
    return [[gene for gene in genes.of_layer() if gene in group] for group in groups]


def _below(rng: Rng, n: int) -> int:
    """A whole number in 0..n-1 from a Generator or a RandomState."""
    return int(rng.integers(n) if isinstance(rng, np.random.Generator) else rng.randint(n))


def _pick(rng: Rng, choices: Sequence) -> Any:
    return choices[_below(rng, len(choices))]


def _other(rng: Rng, choices: Sequence, current: object) -> Any:
    """A choice that differs from `current`."""
    left = [c for c in choices if c != current]
    return left[_below(rng, len(left))]


# -- in words ------------------------------------------------------------------------------------


def describe(a: Architecture) -> str:
    """An architecture in a few words, e.g. `64-32-10 lif L16,8 T8`."""
    layers = [a.layer(i) for i in range(a.n_layers)]
    parts = ["-".join(map(str, (a.n_inputs, *a.layer_widths)))]
    for gene in genes.of_layer():
        if gene.mapping or gene.label is None:
            continue
        values = [here[gene.name] for here in layers if gene.effect is None or gene.effect(here)]
        if set(values) - {gene.untold}:
            parts.append(gene.label + _brief(values))
    mapped = [_mapped(here) for here in layers]
    if set(mapped) != {"par"}:
        parts.append(("folded " if "folded" in a.mappings else "") + _brief(mapped))
    for gene in genes.of_network():
        if gene.label is not None and getattr(a, gene.name) != gene.untold:
            parts.append(gene.label + _brief([getattr(a, gene.name)]))
    return " ".join(parts)


def _mapped(here: genes.Here) -> str:
    """How one layer becomes hardware: `par`, or the names of the genes that say how."""
    rows = [g for g in genes.of_layer() if g.mapping and g.short and here[g.name] != g.unnamed]
    return "".join(g.short.format(here[g.name]) for g in rows) or "par"


def _brief(values: Sequence[Any]) -> str:
    """One value where all are equal, otherwise all of them."""
    told = [f"{v:g}" if isinstance(v, float) else str(v) for v in values]
    return told[0] if len(set(told)) == 1 else ",".join(told)

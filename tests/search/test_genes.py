"""scnas.genes: one row a gene, and a new row is all that a new gene needs."""

import json
import os
import subprocess
import sys
from dataclasses import fields

import pytest

from scnas import genes
from scnas.genes import GENES, LAYER, NETWORK, REQUIRED
from scnas.settings import compose
from scnas.settings.schema import Space
from scnas.snn.network import Layer, Network
from scnas.space import Architecture, SearchSpace, describe

# --- the table -------------------------------------------------------------------------------------


def test_the_fields_are_the_genes():
    """Declared or not: no field that the table does not know, none that it knows is missing."""
    declared = [f.name for f in fields(Architecture) if f.compare]
    assert declared == [gene.name for gene in GENES]
    ends = {"n_inputs", "n_outputs", "min_layers", "max_layers"}
    choices = {gene.choices for gene in GENES if gene.choices}
    assert {f.name for f in fields(SearchSpace)} == ends | choices
    assert {f.name for f in fields(Space)} == {"min_layers", "max_layers"} | choices
    assert set(vars(compose.load().space)) == {f.name for f in fields(Space)}  # conf/ fills them all


def test_defaults_are_those_of_the_table():
    a = Architecture(6, (8, 3), ("if", "if"), (4, 4), (0, 0), mappings=("folded", "folded"))
    for gene in GENES:
        if gene.default is not REQUIRED and gene.name not in ("mappings", "lanes"):
            assert getattr(a, gene.name) == (gene.default if gene.per == NETWORK else (gene.default,) * 2)
    assert a.lanes == (6, 8)  # 8, or as many as there are taps
    for gene in GENES:
        if gene.choices and not gene.fixed:
            assert getattr(SearchSpace(6, 3), gene.choices) == tuple(gene.standard or (gene.default,))


def test_a_field_of_network_json_that_a_gene_names_is_there():
    for gene in GENES:
        if gene.stored:
            assert gene.stored in {f.name for f in fields(Layer if gene.per == LAYER else Network)}, gene.name


class Watched(dict):
    """Genes that keep a list of those that were looked at."""

    def __init__(self, values):
        super().__init__(values)
        self.seen = set()

    def __getitem__(self, name):
        self.seen.add(name)
        return super().__getitem__(name)

    def get(self, name, default=None):
        self.seen.add(name)
        return super().get(name, default)


def test_rules_look_at_what_they_say_they_depend_on():
    """And that stands above them, or is a gene of the network: the size of a space is counted by it."""
    made = [
        Architecture(6, (8, 3), ("if",) * 2, (4,) * 2, (2,) * 2, mappings=(m,) * 2, readout=readout)
        for m in ("parallel", "folded")
        for readout in ("membrane", "spikes")
    ]
    above: list[str] = []
    for gene in sorted(GENES, key=lambda gene: gene.per == LAYER):
        assert set(gene.depends) <= set(above), gene.name
        seen = set()
        for a in made:
            for i in range(2):
                here = Watched(a.layer(i))
                gene.form(gene.check(gene.name, a.layer(i)[gene.name], here), here)
                seen |= here.seen
        assert seen - {"n_in", "last", "layer_widths"} == set(gene.depends), gene.name
        above.append(gene.name)


def test_words_worked_by_hand():
    a = Architecture(
        64, (32, 16, 10), ("lif", "if", "lif"), (16, 8, 8), (0, 4, 0), (0.5, 1, 1), ("lfsr",) * 3,
        ("folded", "parallel", "folded"), (4, 0, 8), units=(2, 1, 1), timesteps=16,
    )  # fmt: skip
    assert a.name == (
        "n64-T16-W16-F8-membrane_32-lif-L16-D0-p0.5-lfsr-x4-u2_16-if-L8-D4-p1.0-lfsr"
        "_10-lif-L8-D0-p1.0-lfsr-x8"
    )
    assert describe(a) == "64-32-16-10 lif,if L16,8,8 D0,4,0 density 0.5,1,1 lfsr folded x4u2,par,x8 T16 W16"
    plain = Architecture(4, (2,), ("izhikevich",), (4,), (0,))
    assert describe(plain) == "4-2 L4 T8 W16"  # the only layer has no neurons
    assert plain.name == "n4-T8-W16-F8-membrane_2-lif-L4-D0-p1.0-sobol"


# --- a new row --------------------------------------------------------------------------------------

# Four genes that nothing else knows: one of a layer that training sees and that counts at L = 8 alone, one of
# the mapping, one of the network, and one of the network that depends on that one.
ROWS = """
import itertools, json, pickle, sys
from dataclasses import replace
from pathlib import Path
from scnas import genes
from scnas.contract import OneOf, Range
from scnas.genes import LAYER, NETWORK, Gene

genes.GENES += (
    Gene(
        "shades", LAYER, int, "of grey", Range(0, 9), choices="shade_choices", default=0,
        depends=("bitstream_lengths",), effect=lambda here: here["bitstream_lengths"] == 8,
        short="s{}", unnamed=0, label="shade ", untold=0,
    ),
    Gene(
        "banks", LAYER, int, "of a memory", Range(1, 9), choices="bank_choices", default=1, mapping=True,
        depends=("mappings",), canonical=lambda banks, here: min(banks, here["layer_widths"]),
        short="b{}", unnamed=1,
    ),
    Gene(
        "code", NETWORK, str, "of the inputs", OneOf(("rate", "rank")), choices="code_choices",
        default="rate", short="{}", unnamed="rate", label="code ", untold="rate",
    ),
    Gene(
        "ranks", NETWORK, int, "of a code of ranks", Range(1, 9), choices="rank_choices", default=1,
        depends=("code",), effect=lambda here: here["code"] == "rank", short="r{}", unnamed=1, label="ranks ",
        untold=1,
    ),
)

from scnas.space import Architecture, SearchSpace, describe
"""


def with_rows(script: str, *arguments: object) -> str:
    """What `script` prints in a process of its own, whose table has four rows more."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", ROWS + script, *map(str, arguments)],
        capture_output=True, text=True, timeout=300, env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_a_new_row_is_checked_named_told_and_stored():
    with_rows("""
a = Architecture(6, (5, 3), ("if", "if"), (8, 4), (0, 0))
assert (a.shades, a.banks, a.code, a.ranks) == ((0, 0), (1, 1), "rate", 1)
assert a.name == "n6-T8-W16-F8-membrane_5-if-L8-D0-p1.0-sobol_3-lif-L4-D0-p1.0-sobol"  # as without the rows
b = replace(a, shades=(7, 7), banks=(9, 2), code="rank", ranks=4)
assert (b.shades, b.banks, b.ranks) == ((7, 0), (5, 2), 4)  # no shade at L = 4, a bank a neuron at most
assert replace(b, code="rate").ranks == 1 and replace(a, ranks=5) == a != replace(a, code="rank")
assert b.name == "n6-T8-W16-F8-membrane-rank-r4_5-if-L8-D0-p1.0-sobol-s7-b5_3-lif-L4-D0-p1.0-sobol-b2"
assert describe(b) == "6-5-3 if L8,4 shade 7 b5,b2 T8 W16 code rank ranks 4"
assert b.training_key.banks == (1, 1) and b.training_key.shades == (7, 0) and b.training_key.code == "rank"
assert Architecture(**json.loads(json.dumps(b.to_dict()))) == b == pickle.loads(pickle.dumps(b))
for gene, value, message in [
    ("shades", (0, 10), "shades[1] must be a whole number from 0 to 9, got 10"),
    ("banks", (1,) * 3 + (2,), "banks must have one entry per layer (2), got 4"),
    ("code", "morse", "code must be one of rate, rank, got 'morse'"),
]:
    try:
        replace(a, **{gene: value})
    except ValueError as error:
        assert str(error) == message, error
    else:
        raise AssertionError(gene)
""")


def test_a_space_with_new_rows_is_counted_drawn_mutated_and_crossed():
    with_rows("""
import numpy as np
def every(space):
    found = set()
    layer_rows, network_rows = genes.of_layer(), [g for g in genes.of_network() if not g.fixed]
    for depth in range(space.min_layers, space.max_layers + 1):
        layers = list(itertools.product(*(getattr(space, g.choices) for g in layer_rows)))
        for chosen in itertools.product(layers, repeat=depth):
            for network in itertools.product(*(getattr(space, g.choices) for g in network_rows)):
                values = {g.name: column for g, column in zip(layer_rows, zip(*chosen))}
                values["layer_widths"] = (*values["layer_widths"][:-1], space.n_outputs)
                values |= {g.name: v for g, v in zip(network_rows, network)}
                found.add(Architecture(space.n_inputs, **values, readout=space.readout))
    return found

space = SearchSpace(
    3, 2, 1, 2, [2, 4], ["lif"], [4, 8], [0], [1.0], ["sobol"], ["parallel"], [4], [8], [16],
    shade_choices=[0, 1], bank_choices=[1, 3], code_choices=["rate", "rank"], rank_choices=[1, 2, 3],
)
left = every(space)
assert space.space_size == len(left) > 100
assert all(a in space for a in left) and len({a.name for a in left}) == len(left)
one = next(a for a in left if a.n_layers == 2 and a.shades == (1, 1) and a.ranks == 3 and a.banks == (3, 2))
for gene, value in {"shades": (5, 1), "banks": (2, 2), "ranks": 4}.items():
    assert replace(one, **{gene: value}) not in space, gene
rng = np.random.default_rng(0)
a, b, seen, born = one, space.random_architecture(rng), set(), set()
for _ in range(6000):
    a, child = space.mutate(a, rng), space.crossover(a, b, rng)
    b = space.random_architecture(rng)
    assert a in space and b in space and child in space
    seen.add(a), born.add(child)
assert seen == left and len(born) > 0.9 * len(left)

mate = replace(one, shades=(0, 0), banks=(1, 1), code="rate")
SearchSpace.mutate = lambda *_: None  # children of these two alone
children = [c for _ in range(300) if (c := space.crossover(one, mate, rng)) is not None]
assert {c.shades for c in children} == {(0, 0), (0, 1), (1, 0), (1, 1)}  # layer by layer
assert {c.banks for c in children} == {(1, 1), (1, 2), (3, 1), (3, 2)}
assert {(c.code, c.shades) for c in children} >= {("rate", (1, 1)), ("rank", (0, 0))}
""")


def test_rows_without_a_choice_leave_every_stream_of_random_numbers_as_it_was():
    script = """
import numpy as np
space, rng, names = SearchSpace(16, 4, units_choices=(1, 2)), np.random.default_rng(5), []
a, b = space.random_architecture(rng), space.random_architecture(rng)
for _ in range(40):
    a, b = space.mutate(a, rng), space.crossover(a, b, rng)
    names += [a.name, b.name]
print(space.space_size, *names)
"""
    plain = subprocess.run(
        [sys.executable, "-c", "from scnas.space import SearchSpace\n" + script],
        capture_output=True, text=True, timeout=300, check=True,
    )  # fmt: skip
    assert with_rows(script) == plain.stdout


def test_a_run_with_new_rows_reads_and_writes_them(tmp_path):
    """Settings, a search that trains, the archive with its CSV, the front, and all of it read back."""
    out = with_rows("""
from scnas.run import run
from scnas.settings import compose, saved
from scnas.record import front
from scnas.trials import archive, export
import csv, yaml
folder = Path(sys.argv[1])
settings = compose.load([
    "+experiment=smoke", "space.shade_choices=[3,4]", "space.bank_choices=[2]", "space.code_choices=[rank]",
    "space.rank_choices=[5,6]", "space.L_choices=[4,8]", "space.max_layers=2", "search.population_size=4",
    "search.generations=2", "train.epochs=1", "train.full_epochs=1", "train.final_seeds=1", "build=none",
    "executor.workers=1", "task.train_limit=60",
])
run(settings, folder)
assert saved.read(folder / "settings.yaml").space.shade_choices == [3, 4]
older = yaml.safe_load((folder / "settings.yaml").read_text())
assert older["space"].pop("rank_choices") == [5, 6]
(folder / "older.yaml").write_text(yaml.safe_dump(older))
assert saved.read(folder / "older.yaml").space.rank_choices == [1]
members = front.read(folder).members
found = archive.searched(folder)
assert {a.architecture.code for a in members} == {"rank"}
assert {s for e in found for s in e.architecture.shades} <= {0, 3, 4} and len(found) == 8
assert {e.architecture.ranks for e in found} <= {5, 6}
list(export.export(folder))
for name in ("evaluations.csv", "front.csv"):
    rows = list(csv.DictReader(open(folder / name)))
    assert all(set(row["banks"].split()) == {"2"} and row["code"] == "rank" and row["shades"] for row in rows)
print(json.dumps([member.architecture.to_dict() for member in members]))
""", tmp_path)  # fmt: skip
    (row, *_) = json.loads(out.splitlines()[-1])
    with pytest.raises(TypeError, match="shades"):
        Architecture(**row)  # here nobody knows of them
    assert not {"shades", "banks"} & {gene.name for gene in genes.GENES}

"""By record: designs, costs, trainings and verdicts are what they were, bit for bit.

`results.json`, beside this file, holds hashes of four kinds of results:

    drawn      1,000 networks drawn at random: their design.v, what `measure` says of each on every target,
               and what `estimate` says of the architecture with the same genes
    trainings  four short searches: every row of their archives, and network.json of every member of the
               front; for each kind of processor and versions of the packages that compute them
    verdicts   four small networks: every obligation of the proof, and its status

A table of results is kept as two hashes a column, of the values and of the values to 9 digits, with the sum
of its numbers, and four digits of a hash a row. The columns decide; the rows tell where to look first.

The last bits of a float depend on the processor. On the recorded one every bit counts; on others costs are
compared to 9 digits and trainings are skipped, and the tests say so. --record on such a machine adds its
trainings beside those that are there, and replaces the costs.

A change of code that should change no result leaves the record alone. One that changes results on purpose
records them anew in the same commit, which does nothing else and says which figures changed and why:

    python tests/test_results.py --record            everything; or only: drawn, trainings, verdicts
    python tests/test_results.py --show 17           network 17, its designs and costs, to compare two commits
"""

import argparse
import functools
import hashlib
import importlib.util
import itertools
import json
import math
import os
import platform
import re
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

import llvmlite.binding
import numpy as np
import pytest

import scnas
from scnas.equiv import check_winner
from scnas.hardware.circuit.top import write_design

HERE = Path(__file__).resolve().parent
RECORD = HERE / "results.json"
NETWORKS = 1000
TARGETS = ("ice40", "ice40_up5k", "ecp5", "ecp5_25k", "artix7", "zynq")

# Every choice is written out here: what the package adds or reorders must not draw other networks.
NEURONS = {
    "if": ("gain_k", "v_rest", "v_reset", "refractory"),
    "lif": ("leak_k", "gain_k", "v_rest", "v_reset", "refractory"),
    "stochastic_lif": ("leak_k", "gain_k", "noise_k", "v_rest", "v_reset", "refractory"),
    "homeostatic_lif": ("leak_k", "gain_k", "decay_k", "bump_k", "v_rest", "v_reset", "refractory"),
    "izhikevich": ("gain_k", "a_k", "b_k", "d_k", "v_rest", "v_reset", "refractory"),
}
CONSTANTS = (
    "leak_k", "gain_k", "noise_k", "decay_k", "bump_k", "a_k", "b_k", "d_k", "v_rest", "v_reset",
    "refractory",
)  # fmt: skip
LANES = (1, 2, 3, 4, 5, 8, 16, 33, 64, 100)

Row = dict[str, object]
Table = dict[str, object]


# -- tables and what differs ------------------------------------------------------------------------------


def _plain(value: object) -> object:
    return value.item() if isinstance(value, np.generic) else value


def _hash(value: object, digits: int) -> str:
    return hashlib.sha256(repr(value).encode()).hexdigest()[:digits]


def _nine_digits(value: object) -> object:
    return float(f"{value:.9g}") if isinstance(value, float) else value


def table_of(rows: Sequence[Row]) -> Table:
    """What is kept of `rows`: two hashes and a sum a column, four digits of a hash a row."""
    columns = {}
    for name in sorted({name for row in rows for name in row}):
        values = [_plain(row.get(name)) for row in rows]
        numbers = [v for v in values if isinstance(v, int | float)]
        total = math.fsum(v for v in numbers if math.isfinite(v)) if numbers else None
        columns[name] = [_hash(values, 16), _hash([_nine_digits(v) for v in values], 16), total]
    digits = [_hash(sorted((name, _plain(value)) for name, value in row.items()), 4) for row in rows]
    return {
        "rows": len(rows),
        "columns": columns,
        "digits": ["".join(digits[i : i + 25]) for i in range(0, len(digits), 25)],
    }


def differences(
    what: str, recorded: Table | None, rows: Sequence[Row], label: Callable[[int], str], exact: bool = True
) -> str:
    """What of `rows` is not as it was recorded, in a few lines; "" where everything is.

    label: of a row, by its number. exact: to the last bit of floats, otherwise to 9 digits.
    """
    if recorded is None:
        return f"{what}: not recorded"
    now = table_of(rows)
    before, after = recorded["columns"], now["columns"]

    def hashed(columns: dict[str, list], name: str) -> str | None:
        return columns[name][0 if exact else 1] if name in columns else None

    changed = [name for name in sorted({*before, *after}) if hashed(before, name) != hashed(after, name)]
    if not changed and recorded["rows"] == now["rows"]:
        return ""
    lines = [f"{what}: {len(changed)} of {len({*before, *after})} columns differ from {RECORD.name}"]
    if recorded["rows"] != now["rows"]:
        lines.append(f"  {now['rows']} rows, recorded {recorded['rows']}, so every column differs")
    for name in changed if recorded["rows"] == now["rows"] else ():
        if name not in after:
            lines.append(f"  {name}: gone")
        elif name not in before:
            lines.append(f"  {name}: was not there")
        elif before[name][2] == after[name][2]:
            lines.append(f"  {name}")
        else:
            lines.append(f"  {name}: sum {after[name][2]!r}, recorded {before[name][2]!r}")
    digits = [re.findall("....", "".join(table["digits"])) for table in (recorded, now)]
    others = [i for i, (a, b) in enumerate(zip(*digits, strict=False)) if a != b]
    if not exact:
        lines.append(
            "  floats are compared to 9 digits here, rows to the last bit: the first may differ there only"
        )
    if others:
        first = others[0]
        lines.append(
            f"  {len(others)} rows differ: {', '.join(map(str, others[:12]))}{' ...' * (len(others) > 12)}"
        )
        lines.append(f"  the first is {label(first)}, now:")
        lines += [
            f"    {name} = {str(_plain(rows[first][name])):.100}" for name in changed if name in rows[first]
        ]
    return "\n".join(lines)


@functools.cache
def record() -> dict:
    return json.loads(RECORD.read_text())


def processor(*packages: str) -> str:
    """What decides the last bits of floats: the processor, as LLVM knows it, and the packages."""
    cpu = f"{platform.machine()} {llvmlite.binding.get_host_cpu_name()}"
    return ", ".join([cpu, *(f"{name} {version(name)}" for name in packages)])


# -- networks drawn at random -----------------------------------------------------------------------------


def _weights(rng: np.random.Generator, n_in: int, n_out: int, top: int) -> np.ndarray:
    """Of one of many kinds: dense or sparse, none, one sign, the largest only, neurons without a synapse."""
    weights = rng.integers(-top, top + 1, (n_in, n_out))
    weights *= rng.random((n_in, n_out)) < rng.choice([0.1, 0.4, 0.7, 1.0])
    match int(rng.integers(0, 14)):
        case 0:
            weights[:] = 0
        case 1:
            weights = -np.abs(weights)
        case 2:
            weights = np.abs(weights)
        case 3 | 4:
            weights[:, rng.random(n_out) < 0.4] = 0
        case 5:
            weights[rng.random(n_in) < 0.4] = 0
        case 6:
            weights = np.sign(weights) * top
    return weights


def drawn_layer(
    rng: np.random.Generator, n_in: int, n_out: int, word: int, fraction: int, last: bool, **given: object
) -> scnas.Layer:
    """A layer of any kind.

    given: what is not drawn, of neuron, generator, length, mapping, lanes, units and delay (the largest).
    """
    free = {
        "neuron": str(rng.choice(list(NEURONS))),
        "generator": str(rng.choice(["sobol", "lfsr"])),
        "length": 2 ** int(rng.integers(0, min(fraction, 8) + 1)),
        "mapping": str(rng.choice(["parallel", "folded"])),
        "lanes": int(rng.choice(LANES)),
        "units": int(rng.choice([n for n in range(1, 9) if n_out % n == 0 and (n == 1 or n_out // n > 1)])),
        "delay": int(rng.choice([0, 0, 1, 2, 5])),
    }
    of = free | given
    half, one = 2 ** (word - 1), 2**fraction
    small = min(half - 1, 2 * one)
    shifts = rng.random() < 0.5  # constants that training would choose, or any

    def constant(low: int, high: int) -> int:
        if shifts:
            return int(min(2 ** rng.integers(0, fraction + 1), 2 ** (word - 2)))
        return int(rng.integers(max(low, -half), min(high, half - 1) + 1))

    constants = {
        "leak_k": constant(0, one),
        "gain_k": constant(1, 2 * one),
        "noise_k": constant(0, 2 * one),
        "decay_k": constant(0, one),
        "bump_k": constant(0, one),
        "a_k": constant(0, max(1, one // 8)),
        "b_k": constant(0, one // 2),
        "d_k": constant(0, max(1, one // 4)),
        "v_rest": int(rng.integers(-small // 4, small // 4 + 1)),
        "v_reset": int(rng.integers(-small // 2, small // 4 + 1)),
        "refractory": int(rng.choice([0, 0, 1, 3])),
    }
    folded = of["mapping"] == "folded"
    return scnas.Layer(
        neuron=of["neuron"],
        generator=of["generator"],
        length=of["length"],
        seed=int(rng.integers(1, 2**16)),
        noise_seed=int(rng.integers(1, 2**16)),
        mapping=of["mapping"],
        lanes=of["lanes"] if folded else 0,
        weights=_weights(rng, n_in, n_out, of["length"] if of["generator"] == "sobol" else 256),
        delays=rng.integers(0, of["delay"] + 1, (n_in, n_out)),
        threshold=rng.integers(-small // 8, small, n_out),
        constants={name: constants[name] if name in NEURONS[of["neuron"]] else 0 for name in CONSTANTS},
        units=of["units"] if folded and not last else 1,
    )


def drawn_network(index: int) -> scnas.Network:
    """Network `index` of the record: 1 to 4 layers, words of 4 to 24 bits, every choice there is."""
    rng = np.random.default_rng([16, index])
    word, fraction = int(rng.integers(4, 25)), int(rng.integers(0, 13))
    encoder = str(rng.choice(["rate", "events"]))
    wide = rng.random() < 0.06  # more inputs than the package of some targets has pins
    most = int(rng.choice([6, 16, 40]))
    n_layers = int(rng.integers(1, 5))
    widths = [int(rng.integers(120, 270) if wide else rng.integers(1, most + 1))]
    widths += [int(n) for n in rng.integers(1, (8 if wide else most) + 1, n_layers)]
    return scnas.Network(
        n_inputs=widths[0],
        timesteps=int(rng.choice([1, 2, 4, 8, 16]) if encoder == "rate" else rng.integers(1, 20)),
        encoder=encoder,
        fraction=fraction,
        word=word,
        readout=str(rng.choice(["membrane", "spikes"])),
        layers=tuple(
            drawn_layer(rng, a, b, word, fraction, last=i == n_layers - 1)
            for i, (a, b) in enumerate(zip(widths[:-1], widths[1:], strict=True))
        ),
    )


def drawn_architecture(index: int, network: scnas.Network) -> scnas.Architecture:
    """An architecture with the genes of `network`; what a network has not is drawn."""
    rng = np.random.default_rng([17, index])
    layers = network.layers
    return scnas.Architecture(
        n_inputs=network.n_inputs,
        layer_widths=tuple(layer.n_out for layer in layers),
        neuron_types=tuple(layer.neuron for layer in layers),
        bitstream_lengths=tuple(layer.length for layer in layers),
        delay_ranges=tuple(int(layer.delays.max()) for layer in layers),
        densities=tuple(float(rng.choice([0.02, 0.1, 0.25, 0.5, 0.9, 1.0])) for _ in layers),
        generators=tuple(layer.generator for layer in layers),
        mappings=tuple(layer.mapping for layer in layers),
        lanes=tuple(layer.lanes for layer in layers),
        units=tuple(layer.units for layer in layers),
        timesteps=network.timesteps,
        word=network.word,
        fraction=network.fraction,
        readout=network.readout,
    )


@functools.cache
def networks() -> list[scnas.Network]:
    return [drawn_network(i) for i in range(NETWORKS)]


@functools.cache
def architectures() -> list[scnas.Architecture]:
    return [drawn_architecture(i, network) for i, network in enumerate(networks())]


def label(index: int) -> str:
    network = networks()[index]
    layers = "; ".join(
        f"{layer.n_in}-{layer.n_out} {layer.mapping} {layer.generator} {layer.neuron}"
        for layer in network.layers
    )
    return f"network {index} ({network.encoder}, {network.readout}: {layers})"


def _parts(text: str, network: scnas.Network) -> dict[str, str]:
    """The text of a design by what it describes: the modules of a kind of layers, the top, the header."""
    header, _, rest = text.partition("\n\n")
    parts = {"header": header}
    for module in rest.split("\nendmodule\n"):
        if not module.strip():
            continue
        found = re.search(r"^module (\w+)", module, re.MULTILINE)
        kind = "rest" if found is None else found[1]
        if number := re.match(r"scnas_layer(\d+)(\w*)", kind):
            layer = network.layers[int(number[1])]
            neuron = layer.neuron if network.fires(int(number[1])) else "readout"
            kind = f"{layer.mapping} {layer.generator} {neuron} layers{number[2].replace('_', ' ')}"
        parts[kind] = parts.get(kind, "") + module
    return parts


def design_row(index: int) -> Row:
    """Hashes of both designs of a network, part by part, what `Design` says, and which one a target takes."""
    network = networks()[index]
    pins, in_bytes = (write_design(network, byte_serial=flag) for flag in (False, True))
    parts = _parts(pins.text, network)
    parts |= {
        f"{kind}, inputs in bytes": text
        for kind, text in _parts(in_bytes.text, network).items()
        if parts.get(kind) != text
    }
    row: Row = {f"text: {kind}": _hash(text, 16) for kind, text in parts.items()}
    for design, ending in ((pins, ""), (in_bytes, ", inputs in bytes")):
        row |= {f"cells{ending}": " ".join(design.cells), f"latency_clocks{ending}": design.latency_clocks}
        row |= {f"period_clocks{ending}": design.period_clocks, f"score_width{ending}": design.score_width}
    return row | {f"bytes on {name}": scnas.target(name).byte_serial(network.n_inputs) for name in TARGETS}


def measure_row(index: int, target: str) -> Row:
    network = networks()[index]
    rng = np.random.default_rng([18, index])
    activity = None
    if index % 2:
        activity = [float(layer.n_in * rng.random()) for layer in network.layers]
    return scnas.measure(network, target, activity)._asdict()


def drawn_tables() -> Iterator[tuple[str, list[Row]]]:
    """Everything about the drawn networks that is recorded."""
    yield "networks", network_rows()
    yield "design.v", [design_row(i) for i in range(NETWORKS)]
    for target in TARGETS:
        yield f"measure on {target}", [measure_row(i, target) for i in range(NETWORKS)]
        yield f"estimate on {target}", [c._asdict() for c in scnas.estimate_many(architectures(), target)]


def network_rows() -> list[Row]:
    return [
        {"network.json": json.dumps(n.to_dict()), "name": a.name}
        for n, a in zip(networks(), architectures(), strict=True)
    ]


@functools.cache
def drawn_as_recorded() -> bool:
    return not differences("networks", record()["drawn"].get("networks"), network_rows(), label)


def check_drawn(what: str, rows: Sequence[Row]) -> None:
    if what != "networks" and not drawn_as_recorded():
        pytest.fail("the networks or names of architectures are others than recorded: see the first test")
    exact = record()["costs on"] == processor("numpy")
    wrong = differences(what, record()["drawn"].get(what), rows, label, exact)
    if wrong:
        again = f"python tests/{Path(__file__).name} --show NUMBER shows one of them whole"
        pytest.fail(f"{wrong}\n{again}", pytrace=False)


def test_networks_and_names_are_those_recorded():
    """It fails where numpy draws otherwise, or where network.json or the name of an architecture changed."""
    check_drawn("networks", network_rows())


def test_costs_are_compared_to_the_last_bit():
    if record()["costs on"] != processor("numpy"):
        pytest.skip(
            f"costs were recorded on {record()['costs on']}; this is {processor('numpy')}, where they are"
            " compared to 9 digits"
        )


def test_every_kind_of_layer_is_drawn():
    seen = {
        (layer.neuron if network.fires(i) else "readout", layer.generator, layer.mapping)
        for network in networks()
        for i, layer in enumerate(network.layers)
    }
    assert len(seen) == (len(NEURONS) + 1) * 2 * 2


def test_designs_are_those_recorded():
    check_drawn("design.v", [design_row(i) for i in range(NETWORKS)])


@pytest.mark.parametrize("target", TARGETS)
def test_costs_of_networks_are_those_recorded(target):
    check_drawn(f"measure on {target}", [measure_row(i, target) for i in range(NETWORKS)])


@pytest.mark.parametrize("target", TARGETS)
def test_costs_of_architectures_are_those_recorded(target):
    check_drawn(f"estimate on {target}", [c._asdict() for c in scnas.estimate_many(architectures(), target)])


def test_a_difference_is_named_by_column_and_row():
    rows = [{"luts": i, "energy_nj": i / 3, "word": "a"} for i in range(60)]
    kept = json.loads(json.dumps(table_of(rows)))
    assert differences("x", kept, rows, str) == ""
    assert differences("x", kept, [r | {"luts": np.int64(r["luts"])} for r in rows], str) == ""
    rows[41] = rows[41] | {"energy_nj": math.nextafter(rows[41]["energy_nj"], 0)}
    said = differences("x", kept, rows, lambda i: f"row {i} of mine")
    assert "1 of 3 columns" in said and "1 rows differ: 41\n" in said and "row 41 of mine" in said
    assert "energy_nj = 13.66" in said and "luts" not in said and "word" not in said
    assert differences("x", kept, rows, str, exact=False) == ""
    coarse = [*rows[:41], rows[41] | {"energy_nj": rows[41]["energy_nj"] * (1 + 1e-8)}, *rows[42:]]
    assert "1 of 3 columns" in differences("x", kept, coarse, str, exact=False)
    assert "59 rows, recorded 60" in differences("x", kept, rows[:59], str)
    assert "word: gone" in differences("x", kept, [{"luts": r["luts"]} for r in rows], str)
    assert "brams: was not there" in differences("x", kept, [r | {"brams": 1} for r in rows], str)
    assert differences("x", None, rows, str) == "x: not recorded"


# -- searches that train ----------------------------------------------------------------------------------

SEARCHES = {
    "smoke": ("+experiment=smoke",),
    "digits": (
        "+experiment=digits_ice40", "search.population_size=10", "search.generations=3", "train.epochs=3",
        "train.full_epochs=4", "space.units_choices=[1,2]",
    ),
}  # fmt: skip
SEEDS = (0, 1)
OF_TRAININGS = ("numba", "llvmlite", "numpy", "torch")


def search_tables(name: str, seed: int, folder: Path) -> Iterator[tuple[str, list[Row], list[str]]]:
    """Run a search into `folder`; name, rows and labels of each table that is recorded of it.

    Without what another run of the same search has otherwise: times, hosts, hashes of code.
    """
    command = [
        sys.executable, "-m", "scnas", *SEARCHES[name], f"search.seed={seed}", "build=none",
        "executor.workers=1", "executor.device=cpu", f"hydra.run.dir={folder}",
    ]  # fmt: skip
    done = subprocess.run(
        command, cwd=HERE.parent, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr[-3000:]
    db = sqlite3.connect(folder / "archive.sqlite")
    db.row_factory = sqlite3.Row
    try:
        rows = [dict(row) for row in db.execute(
            "SELECT stage, generation, place, e.architecture, seed, status, reason, violation, metrics,"
            " e.member, train_loss, validation_accuracy, activity, network"
            " FROM evaluations e LEFT JOIN trainings t ON e.key = t.key AND e.member = t.member"
            " ORDER BY stage = 'final', generation, place"
        )]  # fmt: skip
        rows = [row | {f"metrics.{k}": v for k, v in json.loads(row.pop("metrics")).items()} for row in rows]
        for (stage, number), group in itertools.groupby(rows, lambda r: (r["stage"], r["generation"])):
            some = list(group)
            labels = [f"place {r['place']}: {r['architecture']}" for r in some]
            yield f"{stage} {number}", some, labels
        rows = [dict(row) for row in db.execute(
            "SELECT t.architecture, g.seed, json_extract(g.budget, '$.epochs') AS epochs,"
            " g.size AS group_size, member, train_loss, train_accuracy, validation_loss,"
            " validation_accuracy, activity, failed, network"
            " FROM trainings t JOIN groups g USING (key) ORDER BY t.architecture, g.seed, epochs"
        )]  # fmt: skip
        yield "trainings", rows, [f"seed {r['seed']} of {r['architecture']}" for r in rows]
        rows = [
            dict(row) for row in db.execute("SELECT number, hypervolume FROM generations ORDER BY number")
        ]
        yield "generations", rows, [f"generation {r['number']}" for r in rows]
    finally:
        db.close()
    members = json.loads((folder / "front.json").read_text())["members"]
    rows = [
        {f"metrics.{k}": v for k, v in member["metrics"].items()}
        | {"name": member["name"], "winner": member["winner"]}
        | {"network.json": (folder / member["network"]).read_text()}
        for member in members
    ]
    yield "front", rows, [member["name"] for member in members]


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", SEARCHES)
def test_trainings_are_those_recorded(name, seed, tmp_path):
    here = processor(*OF_TRAININGS)
    if here not in record()["trainings"]:
        pytest.skip(f"recorded on {' and on '.join(record()['trainings'])}; this is {here}")
    recorded = record()["trainings"][here].get(f"{name}, seed {seed}", {})
    wrong = []
    for what, rows, labels in search_tables(name, seed, tmp_path / "run"):
        told = differences(f"{name}, seed {seed}: {what}", recorded.get(what), rows, labels.__getitem__)
        if told:
            wrong.append((what, told))
    if wrong:  # what differs first is told, the others follow from it
        others = f"\nso do: {'; '.join(what for what, _ in wrong[1:])}" if wrong[1:] else ""
        pytest.fail(wrong[0][1] + others, pytrace=False)


# -- proofs -----------------------------------------------------------------------------------------------


def proved_networks() -> dict[str, scnas.Network]:
    """Four small networks, so that every obligation takes about a second."""

    def network(seed: int, encoder: str, readout: str, widths: Sequence[int], *given: dict) -> scnas.Network:
        rng, last = np.random.default_rng([19, seed]), len(given) - 1
        layers = []
        for i, settings in enumerate(given):
            layer = drawn_layer(rng, widths[i], widths[i + 1], 10, 4, last=i == last, length=2, **settings)
            while np.count_nonzero(layer.weights) < 3:
                layer = drawn_layer(
                    rng, widths[i], widths[i + 1], 10, 4, last=i == last, length=2, **settings
                )
            layers.append(layer)
        return scnas.Network(widths[0], 2, encoder, 4, 10, readout, tuple(layers))

    parallel = {"mapping": "parallel", "delay": 0}
    folded = {"mapping": "folded", "lanes": 3, "delay": 0}
    return {
        "parallel lif, sobol": network(
            0, "rate", "membrane", (4, 3, 2), parallel | {"neuron": "lif", "generator": "sobol"},
            parallel | {"neuron": "lif", "generator": "sobol"},
        ),
        "folded homeostatic_lif, units": network(
            1, "rate", "membrane", (4, 4, 2),
            folded | {"neuron": "homeostatic_lif", "generator": "sobol", "units": 2},
            folded | {"neuron": "lif", "generator": "sobol"},
        ),
        "izhikevich and stochastic_lif, lfsr, delays": network(
            2, "rate", "spikes", (3, 2, 2),
            {"mapping": "parallel", "delay": 1, "neuron": "izhikevich", "generator": "lfsr"},
            {"mapping": "folded", "lanes": 3, "delay": 1, "neuron": "stochastic_lif", "generator": "lfsr"},
        ),
        "if, spikes, events": network(
            3, "events", "spikes", (4, 3, 2), parallel | {"neuron": "if", "generator": "sobol"},
            folded | {"neuron": "if", "generator": "lfsr"},
        ),
    }  # fmt: skip


def verdict_of(network: scnas.Network, folder: Path) -> dict[str, str]:
    """Status by obligation, of the proof of its design; nothing is taken from proofs of before."""
    network.save(folder / "network.json")
    write_design(network, folder)
    verdict = check_winner(folder, cache=folder / "proofs")
    found = {o.name: f"{o.kind}: {o.status}" for o in verdict.obligations}
    assert len(found) == len(verdict.obligations)
    return found | {"verdict": verdict.status}


TOOLS = all(importlib.util.find_spec(name) for name in ("pyosys", "bitwuzla"))


@pytest.mark.skipif(not TOOLS, reason="a proof needs pyosys and bitwuzla")
@pytest.mark.parametrize("name", proved_networks())
def test_verdicts_are_those_recorded(name, tmp_path):
    recorded, found = record()["verdicts"][name], verdict_of(proved_networks()[name], tmp_path)
    changed = {key for key in {*recorded, *found} if recorded.get(key) != found.get(key)}
    wrong = [
        f"  {key}: {found.get(key, 'gone')}, recorded {recorded.get(key, 'nothing')}"
        for key in sorted(changed)
    ]
    if wrong:
        told = f"{name}: {len(wrong)} of {len(recorded)} obligations are not as recorded"
        pytest.fail("\n".join([told, *wrong]), pytrace=False)


# -- to record anew ---------------------------------------------------------------------------------------


def record_anew(parts: Sequence[str]) -> None:
    kept: dict = (
        json.loads(RECORD.read_text()) if RECORD.exists() else {"drawn": {}, "trainings": {}, "verdicts": {}}
    )
    if "drawn" in parts:
        kept["drawn"] = {what: table_of(rows) for what, rows in drawn_tables()}
        kept["costs on"] = processor("numpy")
    with tempfile.TemporaryDirectory() as scratch:
        if "trainings" in parts:
            kept["trainings"][processor(*OF_TRAININGS)] = {
                f"{name}, seed {seed}": {
                    what: table_of(rows)
                    for what, rows, _ in search_tables(name, seed, Path(scratch) / f"{name}-{seed}")
                }
                for name in SEARCHES
                for seed in SEEDS
            }
        if "verdicts" in parts:
            kept["verdicts"] = {}
            for number, (name, network) in enumerate(proved_networks().items()):
                folder = Path(scratch) / str(number)
                folder.mkdir()
                kept["verdicts"][name] = verdict_of(network, folder)
    RECORD.write_text(json.dumps(kept, indent=1) + "\n")


def show(index: int) -> None:
    network = networks()[index]
    print(json.dumps(network.to_dict()))
    for target in TARGETS:
        print(f"measure on {target}: {measure_row(index, target)}")
        print(f"estimate on {target}: {scnas.estimate(architectures()[index], target)._asdict()}")
    for in_bytes in (False, True):
        print(write_design(network, byte_serial=in_bytes).text)


def main(arguments: Mapping[str, object]) -> None:
    if arguments["show"] is not None:
        show(arguments["show"])
    else:
        record_anew(arguments["record"] or ("drawn", "trainings", "verdicts"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Record results anew, or show one of the drawn networks.")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--record", nargs="*", choices=("drawn", "trainings", "verdicts"))
    what.add_argument("--show", type=int, choices=range(NETWORKS), metavar="NUMBER")
    main(vars(parser.parse_args()))

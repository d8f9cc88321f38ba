"""A sixth neuron from outside the package trains, has a price, becomes Verilog and is proved.

It is all in tests/helpers/quadratic.py and quadratic_reference.v; what it computes is written once more here.
"""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import oracle
import pytest
from networks import random_input, random_network, shared_out
from registered import as_before
from small_task import TASK, arch, figures

import scnas
from scnas import run
from scnas.contract import NEURONS
from scnas.equiv import tools
from scnas.equiv.tasks import tasks_of
from scnas.equiv.verdict import check_design
from scnas.hardware.circuit.top import write_design
from scnas.hardware.tools.cosimulation import Expected, cosimulate
from scnas.settings import compose
from scnas.snn import models
from scnas.snn.budget import Budget
from scnas.snn.groups import plan_groups
from scnas.snn.network import Network
from scnas.snn.training import train_population
from scnas.space import describe

HELPERS = Path(__file__).with_name("helpers")
needs_icarus = pytest.mark.skipif(not tools.shutil.which("iverilog"), reason="not run: apt install iverilog")
needs_prover = pytest.mark.skipif(
    bool(tools.missing_tools(("pyosys", "bitwuzla"))), reason="not run: pip install pyosys bitwuzla"
)


@pytest.fixture(autouse=True)
def quadratic(monkeypatch):
    """The sixth neuron, registered for one test."""
    monkeypatch.setattr(models, "MODELS", dict(models.MODELS))
    monkeypatch.setattr(NEURONS, "_names", list(NEURONS))
    monkeypatch.delitem(sys.modules, "quadratic", raising=False)
    import quadratic  # registers it

    monkeypatch.delitem(sys.modules, "quadratic")
    return quadratic.QUADRATIC


def quadratic_step(network, layer, threshold, state, current, noise_byte):
    """One update of quadratic_if by its definition, in plain integers; for the oracle."""
    k, F, half = layer["constants"], network["fraction"], 2 ** (network["word"] - 1)
    if state.waiting > 0:
        return False, state._replace(v=k["v_rest"], waiting=state.waiting - 1)
    grown = (state.v - k["v_rest"]) * (state.v - k["critical_k"]) >> F
    p = state.v + (grown * k["leak_k"] >> F) + (current * k["gain_k"] >> F)
    p = max(-half, min(half - 1, p))
    if p >= threshold:
        return True, state._replace(v=k["v_reset"], waiting=k["refractory"])
    return False, state._replace(v=p)


def expectation(monkeypatch, network, x):
    """What the oracle says, with the update above."""
    monkeypatch.setattr(oracle, "neuron_step", quadratic_step)
    content = network.to_dict()
    said = [oracle.infer(content, sample) for sample in x]
    firing = [i for i in range(len(network.layers)) if network.fires(i)]
    return Expected(
        np.array([one.scores for one in said]),
        np.array([one.label for one in said]),
        [np.array([one.spikes[i] for one in said]) for i in firing],
        [np.array([one.membranes[i] for one in said]) for i in firing],
    )


def quadratic_network(seed, word=8, fraction=4, **settings) -> Network:
    """A random network of quadratic neurons, both mappings, with units."""
    rng = np.random.default_rng(seed)
    widths = tuple(int(n) for n in rng.integers(2, 7, 3))
    given = dict(neuron="quadratic_if", mapping="any", timesteps=8, length=4, generator="sobol", max_delay=1)
    network = random_network(rng, widths, word=word, fraction=fraction, **given | settings)
    return shared_out(rng, network, (3, 8))


# --- training -------------------------------------------------------------------------------------


def candidate(**genes):
    """An architecture whose neurons are all quadratic."""
    return replace(arch(12), neuron_types=("quadratic_if", "quadratic_if"), **genes)


BUDGET = Budget(epochs=12, batch_size=16)


def test_it_trains_better_than_chance_and_the_oracle_agrees(monkeypatch, tmp_path):
    (trained,) = train_population([candidate()], TASK, BUDGET, 3)
    assert trained.failed is None and trained.validation_accuracy > 0.6
    network = trained.network
    assert network.layers[0].constants["critical_k"] == 2 ** (network.fraction - 1)
    network.save(tmp_path / "network.json")
    assert Network.load(tmp_path / "network.json") == network
    said = expectation(monkeypatch, network, TASK.validation.x)
    assert np.mean(said.classes == TASK.validation.y) == trained.validation_accuracy


def test_groups_of_it_leave_the_others_as_they_were():
    """Bit for bit, in one population with it and without."""
    others = [arch(6), arch(12), arch(7, generators=("lfsr", "sobol"))]
    mixed = replace(arch(6), neuron_types=("lif", "quadratic_if"), readout="spikes")
    short = Budget(epochs=2, batch_size=16)
    alone = train_population(others, TASK, short, 1)
    together = train_population([others[0], candidate(), mixed, *others[1:]], TASK, short, 1)
    assert figures([together[0], *together[3:]]) == figures(alone)
    assert all(r.train_loss > 0 for r in together)
    groups = plan_groups([*others, candidate()], TASK, short)
    assert [candidate()] in groups


def test_it_is_named_and_described():
    assert "quadratic_if" in describe(candidate())
    assert candidate().name != arch(12).name
    assert "quadratic_if" in write_design(quadratic_network(0)).text


# --- price ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["ice40", "ecp5_25k"])
def test_it_has_a_price_of_its_own(target):
    network = quadratic_network(0, mapping="parallel", readout="spikes")
    as_lif = network.to_dict()
    for layer in as_lif["layers"]:
        layer["neuron"] = "lif"
        del layer["constants"]["critical_k"]
    cost, plain = (scnas.measure(n, target) for n in (network, Network.from_dict(as_lif)))
    assert cost.luts + 100 * cost.dsps > plain.luts + 100
    assert (cost.energy_label, cost.fmax_label) == ("uncalibrated", "uncalibrated")
    assert plain.fmax_label == "calibrated"
    guess = scnas.estimate(candidate(readout="spikes"), target)
    assert guess.luts > scnas.estimate(arch(12, readout="spikes"), target).luts
    assert guess.energy_label == "uncalibrated"


# --- Verilog --------------------------------------------------------------------------------------


@needs_icarus
@pytest.mark.parametrize("seed", range(6))
def test_its_verilog_is_the_oracle(seed, monkeypatch):
    network = quadratic_network(seed, *((8, 4), (12, 6), (16, 8))[seed % 3])
    x = random_input(np.random.default_rng(seed), network, 5)
    expected = expectation(monkeypatch, network, x)
    result = cosimulate(network, x, "icarus", debug=True, expected=expected)
    assert result.status == "passed", (result.summary(), result.message)
    assert result.clocks == result.predicted_clocks


# --- proof ----------------------------------------------------------------------------------------


def proved(network, cache, change=None):
    """The verdict on its design. change: (before, after), of which the first stands in design.v."""
    sources = dict(write_design(network).sources)
    if change:
        assert change[0] in sources["design.v"]
        sources["design.v"] = sources["design.v"].replace(*change)
    return check_design(network, sources, cache=cache, workers=1, timeout_s=60)


@needs_prover
@pytest.mark.parametrize("mapping", ["parallel", "folded"])
def test_it_is_proved_and_a_fault_is_refuted(mapping, tmp_path):
    network = quadratic_network(1, mapping=mapping, readout="membrane", refractory=2)
    verdict = proved(network, tmp_path)
    assert verdict.status == "proved", verdict.summary()
    assert sum("quadratic_if neuron" in o.name for o in verdict.obligations) >= 2
    for change in ((">= limit", "> limit"), (">>> 4", "/ 16")):
        verdict = proved(network, tmp_path, change)
        assert verdict.status == "refuted", (change, verdict.summary())


@needs_prover
@pytest.mark.parametrize(
    "mapping, fault",
    [("parallel", (".threshold(8'h", ".threshold(8'h7f ^ 8'h")), ("folded", ("v = first ?", "v = ~first ?"))],
)
def test_a_wrong_input_of_it_is_refuted(mapping, fault, tmp_path):
    network = quadratic_network(1, mapping=mapping, readout="membrane")
    if mapping == "folded":
        fault = (
            ("v0 = first ?", "v0 = ~first ?")
            if network.layers[0].units > 9
            else ("v = first ?", "v = ~first ?")
        )
    assert proved(network, tmp_path, fault).status == "refuted"


@needs_prover
def test_without_a_reference_it_is_not_proved(quadratic, tmp_path):
    models.MODELS["quadratic_if"] = replace(quadratic, reference=None)
    network = quadratic_network(1, mapping="parallel", readout="membrane")
    verdict = proved(network, tmp_path)
    assert verdict.status == "unknown" and verdict.passed is None
    assert "no reference for quadratic_if" in verdict.summary()


def test_a_reference_that_is_not_there_is_named(quadratic):
    models.MODELS["quadratic_if"] = replace(quadratic, reference=Path("nowhere.v"))
    network = quadratic_network(1, readout="membrane")
    with pytest.raises(ValueError, match="quadratic_if: reference must be a Verilog file, got nowhere.v"):
        tasks_of(network, write_design(network).sources)


# --- a search with it -----------------------------------------------------------------------------


def test_a_search_finds_it_by_a_plugin_and_says_that_its_price_is_a_guess(tmp_path, capsys):
    """Two workers, which import the plugin for themselves; the page says what is uncalibrated, too."""
    words = (
        "space=small", "space.min_layers=2", "space.neuron_choices=[quadratic_if]", "train=quick",
        "search=tiny", "build=none", "task.train_limit=200", "search.population_size=4",
        "search.generations=1", "train.final_seeds=1", "train.full_epochs=1", "executor.workers=2",
        "search.seed=3",
    )  # fmt: skip
    with as_before():
        models.MODELS.pop("quadratic_if")
        NEURONS._names.remove("quadratic_if")
        run.run(compose.load([f"plugins=[{HELPERS / 'quadratic.py'}]", *words]), tmp_path)
        front = json.loads((tmp_path / "front.json").read_text())
        neurons = {n for member in front["members"] for n in member["architecture"]["neuron_types"]}
        said = capsys.readouterr().out
    assert neurons - {"lif"} == {"quadratic_if"}  # a last layer that only sums is called lif
    page = (tmp_path / "winner" / "README.md").read_text()
    for text in (said, page):
        assert "LUTs, clock and energy of quadratic_if are uncalibrated" in text
    assert "modelled, uncalibrated" in page and "modelled, calibrated" not in page


def test_nothing_in_the_package_knows_it():
    text = subprocess.run(
        [sys.executable, "-c", "from scnas.contract import NEURONS; print(list(NEURONS))"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert json.loads(text.replace("'", '"')) == [
        "if",
        "lif",
        "stochastic_lif",
        "homeostatic_lif",
        "izhikevich",
    ]
    for path in Path(scnas.__file__).parent.rglob("*.py"):
        assert "quadratic_if" not in path.read_text(), path

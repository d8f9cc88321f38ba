"""The headline experiments in a reduced form: every stage of each runs and leaves what it promises."""

import json
from pathlib import Path

import pytest

from scnas import run, tasks
from scnas.build import accuracy
from scnas.settings import compose
from scnas.snn.module import load_network
from scnas.snn.network import Network

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
# experiment -> (folder of its data, what the reduced form must beat on the test split)
HEADLINES = {
    "mnist_ice40": ("mnist", 0.70),
    "mnist_ecp5_25k": ("mnist", 0.70),
    "fsdd_ecp5_25k": ("fsdd", 0.40),
    "nmnist_ecp5": ("nmnist", 0.35),
}
REDUCED = [
    "search.population_size=6", "search.generations=2", "train.epochs=3", "train.samples=2000",
    "train.full_epochs=4", "train.final_seeds=1", "train.batch_size=32", "task.train_limit=2000",
    "executor.workers=1", "build=simulated",
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", HEADLINES)
def test_a_headline_in_a_reduced_form(name, tmp_path):
    folder, least = HEADLINES[name]
    if not (DATA / folder).is_dir():
        pytest.skip(f"../shared/data/{folder} is not here")
    settings = compose.load([f"+experiment={name}", f"task.path={DATA / folder}", *REDUCED])
    run.run(settings, tmp_path)
    front = json.loads((tmp_path / "front.json").read_text())
    budgets = settings.search.budgets
    for member in front["members"]:
        metrics = member["metrics"]
        assert metrics["luts"] <= budgets.luts and metrics["latency_us"] <= budgets.latency_us
    winner = next(member for member in front["members"] if member["winner"])
    test = tasks.load(settings.task).open_test()
    network = Network.load(tmp_path / "winner" / "network.json")
    assert accuracy(network, test) == winner["metrics"]["test_accuracy"] > least
    simulation = json.loads((tmp_path / "winner" / "cosimulation.json").read_text())
    assert simulation["status"] == "passed" and simulation["samples"] == len(test.y)
    assert load_network(tmp_path / "winner" / "network.json").network == network

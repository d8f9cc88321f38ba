"""scnas.metrics: one row a figure, and a new row is all that a new objective with a budget needs."""

import os
import subprocess
import sys

import numpy as np
import pytest

from scnas import metrics
from scnas.hardware import targets
from scnas.hardware.cost.price import Cost
from scnas.metrics import METRICS, Linear, Logarithmic
from scnas.search.evaluation import Reference


def test_the_table_holds_what_searches_were_recorded_with():
    """Orders of CSV columns, and of the budgets whose excesses are summed up, follow from it."""
    assert metrics.objectives() == ("error", "luts", "ffs", "brams", "latency_us", "energy_nj")
    assert list(metrics.budgets()) == ["luts", "ffs", "brams", "dsps", "latency_us"]
    assert list(metrics.limits()) == ["luts", "ffs", "brams", "latency_us"]
    assert [row.title for row in metrics.shown()] == [
        "accuracy", "test", "LUTs", "FFs", "BRAMs", "latency, us", "energy, nJ",
    ]  # fmt: skip
    assert all(name == row.name for name, row in METRICS.items())


def test_what_has_a_budget_is_known_before_training():
    assert set(metrics.budgets()) <= set(Cost._fields)
    numbers = {name for name in Cost._fields if not name.endswith("_label")}
    assert numbers <= set(METRICS)  # and whatever a cost says has a row


def test_names_are_put_in_order():
    names = ["zeta", "energy_nj", "luts", "accuracy", "alpha", "luts"]
    assert metrics.in_order(names) == ["accuracy", "luts", "energy_nj", "alpha", "zeta"]


def test_scales_worked_by_hand():
    chip, column = targets.target("ice40"), np.array([0.05, 0.1, 1e5, 1e6])
    assert Linear(lambda n, c: n * c.brams).share(column, 2, chip).tolist() == (column / 64).tolist()
    assert Logarithmic(0.1, 1e5).share(column, 2, chip).tolist() == pytest.approx([0, 0, 1, 7 / 6])
    everything = Reference(metrics.objectives(), 5, chip)
    worst = np.array([[0.8, 7680, 7680, 32, 1e5, 1e6]])  # chance, the whole chip, 100 ms, 1 mJ
    assert everything.normalise(worst).tolist() == [[1.0] * 6]


def test_forms_worked_by_hand():
    cases = {
        metrics.percent: {0.965: "96.50%"},
        metrics.count: {12345.0: "12,345"},
        metrics.four_digits: {3.14159: "3.142", 12345.6: "12,346"},
        metrics.number: {7.0: "7", 3.14159: "3.142", 12345.6: "1.235e+04"},
    }
    for form, expected in cases.items():
        for value, text in expected.items():
            assert form(value) == text


# A figure that nothing else knows, and what computes it.
ROW = """
import sys
from collections import namedtuple
from pathlib import Path
from scnas import metrics
from scnas.contract import Range
from scnas.hardware.cost import price
from scnas.metrics import Budget, Linear, Metric, count

metrics.METRICS["wires"] = Metric(
    "wires", "wires of the whole design", "m", heading="wire", form=count, source="modelled",
    scale=Linear(lambda n_classes, chip: 2.0 * chip.luts), budget=Budget(Range(1, 10**6), least=10),
)
Wide = namedtuple("Wide", (*price.Cost._fields, "wires"))
known = price._costs
price._costs = lambda *a, **k: [Wide(*cost, cost.luts + cost.ffs) for cost in known(*a, **k)]
"""


def with_row(script: str, *arguments: object) -> str:
    """What `script` prints in a process of its own, whose table has one row more."""
    done = subprocess.run(
        [sys.executable, "-c", ROW + script, *map(str, arguments)],
        capture_output=True, text=True, timeout=500, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_a_new_row_is_an_objective_and_a_budget_of_a_search():
    with_row("""
from scnas import nas, SearchSpace
from scnas.search.evaluation import Reference, capacity
from scnas.hardware import targets
chip = targets.target("ice40")
space = SearchSpace(6, 3, max_layers=2, width_choices=[4, 8])
costs = lambda a: price.estimate(a, "ice40")
found = nas(space, "ice40", 8, 3, None, lambda a: 0.5, max_wires=900, objectives=("wires", "luts"))
assert found.evaluations and all(e.metrics["wires"] == costs(e.architecture).wires for e in found.evaluations)
assert all(e.feasible == (e.metrics["wires"] <= 900) for e in found.evaluations)
assert {e.feasible for e in found.evaluations} == {True, False}
least = min(e.metrics["wires"] for e in found.evaluations)
assert min(costs(a).wires for a in found.pareto_front) == least <= 900
assert Reference(("wires",), 3, chip).hypervolume(found.evaluations) == 1 - least / 15360
assert capacity(chip)["wires"] is None and capacity(chip, wires=5)["wires"] == 5
little = costs(found.pareto_front[0])._replace(wires=13)
assert price.violations(little, {"wires": 3}) == 1.0  # 10 too many, of the least limit
for call, message in [
    (lambda: nas(space, max_wires=0), "max_wires must be a whole number from 1 to 1000000, got 0"),
    (
        lambda: nas(space, max_wire=1),
        "nas() has no argument max_wire; "
        "budgets are max_luts, max_ffs, max_brams, max_latency_us, max_wires",
    ),
]:
    try:
        call()
    except (ValueError, TypeError) as error:
        assert str(error) == message, error
    else:
        raise AssertionError(message)
""")


def test_a_run_shows_a_new_row_wherever_figures_are_shown(tmp_path):
    with_row("""
import csv, json
from scnas.record import front
from scnas.run import run
from scnas.settings import compose, saved
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
folder = Path(sys.argv[1])
settings = compose.load([
    "+experiment=smoke", "search.objectives=[error,wires]", "search.budgets.wires=5000", "target=ecp5_25k",
    "search.winner.smallest=wires", "space.max_layers=2", "search.population_size=4", "search.generations=2",
    "train.epochs=1", "train.full_epochs=1", "train.final_seeds=1", "build=none", "executor.workers=1",
    "task.train_limit=60", "search.winner.within=1",
])
run(settings, folder)
assert saved.read(folder / "settings.yaml").search.budgets.wires == 5000
found = front.read(folder)
assert found.objectives == ("error", "wires")
winner = found.members[found.winner]
assert winner.metrics["wires"] == min(m.metrics["wires"] for m in found.members) <= 5000
rows = list(csv.DictReader(open(folder / "front.csv")))
assert [float(row["wires"]) for row in rows] == [m.metrics["wires"] for m in found.members]
page = (folder / "winner" / "README.md").read_text()
assert f"| wires of the whole design, m | {winner.metrics['wires']:,.0f} | modelled |" in page
log = EventAccumulator(str(folder / "tensorboard"), size_guidance={"tensors": 0}).Reload()
assert log.Scalars("winner/wires")[0].value == winner.metrics["wires"]
assert "wire, m" in log.Tensors("front/text_summary")[-1].tensor_proto.string_val[0].decode()
try:
    compose.load(["search.budgets.wires=0"])
except ValueError as error:
    assert str(error) == "search.budgets.wires must be a whole number from 1 to 1000000, got 0", error
else:
    raise AssertionError
""", tmp_path)  # fmt: skip

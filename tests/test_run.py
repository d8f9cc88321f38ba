"""The whole path: a search on real data, its files, and what anyone can recompute from them."""

import csv
import json
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
from oracle import infer

import scnas
from scnas import build, choose, run, tasks
from scnas.evaluation import Evaluation
from scnas.hardware import targets
from scnas.hardware.cost import calibration, plan
from scnas.hardware.cost.price import measure
from scnas.hardware.tools.synthesis import Synthesis
from scnas.resume import Workshop
from scnas.search.evaluation import scores
from scnas.search.nsga2 import pareto_front
from scnas.settings import compose, schema
from scnas.snn.budget import Budget

SMALL = [
    "+experiment=smoke", "search.population_size=8", "search.generations=3", "executor.workers=1",
    "train.epochs=3", "train.full_epochs=4", "train.final_seeds=2", "task.train_limit=400", "build=none",
]  # fmt: skip


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of one small run."""
    folder = tmp_path_factory.mktemp("run")
    run.run(compose.load([*SMALL, "build=simulated"]), folder)
    return folder


def rows(folder):
    with open(folder / "front.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_a_run_leaves_what_it_promises(finished):
    for name in (
        "front.csv", "front.json", "front.png", "settings.yaml", "versions.json",
        "winner/network.json", "winner/README.md",
    ):  # fmt: skip
        assert (finished / name).stat().st_size > 0, name
    assert list((finished / "tensorboard").glob("events*"))
    assert (finished / "front.png").read_bytes().startswith(b"\x89PNG")
    assert [row["winner"] for row in rows(finished)].count("1") == 1


def test_the_oracle_recomputes_every_accuracy_of_the_front(finished):
    task = tasks.load(compose.load(SMALL).task)
    x, y = task.open_test()
    for i, row in enumerate(rows(finished)):
        network = json.loads((finished / "front" / f"{i:02d}.json").read_text())
        for split, column in ((task.validation, "accuracy"), ((x, y), "test_accuracy")):
            right = sum(
                infer(network, sample.tolist()).label == label for sample, label in zip(*split, strict=True)
            )
            assert right / len(split[1]) == float(row[column]), (i, column)


def test_the_front_is_feasible_and_no_member_beats_another(finished):
    table = rows(finished)
    scores = np.array([[float(row[name]) for name in ("error", "luts", "energy_nj")] for row in table])
    assert len(pareto_front(scores, np.zeros(len(scores)))) == len(table)
    errors = [float(row["error"]) for row in table]
    assert errors == sorted(errors)
    chip = scnas.target("ice40")
    assert all(float(row["luts"]) <= chip.luts and float(row["brams"]) <= chip.brams for row in table)


def test_the_cost_in_the_table_is_that_of_the_network_file(finished):
    for i, row in enumerate(rows(finished)):
        network = scnas.Network.load(finished / "front" / f"{i:02d}.json")
        price = scnas.measure(network, "ice40")
        assert (price.luts, price.ffs, price.brams, price.latency_clocks) == tuple(
            int(row[name]) for name in ("luts", "ffs", "brams", "latency_clocks")
        )
        assert network.n_synapses == int(row["synapses"])


def test_the_winner_is_the_network_of_its_row(finished):
    place = [row["winner"] for row in rows(finished)].index("1")
    build = (finished / "winner" / "network.json").read_bytes()
    assert build == (finished / "front" / f"{place:02d}.json").read_bytes()


def test_the_same_command_finds_the_same_front(finished, tmp_path):
    run.run(compose.load(SMALL), tmp_path)
    assert (tmp_path / "front.csv").read_text() == (finished / "front.csv").read_text()


def test_the_winner_follows_the_rule_by_hand():
    def member(accuracy, luts):
        a = scnas.Architecture(4, (luts, 2), ("lif",) * 2, (4, 4), (0, 0))
        return Evaluation(a, {"accuracy": accuracy, "error": 1 - accuracy, "luts": luts}, 0.0, True)

    front = [member(0.97, 90), member(0.965, 60), member(0.96, 30), member(0.955, 10)]
    rule = schema.Winner(within=0.01, smallest="luts")
    assert choose.by_rule(front, rule)[0].metrics["luts"] == 30  # a full point below the best still counts
    assert choose.by_rule(front, schema.Winner(within=0.0, smallest="luts"))[0].metrics["luts"] == 90


def test_of_equal_areas_the_more_accurate_member_wins():
    def member(width, error, luts, **more):
        a = scnas.Architecture(4, (width, 2), ("lif",) * 2, (4, 4), (0, 0))
        return Evaluation(a, {"accuracy": 1 - error, "error": error, "luts": luts, **more}, 0.0, True)

    rule = schema.Winner(within=0.01, smallest="luts")
    front = [member(20, 0.029, 30), member(4, 0.02, 90), member(12, 0.03, 30), member(16, 0.025, 30)]
    ranked = choose.by_rule(front, rule)
    assert [m.architecture.layer_widths[0] for m in ranked] == [16, 20, 12, 4]
    assert choose.by_rule(front[::-1], rule) == ranked
    twins = [member(4, 0.02, 30), member(12, 0.02, 30)]  # equal in both: by name, so always the same
    assert [m.architecture.layer_widths[0] for m in choose.by_rule(twins, rule)] == [12, 4]
    assert choose.by_rule(twins[::-1], rule) == choose.by_rule(twins, rule)
    known = [member(4, 0.02, 30, routed_luts=50), member(12, 0.025, 40), member(16, 0.02, 10, routed_luts=40)]
    assert [m.architecture.layer_widths[0] for m in choose.by_rule(known, rule)] == [16, 12, 4]


def test_of_the_seeds_the_best_that_keeps_the_budgets_is_kept():
    """Of equal accuracies the one with the lower loss; where no seed is good the member stays as it was."""

    def tried(width, accuracy, loss, violation=0.0, trained=True):
        a = scnas.Architecture(4, (width, 2), ("lif",) * 2, (4, 4), (0, 0))
        metrics = {"accuracy": accuracy, "error": 1 - accuracy, "validation_loss": loss}
        return Evaluation(a, metrics, violation, trained, None if trained else "dead")

    of_seed = [
        [tried(4, 0.75, 0.5), tried(8, 0.9, 0.1, violation=0.01), tried(12, 0.5, 0.1, violation=0.5)],
        [tried(4, 0.75, 0.25), tried(8, 0.8, 0.2), tried(12, 0.5, 0.2, trained=False)],
        [tried(4, 0.5, 0.125), tried(8, 0.7, 0.1, trained=False), tried(12, 0.5, 0.1, violation=1e-9)],
    ]
    before = [tried(4, 0.4, 1.0), tried(8, 0.4, 1.0), tried(12, 0.4, 1.0)]
    kept = []

    class Stub:
        def train(self, architectures, budget, seeds):
            assert architectures == [m.architecture for m in before] and len(set(seeds)) == 3
            return of_seed

        def trained(self, evaluation):
            return evaluation

        def keep(self, *row):
            kept.append(row)

    settings = compose.load([*SMALL, "train.final_seeds=3"])
    found = run.retrain(before, 5, Stub(), Workshop(Stub(), Stub()), settings)
    assert found[2] is before[2]
    assert [m.metrics["validation_loss"] for m in found[:2]] == [0.25, 0.2]
    assert found[0].metrics["accuracy_mean"] == pytest.approx(2 / 3) and found[0].metrics["seeds"] == 3
    assert found[1].metrics["accuracy_mean"] == pytest.approx(0.85) and found[1].metrics["seeds"] == 2
    assert found[1].metrics["accuracy_sd"] == pytest.approx(0.05)
    ((kind, number, each, seeds, _),) = kept
    assert (kind, number, len(each), len(seeds)) == ("final", 5, 9, 9)


def test_nothing_that_fits_is_one_line_and_no_front(tmp_path):
    with pytest.raises(
        ValueError, match=r"no feasible architecture among \d+ evaluated: luts must be at most 1"
    ):
        run.run(compose.load([*SMALL, "search.budgets.luts=1"]), tmp_path)
    assert not (tmp_path / "front.csv").exists()


def test_a_custom_task_from_arrays(tmp_path):
    dice = np.random.default_rng(0)
    y = np.arange(240) % 3
    x = np.clip(dice.normal(0.2, 0.1, (240, 9)) + 0.6 * (np.arange(9) // 3 == y[:, None]), 0, 1)
    np.savez(tmp_path / "mine.npz", x=x, y=y)
    folder = tmp_path / "run"
    folder.mkdir()
    changes = ["task=npz", f"task.path={tmp_path / 'mine.npz'}", "task.train_limit=null"]
    run.run(compose.load([*SMALL, *changes]), folder)
    assert float(rows(folder)[0]["test_accuracy"]) > 0.9


@pytest.mark.slow
def test_ctrl_c_keeps_what_was_found(tmp_path):
    command = [
        sys.executable, "-m", "scnas", *SMALL, "search.generations=1000", f"hydra.run.dir={tmp_path / 'run'}",
    ]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not list((tmp_path / "run").glob("tensorboard/events*")):
        time.sleep(0.5)
    time.sleep(15)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=300)
    assert "Traceback" not in err
    assert rows(tmp_path / "run") and (tmp_path / "run" / "winner" / "network.json").exists(), out + err


# -- from the front to the winner -----------------------------------------------------------------------


class Listener:
    """A recorder that keeps what it is told."""

    def __init__(self):
        self.notes = []

    def stage(self, text):
        pass

    def note(self, text):
        self.notes.append(text)


@pytest.fixture
def front():
    """Three members, modelled LUTs rising; the rule allows all of them."""
    architectures = plan.plan(90)[:3]
    networks = [plan.drawn_network(a, i) for i, a in enumerate(architectures)]
    priced = sorted(
        ((measure(n, "ice40").luts, a, n) for a, n in zip(architectures, networks, strict=True)),
        key=lambda row: row[0],
    )
    return [
        Evaluation(
            a,
            {"accuracy": 0.95 + i / 1000, "error": 0.05 - i / 1000, "luts": luts, "energy_nj": 9.0},
            0.0,
            True,
            network=n,
        )
        for i, (luts, a, n) in enumerate(priced)
    ]


def chosen(front, monkeypatch, tmp_path, luts=None, status="done", budgets=None, fmax=None, mhz=None):
    """choose() with tools that give each member `luts`, as modelled if None, a status and a clock in MHz;
    mhz: that of the target, where it is not its usual one."""
    asked, said = [], Listener()

    def route(network, name, chip, settings, cache):
        i = next(i for i, m in enumerate(front) if m.network is network)
        asked.append(i)
        real = front[i].metrics["luts"] if luts is None else luts[i]
        now = status if isinstance(status, str) else status[i]
        return Synthesis(
            "ice40", now, luts=real, ffs=1, brams=0, dsps=0, tools={"pyosys": "1"}, flags=("x",),
            fmax_mhz=fmax and fmax[i],
        )  # fmt: skip

    monkeypatch.setattr(build, "route", route)
    settings = compose.load([*SMALL, "build=full"])
    chip = targets.target("ice40")
    chip = chip if mhz is None else replace(chip, clock_mhz=mhz)
    found, best, _ = choose.choose(front, chip, budgets or {}, settings, tmp_path, said)
    return asked, said.notes, found, best


def architectures(members):
    return [m.architecture for m in members]


def test_a_winner_that_is_what_the_model_says_stays(front, monkeypatch, tmp_path):
    asked, notes, found, best = chosen(front, monkeypatch, tmp_path)
    assert (asked, notes[1:], best.architecture) == ([0], [], front[0].architecture)
    assert best.metrics["routed_luts"] == front[0].metrics["luts"]
    assert architectures(found) == architectures(front)


def test_a_winner_that_does_not_route_is_replaced_by_the_next(front, monkeypatch, tmp_path):
    front[0].metrics["accuracy"] = 0.99  # beside it the others are no winners
    status = ["does_not_fit", "not_routed", "done"]
    asked, notes, found, best = chosen(front, monkeypatch, tmp_path, status=status)
    assert asked == [0, 1, 2] and architectures(found) == [best.architecture] == [front[2].architecture]
    assert sum(note.endswith("does not route, the next by the rule is taken") for note in notes) == 2


def test_a_winner_over_its_budgets_once_routed_is_replaced(front, monkeypatch, tmp_path):
    real = [5000, *(m.metrics["luts"] for m in front[1:])]
    budgets = {"luts": 4000, "ffs": None}
    _, notes, found, best = chosen(front, monkeypatch, tmp_path, luts=real, budgets=budgets)
    assert any("exceeds its budgets routed (5000 luts of 4000)" in note for note in notes)
    assert best.architecture in architectures(front[1:])
    assert front[0].architecture not in architectures(found)


def test_a_winner_that_meets_its_budgets_exactly_stays(front, monkeypatch, tmp_path):
    budgets = {"luts": front[0].metrics["luts"], "ffs": 1, "brams": 0, "latency_us": None}
    asked, _, found, best = chosen(front, monkeypatch, tmp_path, budgets=budgets)
    assert asked == [0] and best.architecture == front[0].architecture
    assert architectures(found) == architectures(front)


@pytest.mark.parametrize("limit, winner_is", [(1.0, 0), (0.6, 1), (0.3, 2)])
def test_a_latency_budget_below_a_microsecond_holds_for_the_routed_clock(
    limit, winner_is, front, monkeypatch, tmp_path
):
    """12 MHz asked for; 6 clocks at 6 MHz are 1 us, at 12 MHz 0.5 us, 3 at 100 MHz still 0.25 us."""
    for member, clocks in zip(front, (6, 6, 3), strict=True):
        member.metrics.update(latency_clocks=clocks, latency_us=clocks / 12)
    fmax, budgets = [6.0, 12.0, 100.0], {"luts": None, "latency_us": limit}
    asked, notes, found, best = chosen(front, monkeypatch, tmp_path, budgets=budgets, fmax=fmax, mhz=12.0)
    assert best.architecture == front[winner_is].architecture and asked == list(range(winner_is + 1))
    assert best.metrics["routed_latency_us"] == pytest.approx((1.0, 0.5, 0.25)[winner_is])
    assert any("routes at 6 MHz, the target has 12 MHz" in note for note in notes)
    over = [note for note in notes if f"latency_us of {limit:g}), the next by the rule is taken" in note]
    assert len(over) == winner_is and len(found) == 3 - winner_is


def test_a_front_of_which_nothing_routes_is_an_error(front, monkeypatch, tmp_path):
    with pytest.raises(ValueError, match="none of the 3 members of the front"):
        chosen(front, monkeypatch, tmp_path, status="not_routed")


def test_a_winner_far_larger_than_modelled_reprices_the_front(front, monkeypatch, tmp_path):
    real = [m.metrics["luts"] for m in front]
    real[0] *= 3
    asked, notes, found, best = chosen(front, monkeypatch, tmp_path, luts=real)
    assert any("refitted with them" in note for note in notes)
    assert best.architecture != front[0].architecture  # which is known to be the largest now
    assert best.metrics["routed_luts"] == min(real)
    modelled = {m.architecture: m.metrics["luts"] for m in front}
    assert all(m.metrics["published_luts"] == modelled[m.architecture] for m in found)
    assert len(pareto_front(scores(found, ["error", "luts"]), np.zeros(len(found)))) == len(found)
    assert len(asked) == len(set(asked))  # nothing is asked twice
    rows = calibration.read_rows(tmp_path / calibration.RUN_FILE, calibration.RUN_COLUMNS)
    assert len(rows) == len(asked)
    again = chosen(front, monkeypatch, tmp_path, luts=real)  # a run that was broken off here: the same
    assert again == (asked, notes, found, best)


def test_every_setting_of_training_reaches_it():
    said = ["prune_by=magnitude", "prune_per=neuron", "regrow=0.1", "batch_size=7", "learning_rate=0.25"]
    settings = compose.load([f"train.{word}" for word in said] + ["executor.memory_gib=0.5"])
    budget = run.budget(settings, 3, 11)
    assert (budget.prune_by, budget.prune_per, budget.regrow) == ("magnitude", "neuron", 0.1)
    assert (budget.batch_size, budget.learning_rate, budget.memory_gib) == (7, 0.25, 0.5)
    assert (budget.epochs, budget.samples) == (3, 11)
    standard = run.budget(compose.load([]), 1)
    usual = Budget()
    assert [getattr(standard, n) for n in ("prune_by", "prune_per", "regrow")] == [
        getattr(usual, n) for n in ("prune_by", "prune_per", "regrow")
    ]

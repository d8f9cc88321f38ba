"""Runs side by side: worked by hand, by definition, and refused where they are no seeds of one search."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.figure import Figure

from scnas import compare
from scnas.evaluation import Evaluation
from scnas.hardware import targets
from scnas.record import written
from scnas.settings import compose, saved
from scnas.space import Architecture

CHIP = targets.target("ice40")
HALF = CHIP.luts // 2


def member(accuracy: float, luts: float, width: int = 8, n_outputs: int = 2) -> Evaluation:
    a = Architecture(4, (width, n_outputs), ("lif", "lif"), (8, 8), (0, 0))
    metrics = {"accuracy": accuracy, "error": 1 - accuracy, "luts": luts, "energy_nj": 1.0}
    return Evaluation(a, metrics, 0.0, True)


def make_run(folder, points, *overrides, objectives=("error", "luts"), chip=CHIP, n_outputs=2) -> str:
    """A run folder whose front holds `points`, (accuracy, luts) each; returns its path."""
    folder.mkdir(parents=True)
    words = [f"search.objectives=[{','.join(objectives)}]", f"target={chip.name}", *overrides]
    (folder / "settings.yaml").write_text(saved.to_yaml(compose.load(words)))
    members = [member(a, luts, 8 + i, n_outputs) for i, (a, luts) in enumerate(points)]
    written.write_front(folder, members, members[0], Figure(), objectives, "digits", chip)
    return str(folder)


SEEDS = ([(0.9, 300), (0.8, 100)], [(0.9, 200), (0.7, 100)], [(0.8, 200)])


@pytest.fixture
def three(tmp_path):
    """Three seeds of one search."""
    return [make_run(tmp_path / f"s{i}", points, f"search.seed={i}") for i, points in enumerate(SEEDS)]


def test_attainment_worked_by_hand(three):
    """With 100 LUTs one seed reaches 0.8, two reach 0.7, the third nothing; with 200: 0.9, 0.8, 0.8."""
    (levels,) = compare.load(three).attainment.values()
    found = {level: np.round(corners, 9).tolist() for level, corners in levels.items()}
    assert found == {
        "best": [[100, 0.8], [200, 0.9]],
        "median": [[100, 0.7], [200, 0.8], [300, 0.9]],
        "worst": [[200, 0.8]],
    }


@pytest.mark.parametrize("seed", range(10))
def test_attainment_by_definition(seed, tmp_path):
    """At any number of LUTs: sort what each run reaches with so many, and count."""
    dice = np.random.default_rng(seed)
    n_runs = int(dice.integers(2, 6))
    points = [
        [(round(dice.random(), 2), int(dice.integers(1, 20))) for _ in range(dice.integers(1, 6))]
        for _ in range(n_runs)
    ]
    runs = [make_run(tmp_path / f"{i}", p, f"search.seed={i}") for i, p in enumerate(points)]
    (levels,) = compare.load(runs).attainment.values()
    for luts in range(21):
        each = sorted((max((a for a, n in run if n <= luts), default=-1) for run in points), reverse=True)
        at_least = {"best": each[0], "median": each[-(-n_runs // 2) - 1], "worst": each[-1]}
        for level, corners in levels.items():
            reached = max((a for n, a in corners.tolist() if n <= luts), default=-1)
            assert reached == pytest.approx(at_least[level], abs=1e-9), (level, luts)


def test_the_merged_front_knows_where_its_members_come_from(three, tmp_path):
    found = compare.load(three)
    merged = [(run.path, m.metrics["accuracy"], m.metrics["luts"]) for run, m in found.merged]
    assert merged == [(three[1], 0.9, 200), (three[0], 0.8, 100)]
    list(compare.compare(three, tmp_path / "out"))
    with open(tmp_path / "out" / "compare.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(r["run"], r["seed"], float(r["luts"])) for r in rows] == [
        (three[1], "1", 200),
        (three[0], "0", 100),
    ]


def test_the_hypervolume_worked_by_hand(tmp_path):
    """Two classes, so an error of 0.25 is half of chance; half the chip: a quarter of the box is left."""
    runs = [make_run(tmp_path / f"{i}", [(0.75 + 0.125 * i, HALF)], f"search.seed={i}") for i in range(2)]
    found = compare.load(runs)
    share = 1 - HALF / CHIP.luts
    assert [run.hypervolume for run in found.runs] == pytest.approx([0.5 * share, 0.75 * share])
    lines = list(compare.compare(runs, tmp_path / "out"))
    mean, sd = 0.625 * share, 0.25 * share / np.sqrt(2)
    assert lines[0] == f"all: 2 seeds, hypervolume {mean:.4f} ± {sd:.4f}, best accuracy 81.25% ± 8.84%"
    assert f"| all | 2 | {mean:.4f} ± {sd:.4f} | 81.25 ± 8.84 |" in (tmp_path / "out/compare.md").read_text()


def test_runs_are_grouped_by_the_settings_that_differ(tmp_path):
    def run(name, *overrides):
        return make_run(tmp_path / name, [(0.8, 100)], *overrides)

    runs = [
        run("a", "search.seed=0"),
        run("b", "search.seed=1", "executor.workers=3", "build=none"),  # neither matters
        run("c", "search.seed=0", "space.max_layers=3"),
    ]
    groups = {k: [r.path for r in v] for k, v in compare.load(runs).groups.items()}
    assert groups == {"space.max_layers=4": runs[:2], "space.max_layers=3": runs[2:]}


def test_equal_members_of_two_runs_are_both_kept(tmp_path):
    runs = [make_run(tmp_path / f"{i}", [(0.8, 100)], f"search.seed={i}") for i in range(2)]
    assert {run.path for run, _ in compare.load(runs).merged} == set(runs)


def test_what_is_left_behind(three, tmp_path):
    lines = list(compare.compare(three, tmp_path / "out"))
    assert lines[-1] == f"{tmp_path / 'out'}: compare.md, compare.csv, attainment.csv, compare.png"
    assert lines[-2] == "merged front: 2 members from 2 of 3 runs"
    assert (tmp_path / "out" / "compare.png").read_bytes().startswith(b"\x89PNG")
    rows = (tmp_path / "out" / "attainment.csv").read_text().splitlines()
    assert rows[0] == "settings,seeds,level,luts,accuracy" and rows[1] == "all,3,best,100.0,0.8"
    first = {p.name: p.read_bytes() for p in (tmp_path / "out").iterdir()}
    list(compare.compare(three, tmp_path / "again"))
    assert {p.name: p.read_bytes() for p in (tmp_path / "again").iterdir()} == first


@pytest.mark.parametrize(
    "change, line",
    [
        (dict(overrides=["task.seed=1"]), "but task.seed is 0 in .*a and 1 in .*b$"),
        (dict(overrides=["task.validation=0.1"]), "but task.validation is 0.2 in .*a and 0.1 in .*b$"),
        (dict(overrides=["target.clock_mhz=5"]), "but target.clock_mhz is null in .*a and 5.0 in .*b$"),
        (dict(chip=targets.target("ecp5")), "but target.name is ice40 in .*a and ecp5 in .*b$"),
        (dict(objectives=("luts", "error")), "but search.objectives is .error,luts. in .*a and .luts,er"),
        (dict(n_outputs=3), r"but inputs and classes of front.json is \[4,2\] in .*a and \[4,3\] in .*b$"),
        (dict(chip=replace(CHIP, clock_mhz=7.0)), "but clock_mhz of front.json is 12.0 in .*a and 7.0 in"),
        (dict(), "a and .*b have the same settings and the seed 0$"),
    ],
)  # fmt: skip
def test_runs_that_cannot_be_compared_are_refused(change, line, tmp_path):
    a = make_run(tmp_path / "a", [(0.8, 100)])
    b = make_run(tmp_path / "b", [(0.8, 100)], *change.pop("overrides", ()), **change)
    with pytest.raises(ValueError, match=line) as refusal:
        list(compare.compare([a, b], tmp_path / "out"))
    assert str(refusal.value).isprintable() and not (tmp_path / "out").exists()


def test_another_number_of_training_samples_is_another_setting(tmp_path):
    runs = [make_run(tmp_path / f"{n}", [(0.8, 100)], f"task.train_limit={n}") for n in (50, 100)]
    assert list(compare.load(runs).groups) == ["task.train_limit=50", "task.train_limit=100"]


def test_what_was_benchmarked_makes_no_other_setting(tmp_path):
    runs = [
        make_run(tmp_path / f"{n}", [(0.8, 100)], f"search.seed={n}", f"benchmark.repeats={n}")
        for n in (1, 2)
    ]
    assert list(compare.load(runs).groups) == ["all"]


def test_less_than_two_runs_and_no_run_are_refused(three, tmp_path):
    for paths in ([], three[:1]):
        with pytest.raises(ValueError, match="runs must name two or more folders of finished runs, got"):
            list(compare.compare(paths, tmp_path / "out"))
    (tmp_path / "none").mkdir()
    with pytest.raises(
        ValueError, match="runs must name folders of finished runs, got .*none: no front.json"
    ):
        list(compare.compare([*three, str(tmp_path / "none")], tmp_path / "out"))


def test_a_title_with_signs_of_mathematics_is_drawn(tmp_path):
    """The name of a file of data, which may be anybody's."""
    runs = [make_run(tmp_path / f"{i}", [(0.8, 100)], f"search.seed={i}") for i in range(2)]
    for path in runs:
        data = json.loads(open(f"{path}/front.json").read())
        open(f"{path}/front.json", "w").write(json.dumps(data | {"task": "$\\frac$ | x"}))
    list(compare.compare(runs, tmp_path / "out"))

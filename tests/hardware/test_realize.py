"""Jobs that put real figures beside modelled ones."""

import csv
import json
from dataclasses import replace

import pytest

from scnas import realize
from scnas.evaluation import Evaluation, Generation
from scnas.hardware import targets
from scnas.hardware.cost.plan import FIRST, drawn_network, plan
from scnas.hardware.cost.price import measure
from scnas.hardware.tools import synthesis
from scnas.hardware.tools.synthesis import Synthesis
from scnas.record import begin, figures, written
from scnas.record.figures import front_figure
from scnas.settings import compose
from scnas.snn.budget import Budget
from scnas.trials.archive import Archive

CHIP = targets.target("ice40")


@pytest.fixture
def finished(tmp_path):
    """A folder with the front of a run: two members, the second is the winner."""
    settings = compose.load(["+experiment=smoke"])
    begin.begin(tmp_path, settings)
    members = []
    for i, architecture in enumerate(plan(90)[6:8]):
        network = drawn_network(architecture, i)
        metrics = {"accuracy": 0.9 - 0.1 * i, "error": 0.1 + 0.1 * i, **measure(network, CHIP)._asdict()}
        metrics = {name: value for name, value in metrics.items() if not isinstance(value, str)}
        metrics.pop("clock_mhz")
        members.append(Evaluation(architecture, metrics, 0.0, True, network=network))
    figure = figures.front_figure(members, CHIP, "digits", (), members[1])
    written.write_front(tmp_path, members, members[1], figure, ["error", "luts"], "digits", CHIP)
    return tmp_path, members


def test_every_member_gets_its_real_figures_and_keeps_the_modelled_ones(finished, monkeypatch):
    folder, members = finished
    built = []

    def synthesize(text, top, chip, **settings):
        built.append(text)
        luts = round(1.1 * members[len(built) - 1].metrics["luts"])
        return Synthesis("ice40", "done", reached="route", luts=luts, ffs=7, brams=1, fmax_mhz=50.5)

    monkeypatch.setattr(synthesis, "synthesize", synthesize)
    lines = list(realize.synthesize(folder, 60.0))
    assert len(lines) == 3 and "50.5 MHz" in lines[0]
    assert "off by 9.1% on average" in lines[2]
    with open(folder / "front.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    for row, member in zip(rows, members, strict=True):
        assert float(row["luts"]) == member.metrics["luts"]
        assert float(row["routed_luts"]) == round(1.1 * member.metrics["luts"])
        assert (row["routed_ffs"], row["routed_brams"], row["fmax_mhz"]) == ("7", "1", "50.5")
    assert [row["winner"] for row in rows] == ["0", "1"]
    for kept in json.loads((folder / "front.json").read_text())["members"]:
        assert (folder / kept["network"]).exists() and kept["metrics"]["routed_ffs"] == 7


def test_a_design_that_does_not_fit_is_told_and_the_others_go_on(finished, monkeypatch):
    folder, _ = finished
    answers = iter(
        [
            Synthesis("ice40", "timeout", message="yosys did not finish in time"),
            Synthesis("ice40", "does_not_fit", reached="pack", luts=9000, ffs=7, brams=1),
        ]
    )
    monkeypatch.setattr(synthesis, "synthesize", lambda *_, **__: next(answers))
    lines = list(realize.synthesize(folder, 60.0))
    assert "timeout: yosys did not finish" in lines[0]
    assert "9,000 packed, does not fit" in lines[1]


def test_a_missing_tool_is_one_line(finished, monkeypatch):
    absent = Synthesis("ice40", "not_run", message="pyosys not installed")
    monkeypatch.setattr(synthesis, "synthesize", lambda *_, **__: absent)
    with pytest.raises(ValueError, match="pyosys not installed"):
        list(realize.synthesize(finished[0], 60.0))


def test_a_folder_that_holds_no_front_is_refused(finished):
    folder, _ = finished
    (folder / "front.json").write_text('{"members": [{}]}')
    with pytest.raises(ValueError, match="does not hold the front of a run"):
        list(realize.synthesize(folder, 60.0))


def test_a_calibration_leaves_rows_figures_and_a_plot(tmp_path, monkeypatch):
    made = iter(range(10**6))

    def synthesize(text, top, target, **settings):
        i = next(made)
        real = measure(drawn_network(plan(30)[i], FIRST + i), target)
        tools = {"pyosys": "1"}
        return Synthesis(
            target, "done", reached="pack", luts=real.luts, ffs=real.ffs, brams=real.brams, tools=tools
        )

    monkeypatch.setattr(synthesis, "synthesize", synthesize)
    lines = list(realize.calibrate("ice40", tmp_path, 60.0, designs=30))
    assert any("| luts | 10 | held out |" in line for line in lines)
    assert {p.name for p in tmp_path.iterdir()} == {"calibration.csv", "figures.json", "parity.png"}
    assert json.loads((tmp_path / "figures.json").read_text())["ice40"]["held_out"]["ffs"]["exact"] == 1


def test_a_calibration_without_tools_is_one_line(tmp_path, monkeypatch):
    absent = Synthesis("ice40", "not_run", message="pyosys not installed")
    monkeypatch.setattr(synthesis, "synthesize", lambda *_, **__: absent)
    with pytest.raises(ValueError, match="job=calibrate cannot build designs: pyosys not installed"):
        list(realize.calibrate("ice40", tmp_path, 60.0, designs=15))


def test_the_figure_is_drawn_again_with_what_lies_behind_the_front(finished, monkeypatch):
    folder, members = finished
    behind = replace(plan(90)[20], fitness_accuracy=0.5)
    with Archive(folder / "archive.sqlite", "task") as kept:
        found = [Evaluation(behind, {"accuracy": 0.5, "error": 0.5, "luts": 700}, 0.0, True)]
        kept.generation(Generation(0, [], [], found, [], 0.5, 1.0), 0, Budget())
    drawn = []
    monkeypatch.setattr(figures, "front_figure", lambda *a: drawn.append(a[3]) or front_figure(*a))
    done = Synthesis("ice40", "done", reached="route", luts=1, ffs=7, brams=1, fmax_mhz=50.5)
    monkeypatch.setattr(synthesis, "synthesize", lambda *_, **__: done)
    list(realize.synthesize(folder, 60.0))
    assert [[e.architecture for e in others] for others in drawn] == [[behind]] * len(members)
    (grey,) = [
        c
        for c in front_figure(members, CHIP, "d", drawn[0]).axes[0].collections
        if c.get_label() == "behind the front"
    ]
    assert grey.get_offsets().tolist() == [[700, 0.5]]

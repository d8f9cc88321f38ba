"""What a run leaves behind: it can be read back, and the same run leaves the same."""

import csv
import json
import sys
from dataclasses import replace

import numpy as np
import pytest
from networks import random_network
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from scnas.evaluation import Evaluation, Generation
from scnas.hardware.cost.plan import drawn_network
from scnas.hardware.targets import target
from scnas.randomness import rng
from scnas.record import begin, figures, tables
from scnas.record.page import write_winner
from scnas.record.recorder import Recorder
from scnas.record.written import write_front
from scnas.search.evaluation import Reference
from scnas.settings import compose, saved
from scnas.snn.network import Network
from scnas.space import Architecture

CHIP = target("ice40")
REFERENCE = Reference(("error", "luts", "energy_nj"), 10, CHIP)
SETTINGS = compose.load(["+experiment=smoke", "search.seed=3"])


def member(width: int, accuracy: float, luts: int, energy: float, **more: float) -> Evaluation:
    """A candidate that was trained, with a random network of that width behind it."""
    network = random_network(rng(0, "record", width), (6, width, 10), encoder="rate", timesteps=4)
    kinds = [[getattr(layer, gene) for layer in network.layers] for gene in ("neuron", "length", "generator")]
    mappings, lanes = zip(*((layer.mapping, layer.lanes) for layer in network.layers), strict=True)
    architecture = Architecture(
        6, (width, 10), kinds[0], kinds[1], (3, 3), generators=kinds[2], mappings=mappings,
        lanes=[n or None for n in lanes], timesteps=4, readout=network.readout,
    )  # fmt: skip
    metrics = {
        "accuracy": accuracy,
        "error": 1 - accuracy,
        "validation_loss": 0.1,
        "luts": luts,
        "ffs": luts // 2,
    }
    metrics |= {"brams": 0, "latency_us": luts / 100, "latency_clocks": luts, "energy_nj": energy}
    return Evaluation(architecture, metrics | more, 0.0, True, None, network)


FRONT = [
    member(12, 0.97, 3000, 90.0, test_accuracy=0.96, energy_low_nj=45.0, energy_high_nj=180.0),
    member(8, 0.965, 1500, 40.0, test_accuracy=0.955),
    member(4, 0.80, 700, 20.0, test_accuracy=0.81),
]
BEHIND = member(9, 0.7, 2000, 95.0)
NO_ROOM = Evaluation(member(15, 0.5, 9000, 99.0).architecture, {"error": 1.0, "luts": 9000}, 0.2, False)
BROKEN = Evaluation(member(14, 0.5, 800, 9.0).architecture, {"error": 1.0, "luts": 800}, 1e9, False, "NaN")
OVER = replace(member(13, 0.99, 8000, 97.0), violation=0.04)  # trained, and larger than its estimate said
ALL = [*FRONT, BEHIND, NO_ROOM, BROKEN, OVER]
FIRST = Generation(0, ALL, FRONT[1:], ALL, ALL, 0.5, 35.0)
LAST = Generation(1, ALL, FRONT, FRONT[:2], ALL, 0.625, 95.0)
EMPTY = Generation(0, [NO_ROOM], [], [NO_ROOM], [NO_ROOM], 0.0, 6.0)


def whole_run(folder, *generations, winner=FRONT[1], interrupted=False):
    begin.begin(folder, SETTINGS)
    with Recorder(folder, SETTINGS, CHIP, REFERENCE) as recorder:
        for generation in generations:
            recorder.generation(generation)
        recorder.stage("training the front in full")
        recorder.finish(LAST, FRONT, winner, interrupted)


# -- the beginning ----------------------------------------------------------------------------------------


def test_a_run_begins_with_its_settings_and_versions(tmp_path):
    begin.begin(tmp_path / "a" / "b", SETTINGS)
    assert saved.read(tmp_path / "a" / "b" / "settings.yaml") == SETTINGS
    versions = json.loads((tmp_path / "a" / "b" / "versions.json").read_text())
    assert versions["packages"]["numpy"] == np.__version__
    assert versions["python"] == sys.version.split()[0]
    assert {"scnas", "commit", "command", "platform"} <= set(versions)


def test_the_same_settings_may_begin_again_and_others_may_not(tmp_path):
    begin.begin(tmp_path, SETTINGS)
    begin.begin(tmp_path, SETTINGS)
    other = compose.load(["+experiment=smoke", "search.seed=4", "target=ecp5"])
    with pytest.raises(
        ValueError, match=r"other settings: target.name is ice40 there, ecp5 here \(and 1 more\)"
    ):
        begin.begin(tmp_path, other)
    assert saved.read(tmp_path / "settings.yaml") == SETTINGS


def test_a_folder_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="the run folder .*file/run cannot be written: Not a directory"):
        begin.begin(tmp_path / "file" / "run", SETTINGS)


def test_a_run_that_came_to_nothing_can_be_taken_away(tmp_path):
    begin.begin(tmp_path, SETTINGS)
    (tmp_path / "generation").touch()
    begin.abandon(tmp_path)
    assert (tmp_path / "settings.yaml").exists()  # something was computed: nothing is touched
    (tmp_path / "generation").unlink()
    begin.abandon(tmp_path)
    assert not any(tmp_path.iterdir())


# -- TensorBoard ------------------------------------------------------------------------------------------


def events(folder) -> EventAccumulator:
    found = EventAccumulator(str(folder / "tensorboard"), size_guidance={"images": 0, "tensors": 0})
    found.Reload()
    return found


def test_tensorboard_holds_the_search(tmp_path):
    whole_run(tmp_path, FIRST, LAST)
    log = events(tmp_path)
    curves = {tag: [e.value for e in log.Scalars(tag)] for tag in log.Tags()["scalars"]}
    assert [e.step for e in log.Scalars("search/hypervolume")] == [0, 1]
    assert curves == {
        "search/hypervolume": [0.5, 0.625],
        "search/front_size": [2, 3],
        "search/best_accuracy": pytest.approx([0.965, 0.97]),
        "search/feasible_share": pytest.approx([4 / 7, 1]),  # of those trained one is infeasible
        "search/failed_share": pytest.approx([1 / 7, 0]),
        "search/candidates_per_minute": pytest.approx([12, 2]),  # 7 in 35 s, then 2 in 60 s
        "winner/accuracy": pytest.approx([0.965]),
        "winner/test_accuracy": pytest.approx([0.955]),
        "winner/luts": [1500],
        "winner/ffs": [750],
        "winner/brams": [0],
        "winner/latency_us": [15],
        "winner/energy_nj": [40],
    }
    assert [image.step for image in log.Images("front")] == [0, 1]
    (table,) = log.Tensors("final_front/text_summary")
    text = table.tensor_proto.string_val[0].decode()
    assert "| 96.50% | 95.50% | 1,500 |" in text and text.count("\n") == 4


def test_a_generation_in_which_nothing_fits_is_logged_too(tmp_path):
    whole_run(tmp_path, EMPTY, LAST)
    log = events(tmp_path)
    assert [e.step for e in log.Scalars("search/best_accuracy")] == [1]
    assert [e.value for e in log.Scalars("search/feasible_share")] == [0, 1]


def hparams(folder) -> dict:
    plugin = events(folder).summary_metadata
    found = {}
    for tag in ("_hparams_/experiment", "_hparams_/session_start_info", "_hparams_/session_end_info"):
        if tag in plugin:
            found[tag] = HParamsPluginData.FromString(plugin[tag].plugin_data.content)
    return found


def test_hparams_lie_in_the_same_folder_with_one_schema_for_every_run(tmp_path):
    whole_run(tmp_path / "a", FIRST)
    assert not [p for p in (tmp_path / "a" / "tensorboard").iterdir() if p.is_dir()]
    other = compose.load(
        ["search.budgets.luts=3000", "task.train_limit=7", "target.clock_mhz=48", "task.path=x"]
    )
    with Recorder(tmp_path / "b", other, CHIP, REFERENCE):
        pass
    a, b = hparams(tmp_path / "a"), hparams(tmp_path / "b")
    schema = [
        [(h.name, h.type) for h in found["_hparams_/experiment"].experiment.hparam_infos] for found in (a, b)
    ]
    assert schema[0] == schema[1] and len(schema[0]) == len(saved.flat(SETTINGS))
    values = a["_hparams_/session_start_info"].session_start_info.hparams
    assert values["search.seed"].number_value == 3 and values["target.name"].string_value == "ice40"
    assert "_hparams_/session_end_info" in a  # finished
    assert "_hparams_/session_end_info" not in b  # broken off


# -- the front --------------------------------------------------------------------------------------------


def test_the_front_can_be_read_back_with_its_networks(tmp_path):
    whole_run(tmp_path, FIRST)
    data = json.loads((tmp_path / "front.json").read_text())
    assert (data["task"], data["target"], data["objectives"]) == (
        "digits",
        "ice40",
        ["error", "luts", "energy_nj"],
    )
    assert [m["winner"] for m in data["members"]] == [False, True, False]
    for written, evaluation in zip(data["members"], FRONT, strict=True):
        assert Architecture(**written["architecture"]) == evaluation.architecture
        assert written["metrics"] == evaluation.metrics
        assert Network.load(tmp_path / written["network"]) == evaluation.network


def test_a_shorter_front_leaves_no_network_of_a_longer_one(tmp_path):
    """A run that is taken up again, or chosen from again, may end with fewer members."""
    figure = figures.front_figure(FRONT, CHIP, "digits")
    bare = Evaluation(FRONT[2].architecture, FRONT[2].metrics, 0.0, True)  # its network is not known
    for front in (FRONT, FRONT[1:], [*FRONT[:1], bare], FRONT[:1]):
        write_front(tmp_path, front, front[0], figure, ["error"], "digits", CHIP)
        told = [m["network"] for m in json.loads((tmp_path / "front.json").read_text())["members"]]
        there = [f"front/{path.name}" for path in sorted((tmp_path / "front").iterdir())]
        assert there == [name for name in told if name is not None]
        assert [name is None for name in told] == [m.network is None for m in front]
        for name, m in zip(told, front, strict=True):
            assert name is None or Network.load(tmp_path / name) == m.network


def test_the_table_holds_the_same_front(tmp_path):
    whole_run(tmp_path, FIRST)
    with open(tmp_path / "front.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(r["accuracy"]) for r in rows] == [0.97, 0.965, 0.80]
    assert [float(r["test_accuracy"]) for r in rows] == [0.96, 0.955, 0.81]
    assert [r["winner"] for r in rows] == ["0", "1", "0"]
    assert [r["layer_widths"] for r in rows] == ["12 10", "8 10", "4 10"]
    assert [r["energy_low_nj"] for r in rows] == ["45.0", "", ""]
    assert [r["network"] for r in rows] == ["front/00.json", "front/01.json", "front/02.json"]


def test_the_same_run_leaves_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        whole_run(tmp_path / name, FIRST)
    for name in (
        "settings.yaml",
        "front.csv",
        "front.json",
        "front.png",
        "winner/network.json",
        "winner/README.md",
    ):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name


def test_a_figure_that_is_not_finite_is_written_as_unknown(tmp_path):
    odd = member(5, 0.5, 500, float("inf"))
    figure = figures.front_figure(FRONT, CHIP, "digits")
    write_front(tmp_path, [odd], odd, figure, ["error"], "digits", CHIP)
    (written,) = json.loads((tmp_path / "front.json").read_text())["members"]
    assert written["metrics"]["energy_nj"] is None and written["metrics"]["luts"] == 500


def test_the_verdict_stands_in_the_row_of_the_winner_alone(tmp_path):
    def written() -> tuple[list, list]:
        whole_run(tmp_path, FIRST, LAST)
        members = json.loads((tmp_path / "front.json").read_text())["members"]
        table = [line.split(",")[:3] for line in (tmp_path / "front.csv").read_text().splitlines()]
        return [(row["verdict"], row["obligations"]) for row in members], table

    rows, table = written()
    assert rows == [(None, None)] * 3 and table[1:] == [["0", "", ""], ["1", "", ""], ["0", "", ""]]
    verdict = tmp_path / "winner" / "verdict.json"
    verdict.write_text(json.dumps({"status": "tested", "obligations": [{}, {}]}))
    rows, table = written()
    assert rows == [(None, None), ("tested", 2), (None, None)]
    assert table[0] == ["winner", "verdict", "obligations"]
    assert table[1:] == [["0", "", ""], ["1", "tested", "2"], ["0", "", ""]]
    assert [row[-2] for row in _plain_table(tmp_path)] == ["", "tested", ""]
    verdict.write_text('{"status": "PROVED", "obligations": []}')
    with pytest.raises(ValueError, match="verdict.json: its status must be one of proved, bounded, tested"):
        tables.proof(tmp_path)


def _plain_table(folder):
    table = tables._table(FRONT, FRONT[1], tables.proof(folder)[0])
    return list(zip(*(column.cells for column in table.columns), strict=True))


@pytest.mark.parametrize("front", [[], FRONT[:1], FRONT], ids=["empty", "one", "three"])
def test_the_figure_draws_any_front(front):
    figure = figures.front_figure(front, CHIP, "digits", ALL, front[0] if front else None)
    pixels = figures._pixels(figure)
    assert pixels.shape[2] == 3 and pixels.dtype == np.uint8 and np.ptp(pixels) == 255
    axes = figure.axes[0]
    assert (
        axes.get_title(loc="left") == "digits on Lattice iCE40 HX8K"
        and axes.get_ylabel() == "validation accuracy"
    )
    behind = [c for c in axes.collections if c.get_label() == "behind the front"]
    drawn = {tuple(point) for dots in behind for point in dots.get_offsets().tolist()}
    rest = [e for e in (*FRONT, BEHIND) if e not in front]  # trained, feasible, and not on the front
    assert drawn == {(e.metrics["luts"], e.metrics["accuracy"]) for e in rest}
    front_dots = [c for c in axes.collections if c.get_label() == "front"]
    assert [len(dots.get_offsets()) for dots in front_dots] == ([len(front)] if front else [])


# -- the winner -------------------------------------------------------------------------------------------


def test_the_winner_comes_with_a_page_that_says_what_is_measured_and_what_modelled(tmp_path):
    whole_run(tmp_path, FIRST, winner=FRONT[0])
    assert Network.load(tmp_path / "winner" / "network.json") == FRONT[0].network
    page = (tmp_path / "winner" / "README.md").read_text()
    assert "# Winner: digits on Lattice iCE40 HX8K" in page
    assert "| test accuracy | 96.00% | measured once, after every choice was made |" in page
    assert "| logic cells | 3,000 | modelled |" in page
    assert "| energy of one inference, nJ | 90 | modelled, extrapolated |" in page
    assert "the smallest `luts` at most 1 percentage points below the best" in " ".join(page.split())


def test_the_page_of_a_folded_winner_names_lanes_and_units(tmp_path):
    a = Architecture(
        6, (8, 10), ("lif",) * 2, (4,) * 2, (0,) * 2, mappings=("folded",) * 2, lanes=(5, 4), units=(4, 1),
        readout="spikes",
    )  # fmt: skip
    won = Evaluation(a, {**FRONT[0].metrics, "published_luts": 2900, "clock_mhz": 9.5}, 0.0, True, None,
                     drawn_network(a, 0))  # fmt: skip
    write_winner(tmp_path, won, SETTINGS.search.winner, "digits", CHIP)
    page = (tmp_path / "winner" / "README.md").read_text()
    rows = [line.split(" | ") for line in page.splitlines() if line.startswith(("| 0 |", "| 1 |"))]
    assert [row[-1] for row in rows] == ["folded, 5 lanes x 4 units |", "folded, 4 lanes |"]
    assert "uint8 [B, 8, 6] of 0 and 1" in page  # spikes as they come
    assert "| logic cells | 3,000 | modelled, refitted to what this run routed |" in page
    assert "| logic cells | 2,900 | modelled before that |" in page
    assert "| latency at 9.5 MHz, us | 30 | exact clocks, its modelled highest clock |" in page
    with open(tmp_path / "front.csv", "w") as file:
        file.write(tables._csv([{
            "winner": True, "verdict": None, "obligations": None, "network": None, "name": a.name,
            "metrics": won.metrics, "architecture": a.to_dict(),
        }]))  # fmt: skip
    with open(tmp_path / "front.csv", newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["mappings"], row["lanes"], row["units"]) == ("folded folded", "5 4", "4 1")


def test_the_page_recomputes_the_accuracy_of_a_real_network(tmp_path, monkeypatch, capsys):
    """Its second block of code runs as it stands, in the folder of the run."""
    winner = member(8, 0.5, 900, 20.0)
    network = random_network(rng(0, "page"), (64, 8, 10), encoder="rate", timesteps=8)
    winner = Evaluation(winner.architecture, winner.metrics, 0.0, True, None, network)
    begin.begin(tmp_path, SETTINGS)
    write_winner(tmp_path, winner, SETTINGS.search.winner, "digits", CHIP)
    code = (tmp_path / "winner" / "README.md").read_text().split("```python\n")[2].split("```")[0]
    monkeypatch.chdir(tmp_path)
    exec(code, {})
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["validation", "test"]
    assert all(0 <= float(line.split()[1]) < 0.5 for line in lines)


# -- the terminal -----------------------------------------------------------------------------------------


def test_one_line_where_nobody_looks(tmp_path, capsys):
    whole_run(tmp_path, FIRST, LAST)
    out, err = capsys.readouterr()
    assert err == "" and out.splitlines() == [
        f"{tmp_path}: front.csv, front.png, winner/README.md; tensorboard --logdir {tmp_path}"
    ]


def test_progress_and_the_front_on_a_terminal(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich then takes the pipe of the test for a terminal
    monkeypatch.setenv("COLUMNS", "160")
    whole_run(tmp_path, FIRST, LAST, interrupted=True)
    out, err = capsys.readouterr()
    assert "1/2" in err and "2/2" in err
    assert "2 candidates/min, best 97.0%, hypervolume 0.6250" in err
    assert "training the front in full" in err
    assert "96.50%" in out and "1,500" in out and "extrapolated" in out
    assert f"Interrupted; what there was: {tmp_path}" in out

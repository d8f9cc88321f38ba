import json
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from scnas.hardware import calibration, cost
from scnas.hardware.calibration import (
    COLUMNS,
    FIRST,
    collect,
    drawn_network,
    error_table,
    fit,
    held_out,
    parity_plot,
    plan,
    publish,
    read_rows,
    write_rows,
)
from scnas.hardware.synthesis import Synthesis


def test_a_plan_is_the_same_every_time_and_tries_every_gene():
    designs = plan(90)
    assert designs == plan(90)
    assert len(set(designs)) == 90
    assert Counter(d.n_layers for d in designs) == {1: 30, 2: 30, 3: 30}
    for gene, choices in calibration._CHOICES.items():
        seen = {value for d in designs for value in getattr(d, gene)}
        assert seen >= set(choices) - ({4, 2} if gene == "delay_ranges" else set())
    for gene, choices in calibration._NETWORK_CHOICES.items():
        assert {getattr(d, gene) for d in designs} == set(choices)


def test_a_third_of_every_depth_is_held_out():
    kept = [i for i in range(90) if held_out(FIRST + i)]
    assert len(kept) == 30
    assert not any(map(held_out, range(FIRST)))
    assert Counter(i % 3 for i in kept) == {0: 10, 1: 10, 2: 10}  # depth is 1 + i % 3


@pytest.mark.parametrize("index", range(0, 90, 7))
def test_a_drawn_network_is_of_its_architecture(index):
    architecture = plan(90)[index]
    network = drawn_network(architecture, 5)
    assert network == drawn_network(architecture, 5) != drawn_network(architecture, 6)
    assert [x.neuron for x in network.layers] == list(architecture.neuron_types)
    assert [x.mapping for x in network.layers] == list(architecture.mappings)
    assert [(x.n_in, x.n_out) for x in network.layers] == architecture.layer_sizes
    for layer, density, delay in zip(
        network.layers, architecture.densities, architecture.delay_ranges, strict=True
    ):
        assert (layer.weights > 0).any(axis=0).all() and (layer.weights < 0).any(axis=0).all()
        assert layer.n_synapses == max(2, round(density * layer.n_in)) * layer.n_out
        assert max(layer.delays_in_use) <= delay


@pytest.fixture(scope="module")
def rows():
    """Rows of a chip whose cells are exactly those of figures that the model does not know."""
    figures = {name: 1.3 * figure + 0.1 for name, figure in cost.ICE40_CELLS.items()}
    made = []
    for i, architecture in enumerate(plan(90), start=FIRST):
        network = drawn_network(architecture, i)
        real = cost.measure(network, "ice40", figures=figures)
        row = {name: "" for name in COLUMNS} | {"design": str(i), "target": "ice40", "status": "done"}
        row |= {name: str(getattr(real, name)) for name in ("luts", "ffs", "brams", "latency_clocks")}
        made.append(row | {"architecture": json.dumps(architecture.to_dict())})
    return made


def test_a_fit_finds_the_figures_that_made_the_rows(rows):
    found = fit(rows, "ice40")
    errors = found.errors(True)
    assert errors["luts"]["designs"] == 30
    assert errors["luts"]["mean"] < 0.02
    assert errors["ffs"]["exact"] == errors["brams"]["exact"] == errors["latency_clocks"]["exact"] == 1
    assert min(found.figures.values()) >= 0
    assert found.figures["lanes"] == pytest.approx(1.3 * cost.ICE40_CELLS["lanes"] + 0.1, rel=0.3)


def test_held_out_rows_do_not_touch_the_fit(rows):
    changed = [row | {"luts": "9999"} if held_out(int(row["design"])) else row for row in rows]
    before, after = fit(rows, "ice40"), fit(changed, "ice40")
    assert before.figures == after.figures
    assert before.errors(True)["luts"] != after.errors(True)["luts"]


def test_too_few_rows_are_refused(rows):
    with pytest.raises(ValueError, match="at least 13 designs that are not held out, got 9"):
        fit(rows[:15], "ice40")


def test_a_published_fit_is_what_the_cost_model_reads(rows, tmp_path):
    found = fit(rows, "ice40")
    publish(found, rows, tmp_path / "figures.json")
    record = json.loads((tmp_path / "figures.json").read_text())["ice40"]
    assert record["target"] == "ice40" and record["designs"] == 90
    assert record["figures"].keys() == cost.ICE40_CELLS.keys()
    assert record["held_out"]["luts"]["mean"] == found.errors(True)["luts"]["mean"]
    assert "| luts | 30 | held out |" in error_table(found)
    parity_plot(found, tmp_path / "parity.png")
    assert (tmp_path / "parity.png").stat().st_size > 5000


def test_rows_survive_the_file(rows, tmp_path):
    write_rows(tmp_path / "rows.csv", rows)
    assert read_rows(tmp_path / "rows.csv") == rows
    (tmp_path / "other.csv").write_text("design,luts\n0,5\n")
    with pytest.raises(ValueError, match="columns must be design, target, status"):
        read_rows(tmp_path / "other.csv")


def test_what_was_built_is_not_built_again(tmp_path, monkeypatch):
    built = []

    def synthesize(verilog, top, target, **settings):
        built.append(verilog)
        return Synthesis(target, "done", luts=7, ffs=5, brams=0, tools={"pyosys": "1"}, flags=("x",))

    monkeypatch.setattr(calibration, "synthesize", synthesize)
    path, designs = tmp_path / "rows.csv", plan(3)
    assert len(collect(designs, "ice40", path)) == 3 == len(built)
    assert len(collect(designs, "ice40", path)) == 3 == len(built)
    other = replace(designs[1], word=20 if designs[1].word != 20 else 16)
    rows = collect([designs[0], other, designs[2]], "ice40", path)
    assert len(rows) == 3 and len(built) == 4  # the changed one took the place of the old one
    assert json.loads(read_rows(path)[1]["architecture"])["word"] == other.word


def test_a_missing_tool_stops_the_collection(tmp_path, monkeypatch):
    def synthesize(verilog, top, target, **settings):
        return Synthesis(target, "not_run", message="pyosys not installed")

    monkeypatch.setattr(calibration, "synthesize", synthesize)
    with pytest.raises(RuntimeError, match="pyosys not installed"):
        collect(plan(1), "ice40", tmp_path / "rows.csv")


def test_signs_of_a_drawn_network_are_balanced():
    weights = drawn_network(plan(90)[6], 0).layers[0].weights
    assert 0.3 < np.mean(weights[weights != 0] > 0) < 0.7

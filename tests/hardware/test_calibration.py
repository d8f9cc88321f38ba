"""The cost model fitted to synthesis: what a plan builds, what a fit finds, what is kept, what is refused."""

import json
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from scnas.hardware.cost import calibration, fit_delays, fit_luts, price, timing
from scnas.hardware.cost.blocks import PRIOR
from scnas.hardware.cost.calibration import (
    COLUMNS,
    FIGURES_OF,
    collect,
    error_table,
    fit,
    held_out,
    parity_plot,
    publish,
    read_rows,
    refit,
    speed,
    write_rows,
)
from scnas.hardware.cost.feedback import Feedback
from scnas.hardware.cost.plan import FIRST, PLANS, drawn_network, plan
from scnas.hardware.tools import synthesis
from scnas.hardware.tools.synthesis import Synthesis


def test_a_plan_is_the_same_every_time_and_tries_every_gene():
    designs = plan(90)
    assert designs == plan(90)
    assert len(set(designs)) == 90
    assert Counter(d.n_layers for d in designs) == {1: 30, 2: 30, 3: 30}
    for gene, choices in PLANS[1].choices.items():
        seen = {value for d in designs for value in getattr(d, gene)}
        assert seen >= set(choices) - ({4, 2} if gene == "delay_ranges" else set())
    for gene, choices in PLANS[1].network.items():
        assert {getattr(d, gene) for d in designs} == set(choices)


def test_the_large_plan_goes_where_searches_go():
    designs = plan(72, 3)
    assert len(set(designs)) == 72
    assert max(d.n_inputs for d in designs) > 500 and max(max(d.layer_widths) for d in designs) > 60
    assert max(max(d.lanes) for d in designs) == 64
    assert {d.word for d in designs if "izhikevich" in d.neuron_types} == {8, 12, 16}
    assert max(price.estimate(d, "ice40").luts for d in designs) > 3500


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


def test_a_drawn_network_has_the_lanes_and_units_of_its_architecture():
    plain = next(a for a in plan(90) if a.n_layers == 3)
    a = replace(plain, mappings=("folded", "parallel", "folded"), lanes=(3, 0, 2), units=(2, 1, 1),
                layer_widths=(8, *plain.layer_widths[1:]))  # fmt: skip
    layers = drawn_network(a, 0).layers
    assert [(x.mapping, x.lanes, x.units) for x in layers] == [
        ("folded", 3, 2), ("parallel", 0, 1), ("folded", 2, 1),
    ]  # fmt: skip


@pytest.fixture(scope="module")
def rows():
    """Rows of a chip whose cells are exactly those of figures that the model does not know."""
    figures = {name: 1.3 * figure + 0.1 for name, figure in PRIOR["ice40"].items()}
    delays = {name: 1.3 * ns for name, ns in timing.PRIOR_NS["ice40"].items()}
    made = []
    for i, architecture in enumerate(plan(90), start=FIRST):
        network = drawn_network(architecture, i)
        real = price.measure(network, "ice40", figures=figures, delays=delays)
        row = {name: "" for name in COLUMNS} | {"design": str(i), "target": "ice40", "status": "done"}
        row |= {name: str(getattr(real, name)) for name in FIGURES_OF if name != "fmax_mhz"}
        row["fmax_mhz"] = str(real.modelled_fmax_mhz) if i % 2 else ""
        made.append(row | {"architecture": json.dumps(architecture.to_dict())})
    return made


@pytest.fixture(scope="module")
def found(rows):
    """The fit of all rows, which takes seconds."""
    return fit(rows, "ice40")


def test_a_fit_finds_the_figures_that_made_the_rows(found):
    errors = found.errors(True)
    assert errors["luts"]["designs"] == 30
    assert errors["luts"]["mean"] < 0.02
    assert errors["ffs"]["exact"] == errors["brams"]["exact"] == errors["latency_clocks"]["exact"] == 1
    assert errors["fmax_mhz"]["designs"] == 15 and errors["fmax_mhz"]["mean"] < 0.02
    assert min(found.figures.values()) >= 0 and min(found.delays.values()) >= 0
    assert found.figures["lanes"] == pytest.approx(1.3 * PRIOR["ice40"]["lanes"] + 0.1, rel=0.3)


def test_held_out_rows_do_not_touch_the_fit(rows, found):
    other = {"luts": "9999", "fmax_mhz": "1.5"}
    changed = [row | other if held_out(int(row["design"])) else row for row in rows]
    before, after = found, fit(changed, "ice40")
    assert before.figures == after.figures and before.delays == after.delays
    for name in ("luts", "fmax_mhz"):
        assert before.errors(True)[name] != after.errors(True)[name]


def test_a_clock_is_fitted_only_where_designs_were_routed(rows):
    found = fit([row | {"fmax_mhz": ""} for row in rows], "ice40")
    assert found.delays is None and "fmax_mhz" not in found.errors(True)
    assert found.errors(True)["luts"]["designs"] == 30


def test_the_gradient_of_the_clock_is_the_slope_of_its_loss(rows, monkeypatch):
    """The fit's own gradient, against differences of the loss that it is to be the gradient of."""
    seen = {}

    def minimize(loss, start, **settings):
        seen["loss"] = loss
        return type("Result", (), {"x": start})

    monkeypatch.setattr(fit_delays, "minimize", minimize)
    networks = [calibration.network_of(row) for row in rows[:20]]
    paths = fit_delays.Paths.of(networks, calibration.targets.target("ice40"))
    start = np.array(list(timing.PRIOR_NS["ice40"].values()))
    fit_delays.solve(paths, np.linspace(8, 25, 20), start, 0.01)
    at = start * np.random.default_rng(0).uniform(0.5, 1.5, len(start))
    value, gradient = seen["loss"](at)
    for i in range(len(at)):
        step = np.zeros(len(at))
        step[i] = 1e-5
        slope = (seen["loss"](at + step)[0] - seen["loss"](at - step)[0]) / 2e-5
        assert gradient[i] == pytest.approx(slope, rel=1e-3, abs=1e-5)
    ns = np.array(
        [
            1000 / price.measure(n, "ice40", delays=dict(zip(paths.names, at, strict=True)))[-2]
            for n in networks
        ]
    )
    assert paths.slowest(at) == pytest.approx(ns)  # the model's own clock


def test_a_refit_is_the_fit_of_all_designs(rows):
    """By definition: the statistics of some rows and the others give what all rows give in one fit."""
    chip = calibration.targets.target("ice40")
    counts = [price.logic_blocks(calibration.network_of(row), chip) for row in rows]
    luts = [float(row["luts"]) for row in rows]
    prior = PRIOR["ice40"]
    a, y = fit_luts.designs(counts, luts, prior)
    known = fit_luts.statistics(a[:60], y[:60])
    record = {
        "target": "ice40",
        "blocks": list(prior),
        "strength": 1e-3,
        "statistics": known[np.triu_indices(len(known))].tolist(),
    }
    together = fit_luts.figures(fit_luts.statistics(a, y), np.array(list(prior.values())), record["strength"])
    again = refit(record, counts[60:], luts[60:])
    assert list(again.values()) == pytest.approx(together.tolist(), rel=1e-6, abs=1e-6)
    alone = refit(record, [], [])
    assert list(alone.values()) != pytest.approx(together.tolist(), rel=1e-3, abs=1e-3)


def test_statistics_are_the_products_of_the_weighted_rows():
    a, y = np.array([[1.0, 0.0], [2.0, 4.0], [0.0, 6.0]]), np.array([2.0, 4.0, 3.0])
    rows = np.array([[0.5, 0, 1], [0.5, 1, 1], [0, 2, 1]])
    known = fit_luts.statistics(a, y)
    assert known.T @ known == pytest.approx(rows.T @ rows)
    assert known == pytest.approx(np.triu(known))
    assert fit_luts.statistics(a[2:], y[2:], fit_luts.statistics(a[:2], y[:2])) == pytest.approx(known)


def built(luts: int) -> Synthesis:
    return Synthesis(
        "ice40",
        "done",
        reached="route",
        luts=luts,
        ffs=9,
        brams=0,
        dsps=0,
        fmax_mhz=70.0,
        tools={"pyosys": "1"},
        flags=("x",),
    )


def test_a_run_refits_the_model_when_it_is_further_off_than_was_published(tmp_path):
    feedback = Feedback(tmp_path, "ice40")
    assert feedback.figures is None and feedback.note == ""
    designs = [(drawn_network(a, i), a) for i, a in enumerate(plan(90)[:4])]
    modelled = [price.measure(network, "ice40").luts for network, _ in designs]
    feedback.add(*designs[0], built(modelled[0]))
    assert feedback.figures is None and "on 1 routed in this run" in feedback.note
    for design, luts in zip(designs[1:], modelled[1:], strict=True):
        feedback.add(*design, built(round(1.5 * luts)))
    assert "refitted with them" in feedback.note
    before, after = (
        np.mean(
            [
                abs(price.measure(n, "ice40", figures=f).luts / m - 1.5)
                for (n, _), m in zip(designs[1:], modelled[1:], strict=True)
            ]
        )
        for f in (None, feedback.figures)
    )
    assert after < before
    feedback.add(*designs[3], built(1))  # known: nothing happens
    again = Feedback(tmp_path, "ice40")  # a run that is taken up again
    assert again.figures == feedback.figures and again.note == feedback.note
    assert len(read_rows(tmp_path / "calibration.csv", calibration.RUN_COLUMNS)) == 4


def test_a_run_learns_nothing_from_what_was_not_built(tmp_path):
    feedback = Feedback(tmp_path, "ice40")
    architecture = plan(90)[0]
    network = drawn_network(architecture, 0)
    feedback.add(network, architecture, Synthesis("ice40", "not_run", message="no tools"))
    feedback.add(network, architecture, replace(built(700), target="ecp5"))
    assert feedback.figures is None and not (tmp_path / "calibration.csv").exists()


def test_the_speed_of_a_chip_is_the_mean_ratio(rows):
    slow = [
        row
        | {
            "target": "ice40_up5k",
            "fmax_mhz": str(
                price.measure(calibration.network_of(row), "ice40_up5k").modelled_fmax_mhz
                / price.SPEEDS.get("ice40_up5k", 1.0)
                * factor
            ),
        }
        for row, factor in zip(rows, (0.4, 0.5, 0.45), strict=False)
    ]
    found = speed(slow, "ice40_up5k")
    assert found["factor"] == pytest.approx((0.4 * 0.5 * 0.45) ** (1 / 3), rel=1e-3)
    assert found["designs"] == 3 and found["max"] == pytest.approx((0.5 * 0.45) ** 0.5 / 0.4 - 1)
    with pytest.raises(ValueError, match="no design was routed on ecp5"):
        speed(slow, "ecp5")


def test_too_few_rows_are_refused(rows):
    with pytest.raises(ValueError, match="at least 13 designs that are not held out, got 9"):
        fit(rows[:15], "ice40")


def test_a_published_fit_is_what_the_cost_model_reads(rows, found, tmp_path):
    publish(found, rows, tmp_path / "figures.json")
    record = json.loads((tmp_path / "figures.json").read_text())["ice40"]
    assert record["target"] == "ice40" and record["designs"] == 90
    assert record["figures"].keys() == PRIOR["ice40"].keys()
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
        fmax = 50.0 if settings["level"] == "route" else None
        return Synthesis(
            target, "done", luts=7, ffs=5, brams=0, fmax_mhz=fmax, tools={"pyosys": "1"}, flags=("x",)
        )

    monkeypatch.setattr(synthesis, "synthesize", synthesize)
    path, designs = tmp_path / "rows.csv", plan(3)
    assert len(collect(designs, "ice40", path, level="pack")) == 3 == len(built)
    assert len(collect(designs, "ice40", path, level="pack")) == 3 == len(built)
    collect(designs, "ice40", path)
    assert len(built) == 6  # to be routed, too
    assert len(collect(designs, "ice40", path, level="pack")) == 3 and len(built) == 6
    assert all(row["fmax_mhz"] == "50.0" for row in read_rows(path))
    other = replace(designs[1], word=20 if designs[1].word != 20 else 16)
    rows = collect([designs[0], other, designs[2]], "ice40", path)
    assert len(rows) == 3 and len(built) == 7  # the changed one took the place of the old one
    assert json.loads(read_rows(path)[1]["architecture"])["word"] == other.word


def test_a_missing_tool_stops_the_collection(tmp_path, monkeypatch):
    def synthesize(verilog, top, target, **settings):
        return Synthesis(target, "not_run", message="pyosys not installed")

    monkeypatch.setattr(synthesis, "synthesize", synthesize)
    with pytest.raises(RuntimeError, match="pyosys not installed"):
        collect(plan(1), "ice40", tmp_path / "rows.csv")


def test_signs_of_a_drawn_network_are_balanced():
    weights = drawn_network(plan(90)[6], 0).layers[0].weights
    assert 0.3 < np.mean(weights[weights != 0] > 0) < 0.7


@pytest.mark.parametrize(
    "blocks, luts", [("{}", "700"), ("[]", "700"), ("1", "700"), (None, "x"), (None, "0"), (None, "nan")]
)
def test_a_file_of_a_run_that_holds_no_designs_is_refused(blocks, luts, tmp_path):
    architecture = plan(90)[0]
    network = drawn_network(architecture, 0)
    Feedback(tmp_path, "ice40").add(network, architecture, built(700))
    (row,) = read_rows(tmp_path / "calibration.csv", calibration.RUN_COLUMNS)
    row |= {"luts": luts} | ({} if blocks is None else {"blocks": blocks})
    write_rows(tmp_path / "calibration.csv", [row], calibration.RUN_COLUMNS)
    with pytest.raises(ValueError, match="does not hold the designs of a run$"):
        Feedback(tmp_path, "ice40")

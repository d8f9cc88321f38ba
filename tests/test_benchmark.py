"""scnas.benchmark and scnas.peers: the sides do the same work, and a missing one is said."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from scnas import benchmark, config, peers
from scnas.benchmark import Measured, for_peers, ragged, sampled, table, uniform, verdicts
from scnas.contract import NEURONS
from scnas.snn.streams import rate_encode
from scnas.tasks.digits import digits


def test_the_populations_are_what_they_are_called():
    same, mixed = uniform(64, 16), ragged(64, 16)
    assert len(set(same)) == len(set(mixed)) == 64
    assert {a.layer_widths for a in same} == {(64, 10)} and {a.neuron_types[0] for a in same} == {"lif"}
    widths = {n for a in mixed for n in a.layer_widths[:-1]}
    assert widths == {8, 16, 32, 64, 128, 256} and {a.n_layers - 1 for a in mixed} == {1, 2, 3}
    assert {m for a in mixed for m in a.neuron_types[:-1]} == set(NEURONS)
    assert {d for a in mixed for d in a.delay_ranges} == {0, 1, 2, 3, 4}
    assert ragged(64, 16) == mixed


def test_peers_get_the_same_shapes_and_never_more_work():
    for a, network in zip(ragged(8, 16), for_peers(ragged(8, 16)), strict=True):
        assert network["widths"] == [64, *a.layer_widths] and len(network["leaks"]) == a.n_layers - 1


def test_a_sample_is_spread_over_the_sizes():
    mixed = ragged(64, 16)
    sizes = sorted(a.total_params for a in mixed)
    assert [a.total_params for a in sampled(mixed, 4)] == [sizes[i] for i in (8, 24, 40, 56)]
    assert sampled(mixed[:3], 8) == mixed[:3]


def data(tmp_path, count=300, timesteps=8) -> str:
    """The first digits as peers.train reads them."""
    task, path = digits(), tmp_path / "data.npz"
    x, v = task.train.x[:count], task.validation.x[:100]
    np.savez(
        path, train_x=rate_encode(x, timesteps), train_y=task.train.y[:count],
        validation_x=rate_encode(v, timesteps), validation_y=task.validation.y[:100],
    )  # fmt: skip
    return str(path)


def request(tmp_path, **changes) -> dict:
    networks = [
        {"widths": [64, 32, 10], "leaks": [True]},
        {"widths": [64, 16, 16, 10], "leaks": [True, False]},
    ]
    return {
        "data": data(tmp_path), "networks": networks, "epochs": 4, "batch_size": 32, "learning_rate": 0.01,
        "device": "cpu",
    } | changes  # fmt: skip


def test_plain_torch_learns(tmp_path):
    torch.manual_seed(0)
    answer = peers.train("plain torch", request(tmp_path))
    assert answer["accuracy"][0] > 0.75 and answer["accuracy"][1] > 0.25  # chance is 0.1
    assert len(answer["seconds_each"]) == 2 and answer["seconds"] >= sum(answer["seconds_each"])


def test_the_neurons_of_plain_torch_by_hand():
    """v: 0.5, then 0.375 + 0.7 = 1.075 fires and resets, then 0.9."""
    currents = torch.tensor([0.5, 0.7, 0.9]).view(3, 1, 1)
    assert peers.plain(True)(currents).flatten().tolist() == [0, 1, 0]
    assert peers.plain(False)(torch.full((3, 1, 1), 0.5)).flatten().tolist() == [0, 1, 0]


def test_a_side_answers_line_by_line(tmp_path):
    with benchmark.Side("plain torch", [sys.executable, benchmark._SCRIPT, "plain torch"]) as side:
        assert side.missing is None and side.versions["torch"] == torch.__version__
        first, again = (side.ask(request(tmp_path, epochs=1)) for _ in range(2))
        assert first["accuracy"] == again["accuracy"]
        with pytest.raises(RuntimeError, match="plain torch ended with code 1"):
            side.ask({"no": "request"})


def test_what_is_not_installed_is_missing():
    with benchmark.Side("Norse", [sys.executable, benchmark._SCRIPT, "Norse"]) as side:
        assert "norse" in side.missing
    with benchmark.Side("Norse", ["/nowhere/python", benchmark._SCRIPT, "Norse"]) as side:
        assert side.missing == "/nowhere/python: No such file or directory (make peers)"


def small(*more: str) -> config.Benchmark:
    return config.load(
        ["benchmark.population=2", "benchmark.sample=1", "benchmark.epochs=1", "benchmark.repeats=1",
         "benchmark.timesteps=4", "benchmark.curve=0", f"benchmark.python={sys.executable}", *more]
    ).benchmark  # fmt: skip


@pytest.mark.slow
def test_the_job_measures_every_side_it_has(tmp_path):
    settings = small("benchmark.peers=[plain torch,Norse]")
    lines = benchmark.benchmark(settings, tmp_path, say=lambda line: None)
    text = "\n".join(lines)
    assert "Norse is missing and was not measured" in text and "not measured against SpikingJelly" in text
    rows = (tmp_path / "benchmark.csv").read_text().splitlines()
    assert len(rows) == 5 and rows[1].startswith("uniform,scnas,2,") and "ragged,plain torch,1," in rows[4]
    facts = json.loads((tmp_path / "benchmark.json").read_text())
    assert facts["versions"].keys() == {"scnas", "plain torch"} and "Norse" in facts["missing"]


@pytest.mark.parametrize(
    "python, why",
    [
        (sys.executable, "No module named 'norse'"),
        ("/bin/true", "/bin/true: no answer as of a peer .Norse ended with code 0:; make peers."),
        ("/bin/echo", "/bin/echo: no answer as of a peer .* make peers."),
    ],
)
def test_no_peer_at_all_is_refused_before_ours_is_trained(python, why, tmp_path, monkeypatch):
    asked, sides = [], []
    monkeypatch.setattr(benchmark.Side, "ask", lambda side, request: asked.append(side.name))
    start = benchmark.subprocess.Popen
    monkeypatch.setattr(
        benchmark.subprocess, "Popen", lambda *a, **k: sides.append(start(*a, **k)) or sides[-1]
    )
    settings = small("benchmark.peers=[Norse]", f"benchmark.python={python}")
    with pytest.raises(
        ValueError, match=r"^benchmark.python must be an interpreter with the peers"
    ) as refusal:
        benchmark.benchmark(settings, tmp_path, say=lambda line: None)
    assert re.search(why, str(refusal.value)) and "\n" not in str(refusal.value)
    assert not asked and len(sides) == 2 and all(side.returncode is not None for side in sides)


def test_the_table_and_the_verdict_worked_by_hand():
    """Ours: 8 networks in 2 s at best, 0.25 each. Theirs: 2 in 10 s, 5 each: 20 times; by medians 6 / 0.5."""
    measured = [
        Measured("uniform", "scnas", 8, (2.5, 4.0, 9.0), (4.0, 2.0, 8.0), 0.95, 0),
        Measured("uniform", "SpikingJelly", 2, (11.0, 13.0, 20.0), (10.0, 12.0, 20.0), 0.94, 0),
    ]
    assert "| uniform | SpikingJelly | 2 | 5.0000 | 5.5000 | 20.0 | 0.940 | 0 |" in table(measured)
    first, second = verdicts(measured)
    assert (
        first
        == "uniform: 20.0 times SpikingJelly by least processor time, 12.0 by the median; goal 20: reached"
    )
    assert second == "ragged: not measured against SpikingJelly"
    slower = [measured[0], measured[1].__class__("uniform", "SpikingJelly", 2, (5.0,), (5.0,), 0.9, 0)]
    assert verdicts(slower)[0].endswith("goal 20: missed by 2.00 times")


@pytest.mark.parametrize(
    "setting, message",
    [
        ("benchmark.timesteps=6", "benchmark.timesteps must be a power of two, got 6"),
        ("benchmark.peers=[Brian]", "benchmark.peers must be one of plain torch, snnTorch"),
        ("benchmark.sample=0", "benchmark.sample must be"),
    ],
)
def test_a_wrong_setting_is_refused(setting, message):
    with pytest.raises(ValueError, match=message):
        config.load([setting])


def test_the_curves_have_every_axis(tmp_path, monkeypatch):
    from scnas.snn import training

    monkeypatch.setattr(training, "train_group", lambda *_: sum(range(20000)))
    rows = benchmark.curves([1, 2], say=lambda line: None)
    assert {row["axis"] for row in rows} == {"population", "width", "timesteps", "delay"}
    benchmark.plot(rows, tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_the_peers_script_needs_nothing_of_ours():
    """It runs in an environment without scnas."""
    code = "import sys; sys.modules['scnas'] = None; import runpy; runpy.run_path(sys.argv[1])"
    script = str(Path(peers.__file__))
    subprocess.run([sys.executable, "-c", code, script], check=True)

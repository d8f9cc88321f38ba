"""scnas.benchmark and scnas.peers: the sides do the same work, and a missing one is said."""

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from scnas import benchmark, peers
from scnas.benchmark import (
    Cost,
    Measured,
    Rates,
    floor_seconds,
    floors,
    for_peers,
    ragged,
    sampled,
    table,
    training_cost,
    uniform,
    verdicts,
)
from scnas.contract import NEURONS
from scnas.settings import compose, schema
from scnas.snn.streams import rate_encode
from scnas.space import Architecture
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


def small(*more: str) -> schema.Benchmark:
    return compose.load(
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
        compose.load([setting])


def test_the_curves_have_every_axis(tmp_path, monkeypatch):
    from scnas.snn import training

    monkeypatch.setattr(training, "train_group", lambda *_: sum(range(20000)))
    rows = benchmark.curves([1, 2], say=lambda line: None)
    assert {row["axis"] for row in rows} == {"population", "width", "timesteps", "delay"}
    benchmark.plot(rows, tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


# --- on a GPU -------------------------------------------------------------------------------------


def test_the_cost_of_a_training_worked_by_hand():
    """4-3-2, T = 2, 10 samples in batches of 4 for 3 epochs: 9 steps, 30 samples seen, 15 evaluated.

    Layer 0 has 12 synapses: forward 2 * 2 * 12 * 45 = 2,160 operations, back 2 * 2 * 12 * 30 = 1,440. Layer 1
    has 6, and its currents are summed up at once: 540, and back to weights and spikes 2 * 6 * 30 * 2 = 720;
    with words of 10 bits they might saturate: 1,080 and 1,440.
    Bytes of layer 0, which is fused: 2 * 3 * (30 * (8 + 16) + 15 * 8) = 5,040, and 12 more a sample seen with
    such words, 2,160; of layer 1 then: 2 * 2 * (30 * 20 + 15 * 8) = 2,880; of weights 9 * 18 * 37 = 5,994, of
    matrices 9 * 18 * 2 * 2 = 648, of the input 4 * 2 * 4 * 75 = 2,400.
    """
    a = Architecture(4, (3, 2), ("lif", "lif"), (16, 16), (0, 0), timesteps=2)
    cost = training_cost([a], 10, 5, 3, 4)
    assert (cost.bf16, cost.float32) == (2160 + 540, 1440 + 720)
    assert cost.bytes == 5040 + 5994 + 648 + 2400
    narrow = training_cost([replace(a, word=10)], 10, 5, 3, 4)
    assert (narrow.bf16, narrow.float32) == (2160 + 1080, 1440 + 1440)
    assert narrow.bytes == cost.bytes + 2160 + 2880
    twice = training_cost([a, a], 10, 5, 3, 4)
    assert twice.bf16 == 2 * cost.bf16 and twice.bytes == 2 * cost.bytes - 2400  # the input is shared


def test_what_makes_a_training_cost_more():
    a = Architecture(4, (3, 2), ("lif", "lif"), (16, 16), (0, 0), timesteps=2)
    base = training_cost([a], 10, 5, 3, 4)
    late = training_cost([replace(a, delay_ranges=(1, 0))], 10, 5, 3, 4)  # 12 synapses seen at two delays
    assert late.float32 == base.float32 + 1440 and late.bf16 == base.bf16
    assert late.bytes == base.bytes + 9 * 18 * 37
    currents = 2 * 3 * (30 * 12 + 15 * 8)  # of a layer that is not fused: written, read, and read going back
    lfsr = training_cost([replace(a, generators=("lfsr", "sobol"))], 10, 5, 3, 4)  # a matrix for each step
    assert lfsr.bytes == base.bytes + 9 * 12 * 4 + currents and lfsr[1:] == base[1:]
    long = replace(a, bitstream_lengths=(512, 16), fraction=12)  # no longer exact in bfloat16
    long = training_cost([long], 10, 5, 3, 4)
    assert (long.bf16, long.float32) == (540, base.float32 + 2160)
    assert long.bytes == base.bytes + 9 * 12 * 4 + currents
    adapts = training_cost([replace(a, neuron_types=("homeostatic_lif", "lif"))], 10, 5, 3, 4)
    assert adapts.bytes == base.bytes + 2 * 3 * 30 * 8 and adapts[1:] == base[1:]


def test_the_floors_worked_by_hand():
    """8 GB at 4 TB/s are 2 ms; 1 TFLOP at 1,000 and 0.25 at 50 are 1 + 5 = 6 ms: 24 ms are four times it.
    Five epochs more take 10 ms, 2 each, four times 2 GB at that rate."""
    cost, rates = Cost(8 * 10**9, 10**12, 25 * 10**10), Rates(4e12, 1e15, 5e13)
    assert floor_seconds(cost, rates) == pytest.approx((0.002, 0.006))
    measured = [
        Measured("uniform", "scnas", 64, (0.036, 0.024), (1.0, 1.0), 0.9, 0, "cuda", (0.04, 0.034)),
        Measured("uniform", "SpikingJelly", 8, (0.6, 0.7), (0.1, 0.1), 0.9, 0, "cuda"),
        Measured("ragged", "scnas", 64, (0.06,), (1.0,), 0.9, 0, "cuda"),
    ]
    both = cost, Cost(2 * 10**9, 0, 0)
    assert floors(measured, {"uniform": both, "ragged": both}, rates, 5) == [
        "card: 4.00 TB/s copied, 1000.0 TFLOP/s in bfloat16, 50.0 in float32",
        "uniform: floors 0.0020 s for 8.00 GB and 0.0060 s for 1.250 TFLOP; measured 0.0240 s, 4.0 times the "
        "larger; goal 5: reached",
        "uniform: an epoch more takes 2.00 ms, 4.0 times its larger floor",
        "ragged: floors 0.0020 s for 8.00 GB and 0.0060 s for 1.250 TFLOP; measured 0.0600 s, 10.0 times the "
        "larger",
    ]
    slow = [replace(measured[0], seconds=(0.06,))]
    assert floors(slow, {"uniform": both}, rates, 5)[1].endswith(
        "10.0 times the larger; goal 5: missed by 2.00 times"
    )
    # On a GPU wall time counts: 0.6 / 8 is 200 times 0.024 / 64.
    assert verdicts(measured) == [
        "uniform: 200.0 times SpikingJelly by least wall time, 173.3 by the median; goal 100: reached"
    ]
    assert "| wall s per network | wall s per network |" in table(measured)


def on_cuda(monkeypatch) -> list[Measured]:
    """A benchmark whose sides are not run, on a card that is not there."""
    measured = [
        Measured(name, "scnas", 2, (0.5,), (0.4,), 0.9, 0, "cuda", (0.9,)) for name in benchmark.POPULATIONS
    ]
    monkeypatch.setattr(benchmark, "compare", lambda *args: (measured, {}, {"asked": args[-1]}))
    monkeypatch.setattr(benchmark, "card_rates", lambda: Rates(4e12, 1e15, 5e13))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "a card")
    return measured


def test_the_job_prints_and_keeps_both_floors_of_a_gpu(tmp_path, monkeypatch):
    on_cuda(monkeypatch)
    settings = small("benchmark.peers=[Norse]", "benchmark.curve=0")
    lines = benchmark.benchmark(settings, tmp_path, say=lambda line: None, device="cuda")
    told = [line for line in lines if "times the larger" in line]
    assert [line.split(":")[0] for line in told] == ["uniform", "ragged"]
    assert sum("an epoch more takes" in line for line in lines) == 2
    facts = json.loads((tmp_path / "benchmark.json").read_text())
    assert facts["card"] == "a card" and facts["versions"] == {"asked": "cuda"}
    task, made = digits(), uniform(settings.population, settings.timesteps)
    cost = training_cost(
        made, len(task.train.y), len(task.validation.y), settings.epochs, settings.batch_size
    )
    assert facts["costs"]["uniform"] == cost._asdict() and facts["rates"]["bytes"] == 4e12


class Answering:
    """A side that answers at once: as many seconds as epochs were asked for."""

    asked: list[tuple[str, int]] = []
    missing, versions = None, {}

    def __init__(self, name, command):
        self.name = name

    def ask(self, request):
        self.asked.append((self.name, request["epochs"]))
        return {"seconds": 1.0 * request["epochs"], "processor_seconds": 1.0, "accuracy": [0.5], "failed": []}

    def __exit__(self, *args):
        pass


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_on_a_gpu_ours_also_trains_twice_as_long(device, monkeypatch):
    """One epoch that is not counted, then each repeat; on a GPU each once more with twice the epochs."""
    monkeypatch.setattr(benchmark, "Side", Answering)
    monkeypatch.setattr(Answering, "asked", [])
    rates = {"ours": 0.1, "peers": 0.1}
    measured, _, _ = benchmark.compare(
        ["Norse"], Path("python"), 2, 1, 4, 3, 8, rates, 2, lambda line: None, device
    )
    longer = [("scnas", 6)] * (device == "cuda")
    once = [("scnas", 1), ("Norse", 1), *[("scnas", 3), *longer, ("Norse", 3)] * 2]
    assert Answering.asked == once * 2
    assert [m.longer for m in measured] == [(6.0, 6.0) if longer else (), ()] * 2


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_the_rates_of_a_card_are_plausible():
    """No card copies slower than a disk or faster than its caches; float32 is slower than bfloat16."""
    rates = benchmark.card_rates()
    assert 5e10 < rates.bytes < 5e13 and 1e12 < rates.float32 < rates.bf16 < 1e16


def test_the_peers_script_needs_nothing_of_ours():
    """It runs in an environment without scnas."""
    code = "import sys; sys.modules['scnas'] = None; import runpy; runpy.run_path(sys.argv[1])"
    script = str(Path(peers.__file__))
    subprocess.run([sys.executable, "-c", code, script], check=True)

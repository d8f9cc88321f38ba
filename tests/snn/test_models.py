"""scnas.snn.models and derive: the description of the neurons as one more witness. It must agree with the
oracle, the torch reference and its gradients, the kernels, and the hand-written datapath in hdl/.

Letters: W bits of a word, F fraction bits, T steps, n neurons.
"""

import itertools
import math
from dataclasses import replace
from functools import cache

import numba
import numpy as np
import pytest
import torch
from icarus import needs_icarus, simulate
from networks import random_network
from oracle import State, neuron_step
from test_neurons import constants as tensors
from test_neurons import random_case

from scnas import resources
from scnas.contract import NEURONS
from scnas.equiv import generate_sby, tools
from scnas.equiv.cells import verdict
from scnas.hardware.circuit.datapath import datapath
from scnas.snn import derive, models
from scnas.snn.cpu.passes import CpuPass
from scnas.snn.derive import Floats, Whole, read
from scnas.snn.models import CONSTANTS, MODELS, Format, Model, Word, clipped_slope, mul, name, on_spike
from scnas.snn.module import IntegerNetwork
from scnas.snn.network import Network
from scnas.snn.population import PopulationStack
from scnas.snn.reference.neurons import scan
from scnas.snn.reference.passes import TorchPass
from scnas.snn.samples import Samples
from scnas.snn.streams import noise_sequence, rate_encode, van_der_corput
from scnas.snn.surrogate import ALPHA
from scnas.snn.training import open_pass
from scnas.space import Architecture
from scnas.tasks import Split

needs_tools = pytest.mark.skipif(bool(tools.missing_tools()), reason=tools.missing_tools() or "-")
FORMATS = [
    Format(w, f) for w, f in ((4, 0), (4, 4), (8, 4), (10, 8), (12, 8), (16, 8), (16, 12), (24, 0), (24, 12))
]


def drawn(rng, q: Format, size: int) -> list[int]:
    """Words: their ends, numbers about zero, and of every length."""
    ends = rng.choice([-q.half, q.half - 1, -q.half + 1, 0, 1, -1, q.one], size)
    spread = rng.integers(-q.half, q.half, size) >> rng.integers(0, q.word, size)
    words = np.where(rng.random(size) < 0.35, ends, spread)
    return np.clip(words, -q.half, q.half - 1).tolist()


# --- against the oracle ---------------------------------------------------------------------------


def stepped_like_the_oracle(model: Model, steps: int, seed: int = 0) -> tuple[int, int, int]:
    """Random single steps, from any state, with any constants: how many differ from the oracle's; how many
    spikes; how many neurons wait."""
    rng = np.random.default_rng([seed, NEURONS.index(model.name)])
    wrong = spikes = waits = 0
    for q in FORMATS:
        network, arithmetic = dict(word=q.word, fraction=q.fraction), Whole(q)
        for _ in range(-(-steps // len(FORMATS) // 16)):
            k = dict(zip(CONSTANTS, drawn(rng, q, len(CONSTANTS)), strict=True))
            k["refractory"] = int(rng.integers(0, 4))
            layer = dict(neuron=model.name, constants=k)
            v, u, a, currents, thresholds = (drawn(rng, q, 16) for _ in range(5))
            for i in range(16):
                waiting = int(rng.choice([0, 0, 0, 1, 2]))
                byte = int(rng.integers(-128, 128))
                used = {word.name for word in model.words}
                state = State(v[i], u[i] if "u" in used else 0, a[i] if "a" in used else 0, waiting)
                expected = neuron_step(network, layer, thresholds[i], state, currents[i], byte)
                names = {**k, "v": v[i], "u": u[i], "a": a[i], "I": currents[i], "threshold": thresholds[i]}
                names["noise"] = byte * k["noise_k"] >> q.fraction
                found = derive.step(model, names, waiting, arithmetic)
                same = State(
                    found.state["v"], found.state.get("u", 0), found.state.get("a", 0), found.waiting
                )
                wrong += (bool(found.fires), same) != expected
                spikes, waits = spikes + expected[0], waits + (waiting > 0)
    return wrong, spikes, waits


@pytest.mark.parametrize("neuron", NEURONS)
def test_a_step_in_whole_numbers_is_the_oracles(neuron):
    wrong, spikes, waits = stepped_like_the_oracle(MODELS[neuron], 20000)
    assert wrong == 0 and spikes > 3000 and waits > 5000


@pytest.mark.parametrize("neuron", NEURONS)
def test_the_first_state_is_that_of_a_network(neuron):
    """By hand: at rest with nothing adapted, but for izhikevich at reset, its recovery in balance."""
    k = dict.fromkeys(CONSTANTS, 0) | dict(v_rest=5, v_reset=-90, b_k=51)
    found = derive.first_state(MODELS[neuron], k, Whole(Format(16, 8)))
    expected = {"homeostatic_lif": dict(v=5, a=0), "izhikevich": dict(v=-90, u=-18)}  # 51 * -90 / 256 = -17.9
    assert found == expected.get(neuron, dict(v=5))


def test_a_real_number_is_rounded_once_to_the_nearest():
    for fraction in range(13):
        wanted = round(1.4 * 2**fraction)
        assert Whole(Format(16, fraction)).real(7, 5) == wanted == (7 * 2**fraction + 2) // 5
    assert Whole(Format(16, 1)).real(-7, 4) == -3  # -3.5, halves up


V, LEAK, GAIN, CURRENT = (name(k) for k in ("v", "leak_k", "gain_k", "I"))
A, U, DECAY, BUMP = (name(k) for k in ("a", "u", "decay_k", "bump_k"))
A_K, B_K, D_K = (name(k) for k in ("a_k", "b_k", "d_k"))
FAULTS = {
    "if: leaks": ("if", dict(charge=models.leaking)),
    "lif: leak away from rest": ("lif", dict(charge=models.v + models.drive + mul(V - name("v_rest"), LEAK))),
    "lif: a product of sums is another sum of products": (
        "lif",
        dict(charge=V + models.drive + mul(name("v_rest"), LEAK) - mul(V, LEAK)),
    ),
    "stochastic_lif: silent": ("stochastic_lif", dict(charge=models.leaking)),
    "homeostatic_lif: threshold stays": ("homeostatic_lif", dict(limit=name("threshold"))),
    "homeostatic_lif: bump before decay": (
        "homeostatic_lif",
        dict(words=(Word("a", models.lifted(0), A - mul(A + on_spike(BUMP), DECAY) + on_spike(BUMP)),)),
    ),
    "homeostatic_lif: no bump": (
        "homeostatic_lif",
        dict(words=(Word("a", models.lifted(0), A - mul(A, DECAY)),)),
    ),
    "izhikevich: 5 v": (
        "izhikevich",
        dict(charge=models.times(4, mul(V, V)) + models.times(5, V) + models.real(7, 5) - U + models.drive),
    ),
    "izhikevich: square of 2 v": (
        "izhikevich",
        dict(
            charge=mul(models.times(2, V), models.times(2, V))
            + models.times(6, V) + models.real(7, 5) - U + models.drive
        ),
    ),
    "izhikevich: recovery of another order": (
        "izhikevich",
        dict(words=(Word("u", models.lifted(0), U + mul(mul(V - U, B_K), A_K) + on_spike(D_K)),)),
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_not_the_oracles_step(fault):
    neuron, change = FAULTS[fault]
    assert stepped_like_the_oracle(replace(MODELS[neuron], **change), 3000)[0] > 10


# --- facts ----------------------------------------------------------------------------------------


def test_facts_of_the_five_models_by_hand():
    common = {"gain_k", "v_rest", "v_reset", "refractory"}
    own = {
        "if": set(),
        "lif": {"leak_k"},
        "stochastic_lif": {"leak_k", "noise_k"},
        "homeostatic_lif": {"leak_k", "decay_k", "bump_k"},
        "izhikevich": {"a_k", "b_k", "d_k"},
    }
    assert tuple(MODELS) == tuple(own) == tuple(NEURONS)
    for neuron, extra in own.items():
        model = MODELS[neuron]
        assert derive.used_constants(model) == common | extra
        assert derive.constants_of(model) == CONSTANTS
        assert derive.trainable(model) == (("gain_k", "leak_k") if "leak_k" in extra else ("gain_k",))
        assert derive.remembered(model) == (("a",) if neuron == "homeostatic_lif" else ())
        assert derive.carrying(model) == (("u",) if neuron == "izhikevich" else ())
        assert derive.only_moves_exponents(model) == (neuron != "izhikevich")
    assert derive.products(MODELS["homeostatic_lif"]) == (dict(gain_k=1, leak_k=1, decay_k=1), 0, 0)
    assert derive.products(MODELS["izhikevich"]) == (dict(gain_k=1, b_k=1, a_k=1), 1, 1)


def begun_by_hand(neuron: str, q: Format) -> dict[str, float]:
    """What training begins with and keeps, written out once more."""
    one, half = 2**q.fraction, 2 ** (q.word - 1)
    threshold = min(one, half // 4)
    c = dict(threshold=threshold, scale=threshold, target=threshold)
    if neuron == "izhikevich":
        numbers = dict(a_k=0.02, b_k=0.2, d_k=0.08, v_rest=-0.65, v_reset=-0.65, threshold=0.3)
        c |= {key: max(-half, min(half - 1, round(value * one))) for key, value in numbers.items()}
        c |= dict(threshold=max(1, c["threshold"]), scale=max(1, one // 2), target=0.5 * one)
    if neuron == "homeostatic_lif":
        c |= dict(decay_k=max(1, min(one // 8, half // 2)), bump_k=max(1, threshold // 4))
    if neuron == "stochastic_lif":
        wanted = max(1.0, 0.1 * threshold * one / 74)
        c["noise_k"] = min(2 ** round(math.log2(wanted)), half // 2)
    return c


@pytest.mark.parametrize("neuron", NEURONS)
def test_what_training_begins_with_by_hand(neuron):
    for word, fraction in itertools.product((4, 6, 8, 12, 16, 20, 24), (0, 1, 3, 4, 8, 12)):
        q = Format(word, fraction)
        start, expected = MODELS[neuron].start(q), begun_by_hand(neuron, q)
        found = start.constants | dict(threshold=start.threshold, scale=start.scale, target=start.target)
        assert {k: v for k, v in found.items() if v} == {k: v for k, v in expected.items() if v}
        assert all(type(value) is int for value in start.constants.values())


# --- bounds ---------------------------------------------------------------------------------------


def expressions_of(neuron: str, q: Format, k: dict[str, int], noise: tuple[int, int]):
    model = MODELS[neuron]
    word = (-q.half, q.half - 1)
    ranges = dict.fromkeys(("v", "I", "threshold", *(w.name for w in model.words)), word)
    ranges |= {c: (k[c],) * 2 for c in CONSTANTS} | {"noise": noise}
    return [(node, {w: ranges[w] for w in node.names}) for node in model.expressions]


@pytest.mark.parametrize("neuron", NEURONS)
def test_bounds_hold_every_value_and_little_else(neuron):
    """W = 4, all states and currents one by one: an interval may be wider by what its floors take off."""
    rng = np.random.default_rng(NEURONS.index(neuron))
    q, exact = Format(4, 3), 0
    whole = Whole(q)
    for _ in range(12):
        k = dict(zip(CONSTANTS, drawn(rng, q, len(CONSTANTS)), strict=True))
        k["leak_k"], k["decay_k"] = int(rng.integers(0, 8)), int(rng.integers(0, 8))
        for node, ranges in expressions_of(neuron, q, k, (-3, 2)):
            every = [range(low, high + 1) for low, high in ranges.values()]
            choices = (0, 1) if "on_spike" in {inner.op for inner in node.walk()} else (0,)
            values = [
                read(node, dict(zip(ranges, values, strict=True)) | {"fires": fires}, whole)
                for values in itertools.product(*every)
                for fires in choices
            ]
            low, high = derive.bounds(node, ranges, q)
            assert low <= min(values) and max(values) <= high
            exact += (low, high) == (min(values), max(values))
            wide = derive.read(node, {**ranges, "fires": (0, 1)}, derive.Ranges(q))
            assert wide[0] <= low and high <= wide[1]
            if neuron != "izhikevich" and choices == (0,):
                floors = sum(inner.op == "mul" for inner in node.walk())
                assert (high - low) - (max(values) - min(values)) <= floors
    assert exact >= 12


def test_bounds_see_that_a_leak_does_not_widen_worked_by_hand():
    """v + (0 - v) / 2 + I lies in 1.5 words, not in 2.5."""
    k = dict.fromkeys(CONSTANTS, 0) | dict(leak_k=8, gain_k=16)
    (node, ranges), *_ = expressions_of("lif", Format(8, 4), k, (0, 0))
    low, high = derive.bounds(node, ranges, Format(8, 4))
    assert (low, high) == (-128 + 64 - 128, 127 - 64 + 127)
    assert derive.read(node, ranges, derive.Ranges(Format(8, 4))) == (-128 - 64 - 128, 127 + 64 + 127)


# --- gradients, against autograd ------------------------------------------------------------------


def with_floats(model: Model, q: Format):
    """A step and its backward pass, names in, names out, by reading the description in float64."""
    floats = Floats(q)

    def forward(names):
        raw = read(model.charge, names, floats)
        p = floats.saturated(raw)
        margin = p - read(model.limit, names, floats)
        made = dict(raw=raw, p=p, margin=margin, fires=(margin >= 0) & (names["waiting"] == 0))
        for word in model.words:
            made[f"raw_{word.name}"] = x = read(word.update, names | made, floats)
            made[f"next_{word.name}"] = floats.saturated(x)
        return made

    def backward(names):
        return {f"to_{key}": read(node, names, floats) for key, node in derive.backward(model).items()}

    return forward, backward


def with_text(model: Model, q: Format):
    """The same by executing the text for NumPy."""
    return tuple(
        lambda names, text=text, make=make: {
            key: value for key, value in ran(text, names, q).items() if key.startswith(make)
        }
        for text, make in (
            (derive.forward_source(model, derive.NUMPY, True), ("raw", "p", "margin", "fires", "next")),
            (derive.backward_source(model, derive.NUMPY), "to_"),
        )
    )


def outside(text: derive.Text, names: dict, q: Format) -> dict:
    """What the text reads from outside."""
    more = dict(unit=1 / q.one, low=float(-q.half), high=float(q.half - 1))
    more |= {f"{key}_unit": value / q.one for key, value in names.items() if key.endswith("_k")}
    more["real_7_5"] = float(Whole(q).real(7, 5))
    return {key: (names | more)[key] for key in text.outside}


def ran(text: derive.Text, names: dict, q: Format) -> dict:
    scope = outside(text, names, q) | {"np": np, "fires": names.get("fires")}
    exec("\n".join(text.lines), scope)
    return scope


@cache
def compiled(text: derive.Text, makes: tuple[str, ...]):
    """The text as a loop over neurons, compiled by Numba."""
    arguments = ", ".join((*text.outside, "fires", "out"))
    body = "\n        ".join(
        [*(f"{key} = {key}_all[n]" for key in text.outside), "fires = fires_all[n]", *text.lines,
         *(f"out[{i}, n] = {key}" for i, key in enumerate(makes))]
    )  # fmt: skip
    arguments = ", ".join((*(f"{key}_all" for key in text.outside), "fires_all", "out"))
    source = f"def f({arguments}):\n    for n in range(out.shape[1]):\n        {body}\n"
    scope = {"np": np}
    exec(source, scope)
    return numba.njit(scope["f"])


def with_numba(model: Model, q: Format):
    """The same by compiling the text for Numba, a loop over neurons."""

    def ran_compiled(text: derive.Text, makes: tuple[str, ...], names: dict) -> dict:
        shape = names["v"].shape
        given = [np.broadcast_to(value, shape) + 0.0 for value in outside(text, names, q).values()]
        out = np.zeros((len(makes), *shape))
        compiled(text, makes)(*given, np.broadcast_to(names.get("fires", False), shape).copy(), out)
        return dict(zip(makes, out, strict=True))

    words = [word.name for word in model.words]
    makes = ("raw", "p", "margin", "fires", *(f"{kind}_{w}" for w in words for kind in ("raw", "next")))

    def forward(names):
        made = ran_compiled(derive.forward_source(model, derive.NUMBA, True), makes, names)
        return made | {"fires": made["fires"] > 0}

    def backward(names):
        return ran_compiled(
            derive.backward_source(model, derive.NUMBA),
            tuple(f"to_{k}" for k in derive.backward(model)),
            names,
        )

    return forward, backward


READERS = {"floats": with_floats, "text": with_text, "numba": with_numba}


def scanned(model: Model, q: Format, k: dict, threshold, currents, noise, scale, pulls, reader) -> tuple:
    """All steps of some neurons and back: spikes [T, n], and the gradients to currents [T, n], thresholds
    [n], gain_k and leak_k, of spikes whose gradients are `pulls` [T, n]."""
    forward, backward = reader(model, q)
    n, low, high = currents.shape[1], -q.half, q.half - 1
    fixed = {key: float(value) for key, value in k.items()}
    state = {key: np.full(n, float(value)) for key, value in derive.first_state(model, k, Whole(q)).items()}
    waiting, past = np.zeros(n), []
    for t, now in enumerate(currents):
        names = fixed | state | dict(I=np.clip(now, low, high), threshold=threshold, noise=float(noise[t]))
        made = forward(names | {"waiting": waiting})
        rests, fires = waiting > 0, made["fires"]
        past.append((names, made, fires, rests))
        after = np.where(fires, fixed["v_reset"], made["p"])
        state = {word.name: made[f"next_{word.name}"] for word in model.words}
        state["v"] = np.where(rests, fixed["v_rest"], after)
        waiting = np.where(fires, fixed["refractory"], np.maximum(0, waiting - 1))
    spikes = np.array([fires for *_, fires, _ in past], float)
    g = dict.fromkeys(("v", *derive.carrying(model)), np.zeros(n))
    to_current, to_threshold, to_k = (
        np.zeros_like(currents),
        np.zeros(n),
        dict.fromkeys(("gain_k", "leak_k"), 0.0),
    )
    for t in reversed(range(len(currents))):
        names, made, fires, rests = past[t]
        z = math.pi / 2 * ALPHA * made["margin"] / scale
        g_m = np.where(rests, 0, pulls[t] * (ALPHA / 2) / (1 + z * z) / scale)
        g_p = np.where(made["raw"] == made["p"], g_m + np.where(fires | rests, 0, g["v"]), 0)
        given = {f"g_{w}": np.where(made[f"raw_{w}"] == made[f"next_{w}"], g[w], 0) for w in g if w != "v"}
        found = backward(names | given | dict(g_p=g_p, g_m=g_m, fires=fires))
        to_current[t] = np.where(names["I"] == currents[t], found["to_I"], 0)
        to_threshold += found["to_threshold"]
        for key in derive.trainable(model):
            to_k[key] += found[f"to_{key}"].sum()
        g = {word: found[f"to_{word}"] + np.zeros(n) for word in g}
    return spikes, to_current, to_threshold, to_k["gain_k"], to_k["leak_k"]


def compared(model: Model, word: int, fraction: int, powers_of_two: bool, reader) -> tuple[float, int]:
    """The largest difference from the torch reference and its gradients, as a share of what there is; spikes
    may not differ. And how many spikes there were."""
    q = Format(word, fraction)
    rng = np.random.default_rng([word, fraction, NEURONS.index(model.name)])
    layers, currents = random_case(rng, model.name, word, fraction, powers_of_two)
    currents = currents * rng.choice([1, 2], currents.shape)  # some are saturated
    worst, fired = 0.0, 0
    for layer, now in zip(layers, currents, strict=True):
        c = tensors([layer], word, fraction, len(now))
        leaves = [torch.tensor(now, dtype=torch.float64)[None, :, None].requires_grad_()]
        leaves += [c.threshold.requires_grad_(), c.gain_k.requires_grad_(), c.leak_k.requires_grad_()]
        scale = float(2 ** (word - 3))
        c = c._replace(scale=torch.full((1, 1, 1), scale, dtype=torch.float64))
        clamped = leaves[0].clamp(-q.half, q.half - 1)
        spikes = scan(model.name, clamped, c, fraction)[0]
        pulls = rng.normal(size=now.shape)
        (spikes[0, :, 0] * torch.tensor(pulls)).sum().backward()
        threshold = np.array(layer["threshold"], float)
        found = scanned(
            model,
            q,
            layer["constants"],
            threshold,
            now.astype(float),
            c.noise[0].numpy(),
            scale,
            pulls,
            reader,
        )
        assert np.array_equal(found[0], spikes[0, :, 0].detach().numpy()), (model.name, word, fraction)
        for mine, leaf in zip(found[1:], leaves, strict=True):
            slope = np.zeros_like(mine) if leaf.grad is None else leaf.grad.numpy().reshape(np.shape(mine))
            worst = max(worst, np.abs(mine - slope).max() / (np.abs(slope).max() + 1e-300))
        fired += int(found[0].sum())
    return worst, fired


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("neuron", NEURONS)
def test_gradients_are_those_of_autograd(neuron, reader):
    """Sums in another order: a few bits of float64."""
    fired = 0
    for word, fraction, powers in (
        (8, 4, False),
        (12, 8, True),
        (16, 8, True),
        (16, 8, False),
        (20, 12, False),
    ):
        worst, spikes = compared(MODELS[neuron], word, fraction, powers, READERS[reader])
        assert worst < 1e-12, (word, fraction, worst)
        fired += spikes
    assert fired > 100


def test_a_planted_fault_is_not_autograds_gradient(monkeypatch):
    """The field of izhikevich without its clip; a recovery that carries nothing."""
    sound = MODELS["izhikevich"]
    unclipped = replace(
        sound, charge=models.times(4, mul(V, V)) + models.times(6, V) + models.real(7, 5) - U + models.drive
    )
    assert compared(unclipped, 16, 8, False, with_floats)[0] > 0.1
    assert compared(sound, 16, 8, False, with_floats)[0] < 1e-12
    along_u = replace(sound, charge=clipped_slope(times6(V, U), V) + models.real(7, 5) + models.drive)
    assert compared(along_u, 16, 8, False, with_floats)[0] < 1e-12  # what does not depend on v is not clipped
    gradients = derive.backward(sound)
    monkeypatch.setattr(derive, "backward", lambda model: gradients | {"u": models.times(2, gradients["u"])})
    assert compared(sound, 16, 8, False, with_floats)[0] > 1e-3


def times6(v, u):
    return models.times(4, mul(v, v)) + models.times(6, v) - u


# --- against the kernels --------------------------------------------------------------------------


@pytest.mark.parametrize("neuron", NEURONS)
@pytest.mark.parametrize("word", [12, 24])  # in float32, and what needs float64
def test_the_kernels_of_the_cpu_fire_where_the_description_does(neuron, word):
    """Spikes of a layer of 40 neurons, from the currents that its synapses give, sample by sample."""
    a = Architecture(20, (40,), (neuron,), (16,), (0,), word=word, timesteps=16, readout="spikes")
    stack = PopulationStack([a], 3, torch.device("cpu"))
    with torch.no_grad():
        stack.layers[0].tensors["threshold"].uniform_(0.3, 1.5, generator=torch.Generator().manual_seed(1))
    x = np.random.default_rng(0).random((12, 20))
    levels = np.rint(x * 16).astype(np.int32)[:, None]
    scores, _ = CpuPass(stack, van_der_corput(16)).scores(levels)
    network = stack.export(0, a, "rate")
    layer = network.layers[0]
    current = IntegerNetwork(network).trace(x.astype(np.float32))[0].current  # [B, T, n]
    model, q, k = MODELS[neuron], Format(word, network.fraction), layer.constants
    noise = noise_sequence(layer.noise_seed, 16) * k["noise_k"] >> network.fraction
    floats, shape = Floats(q), (len(x), layer.n_out)
    state = {w: np.full(shape, float(n)) for w, n in derive.first_state(model, k, Whole(q)).items()}
    waiting, fired = np.zeros(shape), np.zeros(shape)
    for t in range(16):
        names = {**k, **state, "I": current[:, t].astype(float), "noise": float(noise[t])}
        names["threshold"] = layer.threshold.astype(float)
        spikes, state, waiting = derive.step(model, names, waiting, floats)
        fired += spikes
    assert np.array_equal(scores[0].numpy(), fired)
    assert len(np.unique(fired)) > 3


# --- against the Verilog that was written by hand --------------------------------------------------

KNOWN = dict(leak_k=4, gain_k=24, noise_k=3, decay_k=2, bump_k=5, a_k=1, b_k=3, d_k=2)


def miter(neuron: str, k: dict[str, int], noise: tuple[int, int], free: tuple[str, ...]) -> str:
    """Verilog that asserts that the derived datapath is sc_neuron_update, W = 8, F = 4."""
    model = MODELS[neuron]
    width, words = (k["refractory"]).bit_length() or 1, [word.name for word in model.words]
    parameters = dict(
        MODEL=model.cell.update, DATA_WIDTH=8, FRACTION=4, V_REST=k["v_rest"], V_RESET=k["v_reset"],
        REFRACTORY_PERIOD=k["refractory"], WAITING_WIDTH=width, NOISE_WIDTH=8,
        **{key.upper(): k[key] for key in ("decay_k", "bump_k", "a_k", "b_k", "d_k")},
    )  # fmt: skip
    settings = ", ".join(f".{key}({value})" for key, value in parameters.items())
    noisy = "noise" in model.names
    given = {"leak_k": f"8'sh{k['leak_k'] % 256:x}", "gain_k": f"8'sh{k['gain_k'] % 256:x}"}
    given |= {key: key for key in free}
    bits = derive.signed_bits(*noise)
    mine = [f".{key}({key})" for key in (*free, "threshold", "I_t", "v", "waiting")]
    mine += ["." + pair for pair in ("fires(f0)", "v_next(v0)", "waiting_next(w0)")]
    mine += [f".noise_in(noise_in[{bits - 1}:0])"] * noisy
    mine += [f".{w}(extra), .{w}_next(e0)" for w in words]
    assumed = f"assume (noise_in >= {noise[0]} && noise_in <= {noise[1]});" if noisy else ""
    return f"""module top (
    input wire signed [7:0] leak_k, gain_k, threshold, I_t, noise_in, v, extra,
    input wire [{width - 1}:0] waiting);
    wire f0, f1;
    wire signed [7:0] v0, v1, e0, e1;
    wire [{width - 1}:0] w0, w1;
    derived mine ({", ".join(mine)});
    sc_neuron_update #({settings}) hand (.leak_k({given["leak_k"]}), .gain_k({given["gain_k"]}),
        .threshold(threshold), .I_t(I_t), .noise_in({"noise_in" if noisy else "8'sd0"}), .v(v), .extra(extra),
        .waiting(waiting), .fires(f1), .v_next(v1), .extra_next(e1), .waiting_next(w1));
    always @* begin
        {assumed}
        assert (f0 == f1);
        assert (v0 == v1);
        assert (w0 == w1);
        {"assert (e0 == e1);" if words else ""}
    end
endmodule
"""


def proved(folder, neuron, k, noise=(-128, 127), free=(), change=None) -> str:
    """What SymbiYosys says; change: (before, after) in the derived text."""
    text = datapath(MODELS[neuron], "derived", Format(8, 4), k, noise, free)
    if change:
        assert change[0] in text
        text = text.replace(*change)
    hand = (resources.hdl() / "sc_neuron_update.v").read_text()
    files = {"derived.v": text, "sc_neuron_update.v": hand, "top.v": miter(neuron, k, noise, free)}
    for file, content in files.items():
        (folder / file).write_text(content)
    (folder / "top.sby").write_text(generate_sby("top", list(files), 1, mode="bmc"))
    return verdict(tools.sby("top.sby", folder, 120))


CASES = {
    "if": ("if", dict(leak_k=0, v_rest=0, v_reset=0, refractory=0), ("gain_k",)),
    "lif": ("lif", dict(v_rest=-11, v_reset=-9, refractory=2), ("leak_k",)),
    "stochastic_lif": ("stochastic_lif", dict(v_rest=3, v_reset=-3, refractory=0), ()),
    "homeostatic_lif": ("homeostatic_lif", dict(v_rest=0, v_reset=-5, refractory=5), ()),
    "izhikevich": ("izhikevich", dict(v_rest=-10, v_reset=-11, refractory=1), ()),
    "extremes": ("lif", dict(leak_k=-128, gain_k=-128, v_rest=-128, v_reset=127, refractory=1), ()),
    "large constants": (
        "izhikevich",
        dict(gain_k=127, a_k=-128, b_k=127, d_k=-128, v_rest=127, v_reset=-128, refractory=0),
        (),
    ),
}


@needs_tools
@pytest.mark.parametrize("case", CASES)
def test_the_derived_datapath_is_proved_to_be_the_one_written_by_hand(case, tmp_path):
    """For every state, current, threshold and noise of 8 bits; it is combinational, so one clock is all."""
    neuron, change, free = CASES[case]
    assert proved(tmp_path, neuron, KNOWN | change, free=free) == "passed"


MISTAKES = {
    "fires above the limit": ("lif", ">= limit", "> limit"),
    "one bit too narrow": ("lif", "wire signed [9:0] charge", "wire signed [8:0] charge"),
    "rests at reset": ("lif", "rests ? 8'shf5", "rests ? 8'shf7"),
    "waits a step longer": ("lif", "fires ? 2'd2", "fires ? 2'd3"),
    "adapts without a spike": ("homeostatic_lif", "fires ? 4'sh5", "1'b1 ? 4'sh5"),
    "wraps": ("izhikevich", "? charge[7:0] :", "? charge[7:0] : 1'b1 ? charge[7:0] :"),
    "rounds to the nearest": ("izhikevich", ">>> 4", "/ 16"),
}


@needs_tools
@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_in_the_derived_datapath_is_refuted(mistake, tmp_path):
    neuron, *change = MISTAKES[mistake]
    k = KNOWN | dict(v_rest=-11, v_reset=-9, refractory=2)
    assert proved(tmp_path, neuron, k, change=change) == "refuted"


def simulated(model: Model, q: Format, k: dict[str, int], rows: list[dict], folder) -> list[tuple[int, ...]]:
    """fires, waiting and the state after each of the given steps, by Icarus Verilog."""
    state, W = ["v", *(word.name for word in model.words)], q.word
    noisy, width = "noise" in model.names, max(1, k["refractory"].bit_length())
    noise = (-128 * k["noise_k"] >> q.fraction, 127 * k["noise_k"] >> q.fraction)
    wide = {key: W for key in (*state, "I_t", "threshold")} | {"waiting": width}
    wide |= {"noise_in": derive.signed_bits(min(noise), max(noise))} if noisy else {}
    outputs = {"fires": (1, False), "waiting_next": (width, False)} | {f"{w}_next": (W, True) for w in state}
    ports = [f"input [{bits - 1}:0] {key}" for key, bits in wide.items()]
    ports += [f"output [{bits - 1}:0] {key}" for key, (bits, _) in outputs.items()]
    plugs = ", ".join(f".{key}({key})" for key in (*wide, *outputs))
    text = datapath(model, "derived", q, k, (min(noise), max(noise)))
    text += f"module held (input clk, rst_n, {', '.join(ports)});\nderived only ({plugs});\nendmodule\n"
    inputs = {key: (bits, [row[key] for row in rows]) for key, bits in wide.items()}
    return simulate("held", {}, inputs, outputs, len(rows), folder, text)


@needs_icarus
@pytest.mark.parametrize("neuron", [*NEURONS, "quadratic_if"])
def test_the_derived_datapath_computes_the_step_whatever_the_format(neuron, tmp_path):
    """Random steps with random constants: every wire is as wide as it must be."""
    model = quadratic() if neuron == "quadratic_if" else MODELS[neuron]
    rng = np.random.default_rng(len(neuron))
    fired = 0
    for q in (Format(4, 4), Format(8, 4), Format(12, 8), Format(16, 0), Format(24, 12)):
        names = derive.constants_of(model)
        k = dict(zip(names, drawn(rng, q, len(names)), strict=True)) | {"refractory": int(rng.integers(0, 6))}
        rows = []
        for _ in range(400):
            words = ("v", *(word.name for word in model.words), "I_t", "threshold")
            row = dict(zip(words, drawn(rng, q, len(words)), strict=True))
            row["waiting"] = int(rng.choice([0, rng.integers(0, k["refractory"] + 1)]))
            rows.append(row | {"noise_in": int(rng.integers(-128, 128)) * k["noise_k"] >> q.fraction})
        found = simulated(model, q, k, rows, tmp_path)
        for row, got in zip(rows, found, strict=True):
            given = k | row | {"I": row["I_t"], "noise": row["noise_in"]}
            wanted = derive.step(model, given, row["waiting"], Whole(q))
            state = [wanted.state[w] for w in ("v", *(word.name for word in model.words))]
            assert got == (wanted.fires, wanted.waiting, *state), (q, k, row)
            fired += got[0]
    assert fired > 100


# --- a model of one's own -------------------------------------------------------------------------


def quadratic(**changes) -> Model:
    """A quadratic integrate-and-fire neuron, whose second fixed point is a constant of its own."""
    v, rest = name("v"), name("v_rest")
    settings = dict(
        name="quadratic_if",
        charge=v
        + clipped_slope(mul(mul(v - rest, v - name("critical_k")), name("leak_k")), v)
        + models.drive,
        start=lambda q: models._plain(q, critical_k=q.one // 2),
        constants=("critical_k",),
    )
    return Model(**settings | changes)


def test_facts_of_a_model_of_ones_own():
    model = quadratic()
    assert derive.used_constants(model) == {
        "leak_k",
        "gain_k",
        "critical_k",
        "v_rest",
        "v_reset",
        "refractory",
    }
    assert derive.constants_of(model) == (*CONSTANTS, "critical_k")
    assert derive.products(model) == (dict(leak_k=1, gain_k=1), 1, 0)
    assert not derive.only_moves_exponents(model)


@pytest.fixture
def registry(monkeypatch):
    """Registries that are thrown away."""
    monkeypatch.setattr(models, "MODELS", dict(MODELS))
    monkeypatch.setattr(NEURONS, "_names", list(NEURONS))


def test_constants_of_ones_own_stand_in_a_network_behind_the_others(registry):
    models.register(quadratic())
    network = random_network(np.random.default_rng(0), (3, 2), neuron="lif", readout="spikes")
    data = network.to_dict()
    data["layers"][0] |= {"neuron": "quadratic_if"}
    data["layers"][0]["constants"] |= {"critical_k": 128}
    read = Network.from_dict(data)
    assert tuple(read.layers[0].constants) == (*CONSTANTS, "critical_k")
    assert Network.from_dict(read.to_dict()) == read
    del data["layers"][0]["constants"]["critical_k"]
    with pytest.raises(ValueError, match=r"constants must have exactly .*missing \['critical_k'\]"):
        Network.from_dict(data)
    data["layers"][0] |= {"neuron": "lif"}
    data["layers"][0]["constants"]["critical_k"] = 0
    with pytest.raises(ValueError, match=r"unknown \['critical_k'\]"):
        Network.from_dict(data)


def test_a_model_of_ones_own_is_trained_by_the_reference_and_never_by_the_kernels(registry):
    models.register(quadratic())
    a = Architecture(20, (12, 3), ("quadratic_if", "lif"), (16, 16), (0, 0), timesteps=8)
    stack = PopulationStack([a], 3, torch.device("cpu"))
    x = np.random.default_rng(0).random((30, 20)).astype(np.float32)
    spikes = torch.tensor(rate_encode(x, 8)).transpose(0, 1).float()
    learner = TorchPass(stack)
    scores, counts = learner.scores(spikes)
    network = stack.export(0, a, "rate")
    assert network.layers[0].constants["critical_k"] == 128
    assert torch.equal(scores[0].double(), IntegerNetwork(network)(x)) and counts[0, 0] > 0
    learner.gradients(spikes, torch.zeros(30, dtype=torch.int64), 0.5)
    for kind in ("weight", "threshold", "gain", "leak"):
        slope = stack.layers[0].tensors[kind].grad
        assert slope.isfinite().all() and slope.any(), kind
    split = Split(x, np.zeros(30, np.int64))
    ours = open_pass(stack, Samples(split, "rate", 8, torch.device("cpu"), arrays=False))
    assert isinstance(ours, TorchPass)
    with pytest.raises(ValueError, match="samples must be encoded as the passes of their neurons take them"):
        open_pass(stack, Samples(split, "rate", 8, torch.device("cpu")))


def test_an_expression_can_be_read():
    assert str(MODELS["homeostatic_lif"].words[0].update) == "a - mul(a, decay_k) + on_spike(bump_k, 0)"
    assert str(models.leaking - (models.v - 1)) == "v + mul(I, gain_k) + mul(v_rest - v, leak_k) - (v - 1)"


def test_a_model_of_ones_own_is_registered_once(registry):
    model = models.register(quadratic())
    assert NEURONS[-1] == "quadratic_if" and len(NEURONS) == 6
    assert models.model_of("quadratic_if") is models.register(model) is model
    with pytest.raises(ValueError, match="neuron 'quadratic_if' is registered already"):
        models.register(quadratic(constants=("critical_k",), limit=name("threshold") + name("critical_k")))
    with pytest.raises(ValueError, match="neuron must be one of if, lif, .*, quadratic_if, got 'alif'"):
        models.model_of("alif")


@pytest.mark.parametrize(
    "changes, message",
    [
        (dict(name="Quadratic"), "a neuron and its words must be named in small letters.* got 'Quadratic'"),
        (dict(constants=()), "quadratic_if, charge: names must be among .*, got critical_k"),
        (dict(constants=("critical_k", "x_k")), "constants of its own must be used, got x_k"),
        (dict(constants=("critical_k", "gain_k")), "must be new and end in _k, got 'gain_k'"),
        (dict(charge=name("v") + name("critical_k")), "charge: must depend on the current, I"),
        (dict(limit=name("v")), "quadratic_if, limit: must depend on threshold"),
        (dict(charge=models.drive + on_spike(name("critical_k"))), "only an update of a word may ask"),
        (dict(words=(Word("p", models.lifted(0), V),)), "words of state must have names of their own"),
        (dict(words=(Word("w", name("v"), name("w")),)), "w, start: names must be among .*, got v"),
    ],
)  # fmt: skip
def test_a_wrong_description_is_named(changes, message):
    with pytest.raises(ValueError, match=message):
        quadratic(**changes)


def test_a_number_in_an_expression_is_whole():
    with pytest.raises(ValueError, match="must be whole, see `real`, got 1.4"):
        name("v") + 1.4

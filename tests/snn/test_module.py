"""scnas.snn.module against the oracle, always with ==: scores, class, every spike, membrane and current."""

import inspect
import sys
from collections import Counter
from dataclasses import replace
from functools import cache
from itertools import product
from types import ModuleType

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import random_input, random_network
from oracle import Inference, infer

from scnas.contract import GENERATORS, NEURONS
from scnas.snn import derive, models, module
from scnas.snn.models import CONSTANTS
from scnas.snn.module import IntegerNetwork, load_network
from scnas.snn.network import Layer, Network
from scnas.snn.reference import neurons


def by_definition(network: Network, x: np.ndarray) -> list[Inference]:
    """The oracle's inferences of all samples."""
    data = network.to_dict()
    return [infer(data, sample) for sample in x]


def agree(network: Network, x: np.ndarray, computed: IntegerNetwork, expected: list | None = None) -> list:
    """The oracle's inferences of all samples, after `computed` gave the same in every number."""
    expected = by_definition(network, x) if expected is None else expected
    scores, traces, spikes = computed(x), computed.trace(x), computed.spikes(x)
    assert scores.dtype == torch.float64 and scores.shape == (len(x), network.n_classes)
    assert scores.tolist() == [e.scores for e in expected]
    assert computed.predict(x).tolist() == [e.label for e in expected]
    for i, trace in enumerate(traces):
        for name, wanted in (("spikes", "spikes"), ("membrane", "membranes"), ("current", "currents")):
            got = getattr(trace, name)
            assert got.dtype.kind in "iu"
            assert np.array_equal(got, [getattr(e, wanted)[i] for e in expected]), (i, name)
        assert np.array_equal(spikes[i], trace.spikes)
    return expected


# --- by hand --------------------------------------------------------------------------------------


def hand_made(neuron="if", threshold=(256, 1000), readout="spikes", **constants) -> Network:
    """One layer, two inputs, two neurons, L = 4 and F = 8, so that one 1 in a stream is 64."""
    k = dict.fromkeys(CONSTANTS, 0) | {"gain_k": 256} | constants
    layer = Layer(
        neuron, "sobol", 4, 1, 1, "parallel", 0, np.array([[4, -4], [2, 1]]), np.array([[0, 0], [1, 0]]),
        np.array(threshold), k,
    )  # fmt: skip
    return Network(2, 3, "events", 8, 16, readout, (layer,))


X = np.array([[[1, 0], [0, 1], [1, 1]]], dtype=np.uint8)  # steps by inputs


def test_a_layer_worked_by_hand():
    """Input 1 reaches neuron 0 one step late, so its spike of the last step comes too late."""
    trace = IntegerNetwork(hand_made()).trace(X)[0]
    assert trace.current[0].tolist() == [[256, -256], [0, 64], [256 + 128, -256 + 64]]
    assert trace.spikes[0].tolist() == [[1, 0], [0, 0], [1, 0]]
    assert trace.membrane[0].tolist() == [[0, -256], [0, -192], [0, -384]]
    assert IntegerNetwork(hand_made())(X).tolist() == [[2, 0]]


def test_the_membrane_readout_sums_currents():
    module = IntegerNetwork(hand_made(readout="membrane"))
    assert module(X).tolist() == [[640, -384]]
    assert module.spikes(X)[0].tolist() == [[[0, 0]] * 3]
    assert module.trace(X)[0].membrane.tolist() == [[[0, 0]] * 3]


def test_the_lowest_of_equal_scores_is_the_class():
    """Nothing fires: all scores are 0."""
    network = hand_made(threshold=(5000, 5000))
    assert IntegerNetwork(network).predict(X).tolist() == [0]
    twins = replace(network.layers[0], weights=np.array([[-4, -4], [0, 0]]))
    assert IntegerNetwork(replace(network, readout="membrane", layers=(twins,))).predict(X).tolist() == [0]


def test_a_layer_without_synapses_is_silent():
    empty = replace(hand_made().layers[0], weights=np.zeros((2, 2), int))
    network = replace(hand_made(), layers=(empty,))
    agree(network, X, IntegerNetwork(network))
    assert IntegerNetwork(network)(X).tolist() == [[0, 0]]


# --- against the oracle: a grid -------------------------------------------------------------------

GRID = list(product(NEURONS, GENERATORS, (0, 3), ("rate", "events"), ("membrane", "spikes")))
LENGTHS, WORDS, FRACTIONS = (1, 4, 16, 64, 256, 2), (16, 4, 12, 24, 8, 20, 6), (8, 8, 4, 12, 6)


@cache
def grid_case(number: int) -> tuple[Network, np.ndarray, list[Inference]]:
    """Network, samples and truth of one place of the grid; what the grid does not name goes round."""
    neuron, generator, max_delay, encoder, readout = GRID[number]
    rng = np.random.default_rng(number)
    fraction = FRACTIONS[number % len(FRACTIONS)]
    network = random_network(
        rng,
        (5, 6, 3) if number % 2 else (6, 5, 4, 2),
        neuron=neuron, generator=generator, max_delay=max_delay, encoder=encoder, readout=readout,
        length=min(LENGTHS[number % len(LENGTHS)], 2**fraction), word=WORDS[number % len(WORDS)],
        fraction=fraction, timesteps=8 if encoder == "rate" else 7, refractory=number // 3 % 4,
    )  # fmt: skip
    x = random_input(rng, network, 2)
    return network, x, by_definition(network, x)


@pytest.fixture(scope="module")
def seen() -> Counter:
    """What happened in the grid, by model; the tests below look whether it was worth its time."""
    return Counter()


@pytest.mark.parametrize("number", range(len(GRID)), ids=["-".join(map(str, place)) for place in GRID])
def test_the_module_is_the_oracle(number, seen):
    network, x, expected = grid_case(number)
    low, high = -(2 ** (network.word - 1)), 2 ** (network.word - 1) - 1
    for e in agree(network, x, IntegerNetwork(network), expected):
        seen["inferences"] += 1
        for i, layer in enumerate(network.layers):
            currents, spikes, membranes = e.currents[i], e.spikes[i], e.membranes[i]
            seen["I at its lowest"] += (currents == low).sum()
            seen["I at its highest"] += (currents == high).sum()
            seen["I in between"] += ((currents > low) & (currents < high) & (currents != 0)).sum()
            if network.fires(i):
                fired = spikes.sum(axis=0)
                seen[layer.neuron, "fires"] += (fired > 0).sum()
                seen[layer.neuron, "is silent"] += (fired == 0).sum()
                seen[layer.neuron, "v at its lowest"] += (membranes == low).sum()
                seen[layer.neuron, "v in between"] += ((membranes > low) & (membranes < high)).sum()
                steps = np.diff(np.flatnonzero(spikes.any(axis=1)))
                seen[layer.neuron, "refractory and firing"] += layer.constants["refractory"] * fired.sum()
                seen["fires in successive steps"] += (steps == 1).sum()
        seen["generator", network.layers[0].generator, e.label] += 1


def test_the_grid_held_what_it_is_for(seen):
    """A neuron that never fires agrees with every other dead neuron."""
    if seen["inferences"] != 2 * len(GRID):
        pytest.skip("only part of the grid was run")
    for what in ("I at its lowest", "I at its highest", "I in between", "fires in successive steps"):
        assert seen[what] > 50, what
    for neuron in NEURONS:
        for what in ("fires", "is silent", "v in between", "refractory and firing"):
            assert seen[neuron, what] > 10, (neuron, what)
        # The square lifts an izhikevich membrane before it is that low.
        assert seen[neuron, "v at its lowest"] > 0 or neuron == "izhikevich", neuron
    for generator in GENERATORS:
        assert sum(seen["generator", generator, label] > 0 for label in range(4)) > 1


# --- against the oracle: anything -----------------------------------------------------------------


@settings(max_examples=150)
@given(
    seed=st.integers(0, 2**32 - 1),
    word=st.integers(4, 24),
    fraction=st.integers(0, 8),
    log_steps=st.integers(0, 4),
    odd_steps=st.integers(1, 11),
    max_delay=st.sampled_from([0, 1, 5, 40]),
    density=st.sampled_from([0.1, 0.5, 1.0]),
    powers_of_two=st.booleans(),
    readout=st.sampled_from(["membrane", "spikes"]),
    encoder=st.sampled_from(["rate", "events"]),
    widths=st.sampled_from([(1, 1), (4, 3), (3, 5, 2), (2, 3, 2, 3)]),
)
def test_any_network_is_the_oracle(seed, log_steps, odd_steps, encoder, widths, **kind):
    rng = np.random.default_rng(seed)
    timesteps = 2**log_steps if encoder == "rate" else odd_steps
    network = random_network(rng, widths, timesteps=timesteps, encoder=encoder, mapping="any", **kind)
    agree(network, random_input(rng, network, 2), IntegerNetwork(network))


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1), st.sampled_from([4, 8, 16, 20, 24]), st.sampled_from([0, 4, 8, 12]))
def test_the_most_extreme_constants_are_exact(seed, word, fraction):
    """Every constant and threshold at an end of its range or near it, every weight the largest."""
    rng = np.random.default_rng(seed)
    network = random_network(rng, (3, 4, 2), word=word, fraction=fraction, readout="spikes", length=1)
    half = 2 ** (word - 1)
    layers = []
    for layer in network.layers:
        ends = [-half, half - 1, -half + 1, half - 2, 0, 1, -1]
        k = {n: int(rng.choice(ends)) if v or rng.random() < 0.5 else 0 for n, v in layer.constants.items()}
        k = {n: v if layer.constants[n] else 0 for n, v in k.items()} | {"refractory": 0}
        if not -half <= k["b_k"] * k["v_reset"] >> fraction < half:
            k["b_k"] = 0
        threshold = rng.choice(ends, layer.n_out)
        layers.append(
            replace(
                layer, constants=k, threshold=threshold, weights=layer.max_weight * np.sign(layer.weights)
            )
        )
    network = replace(network, layers=tuple(layers))
    agree(network, random_input(rng, network, 2), IntegerNetwork(network))


# --- the interface --------------------------------------------------------------------------------


def test_the_file_gives_the_same_spikes(tmp_path):
    rng = np.random.default_rng(5)
    network = random_network(rng, (6, 7, 3), readout="spikes")
    network.save(tmp_path / "network.json")
    x = random_input(rng, network, 4)
    loaded = load_network(tmp_path / "network.json")
    assert isinstance(loaded, torch.nn.Module) and loaded.network == network
    assert sum(e.spikes[-1].sum() for e in agree(network, x, loaded)) > 0


def test_a_missing_or_damaged_file_is_one_line(tmp_path):
    with pytest.raises(ValueError, match="^[^\n]*network.json: no such file$"):
        load_network(tmp_path / "network.json")
    (tmp_path / "network.json").write_text("{}")
    with pytest.raises(ValueError, match="^[^\n]*network.json: network must have exactly the keys [^\n]*$"):
        load_network(str(tmp_path / "network.json"))


def test_arrays_and_tensors_of_any_type_are_the_same_input():
    rng = np.random.default_rng(6)
    for encoder, kinds in (
        ("rate", ("float32", "float64")),
        ("events", ("uint8", "int64", "float32", "bool")),
    ):
        network = random_network(rng, (6, 7, 3), encoder=encoder)
        x = random_input(rng, network, 3)
        expected = IntegerNetwork(network)(x).tolist()
        for kind in kinds:
            as_kind = x.astype(kind)
            assert IntegerNetwork(network)(as_kind).tolist() == expected
            assert IntegerNetwork(network)(torch.tensor(as_kind)).tolist() == expected


def test_samples_do_not_touch_each_other():
    rng = np.random.default_rng(7)
    network = random_network(rng, (6, 7, 3), encoder="rate", readout="spikes")
    x = random_input(rng, network, 6)
    computed = IntegerNetwork(network)
    together = computed(x).tolist()
    assert [computed(x[i : i + 1]).tolist()[0] for i in range(6)] == together
    assert computed(x).tolist() == together  # and nothing is left behind by a call
    assert computed(x[:0]).shape == (0, 3)


def test_it_moves_like_any_module_and_keeps_nothing_to_train():
    network = random_network(np.random.default_rng(8), (6, 7, 3))
    computed = IntegerNetwork(network)
    assert list(computed.parameters()) == []
    again = IntegerNetwork(network)
    again.load_state_dict(computed.state_dict())
    x = random_input(np.random.default_rng(9), network, 2)
    assert again.to("cpu").eval()(x).tolist() == computed(x).tolist()


@pytest.mark.parametrize(
    "encoder, x, message",
    [
        ("rate", np.zeros((2, 3)), r"x must have shape \[samples, 2\], got \[2, 3\]"),
        ("rate", np.zeros(2), r"x must have shape \[samples, 2\], got \[2\]"),
        ("rate", np.full((1, 2), 1.01), "x must lie in 0..1 for the rate encoder"),
        ("rate", np.full((1, 2), -0.01), "x must lie in 0..1 for the rate encoder"),
        ("rate", np.full((1, 2), np.nan), "x must lie in 0..1 for the rate encoder"),
        ("events", np.zeros((2, 2)), r"x must have shape \[samples, 4, 2\], got \[2, 2\]"),
        ("events", np.zeros((1, 5, 2)), r"x must have shape \[samples, 4, 2\], got \[1, 5, 2\]"),
        ("events", np.full((1, 4, 2), 2), "x must be 0 or 1 for the events encoder"),
        ("events", np.full((1, 4, 2), 0.5), "x must be 0 or 1 for the events encoder"),
        ("events", np.full((1, 4, 2), np.nan), "x must be 0 or 1 for the events encoder"),
    ],
)
def test_wrong_input_is_refused(encoder, x, message):
    network = random_network(np.random.default_rng(0), (2, 3), encoder=encoder, timesteps=4)
    with pytest.raises(ValueError, match=f"^{message}$"):
        IntegerNetwork(network)(x)


def test_a_long_inference_of_many_delays_needs_little_memory():
    """4,096 steps times 300 delays times the synapses would be 10 GB in one piece."""
    rng = np.random.default_rng(10)
    network = random_network(
        rng, (40, 30), timesteps=4096, encoder="events", neuron="if", generator="lfsr", max_delay=300,
    )  # fmt: skip
    computed = IntegerNetwork(network)
    held = sum(b.numel() * b.element_size() for b in computed.buffers())
    assert held < 20 * 2**20


# --- by sabotage ----------------------------------------------------------------------------------

MISTAKES = {  # module, what it says, what it would say
    "rounds towards zero": (neurons, "return torch.floor(x)", "return torch.trunc(x)"),
    "wraps nothing": (neurons, "return torch.clamp(a, self.low, self.high)", "return a"),
    "fires above the threshold only": (neurons, "return (x >= 0)", "return (x > 0)"),
    "rests instead of resetting": (derive, 'fires, names["v_reset"], p', 'fires, names["v_rest"], p'),
    "adapts at once": (models, "limit=threshold + a,", "limit=threshold + a + bump_k,"),
    "adaptation never decays": (models, "update=a - mul(a, decay_k)", "update=a"),
    "recovery sees another membrane": (models, "mul(mul(v, b_k) - u", "mul(mul(v + drive, b_k) - u"),
    "u added": (models, "real(7, 5) - u", "real(7, 5) + u"),
    "1.4 rounded down": (
        derive,
        "(2 * numerator * self.q.one + denominator) // (2 * denominator)",
        "numerator * self.q.one // denominator",
    ),
    "one refractory step too few": (derive, 'fires, names["refractory"],', 'fires, names["refractory"] - 1,'),
    "fires while refractory": (neurons, "fired * (waiting == 0)", "fired"),
    "leaks towards zero": (models, "mul(v_rest - v, leak_k)", "mul(0 - v, leak_k)"),
    "no noise": (models, "leaking + noise", "leaking"),
    "starts at reset": (
        models,
        'first: Node = Node("name", ("v_rest",))',
        'first: Node = Node("name", ("v_reset",))',
    ),
    "delays forgotten": (module, "spikes[:, t - d] @", "spikes[:, t] @"),
    "currents run over": (module, "return total.clamp(-self.bound, self.bound - 1)", "return total"),
    "noise a step early": (module, "noise_seed, timesteps)", "noise_seed, timesteps + 1)[1:]"),
    "highest of equals": (module, "scores.shape[1]).amin(1)", "-1).amax(1)"),
}  # fmt: skip


@pytest.mark.parametrize("where, before, after", MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_noticed(where, before, after, monkeypatch):
    text = inspect.getsource(where)
    assert text.count(before) == 1, "the mistake no longer applies; update the test"
    broken = ModuleType(f"broken_{where.__name__}")
    monkeypatch.setitem(sys.modules, broken.__name__, broken)
    exec(text.replace(before, after), broken.__dict__)
    if where is models:
        monkeypatch.setattr(models, "MODELS", broken.MODELS)
    if where is derive:
        monkeypatch.setattr(neurons, "derive", broken)
    if where is neurons:
        monkeypatch.setattr(module, "scan", broken.scan)
    broken = broken if where is module else module
    with pytest.raises(AssertionError):
        for number in range(len(GRID)):
            network, x, expected = grid_case(number)
            agree(network, x, broken.IntegerNetwork(network), expected)
        agree(TIE, X, broken.IntegerNetwork(TIE))


TIE = hand_made(threshold=(5000, 5000))

"""NIR: out and back is the same network, what is foreign computes the same spikes, losses are told."""

import json
from dataclasses import replace

import nir
import numpy as np
import pytest
from networks import random_network, shared_out

from scnas import exchange
from scnas.exchange import Choices, from_nir, to_nir
from scnas.hardware.cost import price
from scnas.hardware.tools import synthesis
from scnas.snn.models import CONSTANTS
from scnas.snn.module import IntegerNetwork
from scnas.snn.network import Layer, Network

DT = 1e-3


def euler(graph: nir.NIRGraph, x: np.ndarray, dt: float) -> np.ndarray:
    """What leaves the Output of a graph, [T, n], for input [T, n_in]: by definition, node by node."""
    order, waiting = [], dict(graph.nodes)
    while waiting:
        ready = [n for n in waiting if not any(b == n and a in waiting for a, b in graph.edges)]
        order += ready
        for n in ready:
            del waiting[n]
    state, out = {}, []
    for t in range(len(x)):
        value = {}
        for name in order:
            node = graph.nodes[name]
            came = sum((value[a] for a, b in graph.edges if b == name), np.zeros(()))
            match node:
                case nir.Input():
                    value[name] = x[t].astype(float)
                case nir.Linear():
                    value[name] = node.weight @ came
                case nir.Affine():
                    value[name] = node.weight @ came + node.bias
                case nir.Delay():
                    line = state.setdefault(name, [])
                    line.append(came)
                    back = len(line) - 1 - np.rint(node.delay / dt).astype(int)
                    value[name] = np.array([line[b][i] if b >= 0 else 0.0 for i, b in enumerate(back)])
                case nir.LIF() | nir.IF() | nir.CubaLIF():
                    v = state.get(name, getattr(node, "v_leak", np.zeros_like(node.r)))
                    if isinstance(node, nir.IF):
                        v = v + dt * node.r * came
                    else:
                        tau = node.tau if isinstance(node, nir.LIF) else node.tau_mem
                        came = came * getattr(node, "w_in", 1.0)
                        v = v + dt / tau * (node.v_leak - v + node.r * came)
                    value[name] = (v > node.v_threshold).astype(float)
                    state[name] = np.where(value[name] > 0, node.v_reset, v)
                case nir.I():
                    value[name] = node.r * came
                case nir.Flatten() | nir.Output():
                    value[name] = np.ravel(came)
        out.append(value["output"])
    return np.array(out)


def scores(network: Network, x: np.ndarray) -> np.ndarray:
    return IntegerNetwork(network)(x[None]).numpy()[0]


def canonical(network: Network) -> Network:
    """Without what no spike depends on: delays of no synapse, neurons of a layer that only integrates."""
    layers = []
    for i, layer in enumerate(network.layers):
        layer = replace(layer, delays=np.where(layer.weights != 0, layer.delays, 0))
        if not network.fires(i):
            nothing = {
                "neuron": "lif",
                "threshold": layer.threshold * 0,
                "constants": dict.fromkeys(CONSTANTS, 0),
            }
            layer = replace(layer, **nothing)
        elif layer.neuron == "if":
            layer = replace(layer, constants={**layer.constants, "v_rest": 0})
        elif layer.constants["leak_k"] == 0:
            layer = replace(layer, constants={**layer.constants, "leak_k": 3})
        layers.append(layer)
    return replace(network, layers=tuple(layers))


# -- out and back -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(24))
def test_out_and_back_is_the_same_network(seed, tmp_path):
    dice = np.random.default_rng(seed)
    network = canonical(
        random_network(
            dice,
            neuron=("lif", "if")[seed % 2],
            refractory=0,
            mapping=("parallel", "folded")[seed // 2 % 2],
            word=(16, 12)[seed // 4 % 2],
            fraction=(8, 5)[seed // 8 % 2],
        )  # fmt: skip
    )
    exchange.save(network, tmp_path / "a.nir")
    back = exchange.load(tmp_path / "a.nir")
    assert back.network == network and back.losses == ()


def test_units_and_long_adder_trees_travel_too(tmp_path):
    dice = np.random.default_rng(7)
    network = random_network(dice, (9, 12, 8, 4), neuron="lif", refractory=0, mapping="folded")
    network = canonical(shared_out(dice, network, lanes=(3, 70)))
    assert max(layer.units for layer in network.layers) > 1
    exchange.save(network, tmp_path / "a.nir")
    assert exchange.load(tmp_path / "a.nir").network == network
    graph = to_nir(network)  # as it was written before there were units
    said = json.loads(graph.metadata["scnas"])
    for layer in said["layers"]:
        del layer["units"]
    graph.metadata["scnas"] = json.dumps(said)
    plain = tuple(replace(layer, units=1) for layer in network.layers)
    assert from_nir(graph).network == replace(network, layers=plain)


@pytest.mark.parametrize("width, units, shared", [(12, 3, 1), (8, 4, 3), (11, 1, 1)])
def test_a_bias_in_a_graph_of_ours_shares_out_the_neurons_anew(width, units, shared):
    """The neuron that is added for it belongs to a folded layer of several units: 13 neurons have no two."""
    dice = np.random.default_rng(3)
    network = random_network(
        dice, (9, width, 4), neuron="lif", refractory=0, mapping="folded", max_delay=0, readout="membrane"
    )
    network = replace(network, layers=(replace(network.layers[0], units=units), network.layers[1]))
    graph = to_nir(canonical(network))
    linear = graph.nodes["synapses_1"]
    graph.nodes["synapses_1"] = nir.Affine(linear.weight, np.full(4, 1.0))
    found = from_nir(graph)
    assert found.losses == () and len(found.notes) == 1
    first, last = found.network.layers
    assert (first.n_out, first.units, last.units) == (width + 1, shared, 1)
    assert (last.weights[-1] == last.max_weight).all()


def test_a_bias_that_is_added_to_a_folded_layer_has_a_lane():
    """One input more than the lanes of the layer were capped at."""
    graph = nir.NIRGraph.from_list(nir.Affine(ONE, np.ones(3)), lif(3), nir.Linear(np.ones((2, 3))))
    found = from_nir(graph, replace(EXACT, mapping="folded", lanes=3))
    assert [layer.lanes for layer in found.network.layers] == [3, 3]  # of 2 + 1 inputs
    few = from_nir(graph, replace(EXACT, mapping="folded", lanes=16))
    assert [layer.lanes for layer in few.network.layers] == [3, 3]


def test_the_values_travel_in_the_nodes(tmp_path):
    """A weight, a threshold and a time constant that another tool changes arrive changed."""
    network = canonical(
        random_network(
            np.random.default_rng(3), neuron="lif", refractory=0, generator="sobol", length=8, max_delay=0
        )
    )
    graph = to_nir(network)
    node, lif = graph.nodes["synapses_1"], graph.nodes["neurons_0"]
    node.weight[2, 4] = -3 / 8
    lif.v_threshold[1] += 1 / 2**8
    lif.tau[:] = DT * 2**8 / 77
    lif.r[:] = network.layers[0].constants["gain_k"] / 77
    back = from_nir(graph).network
    weights, threshold = network.layers[1].weights.copy(), network.layers[0].threshold.copy()
    weights[4, 2], threshold[1] = -3, threshold[1] + 1
    first = replace(
        network.layers[0], threshold=threshold, constants={**network.layers[0].constants, "leak_k": 77}
    )
    assert back == replace(
        network, layers=(first, replace(network.layers[1], weights=weights), *network.layers[2:])
    )


@pytest.mark.parametrize("change, message", [
    ({"neuron": "izhikevich"}, r"layers\[0\].neuron must be lif or if, which NIR knows, got izhikevich"),
    ({"neuron": "lif", "refractory": 2}, r"constants.refractory must be 0, NIR has no such thing, got 2"),
])  # fmt: skip
def test_what_nir_has_no_word_for_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        to_nir(random_network(np.random.default_rng(0), **change))


@pytest.mark.parametrize("seed", range(6))
def test_what_is_exported_computes_the_same(seed):
    """The float graph and the integer network agree where floor and rounding have nothing to do."""
    dice = np.random.default_rng(seed)
    network = exact_network(dice, delays=3)
    x = (dice.random((6, 5)) < 0.5).astype(np.uint8)
    assert np.array_equal(euler(to_nir(network), x, DT).sum(0) * 2**network.fraction, scores(network, x))


def exact_network(dice, delays: int = 0) -> Network:
    """Leak 1/2, gain 1, six steps and twelve bits: every sum is a whole number of Q(12)."""

    def layer(n_in, n_out, fires):
        constants = dict.fromkeys(CONSTANTS, 0) | ({"leak_k": 2048, "gain_k": 4096} if fires else {})
        weights = dice.integers(-8, 9, (n_in, n_out))
        return Layer(
            "lif", "sobol", 8, 1, 1, "parallel", 0, weights,
            np.where(weights != 0, dice.integers(0, delays + 1, (n_in, n_out)), 0),
            dice.integers(1, 4096, n_out) * fires, constants,
        )  # fmt: skip

    return Network(5, 6, "events", 12, 20, "membrane", (layer(5, 7, True), layer(7, 3, False)))


# -- from elsewhere ---------------------------------------------------------------------------------------


def lif(n, leak=0.5, resistance=2.0, threshold=1.0, reset=0.0, rest=0.0):
    full = np.ones(n)
    return nir.LIF(
        tau=DT / leak * full, r=resistance * full, v_leak=rest * full, v_threshold=threshold * full,
        v_reset=reset * full,
    )  # fmt: skip


def eighths(dice, *shape, top=8):
    weights = dice.integers(-top, top + 1, shape) / 8
    weights.flat[0] = top / 8  # the largest, so that the scale is a whole number
    return weights


EXACT = Choices(dt=DT, timesteps=6, length=8, fraction=12, word=20)


def foreign(dice, kind: str) -> nir.NIRGraph:
    match kind:
        case "lif":
            parts = [
                nir.Linear(eighths(dice, 7, 5)),
                lif(7),
                nir.Linear(eighths(dice, 3, 7)),
                lif(3, rest=0.25),
            ]
        case "if":
            fire = nir.IF(r=np.full(7, 1 / DT), v_threshold=np.full(7, 1.5), v_reset=np.full(7, -0.25))
            parts = [nir.Linear(eighths(dice, 7, 5)), fire, nir.Linear(eighths(dice, 3, 7))]
        case "cubalif":
            full = np.ones(7)
            fire = nir.CubaLIF(
                tau_syn=DT * full,
                tau_mem=2 * DT * full,
                r=full,
                v_leak=0 * full,
                v_threshold=full,
                w_in=2 * full,
            )
            parts = [
                nir.Linear(eighths(dice, 7, 5)),
                fire,
                nir.Linear(eighths(dice, 3, 7)),
                nir.I(np.ones(3)),
            ]
        case "bias":
            parts = [nir.Affine(eighths(dice, 7, 5), eighths(dice, 7)), lif(7)]
            parts += [
                nir.Affine(eighths(dice, 6, 7), eighths(dice, 6)),
                lif(6),
                nir.Linear(eighths(dice, 3, 6)),
            ]
        case "scaled":  # every neuron has its own resistance, by powers of two
            fire = lif(7, threshold=0.125)
            fire.r = 2.0 ** -dice.integers(0, 3, 7)
            fire.r[0] = 1.0
            parts = [nir.Linear(8 * eighths(dice, 7, 5, top=1)), fire, nir.Linear(eighths(dice, 3, 7))]
        case "delays":
            late = nir.Delay(DT * dice.integers(0, 4, 5))
            graph = nir.NIRGraph(
                {
                    "input": nir.Input(np.array([5])), "late": late, "a": nir.Linear(eighths(dice, 7, 5)),
                    "fire": lif(7), "b": nir.Linear(eighths(dice, 3, 7)), "output": nir.Output(np.array([3])),
                },
                [("input", "late"), ("late", "a"), ("a", "fire"), ("fire", "b"), ("b", "output")],
            )  # fmt: skip
            return graph
    return nir.NIRGraph.from_list(*parts)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("kind", ["lif", "if", "cubalif", "bias", "scaled", "delays"])
def test_what_maps_exactly_computes_the_same(kind, seed):
    dice = np.random.default_rng([seed, ord(kind[0])])
    graph = foreign(dice, kind)
    found = from_nir(graph, EXACT)
    assert found.losses == ()
    x = (dice.random((6, 5)) < 0.5).astype(np.uint8)
    ours = np.hstack([x, np.ones((6, 1), np.uint8)]) if kind == "bias" else x
    assert len(found.notes) == (2 if kind == "bias" else 0)
    expected = euler(graph, x, DT).sum(0)
    got = scores(found.network, ours)
    if found.network.readout == "spikes":
        assert np.array_equal(got, expected) and expected.sum() > 0
    else:  # scores in units of the largest weight of the last layer
        last = list(graph.nodes.values())[-2 if kind != "cubalif" else -3]
        assert np.allclose(got / 2**12 * np.abs(last.weight).max(), expected, atol=1e-9)
        assert np.ptp(expected) > 0


def branches(dice, *delays: int) -> nir.NIRGraph:
    """Into the same neurons from the same input, a branch with weights and biases of its own for each delay:
    of one synapse each branch but one has weight 0. The same again behind them."""
    nodes, edges = {"input": nir.Input(np.array([5]))}, []
    sources = (("input", 5, "fire", 7), ("fire", 7, "last", 3))
    for source, n_in, target, n_out in sources:
        owner = dice.integers(0, len(delays), (n_out, n_in))
        weights = eighths(dice, n_out, n_in)
        for k, delay in enumerate(delays):
            bias = np.round(dice.uniform(-1, 1, n_out) * 4) / 8
            bias[0] = 1 / 8  # so that each branch matters
            name = f"{target}_{k}"
            nodes[name] = nir.Affine(np.where(owner == k, weights, 0), bias)
            nodes[f"{name}_late"] = nir.Delay(np.full(n_in, delay * DT))
            edges += [(source, f"{name}_late"), (f"{name}_late", name), (name, target)]
        nodes[target] = lif(n_out)
    nodes["output"] = nir.Output(np.array([3]))
    return nir.NIRGraph(nodes, [*edges, ("last", "output")])


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("delays", [(0, 1), (0, 2, 3), (2, 1)])
def test_biases_of_several_branches_add_up_and_are_never_late(delays, seed):
    dice = np.random.default_rng([seed, *delays])
    graph = branches(dice, *delays)
    found = from_nir(graph, EXACT)
    assert found.losses == () and len(found.notes) == 2
    x = (dice.random((6, 5)) < 0.5).astype(np.uint8)
    expected = euler(graph, x, DT).sum(0)
    assert np.array_equal(scores(found.network, np.hstack([x, np.ones((6, 1), np.uint8)])), expected)
    for layer, target in zip(found.network.layers, ("fire", "last"), strict=True):
        total = sum(graph.nodes[f"{target}_{k}"].bias for k in range(len(delays)))
        biases, others = layer.weights[-1, : len(total)], layer.weights[:-1, : len(total)]
        largest = max(np.abs(graph.nodes[f"{target}_{k}"].weight).max() for k in range(len(delays)))
        assert np.array_equal(biases / np.abs(others).max(), total / largest)
        assert (layer.delays[-1] == 0).all()


def test_the_neuron_of_a_bias_fires_where_membranes_rest_below_zero():
    dice = np.random.default_rng(12)
    low = lif(7, rest=-0.5, reset=-1.0)
    parts = [
        nir.Linear(eighths(dice, 7, 5)),
        low,
        nir.Affine(eighths(dice, 3, 7), np.array([1.0, 0.5, -0.25])),
    ]
    graph = nir.NIRGraph.from_list(*parts)
    found = from_nir(graph, EXACT)
    x = (dice.random((6, 5)) < 0.5).astype(np.uint8)
    assert IntegerNetwork(found.network).spikes(x[None])[0][0, :, -1].all()
    assert np.array_equal(scores(found.network, x) / 2**12, euler(graph, x, DT).sum(0))


def test_a_resistance_below_zero_turns_the_weights_of_its_neuron():
    dice = np.random.default_rng(11)
    fire = lif(7)
    fire.r = np.where(np.arange(7) % 2, -2.0, 2.0)
    graph = nir.NIRGraph.from_list(nir.Linear(eighths(dice, 7, 5)), fire, nir.Linear(eighths(dice, 3, 7)))
    found = from_nir(graph, EXACT)
    signs = np.sign(list(graph.nodes.values())[1].weight).T * np.sign(fire.r)
    assert found.losses == () and (np.sign(found.network.layers[0].weights) == signs).all()
    x = (dice.random((6, 5)) < 0.5).astype(np.uint8)
    expected = euler(graph, x, DT).sum(0)
    assert np.array_equal(scores(found.network, x) / 2**12, expected) and np.ptp(expected) > 0


def test_losses_are_what_was_lost():
    dice = np.random.default_rng(5)
    weights = dice.normal(0, 1, (4, 6))
    graph = nir.NIRGraph.from_list(
        nir.Linear(weights), lif(4, leak=0.3, resistance=1.0), nir.Linear(np.eye(4))
    )
    found = from_nir(graph, Choices(dt=DT, length=16))
    told = {(loss.where, loss.what.split(",")[0]): loss.error for loss in found.losses}
    largest = np.abs(weights).max()
    assert found.network.layers[0].weights.T.tolist() == np.rint(weights / largest * 16).tolist()
    error = np.abs(np.rint(weights / largest * 16) / 16 - weights / largest).max()
    assert told["linear", "weights"] == pytest.approx(error) and error <= 1 / 32
    assert told["linear", "leak"] == pytest.approx(abs(77 / 256 / 0.3 - 1))
    assert found.network.layers[0].constants["leak_k"] == 77
    assert set(told) == {("linear", "weights"), ("linear", "leak"), ("linear", "gain")}
    finer = from_nir(graph, Choices(dt=DT, length=256))
    assert max(loss.error for loss in finer.losses if "weights" in loss.what) < error / 8


def test_a_current_that_may_saturate_is_noted():
    graph = nir.NIRGraph.from_list(nir.Linear(np.full((2, 40), 1.0)), lif(2))
    (note,) = from_nir(graph, Choices(dt=DT, word=14)).notes
    assert note == "linear: a current may reach 40 and saturates at 32"


def chain(*parts, **changes):
    return lambda: nir.NIRGraph.from_list(*parts)


def recurrent():
    graph = nir.NIRGraph.from_list(nir.Linear(np.ones((3, 3))), lif(3), nir.Linear(np.ones((2, 3))), lif(2))
    graph.nodes["back"] = nir.Linear(np.ones((3, 3)))
    graph.edges += [("lif", "back"), ("back", "lif")]
    return graph


def two_delays():
    nodes = {"input": nir.Input(np.array([2])), "late": nir.Delay(np.full(2, DT))}
    nodes |= {
        "a": nir.Linear(np.ones((3, 2))),
        "b": nir.Linear(np.ones((3, 2))),
        "output": nir.Output(np.array([3])),
    }
    return nir.NIRGraph(
        nodes, [("input", "a"), ("a", "output"), ("input", "late"), ("late", "b"), ("b", "output")]
    )


def with_metadata(text):
    def make():
        graph = nir.NIRGraph.from_list(nir.Linear(np.ones((3, 2))), lif(3))
        graph.metadata = {"scnas": text}
        return graph

    return make


ONE = np.ones((3, 2))
LEAKY = nir.LI(tau=np.ones(3), r=np.ones(3), v_leak=np.zeros(3))
SEVERAL = lif(3)
SEVERAL.tau = np.array([1, 2, 3]) * DT
INSTANT = lif(3)
INSTANT.tau = np.zeros(3)
BRIEF = lif(3)
BRIEF.tau = np.full(3, 1e-320)
OURS = {"timesteps": 4, "encoder": "events", "fraction": 8, "word": 16, "dt": 1e-3, "layers": [dict(
    generator="sobol", length=4, seed=1, noise_seed=1, mapping="parallel", lanes=0)]}  # fmt: skip
SLOW = nir.CubaLIF(
    tau_syn=np.full(3, 5 * DT), tau_mem=np.ones(3), r=np.ones(3), v_leak=np.zeros(3), v_threshold=np.ones(3)
)


@pytest.mark.parametrize("make, message", [
    (chain(nir.Linear(ONE), SEVERAL), "tau must be finite and the same for all .* got 0.001..0.003"),
    (chain(nir.Linear(ONE), SLOW), "tau_syn must be dt = 0.001, since a current lasts one step, got 0.005"),
    (chain(nir.Linear(ONE), LEAKY), "node li must be one of LIF, .*, got LI"),
    (chain(nir.Linear(ONE), nir.I(np.array([1, 2, 3]))), "node i must have one r above 0"),
    (chain(nir.Linear(ONE), nir.Linear(np.ones((2, 3)))), "neurons must lie between linear and linear_1"),
    (chain(nir.Linear(ONE * np.nan), lif(3)), "node linear must have finite weights"),
    (chain(nir.Linear(ONE), lif(3, threshold=200.0)), "linear: v_threshold must be finite and fit 16 bits"),
    (chain(nir.Linear(ONE), lif(3, resistance=1000.0)), "linear: gain_k must fit 16 bits, got 500"),
    (recurrent, "all that leaves lif must be weights into one node, got lif, lif_1"),
    (two_delays, "synapse 0 -> 0 of [ab] must have one delay, got two"),
    (with_metadata("{}"), "metadata scnas of the graph is not what scnas writes"),
    (chain(nir.Linear(ONE), INSTANT), "tau must be above 0, got 0"),
    (chain(nir.Linear(ONE), BRIEF), "what a current adds to a membrane must be finite"),
    (with_metadata(json.dumps(OURS | {"fraction": 2000})), "fraction must be a whole number from 0 to 12"),
    (with_metadata(json.dumps(OURS | {"word": "16"})), "word must be a whole number from 4 to 24, got '16'"),
    (with_metadata(json.dumps(OURS | {"timesteps": None})), "timesteps must be a whole number"),
    (with_metadata("[1"), "metadata scnas of the graph is not what scnas writes"),
])  # fmt: skip
def test_what_has_no_counterpart_is_refused_in_one_line(make, message):
    with pytest.raises(ValueError, match=message) as refusal:
        from_nir(make(), Choices(dt=DT))
    assert "\n" not in str(refusal.value)


def test_delays_one_behind_the_other_add_up():
    late = [nir.Delay(np.array([0, 1, 2]) * DT), nir.Delay(np.full(3, 2 * DT))]
    graph = nir.NIRGraph.from_list(*late, nir.Linear(np.ones((2, 3))), nir.I(np.ones(2)))
    assert from_nir(graph, EXACT).network.layers[0].delays.tolist() == [[2, 2], [3, 3], [4, 4]]


def test_the_seconds_of_a_step_that_are_given_come_before_those_of_the_graph():
    """At twice the time step the leak of a graph of ours is twice as strong, its delays are half as long."""
    network = random_network(np.random.default_rng(2), (4, 3, 2), neuron="lif", refractory=0, max_delay=0)
    k = {**network.layers[0].constants, "leak_k": 60, "gain_k": 90}
    delays = np.full_like(network.layers[0].delays, 2)
    first = replace(network.layers[0], constants=k, delays=delays)
    graph = to_nir(canonical(replace(network, layers=(first, network.layers[1]))))
    twice = from_nir(graph, Choices(dt=2 * DT)).network.layers[0]
    assert (twice.constants["leak_k"], twice.constants["gain_k"]) == (120, 180)
    assert set(twice.delays[twice.weights != 0].tolist()) == {1}


@pytest.mark.parametrize("dt", [None, 0.0, -1.0, float("nan")])
def test_a_step_needs_its_seconds(dt):
    with pytest.raises(ValueError, match="dt must be the seconds of a step, above 0"):
        from_nir(nir.NIRGraph.from_list(nir.Linear(ONE), lif(3)), Choices(dt=dt))


# -- the command ------------------------------------------------------------------------------------------


def test_the_command_leaves_a_network_its_cost_and_its_verilog(tmp_path, capsys):
    nir.write(tmp_path / "mine.nir", foreign(np.random.default_rng(0), "lif"))
    folder = tmp_path / "out"
    words = [
        "import",
        str(tmp_path / "mine.nir"),
        str(folder),
        "--dt",
        "1e-3",
        "--length",
        "4",
        "--target",
        "ice40",
    ]
    assert exchange.main(words) == 0
    said = capsys.readouterr().out
    network = Network.load(folder / "network.json")
    report = json.loads((folder / "import.json").read_text())
    assert (folder / "design.v").read_text() == synthesis.design_for(network, "ice40").text
    assert report["modelled"]["luts"] == price.measure(network, "ice40").luts and report["losses"]
    assert (
        "weights, as a share of the largest, off by at most 0.1" in said and "iCE40 HX8K, modelled:" in said
    )
    assert exchange.main(["export", str(folder / "network.json"), str(tmp_path / "again.nir")]) == 0
    assert exchange.load(tmp_path / "again.nir").network == network


@pytest.mark.parametrize(
    "words, line",
    [
        (("--fraction", "2000"), "fraction must be a whole number from 0 to 12, got 2000"),
        (("--word", "2000"), "word must be a whole number from 4 to 24, got 2000"),
        (("--timesteps", "-1"), "timesteps must be a whole number from 1 to 4096, got -1"),
        (("--mapping", "folded", "--lanes", "0"), "lanes must be a whole number from 1 to 65536, got 0"),
        (("--encoder", "rates"), "encoder must be one of rate, events, got 'rates'"),
    ],
)
def test_a_word_out_of_range_ends_with_one_line(words, line, tmp_path, capsys):
    nir.write(tmp_path / "mine.nir", foreign(np.random.default_rng(0), "lif"))
    place = [str(tmp_path / "mine.nir"), str(tmp_path / "out")]
    assert exchange.main(["import", *place, "--dt", "1e-3", *words]) == 2
    assert capsys.readouterr().err == f"scnas.exchange: {line}\n"


@pytest.mark.parametrize("dt", ["a", [1], True])
def test_metadata_of_other_kinds_end_with_one_line(dt, tmp_path, capsys):
    nir.write(tmp_path / "mine.nir", with_metadata(json.dumps(OURS | {"dt": dt}))())
    assert exchange.main(["import", str(tmp_path / "mine.nir"), str(tmp_path / "out")]) == 2
    assert "dt must be the seconds of a step" in capsys.readouterr().err


def test_paths_that_cannot_be_end_with_one_line(tmp_path, capsys):
    nir.write(tmp_path / "mine.nir", foreign(np.random.default_rng(0), "lif"))
    (tmp_path / "file").touch()
    folder = tmp_path / "file" / "out"
    assert exchange.main(["import", str(tmp_path / "mine.nir"), str(folder), "--dt", "1e-3"]) == 2
    assert capsys.readouterr().err == f"scnas.exchange: {folder}: Not a directory\n"
    network = random_network(np.random.default_rng(0), (3, 2), neuron="lif", encoder="events")
    network.save(tmp_path / "network.json")
    for from_, to in (("none.json", "a.nir"), ("network.json", "none/a.nir")):
        assert exchange.main(["export", str(tmp_path / from_), str(tmp_path / to)]) == 2
        said = capsys.readouterr().err
        assert said.startswith("scnas.exchange: ") and "none" in said and said.count("\n") == 1


@pytest.mark.parametrize("content", [b"", b"no hdf5 at all", None])
def test_a_file_that_is_no_graph_ends_with_one_line(content, tmp_path, capsys):
    path = tmp_path / "bad.nir"
    if content is not None:
        path.write_bytes(content)
    assert exchange.main(["import", str(path), str(tmp_path / "out"), "--dt", "1e-3"]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"scnas.exchange: {path}: ") and said.count("\n") == 1
    assert not (tmp_path / "out").exists()

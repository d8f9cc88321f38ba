"""scnas.snn.network: what network.json holds, and what it refuses: all that cannot be computed exactly."""

import copy
import json
import os
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import random_network

from scnas import files
from scnas.contract import NEURONS
from scnas.snn.models import CONSTANTS
from scnas.snn.network import Network

# Two inputs, two hidden neurons, two classes: small enough to read.
HAND = {
    "format": "scnas-network/1",
    "n_inputs": 2,
    "timesteps": 4,
    "encoder": "rate",
    "fraction": 8,
    "word": 12,
    "readout": "membrane",
    "layers": [
        {
            "neuron": "lif", "generator": "sobol", "length": 16, "seed": 1, "noise_seed": 2,
            "mapping": "folded", "lanes": 3, "weights": [[16, -3], [0, 7]], "delays": [[0, 2], [1, 0]],
            "threshold": [256, 100],
            "constants": dict.fromkeys(CONSTANTS, 0) | {"leak_k": 64, "gain_k": 256, "v_rest": -5},
        },
        {
            "neuron": "if", "generator": "lfsr", "length": 4, "seed": 65535, "noise_seed": 1,
            "mapping": "parallel", "lanes": 0, "weights": [[256, -256], [1, 0]], "delays": [[0, 0], [0, 0]],
            "threshold": [0, 0], "constants": dict.fromkeys(CONSTANTS, 0),
        },
    ],
}  # fmt: skip


def changed(*path_and_value) -> dict:
    """HAND with one place changed: changed("layers", 0, "length", 48)."""
    *path, last, value = path_and_value
    data = copy.deepcopy(HAND)
    place = data
    for step in path:
        place = place[step]
    place[last] = value
    return data


# --- a value --------------------------------------------------------------------------------------


def test_the_file_is_what_the_contract_says(tmp_path):
    network = Network.from_dict(HAND)
    assert network.to_dict() == HAND
    network.save(tmp_path / "network.json")
    assert json.loads((tmp_path / "network.json").read_text()) == HAND
    assert list(json.loads((tmp_path / "network.json").read_text())) == list(HAND)  # in this order


def test_properties_worked_by_hand():
    network = Network.from_dict(HAND)
    first, last = network.layers
    assert (network.n_inputs, network.n_classes, network.n_synapses) == (2, 2, 6)
    assert (first.n_in, first.n_out, first.max_weight, first.n_synapses) == (2, 2, 16, 3)
    assert (last.max_weight, last.n_synapses) == (256, 3)
    assert first.delays_in_use == (0, 2)  # the delay 1 belongs to a weight of zero
    assert last.delays_in_use == (0,)
    assert [network.fires(i) for i in range(2)] == [True, False]
    assert [replace(network, readout="spikes").fires(i) for i in range(2)] == [True, True]


def test_arrays_are_integers_that_nobody_changes():
    layer = Network.from_dict(HAND).layers[0]
    for array in (layer.weights, layer.delays, layer.threshold):
        assert array.dtype == np.int32
        with pytest.raises(ValueError):
            array[0] = 1


def test_the_caller_keeps_its_own_arrays():
    mine = np.array([[16, -3], [0, 7]])
    network = Network.from_dict(HAND)
    layer = replace(network.layers[0], weights=mine)
    made = replace(network, layers=(layer, network.layers[1]))
    mine[0, 0] = 5
    assert made.layers[0].weights[0, 0] == 16
    assert mine.flags.writeable


def test_equal_networks_are_equal():
    assert Network.from_dict(HAND) == Network.from_dict(copy.deepcopy(HAND))
    assert hash(Network.from_dict(HAND)) == hash(Network.from_dict(copy.deepcopy(HAND)))
    for other in (
        changed("word", 13),
        changed("layers", 0, "weights", 1, 1, 8),
        changed("layers", 0, "delays", 1, 0, 0),
        changed("layers", 0, "constants", "v_rest", 5),
        changed("layers", 0, "mapping", "folded") | {"readout": "spikes"},
        changed("layers", 0, "lanes", 2),
    ):
        assert Network.from_dict(other) != Network.from_dict(HAND)
    assert Network.from_dict(HAND) != HAND


def test_a_network_of_numpy_numbers_can_be_saved(tmp_path):
    network = replace(Network.from_dict(HAND), n_inputs=np.int64(2), word=np.int8(12), timesteps=np.uint16(4))
    network.save(tmp_path / "network.json")
    assert Network.load(tmp_path / "network.json") == Network.from_dict(HAND)


@settings(max_examples=40)
@given(st.integers(0, 2**32 - 1), st.integers(4, 24), st.sampled_from([0, 1, 4, 8, 12]))
def test_round_trip(tmp_path_factory, seed, word, fraction):
    rng = np.random.default_rng(seed)
    network = random_network(rng, (3, 4, 2), word=word, fraction=fraction, mapping="any", max_delay=5)
    folder = tmp_path_factory.mktemp("round")
    network.save(folder / "a.json")
    loaded = Network.load(folder / "a.json")
    assert (
        loaded == network
        and loaded.to_dict() == network.to_dict() == Network.from_dict(network.to_dict()).to_dict()
    )
    loaded.save(folder / "b.json")
    assert (folder / "a.json").read_bytes() == (folder / "b.json").read_bytes()


def test_the_bytes_do_not_depend_on_how_it_was_made(tmp_path):
    Network.from_dict(HAND).save(tmp_path / "a.json")
    backwards = {key: HAND[key] for key in reversed(HAND)}
    backwards["layers"] = [
        {key: layer[key] for key in reversed(layer)}
        | {"constants": {key: layer["constants"][key] for key in reversed(CONSTANTS)}}
        for layer in HAND["layers"]
    ]
    Network.from_dict(backwards).save(tmp_path / "b.json")
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()


@pytest.mark.parametrize("where", ["fsync", "replace"])
def test_nothing_half_written(tmp_path, monkeypatch, where):
    path = tmp_path / "network.json"
    Network.from_dict(HAND).save(path)

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(files.os, where, fail)
    with pytest.raises(OSError, match="disk full"):
        Network.from_dict(changed("word", 13)).save(path)
    monkeypatch.undo()
    assert os.listdir(tmp_path) == ["network.json"]
    assert Network.load(path) == Network.from_dict(HAND)


# --- hostile values -------------------------------------------------------------------------------

NAN, INF = float("nan"), float("inf")
WHOLE = [
    NAN,
    INF,
    1.0,
    True,
    None,
    "1",
    [],
    {},
    10**30,
    -(10**30),
    10**5000,
]  # none is a whole number in range

INTEGERS = "must be a whole number from"


def each(place: str, values: list, message: str) -> list[tuple]:
    """Cases of one place, written `0.length` for that of layer 0: where, what, and what the message holds."""
    path = [int(step) if step.isdigit() else step for step in place.split(".")]
    path = ["layers", *path] if isinstance(path[0], int) else path
    full = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)[1:]
    return [(*path, value, f"{full} {message}" if message else full) for value in values]


WRONG = [
    *each("n_inputs", [*WHOLE, 0, 10**9], f"{INTEGERS} 1 to 65536"),
    *each("timesteps", [*WHOLE, 0, 10**9], f"{INTEGERS} 1 to 4096"),
    *each("timesteps", [6], "must be a power of two for the rate encoder, got 6"),
    *each("fraction", [*WHOLE, -1, 13], f"{INTEGERS} 0 to 12"),
    *each("word", [*WHOLE, 3, 25], f"{INTEGERS} 4 to 24"),
    *each("format", ["scnas-network/2", 1, None, "x" * 10**6], "must be 'scnas-network/1'"),
    *each("encoder", ["Rate", 1, None, []], "must be one of rate, events"),
    *each("readout", ["argmax", True, {}], "must be one of membrane, spikes"),
    *each("layers", [None, {}, 3, "layers"], "must be a list, got "),
    *each("layers", [[], [HAND["layers"][1]] * 65], "must hold 1 to 64 layers"),
    ("layers", [HAND["layers"][0], None], "layers[1] must be an object, got NoneType"),
    *each("0", [[]], "must be an object, got list"),
    *each("0.neuron", ["LIF", 1, None], "must be one of if, lif, "),
    *each("1.generator", ["x", []], "must be one of sobol, lfsr"),
    *each("0.mapping", ["", 1], "must be one of parallel, folded"),
    *each("0.length", [*WHOLE, 0, -16, 12, 512], "must be a "),
    *each("0.seed", [*WHOLE, 0, 65536], f"{INTEGERS} 1 to 65535"),
    *each("0.noise_seed", [*WHOLE, 0, 65536], f"{INTEGERS} 1 to 65535"),
    *each("0.lanes", [*WHOLE, 0, 10**9], f"{INTEGERS} 1 to 65536"),
    *each("1.lanes", [*WHOLE, 1], f"{INTEGERS} 0 to 0"),
    *each("0.units", [*WHOLE, 0, 257], f"{INTEGERS} 1 to 256"),
    *each("1.units", [*WHOLE, 0, 2], f"{INTEGERS} 1 to 1"),
    *each("0.units", [2, 3], "must share out the 2 neurons of the layer, two or more each, got "),
    *each("0.weights", [None, 1, "weights", {}, []], "must be rows of whole numbers"),
    *each("0.weights", [
        [[]], [[], []], [[1, 2]], [[1, 2]] * 3, [[1, 2], [3]], [[1], [2, 3]], [1, 2], [[[1, 2]], [[3, 4]]],
        [[1, 2], [3, "4"]], [[1, 2], [3, 4.0]], [[1, 2], [True, 4]], [[True, True], [True, True]],
        [[1, 2], [3, None]], [[1, 2], [3, NAN]], [[1, 2], None], [[1, 2], "34"], [[1, 2], {0: 1, 1: 2}],
        [[1, 2], [3, 17]], [[1, 2], [3, -17]], [[1, 2], [3, 10**30]], [[1, 2], [3, 2**31]],
        [[1, 2], [3, 2**63]], [[1, 2], [2**32, 4]], [["x" * 10**6, 2], [3, 4]], [[1] * (2**16 + 1)] * 2,
    ], ""),
    *each("0.delays", [
        None, [], [[0, 0]], [[0, 0], [0]], [[0, 0], [0, -1]], [[0, 0], [0, 4097]], [[0, 0], [0, 0.0]],
        [[False, 0], [0, 0]], [0, 0], [[0, 0], [0, 10**30]], "delays", [[0, 0, 0], [0, 0, 0]],
    ], ""),
    *each("0.threshold", [
        None, [], [1], [1, 2, 3], [1, 2.0], [1, True], [1, 2**11], [1, -(2**11) - 1], [[1, 2]], 5, "12",
        [1, NAN], [1, 10**30],
    ], ""),
    *each("0.constants", [None, [], 1], "must be an object, got "),
    *each("0.constants", [{}], "must have exactly the keys leak_k, gain_k, "),
    *each("0.constants.leak_k", [*WHOLE, 2048, -2049], f"{INTEGERS} -2048 to 2047"),
    *each("0.constants.refractory", [*WHOLE, -1, 4097], f"{INTEGERS} 0 to 4096"),
    *each("0.constants.a_k", [1], "must be 0 for lif, got 1"),
    *each("1.constants.leak_k", [1], "must be 0 for if, got 1"),
]  # fmt: skip


def shown(value) -> str:
    try:
        return repr(value)[:24]
    except ValueError:
        return "a very long int"


@pytest.mark.parametrize("case", WRONG, ids=lambda case: "-".join(shown(part) for part in case[:-1]))
def test_a_wrong_value_says_where_and_what_is_allowed(case):
    *place_and_value, message = case
    with pytest.raises(ValueError) as refusal:
        Network.from_dict(changed(*place_and_value))
    assert message in str(refusal.value)
    assert "\n" not in str(refusal.value) and len(str(refusal.value)) < 400


@pytest.mark.parametrize("path", [(), ("layers", 0), ("layers", 1, "constants")])
def test_keys_are_exactly_those_of_the_contract(path):
    place = HAND
    for step in path:
        place = place[step]
    for key in place:
        data = copy.deepcopy(HAND)
        inner = data
        for step in path:
            inner = inner[step]
        inner["seeed\n"] = inner.pop(key)
        with pytest.raises(ValueError) as refusal:
            Network.from_dict(data)
        text = str(refusal.value)
        assert f"missing ['{key}'], unknown ['seeed\\n']" in text and "\n" not in text


@pytest.mark.parametrize("data", [None, [], 1, "{}", {}, {"format": "scnas-network/1"}])
def test_what_is_no_network_at_all_is_refused(data):
    with pytest.raises(ValueError, match="^network must "):
        Network.from_dict(data)


def test_a_thousand_unknown_keys_make_one_short_line():
    with pytest.raises(ValueError) as refusal:
        Network.from_dict(HAND | {f"key {i}": i for i in range(1000)})
    assert len(str(refusal.value)) < 400


def test_a_recovery_that_does_not_fit_the_word_is_refused():
    constants = dict.fromkeys(CONSTANTS, 0) | {"b_k": 2047, "v_reset": -2048}
    data = changed("layers", 0, "neuron", "izhikevich")
    data["layers"][0]["constants"] = constants
    with pytest.raises(ValueError) as refusal:
        Network.from_dict(data)
    assert str(refusal.value) == "layers[0].constants: mul(b_k, v_reset) must fit the word, got -16376"


def test_a_layer_of_too_many_synapses_is_refused_before_it_is_built():
    layer = replace(Network.from_dict(HAND).layers[0], weights=np.zeros((2**13, 2**12), dtype=np.int8))
    with pytest.raises(ValueError, match="at most 16777216 entries, got 8192 rows of 4096"):
        replace(Network.from_dict(HAND), n_inputs=2**13, layers=(layer,))


@pytest.mark.parametrize(
    "weights",
    [
        np.zeros((2, 2)),
        np.zeros((2, 2), bool),
        np.zeros(4, int),
        np.zeros((0, 2), int),
        np.zeros((2, 3), int),
        np.array(3),
        np.full((2, 2), 17),
        np.full((2, 2), 2**63, dtype=np.uint64),
    ],
)
def test_wrong_arrays_are_refused(weights):
    network = Network.from_dict(HAND)
    with pytest.raises(ValueError, match=r"^layers\[0\]\.(weights|delays) must "):
        replace(network, layers=(replace(network.layers[0], weights=weights), network.layers[1]))


USED = {
    "if": "gain_k v_rest v_reset refractory",
    "lif": "leak_k gain_k v_rest v_reset refractory",
    "stochastic_lif": "leak_k gain_k noise_k v_rest v_reset refractory",
    "homeostatic_lif": "leak_k gain_k decay_k bump_k v_rest v_reset refractory",
    "izhikevich": "gain_k a_k b_k d_k v_rest v_reset refractory",
}  # SEMANTICS, section 3


def test_every_model_uses_its_constants_and_no_others():
    assert set(USED) == set(NEURONS)
    for neuron in NEURONS:
        for key in CONSTANTS:
            data = changed("layers", 0, "neuron", neuron)
            data["layers"][0]["constants"] = dict.fromkeys(CONSTANTS, 0) | {key: 1}
            if key in USED[neuron].split():
                assert Network.from_dict(data).layers[0].constants[key] == 1
            else:
                with pytest.raises(ValueError, match=f"constants.{key} must be 0 for {neuron}, got 1"):
                    Network.from_dict(data)


@pytest.mark.parametrize(
    "content",
    [
        b"", b"not json", b"[]", b"{}", b'{"format": "scnas-network/1"}', b"\x80\x04]q\x00.", b"[" * 10**5,
        json.dumps(HAND)[:-1].encode(), json.dumps(HAND).replace("[16, -3]", "[NaN, -3]").encode(),
        json.dumps(HAND).replace("[16, -3]", "[1e999, -3]").encode(),
        json.dumps(HAND).replace("[16, -3]", "[" * 900 + "1" + "]" * 900).encode(),
        json.dumps(HAND).replace("[16, -3]", f"[{'9' * 4000}, -3]").encode(),
        json.dumps(HAND).replace("[16, -3]", f'["{"x" * 10**6}", -3]').encode(),
        json.dumps(HAND | {"n_inputs": 1e9}).encode(), json.dumps(HAND | {"n_inputs": 10**9}).encode(),
    ],
    ids=lambda content: repr(content[:16]),
)  # fmt: skip
def test_a_hostile_file_is_refused_in_one_line_that_names_it(tmp_path, content):
    path = tmp_path / "network.json"
    path.write_bytes(content)
    with pytest.raises(ValueError) as refusal:
        Network.load(path)
    text = str(refusal.value)
    assert text.startswith(f"{path}: ") and "\n" not in text and len(text) < 500 + len(str(path))


def test_a_missing_file_is_refused_in_one_line_that_names_it(tmp_path):
    with pytest.raises(ValueError) as refusal:
        Network.load(tmp_path / "network.json")
    assert str(refusal.value) == f"{tmp_path / 'network.json'}: no such file"

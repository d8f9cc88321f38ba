"""The integer network: what was scored, what is exported, what becomes hardware.

`network.json` holds it whole; anyone can recompute every spike from that file alone.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from scnas import contract
from scnas.contract import Refused, one_of, short, stream_length, whole
from scnas.files import read_json, write_whole
from scnas.snn import derive
from scnas.snn.models import Format, model_of
from scnas.snn.streams import max_weight

FORMAT = "scnas-network/1"


def _integers(name: str, value: object, shape: tuple[int, ...], low: int, high: int) -> np.ndarray:
    """`value` as a read-only int32 array of `shape` with every entry in low..high."""
    if isinstance(value, np.ndarray):
        if value.shape != shape or value.dtype.kind not in "iu":
            raise Refused(
                f"{name} must be whole numbers of shape {shape}, got {value.dtype} of shape {value.shape}"
            )
        if value.size and (value.min() < low or value.max() > high):
            bad = value.min() if value.min() < low else value.max()
            raise Refused(f"{name} must lie in {low}..{high}, got {bad}")
    else:
        _check_lists(name, value, shape, low, high)
    array = np.array(value, dtype=np.int32)
    array.setflags(write=False)
    return array


def _check_lists(name: str, value: object, shape: tuple[int, ...], low: int, high: int) -> None:
    """ValueError unless `value` is lists of `shape` with whole numbers in low..high.

    Before numpy sees it, which takes [true, 2] for [1, 2] and needs gigabytes for one long string.
    """
    if not isinstance(value, list) or len(value) != shape[0]:
        got = f"{len(value)} entries" if isinstance(value, list) else type(value).__name__
        raise Refused(f"{name} must be a list of {shape[0]} entries, got {got}")
    if len(shape) > 1:
        for i, row in enumerate(value):
            _check_lists(f"{name}[{i}]", row, shape[1:], low, high)
    elif set(map(type, value)) - {int} or min(value) < low or max(value) > high:
        for i, entry in enumerate(value):
            whole(f"{name}[{i}]", entry, low, high)


@dataclass(frozen=True, eq=False)
class Layer:
    """One layer: synapses from n_in inputs to n_out neurons.

    neuron, generator, mapping: the words of scnas.contract. length: L, clocks of a stream.
    seed, noise_seed: 1..65535, LFSR states when an inference starts.
    lanes: inputs per clock of a folded layer, 0 for a parallel one. units: neurons that it takes at once,
    which share out n_out, two or more each; 1 in a parallel layer and in the last, whose scores come one by
    one.
    weights: [n_in, n_out] int32, |w| <= M. delays: [n_in, n_out] int32 >= 0, in steps.
    threshold: [n_out] int32, Q(F). constants: all of derive.constants_of its model, Q(F) but for
    `refractory` (steps).
    """

    neuron: str
    generator: str
    length: int
    seed: int
    noise_seed: int
    mapping: str
    lanes: int
    weights: np.ndarray
    delays: np.ndarray
    threshold: np.ndarray
    constants: Mapping[str, int]
    units: int = 1

    @property
    def n_in(self) -> int:
        return self.weights.shape[0]

    @property
    def n_out(self) -> int:
        return self.weights.shape[1]

    @property
    def max_weight(self) -> int:
        """M: the largest magnitude the generator of this layer can turn into a stream."""
        return max_weight(self.generator, self.length)

    @property
    def delays_in_use(self) -> tuple[int, ...]:
        """The distinct delays of synapses that exist (non-zero weight), ascending."""
        return tuple(int(d) for d in np.unique(self.delays[self.weights != 0]))

    @property
    def n_synapses(self) -> int:
        """Synapses that exist: non-zero weights."""
        return int(np.count_nonzero(self.weights))


@dataclass(frozen=True, eq=False)
class Network:
    """An architecture with weights: everything that decides a spike, and the mapping to hardware.

    n_inputs: features. timesteps: T. encoder: `rate` (values in 0..1) or `events` (spikes).
    fraction: F, a number n stands for n / 2^F. word: W, bits of every saturating register.
    readout: `membrane` (the last layer only integrates) or `spikes`.
    Raises ValueError, one line naming the field, when anything in it cannot be computed exactly.
    """

    n_inputs: int
    timesteps: int
    encoder: str
    fraction: int
    word: int
    readout: str
    layers: tuple[Layer, ...]

    def __post_init__(self):
        ranges = {
            "n_inputs": contract.WIDTHS,
            "timesteps": contract.TIMESTEPS,
            "fraction": contract.FRACTION_RANGE,
            "word": contract.WORD_RANGE,
        }
        for name, allowed in ranges.items():
            object.__setattr__(self, name, allowed.check(name, getattr(self, name)))
        one_of("encoder", self.encoder, contract.ENCODERS)
        one_of("readout", self.readout, contract.READOUTS)
        if self.encoder == "rate" and not contract.is_power_of_two(self.timesteps):
            raise Refused(f"timesteps must be a power of two for the rate encoder, got {self.timesteps}")
        if not isinstance(self.layers, tuple) or not 1 <= len(self.layers) <= contract.MAX_LAYERS:
            raise Refused(f"layers must hold 1 to {contract.MAX_LAYERS} layers")
        n_in = self.n_inputs
        checked = []
        for i, layer in enumerate(self.layers):
            checked.append(_checked_layer(layer, f"layers[{i}]", n_in, self))
            n_in = checked[-1].n_out
        if checked[-1].units != 1:
            name = f"layers[{len(checked) - 1}].units"
            raise Refused(f"{name} must be 1 in the last layer, got {checked[-1].units}")
        object.__setattr__(self, "layers", tuple(checked))

    @property
    def n_classes(self) -> int:
        return self.layers[-1].n_out

    @property
    def n_synapses(self) -> int:
        return sum(layer.n_synapses for layer in self.layers)

    def fires(self, index: int) -> bool:
        """Whether layer `index` has neurons: all do, but for the last one of a membrane readout."""
        return self.readout == "spikes" or index < len(self.layers) - 1

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Network) and self.to_dict() == other.to_dict()

    def __hash__(self) -> int:
        return hash(json.dumps(self.to_dict(), sort_keys=True))

    def to_dict(self) -> dict:
        """The content of network.json."""
        return {
            "format": FORMAT,
            "n_inputs": self.n_inputs,
            "timesteps": self.timesteps,
            "encoder": self.encoder,
            "fraction": self.fraction,
            "word": self.word,
            "readout": self.readout,
            "layers": [
                {
                    "neuron": layer.neuron,
                    "generator": layer.generator,
                    "length": layer.length,
                    "seed": layer.seed,
                    "noise_seed": layer.noise_seed,
                    "mapping": layer.mapping,
                    "lanes": layer.lanes,
                    "weights": layer.weights.tolist(),
                    "delays": layer.delays.tolist(),
                    "threshold": layer.threshold.tolist(),
                    "constants": dict(layer.constants),
                }
                | ({"units": layer.units} if layer.units > 1 else {})
                for layer in self.layers
            ],
        }

    @classmethod
    def from_dict(cls, data: object) -> "Network":
        """The network that `data`, the content of a network.json, describes; ValueError if none."""
        fields = ("n_inputs", "timesteps", "encoder", "fraction", "word", "readout", "layers")
        _expect_keys("network", data, ("format", *fields))
        if data["format"] != FORMAT:
            raise Refused(f"format must be {FORMAT!r}, got {short(data['format'])}")
        if not isinstance(data["layers"], list):
            raise Refused(f"layers must be a list, got {type(data['layers']).__name__}")
        layers = []
        for i, layer in enumerate(data["layers"]):
            _expect_keys(f"layers[{i}]", layer, tuple(Layer.__dataclass_fields__), optional=("units",))
            layers.append(Layer(**layer))
        return cls(**{name: data[name] for name in fields} | {"layers": tuple(layers)})

    def save(self, path: str | Path) -> None:
        """Write network.json, whole or not at all; same network, same bytes."""
        write_whole(path, json.dumps(self.to_dict(), separators=(",", ":")) + "\n")

    @classmethod
    def load(cls, path: str | Path) -> "Network":
        """Read a network.json; ValueError, one line with the file's name, if it is not one."""
        data = read_json(path)
        try:
            return cls.from_dict(data)
        except ValueError as error:
            raise Refused(f"{path}: {error}") from None


def _expect_keys(name: str, data: object, keys: tuple[str, ...], optional: tuple[str, ...] = ()) -> None:
    if not isinstance(data, dict):
        raise Refused(f"{name} must be an object, got {type(data).__name__}")
    missing = [key for key in keys if key not in data and key not in optional]
    unknown = [str(key)[:40] for key in data if key not in keys][:5]
    if missing or unknown:
        raise Refused(
            f"{name} must have exactly the keys {', '.join(keys)}; "
            f"missing {missing or 'none'}, unknown {unknown or 'none'}"
        )


def _checked_layer(layer: Layer, name: str, n_in: int, network: Network) -> Layer:
    """`layer` with plain ints and read-only int32 arrays, or a ValueError naming the field."""
    one_of(f"{name}.neuron", layer.neuron, contract.NEURONS)
    one_of(f"{name}.generator", layer.generator, contract.GENERATORS)
    one_of(f"{name}.mapping", layer.mapping, contract.MAPPINGS)
    length = stream_length(f"{name}.length", layer.length, network.fraction)
    seed = whole(f"{name}.seed", layer.seed, 1, 0xFFFF)
    noise_seed = whole(f"{name}.noise_seed", layer.noise_seed, 1, 0xFFFF)
    folded = layer.mapping == "folded"
    lanes = (contract.LANES if folded else contract.Range(0, 0)).check(f"{name}.lanes", layer.lanes)

    rows = layer.weights
    if not isinstance(rows, list | np.ndarray) or getattr(rows, "ndim", 2) != 2 or len(rows) == 0:
        raise Refused(f"{name}.weights must be rows of whole numbers")
    n_out = len(rows[0]) if isinstance(rows[0], list | np.ndarray) else 0
    if not 1 <= n_out <= contract.MAX_WIDTH or n_in * n_out > contract.MAX_SYNAPSES:
        raise Refused(
            f"{name}.weights must have 1 to {contract.MAX_WIDTH} columns and at most "
            f"{contract.MAX_SYNAPSES} entries, got {len(rows)} rows of {n_out}"
        )
    top = max_weight(layer.generator, length)
    weights = _integers(f"{name}.weights", rows, (n_in, n_out), -top, top)
    delays = _integers(f"{name}.delays", layer.delays, (n_in, n_out), *contract.DELAYS)
    half = 2 ** (network.word - 1)
    threshold = _integers(f"{name}.threshold", layer.threshold, (n_out,), -half, half - 1)

    if not isinstance(layer.constants, Mapping):
        raise Refused(f"{name}.constants must be an object, got {type(layer.constants).__name__}")
    model = model_of(layer.neuron)
    used = derive.used_constants(model)
    _expect_keys(f"{name}.constants", dict(layer.constants), derive.constants_of(model))
    constants = {}
    for key in derive.constants_of(model):
        limits = (0, contract.MAX_TIMESTEPS) if key == "refractory" else (-half, half - 1)
        value = whole(f"{name}.constants.{key}", layer.constants[key], *limits)
        if value and key not in used:
            raise Refused(f"{name}.constants.{key} must be 0 for {layer.neuron}, got {value}")
        constants[key] = value
    first = derive.first_state(model, constants, derive.Whole(Format(network.word, network.fraction)))
    for word in model.words:
        if not -half <= first[word.name] < half:
            raise Refused(f"{name}.constants: {word.start} must fit the word, got {first[word.name]}")
    units = (contract.UNITS if folded else contract.Range(1, 1)).check(f"{name}.units", layer.units)
    if n_out % units or n_out == units > 1:
        raise Refused(
            f"{name}.units must share out the {n_out} neurons of the layer, two or more each, got {units}"
        )
    return Layer(
        layer.neuron,
        layer.generator,
        length,
        seed,
        noise_seed,
        layer.mapping,
        lanes,
        weights,
        delays,
        threshold,
        constants,
        units,
    )

"""CpuPass: gradients and scores of a population on a CPU, candidate by candidate, with the kernels.

The parameters are those of PopulationStack, and so are the integers and, but for the order of
floating-point sums, the gradients: tests hold the two together.

Letters: P candidates, T steps, B samples, n_in and n_out of a layer.
"""

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from scnas.snn.cpu import kernels
from scnas.snn.cpu.kernels import WIDTH
from scnas.snn.reference.neurons import exact_dtype

if TYPE_CHECKING:
    from scnas.snn.population import LayerStack, PopulationStack

# Constants that training leaves alone, by their place in the vector of the kernels.
_FIELDS = {
    kernels.DECAY: "decay_k", kernels.BUMP: "bump_k", kernels.A: "a_k", kernels.B: "b_k", kernels.D: "d_k",
    kernels.REST: "v_rest", kernels.RESET: "v_reset", kernels.BOUND: "bound", kernels.SCALE: "scale",
}  # fmt: skip
# Flat arrays of a room in the order of the kernels.
_FLAT = (
    "matrices", "turned", "levels", "ahead", "ahead_at", "back", "back_at", "states", "lists", "lanes",
    "masks", "tiles", "places", "per_weight",
)  # fmt: skip
SHORT_FRACTION = 10  # up to which a product of 16 bits and a = 0.02 or b = 0.2 in Q(F) is below 2^24
CACHE_BYTES = 2**19  # what the activations of a block of samples may take, to stay near the core


class _Room:
    """Flat arrays for one candidate of a population, large enough for each, with what lies where.

    layers: [P, layers, 20], see kernels. block: [P], samples that are taken through all layers at a
    time.
    """

    def __init__(self, stack: "PopulationStack", timesteps: int, rated: bool):
        self.layers = np.zeros((stack.count, len(stack.layers), kernels.AT_TABLE + 1), np.int64)
        self.block = np.zeros(stack.count, np.int64)
        names = (
            "matrices", "levels", "weights", "states", "lists", "ahead", "back", "lanes", "masks", "tiles",
            "places",
        )  # fmt: skip
        largest = dict.fromkeys(names, 0)
        for p in range(stack.count):
            plan = self.layers[p]
            neurons = 0
            for i, layer in enumerate(stack.layers):
                n_in, n_out = layer.sizes[p]
                neurons += n_out
                sobol = layer.generators[p] == "sobol"
                by_level = i == 0 and rated and sobol
                # Samples of rate-coded inputs lie side by side where those of the next layer do.
                hidden = i > 0 or layer.spans[p] > 0
                if by_level:
                    hidden = len(stack.layers) > 1 and self._takes_lanes(stack.layers[1], p)
                plan[i, :9] = (
                    n_in, n_out, layer.spans[p] + 1, 1 if sobol else timesteps, by_level, layer.fires,
                    layer.models[p] == "izhikevich", _is_wide(layer, p),
                    hidden and self._takes_lanes(layer, p),
                )  # fmt: skip
                plan[i, kernels.SOBOL] = sobol
            bytes_each = 4 * kernels.STATES * timesteps * neurons
            most = 1 if plan[:, [kernels.LANED, kernels.RATED]].any() else 4
            block = self.block[p] = WIDTH * max(1, min(most, CACHE_BYTES // bytes_each // WIDTH))
            at = dict.fromkeys(largest, 0)
            for row in plan:
                row[kernels.AT_MATRIX], row[kernels.AT_WEIGHT] = at["matrices"], at["weights"]
                row[kernels.AT_STATE], row[kernels.AT_LIST] = at["states"], at["lists"]
                row[kernels.AT_AHEAD], row[kernels.AT_BACK] = at["ahead"], at["back"]
                n_in, n_out, slices, streams = row[:4]
                pieces = -(-n_out // WIDTH) * WIDTH
                height, length = _whole(timesteps) + slices - 1, timesteps * block
                state = flat = timesteps * (block + 1) * n_out
                if row[kernels.LANED]:
                    state = height * _whole(n_out) * WIDTH
                if row[kernels.RATED]:
                    at["levels"] += slices * n_in * _pieces(n_out)
                    at["lanes"] = max(at["lanes"], flat)
                    at["masks"] = max(at["masks"], 2 * (n_in + 1 + timesteps) * kernels.FOUR)
                elif row[kernels.LANED]:
                    at["ahead"] += n_in * _whole(n_out)
                    at["back"] += _whole(n_in) * n_out
                    at["masks"] = max(at["masks"], n_in * height * WIDTH)
                if not row[kernels.LANED]:
                    at["matrices"] += slices * streams * n_in * n_out
                at["lanes"] = max(at["lanes"], _whole(timesteps) * _whole(n_in) * WIDTH, length * n_in)
                rows = 4 * WIDTH * length if row[kernels.RATED] else pieces * (length + (slices - 1) * block)
                at["tiles"] = max(at["tiles"], rows)
                at["places"] = max(at["places"], n_in * length)
                at["weights"] += slices * n_in * n_out
                at["states"] += kernels.STATES * state
                at["lists"] += length * (n_out + 2)
            largest = {name: max(largest[name], at[name]) for name in largest}

        def room(name: str, kind: type = np.float32) -> np.ndarray:
            return _aligned(largest[name] + WIDTH**2, kind)  # the kernels take up to sixteen rows at a time

        self.flat = {
            "matrices": room("matrices"), "turned": room("matrices"), "levels": room("levels", np.int16),
            "ahead": room("ahead", np.int16), "ahead_at": room("ahead", np.int32), "back": room("back"),
            "back_at": room("back", np.int32), "states": room("states"), "lists": room("lists", np.int32),
            "lanes": room("lanes"), "masks": room("masks", np.int16), "tiles": room("tiles"),
            "places": room("places", np.int32), "per_weight": room("weights"),
        }  # fmt: skip

    @staticmethod
    def _takes_lanes(layer: "LayerStack", p: int) -> bool:
        """Whether candidate p may have its samples side by side in this layer."""
        return layer.fires and layer.generators[p] == "sobol"


def _aligned(size: int, kind: type) -> np.ndarray:
    """Zeros that begin with a line of the cache, 64 bytes: as many numbers are one access."""
    room = np.zeros(size + 64, kind)
    return room[-room.ctypes.data % 64 // room.itemsize :][:size]


def _pieces(n: int) -> int:
    """n rounded up to whole pieces of kernels.prepare_levels."""
    return -(-n // kernels.FOUR) * kernels.FOUR


def _whole(n: int) -> int:
    """n rounded up to whole tiles of the kernels."""
    return -(-n // kernels.TILE) * kernels.TILE


class _Fixed(NamedTuple):
    """What training leaves alone of the neurons of a layer. base, bound: [P, 1] float64, what thresholds are
    multiples of, and 2^(W - 1). scale: [P, n_out], base, 0 where a neuron is padding. leak_used,
    leak_learned: [P] bool, whether the model has a leak and whether a gradient reaches it."""

    base: np.ndarray
    bound: np.ndarray
    scale: np.ndarray
    leak_used: np.ndarray
    leak_learned: np.ndarray

    @classmethod
    def of(cls, layer: "LayerStack") -> "_Fixed":
        base, bound = (layer.buffers[name].numpy()[:, 0] for name in ("base", "bound"))
        real = layer.buffers["neurons"].numpy()[:, 0]
        used, learned = (
            np.array([model not in without for model in layer.models])
            for without in (("if",), ("if", "izhikevich"))
        )
        return cls(base, bound, base * real, used, learned)


class CpuPass:
    """Works on the tensors of `stack`, whose gradients it fills in.

    Inputs are levels 0..T, [B, 1, n_inputs] with `ramp` = R_T(t), or spikes [B, T, n_inputs].
    """

    def __init__(self, stack: "PopulationStack", ramp: np.ndarray | None):
        self.stack, self.ramp = stack, ramp
        self.timesteps = stack.layers[0].timesteps
        self._room = _Room(stack, self.timesteps, ramp is not None)
        self._down = np.arange(self.timesteps)[::-1].copy()
        self._widest = max(size for layer in stack.layers for _, size in layer.sizes)
        # Padding has no gradient, and what is no padding is written anew every time.
        self._gradients = [
            {
                name: torch.zeros_like(tensor, requires_grad=False)
                for name, tensor in layer.tensors.items()
                if layer.fires or name in stack.SYNAPTIC
            }
            for layer in stack.layers
        ]
        self._open()

    def gradients(self, x: np.ndarray, labels: np.ndarray, softness: float) -> torch.Tensor:
        """Mean cross-entropy of every candidate, [P]; the gradient of their sum goes into the tensors."""
        stack = self.stack
        self._read_parameters()
        for layer, own in zip(stack.layers, self._gradients, strict=True):
            for name, tensor in layer.tensors.items():
                tensor.grad = own.get(name)
        factors = stack.factors().detach().numpy().astype(np.float64)
        scores = np.empty((1, len(x), stack.layers[-1].sizes[0][1]))
        losses, to_scale, to_threshold, to_k, _ = self._run(x, labels, factors, softness, scores)
        stack.scale.grad = torch.from_numpy(to_scale).to(stack.scale.dtype)
        for i, layer in enumerate(stack.layers):
            if layer.fires:
                slopes = {name: gradient.numpy() for name, gradient in self._gradients[i].items()}
                self._to_neurons(i, slopes, to_threshold[:, i], to_k[:, i])
        return torch.from_numpy(losses)

    def scores(self, x: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        """Integer scores [P, B, n_classes], and spikes that each layer fired, [P, layers] float64."""
        stack = self.stack
        self._read_parameters()
        scores = np.empty((stack.count, len(x), stack.layers[-1].sizes[0][1]))
        *_, fired = self._run(x, np.zeros(0, np.int64), np.ones(stack.count), 0.0, scores)
        return torch.from_numpy(scores), torch.from_numpy(fired).double()

    def judged(self, scores: torch.Tensor, labels: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        """Summed cross-entropies and numbers of right answers, both [P]; see TorchPass.judged."""
        losses, right = np.empty(self.stack.count), np.empty(self.stack.count, np.int64)
        factors = self.stack.factors().detach().numpy().astype(np.float64)
        kernels.judge(scores.numpy(), labels, factors, losses, right)
        return torch.from_numpy(losses), torch.from_numpy(right)

    # -- one batch ------------------------------------------------------------------------------

    def _inputs(self, x: np.ndarray) -> tuple[np.ndarray, ...]:
        """What kernels.run wants of a batch, the same for all candidates: order, starts,
        level_places, level_ends, active, counts."""
        batch, n, timesteps = len(x), x.shape[2], self.timesteps
        order, starts = np.zeros((0, n), np.int32), np.zeros((0, timesteps + 1), np.int32)
        blocks = -(-batch // WIDTH)
        places, ends = np.zeros((blocks, n, WIDTH), np.int32), np.zeros((blocks, n), np.int32)
        active, counts = np.zeros((0, timesteps, n + 1), np.int32), np.zeros((0, timesteps), np.int32)
        if self.ramp is not None and self._room.layers[:, 0, kernels.RATED].any():
            order, starts = np.zeros((batch, n), np.int32), np.zeros((batch, timesteps + 1), np.int32)
            kernels.sort_levels(x[:, 0], timesteps, order, starts)
            kernels.place_levels(order, starts, places, ends)
        first = self._room.layers[:, 0]
        if self.ramp is None or not first[:, kernels.RATED].all() or len(self.stack.layers) == 1:
            spikes = x if self.ramp is None else (x > self.ramp[None, :, None]).astype(np.uint8)
            active = np.zeros((batch, timesteps, n + 1), np.int32)
            counts = np.zeros((batch, timesteps), np.int32)
            kernels.list_spikes(spikes, active, counts)
        return order, starts, places, ends, active, counts

    def _open(self) -> None:
        """Tensors of all layers as arrays, and the constants that training leaves alone.

        k: [P, layers, 16]; threshold: [P, layers, widest]; noise: [P, layers, T]; float64.
        """
        stack = self.stack
        shape = (stack.count, len(stack.layers))
        self._k = np.zeros((*shape, kernels.TOP + 1))
        self._threshold = np.zeros((*shape, self._widest))
        self._noise = np.zeros((*shape, self.timesteps))
        self._views, self._rounded = [], [np.empty(0)] * len(stack.layers)
        self._fixed = [_Fixed.of(layer) for layer in stack.layers]
        for i, layer in enumerate(stack.layers):
            views = {name: tensor.detach().numpy() for name, tensor in layer.tensors.items()}
            views["keep"] = layer.buffers["keep"].numpy()
            views.setdefault("position", views["weight"])
            self._views.append(views)
            one, k, models = float(2**layer.fraction), self._k[:, i], np.array(layer.models)
            k[:, kernels.ONE], k[:, kernels.C14] = one, round(1.4 * one)
            for column, name in _FIELDS.items():
                k[:, column] = layer.buffers[name].numpy().reshape(-1)
            k[models != "homeostatic_lif", kernels.DECAY] = 0
            k[models != "homeostatic_lif", kernels.BUMP] = 0
            self._noise[:, i] = layer.buffers["noise"].numpy() * (models == "stochastic_lif")[:, None]
            k[:, kernels.EACH] = [2**layer.fraction // length for length in layer.lengths]
            k[:, kernels.TOP] = layer.tops
        self._addresses = np.array([self._addresses_of(i) for i in range(len(stack.layers))])
        self._shapes = np.array([views["weight"].shape[1:] for views in self._views])
        tables, at = [np.zeros(1, np.float32)], 1
        for i, layer in enumerate(stack.layers):
            for p, table in enumerate(layer.tables):
                self._room.layers[p, i, kernels.AT_TABLE] = at
                tables.append(table.reshape(-1))
                at += table.size
        self._tables = np.concatenate(tables)

    def _addresses_of(self, i: int) -> list[int]:
        """Where the tensors of layer i lie, as kernels.run expects them; self._views and the gradients hold
        them there."""
        views, slopes = self._views[i], self._gradients[i]
        to_position = slopes.get("position", slopes["weight"])
        arrays = (
            views["weight"],
            views["keep"],
            views["position"],
            slopes["weight"].numpy(),
            to_position.numpy(),
        )
        assert all(array.flags.c_contiguous for array in arrays)
        return [array.ctypes.data for array in arrays]

    @torch.no_grad()
    def _read_parameters(self) -> None:
        """Thresholds, gains and leaks as the integers that they stand for."""
        for i, layer in enumerate(self.stack.layers):
            if layer.fires:
                fixed, views = self._fixed[i], self._views[i]
                value = self._rounded[i] = np.rint(views["threshold"][:, 0] * fixed.base)
                limited = np.minimum(np.maximum(value, 1), fixed.bound - 1)
                self._threshold[:, i, : value.shape[1]] = limited
                for name, column, used in (
                    ("gain", kernels.GAIN, 1),
                    ("leak", kernels.LEAK, fixed.leak_used),
                ):
                    if layer.powers_of_two:  # exact, whoever computes it
                        power = np.exp2(np.rint(views[name][:, 0, 0].astype(np.float64) + layer.fraction))
                    else:
                        power = layer.power(name).numpy()[:, 0, 0]
                    self._k[:, i, column] = power * used

    def _to_neurons(
        self, i: int, slopes: dict[str, np.ndarray], to_threshold: np.ndarray, to_k: np.ndarray
    ) -> None:
        """Gradients to threshold_j [P, widest], gain_k and leak_k [P, 2] of layer i, carried on to the
        parameters behind them, as autograd would through LayerStack.thresholds and .power."""
        layer, views, value, fixed = self.stack.layers[i], self._views[i], self._rounded[i], self._fixed[i]
        # A clamp passes what it leaves alone, torch.minimum half of what equals its bound.
        passed = (value >= 1) * (0.5 * (value < fixed.bound - 1) + 0.5 * (value <= fixed.bound - 1))
        slopes["threshold"][:, 0] = to_threshold[:, : value.shape[1]] * (fixed.scale * passed)
        for name, slope in (("gain", to_k[:, 0]), ("leak", to_k[:, 1] * fixed.leak_learned)):
            soft = np.exp2(views[name][:, 0, 0].astype(np.float64) + layer.fraction)
            slopes[name][:, 0, 0] = slope * soft * np.log(2)

    def _run(
        self, x: np.ndarray, labels: np.ndarray, factors: np.ndarray, softness: float, scores: np.ndarray
    ) -> tuple[np.ndarray, ...]:  # fmt: skip
        """kernels.run; returns its losses, to_factor, to_threshold, to_k and fired."""
        count, depth = self._room.layers.shape[:2]
        losses, to_factor = np.empty(count), np.empty(count)
        to_threshold = np.empty((count, depth, self._widest), np.float32)
        to_k, fired = np.empty((count, depth, 2)), np.zeros((count, depth), np.int64)
        flat, ramp = self._room.flat, self._down if self.ramp is None else self.ramp
        kernels.run(
            self._room.layers, self._k, self._threshold, self._noise, self._room.block, self._addresses,
            self._shapes, self._tables, *self._inputs(x), ramp, labels, factors, float(softness), self._down,
            *(flat[name] for name in _FLAT), to_threshold, to_k, scores, fired, losses, to_factor,
        )  # fmt: skip
        return losses, to_factor, to_threshold, to_k, fired


def _is_wide(layer: "LayerStack", p: int) -> bool:
    """Whether the neurons of candidate p need float64. Izhikevich's square does not, see kernels: then what
    is true of the other models is enough, with constants a and b that are short."""
    model = layer.models[p]
    short = True
    if model == "izhikevich":
        model = "lif"
        short = layer.words[p] <= 16 and layer.fraction <= SHORT_FRACTION
    exact = exact_dtype(model, layer.words[p], layer.fraction, layer.powers_of_two)
    return layer.fires and not (short and exact == torch.float32)

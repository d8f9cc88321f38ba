"""CpuPass: gradients and scores of a population on a CPU, candidate by candidate, with the kernels.

The parameters are those of PopulationStack, and so are the integers and, but for the order of
floating-point sums, the gradients: tests hold the two together.

Letters: P candidates, T steps, B samples, n_in and n_out of a layer.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch

from scnas.snn import kernels
from scnas.snn.kernels import WIDTH
from scnas.snn.neurons import exact_dtype

if TYPE_CHECKING:
    from scnas.snn.population import LayerStack, PopulationStack

# Constants that training leaves alone, by their place in the vector of the kernels.
_FIELDS = {
    kernels.DECAY: "decay_k", kernels.BUMP: "bump_k", kernels.A: "a_k", kernels.B: "b_k", kernels.D: "d_k",
    kernels.REST: "v_rest", kernels.RESET: "v_reset", kernels.BOUND: "bound", kernels.SCALE: "scale",
}  # fmt: skip
SHORT_FRACTION = 10  # up to which a product of 16 bits and a = 0.02 or b = 0.2 in Q(F) is below 2^24
CACHE_BYTES = 2**19  # what the activations of a block of samples may take, to stay near the core


class _Room:
    """Flat arrays for one candidate of a population, large enough for each, with what lies where.

    layers: [P, layers, 18], see kernels.run. block: [P], samples that are taken through all layers at a
    time. matrices, turned: [P][layer], views of the flat arrays, empty where a layer is laned. levels, laned:
    [P][layer], the same for rate-coded inputs and, forward and back, for laned layers, flat.
    """

    def __init__(self, stack: "PopulationStack", timesteps: int, rated: bool):
        self.layers = np.zeros((stack.count, len(stack.layers), kernels.OPEN + 1), np.int64)
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
        self.matrices = [[self._view("matrices", row, False) for row in plan] for plan in self.layers]
        self.turned = [[self._view("turned", row, True) for row in plan] for plan in self.layers]
        self.levels = [[self._levels(row) for row in plan] for plan in self.layers]
        self.laned = [[self._laned(row) for row in plan] for plan in self.layers]
        self.per_weight = [[self._per_weight(row) for row in plan] for plan in self.layers]

    @staticmethod
    def _takes_lanes(layer: "LayerStack", p: int) -> bool:
        """Whether candidate p may have its samples side by side in this layer."""
        return layer.fires and layer.generators[p] == "sobol"

    def _view(self, name: str, row: np.ndarray, turned: bool) -> np.ndarray:
        n_in, n_out, slices, streams = row[:4]
        if row[kernels.LANED]:
            slices = 0
        at = row[kernels.AT_MATRIX]
        shape = (slices, streams, n_out, n_in) if turned else (slices, streams, n_in, n_out)
        return self.flat[name][at : at + slices * streams * n_in * n_out].reshape(shape)

    def _levels(self, row: np.ndarray) -> np.ndarray:
        """The magnitudes of a layer of rate-coded inputs, the first; see kernels.prepare_levels."""
        n_in, n_out, slices = row[:3] * row[kernels.RATED]
        return self.flat["levels"][: slices * n_in * _pieces(n_out)]

    def _laned(self, row: np.ndarray) -> tuple[np.ndarray, ...]:
        """ahead, ahead_at, back and back_at of a laned layer; see kernels.prepare_lanes."""
        n_in, n_out = row[:2]
        ahead = slice(row[kernels.AT_AHEAD], row[kernels.AT_AHEAD] + n_in * _whole(n_out))
        back = slice(row[kernels.AT_BACK], row[kernels.AT_BACK] + _whole(n_in) * n_out)
        flat = self.flat
        return flat["ahead"][ahead], flat["ahead_at"][ahead], flat["back"][back], flat["back_at"][back]

    def _per_weight(self, row: np.ndarray) -> np.ndarray:
        n_in, n_out, slices = row[:3]
        at = row[kernels.AT_WEIGHT]
        return self.flat["per_weight"][at : at + slices * n_in * n_out].reshape(slices, n_in, n_out)


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
        self._not_turned = np.zeros((0, 1, 1, 1), np.float32)
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
        losses, to_scale = np.empty(stack.count), np.empty(stack.count)
        factors = stack.factors().detach().numpy().astype(np.float64)
        inputs = self._inputs(x)
        scores = np.empty((len(x), stack.layers[-1].sizes[0][1]))
        fired = np.empty(len(stack.layers), np.int64)
        to_threshold = np.empty((stack.count, len(stack.layers), self._widest), np.float32)
        to_k = np.empty((stack.count, len(stack.layers), 2))
        for p in range(stack.count):
            for fill, arguments in self._preparations[p]:
                fill(*arguments)
            losses[p], to_scale[p] = self._run(
                p, inputs, labels, factors[p], to_threshold[p], to_k[p], scores, fired
            )
            for span, arguments in self._collections[p]:
                kernels.collect(np.float32(max(0.5, span * softness / 2)), *arguments)
        stack.scale.grad = torch.from_numpy(to_scale).to(stack.scale.dtype)
        for i, layer in enumerate(stack.layers):
            if layer.fires:
                slopes = {name: gradient.numpy() for name, gradient in self._gradients[i].items()}
                self._to_neurons(i, slopes, to_threshold[:, i], to_k[:, i])
        return torch.from_numpy(losses)

    def scores(self, x: np.ndarray) -> tuple[torch.Tensor, np.ndarray]:
        """Integer scores [P, B, n_classes], and spikes that each layer fired, [P, layers]."""
        stack = self.stack
        self._read_parameters()
        inputs = self._inputs(x)
        scores = np.empty((stack.count, len(x), stack.layers[-1].sizes[0][1]))
        fired = np.zeros((stack.count, len(stack.layers)), np.int64)
        to_threshold = np.empty((len(stack.layers), self._widest), np.float32)
        to_k = np.empty((len(stack.layers), 2))
        for p in range(stack.count):
            for fill, arguments in self._preparations[p]:
                fill(*arguments)
            self._run(p, inputs, np.zeros(0, np.int64), 1.0, to_threshold, to_k, scores[p], fired[p])
        return torch.from_numpy(scores), fired.astype(np.float64)

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

        k: [P, layers, 14]; threshold: [P, layers, widest]; noise: [P, layers, T]; float64.
        """
        stack = self.stack
        shape = (stack.count, len(stack.layers))
        self._k = np.zeros((*shape, kernels.UNIT + 1))
        self._threshold = np.zeros((*shape, self._widest))
        self._noise = np.zeros((*shape, self.timesteps))
        self._views = []
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
        self._list_arguments()

    def _list_arguments(self) -> None:
        """What the kernels take of every candidate, [P], and of each of its layers, [P][layer], in their
        order: made once, since making it takes as long as some of them."""
        room, stack = self._room, self.stack
        names = (
            "matrices", "turned", "levels", "ahead", "ahead_at", "back", "back_at", "states", "lists",
            "lanes", "masks", "tiles", "places", "per_weight",
        )  # fmt: skip
        self._flat = [room.flat[name] for name in names]
        self._own = list(zip(room.layers, self._k, self._threshold, self._noise, strict=True))
        self._preparations = [
            [self._preparation(p, i) for i in range(len(stack.layers))] for p in range(stack.count)
        ]
        self._collections = [
            [self._collection(p, i) for i in range(len(stack.layers))] for p in range(stack.count)
        ]

    def _preparation(self, p: int, i: int) -> tuple[Callable[..., None], tuple]:
        """What brings the integers of layer i of candidate p where the kernels expect them."""
        room, layer, views = self._room, self.stack.layers[i], self._views[i]
        row, k = room.layers[p, i], self._k[p, i]
        weights = views["weight"][p], views["keep"][p], views["position"][p]
        top, unit = np.float32(layer.tops[p]), np.float32(2**layer.fraction // layer.lengths[p])
        own = (*weights, *layer.sizes[p], layer.spans[p], top, unit, 2.0 ** (layer.words[p] - 1), row, k)
        levels, table = room.levels[p][i], layer.tables[p]
        matrix, turned = room.matrices[p][i], room.turned[p][i]
        if i == len(self.stack.layers) - 1 and not layer.fires and layer.generators[p] == "sobol":
            return kernels.prepare_sum, (*own, self.timesteps, levels, table, matrix, turned)
        if row[kernels.RATED]:
            return kernels.prepare_levels, (*own, levels)
        if row[kernels.LANED]:
            height = _whole(self.timesteps) + layer.spans[p]
            return kernels.prepare_lanes, (*own, height, *room.laned[p][i])
        return kernels.prepare, (*weights, top, unit, table, matrix, turned if i else self._not_turned)

    def _collection(self, p: int, i: int) -> tuple[int, tuple]:
        """The longest delay of layer i of candidate p, and what kernels.collect takes behind a width."""
        layer, views, gradients = self.stack.layers[i], self._views[i], self._gradients[i]
        one, span = np.float32(2**layer.fraction), layer.spans[p]
        to_weight = gradients["weight"].numpy()
        to_position = gradients["position"].numpy() if "position" in gradients else to_weight
        weights = views["weight"][p], views["position"][p]
        return span, (self._room.per_weight[p][i], *weights, span, one, to_weight[p], to_position[p])

    @torch.no_grad()
    def _read_parameters(self) -> None:
        """Thresholds, gains and leaks as the integers that they stand for."""
        for i, layer in enumerate(self.stack.layers):
            if layer.fires:
                threshold = layer.thresholds().numpy()[:, 0]
                self._threshold[:, i, : threshold.shape[1]] = threshold
                self._k[:, i, kernels.GAIN] = layer.power("gain").numpy().reshape(-1)
                leaks = layer.power("leak").numpy().reshape(-1)
                self._k[:, i, kernels.LEAK] = leaks * [model != "if" for model in layer.models]

    def _to_neurons(
        self, i: int, slopes: dict[str, np.ndarray], to_threshold: np.ndarray, to_k: np.ndarray
    ) -> None:
        """Gradients to threshold_j [P, widest], gain_k and leak_k [P, 2] of layer i, carried on to the
        parameters behind them, as autograd would through LayerStack.thresholds and .power."""
        layer, views = self.stack.layers[i], self._views[i]
        base, bound = (layer.buffers[name].numpy() for name in ("base", "bound"))
        value = np.rint(views["threshold"] * base)
        # A clamp passes what it leaves alone, torch.minimum half of what equals its bound.
        passed = (value >= 1) * np.where(value < bound - 1, 1.0, np.where(value == bound - 1, 0.5, 0.0))
        real = np.arange(value.shape[2]) < np.array([[n_out] for _, n_out in layer.sizes])[:, None]
        slopes["threshold"][:] = to_threshold[:, None, : value.shape[2]] * (base * passed * real)
        leaks = [model not in ("if", "izhikevich") for model in layer.models]
        for name, slope in (("gain", to_k[:, 0]), ("leak", to_k[:, 1] * leaks)):
            soft = np.exp2(views[name].astype(np.float64) + layer.fraction)
            slopes[name][:] = slope.reshape(-1, 1, 1) * soft * np.log(2)

    def _run(
        self, p: int, inputs: tuple[np.ndarray, ...], labels: np.ndarray, factor: float,
        to_threshold: np.ndarray, to_k: np.ndarray, scores: np.ndarray, fired: np.ndarray,
    ) -> tuple[float, float]:  # fmt: skip
        return kernels.run(
            *self._own[p], *inputs, self._down if self.ramp is None else self.ramp, labels, factor,
            self._room.block[p], self._down, *self._flat, to_threshold, to_k, scores, fired,
        )  # fmt: skip


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

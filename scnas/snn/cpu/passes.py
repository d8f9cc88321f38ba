"""CpuPass: gradients and scores of a population on a CPU, candidate by candidate, with the layout.

The parameters are those of PopulationStack, and so are the integers and, but for the order of
floating-point sums, the gradients: tests hold the two together.

Letters: P candidates, T steps, B samples, n_in and n_out of a layer.
"""

from typing import NamedTuple

import numpy as np
import torch

from scnas.snn.cpu import layout
from scnas.snn.cpu.layout import Buffers, Inputs, Population, Results
from scnas.snn.cpu.loss import judge
from scnas.snn.cpu.run import run
from scnas.snn.cpu.spikes import list_spikes, place_levels, sort_levels
from scnas.snn.cpu.vectors import FOUR, WIDTH
from scnas.snn.population import LayerStack, PopulationStack
from scnas.snn.reference.neurons import exact_dtype

# Constants that training leaves alone, by their place in the vector of the layout.
_FIELDS = {
    layout.DECAY: "decay_k",
    layout.BUMP: "bump_k",
    layout.A: "a_k",
    layout.B: "b_k",
    layout.D: "d_k",
    layout.REST: "v_rest",
    layout.RESET: "v_reset",
    layout.BOUND: "bound",
    layout.SCALE: "scale",
}
SHORT_FRACTION = 10  # up to which a product of 16 bits and a = 0.02 or b = 0.2 in Q(F) is below 2^24
CACHE_BYTES = 2**19  # what the activations of a block of samples may take, to stay near the core


class _Sizes(NamedTuple):
    """Elements of the flat buffers."""

    matrices: int = 0
    levels: int = 0
    forward: int = 0
    backward: int = 0
    states: int = 0
    lists: int = 0
    spare: int = 0
    masks: int = 0
    tiles: int = 0
    places: int = 0
    weights: int = 0


class _Room:
    """Buffers for one candidate of a population, large enough for each, and the plans of what lies where.

    layers: [P, layers] of layout.LAYER. block: [P], samples that are taken through all layers at a time.
    """

    def __init__(self, stack: PopulationStack, timesteps: int, rated: bool):
        self.layers = np.zeros((stack.count, len(stack.layers)), layout.LAYER)
        self.block = np.zeros(stack.count, np.int64)
        largest = _Sizes()
        for p in range(stack.count):
            plans = self.layers[p]
            for i, layer in enumerate(stack.layers):
                _plan(plans[i], stack, layer, p, timesteps, rated)
            self.block[p] = _block_of(plans, timesteps)
            largest = _Sizes(*map(max, largest, _placed(plans, timesteps, int(self.block[p]))))

        def room(size: int, kind: type = np.float32) -> np.ndarray:
            return _aligned(size + WIDTH**2, kind)  # the kernels take up to sixteen rows at a time

        self.buffers = Buffers(
            matrices=room(largest.matrices),
            transposed=room(largest.matrices),
            levels=room(largest.levels, np.int16),
            forward=room(largest.forward, np.int16),
            forward_at=room(largest.forward, np.int32),
            backward=room(largest.backward),
            backward_at=room(largest.backward, np.int32),
            states=room(largest.states),
            lists=room(largest.lists, np.int32),
            spare=room(largest.spare),
            masks=room(largest.masks, np.int16),
            tiles=room(largest.tiles),
            places=room(largest.places, np.int32),
            per_weight=room(largest.weights),
        )


def _plan(
    plan: np.void, stack: PopulationStack, layer: LayerStack, p: int, timesteps: int, rated: bool
) -> None:
    """Fill in what the plan of a layer of candidate p says of its shape and form. rated: inputs are
    levels."""
    sobol = layer.generators[p] == "sobol"
    plan["n_in"], plan["n_out"] = layer.sizes[p]
    plan["slices"], plan["streams"] = layer.spans[p] + 1, 1 if sobol else timesteps
    plan["rate_coded"] = layer.index == 0 and rated and sobol
    plan["fires"], plan["sobol"] = layer.fires, sobol
    plan["izhikevich"], plan["float64"] = layer.models[p] == "izhikevich", _needs_float64(layer, p)
    # Samples of rate-coded inputs are interleaved where those of the next layer are.
    hidden = layer.index > 0 or layer.spans[p] > 0
    if plan["rate_coded"]:
        hidden = len(stack.layers) > 1 and _can_interleave(stack.layers[1], p)
    plan["interleaved"] = hidden and _can_interleave(layer, p)


def _can_interleave(layer: LayerStack, p: int) -> bool:
    """Whether candidate p may have its samples interleaved in this layer."""
    return layer.fires and layer.generators[p] == "sobol"


def _block_of(plans: np.ndarray, timesteps: int) -> int:
    """Samples of a block of a candidate: as many as stay near the core."""
    bytes_each = 4 * layout.STATES * timesteps * int(plans["n_out"].sum())
    most = 1 if plans["interleaved"].any() or plans["rate_coded"].any() else 4
    return WIDTH * max(1, min(most, CACHE_BYTES // bytes_each // WIDTH))


def _placed(plans: np.ndarray, timesteps: int, block: int) -> _Sizes:
    """What the layers of a candidate take of the flat buffers, and in their plans where each begins."""
    at = dict.fromkeys(_Sizes._fields, 0)
    for plan in plans:
        for name, place in (
            ("at_matrix", "matrices"),
            ("at_weight", "weights"),
            ("at_state", "states"),
            ("at_list", "lists"),
            ("at_forward", "forward"),
            ("at_backward", "backward"),
        ):
            plan[name] = at[place]
        n_in, n_out, slices, streams = (int(plan[name]) for name in ("n_in", "n_out", "slices", "streams"))
        pieces = -(-n_out // WIDTH) * WIDTH
        height, length = _whole(timesteps) + slices - 1, timesteps * block
        state = flat = timesteps * (block + 1) * n_out
        if plan["interleaved"]:
            state = height * _whole(n_out) * WIDTH
        if plan["rate_coded"]:
            at["levels"] += slices * n_in * _pieces(n_out)
            at["spare"] = max(at["spare"], flat)
            at["masks"] = max(at["masks"], 2 * (n_in + 1 + timesteps) * FOUR)
        elif plan["interleaved"]:
            at["forward"] += n_in * _whole(n_out)
            at["backward"] += _whole(n_in) * n_out
            at["masks"] = max(at["masks"], n_in * height * WIDTH)
        if not plan["interleaved"]:
            at["matrices"] += slices * streams * n_in * n_out
        at["spare"] = max(at["spare"], _whole(timesteps) * _whole(n_in) * WIDTH, length * n_in)
        rows = 4 * WIDTH * length if plan["rate_coded"] else pieces * (length + (slices - 1) * block)
        at["tiles"] = max(at["tiles"], rows)
        at["places"] = max(at["places"], n_in * length)
        at["weights"] += slices * n_in * n_out
        at["states"] += layout.STATES * state
        at["lists"] += length * (n_out + 2)
    return _Sizes(**at)


def _aligned(size: int, kind: type) -> np.ndarray:
    """Zeros that begin with a line of the cache, 64 bytes: as many numbers are one access."""
    room: np.ndarray = np.zeros(size + 64, kind)
    return room[-room.ctypes.data % 64 // room.itemsize :][:size]


def _pieces(n: int) -> int:
    """n rounded up to whole pieces of prepare.prepare_levels."""
    return -(-n // FOUR) * FOUR


def _whole(n: int) -> int:
    """n rounded up to whole tiles of the layout."""
    return -(-n // layout.TILE) * layout.TILE


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
    def of(cls, layer: LayerStack) -> "_Fixed":
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

    def __init__(self, stack: PopulationStack, ramp: np.ndarray | None):
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
        results = self._run(x, labels, factors, softness, scores)
        stack.scale.grad = torch.from_numpy(results.to_factor).to(stack.scale.dtype)
        for i, layer in enumerate(stack.layers):
            if layer.fires:
                slopes = {name: gradient.numpy() for name, gradient in self._gradients[i].items()}
                self._to_neurons(i, slopes, results.to_threshold[:, i], results.to_k[:, i])
        return torch.from_numpy(results.losses)

    def scores(self, x: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        """Integer scores [P, B, n_classes], and spikes that each layer fired, [P, layers] float64."""
        stack = self.stack
        self._read_parameters()
        scores = np.empty((stack.count, len(x), stack.layers[-1].sizes[0][1]))
        fired = self._run(x, np.zeros(0, np.int64), np.ones(stack.count), 0.0, scores).fired
        return torch.from_numpy(scores), torch.from_numpy(fired).double()

    def judged(self, scores: torch.Tensor, labels: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        """Summed cross-entropies and numbers of right answers, both [P]; see TorchPass.judged."""
        losses, right = np.empty(self.stack.count), np.empty(self.stack.count, np.int64)
        factors = self.stack.factors().detach().numpy().astype(np.float64)
        judge(scores.numpy(), labels, factors, losses, right)
        return torch.from_numpy(losses), torch.from_numpy(right)

    # -- one batch ------------------------------------------------------------------------------

    def _inputs(self, x: np.ndarray) -> Inputs:
        """A batch as the kernels take it, the same for all candidates."""
        batch, n, timesteps = len(x), x.shape[2], self.timesteps
        order, starts = np.zeros((0, n), np.int32), np.zeros((0, timesteps + 1), np.int32)
        blocks = -(-batch // WIDTH)
        places, ends = np.zeros((blocks, n, WIDTH), np.int32), np.zeros((blocks, n), np.int32)
        active, counts = np.zeros((0, timesteps, n + 1), np.int32), np.zeros((0, timesteps), np.int32)
        if self.ramp is not None and self._room.layers[:, 0]["rate_coded"].any():
            order, starts = np.zeros((batch, n), np.int32), np.zeros((batch, timesteps + 1), np.int32)
            sort_levels(x[:, 0], timesteps, order, starts)
            place_levels(order, starts, places, ends)
        if (
            self.ramp is None
            or not self._room.layers[:, 0]["rate_coded"].all()
            or len(self.stack.layers) == 1
        ):
            spikes = x if self.ramp is None else (x > self.ramp[None, :, None]).astype(np.uint8)
            active = np.zeros((batch, timesteps, n + 1), np.int32)
            counts = np.zeros((batch, timesteps), np.int32)
            list_spikes(spikes, active, counts)
        ramp = self._down if self.ramp is None else self.ramp
        return Inputs(order, starts, places, ends, active, counts, ramp, self._down)

    def _open(self) -> None:
        """Tensors of all layers as arrays, and the constants that training leaves alone.

        k: [P, layers, 16]; threshold: [P, layers, widest]; noise: [P, layers, T]; float64.
        """
        stack = self.stack
        shape = (stack.count, len(stack.layers))
        self._k = np.zeros((*shape, layout.TOP + 1))
        self._threshold = np.zeros((*shape, self._widest))
        self._noise = np.zeros((*shape, self.timesteps))
        self._views: list[dict[str, np.ndarray]] = []
        self._rounded: list[np.ndarray] = [np.empty((0, 0))] * len(stack.layers)
        self._fixed = [_Fixed.of(layer) for layer in stack.layers]
        for i, layer in enumerate(stack.layers):
            views = {name: tensor.detach().numpy() for name, tensor in layer.tensors.items()}
            views["keep"] = layer.buffers["keep"].numpy()
            views.setdefault("position", views["weight"])
            self._views.append(views)
            one, k, models = float(2**layer.fraction), self._k[:, i], np.array(layer.models)
            k[:, layout.ONE], k[:, layout.C14] = one, round(1.4 * one)
            for column, name in _FIELDS.items():
                k[:, column] = layer.buffers[name].numpy().reshape(-1)
            k[models != "homeostatic_lif", layout.DECAY] = 0
            k[models != "homeostatic_lif", layout.BUMP] = 0
            self._noise[:, i] = layer.buffers["noise"].numpy() * (models == "stochastic_lif")[:, None]
            k[:, layout.EACH] = [2**layer.fraction // length for length in layer.lengths]
            k[:, layout.TOP] = layer.tops
        tables, at = [np.zeros(1, np.float32)], 1
        for i, layer in enumerate(stack.layers):
            for p, table in enumerate(layer.tables):
                self._room.layers[p, i]["at_table"] = at
                tables.append(table.reshape(-1))
                at += table.size
        self._population = Population(
            self._room.layers,
            self._k,
            self._threshold,
            self._noise,
            self._room.block,
            np.array([self._addresses_of(i) for i in range(len(stack.layers))]),
            np.array([views["weight"].shape[1:] for views in self._views]),
            np.concatenate(tables),
        )

    def _addresses_of(self, i: int) -> list[int]:
        """Where the tensors of layer i lie, in the order of layout.WEIGHT and those behind it; self._views
        and the gradients hold them there."""
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
                    ("gain", layout.GAIN, 1),
                    ("leak", layout.LEAK, fixed.leak_used),
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
    ) -> Results:
        """All candidates over a batch; see run.run."""
        count, depth = self._room.layers.shape
        results = Results(
            to_threshold=np.empty((count, depth, self._widest), np.float32),
            to_k=np.empty((count, depth, 2)),
            scores=scores,
            fired=np.zeros((count, depth), np.int64),
            losses=np.empty(count),
            to_factor=np.empty(count),
        )
        run(self._population, self._inputs(x), labels, factors, float(softness), self._room.buffers, results)
        return results


def _needs_float64(layer: LayerStack, p: int) -> bool:
    """Whether the neurons of candidate p need float64. Izhikevich's square does not, see cpu.neurons: then
    what is true of the other models is enough, with constants a and b that are short."""
    model = layer.models[p]
    short = True
    if model == "izhikevich":
        model = "lif"
        short = layer.words[p] <= 16 and layer.fraction <= SHORT_FRACTION
    exact = exact_dtype(model, layer.words[p], layer.fraction, layer.powers_of_two)
    return layer.fires and not (short and exact == torch.float32)

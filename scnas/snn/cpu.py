"""CpuPass: gradients and scores of a population on a CPU, candidate by candidate, with the kernels.

The parameters are those of PopulationStack, and so are the integers and, but for the order of
floating-point sums, the gradients: tests hold the two together.

Letters: P candidates, T steps, B samples, n_in and n_out of a layer.
"""

from typing import TYPE_CHECKING

import numpy as np
import torch

from scnas.snn import kernels
from scnas.snn.neurons import exact_dtype

if TYPE_CHECKING:
    from scnas.snn.population import LayerStack, PopulationStack

# Entries of the vector of constants that come from neurons.Constants, in the order of the kernels.
_FIELDS = (
    "leak_k", "gain_k", "decay_k", "bump_k", "a_k", "b_k", "d_k", "v_rest", "v_reset", "refractory",
    "bound", "scale",
)  # fmt: skip


class _Buffers:
    """Arrays that are handed out again and again: `take` gives a view of what is there."""

    def __init__(self):
        self._flat: dict[str, np.ndarray] = {}
        self._views: dict[tuple, np.ndarray] = {}

    def take(self, name: str, shape: tuple[int, ...], dtype: type = np.float32) -> np.ndarray:
        key = (name, shape)
        if key not in self._views:
            size = int(np.prod(shape))
            if name not in self._flat or self._flat[name].size < size:
                self._flat[name] = np.empty(size, dtype)
                self._views = {k: v for k, v in self._views.items() if k[0] != name}
            self._views[key] = self._flat[name][:size].reshape(shape)
        return self._views[key]


class CpuPass:
    """Works on the tensors of `stack`, whose gradients it fills in.

    Inputs are levels 0..T, [B, 1, n_inputs] uint8 with `ramp` = R_T(t), or spikes [B, T, n_inputs].
    """

    def __init__(self, stack: "PopulationStack", ramp: np.ndarray | None):
        self.stack, self.ramp = stack, ramp
        self.timesteps = stack.layers[0].timesteps
        self._buffers = _Buffers()
        self._no_ramp = np.zeros(0, np.int64)

    def gradients(self, x: np.ndarray, labels: np.ndarray, softness: float) -> torch.Tensor:
        """Mean cross-entropy of every candidate, [P]; the gradient of their sum goes into the tensors."""
        stack = self.stack
        stack_constants = [layer.neuron_constants() if layer.fires else None for layer in stack.layers]
        layers = [self._open(layer, c) for layer, c in zip(stack.layers, stack_constants, strict=True)]
        for layer in stack.layers:
            for name, tensor in layer.tensors.items():  # those of the neurons are added up by autograd below
                tensor.grad = torch.zeros_like(tensor) if name in ("weight", "position") else None
        losses, to_scale = np.empty(stack.count), np.empty(stack.count)
        factors = stack.factors().detach().numpy()
        inputs = self._inputs(x)
        for p in range(stack.count):
            kept = self._forward(p, layers, inputs, training=True)
            last = kept[-1]
            raw = last["spikes"] if stack.layers[-1].fires else last["current"]
            gradient = self._buffers.take(f"gradient{len(layers) - 1}", last["current"].shape)
            losses[p], to_scale[p] = kernels.readout(raw, labels, factors[p], gradient)
            self._backward(p, layers, kept, softness)
        stack.scale.grad = torch.from_numpy(to_scale).to(stack.scale.dtype)
        for constants, opened in zip(stack_constants, layers, strict=True):
            if constants is not None:
                torch.autograd.backward(
                    [constants.threshold, constants.gain_k, constants.leak_k],
                    [torch.from_numpy(opened[name]) for name in ("to_threshold", "to_gain", "to_leak")],
                )
        return torch.from_numpy(losses)

    def scores(self, x: np.ndarray) -> tuple[torch.Tensor, np.ndarray]:
        """Integer scores [P, B, n_classes], and spikes that each layer fired, [P, layers]."""
        stack = self.stack
        with torch.no_grad():
            layers = [
                self._open(layer, layer.neuron_constants() if layer.fires else None) for layer in stack.layers
            ]
        inputs = self._inputs(x)
        scores, fired = [], np.zeros((stack.count, len(layers)))
        for p in range(stack.count):
            kept = self._forward(p, layers, inputs, training=False)
            raw = kept[-1]["spikes"] if stack.layers[-1].fires else kept[-1]["current"]
            scores.append(torch.from_numpy(raw.sum(1, dtype=np.float64)))
            for i, layer in enumerate(stack.layers):
                fired[p, i] = kept[i]["spikes"].sum(dtype=np.int64) if layer.fires else 0
        return torch.stack(scores), fired

    # -- one batch ------------------------------------------------------------------------------

    def _inputs(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """The batch as it came, and as spikes where it came as levels and a candidate needs spikes."""
        if self.ramp is None:
            return x, x
        if "lfsr" in self.stack.layers[0].generators:
            return x, (x > self.ramp[None, :, None]).astype(np.uint8)
        return x, None

    def _open(self, layer: "LayerStack", constants: object) -> dict:
        """The tensors of a layer as arrays, with room for what the way back adds up."""
        opened = {name: tensor.detach().numpy() for name, tensor in layer.tensors.items()}
        opened["keep"] = layer.buffers["keep"].numpy()
        if "position" not in opened:
            opened["position"] = opened["weight"]
        if constants is not None:
            columns = [getattr(constants, name).detach().numpy().reshape(-1) for name in _FIELDS]
            one = float(2**layer.fraction)
            columns += [np.full(layer.count, one), np.full(layer.count, round(1.4 * one))]
            table = np.stack(columns, 1)
            models = np.array(layer.models)
            table[models == "if", kernels.LEAK] = 0
            table[np.ix_(models != "homeostatic_lif", (kernels.DECAY, kernels.BUMP))] = 0
            opened["k"] = {dtype: table.astype(dtype) for dtype in (np.float32, np.float64)}
            limits = constants.threshold.detach().numpy()
            opened["limits"] = {dtype: limits.astype(dtype) for dtype in (np.float32, np.float64)}
            noise = constants.noise.numpy() * (models == "stochastic_lif")[:, None]
            opened["noise"] = {dtype: noise.astype(dtype) for dtype in (np.float32, np.float64)}
            opened["to_threshold"] = np.zeros(limits.shape)
            opened["to_gain"], opened["to_leak"] = np.zeros((2, layer.count, 1, 1))
        else:
            table = np.zeros((layer.count, kernels.C14 + 1), np.float32)
            table[:, kernels.BOUND] = layer.buffers["bound"].numpy().reshape(-1)
            table[:, kernels.ONE] = 2**layer.fraction
            opened["k"] = {np.float32: table}
        return opened

    def _forward(self, p: int, layers: list[dict], inputs: tuple, training: bool) -> list[dict]:
        """Everything the layers of candidate p did with a batch."""
        kept = []
        x, as_spikes = inputs
        for i, (layer, opened) in enumerate(zip(self.stack.layers, layers, strict=True)):
            n_in, n_out = layer.sizes[p]
            rated = i == 0 and self.ramp is not None and layer.generators[p] == "sobol"
            source = (x if rated else as_spikes) if i == 0 else kept[-1]["spikes"]
            batch = len(source)
            slices, streams = layer.spans[p] + 1, self.timesteps if layer.generators[p] == "lfsr" else 1
            take = self._buffers.take
            matrix = take(f"matrix{i}", (slices, streams, n_in, n_out))
            needs_way_back = training and i > 0
            turned = take(f"turned{i}", (slices, streams, n_out, n_in) if needs_way_back else (0, 1, 1, 1))
            kernels.prepare(
                opened["weight"][p], opened["keep"][p], opened["position"][p],
                np.float32(layer.tops[p]), np.float32(2**layer.fraction // layer.lengths[p]),
                layer.tables[p], matrix, turned,
            )  # fmt: skip
            shape = (batch, self.timesteps, n_out)
            here = {
                "x": source, "rated": rated, "matrix": matrix, "turned": turned, "index": i,
                "current": take(f"current{i}", shape), "margin": take(f"margin{i}", shape),
                "before": take(f"before{i}", shape), "spikes": take(f"spikes{i}", shape, np.uint8),
                "flags": take(f"flags{i}", shape, np.uint8),
            }  # fmt: skip
            here["dtype"] = self._dtype(layer, p)
            izhikevich = layer.models[p] == "izhikevich"
            k = opened["k"][here["dtype"]][p]
            if layer.fires:
                limit, noise = opened["limits"][here["dtype"]][p, 0], opened["noise"][here["dtype"]][p]
            else:
                limit = noise = k[:0]
            kernels.forward(
                source, rated, self._ramp_of(rated), matrix, layer.fires, izhikevich, limit, noise, k,
                here["current"], here["spikes"], here["margin"], here["before"], here["flags"],
            )  # fmt: skip
            kept.append(here)
        return kept

    def _backward(self, p: int, layers: list[dict], kept: list[dict], softness: float) -> None:
        for i in range(len(layers) - 1, -1, -1):
            layer, opened, here = self.stack.layers[i], layers[i], kept[i]
            n_in, n_out = layer.sizes[p]
            take = self._buffers.take
            gradient = take(f"gradient{i}", here["current"].shape)
            back = take(f"gradient{i - 1}", (*gradient.shape[:2], n_in)) if i else take("none", (0, 1, 1))
            per_weight = take(f"per_weight{i}", (layer.spans[p] + 1, n_in, n_out))
            to_threshold = take(f"to_threshold{i}", (n_out,))
            izhikevich = layer.models[p] == "izhikevich"
            k = opened["k"].get(np.float32)[p]
            gain, leak = kernels.backward(
                here["x"], here["rated"], self._ramp_of(here["rated"]), here["turned"], layer.fires,
                izhikevich, k, gradient, here["current"], here["spikes"], here["margin"], here["before"],
                here["flags"], per_weight, to_threshold, back,
            )  # fmt: skip
            if layer.fires:
                opened["to_threshold"][p, 0, :n_out] = to_threshold
                opened["to_gain"][p] = gain
                opened["to_leak"][p] = 0 if layer.models[p] in ("if", "izhikevich") else leak
            to_weight = layer.tensors["weight"].grad[p].numpy()
            position = layer.tensors.get("position")
            kernels.collect(
                per_weight, opened["weight"][p], opened["position"][p], layer.spans[p],
                np.float32(max(0.5, layer.spans[p] * softness / 2)), np.float32(2**layer.fraction),
                to_weight, to_weight if position is None else position.grad[p].numpy(),
            )  # fmt: skip

    def _ramp_of(self, rated: bool) -> np.ndarray:
        return self.ramp if rated else self._no_ramp

    def _dtype(self, layer: "LayerStack", p: int) -> type:
        if not layer.fires:
            return np.float32
        exact = exact_dtype(layer.models[p], layer.words[p], layer.fraction, layer.powers_of_two)
        return np.float32 if exact == torch.float32 else np.float64

"""A plain torch.nn.Module from a network.json: exact inference, and nothing of the search.

Letters: B samples, T steps, n neurons of a layer, M the largest magnitude.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from scnas.contract import Refused
from scnas.snn.models import model_of
from scnas.snn.network import Layer, Network
from scnas.snn.reference.neurons import Constants, scan
from scnas.snn.streams import noise_sequence, ones_table, rate_encode


@dataclass(frozen=True)
class LayerTrace:
    """What a layer did, integers. current: [B, T, n]. spikes, membrane: [B, T, n]; zeros in a last
    layer that only integrates."""

    current: np.ndarray
    spikes: np.ndarray
    membrane: np.ndarray


class IntegerLayer(nn.Module):
    """One layer in float64, which holds every integer of it exactly.

    signs, magnitudes, delays: buffers [n_in, n_out]. ones: [steps or 1, M + 1], the ones in the stream of
    every magnitude, in current units. The matrix of a step is made when it is needed: those of all steps
    and delays at once are more than any machine holds for a network.json of a few megabytes.
    """

    def __init__(self, layer: Layer, network: Network, fires: bool):
        super().__init__()
        self.neuron, self.fraction, self.fires = layer.neuron, network.fraction, fires
        self.taps, self.n_out = layer.delays_in_use, layer.n_out
        timesteps, one = network.timesteps, 2**network.fraction
        table = ones_table(layer.generator, layer.length, timesteps, layer.seed) * (one // layer.length)
        table = table[:1] if layer.generator == "sobol" else table
        self.register_buffer("ones", torch.tensor(table, dtype=torch.float64))
        self.register_buffer("signs", torch.tensor(np.sign(layer.weights), dtype=torch.float64))
        self.register_buffer("magnitudes", torch.tensor(np.abs(layer.weights), dtype=torch.int64))
        self.register_buffer("delays", torch.tensor(layer.delays, dtype=torch.int64))

        def number(value: float) -> Tensor:
            return torch.full((1, 1, 1), value, dtype=torch.float64)

        k = layer.constants
        noise = np.zeros(timesteps)
        if k["noise_k"]:  # 0 in a neuron that hears none
            noise = (noise_sequence(layer.noise_seed, timesteps) * k["noise_k"]) >> network.fraction
        constants = Constants(
            threshold=torch.tensor(layer.threshold, dtype=torch.float64)[None, None],
            bound=number(2 ** (network.word - 1)),
            noise=torch.tensor(noise, dtype=torch.float64)[None],
            scale=number(1.0),
            **{name: number(k[name]) for name in Constants._fields if name in k},
            own={name: number(k[name]) for name in model_of(layer.neuron).constants},
        )
        for name, value in constants.named().items():
            self.register_buffer(name, value)

    def currents(self, spikes: Tensor) -> Tensor:
        """I of every step, [B, T, n_out] float64, from spikes [B, T, n_in] float64."""
        steps = spikes.shape[1]
        total = spikes.new_zeros((*spikes.shape[:2], self.n_out))
        for t, ones in enumerate(self.ones):
            streams = self.signs * ones[self.magnitudes]
            for d in self.taps:
                matrix = streams if len(self.taps) == 1 else torch.where(self.delays == d, streams, 0.0)
                # A delayed spike meets the stream of the step in which it arrives.
                if len(self.ones) == 1 and d < steps:
                    total[:, d:] += spikes[:, : steps - d] @ matrix
                elif len(self.ones) > 1 and d <= t:
                    total[:, t] += spikes[:, t - d] @ matrix
        return total.clamp(-self.bound, self.bound - 1)

    def forward(self, spikes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Currents, spikes and membranes, each [B, T, n_out]."""
        current = self.currents(spikes)
        if not self.fires:
            return current, torch.zeros_like(current), torch.zeros_like(current)
        own = {name: getattr(self, name) for name in model_of(self.neuron).constants}
        constants = Constants(*(getattr(self, name) for name in Constants._fields[:-1]), own)
        fired, membrane = scan(
            self.neuron, current.transpose(0, 1)[None], constants, self.fraction, membranes=True
        )
        return current, fired[0].transpose(0, 1), membrane[0].transpose(0, 1)


class IntegerNetwork(nn.Module):
    """The network of a network.json as a module: module(x) -> scores [B, n_classes] float64, integers.

    x: values [B, n_inputs] in 0..1 for the `rate` encoder, spikes [B, T, n_inputs] in {0, 1} for
    `events`; arrays or tensors. The class of a sample is the lowest index with the highest score.
    network: the Network it computes.
    """

    def __init__(self, network: Network):
        super().__init__()
        self.network = network
        self.layers = nn.ModuleList(
            IntegerLayer(layer, network, network.fires(i)) for i, layer in enumerate(network.layers)
        )

    def encode(self, x: Tensor | np.ndarray) -> Tensor:
        """Input spikes [B, T, n_inputs] float64; ValueError if x does not fit the network."""
        x = np.asarray(x.detach().cpu() if isinstance(x, Tensor) else x)
        net = self.network
        if net.encoder == "rate":
            if x.ndim != 2 or x.shape[1] != net.n_inputs:
                raise Refused(f"x must have shape [samples, {net.n_inputs}], got {list(x.shape)}")
            if not np.all((x >= 0) & (x <= 1)):
                raise Refused("x must lie in 0..1 for the rate encoder")
            x = rate_encode(x, net.timesteps)
        else:
            if x.ndim != 3 or x.shape[1:] != (net.timesteps, net.n_inputs):
                raise Refused(
                    f"x must have shape [samples, {net.timesteps}, {net.n_inputs}], got {list(x.shape)}"
                )
            if not np.all((x == 0) | (x == 1)):
                raise Refused("x must be 0 or 1 for the events encoder")
        return torch.tensor(x, dtype=torch.float64, device=self.layers[0].signs.device)

    @torch.no_grad()
    def run(self, x: Tensor | np.ndarray) -> tuple[Tensor, list[tuple[Tensor, Tensor, Tensor]]]:
        """Scores [B, n_classes] and (currents, spikes, membranes), each [B, T, n], of every layer."""
        spikes = self.encode(x)
        layers = []
        for layer in self.layers:
            layers.append(layer(spikes))
            spikes = layers[-1][1]
        current, fired, _ = layers[-1]
        return (current if self.network.readout == "membrane" else fired).sum(1), layers

    def forward(self, x: Tensor | np.ndarray) -> Tensor:
        return self.run(x)[0]

    def predict(self, x: Tensor | np.ndarray) -> Tensor:
        """Class of every sample, [B] int64: the lowest index among the highest scores."""
        scores = self.run(x)[0]
        index = torch.arange(scores.shape[1], device=scores.device)
        best = scores == scores.amax(1, keepdim=True)
        return torch.where(best, index, scores.shape[1]).amin(1)

    def spikes(self, x: Tensor | np.ndarray) -> list[np.ndarray]:
        """Spikes of every layer, each [B, T, n] uint8; zeros in a last layer that only integrates."""
        return [fired.cpu().numpy().astype(np.uint8) for _, fired, _ in self.run(x)[1]]

    def trace(self, x: Tensor | np.ndarray) -> list[LayerTrace]:
        """Currents, spikes and membranes of every layer as int64 arrays [B, T, n]."""
        return [
            LayerTrace(*(value.cpu().numpy().astype(np.int64) for value in layer)) for layer in self.run(x)[1]
        ]


def load_network(path: str | Path) -> IntegerNetwork:
    """The module of a network.json; ValueError, one line, if the file is missing or not a network."""
    return IntegerNetwork(Network.load(path))

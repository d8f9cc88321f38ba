"""Many networks of one depth, stacked: their parameters, one exact forward pass, their export.

Letters: P candidates, T steps, B samples, n_in and n_out of a layer padded to the widest candidate.
The forward pass is the integer network of SEMANTICS.md; the gradient goes through the real weights
behind it. Padding never fires, never counts and never learns.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from scnas.randomness import integer, rng
from scnas.snn import derive
from scnas.snn.fusion import fuses
from scnas.snn.models import Format, model_of
from scnas.snn.network import Layer, Network
from scnas.snn.reference.neurons import Constants, Part, exact_dtype, together
from scnas.snn.reference.operations import REFERENCE, Operations
from scnas.snn.reference.synapses import (
    Given,
    Kind,
    Synapses,
    exact_in_bf16,
    operand_dtype,
    stream_matrix,
    sums_up,
)
from scnas.snn.streams import max_weight, noise_sequence, ones_table
from scnas.space import Architecture

WEIGHT_SPREAD = 0.15  # standard deviation of initial weights, as a share of the largest
RATE_GUESS = 0.25  # spikes per input and step that the initial gain assumes


class _Round(torch.autograd.Function):
    """Rounding, straight through which the gradient goes."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return torch.round(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient


def padded(sizes: Sequence[tuple[int, int]], index: int, depth: int, step: int) -> tuple[int, int]:
    """Inputs and neurons that layer `index` of `depth` has room for, where candidates have `sizes`: the most,
    of hidden neurons a multiple of `step`."""
    n_in, n_out = (max(size[axis] for size in sizes) for axis in (0, 1))
    return (
        -(-n_in // step) * step if index > 0 else n_in,
        -(-n_out // step) * step if index < depth - 1 else n_out,
    )


class LayerStack:
    """Layer `index` of every candidate: parameters, masks, and the integers made of them.

    weight: [P, n_in, n_out] in -1..1, a share of M. threshold: [P, 1, n_out], a multiple of `base`.
    gain, leak: [P, 1, 1], base-2 logarithms. position: [P, n_in, n_out] real delays, or None.
    real: [P, n_in, n_out], where a synapse is no padding. keep: the same, less what was pruned.
    """

    def __init__(
        self,
        architectures: Sequence[Architecture],
        index: int,
        seed: int,
        powers_of_two: bool,
        operations: Operations = REFERENCE,
    ):
        """operations: what it is computed with, on the device that it is brought to."""
        self.index, self.powers_of_two, self.operations = index, powers_of_two, operations
        self.sizes = [a.layer_sizes[index] for a in architectures]
        self.models = [a.neuron_types[index] for a in architectures]
        self.generators = [a.generators[index] for a in architectures]
        self.lengths = [a.bitstream_lengths[index] for a in architectures]
        self.fires = architectures[0].fires(index)
        self.fraction, self.timesteps = architectures[0].fraction, architectures[0].timesteps
        self.words = [a.word for a in architectures]
        self.keys = [a.training_key.name for a in architectures]
        self.kept = [a.kept_synapses[index] for a in architectures]
        self.sparse = any(kept < a * b for kept, (a, b) in zip(self.kept, self.sizes, strict=True))
        self.tops = [max_weight(g, n) for g, n in zip(self.generators, self.lengths, strict=True)]
        self.spans = [a.delay_ranges[index] for a in architectures]
        # Candidates whose matrices can be held alike are multiplied together. One whose currents must be
        # known keeps those of all: a kind more is a product more.
        summed = not self.fires and all(
            sums_up(generator, n_in, self.timesteps, self.fraction, word)
            for generator, (n_in, _), word in zip(self.generators, self.sizes, self.words, strict=True)
        )
        self.operands = [
            Kind(generator, exact_in_bf16(length), summed)
            for generator, length in zip(self.generators, self.lengths, strict=True)
        ]
        self.span, self.word = max(self.spans), max(self.words)
        self.seeds = [integer(seed, "generator", key, index) for key in self.keys]
        self.noise_seeds = [integer(seed, "noise", key, index) for key in self.keys]
        self.count = count = len(architectures)
        n_in, n_out = padded(self.sizes, index, architectures[0].n_layers, operations.width_step)
        one = 2**self.fraction

        weight = np.zeros((count, n_in, n_out), dtype=np.float32)
        position = np.zeros((count, n_in, n_out), dtype=np.float32)
        real = np.zeros((count, n_in, n_out), dtype=bool)
        for p, (a, b) in enumerate(self.sizes):
            dice = rng(seed, "weights", self.keys[p], index)
            weight[p, :a, :b] = (dice.standard_normal((a, b)) * WEIGHT_SPREAD).clip(-1, 1)
            if self.spans[p]:
                position[p, :a, :b] = dice.random((a, b)) * self.spans[p]
            real[p, :a, :b] = True
        starts = [
            model_of(model).start(Format(word, self.fraction))
            for model, word in zip(self.models, self.words, strict=True)
        ]
        self.constants = [
            dict.fromkeys(derive.constants_of(model_of(model)), 0) | dict(start.constants)
            for model, start in zip(self.models, starts, strict=True)
        ]
        # Of models that were registered from outside the package.
        self.own = dict.fromkeys(name for model in self.models for name in model_of(model).constants)
        half = np.array([2 ** (word - 1) for word in self.words])
        base = np.array([start.threshold for start in starts])

        def column(values: ArrayLike, dtype: torch.dtype = torch.float32) -> Tensor:
            return torch.tensor(np.asarray(values, dtype=np.float64), dtype=dtype).view(count, 1, 1)

        # A gain under which an average input of `RATE_GUESS` drives a neuron about to its threshold.
        fan_in = np.array([max(1.0, kept / b) for kept, (a, b) in zip(self.kept, self.sizes, strict=True)])
        drive = WEIGHT_SPREAD * np.sqrt(fan_in * RATE_GUESS) * one
        target = np.array([float(start.target) for start in starts])
        self.gain_range = (
            column(-np.full(count, self.fraction)),
            column(np.array(self.words) - 2 - self.fraction),
        )
        self.leak_range = (
            column(-np.full(count, self.fraction)),
            column(np.minimum(0, np.array(self.words) - 2 - self.fraction)),
        )
        self.tensors = {
            "weight": torch.tensor(weight),
            "threshold": torch.ones(count, 1, n_out),
            "gain": column(np.log2(target / drive)).clamp(*self.gain_range),
            "leak": column(np.full(count, -2.0)).clamp(*self.leak_range),
        }
        if any(self.spans):
            self.tensors["position"] = torch.tensor(position)
        self.tables = [self._table(p) for p in range(count)]
        # Made once on the device, since making one waits for it: members of parts, tables of lfsr layers.
        self._members: dict[str | tuple, list[tuple]] = {}
        self._orders: dict[str | tuple, Tensor] = {}
        self._lookups: dict[tuple, Tensor] = {}
        self.buffers = {
            "real": torch.tensor(real),
            "keep": torch.tensor(real),
            "limit": column(self.spans),
            "magnitudes": column(self.tops),
            "units": column(one / np.array(self.tops)),
            "bound": column(half, torch.float64),
            "base": column(base, torch.float64),
            "noise": torch.tensor(self._noise(), dtype=torch.float64),
            "neurons": torch.tensor(real.any(1, keepdims=True)),
            "refractory": torch.zeros(count, 1, 1, dtype=torch.float64),
            **{
                name: column([c[name] for c in self.constants], torch.float64)
                for name in ("decay_k", "bump_k", "a_k", "b_k", "d_k", "v_rest", "v_reset")
            },
            "scale": column([start.scale for start in starts], torch.float64),
            **{name: column([c.get(name, 0) for c in self.constants], torch.float64) for name in self.own},
        }

    def _table(self, p: int) -> np.ndarray:
        """Ones of every magnitude in current units, [T, M + 1] float32; empty for a sobol layer, whose
        streams hold exactly w ones."""
        if self.generators[p] == "sobol":
            return np.zeros((0, 0), np.float32)
        ones = ones_table("lfsr", self.lengths[p], self.timesteps, self.seeds[p])
        return (ones * (2**self.fraction // self.lengths[p])).astype(np.float32)

    def _noise(self) -> np.ndarray:
        return np.array(
            [
                noise_sequence(seed, self.timesteps) * c["noise_k"] >> self.fraction
                for seed, c in zip(self.noise_seeds, self.constants, strict=True)
            ]
        )

    def to(self, device: torch.device) -> None:
        self.tensors = {name: t.to(device).requires_grad_() for name, t in self.tensors.items()}
        self.buffers = {name: t.to(device) for name, t in self.buffers.items()}
        self.gain_range = self.gain_range[0].to(device), self.gain_range[1].to(device)
        self.leak_range = self.leak_range[0].to(device), self.leak_range[1].to(device)
        self._members, self._orders, self._lookups = {}, {}, {}

    # -- integers -------------------------------------------------------------------------------

    @torch.no_grad()
    def integer_weights(self) -> Tensor:
        """Signed magnitudes w, [P, n_in, n_out], 0 where pruned or padded."""
        return torch.round(self.tensors["weight"] * self.buffers["magnitudes"]) * self.buffers["keep"]

    def thresholds(self) -> Tensor:
        """[P, 1, n_out] float64 integers, 1..2^(W-1) - 1, straight through the rounding."""
        value = _Round.apply(self.tensors["threshold"].double() * self.buffers["base"])
        return torch.minimum(value.clamp(min=1), self.buffers["bound"] - 1)

    def power(self, name: str) -> Tensor:
        """gain_k or leak_k, [P, 1, 1] float64 integers: 2^F times a power of two, or rounded to Q(F)."""
        exponent = self.tensors[name].double() + self.fraction
        soft = torch.exp2(exponent)
        hard = torch.round(torch.exp2(torch.round(exponent) if self.powers_of_two else exponent))
        return hard.detach() + (soft - soft.detach())

    def neuron_constants(self) -> Constants:
        b, integers = self.buffers, self.operations.learned
        if integers is not None and self.powers_of_two:
            learned = [self.tensors[name] for name in ("threshold", "gain", "leak")]
            threshold, gain_k, leak_k = integers(*learned, b["base"], b["bound"], b["neurons"], self.fraction)
        else:
            # Noise can drive a padded neuron over any threshold but this.
            threshold = torch.where(b["neurons"], self.thresholds(), math.inf)
            gain_k, leak_k = self.power("gain"), self.power("leak")
        fixed = {name: b[name] for name in Constants._fields if name in b}
        own = {name: b[name] for name in self.own}
        return Constants(threshold=threshold, gain_k=gain_k, leak_k=leak_k, **fixed, own=own)

    # -- forward --------------------------------------------------------------------------------

    def forward(self, spikes: Tensor, softness: float | Tensor) -> Tensor:
        """Spikes, [P, T, B, n_out] as the input spikes [P or 1, T, B, n_in]; where the layer only integrates,
        its currents, or where they need not be known one by one their sum, [P, 1, B, n_out].

        softness: how the gradient sees a delay, from 1 (half the range of the layer at once) to 0 (half a
        step).
        """
        parts = self._parts("operands", self.operands)
        constants = self.neuron_constants() if self.fires else None
        outs = [self._part(kind, members, constants, spikes, softness) for kind, members in parts]
        return together(outs, self._orders["operands"])

    def _parts(self, name: str | tuple, of: Sequence) -> list[tuple]:
        """The values in `of`, one for each candidate, each with the candidates that have it, [Q] int64."""
        if name not in self._members:
            device = self.tensors["weight"].device
            self._members[name] = [
                (value, torch.tensor([p for p, other in enumerate(of) if other == value], device=device))
                for value in dict.fromkeys(of)
            ]
            self._orders[name] = torch.argsort(torch.cat([members for _, members in self._members[name]]))
        return self._members[name]

    def _part(
        self,
        kind: Kind,
        members: Tensor,
        constants: Constants | None,
        spikes: Tensor,
        softness: float | Tensor,
    ) -> Tensor:
        """What forward returns, of the candidates of one kind; their sum over the steps, with one step, where
        nothing else is asked for."""

        def pick(x: Tensor) -> Tensor:
            return x if len(members) == self.count else x.index_select(0, members)

        shared, operations, layer = len(spikes) == 1, self.operations, None
        n_in, n_out = self.tensors["weight"].shape[1:]
        if self.fires and fuses(kind, n_in, n_out, self.span, shared):
            layer = operations.layer
        dtype = operand_dtype(layer is not None or operations.bf16, kind.exact)
        weights, one = pick(self.tensors["weight"]), float(2**self.fraction)
        positions = pick(self.tensors["position"]) if "position" in self.tensors else None
        if kind.generator == "sobol":
            entries = operations.matrices(
                weights.detach(),
                pick(self.buffers["keep"]),
                pick(self.buffers["magnitudes"]),
                pick(self.buffers["units"]),
                None if positions is None else positions.detach(),
                min(self.span, self.timesteps - 1) + 1,
                dtype,
                shared and layer is None,
            )
        else:
            tables = self._tables(kind, members)
            entries = stream_matrix(pick(self.integer_weights()), tables, dtype, shared, operations.fill)
        widths = (self.buffers["limit"] * softness / 2).clamp(min=0.5) if self.span else self.buffers["limit"]
        given = Given(
            weights,
            positions,
            entries,
            pick(self.buffers["limit"]),
            pick(widths),
            one,
            self.span,
            kind.generator != "sobol",
        )
        spikes = spikes if shared else pick(spikes)
        if constants is None:
            current = Synapses.apply(spikes, weights, positions, given, kind.summed, operations.collect)
            if kind.summed:
                return current
            half = pick(self.buffers["bound"]).float()[:, None]
            return current.clamp(-half, half - 1)
        if len(members) < self.count:
            constants = constants.select(members)
        parts = self._neurons(kind)
        if layer is not None:
            return layer(spikes, given, constants, parts)
        current = Synapses.apply(spikes, weights, positions, given, False, operations.collect)
        return operations.scan(current, constants, parts, self.fraction, False)

    def _neurons(self, kind: Kind) -> list[Part]:
        """The models of the candidates of a kind, each with its places among them."""
        models = [model for model, other in zip(self.models, self.operands, strict=True) if other == kind]
        return [
            (model, places, exact_dtype(model, self.word, self.fraction, self.powers_of_two))
            for model, places in self._parts(("models", kind), models)
        ]

    def _tables(self, kind: Kind, members: Tensor) -> Tensor:
        """Ones of every magnitude in current units of lfsr layers, [Q, T, 257]."""
        if kind not in self._lookups:
            own = np.array([self.tables[p] for p in members.tolist()])
            self._lookups[kind] = torch.tensor(own, device=members.device)
        return self._lookups[kind]

    # -- upkeep ---------------------------------------------------------------------------------

    def bounds(self, name: str) -> tuple[Tensor, Tensor]:
        """The range of a parameter, from..to, each [P or 1, 1, 1]."""
        limit = self.buffers["limit"]
        fixed = {"weight": (-1.0, 1.0), "threshold": (1e-3, 8.0)}
        if name in fixed:
            low, high = fixed[name]
            return limit.new_full((1, 1, 1), low), limit.new_full((1, 1, 1), high)
        return {"gain": self.gain_range, "leak": self.leak_range}.get(name, (torch.zeros_like(limit), limit))

    @torch.no_grad()
    def clamp(self) -> None:
        """Parameters back into their ranges after an optimiser step."""
        for name, tensor in self.tensors.items():
            low, high = self.bounds(name)
            torch.minimum(torch.maximum(tensor, low), high, out=tensor)

    @torch.no_grad()
    def on_host(self) -> "OnHost":
        """What export needs of all candidates, brought from the device at once."""
        weight, keep = self.tensors["weight"].cpu().numpy(), self.buffers["keep"].cpu().numpy()
        position = self.tensors["position"].cpu().numpy() if "position" in self.tensors else None
        if not self.fires:
            return OnHost(weight, keep, position)
        c = self.neuron_constants()  # the very numbers that spikes come from
        learned = (x.cpu().numpy()[:, 0] for x in (c.threshold, c.gain_k, c.leak_k))
        return OnHost(weight, keep, position, *learned)

    def export(self, p: int, architecture: Architecture, host: "OnHost") -> Layer:
        """The integer layer of candidate p; mapping, lanes and units come from `architecture`."""
        a, b = self.sizes[p]
        index, model, own = self.index, self.models[p], (p, slice(a), slice(b))
        # As integer_weights and the matrices have them: products with a power of two, to the nearest, even.
        weights = (np.rint(host.weight[own] * np.float32(self.tops[p])) * host.keep[own]).astype(np.int64)
        delays = np.zeros_like(weights)
        if host.position is not None:
            delays = np.rint(host.position[own]).astype(np.int64)
        values = dict(self.constants[p])
        threshold, used = np.zeros(b, dtype=np.int64), frozenset[str]()
        if host.threshold is not None and host.gain_k is not None and host.leak_k is not None:  # it fires
            values["leak_k"], values["gain_k"] = int(host.leak_k[p, 0]), int(host.gain_k[p, 0])
            threshold = host.threshold[p, :b].astype(np.int64)
            used = derive.used_constants(model_of(model))
        return Layer(
            neuron=model,
            generator=self.generators[p],
            length=self.lengths[p],
            seed=self.seeds[p],
            noise_seed=self.noise_seeds[p],
            mapping=architecture.mappings[index],
            lanes=architecture.lanes[index],
            weights=weights,
            delays=np.where(weights != 0, delays, 0),
            threshold=threshold,
            constants={k: values[k] if k in used else 0 for k in derive.constants_of(model_of(model))},
            units=architecture.units[index],
        )


class OnHost(NamedTuple):
    """Of a layer of all candidates what its synapses learn, see LayerStack, position None without delays;
    where it fires thresholds [P, n_out], gain_k and leak_k [P, 1], integers in Q(F) held in float64."""

    weight: np.ndarray
    keep: np.ndarray
    position: np.ndarray | None
    threshold: np.ndarray | None = None
    gain_k: np.ndarray | None = None
    leak_k: np.ndarray | None = None


class PopulationStack:
    """Candidates of one depth, number of steps, fraction and readout, trained as one network.

    scale: [P], logarithm of what turns a score into a logit; it is no part of the network.
    """

    SYNAPTIC = ("weight", "position")  # what a layer that only integrates trains

    def __init__(
        self,
        architectures: Sequence[Architecture],
        seed: int,
        device: torch.device,
        powers_of_two: bool = True,
        operations: Operations = REFERENCE,
    ):
        """operations: what it is computed with on the device."""
        first = architectures[0]
        self.architectures, self.count = list(architectures), len(architectures)
        self.readout, self.fraction = first.readout, first.fraction
        self.operations = operations
        self.layers = [
            LayerStack(architectures, i, seed, powers_of_two, operations) for i in range(first.n_layers)
        ]
        for layer in self.layers:
            layer.to(device)
        fan_in = torch.tensor([max(1.0, a.kept_synapses[-1] / a.n_outputs) for a in architectures])
        spread = first.timesteps * WEIGHT_SPREAD * torch.sqrt(fan_in * RATE_GUESS)
        # A score is a sum of T currents: exact in float32 below 2^24.
        largest = max(min(2 ** (a.word - 1), a.layer_sizes[-1][0] * 2**a.fraction) for a in architectures)
        self.score_dtype = torch.float32 if first.timesteps * largest < 2**24 else torch.float64
        self.scale = (-torch.log(spread)).to(device).requires_grad_()

    @property
    def parameters(self) -> dict[str, list[Tensor]]:
        """Trained tensors by kind, each with the candidates along its first axis."""
        kinds = {"scale": [self.scale]}
        for layer in self.layers:
            for name, tensor in layer.tensors.items():
                if layer.fires or name in self.SYNAPTIC:
                    kinds.setdefault(name, []).append(tensor)
        return kinds

    def scores(self, spikes: Tensor, softness: float | Tensor = 0.0) -> tuple[Tensor, list[Tensor | None]]:
        """Integer scores [P, B, n_classes] of input spikes [T, B, n_inputs], and spikes of each layer."""
        out, fired = spikes[None], []
        for layer in self.layers:
            out = layer.forward(out, softness)
            fired.append(out if layer.fires else None)
        return out.sum(1, dtype=self.score_dtype), fired

    @property
    def _unit(self) -> int:
        """What a score of 1 is, in units of a logit but for the scale."""
        return 2**self.fraction if self.readout == "membrane" else 1

    def factors(self) -> Tensor:
        """What turns an integer score into a logit, [P]."""
        return torch.exp(self.scale) / self._unit

    def losses(self, scores: Tensor, labels: Tensor) -> Tensor:
        """Mean cross-entropy of each candidate, [P], of scores [P, B, n_classes] and labels [B]; samples with
        the label -1 do not count."""
        return self.operations.losses(scores, self.scale, labels, self._unit)

    def bounds(self, kind: str, tensor: Tensor) -> tuple[Tensor, Tensor]:
        """The range that a parameter is kept in, from..to, each [P or 1, 1, 1]."""
        for layer in self.layers:
            if layer.tensors.get(kind) is tensor:
                return layer.bounds(kind)
        return self.scale.new_full((1, 1, 1), -math.inf), self.scale.new_full((1, 1, 1), math.inf)

    def own_sizes(self, tensor: Tensor) -> np.ndarray:
        """Rows and columns of a parameter that are no padding, [P, 2]."""
        for layer in self.layers:
            for name, own in layer.tensors.items():
                if own is tensor:
                    rows = [n_in if name in self.SYNAPTIC else 1 for n_in, _ in layer.sizes]
                    columns = [n_out if tensor.shape[-1] > 1 else 1 for _, n_out in layer.sizes]
                    return np.array([rows, columns]).T.copy()
        return np.ones((self.count, 2), np.int64)

    def clamp(self) -> None:
        for layer in self.layers:
            layer.clamp()

    def on_host(self) -> list[OnHost]:
        """What export needs of all candidates, by layer."""
        return [layer.on_host() for layer in self.layers]

    def export(
        self, p: int, architecture: Architecture, encoder: str, host: list[OnHost] | None = None
    ) -> Network:
        """The integer network of candidate p. host: what on_host returned, for many; None asks for it."""
        hosts = self.on_host() if host is None else host
        return Network(
            n_inputs=architecture.n_inputs,
            timesteps=architecture.timesteps,
            encoder=encoder,
            fraction=architecture.fraction,
            word=architecture.word,
            readout=architecture.readout,
            layers=tuple(
                layer.export(p, architecture, own) for layer, own in zip(self.layers, hosts, strict=True)
            ),
        )

"""Many networks of one depth, stacked: their parameters, one exact forward pass, their export.

Letters: P candidates, T steps, B samples, n_in and n_out of a layer padded to the widest candidate.
The forward pass is the integer network of SEMANTICS.md; the gradient goes through the real weights
behind it. Padding never fires, never counts and never learns.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as functional
from torch import Tensor

from scnas.randomness import integer, rng
from scnas.snn.network import CONSTANTS, USED_CONSTANTS, Layer, Network
from scnas.snn.neurons import Constants, exact_dtype, scan_on
from scnas.snn.streams import max_weight, noise_sequence, ones_table
from scnas.space import Architecture

WEIGHT_SPREAD = 0.15  # standard deviation of initial weights, as a share of the largest
RATE_GUESS = 0.25  # spikes per input and step that the initial gain assumes
# Izhikevich 2003, "Simple model of spiking neurons", regular spiking, in units of 100 mV.
IZHIKEVICH = {"a_k": 0.02, "b_k": 0.2, "d_k": 0.08, "v_rest": -0.65, "v_reset": -0.65, "threshold": 0.3}


class _Round(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return torch.round(x)

    @staticmethod
    def backward(ctx, gradient):
        return gradient


class _Synapses(torch.autograd.Function):
    """Currents of a layer from its input spikes, exact; gradients to spikes, weights and delays.

    spikes: [P or 1, T, B, n_in] (1: the input, shared by all). weights: [P, n_in, n_out] real.
    positions: [P, n_in, n_out] real delays, or None. matrix: [P, 1 or T, n_in, n_out], the signed
    ones of every stream in current units (times 2^F / L). limits: [P, 1, 1] largest delay. widths:
    [P, 1, 1], how softly the gradient sees a delay, in steps. span: the largest of limits; 0 without
    positions.
    returns [P, T, B, n_out]. The current is linear in a weight with slope 2^F per active spike,
    which is exact for sobol streams but for rounding, and the mean over seeds for lfsr.
    """

    @staticmethod
    def forward(ctx, spikes, weights, positions, matrix, limits, widths, one, span):
        timesteps, batch, n_in = spikes.shape[1:]
        n_out = weights.shape[2]
        placed = None if positions is None else torch.round(positions)
        out = None
        for d in range(span + 1):
            at = matrix if placed is None else matrix * (placed == d)[:, None]
            part = _product(spikes[:, : timesteps - d], at[:, d:] if at.shape[1] > 1 else at)
            if out is None:
                out = part
            else:
                out[:, d:] += part
        ctx.save_for_backward(spikes, weights, positions, matrix, limits, widths)
        ctx.one, ctx.span = one, span
        return out.view(len(weights), timesteps, batch, n_out)

    @staticmethod
    def backward(ctx, gradient):
        spikes, weights, positions, matrix, limits, width = ctx.saved_tensors
        timesteps, batch, n_in = spikes.shape[1:]
        count, _, n_out = weights.shape
        gradient = gradient.contiguous()
        to_spikes = torch.zeros_like(spikes) if ctx.needs_input_grad[0] else None
        to_weights = torch.zeros_like(weights)
        to_positions = None
        if positions is not None:
            to_positions = torch.zeros_like(positions)
            placed = torch.round(positions)
            soft = _shares(positions, limits, ctx.span, width)
            mean = sum(share * d for d, share in enumerate(soft))
        for d in range(ctx.span + 1):
            rows = (timesteps - d) * batch
            g = gradient[:, d:].reshape(count, rows, n_out)
            s = spikes[:, : timesteps - d].reshape(len(spikes), rows, n_in).expand(count, -1, -1)
            per_weight = torch.bmm(s.transpose(1, 2), g) * ctx.one
            at = matrix
            if positions is None:
                to_weights += per_weight
            else:
                here = placed == d
                to_weights += per_weight * here
                # d/dposition of a softmax over exp(-(d - position)^2 / (2 width^2))
                to_positions += per_weight * weights * soft[d] * (d - mean) / width**2
                at = matrix * here[:, None]
            if to_spikes is not None:
                back = _product(gradient[:, d:], (at[:, d:] if at.shape[1] > 1 else at).transpose(2, 3))
                to_spikes[:, : timesteps - d] += back
        return to_spikes, to_weights, to_positions, None, None, None, None, None


def _product(rows: Tensor, matrix: Tensor) -> Tensor:
    """[P or 1, T, B, n] times [P, 1 or T, n, m] -> [P, T, B, m]."""
    count = len(matrix)
    timesteps, batch, n = rows.shape[1:]
    if matrix.shape[1] == 1:
        flat = rows.reshape(len(rows), timesteps * batch, n).expand(count, -1, -1)
        return torch.bmm(flat, matrix[:, 0]).view(count, timesteps, batch, -1)
    return torch.matmul(rows.expand(count, -1, -1, -1), matrix)


def _shares(positions: Tensor, limits: Tensor, span: int, width: Tensor) -> list[Tensor]:
    """How much of a synapse sits at each delay 0..span when its position is seen softly."""
    weights = [torch.exp(-((d - positions) ** 2) / (2 * width**2)) * (limits >= d) for d in range(span + 1)]
    total = sum(weights)
    return [weight / total for weight in weights]


class LayerStack:
    """Layer `index` of every candidate: parameters, masks, and the integers made of them.

    weight: [P, n_in, n_out] in -1..1, a share of M. threshold: [P, 1, n_out], a multiple of `base`.
    gain, leak: [P, 1, 1], base-2 logarithms. position: [P, n_in, n_out] real delays, or None.
    real: [P, n_in, n_out], where a synapse is no padding. keep: the same, less what was pruned.
    """

    def __init__(self, architectures: Sequence[Architecture], index: int, seed: int, powers_of_two: bool):
        self.index, self.powers_of_two = index, powers_of_two
        self.sizes = [a.layer_sizes[index] for a in architectures]
        self.models = [a.neuron_types[index] for a in architectures]
        self.generators = [a.generators[index] for a in architectures]
        self.lengths = [a.bitstream_lengths[index] for a in architectures]
        self.fires = architectures[0].fires(index)
        self.fraction, self.timesteps = architectures[0].fraction, architectures[0].timesteps
        self.words = [a.word for a in architectures]
        self.keys = [a.training_key.name for a in architectures]
        self.kept = [a.kept_synapses[index] for a in architectures]
        self.tops = [max_weight(g, n) for g, n in zip(self.generators, self.lengths, strict=True)]
        self.spans = [a.delay_ranges[index] for a in architectures]
        self.seeds = [integer(seed, "generator", key, index) for key in self.keys]
        self.noise_seeds = [integer(seed, "noise", key, index) for key in self.keys]
        self.count = count = len(architectures)
        n_in, n_out = (max(size[axis] for size in self.sizes) for axis in (0, 1))
        one = 2**self.fraction

        weight = np.zeros((count, n_in, n_out), dtype=np.float32)
        position = np.zeros((count, n_in, n_out), dtype=np.float32)
        real = np.zeros((count, n_in, n_out), dtype=bool)
        for p, (a, b) in enumerate(self.sizes):
            dice = rng(seed, "weights", self.keys[p], index)
            weight[p, :a, :b] = (dice.standard_normal((a, b)) * WEIGHT_SPREAD).clip(-1, 1)
            position[p, :a, :b] = dice.random((a, b)) * self.spans[p]
            real[p, :a, :b] = True
        self.constants = [
            self._fixed(model, word) for model, word in zip(self.models, self.words, strict=True)
        ]
        half = np.array([2 ** (word - 1) for word in self.words])
        base = np.array([c["threshold"] for c in self.constants])

        def column(values, dtype=torch.float32) -> Tensor:
            return torch.tensor(np.asarray(values, dtype=np.float64), dtype=dtype).view(count, 1, 1)

        # A gain under which an average input of `RATE_GUESS` drives a neuron about to its threshold.
        fan_in = np.array([max(1.0, kept / b) for kept, (a, b) in zip(self.kept, self.sizes, strict=True)])
        drive = WEIGHT_SPREAD * np.sqrt(fan_in * RATE_GUESS) * one
        target = np.where(np.array(self.models) == "izhikevich", 0.5 * one, base)
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
        # Made once on the device, since making one waits for it: indices of _where, tables of lfsr layers.
        self._indices: dict[tuple[int, ...], Tensor] = {}
        self._lookup: Tensor | None = None
        self.buffers = {
            "real": torch.tensor(real),
            "keep": torch.tensor(real),
            "limit": column(self.spans),
            "magnitudes": column(self.tops),
            "bound": column(half, torch.float64),
            "base": column(base, torch.float64),
            "noise": torch.tensor(self._noise(), dtype=torch.float64),
            **{
                name: column([c[name] for c in self.constants], torch.float64)
                for name in ("decay_k", "bump_k", "a_k", "b_k", "d_k", "v_rest", "v_reset", "scale")
            },
        }

    def _fixed(self, model: str, word: int) -> dict[str, int]:
        """Constants that training leaves alone, Q(F), sized so that they fit the word."""
        one, half = 2**self.fraction, 2 ** (word - 1)
        c = dict.fromkeys((*CONSTANTS, "threshold", "scale"), 0)
        c["threshold"] = c["scale"] = min(one, half // 4)
        if model == "izhikevich":
            for name, value in IZHIKEVICH.items():
                c[name] = max(-half, min(half - 1, round(value * one)))
            c["threshold"] = max(1, c["threshold"])
            c["scale"] = max(1, one // 2)
        if model == "homeostatic_lif":
            c["decay_k"] = max(1, min(one // 8, half // 2))
            c["bump_k"] = max(1, c["threshold"] // 4)
        if model == "stochastic_lif":
            # The noise byte has a standard deviation of 74; a tenth of the threshold is wanted.
            wanted = max(1.0, 0.1 * c["threshold"] * one / 74)
            c["noise_k"] = min(2 ** round(math.log2(wanted)), half // 2)
        return c

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
        self.gain_range = tuple(t.to(device) for t in self.gain_range)
        self.leak_range = tuple(t.to(device) for t in self.leak_range)
        self._indices, self._lookup = {}, None

    # -- integers -------------------------------------------------------------------------------

    @torch.no_grad()
    def integer_weights(self, p: int | slice = slice(None)) -> Tensor:
        """Signed magnitudes w of candidates p, [..., n_in, n_out], 0 where pruned or padded."""
        scaled = torch.round(self.tensors["weight"][p] * self.buffers["magnitudes"][p])
        return scaled * self.buffers["keep"][p]

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
        b = self.buffers
        zero = torch.zeros_like(b["bound"])
        return Constants(
            threshold=self.thresholds(), leak_k=self.power("leak"), gain_k=self.power("gain"),
            decay_k=b["decay_k"], bump_k=b["bump_k"], a_k=b["a_k"], b_k=b["b_k"], d_k=b["d_k"],
            v_rest=b["v_rest"], v_reset=b["v_reset"], refractory=zero, bound=b["bound"],
            noise=b["noise"], scale=b["scale"],
        )  # fmt: skip

    # -- forward --------------------------------------------------------------------------------

    def forward(self, spikes: Tensor, softness: float) -> tuple[Tensor, Tensor | None]:
        """Currents and spikes [P, T, B, n_out] of input spikes [P or 1, T, B, n_in].

        softness: how the gradient sees a delay, from 1 (half the range of the layer at once) to 0 (half a
        step). Spikes are None where the layer only integrates.
        """
        half = self.buffers["bound"].float()[:, None]
        current = self._currents(spikes, softness).clamp(-half, half - 1)
        if not self.fires:
            return current, None
        constants = self.neuron_constants()
        parts, indices = [], []
        for model in dict.fromkeys(self.models):
            index = self._where(self.models, model)
            dtype = exact_dtype(model, max(self.words), self.fraction, self.powers_of_two)
            mine = constants.select(index).to(dtype)
            scan = scan_on(current.device.type)
            parts.append(scan(model, current.index_select(0, index), mine, self.fraction, False))
            indices.append(index)
        # Noise can drive a padded neuron over its threshold.
        return current, _interleave(parts, indices) * self.buffers["real"].any(1)[:, None, None]

    def _where(self, names: list[str], name: str) -> Tensor:
        """Candidates whose entry in `names` is `name`."""
        found = tuple(p for p, other in enumerate(names) if other == name)
        if found not in self._indices:
            self._indices[found] = torch.tensor(found, device=self.tensors["weight"].device)
        return self._indices[found]

    def _currents(self, spikes: Tensor, softness: float) -> Tensor:
        integers = self.integer_weights()
        parts, indices = [], []
        for generator in dict.fromkeys(self.generators):
            index = self._where(self.generators, generator)
            parts.append(self._part(generator, index, integers, spikes, softness))
            indices.append(index)
        return _interleave(parts, indices)

    def _part(
        self, generator: str, index: Tensor, integers: Tensor, spikes: Tensor, softness: float
    ) -> Tensor:
        """Currents of the candidates in `index`, whose streams all come from `generator`."""

        def pick(x: Tensor) -> Tensor:
            return x.index_select(0, index)

        integers, one = pick(integers), float(2**self.fraction)
        if generator == "sobol":
            matrix = (integers * (one / pick(self.buffers["magnitudes"])))[:, None]
        else:
            if self._lookup is None:
                own = [table for table in self.tables if len(table)]
                self._lookup = torch.tensor(np.array(own), device=index.device)
            tables = self._lookup
            lookup = integers.abs().nan_to_num(0.0).long().flatten(1)[:, None].expand(-1, self.timesteps, -1)
            ones = tables.gather(2, lookup).view(-1, self.timesteps, *integers.shape[1:])
            matrix = ones * integers.sign()[:, None]
        positions = self.tensors.get("position")
        return _Synapses.apply(
            pick(spikes) if len(spikes) > 1 else spikes,
            pick(self.tensors["weight"]),
            None if positions is None else pick(positions),
            matrix,
            pick(self.buffers["limit"]),
            pick((self.buffers["limit"] * softness / 2).clamp(min=0.5)),
            one,
            max(self.spans),
        )

    # -- upkeep ---------------------------------------------------------------------------------

    def bounds(self, name: str) -> tuple[Tensor, Tensor]:
        """The range of a parameter, from..to, each [P or 1, 1, 1]."""
        limit = self.buffers["limit"]
        fixed = {"weight": (-1.0, 1.0), "threshold": (1e-3, 8.0)}
        if name in fixed:
            return tuple(limit.new_full((1, 1, 1), end) for end in fixed[name])
        return {"gain": self.gain_range, "leak": self.leak_range}.get(name, (torch.zeros_like(limit), limit))

    @torch.no_grad()
    def clamp(self) -> None:
        """Parameters back into their ranges after an optimiser step."""
        for name, tensor in self.tensors.items():
            low, high = self.bounds(name)
            torch.minimum(torch.maximum(tensor, low), high, out=tensor)

    @torch.no_grad()
    def prune(self, progress: float, per: str) -> None:
        """Keep the largest of the weights that are left.

        Letting pruned weights learn on and return was tried: behind the rounding they drift without
        any effect on the loss, and digits at 10% of the synapses fell from 90% to 42%.
        progress: 0 (all kept) to 1 (the density of the architecture). per: `layer` or `neuron`.
        """
        for p, (a, b) in enumerate(self.sizes):
            if self.kept[p] == a * b:
                continue
            weight = self.tensors["weight"][p, :a, :b]
            magnitude = torch.where(self.buffers["keep"][p, :a, :b], weight.abs(), -1.0)
            share = 1 - (1 - self.kept[p] / (a * b)) * progress
            keep = torch.zeros_like(magnitude, dtype=torch.bool)
            if per == "neuron":
                rows = magnitude.topk(max(1, round(share * a)), dim=0).indices
                keep.scatter_(0, rows, True)
            else:
                keep.view(-1)[magnitude.flatten().topk(max(1, round(share * a * b))).indices] = True
            self.buffers["keep"][p, :a, :b] = keep

    def export(self, p: int, architecture: Architecture) -> Layer:
        """The integer layer of candidate p; mapping and lanes come from `architecture`."""
        a, b = self.sizes[p]
        index, model = self.index, self.models[p]
        delays = np.zeros((a, b), dtype=np.int64)
        if "position" in self.tensors:
            delays = torch.round(self.tensors["position"][p, :a, :b]).detach().long().cpu().numpy()
        weights = self.integer_weights(p)[:a, :b].long().cpu().numpy()
        values = dict(self.constants[p])
        if self.fires:
            values["leak_k"] = int(self.power("leak")[p])
            values["gain_k"] = int(self.power("gain")[p])
            threshold = self.thresholds()[p, 0, :b].detach().long().cpu().numpy()
            used = USED_CONSTANTS[model]
        else:
            threshold, used = np.zeros(b, dtype=np.int64), set()
        return Layer(
            neuron=model, generator=self.generators[p], length=self.lengths[p], seed=self.seeds[p],
            noise_seed=self.noise_seeds[p], mapping=architecture.mappings[index],
            lanes=architecture.lanes[index], weights=weights,
            delays=np.where(weights != 0, delays, 0), threshold=threshold,
            constants={name: values[name] if name in used else 0 for name in CONSTANTS},
        )  # fmt: skip


def _interleave(parts: list[Tensor], indices: list[Tensor]) -> Tensor:
    """Rows of `parts` back in the order that `indices` took them from."""
    if len(parts) == 1:
        return parts[0]
    order = torch.cat(indices)
    return torch.cat(parts).index_select(0, torch.argsort(order))


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
    ):
        first = architectures[0]
        self.architectures, self.count = list(architectures), len(architectures)
        self.readout, self.fraction = first.readout, first.fraction
        self.layers = [LayerStack(architectures, i, seed, powers_of_two) for i in range(first.n_layers)]
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

    def scores(self, spikes: Tensor, softness: float = 0.0) -> tuple[Tensor, list[Tensor]]:
        """Integer scores [P, B, n_classes] of input spikes [T, B, n_inputs], and spikes of each layer."""
        spikes = spikes[None]
        fired = []
        for layer in self.layers:
            current, spikes = layer.forward(spikes, softness)
            fired.append(spikes)
        return (current if self.readout == "membrane" else spikes).sum(1, dtype=self.score_dtype), fired

    def factors(self) -> Tensor:
        """What turns an integer score into a logit, [P]."""
        unit = 2**self.fraction if self.readout == "membrane" else 1
        return torch.exp(self.scale) / unit

    def losses(self, scores: Tensor, labels: Tensor) -> Tensor:
        """Mean cross-entropy of each candidate, [P], of scores [P, B, n_classes] and labels [B]."""
        count, batch, classes = scores.shape
        logits = scores * self.factors().to(scores.dtype)[:, None, None]
        flat = functional.cross_entropy(
            logits.reshape(-1, classes), labels.expand(count, -1).reshape(-1), reduction="none"
        )
        return flat.view(count, batch).mean(1)

    def bounds(self, kind: str, tensor: Tensor) -> tuple[Tensor, Tensor]:
        """The range that a parameter is kept in, from..to, each [P or 1, 1, 1]."""
        for layer in self.layers:
            if layer.tensors.get(kind) is tensor:
                return layer.bounds(kind)
        return tuple(self.scale.new_full((1, 1, 1), end) for end in (-math.inf, math.inf))

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

    def prune(self, progress: float, per: str) -> None:
        for layer in self.layers:
            layer.prune(progress, per)

    def export(self, p: int, architecture: Architecture, encoder: str) -> Network:
        """The integer network of candidate p."""
        return Network(
            n_inputs=architecture.n_inputs,
            timesteps=architecture.timesteps,
            encoder=encoder,
            fraction=architecture.fraction,
            word=architecture.word,
            readout=architecture.readout,
            layers=tuple(layer.export(p, architecture) for layer in self.layers),
        )


class TorchPass:
    """Gradients and scores of a stack by torch on any device; the CPU has its own, cpu.CpuPass.

    Inputs are spikes [T, B, n_inputs] float32.
    """

    def __init__(self, stack: PopulationStack):
        self.stack = stack

    def gradients(self, spikes: Tensor, labels: Tensor, softness: float) -> Tensor:
        """Mean cross-entropy of every candidate, [P]; the gradient of their sum goes into the tensors."""
        for tensors in self.stack.parameters.values():
            for tensor in tensors:
                tensor.grad = None
        losses = self.stack.losses(self.stack.scores(spikes, softness)[0], labels)
        losses.sum().backward()
        return losses.detach()

    @torch.no_grad()
    def scores(self, spikes: Tensor) -> tuple[Tensor, np.ndarray]:
        """Integer scores [P, B, n_classes], and spikes that each layer fired, [P, layers]."""
        scores, fired = self.stack.scores(spikes)
        counts = [
            np.zeros(self.stack.count) if f is None else f.sum((1, 2, 3), dtype=torch.float64).cpu().numpy()
            for f in fired
        ]
        return scores, np.stack(counts, 1)

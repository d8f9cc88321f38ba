"""train_population(): a whole generation trained at once, every candidate on its own numbers.

The exact integer network is in the forward pass, so the accuracy that comes out is the accuracy of
the exported network, of its Verilog and of the chip.
"""

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from scnas.contract import is_power_of_two, one_of, whole
from scnas.randomness import rng
from scnas.snn.cpu import CpuPass
from scnas.snn.network import Network
from scnas.snn.population import PopulationStack, TorchPass
from scnas.snn.streams import van_der_corput
from scnas.space import Architecture
from scnas.tasks import Split, Task

GIB = 2**30
KERNEL_DEVICES = ("cpu",)  # where the compiled kernels work; torch works anywhere
GROUP_OVERHEAD = 1e7  # what one step of one more group costs, in the operations of work_of()


@dataclass(frozen=True)
class Budget:
    """What a candidate may spend, the same for all.

    epochs: passes over the training data. batch_size: samples a step. learning_rate: peak of a
    cosine schedule for weights; thresholds, gains, leaks and delays have their own share of it.
    prune_from, prune_to: share of the epochs between which the density falls to its target.
    prune_per: `layer` or `neuron`. powers_of_two: gain and leak as shifts. clip: largest gradient
    norm of a candidate. memory_gib: what one group may take; larger groups are split.
    """

    epochs: int = 10
    batch_size: int = 32
    learning_rate: float = 0.03
    prune_from: float = 0.1
    prune_to: float = 0.6
    prune_per: str = "layer"
    powers_of_two: bool = True
    clip: float = 1.0
    memory_gib: float = 2.0

    def __post_init__(self):
        whole("epochs", self.epochs, 0, 100_000)
        whole("batch_size", self.batch_size, 1, 2**20)
        one_of("prune_per", self.prune_per, ("layer", "neuron"))
        for name, high in (
            ("learning_rate", 10), ("clip", 1e9), ("memory_gib", 1e6), ("prune_from", 1), ("prune_to", 1)
        ):  # fmt: skip
            value, share = getattr(self, name), name.startswith("prune")
            good = isinstance(value, int | float) and not isinstance(value, bool)
            if not good or not 0 <= value <= high or (value == 0 and not share):
                least = "from 0 to" if share else "above 0 and at most"
                raise ValueError(f"{name} must be a number {least} {high:g}, got {value!r}")


class Trained(NamedTuple):
    """One candidate after training. Losses are mean cross-entropies in nats, accuracies 0..1.

    network is None and the figures are NaN when it failed; `failed` then says why.
    activity: mean spikes per step at the input of each layer, on the validation data.
    """

    architecture: Architecture
    network: Network | None
    train_loss: float
    train_accuracy: float
    validation_loss: float
    validation_accuracy: float
    activity: tuple[float, ...]
    failed: str | None
    seconds: float


def _failure(architecture: Architecture, reason: str, seconds: float) -> Trained:
    nan = math.nan
    return Trained(architecture, None, nan, nan, nan, nan, (), reason, seconds)


def train_population(
    architectures: Sequence[Architecture],
    task: Task,
    budget: Budget = Budget(),  # noqa: B008 - a frozen value
    seed: int = 0,
    device: str | torch.device = "cpu",
) -> list[Trained]:
    """Train every architecture on `task`; results in the order given.

    Architectures that differ in mapping only share one training. A candidate's initial weights and
    generator seeds come from (seed, architecture), the order of minibatches from the seed alone,
    so neighbours change nothing but the last bits of floating-point sums. A candidate that diverges
    or falls silent is reported as failed and takes no other down; a group that does not fit the
    memory is split. Raises ValueError when an architecture does not fit the task.
    """
    results: dict[Architecture, Trained] = {}
    for group in plan_groups(architectures, task, budget):
        for trained in train_group(group, task, budget, seed, device):
            results[trained.architecture] = trained
    return [remapped(results[a.training_key], a) for a in architectures]


def remapped(trained: Trained, architecture: Architecture) -> Trained:
    """The result of a training for an architecture that differs from the trained one in mapping."""
    network = trained.network
    if network is not None:
        mapped = zip(network.layers, architecture.mappings, architecture.lanes, strict=True)
        layers = tuple(replace(layer, mapping=mapping, lanes=lanes) for layer, mapping, lanes in mapped)
        network = replace(network, layers=layers)
    return trained._replace(architecture=architecture, network=network)


# -- groups -------------------------------------------------------------------------------------


def check_fits(architecture: Architecture, task: Task) -> None:
    """ValueError if `architecture` cannot be trained exactly on `task`."""
    if (architecture.n_inputs, architecture.n_outputs) != (task.n_inputs, task.n_classes):
        raise ValueError(
            f"task {task.name} has {task.n_inputs} inputs and {task.n_classes} classes, the architecture "
            f"{architecture.n_inputs} and {architecture.n_outputs}"
        )
    if task.encoder == "rate" and not is_power_of_two(architecture.timesteps):
        raise ValueError(
            f"timesteps must be a power of two for the rate encoder, got {architecture.timesteps}"
        )
    if task.timesteps is not None and architecture.timesteps != task.timesteps:
        raise ValueError(
            f"timesteps must be {task.timesteps} for task {task.name}, got {architecture.timesteps}"
        )
    widest = max(n_in for n_in, _ in architecture.layer_sizes)
    if widest * 2**architecture.fraction >= 2**24:
        raise ValueError(
            f"a layer of {widest} inputs with fraction {architecture.fraction} exceeds what float32 sums "
            f"hold exactly: inputs times 2^fraction must stay below 2^24"
        )


def plan_groups(
    architectures: Sequence[Architecture], task: Task, budget: Budget
) -> list[list[Architecture]]:
    """The distinct trainings that `architectures` need, in groups that are trained together.

    Depends on the architectures alone. A group has one depth, number of steps, fraction and readout;
    its members are neighbours in delays and size, so that padding to the widest wastes less than
    starting another group costs, and its memory stays within the budget.
    """
    for architecture in architectures:
        check_fits(architecture, task)
    kinds: dict[tuple, list[Architecture]] = {}
    for a in dict.fromkeys(a.training_key for a in architectures):
        kinds.setdefault((a.n_layers, a.timesteps, a.fraction, a.readout, a.word <= 16), []).append(a)
    groups = []
    for kind in sorted(kinds, key=repr):
        members = sorted(kinds[kind], key=lambda a: (max(a.delay_ranges), work_of(a), a.name))
        group: list[Architecture] = []
        for a in members:
            wider = [*group, a]
            fits = memory_bytes(wider, budget.batch_size) <= budget.memory_gib * GIB
            worth = 1.6 * sum(map(work_of, wider)) + GROUP_OVERHEAD / budget.batch_size
            if group and not (fits and work(wider) <= worth):
                groups.append(group)
                wider = [a]
            group = wider
        groups.append(group)
    return groups


class _Envelope(NamedTuple):
    """What a group is padded to: the widest layers and longest delays of all. It may hold layers too
    large for any architecture."""

    timesteps: int
    layer_sizes: list[tuple[int, int]]
    delay_ranges: list[int]


def _envelope(architectures: Sequence[Architecture]) -> _Envelope:
    sizes = zip(*(a.layer_sizes for a in architectures), strict=True)
    delays = zip(*(a.delay_ranges for a in architectures), strict=True)
    return _Envelope(
        architectures[0].timesteps,
        [tuple(map(max, zip(*layer, strict=True))) for layer in sizes],
        list(map(max, delays)),
    )


def work_of(a: Architecture | _Envelope) -> int:
    """About the operations of one sample: products, and some forty for each neuron update."""
    return a.timesteps * sum(
        n_in * n_out * (d + 1) + 40 * n_out
        for (n_in, n_out), d in zip(a.layer_sizes, a.delay_ranges, strict=True)
    )


def work(group: Sequence[Architecture]) -> int:
    """About the operations that a sample costs in a group, padding included."""
    return len(group) * work_of(_envelope(group))


def memory_bytes(group: Sequence[Architecture], batch_size: int) -> int:
    """About the peak memory of training a group: activations of all steps, matrices of all streams."""
    a = _envelope(group)
    activations = a.timesteps * batch_size * sum(20 * n_out + 3 * n_in for n_in, n_out in a.layer_sizes)
    streams = sum(
        n_in * n_out * (8 + 2 * (a.timesteps if any(b.generators[i] == "lfsr" for b in group) else 1))
        for i, (n_in, n_out) in enumerate(a.layer_sizes)
    )
    return 4 * len(group) * (activations + streams)


# -- data ---------------------------------------------------------------------------------------


class Samples:
    """A split as a pass takes it, encoded when asked. labels: [N] on the device.

    For the kernels arrays: levels 0..T, [B, 1, n] uint8, with their `ramp` R_T(t), or spikes [B, T, n]
    uint8. For torch spikes [T, B, n] float32.
    """

    def __init__(self, split: Split, encoder: str, timesteps: int, device: torch.device):
        self.timesteps, self.device = timesteps, device
        self.labels = torch.tensor(split.y, dtype=torch.int64, device=device)
        self.ramp = None
        data = np.asarray(split.x)
        if encoder == "rate":
            self.ramp = van_der_corput(timesteps)
            levels = np.rint(data.astype(np.float64) * timesteps)
            data = levels.astype(np.uint8 if timesteps < 256 else np.int16)[:, None]
        self.on_kernels = device.type in KERNEL_DEVICES
        self.data = data if self.on_kernels else torch.tensor(data, device=device)

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, index: np.ndarray | slice) -> tuple[np.ndarray | Tensor, np.ndarray | Tensor]:
        """Inputs and labels of some samples."""
        if self.on_kernels:
            return self.data[index], self.labels.numpy()[index]
        if not isinstance(index, slice):
            index = torch.tensor(index, device=self.device)
        x = self.data[index]
        if self.ramp is not None:
            x = x > torch.tensor(self.ramp, device=self.device)[None, :, None]
        return x.transpose(0, 1).float(), self.labels[index]

    def batches(self, size: int) -> Iterator[tuple[np.ndarray | Tensor, np.ndarray | Tensor]]:
        """All samples in order."""
        for start in range(0, len(self), size):
            yield self.batch(slice(start, start + size))

    def spikes_per_step(self) -> float:
        """Mean number of input spikes in a step."""
        return float(self.data.sum(dtype=np.int64 if self.on_kernels else torch.int64)) / (
            len(self) * self.timesteps
        )


def open_pass(stack: PopulationStack, samples: Samples) -> CpuPass | TorchPass:
    """What computes gradients and scores on the device of `samples`."""
    return CpuPass(stack, samples.ramp) if samples.on_kernels else TorchPass(stack)


# -- training -----------------------------------------------------------------------------------

# Learning rates relative to that of the weights.
RATES = {"weight": 1.0, "threshold": 1.0, "gain": 1.0, "leak": 1.0, "position": 5.0, "scale": 1.0}


def train_group(
    group: Sequence[Architecture], task: Task, budget: Budget, seed: int, device: str | torch.device
) -> list[Trained]:
    """Train candidates of one kind together; on running out of memory, each half on its own."""
    started = time.perf_counter()
    try:
        return _train_stack(group, task, budget, seed, torch.device(device))
    except (MemoryError, RuntimeError) as error:
        if not _out_of_memory(error):
            raise
    if len(group) == 1:
        return [_failure(group[0], "out of memory", time.perf_counter() - started)]
    if torch.device(device).type == "cuda":
        torch.cuda.empty_cache()
    half = len(group) // 2
    return [
        trained
        for part in (group[:half], group[half:])
        for trained in train_group(part, task, budget, seed, device)
    ]


def _out_of_memory(error: BaseException) -> bool:
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(
        words in str(error).lower() for words in ("out of memory", "can't allocate memory", "cannot allocate")
    )


def _train_stack(
    group: Sequence[Architecture], task: Task, budget: Budget, seed: int, device: torch.device
) -> list[Trained]:
    started = time.perf_counter()
    stack = PopulationStack(group, seed, device, budget.powers_of_two)
    timesteps = group[0].timesteps
    train = Samples(task.train, task.encoder, timesteps, device)
    validation = Samples(task.validation, task.encoder, timesteps, device)
    learner = open_pass(stack, train)
    kinds = stack.parameters
    optimiser = torch.optim.Adam(
        [
            {"params": tensors, "lr": budget.learning_rate * RATES[kind], "kind": kind}
            for kind, tensors in kinds.items()
        ],
        betas=(0.9, 0.99),
    )
    masks = {
        id(layer.tensors[name]): layer.buffers["keep"]
        for layer in stack.layers
        for name in ("weight", "position")
        if name in layer.tensors
    }
    diverged: dict[int, str] = {}
    steps = math.ceil(len(train) / budget.batch_size)
    for epoch in range(budget.epochs):
        progress = epoch / max(1, budget.epochs)
        _prune(stack, progress, budget)
        softness = max(0.0, 1 - progress / 0.7)  # delays are seen broadly first, sharply at the end
        order = rng(seed, "minibatch", epoch).permutation(len(train))
        for i in range(steps):
            _set_rates(optimiser, budget, (epoch * steps + i) / (budget.epochs * steps))
            index = order[i * budget.batch_size : (i + 1) * budget.batch_size]
            learner.gradients(*train.batch(index), softness)
            norms = _clip(kinds, masks, budget.clip)
            for p in torch.nonzero(~torch.isfinite(norms)).flatten().tolist():
                diverged.setdefault(p, f"diverged: its gradient is not finite in epoch {epoch}")
            optimiser.step()
            stack.clamp()
    _prune(stack, 1.0, budget)
    seconds = (time.perf_counter() - started) / len(group)
    seen = evaluate(learner, validation)
    trained_on = evaluate(learner, train)
    numbers = [t.detach().isfinite().reshape(len(group), -1).all(1) for ts in kinds.values() for t in ts]
    finite = torch.stack(numbers).all(0).tolist()
    results = []
    for p, architecture in enumerate(group):
        figures = (
            trained_on.loss[p], trained_on.accuracy[p], seen.loss[p], seen.accuracy[p],
        )  # fmt: skip
        silent = [i for i, rate in enumerate(seen.activity[p]) if rate == 0]
        if p in diverged:
            results.append(_failure(architecture, diverged[p], seconds))
        elif not finite[p]:
            results.append(_failure(architecture, "diverged: its parameters are not finite", seconds))
        elif not all(math.isfinite(figure) for figure in figures):
            results.append(_failure(architecture, "diverged: its loss is not finite", seconds))
        elif silent:
            where = f"layer {silent[0] - 1}" if silent[0] else "the input"
            results.append(
                _failure(architecture, f"dead: {where} never spikes on the validation data", seconds)
            )
        else:
            network = stack.export(p, architecture, task.encoder)
            results.append(Trained(architecture, network, *figures, seen.activity[p], None, seconds))
    return results


def _prune(stack: PopulationStack, progress: float, budget: Budget) -> None:
    """Bring the density to where it should be at `progress` of the training.

    Cubic schedule of Zhu and Gupta 2017, "To prune, or not to prune".
    """
    span = budget.prune_to - budget.prune_from
    share = min(1.0, max(0.0, (progress - budget.prune_from) / span)) if span > 0 else 1.0
    stack.prune(1 - (1 - share) ** 3, budget.prune_per)


def _set_rates(optimiser: torch.optim.Optimizer, budget: Budget, progress: float) -> None:
    """Linear warm-up over the first twentieth, then half a cosine down to nothing."""
    factor = min(1.0, (progress + 1e-3) / 0.05) * 0.5 * (1 + math.cos(math.pi * progress))
    for group in optimiser.param_groups:
        group["lr"] = budget.learning_rate * RATES[group["kind"]] * factor


@torch.no_grad()
def _clip(kinds: dict[str, list[Tensor]], masks: dict[int, Tensor], largest: float) -> Tensor:
    """Scale each candidate's gradient to norm `largest` at most, [P] norms before.

    Padding and pruned synapses get no gradient. One that is not finite is dropped whole, so that it
    stays with its candidate.
    """
    gradients = []
    for tensors in kinds.values():
        for tensor in tensors:
            if tensor.grad is None:
                continue
            if id(tensor) in masks:
                tensor.grad *= masks[id(tensor)]
            gradients.append(tensor.grad)
    norms = torch.sqrt(sum(g.flatten(1).square().sum(1) if g.ndim > 1 else g.square() for g in gradients))
    factor = torch.where(torch.isfinite(norms), (largest / (norms + 1e-12)).clamp(max=1.0), 0.0)
    for g in gradients:
        g.mul_(factor.view(-1, *[1] * (g.ndim - 1)))
        if not torch.isfinite(norms).all():
            g.nan_to_num_(0.0, 0.0, 0.0)
    return norms


# -- evaluation ---------------------------------------------------------------------------------


class Evaluated(NamedTuple):
    """Of every candidate: mean loss in nats, accuracy 0..1, mean spikes per step into each layer."""

    loss: list[float]
    accuracy: list[float]
    activity: list[tuple[float, ...]]


def lowest_best(scores: Tensor) -> Tensor:
    """Class of every sample: the lowest index among the highest scores, along the last axis."""
    index = torch.arange(scores.shape[-1], device=scores.device)
    return torch.where(scores == scores.amax(-1, keepdim=True), index, scores.shape[-1]).amin(-1)


@torch.no_grad()
def evaluate(learner: CpuPass | TorchPass, samples: Samples, batch_size: int = 256) -> Evaluated:
    """The exact forward pass of every candidate on all samples."""
    stack = learner.stack
    loss = torch.zeros(stack.count, dtype=torch.float64)
    right = torch.zeros(stack.count, dtype=torch.int64)
    fired = np.zeros((stack.count, len(stack.layers)))
    for x, y in samples.batches(batch_size):
        scores, counts = learner.scores(x)
        y = torch.as_tensor(y)
        loss += stack.losses(scores, y).double().cpu() * len(y)
        right += (lowest_best(scores) == y).sum(1).cpu()
        fired += counts
    rates = fired / (len(samples) * samples.timesteps)
    into = np.concatenate([np.full((stack.count, 1), samples.spikes_per_step()), rates[:, :-1]], 1)
    return Evaluated(
        (loss / len(samples)).tolist(),
        (right.double() / len(samples)).tolist(),
        [tuple(row) for row in into.tolist()],
    )

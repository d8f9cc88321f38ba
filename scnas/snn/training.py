"""train_population(): a whole generation trained at once, every candidate on its own numbers.

The exact integer network is in the forward pass, so the accuracy that comes out is the accuracy of
the exported network, of its Verilog and of the chip.
"""

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from scnas.contract import PRUNE_BY, PRUNE_PER, is_power_of_two, one_of, whole
from scnas.randomness import rng
from scnas.snn.adam import CpuAdam, TorchAdam
from scnas.snn.cpu import CACHE_BYTES, CpuPass
from scnas.snn.devices import WIDTH_STEP, has_kernels
from scnas.snn.network import Network
from scnas.snn.neurons import scan_bytes
from scnas.snn.population import PopulationStack, padded
from scnas.snn.streams import van_der_corput
from scnas.snn.synapses import Kind, exact_in_bf16, fuses, sums_up
from scnas.snn.torch_pass import TorchPass, open_step
from scnas.space import Architecture
from scnas.tasks import Split, Task

GIB = 2**30
KERNEL_DEVICES = ("cpu",)  # where the compiled kernels work; torch works anywhere
# What one step of one more group costs, in the operations of work_of(), by type of device. CUDA: a step is a
# hundred or two commands of about two microseconds each, in which a large card does some 1e9 of them (six
# floating-point operations each, at 20 TFLOP/s). Reckoned, not measured.
GROUP_OVERHEAD = {"cuda": 1e9}
GROUP_OVERHEAD_ELSEWHERE = 1e7
MOST_IN_A_GROUP = 65_535  # candidates lie along an axis that CUDA limits to as many
PARTS = 16  # groups that a batch is cut into where nothing else asks for more, for as many workers
EVALUATED = 256  # samples of a batch that is only evaluated
ENCODED = 1024  # samples that are encoded at a time: their values take eight bytes each meanwhile


@dataclass(frozen=True)
class Budget:
    """What a candidate may spend, the same for all.

    epochs: passes over the training data. samples: training samples of an epoch, drawn anew for each;
    None for all. batch_size: samples a step. learning_rate: peak of a cosine schedule for weights;
    thresholds, gains, leaks and delays have their own share of it.
    prune_from, prune_to: share of the training between which the density falls to its target.
    prune_by: what is kept, the largest `magnitude` or `sensitivity` (see _saliencies). prune_per: what a
    density is of, `layer` or `neuron`. regrow: share of the kept synapses of a sparse layer that moves to
    where the gradient is largest (see _regrow), 0 for none. powers_of_two: gain and leak as shifts.
    clip: largest gradient norm of a candidate. memory_gib: what one group may take; larger groups are split.
    """

    epochs: int = 10
    samples: int | None = None
    batch_size: int = 32
    learning_rate: float = 0.03
    prune_from: float = 0.0
    prune_to: float = 0.4
    prune_by: str = "sensitivity"
    prune_per: str = "layer"
    regrow: float = 0.3
    powers_of_two: bool = True
    clip: float = 1.0
    memory_gib: float = 2.0

    def __post_init__(self):
        whole("epochs", self.epochs, 0, 100_000)
        if self.samples is not None:
            whole("samples", self.samples, 1, 2**31)
        whole("batch_size", self.batch_size, 1, 2**20)
        one_of("prune_by", self.prune_by, PRUNE_BY)
        one_of("prune_per", self.prune_per, PRUNE_PER)
        for name, high in (
            ("learning_rate", 10), ("clip", 1e9), ("memory_gib", 1e6), ("prune_from", 1), ("prune_to", 1),
            ("regrow", 1),
        ):  # fmt: skip
            value, share = getattr(self, name), name not in ("learning_rate", "clip", "memory_gib")
            good = isinstance(value, int | float) and not isinstance(value, bool)
            if not good or not 0 <= value <= high or (value == 0 and not share):
                least = "from 0 to" if share else "above 0 and at most"
                raise ValueError(f"{name} must be a number {least} {high:g}, got {value!r}")


class Trained(NamedTuple):
    """One candidate after training. Losses are mean cross-entropies in nats, accuracies 0..1.

    network is None and the figures are NaN when it failed; `failed` then says why. Those of training are on
    all training samples, or where an epoch has fewer on as many, the same for all candidates.
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
    for group in plan_groups(architectures, task, budget, device, parts=1):
        for trained in train_group(group, task, budget, seed, device):
            results[trained.architecture] = trained
    return [remapped(results[a.training_key], a) for a in architectures]


def remapped(trained: Trained, architecture: Architecture) -> Trained:
    """The result of a training for an architecture that differs from the trained one in mapping."""
    network = trained.network
    if network is not None and architecture != trained.architecture:
        a = architecture
        mapped = zip(network.layers, a.mappings, a.lanes, a.units, strict=True)
        layers = tuple(replace(layer, mapping=m, lanes=n, units=u) for layer, m, n, u in mapped)
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
    architectures: Sequence[Architecture], task: Task, budget: Budget, device: str = "cpu", parts: int = PARTS
) -> list[list[Architecture]]:
    """The distinct trainings that `architectures` need, in groups that are trained together.

    Depends on the arguments alone. A group has one depth, number of steps, fraction and readout; its
    members are neighbours in delays and size, and its memory stays within the budget. Where the kernels
    of a CPU work, padding costs nothing and the result does not depend on the group, so that a group
    holds up to one of `parts` shares of all work, for as many workers. Elsewhere it grows while padding
    to the widest wastes less than starting another group costs.
    """
    for architecture in architectures:
        check_fits(architecture, task)
    kinds: dict[tuple, list[Architecture]] = {}
    for a in dict.fromkeys(a.training_key for a in architectures):
        kinds.setdefault((a.n_layers, a.timesteps, a.fraction, a.readout, a.word <= 16), []).append(a)
    on_kernels = torch.device(device).type in KERNEL_DEVICES
    overhead = GROUP_OVERHEAD.get(torch.device(device).type, GROUP_OVERHEAD_ELSEWHERE) / budget.batch_size
    room = _room_bytes(budget, device)
    share = max(sum(work_of(a) for kind in kinds.values() for a in kind) / parts, 20 * overhead)
    groups = []
    for kind in sorted(kinds, key=repr):
        members = sorted(kinds[kind], key=lambda a: (max(a.delay_ranges), work_of(a), a.name))
        group, envelope, useful = [], None, 0
        for a in members:
            wider, more = _widened(envelope, a), useful + work_of(a)
            fits = _memory(wider, budget.batch_size, device) <= room and wider.count <= MOST_IN_A_GROUP
            worth = more <= share if on_kernels else wider.count * work_of(wider) <= 1.6 * more + overhead
            if group and not (fits and worth):
                groups.append(group)
                group, wider, more = [], _widened(None, a), work_of(a)
            group.append(a)
            envelope, useful = wider, more
        groups.append(group)
    return groups


class _Envelope(NamedTuple):
    """What a group of `count` is padded to: the widest layers and longest delays of all, and whether any
    layer of that place has lfsr streams, streams too long for bfloat16, or neurons that adapt; and whether
    the currents of all last layers are summed up at once. It may hold layers too large for any architecture.
    """

    count: int
    timesteps: int
    layer_sizes: tuple[tuple[int, int], ...]
    delay_ranges: tuple[int, ...]
    lfsr: tuple[bool, ...]
    long: tuple[bool, ...]
    adapts: tuple[bool, ...]
    summed: bool


def _widened(envelope: _Envelope | None, a: Architecture) -> _Envelope:
    """The envelope of a group and one more; None: of nothing."""
    sizes, lfsr = tuple(a.layer_sizes), tuple(name == "lfsr" for name in a.generators)
    long = tuple(not exact_in_bf16(length) for length in a.bitstream_lengths)
    adapts = tuple(model == "homeostatic_lif" for model in a.neuron_types)
    summed = not a.fires(a.n_layers - 1) and sums_up(
        a.generators[-1], sizes[-1][0], a.timesteps, a.fraction, a.word
    )
    if envelope is None:
        return _Envelope(1, a.timesteps, sizes, a.delay_ranges, lfsr, long, adapts, summed)
    return _Envelope(
        envelope.count + 1,
        a.timesteps,
        tuple((max(x, n), max(y, m)) for (x, y), (n, m) in zip(envelope.layer_sizes, sizes, strict=True)),
        tuple(map(max, envelope.delay_ranges, a.delay_ranges)),
        tuple(map(max, envelope.lfsr, lfsr)),
        tuple(map(max, envelope.long, long)),
        tuple(map(max, envelope.adapts, adapts)),
        envelope.summed and summed,
    )


def _envelope(group: Sequence[Architecture]) -> _Envelope:
    envelope = None
    for a in group:
        envelope = _widened(envelope, a)
    assert envelope is not None
    return envelope


def work_of(a: Architecture | _Envelope) -> int:
    """About the operations of one sample: products, and some forty for each neuron update."""
    return a.timesteps * sum(
        n_in * n_out * (d + 1) + 40 * n_out
        for (n_in, n_out), d in zip(a.layer_sizes, a.delay_ranges, strict=True)
    )


def work(group: Sequence[Architecture]) -> int:
    """About the operations that a sample costs in a group, padding included."""
    return len(group) * work_of(_envelope(group))


def memory_bytes(group: Sequence[Architecture], batch_size: int, device: str = "cpu") -> int:
    """About the peak memory of training a group on `device`, data and libraries not included."""
    return _memory(_envelope(group), batch_size, device)


def _memory(a: _Envelope, batch_size: int, device: str | torch.device) -> int:
    """See memory_bytes. Every synapse has a weight, its gradient, two moments and two masks, and the same
    again for a delay. The kernels need besides the room of one candidate (cpu._Room). torch needs of all
    what is kept for the way back, and of one layer at a time what is only passed on: gradients, spikes as
    operands of a product, matrices of a delay; and to choose among the synapses of a layer it sorts them. On
    CUDA a training step is a graph that holds its memory, gradients included. Where the batches of a training
    are small, evaluation takes more: it keeps the spikes of all layers."""
    if has_kernels(torch.device(device).type):
        depth = len(a.layer_sizes)
        sizes = tuple(padded([size], i, depth, WIDTH_STEP) for i, size in enumerate(a.layer_sizes))
        a = a._replace(layer_sizes=sizes)
    synapses = sum(n_in * n_out * (1 + (max(a.delay_ranges) > 0)) for n_in, n_out in a.layer_sizes)
    parameters = 22 * a.count * synapses
    streams = [a.timesteps if lfsr else 1 for lfsr in a.lfsr]
    layers = list(zip(a.layer_sizes, a.delay_ranges, streams, strict=True))
    kind = torch.device(device).type
    if kind in KERNEL_DEVICES:
        matrices = sum((8 * s + 4) * (d + 1) * n_in * n_out for (n_in, n_out), d, s in layers)
        states = max(CACHE_BYTES, 8 * 32 * a.timesteps * sum(n for _, n in a.layer_sizes))
        inputs = max(batch_size, EVALUATED) * a.timesteps * a.layer_sizes[0][0] * 8
        return parameters + matrices + 2 * states + inputs
    kept = 0
    broadest = max((n_in for n_in, _ in a.layer_sizes[1:]), default=0)
    for i, ((n_in, n), d, _) in enumerate(layers):
        fused = fuses(Kind("lfsr" if a.lfsr[i] else "sobol", not a.long[i]), n_in, n, d, i == 0)
        each, besides = scan_bytes(kind, fused, a.adapts[i])
        kept += n * each
    if a.summed and has_kernels(kind):  # neither currents of the last layer, nor spikes of the one before
        kept -= 12 * layers[-1][0][1] + 4 * layers[-1][0][0] * (len(layers) > 1)
        broadest = max((n_in for n_in, _ in a.layer_sizes[1:-1]), default=0)
    neurons, widest = sum(n for _, n in a.layer_sizes), max(n for _, n in a.layer_sizes)
    tables = 4 * 257 * a.timesteps * sum(a.lfsr)
    # A slice for every delay of sobol layers, a matrix for every step of others, in bfloat16 where exact.
    size = [4 if long or not has_kernels(kind) else 2 for long in a.long]
    matrices = sum(
        size[i] * n_in * n_out * (s if a.lfsr[i] else d + 1) for i, ((n_in, n_out), d, s) in enumerate(layers)
    )
    passing = max(
        4 * n_in * n_out * (s * (1 + (d > 0) * a.lfsr[i]) + (d + 1) * (1 + (d > 0)))
        for i, ((n_in, n_out), d, s) in enumerate(layers)
    )
    sorting = 48 * max(n_in * n_out for n_in, n_out in a.layer_sizes)
    trained = a.timesteps * batch_size * (kept + besides * widest + 10 * broadest)
    evaluated = a.timesteps * EVALUATED * (4 * neurons + besides * widest + 2 * broadest)
    inputs = 12 * a.timesteps * max(batch_size, EVALUATED) * a.layer_sizes[0][0]
    return parameters + a.count * (tables + matrices + passing + sorting + max(trained, evaluated)) + inputs


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
            levels = np.empty((len(data), 1, data.shape[1]), np.uint8 if timesteps < 256 else np.int16)
            for start in range(0, len(data), ENCODED):
                some = slice(start, start + ENCODED)
                levels[some, 0] = np.rint(data[some].astype(np.float64) * timesteps)
            data = levels
        self.on_kernels = device.type in KERNEL_DEVICES
        self.data = data if self.on_kernels else torch.tensor(data, device=device)
        self._ramp = None if self.ramp is None else torch.tensor(self.ramp, device=device)

    def __len__(self) -> int:
        return len(self.labels)

    def in_order(self, order: np.ndarray, size: int) -> np.ndarray | Tensor:
        """Numbers of samples where `batch` takes slices of `size` of them without waiting for the device. For
        torch the last slice is filled up with none, -1, so that all batches are of one shape."""
        if self.on_kernels:
            return order
        missing = -len(order) % size if len(order) > size else 0
        return torch.tensor(np.append(order, np.full(missing, -1)), device=self.device)

    def batch(self, index: np.ndarray | Tensor | slice) -> tuple[np.ndarray | Tensor, np.ndarray | Tensor]:
        """Inputs and labels of some samples; index: a slice, or some of what in_order returned, where of none
        the label is -1."""
        if self.on_kernels:
            return self.data[index], self.labels.numpy()[index]
        x, labels = self.data[index], self.labels[index]  # of -1 what the last sample has
        if not isinstance(index, slice):
            labels = torch.where(index < 0, -1, labels)
        if self.ramp is not None:
            x = x > self._ramp[None, :, None]
        spikes = x.transpose(0, 1).to(torch.float32, memory_format=torch.contiguous_format)
        return spikes, labels

    def batches(
        self, size: int, few: np.ndarray | None = None
    ) -> Iterator[tuple[np.ndarray | Tensor, np.ndarray | Tensor]]:
        """All samples in order, or those whose numbers are in `few`."""
        order = None if few is None else self.in_order(few, 1)
        for start in range(0, len(self) if few is None else len(few), size):
            some = slice(start, start + size)
            yield self.batch(some if order is None else order[some])

    @cached_property
    def spikes_per_step(self) -> float:
        """Mean number of input spikes in a step."""
        return float(self.data.sum(dtype=np.int64 if self.on_kernels else torch.int64)) / (
            len(self) * self.timesteps
        )


HELD = 8  # splits that stay encoded on a device, for the groups to come
_held: dict[tuple, tuple[Split, Samples]] = {}


def encoded(split: Split, encoder: str, timesteps: int, device: torch.device) -> Samples:
    """Samples of a split, those of an earlier call where they are still held; HELD used last are."""
    key = id(split), encoder, timesteps, str(device), device.type in KERNEL_DEVICES
    found = _held.pop(key, None)
    if found is None or found[0] is not split:
        found = split, Samples(split, encoder, timesteps, device)
    _held[key] = found
    while len(_held) > HELD:
        del _held[next(iter(_held))]
    return found[1]


def open_pass(stack: PopulationStack, samples: Samples) -> CpuPass | TorchPass:
    """What computes gradients and scores on the device of `samples`."""
    return CpuPass(stack, samples.ramp) if samples.on_kernels else TorchPass(stack)


def open_adam(stack: PopulationStack, samples: Samples, budget: "Budget") -> CpuAdam | TorchAdam:
    """What turns gradients into a step of all parameters on the device of `samples`."""
    rates = {kind: budget.learning_rate * rate for kind, rate in RATES.items()}
    return (CpuAdam if samples.on_kernels else TorchAdam)(stack, rates, budget.clip)


# -- training -----------------------------------------------------------------------------------

# Learning rates relative to that of the weights.
RATES = {"weight": 1.0, "threshold": 1.0, "gain": 1.0, "leak": 1.0, "position": 5.0, "scale": 1.0}


# Memory of a group, by memory_bytes, beyond which one ran out on a device: it is not tried again.
too_much: dict[str, float] = {}


def train_group(
    group: Sequence[Architecture], task: Task, budget: Budget, seed: int, device: str | torch.device
) -> list[Trained]:
    """Train candidates of one kind together; each half on its own if memory runs out, or did before on a
    group as large, or is known to be too little now."""
    started = time.perf_counter()
    needed = memory_bytes(group, budget.batch_size, device)
    if len(group) == 1 or needed < min(too_much.get(str(device), math.inf), _free_bytes(device)):
        try:
            with torch.cuda.device(device) if torch.device(device).type == "cuda" else nullcontext():
                return _train_stack(group, task, budget, seed, torch.device(device))
        except (MemoryError, RuntimeError) as error:
            if not _out_of_memory(error):
                raise
        if len(group) == 1:
            return [_failure(group[0], "out of memory", time.perf_counter() - started)]
        too_much[str(device)] = min(too_much.get(str(device), math.inf), needed)
        if torch.device(device).type == "cuda":
            torch.cuda.empty_cache()
    half = len(group) // 2
    return [
        trained
        for part in (group[:half], group[half:])
        for trained in train_group(part, task, budget, seed, device)
    ]


def _free_bytes(device: str | torch.device) -> float:
    """What a group may take on a device at this moment; a CPU has its setting, at planning."""
    if torch.device(device).type != "cuda":
        return math.inf
    return 0.9 * (torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device))


def _room_bytes(budget: Budget, device: str | torch.device) -> float:
    """What a group is planned to take at most: most of a GPU, or on a CPU the setting."""
    if torch.device(device).type == "cuda" and torch.cuda.is_available():
        return 0.8 * torch.cuda.mem_get_info(device)[1]
    return budget.memory_gib * GIB


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
    train = encoded(task.train, task.encoder, timesteps, device)
    validation = encoded(task.validation, task.encoder, timesteps, device)
    learner = open_pass(stack, train)
    adam = open_adam(stack, train, budget)
    step = open_step(learner, adam)
    sparse = any(
        kept < math.prod(n) for a in group for kept, n in zip(a.kept_synapses, a.layer_sizes, strict=True)
    )
    # Epoch in which a gradient was no number, [P] on the device; -1: in none.
    failed_in = torch.full((len(group),), -1, device=device)
    samples = min(len(train), budget.samples or len(train))
    steps = math.ceil(samples / budget.batch_size)
    interval = max(1, math.ceil(budget.epochs * steps / MASK_UPDATES))
    regrowing = interval * math.ceil(REGROW_EVERY / interval)
    for epoch in range(budget.epochs):
        softness = max(0.0, 1 - epoch / budget.epochs / 0.7)  # of delays: broad first, sharp at the end
        order = rng(seed, "minibatch", epoch).permutation(len(train))[:samples]
        order = train.in_order(order, budget.batch_size)
        for i in range(steps):
            index = order[i * budget.batch_size : (i + 1) * budget.batch_size]
            taken = epoch * steps + i
            progress = taken / (budget.epochs * steps)
            batch = train.batch(index)
            if sparse and taken % interval == 0:
                _prune(stack, adam, progress, budget)
                if budget.regrow and taken and taken % regrowing == 0 and progress < REGROW_TO:
                    step.gradients(*batch, softness)
                    _regrow(stack, adam, progress, budget)
            norms = step(*batch, softness, rate(progress))
            failed_in = torch.where((failed_in < 0) & ~torch.isfinite(norms), epoch, failed_in)
    step.close()
    if sparse:
        _prune(stack, adam, 1.0, budget)
    seconds = (time.perf_counter() - started) / len(group)
    seen = evaluate(learner, validation)
    few = None if samples == len(train) else np.sort(rng(seed, "seen").permutation(len(train))[:samples])
    trained_on = evaluate(learner, train, few=few)
    diverged = {
        p: f"diverged: its gradient is not finite in epoch {epoch}"
        for p, epoch in enumerate(failed_in.tolist())
        if epoch >= 0
    }
    tensors = [tensor for kind in stack.parameters.values() for tensor in kind]
    numbers = [t.detach().isfinite().reshape(len(group), -1).all(1) for t in tensors]
    finite = torch.stack(numbers).all(0).tolist()
    results, host = [], stack.on_host()
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
            network = stack.export(p, architecture, task.encoder, host)
            results.append(Trained(architecture, network, *figures, seen.activity[p], None, seconds))
    return results


# -- sparsity -----------------------------------------------------------------------------------
#
# Gradual pruning with regrowth: Liu et al. 2021, "Sparse training via boosting pruning plasticity with
# neuroregeneration". With prune_to = 0 it is sparse from the start: Evci et al. 2020, "Rigging the lottery".

MASK_UPDATES = 64  # how often at most, in a training, the density falls
REGROW_EVERY = 150  # steps at least between two regrowths: a synapse that starts at 0 needs time to grow
REGROW_TO = 0.75  # share of the training after which no synapse moves any more


def _prune(stack: PopulationStack, adam: CpuAdam | TorchAdam, progress: float, budget: Budget) -> None:
    """Bring the density to where it should be at `progress` of the training.

    Cubic schedule of Zhu and Gupta 2017, "To prune, or not to prune".
    """
    span = budget.prune_to - budget.prune_from
    done = progress - budget.prune_from
    share = min(1.0, max(0.0, done / span)) if span > 0 else float(done >= 0)
    stack.prune(1 - (1 - share) ** 3, budget.prune_per, _saliencies(stack, adam, budget))


@torch.no_grad()
def _regrow(stack: PopulationStack, adam: CpuAdam | TorchAdam, progress: float, budget: Budget) -> None:
    """Move synapses along the gradients that lie in the tensors; what moved starts with empty moments.

    The share that moves falls as half a cosine from budget.regrow to 0 at REGROW_TO.
    """
    share = budget.regrow * 0.5 * (1 + math.cos(math.pi * progress / REGROW_TO))
    for layer in stack.layers:
        moved = layer.regrow(share, budget.prune_per, layer.tensors["weight"].grad)
        for p in adam.parameters:
            if p.mask is layer.buffers["keep"]:
                p.first.masked_fill_(moved, 0.0)
                p.second.masked_fill_(moved, 0.0)


@torch.no_grad()
def _saliencies(stack: PopulationStack, adam: CpuAdam | TorchAdam, budget: Budget) -> list[Tensor | None]:
    """What the synapses of every layer are worth, [P, n_in, n_out]; None: the magnitudes of their weights.

    sensitivity: about the square root of what the loss would gain without the synapse, w^2 times its Fisher
    information, for which the mean squared gradient of Adam stands (LeCun et al. 1990, "Optimal brain
    damage"; Theis et al. 2018, "Faster gaze prediction with dense networks and Fisher pruning"). Synapses
    from an input that never spikes are worth nothing. Before the first step nothing is known of gradients.
    """
    if budget.prune_by == "magnitude" or not adam.taken:
        return [None] * len(stack.layers)
    squares = {id(p.tensor): p.second for p in adam.parameters}
    weights = [layer.tensors["weight"] for layer in stack.layers]
    return [weight.abs() * squares[id(weight)].sqrt() for weight in weights]


def rate(progress: float) -> float:
    """The learning rate at `progress` of a training, as a share of its peak: linear warm-up over the first
    twentieth, then half a cosine down to nothing."""
    return min(1.0, (progress + 1e-3) / 0.05) * 0.5 * (1 + math.cos(math.pi * progress))


# -- evaluation ---------------------------------------------------------------------------------


class Evaluated(NamedTuple):
    """Of every candidate: mean loss in nats, accuracy 0..1, mean spikes per step into each layer."""

    loss: list[float]
    accuracy: list[float]
    activity: list[tuple[float, ...]]


@torch.no_grad()
def evaluate(
    learner: CpuPass | TorchPass, samples: Samples, batch_size: int = EVALUATED, few: np.ndarray | None = None
) -> Evaluated:
    """The exact forward pass of every candidate on all samples, or on those whose numbers are in `few`."""
    stack, many = learner.stack, len(samples) if few is None else len(few)
    device = torch.device("cpu") if samples.on_kernels else samples.device
    loss = torch.zeros(stack.count, dtype=torch.float64, device=device)
    right = torch.zeros(stack.count, dtype=torch.int64, device=device)
    spikes = torch.zeros(stack.count, len(stack.layers), dtype=torch.float64, device=device)
    for x, y in samples.batches(batch_size, few):
        scores, counts = learner.scores(x)
        lost, hit = learner.judged(scores, y)
        loss += lost
        right += hit
        spikes += counts
    rates = spikes.cpu().numpy() / (many * samples.timesteps)
    into = np.concatenate([np.full((stack.count, 1), samples.spikes_per_step), rates[:, :-1]], 1)
    return Evaluated(
        (loss / many).tolist(),
        (right.double() / many).tolist(),
        [tuple(row) for row in into.tolist()],
    )

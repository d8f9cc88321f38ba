"""train_population(): a whole generation trained at once, every candidate on its own numbers.

The exact integer network is in the forward pass, so the accuracy that comes out is the accuracy of
the exported network, of its Verilog and of the chip.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch

from scnas import genes
from scnas.randomness import rng
from scnas.snn import backends, sparsity
from scnas.snn.budget import Budget
from scnas.snn.groups import EVALUATED, memory_bytes, plan_groups
from scnas.snn.network import Network
from scnas.snn.population import PopulationStack
from scnas.snn.samples import Samples, encoded
from scnas.space import Architecture
from scnas.tasks import Task


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
        rows = [gene for gene in genes.GENES if gene.mapping and gene.stored]
        values = {gene: getattr(architecture, gene.name) for gene in rows}
        layers = tuple(
            replace(layer, **{g.stored: values[g][i] for g in rows if g.per == genes.LAYER})
            for i, layer in enumerate(network.layers)
        )
        whole = {g.stored: values[g] for g in rows if g.per == genes.NETWORK}
        network = replace(network, layers=layers, **whole)
    return trained._replace(architecture=architecture, network=network)


def open_pass(stack: PopulationStack, samples: Samples) -> backends.Pass:
    """What computes gradients and scores of a stack on the device of `samples`."""
    backend = _backend_of(stack, samples)
    if backend.arrays != samples.arrays:
        raise ValueError("samples must be encoded as the passes of their neurons take them")
    return backend.pass_of(stack, samples.ramp)


def open_adam(stack: PopulationStack, samples: Samples, budget: Budget) -> backends.Adam:
    """What turns gradients into a step of all parameters of a stack on the device of `samples`."""
    rates = {kind: budget.learning_rate * rate for kind, rate in RATES.items()}
    return _backend_of(stack, samples).adam_of(stack, rates, budget.clip)


def _backend_of(stack: PopulationStack, samples: Samples) -> backends.Backend:
    return backends.backend_on(samples.device, (model for layer in stack.layers for model in layer.models))


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
    backend = backends.backend_on(device, (neuron for a in group for neuron in a.neuron_types))
    needed = memory_bytes(group, budget.batch_size, device)
    if len(group) == 1 or needed < min(too_much.get(str(device), math.inf), _free_bytes(device)):
        try:
            with backend.using(torch.device(device)):
                return _train_stack(group, task, budget, seed, torch.device(device))
        except (MemoryError, RuntimeError) as error:
            if not _out_of_memory(error):
                raise
        if len(group) == 1:
            return [_failure(group[0], "out of memory", time.perf_counter() - started)]
        too_much[str(device)] = min(too_much.get(str(device), math.inf), needed)
        backend.memory.release()
    half = len(group) // 2
    return [
        trained
        for part in (group[:half], group[half:])
        for trained in train_group(part, task, budget, seed, device)
    ]


def _free_bytes(device: str | torch.device) -> float:
    """What a group may take on a device at this moment; a CPU has its setting, at planning."""
    return backends.backend_on(device).memory.free(torch.device(device))


def _out_of_memory(error: BaseException) -> bool:
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(
        words in str(error).lower() for words in ("out of memory", "can't allocate memory", "cannot allocate")
    )


def _train_stack(
    group: Sequence[Architecture], task: Task, budget: Budget, seed: int, device: torch.device
) -> list[Trained]:
    started = time.perf_counter()
    backend = backends.backend_on(device, (neuron for a in group for neuron in a.neuron_types))
    stack = PopulationStack(group, seed, device, budget.powers_of_two, backend.operations)
    timesteps = group[0].timesteps
    train = encoded(task.train, task.encoder, timesteps, device, backend.arrays)
    validation = encoded(task.validation, task.encoder, timesteps, device, backend.arrays)
    learner = open_pass(stack, train)
    adam = open_adam(stack, train, budget)
    step = backend.step_of(learner, adam)
    sparse = any(
        kept < math.prod(n) for a in group for kept, n in zip(a.kept_synapses, a.layer_sizes, strict=True)
    )
    # Epoch in which a gradient was not finite, [P] on the device; -1: in none.
    failed_in = torch.full((len(group),), -1, device=device)
    samples = min(len(train), budget.samples or len(train))
    steps = math.ceil(samples / budget.batch_size)
    interval = max(1, math.ceil(budget.epochs * steps / sparsity.MASK_UPDATES))
    regrowing = interval * math.ceil(sparsity.REGROW_EVERY / interval)
    for epoch in range(budget.epochs):
        softness = max(0.0, 1 - epoch / budget.epochs / 0.7)  # of delays: broad first, sharp at the end
        shuffled = rng(seed, "minibatch", epoch).permutation(len(train))[:samples]
        order = train.in_order(shuffled, budget.batch_size)
        for i in range(steps):
            index = order[i * budget.batch_size : (i + 1) * budget.batch_size]
            taken = epoch * steps + i
            progress = taken / (budget.epochs * steps)
            batch = train.batch(index)
            if sparse and taken % interval == 0:
                sparsity.thin(stack, adam, progress, budget)
                if budget.regrow and taken and taken % regrowing == 0 and progress < sparsity.REGROW_TO:
                    step.gradients(*batch, softness)
                    sparsity.rewire(stack, adam, progress, budget)
            norms = step(*batch, softness, rate(progress))
            failed_in = torch.where((failed_in < 0) & ~torch.isfinite(norms), epoch, failed_in)
    step.close()
    if sparse:
        sparsity.thin(stack, adam, 1.0, budget)
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
        figures = trained_on.loss[p], trained_on.accuracy[p], seen.loss[p], seen.accuracy[p]
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
    learner: backends.Pass, samples: Samples, batch_size: int = EVALUATED, few: np.ndarray | None = None
) -> Evaluated:
    """The exact forward pass of every candidate on all samples, or on those whose numbers are in `few`."""
    stack, many = learner.stack, len(samples) if few is None else len(few)
    device = samples.device
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

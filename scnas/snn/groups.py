"""Which candidates are trained together, what a group costs, and how much memory it takes."""

from collections.abc import Sequence
from typing import NamedTuple

import torch

from scnas.contract import Refused, is_power_of_two
from scnas.snn import backends, derive
from scnas.snn.budget import GIB, Budget
from scnas.snn.cpu.passes import CACHE_BYTES
from scnas.snn.fusion import fuses
from scnas.snn.models import model_of
from scnas.snn.population import padded
from scnas.snn.reference.synapses import Kind, exact_in_bf16, sums_up
from scnas.space import Architecture
from scnas.tasks import Task

MOST_IN_A_GROUP = 65_535  # candidates lie along an axis that CUDA limits to as many
PARTS = 16  # groups that a batch is cut into where nothing else asks for more, for as many workers
EVALUATED = 256  # samples of a batch that is only evaluated


def check_fits(architecture: Architecture, task: Task) -> None:
    """ValueError if `architecture` cannot be trained exactly on `task`."""
    if (architecture.n_inputs, architecture.n_outputs) != (task.n_inputs, task.n_classes):
        raise Refused(
            f"task {task.name} has {task.n_inputs} inputs and {task.n_classes} classes, the architecture "
            f"{architecture.n_inputs} and {architecture.n_outputs}"
        )
    if task.encoder == "rate" and not is_power_of_two(architecture.timesteps):
        raise Refused(f"timesteps must be a power of two for the rate encoder, got {architecture.timesteps}")
    if task.timesteps is not None and architecture.timesteps != task.timesteps:
        raise Refused(
            f"timesteps must be {task.timesteps} for task {task.name}, got {architecture.timesteps}"
        )
    widest = max(n_in for n_in, _ in architecture.layer_sizes)
    if widest * 2**architecture.fraction >= 2**24:
        raise Refused(
            f"a layer of {widest} inputs with fraction {architecture.fraction} exceeds what float32 sums "
            f"hold exactly: inputs times 2^fraction must stay below 2^24"
        )


def plan_groups(
    architectures: Sequence[Architecture],
    task: Task,
    budget: Budget,
    device: str | torch.device = "cpu",
    parts: int = PARTS,
) -> list[list[Architecture]]:
    """The distinct trainings that `architectures` need, in groups that are trained together.

    Depends on the arguments alone. A group has one depth, number of steps, fraction and readout; its
    members are neighbours in delays and size, and its memory stays within the budget. Those with a neuron
    that no kernel knows, which torch trains, are in groups of their own, so that the others train as without
    them. Where the kernels
    of a CPU work, padding costs nothing and the result does not depend on the group, so that a group
    holds up to one of `parts` shares of all work, for as many workers. Elsewhere it grows while padding
    to the widest wastes less than starting another group costs.
    """
    for architecture in architectures:
        check_fits(architecture, task)
    kinds: dict[tuple, list[Architecture]] = {}
    backend = backends.backend_on(device)
    for a in dict.fromkeys(a.training_key for a in architectures):
        kind = (a.n_layers, a.timesteps, a.fraction, a.readout, a.word <= 16)
        own = backends.backend_on(device, a.neuron_types)
        kinds.setdefault(kind if own == backend else (*kind, "torch"), []).append(a)
    overhead = backend.group_overhead / budget.batch_size
    room = _room_bytes(budget, device)
    share = max(sum(work_of(a) for kind in kinds.values() for a in kind) / parts, 20 * overhead)
    groups = []
    for kind in sorted(kinds, key=repr):
        own = backends.backend_on(device, (neuron for a in kinds[kind] for neuron in a.neuron_types))
        members = sorted(kinds[kind], key=lambda a: (max(a.delay_ranges), work_of(a), a.name))
        group: list[Architecture] = []
        envelope: _Envelope | None = None
        useful = 0
        for a in members:
            wider, more = _widened(envelope, a), useful + work_of(a)
            fits = wider.members <= MOST_IN_A_GROUP and _memory(wider, budget.batch_size, own) <= room
            worth = more <= share if own.arrays else wider.members * work_of(wider) <= 1.6 * more + overhead
            if group and not (fits and worth):
                groups.append(group)
                group, wider, more = [], _widened(None, a), work_of(a)
            group.append(a)
            envelope, useful = wider, more
        groups.append(group)
    return groups


class _Envelope(NamedTuple):
    """What a group of `members` is padded to: the widest layers and longest delays of all, and whether any
    layer of that place has lfsr streams, streams too long for bfloat16, or neurons that adapt; and whether
    the currents of all last layers are summed up at once. It may hold layers too large for any architecture.
    """

    members: int
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
    adapts = tuple(bool(derive.remembered(model_of(model))) for model in a.neuron_types)
    summed = not a.fires(a.n_layers - 1) and sums_up(
        a.generators[-1], sizes[-1][0], a.timesteps, a.fraction, a.word
    )
    if envelope is None:
        return _Envelope(1, a.timesteps, sizes, a.delay_ranges, lfsr, long, adapts, summed)
    return _Envelope(
        envelope.members + 1,
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


def memory_bytes(group: Sequence[Architecture], batch_size: int, device: str | torch.device = "cpu") -> int:
    """About the peak memory of training a group on `device`, data and libraries not included."""
    backend = backends.backend_on(device, (neuron for a in group for neuron in a.neuron_types))
    return _memory(_envelope(group), batch_size, backend)


def _memory(a: _Envelope, batch_size: int, backend: backends.Backend) -> int:
    """See memory_bytes. Every synapse has a weight, its gradient, two moments and two masks, and the same
    again for a delay. The kernels need besides the room of one candidate (cpu.passes._Room). torch needs of
    all what is saved for backward, and of one layer at a time what is only passed on: gradients, spikes as
    operands of a product, matrices of a delay; and to choose among the synapses of a layer it sorts them. On
    CUDA a training step is a graph that holds its memory, gradients included. Where the batches of a training
    are small, evaluation takes more: it keeps the spikes of all layers."""
    depth = len(a.layer_sizes)
    step, kernels = backend.operations.width_step, backend.operations.layer is not None
    sizes = tuple(padded([size], i, depth, step) for i, size in enumerate(a.layer_sizes))
    a = a._replace(layer_sizes=sizes)
    synapses = sum(n_in * n_out * (1 + (max(a.delay_ranges) > 0)) for n_in, n_out in a.layer_sizes)
    parameters = 22 * a.members * synapses
    streams = [a.timesteps if lfsr else 1 for lfsr in a.lfsr]
    layers = list(zip(a.layer_sizes, a.delay_ranges, streams, strict=True))
    if backend.arrays:
        matrices = sum((8 * s + 4) * (d + 1) * n_in * n_out for (n_in, n_out), d, s in layers)
        states = max(CACHE_BYTES, 8 * 32 * a.timesteps * sum(n for _, n in a.layer_sizes))
        inputs = max(batch_size, EVALUATED) * a.timesteps * a.layer_sizes[0][0] * 8
        return parameters + matrices + 2 * states + inputs
    kept = 0
    broadest = max((n_in for n_in, _ in a.layer_sizes[1:]), default=0)
    for i, ((n_in, n), d, _) in enumerate(layers):
        fused = fuses(Kind("lfsr" if a.lfsr[i] else "sobol", not a.long[i]), n_in, n, d, i == 0)
        each, besides = backend.scan_bytes(fused, a.adapts[i])
        kept += n * each
    if a.summed and kernels:  # neither currents of the last layer, nor spikes of the one before
        kept -= 12 * layers[-1][0][1] + 4 * layers[-1][0][0] * (len(layers) > 1)
        broadest = max((n_in for n_in, _ in a.layer_sizes[1:-1]), default=0)
    neurons, widest = sum(n for _, n in a.layer_sizes), max(n for _, n in a.layer_sizes)
    tables = 4 * 257 * a.timesteps * sum(a.lfsr)
    # A slice for every delay of sobol layers, a matrix for every step of others, in bfloat16 where exact.
    size = [4 if long or not kernels else 2 for long in a.long]
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
    return parameters + a.members * (tables + matrices + passing + sorting + max(trained, evaluated)) + inputs


def _room_bytes(budget: Budget, device: str | torch.device) -> float:
    """What a group is planned to take at most: most of a GPU, or on a CPU the setting."""
    planned = backends.backend_on(device).memory.planned(torch.device(device))
    return budget.memory_gib * GIB if planned is None else planned

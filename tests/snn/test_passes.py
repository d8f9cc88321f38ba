"""The two ways to compute gradients and scores, kernels on a CPU and torch anywhere, are one."""

import sys

import numpy as np
import pytest
import torch
from numba.core.runtime import _nrt_python, rtsys

from scnas.snn import backends, training
from scnas.snn.budget import Budget
from scnas.snn.cpu import passes as of_cpu
from scnas.snn.cpu.passes import CpuPass
from scnas.snn.population import PopulationStack
from scnas.snn.reference.operations import REFERENCE
from scnas.snn.reference.passes import TorchPass
from scnas.snn.sparsity import prune_all
from scnas.snn.streams import rate_encode, van_der_corput
from scnas.space import SearchSpace
from scnas.tasks import Split, Task

# float32 sums in another order: 1e-5 of the norm of a gradient is what they may differ by.
TOLERANCE = 1e-5
ROUNDING = 1e-6  # where a gradient is the difference of float32 numbers near 1


def population(seed, **changes):
    """Six random candidates of one depth: all models, generators, delays, densities and lengths."""
    dice = np.random.default_rng(seed)
    depth = 1 + seed % 3
    choices = dict(
        width_choices=(3, 5, 17), delay_choices=(0, 1, 3), L_choices=(1, 4, 16, 128), timesteps_choices=(8,),
        word_choices=((6, 8) if seed % 4 == 0 else (12, 16)),
    )  # fmt: skip
    space = SearchSpace(7, 4, depth, depth, **(choices | changes))
    return [space.random_architecture(dice) for _ in range(6)]


def stacks(seed, powers_of_two=True, operations=REFERENCE, **changes):
    """The same population twice, with thresholds, gains and leaks moved off their start."""
    made = []
    for _ in range(2):
        group, device = population(seed, **changes), torch.device("cpu")
        stack = PopulationStack(group, seed, device, powers_of_two, operations)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for layer in stack.layers:
                for name in ("threshold", "gain", "leak"):
                    tensor = layer.tensors[name]
                    tensor += 0.7 * torch.randn(tensor.shape, generator=generator)
                layer.clamp()
            prune_all(stack, 1.0, "layer")
        made.append(stack)
    return made


def batch(seed, encoder, timesteps=8, samples=9):
    """Inputs for both passes, and labels."""
    dice = np.random.default_rng(seed)
    labels = dice.integers(0, 4, samples)
    if encoder == "rate":
        x = dice.random((samples, 7))
        levels = np.rint(x * timesteps).astype(np.uint8)[:, None]
        return levels, rate_encode(x, timesteps), labels
    spikes = (dice.random((samples, timesteps, 7)) < 0.4).astype(np.uint8)
    return spikes, spikes, labels


def passes(seed, encoder, timesteps=8, samples=9, **changes):
    ours, reference = stacks(seed, timesteps_choices=(timesteps,), **changes)
    x, spikes, labels = batch(seed, encoder, timesteps, samples)
    cpu = CpuPass(ours, van_der_corput(timesteps) if encoder == "rate" else None)
    return cpu, x, TorchPass(reference), torch.tensor(spikes).transpose(0, 1).float(), labels


@pytest.mark.parametrize("encoder", ["rate", "events"])
@pytest.mark.parametrize("readout", ["membrane", "spikes"])
@pytest.mark.parametrize("seed", range(12))
def test_scores_and_spike_counts_are_equal(seed, readout, encoder):
    powers = seed % 2 == 0
    cpu, x, torch_pass, spikes, _ = passes(seed, encoder, readout=readout, powers_of_two=powers)
    ours, theirs = cpu.scores(x), torch_pass.scores(spikes)
    assert (ours[0] == theirs[0].double()).all()
    assert (ours[1] == theirs[1]).all()
    if seed % 3:  # deep enough to have hidden layers
        assert ours[1][:, 0].any(), "a silent population would agree with anything"


@pytest.mark.parametrize("encoder", ["rate", "events"])
@pytest.mark.parametrize("readout", ["membrane", "spikes"])
@pytest.mark.parametrize("seed", range(12))
def test_gradients_agree(seed, readout, encoder):
    powers = seed % 2 == 0
    cpu, x, torch_pass, spikes, labels = passes(seed, encoder, readout=readout, powers_of_two=powers)
    assert_gradients_agree(cpu, x, torch_pass, spikes, labels, (0.0, 0.5, 1.0)[seed % 3])


def assert_gradients_agree(cpu, x, torch_pass, spikes, labels, softness):
    ours = cpu.gradients(x, labels, softness)
    theirs = torch_pass.gradients(spikes, torch.tensor(labels), softness)
    assert torch.allclose(ours.double(), theirs.double(), rtol=TOLERANCE)
    compared = 0
    for kind, tensors in cpu.stack.parameters.items():
        for mine, other in zip(tensors, torch_pass.stack.parameters[kind], strict=True):
            padding = torch.ones_like(mine, dtype=torch.bool)
            for layer in cpu.stack.layers:
                if layer.tensors.get(kind) is mine and kind in ("weight", "position"):
                    padding = layer.buffers["real"]
            difference = (mine.grad - other.grad) * padding
            allowed = TOLERANCE * float((other.grad * padding).norm()) + ROUNDING
            assert float(difference.norm()) <= allowed, kind
            compared += int((other.grad != 0).sum())
    assert compared > 50, "gradients of nothing would agree with anything"


@pytest.mark.parametrize("encoder, timesteps", [("rate", 2), ("rate", 16), ("events", 6), ("events", 13)])
@pytest.mark.parametrize("readout", ["membrane", "spikes"])
@pytest.mark.parametrize("seed", [1, 2, 5])
def test_whole_blocks_and_wide_layers_agree(seed, readout, encoder, timesteps):
    """The kernels take 16 samples, 4 steps, 4 neurons and up to 64 columns at a time: more of each than that,
    and a rest. 5 delays: more than there are steps."""
    cpu, x, torch_pass, spikes, labels = passes(
        seed, encoder, timesteps, samples=37, readout=readout, width_choices=(16, 70), delay_choices=(0, 1, 4)
    )
    ours, theirs = cpu.scores(x), torch_pass.scores(spikes)
    assert (ours[0] == theirs[0].double()).all()
    assert (ours[1] == theirs[1]).all()
    assert_gradients_agree(cpu, x, torch_pass, spikes, labels, 0.5)


def full(stacks, by):
    """Weights of the second layer at `by` times their largest magnitude, of random signs, in both stacks."""
    for stack in stacks:
        signs = np.random.default_rng(0).choice([-1.0, 1.0], stack.layers[1].tensors["weight"].shape[1:])
        with torch.no_grad():
            stack.layers[1].tensors["weight"][:] = torch.tensor(by * signs)


@pytest.mark.parametrize("encoder", ["rate", "events"])
@pytest.mark.parametrize("delays", [(0,), (2,)])
@pytest.mark.parametrize("length, by", [(256, 1.0), (256, 0.9), (64, 1.0)])
def test_sums_beyond_sixteen_bits_agree(length, by, delays, encoder):
    """Magnitudes are summed up as integers of 16 bits where that is enough, and of 32 where it is not, as for
    256 inputs times 256."""
    changes = dict(
        width_choices=(256,), L_choices=(length,), delay_choices=delays, generator_choices=("sobol",),
        word_choices=(16,), density_choices=(1.0,),
    )  # fmt: skip
    cpu, x, torch_pass, spikes, labels = passes(2, encoder, **changes)
    full([cpu.stack, torch_pass.stack], by)
    ours, theirs = cpu.scores(x), torch_pass.scores(spikes)
    narrow = cpu._room.layers[:, 1]["narrow"]
    assert narrow.all() if length == 64 else not narrow.any()
    assert (ours[0] == theirs[0].double()).all()
    assert (ours[1] == theirs[1]).all()
    assert_gradients_agree(cpu, x, torch_pass, spikes, labels, 0.5)


@pytest.mark.parametrize("model", ["stochastic_lif", "homeostatic_lif", "izhikevich"])
@pytest.mark.parametrize("word", [8, 16])
def test_currents_that_saturate_and_such_that_cannot_agree(word, model):
    """256 inputs of one sign reach beyond a word of 8 bits, but not beyond one of 16."""
    changes = dict(
        width_choices=(256,), L_choices=(8,), generator_choices=("sobol",), word_choices=(word,),
        neuron_choices=(model, "lif"), delay_choices=(0,), fraction=4, density_choices=(1.0,),
    )  # fmt: skip
    cpu, x, torch_pass, spikes, labels = passes(2, "rate", **changes)
    full([cpu.stack, torch_pass.stack], 0.6)
    ours, theirs = cpu.scores(x), torch_pass.scores(spikes)
    assert (cpu._room.layers[:, 1]["unsaturated"] == (word == 16)).all()
    assert (ours[0] == theirs[0].double()).all()
    assert (ours[1] == theirs[1]).all()
    assert_gradients_agree(cpu, x, torch_pass, spikes, labels, 0.5)


@pytest.mark.parametrize("layer", [0, 1, 2])
def test_a_weight_that_is_no_number_leaves_no_number_in_the_gradients(layer):
    """Integers cannot say so: the unit that they are multiplied with does. No neighbour is touched."""
    changes = dict(generator_choices=("sobol",), neuron_choices=("lif",), delay_choices=(0,))
    cpu, x, _, _, labels = passes(2, "rate", **changes)
    with torch.no_grad():
        cpu.stack.layers[layer].buffers["keep"][1, 0, 0] = True
        cpu.stack.layers[layer].tensors["weight"][1, 0, 0] = float("nan")
    cpu.gradients(x, labels, 0.5)
    tensors = [tensor for kind in cpu.stack.parameters.values() for tensor in kind]
    numbers = [tensor.grad.isfinite().reshape(6, -1).all(1) for tensor in tensors]
    assert torch.stack(numbers).all(0).tolist() == [True, False, True, True, True, True]


def task(encoder):
    """Two classes told apart by which half of the inputs is active."""
    dice = np.random.default_rng(0)
    y = np.arange(200) % 4
    x = dice.random((200, 7)) * 0.6 + 0.4 * (np.arange(7) % 4 == y[:, None])
    if encoder == "events":
        x = (dice.random((200, 8, 7)) < x[:, None]).astype(np.uint8)
    parts = [Split(x[i::4] if encoder == "events" else x[i::4].astype(np.float32), y[i::4]) for i in range(3)]
    return Task("made", encoder, 7, 4, 8 if encoder == "events" else None, *parts)


@pytest.mark.parametrize("encoder", ["rate", "events"])
def test_training_goes_the_same_way_with_either_pass(encoder, monkeypatch):
    budget = Budget(epochs=2, learning_rate=0.005)
    ours = training.train_population(population(1), task(encoder), budget, seed=3)
    monkeypatch.setattr(backends, "CPU", backends.TORCH)
    theirs = training.train_population(population(1), task(encoder), budget, seed=3)
    assert any(trained.failed is None for trained in ours)
    for a, b in zip(ours, theirs, strict=True):
        assert a.failed == b.failed
        if a.failed is None:
            # Rounding differs in the last bits, and now and then an integer weight with it.
            assert a.train_loss == pytest.approx(b.train_loss, rel=0.05)
            assert a.activity == pytest.approx(b.activity, rel=0.1)


@pytest.mark.parametrize("encoder", ["rate", "events"])
@pytest.mark.parametrize("seed", range(6))
def test_compiled_passes_give_every_array_back_as_often_as_they_took_it(seed, encoder, monkeypatch):
    """Functions that only borrow arrays do not count references (see cpu.cache.borrowing): none may leak."""
    kept, run = [], of_cpu.run

    def arrays(values):
        for value in values:
            if isinstance(value, tuple):
                yield from arrays(value)
            elif isinstance(value, np.ndarray):
                yield value

    def counted(*arguments):
        given = list(arrays(arguments))
        before = [sys.getrefcount(array) for array in given]
        blocks = rtsys.get_allocation_stats()
        result = run(*arguments)
        after = rtsys.get_allocation_stats()
        kept.append(after.alloc - blocks.alloc - (after.free - blocks.free))
        assert before == [sys.getrefcount(array) for array in given] and len(given) > 5
        return result

    stack, _ = stacks(seed)
    x, _, labels = batch(seed, encoder)
    learner = CpuPass(stack, van_der_corput(8) if encoder == "rate" else None)
    learner.gradients(x, labels, 0.5)
    _nrt_python.memsys_enable_stats()
    monkeypatch.setattr(of_cpu, "run", counted)
    learner.gradients(x, labels, 0.5)
    learner.scores(x)
    assert kept == [0, 0]

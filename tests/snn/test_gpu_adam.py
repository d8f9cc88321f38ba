"""scnas.snn.gpu.adam against the reference in torch."""

import pytest
import torch
from interpreter import DEVICE, without_gpu
from test_training import RATES as RATES_OF_TWO
from test_training import Two, arch

from scnas.snn import training
from scnas.snn.gpu import FlatAdam, adam
from scnas.snn.population import PopulationStack
from scnas.snn.reference.adam import TorchAdam

RATES = {kind: 0.02 * (i + 1) for i, kind in enumerate(training.RATES)}


def opened(clip: float, flat: type[FlatAdam] | None = FlatAdam) -> tuple[PopulationStack, TorchAdam]:
    """Candidates of several widths and words, with delays, one of more than a block of synapses."""
    group = [arch(hidden=(n,), delay=2 * (n > 5), word=w) for n, w in ((5, 8), (130, 16), (17, 16))]
    stack = PopulationStack(group, 0, torch.device(DEVICE))
    return stack, TorchAdam(stack, RATES, clip, flat)


def prune(stack: PopulationStack, seed: int) -> None:
    """Some synapses are left out from now on."""
    for layer in stack.layers:
        kept = torch.rand(layer.buffers["keep"].shape, generator=torch.Generator().manual_seed(seed)) < 0.8
        layer.buffers["keep"].logical_and_(kept.to(DEVICE))


def trajectory(
    clip: float, flat: type[FlatAdam] | None = FlatAdam, steps: int = 4
) -> list[list[torch.Tensor]]:
    """Norms, parameters and moments after every step. The second candidate gets a gradient that is no number
    in the second step and an infinite one in the third; leaks never get any."""
    (stack, adam_), seen = opened(clip, flat), []
    dice = torch.Generator().manual_seed(1)
    for step in range(steps):
        prune(stack, step)
        for kind, tensors in stack.parameters.items():
            for tensor in tensors:
                gradient = torch.randn(tensor.shape, generator=dice).to(DEVICE)
                tensor.grad = None if kind == "leak" else gradient
        if step in (1, 2):
            stack.scale.grad[1] = (torch.nan, torch.inf)[step - 1]
        norms = adam_.step(0.5 + step)
        tensors = [t for p in adam_.parameters for t in (p.tensor, p.first, p.second)]
        seen.append([t.detach().clone() for t in (norms, *tensors)])
    return seen


@pytest.mark.parametrize("clip", [1.0, 1e9])
def test_a_step_is_that_of_the_reference(clip):
    theirs = trajectory(clip, None)
    ours = trajectory(clip)
    for step, (mine, other) in enumerate(zip(ours, theirs, strict=True)):
        for a, b in zip(mine, other, strict=True):
            torch.testing.assert_close(a, b, rtol=2e-5, atol=1e-6, equal_nan=True)
        assert bool(torch.isfinite(mine[0][1])) == (step not in (1, 2))
    assert all((a == b).all() for mine, again in zip(ours, trajectory(clip), strict=True)
               for a, b in zip(mine[1:], again[1:], strict=True))  # fmt: skip


def test_a_candidate_of_more_blocks_than_one_turn_holds(monkeypatch):
    """Blocks of 64 numbers, 64 at a time: those of a candidate of 4,000 numbers take two turns."""
    theirs = trajectory(1.0, None)
    monkeypatch.setattr(adam, "BLOCK", 64)
    for mine, other in zip(trajectory(1.0), theirs, strict=True):
        for a, b in zip(mine, other, strict=True):
            torch.testing.assert_close(a, b, rtol=2e-5, atol=1e-6, equal_nan=True)


def test_what_is_no_number_stays_none():
    """As in the reference, so that its candidate is seen to have diverged."""
    for flat in (None, FlatAdam):
        stack, adam_ = opened(1.0, flat)
        weight = stack.parameters["weight"][0]
        with torch.no_grad():
            weight[0, 0, 0] = torch.nan
        for kind in stack.parameters.values():
            for tensor in kind:
                tensor.grad = torch.ones_like(tensor)
        adam_.step(1.0)
        assert weight[0, 0, 0].isnan() and weight.isnan().sum() == 1


@without_gpu
def test_norms_and_bounds_worked_by_hand():
    """As of the reference, see test_training: norms 5, 0.5 and none; steps as long as the rate, one at its
    bound."""
    stack = Two()
    norms = TorchAdam(stack, RATES_OF_TWO, 1.0, FlatAdam).step(1.0)
    assert norms[:2].tolist() == pytest.approx([5, 0.5]) and not torch.isfinite(norms[2])
    weight, scale = stack.parameters["weight"][0], stack.parameters["scale"][0]
    assert weight.flatten().tolist() == pytest.approx([-0.5, 0, -0.5, 0, 0, 0], abs=1e-6)
    assert scale.tolist() == pytest.approx([-0.1, -0.1, 0], abs=1e-6)


def test_tensors_stay_those_of_the_stack():
    """Parameters and masks move in memory, once; what they are and whose they are stays."""
    plain, _ = opened(1.0, None)
    stack, adam_ = opened(1.0)
    for mine, theirs in zip(stack.layers, plain.layers, strict=True):
        for name, tensor in mine.tensors.items():
            assert torch.equal(tensor, theirs.tensors[name]) and tensor.requires_grad and tensor.is_leaf
        assert torch.equal(mine.buffers["keep"], theirs.buffers["keep"])
    assert len({p.tensor.untyped_storage().data_ptr() for p in adam_.parameters}) == 1
    begins = [p.tensor.storage_offset() for p in adam_.parameters]
    assert len(set(begins)) == len(begins) and all(at % 64 == 0 for at in begins)  # lines of a cache
    prune(stack, 0)
    for p in adam_.parameters:
        if p.mask is not None:
            assert any(p.mask is layer.buffers["keep"] for layer in stack.layers) and not p.mask.all()


@pytest.mark.parametrize("planted", ["squares", "mask", "owner"])
def test_a_wrong_table_is_noticed(planted, monkeypatch):
    """The comparison above sees a block left out of a norm, a mask of a neighbour, a block of another."""
    theirs = trajectory(1.0, None)
    make = TorchAdam.__init__

    def wrong(self, *args):
        make(self, *args)
        flat = self._flat
        if planted == "squares":
            flat._firsts[1] += 1
        elif planted == "mask":
            flat._places[:, 3] += 1
        else:
            flat._places[-1, 2] = 0

    monkeypatch.setattr(TorchAdam, "__init__", wrong)
    ours = trajectory(1.0)
    same = [
        torch.allclose(a, b, rtol=2e-5, atol=1e-6, equal_nan=True)
        for a, b in zip(ours[-1], theirs[-1], strict=True)
    ]
    assert not all(same)

"""scnas.snn.gpu.constants against the reference in torch: integers with ==, gradients to 1e-5."""

import pytest
import torch
from interpreter import DEVICE, KERNELS, TOLERANCE
from test_training import arch

from scnas.snn.population import LayerStack
from scnas.snn.reference.operations import REFERENCE, Operations

NARROW = KERNELS._replace(width_step=1)  # both sides have tensors of one shape
NAMES = ("threshold", "gain", "leak")


def layer(seed: int, operations: Operations = NARROW) -> LayerStack:
    """Hidden layers of several widths and words, with thresholds, gains and leaks all over their ranges and
    at their ends."""
    group = [arch(hidden=(n,), word=w) for n, w in ((5, 6), (300, 16), (17, 12), (17, 24))]
    stack = LayerStack(group, 0, 0, True, operations)
    dice = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name in NAMES:
            tensor = stack.tensors[name]
            low, high = stack.bounds(name)
            tensor.copy_(low + torch.rand(tensor.shape, generator=dice) * (high - low))
        stack.tensors["threshold"][:, :, :4] = torch.tensor([8.0, 1e-3, 2.5 / 256, 1.0])
        stack.tensors["threshold"][0, 0, 0] = 31 / 32 * 32 / 4  # the highest of a word of 6 bits
        stack.tensors["gain"][1] = 0.5  # between two powers
    stack.to(torch.device(DEVICE))
    return stack


def constants(stack: LayerStack) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """threshold, gain_k and leak_k, and the gradients to what they come from of a pull on them."""
    c = stack.neuron_constants()
    found = [c.threshold, c.gain_k, c.leak_k]
    dice = torch.Generator().manual_seed(1)
    total = sum(
        (torch.where(torch.isfinite(x), x, 0.0) * torch.randn(x.shape, generator=dice).to(DEVICE)).sum()
        for x in found
    )
    leaves = [stack.tensors[name] for name in NAMES]
    return [x.detach() for x in found], list(torch.autograd.grad(total, leaves))


@pytest.mark.parametrize("seed", range(3))
def test_integers_and_gradients_are_those_of_the_reference(seed):
    expected, slopes = constants(layer(seed, REFERENCE))
    ours, got = constants(layer(seed))
    for a, b in zip(ours, expected, strict=True):
        assert a.dtype == b.dtype == torch.float64 and torch.equal(a, b)
    assert torch.isinf(expected[0]).any() and len(expected[0][torch.isfinite(expected[0])].unique()) > 50
    for a, b in zip(got, slopes, strict=True):
        assert a.dtype == b.dtype == torch.float32 and torch.isfinite(a).all() and float(b.norm()) > 0
        assert float((a - b).norm()) <= TOLERANCE * float(b.norm())
        assert torch.equal(a == 0, b == 0)


def test_what_is_exported_is_what_was_computed():
    """Thresholds, gain and leak of network.json are those that the kernels worked with."""
    stack = layer(0)
    (threshold, gain_k, leak_k), _ = constants(stack)
    for p, (_, width) in enumerate(stack.sizes):
        own = stack.export(p, arch(hidden=(width,)), stack.on_host())
        assert own.threshold.tolist() == threshold[p, 0, :width].tolist()
        assert (own.constants["gain_k"], own.constants["leak_k"]) == (int(gain_k[p]), int(leak_k[p]))


def test_a_parameter_that_is_no_number_stays_none_and_touches_nobody():
    stack = layer(0)
    with torch.no_grad():
        stack.tensors["gain"][0], stack.tensors["threshold"][0, 0, 1] = torch.nan, torch.nan
    (threshold, gain_k, _), _ = constants(stack)
    assert gain_k[0].isnan().all() and threshold.isnan().sum() == 1 and threshold[0, 0, 1].isnan()
    assert torch.isfinite(gain_k[1:]).all() and torch.isfinite(threshold[1, 0, :300]).all()


def test_gradients_may_lie_anyhow():
    """A sum sends the same number to all, which lies in memory once."""
    slopes = []
    for kernels in (False, True):
        stack = layer(1, (NARROW if kernels else REFERENCE))
        c, names = stack.neuron_constants(), [stack.tensors[name] for name in NAMES]
        pulls = [x.new_ones(()).expand(x.shape) for x in (c.threshold, c.gain_k, c.leak_k)]
        slopes.append(torch.autograd.grad([c.threshold, c.gain_k, c.leak_k], names, pulls))
    for a, b in zip(*slopes, strict=True):
        assert float((a - b).norm()) <= TOLERANCE * float(b.norm()) and float(b.norm()) > 0

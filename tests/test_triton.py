"""scnas.snn.triton_kernels against the reference in torch: spikes with ==, gradients to 1e-5.

On a machine without a GPU the kernels run in Triton's interpreter.
"""

import os

import pytest
import torch

CUDA = torch.cuda.is_available()
if not CUDA:
    os.environ["TRITON_INTERPRET"] = "1"  # read when a kernel is defined
pytest.importorskip("triton", reason="triton is not installed")

import numpy as np  # noqa: E402
from test_neurons import constants, random_case  # noqa: E402

from scnas.contract import NEURONS  # noqa: E402
from scnas.snn import neurons, triton_kernels  # noqa: E402
from scnas.snn.neurons import exact_dtype  # noqa: E402

DEVICE = "cuda" if CUDA else "cpu"
TOLERANCE = 1e-5  # of the norm of a gradient: float32 here, the float type of the neuron there
CASES = [(16, 8, True), (8, 4, True), (16, 8, False), (24, 12, False)]


def case(neuron, word, fraction, powers_of_two, batch=3, candidates=4, timesteps=9, n=70, seed=0):
    """Constants with requires_grad and currents [P, T, B, N] float32 up to their ends."""
    dice = np.random.default_rng([seed, word, NEURONS.index(neuron)])
    layers, currents = random_case(dice, neuron, word, fraction, powers_of_two, candidates, timesteps, n)
    dtype = exact_dtype(neuron, word, fraction, powers_of_two)
    c = constants(layers, word, fraction, timesteps).to(dtype)
    c = c._replace(scale=torch.full_like(c.scale, 2.0 ** (word - 3)))
    c = neurons.Constants(*(value.to(DEVICE) for value in c))
    given = torch.tensor(currents, dtype=torch.float32, device=DEVICE)[:, :, None].repeat(1, 1, batch, 1)
    return c, given * torch.tensor([1, -1, 0.5], device=DEVICE).view(1, 1, 3, 1).floor()


def results(scan, c, current):
    """Spikes, and gradients to current, threshold, gain_k and leak_k of a random pull on them."""
    leaves = [t.detach().clone().requires_grad_() for t in (current, c.threshold, c.gain_k, c.leak_k)]
    spikes = scan(leaves[0], c._replace(threshold=leaves[1], gain_k=leaves[2], leak_k=leaves[3]))
    pull = torch.randn(spikes.shape, generator=torch.Generator().manual_seed(1)).to(DEVICE)
    (spikes * pull).sum().backward()
    return spikes.detach(), [torch.zeros_like(t) if t.grad is None else t.grad for t in leaves]


def compare(neuron, word, fraction, powers_of_two, module=triton_kernels):
    """Spikes that differ, the largest relative error of a gradient, spikes, and gradients not zero."""
    c, current = case(neuron, word, fraction, powers_of_two)
    pauses = bool((c.refractory > 0).any())
    theirs, expected = results(lambda x, k: neurons.scan(neuron, x, k, fraction)[0], c, current)
    ours, got = results(lambda x, k: module.scan(neuron, x, k, fraction, pauses), c, current)
    errors = [
        float((a.double() - b.double()).norm() / (b.double().norm() + 1e-30))
        for a, b in zip(got, expected, strict=True)
    ]
    return int((ours != theirs).sum()), max(errors), int(theirs.sum()), sum(int((g != 0).sum()) for g in got)


@pytest.mark.parametrize("word, fraction, powers_of_two", CASES)
@pytest.mark.parametrize("neuron", NEURONS)
def test_spikes_are_equal_and_gradients_agree(neuron, word, fraction, powers_of_two):
    wrong, error, fired, moved = compare(neuron, word, fraction, powers_of_two)
    assert wrong == 0 and error <= TOLERANCE
    assert fired > 100 and moved > 100, "what is silent agrees with anything"


def test_blocks_lie_along_the_axis_of_the_grid_that_is_long(monkeypatch):
    """CUDA allows 2^31 - 1 along the first axis and 65,535 along the others."""
    grids = []

    class Launched:
        def __init__(self, kernel):
            self.kernel = kernel

        def __getitem__(self, grid):
            grids.append(grid)
            return self.kernel[grid]

    for name in ("_forward", "_backward"):
        monkeypatch.setattr(triton_kernels, name, Launched(getattr(triton_kernels, name)))
    c, current = case("lif", 16, 8, True, candidates=2, n=300)
    results(lambda x, k: triton_kernels.scan("lif", x, k, 8, True), c, current)
    assert grids == [(4, 2)] * 2  # 3 samples of 300 neurons in blocks of 256, 2 candidates


def test_without_a_refractory_period_too():
    c, current = case("lif", 16, 8, True)
    c = c._replace(refractory=torch.zeros_like(c.refractory))
    ours, got = results(lambda x, k: triton_kernels.scan("lif", x, k, 8, False), c, current)
    theirs, expected = results(lambda x, k: neurons.scan("lif", x, k, 8)[0], c, current)
    assert torch.equal(ours, theirs) and ours.sum() > 100
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)

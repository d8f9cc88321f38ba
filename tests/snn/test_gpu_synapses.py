"""scnas.snn.gpu.synapses against the references in torch: matrices with ==, gradients to 1e-5."""

import numpy as np
import pytest
import torch
from interpreter import DEVICE, TOLERANCE

from scnas.snn import gpu
from scnas.snn.reference import synapses


def parameters(span: int, n_in: int = 21, n_out: int = 37, seed: int = 0) -> tuple[torch.Tensor, ...]:
    """Of 3 candidates: weights, some a whole number and a half of their steps, masks, largest magnitudes,
    units, and positions of which some lie between two delays; or none without delays."""
    dice = torch.Generator().manual_seed(seed)
    weights = torch.rand(3, n_in, n_out, generator=dice) * 2 - 1
    magnitudes = torch.tensor([1.0, 16, 256]).view(3, 1, 1)
    weights[:, 0] = torch.arange(n_out) / 32
    keep = torch.rand(3, n_in, n_out, generator=dice) < 0.7
    positions = torch.rand(3, n_in, n_out, generator=dice) * span
    positions[:, :, 0] = torch.arange(n_in) % (2 * span + 1) / 2
    found = weights, keep, magnitudes, 256 / magnitudes, positions if span else None
    return tuple(None if x is None else x.to(DEVICE) for x in found)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("span", [0, 3])
def test_matrices_are_those_of_the_reference(span, shared, dtype):
    given = parameters(span)
    given[0][1, 2, 3] = torch.nan  # a candidate that diverged stays one
    expected = synapses.matrices(*given, span + 1, dtype, shared)
    ours = gpu.matrices(*given, span + 1, dtype, shared)
    assert ours.dtype == dtype and ours.shape == expected.shape == (3, span + 1, 21, 37)
    assert torch.equal(ours.nan_to_num(999), expected.nan_to_num(999)) and expected.isnan().any()
    assert ours.permute(1, 2, 0, 3).is_contiguous() == shared


def test_an_entry_worked_by_hand():
    """w = 0.3 of L = 16 is 4.8, 5 ones of 16, 80 of 256; -0.5 / 16 rounds to the even 0 and 1.5 / 16 to 2; of
    a delay of 1.5 the even 2."""
    for matrices in (synapses.matrices, gpu.matrices):
        weights = torch.tensor([[[0.3, -0.5 / 16, 1.5 / 16, -1]]], device=DEVICE)
        keep = torch.tensor([[[True, True, True, False]]], device=DEVICE)
        positions = torch.tensor([[[0.0, 0, 1.5, 0]]], device=DEVICE)
        largest = torch.full((1, 1, 1), 16.0, device=DEVICE)
        out = matrices(weights, keep, largest, 256 / largest, positions, 3, torch.float32, False)
        assert out[0, :, 0].tolist() == [[80, 0, 0, 0], [0, 0, 0, 0], [0, 0, 32, 0]]


@pytest.mark.parametrize("driven", [False, True])
@pytest.mark.parametrize("span, last", [(0, 0), (3, 3), (3, 1)])
def test_gradients_are_those_of_the_reference(span, last, driven):
    """last: of the delays, where there are fewer steps than delays."""
    weights, keep, magnitudes, units, positions = parameters(span, n_in=30)
    matrices = synapses.matrices(weights, keep, magnitudes, units, positions, last + 1, torch.bfloat16, False)
    limits = torch.tensor([span, max(0.0, span - 1), 0.0], device=DEVICE).view(3, 1, 1)
    if span:
        positions = torch.minimum(positions, limits)
    widths = torch.tensor([0.5, 1.5, 0.7], device=DEVICE).view(3, 1, 1)
    given = synapses.Given(weights, positions, matrices, limits, widths, 256.0, span)
    found = torch.randn(last + 1, 3, 30, 37, generator=torch.Generator().manual_seed(1)).to(DEVICE)
    sides = []
    for collect in (synapses.collect, gpu.collect):
        drives = torch.ones(3, dtype=torch.float64, device=DEVICE) if driven else None
        sides.append([x for x in (*collect(found, given, drives), drives) if x is not None])
    assert len(sides[0]) == len(sides[1]) == 1 + (span > 0) + driven
    for a, b in zip(*sides, strict=True):
        assert a.shape == b.shape and a.dtype == b.dtype and float(b.norm()) > 1
        assert float((a - b).norm()) <= TOLERANCE * float(b.norm())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shared", [True, False])
def test_streams_are_filled_as_the_reference_does(shared, dtype):
    dice = np.random.default_rng(0)
    integers = torch.tensor(dice.integers(-256, 257, (3, 5, 70)), dtype=torch.float32, device=DEVICE)
    integers[0, 0, :4] = torch.tensor([0.0, 256, -256, float("nan")])
    tables = torch.tensor(dice.integers(0, 257, (3, 6, 257)), dtype=torch.float32, device=DEVICE)
    expected = synapses.stream_matrix(integers.cpu(), tables.cpu(), dtype, shared)
    ours = synapses.stream_matrix(integers, tables, dtype, shared, gpu.fill)
    assert ours.dtype == dtype and ours.stride() == expected.stride()
    assert torch.equal(ours.cpu().nan_to_num(999), expected.nan_to_num(999)) and expected.isnan().sum() == 6
    # By definition, one synapse at a time.
    for p, i, j in ((0, 0, 1), (0, 0, 2), (1, 2, 3), (2, 4, 69)):
        w = int(integers[p, i, j])
        assert ours[p, :, i, j].tolist() == [np.sign(w) * float(row[abs(w)]) for row in tables[p]]

"""scnas.snn.gpu.loss against the reference in torch."""

import pytest
import torch
from interpreter import DEVICE

from scnas.snn import gpu
from scnas.snn.reference import loss


def slopes(losses_of, dtype: torch.dtype, batch: int, classes: int, missing: int) -> list[torch.Tensor]:
    """Losses of 3 candidates, and gradients to scores and scales; the last `missing` samples do not count."""
    dice = torch.Generator().manual_seed(0)
    scores = (torch.randn(3, batch, classes, generator=dice) * 4000).round().to(DEVICE, dtype)
    scores[2] = 0.0  # a silent candidate
    labels = torch.randint(classes, (batch,), generator=dice).to(DEVICE)
    labels[batch - missing :] = -1
    scale = torch.tensor([-2.0, 1.0, 0.0], device=DEVICE, requires_grad=True)
    losses = losses_of(scores.requires_grad_(), scale, labels, 256)
    pull = torch.tensor([1.0, 0.5, 2.0], dtype=dtype, device=DEVICE)
    return [losses.detach(), *torch.autograd.grad((losses * pull).sum(), [scores, scale])]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    "batch, classes, missing",
    [(1, 2, 0), (64, 10, 0), (130, 10, 35), (70, 17, 69), (5, 700, 1), (3, 1024, 0), (3, 1025, 0)],
)
def test_losses_and_gradients_are_those_of_the_reference(batch, classes, missing, dtype):
    expected = slopes(loss.losses, dtype, batch, classes, missing)
    for a, b in zip(slopes(gpu.losses, dtype, batch, classes, missing), expected, strict=True):
        assert a.shape == b.shape and a.dtype == b.dtype and torch.isfinite(a).all()
        torch.testing.assert_close(a, b, rtol=2e-5, atol=1e-7)
    if missing:
        assert (expected[1][:, batch - missing :] == 0).all()


def test_a_loss_worked_by_hand():
    """Two classes, scores 256 ln 3 apart, a scale of 1: a chance of 3/4 that is right once and wrong once;
    the third sample does not count. (ln 4/3 + ln 4) / 2."""
    for losses_of in (loss.losses, gpu.losses):
        scores = torch.tensor([[[256 * 1.0986123, 0.0]] * 3], device=DEVICE)
        scale = torch.zeros(1, device=DEVICE)
        losses = losses_of(scores, scale, torch.tensor([0, 1, -1], device=DEVICE), 256)
        assert losses.tolist() == pytest.approx([(0.2876821 + 1.3862944) / 2], rel=1e-6)

"""Cross-entropy of the scores of every candidate: the reference, in torch on any device."""

import torch
import torch.nn.functional as functional
from torch import Tensor


def losses(scores: Tensor, scale: Tensor, labels: Tensor, unit: float) -> Tensor:
    """Mean cross-entropy of each candidate, [P], of scores [P, B, n_classes] and labels [B]; samples with the
    label -1 do not count. scale: [P], logarithm of what turns a score in units of `unit` into a logit."""
    count, batch, classes = scores.shape
    logits = scores * (torch.exp(scale) / unit).to(scores.dtype)[:, None, None]
    flat = functional.cross_entropy(
        logits.reshape(-1, classes), labels.expand(count, -1).reshape(-1), ignore_index=-1, reduction="none"
    )
    return flat.view(count, batch).sum(1) / (labels >= 0).sum()

"""TorchPass: gradients and scores of a population by torch.

Letters: P candidates, T steps, B samples.
"""

import torch
from torch import Tensor

from scnas.snn.population import PopulationStack
from scnas.snn.reference.synapses import full_float32


class TorchPass:
    """Gradients and scores of a stack by torch on any device; the CPU has its own, cpu.passes.CpuPass.

    Inputs are spikes [T, B, n_inputs] float32.
    """

    def __init__(self, stack: PopulationStack):
        self.stack = stack
        self._softness = torch.zeros((), device=stack.scale.device)

    @property
    def tensors(self) -> list[Tensor]:
        """All that is trained."""
        return [tensor for kind in self.stack.parameters.values() for tensor in kind]

    def gradients(self, spikes: Tensor, labels: Tensor, softness: float) -> Tensor:
        """Mean cross-entropy of every candidate, [P]; the gradient of their sum goes into the tensors."""
        self.soften(softness)
        return self.differentiate(spikes, labels)

    def soften(self, softness: float) -> None:
        """How the next gradients see a delay; see LayerStack.forward."""
        self._softness.fill_(softness)  # the number travels with the command: nothing is copied

    def differentiate(self, spikes: Tensor, labels: Tensor) -> Tensor:
        """What gradients does, after soften."""
        tensors = self.tensors
        with full_float32():
            losses = self.stack.losses(self.stack.scores(spikes, self._softness)[0], labels)
            gradients = torch.autograd.grad(losses.sum(), tensors, allow_unused=True)
        for tensor, gradient in zip(tensors, gradients, strict=True):
            tensor.grad = gradient
        return losses.detach()

    @torch.no_grad()
    def scores(self, spikes: Tensor) -> tuple[Tensor, Tensor]:
        """Integer scores [P, B, n_classes], and spikes that each layer fired, [P, layers] float64."""
        with full_float32():
            scores, fired = self.stack.scores(spikes)
        none = torch.zeros(self.stack.count, dtype=torch.float64, device=scores.device)
        counts = [none if f is None else f.sum((1, 2, 3), dtype=torch.float64) for f in fired]
        return scores, torch.stack(counts, 1)

    def judged(self, scores: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Of scores [P, B, n_classes] and labels [B] summed cross-entropies in nats and numbers of right
        answers, both [P]; nothing waits for them."""
        losses = self.stack.losses(scores, labels).double() * len(labels)
        return losses, (lowest_best(scores) == labels).sum(1)


def lowest_best(scores: Tensor) -> Tensor:
    """Class of every sample: the lowest index among the highest scores, along the last axis."""
    index = torch.arange(scores.shape[-1], device=scores.device)
    return torch.where(scores == scores.amax(-1, keepdim=True), index, scores.shape[-1]).amin(-1)

"""A training step: gradients of a minibatch and a move of Adam, command by command or as a graph that CUDA
repeats.

Letters: P candidates.
"""

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from scnas.contract import one_line
from scnas.snn.cpu.adam import CpuAdam
from scnas.snn.cpu.passes import CpuPass
from scnas.snn.reference.adam import TorchAdam
from scnas.snn.reference.passes import TorchPass

WARM_UP = 3  # steps before one is recorded: libraries choose and compile kernels in the first ones


class EagerStep:
    """Gradients of a minibatch and a step of Adam, command by command."""

    def __init__(self, learner: CpuPass | TorchPass, adam: CpuAdam | TorchAdam):
        self.learner, self.adam = learner, adam

    def gradients(self, x: Any, labels: Any, softness: float) -> None:
        """Those of a minibatch, as the pass takes it, into the tensors, and nothing else."""
        self.learner.gradients(x, labels, softness)

    def __call__(self, x: Any, labels: Any, softness: float, factor: float) -> Tensor:
        """Norms of the gradients before clipping, [P]. factor: share of the peak learning rates."""
        self.gradients(x, labels, softness)
        return self.adam.step(factor)

    def close(self) -> None:
        """Nothing is held."""


class Replay(Protocol):
    """A recorded function of no arguments."""

    def replay(self) -> None: ...


class Recorder(Protocol):
    """Records what a function of no arguments does to the device, without doing it."""

    def aside(self, run: Callable[[], object]) -> None:
        """Run it, unrecorded, where it would be recorded."""

    def record(self, run: Callable[[], object]) -> Replay: ...


class CudaRecorder:
    """Graphs of one CUDA device; all share one pool of memory, for one runs at a time."""

    def __init__(self, device: torch.device):
        self.stream, self.pool = torch.cuda.Stream(device), torch.cuda.graph_pool_handle()

    def aside(self, run: Callable[[], object]) -> None:
        self.stream.wait_stream(torch.cuda.current_stream(self.stream.device))
        with torch.cuda.stream(self.stream):
            run()
        torch.cuda.current_stream(self.stream.device).wait_stream(self.stream)

    def record(self, run: Callable[[], object]) -> Replay:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self.pool, stream=self.stream):
            run()
        return graph


class _Recorded(NamedTuple):
    """A step of one shape of minibatch: where its inputs are put; what then fills in the gradients, and the
    tensors that they come to lie in; and what moves the parameters along them."""

    x: Tensor
    labels: Tensor
    differentiate: Replay
    gradients: list[Tensor | None]
    move: Replay


class GraphStep:
    """EagerStep, recorded once for each shape of minibatch and then repeated with two commands.

    The first steps of a shape are real ones, run as they come; recording runs nothing. So training is the
    same with and without graphs. All that differs between minibatches lies in tensors that stay where they
    are: inputs, softness, learning rate; weights and masks are changed in place by whoever changes them. A
    step that cannot be recorded is said once, and training goes on command by command. Gradients alone, which
    regrowth asks for, are the first half of a recorded step: they need no memory beside that of the graphs.
    """

    def __init__(self, learner: TorchPass, adam: TorchAdam, recorder: Recorder):
        self.learner, self.adam, self.recorder = learner, adam, recorder
        self._norms = torch.zeros(learner.stack.count, device=learner.stack.scale.device)
        self._seen: dict[tuple, int] = {}
        self._recorded: dict[tuple, _Recorded] = {}
        self._refused = False

    def gradients(self, x: Tensor, labels: Tensor, softness: float) -> None:
        """Those of a minibatch into the tensors, and nothing else; the next step overwrites them."""
        self.learner.soften(softness)
        recorded = self._recorded.get(tuple(x.shape))
        if recorded is not None:
            self._differentiate(recorded, x, labels)
        elif self._refused:
            self.learner.differentiate(x, labels)
        else:
            self.recorder.aside(lambda: self.learner.differentiate(x, labels))

    def __call__(self, x: Tensor, labels: Tensor, softness: float, factor: float) -> Tensor:
        """Norms of the gradients before clipping, [P], overwritten by the next call."""
        self.learner.soften(softness)
        self.adam.pace(factor)
        shape = tuple(x.shape)
        self._seen[shape] = self._seen.get(shape, 0) + 1
        if shape not in self._recorded and self._seen[shape] > WARM_UP and not self._refused:
            self._record(shape, x, labels)
        if shape in self._recorded:
            self._differentiate(self._recorded[shape], x, labels)
            self._recorded[shape].move.replay()
        elif self._refused:
            self._run(x, labels)
        else:
            self.recorder.aside(lambda: self._run(x, labels))
        return self._norms

    def _run(self, x: Tensor, labels: Tensor) -> None:
        self.learner.differentiate(x, labels)
        self._move()

    def _move(self) -> None:
        self._norms.copy_(self.adam.move())

    def _differentiate(self, recorded: _Recorded, x: Tensor, labels: Tensor) -> None:
        recorded.x.copy_(x)
        recorded.labels.copy_(labels)
        recorded.differentiate.replay()
        for tensor, gradient in zip(self.learner.tensors, recorded.gradients, strict=True):
            tensor.grad = gradient

    def _record(self, shape: tuple, x: Tensor, labels: Tensor) -> None:
        own, names = x.clone(), labels.clone()
        self._drop_gradients()  # before, so that their memory is free for the recorded ones
        try:
            differentiate = self.recorder.record(lambda: self.learner.differentiate(own, names))
            gradients = [tensor.grad for tensor in self.learner.tensors]
            move = self.recorder.record(self._move)
        except RuntimeError as error:
            if isinstance(error, torch.OutOfMemoryError) or "out of memory" in str(error):
                raise
            warnings.warn(
                f"a training step of {shape[1]} samples runs command by command, since CUDA did not record "
                f"it as a graph: {one_line(str(error))}",
                RuntimeWarning,
                stacklevel=3,
            )
            self._refused = True
            return
        self._recorded[shape] = _Recorded(own, names, differentiate, gradients, move)

    def _drop_gradients(self) -> None:
        for tensor in self.learner.tensors:
            tensor.grad = None

    def close(self) -> None:
        """Give back the memory of the graphs."""
        self._recorded.clear()
        self._drop_gradients()


def graph_step(learner: TorchPass, adam: TorchAdam) -> GraphStep:
    """A step as a graph of the CUDA device that the parameters lie on, where launching many small kernels
    takes longer than running them."""
    return GraphStep(learner, adam, CudaRecorder(learner.stack.scale.device))

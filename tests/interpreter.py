"""For tests of scnas.snn.gpu: without a GPU its kernels run in Triton's interpreter."""

import os

import pytest
import torch

CUDA = torch.cuda.is_available()
if not CUDA:
    os.environ["TRITON_INTERPRET"] = "1"  # read when a kernel is defined
pytest.importorskip("triton", reason="triton is not installed")

from scnas.snn import devices, gpu  # noqa: E402

DEVICE = "cuda" if CUDA else "cpu"
TOLERANCE = 1e-5  # of the norm of a gradient: float32 here, the float type of the neuron there


def on_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernels take what they would on a GPU."""
    monkeypatch.setattr(devices, "kernels_on", lambda device: gpu)


class Unlaunched:
    """A kernel that is not run: what matters is what is done around it. launched: where its name goes."""

    def __init__(self, name: str, launched: list[str]):
        self.name, self.launched = name, launched

    def __getitem__(self, grid):
        return lambda *args, **settings: self.launched.append(self.name)


def launch_nothing(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """No kernel runs; returns the names of those that would have, in their order."""
    from triton.runtime.interpreter import InterpretedFunction
    from triton.runtime.jit import JITFunction

    launched = []
    for module in (gpu.adam, gpu.constants, gpu.layers, gpu.loss, gpu.synapses):
        for name, value in list(vars(module).items()):
            if isinstance(value, InterpretedFunction | JITFunction):
                monkeypatch.setattr(module, name, Unlaunched(name, launched))
    return launched

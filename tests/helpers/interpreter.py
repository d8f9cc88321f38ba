"""For tests of scnas.snn.gpu: without a GPU its kernels run in Triton's interpreter."""

import os
from typing import NamedTuple

import pytest
import torch

CUDA = torch.cuda.is_available()
if not CUDA:
    os.environ["TRITON_INTERPRET"] = "1"  # read when a kernel is defined
pytest.importorskip("triton", reason="triton is not installed")

from scnas.snn import gpu  # noqa: E402

DEVICE = "cuda" if CUDA else "cpu"
TOLERANCE = 1e-5  # of the norm of a gradient: float32 here, the float type of the neuron there


# For what lies on a CPU whatever there is.
without_gpu = pytest.mark.skipif(
    CUDA, reason="the kernels take what lies on a GPU here, this lies on the CPU"
)


# What a stack is computed with here: the kernels take what they would on a GPU, but torch multiplies bfloat16
# to float32 on a GPU alone.
KERNELS = gpu.OPERATIONS._replace(bf16=CUDA)


class Launch(NamedTuple):
    """A kernel that would have run. variant: what Triton compiles one for, its name, its settings, and of its
    arguments the types, and of integers that it may look at whether they are 1 or can be divided by 16."""

    name: str
    variant: tuple


class Unlaunched:
    """A kernel that is not run: what matters is what is done around it. launched: where that goes."""

    def __init__(self, kernel, name: str, launched: list[Launch]):
        self.kernel, self.name, self.launched = kernel, name, launched

    def __getitem__(self, grid):
        return self._launch

    def _launch(self, *args, **settings):
        kinds = []
        for name, value in zip(self.kernel.arg_names, args, strict=False):
            kind = str(getattr(value, "dtype", type(value)))
            if isinstance(value, int) and name not in WHATEVER:
                kind += "1" if value == 1 else "16" if value % 16 == 0 else ""
            kinds.append(kind)
        self.launched.append(Launch(self.name, (self.name, *sorted(map(str, settings.items())), *kinds)))


# Arguments that no kernel is compiled for; the interpreter forgets which a kernel names in do_not_specialize.
WHATEVER = ("steps", "batch", "slices", "inputs", "neurons", "apart", "span")


def launch_nothing(monkeypatch: pytest.MonkeyPatch) -> list[Launch]:
    """No kernel runs; returns those that would have, in their order."""
    from triton.runtime.interpreter import InterpretedFunction
    from triton.runtime.jit import JITFunction

    launched = []
    for module in (gpu.adam, gpu.constants, gpu.layers, gpu.loss, gpu.synapses):
        for name, value in list(vars(module).items()):
            if isinstance(value, InterpretedFunction | JITFunction):
                monkeypatch.setattr(module, name, Unlaunched(value, name, launched))
    return launched

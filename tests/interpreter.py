"""For tests of scnas.snn.gpu: with this imported first, its kernels run in Triton's interpreter without a GPU."""

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
    """A kernel that is not run: what matters is what is done around it."""

    def __getitem__(self, grid):
        return lambda *args, **settings: None

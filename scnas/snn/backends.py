"""Which devices have kernels of their own beside the references in torch."""

from functools import cache
from importlib.util import find_spec
from types import ModuleType

# The neurons that the kernels of the CPU and of a GPU are written for; the references take any.
COMPILED = ("if", "lif", "stochastic_lif", "homeostatic_lif", "izhikevich")
# Kernels are compiled anew for what the widths of a layer can be divided by, up to this, a second each time.
WIDTH_STEP = 16


@cache
def has_kernels(device: str) -> bool:
    """Whether a type of device runs scnas.snn.gpu: CUDA does where triton is installed, as with torch for
    Linux."""
    return device == "cuda" and find_spec("triton") is not None


def width_step(device: str) -> int:
    """What the widths of hidden layers are padded to multiples of on a type of device."""
    return 1 if kernels_on(device) is None else WIDTH_STEP


def kernels_on(device: str) -> ModuleType | None:
    """scnas.snn.gpu for a type of device that runs it; None where the references do the work."""
    if not has_kernels(device):
        return None
    from scnas.snn import gpu

    return gpu

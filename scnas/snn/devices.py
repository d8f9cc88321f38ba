"""Which devices have kernels of their own beside the references in torch."""

from functools import cache
from importlib.util import find_spec
from types import ModuleType


@cache
def has_kernels(device: str) -> bool:
    """Whether a type of device runs scnas.snn.gpu: CUDA does where triton is installed, as with torch for
    Linux."""
    return device == "cuda" and find_spec("triton") is not None


def kernels_on(device: str) -> ModuleType | None:
    """scnas.snn.gpu for a type of device that runs it; None where the references do the work."""
    if not has_kernels(device):
        return None
    from scnas.snn import gpu

    return gpu

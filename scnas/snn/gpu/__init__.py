"""What a GPU does in kernels of its own, in Triton, each beside a reference in torch that gives the same.

Without a GPU they run in Triton's interpreter: TRITON_INTERPRET=1, set before this is imported.
"""

from scnas.snn.gpu.adam import FlatAdam
from scnas.snn.gpu.layers import fill, layer, scan

__all__ = ["FlatAdam", "fill", "layer", "scan"]

"""What a GPU does in kernels of its own, in Triton, each beside a reference in torch that gives the same.

Without a GPU they run in Triton's interpreter: TRITON_INTERPRET=1, set before this is imported.
"""

from scnas.snn.gpu.adam import FlatAdam
from scnas.snn.gpu.constants import learned
from scnas.snn.gpu.layers import layer, scan
from scnas.snn.gpu.loss import MOST_CLASSES, losses
from scnas.snn.gpu.synapses import collect, fill, matrices

__all__ = [
    "MOST_CLASSES", "FlatAdam", "collect", "fill", "layer", "learned", "losses", "matrices", "scan",
]  # fmt: skip

"""What a GPU does in kernels of its own, in Triton, each beside a reference in torch that gives the same.

Without a GPU they run in Triton's interpreter: TRITON_INTERPRET=1, set before this is imported.
"""

from scnas.snn.gpu.adam import FlatAdam
from scnas.snn.gpu.constants import learned
from scnas.snn.gpu.layers import layer, scan
from scnas.snn.gpu.loss import losses
from scnas.snn.gpu.synapses import collect, fill, matrices
from scnas.snn.reference.operations import Operations

# Kernels are compiled anew for what the widths of a layer can be divided by, up to this, a second each time.
WIDTH_STEP = 16

OPERATIONS = Operations(
    matrices=matrices,
    fill=fill,
    collect=collect,
    scan=scan,
    losses=losses,
    layer=layer,
    learned=learned,
    adam=FlatAdam,
    width_step=WIDTH_STEP,
    bf16=True,
)

__all__ = [
    "OPERATIONS",
    "WIDTH_STEP",
    "FlatAdam",
    "collect",
    "fill",
    "layer",
    "learned",
    "losses",
    "matrices",
    "scan",
]

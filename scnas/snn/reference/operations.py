"""What a stack is computed with: the functions of a device, and what shapes and types depend on."""

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

from scnas.snn.reference import loss, neurons, synapses


class Operations(NamedTuple):
    """Functions as those of the reference, or kernels of a device that give the same.

    layer: a whole layer in one, forward and backward, where fusion.fuses says so; None: never. learned:
    thresholds, gains and leaks as integers, where they are powers of two; None: one by one, see LayerStack.
    adam: what moves all parameters at once; None: one after the other. width_step: what the widths of hidden
    layers are padded to multiples of. bf16: whether products of bfloat16 are fast.
    """

    matrices: Callable[..., Tensor] = synapses.matrices
    fill: Callable[[Tensor, Tensor, Tensor], None] = synapses.fill
    collect: Callable[..., tuple[Tensor, Tensor | None]] = synapses.collect
    scan: Callable[..., Tensor] = neurons.scan_reference
    losses: Callable[[Tensor, Tensor, Tensor, float], Tensor] = loss.losses
    layer: Callable[..., Tensor] | None = None
    learned: Callable[..., tuple[Tensor, Tensor, Tensor]] | None = None
    adam: Callable | None = None
    width_step: int = 1
    bf16: bool = False


REFERENCE = Operations()

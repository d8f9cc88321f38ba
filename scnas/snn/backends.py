"""What runs on a device: asked once, where a training is planned or set up, and passed on as a value."""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from importlib.util import find_spec
from typing import NamedTuple

import numpy as np
import torch

from scnas.snn.cpu.adam import CpuAdam
from scnas.snn.cpu.passes import CpuPass
from scnas.snn.population import PopulationStack
from scnas.snn.reference.adam import TorchAdam
from scnas.snn.reference.operations import REFERENCE, Operations
from scnas.snn.reference.passes import TorchPass
from scnas.snn.steps import EagerStep, GraphStep, graph_step

Pass = CpuPass | TorchPass
Adam = CpuAdam | TorchAdam
Step = EagerStep | GraphStep

# The neurons that the kernels of the CPU and of a GPU are written for; the references take any.
COMPILED = ("if", "lif", "stochastic_lif", "homeostatic_lif", "izhikevich")


class Memory:
    """The memory of a device whose size is not known: a setting says how much a group may take."""

    def planned(self, device: torch.device) -> float | None:
        """Bytes that a group is planned to take at most; None: as many as are set."""
        return None

    def free(self, device: torch.device) -> float:
        """Bytes that a group may take at this moment."""
        return float("inf")

    def release(self) -> None:
        """Give back what is held for later."""


class CudaMemory(Memory):
    """The memory of CUDA devices."""

    def planned(self, device: torch.device) -> float | None:
        return 0.8 * torch.cuda.mem_get_info(device)[1] if torch.cuda.is_available() else None

    def free(self, device: torch.device) -> float:
        return 0.9 * (torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device))

    def release(self) -> None:
        torch.cuda.empty_cache()


def _torch_pass(stack: PopulationStack, ramp: np.ndarray | None) -> TorchPass:
    """TorchPass, which takes spikes, whatever they were encoded from."""
    return TorchPass(stack)


def _torch_adam(stack: PopulationStack, rates: dict[str, float], clip: float) -> TorchAdam:
    """TorchAdam, with the kernel of the stack's device where there is one."""
    return TorchAdam(stack, rates, clip, stack.operations.adam)


def _scan_bytes(fused: bool, adapts: bool) -> tuple[int, int]:
    """See Backend.scan_bytes: of the reference, which keeps every intermediate."""
    return 48, 48


def _kernel_scan_bytes(fused: bool, adapts: bool) -> tuple[int, int]:
    """See Backend.scan_bytes: of the kernels, which need as much whatever the float type: a spike and what
    the scan saves, the current where the layer is not fused, and an adaptation."""
    return 8 + 4 * (not fused) + 4 * adapts, 12


class Backend(NamedTuple):
    """What runs on one type of device.

    operations: what stacks are computed with. arrays: whether passes take samples as arrays, levels or spikes
    of a byte, and not as spikes in tensors; such passes go candidate by candidate, so that padding costs
    nothing, a result does not depend on its group, and only one candidate's activations are there at a time.
    pass_of, adam_of, step_of: what gives gradients and scores, what moves parameters along them, and both for
    a minibatch. group_overhead: what one step of one more group costs, in the operations of groups.work_of.
    scan_bytes: of every neuron and step, at most, given whether its layer is fused and whether it adapts:
    what is saved for backward, and what is there besides while its layer is worked on. using: makes a device
    the current one. neurons: that can be trained; None: any.
    """

    operations: Operations
    arrays: bool
    pass_of: Callable[[PopulationStack, np.ndarray | None], Pass]
    adam_of: Callable[[PopulationStack, dict[str, float], float], Adam]
    step_of: Callable[..., Step]
    group_overhead: float = 1e7
    scan_bytes: Callable[[bool, bool], tuple[int, int]] = _scan_bytes
    memory: Memory = Memory()
    using: Callable[[torch.device], AbstractContextManager] = nullcontext
    neurons: tuple[str, ...] | None = None


TORCH = Backend(REFERENCE, False, _torch_pass, _torch_adam, EagerStep)
CPU = Backend(REFERENCE, True, CpuPass, CpuAdam, EagerStep, neurons=COMPILED)


@cache
def cuda() -> Backend:
    """What runs on CUDA: the kernels of scnas.snn.gpu where Triton is installed, as it is with torch for
    Linux, else the references."""
    operations, scan_bytes, neurons = REFERENCE._replace(bf16=True), _scan_bytes, None
    if find_spec("triton") is not None:
        from scnas.snn.gpu import OPERATIONS  # Triton is optional, and takes a second to load

        operations, scan_bytes, neurons = OPERATIONS, _kernel_scan_bytes, COMPILED
    # A step is a hundred or two commands of about two microseconds each, in which a large card does some 1e9
    # operations of groups.work_of (six floating-point operations each, at 20 TFLOP/s). Reckoned, not
    # measured.
    return TORCH._replace(
        operations=operations,
        step_of=graph_step,
        group_overhead=1e9,
        scan_bytes=scan_bytes,
        memory=CudaMemory(),
        using=torch.cuda.device,
        neurons=neurons,
    )


def backend_on(device: str | torch.device, neurons: Iterable[str] = ()) -> Backend:
    """What runs on a device, for networks of these neurons: where its kernels do not know them all, the
    references, which take any neuron and run anywhere."""
    kind = torch.device(device).type
    found = cuda() if kind == "cuda" else CPU if kind == "cpu" else TORCH
    if found.neurons is None or set(neurons) <= set(found.neurons):
        return found
    if kind != "cuda":
        return TORCH
    return found._replace(operations=REFERENCE._replace(bf16=True), scan_bytes=_scan_bytes, neurons=None)

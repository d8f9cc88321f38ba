"""The other side of the benchmark: other libraries, training one network after another.

Runs in an environment of its own and imports nothing of scnas:

    <python with the library> peers.py <name in PEERS>

A request is one JSON object a line on stdin, the answer one line on stdout; see `train`. The products
with the weights are hoisted out of the time loop for every library: the neurons alone go step by step.
Neurons are LIF (leak 1/4, reset to zero, reset not differentiated, arctangent surrogate where offered),
or IF; what a library has no cheap form of (delays, adaptation, noise, Izhikevich) is left out, which
takes work off its side.
"""

import importlib.metadata
import json
import math
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

KEEP = 0.75  # of the membrane from one step to the next

# From one hidden layer's currents [T, B, n] to its spikes [T, B, n]; made once for every layer.
Neurons = Callable[[Tensor], Tensor]


class _Fire(torch.autograd.Function):
    """1 where x >= 0; behind it the arctangent surrogate with alpha = 2."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return (x >= 0).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return gradient / (1 + (math.pi * x) ** 2)


def plain(leaks: bool) -> Neurons:
    """Torch alone, a loop over the steps."""
    keep = KEEP if leaks else 1.0

    def run(currents: Tensor) -> Tensor:
        v, spikes = torch.zeros_like(currents[0]), []
        for current in currents.unbind(0):
            v = v * keep + current
            fired = _Fire.apply(v - 1)
            v = v * (1 - fired.detach())
            spikes.append(fired)
        return torch.stack(spikes)

    return run


def snntorch(leaks: bool) -> Neurons:
    """snntorch.Leaky, called once a step as its tutorials do."""
    import snntorch
    from snntorch import surrogate

    neuron = snntorch.Leaky(
        beta=KEEP if leaks else 1.0, spike_grad=surrogate.atan(), reset_mechanism="zero", reset_delay=False
    )

    def run(currents: Tensor) -> Tensor:
        v, spikes = neuron.init_leaky(), []
        for current in currents.unbind(0):
            fired, v = neuron(current, v)
            spikes.append(fired)
        return torch.stack(spikes)

    return run


def spikingjelly(leaks: bool) -> Neurons:
    """Multi-step nodes of spikingjelly; its library chooses the implementation for the device."""
    from spikingjelly.activation_based import functional, neuron, surrogate

    shared = {"surrogate_function": surrogate.ATan(), "detach_reset": True, "step_mode": "m"}
    if leaks:
        node = neuron.LIFNode(tau=1 / (1 - KEEP), decay_input=False, **shared)
    else:
        node = neuron.IFNode(**shared)

    def run(currents: Tensor) -> Tensor:
        functional.reset_net(node)
        return node(currents)

    return run


def norse(leaks: bool) -> Neurons:
    """norse's LIF without a synaptic current, step by step; its surrogate is SuperSpike."""
    import norse.torch as library

    # v' = v + dt * tau_mem_inv * (v_leak - v + i): a leak of 1/4, and so the current by 4 for a gain of one.
    rate, gain = ((1 - KEEP), 1 / (1 - KEEP)) if leaks else (1e-6, 1e6)
    cell = library.LIFBoxCell(
        library.LIFBoxParameters(tau_mem_inv=torch.as_tensor(1000 * rate), v_th=torch.as_tensor(1.0))
    )

    def run(currents: Tensor) -> Tensor:
        state, spikes = None, []
        for current in (currents * gain).unbind(0):
            fired, state = cell(current, state)
            spikes.append(fired)
        return torch.stack(spikes)

    return run


PEERS = {"plain torch": plain, "snnTorch": snntorch, "SpikingJelly": spikingjelly, "Norse": norse}
_PACKAGES = {"plain torch": "torch", "snnTorch": "snntorch", "SpikingJelly": "spikingjelly", "Norse": "norse"}


class Network(nn.Module):
    """Linear layers with neurons between them; the logits are the mean of the last currents."""

    def __init__(self, make: Callable[[bool], Neurons], widths: Sequence[int], leaks: Sequence[bool]):
        super().__init__()
        self.linear = nn.ModuleList(
            nn.Linear(a, b, bias=False) for a, b in zip(widths[:-1], widths[1:], strict=True)
        )
        self.neurons = [make(leak) for leak in leaks]

    def forward(self, x: Tensor) -> Tensor:
        """Logits [B, classes] of input spikes [T, B, n]."""
        for linear, neurons in zip(self.linear[:-1], self.neurons, strict=True):
            x = neurons(linear(x))
        return self.linear[-1](x).mean(0) * 4  # a scale under which all learn well from the start


def train(name: str, request: dict) -> dict:
    """Train the networks of a request one by one.

    request: `data` (npz with spikes [B, T, n] uint8 and labels, of training and validation), `networks`
    (each with `widths` and, for every hidden layer, `leaks`), `epochs`, `batch_size`, `learning_rate`,
    `device`. returns: wall and processor `seconds`, validation `accuracy` and `seconds_each`.
    """
    device = torch.device(request["device"])
    data = np.load(request["data"])
    x, vx = (
        torch.tensor(data[k], device=device).transpose(0, 1).float() for k in ("train_x", "validation_x")
    )
    y, vy = (torch.tensor(data[k], dtype=torch.int64, device=device) for k in ("train_y", "validation_y"))
    accuracies, each = [], []
    wall, processor = time.perf_counter(), time.process_time()
    for number, shape in enumerate(request["networks"]):
        torch.manual_seed(number)
        begun = time.perf_counter()
        net = Network(PEERS[name], shape["widths"], shape["leaks"]).to(device)
        fast = {"fused": True} if device.type == "cuda" else {}
        optimiser = torch.optim.Adam(net.parameters(), lr=1.0, betas=(0.9, 0.99), **fast)
        steps = math.ceil(len(y) / request["batch_size"])
        for epoch in range(request["epochs"]):
            order = torch.randperm(len(y), device=device)
            for i in range(steps):
                progress = (epoch * steps + i) / (request["epochs"] * steps)
                cosine = min(1.0, (progress + 1e-3) / 0.05) * 0.5 * (1 + math.cos(math.pi * progress))
                optimiser.param_groups[0]["lr"] = request["learning_rate"] * cosine
                index = order[i * request["batch_size"] : (i + 1) * request["batch_size"]]
                optimiser.zero_grad(set_to_none=True)
                nn.functional.cross_entropy(net(x[:, index]), y[index]).backward()
                optimiser.step()
        with torch.no_grad():
            accuracies.append(float((net(vx).argmax(1) == vy).float().mean()))
        each.append(time.perf_counter() - begun)
    seconds = time.perf_counter() - wall
    return {
        "seconds": seconds,
        "processor_seconds": time.process_time() - processor,
        "seconds_each": each,
        "accuracy": accuracies,
    }


def versions(name: str) -> dict:
    """Of the library and of torch."""
    return {p: importlib.metadata.version(p) for p in (_PACKAGES[name], "torch")}


def main() -> None:
    name = sys.argv[1]
    answers, sys.stdout = sys.stdout, sys.stderr  # what a library prints is no answer
    torch.set_num_threads(1)
    try:
        PEERS[name](True)
        print(json.dumps({"versions": versions(name)}), file=answers, flush=True)
    except ImportError as error:
        print(json.dumps({"missing": str(error)}), file=answers, flush=True)
        return
    for line in sys.stdin:
        print(json.dumps(train(name, json.loads(line))), file=answers, flush=True)


if __name__ == "__main__":
    main()

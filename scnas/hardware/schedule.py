"""When things happen in a generated design, in clocks: one schedule for estimate, RTL and co-simulation.

Clock 0 is the clock in which the first step of input spikes is accepted (`in_valid & in_ready`). Every
layer is started by a one-clock `go` pulse; the new input spikes are visible in the clock after it.

Layer l needs S_l = `step_clocks` for one step and passes `go` on d_l clocks after it received it:

    parallel             d = S + 1   the sum of the last stream clock waits one clock in a register; in the
                                     next clock the neurons update: the `go` of the next layer
    folded, first layer  d = S + 2   as above, and one register more, before the neuron datapath
    folded, later layer  d = S + 3   and one clock to load the spikes of the layer before
    staged               d + 1       a folded layer of more than STAGED lanes: a register in its adder tree

No register lies in a loop between steps, so a step of input is taken every P = max(S_l) clocks and step t
leaves the last layer in clock f(t) = t * P + sum(d_l). Then r clocks pass until `done` is high:

    parallel  r = n_classes + 1   one class per clock is compared; one more for the `spikes` readout
    folded    r = 2               scores leave the last layer one by one and are compared as they come

    latency = (T - 1) * P + sum(d_l) + r

With a byte-serial input a step arrives in B = ceil(n_inputs / 8) clocks into a register of its own, so
P = max(S_l, B), and B clocks pass between the first byte (clock 0) and the first step.
"""

from collections.abc import Sequence

STAGED = 64  # lanes up to which a folded layer sums them within one clock


def step_clocks(
    mapping: str, length: int, n_in: int, n_out: int, n_delays: int, lanes: int, units: int = 1
) -> int:
    """Clocks a layer needs for one step (SEMANTICS.md, section 5).

    length: stream clocks L. n_delays: how many different delays are in use (1 when none is learned).
    lanes: inputs of the popcount tree of a folded layer; units: neurons that it takes at once, which divide
    n_out. Both are ignored for a parallel one.
    """
    if mapping == "parallel":
        return length
    if mapping == "folded":
        return n_out // units * length * -(-n_in * n_delays // lanes)
    raise ValueError(f"mapping must be 'parallel' or 'folded', got {mapping!r}")


def byte_clocks(n_inputs: int) -> int:
    """Clocks in which a byte-serial input receives one step."""
    return -(-n_inputs // 8)


def period(steps: Sequence[int], input_clocks: int = 0) -> int:
    """Clocks between two steps: the slowest layer's, or the input's if `byte_clocks` are more."""
    return max(*steps, input_clocks)


def is_staged(mapping: str, lanes: int) -> bool:
    """Whether a register cuts the adder tree of a layer."""
    return mapping == "folded" and lanes > STAGED


def layer_delay(step: int, mapping: str, first: bool, lanes: int = 0) -> int:
    """Clocks between the `go` a layer receives and the `go` it passes on."""
    if mapping == "parallel":
        return step + min(step, 2)
    return step + (2 if first else 3) + is_staged(mapping, lanes)


def readout_clocks(mapping: str, n_classes: int, readout: str) -> int:
    """Clocks between the last `go` of the last layer and the clock in which `done` is high."""
    if mapping == "folded":
        return 2
    return n_classes + (2 if readout == "spikes" else 1)


def latency_clocks(
    timesteps: int,
    steps: Sequence[int],
    mappings: Sequence[str],
    n_classes: int,
    readout: str = "membrane",
    input_clocks: int = 0,
    lanes: Sequence[int] | None = None,
) -> int:
    """Clocks from the one in which the first input is accepted to the one in which `done` is high.

    steps, mappings, lanes: of every layer, input side first; without lanes none is staged. input_clocks:
    `byte_clocks` of a byte-serial design, else 0. Inputs are taken to be there when they are asked for.
    """
    layers = enumerate(zip(steps, mappings, lanes or [0] * len(steps), strict=True))
    through = sum(layer_delay(step, mapping, layer == 0, n) for layer, (step, mapping, n) in layers)
    through += readout_clocks(mappings[-1], n_classes, readout)
    return input_clocks + (timesteps - 1) * period(steps, input_clocks) + through

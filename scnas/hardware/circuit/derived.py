"""The circuit of a neuron without a cell in hdl/: two modules in design.v, written from its description.

scnas_update<n>, one update as a function, is what `circuit.datapath` makes of the description with the
constants of layer n. A folded layer has one of it in every unit. scnas_neuron<n>, with registers around it,
is the neuron of a parallel layer. The threshold is an input of both; all other constants are in the text.
"""

from scnas.hardware.circuit.cells import first_state
from scnas.hardware.circuit.datapath import datapath
from scnas.hardware.circuit.signal import noise_bounds, signed_bits, signed_literal, unsigned_bits
from scnas.snn.models import Format, Model, model_of
from scnas.snn.network import Layer, Network


def update_name(number: int) -> str:
    """The module of one update of a neuron of layer `number`."""
    return f"scnas_update{number}"


def neuron_name(number: int) -> str:
    """The module of a neuron of the parallel layer `number`."""
    return f"scnas_neuron{number}"


def modules(number: int, layer: Layer, network: Network) -> list[str]:
    """The modules of layer `number`, whose neurons fire; none where they have a cell in hdl/."""
    if model_of(layer.neuron).cell is not None:
        return []
    lines = [*update_module(update_name(number), layer, network), ""]
    if layer.mapping == "parallel":
        lines += [*neuron_module(neuron_name(number), update_name(number), layer, network), ""]
    return lines


def cut_out(network: Network) -> list[str]:
    """The modules of all neurons, or of their updates, that are proved on their own."""
    return [
        neuron_name(i) if layer.mapping == "parallel" else update_name(i)
        for i, layer in enumerate(network.layers)
        if network.fires(i) and model_of(layer.neuron).cell is None
    ]


def update_module(name: str, layer: Layer, network: Network) -> list[str]:
    """The module `name` of one update, see `circuit.datapath`."""
    q, noise = Format(network.word, network.fraction), noise_bounds(layer, network.fraction)
    text = datapath(model_of(layer.neuron), name, q, layer.constants, noise)
    return text.splitlines()


def neuron_module(name: str, update: str, layer: Layer, network: Network) -> list[str]:
    """The module `name` of a neuron: the module `update` with registers around it.

    One update in every clock in which `step` is high. v_out and spike_out are registers; so are those of the
    further words, word0 and so on in the order of the description, and `left`, the refractory steps to come.
    """
    model, W, period = model_of(layer.neuron), network.word, layer.constants["refractory"]
    start, left = first_state(layer, network), unsigned_bits(period)
    registers = {"v_out": start["v"]} | {f"word{i}": start[x.name] for i, x in enumerate(model.words)}
    noisy = "noise" in model.names
    signals = {key: f"{key}_next" for key in registers}
    ports = ["input wire clk", "input wire rst_n", "input wire step"]
    ports += [f"input wire signed [{W - 1}:0] threshold", f"input wire signed [{W - 1}:0] I_t"]
    ports += [f"input wire signed [{noise_bits(layer, network) - 1}:0] noise_in"] * noisy
    ports += ["output reg spike_out", f"output reg signed [{W - 1}:0] v_out"]
    plugs = [".threshold(threshold)", ".I_t(I_t)", *[".noise_in(noise_in)"] * noisy]
    plugs += state_plugs(model, list(registers), list(signals.values()))
    plugs += [".waiting(left)", ".waiting_next(left_next)", ".fires(fires)"]
    return [
        f"module {name} (",
        ",\n".join(f"    {port}" for port in ports),
        ");",
        *(f"    reg signed [{W - 1}:0] {key};" for key in registers if key != "v_out"),
        f"    reg [{left - 1}:0] left;",
        "    wire fires;",
        *(f"    wire signed [{W - 1}:0] {key};" for key in signals.values()),
        f"    wire [{left - 1}:0] left_next;",
        f"    {update} update ({', '.join(plugs)});",
        "    always @(posedge clk or negedge rst_n)",
        "        if (!rst_n) begin",
        "            spike_out <= 1'b0;",
        f"            left <= {left}'d0;",
        *(f"            {key} <= {signed_literal(first, W)};" for key, first in registers.items()),
        "        end else if (step) begin",
        "            spike_out <= fires;",
        "            left <= left_next;",
        *(f"            {key} <= {signals[key]};" for key in registers),
        "        end",
        "endmodule",
    ]


def noise_bits(layer: Layer, network: Network) -> int:
    """Bits of noise_in."""
    return signed_bits(*noise_bounds(layer, network.fraction))


def state_plugs(model: Model, now: list[str], following: list[str]) -> list[str]:
    """Connections of the state, in and out: the membrane, then the further words."""
    names = ["v", *(word.name for word in model.words)]
    plugs = [f".{name}({signal})" for name, signal in zip(names, now, strict=True)]
    return plugs + [f".{name}_next({signal})" for name, signal in zip(names, following, strict=True)]


def _noise_plug(layer: Layer, network: Network) -> list[str]:
    """The connection of the low bits of the wire `noise`, which hold every noise of this layer."""
    if "noise" not in model_of(layer.neuron).names:
        return []
    return [f".noise_in(noise[{noise_bits(layer, network) - 1}:0])"]


def parallel_instance(j: int, layer: Layer, network: Network, number: int) -> str:
    """Neuron j of the parallel layer `number`."""
    W, plugs = network.word, [".clk(clk)", ".rst_n(rst_n)", ".step(update)"]
    plugs += [f".threshold({signed_literal(int(layer.threshold[j]), W)})", f".I_t(current_{j})"]
    plugs += _noise_plug(layer, network)
    plugs += [f".spike_out(fired[{j}])", f".v_out(v[{(j + 1) * W - 1}:{j * W}])"]
    return f"{neuron_name(number)} neuron_{j} ({', '.join(plugs)});"


def folded_instance(layer: Layer, network: Network, number: int, x: str) -> list[str]:
    """The datapath of a unit of the folded layer `number`. x: what the names of its signals end in."""
    model, period = model_of(layer.neuron), layer.constants["refractory"]
    words = ["v", *(f"word{i}" for i in range(len(model.words)))]
    plugs = [f".threshold(threshold{x})", f".I_t(current{x})", *_noise_plug(layer, network)]
    plugs += state_plugs(model, [f"{word}{x}" for word in words], [f"{word}_new{x}" for word in words])
    waiting = {"waiting": f"waiting{x}", "waiting_next": f"waiting_new{x}"}
    if not period:
        waiting = {"waiting": "1'd0", "waiting_next": f"no_waiting{x}"}
    plugs += [f".{port}({signal})" for port, signal in waiting.items()] + [f".fires(fires{x})"]
    lines = [f"wire fires{x};"] + [f"wire [0:0] no_waiting{x};"] * (not period)
    return [*lines, f"{update_name(number)} datapath{x} ({', '.join(plugs)});"]

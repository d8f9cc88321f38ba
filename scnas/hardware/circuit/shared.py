"""What parallel and folded layers have in common: generators, noise, neurons, ROMs."""

from dataclasses import dataclass

from scnas.hardware.circuit.cells import cell_constants, cell_of
from scnas.hardware.circuit.signal import counter, noise_width, number_width, signed_literal, sum_width
from scnas.snn.models import model_of
from scnas.snn.network import Layer, Network


def generator_lines(layer: Layer, back: str = "1'b0", mark: str = "1'b0") -> list[str]:
    """The number generator of a layer that runs with `run`: wires `number` and `stream_last`."""
    bits = number_width(layer)
    lines = [f"wire [{bits - 1}:0] number;", "wire stream_last;"]
    if layer.generator == "lfsr":
        lines += [
            f"sc_lfsr #(.SEED(16'd{layer.seed})) generator (.clk(clk), .rst_n(rst_n), .step(run), "
            f".back({back}), .mark({mark}), .number(number));"
        ]
        if layer.length > 1:
            lines += counter("stream_clock", layer.length - 1, "run")
            return lines + ["assign stream_last = stream_clock_last;"]
        return lines + ["assign stream_last = 1'b1;"]
    if layer.length > 1:
        return lines + [
            f"sc_sobol_counter #(.BITS({bits})) generator (.clk(clk), .rst_n(rst_n), .step(run), "
            ".number(number), .last(stream_last));"
        ]
    return lines + ["assign number = 1'b0;", "assign stream_last = 1'b1;"]


def noise_lines(layer: Layer, network: Network, step: str) -> list[str]:
    """Wire `noise`: what the neurons of the layer add in this step."""
    width, F = noise_width(layer, network), network.fraction
    if "noise" not in model_of(layer.neuron).names:
        return [f"wire signed [{width - 1}:0] noise = {width}'d0;"]
    full = max(width + F, 8 + network.word) + 1
    return [
        "wire [7:0] noise_number;",
        f"sc_lfsr #(.SEED(16'd{layer.noise_seed})) noise_generator (.clk(clk), .rst_n(rst_n), "
        f".step({step}), .back(1'b0), .mark(1'b0), .number(noise_number));",
        f"wire signed [{full - 1}:0] noise_full = {{{{{full - 8}{{noise_number[7]}}}}, noise_number}};",
        f"wire signed [{full - 1}:0] noise_k = {signed_literal(layer.constants['noise_k'], full)};",
        f"wire signed [{full - 1}:0] noise_product = noise_full * noise_k;",
        f"wire signed [{width - 1}:0] noise = noise_product[{F + width - 1}:{F}];",
    ]


def neuron_instance(j: int, layer: Layer, network: Network) -> str:
    """The cell of neuron j with its constants."""
    k, W, cell = layer.constants, network.word, cell_of(layer.neuron)
    threshold = int(layer.threshold[j])
    parameters = {
        "DATA_WIDTH": W,
        "FRACTION": network.fraction,
        "V_REST": k["v_rest"],
        "V_RESET": k["v_reset"],
        "V_THRESHOLD": threshold,
        "REFRACTORY_PERIOD": k["refractory"],
        "NOISE_WIDTH": noise_width(layer, network),
    }
    if cell.leaks:
        quarter = 4 * k["leak_k"] == 2**network.fraction
        parameters |= {"SUM_WIDTH": sum_width(layer, network, threshold), "LEAK_AS_SUM": int(quarter)}
    parameters |= {key.upper(): k[key] for key in cell_constants(layer.neuron)}
    settings = ", ".join(f".{key}({value})" for key, value in parameters.items())
    leak, gain = (signed_literal(k[key], W) for key in ("leak_k", "gain_k"))
    return (
        f"{cell.parallel} #({settings}) neuron_{j} (.clk(clk), .rst_n(rst_n), .step(update), "
        f".leak_k({leak}), .gain_k({gain}), .I_t(current_{j}), .noise_in(noise), "
        f".spike_out(fired[{j}]), .v_out(v[{(j + 1) * W - 1}:{j * W}]));"
    )


# --- layers ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Place:
    """Where a layer stands in its network."""

    number: int
    first: bool
    last: bool
    fires: bool
    feeds_parallel: bool
    score_width: int


BLOCK_BITS = 1024  # a memory of more bits goes to block RAM, a smaller one to logic


def rom_lines(name: str, words: list[str], width: int, address: str, block: bool) -> list[str]:
    """A ROM whose output register `name` shows word `address` one clock later."""
    style = '(* rom_style = "block" *) ' if block else '(* rom_style = "logic" *) '
    lines = [f"{style}reg [{width - 1}:0] {name}_rom [0:{len(words) - 1}];", "initial begin"]
    lines += [f"    {name}_rom[{i}] = {width}'h{word};" for i, word in enumerate(words)]
    return lines + [
        "end",
        f"reg [{width - 1}:0] {name};",
        f"always @(posedge clk) {name} <= {name}_rom[{address}];",
    ]

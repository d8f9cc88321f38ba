"""Widths, bounds and the small pieces of Verilog text that every layer is made of."""

from collections.abc import Sequence

import numpy as np

from scnas.hardware import schedule
from scnas.snn.models import model_of
from scnas.snn.network import Layer, Network
from scnas.snn.streams import ones_table


def unsigned_bits(largest: int) -> int:
    """Bits of an unsigned number 0..largest, at least 1."""
    return max(1, int(largest).bit_length())


def signed_bits(low: int, high: int) -> int:
    """Bits of a two's complement number that holds low..high, at least 1."""
    return max(int(high).bit_length(), int(-low - 1).bit_length() if low < 0 else 0) + 1


def signed_literal(value: int, width: int) -> str:
    """`value` as a sized Verilog literal of `width` bits, two's complement."""
    return f"{width}'h{value % 2**width:x}"


def count_bounds(layer: Layer, timesteps: int) -> tuple[np.ndarray, np.ndarray]:
    """The least and the greatest count of every neuron in any step, exact for every input: [n_out] each.

    A spike may be there or not, so the bounds are the sums of the negative and of the positive streams. An
    lfsr stream holds another number of ones in every step; the most of any step counts.
    """
    most = ones_table(layer.generator, layer.length, timesteps, layer.seed).max(axis=0)
    ones = np.sign(layer.weights) * most[np.abs(layer.weights)]
    return np.minimum(ones, 0).sum(axis=0), np.maximum(ones, 0).sum(axis=0)


def current_bounds(layer: Layer, network: Network) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Least and greatest I of every neuron and whether saturation can occur: [n_out] each."""
    scale = 2**network.fraction // layer.length
    low, high = (bound.astype(np.int64) * scale for bound in count_bounds(layer, network.timesteps))
    half = 2 ** (network.word - 1)
    saturates = (low < -half) | (high > half - 1)
    return np.clip(low, -half, half - 1), np.clip(high, -half, half - 1), saturates


def layer_step_clocks(layer: Layer) -> int:
    """Clocks of one step of `layer`."""
    n_delays = max(1, len(layer.delays_in_use))
    return schedule.step_clocks(
        layer.mapping, layer.length, layer.n_in, layer.n_out, n_delays, layer.lanes, layer.units
    )


def noise_bounds(layer: Layer, fraction: int) -> tuple[int, int]:
    """Least and greatest noise added in a step: 0 where the neuron hears none, whose noise_k is 0."""
    ends = [n * layer.constants["noise_k"] >> fraction for n in (-128, 127)]
    return min(ends), max(ends)


def sum_width(layer: Layer, network: Network, threshold: int) -> int:
    """SUM_WIDTH of a leaky neuron cell: holds p - V_REST, and all it is compared with, for every I_t."""
    k, one, half = layer.constants, 2**network.fraction, 2 ** (network.word - 1)
    word = (-half, half - 1)
    kept = [(v - k["v_rest"]) * (one - k["leak_k"]) >> network.fraction for v in word]
    driven = [i * k["gain_k"] >> network.fraction for i in word]
    noise = noise_bounds(layer, network.fraction)
    rises = model_of(layer.neuron).limit.names - {"threshold"}
    extra = word if rises else (0, 0)
    ends = [
        min(kept) + min(driven) + noise[0],
        max(kept) + max(driven) + noise[1],
        -half - k["v_rest"],
        half - 1 - k["v_rest"],
        threshold - k["v_rest"] + extra[0],
        threshold - k["v_rest"] + extra[1],
    ]
    return max(signed_bits(min(ends), max(ends)), noise_width(layer, network) + 1, network.word + 1)


def noise_width(layer: Layer, network: Network) -> int:
    """Bits of noise_in: a word, or more if the noise of this layer needs more."""
    return max(network.word, signed_bits(*noise_bounds(layer, network.fraction)))


def below(number: str, width: int, magnitude: int) -> str:
    """Verilog of [magnitude > number] as AND and OR of the bits: a constant needs no carry chain."""
    text = "1'b0"
    for i in range(width):
        bit = f"~{number}[{i}]" if width > 1 else f"~{number}"
        if magnitude >> i & 1:
            text = bit if text == "1'b0" else f"({bit} | {text})"
        elif text != "1'b0":
            text = f"({bit} & {text})"
    return text


def number_width(layer: Layer) -> int:
    """Bits of the number generator's output."""
    return 8 if layer.generator == "lfsr" else max(1, layer.length.bit_length() - 1)


# --- pieces of text ----------------------------------------------------------------------------------------


def module(name: str, ports: list[str], body: list[str], debug_ports: Sequence[str] = ()) -> list[str]:
    """The lines of a module. debug_ports: those it has where SCNAS_DEBUG is defined."""
    lines = [f"module {name} ("]
    if debug_ports:
        lines += ["`ifdef SCNAS_DEBUG", *(f"    {port}," for port in debug_ports), "`endif"]
    lines += [f"    {port}," for port in ports[:-1]] + [f"    {ports[-1]}", ");"]
    lines += [f"    {line}" if line and not line.startswith("`") else line for line in body]
    return lines + ["endmodule", ""]


def sign_extended(signal: str, width: int, to: int) -> str:
    """Verilog of a signed `signal` of `width` bits as one of `to` bits; narrower: modulo 2^to."""
    if to > width:
        return f"{{{{{to - width}{{{signal}[{width - 1}]}}}}, {signal}}}"
    return signal if to == width else f"{signal}[{to - 1}:0]"


def saturated_current(
    total: str, total_width: int, name: str, network: Network, shift: int, saturates: bool
) -> list[str]:
    """Lines that make the word `name` = sat_W(total * 2^shift)."""
    word, full = network.word, max(network.word, total_width + shift) + 1
    lines = [
        f"wire signed [{full - 1}:0] {name}_full = "
        + f"{{{{{full - total_width - shift}{{{total}[{total_width - 1}]}}}}, {total}"
        + (f", {shift}'d0}};" if shift else "};")
    ]
    if not saturates:
        return lines + [f"wire signed [{word - 1}:0] {name} = {name}_full[{word - 1}:0];"]
    top = f"{name}_full[{full - 1}:{word - 1}]"
    lines.append(f"wire {name}_fits = (&{top}) | ~(|{top});")
    lines.append(
        f"wire signed [{word - 1}:0] {name} = {name}_fits ? {name}_full[{word - 1}:0] : "
        f"{{{name}_full[{full - 1}], {{{word - 1}{{~{name}_full[{full - 1}]}}}}}};"
    )
    return lines


def counter(name: str, last: int, step: str, reset: str = "rst_n") -> list[str]:
    """A counter 0..last that moves on with `step` and begins again: register `name`, wire `name`_last."""
    width = unsigned_bits(last)
    wraps = last == 2**width - 1
    after = f"{name} + {width}'d1" if wraps else f"{name}_last ? {width}'d0 : {name} + {width}'d1"
    return [
        f"reg [{width - 1}:0] {name};",
        f"wire {name}_last = {name} == {width}'d{last};",
        f"always @(posedge clk or negedge {reset})",
        f"    if (!{reset}) {name} <= {width}'d0;",
        f"    else if ({step}) {name} <= {after};",
    ]


def register(
    name: str, value: str, width: int | None = None, enable: str = "", reset_to: int = 0
) -> list[str]:
    """A register that is cleared at a start: one bit, or a vector if `width` is given."""
    kind = "reg" if width is None else f"reg [{width - 1}:0]"
    width = width or 1
    when = f"if ({enable}) " if enable else ""
    return [
        f"{kind} {name};",
        "always @(posedge clk or negedge rst_n)",
        f"    if (!rst_n) {name} <= {width}'d{reset_to};",
        f"    else {when}{name} <= {value};",
    ]


def score_bounds(network: Network) -> tuple[int, int]:
    """Least and greatest score of any class, exact bounds."""
    if network.readout == "spikes":
        return 0, network.timesteps
    low, high, _ = current_bounds(network.layers[-1], network)
    return int(low.min()) * network.timesteps, int(high.max()) * network.timesteps


def bounds(layer: Layer, network: Network, counts: bool, j: int) -> tuple[int, int]:
    """Bounds of one step of neuron j, as a count or as a current."""
    if counts:
        low, high = count_bounds(layer, network.timesteps)
    else:
        low, high, _ = current_bounds(layer, network)
    return int(low[j]), int(high[j])


def weight_code(layer: Layer) -> tuple[int, bool]:
    """Bits of a magnitude in the ROM, and whether they are its stream instead of its number.

    The stream is stored where it is no longer than the number: sobol with L = 1 or 2.
    """
    if layer.generator == "sobol" and layer.length <= 2:
        return layer.length, True
    return layer.max_weight.bit_length(), False

"""Verilog of a miter: two neurons that get the same inputs, and what has to hold of them.

The inputs are free in every clock; spike and membrane are asserted to be equal, and a spike is covered, so
that two dead neurons do not pass as equal ones. Both modules have the ports of the contract: clk, rst_n,
step, leak_k, gain_k, I_t, noise_in -> spike_out, v_out.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from scnas.contract import Refused
from scnas.equiv.cut import Cut


@dataclass(frozen=True)
class Hidden:
    """What the ports do not show.

    wires: output of the miter -> (bits, signed, path after flattening). relations: name -> expression that
    is asserted; the name "" holds declarations. cuts: for `induction.prove`.
    """

    wires: Mapping[str, tuple[int, bool, str]] = field(default_factory=dict)
    relations: Mapping[str, str] = field(default_factory=dict)
    cuts: tuple[Cut, ...] = ()


def generate_miter(
    dut_module: str,
    ref_module: str,
    top_name: str,
    data_width: int = 16,
    fraction: int = 8,
    *,
    parameters: Mapping[str, int] | None = None,
    dut_parameters: Mapping[str, int] | None = None,
    noise_width: int | None = None,
    constants: Mapping[str, int] | None = None,
    noise_range: tuple[int, int] | None = None,
    hidden: Hidden | None = None,
) -> str:
    """Verilog of the miter of two neuron modules.

    parameters: of both modules besides DATA_WIDTH and FRACTION (V_REST, V_THRESHOLD, ...). dut_parameters:
    of the first alone. noise_width: bits of noise_in, data_width unless given. constants: input name
    (leak_k, gain_k, I_t, noise_in, step) -> value it is tied to; every other input is free in every clock.
    noise_range: least and greatest noise_in that occur; any word if not given. hidden: what relates the inner
    states. Raises ValueError for a name that is not an identifier.
    """
    for name in (dut_module, ref_module, top_name):
        if not re.fullmatch(r"[A-Za-z_]\w*", name):
            raise Refused(f"a module name must be an identifier, got {name!r}")
    hidden = hidden or Hidden()
    noise_width = noise_width or data_width
    unknown = set(constants or {}) - set(inputs := _inputs(data_width, noise_width))
    if unknown:
        raise Refused(f"constants may hold {', '.join(inputs)}; got {', '.join(sorted(unknown))}")
    ports, tied = _ports(inputs, constants or {})
    common = {"DATA_WIDTH": data_width, "FRACTION": fraction, **(parameters or {})}
    if noise_width != data_width:
        common["NOISE_WIDTH"] = noise_width
    wires = [
        f"    output wire {'signed ' if signed else ''}[{bits - 1}:0] {name},  // {path}"
        for name, (bits, signed, path) in hidden.wires.items()
    ]
    helpers = [f"    {hidden.relations['']}"] if "" in hidden.relations else []
    asserts = [
        f"        {name}: assert ({expression});" for name, expression in hidden.relations.items() if name
    ]
    noise = []
    if noise_range is not None:
        low, high = (literal(end, noise_width + 1) for end in noise_range)
        noise = [f"        assume (noise_in >= {low} && noise_in <= {high});"]
    return "\n".join(
        [
            f"// {dut_module} and {ref_module} get the same inputs, free in every clock unless tied below.",
            "// A trace begins with a reset; later ones may come at any time.",
            f"module {top_name} (",
            "    input wire clk,",
            "    input wire rst_n,",
            *(f"{port}," for port in ports),
            *wires,
            "    output wire spike_out,",
            f"    output wire signed [{data_width - 1}:0] v_out",
            ");",
            *tied,
            "    wire dut_spike, ref_spike;",
            f"    wire signed [{data_width - 1}:0] dut_v, ref_v;",
            _instance(dut_module, "dut", common | dict(dut_parameters or {})),
            _instance(ref_module, "ref", common),
            "    assign spike_out = dut_spike;",
            "    assign v_out = dut_v;",
            *helpers,
            "`ifdef FORMAL",
            "    always @* begin",
            "        if ($initstate) assume (!rst_n);",
            *noise,
            "        spikes_equal: assert (dut_spike == ref_spike);",
            "        membranes_equal: assert (dut_v == ref_v);",
            *asserts,
            "        fires: cover (dut_spike && ref_spike);  // a dead neuron would equal any other",
            "    end",
            "`endif",
            "endmodule",
            "",
        ]
    )


def _inputs(data_width: int, noise_width: int) -> dict[str, int]:
    """Name -> bits of the inputs of a neuron besides clock and reset."""
    words = dict.fromkeys(("leak_k", "gain_k", "I_t"), data_width)
    return {"step": 1, **words, "noise_in": noise_width}


def _ports(inputs: Mapping[str, int], constants: Mapping[str, int]) -> tuple[list[str], list[str]]:
    """Declarations of the inputs that are free, and of those that are tied to a constant."""
    ports, tied = [], []
    for name, bits in inputs.items():
        kind = "" if name == "step" else f"signed [{bits - 1}:0] "
        if name in constants:
            tied.append(f"    wire {kind}{name} = {bits}'h{constants[name] % 2**bits:x};")
        else:
            ports.append(f"    input wire {kind}{name}")
    return ports, tied


def _instance(module: str, name: str, settings: Mapping[str, int]) -> str:
    """One of the two neurons."""
    values = ", ".join(f".{key}({value})" for key, value in settings.items())
    plugs = ", ".join(f".{port}({port})" for port in ("clk", "rst_n", *_inputs(0, 0)))
    return f"    {module} #({values}) {name} ({plugs}, .spike_out({name}_spike), .v_out({name}_v));"


def miter_script(top_name: str, files: Sequence[str], hidden: Hidden) -> list[str]:
    """Yosys commands that read a miter and tie the wires of `hidden` to the states they mean."""
    lines = [f"read_verilog -sv -formal {name}" for name in files]
    lines += [f"hierarchy -check -top {top_name}", "proc", "flatten"]
    lines += [f"connect -nounset -set {name} {path}" for name, (_, _, path) in hidden.wires.items()]
    return lines + [f"prep -top {top_name}"]


def literal(value: int, bits: int) -> str:
    """A signed Verilog constant."""
    return f"-{bits}'sd{-value}" if value < 0 else f"{bits}'sd{value}"

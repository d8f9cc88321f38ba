"""A cell simulated by Icarus Verilog: one line of inputs per clock in, one line of outputs per clock out."""

import shutil
import subprocess

import pytest

from scnas import resources

HDL = resources.hdl()
needs_icarus = pytest.mark.skipif(shutil.which("iverilog") is None, reason="not run: apt install iverilog")


def simulate(cell, parameters, inputs, outputs, clocks, tmp_path, source=None):
    """Outputs [(value, ...)] of every clock.

    inputs: name -> (width, values). outputs: name -> (width, signed). Inputs of clock c are
    applied before its edge; its outputs are read after the edge.
    """
    (tmp_path / "cell.v").write_text(source or (HDL / f"{cell}.v").read_text())
    settings = ", ".join(f".{key}({value})" for key, value in parameters.items())
    lines = ["module bench;", "reg clk, rst_n;", "integer c;"]
    for name, (width, values) in inputs.items():
        lines += [f"reg [{width - 1}:0] {name}; reg [{width - 1}:0] {name}_all [0:{clocks - 1}];"]
        data = "\n".join(f"{int(v) % 2**width:x}" for v in values)
        (tmp_path / f"{name}.hex").write_text(data + "\n")
    for name, (width, signed) in outputs.items():
        lines.append(f"wire {'signed ' if signed else ''}[{width - 1}:0] {name};")
    plugs = ", ".join(f".{name}({name})" for name in ["clk", "rst_n", *inputs, *outputs])
    lines += [f"{cell} #({settings}) dut ({plugs});", "initial begin"]
    lines += [f'$readmemh("{name}.hex", {name}_all);' for name in inputs]
    lines += ["clk = 0; rst_n = 0; #1 rst_n = 1;", f"for (c = 0; c < {clocks}; c = c + 1) begin"]
    lines += [f"{name} = {name}_all[c];" for name in inputs]
    lines += ["#1 clk = 1; #1 clk = 0; #1"]
    lines += [
        f'$display("{" ".join("%0d" for _ in outputs)}", {", ".join(outputs)});',
        "end",
        "end",
        "endmodule",
    ]
    (tmp_path / "bench.v").write_text("\n".join(lines) + "\n")
    subprocess.run(
        ["iverilog", "-g2001", "-o", "bench", "bench.v", "cell.v"], cwd=tmp_path, check=True, timeout=60
    )
    run = subprocess.run(
        ["vvp", "-n", "bench"], cwd=tmp_path, check=True, timeout=60, capture_output=True, text=True
    )
    return [tuple(map(int, line.split())) for line in run.stdout.splitlines()]

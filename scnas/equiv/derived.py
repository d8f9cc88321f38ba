"""The proof of a neuron whose circuit is derived: against the Verilog reference that comes with its model.

What is proved is the text of the design: scnas_neuron<n> of a parallel layer as it stands there, and of a
folded layer scnas_update<n> with registers around it. The reference is a Verilog file, `Model.reference`,
whose module has the file's name, the ports of hdl/equiv/sc_lif_reference.v and its parameters, and one for
each further constant that the model uses, in capitals. It must not be made from the description. In it

    v_out       is the membrane; every further word is a register with the name of the word
    waiting     is an integer, the refractory steps still to come
    product_0   and so on may be the products of two numbers that change, _product_0 and so on in the text of
                the datapath, and p the membrane after saturation, each declared alone, as `signed [95:0]` or
                the like. Those that are there the proof compares first, then takes both for one number:
                without, it does not know two multipliers for one
"""

import re
from collections.abc import Mapping

from scnas.contract import Refused
from scnas.equiv.cut import Cut
from scnas.equiv.miter import Hidden
from scnas.hardware.circuit import derived
from scnas.hardware.circuit.cells import cell_constants
from scnas.hardware.circuit.signal import noise_bounds, noise_width, signed_bits, unsigned_bits
from scnas.snn.models import model_of
from scnas.snn.network import Layer, Network

_SIGNED = re.compile(r"\bsigned \[(\d+):0\] (\w+)")
DUT = "derived_neuron"  # the neuron with the ports and parameters of a cell


def task(number: int, layer: Layer, network: Network, threshold: int, design: str) -> dict:
    """The task of a neuron with this threshold in layer `number`. design: the modules of the layer by name,
    as text."""
    model, k, W, F = model_of(layer.neuron), layer.constants, network.word, network.fraction
    noisy, width = "noise" in model.names, noise_width(layer, network)
    if model.reference is None:
        return {"kind": "neuron", "missing": f"no reference for {layer.neuron}"}
    if not model.reference.is_file():
        raise Refused(f"neuron {layer.neuron}: reference must be a Verilog file, got {model.reference}")
    parameters = {
        "V_REST": k["v_rest"],
        "V_RESET": k["v_reset"],
        "V_THRESHOLD": threshold,
        "REFRACTORY_PERIOD": k["refractory"],
    } | {key.upper(): k[key] for key in cell_constants(layer.neuron)}
    constants = {"gain_k": k["gain_k"], "leak_k": k["leak_k"]} | ({} if noisy else {"noise_in": 0})
    inner = derived.neuron_name(number)
    if layer.mapping == "folded":
        design += "\n".join(derived.neuron_module(inner, derived.update_name(number), layer, network)) + "\n"
    ports = [".clk(clk)", ".rst_n(rst_n)", ".step(step)", ".threshold(THRESHOLD)", ".I_t(I_t)"]
    ports += [f".noise_in(noise_in[{derived.noise_bits(layer, network) - 1}:0])"] * noisy
    ports += [".spike_out(spike_out)", ".v_out(v_out)"]
    wrapper = _WRAPPER.format(
        name=DUT, inner=inner, plugs=", ".join(ports), parameters=", ".join(f"{p} = 0" for p in parameters)
    )
    found = {
        "kind": "neuron", "dut": DUT, "ref": model.reference.stem, "data_width": W, "fraction": F,
        "parameters": parameters, "dut_parameters": {}, "noise_width": width, "constants": constants,
        "words": [word.name for word in model.words], "waiting": unsigned_bits(k["refractory"]),
        "sources": {
            "design_neuron.v": design, f"{DUT}.v": wrapper, model.reference.name: model.reference.read_text(),
        },
    }  # fmt: skip
    return found | ({"noise_range": list(noise_bounds(layer, F))} if noisy else {})


_WRAPPER = """module {name} #(
    parameter DATA_WIDTH = 16, FRACTION = 8, NOISE_WIDTH = DATA_WIDTH, {parameters}
) (
    input wire clk, rst_n, step,
    input wire signed [DATA_WIDTH-1:0] leak_k, gain_k, I_t,
    input wire signed [NOISE_WIDTH-1:0] noise_in,
    output wire spike_out,
    output wire signed [DATA_WIDTH-1:0] v_out
);
    localparam signed [DATA_WIDTH-1:0] THRESHOLD = V_THRESHOLD;
    {inner} inner ({plugs});
endmodule
"""


def hidden_state(task: Mapping) -> Hidden:
    """How the states of both hang together, and where the proof may cut: see the head of this module."""
    W, reference = task["data_width"], task["sources"][f"{task['ref']}.v"]
    word = (-(2 ** (W - 1)), 2 ** (W - 1) - 1)
    wires: dict[str, tuple[int, bool, str]] = {
        "waiting": (32, False, "ref.waiting"),
        "left": (task["waiting"], False, "dut.inner.left"),
        "v_dut": (W, True, "dut.inner.v_out"),
        "v_ref": (W, True, "ref.v_out"),
    }
    relations, cuts = {"rest_counters": "waiting == left"}, [Cut("v_dut", "v_ref", *word)]
    for i, name in enumerate(task["words"]):
        wires[f"word{i}_dut"] = (W, True, f"dut.inner.word{i}")
        wires[f"word{i}_ref"] = (W, True, f"ref.{name}")
        relations[f"word{i}"] = f"word{i}_dut == word{i}_ref"
        cuts.append(Cut(f"word{i}_dut", f"word{i}_ref", *word))
    theirs = {name: int(top) + 1 for top, name in _SIGNED.findall(reference)}
    for name, ends in _ends(task["sources"]["design_neuron.v"]).items():
        plain = name.removeprefix("_")
        if plain in theirs:
            wires[f"{plain}_dut"] = (signed_bits(*ends), True, f"dut.inner.update.{name}")
            wires[f"{plain}_ref"] = (theirs[plain], True, f"ref.{plain}")
            cuts.append(Cut(f"{plain}_dut", f"{plain}_ref", *ends))
    return Hidden(wires, relations, tuple(cuts))


def _ends(design: str) -> dict[str, tuple[int, int]]:
    """The wires of a datapath where the proof may cut, and what they may be, which is proved, too."""
    found = re.findall(r"signed \[(\d+):0\] (_product_\d+|p) = [^;]*;(?:  // (-?\d+)\.\.(-?\d+))?", design)
    return {
        name: (int(low or -(2 ** int(top))), int(high or 2 ** int(top) - 1)) for top, name, low, high in found
    }

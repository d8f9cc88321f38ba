"""`python -m scnas.equiv`: run the pre-built proofs of hdl/equiv/, one line each.

    python -m scnas.equiv [NAME ...]     only those whose name contains one of the words
    python -m scnas.equiv --write        write the miters and scripts anew (from a checkout)

Ends with 0 only if every proof that was asked for passed.
"""

import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from scnas import resources
from scnas.equiv import tools
from scnas.equiv.hidden import hidden_state
from scnas.equiv.miter import Hidden, generate_miter
from scnas.equiv.sby import generate_sby, verdict

SECONDS = 300.0

# Neuron cells: name -> module, reference, width, fraction, parameters, constants.
_LIF = {"V_THRESHOLD": 256, "REFRACTORY_PERIOD": 2}
_SMALL = {
    "V_REST": -11,
    "V_RESET": -11,
    "V_THRESHOLD": 4,
    "REFRACTORY_PERIOD": 1,
    "A_K": 1,
    "B_K": 3,
    "D_K": 1,
}
NEURONS = {
    "sc_lif_neuron": ("sc_lif", 16, 8, _LIF, {"leak_k": 64, "gain_k": 256, "noise_in": 0}),
    "sc_lif_neuron_noise": ("sc_lif", 16, 8, _LIF, {"leak_k": 64, "gain_k": 256}),
    "sc_homeostatic_lif_neuron": (
        "sc_homeostatic_lif",
        8,
        4,
        {"V_THRESHOLD": 16, "REFRACTORY_PERIOD": 2, "DECAY_K": 2, "BUMP_K": 4},
        {"leak_k": 4, "gain_k": 16, "noise_in": 0},
    ),
    "sc_izhikevich_neuron": ("sc_izhikevich", 8, 4, _SMALL, {"leak_k": 0, "gain_k": 16, "noise_in": 0}),
    "sc_neuron_update_lif": ("sc_lif", 16, 8, _LIF, {"leak_k": 64, "gain_k": 256, "noise_in": 0}),
}

# Other cells: what their proof wants to see inside.
OTHERS = {
    "sc_lfsr": Hidden({"hidden_state": (16, False, "dut.state"), "hidden_marked": (16, False, "dut.marked")}),
    "sc_sobol_counter": Hidden(),
    "sc_rate_encoder": Hidden(),
    "sc_delay_line": Hidden(),
    "sc_argmax": Hidden({"hidden_score": (8, True, "dut.best_score")}),
}


def prebuilt() -> dict[str, str]:
    """File name in hdl/equiv/ -> text of every miter and script that this module generates."""
    files = {}
    for name, (model, width, fraction, parameters, constants) in NEURONS.items():
        reference = f"{model}_reference"
        folded = name.startswith("sc_neuron_update")
        own = {"WAITING_WIDTH": 2, "V_START": 0, "EXTRA_START": 0, "MODEL": 0} if folded else {}
        dut = "sc_update_as_neuron" if folded else f"{model}_neuron"
        settings: dict[str, Any] = {"dut_parameters": own, "constants": constants}
        hidden = hidden_state(reference, parameters, width, fraction, folded=folded, **settings)
        top = f"{name}_miter"
        files[f"{top}.v"] = generate_miter(
            dut, reference, top, width, fraction, parameters=parameters, hidden=hidden, **settings
        )
        sources = ["../sc_neuron_update.v", f"{dut}.v"] if folded else [f"../{dut}.v"]
        sources += [f"{reference}.v", f"{top}.v"]
        files[f"{name}.sby"] = generate_sby(top, sources, 2, hidden=hidden)
        files[f"{name}_cover.sby"] = generate_sby(top, sources, 6, mode="cover", hidden=hidden)
    for cell, hidden in OTHERS.items():
        files[f"{cell}.sby"] = generate_sby(
            f"{cell}_proof", [f"../{cell}.v", f"{cell}_proof.v"], 2, hidden=hidden
        )
    return files


def main(arguments: list[str]) -> int:
    folder = resources.hdl() / "equiv"
    if arguments == ["--write"]:
        for name, text in prebuilt().items():
            (folder / name).write_text(text)
        return 0
    scripts = sorted(folder.glob("*.sby"))
    if arguments:
        scripts = [s for s in scripts if any(word in s.stem for word in arguments)]
    if not scripts:
        print(f"no proof in {folder} has a name with {' or '.join(arguments)}")
        return 2
    if missing := tools.missing_tools():
        print(f"not run: {missing}")
        return 2
    passed = 0
    with tempfile.TemporaryDirectory(prefix="scnas-equiv-") as name:
        copy = Path(name) / "hdl"  # the tools write beside the scripts
        shutil.copytree(resources.hdl(), copy)
        for script in scripts:
            ended = tools.sby(script.name, copy / "equiv", SECONDS)
            found = verdict(ended)
            words = {"passed": "proved" if "_cover" not in script.stem else "reached", "refuted": "REFUTED"}
            print(f"{script.stem:32} {words.get(found, found):8} {ended.seconds:6.1f} s", flush=True)
            if found in ("error", "refuted"):
                print("\n".join(ended.output.splitlines()[-8:]))
            passed += found == "passed"
    print(f"{passed} of {len(scripts)} passed")
    return 0 if passed == len(scripts) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""What is to be proved of a design, cut into tasks that are proved alone: see `verdict`.

A task is what its process gets as JSON: its `kind` (see `worker`), the sources it reads, and what it needs of
the network. Equal tasks have equal answers, which are kept by content.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from scnas import resources
from scnas.contract import Refused
from scnas.equiv import derived
from scnas.equiv.described import descriptions
from scnas.equiv.reading import instances, module_text, tap_order
from scnas.hardware.circuit import derived as circuit
from scnas.hardware.circuit.cells import cell_constants, cell_of, first_state
from scnas.hardware.circuit.folded import ending
from scnas.hardware.circuit.signal import noise_bounds
from scnas.snn.models import model_of
from scnas.snn.network import Layer, Network

SYNAPSES_PER_TASK = 400  # of one obligation about counts; beyond 100 a neuron takes a quarter of a minute

Task = dict[str, Any]


def tasks_of(network: Network, sources: Mapping[str, str]) -> dict[str, Task]:
    """Name -> task of everything that makes this design its network."""
    tasks: dict[str, Task] = {}
    text = sources["design.v"]
    for number, layer in enumerate(network.layers):
        if layer.mapping == "parallel":
            tasks |= _counts(number, layer, text)
        else:
            for unit in range(layer.units):
                which = f" of unit {unit}" if layer.units > 1 else ""
                tasks[f"layer {number}: lane sum of {layer.lanes} lanes{which}"] = {
                    "kind": "lanes",
                    "layer": number,
                    "unit": unit,
                    "network": network.to_dict(),
                    "sources": dict(sources),
                }
        if network.fires(number):
            tasks |= _neurons(number, layer, network, sources)
        tasks |= _generators(layer, network.fires(number), sources)
    if network.encoder == "rate" and network.timesteps > 1:
        encoder = (resources.hdl() / "sc_rate_encoder.v").read_text()
        steps = network.timesteps.bit_length() - 1
        tasks[f"rate encoder, {network.timesteps} steps"] = {
            "kind": "encoder",
            "steps_log2": steps,
            "sources": {"sc_rate_encoder.v": encoder},
        }
    last = len(network.layers) - 1
    for number in range(len(network.layers)):
        what = ["steps in, "] * (number == 0) + ["every step"] + [", scores and class"] * (number == last)
        tasks[f"layer {number}: {''.join(what)}"] = {
            "kind": "composition",
            "layer": number,
            "network": network.to_dict(),
            "sources": dict(sources),
        }
    if models := descriptions(network):
        tasks = {name: task | {"models": models} for name, task in tasks.items()}
    return tasks


def _counts(number: int, layer: Layer, text: str) -> dict[str, Task]:
    """The counts of a parallel layer, some neurons a task. text: design.v."""
    name = f"scnas_layer{number}_counts"
    taps = {pair: bit for bit, pair in enumerate(tap_order(layer))}
    tasks: dict[str, Task] = {}
    largest = max(1, int(np.count_nonzero(layer.weights, axis=0).max()))
    size = max(1, SYNAPSES_PER_TASK // largest) if largest <= 100 else 1
    for start in range(0, layer.n_out, size):
        group = range(start, min(start + size, layer.n_out))
        weights = {
            str(j): [
                [taps[int(i), int(layer.delays[i, j])], int(layer.weights[i, j])]
                for i in np.flatnonzero(layer.weights[:, j])
            ]
            for j in group
        }
        tasks[f"layer {number}: counts of neurons {group[0]} to {group[-1]}"] = {
            "kind": "counts",
            "module": name,
            "sources": {"counts.v": module_text(text, name)},
            "n_taps": len(taps),
            "numbers": 256 if layer.generator == "lfsr" else layer.length,
            "weights": weights,
        }
    return tasks


def _neurons(number: int, layer: Layer, network: Network, sources: Mapping[str, str]) -> dict[str, Task]:
    """The distinct neurons of a layer: as they stand in the design, against what the network says."""
    if model_of(layer.neuron).cell is None:
        return _derived_neurons(number, layer, network, sources)
    k, W, F = layer.constants, network.word, network.fraction
    parallel = layer.mapping == "parallel"
    written = cell_of(layer.neuron)
    cell, reference, noisy = written.parallel, written.reference, "noise" in model_of(layer.neuron).names
    text, each = module_text(sources["design.v"], f"scnas_layer{number}"), layer.n_out // layer.units
    found = (
        instances(text, cell, r"neuron_\d+")
        if parallel
        else instances(text, "sc_neuron_update", r"datapath\w*")
    )
    tasks: dict[str, Task] = {}  # by content
    names: dict[str, list[int]] = {}  # content -> neurons that it stands for
    for j in range(layer.n_out):
        threshold = int(layer.threshold[j])
        parameters = {
            "V_REST": k["v_rest"],
            "V_RESET": k["v_reset"],
            "V_THRESHOLD": threshold,
            "REFRACTORY_PERIOD": k["refractory"],
        } | {key.upper(): k[key] for key in cell_constants(layer.neuron)}
        if parallel:
            dut, there = cell, found.get(f"neuron_{j}")
            files = {f"{cell}.v": sources.get(f"{cell}.v", "")}
        else:
            first = first_state(layer, network)
            start = {"V_START": first["v"], "EXTRA_START": first[written.extra] if written.extra else 0}
            dut = "sc_update_as_neuron"
            there = found.get(f"datapath{ending(j // each)}")
            there = None if there is None else there | start | {"V_THRESHOLD": threshold}
            wrapper = (resources.hdl() / "equiv" / f"{dut}.v").read_text()
            files = {f"{dut}.v": wrapper, "sc_neuron_update.v": sources.get("sc_neuron_update.v", "")}
        if there is None:
            raise Refused(f"design.v: layer {number} has no {'neuron_' + str(j) if parallel else 'datapath'}")
        files[f"{reference}.v"] = (resources.hdl() / "equiv" / f"{reference}.v").read_text()
        constants = {"gain_k": k["gain_k"], "leak_k": k["leak_k"]}
        task: Task = {
            "kind": "neuron",
            "dut": dut,
            "ref": reference,
            "data_width": W,
            "fraction": F,
            "parameters": parameters,
            "dut_parameters": there,
            "noise_width": there.get("NOISE_WIDTH", W),
            "constants": constants,
            "sources": files,
        }
        if noisy:
            task["noise_range"] = list(noise_bounds(layer, F))
        else:
            constants["noise_in"] = 0
        key = json.dumps(task, sort_keys=True)
        tasks.setdefault(key, task)
        names.setdefault(key, []).append(j)
    return {_neurons_name(number, layer, names[key]): task for key, task in tasks.items()}


def _neurons_name(number: int, layer: Layer, which: Sequence[int]) -> str:
    """The name of the task of some neurons of layer `number`."""
    some = ", ".join(map(str, which[:4])) + (", ..." if len(which) > 4 else "")
    return f"layer {number}: {layer.neuron} neuron ({len(which)} of {layer.n_out}: {some})"


def _derived_neurons(
    number: int, layer: Layer, network: Network, sources: Mapping[str, str]
) -> dict[str, Task]:
    """The distinct neurons of a layer whose circuit is derived: they differ in their thresholds alone."""
    modules = [circuit.update_name(number)]
    modules += [circuit.neuron_name(number)] if layer.mapping == "parallel" else []
    texts = {name: module_text(sources["design.v"], name) for name in modules}
    if missing := [name for name, text in texts.items() if not text]:
        raise Refused(f"design.v: layer {number} has no {missing[0]}")
    if layer.mapping == "parallel":
        wanted = [f"{circuit.neuron_name(number)} neuron_{j} (" for j in range(layer.n_out)]
    else:
        wanted = [f"{circuit.update_name(number)} datapath{ending(u)} (" for u in range(layer.units)]
    text = module_text(sources["design.v"], f"scnas_layer{number}")
    if missing := [name for name in wanted if name not in text]:
        raise Refused(f"design.v: layer {number} has no {missing[0].removesuffix(' (')}")
    design = "\n".join(texts.values()) + "\n"
    same: dict[int, list[int]] = {}
    for j, threshold in enumerate(layer.threshold.tolist()):
        same.setdefault(threshold, []).append(j)
    return {
        _neurons_name(number, layer, which): derived.task(number, layer, network, threshold, design)
        for threshold, which in same.items()
    }


def _generators(layer: Layer, fires: bool, sources: Mapping[str, str]) -> dict[str, Task]:
    """The number generators of a layer, that of the noise included."""
    tasks: dict[str, Task] = {}
    settings = []
    if layer.generator == "lfsr":
        settings.append(("sc_lfsr", layer.seed))
    elif layer.length > 1:
        settings.append(("sc_sobol_counter", layer.length.bit_length() - 1))
    if "noise" in model_of(layer.neuron).names and fires:
        settings.append(("sc_lfsr", layer.noise_seed))
    for cell, setting in settings:
        text = sources.get(f"{cell}.v", "")
        task = {"kind": "generator", "cell": cell, "setting": setting, "sources": {f"{cell}.v": text}}
        tasks[f"{cell}, {'seed' if cell == 'sc_lfsr' else 'bits'} {setting}"] = task
    return tasks

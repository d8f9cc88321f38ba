"""Energy of one inference: static power, the clock, and the toggles of the nets.

    E = P_static * latency + clocks * E_CLOCK_PJ + toggles * E_TOGGLE_PJ

The toggles are those of the netlist's routed nets, as `hardware.tools.toggles` counts them. In the search,
where there is no netlist, they are modelled: a sum over what moves in a layer (`features`), with figures
fitted to counted netlists (experiments/energy.md). Static power is the target's.

Letters: N layers of all networks in a batch, n networks.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from scnas.hardware.cost.folding import Folding
from scnas.hardware.cost.structure import Structure
from scnas.hardware.targets import ByFamily, Target

# -- constants -----------------------------------------------------------------------------------

# Measured on a UP5K-SG48 at 12 MHz, core supply 1.219 V (github.com/tinyvision-ai-inc/ice40_power, README,
# "Results"). A 28-bit counter draws 613.5 uA, the same with its clock halted 92.1 uA: 53.0 pJ a clock for
# the clock and what it reaches. From 6 to 12 to 48 MHz of the internal oscillator: 52.1 pJ.
E_CLOCK_PJ = 53.0
# Two circuits of the same page, built here and their routed nets counted (experiments/energy.py toggle):
# seven more counters of 28 bits draw 27.8 uA more: 2.82 pJ a clock for 14 toggles; two counters of 8 bits
# and the product of their values 351 uA more: 35.7 pJ for 50.5. A counter's nets are short and do not
# glitch, a multiplier's are long and do; popcounts and neurons lie between. Nominal: the geometric mean.
E_TOGGLES_PJ = (0.202, 0.706)
E_TOGGLE_PJ = (E_TOGGLES_PJ[0] * E_TOGGLES_PJ[1]) ** 0.5


class _Factors(NamedTuple):
    """Lowest and highest of what the nominal figure is to be multiplied by."""

    static: tuple[float, float]
    clock: tuple[float, float]
    toggle: tuple[float, float]


# static: spread of parts and temperature. `calibrated` is measured, at room temperature; the others are
# typical values of data sheets, those of the 7 series at a junction of 85 degrees, where leakage is several
# times what it is at room temperature. clock: at least what was measured; at most, if all that the seven
# counters drew (2.8 pJ) were the load of their 196 flip-flops on the clock, and a design had 1,000 of them.
# toggle: the two circuits. All of the dynamic part is then carried to another part of the same process
# (`extrapolated`), or to another process and voltage (`uncalibrated`), by a factor of 1.5 or 3 either way:
# our judgement, not a measurement.
_MEASURED = {"clock": (0.95, 1.3), "toggle": tuple(e / E_TOGGLE_PJ for e in E_TOGGLES_PJ)}
_STATIC = {"calibrated": (0.8, 1.3), "extrapolated": (0.5, 2.0), "uncalibrated": (0.2, 2.5)}
_PROCESS = {"calibrated": 1.0, "extrapolated": 1.5, "uncalibrated": 3.0}
_INTERVAL = {
    label: _Factors(_STATIC[label], *((low / carried, high * carried) for low, high in _MEASURED.values()))
    for label, carried in _PROCESS.items()
}


class Energy(NamedTuple):
    """Energy of one inference in nJ, static power included, [n] each or numbers; low..high: what is open."""

    nominal: np.ndarray
    low: np.ndarray
    high: np.ndarray


def of_inference(
    chip: Target,
    latency_us: np.ndarray,
    clocks: np.ndarray,
    toggles: np.ndarray,
    toggle_error: float = 0.0,
) -> Energy:
    """Energy of one inference on `chip`.

    latency_us, clocks, toggles: of one inference, [n] or numbers. toggle_error: by what share the toggles
    may be off, 0 where they were counted; it widens the interval on top of what the constants leave open.
    """
    static = chip.static_mw * latency_us
    clock = clocks * (E_CLOCK_PJ * 1e-3)
    toggle = toggles * (E_TOGGLE_PJ * 1e-3)
    factors = _INTERVAL[chip.energy_label]
    off = 1 / (1 + toggle_error), 1 + toggle_error
    ends = (
        static * factors.static[i] + clock * factors.clock[i] + toggle * (factors.toggle[i] * off[i])
        for i in range(2)
    )
    return Energy(static + clock + toggle, *ends)


# -- the model of toggles --------------------------------------------------------------------------

# Toggles per unit of each feature, before anything was fitted: about what the circuit should do.
PRIOR = {
    "thresholds": 0.7,
    "threshold_bits": 0.1,
    "leaves": 1.0,
    "steps": 1.0,
    "sums": 0.5,
    "differences": 0.5,
    "totals": 0.5,
    "neuron_clocks": 0.3,
    "neuron_updates": 0.3,
    "scores": 0.3,
    "taps": 1.0,
    "bytes": 1.0,
    "generators": 2.0,
    "lfsrs": 30.0,
    "folded_lfsrs": 30.0,
    "noises": 20.0,
    "noisy_bits": 0.5,
    "readout": 1.0,
    "lanes": 2.0,
    "idle_lanes": 0.3,
    "lane_bits": 0.02,
    "lane_leaves": 2.0,
    "lane_sums": 0.5,
    "weights": 0.5,
    "turns": 1.0,
    "counters": 2.0,
    "folded_totals": 1.0,
    "datapath_clocks": 0.3,
    "datapath_updates": 0.5,
    "states": 0.5,
    "layers": 5.0,
}
FIGURES_FILE = Path(__file__).with_name("figures") / "activity.json"
FITTED: Mapping[str, dict] = json.loads(FIGURES_FILE.read_text())
# Family -> feature -> toggles per unit. Where nothing was counted, the 7 series, what iCE40 does.
FIGURES: Mapping[str, Mapping[str, float]] = ByFamily(
    lambda family: FITTED.get(family.name, FITTED["ice40"])["figures"]
)
_NEURON = ("leak", "gain", "noise", "adaptation", "decay", "izhikevich", "recovery", "refractory")


def toggle_error(family: str, trained: bool) -> float:
    """By what share modelled toggles may be off.

    trained: of a network whose weights and spikes are known: the largest error on designs that no fit has
    seen. Otherwise of an architecture, whose spikes are a guess: the largest on all counted designs. Twice as
    much where another family's figures are used.
    """
    known = FITTED.get(family, FITTED["ice40"])
    if trained:
        largest = known["held_out"]["network"]["max"]
    else:
        largest = max(known[name]["architecture"]["max"] for name in ("fitted", "held_out") if name in known)
    return largest * (1 if family in FITTED else 2)


def features(x: Structure, logic: Mapping[str, np.ndarray], folding: Folding) -> dict[str, np.ndarray]:
    """What may move in each layer in one inference, name -> [N], all of them 0 or more.

    logic: `cost.blocks` of x; folding: its `folding_of`. Each is a number of nets, times the clocks
    in which they may change, times how likely they do.

    A spike is there with the probability `active`, a number of a stream passes a threshold in the next
    clock with `rate` (sobol: half of the clocks, lfsr: 2 p (1 - p), a third on average); of its bits 2
    change then (sobol) or 4 of 8 (lfsr). `busy`: a count of these synapses is not 0. The first adders of a
    neuron follow its sum in every clock, though it is used once a step; what depends on the membrane alone
    changes once a step.
    """
    one, streams = np.ones(len(x.network)), x.length > 1
    parallel, folded = ~x.folded, x.folded
    active = x.spikes / x.n_in
    changed = 2 * active * (1 - active)
    rate = streams * np.where(x.lfsr, 1 / 3, 1 / 2)
    steps = x.timesteps * one
    clocks = steps * x.length
    turns, lanes = steps * folding.each * folding.groups, x.lanes * x.units
    fan_in = x.synapses / np.maximum(1, x.live)
    busy = -np.expm1(-fan_in * active)
    three = 1 - (1 - active) ** 3
    own = sum(logic[f"derived_{name}_bits"] for name in ("adder", "digit", "product", "choice"))
    neuron = own + sum(logic.get(f"{name}_bits", 0) for name in _NEURON) + x.membrane_bits * parallel
    followers = x.membrane_bits + logic["gain_bits"]  # of the current, as it grows
    datapath = own + logic["datapath_bits"] + sum(logic.get(f"folded_{name}_bits", 0) for name in _NEURON)
    lane_clocks = turns * x.length * folded
    density = x.synapses / np.maximum(1, x.n_out * x.taps)
    on = active * density
    lane_busy = -np.expm1(-x.lanes * on)
    noises = logic["lfsr"] - x.lfsr * np.where(folded, 2.2, 1.0)  # as cost.blocks counts them
    words = x.same + x.mixed + x.pairs
    return {
        # parallel layers
        "thresholds": parallel * x.magnitudes * rate * clocks,
        "threshold_bits": parallel * x.magnitude_bits * rate * clocks,
        "leaves": parallel * x.synapses * active * rate * clocks,
        "steps": parallel * x.synapses * changed * steps,
        "sums": parallel * (x.adder_bits + 2 * words) * three * rate * clocks,
        "differences": parallel * x.count_bits * busy * rate * clocks,
        "totals": parallel * x.total_bits * busy * clocks,
        "neuron_clocks": parallel * x.fires * followers * busy * streams * clocks,
        "neuron_updates": parallel * x.fires * (neuron + logic["square_bits"]) * steps,
        "scores": parallel * x.score_bits * busy * np.where(x.fires, 1, x.length) * steps,
        "taps": (x.n_in + x.delay_bits) * changed * steps,
        "bytes": x.byte_registers * changed * x.byte_clocks * steps,
        # folded layers
        "lanes": lanes * density * rate * lane_clocks,
        "idle_lanes": lanes * rate * lane_clocks,
        "lane_bits": lanes * streams * np.where(x.lfsr, 4, 2) * lane_clocks,
        "lane_leaves": lanes * on * rate * lane_clocks,
        "lane_sums": folded * logic["lane_adder_bits"] * lane_busy * rate * lane_clocks,
        "folded_totals": folded * x.units * x.total_bits * lane_busy * lane_clocks,
        "datapath_clocks": folded * logic["datapath_bits"] * lane_busy * lane_clocks,
        "datapath_updates": folded * (datapath + logic["folded_square_bits"]) * steps * folding.each,
        "weights": folded * x.rom_bits * np.minimum(1, 2 * density) * turns,
        "turns": folded * folding.ring * changed * turns * (folding.groups > 1),
        "states": folded * folding.state * steps * x.n_out,
        "counters": folded * (turns + steps * folding.each),
        # both
        "generators": streams * np.where(folded, lane_clocks, clocks),
        "lfsrs": x.lfsr * parallel * clocks,
        "folded_lfsrs": x.lfsr * lane_clocks,
        "noises": noises * steps * np.where(folded, x.n_out, 1),
        "noisy_bits": (noises > 0) * x.word * np.where(folded, x.n_out, x.live) * steps,
        "readout": x.last * x.n_out * x.score_width,
        "layers": steps,
    }


def toggles(
    x: Structure,
    logic: Mapping[str, np.ndarray],
    folding: Folding,
    figures: Mapping[str, float],
) -> np.ndarray:
    """Modelled toggles of routed nets of each layer in one inference, [N]. figures: per feature."""
    counts = features(x, logic, folding)
    return sum((figures[name] * count for name, count in counts.items()), np.zeros(len(x.network)))

"""What a network costs on a chip: LUT, FF, block RAM, multipliers, clocks, Fmax and energy, before and
after training.

One model, two readers. `measure` reads off a trained network what `scnas.hardware.circuit` will write for
it: registers, adders, memories. `estimate` knows the genes only and puts the expected value in the place
of everything that training decides. Both fill the same `Structure`, and everything after it is shared, so
they cannot drift apart:

    architectures or network -> Structure (one row per layer) -> blocks (how many of each circuit
    block) -> figures per block of the target's family -> sums per network

Of a trained network clocks and registers are exact: `measure` counts what the design declares and leaves
out what synthesis can do without. Its block RAMs and multipliers were exact in every held-out design.
Before training all of these but the clocks are expected values. Logic is a sum over blocks with
figures that are fitted to synthesis for the families in FITTED (which says how far off `measure` was on
designs it had not seen) and counted by hand, uncalibrated, for the others. So are the delays that Fmax
follows from: `scnas.hardware.cost.timing`. Energy: `scnas.hardware.cost.energy`.

Letters: N layers of all networks in a batch, T timesteps, D largest delay.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from scnas import metrics
from scnas.contract import Refused
from scnas.hardware import schedule, targets
from scnas.hardware.circuit import signal
from scnas.hardware.cost import counted, energy, expected, timing
from scnas.hardware.cost.blocks import PRIOR, blocks, memories, multipliers, registers
from scnas.hardware.cost.folding import folding_of
from scnas.hardware.cost.structure import Structure
from scnas.hardware.targets import ByFamily, Target
from scnas.snn.network import Network
from scnas.space import Architecture


class Cost(NamedTuple):
    """Modelled cost of one network on one target.

    luts: of the target's `lut_unit`. ffs, brams, dsps (multiplier blocks): as the chip counts them.
    latency_clocks: first input step accepted to result, exact. latency_us: the same at clock_mhz.
    energy_nj: total energy of one inference, static power during the latency included;
    energy_low_nj..energy_high_nj: what constants and modelled toggles leave open.
    energy_label: `calibrated`, `extrapolated` or `uncalibrated`, see Target.
    clock_mhz: the target's clock, or the modelled Fmax where that is lower and calibrated.
    modelled_fmax_mhz: highest clock. fmax_label: `calibrated` where it was fitted to place and route of
    this chip, `uncalibrated` where its delays are counted by hand. Both labels are `uncalibrated` for a
    network with a neuron that has no cell in hdl/: its LUTs are counted from the wires of its datapath.
    """

    luts: int
    ffs: int
    brams: int
    dsps: int
    latency_clocks: int
    latency_us: float
    energy_nj: float
    energy_low_nj: float
    energy_high_nj: float
    energy_label: str
    clock_mhz: float
    modelled_fmax_mhz: float
    fmax_label: str


FIGURES_FILE = Path(__file__).with_name("figures") / "blocks.json"
FITTED: Mapping[str, dict] = json.loads(FIGURES_FILE.read_text())
# Used by the model. Family -> block -> LUTs of that family; fitted where there is a fit.
FIGURES: Mapping[str, Mapping[str, float]] = ByFamily(
    lambda family: {**PRIOR[family.name], **FITTED.get(family.name, {}).get("figures", {})}
)
# Family -> feature of a path -> ns, on the chip the family was fitted on. SPEEDS: chip -> how many times
# its clock, where that was fitted to place and route of this chip.
DELAYS: Mapping[str, Mapping[str, float]] = ByFamily(
    lambda family: {**timing.PRIOR_NS[family.name], **FITTED.get(family.name, {}).get("delays", {})}
)
SPEEDS: Mapping[str, float] = {
    name: speed["factor"] for fitted in FITTED.values() for name, speed in fitted.get("speeds", {}).items()
}


def _costs(
    x: Structure,
    latencies: Sequence[int],
    chip: Target,
    figures: Mapping[str, float] | None,
    delays: Mapping[str, float] | None = None,
    trained: bool = False,
) -> list[Cost]:
    """Cost of every network in the batch. trained: `x` was read off networks, not expected."""
    figures = FIGURES[chip.family] if figures is None else figures
    n = len(latencies)
    logic = blocks(x, chip.family)

    def total(values: np.ndarray) -> np.ndarray:
        return np.bincount(x.network, weights=values, minlength=n)

    def whole(values: np.ndarray) -> list[int]:
        return np.rint(total(values)).astype(int).tolist()

    clocks = np.array(latencies, dtype=np.int64)
    folding = folding_of(x, chip.family)
    fmax = 1000 / timing.slowest_ns(x, folding, n, DELAYS[chip.family] if delays is None else delays)
    fmax *= SPEEDS.get(chip.name, 1.0)
    stranger = total(x.fires & x.derived) > 0  # with a circuit of which nothing was fitted
    label = np.where(stranger, "uncalibrated", fmax_label(chip))
    clock = np.minimum(chip.clock_mhz, np.where(label == "calibrated", fmax, np.inf))
    latency_us = clocks / clock
    toggles = total(energy.toggles(x, logic, folding, energy.FIGURES[chip.family]))
    off = energy.toggle_error(chip.family, trained)
    spent = energy.of_inference(chip, latency_us, clocks, toggles, off)
    if stranger.any():
        unsure = replace(chip, energy_label="uncalibrated")
        wider = energy.of_inference(unsure, latency_us, clocks, toggles, off)
        spent = energy.Energy(*(np.where(stranger, b, a) for a, b in zip(spent, wider, strict=True)))
    columns = (
        whole(sum((figure * logic[name] for name, figure in figures.items()), np.zeros(len(x.network)))),
        whole(registers(x, chip.family)),
        whole(memories(x, chip.family)),
        whole(multipliers(x, chip.family)),
        clocks.tolist(),
        latency_us.tolist(),
        spent.nominal.tolist(),
        spent.low.tolist(),
        spent.high.tolist(),
        np.where(stranger, "uncalibrated", chip.energy_label).tolist(),
        clock.tolist(),
        fmax.tolist(),
        label.tolist(),
    )
    return list(map(Cost, *columns))


def estimate_many(
    architectures: Sequence[Architecture],
    target: str | Target,
    figures: Mapping[str, float] | None = None,
) -> list[Cost]:
    """Modelled cost of every architecture before training, in order. See `estimate`."""
    if not architectures:
        return []
    chip = _chip(target)
    input_clocks = [_input_clocks(a.n_inputs, chip) for a in architectures]
    latencies = [_latency(a, clocks) for a, clocks in zip(architectures, input_clocks, strict=True)]
    return _costs(expected.of_architectures(architectures, input_clocks), latencies, chip, figures)


def estimate(
    architecture: Architecture, target: str | Target, figures: Mapping[str, float] | None = None
) -> Cost:
    """Modelled cost of `architecture` on `target` before it is trained.

    Takes `kept_synapses` as the non-zero weights, all D + 1 delays as used, weights as normally
    distributed, delays evenly, gains and leaks as powers of two, no refractory steps, and
    DEFAULT_ACTIVITY. The clocks are exact if training uses every delay. figures: LUTs per block
    instead of FIGURES, from a fit of one's own.
    """
    return estimate_many([architecture], target, figures)[0]


def measure(
    network: Network,
    target: str | Target,
    activity: Sequence[float] | None = None,
    figures: Mapping[str, float] | None = None,
    delays: Mapping[str, float] | None = None,
) -> Cost:
    """Modelled cost of a trained network on `target`, from the structure its weights really have.

    activity: mean input spikes per step of each layer, 0..n_in; DEFAULT_ACTIVITY * n_in if None.
    figures: as in `estimate`; delays: ns instead of DELAYS. The clocks are exact; FITTED tells how far
    the rest was off.
    """
    steps = [signal.layer_step_clocks(layer) for layer in network.layers]
    mappings = [layer.mapping for layer in network.layers]
    lanes = [layer.lanes for layer in network.layers]
    chip, T, classes = _chip(target), network.timesteps, network.n_classes
    input_clocks = _input_clocks(network.n_inputs, chip)
    clocks = schedule.latency_clocks(T, steps, mappings, classes, network.readout, input_clocks, lanes)
    x = counted.of_network(network, activity, input_clocks)
    return _costs(x, [clocks], chip, figures, delays, trained=True)[0]


def logic_blocks(network: Network, target: str | Target) -> dict[str, float]:
    """Blocks of the whole network, as `FIGURES` counts them: what a fit to synthesis needs."""
    chip = _chip(target)
    x = structure_of(network, chip)
    return {name: float(count.sum()) for name, count in blocks(x, chip.family).items()}


def structure_of(network: Network, target: str | Target) -> Structure:
    """What the cost of `network` on `target` is worked out from."""
    return counted.of_network(network, None, _input_clocks(network.n_inputs, _chip(target)))


def slow_paths(network: Network, target: str | Target) -> dict[str, np.ndarray]:
    """Features of every path of every layer of the network, [N] each: what a fit of its clock needs."""
    chip = _chip(target)
    x = structure_of(network, chip)
    return timing.features(x, folding_of(x, chip.family))


def fmax_label(chip: Target) -> str:
    fitted = FITTED.get(chip.family, {})
    known = "delays" in fitted and (chip.name == fitted["target"] or chip.name in SPEEDS)
    return "calibrated" if known else "uncalibrated"


def _input_clocks(n_inputs: int, chip: Target) -> int:
    """Clocks in which a step of input arrives in bytes; 0 where every input has its pin."""
    return schedule.byte_clocks(n_inputs) if chip.byte_serial(n_inputs) else 0


def _latency(a: Architecture, input_clocks: int) -> int:
    """Clocks of an inference, exact if training uses every delay."""
    steps = [
        schedule.step_clocks(
            a.mappings[i], a.bitstream_lengths[i], *ends, a.delay_ranges[i] + 1, a.lanes[i], a.units[i]
        )
        for i, ends in enumerate(a.layer_sizes)
    ]
    return schedule.latency_clocks(
        a.timesteps, steps, a.mappings, a.n_outputs, a.readout, input_clocks, a.lanes
    )


def _chip(name: str | Target) -> Target:
    return name if isinstance(name, Target) else targets.target(name)


def violations(cost: Cost, budgets: Mapping[str, float | None]) -> float:
    """How far `cost` exceeds its budgets: sum of the relative excesses, 0.0 when it keeps them all.

    budgets: any of metrics.budgets(); None or a missing name is no limit. Raises ValueError for another name
    or a limit that is negative or no number.
    """
    excess, known = 0.0, metrics.budgets()
    for name, limit in budgets.items():
        if name not in known:
            raise Refused(f"a budget must be one of {', '.join(known)}, got {name!r}")
        if limit is None:
            continue
        if not limit >= 0:
            raise Refused(f"budget {name} must be 0 or more, got {limit!r}")
        value = getattr(cost, name)
        if value > limit:
            excess += (value - limit) / max(limit, known[name].least)
    return excess

"""How far is the activity model from counted toggles, and what does a toggle cost?

python experiments/energy.py count ice40 --designs 60   # counts what the CSV does not hold yet
python experiments/energy.py fit ice40 --publish        # fits what it holds, for the cost model
python experiments/energy.py check ecp5_25k --publish   # the same figures on another family
python experiments/energy.py run <folder>               # and on the trained networks of a run's front
python experiments/energy.py toggle                     # pJ per toggle, from a published measurement
"""

import argparse
import csv
import hashlib
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from scipy.optimize import nnls

from scnas import tasks
from scnas.files import write_whole
from scnas.hardware import schedule, targets
from scnas.hardware.circuit.top import write_design
from scnas.hardware.cost import blocks, energy, folding, price, structure
from scnas.hardware.cost import plan as planning
from scnas.hardware.cost.expected import of_architectures
from scnas.hardware.tools import cosimulation, synthesis, toggles
from scnas.randomness import rng
from scnas.settings import saved
from scnas.snn.network import Network
from scnas.space import Architecture, describe

HERE = Path(__file__).parent
CSV = HERE / "energy.csv"
PLAN, FIRST = 3, 300  # seed and first number of the plan: none of its designs is in experiments/cost_model
SAMPLES = (2, 8)  # of a drawn design: as many as there is time for,
CLOCKS = 30_000  # simulated clocks of one design, about
MOST_CLOCKS, MOST_LUTS = 20_000, 2_500  # of a design of the plan, modelled; the others are left out
COLUMNS = (
    "design", "target", "status", "samples", "clocks", "nets", "toggles", "deviation", *toggles.KINDS,
    "spikes", "seconds", "tools", "verilog", "architecture",
)  # fmt: skip


def stimulus(network: Network, number: int) -> np.ndarray:
    """Input spikes for a drawn network, [samples, T, n_inputs]: every input has a rate of its own, about a
    mean that differs from design to design by a factor of twenty."""
    samples = int(np.clip(CLOCKS // write_design(network).latency_clocks, *SAMPLES))
    draws = rng(PLAN, "stimulus", number)
    mean = 0.025 * 20 ** draws.random()
    rates = np.clip(mean * draws.exponential(1, network.n_inputs), 0, 0.9)
    return (draws.random((samples, network.timesteps, network.n_inputs)) < rates).astype(np.uint8)


def count_one(name: str, network: Network, x: np.ndarray, target: str, architecture: Architecture) -> dict:
    design = synthesis.design_for(network, target)
    expected = cosimulation.expectation(network, x)
    spikes = [cosimulation.input_spikes(network, x), *expected.spikes][: len(network.layers)]
    found = toggles.count(network, design, target, x, samples=len(x), expected=expected, seconds=3600)
    print(name, found.summary(), f"{found.seconds:.0f} s", flush=True)
    return {
        "design": name,
        "target": target,
        "status": found.status,
        "samples": found.samples,
        "clocks": found.clocks,
        "nets": found.nets,
        "toggles": found.toggles,
        "deviation": round(found.deviation, 1),
        **{kind: found.by_kind.get(kind, "") for kind in toggles.KINDS},
        "spikes": " ".join(f"{layer.sum(2).mean():.5g}" for layer in spikes),
        "seconds": found.seconds,
        "tools": " ".join(f"{tool}={version}" for tool, version in found.tools.items()),
        "verilog": hashlib.sha256("\n".join(design.sources.values()).encode()).hexdigest()[:16],
        "architecture": json.dumps(architecture.to_dict(), separators=(",", ":")),
    }


def read_rows() -> list[dict]:
    return list(csv.DictReader(CSV.open(newline=""))) if CSV.exists() else []


def add_row(row: dict) -> None:
    rows = {(r["design"], r["target"]): r for r in read_rows()}
    rows[row["design"], row["target"]] = row
    lines = [",".join(COLUMNS)]
    for row in rows.values():
        cells = [str(row[name]) for name in COLUMNS]
        lines.append(",".join('"' + c.replace('"', '""') + '"' if set(c) & set(',"') else c for c in cells))
    write_whole(CSV, "\n".join(lines) + "\n")


def count_drawn(target: str, designs: int) -> None:
    """Counts the first `designs` of the plan that take seconds rather than minutes."""
    known = {(row["design"], row["target"]) for row in read_rows() if row["status"] == "counted"}
    plan = [(i, a, price.estimate(a, target)) for i, a in enumerate(planning.plan(90, PLAN), start=FIRST)]
    quick = [(c.luts, i, a) for i, a, c in plan if c.latency_clocks <= MOST_CLOCKS and c.luts <= MOST_LUTS]
    for _, i, architecture in sorted(quick)[:designs]:  # small ones first
        if (str(i), target) not in known:
            network = planning.drawn_network(architecture, i)
            add_row(count_one(str(i), network, stimulus(network, i), target, architecture))


# -- the fit -------------------------------------------------------------------------------------


def held_out(row: dict) -> bool:
    return int(row["design"]) % 9 in planning.HELD_OUT


def table(target: str) -> list[dict]:
    """Of every counted design: what was counted, and the features of its network and of its architecture."""
    chip, rows = targets.target(target), []
    for row in read_rows():
        if row["target"] != target or row["status"] != "counted":
            continue
        architecture = Architecture(**json.loads(row["architecture"]))
        network = planning.drawn_network(architecture, int(row["design"]))
        verilog = "\n".join(synthesis.design_for(network, target).sources.values())
        if hashlib.sha256(verilog.encode()).hexdigest()[:16] != row["verilog"]:
            print(f"{row['design']}: the design is another one now, left out")
            continue
        seen = replace(price.structure_of(network, chip), spikes=np.array(row["spikes"].split(), dtype=float))
        clocks = schedule.byte_clocks(network.n_inputs) if chip.byte_serial(network.n_inputs) else 0
        expected = of_architectures([architecture], [clocks])
        rows.append(
            {
                "design": row["design"],
                "held_out": held_out(row),
                "toggles": float(row["toggles"]),
                "network": totals(seen, chip.family),
                "architecture": totals(expected, chip.family),
                "genes": architecture,
                "tools": row["tools"],
            }
        )
    return rows


def totals(x: structure.Structure, family: str) -> np.ndarray:
    """Features of all layers together, in the order of energy.PRIOR."""
    found = energy.features(x, blocks.blocks(x, family), folding.folding_of(x, family))
    return np.array([found[name].sum() for name in energy.PRIOR])


def least_squares(a: np.ndarray, y: np.ndarray, prior: np.ndarray, strength: float) -> np.ndarray:
    """argmin over f >= 0 of |a f / y - 1|^2 + strength * |f / prior - 1|^2."""
    pull = np.sqrt(strength) / prior
    left = np.vstack([a / y[:, None], np.diag(pull)])
    return nnls(left, np.concatenate([np.ones(len(y)), np.full(len(prior), np.sqrt(strength))]))[0]


def cross_validated(a: np.ndarray, y: np.ndarray, prior: np.ndarray, strength: float) -> float:
    """Mean error on folds that the fit has not seen, eight folds."""
    fold = np.arange(len(y)) % 8
    parts = []
    for k in range(8):
        figures = least_squares(a[fold != k], y[fold != k], prior, strength)
        parts.append(off(a[fold == k] @ figures / y[fold == k]))
    return float(np.concatenate(parts).mean())


def off(ratios: np.ndarray) -> np.ndarray:
    """By what factor, less 1, whichever way: 0.25 for 1.25 and for 0.8."""
    return np.maximum(ratios, 1 / ratios) - 1


def fit(target: str) -> dict:
    """Non-negative figures per feature from the designs that are not held out, and how far they are off."""
    rows = table(target)
    seen = [row for row in rows if not row["held_out"]]
    a = np.array([row["network"] for row in seen])
    y = np.array([row["toggles"] for row in seen])
    prior = np.array(list(energy.PRIOR.values()))
    strength = min(STRENGTHS, key=lambda s: cross_validated(a, y, prior, s))
    figures = least_squares(a, y, prior, strength)
    record = {
        "target": target,
        "strength": strength,
        "cross_validated": round(cross_validated(a, y, prior, strength), 4),
        "tools": sorted({row["tools"] for row in rows}),
        "figures": {n: round(float(f), 4) for n, f in zip(energy.PRIOR, figures, strict=True)},
    }
    return {"record": record | errors(rows, np.array(list(record["figures"].values()))), "rows": rows}


def check(target: str) -> dict:
    """How far iCE40's figures are off on the designs of `target`, none of which a fit has seen."""
    rows = table(target)
    figures = energy.FITTED["ice40"]["figures"]
    record = {"target": target, "tools": sorted({row["tools"] for row in rows}), "figures": figures}
    for row in rows:
        row["held_out"] = True
    return {"record": record | errors(rows, np.array([figures[n] for n in energy.PRIOR])), "rows": rows}


def errors(rows: list[dict], figures: np.ndarray) -> dict:
    """Mean and largest error of the fitted and of the held-out rows, which gain what is modelled."""
    found: dict = {}
    for row in rows:
        for what in ("network", "architecture"):
            row[f"{what}_model"] = float(row[what] @ figures)
    for name, kept in (("fitted", False), ("held_out", True)):
        for what in ("network", "architecture"):
            chosen = [row for row in rows if row["held_out"] == kept]
            factors = off(np.array([row[f"{what}_model"] / row["toggles"] for row in chosen]))
            if len(factors):
                found.setdefault(name, {})[what] = {
                    "designs": len(factors),
                    "mean": round(float(factors.mean()), 4),
                    "max": round(float(factors.max()), 4),
                }
    return found


def error_table(record: dict) -> str:
    lines = ["| of | designs | | mean error | largest |", "|---|---|---|---|---|"]
    for name in ("fitted", "held_out"):
        for what, e in record.get(name, {}).items():
            lines.append(
                f"| {what} | {e['designs']} | {name.replace('_', ' ')} | {e['mean']:.0%} | {e['max']:.0%} |"
            )
    return "\n".join(lines)


def trained(folder: Path, most: int) -> None:
    """Prints counted and modelled toggles of the front of a finished run, on its validation samples."""
    settings = saved.read(folder / "settings.yaml")
    x = tasks.load(settings.task).validation.x[: SAMPLES[1]]
    target = settings.target.name
    chip = targets.target(target)
    figures = np.array([energy.FIGURES[chip.family][name] for name in energy.PRIOR])
    print("| network | toggles counted | network | architecture |\n|---|---|---|---|")
    for member in json.loads((folder / "front.json").read_text())["members"][:most]:
        network = Network.load(folder / member["network"])
        architecture = Architecture(**member["architecture"])
        row = count_one(member["network"], network, x, target, architecture)
        seen = replace(price.structure_of(network, chip), spikes=np.array(row["spikes"].split(), dtype=float))
        clocks = schedule.byte_clocks(network.n_inputs) if chip.byte_serial(network.n_inputs) else 0
        expected = of_architectures([architecture], [clocks])
        modelled = [totals(x, chip.family) @ figures / row["toggles"] - 1 for x in (seen, expected)]
        print(f"| {member['network']} {describe(architecture)} | {row['toggles']:,.0f} "
              f"| {modelled[0]:+.0%} | {modelled[1]:+.0%} |", flush=True)  # fmt: skip


def publish(found: dict) -> None:
    """Puts a fit into activity.json, where the cost model reads it at its next start, and draws its plot."""
    path = energy.FIGURES_FILE
    known = json.loads(path.read_text()) if path.exists() else {}
    known[targets.target(found["record"]["target"]).family] = found["record"]
    write_whole(path, json.dumps(known, indent=1, sort_keys=True) + "\n")


def parity_plot(found: dict) -> None:
    """Counted against modelled toggles of every design."""
    figure = Figure(figsize=(9, 4.4), layout="constrained")
    titles = {"network": "of a network and its spikes", "architecture": "of an architecture, before training"}
    for axes, (what, title) in zip(figure.subplots(1, 2), titles.items(), strict=True):
        for kept, marker, word in ((False, "o", "fitted"), (True, "x", "held out")):
            pairs = [(r["toggles"], r[f"{what}_model"]) for r in found["rows"] if r["held_out"] == kept]
            axes.loglog(*zip(*pairs, strict=True), marker, label=word, alpha=0.7)
        ends = [min(r["toggles"] for r in found["rows"]), max(r["toggles"] for r in found["rows"])]
        axes.plot(ends, ends, "k-", linewidth=0.5)
        axes.set(xlabel="toggles per inference, counted", ylabel="modelled", title=title)
        axes.legend()
    figure.suptitle(targets.target(found["record"]["target"]).title)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120, metadata={"Software": None})
    write_whole(HERE / "energy.png", buffer.getvalue())


STRENGTHS = (1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0)


# -- what a toggle costs ---------------------------------------------------------------------------

# github.com/tinyvision-ai-inc/ice40_power, README, "Results": current of the core of a UP5K in uA, at
# 12 MHz. The circuits are written anew from its description: counters; two counters of 8 bits, their product
# (its netlist there took 180 logic cells more than without, ours 166 LUTs more).
VOLTS, MHZ = 1.219, 12.0
ONE_COUNTER, EIGHT_COUNTERS, TIMER, PRODUCT = 613.5, 641.3, 645.0, 996.0


def counters(count: int, bits: int) -> str:
    registers = "".join(
        f"(* keep *) reg [{bits - 1}:0] c{i} = 0; always @(posedge clk) c{i} <= c{i} + 1;\n"
        for i in range(count)
    )
    output = " ^ ".join(f"c{i}[{bits - 1}]" for i in range(count))
    return f"module top (input clk, output q);\n{registers}assign q = {output};\nendmodule\n"


MULTIPLIER = """\
module top (input clk, output q);
    reg [23:0] timer = 0;
    reg [7:0] a = 0, b = 0;
    (* keep *) wire [15:0] product = a * b;
    always @(posedge clk) begin
        timer <= timer + 1;
        a <= a + 3;
        b <= b + 5;
    end
    assign q = timer[23] | &a | &b | &product;
endmodule
"""


def toggle_energy() -> None:
    """Prints pJ per toggle of a routed net, from two pairs of measured circuits."""
    pairs = {
        "7 counters of 28 bits": (counters(1, 28), counters(8, 28), EIGHT_COUNTERS - ONE_COUNTER),
        "product of two counters": (counters(1, 24), MULTIPLIER, PRODUCT - TIMER),
    }
    print("| circuit | uA | pJ per clock | routed toggles per clock | all nets | pJ per routed toggle |")
    print("|---|---|---|---|---|---|")
    for name, (without, more, current) in pairs.items():
        less, found = (toggles.free_running(v, "top", "ice40_up5k", 65537) for v in (without, more))
        routed = sum(found[kind] - less[kind] for kind in toggles.ROUTED)
        every = sum(found.values()) - sum(less.values())
        energy_pj = current * VOLTS / MHZ
        print(f"| {name} | {current:.1f} | {energy_pj:.2f} | {routed:.2f} | {every:.2f} "
              f"| {energy_pj / routed:.4f} |")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=("count", "fit", "check", "run", "toggle"))
    parser.add_argument("target", nargs="?", default="ice40", help="of run: its folder")
    parser.add_argument("--designs", type=int, default=60)
    parser.add_argument("--publish", action="store_true", help="put the fit where the cost model reads it")
    settings = parser.parse_args()
    if settings.what == "count":
        count_drawn(settings.target, settings.designs)
    if settings.what == "run":
        trained(Path(settings.target), settings.designs)
    if settings.what == "toggle":
        toggle_energy()
    if settings.what in ("fit", "check"):
        found = fit(settings.target) if settings.what == "fit" else check(settings.target)
        print(error_table(found["record"]))
        if settings.publish:
            publish(found)
            if settings.target == "ice40":
                parity_plot(found)


if __name__ == "__main__":
    main()

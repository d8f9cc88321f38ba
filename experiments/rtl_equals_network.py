"""Does the generated Verilog compute what the network computes, bit for bit?

    python experiments/rtl_equals_network.py        # writes the .csv and .md beside it; about 5 minutes

A dozen designs over both mappings, all neuron models, both generators, learned delays, both readouts and a
byte-serial input. Every spike and membrane of every layer in every step, every score, the class and the
number of clocks are compared with `==` by co-simulation in Verilator.
"""

import csv
import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "tests" / "helpers")]

from networks import random_input, random_network

from scnas.hardware.circuit.top import write_design
from scnas.hardware.tools.cosimulation import cosimulate, expectation

PLAIN = dict(widths=(64, 32, 10), mapping="parallel", neuron="lif", generator="sobol", length=16, max_delay=0)
DESIGNS = {
    "digits shape, lif": {},
    "if": dict(neuron="if"),
    "stochastic_lif": dict(neuron="stochastic_lif", readout="spikes"),
    "homeostatic_lif": dict(neuron="homeostatic_lif", readout="spikes"),
    "izhikevich": dict(neuron="izhikevich", widths=(32, 12, 6)),
    "lfsr, L = 64": dict(generator="lfsr", length=64, density=0.4),
    "delays 0..4": dict(max_delay=4, density=0.4),
    "L = 1, four layers": dict(length=1, widths=(40, 24, 16, 12, 8)),
    "folded, 16 lanes": dict(mapping="folded", lanes=16, length=8),
    "folded, all models": dict(mapping="folded", lanes=7, neuron=None, widths=(30, 14, 12, 9, 6), length=4),
    "mixed, lfsr, delays": dict(
        mapping="any", generator="lfsr", length=8, max_delay=3, widths=(20, 16, 12, 5)
    ),
    "word 8, saturating": dict(word=8, fraction=4, length=16, neuron=None, widths=(48, 24, 16, 10)),
    "byte-serial input": dict(byte_serial=True, length=4, widths=(60, 20, 10)),
}
SAMPLES = 500
COLUMNS = (
    "design", "network", "samples", "mismatches", "spikes", "clocks_predicted", "clocks_simulated",
    "clocks_per_second", "build_seconds", "simulator", "version",
)  # fmt: skip


def row(number: int, name: str, changes: dict) -> dict:
    """Co-simulate one design; a row of the table."""
    settings = {"density": 0.7, "readout": "membrane", "encoder": "rate"} | PLAIN | changes
    byte_serial = settings.pop("byte_serial", False)
    rng = np.random.default_rng(number)
    network = random_network(rng, **settings)
    x = random_input(rng, network, SAMPLES)
    design = write_design(network, byte_serial=byte_serial)
    result = cosimulate(network, x, "verilator", debug=True, design=design)
    if result.status in ("not_run", "error"):
        raise SystemExit(result.summary() + "\n" + result.message)
    rates = [f"{layer.mean():.2f}" for layer in expectation(network, x).spikes]
    return {
        "design": name,
        "network": design.text.splitlines()[1][3:],
        "samples": result.samples,
        "mismatches": result.mismatches,
        "spikes": " ".join(rates),
        "clocks_predicted": result.predicted_clocks,
        "clocks_simulated": result.clocks,
        "clocks_per_second": round(result.clocks_per_second),
        "build_seconds": round(result.build_seconds, 1),
        "simulator": result.simulator,
        "version": result.version,
    }


def main() -> None:
    rows = []
    for number, (name, changes) in enumerate(DESIGNS.items()):
        rows.append(row(number, name, changes))
        print(*rows[-1].values(), sep=" | ", flush=True)
    with open(HERE / "rtl_equals_network.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    lines = [
        "| design | samples | mismatches | spike rates | clocks predicted | clocks simulated | clocks/s |",
        "|---|---:|---:|---|---:|---:|---:|",
    ]
    for r in rows:
        lines.append(
            f"| {r['design']} | {r['samples']} | {r['mismatches']} | {r['spikes']} "
            f"| {r['clocks_predicted']:,} | {r['clocks_simulated']:,} | {r['clocks_per_second']:,} |"
        )
    page = HERE / "rtl_equals_network.md"
    text = page.read_text()
    begin, end = "<!-- table -->", "<!-- /table -->"
    head, rest = text.split(begin)
    page.write_text(head + begin + "\n" + "\n".join(lines) + "\n" + end + rest.split(end)[1])


if __name__ == "__main__":
    main()

"""Which way does each gene move the cost, in synthesis and in the model? Builds 15 designs on the iCE40.

python experiments/cost_genes.py [cache folder]
"""

import csv
import io
import json
import sys
from dataclasses import replace
from pathlib import Path

from scnas.files import write_whole
from scnas.hardware.cost import price
from scnas.hardware.cost.plan import drawn_network
from scnas.hardware.tools.synthesis import synthesize_network
from scnas.space import Architecture

PATH = Path(__file__).with_name("cost_genes.csv")
FIGURES = ("luts", "ffs", "brams", "latency_clocks")
BASE = Architecture(
    n_inputs=32, layer_widths=(12, 6), neuron_types=("lif", "lif"), bitstream_lengths=(16, 16),
    delay_ranges=(1, 0), densities=(0.5, 0.5), generators=("sobol", "sobol"),
    mappings=("parallel", "parallel"), timesteps=8, word=12,
)  # fmt: skip
FOLDED = replace(BASE, mappings=("folded", "parallel"), lanes=(4, 0))
CHANGES = (
    ("n_inputs", BASE, {"n_inputs": 64}),
    ("layer_widths", BASE, {"layer_widths": (20, 6)}),
    ("neuron_types", BASE, {"neuron_types": ("homeostatic_lif", "lif")}),
    ("bitstream_lengths", BASE, {"bitstream_lengths": (64, 16)}),
    ("delay_ranges", BASE, {"delay_ranges": (3, 0)}),
    ("densities", BASE, {"densities": (1.0, 0.5)}),
    ("generators", BASE, {"generators": ("lfsr", "sobol")}),
    ("mappings", BASE, {"mappings": ("folded", "parallel"), "lanes": (4, 0)}),
    ("lanes", FOLDED, {"lanes": (16, 0)}),
    ("timesteps", BASE, {"timesteps": 16}),
    ("word", BASE, {"word": 16}),
    ("fraction", BASE, {"fraction": 10, "word": 14}),
    ("readout", BASE, {"readout": "spikes"}),
)


def main(cache: str | None = None) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        ["gene", "before", "after", *(f"{f}_{when}" for f in FIGURES for when in ("before", "after"))]
    )
    for gene, base, change in CHANGES:
        designs, real, modelled = (base, replace(base, **change)), [], []
        for a in designs:
            network = drawn_network(a, 0)
            design, found = synthesize_network(network, "ice40", level="pack", cache=cache)
            real.append(
                dict(luts=found.luts, ffs=found.ffs, brams=found.brams, latency_clocks=design.latency_clocks)
            )
            modelled.append(price.measure(network, "ice40"))
        writer.writerow(
            [gene, *(json.dumps(a.to_dict(), separators=(",", ":")) for a in designs)]
            + [each[f] for f in FIGURES for each in real]
        )
        shown = (
            f"{f} {real[0][f]} to {real[1][f]} ({getattr(modelled[0], f)} to {getattr(modelled[1], f)})"
            for f in FIGURES
        )
        print(f"{gene}: {', '.join(shown)}; the model in brackets", flush=True)
    write_whole(PATH, text.getvalue())


if __name__ == "__main__":
    main(*sys.argv[1:])

"""How far off is the price of a neuron whose circuit is derived from its description?

    python experiments/derived.py [first seed] [seeds]      # writes derived.csv beside it; a minute a seed

Three neurons that the package does not have, two mappings, words of 10, 12 and 16 bits, on iCE40 and ECP5:
what `measure` says against what yosys and the packer make of the design.
"""

import csv
import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "tests" / "helpers")]

import quadratic  # noqa: F401 - registers its neuron
from networks import random_network

from scnas.hardware.cost.price import measure
from scnas.hardware.tools.synthesis import synthesize_network
from scnas.snn.models import Model, Start, Word, lifted, mul, name, on_spike, register
from scnas.snn.network import Network

V, CURRENT, W, S = name("v"), name("I"), name("w"), name("s")
DRIVE = mul(CURRENT, name("gain_k"))


def start(q) -> Start:
    return Start(q.one, q.one, q.one, {})


ADAPTATION = W - mul(W, name("decay_k")) + on_spike(name("bump_k"))
register(
    Model(
        "adaptive_lif",
        V + mul(name("v_rest") - V, name("leak_k")) + DRIVE - W,
        start,
        words=(Word("w", lifted(0), ADAPTATION),),
    )
)
register(
    Model(
        "two_words",
        V + DRIVE - W + name("noise"),
        start,
        limit=name("threshold") + mul(S, name("soft_k")),
        words=(
            Word("w", lifted(0), W + mul(V - W, name("decay_k")) + on_spike(name("bump_k"))),
            Word("s", mul(name("soft_k"), name("v_rest")), S - mul(mul(S, S), name("soft_k")) + DRIVE),
        ),
        constants=("soft_k",),
    )
)
NEURONS = ("quadratic_if", "adaptive_lif", "two_words")


def design(seed: int) -> Network:
    """12 inputs, 4 neurons, 3 classes; every other seed has constants that are powers of two."""
    return random_network(
        np.random.default_rng(seed), (12, 4, 3), neuron=NEURONS[seed % 3],
        mapping=("parallel", "folded")[seed // 3 % 2], word=(10, 12, 16)[seed // 6 % 3], fraction=6,
        timesteps=4, encoder="rate", length=8, generator="sobol", max_delay=0, readout="membrane",
        powers_of_two=bool(seed % 2), lanes=4,
    )  # fmt: skip


def main(first: int = 0, seeds: int = 28) -> None:
    with (HERE / "derived.csv").open("w", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        figures = ("luts", "ffs", "brams", "dsps")
        head = [f"{source}_{name}" for source in ("built", "modelled") for name in figures]
        rows.writerow(["seed", "neuron", "mapping", "word", "target", *head])
        for seed in range(first, first + seeds):
            network = design(seed)
            for target in ("ice40", "ecp5"):
                built = synthesize_network(network, target, level="pack", timeout_s=120)[1]
                if built.status == "done":
                    found = [
                        getattr(source, n) for source in (built, measure(network, target)) for n in figures
                    ]
                    layer = network.layers[0]
                    rows.writerow([seed, layer.neuron, layer.mapping, network.word, target, *found])


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))

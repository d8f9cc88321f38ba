"""Fit the cost model to synthesis: which designs to build, how to fit, how far off it is.

    plan -> networks drawn from the space -> Verilog -> synthesis -> rows of a CSV
    rows -> two thirds fit the figures per block, one third only tells the error

A row keeps the recipe of its network (genes and seed), so that features can be worked out again when
the model changes, and a hash of the Verilog, so that a figure of another design is not mistaken for one
of this.
"""

import csv
import hashlib
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from scipy.optimize import nnls

from scnas.files import write_whole
from scnas.hardware.cost import estimate
from scnas.hardware.synthesis import synthesize
from scnas.hardware.verilog import write_design
from scnas.randomness import rng
from scnas.snn.network import CONSTANTS, USED_CONSTANTS, Layer, Network
from scnas.snn.streams import max_weight
from scnas.space import Architecture

HELD_OUT_EVERY = 3  # every third design of a plan is never used in the fit


# -- what to build -------------------------------------------------------------------------------

# What a design of the plan may be: small enough that a core synthesises several a minute.
_CHOICES = {
    # Izhikevich neurons take minutes to synthesise: one layer in nine is enough for their few figures.
    "neuron_types": ("if", "lif", "stochastic_lif", "homeostatic_lif") * 2 + ("izhikevich",),
    "bitstream_lengths": (1, 2, 4, 8, 16, 32, 64, 128, 256),
    "delay_ranges": (0, 0, 1, 2, 4),
    "densities": (0.1, 0.2, 0.35, 0.6, 1.0),
    "generators": ("sobol", "lfsr"),
    "mappings": ("parallel", "folded"),
    "lanes": (4, 8, 16, 32),
}
_NETWORK_CHOICES = {"timesteps": (2, 4, 8, 16), "word": (8, 10, 12, 16), "readout": ("membrane", "spikes")}
_SYNAPSES = (16, 240)  # of one layer
_WIDTH = (3, 16)
_MOST_LUTS = 1400  # by estimate; a larger design shrinks until it keeps this


def plan(n: int, seed: int = 0) -> list[Architecture]:
    """n architectures to build, spread like a Latin hypercube over every gene.

    A third are single layers, the others whole networks of two or three layers.
    """
    draws = rng(seed, "plan")
    rows = 3 * n  # as many layers as could be needed

    def spread() -> np.ndarray:  # [rows] in 0..1, one in each of `rows` equal parts
        return (draws.permutation(rows) + draws.random(rows)) / rows

    columns = {gene: spread() for gene in (*_CHOICES, *_NETWORK_CHOICES, "synapses", "width")}

    def pick(gene: str, row: int):
        choices = _CHOICES.get(gene) or _NETWORK_CHOICES[gene]
        return choices[int(columns[gene][row] * len(choices))]

    designs = []
    for i in range(n):
        depth, row = 1 + i % 3, 3 * i
        widths = [round(_log_between(_WIDTH, columns["width"][row + j])) for j in range(depth)]
        genes = {gene: [pick(gene, row + j) for j in range(depth)] for gene in _CHOICES}
        n_inputs = _log_between(_SYNAPSES, columns["synapses"][row]) / (widths[0] * genes["densities"][0])
        genes["lanes"] = [
            lanes if m == "folded" else None for lanes, m in zip(genes["lanes"], genes["mappings"], strict=True)
        ]
        genes |= {gene: pick(gene, row) for gene in _NETWORK_CHOICES}
        while True:
            design = Architecture(min(96, max(4, round(n_inputs))), widths, **genes)
            if estimate(design, "ice40").luts <= _MOST_LUTS or max(widths) == 2:
                break
            widths, n_inputs = [max(2, round(0.8 * n)) for n in widths], 0.9 * n_inputs
        designs.append(design)
    return designs


def _log_between(ends: tuple[int, int], u: float) -> float:
    return ends[0] * (ends[1] / ends[0]) ** u


def drawn_network(architecture: Architecture, seed: int) -> Network:
    """A network such as training makes of `architecture`, with drawn weights.

    Magnitudes are those of a normal distribution with the small ones pruned, delays even, gains and
    leaks powers of two, thresholds about one.
    """
    r = rng(seed, "drawn network", architecture.name)
    one, half = 2**architecture.fraction, 2 ** (architecture.word - 1)
    layers = []
    for i, (n_in, n_out) in enumerate(architecture.layer_sizes):
        neuron, generator = architecture.neuron_types[i], architecture.generators[i]
        length = architecture.bitstream_lengths[i]
        top = max_weight(generator, length)
        values = r.normal(0, 0.4, (n_in, n_out))
        kept = architecture.kept_synapses[i]
        cut = np.sort(np.abs(values), axis=None)[-kept]
        magnitudes = np.clip(np.rint(np.abs(values) * top), 1, top)
        weights = np.where(np.abs(values) >= cut, np.sign(values) * magnitudes, 0).astype(np.int32)
        delays = r.integers(0, architecture.delay_ranges[i] + 1, (n_in, n_out))
        drawn = {
            "leak_k": one >> int(r.integers(1, 5)),
            "gain_k": one >> int(r.integers(0, 4)),
            "noise_k": one >> int(r.integers(0, 4)),
            "decay_k": one >> 3,
            "bump_k": one >> 2,
            "a_k": round(0.02 * one),
            "b_k": round(0.2 * one),
            "d_k": round(0.08 * one),
            "v_rest": round(-0.65 * one) if neuron == "izhikevich" else 0,
            "v_reset": round(-0.65 * one) if neuron == "izhikevich" else 0,
            "refractory": 0,
        }
        constants = {k: drawn[k] if k in USED_CONSTANTS[neuron] else 0 for k in CONSTANTS}
        threshold = np.clip(np.rint(one * r.uniform(0.3, 1.5, n_out)), 1, half - 1).astype(np.int32)
        seeds = r.integers(1, 2**16, 2)
        layers.append(
            Layer(
                neuron, generator, length, int(seeds[0]), int(seeds[1]), architecture.mappings[i],
                architecture.lanes[i], weights, delays, threshold, constants,
            )
        )  # fmt: skip
    return Network(
        n_inputs=architecture.n_inputs,
        timesteps=architecture.timesteps,
        encoder="events",
        fraction=architecture.fraction,
        word=architecture.word,
        readout=architecture.readout,
        layers=tuple(layers),
    )


# -- what came out -------------------------------------------------------------------------------

COLUMNS = (
    "design", "target", "status", "luts", "lut_cells", "ffs", "carries", "brams", "dsps", "fmax_mhz", "latency_clocks",
    "wall_s", "seed", "tools", "flags", "verilog", "architecture",
)  # fmt: skip


def collect(
    architectures: Sequence[Architecture], target: str, path: str | Path, *, first: int = 0, level: str = "route",
    seed: int = 1, timeout_s: float = 600.0, cache: str | Path | None = None,
) -> list[dict]:  # fmt: skip
    """Build every architecture on `target` and keep the rows in the CSV at `path`, which grows as they come.

    The network of row i is drawn_network(architectures[i], first + i). Rows already in the file for the
    same Verilog are not built again; a row of another Verilog is replaced. Returns all rows of the file.
    """
    path = Path(path)
    rows = {(row["design"], row["target"]): row for row in read_rows(path)} if path.exists() else {}
    for i, architecture in enumerate(architectures, start=first):
        design = write_design(drawn_network(architecture, i))
        verilog = "\n".join(design.sources.values())
        digest = hashlib.sha256(verilog.encode()).hexdigest()[:16]
        key = (str(i), target)
        if key in rows and rows[key]["verilog"] == digest:
            continue
        result = synthesize(verilog, design.top, target, level=level, seed=seed, timeout_s=timeout_s, cache=cache)
        if result.status == "not_run":
            raise RuntimeError(result.message)
        figures = {name: value for name, value in asdict(result).items() if name in COLUMNS and value is not None}
        rows[key] = {name: "" for name in COLUMNS} | figures
        rows[key] |= {
            "design": str(i),
            "latency_clocks": design.latency_clocks,
            "tools": " ".join(f"{package}={version}" for package, version in result.tools.items()),
            "flags": "; ".join(result.flags),
            "verilog": digest,
            "architecture": json.dumps(architecture.to_dict(), separators=(",", ":")),
        }
        write_rows(path, rows.values())
    return list(rows.values())


def read_rows(path: str | Path) -> list[dict]:
    """Rows of a calibration CSV, all values as text; ValueError if its columns are others."""
    with Path(path).open(newline="") as file:
        reader = csv.DictReader(file)
        if tuple(reader.fieldnames or ()) != COLUMNS:
            raise ValueError(f"{path}: columns must be {', '.join(COLUMNS)}, got {reader.fieldnames}")
        return list(reader)


def write_rows(path: str | Path, rows: Iterable[dict]) -> None:
    """Write a calibration CSV, whole or not at all."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_whole(path, text.getvalue())

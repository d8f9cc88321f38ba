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
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from scipy.optimize import nnls

from scnas.files import write_whole
from scnas.hardware import cost, targets
from scnas.hardware.synthesis import synthesize
from scnas.hardware.verilog import write_design
from scnas.randomness import rng
from scnas.snn.network import CONSTANTS, USED_CONSTANTS, Layer, Network
from scnas.snn.streams import max_weight
from scnas.space import Architecture

# Designs with these remainders by 9 are never used in a fit: a third of a plan, of every depth.
HELD_OUT = (2, 4, 6)
# Numbers and seed of the plan that is built now. Rows with lower numbers are of an earlier plan, whose
# errors were looked at while the features were chosen: all of those that are still true are fitted.
FIRST, PLAN_SEED = 100, 1


# -- what to build -------------------------------------------------------------------------------

# What a design of the plan may be: small enough that a core synthesises several a minute.
_CHOICES = {
    # Izhikevich neurons take minutes to synthesise: one layer in nine is enough for their few figures.
    "neuron_types": ("if", "lif", "stochastic_lif", "homeostatic_lif") * 2 + ("izhikevich",),
    "bitstream_lengths": (1, 2, 4, 8, 16, 32, 64, 128, 256),
    "delay_ranges": (0, 0, 1, 2, 4),
    "densities": (0.2, 0.4, 0.7, 1.0),
    "generators": ("sobol", "lfsr"),
    "mappings": ("parallel", "folded"),
    "lanes": (4, 8, 16, 32),
}
_NETWORK_CHOICES = {"timesteps": (2, 4, 8, 16), "word": (10, 12, 16), "readout": ("membrane", "spikes")}
_SYNAPSES = (40, 320)  # of one layer
_WIDTH = (3, 16)
_MOST_LUTS = 1100  # by _size; a larger design shrinks until it keeps this
# LUTs per bit of a neuron, roughly.
_NEURON_SIZE = {"if": 4, "lif": 5, "stochastic_lif": 6, "homeostatic_lif": 12, "izhikevich": 50}


def plan(n: int, seed: int = PLAN_SEED) -> list[Architecture]:
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
            lanes if m == "folded" else None
            for lanes, m in zip(genes["lanes"], genes["mappings"], strict=True)
        ]
        genes |= {gene: pick(gene, row) for gene in _NETWORK_CHOICES}
        if "izhikevich" in genes["neuron_types"]:  # a squarer of 16 bits takes a minute to synthesise
            genes["word"] = min(12, genes["word"])
        while True:
            design = Architecture(min(96, max(8, round(n_inputs))), widths, **genes)
            if _size(design) <= _MOST_LUTS or max(widths) == 3:
                break
            widths, n_inputs = [max(3, round(0.8 * n)) for n in widths], 0.9 * n_inputs
        designs.append(design)
    return designs


def _size(a: Architecture) -> float:
    """LUTs of a design, roughly. Not by the cost model: the plan must not change with what is learnt."""
    total = 100.0
    for i, (n_in, n_out) in enumerate(a.layer_sizes):
        neuron = (i < a.n_layers - 1 or a.readout == "spikes") * a.word * _NEURON_SIZE[a.neuron_types[i]]
        if a.mappings[i] == "parallel":
            total += n_out * (neuron + 20 + 2.5 * a.densities[i] * n_in)
        else:
            total += 130 + neuron + 9 * a.lanes[i] + 0.2 * n_out * a.word
    return total


def _log_between(ends: tuple[int, int], u: float) -> float:
    return ends[0] * (ends[1] / ends[0]) ** u


def drawn_network(architecture: Architecture, seed: int) -> Network:
    """A network such as training makes of `architecture`, with drawn weights.

    Every neuron keeps its largest of normally distributed weights, one of each sign at least; delays are
    drawn evenly, gains and leaks are powers of two, thresholds about one.
    """
    r = rng(seed, "drawn network", architecture.name)
    one, half = 2**architecture.fraction, 2 ** (architecture.word - 1)
    layers = []
    for i, (n_in, n_out) in enumerate(architecture.layer_sizes):
        neuron, generator = architecture.neuron_types[i], architecture.generators[i]
        length = architecture.bitstream_lengths[i]
        top = max_weight(generator, length)
        values = r.normal(0, 0.4, (n_in, n_out))
        order = np.argsort(-np.abs(values), axis=0)
        kept = max(2, round(architecture.densities[i] * n_in))
        rows, columns = order[:kept], np.arange(n_out)
        base = min(one, half // 4)
        weights = np.zeros((n_in, n_out), dtype=np.int32)
        magnitudes = np.clip(np.rint(np.abs(values) * top), 1, top)
        signs = np.sign(values)
        signs[rows[0], columns], signs[rows[1], columns] = (
            1,
            -1,
        )  # something that excites, something that inhibits
        weights[rows, columns] = (signs * magnitudes)[rows, columns]
        delays = r.integers(0, architecture.delay_ranges[i] + 1, (n_in, n_out))
        drawn = {
            "leak_k": min(one >> int(r.integers(1, 5)), half // 2),
            "gain_k": min(one >> int(r.integers(0, 4)), half // 2),
            "noise_k": min(one >> int(r.integers(0, 4)), half // 2),
            "decay_k": one >> 3,
            "bump_k": one >> 2,
            "a_k": round(0.02 * one),
            "b_k": round(0.2 * one),
            "d_k": round(0.08 * one),
            "v_rest": max(round(-0.65 * one), -half) if neuron == "izhikevich" else 0,
            "v_reset": max(round(-0.65 * one), -half) if neuron == "izhikevich" else 0,
            "refractory": 0,
        }
        constants = {k: drawn[k] if k in USED_CONSTANTS[neuron] else 0 for k in CONSTANTS}
        threshold = np.clip(np.rint(base * r.uniform(0.3, 1.5, n_out)), 1, half - 1).astype(np.int32)
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
    "design", "target", "status", "luts", "lut_cells", "ffs", "carries", "brams", "dsps", "fmax_mhz",
    "latency_clocks", "wall_s", "seed", "tools", "flags", "verilog", "architecture",
)  # fmt: skip


def collect(
    architectures: Sequence[Architecture], target: str, path: str | Path, *, first: int = 0,
    level: str = "route", seed: int = 1, timeout_s: float = 600.0, cache: str | Path | None = None,
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
        result = synthesize(
            verilog, design.top, target, level=level, seed=seed, timeout_s=timeout_s, cache=cache
        )
        if result.status == "not_run":
            raise RuntimeError(result.message)
        figures = {
            name: value for name, value in asdict(result).items() if name in COLUMNS and value is not None
        }
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


# -- the fit -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Fit:
    """Figures of a family and how far they are off.

    figures: LUTs per block. table: one row per design with `design`, `held_out` and, for each of
    FIGURES_OF, the real and the modelled count. strength: how firmly figures hold to the counted ones.
    """

    target: str
    figures: dict[str, float]
    table: list[dict]
    strength: float

    def errors(self, held_out: bool) -> dict[str, dict[str, float]]:
        """Mean and largest relative error and the share of exact designs, per figure."""
        found = {}
        for name in FIGURES_OF:
            pairs = [(r[f"{name}_real"], r[f"{name}_model"]) for r in self.table if r["held_out"] == held_out]
            off = [abs(model - real) / max(real, 1) for real, model in pairs]
            found[name] = {
                "designs": len(pairs),
                "mean": float(np.mean(off)),
                "max": float(np.max(off)),
                "exact": float(np.mean([real == model for real, model in pairs])),
            }
        return found


FIGURES_OF = ("luts", "ffs", "brams", "latency_clocks")
_STRENGTHS = (1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2)


def held_out(design: int) -> bool:
    """Whether the design of that number is kept from the fit."""
    return design >= FIRST and design % 9 in HELD_OUT


def fit(rows: Sequence[dict], target: str) -> Fit:
    """Non-negative figures per block that fit the rows of `target`, held-out rows not used.

    Least squares of the relative error, with figures pulled towards those counted by hand
    (cost.PRIOR) as firmly as cross-validation within the fitted rows likes best. Raises ValueError
    when fewer than 13 rows are there to fit.
    """
    chip = targets.target(target)
    built = [row for row in rows if row["target"] == target and row["status"] in ("done", "does_not_fit")]
    networks = [drawn_network(Architecture(**json.loads(r["architecture"])), int(r["design"])) for r in built]
    prior = cost.PRIOR[chip.family]
    counts = [cost.logic_blocks(network, chip) for network in networks]
    a = np.array([[count[name] for name in prior] for count in counts])
    y = np.array([float(row["luts"]) for row in built])
    out = np.array([held_out(int(row["design"])) for row in built])
    if (~out).sum() < 13:
        raise ValueError(f"a fit needs at least 13 designs that are not held out, got {(~out).sum()}")
    start = np.array(list(prior.values()))
    strength = min(_STRENGTHS, key=lambda s: _cross_validated(a[~out], y[~out], start, s))
    found = dict(zip(prior, _figures(a[~out], y[~out], start, strength).tolist(), strict=True))
    table = []
    for row, network in zip(built, networks, strict=True):
        modelled = cost.measure(network, chip, figures=found)
        entry = {"design": int(row["design"]), "held_out": held_out(int(row["design"]))}
        for name in FIGURES_OF:
            entry |= {f"{name}_real": int(row[name]), f"{name}_model": getattr(modelled, name)}
        table.append(entry)
    return Fit(target, found, table, strength)


def _figures(a: np.ndarray, y: np.ndarray, prior: np.ndarray, strength: float) -> np.ndarray:
    """argmin over f >= 0 of |a f / y - 1|^2 + strength * |(f - prior) / prior|^2."""
    pull = np.sqrt(strength) / np.maximum(prior, 0.2)
    left = np.vstack([a / y[:, None], np.diag(pull)])
    return nnls(left, np.concatenate([np.ones(len(y)), pull * prior]), maxiter=100 * a.shape[1])[0]


def _cross_validated(a: np.ndarray, y: np.ndarray, prior: np.ndarray, strength: float) -> float:
    """Mean relative error on folds that the fit has not seen, six folds."""
    fold = np.arange(len(y)) % 6
    errors = []
    for k in range(6):
        figures = _figures(a[fold != k], y[fold != k], prior, strength)
        errors.append(np.abs(a[fold == k] @ figures / y[fold == k] - 1))
    return float(np.mean(np.concatenate(errors)))


def record(found: Fit, rows: Sequence[dict]) -> dict:
    """What figures.json keeps of a fit: figures, errors, and which tools they hold for."""
    of_target = [row for row in rows if row["target"] == found.target]
    return {
        "target": found.target,
        "designs": len(found.table),
        "strength": found.strength,
        "tools": sorted({row["tools"] for row in of_target}),
        "flags": sorted({row["flags"] for row in of_target}),
        "fitted": found.errors(False),
        "held_out": found.errors(True),
        "figures": {name: round(figure, 4) for name, figure in found.figures.items()},
    }


def publish(found: Fit, rows: Sequence[dict], path: str | Path = cost.FIGURES_FILE) -> None:
    """Put a fit into figures.json, where the cost model reads it at its next start."""
    path = Path(path)
    known = json.loads(path.read_text()) if path.exists() else {}
    known[targets.target(found.target).family] = record(found, rows)
    write_whole(path, json.dumps(known, indent=1, sort_keys=True) + "\n")


def calibrate(
    target: str, path: str | Path, designs: int = 90, *, level: str = "route", seed: int = 1,
    timeout_s: float = 600.0, cache: str | Path | None = None,
) -> Fit:  # fmt: skip
    """Build the plan of `designs` designs on `target`, keep the rows in the CSV at `path`, and fit.

    Raises RuntimeError when a tool is missing, ValueError when too few designs were built.
    """
    rows = collect(
        plan(designs), target, path, first=FIRST, level=level, seed=seed, timeout_s=timeout_s, cache=cache
    )
    return fit(rows, target)


def error_table(found: Fit) -> str:
    """The errors of a fit as a Markdown table."""
    lines = ["| figure | designs | | mean error | largest | exact |", "|---|---|---|---|---|---|"]
    for kept, word in ((False, "fitted"), (True, "held out")):
        for name, e in found.errors(kept).items():
            lines.append(
                f"| {name} | {e['designs']} | {word} | {e['mean']:.1%} | {e['max']:.1%} | {e['exact']:.0%} |"
            )
    return "\n".join(lines) + "\n"


def parity_plot(found: Fit, path: str | Path) -> None:
    """Real against modelled LUTs and flip-flops of every design, as a PNG."""
    from matplotlib.figure import Figure

    unit = targets.target(found.target).lut_unit
    figure = Figure(figsize=(9, 4.2), layout="constrained")
    for axes, name, label in zip(
        figure.subplots(1, 2), ("luts", "ffs"), (f"{unit}s", "flip-flops"), strict=True
    ):
        for kept, marker, word in ((False, "o", "fitted"), (True, "x", "held out")):
            rows = [row for row in found.table if row["held_out"] == kept]
            real, modelled = ([row[f"{name}_{what}"] for row in rows] for what in ("real", "model"))
            axes.plot(real, modelled, marker, label=word, alpha=0.7)
        top = max(max(row[f"{name}_real"], row[f"{name}_model"]) for row in found.table)
        axes.plot([0, top], [0, top], "k-", linewidth=0.5)
        axes.set(xlabel=f"{label}, packed", ylabel=f"{label}, modelled", title=f"{found.target}: {label}")
        axes.legend()
    figure.savefig(path, dpi=120)

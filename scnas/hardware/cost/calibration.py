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
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from scnas.contract import Refused
from scnas.files import write_whole
from scnas.hardware import targets
from scnas.hardware.circuit.top import Design
from scnas.hardware.cost import blocks, fit_delays, fit_luts, price, timing
from scnas.hardware.cost.plan import FIRST, HELD_OUT, drawn_network, plan
from scnas.hardware.tools import synthesis
from scnas.hardware.tools.synthesis import Synthesis, design_for
from scnas.snn.network import Network
from scnas.space import Architecture

COLUMNS = (
    "design",
    "target",
    "status",
    "luts",
    "lut_cells",
    "ffs",
    "carries",
    "brams",
    "dsps",
    "fmax_mhz",
    "latency_clocks",
    "wall_s",
    "seed",
    "tools",
    "flags",
    "verilog",
    "architecture",
)
RUN_FILE, RUN_COLUMNS = "calibration.csv", (*COLUMNS, "blocks")  # of the designs of a run


def collect(
    architectures: Sequence[Architecture],
    target: str,
    path: str | Path,
    *,
    first: int = FIRST,
    level: str = "route",
    seed: int = 1,
    timeout_s: float = 600.0,
    cache: str | Path | None = None,
) -> list[dict]:
    """Build every architecture on `target` and keep the rows in the CSV at `path`, which grows as they come.

    The network of row i is drawn_network(architectures[i], first + i). Rows already in the file for the
    same Verilog and as high a level are not built again; a row of another Verilog is replaced. Returns all
    rows of the file. Raises RuntimeError where a tool is missing.
    """
    path = Path(path)
    rows = {(row["design"], row["target"]): row for row in read_rows(path)} if path.exists() else {}
    for i, architecture in enumerate(architectures, start=first):
        network = drawn_network(architecture, i)
        design = design_for(network, target)
        verilog = "\n".join(design.sources.values())
        digest = _digest(verilog)
        key = (str(i), target)
        if key in rows and rows[key]["verilog"] == digest and _is_built(rows[key], level):
            continue
        found = synthesis.synthesize(
            verilog, design.top, target, level=level, seed=seed, timeout_s=timeout_s, cache=cache
        )
        if found.status == "not_run":
            raise RuntimeError(found.message)
        rows[key] = row_of(str(i), architecture, design, found)
        write_rows(path, rows.values())
    return list(rows.values())


def _digest(verilog: str) -> str:
    return hashlib.sha256(verilog.encode()).hexdigest()[:16]


def _is_built(row: Mapping[str, str], level: str) -> bool:
    """Whether a row holds what a build at `level` would: a clock, if it is to be routed and can be."""
    unrouted = {name for name, chip in targets.TARGETS.items() if not chip.routed}
    return level != "route" or row["status"] != "done" or bool(row["fmax_mhz"]) or row["target"] in unrouted


def row_of(number: str, architecture: Architecture, design: Design, found: Synthesis) -> dict:
    """What a CSV keeps of a design that was built."""
    figures = {name: value for name, value in asdict(found).items() if name in COLUMNS and value is not None}
    return {
        **{name: "" for name in COLUMNS},
        **figures,
        "design": number,
        "latency_clocks": design.latency_clocks,
        "tools": " ".join(f"{package}={version}" for package, version in (found.tools or {}).items()),
        "flags": "; ".join(found.flags),
        "verilog": _digest("\n".join(design.sources.values())),
        "architecture": json.dumps(architecture.to_dict(), separators=(",", ":")),
    }


def read_rows(path: str | Path, columns: Sequence[str] = COLUMNS) -> list[dict]:
    """Rows of a calibration CSV, all values as text; ValueError if its columns are others."""
    with Path(path).open(newline="") as file:
        reader = csv.DictReader(file)
        if tuple(reader.fieldnames or ()) != tuple(columns):
            raise Refused(f"{path}: columns must be {', '.join(columns)}, got {reader.fieldnames}")
        return list(reader)


def write_rows(path: str | Path, rows: Iterable[dict], columns: Sequence[str] = COLUMNS) -> None:
    """Write a calibration CSV, whole or not at all."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_whole(path, text.getvalue())


# -- the fit -------------------------------------------------------------------------------------


# Figure -> the attribute of Cost that models it. fmax_mhz is known of routed designs only.
FIGURES_OF = {
    "luts": "luts",
    "ffs": "ffs",
    "brams": "brams",
    "dsps": "dsps",
    "latency_clocks": "latency_clocks",
    "fmax_mhz": "modelled_fmax_mhz",
}
LEAST_DESIGNS = 13  # that a fit needs


@dataclass(frozen=True)
class Fit:
    """Figures of a family and how far they are off.

    figures: LUTs per block. delays: ns per feature of a path, None where too few designs were routed.
    table: one row per design with `design`, `held_out` and the real and the modelled value of FIGURES_OF,
    as far as the real one is known. strength, delay_strength: how firmly figures and delays hold to those
    counted by hand. statistics: [k + 1, k + 1] upper triangular, all that a fit of the k figures needs to
    know of the fitted designs, see `fit_luts`.
    """

    target: str
    figures: dict[str, float]
    delays: dict[str, float] | None
    table: list[dict]
    strength: float
    delay_strength: float | None
    statistics: np.ndarray

    def errors(self, held_out: bool) -> dict[str, dict[str, float]]:
        """Mean and largest relative error and the share of exact designs, per figure with designs."""
        return errors([row for row in self.table if row["held_out"] == held_out])


def errors(table: Sequence[Mapping]) -> dict[str, dict[str, float]]:
    """Of rows like those of Fit.table: designs, mean and largest relative error, share that is exact."""
    found = {}
    for name in FIGURES_OF:
        pairs = [(r[f"{name}_real"], r[f"{name}_model"]) for r in table if f"{name}_real" in r]
        if not pairs:
            continue
        off = [abs(model - real) / max(real, 1) for real, model in pairs]
        found[name] = {
            "designs": len(pairs),
            "mean": float(np.mean(off)),
            "max": float(np.max(off)),
            "exact": float(np.mean([real == model for real, model in pairs])),
        }
    return found


def held_out(design: int) -> bool:
    """Whether the design of that number is kept from the fit."""
    return design >= FIRST and design % 9 in HELD_OUT


def network_of(row: Mapping[str, str]) -> Network:
    """The network that a row of a calibration CSV was built from."""
    return drawn_network(Architecture(**json.loads(row["architecture"])), int(row["design"]))


def compare(
    row: Mapping[str, str],
    network: Network,
    target: str,
    figures: Mapping[str, float] | None = None,
    delays: Mapping[str, float] | None = None,
) -> dict:
    """Real and modelled values of FIGURES_OF of one design, as far as the row knows the real ones."""
    modelled = price.measure(network, target, figures=figures, delays=delays)
    entry: dict[str, float] = {"design": int(row["design"]), "held_out": held_out(int(row["design"]))}
    for name, attribute in FIGURES_OF.items():
        if row[name] != "":
            real = float(row[name]) if name == "fmax_mhz" else int(row[name])
            entry |= {f"{name}_real": real, f"{name}_model": getattr(modelled, attribute)}
    return entry


def fit(rows: Sequence[dict], target: str) -> Fit:
    """Non-negative figures per block that fit the rows of `target`, held-out rows not used.

    Least squares of the relative error, with figures pulled towards those counted by hand
    (`blocks.PRIOR`) as firmly as cross-validation within the fitted rows likes best; delays in the same way,
    from the designs that were routed. Raises ValueError when fewer than LEAST_DESIGNS rows are there to fit.
    """
    chip = targets.target(target)
    built = [row for row in rows if row["target"] == target and row["status"] in ("done", "does_not_fit")]
    networks = [network_of(row) for row in built]
    prior = blocks.PRIOR[chip.family]
    a, y = fit_luts.designs(
        [price.logic_blocks(n, chip) for n in networks], [float(r["luts"]) for r in built], prior
    )
    kept = np.array([not held_out(int(row["design"])) for row in built], dtype=bool)
    if kept.sum() < LEAST_DESIGNS:
        raise Refused(f"a fit needs at least {LEAST_DESIGNS} designs that are not held out, got {kept.sum()}")
    start = np.array(list(prior.values()))
    figures, strength, known = fit_luts.fit(a[kept], y[kept], start)
    found = dict(zip(prior, figures.tolist(), strict=True))
    routed = [i for i, row in enumerate(built) if kept[i] and row["fmax_mhz"]]
    delays, delay_strength = None, None
    if len(routed) >= LEAST_DESIGNS:
        paths = fit_delays.Paths.of([networks[i] for i in routed], chip)
        real = np.array([1000 / float(built[i]["fmax_mhz"]) for i in routed])
        delays, delay_strength = fit_delays.fit(paths, real, timing.PRIOR_NS[chip.family])
    table = [compare(row, n, target, found, delays) for row, n in zip(built, networks, strict=True)]
    if delays is None:
        table = [{k: v for k, v in row.items() if not k.startswith("fmax_mhz")} for row in table]
    return Fit(target, found, delays, table, strength, delay_strength, known)


def refit(fitted: Mapping, counts: Sequence[Mapping[str, float]], luts: Sequence[float]) -> dict[str, float]:
    """Figures fitted to all designs of a published fit and these as well, exactly as if in one fit.

    fitted: a family's record in blocks.json. counts: `price.logic_blocks` of each new design; luts: what
    they really take.
    """
    names = fitted["blocks"]
    prior = blocks.PRIOR[targets.target(fitted["target"]).family]
    known = np.zeros((len(names) + 1, len(names) + 1))
    known[np.triu_indices(len(known))] = fitted["statistics"]
    start = {name: prior[name] for name in names}
    known = fit_luts.statistics(*fit_luts.designs(counts, luts, start), known)
    figures = fit_luts.figures(known, np.array(list(start.values())), fitted["strength"])
    return dict(zip(names, figures.tolist(), strict=True))


def speed(rows: Sequence[dict], target: str) -> dict:
    """How many times as fast as the chip that its family was fitted on `target` is: for blocks.json.

    The factor that makes the modelled clocks right on average, from the routed rows of `target`, and how
    far off they are if each is modelled by the factor of the others. Raises ValueError where none is routed.
    """
    chip = targets.target(target)
    routed = [row for row in rows if row["target"] == target and row["fmax_mhz"]]
    if not routed:
        raise Refused(f"no design was routed on {target}")
    known = price.SPEEDS.get(target, 1.0)
    ratios = np.array(
        [
            float(row["fmax_mhz"]) * known / price.measure(network_of(row), chip).modelled_fmax_mhz
            for row in routed
        ]
    )
    logs = np.log(ratios)
    others = np.exp((logs.sum() - logs) / max(1, len(logs) - 1)) if len(logs) > 1 else ratios
    off = np.abs(others / ratios - 1)
    return {
        "factor": round(float(np.exp(logs.mean())), 4),
        "designs": len(routed),
        "mean": float(off.mean()),
        "max": float(off.max()),
    }


# -- what is kept --------------------------------------------------------------------------------


def record(found: Fit, rows: Sequence[dict]) -> dict:
    """What blocks.json keeps of a fit: figures, errors, the tools they hold for, what a refit needs."""
    of_target = [row for row in rows if row["target"] == found.target]
    kept = {
        "target": found.target,
        "designs": len(found.table),
        "strength": found.strength,
        "tools": sorted({row["tools"] for row in of_target}),
        "flags": sorted({row["flags"] for row in of_target}),
        "fitted": found.errors(False),
        "held_out": found.errors(True),
        "figures": {name: round(figure, 4) for name, figure in found.figures.items()},
        "blocks": list(found.figures),
        "statistics": [
            float(f"{value:.10g}") for value in found.statistics[np.triu_indices(len(found.statistics))]
        ],
    }
    if found.delays is not None:
        kept["delays"] = {name: round(ns, 5) for name, ns in found.delays.items()}
    return kept


def publish(found: Fit, rows: Sequence[dict], path: str | Path = price.FIGURES_FILE) -> None:
    """Put a fit into `path`, by default the blocks.json where the cost model reads it at its next start."""
    path = Path(path)
    known = json.loads(path.read_text()) if path.exists() else {}
    family = targets.target(found.target).family
    speeds = known.get(family, {}).get("speeds")
    known[family] = record(found, rows) | ({"speeds": speeds} if speeds else {})
    write_figures(known, path)


def publish_speed(rows: Sequence[dict], target: str, path: str | Path = price.FIGURES_FILE) -> None:
    """Put the speed of another chip of a fitted family into blocks.json, and how far off its logic is."""
    path = Path(path)
    known = json.loads(path.read_text())
    luts = errors([compare(row, network_of(row), target) for row in rows])["luts"]
    family = known[targets.target(target).family]
    family["speeds"] = family.get("speeds", {}) | {target: speed(rows, target) | {"luts": luts}}
    write_figures(known, path)


def write_figures(known: Mapping, path: str | Path) -> None:
    """Write blocks.json: a line per entry of a family, long lists and tables on one."""
    lines = []
    for family in sorted(known):
        entries = [f"  {json.dumps(k)}: {json.dumps(v)}" for k, v in sorted(known[family].items())]
        lines.append(f" {json.dumps(family)}: {{\n" + ",\n".join(entries) + "\n }")
    write_whole(path, "{\n" + ",\n".join(lines) + "\n}\n")


def calibrate(
    target: str,
    path: str | Path,
    designs: int = 90,
    *,
    level: str = "route",
    seed: int = 1,
    timeout_s: float = 600.0,
    cache: str | Path | None = None,
) -> Fit:
    """Build the plan of `designs` designs on `target`, keep the rows in the CSV at `path`, and fit.

    Raises RuntimeError when a tool is missing, ValueError when too few designs were built.
    """
    rows = collect(plan(designs), target, path, level=level, seed=seed, timeout_s=timeout_s, cache=cache)
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
    """Real against modelled LUTs, flip-flops and Fmax of every design, as a PNG."""
    from matplotlib.figure import Figure  # takes most of a second to load; only to draw

    chip = targets.target(found.target)
    labels = {"luts": f"{chip.lut_unit}s", "ffs": "flip-flops", "fmax_mhz": "Fmax, MHz"}
    shown = [name for name in labels if any(f"{name}_real" in row for row in found.table)]
    figure = Figure(figsize=(4.5 * len(shown), 4.2), layout="constrained")
    for axes, name in zip(figure.subplots(1, len(shown)), shown, strict=True):
        known = [row for row in found.table if f"{name}_real" in row]
        for kept, marker, word in ((False, "o", "fitted"), (True, "x", "held out")):
            rows = [row for row in known if row["held_out"] == kept]
            real, modelled = ([row[f"{name}_{what}"] for row in rows] for what in ("real", "model"))
            axes.plot(real, modelled, marker, label=word, alpha=0.7)
        top = max(max(row[f"{name}_real"], row[f"{name}_model"]) for row in known)
        axes.plot([0, top], [0, top], "k-", linewidth=0.5)
        done = "placed and routed" if name == "fmax_mhz" else "packed" if chip.pins else "synthesised"
        axes.set(xlabel=f"{labels[name]}, {done}", ylabel=f"{labels[name]}, modelled", title=found.target)
        axes.legend()
    figure.savefig(path, dpi=120)

"""Several runs of one task and target side by side: the job `compare`.

    merged front       every member that no member of any run dominates, with its run
    attainment         what the seeds of one setting reach: the best, the median and the worst of them
    hypervolume        of every run against one reference, mean and spread over the seeds

Attainment surfaces after Grunert da Fonseca, Fonseca and Hall 2001, computed by moocore.
"""

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import moocore
import numpy as np

from scnas.contract import Refused
from scnas.evaluation import Evaluation
from scnas.files import write_whole
from scnas.hardware import targets
from scnas.hardware.targets import Target
from scnas.metrics import METRICS, four_digits
from scnas.record import front
from scnas.record.figures import png
from scnas.search.evaluation import Reference, pareto_front
from scnas.settings import saved
from scnas.space import describe

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Settings that runs may differ in and still be seeds of one and the same search.
_INCIDENTAL = (
    "job", "run", "search.seed", "search.archive", "executor.", "build.", "benchmark.", "task.download",
)  # fmt: skip
_MUST_AGREE = ("task.", "target.", "search.objectives")
_MAY_DIFFER = ("task.train_limit", "task.download")  # the validation data stay the same
LEVELS = ("best", "median", "worst")


@dataclass(frozen=True)
class Run:
    """A finished run. path: its folder as the user gave it. settings: all of them by dotted name.
    hypervolume: of its front after the full training, 0..1."""

    path: str
    settings: dict[str, Any]
    front: front.Front
    hypervolume: float = 0.0

    @property
    def seed(self) -> int:
        return self.settings["search.seed"]

    @property
    def best_accuracy(self) -> float:
        return max(member.metrics["accuracy"] for member in self.front.members)


@dataclass(frozen=True)
class Comparison:
    """runs: in the order given. groups: label -> its runs, which differ in their seeds alone.
    merged: (run, member of its front), best accuracy first. attainment: label -> level of LEVELS ->
    [P, 2] (luts, accuracy) corners, luts ascending."""

    runs: tuple[Run, ...]
    groups: dict[str, tuple[Run, ...]]
    merged: tuple[tuple[Run, Evaluation], ...]
    attainment: dict[str, dict[str, np.ndarray]]
    target: Target


def compare(paths: Sequence[str], folder: Path) -> Iterator[str]:
    """Write compare.md, compare.csv, attainment.csv and compare.png on the runs in `paths` into `folder`;
    what was found, a line each.

    Raises ValueError, one line, for less than two runs, a folder that is none, a run named twice, and runs
    that differ in their task, target or objectives.
    """
    found = load(paths)
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / "compare.csv", _merged_csv(found))
    write_whole(folder / "attainment.csv", _attainment_csv(found))
    write_whole(folder / "compare.md", page(found))
    write_whole(folder / "compare.png", png(figure(found)))
    for label, runs in found.groups.items():
        volume = _spread([run.hypervolume for run in runs], "{:.4f}")
        accuracy = _spread([run.best_accuracy for run in runs], "{:.2%}")
        seeds = f"{len(runs)} seed{'s' * (len(runs) > 1)}"
        yield f"{label}: {seeds}, hypervolume {volume}, best accuracy {accuracy}"
    origins = {run.path for run, _ in found.merged}
    yield f"merged front: {len(found.merged)} members from {len(origins)} of {len(found.runs)} runs"
    yield f"{folder}: compare.md, compare.csv, attainment.csv, compare.png"


def load(paths: Sequence[str]) -> Comparison:
    """The comparison of the runs in `paths`; see compare() for what is refused."""
    if len(paths) < 2:
        raise Refused(f"runs must name two or more folders of finished runs, got {list(paths)}")
    runs = []
    for path in paths:
        if not (Path(path) / "front.json").is_file():
            raise Refused(f"runs must name folders of finished runs, got {path}: no front.json in it")
        settings = saved.flat(saved.read(Path(path) / "settings.yaml"))
        runs.append(Run(str(path), settings, front.read(path, networks=False)))
    for run in runs[1:]:
        _refuse_difference(runs[0], run)
    first = runs[0].front
    chip = replace(targets.target(first.target), clock_mhz=first.clock_mhz)
    reference = Reference(first.objectives, _ends(runs[0])[1], chip)
    runs = [replace(run, hypervolume=reference.hypervolume(run.front.members)) for run in runs]

    groups: dict[str, list[Run]] = {}
    differing = _differing(runs)
    for run in runs:
        words = [f"{name}={_value(run.settings[name])}" for name in differing]
        groups.setdefault(" ".join(words) or "all", []).append(run)
    for members in groups.values():
        seeds = [run.seed for run in members]
        for i, run in enumerate(members):
            if run.seed in seeds[:i]:
                twin = members[seeds.index(run.seed)]
                raise Refused(
                    f"runs must be different searches, but {twin.path} and {run.path} have the same settings "
                    f"and the seed {run.seed}"
                )
    # Equal architectures of two runs are two members; of equal scores pareto_front keeps them all.
    origin = {id(member): run for run in runs for member in run.front.members}
    everyone = [member for run in runs for member in run.front.members]
    merged = tuple((origin[id(m)], m) for m in pareto_front(everyone, first.objectives))
    surfaces = {label: attainment(members) for label, members in groups.items()}
    return Comparison(tuple(runs), {k: tuple(v) for k, v in groups.items()}, merged, surfaces, chip)


def attainment(runs: Sequence[Run]) -> dict[str, np.ndarray]:
    """What one, at least half, and all of `runs` reach, by level of LEVELS: [P, 2] corners (luts, accuracy),
    luts ascending. A corner says: with so many LUTs, at least this accuracy."""
    points, sets = [], []
    for i, run in enumerate(runs):
        for member in run.front.members:
            points.append((member.metrics["luts"], 1 - member.metrics["accuracy"]))
            sets.append(i + 1)
    shares = (100 / len(runs), 50.0, 100.0)
    surfaces = moocore.eaf(np.array(points, dtype=float), np.array(sets), percentiles=sorted(set(shares)))
    found = {}
    for level, share in zip(LEVELS, shares, strict=True):
        corners = surfaces[np.isclose(surfaces[:, 2], share), :2]
        corners = corners[np.argsort(corners[:, 0], kind="stable")]
        found[level] = np.column_stack([corners[:, 0], 1 - corners[:, 1]])
    return found


def _refuse_difference(a: Run, b: Run) -> None:
    """ValueError naming what keeps two runs from being compared."""
    pairs = {
        name: (a.settings[name], b.settings[name])
        for name in a.settings
        if name.startswith(_MUST_AGREE) and name not in _MAY_DIFFER
    }
    pairs["clock_mhz of front.json"] = a.front.clock_mhz, b.front.clock_mhz
    pairs["target of front.json"] = a.front.target, b.front.target
    pairs["objectives of front.json"] = a.front.objectives, b.front.objectives
    pairs["inputs and classes of front.json"] = _ends(a), _ends(b)
    for name, (here, there) in pairs.items():
        if here != there:
            raise Refused(
                f"runs must have one task, target and objectives, but {name} is {_value(here)} in {a.path} "
                f"and {_value(there)} in {b.path}"
            )


def _ends(run: Run) -> tuple[int, int]:
    architectures = [member.architecture for member in run.front.members]
    ends = {(a.n_inputs, a.n_outputs) for a in architectures}
    if len(ends) > 1:
        raise Refused(f"{run.path}: the members of front.json differ in their inputs and classes")
    return ends.pop()


def _differing(runs: Sequence[Run]) -> list[str]:
    """Names of the settings that make one run another search, seeds apart."""
    names = [name for name in runs[0].settings if not name.startswith(_INCIDENTAL)]
    return [name for name in names if any(run.settings[name] != runs[0].settings[name] for run in runs[1:])]


def _value(value: object) -> str:
    if isinstance(value, list | tuple):
        return f"[{','.join(map(str, value))}]"
    return "null" if value is None else str(value)


def _spread(values: Sequence[float], form: str) -> str:
    """Mean and sample standard deviation; without the latter for a single value."""
    mean = form.format(np.mean(values))
    return mean if len(values) < 2 else f"{mean} ± {form.format(np.std(values, ddof=1))}"


# -- what is left behind --------------------------------------------------------------------------------


def page(found: Comparison) -> str:
    """The text of compare.md."""
    first = found.runs[0]
    lines = [
        f"# {first.front.task} on {found.target.title}: {len(found.runs)} runs",
        "",
        f"Objectives: {', '.join(first.front.objectives)}. Validation accuracy of the fronts after their "
        "full training. Hypervolume: share of the box up to chance accuracy and the whole chip.",
        "",
        "![merged front and attainment](compare.png)",
        "",
        "| settings | seeds | hypervolume | best accuracy |",
        "|---|---:|---:|---:|",
    ]
    for label, runs in found.groups.items():
        volume = _spread([run.hypervolume for run in runs], "{:.4f}")
        accuracy = _spread([100 * run.best_accuracy for run in runs], "{:.2f}")
        lines.append(f"| {_cell(label)} | {len(runs)} | {volume} | {accuracy} |")
    lines += ["", "Mean ± standard deviation over the seeds.", ""]
    lines += ["| run | seed | settings | front | hypervolume | best accuracy | in the merged front |"]
    lines += ["|---|---:|---|---:|---:|---:|---:|"]
    for label, runs in found.groups.items():
        for run in runs:
            kept = sum(origin is run for origin, _ in found.merged)
            lines.append(
                f"| {_cell(run.path)} | {run.seed} | {_cell(label)} | {len(run.front.members)} | "
                f"{run.hypervolume:.4f} | {100 * run.best_accuracy:.2f} | {kept} |"
            )
    lines += [
        "",
        "## Merged front",
        "",
        f"| accuracy | {found.target.lut_unit}s | {METRICS['energy_nj'].title} | network | run |",
    ]
    lines += ["|---:|---:|---:|---|---|"]
    for run, member in found.merged:
        m = member.metrics
        lines.append(
            f"| {100 * m['accuracy']:.2f} | {METRICS['luts'].form(m['luts'])} | "
            f"{METRICS['energy_nj'].form(m['energy_nj'])} | "
            f"{_cell(describe(member.architecture))} | {_cell(run.path)} |"
        )
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "/").replace("\n", " ")


def _merged_csv(found: Comparison) -> str:
    """One line per member of the merged front: where it comes from, its metrics, the file of its network."""
    metrics = list(dict.fromkeys(name for _, m in found.merged for name in m.metrics))
    label_of = {run.path: label for label, runs in found.groups.items() for run in runs}
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["run", "seed", "settings", *metrics, "network", "name"])
    for run, member in found.merged:
        file = run.front.files[next(i for i, m in enumerate(run.front.members) if m is member)]
        values = [member.metrics.get(name, "") for name in metrics]
        network = "" if file is None else str(Path(run.path) / file)
        writer.writerow([run.path, run.seed, label_of[run.path], *values, network, member.architecture.name])
    return buffer.getvalue()


def _attainment_csv(found: Comparison) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["settings", "seeds", "level", "luts", "accuracy"])
    for label, levels in found.attainment.items():
        for level, corners in levels.items():
            writer.writerows([label, len(found.groups[label]), level, *corner] for corner in corners.tolist())
    return buffer.getvalue()


def figure(found: Comparison) -> "Figure":
    """The merged front by origin, over the attainment of every group: its median, best to worst shaded."""
    # takes most of a second to load; only where something is drawn
    from matplotlib import colormaps
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, PercentFormatter

    drawn = Figure(figsize=(8, 5), dpi=110, layout="constrained")
    axes = drawn.add_subplot()
    title = f"{found.runs[0].front.task} on {found.target.title}, {len(found.runs)} runs"
    axes.set_title(title, loc="left", fontweight="bold", parse_math=False)
    axes.set_xlabel(f"area, {found.target.lut_unit}s (modelled)")
    axes.set_ylabel("validation accuracy")
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=None))
    axes.grid(color="0.9", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    every = np.array([m.metrics["luts"] for run in found.runs for m in run.front.members], dtype=float)
    right = every.max() * 1.05 + 1
    for i, (label, runs) in enumerate(found.groups.items()):
        colour = colormaps["tab10"](i % 10)
        levels = found.attainment[label]
        x = np.unique(np.concatenate([corners[:, 0] for corners in levels.values()] + [[right]]))
        reached = {level: _reached(corners, x) for level, corners in levels.items()}
        axes.fill_between(x, reached["worst"], reached["best"], step="post", color=colour, alpha=0.15, lw=0)
        seeds = f"{len(runs)} seed{'s' * (len(runs) > 1)}"
        axes.step(x, reached["median"], where="post", color=colour, lw=1.4, label=f"{label[:60]}: {seeds}")
        mine = [m.metrics for run, m in found.merged if any(run is r for r in runs)]
        axes.scatter(
            [m["luts"] for m in mine], [m["accuracy"] for m in mine], s=36, color=colour, edgecolors="white",
            linewidths=0.8, zorder=3,
        )  # fmt: skip
    if every.min() > 0 and every.max() / every.min() > 8:
        plain = FuncFormatter(lambda value, _: four_digits(value))
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(plain)
        axes.xaxis.set_minor_formatter(NullFormatter())
    legend = drawn.legend(
        loc="outside lower center", ncols=1, frameon=False, fontsize=9,
        title="dots: merged front; lines: median attainment of the seeds, best to worst shaded",
    )  # fmt: skip
    legend.get_title().set_fontsize(9)
    for text in legend.get_texts():
        text.set_parse_math(False)
    return drawn


def _reached(corners: np.ndarray, x: np.ndarray) -> np.ndarray:
    """[len(x)] accuracy that `corners` promise with x LUTs; NaN left of the first."""
    best = np.maximum.accumulate(corners[:, 1])
    index = np.searchsorted(corners[:, 0], x, side="right") - 1
    return np.where(index < 0, np.nan, best[np.maximum(index, 0)])

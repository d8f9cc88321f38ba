"""What a run leaves behind: settings and versions, TensorBoard, the front, the winner, a few lines on the
terminal.

    settings.yaml  versions.json       what went in
    tensorboard/                       the search, generation by generation
    front.csv  front.json  front.png   the front; front/00.json ... its networks, best accuracy first
    winner/                            network.json and README.md
"""

import csv
import importlib.metadata
import io
import json
import math
import platform
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, get_type_hints

import numpy as np

from scnas import config
from scnas.contract import one_of
from scnas.equiv.winner import ORDER
from scnas.files import read_json, refuse_links, write_whole

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.progress import Progress
    from rich.table import Table

    from scnas.hardware.targets import Target
    from scnas.search import Evaluation, Generation, Reference
    from scnas.winner import Built

# Metrics in the order of every table; others follow by name.
METRICS = (
    "accuracy", "error", "validation_loss", "test_accuracy", "luts", "published_luts", "routed_luts", "ffs",
    "routed_ffs", "brams", "routed_brams", "dsps", "modelled_fmax_mhz", "fmax_mhz", "latency_us",
    "routed_latency_us", "latency_clocks", "energy_nj", "energy_low_nj", "energy_high_nj",
    "simulated_energy_nj", "simulated_energy_low_nj", "simulated_energy_high_nj", "toggles", "synapses",
)  # fmt: skip
BEGUN = ("settings.yaml", "versions.json")
# Settings that may be others when a run is taken up again: no result that is finished depends on them.
FREE = (
    "executor.name", "executor.workers", "executor.device", "executor.timeout_s", "executor.address",
    "executor.cpus", "executor.gpus", "search.archive", "search.max_failed_share", "build.timeout_s",
    *(f"benchmark.{name}" for name in config.Benchmark.__dataclass_fields__),
)  # fmt: skip


# -- the beginning ------------------------------------------------------------------------------------


def begin(folder: Path, settings: config.Config) -> None:
    """Write settings.yaml and versions.json to `folder`, before anything else can fail.

    A run that is taken up again keeps those it began with. Raises ValueError if the folder cannot be
    written, or holds a run with other settings; those in FREE may differ.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if (folder / "settings.yaml").exists():
            refuse_links(folder)
            before, now = config.flat(config.read(folder / "settings.yaml")), config.flat(settings)
            if differing := [name for name in now if now[name] != before[name] and name not in FREE]:
                name = differing[0]
                more = f" (and {len(differing) - 1} more)" if len(differing) > 1 else ""
                raise ValueError(
                    f"{folder} holds a run with other settings: {name} is {before[name]} there, "
                    f"{now[name]} here{more}"
                )
        else:
            write_whole(folder / "settings.yaml", config.to_yaml(settings))
        if not (folder / "versions.json").exists():
            write_whole(folder / "versions.json", json.dumps(versions(), indent=1) + "\n")
    except OSError as error:
        raise ValueError(f"the run folder {folder} cannot be written: {error.strerror}") from None


def abandon(folder: Path) -> None:
    """Take away what begin() wrote, if nothing else has come into `folder` since."""
    rest = {p.name for p in folder.iterdir()}
    if rest <= set(BEGUN):
        for name in rest:
            (folder / name).unlink()


def version() -> str:
    """The version of scnas, or a word saying that it runs from files that were never installed."""
    try:
        return importlib.metadata.version("scnas")
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def versions() -> dict[str, object]:
    """What the numbers of a run may depend on besides its settings."""
    packages = {
        d.metadata["Name"]: d.version for d in importlib.metadata.distributions() if d.metadata["Name"]
    }
    return {
        "scnas": version(),
        "commit": _commit(),
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": dict(sorted(packages.items(), key=lambda item: item[0].lower())),
    }


def _commit() -> str | None:
    """The commit of the checkout this code runs from, with "+changes" if it differs; None outside one."""
    root = Path(__file__).resolve().parent.parent
    if not (root / ".git").exists():
        return None

    def git(*words: str) -> str:
        command = ["git", "-C", str(root), *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("+changes" if git("status", "--porcelain") else "")
    except (OSError, subprocess.SubprocessError):  # no git, or no commit yet
        return None


# -- the search, generation by generation ---------------------------------------------------------------


class Recorder:
    """Logs a search to folder/tensorboard, shows it on the terminal, writes what it found.

    reference: what the hypervolume is measured against; its objectives are those of the search.
    A context manager. The progress bar goes to stderr, and only where stderr is a terminal.
    """

    def __init__(self, folder: Path, settings: config.Config, target: "Target", reference: "Reference"):
        from torch.utils.tensorboard import SummaryWriter

        self.folder, self.settings, self.target, self.reference = folder, settings, target, reference
        self.title = task_title(settings.task)
        # A run that is taken up again logs itself from the start.
        shutil.rmtree(folder / "tensorboard", ignore_errors=True)
        self._writer = SummaryWriter(str(folder / "tensorboard"))
        self._end_of_session = self._begin_session()
        self._seconds = 0.0  # of the search, when the latest generation was done
        self._progress = _progress()
        self._bar = None
        self._notes: list[str] = []

    def __enter__(self) -> "Recorder":
        if self._progress is not None:
            total = self.settings.search.generations
            self._bar = self._progress.add_task("search", total=total, text="first generation")
            self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def generation(self, g: "Generation") -> None:
        """Log one generation."""
        new = max(1, len(g.evaluated))
        scalars = {
            "search/hypervolume": g.hypervolume,
            "search/front_size": len(g.front),
            "search/feasible_share": sum(e.violation == 0 for e in g.evaluated) / new,
            "search/failed_share": sum(e.failed is not None for e in g.evaluated) / new,
            "search/candidates_per_minute": 60 * len(g.evaluated) / max(g.seconds - self._seconds, 1e-9),
        }
        if g.front:
            scalars["search/best_accuracy"] = max(e.metrics["accuracy"] for e in g.front)
        self._seconds = g.seconds
        for name, value in scalars.items():
            self._writer.add_scalar(name, value, g.number)
        self._log_front("front", front_figure(g.front, self.target, self.title, g.archive), g.front, g.number)
        best = f"best {100 * scalars['search/best_accuracy']:.1f}%" if g.front else "nothing fits yet"
        speed = f"{scalars['search/candidates_per_minute']:.0f} candidates/min"
        if self._progress is not None and self._bar is not None:
            text = f"{speed}, {best}, hypervolume {g.hypervolume:.4f}"
            self._progress.update(self._bar, completed=g.number + 1, text=text, refresh=True)

    def stage(self, what: str) -> None:
        """Say on the terminal what happens now, after the search, and takes a while of unknown length."""
        if self._progress is not None and self._bar is not None:
            self._progress.remove_task(self._bar)
            self._bar = self._progress.add_task(what, total=None, text=what)
            self._progress.refresh()

    def finish(
        self,
        last: "Generation",
        front: Sequence["Evaluation"],
        winner: "Evaluation",
        interrupted: bool = False,
        built: "Built | None" = None,
    ) -> None:
        """Write the front and the winner, and say on the terminal what there is and where.

        last: the generation the search ended with. front: its members after their full training.
        """
        where = (self.title, self.target)
        figure = front_figure(front, self.target, self.title, last.archive, winner)
        write_front(self.folder, front, winner, figure, self.reference.objectives, *where)
        hardware = "" if built is None else "\n" + built.page
        write_winner(self.folder, winner, self.settings.search.winner, *where, hardware)
        for name in FINAL_METRICS:
            if name in winner.metrics:
                self._writer.add_scalar(f"winner/{name}", winner.metrics[name], last.number)
        self._log_front("final_front", figure, front, last.number)
        self._writer.file_writer.add_summary(self._end_of_session)
        self.close()
        show(self.folder, front, winner, self.target, interrupted)
        spent = energy_line(winner.metrics, self.target.energy_label)
        for line in [*self._notes, *(built.lines() if built is not None else ()), *spent]:
            print(line, flush=True)

    def note(self, what: str) -> None:
        """Something to say at the end."""
        self._notes.append(what)

    def close(self) -> None:
        """Leave the terminal as it was and the log on the disk. Twice is fine."""
        if self._progress is not None:
            self._progress.stop()
        self._writer.close()

    def _log_front(self, name: str, figure: "Figure", front: Sequence["Evaluation"], step: int) -> None:
        self._writer.add_image(name, _pixels(figure), step, dataformats="HWC")
        self._writer.add_text(name, _markdown(front), step)
        self._writer.flush()

    def _begin_session(self) -> object:
        """Log the settings as hparams, in the same folder; returns what ends the session.

        The schema is that of config.Config and FINAL_METRICS, the same for every run, so that
        TensorBoard can put any runs side by side. SummaryWriter.add_hparams would open a sub-folder.
        """
        from torch.utils.tensorboard.summary import hparams

        names = ["search/hypervolume", "search/best_accuracy", *(f"winner/{name}" for name in FINAL_METRICS)]
        experiment, start, end = hparams(_hparams(self.settings), dict.fromkeys(names, 0.0))
        self._writer.file_writer.add_summary(experiment)
        self._writer.file_writer.add_summary(start)
        return end


def energy_line(metrics: Mapping[str, float], label: str) -> list[str]:
    """The energy of one inference from counted toggles beside the modelled one, a line; none uncounted."""
    if "simulated_energy_nj" not in metrics:
        return []
    names = ("simulated_energy_nj", "energy_nj", "simulated_energy_low_nj", "simulated_energy_high_nj")
    counted, modelled, low, high = (_figure("energy_nj", metrics[name]) for name in names)
    return [
        f"energy: {counted} nJ an inference from {metrics['toggles']:,.0f} counted toggles "
        f"(modelled {modelled} nJ; {label}, {low} to {high} nJ)"
    ]


FINAL_METRICS = ("accuracy", "test_accuracy", "luts", "ffs", "brams", "latency_us", "energy_nj")


def _hparams(settings: object, prefix: str = "") -> dict[str, float | str]:
    """Every setting as a number where it always is one, otherwise as a text: types never vary by run."""
    found: dict[str, float | str] = {}
    hints = get_type_hints(type(settings))
    for f in fields(settings):
        value = getattr(settings, f.name)
        if is_dataclass(value):
            found |= _hparams(value, f"{prefix}{f.name}.")
        elif hints[f.name] in (int, float):
            found[prefix + f.name] = float(value)
        else:
            found[prefix + f.name] = "null" if value is None else _words(value)
    return found


def _words(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def task_title(settings: config.Task) -> str:
    """What people call the data: the family, or the name of the file or folder they come from."""
    return settings.name if settings.path is None else Path(settings.path).stem


def _progress() -> "Progress | None":
    """A progress bar on stderr, not yet started; None where nobody would see it."""
    from rich import progress
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        return None
    return progress.Progress(
        progress.SpinnerColumn(),
        progress.MofNCompleteColumn(),
        progress.BarColumn(bar_width=20),
        progress.TextColumn("{task.fields[text]}"),
        progress.TimeRemainingColumn(compact=True),
        progress.TextColumn("left"),
        console=console,
        transient=True,
    )


# -- tables -----------------------------------------------------------------------------------------


_COLUMNS = {  # metric: heading, how a value is written
    "accuracy": ("accuracy", lambda v: f"{100 * v:.2f}%"),
    "test_accuracy": ("test", lambda v: f"{100 * v:.2f}%"),
    "luts": ("LUTs", lambda v: f"{v:,.0f}"),
    "ffs": ("FFs", lambda v: f"{v:,.0f}"),
    "brams": ("BRAMs", lambda v: f"{v:,.0f}"),
    "latency_us": ("latency, us", lambda v: f"{v:,.4g}" if v < 1e4 else f"{v:,.0f}"),
    "energy_nj": ("energy, nJ", lambda v: f"{v:,.4g}" if v < 1e4 else f"{v:,.0f}"),
}


def _cells(front: Sequence["Evaluation"]) -> tuple[list[str], list[list[str]]]:
    """Headings and rows of the front as people read it."""
    from scnas.search import describe

    shown = [name for name in _COLUMNS if any(name in e.metrics for e in front)]
    rows = [
        [_COLUMNS[n][1](e.metrics[n]) if n in e.metrics else "" for n in shown] + [describe(e.architecture)]
        for e in front
    ]
    return [_COLUMNS[name][0] for name in shown] + ["architecture"], rows


def _markdown(front: Sequence["Evaluation"]) -> str:
    if not front:
        return "Nothing fits yet."
    headings, rows = _cells(front)
    lines = [headings, ["---:"] * (len(headings) - 1) + ["---"], *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "/") for cell in line) + " |" for line in lines)


def _table(front: Sequence["Evaluation"], winner: "Evaluation", verdict: str) -> "Table":
    """verdict: what the proofs of the winner said, "" without any."""
    from rich.table import Table

    headings, rows = _cells(front)
    if verdict:
        headings.insert(-1, "proof")
        for member, row in zip(front, rows, strict=True):
            row.insert(-1, verdict if member.architecture == winner.architecture else "")
    table = Table(title="front, best accuracy first; * is the winner", title_justify="left")
    table.add_column("")
    for heading in headings[:-1]:
        table.add_column(heading, justify="right")
    table.add_column(headings[-1], overflow="fold")
    for member, row in zip(front, rows, strict=True):
        won = member.architecture == winner.architecture
        table.add_row("*" if won else "", *row, style="bold" if won else None)
    return table


def show(
    folder: Path, front: Sequence["Evaluation"], winner: "Evaluation", target: "Target", interrupted: bool
) -> None:
    """Print the front and where everything is; the latter alone where stdout is no terminal."""
    from rich.console import Console

    console = Console()
    if console.is_terminal:
        console.print(_table(front, winner, (proof(folder) or ("",))[0]))
        console.print(
            f"LUTs, FFs and BRAMs are modelled for the {target.title}, energy is modelled and "
            f"{target.energy_label}; latency is exact in clocks.",
            highlight=False,
        )
    so_far = "Interrupted; what there was: " if interrupted else ""
    print(
        f"{so_far}{folder}: front.csv, front.png, winner/README.md; tensorboard --logdir {folder}", flush=True
    )


# -- the front ------------------------------------------------------------------------------------------


def front_figure(
    front: Sequence["Evaluation"],
    target: "Target",
    title: str,
    others: Sequence["Evaluation"] = (),
    winner: "Evaluation | None" = None,
) -> "Figure":
    """Validation accuracy against LUTs, coloured by energy.

    others: candidates behind the front, drawn faintly where they are trained and feasible.
    """
    from matplotlib.colors import LogNorm
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, PercentFormatter

    figure = Figure(figsize=(8, 5), dpi=110, layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(f"{title} on {target.title}", loc="left", fontweight="bold", parse_math=False)
    axes.set_xlabel(f"area, {target.lut_unit}s (modelled)")
    axes.set_ylabel("validation accuracy")
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=None))
    plain = FuncFormatter(lambda v, _: f"{v:,.4g}" if v < 1e4 else f"{v:,.0f}")
    axes.xaxis.set_major_formatter(plain)
    axes.grid(color="0.9", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)

    known = {e.architecture for e in front}
    behind = [e for e in others if e.trained and e.violation == 0 and e.architecture not in known]
    if behind:
        axes.scatter(*_points(behind), s=14, color="0.75", linewidths=0, label="behind the front")
    if not front:
        axes.text(0.5, 0.5, "nothing fits yet", transform=axes.transAxes, ha="center", color="0.4")
        return figure

    luts, accuracy = _points(front)
    energy = np.array([max(e.metrics["energy_nj"], 1e-3) for e in front])
    # The best accuracy that so many LUTs buy.
    order = np.lexsort((-accuracy, luts))
    best = np.maximum.accumulate(accuracy[order])
    axes.step(luts[order], best, where="post", color="0.6", linewidth=1, zorder=1)
    spread = LogNorm(energy.min(), energy.max()) if energy.max() > energy.min() else None
    dots = axes.scatter(
        luts, accuracy, c=energy, norm=spread, cmap="viridis", s=52, edgecolors="white", linewidths=0.8,
        zorder=3, label="front",
    )  # fmt: skip
    if spread is not None:
        bar = figure.colorbar(dots, ax=axes, pad=0.02)
        bar.set_label(f"energy per inference, nJ (modelled, {target.energy_label})")
        bar.outline.set_visible(False)
        bar.ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        bar.ax.yaxis.set_major_formatter(plain)
        bar.ax.yaxis.set_minor_formatter(NullFormatter())
    if routed := [e for e in front if "routed_luts" in e.metrics]:
        modelled, level = _points(routed)
        real = np.array([e.metrics["routed_luts"] for e in routed], dtype=float)
        axes.hlines(level, modelled, real, color="0.4", linewidth=1, zorder=2)
        axes.scatter(
            real, level, marker="x", s=36, color="black", linewidths=1.2, zorder=4, label="from the tools"
        )
    if winner is not None:
        x, y = winner.metrics["luts"], winner.metrics["accuracy"]
        text = f"winner: {100 * y:.1f}%, {x:,.0f} {target.lut_unit}s"
        if "test_accuracy" in winner.metrics:
            text += f", test {100 * winner.metrics['test_accuracy']:.1f}%"
        ring = {"facecolors": "none", "edgecolors": "crimson", "linewidths": 1.8}
        axes.scatter([x], [y], s=190, **ring, zorder=4, label=text)
    every = np.concatenate([luts, _points(behind)[0]]) if behind else luts
    if every.min() > 0 and every.max() / every.min() > 8:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(plain)
        axes.xaxis.set_minor_formatter(NullFormatter())
    if every.max() > target.luts / 2:
        axes.axvline(target.luts, color="crimson", linewidth=1, linestyle=(0, (4, 3)), zorder=0)
        axes.annotate(
            "capacity", (target.luts, 0.02), xycoords=("data", "axes fraction"), xytext=(-3, 0),
            textcoords="offset points", rotation=90, ha="right", fontsize=8, color="crimson",
        )  # fmt: skip
    figure.legend(
        loc="outside lower center", ncols=3, frameon=False, fontsize=9, markerscale=0.7, handletextpad=0.3
    )
    if behind:
        # Chance level is not worth the room: what lies far below the front may leave the picture.
        span = accuracy.max() - accuracy.min() + 0.02
        axes.set_ylim(bottom=max(axes.get_ylim()[0], accuracy.min() - 0.3 * span))
    return figure


def _points(evaluations: Sequence["Evaluation"]) -> tuple[np.ndarray, np.ndarray]:
    luts = np.array([e.metrics["luts"] for e in evaluations], dtype=float)
    return luts, np.array([e.metrics["accuracy"] for e in evaluations], dtype=float)


def _pixels(figure: "Figure") -> np.ndarray:
    """[height, width, 3] uint8."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3]


def png(figure: "Figure") -> bytes:
    """A PNG of the figure; same figure, same bytes."""
    buffer = io.BytesIO()
    # Without the date and the version of the program: same front, same bytes.
    figure.savefig(buffer, format="png", dpi=150, metadata={"Software": None})
    return buffer.getvalue()


def write_front(
    folder: Path,
    front: Sequence["Evaluation"],
    winner: "Evaluation",
    figure: "Figure",
    objectives: Sequence[str],
    title: str,
    target: "Target",
) -> None:
    """front.csv, front.json, front.png and the networks of the front, front/00.json and so on.

    The row of the winner says what its proofs said, if winner/verdict.json is there.
    """
    (folder / "front").mkdir(exist_ok=True)
    status, obligations = proof(folder) or (None, None)
    rows = []
    for i, member in enumerate(front):
        network = f"front/{i:02d}.json" if member.network is not None else None
        if network is not None:
            member.network.save(folder / network)
        won = member.architecture == winner.architecture
        rows.append(
            {
                "name": member.architecture.name,
                "winner": won,
                "verdict": status if won else None,
                "obligations": obligations if won else None,
                "network": network,
                "metrics": _plain(member.metrics),
                "architecture": member.architecture.to_dict(),
            }
        )
    data = {
        "format": "scnas-front/1",
        "task": title,
        "target": target.name,
        "clock_mhz": target.clock_mhz,
        "energy_label": target.energy_label,
        "objectives": list(objectives),
        "members": rows,
    }
    write_whole(folder / "front.json", json.dumps(data, indent=1, allow_nan=False) + "\n")
    for path in (folder / "front").glob("*.json"):  # of a longer front that was written here before
        if f"front/{path.name}" not in [row["network"] for row in rows]:
            path.unlink()
    write_whole(folder / "front.csv", _csv(rows))
    write_whole(folder / "front.png", png(figure))


def proof(folder: Path) -> tuple[str, int] | None:
    """The weakest status of the proofs of the winner and how many they are; None if nothing was proved.

    Raises ValueError if winner/verdict.json holds something else.
    """
    path = folder / "winner" / "verdict.json"
    if not path.exists():
        return None
    found = read_json(path)
    try:
        return one_of("status", found["status"], ORDER), len(list(found["obligations"]))
    except (TypeError, KeyError, ValueError):
        raise ValueError(f"{path}: its status must be one of {', '.join(ORDER)}") from None


def _csv(rows: Sequence[Mapping]) -> str:
    """One line per member: metrics, then genes; lists are joined by blanks."""
    metrics = list(dict.fromkeys([*METRICS, *sorted({m for row in rows for m in row["metrics"]})]))
    metrics = [m for m in metrics if any(m in row["metrics"] for row in rows)]
    genes = list(rows[0]["architecture"]) if rows else []
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["winner", "verdict", "obligations", *metrics, *genes, "network", "name"])
    for row in rows:
        values = [row["metrics"].get(m) for m in metrics]
        lists = [row["architecture"][gene] for gene in genes]
        writer.writerow(
            [
                int(row["winner"]),
                *("" if row[key] is None else row[key] for key in ("verdict", "obligations")),
                *("" if v is None else v for v in values),
                *(" ".join(map(str, v)) if isinstance(v, list) else v for v in lists),
                row["network"] or "",
                row["name"],
            ]
        )
    return buffer.getvalue()


def _plain(metrics: Mapping[str, object]) -> dict[str, object]:
    """Metrics as JSON knows them, in the order of METRICS; None for what is not finite."""
    names = [*(m for m in METRICS if m in metrics), *sorted(set(metrics) - set(METRICS))]
    plain = {}
    for name in names:
        value = metrics[name]
        value = value.item() if isinstance(value, np.generic) else value
        plain[name] = None if isinstance(value, float) and not math.isfinite(value) else value
    return plain


# -- the winner -----------------------------------------------------------------------------------------


def write_winner(
    folder: Path, winner: "Evaluation", rule: config.Winner, title: str, target: "Target", hardware: str = ""
) -> None:
    """winner/network.json and winner/README.md, which ends with the page on the hardware."""
    place = folder / "winner"
    place.mkdir(exist_ok=True)
    winner.network.save(place / "network.json")
    write_whole(place / "README.md", _winner_page(winner, rule, title, target) + hardware)


_MEANING = {  # metric: what it is, where it comes from
    "accuracy": ("validation accuracy", "measured with the exact integer network"),
    "test_accuracy": ("test accuracy", "measured once, after every choice was made"),
    "luts": ("{unit}s", "modelled{refitted}"),
    "published_luts": ("{unit}s", "modelled before that"),
    "ffs": ("flip-flops", "modelled"),
    "brams": ("block RAMs", "modelled"),
    "routed_luts": ("{unit}s", "{did}"),
    "routed_ffs": ("flip-flops", "{did}"),
    "routed_brams": ("block RAMs", "{did}"),
    "dsps": ("multiplier blocks", "modelled"),
    "modelled_fmax_mhz": ("highest clock, MHz", "modelled, {fmax_label}"),
    "fmax_mhz": ("highest clock, MHz", "placed and routed, worst case of the tool"),
    "latency_clocks": ("clocks from the first input step to the class", "exact"),
    "latency_us": ("latency at {clock:.4g} MHz, us", "exact clocks, {clock_from}"),
    "routed_latency_us": (
        "latency, us",
        "exact clocks, at the routed highest clock where that is below the target's {target_clock:g} MHz",
    ),
    "energy_nj": ("energy of one inference, nJ", "modelled, {label}"),
    "energy_low_nj": ("lower end of that energy, nJ", "modelled, {label}"),
    "energy_high_nj": ("upper end of that energy, nJ", "modelled, {label}"),
    "toggles": ("toggles of routed nets in one inference", "counted on the simulated netlist"),
    "simulated_energy_nj": ("energy of one inference, nJ", "from counted toggles, {label}"),
    "simulated_energy_low_nj": ("lower end of that energy, nJ", "from counted toggles, {label}"),
    "simulated_energy_high_nj": ("upper end of that energy, nJ", "from counted toggles, {label}"),
}


def _winner_page(winner: "Evaluation", rule: config.Winner, title: str, target: "Target") -> str:
    from scnas.hardware.cost import fmax_label

    a, network = winner.architecture, winner.network
    clock = winner.metrics.get("clock_mhz", target.clock_mhz)
    routed = "placed and routed" if "fmax_mhz" in winner.metrics else "packed"
    words = {
        "unit": target.lut_unit,
        "clock": clock,
        "clock_from": "the target's clock" if clock >= target.clock_mhz else "its modelled highest clock",
        "target_clock": target.clock_mhz,
        "label": target.energy_label,
        "fmax_label": fmax_label(target),
        "refitted": ", refitted to what this run routed" if "published_luts" in winner.metrics else "",
        "did": routed if target.family != "xilinx" else "synthesised only",
    }
    metrics = [
        f"| {text.format(**words)} | {_figure(name, winner.metrics[name])} | {source.format(**words)} |"
        for name, (text, source) in _MEANING.items()
        if name in winner.metrics
    ]
    layers = []
    for i, (layer, (n_in, n_out)) in enumerate(zip(network.layers, a.layer_sizes, strict=True)):
        neuron = layer.neuron if network.fires(i) else "sums only"
        mapping = f"folded, {layer.lanes} lanes" if layer.lanes else layer.mapping
        mapping += f" x {layer.units} units" if layer.units > 1 else ""
        cells = (i, n_in, n_out, neuron, layer.generator, layer.length, a.delay_ranges[i], layer.n_synapses)
        layers.append(f"| {' | '.join(map(str, (*cells, mapping)))} |")
    if network.encoder == "rate":
        x = f"float32 [B, {network.n_inputs}] in 0..1"
        time = f"T = {network.timesteps} steps, values coded as spike rates"
    else:
        x = f"uint8 [B, {network.timesteps}, {network.n_inputs}] of 0 and 1"
        time = f"T = {network.timesteps} steps, spikes as they come"
    newline = "\n"
    return f"""\
# Winner: {title} on {target.title}

A spiking network of stochastic numbers: {network.n_inputs} inputs, {network.n_classes} classes, {time},
{network.word} bits of membrane, readout `{network.readout}`. Picked from the front by a rule fixed before
the search: the smallest `{rule.smallest}` at most {100 * rule.within:g} percentage points below the best
validation accuracy.
`network.json` holds all of it; every spike can be recomputed from that file alone.

| figure | value | where it comes from |
|---|---:|---|
{newline.join(metrics)}

| layer | inputs | outputs | neuron | generator | L | D | synapses | mapping |
|---:|---:|---:|---|---|---:|---:|---:|---|
{newline.join(layers)}

L: clocks of a stochastic number. D: largest delay, steps. Synapses: non-zero weights.

## Load it

```python
import scnas
network = scnas.load_network("network.json")  # a torch.nn.Module that computes in integers
scores = network(x)                           # x: {x}
classes = scores.argmax(1)                    # of equal scores the lowest class
spikes = network.spikes(x)                    # per layer [B, T, n]
```

## Recompute its accuracy

From the folder of the run, where `settings.yaml` fixes the data and their splits:

```python
import torch, scnas
from scnas import config, tasks
task = tasks.load(config.read("settings.yaml").task)
network = scnas.load_network("winner/network.json")
for name, (x, y) in (("validation", task.validation), ("test", task.open_test())):
    print(name, (network(torch.from_numpy(x)).argmax(1).numpy() == y).mean())
```
"""


def _figure(name: str, value: float) -> str:
    if name in _COLUMNS:
        return _COLUMNS[name][1](value)
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.4g}"

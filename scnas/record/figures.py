"""The front as a picture."""

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from scnas.evaluation import Evaluation
from scnas.hardware.targets import Target
from scnas.metrics import four_digits

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def front_figure(
    front: Sequence[Evaluation],
    target: Target,
    title: str,
    others: Sequence[Evaluation] = (),
    winner: Evaluation | None = None,
) -> "Figure":
    """Validation accuracy against LUTs, coloured by energy.

    others: candidates behind the front, drawn faintly where they are trained and feasible.
    """
    # matplotlib takes most of a second to load; only where something is drawn
    from matplotlib.colors import LogNorm
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, PercentFormatter

    figure = Figure(figsize=(8, 5), dpi=110, layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(f"{title} on {target.title}", loc="left", fontweight="bold", parse_math=False)
    axes.set_xlabel(f"area, {target.lut_unit}s (modelled)")
    axes.set_ylabel("validation accuracy")
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=None))
    plain = FuncFormatter(lambda value, _: four_digits(value))
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
        ring: dict[str, Any] = {"facecolors": "none", "edgecolors": "crimson", "linewidths": 1.8}
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


def _points(evaluations: Sequence[Evaluation]) -> tuple[np.ndarray, np.ndarray]:
    luts = np.array([e.metrics["luts"] for e in evaluations], dtype=float)
    return luts, np.array([e.metrics["accuracy"] for e in evaluations], dtype=float)


def _pixels(figure: "Figure") -> np.ndarray:
    """[height, width, 3] uint8."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # as above

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3]


def png(figure: "Figure") -> bytes:
    """A PNG of the figure; same figure, same bytes."""
    buffer = io.BytesIO()
    # Without the date and the version of the program: same front, same bytes.
    figure.savefig(buffer, format="png", dpi=150, metadata={"Software": None})
    return buffer.getvalue()

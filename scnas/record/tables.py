"""The front as a table: on the terminal, as CSV, as Markdown."""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from scnas import metrics
from scnas.contract import Refused, one_of
from scnas.equiv.verdict import ORDER
from scnas.evaluation import Evaluation
from scnas.files import read_json
from scnas.hardware.targets import Target
from scnas.space import describe


def _cells(front: Sequence[Evaluation]) -> tuple[list[str], list[list[str]]]:
    """Headings and rows of the front as people read it."""
    shown = [row for row in metrics.shown() if any(row.name in e.metrics for e in front)]
    rows = [
        [row.form(e.metrics[row.name]) if row.name in e.metrics else "" for row in shown]
        + [describe(e.architecture)]
        for e in front
    ]
    return [row.title for row in shown] + ["architecture"], rows


def _markdown(front: Sequence[Evaluation]) -> str:
    if not front:
        return "Nothing fits yet."
    headings, rows = _cells(front)
    lines = [headings, ["---:"] * (len(headings) - 1) + ["---"], *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "/") for cell in line) + " |" for line in lines)


def _table(front: Sequence[Evaluation], winner: Evaluation, verdict: str) -> Table:
    """verdict: what the proofs of the winner said, "" without any."""
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
    folder: Path, front: Sequence[Evaluation], winner: Evaluation, target: Target, interrupted: bool
) -> None:
    """Print the front and where everything is; the latter alone where stdout is no terminal."""
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


def proof(folder: Path) -> tuple[str, int] | None:
    """The weakest status of the proofs of the winner and how many they are; None if nothing was proved.

    Raises ValueError if winner/verdict.json holds something else.
    """
    path = folder / "winner" / "verdict.json"
    if not path.exists():
        return None
    found: Any = read_json(path)
    try:
        return one_of("status", found["status"], ORDER), len(list(found["obligations"]))
    except (TypeError, KeyError, ValueError):
        raise Refused(f"{path}: its status must be one of {', '.join(ORDER)}") from None


def _csv(rows: Sequence[Mapping]) -> str:
    """One line per member: metrics, then genes; lists are joined by blanks."""
    figures = metrics.in_order(name for row in rows for name in row["metrics"])
    genes = list(rows[0]["architecture"]) if rows else []
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["winner", "verdict", "obligations", *figures, *genes, "network", "name"])
    for row in rows:
        values = [row["metrics"].get(name) for name in figures]
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


def _plain(figures: Mapping[str, object]) -> dict[str, object]:
    """Metrics as JSON knows them, in the order of their table; None for what is not finite."""
    plain: dict[str, object] = {}
    for name in metrics.in_order(figures):
        value = figures[name]
        value = value.item() if isinstance(value, np.generic) else value
        plain[name] = None if isinstance(value, float) and not math.isfinite(value) else value
    return plain

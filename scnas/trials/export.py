"""Every evaluation of a run as a table for other programs: job=export."""

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path

from scnas.files import write_whole
from scnas.genes import GENES
from scnas.space import Architecture
from scnas.trials.archive import Archive
from scnas.trials.database import NAME


def export(run_folder: Path) -> Iterator[str]:
    """Write evaluations.csv to the folder of a run, which may still be going; a line on what is in it."""
    with Archive(run_folder / NAME, read_only=True) as archive:
        path = run_folder / "evaluations.csv"
        write_whole(path, table(archive))
        yield f"{path}: {archive.count('evaluations')} evaluations"


def table(archive: Archive) -> str:
    """Every evaluation as CSV: where it came up, what came of it, its genes; lists are joined by blanks."""
    rows = archive.db.rows(
        "SELECT e.stage, e.generation, e.place, e.status, e.reason, e.violation, e.seed, e.budget,"
        " e.architecture, e.metrics, t.seconds, t.worker, t.network, g.lent_from"
        " FROM evaluations e LEFT JOIN trainings t ON t.key = e.key AND t.member = e.member"
        " LEFT JOIN groups g ON g.key = e.key ORDER BY e.stage DESC, e.generation, e.place"
    )
    with archive.evaluations_expected():
        return _csv(rows)


def _csv(rows: list[tuple]) -> str:
    metrics = list(dict.fromkeys(name for row in rows for name in json.loads(row[9])))
    genes = [gene.name for gene in GENES] if rows else []
    known = ("stage", "generation", "place", "status", "reason", "violation", "seed", "epochs")
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow([*known, *metrics, *genes, "seconds", "worker", "network", "lent_from"])
    for *plain, budget, architecture, figures, seconds, worker, network, lent_from in rows:
        found, gene = json.loads(figures), Architecture(**json.loads(architecture)).to_dict()
        cells = [found.get(name) for name in metrics]
        cells += [" ".join(map(str, v)) if isinstance(v, list) else v for v in (gene[g] for g in genes)]
        file = None if network is None else f"networks/{network}.json"
        epochs = json.loads(budget)["epochs"]
        row = [*plain, epochs, *cells, seconds, worker, file, lent_from]
        writer.writerow("" if v is None else v for v in row)
    return buffer.getvalue()

"""Sweeps: a folder that the same command finds again, a record of every job, a table at the end.

    <sweep>/sweep.json       the overrides that made it
    <sweep>/0/job.json ...   overrides, status, message and best accuracy of a job, written by whoever runs it

A job may run in another process or on another machine; its record is all that the command needs of it.
Imports nothing that takes seconds.
"""

import hashlib
import json
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from scnas.contract import Refused
from scnas.files import read_json, write_whole

FORMAT = "scnas-job/1"
# Status of a job -> what its share in the exit code is: 0 done, 1 a fault, 2 refused, 130 interrupted.
CODES = {"done": 0, "running": 1, "failed": 1, "refused": 2, "interrupted": 130}


@dataclass(frozen=True)
class Job:
    """The record of a job. number: in its sweep. status: of CODES; `running` in a sweep that has ended is
    a job whose process died. message: one line, "" if all went well. best_accuracy: of its front."""

    number: int
    overrides: tuple[str, ...]
    status: str
    message: str = ""
    best_accuracy: float | None = None
    pid: int = 0

    @property
    def name(self) -> str:
        return f"job {self.number} ({' '.join(self.overrides)})"

    def save(self, folder: Path) -> None:
        """Write folder/job.json."""
        write_whole(folder / "job.json", json.dumps({"format": FORMAT, **asdict(self)}, indent=1) + "\n")


def load(folder: Path) -> Job | None:
    """The record in `folder`, None if there is none; Refused, one line, if it is damaged."""
    path = folder / "job.json"
    if not path.exists():
        return None
    data = read_json(path)
    try:
        if not isinstance(data, dict) or data.pop("format") != FORMAT:
            raise ValueError
        job = Job(**data | {"overrides": tuple(data["overrides"])})
        texts = (job.status, job.message, *job.overrides)
        numbers = (job.number, job.pid, job.best_accuracy or 0.0)
        good = all(isinstance(t, str) for t in texts) and all(isinstance(n, int | float) for n in numbers)
        if not good or job.status not in CODES:
            raise ValueError
    except (AttributeError, KeyError, TypeError, ValueError):
        raise Refused(f"{path}: not the record of a job; remove it to run the job again") from None
    return job


def own(overrides: Sequence[str]) -> list[str]:
    """The overrides that make a sweep what it is: where and how it runs are Hydra's."""
    return [word for word in overrides if not re.match(r"[+~]*hydra[./]", word)]


def default_folder(overrides: Sequence[str]) -> str:
    """outputs/<experiment>/sweep_<hash>: the same command, the same folder."""
    words = own(overrides)
    named = [match[1] for word in words if (match := re.fullmatch(r"\+experiment=([\w-]+)", word))]
    digest = hashlib.sha256("\n".join(words).encode()).hexdigest()[:10]
    return f"outputs/{named[0] if named else 'default'}/sweep_{digest}"


def refuse_another(folder: Path, overrides: Sequence[str]) -> None:
    """Refused if `folder` holds the sweep of another command."""
    if not (folder / "sweep.json").exists():
        return
    data = read_json(folder / "sweep.json")
    before = data.get("overrides") if isinstance(data, dict) else None
    if before != own(overrides):
        there = " ".join(map(str, before))[:200] if isinstance(before, list) else "nothing that can be read"
        here = " ".join(own(overrides))
        raise Refused(f"hydra.sweep.dir={folder} holds another sweep: {there} there, {here} here")


def begin(folder: Path, overrides: Sequence[str]) -> None:
    """Write folder/sweep.json."""
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / "sweep.json", json.dumps({"overrides": own(overrides)}, indent=1) + "\n")


def jobs(folder: Path) -> list[tuple[Job, Path]]:
    """The records in a sweep's folder with theirs, by number."""
    found = [(load(path.parent), path.parent) for path in folder.rglob("job.json")]
    return sorted(((job, place) for job, place in found if job is not None), key=lambda pair: pair[0].number)


def table(rows: Sequence[tuple[Job, Path]]) -> Iterator[str]:
    """What became of the jobs of a sweep that has ended, a line each."""
    head = ("job", "status", "best accuracy", "folder", "overrides")
    cells = [head]
    for job, place in rows:
        status = "died" if job.status == "running" else job.status
        accuracy = "" if job.best_accuracy is None else f"{job.best_accuracy:.2%}"
        cells.append((str(job.number), status, accuracy, os.path.relpath(place), " ".join(job.overrides)))
    widths = [max(len(line[i]) for line in cells) for i in range(len(head))]
    for line in cells:
        yield "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()

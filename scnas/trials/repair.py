"""What can be read of a damaged archive, saved into a new one: job=repair."""

import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from scnas.trials.archive import Archive
from scnas.trials.database import NAME, ArchiveError, held

_MAGIC = b"SQLite format 3\0"  # what every SQLite file begins with, https://www.sqlite.org/fileformat2.html


def repair(place: Path) -> Iterator[str]:
    """Save every training group that can be read whole into a new archive; a line on what was saved.

    place: the folder of a run, or the file of an archive. The old file is kept under another name, and
    stays what it is where the new one cannot be made, or where nothing says that it was an archive: it must
    be named `*.sqlite` or begin as a database does.
    Evaluations are not saved: a run that is taken up again makes them anew from its trainings.
    """
    path = place / NAME if place.is_dir() else place
    if not path.is_file():
        raise ArchiveError(f"{path}: no such archive")
    with path.open("rb") as file:
        if path.suffix != ".sqlite" and file.read(len(_MAGIC)) != _MAGIC:
            raise ArchiveError(f"{path}: run must name a run or an archive (*.sqlite), and this is neither")
    with held(path.parent):
        new = path.with_name(f"{path.stem}.repaired{path.suffix}")
        try:
            _unlink(new)  # of a repair that was interrupted
            with Archive(new, anew=True) as archive:
                saved, known = _save(path, archive)
            number = 1
            while (old := path.with_name(f"{path.stem}.damaged-{number}{path.suffix}")).exists():
                number += 1
            for suffix in ("-shm", "-wal", ""):
                if (part := Path(f"{path}{suffix}")).exists():
                    part.rename(f"{old}{suffix}")
            new.rename(path)
        finally:
            _unlink(new)
    empty = "" if saved else ", the new one is empty"
    yield f"{path}: the old file is {old.name}{empty}; {saved} of {known} training groups are saved"


def _save(damaged: Path, archive: Archive) -> tuple[int, int]:
    """Take over into `archive` every group of another file that can be read whole, and its facts.

    Returns how many were saved, and how many keys could be read. ArchiveError for a file whose tables
    are no tables: what a view computes may never end.
    """
    with Archive(damaged, unchecked=True) as other:
        for kind, sql in other.db.readable("SELECT type, lower(sql) FROM sqlite_master"):
            if kind == "view" or re.search("view|virtual", str(sql)):
                raise ArchiveError(f"{damaged}: not an archive of scnas, its tables are others")
        keys = _keys(other)
        facts = dict(other.db.readable("SELECT name, value FROM about WHERE name <> 'finished'"))
        archive.agree({k: v for k, v in facts.items() if isinstance(v, str)})
        return sum(_copy(key, other, archive) for key in keys), len(keys)


def _keys(archive: Archive) -> list[str]:
    """The keys of all groups, as far as they can be read from either end."""
    both = [archive.db.readable(f"SELECT key FROM groups ORDER BY key {way}") for way in ("ASC", "DESC")]
    return sorted({key for rows in both for (key,) in rows if isinstance(key, str)})


def _copy(key: str, damaged: Archive, archive: Archive) -> bool:
    """Copy a group into an archive of the same folder, if it can be read whole; returns whether it was."""
    try:
        damaged.trainings(key)
        groups = damaged.db.rows("SELECT * FROM groups WHERE key = ?", (key,))
        rows = damaged.db.rows("SELECT * FROM trainings WHERE key = ? ORDER BY member", (key,))
    except (sqlite3.Error, ValueError):
        return False
    groups = [(*row, None)[:6] for row in groups]  # a group of version 1 was lent by nobody
    if any(len(row) != 6 for row in groups) or any(len(row) != 12 for row in rows):
        return False

    def once() -> bool:
        try:
            with archive.db.transaction() as db:
                db.executemany("INSERT INTO groups VALUES (?, ?, ?, ?, ?, ?)", groups)
                db.executemany(f"INSERT INTO trainings VALUES ({', '.join('?' * 12)})", rows)
        except sqlite3.IntegrityError:  # a NULL, which its own tables let through
            return False
        return True

    return archive.db.patiently(once)


def _unlink(path: Path) -> None:
    """Remove an archive and what SQLite keeps beside it."""
    for suffix in ("-shm", "-wal", ""):
        Path(f"{path}{suffix}").unlink(missing_ok=True)

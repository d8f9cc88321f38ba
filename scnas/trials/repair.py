"""What can be read of a damaged archive, saved into a new one: job=repair."""

from collections.abc import Iterator
from pathlib import Path

from scnas.trials.archive import NAME, Archive, ArchiveError, held

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
                saved, known = archive.save_from(path)
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


def _unlink(path: Path) -> None:
    """Remove an archive and what SQLite keeps beside it."""
    for suffix in ("-shm", "-wal", ""):
        Path(f"{path}{suffix}").unlink(missing_ok=True)

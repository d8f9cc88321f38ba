"""The SQLite file of an archive: opened, brought to the latest version, written by one process at a time.

Anyone may read while one process writes (write-ahead log). Who finds the file locked tries again for
PATIENCE_S seconds. Whatever SQLite raises comes out as an ArchiveError that says what to do, but for a
statement that is wrong.
"""

import contextlib
import fcntl
import os
import random
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import TypeVar

from scnas.contract import Refused, one_line
from scnas.files import MAX_TEXT_BYTES

NAME = "archive.sqlite"  # in the folder of a run
PATIENCE_S = 120.0  # how long a writer waits for the others
AGAIN = "what was finished is kept: make room or mend the disk, and start the same command again"

T = TypeVar("T")


class ArchiveError(Refused):
    """An archive that cannot be used; the message says why and what to do."""


@contextlib.contextmanager
def held(folder: Path) -> Iterator[None]:
    """`folder` held by this process alone; ArchiveError if another one works in it.

    The system lets go of it when the process ends, however it ends.
    """
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ArchiveError(f"{folder}: another process works in this folder") from None
        yield
    finally:
        os.close(handle)


class Database:
    """A connection to the file at `path`, which is made if there is none. close() ends it.

    migrations: SQL scripts, each from one version to the next; a new file goes through all of them.
    lost: whether a file without tables once had some, and is not to be begun anew. unchecked: to read what
    is left of a damaged file. Raises ArchiveError where the file is damaged, of a later version, or another
    program's.
    """

    def __init__(
        self,
        path: Path,
        migrations: tuple[str, ...],
        *,
        read_only: bool = False,
        unchecked: bool = False,
        lost: Callable[[], bool] = lambda: False,
    ):
        self.path, self._migrations, self._read_only, self._lost = path, migrations, read_only, lost
        if read_only and not path.is_file():
            raise ArchiveError(f"{path}: no such archive")
        self._db = self.patiently(self._connected)
        try:
            if not unchecked:
                self.patiently(self._check)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let go of the file. Twice is fine."""
        self._db.close()

    @property
    def version(self) -> int:
        """How many migrations the file has been through."""
        return self._db.execute("PRAGMA user_version").fetchone()[0]

    @property
    def repair(self) -> str:
        """The command that saves what can be read of this file."""
        where = self.path.parent if self.path.name == NAME else self.path
        return f"python -m scnas job=repair run={where}"

    # -- reading and writing

    def rows(self, query: str, values: Sequence[object] = ()) -> list[tuple]:
        """All rows that a statement gives."""
        return self.patiently(lambda: self._db.execute(query, values).fetchall())

    def readable(self, query: str) -> list[tuple]:
        """The rows of a damaged file up to the first that cannot be read."""
        found = []
        with contextlib.suppress(sqlite3.DatabaseError):
            for row in self._db.execute(query):
                found.append(row)
        return found

    def write(self, work: Callable[[sqlite3.Connection], object]) -> None:
        """Do `work` in one transaction, as often as other writers make it necessary."""

        def once() -> None:
            with self.transaction() as db:
                work(db)

        self.patiently(once)

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """A transaction that holds the right to write from its start, so that no other writer can make it
        fail half-way."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield self._db
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise

    def patiently(self, work: Callable[[], T]) -> T:
        """What `work` returns; it is called again while others lock the file.

        Instead of SQLite's own waiting (busy_timeout), which is skipped where two connections turn a new
        file to WAL.
        """
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                return work()
            except sqlite3.OperationalError as error:
                code = getattr(error, "sqlite_errorcode", 0) & 0xFF
                if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                    if time.monotonic() < deadline:
                        time.sleep(random.uniform(0.002, 0.02))
                        continue
                    raise ArchiveError(
                        f"{self.path}: other processes have kept it locked for {PATIENCE_S:g} s; end "
                        "them, or wait, and start the same command again"
                    ) from None
                if code == sqlite3.SQLITE_ERROR:  # a statement that is wrong, not a file
                    raise
                raise ArchiveError(f"{self.path}: {error}; {AGAIN}") from None
            except sqlite3.DatabaseError as error:
                raise self.damaged(str(error)) from None

    def damaged(self, how: str) -> ArchiveError:
        """The error that says so, and what to do."""
        return ArchiveError(
            f"{self.path} is damaged ({one_line(how)}); put back a copy, or save what can be read with "
            f"`{self.repair}`; the run then trains again what is lost"
        )

    # -- opening

    def _connected(self) -> sqlite3.Connection:
        if not self._read_only:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        uri = f"{self.path.absolute().as_uri()}?mode={'ro' if self._read_only else 'rwc'}"
        db = sqlite3.connect(uri, uri=True, timeout=0, isolation_level=None)  # see patiently()
        try:
            db.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_TEXT_BYTES)
            db.execute("PRAGMA trusted_schema = OFF")
            db.execute("PRAGMA cell_size_check = ON")
        except BaseException:
            db.close()
            raise
        return db

    def _check(self) -> None:
        """Bring the file up, and refuse one that is damaged or has other tables."""
        if not self._read_only:
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")
            self._migrate()
        elif self.version != len(self._migrations):
            raise ArchiveError(f"{self.path}: {self._of_version()}")
        (told,) = self._db.execute("PRAGMA quick_check(1)").fetchone()
        if told != "ok":
            raise self.damaged(told)
        if _tables(self._db) != _expected_tables(self._migrations):
            raise ArchiveError(f"{self.path}: not an archive of scnas, its tables are others")

    def _migrate(self) -> None:
        """Bring the file to the latest version, one step at a time, all in one transaction."""
        latest = len(self._migrations)
        if self.version == latest:
            return
        with self.transaction() as db:
            before = self.version  # another process may have been faster
            if before > latest:
                raise ArchiveError(f"{self.path}: {self._of_version()}; use a later scnas")
            if before == 0 and _tables(db):
                raise ArchiveError(f"{self.path}: a database, but not an archive of scnas")
            if before == 0 and self._lost():
                raise self.damaged("it is empty, while networks lie beside it")
            for step in self._migrations[before:]:
                for statement in filter(str.strip, step.split(";")):
                    db.execute(statement)
            db.execute(f"PRAGMA user_version = {latest}")

    def _of_version(self) -> str:
        return f"an archive of version {self.version}, this scnas reads version {len(self._migrations)}"


def _tables(db: sqlite3.Connection) -> list[tuple]:
    """Every table, index, view and trigger of a file, with the SQL that made it."""
    return db.execute(
        "SELECT type, name, tbl_name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite%'"
        " ORDER BY type, name"
    ).fetchall()


@cache
def _expected_tables(migrations: tuple[str, ...]) -> list[tuple]:
    with contextlib.closing(sqlite3.connect(":memory:")) as db:
        for step in migrations:
            db.executescript(step)
        return _tables(db)

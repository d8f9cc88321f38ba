"""Every training and every evaluation of a search, in one SQLite file; what resume and reports read.

A training group is the unit: it is here whole, or it is trained again whole. Its rows are written in one
transaction, after the networks, which lie in `networks/` beside the file, each under the SHA-256 of its
content. Anyone may read while a search writes (WAL), and several searches may write to one archive.
Nothing in an archive is ever executed: it holds numbers, words and JSON, and its networks are JSON.
"""

import contextlib
import csv
import fcntl
import hashlib
import io
import json
import math
import os
import random
import re
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from scnas import plugins, resources
from scnas.contract import Refused, one_line, short
from scnas.files import MAX_JSON_BYTES, MAX_TEXT_BYTES, read_bytes, write_whole
from scnas.snn.budget import Budget
from scnas.snn.network import Network
from scnas.snn.training import Trained
from scnas.space import Architecture
from scnas.tasks import Task

if TYPE_CHECKING:
    from scnas.evaluation import Evaluation, Generation

NAME = "archive.sqlite"  # in the folder of a run
PATIENCE_S = 120.0  # how long a writer waits for the others

# What leads from each version to the next; a new file goes through all of them.
MIGRATIONS = (
    """
    CREATE TABLE about (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE groups (
        key TEXT PRIMARY KEY, seed INTEGER NOT NULL, budget TEXT NOT NULL, size INTEGER NOT NULL,
        digest TEXT NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE trainings (
        key TEXT NOT NULL REFERENCES groups, member INTEGER NOT NULL, architecture TEXT NOT NULL,
        train_loss REAL, train_accuracy REAL, validation_loss REAL, validation_accuracy REAL,
        activity TEXT NOT NULL, failed TEXT, network TEXT, seconds REAL NOT NULL, worker TEXT NOT NULL,
        PRIMARY KEY (key, member)
    ) WITHOUT ROWID;
    CREATE INDEX trainings_by_architecture ON trainings (architecture);
    CREATE TABLE evaluations (
        stage TEXT NOT NULL, generation INTEGER NOT NULL, place INTEGER NOT NULL,
        architecture TEXT NOT NULL, seed INTEGER NOT NULL, budget TEXT NOT NULL,
        status TEXT NOT NULL, reason TEXT, violation REAL NOT NULL, metrics TEXT NOT NULL,
        key TEXT, member INTEGER,
        PRIMARY KEY (stage, generation, place)
    ) WITHOUT ROWID;
    CREATE TABLE generations (number INTEGER PRIMARY KEY, hypervolume REAL NOT NULL);
    """,
    "ALTER TABLE groups ADD COLUMN lent_from TEXT;",  # the shared archive that a group was taken from
)
VERSION = len(MIGRATIONS)

T = TypeVar("T")


class ArchiveError(Refused):
    """An archive that cannot be used; the message says why and what to do."""


# -- what a training depends on -----------------------------------------------------------------------


def fingerprint(task: Task) -> str:
    """SHA-256 of what a training sees of a task: its kind, and its training and validation data."""
    digest = hashlib.sha256(repr((task.encoder, task.n_inputs, task.n_classes, task.timesteps)).encode())
    for x, y in (task.train, task.validation):
        for array in (x, y):
            digest.update(repr((array.shape, array.dtype.str)).encode())
            digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def training_code() -> dict[str, str]:
    """What decides the floats of a training besides its inputs: our code, the packages under it, plugins."""
    return _own_code() | plugins.code()


@cache
def _own_code() -> dict[str, str]:
    digest = hashlib.sha256()
    root = resources.package()
    deciding = [root / name for name in ("randomness.py", "space.py", "contract.py")]
    for path in sorted([*(root / "snn").rglob("*.py"), *deciding]):
        digest.update(f"{path.relative_to(root).as_posix()}\n".encode() + path.read_bytes())
    return {"scnas.snn": digest.hexdigest()[:16]} | {p: version(p) for p in ("torch", "numpy", "numba")}


def _json(value: object) -> str:
    """JSON in which floats come back as they were."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False, default=_plain)


def _plain(value: object) -> object:
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} does not go into an archive")


def _real(value: float | None) -> float | None:
    """A float for a REAL column, where NaN is NULL; and back."""
    return None if value is None or math.isnan(value) else float(value)


def _check_sound(t: Trained) -> None:
    """ValueError unless this can be what came of a training: whoever wrote the file may have made it up."""
    figures = {name: getattr(t, name) for name in Trained._fields[2:6]}
    for name, value in (figures | {"seconds": t.seconds}).items():
        if not isinstance(value, float):
            raise Refused(f"{name} must be a number, got {short(value)}")
    if not 0 <= t.seconds < math.inf:
        raise Refused(f"seconds must be finite and not negative, got {t.seconds:g}")
    if t.failed is not None:
        if not isinstance(t.failed, str) or t.network is not None:
            raise Refused("a training that failed must say why, and has no network")
        return
    if t.network is None:
        raise Refused("a training that did not fail must have a network")
    a, n = t.architecture, t.network
    wanted = (a.n_inputs, a.timesteps, a.fraction, a.word, a.readout, a.layer_widths)
    got = (n.n_inputs, n.timesteps, n.fraction, n.word, n.readout, tuple(layer.n_out for layer in n.layers))
    if got != wanted:
        raise Refused(f"the network must be of its architecture {wanted}, got {got}")
    for name, value in figures.items():
        high = 1.0 if name.endswith("accuracy") else math.inf
        if not math.isfinite(value) or not (high == math.inf or 0 <= value <= high):
            raise Refused(f"{name} must be finite, an accuracy from 0 to 1, got {value:g}")
    sizes = [n_in for n_in, _ in a.layer_sizes]
    least = all(0 <= rate <= 1.000001 * size for rate, size in zip(t.activity, sizes, strict=False))
    if len(t.activity) != len(sizes) or not least:
        raise Refused(f"activity must be one number from 0 to n_in a layer, got {short(t.activity)}")


def _digest(rows: Sequence[tuple]) -> str:
    """SHA-256 of the trainings of a group: SQLite notices a torn page, and not a changed digit."""
    return hashlib.sha256(repr([tuple(row) for row in rows]).encode()).hexdigest()


# -- the archive ----------------------------------------------------------------------------------------


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


class Archive:
    """The archive in file `path`, made if there is none. A context manager.

    task: the fingerprint() of the data that find() and store() are about. unchecked: to save what can be
    read of a damaged one. anew: networks that lie there are no sign of an archive that was lost.
    Raises ArchiveError when the file is damaged, of a later version, or not an archive; and from every
    method when it breaks.
    """

    def __init__(
        self,
        path: str | Path,
        task: str = "",
        *,
        read_only: bool = False,
        unchecked: bool = False,
        anew: bool = False,
    ):
        self.path, self.task, self._anew = Path(path), task, anew
        self.networks = self.path.parent / "networks"
        if read_only and not self.path.is_file():
            raise ArchiveError(f"{self.path}: no such archive")
        self._db: sqlite3.Connection | None = None
        try:
            self._patiently(lambda: self._open(read_only))
            if not unchecked:
                self._patiently(lambda: self._check(read_only))
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> "Archive":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file. Twice is fine."""
        if self._db is not None:
            self._db.close()
            self._db = None

    # -- trainings

    def find(self, group: Sequence[Architecture], seed: int, budget: Budget) -> list[Trained] | None:
        """The trainings of a group in its order, or None if it is not here.

        Raises ArchiveError if it is here and one of its networks is missing or damaged.
        """
        return self._trainings(self._key(group, seed, budget), group)

    def _trainings(self, key: str, group: Sequence[Architecture] | None = None) -> list[Trained] | None:
        """What is kept under `key`, checked; the architectures are those of `group` where it is given."""
        known = self._all("SELECT size, digest FROM groups WHERE key = ?", (key,))
        if not known:
            return None
        ((size, digest),) = known
        rows = self._all("SELECT * FROM trainings WHERE key = ? ORDER BY member", (key,))
        if len(rows) != size or _digest(rows) != digest or (group is not None and len(group) != size):
            raise self._damaged(f"the group {key[:16]} is not what was written")
        found = []
        for i, (_, _, architecture, *figures, activity, failed, network, seconds, _) in enumerate(rows):
            figures = [math.nan if value is None else value for value in figures]
            loaded = None if network is None else self.network(network)
            try:
                a = Architecture(**json.loads(architecture)) if group is None else group[i]
                trained = Trained(
                    a, loaded, *figures, tuple(map(float, json.loads(activity))), failed, seconds
                )
                _check_sound(trained)
            except (ValueError, TypeError, ArithmeticError, RecursionError) as error:
                raise self._damaged(f"the group {key[:16]}: {error}") from None
            found.append(trained)
        return found

    def store(
        self,
        group: Sequence[Architecture],
        seed: int,
        budget: Budget,
        trained: Sequence[Trained],
        workers: Sequence[str],
        lent_from: str | None = None,
    ) -> None:
        """Keep a whole group: its networks first, then all its rows at once. What is here already stays."""
        key = self._key(group, seed, budget)
        rows = []
        for i, (t, worker) in enumerate(zip(trained, workers, strict=True)):
            network = None if t.network is None else self._put(t.network)
            figures = (t.train_loss, t.train_accuracy, t.validation_loss, t.validation_accuracy)
            rows.append(
                (key, i, _json(t.architecture.to_dict()), *map(_real, figures), _json(t.activity), t.failed,
                 network, t.seconds, worker)
            )  # fmt: skip

        def write(db: sqlite3.Connection) -> None:
            new = db.execute(
                "INSERT OR IGNORE INTO groups (key, seed, budget, size, digest, lent_from)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                (key, seed, _json(asdict(budget)), len(group), _digest(rows), lent_from),
            )
            if new.rowcount:
                db.executemany(f"INSERT INTO trainings VALUES ({', '.join('?' * 12)})", rows)

        _sync(self.networks)  # the files before the rows that name them
        self._write(write)

    def network(self, content: str) -> Network:
        """The network whose JSON has the SHA-256 `content`; ArchiveError if it is missing or damaged."""
        if not isinstance(content, str) or not re.fullmatch("[0-9a-f]{64}", content):
            raise self._damaged(f"{short(content)} is not the name of a network")
        path = self.networks / f"{content}.json"
        what_to_do = (
            f"put it back from a copy, or forget its trainings with `{self._repair}`; the run then trains "
            "them again"
        )
        try:
            data = read_bytes(path, MAX_JSON_BYTES)
        except ValueError as error:
            raise ArchiveError(f"{error}; {what_to_do}") from None
        if hashlib.sha256(data).hexdigest() != content:
            raise ArchiveError(f"{path}: its content is not what was written; {what_to_do}")
        return Network.load(path)

    def _put(self, network: Network) -> str:
        data = (json.dumps(network.to_dict(), separators=(",", ":")) + "\n").encode()
        content = hashlib.sha256(data).hexdigest()
        path = self.networks / f"{content}.json"
        try:
            if path.read_bytes() == data:
                return content
        except OSError:
            pass
        try:
            self.networks.mkdir(parents=True, exist_ok=True)
            write_whole(path, data)
        except OSError as error:
            raise ArchiveError(f"{path}: {error.strerror}; {_AGAIN}") from None
        return content

    def _key(self, group: Sequence[Architecture], seed: int, budget: Budget) -> str:
        """What names a group: everything its trainings depend on, but for the kind of device. A network has
        the accuracy it was found to have wherever it was trained."""
        what = {
            "task": self.task, "code": training_code(), "seed": seed, "budget": asdict(budget),
            "members": [a.training_key.to_dict() for a in group],
        }  # fmt: skip
        return hashlib.sha256(_json(what).encode()).hexdigest()

    # -- evaluations

    def keep(
        self,
        stage: str,
        number: int,
        evaluations: Sequence["Evaluation"],
        seeds: Sequence[int],
        budget: Budget,
    ) -> None:
        """Keep evaluations, one seed each, under their stage (`search` or `final`) and generation.

        What is here under the same stage and number has to be the same: a run that is taken up again
        repeats itself. Raises ArchiveError otherwise.
        """
        spent = _json(asdict(budget))
        rows = []
        for place, (e, seed) in enumerate(zip(evaluations, seeds, strict=True)):
            trained = _json(e.architecture.training_key.to_dict())
            (home,) = self._all(
                "SELECT min(t.key), t.member FROM trainings t JOIN groups g USING (key)"
                " WHERE t.architecture = ? AND g.seed = ? AND g.budget = ?",
                (trained, seed, spent),
            )
            if not (e.trained or e.failed):
                home = (None, None)
            status = "trained" if e.trained else "failed" if e.failed else "not trained"
            genes, metrics = _json(e.architecture.to_dict()), _json(_finite(e.metrics))
            row = (stage, number, place, genes, seed, spent, status, e.failed, float(e.violation), metrics)
            rows.append((*row, *home))
        self._repeat(
            "evaluations", "stage = ? AND generation = ?", (stage, number), "stage, generation, place", rows
        )

    def generation(self, g: "Generation", seed: int, budget: Budget) -> None:
        """Keep what is new in a generation of the search, and its hypervolume."""
        self.keep("search", g.number, g.evaluated, [seed] * len(g.evaluated), budget)
        self._repeat("generations", "number = ?", (g.number,), "number", [(g.number, float(g.hypervolume))])
        self._all("PRAGMA wal_checkpoint")  # from the log into the file, as far as nobody reads there

    def evaluations(self, stage: str = "search") -> list["Evaluation"]:
        """The evaluations of a stage in their order, without networks."""
        from scnas.evaluation import Evaluation

        rows = self._all(
            "SELECT architecture, metrics, violation, status, reason FROM evaluations WHERE stage = ?"
            " ORDER BY generation, place",
            (stage,),
        )
        with self._understood():
            return [
                Evaluation(
                    Architecture(**json.loads(genes)),
                    {k: math.inf if v is None else v + 0 for k, v in json.loads(metrics).items()},
                    float(violation), status == "trained", reason,
                )
                for genes, metrics, violation, status, reason in rows
            ]  # fmt: skip

    @contextlib.contextmanager
    def _understood(self) -> Iterator[None]:
        """What somebody else wrote into a row may be anything: an ArchiveError where it is no evaluation."""
        try:
            yield
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise self._damaged(f"an evaluation: {type(error).__name__}: {error}") from None

    def hypervolumes(self) -> list[tuple[int, float]]:
        """Number and hypervolume of every generation."""
        return self._all("SELECT number, hypervolume FROM generations ORDER BY number")

    def _repeat(self, table: str, where: str, values: tuple, order: str, rows: list[tuple]) -> None:
        """Write `rows` where nothing is yet; where something is, it has to be these rows."""
        marks = ", ".join("?" * len(rows[0])) if rows else ""

        def write(db: sqlite3.Connection) -> None:
            there = db.execute(f"SELECT * FROM {table} WHERE {where} ORDER BY {order}", values).fetchall()
            if not there and rows:
                db.executemany(f"INSERT INTO {table} VALUES ({marks})", rows)
            elif there != rows:
                first = next((i for i, (a, b) in enumerate(zip(there, rows, strict=False)) if a != b), None)
                place = "their number" if first is None else f"place {first}"
                raise ArchiveError(
                    f"{self.path}: the search does not repeat what is kept ({table} {values}, {place}); it "
                    "was begun by another version of scnas or on a machine that computes otherwise, or the "
                    f"file is damaged: go on there, begin in another folder, or `{self._repair}`"
                )

        self._write(write)

    # -- facts about the run

    def agree(self, facts: Mapping[str, str]) -> None:
        """Keep facts that a run depends on; ArchiveError naming the first that was another before."""

        def write(db: sqlite3.Connection) -> None:
            before = dict(db.execute("SELECT name, value FROM about"))
            for name, value in facts.items():
                if before.setdefault(name, value) != value:
                    there = one_line(str(before[name]), 80)
                    raise ArchiveError(
                        f"{self.path.parent} holds a run that depends on other things: {name} was "
                        f"{there} there, is {value} here, and what follows would not be the same; go "
                        "on with what it was (versions.json), or begin in another folder"
                    )
            db.executemany("INSERT OR IGNORE INTO about VALUES (?, ?)", facts.items())

        self._write(write)

    def mark(self, name: str, value: str) -> None:
        """Keep a fact, whatever was there before."""
        self._write(lambda db: db.execute("INSERT OR REPLACE INTO about VALUES (?, ?)", (name, value)))

    def fact(self, name: str) -> str | None:
        """A fact, or None."""
        rows = self._all("SELECT value FROM about WHERE name = ?", (name,))
        return rows[0][0] if rows else None

    def count(self, table: str = "groups") -> int:
        """How many rows there are of `groups`, `trainings` or `evaluations`."""
        assert table in ("groups", "trainings", "evaluations")
        return self._all(f"SELECT count(*) FROM {table}")[0][0]

    def save_from(self, damaged: Path) -> tuple[int, int]:
        """Take over every group of another file that can be read whole, and its facts.

        Returns how many were saved, and how many keys could be read. ArchiveError for a file whose tables
        are no tables: what a view computes may never end.
        """
        with Archive(damaged, unchecked=True) as other:
            for kind, sql in other._readable("SELECT type, lower(sql) FROM sqlite_master"):
                if kind == "view" or re.search("view|virtual", str(sql)):
                    raise ArchiveError(f"{damaged}: not an archive of scnas, its tables are others")
            keys = other._keys()
            facts = dict(other._readable("SELECT name, value FROM about WHERE name <> 'finished'"))
            self.agree({k: v for k, v in facts.items() if isinstance(v, str)})
            return sum(self._take(other, key) for key in keys), len(keys)

    def _keys(self) -> list[str]:
        """The keys of all groups, as far as they can be read from either end."""
        both = [self._readable(f"SELECT key FROM groups ORDER BY key {way}") for way in ("ASC", "DESC")]
        return sorted({key for rows in both for (key,) in rows if isinstance(key, str)})

    def _readable(self, query: str) -> list[tuple]:
        """The rows of a damaged file up to the first that cannot be read."""
        found = []
        with contextlib.suppress(sqlite3.DatabaseError):
            for row in self._db.execute(query):
                found.append(row)
        return found

    def _take(self, other: "Archive", key: str) -> bool:
        """Copy a group from another archive of the same folder, if it is whole there."""
        try:
            other._trainings(key)
            groups = other._all("SELECT * FROM groups WHERE key = ?", (key,))
            rows = other._all("SELECT * FROM trainings WHERE key = ? ORDER BY member", (key,))
        except (ArchiveError, sqlite3.Error, ValueError):
            return False
        groups = [(*row, None)[:6] for row in groups]  # a group of version 1 was lent by nobody
        if any(len(row) != 6 for row in groups) or any(len(row) != 12 for row in rows):
            return False

        def once() -> bool:
            try:
                with self._transaction() as db:
                    db.executemany("INSERT INTO groups VALUES (?, ?, ?, ?, ?, ?)", groups)
                    db.executemany(f"INSERT INTO trainings VALUES ({', '.join('?' * 12)})", rows)
            except sqlite3.IntegrityError:  # a NULL, which its own tables let through
                return False
            return True

        return self._patiently(once)

    # -- for other tools

    def table(self) -> str:
        """Every evaluation as CSV: what it was, what came of it, its genes; lists are joined by blanks."""
        rows = self._all(
            "SELECT e.stage, e.generation, e.place, e.status, e.reason, e.violation, e.seed, e.budget,"
            " e.architecture, e.metrics, t.seconds, t.worker, t.network, g.lent_from"
            " FROM evaluations e LEFT JOIN trainings t ON t.key = e.key AND t.member = e.member"
            " LEFT JOIN groups g ON g.key = e.key ORDER BY e.stage DESC, e.generation, e.place"
        )
        with self._understood():
            return _csv(rows)

    # -- SQLite

    def _open(self, read_only: bool) -> None:
        self.close()
        if not read_only:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        uri = f"{self.path.absolute().as_uri()}?mode={'ro' if read_only else 'rwc'}"
        self._db = sqlite3.connect(uri, uri=True, timeout=0, isolation_level=None)  # see _patiently
        self._db.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_TEXT_BYTES)
        self._db.execute("PRAGMA trusted_schema = OFF")
        self._db.execute("PRAGMA cell_size_check = ON")

    def _check(self, read_only: bool) -> None:
        if not read_only:
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")
            self._migrate()
        elif self._version() != VERSION:
            raise ArchiveError(f"{self.path}: {self._of_version()}")
        (told,) = self._db.execute("PRAGMA quick_check(1)").fetchone()
        if told != "ok":
            raise self._damaged(told)
        if self._schema(self._db) != _expected_schema():
            raise ArchiveError(f"{self.path}: not an archive of scnas, its tables are others")

    def _version(self) -> int:
        return self._db.execute("PRAGMA user_version").fetchone()[0]

    def _of_version(self) -> str:
        return f"an archive of version {self._version()}, this scnas reads version {VERSION}"

    def _migrate(self) -> None:
        """Bring the file to VERSION, one step at a time, all in one transaction."""
        if self._version() == VERSION:
            return
        with self._transaction():
            before = self._version()  # another process may have been faster
            if before > VERSION:
                raise ArchiveError(f"{self.path}: {self._of_version()}; use a later scnas")
            if before == 0 and self._schema(self._db):
                raise ArchiveError(f"{self.path}: a database, but not an archive of scnas")
            # Beside the archive of a run lie its networks alone, so this one was not always empty.
            if (
                before == 0
                and self.path.name == NAME
                and not self._anew
                and any(self.networks.glob("*.json"))
            ):
                raise self._damaged("it is empty, while networks lie beside it")
            for step in MIGRATIONS[before:]:
                for statement in filter(str.strip, step.split(";")):
                    self._db.execute(statement)
            self._db.execute(f"PRAGMA user_version = {VERSION}")

    @staticmethod
    def _schema(db: sqlite3.Connection) -> list[tuple]:
        return db.execute(
            "SELECT type, name, tbl_name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite%'"
            " ORDER BY type, name"
        ).fetchall()

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """A transaction that holds the right to write from its start, so that it cannot fail half-way for
        another writer's sake."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield self._db
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise

    def _write(self, work: Callable[[sqlite3.Connection], object]) -> None:
        def once() -> None:
            with self._transaction() as db:
                work(db)

        self._patiently(once)

    def _all(self, query: str, values: tuple = ()) -> list[tuple]:
        return self._patiently(lambda: self._db.execute(query, values).fetchall())

    def _patiently(self, work: Callable[[], T]) -> T:
        """`work`, again while the file is locked by others; other errors of SQLite as an ArchiveError.

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
                raise ArchiveError(f"{self.path}: {error}; {_AGAIN}") from None
            except sqlite3.DatabaseError as error:
                raise self._damaged(str(error)) from None

    def _damaged(self, how: str) -> ArchiveError:
        how = one_line(how)
        return ArchiveError(
            f"{self.path} is damaged ({how}); put back a copy, or save what can be read with "
            f"`{self._repair}`; the run then trains again what is lost"
        )

    @property
    def _repair(self) -> str:
        where = self.path.parent if self.path.name == NAME else self.path
        return f"python -m scnas job=repair run={where}"


def _sync(folder: Path) -> None:
    """Have the names of files in `folder` on the disk, as write_whole() has their content."""
    if not folder.is_dir():
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


_AGAIN = "what was finished is kept: make room or mend the disk, and start the same command again"


def _finite(metrics: Mapping[str, object]) -> dict[str, object]:
    """Metrics as JSON knows them; None for what is not finite."""
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in metrics.items()}


@cache
def _expected_schema() -> list[tuple]:
    db = sqlite3.connect(":memory:")
    for step in MIGRATIONS:
        db.executescript(step)
    found = Archive._schema(db)
    db.close()
    return found


def _csv(rows: list[tuple]) -> str:
    metrics = list(dict.fromkeys(name for row in rows for name in json.loads(row[9])))
    genes = list(json.loads(rows[0][8])) if rows else []
    known = ("stage", "generation", "place", "status", "reason", "violation", "seed", "epochs")
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow([*known, *metrics, *genes, "seconds", "worker", "network", "lent_from"])
    for *plain, budget, architecture, figures, seconds, worker, network, lent_from in rows:
        found, gene = json.loads(figures), json.loads(architecture)
        cells = [found.get(name) for name in metrics]
        cells += [" ".join(map(str, v)) if isinstance(v, list) else v for v in (gene[g] for g in genes)]
        file = None if network is None else f"networks/{network}.json"
        epochs = json.loads(budget)["epochs"]
        row = [*plain, epochs, *cells, seconds, worker, file, lent_from]
        writer.writerow("" if v is None else v for v in row)
    return buffer.getvalue()


# -- jobs -----------------------------------------------------------------------------------------------


def export(run_folder: Path) -> Iterator[str]:
    """Write evaluations.csv to the folder of a run, which may still be going; a line on what is in it."""
    with Archive(run_folder / NAME, read_only=True) as archive:
        path = run_folder / "evaluations.csv"
        write_whole(path, archive.table())
        yield f"{path}: {archive.count('evaluations')} evaluations"


def searched(run_folder: Path) -> list["Evaluation"]:
    """Every evaluation of the search in a run folder; none where the folder has no archive."""
    if not (run_folder / NAME).exists():
        return []
    with Archive(run_folder / NAME, read_only=True) as archive:
        return archive.evaluations()

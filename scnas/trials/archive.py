"""Every training and every evaluation of a search, in one SQLite file; what resume and reports read.

A training group is the unit: it is here whole, or it is trained again whole. Its rows are written in one
transaction, after the networks, which lie in `networks/` beside the file, each under the SHA-256 of its
content. Anyone may read while a search writes, and several searches may write to one archive (database.py).
Nothing in an archive is ever executed: it holds numbers, words and JSON, and its networks are JSON.
"""

import contextlib
import hashlib
import json
import math
import os
import re
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from scnas.contract import Refused, one_line, short
from scnas.evaluation import Evaluation, Generation
from scnas.files import MAX_JSON_BYTES, read_bytes, write_whole
from scnas.snn.budget import Budget
from scnas.snn.network import Network
from scnas.snn.training import Trained
from scnas.space import Architecture
from scnas.trials.database import AGAIN, NAME, ArchiveError, Database
from scnas.trials.keys import exact_json, key_of

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


class Archive:
    """The archive in file `path`, made if there is none. A context manager.

    task: the keys.fingerprint() of the data that find() and store() are about. unchecked: to save what can be
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
        self.path, self.task = Path(path), task
        self.networks = self.path.parent / "networks"

        def lost() -> bool:
            # Beside the archive of a run lie its networks alone, so this one was not always empty.
            return self.path.name == NAME and not anew and any(self.networks.glob("*.json"))

        self.db = Database(self.path, MIGRATIONS, read_only=read_only, unchecked=unchecked, lost=lost)

    def __enter__(self) -> "Archive":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file. Twice is fine."""
        self.db.close()

    # -- trainings

    def find(self, group: Sequence[Architecture], seed: int, budget: Budget) -> list[Trained] | None:
        """The trainings of a group in its order, or None if it is not here.

        Raises ArchiveError if it is here and one of its networks is missing or damaged.
        """
        return self.trainings(key_of(group, seed, budget, self.task), group)

    def trainings(self, key: str, group: Sequence[Architecture] | None = None) -> list[Trained] | None:
        """The trainings of the group that is kept under `key`, checked, or None if it is not here.

        group: its architectures, where they are known; otherwise they are read from the archive.
        """
        known = self.db.rows("SELECT size, digest FROM groups WHERE key = ?", (key,))
        if not known:
            return None
        ((size, digest),) = known
        rows = self.db.rows("SELECT * FROM trainings WHERE key = ? ORDER BY member", (key,))
        if len(rows) != size or _digest(rows) != digest or (group is not None and len(group) != size):
            raise self.db.damaged(f"the group {key[:16]} is not what was written")
        found = []
        for i, (_, _, architecture, *figures, activity, failed, network, seconds, _) in enumerate(rows):
            train_loss, train_accuracy, loss, accuracy = (math.nan if f is None else f for f in figures)
            loaded = None if network is None else self.network(network)
            try:
                a = Architecture(**json.loads(architecture)) if group is None else group[i]
                spikes = tuple(map(float, json.loads(activity)))
                trained = Trained(
                    a, loaded, train_loss, train_accuracy, loss, accuracy, spikes, failed, seconds
                )
                _check_sound(trained)
            except (ValueError, TypeError, ArithmeticError, RecursionError) as error:
                raise self.db.damaged(f"the group {key[:16]}: {error}") from None
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
        key = key_of(group, seed, budget, self.task)
        rows = []
        for i, (t, worker) in enumerate(zip(trained, workers, strict=True)):
            network = None if t.network is None else self._put(t.network)
            figures = (t.train_loss, t.train_accuracy, t.validation_loss, t.validation_accuracy)
            genes, activity = exact_json(t.architecture.to_dict()), exact_json(t.activity)
            rows.append((key, i, genes, *map(_real, figures), activity, t.failed, network, t.seconds, worker))

        def write(db: sqlite3.Connection) -> None:
            new = db.execute(
                "INSERT OR IGNORE INTO groups (key, seed, budget, size, digest, lent_from)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                (key, seed, exact_json(asdict(budget)), len(group), _digest(rows), lent_from),
            )
            if new.rowcount:
                db.executemany(f"INSERT INTO trainings VALUES ({', '.join('?' * 12)})", rows)

        _sync(self.networks)  # the files before the rows that name them
        self.db.write(write)

    def network(self, content: str) -> Network:
        """The network whose JSON has the SHA-256 `content`; ArchiveError if it is missing or damaged."""
        if not isinstance(content, str) or not re.fullmatch("[0-9a-f]{64}", content):
            raise self.db.damaged(f"{short(content)} is not the name of a network")
        path = self.networks / f"{content}.json"
        what_to_do = (
            f"put it back from a copy, or forget its trainings with `{self.db.repair}`; the run then trains "
            "them again"
        )
        try:
            data = read_bytes(path, MAX_JSON_BYTES)
        except Refused as error:
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
            raise ArchiveError(f"{path}: {error.strerror}; {AGAIN}") from None
        return content

    # -- evaluations

    def keep(
        self,
        stage: str,
        number: int,
        evaluations: Sequence[Evaluation],
        seeds: Sequence[int],
        budget: Budget,
    ) -> None:
        """Keep evaluations, one seed each, under their stage (`search` or `final`) and generation.

        What is here under the same stage and number has to be the same: a run that is taken up again
        repeats itself. Raises ArchiveError otherwise.
        """
        spent = exact_json(asdict(budget))
        rows = []
        for place, (e, seed) in enumerate(zip(evaluations, seeds, strict=True)):
            trained = exact_json(e.architecture.training_key.to_dict())
            (home,) = self.db.rows(
                "SELECT min(t.key), t.member FROM trainings t JOIN groups g USING (key)"
                " WHERE t.architecture = ? AND g.seed = ? AND g.budget = ?",
                (trained, seed, spent),
            )
            if not (e.trained or e.failed):
                home = (None, None)
            status = "trained" if e.trained else "failed" if e.failed else "not trained"
            genes, metrics = exact_json(e.architecture.to_dict()), exact_json(_finite(e.metrics))
            row = (stage, number, place, genes, seed, spent, status, e.failed, float(e.violation), metrics)
            rows.append((*row, *home))
        self._repeat(
            "evaluations", "stage = ? AND generation = ?", (stage, number), "stage, generation, place", rows
        )

    def generation(self, g: Generation, seed: int, budget: Budget) -> None:
        """Keep what is new in a generation of the search, and its hypervolume."""
        self.keep("search", g.number, g.evaluated, [seed] * len(g.evaluated), budget)
        self._repeat("generations", "number = ?", (g.number,), "number", [(g.number, float(g.hypervolume))])
        self.db.rows("PRAGMA wal_checkpoint")  # from the log into the file, as far as nobody reads there

    def evaluations(self, stage: str = "search") -> list[Evaluation]:
        """The evaluations of a stage in their order, without networks."""
        rows = self.db.rows(
            "SELECT architecture, metrics, violation, status, reason FROM evaluations WHERE stage = ?"
            " ORDER BY generation, place",
            (stage,),
        )
        with self.evaluations_expected():
            return [
                Evaluation(
                    Architecture(**json.loads(genes)),
                    {k: math.inf if v is None else v + 0 for k, v in json.loads(metrics).items()},
                    float(violation),
                    status == "trained",
                    reason,
                )
                for genes, metrics, violation, status, reason in rows
            ]

    @contextlib.contextmanager
    def evaluations_expected(self) -> Iterator[None]:
        """Within it, what cannot be read as an evaluation is an ArchiveError: a row may hold anything that
        somebody else wrote."""
        try:
            yield
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise self.db.damaged(f"an evaluation: {type(error).__name__}: {error}") from None

    def hypervolumes(self) -> list[tuple[int, float]]:
        """Number and hypervolume of every generation."""
        return self.db.rows("SELECT number, hypervolume FROM generations ORDER BY number")

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
                    f"file is damaged: go on there, begin in another folder, or `{self.db.repair}`"
                )

        self.db.write(write)

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

        self.db.write(write)

    def mark(self, name: str, value: str) -> None:
        """Keep a fact, whatever was there before."""
        self.db.write(lambda db: db.execute("INSERT OR REPLACE INTO about VALUES (?, ?)", (name, value)))

    def fact(self, name: str) -> str | None:
        """A fact, or None."""
        rows = self.db.rows("SELECT value FROM about WHERE name = ?", (name,))
        return rows[0][0] if rows else None

    def count(self, table: str = "groups") -> int:
        """How many rows there are of `groups`, `trainings` or `evaluations`."""
        assert table in ("groups", "trainings", "evaluations")
        return self.db.rows(f"SELECT count(*) FROM {table}")[0][0]


def _sync(folder: Path) -> None:
    """Have the names of files in `folder` on the disk, as write_whole() has their content."""
    if not folder.is_dir():
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _finite(metrics: Mapping[str, object]) -> dict[str, object]:
    """Metrics as JSON knows them; None for what is not finite."""
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in metrics.items()}


def _real(value: float | None) -> float | None:
    """A float for a REAL column, where NaN is NULL; and back."""
    return None if value is None or math.isnan(value) else float(value)


def _check_sound(t: Trained) -> None:
    """ValueError unless this can be what came of a training: whoever wrote the file may have made it up."""
    figures = {name: getattr(t, name) for name in Trained._fields[2:6]}
    for name, value in (figures | {"seconds": t.seconds}).items():
        if not isinstance(value, float):
            raise ValueError(f"{name} must be a number, got {short(value)}")
    if not 0 <= t.seconds < math.inf:
        raise ValueError(f"seconds must be finite and not negative, got {t.seconds:g}")
    if t.failed is not None:
        if not isinstance(t.failed, str) or t.network is not None:
            raise ValueError("a training that failed must say why, and has no network")
        return
    if t.network is None:
        raise ValueError("a training that did not fail must have a network")
    a, n = t.architecture, t.network
    wanted = (a.n_inputs, a.timesteps, a.fraction, a.word, a.readout, a.layer_widths)
    got = (n.n_inputs, n.timesteps, n.fraction, n.word, n.readout, tuple(layer.n_out for layer in n.layers))
    if got != wanted:
        raise ValueError(f"the network must be of its architecture {wanted}, got {got}")
    for name, value in figures.items():
        high = 1.0 if name.endswith("accuracy") else math.inf
        if not math.isfinite(value) or not (high == math.inf or 0 <= value <= high):
            raise ValueError(f"{name} must be finite, an accuracy from 0 to 1, got {value:g}")
    sizes = [n_in for n_in, _ in a.layer_sizes]
    least = all(0 <= rate <= 1.000001 * size for rate, size in zip(t.activity, sizes, strict=False))
    if len(t.activity) != len(sizes) or not least:
        raise ValueError(f"activity must be one number from 0 to n_in a layer, got {short(t.activity)}")


def _digest(rows: Sequence[tuple]) -> str:
    """SHA-256 of the trainings of a group: SQLite notices a torn page, and not a changed digit."""
    return hashlib.sha256(repr([tuple(row) for row in rows]).encode()).hexdigest()


def searched(run_folder: Path) -> list[Evaluation]:
    """Every evaluation of the search in a run folder; none where the folder has no archive."""
    if not (run_folder / NAME).exists():
        return []
    with Archive(run_folder / NAME, read_only=True) as archive:
        return archive.evaluations()

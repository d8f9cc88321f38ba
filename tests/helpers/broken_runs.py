"""Small searches that are broken off on purpose, in processes of their own, and what they leave.

A process is forked from this one, where everything slow is loaded already; it starts and ends in a second.
"""

import contextlib
import functools
import hashlib
import io
import math
import os
import signal
import sqlite3
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from scnas import files, run
from scnas.record import recorder, written
from scnas.settings import compose, schema
from scnas.snn import population, training
from scnas.space import Architecture
from scnas.trials import executor
from scnas.trials import repair as repairing
from scnas.trials.database import Database

TINY = [
    "+experiment=smoke", "space.max_layers=2", "space.width_choices=[8,12]", "space.timesteps_choices=[4]",
    "space.L_choices=[4,8]", "search.population_size=5", "search.generations=3", "executor.workers=1",
    "train.epochs=1", "train.full_epochs=2", "train.final_seeds=2", "task.train_limit=60", "build=none",
]  # fmt: skip


class End(NamedTuple):
    """How a process ended: its exit code (negative: the signal that killed it), and all that it said."""

    code: int
    text: str
    seconds: float

    @property
    def line(self) -> str:
        """What it said last."""
        return (self.text.splitlines() or [""])[-1]


def attempt(
    folder: Path,
    *overrides: str,
    fault: Callable[[], object] | None = None,
    kill_after: float | None = None,
    interrupt_after: float | None = None,
    kill_when: Callable[[], bool] | None = None,
    interrupt_when: Callable[[], bool] | None = None,
) -> End:
    """Run the tiny search in `folder`, in a process of its own that calls fault() first, and is killed or
    interrupted after so many seconds, or as soon as a function says so."""
    settings = compose.load([*TINY, *overrides])
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile() as said:
        begun = time.monotonic()
        pid = os.fork()
        if pid == 0:
            os._exit(_child(settings, folder, said.fileno(), fault))
        stop_at, when = min(kill_after or 1e9, interrupt_after or 1e9, 900.0), kill_when or interrupt_when
        stop = signal.SIGINT if interrupt_after or interrupt_when else signal.SIGKILL
        while (done := os.waitpid(pid, os.WNOHANG))[0] == 0:
            if time.monotonic() - begun >= stop_at or (when is not None and when()):
                os.kill(pid, stop)
                stop, stop_at, when = signal.SIGKILL, 900.0, None
            time.sleep(0.002)
        said.seek(0)
        text = said.read().decode(errors="replace")
    return End(os.waitstatus_to_exitcode(done[1]), text, time.monotonic() - begun)


def _child(settings: schema.Config, folder: Path, said: int, fault: Callable[[], object] | None) -> int:
    from scnas.__main__ import _is_for_user, _line

    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.dup2(said, 1)
    os.dup2(said, 2)
    sys.stdout, sys.stderr = io.TextIOWrapper(os.fdopen(1, "wb", 0)), io.TextIOWrapper(os.fdopen(2, "wb", 0))
    code = 0
    # The picture of every generation for TensorBoard takes most of the time of so small a search.
    recorder._pixels = lambda figure: np.zeros((4, 4, 3), np.uint8)
    try:
        if fault is not None:
            fault()
        run.run(settings, folder)
    except KeyboardInterrupt:
        code = 130
    except BaseException as error:
        code = 2 if _is_for_user(error) else 1
        if code == 1:
            traceback.print_exc()
        print(f"scnas: {_line(error)}")
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
        sys.stderr.flush()
    return code


def finish(folder: Path, *overrides: str, tries: int = 5) -> End:
    """Take the run up again until it ends by itself."""
    for _ in range(tries):
        end = attempt(folder, *overrides)
        if end.code >= 0:
            return end
    raise AssertionError(f"killed {tries} times by nobody")


# -- what is compared -------------------------------------------------------------------------------------


def left(folder: Path) -> dict[str, object]:
    """What a finished run left, wall times and names of workers aside."""
    names = ["front.json", "front.csv", "front.png", "winner/network.json", "winner/design.v"]
    found: dict[str, object] = {name: (folder / name).read_bytes() for name in names}
    found |= {f"front/{p.name}": p.read_bytes() for p in (folder / "front").iterdir()}
    found |= {f"archive {table}": rows for table, rows in content(folder / "archive.sqlite").items()}
    found["networks"] = sorted(p.name for p in (folder / "networks").glob("*.json"))
    found["hypervolume"] = curve(folder)
    return found


def content(path: Path) -> dict[str, list[tuple]]:
    """Every row of an archive, durations, workers and what is computed from them aside."""
    columns = {
        "about": "name, value",
        "groups": "key, seed, budget, size",
        "trainings": "key, member, architecture, train_loss, train_accuracy, validation_loss,"
        " validation_accuracy, activity, failed, network",
        "evaluations": "*",
        "generations": "*",
    }
    with contextlib.closing(sqlite3.connect(path)) as db:
        return {t: sorted(db.execute(f"SELECT {c} FROM {t}"), key=repr) for t, c in columns.items()}


def curve(folder: Path) -> list[tuple[int, float]]:
    """The hypervolume of every generation as TensorBoard shows it."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    log = EventAccumulator(str(folder / "tensorboard"))
    log.Reload()
    return [(e.step, e.value) for e in log.Scalars("search/hypervolume")]


def differing(a: dict[str, object], b: dict[str, object]) -> list[str]:
    """What differs in what two runs left."""
    return sorted(name for name in a.keys() | b.keys() if a.get(name) != b.get(name))


# -- ways to break a run ------------------------------------------------------------------------------------


def groups(folder: Path) -> int:
    """How many training groups the archive of a run holds; 0 where it cannot be read."""
    try:
        with contextlib.closing(sqlite3.connect(f"file:{folder}/archive.sqlite?mode=ro", uri=True)) as db:
            return db.execute("SELECT count(*) FROM groups").fetchone()[0]
    except sqlite3.Error:
        return 0


def repair(folder: Path) -> str:
    """What job=repair says."""
    return " ".join(repairing.repair(folder))


def newest_network(folder: Path) -> Path:
    return max((folder / "networks").glob("*.json"), key=lambda p: (p.stat().st_mtime_ns, p.name))


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def at_call(owner: object, name: str, number: int, then: Callable[[], object], *, after: bool = False):
    """A fault: call `then` at the `number`th call (1 is the first) of owner.name, or after it."""

    def put() -> None:
        original, calls = getattr(owner, name), [0]

        def watched(*args: object, **kwargs: object) -> object:
            calls[0] += 1
            if calls[0] == number and not after:
                then()
            result = original(*args, **kwargs)
            if calls[0] == number and after:
                then()
            return result

        setattr(owner, name, watched)

    return put


def in_transaction(number: int) -> Callable[[], None]:
    """A fault: die in the `number`th transaction on the archive, its rows written and not committed."""

    def put() -> None:
        original, calls = Database.write, [0]

        def write(self: Database, work: Callable) -> None:
            def then_die(db: sqlite3.Connection) -> None:
                work(db)
                calls[0] += 1
                if calls[0] == number:
                    die()

            original(self, then_die)

        Database.write = write

    return put


def in_file(number: int) -> Callable[[], None]:
    """A fault: die with the `number`th file written beside its name and not yet under it."""
    return at_call(files.os, "replace", number, die)


def in_report(number: int) -> Callable[[], None]:
    """A fault: die in one of the last steps: drawing, tables, the page of the winner, the log."""
    names = [
        (written, "png", False),
        (written, "_csv", False),
        (recorder, "write_winner", False),
        (recorder, "write_winner", True),
        (recorder, "show", False),
    ]
    owner, name, after = names[number % len(names)]
    return at_call(owner, name, 1, die, after=after)


def worker_dies_at(number: int) -> Callable[[], None]:
    """A fault: the worker that gets the `number`th job is killed with it; the search goes on."""

    def put() -> None:
        give, calls = executor._Worker.give, [0]

        def watched(self: executor._Worker, *job: object) -> None:
            give(self, *job)
            calls[0] += 1
            if calls[0] == number:
                self.process.kill()

        executor._Worker.give = watched

    return put


# -- candidates that break --------------------------------------------------------------------------------


def guilty(a: Architecture) -> bool:
    """Whether a candidate is one of those that break: one in six, by its name."""
    return hashlib.sha256(a.name.encode()).digest()[0] % 6 == 0


def breaking(kind: str) -> Callable[[], None]:
    """A fault: guilty candidates break their training, here and in every worker process.

    kind: `nan`, `exception`, `memory` (more than the machine has is asked for), `killed` (by SIGKILL, as the
    system does when memory runs out) or `late` (it never ends).
    """

    def put() -> None:
        _break_candidates(kind)
        executor._work = functools.partial(_work_badly, kind)

    return put


def _work_badly(kind: str, *arguments: object) -> None:
    _break_candidates(kind)
    executor._work(*arguments)


def _break_candidates(kind: str) -> None:
    train, stack = training._train_stack, population.PopulationStack

    def train_badly(group: list[Architecture], *rest: object) -> list[training.Trained]:
        if kind != "nan" and any(map(guilty, group)):
            match kind:
                case "exception":
                    raise IndexError("planted")
                case "memory":
                    torch.empty(2**50)
                case "killed":
                    die()
                case "late":
                    time.sleep(1e6)
        return train(group, *rest)

    def stack_badly(group: list[Architecture], *rest: object) -> object:
        made = stack(group, *rest)
        if kind == "nan":
            for p in (p for p, a in enumerate(group) if guilty(a)):
                made.layers[0].tensors["weight"].data[p] = math.nan
        return made

    training._train_stack, population.PopulationStack = train_badly, stack_badly

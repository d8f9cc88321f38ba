"""What does a search lose when it is broken off, when its disk fails it, or when a candidate breaks?

    python experiments/faults.py [experiments/faults.csv]

Breaks a small search in many ways, takes it up again, and compares everything it left with what an
uninterrupted run left. One process at a time; about a second and a half of work for each trial.
"""

import csv
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "tests" / "helpers")]

import broken_runs as broken

from scnas import run
from scnas.randomness import rng
from scnas.settings import compose
from scnas.trials.archive import Archive


class Trial(NamedTuple):
    """One fault: what it was, how the run ended on it, and what was left in the end.

    lost: training groups that were in the archive when the run ended and were not when it was taken up.
    """

    kind: str
    detail: str
    ended: int
    said: str
    repaired: bool
    identical: bool
    groups: int
    lost: int


class Whole(NamedTuple):
    """An uninterrupted run: its folder, what it left, how long it took."""

    folder: Path
    left: dict
    seconds: float


def tried(
    kind: str, detail: str, folder: Path, end: broken.End, whole: Whole, *overrides: str,
    damage: Callable[[Path], object] | None = None, refused: bool = False,
    fault: Callable[[], object] | None = None,
) -> Trial:  # fmt: skip
    """Damage what a broken run left, if asked to; take it up again, after a repair where it is refused."""
    groups = broken.groups(folder)
    if damage is not None:
        damage(folder)
    again = broken.attempt(folder, *overrides, fault=fault)
    repaired = again.code == 2 and "job=repair" in again.line
    if refused and not repaired:
        return Trial(kind, detail, end.code, f"NOT REFUSED {again.line}", False, False, groups, groups)
    said = end.line if end.code == 2 else again.line if repaired else ""
    if repaired:
        broken.repair(folder)
    left = broken.groups(folder) if repaired else _found(folder, again)
    if again.code != 0:
        again = broken.attempt(folder, *overrides, fault=fault)
    same = again.code == 0 and broken.differing(whole.left, broken.left(folder)) == []
    said = said.replace(str(folder.parent), "...")
    return Trial(kind, detail, end.code, said, repaired, same, groups, groups - left)


def _found(folder: Path, again: broken.End) -> int:
    """How many groups the run that was taken up said it found."""
    if "nothing is left to do" in again.text:
        return broken.groups(folder)
    words = [line for line in again.text.splitlines() if "training groups are in its archive" in line]
    return int(words[0].rpartition(": ")[2].split()[0]) if words else 0


def kill(
    folder: Path, latest: float, dice: np.random.Generator, *overrides: str, **more: object
) -> broken.End:
    """Kill a run at a random moment before `latest`, seconds; earlier where it was done by then."""
    while True:
        end = broken.attempt(folder, *overrides, kill_after=max(0.05, float(dice.random()) * latest), **more)
        if end.code == -signal.SIGKILL:
            return end
        shutil.rmtree(folder)
        latest *= 0.7


# -- ways to break a run ----------------------------------------------------------------------------------


def killed(whole: Whole, root: Path) -> Iterator[Trial]:
    for i in range(20):
        folder = root / f"killed-{i}"
        end = kill(folder, whole.seconds, rng(1, "killed", i))
        yield tried("killed at a random moment", f"{end.seconds:.2f} s", folder, end, whole)
    for i in range(3):
        folder, dice = root / f"twice-{i}", rng(1, "twice", i)
        first = kill(folder, 0.6 * whole.seconds, dice)
        end = broken.attempt(folder, kill_after=float(dice.random()) * 0.6 * whole.seconds)
        detail = f"{first.seconds:.2f} s, {end.seconds:.2f} s"
        yield tried("killed, taken up, killed again", detail, folder, end, whole)
    for i in range(4):
        folder, number = root / f"commit-{i}", 2 + 4 * i
        end = broken.attempt(folder, fault=broken.in_transaction(number))
        yield tried("killed between rows and commit", f"transaction {number}", folder, end, whole)
    for i in range(4):
        folder, number = root / f"rename-{i}", 3 + 8 * i
        end = broken.attempt(folder, fault=broken.in_file(number))
        yield tried("killed between write and rename", f"file {number}", folder, end, whole)
    for i in range(5):
        folder = root / f"report-{i}"
        end = broken.attempt(folder, fault=broken.in_report(i))
        yield tried("killed while reporting", f"step {i}", folder, end, whole)
    for i in range(3):
        folder, when = root / f"interrupt-{i}", (0.3 + 0.25 * i) * whole.seconds
        end = broken.attempt(folder, interrupt_after=when)
        yield tried("Ctrl-C", f"{when:.2f} s", folder, end, whole)


def full_disk(whole: Whole, root: Path) -> Iterator[Trial]:
    for i, limit in enumerate((2_000, 40_000, 80_000)):
        folder = root / f"full-{i}"

        def full(limit: int = limit) -> None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))

        end = broken.attempt(folder, fault=full)
        yield tried("disk full (limit on a file)", f"{limit:,} bytes", folder, end, whole)
    for i, size in enumerate(("160k", "300k", "420k")):
        disk = root / f"disk-{i}"
        disk.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(disk)]
        if subprocess.run(mount, capture_output=True).returncode:
            print("disk full (small file system): not run, mounting is not allowed here")
            return
        try:
            end = broken.attempt(disk / "run")
            subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
            yield tried("disk full (small file system)", size, disk / "run", end, whole)
        finally:
            subprocess.run(["umount", str(disk)], check=True)


def damaged(whole: Whole, root: Path) -> Iterator[Trial]:
    def stopped(name: str, step: int = 1) -> tuple[Path, broken.End]:
        return root / name, broken.attempt(root / name, fault=broken.in_report(step))

    for i, share in enumerate((0.0, 0.3, 0.6, 0.9)):
        folder, end = stopped(f"wal-{i}")
        wal = folder / "archive.sqlite-wal"
        cut = int(share * wal.stat().st_size)

        def truncate(folder: Path, cut: int = cut) -> None:
            os.truncate(folder / "archive.sqlite-wal", cut)
            (folder / "archive.sqlite-shm").unlink()

        yield tried("last writes truncated", f"log cut to {share:.0%}", folder, end, whole, damage=truncate)
    for i in range(2):
        folder, end = stopped(f"gone-{i}", i)
        yield tried(
            "newest weights deleted", "", folder, end, whole,
            damage=lambda folder: broken.newest_network(folder).unlink(), refused=True,
        )  # fmt: skip
    for i, share in enumerate((0.0, 0.99)):
        folder, end = stopped(f"short-{i}")

        def shorten(folder: Path, share: float = share) -> None:
            path = broken.newest_network(folder)
            os.truncate(path, int(share * path.stat().st_size))

        yield tried(
            "newest weights truncated", f"to {share:.0%}", folder, end, whole, damage=shorten, refused=True
        )
    for page in range(1, 6):
        folder, end = stopped(f"page-{page}")

        def noise(folder: Path, page: int = page) -> None:
            with Archive(folder / "archive.sqlite") as archive:  # closing it empties its log into the file
                archive.db.rows("PRAGMA wal_checkpoint(TRUNCATE)")
            with open(folder / "archive.sqlite", "r+b") as file:
                pages = os.fstat(file.fileno()).st_size // 4096
                file.seek(4096 * (page % pages))
                file.write(rng(2, "noise", page).bytes(4096))

        yield tried(
            "page of the archive overwritten", f"page {page}", folder, end, whole, damage=noise, refused=True
        )
    for i, wreck in enumerate((os.unlink, lambda path: os.truncate(path, 0))):
        folder, end = stopped(f"none-{i}")

        def lose(folder: Path, wreck: Callable = wreck) -> None:
            for name in ("archive.sqlite-wal", "archive.sqlite-shm"):
                (folder / name).unlink(missing_ok=True)
            wreck(folder / "archive.sqlite")

        detail = ("deleted", "emptied")[i]
        yield tried("archive lost", detail, folder, end, whole, damage=lose, refused=True)


def workers(whole: Whole, root: Path) -> Iterator[Trial]:
    """Two workers; the search is killed, or a worker is while it goes on."""
    two = "executor.workers=2"
    seconds = broken.attempt(root / "two", two).seconds
    for i in range(2):
        folder = root / f"two-{i}"
        end = kill(folder, seconds, rng(1, "two", i), two)
        yield tried("two workers, search killed", f"{end.seconds:.2f} s", folder, end, whole, two)
    for i in range(2):
        folder = root / f"worker-{i}"
        end = broken.attempt(folder, two, fault=broken.worker_dies_at(1 + 3 * i))
        same = end.code == 0 and broken.differing(whole.left, broken.left(folder)) == []
        yield Trial(
            "two workers, one killed", f"job {1 + 3 * i}", end.code, "", False, same, broken.groups(folder), 0
        )


REASONS = {
    "nan": "diverged: ", "exception": "IndexError: planted", "memory": "out of memory",
    "killed": "its worker was killed by SIGKILL, 3 times in a row",
    "late": "took longer than executor.timeout_s = 40",
}  # fmt: skip
# A worker that is lost takes seconds to replace, so those searches are shorter.
ONE, TWO = ["search.generations=1"], ["search.generations=1", "executor.workers=2", "executor.timeout_s=40"]


def candidates(_: Whole, root: Path) -> Iterator[Trial]:
    """Some candidates break. The search has to end with them, and only them, marked as failed.

    One that is killed on its way has to end the same; and the front has to be the same for whatever reason
    the same candidates failed.
    """
    for kind in ("nan", "exception", "memory"):
        end, detail, right = _with_breaking(kind, root / kind)
        whole = Whole(root / kind, broken.left(root / kind), end.seconds)
        for i in range(2):
            folder, fault = root / f"{kind}-{i}", broken.breaking(kind)
            end = kill(folder, whole.seconds, rng(1, kind, i), fault=fault)
            trial = tried(f"candidate: {kind}", detail, folder, end, whole, fault=fault)
            yield trial._replace(identical=trial.identical and right)
    _with_breaking("exception", root / "one", *ONE)
    for kind in ("killed", "late"):
        end, detail, right = _with_breaking(kind, root / kind, *TWO)
        fronts = [(root / name / "front.json").read_bytes() for name in ("one", kind)] if right else [1, 2]
        groups = broken.groups(root / kind)
        yield Trial(f"candidate: {kind}", detail, end.code, "", False, fronts[0] == fronts[1], groups, 0)


def _with_breaking(kind: str, folder: Path, *overrides: str) -> tuple[broken.End, str, bool]:
    """Run a search in which candidates break; how it ended, what failed, and whether that was right."""
    end = broken.attempt(folder, *overrides, fault=broken.breaking(kind))
    with Archive(folder / "archive.sqlite", read_only=True) as archive:
        found = [e for s in ("search", "final") for e in archive.evaluations(s) if e.trained or e.failed]
    bad = [e for e in found if broken.guilty(e.architecture.training_key)]
    right = end.code == 0 and bool(bad)
    for e in found:
        right &= (e.failed or "").startswith(REASONS[kind]) if e in bad else e.failed is None
    detail = f"{sum(e.failed is not None for e in found)} of {len(found)} trainings failed"
    if not right:
        print(f"candidate: {kind}: NOT as planted: {end}, {[e.failed for e in found]}")
    return end, f"{detail}, {'those planted' if right else 'NOT those planted'}", right


def main() -> None:
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "faults.csv"
    root = Path(tempfile.mkdtemp(prefix="faults-"))
    begun = time.monotonic()
    try:
        (root / "warm").mkdir()
        run.run(compose.load(broken.TINY), root / "warm")  # so that what is forked finds everything compiled
        end = broken.attempt(root / "whole")
        whole = Whole(root / "whole", broken.left(root / "whole"), end.seconds)
        assert end.code == 0 and not broken.differing(whole.left, broken.left(root / "warm")), end
        trials = []
        for part in (killed, full_disk, damaged, workers, candidates):
            for trial in part(whole, root):
                trials.append(trial)
                print(f"{time.monotonic() - begun:6.0f} s  {trial}", flush=True)
                with open(target, "w", newline="") as file:
                    writer = csv.writer(file, lineterminator="\n")
                    writer.writerow(Trial._fields)
                    writer.writerows(
                        t._replace(identical=int(t.identical), repaired=int(t.repaired)) for t in trials
                    )
    finally:
        shutil.rmtree(root)
    print(table(trials))


def table(trials: list[Trial]) -> str:
    """One row of Markdown for every kind."""
    head = ("fault", "times", "refused and repaired", "identical in the end", "groups before", "of them lost")
    lines = [f"| {' | '.join(head)} |", "|---|---:|---:|---:|---:|---:|"]
    for kind in dict.fromkeys(t.kind for t in trials):
        of = [t for t in trials if t.kind == kind]
        cells = (len(of), sum(t.repaired for t in of), sum(t.identical for t in of))
        kept, lost = sum(t.groups for t in of), sum(t.lost for t in of)
        lines.append(f"| {kind} | {' | '.join(map(str, cells))} | {kept} | {lost} |")
    total = (
        f"| all | {len(trials)} | {sum(t.repaired for t in trials)} | {sum(t.identical for t in trials)} |"
    )
    return "\n".join([*lines, f"{total} {sum(t.groups for t in trials)} | {sum(t.lost for t in trials)} |"])


if __name__ == "__main__":
    main()

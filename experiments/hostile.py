"""Does anything that somebody else wrote do more than be read, or refused in one line?

    python experiments/hostile.py                # 20,000 files of each kind; writes hostile.csv beside it
    python experiments/hostile.py 1000           # fewer

The files are those of tests/helpers/hostile.py, drawn by Hypothesis: valid ones with parts of their tree or
of their bytes replaced, and nonsense. Every loader runs under an audit hook that notes processes, sockets,
pickles and files opened for writing, with a time limit; every kind in a process of its own, whose memory is
measured.
"""

import csv
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "tests" / "helpers"), str(HERE.parent / "tests")]

from scnas.files import write_whole

COLUMNS = ("kind", "files", "valid", "refused", "other", "slowest_s", "memory_mib", "seed", "seconds")
SEED = 2026  # of the first round
ROUND = 500


def one_kind(kind: str, count: int) -> Iterator[dict]:
    """Load `count` files of a kind; its row of the table after every round.

    other: neither valid nor refused in one line. memory_mib: the most by which one load raised
    the peak of the process.
    """
    import hostile
    from hypothesis import HealthCheck, Phase, given, seed, settings
    from test_hostile import LOADERS, make_run

    folder = make_run(Path(tempfile.mkdtemp(prefix="scnas-hostile-")))
    file, load = LOADERS[kind]
    seen = {"valid": 0, "refused": 0, "other": 0}
    slowest = memory = 0.0
    faults = []

    def take(data: bytes) -> None:
        nonlocal slowest, memory
        (folder / file).write_bytes(data)
        start, peak = time.process_time(), _peak_mib()
        try:
            found = hostile.told(load, folder)
        except Exception as error:
            seen["other"] += 1
            faults.append(f"{type(error).__name__}: {error!s:.200}; file: {data!r:.200}")
        else:
            seen["refused" if found is None else "valid"] += 1
        slowest, memory = max(slowest, time.process_time() - start), max(memory, _peak_mib() - peak)

    begun = time.process_time()
    for number in range(-(-count // ROUND)):  # Hypothesis keeps what it drew until a round is over
        quiet = settings(
            max_examples=min(ROUND, count - number * ROUND), deadline=None, database=None,
            phases=(Phase.generate,), suppress_health_check=list(HealthCheck),
        )  # fmt: skip
        seed(SEED + number)(quiet(given(hostile.CASES[kind])(take)))()
        row = {
            "kind": kind,
            "files": sum(seen.values()),
            **seen,
            "slowest_s": round(slowest, 2),
            "seed": SEED,
        }
        spent = time.process_time() - begun
        yield row | {"memory_mib": round(memory), "seconds": round(spent)}
    shutil.rmtree(folder)
    for line in faults[:5]:
        print(f"{kind}: {line}", file=sys.stderr)


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000
    if len(sys.argv) > 2:  # the process of one kind: a row after every round
        writer = csv.DictWriter(sys.stdout, COLUMNS, lineterminator="\n")
        for row in one_kind(sys.argv[2], count):
            writer.writerow(row)
            sys.stdout.flush()
        return
    from hostile import CASES

    rows = {}
    for kind in CASES:
        command = [sys.executable, __file__, str(count), kind]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            for line in process.stdout:
                rows[kind] = line
                print(line, end="", flush=True)
                text = ",".join(COLUMNS) + "\n" + "".join(rows.values())
                write_whole(HERE / "hostile.csv", text)
        if process.returncode:
            sys.exit(process.returncode)


if __name__ == "__main__":
    main()

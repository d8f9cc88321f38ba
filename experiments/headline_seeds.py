"""How much of a headline's accuracy is the luck of its seed?

    python experiments/headline_seeds.py outputs/run [outputs/another] --seeds 5   # writes the .csv beside it

Trains the winner of each finished run again with the full budget of that run, once for every seed that
train.final_seeds=<seeds> would take; the first is that of a run with one. The test samples are those that the
run opened when its winner was fixed: nothing is chosen here.
"""

import argparse
import csv
from pathlib import Path

import numpy as np

from scnas import tasks
from scnas.build import accuracy
from scnas.randomness import integer
from scnas.record import front
from scnas.run import budget
from scnas.settings import saved
from scnas.snn.training import train_population

HERE = Path(__file__).resolve().parent
COLUMNS = ("run", "architecture", "seed", "train", "validation", "test", "synapses")


def of_run(folder: Path, seeds: int) -> list[dict]:
    """A row for every seed."""
    found = front.read(folder, networks=False)
    settings = saved.read(folder / "settings.yaml")
    task = tasks.load(settings.task)
    test = task.open_test()
    architecture = found.members[found.winner].architecture
    rows = []
    for i in range(seeds):
        seed = integer(settings.search.seed, "final", i, high=2**31)
        (trained,) = train_population(
            [architecture], task, budget(settings, settings.train.full_epochs), seed
        )
        if trained.network is None:
            raise SystemExit(f"{folder}: seed {seed} failed: {trained.failed}")
        figures = (
            trained.train_accuracy, trained.validation_accuracy, accuracy(trained.network, test),
        )  # fmt: skip
        row = (folder.name, architecture.name, seed, *figures, trained.network.n_synapses)
        rows.append(dict(zip(COLUMNS, row, strict=True)))
        print(
            f"{folder.name} | seed {seed} | validation {figures[1]:.4f} | test {figures[2]:.4f}", flush=True
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    rows = []
    for folder in options.runs:
        own = of_run(folder, options.seeds)
        tests = 100 * np.array([row["test"] for row in own])
        spread = tests.std(ddof=min(1, len(tests) - 1))
        print(
            f"{folder.name}: test {tests.mean():.2f} ± {spread:.2f} ({tests.min():.2f} to {tests.max():.2f})"
        )
        rows += own
    with (HERE / "headline_seeds.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()

"""Who keeps the workers busy, and does the place of the work change its result?

    python experiments/executors.py                # some minutes on two cores; executors.csv beside it
    python experiments/executors.py 2 0 1          # workers, then seeds

The same searches on digits, generational and steady, by processes of this machine and, where Ray is
installed, by a cluster of its own. busy: seconds that workers trained, over workers times the wall time of
the search. digest: of every evaluation in order, times apart.
"""

import csv
import hashlib
import sys
import time
from importlib.util import find_spec
from pathlib import Path

from scnas.hardware import targets
from scnas.search.evaluation import Evaluator, Reference, capacity
from scnas.search.evolve import evolve, likely_to_fit
from scnas.search.steady import Feed, evolve_steady
from scnas.snn.budget import Budget
from scnas.space import SearchSpace
from scnas.tasks.digits import digits
from scnas.trials.cluster import Cluster
from scnas.trials.executor import Executor, Finished, Job, Local
from scnas.trials.trainer import Trainer

HERE = Path(__file__).resolve().parent
SIZE, GENERATIONS = 8, 3
SPACE = SearchSpace(64, 10, max_layers=3, width_choices=(8, 16, 32), L_choices=(4, 8, 16))
BUDGET = Budget(epochs=2)
CHIP = targets.target("ice40")
COLUMNS = (
    "executor", "mode", "workers", "seed", "candidates", "jobs", "wall_s", "busy", "hypervolume", "digest",
)  # fmt: skip


class Watched:
    """An executor that adds up how long its workers trained."""

    def __init__(self, inner: Executor):
        self.inner, self.slots, self.seconds, self.jobs = inner, inner.slots, 0.0, 0

    def submit(self, ticket: int, job: Job) -> None:
        self.inner.submit(ticket, job)

    def collect(self) -> Finished:
        finished = self.inner.collect()
        self.seconds, self.jobs = self.seconds + finished.seconds, self.jobs + 1
        return finished

    def cancel(self) -> None:
        self.inner.cancel()


def search(inner: Executor, task, mode: str, seed: int) -> dict:
    """One search; a row of the table without its place."""
    watched = Watched(inner)
    trainer = Trainer(task, watched)
    budgets = capacity(CHIP)
    evaluator = Evaluator(CHIP, budgets, train=lambda batch: trainer.train(batch, BUDGET, [seed])[0])
    reference = Reference(("error", "luts", "energy_nj"), task.n_classes, CHIP)
    first = likely_to_fit(SPACE, SIZE, CHIP, budgets, seed)
    begun = time.perf_counter()
    if mode == "steady":
        feed = Feed(evaluator, trainer, BUDGET, seed)
        generations = evolve_steady(SPACE, feed, reference, SIZE, seed, SIZE * GENERATIONS, first)
    else:
        generations = evolve(SPACE, evaluator, reference, SIZE, seed, first)
    for last in generations:
        if last.number + 1 == GENERATIONS:
            break
    wall = time.perf_counter() - begun
    told = [(e.architecture.name, sorted(e.metrics.items()), e.violation, e.failed) for e in last.archive]
    return {
        "mode": mode,
        "workers": watched.slots,
        "seed": seed,
        "candidates": len(last.archive),
        "jobs": watched.jobs,
        "wall_s": round(wall, 1),
        "busy": round(watched.seconds / wall / watched.slots, 3),
        "hypervolume": round(last.hypervolume, 5),
        "digest": hashlib.sha256(repr(told).encode()).hexdigest()[:12],
    }


def main() -> None:
    words = [int(word) for word in sys.argv[1:]]
    workers, seeds = (words or [2])[0], words[1:] or [0, 1, 2]
    task = digits()
    places = {"local": lambda n: Local(task, n, "cpu")}
    if find_spec("ray") is None:
        print("ray is not installed, so only this machine's processes are measured", file=sys.stderr)
    else:
        places["ray"] = lambda n: Cluster(task, n, "cpu")
    plan = [(place, mode, workers) for place in places for mode in ("generational", "steady")]
    plan += [("local", mode, 1) for mode in ("generational", "steady")]
    with open(HERE / "executors.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        for place, mode, n in plan:
            with places[place](n) as inner:
                # Starting a worker takes seconds and compiles nothing twice: not what is measured here.
                Trainer(task, inner).train(likely_to_fit(SPACE, 2 * n, CHIP, capacity(CHIP), 99), BUDGET, [0])
                for seed in seeds:
                    row = {"executor": place, **search(inner, task, mode, seed)}
                    writer.writerow(row)
                    file.flush()
                    print(*row.values(), flush=True)


if __name__ == "__main__":
    main()

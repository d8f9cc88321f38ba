"""How much accuracy does a network of few synapses lose, and which way of training loses least?

    python experiments/sparsity.py data/mnist        # writes the .csv and .md beside it
    python experiments/sparsity.py data/mnist --reduced

MNIST, 784-128-10, dense against 3% and 1% of the synapses of the first layer; then digits at 10% and 25% of
the synapses of both layers, with the few steps that a candidate of a search gets. Every way gets the same
epochs.
"""

import argparse
import csv
from pathlib import Path
from typing import NamedTuple

import numpy as np

from scnas import tasks
from scnas.build import accuracy
from scnas.settings import compose
from scnas.snn.budget import Budget
from scnas.snn.training import Trained, train_population
from scnas.space import Architecture
from scnas.tasks import Task

HERE = Path(__file__).resolve().parent
COLUMNS = (
    "task", "density", "way", "learning_rate", "epochs", "seed", "validation", "test", "synapses", "seconds",
)  # fmt: skip
MAGNITUDE = {"prune_by": "magnitude", "regrow": 0.0, "prune_from": 0.1, "prune_to": 0.6}
# way -> what differs from the default budget, and the learning rate on MNIST, the better of 0.005 and 0.01 by
# the validation samples of a trial before this table
WAYS = {
    "dense": ({}, 0.005),
    "gradually": (MAGNITUDE, 0.005),
    "gradually, per neuron": (MAGNITUDE | {"prune_per": "neuron"}, 0.005),
    "gradually, by sensitivity": ({"regrow": 0.0}, 0.005),
    "sparse from the start, regrown": ({"prune_by": "magnitude", "prune_from": 0.0, "prune_to": 0.0}, 0.01),
    "gradually, by sensitivity, regrown (default)": ({}, 0.01),
}
SPARSE = list(WAYS)[1:]


class Run(NamedTuple):
    task: Task
    density: float
    way: str
    rate: float
    epochs: int
    seed: int
    trained: Trained


def mnist_network(task: Task, density: float) -> Architecture:
    return Architecture(
        task.n_inputs, (128, task.n_classes), ("lif", "lif"), (16, 16), (0, 0), densities=(density, 1.0),
        timesteps=4, word=16,
    )  # fmt: skip


def digits_network(task: Task, density: float) -> Architecture:
    return Architecture(
        task.n_inputs, (64, task.n_classes), ("lif", "lif"), (16, 16), (0, 0), densities=(density, density),
        timesteps=8,
    )  # fmt: skip


def trained(task: Task, density: float, way: str, budget: Budget, seed: int) -> Run:
    network = mnist_network if task.name == "mnist" else digits_network
    (result,) = train_population([network(task, density)], task, budget, seed)
    if result.network is None:
        raise SystemExit(f"{way}: {result.failed}")
    seen = f"{task.name} {density:g} | {way} | {budget.learning_rate:g} | seed {seed}"
    print(f"{seen} | {result.validation_accuracy:.4f} | {result.network.n_synapses}", flush=True)
    return Run(task, density, way, budget.learning_rate, budget.epochs, seed, result)


def percent(values: list[float]) -> str:
    return f"{100 * np.mean(values):.2f} ± {100 * np.std(values, ddof=min(1, len(values) - 1)):.2f}"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("mnist", help="the folder of MNIST")
    parser.add_argument("--reduced", action="store_true", help="few samples and epochs, nothing written")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--digits-seeds", type=int, default=20)
    parser.add_argument("--epochs", type=int, default=12)
    given = parser.parse_args()
    seeds, digits_seeds, epochs = given.seeds, given.digits_seeds, given.epochs
    if given.reduced:
        seeds, digits_seeds, epochs = 1, 1, 3
    limit = ["task.train_limit=3000"] if given.reduced else []
    mnist = tasks.load(
        compose.load(["task=mnist", f"task.path={given.mnist}", "task.validation=0.1", *limit]).task
    )
    digits = tasks.load(compose.load(["task=digits"]).task)
    runs: list[Run] = []
    for density, ways in ((1.0, ["dense"]), (0.03, SPARSE), (0.01, SPARSE)):
        for way in ways:
            change, rate = WAYS[way]
            budget = Budget(epochs=epochs, batch_size=64, learning_rate=rate, **change)
            runs += [trained(mnist, density, way, budget, seed) for seed in range(seeds)]
    for density, ways in ((1.0, ["dense"]), (0.25, SPARSE), (0.1, SPARSE)):
        for way in ways:
            budget = Budget(epochs=3 if given.reduced else 10, **WAYS[way][0])
            runs += [trained(digits, density, way, budget, seed) for seed in range(digits_seeds)]
    if given.reduced:
        return
    tests = {task.name: task.open_test() for task in (mnist, digits)}
    table = [
        {
            "task": run.task.name, "density": run.density, "way": run.way, "learning_rate": run.rate,
            "epochs": run.epochs, "seed": run.seed, "validation": round(run.trained.validation_accuracy, 4),
            "test": round(accuracy(run.trained.network, tests[run.task.name]), 4),
            "synapses": run.trained.network.n_synapses, "seconds": round(run.trained.seconds, 1),
        }
        for run in runs
    ]  # fmt: skip
    with open(HERE / "sparsity.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(table)
    lines = [
        "| task | density | way | learning rate | synapses | validation, % | test, % | behind dense, test |",
        "|---|---:|---|---:|---:|---:|---:|---:|",
    ]
    for name in tests:
        rows = [row for row in table if row["task"] == name]
        dense = np.mean([row["test"] for row in rows if row["way"] == "dense"])
        for density, way in dict.fromkeys((row["density"], row["way"]) for row in rows):
            mine = [row for row in rows if (row["density"], row["way"]) == (density, way)]
            test = [row["test"] for row in mine]
            cells = (
                name, f"{100 * density:g}%", way, f"{mine[0]['learning_rate']:g}",
                f"{np.mean([row['synapses'] for row in mine]):,.0f}",
                percent([row["validation"] for row in mine]), percent(test),
                "" if way == "dense" else f"{100 * (dense - np.mean(test)):.2f}",
            )  # fmt: skip
            lines.append(f"| {' | '.join(cells)} |")
    page = HERE / "sparsity.md"
    head, rest = page.read_text().split("<!-- table -->")
    tail = rest.split("<!-- /table -->")[1]
    page.write_text(f"{head}<!-- table -->\n" + "\n".join(lines) + f"\n<!-- /table -->{tail}")


if __name__ == "__main__":
    main()

"""Do learned delays help, at the same number of synapses?

    python experiments/delays.py data/fsdd        # writes the .csv and .md beside it; about ten minutes
    python experiments/delays.py data/fsdd --reduced

Delay detection (generated) and spoken digits, official split and speakers held out: each network is trained
with delays 0..D in its first layer and without, five seeds each. All that differs is D.
"""

import argparse
import csv
from pathlib import Path

import numpy as np

from scnas import tasks
from scnas.build import accuracy
from scnas.hardware.cost.price import measure
from scnas.settings import compose
from scnas.snn.budget import Budget
from scnas.snn.training import train_population
from scnas.space import Architecture
from scnas.tasks import Task

HERE = Path(__file__).resolve().parent
TARGET = "ecp5_25k"
COLUMNS = (
    "task", "delays", "seed", "validation", "test", "synapses", "luts", "ffs", "latency_clocks",
)  # fmt: skip


def network(task: Task, hidden: int, largest_delay: int) -> Architecture:
    """inputs - hidden - classes, LIF, streams of 16 clocks, every synapse kept."""
    return Architecture(
        task.n_inputs, (hidden, task.n_classes), ("lif", "lif"), (16, 16), (largest_delay, 0),
        timesteps=task.timesteps,
    )  # fmt: skip


def rows(task: Task, name: str, hidden: int, delays: tuple[int, ...], seeds: int, epochs: int) -> list[dict]:
    """One row for every delay and seed; the test split is opened when all are trained."""
    budget = Budget(epochs=epochs, batch_size=32, learning_rate=0.02)
    found = [
        (seed, trained)
        for seed in range(seeds)
        for trained in train_population([network(task, hidden, d) for d in delays], task, budget, seed)
    ]
    test = task.open_test()
    table = []
    for seed, trained in found:
        if trained.network is None:
            raise SystemExit(f"{name}, {trained.architecture.name}: {trained.failed}")
        price = measure(trained.network, TARGET)
        table.append({
            "task": name,
            "delays": trained.architecture.delay_ranges[0],
            "seed": seed,
            "validation": round(trained.validation_accuracy, 4),
            "test": round(accuracy(trained.network, test), 4),
            "synapses": trained.network.n_synapses,
            "luts": price.luts,
            "ffs": price.ffs,
            "latency_clocks": price.latency_clocks,
        })  # fmt: skip
        print(*table[-1].values(), sep=" | ", flush=True)
    return table


def summary(table: list[dict]) -> list[str]:
    """The table of the page: means over the seeds, with the standard deviation of accuracies."""
    lines = [
        "| task | delays | validation, % | test, % | synapses | LUTs | FFs | clocks |",
        "|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    for name in dict.fromkeys(row["task"] for row in table):
        for d in sorted({row["delays"] for row in table if row["task"] == name}):
            mine = [row for row in table if row["task"] == name and row["delays"] == d]
            percent = [
                f"{100 * np.mean(values):.1f} ± {100 * np.std(values, ddof=min(1, len(values) - 1)):.1f}"
                for values in ([row[part] for row in mine] for part in ("validation", "test"))
            ]
            rest = [
                f"{np.mean([row[c] for row in mine]):,.0f}"
                for c in ("synapses", "luts", "ffs", "latency_clocks")
            ]
            lines.append(f"| {name} | {f'0..{d}' if d else 'none'} | {' | '.join([*percent, *rest])} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("fsdd", help="the folder of the spoken digits")
    parser.add_argument("--reduced", action="store_true", help="one seed, few epochs, nothing written")
    given = parser.parse_args()
    seeds, epochs = (1, 4) if given.reduced else (5, 30)

    def load(*overrides: str) -> Task:
        limit = ["task.train_limit=400"] if given.reduced else []
        return tasks.load(compose.load([*overrides, *limit]).task)

    table = rows(load("task=delay_detection"), "delay detection", 64, (0, 7), seeds, epochs)
    spoken = ("task=fsdd", f"task.path={given.fsdd}")
    table += rows(load(*spoken), "spoken digits, official split", 64, (0, 8), seeds, epochs)
    held_out = load(*spoken, "task.split=speakers")
    table += rows(held_out, "spoken digits, speakers held out", 64, (0, 8), seeds, epochs)
    if given.reduced:
        return
    with open(HERE / "delays.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(table)
    page = HERE / "delays.md"
    head, rest = page.read_text().split("<!-- table -->")
    tail = rest.split("<!-- /table -->")[1]
    page.write_text(f"{head}<!-- table -->\n" + "\n".join(summary(table)) + f"\n<!-- /table -->{tail}")


if __name__ == "__main__":
    main()

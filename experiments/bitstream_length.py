"""How long must a bitstream be?

    python experiments/bitstream_length.py                  # digits, 64-32-10, T = 8
    python experiments/bitstream_length.py data/mnist       # MNIST, 784-64-10, T = 4
    python experiments/bitstream_length.py --reduced        # prints, writes nothing
    python experiments/bitstream_length.py --page           # the .png and .md again from the .csv

Each writes its rows into the .csv beside it, in place of those it had, and makes the .png and .md again.
Every neuron model and both generators with streams of 2 to 512 clocks, three seeds each, trained through
the exact streams. 9 bits of fraction, so that 512 divides 2^F. Parallel mapping: a step takes L clocks.
"""

import argparse
import csv
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from scnas import tasks
from scnas.build import accuracy
from scnas.contract import GENERATORS, NEURONS
from scnas.hardware.cost.price import measure
from scnas.settings import compose
from scnas.snn.budget import Budget
from scnas.snn.training import train_population
from scnas.space import Architecture
from scnas.tasks import Task

HERE = Path(__file__).resolve().parent
ROWS = HERE / "bitstream_length.csv"
TARGET = "ecp5_25k"
LENGTHS = (2, 4, 8, 16, 32, 64, 128, 256, 512)
COLUMNS = (
    "task", "neuron", "generator", "length", "seed", "validation", "test", "synapses", "luts", "ffs",
    "latency_clocks", "failed",
)  # fmt: skip


def network(task: Task, hidden: int, steps: int, neuron: str, generator: str, length: int) -> Architecture:
    return Architecture(
        task.n_inputs, (hidden, task.n_classes), (neuron, "lif"), (length, length), (0, 0),
        generators=(generator, generator), timesteps=steps, fraction=9,
    )  # fmt: skip


def trained(task: Task, networks: list[Architecture], seed: int, budget: Budget) -> list[dict]:
    """One row for every network, without `test`, which `tested` adds; its network under `network`."""
    table = []
    for found in train_population(networks, task, budget, seed):
        a = found.architecture
        row = dict.fromkeys(COLUMNS, "") | {
            "task": task.name, "neuron": a.neuron_types[0], "generator": a.generators[0],
            "length": a.bitstream_lengths[0], "seed": seed, "failed": found.failed or "",
            "network": found.network,
        }  # fmt: skip
        if found.network is not None:
            price = measure(found.network, TARGET)
            row |= {
                "validation": round(found.validation_accuracy, 4), "synapses": found.network.n_synapses,
                "luts": price.luts, "ffs": price.ffs, "latency_clocks": price.latency_clocks,
            }  # fmt: skip
        table.append(row)
    return table


def tested(task: Task, table: list[dict]) -> list[dict]:
    """`table` with the accuracy on the test split, which is opened here."""
    test = task.open_test()
    for row in table:
        network = row.pop("network")
        if network is not None:
            row["test"] = round(accuracy(network, test), 4)
    return table


def mean(table: list[dict], column: str, **which: object) -> tuple[float, float, int]:
    """Mean and standard deviation over the seeds that trained, and how many did."""
    values = [
        float(row[column])
        for row in table
        if not row["failed"] and all(row[name] == value for name, value in which.items())
    ]
    if not values:
        return float("nan"), float("nan"), 0
    return float(np.mean(values)), float(np.std(values, ddof=min(1, len(values) - 1))), len(values)


def summary(table: list[dict]) -> list[str]:
    """The tables of the page: test accuracy by length, then area and clocks of the lif networks."""
    lines = []
    for task in dict.fromkeys(row["task"] for row in table):
        mine = [row for row in table if row["task"] == task]
        lengths = sorted({row["length"] for row in mine})
        seeds = len({row["seed"] for row in mine})
        lines += [
            f"{task}: test accuracy, %, mean ± standard deviation of {seeds} seeds", "",
            "| neuron | generator | " + " | ".join(f"L = {n}" for n in lengths) + " |",
            "|---|---|" + "---:|" * len(lengths),
        ]  # fmt: skip
        kinds = dict.fromkeys((row["neuron"], row["generator"]) for row in mine)
        for neuron, generator in kinds:
            cells = []
            for n in lengths:
                at = {"neuron": neuron, "generator": generator, "length": n}
                middle, spread, trained = mean(mine, "test", **at)
                less = "" if trained == seeds else f" ({trained} of {seeds} trained)"
                cells.append(f"{100 * middle:.1f} ± {100 * spread:.1f}{less}" if trained else "none trained")
            lines.append(f"| {neuron} | {generator} | " + " | ".join(cells) + " |")
        for generator in dict.fromkeys(g for _, g in kinds):
            cells = []
            for n in lengths:
                others = [r for r in mine if r["neuron"] != "izhikevich"]
                middle, spread, count = mean(others, "test", generator=generator, length=n)
                cells.append(f"{100 * middle:.1f} ± {100 * spread / max(1, count) ** 0.5:.1f}")
            lines.append(
                f"| all but izhikevich, ± standard error | {generator} | " + " | ".join(cells) + " |"
            )
        lines += [
            "", f"{task}: what it takes, lif, parallel, {TARGET}, modelled", "",
            "| generator | figure | " + " | ".join(f"L = {n}" for n in lengths) + " |",
            "|---|---|" + "---:|" * len(lengths),
        ]  # fmt: skip
        for generator in dict.fromkeys(g for _, g in kinds):
            for column, name in (("synapses", "synapses"), ("luts", "LUTs"), ("latency_clocks", "clocks")):
                cells = [
                    f"{mean(mine, column, neuron='lif', generator=generator, length=n)[0]:,.0f}"
                    for n in lengths
                ]
                lines.append(f"| {generator} | {name} | " + " | ".join(cells) + " |")
        lines.append("")
    return lines[:-1]


def figure(table: list[dict], path: Path) -> None:
    """Test accuracy against length, a line for every model, a panel for every task and generator."""
    names = list(dict.fromkeys(row["task"] for row in table))
    panes = Figure(figsize=(9, 3.4 * len(names)))
    axes = panes.subplots(len(names), 2, sharey="row", squeeze=False)
    for i, task in enumerate(names):
        for axis, generator in zip(axes[i], GENERATORS, strict=True):
            for neuron in NEURONS:
                mine = [
                    row for row in table
                    if (row["task"], row["generator"], row["neuron"]) == (task, generator, neuron)
                ]  # fmt: skip
                lengths = sorted({row["length"] for row in mine})
                if lengths:
                    found = [mean(mine, "test", length=n) for n in lengths]
                    axis.errorbar(
                        lengths, [100 * m for m, _, _ in found], [100 * s for _, s, _ in found], marker="o",
                        markersize=3, capsize=2, label=neuron,
                    )  # fmt: skip
            axis.set_xscale("log", base=2)
            axis.set_title(f"{task}, {generator}")
            axis.set_xlabel("L, clocks of a bitstream")
            axis.grid(alpha=0.3)
        axes[i][0].set_ylabel("test accuracy, %")
        axes[i][0].legend(fontsize=7)
    panes.tight_layout()
    panes.savefig(path, dpi=110, metadata={"Software": None})


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("mnist", nargs="?", help="a folder of MNIST; without one digits are used")
    parser.add_argument("--reduced", action="store_true", help="one seed, three lengths, nothing written")
    parser.add_argument(
        "--page", action="store_true", help="make the figure and the page from the .csv again"
    )
    given = parser.parse_args()
    if given.page:
        return page(stored())
    lengths, seeds = ((4, 16, 64), 1) if given.reduced else (LENGTHS, 3)
    where, hidden, steps, epochs = ["task=digits"], 32, 8, 20
    if given.mnist:
        where, hidden, steps, epochs = ["task=mnist", f"task.path={given.mnist}"], 64, 4, 6
        where.append(f"task.train_limit={1000 if given.reduced else 10_000}")
    task = tasks.load(compose.load(where).task)
    networks = [network(task, hidden, steps, m, g, n) for m in NEURONS for g in GENERATORS for n in lengths]
    budget = Budget(epochs=3 if given.reduced else epochs, learning_rate=0.02)
    table = []
    for seed in range(seeds):
        table += trained(task, networks, seed, budget)
        print(f"{task.name}: seed {seed}, {len(networks)} networks trained", flush=True)
    table = tested(task, table)
    if given.reduced:
        print("\n".join(summary(table)))
        return
    table = [row for row in stored() if row["task"] != task.name] + table
    with open(ROWS, "w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(table)
    page(table)


def stored() -> list[dict]:
    """The rows of the .csv, none if there is no such file."""
    if not ROWS.exists():
        return []
    with open(ROWS, newline="") as file:
        return [row | {"length": int(row["length"])} for row in csv.DictReader(file)]


def page(table: list[dict]) -> None:
    """Make the figure, and the tables in the page, of these rows."""
    figure(table, HERE / "bitstream_length.png")
    text = HERE / "bitstream_length.md"
    head, rest = text.read_text().split("<!-- table -->")
    tail = rest.split("<!-- /table -->")[1]
    text.write_text(f"{head}<!-- table -->\n" + "\n".join(summary(table)) + f"\n<!-- /table -->{tail}")


if __name__ == "__main__":
    main()

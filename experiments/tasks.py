"""How large are the tasks, and how many spikes does a sample have?

    python experiments/tasks.py mnist=data/mnist nmnist=data/nmnist fsdd=data/fsdd ...

Prints the table of tasks.md: what needs no files, and what is named on the command line. Values are counted
at T = 8.
"""

import sys

import numpy as np

from scnas import tasks
from scnas.settings import compose
from scnas.tasks import Task

T_OF_VALUES = 8


def spikes(task: Task) -> float:
    """Mean number of input spikes of a training sample."""
    x = task.train.x
    if task.encoder == "rate":
        return float(np.rint(x.astype(np.float64) * T_OF_VALUES).sum() / len(x))
    return float(x.sum(dtype=np.int64) / len(x))


def row(name: str, *overrides: str) -> str:
    task = tasks.load(compose.load([f"task={name}", *overrides]).task)
    counts = " / ".join(f"{len(part.y):,}" for part in (task.train, task.validation, task.open_test()))
    steps = task.timesteps or f"{T_OF_VALUES} (free)"
    found = spikes(task)
    rate = found / task.n_inputs / (task.timesteps or T_OF_VALUES)
    return (
        f"| {name} | {task.encoder} | {task.n_inputs} | {steps} | {task.n_classes} | {counts} "
        f"| {found:,.0f} | {rate:.1%} |"
    )


def main() -> None:
    print("| task | encoder | inputs | T | classes | train / validation / test | spikes a sample | rate |")
    print("|---|---|---:|---:|---:|---|---:|---:|")
    for name in ("digits", "randman", "delay_detection"):
        print(row(name))
    for given in sys.argv[1:]:
        name, _, path = given.partition("=")
        print(row(name, f"task.path={path}"), flush=True)


if __name__ == "__main__":
    main()

"""How much accuracy does a network of few synapses lose, and which way of training loses least?

    python experiments/sparsity.py data/mnist        # writes the .csv and .md beside it
    python experiments/sparsity.py data/mnist --reduced

MNIST, 784-128-10, dense against 3% of the synapses of the first layer: pruned at the end, gradually, or kept
sparse from the start with regrowth, which is not part of the package and stands here.
"""

import argparse
import csv
import math
from pathlib import Path

import numpy as np
import torch

from scnas import config, tasks
from scnas.snn import training
from scnas.snn.adam import CpuAdam
from scnas.snn.training import Budget, train_population
from scnas.space import Architecture
from scnas.tasks import Task
from scnas.winner import accuracy

HERE = Path(__file__).resolve().parent
COLUMNS = ("way", "density", "epochs", "seed", "validation", "test", "synapses", "seconds")
AT_START = {"prune_from": 0.0, "prune_to": 0.0}
# way -> density of the first layer, what differs from the budget of all, whether synapses regrow
WAYS = {
    "dense": (1.0, {}, False),
    "pruned at the end": (0.03, {"prune_from": 0.8, "prune_to": 0.9}, False),
    "pruned gradually": (0.03, {}, False),
    "pruned gradually, per neuron": (0.03, {"prune_per": "neuron"}, False),
    "sparse from the start": (0.03, AT_START, False),
    "sparse from the start, regrown": (0.03, AT_START, True),
}


class Regrowing(CpuAdam):
    """Adam that moves synapses: every EVERY steps, in the first STOP of the training, the share of the kept
    weights with the smallest magnitude gives its place to the pruned ones with the largest gradient, which
    start at 0 with empty moments (Evci et al. 2020, "Rigging the Lottery"; the share falls as half a cosine).

    For layers without delays: there the CPU knows the gradient of a pruned synapse.
    """

    EVERY, SHARE, STOP = 150, 0.3, 0.75
    steps = 0  # of the whole training

    def step(self, factor: float) -> torch.Tensor:
        progress = self.taken / (self.STOP * self.steps)
        if self.taken and self.taken % self.EVERY == 0 and progress < 1:
            for layer in self.stack.layers:
                if layer.kept[0] < layer.sizes[0][0] * layer.sizes[0][1]:
                    self._move(layer, self.SHARE * 0.5 * (1 + math.cos(math.pi * progress)))
        return super().step(factor)

    def _move(self, layer, share: float) -> None:
        parameter = next(p for p in self.parameters if p.tensor is layer.tensors["weight"])
        keep = layer.buffers["keep"].view(-1)
        weight, gradient = parameter.tensor.detach().view(-1), parameter.tensor.grad.view(-1)
        count = min(int(share * keep.sum()), int((~keep).sum()))
        drop = torch.where(keep, weight.abs(), math.inf).topk(count, largest=False).indices
        grow = torch.where(keep, -1.0, gradient.abs()).topk(count).indices
        keep[drop], keep[grow] = False, True
        for moved in (weight, parameter.first.view(-1), parameter.second.view(-1)):
            moved[drop] = moved[grow] = 0


def network(task: Task, density: float) -> Architecture:
    return Architecture(
        task.n_inputs, (128, task.n_classes), ("lif", "lif"), (16, 16), (0, 0), densities=(density, 1.0),
        timesteps=4, word=16,
    )  # fmt: skip


def regrowing(stack, samples, budget: Budget) -> Regrowing:
    """In place of training.open_adam."""
    rates = {kind: budget.learning_rate * rate for kind, rate in training.RATES.items()}
    return Regrowing(stack, rates, budget.clip)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("mnist", help="the folder of MNIST")
    parser.add_argument("--reduced", action="store_true", help="few samples and epochs, nothing written")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=12)
    given = parser.parse_args()
    seeds, epochs = (1, 3) if given.reduced else (given.seeds, given.epochs)
    limit = ["task.train_limit=3000"] if given.reduced else []
    where = ["task=mnist", f"task.path={given.mnist}", "task.validation=0.1"]
    task = tasks.load(config.load([*where, *limit]).task)
    found = []
    plain = training.open_adam
    for seed in range(seeds):
        for way, (density, change, regrows) in WAYS.items():
            budget = Budget(epochs=epochs, batch_size=64, learning_rate=0.005, **change)
            Regrowing.steps = epochs * math.ceil(len(task.train.y) / budget.batch_size)
            training.open_adam = regrowing if regrows else plain
            (trained,) = train_population([network(task, density)], task, budget, seed)
            if trained.network is None:
                raise SystemExit(f"{way}: {trained.failed}")
            found.append((way, density, seed, trained))
            print(
                way,
                seed,
                f"{trained.validation_accuracy:.4f}",
                trained.network.n_synapses,
                sep=" | ",
                flush=True,
            )
    test = task.open_test()
    table = [
        {
            "way": way, "density": density, "epochs": epochs, "seed": seed,
            "validation": round(trained.validation_accuracy, 4),
            "test": round(accuracy(trained.network, test), 4),
            "synapses": trained.network.n_synapses, "seconds": round(trained.seconds, 1),
        }
        for way, density, seed, trained in found
    ]  # fmt: skip
    if given.reduced:
        return
    with open(HERE / "sparsity.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(table)
    lines = ["| way | synapses | validation, % | test, % |", "|---|---:|---:|---:|"]
    for way in WAYS:
        mine = [row for row in table if row["way"] == way]
        synapses, *accuracies = (
            [float(row[column]) for row in mine] for column in ("synapses", "validation", "test")
        )
        cells = [f"{np.mean(synapses):,.0f}"]
        cells += [
            f"{100 * np.mean(a):.2f} ± {100 * np.std(a, ddof=min(1, len(a) - 1)):.2f}" for a in accuracies
        ]
        lines.append(f"| {way} | {' | '.join(cells)} |")
    page = HERE / "sparsity.md"
    head, rest = page.read_text().split("<!-- table -->")
    tail = rest.split("<!-- /table -->")[1]
    page.write_text(f"{head}<!-- table -->\n" + "\n".join(lines) + f"\n<!-- /table -->{tail}")


if __name__ == "__main__":
    main()

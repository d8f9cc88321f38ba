"""How many commands is a training step on a GPU, and how many kernels are compiled for it?

python experiments/gpu_commands.py    # gpu_commands.csv; needs triton, no GPU: kernels are counted, not run
"""

import csv
import io
import sys
from collections import defaultdict
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent / "tests" / folder) for folder in ("helpers", "snn")]

from interpreter import launch_nothing
from test_gpu_layers import Commands, opened_for

from scnas.benchmark import POPULATIONS, training_cost
from scnas.files import write_whole
from scnas.snn.budget import Budget
from scnas.snn.groups import memory_bytes, plan_groups
from scnas.tasks.digits import digits

SIZE, TIMESTEPS, BUDGET = 64, 16, Budget(epochs=5, batch_size=128, memory_gib=100)


def main() -> None:
    """A row for every population: groups, commands of a step of all of them, commands of evaluating one
    batch, kernels compiled, memory predicted, bytes and operations of five epochs at least."""
    task, rows = digits(), []
    with pytest.MonkeyPatch.context() as patch:
        launched = launch_nothing(patch)
        for name, make in POPULATIONS.items():
            groups = plan_groups(make(SIZE, TIMESTEPS), task, BUDGET, "cuda", 1)
            found, compiled = defaultdict(list), set()
            for group in groups:
                launched.clear()
                step, x, labels = opened_for(group, task)
                compiled |= {call.variant for call in launched}
                launched.clear()
                with Commands() as commands:
                    step(x, labels, 0.5, 1.0)
                found["step"].append(len(commands.names) + len(launched))
                launched.clear()
                with Commands() as commands:
                    step.learner.scores(x)
                found["scores"].append(len(commands.names) + len(launched))
                compiled |= {call.variant for call in launched}
            cost = training_cost(
                make(SIZE, TIMESTEPS), len(task.train.y), len(task.validation.y), BUDGET.epochs,
                BUDGET.batch_size,
            )  # fmt: skip
            rows.append(
                {
                    "population": name, "groups": len(groups), "commands_of_a_step": sum(found["step"]),
                    "most_of_a_group": max(found["step"]), "commands_of_scores": sum(found["scores"]),
                    "kernels_compiled": len(compiled),
                    "mib_predicted": round(max(memory_bytes(g, 128, "cuda") for g in groups) / 2**20),
                    "gb_moved": round(cost.bytes / 1e9, 1),
                    "tflop": round((cost.bf16 + cost.float32) / 1e12, 3),
                }
            )  # fmt: skip
            print(rows[-1])
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_whole(HERE / "gpu_commands.csv", text.getvalue())


if __name__ == "__main__":
    main()

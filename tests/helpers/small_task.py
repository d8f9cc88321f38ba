"""A task of three classes that trains in milliseconds, and some architectures for it."""

import numpy as np

from scnas.snn.budget import Budget
from scnas.space import Architecture
from scnas.tasks import Split, Task

QUICK = Budget(epochs=1, batch_size=16)


def small_task() -> Task:
    rng = np.random.default_rng(0)

    def split(count: int) -> Split:
        y = np.arange(count) % 3
        x = (rng.random((count, 8)) * 0.3 + 0.7 * np.eye(8)[y]).clip(0, 1)
        return Split(x.astype(np.float32), y.astype(np.int64))

    return Task("small", "rate", 8, 3, None, split(48), split(24), split(3))


TASK = small_task()


def arch(*hidden: int, **genes) -> Architecture:
    n = len(hidden) + 1
    return Architecture(8, (*hidden, 3), ("lif",) * n, (8,) * n, (0,) * n, timesteps=4, **genes)


SOME = [
    arch(6), arch(4, 5), arch(12), arch(), arch(6, mappings=("folded", "folded"), lanes=(2, 2)),
    arch(7, generators=("lfsr", "sobol")), arch(5, readout="spikes"),
]  # fmt: skip


def figures(results) -> list:
    return [r._replace(seconds=0.0) for r in results]

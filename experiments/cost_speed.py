"""How many architectures a second does one core price? The search asks for every child: 20,000 is the goal.

python experiments/cost_speed.py [population] [repeats]
"""

import os
import sys
import time

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"

import numpy as np

from scnas.hardware.cost.price import estimate, estimate_many
from scnas.hardware.targets import TARGETS
from scnas.space import SearchSpace


def main(population: int = 5000, repeats: int = 5) -> None:
    space, rng = SearchSpace(64, 10), np.random.default_rng(0)
    architectures = [space.random_architecture(rng) for _ in range(population)]
    for target in TARGETS:
        estimate_many(architectures[:10], target)
        rates = []
        for _ in range(repeats):
            start = time.process_time()
            estimate_many(architectures, target)
            rates.append(population / (time.process_time() - start))
        start = time.process_time()
        for a in architectures[:200]:
            estimate(a, target)
        alone = 200 / (time.process_time() - start)
        print(
            f"{target}: {np.median(rates):,.0f} a second of CPU in a batch of {population:,} "
            f"(lowest of {repeats}: {min(rates):,.0f}), {alone:,.0f} one by one, "
            f"{np.median(rates) / alone:.0f} times"
        )


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))

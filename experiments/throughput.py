"""How much faster is a population trained together than one by one? Runs job=benchmark and keeps its record.

make peers
python experiments/throughput.py                     # the record of throughput.md
python experiments/throughput.py benchmark.repeats=1 # any setting of the group benchmark
"""

import shutil
import sys
import tempfile
from pathlib import Path

from scnas.benchmark import benchmark
from scnas.settings import compose
from scnas.trials.executor import pick_device

HERE = Path(__file__).parent
RECORD = {
    "benchmark.csv": "throughput.csv",
    "benchmark.json": "throughput.json",
    "curves.csv": "throughput_curves.csv",
    "curves.png": "throughput.png",
}


def main() -> None:
    settings = compose.load(["job=benchmark", *sys.argv[1:]])
    with tempfile.TemporaryDirectory() as folder:
        device = pick_device(settings.executor.device)
        for line in benchmark(settings.benchmark, Path(folder), device=device):
            print(line)
        for name, kept in RECORD.items():
            if (Path(folder) / name).exists():
                shutil.copyfile(Path(folder) / name, HERE / kept)


if __name__ == "__main__":
    main()

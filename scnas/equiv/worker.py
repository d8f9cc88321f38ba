"""One obligation in a process of its own: task.json in the working folder, answer.json back.

A crash of a solver, a kill, an exception: all of them leave no answer, or one that says error.
"""

import json
import sys
import time
from pathlib import Path


def main() -> None:
    """Answer the task in the current folder."""
    folder = Path()
    task = json.loads((folder / "task.json").read_text())
    deadline = time.monotonic() + task["seconds"]
    from scnas.equiv import composition, machine, obligations

    kinds = {
        "neuron": obligations.neuron,
        "counts": obligations.counts,
        "generator": obligations.generator,
        "encoder": obligations.encoder,
        "lanes": composition.lanes,
        "composition": composition.composition,
    }
    try:
        status, detail = kinds[task["kind"]](task, folder, deadline)
    except TimeoutError as error:
        status, detail = "unknown", str(error) or "time ran out"
    except machine.NotUnderstood as error:
        status, detail = "error", str(error)
    (folder / "answer.json").write_text(json.dumps({"status": status, "detail": detail}))


if __name__ == "__main__":
    sys.exit(main())

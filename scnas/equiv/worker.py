"""One obligation in a process of its own: task.json in the working folder, answer.json back.

A crash of a solver, a kill, an exception: all of them leave no answer, or one that says error.
"""

import json
import os
import resource
import time
from pathlib import Path

MEMORY_SHARE = 0.8  # of this machine, for the proofs of all cores together


def _limit_memory() -> None:
    """A search through the states of a long design must not take the machine with it."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    room = max(2**31, int(MEMORY_SHARE * memory / (os.cpu_count() or 1)))
    resource.setrlimit(resource.RLIMIT_AS, (room, resource.getrlimit(resource.RLIMIT_AS)[1]))


def main() -> None:
    """Answer the task in the current folder."""
    _limit_memory()
    folder = Path()
    task = json.loads((folder / "task.json").read_text())
    deadline = time.monotonic() + task["seconds"]
    # here, so that what loading them takes counts against the limit of memory, and the time
    from scnas.equiv import counts, described, generators, lanes, machine, neuron
    from scnas.equiv.composition import inference

    kinds = {
        "neuron": neuron.neuron,
        "counts": counts.counts,
        "generator": generators.generator,
        "encoder": generators.encoder,
        "lanes": lanes.lanes,
        "composition": inference.composition,
    }
    described.register_all(task.get("models", ()))
    try:
        status, detail = kinds[task["kind"]](task, folder, deadline)
    except TimeoutError as error:
        status, detail = "unknown", str(error) or "time ran out"
    except MemoryError:
        status, detail = "unknown", "its share of the memory ran out"
    except machine.NotUnderstood as error:
        status, detail = "unknown", f"the prover does not understand the design: {error}"
    except machine.YosysFailed as error:
        status, detail = "error", str(error)
    (folder / "answer.json").write_text(json.dumps({"status": status, "detail": detail}))


if __name__ == "__main__":
    main()

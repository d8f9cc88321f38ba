"""Scripts for SymbiYosys, and what its endings mean."""

import re
from collections.abc import Sequence
from pathlib import Path

from scnas.contract import Refused
from scnas.equiv.miter import Hidden, miter_script
from scnas.processes import Finished


def generate_sby(
    top_name: str,
    verilog_files: Sequence[str | Path],
    depth: int = 30,
    engine: str = "smtbmc bitwuzla",
    mode: str = "prove",
    *,
    timeout_s: int | None = None,
    hidden: Hidden | None = None,
) -> str:
    """A SymbiYosys script for the miter `top_name`.

    mode: `prove` (unbounded, k-induction with up to `depth` steps), `bmc` (the first `depth` clocks) or
    `cover` (reach every cover within `depth`). verilog_files: names as seen from the folder of the script.
    Raises ValueError for another mode or a depth below 1.
    """
    if mode not in ("prove", "bmc", "cover"):
        raise Refused(f"mode must be prove, bmc or cover, got {mode!r}")
    if depth < 1:
        raise Refused(f"depth must be at least 1, got {depth}")
    names = [str(name) for name in verilog_files]
    options = [f"mode {mode}", f"depth {depth}"] + ([f"timeout {timeout_s}"] if timeout_s else [])
    # abc writes its counterexample through a solver; the default, yices, is not on PyPI.
    options += ["aigsmt bitwuzla"] if engine.startswith(("abc", "aiger")) else []
    script = miter_script(top_name, [Path(name).name for name in names], hidden or Hidden())
    parts = {"options": options, "engines": [engine], "script": script, "files": names}
    return "\n\n".join(f"[{name}]\n" + "\n".join(lines) for name, lines in parts.items()) + "\n"


def verdict(finished: Finished) -> str:
    """`passed`, `refuted`, `unknown` or `error`, from how SymbiYosys ended: two of its codes decide.

    The line DONE must say the same: a tool that stops with 0 or 2 for another reason has decided nothing.
    """
    done = re.findall(r"DONE \((\w+), rc=(\d+)\)", finished.output)
    if finished.code is None:
        return "unknown"
    match (finished.code, done[-1][0] if done else ""):
        case (0, "PASS"):
            return "passed"
        case (2, "FAIL"):
            return "refuted"
        case (4, "UNKNOWN") | (8, "TIMEOUT"):
            return "unknown"
    return "error"

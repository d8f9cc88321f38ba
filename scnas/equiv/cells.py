"""Two neurons, the same inputs: do they agree for ever? A miter, its proof scripts, and one answer."""

import re
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from scnas import resources
from scnas.contract import Refused
from scnas.equiv import tools, trace
from scnas.equiv.hidden import hidden_state
from scnas.equiv.miter import Hidden, generate_miter
from scnas.equiv.sby import generate_sby, verdict
from scnas.files import write_whole

STATUSES = ("proved", "bounded", "refuted", "unknown", "not_run", "error")
INDUCTION_DEPTH = 4  # steps of k-induction; the proofs of the cells need one


@dataclass(frozen=True)
class EquivResult:
    """What a proof said about `module`.

    status: `proved` (for all inputs, for ever), `bounded` (no counterexample within `depth` clocks),
    `refuted` (a counterexample: `trace` is its file, `table` its clocks), `unknown` (time ran out, or
    induction and bound both failed; `depth` is the clock reached), `not_run` (files written, or a tool is
    missing and `log` says what to install), `error` (a tool broke; `log` holds its last lines).
    depth: clocks. engine: as in the proof script. files: what was written. seconds: of the tools.
    """

    module: str
    status: str
    depth: int
    engine: str
    log: str
    reference: str = ""
    seconds: float = 0.0
    files: tuple[Path, ...] = ()
    trace: Path | None = None
    table: tuple[Mapping[str, int], ...] = ()

    def __post_init__(self) -> None:
        if self.status not in STATUSES:
            raise ValueError(f"status must be one of {', '.join(STATUSES)}, got {self.status!r}")

    @property
    def passed(self) -> bool | None:
        """True only for proved and bounded, False for refuted; None where there is no verdict."""
        return {"proved": True, "bounded": True, "refuted": False}.get(self.status)

    def replay(self, simulator: str | None = None) -> tuple[dict[str, int], ...]:
        """A refuted proof's trace played in a simulator: spikes and membranes of both in each of its clocks.

        simulator: `icarus` or `verilator`; any that is there if not given. Raises ValueError if there is no
        trace, FileNotFoundError without a simulator.
        """
        if not self.table or not self.files:
            raise Refused(f"{self.module}: {self.status}, there is no trace to replay")
        top = next(path.stem for path in self.files if path.stem.endswith("_miter"))
        return trace.replay(top, self.files, self.table, self.files[0].parent, simulator)

    def summary(self) -> str:
        """The verdict in one line; for a refuted one with the clocks that lead to the difference."""
        what = f"{self.module} against {self.reference}" if self.reference else self.module
        match self.status:
            case "proved":
                return f"{what}: PROVED for all inputs, for ever ({self.engine}, {self.seconds:.1f} s)"
            case "bounded":
                return (
                    f"{what}: no difference within {self.depth} clocks ({self.engine}, {self.seconds:.1f} s)"
                )
            case "refuted":
                return f"{what}: REFUTED ({self.engine})\n{trace.table_text(self.table)}".rstrip()
            case "not_run":
                return f"{what}: NOT RUN. {self.log}"
        last = " | ".join(line for line in self.log.splitlines()[-3:] if line.strip())
        return f"{what}: {self.status.upper()} at clock {self.depth} ({self.engine}). {last}".rstrip()


def check_equivalence(
    dut_verilog: str | Path = "sc_lif_neuron",
    ref_verilog: str | Path = "sc_lif_reference",
    depth: int = 30,
    run: bool = False,
    *,
    data_width: int = 16,
    fraction: int = 8,
    parameters: Mapping[str, int] | None = None,
    dut_parameters: Mapping[str, int] | None = None,
    noise_width: int | None = None,
    constants: Mapping[str, int] | None = None,
    engine: str = "smtbmc bitwuzla",
    mode: str = "prove",
    timeout_s: float = 120.0,
    folder: str | Path | None = None,
) -> EquivResult:
    """Do two neuron modules agree for all inputs?

    dut_verilog, ref_verilog: a cell of hdl/ or hdl/equiv/ by name, or a Verilog file whose module has the
    file's name. depth: clocks of the bound. run: False writes the proof files and says `not_run`.
    mode: `prove` tries induction first and, if that does not decide, the bound; `bmc` only the bound.
    constants: values of leak_k, gain_k, ... as in `generate_miter`; the others are free in every clock.
    timeout_s: for all tools together. folder: where the files go; a temporary one that stays if not given.
    Raises ValueError for a mode or name that cannot be; a file that is missing gives the status `error`.
    """
    if mode not in ("prove", "bmc"):
        raise Refused(f"mode must be prove or bmc, got {mode!r}")
    folder = Path(tempfile.mkdtemp(prefix="scnas-equiv-") if folder is None else folder)
    folder.mkdir(parents=True, exist_ok=True)
    dut, ref = Path(dut_verilog).stem, Path(ref_verilog).stem
    here = _Proof(dut, ref, engine, mode, depth, folder)
    sources = []
    for given in (dut_verilog, ref_verilog):
        path = find_source(given)
        if path is None:
            return here.result("error", f"{given}: no such file or cell")
        sources.append(Path(shutil.copy(path, folder / path.name)))
    settings: dict[str, Any] = {
        "dut_parameters": dut_parameters,
        "noise_width": noise_width,
        "constants": constants,
    }
    hidden = Hidden()
    if ref.startswith("sc_") and dut == ref.replace("_reference", "_neuron"):
        hidden = hidden_state(ref, parameters or {}, data_width, fraction, **settings)
    settings |= {"parameters": parameters, "hidden": hidden}
    miter = generate_miter(dut, ref, here.top, data_width, fraction, **settings)
    write_whole(folder / f"{here.top}.v", miter)
    names = [path.name for path in sources] + [f"{here.top}.v"]
    scripts = {}
    for kind in ("prove", "bmc", "cover"):
        steps = min(depth, INDUCTION_DEPTH) if kind == "prove" else depth
        scripts[kind] = folder / f"{here.top}_{kind}.sby"
        write_whole(scripts[kind], generate_sby(here.top, names, steps, engine, kind, hidden=hidden))
    here = replace(here, files=(*sources, folder / f"{here.top}.v", *scripts.values()))
    if not run:
        log = f"proof files are in {folder}; run=True, or sby {scripts['prove'].name} there, runs them"
        return here.result("not_run", log)
    if missing := tools.missing_tools():
        return here.result("not_run", missing)
    return _decide(here, scripts, timeout_s)


@dataclass(frozen=True)
class _Proof:
    """What is asked, where, and with which files."""

    dut: str
    ref: str
    engine: str
    mode: str
    depth: int
    folder: Path
    files: tuple[Path, ...] = ()

    @property
    def top(self) -> str:
        """The module of the miter."""
        return f"{self.dut}_miter"

    def result(self, status: str, log: str, depth: int = 0, seconds: float = 0.0) -> EquivResult:
        """The answer to it."""
        return EquivResult(self.dut, status, depth, self.engine, log, self.ref, seconds, self.files)


def _decide(here: _Proof, scripts: Mapping[str, Path], timeout_s: float) -> EquivResult:
    """Run the scripts one after another until one of them decides."""
    left, log = timeout_s, ""
    found = "unknown"
    reached = 0
    for kind in ("prove", "bmc") if here.mode == "prove" else ("bmc",):
        finished = tools.sby(scripts[kind].name, here.folder, left, kind)
        left -= finished.seconds
        log += finished.output
        found = verdict(finished)
        reached = max([reached, *map(int, re.findall(r"Checking assertions in step (\d+)", finished.output))])
        if found == "refuted":
            file = here.folder / kind / _trace_name(finished.output)
            found, why, table = _read_trace(file, here.top)
            result = here.result(found, log + why, len(table) - 1, timeout_s - left)
            return replace(result, trace=file, table=table)
        if found == "error":
            break
        if found == "passed":
            covered = tools.sby(scripts["cover"].name, here.folder, left, "cover")
            left -= covered.seconds
            log += covered.output
            fires = verdict(covered)
            # An unreached cover is no counterexample: equal, but neither was seen to fire.
            proved = "proved" if kind == "prove" else "bounded"
            found = {"passed": proved, "error": "error"}.get(fires, "unknown")
            if found == "unknown":
                log += f"\nequal, but no spike was reached within {here.depth} clocks"
            break
    clock = {"proved": 0, "bounded": here.depth}.get(found, reached)
    return here.result(found, log, clock, timeout_s - left)


def _read_trace(file: Path, top: str) -> tuple[str, str, tuple[dict[str, int], ...]]:
    """Status, what to add to the log, and the clocks of the trace of a refuted proof."""
    table = trace.read_vcd(file, top) if file.is_file() else ()
    if not table:
        return "error", "\nrefuted, but the trace cannot be read", table
    if not any(_differs(row) for row in table):
        return "unknown", "\nonly what is known of the inside is wrong: the ports are equal", table
    return "refuted", "", table


def _differs(row: Mapping[str, int]) -> bool:
    """Do the ports of the two neurons differ in a clock?"""
    return row["dut_spike"] != row["ref_spike"] or row["dut_v"] != row["ref_v"]


def _trace_name(output: str) -> str:
    found = re.findall(r"counterexample trace: \S*?/(engine_\d+/\S+\.vcd)", output)
    return found[0] if found else "engine_0/trace.vcd"


def find_source(name: str | Path) -> Path | None:
    """The file of a cell in hdl/ or hdl/equiv/, or `name` itself if it is a file."""
    hdl = resources.hdl()
    for path in (Path(name), hdl / f"{name}.v", hdl / "equiv" / f"{name}.v"):
        if path.suffix == ".v" and path.is_file():
            return path
    return None

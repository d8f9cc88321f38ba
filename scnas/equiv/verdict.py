"""Is a design its network? Every obligation proved on its own, in parallel, each with a time limit.

The obligations, and why they add up (module `composition` says how):

    neuron       every distinct neuron of the design does what the contract says, for ever
    counts       every neuron of a parallel layer adds exactly its synapses, for all spikes and all numbers
    lanes        so does the lane adder of a folded layer, for all weights, too
    generator    number generators and encoder follow their definitions over a full period
    composition  with these cut out, the top does one inference, layer by layer: every current, score and
                 the class, for every input, at every timing of the inputs, from any state
    simulation   not a proof: design and network agree on the test samples. Only where the composition was
                 not proved (a large design, whose time ran out), and the verdict is then `tested`
"""

import functools
import hashlib
import importlib.metadata
import json
import os
import shutil
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from scnas import processes, resources
from scnas.equiv import tools
from scnas.equiv.tasks import Task, tasks_of
from scnas.files import read_json, write_whole
from scnas.hardware.tools import foreign
from scnas.hardware.tools.cosimulation import CosimulationResult
from scnas.snn.network import Network

ENGINE = "bitwuzla"
# From the strongest to the weakest answer; what was refuted outweighs all others.
ORDER = ("proved", "bounded", "tested", "unknown", "not_run", "error", "refuted")
SCOPE = "every input, every timing of the inputs, every state before the start"


@dataclass(frozen=True)
class Obligation:
    """One thing that was to be proved. seconds: of its run. cached: earlier.

    status: as in EquivResult, or `tested`: the same on samples. `unknown` where time or memory ran out and
    where the prover does not understand the design; the detail says which.
    """

    name: str
    kind: str
    status: str
    detail: str = ""
    engine: str = ENGINE
    seconds: float = 0.0
    cached: bool = False


@dataclass(frozen=True)
class Verdict:
    """What the proofs say about a winner; `status` is the weakest of its obligations.

    A composition that could not be decided counts as `tested` where a simulation stands in for it.
    """

    obligations: tuple[Obligation, ...]
    seconds: float = 0.0

    @property
    def status(self) -> str:
        if not self.obligations:
            return "not_run"
        return max(map(self._counts_as, self.obligations), key=ORDER.index)

    def _counts_as(self, obligation: Obligation) -> str:
        open_ = obligation.kind == "composition" and obligation.status == "unknown"
        return "tested" if open_ and self._of("simulation") == "tested" else obligation.status

    def _of(self, kind: str) -> str | None:
        """The weakest status of the obligations of a kind, None without any."""
        found = [o.status for o in self.obligations if o.kind == kind]
        return max(found, key=ORDER.index) if found else None

    @property
    def passed(self) -> bool | None:
        """True only if everything was proved or bounded, False if something was refuted, else None."""
        return {"proved": True, "bounded": True, "refuted": False}.get(self.status)

    def summary(self) -> str:
        """One line; what is not proved comes first."""
        counts = {s: sum(o.status == s for o in self.obligations) for s in reversed(ORDER)}
        parts = ", ".join(f"{n} {status}" for status, n in counts.items() if n)
        worst = next((o for o in self.obligations if o.status == self.status and o.status != "proved"), None)
        why = f"; {worst.name}: {worst.detail}" if worst else ""
        word = "TESTED ONLY, not proved" if self.status == "tested" else self.status.upper()
        return f"proof {word}: {parts or 'nothing'} ({self.seconds:.1f} s of proofs){why}"

    def to_dict(self) -> dict:
        """The content of verdict.json."""
        return {
            "format": "scnas-verdict/1",
            "status": self.status,
            "passed": self.passed,
            "scope": SCOPE,
            "composition": self._of("simulation") or self._of("composition"),
            "seconds": round(self.seconds, 2),
            "obligations": [asdict(o) for o in self.obligations],
        }


def check_winner(
    folder: str | Path,
    *,
    timeout_s: float = 150.0,
    workers: int | None = None,
    cache: str | Path | None = None,
    report: Callable[[Obligation], None] | None = None,
    simulation: CosimulationResult | None = None,
) -> Verdict:
    """Prove that the design in `folder` (network.json, design.v and its cells) is its network.

    timeout_s: for each obligation. workers: processes at a time, all cores if not given. cache: folder of
    proofs by content; the user's cache folder if not given. report: called with each obligation as it ends.
    simulation: of this design on the test split; it stands in, as a test, for a composition whose time ran
    out, and refutes where it saw a difference. Ctrl-C ends all proofs at once.
    Writes verdict.json into `folder`. Raises ValueError without a readable network.json or a design.v that
    only describes logic.
    """
    folder = Path(folder)
    if not (folder / "network.json").is_file() and (folder / "winner" / "network.json").is_file():
        folder = folder / "winner"
    network = Network.load(folder / "network.json")
    sources = foreign.read_sources(folder)
    settings: dict[str, Any] = {"timeout_s": timeout_s, "workers": workers, "cache": cache}
    verdict = check_design(network, sources, **settings, report=report, simulation=simulation)
    write_whole(folder / "verdict.json", json.dumps(verdict.to_dict(), indent=1) + "\n")
    return verdict


def check_design(
    network: Network,
    sources: Mapping[str, str],
    *,
    timeout_s: float = 150.0,
    workers: int | None = None,
    cache: str | Path | None = None,
    report: Callable[[Obligation], None] | None = None,
    simulation: CosimulationResult | None = None,
) -> Verdict:
    """As `check_winner`, for sources in memory: file name -> text, `design.v` among them."""
    tasks = tasks_of(network, sources)
    if missing := tools.missing_tools(("pyosys", "bitwuzla")):
        return Verdict(
            tuple(Obligation(name, task["kind"], "not_run", missing) for name, task in tasks.items())
        )
    cache = Path(cache) if cache is not None else _default_cache()
    done: dict[str, Obligation] = {}
    # Long ones first, so that no core waits at the end for one that began late. The main thread waits in C
    # alone: Ctrl-C in a lock of an executor may leave it locked.
    todo: SimpleQueue[str] = SimpleQueue()
    answers: SimpleQueue[Obligation | BaseException] = SimpleQueue()
    for name in sorted(tasks, key=lambda name: tasks[name]["kind"] != "composition"):
        todo.put(name)
    stop = threading.Event()

    def work() -> None:
        try:
            while not stop.is_set():
                name = todo.get_nowait()
                answers.put(_settle(name, tasks[name], timeout_s, cache, stop))
        except Empty:
            return
        except BaseException as error:
            answers.put(error)

    threads = [threading.Thread(target=work, daemon=True) for _ in range(workers or os.cpu_count() or 1)]
    try:
        for thread in threads:
            thread.start()
        while len(done) < len(tasks):
            try:
                answer = answers.get(timeout=1.0)
            except Empty:  # hears a Ctrl-C that came in the moment before the wait, which it does not end
                continue
            if isinstance(answer, BaseException):
                raise answer
            done[answer.name] = answer
            if report is not None:
                report(answer)
    finally:  # Ctrl-C: what runs ends within moments, the others never begin
        stop.set()
        for thread in threads:
            if thread.ident is not None:
                thread.join(timeout=10)
    ordered = tuple(done[name] for name in tasks)
    ordered += _by_simulation(ordered, simulation)
    return Verdict(ordered, sum(o.seconds for o in ordered))


def _by_simulation(
    obligations: Sequence[Obligation], simulation: CosimulationResult | None
) -> tuple[Obligation, ...]:
    """What a simulation adds to the proofs: a stand-in for a composition that is open, or a refutation.

    Nothing where every composition was decided and the simulation saw no difference.
    """
    open_ = [o for o in obligations if o.kind == "composition" and o.status == "unknown"]
    if simulation is None or not (open_ or simulation.status == "failed"):
        return ()
    status = {"passed": "tested", "failed": "refuted"}.get(simulation.status, simulation.status)
    detail = simulation.summary()
    if open_:
        detail += f"; for every input it was not decided: {open_[0].detail}"
    name = f"whole inference, {simulation.samples} test samples (a test, no proof)"
    return (Obligation(name, "simulation", status, detail, simulation.simulator),)


def _default_cache() -> Path:
    """Where proofs are kept for all runs of a user."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "scnas" / "proofs"


@functools.cache
def _prover() -> str:
    """What a proof depends on besides its task: our own text and the versions of the tools."""
    root = resources.package()
    files = [
        *sorted((root / "equiv").rglob("*.py")),
        *(root / "snn" / name for name in ("streams.py", "network.py", "models.py", "derive.py")),
        root / "hardware" / "schedule.py",
        *sorted((root / "hardware" / "circuit").glob("*.py")),
    ]
    versions = [importlib.metadata.version(package) for package in ("pyosys", "bitwuzla")]
    return hashlib.sha256(repr([versions, *(f.read_text() for f in files)]).encode()).hexdigest()


def _settle(
    name: str, task: Task, seconds: float, cache: Path, stop: threading.Event | None = None
) -> Obligation:
    """The answer to one task, from the cache or from a process of its own."""
    key = hashlib.sha256(json.dumps([_prover(), task], sort_keys=True).encode()).hexdigest()
    stored = cache / f"{key}.json"
    if (known := _known(name, task, stored)) is not None:
        return known
    folder = Path(tempfile.mkdtemp(prefix="scnas-proof-"))
    try:
        (folder / "task.json").write_text(json.dumps(task | {"seconds": seconds}))
        root = str(resources.checkout())
        code = f"import sys; sys.path.insert(0, {root!r}); from scnas.equiv.worker import main; main()"
        environment = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        ended = processes.run([sys.executable, "-P", "-c", code], folder, seconds + 20, environment, stop)
        answer = folder / "answer.json"
        if ended.code is None:
            found = {"status": "unknown", "detail": "time ran out"}
        elif ended.code != 0 or not answer.is_file():
            last = " | ".join(ended.last(3))
            found = {"status": "error", "detail": f"the prover ended with {ended.code}: {last}"}
        else:
            found = json.loads(answer.read_text())
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    took = round(ended.seconds, 2)
    if found["status"] in ("proved", "refuted"):
        cache.mkdir(parents=True, exist_ok=True)
        write_whole(stored, json.dumps(found | {"seconds": took}) + "\n")
    return Obligation(name, task["kind"], found["status"], found["detail"], ENGINE, took)


def _known(name: str, task: Task, stored: Path) -> Obligation | None:
    """The answer that an earlier run kept in the file `stored`; None, and no file, where it is damaged."""
    if not stored.is_file():
        return None
    try:
        known: Any = read_json(stored)
        return Obligation(
            name, task["kind"], known["status"], known["detail"], ENGINE, known["seconds"], True
        )
    except (ValueError, KeyError, TypeError):
        stored.unlink(missing_ok=True)
        return None

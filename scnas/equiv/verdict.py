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
import re
import shutil
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from queue import Empty, SimpleQueue

import numpy as np

from scnas import processes, resources
from scnas.contract import Refused
from scnas.equiv import derived, tools
from scnas.equiv.described import descriptions
from scnas.files import read_json, write_whole
from scnas.hardware.circuit import derived as circuit
from scnas.hardware.circuit.cells import cell_constants, cell_of, first_state
from scnas.hardware.circuit.folded import ending
from scnas.hardware.circuit.signal import noise_bounds
from scnas.hardware.tools import foreign
from scnas.hardware.tools.cosimulation import CosimulationResult
from scnas.snn.models import model_of
from scnas.snn.network import Layer, Network

ENGINE = "bitwuzla"
SYNAPSES_PER_TASK = 400  # of one obligation about counts; beyond 100 a neuron takes a quarter of a minute
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
    verdict = check_design(
        network, sources, timeout_s=timeout_s, workers=workers, cache=cache, report=report,
        simulation=simulation,
    )  # fmt: skip
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
    tasks = obligations(network, sources)
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
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "scnas" / "proofs"


@functools.cache
def _prover() -> str:
    """What a proof depends on besides its task: our own text and the versions of the tools."""
    root = resources.package()
    files = [
        *sorted((root / "equiv").glob("*.py")),
        *(root / "snn" / name for name in ("streams.py", "network.py")),
        root / "hardware" / "schedule.py",
        *sorted((root / "hardware" / "circuit").glob("*.py")),
    ]
    versions = [importlib.metadata.version(package) for package in ("pyosys", "bitwuzla")]
    return hashlib.sha256(repr([versions, *(f.read_text() for f in files)]).encode()).hexdigest()


def _settle(
    name: str, task: dict, seconds: float, cache: Path, stop: threading.Event | None = None
) -> Obligation:
    """The answer to one task, from the cache or from a process of its own."""
    key = hashlib.sha256(json.dumps([_prover(), task], sort_keys=True).encode()).hexdigest()
    stored = cache / f"{key}.json"
    if stored.is_file():
        try:
            known = read_json(stored)
            return Obligation(
                name, task["kind"], known["status"], known["detail"], ENGINE, known["seconds"], True
            )
        except (ValueError, KeyError, TypeError):
            stored.unlink(missing_ok=True)
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
    seconds = round(ended.seconds, 2)
    if found["status"] in ("proved", "refuted"):
        cache.mkdir(parents=True, exist_ok=True)
        write_whole(stored, json.dumps(found | {"seconds": seconds}) + "\n")
    return Obligation(name, task["kind"], found["status"], found["detail"], ENGINE, seconds)


# --- what is to be proved ----------------------------------------------------------------------------------


def obligations(network: Network, sources: Mapping[str, str]) -> dict[str, dict]:
    """Name -> task of everything that makes this design its network."""
    tasks: dict[str, dict] = {}
    text = sources["design.v"]
    for number, layer in enumerate(network.layers):
        if layer.mapping == "parallel":
            tasks |= _counts(number, layer, text)
        else:
            for unit in range(layer.units):
                which = f" of unit {unit}" if layer.units > 1 else ""
                tasks[f"layer {number}: lane sum of {layer.lanes} lanes{which}"] = {
                    "kind": "lanes", "layer": number, "unit": unit, "network": network.to_dict(),
                    "sources": dict(sources),
                }  # fmt: skip
        if network.fires(number):
            tasks |= _neurons(number, layer, network, sources)
        tasks |= _generators(layer, network.fires(number), sources)
    if network.encoder == "rate" and network.timesteps > 1:
        encoder = (resources.hdl() / "sc_rate_encoder.v").read_text()
        steps = network.timesteps.bit_length() - 1
        tasks[f"rate encoder, {network.timesteps} steps"] = {
            "kind": "encoder", "steps_log2": steps, "sources": {"sc_rate_encoder.v": encoder},
        }  # fmt: skip
    last = len(network.layers) - 1
    for number in range(len(network.layers)):
        what = ["steps in, "] * (number == 0) + ["every step"] + [", scores and class"] * (number == last)
        tasks[f"layer {number}: {''.join(what)}"] = {
            "kind": "composition", "layer": number, "network": network.to_dict(), "sources": dict(sources),
        }  # fmt: skip
    if models := descriptions(network):
        tasks = {name: task | {"models": models} for name, task in tasks.items()}
    return tasks


def module_text(text: str, name: str) -> str:
    """The text of module `name`; "" if it is not there."""
    found = re.search(rf"^module {name} \(.*?^endmodule", text, re.DOTALL | re.MULTILINE)
    return found[0] if found else ""


def _counts(number: int, layer: Layer, text: str) -> dict[str, dict]:
    from scnas.equiv.composition import tap_order

    name = f"scnas_layer{number}_counts"
    taps = {pair: bit for bit, pair in enumerate(tap_order(layer))}
    tasks = {}
    largest = max(1, int(np.count_nonzero(layer.weights, axis=0).max()))
    size = max(1, SYNAPSES_PER_TASK // largest) if largest <= 100 else 1
    for start in range(0, layer.n_out, size):
        group = range(start, min(start + size, layer.n_out))
        weights = {
            str(j): [
                [taps[int(i), int(layer.delays[i, j])], int(layer.weights[i, j])]
                for i in np.flatnonzero(layer.weights[:, j])
            ]
            for j in group
        }
        tasks[f"layer {number}: counts of neurons {group[0]} to {group[-1]}"] = {
            "kind": "counts",
            "module": name,
            "sources": {"counts.v": module_text(text, name)},
            "n_taps": len(taps),
            "numbers": 256 if layer.generator == "lfsr" else layer.length,
            "weights": weights,
        }
    return tasks


def _instances(text: str, cell: str, name: str) -> dict[str, dict[str, int]]:
    """Instances of `cell` whose name matches `name` -> their parameters."""
    found = {}
    for match in re.finditer(rf"\b{cell} #\((.*?)\) ({name}) \(", text):
        values = re.findall(r"\.(\w+)\((-?\d+)\)", match[1])
        if ", ".join(f".{key}({value})" for key, value in values) != match[1]:
            raise Refused(f"design.v: the parameters of {match[2]} are no plain numbers: {match[1]:.120}")
        found[match[2]] = {key: int(value) for key, value in values}
    return found


def _neurons(number: int, layer: Layer, network: Network, sources: Mapping[str, str]) -> dict[str, dict]:
    """The distinct neurons of a layer: as they stand in the design, against what the network says."""
    if model_of(layer.neuron).cell is None:
        return _derived_neurons(number, layer, network, sources)
    k, W, F = layer.constants, network.word, network.fraction
    parallel = layer.mapping == "parallel"
    written = cell_of(layer.neuron)
    cell, reference, noisy = written.parallel, written.reference, "noise" in model_of(layer.neuron).names
    text, each = module_text(sources["design.v"], f"scnas_layer{number}"), layer.n_out // layer.units
    if parallel:
        instances = _instances(text, cell, r"neuron_\d+")
    else:
        datapaths = _instances(text, "sc_neuron_update", r"datapath\w*")
    tasks: dict[str, dict] = {}
    names: dict[str, list[int]] = {}
    for j in range(layer.n_out):
        threshold = int(layer.threshold[j])
        parameters = {
            "V_REST": k["v_rest"],
            "V_RESET": k["v_reset"],
            "V_THRESHOLD": threshold,
            "REFRACTORY_PERIOD": k["refractory"],
        } | {key.upper(): k[key] for key in cell_constants(layer.neuron)}
        if parallel:
            dut, there = cell, instances.get(f"neuron_{j}")
            files = {f"{cell}.v": sources.get(f"{cell}.v", "")}
        else:
            first = first_state(layer, network)
            start = {"V_START": first["v"], "EXTRA_START": first[written.extra] if written.extra else 0}
            dut = "sc_update_as_neuron"
            there = datapaths.get(f"datapath{ending(j // each)}")
            there = None if there is None else there | start | {"V_THRESHOLD": threshold}
            wrapper = (resources.hdl() / "equiv" / f"{dut}.v").read_text()
            files = {f"{dut}.v": wrapper, "sc_neuron_update.v": sources.get("sc_neuron_update.v", "")}
        if there is None:
            raise Refused(f"design.v: layer {number} has no {'neuron_' + str(j) if parallel else 'datapath'}")
        files[f"{reference}.v"] = (resources.hdl() / "equiv" / f"{reference}.v").read_text()
        constants = {"gain_k": k["gain_k"], "leak_k": k["leak_k"]}
        task = {
            "kind": "neuron", "dut": dut, "ref": reference, "data_width": W, "fraction": F,
            "parameters": parameters, "dut_parameters": there, "noise_width": there.get("NOISE_WIDTH", W),
            "constants": constants, "sources": files,
        }  # fmt: skip
        if noisy:
            task["noise_range"] = list(noise_bounds(layer, F))
        else:
            constants["noise_in"] = 0
        key = json.dumps(task, sort_keys=True)
        tasks.setdefault(key, task)
        names.setdefault(key, []).append(j)
    return {_neurons_name(number, layer, names[key]): task for key, task in tasks.items()}


def _neurons_name(number: int, layer: Layer, which: Sequence[int]) -> str:
    """The name of the task of some neurons of layer `number`."""
    some = ", ".join(map(str, which[:4])) + (", ..." if len(which) > 4 else "")
    return f"layer {number}: {layer.neuron} neuron ({len(which)} of {layer.n_out}: {some})"


def _derived_neurons(
    number: int, layer: Layer, network: Network, sources: Mapping[str, str]
) -> dict[str, dict]:
    """The distinct neurons of a layer whose circuit is derived: they differ in their thresholds alone."""
    modules = [circuit.update_name(number)]
    modules += [circuit.neuron_name(number)] if layer.mapping == "parallel" else []
    texts = {name: module_text(sources["design.v"], name) for name in modules}
    if missing := [name for name, text in texts.items() if not text]:
        raise Refused(f"design.v: layer {number} has no {missing[0]}")
    if layer.mapping == "parallel":
        wanted = [f"{circuit.neuron_name(number)} neuron_{j} (" for j in range(layer.n_out)]
    else:
        wanted = [f"{circuit.update_name(number)} datapath{ending(u)} (" for u in range(layer.units)]
    text = module_text(sources["design.v"], f"scnas_layer{number}")
    if missing := [name for name in wanted if name not in text]:
        raise Refused(f"design.v: layer {number} has no {missing[0].removesuffix(' (')}")
    design = "\n".join(texts.values()) + "\n"
    same: dict[int, list[int]] = {}
    for j, threshold in enumerate(layer.threshold.tolist()):
        same.setdefault(threshold, []).append(j)
    return {
        _neurons_name(number, layer, which): derived.task(number, layer, network, threshold, design)
        for threshold, which in same.items()
    }


def _generators(layer: Layer, fires: bool, sources: Mapping[str, str]) -> dict[str, dict]:
    tasks = {}
    settings = []
    if layer.generator == "lfsr":
        settings.append(("sc_lfsr", layer.seed))
    elif layer.length > 1:
        settings.append(("sc_sobol_counter", layer.length.bit_length() - 1))
    if "noise" in model_of(layer.neuron).names and fires:
        settings.append(("sc_lfsr", layer.noise_seed))
    for cell, setting in settings:
        text = sources.get(f"{cell}.v", "")
        task = {"kind": "generator", "cell": cell, "setting": setting, "sources": {f"{cell}.v": text}}
        tasks[f"{cell}, {'seed' if cell == 'sc_lfsr' else 'bits'} {setting}"] = task
    return tasks

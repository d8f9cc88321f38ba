"""How much faster is it to train a population as one network than its members one by one?

    python -m scnas job=benchmark

Every side trains the same architectures on the same data for the same epochs, batches and optimiser, in
a process of its own with one thread. The sides take turns, so that a busy machine is busy for all; what
counts is the least processor time of the repeats, and wall time is told beside it; on a GPU, which no other
side uses meanwhile, it is the least wall time. There two floors are told as well: how long the bytes that
the training moves and the operations that it does would take at the rates that the card is measured to
have. Peers lie in an environment of their own (`make peers`); one that is missing is said, never passed over.
"""

import csv
import io
import json
import math
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

import numpy as np
import torch

from scnas.contract import Refused, one_line
from scnas.files import write_whole
from scnas.randomness import rng
from scnas.settings.schema import Benchmark
from scnas.snn import training
from scnas.snn.budget import Budget
from scnas.snn.reference.synapses import full_float32
from scnas.snn.streams import rate_encode
from scnas.space import Architecture, SearchSpace
from scnas.tasks import Task
from scnas.tasks.digits import digits

OURS = "scnas"
REFERENCE = "SpikingJelly"  # the peer that the goals are set against
# Times SpikingJelly by type of device; a CPU with one thread each.
GOALS = {"cpu": {"uniform": 20.0, "ragged": 6.0}, "cuda": {"uniform": 100.0}}
FLOOR_GOAL = {"uniform": 5.0}  # times the larger floor, on a GPU
WIDTHS = (8, 16, 32, 64, 128, 256)
_SCRIPT = Path(__file__).with_name("peers.py")
# One thread, whatever reads which of them.
_ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"), "1"
)


# -- what is trained ----------------------------------------------------------------------------


def uniform(size: int, timesteps: int) -> list[Architecture]:
    """64-64-10 lif networks that differ in the lengths of their streams alone; at most 64."""
    lengths = (2, 4, 8, 16, 32, 64, 128, 256)
    pairs = [(a, b) for a in lengths for b in lengths]
    return [
        Architecture(64, (64, 10), ("lif", "lif"), pair, (0, 0), timesteps=timesteps) for pair in pairs[:size]
    ]


def ragged(size: int, timesteps: int) -> list[Architecture]:
    """1 to 3 hidden layers of 8 to 256 neurons, any model, L 4 to 256, delays to 4; sobol, no pruning."""
    space = SearchSpace(
        64,
        10,
        2,
        4,
        width_choices=WIDTHS,
        L_choices=(4, 8, 16, 32, 64, 128, 256),
        delay_choices=(0, 1, 2, 3, 4),
        density_choices=(1.0,),
        generator_choices=("sobol",),
        mapping_choices=("parallel",),
        timesteps_choices=(timesteps,),
        word_choices=(16,),
    )
    dice, found = rng(0, "benchmark"), {}
    while len(found) < size:
        found.setdefault(space.random_architecture(dice).training_key)
    return list(found)


POPULATIONS = {"uniform": uniform, "ragged": ragged}


def for_peers(architectures: Sequence[Architecture]) -> list[dict]:
    """The networks as peers.py takes them: what it has no cheap form of is left out."""
    return [
        {
            "widths": [a.n_inputs, *a.layer_widths],
            "leaks": [model != "if" for model in a.neuron_types[:-1]],
        }
        for a in architectures
    ]


def sampled(architectures: Sequence[Architecture], sample: int) -> list[Architecture]:
    """`sample` of them, evenly spread over the number of synapses; all of them if there are no more."""
    if sample >= len(architectures):
        return list(architectures)
    order = sorted(architectures, key=lambda a: (a.total_params, a.name))
    return [order[int((i + 0.5) * len(order) / sample)] for i in range(sample)]


# -- sides --------------------------------------------------------------------------------------


class Side:
    """A process that trains on request, one JSON line in, one out. versions: of its libraries.

    missing: why it cannot, or None. Use as a context manager; the process ends with it.
    """

    def __init__(self, name: str, command: Sequence[str | Path]):
        self.name = name
        self.missing: str | None = None
        self.versions: dict[str, str] = {}
        self._process: subprocess.Popen | None = None
        self._errors = tempfile.TemporaryFile("w+")
        try:
            self._process = subprocess.Popen(
                [str(word) for word in command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                text=True,
                env={**os.environ, **_ONE_THREAD},
            )
        except OSError as error:
            self.missing = f"{command[0]}: {error.strerror} (make peers)"
            return
        try:
            hello = self._read()
            self.missing, self.versions = hello.get("missing"), hello.get("versions", {})
        except (RuntimeError, ValueError, AttributeError) as error:  # a program, but not this one
            self._process.kill()
            self._process.wait()
            self.missing = f"{command[0]}: no answer as of a peer ({one_line(str(error))}; make peers)"

    def ask(self, request: dict) -> dict:
        """The answer to a request; RuntimeError with the end of its stderr if the process broke."""
        assert self._process is not None and self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # _read tells why
        return self._read()

    def _read(self) -> dict:
        assert self._process is not None and self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._process.wait()
            self._errors.seek(0)
            end = self._errors.read()[-2000:]
            raise RuntimeError(f"{self.name} ended with code {self._process.returncode}:\n{end}")
        return json.loads(line)

    def __enter__(self) -> "Side":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
        self._errors.close()


def answer(request: dict) -> dict:
    """Our side of peers.train: `population` named in the request, trained together."""
    task = digits()
    architectures = POPULATIONS[request["population"]](request["size"], request["timesteps"])
    budget = Budget(
        epochs=request["epochs"], batch_size=request["batch_size"], learning_rate=request["learning_rate"]
    )
    wall, processor = time.perf_counter(), time.process_time()
    results = training.train_population(architectures, task, budget, seed=0, device=request["device"])
    seconds, used = time.perf_counter() - wall, time.process_time() - processor
    return {
        "seconds": seconds,
        "processor_seconds": used,
        "accuracy": [r.validation_accuracy for r in results if r.failed is None],
        "failed": [r.failed for r in results if r.failed is not None],
    }


# -- the comparison -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Measured:
    """One side on one population. networks: how many it trained; seconds are of all of them, one entry for
    every repeat; per_network: least processor seconds of a repeat divided by networks, on a GPU wall. longer:
    of ours on a GPU, wall seconds with twice the epochs."""

    population: str
    side: str
    networks: int
    seconds: tuple[float, ...]
    processor_seconds: tuple[float, ...]
    accuracy: float
    failed: int
    device: str = "cpu"
    longer: tuple[float, ...] = ()

    @property
    def clock(self) -> str:
        return "processor" if self.device == "cpu" else "wall"

    @property
    def counted(self) -> tuple[float, ...]:
        """Seconds of each repeat by the clock that counts."""
        return self.processor_seconds if self.device == "cpu" else self.seconds

    @property
    def per_network(self) -> float:
        return min(self.counted) / self.networks


def compare(
    names: Sequence[str],
    python: Path,
    size: int,
    sample: int,
    timesteps: int,
    epochs: int,
    batch_size: int,
    learning_rate: dict[str, float],
    repeats: int,
    say: Callable[[str], None] = print,
    device: str = "cpu",
) -> tuple[list[Measured], dict[str, str], dict[str, dict[str, str]]]:
    """All sides on all populations in turns.

    names: of peers. python: the interpreter that has them. sample: networks of a population that a peer
    trains; ours always trains all. learning_rate: of "ours" and "peers". returns what was measured, why
    sides are missing, and versions by side.
    """
    task = digits()
    measured, missing = [], {}
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data.npz"
        _write_data(task, timesteps, data)
        commands = {OURS: [sys.executable, "-m", "scnas.benchmark"]}
        commands |= {name: [python, _SCRIPT, name] for name in names}
        versions = {}
        for population, make in POPULATIONS.items():
            architectures = make(size, timesteps)
            picked = for_peers(sampled(architectures, sample))
            requests, answers, longer = {}, {}, []
            sides: dict[str, Side] = {}
            try:
                for name, command in commands.items():
                    side = Side(name, command)
                    sides[name], answers[name] = side, []
                    if side.missing:
                        missing[name] = side.missing
                        side.__exit__(None, None, None)
                        del sides[name]
                if names and not sides.keys() - {OURS}:  # nothing to compare ours with
                    return [], missing, {}
                for name, side in sides.items():
                    versions[name] = side.versions
                    shared = {"epochs": epochs, "batch_size": batch_size, "device": device}
                    mine = {"population": population, "size": size, "timesteps": timesteps}
                    theirs = {"data": str(data), "networks": picked}
                    ours = name == OURS
                    requests[name] = shared | (mine if ours else theirs)
                    requests[name]["learning_rate"] = learning_rate["ours" if ours else "peers"]
                    # Loads, compiles and touches what a first training needs; not counted.
                    side.ask(requests[name] | {"epochs": 1} | ({} if ours else {"networks": picked[:2]}))
                for repeat in range(repeats):
                    for name, side in sides.items():
                        answers[name].append(side.ask(requests[name]))
                        clock = "processor_seconds" if device == "cpu" else "seconds"
                        seconds = answers[name][-1][clock]
                        say(f"{population}, repeat {repeat + 1} of {repeats}: {name} {seconds:.1f} s")
                        if name == OURS and device == "cuda":
                            longer.append(side.ask(requests[name] | {"epochs": 2 * epochs})["seconds"])
            finally:
                for side in sides.values():
                    side.__exit__(None, None, None)
            for name in sides:
                rows = answers[name]
                measured.append(
                    Measured(
                        population,
                        name,
                        len(architectures) if name == OURS else len(picked),
                        tuple(a["seconds"] for a in rows),
                        tuple(a["processor_seconds"] for a in rows),
                        float(np.mean(rows[0]["accuracy"])),
                        len(rows[0].get("failed", [])),
                        device,
                        tuple(longer) if name == OURS else (),
                    )
                )
    return measured, missing, versions


def _write_data(task: Task, timesteps: int, path: Path) -> None:
    splits = {"train": task.train, "validation": task.validation}
    np.savez(
        path,
        **{f"{name}_x": rate_encode(split.x, timesteps) for name, split in splits.items()},
        **{f"{name}_y": split.y for name, split in splits.items()},
    )


def table(measured: Sequence[Measured]) -> str:
    """Markdown: what each side took and reached, and how many times longer than ours."""
    clock = "processor" if not measured else measured[0].clock
    lines = [
        f"| population | side | networks | {clock} s per network | wall s per network | times ours "
        "| accuracy | failed |",
        "|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    ours = {m.population: m for m in measured if m.side == OURS}
    for m in measured:
        ratio = m.per_network / ours[m.population].per_network
        lines.append(
            f"| {m.population} | {m.side} | {m.networks} | {m.per_network:.4f} "
            f"| {min(m.seconds) / m.networks:.4f} | {ratio:.1f} | {m.accuracy:.3f} | {m.failed} |"
        )
    return "\n".join(lines)


def verdicts(measured: Sequence[Measured]) -> list[str]:
    """For each goal one line: reached or missed, and by how much; from least and median time."""
    found = {(m.population, m.side): m for m in measured}
    lines = []
    for population, goal in GOALS["cpu" if not measured else measured[0].device].items():
        ours, theirs = found.get((population, OURS)), found.get((population, REFERENCE))
        if ours is None or theirs is None:
            lines.append(f"{population}: not measured against {REFERENCE}")
            continue
        least = theirs.per_network / ours.per_network
        middle = (np.median(theirs.counted) / theirs.networks) / (np.median(ours.counted) / ours.networks)
        word = "reached" if least >= goal else f"missed by {goal / least:.2f} times"
        lines.append(
            f"{population}: {least:.1f} times {REFERENCE} by least {ours.clock} time, {middle:.1f} by the "
            f"median; goal {goal:g}: {word}"
        )
    return lines


# -- floors: what the card allows ---------------------------------------------------------------


class Cost(NamedTuple):
    """Of one training: bytes moved to and from the memory of the card, and operations (a product and a sum
    are two), those that may be done in bfloat16 and those in float32."""

    bytes: int
    bf16: int
    float32: int


class Rates(NamedTuple):
    """What a card reaches, a second: bytes copied (read and written), operations of large products."""

    bytes: float
    bf16: float
    float32: float


def training_cost(
    architectures: Sequence[Architecture], train: int, validation: int, epochs: int, batch_size: int
) -> Cost:
    """The least that training these networks takes as products and scans of whole layers, without padding.

    train, validation: samples; after the epochs both are evaluated. A tensor is written once, and read once
    by each product or scan that needs it; spikes, currents and gradients have four bytes, what a scan
    remembers four, of neurons that adapt eight, an entry of a matrix two where bfloat16 holds it. A layer
    that is fused (fusion.fuses) has no currents in memory. Where those of a last layer are summed up at
    once (synapses.sums_up), nothing of it is there for every step: spikes before it are read once, and their
    gradient is one for all steps. A synapse belongs to one delay going forward and to all of them in the
    gradient of its delay. Steps of neurons are not counted as operations.
    """
    from scnas.snn.fusion import fuses
    from scnas.snn.reference.synapses import Kind, exact_in_bf16, sums_up

    steps = epochs * math.ceil(train / batch_size)
    seen, shown = epochs * train, train + validation  # samples learned from, samples evaluated
    moved = bf16 = float32 = 0
    for a in architectures:
        learned, last = any(a.delay_ranges), a.n_layers - 1
        summed = not a.fires(last) and sums_up(
            a.generators[last], a.layer_sizes[last][0], a.timesteps, a.fraction, a.word
        )
        for i, ((n_in, n_out), d) in enumerate(zip(a.layer_sizes, a.delay_ranges, strict=True)):
            synapses, fires, deep = n_in * n_out, a.fires(i), i > 0
            at_once = summed and i == last
            times = 1 if at_once else a.timesteps
            forward = 2 * times * synapses * (seen + shown)
            if exact_in_bf16(a.bitstream_lengths[i]):
                bf16 += forward
            else:
                float32 += forward
            float32 += 2 * times * synapses * seen * (d + 1 + deep)
            kind = Kind(a.generators[i], exact_in_bf16(a.bitstream_lengths[i]))
            current = 0 if fires and fuses(kind, n_in, n_out, a.delay_ranges[i], not deep) else 4
            remembered = 8 if a.neuron_types[i] == "homeostatic_lif" else 4
            # Forward: currents written and read, spikes written, and read by the next layer or the readout.
            ahead = 2 * current + (4 + 4) * fires
            # Back: gradients of spikes and of currents written and read, currents, spikes and what the scan
            # remembers read; gradients of currents once more for those of the spikes before.
            to_spikes = 0 if summed and i == last - 1 else 4 + 4 + 4
            back = 4 + 4 + 4 * deep + (to_spikes + current + 2 * remembered) * fires
            if not at_once:
                moved += a.timesteps * n_out * (seen * (ahead + back) + shown * ahead)
            # Weights, their gradients, both moments; and delays, which have the same.
            moved += steps * synapses * (4 + 8 + 16 + 8 + 1) * (1 + learned)
            entry = 2 if exact_in_bf16(a.bitstream_lengths[i]) else 4
            streams = a.timesteps if a.generators[i] == "lfsr" else 1
            moved += steps * synapses * streams * 2 * entry
    first = architectures[0]
    moved += 4 * first.timesteps * first.n_inputs * (2 * seen + shown)  # the input, once for all
    return Cost(moved, bf16, float32)


def card_rates() -> Rates:
    """Measured on the CUDA device: the best of ten."""

    def best(run: Callable[[], object]) -> float:
        least = math.inf
        for _ in range(12):  # the first two load what they need
            torch.cuda.synchronize()
            started = time.perf_counter()
            run()
            torch.cuda.synchronize()
            least = min(least, time.perf_counter() - started)
        return least

    source = torch.zeros(2**28, device="cuda")
    target = torch.empty_like(source)
    copied = 2 * 4 * 2**28 / best(lambda: target.copy_(source))
    n = 8192
    a, b = (torch.randn(n, n, device="cuda") for _ in range(2))
    halves = a.to(torch.bfloat16), b.to(torch.bfloat16)
    with full_float32():
        whole = 2 * n**3 / best(lambda: a @ b)
    narrow = 2 * n**3 / best(lambda: torch.mm(*halves, out_dtype=torch.float32))
    return Rates(copied, narrow, whole)


def floor_seconds(cost: Cost, rates: Rates) -> tuple[float, float]:
    """How long the bytes and how long the operations of a training take at least."""
    return cost.bytes / rates.bytes, cost.bf16 / rates.bf16 + cost.float32 / rates.float32


def floors(
    measured: Sequence[Measured], costs: dict[str, tuple[Cost, Cost]], rates: Rates, epochs: int
) -> list[str]:
    """For each population of ours both floors, what was measured, and whether the goal was reached; and what
    each epoch beyond `epochs` takes, in which nothing is set up, recorded or evaluated. costs: of the
    training, and of an epoch more."""
    lines = [
        f"card: {rates.bytes / 1e12:.2f} TB/s copied, {rates.bf16 / 1e12:.1f} TFLOP/s in bfloat16, "
        f"{rates.float32 / 1e12:.1f} in float32"
    ]
    for m in measured:
        if m.side != OURS:
            continue
        cost, further = costs[m.population]
        by_bytes, by_operations = floor_seconds(cost, rates)
        ratio = min(m.seconds) / max(by_bytes, by_operations)
        goal = FLOOR_GOAL.get(m.population)
        word = (
            ""
            if goal is None
            else f"; goal {goal:g}: "
            + ("reached" if ratio <= goal else f"missed by {ratio / goal:.2f} times")
        )
        lines.append(
            f"{m.population}: floors {by_bytes:.4f} s for {cost.bytes / 1e9:.2f} GB and "
            f"{by_operations:.4f} s for {(cost.bf16 + cost.float32) / 1e12:.3f} TFLOP; measured "
            f"{min(m.seconds):.4f} s, {ratio:.1f} times the larger{word}"
        )
        if m.longer:
            seconds = (min(m.longer) - min(m.seconds)) / epochs
            lines.append(
                f"{m.population}: an epoch more takes {1e3 * seconds:.2f} ms, "
                f"{seconds / max(floor_seconds(further, rates)):.1f} times its larger floor"
            )
    return lines


# -- curves: how cost grows ---------------------------------------------------------------------


def curves(populations: Sequence[int], say: Callable[[str], None] = print, device: str = "cpu") -> list[dict]:
    """Processor seconds of ours, on a GPU wall seconds, along one axis at a time, from 64 networks 64-64-10,
    T = 16, delay 0.

    Rows: axis, value, networks, seconds and networks per second, of one epoch of digits in batches of 128.
    """
    task, rows = digits(), []

    def base(width: int = 64, timesteps: int = 16, delay: int = 0) -> Architecture:
        return Architecture(64, (width, 10), ("lif",) * 2, (16, 16), (delay, 0), timesteps=timesteps)

    cases = [("population", p, base(), p) for p in populations]
    cases += [("width", w, base(width=w), 8) for w in (8, 16, 32, 64, 128, 256)]
    cases += [("timesteps", t, base(timesteps=t), 8) for t in (1, 2, 4, 8, 16, 32, 64)]
    cases += [("delay", d, base(delay=d), 8) for d in (0, 1, 2, 4, 8)]
    budget = Budget(epochs=1, batch_size=128)
    for axis, value, architecture, count in cases:
        group = [architecture] * count
        least = math.inf
        for _ in range(3 if count <= 256 else 1):
            clock = time.process_time if device == "cpu" else time.perf_counter
            started = clock()
            training.train_group(group, task, budget, 0, device)
            least = min(least, clock() - started)
        rows.append(
            {"axis": axis, "value": value, "networks": count, "seconds": least, "per_second": count / least}
        )
        say(f"{axis} {value}: {count / least:.1f} networks and epochs a second")
    return rows


def plot(rows: Sequence[dict], path: Path) -> None:
    """Networks trained a second along each axis, as a PNG."""
    from matplotlib.figure import Figure  # takes most of a second to load; only to draw

    axes = list(dict.fromkeys(row["axis"] for row in rows))
    figure = Figure(figsize=(4 * len(axes), 3.2), layout="constrained")
    for place, axis in zip(figure.subplots(1, len(axes)), axes, strict=True):
        own = [row for row in rows if row["axis"] == axis]
        place.plot([row["value"] for row in own], [row["per_second"] for row in own], "o-")
        place.set(xlabel=axis, ylim=(0, None))
        if axis != "delay":
            place.set_xscale("log", base=2)
    figure.axes[0].set_ylabel("networks and epochs a second")
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=110)
    write_whole(path, image.getvalue())


# -- the job --------------------------------------------------------------------------------------


def benchmark(
    settings: Benchmark, folder: Path, say: Callable[[str], None] = print, device: str = "cpu"
) -> list[str]:
    """Compare and draw the curves on one device; returns lines for the terminal, of cuda with both floors.

    Leaves benchmark.csv, benchmark.json (versions, machine, what is missing) and curves.csv and .png in
    `folder`. Raises ValueError where not one peer is there.
    """
    rates = {"ours": settings.learning_rate, "peers": settings.peers_learning_rate}
    measured, missing, versions = compare(
        settings.peers,
        Path(settings.python),
        settings.population,
        settings.sample,
        settings.timesteps,
        settings.epochs,
        settings.batch_size,
        rates,
        settings.repeats,
        say,
        device,
    )
    if settings.peers and len(missing) == len(settings.peers):
        raise Refused(
            f"benchmark.python must be an interpreter with the peers (make peers), got {settings.python}: "
            f"{next(iter(missing.values()))}"
        )
    folder.mkdir(parents=True, exist_ok=True)
    facts = {
        "settings": asdict(settings),
        "versions": versions,
        "missing": missing,
        "processor": _processor(),
        "system": platform.platform(),
        "load": os.getloadavg(),
    }
    lines = [table(measured), *verdicts(measured)]
    if device == "cuda":
        task, card = digits(), card_rates()
        costs = {}
        for name, make in POPULATIONS.items():
            made = make(settings.population, settings.timesteps)
            sizes = len(task.train.y), len(task.validation.y)
            here, more = (
                training_cost(made, *sizes, settings.epochs + i, settings.batch_size) for i in (0, 1)
            )
            costs[name] = here, Cost(*(b - a for a, b in zip(here, more, strict=True)))
        facts |= {
            "card": torch.cuda.get_device_name(),
            "rates": card._asdict(),
            "costs": {name: cost._asdict() for name, (cost, _) in costs.items()},
        }
        lines += floors(measured, costs, card, settings.epochs)
    write_whole(folder / "benchmark.json", json.dumps(facts, indent=1) + "\n")
    rows = [asdict(m) | {"per_network": m.per_network} for m in measured]
    write_whole(folder / "benchmark.csv", _csv(rows))
    lines += [f"{name} is missing and was not measured: {why}" for name, why in missing.items()]
    if settings.curve:
        rows = curves([2**i for i in range(settings.curve.bit_length())], say, device)
        write_whole(folder / "curves.csv", _csv(rows))
        plot(rows, folder / "curves.png")
    return [*lines, f"{folder}/benchmark.csv"]


def _csv(rows: Sequence[dict]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    for row in rows:
        plain = {k: " ".join(f"{x:.4f}" for x in v) if isinstance(v, tuple) else v for k, v in row.items()}
        writer.writerow({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in plain.items()})
    return text.getvalue()


def _processor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("model name")]
    return f"{names[0]}, {len(names)} cores" if names else platform.processor()


def main() -> None:
    """Our side as a process that answers like peers.py."""
    answers, sys.stdout = sys.stdout, sys.stderr
    torch.set_num_threads(1)
    print(json.dumps({"versions": {"torch": torch.__version__}}), file=answers, flush=True)
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), file=answers, flush=True)


if __name__ == "__main__":
    main()

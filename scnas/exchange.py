"""Networks to and from NIR, the neuromorphic intermediate representation: bring your SNN, get its FPGA.

    python -m scnas.exchange export outputs/.../winner/network.json winner.nir
    python -m scnas.exchange import trained.nir folder --dt 1e-4 --timesteps 16 --target ecp5_25k

NIR describes a network in continuous time (Pedersen et al. 2024, "Neuromorphic intermediate representation:
a unified instruction set for interoperable brain-inspired computing"). Here a step is one forward Euler step
of `dt` seconds, a spike is an input of 1 during one step, and a membrane starts at v_leak (0 for IF):

    LIF      v' = v + dt/tau (v_leak - v) + R dt/tau I     leak = dt/tau, gain = R dt/tau
    IF       v' = v + R dt I                               gain = R dt
    CubaLIF  as LIF with w_in I, where tau_syn = dt: the current of a step is gone in the next
    fires where v' > v_threshold, and then v' = v_reset

What NIR has no word for (generators, stream lengths, mapping, bits) travels as metadata of the graph; all
that it has a word for is read from its nodes. The letters M, F, W, L, T are those of the contract.
"""

import argparse
import io
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np

from scnas import genes
from scnas.contract import (
    ENCODERS,
    FRACTION_RANGE,
    LANES,
    MAPPINGS,
    MAX_SYNAPSES,
    TIMESTEPS,
    WORD_RANGE,
    OneOf,
    Refused,
    check_fields,
    one_line,
    short,
    stream_length,
)
from scnas.files import write_whole
from scnas.hardware import targets
from scnas.hardware.cost.price import measure
from scnas.hardware.tools import synthesis
from scnas.snn.models import CONSTANTS
from scnas.snn.network import Layer, Network
from scnas.snn.streams import max_weight

if TYPE_CHECKING:
    import nir

KEY = "scnas"  # of our part of a graph's metadata
OF_NETWORK = ("timesteps", "encoder", "fraction", "word")  # what it holds of a network
DT = 1e-3  # seconds of a step in what is exported
SPIKING = ("LIF", "IF", "CubaLIF")
WEIGHTS = ("Linear", "Affine")


@dataclass(frozen=True)
class Loss:
    """One thing that an import could not keep exactly. error: the largest, in the unit `what` names."""

    where: str
    what: str
    error: float


@dataclass(frozen=True)
class Imported:
    """A network, and what was lost on the way to it; nothing was where `losses` is empty. notes: what a
    user has to know, such as an added input."""

    network: Network
    losses: tuple[Loss, ...]
    notes: tuple[str, ...]

    def lines(self) -> list[str]:
        """What was lost and what to know, a line each."""
        told = [f"{loss.where}: {loss.what} off by at most {loss.error:.3g}" for loss in self.losses]
        return [*(told or ["nothing was lost"]), *self.notes]


def _nir() -> Any:
    try:
        import nir
    except ImportError:
        raise Refused("NIR files need the package nir: pip install 'scnas[exchange]'") from None
    return nir


# -- export -----------------------------------------------------------------------------------------


def to_nir(network: Network, dt: float = DT) -> "nir.NIRGraph":
    """The NIR graph of `network`: weights w / M, one branch with a Delay node for each delay in use.

    A threshold lies half a unit of Q(F) below ours, between the last membrane that does not fire and the
    first that does. Thresholds and weights of an `lfsr` layer are those of its mean stream. ValueError where
    NIR has no such neuron.
    """
    nir = _nir()
    one = 2**network.fraction
    nodes = {"input": nir.Input(input_type=np.array([network.n_inputs]))}
    edges, source = [], "input"
    for i, layer in enumerate(network.layers):
        fires = network.fires(i)
        target = f"neurons_{i}" if fires else "output"
        for d in layer.delays_in_use or (0,):
            name = f"synapses_{i}" + (f"_delay_{d}" if d else "")
            weights = np.where(layer.delays == d, layer.weights, 0) / layer.max_weight
            nodes[name] = nir.Linear(weight=weights.T.copy())
            if d:
                nodes[f"delay_{i}_{d}"] = nir.Delay(delay=np.full(layer.n_in, d * dt))
                edges += [(source, f"delay_{i}_{d}"), (f"delay_{i}_{d}", name)]
            else:
                edges.append((source, name))
            edges.append((name, target))
        if fires:
            nodes[target] = _neurons(nir, layer, f"layers[{i}]", one, dt)
            source = target
    nodes["output"] = nir.Output(output_type=np.array([network.n_classes]))
    if network.readout == "spikes":
        edges.append((source, "output"))
    said = {
        **{name: getattr(network, name) for name in OF_NETWORK},
        "dt": dt,
        "layers": [{name: getattr(layer, name) for name in _of_layer()} for layer in network.layers],
    }
    return nir.NIRGraph(nodes=nodes, edges=edges, metadata={KEY: json.dumps(said)})


def _of_layer() -> tuple[str, ...]:
    """Fields of a Layer that NIR has no word for: its genes but for the neuron, and its seeds."""
    own = [gene.stored for gene in genes.of_layer() if gene.stored not in ("", "neuron")]
    return (*own, "seed", "noise_seed")


def _neurons(nir: Any, layer: Layer, where: str, one: int, dt: float) -> "nir.NIRNode":
    k = layer.constants
    if layer.neuron not in ("lif", "if"):
        raise Refused(f"{where}.neuron must be lif or if, which NIR knows, got {layer.neuron}")
    if k["refractory"]:
        raise Refused(f"{where}.constants.refractory must be 0, NIR has no such thing, got {k['refractory']}")
    full = np.ones(layer.n_out)
    threshold = (layer.threshold - 0.5) / one
    if layer.neuron == "if":
        if k["v_rest"]:
            raise Refused(f"{where}.constants.v_rest must be 0 for IF of NIR, got {k['v_rest']}")
        return nir.IF(
            r=k["gain_k"] / one / dt * full, v_threshold=threshold, v_reset=k["v_reset"] / one * full
        )
    if k["leak_k"] <= 0:
        raise Refused(f"{where}.constants.leak_k must be above 0 for LIF of NIR, got {k['leak_k']}")
    return nir.LIF(
        tau=dt * one / k["leak_k"] * full, r=k["gain_k"] / k["leak_k"] * full,
        v_leak=k["v_rest"] / one * full, v_threshold=threshold, v_reset=k["v_reset"] / one * full,
    )  # fmt: skip


# -- import -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Choices:
    """What NIR leaves open. dt: seconds of a step, None to read it from a graph of ours. timesteps: T.
    encoder, length, fraction, word, mapping, lanes: as in a network; streams are `sobol`. ValueError naming
    what is out of range."""

    dt: float | None = None
    timesteps: Annotated[int, TIMESTEPS] = 16
    encoder: Annotated[str, OneOf(ENCODERS)] = "events"
    length: int = 16
    fraction: Annotated[int, FRACTION_RANGE] = 8
    word: Annotated[int, WORD_RANGE] = 16
    mapping: Annotated[str, OneOf(MAPPINGS)] = "parallel"
    lanes: Annotated[int, LANES] = 16

    def __post_init__(self) -> None:
        check_fields("", self)


def from_nir(graph: "nir.NIRGraph", choices: Choices = Choices()) -> Imported:
    """The network of a feed-forward graph of Linear or Affine, Delay, and LIF, IF or CubaLIF nodes.

    A last layer of weights alone, or an integrator I behind it, becomes the `membrane` readout, one of
    neurons the `spikes` readout. Weights are rounded to M steps of the largest of their layer; what every
    rounding costs is in the result. A bias becomes the weight of an added neuron of the layer before that
    fires in every step, or of an added input. ValueError, one line naming the node, where a graph has no
    counterpart: recurrence, several time constants in a layer, a synapse with two delays, other nodes.
    """
    said = _metadata(graph)
    if said is not None:
        known = {name: said[name] for name in OF_NETWORK}
        choices = Choices(
            **{**asdict(choices), **known, "dt": said["dt"] if choices.dt is None else choices.dt}
        )
    dt = choices.dt
    if not isinstance(dt, int | float) or isinstance(dt, bool) or not 1e-30 <= dt <= 1e30:
        raise Refused(
            f"dt must be the seconds of a step, above 0: NIR is in continuous time, got {short(dt)}"
        )
    stages = _stages(graph)
    if said is not None and len(said["layers"]) != len(stages):
        raise Refused(f"metadata {KEY} must describe {len(stages)} layers, got {len(said['layers'])}")
    losses: list[Loss] = []
    notes: list[str] = []
    layers: list[Layer] = []
    for i, stage in enumerate(stages):
        own = None if said is None else said["layers"][i]
        layers.append(_layer(stage, i, choices, own, losses))
        if stage.bias is not None:
            if i == 0:
                notes.append(
                    f"{stage.name}: the bias is the weight of an added last input, which is 1 in every step"
                )
            else:
                layers[i - 1] = _with_clock(layers[i - 1], choices)
                notes.append(
                    f"{stage.name}: the bias is the weight of an added neuron that fires in every step"
                )
    readout = "spikes" if stages[-1].neurons is not None else "membrane"
    network = Network(
        n_inputs=layers[0].weights.shape[0], timesteps=choices.timesteps, encoder=choices.encoder,
        fraction=choices.fraction, word=choices.word, readout=readout, layers=tuple(layers),
    )  # fmt: skip
    half = 2 ** (choices.word - 1 - choices.fraction)
    for i, layer in enumerate(network.layers):
        largest = np.abs(layer.weights).sum(0).max() / layer.max_weight
        if largest >= half:
            notes.append(f"{stages[i].name}: a current may reach {largest:.3g} and saturates at {half}")
    return Imported(network, tuple(losses), tuple(notes))


@dataclass(frozen=True)
class _Stage:
    """Weights into one layer of neurons. weights: [n_in, n_out] real. delays: [n_in, n_out] seconds.
    bias: [n_out], None where all are 0. neurons: the node, None where the sums are the output."""

    name: str
    weights: np.ndarray
    delays: np.ndarray
    bias: np.ndarray | None
    neurons: "nir.NIRNode | None"


def _metadata(graph: "nir.NIRGraph") -> dict | None:
    raw = graph.metadata.get(KEY)
    if raw is None:
        return None
    try:
        said = json.loads(raw.decode() if isinstance(raw, bytes) else raw)
        layers = [dict(layer) for layer in said["layers"]]
        for layer in layers:
            for gene in genes.of_layer():
                if gene.stored and not gene.always_drawn:
                    layer.setdefault(gene.stored, gene.default)  # as older versions wrote it
            if set(layer) != set(_of_layer()):
                raise KeyError("layers")
        return {name: said[name] for name in (*OF_NETWORK, "dt")} | {"layers": layers}
    except (ValueError, TypeError, KeyError, AttributeError):
        raise Refused(f"metadata {KEY} of the graph is not what scnas writes") from None


def _kind(node: object) -> str:
    return type(node).__name__


def _stages(graph: "nir.NIRGraph") -> list[_Stage]:
    """The layers of a feed-forward graph, input side first."""
    after: dict[str, list[str]] = {name: [] for name in graph.nodes}
    for a, b in graph.edges:
        after[a].append(b)
    starts = [name for name, node in graph.nodes.items() if _kind(node) == "Input"]
    if len(starts) != 1:
        raise Refused(f"the graph must have one Input, got {len(starts)}")
    for name, node in graph.nodes.items():
        allowed = (*SPIKING, *WEIGHTS, "Input", "Output", "Delay", "Flatten", "I")
        if _kind(node) not in allowed:
            raise Refused(f"node {name} must be one of {', '.join(allowed)}, got {_kind(node)}")
    here, seen, stages = starts[0], set(), []
    n_in = int(np.prod(graph.nodes[here].input_type["input"]))
    while True:
        if here in seen:
            raise Refused(f"the graph must be feed-forward, got a loop through {here}")
        seen.add(here)
        ways = [_way(graph, after, name) for name in after[here]]
        ends = {way[2] for way in ways}
        if ways and all(way[1] is None for way in ways):  # straight into the output
            break
        if len(ends) != 1 or any(way[1] is None for way in ways):
            raise Refused(
                f"all that leaves {here} must be weights into one node, got {', '.join(sorted(ends))}"
            )
        (end,) = ends
        stages.append(_merged(graph, n_in, ways, end))
        n_in = stages[-1].weights.shape[1]
        if _kind(graph.nodes[end]) not in SPIKING:
            break
        here = end
    if not stages:
        raise Refused("the graph must have weights between Input and Output")
    return stages


def _way(
    graph: "nir.NIRGraph", after: Mapping[str, Sequence[str]], name: str
) -> tuple[np.ndarray, str | None, str]:
    """From node `name` on: delays in seconds, the node of the weights (None: there is none), and the node
    that ends the way."""
    delay, weights = np.zeros(1), None
    for _ in range(len(graph.nodes)):
        node = graph.nodes[name]
        if _kind(node) in (*SPIKING, "Output", "I"):
            return delay, weights, name
        if _kind(node) == "Delay":
            if weights is not None:
                raise Refused(f"delay {name} must come before the weights, got it behind {weights}")
            delay = delay + np.asarray(node.delay, dtype=np.float64).ravel()
        elif _kind(node) in WEIGHTS:
            if weights is not None:
                raise Refused(f"neurons must lie between {weights} and {name}")
            weights = name
        if len(after[name]) != 1:
            raise Refused(f"node {name} must lead to one node, got {len(after[name])}")
        name = after[name][0]
    raise Refused(f"the graph must be feed-forward, got a loop through {name}")


def _merged(graph: "nir.NIRGraph", n_in: int, ways: list, end: str) -> _Stage:
    name = ways[0][1]
    n_out = graph.nodes[name].weight.shape[0]
    total, delays, bias = np.zeros((n_in, n_out)), np.zeros((n_in, n_out)), np.zeros(n_out)
    if n_in * n_out > MAX_SYNAPSES:
        raise Refused(f"node {name} must have at most {MAX_SYNAPSES} weights, got {n_in * n_out}")
    for delay, weights, _ in ways:
        matrix = np.asarray(graph.nodes[weights].weight, dtype=np.float64)
        if matrix.shape != (n_out, n_in):
            raise Refused(
                f"node {weights} must have weights of shape {[n_out, n_in]}, got {list(matrix.shape)}"
            )
        if not np.isfinite(matrix).all():
            raise Refused(f"node {weights} must have finite weights")
        if len(delay) not in (1, n_in) or not (np.isfinite(delay).all() and (delay >= 0).all()):
            raise Refused(f"the delays before {weights} must be one or {n_in} numbers of 0 or more")
        used = matrix.T != 0
        if (used & (total != 0)).any():
            i, j = np.argwhere(used & (total != 0))[0]
            raise Refused(f"synapse {i} -> {j} of {weights} must have one delay, got two")
        total += matrix.T
        delays = np.where(used, np.broadcast_to(delay, n_in)[:, None], delays)
        if _kind(graph.nodes[weights]) == "Affine":
            bias += np.asarray(graph.nodes[weights].bias, dtype=np.float64).ravel()
    node = graph.nodes[end]
    if _kind(node) == "I" and not (np.ptp(node.r) == 0 and np.min(node.r) > 0):
        raise Refused(f"node {end} must have one r above 0, so that it changes no class")
    return _Stage(name, total, delays, bias if bias.any() else None, node if _kind(node) in SPIKING else None)


def _one(node: str, name: str, values: np.ndarray) -> float:
    """The value that all neurons of a layer share; ValueError where they differ."""
    values = np.asarray(values, dtype=np.float64).ravel()
    if not np.isfinite(values).all() or np.ptp(values) > 1e-9 * max(1e-30, np.abs(values).max()):
        raise Refused(
            f"{node}: {name} must be finite and the same for all neurons of a layer, "
            f"got {values.min():g}..{values.max():g}"
        )
    return float(values[0])


def _above_0(node: str, name: str, values: np.ndarray) -> float:
    value = _one(node, name, values)
    if value <= 0:
        raise Refused(f"{node}: {name} must be above 0, got {value:g}")
    return value


def _layer(stage: _Stage, index: int, c: Choices, own: dict | None, losses: list[Loss]) -> Layer:
    one, half = 2**c.fraction, 2 ** (c.word - 1)
    length = stream_length("length", own["length"] if own else c.length, c.fraction)
    generator = own["generator"] if own else "sobol"
    top = max_weight(generator, length)
    weights, node = stage.weights, stage.neurons
    if stage.bias is not None:
        weights = np.vstack([weights, stage.bias])
    dt = c.dt
    assert dt is not None  # from_nir asks for it
    leak, pull = 0.0, np.ones(weights.shape[1])  # pull: what a current adds to the membrane of a neuron
    if node is not None:
        kind = _kind(node)
        resistance = np.asarray(node.r, dtype=np.float64).ravel()
        if kind == "IF":
            pull = resistance * dt
        else:
            leak = dt / _above_0(stage.name, "tau", node.tau if kind == "LIF" else node.tau_mem)
            pull = resistance * leak
        if kind == "CubaLIF":
            gone = dt / _above_0(stage.name, "tau_syn", node.tau_syn)
            if abs(gone - 1) > 1e-6:
                raise Refused(
                    f"{stage.name}: tau_syn must be dt = {dt:g}, since a current lasts one step, "
                    f"got {dt / gone:g}"
                )
            pull = pull * np.asarray(node.w_in, dtype=np.float64).ravel()
    if not np.isfinite(pull).all():
        raise Refused(f"{stage.name}: what a current adds to a membrane must be finite")
    shared = float(np.abs(pull).max())  # neurons of one layer share their gain; the rest goes into weights
    weights = weights * (pull / shared if shared else pull)
    scale = 1.0 if own else float(np.abs(weights).max()) or 1.0
    signed = np.rint(weights / scale * top).astype(np.int64)
    if np.abs(signed).max(initial=0) > top:
        raise Refused(
            f"{stage.name}: weights must lie in -1..1 in a graph of scnas, got {np.abs(weights).max():g}"
        )

    def note(what: str, error: float, least: float = 1e-9) -> None:
        if error > least:
            losses.append(Loss(stage.name, what, float(error)))

    note("weights, as a share of the largest,", np.abs(signed / top - weights / scale).max())
    steps = stage.delays / c.dt
    rounded = np.rint(steps).astype(np.int64)
    note("delays, in steps,", np.abs(rounded - steps).max(), 1e-6)
    if stage.bias is not None:
        rounded = np.vstack([rounded, np.zeros_like(rounded[:1])])

    constants = dict.fromkeys(CONSTANTS, 0)
    threshold = np.zeros(weights.shape[1], np.int64)
    neuron = "lif"
    if node is not None:
        neuron = "if" if _kind(node) == "IF" else "lif"
        wanted = {"gain_k": shared * scale}
        if neuron == "lif":
            wanted |= {"leak_k": leak, "v_rest": _one(stage.name, "v_leak", node.v_leak)}
        wanted["v_reset"] = _one(stage.name, "v_reset", node.v_reset)
        for name, value in wanted.items():
            if not -half - 0.5 <= value * one < half - 0.5:  # nor is it NaN
                raise Refused(f"{stage.name}: {name} must fit {c.word} bits, got {value:g}")
            constants[name] = round(value * one)
            note(
                f"{name.removesuffix('_k')}, as a share of it,",
                abs(constants[name] / one - value) / (abs(value) or 1),
            )
        # the first number above the threshold: only that fires in either arithmetic
        limits = np.asarray(node.v_threshold, dtype=np.float64).ravel()
        if not np.isfinite(limits).all() or np.abs(limits * one).max() >= half - 1:
            raise Refused(f"{stage.name}: v_threshold must be finite and fit {c.word} bits")
        threshold = np.floor(limits * one).astype(np.int64) + 1
    mapping = own["mapping"] if own else c.mapping
    lanes = own["lanes"] if own else min(c.lanes, len(signed)) if mapping == "folded" else 0
    return Layer(
        neuron=neuron, generator=generator, length=length, seed=own["seed"] if own else 1 + index,
        noise_seed=own["noise_seed"] if own else 1 + index, mapping=mapping, lanes=lanes, weights=signed,
        delays=np.where(signed != 0, rounded, 0), threshold=threshold, constants=constants,
        units=own["units"] if own else 1,
    )  # fmt: skip


def _with_clock(layer: Layer, c: Choices) -> Layer:
    """`layer` with one neuron more, which no input reaches and no membrane is too low to fire, and as many of
    its units as share out the neurons then."""
    nothing = np.zeros((len(layer.weights), 1), np.int64)
    return Layer(
        **{**layer.__dict__, "weights": np.hstack([layer.weights, nothing]),
           "delays": np.hstack([layer.delays, nothing]),
           "threshold": np.append(layer.threshold, -(2 ** (c.word - 1))),
           "units": genes.dividing(layer.n_out + 1, layer.units)}
    )  # fmt: skip


# -- files ------------------------------------------------------------------------------------------


def save(network: Network, path: str | Path) -> None:
    """Write the NIR file of `network`; ValueError where NIR has no such neuron."""
    buffer = io.BytesIO()
    _nir().write(buffer, to_nir(network))
    write_whole(path, buffer.getvalue())


def load(path: str | Path, choices: Choices = Choices()) -> Imported:
    """The network in a NIR file; ValueError, one line with the file's name, where it holds none."""
    nir, path = _nir(), Path(path)
    if not path.is_file():
        raise Refused(f"{path}: no such file")
    try:
        graph = nir.read(path)
    except Exception as error:  # h5py and nir raise whatever they meet
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        raise Refused(f"{path}: not a NIR graph ({reason})") from None
    if not isinstance(graph, nir.NIRGraph):
        raise Refused(f"{path}: must hold a NIRGraph, got {_kind(graph)}")
    try:
        return from_nir(graph, choices)
    except ValueError as error:
        raise Refused(f"{path}: {error}") from None
    except (TypeError, ArithmeticError, LookupError, AttributeError) as error:  # values of other kinds in it
        raise Refused(f"{path}: not a network ({type(error).__name__}: {one_line(str(error))})") from None


def build(imported: Imported, target: str, folder: str | Path) -> list[str]:
    """Leave network.json, design.v with its cells, and import.json in `folder`; what was lost and what it
    costs on `target`, a line each."""
    folder, chip = Path(folder), targets.target(target)
    folder.mkdir(parents=True, exist_ok=True)
    network = imported.network
    price = measure(network, chip)
    network.save(folder / "network.json")
    design = synthesis.design_for(network, chip)
    design.write(folder)
    report = {
        "target": chip.name,
        "losses": [asdict(loss) for loss in imported.losses],
        "notes": list(imported.notes),
        "modelled": price._asdict(),
    }
    write_whole(folder / "import.json", json.dumps(report, indent=1) + "\n")
    return [
        *imported.lines(),
        f"{chip.title}, modelled: {price.luts:,} of {chip.luts:,} {chip.lut_unit}s, {price.ffs:,} FFs, "
        f"{price.brams} of {chip.brams} BRAMs; {design.latency_clocks:,} clocks an inference",
        f"{folder}: network.json, design.v, {len(design.cells)} cells, import.json",
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m scnas.exchange", description="Networks to and from NIR.")
    jobs = parser.add_subparsers(dest="job", required=True)
    export = jobs.add_parser("export", help="network.json to a NIR file")
    export.add_argument("network")
    export.add_argument("file")
    take = jobs.add_parser("import", help="a NIR file to network.json, its cost and its Verilog")
    take.add_argument("file")
    take.add_argument("folder")
    take.add_argument("--target", default="ecp5_25k")
    take.add_argument("--dt", type=float, help="seconds of a step; a file of scnas names its own")
    take.add_argument("--timesteps", type=int, default=16)
    take.add_argument("--encoder", default="events", help="events or rate")
    take.add_argument("--length", type=int, default=16, help="clocks of a bitstream")
    take.add_argument("--fraction", type=int, default=8)
    take.add_argument("--word", type=int, default=16)
    take.add_argument("--mapping", default="parallel", choices=MAPPINGS)
    take.add_argument("--lanes", type=int, default=16)
    given = vars(parser.parse_args(arguments))
    try:
        if given["job"] == "export":
            save(Network.load(given["network"]), given["file"])
            print(f"{given['file']}: written")
            return 0
        choices = Choices(**{name: given[name] for name in Choices.__dataclass_fields__})
        for line in build(load(given["file"], choices), given["target"], given["folder"]):
            print(line)
        return 0
    except ValueError as error:
        told = str(error)
    except OSError as error:
        told = f"{error.filename}: {error.strerror}"
    print(f"scnas.exchange: {told}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())

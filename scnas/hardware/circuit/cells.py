"""What the hand-written cells in hdl/ take of a neuron's description."""

from scnas.contract import Refused
from scnas.snn import derive
from scnas.snn.models import COMMON, Cell, Format, model_of
from scnas.snn.network import Layer, Network


def first_state(layer: Layer, network: Network) -> dict[str, int]:
    """The words of a neuron of this layer before step 0."""
    whole = derive.Whole(Format(network.word, network.fraction))
    return derive.first_state(model_of(layer.neuron), layer.constants, whole)


def state_fields(layer: Layer, network: Network) -> list[tuple[str, int, int]]:
    """What a folded layer keeps of a neuron, refractory steps left out: name, bits, value before step 0.

    A cell's further word is its `extra`; those of a derived datapath are word0 and so on.
    """
    model, first = model_of(layer.neuron), first_state(layer, network)
    kept = [word.name for word in model.words] if model.cell is None else [model.cell.extra]
    names = [f"word{i}" for i in range(len(kept))] if model.cell is None else ["extra"]
    fields = [(field, network.word, first[word]) for field, word in zip(names, kept, strict=True) if word]
    return [("v", network.word, first["v"]), *fields]


def state_ports(neuron: str) -> tuple[str, ...]:
    """The inputs of a datapath of a folded layer that are state; its outputs end in _next."""
    model = model_of(neuron)
    words = ("extra",) if model.cell is not None else tuple(word.name for word in model.words)
    return ("v", *words, "waiting")


def first_ports(layer: Layer, network: Network) -> dict[str, int]:
    """Those that are kept from step to step, each with its value before step 0."""
    values = [start for _, _, start in state_fields(layer, network)]
    kept = dict(zip(state_ports(layer.neuron), values, strict=False))
    return kept | ({"waiting": 0} if layer.constants["refractory"] else {})


def cell_of(neuron: str) -> Cell:
    """The hand-written Verilog of a model; Refused for one that has none."""
    cell = model_of(neuron).cell
    if cell is None:
        raise Refused(f"neuron must be one with a cell in hdl/, got {neuron!r}")
    return cell


def cell_constants(neuron: str) -> tuple[str, ...]:
    """Constants that are parameters of this cell alone."""
    common = {*COMMON, "leak_k", "gain_k", "noise_k"}
    model = model_of(neuron)
    return tuple(k for k in derive.constants_of(model) if k in derive.used_constants(model) - common)

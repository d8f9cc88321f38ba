"""What the hand-written cells in hdl/ take of a neuron's description."""

from scnas.contract import Refused
from scnas.snn import derive
from scnas.snn.models import COMMON, Cell, Format, model_of
from scnas.snn.network import Layer, Network


def first_state(layer: Layer, network: Network) -> dict[str, int]:
    """The words of a neuron of this layer before step 0."""
    whole = derive.Whole(Format(network.word, network.fraction))
    return derive.first_state(model_of(layer.neuron), layer.constants, whole)


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

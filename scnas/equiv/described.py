"""Descriptions of neurons that are not the package's own, as JSON.

A proof runs in a process of its own, which has never seen them, and is stored by what it depends on.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from scnas.contract import Refused
from scnas.snn.models import MODELS, Format, Model, Node, Start, Word, model_of, register
from scnas.snn.network import Network


def descriptions(network: Network) -> list[dict[str, Any]]:
    """Of the neurons of `network` that have no cell in hdl/."""
    models = (model_of(neuron) for neuron in dict.fromkeys(layer.neuron for layer in network.layers))
    return [_described(model) for model in models if model.cell is None]


def register_all(described: Sequence[Mapping[str, Any]]) -> None:
    """Make the models of `descriptions` known here; one that is known already stays."""
    for data in described:
        if data["name"] not in MODELS:
            register(_model(data))


def _described(model: Model) -> dict[str, Any]:
    words = [[word.name, _plain(word.start), _plain(word.update)] for word in model.words]
    parts = {key: _plain(getattr(model, key)) for key in ("charge", "limit", "first")}
    return {"name": model.name, "words": words, "constants": list(model.constants), **parts}


def _model(data: Mapping[str, Any]) -> Model:
    words = tuple(Word(name, _node(start), _node(update)) for name, start, update in data["words"])
    charge, limit, first = (_node(data[key]) for key in ("charge", "limit", "first"))
    constants = tuple(data["constants"])
    return Model(data["name"], charge, _untrained, limit, first, words, constants)


def _untrained(q: Format) -> Start:
    raise Refused("a neuron that a proof was told of has nothing to begin a training with")


def _plain(node: Node) -> list[Any]:
    """An expression as lists of its operator and what it is applied to."""
    return [node.op, *(_plain(arg) if isinstance(arg, Node) else arg for arg in node.args)]


def _node(data: Sequence[Any]) -> Node:
    return Node(data[0], tuple(_node(arg) if isinstance(arg, list) else arg for arg in data[1:]))

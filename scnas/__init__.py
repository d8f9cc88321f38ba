"""scnas: hardware-aware architecture search for stochastic-computing spiking neural networks.

    space = scnas.SearchSpace(n_inputs=64, n_outputs=10)
    result = scnas.nas(space, target="ice40", population_size=24, generations=10)
    print(result.summary())

Names are loaded when they are first used, so that `import scnas` does not wait for torch.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from scnas.evaluation import Evaluation
    from scnas.hardware.cost.price import Cost, estimate, estimate_many, measure
    from scnas.hardware.targets import Target, target
    from scnas.search.evaluation import NothingFitsError
    from scnas.search.nas import NASResult, nas
    from scnas.snn.budget import Budget
    from scnas.snn.module import IntegerNetwork, load_network
    from scnas.snn.network import Layer, Network
    from scnas.snn.training import Trained, train_population
    from scnas.space import Architecture, SearchSpace
    from scnas.tasks import Split, Task

_HOME = {
    "Architecture": "scnas.space",
    "Budget": "scnas.snn.budget",
    "Cost": "scnas.hardware.cost.price",
    "Evaluation": "scnas.evaluation",
    "IntegerNetwork": "scnas.snn.module",
    "Layer": "scnas.snn.network",
    "NASResult": "scnas.search.nas",
    "Network": "scnas.snn.network",
    "NothingFitsError": "scnas.search.evaluation",
    "SearchSpace": "scnas.space",
    "Split": "scnas.tasks",
    "Target": "scnas.hardware.targets",
    "Task": "scnas.tasks",
    "Trained": "scnas.snn.training",
    "estimate": "scnas.hardware.cost.price",
    "estimate_many": "scnas.hardware.cost.price",
    "load_network": "scnas.snn.module",
    "measure": "scnas.hardware.cost.price",
    "nas": "scnas.search.nas",
    "target": "scnas.hardware.targets",
    "train_population": "scnas.snn.training",
}
__all__ = [
    "Architecture", "Budget", "Cost", "Evaluation", "IntegerNetwork", "Layer", "NASResult", "Network",
    "NothingFitsError", "SearchSpace", "Split", "Target", "Task", "Trained", "estimate", "estimate_many",
    "load_network", "measure", "nas", "target", "train_population",
]  # fmt: skip


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

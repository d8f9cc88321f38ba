"""What a training depends on, and the key under which its group is kept."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from functools import cache
from importlib.metadata import version

import numpy as np

from scnas import plugins, resources
from scnas.snn.budget import Budget
from scnas.space import Architecture
from scnas.tasks import Task


def fingerprint(task: Task) -> str:
    """SHA-256 of what a training sees of a task: its kind, and its training and validation data."""
    digest = hashlib.sha256(repr((task.encoder, task.n_inputs, task.n_classes, task.timesteps)).encode())
    for x, y in (task.train, task.validation):
        for array in (x, y):
            digest.update(repr((array.shape, array.dtype.str)).encode())
            digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def training_code() -> dict[str, str]:
    """What decides the floats of a training besides its inputs: our code, the packages under it, plugins."""
    return _own_code() | plugins.code()


@cache
def _own_code() -> dict[str, str]:
    deciding = ("snn", "randomness.py", "genes.py", "space.py", "contract.py")
    code = resources.digest(file for name in deciding for file in resources.python_files(name))
    return {"scnas.snn": code[:16]} | {p: version(p) for p in ("torch", "numpy", "numba")}


def key_of(group: Sequence[Architecture], seed: int, budget: Budget, data: str) -> str:
    """SHA-256 of everything that the trainings of a group depend on but the kind of device: a network has the
    accuracy it was found to have wherever it was trained. data: the fingerprint() of the task."""
    what = {
        "task": data,
        "code": training_code(),
        "seed": seed,
        "budget": asdict(budget),
        "members": [a.training_key.to_dict() for a in group],
    }
    return hashlib.sha256(exact_json(what).encode()).hexdigest()


def exact_json(value: object) -> str:
    """Compact JSON in which floats come back as they were; ValueError for NaN and infinity."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False, default=_plain)


def _plain(value: object) -> object:
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} does not go into an archive")

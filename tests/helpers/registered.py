"""What tests register is gone after them: chips, tasks, neurons, plugins, and what Hydra knows of them."""

import copy
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from hydra.core.config_store import ConfigStore

from scnas import contract, plugins, tasks
from scnas.hardware.targets import chip, family
from scnas.snn import models


@contextmanager
def as_before() -> Iterator[None]:
    """On leaving, every registry is as it was on entering."""
    registries: tuple[dict, ...] = (
        family._FAMILIES, chip._TARGETS, tasks._FAMILIES, models.MODELS, plugins._LOADED, plugins._FAILED,
    )  # fmt: skip
    neurons = list(contract.NEURONS)
    before = [dict(registry) for registry in registries]
    store, modules = ConfigStore.instance(), set(sys.modules)
    offered = copy.copy(store.repo)
    groups = {name: dict(store.repo[name]) for name in ("target", "task") if name in store.repo}
    try:
        yield
    finally:
        for registry, entries in zip(registries, before, strict=True):
            registry.clear()
            registry.update(entries)
        contract.NEURONS._names[:] = neurons
        store.repo = offered | groups
        for name in set(sys.modules) - modules:
            if name.startswith("scnas_plugin_"):
                del sys.modules[name]

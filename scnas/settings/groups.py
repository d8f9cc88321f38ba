"""The groups `target` and `task` of the settings: an option for every registered chip and family of tasks."""

from hydra.core.config_store import ConfigStore

from scnas import tasks
from scnas.hardware import targets


def offer() -> None:
    """Let Hydra know target=<name> and task=<name> for all that is registered by now."""
    store = ConfigStore.instance()
    for name in targets.TARGETS:
        store.store(group="target", name=name, node={"name": name, "clock_mhz": None})
    for name in tasks.FAMILIES:
        store.store(group="task", name=name, node=tasks.first_settings(name))

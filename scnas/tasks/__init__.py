"""Data sets: one file per family, one registry. A split is fixed before anything is scored."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from scnas.tasks import digits, mnist, npz
from scnas.tasks.task import Split, Task

if TYPE_CHECKING:
    from scnas import config

FAMILIES: dict[str, Callable[["config.Task"], Task]] = {
    "digits": digits.load,
    "mnist": mnist.load,
    "npz": npz.load,
}

__all__ = ["FAMILIES", "Split", "Task", "load"]


def load(settings: "config.Task") -> Task:
    """The task that `settings` describes; ValueError, one line, when its data are missing or damaged."""
    if settings.name not in FAMILIES:
        raise ValueError(f"task.name must be one of {', '.join(FAMILIES)}, got {settings.name!r}")
    return FAMILIES[settings.name](settings)

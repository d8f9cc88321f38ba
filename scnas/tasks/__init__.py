"""Data sets: one file per family, one registry. A split is fixed before anything is scored."""

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from scnas.contract import Refused
from scnas.tasks import digits, fsdd, generated, heidelberg, mnist, nmnist, npz
from scnas.tasks.task import Split, Task

if TYPE_CHECKING:
    from scnas.settings import schema


class Family(NamedTuple):
    """load: settings -> Task. reads: those of OPTIONAL that it uses. downloads: whether a library can
    fetch it."""

    load: Callable[["schema.Task"], Task]
    reads: tuple[str, ...] = ()
    downloads: bool = False


OPTIONAL = ("split", "crop", "shift", "warp", "steps", "pool", "channels", "classes", "samples")
FAMILIES = {
    "digits": Family(digits.load),
    "mnist": Family(mnist.load, ("crop", "shift", "warp"), downloads=True),
    "fashion_mnist": Family(mnist.load, ("crop", "shift", "warp"), downloads=True),
    "kmnist": Family(mnist.load, ("crop", "shift", "warp"), downloads=True),
    "nmnist": Family(nmnist.load, ("steps", "pool"), downloads=True),
    "shd": Family(heidelberg.shd, ("steps", "pool"), downloads=True),
    "ssc": Family(heidelberg.ssc, ("steps", "pool"), downloads=True),
    "fsdd": Family(fsdd.load, ("split", "steps", "channels")),
    "npz": Family(npz.load),
    "randman": Family(generated.randman, ("steps", "channels", "classes", "samples")),
    "delay_detection": Family(generated.delay_detection, ("steps", "channels", "classes", "samples")),
}

__all__ = ["FAMILIES", "OPTIONAL", "Family", "Split", "Task", "load"]


def load(settings: "schema.Task") -> Task:
    """The task that `settings` describes; ValueError, one line, when its data are missing or damaged."""
    if settings.name not in FAMILIES:
        raise Refused(f"task.name must be one of {', '.join(FAMILIES)}, got {settings.name!r}")
    family = FAMILIES[settings.name]
    for name in OPTIONAL:
        value = getattr(settings, name)
        if name in family.reads and value is None:
            raise Refused(f"task.{name} must be set for task={settings.name}, got null")
        if name not in family.reads and value is not None:
            used = ", ".join(family.reads) or "none of these"
            raise Refused(
                f"task.{name} must be null for task={settings.name}, which reads {used}, got {value}"
            )
    if settings.download and not family.downloads:
        names = ", ".join(name for name, other in FAMILIES.items() if other.downloads)
        raise Refused(f"task.download can be true for {names}; task={settings.name} is not fetched")
    return family.load(settings)

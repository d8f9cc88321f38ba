"""Data sets: one file per family, one registry. A split is fixed before anything is scored.

A family is one entry: what loads it, and the settings that `task=<its name>` begins with. `register` takes
more of them, from a file of the user's own (scnas.plugins).
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from scnas.contract import Refused, identifier, short
from scnas.tasks import digits, fsdd, generated, heidelberg, mnist, nmnist, npz
from scnas.tasks.task import Split, Task

if TYPE_CHECKING:
    from scnas.settings import schema

# Settings that every family has, and those that only some read, which are null for the others.
COMMON: Mapping[str, object] = MappingProxyType(
    {
        "path": None, "seed": 0, "train_limit": None, "validation": 0.2, "test": 0.2, "low": 0.0,
        "high": 1.0, "download": False,
    }
)  # fmt: skip
OPTIONAL = ("split", "crop", "shift", "warp", "steps", "pool", "channels", "classes", "samples")


class Family(NamedTuple):
    """A kind of data.

    load: settings -> Task. settings: what task=<name> begins with: values of COMMON that are others here,
    and of every one of OPTIONAL that the family reads. options: the same for settings of its own, which are
    task.options.<name>. downloads: whether a library can fetch it.
    """

    load: Callable[["schema.Task"], Task]
    settings: Mapping[str, object] = MappingProxyType({})
    options: Mapping[str, object] = MappingProxyType({})
    downloads: bool = False

    @property
    def reads(self) -> tuple[str, ...]:
        """Those of OPTIONAL that it uses."""
        return tuple(name for name in OPTIONAL if name in self.settings)


_FAMILIES: dict[str, Family] = {}
FAMILIES: Mapping[str, Family] = MappingProxyType(_FAMILIES)  # grows as families are registered

__all__ = [
    "COMMON", "FAMILIES", "OPTIONAL", "Family", "Split", "Task", "first_settings", "load", "register",
]  # fmt: skip


def register(name: str, family: Family) -> Family:
    """Add a family, so that `task=<name>` means it; returns it. Refused if the name is taken or its settings
    are none of COMMON and OPTIONAL."""
    identifier("the name of a task", name)
    if name in _FAMILIES:
        raise Refused(f"a task named {name} is registered already")
    allowed = (*COMMON, *OPTIONAL)
    if unknown := [setting for setting in family.settings if setting not in allowed]:
        raise Refused(
            f"settings of task {name} must be some of {', '.join(allowed)}, got {short(unknown[0])}; others "
            "are its options"
        )
    if unread := [setting for setting in family.reads if family.settings[setting] is None]:
        raise Refused(f"settings of task {name} must give {unread[0]} a first value, got null")
    for option in family.options:
        identifier(f"an option of task {name}", option)
    _FAMILIES[name] = family
    return family


def first_settings(name: str) -> dict[str, object]:
    """What `task=<name>` begins with, every setting of a task."""
    family = FAMILIES[name]
    unread = dict.fromkeys(OPTIONAL)
    return {"name": name, **COMMON, **unread, **family.settings, "options": dict(family.options)}


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
    if unknown := [name for name in settings.options if name not in family.options]:
        used = ", ".join(family.options) or "none"
        raise Refused(f"task.options.{unknown[0]} is not an option of task={settings.name}, which has {used}")
    if settings.download and not family.downloads:
        names = ", ".join(name for name, other in FAMILIES.items() if other.downloads)
        raise Refused(f"task.download can be true for {names}; task={settings.name} is not fetched")
    return family.load(replace(settings, options={**family.options, **settings.options}))


# -- the families -------------------------------------------------------------------------------------

# Any data set in the format of MNIST: task.path=folder with the four IDX files. crop: pixels cut from every
# border. shift, 1: training images also moved by one pixel in four directions. warp, 5: and by five copies
# turned, stretched, sheared and bent at random.
_IMAGES = {"crop": 0, "shift": 0, "warp": 0}
# steps: windows that the 1.4 s of a recording are divided into. pool: of 5, 700 channels become 140.
_COCHLEA = {"steps": 50, "pool": 5}

register("digits", Family(digits.load))
register("mnist", Family(mnist.load, {"path": "data/mnist", **_IMAGES}, downloads=True))
register("fashion_mnist", Family(mnist.load, {"path": "data/fashion-mnist", **_IMAGES}, downloads=True))
register("kmnist", Family(mnist.load, {"path": "data/kmnist", **_IMAGES}, downloads=True))
# steps: windows of a recording of 310 ms. pool: of 2, 34 x 34 pixels become 17 x 17, in two polarities.
register("nmnist", Family(nmnist.load, {"path": "data/nmnist", "steps": 16, "pool": 2}, downloads=True))
register("shd", Family(heidelberg.shd, {"path": "data/shd", **_COCHLEA}, downloads=True))
register("ssc", Family(heidelberg.ssc, {"path": "data/ssc", **_COCHLEA}, downloads=True))
# split: official (test n = 0..4) or speakers (held out for validation and for test). steps: of 25 ms.
# channels: two for each of 20 filters.
register(
    "fsdd",
    Family(fsdd.load, {"path": "data/fsdd", "split": "official", "steps": 32, "channels": 40}),
)
register("npz", Family(npz.load))
register(
    "randman",
    Family(generated.randman, {"steps": 32, "channels": 20, "classes": 10, "samples": 4000}),
)
# channels: half of them sources, half of them their delayed copies. classes: delays of 0..7 steps.
register(
    "delay_detection",
    Family(generated.delay_detection, {"steps": 32, "channels": 16, "classes": 8, "samples": 4000}),
)

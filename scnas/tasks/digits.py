"""digits: 1,797 handwritten digits of 8 x 8 pixels, embedded in scikit-learn, no download.

UCI Optical Recognition of Handwritten Digits, test part (CC BY 4.0): 64 features 0..16, 10 classes.
"""

from typing import TYPE_CHECKING

from scnas.contract import Refused
from scnas.tasks.task import Split, Task, checked_values, limited, set_aside

if TYPE_CHECKING:
    from scnas.settings import schema


def load(settings: "schema.Task") -> Task:
    """The task with the splits of `settings`."""
    if settings.path is not None:
        raise Refused(f"task.path must be null for digits, got {settings.path}; arrays are task=npz")
    return digits(settings.seed, settings.validation, settings.test, settings.train_limit)


def digits(seed: int = 0, validation: float = 0.2, test: float = 0.2, train_limit: int | None = None) -> Task:
    """The task, split by seed with every class in proportion; validation, test: shares set aside."""
    from sklearn.datasets import load_digits  # a second; only where it is needed

    pixels, y = load_digits(return_X_y=True)
    x, y = checked_values("digits", pixels, 0, 16), y.astype("int64")
    rest, tested = set_aside(y, test, seed, "test")
    kept, aside = set_aside(y[rest], validation / (1 - test), seed, "validation")
    trained = rest[kept][limited(y[rest[kept]], train_limit, seed)]
    parts = (Split(x[part], y[part]) for part in (trained, rest[aside], tested))
    return Task("digits", "rate", 64, 10, None, *parts)

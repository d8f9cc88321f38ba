"""Task: data in three splits, the test split behind a door that counts.

Letters: N samples, n features, T timesteps, K classes.
"""

from dataclasses import InitVar, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import numpy as np

from scnas.contract import ENCODERS, MAX_TIMESTEPS, MAX_WIDTH, Refused, one_of, whole
from scnas.randomness import rng

if TYPE_CHECKING:
    from scnas.settings import schema

T = TypeVar("T")
MAX_EVENTS = 2**31  # entries of a raster, a byte each


class Split(NamedTuple):
    """x: float32 [N, n] in 0..1 (values) or uint8 [N, T, n] of 0 and 1 (events). y: int64 [N], 0..K-1."""

    x: np.ndarray
    y: np.ndarray


@dataclass(frozen=True, eq=False)
class Task:
    """A classification task.

    encoder: `rate` (values; T is a gene of the search) or `events` (spikes; T is that of the data).
    n_inputs: n. n_classes: K. timesteps: None for `rate`, T for `events`.
    train, validation: what a search may look at. test: handed out by open_test() only.
    Raises ValueError when the parts do not fit together.
    """

    name: str
    encoder: str
    n_inputs: int
    n_classes: int
    timesteps: int | None
    train: Split
    validation: Split
    test: InitVar[Split]
    _test: Split = field(init=False, repr=False)
    _openings: list[None] = field(init=False, repr=False)

    def __post_init__(self, test: Split) -> None:
        one_of("encoder", self.encoder, ENCODERS)
        whole("n_inputs", self.n_inputs, 1, MAX_WIDTH)
        whole("n_classes", self.n_classes, 2, MAX_WIDTH)
        shape: tuple[int, ...]
        dtype: type[np.generic]
        if self.encoder == "events":
            steps = whole("timesteps", self.timesteps, 1, MAX_TIMESTEPS)
            shape, dtype = (steps, self.n_inputs), np.uint8
        else:
            if self.timesteps is not None:
                raise Refused(f"timesteps must be None for the rate encoder, got {self.timesteps}")
            shape, dtype = (self.n_inputs,), np.float32
        for name, (x, y) in (("train", self.train), ("validation", self.validation), ("test", test)):
            if len(y) == 0:
                raise Refused(f"{name} must hold at least one sample, got none")
            if x.dtype != dtype or x.shape != (len(y), *shape):
                raise Refused(
                    f"{name}.x must be {np.dtype(dtype)} {(len(y), *shape)}, got {x.dtype} {x.shape}"
                )
            if not (x.min() >= 0 and x.max() <= 1):  # a NaN fails both
                raise Refused(f"{name}.x must lie in 0..1, got {x.min()}..{x.max()}")
            if y.dtype != np.int64 or y.ndim != 1:
                raise Refused(f"{name}.y must be int64 (N,), got {y.dtype} {y.shape}")
            if y.min() < 0 or y.max() >= self.n_classes:
                raise Refused(f"{name}.y must lie in 0..{self.n_classes - 1}, got {y.min()}..{y.max()}")
        object.__setattr__(self, "_test", test)
        object.__setattr__(self, "_openings", [])

    def open_test(self) -> Split:
        """The test split. A run opens it once, when nothing is left to choose."""
        self._openings.append(None)
        return self._test

    @property
    def test_opened(self) -> int:
        """How often open_test() was called."""
        return len(self._openings)


# -- from foreign files and arrays to splits --------------------------------------------------------


def given(value: T | None) -> T:
    """A setting that this family reads, so that load() has seen it set."""
    assert value is not None
    return value


def existing_folder(settings: "schema.Task", holds: str) -> Path:
    """The folder settings.path; ValueError that says what it should hold."""
    if settings.path is None:
        raise Refused(f"task.path must name a folder with {holds} for task={settings.name}, got null")
    folder = Path(settings.path).expanduser()
    if not folder.is_dir():
        raise Refused(f"task.path must name a folder with {holds}, got {folder}: no such folder")
    return folder


def check_size(what: str, samples: int, steps: int, channels: int) -> None:
    """ValueError if events [samples, steps, channels] are more than MAX_EVENTS; `what` holds the samples."""
    if samples * steps * channels > MAX_EVENTS:
        raise Refused(
            f"{what}, task.steps and task.channels must stay within {MAX_EVENTS} entries in all, got "
            f"{samples} samples of {steps} steps and {channels} channels"
        )


def raster(steps: np.ndarray, inputs: np.ndarray, n_steps: int, n_inputs: int) -> np.ndarray:
    """Spikes [n_steps, n_inputs] uint8 of events: 1 where at least one fell. Events before the first or
    after the last step are left out."""
    inside = (steps >= 0) & (steps < n_steps)
    spikes = np.zeros((n_steps, n_inputs), np.uint8)
    spikes[steps[inside], inputs[inside]] = 1
    return spikes


def checked_values(name: str, x: np.ndarray, low: float, high: float) -> np.ndarray:
    """x [N, n] of numbers in low..high as float32 in 0..1; ValueError naming `name` otherwise."""
    _expect_numbers(name, x)
    if x.ndim != 2:
        raise Refused(f"{name} must have shape [N, n], got {list(x.shape)}")
    if x.size:
        if not np.isfinite(x).all():
            raise Refused(f"{name} must be finite, got {_first(x, ~np.isfinite(x))}")
        if x.min() < low or x.max() > high:
            bad = _first(x, (x < low) | (x > high))
            raise Refused(f"{name} must lie in {low:g}..{high:g} (task.low..task.high), got {bad}")
    return ((x.astype(np.float64) - low) / (high - low)).astype(np.float32)


def checked_events(name: str, x: np.ndarray) -> np.ndarray:
    """x [N, T, n] of 0 and 1 as uint8; ValueError naming `name` otherwise."""
    _expect_numbers(name, x)
    if x.ndim != 3:
        raise Refused(f"{name} must have shape [N, T, n], got {list(x.shape)}")
    spikes = (x == 0) | (x == 1)
    if not spikes.all():
        bad = _first(x, ~spikes)
        raise Refused(f"{name} of shape [N, T, n] must hold events, 0 or 1, got {bad}; values are [N, n]")
    return x.astype(np.uint8)


def checked_labels(name: str, y: np.ndarray, n_samples: int) -> np.ndarray:
    """y [N] of whole numbers >= 0 as int64; ValueError naming `name` otherwise."""
    if y.dtype.kind not in "iu":
        raise Refused(f"{name} must be whole numbers, got {y.dtype}")
    if y.shape != (n_samples,):
        raise Refused(f"{name} must have shape [{n_samples}], one per sample, got {list(y.shape)}")
    if y.size and y.min() < 0:
        raise Refused(f"{name} must be 0 or more, got {y.min()}")
    if y.size and y.max() >= MAX_WIDTH:
        raise Refused(f"{name} must be below {MAX_WIDTH}, got {y.max()}")
    return y.astype(np.int64)


def count_classes(name: str, y: np.ndarray, at_least: int = 1) -> int:
    """K of labels [N], each of 0..K-1 at least `at_least` times; ValueError naming `name` otherwise."""
    if len(y) == 0:
        raise Refused(f"{name} must hold at least one sample, got none")
    counts = np.bincount(y)
    if len(counts) < 2:
        raise Refused(f"{name} must hold at least 2 classes, got 1")
    if not counts.all():
        raise Refused(
            f"{name} must be 0..K-1 without gaps, got {len(counts) - 1} but never {counts.argmin()}"
        )
    if counts.min() < at_least:
        raise Refused(
            f"{name} must hold at least {at_least} samples of every class, "
            f"got {counts.min()} of class {counts.argmin()}"
        )
    return len(counts)


def set_aside(y: np.ndarray, share: float, seed: int, what: str) -> tuple[np.ndarray, np.ndarray]:
    """Indices [N] split in two, (kept, aside), both ascending: `share` of every class is set aside.

    At least one sample of each class goes to either side; a class needs two. Depends on y, share,
    seed and `what` alone.
    """
    aside = []
    for label in np.unique(y):
        members = rng(seed, "split", what, int(label)).permutation(np.flatnonzero(y == label))
        aside.append(members[: min(max(1, round(share * len(members))), len(members) - 1)])
    chosen = np.zeros(len(y), dtype=bool)
    chosen[np.concatenate(aside)] = True
    return np.flatnonzero(~chosen), np.flatnonzero(chosen)


def limited(y: np.ndarray, limit: int | None, seed: int) -> np.ndarray:
    """Indices of at most `limit` samples, ascending, every class in proportion and at least once."""
    if limit is None or limit >= len(y):
        return np.arange(len(y))
    labels = np.unique(y)
    if limit < len(labels):
        raise Refused(f"task.train_limit must be at least {len(labels)}, one per class, got {limit}")
    place = np.empty(len(y))  # of a sample in the queue of its class, 0 for the first, below 1 for the last
    for label in labels:
        members = rng(seed, "split", "limit", int(label)).permutation(np.flatnonzero(y == label))
        place[members] = np.arange(len(members)) / len(members)
    return np.sort(np.argsort(place, kind="stable")[:limit])


def _expect_numbers(name: str, x: np.ndarray) -> None:
    if x.dtype.kind not in "biuf":
        raise Refused(f"{name} must be numbers, got {x.dtype}")


def _first(x: np.ndarray, bad: np.ndarray) -> str:
    return f"{x[bad].flat[0].item():g}"

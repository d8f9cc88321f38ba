"""randman, delay_detection: tasks made from a seed, for questions about time.

Both are events [T, n], T = task.steps, n = task.channels, task.samples of them, classes in equal shares,
divided into training, validation and test by task.validation and task.test.

    randman          Every class is a smooth random curve in the space of spike times: input i of a sample
                     spikes once, at f_i(u), where u is drawn evenly from 0..1 for each sample and f_i is a
                     random Fourier series whose k-th term is k^-2 as large as the first, scaled to the
                     whole duration (the random manifolds of Zenke and Vogels 2021, "The Remarkable
                     Robustness of Surrogate Gradient Learning", in one dimension, alpha = 2). No rate
                     tells the classes apart.
    delay_detection  The first half of the inputs are sources, which spike at random in one step of ten;
                     input n/2 + i repeats source i after as many steps as the class says, 0..K-1; a tenth
                     of its spikes are lost and as many others come from nowhere. Every input spikes
                     equally often in every class and step: only the delay carries information.
"""

from typing import TYPE_CHECKING

import numpy as np

from scnas.contract import Refused
from scnas.randomness import rng
from scnas.tasks.task import Split, Task, check_size, given, limited, set_aside

if TYPE_CHECKING:
    from scnas.settings import schema

TERMS = 10  # of a Fourier series
ALPHA = 2.0  # how fast its terms fall
SOURCE_RATE = 0.1  # spikes of a source per step
LOST = 0.1  # share of the repeated spikes that are replaced by others


def randman(settings: "schema.Task") -> Task:
    """Random manifolds; ValueError where the settings leave no task."""
    y = _labels(settings)
    n_steps, channels, classes = given(settings.steps), given(settings.channels), given(settings.classes)
    grid = np.linspace(0, 1, 1001)
    x = np.zeros((len(y), n_steps, channels), np.uint8)
    for label in range(classes):
        dice = rng(settings.seed, "randman", label)
        size = (channels, TERMS)
        height = dice.random(size) / np.arange(1, TERMS + 1) ** ALPHA
        phase = dice.random(size)

        def curve(u: np.ndarray, height: np.ndarray = height, phase: np.ndarray = phase) -> np.ndarray:
            angle = 2 * np.pi * (u[:, None, None] * np.arange(1, TERMS + 1) + phase)
            return (height * np.sin(angle)).sum(2)  # [len(u), channels]

        low, high = curve(grid).min(0), curve(grid).max(0)
        members = np.flatnonzero(y == label)
        place = (curve(dice.random(len(members))) - low) / np.maximum(high - low, 1e-9)
        steps = np.clip((place * n_steps).astype(int), 0, n_steps - 1)
        x[members[:, None], steps, np.arange(channels)] = 1
    return _task(settings, x, y)


def delay_detection(settings: "schema.Task") -> Task:
    """Which delay lies between the two halves; ValueError where the settings leave no task."""
    steps, channels, classes = given(settings.steps), given(settings.channels), given(settings.classes)
    if channels % 2:
        raise Refused(f"task.channels must be even for delay_detection, sources and copies, got {channels}")
    if classes > steps:
        raise Refused(f"task.classes must be at most task.steps = {steps} for delay_detection, got {classes}")
    y = _labels(settings)
    dice = rng(settings.seed, "delay_detection")
    before, half = classes - 1, channels // 2
    # from before the start, so that the copies spike as often in the first steps as later
    sources = dice.random((len(y), before + steps, half)) < SOURCE_RATE
    starts = before - y
    copies = sources[np.arange(len(y))[:, None], starts[:, None] + np.arange(steps)]
    lost = dice.random(copies.shape) < LOST
    copies = np.where(lost, dice.random(copies.shape) < SOURCE_RATE, copies)
    return _task(settings, np.concatenate([sources[:, before:], copies], 2).astype(np.uint8), y)


def _labels(settings: "schema.Task") -> np.ndarray:
    if settings.path is not None:
        raise Refused(f"task.path must be null for {settings.name}, got {settings.path}")
    samples, classes = given(settings.samples), given(settings.classes)
    if samples < 3 * classes:
        raise Refused(f"task.samples must be at least {3 * classes}, three per class, got {samples}")
    check_size("task.samples", samples, given(settings.steps) + classes, given(settings.channels))
    return np.arange(samples, dtype=np.int64) % classes


def _task(settings: "schema.Task", x: np.ndarray, y: np.ndarray) -> Task:
    rest, tested = set_aside(y, settings.test, settings.seed, "test")
    kept, aside = set_aside(y[rest], settings.validation / (1 - settings.test), settings.seed, "validation")
    trained = rest[kept][limited(y[rest[kept]], settings.train_limit, settings.seed)]
    parts = [Split(x[part], y[part]) for part in (trained, rest[aside], tested)]
    return Task(settings.name, "events", x.shape[2], given(settings.classes), settings.steps, *parts)

"""nmnist: digits on a screen, seen by an event camera of 34 x 34 pixels that moves in three jerks.

Official layout: Train/<digit>/<n>.bin and Test/<digit>/<n>.bin, five bytes an event: x, y, then one bit of
polarity and 23 bits of time in microseconds, big endian (Orchard et al. 2015, "Converting static image
datasets to spiking neuromorphic datasets using saccades"). y = 240 marks an overflow of the clock, which
adds 2^13 to the times after it.

Spikes [T, n]: task.steps windows of 310 ms / T each, what comes later is left out; task.pool x task.pool
pixels share an input, which spikes in a window if at least one event fell on it. Inputs: polarity 0 row by
row, then polarity 1.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from scnas.contract import Refused
from scnas.tasks import download
from scnas.tasks.task import Split, Task, existing_folder, given, limited, raster, set_aside

if TYPE_CHECKING:
    from scnas.settings import schema

SIDE = 34
DURATION_US = 310_000
OVERFLOW_ROW, OVERFLOW_US = 240, 2**13
MAX_BYTES = 5 * 2**20  # of one recording; the real ones take 5,000 to 40,000
HOLDS = "Train/<digit>/<n>.bin and Test/<digit>/<n>.bin of N-MNIST (garrickorchard.com/datasets/n-mnist)"


def load(settings: "schema.Task") -> Task:
    """The task in the folder settings.path; ValueError, one line naming the file, if it is none."""
    if settings.download:
        download.tonic_set(settings, "NMNIST", [{"train": True}, {"train": False}])
    folder = existing_folder(settings, HOLDS)
    if given(settings.pool) > SIDE:
        raise Refused(f"task.pool must be 1 to {SIDE} for nmnist, got {settings.pool}")
    everything, test = (_split(folder / part, settings) for part in ("Train", "Test"))
    kept, aside = set_aside(everything.y, settings.validation, settings.seed, "validation")
    kept = kept[limited(everything.y[kept], settings.train_limit, settings.seed)]
    train, validation = (Split(everything.x[part], everything.y[part]) for part in (kept, aside))
    n_inputs = everything.x.shape[2]
    return Task("nmnist", "events", n_inputs, 10, settings.steps, train, validation, test)


def _split(folder: Path, settings: "schema.Task") -> Split:
    x, y = [], []
    for digit in range(10):
        paths = sorted((folder / str(digit)).glob("*.bin"))
        if len(paths) < 2:
            raise Refused(f"{folder / str(digit)}: must hold two or more .bin recordings, got {len(paths)}")
        x += [spikes(read_bin(path), given(settings.steps), given(settings.pool)) for path in paths]
        y += [digit] * len(paths)
    return Split(np.stack(x), np.array(y, np.int64))


def read_bin(path: Path) -> np.ndarray:
    """Events of a recording, [N, 4] int64: x, y, polarity, time in us; ValueError if it is damaged."""
    try:
        data = np.fromfile(path, np.uint8, count=MAX_BYTES + 1)
    except OSError as error:
        raise Refused(f"{path}: cannot be read ({error.strerror})") from None
    if len(data) > MAX_BYTES:
        raise Refused(f"{path}: must be a recording of at most {MAX_BYTES} bytes")
    if len(data) == 0 or len(data) % 5:
        raise Refused(f"{path}: must hold events of 5 bytes each, got {len(data)} bytes")
    x, y, high, middle, low = data.reshape(-1, 5).T.astype(np.int64)
    time = (high & 127) << 16 | middle << 8 | low
    overflow = y == OVERFLOW_ROW
    time += OVERFLOW_US * np.cumsum(overflow)
    events = np.stack([x, y, high >> 7, time], 1)[~overflow]
    if events[:, :2].max(initial=0) >= SIDE:
        raise Refused(
            f"{path}: x and y of an event must lie in 0..{SIDE - 1}, got {events[:, :2].max()}: no recording "
            "of N-MNIST, or bytes are missing"
        )
    return events


def spikes(events: np.ndarray, steps: int, pool: int) -> np.ndarray:
    """Spikes [steps, n] uint8 of events [N, 4], n = 2 ceil(34 / pool)^2."""
    side = -(-SIDE // pool)
    x, y, polarity, time = events.T
    inputs = (polarity * side + y // pool) * side + x // pool
    return raster(time * steps // DURATION_US, inputs, steps, 2 * side * side)

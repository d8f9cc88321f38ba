"""fsdd: the Free Spoken Digit Dataset, recordings <digit>_<speaker>_<n>.wav of 8 kHz, mono, 16 bit.

From sound to spikes [T, n], T = task.steps, n = task.channels:

1. The first 0.8 s (98% of the recordings are shorter; what is missing is silence) in T windows of two
   hops, Hann weighted; hop = 0.8 s / T.
2. Power spectra through n / 2 triangular filters whose centres are evenly spaced in mel from 100 to
   3,800 Hz (mel = 2595 log10(1 + f / 700), Davis and Mermelstein 1980).
3. Level of a filter: its energy in decibels, 0 at 50 dB below the loudest of the recording, 1 at the loudest.
4. Two inputs per filter, which spike in every step in which the level is above 0.35 and above 0.7: the
   lower one of all filters first. In hardware two comparators.

Tried on validation data before anything was scored on the test recordings, 40-64-10, 15 epochs: this
95.2%; one comparator 90.9%; an accumulator that spikes when its level adds up to one 92.2%; spikes for
rising and for falling levels 91.1%.
"""

import re
import wave
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from scnas.contract import Refused
from scnas.randomness import rng
from scnas.tasks.task import Split, Task, check_size, existing_folder, given, limited, set_aside

if TYPE_CHECKING:
    from scnas.settings import schema

NAME = re.compile(r"([0-9])_([A-Za-z]+)_([0-9]+)\.wav")
RATE = 8000  # samples a second
SECONDS = 0.8
MAX_SAMPLES = 60 * RATE
LOWEST_HZ, HIGHEST_HZ = 100.0, 3800.0
RANGE_DB = 50.0
THRESHOLDS = (0.35, 0.7)
OFFICIAL_TEST = range(5)  # the recordings n = 0..4 of every speaker and digit, by the data set's own README
HOLDS = "the recordings <digit>_<speaker>_<n>.wav (github.com/Jakobovski/free-spoken-digit-dataset)"


def load(settings: "schema.Task") -> Task:
    """The task in the folder settings.path, or in its folder `recordings`; ValueError, one line naming the
    file, if it is none."""
    folder = existing_folder(settings, HOLDS)
    folder = folder / "recordings" if (folder / "recordings").is_dir() else folder
    paths = sorted(folder.glob("*.wav"))
    if not paths:
        raise Refused(f"{folder}: must hold {HOLDS}, got no .wav file")
    steps, channels = given(settings.steps), given(settings.channels)
    if steps > RATE * SECONDS / 2:
        raise Refused(f"task.steps must be at most {RATE * SECONDS / 2:.0f} for fsdd, got {steps}")
    if channels % len(THRESHOLDS):
        raise Refused(f"task.channels must be even for fsdd, two per filter, got {channels}")
    check_size("the recordings of task.path", len(paths), steps, channels)
    labels, names, takes = zip(*(_parts(path) for path in paths), strict=True)
    y, speakers, numbers = np.array(labels, np.int64), np.array(names), np.array(takes)
    if len(missing := set(range(10)) - set(labels)):
        raise Refused(f"{folder}: must hold recordings of all ten digits, got none of {min(missing)}")
    x = np.stack([spikes(read_wav(path), steps, channels) for path in paths])
    if settings.split == "speakers":
        train, validation, test = by_speaker(folder, speakers, settings)
    else:
        tested = np.isin(numbers, OFFICIAL_TEST)
        test, rest = np.flatnonzero(tested), np.flatnonzero(~tested)
        for what, part in ((f"n in 0..{OFFICIAL_TEST[-1]}", test), (f"n above {OFFICIAL_TEST[-1]}", rest)):
            if np.bincount(y[part], minlength=10).min() < 2:
                raise Refused(f"{folder}: must hold two recordings of every digit with {what}")
        kept, aside = set_aside(y[rest], settings.validation, settings.seed, "validation")
        train, validation = rest[kept], rest[aside]
    train = train[limited(y[train], settings.train_limit, settings.seed)]
    parts = (Split(x[part], y[part]) for part in (train, validation, test))
    return Task("fsdd", "events", channels, 10, steps, *parts)


def _parts(path: Path) -> tuple[int, str, int]:
    found = NAME.fullmatch(path.name)
    if found is None:
        raise Refused(f"{path}: must be named <digit>_<speaker>_<n>.wav")
    return int(found[1]), found[2], int(found[3])


def by_speaker(
    folder: Path, speakers: np.ndarray, settings: "schema.Task"
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Indices of train, validation and test: whole speakers, drawn by the seed of the splits.

    task.validation and task.test are shares of the speakers, at least one each.
    """
    names = np.unique(speakers)
    n_test = max(1, round(settings.test * len(names)))
    n_validation = max(1, round(settings.validation * len(names)))
    if n_test + n_validation >= len(names):
        raise Refused(
            f"{folder}: task.split=speakers needs {n_test + n_validation + 1} speakers, got {len(names)}"
        )
    drawn = rng(settings.seed, "split", "speakers").permutation(names)
    test, validation = drawn[:n_test], drawn[n_test : n_test + n_validation]
    chosen = [np.isin(speakers, part) for part in (validation, test)]
    return np.flatnonzero(~(chosen[0] | chosen[1])), np.flatnonzero(chosen[0]), np.flatnonzero(chosen[1])


def read_wav(path: Path) -> np.ndarray:
    """Samples of a recording, float64 in -1..1; ValueError if it is not 8 kHz, mono, 16 bit, whole."""
    try:
        with wave.open(str(path), "rb") as file:
            found = (file.getframerate(), file.getnchannels(), 8 * file.getsampwidth())
            promised = file.getnframes()
            data = file.readframes(min(promised, MAX_SAMPLES)) if found == (RATE, 1, 16) else b""
    except (wave.Error, EOFError, OSError, RuntimeError) as error:
        raise Refused(f"{path}: cannot be read ({error or 'it ends too early'})") from None
    if found != (RATE, 1, 16):
        raise Refused(
            f"{path}: must be {RATE} samples a second, 1 channel, 16 bit, "
            f"got {found[0]}, {found[1]} and {found[2]}"
        )
    if promised > MAX_SAMPLES:
        raise Refused(f"{path}: must be at most {MAX_SAMPLES // RATE} s long, got {promised // RATE} s")
    if len(data) != 2 * promised or promised == 0:
        raise Refused(f"{path}: the header promises {promised} samples, the file holds {len(data) // 2}")
    return np.frombuffer(data, "<i2").astype(np.float64) / 2**15


def filters(n: int, n_fft: int) -> np.ndarray:
    """[n, n_fft // 2 + 1]: triangles over the frequencies of a spectrum, neighbours crossing at one half."""
    lowest, highest = 2595 * np.log10(1 + np.array([LOWEST_HZ, HIGHEST_HZ]) / 700)
    mel = np.linspace(lowest, highest, n + 2)
    edges = 700 * (10 ** (mel / 2595) - 1)
    hz = np.arange(n_fft // 2 + 1) * RATE / n_fft
    low, centre, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    return np.maximum(0, np.minimum((hz - low) / (centre - low), (high - hz) / (high - centre)))


def levels(sound: np.ndarray, steps: int, n: int) -> np.ndarray:
    """Levels [steps, n] in 0..1 of n filters from samples [N], see the head of the file."""
    hop = RATE * SECONDS / steps
    width = max(2, round(2 * hop))
    n_fft = 2 ** max(10, (width - 1).bit_length())  # fine enough for the lowest filters
    padded = np.zeros(int(RATE * SECONDS) + width)
    kept = sound[: int(RATE * SECONDS)]
    padded[: len(kept)] = kept
    starts = np.round(np.arange(steps) * hop).astype(int)
    frames = padded[starts[:, None] + np.arange(width)] * np.hanning(width)
    energy = np.abs(np.fft.rfft(frames, n_fft)) ** 2 @ filters(n, n_fft).T
    decibels = 10 * np.log10(energy + 1e-12)
    return np.clip((decibels - decibels.max()) / RANGE_DB + 1, 0, 1)


def spikes(sound: np.ndarray, steps: int, channels: int) -> np.ndarray:
    """Spikes [steps, channels] uint8 of samples [N]."""
    level = levels(sound, steps, channels // len(THRESHOLDS))
    return np.concatenate([level > threshold for threshold in THRESHOLDS], 1).astype(np.uint8)

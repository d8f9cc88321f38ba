"""shd, ssc: the spiking Heidelberg data sets, spoken digits and words as spikes of an artificial cochlea.

Official layout, HDF5: spikes/times and spikes/units (one list a recording: seconds, and channels 0..699),
labels, and for shd extra/speaker (Cramer et al. 2022, "The Heidelberg Spiking Data Sets for the Systematic
Evaluation of Spiking Neural Networks").

    shd   shd_train.h5, shd_test.h5: 20 digits, English and German. Validation: speakers of the training
          file, drawn by task.seed, until they hold task.validation of the recordings or more.
    ssc   ssc_train.h5, ssc_valid.h5, ssc_test.h5: 35 words. The splits are the official ones.

Spikes [T, n]: task.steps windows of 1.4 s / T (shd) or 1 s / T (ssc), what comes later is left out;
task.pool neighbouring channels share an input, which spikes in a window if one of them did.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from scnas.contract import Refused
from scnas.randomness import rng
from scnas.tasks import download
from scnas.tasks.task import (
    Split,
    Task,
    checked_labels,
    count_classes,
    existing_folder,
    given,
    limited,
    raster,
)

if TYPE_CHECKING:
    from scnas.settings import schema

CHANNELS = 700
SECONDS = {"shd": 1.4, "ssc": 1.0}
MAX_BYTES = 2**35


class Recordings(NamedTuple):
    """x: [N, T, n] uint8. y: [N] int64. speakers: [N], or None where the file names none."""

    x: np.ndarray
    y: np.ndarray
    speakers: np.ndarray | None


def shd(settings: "schema.Task") -> Task:
    """Spiking Heidelberg Digits in the folder settings.path; ValueError, one line, if it is none."""
    if settings.download:
        download.tonic_set(settings, "SHD", [{"train": True}, {"train": False}])
    folder = existing_folder(settings, "shd_train.h5 and shd_test.h5 (zenkelab.org/datasets, unpacked)")
    everything, test = (read(folder / f"shd_{part}.h5", settings) for part in ("train", "test"))
    path = folder / "shd_train.h5"
    if everything.speakers is None:
        raise Refused(f"{path}: extra/speaker is missing, without which no speakers can be held out")
    held_out = speakers_for(path, everything.speakers, settings.validation, settings.seed)
    aside = np.isin(everything.speakers, held_out)
    train, validation = (Split(everything.x[part], everything.y[part]) for part in (~aside, aside))
    return _task(folder, settings, train, validation, Split(test.x, test.y))


def ssc(settings: "schema.Task") -> Task:
    """Spiking Speech Commands in the folder settings.path; ValueError, one line, if it is none."""
    if settings.download:
        download.tonic_set(settings, "SSC", [{"split": part} for part in ("train", "valid", "test")])
    folder = existing_folder(
        settings, "ssc_train.h5, ssc_valid.h5 and ssc_test.h5 (zenkelab.org/datasets, unpacked)"
    )
    found = (read(folder / f"ssc_{part}.h5", settings) for part in ("train", "valid", "test"))
    return _task(folder, settings, *(Split(part.x, part.y) for part in found))


def _task(folder: Path, settings: "schema.Task", train: Split, validation: Split, test: Split) -> Task:
    n_classes = count_classes(f"{folder}: labels of the training recordings", train.y)
    for name, part in (("validation", validation), ("test", test)):
        if part.y.max() >= n_classes:
            raise Refused(
                f"{folder}: {name} labels must be 0..{n_classes - 1} as in train, got {part.y.max()}"
            )
    chosen = limited(train.y, settings.train_limit, settings.seed)
    train = Split(train.x[chosen], train.y[chosen])
    return Task(settings.name, "events", train.x.shape[2], n_classes, settings.steps, train, validation, test)


def speakers_for(path: Path, speakers: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Speakers to hold out: drawn one after another until they have `share` of the recordings [N]."""
    names, counts = np.unique(speakers, return_counts=True)
    if len(names) < 2:
        raise Refused(f"{path}: extra/speaker must name two speakers or more, got {len(names)}")
    order = rng(seed, "split", "speakers").permutation(len(names))
    # at least one, and one stays for training
    enough = int(np.searchsorted(np.cumsum(counts[order]), share * len(speakers))) + 1
    return names[order[: min(enough, len(names) - 1)]]


def read(path: Path, settings: "schema.Task") -> Recordings:
    """The recordings of one HDF5 file; ValueError, one line naming the file, if it is missing or damaged."""
    try:
        import h5py
    except ImportError:
        raise Refused(f"task={settings.name} reads HDF5: pip install 'scnas[datasets]'") from None
    if not path.is_file():
        packed = next(
            (p for p in (path.with_name(path.name + end) for end in (".gz", ".zip")) if p.exists()), None
        )
        raise Refused(
            f"{path} is missing" + (f"; {packed.name} is there and needs unpacking" if packed else "")
        )
    try:
        with h5py.File(path, "r") as file:
            missing = [key for key in ("spikes/times", "spikes/units", "labels") if key not in file]
            if missing:
                raise Refused(
                    f"{path}: {missing[0]} is missing; it holds {', '.join(file)[:200] or 'nothing'}"
                )
            labels = np.asarray(file["labels"])
            speakers = np.asarray(file["extra/speaker"]) if "extra/speaker" in file else None
            for key in ("spikes/times", "spikes/units"):
                if file[key].shape != (len(labels),):
                    raise Refused(
                        f"{path}: {key} must hold one list for each of {len(labels)} labels, "
                        f"got shape {list(file[key].shape)}"
                    )
            return _recordings(
                path, labels, speakers, zip(file["spikes/times"], file["spikes/units"], strict=True), settings
            )
    except (OSError, KeyError, RuntimeError, TypeError) as error:
        raise Refused(f"{path}: cannot be read ({' '.join(str(error).split())[:120]})") from None


def _recordings(
    path: Path, labels: np.ndarray, speakers: np.ndarray | None, lists: Iterator, settings: "schema.Task"
) -> Recordings:
    y = checked_labels(f"{path}: labels", labels, len(labels))
    if len(y) == 0:
        raise Refused(f"{path}: labels must hold at least one recording, got none")
    if speakers is not None and speakers.shape != y.shape:
        raise Refused(f"{path}: extra/speaker must have shape [{len(y)}], got {list(speakers.shape)}")
    pool, n_steps = given(settings.pool), given(settings.steps)
    n = -(-CHANNELS // pool)
    size = len(y) * n_steps * n
    if size > MAX_BYTES:
        raise Refused(
            f"{path}: spikes would take {size} bytes, at most {MAX_BYTES} are held; a larger task.pool or "
            "fewer task.steps take less"
        )
    x = np.zeros((len(y), n_steps, n), np.uint8)
    for i, (times, units) in enumerate(lists):
        times, units = np.asarray(times, np.float64), np.asarray(units)
        if times.shape != units.shape or units.dtype.kind not in "iu":
            raise Refused(f"{path}: recording {i} must have one whole-numbered unit for each time")
        if len(units) and not (np.isfinite(times).all() and 0 <= units.min() and units.max() < CHANNELS):
            raise Refused(f"{path}: recording {i} must have finite times and units in 0..{CHANNELS - 1}")
        steps = np.floor(times * n_steps / SECONDS[settings.name]).astype(np.int64)
        x[i] = raster(steps, units.astype(np.int64) // pool, n_steps, n)
    return Recordings(x, y, speakers)

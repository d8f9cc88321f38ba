"""mnist: any folder with four IDX files, the format of MNIST, Fashion-MNIST and KMNIST.

train-images, train-labels, t10k-images and t10k-labels as idx3-ubyte and idx1-ubyte, plain or .gz.
Pixels 0..255 become 0..1. Validation is set aside from the training images; test is the official one.
Format: yann.lecun.com/exdb/mnist, "FILE FORMATS FOR THE MNIST DATABASE".
"""

import gzip
import math
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from scnas.tasks.task import Split, Task, checked_labels, checked_values, count_classes, limited, set_aside

if TYPE_CHECKING:
    from scnas import config

MAX_BYTES = 2**34


def load(settings: "config.Task") -> Task:
    """The task in the folder settings.path; ValueError, one line naming the file, if it is none."""
    if settings.path is None:
        raise ValueError("task.path must name a folder with four IDX files for task=mnist, got null")
    folder = Path(settings.path).expanduser()
    if not folder.is_dir():
        raise ValueError(
            f"task.path must name a folder with train-images-idx3-ubyte(.gz), train-labels-idx1-ubyte(.gz) "
            f"and the two t10k files, got {folder}: no such folder"
        )
    everything, test = _split(folder, "train"), _split(folder, "t10k")
    n_classes = count_classes(f"{folder}: train labels", everything.y, at_least=2)
    if everything.x.shape[1] != test.x.shape[1]:
        raise ValueError(
            f"{folder}: train and t10k images must have one size, got {everything.x.shape[1]} and "
            f"{test.x.shape[1]} pixels"
        )
    if test.y.max() >= n_classes:
        raise ValueError(f"{folder}: t10k labels must be 0..{n_classes - 1} as in train, got {test.y.max()}")
    kept, aside = set_aside(everything.y, settings.validation, settings.seed, "validation")
    kept = kept[limited(everything.y[kept], settings.train_limit, settings.seed)]
    parts = (Split(everything.x[part], everything.y[part]) for part in (kept, aside))
    return Task(folder.resolve().name, "rate", test.x.shape[1], n_classes, None, *parts, test)


def _split(folder: Path, prefix: str) -> Split:
    path = _find(folder, prefix, "images", 3)
    images = read_idx(path, 3)
    if 0 in images.shape:
        raise ValueError(f"{path}: must hold at least one image, got shape {list(images.shape)}")
    x = checked_values(str(path), images.reshape(len(images), -1), 0, 255)
    path = _find(folder, prefix, "labels", 1)
    return Split(x, checked_labels(str(path), read_idx(path, 1), len(x)))


def _find(folder: Path, prefix: str, what: str, axes: int) -> Path:
    """train-images-idx3-ubyte or train-images.idx3-ubyte, plain before .gz."""
    names = [f"{prefix}-{what}{dot}idx{axes}-ubyte{end}" for end in ("", ".gz") for dot in "-."]
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise ValueError(f"{folder}: {names[0]} (or {names[0]}.gz) is missing")


def read_idx(path: Path, axes: int) -> np.ndarray:
    """The uint8 array with `axes` axes in an IDX file, plain or gzip; ValueError if it is damaged."""
    try:
        with (gzip.open if path.suffix == ".gz" else open)(path, "rb") as file:
            header = file.read(4 + 4 * axes)
            if header[:4] != bytes((0, 0, 8, axes)) or len(header) < 4 + 4 * axes:
                raise ValueError(f"{path}: not an IDX file of bytes with {axes} axes")
            shape = tuple(np.frombuffer(header, ">u4", offset=4).tolist())
            size = math.prod(shape)
            if size > MAX_BYTES:
                raise ValueError(f"{path}: the header promises {size} bytes, at most {MAX_BYTES} are read")
            data = file.read(size + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{path}: cannot be read ({error})") from None
    if len(data) != size:
        found = "more" if len(data) > size else len(data)
        raise ValueError(f"{path}: the header promises {size} bytes of data, the file holds {found}")
    return np.frombuffer(data, np.uint8).reshape(shape)

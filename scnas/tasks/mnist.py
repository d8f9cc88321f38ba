"""mnist, fashion_mnist, kmnist: any folder with four IDX files.

train-images, train-labels, t10k-images and t10k-labels as idx3-ubyte and idx1-ubyte, plain or .gz.
Pixels 0..255 become 0..1, less task.crop of them on every border. Validation is set aside from the
training images; test is the official one. With task.shift the training images that are left are joined by
copies of themselves, moved by 1 to task.shift pixels up, down, left and right.
Format: yann.lecun.com/exdb/mnist, "FILE FORMATS FOR THE MNIST DATABASE".
"""

import gzip
import math
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from scnas.tasks import download
from scnas.tasks.task import (
    Split,
    Task,
    checked_labels,
    checked_values,
    count_classes,
    existing_folder,
    limited,
    set_aside,
)

if TYPE_CHECKING:
    from scnas import config

MAX_BYTES = 2**34
HOLDS = "train-images-idx3-ubyte(.gz), train-labels-idx1-ubyte(.gz) and the two t10k files"
OPENML = {"mnist": "mnist_784", "fashion_mnist": "Fashion-MNIST", "kmnist": "Kuzushiji-MNIST"}


def load(settings: "config.Task") -> Task:
    """The task in the folder settings.path; ValueError, one line naming the file, if it is none."""
    if settings.download:
        download.openml_images(settings, OPENML[settings.name])
    folder = existing_folder(settings, HOLDS)
    (images, y), (test_images, test_y) = (_part(folder, prefix) for prefix in ("train", "t10k"))
    n_classes = count_classes(f"{folder}: train labels", y, at_least=2)
    if images.shape[1:] != test_images.shape[1:]:
        raise ValueError(
            f"{folder}: train and t10k images must have one size, got {images[0].size} and "
            f"{test_images[0].size} pixels"
        )
    if test_y.max() >= n_classes:
        raise ValueError(f"{folder}: t10k labels must be 0..{n_classes - 1} as in train, got {test_y.max()}")
    _, high, wide = images.shape
    if 2 * settings.crop >= min(high, wide):
        raise ValueError(
            f"task.crop must be at most {(min(high, wide) - 1) // 2} for {high} x {wide} pixels, "
            f"got {settings.crop}"
        )
    kept, aside = set_aside(y, settings.validation, settings.seed, "validation")
    kept = kept[limited(y[kept], settings.train_limit, settings.seed)]
    trained = moved(images[kept], settings.shift)

    def split(images: np.ndarray, y: np.ndarray) -> Split:
        inner = images[:, settings.crop : high - settings.crop, settings.crop : wide - settings.crop]
        return Split(checked_values(str(folder), inner.reshape(len(inner), -1), 0, 255), y)

    parts = split(trained, np.tile(y[kept], len(trained) // len(kept))), split(images[aside], y[aside])
    test = split(test_images, test_y)
    return Task(folder.resolve().name, "rate", test.x.shape[1], n_classes, None, *parts, test)


def moved(images: np.ndarray, by: int) -> np.ndarray:
    """images [N, h, w], then N copies moved up, down, left and right by 1 pixel, by 2, up to `by`; what
    comes in from outside is 0."""
    copies, (_, high, wide) = [images], images.shape
    for n in range(1, by + 1):
        for rows, columns in ((-n, 0), (n, 0), (0, -n), (0, n)):
            padded = np.pad(images, ((0, 0), (n, n), (n, n)))
            copies.append(padded[:, n - rows : n - rows + high, n - columns : n - columns + wide])
    return np.concatenate(copies)


def _part(folder: Path, prefix: str) -> tuple[np.ndarray, np.ndarray]:
    """Images [N, h, w] uint8 and labels [N] int64."""
    path = _find(folder, prefix, "images", 3)
    images = read_idx(path, 3)
    if 0 in images.shape:
        raise ValueError(f"{path}: must hold at least one image, got shape {list(images.shape)}")
    path = _find(folder, prefix, "labels", 1)
    return images, checked_labels(str(path), read_idx(path, 1), len(images))


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

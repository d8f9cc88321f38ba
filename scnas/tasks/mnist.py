"""mnist, fashion_mnist, kmnist: any folder with four IDX files.

train-images, train-labels, t10k-images and t10k-labels as idx3-ubyte and idx1-ubyte, plain or .gz.
Pixels 0..255 become 0..1, less task.crop of them on every border. Validation is set aside from the
training images; test is the official one. With task.shift the training images that are left are joined by
copies of themselves, moved by 1 to task.shift pixels up, down, left and right; with task.warp by as many
copies besides that are turned, stretched, sheared and bent at random.
Format: yann.lecun.com/exdb/mnist, "FILE FORMATS FOR THE MNIST DATABASE".
"""

import gzip
import math
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

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
    set_aside,
)

if TYPE_CHECKING:
    from scnas.settings import schema

MAX_BYTES = 2**34
HOLDS = "train-images-idx3-ubyte(.gz), train-labels-idx1-ubyte(.gz) and the two t10k files"
OPENML = {"mnist": "mnist_784", "fashion_mnist": "Fashion-MNIST", "kmnist": "Kuzushiji-MNIST"}
VALUES = (np.arange(256) / 255).astype(np.float32)  # of a pixel

# How far a copy is warped, each drawn evenly from -x..x: degrees, share of height and of width, and columns
# of shear a row. BEND: standard deviation, in pixels, of what displaces each of KNOTS x KNOTS points.
TURN, STRETCH, SHEAR = 8.0, 0.08, 0.06
BEND, KNOTS = 0.8, 6
AT_ONCE = 256  # images that are warped together: so many stay in the cache


def load(settings: "schema.Task") -> Task:
    """The task in the folder settings.path; ValueError, one line naming the file, if it is none."""
    if settings.download:
        download.openml_images(settings, OPENML[settings.name])
    folder = existing_folder(settings, HOLDS)
    (images, y), (test_images, test_y) = (_part(folder, prefix) for prefix in ("train", "t10k"))
    n_classes = count_classes(f"{folder}: train labels", y, at_least=2)
    if images.shape[1:] != test_images.shape[1:]:
        raise Refused(
            f"{folder}: train and t10k images must have one size, got {images[0].size} and "
            f"{test_images[0].size} pixels"
        )
    if test_y.max() >= n_classes:
        raise Refused(f"{folder}: t10k labels must be 0..{n_classes - 1} as in train, got {test_y.max()}")
    _, high, wide = images.shape
    crop, shift, seed = given(settings.crop), given(settings.shift), settings.seed
    if 2 * crop >= min(high, wide):
        raise Refused(
            f"task.crop must be at most {(min(high, wide) - 1) // 2} for {high} x {wide} pixels, got {crop}"
        )
    kept, aside = set_aside(y, settings.validation, settings.seed, "validation")
    kept = kept[limited(y[kept], settings.train_limit, settings.seed)]

    def inner(images: np.ndarray) -> np.ndarray:
        return images[:, crop : high - crop, crop : wide - crop]

    def split(images: np.ndarray, y: np.ndarray) -> Split:
        return Split(VALUES[images.reshape(len(images), -1)], y)

    copies = [warped(images[kept], shift, crop, rng(seed, "warp", n)) for n in range(given(settings.warp))]
    trained = np.concatenate([inner(moved(images[kept], shift)), *copies])
    train = split(trained, np.tile(y[kept], len(trained) // len(kept)))
    validation, test = split(inner(images[aside]), y[aside]), split(inner(test_images), test_y)
    return Task(folder.resolve().name, "rate", test.x.shape[1], n_classes, None, train, validation, test)


def moved(images: np.ndarray, by: int) -> np.ndarray:
    """images [N, h, w], then N copies moved up, down, left and right by 1 pixel, by 2, up to `by`; what
    comes in from outside is 0."""
    copies, (_, high, wide) = [images], images.shape
    for n in range(1, by + 1):
        for rows, columns in ((-n, 0), (n, 0), (0, -n), (0, n)):
            padded = np.pad(images, ((0, 0), (n, n), (n, n)))
            copies.append(padded[:, n - rows : n - rows + high, n - columns : n - columns + wide])
    return np.concatenate(copies)


def warped(images: np.ndarray, shift: int, crop: int, dice: np.random.Generator) -> np.ndarray:
    """images [N, h, w] uint8, each turned by up to TURN degrees, stretched by up to STRETCH of its height and
    of its width, sheared by up to SHEAR, bent, and moved by up to `shift` whole pixels in both directions;
    less `crop` pixels on every border. What comes in from outside is 0.

    Simard, Steinkraus and Platt 2003, "Best practices for convolutional neural networks applied to visual
    document analysis", ICDAR. They smooth a displacement of every pixel; here the knots of a grid over the
    image are displaced, and what lies between them follows linearly.
    """
    n, high, wide = images.shape
    y, x = np.linspace(-0.5, 0.5, KNOTS)[:, None] * (high - 1), np.linspace(-0.5, 0.5, KNOTS) * (wide - 1)
    turn, tall, broad, shear = dice.uniform(-1, 1, (4, n, 1, 1))
    turn, tall, broad = np.deg2rad(TURN * turn), 1 + STRETCH * tall, 1 + STRETCH * broad
    down, right = dice.integers(-shift, shift + 1, (2, n, 1, 1))
    bend = BEND * dice.standard_normal((2, n, KNOTS, KNOTS))
    # Where in its image each knot of a copy comes from, [N, KNOTS, KNOTS]: row and column from the centre.
    row = np.cos(turn) * tall * y + np.sin(turn) * broad * x - down + bend[0]
    column = np.cos(turn) * broad * x - np.sin(turn) * tall * y + SHEAR * shear * y - right + bend[1]
    across, along = _between_knots(high)[crop : high - crop], _between_knots(wide)[crop : wide - crop].T
    result = np.empty((n, len(across), along.shape[1]), np.uint8)
    for start in range(0, n, AT_ONCE):
        some = slice(start, start + AT_ONCE)
        rows, columns = (across @ at[some].astype(np.float32) @ along for at in (row, column))
        result[some] = _sampled(images[some], rows + (high - 1) / 2, columns + (wide - 1) / 2)
    return result


def _between_knots(size: int) -> np.ndarray:
    """[size, KNOTS] float32: what each knot weighs in each pixel."""
    place = np.linspace(0, KNOTS - 1, size)
    return np.maximum(0, 1 - np.abs(place[:, None] - np.arange(KNOTS))).astype(np.float32)


def _sampled(images: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Values [N, a, b] uint8 of images [N, h, w] at rows and columns, both float32 [N, a, b]; between pixels
    they are linear, and outside 0."""
    n, high, wide = images.shape
    padded = np.pad(images, ((0, 0), (1, 2), (1, 2))).astype(np.float32)  # 2: the last place has a next one
    rows, columns = np.clip(rows + 1, 0, high + 1), np.clip(columns + 1, 0, wide + 1)
    top, left = rows.astype(np.intp), columns.astype(np.intp)
    low, side = rows - top.astype(np.float32), columns - left.astype(np.float32)
    at = (np.arange(n)[:, None, None] * (high + 3) + top) * (wide + 3) + left
    corners = [padded.reshape(-1).take(at + step) for step in (0, 1, wide + 3, wide + 4)]
    above = corners[0] + (corners[1] - corners[0]) * side
    below = corners[2] + (corners[3] - corners[2]) * side
    return np.rint(above + (below - above) * low).astype(np.uint8)


def _part(folder: Path, prefix: str) -> tuple[np.ndarray, np.ndarray]:
    """Images [N, h, w] uint8 and labels [N] int64."""
    path = _find(folder, prefix, "images", 3)
    images = read_idx(path, 3)
    if 0 in images.shape:
        raise Refused(f"{path}: must hold at least one image, got shape {list(images.shape)}")
    path = _find(folder, prefix, "labels", 1)
    return images, checked_labels(str(path), read_idx(path, 1), len(images))


def _find(folder: Path, prefix: str, what: str, axes: int) -> Path:
    """train-images-idx3-ubyte or train-images.idx3-ubyte, plain before .gz."""
    names = [f"{prefix}-{what}{dot}idx{axes}-ubyte{end}" for end in ("", ".gz") for dot in "-."]
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise Refused(f"{folder}: {names[0]} (or {names[0]}.gz) is missing")


def read_idx(path: Path, axes: int) -> np.ndarray:
    """The uint8 array with `axes` axes in an IDX file, plain or gzip; ValueError if it is damaged."""
    try:
        with (gzip.open if path.suffix == ".gz" else open)(path, "rb") as file:
            header = file.read(4 + 4 * axes)
            if header[:4] != bytes((0, 0, 8, axes)) or len(header) < 4 + 4 * axes:
                raise Refused(f"{path}: not an IDX file of bytes with {axes} axes")
            shape = tuple(np.frombuffer(header, ">u4", offset=4).tolist())
            size = math.prod(shape)
            if size > MAX_BYTES:
                raise Refused(f"{path}: the header promises {size} bytes, at most {MAX_BYTES} are read")
            data = file.read(size + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise Refused(f"{path}: cannot be read ({error})") from None
    if len(data) != size:
        found = "more" if len(data) > size else len(data)
        raise Refused(f"{path}: the header promises {size} bytes of data, the file holds {found}")
    return np.frombuffer(data, np.uint8).reshape(shape)

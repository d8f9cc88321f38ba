"""npz: your own arrays.

x and y, split by task.seed with every class in proportion; or x_train, y_train, x_test, y_test and,
if you have them, x_valid, y_valid (otherwise validation is set aside from the training samples).

x: values [N, n] in task.low..task.high, scaled to 0..1; or events [N, T, n] of 0 and 1.
y: whole numbers [N], the classes 0..K-1.
"""

import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from scnas.contract import Refused
from scnas.tasks.task import (
    Split,
    Task,
    checked_events,
    checked_labels,
    checked_values,
    count_classes,
    limited,
    set_aside,
)

if TYPE_CHECKING:
    from scnas.settings import schema

LAYOUTS = (("x", "y"), ("x_train", "y_train", "x_test", "y_test"))
MAX_BYTES = 2**36


def load(settings: "schema.Task") -> Task:
    """The task in the file settings.path; ValueError, one line naming file and array, if it is none."""
    if settings.path is None:
        raise Refused("task.path must name an .npz file for task=npz, got null")
    path = Path(settings.path).expanduser()
    arrays = _read(path)

    def split(part: str) -> Split:
        x, y = arrays[f"x{part}"], arrays[f"y{part}"]
        if x.ndim not in (2, 3):
            raise Refused(
                f"{path}: x{part} must have shape [N, n] (values) or [N, T, n] (events), got {list(x.shape)}"
            )
        check = checked_events if x.ndim == 3 else checked_values
        scale = () if x.ndim == 3 else (settings.low, settings.high)
        x = check(f"{path}: x{part}", x, *scale)
        return Split(x, checked_labels(f"{path}: y{part}", y, len(x)))

    if "x" in arrays:
        everything = split("")
        n_classes = count_classes(f"{path}: y", everything.y, at_least=3)  # one for each split
        rest, test = _divide(everything, settings.test, settings.seed, "test")
        train, validation = _divide(
            rest, settings.validation / (1 - settings.test), settings.seed, "validation"
        )
    else:
        train, test = split("_train"), split("_test")
        apart = "x_valid" in arrays
        n_classes = count_classes(f"{path}: y_train", train.y, at_least=1 if apart else 2)
        if apart:
            validation = split("_valid")
        else:
            train, validation = _divide(train, settings.validation, settings.seed, "validation")
    for name, part in (("valid", validation), ("test", test)):
        if len(part.y) == 0:
            raise Refused(f"{path}: x_{name} must hold at least one sample, got none")
        if part.x.shape[1:] != train.x.shape[1:]:
            raise Refused(
                f"{path}: x_{name} must have samples of shape {list(train.x.shape[1:])} like x_train, "
                f"got {list(part.x.shape[1:])}"
            )
        if part.y.max() >= n_classes:
            raise Refused(f"{path}: y_{name} must be 0..{n_classes - 1} like y_train, got {part.y.max()}")
    chosen = limited(train.y, settings.train_limit, settings.seed)
    train = Split(train.x[chosen], train.y[chosen])
    shape = train.x.shape[1:]
    if not all(shape):
        raise Refused(f"{path}: x must have at least one feature and step, got samples of {list(shape)}")
    events = len(shape) == 2
    return Task(
        path.stem, "events" if events else "rate", shape[-1], n_classes, shape[0] if events else None,
        train, validation, test,
    )  # fmt: skip


def _divide(part: Split, share: float, seed: int, what: str) -> tuple[Split, Split]:
    kept, aside = set_aside(part.y, share, seed, what)
    return Split(part.x[kept], part.y[kept]), Split(part.x[aside], part.y[aside])


def _read(path: Path) -> dict[str, np.ndarray]:
    """The arrays of one of LAYOUTS, with x_valid and y_valid if they are there. Nothing is unpickled."""
    if not path.is_file():
        raise Refused(f"task.path must name an .npz file, got {path}: no such file")
    try:
        with zipfile.ZipFile(path) as file:
            members = {i.filename.removesuffix(".npy"): i.file_size for i in file.infolist()}
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise Refused(f"{path}: not an .npz file ({error})") from None
    layout = [names for names in LAYOUTS if set(names) <= set(members)]
    validation = [name for name in ("x_valid", "y_valid") if name in members]
    if len(layout) != 1 or len(validation) == 1 or (validation and layout[0] == LAYOUTS[0]):
        raise Refused(
            f"{path}: must hold either x and y, or x_train, y_train, x_test, y_test and, if wanted, "
            f"x_valid and y_valid; it holds {', '.join(sorted(members))[:200] or 'nothing'}"
        )
    names = [*layout[0], *validation]
    if (size := sum(members[name] for name in names)) > MAX_BYTES:
        raise Refused(f"{path}: the arrays take {size} bytes, at most {MAX_BYTES} are read")
    arrays = {}
    for name in names:
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays[name] = np.asarray(file[name])
        except Exception as error:  # zip, zlib, NumPy and its header's parser each have their own
            reason = " ".join(str(error).split())[:120] or type(error).__name__
            raise Refused(f"{path}: array {name} cannot be read ({reason})") from None
    return arrays

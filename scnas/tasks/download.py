"""Public sets, fetched by a library when task.download=true asks for it and task.path holds nothing yet.

Everything lands in a folder beside task.path first and takes its name when it is whole; an interrupted
download leaves task.path as it was.
"""

import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from scnas.contract import Refused, one_line
from scnas.files import write_whole

if TYPE_CHECKING:
    from scnas.settings import schema


OPENML_TRAIN = 60_000  # the rows of the training split come first


def tonic_set(settings: "schema.Task", name: str, parts: Sequence[dict]) -> None:
    """Fetch the set that tonic calls `name`, part by part; ValueError, one line, if it cannot be had."""

    def fetch(folder: Path) -> Path:
        try:
            from tonic import datasets
        except ImportError:
            raise Refused(
                f"task.download=true for task={settings.name} needs tonic: pip install 'scnas[datasets]'"
            ) from None
        for part in parts:
            getattr(datasets, name)(str(folder), **part)
        for archive in (folder / name).glob("*.zip"):
            archive.unlink()
        return folder / name

    _into_place(settings, fetch)


def openml_images(settings: "schema.Task", name: str) -> None:
    """Fetch 28 x 28 images from OpenML and leave them as four IDX files; ValueError, one line, if they
    cannot be had."""

    def fetch(folder: Path) -> Path:
        from sklearn.datasets import fetch_openml  # a second; only where it is needed

        x, y = fetch_openml(
            name,
            version=1,
            return_X_y=True,
            as_frame=False,
            parser="liac-arff",
            data_home=str(folder / "raw"),
        )
        shutil.rmtree(folder / "raw", ignore_errors=True)
        x, y = np.asarray(x).reshape(-1, 28, 28).astype(np.uint8), np.asarray(y).astype(np.uint8)
        for prefix, part in (("train", slice(0, OPENML_TRAIN)), ("t10k", slice(OPENML_TRAIN, None))):
            for what, array in (("images", x[part]), ("labels", y[part])):
                write_whole(folder / f"{prefix}-{what}-idx{array.ndim}-ubyte", idx(array))
        return folder

    _into_place(settings, fetch)


def idx(array: np.ndarray) -> bytes:
    """An IDX file of bytes; mnist.read_idx gives the array back."""
    sizes = b"".join(n.to_bytes(4, "big") for n in array.shape)
    return bytes((0, 0, 8, array.ndim)) + sizes + array.astype(np.uint8).tobytes()


def _into_place(settings: "schema.Task", fetch: Callable[[Path], Path]) -> None:
    if settings.path is None:
        raise Refused("task.path must name a folder for task.download=true, got null")
    target = Path(settings.path).expanduser().absolute()
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        return  # what is there is read, never replaced
    target.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f"{target.name}-", dir=target.parent))
    try:
        found = fetch(folder)
        if target.exists():
            target.rmdir()
        found.rename(target)
    except Exception as error:  # the libraries raise whatever they meet on the way
        if isinstance(error, ValueError) and str(error).startswith("task.download"):
            raise
        reason = one_line(str(error), 160) or type(error).__name__
        raise Refused(
            f"task={settings.name} cannot be downloaded ({reason}); put its files into {target} by hand"
        ) from None
    finally:
        shutil.rmtree(folder, ignore_errors=True)

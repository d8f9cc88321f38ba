"""Decorators that compile a function with Numba and keep what was compiled on disk between runs.

Numba compiles the callees of a function into it, but looks for changes in the function's own file alone:
edited in another file, a callee would stay what it was. So the cache lies in a folder that is named by a
digest of all files that compiled code is made of, and an edit of any of them leads to another folder.

The folder lies in NUMBA_CACHE_DIR where the user set it, else in the user's cache folder. What other packages
compile with Numba in the same process stays where it was.
"""

import os
import shutil
import tempfile
import time
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from numba import config, njit

from scnas import resources
from scnas.contract import one_line

# What compiled code is made of, below the package: all of snn/cpu but what only calls it.
SOURCES = ("snn/cpu", "snn/surrogate.py")
CALLERS = ("passes.py", "adam.py")
PREFIX = "scnas-"
_config: Any = config  # whose settings are there by name from the moment that it is loaded
KEPT = 8  # folders that stay, those used last
UNUSED_S = 2 * 24 * 3600.0  # how long a further one was not used when it goes


def sources() -> list[Path]:
    """The files that compiled code is made of."""
    files = [file for name in SOURCES for file in resources.python_files(name)]
    return [file for file in files if file.name not in CALLERS]


def base() -> Path:
    """The folder of the caches of all versions. RuntimeError where the user has no home."""
    if _config.CACHE_DIR:
        return Path(_config.CACHE_DIR)
    given = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (given if given.is_absolute() else Path.home() / ".cache") / "scnas"


@cache
def folder() -> Path | None:
    """Where this version of the sources keeps what it compiled; None, with a warning, where nothing can be
    written."""
    try:
        found = base() / f"{PREFIX}{resources.digest(sources())[:16]}"
        new = not found.is_dir()
        found.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=found).close()
        os.utime(found)  # by which `tidy` sees that it is in use
    except (OSError, RuntimeError) as error:
        warnings.warn(
            f"compiled code cannot be kept, so that every process compiles it for about a minute; set "
            f"NUMBA_CACHE_DIR to a folder that can be written: {one_line(str(error))}",
            RuntimeWarning,
            stacklevel=2,
        )
        return None
    if new:
        tidy(found.parent)
    return found


def tidy(caches: Path) -> None:
    """Remove the folders of versions that nobody used for UNUSED_S, but for the KEPT that were used last.

    A run that still uses one loses time alone: Numba makes the folder again and compiles.
    """
    used = []
    for path in caches.glob(f"{PREFIX}*"):
        try:
            used.append((path.stat().st_mtime, path))
        except OSError:  # another process removed it
            continue
    for seconds, path in sorted(used, reverse=True)[KEPT:]:
        if seconds < time.time() - UNUSED_S:
            shutil.rmtree(path, ignore_errors=True)


def compiled(**settings: Any) -> Callable[[Callable], Callable]:
    """A decorator that compiles a function with these settings of numba.njit, and keeps the result on disk
    where that is possible."""

    def decorate(function: Callable) -> Callable:
        where = folder()
        if where is None:
            return njit(**settings)(function)
        before, _config.CACHE_DIR = _config.CACHE_DIR, str(where)  # read by the decorator, and never again
        try:
            made = njit(cache=True, **settings)(function)
        finally:
            _config.CACHE_DIR = before
        # Numba takes the folder of the source instead where it cannot write, which would keep stale callees.
        return made if made.stats.cache_path.startswith(str(where)) else njit(**settings)(function)

    return decorate


# Results to the last bit as written down, and such whose sums may be taken in another order. Numba hands its
# settings down to callees that have none of their own, so all say whether references are counted (_nrt).
_loosely = {"reassoc", "contract", "nsz"}
exact = compiled(error_model="numpy", _nrt=True)
loose = compiled(error_model="numpy", _nrt=True, fastmath=_loosely)
# The same for the private functions of a file: compiled without a wrapper for Python, which for arguments
# such as layout.Buffers takes longer than the function. Called from Python they would crash.
_private = {"error_model": "numpy", "no_cpython_wrapper": True, "no_cfunc_wrapper": True}
inner = compiled(_nrt=True, **_private)
inner_loose = compiled(_nrt=True, fastmath=_loosely, **_private)
# The same without counting references to arrays, which costs more than many of these functions do: every
# array that is taken out of a value such as layout.Buffers is counted. Such a function must make no array
# (Numba refuses it), return none, and call none that returns one unless that is a `view`.
borrowing = compiled(_nrt=False, **_private)
borrowing_loose = compiled(_nrt=False, fastmath=_loosely, **_private)
# A function that returns a part of an array that it is given, built into its callers.
view = compiled(error_model="numpy", inline="always")

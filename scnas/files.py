"""Files appear whole or not at all, and are read as data, never as code."""

import json
import math
import os
import tempfile
from pathlib import Path
from typing import NoReturn

from scnas.contract import Refused

# Limits for what comes from elsewhere. A parsed JSON text takes up to 16 times its bytes, its objects more.
MAX_JSON_BYTES = 128 * 2**20  # a layer of 2^24 synapses with two digits each
MAX_JSON_CONTAINERS = 2**21  # lists and objects
MAX_TEXT_BYTES = 64 * 2**20


def write_whole(path: str | Path, content: str | bytes) -> None:
    """Write `content` to `path` so that a reader sees the old file or the new one, nothing between.

    Written beside `path` under another name, flushed to the disk, then renamed.
    """
    path = Path(path)
    data = content.encode() if isinstance(content, str) else content
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def read_json(path: str | Path) -> object:
    """The content of a JSON file; Refused, one line with the file's name, when there is none.

    NaN and infinities are refused: JSON does not know them, and neither does any of our files.
    """
    path = Path(path)
    data = read_bytes(path, MAX_JSON_BYTES)
    if (containers := data.count(b"[") + data.count(b"{")) > MAX_JSON_CONTAINERS:
        raise Refused(f"{path}: {containers} lists and objects, at most {MAX_JSON_CONTAINERS} are read")

    def refuse(word: str) -> NoReturn:
        raise ValueError(f"{word} is not a number")

    def finite(word: str) -> float:
        value = float(word)
        if not math.isfinite(value):
            refuse(f"{word[:20]}, beyond every float,")
        return value

    try:
        return json.loads(data.decode("utf-8"), parse_constant=refuse, parse_float=finite)
    except (ValueError, RecursionError) as error:  # JSONDecodeError and UnicodeDecodeError are ValueErrors
        raise Refused(f"{path}: not a JSON file ({error})") from None


def read_text(path: str | Path, most: int = MAX_TEXT_BYTES) -> str:
    """The content of a text file of at most `most` bytes, UTF-8; Refused with its name otherwise."""
    path = Path(path)
    try:
        return read_bytes(path, most).decode("utf-8")
    except UnicodeDecodeError:
        raise Refused(f"{path}: not a text in UTF-8") from None


def read_bytes(path: Path, most: int) -> bytes:
    """What is in a regular file of at most `most` bytes; Refused with its name otherwise.

    A pipe or a device could be read for ever.
    """
    try:
        if not path.is_file():
            raise Refused(f"{path}: no such file")
        if (size := path.stat().st_size) > most:
            raise Refused(f"{path}: {size} bytes, at most {most} are read")
        return path.read_bytes()
    except OSError as error:
        raise Refused(f"{path}: cannot be read ({error.strerror})") from None


# -- folders from elsewhere -----------------------------------------------------------------------------


def inside(folder: str | Path, name: object) -> Path:
    """folder/name for a `name` that a file in `folder` gives; Refused if it is no path that stays in
    `folder`, through links or without."""
    folder = Path(folder)
    text = name if isinstance(name, str) else ""
    parts = text.split("/")  # of "": one that is empty
    bad = any(part in ("", ".", "..") or len(part.encode("utf-8", "replace")) > 255 for part in parts)
    if bad or len(text) > 1000 or not text.isprintable():
        raise Refused(f"{folder}: {_cut(name)} is no name of a file in it")
    path = folder.joinpath(*parts)
    try:
        stays = path.resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError):  # too long, or links in a circle
        stays = False
    if not stays:
        raise Refused(f"{folder}: {_cut(name)} leads out of it")
    return path


def refuse_links(folder: str | Path) -> None:
    """Refused if a link in `folder` leads out of it: what is written there would land elsewhere."""
    folder = Path(folder)
    for place, folders, names in os.walk(folder):
        for name in (*folders, *names):
            path = Path(place, name)
            if path.is_symlink():
                inside(folder, path.relative_to(folder).as_posix())


def _cut(name: object) -> str:
    text = repr(name) if isinstance(name, str) else type(name).__name__
    return text if len(text) <= 80 else text[:77] + "..."

"""Files appear whole or not at all, and are read as data, never as code."""

import json
import math
import os
import tempfile
from pathlib import Path

MAX_JSON_BYTES = 512 * 2**20


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
    """The content of a JSON file; ValueError, one line with the file's name, when there is none.

    NaN and infinities are refused: JSON does not know them, and neither does any of our files.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    if (size := path.stat().st_size) > MAX_JSON_BYTES:
        raise ValueError(f"{path}: {size} bytes, at most {MAX_JSON_BYTES} are read")

    def refuse(word: str) -> None:
        raise ValueError(f"{word} is not a number")

    def finite(word: str) -> float:
        value = float(word)
        return value if math.isfinite(value) else refuse(f"{word[:20]}, beyond every float,")

    try:
        text = path.read_bytes().decode("utf-8")
        return json.loads(text, parse_constant=refuse, parse_float=finite)
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError) as error:  # JSONDecodeError and UnicodeDecodeError are ValueErrors
        raise ValueError(f"{path}: not a JSON file ({error})") from None

"""Where the files of scnas lie: the package, conf/ and hdl/."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

from scnas.contract import Refused

_PACKAGE = Path(__file__).resolve().parent


def package() -> Path:
    """The folder of the package's Python files."""
    return _PACKAGE


def checkout() -> Path:
    """The folder that holds the package: the root of a checkout."""
    return _PACKAGE.parent


def conf() -> Path:
    """The folder of the YAML files; Refused if the installation lost it."""
    return _folder("conf")


def hdl() -> Path:
    """The folder of the hand-written Verilog; Refused if the installation lost it."""
    return _folder("hdl")


def python_files(name: str) -> list[Path]:
    """The Python files of the package at `name`, a file or a folder with all below it."""
    path = package() / name
    return [path] if path.suffix == ".py" else list(path.rglob("*.py"))


def digest(files: Iterable[Path]) -> str:
    """SHA-256 of files of the package: their names within it, and their contents."""
    found = hashlib.sha256()
    for path in sorted(files):
        found.update(f"{path.relative_to(package()).as_posix()}\n".encode() + path.read_bytes())
    return found.hexdigest()


def _folder(name: str) -> Path:
    # A wheel carries them inside the package; in a checkout they lie beside it.
    for folder in (_PACKAGE / name, _PACKAGE.parent / name):
        if folder.is_dir():
            return folder
    raise Refused(f"{name}/ is missing: neither {_PACKAGE / name} nor {_PACKAGE.parent / name}")

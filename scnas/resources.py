"""Where the files of scnas lie: the package, conf/ and hdl/."""

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


def _folder(name: str) -> Path:
    # A wheel carries them inside the package; in a checkout they lie beside it.
    for folder in (_PACKAGE / name, _PACKAGE.parent / name):
        if folder.is_dir():
            return folder
    raise Refused(f"{name}/ is missing: neither {_PACKAGE / name} nor {_PACKAGE.parent / name}")

"""What a run leaves behind: settings, TensorBoard, the terminal, the front, the winner."""

import importlib.metadata
from pathlib import Path


def version() -> str:
    """The version of scnas, or a word saying that it runs from files that were never installed."""
    try:
        return importlib.metadata.version("scnas")
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def abandon(folder: Path) -> None:
    """Take away what begin() wrote, if nothing else has come into `folder` since."""
    rest = {p.name for p in folder.iterdir()}
    if rest <= {"settings.yaml", "versions.json"}:
        for name in rest:
            (folder / name).unlink()

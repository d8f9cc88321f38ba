"""Plugins: Python files of the user's own that register chips, families of chips, tasks or neuron models.

    python -m scnas plugins=[my_module,path/to/file.py] target=mine task=mine

A plugin is imported before anything looks at the registries, in this process and in every worker, and what
is trained with it is kept under the digest of its source. Only what the user names is imported: the names in
a run's settings.yaml are data, and a job that needs them says so (`missing`).
"""

import hashlib
import importlib
import importlib.util
import re
import sys
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from scnas.contract import Refused, one_line, short


class Plugin(NamedTuple):
    """name: of a module, or the absolute path of a .py file. digest: of its source."""

    name: str
    digest: str

    @property
    def label(self) -> str:
        """The name without the folders that it lies in, which may differ between machines."""
        return label(self.name)


_LOADED: dict[Path, Plugin] = {}  # by the file that was imported, in the order of import
_FAILED: dict[Path, str] = {}  # what was said of those that could not be imported


def load(names: Sequence[str]) -> None:
    """Import the plugins of these names, each once in a process.

    Refused, one line, where there is no such module or file, where it raises, and where it registers a name
    that is taken.
    """
    for name in names:
        source = _source(name)
        if source in _LOADED:
            continue
        if source in _FAILED:  # half of what it registers is there, so a second try would say another thing
            raise Refused(_FAILED[source])
        digest = _digest(source)
        try:
            _import(name, source)
        except (Exception, SystemExit) as error:
            _FAILED[source] = _told(name, source, error)
            raise Refused(_FAILED[source]) from error
        _LOADED[source] = Plugin(str(source) if _is_file(name) else name, digest)


def loaded() -> tuple[Plugin, ...]:
    """The plugins of this process, for a worker to `repeat`."""
    return tuple(_LOADED.values())


def repeat(plugins: Sequence[Plugin]) -> None:
    """Import in a worker what another process has imported; Refused if it is not the same here."""
    load([plugin.name for plugin in plugins])
    here = {plugin.name: plugin.digest for plugin in loaded()}
    for name, digest in plugins:
        if here.get(name) != digest:
            raise Refused(f"plugin {name} is not what it was when the run began, or differs between machines")


def code() -> dict[str, str]:
    """What a training depends on because of the plugins: their labels and digests; nothing without any."""
    told = ", ".join(sorted(f"{plugin.label} {plugin.digest}" for plugin in loaded()))
    return {"plugins": told} if told else {}


def missing(names: Sequence[str]) -> list[str]:
    """Those of `names`, from the settings of a run, that are not loaded, wherever they lie now."""
    here = {plugin.label for plugin in loaded()}
    return [name for name in names if label(name) not in here]


def label(name: str) -> str:
    """The file's name of a path, a module's name as it is."""
    return Path(name).name if _is_file(name) else name


def _is_file(name: str) -> bool:
    return name.endswith(".py")


def _source(name: str) -> Path:
    """The file that importing `name` runs; Refused if there is none."""
    if not isinstance(name, str) or not name.isprintable():
        raise Refused(f"plugins must name modules or .py files, got {short(name)}")
    if _is_file(name):
        path = Path(name).expanduser()
        if not path.is_file():
            raise Refused(f"plugins: {name}: no such file")
        return path.resolve()
    if not re.fullmatch(r"[^\W\d]\w*(\.[^\W\d]\w*)*", name):
        raise Refused(f"plugins must name modules or .py files, got {short(name)}")
    try:
        spec = importlib.util.find_spec(name)  # imports the packages above it
    except ModuleNotFoundError:
        spec = None
    except Exception as error:
        raise Refused(_told(name, None, error)) from error
    if spec is None:
        raise Refused(
            f"plugins: no module named {name} on Python's path; a file is named by its path, with .py"
        )
    if spec.origin is None or not Path(spec.origin).is_file():
        raise Refused(f"plugins: the module {name} has no source file")
    return Path(spec.origin).resolve()


def _digest(source: Path) -> str:
    """Of a file, or of all Python files of a package."""
    digest = hashlib.sha256()
    package = source.name == "__init__.py"
    for path in sorted(source.parent.rglob("*.py")) if package else [source]:
        digest.update(f"{path.relative_to(source.parent).as_posix()}\n".encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def _import(name: str, source: Path) -> None:
    if not _is_file(name):
        importlib.import_module(name)
        return
    # The same name in every process, so that what is pickled in one is found in another.
    module_name = f"scnas_plugin_{source.stem}_{hashlib.sha256(str(source).encode()).hexdigest()[:8]}"
    spec = importlib.util.spec_from_file_location(module_name, source)
    assert spec is not None and spec.loader is not None  # of a .py file there always are
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[module_name]
        raise


def _told(name: str, source: Path | None, error: BaseException) -> str:
    """Why a plugin could not be imported: what it raised, and the last of its own lines that led there."""
    if isinstance(error, Refused):
        return f"plugin {name}: {one_line(str(error), 400)}"
    own = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(source)]
    where = f" (line {own[-1].lineno})" if own else ""
    return f"plugin {name} cannot be imported: {type(error).__name__}: {one_line(str(error), 400)}{where}"


def describe() -> Mapping[str, str]:
    """Name -> digest, for the record of a run."""
    return {plugin.name: plugin.digest for plugin in loaded()}

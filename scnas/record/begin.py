"""What a run writes before anything can fail: settings.yaml and versions.json."""

import importlib.metadata
import json
import platform
import subprocess
import sys
from pathlib import Path

from scnas import plugins, resources
from scnas.contract import Refused
from scnas.files import refuse_links, write_whole
from scnas.settings import saved, schema

BEGUN = ("settings.yaml", "versions.json")
# Settings that may be others when a run is taken up again: no result that is finished depends on them. Of
# plugins it is their source that counts, which the archive knows, not the folder they lie in.
FREE = (
    "plugins", "executor.name", "executor.workers", "executor.device", "executor.timeout_s",
    "executor.address", "executor.cpus", "executor.gpus", "search.archive", "search.max_failed_share",
    "build.timeout_s", *(f"benchmark.{name}" for name in schema.Benchmark.__dataclass_fields__),
)  # fmt: skip


def begin(folder: Path, settings: schema.Config) -> None:
    """Write settings.yaml and versions.json to `folder`, before anything else can fail.

    A run that is taken up again keeps those it began with. Raises Refused if the folder cannot be
    written, or holds a run with other settings; those in FREE may differ.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if (folder / "settings.yaml").exists():
            refuse_links(folder)
            before, now = saved.flat(saved.read(folder / "settings.yaml")), saved.flat(settings)
            if differing := [name for name in now if now[name] != before[name] and name not in FREE]:
                name = differing[0]
                more = f" (and {len(differing) - 1} more)" if len(differing) > 1 else ""
                raise Refused(
                    f"{folder} holds a run with other settings: {name} is {before[name]} there, "
                    f"{now[name]} here{more}"
                )
        else:
            write_whole(folder / "settings.yaml", saved.to_yaml(settings))
        if not (folder / "versions.json").exists():
            write_whole(folder / "versions.json", json.dumps(versions(), indent=1) + "\n")
    except OSError as error:
        raise Refused(f"the run folder {folder} cannot be written: {error.strerror}") from None


def abandon(folder: Path) -> None:
    """Take away what begin() wrote, if nothing else has come into `folder` since."""
    rest = {p.name for p in folder.iterdir()}
    if rest <= set(BEGUN):
        for name in rest:
            (folder / name).unlink()


def version() -> str:
    """The version of scnas, or a word saying that it runs from files that were never installed."""
    try:
        return importlib.metadata.version("scnas")
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def versions() -> dict[str, object]:
    """What the numbers of a run may depend on besides its settings."""
    packages = {
        d.metadata["Name"]: d.version for d in importlib.metadata.distributions() if d.metadata["Name"]
    }
    return {
        "scnas": version(),
        "commit": _commit(),
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "python": platform.python_version(),
        "platform": platform.platform(),
        "plugins": plugins.describe(),
        "packages": dict(sorted(packages.items(), key=lambda item: item[0].lower())),
    }


def _commit() -> str | None:
    """The commit of the checkout this code runs from, with "+changes" if it differs; None outside one."""
    root = resources.checkout()
    if not (root / ".git").exists():
        return None

    def git(*words: str) -> str:
        command = ["git", "-C", str(root), *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("+changes" if git("status", "--porcelain") else "")
    except (OSError, subprocess.SubprocessError):  # no git, or no commit yet
        return None

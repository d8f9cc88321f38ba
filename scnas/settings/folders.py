"""The folders a command makes."""

import contextlib
from pathlib import Path
from typing import cast

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from scnas.settings import sweep


def task_overrides(hydra: DictConfig) -> list[str]:
    """The words of the command line that set something of ours, as they were written."""
    return cast(list[str], OmegaConf.to_container(hydra.overrides.task, resolve=False))


class FolderWatch(Callback):
    """Notes which folders Hydra is about to make, so that a refused command can take them away again,
    and what a sweep is, so that only the same command continues it.

    Named in conf/config.yaml; Hydra calls it before it touches the disk.
    """

    new: list[Path] = []  # of the latest command, the deepest first
    sweep: Path | None = None  # the folder of the latest command if that is a sweep

    def on_run_start(self, config: DictConfig, **_: object) -> None:
        FolderWatch.sweep = None
        self._note(config.hydra.run.dir)

    def on_multirun_start(self, config: DictConfig, **_: object) -> None:
        self._note(config.hydra.sweep.dir)
        FolderWatch.sweep = Path(config.hydra.sweep.dir)
        with contextlib.suppress(OSError):  # Hydra meets it next, and says so
            sweep.begin(FolderWatch.sweep, task_overrides(config.hydra))

    def _note(self, folder: str) -> None:
        path = Path(folder).absolute()
        FolderWatch.new[:] = [p for p in (path, *path.parents) if not p.exists()]

    @classmethod
    def take_away(cls) -> None:
        """Remove the noted folders, as far as they hold no results."""
        for folder in cls.new:
            try:
                if {p.name for p in folder.iterdir()} <= {"multirun.yaml", "sweep.json"}:  # without one job
                    for file in folder.iterdir():
                        file.unlink()
                folder.rmdir()
            except FileNotFoundError:  # refused before it was made
                continue
            except OSError:  # not empty
                return

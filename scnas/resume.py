"""The bracket around a search: its folder, archive and workers, whether the run is new or was broken off."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from scnas.record import begin
from scnas.settings import schema
from scnas.settings.schema import Config
from scnas.tasks import Task
from scnas.trials import cluster, keys
from scnas.trials.archive import Archive
from scnas.trials.database import NAME, held
from scnas.trials.executor import Executor, Local
from scnas.trials.trainer import Trainer


class Workshop(NamedTuple):
    """What a search trains with, and where it keeps what was trained."""

    archive: Archive
    trainer: Trainer


@contextlib.contextmanager
def workshop(settings: Config, folder: Path, task: Task) -> Iterator[Workshop | None]:
    """The archive and the trainer of the run in `folder`; None, and a line, if that run is finished.

    The folder is begun, or taken up again as it was left, however that was. No other process may work in it
    meanwhile. Raises Refused where it holds a run with other settings, data or training code.
    """
    data = keys.fingerprint(task)
    begin.begin(folder, settings)
    with contextlib.ExitStack() as stack:
        stack.enter_context(held(folder))
        workers = stack.enter_context(executor_for(task, settings.executor))
        archive = stack.enter_context(Archive(folder / NAME, data))
        archive.agree({"data": data, "device": workers.device, **keys.training_code()})
        if archive.fact("finished"):
            print(f"{folder} holds this run, finished; nothing is left to do", flush=True)
            yield None
            return
        if known := archive.count():
            print(f"{folder}: {known} training groups are in its archive, and are not repeated", flush=True)
        shared = None
        if settings.search.archive is not None:
            shared = stack.enter_context(Archive(settings.search.archive, data))
        yield Workshop(archive, Trainer(task, workers, archive, shared))


def executor_for(task: Task, settings: schema.Executor) -> contextlib.AbstractContextManager[Executor]:
    """Where the trainings of a run take place; Refused, one line, if that place is not there."""
    where = (task, settings.workers, settings.device, settings.timeout_s)
    match settings.name:
        case "ray":
            return cluster.Cluster(*where, address=settings.address, cpus=settings.cpus, gpus=settings.gpus)
        case _:
            return Local(*where)

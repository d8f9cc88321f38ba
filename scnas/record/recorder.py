"""The Recorder of a run: TensorBoard, the progress line, and the files at its end."""

import shutil
from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

from rich import progress
from rich.console import Console
from rich.progress import TaskID

from scnas import metrics
from scnas.build import Built
from scnas.evaluation import Evaluation, Generation
from scnas.hardware.targets import Target
from scnas.record.figures import _pixels, front_figure
from scnas.record.page import energy_line, write_winner
from scnas.record.tables import _markdown, show
from scnas.record.written import write_front
from scnas.search.evaluation import Reference
from scnas.settings import schema

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Recorder:
    """Logs a search to folder/tensorboard, shows it on the terminal, writes what it found.

    reference: what the hypervolume is measured against; its objectives are those of the search.
    A context manager. The progress bar goes to stderr, and only where stderr is a terminal.
    """

    def __init__(self, folder: Path, settings: schema.Config, target: Target, reference: Reference):
        from torch.utils.tensorboard import SummaryWriter  # takes a second, and the other jobs log nothing

        self.folder, self.settings, self.target, self.reference = folder, settings, target, reference
        self.title = task_title(settings.task)
        # A run that is taken up again logs itself from the start.
        shutil.rmtree(folder / "tensorboard", ignore_errors=True)
        self._writer = SummaryWriter(str(folder / "tensorboard"))
        self._end_of_session = self._begin_session()
        self._seconds = 0.0  # of the search, when the latest generation was done
        self._progress = _progress()
        self._bar: TaskID | None = None
        self._notes: list[str] = []

    def __enter__(self) -> "Recorder":
        if self._progress is not None:
            total = self.settings.search.generations
            self._bar = self._progress.add_task("search", total=total, text="first generation")
            self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def generation(self, g: Generation) -> None:
        """Log one generation."""
        new = max(1, len(g.evaluated))
        scalars = {
            "search/hypervolume": g.hypervolume,
            "search/front_size": len(g.front),
            "search/feasible_share": sum(e.violation == 0 for e in g.evaluated) / new,
            "search/failed_share": sum(e.failed is not None for e in g.evaluated) / new,
            "search/candidates_per_minute": 60 * len(g.evaluated) / max(g.seconds - self._seconds, 1e-9),
        }
        if g.front:
            scalars["search/best_accuracy"] = max(e.metrics["accuracy"] for e in g.front)
        self._seconds = g.seconds
        for name, value in scalars.items():
            self._writer.add_scalar(name, value, g.number)
        self._log_front("front", front_figure(g.front, self.target, self.title, g.archive), g.front, g.number)
        best = f"best {100 * scalars['search/best_accuracy']:.1f}%" if g.front else "nothing fits yet"
        speed = f"{scalars['search/candidates_per_minute']:.0f} candidates/min"
        if self._progress is not None and self._bar is not None:
            text = f"{speed}, {best}, hypervolume {g.hypervolume:.4f}"
            self._progress.update(self._bar, completed=g.number + 1, text=text, refresh=True)

    def stage(self, what: str) -> None:
        """Say on the terminal what happens now, after the search, and takes a while of unknown length."""
        if self._progress is not None and self._bar is not None:
            self._progress.remove_task(self._bar)
            self._bar = self._progress.add_task(what, total=None, text=what)
            self._progress.refresh()

    def finish(
        self,
        last: Generation,
        front: Sequence[Evaluation],
        winner: Evaluation,
        interrupted: bool = False,
        built: Built | None = None,
    ) -> None:
        """Write the front and the winner, and say on the terminal what there is and where.

        last: the generation the search ended with. front: its members after their full training.
        """
        where = (self.title, self.target)
        figure = front_figure(front, self.target, self.title, last.archive, winner)
        write_front(self.folder, front, winner, figure, self.reference.objectives, *where)
        hardware = "" if built is None else "\n" + built.page
        write_winner(self.folder, winner, self.settings.search.winner, *where, hardware)
        for row in metrics.shown():
            if row.name in winner.metrics:
                self._writer.add_scalar(f"winner/{row.name}", winner.metrics[row.name], last.number)
        self._log_front("final_front", figure, front, last.number)
        self._summary(self._end_of_session)
        self.close()
        show(self.folder, front, winner, self.target, interrupted)
        spent = energy_line(winner.metrics, self.target.energy_label)
        for line in [*self._notes, *(built.lines() if built is not None else ()), *spent]:
            print(line, flush=True)

    def note(self, what: str) -> None:
        """Something to say at the end."""
        self._notes.append(what)

    def close(self) -> None:
        """Leave the terminal as it was and the log on the disk. Twice is fine."""
        if self._progress is not None:
            self._progress.stop()
        self._writer.close()

    def _log_front(self, name: str, figure: "Figure", front: Sequence[Evaluation], step: int) -> None:
        self._writer.add_image(name, _pixels(figure), step, dataformats="HWC")
        self._writer.add_text(name, _markdown(front), step)
        self._writer.flush()

    def _summary(self, entry: object) -> None:
        assert self._writer.file_writer is not None  # until it is closed
        self._writer.file_writer.add_summary(entry)

    def _begin_session(self) -> object:
        """Log the settings as hparams, in the same folder; returns what ends the session.

        The schema is that of schema.Config and metrics.shown(), the same for every run, so that
        TensorBoard can put any runs side by side. SummaryWriter.add_hparams would open a sub-folder.
        """
        from torch.utils.tensorboard.summary import hparams  # as SummaryWriter

        of_winner = [f"winner/{row.name}" for row in metrics.shown()]
        names = ["search/hypervolume", "search/best_accuracy", *of_winner]
        experiment, start, end = hparams(_hparams(self.settings), dict.fromkeys(names, 0.0))
        self._summary(experiment)
        self._summary(start)
        return end


def _hparams(settings: Any, prefix: str = "") -> dict[str, float | str]:
    """Every setting as a number where it always is one, otherwise as a text: types never vary by run."""
    found: dict[str, float | str] = {}
    hints = get_type_hints(type(settings))
    for f in fields(settings):
        value = getattr(settings, f.name)
        if is_dataclass(value):
            found |= _hparams(value, f"{prefix}{f.name}.")
        elif hints[f.name] in (int, float):
            found[prefix + f.name] = float(value)
        else:
            found[prefix + f.name] = "null" if value is None else _words(value)
    return found


def _words(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def task_title(settings: schema.Task) -> str:
    """What people call the data: the family, or the name of the file or folder they come from."""
    return settings.name if settings.path is None else Path(settings.path).stem


def _progress() -> progress.Progress | None:
    """A progress bar on stderr, not yet started; None where nobody would see it."""
    console = Console(stderr=True)
    if not console.is_terminal:
        return None
    return progress.Progress(
        progress.SpinnerColumn(),
        progress.MofNCompleteColumn(),
        progress.BarColumn(bar_width=20),
        progress.TextColumn("{task.fields[text]}"),
        progress.TimeRemainingColumn(compact=True),
        progress.TextColumn("left"),
        console=console,
        transient=True,
    )

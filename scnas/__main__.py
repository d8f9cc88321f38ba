"""Hydra in, plain settings out, one call to run().

    python -m scnas +experiment=digits_ice40
    python -m scnas --help

Exit codes: 0 done; 2 wrong settings, data or folder, told in one line; 1 a fault of the program, with
its traceback; 130 interrupted before anything could be kept. HYDRA_FULL_ERROR=1 shows the traceback
behind a line. A sweep (-m) goes on after a failed job, ends with a table of its jobs and the code of the
gravest; the same command passes over the jobs that are done and takes up the others.
"""

import contextlib
import errno
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from scnas import interrupts, resources
from scnas.contract import Refused
from scnas.record import begin
from scnas.settings import compose, flags, folders, saved, sweep, words

DONE, FAULT, REFUSED, INTERRUPTED = 0, 1, 2, 130  # sweep.CODES says which status of a job is which
# What the machine refuses, whoever asks: these are no faults of the program.
_REFUSALS = (
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
    errno.EIO,
    errno.ENOTDIR,
    errno.EISDIR,
)


def _end(*_: object) -> None:
    """On SIGTERM, which a scheduler sends: the run ends as on Ctrl-C, and what there is is kept."""
    raise KeyboardInterrupt


def main() -> int:
    """Run the command line in sys.argv; returns the exit code."""
    if (code := _arguments()) is not None:
        return code
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _end)
    wants_traceback = os.environ.get("HYDRA_FULL_ERROR") == "1"
    here = os.getpid()
    codes: list[int] = []  # of the jobs that ran in this process
    folders.FolderWatch.sweep = None

    def job(cfg: DictConfig) -> None:
        name, code, error = _run_job(cfg)
        if error is not None:  # in a launcher's process: its record carries it home
            _tell(name, error, code, wants_traceback)
        codes.append(code)
        if code == INTERRUPTED and os.getpid() == here:  # ends a sweep, too
            raise KeyboardInterrupt

    interrupted = False
    try:
        with _hydra_raises():
            start = hydra.main(version_base="1.3", config_path=str(resources.conf()), config_name="config")
            start(job)()
    except KeyboardInterrupt:
        interrupted = True
    except SystemExit as end:  # Hydra, after --help and the like
        return REFUSED if end.code else DONE
    except Exception as error:  # nothing of ours: jobs keep theirs
        if isinstance(error, OSError) and not isinstance(error, words.HYDRA_ERRORS):
            error = Refused(f"the output folder (hydra.run.dir) cannot be made: {_line(error)}")
        return _tell("", error, REFUSED, wants_traceback)
    finally:
        if folders.FolderWatch.sweep is not None:
            try:
                codes = _end_of_sweep(folders.FolderWatch.sweep, here)
            except Refused as error:
                _say(str(error))
                codes = [REFUSED]
        if all(code != DONE for code in codes):
            folders.FolderWatch.take_away()
    if interrupted:
        return INTERRUPTED
    return min((code for code in codes if code != DONE), default=DONE)  # a fault outranks a refusal


def _end_of_sweep(folder: Path, here: int) -> list[int]:
    """Print the table of a sweep's jobs; returns their exit codes.

    Takes away the folders of jobs that were refused and left nothing but their record.
    """
    rows = sweep.jobs(folder)
    if not rows:
        return []
    for line in sweep.table(rows):
        print(line, flush=True)
    failed = [job for job, _ in rows if job.status not in ("done", "interrupted")]
    for job in failed:
        if job.pid != here:  # told where nobody may have seen it
            _say(f"{job.name}: {job.message or 'its process died; the same command takes it up again'}")
    if failed and len(rows) > 1:
        _say(f"{len(failed)} of {len(rows)} jobs failed: {', '.join(job.name for job in failed)}")
    for job, place in rows:
        if job.status == "refused" and [p.name for p in place.iterdir()] == ["job.json"]:
            (place / "job.json").unlink()
            place.rmdir()
    return [sweep.CODES[job.status] for job, _ in rows]


def _arguments() -> int | None:
    """None if Hydra may read sys.argv; otherwise the exit code, everything said."""
    try:
        arguments = flags.read(sys.argv[1:])
        if arguments.version:
            print(f"scnas {begin.version()}")
            return DONE
        compose.refuse_lists(arguments.overrides)
        compose.import_plugins(arguments.overrides)
        if arguments.multirun or "hydra.mode=MULTIRUN" in arguments.overrides:
            named = [w.partition("=")[2] for w in arguments.overrides if w.startswith("hydra.sweep.dir=")]
            folder = named[-1].strip("'\"") if named else sweep.default_folder(arguments.overrides)
            sweep.refuse_another(Path(folder), arguments.overrides)
            if not named:
                sys.argv.append(f"hydra.sweep.dir={folder}")
    except Refused as error:
        _say(str(error))
        return REFUSED
    return None


@contextlib.contextmanager
def _hydra_raises() -> Iterator[None]:
    """Within it Hydra raises what it found; otherwise it prints several lines and exits."""
    before = os.environ.get("HYDRA_FULL_ERROR")
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["HYDRA_FULL_ERROR"]
        else:
            os.environ["HYDRA_FULL_ERROR"] = before


def _run_job(cfg: DictConfig) -> tuple[str, int, Exception | None]:
    """Run once; returns the name in a sweep ("" outside one), the exit code, and what ended it.

    In a sweep the job leaves its record, and is passed over if it is done according to its record.
    """
    context: Any = HydraConfig.get()  # typed as the class it is made by, and a DictConfig
    folder = Path(context.runtime.output_dir)
    number = OmegaConf.select(context, "job.num", throw_on_missing=False)
    if number is None:
        return "", *_run_once(cfg, folder)
    overrides = sweep.own(folders.task_overrides(context))
    job = sweep.Job(number, tuple(overrides), "running", pid=os.getpid())
    try:
        before = sweep.load(folder)
        if before is not None and before.status == "done" and _is_done(before, job, cfg, folder):
            print(f"{job.name}: {folder} is done", flush=True)
            return job.name, DONE, None
        print(f"{job.name}: {folder}", flush=True)
        job.save(folder)
    except (Refused, OSError, *words.HYDRA_ERRORS) as refusal:
        return job.name, REFUSED, refusal
    code, error = _run_once(cfg, folder)
    status = next(status for status, c in sweep.CODES.items() if c == code and status != "running")
    message = "" if error is None else _line(error) if code == REFUSED else f"{type(error).__name__}: {error}"
    accuracy = _best_accuracy(folder)
    replace(job, status=status, message=" ".join(message.split()), best_accuracy=accuracy).save(folder)
    return job.name, code, error


def _run_once(cfg: DictConfig, folder: Path) -> tuple[int, Exception | None]:
    """Run the job in `folder`; returns the exit code and what ended it."""
    new, in_sweep = False, False
    try:
        there = {p.name for p in folder.iterdir()}
        new, in_sweep = there <= {"job.json"}, "job.json" in there
        with interrupts.noted() as interrupted:
            settings = compose.from_command(cfg)
            from scnas.run import run  # torch takes seconds to load; a wrong setting need not wait for it

            run(settings, folder)
        return INTERRUPTED if interrupted and in_sweep else DONE, None
    except KeyboardInterrupt:
        return INTERRUPTED, None
    except Exception as error:
        if not _is_for_user(error):
            return FAULT, error
        if new:
            begin.abandon(folder)
        return REFUSED, error


def _is_done(before: sweep.Job, job: sweep.Job, cfg: DictConfig, folder: Path) -> bool:
    """Whether the record in `folder` is that of a search with these very settings, and its front is there."""
    settings = compose.from_command(cfg)
    if settings.job != "search" or before.overrides != job.overrides or not (folder / "front.json").exists():
        return False
    there, here = saved.flat(saved.read(folder / "settings.yaml")), saved.flat(settings)
    return all(there[name] == here[name] or name in begin.FREE for name in here)


def _best_accuracy(folder: Path) -> float | None:
    """The best validation accuracy of the front that a job left; None where there is none."""
    if not (folder / "front.json").exists():
        return None
    from scnas.record import front  # takes a second to load, which a wrong setting need not wait for

    try:
        return max(member.metrics["accuracy"] for member in front.read(folder, networks=False).members)
    except Refused:
        return None


def _is_for_user(error: Exception) -> bool:
    """Whether an error of a job is a line for the user, or what the machine refuses, rather than a fault."""
    if isinstance(error, OSError):
        return error.errno in _REFUSALS
    return isinstance(error, (Refused, *words.HYDRA_ERRORS))


def _tell(name: str, error: Exception, code: int, wants_traceback: bool) -> int:
    """Say what went wrong on stderr: one line, or the traceback of a fault; returns `code`."""
    if code == FAULT or wants_traceback:
        if name:
            _say(f"{name}:")
        traceback.print_exception(error)
        return code
    _say((f"{name}: " if name else "") + _line(error))
    return code


def _line(error: Exception) -> str:
    """What went wrong, in one line."""
    if isinstance(error, words.HYDRA_ERRORS):
        return words.explain(error)
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename or 'the machine'}: {error.strerror}"
    return " ".join(str(error).split()) or type(error).__name__


def _say(line: str) -> None:
    print(f"scnas: {line}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())

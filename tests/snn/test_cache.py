"""Compiled code on disk: an edit of any file that it is made of is seen, and old code goes."""

import ast
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from scnas import resources
from scnas.snn.cpu import cache

# Compiles in a moment: a caller and a callee in two files of the package.
CALLEE = "from scnas.snn.cpu.cache import exact\n\n\n@exact\ndef callee(x):\n    return x + {}\n"
CALLER = """
from scnas.snn.cpu.cache import exact
from scnas.snn.cpu.callee import callee


@exact
def caller(x):
    return 2 * callee(x)
"""
# Calls it, and says whether it was found on disk.
RUN = """
from scnas.snn.cpu.caller import caller
print(caller(1), sum(caller.stats.cache_hits.values()), caller.stats.cache_path)
"""
STALE = "from scnas import resources\nresources.digest = lambda files: '0' * 64\n" + RUN


@pytest.fixture
def package(tmp_path):
    """The folder of a copy of the package, as small as compiled code needs it, with a caller and a callee."""
    ours, copy = resources.package(), tmp_path / "copy" / "scnas"
    (copy / "snn").mkdir(parents=True)
    for name in ("__init__.py", "resources.py", "contract.py", "snn/__init__.py", "snn/surrogate.py"):
        shutil.copy(ours / name, copy / name)
    (copy / "snn" / "cpu").mkdir()
    for name in ("__init__.py", "cache.py"):
        shutil.copy(ours / "snn" / "cpu" / name, copy / "snn" / "cpu" / name)
    (copy / "snn/cpu/caller.py").write_text(CALLER)
    (copy / "snn/cpu/callee.py").write_text(CALLEE.format(1))
    return copy


def run(package, code=RUN, **variables):
    """What a process says that runs `code` with this package, its caches beside it."""
    variables = {"XDG_CACHE_HOME": str(package.parent / "user"), "NUMBA_CACHE_DIR": ""} | variables
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(package.parent), "PYTHONDONTWRITEBYTECODE": "1", **variables},
        capture_output=True,
        text=True,
        cwd=package.parent,
    )
    assert done.returncode == 0, done.stderr
    return (*done.stdout.split(), done.stderr)


def test_an_edited_callee_is_compiled_anew(package):
    assert run(package)[:2] == ("4", "0")
    assert run(package)[:2] == ("4", "1")  # found on disk
    (package / "snn/cpu/callee.py").write_text(CALLEE.format(10))
    assert run(package)[:2] == ("22", "0")
    (package / "snn/cpu/callee.py").write_text(CALLEE.format(1))
    assert run(package)[:2] == ("4", "1")  # and so is the version before


def test_without_a_digest_an_edited_callee_would_stay_what_it_was(package):
    """What the digest is for: should Numba learn to look at callees, this fails, and the digest may go."""
    assert run(package, STALE)[:2] == ("4", "0")
    (package / "snn/cpu/callee.py").write_text(CALLEE.format(10))
    assert run(package, STALE)[:2] == ("4", "1")


def test_the_cache_lies_where_the_user_wants_it(package):
    *_, path, _ = run(package)
    assert Path(path).parts[: len(package.parts)] == (*package.parent.parts, "user")
    assert Path(path).relative_to(package.parent / "user").parts[0] == "scnas"
    own = package.parent / "own"
    *_, path, _ = run(package, NUMBA_CACHE_DIR=str(own))
    assert Path(path).relative_to(own).parts[0].startswith(cache.PREFIX)


def test_where_nothing_can_be_written_code_is_compiled_and_not_kept(package):
    (package.parent / "user").write_text("a file, and no folder")
    value, hits, path, errors = run(package, RUN.replace("caller.stats.cache_path", "'none'"))
    assert (value, hits, path) == ("4", "0", "none")
    assert "RuntimeWarning: compiled code cannot be kept" in errors and "NUMBA_CACHE_DIR" in errors
    assert not list(package.rglob("*.nbi"))  # nor beside the source, where it would become stale
    assert run(package, RUN.replace("caller.stats.cache_path", "'none'"))[:2] == ("4", "0")


def test_caches_of_old_versions_go(tmp_path):
    now, day = time.time(), 24 * 3600
    for age in range(12):
        folder = tmp_path / f"{cache.PREFIX}{age:02}"
        folder.mkdir()
        (folder / "code.nbc").touch()
        os.utime(folder, (now - age * day,) * 2)
    (tmp_path / "of-another").mkdir()
    os.utime(tmp_path / "of-another", (0, 0))
    cache.tidy(tmp_path)
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == ["of-another", *(f"{cache.PREFIX}{age:02}" for age in range(cache.KEPT))]
    for path in tmp_path.iterdir():
        os.utime(path)
    for age in range(8, 12):
        (tmp_path / f"{cache.PREFIX}{age:02}").mkdir()
    cache.tidy(tmp_path)
    assert len(list(tmp_path.iterdir())) == 13  # what was used of late stays, however many there are


def test_the_digest_is_of_all_that_compiled_code_is_made_of():
    """Whatever a file with compiled functions takes from the package is in the digest."""
    digested, root = {file.resolve() for file in cache.sources()}, resources.package()
    seen = 0
    for file in digested:
        tree = ast.parse(file.read_text())
        imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
        names = {
            alias.name for node in imports if node.module == "scnas.snn.cpu.cache" for alias in node.names
        }
        if not names:
            continue
        seen += 1
        for node in imports:
            if node.module.startswith("scnas"):
                own = root.joinpath(*node.module.split(".")[1:])
                parts = [own.with_suffix(".py")] if own.with_suffix(".py").is_file() else []
                parts = parts or [own / f"{alias.name}.py" for alias in node.names]
                assert {part.resolve() for part in parts} <= digested, (file.name, node.module)
    assert seen > 8

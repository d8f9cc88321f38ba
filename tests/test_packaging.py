"""The package finds its files wherever it is, and the pinned versions are those it asks for."""

import ast
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
import torch

from scnas import resources
from scnas.contract import Refused

ROOT = Path(__file__).resolve().parent.parent
GPU = ("nvidia-", "cuda-", "triton")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def words(text: str) -> list[int]:
    return [int(n) for n in re.findall(r"\d+", text)]


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return {canonical(line.split("==")[0]): line.split("==")[1] for line in lines if not line.startswith("#")}


def asked() -> list[str]:
    extras = PROJECT["optional-dependencies"]
    return [*PROJECT["dependencies"], *(need for extra in extras.values() for need in extra)]


@pytest.mark.parametrize("requirement", asked())
def test_every_dependency_is_pinned_to_a_version_that_is_new_enough(requirement):
    name, _, least = requirement.partition(">=")
    assert least and words(pins()[canonical(name)]) >= words(least)


def test_what_the_dependencies_need_is_pinned_too():
    """Whatever is installed because of a pinned package is pinned itself, but for the GPU parts that a
    CUDA build of torch names exactly."""
    missing = set()
    for name in pins():
        try:
            needs = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            continue  # for another platform
        for need in needs:
            other = canonical(re.match(r"[\w.-]+", need)[0])
            if "extra ==" not in need and other not in pins() and not other.startswith(GPU):
                try:
                    metadata.version(other)
                except metadata.PackageNotFoundError:
                    continue  # not needed here
                missing.add(other)
    assert missing == set()


def imported() -> dict[str, str]:
    """Module of someone else's -> a file of ours that imports it.

    peers.py runs in an environment of its own, that of `make peers`.
    """
    found = {}
    for path in (ROOT / "scnas").rglob("*.py"):
        if path.name == "peers.py":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module]
            else:
                continue
            for name in (n.partition(".")[0] for n in names):
                if name not in sys.stdlib_module_names and name != "scnas":
                    found[name] = str(path.relative_to(ROOT))
    return found


@pytest.mark.parametrize("module", imported())
def test_whatever_is_imported_is_a_declared_dependency(module):
    """Not something that happens to be there because another package needs it today."""
    extras = PROJECT["optional-dependencies"]
    declared = [*PROJECT["dependencies"], *(d for name in extras if name != "dev" for d in extras[name])]
    owners = metadata.packages_distributions().get(module, [module])
    assert {canonical(o) for o in owners} & {canonical(d.partition(">=")[0]) for d in declared}, imported()[
        module
    ]


def test_torch_is_new_enough_for_us():
    assert words(torch.__version__)[:2] >= [2, 11] and pins()["torch"] == "2.13.0"


def test_the_folders_are_found():
    assert (resources.conf() / "config.yaml").is_file()
    assert (resources.hdl() / "sc_lif_neuron.v").is_file()


def test_a_lost_folder_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(resources, "_PACKAGE", tmp_path / "scnas")
    with pytest.raises(Refused, match="conf/ is missing: neither .*scnas/conf nor .*/conf"):
        resources.conf()


# -- make -------------------------------------------------------------------------------------------------


def make(*words: str) -> subprocess.CompletedProcess:
    if shutil.which("make") is None:
        pytest.skip("make is not on PATH")
    clean = {k: v for k, v in os.environ.items() if not k.startswith("MAKE")}
    return subprocess.run(["make", "-C", str(ROOT), *words], capture_output=True, text=True, env=clean)


def test_make_installs_once(tmp_path):
    first = make("-n", "demo", f"VENV={tmp_path}").stdout
    assert f"{tmp_path}/bin/python -m pip install" in first
    assert first.count("--constraint constraints.txt") == 1 and "-m scnas +experiment=digits_ice40" in first
    (tmp_path / ".scnas-installed").touch()
    second = make("-n", "demo", f"VENV={tmp_path}").stdout
    assert "pip install" not in second and "-m scnas +experiment=digits_ice40" in second


def test_make_test_checks_style_and_runs_the_quick_tests(tmp_path):
    (tmp_path / ".scnas-installed").touch()
    said = make("-n", "test", f"VENV={tmp_path}").stdout
    assert "ruff check ." in said and "ruff format --check ." in said and "-m mypy" in said
    assert '-m pytest -q -m "not slow and not gpu"' in said


def test_make_refuses_a_python_that_does_not_suit(tmp_path):
    process = make("install", f"VENV={tmp_path}", "PYTHON=false")
    assert process.returncode != 0 and "scnas needs Python 3.11 to 3.13" in process.stdout


def test_what_has_to_pass_is_make_test():
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK) and script.read_text().rstrip().endswith("exec make test")


# -- the wheel --------------------------------------------------------------------------------------------


def files(folder: str) -> set[str]:
    """Those of a folder of the checkout, without what Python and numba keep beside them."""
    found = [p for p in (ROOT / folder).rglob("*") if p.is_file() and p.parent.name != "__pycache__"]
    return {p.relative_to(ROOT).as_posix() for p in found}


@pytest.mark.slow
def test_a_wheel_carries_its_files_and_runs_outside_the_checkout(tmp_path):
    subprocess.run(
        [sys.executable, "-m", "build", "--outdir", str(tmp_path), str(ROOT)], check=True, capture_output=True
    )  # the wheel is built from the sdist, so both are complete
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as file:
        names = set(file.namelist())
        file.extractall(tmp_path / "site")
    for folder in ("conf", "hdl"):
        inside = {n.removeprefix("scnas/") for n in names if n.startswith(f"scnas/{folder}/")}
        assert inside == files(folder)
    assert files("scnas") <= names  # the figures of the cost model with them
    (sdist,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(sdist) as file:
        packed = {name.partition("/")[2] for name in file.getnames()}
    for folder in ("scnas", "conf", "hdl", "tests", "docs", "experiments", ".ci"):
        assert files(folder) <= packed, folder
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "site")}
    where = "from scnas import resources; print(resources.conf(), resources.hdl())"
    outside = {"cwd": tmp_path, "env": environment, "capture_output": True, "text": True, "check": True}
    found = subprocess.run([sys.executable, "-c", where], **outside).stdout.split()
    assert found == [str(tmp_path / "site/scnas/conf"), str(tmp_path / "site/scnas/hdl")]
    subprocess.run([sys.executable, "-m", "scnas", "+experiment=smoke", "hydra.run.dir=run"], **outside)
    assert (tmp_path / "run" / "winner" / "network.json").is_file()

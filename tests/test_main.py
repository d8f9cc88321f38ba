"""The command line: one line and exit code 2 for what the user can mend, a traceback for what we must."""

import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import yaml

import scnas.__main__ as command
from scnas.settings import compose, flags, saved


@pytest.fixture
def scnas(monkeypatch, tmp_path, capfd):
    """scnas(*words, run=source of a function) -> (exit code, lines of stdout, lines of stderr)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)

    def call(*words: str, run: str = "def run(settings, folder): (folder / 'done').touch()"):
        story = ModuleType("scnas.run")
        exec(run, story.__dict__)
        monkeypatch.setitem(sys.modules, "scnas.run", story)
        monkeypatch.setattr(sys, "argv", ["scnas", *words])
        capfd.readouterr()
        code = command.main()
        out, err = capfd.readouterr()
        return code, out.splitlines(), err.splitlines()

    return call


def files(folder: Path) -> set[str]:
    return {str(p.relative_to(folder)) for p in folder.rglob("*")}


# -- runs that end well -----------------------------------------------------------------------------------


def test_a_run_gets_plain_settings_and_a_folder_named_after_the_experiment(scnas, tmp_path):
    source = """
import dataclasses
def run(settings, folder):
    assert dataclasses.is_dataclass(settings) and settings.search.seed == 5
    assert type(settings.space.width_choices) is list
    (folder / "done").touch()
"""
    assert scnas("+experiment=smoke", "search.seed=5", run=source) == (0, [], [])
    (done,) = tmp_path.glob("outputs/smoke/*/done")
    assert len(done.parent.name) == len("2026-01-31_23-59-59")


def test_without_an_experiment_the_folder_is_called_default(scnas, tmp_path):
    assert scnas()[0] == 0
    assert len(list(tmp_path.glob("outputs/default/*/done"))) == 1


def test_the_folder_can_be_chosen(scnas, tmp_path):
    assert scnas("hydra.run.dir=here") == (0, [], [])
    assert files(tmp_path) == {"here", "here/done"}


def test_a_sweep_numbers_its_jobs(scnas, tmp_path):
    source = """
def run(settings, folder):
    (folder / f"{settings.target.name}-{settings.search.seed}").touch()
"""
    code, out, err = scnas("-m", "search.seed=0,1", "target=ice40,ecp5_25k", "hydra.sweep.dir=s", run=source)
    assert (code, err) == (0, [])
    assert files(tmp_path / "s") == {
        *("multirun.yaml", "sweep.json", "0", "1", "2", "3"),
        *("0/job.json", "1/job.json", "2/job.json", "3/job.json"),
        *("0/ice40-0", "1/ecp5_25k-0", "2/ice40-1", "3/ecp5_25k-1"),
    }
    assert out[3].startswith("job 3 (search.seed=1 target=ecp5_25k): ")
    assert out[4].split() == ["job", "status", "best", "accuracy", "folder", "overrides"]
    assert out[8].split() == ["3", "done", "s/3", "search.seed=1", "target=ecp5_25k"]


def test_cfg_shows_the_settings_and_runs_nothing(scnas, tmp_path):
    code, out, err = scnas("+experiment=smoke", "search.seed=3", "--cfg", "job")
    assert (code, err, files(tmp_path)) == (0, [], set())
    assert yaml.safe_load("\n".join(out))["search"]["seed"] == 3


def test_help_names_the_commands_the_groups_and_their_options(scnas, tmp_path):
    code, out, _ = scnas("--help")
    text = "\n".join(out)
    assert code == 0 and files(tmp_path) == set()
    assert "python -m scnas +experiment=digits_ice40" in text and "target: artix7, ecp5" in text


def test_version(scnas):
    code, out, err = scnas("--version")
    assert (code, err) == (0, []) and out[0].startswith("scnas ")


# -- what the user can mend -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words, line",
    [
        (["+experiment=nope"], "experiment must be one of"),
        (["target=ice99"], "target must be one of"),
        (["target=[ice40,ecp5]"], "target must be one option"),
        (["search.popluation=8"], "search.popluation is not a setting"),
        (["+search.popluation=8"], "search.popluation is not a setting"),
        (["search.seed=abc"], "search.seed must be a whole number"),
        (["search.population_size=1"], "search.population_size must be a whole number from 2"),
        (["space.min_layers=9"], "space.min_layers must be at most"),
        (["space.L_choices=[48]"], "space.L_choices must be a power of two"),
        (["task.path=${oc.env:NO_SUCH_VARIABLE}"], "task.path: "),
        (["smoke"], "'smoke' is not of the form setting=value"),
        (["hydra.run.dir=file"], "the output folder (hydra.run.dir) cannot be made: file: "),
        (["hydra.run.dir=file/folder"], "the output folder (hydra.run.dir) cannot be made: file/folder: "),
        (["-m", "target=ice40,ice99"], "target must be one of"),
        (["-m", "search.seed=0,1", "target=[ice40,ecp5]"], "target must be one option"),
        (["--cfg", "everything"], "argument --cfg/-c: invalid choice"),
        (["--verbose"], "unrecognized arguments: --verbose"),
        (["--config-dir", "nowhere"], "Additional config directory"),
        (["--config-name", "nope"], "Cannot find primary config 'nope'"),
        (["--experimental-rerun", "x.pickle"], "--experimental-rerun is not offered"),
        (["--cfg", "job", "--multirun"], "Only one of --run, --multirun, --cfg"),
        (["--resolve"], "The --resolve flag can only be used"),
    ],
)
def test_a_wrong_command_is_one_line_and_leaves_nothing(words, line, scnas, tmp_path):
    (tmp_path / "file").touch()
    code, _, err = scnas(*words)
    assert code == 2 and len(err) == 1 and err[0].startswith(f"scnas: {line}"), err
    assert files(tmp_path) == {"file"}


def test_a_package_that_is_not_there_is_refused(scnas):
    assert scnas("--cfg", "job", "--package", "foo")[::2] == (2, ["package 'foo' not found in config"])


REFUSING = """
from scnas.contract import Refused
from scnas.record import begin
def run(settings, folder):
    begin.begin(folder, settings)
    raise Refused("task.path must name a folder,\\n got nowhere")
"""


def test_what_a_run_refuses_is_one_line_and_leaves_nothing(scnas, tmp_path):
    assert scnas(run=REFUSING) == (2, [], ["scnas: task.path must name a folder, got nowhere"])
    assert files(tmp_path) == set()


def test_a_refusal_takes_away_nothing_that_was_there_before(scnas, tmp_path):
    (tmp_path / "mine").mkdir()
    assert scnas("hydra.run.dir=mine", run=REFUSING)[0] == 2
    assert files(tmp_path) == {"mine"}
    (tmp_path / "mine" / "settings.yaml").write_text(saved.to_yaml(compose.load()))
    assert scnas("hydra.run.dir=mine", run=REFUSING)[0] == 2
    assert "mine/settings.yaml" in files(tmp_path)


def test_a_refusal_keeps_what_was_computed(scnas, tmp_path):
    source = """
def run(settings, folder):
    (folder / "generation").touch()
    from scnas.contract import Refused
    raise Refused("search.max_failed_share is 0.5, but all failed")
"""
    assert scnas("hydra.run.dir=here", run=source)[0] == 2
    assert files(tmp_path) == {"here", "here/generation"}


@pytest.mark.parametrize(
    "source, line",
    [
        ("def run(s, f): raise OSError(28, 'No space left on device', 'x.json')", "x.json: No space left"),
        ("def run(s, f): raise PermissionError(13, 'Permission denied', 'x')", "x: Permission denied"),
    ],
)
def test_what_the_machine_refuses_is_one_line_too(source, line, scnas):
    code, _, err = scnas(run=source)
    assert code == 2 and len(err) == 1 and err[0].startswith(f"scnas: {line}")


def test_the_traceback_behind_a_line_can_be_asked_for(scnas, monkeypatch):
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    code, _, err = scnas(run=REFUSING)
    assert code == 2 and err[0].startswith("Traceback")
    assert os.environ["HYDRA_FULL_ERROR"] == "1"


def test_a_sweep_goes_on_after_a_refused_job_and_says_which_it_was(scnas, tmp_path):
    code, _, err = scnas("-m", "search.population_size=4,1,8", "hydra.sweep.dir=s")
    assert code == 2 and len(err) == 2
    assert err[0].startswith("scnas: job 1 (search.population_size=1): search.population_size must be")
    assert err[1] == "scnas: 1 of 3 jobs failed: job 1 (search.population_size=1)"
    assert files(tmp_path / "s") == {
        *("multirun.yaml", "sweep.json", "0", "0/done", "0/job.json", "2", "2/done", "2/job.json"),
    }


def test_a_sweep_of_refused_jobs_leaves_nothing(scnas, tmp_path):
    assert scnas("-m", "search.population_size=0,1")[0] == 2
    assert files(tmp_path) == set()


# -- what we must mend ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body, last",
    [
        ("return 1 / 0", "ZeroDivisionError: division by zero"),
        (
            "import numpy; return numpy.zeros(2) + numpy.zeros(3)",
            "ValueError: operands could not be broadcast",
        ),
        ("return int('x')", "ValueError: invalid literal for int()"),
        ("return open('nowhere')", "FileNotFoundError: "),
        ("raise KeyError('v')", "KeyError: 'v'"),
        ("raise ValueError('v')", "ValueError: v"),  # what is for the user is Refused
    ],
)
def test_a_fault_keeps_its_traceback(body, last, scnas):
    code, _, err = scnas(run=f"def run(settings, folder): {body}")
    assert code == 1 and err[0] == "Traceback (most recent call last):" and err[-1].startswith(last)


def test_a_fault_outranks_a_refusal_in_a_sweep(scnas):
    source = "def run(settings, folder): return 1 / (settings.search.seed - 1)"
    code, _, err = scnas("-m", "search.seed=-1,1,2", run=source)
    assert code == 1
    assert err[-1] == "scnas: 2 of 3 jobs failed: job 0 (search.seed=-1), job 1 (search.seed=1)"


# -- Ctrl-C -------------------------------------------------------------------------------------------------


PRESSED = "import os, signal; os.kill(os.getpid(), signal.SIGINT)"


def test_an_interrupt_before_anything_could_be_kept(scnas, tmp_path):
    assert scnas(run=f"def run(settings, folder): {PRESSED}; import time; time.sleep(9)") == (130, [], [])
    assert files(tmp_path) == set()


def test_an_interrupt_that_a_run_handles_is_a_good_end(scnas, tmp_path):
    source = f"""
def run(settings, folder):
    try:
        {PRESSED}; import time; time.sleep(9)
    except KeyboardInterrupt:
        (folder / "kept").touch()
"""
    assert scnas("hydra.run.dir=here", run=source) == (0, [], [])
    assert files(tmp_path) == {"here", "here/kept"}
    code, _, err = scnas("-m", "search.seed=0,1,2", "hydra.sweep.dir=s", run=source)
    assert (code, err) == (130, [])  # the rest of a sweep does not start
    assert files(tmp_path / "s") == {"multirun.yaml", "sweep.json", "0", "0/kept", "0/job.json"}


# -- the real thing -----------------------------------------------------------------------------------------


def real(*words: str, cwd: Path) -> subprocess.CompletedProcess:
    """`python -m scnas` in a process of its own, with this very package."""
    package = str(Path(command.__file__).parent.parent)
    environment = {k: v for k, v in os.environ.items() if k != "HYDRA_FULL_ERROR"} | {"PYTHONPATH": package}
    return subprocess.run(
        [sys.executable, "-m", "scnas", *words], cwd=cwd, env=environment, capture_output=True, text=True
    )


@pytest.mark.parametrize(
    "words, line",
    [
        (["+experiment=nope"], "experiment must be one of"),
        (["search.population_size=1"], "search.population_size must be a whole number from 2 to"),
        (["hydra.run.dir=/dev/null/folder"], "the output folder (hydra.run.dir) cannot be made"),
        (["target.name=ice99"], "target must be one of ice40, "),
        (["task=npz", "task.path=nowhere.npz"], "task.path must name an .npz file, got nowhere.npz"),
        (["task.name=imagenet"], "task.name must be one of digits, mnist, "),
        (["+experiment=smoke", "search.budgets.luts=1"], "no feasible architecture"),
    ],
)
def test_a_real_process_ends_with_one_line_and_code_2(words, line, tmp_path):
    process = real(*words, cwd=tmp_path)
    assert process.returncode == 2, process.stderr
    assert process.stderr.count("\n") == 1 and process.stderr.startswith(f"scnas: {line}"), process.stderr


def test_the_flags_that_are_let_through_are_those_of_hydra(tmp_path):
    """Hydra reads the same words again; a flag of one that the other does not know would go nowhere."""
    process = real("--hydra-help", cwd=tmp_path)
    found = re.findall(r"^(--[a-z-]+)(?:,(-[a-z]+))? : ", process.stdout, re.MULTILINE)
    theirs = {flag for names in found for flag in names if flag}
    ours = {flag for action in flags.PARSER._actions for flag in action.option_strings}
    assert process.returncode == 0 and "-cn" in theirs and ours == theirs


def test_a_wrong_setting_need_not_wait_for_torch():
    """Starting up imports nothing that takes seconds."""
    slow = ("torch", "sklearn", "matplotlib", "numba")
    script = f"import sys, scnas.__main__; print([m for m in {slow} if m in sys.modules])"
    process = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert process.stdout.strip() == "[]"

"""Sweeps: taken up where they stopped, nothing done twice, no failure hidden."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import pytest
from hydra import compose, initialize_config_dir

import scnas.__main__ as command
from scnas import resources
from scnas.record import begin
from scnas.settings import saved, sweep
from scnas.settings.compose import load

SWEEP = ("-m", "search.seed=0,1,2")
# A run that leaves what a search leaves, and counts how often it was asked to: job by job in ../log.
STORY = """
import json, os, signal
from pathlib import Path
from scnas.contract import Refused
from scnas.record import begin
def run(settings, folder):
    seed = settings.search.seed
    with open("log", "a") as log: print(seed, file=log)
    begin.begin(folder, settings)
    {body}
    (folder / "front.json").write_text("{{}}")
"""


@pytest.fixture
def scnas(monkeypatch, tmp_path, capfd):
    """scnas(*words, body=what a run does) -> (exit code, lines of stdout, lines of stderr)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)

    def call(*words: str, body: str = "pass"):
        story = ModuleType("scnas.run")
        exec(STORY.format(body=body), story.__dict__)
        monkeypatch.setitem(sys.modules, "scnas.run", story)
        monkeypatch.setattr(sys, "argv", ["scnas", *words])
        capfd.readouterr()
        code = command.main()
        out, err = capfd.readouterr()
        return code, out.splitlines(), err.splitlines()

    return call


def asked(folder: Path) -> list[int]:
    """Seeds of the runs that were started since the last call."""
    seeds = [int(word) for word in (folder / "log").read_text().split()] if (folder / "log").exists() else []
    (folder / "log").unlink(missing_ok=True)
    return seeds


def statuses(out: list[str]) -> list[str]:
    """The column `status` of the table at the end of stdout."""
    start = next(i for i, line in enumerate(out) if line.startswith("job  status"))
    return [line.split()[1] for line in out[start + 1 :]]


def test_an_interrupted_sweep_goes_on_where_it_stopped(scnas, tmp_path):
    pressed = "import time\n    if seed == 1: os.kill(os.getpid(), signal.SIGINT); time.sleep(9)"
    code, out, err = scnas(*SWEEP, body=pressed)
    assert (code, err, asked(tmp_path)) == (130, [], [0, 1])
    assert statuses(out) == ["done", "interrupted"]
    code, out, err = scnas(*SWEEP)
    assert (code, err, asked(tmp_path)) == (0, [], [1, 2])
    assert statuses(out) == ["done"] * 3 and out[0].endswith("/0 is done")
    assert len(list(tmp_path.glob("outputs/default/sweep_*"))) == 1
    assert (scnas(*SWEEP)[0], asked(tmp_path)) == (0, [])


def test_a_failed_job_does_not_hide_and_is_tried_again(scnas, tmp_path):
    code, out, err = scnas(*SWEEP, body="if seed == 1: 1 / 0")
    assert code == 1 and asked(tmp_path) == [0, 1, 2]
    assert statuses(out) == ["done", "failed", "done"]
    assert err[0] == "scnas: job 1 (search.seed=1):" and err[-2] == "ZeroDivisionError: division by zero"
    assert err[-1] == "scnas: 1 of 3 jobs failed: job 1 (search.seed=1)"
    assert (scnas(*SWEEP)[0], asked(tmp_path)) == (0, [1])


def test_a_refused_job_does_not_hide_either(scnas, tmp_path):
    code, out, err = scnas(*SWEEP, body="if seed == 2: raise Refused('nothing\\nfits')")
    assert code == 2 and statuses(out) == ["done", "done", "refused"]
    assert err == [
        "scnas: job 2 (search.seed=2): nothing fits",
        "scnas: 1 of 3 jobs failed: job 2 (search.seed=2)",
    ]


def test_a_killed_sweep_goes_on_where_it_stopped(tmp_path):
    """SIGKILL: nobody could write anything down after it."""

    def sweep_in_a_process(body: str) -> subprocess.CompletedProcess:
        script = (
            "import sys, types\nstory = types.ModuleType('scnas.run')\n"
            f"exec({STORY.format(body=body)!r}, story.__dict__)\nsys.modules['scnas.run'] = story\n"
            f"sys.argv = ['scnas', *{SWEEP!r}]\nimport scnas.__main__ as command\nsys.exit(command.main())"
        )
        package = str(Path(command.__file__).parent.parent)
        environment = os.environ | {"PYTHONPATH": package}
        return subprocess.run(
            [sys.executable, "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True
        )

    assert sweep_in_a_process("if seed == 1: os.kill(os.getpid(), signal.SIGKILL)").returncode == -9
    assert asked(tmp_path) == [0, 1]
    again = sweep_in_a_process("pass")
    assert (again.returncode, again.stderr, asked(tmp_path)) == (0, "", [1, 2])
    assert statuses(again.stdout.splitlines()) == ["done"] * 3


def test_another_sweep_is_another_folder_and_the_launcher_makes_no_other(scnas, tmp_path):
    for words in (SWEEP, ("-m", "search.seed=0,1"), ("-m", "+experiment=smoke", "search.seed=0,1,2")):
        assert scnas(*words)[0] == 0
    folders = sorted(str(p.relative_to(tmp_path).parent) for p in tmp_path.glob("outputs/*/sweep_*"))
    assert folders == ["outputs/default", "outputs/default", "outputs/smoke"]
    plain, launched = (sweep.default_folder(words) for words in (SWEEP, (*SWEEP, "hydra/launcher=slurm")))
    assert plain == launched


def test_the_folder_of_another_sweep_is_refused(scnas, tmp_path):
    assert scnas(*SWEEP, "hydra.sweep.dir=s")[0] == 0
    code, _, err = scnas("-m", "search.seed=0,1", "hydra.sweep.dir=s")
    assert (code, err) == (2, [
        "scnas: hydra.sweep.dir=s holds another sweep: search.seed=0,1,2 there, search.seed=0,1 here"
    ])  # fmt: skip
    assert asked(tmp_path) == [0, 1, 2]


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: (folder / "front.json").unlink(),
        lambda folder: (folder / "job.json").unlink(),
        lambda folder: (folder / "job.json").write_text(
            (folder / "job.json").read_text().replace('"done"', '"failed"')
        ),
    ],
    ids=["without its front", "without its record", "failed"],
)
def test_what_is_not_known_to_be_done_is_run(change, scnas, tmp_path):
    assert scnas(*SWEEP, "hydra.sweep.dir=s")[0] == 0
    asked(tmp_path)
    change(tmp_path / "s" / "1")
    assert scnas(*SWEEP, "hydra.sweep.dir=s")[0] == 0
    assert asked(tmp_path) == [1]


def test_a_job_with_other_settings_is_not_taken_for_done(scnas, tmp_path):
    """The YAML behind an option was edited between two commands."""
    assert scnas(*SWEEP, "hydra.sweep.dir=s")[0] == 0
    path = tmp_path / "s" / "1" / "settings.yaml"
    path.write_text(path.read_text().replace("generations: 20", "generations: 21"))
    code, out, err = scnas(*SWEEP, "hydra.sweep.dir=s")
    assert code == 2 and statuses(out) == ["done", "refused", "done"]
    assert "holds a run with other settings: search.generations is 21 there, 20 here" in err[0]


@pytest.mark.parametrize("text", ["{", "[]", '{"format": "scnas-job/1"}', '{"format": "scnas-job/9"}'])
def test_a_damaged_record_is_refused_in_one_line(text, scnas, tmp_path):
    assert scnas(*SWEEP, "hydra.sweep.dir=s")[0] == 0
    (tmp_path / "s" / "1" / "job.json").write_text(text)
    code, _, err = scnas(*SWEEP, "hydra.sweep.dir=s")
    assert code == 2 and len(err) == 2 and all("s/1/job.json: not " in line for line in err)


def test_a_job_whose_process_died_elsewhere_is_told(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for i, status in enumerate(("done", "running", "failed")):
        (tmp_path / str(i)).mkdir()
        message = "ValueError: no" if status == "failed" else ""
        sweep.Job(i, (f"search.seed={i}",), status, message, 0.9 if i == 0 else None, 1).save(
            tmp_path / str(i)
        )
    assert command._end_of_sweep(tmp_path, here=2) == [0, 1, 1]
    out, err = capsys.readouterr()
    assert out.splitlines() == [
        "job  status  best accuracy  folder  overrides",
        "0    done    90.00%         0       search.seed=0",
        "1    died                   1       search.seed=1",
        "2    failed                 2       search.seed=2",
    ]
    assert err.splitlines() == [
        "scnas: job 1 (search.seed=1): its process died; the same command takes it up again",
        "scnas: job 2 (search.seed=2): ValueError: no",
        "scnas: 2 of 3 jobs failed: job 1 (search.seed=1), job 2 (search.seed=2)",
    ]


def test_jobs_that_are_no_searches_are_repeated(scnas, tmp_path):
    words = ("-m", "job=verify", "run=a,b", "hydra.sweep.dir=s")
    for _ in range(2):
        assert scnas(*words)[0] == 0
        assert len(asked(tmp_path)) == 2


def test_the_settings_that_may_change_are_known():
    assert set(begin.FREE) <= set(saved.flat(load()))


# -- other launchers ------------------------------------------------------------------------------------

SUBMITIT = "hydra_plugins.hydra_submitit_launcher"


def installed(plugin: str) -> bool:
    try:
        return find_spec(plugin) is not None
    except ModuleNotFoundError:
        return False


@pytest.mark.skipif(not installed(SUBMITIT), reason="extra `slurm` not installed: pip install 'scnas[slurm]'")
def test_the_example_for_slurm_composes():
    with initialize_config_dir(str(resources.conf()), version_base="1.3"):
        cfg = compose("config", ["hydra/launcher=slurm", "search.seed=1"], return_hydra_config=True)
    assert cfg.hydra.launcher._target_.endswith("SlurmLauncher")
    assert (cfg.hydra.launcher.cpus_per_task, cfg.hydra.launcher.timeout_min) == (8, 720)


@pytest.mark.skipif(not installed(SUBMITIT), reason="extra `slurm` not installed: pip install 'scnas[slurm]'")
def test_jobs_in_processes_of_their_own_bring_their_records_home(tmp_path):
    """submitit's local launcher: the jobs of SLURM without SLURM."""
    package = str(Path(command.__file__).parent.parent)
    words = ["-m", "hydra/launcher=submitit_local", "run=nowhere,null", "job=verify", "hydra.sweep.dir=s"]
    done = subprocess.run(
        [sys.executable, "-m", "scnas", *words], cwd=tmp_path, env=os.environ | {"PYTHONPATH": package},
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert statuses(done.stdout.splitlines()) == ["refused", "refused"]
    lines = [line for line in done.stderr.splitlines() if line.startswith("scnas: ")]
    assert lines[0].startswith(
        "scnas: job 0 (run=nowhere job=verify): nowhere: run must name the folder of a"
    )
    assert lines[-1].startswith("scnas: 2 of 2 jobs failed: ")
    assert json.loads((tmp_path / "s" / "sweep.json").read_text())["overrides"] == [
        "run=nowhere,null",
        "job=verify",
    ]


def test_slurm_without_its_extra_is_refused_in_one_line(scnas):
    if installed(SUBMITIT):
        pytest.skip("extra `slurm` is installed")
    code, _, err = scnas(*SWEEP, "hydra/launcher=slurm")
    assert code == 2 and len(err) == 1 and "pip install 'scnas[slurm]'" in err[0]

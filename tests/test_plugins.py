"""Plugins: a chip and a task of the user's own, from a file outside the package, as good as ours."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from registered import as_before
from small_task import QUICK, SOME, TASK

import scnas
from scnas import plugins, resources, run, tasks
from scnas.contract import NEURONS, Refused
from scnas.hardware import targets
from scnas.hardware.tools import synthesis
from scnas.settings import compose, saved
from scnas.trials import cluster, keys
from scnas.trials.executor import Job, Local

CHIP = """
from dataclasses import replace
from scnas.hardware import targets
targets.register(replace(targets.target("ice40"), name="mine"))
"""
TASK_OF_ONES_OWN = """
from scnas import tasks
tasks.register("mine", tasks.Family(tasks.digits.load, {"classes": 3}, options={"noise": 0.5}))
"""


@pytest.fixture(autouse=True)
def registries() -> Iterator[None]:
    with as_before():
        yield


def written(folder: Path, text: str, name: str = "mine.py") -> str:
    """The path of a plugin with that text."""
    path = folder / name
    path.write_text(text)
    return str(path)


# -- what a plugin does -----------------------------------------------------------------------------------


def test_what_a_file_registers_is_a_setting(tmp_path):
    path = written(tmp_path, CHIP + TASK_OF_ONES_OWN)
    settings = compose.load([f"plugins=[{path}]", "target=mine", "task=mine", "task.options.noise=0.1"])
    assert settings.plugins == [path]
    assert (settings.target.name, settings.target.clock_mhz) == ("mine", None)
    assert (settings.task.name, settings.task.classes, settings.task.options) == ("mine", 3, {"noise": 0.1})
    assert settings.task.seed == 0 and settings.task.steps is None  # as of every task
    with pytest.raises(ValueError, match=r"^target must be one of .*, mine, zynq, got 'yours'$"):
        compose.load([f"plugins=[{path}]", "target=yours"])


def test_a_module_on_the_path_of_python_will_do_and_is_imported_once(tmp_path, monkeypatch):
    written(tmp_path, CHIP, "some_module_of_mine.py")
    monkeypatch.syspath_prepend(tmp_path)
    for _ in range(2):
        assert compose.load(["plugins=[some_module_of_mine]", "target=mine"]).target.name == "mine"
    plugins.load([str(tmp_path / "some_module_of_mine.py")])  # the same file
    assert [plugin.name for plugin in plugins.loaded()] == ["some_module_of_mine"]


def test_a_neuron_of_ones_own_is_a_choice_of_the_search(tmp_path):
    path = written(
        tmp_path,
        "from dataclasses import replace\nfrom scnas.snn import models\n"
        "models.register(replace(models.MODELS['lif'], name='mine'))",
    )
    with pytest.raises(Refused, match="space.neuron_choices must be one of if, lif, .*, got 'mine'"):
        compose.load(["space.neuron_choices=[mine]"])
    assert compose.load([f"plugins=[{path}]", "space.neuron_choices=[mine]"]).space.neuron_choices == ["mine"]


def test_names_are_checked_after_plugins_are_imported(tmp_path, monkeypatch):
    """Settings are checked when they become dataclasses: what a plugin adds is known by then."""
    monkeypatch.setattr(NEURONS, "_names", list(NEURONS))
    path = written(tmp_path, "from scnas.contract import NEURONS\nNEURONS.add('dancer')")
    chosen = "space.neuron_choices=[dancer]"
    with pytest.raises(Refused, match="neuron_choices must be one of if, .*, got 'dancer'"):
        compose.load([chosen])
    assert compose.load([f"plugins=[{path}]", chosen]).space.neuron_choices == ["dancer"]


def test_options_that_a_task_does_not_have_are_refused_by_name(tmp_path):
    path = written(tmp_path, TASK_OF_ONES_OWN)
    with pytest.raises(Refused, match=r"^task.options.nose is not an option of this task"):
        compose.load([f"plugins=[{path}]", "task=mine", "task.options.nose=1"])
    settings = compose.load([f"plugins=[{path}]", "task=mine", "+task.options.nose=1"])
    with pytest.raises(Refused, match="^task.options.nose is not an option of task=mine, which has noise$"):
        tasks.load(settings.task)
    with pytest.raises(Refused, match="^task.options.nose is not an option of task=digits, which has none$"):
        tasks.load(compose.load(["+task.options.nose=1"]).task)


@pytest.mark.parametrize(
    "name, family, line",
    [
        ("digits", tasks.Family(tasks.digits.load), "a task named digits is registered already"),
        ("a b", tasks.Family(tasks.digits.load), "the name of a task must be letters"),
        ("x", tasks.Family(tasks.digits.load, {"noise": 1}), "settings of task x must be some of path, seed"),
        ("x", tasks.Family(tasks.digits.load, {"steps": None}), "task x must give steps a first value"),
        ("x", tasks.Family(tasks.digits.load, {}, {"a b": 1}), "an option of task x must be letters"),
    ],
)
def test_a_wrong_task_is_refused_in_one_line(name, family, line):
    with pytest.raises(Refused, match=line):
        tasks.register(name, family)


# -- what can be wrong with one ---------------------------------------------------------------------------

BROKEN = {
    "raises": ("x = 1\nx / 0", r"^plugin .*mine.py cannot be imported: ZeroDivisionError: .* \(line 2\)$"),
    "is no Python": ("x = = 1", r"^plugin .*mine.py cannot be imported: SyntaxError: invalid syntax"),
    "ends": ("import sys\nsys.exit(3)", r"^plugin .*mine.py cannot be imported: SystemExit: 3 \(line 2\)$"),
    "registers and raises": (CHIP + "1 / 0", r"^plugin .*mine.py cannot be imported: ZeroDivisionError"),
    "lacks": ("import no_such_module", r"cannot be imported: ModuleNotFoundError: No module named 'no_such"),
    "registers a name twice": (CHIP + CHIP, r"^plugin .*mine.py: a target named mine is registered already$"),
    "registers one of ours": (
        CHIP.replace('"mine"', '"zynq"'),
        r"^plugin .*mine.py: a target named zynq is registered already$",
    ),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_plugin_is_refused_in_one_line_however_often(what, tmp_path):
    text, line = BROKEN[what]
    path = written(tmp_path, text)
    for _ in range(2):  # the next job of a sweep
        with pytest.raises(Refused, match=line) as refusal:
            compose.load([f"plugins=[{path}]"])
        assert str(refusal.value).isprintable()
    assert plugins.loaded() == ()


@pytest.mark.parametrize(
    "value, line",
    [
        ("[nowhere.py]", "^plugins: nowhere.py: no such file$"),
        ("[no_such_module]", "^plugins: no module named no_such_module on Python's path"),
        ("[no_such_package.part]", "^plugins: no module named no_such_package.part on"),
        ("[sys]", "^plugins: the module sys has no source file$"),
        ("['a b']", "^plugins must name modules or .py files, got 'a b'$"),
        ("mine.py", r"^plugins must be a list of words such as \[a,b\], got mine.py$"),
        ("[1]", r"^plugins must be a list of words such as \[a,b\], got \[1\]$"),
    ],
)
def test_a_plugin_that_is_not_there_is_refused_in_one_line(value, line):
    with pytest.raises(Refused, match=line):
        compose.load([f"plugins={value}"])


# -- what depends on one ----------------------------------------------------------------------------------


def test_a_training_depends_on_the_source_of_the_plugins_and_not_on_their_place(tmp_path):
    without = keys.training_code()
    assert "plugins" not in without
    told = []
    for folder, text in (("a", CHIP), ("b", CHIP), ("c", CHIP + "\n")):
        (tmp_path / folder).mkdir()
        with as_before():
            plugins.load([written(tmp_path / folder, text)])
            told.append(keys.training_code())
    assert told[0] == told[1] != told[2]
    assert {k: v for k, v in told[0].items() if k != "plugins"} == without


def test_a_package_is_all_of_its_files(tmp_path, monkeypatch):
    package = tmp_path / "package_of_mine"
    package.mkdir()
    written(package, "from package_of_mine import part", "__init__.py")
    written(package, "", "part.py")
    monkeypatch.syspath_prepend(tmp_path)
    plugins.load(["package_of_mine"])
    before = plugins.code()
    written(package, "x = 1", "part.py")
    with as_before():
        plugins._LOADED.clear()
        plugins.load(["package_of_mine"])
        assert plugins.code() != before


def test_a_worker_refuses_a_plugin_that_has_changed(tmp_path):
    path = written(tmp_path, CHIP)
    plugins.load([path])
    written(tmp_path, CHIP + "\n# another")
    with Local(TASK, 2, "cpu") as local:
        local.submit(1, Job(tuple(SOME[:1]), 1, QUICK))
        with pytest.raises(Refused, match="mine.py is not what it was when the run began"):
            local.collect()


def test_a_worker_of_a_cluster_refuses_a_plugin_that_it_lacks():
    gone = plugins.Plugin("/nowhere/mine.py", "0123456789abcdef")
    with pytest.raises(Refused, match="^plugins: /nowhere/mine.py: no such file$"):
        next(cluster._run_job(1, Job(tuple(SOME[:1]), 1, QUICK), TASK, "cpu", (gone,)))


def test_the_settings_of_a_run_import_nothing(tmp_path):
    """tests/test_hostile.py has the jobs that look at a run."""
    path = written(tmp_path, CHIP + f"\nopen({str(tmp_path / 'ran')!r}, 'w')")
    with as_before():
        text = saved.to_yaml(compose.load([f"plugins=[{path}]", "target=mine"]))
    (tmp_path / "ran").unlink()
    (tmp_path / "settings.yaml").write_text(text)
    with pytest.raises(Refused, match=r"settings.yaml names plugins, .*: add plugins=\[.*mine.py\]"):
        saved.read(tmp_path / "settings.yaml")
    assert not (tmp_path / "ran").exists() and "mine" not in targets.TARGETS
    compose.load([f"plugins=[{path}]"])
    assert saved.read(tmp_path / "settings.yaml").target.name == "mine"


# -- the real thing ---------------------------------------------------------------------------------------


def example(folder: Path) -> str:
    """The plugin that docs/plugins.md shows, in a file; its path."""
    page = (resources.checkout() / "docs" / "plugins.md").read_text()
    (text,) = re.findall(r"```python\n(.*?)```", page, re.S)
    return written(folder, text)


def command(cwd: Path, *words: str) -> tuple[int, str, str]:
    """`python -m scnas` with these words, in `cwd`: exit code, stdout, stderr."""
    package = str(Path(scnas.__file__).parent.parent)
    process = subprocess.run(
        [sys.executable, "-m", "scnas", *words], cwd=cwd, capture_output=True, text=True,
        env={"PYTHONPATH": package, "PATH": str(Path(sys.executable).parent) + ":/usr/bin:/bin"},
    )  # fmt: skip
    return process.returncode, process.stdout, process.stderr


SMALL = (
    "search.population_size=4", "search.generations=2", "space=small", "train=quick", "train.final_seeds=1",
    "train.full_epochs=1", "executor.workers=2",
)  # fmt: skip


def here(folder: Path, plugin: str | None, *words: str) -> None:
    """`run` with these words, in this process and in `folder`; what `plugin` registers is gone afterwards."""
    with as_before():
        folder.mkdir(exist_ok=True)
        run.run(compose.load([*([f"plugins=[{plugin}]"] if plugin else []), *words]), folder)


def search_with_the_example(tmp_path: Path, build: str) -> tuple[Path, str]:
    """A whole search with the plugin of docs/plugins.md, two workers, from a folder that is not its own; the
    folder of the run, and a plugin with which it can be looked at."""
    cwd, other = tmp_path / "here", tmp_path / "there"
    cwd.mkdir()
    other.mkdir()
    folder, own = cwd / "run", ("target=hx4k", "task=stripes", *SMALL, f"build={build}")
    code, _, err = command(cwd, f"plugins=[{example(other)}]", *own, "hydra.run.dir=run")
    assert code == 0, err
    front = json.loads((folder / "front.json").read_text())
    assert (front["target"], front["task"]) == ("hx4k", "stripes")
    assert json.loads((folder / "versions.json").read_text())["plugins"].keys() == {str(other / "mine.py")}
    # taken up again: with the plugin in another place; not with another text, and not without it
    here(folder, moved := example(cwd), *own)
    changed = written(tmp_path, Path(moved).read_text() + "\n# another")
    with pytest.raises(Refused, match="depends on other things: plugins was mine.py"):
        here(folder, changed, *own)
    with pytest.raises(Refused, match="run/settings.yaml names plugins"):
        here(folder, None, *own[2:])
    # verified, only with the plugin
    verify = ("job=verify", f"run={folder}", f"build={build}")
    with pytest.raises(Refused, match="run/settings.yaml names plugins"):
        here(tmp_path / "out", None, *verify)
    here(tmp_path / "out", moved, *verify)
    return folder, moved


def test_a_search_with_the_chip_and_the_task_of_the_page(tmp_path, capsys):
    search_with_the_example(tmp_path, "none")
    said = capsys.readouterr().out
    assert "holds this run, finished" in said and "are what the network generates" in said


@pytest.mark.slow
@pytest.mark.skipif(None in synthesis.tool_versions("ice40").values(), reason="needs pyosys and nextpnr")
def test_a_chip_of_ones_own_is_built_for(tmp_path):
    folder, plugin = search_with_the_example(tmp_path, "full")
    said = json.loads((folder / "winner" / "synthesis.json").read_text())
    assert (said["status"], said["target"], said["bitstream"]) == ("done", "hx4k", "design.bin")
    assert "--hx4k" in said["flags"][1]
    assert json.loads((folder / "winner" / "toggles.json").read_text())["status"] == "counted"
    here(tmp_path / "out", plugin, "job=synthesize", f"run={folder}")
    assert "routed_luts" in (folder / "front.csv").read_text()

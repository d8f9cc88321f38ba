"""Settings: complete, typed, and refused in one line that says which, what it got and what it may be."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import yaml

from scnas import metrics, resources
from scnas.hardware.targets import TARGETS
from scnas.settings import compose, saved, schema
from scnas.tasks import FAMILIES

CONF = resources.conf()
EXPERIMENTS = sorted(p.stem for p in (CONF / "experiment").glob("*.yaml"))
OPTIONS = sorted((p.parent.name, p.stem) for p in CONF.glob("*/*.yaml") if p.parent.name != "experiment")


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_is_complete_and_opens_with_its_question(name):
    assert isinstance(compose.load([f"+experiment={name}"]), schema.Config)
    first, question = (CONF / "experiment" / f"{name}.yaml").read_text().splitlines()[:2]
    assert first == "# @package _global_" and question.startswith("# ") and "?" in question


@pytest.mark.parametrize("group, option", OPTIONS)
def test_every_option_of_every_group_is_complete(group, option):
    assert isinstance(compose.load([f"{group}={option}"]), schema.Config)


def test_the_defaults_are_a_whole_run():
    settings = compose.load()
    assert (settings.job, settings.task.name, settings.target.name) == ("search", "digits", "ice40")
    assert settings.search.objectives == ["error", "luts", "energy_nj"]


def test_an_option_of_the_command_line_beats_that_of_the_experiment():
    settings = compose.load(["+experiment=digits_ice40", "target=ecp5_25k", "search.seed=7"])
    assert (settings.target.name, settings.search.seed) == ("ecp5_25k", 7)


def test_an_experiment_may_build_on_another():
    assert compose.load(["+experiment=digits_up5k"]).target.name == "ice40_up5k"


def test_every_target_and_task_is_an_option():
    for name in TARGETS:
        target = compose.load([f"target={name}"]).target
        assert (target.name, target.clock_mhz) == (name, None)
    for name in FAMILIES:
        assert compose.load([f"task={name}"]).task.name == name


def test_the_budgets_are_those_that_may_be_limited():
    fields = vars(compose.load().search.budgets)
    assert set(fields) == set(metrics.limits()) == {"luts", "ffs", "brams", "latency_us"}
    for name in fields:
        assert getattr(compose.load([f"search.budgets.{name}=7"]).search.budgets, name) == 7


WRONG = {
    # names
    "+experiment=nope": r"^experiment must be one of .*smoke.*, got 'nope'$",
    "experiment=smoke": r"^experiment needs a plus sign: \+experiment=smoke$",
    "+experimnt=smoke": r"^experimnt is not a setting \(did you mean experiment\?\); .*target",
    "+experiment=[smoke,npz]": r"^experiment must be one option, got \[smoke,npz\]; a sweep is",
    "target=ice99": r"^target must be one of artix7, .*zynq, got 'ice99'$",
    "target=": r"^target must be one of artix7, .*zynq, got ''$",
    "target=[ice40,ecp5]": r"^target must be one option, got \[ice40,ecp5\]; a sweep is -m target=a,b$",
    "space=null": r"^space must be one option, got null",
    "space=[1]": r"^space must be one option, got \[1\]",
    "tsk=digits": r"^tsk is not a setting \(did you mean task\?\); settings and groups: job, run, runs,",
    "search.popluation=8": r"^search.popluation is not a setting \(did you mean search.population_size\?\)",
    "+search.popluation=8": r"^search.popluation is not a setting \(did you mean search.population_size\?\)",
    "+search.budgets.power=8": r"^search.budgets.power is not a setting; search.budgets: luts, ffs, brams,",
    "serch.seed=1": r"^serch is not a setting \(did you mean search\?\)",
    "+foo=1": r"^foo is not a setting; settings and groups: job,",
    "hydra.foo=1": r"^hydra.foo is not a setting of Hydra",
    "hydra/launcher=nope": r"^hydra/launcher must be one of basic.*, got 'nope'$",
    "space={a:1}": r"^space.a is not a setting; space: min_layers,",
    # types
    "search.seed=abc": r"^search.seed must be a whole number, got abc$",
    "search.seed=1.5": r"^search.seed must be a whole number, got 1.5$",
    "search.seed=": r"^search.seed must be a whole number, got nothing$",
    "search.seed=null": r"^search.seed must be a whole number, got null$",
    "search.seed=[1,2]": r"^search.seed must be a whole number, got \[1,2\]$",
    "search.seed=${job}": r"^search.seed must be a whole number, got 'search'$",
    "search.seed=${nope}": r"^search.seed: Interpolation key 'nope' not found$",
    "search.population_size=true": r"^search.population_size must be a whole number, got true$",
    "train.prune_by=size": r"^train.prune_by must be one of sensitivity, magnitude, got 'size'$",
    "train.prune_per=network": r"^train.prune_per must be one of layer, neuron, got 'network'$",
    "train.regrow=2": r"^train.regrow must be a number from 0 to 1, got 2.0$",
    "train.learning_rate=fast": r"^train.learning_rate must be a number, got fast$",
    "search.budgets=5": r"^search.budgets must be a group of luts, ffs, brams, latency_us, got 5$",
    "search.budgets.luts=many": r"^search.budgets.luts must be a whole number or null, got many$",
    "space.width_choices=8": r"^space.width_choices must be a list of whole numbers such as \[8,16\], got 8$",
    "space.width_choices=8,16": r"^'space.width_choices=8,16' names several values: a list is written",
    "space.width_choices=[8,a]": r"^space.width_choices\[1\] must be a whole number, got \[8,a\]$",
    "space.neuron_choices=lif": r"^space.neuron_choices must be a list of words",
    "~search": r"^search must be set, got nothing$",
    "~search.seed": r"^search.seed: ",
    "search.seed==": r"^'search.seed==' is not of the form setting=value",
    "smoke": r"^'smoke' is not of the form setting=value",
    # ranges
    "job=dance": r"^job must be one of search.*, got 'dance'$",
    "search.population_size=1": r"^search.population_size must be a whole number from 2 to 65536, got 1$",
    "search.generations=0": r"^search.generations must be a whole number from 1 to \d+, got 0$",
    "search.seed=-1": r"^search.seed must be a whole number from 0 to \d+, got -1$",
    "search.objectives=[]": r"^search.objectives must hold one or more of error, luts,.*, got none$",
    "search.objectives=[error,power]": r"^search.objectives must be one of error, luts,.*, got 'power'$",
    "search.objectives=[error,error]": r"^search.objectives must differ from each other",
    "search.budgets.luts=0": r"^search.budgets.luts must be a whole number from 1 to \d+, got 0$",
    "search.budgets.brams=-1": r"^search.budgets.brams must be a whole number from 0 to \d+, got -1$",
    "search.budgets.latency_us=0": r"^search.budgets.latency_us must be a number above 0 .*, got 0.0$",
    "search.winner.within=1.5": r"^search.winner.within must be a number from 0 to 1, got 1.5$",
    "search.winner.smallest=size": r"^search.winner.smallest must be one of error, luts,.*, got 'size'$",
    "search.max_failed_share=nan": r"^search.max_failed_share must be a number from 0 to 1, got nan$",
    "space.neuron_choices=[liff]": r"^space.neuron_choices must be one of if, lif, .*, got 'liff'$",
    "space.L_choices=[48]": r"^space.L_choices must be a power of two that divides .* = 256, got 48$",
    "space.L_choices=[512]": r"^space.L_choices must be a power of two that divides .* = 256, got 512$",
    "space.width_choices=[]": r"^space.width_choices must hold at least one choice, got none$",
    "space.min_layers=5": r"^space.min_layers must be at most max_layers = 4, got 5$",
    "space.density_choices=[0.0]": r"^space.density_choices must be a share above 0 and at most 1, got 0.0$",
    "space.readout=loud": r"^space.readout must be one of membrane, spikes, got 'loud'$",
    "target.clock_mhz=0": r"^target.clock_mhz must be a number above 0 and at most 2000, got 0.0$",
    "target.clock_mhz=inf": r"^target.clock_mhz must be a number above 0 and at most 2000, got inf$",
    "task.seed=-1": r"^task.seed must be a whole number from 0 to \d+, got -1$",
    "task.train_limit=0": r"^task.train_limit must be a whole number from 1 to \d+, got 0$",
    "task.test=0.6": r"^task.test must be a number above 0 and at most 0.5, got 0.6$",
    "task.low=1": r"^task.low must be below task.high, both finite, got 1.0 and 1.0$",
    "train.epochs=0": r"^train.epochs must be a whole number from 1 to \d+, got 0$",
    "train.learning_rate=nan": r"^train.learning_rate must be a number above 0 and at most 10, got nan$",
    "executor.device=tpu": r"^executor.device must be one of auto, cpu, cuda, got 'tpu'$",
    "executor.name=cloud": r"^executor.name must be one of local.*, got 'cloud'$",
    "executor.workers=-1": r"^executor.workers must be a whole number from 0 to 4096, got -1$",
    "executor.timeout_s=0": r"^executor.timeout_s must be a number above 0 and at most \S+, got 0.0$",
    "benchmark.peers=[plain torch,theano]": r"^benchmark.peers must be one of plain torch, .*, got 'theano'$",
    "benchmark.timesteps=3": r"^benchmark.timesteps must be a power of two, got 3$",
    "task.split=none": r"^task.split must be one of official, speakers, got 'none'$",
    "task.pool=0": r"^task.pool must be a whole number from 1 to 65536, got 0$",
    "build.timeout_s=0": r"^build.timeout_s must be a number above 0 and at most 1e\+07, got 0.0$",
    "executor.memory_gib=0": r"^executor.memory_gib must be a number above 0 and at most \S+, got 0.0$",
}


@pytest.mark.parametrize("override", WRONG)
def test_a_wrong_setting_is_refused_in_one_line(override):
    with pytest.raises(ValueError, match=WRONG[override]) as refusal:
        compose.load([override])
    assert "\n" not in str(refusal.value)


def test_shares_must_leave_something_to_train_on():
    with pytest.raises(ValueError, match=r"must leave a fifth .* got 0.5 \+ 0.4"):
        compose.load(["task.validation=0.5", "task.test=0.4"])


def test_a_long_value_is_cut():
    with pytest.raises(ValueError, match=r"got x+\.\.\.$") as refusal:
        compose.load([f"search.seed={'x' * 5000}"])
    assert len(str(refusal.value)) < 200


# -- the space of a task ------------------------------------------------------------------------------


def test_the_space_takes_its_ends_from_the_task():
    values = SimpleNamespace(encoder="rate", n_inputs=64, n_classes=10, timesteps=None)
    space = compose.load().space.for_task(values)
    assert (space.n_inputs, space.n_outputs, space.timesteps_choices) == (64, 10, (4, 8, 16))


def test_events_bring_their_own_number_of_steps():
    events = SimpleNamespace(encoder="events", n_inputs=5, n_classes=3, timesteps=11)
    assert compose.load().space.for_task(events).timesteps_choices == (11,)


def test_values_need_a_power_of_two_of_steps():
    values = SimpleNamespace(encoder="rate", n_inputs=64, n_classes=10, timesteps=None)
    settings = compose.load(["space.timesteps_choices=[4,6]"])
    with pytest.raises(ValueError, match="space.timesteps_choices must be powers of two .* got 6"):
        settings.space.for_task(values)


# -- settings.yaml --------------------------------------------------------------------------------------


def test_settings_survive_their_file(tmp_path):
    settings = compose.load(["search.budgets.luts=3000", "task.train_limit=50", "target.clock_mhz=48"])
    (tmp_path / "settings.yaml").write_text(saved.to_yaml(settings))
    assert saved.read(tmp_path / "settings.yaml") == settings
    assert saved.read(tmp_path / "settings.yaml") != replace(settings, job="search", task=compose.load().task)


def test_settings_written_before_a_later_setting_are_read(tmp_path):
    content = yaml.safe_load(saved.to_yaml(compose.load(["search.seed=3"])))
    for name in ("run", "runs", "benchmark"):
        del content[name]
    (tmp_path / "settings.yaml").write_text(yaml.safe_dump(content))
    assert saved.read(tmp_path / "settings.yaml") == compose.load(["search.seed=3"])
    (tmp_path / "settings.yaml").write_text(
        yaml.safe_dump(content | {"benchmark": {"repeats": 1}, "run": "x"})
    )
    found = saved.read(tmp_path / "settings.yaml")  # what the file says wins
    assert found == compose.load(["search.seed=3", "benchmark.repeats=1", "run=x"])
    pruned = {name: content["train"].pop(name) for name in ("prune_by", "prune_per", "regrow")}
    assert pruned["prune_by"] == "sensitivity"
    (tmp_path / "settings.yaml").write_text(yaml.safe_dump(content))
    before = saved.read(tmp_path / "settings.yaml").train  # what was done then
    assert (before.prune_by, before.prune_per, before.regrow) == ("magnitude", "layer", 0.0)
    del content["search"]["seed"]  # on this one results depend
    (tmp_path / "settings.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(ValueError, match="search.seed must be set"):
        saved.read(tmp_path / "settings.yaml")


def test_flat_names_every_setting_once():
    names = list(saved.flat(compose.load()))
    assert {"job", "search.seed", "search.budgets.luts", "search.winner.within"} <= set(names)
    assert len(names) == len(set(names)) > 40


def damage(text: str, **changes) -> str:
    return yaml.safe_dump(yaml.safe_load(text) | changes)


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda t: "", "job must be set"),
        (lambda t: "[1, 2]", "not the settings of a run .it holds a list"),
        (lambda t: "a: &a [1]\nb: *a", "interpolations and aliases are not read"),
        (lambda t: "a: [", "not the settings of a run"),
        (lambda t: damage(t, more=1), "more is not a setting"),
        (lambda t: damage(t, job=None), "job must be a text, got null"),
        (lambda t: damage(t, space=3), "space must be a group of"),
        (lambda t: damage(t, job="${oc.env:HOME}"), "interpolations and aliases are not read"),
        (lambda t: t.replace("population_size: 50", "population_size: 1"), "search.population_size must be"),
    ],
)
def test_a_damaged_file_of_settings_is_refused_with_its_name(change, message, tmp_path):
    path = tmp_path / "settings.yaml"
    path.write_text(change(saved.to_yaml(compose.load())))
    with pytest.raises(ValueError, match=message) as refusal:
        saved.read(path)
    assert str(refusal.value).startswith(f"{path}: ") and "\n" not in str(refusal.value)


def test_a_missing_file_of_settings_is_refused(tmp_path):
    with pytest.raises(ValueError, match="settings.yaml: no such file"):
        saved.read(tmp_path / "settings.yaml")

"""What comes from somebody else is data: nothing in it is executed, written elsewhere, or believed."""

import json
import os
import pickle
import re
import shutil
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import hostile
import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from networks import random_network

import scnas
from scnas import build, files, plugins, realize, run
from scnas.equiv import check_winner
from scnas.hardware import targets
from scnas.hardware.circuit.top import write_design
from scnas.hardware.tools import foreign, synthesis
from scnas.record import front
from scnas.settings import compose, saved, schema
from scnas.snn.network import Network
from scnas.space import Architecture
from scnas.trials import export
from scnas.trials.archive import Archive

PHASES = (Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink)
QUICK = settings(max_examples=250, suppress_health_check=list(HealthCheck), phases=PHASES)
PACKAGE = Path(scnas.__file__).parent


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run folder: front.json, its two networks, settings.yaml, the design of the winner."""
    return make_run(tmp_path_factory.mktemp("run"))


def make_run(folder: Path) -> Path:
    (folder / "front").mkdir()
    (folder / "winner").mkdir()
    network = Network.from_dict(hostile.NETWORK_MEMBER)
    for name in ("front/00.json", "front/01.json", "winner/network.json"):
        network.save(folder / name)
    (folder / "front.json").write_text(json.dumps(hostile.FRONT))
    (folder / "settings.yaml").write_text(saved.to_yaml(compose.load()))
    write_design(network, folder / "winner", name="a")
    hostile.fill_archive(folder / "archive.sqlite")
    return folder


# -- fuzzed -----------------------------------------------------------------------------------------------

LOADERS = {  # kind of file: its name in a run folder, what loads it from there
    "archive.sqlite": ("archive.sqlite", lambda folder: archive_of(folder / "archive.sqlite")),
    "network.json": ("fuzzed.json", lambda folder: network_of(folder / "fuzzed.json")),
    "front.json": ("front.json", lambda folder: front_of(folder)),
    "settings.yaml": ("fuzzed.yaml", lambda folder: settings_of(folder / "fuzzed.yaml")),
}


def network_of(path: Path) -> Network:
    """The network of a file, which says all of itself; a small one gives a design that only describes."""
    network = Network.load(path)
    assert Network.from_dict(network.to_dict()) == network
    if network.n_synapses < 100:
        for name, text in write_design(network, name=path.read_text()[:300]).sources.items():
            foreign.check(name, text)
    return network


def front_of(folder: Path) -> front.Front:
    """The front of a folder: names, numbers and paths are what they should be."""
    found = front.read(folder)
    assert found.task.isprintable() and found.target in targets.TARGETS
    for member, file in zip(found.members, found.files, strict=True):
        assert re.fullmatch(r"[A-Za-z0-9_.-]+", member.architecture.name)
        assert np.isfinite(list(member.metrics.values())).all()
        assert file is None or (folder / file).resolve().is_relative_to(folder.resolve())
    return found


def archive_of(path: Path) -> list:
    """All that an archive holds, read as reports, other tools and a resumed run read it."""
    with Archive(path, "task", read_only=True) as archive:
        found = archive.evaluations()
        assert isinstance(export.table(archive), str)
        assert all(isinstance(number, int) for number, _ in archive.hypervolumes())
    with Archive(path, "task") as archive:
        for genes in (hostile.GENES, hostile.GENES | {"timesteps": 8}):
            archive.find([Architecture(**genes)], 1, hostile.BUDGET)
        archive.fact("finished")
        archive.agree({"device": "cpu"})
    return found


def settings_of(path: Path) -> schema.Config:
    """The settings of a file; nothing in them was resolved."""
    found = saved.read(path)
    assert isinstance(found, schema.Config) and "${" not in repr(found)
    return found


@pytest.mark.parametrize("kind", LOADERS)
def test_a_file_is_valid_or_refused_in_one_line(kind, folder):
    name, load = LOADERS[kind]
    ends = set()

    @given(hostile.CASES[kind])
    @QUICK
    def every_file(data):
        (folder / name).write_bytes(data)
        ends.add(hostile.told(load, folder) is None)

    every_file()
    assert ends == {True, False}, "only valid files, or only broken ones, would show nothing"


def test_the_watch_sees_what_acts(tmp_path):
    """The checks above would pass on a blind watch, too."""
    for act in (
        lambda path: subprocess.run(["true"]),
        lambda path: os.system("true"),
        lambda path: pickle.loads(b"cbuiltins\nlen\n."),
        lambda path: path.write_text("x"),
    ):
        with pytest.raises(AssertionError, match="subprocess|os.system|pickle|open"):
            hostile.told(act, tmp_path / "file")
    with pytest.raises(KeyError):
        hostile.told(lambda path: {}["x"], tmp_path)

    def two_lines(path):
        raise ValueError("a\nb")

    with pytest.raises(AssertionError):
        hostile.told(two_lines, tmp_path)


# -- by hand ----------------------------------------------------------------------------------------------


def damaged(folder: Path, *path, value) -> None:
    """front.json with the value at `path` of its tree replaced."""
    data = json.loads(json.dumps(hostile.FRONT))
    node = data
    for step in path[:-1]:
        node = node[step]
    node[path[-1]] = value
    (folder / "front.json").write_text(json.dumps(data))


@pytest.mark.parametrize(
    "path, value, line",
    [
        (("members", 0, "network"), "../../x", "'../../x' is no name of a file in it"),
        (("members", 0, "network"), "/etc/passwd", "'/etc/passwd' is no name of a file in it"),
        (("members", 0, "network"), "front/../front/00.json", "is no name of a file in it"),
        (("members", 0, "network"), "front/\n00.json", "is no name of a file in it"),
        (("members", 0, "network"), ["front/00.json"], "list is no name of a file in it"),
        (("members", 0, "network"), "x" * 300, "is no name of a file in it"),
        (("members", 0, "network"), "front/07.json", "front/07.json: no such file"),
        (("members", 0, "metrics", "luts"), 1e300, r"members\[0\].metrics.luts must be a number"),
        (("members", 0, "metrics", "luts"), "9", r"members\[0\].metrics.luts must be a number"),
        (("members", 0, "metrics", "a b"), 1, r"members\[0\].metrics: 'a b' is no name of a figure"),
        (
            ("members", 0, "architecture", "layer_widths"),
            [10**9, 2],
            "must be a whole number from 1 to 65536",
        ),
        (("members", 0, "architecture", "layer_widths"), [3, 9], "has other layers than its architecture"),
        (("members", 0, "architecture", "fitness_luts"), 1, "must be an object of genes"),
        (("members", 1, "winner"), True, "one member must be the winner, got 2"),
        (("task",), "a\nb", "task must be 1 to 200 printable characters"),
        (("clock_mhz",), 0, "clock_mhz must be a number above 0"),
        (("target",), "ice99", "target must be one of"),
        (("format",), "scnas-front/2", "format must be 'scnas-front/1'"),
        (("objectives",), ["error", "error"], "objectives must differ"),
        (("objectives",), ["brams"], "metrics lacks brams"),
    ],
)
def test_a_hostile_front_is_refused(tmp_path, path, value, line):
    folder = make_run(tmp_path)
    damaged(folder, *path, value=value)
    with pytest.raises(ValueError, match=line) as refusal:
        front.read(folder)
    assert str(refusal.value).isprintable()


def test_a_network_of_a_billion_neurons_is_refused_before_it_takes_memory(tmp_path):
    data = json.loads(json.dumps(hostile.NETWORK)) | {"n_inputs": 10**9}
    (tmp_path / "network.json").write_text(json.dumps(data))
    with pytest.raises(ValueError, match="n_inputs must be a whole number from 1 to 65536, got 1000000000"):
        Network.load(tmp_path / "network.json")


def test_what_is_not_a_regular_file_is_not_read(tmp_path):
    os.mkfifo(tmp_path / "settings.yaml")  # reading it would wait for ever
    for load in (saved.read, files.read_text, files.read_json):
        with pytest.raises(ValueError, match="settings.yaml: no such file"), hostile.limited(1):
            load(tmp_path / "settings.yaml")


def test_a_monster_is_refused_unread(tmp_path):
    with open(tmp_path / "settings.yaml", "wb") as file:
        file.truncate(2**40)  # a hole: it takes no space
    for load, most in (
        (saved.read, saved.MAX_SETTINGS_BYTES),
        (Network.load, files.MAX_JSON_BYTES),
        (files.read_text, files.MAX_TEXT_BYTES),
    ):
        with pytest.raises(ValueError, match=f"{2**40} bytes, at most {most} are read"):
            load(tmp_path / "settings.yaml")


def test_many_empty_lists_are_refused_unparsed(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "MAX_JSON_CONTAINERS", 100)
    (tmp_path / "file.json").write_text(json.dumps([[]] * 100))
    with pytest.raises(ValueError, match="file.json: 101 lists and objects, at most 100 are read"):
        files.read_json(tmp_path / "file.json")


@pytest.mark.parametrize("text", ['job: "\\x24{oc.env:HOME}"', "job: ${oc.env:HOME}", "job: &a x\nrun: *a"])
def test_settings_resolve_nothing(tmp_path, text):
    (tmp_path / "settings.yaml").write_text(text)
    with pytest.raises(ValueError, match="interpolations and aliases are not read") as refusal:
        saved.read(tmp_path / "settings.yaml")
    assert os.environ["HOME"] not in str(refusal.value)


# -- plugins ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("job", ["verify", "synthesize", "export", "repair", "compare", "search"])
def test_a_plugin_that_a_run_names_is_not_imported(job, tmp_path):
    """Nor is a module that lies in the folder, whatever is asked of it; the line says who may name it."""
    folder = make_run(tmp_path)
    (folder / "evil.py").write_text(f"open({str(folder / 'pwned')!r}, 'w')")
    for named in (str(folder / "evil.py"), "evil"):
        (folder / "settings.yaml").write_text(saved.to_yaml(replace(compose.load(), plugins=[named])))
        settings = compose.load([f"run={folder}", f"runs=[{folder},{folder}]", f"job={job}"])
        with pytest.raises(ValueError, match="settings.yaml names plugins, which only you can") as refusal:
            run.run(settings, folder if job == "search" else tmp_path / "out")
        assert str(refusal.value).isprintable()
    assert not (folder / "pwned").exists() and plugins.loaded() == ()


# -- links ------------------------------------------------------------------------------------------------


def test_a_link_out_of_the_folder_is_refused_and_nothing_is_written_through_it(tmp_path):
    folder = make_run(tmp_path / "run") if (tmp_path / "run").mkdir() is None else None
    outside = tmp_path / "outside"
    shutil.move(folder / "front", outside)
    (folder / "front").symlink_to(outside)
    before = {p.name: p.read_bytes() for p in outside.iterdir()}
    for job in (realize.synthesize(folder, 60.0), build.verify(folder, compose.load(["build=none"]).build)):
        with pytest.raises(ValueError, match="'front' leads out of it"):
            list(job)
    assert {p.name: p.read_bytes() for p in outside.iterdir()} == before


def test_a_link_that_stays_inside_is_followed(tmp_path):
    folder = make_run(tmp_path)
    (folder / "front" / "01.json").unlink()
    (folder / "front" / "01.json").symlink_to("00.json")
    assert len(front.read(folder).members) == 2
    (folder / "front" / "01.json").unlink()
    (folder / "front" / "01.json").symlink_to("01.json")  # in a circle
    with pytest.raises(ValueError, match="'front/01.json'"):
        front.read(folder)


# -- Verilog ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ['x\n`include "/etc/passwd"', '*/ initial $system("true");', "a b\r\nmodule", "\u2028$finish"]
)
def test_the_name_of_an_architecture_stays_in_its_comment(name):
    network = random_network(np.random.default_rng(0), (4, 3, 2), timesteps=4)
    plain, named = (write_design(network, name=n).text.splitlines() for n in ("", name))
    assert named[1:] == plain[1:]
    assert re.fullmatch(r"// scnas design[ A-Za-z0-9_.-]*", named[0])


ACTING = {
    "calls a program": 'initial $system("touch pwned");',
    "calls C": 'import "DPI-C" function int system(input string s);',
    "includes a file": '`include "/etc/passwd"',
    "reads a file": 'initial $readmemh("/etc/passwd", memory);',
    "defines a word": "`define x y",
    "carries C++": '/*verilator public*/ // verilator lint_off ALL',
    "carries C++ in a block": "/* verilator lint_off WIDTH */ /* verilator systemc */",
    "a string": 'wire [31:0] x = "abcd";',
    "an escaped name": "wire \\$system ;",
    "an open comment": "/* and no end",
    "assumes": "always @* assume (0);",
    "not ASCII": "// \u2028`include",
    "hides in a comment that is none": '// \\\n$finish;',
}  # fmt: skip


@pytest.mark.parametrize("what", ACTING)
def test_a_design_that_acts_reaches_no_tool(what, tmp_path, monkeypatch):
    folder = make_run(tmp_path)
    design = folder / "winner" / "design.v"
    foreign.read_sources(folder / "winner")  # as it was
    design.write_text(design.read_text() + ACTING[what] + "\n", encoding="utf-8")
    monkeypatch.setattr("subprocess.Popen", lambda *_, **__: pytest.fail("a tool was started"))
    verifying = build.verify(folder, compose.load().build)
    for check in (lambda: check_winner(folder), lambda: list(verifying)):
        with pytest.raises(ValueError, match="no tool gets to read it|must be plain ASCII") as refusal:
            check()
        assert str(refusal.value).isprintable()


@pytest.mark.parametrize("name", ["x.v; !touch pwned;.v", "a b.v", "-x.v", "x\n.v"])
def test_a_file_name_is_no_command(name, tmp_path):
    folder = make_run(tmp_path)
    (folder / "winner" / name).write_text("module x; endmodule\n")
    with pytest.raises(ValueError, match="is no name of a design's file") as refusal:
        check_winner(folder)
    assert str(refusal.value).isprintable()


@pytest.mark.parametrize("seed", range(6))
def test_our_own_designs_are_let_through(seed):
    dice = np.random.default_rng(seed)
    network = random_network(dice, (9, 8, 6, 5), mapping="any")
    for name, text in write_design(network, byte_serial=bool(seed % 2)).sources.items():
        assert foreign.check(name, text) == text


# -- nothing is executed ----------------------------------------------------------------------------------


def test_no_module_unpickles_or_evaluates():
    """The words that execute what a file says do not occur; NumPy unpickles only when it is told to."""
    forbidden = re.compile(
        r"^\s*(import|from) (c?pickle|marshal|shelve|dill|joblib)\b|torch\.load\(|"
        r"\byaml\.(unsafe_|full_)?load\(|\beval\((?!\))|\bexec\(|allow_pickle=True|os\.system|shell=True|weights_only=False"
    )
    for path in PACKAGE.rglob("*.py"):
        for number, line in enumerate(path.read_text().splitlines(), 1):
            code = line.partition("#")[0]
            where = f"{path.relative_to(PACKAGE)}:{number}: {line.strip()}"
            if "--experimental-rerun" not in code:
                assert not forbidden.search(code), where


def test_arrays_that_carry_objects_are_refused(tmp_path):
    class Acts:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "pwned",))

    x = np.array([[Acts()], [Acts()]], dtype=object)
    np.savez(tmp_path / "data.npz", x=x, y=np.array([0, 1]))
    settings_ = compose.load(["task=npz", f"task.path={tmp_path / 'data.npz'}"])
    with pytest.raises(ValueError, match="allow_pickle=False"):
        scnas.tasks.load(settings_.task)
    assert not (tmp_path / "pwned").exists()


@given(st.binary(max_size=200))
@settings(max_examples=100, suppress_health_check=list(HealthCheck))
def test_inside_never_leads_outside(tmp_path_factory, name):
    base = tmp_path_factory.getbasetemp()
    try:
        path = files.inside(base, name.decode("latin-1"))
    except ValueError as refusal:
        assert str(refusal).isprintable()
    else:
        assert base.resolve() in path.resolve().parents
    assert sys.getrecursionlimit() >= 1000


@pytest.mark.parametrize(
    "content",
    ["[]", "{", '{"target": "ice40", "status": "done"}', '{"luts": 1}', '{"a": {"b": 1}}'],
)
def test_a_stored_synthesis_that_cannot_be_understood_is_made_anew(content, tmp_path):
    (tmp_path / "x.json").write_text(content)
    assert synthesis._stored(tmp_path / "x.json") is None
    whole = synthesis.Synthesis("ice40", "done", luts=5)
    (tmp_path / "x.json").write_text(json.dumps(asdict(whole)))
    assert synthesis._stored(tmp_path / "x.json").luts == 5
    (tmp_path / "x.json").write_text(json.dumps(asdict(whole) | {"luts": "5"}))
    assert synthesis._stored(tmp_path / "x.json") is None

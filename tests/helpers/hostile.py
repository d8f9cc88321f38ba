"""Files of a run as somebody with bad intentions would write them: strategies for Hypothesis.

`CASES[kind]` draws the bytes of a file: a valid one with parts of its tree, or of its bytes, replaced; or
nothing like one. `told(...)` runs a loader on it and says how it ended.
"""

import copy
import functools
import json
import re
import signal
import sqlite3
import sys
import tempfile
from collections.abc import Callable
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import yaml
from hypothesis import strategies as st
from networks import random_network

from scnas.evaluation import Evaluation
from scnas.settings import compose, saved
from scnas.snn.budget import Budget
from scnas.snn.network import Network
from scnas.snn.training import Trained
from scnas.space import Architecture
from scnas.trials.archive import Archive

SECONDS = 10  # that one file may take
NETWORK = random_network(np.random.default_rng(5), (4, 3, 2), timesteps=4, mapping="any").to_dict()
NETWORK_MEMBER = random_network(np.random.default_rng(5), (4, 3, 2), timesteps=4).to_dict()
GENES = Architecture(4, (3, 2), ("lif", "lif"), (8, 8), (0, 0), timesteps=4).to_dict()
METRICS = {"accuracy": 0.9, "error": 0.1, "luts": 100, "energy_nj": 5.5, "test_accuracy": 0.88}
BUDGET = Budget(epochs=1)
FRONT = {
    "format": "scnas-front/1",
    "task": "digits",
    "target": "ice40",
    "clock_mhz": 12.0,
    "energy_label": "calibrated",
    "objectives": ["error", "luts"],
    "members": [
        {
            "name": "a",
            "winner": i == 0,
            "network": f"front/0{i}.json",
            "metrics": METRICS,
            "architecture": GENES,
        }
        for i in range(2)
    ],
}
SETTINGS = yaml.safe_load(saved.to_yaml(compose.load()))

# What somebody might hope for: a path that leads out, code, a word of Verilog, a monster.
TEXTS = [
    "../../x", "/etc/passwd", "front/../../x", "front//00.json", "a\0b", "\n`include \"/etc/passwd\"\n", "",
    "x\nendmodule\nmodule y; initial $system(\"touch pwned\"); endmodule //", "*/ $finish; /*",
    "$\\frac$", "$x", "${oc.env:HOME}", "${hydra:runtime.cwd}", "{job.__class__}", "%s%n",
    "__import__('os').system('true')", "!!python/object/apply:os.system [true]", "nan", "1e999",
    "\u202egnp.exe", "\ud7ff", "a" * 5000, "ice40;ls", "'; DROP TABLE evaluations; --", "NaN", "lif ",
    "LIF", "digits\r\nx: y",
]  # fmt: skip
NUMBERS = [
    10**9, -1, 0, 1, 2, 65536, 2**31, 2**63, -(2**63), 10**400, 1.5, -0.0, 1e308, 5e-324, 2**24, 12, 4096,
    True, False, None,
]  # fmt: skip
BYTES = [
    b"\xff\xfe", b"\0", b"NaN", b"-Infinity", b"1e400", b"[" * 3000, b"{" * 300, b"[" * 900 + b"]" * 900,
    b'{"a":' * 400, b"9" * 5000, b"\n", b"'", b'"', b"\\", b"*a", b"&a ", b"<<: *a", b"${job}", b"\\x24{job}",
    b"!!python/object/apply:os.system [true]", b"? ", b"- " * 3000, b"? " * 3000, b"\t", b"---\n",
    b"%YAML 9.9\n", b"!!binary aa", b"2001-01-01", b"!!set {a}", b"1:2:3", b"0x" + b"f" * 40,
    b"!!float nan", b"|+\n", b"...", b"\xe2\x80\xa8", b"cos\nsystem\n(S'true'\ntR.", b"PK\x03\x04",
    b"SQLite format 3\0",
]  # fmt: skip

anything = st.recursive(
    st.sampled_from(TEXTS) | st.sampled_from(NUMBERS) | st.text(max_size=8) | st.integers() | st.floats(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)


@st.composite
def damaged_trees(draw: Callable, valid: object) -> object:
    """`valid` with one to four of its values replaced, removed, doubled or added."""
    box = [copy.deepcopy(valid)]
    for _ in range(draw(st.integers(1, 4))):
        node, where = box, 0
        while isinstance(node[where], dict | list) and node[where] and draw(st.integers(0, 7)):
            node = node[where]
            where = draw(st.sampled_from(list(node) if isinstance(node, dict) else range(len(node))))
        match draw(
            st.sampled_from(["replace", "replace", "replace", "remove", "double", "add", "nest", "many"])
        ):
            case "replace":
                node[where] = draw(anything)
            case "remove" if node is not box:
                del node[where]
            case "double" if isinstance(node, list) and node is not box:
                node.append(copy.deepcopy(node[where]))
            case "add" if isinstance(node[where], dict):
                node[where][draw(st.sampled_from(TEXTS) | st.text(max_size=5))] = draw(anything)
            case "nest":
                for _ in range(draw(st.sampled_from([1, 3, 200, 900]))):
                    node[where] = [node[where]]
            case "many":
                node[where] = [node[where]] * draw(st.sampled_from([0, 2, 70, 3000]))
    return box[0]


@st.composite
def damaged_bytes(draw: Callable, valid: bytes) -> bytes:
    """`valid` with one to six of its pieces cut out, copied, swapped for something hostile, or cut off."""
    data = valid
    for _ in range(draw(st.integers(1, 6))):
        a, b = sorted((draw(st.integers(0, len(data))), draw(st.integers(0, len(data)))))
        b = min(b, a + draw(st.sampled_from([0, 1, 1, 8, 10**6])))
        piece = draw(st.sampled_from(BYTES) | st.binary(max_size=4) | st.just(b"") | st.just(data[a:b]))
        data = data[:a] + piece + data[b:]
    return data


def _json(tree: object) -> bytes:
    try:
        return json.dumps(tree).encode()
    except RecursionError:
        return b"[" * 2000


def _yaml(tree: object) -> bytes:
    try:
        return yaml.safe_dump(tree).encode("utf-8", "surrogatepass")
    except RecursionError:
        return b"- " * 3000


def _files(valid: object, write: Callable[[object], bytes]) -> st.SearchStrategy[bytes]:
    return st.deferred(
        lambda: (
            damaged_trees(valid).map(write)
            | damaged_trees(valid).map(write)
            | damaged_bytes(write(valid))
            | anything.map(write)
            | st.binary(max_size=64)
        )
    )


@st.composite
def damaged_archives(draw: Callable) -> bytes:
    """An archive of a search with one to three of its cells, or rows, or its schema replaced."""
    db = sqlite3.connect(":memory:")
    db.deserialize(archived())
    names = [row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    columns = {name: [row[1] for row in db.execute(f"PRAGMA table_info({name})")] for name in names}
    for _ in range(draw(st.integers(1, 3))):
        table = draw(st.sampled_from(names))
        column = draw(st.sampled_from(columns[table]))
        value = draw(
            st.sampled_from(TEXTS)
            | st.sampled_from([n for n in NUMBERS if not isinstance(n, int) or abs(n) < 2**63])
            | anything.map(lambda tree: _json(tree).decode())
            | damaged_trees(GENES).map(lambda tree: _json(tree).decode())
            | st.binary(max_size=9)
        )
        if isinstance(value, str):
            value = value.encode("utf-8", "replace").decode()
        how = draw(st.sampled_from(["one", "one", "all", "delete", "view", "trigger", "version"]))
        try:
            match how:
                case "one":
                    first = ", ".join(columns[table][:3])
                    place = draw(st.integers(0, 1))
                    row = f"SELECT {first} FROM {table} LIMIT 1 OFFSET {place}"
                    command = f"UPDATE OR REPLACE {table} SET {column} = ? WHERE ({first}) = ({row})"
                    db.execute(command, (value,))
                case "all":
                    db.execute(f"UPDATE OR REPLACE {table} SET {column} = ?", (value,))
                case "delete":
                    db.execute(f"DELETE FROM {table}")
                case "view":
                    db.execute(f"DROP TABLE {table}")
                    db.execute(f"CREATE VIEW {table} AS SELECT load_extension('x') AS {column}")
                case "trigger":
                    what = "BEGIN SELECT writefile('pwned', 'x'); END"
                    db.execute(f"CREATE TRIGGER pwned AFTER INSERT ON {table} {what}")
                case "version":
                    db.execute(f"PRAGMA user_version = {draw(st.integers(-9, 9))}")
            db.commit()
        except (sqlite3.Error, OverflowError):
            db.rollback()
    data = db.serialize()
    db.close()
    return data


@functools.cache
def archived() -> bytes:
    """The file of an archive: two trained candidates, one failed, two generations."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "archive.sqlite")
        fill_archive(path)
        with closing(sqlite3.connect(path)) as db:
            db.execute("PRAGMA journal_mode = DELETE")
        return path.read_bytes()


def fill_archive(path: Path) -> None:
    """Write that archive, and its networks beside it."""
    genes = Architecture(**GENES)
    network, nan = Network.from_dict(NETWORK_MEMBER), float("nan")
    groups = [[Trained(genes, network, 0.5, 0.9, 0.6, 0.9, (0.1, 0.2), None, 1.0)]]
    groups += [[Trained(replace(genes, timesteps=8), None, nan, nan, nan, nan, (), "out of memory", 1.0)]]
    reference = SimpleNamespace(number=0, hypervolume=0.25, evaluated=[])
    with Archive(path, "task") as archive:
        archive.agree({"task": "task", "device": "cpu"})
        for number, group in enumerate(groups):
            archive.store([t.architecture for t in group], 1, BUDGET, group, ["here"])
            new = [Evaluation(t.architecture, METRICS, 0.0, t.failed is None, t.failed) for t in group]
            reference.number, reference.evaluated = number, new
            archive.generation(reference, 1, BUDGET)


CASES = {
    "archive.sqlite": st.deferred(
        lambda: damaged_archives() | damaged_archives() | st.deferred(lambda: damaged_bytes(archived()))
    ),
    "network.json": _files(NETWORK, _json),
    "front.json": _files(FRONT, _json),
    "settings.yaml": _files(SETTINGS, _yaml),
}


# -- how a loader took it -------------------------------------------------------------------------------

_ACTS = re.compile(
    r"os\.(system|exec|fork|posix_spawn|startfile|remove|rename|link|symlink|rmdir|truncate|putenv)"
    r"|subprocess|pickle|socket|shutil|urllib|webbrowser|pty|ctypes|sqlite3\.(load|enable)|code\.__new__"
)
_seen: list[str] | None = None


def _audit(event: str, arguments: tuple) -> None:
    if _seen is None:
        return
    if _ACTS.match(event):
        _seen.append(f"{event} {arguments!r:.100}")
    elif event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+"):
        _seen.append(f"open {arguments!r:.100}")


sys.addaudithook(_audit)


@contextmanager
def watched():
    """Yields a list that fills with whatever acts: processes, sockets, pickles, files written."""
    global _seen
    _seen = seen = []
    try:
        yield seen
    finally:
        _seen = None


@contextmanager
def limited(seconds: int):
    """TimeoutError in the main thread after `seconds` of work, or 20 times as many of waiting."""

    def late(*_: object) -> None:
        raise TimeoutError(f"no answer after {seconds} s")

    before = [signal.signal(number, late) for number in (signal.SIGVTALRM, signal.SIGALRM)]
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    signal.setitimer(signal.ITIMER_REAL, 20 * seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in zip((signal.SIGVTALRM, signal.SIGALRM), before, strict=True):
            signal.signal(number, handler)


def told(load: Callable[[Path], object], path: Path) -> object | None:
    """What `load` made of a file, None if it was refused in one line; anything else is an AssertionError."""
    for rest in ("archive.sqlite-wal", "archive.sqlite-shm"):  # of the file before
        (path / rest).unlink(missing_ok=True)
    with watched() as seen, limited(SECONDS):
        try:
            found = load(path)
        except ValueError as refusal:
            found, line = None, str(refusal)
            assert line and line.isprintable() and len(line) < 1000 + 2 * len(str(path)), repr(line[:300])
    assert not seen, seen
    return found

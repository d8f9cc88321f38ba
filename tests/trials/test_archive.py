"""The archive: what was stored comes back as it was, or an error says what to do; whoever else writes."""

import csv
import hashlib
import io
import json
import math
import multiprocessing
import shutil
import sqlite3
import time
from dataclasses import replace

import numpy as np
import pytest
from networks import random_network

from scnas import resources
from scnas.evaluation import Evaluation, Generation
from scnas.randomness import rng
from scnas.snn.budget import Budget
from scnas.snn.training import Trained
from scnas.space import Architecture
from scnas.tasks import Split, Task
from scnas.trials import archive, database, export, keys, repair
from scnas.trials.archive import Archive
from scnas.trials.database import NAME, ArchiveError, Database, held
from scnas.trials.keys import fingerprint

BUDGET = Budget(epochs=3, learning_rate=0.1 + 0.2)
NAN = math.nan


def arch(width: int) -> Architecture:
    return Architecture(6, (width, 3), ("lif", "lif"), (8, 8), (0, 1), (0.1 + 0.2, 1.0), timesteps=4)


def trained(width: int, accuracy: float = 0.5) -> Trained:
    dice, shape = rng(0, "archive", width), (6, width, 3)
    network = random_network(dice, shape, encoder="rate", readout="membrane", timesteps=4)
    return Trained(arch(width), network, 1 / 3, 5e-324, 1e308, accuracy, (0.1, 2 / 3), None, 0.125)


FAILED = Trained(arch(9), None, NAN, NAN, NAN, NAN, (), "diverged: it says \"'; DROP TABLE groups; --", 0.5)
GROUP = [arch(4), arch(5), arch(9)]
RESULTS = [trained(4), trained(5, 0.1 + 0.2), FAILED]


def filled(path) -> Archive:
    made = Archive(path, "task")
    made.store(GROUP, 7, BUDGET, RESULTS, ["a", "b", "c"])
    return made


def change(path, statement: str, *values: object) -> None:
    db = sqlite3.connect(path)
    with db:
        db.execute(statement, values)
    db.close()


# -- trainings --------------------------------------------------------------------------------------------


def test_a_group_comes_back_as_it_was_to_the_last_bit(tmp_path):
    with filled(tmp_path / "a.sqlite") as made:
        assert repr(made.find(GROUP, 7, BUDGET)) == repr(
            RESULTS
        )  # repr: NaN equals NaN, and no float differs
        assert [t.network for t in made.find(GROUP, 7, BUDGET)] == [t.network for t in RESULTS]
    with Archive(tmp_path / "a.sqlite", "task") as again:
        assert repr(again.find(GROUP, 7, BUDGET)) == repr(RESULTS)
        assert again.count() == 1 and again.count("trainings") == 3


def test_a_group_is_found_by_all_that_it_depends_on_and_by_nothing_else(tmp_path, monkeypatch):
    with filled(tmp_path / "a.sqlite") as made:
        folded = replace(GROUP[0], mappings=("folded", "parallel"), lanes=(2, 0), fitness_accuracy=0.5)
        assert made.find([folded, *GROUP[1:]], 7, BUDGET) is not None  # mapping is not trained
        assert made.find(GROUP[::-1], 7, BUDGET) is None
        assert made.find(GROUP[:2], 7, BUDGET) is None
        assert made.find(GROUP, 8, BUDGET) is None
        for name, value in dict(epochs=4, batch_size=7, learning_rate=0.3, memory_gib=1.0, clip=2.0).items():
            assert made.find(GROUP, 7, replace(BUDGET, **{name: value})) is None, name
        monkeypatch.setattr(keys, "training_code", lambda: {"torch": "0"})
        assert made.find(GROUP, 7, BUDGET) is None
    with Archive(tmp_path / "a.sqlite", "other") as other:
        assert other.find(GROUP, 7, BUDGET) is None


def test_all_code_that_decides_a_training_is_in_its_key(tmp_path, monkeypatch):
    package = tmp_path / "scnas"
    ours = resources.package()
    shutil.copytree(ours / "snn", package / "snn", ignore=shutil.ignore_patterns("__pycache__"))
    deciding = ["randomness.py", "genes.py", "space.py", "contract.py"]
    for name in deciding:
        shutil.copy(ours / name, package)
    fresh = keys._own_code.__wrapped__
    before = fresh()
    monkeypatch.setattr(resources, "package", lambda: package)
    assert fresh() == before
    for name in (*deciding, "snn/cpu/run.py", "snn/gpu/adam.py"):
        with open(package / name, "a") as file:
            file.write("#")
        before, now = fresh(), before
        assert before != now, name


def test_the_fingerprint_of_a_task_is_that_of_what_a_training_sees():
    x, y = np.linspace(0, 1, 12, dtype=np.float32).reshape(6, 2), np.arange(6) % 2
    split, few = Split(x, y), Split(x[:2], y[:2])
    task = Task("t", "rate", 2, 2, None, split, few, few)
    same = [Task("u", "rate", 2, 2, None, split, few, split), Task("t", "rate", 2, 2, None, split, few, few)]
    assert {fingerprint(t) for t in same} == {fingerprint(task)}
    one_bit = x.copy()
    one_bit[3, 1] = np.nextafter(one_bit[3, 1], 0)
    others = [
        Task("t", "rate", 2, 2, None, Split(one_bit, y), few, few),
        Task("t", "rate", 2, 2, None, Split(x, 1 - y), few, few),
        Task("t", "rate", 2, 2, None, split, Split(x[2:4], y[2:4]), few),
        Task("t", "rate", 2, 3, None, split, few, few),
    ]
    assert len({fingerprint(t) for t in [task, *others]}) == 5


def test_a_group_is_there_whole_or_not_at_all(tmp_path, monkeypatch):
    with Archive(tmp_path / "a.sqlite", "task") as made:
        real = Database.transaction

        def breaks(self):
            raise KeyboardInterrupt

        monkeypatch.setattr(Database, "transaction", breaks)
        with pytest.raises(KeyboardInterrupt):
            made.store(GROUP, 7, BUDGET, RESULTS, ["", "", ""])
        monkeypatch.setattr(Database, "transaction", real)
        assert made.find(GROUP, 7, BUDGET) is None and made.count("trainings") == 0
        with pytest.raises(sqlite3.IntegrityError), made.db.transaction() as db:
            db.execute("INSERT INTO groups (key, seed, budget, size, digest) VALUES ('k', 1, '', 1, '')")
            db.execute("INSERT INTO groups (key, seed, budget, size, digest) VALUES ('k', 1, '', 1, '')")
        assert made.count() == 0
        made.store(GROUP, 7, BUDGET, RESULTS, ["", "", ""])
        made.store(GROUP, 7, BUDGET, [trained(4, 0.9)] * 3, ["", "", ""])  # what is here stays
        assert repr(made.find(GROUP, 7, BUDGET)) == repr(RESULTS)


# -- damage -----------------------------------------------------------------------------------------------


DAMAGE = {
    "a digit": ("UPDATE trainings SET validation_loss = 1e307 WHERE member = 1", "is not what was written"),
    "a member gone": ("DELETE FROM trainings WHERE member = 2", "is not what was written"),
    "a reason": ("UPDATE trainings SET failed = 'dead' WHERE member = 2", "is not what was written"),
    "another network": (
        "UPDATE trainings SET network = (SELECT network FROM trainings WHERE member = 1) WHERE member = 0",
        "is not what was written",
    ),
    "a path": (
        "UPDATE trainings SET network = '../../etc/passwd' WHERE member = 0",
        "is not what was written",
    ),
}


@pytest.mark.parametrize("statement, words", DAMAGE.values(), ids=DAMAGE)
def test_what_was_changed_is_refused_and_what_to_do_is_said(statement, words, tmp_path):
    filled(tmp_path / NAME).close()
    change(tmp_path / NAME, statement)
    with (
        Archive(tmp_path / NAME, "task") as made,
        pytest.raises(ArchiveError, match=words) as refusal,
    ):
        made.find(GROUP, 7, BUDGET)
    assert f"python -m scnas job=repair run={tmp_path}" in str(refusal.value)


def test_a_digest_that_was_mended_does_not_let_a_path_through(tmp_path):
    with filled(tmp_path / "a.sqlite") as made:
        for name in ("../../etc/passwd", "/etc/passwd", "", "f" * 63, "F" * 64):
            with pytest.raises(ArchiveError, match="is not the name of a network"):
                made.network(name)


MADE_UP = [
    "validation_accuracy = 5.0", "validation_accuracy = -0.1", "train_loss = 9e999", "train_accuracy = NULL",
    "validation_loss = 'low'", "seconds = x'00'", "seconds = -1", "failed = 'dead'", "failed = x'00'",
    "network = NULL", "network = 5", "activity = '[]'", "activity = '[0.1, NaN]'",
    "activity = '[0.1, 1e400]'", "activity = '[0.1, 5]'", "activity = '5'", f"activity = '[1{'0' * 400}, 1]'",
    "network = (SELECT network FROM trainings WHERE member = 1)",
]  # fmt: skip


@pytest.mark.parametrize("made_up", MADE_UP)
def test_no_training_comes_back_that_cannot_be_one(made_up, tmp_path):
    """Also where whoever changed it mended the digest."""
    filled(tmp_path / NAME).close()
    change(tmp_path / NAME, f"UPDATE trainings SET {made_up} WHERE member = 0")
    with Archive(tmp_path / NAME, "task") as made:
        rows = made.db.rows("SELECT * FROM trainings ORDER BY member")
        made.db.rows("UPDATE groups SET digest = ?", (archive._digest(rows),))
        for how in (lambda: made.find(GROUP, 7, BUDGET), lambda: made.trainings(rows[0][0])):
            with pytest.raises(ArchiveError, match="is damaged") as refusal:
                how()
            assert str(refusal.value).isprintable()
    (line,) = repair.repair(tmp_path)
    assert line.endswith("damaged-1.sqlite, the new one is empty; 0 of 1 training groups are saved")


def test_a_network_that_is_missing_or_changed_is_refused(tmp_path):
    with filled(tmp_path / "a.sqlite") as made:
        path = max((tmp_path / "networks").iterdir(), key=lambda p: p.stat().st_size)
        whole = path.read_bytes()
        for damaged in (whole[:-1], whole.replace(b"1", b"2", 1), b""):
            path.write_bytes(damaged)
            with pytest.raises(ArchiveError, match=f"{path.name}: its content is not what was written"):
                made.find(GROUP, 7, BUDGET)
        path.unlink()
        with pytest.raises(ArchiveError, match=f"{path.name}: no such file; put it back"):
            made.find(GROUP, 7, BUDGET)
        other = [arch(5), arch(4)]
        made.store(other, 0, BUDGET, [RESULTS[1], RESULTS[0]], ["", ""])  # writes it again
        assert repr(made.find(GROUP, 7, BUDGET)) == repr(RESULTS)


@pytest.mark.parametrize("page", range(1, 6))
def test_a_damaged_page_is_refused_or_harmless(page, tmp_path):
    """Pages of noise: noticed on opening, or else nothing that comes back is wrong."""
    path = tmp_path / NAME
    with filled(path) as made:
        for seed in range(40):
            made.store([arch(4)], seed, BUDGET, [trained(4)], ["w"])
    data = bytearray(path.read_bytes())
    assert page * 4096 < len(data)
    data[page * 4096 : (page + 1) * 4096] = rng(0, "noise", page).bytes(4096)
    path.write_bytes(data)
    with pytest.raises(ArchiveError, match="is damaged .* put back a copy, or save what can be read"):
        Archive(path, "task")
    lines = list(repair.repair(tmp_path))
    with Archive(path, "task") as mended:
        kept = [mended.find([arch(4)], seed, BUDGET) for seed in range(40)]
        assert all(k is None or repr(k) == repr([trained(4)]) for k in kept)
        assert mended.count() >= sum(k is not None for k in kept)
    assert "archive.damaged-1.sqlite" in lines[0] and (tmp_path / "archive.damaged-1.sqlite").exists()


def test_repair_keeps_every_group_that_is_whole(tmp_path):
    path = tmp_path / NAME
    with filled(path) as made:
        made.agree({"task": "t"})
        made.mark("finished", "yes")
        for seed in range(20):
            made.store([arch(5)], seed, BUDGET, [trained(5)], ["w"])
        gone = made.find(GROUP, 7, BUDGET)[0]
    (tmp_path / "networks" / f"{network_name(gone)}.json").unlink()
    change(path, "UPDATE trainings SET seconds = 9 WHERE key IN (SELECT key FROM groups WHERE seed = 3)")
    (line,) = repair.repair(tmp_path)
    assert line.endswith("19 of 21 training groups are saved")
    with Archive(path, "task") as mended:
        found = [s for s in range(20) if mended.find([arch(5)], s, BUDGET)]
        assert found == [s for s in range(20) if s != 3] and mended.find(GROUP, 7, BUDGET) is None
        assert mended.fact("task") == "t" and mended.fact("finished") is None  # a resume goes over it again


def network_name(t: Trained) -> str:
    data = json.dumps(t.network.to_dict(), separators=(",", ":")) + "\n"
    return hashlib.sha256(data.encode()).hexdigest()


def test_repair_leaves_a_file_alone_that_was_no_archive(tmp_path):
    page = tmp_path / "README.md"
    page.write_text("# mine")
    with pytest.raises(ArchiveError, match="README.md: run must name a run or an archive"):
        list(repair.repair(page))
    assert page.read_text() == "# mine"
    assert [path.name for path in tmp_path.iterdir()] == ["README.md"]
    moved = tmp_path / "mine.db"
    with Archive(moved):
        pass
    assert "0 of 0" in next(repair.repair(moved))  # begins as a database does


def test_a_file_of_noise_is_refused_and_repaired_to_nothing(tmp_path):
    path = tmp_path / NAME
    filled(path).close()
    path.write_bytes(rng(0, "noise").bytes(20_000))
    with pytest.raises(ArchiveError, match="is damaged .file is not a database."):
        Archive(path)
    assert list(repair.repair(tmp_path))[0].endswith("0 of 0 training groups are saved")
    with Archive(path, "task") as mended:
        assert mended.count() == 0


@pytest.mark.parametrize("wreck", ["unlink", "empty", "no tables"])
def test_an_archive_that_vanished_is_not_begun_again_in_silence(wreck, tmp_path):
    path = tmp_path / NAME
    filled(path).close()
    path.unlink()
    if wreck == "empty":
        path.touch()
    elif wreck == "no tables":  # what is left when the last write was all there was, and is gone
        change(path, "PRAGMA journal_mode = WAL")
    with pytest.raises(ArchiveError, match="it is empty, while networks lie beside it"):
        Archive(path, "task")
    (line,) = repair.repair(tmp_path)
    with Archive(path, "task") as mended:
        assert mended.count() == 0


# -- versions ---------------------------------------------------------------------------------------------


def test_an_archive_of_version_1_is_brought_up_and_keeps_its_rows(tmp_path):
    path = tmp_path / "old.sqlite"
    db = sqlite3.connect(path)
    db.executescript(archive.MIGRATIONS[0])
    db.execute("PRAGMA user_version = 1")
    db.close()
    with Archive(tmp_path / "new.sqlite", "task") as new:
        new.store(GROUP, 7, BUDGET, RESULTS, ["a", "b", "c"])
        rows = {t: new.db.rows(f"SELECT * FROM {t}") for t in ("groups", "trainings")}
    db = sqlite3.connect(path)
    with db:
        for row in rows["groups"]:
            db.execute("INSERT INTO groups VALUES (?, ?, ?, ?, ?)", row[:5])
        for row in rows["trainings"]:
            db.execute(f"INSERT INTO trainings VALUES ({', '.join('?' * 12)})", row)
    db.close()
    with pytest.raises(ArchiveError, match="an archive of version 1, this scnas reads version 2"):
        Archive(path, read_only=True)
    with Archive(path, "task") as old:
        assert repr(old.find(GROUP, 7, BUDGET)) == repr(RESULTS)
        assert old.db.version == archive.VERSION == 2
        old.store([arch(4)], 1, BUDGET, [trained(4)], ["w"], lent_from="there")
        assert dict(old.db.rows("SELECT seed, lent_from FROM groups")) == {7: None, 1: "there"}


def test_repair_saves_an_archive_of_version_1(tmp_path):
    path = tmp_path / NAME
    filled(path).close()
    change(path, "ALTER TABLE groups DROP COLUMN lent_from")
    change(path, "PRAGMA user_version = 1")
    (line,) = repair.repair(tmp_path)
    assert line.endswith("; 1 of 1 training groups are saved")
    with Archive(path, "task") as mended:
        assert repr(mended.find(GROUP, 7, BUDGET)) == repr(RESULTS)


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE VIEW groups AS WITH RECURSIVE n(key) AS (SELECT 'a' UNION ALL SELECT key || 'a' FROM n)"
        " SELECT key, 1 AS size, 'b' AS digest FROM n",
        "CREATE VIRTUAL TABLE groups USING fts4(key)",
    ],
)
def test_repair_reads_no_table_that_never_ends(statement, tmp_path):
    path = tmp_path / NAME
    change(path, statement)
    before = path.read_bytes()
    with pytest.raises(ArchiveError, match="not an archive of scnas, its tables are others"):
        list(repair.repair(tmp_path))
    assert [p.name for p in tmp_path.iterdir()] == [path.name] and path.read_bytes() == before


def test_what_is_no_archive_or_a_later_one_is_refused(tmp_path):
    filled(tmp_path / "later.sqlite").close()
    change(tmp_path / "later.sqlite", "PRAGMA user_version = 99")
    with pytest.raises(
        ArchiveError, match="an archive of version 99, this scnas reads version 2; use a later"
    ):
        Archive(tmp_path / "later.sqlite")
    change(tmp_path / "mine.sqlite", "CREATE TABLE recipes (name TEXT)")
    with pytest.raises(ArchiveError, match="a database, but not an archive of scnas"):
        Archive(tmp_path / "mine.sqlite")
    filled(tmp_path / "odd.sqlite").close()
    change(
        tmp_path / "odd.sqlite",
        "CREATE TRIGGER t AFTER INSERT ON groups BEGIN SELECT load_extension('x'); END",
    )
    with pytest.raises(ArchiveError, match="not an archive of scnas, its tables are others"):
        Archive(tmp_path / "odd.sqlite")
    with pytest.raises(ArchiveError, match="no such archive"):
        Archive(tmp_path / "none.sqlite", read_only=True)
    assert not (tmp_path / "none.sqlite").exists()


# -- many processes ---------------------------------------------------------------------------------------


ROUNDS = 40


def write(path, number: int) -> None:
    """What one of four writers does: groups of its own, and others that all of them write."""
    with Archive(path, "task") as made:
        for i in range(ROUNDS):
            own = [trained(4), trained(5)]
            made.store([arch(4), arch(5)], 1000 * (number + 1) + i, BUDGET, own, ["w", str(number)])
            made.store([arch(5)], i, BUDGET, [trained(5)], [str(number)])


def read(path) -> None:
    """What a reader does meanwhile: sees groups that are whole, and never fewer than before."""
    while not (path.is_file() and path.stat().st_size):
        time.sleep(0.002)
    seen, query = 0, "SELECT (SELECT sum(size) FROM groups), (SELECT count(*) FROM trainings)"
    while seen < 5 * ROUNDS:
        try:
            with Archive(path, "task", read_only=True) as made:
                ((members, rows),) = made.db.rows(query)
                assert (members or 0) == rows and made.count() >= seen
                seen = made.count()
        except ArchiveError as error:
            assert "version 0" in str(error), error  # not made yet
        time.sleep(0.005)


def test_four_writers_and_two_readers_lose_no_row_and_see_no_half(tmp_path):
    """They make the file together, too."""
    path, context = tmp_path / "shared.sqlite", multiprocessing.get_context("fork")
    started = [context.Process(target=write, args=(path, number)) for number in range(4)]
    started += [context.Process(target=read, args=(path,)) for _ in range(2)]
    for process in started:
        process.start()
    for process in started:
        process.join(120)
    assert [process.exitcode for process in started] == [0] * 6
    with Archive(path, "task") as made:
        assert made.count() == 5 * ROUNDS and made.count("trainings") == 9 * ROUNDS
        for number in range(4):
            for i in range(ROUNDS):
                assert len(made.find([arch(4), arch(5)], 1000 * (number + 1) + i, BUDGET)) == 2


def test_a_lock_that_stays_is_told(tmp_path, monkeypatch):
    with filled(tmp_path / "a.sqlite") as made:
        monkeypatch.setattr(database, "PATIENCE_S", 0.2)
        other = sqlite3.connect(tmp_path / "a.sqlite", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(ArchiveError, match="other processes have kept it locked for 0.2 s"):
            made.mark("a", "b")
        other.execute("ROLLBACK")
        made.mark("a", "b")
        assert made.fact("a") == "b"
        other.close()


def test_a_folder_is_held_by_one(tmp_path):
    with held(tmp_path):
        with pytest.raises(ArchiveError, match="another process works in this folder"), held(tmp_path):
            pass
    with held(tmp_path):
        pass


# -- evaluations ------------------------------------------------------------------------------------------


def evaluation(width: int, error: float) -> Evaluation:
    metrics = {"error": error, "accuracy": 1 - error, "luts": np.int64(7), "energy_nj": math.inf}
    return Evaluation(replace(arch(width), fitness_accuracy=1 - error), metrics, 0.0, True)


BAD = Evaluation(arch(9), {"error": 1.0, "luts": 9}, 1e9, False, FAILED.failed)
NEVER = Evaluation(arch(30), {"error": 1.0, "luts": 10**6}, 0.7, False)
FIRST = Generation(0, [], [], [evaluation(4, 0.1 + 0.2), BAD, NEVER], [], 1 / 3, 2.0)


def test_evaluations_come_back_and_say_where_they_were_trained(tmp_path):
    with filled(tmp_path / "a.sqlite") as made:
        made.generation(FIRST, 7, BUDGET)
        made.generation(FIRST, 7, BUDGET)  # a run that is taken up again repeats itself
        made.keep("final", 0, [evaluation(5, 0.25)] * 2, [7, 8], BUDGET)
        assert made.evaluations() == FIRST.evaluated
        assert [e.metrics["accuracy"] for e in made.evaluations("final")] == [0.75, 0.75]
        assert made.hypervolumes() == [(0, 1 / 3)]
        rows = list(csv.DictReader(io.StringIO(export.table(made))))
    assert [r["status"] for r in rows] == ["trained", "failed", "not trained", "trained", "trained"]
    assert [r["worker"] for r in rows] == ["a", "c", "", "b", ""]  # nobody trained it with seed 8
    assert float(rows[0]["error"]) == 0.1 + 0.2 and rows[0]["energy_nj"] == "" and rows[0]["luts"] == "7"
    assert (
        rows[0]["layer_widths"] == "4 3" and rows[1]["reason"] == FAILED.failed and rows[0]["epochs"] == "3"
    )
    assert (tmp_path / rows[0]["network"]).is_file() and rows[2]["network"] == ""


@pytest.mark.parametrize(
    "column, text",
    [
        ("architecture", '{"n_inputs": 1000000000, "layer_widths": [3]}'),
        ("architecture", '{"path": "/etc/passwd"}'),
        ("architecture", "[" * 100_000),
        ("architecture", "{}"),
        ("architecture", "not JSON"),
        ("metrics", '{"accuracy": "high"}'),
        ("metrics", "[1, 2]"),
    ],
)
def test_a_row_that_is_no_evaluation_is_refused_in_one_line(column, text, tmp_path):
    with filled(tmp_path / "a.sqlite") as made:
        made.generation(FIRST, 7, BUDGET)
        change(tmp_path / "a.sqlite", f"UPDATE evaluations SET {column} = ? WHERE place = 0", text)
        with pytest.raises(ArchiveError, match="is damaged .an evaluation: ") as refusal:
            made.evaluations()
        assert "\n" not in str(refusal.value) and len(str(refusal.value)) < 1000


@pytest.mark.parametrize(
    "other",
    [
        FIRST._replace(evaluated=FIRST.evaluated[::-1]),
        FIRST._replace(evaluated=FIRST.evaluated[:2]),
        FIRST._replace(evaluated=[evaluation(4, 0.3), BAD, NEVER]),
        FIRST._replace(hypervolume=0.25),
    ],
    ids=["order", "fewer", "one bit", "hypervolume"],
)
def test_a_search_that_does_not_repeat_itself_is_refused(other, tmp_path):
    with filled(tmp_path / "a.sqlite") as made:
        made.generation(FIRST, 7, BUDGET)
        with pytest.raises(ArchiveError, match="the search does not repeat what is kept"):
            made.generation(other, 7, BUDGET)
        assert made.evaluations() == FIRST.evaluated


def test_facts_a_run_depends_on_may_not_change(tmp_path):
    with Archive(tmp_path / "a.sqlite") as made:
        made.agree({"torch": "1", "device": "cpu"})
        made.agree({"torch": "1", "numpy": "2"})
        with pytest.raises(ArchiveError, match="numpy was 2 there, is 3 here"):
            made.agree({"torch": "1", "numpy": "3"})


def test_the_export_of_a_run_that_is_still_going(tmp_path):
    with filled(tmp_path / NAME) as made:
        made.generation(FIRST, 7, BUDGET)
        (line,) = export.export(tmp_path)
        assert line == f"{tmp_path / 'evaluations.csv'}: 3 evaluations"
        assert (tmp_path / "evaluations.csv").read_text() == export.table(made)
        before = time.time()
        made.mark("still", "writing")
        assert time.time() - before < 5

"""A run that was broken off, however it was, ends as if nothing had happened; or says what is wrong."""

import resource
import sqlite3

import broken_runs
import pytest
from broken_runs import attempt, differing, finish, groups, in_file, in_report, in_transaction, left

from scnas import run
from scnas.randomness import rng
from scnas.record import begin
from scnas.settings import compose, saved
from scnas.trials import executor, keys
from scnas.trials.archive import Archive
from scnas.trials.database import held


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """(what an uninterrupted run left, its folder)."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    warm = tmp_path_factory.mktemp("warm") / "run"
    warm.mkdir()
    run.run(compose.load(broken_runs.TINY), warm)  # here: what is forked finds everything compiled
    end = attempt(folder)
    assert end.code == 0, end
    assert differing(left(folder), left(warm)) == []
    return left(folder), folder


# -- killed -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.4, pytest.param(0.8, marks=pytest.mark.slow)])
def test_a_run_that_was_killed_goes_on_as_if_nothing_had_happened(share, whole, tmp_path):
    """share: of the groups that a whole run trains, after which it is killed; a time would not do, for the
    second run on a machine may be three times as fast as the first."""
    expected, before = whole
    enough = share * groups(before)
    for i in range(5):  # a run of half a second may end before a busy machine looks
        folder = tmp_path / str(i)
        if attempt(folder, kill_when=lambda folder=folder: groups(folder) >= enough).code == -9:
            break
    else:
        pytest.fail("none of five runs was killed")
    kept = groups(folder)
    assert enough <= kept
    end = finish(folder)
    assert end.code == 0 and differing(expected, left(folder)) == [], end
    assert f"{kept} training groups are in its archive" in end.text


@pytest.mark.parametrize("fault", [in_transaction(5), in_file(12)], ids=["commit", "rename"])
def test_a_run_that_was_killed_in_the_middle_of_a_write(fault, whole, tmp_path):
    folder = tmp_path / "run"
    assert attempt(folder, fault=fault).code == -9
    assert finish(folder).code == 0
    assert differing(whole[0], left(folder)) == []


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_twenty_random_kills(workers, whole, tmp_path):
    """Twice each: the run that was taken up again is killed, too."""
    seconds = attempt(tmp_path / "w", f"executor.workers={workers}").seconds
    for trial in range(12 // workers):
        folder = tmp_path / str(trial)
        for when in rng(0, "kill", workers, trial).random(2):
            attempt(folder, f"executor.workers={workers}", kill_after=float(when) * seconds)
        assert finish(folder, f"executor.workers={workers}").code == 0
        assert differing(whole[0], left(folder)) == [], trial


# -- taken up again ---------------------------------------------------------------------------------------


def test_what_is_in_the_archive_is_not_trained_again(whole, tmp_path):
    """Nothing at all is: the last thing that a run does fails, and trainings are forbidden after that."""
    folder = tmp_path / "run"
    assert attempt(folder, fault=in_report(4)).code == -9
    assert groups(folder) == groups(whole[1])

    def forbid() -> None:
        executor.run_job = None

    assert attempt(folder, fault=forbid).code == 0
    assert differing(whole[0], left(folder)) == []
    assert attempt(tmp_path / "new", fault=forbid).code == 1


def test_a_finished_run_says_so_and_is_left_alone(whole, tmp_path):
    folder = whole[1]
    before = {p: p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file() and "sqlite-" not in p.name}
    end = attempt(folder)
    assert end.code == 0 and end.line == f"{folder} holds this run, finished; nothing is left to do"
    after = {p: p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file() and "sqlite-" not in p.name}
    assert {p for p in after if after[p] != before.get(p)} <= {folder / "archive.sqlite"}


def test_other_settings_are_refused_and_those_that_change_nothing_are_not(whole):
    folder = whole[1]
    for name in begin.FREE:
        assert name in saved.flat(compose.load()), name
    end = attempt(folder, "search.seed=9", "executor.workers=2")
    assert end.code == 2 and "holds a run with other settings: search.seed is 0 there, 9 here" in end.line
    assert "more" not in end.line  # the number of workers is no difference
    assert (
        attempt(folder, "executor.timeout_s=1e6", "build.timeout_s=5", "search.max_failed_share=1").code == 0
    )


def test_other_training_code_is_refused(whole, tmp_path):
    def older() -> None:
        keys.training_code = lambda: {"torch": "0.1"}

    folder = tmp_path / "run"
    assert attempt(folder, fault=lambda: (older(), in_transaction(9)())).code == -9
    end = attempt(folder)
    assert end.code == 2 and "torch was 0.1 there, is" in end.line and "begin in another folder" in end.line


def test_two_at_a_time_are_refused(whole):
    with held(whole[1]):
        end = attempt(whole[1])
    assert end.code == 2 and "another process works in this folder" in end.line


def test_ctrl_c_keeps_what_there_is_and_the_run_goes_on_later(whole, tmp_path):
    expected, before = whole
    enough = 0.6 * groups(before)
    for i in range(5):
        folder = tmp_path / str(i)
        end = attempt(folder, interrupt_when=lambda folder=folder: groups(folder) >= enough)
        assert end.code in (0, 130), end
        if "Interrupted; what there was" in end.text:
            break
    else:
        pytest.fail("none of five runs was interrupted")
    assert groups(folder) >= enough
    assert finish(folder).code == 0
    assert differing(expected, left(folder)) == []


def test_too_many_failures_stop_a_search_and_it_can_go_on_later(tmp_path):
    """Candidates that raise are marked failed, and they alone; more of them than the limit end the search."""
    folder, planted = tmp_path / "run", broken_runs.breaking("exception")
    end = attempt(folder, "search.max_failed_share=0", fault=planted)
    assert end.code == 2 and "search.max_failed_share is 0, but 1 of 5 candidates of generation" in end.line
    assert "IndexError: planted (broken_runs.py:" in end.line
    assert attempt(folder, fault=planted).code == 0
    with Archive(folder / "archive.sqlite", read_only=True) as archive:
        tried = [e for e in archive.evaluations() if e.trained or e.failed]
    assert {e.architecture for e in tried if e.failed} == {
        e.architecture for e in tried if broken_runs.guilty(e.architecture.training_key)
    }


# -- damage -----------------------------------------------------------------------------------------------


def test_a_weight_file_that_is_gone_is_refused_and_repaired(whole, tmp_path):
    folder = tmp_path / "run"
    assert attempt(folder, fault=in_report(1)).code == -9
    broken_runs.newest_network(folder).unlink()
    end = attempt(folder)
    assert end.code == 2 and "no such file; put it back from a copy, or forget" in end.line
    assert f"job=repair run={folder}" in end.line
    assert "training groups are saved" in broken_runs.repair(folder)
    assert finish(folder).code == 0
    assert differing(whole[0], left(folder)) == []


def test_a_full_disk_is_one_line_and_costs_nothing_that_was_finished(whole, tmp_path):
    """No file may grow beyond a limit, from the archive's log to the networks."""

    def full() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (80_000, resource.RLIM_INFINITY))

    folder = tmp_path / "run"
    end = attempt(folder, fault=full)
    assert end.code == 2 and "make room" in end.line, end
    assert groups(folder) > 0
    assert finish(folder).code == 0
    assert differing(whole[0], left(folder)) == []


# -- a shared archive -------------------------------------------------------------------------------------


def test_a_shared_archive_lends_and_the_borrower_needs_it_no_more(whole, tmp_path):
    shared = f"search.archive={tmp_path / 'shared' / 'all.sqlite'}"
    assert attempt(tmp_path / "lender", shared).code == 0

    def forbid() -> None:
        executor.run_job = None

    end = attempt(
        tmp_path / "borrower", shared, "executor.timeout_s=1e6", fault=lambda: (forbid(), in_report(1)())
    )
    assert end.code == -9
    for file in (tmp_path / "shared").glob("all*"):
        file.unlink()
    assert attempt(tmp_path / "borrower", fault=forbid).code == 0  # and without the shared one
    for name in ("lender", "borrower"):
        assert differing(whole[0], left(tmp_path / name)) == [], name
    db = sqlite3.connect(tmp_path / "borrower" / "archive.sqlite")
    assert db.execute("SELECT DISTINCT lent_from FROM groups").fetchall() == [
        (str(tmp_path / "shared" / "all.sqlite"),)
    ]
    db.close()


def test_a_damaged_shared_archive_is_named(tmp_path):
    (tmp_path / "all.sqlite").write_bytes(b"noise" * 5000)
    end = attempt(tmp_path / "run", f"search.archive={tmp_path / 'all.sqlite'}")
    assert end.code == 2 and f"{tmp_path / 'all.sqlite'} is damaged" in end.line

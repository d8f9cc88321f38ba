"""scnas.trials.executor: where a training runs changes nothing in what comes out."""

import math
import os
import signal
import time

import pytest
import torch
from small_task import QUICK, SOME, TASK, arch, figures

from scnas.snn import groups, training
from scnas.snn.budget import Budget
from scnas.snn.training import train_population
from scnas.trials import executor
from scnas.trials.executor import Finished, Job, Local, pick_device
from scnas.trials.trainer import ATTEMPTS, Trainer


def train(architectures, seeds, budget=QUICK, **local) -> list:
    with Local(TASK, device="cpu", **local) as executor:
        return Trainer(TASK, executor).train(architectures, budget, seeds)


def test_here_is_train_population():
    (results,) = train(SOME, [3])
    assert figures(results) == figures(train_population(SOME, TASK, QUICK, seed=3))
    assert [r.architecture for r in results] == SOME and all(r.failed is None for r in results)


def test_each_seed_has_a_list_of_its_own_in_the_order_given():
    results = train(SOME[:3], [5, 1, 5])
    assert [figures(of_seed) for of_seed in results] == [
        figures(train_population(SOME[:3], TASK, QUICK, seed=seed)) for seed in (5, 1, 5)
    ]
    assert figures(results[0]) != figures(results[1])


def test_nothing_to_train_needs_nobody():
    with Local(TASK, 3, "cpu") as local:
        trainer = Trainer(TASK, local)
        assert trainer.train([], QUICK, [1, 2]) == [[], []]
        assert trainer.train(SOME, QUICK, []) == []
        assert local._workers == []


def test_two_workers_give_what_one_gives_and_leave_nobody_behind():
    with Local(TASK, 2, "cpu") as local:
        trainer = Trainer(TASK, local)
        many = trainer.train(SOME, QUICK, [0, 1])
        again = trainer.train(SOME[:2], QUICK, [0])  # the same workers, still warm
        workers = [w.process.pid for w in local._workers]
        assert len(workers) == 2 and os.getpid() not in workers
        local.submit(1, Job((arch(300, 300),), 0, Budget(epochs=10_000)))  # and in the middle of something
    assert gone(workers)
    one = train(SOME, [0, 1])
    assert list(map(figures, many)) == list(map(figures, one))
    assert figures(again[0]) == figures(one[0][:2])


def gone(workers: list[int]) -> bool:
    """Whether all of these processes end within 20 seconds."""
    deadline = time.monotonic() + 20
    while any(map(alive, workers)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not any(map(alive, workers))


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    with open(f"/proc/{pid}/stat") as stat:
        return stat.read().rsplit(")", 1)[1].split()[0] != "Z"


def test_the_seed_and_the_budget_arrive(monkeypatch):
    seen, group = [], training.train_group

    def watched(architectures, *rest):
        seen.append((list(architectures), *rest))
        return group(architectures, *rest)

    monkeypatch.setattr(training, "train_group", watched)
    budget = Budget(epochs=3, batch_size=7, memory_gib=0.5)
    train([arch(6)], [11, 12], budget)
    assert seen == [([arch(6)], TASK, budget, seed, "cpu") for seed in (11, 12)]


def test_training_uses_one_thread_and_gives_the_others_back(monkeypatch):
    before, during, group = torch.get_num_threads(), [], training.train_group
    try:
        torch.set_num_threads(2)

        def watched(*arguments):
            during.append(torch.get_num_threads())
            return group(*arguments)

        monkeypatch.setattr(training, "train_group", watched)
        train([arch(6)], [0])
        assert during == [1] and torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_zero_workers_are_one_per_core(monkeypatch):
    monkeypatch.setattr(executor.os, "sched_getaffinity", lambda _: {0, 1, 2}, raising=False)
    assert Local(TASK, 0, "cpu").slots == 3
    monkeypatch.delattr(executor.os, "sched_getaffinity")  # not every system can tell
    monkeypatch.setattr(executor.os, "cpu_count", lambda: 5)
    assert Local(TASK, 0, "cpu").slots == 5
    assert Local(TASK, 2, "cpu").slots == 2
    monkeypatch.setattr(executor.os, "cpu_count", lambda: None)
    assert Local(TASK, 0, "cpu").slots == 1


def test_a_device_is_picked_by_what_there_is(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert pick_device("auto") == pick_device("cpu") == "cpu"
    with pytest.raises(ValueError) as refusal:
        pick_device("cuda")
    assert str(refusal.value).endswith("got cuda: no CUDA device found") and "\n" not in str(refusal.value)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert pick_device("auto") == pick_device("cuda") == "cuda" and pick_device("cpu") == "cpu"
    assert Local(TASK, 4, "auto").slots == 1  # a GPU is fed by one


@pytest.mark.parametrize(
    "words, line",
    [
        (dict(workers=-1), "executor.workers must be a whole number from 0 to 4096, got -1"),
        (dict(workers=2.5), "executor.workers must be a whole number from 0 to 4096, got 2.5"),
        (dict(device="tpu"), "executor.device must be one of auto, cpu, cuda, got 'tpu'"),
    ],
)
def test_a_wrong_word_starts_no_process(words, line):
    with pytest.raises(ValueError, match=f"^{line}$"):
        Local(TASK, **words)


@pytest.mark.slow
def test_workers_end_with_a_search_that_was_killed():
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        local = Local(TASK, 2, "cpu")
        for ticket in range(2):
            local.submit(ticket, Job((arch(200, 200),), ticket, Budget(epochs=100_000)))
        while not all(w.ready for w in local._workers):
            local._next()
        os.write(writer, " ".join(str(w.process.pid) for w in local._workers).encode())
        time.sleep(300)
    workers = list(map(int, os.read(reader, 100).split()))
    assert len(workers) == 2 and all(map(alive, workers))
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    assert gone(workers)


def test_leaving_after_an_error_or_twice_is_no_problem():
    local = Local(TASK, 1, "cpu")
    with pytest.raises(KeyError), local:
        raise KeyError
    local.__exit__(None, None, None)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


# -- what breaks ------------------------------------------------------------------------------------------


class Scripted:
    """An executor on which candidates break as they are told: width of the first layer -> how.

    `raises`: an exception. `dies`: its worker does, every time. `once`: only the first time. `late`: it
    runs into the time limit. Everything else trains here. Counts the jobs it was given.
    """

    slots, device = 2, "cpu"

    def __init__(self, **bad: str):
        self.bad = {int(width[1:]): how for width, how in bad.items()}
        self.jobs, self.queue = [], []

    def submit(self, ticket: int, job: Job) -> None:
        self.jobs.append([a.layer_widths[0] for a in job.group])
        self.queue.append((ticket, job))

    def collect(self) -> Finished:
        ticket, job = self.queue.pop()  # the last first: nothing may depend on the order
        hows = {self.bad.get(a.layer_widths[0]) for a in job.group}
        if "once" in hows:
            self.bad = {w: how for w, how in self.bad.items() if how != "once"}
            return Finished(ticket, None, "its worker was killed by SIGKILL", True, "w", 0.5)
        for how, fault, lost in (
            ("raises", "KeyError: 'x'", False), ("dies", "its worker was killed by SIGKILL", True),
            ("late", "took too long", False),
        ):  # fmt: skip
            if how in hows:
                return Finished(ticket, None, fault, lost, "w", 0.5)
        return Finished(
            ticket, training.train_group(list(job.group), TASK, QUICK, 0, "cpu"), None, False, "w", 1
        )

    def cancel(self) -> None:
        self.queue.clear()


GROUP = [arch(width) for width in (4, 5, 6, 7, 8)]


@pytest.mark.parametrize(
    "how, reason",
    [
        ("raises", "KeyError: 'x'"),
        ("late", "took too long"),
        ("dies", f"its worker was killed by SIGKILL, {ATTEMPTS} times in a row"),
    ],
)
@pytest.mark.parametrize("guilty", [4, 6, 8])
def test_only_the_candidate_that_breaks_its_group_fails(guilty, how, reason):
    assert len(groups.plan_groups(GROUP, TASK, QUICK)) == 1
    executor = Scripted(**{f"w{guilty}": how})
    (results,) = Trainer(TASK, executor).train(GROUP, QUICK, [0])
    assert [r.architecture for r in results] == GROUP
    for r in results:
        if r.architecture.layer_widths[0] == guilty:
            assert r.failed == reason and r.network is None and math.isnan(r.validation_accuracy)
        else:
            alone = train_population([r.architecture], TASK, QUICK, seed=0)[0]
            assert r.failed is None and r.validation_accuracy == pytest.approx(
                alone.validation_accuracy, abs=0.1
            )
    tries = [job for job in executor.jobs if guilty in job]
    assert tries[0] == [4, 5, 6, 7, 8] and tries[-1] == [guilty]
    for job in tries:
        assert tries.count(job) == (ATTEMPTS if how == "dies" else 1)


def test_two_that_break_their_group_are_both_found():
    (results,) = Trainer(TASK, Scripted(w4="raises", w7="dies")).train(GROUP, QUICK, [0])
    assert [r.architecture.layer_widths[0] for r in results if r.failed] == [4, 7]


def test_a_group_whose_worker_died_once_is_trained_again_whole():
    executor = Scripted(w6="once")
    (results,) = Trainer(TASK, executor).train(GROUP, QUICK, [0])
    assert executor.jobs == [[4, 5, 6, 7, 8]] * 2
    assert figures(results) == figures(train_population(GROUP, TASK, QUICK, seed=0))


def test_groups_can_be_started_one_by_one_and_come_back_as_they_end():
    executor = Scripted()
    trainer = Trainer(TASK, executor)
    first, second = trainer.start([arch(4)], 0, QUICK), trainer.start([arch(5)], 0, QUICK)
    ended = [trainer.wait() for _ in range(2)]
    assert [ticket for ticket, _ in ended] == [second, first]
    assert [t.architecture for _, (t,) in ended] == [arch(5), arch(4)]


def test_an_exception_in_a_training_is_told_with_its_place(monkeypatch):
    group = training.train_group

    def break_on_six(architectures, *rest):
        if any(a.layer_widths[0] == 6 for a in architectures):
            raise IndexError("no such\n synapse")
        return group(architectures, *rest)

    monkeypatch.setattr(training, "train_group", break_on_six)
    (results,) = train(GROUP, [0], workers=1)
    (bad,) = [r for r in results if r.failed]
    assert bad.architecture == arch(6)
    assert bad.failed.startswith("IndexError: no such synapse (test_executor.py:")


def test_real_workers_that_are_killed_or_too_slow():
    """A worker is killed in the middle of a long training: it is trained again. A candidate that takes too
    long is given up, and the others are not."""
    long = Budget(epochs=400, batch_size=16)
    with Local(TASK, 2, "cpu", timeout_s=1e6) as local:
        trainer = Trainer(TASK, local)
        ticket = trainer.start([arch(40, 40)], 0, long)
        while not local._workers[0].ready:
            assert local._next() is None
        time.sleep(0.1)
        victim = local._workers[0].process
        os.kill(victim.pid, signal.SIGKILL)
        done, (trained,) = trainer.wait()
        assert done == ticket and trained.failed is None
        assert [w.process.pid for w in local._workers] != [victim.pid]

        local.timeout_s = 1.0
        start = time.monotonic()
        (results,) = trainer.train([arch(4)], QUICK, [1])
        assert results[0].failed is None
        slow = trainer.start([arch(200, 200, 200)], 0, Budget(epochs=100_000))
        done, (trained,) = trainer.wait()
        assert done == slow and trained.failed == "took longer than executor.timeout_s = 1"
        assert 1 <= time.monotonic() - start < 30

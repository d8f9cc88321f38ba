"""scnas.executor: where a training runs changes nothing in what comes out."""

import os
import signal
import time

import numpy as np
import pytest
import torch

from scnas import executor
from scnas.executor import Local, pick_device
from scnas.snn import training
from scnas.snn.training import Budget, train_population
from scnas.space import Architecture
from scnas.tasks import Split, Task

QUICK = Budget(epochs=1, batch_size=16)


def small_task() -> Task:
    rng = np.random.default_rng(0)

    def split(count: int) -> Split:
        y = np.arange(count) % 3
        x = (rng.random((count, 8)) * 0.3 + 0.7 * np.eye(8)[y]).clip(0, 1)
        return Split(x.astype(np.float32), y.astype(np.int64))

    return Task("small", "rate", 8, 3, None, split(48), split(24), split(3))


TASK = small_task()


def arch(*hidden: int, **genes) -> Architecture:
    n = len(hidden) + 1
    return Architecture(8, (*hidden, 3), ("lif",) * n, (8,) * n, (0,) * n, timesteps=4, **genes)


SOME = [
    arch(6), arch(4, 5), arch(12), arch(), arch(6, mappings=("folded", "folded"), lanes=(2, 2)),
    arch(7, generators=("lfsr", "sobol")), arch(5, readout="spikes"),
]  # fmt: skip


def figures(results) -> list:
    return [r._replace(seconds=0.0) for r in results]


def test_here_is_train_population():
    with Local(TASK, 1, "cpu") as local:
        (results,) = local.train(SOME, QUICK, [3])
    assert figures(results) == figures(train_population(SOME, TASK, QUICK, seed=3))
    assert [r.architecture for r in results] == SOME and all(r.failed is None for r in results)


def test_each_seed_has_a_list_of_its_own_in_the_order_given():
    with Local(TASK, 1, "cpu") as local:
        results = local.train(SOME[:3], QUICK, [5, 1, 5])
    assert [figures(of_seed) for of_seed in results] == [
        figures(train_population(SOME[:3], TASK, QUICK, seed=seed)) for seed in (5, 1, 5)
    ]
    assert figures(results[0]) != figures(results[1])


def test_nothing_to_train_needs_nobody():
    with Local(TASK, 3, "cpu") as local:
        assert local.train([], QUICK, [1, 2]) == [[], []]
        assert local.train(SOME, QUICK, []) == []
        assert local._pool is None


def test_two_workers_give_what_one_gives_and_leave_nobody_behind():
    with Local(TASK, 2, "cpu") as local:
        many = local.train(SOME, QUICK, [0, 1])
        again = local.train(SOME[:2], QUICK, [0])  # the same workers, still warm
        workers = list(local._pool._processes)
        assert 1 <= len(workers) <= 2 and os.getpid() not in workers
        # What a worker cannot do arrives here as the error that it is.
        local.device = "abacus"
        with pytest.raises(RuntimeError, match="abacus"):
            local.train(SOME, QUICK, [0])
    with Local(TASK, 1, "cpu") as local:
        one = local.train(SOME, QUICK, [0, 1])
    assert list(map(figures, many)) == list(map(figures, one))
    assert figures(again[0]) == figures(one[0][:2])
    assert gone(workers)


def test_workers_in_the_middle_of_something_are_ended_too():
    with Local(TASK, 2, "cpu") as local:
        local.train(SOME, QUICK, [0])
        workers = list(local._pool._processes)
        for _ in workers:
            local._pool.submit(time.sleep, 60)
    assert gone(workers)


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

    def train(architectures, *rest):
        seen.append((list(architectures), *rest))
        return group(architectures, *rest)

    monkeypatch.setattr(training, "train_group", train)
    budget = Budget(epochs=3, batch_size=7, memory_gib=0.5)
    with Local(TASK, 1, "cpu") as local:
        local.train([arch(6)], budget, [11, 12])
    assert seen == [([arch(6)], TASK, budget, seed, "cpu") for seed in (11, 12)]


def test_training_uses_one_thread_and_gives_the_others_back(monkeypatch):
    before, during, group = torch.get_num_threads(), [], training.train_group
    try:
        torch.set_num_threads(2)

        def watched(*arguments):
            during.append(torch.get_num_threads())
            return group(*arguments)

        monkeypatch.setattr(training, "train_group", watched)
        with Local(TASK, 1, "cpu") as local:
            local.train([arch(6)], QUICK, [0])
        assert during == [1] and torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_zero_workers_are_one_per_core(monkeypatch):
    monkeypatch.setattr(executor.os, "sched_getaffinity", lambda _: {0, 1, 2}, raising=False)
    assert Local(TASK, 0, "cpu").workers == 3
    monkeypatch.delattr(executor.os, "sched_getaffinity")  # not every system can tell
    monkeypatch.setattr(executor.os, "cpu_count", lambda: 5)
    assert Local(TASK, 0, "cpu").workers == 5
    assert Local(TASK, 2, "cpu").workers == 2
    monkeypatch.setattr(executor.os, "cpu_count", lambda: None)
    assert Local(TASK, 0, "cpu").workers == 1


def test_a_device_is_picked_by_what_there_is(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert pick_device("auto") == pick_device("cpu") == "cpu"
    with pytest.raises(ValueError) as refusal:
        pick_device("cuda")
    assert str(refusal.value).endswith("got cuda: no CUDA device found") and "\n" not in str(refusal.value)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert pick_device("auto") == pick_device("cuda") == "cuda" and pick_device("cpu") == "cpu"
    assert Local(TASK, 4, "auto").workers == 1  # a GPU is fed by one


def test_leaving_after_an_error_or_twice_is_no_problem():
    local = Local(TASK, 1, "cpu")
    with pytest.raises(KeyError), local:
        raise KeyError
    local.__exit__(None, None, None)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler

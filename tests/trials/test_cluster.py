"""executor=ray: the same results as here, whoever does the work and whoever dies at it."""

import os
import secrets
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from itertools import islice
from pathlib import Path

import pytest
from small_task import QUICK, SOME, TASK, arch, figures

import scnas
from scnas import resume
from scnas.hardware import targets
from scnas.search.evaluation import Evaluator, Reference, capacity
from scnas.search.evolve import evolve
from scnas.settings import compose
from scnas.space import SearchSpace
from scnas.trials import cluster, executor
from scnas.trials.executor import Job, Local
from scnas.trials.trainer import ATTEMPTS, Trainer

needs_ray = pytest.mark.skipif(
    find_spec("ray") is None, reason="extra `cluster` not installed: pip install 'scnas[cluster]'"
)


@pytest.fixture(scope="module")
def address():
    """A cluster of two CPUs on this machine, started and stopped by Ray's own command."""
    port = 20000 + os.getpid() % 20000
    ray = str(Path(sys.executable).parent / "ray")
    # The worker processes of the cluster inherit these, and so does every connection from here.
    os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    package = str(Path(scnas.__file__).parents[1])
    environment = os.environ | {"RAY_USAGE_STATS_ENABLED": "0", "PYTHONPATH": package}
    command = [ray, "start", "--head", "--num-cpus=2", f"--port={port}", "--include-dashboard=false"]
    subprocess.run(command, check=True, capture_output=True, env=environment)
    yield f"127.0.0.1:{port}"
    subprocess.run([ray, "stop", "--force"], check=True, capture_output=True, env=environment)


def breaking(path: Path, times: int, how: str):
    """A job that ends its worker the first `times` that it is run, counted in the file `path`."""

    def job(ticket, job, task, device, imported):
        import torch

        torch.set_num_threads(1)
        yield None
        with open(path, "a") as file:
            file.write("x")
        if path.stat().st_size <= times:
            if how == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            if how == "sleep":
                time.sleep(600)
            raise RuntimeError("no\nluck")
        yield executor.run_job(ticket, job, task, device)

    return job


@needs_ray
@pytest.mark.parametrize("workers", [1, 2])
def test_a_cluster_gives_what_this_process_gives(workers, address):
    with Local(TASK, 1, "cpu") as local:
        here = Trainer(TASK, local).train(SOME, QUICK, [3, 4])
    with cluster.Cluster(TASK, workers, "cpu", address=address) as there:
        assert (there.slots, there.device) == (workers, "cpu")
        found = Trainer(TASK, there).train(SOME, QUICK, [3, 4])
    assert [figures(of_seed) for of_seed in found] == [figures(of_seed) for of_seed in here]


def search(workers) -> list:
    """Three generations on `workers`: every evaluation, in order, but for the time it took."""
    chip = targets.target("ice40")
    space = SearchSpace(8, 3, max_layers=2, width_choices=(4, 8), L_choices=(4, 8), timesteps_choices=(4,))
    trainer = Trainer(TASK, workers)
    evaluator = Evaluator(chip, capacity(chip), train=lambda batch: trainer.train(batch, QUICK, [1])[0])
    reference = Reference(("error", "luts"), 3, chip)
    *_, last = islice(evolve(space, evaluator, reference, 6, seed=1), 3)
    return [(e.architecture, e.metrics, e.failed) for e in last.archive]


@needs_ray
@pytest.mark.parametrize("workers", [1, 2])
def test_a_search_is_the_same_search_and_a_killed_worker_costs_a_retry(workers, address, tmp_path):
    with Local(TASK, 1, "cpu") as local:
        here = search(local)
    with cluster.Cluster(TASK, workers, "cpu", address=address) as there:
        assert search(there) == here
        there._run = there._ray.remote(breaking(tmp_path / "runs", 2, "kill")).options(**there._options)
        assert search(there) == here
        assert (tmp_path / "runs").stat().st_size > 4  # two of them died


@needs_ray
@pytest.mark.parametrize(
    "how, words, lost",
    [("kill", "its worker was lost: WorkerCrashedError", True), ("raise", "RuntimeError: no luck", False)],
)
def test_what_breaks_is_told(how, words, lost, address, tmp_path):
    with cluster.Cluster(TASK, 1, "cpu", address=address) as there:
        there._run = there._ray.remote(breaking(tmp_path / "runs", 99, how)).options(**there._options)
        there.submit(7, Job((arch(4),), 1, QUICK))
        found = there.collect()
        assert (found.ticket, found.trained, found.fault, found.lost) == (7, None, words, lost)
        ((failed,),) = Trainer(TASK, there).train([arch(4)], QUICK, [1])
        assert failed.failed.startswith(words)
    assert (tmp_path / "runs").stat().st_size == 1 + (ATTEMPTS if lost else 1)


@needs_ray
def test_a_job_that_takes_too_long_is_given_up(address, tmp_path):
    with cluster.Cluster(TASK, 2, "cpu", timeout_s=30.0, address=address) as there:
        there._run = there._ray.remote(breaking(tmp_path / "runs", 1, "sleep")).options(**there._options)
        for ticket in (1, 2, 3):
            there.submit(ticket, Job((arch(4),), 1, QUICK))
        ends = sorted(there.collect()[:3] for _ in range(3))
    faults = [fault for _, _, fault in ends if fault is not None]
    assert faults == ["took longer than executor.timeout_s = 30"] and len(ends) == 3


@needs_ray
def test_a_cluster_of_its_own_ends_with_the_run():
    with cluster.Cluster(TASK, 2, "cpu") as there:
        assert there.slots == 2 and there._ray.cluster_resources()["CPU"] == 2
        ((found,),) = Trainer(TASK, there).train([arch(4)], QUICK, [1])
        assert found.failed is None
    assert not there._ray.is_initialized()


@needs_ray
def test_jobs_that_fit_nowhere_and_addresses_of_nobody_are_refused(address):
    for changes, line in (
        (
            {"cpus": 64.0},
            "executor.cpus = 64 and executor.gpus = 1 on cpu fit no job into a cluster of 2 CPUs",
        ),
        ({"device": "cuda"}, "on cuda fit no job into a cluster of 2 CPUs and 0 GPUs"),
    ):
        with pytest.raises(ValueError, match=line):
            cluster.Cluster(TASK, address=address, **changes)
    for wrong in ("127.0.0.1:1", "here", "here:there"):
        with pytest.raises(ValueError, match=f"executor.address must be auto or host:port .*, got {wrong}: "):
            cluster.Cluster(TASK, address=wrong)


def test_without_its_extra_it_is_refused_in_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    settings = compose.load(["executor=ray"])
    with pytest.raises(
        ValueError, match=r"^executor=ray needs the extra cluster: pip install 'scnas\[cluster\]'$"
    ):
        resume.executor_for(TASK, settings.executor)


def test_the_setting_names_the_executor():
    with resume.executor_for(
        TASK, compose.load(["executor.workers=2", "executor.device=cpu"]).executor
    ) as found:
        assert isinstance(found, Local) and found.slots == 2

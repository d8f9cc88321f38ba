"""Steady-state search: nobody waits, nobody is forgotten, and a known order repeats the search."""

from itertools import pairwise

import numpy as np
import pytest
from small_task import QUICK, TASK, arch, figures

from scnas.hardware import targets
from scnas.hardware.cost import price as price_module
from scnas.search.evaluation import Evaluator, Reference, capacity, pareto_front
from scnas.search.steady import Feed, evolve_steady
from scnas.snn.training import train_population
from scnas.space import SearchSpace
from scnas.trials.executor import Local
from scnas.trials.trainer import Trainer

CHIP = targets.target("ice40")
SPACE = SearchSpace(8, 3, max_layers=3, width_choices=(4, 8, 16), L_choices=(4, 8), timesteps_choices=(4, 8))
REFERENCE = Reference(("error", "luts"), 3, CHIP)
SIZE, TOTAL = 6, 40


def accuracy(a) -> float:
    return min(0.99, 0.4 + 0.01 * sum(a.layer_widths) + 0.02 * a.timesteps)


class Workers:
    """A feed whose workers end in an order of their own."""

    def __init__(self, slots: int, seed: int):
        self.slots, self.running, self.cancelled = slots, [], 0
        self.dice = np.random.default_rng(seed)
        self.evaluator = Evaluator(CHIP, capacity(CHIP), accuracy_fn=accuracy)
        self.most = 0
        self.fewest: list[int] = []

    def submit(self, a) -> None:
        self.running.append(a)
        self.most = max(self.most, len(self.running))

    def collect(self):
        self.fewest.append(len(self.running))
        (found,) = self.evaluator([self.running.pop(self.dice.integers(len(self.running)))])
        return found

    def cancel(self) -> None:
        self.cancelled += 1


def steady(workers: Workers, order=(), total=TOTAL, space=SPACE) -> list:
    return list(evolve_steady(space, workers, REFERENCE, SIZE, 1, total, order=order))


def names(generations) -> list[str]:
    return [e.architecture.name for e in generations[-1].archive]


@pytest.mark.parametrize("slots", [1, 3, 9])
def test_every_worker_is_always_at_work_and_no_candidate_is_lost_or_seen_twice(slots):
    workers = Workers(slots, 0)
    found = steady(workers)
    assert len(names(found)) == len(set(names(found))) == TOTAL
    assert [len(g.evaluated) for g in found] == [SIZE] * 6 + [4] and workers.running == []
    assert [e for g in found for e in g.evaluated] == found[-1].archive
    busy = min(slots, SIZE)  # no more can be on their way before the first has ended
    assert workers.fewest[0] == busy and workers.most == slots
    assert all(n == slots for n in workers.fewest[slots : TOTAL - slots])
    assert workers.cancelled == 1
    for g in found:
        assert g.front == [e for e in pareto_front(g.archive, REFERENCE.objectives)]
    assert all(a.hypervolume <= b.hypervolume for a, b in pairwise(found))
    assert found[-1].hypervolume > found[0].hypervolume


def test_one_worker_repeats_itself_and_more_do_not():
    assert names(steady(Workers(1, 0))) == names(steady(Workers(1, 1)))
    assert names(steady(Workers(3, 0))) != names(steady(Workers(3, 1)))


def test_of_equals_the_older_stays():
    """Where nothing tells candidates apart, those that ended first keep their places."""
    workers = Workers(3, 0)
    workers.evaluator = Evaluator(CHIP, {}, accuracy_fn=lambda a: 0.5)
    found = list(evolve_steady(SPACE, workers, Reference(("error",), 3, CHIP), SIZE, 1, TOTAL))
    assert all(g.population == found[0].evaluated for g in found) and len(found) == 7


@pytest.mark.parametrize("known", [0, 1, SIZE, 23, TOTAL])
def test_a_known_order_is_followed_as_far_as_it_goes(known):
    """What was on its way at the break is on its way again; what follows it is free."""
    before = steady(Workers(3, 0))
    order = [e.architecture for e in before[-1].archive][:known]
    after = steady(Workers(3, 1), order)
    assert names(after)[:known] == names(before)[:known]
    assert len(set(names(after))) == TOTAL
    if known == TOTAL:
        assert [g.hypervolume for g in after] == [g.hypervolume for g in before]
        assert [g.population for g in after] == [g.population for g in before]


def test_an_order_that_belongs_to_another_search_is_refused():
    before = steady(Workers(3, 0))
    order = [e.architecture for e in before[-1].archive]
    with pytest.raises(ValueError, match="the search does not repeat what is kept: it does not come to n8-T"):
        steady(Workers(2, 0), order)


def test_a_space_that_is_used_up_ends_the_search():
    one = {"neuron_choices": ("lif",), "delay_choices": (0,), "density_choices": (1.0,)}
    one |= {"generator_choices": ("sobol",), "mapping_choices": ("parallel",), "word_choices": (12,)}
    small = SearchSpace(8, 3, max_layers=1, L_choices=(4, 8), timesteps_choices=(4, 8), **one)
    found = steady(Workers(3, 0), space=small)
    assert len(found[-1].archive) == small.space_size == 4


def test_an_interrupt_leaves_nothing_on_its_way():
    class Interrupted(Workers):
        def collect(self):
            if len(self.fewest) == 10:
                raise KeyboardInterrupt
            return super().collect()

    workers = Interrupted(3, 0)
    with pytest.raises(KeyboardInterrupt):
        steady(workers)
    assert workers.cancelled == 1


def test_a_feed_trains_what_has_to_be_trained_and_nothing_twice():
    folded = arch(6, mappings=("folded", "folded"), lanes=(2, 2))
    budgets = capacity(CHIP, luts=1000)
    hopeless = arch(4096)
    with Local(TASK, 1, "cpu") as local:
        trainer = Trainer(TASK, local)
        evaluator = Evaluator(CHIP, budgets, train=lambda batch: trainer.train(batch, QUICK, [1])[0])
        feed = Feed(evaluator, trainer, QUICK, 1)
        started = []
        start = trainer.start
        trainer.start = lambda group, *rest: started.append(group) or start(group, *rest)
        for a in (arch(6), hopeless, folded, arch(4)):
            feed.submit(a)
        found = [feed.collect() for _ in range(4)]
        feed.submit(arch(6, mappings=("folded", "parallel"), lanes=(2, 0)))
        again = feed.collect()
    assert started == [(arch(6),), (arch(4),)]
    assert [e.architecture for e in found] == [hopeless, arch(6), folded, arch(4)]
    assert [e.trained for e in found] == [False, True, True, True]
    assert again.metrics["accuracy"] == found[1].metrics["accuracy"]
    assert [layer.mapping for layer in found[2].network.layers] == ["folded", "folded"]
    assert [layer.mapping for layer in again.network.layers] == ["folded", "parallel"]
    assert found[1].metrics["luts"] != found[2].metrics["luts"] != again.metrics["luts"]
    (alone,) = train_population([arch(6)], TASK, QUICK, seed=1)
    assert found[1].metrics["accuracy"] == figures([alone])[0].validation_accuracy


def test_a_feed_gives_units_to_what_is_trained_already():
    several = arch(6, mappings=("folded", "folded"), lanes=(2, 2), units=(3, 1))
    with Local(TASK, 1, "cpu") as local:
        trainer = Trainer(TASK, local)
        evaluator = Evaluator(CHIP, {}, train=lambda batch: trainer.train(batch, QUICK, [1])[0])
        feed = Feed(evaluator, trainer, QUICK, 1)
        feed.submit(arch(6))
        plain = feed.collect()
        feed.submit(several)
        found = feed.collect()
    assert found.architecture == several and [x.units for x in found.network.layers] == [3, 1]
    assert found.metrics["accuracy"] == plain.metrics["accuracy"]
    assert found.metrics["latency_clocks"] == price_module.estimate(several, CHIP).latency_clocks


@pytest.mark.parametrize("excess, hopeless", [(0.0, False), (0.25, False), (0.2500001, True)])
def test_a_feed_trains_what_misses_its_budgets_by_a_quarter_at_most(excess, hopeless, monkeypatch):
    monkeypatch.setattr(price_module, "violations", lambda price, budgets: excess)
    with Local(TASK, 1, "cpu") as local:
        trainer = Trainer(TASK, local)
        feed = Feed(Evaluator(CHIP, {}, train=lambda batch: []), trainer, QUICK, 1)
        feed.submit(arch(4))
        found = feed.collect()
    assert (found.trained, found.violation) == (not hopeless, excess)

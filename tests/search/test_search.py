"""scnas.search: what a search promises, over generations of accuracy_fn and of real training."""

import math
from collections import Counter
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
from oracle import infer

from scnas import metrics
from scnas.contract import NEURONS
from scnas.evaluation import Evaluation
from scnas.hardware import targets
from scnas.hardware.circuit.top import write_design
from scnas.hardware.cost import price as price_module
from scnas.randomness import rng
from scnas.search.evaluation import (
    FAILED,
    Evaluator,
    NothingFitsError,
    Reference,
    capacity,
    nothing_fits,
    pareto_front,
)
from scnas.search.evolve import evolve, likely_to_fit
from scnas.search.nas import nas
from scnas.snn.budget import Budget
from scnas.snn.module import IntegerNetwork
from scnas.snn.training import Trained, train_population
from scnas.space import Architecture, SearchSpace, describe
from scnas.tasks.digits import digits
from scnas.trials import trainer as trials

SPACE = SearchSpace(
    16, 4, 1, 3, [4, 8, 16], ["if", "lif", "izhikevich"], [4, 16], [0, 2], [0.5, 1.0], ["sobol", "lfsr"],
    ["parallel", "folded"], [4, 8], [4, 8], [12, 16],
)  # fmt: skip
TINY = SearchSpace(
    4, 2, 1, 2, [2, 4], ["if", "lif"], [4, 8], [0], [1.0], ["sobol"], ["parallel"], [4], [4], [12, 16]
)  # fmt: skip


def skill(a: Architecture) -> float:
    """An accuracy that grows with size and time, with a little luck that belongs to the architecture."""
    size = sum(a.kept_synapses) * math.log2(max(a.bitstream_lengths) * a.timesteps)
    return 0.98 * (1 - math.exp(-size / 900)) + 0.02 * rng(0, a.name).random()


def beats(p, q) -> bool:
    return all(x <= y for x, y in zip(p, q, strict=True)) and tuple(p) != tuple(q)


# --- what nas() promises --------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    "objectives, limits",
    [
        (("error", "luts", "energy_nj"), {}),
        (("error", "luts"), dict(max_luts=500)),
        (("error", "latency_us", "ffs", "brams"), dict(max_latency_us=20.0, max_brams=1)),
        (("error",), dict(max_ffs=200)),
        (("luts", "energy_nj"), {}),
    ],
)
def test_the_front_is_feasible_undominated_and_sorted(objectives, limits, seed):
    calls, generations = Counter(), []

    def counted(a: Architecture) -> float:
        calls[a] += 1
        return skill(a)

    found = nas(
        SPACE, population_size=12, generations=6, accuracy_fn=counted, seed=seed, objectives=objectives,
        on_generation=generations.append, **limits,
    )  # fmt: skip
    everything = {e.architecture: e for e in found.evaluations}
    front = [everything[a] for a in found.pareto_front]

    # Nothing is evaluated twice, and everything that was is there.
    assert set(calls.values()) == {1}
    assert found.total_evaluations == len(found.all_evaluated) == len(everything) == len(calls) <= 12 * 6
    assert set(found.all_evaluated) == set(calls) and all(a in SPACE for a in calls)
    assert found.generations == len(generations) == 6

    # Feasible: every limit is kept, by the cost model itself.
    budgets = {name.removeprefix("max_"): value for name, value in limits.items()}
    for e in found.evaluations:
        price = price_module.estimate(e.architecture, "ice40")
        assert e.metrics["luts"] == price.luts == e.architecture.fitness_luts
        assert e.metrics["energy_nj"] == price.energy_nj == e.architecture.fitness_energy_nj
        assert e.metrics["accuracy"] == skill(e.architecture) == e.architecture.fitness_accuracy
        over = any(getattr(price, name) > value for name, value in budgets.items())
        assert e.feasible != (over or price.luts > 7680)
    assert all(e.feasible for e in front) and front

    # Mutually non-dominated, and nothing feasible dominates a member or is missing.
    def point(e: Evaluation) -> list[float]:
        return [e.metrics[name] for name in objectives]

    feasible = [e for e in found.evaluations if e.feasible]
    best = {e.architecture for e in feasible if not any(beats(point(o), point(e)) for o in feasible)}
    assert best == set(found.pareto_front) and len(best) == len(found.pareto_front)
    accuracies = [a.fitness_accuracy for a in found.pareto_front]
    assert accuracies == sorted(accuracies, reverse=True)
    assert found.best_accuracy() is found.pareto_front[0]
    assert found.best_efficiency().fitness_energy_nj == min(a.fitness_energy_nj for a in found.pareto_front)

    # Every generation: new ones only, no twins, survivors from what is known, hypervolume never lower.
    known, volumes = set(), []
    for number, g in enumerate(generations):
        new, population = [e.architecture for e in g.evaluated], [e.architecture for e in g.population]
        assert g.number == number and len(population) == 12 == len(set(population))
        assert len(new) == len(set(new)) and not set(new) & known
        known |= set(new)
        assert (
            set(population) <= known
            and [e.architecture for e in g.archive] == found.all_evaluated[: len(known)]
        )
        volumes.append(g.hypervolume)
    assert all(after >= before - 1e-12 for before, after in zip(volumes, volumes[1:], strict=False))
    assert 0 <= volumes[0] <= volumes[-1] <= 1


def test_hypervolume_rises_and_beats_random_search():
    """The same number of evaluations, five seeds each."""
    chip, reference = (
        targets.target("ice40"),
        Reference(("error", "luts", "energy_nj"), 4, targets.target("ice40")),
    )
    evaluator = Evaluator(chip, capacity(chip), accuracy_fn=skill)
    ours, random = [], []
    for seed in range(5):
        generations = []
        nas(
            SPACE,
            population_size=16,
            generations=10,
            accuracy_fn=skill,
            seed=seed,
            on_generation=generations.append,
        )
        ours.append(generations[-1].hypervolume)
        assert ours[-1] > generations[0].hypervolume
        drawn = {SPACE.random_architecture(rng(seed, "random", i)) for i in range(170)}
        random.append(reference.hypervolume(evaluator(sorted(drawn, key=lambda a: a.name)[:160])))
    assert np.mean(ours) > np.mean(random) and sum(o > r for o, r in zip(ours, random, strict=True)) >= 4


def test_equal_seeds_give_equal_searches_and_others_do_not():
    def searched(seed):
        found = nas(SPACE, population_size=8, generations=4, accuracy_fn=skill, seed=seed)
        return found.all_evaluated, found.pareto_front

    assert searched(7) == searched(7)
    assert searched(7)[0] != searched(8)[0]


def test_a_longer_search_begins_like_a_shorter_one():
    short = nas(SPACE, population_size=8, generations=2, accuracy_fn=skill, seed=1).all_evaluated
    long = nas(SPACE, population_size=8, generations=4, accuracy_fn=skill, seed=1).all_evaluated
    assert long[: len(short)] == short and len(long) > len(short)


@pytest.mark.parametrize("size", [2, 7, 30, 1000])
def test_a_tiny_space_is_searched_to_its_end(size):
    found = nas(TINY, population_size=size, generations=500, accuracy_fn=skill)
    assert found.total_evaluations == TINY.space_size == len(set(found.all_evaluated))
    assert found.generations < 500


def test_a_space_of_one():
    one = SearchSpace(4, 2, 1, 1, [2], ["lif"], [4], [0], [1.0], ["sobol"], ["parallel"], [4], [4], [12])
    found = nas(one, population_size=5, generations=5, accuracy_fn=lambda a: 0.5)
    assert (found.total_evaluations, found.generations, len(found.pareto_front)) == (1, 1, 1)


def test_the_best_is_never_lost():
    best = []

    def watch(g):
        fits = [e for e in g.archive if e.feasible]
        best.append((min(e.metrics["error"] for e in g.population), min(e.metrics["error"] for e in fits)))

    nas(SPACE, population_size=6, generations=12, accuracy_fn=skill, on_generation=watch)
    assert len(set(best)) > 1 and all(of_population == of_all for of_population, of_all in best)


@pytest.mark.parametrize("objectives", [("error",), ("error", "brams")])
def test_of_equals_the_older_stays(objectives):
    """Where nothing tells candidates apart, the first generation keeps its places, in its order."""
    space, chip = replace(SPACE, mapping_choices=("parallel",)), targets.target("ecp5")  # no block RAM
    evaluator = Evaluator(chip, {}, accuracy_fn=lambda a: 0.5)
    generations = list(islice(evolve(space, evaluator, Reference(objectives, 4, chip), 7, 0), 4))
    assert len(generations[-1].archive) == 28
    for g in generations:
        assert g.population == generations[0].evaluated
        assert len(g.front) == len(g.archive)  # equals do not beat each other


def test_the_first_candidates_are_taken_once_and_not_drawn_again():
    everything = {TINY.random_architecture(rng(0, i)) for i in range(2000)}
    assert len(everything) == TINY.space_size
    first = sorted(everything, key=lambda a: a.name)[: len(everything) // 2]
    chip = targets.target("ecp5")
    evaluator, reference = Evaluator(chip, {}, accuracy_fn=skill), Reference(("error", "luts"), 2, chip)
    opening = next(evolve(TINY, evaluator, reference, TINY.space_size, 0, [*first, *first[:3]]))
    assert [e.architecture for e in opening.evaluated[: len(first)]] == first
    assert len({e.architecture for e in opening.evaluated}) == len(opening.evaluated)
    opening = next(evolve(TINY, evaluator, reference, TINY.space_size, 0, first))
    assert {e.architecture for e in opening.evaluated} == everything


def test_infeasible_ones_survive_only_while_nothing_fits():
    """At the start nothing fits; what fits later takes every place before anything that does not."""
    chip, objectives = targets.target("ice40"), ("error", "luts")
    evaluator = Evaluator(chip, capacity(chip, luts=400), accuracy_fn=skill)
    large = sorted(
        (SPACE.random_architecture(rng(0, i)) for i in range(200)),
        key=lambda a: -price_module.estimate(a, chip).luts,
    )
    generations = list(islice(
        evolve(SPACE, evaluator, Reference(objectives, 4, chip), 10, 0, list(dict.fromkeys(large))[:10]), 12
    ))  # fmt: skip
    assert generations[0].front == [] and generations[0].hypervolume == 0
    assert generations[-1].front and generations[-1].hypervolume > 0
    for g in generations:
        fits = [e.feasible for e in g.population]
        assert fits == sorted(fits, reverse=True) and all(e.feasible for e in g.front)
        assert sum(fits) == min(10, sum(e.feasible for e in g.archive)) or all(fits)
    violation = [min(e.violation for e in g.population) for g in generations]
    assert violation == sorted(violation, reverse=True) and violation[-1] == 0


def test_children_have_two_parents_and_some_are_mutated_as_well(monkeypatch):
    crossed, mutated = set(), set()

    def spied(act, seen: set):
        def spy(*arguments):
            seen.add(child := act(*arguments))
            return child

        return spy

    monkeypatch.setattr(SearchSpace, "crossover", spied(SearchSpace.crossover, crossed))
    monkeypatch.setattr(SearchSpace, "mutate", spied(SearchSpace.mutate, mutated))
    found = nas(SPACE, population_size=20, generations=6, accuracy_fn=skill)
    children = set(found.all_evaluated[20:])
    assert children <= crossed | mutated
    assert len(children & (crossed - mutated)) > 0.25 * len(children)
    assert len(children & mutated) > 0.25 * len(children)


# --- what cannot be searched ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "limit, name",
    [(dict(max_luts=1), "luts"), (dict(max_ffs=1), "ffs"), (dict(max_latency_us=0.01), "latency_us")],
)
def test_nothing_fits_in_one_line(limit, name):
    (value,) = limit.values()
    with pytest.raises(NothingFitsError) as refusal:
        nas(SPACE, population_size=6, generations=2, accuracy_fn=skill, **limit)
    text = str(refusal.value)
    assert text.startswith(
        f"no feasible architecture among 12 evaluated: {name} must be at most {value:g} and is "
    )
    assert "\n" not in text and isinstance(refusal.value, ValueError)
    nearest = min(
        price_module.estimate(a, "ice40")._asdict()[name]
        for a in [Architecture(16, (4,), ("lif",), (4,), (0,))]
    )
    assert nearest > value  # it is true


@pytest.mark.parametrize("share", [0.3, 0.03])
def test_a_latency_budget_below_a_microsecond_ranks_by_how_far_it_is_missed(share):
    """Ten times as fast on the way to the budget is seen, whatever the unit."""
    chip = replace(targets.target("ecp5"), clock_mhz=250.0)
    short = SearchSpace(
        16, 4, 1, 2, [4, 8], ["if", "lif"], [1, 2, 4], [0], [1.0], ["sobol"], ["parallel", "folded"],
        [16, 64], [1, 2], [12],
    )  # fmt: skip
    drawn = sorted({short.random_architecture(rng(1, i)) for i in range(60)}, key=lambda a: a.name)
    prices = [price_module.estimate(a, chip) for a in drawn]
    limit = share * max(price.latency_us for price in prices)
    assert limit < 1 and min(price.latency_us for price in prices) < 1
    found = Evaluator(chip, {"latency_us": limit}, accuracy_fn=skill)(drawn)
    for e, price in zip(found, prices, strict=True):
        assert e.violation == pytest.approx(max(0.0, price.latency_us / limit - 1))
        assert e.feasible == (price.latency_us <= limit)
    text = str(nothing_fits([e for e in found if not e.feasible], {"latency_us": limit}))
    nearest = min(e.metrics["latency_us"] for e in found if not e.feasible)
    assert f"latency_us must be at most {limit:g} and is {nearest:g} at the least violation" in text


def test_no_block_ram_is_a_budget():
    chip = targets.target("ice40")
    assert capacity(chip, brams=0)["brams"] == 0
    space = replace(SPACE, min_layers=2, width_choices=(16, 64), density_choices=(1.0,))
    found = nas(space, population_size=12, generations=3, accuracy_fn=skill, max_brams=0)
    assert any(e.metrics["brams"] > 0 for e in found.evaluations)
    for e in found.evaluations:
        assert e.feasible == (e.metrics["brams"] == 0 and e.metrics["luts"] <= chip.luts)


def test_nothing_fits_names_every_budget_that_is_broken():
    with pytest.raises(NothingFitsError, match=r"luts must be at most 1 and .*; ffs must be at most 2 and "):
        nas(SPACE, population_size=6, generations=1, accuracy_fn=skill, max_luts=1, max_ffs=2)


@pytest.mark.parametrize("value", [float("nan"), 2, -0.001, None, "good", [0.5], float("inf"), 1.0000001, 1j])
def test_an_accuracy_is_a_number_from_0_to_1(value):
    with pytest.raises(ValueError, match="^accuracy_fn must return a number from 0 to 1, got [^\n]+$"):
        nas(TINY, population_size=2, generations=1, accuracy_fn=lambda a: value)


@pytest.mark.parametrize("value", [0, 1, True, 0.5, np.float32(0.5), np.array(0.25)])
def test_anything_that_is_such_a_number_is_taken(value):
    found = nas(TINY, population_size=2, generations=1, accuracy_fn=lambda a: value)
    assert found.best_accuracy().fitness_accuracy == float(value)


def test_an_error_of_accuracy_fn_is_not_hidden():
    with pytest.raises(ZeroDivisionError):
        nas(TINY, population_size=2, generations=1, accuracy_fn=lambda a: 1 / 0)


@pytest.mark.parametrize(
    "change, message",
    [
        (dict(population_size=1), "population_size must be a whole number from 2 to 65536, got 1"),
        (dict(population_size=2.0), "population_size must be a whole number from 2 to 65536, got 2.0"),
        (dict(generations=0), "generations must be a whole number from 1 to 1000000, got 0"),
        (dict(target="ice41"), "ice40, "),
        (dict(target=None), "ice40, "),
        (dict(max_luts=0), "max_luts must be a whole number from 1 to 2147483648, got 0"),
        (dict(max_luts=1e3), "max_luts must be a whole number"),
        (dict(max_ffs=-1), "max_ffs must be a whole number from 1 to 2147483648, got -1"),
        (dict(max_brams="many"), "max_brams must be a whole number from 0 to 2147483648, got 'many'"),
        (dict(max_latency_us=float("nan")), "max_latency_us must be a number above 0, got nan"),
        (dict(max_latency_us=0), "max_latency_us must be a number above 0, got 0"),
        (dict(max_latency_us="soon"), "max_latency_us must be a number above 0, got 'soon'"),
        (dict(objectives=()), "objectives must be one or more different ones, got ()"),
        (dict(objectives=("error", "error")), "objectives must be one or more different ones, got "),
        (dict(objectives=("error", "power")), "objectives must be one of error, luts, ffs, "),
        (dict(objectives="error"), "objectives must be "),
    ],
)
def test_a_wrong_argument_says_which_and_what_is_allowed(change, message):
    with pytest.raises(ValueError) as refusal:
        nas(TINY, **dict(population_size=2, generations=1, accuracy_fn=skill) | change)
    assert message in str(refusal.value) and "\n" not in str(refusal.value)


def test_a_space_that_does_not_fit_the_task_is_refused():
    message = "the space must have the 64 inputs and 10 outputs of task digits, got 16 and 4"
    with pytest.raises(ValueError, match=f"^{message}$"):
        nas(SPACE, population_size=2, generations=1)


def test_steps_that_the_task_cannot_have_are_refused():
    space = SearchSpace(64, 10, 1, 1, timesteps_choices=(6,))
    with pytest.raises(ValueError, match="timesteps must be a power of two for the rate encoder, got 6"):
        nas(space, population_size=2, generations=1)


# --- the parts ------------------------------------------------------------------------------------


def evaluated(
    error=0.1, luts=100, energy=10.0, violation=0.0, trained=True, width=4, **metrics
) -> Evaluation:
    a = Architecture(16, (width, 4), ("lif",) * 2, (4, 4), (0, 0))
    numbers = {"error": error, "luts": luts, "ffs": 10, "brams": 0, "latency_us": 1.0, "energy_nj": energy}
    return Evaluation(a, numbers | metrics, violation, trained)


def test_the_reference_worked_by_hand():
    chip = targets.target("ice40")
    reference = Reference(metrics.objectives(), 4, chip)
    rows = np.array(
        [
            [0, 0, 0, 0, 0.1, 1],
            [0.75, chip.luts, chip.ffs, chip.brams, 1e5, 1e6],  # chance, a full chip, 100 ms, 1 mJ
            [0.375, chip.luts / 2, chip.ffs / 2, chip.brams / 2, 100, 1e3],  # half of that
            [0, 0, 0, 0, 0.001, 0.001],  # faster and thriftier than the scale goes
        ]
    )
    assert reference.normalise(rows)[0].tolist() == pytest.approx([0] * 6, abs=1e-12)
    assert reference.normalise(rows)[1].tolist() == pytest.approx([1] * 6)
    assert reference.normalise(rows)[2].tolist() == pytest.approx([0.5] * 6)
    assert reference.normalise(rows)[3].tolist() == pytest.approx([0] * 6, abs=1e-12)


def test_the_hypervolume_counts_what_is_feasible_and_trained():
    chip = targets.target("ice40")
    reference = Reference(("error", "luts"), 2, chip)
    good = evaluated(error=0.25, luts=chip.luts // 2)  # 0.5 of chance and half of the chip
    assert reference.hypervolume([]) == 0
    assert reference.hypervolume([good]) == pytest.approx(0.25)
    assert reference.hypervolume([good, evaluated(error=0, luts=0, violation=1)]) == pytest.approx(0.25)
    assert reference.hypervolume([good, evaluated(error=0, luts=0, trained=False)]) == pytest.approx(0.25)
    assert reference.hypervolume([good, evaluated(error=0.6, luts=0)]) == pytest.approx(
        0.25
    )  # worse than chance


def test_the_front_worked_by_hand():
    a, b, c, d, e = (
        evaluated(0.1, 300, width=4), evaluated(0.2, 100, width=8), evaluated(0.2, 300, width=12),
        evaluated(0.0, 10, violation=0.1, width=16), evaluated(0.1, 300, width=20),
    )  # fmt: skip
    front = pareto_front([b, c, d, e, a], ("error", "luts"))
    assert front == [e, a, b]  # twins in all objectives stay, sorted by name: 20 before 4
    assert pareto_front([d], ("error", "luts")) == []


def test_members_of_one_accuracy_are_sorted_by_area():
    large, small = evaluated(0.1, 300, energy=5.0, width=12), evaluated(0.1, 100, energy=9.0, width=4)
    assert large.architecture.name < small.architecture.name
    objectives = ("error", "energy_nj", "luts")
    assert pareto_front([large, small], objectives) == pareto_front([small, large], objectives) == [
        small, large,
    ]  # fmt: skip


def test_describe_says_units():
    a = Architecture(64, (32, 16, 10), ("lif",) * 3, (16,) * 3, (0,) * 3, mappings=("folded",) * 3,
                     lanes=(8, 4, 8), units=(4, 1, 1))  # fmt: skip
    assert describe(a) == "64-32-16-10 lif L16 folded x8u4,x4,x8 T8 W16"
    assert describe(replace(a, mappings=("folded", "parallel", "folded"), lanes=None)) == (
        "64-32-16-10 lif L16 folded x8u4,par,x8 T8 W16"
    )


def test_describe_says_what_differs():
    a = Architecture(64, (32, 10), ("lif", "if"), (16, 8), (0, 4), (0.25, 1), ("sobol", "lfsr"),
                     ("folded", "parallel"), (8, 0))  # fmt: skip
    text = describe(a)
    for part in (
        "64-32-10",
        "lif",
        "L16,8",
        "D0,4",
        "density 0.25,1",
        "sobol,lfsr",
        "folded x8,par",
        "T8",
        "W16",
    ):
        assert part in text
    assert describe(Architecture(64, (10,), ("lif",), (16,), (0,))) == "64-10 L16 T8 W16"


def test_the_summary_has_a_line_for_every_member():
    found = nas(SPACE, population_size=8, generations=2, accuracy_fn=skill)
    lines = found.summary().splitlines()
    assert (
        lines[0]
        == f"2 generations, {found.total_evaluations} evaluations, {len(found.pareto_front)} on the front"
    )
    assert len(lines) == 2 + len(found.pareto_front)
    for line, a in zip(lines[2:], found.pareto_front, strict=True):
        assert f"{a.fitness_accuracy:.2%}" in line and f"{a.fitness_luts:,}" in line and describe(a) in line


def test_capacity_is_that_of_the_chip_less_the_limits():
    chip = targets.target("ice40")
    assert capacity(chip) == {**chip.capacity, "latency_us": None}
    assert capacity(chip, luts=5, latency_us=2.5, ffs=None)["luts"] == 5
    assert capacity(chip, latency_us=2.5)["latency_us"] == 2.5


def test_the_first_generation_is_likely_to_fit():
    chip = targets.target("ice40_up5k")
    budgets = capacity(chip, luts=400)
    first = likely_to_fit(SPACE, 20, chip, budgets, seed=0)
    assert len(first) == len(set(first)) == 20
    assert all(price_module.violations(price_module.estimate(a, chip), budgets) == 0 for a in first)
    drawn = [SPACE.random_architecture(rng(0, i)) for i in range(50)]
    assert any(price_module.violations(price_module.estimate(a, chip), budgets) > 0 for a in drawn)


# --- evaluation -----------------------------------------------------------------------------------


class Trainer:
    """Counts what it is asked for; fails what it is told to."""

    def __init__(self, fail=()):
        self.asked, self.fail = [], set(fail)
        self.task = digits(train_limit=20)

    def __call__(self, batch: list[Architecture]) -> list[Trained]:
        self.asked.append(list(batch))
        results = train_population(batch, self.task, Budget(epochs=0), seed=0)
        nan = float("nan")
        return [
            Trained(r.architecture, None, nan, nan, nan, nan, (), "dead: for the test", 0.0)
            if r.architecture in self.fail
            else r
            for r in results
        ]


def for_digits(width=8, **genes) -> Architecture:
    return Architecture(64, (width, 10), ("lif", "lif"), (8, 8), (0, 0), timesteps=4, **genes)


def test_what_differs_in_mapping_is_trained_once_and_priced_apart():
    train, chip = Trainer(), targets.target("ecp5")
    evaluator = Evaluator(chip, capacity(chip), train=train)
    plain, folded = for_digits(), for_digits(mappings=("folded", "folded"), lanes=(8, 8))
    first = evaluator([plain, folded, for_digits(12)])
    again = evaluator([for_digits(mappings=("parallel", "folded"), lanes=(0, 4)), for_digits(16)])
    assert [sorted(a.layer_widths[0] for a in batch) for batch in train.asked] == [[8, 12], [16]]
    assert [e.architecture for e in first] == [plain, folded, for_digits(12)]
    assert first[0].metrics["accuracy"] == first[1].metrics["accuracy"] == again[0].metrics["accuracy"]
    assert len({e.metrics["luts"] for e in (first[0], first[1], again[0])}) == 3
    assert first[1].network.layers[0].mapping == "folded" and again[0].network.layers[1].lanes == 4
    for e in (*first, *again):
        price = price_module.measure(e.network, chip, None)
        assert (e.metrics["luts"], e.metrics["latency_clocks"]) == (price.luts, price.latency_clocks)
        assert (
            e.metrics["error"] == 1 - e.metrics["accuracy"] and e.metrics["synapses"] == e.network.n_synapses
        )
        assert e.architecture.fitness_accuracy == e.metrics["accuracy"] and e.trained and e.feasible


def test_units_are_priced_and_the_accuracy_is_shared():
    train, chip = Trainer(), targets.target("ecp5")
    several = [
        for_digits(mappings=("folded", "folded"), lanes=(8, 8), units=(units, 1)) for units in (1, 2, 4)
    ]
    found = Evaluator(chip, capacity(chip), train=train)([*several, for_digits()])
    assert len(train.asked) == 1 and train.asked[0] == [for_digits()]
    assert len({e.metrics["accuracy"] for e in found}) == 1
    for e, a, units in zip(found, several, (1, 2, 4), strict=False):
        assert e.architecture == a and [layer.units for layer in e.network.layers] == [units, 1]
        price = price_module.measure(e.network, chip)
        assert (e.metrics["luts"], e.metrics["latency_clocks"]) == (price.luts, price.latency_clocks)
    clocks, luts = zip(*((e.metrics["latency_clocks"], e.metrics["luts"]) for e in found[:3]), strict=True)
    assert clocks[0] > clocks[1] > clocks[2] and luts[0] < luts[1] < luts[2]
    at_work = [layer.weights.tolist() for layer in found[3].network.layers]
    assert all([layer.weights.tolist() for layer in e.network.layers] == at_work for e in found)


def test_energy_is_that_of_the_spikes_that_were_seen():
    train, chip = Trainer(), targets.target("ice40_up5k")
    (e,) = Evaluator(chip, {}, train=train)([for_digits()])
    (trained,) = Trainer()([for_digits()])
    seen, usual = (price_module.measure(e.network, chip, spikes) for spikes in (trained.activity, None))
    assert e.metrics["energy_nj"] == seen.energy_nj == e.architecture.fitness_energy_nj != usual.energy_nj


@pytest.mark.parametrize("excess, hopeless", [(0.0, False), (0.25, False), (0.2500001, True)])
def test_a_candidate_that_misses_by_a_quarter_is_still_trained(excess, hopeless, monkeypatch):
    monkeypatch.setattr(price_module, "violations", lambda price, budgets: excess)
    train = Trainer()
    (e,) = Evaluator(targets.target("ecp5"), {}, train=train)([for_digits()])
    assert (e.trained, len(train.asked)) == (not hopeless, int(not hopeless))
    assert e.violation == excess and not e.failed


def test_a_failed_training_is_behind_everything_that_was_trained():
    train, chip = Trainer(fail=[for_digits(12)]), targets.target("ecp5")
    good, bad = Evaluator(chip, capacity(chip), train=train)([for_digits(), for_digits(12)])
    assert bad.failed == "dead: for the test" and not bad.trained and bad.network is None
    assert bad.violation == FAILED > good.violation == 0 and bad.metrics["error"] == 1
    assert bad.architecture.fitness_accuracy is None
    assert pareto_front([good, bad], ("error", "luts")) == [good]
    text = str(nothing_fits([bad], capacity(chip)))
    assert text == "all 1 candidates failed to train; the first: dead: for the test"


def test_the_hopeless_are_not_trained():
    """Twice the budget by the estimate: ranked by how far it is off, and nobody's time is spent."""
    chip, a = targets.target("ecp5"), for_digits()
    luts = price_module.estimate(a, chip).luts
    train = Trainer()
    for share, asked in ((0.5, 0), (0.9, 1), (1.1, 1)):
        train.asked.clear()
        (e,) = Evaluator(chip, capacity(chip, luts=int(luts * share)), train=train)([a])
        assert len(train.asked) == asked and e.trained == (asked == 1)
        if not asked:
            assert e.violation == pytest.approx(1, rel=0.01) and e.metrics["error"] == 1 and not e.failed


def test_failures_do_not_stop_a_search():
    """A third of all candidates fails: they are in the archive, never on the front."""
    space = SearchSpace(
        64,
        10,
        1,
        2,
        [4, 8],
        ["lif", "if"],
        [4, 8],
        [0],
        [0.5, 1.0],
        ["sobol"],
        ["parallel"],
        [4],
        [4],
        [12, 16],
    )
    train, chip = Trainer(), targets.target("ecp5")

    def sometimes(batch):
        train.fail = {a for a in batch if rng(0, a.name).random() < 0.33}
        return train(batch)

    reference = Reference(("error", "luts"), 10, chip)
    generations = list(
        islice(evolve(space, Evaluator(chip, capacity(chip), train=sometimes), reference, 6, 0), 4)
    )
    failed = [e for e in generations[-1].archive if e.failed]
    assert 2 <= len(failed) < len(generations[-1].archive)
    assert all(e.trained for g in generations for e in g.front)
    assert all(e.trained for e in generations[-1].population)


# --- real training --------------------------------------------------------------------------------


REAL = SearchSpace(
    64, 10, 1, 2, [8, 12], NEURONS, [4, 8], [0, 1], [0.5, 1.0], ["sobol", "lfsr"],
    ["parallel", "folded"], [8], [4], [12],
)  # fmt: skip


def test_a_search_on_the_digits_end_to_end():
    """Two generations of three epochs: accuracies are better than chance, and those of the networks."""
    task = digits(train_limit=300)
    found = nas(REAL, "ecp5", 6, 2, task=task, budget=Budget(epochs=3), seed=1, device="cpu")
    assert 8 <= found.total_evaluations <= 12 and found.generations == 2
    assert found.best_accuracy().fitness_accuracy > 0.5
    for e in found.evaluations:
        if e.trained:
            x, y = task.validation
            right = IntegerNetwork(e.network).predict(x).numpy() == y
            assert e.metrics["accuracy"] == right.mean() == e.architecture.fitness_accuracy
            assert price_module.measure(e.network, "ecp5").luts == e.architecture.fitness_luts
    assert task.test_opened == 0  # not by the search
    for a in found.pareto_front:
        assert next(e for e in found.evaluations if e.architecture == a).feasible


def test_a_search_with_units_ends_with_networks_that_have_them():
    """Trained, priced and counted in clocks as what they are; a winner is what the oracle computes."""
    task = digits(train_limit=60)
    space = SearchSpace(
        64, 10, 2, 2, [8, 12], ["lif", "stochastic_lif"], [4], [0, 1], [1.0], ["sobol", "lfsr"],
        ["folded", "parallel"], [16, 70], [4], [12], units_choices=[1, 2, 4],
    )  # fmt: skip
    found = nas(
        space, "ecp5", 8, 3, task=task, budget=Budget(epochs=1), seed=3, device="cpu",
        objectives=("error", "luts", "latency_us"),
    )  # fmt: skip
    trained = [e for e in found.evaluations if e.trained]
    assert {e.architecture.units[0] for e in trained} == {1, 2, 4}
    late = {e.architecture for e in trained[8:]}
    assert any(a.units[0] > 1 for a in late)  # children have them, too
    for e in trained:
        a = e.architecture
        assert a in space
        assert [(x.mapping, x.lanes, x.units) for x in e.network.layers] == list(
            zip(a.mappings, a.lanes, a.units, strict=True)
        )
        assert e.metrics["latency_clocks"] == write_design(e.network).latency_clocks
    several = [e for e in trained if e.architecture.units[0] > 1]
    winner = min(several, key=lambda e: e.metrics["error"])
    x = task.validation.x[:10]
    told = [infer(winner.network.to_dict(), sample.tolist()).scores for sample in x]
    assert IntegerNetwork(winner.network)(x).tolist() == told


def test_the_default_task_is_digits(monkeypatch):
    seen, small = [], digits(train_limit=20)

    def train(self, batch, budget, seeds):
        seen.append((self.task, budget, seeds))
        return [train_population(batch, small, Budget(epochs=0))]

    monkeypatch.setattr("scnas.tasks.digits.digits", lambda: small)
    monkeypatch.setattr(trials.Trainer, "train", train)
    nas(REAL, "ecp5", 3, 1, seed=9)
    assert seen == [(small, Budget(), [9])]


@pytest.mark.parametrize("workers", [2])
def test_the_result_does_not_depend_on_the_number_of_workers(workers):
    task = digits(train_limit=60)

    def searched(n):
        found = nas(REAL, "ecp5", 6, 2, task=task, budget=Budget(epochs=1), seed=2, workers=n, device="cpu")
        return [
            (e.architecture, e.metrics, e.failed, e.network) for e in found.evaluations
        ], found.pareto_front

    assert searched(workers) == searched(1)

"""scnas.search.nsga2 by hand, by definition, by law, against pymoo, and by sabotage."""

import inspect
import time
from itertools import product
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from scnas.search import nsga2

INF = np.inf

# One of each situation, the answer on paper.
SCORES = np.array(
    [
        [1, 4],  # 0
        [3, 2],  # 1: trades with 0
        [1, 5],  # 2: 0 ties it on one score and beats it on the other
        [4, 6],  # 3: 0, 1 and 2 beat it
        [1, 4],  # 4: equal to 0, so neither beats the other
        [0, 0],  # 5: would beat all, but violates
        [9, 9],  # 6: beaten by 5 on both scores, but violates less
        [8, 0],  # 7: as infeasible as 5
        [0, 0],  # 8: equal to 5 in every way
    ]
)
VIOLATIONS = np.array([0, 0, 0, 0, 0, 0.5, 0.25, 0.5, 0.5])


# --- by hand ---------------------------------------------------------------------------------------------


def test_ranks_worked_by_hand():
    assert nsga2.ranks(SCORES, VIOLATIONS).tolist() == [0, 0, 1, 2, 0, 4, 3, 4, 4]


def test_ranks_start_at_zero_when_nothing_is_feasible():
    assert nsga2.ranks(SCORES[:4], np.array([3, 1, 2, 1])).tolist() == [2, 0, 1, 0]


def test_crowding_worked_by_hand():
    scores = np.array([[3, 2], [0, 8], [4, 0], [1, 4]])
    # Row 3: (3 - 0) / 4 + (8 - 2) / 8. Row 0: (4 - 1) / 4 + (4 - 0) / 8.
    assert nsga2.crowding(scores).tolist() == [1.25, INF, INF, 1.5]


def test_crowding_of_twins_worked_by_hand():
    # The twins share the gap: row 1 (2 - 0) / 4 + (2 - 0) / 4, row 2 (4 - 2) / 4 + (4 - 2) / 4.
    assert nsga2.crowding(np.array([[0, 4], [2, 2], [2, 2], [4, 0]])).tolist() == [INF, 1, 1, INF]
    # Of four equal rows at an end, the first is boundary in one objective and the last in the other.
    corner = np.array([[0, 4], [0, 4], [0, 4], [0, 4], [4, 0]])
    assert nsga2.crowding(corner).tolist() == [INF, 0, 0, INF, INF]


def test_an_objective_without_span_adds_nothing():
    scores = np.array([[7, 3, 2], [7, 0, 8], [7, 4, 0], [7, 1, 4]])
    assert nsga2.crowding(scores).tolist() == [1.25, INF, INF, 1.5]
    assert nsga2.crowding(np.ones((3, 2))).tolist() == [0, 0, 0]


def test_crowding_measures_each_front_by_itself():
    front = np.array([[3, 2], [0, 8], [4, 0], [1, 4]])
    scores = np.empty((9, 2))
    scores[0::2][:4], scores[1::2], scores[8] = front, front + [10, 300], [99, 999]
    rank = [2, 5, 2, 5, 2, 5, 2, 5, 7]  # any numbers will do
    assert nsga2.crowding(scores, rank).tolist() == [1.25, 1.25, INF, INF, INF, INF, 1.5, 1.5, INF]


def test_crowding_of_the_greatest_floats_is_still_a_number():
    big = 1.7e308  # big - -big is no float
    assert nsga2.crowding(np.array([[-big, big], [0, 0], [big, -big]])).tolist() == [INF, 2, INF]


def test_order_worked_by_hand():
    # 0, 1 and 4 are front 0, sorted 0 4 1 by the first score and 1 0 4 by the second: 0 and 1 are boundary by
    # the first, 1 and 4 by the second, so index decides. The last front is 5, 7, 8: by the first score 5 8 7,
    # which leaves 8 inside; the second is 0 in all three and adds nothing.
    assert nsga2.order(SCORES, VIOLATIONS).tolist() == [0, 1, 4, 2, 3, 6, 5, 7, 8]


def test_the_lonelier_row_comes_first_and_survives():
    scores = np.array([[3, 2], [0, 8], [4, 0], [1, 4], [9, 9]])  # crowding 1.25, inf, inf, 1.5; dominated
    assert nsga2.order(scores, np.zeros(5)).tolist() == [1, 2, 3, 0, 4]
    assert nsga2.survive(scores, np.zeros(5), 3).tolist() == [1, 2, 3]
    assert nsga2.survive(scores, np.array([0, 0, 0, 1, 0]), 4).tolist() == [1, 2, 0, 4]


def test_pareto_front_worked_by_hand():
    assert nsga2.pareto_front(SCORES, VIOLATIONS).tolist() == [0, 1, 4]
    assert nsga2.pareto_front(SCORES[5:], VIOLATIONS[5:]).tolist() == []


def test_hypervolume_worked_by_hand():
    # Two boxes, 4 x 1 and 2 x 3, that share 2 x 1. [5, 0] is outside, [2, 4] and [4, 3] are on the edge.
    scores = np.array([[0, 3], [2, 1], [5, 0], [2, 4], [4, 3]])
    assert nsga2.hypervolume(scores, [4, 4]) == 4 * 1 + 2 * 3 - 2 * 1
    assert nsga2.hypervolume(scores[2:], [4, 4]) == 0.0
    assert nsga2.hypervolume(np.array([[3.0], [1.0]]), [4]) == 3.0
    assert nsga2.hypervolume(np.empty((0, 3)), [1, 1, 1]) == 0.0


def test_a_point_far_outside_does_not_hide_what_is_inside():
    # It dominates the point inside in one objective and breaks the reference in the other.
    assert nsga2.hypervolume(np.array([[-9.0, 5.0], [1.0, 1.0]]), [4, 4]) == 9.0


# --- small populations ------------------------------------------------------------------------------------


@pytest.mark.parametrize("objectives", [1, 2, 3, 4, 6])
def test_no_rows(objectives):
    scores, violations = np.empty((0, objectives)), np.empty(0)
    for indices in (
        nsga2.ranks(scores, violations),
        nsga2.order(scores, violations),
        nsga2.survive(scores, violations, 0),
        nsga2.pareto_front(scores, violations),
        nsga2.tournament([], [], np.random.default_rng(0), 0),
    ):
        assert indices.shape == (0,) and np.issubdtype(indices.dtype, np.integer)
    assert nsga2.crowding(scores).shape == (0,)


@pytest.mark.parametrize("objectives", [1, 2, 3, 4, 6])
def test_one_and_two_rows(objectives):
    one, two = np.ones((1, objectives)), np.array([[2.0] * objectives, [1.0] * objectives])
    assert nsga2.ranks(one, [0]).tolist() == nsga2.ranks(one, [7]).tolist() == [0]
    assert nsga2.crowding(one).tolist() == [INF]
    assert nsga2.crowding(np.ones((2, objectives))).tolist() == [INF, INF]
    assert nsga2.ranks(two, [0, 0]).tolist() == [1, 0]
    assert nsga2.survive(two, [0, 0], 1).tolist() == [1]
    assert nsga2.survive(two, [0, 1], 1).tolist() == [0]
    assert nsga2.survive(two, [2, 1], 1).tolist() == [1]
    assert nsga2.tournament([0], [INF], np.random.default_rng(0), 3).tolist() == [0, 0, 0]


@pytest.mark.parametrize("objectives", [1, 2, 3, 4, 6])
def test_equal_rows_share_a_front_and_keep_their_order(objectives):
    scores = np.ones((5, objectives))
    for violation in (0, 1):
        assert nsga2.ranks(scores, np.full(5, violation)).tolist() == [0] * 5
        assert nsga2.order(scores, np.full(5, violation)).tolist() == [0, 1, 2, 3, 4]
    assert nsga2.pareto_front(scores, np.zeros(5)).tolist() == [0, 1, 2, 3, 4]


def test_one_objective_is_sorting():
    scores = np.array([[5.0], [2.0], [5.0], [-1.0], [2.0]])
    assert nsga2.ranks(scores, np.zeros(5)).tolist() == [2, 1, 2, 0, 1]
    assert nsga2.order(scores, np.zeros(5)).tolist() == [3, 1, 4, 0, 2]
    assert nsga2.pareto_front(scores, np.zeros(5)).tolist() == [3]


# --- by definition: slow, and easy to believe -------------------------------------------------------------


def beats(p, q) -> bool:
    """Deb, definition 1, word for word. p and q are (scores, violation)."""
    (p, p_violation), (q, q_violation) = p, q
    if p_violation == 0 and q_violation > 0:
        return True
    if p_violation > 0 and q_violation > 0:
        return p_violation < q_violation
    return p_violation == q_violation == 0 and all(p <= q) and any(p < q)


def ranks_by_definition(scores, violations) -> list[int]:
    """Peel off whoever nobody left beats."""
    rows = list(zip(scores, violations, strict=True))
    front, left, level = {}, set(range(len(rows))), 0
    while left:
        best = {i for i in left if not any(beats(rows[j], rows[i]) for j in left)}
        front |= dict.fromkeys(best, level)
        left, level = left - best, level + 1
    return [front[i] for i in range(len(rows))]


def crowding_by_definition(scores) -> list[float]:
    """The pseudo code of section III-B, with the two exceptions that nsga2 documents."""
    size = len(scores)
    distance = [0.0] * size
    for m in range(scores.shape[1]):
        by = sorted(range(size), key=lambda i: (scores[i, m], i))
        span = scores[by[-1], m] - scores[by[0], m]
        if span > 0:
            distance[by[0]] = distance[by[-1]] = INF
            for k in range(1, size - 1):
                distance[by[k]] += (scores[by[k + 1], m] - scores[by[k - 1], m]) / span
    return distance if size > 2 else [INF] * size


def survivors_by_definition(scores, violations, size) -> list[int]:
    """Section III-C: add whole fronts while they fit, then sort the next one by crowding."""
    rank, kept = ranks_by_definition(scores, violations), []
    for level in sorted(set(rank)):
        front = [i for i in range(len(scores)) if rank[i] == level]
        distance = dict(zip(front, crowding_by_definition(scores[front]), strict=True))
        front.sort(key=lambda i: (-distance[i], i))
        kept += front[: size - len(kept)]
    return kept


def wins_by_definition(rank, distance) -> np.ndarray:
    """Share of all tournaments that each row wins: every pair is as likely, and a tie is half a win."""
    size = len(rank)
    keys = [(r, -d) for r, d in zip(rank, distance, strict=True)]
    wins = [sum((p < q) + (p == q) / 2 for j, q in enumerate(keys) if j != i) for i, p in enumerate(keys)]
    return np.array(wins) / (size * (size - 1) / 2)


def volume_by_definition(scores, reference) -> int:
    """Count the unit cubes that some row dominates. Integers only."""
    low = scores.min(axis=0)
    cubes = product(*(range(a, b) for a, b in zip(low, reference, strict=True)))
    return sum(any(all(row <= cube) for row in scores) for cube in cubes)


def population(seed: int, rows: int = 14) -> tuple[np.ndarray, np.ndarray]:
    """1 to 4 objectives; a small range makes ties common, and ties are where ranking code breaks."""
    dice = np.random.default_rng(seed)
    scores = dice.integers(0, [3, 5, 1000][seed % 3], size=(rows, 1 + seed // 3 % 4))
    violations = dice.integers(1, 4, size=rows) / 8 * (dice.random(rows) < [0, 0.4, 1][seed % 7 % 3])
    return scores, violations


SEEDS = range(42)


def test_the_random_populations_hold_what_they_are_for():
    everything = [population(seed) for seed in SEEDS]
    feasible = [(violations == 0).mean() for _, violations in everything]
    assert sum(f == 1 for f in feasible) >= 10 and sum(f == 0 for f in feasible) >= 10
    assert sum(0 < f < 1 for f in feasible) >= 10
    assert sum(len(np.unique(scores, axis=0)) < len(scores) for scores, _ in everything) >= 10
    assert sum(len(np.unique(scores, axis=0)) == len(scores) for scores, _ in everything) >= 10


def agree_with_the_definitions(module: ModuleType) -> None:
    """All of nsga2; what draws no numbers exactly, since all sums have the same terms in the same order."""
    for seed in SEEDS:
        scores, violations = population(seed)
        rank = ranks_by_definition(scores, violations)
        assert module.ranks(scores, violations).tolist() == rank
        assert module.crowding(scores).tolist() == crowding_by_definition(scores)
        distance = np.empty(len(scores))
        for level in set(rank):
            front = np.flatnonzero(np.equal(rank, level))
            distance[front] = crowding_by_definition(scores[front])
        assert module.crowding(scores, rank).tolist() == distance.tolist()
        for size in range(len(scores) + 1):
            expected = survivors_by_definition(scores, violations, size)
            assert module.survive(scores, violations, size).tolist() == expected
        assert module.order(scores, violations).tolist() == expected
        front = [i for i in range(len(scores)) if rank[i] == 0 and violations[i] == 0]
        assert module.pareto_front(scores, violations).tolist() == front
        small = scores % 7
        reference = np.array([4, 6, 5, 3])[: small.shape[1]]
        assert module.hypervolume(small, reference) == volume_by_definition(small, reference)
        n = 10_000
        winners = module.tournament(rank, distance, np.random.default_rng(seed), n)
        share, expected = np.bincount(winners, minlength=len(rank)) / n, wins_by_definition(rank, distance)
        assert (np.abs(share - expected) <= 5 * np.sqrt(expected * (1 - expected) / n)).all()  # 5 deviations


def test_everything_matches_the_definitions():
    agree_with_the_definitions(nsga2)


@pytest.mark.parametrize("rows", [40, 300])
def test_ties_of_many_rows_are_broken_by_index(rows):
    """Enough rows for a sort that is not stable to show it: three values an objective, three violations."""
    for seed in range(6):
        dice = np.random.default_rng([rows, seed])
        scores = dice.integers(0, 3, (rows, 1 + seed % 3))
        violations = dice.integers(1, 4, rows) * (dice.random(rows) < 0.5)
        for size in (1, rows // 3, rows):
            expected = survivors_by_definition(scores, violations, size)
            assert nsga2.survive(scores, violations, size).tolist() == expected
    same = np.ones((rows, 2))
    assert nsga2.order(same, np.zeros(rows)).tolist() == list(range(rows))


# --- tournament -------------------------------------------------------------------------------------------


def test_lower_rank_then_greater_crowding_wins():
    rng = np.random.default_rng
    assert set(nsga2.tournament([1, 0], [INF, 0], rng(0), 50)) == {1}
    assert set(nsga2.tournament([3, 3], [0.5, 0.25], rng(0), 50)) == {0}
    assert set(nsga2.tournament([3, 3], [0.5, INF], rng(0), 50)) == {1}


@pytest.mark.parametrize(
    "rank, crowding, wins",
    [
        # 6 pairs of 4 rows, all as likely; a row wins against every worse one.
        ([0, 0, 1, 2], [INF, 1, 5, 9], [3, 2, 1, 0]),
        # The two infinite ones meet in one pair of six and toss a coin; so do the two zeros.
        ([0, 0, 0, 0], [0, INF, 0, INF], [0.5, 2.5, 0.5, 2.5]),
        ([7, 7, 7, 7], [1, 1, 1, 1], [1.5, 1.5, 1.5, 1.5]),
    ],
)
def test_each_row_wins_as_often_as_it_should(rank, crowding, wins):
    n = 60_000
    share = np.bincount(nsga2.tournament(rank, crowding, np.random.default_rng(1), n), minlength=4) / n
    expected = np.array(wins) / 6
    assert np.abs(share - expected).max() < 0.0102  # five standard deviations: 5 * 0.5 / sqrt(n)
    assert (share[expected == 0] == 0).all()
    assert (wins_by_definition(rank, crowding) == expected).all()


def test_the_generator_alone_decides_and_moves_on_equally():
    a, b = np.random.default_rng(5), np.random.default_rng(5)
    first = nsga2.tournament([0, 1, 2], [1, 1, 1], a, 9)
    nsga2.tournament([0, 0, 0], [1, 1, 1], b, 9)
    assert a.integers(2**40) == b.integers(2**40)  # ties drew no more than clear wins
    assert (nsga2.tournament([0, 1, 2], [1, 1, 1], np.random.default_rng(5), 9) == first).all()


# --- by law -----------------------------------------------------------------------------------------------


@st.composite
def populations(draw, max_rows=12, values=None):
    """Few different values make ties; the others are any finite floats, -0.0 and the extremes among them."""
    rows, objectives = draw(st.integers(1, max_rows)), draw(st.integers(1, 4))
    if values is None:
        any_float = st.floats(allow_nan=False, allow_infinity=False)
        values = draw(st.sampled_from([st.integers(0, 3).map(float), any_float]))
    scores = draw(arrays(float, (rows, objectives), elements=values))
    violations = draw(arrays(float, rows, elements=st.sampled_from([0.0, -0.0, 5e-324, 0.5, 2.0])))
    return scores, violations


@given(populations(), st.randoms(use_true_random=False))
def test_ranks_and_front_do_not_depend_on_the_order_of_rows(people, random):
    scores, violations = people
    shuffle = np.array(random.sample(range(len(scores)), len(scores)))
    rank = nsga2.ranks(scores, violations)
    assert (nsga2.ranks(scores[shuffle], violations[shuffle]) == rank[shuffle]).all()
    front = nsga2.pareto_front(scores[shuffle], violations[shuffle])
    assert sorted(shuffle[front]) == nsga2.pareto_front(scores, violations).tolist()


@given(st.integers(0, 2**32 - 1))
def test_without_ties_crowding_and_order_do_not_depend_on_the_order_of_rows(seed):
    dice = np.random.default_rng(seed)
    scores, violations = dice.random((15, 3)), np.maximum(dice.random(15) - 0.5, 0)
    shuffle = dice.permutation(15)
    rank = nsga2.ranks(scores, violations)
    distance = nsga2.crowding(scores, rank)
    assert (nsga2.crowding(scores[shuffle], rank[shuffle]) == distance[shuffle]).all()
    before = nsga2.order(scores, violations)
    after = shuffle[nsga2.order(scores[shuffle], violations[shuffle])]
    # Boundary rows tie at infinity and go by index, so rows may change places with their equals only.
    assert (rank[before] == rank[after]).all() and (distance[before] == distance[after]).all()


@given(populations())
def test_ranks_follow_constrained_domination(people):
    scores, violations = people
    rank = nsga2.ranks(scores, violations)
    assert set(rank) == set(range(rank.max() + 1))
    rows = list(zip(scores, violations, strict=True))
    for i, p in enumerate(rows):
        for j, q in enumerate(rows):
            if beats(p, q):
                assert rank[i] < rank[j]
        if rank[i] > 0:
            assert any(rank[j] == rank[i] - 1 and beats(q, p) for j, q in enumerate(rows))


@given(populations(), st.integers(0, 100))
def test_survivors_are_never_worse_than_those_who_go(people, size):
    scores, violations = people
    size = min(size, len(scores))
    rank = nsga2.ranks(scores, violations)
    distance = nsga2.crowding(scores, rank)
    keep = nsga2.survive(scores, violations, size)
    gone = np.setdiff1d(np.arange(len(scores)), keep)
    assert len(set(keep)) == size and len(gone) == len(scores) - size
    for k, g in product(keep, gone):
        assert (rank[k], -distance[k]) <= (rank[g], -distance[g])
    assert (nsga2.survive(scores, violations, len(scores))[:size] == keep).all()


@given(populations())
def test_crowding_is_between_zero_and_the_number_of_objectives_or_infinite(people):
    distance = nsga2.crowding(people[0])
    assert not np.isnan(distance).any()
    inside = distance[np.isfinite(distance)]
    assert (inside >= 0).all() and (inside <= people[0].shape[1] + 1e-9).all()  # rounding of M quotients


@given(populations(values=st.integers(-9, 9).map(float)), st.sampled_from([2.0**-20, 0.5, 8.0, 2.0**30]))
def test_crowding_does_not_depend_on_units(people, unit):
    scores, _ = people
    units = unit ** np.arange(scores.shape[1])  # powers of two: no rounding, so equal means equal
    assert (nsga2.crowding(scores * units) == nsga2.crowding(scores)).all()


@given(populations())
def test_of_equal_rows_only_the_first_and_the_last_have_a_distance(people):
    scores = np.repeat(people[0], 3, axis=0)
    assert (nsga2.crowding(scores)[1::3] == 0).all()


@given(populations(values=st.integers(-3, 3).map(float)), st.data())
def test_a_dominated_row_changes_no_front_before_its_own(people, data):
    scores, violations = people
    i = data.draw(st.integers(0, len(scores) - 1))
    worse = scores[i] + data.draw(
        arrays(float, scores.shape[1], elements=st.integers(0, 2).map(float)).filter(np.any)
    )
    more_scores, more_violations = np.vstack([scores, worse]), np.append(violations, violations[i])
    if violations[i] > 0:
        more_violations[-1] += 1.0
    before, after = nsga2.ranks(scores, violations), nsga2.ranks(more_scores, more_violations)
    assert after[-1] > before[i]
    assert ((before == 0) == (after[:-1] == 0)).all()
    earlier = before < after[-1]
    assert (after[:-1][earlier] == before[earlier]).all()
    front = nsga2.pareto_front(scores, violations)
    assert nsga2.pareto_front(more_scores, more_violations).tolist() == front.tolist()


@given(populations())
def test_infeasible_rows_never_share_a_front_with_feasible_ones(people):
    scores, violations = people
    rank, feasible = nsga2.ranks(scores, violations), violations == 0
    if feasible.any() and not feasible.all():
        assert rank[feasible].max() < rank[~feasible].min()
    assert feasible[nsga2.pareto_front(scores, violations)].all()
    assert len(nsga2.pareto_front(scores, violations)) == (feasible & (rank == 0)).sum()


@given(populations(values=st.integers(0, 9).map(float)), st.data())
def test_hypervolume_grows_with_rows_and_with_the_reference(people, data):
    scores, _ = people
    reference = np.array(
        data.draw(st.lists(st.integers(1, 9), min_size=scores.shape[1], max_size=scores.shape[1]))
    )
    whole = nsga2.hypervolume(scores, reference)
    assert nsga2.hypervolume(scores[:-1], reference) <= whole <= nsga2.hypervolume(scores, reference + 1)
    feasible = np.zeros(len(scores))
    assert nsga2.hypervolume(scores[nsga2.pareto_front(scores, feasible)], reference) == whole
    better = np.vstack([scores, reference - 1])  # one more unit cube, unless it was covered already
    covered = (scores < reference).all(axis=1).any() and any(all(row <= reference - 1) for row in scores)
    assert nsga2.hypervolume(better, reference) == (whole if covered else whole + 1)


# --- against pymoo ----------------------------------------------------------------------------------------


@pytest.fixture
def pymoo():
    # Before 0.6.2 its fronts are not in order of index, so that ties within a front are cut differently.
    reason = "pymoo 0.6.2 or newer, the reference NSGA-II, is not installed (extra: dev)"
    return pytest.importorskip("pymoo", minversion="0.6.2", reason=reason)


@pytest.mark.parametrize("seed", SEEDS)
def test_ranks_agree_with_pymoo(seed, pymoo):
    from pymoo.util.dominator import Dominator
    from pymoo.util.nds.non_dominated_sorting import NonDominatedSorting

    scores, _ = population(seed, rows=60)
    rank = nsga2.ranks(scores, np.zeros(len(scores)))
    # pymoo's default sorting is moocore, as ours; given a dominator it sorts by its own code.
    for sorting in (NonDominatedSorting(), NonDominatedSorting(dominator=Dominator())):
        _, theirs = sorting.do(scores, return_rank=True)
        assert rank.tolist() == theirs.tolist()


@pytest.mark.parametrize("seed", SEEDS)
def test_crowding_agrees_with_pymoo(seed, pymoo):
    from pymoo.operators.survival.rank_and_crowding.metrics import get_crowding_function

    for rows in (1, 2, 3, 60):
        scores, _ = population(seed, rows)
        theirs = get_crowding_function("cd").do(scores) * scores.shape[1]  # a mean there, a sum here
        # They divide the gap to either neighbour, we the gap between the two: a few roundings apart.
        np.testing.assert_allclose(nsga2.crowding(scores), theirs, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("seed", SEEDS)
def test_survival_agrees_with_pymoo(seed, pymoo):
    """Same survivors where the rules decide, equally good ones where pymoo throws dice or sorts unstably."""
    from pymoo.core.population import Population
    from pymoo.core.problem import Problem
    from pymoo.operators.survival.rank_and_crowding import RankAndCrowding

    scores, violations = population(seed, rows=40)
    # One constraint G <= 0: pymoo sums max(G, 0) over the constraints and divides by nothing unless told to.
    people = Population.new(F=scores.astype(float), G=np.where(violations > 0, violations, -1.0)[:, None])
    problem = Problem(n_var=1, n_obj=scores.shape[1], n_ieq_constr=1)
    rank = nsga2.ranks(scores, violations)
    distance = nsga2.crowding(scores, rank)
    feasible = violations == 0
    for size in (1, 2, 7, 20, 33, 40):
        dice = np.random.default_rng(seed)
        theirs = np.array(
            RankAndCrowding().do(problem, people, n_survive=size, random_state=dice, return_indices=True)
        )
        ours = nsga2.survive(scores, violations, size)
        assert sorted(rank[ours]) == sorted(rank[theirs])
        splitting = rank[ours].max()
        whole = {i for i in range(len(scores)) if rank[i] < splitting}
        assert whole <= set(ours) and whole <= set(theirs)
        np.testing.assert_allclose(  # rtol: see test_crowding_agrees_with_pymoo
            np.sort(distance[ours[feasible[ours]]]), np.sort(distance[theirs[feasible[theirs]]]), rtol=1e-9
        )
        assert sorted(violations[ours]) == sorted(violations[theirs])
        for i in theirs[feasible[theirs]]:
            assert people[i].get("rank") == rank[i]


@pytest.mark.parametrize("seed", range(20))
def test_survivors_are_pymoos_when_nothing_ties(seed, pymoo):
    from pymoo.core.population import Population
    from pymoo.core.problem import Problem
    from pymoo.operators.survival.rank_and_crowding import RankAndCrowding

    dice = np.random.default_rng(seed)
    scores, violations = dice.random((80, 3)), np.maximum(dice.random(80) - 0.7, 0)
    people = Population.new(F=scores, G=np.where(violations > 0, violations, -1.0)[:, None])
    problem = Problem(n_var=1, n_obj=3, n_ieq_constr=1)
    rank = nsga2.ranks(scores, violations)
    boundary = np.isinf(nsga2.crowding(scores, rank))
    compared = 0
    for size in range(1, 81):
        ours = nsga2.survive(scores, violations, size)
        last = np.flatnonzero(rank == rank[ours].max())
        if set(last[boundary[last]]) - set(ours):
            continue  # the cut goes through boundary rows, all infinite: pymoo throws dice
        theirs = RankAndCrowding().do(problem, people, n_survive=size, random_state=dice, return_indices=True)
        assert set(ours) == set(theirs)
        compared += 1
    assert compared > 30


# --- errors -----------------------------------------------------------------------------------------------

GOOD, FREE = np.ones((3, 2)), np.zeros(3)
NAN = np.array([[1, 2], [np.nan, 1], [1, INF]])
DICE = np.random.default_rng(0)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: nsga2.ranks(NAN, FREE), "scores must be finite; bad rows 1, 2"),
        (lambda: nsga2.order(NAN, FREE), "scores must be finite; bad rows 1, 2"),
        (lambda: nsga2.survive(NAN, FREE, 1), "scores must be finite; bad rows 1, 2"),
        (lambda: nsga2.crowding(NAN), "scores must be finite; bad rows 1, 2"),
        (lambda: nsga2.pareto_front(NAN, FREE), "scores must be finite; bad rows 1, 2"),
        (lambda: nsga2.hypervolume(NAN, [1, 1]), "scores must be finite; bad rows 1, 2"),
        (
            lambda: nsga2.ranks(np.full((14, 1), -INF), np.zeros(14)),
            "scores must be finite; bad rows 0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 4 more",
        ),
        (lambda: nsga2.ranks(GOOD[0], FREE), "scores must be [N, M] with M >= 1 objectives, got shape (2,)"),
        (
            lambda: nsga2.ranks(np.ones((3, 0)), FREE),
            "scores must be [N, M] with M >= 1 objectives, got shape (3, 0)",
        ),
        (lambda: nsga2.ranks(GOOD, [0, -0.5, 0]), "violations must be finite and not negative; bad rows 1"),
        (
            lambda: nsga2.pareto_front(GOOD, [INF, 0, np.nan]),
            "violations must be finite and not negative; bad rows 0, 2",
        ),
        (lambda: nsga2.ranks(GOOD, [0, 0]), "violations must be [N] with N = 3, got shape (2,)"),
        (lambda: nsga2.order(GOOD, FREE[:, None]), "violations must be [N] with N = 3, got shape (3, 1)"),
        (lambda: nsga2.crowding(GOOD, [0, 0]), "rank must be [N] with N = 3, got shape (2,)"),
        (lambda: nsga2.survive(GOOD, FREE, 4), "size must be 0 to 3, the number of rows, got 4"),
        (lambda: nsga2.survive(GOOD, FREE, -1), "size must be 0 to 3, the number of rows, got -1"),
        (lambda: nsga2.survive(GOOD, FREE, 1.5), "size must be 0 to 3, the number of rows, got 1.5"),
        (lambda: nsga2.hypervolume(GOOD, [1]), "reference must be 2 finite numbers, got [1.0]"),
        (lambda: nsga2.hypervolume(GOOD, [1, INF]), "reference must be 2 finite numbers, got [1.0, inf]"),
        (
            lambda: nsga2.tournament([0, 1], [1], DICE, 1),
            "rank and crowding must both be [N], got shapes (2,) and (1,)",
        ),
        (
            lambda: nsga2.tournament([0, 1], [1, np.nan], DICE, 1),
            "crowding must not be NaN; bad rows 1",
        ),
        (
            lambda: nsga2.tournament([], [], DICE, 2),
            "n must be 0 or more, and 0 without rows, got 2 and 0 rows",
        ),
        (
            lambda: nsga2.tournament([0], [1], DICE, -1),
            "n must be 0 or more, and 0 without rows, got -1 and 1 rows",
        ),
    ],
)
def test_a_wrong_input_says_what_is_wrong(call, message):
    with pytest.raises(ValueError) as error:
        call()
    assert str(error.value) == message


def test_arguments_are_left_as_they_are():
    scores, violations = SCORES.astype(float), VIOLATIONS.copy()
    nsga2.survive(scores, violations, 3)
    nsga2.pareto_front(scores, violations)
    nsga2.hypervolume(scores, [7, 7])
    assert (scores == SCORES).all() and (violations == VIOLATIONS).all()


# --- speed ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["random", "chain", "tied"])
def test_two_thousand_rows_are_ranked_in_an_instant(kind):
    dice = np.random.default_rng(0)
    scores = {
        "random": dice.random((2000, 3)),
        "chain": np.repeat(dice.permutation(2000)[:, None], 3, axis=1),  # 2000 fronts, the worst case
        "tied": dice.integers(0, 5, (2000, 3)),
    }[kind]
    seconds = []
    for _ in range(5):
        begin = time.perf_counter()
        nsga2.ranks(scores, np.zeros(2000))
        seconds.append(time.perf_counter() - begin)
    assert min(seconds) < 0.05  # 0.5 to 8 ms measured; the best of five, so that a busy machine does not fail


# --- by sabotage ------------------------------------------------------------------------------------------

# One small, plausible mistake each. The definitions are worth their name if they catch all of them.
MISTAKES = {
    "infeasible rows join the last feasible front": ("worst_feasible + 1 +", "worst_feasible +"),
    "violations are not looked at": ("feasible = violations == 0\n", "feasible = violations >= 0\n"),
    "more violation is better": ("np.unique(violations[~feasible]", "np.unique(-violations[~feasible]"),
    "the crowded go first": ("np.lexsort((-crowding(", "np.lexsort((crowding("),
    "crowding before rank": ("(-crowding(scores, rank), rank)", "(rank, -crowding(scores, rank))"),
    "crowding over all fronts at once": ("-crowding(scores, rank)", "-crowding(scores)"),
    "an unstable sort": ('np.argsort(column, kind="stable")', "np.argsort(-column)[::-1]"),
    "no boundary at the top": ("ascending[[0, -1]]", "ascending[[0]]"),
    "not normalised": (" / (column[-1] - column[0])", ""),
    "gap to one neighbour only": ("(column[2:] - column[:-2])", "(column[2:] - column[1:-1])"),
    "the first objective only": ("for column in scores.T:", "for column in scores.T[:1]:"),
    "two rows are not all boundary": ("len(scores) <= 2", "len(scores) <= 0"),
    "the best are dropped": ("best_first[:size]", "best_first[len(best_first) - size :]"),
    "duplicates are dropped from the front": ("keep_weakly=True", "keep_weakly=False"),
    "the volume of one point": ("moocore.hypervolume(scores,", "moocore.hypervolume(scores[:1],"),
    "a reference too far": ("ref=reference)", "ref=reference + 1)"),
    "higher rank wins": ("rank[other] < rank[one]", "rank[other] > rank[one]"),
    "less crowding wins": ("crowding[other] > crowding[one]", "crowding[other] < crowding[one]"),
    "a row meets itself": ("one + rng.integers(1,", "one + rng.integers(0,"),
    "ties go to the lower index": ("> crowding[one], coin)", "> crowding[one], other < one)"),
    "the loser breeds": ("np.where(other_wins, other, one)", "np.where(other_wins, one, other)"),
}


@pytest.mark.parametrize("before, after", MISTAKES.values(), ids=MISTAKES)
def test_a_broken_copy_is_caught(before, after):
    text = inspect.getsource(nsga2)
    assert before in text, "the mistake no longer applies; update the test"
    broken = ModuleType("broken")
    exec(compile(text.replace(before, after), "broken.py", "exec"), broken.__dict__)
    with pytest.raises(AssertionError):
        agree_with_the_definitions(broken)

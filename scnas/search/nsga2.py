"""NSGA-II: who is better, who survives, who breeds. Arrays only; nothing here knows an architecture.

K. Deb, A. Pratap, S. Agarwal, T. Meyarivan, "A fast and elitist multiobjective genetic algorithm: NSGA-II",
IEEE Transactions on Evolutionary Computation 6(2), 2002: section III-A ranks, III-B crowding, III-C the loop,
VI constrained domination. Non-dominated sorting and hypervolume are done by moocore, in C.

The letters, once for the whole module:
  N           rows, one candidate each; 0, 1 and 2 are as good as any other number
  M           objectives, at least 1
  scores      [N, M], finite, lower is better in every column
  violations  [N], finite, 0 is feasible, greater is worse: by how much a candidate exceeds its budgets, each
              excess divided by its budget, so that LUTs and microseconds may be added up
  rank        [N], number of the front a row is in, 0 is the best
All functions leave their arguments as they are. Only `tournament` is random, by the generator it is given.
"""

import moocore
import numpy as np


def ranks(scores: np.ndarray, violations: np.ndarray) -> np.ndarray:
    """Front number of every row under constrained domination; 0 is best and no number is left out.

    The feasible fronts come first, peeled off by Pareto domination of the scores. After them come the
    infeasible rows, less violation before more, whatever their scores; those of equal violation share a
    front.

    scores: [N, M]. violations: [N].
    returns: [N] int. Rows equal in scores and violation share a front.
    Raises ValueError for scores that are not finite or not [N, M] and for violations that are negative, not
    finite or not [N].
    """
    scores, violations = _candidates(scores, violations)
    feasible = violations == 0
    rank = np.zeros(len(scores), dtype=np.int64)
    # moocore gives equal rows the same rank, as Deb does: neither dominates the other.
    rank[feasible] = moocore.pareto_rank(scores[feasible])
    worst_feasible = rank[feasible].max(initial=-1)
    # Deb's definition 1 compares two infeasible solutions by violation only. pymoo's `Dominator` goes on to
    # compare the scores of equally infeasible ones, and its survival leaves their order to an unstable sort.
    rank[~feasible] = worst_feasible + 1 + np.unique(violations[~feasible], return_inverse=True)[1]
    return rank


def crowding(scores: np.ndarray, rank: np.ndarray | None = None) -> np.ndarray:
    """Crowding distance of every row within its front; greater means lonelier, which is better.

    Per objective the gap between a row's two neighbours divided by the span of the front, summed over the
    objectives; infinite for the first and the last row of each objective. An objective in which the whole
    front is equal contributes nothing, and one or two rows are all boundary.

    scores: [N, M]. rank: [N], each front is measured by itself; without it all rows are one front.
    returns: [N] float, each 0 to M or infinite.
    Raises ValueError for scores that are not finite or not [N, M] and for a rank that is not [N].
    """
    scores = _scores(scores)
    rank = np.zeros(len(scores), dtype=np.int64) if rank is None else np.asarray(rank)
    if rank.shape != (len(scores),):
        raise ValueError(f"rank must be [N] with N = {len(scores)}, got shape {rank.shape}")
    by_rank = np.argsort(rank, kind="stable")
    distance = np.empty(len(scores))
    for front in np.split(by_rank, np.flatnonzero(np.diff(rank[by_rank])) + 1):
        distance[front] = _crowding_of_a_front(scores[front])
    return distance


def order(scores: np.ndarray, violations: np.ndarray) -> np.ndarray:
    """Indices of all rows, best first: by rank, then the lonelier first, then the lower index.

    This is Deb's crowded comparison made total, so that equal input gives equal output everywhere.

    scores: [N, M]. violations: [N].
    returns: [N] int, a permutation. Raises ValueError as `ranks` does.
    """
    rank = ranks(scores, violations)
    return np.lexsort((-crowding(scores, rank), rank))  # stable: what is left equal stays in order of index


def survive(scores: np.ndarray, violations: np.ndarray, size: int) -> np.ndarray:
    """Indices of the `size` rows that stay when parents and children compete, best first.

    Whole fronts as long as they fit, then the loneliest rows of the front that does not. The crowding is that
    of the front before anything is removed, as in the paper.

    scores: [N, M], parents and children together. violations: [N]. size: 0 to N.
    returns: [size] int. Raises ValueError as `ranks` does and for a size out of range.
    """
    best_first = order(scores, violations)
    if not isinstance(size, int | np.integer) or not 0 <= size <= len(best_first):
        raise ValueError(f"size must be 0 to {len(best_first)}, the number of rows, got {size!r}")
    return best_first[:size]


def tournament(rank: np.ndarray, crowding: np.ndarray, rng: np.random.Generator, n: int) -> np.ndarray:
    """Winners of `n` binary tournaments: lower rank wins, then greater crowding, then a coin.

    The two of a tournament are always different rows (if there are two), so the worst row wins none. How much
    is drawn from `rng` depends on N and n alone, never on who wins.

    rank: [N]. crowding: [N], infinite allowed. n: 0 or more.
    returns: [n] int, each 0 to N - 1.
    Raises ValueError for shapes that differ, crowding that is NaN, n below 0, and no rows to choose from.
    """
    rank, crowding = np.asarray(rank), np.asarray(crowding, dtype=float)
    if rank.ndim != 1 or rank.shape != crowding.shape:
        raise ValueError(f"rank and crowding must both be [N], got shapes {rank.shape} and {crowding.shape}")
    if np.isnan(crowding).any():
        raise ValueError(f"crowding must not be NaN; bad rows {_rows(np.isnan(crowding))}")
    if n < 0 or (n > 0 and len(rank) == 0):
        raise ValueError(f"n must be 0 or more, and 0 without rows, got {n} and {len(rank)} rows")
    if len(rank) < 2:
        return np.zeros(n, dtype=np.int64)
    one = rng.integers(len(rank), size=n)
    other = (one + rng.integers(1, len(rank), size=n)) % len(rank)
    coin = rng.integers(2, size=n) == 1
    other_wins = np.where(
        rank[one] != rank[other],
        rank[other] < rank[one],
        np.where(crowding[one] != crowding[other], crowding[other] > crowding[one], coin),
    )
    return np.where(other_wins, other, one)


def pareto_front(scores: np.ndarray, violations: np.ndarray) -> np.ndarray:
    """Indices of the feasible rows that no feasible row dominates, ascending; empty when no row is feasible.

    Rows with equal scores are all kept: whether they are the same candidate is not known here.

    scores: [N, M]. violations: [N].
    returns: [K] int, 0 <= K <= N. Raises ValueError as `ranks` does.
    """
    scores, violations = _candidates(scores, violations)
    feasible = np.flatnonzero(violations == 0)
    return feasible[moocore.is_nondominated(scores[feasible], keep_weakly=True)]


def hypervolume(scores: np.ndarray, reference: np.ndarray) -> float:
    """Volume that the rows dominate, up to the reference point; greater is better, 0.0 without rows.

    Rows that are not below the reference in every objective are ignored. Give feasible rows only: scores say
    nothing about violations. The unit is the product of the units of the objectives.

    scores: [N, M]. reference: [M], finite; two volumes compare only under the same one.
    Raises ValueError for scores that are not finite or not [N, M] and a reference not finite or not [M].
    """
    scores, reference = _scores(scores), np.asarray(reference, dtype=float)
    if reference.shape != scores.shape[1:] or not np.isfinite(reference).all():
        raise ValueError(f"reference must be {scores.shape[1]} finite numbers, got {reference.tolist()}")
    return float(
        moocore.hypervolume(scores, ref=reference)
    )  # ignores what is outside, and takes no rows, too


def _crowding_of_a_front(scores: np.ndarray) -> np.ndarray:
    """Deb, section III-B. [N, M] of one front -> [N].

    The sort is stable: of rows that tie at the low end of an objective the one of lowest index is boundary,
    at the high end the one of highest index. The paper leaves this open; pymoo does the same. So of equal
    rows only the first and the last can have a distance; those between them have exactly 0 and go first.

    The paper makes two rows boundary even in an objective where all are equal; here, as in pymoo, such an
    objective is left out, but fronts of one or two rows stay infinite. pymoo divides the sum by M, which
    leaves the rows in the same order.
    """
    if len(scores) <= 2:
        return np.full(len(scores), np.inf)
    distance = np.zeros(len(scores))
    for column in scores.T:
        ascending = np.argsort(column, kind="stable")
        column = column[ascending]
        if column[0] == column[-1]:
            continue
        if np.abs(column).max() > 1e307:
            column = column / 2  # the span of finite numbers can exceed the greatest one
        distance[ascending[[0, -1]]] = np.inf
        distance[ascending[1:-1]] += (column[2:] - column[:-2]) / (column[-1] - column[0])
    return distance


def _candidates(scores: np.ndarray, violations: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both as float arrays, or one ValueError that names what is wrong."""
    scores, violations = _scores(scores), np.asarray(violations, dtype=float)
    if violations.shape != (len(scores),):
        raise ValueError(f"violations must be [N] with N = {len(scores)}, got shape {violations.shape}")
    bad = ~(np.isfinite(violations) & (violations >= 0))
    if bad.any():
        raise ValueError(f"violations must be finite and not negative; bad rows {_rows(bad)}")
    return scores, violations


def _scores(scores: np.ndarray) -> np.ndarray:
    scores = np.asarray(scores, dtype=float)
    if scores.ndim != 2 or scores.shape[1] == 0:
        raise ValueError(f"scores must be [N, M] with M >= 1 objectives, got shape {scores.shape}")
    bad = ~np.isfinite(scores).all(axis=1)
    if bad.any():
        raise ValueError(f"scores must be finite; bad rows {_rows(bad)}")
    return scores


def _rows(bad: np.ndarray) -> str:
    """'3, 7' or, in a large disaster, the first ten and how many more."""
    rows = np.flatnonzero(bad).tolist()
    more = f" and {len(rows) - 10} more" if len(rows) > 10 else ""
    return ", ".join(map(str, rows[:10])) + more

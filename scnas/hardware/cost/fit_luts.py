"""Figures per block that fit the LUTs of synthesised designs.

Least squares of the relative error with non-negative figures, pulled towards those counted by hand as firmly
as cross-validation likes best.

Letters: n designs, k blocks.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from scipy.optimize import nnls

_STRENGTHS = (1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2)
_FOLDS = 6


def fit(a: np.ndarray, y: np.ndarray, prior: np.ndarray) -> tuple[np.ndarray, float, np.ndarray]:
    """Figures [k] of designs with blocks a [n, k] and LUTs y [n], the strength they hold to `prior` with, and
    the statistics of the designs."""
    strength = min(_STRENGTHS, key=lambda s: _cross_validated(a, y, prior, s))
    known = statistics(a, y)
    return figures(known, prior, strength), strength, known


def designs(
    counts: Sequence[Mapping[str, float]], luts: Sequence[float], prior: Mapping[str, float]
) -> tuple[np.ndarray, np.ndarray]:
    """Blocks [n, k] and LUTs [n] of n designs, blocks in the order of `prior`."""
    a = np.array([[count[name] for name in prior] for count in counts]).reshape(len(counts), len(prior))
    return a, np.array(luts, dtype=float)


def statistics(a: np.ndarray, y: np.ndarray, before: np.ndarray | None = None) -> np.ndarray:
    """All that least squares of the relative error needs of designs with blocks a [n, k] and LUTs y [n].

    [k + 1, k + 1] upper triangular R with R'R the products of the weighted rows (a / y, 1), by QR.
    before: that of other designs, which are then part of the result.
    """
    rows = np.column_stack([a / y[:, None], np.ones(len(y))])
    if before is not None:
        rows = np.vstack([before, rows])
    r = np.asarray(np.linalg.qr(np.vstack([rows, np.zeros((a.shape[1] + 1,) * 2)]), mode="r"))
    return r * np.where(np.diag(r) < 0, -1, 1)[:, None]


def figures(known: np.ndarray, prior: np.ndarray, strength: float) -> np.ndarray:
    """argmin over f >= 0 of |a f / y - 1|^2 + strength * |(f - prior) / prior|^2. known: `statistics`."""
    pull = np.sqrt(strength) / np.maximum(prior, 0.2)
    left = np.vstack([known[:, :-1], np.diag(pull)])
    return nnls(left, np.concatenate([known[:, -1], pull * prior]), maxiter=100 * len(prior))[0]


def _cross_validated(a: np.ndarray, y: np.ndarray, prior: np.ndarray, strength: float) -> float:
    """Mean relative error on folds that the fit has not seen."""
    fold = np.arange(len(y)) % _FOLDS
    off = []
    for k in range(_FOLDS):
        found = figures(statistics(a[fold != k], y[fold != k]), prior, strength)
        off.append(np.abs(a[fold == k] @ found / y[fold == k] - 1))
    return float(np.mean(np.concatenate(off)))


def error_of(
    known: Mapping[str, float], counts: Sequence[Mapping[str, float]], luts: Sequence[float]
) -> float:
    """Mean relative error of the figures `known` on designs with these blocks (see `price.logic_blocks`)."""
    a, y = designs(counts, luts, known)
    return float(np.mean(np.abs(a @ np.array(list(known.values())) / y - 1)))

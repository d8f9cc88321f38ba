"""Delays per feature of a path that fit the clocks of routed designs; see `timing` for the model.

Letters: n designs, N layers of all of them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize

from scnas.hardware.cost import price, timing
from scnas.hardware.targets import Target
from scnas.snn.network import Network

_STRENGTHS = (1e-3, 3e-3, 1e-2, 3e-2, 1e-1)
_FOLDS = 6


@dataclass(frozen=True)
class Paths:
    """Features of the paths of all layers of a batch of networks, see timing.features.

    counts: [features, N]; names: of the features; network: [N].
    """

    names: tuple[str, ...]
    counts: np.ndarray
    network: np.ndarray

    @staticmethod
    def of(networks: Sequence[Network], chip: Target) -> "Paths":
        each = [price.slow_paths(network, chip) for network in networks]
        names = tuple(timing.PRIOR_NS[chip.family])
        counts = np.concatenate([np.array([paths[name] for name in names]) for paths in each], axis=1)
        layers = [len(paths[names[0]]) for paths in each]
        return Paths(names, counts, np.repeat(np.arange(len(each)), layers))

    def only(self, chosen: np.ndarray) -> "Paths":
        """Of the networks for which chosen [n] holds."""
        kept = chosen[self.network]
        return Paths(self.names, self.counts[:, kept], (np.cumsum(chosen) - 1)[self.network[kept]])

    def slowest(self, delays: np.ndarray) -> np.ndarray:
        """Slowest path of every network in ns, [n]."""
        path_ns = timing.path_delays(
            dict(zip(self.names, self.counts, strict=True)), dict(zip(self.names, delays, strict=True))
        )
        return timing.soft_maximum(path_ns, self.network, int(self.network.max()) + 1)


def fit(paths: Paths, real: np.ndarray, prior: Mapping[str, float]) -> tuple[dict[str, float], float]:
    """Non-negative delays that fit the slowest paths `real` [n] in ns, and how firmly they were held to
    `prior`, which cross-validation chose."""
    start = np.array(list(prior.values()))
    fold = np.arange(len(real)) % _FOLDS

    def off(strength: float) -> float:
        found = []
        for k in range(_FOLDS):
            delays = solve(paths.only(fold != k), real[fold != k], start, strength)
            found.append(np.abs(real[fold == k] / paths.only(fold == k).slowest(delays) - 1))
        return float(np.mean(np.concatenate(found)))

    strength = min(_STRENGTHS, key=off)
    return dict(zip(prior, solve(paths, real, start, strength).tolist(), strict=True)), strength


def solve(paths: Paths, real: np.ndarray, prior: np.ndarray, strength: float) -> np.ndarray:
    """argmin over d >= 0 of |log(slowest / real)|^2 + strength * |(d - prior) / prior|^2."""
    scale = np.maximum(prior, 0.05)
    path = np.unique([name.split(".")[0] for name in paths.names], return_inverse=True)[1]
    sharp = timing.SHARPNESS

    def loss(delays: np.ndarray) -> tuple[float, np.ndarray]:
        each = np.zeros((path.max() + 1, paths.counts.shape[1]))
        np.add.at(each, path, delays[:, None] * paths.counts)
        powers = np.bincount(paths.network, (each**sharp).sum(axis=0), len(real))
        error = np.log(powers) / sharp - np.log(real)
        slope = (2 * error / powers)[paths.network] * each ** (sharp - 1)
        away = (delays - prior) / scale
        gradient = (slope[path] * paths.counts).sum(axis=1) + 2 * strength * away / scale
        return float((error**2).sum() + strength * (away**2).sum()), gradient

    bounds = [(0, None)] * len(prior)
    return minimize(loss, prior, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 500}).x

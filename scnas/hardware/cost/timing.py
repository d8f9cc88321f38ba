"""How fast a design can be clocked: its slowest path, from the structure that its cost is worked out from.

Every layer has a few paths from register to register that can be the slowest. Each is a sum of features
(adders of a tree, bits of a carry chain), with a delay per feature that is fitted to place and route:

    delay of a path = sum over its features of count * ns
    slowest = (sum over all paths of delay^SHARPNESS)^(1 / SHARPNESS)        Fmax = 1000 / slowest

The norm is a soft maximum: where several paths are about as slow, place and route cannot favour all of
them, and the slowest comes out slower than each alone would be.

Letters: N layers of all networks in a batch, n networks, W bits of a word.
"""

from collections.abc import Mapping

import numpy as np

from scnas.hardware import schedule
from scnas.hardware.circuit import tree
from scnas.hardware.cost.folding import Folding
from scnas.hardware.cost.structure import Structure
from scnas.hardware.targets import ByFamily, Family

SHARPNESS = 12
SUMMED = 2 ** (tree.FIRST_SUMS + 2) - 1  # lanes in a first sum: words of three, a carry for each adder


Path = tuple[np.ndarray, dict[str, np.ndarray]]  # layers that have it, [N]; feature -> how often


def features(x: Structure, folding: Folding) -> dict[str, np.ndarray]:
    """How often each feature is on each path of a layer, [N] each, by `path.feature`.

    All features of a path are 0 in a layer that has no such path. Every path has a `start`: leaving a
    register, entering one, and what lies between in any case.
    """
    places = np.where(x.folded, folding.ring + 8 * x.lanes * x.units, x.synapses)
    common = {"start": np.ones(len(x.network)), "spread": np.log2(np.maximum(1, places))}
    scan = {"classes": _classes(x), "bits": x.score_width}  # scores -> the one that is shown -> the best
    paths = _parallel_paths(x) | _folded_paths(x, folding) | {"scan": (~x.folded & x.last, scan)}
    return {
        f"{path}.{name}": exists * 1.0 * count
        for path, (exists, counts) in paths.items()
        for name, count in (common | counts).items()
    }


def _classes(x: Structure) -> np.ndarray:
    return np.log2(np.maximum(2, x.n_out))


def _numbers(x: Structure) -> np.ndarray:
    """Bits of the generator's number that are compared."""
    return np.where(~x.lfsr & (x.length <= 2), 0, np.where(x.lfsr, 8, np.log2(x.length)))


def _adding(x: Structure) -> dict[str, np.ndarray]:
    """What a neuron adds besides its leak: gain, noise, and what its threshold rises by."""
    return {
        "gain_bits": np.maximum(0, x.gain - 1) * x.word,
        "noise_bits": (x.fires & x.noisy) * x.word,
        "adaptation_bits": (x.fires & x.adapts) * x.word,
    }


def _squaring(x: Structure) -> dict[str, np.ndarray]:
    """What an Izhikevich neuron calculates."""
    return {"bits": x.word, "square": x.word**2, "terms": x.recovery + np.maximum(0, x.gain - 1)}


def _parallel_paths(x: Structure) -> dict[str, Path]:
    """The paths of parallel layers, from spikes to spikes."""
    wired, n = ~x.folded, np.maximum(1, x.live)
    leaves = np.maximum(1, x.synapses / np.maximum(1, x.n_out) / 2)  # of a neuron, of one sign
    neuron = {
        "bits": x.membrane_bits / n,
        "saturating": x.saturating / n,
        "leak_bits": x.leak * x.word,
        "waiting": x.refractory > 0,
    }
    return {
        # taps and generator -> threshold signals -> tree -> difference
        "tree": (wired, {"levels": np.log2(leaves), "number": _numbers(x), "bits": x.count_bits / n}),
        # a clock's sum -> total or score
        "total": (wired, {"bits": x.total_bits / n}),
        # membrane -> limits -> leak -> current -> membrane
        "neuron": (wired & x.fires & ~x.quadratic, neuron | _adding(x)),
        "izhikevich": (wired & x.fires & x.quadratic, _squaring(x)),
    }


def _folded_paths(x: Structure, folding: Folding) -> dict[str, Path]:
    """The paths of folded layers: lanes, datapath, memories."""
    staged, block = x.folded & (x.lanes > schedule.STAGED), folding.states_in_block
    states = _classes(x) * folding.states_in_logic
    lanes = {
        "block": ~folding.rom_in_logic,
        "banks": folding.banks,
        "number": _numbers(x),
        "levels": np.log2(np.where(staged, SUMMED, np.maximum(1, x.lanes))),
    }
    datapath = {
        "bits": x.word,
        "block": block,
        "saturating": x.saturating,
        "leak_bits": x.spread * x.word,
        "thresholds": _classes(x) * ~folding.thresholds_in_block,
        "states": states,
        "waiting": x.refractory > 0,
    }
    score = {"bits": x.score_width, "block": block, "saturating": x.saturating, "states": states}
    address = {
        "bits": np.log2(np.maximum(2, folding.address)),
        "ring": np.log2(np.maximum(2, folding.ring)),
    }
    return {
        # weights -> comparators -> tree of the lanes -> sum, or the first sums in the stage
        "lanes": (x.folded, lanes),
        # stage -> the rest of the tree -> sum
        "stage": (staged, {"levels": np.log2(np.maximum(SUMMED, x.lanes) / SUMMED)}),
        # count and state -> leak -> saturation -> threshold -> state
        "datapath": (x.folded & x.fires & ~x.quadratic, datapath | _adding(x)),
        "folded_izhikevich": (x.folded & x.fires & x.quadratic, _squaring(x) | {"block": block}),
        # count and score -> saturation -> score
        "score": (x.folded & x.last & ~x.fires, score),
        # counters -> address -> memory, or the turn of the ring
        "address": (x.folded, address),
    }


def path_delays(counts: Mapping[str, np.ndarray], delays: Mapping[str, float]) -> np.ndarray:
    """Delay of every path of every layer in ns, [paths, N], from `features` and ns per feature."""
    found: dict[str, np.ndarray] = {}
    for name, ns in delays.items():
        path = name.split(".")[0]
        found[path] = found.get(path, 0.0) + ns * counts[name]
    return np.array(list(found.values()))


def soft_maximum(path_ns: np.ndarray, network: np.ndarray, n: int) -> np.ndarray:
    """The slowest path of every network in ns, [n]. path_ns: [paths, N]; network: [N], ascending."""
    return np.bincount(network, (path_ns**SHARPNESS).sum(axis=0), n) ** (1 / SHARPNESS)


def slowest_ns(x: Structure, folding: Folding, n: int, delays: Mapping[str, float]) -> np.ndarray:
    """The slowest path of every network of a batch in ns, [n]. delays: ns per feature."""
    return soft_maximum(path_delays(features(x, folding), delays), x.network, n)


# Where a fit starts: ns per feature on an iCE40 HX, by hand. A LUT there takes 0.3 to 0.4 ns, the way to
# the next one 0.6 to 1.3 ns, a carry 0.13 ns (timing reports of nextpnr 0.11.1).
_NS = {
    "start": 3.0,
    "spread": 0.1,
    "levels": 1.6,
    "number": 0.3,
    "bits": 0.2,
    "saturating": 1.5,
    "leak_bits": 0.05,
    "gain_bits": 0.1,
    "noise_bits": 0.1,
    "adaptation_bits": 0.2,
    "waiting": 0.5,
    "square": 0.1,
    "terms": 1.0,
    "banks": 1.0,
    "thresholds": 0.5,
    "states": 0.5,
    "ring": 0.3,
    "classes": 0.8,
}
_LONG = {"datapath.start": 8.0, "izhikevich.start": 4.0, "folded_izhikevich.start": 6.0, "score.start": 5.0}
_COMMON = ("start", "spread")
_ADDING = ("gain_bits", "noise_bits", "adaptation_bits")
_PATHS = {
    "tree": ("levels", "number", "bits"),
    "total": ("bits",),
    "neuron": ("bits", "saturating", "leak_bits", "waiting", *_ADDING),
    "izhikevich": ("bits", "square", "terms"),
    "lanes": ("block", "banks", "number", "levels"),
    "stage": ("levels",),
    "datapath": ("bits", "block", "saturating", "leak_bits", "thresholds", "states", "waiting", *_ADDING),
    "folded_izhikevich": ("bits", "square", "terms", "block"),
    "score": ("bits", "block", "saturating", "states"),
    "address": ("bits", "ring"),
    "scan": ("classes", "bits"),
}


def _prior(family: Family) -> dict[str, float]:
    share, block = family.delay_share, family.bram_ns
    names = [(path, name) for path, counts in _PATHS.items() for name in (*_COMMON, *counts)]
    by_hand = {f"{path}.{name}": _NS[name] for path, name in names if name != "block"} | _LONG
    return {
        f"{path}.{name}": block if name == "block" else share * by_hand[f"{path}.{name}"]
        for path, name in names
    }


PRIOR_NS: Mapping[str, Mapping[str, float]] = ByFamily(_prior)

"""Where every random number comes from: a seed and an address, never what ran before."""

import hashlib

import numpy as np


def rng(seed: int, *address: int | str) -> np.random.Generator:
    """The generator that lives at `address`, e.g. rng(0, "mutate", generation, child).

    Depends on nothing that ran before, so a candidate gets the same numbers alone, in a batch, on
    another worker, or after a resume.
    """
    place = [part if isinstance(part, str) else int(part) for part in (int(seed), *address)]
    digest = hashlib.sha256(repr(tuple(place)).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest, "big"))


def integer(seed: int, *address: int | str, low: int = 1, high: int = 2**16) -> int:
    """One integer in [low, high) from `address`: the seed of a hardware LFSR, for example."""
    return int(rng(seed, *address).integers(low, high))

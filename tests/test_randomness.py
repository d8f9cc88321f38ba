"""scnas.randomness: an address gives the same numbers whatever ran before, on any machine."""

from itertools import product

import numpy as np
import pytest

from scnas.randomness import integer, rng


def draw(*address) -> list[int]:
    return rng(*address).integers(0, 2**32, size=4).tolist()


def test_an_address_gives_the_same_numbers_whatever_ran_before():
    alone = draw(0, "train", 7)
    for other in range(7):
        draw(0, "train", other)
    np.random.default_rng(0).random()
    assert draw(0, "train", 7) == alone


def test_the_numbers_of_an_address_never_change():
    """By record: a stored search, split or training can be repeated for as long as this holds."""
    assert draw(0) == [653139672, 159026216, 3439190387, 3297407641]
    assert draw(42, "generation", 3, "child", 7, 0) == [2877755838, 2965853045, 344985077, 2905339509]
    assert integer(42, "noise", "lif", 1) == 53700


def test_places_and_seeds_have_numbers_of_their_own():
    addresses = [
        (seed, *place) for seed in (0, 1) for n in range(4) for place in product((0, 1, "1", "a"), repeat=n)
    ]
    assert len({tuple(draw(*address)) for address in addresses}) == len(addresses) > 100


@pytest.mark.parametrize(
    "one, other",
    [((1, 23), (12, 3)), ((0, "a", "b"), (0, "ab")), ((0, 1), (0, "1")), ((0, "a, b"), (0, "a", "b"))],
)
def test_addresses_do_not_run_together(one, other):
    assert draw(*one) != draw(*other)


def test_a_numpy_number_is_the_same_place():
    assert draw(np.int64(7), "x", np.uint8(3)) == draw(7, "x", 3)


def test_an_integer_seeds_any_lfsr():
    drawn = [integer(0, "generator", i) for i in range(2000)]
    assert min(drawn) >= 1 and max(drawn) <= 65535 and len(set(drawn)) > 1900
    assert {integer(0, i, low=3, high=6) for i in range(50)} == {3, 4, 5}

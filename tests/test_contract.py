"""scnas.contract: the checks at the door. What they let in is a plain Python value."""

import math
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scnas.contract import (
    Interval,
    Names,
    OneOf,
    Range,
    check_fields,
    is_power_of_two,
    one_of,
    share,
    stream_length,
    whole,
)


@given(st.integers(-(2**40), 2**40))
def test_powers_of_two_by_definition(n):
    assert is_power_of_two(n) == (n in {2**k for k in range(41)})


def test_powers_of_two_worked_by_hand():
    assert [n for n in range(-4, 40) if is_power_of_two(n)] == [1, 2, 4, 8, 16, 32]


@pytest.mark.parametrize("value", [0, 7, -3, np.int8(5), np.uint64(7), np.int64(-3)])
def test_whole_returns_a_plain_int(value):
    got = whole("n", value, -3, 7)
    assert got == value and type(got) is int


@pytest.mark.parametrize(
    "value",
    [-4, 8, 1.0, np.float64(1), True, np.True_, "1", None, [1], 1j, float("nan"), 10**400, 10**5000],
    ids=lambda v: type(v).__name__,
)
def test_whole_refuses_in_one_line(value):
    with pytest.raises(ValueError, match="^n must be a whole number from -3 to 7, got ") as refusal:
        whole("n", value, -3, 7)
    assert len(str(refusal.value)) < 150 and "\n" not in str(refusal.value)


def test_one_of_returns_a_plain_string():
    assert type(one_of("word", np.str_("b"), ("a", "b"))) is str
    for value in ("c", "", "A", 1, None, ["a"], "a\n"):
        with pytest.raises(ValueError, match="^word must be one of a, b, got ") as refusal:
            one_of("word", value, ("a", "b"))
        assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("value", [1, 1.0, 0.25, 5e-324, np.float32(0.5), np.int64(1)])
def test_share_returns_a_plain_float(value):
    got = share("d", value)
    assert got == value and type(got) is float


@pytest.mark.parametrize(
    "value",
    [0, -0.0, -1, 1.0000001, 2, float("nan"), float("inf"), True, "1", None, 0.5j, np.complex128(0.5)],
)
def test_share_refuses(value):
    with pytest.raises(ValueError, match="^d must be a share above 0 and at most 1, got "):
        share("d", value)


@pytest.mark.parametrize("fraction", [0, 3, 8, 12])
def test_a_stream_length_is_a_power_of_two_up_to_that_of_the_fraction(fraction):
    allowed = []
    for value in range(-2, 2**13 + 2):
        try:
            allowed.append(stream_length("L", value, fraction))
        except ValueError as refusal:
            expected = f"L must be a power of two that divides 2^fraction = {2**fraction}, got {value}"
            assert str(refusal) == expected
    assert allowed == [2**k for k in range(fraction + 1)]


@pytest.mark.parametrize("value", [4.0, "4", True, None, np.float32(4)])
def test_a_stream_length_is_a_whole_number(value):
    with pytest.raises(ValueError, match="^L must be a whole number, got "):
        stream_length("L", value, 8)


def test_whoever_holds_names_sees_what_is_added():
    names = Names("a", "b")
    held = names
    names.add("c")
    names.add("a")
    assert (tuple(held), held[-1], len(held), held.index("c")) == (("a", "b", "c"), "c", 3, 2)
    with pytest.raises(ValueError, match="letter must be one of a, b, c, got 'd'"):
        one_of("letter", "d", held)


@pytest.mark.parametrize("value", [0, 2, 1.5, np.float32(0.5), np.int64(2)])
def test_an_interval_holds_its_ends_and_returns_a_plain_float(value):
    got = Interval(0, 2).check("x", value)
    assert got == value and type(got) is float


@pytest.mark.parametrize("value", [-0.1, 2.1, True, "1", None, 1j, math.nan, math.inf, -math.inf, 10**400])
def test_an_interval_refuses_what_is_outside(value):
    for interval, words in [
        (Interval(0, 2), "from 0 to 2"),
        (Interval(0, 2, above=True), "above 0 and at most 2"),
    ]:
        with pytest.raises(ValueError, match=f"^x must be a number {words}, got ") as refusal:
            interval.check("x", value)
        assert len(str(refusal.value)) < 150


def test_an_open_interval_does_not_hold_its_lower_end_nor_infinity():
    interval = Interval(0, math.inf, above=True)
    assert interval.check("x", 5e-324) == 5e-324 and interval.check("x", 1e308) == 1e308
    for value in (0, -0.0, math.inf, 10**400):
        with pytest.raises(ValueError, match="^x must be a number above 0, got "):
            interval.check("x", value)


@dataclass
class Some:
    free: str = "anything"
    count: Annotated[int, Range(1, 9)] = 3
    share: Annotated[float | None, Interval(0, 1)] = None
    words: Annotated[list[str], OneOf(("a", "b"))] = ()


def test_fields_are_checked_by_their_annotations():
    check_fields("some.", Some())
    check_fields("some.", Some(free=None, share=1, words=["a", "b", "a"]))
    for wrong, message in [
        (Some(count=0), "some.count must be a whole number from 1 to 9, got 0"),
        (Some(count=None), "some.count must be a whole number from 1 to 9, got None"),
        (Some(share=2), "some.share must be a number from 0 to 1, got 2"),
        (Some(words=["a", "c"]), "some.words must be one of a, b, got 'c'"),
    ]:
        with pytest.raises(ValueError) as refusal:
            check_fields("some.", wrong)
        assert str(refusal.value) == message

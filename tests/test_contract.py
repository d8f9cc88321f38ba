"""scnas.contract: the checks at the door. What they let in is a plain Python value."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scnas.contract import Names, is_power_of_two, one_of, share, stream_length, whole


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

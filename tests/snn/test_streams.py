"""scnas.snn.streams by hand, by definition (shift by shift, bit by bit), by law and by sabotage.

Letters: T steps, L clocks of a stream, M the largest magnitude, R(t, c) what it is compared with.
"""

import inspect
from itertools import islice
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import lfsr_bytes, reversed_bits

from scnas.snn import streams
from scnas.snn.streams import (
    lfsr_states,
    max_weight,
    noise_sequence,
    ones_table,
    rate_encode,
    stream_thresholds,
    van_der_corput,
)

SIZES = [2**k for k in range(13)]

# --- by hand --------------------------------------------------------------------------------------


def test_van_der_corput_worked_by_hand():
    assert van_der_corput(1).tolist() == [0]
    assert van_der_corput(2).tolist() == [0, 1]
    assert van_der_corput(4).tolist() == [0, 2, 1, 3]
    assert van_der_corput(8).tolist() == [0, 4, 2, 6, 1, 5, 3, 7]


def test_eight_shifts_worked_by_hand():
    # Bits 3, 12, 14 and 15 feed back. 1 -> 2 -> 4 -> 8, whose bit 3 feeds back -> 17 -> 34 -> 68 -> 136,
    # the same again -> 273.
    assert lfsr_states(1, 2).tolist() == [1, 273]
    # Bit 15 feeds back: 1, and then as above for the seven shifts that are left.
    assert lfsr_states(0x8000, 2).tolist() == [0x8000, 136]


def test_the_noise_is_the_signed_low_byte():
    # 273 = 0x0111 -> 17. 0x80FF -> -1. 0x0080 -> -128. 0x007F -> 127.
    assert noise_sequence(1, 2).tolist() == [1, 17]
    assert [noise_sequence(seed, 1)[0] for seed in (0x80FF, 0x0080, 0x007F)] == [-1, -128, 127]


def test_ones_of_an_lfsr_window_worked_by_hand():
    # R = 1, 17: a magnitude of 0 or 1 is never above, 2..17 once, 18..256 twice.
    table = ones_table("lfsr", 2, 1, seed=1)
    assert stream_thresholds("lfsr", 2, 1, seed=1).tolist() == [[1, 17]]
    assert table.tolist() == [[0] * 2 + [1] * 16 + [2] * 239]


def test_rates_worked_by_hand():
    spikes = rate_encode(np.array([[0, 0.25, 0.5, 0.75, 1]]), 4)
    assert spikes.shape == (1, 4, 5) and spikes.dtype == np.uint8
    assert spikes[0].tolist() == [  # R_T = 0, 2, 1, 3
        [0, 1, 1, 1, 1],
        [0, 0, 0, 1, 1],
        [0, 0, 1, 1, 1],
        [0, 0, 0, 0, 1],
    ]


def test_a_rate_between_two_is_rounded_half_to_even():
    counts = rate_encode(np.array([[0.125, 0.124, 0.126, 0.375, 0.625, 0.875]]), 4).sum(1)
    assert counts.tolist() == [[0, 0, 1, 2, 2, 4]]  # 0.5 -> 0, 1.5 -> 2, 2.5 -> 2, 3.5 -> 4


def test_the_largest_magnitude():
    assert [max_weight("sobol", n) for n in (1, 16)] == [1, 16]
    assert [max_weight("lfsr", n) for n in (1, 16)] == [256, 256]
    with pytest.raises(ValueError, match="generator must be one of sobol, lfsr, got 'halton'"):
        max_weight("halton", 16)
    with pytest.raises(ValueError, match="generator must be one of sobol, lfsr, got 'halton'"):
        stream_thresholds("halton", 16, 1, 1)


# --- by definition --------------------------------------------------------------------------------


def lfsr_by_definition(seed: int, n: int) -> list[int]:
    """Shift by shift, one bit at a time, from the polynomial x^16 + x^15 + x^13 + x^4 + 1."""
    bits = [seed >> i & 1 for i in range(16)]
    states = []
    while len(states) < n:
        states.append(sum(bit << i for i, bit in enumerate(bits)))
        for _ in range(8):
            bits = [bits[16 - 1] ^ bits[15 - 1] ^ bits[13 - 1] ^ bits[4 - 1], *bits[:-1]]
    return states


@pytest.mark.parametrize("seed", [1, 2, 0x8000, 0xFFFF, 0xACE1, 12345])
def test_lfsr_states_shift_by_shift(seed):
    assert lfsr_states(seed, 300).tolist() == lfsr_by_definition(seed, 300)


def test_the_lfsr_wraps_around():
    n = 2**16 + 7
    assert lfsr_states(77, n).tolist() == lfsr_by_definition(77, n)


@pytest.mark.parametrize("n", SIZES)
def test_van_der_corput_is_bit_reversal(n):
    assert van_der_corput(n).tolist() == [reversed_bits(c, n) for c in range(n)]


def table_by_definition(module, generator, length, timesteps, seed) -> list[list[int]]:
    """Every stream of every magnitude, bit by bit."""
    if generator == "sobol":
        numbers = [[reversed_bits(c, length) for c in range(length)]] * timesteps
    else:
        stream = lfsr_bytes(seed)
        numbers = [list(islice(stream, length)) for _ in range(timesteps)]
    top = length if generator == "sobol" else 256
    assert module.stream_thresholds(generator, length, timesteps, seed).tolist() == numbers
    return [[sum(w > r for r in window) for w in range(top + 1)] for window in numbers]


def tables_agree(module) -> None:
    for generator in ("sobol", "lfsr"):
        for length, timesteps, seed in ((1, 3, 1), (2, 5, 40000), (16, 4, 65535), (128, 3, 300)):
            table = module.ones_table(generator, length, timesteps, seed)
            assert table.tolist() == table_by_definition(module, generator, length, timesteps, seed)


def test_tables_bit_by_bit():
    tables_agree(streams)


@settings(max_examples=40)
@given(st.integers(1, 65535), st.sampled_from(SIZES[:9]), st.integers(1, 5))
def test_lfsr_tables_bit_by_bit(seed, length, timesteps):
    table = ones_table("lfsr", length, timesteps, seed)
    assert table.tolist() == table_by_definition(streams, "lfsr", length, timesteps, seed)


# --- by law ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", SIZES)
def test_van_der_corput_visits_every_number_once(n):
    assert sorted(van_der_corput(n).tolist()) == list(range(n))


@pytest.mark.parametrize("n", SIZES[2:])
def test_any_aligned_window_of_van_der_corput_is_spread_evenly(n):
    """Each quarter of the clocks holds one number of every group of four neighbours."""
    for window in van_der_corput(n).reshape(4, -1):
        assert sorted((window // 4).tolist()) == list(range(n // 4))


@pytest.mark.parametrize("n", [0, -1, 3, 6, 12, 100])
def test_only_powers_of_two_can_be_reversed(n):
    with pytest.raises(ValueError, match=f"must be a power of two.*got {n}$"):
        van_der_corput(n)
    with pytest.raises(ValueError, match=f"timesteps must be a power of two for the rate encoder, got {n}$"):
        rate_encode(np.zeros((1, 2)), n)


@pytest.mark.parametrize("length", SIZES[:9])
def test_a_sobol_stream_holds_exactly_w_ones_in_every_step(length):
    r = stream_thresholds("sobol", length, 3, seed=1)
    for w in range(length + 1):
        assert ((w > r).sum(1) == w).all()
    assert (ones_table("sobol", length, 3, seed=1) == np.arange(length + 1)).all()


def test_the_lfsr_visits_every_state_but_zero():
    assert sorted(lfsr_states(1, 65535).tolist()) == list(range(1, 65536))
    assert lfsr_states(1, 65536)[-1] == 1


def test_any_state_can_be_the_seed_of_the_rest():
    states = lfsr_states(9, 100)
    for i in (1, 42, 99):
        assert lfsr_states(int(states[i]), 100 - i).tolist() == states[i:].tolist()


@pytest.mark.parametrize("seed", [0, -1, 65536])
def test_a_seed_that_is_no_state_is_refused(seed):
    for call in (
        lambda: lfsr_states(seed, 1),
        lambda: noise_sequence(seed, 1),
        lambda: ones_table("lfsr", 4, 2, seed),
    ):
        with pytest.raises(ValueError, match=f"seed must be 1 to 65535, got {seed}$"):
            call()


def test_an_lfsr_runs_on_from_step_to_step():
    r = stream_thresholds("lfsr", 16, 8, seed=5)
    assert r.flatten().tolist() == (lfsr_states(5, 128) % 256).tolist()
    assert len({tuple(window) for window in r.tolist()}) == 8  # windows differ


def test_lfsr_ones_grow_with_the_magnitude_from_none_to_all():
    table = ones_table("lfsr", 64, 50, seed=321)
    assert (np.diff(table, axis=1) >= 0).all()
    assert (table[:, 0] == 0).all() and (table[:, 256] == 64).all()


def test_lfsr_ones_are_right_on_average():
    """Over a whole period each byte comes 256 times, 0 once less: w / 256 of all clocks are ones."""
    whole = ones_table("lfsr", 2**15, 2, seed=7).sum(0)  # 65,536 clocks: the period and one more
    assert np.abs(whole - 256 * np.arange(257)).max() <= 1


def test_what_is_returned_can_be_changed_without_harm():
    for call in (
        lambda: lfsr_states(3, 20),
        lambda: van_der_corput(8),
        lambda: ones_table("lfsr", 4, 2, 3),
        lambda: ones_table("sobol", 4, 2, 3),
    ):
        first = call()
        expected = first.copy()
        first[...] = 0
        assert (call() == expected).all()


@settings(max_examples=60)
@given(
    st.lists(st.floats(0, 1, width=32), min_size=1, max_size=9),
    st.sampled_from([2**k for k in range(8)]),
)
def test_a_rate_is_the_exact_number_of_spikes(x, timesteps):
    values = np.array([x], dtype=np.float32)
    spikes = rate_encode(values, timesteps)
    assert spikes.shape == (1, timesteps, len(x)) and set(np.unique(spikes)) <= {0, 1}
    assert spikes.sum(1).tolist() == [[round(float(v) * timesteps) for v in values[0]]]


@pytest.mark.parametrize("timesteps", [1, 2, 8, 64])
def test_every_rate_is_spread_over_the_steps(timesteps):
    """q spikes of T stand where R_T < q: the same places for every feature with that rate."""
    x = np.arange(timesteps + 1)[None] / timesteps
    spikes = rate_encode(x, timesteps)[0]
    for q in range(timesteps + 1):
        where = [reversed_bits(t, timesteps) < q for t in range(timesteps)]
        assert spikes[:, q].tolist() == where


def test_samples_do_not_touch_each_other():
    x = np.random.default_rng(0).random((5, 3))
    together = rate_encode(x, 8)
    assert all((together[i] == rate_encode(x[i : i + 1], 8)[0]).all() for i in range(5))


# --- by sabotage ----------------------------------------------------------------------------------

MISTAKES = {
    "one tap moved": ("state >> 12", "state >> 13"),
    "seven shifts": ("for _ in range(8)", "for _ in range(7)"),
    "high byte": (
        "lfsr_states(seed, timesteps * length) & 0xFF",
        "lfsr_states(seed, timesteps * length) >> 8",
    ),
    "at least instead of above": ("table[t, 1:] =", "table[t, :-1] ="),
    "restarts each step": (
        "(lfsr_states(seed, timesteps * length) & 0xFF).reshape(timesteps, length)",
        "np.tile(lfsr_states(seed, length) & 0xFF, (timesteps, 1))",
    ),
    "counts up": (
        "np.tile(van_der_corput(length), (timesteps, 1))",
        "np.tile(np.arange(length), (timesteps, 1))",
    ),
}


@pytest.mark.parametrize("before, after", MISTAKES.values(), ids=MISTAKES)
def test_a_broken_generator_is_noticed(before, after):
    text = inspect.getsource(streams)
    assert text.count(before) == 1, "the mistake no longer applies; update the test"
    broken = ModuleType("broken")
    exec(text.replace(before, after), broken.__dict__)
    with pytest.raises((AssertionError, ValueError)):
        tables_agree(broken)

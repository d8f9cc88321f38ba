"""Bitstreams: number generators, how many ones a stream holds, and the rate encoder.

Letters: T steps of an inference, L clocks of a stream, M the largest magnitude of a weight,
B samples, n features. A stream bit is [w > R(t, c)] for a magnitude w in 0..M.
"""

from functools import cache

import numpy as np

from scnas.contract import GENERATORS, is_power_of_two

LFSR_MAGNITUDES = 256  # an LFSR layer compares 8-bit values, whatever its length


def van_der_corput(n: int) -> np.ndarray:
    """0..n-1 in bit-reversed order, [n] int64: the first Sobol dimension. n: a power of two."""
    if not is_power_of_two(n):
        raise ValueError(f"n must be a power of two, got {n}")
    order = np.zeros(1, dtype=np.int64)
    while len(order) < n:
        order = np.concatenate([2 * order, 2 * order + 1])
    return order


@cache
def _orbit() -> tuple[np.ndarray, np.ndarray]:
    """All states of the 16-bit LFSR, 8 shifts apart, and where each state stands in that order.

    The period 2^16 - 1 and 8 share no factor, so every eighth state visits them all.
    """
    states = np.empty(2**16 - 1, dtype=np.int64)
    state = 1
    for i in range(len(states)):
        states[i] = state
        for _ in range(8):
            bit = (state >> 15 ^ state >> 14 ^ state >> 12 ^ state >> 3) & 1
            state = (state << 1 | bit) & 0xFFFF
    place = np.zeros(2**16, dtype=np.int64)
    place[states] = np.arange(len(states))
    return states, place


def lfsr_states(seed: int, n: int) -> np.ndarray:
    """The first n states of the LFSR, 8 shifts apart, the seed first. [n] int64 in 1..65535.

    Polynomial x^16 + x^15 + x^13 + x^4 + 1: bits 15, 14, 12, 3 XORed into bit 0, shifting left.
    """
    if not 1 <= seed <= 0xFFFF:
        raise ValueError(f"seed must be 1 to 65535, got {seed}")
    states, place = _orbit()
    return states[(place[seed] + np.arange(n)) % len(states)]


def max_weight(generator: str, length: int) -> int:
    """M, the largest magnitude: the length itself for `sobol`, 256 for `lfsr`."""
    match generator:
        case "sobol":
            return length
        case "lfsr":
            return LFSR_MAGNITUDES
    raise ValueError(f"generator must be one of {', '.join(GENERATORS)}, got {generator!r}")


def stream_thresholds(generator: str, length: int, timesteps: int, seed: int) -> np.ndarray:
    """R(t, c), [T, L] int64: a stream of magnitude w has its bit set iff w > R."""
    max_weight(generator, length)  # refuses an unknown generator
    if generator == "sobol":
        return np.tile(van_der_corput(length), (timesteps, 1))
    return (lfsr_states(seed, timesteps * length) & 0xFF).reshape(timesteps, length)


def ones_table(generator: str, length: int, timesteps: int, seed: int) -> np.ndarray:
    """Ones in the stream of every magnitude in every step, [T, M + 1] int64 in 0..L."""
    top = max_weight(generator, length)
    if generator == "sobol":
        return np.tile(np.arange(top + 1), (timesteps, 1))
    r = stream_thresholds(generator, length, timesteps, seed)
    table = np.zeros((timesteps, top + 1), dtype=np.int64)
    for t in range(timesteps):
        table[t, 1:] = np.cumsum(np.bincount(r[t], minlength=top))  # w > R  <=>  R <= w - 1
    return table


def noise_sequence(seed: int, timesteps: int) -> np.ndarray:
    """n(t), [T] int64 in -128..127: the signed low byte of the noise LFSR, 8 shifts a step."""
    low = lfsr_states(seed, timesteps) & 0xFF
    return np.where(low < 128, low, low - 256)


def rate_encode(x: np.ndarray, timesteps: int) -> np.ndarray:
    """Spikes [B, T, n] uint8 of features x [B, n] in 0..1: feature i spikes round(x_i * T) times.

    round is half to even. timesteps: a power of two.
    """
    if not is_power_of_two(timesteps):
        raise ValueError(f"timesteps must be a power of two for the rate encoder, got {timesteps}")
    q = np.rint(np.asarray(x, dtype=np.float64) * timesteps).astype(np.int64)
    return (q[:, None, :] > van_der_corput(timesteps)[None, :, None]).astype(np.uint8)

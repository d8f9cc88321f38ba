"""A split, encoded once for all groups of a process.

Letters: N samples of the split, B of a batch, T steps, n inputs; R_T(t) is the order of the rate encoder.
"""

from collections.abc import Iterator
from functools import cached_property
from typing import Any

import numpy as np
import torch

from scnas.snn import backends
from scnas.snn.streams import van_der_corput
from scnas.tasks import Split

Rows = Any  # an array or a tensor, as the pass of the backend takes it
ENCODED = 1024  # samples that are encoded at a time: their values take eight bytes each meanwhile


class Samples:
    """A split as a pass takes it, encoded when asked. labels: [N] on the device.

    arrays: whether they may be arrays, where the device's backend takes such: levels 0..T, [B, 1, n] uint8,
    with their `ramp` R_T(t), or spikes [B, T, n] uint8. For torch spikes [T, B, n] float32.
    """

    def __init__(self, split: Split, encoder: str, timesteps: int, device: torch.device, arrays: bool = True):
        self.timesteps, self.device = timesteps, device
        self.labels = torch.tensor(split.y, dtype=torch.int64, device=device)
        self.ramp = None
        data = np.asarray(split.x)
        if encoder == "rate":
            self.ramp = van_der_corput(timesteps)
            levels = np.empty((len(data), 1, data.shape[1]), np.uint8 if timesteps < 256 else np.int16)
            for start in range(0, len(data), ENCODED):
                some = slice(start, start + ENCODED)
                levels[some, 0] = np.rint(data[some].astype(np.float64) * timesteps)
            data = levels
        self.arrays = arrays and backends.backend_on(device).arrays
        self.data: Rows = data if self.arrays else torch.tensor(data, device=device)
        self._ramp = None if self.ramp is None else torch.tensor(self.ramp, device=device)

    def __len__(self) -> int:
        return len(self.labels)

    def in_order(self, order: np.ndarray, size: int) -> Rows:
        """Numbers of samples where `batch` takes slices of `size` of them without waiting for the device. For
        torch the last slice is filled up with none, -1, so that all batches are of one shape."""
        if self.arrays:
            return order
        missing = -len(order) % size if len(order) > size else 0
        return torch.tensor(np.append(order, np.full(missing, -1)), device=self.device)

    def batch(self, index: Rows | slice) -> tuple[Rows, Rows]:
        """Inputs and labels of some samples; index: a slice, or some of what in_order returned, where of none
        the label is -1."""
        if self.arrays:
            return self.data[index], self.labels.numpy()[index]
        x, labels = self.data[index], self.labels[index]  # of -1 what the last sample has
        if not isinstance(index, slice):
            labels = torch.where(index < 0, -1, labels)
        if self._ramp is not None:
            x = x > self._ramp[None, :, None]
        spikes = x.transpose(0, 1).to(torch.float32, memory_format=torch.contiguous_format)
        return spikes, labels

    def batches(self, size: int, few: np.ndarray | None = None) -> Iterator[tuple[Rows, Rows]]:
        """All samples in order, or those whose numbers are in `few`."""
        order = None if few is None else self.in_order(few, 1)
        for start in range(0, len(self) if few is None else len(few), size):
            some = slice(start, start + size)
            yield self.batch(some if order is None else order[some])

    @cached_property
    def spikes_per_step(self) -> float:
        """Mean number of input spikes in a step."""
        return float(self.data.sum(dtype=np.int64 if self.arrays else torch.int64)) / (
            len(self) * self.timesteps
        )


HELD = 8  # splits that stay encoded on a device, for the groups to come
_held: dict[tuple, tuple[Split, Samples]] = {}


def encoded(split: Split, encoder: str, timesteps: int, device: torch.device, arrays: bool = True) -> Samples:
    """Samples of a split, those of an earlier call where they are still held; HELD used last are."""
    key = id(split), encoder, timesteps, str(device), arrays and backends.backend_on(device).arrays
    found = _held.pop(key, None)
    if found is None or found[0] is not split:
        found = split, Samples(split, encoder, timesteps, device, arrays)
    _held[key] = found
    while len(_held) > HELD:
        del _held[next(iter(_held))]
    return found[1]

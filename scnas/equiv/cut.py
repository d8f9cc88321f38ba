"""Where a proof may cut through the logic of two modules. Needs no solver to be named."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Cut:
    """Two outputs of a machine that agree: dut + offset == ref, low <= dut <= high, as signed numbers.

    Once proved they are one free symbol for what comes after, which then needs to know nothing of how either
    is made (two different multipliers, for instance).
    """

    dut: str
    ref: str
    low: int
    high: int
    offset: int = 0

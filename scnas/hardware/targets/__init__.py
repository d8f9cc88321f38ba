"""The chips a network can be built for: what they hold, what they draw at rest, and who says so.

A Family is an architecture with its tools; a Target is one chip of it. Both are entries in a registry, and
`register` takes more of them, from a file of the user's own (scnas.plugins). A module per family holds its
chips.
"""

from scnas.hardware.targets import ecp5, ice40, xilinx
from scnas.hardware.targets.chip import OTHER_PINS, TARGETS, Target, register, target
from scnas.hardware.targets.family import FAMILIES, ByFamily, Family, register_family

__all__ = [
    "FAMILIES", "OTHER_PINS", "TARGETS", "ByFamily", "Family", "Target", "register", "register_family",
    "target",
]  # fmt: skip

for _module in (ice40, ecp5, xilinx):
    register_family(_module.FAMILY)
    for _chip in _module.CHIPS:
        register(_chip)

"""Proofs that hardware and reference agree.

`check_equivalence` compares two neuron modules; `check_winner` proves a whole design against its network.
`python -m scnas.equiv` runs the pre-built proofs of all cells.
"""

from scnas.equiv.cells import EquivResult, check_equivalence
from scnas.equiv.miter import generate_miter
from scnas.equiv.sby import generate_sby

__all__ = [
    "EquivResult",
    "Obligation",
    "Verdict",
    "check_design",
    "check_equivalence",
    "check_winner",
    "generate_miter",
    "generate_sby",
]


def __getattr__(name: str) -> object:  # these bring the hardware generator with them
    if name in ("Obligation", "Verdict", "check_design", "check_winner"):
        from scnas.equiv import verdict

        return getattr(verdict, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

"""Proofs that hardware and reference agree: miter, proof script, and what the tools say."""

from scnas.equiv.check import EquivResult, check_equivalence, generate_miter, generate_sby

__all__ = ["EquivResult", "check_equivalence", "generate_miter", "generate_sby"]

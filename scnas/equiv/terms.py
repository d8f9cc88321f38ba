"""Values that are numbers where they are known and bitwuzla terms where they are not.

A value is an int where it is known, else a `Word`: a tuple of bits, lowest first, each 0, 1 or (term, index)
for bit `index` of a bitwuzla term. So a wire that only moves bits about costs no term, what is constant
folds, and the same bits are equal as tuples. Arithmetic on words that are not known makes terms.
"""

from collections.abc import Sequence
from typing import Any

import bitwuzla
from bitwuzla import Kind

Bit = int | tuple[int, int]  # 0, 1 or (number of a term in Terms, bit of it)
Word = tuple[Bit, ...]
Number = int | Word
# A Number, or the content of a memory: dict of address -> Number, and under None that of all others. Which
# of them it is follows from the node that it belongs to, not from any type.
Value = Any

_CALCULATES = {
    Kind.BV_ADD,
    Kind.BV_SUB,
    Kind.BV_NEG,
    Kind.BV_MUL,
    Kind.BV_UDIV,
    Kind.BV_SDIV,
    Kind.BV_UREM,
    Kind.BV_SREM,
}


class Terms:
    """Makes and remembers terms: same operation on the same operands, same term."""

    def __init__(self) -> None:
        self.manager = bitwuzla.TermManager()
        self.terms: list[bitwuzla.Term] = []
        self.widths: list[int] = []
        self._known: dict = {}
        self._names: dict[str, int] = {}
        self._supports: dict[int, frozenset[str]] = {}

    def variable(self, name: str, width: int) -> Word:
        """The free symbol `name`; the same one every time it is asked for."""
        if name not in self._names:
            sort = self.manager.mk_bv_sort(width)
            self._names[name] = self._add(self.manager.mk_const(sort, name), width)
        number = self._names[name]
        return tuple((number, i) for i in range(width))

    def fresh(self) -> str:
        """A name that no variable has yet."""
        return f"any.{len(self._names)}.{len(self.terms)}"

    def _add(self, term: bitwuzla.Term, width: int) -> int:
        self.terms.append(term)
        self.widths.append(width)
        return len(self.terms) - 1

    def operation(self, kind: Kind, operands: Sequence[bitwuzla.Term], width: int) -> Word:
        """The value of an operator; `width` bits."""
        key = (kind, tuple(t.id() for t in operands))
        if key not in self._known:
            self._known[key] = self._add(self.manager.mk_term(kind, list(operands)), width)
        number = self._known[key]
        return tuple((number, i) for i in range(width))

    def symbols(self, word: Number) -> frozenset[str]:
        """The names of the variables that `word` is made of."""
        if isinstance(word, int):
            return frozenset()
        found = [self._symbols(self.terms[bit[0]]) for bit in set(word) if isinstance(bit, tuple)]
        return frozenset().union(*found)

    def _symbols(self, term: bitwuzla.Term) -> frozenset[str]:
        stack = [term]
        while stack:  # not recursive: a sum of a thousand clocks is a thousand terms deep
            top = stack[-1]
            if top.id() in self._supports:
                stack.pop()
                continue
            children = list(top.children())
            if open_ := [c for c in children if c.id() not in self._supports]:
                stack += open_
                continue
            own = (
                [frozenset([top.symbol()])] if top.is_const() else [self._supports[c.id()] for c in children]
            )
            self._supports[top.id()] = frozenset().union(*own)
            stack.pop()
        return self._supports[term.id()]

    def plain(self, word: Number) -> bool:
        """Is `word` made without arithmetic: a wire, a register, a choice between such?"""
        stack = []
        if isinstance(word, tuple):
            stack = [self.terms[bit[0]] for bit in word if isinstance(bit, tuple)]
        seen = set()
        while stack:
            term = stack.pop()
            if term.id() not in seen:
                seen.add(term.id())
                if term.kind() in _CALCULATES:
                    return False
                stack += term.children()
        return True

    def term(self, value: Number, width: int) -> bitwuzla.Term:
        """`value` as one bit-vector term."""
        if isinstance(value, int):
            return self.manager.mk_bv_value(self.manager.mk_bv_sort(width), value % 2**width)
        pieces, i = [], 0
        while i < width:
            bit, start = value[i], i
            i += 1
            if isinstance(bit, int):
                number = bit
                while i < width and isinstance(more := value[i], int):
                    number |= more << (i - start)
                    i += 1
                pieces.append(self.manager.mk_bv_value(self.manager.mk_bv_sort(i - start), number))
                continue
            source, low = bit
            while i < width and value[i] == (source, low + i - start):
                i += 1
            term = self.terms[source]
            if i - start < self.widths[source]:
                term = self.manager.mk_term(Kind.BV_EXTRACT, [term], [low + i - start - 1, low])
            pieces.append(term)
        return pieces[0] if len(pieces) == 1 else self.manager.mk_term(Kind.BV_CONCAT, pieces[::-1])

    def truth(self, value: Number) -> bitwuzla.Term:
        """A one-bit value as a Boolean term."""
        one = self.manager.mk_bv_value(self.manager.mk_bv_sort(1), 1)
        return self.manager.mk_term(Kind.EQUAL, [self.term(value, 1), one])


def known(value: Word) -> Number:
    """`value` as an int if all its bits are known."""
    number = 0
    for i, bit in enumerate(value):
        if not isinstance(bit, int):
            return value
        number |= bit << i
    return number


def bits(value: Number, width: int) -> Word:
    """`value` as a tuple of bits."""
    if isinstance(value, int):
        return tuple(value >> i & 1 for i in range(width))
    return value

"""Operators of BTOR2 on values: numbers at once, words bit by bit where that is all they are, else terms."""

from collections.abc import Callable

from bitwuzla import Kind

from scnas.equiv.terms import Number, Terms, Word, bits, known


def signed(value: int, width: int) -> int:
    """The two's complement number that the lowest `width` bits of `value` are."""
    return value - (1 << width) if value >> (width - 1) & 1 else value


def _towards_zero(a: int, b: int) -> int:
    """a / b, rounded towards zero; by zero as SMT-LIB has it."""
    if b == 0:
        return 1 if a < 0 else -1
    return abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)


def _remainder(a: int, b: int) -> int:
    return a - b * _towards_zero(a, b) if b else a


# op -> (bitwuzla's operator, the same on Python ints given a, b and the width of a)
ARITHMETIC: dict[str, tuple[Kind, Callable[[int, int, int], int]]] = {
    "add": (Kind.BV_ADD, lambda a, b, _: a + b),
    "sub": (Kind.BV_SUB, lambda a, b, _: a - b),
    "mul": (Kind.BV_MUL, lambda a, b, _: a * b),
    "and": (Kind.BV_AND, lambda a, b, _: a & b),
    "or": (Kind.BV_OR, lambda a, b, _: a | b),
    "xor": (Kind.BV_XOR, lambda a, b, _: a ^ b),
    "nand": (Kind.BV_NAND, lambda a, b, _: ~(a & b)),
    "nor": (Kind.BV_NOR, lambda a, b, _: ~(a | b)),
    "xnor": (Kind.BV_XNOR, lambda a, b, _: ~(a ^ b)),
    "udiv": (Kind.BV_UDIV, lambda a, b, _: a // b if b else -1),
    "urem": (Kind.BV_UREM, lambda a, b, _: a % b if b else a),
    "sll": (Kind.BV_SHL, lambda a, b, w: a << b if b < w else 0),
    "srl": (Kind.BV_SHR, lambda a, b, w: a >> b if b < w else 0),
    "sra": (Kind.BV_ASHR, lambda a, b, w: signed(a, w) >> min(b, w)),
    "sdiv": (Kind.BV_SDIV, lambda a, b, w: _towards_zero(signed(a, w), signed(b, w))),
    "srem": (Kind.BV_SREM, lambda a, b, w: _remainder(signed(a, w), signed(b, w))),
}
COMPARISON: dict[str, tuple[Kind, Callable[[int, int, int], bool]]] = {
    "eq": (Kind.EQUAL, lambda a, b, _: a == b),
    "neq": (Kind.DISTINCT, lambda a, b, _: a != b),
    "ult": (Kind.BV_ULT, lambda a, b, _: a < b),
    "ulte": (Kind.BV_ULE, lambda a, b, _: a <= b),
    "ugt": (Kind.BV_UGT, lambda a, b, _: a > b),
    "ugte": (Kind.BV_UGE, lambda a, b, _: a >= b),
    "slt": (Kind.BV_SLT, lambda a, b, w: signed(a, w) < signed(b, w)),
    "slte": (Kind.BV_SLE, lambda a, b, w: signed(a, w) <= signed(b, w)),
    "sgt": (Kind.BV_SGT, lambda a, b, w: signed(a, w) > signed(b, w)),
    "sgte": (Kind.BV_SGE, lambda a, b, w: signed(a, w) >= signed(b, w)),
}
NUMBERS: dict[str, Callable[[int, int, int], int]] = {
    op: function for table in (ARITHMETIC, COMPARISON) for op, (_, function) in table.items()
}
# op -> the same on a Python int a, given a and the greatest number of its width
_UNARY: dict[str, Callable[[int, int], int]] = {
    "not": lambda a, mask: ~a & mask,
    "neg": lambda a, mask: -a & mask,
    "inc": lambda a, mask: a + 1 & mask,
    "dec": lambda a, mask: a - 1 & mask,
    "redor": lambda a, _: int(a != 0),
    "redand": lambda a, mask: int(a == mask),
    "redxor": lambda a, _: a.bit_count() & 1,
}
_UNARY_KINDS = {
    "not": Kind.BV_NOT,
    "neg": Kind.BV_NEG,
    "inc": Kind.BV_INC,
    "dec": Kind.BV_DEC,
    "redxor": Kind.BV_REDXOR,
}
UNARY = frozenset(_UNARY)


def unary(op: str, a: Number, w: int, terms: Terms) -> Number:
    """The value of an operator of one operand `a` of w bits."""
    if isinstance(a, int):
        return _UNARY[op](a, (1 << w) - 1)
    if op in ("redor", "redand"):
        absorbing = int(op == "redor")
        if absorbing in a:
            return absorbing
        rest = tuple(b for b in a if not isinstance(b, int))
        if len(rest) == 1:
            return rest
        kind = Kind.BV_REDOR if op == "redor" else Kind.BV_REDAND
        return terms.operation(kind, [terms.term(rest, len(rest))], 1)
    result = terms.operation(_UNARY_KINDS[op], [terms.term(a, w)], 1 if op == "redxor" else w)
    if op == "not" and any(isinstance(b, int) for b in a):
        return tuple(1 - b if isinstance(b, int) else r for b, r in zip(a, result, strict=True))
    return result


def binary(op: str, a: Number, b: Number, w: int, terms: Terms) -> Number:
    """The value of an operator of two operands; w: bits of the first, and of both where they are equal."""
    return _compared(op, a, b, w, terms) if op in COMPARISON else _calculated(op, a, b, w, terms)


def _compared(op: str, a: Number, b: Number, w: int, terms: Terms) -> Number:
    kind, function = COMPARISON[op]
    if isinstance(a, int) and isinstance(b, int):
        return int(function(a, b, w))
    if a == b:
        return int(function(0, 0, w))
    if op in ("eq", "neq"):
        pairs = zip(bits(a, w), bits(b, w), strict=True)
        if any(isinstance(x, int) and isinstance(y, int) and x != y for x, y in pairs):
            return int(op == "neq")
        if w == 1 and (isinstance(a, int) or isinstance(b, int)):
            number, word = (a, b) if isinstance(a, int) else (b, a)
            return word if number == (op == "eq") else unary("not", word, 1, terms)
    condition = terms.manager.mk_term(kind, [terms.term(a, w), terms.term(b, w)])
    one, zero = terms.term(1, 1), terms.term(0, 1)
    return terms.operation(Kind.ITE, [condition, one, zero], 1)


def _calculated(op: str, a: Number, b: Number, w: int, terms: Terms) -> Number:
    kind, function = ARITHMETIC[op]
    if isinstance(a, int) and isinstance(b, int):
        return function(a, b, w) % (1 << w)
    if (moved := _moved(op, a, b, w, terms)) is not None:
        return moved
    return terms.operation(kind, [terms.term(a, w), terms.term(b, w)], w)


def _moved(op: str, a: Number, b: Number, w: int, terms: Terms) -> Number | None:
    """The value where it is bits of a and b in another order, or their sum with a constant; else None."""
    if op in ("and", "or") and a == b:
        return a
    if op in ("add", "sub") and b == 0:
        return a
    if op == "add" and a == 0:
        return b
    if op in ("sll", "srl", "sra") and isinstance(b, int):
        return _shifted(op, bits(a, w), min(b, w))
    if op in ("and", "or", "mul") and (isinstance(a, int) or isinstance(b, int)):
        number, word = (a, bits(b, w)) if isinstance(a, int) else (b, bits(a, w))
        assert isinstance(number, int)  # one of the two is
        if op == "mul":
            if number & (number - 1):
                return None
            return _shifted("sll", word, number.bit_length() - 1) if number else 0
        mask, absorbing = bits(number, w), int(op == "or")
        return known(tuple(absorbing if m == absorbing else x for x, m in zip(word, mask, strict=True)))
    if op == "sdiv" and isinstance(a, tuple) and isinstance(b, int):
        if 0 < b < 1 << (w - 1) and b & (b - 1) == 0:
            # Towards zero by a power of two: add b - 1 to a negative number, then shift.
            bias = tuple(a[-1] if b - 1 >> i & 1 else 0 for i in range(w))
            biased = binary("add", a, known(bias), w, terms)
            return binary("sra", biased, b.bit_length() - 1, w, terms)
    return None


def _shifted(op: str, word: Word, shift: int) -> Number:
    """`word` shifted by at most its width."""
    if op == "sll":
        return known((0,) * shift + word[: len(word) - shift])
    return known(word[shift:] + ((word[-1] if op == "sra" else 0),) * shift)


def choose(condition: Word, then: Number, other: Number, width: int, terms: Terms) -> Number:
    """One of two values; where both have the same bits, those bits."""
    a, b = bits(then, width), bits(other, width)
    if width == 1 and a == (1,) and b == (0,):
        return condition
    branches = [terms.truth(condition), terms.term(then, width), terms.term(other, width)]
    term = terms.operation(Kind.ITE, branches, width)
    return tuple(x if x == y else z for x, y, z in zip(a, b, term, strict=True))

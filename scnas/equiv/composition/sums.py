"""What counts, currents and scores should be, and what the symbols of sums mean."""

from collections import Counter
from collections.abc import Sequence

import bitwuzla
from bitwuzla import Kind, Result

from scnas.equiv.composition.view import Differs, View
from scnas.equiv.induction import Solver
from scnas.equiv.reading import tap_order
from scnas.equiv.terms import Number, Word, bits
from scnas.snn.streams import ones_table


class Sums:
    """Sums of spikes in a layer.

    steps: [t][i] bits, the spikes that come in. weights: of neuron j of a parallel layer, (tap, weight).
    synapses: of neuron j, (input, delay, weight). meanings: symbol of a sum -> tap bits, number,
    [(tap, weight)]. totals: (t, j) -> symbol of a count that was checked; ranges: its bounds.
    """

    def __init__(self, view: View, solver: Solver) -> None:
        self.view, self.solver = view, solver
        network, layer, T = view.network, view.layer, view.network.timesteps
        self.scale = (2**network.fraction // layer.length).bit_length() - 1
        self.ones = ones_table(layer.generator, layer.length, T, layer.seed)
        self.steps = [self._step(t) for t in range(T)]
        self.content: dict[tuple, str] = {}  # what a cell got -> the symbol that it answers
        self.symbol_word: dict[str, Word] = {}
        self.meanings: dict[str, tuple[Word, int, list[tuple[int, int]]]] = {}
        self.totals: dict[tuple[int, int], Word] = {}
        self.ranges: dict[tuple[int, int], list[bitwuzla.Term]] = {}
        self.decided: set[tuple] = set()  # questions to the solver that had the right answer
        self.asked: list[Sequence[bitwuzla.Term]] = []  # their terms
        self.added: set[tuple] = set()  # sums that were what they should be
        self.taps = tap_order(layer)
        self.weights = [
            [
                (k, int(layer.weights[i, j]))
                for k, (i, d) in enumerate(self.taps)
                if layer.weights[i, j] and layer.delays[i, j] == d
            ]
            for j in range(layer.n_out)
        ]
        self.synapses = [
            [(int(i), int(layer.delays[i, j]), int(layer.weights[i, j])) for i in column.nonzero()[0]]
            for j, column in enumerate(layer.weights.T)
        ]

    def _step(self, t: int) -> Word:
        """The spikes that come in with step t."""
        variable, before, n_in = self.view.terms.variable, self.view.depth - 1, self.view.layer.n_in
        if self.view.first:
            return variable(f"s.{t}", n_in)
        return tuple(variable(f"f.{before}.{t}.{i}", 1)[0] for i in range(n_in))

    def named(self, kind: str, *content: object) -> str:
        """The name of what a cell answers to `content`: the same answer whenever it is the same."""
        return self.content.setdefault((kind, *content), f"{kind}.{len(self.content)}")

    def symbol(self, name: str, width: int) -> Word:
        """The free symbol `name` of a sum, remembered with its width."""
        self.symbol_word[name] = self.view.terms.variable(name, width)
        return self.symbol_word[name]

    def word_symbol(self, word: Number) -> str:
        """The symbol that `word` is, whole and nothing else; "" if it is none."""
        names = self.view.terms.symbols(word)
        name = min(names, default="")
        return name if len(names) == 1 and self.symbol_word.get(name) == word else ""

    def decide(self, formulas: Sequence[bitwuzla.Term], what: str) -> None:
        """Differs if the formulas can all be true. Asked once."""
        question = tuple(formula.id() for formula in formulas)
        if question in self.decided:
            return
        result, _ = self.solver.satisfiable(formulas)
        if result == Result.UNKNOWN:
            raise TimeoutError
        if result == Result.SAT:
            raise Differs(f"{what} is not what it should be")
        self.decided.add(question)
        self.asked.append(formulas)  # keeps the terms, and so their numbers

    def expected(self, t: int, j: int) -> Counter:
        """Spike bit -> coefficient of count[t, j]."""
        wanted: Counter = Counter()
        for i, delay, w in self.synapses[j]:
            if t >= delay:
                wanted[self.steps[t - delay][i]] += w // abs(w) * int(self.ones[t, abs(w)])
        return Counter({bit: n for bit, n in wanted.items() if n})

    def bounds(self, wanted: Counter) -> tuple[int, int]:
        """The least and the greatest value of a sum of spikes."""
        return sum(min(0, n) for n in wanted.values()), sum(max(0, n) for n in wanted.values())

    def meaning(self, names: Sequence[str]) -> Counter:
        """The sum of what some symbols mean."""
        found: Counter = Counter()
        for name in names:
            if name not in self.meanings:
                raise Differs(f"layer {self.view.depth} adds {name}, which is none of its sums")
            taps, number, weights = self.meanings[name]
            for k, w in weights:
                if taps[k].__class__ is int:
                    if taps[k] and abs(w) > number:
                        raise Differs(f"layer {self.view.depth} sees a spike that is not there")
                elif abs(w) > number:
                    found[taps[k]] += 1 if w > 0 else -1
        return Counter({bit: n for bit, n in found.items() if n})

    def check_sum(
        self,
        word: Number,
        width: int,
        wanted: Counter,
        what: str,
        saturate: bool,
        scale: int | None = None,
    ) -> None:
        """`word` == sat_W(sum * 2^scale), or the plain product, where the sum is `wanted`.

        scale: that of a current, unless another is given.
        """
        scale = self.scale if scale is None else scale
        question = (word, width, frozenset(wanted.items()), saturate, scale)
        if question in self.added:
            return
        terms, manager = self.view.terms, self.view.terms.manager
        names = sorted(self.view.terms.symbols(word), key=lambda name: int(name.rsplit(".", 1)[1]))
        if (got := self.meaning(names)) != wanted:
            extra, less = got - wanted, wanted - got
            raise Differs(
                f"{what} adds other spikes than it should ({len(extra)} too much, {len(less)} too little)"
            )
        low, high = self.bounds(wanted)
        full = max(width, self.view.network.word) + scale + 2 + len(names).bit_length() + 8
        total = terms.term(0, full)
        for name in names:
            symbol = self.symbol_word[name]
            total = manager.mk_term(Kind.BV_ADD, [total, terms.term(extended(symbol, full), full)])
        inside = [
            manager.mk_term(Kind.BV_SLE, [terms.term(low, full), total]),
            manager.mk_term(Kind.BV_SLE, [total, terms.term(high, full)]),
        ]
        scaled = manager.mk_term(Kind.BV_SHL, [total, terms.term(scale, full)])
        if saturate:
            scaled = self.saturated(scaled, full)
        wide = terms.term(extended(bits(word, width), full), full)
        differs = manager.mk_term(Kind.DISTINCT, [wide, scaled])
        self.decide([*inside, differs], what)
        self.added.add(question)

    def saturated(self, term: bitwuzla.Term, width: int) -> bitwuzla.Term:
        """A term of `width` bits, cut off at the ends of a word."""
        manager, half = self.view.terms.manager, 2 ** (self.view.network.word - 1)
        top, bottom = self.view.terms.term(half - 1, width), self.view.terms.term(-half, width)
        high = manager.mk_term(Kind.BV_SGT, [term, top])
        low = manager.mk_term(Kind.BV_SLT, [term, bottom])
        return manager.mk_term(Kind.ITE, [high, top, manager.mk_term(Kind.ITE, [low, bottom, term])])


def extended(word: Word, width: int) -> Word:
    """A signed word as one of `width` bits."""
    return word + (word[-1],) * (width - len(word))

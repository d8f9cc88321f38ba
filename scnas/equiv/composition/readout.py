"""Scores and class: what the top shows at the end of an inference."""

from collections import Counter
from collections.abc import Sequence

import bitwuzla
from bitwuzla import Kind

from scnas.equiv.composition.sums import Sums, extended
from scnas.equiv.composition.view import Differs, View
from scnas.equiv.composition.work import Past
from scnas.equiv.terms import Number, Value, bits


class Readout:
    """The scores of the last layer, and the class that is made of them."""

    def __init__(self, view: View, sums: Sums) -> None:
        self.view, self.sums = view, sums

    def score(self, values: dict[int, Value], past: Past) -> Number:
        """Check the next score that is shown; the word that stands for it from now on."""
        layer, T, index = self.view.layer, self.view.network.timesteps, len(past.scores)
        if index >= layer.n_out:
            raise Differs("more scores than classes")
        what = f"score {index}"
        due = T if layer.mapping == "parallel" else T * layer.n_out - (layer.n_out - 1 - index)
        if past.updates < due:
            raise Differs(f"{what} is shown before its last step")
        shown, width = self.view.get(values, "score"), self.view.model.nodes[self.view.output("score")].width
        if self.view.fires:
            self._differs(shown, width, self._spikes(past, index, width + 1), [], what)
        elif (0, index) in self.sums.totals:
            ranges = [bound for t in range(T) for bound in self.sums.ranges[t, index]]
            self._differs(shown, width, self._currents(index, width + 2), ranges, what)
        else:
            wanted: Counter = Counter()
            for t in range(T):
                for bit, n in self.sums.expected(t, index).items():
                    wanted[bit] += n
            wanted = Counter({bit: n for bit, n in wanted.items() if n})
            self.sums.check_sum(shown, width, wanted, what, False)
        return shown

    def _differs(
        self, shown: Number, width: int, total: bitwuzla.Term, facts: Sequence[bitwuzla.Term], what: str
    ) -> None:
        """Differs unless the word that is shown is `total`, where the facts hold."""
        terms, full = self.view.terms, total.sort().bv_size()
        got = terms.term(extended(bits(shown, width), full), full)
        self.sums.decide([*facts, terms.manager.mk_term(Kind.DISTINCT, [got, total])], what)

    def _spikes(self, past: Past, index: int, full: int) -> bitwuzla.Term:
        """The number of spikes of a neuron, in `full` bits."""
        terms, total = self.view.terms, self.view.terms.term(0, full)
        for t in range(self.view.network.timesteps):
            spike = (past.spikes[t][index],) + (0,) * (full - 1)
            total = terms.manager.mk_term(Kind.BV_ADD, [total, terms.term(spike, full)])
        return total

    def _currents(self, index: int, full: int) -> bitwuzla.Term:
        """The sum of the currents of a neuron, each cut off at a word, made of its checked counts."""
        terms, manager, scale = self.view.terms, self.view.terms.manager, self.sums.scale
        total = terms.term(0, full)
        for t in range(self.view.network.timesteps):
            symbol = self.sums.totals[t, index]
            inner = max(self.view.network.word, len(symbol)) + scale + 2
            wide = terms.term((0,) * scale + extended(symbol, inner - scale), inner)
            current = self.sums.saturated(wide, inner)
            if inner < full:
                current = manager.mk_term(Kind.BV_SIGN_EXTEND, [current], [full - inner])
            elif inner > full:
                current = manager.mk_term(Kind.BV_EXTRACT, [current], [full - 1, 0])
            total = manager.mk_term(Kind.BV_ADD, [total, current])
        return total

    def classify(self, values: dict[int, Value], scores: Sequence[Number]) -> None:
        """The class is the lowest with the highest score."""
        if len(scores) != self.view.layer.n_out:
            raise Differs(f"{len(scores)} scores at done, {self.view.layer.n_out} classes")
        terms, manager = self.view.terms, self.view.terms.manager
        width = self.view.model.nodes[self.view.output("score")].width
        size = self.view.model.nodes[self.view.output("class_index")].width
        best, index = terms.term(scores[0], width), terms.term(0, size)
        for j in range(1, len(scores)):
            other = terms.term(scores[j], width)
            higher = manager.mk_term(Kind.BV_SGT, [other, best])
            best = manager.mk_term(Kind.ITE, [higher, other, best])
            index = manager.mk_term(Kind.ITE, [higher, terms.term(j, size), index])
        got = terms.term(self.view.get(values, "class_index"), size)
        self.sums.decide([manager.mk_term(Kind.DISTINCT, [got, index])], "the class")

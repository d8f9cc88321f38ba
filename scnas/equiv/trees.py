"""The adder trees of a unit of a folded layer, proved wire by wire."""

from collections import Counter
from collections.abc import Mapping, Sequence

from bitwuzla import Kind, Result, Term

from scnas.equiv.induction import Solver
from scnas.equiv.machine import Machine
from scnas.equiv.terms import Bit, Terms, Value, Word, bits, known
from scnas.hardware import schedule
from scnas.hardware.circuit.folded import ending, lane_leaves
from scnas.hardware.circuit.signal import unsigned_bits
from scnas.hardware.circuit.tree import Leaf, Stage, Tree, adder_tree, plan_tree
from scnas.snn.network import Layer


class Trees:
    """The two adder trees of a unit, of positive and of negative weights, proved node by node.

    What `circuit.tree.plan_tree` says of a wire is asked of the design, each wire by itself, those below it
    being any numbers in their range. By induction the register `sum` then takes the sum of the lanes that
    are on, each with its sign. The plan made the design, too, so it is only a guess here, and must itself
    add every lane once (`_adds_each_once`).
    """

    def __init__(
        self, layer: Layer, unit: int, path: str, model: Machine, terms: Terms, solver: Solver
    ) -> None:
        self.path, self.x, self.model, self.terms, self.solver = path, ending(unit), model, terms, solver
        self.staged = schedule.is_staged(layer.mapping, layer.lanes)
        self.leaves = {letter: lane_leaves(layer, unit, gate) for letter, gate in (("p", "~"), ("n", ""))}

    def add_up(self, values: Mapping[int, Value], on_nodes: Sequence[int], on: Word, signs: Word) -> bool:
        """Whether they do. values: of inputs and registers. on_nodes, on: the wires of the lanes and what
        stands for them; signs: the sign bits of their weights. False also where a wire is not to be found."""
        self.values, self.on_nodes, self.on, self.signs = values, on_nodes, on, signs
        totals, stage = {}, Stage("stage")
        for letter, leaves in self.leaves.items():
            if len(leaves) < 2:
                return False
            tree = plan_tree(leaves, self.staged)
            adder_tree(leaves, letter + self.x, stage if self.staged else None)
            if not self._adds_each_once(tree) or (total := self._tree(letter, tree, stage.bits)) is None:
                return False
            totals[letter] = total
        return self._is_passed_on(stage.bits) and self._is_difference(totals, stage.bits)

    def _adds_each_once(self, tree: Tree) -> bool:
        """Whether the last node of a plan is the sum of every lane, once, and no node can be more than `most`
        says."""
        sums = [Counter(leaf.tap for leaf in word) for word in tree.words]
        for a, b, single in tree.adders:
            if max(a, b) >= len(sums):
                return False
            sums.append(sums[a] + sums[b] + Counter([] if single is None else [tree.singles[single].tap]))
        within = all(found.total() <= most for found, most in zip(sums, tree.most, strict=True))
        return within and sums[-1] == Counter(f"on_{i}{self.x}" for i in range(len(self.on)))

    def _node(self, name: str) -> int | None:
        """The node of a wire, None if it has none of its own."""
        node = self.model.outputs.get(f"{self.path}.{name}")
        return None if node is None or node < 0 else node

    def _lane(self, leaf: Leaf, letter: str) -> tuple[dict[int, Word], Word]:
        """The wire of a lane and what stands for it, and its product with its sign."""
        lane = int(leaf.tap.removesuffix(self.x).removeprefix("on_"))
        bit, sign = self.on[lane : lane + 1], self.signs[lane]
        terms = self.terms
        gate = terms.term((sign,), 1)
        if letter == "p":
            gate = terms.manager.mk_term(Kind.BV_NOT, [gate])
        product = terms.operation(Kind.BV_AND, [terms.term(bit, 1), gate], 1)
        return {self.on_nodes[lane]: bit}, bits(product, 1)

    def _tree(self, letter: str, tree: Tree, stage: list[str]) -> tuple[str, int, bool] | None:
        """Every word and every adder of a tree. Its last wire, the greatest value, whether the stage holds
        it; None where a wire is not what it should be."""
        words = [f"{letter}{self.x}_w{i}" for i in range(len(tree.words))]
        names = words + [f"{letter}{self.x}_s{i}" for i in range(len(tree.adders))]
        for name, word in zip(words, tree.words, strict=True):
            cut: dict[int, Word] = {}
            products = []
            for leaf in word:
                wire, product = self._lane(leaf, letter)
                cut |= wire
                products.append((product, 1))
            if not self._is_sum(name, cut, products, len(word)):
                return None
        for i, leaf in enumerate(tree.singles):
            if i in tree.held_singles:
                wire, product = self._lane(leaf, letter)
                if not self._is_sum(f"{letter}{self.x}_c{i}", wire, [(product, 1)], 1):
                    return None
        for i, (a, b, single) in enumerate(tree.adders):
            cut, parts = {}, []
            for node in (a, b):
                most = tree.most[node]
                found = self._operand(names[node], most, node in tree.held, stage)
                if found is None:
                    return None
                if found[0].keys() & cut.keys():
                    return None
                cut |= found[0]
                parts.append((found[1], most))
            if single is not None and single in tree.held_singles:
                parts.append((self._held(f"{letter}{self.x}_c{single}", 1, stage), 1))
            elif single is not None:
                wire, product = self._lane(tree.singles[single], letter)
                cut |= wire
                parts.append((product, 1))
            if not self._is_sum(names[len(words) + i], cut, parts, tree.most[len(words) + i]):
                return None
        return names[-1], tree.most[-1], len(names) - 1 in tree.held

    def _operand(
        self, name: str, most: int, held: bool, stage: list[str]
    ) -> tuple[dict[int, Word], Word] | None:
        """A wire below and what stands for it."""
        width = unsigned_bits(most)
        if held:
            return {}, self._held(name, width, stage)
        word = self.terms.variable(f"wire.{name}", width)
        cut = self._cut(name, word)
        return None if cut is None else (cut, word)

    def _cut(self, name: str, word: Word) -> dict[int, Word] | None:
        """`word` in the place of a wire; where it is the upper part of another, which adds a carry below, in
        the place of that as well."""
        if (node := self._node(name)) is None:
            return None
        cut = {node: word}
        if (whole := self._node(f"{name}_c")) is not None:
            cut[whole] = self.terms.variable(f"below.{name}", 1) + word
        return cut

    def _held(self, name: str, width: int, stage: list[str]) -> Word:
        """What the stage holds of a wire."""
        start = stage.index(name if width == 1 else f"{name}[0]")
        register = self.model.outputs[f"{self.path}.stage{self.x}"]
        return bits(self.values[register], self.model.nodes[register].width)[start : start + width]

    def _value(self, node: int, cut: Mapping[int, Word]) -> Word:
        """A node of the design, where some wires below it are cut."""
        values = dict(self.values) | {wire: known(word) for wire, word in cut.items()}
        values.pop(abs(node), None)
        self.model.extend(values, [abs(node)], self.terms)
        return bits(self.model.invert(node, values, self.terms), self.model.nodes[abs(node)].width)

    def _is_sum(
        self, name: str, cut: Mapping[int, Word], parts: Sequence[tuple[Word, int]], most: int
    ) -> bool:
        """Is a wire the sum of `parts`, each a word and its greatest value, for all of them?"""
        node = self._node(name)
        if node is None or node in cut or self.model.nodes[node].width != unsigned_bits(most):
            return False
        return self._equal(self._value(node, cut), parts, [])

    def _equal(self, word: Word, plus: Sequence[tuple[Word, int]], minus: Sequence[tuple[Word, int]]) -> bool:
        """Whether the signed or unsigned `word` is the sum of the words in `plus` less those in `minus`."""
        terms, manager = self.terms, self.terms.manager
        full = max(len(word), *(len(part) for part, _ in (*plus, *minus))) + 4

        def wide(part: Word, sign: bool = False) -> Term:
            above: Bit = part[-1] if sign else 0
            return terms.term(part + (above,) * (full - len(part)), full)

        total, facts = terms.term(0, full), []
        for kind, parts in ((Kind.BV_ADD, plus), (Kind.BV_SUB, minus)):
            for part, most in parts:
                total = manager.mk_term(kind, [total, wide(part)])
                facts.append(manager.mk_term(Kind.BV_ULE, [wide(part), terms.term(most, full)]))
        differs = manager.mk_term(Kind.DISTINCT, [wide(word, sign=bool(minus)), total])
        return self.solver.satisfiable([*facts, differs])[0] == Result.UNSAT

    def _is_passed_on(self, stage: list[str]) -> bool:
        """Does the register `stage` take the wires whose names `stage` lists, bit by bit?"""
        if not self.staged:
            return True
        words: dict[str, Word] = {}
        cut: dict[int, Word] = {}
        wanted = []
        for bit in stage:
            name, _, place = bit.rstrip("]").partition("[")
            if name not in words:
                if (node := self._node(name)) is None:
                    return False
                words[name] = self.terms.variable(f"wire.{name}", self.model.nodes[node].width)
                new = self._cut(name, words[name])
                if new is None or new.keys() & cut.keys():
                    return False
                cut |= new
            wanted.append(words[name][int(place or 0)])
        register = self.model.outputs[f"{self.path}.stage{self.x}"]
        return self._value(self.model.following[register], cut) == tuple(wanted)

    def _is_difference(self, totals: Mapping[str, tuple[str, int, bool]], stage: list[str]) -> bool:
        """Does the register `sum` take the sum of the one tree less that of the other?"""
        cut: dict[int, Word] = {}
        parts = []
        for name, most, held in totals.values():
            found = self._operand(name, most, held, stage)
            if found is None or found[0].keys() & cut.keys():
                return False
            cut |= found[0]
            parts.append((found[1], most))
        register = self.model.outputs[f"{self.path}.sum{self.x}"]
        return self._equal(self._value(self.model.following[register], cut), parts[:1], parts[1:])

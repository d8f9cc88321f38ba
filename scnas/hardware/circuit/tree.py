"""Adder trees of AND products: how leaves are grouped, and their Verilog.

Three spikes of one magnitude are added before they meet their threshold signal: a full adder of three spikes
and the AND fit two 4-input LUTs. Their sums meet in a tree of carry chains, and each chain takes one synapse
more through its carry input, where the AND is free: the carry out of a + b + c is that of s + [m > R].
"""

import heapq
from collections import defaultdict
from dataclasses import dataclass, field
from typing import NamedTuple

from scnas.hardware.circuit.signal import unsigned_bits


@dataclass(frozen=True)
class Leaf:
    """One synapse: its tap (spike signal) and its threshold signal, None at full scale."""

    tap: str
    threshold: str | None

    @property
    def product(self) -> str:
        return self.tap if self.threshold is None else f"{self.tap} & {self.threshold}"


class Tree(NamedTuple):
    """How adder_tree adds two or more leaves.

    Nodes are numbered: words of up to three leaves, then adders; the last node is the sum. adders: the two
    nodes and the single (its place in `singles`), which the carry input takes, or None. most: greatest value
    of every node. held, held_singles: nodes and singles that pass the register `stage`.
    """

    words: list[list[Leaf]]
    singles: list[Leaf]
    adders: list[tuple[int, int, int | None]]
    most: list[int]
    held: set[int]
    held_singles: set[int]


FIRST_SUMS = 2  # adders between a word and the register that cuts a tree


@dataclass
class Stage:
    """The register `name` that cuts the adder trees of a unit; bits: the signals it takes, lowest first."""

    name: str
    bits: list[str] = field(default_factory=list)

    def hold(self, signal: str, width: int) -> str:
        """Verilog of the bits of the register that hold `signal`, which are added to it."""
        at = len(self.bits)
        self.bits += [signal] if width == 1 else [f"{signal}[{bit}]" for bit in range(width)]
        return f"{self.name}[{at + width - 1}:{at}]" if width > 1 else f"{self.name}[{at}]"


def plan_tree(leaves: list[Leaf], staged: bool) -> Tree:
    """The tree that adds `leaves`, as the head of this module describes it. staged: a register cuts it."""
    words, singles = _grouped(leaves)
    most, depth = [len(word) for word in words], [0] * len(words)
    heap = [(most[i], i) for i in range(len(words))]
    heapq.heapify(heap)
    adders: list[tuple[int, int, int | None]] = []
    left, behind = len(singles), set[int]()
    tree = Tree(words, singles, adders, most, set(), set())
    for i in range(len(words) - 1):
        (_, a), (_, b) = heapq.heappop(heap), heapq.heappop(heap)
        total = most[a] + most[b]
        fits = unsigned_bits(total + 1) == unsigned_bits(total)
        takes = left > 0 and (fits or left >= len(words) - 1 - i)
        left -= takes
        if staged and (max(depth[a], depth[b]) >= FIRST_SUMS or {a, b} & behind):
            tree.held.update({a, b} - behind)
            tree.held_singles.update([left] * takes)
            behind.add(len(most))
        adders.append((a, b, left if takes else None))
        depth.append(max(depth[a], depth[b]) + 1)
        most.append(total + takes)
        heapq.heappush(heap, (most[-1], len(most) - 1))
    if staged and len(most) - 1 not in behind:
        tree.held.add(len(most) - 1)
    return tree


def _grouped(leaves: list[Leaf]) -> tuple[list[list[Leaf]], list[Leaf]]:
    """Words of up to three leaves, and the single leaves that carry inputs take: at most one an adder."""
    groups = defaultdict(list)
    for leaf in leaves:
        groups[leaf.threshold or ""].append(leaf)
    words: list[list[Leaf]] = []
    singles: list[Leaf] = []
    for key in sorted(groups):
        same = groups[key]
        whole = len(same) // 3 * 3
        words += [same[i : i + 3] for i in range(0, whole, 3)]
        singles += same[whole:]
    # A tree of n words has n - 1 adders; each takes one single through its carry input.
    while len(words) > 1 and len(singles) + 3 <= len(words) - 2:
        singles += words.pop()
    while len(singles) > max(len(words) - 1, 0):
        words.append(singles[:3])
        del singles[:3]
    return words, singles


def adder_tree(leaves: list[Leaf], name: str, stage: Stage | None = None) -> tuple[list[str], str, int]:
    """Verilog lines that add the products of `leaves`, the name of the sum, and its greatest value.

    `name` begins every signal of the tree. stage: the register that cuts it, which takes what this tree
    holds; the sum is then that of the clock before.
    """
    if not leaves:
        return [], "1'b0", 0
    if len(leaves) == 1 and stage is None:
        return [f"wire {name} = {leaves[0].product};"], name, 1
    tree = plan_tree(leaves, stage is not None)
    signals = [f"{name}_w{i}" for i in range(len(tree.words))]
    lines = [_word(word, signal) for word, signal in zip(tree.words, signals, strict=True)]
    singles = list(tree.singles)

    def hold(node: int) -> None:
        """From here on `node` is what the register holds of it."""
        if stage is not None and node in tree.held:
            line, signals[node] = _held(signals[node], unsigned_bits(tree.most[node]), stage)
            lines.append(line)

    if stage is not None:
        for i in sorted(tree.held_singles):
            lines.append(f"wire {name}_c{i} = {singles[i].product};")
            line, held = _held(f"{name}_c{i}", 1, stage)
            lines.append(line)
            singles[i] = Leaf(held, None)
    for i, (a, b, single) in enumerate(tree.adders):
        hold(a)
        hold(b)
        width, signal = unsigned_bits(tree.most[len(signals)]), f"{name}_s{i}"
        terms = []
        for node in (a, b):
            padding = width - unsigned_bits(tree.most[node])
            terms.append(f"{padding}'d0, {signals[node]}" if padding else signals[node])
        lines += _adder(signal, width, terms, None if single is None else singles[single])
        signals.append(signal)
    hold(len(signals) - 1)
    return lines, signals[-1], tree.most[-1]


def _held(signal: str, width: int, stage: Stage) -> tuple[str, str]:
    """The line that names what the register holds of `signal`, and that name."""
    size = f"[{width - 1}:0] " if width > 1 else ""
    return f"wire {size}{signal}_held = {stage.hold(signal, width)};", f"{signal}_held"


def _word(word: list[Leaf], signal: str) -> str:
    """The line that adds the products of up to three leaves as `signal`."""
    if len(word) == 1:
        return f"wire {signal} = {word[0].product};"
    width, thresholds = unsigned_bits(len(word)), {leaf.threshold for leaf in word}
    if len(thresholds) > 1:
        total = " + ".join(f"{{{width - 1}'d0, {leaf.product}}}" for leaf in word)
        return f"wire [{width - 1}:0] {signal} = {total};"
    total = " + ".join(f"{{{width - 1}'d0, {leaf.tap}}}" for leaf in word)
    gate = thresholds.pop()
    gated = total if gate is None else f"{{{width}{{{gate}}}}} & ({total})"
    return f"wire [{width - 1}:0] {signal} = {gated};"


def _adder(signal: str, width: int, terms: list[str], carry: Leaf | None) -> list[str]:
    """The lines of `signal` as the sum of two terms, and of a leaf in the carry input."""
    if carry is None:
        return [f"wire [{width - 1}:0] {signal} = {{{terms[0]}}} + {{{terms[1]}}};"]
    gate = carry.threshold or carry.tap
    return [
        f"wire [{width}:0] {signal}_c = {{{terms[0]}, {carry.tap}}} + {{{terms[1]}, {gate}}};",
        f"wire [{width - 1}:0] {signal} = {signal}_c[{width}:1];",
    ]

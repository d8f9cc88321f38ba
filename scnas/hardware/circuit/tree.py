"""Adder trees of AND products: how leaves are grouped, and their Verilog.

Three spikes of one magnitude are added before they meet their threshold signal: a full adder of three spikes
and the AND fit two 4-input LUTs. Their sums meet in a tree of carry chains, and each chain takes one synapse
more through its carry input, where the AND is free: the carry out of a + b + c is that of s + [m > R].
"""

import heapq
from collections import defaultdict
from dataclasses import dataclass
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


def plan_tree(leaves: list[Leaf], staged: bool) -> Tree:
    """Groups leaves, as the head of this module describes it. staged: a register cuts the tree."""
    groups = defaultdict(list)
    for leaf in leaves:
        groups[leaf.threshold or ""].append(leaf)
    words, singles = [], []
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
    most, depth = [len(word) for word in words], [0] * len(words)
    heap = [(most[i], i) for i in range(len(words))]
    heapq.heapify(heap)
    left, adders, behind = len(singles), [], set()
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


def adder_tree(
    leaves: list[Leaf], name: str, stage: tuple[str, list[str]] | None = None
) -> tuple[list[str], str, int]:
    """Verilog lines that add the products of `leaves`, the name of the sum, and its greatest value.

    `name` begins every signal of the tree. stage: the name of a register that cuts the tree and the signals
    that its bits take, to which those of this tree are added; the sum is then that of the clock before.
    """
    if not leaves:
        return [], "1'b0", 0
    if len(leaves) == 1 and stage is None:
        return [f"wire {name} = {leaves[0].product};"], name, 1
    tree = plan_tree(leaves, stage is not None)
    lines: list[str] = []

    def held(signal: str, width: int) -> str:
        """The same signal behind the register."""
        register, bits = stage
        at = len(bits)
        bits.extend([signal] if width == 1 else [f"{signal}[{bit}]" for bit in range(width)])
        size, part = (f"[{width - 1}:0] ", f"[{at + width - 1}:{at}]") if width > 1 else ("", f"[{at}]")
        lines.append(f"wire {size}{signal}_held = {register}{part};")
        return f"{signal}_held"

    signals = []
    for i, word in enumerate(tree.words):
        thresholds = {leaf.threshold for leaf in word}
        signal, width = f"{name}_w{i}", unsigned_bits(len(word))
        if len(word) == 1:
            lines.append(f"wire {signal} = {word[0].product};")
        elif len(thresholds) == 1:
            total = " + ".join(f"{{{width - 1}'d0, {leaf.tap}}}" for leaf in word)
            gate = thresholds.pop()
            gated = total if gate is None else f"{{{width}{{{gate}}}}} & ({total})"
            lines.append(f"wire [{width - 1}:0] {signal} = {gated};")
        else:
            total = " + ".join(f"{{{width - 1}'d0, {leaf.product}}}" for leaf in word)
            lines.append(f"wire [{width - 1}:0] {signal} = {total};")
        signals.append(signal)
    singles = list(tree.singles)
    for i in sorted(tree.held_singles):
        lines.append(f"wire {name}_c{i} = {singles[i].product};")
        singles[i] = Leaf(held(f"{name}_c{i}", 1), None)
    for i, (a, b, single) in enumerate(tree.adders):
        for node in (a, b):
            if node in tree.held:
                signals[node] = held(signals[node], unsigned_bits(tree.most[node]))
        width, signal = unsigned_bits(tree.most[len(signals)]), f"{name}_s{i}"
        terms = []
        for node in (a, b):
            padding = width - unsigned_bits(tree.most[node])
            terms.append(f"{padding}'d0, {signals[node]}" if padding else signals[node])
        if single is None:
            lines.append(f"wire [{width - 1}:0] {signal} = {{{terms[0]}}} + {{{terms[1]}}};")
        else:
            carry = singles[single]
            gate = carry.threshold or carry.tap
            lines.append(
                f"wire [{width}:0] {signal}_c = {{{terms[0]}, {carry.tap}}} + {{{terms[1]}, {gate}}};"
            )
            lines.append(f"wire [{width - 1}:0] {signal} = {signal}_c[{width}:1];")
        signals.append(signal)
    if len(signals) - 1 in tree.held:
        signals[-1] = held(signals[-1], unsigned_bits(tree.most[-1]))
    return lines, signals[-1], tree.most[-1]

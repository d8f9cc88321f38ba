"""A counterexample as a table, and played again in a simulator."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path


def read_vcd(path: str | Path, top: str) -> tuple[dict[str, int], ...]:
    """The signals of module `top` of a trace, one row per clock; signed ones (I_t, v, ...) as signed numbers.

    An undefined bit counts as 0. Rows begin at clock 0; a time between two clock edges belongs to the clock
    it follows.
    """
    scope: list[str] = []
    names: dict[str, tuple[str, int]] = {}
    values: dict[str, int] = {}
    rows: list[dict[str, int]] = []
    clocked = False
    header, _, body = Path(path).read_text().partition("$enddefinitions $end")
    for kind, text in re.findall(r"\$(scope|upscope|var)\b(.*?)\$end", header, re.DOTALL):
        words = text.split()
        if kind == "scope":
            scope.append(words[1])
        elif kind == "upscope":
            scope.pop()
        elif scope == [top] and len(words) >= 4:
            names[words[2]] = (words[3], int(words[1]))
    rows_at: list[tuple[int, dict[str, int]]] = []
    now = 0
    for line in body.splitlines():
        line = line.strip()
        if line.startswith("#"):
            if values:
                rows_at.append((now, dict(values)))
            now = int(line[1:])
            continue
        match = re.fullmatch(r"b([01xz]+) (\S+)", line) or re.fullmatch(r"([01xz])(\S+)", line)
        if match and match[2] in names:
            name, width = names[match[2]]
            number = int(re.sub("[xz]", "0", match[1]), 2)
            signed = width > 1 and not name.startswith(("smt_", "waiting", "left"))
            values[name] = number - 2**width if signed and number >> (width - 1) else number
    del clocked, rows
    if values:
        rows_at.append((now, dict(values)))
    # yosys-smtbmc writes a clock as 10 time units, clk high in the first five.
    seen: dict[int, dict[str, int]] = {}
    for time, row in rows_at:
        seen.setdefault(time // 10, row)
    clocks = [seen[key] for key in sorted(seen)]
    return tuple(clocks)


def table_text(table: Sequence[Mapping[str, int]]) -> str:
    """The rows as text, one column per signal; internal names (with a dot or a dollar) are left out."""
    if not table:
        return ""
    names = [name for name in table[0] if not re.search(r"[.$\\]|^smt_", name) and name != "clk"]
    cells = [["clock", *names]] + [[str(i), *(str(row.get(n, "")) for n in names)] for i, row in enumerate(table)]
    widths = [max(len(line[c]) for line in cells) for c in range(len(cells[0]))]
    return "\n".join("  ".join(t.rjust(w) for t, w in zip(line, widths, strict=True)) for line in cells)

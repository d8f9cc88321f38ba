"""Verilog that somebody else may have written: what of it may reach a tool.

Tools do what a design says: `$system` and `import "DPI-C"` call programs, "`include" and `$readmemh` read
files, `verilator` comments carry C++, and a file name is a word on a command line. None of it occurs in a
design of ours, so everything that a design of ours does not need is refused, before any tool starts.
"""

import re
from pathlib import Path

from scnas.contract import Refused
from scnas.files import inside, read_text

_FILE = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,60}\.v")
_CALLS = {"$clog2", "$signed", "$unsigned"}
_DIRECTIVES = {"`ifdef SCNAS_DEBUG", "`endif"}
_STRINGS = {'"auto"', '"block"', '"logic"', '"distributed"'}  # of attributes on memories
_WORDS = {"import", "export", "extern", "bind", "assume", "assert", "restrict", "cover", "force", "library"}
_TOKENS = re.compile(
    r"(?P<comment>//[^\n]*|/\*.*?\*/)|(?P<string>\"[^\"\n]*\"?)|(?P<call>\$\w*)|"
    r"(?P<directive>`(?:ifdef +)?\w*)|(?P<escaped>\\)|(?P<word>[A-Za-z_][\w$]*)|(?P<open>/\*)",
    re.DOTALL,
)
_LINT = re.compile(r"/\* verilator lint_o(n|ff) \w+ \*/")


def check(name: str, text: str) -> str:
    """`text` if it only describes logic; ValueError naming the file, the line and the word otherwise."""
    if not text.isascii() or "\0" in text:
        raise Refused(f"{name}: a design must be plain ASCII")
    for token in _TOKENS.finditer(text):
        word = token[0]
        match token.lastgroup:
            case "comment":
                good = "verilator" not in word.lower() or bool(_LINT.fullmatch(word))
            case "string":
                good = word in _STRINGS
            case "call":
                good = word in _CALLS
            case "directive":
                good = re.sub(" +", " ", word) in _DIRECTIVES
            case "word":
                good = word not in _WORDS
            case _:
                good = False
        if not good:
            line = text.count("\n", 0, token.start()) + 1
            raise Refused(
                f"{name}, line {line}: {word[:40]!r} is nothing that a design needs; no tool gets to read it"
            )
    return text


def read_sources(folder: str | Path) -> dict[str, str]:
    """File name -> text of the design in `folder`: every .v file but the testbench.

    Raises ValueError, one line, where there is no design.v, and for what `check` refuses.
    """
    folder = Path(folder)
    if not (folder / "design.v").is_file():
        raise Refused(f"{folder}: no design.v to prove")
    sources = {}
    for path in sorted(folder.glob("*.v")):
        if path.name == "testbench.v":
            continue
        if not _FILE.fullmatch(path.name):
            raise Refused(f"{folder}: {path.name[:40]!r} is no name of a design's file")
        sources[path.name] = check(str(path), read_text(inside(folder, path.name)))
    return sources

"""The command `bitwuzla`, over the Python package: SMT-LIB on stdin, answers on stdout.

    python scnas/equiv/solver.py [--lang smt2] [--time-limit MILLISECONDS]

Made for yosys-smtbmc, which talks to a solver through pipes. Statements are parsed one by one; push and pop
go to the solver object, because the parser counts levels within one call only. Every answer is flushed.
"""

import ctypes
import re
import sys
from collections.abc import Iterable, Iterator


def statements(lines: Iterable[str]) -> Iterator[str]:
    """The statements of an SMT-LIB text that arrives line by line, each as soon as it is complete."""
    text, depth, quoted = "", 0, ""
    for line in lines:
        for c in line:
            if quoted:
                quoted = "" if c == quoted else quoted
            elif c in '|"':
                quoted = c
            elif c == ";":
                break  # a comment
            elif c in "()":
                depth += 1 if c == "(" else -1
            text += c
            if depth == 0 and not quoted and c == ")":
                yield text.strip()
                text = ""
    if text.strip():
        raise ValueError(f"the text ends inside a statement: {text[:80]!r}")


def main(arguments: list[str]) -> int:
    if "--help" in arguments:
        print("usage: bitwuzla [--lang smt2] [--time-limit MILLISECONDS]   (statements on stdin)")
        return 0
    import bitwuzla  # of the extra hardware

    libc = ctypes.CDLL(None)  # the parser prints through C++ streams over stdio
    options = bitwuzla.Options()
    options.set(bitwuzla.Option.PRODUCE_MODELS, True)
    if "--time-limit" in arguments:
        limit = int(arguments[arguments.index("--time-limit") + 1])
        options.set(bitwuzla.Option.TIME_LIMIT_PER, limit)
    parser = bitwuzla.Parser(bitwuzla.TermManager(), options)
    try:
        for statement in statements(iter(sys.stdin.readline, "")):
            level = re.fullmatch(r"\(\s*(push|pop)\s*(\d*)\s*\)", statement)
            if statement == "(exit)":
                return 0
            if level:
                getattr(parser.bitwuzla(), level[1])(int(level[2] or 1))
            elif not statement.startswith("(set-option :produce-models"):  # set above, before the parser
                parser.parse(statement, False, False)
            libc.fflush(None)
    except (ValueError, bitwuzla.BitwuzlaException) as error:
        text = str(error).replace('"', "'")
        print(f'(error "{text}")', flush=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

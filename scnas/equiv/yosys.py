"""The command `yosys`, over the Python package pyosys: what SymbiYosys and the proofs here start.

    python scnas/equiv/yosys.py [-q] [-l LOG | -ql LOG] [-p COMMANDS] [-s SCRIPT] [FILE ...]

A FILE ending in .ys is a script, any other one is read as Verilog. Imports nothing of ours, so that it
starts at once; Yosys ends the process with 1 when a command fails.
"""

import os
import sys


def main(arguments: list[str]) -> int:
    """Run the commands; 0 unless the command line is wrong (2). A failing command exits with 1 by itself."""
    from pyosys import libyosys as ys  # of the extra hardware

    design = ys.Design()
    log, commands = None, []
    rest = iter(arguments)
    for word in rest:
        match word:
            case "-q" | "-Q" | "-T" | "-qq":
                continue
            case "-l" | "-ql" | "-lq":
                log = next(rest, None)
            case "-p":
                commands += [line for line in next(rest, "").replace(";", "\n").splitlines() if line.strip()]
            case "-s":
                commands.append(f"script {next(rest, '')}")
            case _ if word.startswith("-"):
                print(f"yosys: option {word} is not known here", file=sys.stderr)
                return 2
            case _:
                commands.append(f"script {word}" if word.endswith(".ys") else f"read_verilog {word}")
    if log is not None:  # Yosys prints to stdout; errors go to stderr as well
        os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644), 1)
    for command in commands:
        ys.run_pass(command, design)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""The flags of the command line, read before Hydra reads them: what is wrong is refused in one line."""

import argparse
from collections.abc import Sequence
from typing import NoReturn

from scnas.contract import Refused


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise Refused(f"{message}; --help shows the command line")


def _parser() -> _Parser:
    parser = _Parser(add_help=False)
    parser.add_argument("overrides", nargs="*")
    for names in (
        ("--help", "-h"),
        ("--hydra-help",),
        ("--version",),
        ("--resolve",),
        ("--run", "-r"),
        ("--multirun", "-m"),
        ("--shell-completion", "-sc"),
    ):
        parser.add_argument(*names, action="store_true")
    for names in (
        ("--package", "-p"),
        ("--config-path", "-cp"),
        ("--config-name", "-cn"),
        ("--config-dir", "-cd"),
        ("--experimental-rerun",),
    ):
        parser.add_argument(*names)
    parser.add_argument("--cfg", "-c", choices=("job", "hydra", "all"))
    info = ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath")
    parser.add_argument("--info", "-i", nargs="?", const="all", choices=info)
    return parser


PARSER = _parser()


def read(words: Sequence[str]) -> argparse.Namespace:
    """The flags and the overrides among `words`, as Hydra 1.3 will read them; Refused if it would not.

    overrides: the words that set something. multirun: whether it is a sweep. version: whether the version of
    scnas is asked for. What the other flags mean, Hydra finds out by itself.
    """
    found = PARSER.parse_args(words)
    if found.experimental_rerun is not None:
        raise Refused("--experimental-rerun is not offered: it executes what a pickle file says")
    return found

"""Ctrl-C: who hears of it, and what it ends."""

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType, TracebackType


class Interruptible:
    """A bracket around one stage of a run after the other: Ctrl-C ends the stage it meets, and no more.

    seen: whether a stage was ended so; what would take long after that is left out by whoever asks.
    """

    def __init__(self) -> None:
        self.seen = False

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> bool:
        if kind is None or not issubclass(kind, KeyboardInterrupt):
            return False
        self.seen = True
        return True


@contextlib.contextmanager
def noted() -> Iterator[list[int]]:
    """Yields a list that is no longer empty once Ctrl-C was pressed, even if the run ended well on it."""
    seen: list[int] = []
    try:
        before = signal.getsignal(signal.SIGINT)

        def note(number: int, frame: FrameType | None) -> None:
            seen.append(number)
            if callable(before):
                before(number, frame)

        if callable(before):
            signal.signal(signal.SIGINT, note)
    except ValueError:  # not the main thread: nobody presses Ctrl-C here
        before = None
    try:
        yield seen
    finally:
        if callable(before):
            signal.signal(signal.SIGINT, before)

"""Ctrl-C: which stage it ends, and who hears of it."""

import os
import signal

import pytest

from scnas import interrupts
from scnas.interrupts import Interruptible


def press() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def test_a_stage_ends_where_it_is_met_and_the_next_goes_on():
    stage, done = Interruptible(), []
    with stage:
        done.append("first")
    assert not stage.seen
    with stage:
        done.append("second")
        press()
        done.append("not this")
    assert stage.seen
    with stage:
        done.append("third")
    assert stage.seen and done == ["first", "second", "third"]


@pytest.mark.parametrize("error", [ValueError, SystemExit, GeneratorExit])
def test_whatever_else_ends_a_stage_ends_the_run(error):
    stage = Interruptible()
    with pytest.raises(error), stage:
        raise error
    assert not stage.seen


def test_it_is_noted_even_where_a_stage_ends_well_on_it():
    before = signal.getsignal(signal.SIGINT)
    with interrupts.noted() as quiet:
        pass
    with interrupts.noted() as seen:
        with Interruptible():
            press()
    assert quiet == [] and seen == [signal.SIGINT]
    assert signal.getsignal(signal.SIGINT) is before

"""Signals end a block like Ctrl-C does, wait for what is shielded, and make what fails after them no failure."""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest

from pipelines.engine.interrupts import interrupted_by, shielded, unshielded, was_interrupted
from pipelines.engine.machines.lanes import interrupt

BOTH = (signal.SIGINT, signal.SIGTERM)


def come(number: signal.Signals) -> None:
    """A signal, and time for Python to notice it."""
    os.kill(os.getpid(), number)
    time.sleep(0.01)


@pytest.mark.parametrize("number", BOTH)
def test_a_signal_ends_the_block_and_handlers_are_as_before(number: signal.Signals) -> None:
    before = [signal.getsignal(each) for each in BOTH]
    with pytest.raises(KeyboardInterrupt), interrupted_by(*BOTH):
        assert not was_interrupted()
        come(number)
    assert [signal.getsignal(each) for each in BOTH] == before and not was_interrupted()


def test_an_error_after_a_signal_is_the_signals_and_without_one_it_is_itself() -> None:
    with pytest.raises(KeyboardInterrupt) as found, interrupted_by(*BOTH):
        with pytest.raises(KeyboardInterrupt):
            come(signal.SIGTERM)
        assert was_interrupted()
        raise RuntimeError("a worker died")
    assert isinstance(found.value.__cause__, RuntimeError)
    with pytest.raises(RuntimeError), interrupted_by(*BOTH):
        raise RuntimeError("a worker died")


def test_a_shield_is_finished_first_also_one_within_another() -> None:
    done = []
    with pytest.raises(KeyboardInterrupt), interrupted_by(*BOTH), shielded():
        with shielded():
            come(signal.SIGINT)
            done.append("inner")
        done.append("outer")
    assert done == ["inner", "outer"]


def test_a_second_signal_does_not_wait() -> None:
    done = []
    with pytest.raises(KeyboardInterrupt), interrupted_by(*BOTH), shielded():
        come(signal.SIGINT)
        done.append("first")
        come(signal.SIGINT)
        done.append("second")
    assert done == ["first"]


def test_a_thread_is_broken_off_outside_of_its_shield_only() -> None:
    written, inside = [], threading.Event()

    def write() -> None:
        try:
            with shielded():
                inside.set()
                time.sleep(0.2)
                written.append("whole")
            while True:
                time.sleep(0.01)
        except KeyboardInterrupt:
            written.append("ended")

    thread = threading.Thread(target=write, daemon=True)
    thread.start()
    assert inside.wait(60)
    interrupt([thread], seconds=60)
    assert written == ["whole", "ended"] and not thread.is_alive()


def test_what_never_leaves_its_shield_is_not_waited_for_forever() -> None:
    leave, inside = threading.Event(), threading.Event()

    def stay() -> None:
        with shielded():
            inside.set()
            leave.wait(60)

    thread = threading.Thread(target=stay, daemon=True)
    thread.start()
    assert inside.wait(60)
    with unshielded(0.05):
        leave.set()
    thread.join(60)
    assert not thread.is_alive()

"""Signals that end a program as Ctrl-C does, and blocks that they must not interrupt.

What fails after such a signal fails because of it: workers and databases get it, too. So the end of a run asks
`was_interrupted` before it calls anything a failure.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class _Interrupts:
    """State of this process, the only one that gets the signals."""

    def __init__(self) -> None:
        self.lock = threading.RLock()  # held by a thread inside a block that must not be interrupted
        self.came = self.waits = False
        self.depth = 0  # nested shields of the main thread

    def arrive(self, *_: object) -> None:
        """The handler: ends the main thread at once, or after its shield. A second signal does not wait."""
        again, self.came = self.came and self.waits, True
        if self.depth and not again:
            self.waits = True
            return
        self.waits = False
        raise KeyboardInterrupt

    def raise_what_waits(self) -> None:
        if self.waits and not self.depth:
            self.waits = False
            raise KeyboardInterrupt


_interrupts = _Interrupts()


def was_interrupted() -> bool:
    """Whether a signal has come in the block of `interrupted_by` that this process is in."""
    return _interrupts.came


@contextmanager
def interrupted_by(*numbers: signal.Signals) -> Iterator[None]:
    """Within the block these signals raise KeyboardInterrupt, and any error after one is turned into it.

    No change outside of the main thread, which alone can handle signals.
    """
    if not _in_main_thread():
        yield
        return
    _interrupts.came = _interrupts.waits = False
    before = {number: signal.signal(number, _interrupts.arrive) for number in numbers}
    try:
        yield
    except Exception as error:
        if was_interrupted():
            raise KeyboardInterrupt from error
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _interrupts.came = _interrupts.waits = False


@contextmanager
def shielded() -> Iterator[None]:
    """A block that no signal and no `unshielded` thread interrupts; one at a time in this process, and short.

    A write to a database for instance: broken off in the middle of its own clean-up, it leaves the database locked.
    """
    main = _in_main_thread()
    with _interrupts.lock:
        _interrupts.depth += main
        try:
            yield
        finally:
            _interrupts.depth -= main
    if main:
        _interrupts.raise_what_waits()


@contextmanager
def unshielded(seconds: float) -> Iterator[None]:
    """A block during which no other thread is inside `shielded`; after so many seconds it is no longer waited for."""
    got = _interrupts.lock.acquire(timeout=seconds)
    try:
        yield
    finally:
        if got:
            _interrupts.lock.release()


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()

"""Models side by side: every lane works on one model at a time, in a thread, with its share of the cluster."""

from __future__ import annotations

import ctypes
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass

from pipelines.engine.interrupts import unshielded

_GRACE_SECONDS = 20  # for the stages of an interrupted run to save what they have


@dataclass(frozen=True)
class Share:
    """One part of a cluster: the `rank`-th of `of` about equal ones."""

    rank: int = 0
    of: int = 1

    def part(self, workers: int) -> int:
        """How many of so many workers fall to this share."""
        return workers // self.of + (self.rank < workers % self.of)


WHOLE = Share()
Job = Callable[[Callable[[], Share]], None]
"""What is done for one model; it asks for its share at every stage, since others may have left meanwhile."""


class Shares:
    """The lanes that share a cluster now. Shares only grow: those of a finished lane go to the others."""

    def __init__(self, lanes: int) -> None:
        self._lanes = list(range(lanes))
        self._lock = threading.Lock()

    def of(self, lane: int) -> Share:
        with self._lock:
            return Share(self._lanes.index(lane), len(self._lanes))

    def leave(self, lane: int) -> None:
        with self._lock:
            self._lanes.remove(lane)


def side_by_side(jobs: Mapping[str, Job], lanes: int) -> dict[str, Exception]:
    """Do all jobs, so many at a time; returns the errors by the jobs' names. A failure does not affect the other jobs.

    Ctrl-C reaches every job. With one lane the jobs run in this thread, one after the other.
    """
    errors: dict[str, Exception] = {}
    waiting = deque(jobs.items())
    shares = Shares(lanes)

    def work(lane: int) -> None:
        while waiting:
            try:
                name, job = waiting.popleft()
            except IndexError:  # another lane took the last job
                break
            try:
                job(lambda: shares.of(lane))
            except Exception as error:  # noqa: BLE001  whatever it is, the other models go on
                errors[name] = error
        shares.leave(lane)

    if lanes == 1:
        work(0)
    else:
        _in_threads(work, lanes, waiting)
    return errors


def beside(work: Callable[[], object], aside: Callable[[], object]) -> None:
    """Do `aside` in a thread while `work` is done in this one, where Ctrl-C arrives at once; returns after both.

    An error of `work` ends both, one of `aside` is raised when `work` is done.
    """
    errors: list[Exception] = []

    def run() -> None:
        with suppress(KeyboardInterrupt):
            try:
                aside()
            except Exception as error:  # noqa: BLE001  raised below
                errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        work()
        while thread.is_alive():
            thread.join(0.1)
    except BaseException:
        interrupt([thread])
        raise
    if errors:
        raise errors[0]


def _in_threads(work: Callable[[int], None], lanes: int, waiting: deque[tuple[str, Job]]) -> None:
    threads = [threading.Thread(target=_quietly, args=(work, lane), daemon=True) for lane in range(lanes)]
    for thread in threads:
        thread.start()
    try:
        while any(thread.is_alive() for thread in threads):
            time.sleep(0.1)
    except BaseException:
        waiting.clear()
        interrupt(threads)
        raise


def _quietly(work: Callable[[int], None], lane: int) -> None:
    with suppress(KeyboardInterrupt):  # the main thread has it too, and says so
        work(lane)


def interrupt(threads: list[threading.Thread], seconds: float = _GRACE_SECONDS) -> None:
    """Ctrl-C for threads, which Python itself gives to the main thread alone; waits so long for them to end.

    None is broken off inside `interrupts.shielded`.
    """
    until = time.monotonic() + seconds
    with unshielded(seconds):
        for thread in threads:
            if thread.ident is not None and thread.is_alive():
                ctypes.pythonapi.PyThreadState_SetAsyncExc(
                    ctypes.c_ulong(thread.ident), ctypes.py_object(KeyboardInterrupt)
                )
    for thread in threads:
        thread.join(max(0.0, until - time.monotonic()))

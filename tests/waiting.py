"""Waiting in tests: for events, with one limit so wide that no busy machine meets it.

A test never asserts how long something took. What waits here ends when the event is there; it fails before the limit
only when the process it waits for has died, and then shows the output of that process.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

LIMIT = 1800.0  # seconds; pytest's faulthandler_timeout is longer, so that the limit speaks first
LONGER = 2 * int(LIMIT)  # for a process that must still be there when all waiting is over
_PAUSE = 0.02  # close enough to stop a run in the middle of something
_SHOWN = 6000  # characters of a process's output

_T = TypeVar("_T")
Output = Path | Callable[[], str] | None
"""Where the process writes to, or what returns it."""


def wait_until(
    happened: Callable[[], _T],
    what: str,
    *,
    process: subprocess.Popen[Any] | None = None,
    output: Output = None,
    pause: float = _PAUSE,
) -> _T:
    """The first true value of `happened()`. Fails when `process` ends before, or nothing happened within LIMIT."""
    deadline = time.monotonic() + LIMIT
    while not (found := happened()):
        # Asked once more after its end: what it did last may be what is waited for.
        if process is not None and process.poll() is not None and not (found := happened()):
            raise AssertionError(f"exit status {process.returncode} before: {what}{_shown(output)}")
        if found:
            break
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {LIMIT:g} s: {what}{_shown(output)}")
        time.sleep(pause)
    return found


def end_of(process: subprocess.Popen[Any], what: str, *, output: Output = None) -> int:
    """Wait for the end of a process; returns its exit status."""
    try:
        return process.wait(LIMIT)
    except subprocess.TimeoutExpired:
        raise AssertionError(f"still running after {LIMIT:g} s: {what}{_shown(output)}") from None


def is_alive(pid: int) -> bool:
    """Whether there is such a process; one that ended and nobody waited for counts."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def run(command: Sequence[str], **how: Any) -> subprocess.CompletedProcess[str]:
    """A command to its end, with its output as text."""
    return subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, **how)


def _shown(output: Output) -> str:
    if isinstance(output, Path):
        text = output.read_text(encoding="utf-8", errors="replace")
    else:
        text = output() if output else ""
    return f"; its output:\n{text[-_SHOWN:]}" if text else ""

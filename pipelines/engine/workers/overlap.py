"""Reading and writing in threads: while one item is worked on, the next is read and the one before is written.

One item ahead and one behind, no more: memory holds three. A device then does not wait for the disk.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Generic, TypeVar

T = TypeVar("T")
_GRACE_SECONDS = 20.0  # for what is being written when the work ends early


class Aside(threading.Thread, Generic[T]):
    """A call in a thread of its own, started at once."""

    def __init__(self, call: Callable[..., T], *arguments: Any) -> None:
        super().__init__(daemon=True)  # a read whose result is no longer needed must not delay the end
        self._call, self._arguments = call, arguments
        self._found: list[T] = []
        self._error: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            self._found.append(self._call(*self._arguments))
        except BaseException as error:  # noqa: BLE001  raised by `found`
            self._error = error

    def found(self) -> T:
        """Waits and returns what the call returned; raises what it raised, with the traceback of its own thread."""
        while self.is_alive():
            self.join(0.1)  # short waits, which Ctrl-C ends also in a thread
        if self._error is not None:
            raise self._error
        return self._found[0]


def overlapped(
    names: Sequence[str],
    *,
    read: Callable[[str], Any],
    make: Callable[[str, Any], Any],
    write: Callable[[str, Any], T],
) -> Iterator[T]:
    """What `write(name, make(name, read(name)))` returns for each name, in order, once it has returned.

    `make` runs in the caller's thread, one after the other; meanwhile a thread reads for the next name and another
    writes what was made for the one before. Whatever fails is raised here; what is made by then is still written.
    """
    behind: Aside[T] | None = None
    ahead = [Aside(read, name) for name in names[:1]]
    try:
        for place, name in enumerate(names):
            got = ahead.pop().found()
            ahead += [Aside(read, following) for following in names[place + 1 : place + 2]]
            made = make(name, got)
            del got
            written = [] if behind is None else [behind.found()]
            behind = Aside(write, name, made)
            del made
            yield from written
        if behind is not None:
            yield behind.found()
    finally:
        if behind is not None:
            behind.join(_GRACE_SECONDS)

"""One writer to MLflow among the threads of a process, and a server that is away for a while is waited for.

MLflow's own retries are not used: they repeat single requests, and a request whose answer was lost would make a second
run. Here a whole operation is repeated, which first looks for what it made before.
"""

from __future__ import annotations

import functools
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, Concatenate, ParamSpec, TypeVar

from mlflow.exceptions import MlflowException
from requests import RequestException

from pipelines.engine.failure import is_disk_full
from pipelines.engine.interrupts import shielded, was_interrupted
from pipelines.tracking.connection.store import WRITE_ERRORS, TrackingError, reason

SERVER_SECONDS = 600.0  # a server is restarted or updated within minutes; past that a run that goes on later costs less
FILE_SECONDS = 60.0  # SQLite is only ever locked, by another run's write
CLOSING_SECONDS = 10.0  # after Ctrl-C: a lock is over by then, and a server that is away closes no run
FIRST_WAIT, LONGEST_WAIT = 0.2, 5.0  # a connection the server just closed is there again at once
_COLLISIONS = ("UniqueViolation", "UNIQUE constraint failed", "Duplicate entry")  # PostgreSQL, SQLite, MySQL
_BUSY = {429, 502, 503, 504}  # also a locked or restarting database, as MLflow reports it

P = ParamSpec("P")
T = TypeVar("T")

log = logging.getLogger(__name__)


class Patience:
    """Runs operations one at a time and repeats one, whole, while MLflow is away or when it met another run's.

    Args:
        name: what to call the store when it is away, without credentials.
        seconds: how long an operation is repeated before TrackingError.

    The lock is free during a wait, and re-entrant: an operation within another belongs to it and is not repeated alone.
    """

    def __init__(self, name: str, seconds: float) -> None:
        self.name, self.seconds = name, seconds
        self._lock = threading.RLock()
        self._thread = threading.local()
        self._away_since: float | None = None  # since when the user has been informed
        self._gave_up = False  # an operation waited without success, or Ctrl-C came: the next ones try only once
        self._shield = shielded if seconds <= FILE_SECONDS else nullcontext  # a server may take minutes to answer

    def __call__(self, operation: Callable[[], T]) -> T:
        """The operation's result. Raises TrackingError when MLflow stays away; other errors are raised at once."""
        if getattr(self._thread, "inside", False):
            return operation()
        started, wait = time.monotonic(), FIRST_WAIT
        while True:
            try:
                return self._attempt(operation)
            except WRITE_ERRORS as error:
                if not (collided(error) and wait < LONGEST_WAIT):
                    if not is_away(error) or (self._is_hurried and wait > FIRST_WAIT):
                        raise
                    self._check(error, time.monotonic() - started, report=wait > FIRST_WAIT)
            self._sleep(wait)
            wait = min(wait * 3, LONGEST_WAIT)

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Inside, operations of this thread are not waited for: after one quick repetition their error is raised."""
        before, self._thread.hurried = self._is_hurried, True
        try:
            yield
        finally:
            self._thread.hurried = before

    @property
    def _is_hurried(self) -> bool:
        return getattr(self._thread, "hurried", False)

    def _attempt(self, operation: Callable[[], T]) -> T:
        with self._lock, self._shield():
            self._thread.inside = True
            try:
                result = operation()
            finally:
                self._thread.inside = False
            if self._away_since is not None:
                log.warning("MLflow answers again after %.0f s", time.monotonic() - self._away_since)
            self._away_since, self._gave_up = None, False
            return result

    def _check(self, error: Exception, waited: float, *, report: bool) -> None:
        """Tell the user once in an outage that the run waits. Raises TrackingError after the longest wait."""
        if self._is_hurried:
            return
        most = min(self.seconds, CLOSING_SECONDS) if was_interrupted() else self.seconds
        if self._gave_up or waited > most:
            self._gave_up = True
            raise TrackingError(
                f"expected MLflow at {self.name} to answer, got {reason(error)}; waited {waited:.0f} s. "
                "Start it, then run the same command again: what is finished is kept."
            ) from error
        with self._lock:
            if report and self._away_since is None:
                self._away_since = time.monotonic() - waited
                log.warning(
                    "MLflow at %s does not answer (%s); the run waits for it, up to %.0f minutes",
                    self.name, reason(error), self.seconds / 60,
                )  # fmt: skip

    def _sleep(self, seconds: float) -> None:
        try:
            time.sleep(seconds)
        except BaseException:  # Ctrl-C: what closes the runs must not start waiting for a server again
            self._gave_up = self.seconds > FILE_SECONDS
            raise


def patiently(method: Callable[Concatenate[Any, P], T]) -> Callable[Concatenate[Any, P], T]:
    """For a Tracker's methods, and functions whose first argument is one: run under its `patience`.

    Repeating the method must be safe, and its arguments must not be used up by an attempt.
    """

    @functools.wraps(method)
    def repeated(tracker: Any, *args: P.args, **kwargs: P.kwargs) -> T:
        return tracker.patience(lambda: method(tracker, *args, **kwargs))

    return repeated


def is_away(error: BaseException) -> bool:
    """Whether an error says that the store does not answer now, rather than that it refuses."""
    if is_disk_full(error):
        return False  # MLflow calls it unavailable, too, but waiting makes no room
    if isinstance(error, MlflowException) and error.get_http_status_code() in _BUSY:
        return True
    cause: BaseException | None = error
    while cause is not None:  # MLflow wraps what its HTTP library raised
        if isinstance(cause, RequestException):
            return cause.response is None or cause.response.status_code in _BUSY | {500}
        cause = cause.__cause__ or cause.__context__
    return False


def collided(error: BaseException) -> bool:
    """Whether another run made the same row at the same moment, as two do that read one data set.

    MLflow looks for a row, makes it when there is none, and hands on what the database says when that was too late. An
    operation that is repeated finds the row.
    """
    return isinstance(error, MlflowException) and any(text in str(error) for text in _COLLISIONS)

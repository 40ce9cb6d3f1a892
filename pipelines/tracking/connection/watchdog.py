"""A sidecar that closes the MLflow runs of a driver that was killed (kill -9, out of memory).

The driver holds the write end of a pipe; this file, run as a script, holds the read end. The kernel closes the pipe
whatever kills the driver. Unless "done" was written before, every run of that driver's session still RUNNING becomes
KILLED. Only the standard library is imported until then: a clean end costs nothing.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import IO

DONE = b"done\n"
WAITS = (0, 1, 2, 5, 10, 20, 40, *[60] * 9)  # seconds before each attempt: a database or a server comes back


# A job system that signals all processes must not end the sidecar before the driver.
IGNORED = (signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else []))


class Watchdog:
    """The driver's end. Use as a context manager, or call `done()` once every run has its final status.

    Leaving the `with` block by an exception does not say "done": what the driver did not close is closed as KILLED.
    """

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self._pipe: IO[bytes] | None = process.stdin
        # A child forked without exec (multiprocessing) would keep the pipe open past the driver's death.
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._close_in_child)

    @classmethod
    def start(cls, uri: str, parent_id: str, *, session: str, log: Path | None = None) -> Watchdog:
        """Start the sidecar for the run `parent_id` and everything below it that carries `session`.

        Args:
            uri: MLflow store, with an absolute path when it is SQLite (`Tracker.uri` is).
            session: `Tracker.session`; runs a later driver has taken over carry another and are left alone.
            log: file to which the sidecar appends what it did; None discards it.
        """
        with open(log or os.devnull, "ab") as stderr, _deaf():
            process = subprocess.Popen(
                # -P: with this folder first on the path, `import store` anywhere in MLflow would find ours.
                [sys.executable, "-P", str(Path(__file__).resolve())],
                stdin=subprocess.PIPE,
                bufsize=0,  # nothing is left to flush into the pipe of a sidecar that was killed
                stdout=subprocess.DEVNULL,  # an inherited one would keep `nullspace run | tee` waiting
                stderr=stderr,
                close_fds=True,
                start_new_session=True,  # out of reach of Ctrl-C and of a kill of the driver's process group
            )
        watchdog = cls(process)
        # Through the pipe, not the command line: `ps` shows command lines, and the URI may hold a password.
        watchdog._write(json.dumps({"uri": uri, "parent_id": parent_id, "session": session}).encode() + b"\n")
        return watchdog

    def done(self) -> None:
        """Every run has its final status: end the sidecar. Safe to call twice."""
        self._write(DONE)
        self.abandon()
        # On a busy machine it may still be starting: it will read "done" and leave by itself.
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout=2)

    def abandon(self) -> None:
        """Close the pipe without "done": the sidecar will close what is still RUNNING."""
        if self._pipe is not None and not self._pipe.closed:
            self._pipe.close()

    def __enter__(self) -> Watchdog:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None):
        if error is None:
            self.done()
        else:
            self.abandon()

    def _write(self, line: bytes) -> None:
        if self._pipe is None or self._pipe.closed:
            return
        # Broken when the sidecar was killed: the next start of the pipeline cleans up instead of it.
        with contextlib.suppress(BrokenPipeError):
            self._pipe.write(line)

    def _close_in_child(self) -> None:
        if self._pipe is not None and not self._pipe.closed:
            self._pipe.close()


@contextlib.contextmanager
def _deaf() -> Iterator[None]:
    """A process started within it does not get these signals until it takes them: not even while Python starts.

    They reach this thread when it is over.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, IGNORED)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def main() -> None:
    """The sidecar: read until the pipe closes, then close runs unless "done" was written."""
    for number in IGNORED:
        signal.signal(number, signal.SIG_IGN)
    order, _, rest = sys.stdin.buffer.read().partition(b"\n")
    if rest.endswith(DONE) or not order:
        return
    close_with_patience(**json.loads(order))


def close_with_patience(uri: str, parent_id: str, session: str) -> None:
    """`close_runs`, tried again for about ten minutes while the store is away or locked."""
    for wait in WAITS:
        time.sleep(wait)
        try:
            _tell(f"driver of run {parent_id} died; closed as KILLED: {close_runs(uri, parent_id, session)}")
            return
        except Exception as error:  # noqa: BLE001  any store error may pass, and there is no caller to raise it to
            story = str(error).replace(uri, "the store")  # the URI may hold a password
            _tell(f"could not close the runs of {parent_id}: {type(error).__name__} {story}")


def close_runs(uri: str, parent_id: str, session: str) -> list[str]:
    """Set every run of this session that is RUNNING to KILLED; returns their ids."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    experiment_id = client.get_run(parent_id).info.experiment_id
    wanted = f"attributes.status = 'RUNNING' and tags.`nullspace.session` = '{session}'"
    closed: list[str] = []
    while page := client.search_runs([experiment_id], wanted):  # closed runs leave the answer: no page tokens
        for run in page:
            # Asked again right before writing: a resumed driver may have taken the run over meanwhile.
            if client.get_run(run.info.run_id).data.tags.get("nullspace.session") == session:
                client.set_terminated(run.info.run_id, "KILLED")
                closed.append(run.info.run_id)
    return closed


def _tell(text: str) -> None:
    sys.stderr.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} watchdog: {text}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    main()

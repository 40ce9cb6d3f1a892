"""Following the log of a job to its end, and retrying after failures that were not caused by the input."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from cluster.errors import JobError
from cluster.jobs import Job, JobServer, Unreachable
from cluster.order import Order

# Bad input, a wrong option, a missing command: the next attempt would end the same way.
FINAL_CODES = (1, 2, 126, 127)
PATIENCE_S = 60.0  # for a broken tunnel or a busy head
_PAUSE_S = 1.0
_UNREAD = 3
_MLFLOW = "mlflow "


@dataclass
class Log:
    """The output of jobs, passed on line by line, each once, also across reconnections."""

    write: Callable[[str], None]
    mlflow: str | None = None
    """The line with the address of the run in MLflow, once a job has printed it."""
    _shown: int = 0
    _seen: int = 0
    _rest: str = ""

    def begin_job(self) -> None:
        """Another job's output follows."""
        self._shown, self._rest = 0, ""

    def begin(self) -> None:
        """The job's log follows from its beginning, again."""
        self._seen = 0

    def add(self, text: str) -> None:
        """The next piece, which may end inside a line."""
        new = text[max(self._shown - self._seen, 0) :]
        self._seen += len(text)
        self._shown = max(self._shown, self._seen)
        *lines, self._rest = (self._rest + new).split("\n")
        for line in lines:
            self._line(line)

    def end(self) -> None:
        """The log is complete: a last line without newline is passed on too."""
        if self._rest:
            self._line(self._rest)
            self._rest = ""

    def _line(self, line: str) -> None:
        if line.startswith(_MLFLOW):
            self.mlflow = line
        self.write(line)


def follow(server: JobServer, job_id: str, log: Log) -> Job:
    """Pass on the log until the job is over. Raises JobError when the server does not answer for a minute."""
    log.begin_job()
    answered, unread = time.monotonic(), 0
    while True:
        whole = asyncio.run(_tail(server, job_id, log))
        try:
            job = server.job(job_id)
        except Unreachable as error:
            if time.monotonic() - answered > PATIENCE_S:
                raise JobError(f"lost contact with {job_id}, which may still run: {error}") from error
        else:
            answered = time.monotonic()
            unread += job.is_over and not whole
            # If its node is lost, a log cannot be read to its end; that must not keep this loop going.
            if job.is_over and (whole or unread > _UNREAD):
                log.end()
                return job
        time.sleep(_PAUSE_S)


async def _tail(server: JobServer, job_id: str, log: Log) -> bool:
    """Pass on the log as it grows; returns whether it was read to its end."""
    log.begin()
    pieces = server.client.tail_job_logs(job_id)
    while True:
        try:
            piece = await anext(pieces, None)
        except Exception:  # noqa: BLE001  however the connection broke: the caller asks whether the job still runs
            return False
        if piece is None:
            return True
        log.add(piece)


def follow_and_retry(
    server: JobServer, order: Order, job: Job, retries: int, *, say: Callable[[str], None], log: Log
) -> Iterator[Job]:
    """Follow a job to its end; start it again, at most `retries` times, if its failure was not caused by the input.

    Every attempt works in the same folder, so it resumes where the last one stopped. Yields every attempt twice: before
    it is followed, and when it is over.
    """
    for left in range(retries, -1, -1):
        yield job
        job = follow(server, job.id, log)
        if left and job.state == "FAILED" and job.code not in FINAL_CODES:
            say(f"failed       {job.id}, exit code {job.code}: {job.reason}")
            time.sleep(_PAUSE_S)
            job = server.submit(order)
            say(f"submitted    {job.id}, which resumes in {order.workdir}; {left - 1} more attempts after it")
        else:
            yield job
            return

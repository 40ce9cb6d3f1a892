"""Reading along with a job until it is over, and trying again what nobody's input has failed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from cluster.errors import JobError
from cluster.jobs import Job, JobServer, Unreachable
from cluster.order import Order

# Bad input, a wrong option, a command that is not there: the next attempt would end the same way.
FINAL_CODES = (1, 2, 126, 127)
PATIENCE_S = 60.0  # a tunnel that broke or a head that is busy comes back
_PAUSE_S = 1.0
_UNREAD = 3
_MLFLOW = "mlflow "


@dataclass
class Log:
    """What jobs print, handed on line by line, each once, also when the connection had to be made anew."""

    write: Callable[[str], None]
    mlflow: str | None = None
    """The line with the address of the run in MLflow, once a job has said it."""
    _shown: int = 0
    _seen: int = 0
    _rest: str = ""

    def begin_job(self) -> None:
        """What comes now is another job's."""
        self._shown, self._rest = 0, ""

    def begin(self) -> None:
        """What comes now is the job's log from its beginning, again."""
        self._seen = 0

    def add(self, text: str) -> None:
        """The next piece, cut anywhere."""
        new = text[max(self._shown - self._seen, 0) :]
        self._seen += len(text)
        self._shown = max(self._shown, self._seen)
        *lines, self._rest = (self._rest + new).split("\n")
        for line in lines:
            self._line(line)

    def end(self) -> None:
        """No more will come: a last line without its end is a line."""
        if self._rest:
            self._line(self._rest)
            self._rest = ""

    def _line(self, line: str) -> None:
        if line.startswith(_MLFLOW):
            self.mlflow = line
        self.write(line)


def follow(server: JobServer, job_id: str, log: Log) -> Job:
    """Hand on the log until the job is over. Raises JobError when nobody answers for a minute."""
    log.begin_job()
    answered, unread = time.monotonic(), 0
    while True:
        whole = asyncio.run(_tail(server, job_id, log))
        try:
            job = server.job(job_id)
        except Unreachable as error:
            if time.monotonic() - answered > PATIENCE_S:
                raise JobError(f"lost sight of {job_id}, which may still run: {error}") from error
        else:
            answered = time.monotonic()
            unread += job.is_over and not whole
            # A log that cannot be read to its end, because its node is gone, does not keep the job open for ever.
            if job.is_over and (whole or unread > _UNREAD):
                log.end()
                return job
        time.sleep(_PAUSE_S)


async def _tail(server: JobServer, job_id: str, log: Log) -> bool:
    """Hand on what the log holds and gets; returns whether it was read to its end."""
    log.begin()
    pieces = server.client.tail_job_logs(job_id)
    while True:
        try:
            piece = await anext(pieces, None)
        except Exception:  # noqa: BLE001  however the connection broke: the caller asks whether the job lives on
            return False
        if piece is None:
            return True
        log.add(piece)


def see_through(
    server: JobServer, order: Order, job: Job, retries: int, *, say: Callable[[str], None], log: Log
) -> Iterator[Job]:
    """Follow a job to its end and start it again, at most `retries` times, when its failure was nobody's input.

    Every attempt works in the same folder, so it goes on where the last one stopped. Yields every attempt twice: when
    it is about to be followed, and when it is over.
    """
    for left in range(retries, -1, -1):
        yield job
        job = follow(server, job.id, log)
        if left and job.state == "FAILED" and job.code not in FINAL_CODES:
            say(f"failed       {job.id}, exit code {job.code}: {job.reason}")
            time.sleep(_PAUSE_S)
            job = server.submit(order)
            say(f"submitted    {job.id}, which goes on in {order.workdir}; {left - 1} more attempts after it")
        else:
            yield job
            return

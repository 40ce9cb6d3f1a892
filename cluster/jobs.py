"""Ray's job server as nullspace uses it: connecting, listing, submitting, stopping. `follow.py` follows logs."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, TypeVar

from cluster.errors import INTERRUPTED, JobError
from cluster.order import STOP_SECONDS, Order
from pipelines.engine.failure import FAULT

if TYPE_CHECKING:
    from ray.job_submission import JobDetails, JobSubmissionClient

DEFAULT_ADDRESS = "http://127.0.0.1:8265"
PREFIX = "nullspace-"
# In Ray, RAY_ADDRESS takes precedence over the address passed to it, and RAY_API_SERVER_ADDRESS over both.
_OVERRULING = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")
_T = TypeVar("_T")


@dataclass(frozen=True)
class Job:
    """One attempt, as the cluster knows it. Times in seconds since 1970."""

    id: str
    state: str
    """PENDING, RUNNING, SUCCEEDED, FAILED or STOPPED."""
    exit_code: int | None
    reason: str
    started: float | None
    ended: float | None
    workdir: str
    fingerprint: str

    @property
    def is_over(self) -> bool:
        return self.state not in ("PENDING", "RUNNING")

    @property
    def code(self) -> int:
        """Exit code of a finished job as in a shell: 128 + signal after a signal, 70 if the cluster failed."""
        if self.state == "STOPPED":
            return INTERRUPTED
        if self.exit_code is None:
            return 0 if self.state == "SUCCEEDED" else FAULT
        return self.exit_code if self.exit_code >= 0 else 128 - self.exit_code

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return asdict(self)


def choose_address(given: str | None) -> str:
    """The given address, else RAY_ADDRESS if it is an HTTP address, else that of this machine or a tunnel."""
    known = os.environ.get("RAY_ADDRESS", "")
    address = given or (known if known.startswith(("http://", "https://")) else DEFAULT_ADDRESS)
    if not address.startswith(("http://", "https://")):
        raise JobError(
            f"expected the address of Ray's dashboard, http://HOST:8265, got {address!r}; jobs do not go to the port "
            "that `nullspace run --address HOST:6379` uses"
        )
    return address.rstrip("/")


class JobServer:
    """Ray's job server at an HTTP address. Raises JobError when it does not answer or asks for a token."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.client: JobSubmissionClient = self.asked(self._connect)

    def jobs(self) -> list[Job]:
        """All jobs of nullspace, oldest first."""
        found = [job for job in self.asked(self.client.list_jobs) if (job.submission_id or "").startswith(PREFIX)]
        return sorted((_job(job) for job in found), key=lambda job: job.started or 0)

    def job(self, job_id: str) -> Job:
        """One job. Raises JobError with the latest ids when there is none of this id."""
        try:
            return _job(self.asked(lambda: self.client.get_job_info(job_id)))
        except Refused as error:
            if "status code 404" not in str(error):
                raise
            known = ", ".join(job.id for job in self.jobs()[-5:]) or "none"
            raise JobError(f"no job {job_id!r} at {self.address}; the latest are: {known}") from error

    def running(self, order: Order) -> Job | None:
        """The job already running the same config in the same work folder, or None."""
        wanted = (order.fingerprint, order.workdir)
        found = [job for job in self.jobs() if not job.is_over and (job.fingerprint, job.workdir) == wanted]
        return found[-1] if found else None

    def submit(self, order: Order) -> Job:
        """Upload the files and start the next attempt."""
        with TemporaryDirectory(prefix="nullspace-") as folder:
            archive = order.upload.pack(Path(folder) / "job.zip")
            job_id = self.asked(
                lambda: self.client.submit_job(
                    entrypoint=order.entrypoint,
                    submission_id=next_id(order.name, [job.id for job in self.jobs()]),
                    runtime_env={"working_dir": str(archive), "env_vars": dict(order.env)},
                    metadata=order.metadata(),
                )
            )
        return self.job(job_id)

    def stop(self, job_id: str, seconds: float = STOP_SECONDS + 30) -> Job:
        """Stop a job and wait until it is over; a finished job is left alone."""
        job = self.job(job_id)
        if not job.is_over:
            self.asked(lambda: self.client.stop_job(job_id))
        deadline = time.monotonic() + seconds
        while not (job := self.job(job_id)).is_over:
            if time.monotonic() > deadline:
                raise JobError(f"{job_id} was asked to stop and still runs after {seconds:g} s; see `nullspace jobs`")
            time.sleep(0.5)
        return job

    def asked(self, question: Callable[[], _T]) -> _T:
        """The result of a request; the ways in which it can fail become JobError."""
        from ray.exceptions import AuthenticationError

        try:
            return question()
        except AuthenticationError as error:
            raise JobError(
                f"{self.address} asks for Ray's token: copy the head's ~/.ray/auth_token to the same place here, or "
                "its content into RAY_AUTH_TOKEN"
            ) from error
        except OSError as error:  # includes the errors of `requests`
            raise Unreachable(
                f"no Ray job server answers at {self.address}; its dashboard listens on the head's loopback alone: "
                "open a tunnel with `ssh -L 8265:127.0.0.1:8265 HEAD` and use --address http://127.0.0.1:8265"
            ) from error
        except RuntimeError as error:
            raise Refused(f"{self.address} refused: {error}") from error

    def _connect(self) -> JobSubmissionClient:
        from ray.job_submission import JobSubmissionClient

        for name in ("ray.dashboard.modules.dashboard_sdk", "ray.dashboard.modules.job.sdk"):
            logging.getLogger(name).setLevel(logging.WARNING)
        with _without(_OVERRULING):
            return JobSubmissionClient(self.address, headers=token_header())


class Unreachable(JobError):
    """No server answers at the address at the moment."""


class Refused(JobError):
    """The job server refused the request."""


def next_id(name: str, taken: list[str]) -> str:
    """The name itself, then name-2, name-3, …: one above the largest number in use."""
    numbers = [job_id.removeprefix(name).removeprefix("-") or "1" for job_id in taken if job_id.startswith(name)]
    last = max((int(number) for number in numbers if number.isdecimal()), default=0)
    return f"{name}-{last + 1}" if last else name


def token_header() -> dict[str, str] | None:
    """Ray's token if there is one, found as `ray.init` finds it, unless RAY_AUTH_MODE turns it off."""
    if os.environ.get("RAY_AUTH_MODE", "token").lower() != "token":
        return None
    token = os.environ.get("RAY_AUTH_TOKEN")
    file = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")
    if not token and file.is_file():
        token = file.read_text(encoding="utf-8").strip()
    return {"Authorization": f"Bearer {token}"} if token else None


def _job(details: JobDetails) -> Job:
    metadata = details.metadata or {}
    return Job(
        id=details.submission_id or "",
        state=details.status.value,
        exit_code=details.driver_exit_code,
        reason=(details.message or "").splitlines()[0] if details.message else "",
        started=details.start_time / 1000 if details.start_time else None,
        ended=details.end_time / 1000 if details.end_time else None,
        workdir=metadata.get("nullspace.workdir", ""),
        fingerprint=metadata.get("nullspace.fingerprint", ""),
    )


@contextmanager
def _without(names: tuple[str, ...]) -> Iterator[None]:
    kept = {name: os.environ.pop(name) for name in names if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(kept)

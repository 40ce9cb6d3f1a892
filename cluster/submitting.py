"""The commands `submit`, `jobs`, `logs` and `stop`: what they do and print."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from cluster.errors import INTERRUPTED

if TYPE_CHECKING:  # loaded when a command runs, not when the command line is built
    from cluster.jobs import Job, JobServer
    from cluster.order import Order


def prepare(
    config: str, overrides: list[str] | None, *, workdir: str | None, folder: Path | None, limit_mib: float
) -> Order:
    """The checked order; nothing is sent. Raises NullspaceError for what the user can correct."""
    from cluster.order import make_order

    order = make_order(config, overrides, workdir=workdir, folder=folder)
    order.upload.check(limit_mib)
    return order


def plan(order: Order, limit_mib: float) -> Iterator[str]:
    """The order for people, line by line."""
    from cluster.order import TRACKING_URI
    from cluster.upload import weight

    yield f"config       checked, fingerprint {order.fingerprint[:8]}"
    yield f"job          {order.name}"
    yield f"entrypoint   {order.entrypoint}"
    yield f"workdir      {order.workdir}  (must be on storage that every node sees)"
    yield f"tracking     {order.env.get(TRACKING_URI, 'from config or nodes, else a file beside the work folder')}"
    for line in order.upload.lines():
        yield f"upload       {line}"
    total = sum(order.upload.sizes().values())
    yield f"             {weight(total)}  in all, of {limit_mib:g} MiB allowed"
    for key, path in order.on_cluster.items():
        yield f"not uploaded {key} {path}  (must exist on every node)"


def server(address: str | None) -> JobServer:
    """The job server at the address, or at the default one."""
    from cluster.jobs import JobServer, choose_address

    return JobServer(choose_address(address))


def send(order: Order, address: str | None, *, retries: int, wait: bool, limit_mib: float, quiet: bool = False) -> Job:
    """Start the job, or join it if it runs already; with `wait` follow it to its end. Returns its last attempt."""
    say = _nothing if quiet else _say
    at = server(address)
    for line in plan(order, limit_mib):
        say(line)
    job = at.running(order)
    if job is not None:
        say(f"running      {job.id} already runs this; no second one is started")
    else:
        job = at.submit(order)
        say(f"submitted    {job.id} to {at.address}")
    if not wait:
        say(f"follow it    nullspace logs {job.id} --follow --address {at.address}")
        return job
    return _wait(at, order, job, retries)


def _wait(at: JobServer, order: Order, job: Job, retries: int) -> Job:
    import typer

    from cluster.follow import Log, follow_and_retry

    log = Log(_say)
    try:
        for attempt in follow_and_retry(at, order, job, retries, say=_say, log=log):
            job = attempt
    except KeyboardInterrupt:
        _say(f"{job.id} continues, and is not started again if it fails")
        _say(f"follow it    nullspace logs {job.id} --follow --address {at.address}")
        _say(f"stop it      nullspace stop {job.id} --address {at.address}")
        raise typer.Exit(INTERRUPTED) from None
    _say(f"{job.state.lower():12} {job.id}, exit code {job.code}")
    if log.mlflow:
        _say(log.mlflow)
    return job


def table(jobs: list[Job]) -> Iterator[str]:
    """The jobs for people, a line each."""
    if not jobs:
        yield "no jobs of nullspace"
    width = max((len(job.id) for job in jobs), default=0)
    for job in jobs:
        began = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(job.started)) if job.started else "-"
        took = f"{(job.ended or time.time()) - job.started:.0f} s" if job.started else "-"
        code = job.code if job.is_over else "-"
        yield f"{job.id:{width}}  {job.state:9}  {code:>3}  {began:19}  {took:>8}  {job.workdir}"


def show_log(address: str | None, job_id: str, *, follow: bool) -> int:
    """Print a job's log; with `follow` to its end. Returns the exit code of the command."""
    at = server(address)
    at.job(job_id)  # raises an error that lists the jobs if there is none of this id
    if not follow:
        sys.stdout.write(at.asked(lambda: at.client.get_job_logs(job_id)))
        return 0
    from cluster.follow import Log
    from cluster.follow import follow as read_along

    try:
        return read_along(at, job_id, Log(_say)).code
    except KeyboardInterrupt:
        return INTERRUPTED


def stop(address: str | None, job_id: str) -> None:
    """Stop a job and print how it ended."""
    at = server(address)
    was_over = at.job(job_id).is_over
    job = at.stop(job_id)
    _say(f"{job.id} {'was over already: ' if was_over else ''}{job.state.lower()}")
    if not was_over:
        _say(f"finished stages are kept in {job.workdir}; submit the same again to resume")


def _say(line: str) -> None:
    print(line, flush=True)


def _nothing(line: str) -> None:
    pass

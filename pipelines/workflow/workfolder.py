"""The work folder: it belongs to one experiment, is held by one run at a time, and records its last run."""

from __future__ import annotations

import fcntl
import os
import socket
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from pipelines.configs.pipeline import PipelineConfig
from pipelines.engine.stage import Stage
from pipelines.errors import WorkdirError
from pipelines.files import read_json, sweep, write_json, write_text

RUN = "run.json"
_ATTEMPTS = 3


@contextmanager
def opened(workdir: Path, config: PipelineConfig) -> Iterator[None]:
    """Hold the work folder for this run. Raises WorkdirError if it is another experiment's, in use, or not writable."""
    try:
        (workdir / "stages").mkdir(parents=True, exist_ok=True)
        lock = (workdir / ".lock").open("a+")
    except OSError as error:
        raise WorkdirError(
            f"cannot write to the work folder {workdir}: {error}; choose another with --workdir"
        ) from error
    with lock:
        _lock(lock, workdir)
        check_owner(workdir, config.name)
        sweep(workdir.glob(".*"))
        write_text(workdir / "config.yaml", yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False))
        yield


def _lock(lock: Any, workdir: Path) -> None:
    """Lock the open file, and leave the holder's name in it.

    `flock` itself, not `filelock`: `is_held` asks for the same lock, shared and on a file opened for reading, so that
    it works in folders that it may not write to; `filelock` has exclusive locks only and creates their file. Where a
    file system has no `flock` it falls back to a lock that a killed process keeps.
    """
    for attempt in range(_ATTEMPTS):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # released by the operating system when the process dies
            break
        except OSError as error:
            if attempt + 1 < _ATTEMPTS:
                time.sleep(0.1)  # `is_held` holds the lock for a moment
                continue
            lock.seek(0)
            holder = lock.read().strip() or "another process"
            raise WorkdirError(
                f"{workdir} is in use by {holder}; wait for it, stop it, or choose another --workdir"
            ) from error
    lock.truncate(0)
    lock.write(f"process {os.getpid()} on {socket.gethostname()}")
    lock.flush()


def check_owner(workdir: Path, name: str) -> None:
    """Raise WorkdirError when the folder is another experiment's."""
    run = read_run(workdir)
    if run and run["experiment"] != name:
        raise WorkdirError(
            f"{workdir} is the work folder of experiment {run['experiment']!r}, not of {name!r}; "
            "choose another --workdir"
        )


def read_run(workdir: Path) -> dict[str, Any] | None:
    """The record of the last run in this folder, or None."""
    file = workdir / RUN
    return read_json(file) if file.is_file() else None


def update_run(workdir: Path, **facts: Any) -> None:
    """Merge `facts` into run.json, the record of the last run."""
    write_json(workdir / RUN, {**(read_run(workdir) or {}), **facts, "at": time.strftime("%Y-%m-%dT%H:%M:%S%z")})


def is_held(workdir: Path) -> bool:
    """Whether a run is using the folder now."""
    try:
        with (workdir / ".lock").open("r") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False


PLAN = "plan"  # key of run.json


def planned(stages: Iterable[Stage]) -> list[dict[str, str]]:
    """What run.json says of stages that are to be done, in order."""
    return [{"stage": stage.key, "folder": stage.place} for stage in stages]

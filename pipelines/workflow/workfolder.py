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
def opened(work: Path, config: PipelineConfig) -> Iterator[None]:
    """Hold the work folder for this run. Raises WorkdirError if it is another experiment's, in use, or not writable."""
    try:
        (work / "stages").mkdir(parents=True, exist_ok=True)
        lock = (work / ".lock").open("a+")
    except OSError as error:
        raise WorkdirError(f"cannot write to the work folder {work}: {error}; choose another with --workdir") from error
    with lock:
        _lock(lock, work)
        check_owner(work, config.name)
        sweep(work.glob(".*"))
        write_text(work / "config.yaml", yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False))
        yield


def _lock(lock: Any, work: Path) -> None:
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
                f"{work} is in use by {holder}; wait for it, stop it, or choose another --workdir"
            ) from error
    lock.truncate(0)
    lock.write(f"process {os.getpid()} on {socket.gethostname()}")
    lock.flush()


def check_owner(work: Path, name: str) -> None:
    """Raise WorkdirError when the folder is another experiment's."""
    run = read_run(work)
    if run and run["experiment"] != name:
        raise WorkdirError(
            f"{work} is the work folder of experiment {run['experiment']!r}, not of {name!r}; choose another --workdir"
        )


def read_run(work: Path) -> dict[str, Any] | None:
    """The record of the last run in this folder, or None."""
    file = work / RUN
    return read_json(file) if file.is_file() else None


def update_run(work: Path, **facts: Any) -> None:
    """Merge `facts` into run.json, the record of the last run."""
    write_json(work / RUN, {**(read_run(work) or {}), **facts, "at": time.strftime("%Y-%m-%dT%H:%M:%S%z")})


def is_held(work: Path) -> bool:
    """Whether a run is using the folder now."""
    try:
        with (work / ".lock").open("r") as lock:
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

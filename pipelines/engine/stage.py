"""What a stage is: a name, the settings and inputs that decide its result, and a function that makes it."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipelines.engine.progress import Progress
from pipelines.engine.workers.shard_workers import Workers
from pipelines.errors import StageError
from pipelines.files import read_json, sweep, write_json

RECORD, PROGRESS, FAILED = "stage.json", "progress.json", ".failed"


@dataclass(frozen=True)
class Done:
    """A finished stage: its folder, its result (plain JSON), and how long it took."""

    folder: Path
    result: dict[str, Any]
    seconds: float
    reused: bool

    @property
    def warnings(self) -> list[str]:
        """Warnings in its result (key `warnings`), a sentence each; repeated where it is reused."""
        return list(self.result.get("warnings", []))


@dataclass(frozen=True)
class Context:
    """What a stage's function gets: a folder of its own to write to, its inputs, progress."""

    folder: Path
    inputs: Mapping[str, Done]
    progress: Progress
    run_id: str
    """The stage's run in MLflow."""
    workers: Callable[[], Workers]
    """Asks the cluster what it holds for this stage; starts Ray when nothing has yet, unless the work is done here."""


Check = Callable[[dict[str, Any]], None]
"""Raises an error where a stage's result is not acceptable."""


@dataclass(frozen=True)
class Stage:
    """One step of the pipeline, done once per fingerprint."""

    name: str
    version: int
    """To be raised when what the stage computes changes; part of the fingerprint."""
    settings: Mapping[str, Any]
    inputs: Mapping[str, Stage]
    make: Callable[[Context], dict[str, Any]]
    branch: str | None = None
    accept: Check = field(default=lambda result: None)
    """Checks of the result that are no part of it (limits a user may move); run for reused results too."""
    data: str = ""
    """What it does with the images, in MLflow's words for data sets; empty where it reads none."""
    headlines: Mapping[str, str] = field(default_factory=dict)
    """Figures that models are compared by: names of metrics, and where in the result they stand, as `a.b`."""
    tracked: Callable[[str], bool] = field(default=lambda place: True)
    """Which figures of the result become metrics, by where they stand; the others are in its file."""

    @property
    def key(self) -> str:
        return self.name if self.branch is None else f"{self.name}--{self.branch}"

    @property
    def fingerprint(self) -> str:
        content = {
            "stage": self.name,
            "version": self.version,
            "settings": self.settings,
            "inputs": {name: stage.fingerprint for name, stage in sorted(self.inputs.items())},
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    @property
    def place(self) -> str:
        """Name of its folder; unlike the fingerprint it tells equal models under two labels apart."""
        return f"{self.key}-{self.fingerprint[:12]}"

    def folder(self, workdir: Path) -> Path:
        return workdir / "stages" / self.place

    def failure(self, workdir: Path) -> Path:
        """The file with the reason of its failure, in a line; there is none unless it failed."""
        return workdir / "stages" / f"{self.place}{FAILED}"


def find_done(stage: Stage, workdir: Path) -> Done | None:
    """The finished stage of this fingerprint, if the work folder holds it."""
    folder = stage.folder(workdir)
    record = folder / RECORD
    if not record.is_file():
        return None
    content = read_json(record)
    if content["fingerprint"] != stage.fingerprint:
        raise StageError(f"{record} says another fingerprint than its folder's name; remove {folder} and run again")
    return Done(folder, content["result"], content["seconds"], reused=True)


def do_stage(
    stage: Stage,
    workdir: Path,
    inputs: Mapping[str, Done],
    progress: Progress,
    run_id: str,
    workers: Callable[[], Workers],
) -> Done:
    """Make the stage in a `.partial` folder (kept by a kill, continued by the next run) and rename it when whole."""
    folder = stage.folder(workdir)
    partial = folder.with_name(folder.name + ".partial")
    partial.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    result = stage.make(Context(partial, inputs, progress.kept_in(partial / PROGRESS), run_id, workers))
    (partial / PROGRESS).unlink(missing_ok=True)
    seconds = time.monotonic() - started
    record = {
        "stage": stage.name,
        "branch": stage.branch,
        "fingerprint": stage.fingerprint,
        "version": stage.version,
        "settings": dict(stage.settings),
        "inputs": {name: other.fingerprint for name, other in stage.inputs.items()},
        "seconds": round(seconds, 3),
        "result": result,
    }
    sweep(partial.rglob(".*"))
    write_json(partial / RECORD, record)
    if folder.exists():  # a folder without a record: partly removed by hand
        shutil.rmtree(folder)
    os.replace(partial, folder)
    return Done(folder, result, seconds, reused=False)

"""What a work folder holds: finished and unfinished stages, and how its last run ended."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from pipelines import workfolder
from pipelines.errors import WorkdirError
from pipelines.files import read_json
from pipelines.manifest import MANIFEST
from pipelines.stages import RECORD


def status(work: Path) -> dict[str, Any]:
    """Plain JSON about a work folder. Raises WorkdirError when nothing ever ran there."""
    said = workfolder.read_run(work)
    if said is None:
        raise WorkdirError(f"{work} is not a work folder: it has no {workfolder.RUN}; give the --workdir of a run")
    state = "running" if workfolder.is_held(work) else said["state"]
    if state == "running" and not workfolder.is_held(work):
        state = "killed"  # it never came to say how it ended
    stages = [_stage(folder) for folder in sorted((work / "stages").glob("*")) if folder.is_dir()]
    reports = {name: str(work / name) for name in ("report.html", "results.json") if (work / name).is_file()}
    return {**said, "state": state, "stages": stages, **reports}


def _stage(folder: Path) -> dict[str, Any]:
    record = folder / RECORD
    if record.is_file() and folder.suffix != ".partial":
        done = read_json(record)
        return {
            "stage": folder.name.rpartition("-")[0],
            "state": "done",
            "seconds": done["seconds"],
            "folder": str(folder),
        }
    written = len([*folder.glob("rows-*.parquet"), *folder.glob("shard-*.parquet")])
    manifest = folder / MANIFEST
    planned = pq.ParquetFile(manifest).num_row_groups if manifest.is_file() else None
    return {
        "stage": folder.name.removesuffix(".partial").rpartition("-")[0],
        "state": "unfinished",
        "shards": written,
        "of": planned,
        "folder": str(folder),
    }

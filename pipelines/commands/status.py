"""The contents of a work folder: finished and unfinished stages, and how its last run ended."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from pipelines.engine.stage import FAILED, PROGRESS, RECORD
from pipelines.errors import WorkdirError
from pipelines.files import read_json
from pipelines.stages.ingest.manifest import MANIFEST
from pipelines.workflow import workfolder
from pipelines.workflow.workfolder import PLAN

FIRST, LAST = "ingest", "report"


def status(workdir: Path) -> dict[str, Any]:
    """Plain JSON about a work folder: its stages in order, then those of earlier runs that the last one did not use.

    Raises WorkdirError when there never was a run in it.
    """
    run = workfolder.read_run(workdir)
    if run is None:
        raise WorkdirError(f"{workdir} is not a work folder: it has no {workfolder.RUN}; give the --workdir of a run")
    state = "running" if workfolder.is_held(workdir) else run["state"]
    if state == "running" and not workfolder.is_held(workdir):
        state = "killed"  # it did not record how it ended
    reports = {name: str(workdir / name) for name in ("report.html", "results.json") if (workdir / name).is_file()}
    plan = run.pop(PLAN, [])
    if run.get("error") is None or state != "failed":
        run.pop("error", None)
    stages = list(_stages(workdir / "stages", plan))
    _mark_replaced(stages)
    return {**run, "state": state, "stages": stages, **reports}


def _stages(folder: Path, plan: list[dict[str, str]]) -> Iterator[dict[str, Any]]:
    left = {found.name.removesuffix(".partial"): found for found in folder.glob("*") if found.is_dir()}
    for each in plan:
        found = left.pop(each["folder"], None)
        state = {"stage": each["stage"], "state": "not begun"} if found is None else _stage(found)
        yield state | _failure(folder / f"{each['folder']}{FAILED}")
    for found in sorted(left.values(), key=_place):
        failed = _failure(folder / f"{found.name.removesuffix('.partial')}{FAILED}")
        yield {**_stage(found), **failed, **({"earlier": True} if plan else {})}


def _mark_replaced(stages: list[dict[str, Any]]) -> None:
    """Mark every finished report but the one that report.html is a copy of: the plan's, or else the newest."""
    reports = [stage for stage in stages if stage["stage"] == LAST and stage["state"] == "done"]
    reports.sort(key=lambda stage: (not stage.get("earlier"), (Path(stage["folder"]) / RECORD).stat().st_mtime))
    for stage in reports[:-1]:
        stage["replaced"] = True


def _failure(file: Path) -> dict[str, Any]:
    """State and error of a stage that failed; its folder may still be complete, with too few images."""
    try:
        return {"state": "failed", "error": file.read_text(encoding="utf-8")}
    except FileNotFoundError:
        return {}


def _place(folder: Path) -> tuple[bool, bool, str, float, str]:
    """Sort key of folders that no plan names: ingests first, then branch by branch, the report last."""
    name, _, branch = folder.name.removesuffix(".partial").rpartition("-")[0].partition("--")
    return name != FIRST, name == LAST, branch, folder.stat().st_mtime, folder.name


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
        **_progress(folder),
        "folder": str(folder),
    }


def _progress(folder: Path) -> dict[str, Any]:
    """The last state of the progress line."""
    try:
        return {"progress": read_json(folder / PROGRESS)}
    except FileNotFoundError:
        return {}


def how_far(stage: dict[str, Any]) -> str:
    """How far a stage is, how long it took, or why it failed, in a line; empty where nothing is known."""
    if stage["state"] == "failed":
        return stage["error"]
    if stage["state"] == "done":
        return f"{stage['seconds']:.1f} s{', replaced by a later one' if stage.get('replaced') else ''}"
    progress = stage.get("progress")
    if progress is None:
        return f"{stage['shards']} of {stage.get('of') or '?'} shards" if stage.get("shards") else ""
    counted = f"{progress['done']} of {progress['of']} {progress['unit']}"
    return ", ".join(filter(None, [counted, progress.get("note")]))

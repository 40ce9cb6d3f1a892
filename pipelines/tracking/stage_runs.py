"""What is recorded of a finished stage: figures as metrics, settings as parameters, the small files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

from pipelines.engine.interrupts import was_interrupted
from pipelines.engine.stage import RECORD, Done, Stage
from pipelines.tracking.connection.store import WRITE_ERRORS
from pipelines.tracking.tracker import BRANCH, FINGERPRINT, PARENT, STAGE, Tracker

# Set, not measured: thresholds of hashes, the best trial's parameters. Reasons of unreadable images are sentences,
# which MLflow takes for no name; the tag has them, and the error rows.
_CHOSEN = ("split", "settings", "reasons")
_FOLDERS = ("examples", "figures")
_ENDINGS = {".json", ".html", ".safetensors"}
_TABLES = ("trials.parquet", "curves.parquet", "spectrum.parquet")


def recorded(tracker: Tracker, parent_id: str, stage: Stage) -> bool:
    """Whether MLflow already holds this stage, whole, under the parent."""
    branch = {BRANCH: stage.branch} if stage.branch else {}  # one model under two labels shares fingerprints, not runs
    run = tracker.find({PARENT: parent_id, FINGERPRINT: stage.fingerprint, STAGE: stage.name, **branch})
    return run is not None and run.info.status == "FINISHED"


def begin(tracker: Tracker, parent_id: str, stage: Stage) -> str:
    """The stage's run, made or continued."""
    return tracker.begin_stage(
        parent_id, stage=stage.name, branch=stage.branch, fingerprint=stage.fingerprint, params=dict(stage.settings)
    )


def record(tracker: Tracker, run_id: str, stage: Stage, done: Done) -> None:
    """Write the result and the small files of a stage, and finish its run. Rows stay in the folder the tag names."""
    measured = {name: value for name, value in done.result.items() if name not in _CHOSEN}
    figures = {name: value for name, value in flat_metrics(measured) if stage.tracked(name)}
    tracker.metrics(run_id, {**figures, "seconds": done.seconds})
    tracker.tags(run_id, {"nullspace.folder": str(done.folder), "nullspace.reused": str(done.reused).lower()})
    if done.result.get("reasons"):
        tracker.tags(run_id, {"nullspace.reasons": done.result["reasons"]})
    for path in sorted(done.folder.iterdir()):
        if path.is_dir() and path.name in _FOLDERS:
            tracker.artifact(run_id, path, path.name)
        elif path.is_file() and path.name != RECORD and (path.suffix in _ENDINGS or path.name in _TABLES):
            tracker.artifact(run_id, path)
        elif path.name.startswith("errors-") and done.result.get("errors"):
            tracker.artifact(run_id, path, "errors")
    tracker.end(run_id, "FINISHED")


def fail(tracker: Tracker, run_id: str, error: Exception) -> None:
    """End the run of a stage that failed, with the reason, or that a signal ended.

    The error itself matters more than a store that is away.
    """
    with suppress(*WRITE_ERRORS):
        if was_interrupted():
            tracker.end(run_id, "KILLED")
            return
        tracker.tags(run_id, {"nullspace.error": f"{type(error).__name__}: {error}"})
        tracker.end(run_id, "FAILED")


def flat_metrics(result: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """All figures of a nested result as `a.b`; an interval becomes `a.low` and `a.high`."""
    for key, value in result.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from flat_metrics(value, f"{name}.")
        elif isinstance(value, (bool, int, float)):
            yield name, float(value)
        elif key.endswith("ci") and isinstance(value, (list, tuple)) and len(value) == 2:
            yield f"{name}.low", float(value[0])
            yield f"{name}.high", float(value[1])

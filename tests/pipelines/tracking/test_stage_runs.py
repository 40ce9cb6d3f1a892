"""What of a finished stage goes to MLflow."""

from __future__ import annotations

from pathlib import Path

from pipelines.engine.stage import Done, Stage
from pipelines.tracking import stage_runs
from pipelines.tracking.tracker import Tracker


def test_reasons_of_broken_images_are_recorded_but_not_as_metrics(tmp_path: Path) -> None:
    tracker = Tracker(f"sqlite:///{tmp_path / 'mlflow.db'}", "demo")
    parent = tracker.begin_run("key", name="run", tags={}, params={})
    stage = Stage("ingest", 1, {}, {}, make=lambda context: {}, tracked=lambda place: place != "sizes.largest")
    run_id = stage_runs.begin(tracker, parent, stage)
    reason = "damaged or truncated: OSError: image file is truncated (12 bytes not processed)"
    (tmp_path / "stage").mkdir()
    result = {"images": 47, "errors": 1, "reasons": {reason: 1}, "sizes": {"largest": 9, "least": 2}}
    done = Done(tmp_path / "stage", result, 1.0, reused=False)
    stage_runs.record(tracker, run_id, stage, done)
    run = tracker.client.get_run(run_id)
    assert run.data.metrics == {"images": 47, "errors": 1, "sizes.least": 2, "seconds": 1}
    assert reason in run.data.tags["nullspace.reasons"] and run.info.status == "FINISHED"

"""The runs of trials in MLflow, as tests begin and read them."""

from __future__ import annotations

from mlflow.entities import Run

from pipelines.tracking.connection.store import search_all
from pipelines.tracking.tracker import Tracker


def begin(tracker: Tracker) -> str:
    parent = tracker.begin_run("key", name="run", tags={}, params={})
    return tracker.begin_stage(parent, stage="search", branch="vit", fingerprint="f", params={})


def trials_of(tracker: Tracker, stage: str) -> dict[str, Run]:
    runs = search_all(tracker.client, tracker.experiment_id, f"tags.mlflow.parentRunId = '{stage}'")
    return {run.data.params["start"]: run for run in runs}


def curve(tracker: Tracker, run: Run) -> list[int]:
    return sorted(point.step for point in tracker.client.get_metric_history(run.info.run_id, "loss"))

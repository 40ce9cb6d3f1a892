"""The row of a model in MLflow: figures under the names of every other model, and its true end."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.tracking.model_runs import headlines, model_run
from pipelines.tracking.tracker import Tracker
from tests.pipelines import tiny
from tests.pipelines.workflow.test_results import RESULTS, finished


def test_headline_figures_are_those_of_the_stages() -> None:
    found = headlines(finished())
    assert (found["agreement"], found["relative_norm"], found["clean_accuracy"]) == (0.9, 0.5, 0.98)
    assert (found["kernel.nullity"], found["kernel.agreement"], found["permuted.agreement"]) == (96.0, 0.9, 0.9)
    assert (found["watermark.psnr"], found["seconds"]) == (20.0, float(len(RESULTS)))


def test_what_a_model_has_none_of_is_left_out() -> None:
    none = {"skipped": "no kernel"}
    evaluated = {**RESULTS["evaluate"], "kernel": {}}
    found = headlines(
        finished(evaluate=evaluated, watermark=none, reference={"clean_accuracy": None}, search={"skipped": "why"})
    )
    assert found["agreement"] == 0.9 and "relative_norm" not in found and "clean_accuracy" not in found
    assert not [name for name in found if name.startswith(("watermark.", "kernel.agreement"))]


def test_a_row_ends_as_its_model_does(tmp_path: Path) -> None:
    tracker = Tracker(f"sqlite:///{tmp_path / 'mlflow.db'}", "demo")
    parent = tracker.begin_run("key", name="run", tags={}, params={})

    def status(run_id: str) -> str:
        return tracker.client.get_run(run_id).info.status

    with pytest.raises(OSError, match="no disk"), model_run(tracker, parent, tiny.facts(), alone=False) as row:
        stage = tracker.begin_stage(row, stage="search", branch="x", fingerprint="f", params={})
        raise OSError("no disk")
    assert (status(row), status(stage), status(parent)) == ("FAILED", "FAILED", "RUNNING")
    assert tracker.client.get_run(row).data.tags["nullspace.error"] == "OSError: no disk"
    with model_run(tracker, parent, tiny.facts(), alone=False) as again:
        assert again == row
    assert status(row) == "FINISHED"
    with pytest.raises(KeyboardInterrupt), model_run(tracker, parent, tiny.facts(), alone=False) as again:
        raise KeyboardInterrupt
    assert status(row) == "RUNNING", "whoever interrupts the run closes all of it"
    with model_run(tracker, parent, tiny.facts(), alone=True) as alone:
        assert alone == parent
    assert status(parent) == "RUNNING" and tracker.client.get_run(parent).data.tags["nullspace.kind"] == "model"

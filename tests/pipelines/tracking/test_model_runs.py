"""The row of a model in MLflow: figures under the names of every other model, and its true end."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipelines.configs.reading import load_config
from pipelines.engine.stage import Done, Stage
from pipelines.stages.branch import Means
from pipelines.tracking.model_runs import headlines, model_run
from pipelines.tracking.tracker import Tracker
from pipelines.workflow.plan import make_plan
from tests.pipelines import tiny
from tests.pipelines.workflow.test_results import RESULTS, finished


def stages() -> dict[str, Stage]:
    """The stages of the demo's model, as the plan makes them."""
    nothing: Any = SimpleNamespace()
    plan = make_plan(load_config("demo"), [tiny.facts()], "digest", Means(nothing, nothing, nothing))
    return dict(plan.branches[tiny.spec().label])


def test_headline_figures_are_those_of_the_stages() -> None:
    found = headlines(stages(), finished())
    assert (found["learned_noise.learned.agreement"], found["relative_norm"]) == (0.9, 0.5)
    assert found["clean_accuracy"] == 0.98
    assert (found["kernel.nullity"], found["kernel_noise.exact.agreement"]) == (96.0, 0.9)
    assert (found["learned_noise.permuted.agreement"], found["kernel_noise.exact.max_abs_logit_change"]) == (0.9, 1e-4)
    assert (found["visible_watermark.marked.psnr"], found["seconds"]) == (20.0, float(len(RESULTS)))


def test_what_a_model_has_none_of_is_left_out() -> None:
    none = {"skipped": "no kernel"}
    found = headlines(
        stages(),
        finished(
            kernel_noise=none, visible_watermark=none, reference={"clean_accuracy": None}, search={"skipped": "why"}
        ),
    )
    assert found["learned_noise.learned.agreement"] == 0.9
    assert "relative_norm" not in found and "clean_accuracy" not in found
    assert not [name for name in found if name.startswith(("visible_watermark.", "kernel_noise.", "payload."))]


def test_stages_name_their_headlines_themselves() -> None:
    stage = Stage("mine", 1, {}, {}, lambda context: {}, headlines={"best": "a.b", "none": "a.c"})
    done = Done(Path("/runs/mine"), {"a": {"b": 0.5}, "c": 7}, 2.0, False)
    assert headlines({"mine": stage}, {"mine": done}) == {"best": 0.5, "seconds": 2.0}


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

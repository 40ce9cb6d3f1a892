"""A run's entry in MLflow ends with its true status; its stages are told apart, and say why they failed."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipelines.commands.status import status
from pipelines.configs.reading import load_config
from pipelines.engine.progress import Progress
from pipelines.engine.stage import Context, Stage
from pipelines.errors import SourceError, StageError
from pipelines.tracking.connection.watchdog import Watchdog
from pipelines.tracking.tracker import Tracker
from pipelines.workflow import run as workflow
from pipelines.workflow import workfolder
from pipelines.workflow.finishing import Run
from pipelines.workflow.workfolder import planned


@pytest.fixture
def tracker(tmp_path: Path) -> Tracker:
    return Tracker(f"sqlite:///{tmp_path / 'mlflow.db'}", "demo")


def test_a_run_that_fails_before_it_is_guarded_is_not_left_running(
    tracker: Tracker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_process(*_: Any, **__: Any) -> Watchdog:
        raise OSError("Resource temporarily unavailable")

    monkeypatch.setattr(Watchdog, "start", no_process)
    with (
        pytest.raises(OSError, match="Resource temporarily"),
        workflow._parent_run(load_config("demo"), tmp_path, tracker),
    ):
        pytest.fail("nothing runs without its watchdog")
    (run,) = tracker.client.search_runs([tracker.experiment_id])
    assert run.info.status == "FAILED"
    assert workfolder.read_run(tmp_path)["error"] == "OSError: Resource temporarily unavailable"  # pyright: ignore


def test_stages_keep_their_labels_and_say_why_they_failed(tracker: Tracker, tmp_path: Path) -> None:
    def counts(context: Context) -> dict[str, Any]:
        (context.folder / "made-by").write_text(context.folder.name)
        return {"parts": [done.folder.name for done in context.inputs.values()]}

    def fails(context: Context) -> dict[str, Any]:
        with context.progress.counting(8, "images") as counter:
            counter.add(3)
            raise StageError("no room\nleft")

    def refuses(result: dict[str, Any]) -> None:
        raise SourceError("too few")

    def dies(context: Context) -> dict[str, Any]:
        raise KeyboardInterrupt

    branches = [Stage("kernel", 1, {}, {}, counts, branch=label) for label in ("a", "b")]
    later = [Stage("second", 1, {}, {"kernel": branch}, counts, branch=branch.branch) for branch in branches]
    failing = Stage("third", 1, {}, {}, fails, branch="a")
    refused = Stage("fourth", 1, {}, {}, counts, accept=refuses)
    stopped = Stage("fifth", 1, {}, {}, dies)
    run_id = tracker.begin_run("key", name="run", tags={}, params={})
    compute: Any = SimpleNamespace(spread=lambda share: None)
    run = Run(load_config("demo"), tmp_path, tracker, run_id, Progress(), compute, "digest")
    for stage in (*branches, *later):
        run.finish(stage)
    assert later[0].fingerprint == later[1].fingerprint
    assert [run.of(stage).result["parts"] for stage in later] == [[branch.place] for branch in branches]
    for stage, error in ((failing, StageError), (refused, SourceError), (stopped, KeyboardInterrupt)):
        with pytest.raises(error):
            run.finish(stage)
    workfolder.update_run(tmp_path, state="failed", plan=planned([failing, refused, stopped]))
    found = {stage["stage"]: stage for stage in status(tmp_path)["stages"]}
    assert (found["third--a"]["state"], found["third--a"]["error"]) == ("failed", "no room left")
    assert found["third--a"]["progress"] == {"done": 0, "of": 8, "unit": "images"}, "written once a second"
    assert (found["fourth"]["state"], found["fourth"]["error"]) == ("failed", "too few")
    assert found["fifth"]["state"] == "unfinished"
    assert not [*run.of(later[0]).folder.glob("progress.json")]
    mended = Stage("third", 1, {}, {}, counts, branch="a")
    run.finish(mended)
    assert {stage["stage"]: stage["state"] for stage in status(tmp_path)["stages"]}["third--a"] == "done"

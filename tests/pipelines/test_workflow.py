"""The run's own entry in MLflow ends with its true status, wherever the run fails."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipelines import workflow
from pipelines.config_file import load_config
from pipelines.tracking import Tracker
from pipelines.watchdog import Watchdog


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

"""What a trial reports reaches MLflow, now or later: the callback that Tune calls."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from mlflow.exceptions import MlflowException

from pipelines.tracking.connection.store import TrackingError
from pipelines.tracking.tracker import Tracker
from pipelines.tracking.trial_runs import STOPPED_EARLY, TrialCallback
from tests.pipelines.tracking.trials import begin, curve, trials_of


class Broken:
    """Makes the tracker's writes fail until told otherwise."""

    def __init__(self, tracker: Tracker, monkeypatch: pytest.MonkeyPatch) -> None:
        self.away, self.asked, self.write = True, 0, tracker.client.log_batch
        monkeypatch.setattr(tracker.client, "log_batch", self)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.asked += 1
        if self.away:
            raise MlflowException("the store is away")
        return self.write(*args, **kwargs)


@pytest.fixture
def trial() -> Any:
    return SimpleNamespace(trial_id="t1", config={"start": 1.0, "steps": 4}, status="RUNNING", error_file=None)


@pytest.fixture
def callback(tracker: Tracker) -> TrialCallback:
    return TrialCallback(tracker, begin(tracker), searched=["start"], steps="steps", batch=2, seconds=60)


def report(callback: TrialCallback, trial: Any, *steps: int) -> None:
    for step in steps:
        callback.on_trial_result(0, [], trial, {"step": step, "loss": 1 / step, "label": "text"})


def test_what_mlflow_refused_is_written_later_with_one_warning(
    tracker: Tracker,
    callback: TrialCallback,
    trial: Any,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("pipelines.tracking.trial_runs.QUIET_SECONDS", 0)
    callback.on_trial_start(0, [], trial)
    store = Broken(tracker, monkeypatch)
    report(callback, trial, 1, 2, 3, 4)
    callback.on_trial_complete(0, [], trial)
    assert callback.unwritten == 1 and caplog.text.count("the search goes on") == 1
    with pytest.raises(TrackingError, match="4 points of 1 trials are not written"):
        callback.flush()
    store.away = False
    callback.on_experiment_end([trial])
    run = trials_of(tracker, callback.stage_run_id)["1.0"]
    assert callback.unwritten == 0 and run.info.status == "FINISHED" and curve(tracker, run) == [1, 2, 3, 4]


def test_a_dead_store_is_not_asked_again_at_once(
    tracker: Tracker, callback: TrialCallback, trial: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Broken(tracker, monkeypatch)
    callback.on_trial_start(0, [], trial)
    asked = store.asked
    report(callback, trial, 1, 2, 3, 4)
    assert store.asked == asked


def test_what_waits_travels_in_tunes_state(
    tracker: Tracker, callback: TrialCallback, trial: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Broken(tracker, monkeypatch)
    callback.on_trial_start(0, [], trial)
    report(callback, trial, 1, 2, 3)
    callback.on_trial_complete(0, [], trial)
    state = callback.get_state()
    store.away = False
    restored = TrialCallback(tracker, callback.stage_run_id, searched=["start"], steps="steps")
    restored.set_state(state)
    assert restored.unwritten == 1
    restored.flush()
    run = trials_of(tracker, callback.stage_run_id)["1.0"]
    assert run.info.status == "FINISHED" and curve(tracker, run) == [1, 2, 3]
    assert run.data.tags[STOPPED_EARLY] == "step 3 of 4"


def test_a_trial_cut_off_by_ctrl_c_is_killed(tracker: Tracker, callback: TrialCallback, trial: Any) -> None:
    callback.on_trial_start(0, [], trial)
    report(callback, trial, 1)
    trial.status = "TERMINATED"  # Tune says no more than this
    callback.on_experiment_end([trial])
    run = trials_of(tracker, callback.stage_run_id)["1.0"]
    assert run.info.status == "KILLED" and curve(tracker, run) == [1]


def test_points_are_written_at_a_checkpoint(tracker: Tracker, callback: TrialCallback, trial: Any) -> None:
    callback.on_trial_start(0, [], trial)
    report(callback, trial, 1)
    callback.on_checkpoint(0, [], trial, None)
    assert curve(tracker, trials_of(tracker, callback.stage_run_id)["1.0"]) == [1]


def test_no_tracker_travels_in_a_pickle(callback: TrialCallback) -> None:
    from ray import cloudpickle

    assert cloudpickle.loads(cloudpickle.dumps(callback)).tracker is None

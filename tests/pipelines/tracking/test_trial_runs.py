"""Tune's trials as MLflow runs: on a real Tune, through failures of MLflow, a kill and a restore."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from ray import tune
from ray.tune.schedulers import ASHAScheduler

from pipelines.engine.machines.ray_start import patient_start
from pipelines.tracking.connection.store import TrackingError, search_all
from pipelines.tracking.tracker import Tracker
from pipelines.tracking.trial_runs import STOPPED_EARLY, TrialCallback, reconnect
from tests.waiting import LONGER, wait_until

REPOSITORY = Path(__file__).resolve().parents[3]
STEPS = 8


@pytest.fixture(scope="module")
def ray_here() -> Iterator[str]:
    """The address of a Ray for the module."""
    with patient_start():
        ray.init(address="local", num_cpus=2, include_dashboard=False, logging_level=logging.ERROR, log_to_driver=False)
    yield ray.get_runtime_context().gcs_address
    ray.shutdown()


def make_trainable(hangs_at: int = 0) -> type[tune.Trainable]:
    """A class Ray pickles by value: workers cannot import a test. At one step it may wait for whoever kills it."""

    class Falling(tune.Trainable):
        def setup(self, config: dict[str, Any]) -> None:
            self.at = 0

        def step(self) -> dict[str, Any]:
            self.at += 1
            if self.at == hangs_at:
                time.sleep(LONGER)
            if self.config["start"] < 0 and self.at == 3:
                raise RuntimeError("this trial fails")
            return {
                "step": self.at,
                "loss": self.config["start"] / self.at,
                "label": "text",
                "done": self.at >= self.config["steps"],
            }

        def save_checkpoint(self, checkpoint_dir: str) -> None:
            Path(checkpoint_dir, "at.json").write_text(json.dumps(self.at))

        def load_checkpoint(self, checkpoint_dir: str) -> None:  # type: ignore[override]
            self.at = json.loads(Path(checkpoint_dir, "at.json").read_text())

        def reset_config(self, new_config: dict[str, Any]) -> bool:
            self.config, self.at = new_config, 0
            return True

    return Falling


def make_tuner(
    tracker: Tracker,
    stage: str,
    folder: Path,
    starts: list[float],
    *,
    hangs_at: int = 0,
    concurrent: int = 1,
    grace: int = 2,
) -> tuple[tune.Tuner, TrialCallback]:
    callback = TrialCallback(tracker, stage, searched=["start"], steps="steps", batch=3, seconds=60)
    tuner = tune.Tuner(
        make_trainable(hangs_at),
        param_space={"start": tune.grid_search(starts), "steps": STEPS},
        tune_config=tune.TuneConfig(
            metric="loss",
            mode="min",
            scheduler=ASHAScheduler(time_attr="step", max_t=STEPS, grace_period=grace, reduction_factor=2),
            max_concurrent_trials=concurrent,
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            name="search",
            storage_path=str(folder),
            callbacks=[callback],
            checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=2, num_to_keep=1),
            verbose=0,
        ),
    )
    return tuner, callback


def begin(tracker: Tracker) -> str:
    parent = tracker.begin_run("key", name="run", tags={}, params={})
    return tracker.begin_stage(parent, stage="search", branch="vit", fingerprint="f", params={})


def trials_of(tracker: Tracker, stage: str) -> dict[str, Run]:
    runs = search_all(tracker.client, tracker.experiment_id, f"tags.mlflow.parentRunId = '{stage}'")
    return {run.data.params["start"]: run for run in runs}


def curve(tracker: Tracker, run: Run) -> list[int]:
    return sorted(point.step for point in tracker.client.get_metric_history(run.info.run_id, "loss"))


def drive(uri: str, experiment: str, folder: str, ray_address: str) -> None:
    """A whole driver, for a test that kills it."""
    ray.init(address=ray_address, logging_level=logging.ERROR, log_to_driver=False)
    tracker = Tracker(uri, experiment)
    tuner, _ = make_tuner(tracker, begin(tracker), Path(folder), [1.0, 2.0], hangs_at=5, concurrent=2, grace=STEPS)
    tuner.fit()


def test_a_search_leaves_one_finished_run_per_trial(ray_here: str, tracker: Tracker, tmp_path: Path) -> None:
    stage = begin(tracker)
    tuner, callback = make_tuner(tracker, stage, tmp_path, [1.0, 5.0, -1.0])
    tuner.fit()
    runs = trials_of(tracker, stage)
    assert callback.unwritten == 0
    assert {start: run.info.status for start, run in runs.items()} == {
        "1.0": "FINISHED",
        "5.0": "FINISHED",
        "-1.0": "FAILED",
    }
    assert curve(tracker, runs["1.0"]) == list(range(1, STEPS + 1))
    assert STOPPED_EARLY not in runs["1.0"].data.tags
    assert runs["5.0"].data.tags[STOPPED_EARLY] == f"step 2 of {STEPS}" and curve(tracker, runs["5.0"]) == [1, 2]
    assert "this trial fails" in runs["-1.0"].data.tags["nullspace.error"]
    assert runs["1.0"].data.params == {"start": "1.0"} and set(runs["1.0"].data.metrics) == {"loss"}
    assert tracker.client.get_run(stage).info.status == "RUNNING", "the stage's own end belongs to its stage"


def test_a_killed_search_continues_in_the_same_runs(ray_here: str, tracker: Tracker, tmp_path: Path) -> None:
    said = tmp_path / "said"
    with said.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, __file__, tracker.uri, tracker.experiment, str(tmp_path), ray_here],
            stdout=out,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY), "TUNE_GLOBAL_CHECKPOINT_S": "0"},
            start_new_session=True,
        )
    try:
        before = wait_for_points(tracker, process, said)
    finally:
        process.kill()
        process.wait()
    later = Tracker(tracker.uri, tracker.experiment)
    stage = begin(later)
    assert {run.info.status for run in trials_of(later, stage).values()} == {"KILLED"}

    tuner = tune.Tuner.restore(str(tmp_path / "search"), make_trainable(), resume_errored=True)
    with pytest.raises(TrackingError, match="call reconnect"):
        tuner.fit()
    tuner = tune.Tuner.restore(str(tmp_path / "search"), make_trainable(), resume_errored=True)
    callback = reconnect(tuner, later)
    found = tuner.fit()
    assert not found.errors
    runs = trials_of(later, stage)
    assert {run.info.run_id for run in runs.values()} == before
    assert {run.info.status for run in runs.values()} == {"FINISHED"}
    assert callback.unwritten == 0
    assert [curve(later, run) for run in runs.values()] == [list(range(1, STEPS + 1))] * 2, (
        "no step twice, none missing"
    )


def wait_for_points(tracker: Tracker, process: subprocess.Popen[bytes], said: Path) -> set[str]:
    """The ids of both trials, once both have points in MLflow."""

    def found() -> set[str]:
        runs = search_all(tracker.client, tracker.experiment_id, "metrics.loss > 0")
        return {run.info.run_id for run in runs} if len(runs) == 2 else set()

    return wait_until(found, "both trials have points", process=process, said=said, pause=0.1)


def test_a_tuner_without_the_callback_cannot_be_reconnected(ray_here: str, tracker: Tracker, tmp_path: Path) -> None:
    bare = tune.Tuner(make_trainable(), run_config=tune.RunConfig(storage_path=str(tmp_path)))
    with pytest.raises(TrackingError, match="Tuner with a TrialCallback"):
        reconnect(bare, tracker)


# ---- without Ray: MLflow fails, Tune does not ------------------------------------------------------------------------


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


if __name__ == "__main__":
    drive(*sys.argv[1:])

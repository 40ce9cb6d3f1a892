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
from typing import Any

import pytest
import ray
from ray import tune
from ray.tune.schedulers import ASHAScheduler

from pipelines.engine.machines.ray_start import patient_start
from pipelines.tracking.connection.store import TrackingError, search_all
from pipelines.tracking.tracker import Tracker
from pipelines.tracking.trial_runs import STOPPED_EARLY, TrialCallback, reconnect
from tests.pipelines.tracking.trials import begin, curve, trials_of
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
            # All are kept: Tune removes older ones before it has saved which is the newest.
            checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=2),
            verbose=0,
        ),
    )
    return tuner, callback


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
    output = tmp_path / "output"
    with output.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, __file__, tracker.uri, tracker.experiment, str(tmp_path), ray_here],
            stdout=out,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY), "TUNE_GLOBAL_CHECKPOINT_S": "1"},
            start_new_session=True,
        )
    try:
        before = wait_for_points(tracker, process, output)
        wait_for_snapshot(tmp_path / "search", process, output)
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


def wait_for_points(tracker: Tracker, process: subprocess.Popen[bytes], output: Path) -> set[str]:
    """The ids of both trials, once both have points in MLflow."""

    def found() -> set[str]:
        runs = search_all(tracker.client, tracker.experiment_id, "metrics.loss > 0")
        return {run.info.run_id for run in runs} if len(runs) == 2 else set()

    return wait_until(found, "both trials have points", process=process, output=output, pause=0.1)


def wait_for_snapshot(folder: Path, process: subprocess.Popen[bytes], output: Path) -> None:
    """Until Tune has written all files of its state, which it does one after the other, a second before the next."""
    began, kinds = time.time(), ("basic-variant-state-*", "callback-states-*", "experiment_state-*")

    def whole() -> bool:
        return all(any(file.stat().st_mtime > began for file in folder.glob(kind)) for kind in kinds)

    wait_until(whole, "Tune has written its state", process=process, output=output, pause=0.05)


def test_a_tuner_without_the_callback_cannot_be_reconnected(ray_here: str, tracker: Tracker, tmp_path: Path) -> None:
    bare = tune.Tuner(make_trainable(), run_config=tune.RunConfig(storage_path=str(tmp_path)))
    with pytest.raises(TrackingError, match="Tuner with a TrialCallback"):
        reconnect(bare, tracker)


if __name__ == "__main__":
    drive(*sys.argv[1:])

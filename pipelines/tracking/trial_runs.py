"""Tune's trials as MLflow runs: one grandchild per trial, written in batches, continued after a restore.

The stock callback makes flat runs, one request per metric on Tune's loop, and duplicates after a restore.
"""

from __future__ import annotations

import copy
import logging
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from typing import Any

from ray.tune import Callback, Tuner
from ray.tune.experiment import Trial
from ray.tune.result import AUTO_RESULT_KEYS

from pipelines.tracking.connection.store import WRITE_ERRORS, TrackingError, reason
from pipelines.tracking.tracker import Status, Tracker, now_ms

QUIET_SECONDS = 30  # after a failure: a server that swallows requests costs a minute for each, and Tune's loop waits

log = logging.getLogger(__name__)

STEP = "step"  # the trainable's own count: Tune's training_iteration starts again at 1 after a restore
BOOKKEEPING = frozenset({*AUTO_RESULT_KEYS, STEP, "trial_id", "experiment_tag", "done", "should_checkpoint"})
STOPPED_EARLY = "nullspace.stopped_early"


@dataclass
class TrialRecord:
    """What is known of one trial and not yet written. Plain data: it travels in Tune's own state."""

    params: dict[str, Any]
    points: list[tuple[int, dict[str, float], int]] = field(default_factory=list)
    tags: dict[str, str] = field(default_factory=dict)
    status: Status | None = None  # the final one, once Tune has reported it
    last_step: int = 0
    closed: bool = False  # the final status is in MLflow


class TrialCallback(Callback):
    """Write every trial of a search as a run below the search's run.

    Args:
        tracker: the driver's; dropped when Tune pickles the callback (it may hold a password), so call
            `reconnect(tuner, tracker)` after `Tuner.restore`.
        stage_run_id: the run of the search stage.
        searched: names in the trial's config to record as parameters.
        steps: how many steps a whole trial takes, or the name in the trial's config that says so. A trial Tune
            completed before that was stopped by the scheduler: FINISHED with tag `nullspace.stopped_early`.
        metrics: names of results to record; None records every number that is not Tune's bookkeeping.
        batch, seconds: a trial's points are written when there are `batch` of them, or the oldest waited `seconds`;
            at every checkpoint; and at its end.

    The search goes on when MLflow fails: points wait in memory and in Tune's saved state, the failure is logged once,
    and every later batch tries again. `unwritten` says how many trials still wait; `flush()` waits for the store.
    """

    def __init__(
        self,
        tracker: Tracker,
        stage_run_id: str,
        *,
        searched: Sequence[str],
        steps: int | str,
        metrics: Sequence[str] | None = None,
        batch: int = 50,
        seconds: float = 5.0,
    ) -> None:
        self.tracker: Tracker | None = tracker
        self.stage_run_id = stage_run_id
        self.searched, self.metrics = tuple(searched), None if metrics is None else tuple(metrics)
        self.steps, self.batch, self.seconds = steps, batch, seconds
        self.records: dict[str, TrialRecord] = {}
        self._run_ids: dict[str, str] = {}  # of this process: after a restore each run is looked up and opened again
        self._failure: Exception | None = None
        self._retry_at = 0.0

    @property
    def unwritten(self) -> int:
        """Number of trials with something not yet in MLflow."""
        return sum(bool(record.points) or not record.closed for record in self.records.values())

    def flush(self) -> None:
        """Write everything that waits, and wait for a store that is away. Raises TrackingError: how much is missing."""
        self._retry_at = 0.0
        failures = [error for trial_id in self.records if (error := self._write(trial_id, patient=True))]
        if failures:
            points = sum(len(record.points) for record in self.records.values())
            raise TrackingError(
                f"expected MLflow to take all trials, got {failures[0]}; {points} points of {self.unwritten} trials "
                "are not written. The search's own files are complete: run the same command again to write them."
            ) from failures[0]

    # ---- Tune calls these ----------------------------------------------------------------------------------------

    def setup(
        self, stop: Any = None, num_samples: int | None = None, total_num_samples: int | None = None, **info: Any
    ):
        """Refuse to start without a tracker: a restored callback has none."""
        if self.tracker is None:
            raise TrackingError(
                "expected a tracker, got a restored TrialCallback without one: call reconnect(tuner, …)"
            )

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Open the trial's run, or continue it."""
        record = self._record(trial)
        record.status, record.closed = None, False
        self._write(trial.trial_id)

    def on_trial_result(self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any):
        """Take one result; write when a batch is full or old."""
        record = self._record(trial)
        record.last_step = int(result[STEP])
        record.points.append((record.last_step, self._measured(result), now_ms()))
        waited = now_ms() - record.points[0][2]
        if len(record.points) >= self.batch or waited >= self.seconds * 1000:
            self._write(trial.trial_id)

    def on_checkpoint(self, iteration: int, trials: list[Trial], trial: Trial, checkpoint: Any, **info: Any) -> None:
        """A resumed trial goes on after its checkpoint and reports nothing before it again: write now."""
        self._write(trial.trial_id)

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """The trial reached its end, or the scheduler stopped it."""
        self._note_early_stop(trial)
        self._finish(trial.trial_id, "FINISHED")

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """The trial failed for good: keep the traceback with its run."""
        self._record(trial).tags["nullspace.error"] = error_text(trial)
        self._finish(trial.trial_id, "FAILED")

    def on_experiment_end(self, trials: list[Trial], **info: Any) -> None:
        """Close trials that Tune ended without notice (Ctrl-C, a time budget) as KILLED, and try again to write all."""
        self._retry_at = 0.0
        by_id = {trial.trial_id: trial for trial in trials}
        for trial_id, record in self.records.items():
            self._finish(trial_id, record.status or self._status_of(trial_id, by_id.get(trial_id)))
        if self.unwritten:
            log.warning("%d trials are not completely in MLflow yet", self.unwritten)

    def get_state(self) -> dict[str, Any]:
        """What is not yet written: Tune keeps it with the experiment."""
        return {"records": {trial_id: asdict(record) for trial_id, record in self.records.items()}}

    def set_state(self, state: dict[str, Any]) -> None:
        """Take up what a killed driver had not written."""
        self.records = {trial_id: TrialRecord(**record) for trial_id, record in state["records"].items()}
        self._run_ids = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "tracker": None, "_run_ids": {}, "_failure": None, "_retry_at": 0.0}

    # ---- inside --------------------------------------------------------------------------------------------------

    def _record(self, trial: Trial) -> TrialRecord:
        if trial.trial_id not in self.records:
            params = {name: copy.copy(trial.config[name]) for name in self.searched}
            self.records[trial.trial_id] = TrialRecord(params)
        return self.records[trial.trial_id]

    def _note_early_stop(self, trial: Trial) -> None:
        record = self._record(trial)
        planned = int(trial.config[self.steps]) if isinstance(self.steps, str) else self.steps
        if record.last_step < planned:
            record.tags[STOPPED_EARLY] = f"step {record.last_step} of {planned}"

    def _status_of(self, trial_id: str, trial: Trial | None) -> Status:
        """The status of a trial whose end Tune has not reported in this process."""
        if trial is not None and trial_id not in self._run_ids and trial.status == Trial.ERROR:
            return "FAILED"
        if trial is not None and trial_id not in self._run_ids and trial.status == Trial.TERMINATED:
            # Over before the restore: Tune's trials were saved, then the driver died before this callback's state was.
            self._note_early_stop(trial)
            return "FINISHED"
        return "KILLED"

    def _measured(self, result: Mapping[str, Any]) -> dict[str, float]:
        names = self.metrics if self.metrics is not None else [name for name in result if name not in BOOKKEEPING]
        return {name: float(result[name]) for name in names if _is_number(result.get(name))}

    def _finish(self, trial_id: str, status: Status) -> None:
        self.records[trial_id].status = status
        self._write(trial_id)

    def _write(self, trial_id: str, *, patient: bool = False) -> Exception | None:
        """Bring MLflow up to the record; every step of it can be repeated. Returns the error, reported once.

        Without `patient` a store that is away is an error at once: Tune's loop, and with it every trial, must not wait.
        """
        record = self.records.get(trial_id)
        if record is None or (record.closed and not record.points):
            return None
        if time.monotonic() < self._retry_at:
            return self._failure
        try:
            with nullcontext() if patient or self.tracker is None else self.tracker.patience.at_once():
                self._write_record(trial_id, record)
        except WRITE_ERRORS as error:
            if self._failure is None:
                why = reason(error)
                log.warning("MLflow does not take trial %s (%s); the search goes on, points wait", trial_id, why)
            self._failure, self._retry_at = error, time.monotonic() + QUIET_SECONDS
            return error
        self._failure = None
        return None

    def _write_record(self, trial_id: str, record: TrialRecord) -> None:
        if self.tracker is None:
            raise TrackingError(
                "expected a tracker, got a restored TrialCallback without one: call reconnect(tuner, …)"
            )
        if trial_id not in self._run_ids:
            self._run_ids[trial_id] = self.tracker.begin_trial(
                self.stage_run_id, trial_id=trial_id, params=record.params
            )
        run_id = self._run_ids[trial_id]
        if record.points:
            self.tracker.series(run_id, record.points)
            record.points.clear()
        if record.status:
            self.tracker.tags(run_id, record.tags)
            self.tracker.end(run_id, record.status)
            record.closed = True
            del self._run_ids[trial_id]  # a trial started again opens its run again


def reconnect(tuner: Tuner, tracker: Tracker) -> TrialCallback:
    """Give the callback of a restored Tuner a tracker, and return it. Raises TrackingError when it has none."""
    local = getattr(tuner, "_local_tuner", None)  # Tuner.restore takes no callbacks: its pickled ones are all there is
    callbacks = (local.get_run_config().callbacks if local is not None else None) or []
    for callback in callbacks:
        if isinstance(callback, TrialCallback):
            callback.tracker = tracker
            return callback
    raise TrackingError("expected a restored Tuner with a TrialCallback, got one without; start the search again")


def _is_number(value: Any) -> bool:
    return not isinstance(value, (str, bytes, Mapping, list, tuple)) and hasattr(value, "__float__")


def error_text(trial: Trial) -> str:
    """The traceback of a trial that failed."""
    path = trial.error_file
    try:
        with open(path or "", encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return f"no traceback was kept ({time.strftime('%Y-%m-%d %H:%M:%S')})"

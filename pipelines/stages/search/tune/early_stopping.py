"""ASHA that survives a kill: after a restore it decides as if there had been none.

Tune restores trials and searcher, but no scheduler, and its state is older than the last results: a trial reports some
of them again, or goes on though it was to be stopped. So every decision is written down before Tune hears of it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from ray.tune.execution.tune_controller import TuneController
from ray.tune.experiment import Trial
from ray.tune.schedulers import ASHAScheduler
from ray.tune.utils import flatten_dict

JOURNAL = "decisions.jsonl"  # in the folder of the search; no `.json`, which Tune would copy about
_COMPLETE = "COMPLETE"


class _Event(NamedTuple):
    """A result that the scheduler got, and its answer: a decision, or that the trial is complete."""

    trial: str
    time: int
    value: float
    said: str


class ResumableASHA(ASHAScheduler):
    """ASHA with a journal, from which a restored search takes its rungs and the decisions that were made before."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._journal: Path | None = None
        self._before: dict[str, list[_Event]] = {}  # of an earlier process, by trial
        self._said: dict[tuple[str, int], str] = {}
        self._complete: set[str] = set()
        self._to_stop: set[str] = set()

    def on_trial_add(self, tune_controller: TuneController, trial: Trial) -> None:
        super().on_trial_add(tune_controller, trial)
        if self._journal is None and trial.storage is not None:
            self._journal = Path(trial.storage.experiment_fs_path, JOURNAL)
            for event in _read(self._journal):
                self._before.setdefault(event.trial, []).append(event)
        # What Tune has forgotten, it suggests again under another name: only trials it still knows count.
        for event in self._before.pop(trial.trial_id, []):
            self._replay(tune_controller, trial, event)

    def on_trial_result(self, tune_controller: TuneController, trial: Trial, result: dict[str, Any]) -> str:
        time = result[self._time_attr]
        if (trial.trial_id, time) not in self._said:
            said = super().on_trial_result(tune_controller, trial, result)
            self._note(_Event(trial.trial_id, time, result[str(self._metric)], said))
        return self._said[trial.trial_id, time]

    def on_trial_complete(self, tune_controller: TuneController, trial: Trial, result: dict[str, Any]) -> None:
        if trial.trial_id not in self._complete:
            super().on_trial_complete(tune_controller, trial, result)
            self._note(_Event(trial.trial_id, result[self._time_attr], result[str(self._metric)], _COMPLETE))
        self._trial_info.pop(trial.trial_id, None)

    def on_trial_remove(self, tune_controller: TuneController, trial: Trial) -> None:
        self._trial_info.pop(trial.trial_id, None)

    def choose_trial_to_run(self, tune_controller: TuneController) -> Trial | None:
        """Before anything runs: end the trials that a kill kept from being stopped."""
        for trial in [trial for trial in tune_controller.get_trials() if trial.trial_id in self._to_stop]:
            self._to_stop.remove(trial.trial_id)
            result = flatten_dict(trial.last_result)
            self.on_trial_complete(tune_controller, trial, result)
            # Of a trial that waits, Tune itself would tell the searcher that it ended without a result.
            tune_controller.search_alg.on_trial_complete(trial.trial_id, result=result)
            tune_controller.stop_trial(trial)
        return super().choose_trial_to_run(tune_controller)

    def _replay(self, tune_controller: TuneController, trial: Trial, event: _Event) -> None:
        result = {self._time_attr: event.time, self._metric: event.value}
        if event.said == _COMPLETE:
            super().on_trial_complete(tune_controller, trial, result)
            super().on_trial_add(tune_controller, trial)  # it may have to complete once more for Tune
        else:
            super().on_trial_result(tune_controller, trial, result)
        self._remember(event)
        if event.said == self.STOP and trial.status == Trial.PENDING and _saved_until(trial) >= event.time:
            self._to_stop.add(trial.trial_id)

    def _note(self, event: _Event) -> None:
        self._remember(event)
        if self._journal is not None:
            with self._journal.open("a", encoding="utf-8") as file:
                file.write(f"\n{json.dumps(event)}")  # the line break comes first: it ends a line that a kill cut off

    def _remember(self, event: _Event) -> None:
        if event.said == _COMPLETE:
            self._complete.add(event.trial)
        else:
            self._said[event.trial, event.time] = event.said


def _saved_until(trial: Trial) -> int:
    """The step at which a restored trial goes on."""
    saved = trial.latest_checkpoint_result
    return saved.metrics["step"] if saved is not None else 0


def _read(journal: Path) -> Iterator[_Event]:
    """What was written down, oldest first, without a line that a kill cut off."""
    for line in journal.read_text(encoding="utf-8").splitlines() if journal.is_file() else []:
        try:
            yield _Event(*json.loads(line))
        except ValueError:
            continue

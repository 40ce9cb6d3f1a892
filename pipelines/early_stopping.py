"""ASHA that survives a kill: what trials reported before a restore still decides who goes on after it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ray.tune.execution.tune_controller import TuneController
from ray.tune.experiment import Trial
from ray.tune.result import EXPR_RESULT_FILE
from ray.tune.schedulers import ASHAScheduler


class ResumableASHA(ASHAScheduler):
    """Tune restores trials and searcher, but no scheduler: without this, trials go unjudged after one."""

    def on_trial_add(self, tune_controller: TuneController, trial: Trial) -> None:
        super().on_trial_add(tune_controller, trial)
        bracket = self._trial_info[trial.trial_id]
        for result in _reported(trial):
            bracket.on_result(trial, result[self._time_attr], self._metric_op * result[str(self._metric)])


def _reported(trial: Trial) -> Iterator[dict[str, Any]]:
    """Results a trial reported in an earlier process, oldest first; a line a kill cut off ends them."""
    if trial.storage is None or not trial.storage.trial_dir_name:
        return  # a new trial: it has no folder yet
    file = Path(trial.storage.trial_fs_path, EXPR_RESULT_FILE)
    for line in file.read_text(encoding="utf-8").splitlines() if file.is_file() else []:
        try:
            yield json.loads(line)
        except ValueError:
            return

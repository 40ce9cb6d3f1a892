"""Optuna's suggestions for a search that may have been killed, or whose failed trials are tried again."""

from __future__ import annotations

from typing import Any

from ray.tune.search.optuna import OptunaSearch


class ResumableOptuna(OptunaSearch):
    """Tune saves its trials and this searcher one after the other, and hands failed trials to the searcher only once.

    After a kill in between, or when a failed trial is restarted, results come of trials the searcher does not hold
    open. OptunaSearch would end the whole search with a KeyError, or forget them; here they are taken as evaluated.
    """

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        if self._is_open(trial_id):
            super().on_trial_result(trial_id, result)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        if self._is_open(trial_id):
            super().on_trial_complete(trial_id, result, error)
        elif result and not error:
            space: Any = self._space  # names and distributions, once the search has begun
            searched = {name: result["config"][name] for name in space}
            self.add_evaluated_point(searched, result[str(self._metric)])
            self._completed_trials.add(trial_id)

    def _is_open(self, trial_id: str) -> bool:
        return trial_id in self._ot_trials and trial_id not in self._completed_trials

"""Progress of a search: trials done, and the best radius so far."""

from __future__ import annotations

from typing import Any

from ray.tune import Callback, Tuner
from ray.tune.experiment import Trial

from pipelines.engine.progress import Counter
from pipelines.tracking.trial_runs import error_text
from pipelines.wording import last_line


class SearchProgress(Callback):
    """Counts trials. Tune pickles its callbacks; a terminal is left out and given back by `attach`."""

    def __init__(self, counter: Counter | None) -> None:
        self.counter = counter
        self.best, self.over = 0.0, 0

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "counter": None}

    def get_state(self) -> dict[str, Any]:
        """What Tune keeps while the search runs."""
        return {"best": self.best, "over": self.over}

    def set_state(self, state: dict[str, Any]) -> None:
        """Go on counting where a killed search stopped."""
        self.best, self.over = state["best"], state["over"]
        if self.counter:
            self.counter.skip(self.over)

    def on_trial_result(self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any):
        self.best = max(self.best, result["radius"])
        if self.counter:
            self.counter.note(f"trial {trial.trial_id} step {result['step']}, best radius {self.best:.3g}")

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        self.over += 1
        if self.counter:
            self.counter.add(1)

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        if self.counter:
            # The whole traceback is in trials.parquet and in MLflow.
            why = last_line(error_text(trial), "no reason was kept")
            self.counter.progress.say(f"  trial {trial.trial_id} failed, the others go on: {why}")
            self.counter.add(1)


def attach(tuner: Tuner, counter: Counter) -> None:
    """Give the restored Tuner's SearchProgress, if it has one, somewhere to show itself."""
    local = getattr(tuner, "_local_tuner", None)  # Tuner.restore takes no callbacks: its pickled ones are all there is
    for callback in (local.get_run_config().callbacks if local is not None else None) or []:
        if isinstance(callback, SearchProgress):
            callback.counter = counter

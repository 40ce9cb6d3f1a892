"""Optuna's suggestions after a kill and after failures."""

from __future__ import annotations

from typing import Any

import optuna
import pytest
from ray import tune

from pipelines.stages.search.tune.suggestions import ResumableOptuna


@pytest.fixture
def searcher() -> ResumableOptuna:
    found = ResumableOptuna(sampler=optuna.samplers.TPESampler(seed=0), study_name="test")
    found.set_search_properties("radius", "max", {"norm": tune.uniform(0, 1), "data": 3})
    return found


def result(norm: float, radius: float) -> dict[str, Any]:
    return {"radius": radius, "training_iteration": 1, "config": {"norm": norm, "data": 3}}


def suggested(searcher: ResumableOptuna, trial_id: str) -> float:
    found = searcher.suggest(trial_id)
    assert found is not None
    return found["norm"]


def told(searcher: ResumableOptuna) -> list[tuple[float, float | None, str]]:
    return [(trial.params["norm"], trial.value, trial.state.name) for trial in searcher._ot_study.trials]  # pyright: ignore


def test_a_trial_it_suggested_is_reported_to_optuna(searcher: ResumableOptuna) -> None:
    norm = suggested(searcher, "a")
    searcher.on_trial_result("a", result(norm, 0.3))
    searcher.on_trial_complete("a", result(norm, 0.5))
    assert told(searcher) == [(norm, 0.5, "COMPLETE")]


def test_a_trial_it_does_not_know_is_taken_as_evaluated(searcher: ResumableOptuna) -> None:
    searcher.on_trial_result("lost", result(0.25, 0.3))
    searcher.on_trial_complete("lost", result(0.25, 0.5))
    searcher.on_trial_complete("dead", None, error=True)
    assert told(searcher) == [(0.25, 0.5, "COMPLETE")]


def test_a_failed_trial_that_is_tried_again_counts_then(searcher: ResumableOptuna) -> None:
    norm = suggested(searcher, "a")
    searcher.on_trial_complete("a", None, error=True)
    searcher.on_trial_result("a", result(norm, 0.3))
    searcher.on_trial_complete("a", result(norm, 0.7))
    assert told(searcher) == [(norm, None, "FAIL"), (norm, 0.7, "COMPLETE")]

"""Which searched value decided the radius."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pipelines.stages.search.importance import importance


def trials(count: int) -> list[dict[str, Any]]:
    """Radius of three times the norm and a little of the rate."""
    drawn = np.random.default_rng(0).uniform(size=(count, 2))
    return [{"norm": a, "rate": b, "steps": 5, "radius": 3 * a + 0.3 * b} for a, b in drawn.tolist()]


def test_shares_of_variance_add_up_and_find_what_matters() -> None:
    found = importance(trials(60), ("norm", "rate", "steps"), value="radius", seed=0)
    assert found is not None and sum(found.values()) == pytest.approx(1)
    # Of independent uniform values the shares of the variance are 9 : 0.09.
    assert found["norm"] == pytest.approx(0.99, abs=0.03) and found["steps"] == 0


def test_the_same_trials_give_the_same_shares() -> None:
    one, other = (importance(trials(20), ("norm", "rate"), value="radius", seed=3) for _ in range(2))
    assert one == other


def test_too_few_or_equal_trials_have_no_importance() -> None:
    assert importance(trials(7), ("norm", "rate"), value="radius", seed=0) is None
    failed = [{**trial, "radius": None} for trial in trials(30)]
    assert importance([*failed, *trials(5)], ("norm",), value="radius", seed=0) is None
    assert importance([{**trial, "radius": 1.0} for trial in trials(9)], ("norm",), value="radius", seed=0) is None

"""How much each searched value decided the radius: functional ANOVA over the trials, by Optuna."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

_FEWEST = 8  # with fewer trials a forest mostly fits their noise


def importance(
    trials: Sequence[Mapping[str, Any]], searched: Sequence[str], *, value: str, seed: int
) -> dict[str, float] | None:
    """Share of the variance of `value` that each searched number explains; they sum to 1.

    Args:
        trials: rows with the searched numbers and the value; rows without a finite value (failed trials) say nothing.

    Returns None with fewer than 8 such trials or equal values. Source: Hutter, Hoos, Leyton-Brown, ICML 2014 (fANOVA).
    """
    import optuna

    rows = [row for row in trials if row.get(value) is not None and math.isfinite(row[value])]
    if len(rows) < _FEWEST or len({row[value] for row in rows}) < 2:
        return None
    ranges = {name: (min(row[name] for row in rows), max(row[name] for row in rows)) for name in searched}
    varied = {
        name: optuna.distributions.FloatDistribution(float(low), float(high))
        for name, (low, high) in ranges.items()
        if low < high
    }
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize")
    for row in rows:
        params = {name: float(row[name]) for name in varied}
        study.add_trial(optuna.trial.create_trial(params=params, distributions=dict(varied), value=float(row[value])))
    found = optuna.importance.get_param_importances(
        study, evaluator=optuna.importance.FanovaImportanceEvaluator(seed=seed), params=list(varied)
    )
    return {name: float(found.get(name, 0.0)) for name in searched}

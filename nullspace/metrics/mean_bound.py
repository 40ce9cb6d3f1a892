"""An upper confidence bound on the mean of a bounded quantity, by betting; valid for any distribution and any n.

A gambler with capital 1 bets, image after image, that the mean is below m: the capital Π(1 + λ_t (m - x_t)) is a
supermartingale whenever the mean is at least m and every bet λ_t was placed before x_t was seen. By Ville's inequality
it then ever reaches 1/α with probability at most α, so capital 1/α refutes "mean >= m" at confidence 1 - α
(Waudby-Smith & Ramdas, Estimating means of bounded random variables by betting, JRSSB 86, 2024, theorem 3).

The bets are those of most growth in hindsight (their GRAPA), where hindsight begins with a single value of 0.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import root_scalar

from nullspace.errors import NullspaceError
from nullspace.metrics.sample_size import check_bound

_REFRESH = 1.1  # bets are updated when the past has grown by this factor: hardly worse than after every image


def upper_mean_bound(values: ArrayLike, *, target: float, confidence: float = 0.95, largest: float = 1.0) -> float:
    """Upper bound of the mean of `values` (n,), each in [0, largest], at `confidence`.

    It is at most `target` when the n bets refute "the mean is at least `target`"; the bets aim at that, so elsewhere
    the bound is valid but not the sharpest. `values` are in random order: independent draws of one distribution, or of
    a finite set without putting back. Deterministic. Raises NullspaceError.
    """
    check_bound(target, confidence, largest)
    bounded = _unit(values, largest)
    bets = _bets(bounded, target / largest)
    wanted = -math.log1p(-confidence)

    def missing(mean: float) -> float:
        return float(np.cumsum(np.log1p(bets * (mean - bounded))).max()) - wanted

    if missing(1.0) <= 0:  # too few values to refute anything
        return largest
    return largest * float(root_scalar(missing, bracket=(1e-12, 1.0), xtol=1e-12).root)


def _bets(values: NDArray[np.float64], goal: float) -> NDArray[np.float64]:
    """The bet on every value, placed by what came before it."""
    bets = np.empty(len(values))
    begin = 0
    while begin < len(values):
        end = max(begin + 1, int(begin * _REFRESH))
        bets[begin:end] = _best_bet(np.append(values[:begin], 0.0), goal)
        begin = end
    return bets


def _best_bet(past: NDArray[np.float64], goal: float) -> float:
    """λ in [0,1] of largest Σ log(1 + λ(goal - x)). With λ <= 1 no capital is ever lost entirely, whatever comes."""
    gains = goal - past

    def slope(bet: float) -> float:
        return float((gains / (1 + bet * gains)).sum())

    if slope(0.0) <= 0:
        return 0.0
    return 1.0 if slope(1.0) >= 0 else float(root_scalar(slope, bracket=(0.0, 1.0), xtol=1e-6).root)


def _unit(values: ArrayLike, largest: float) -> NDArray[np.float64]:
    scaled = np.asarray(values, dtype=np.float64).reshape(-1) / largest
    if not len(scaled):
        raise NullspaceError("expected at least one value to bound the mean of, got none")
    if not bool(((scaled >= 0) & (scaled <= 1)).all()):
        raise NullspaceError(f"expected values in [0, {largest:g}], got some outside or NaN; raise `largest`")
    return scaled

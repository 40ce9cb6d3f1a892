"""Medians with intervals, for figures that a few images would decide the mean of."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import stats


def median(name: str, values: np.ndarray) -> dict[str, Any]:
    """`name`: the median, and `<name>_ci`: its 95 % interval between order statistics, None where there are too few.

    Distribution-free (Conover 1999, section 3.2): the count of values below the median is binomial. An end of the
    interval that is infinite makes it None.
    """
    ordered, n = np.sort(values), len(values)
    low = int(stats.binom.ppf(0.025, n, 0.5))  # at most 2.5 % of samples have fewer than `low` values below the median
    ends = None if low < 1 else [float(ordered[low - 1]), float(ordered[n - low])]
    return {name: float(np.median(ordered)), f"{name}_ci": ends if ends is None or np.isfinite(ends).all() else None}

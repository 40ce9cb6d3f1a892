"""What noise does to a model's outputs: one row of outcomes per image, and aggregates with 95 % intervals.

Squared changes are sums over output dimensions, as in the paper; their aggregates are means over images.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy import special
from torch import Tensor

from nullspace.errors import NullspaceError

if TYPE_CHECKING:
    from nullspace.model.vit import Outputs

SQUARED = {
    "mse_features": "squared_feature_change",
    "mse_logits": "squared_logit_change",
    "mse_probabilities": "squared_probability_change",
}


def outcomes(clean: Outputs, noised: Outputs) -> dict[str, Tensor]:
    """One value per image (B,) for every column, on the CPU, computed in float64 from two `Outputs` of the same images.

    agree (bool), prediction_clean, prediction_noised (int64), confidence_clean, confidence_noised (probability of the
    CLEAN argmax before and after), squared_{feature,logit,probability}_change (sums over dimensions),
    max_abs_logit_change. Raises NullspaceError on unequal shapes, no images, or outputs that are not finite: a NaN
    compares as "unchanged" nowhere, but argmax would still name a class for it.
    """
    before, after = _comparable(clean.logits, noised.logits, "logits")
    features_before, features_after = _comparable(clean.features, noised.features, "features")
    if len(before) != len(features_before):
        raise NullspaceError(f"expected as many feature rows as logit rows, got {len(features_before)}, {len(before)}")
    p, q = before.softmax(-1), after.softmax(-1)
    prediction = before.argmax(-1)
    chosen = prediction.unsqueeze(-1)
    return {
        "agree": prediction == after.argmax(-1),
        "prediction_clean": prediction,
        "prediction_noised": after.argmax(-1),
        "confidence_clean": p.gather(-1, chosen).squeeze(-1),
        "confidence_noised": q.gather(-1, chosen).squeeze(-1),
        "squared_feature_change": (features_after - features_before).square().sum(-1),
        "squared_logit_change": (after - before).square().sum(-1),
        "squared_probability_change": (q - p).square().sum(-1),
        "max_abs_logit_change": (after - before).abs().amax(-1),
    }


def largest_probability_change(before: Tensor, after: Tensor) -> Tensor:
    """Largest change of any class's probability, per image (B,), between logits (B,K), in float64 on the CPU."""
    clean, changed = _comparable(before, after, "logits")
    return (changed.softmax(-1) - clean.softmax(-1)).abs().amax(-1)


def _comparable(clean: Tensor, noised: Tensor, what: str) -> tuple[Tensor, Tensor]:
    if clean.shape != noised.shape or clean.ndim != 2:
        raise NullspaceError(
            f"expected clean and noised {what} of one shape (B,K), got {tuple(clean.shape)} and {tuple(noised.shape)}"
        )
    if clean.numel() == 0:
        raise NullspaceError(f"expected {what} of at least one image, got shape {tuple(clean.shape)}")
    for name, values in (("clean", clean), ("noised", noised)):
        bad = int((~torch.isfinite(values).all(dim=-1)).sum())
        if bad:
            raise NullspaceError(
                f"{name} {what} of {bad} of {len(values)} images hold NaN or infinity; agreement of such outputs means "
                "nothing. Check the weights, the image range, and use float32"
            )
    return clean.detach().cpu().double(), noised.detach().cpu().double()  # MPS has no float64: to the CPU first


def wilson_interval(successes: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """Wilson score interval of a share (Wilson 1927): inside [0,1] and of sensible width also at 0 or n successes."""
    _check_level(level)
    if n < 1:
        raise NullspaceError(f"an interval of a share needs at least one image, got n={n}")
    if not 0 <= successes <= n:
        raise NullspaceError(f"expected 0 <= successes <= n={n}, got {successes}")
    z = float(special.ndtri(0.5 + level / 2))
    share = successes / n
    scale = 1 + z * z / n
    centre = (share + z * z / (2 * n)) / scale
    half = z / scale * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    low = 0.0 if successes == 0 else max(0.0, centre - half)  # exact at the ends, where rounding would leave 1e-17
    high = 1.0 if successes == n else min(1.0, centre + half)
    return low, high


@dataclass(frozen=True)
class Moments:
    """Count, mean and sum of squared deviations of some values: all their mean and its interval need."""

    n: int = 0
    mean: float = 0.0
    squares: float = 0.0

    @classmethod
    def of(cls, values: Any) -> Moments:
        """Moments of `values` (n,), in float64. Raises NullspaceError when there are none, or not all are finite."""
        data = _finite(values, "values")
        mean = float(data.mean())
        return cls(len(data), mean, float(np.square(data - mean).sum()))

    def __add__(self, other: Moments) -> Moments:
        """Moments of both together (Chan, Golub, LeVeque 1979), so that no one needs to hold all values."""
        if not self.n or not other.n:
            return other if other.n else self
        n, step = self.n + other.n, other.mean - self.mean
        squares = self.squares + other.squares + step * step * self.n * other.n / n
        return Moments(n, self.mean + step * other.n / n, squares)

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Student t interval of the mean. One value says nothing about scatter: (-inf, inf)."""
        _check_level(level)
        if self.n == 1:
            return -math.inf, math.inf
        deviation = math.sqrt(self.squares / (self.n - 1))
        half = float(special.stdtrit(self.n - 1, 0.5 + level / 2)) * deviation / math.sqrt(self.n)
        return self.mean - half, self.mean + half

    def named(self, name: str, level: float = 0.95) -> dict[str, Any]:
        """`name`: the mean, and `<name>_ci`: its interval or None; both None without a value."""
        if not self.n:
            return {name: None, f"{name}_ci": None}
        low, high = self.interval(level)
        return {name: self.mean, f"{name}_ci": [low, high] if math.isfinite(high - low) else None}


def mean_interval(values: Any, level: float = 0.95) -> tuple[float, float]:
    """Student t interval of the mean of `values` (n,); see `Moments`."""
    _check_level(level)
    return Moments.of(values).interval(level)


@dataclass(frozen=True)
class Summary:
    """Aggregates of `outcomes` of any number of images, taken in by the batch; see `summarise`."""

    kept: int = 0
    means: Mapping[str, Moments] = field(default_factory=dict)
    largest: float = 0.0

    @classmethod
    def of(cls, columns: Mapping[str, Any]) -> Summary:
        """Of `outcomes` columns (tensors, arrays or lists of equal length). Raises NullspaceError."""
        agree = _column(columns, "agree").astype(bool)
        n = len(agree)
        means = {name: Moments.of(_column(columns, column, n)) for name, column in SQUARED.items()}
        change = _column(columns, "confidence_noised", n) - _column(columns, "confidence_clean", n)
        means["confidence_change"] = Moments.of(change)
        return cls(int(agree.sum()), means, float(_column(columns, "max_abs_logit_change", n).max()))

    def __add__(self, other: Summary) -> Summary:
        if not self.means:
            return other
        means = {name: moments + other.means.get(name, Moments()) for name, moments in self.means.items()}
        return Summary(self.kept + other.kept, means, max(self.largest, other.largest))

    def to_dict(self, level: float = 0.95) -> dict[str, Any]:
        """Ready for JSON."""
        n = self.means["confidence_change"].n
        summary = {"n": n, "agreement": self.kept / n, "agreement_ci": list(wilson_interval(self.kept, n, level))}
        for name, moments in self.means.items():
            summary |= moments.named(name, level)
        return summary | {"max_abs_logit_change": self.largest}


def summarise(columns: Mapping[str, Any], level: float = 0.95) -> dict[str, Any]:
    """Aggregates of `outcomes` columns (tensors, arrays or lists of equal length), ready for JSON.

    n, agreement, mse_features, mse_logits, mse_probabilities, confidence_change (noised minus clean), each with
    `<name>_ci` = [low, high]; and the largest max_abs_logit_change. With one image the intervals of means are None.
    """
    return Summary.of(columns).to_dict(level)


def _column(columns: Mapping[str, Any], name: str, length: int | None = None) -> np.ndarray:
    if name not in columns:
        raise NullspaceError(f"expected a column {name!r}, got {sorted(columns)}; pass what `outcomes` returns")
    data = _finite(columns[name], f"column {name!r}")
    if length is not None and len(data) != length:
        raise NullspaceError(f"expected {length} rows in column {name!r}, got {len(data)}")
    return data


def _finite(values: Any, what: str) -> np.ndarray:
    array = values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
    data = array.astype(np.float64).reshape(-1)
    if len(data) == 0:
        raise NullspaceError(f"expected at least one image in {what}, got none (n=0)")
    bad = int((~np.isfinite(data)).sum())
    if bad:
        raise NullspaceError(f"{what}: {bad} of {len(data)} entries are NaN or infinite; a mean of them means nothing")
    return data


def _check_level(level: float) -> None:
    if not 0.0 < level < 1.0:
        raise NullspaceError(f"expected a level between 0 and 1 such as 0.95, got {level}")


def median(name: str, values: np.ndarray) -> dict[str, Any]:
    """`name`: the median of values (n,), and `<name>_ci`: its 95 % interval between order statistics, or None.

    There is none of too few values.

    Distribution-free (Conover 1999, section 3.2): the count of values below the median is binomial. An end of the
    interval that is infinite makes it None.
    """
    from scipy import stats  # not before: it takes as long to import as all the rest

    ordered, n = np.sort(values), len(values)
    low = int(stats.binom.ppf(0.025, n, 0.5))  # at most 2.5 % of samples have fewer than `low` values below the median
    ends = None if low < 1 else [float(ordered[low - 1]), float(ordered[n - low])]
    return {name: float(np.median(ordered)), f"{name}_ci": ends if ends is None or np.isfinite(ends).all() else None}

"""Whether labels can be right: what a model's own predictions say about them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.stats import binom

_SHIFTS = (-1, 0, 1)
_LEVEL = 1e-3  # chance of a warning where nothing is wrong


@dataclass
class LabelCounts:
    """Sums over labelled images: how often label + shift is the prediction, and how sure the model is."""

    num_classes: int
    images: int = 0
    correct: dict[int, int] = field(default_factory=lambda: dict.fromkeys(_SHIFTS, 0))
    beyond: int = 0
    """Labels that are no class of the model."""
    largest: int = -1
    confidence: float = 0.0
    """Sum of the largest probabilities."""

    def add(self, labels: np.ndarray, predictions: np.ndarray, confidences: np.ndarray) -> None:
        """Take in integers (n,), integers (n,) and probabilities (n,); unlabelled images (-1) are left out."""
        known = labels >= 0
        labels, predictions = labels[known], predictions[known]
        if not len(labels):
            return
        self.images += len(labels)
        for shift in _SHIFTS:
            self.correct[shift] += int((labels + shift == predictions).sum())
        self.beyond += int((labels >= self.num_classes).sum())
        self.largest = max(self.largest, int(labels.max()))
        self.confidence += float(confidences[known].sum())


def label_warnings(counts: LabelCounts, *, earlier: Sequence[str] = ()) -> list[str]:
    """Sentences about labels that cannot be right; none where there is no evidence against them.

    `earlier` warnings about the labels come first; they explain an accuracy at chance, which is then not reported.
    """
    if not counts.images:
        return list(earlier)
    found = list(earlier)
    if counts.beyond:
        found.append(
            f"{counts.beyond} of {counts.images} labels are no class of the model, which has 0 to "
            f"{counts.num_classes - 1}; the largest is {counts.largest}: these images count as wrong"
        )
    shift = fitting_shift(counts.correct)
    if shift:
        right, now = (_percent(counts.correct[each], counts.images) for each in (shift, 0))
        how = "counted from 1: with 1 taken off each" if shift < 0 else "one too small: with 1 added to each"
        found.append(
            f"labels look {how}, clean accuracy is {right} instead of {now} (n = {counts.images}); correct them"
        )
    elif not earlier and not counts.beyond and at_chance(counts):
        sure = _percent(counts.confidence, counts.images)
        found.append(
            f"clean accuracy is {_percent(counts.correct[0], counts.images)} (n = {counts.images}), no better than "
            f"guessing, while the model is {sure} sure of its predictions: the labels are hardly this model's classes"
        )
    return found


def fitting_shift(correct: dict[int, int]) -> int:
    """The shift of labels under which far more of them are the predictions; 0 for none.

    Exact sign test (McNemar): no image is right under two shifts, so with equal accuracies each of the images that are
    right under one of them is so under either with chance 1/2.
    """
    best = max((shift for shift in correct if shift), key=lambda shift: correct[shift])
    more, less = correct[best], correct[0]
    return best if more > 2 * less and binom.sf(more - 1, more + less, 0.5) < _LEVEL / 2 else 0


def at_chance(counts: LabelCounts) -> bool:
    """Whether the accuracy is not above guessing, though the model's confidence promises far more.

    Two exact binomial tests: the number of right ones is not too large for chance 1/classes, and too small for half of
    the mean confidence.
    """
    right, n = counts.correct[0], counts.images
    expected = 0.5 * counts.confidence / n
    guessing = binom.sf(right - 1, n, 1 / counts.num_classes) >= _LEVEL
    return bool(guessing and binom.cdf(right, n, expected) < _LEVEL)


def _percent(part: float, whole: int) -> str:
    return f"{100 * part / whole:.3g} %"

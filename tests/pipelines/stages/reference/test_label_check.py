"""What predictions say about labels, on simulated models whose accuracy is known."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines.stages.reference.label_check import LabelCounts, fitting_shift, label_warnings


def counted(
    classes: int, images: int, accuracy: float, *, shift: int = 0, confidence: float = 0.8, beyond: int = 0
) -> LabelCounts:
    """Labels that are right for a share of the predictions, all moved by `shift`; the last `beyond` are no class."""
    rng = np.random.default_rng(0)
    truth = rng.integers(1, classes - 1, images)
    right = np.arange(images) < round(accuracy * images)
    predictions = np.where(right, truth, rng.integers(0, classes, images))
    labels = truth + shift
    labels[images - beyond :] = classes + 3
    counts = LabelCounts(classes)
    for part in (slice(0, 5), slice(5, None)):  # taken in piece by piece
        counts.add(labels[part], predictions[part], np.full(len(labels[part]), confidence))
    return counts


@pytest.mark.parametrize(
    ("classes", "images", "accuracy"), [(1000, 28, 0.7), (1000, 600, 0.05), (10, 50, 0.9), (2, 100, 0.6)]
)
def test_right_labels_are_not_warned_of(classes: int, images: int, accuracy: float) -> None:
    assert label_warnings(counted(max(classes, 3), images, accuracy)) == []


@pytest.mark.parametrize("images", [0, 1, 5])
def test_few_images_cause_no_warning(images: int) -> None:
    assert label_warnings(counted(1000, images, 0.0)) == []


@pytest.mark.parametrize("shift", [1, -1])
def test_a_shift_that_fits_is_named(shift: int) -> None:
    counts = counted(1000, 28, 0.75, shift=shift)
    assert fitting_shift(counts.correct) == -shift
    (warning,) = label_warnings(counts)
    how = "counted from 1: with 1 taken off each" if shift == 1 else "one too small: with 1 added to each"
    assert warning == f"labels look {how}, clean accuracy is 75 % instead of 0 % (n = 28); correct them"


@pytest.mark.parametrize(
    ("correct", "shift"),
    [
        ({-1: 11, 0: 0, 1: 0}, -1),
        ({-1: 0, 0: 0, 1: 11}, 1),
        ({-1: 10, 0: 0, 1: 0}, 0),  # 10 of 10 has chance 1/1024, for two shifts too much
        ({-1: 40, 0: 30, 1: 0}, 0),
        ({-1: 400, 0: 300, 1: 0}, 0),  # sure, but not far more
        ({-1: 50, 0: 10, 1: 3}, -1),
    ],
)
def test_a_shift_needs_evidence_and_size(correct: dict[int, int], shift: int) -> None:
    assert fitting_shift(correct) == shift


def test_the_chance_of_a_false_shift_is_the_stated_one() -> None:
    rng = np.random.default_rng(1)
    draws = rng.multinomial(200, [0.05, 0.05, 0.05, 0.85], size=20_000)
    false = sum(fitting_shift({-1: int(a), 0: int(b), 1: int(c)}) != 0 for a, b, c, _ in draws)
    assert false <= 20_000 * 1e-3


def test_an_accuracy_at_chance_of_a_confident_model_causes_a_warning() -> None:
    (warning,) = label_warnings(counted(1000, 100, 0.0, confidence=0.62))
    assert "no better than guessing, while the model is 62 % sure" in warning and "(n = 100)" in warning
    assert label_warnings(counted(1000, 100, 0.0, confidence=0.002)) == [], "random weights are not sure"
    known = ["the source has 8 classes"]
    assert label_warnings(counted(1000, 100, 0.0), earlier=known) == known, "an earlier warning explains it"


def test_labels_beyond_the_classes_are_counted() -> None:
    (warning,) = label_warnings(counted(1000, 100, 0.7, beyond=4))
    assert warning.startswith("4 of 100 labels are no class of the model, which has 0 to 999; the largest is 1003")


def test_unlabelled_images_do_not_count() -> None:
    counts = LabelCounts(10)
    counts.add(np.full(50, -1), np.zeros(50, int), np.ones(50))
    assert counts.images == 0 and label_warnings(counts) == []

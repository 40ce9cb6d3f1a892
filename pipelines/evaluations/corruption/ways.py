"""Names of this question: its figures, and its conditions, each corruption at each severity and means over them."""

from __future__ import annotations

from collections.abc import Iterator

from nullspace.robustness.corruptions.names import NAMES, SEVERITIES
from pipelines.evaluations.corruption.settings import CorruptionSettings

ERROR, EXCESS, MCE = "error", "excess_error", "mce"
"""Shares of wrong answers, how far above that of the clean image, and what an image adds to mCE; NaN without label."""
AGREEMENT, KERNEL, RMS, CHANGE = "agreement", "kernel_share", "change_rms", "mse_probabilities"
AVERAGED = (ERROR, AGREEMENT, KERNEL, RMS, CHANGE)
"""Figures of an image of which means over corruptions are taken."""
CLEAN = "clean"
MEAN = "mean"
"""The mean over all corruptions and severities."""


def at(name: str, severity: int) -> str:
    """A corruption at a severity."""
    return f"{name}_{severity}"


def over_names(severity: int) -> str:
    """The mean over corruptions at a severity."""
    return f"severity_{severity}"


def stored(condition: str) -> str:
    """The same condition, of files that others corrupted and stored."""
    return f"stored_{condition}"


def permuted(condition: str) -> str:
    """The control of a condition."""
    return f"{condition}_permuted"


def cells(settings: CorruptionSettings) -> list[str]:
    """Every corruption at every severity, controls left out."""
    return [at(name, severity) for name in settings.names for severity in settings.severities]


def means(settings: CorruptionSettings) -> Iterator[tuple[str, list[str]]]:
    """Each mean, and the cells it is over: of a corruption (under its name), of a severity, of all; no controls."""
    for name in settings.names:
        yield name, [at(name, severity) for severity in settings.severities]
    for severity in settings.severities:
        yield over_names(severity), [at(name, severity) for name in settings.names]
    yield MEAN, cells(settings)


def is_whole(settings: CorruptionSettings) -> bool:
    """Whether all of ImageNet-C is asked, as mCE needs."""
    return set(settings.names) == set(NAMES) and set(settings.severities) == set(SEVERITIES)

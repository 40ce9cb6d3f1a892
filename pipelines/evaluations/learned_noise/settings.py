"""What a config says of the learned noise, once it is found."""

from __future__ import annotations

from pipelines.evaluations.settings import EvaluationSettings


class LearnedNoiseSettings(EvaluationSettings):
    """The noise that the search found, beside controls of equal norm, on images it has not seen."""

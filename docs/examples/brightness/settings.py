"""What a config says of brightness."""

from __future__ import annotations

from pydantic import Field

from pipelines.evaluations.settings import EvaluationSettings


class BrightnessSettings(EvaluationSettings):
    """A step of brightness, up and down, beside none."""

    step: float = Field(default=0.2, gt=0, lt=1, description="added to every pixel in [0,1], and taken away")

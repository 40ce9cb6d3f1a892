"""What a config says of one model's noise on others."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, field_validator

from pipelines.evaluations.settings import EvaluationSettings, once
from pipelines.settings import HOW


class TransferSettings(EvaluationSettings):
    """The noise of one model, shown to the other models of the run."""

    models: tuple[str, ...] = Field(default=(), description="labels of the models that are asked; none: all of the run")
    images: int = Field(default=300, ge=1, description="images that it is asked of, drawn by seed")
    rms: float = Field(default=0.5, gt=0, description="RMS of the kernel's noise, in normalised pixel units")
    batch_images: Annotated[int, HOW] = Field(default=16, ge=1, description="images a worker has in memory at once")

    @field_validator("models")
    @classmethod
    def _each_once(cls, labels: tuple[str, ...]) -> tuple[str, ...]:
        return once(labels)

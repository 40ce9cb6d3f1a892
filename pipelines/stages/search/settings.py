"""What a config says of the search."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from pipelines.settings import HOW, Settings

Range = Annotated[tuple[float, float], Field(min_length=2, max_length=2)]


class SearchSettings(Settings):
    """Search for the largest noise whose mean squared probability change stays within `epsilon`."""

    trials: int = Field(default=8, ge=1)
    relative_norm: Range = Field(
        default=(0.1, 1.0), description="per-token norm held while learning, over the mean token norm"
    )
    learning_rate: Range = Field(
        default=(0.01, 0.1), description="per step, as a share of the size of what is learned; on a log scale"
    )
    ranks: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        default=(1, 4, 16, 64),
        min_length=1,
        description="how many directions, shared by all tokens, the noise has: one rank after the other",
    )
    steps: tuple[int, int] = Field(default=(50, 200), description="optimiser steps of a trial")
    batch_images: int = Field(default=32, ge=1)
    learn_images: int = Field(default=256, ge=1, description="images the noise is learned on")
    validation_images: int = Field(default=128, ge=1, description="held-out images that rank the trials")
    calibration_images: int = Field(
        default=512, ge=1, description="further images, used for nothing else, that set how large the noise may be"
    )
    precision: Literal["float32", "bfloat16"] = Field(
        default="float32",
        description="of the model while noise is learned; bfloat16 is faster on a GPU. What is measured stays float32",
    )
    epsilon: float = Field(
        default=0.02,
        gt=0,
        lt=2,
        description="mean ‖Δ softmax‖² on new images is at most this, with `confidence`",
    )
    confidence: float = Field(default=0.95, gt=0, lt=1, description="of that bound: the chance that it holds")
    report_every: int = Field(default=25, ge=1, description="optimiser steps between two reports of a trial")
    grace_steps: int = Field(default=50, ge=1, description="steps before ASHA may stop a trial")
    max_concurrent: Annotated[int | None, HOW] = Field(
        default=None, ge=1, description="trials at once; default: what the cluster can hold"
    )

    @field_validator("relative_norm", "learning_rate", "steps")
    @classmethod
    def _ordered(cls, value: tuple[float, float]) -> tuple[float, float]:
        low, high = value
        if not 0 < low <= high:
            raise ValueError(f"expected [low, high] with 0 < low <= high, got {list(value)}")
        return value

    @model_validator(mode="after")
    def _enough_to_calibrate(self) -> SearchSettings:

        from nullspace.errors import NullspaceError
        from nullspace.metrics.sample_size import require_enough

        try:
            require_enough(self.calibration_images, self.epsilon, self.confidence)
        except NullspaceError as error:
            raise ValueError(f"calibration_images, epsilon: {error}") from error
        return self

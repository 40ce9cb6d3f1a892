"""What a config says of natural corruptions."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, field_validator

from nullspace.robustness.corruptions.names import NAMES, SEVERITIES
from pipelines.evaluations.settings import EvaluationSettings, once
from pipelines.settings import HOW


class CorruptionSettings(EvaluationSettings):
    """The corruptions of ImageNet-C, beside their own changes in random order."""

    names: tuple[str, ...] = Field(default=NAMES, min_length=1, description="corruptions; mCE needs all 15")
    severities: tuple[int, ...] = Field(default=SEVERITIES, min_length=1, description="of 1 to 5; mCE needs all")
    stored: str | None = Field(
        default=None, description="folder or URI of stored ImageNet-C, KIND/SEVERITY/CLASS/FILE, asked beside"
    )
    images: int | None = Field(default=256, ge=2, description="images that are corrupted, drawn by seed; null: all")
    controls: bool = Field(default=True, description="also each change in random order, which costs as much again")
    batch_images: Annotated[int, HOW] = Field(default=32, ge=1, description="images a worker has in memory at once")
    examples: int = Field(default=2, ge=0, le=64, description="images kept as pictures for the report")

    @field_validator("names")
    @classmethod
    def _known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if name not in NAMES:
                raise ValueError(f"unknown corruption {name!r}; known are {', '.join(NAMES)}")
        return once(names)

    @field_validator("severities")
    @classmethod
    def _from_1_to_5(cls, values: tuple[int, ...]) -> tuple[int, ...]:
        for value in values:
            if value not in SEVERITIES:
                raise ValueError(f"expected severities of 1 to 5, got {value}")
        return once(values)

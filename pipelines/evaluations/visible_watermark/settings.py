"""What a config says of the visible watermark."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from pipelines.evaluations.settings import EvaluationSettings
from pipelines.local_options import LocalLogo
from pipelines.settings import HOW

Position = Literal[
    "center", "top", "bottom", "left", "right", "top-left", "top-right", "bottom-left", "bottom-right", "tile"
]


class VisibleWatermarkSettings(EvaluationSettings):
    """A mark in the kernel that people see."""

    text: str = Field(default="NULL", min_length=1, max_length=64, description="text of the mark; \\n breaks lines")
    logo: LocalLogo = Field(default=None, description="PNG with transparency used instead of the text")
    scale: float = Field(default=0.9, gt=0, le=1, description="width of the mark over the width of the image")
    position: Position = Field(default="center", description="where the mark lies; `tile` repeats it all over")
    opacity: float = Field(
        default=1.0, gt=0, le=1, description="share of the way to black and white that a pixel of the mark may go"
    )
    jpeg: bool = Field(default=True, description="keep the mark in the kernel after JPEG has thinned out its colours")
    iterations: int = Field(default=1000, ge=1, description="projections onto kernel ∩ pixel box, at most")
    batch_images: Annotated[int, HOW] = Field(default=32, ge=1, description="images a worker has in memory at once")
    examples: int = Field(default=4, ge=0, le=64, description="images kept as pictures for the report")

    @field_validator("text")
    @classmethod
    def _visible(cls, value: str) -> str:
        if not value.strip():
            raise ValueError("expected a text that can be seen, got blanks alone")
        return value

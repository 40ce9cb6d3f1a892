"""What a config says of hidden messages."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, field_validator

from pipelines.evaluations.settings import EvaluationSettings
from pipelines.settings import HOW


class PayloadSettings(EvaluationSettings):
    """Hidden messages: what is written, how strongly, and what they must survive."""

    message_bytes: int = Field(default=8, ge=1, le=32, description="length of every image's random message")
    psnr: int = Field(default=42, ge=34, le=50, description="quality in dB; a lower one is a stronger mark")
    distortions: tuple[str, ...] = Field(
        default=(
            *("none", "jpeg_90", "jpeg_75", "jpeg_50", "noise_0.02", "blur_0.5", "brightness_1.1"),
            *("saturation_0", "erase_0.1", "crop_0.9", "resize_0.7"),
        ),
        min_length=1,
        description="kind_strength, several joined by +; kinds: jpeg, webp, noise, blur, brightness, contrast, "
        "saturation, erase, crop, resize, rotate, shift, flip",
    )

    batch_images: Annotated[int, HOW] = Field(default=32, ge=1, description="images a worker has in memory at once")
    examples: int = Field(default=4, ge=0, le=64, description="images kept as pictures for the report")

    @field_validator("distortions")
    @classmethod
    def _known(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        from nullspace.errors import NullspaceError
        from nullspace.watermark.distortions import distortion_named

        try:
            names = tuple(distortion_named(name).name for name in value)
        except NullspaceError as error:
            raise ValueError(str(error)) from error
        if len(set(names)) < len(names):
            raise ValueError(f"expected each distortion once, got {', '.join(names)}")
        return names

"""What a config says of fooling the network."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from pipelines.evaluations.settings import EvaluationSettings, levels, once
from pipelines.settings import HOW

Look = Literal["grey", "noise"]


class FoolingSettings(EvaluationSettings):
    """Pictures that look like one image and that the model takes for another."""

    pairs: int = Field(default=96, ge=2, description="pairs of images of different predicted classes")
    at: tuple[str, ...] = Field(
        default=("logits",),
        min_length=1,
        description="what of the model is to be that of the other image: logits, features, tokens or block:N",
    )
    epsilon: tuple[float, ...] = Field(
        default=(2, 4, 8), min_length=1, description="largest changes of a pixel of the look, of 255"
    )
    looks: tuple[Look, ...] = Field(default=("grey", "noise"), description="looks of nothing, changed without a limit")
    exact: bool = Field(default=True, description="also the nearest picture to the look within kernel and pixel range")
    universal: tuple[float, ...] = Field(
        default=(32,),
        description="root mean squares, of 255, of one change of pixels for all images, learned from images not drawn",
    )
    universal_images: int = Field(default=128, ge=8, description="images that it is learned from, at most")
    universal_steps: int = Field(default=80, ge=1, description="steps of learning it, of 16 images each")
    steps: int = Field(default=40, ge=1, description="passes of the network for each image, at most")
    judges: tuple[str, ...] = Field(
        default=(), description="labels of other models of the run that say what they see in every fooled picture"
    )
    distortions: tuple[str, ...] = Field(
        default=("jpeg_90", "jpeg_75", "resize_0.9"), description="after which the model is asked again"
    )
    batch_images: Annotated[int, HOW] = Field(default=16, ge=1, description="images a worker has in memory at once")
    examples: int = Field(default=4, ge=0, le=64, description="pairs kept as pictures for the report")

    @field_validator("at")
    @classmethod
    def _depths(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        from nullspace.fooling.depth import DEPTHS, is_depth

        for name in names:
            if not is_depth(name):
                raise ValueError(f"expected {DEPTHS} with N from 0, got {name!r}")
        return once(names)

    @field_validator("universal")
    @classmethod
    def _sizes(cls, values: tuple[float, ...]) -> tuple[float, ...]:
        for value in values:
            if not 1 <= value <= 127:
                raise ValueError(f"expected a root mean square of at least 1 and at most 127, of 255, got {value:g}")
        return once(values)

    @field_validator("epsilon")
    @classmethod
    def _in_range(cls, values: tuple[float, ...]) -> tuple[float, ...]:
        return levels(values)

    @field_validator("distortions")
    @classmethod
    def _known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        # Not before: it brings torch, and configs are read for their help, too.
        from nullspace.errors import NullspaceError
        from nullspace.watermark.distortions import distortion_named

        try:
            return once(tuple(distortion_named(name).name for name in names))
        except NullspaceError as error:
            raise ValueError(str(error)) from error

"""What a config says of fooling explanations."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, field_validator, model_validator

from pipelines.evaluations.settings import EvaluationSettings, levels, once
from pipelines.settings import HOW


class AttributionSettings(EvaluationSettings):
    """Explanations of predictions under noise that leaves these as they are."""

    images: int = Field(default=48, ge=2, description="images that are explained, drawn by seed")
    maps: tuple[str, ...] = Field(
        default=("gradient", "input_times_gradient", "attention_rollout", "gradient_weighted_attention", "grad_cam"),
        min_length=1,
        description="explanations, beside these integrated_gradients and smooth_gradient (32 and 16 passes)",
    )
    searched: tuple[str, ...] = Field(
        default=("gradient_weighted_attention",), description="those of them that noise is searched for, to move them"
    )
    epsilon: tuple[float, ...] = Field(default=(4, 8), description="largest changes of a pixel by search, of 255")
    relative_norm: tuple[float, ...] = Field(
        default=(0.1,), description="sizes of noise on tokens by search, in mean token norms of the image"
    )
    steps: int = Field(default=20, ge=1, description="passes of the network in each search")
    largest_pixels: float = Field(
        default=0.02, gt=0, le=0.25, description="share of the pixels of input times gradient to be moved in the kernel"
    )
    learned: bool = Field(default=True, description="also the learned noise, where the run has a search")
    batch_images: Annotated[int, HOW] = Field(default=16, ge=1, description="images a worker has in memory at once")
    examples: int = Field(default=3, ge=0, le=64, description="images kept as pictures for the report")

    @field_validator("maps", "searched")
    @classmethod
    def _known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        # Not before: it brings torch, and configs are read for their help, too.
        from nullspace.attribution.maps import map_named
        from nullspace.errors import NullspaceError

        for name in names:
            try:
                map_named(name)
            except NullspaceError as error:
                raise ValueError(str(error)) from error
        return once(names)

    @field_validator("epsilon")
    @classmethod
    def _levels(cls, values: tuple[float, ...]) -> tuple[float, ...]:
        return levels(values)

    @field_validator("relative_norm")
    @classmethod
    def _positive(cls, values: tuple[float, ...]) -> tuple[float, ...]:
        for value in values:
            if not 0 < value <= 100:
                raise ValueError(f"expected more than 0 and at most 100 token norms, got {value:g}")
        return once(values)

    @model_validator(mode="after")
    def _searched_are_shown(self) -> Self:
        unknown = [name for name in self.searched if name not in self.maps]
        if unknown:
            raise ValueError(f"searched: {', '.join(unknown)} is not among maps: {', '.join(self.maps)}; add it there")
        return self

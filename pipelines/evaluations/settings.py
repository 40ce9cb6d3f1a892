"""What a config says of any evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Self, TypeVar

from pydantic import Field

from pipelines.settings import HOW, Settings

T = TypeVar("T")


class EvaluationSettings(Settings):
    """Base of an evaluation's section; a section that is null is not run."""

    batch_images: Annotated[int, HOW] = Field(default=64, ge=1, description="images a worker has in memory at once")

    @classmethod
    def of_result(cls, content: Mapping[str, Any]) -> Self:
        """The section from what a finished stage says of it; checked then, and checking brings torch."""
        return cls.model_construct(**content)


def once(values: tuple[T, ...]) -> tuple[T, ...]:
    """The values of a list; raises ValueError where one stands in it twice."""
    if len(set(values)) < len(values):
        given = ", ".join(f"{each:g}" if isinstance(each, float) else str(each) for each in values)
        raise ValueError(f"expected each once, got {given}")
    return values


def levels(values: tuple[float, ...]) -> tuple[float, ...]:
    """Largest changes of a pixel, of 255; raises ValueError for what pictures of 8 bits cannot have."""
    for value in values:
        if not 1 <= value <= 255:
            raise ValueError(f"expected at least 1 (of 255: pictures have 8 bits) and at most 255, got {value:g}")
    return once(values)

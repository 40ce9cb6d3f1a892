"""What a config says of any evaluation."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from pipelines.settings import HOW, Settings


class EvaluationSettings(Settings):
    """Base of an evaluation's section; a section that is null is not run."""

    batch_images: Annotated[int, HOW] = Field(default=64, ge=1, description="images a worker has in memory at once")

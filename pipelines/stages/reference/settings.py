"""What a config says of the reference."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from pipelines.settings import HOW, Settings


class ReferenceSettings(Settings):
    """The model on the clean images."""

    batch_images: Annotated[int, HOW] = Field(default=64, ge=1, description="images a worker has in memory at once")

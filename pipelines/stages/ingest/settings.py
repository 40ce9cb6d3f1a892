"""What a config says of the ingest."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from pipelines.settings import HOW, Settings


class IngestSettings(Settings):
    shard_images: int = Field(default=256, ge=1, description="images per shard")
    max_error_fraction: Annotated[float, HOW] = Field(
        default=0.01, ge=0, le=1, description="share of unreadable images a run tolerates"
    )
    max_pixels: int = Field(
        default=89_478_485, ge=1, description="images of more pixels are refused (decompression bombs)"
    )

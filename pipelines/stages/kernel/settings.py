"""What a config says of the kernel stage."""

from __future__ import annotations

from pydantic import Field

from pipelines.settings import Settings


class KernelSettings(Settings):
    """The exact nullspace of the patch embedding."""

    rtol: float | None = Field(default=None, gt=0, lt=1, description="rank tolerance; default max(m,n)·eps(float64)")

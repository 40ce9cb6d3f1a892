"""What a config says of noise from the kernel."""

from __future__ import annotations

from pydantic import Field

from pipelines.evaluations.settings import EvaluationSettings


class KernelNoiseSettings(EvaluationSettings):
    """Noise from the exact kernel, beside controls of equal norm."""

    rms: float = Field(default=0.5, gt=0, description="RMS of the noise, in normalised pixel units")
    examples: int = Field(default=6, ge=0, le=64, description="images kept as pictures for the report")

"""Everything a run can be told: one frozen pydantic model per section, every key with its default and its range."""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any

from pydantic import Field, field_validator, model_validator

from pipelines.configs.patterns import expanded
from pipelines.data.sources import SourceSettings
from pipelines.engine.settings import LABEL, ModelSettings, ResourceSettings, TrackingSettings
from pipelines.evaluations.adversarial.settings import AdversarialSettings
from pipelines.evaluations.attribution.settings import AttributionSettings
from pipelines.evaluations.corruption.settings import CorruptionSettings
from pipelines.evaluations.fooling.settings import FoolingSettings
from pipelines.evaluations.kernel_noise.settings import KernelNoiseSettings
from pipelines.evaluations.learned_noise.settings import LearnedNoiseSettings
from pipelines.evaluations.payload.settings import PayloadSettings
from pipelines.evaluations.transfer.settings import TransferSettings
from pipelines.evaluations.visible_watermark.settings import VisibleWatermarkSettings
from pipelines.settings import HOW, Settings, deciding
from pipelines.stages.ingest.settings import IngestSettings
from pipelines.stages.kernel.settings import KernelSettings
from pipelines.stages.reference.settings import ReferenceSettings
from pipelines.stages.search.settings import SearchSettings


class PipelineConfig(Settings):
    name: str = Field(description="name of the experiment in MLflow", pattern=f"^{LABEL.pattern}$")
    seed: int = Field(default=0, ge=0)
    device: Annotated[str, HOW] = Field(default="auto", description="auto, cpu, cuda, cuda:N or mps")
    source: SourceSettings
    models: list[ModelSettings] = Field(min_length=1)
    ingest: IngestSettings = IngestSettings()
    reference: ReferenceSettings = ReferenceSettings()
    kernel: KernelSettings = KernelSettings()
    # A section that is null is not run.
    search: SearchSettings | None = SearchSettings()
    kernel_noise: KernelNoiseSettings | None = KernelNoiseSettings()
    learned_noise: LearnedNoiseSettings | None = LearnedNoiseSettings()
    visible_watermark: VisibleWatermarkSettings | None = VisibleWatermarkSettings()
    payload: PayloadSettings | None = PayloadSettings()
    attribution: AttributionSettings | None = AttributionSettings()
    adversarial: AdversarialSettings | None = AdversarialSettings()
    corruption: CorruptionSettings | None = CorruptionSettings()
    fooling: FoolingSettings | None = FoolingSettings()
    transfer: TransferSettings | None = None  # asked where it is named: it costs passes of every other model
    resources: Annotated[ResourceSettings, HOW] = ResourceSettings()
    tracking: Annotated[TrackingSettings, HOW] = TrackingSettings()

    @field_validator("models", mode="before")
    @classmethod
    def _patterns(cls, models: Any) -> Any:
        return expanded(models)

    @model_validator(mode="after")
    def _labels_differ(self) -> PipelineConfig:
        labels = [model.label for model in self.models]
        twice = sorted({label for label in labels if labels.count(label) > 1})
        if twice:
            raise ValueError(f"models share the label {', '.join(twice)}; give each its own `label`")
        return self

    @model_validator(mode="after")
    def _noise_is_searched(self) -> PipelineConfig:
        if self.search is None and self.learned_noise is not None:
            raise ValueError(
                "learned_noise needs the noise that search finds, and search is null; make learned_noise null, too "
                "(--set learned_noise=null), or give search its settings"
            )
        return self

    @model_validator(mode="after")
    def _others_are_models(self) -> PipelineConfig:
        labels = [model.label for model in self.models]
        judges, others = self.fooling.judges if self.fooling else (), self.transfer.models if self.transfer else ()
        for key, named in (("fooling.judges", judges), ("transfer.models", others)):
            strangers = [label for label in named if label not in labels]
            if strangers:
                raise ValueError(
                    f"{key}: {', '.join(strangers)} is no model of this config; it has {', '.join(labels)}"
                )
        return self

    def fingerprint(self) -> str:
        """Hash of everything the config says that can change a result (not how the work is spread)."""
        return hashlib.sha256(json.dumps(deciding(self), sort_keys=True).encode()).hexdigest()

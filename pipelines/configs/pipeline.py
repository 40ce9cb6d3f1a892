"""Everything a run can be told: one frozen pydantic model per section, every key with its default and its range."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, field_validator, model_validator

from pipelines.data.sources import SourceSettings
from pipelines.local_options import LocalLogo, LocalWeights

_LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")

# Keys that say how the work is done: changed, the same run goes on, as its stages do.
_HOW_NOT_WHAT: dict[str, Any] = {
    "resources": True,
    "tracking": True,
    "device": True,
    "ingest": {"max_error_fraction"},
    "search": {"max_concurrent"},
    "evaluate": {"batch_images"},
    "watermark": {"batch_images"},
}

Range = Annotated[tuple[float, float], Field(min_length=2, max_length=2)]


class Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=(), allow_inf_nan=False)


class ModelSettings(Settings):
    """One Vision Transformer; `label` names its branch in results and folders."""

    name: str = Field(
        description="timm model name, e.g. vit_small_patch32_224.augreg_in21k_ft_in1k; or local-dir:FOLDER, hf-hub:ID"
    )
    weights: LocalWeights = Field(
        default="pretrained", description="`pretrained`, `random`, or a weights file (safetensors or any checkpoint)"
    )
    args: dict[str, JsonValue] = Field(
        default_factory=dict, description="arguments of timm.create_model, e.g. num_classes, img_size, global_pool"
    )
    ema: bool = Field(default=True, description="averaged (EMA) weights where a file holds both, as timm takes them")
    label: str = Field(
        default="", description="branch name in results; the model name when left out", validate_default=True
    )

    @field_validator("label")
    @classmethod
    def _label(cls, value: str, info: Any) -> str:
        value = value or re.sub(r"[^A-Za-z0-9._-]", "_", str(info.data.get("name", "")))
        if not _LABEL.fullmatch(value):
            raise ValueError(f"label {value!r} must be made of letters, digits, '.', '_' and '-'")
        return value

    @field_validator("args")
    @classmethod
    def _usable(cls, value: dict[str, Any]) -> dict[str, Any]:
        from nullspace.errors import NullspaceError
        from nullspace.model.names import check_model_args

        try:
            check_model_args(value)
        except NullspaceError as error:
            raise ValueError(str(error)) from error
        return value


class IngestSettings(Settings):
    shard_images: int = Field(default=256, ge=1, description="images per shard")
    max_error_fraction: float = Field(
        default=0.01, ge=0, le=1, description="share of unreadable images a run tolerates"
    )
    max_pixels: int = Field(
        default=89_478_485, ge=1, description="images of more pixels are refused (decompression bombs)"
    )


class KernelSettings(Settings):
    rms: float = Field(default=0.5, gt=0, description="RMS of the exact-kernel noise, in normalised pixel units")
    rtol: float | None = Field(default=None, gt=0, lt=1, description="rank tolerance; default max(m,n)·eps(float64)")


class SearchSettings(Settings):
    """Search for the largest noise whose mean squared probability change stays within `epsilon`."""

    trials: int = Field(default=8, ge=1)
    relative_norm: Range = Field(
        default=(0.1, 1.0), description="per-token norm held while learning, over the mean token norm"
    )
    learning_rate: Range = Field(
        default=(0.01, 0.1), description="per step, as a share of the size of what is learned; on a log scale"
    )
    ranks: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        default=(1, 4, 16, 64),
        min_length=1,
        description="how many directions, shared by all tokens, the noise has: one rank after the other",
    )
    steps: tuple[int, int] = Field(default=(50, 200), description="optimiser steps of a trial")
    batch_images: int = Field(default=32, ge=1)
    learn_images: int = Field(default=256, ge=1, description="images the noise is learned on")
    validation_images: int = Field(default=128, ge=1, description="held-out images that rank the trials")
    calibration_images: int = Field(
        default=512, ge=1, description="further images, used for nothing else, that set how large the noise may be"
    )
    epsilon: float = Field(
        default=0.02,
        gt=0,
        lt=2,
        description="mean ‖Δ softmax‖² on new images is at most this, with `confidence`",
    )
    confidence: float = Field(default=0.95, gt=0, lt=1, description="of that bound: the chance that it holds")
    report_every: int = Field(default=25, ge=1, description="optimiser steps between two reports of a trial")
    grace_steps: int = Field(default=50, ge=1, description="steps before ASHA may stop a trial")
    max_concurrent: int | None = Field(
        default=None, ge=1, description="trials at once; default: what the cluster can hold"
    )

    @field_validator("relative_norm", "learning_rate", "steps")
    @classmethod
    def _ordered(cls, value: tuple[float, float]) -> tuple[float, float]:
        low, high = value
        if not 0 < low <= high:
            raise ValueError(f"expected [low, high] with 0 < low <= high, got {list(value)}")
        return value

    @model_validator(mode="after")
    def _enough_to_calibrate(self) -> SearchSettings:
        from nullspace.errors import NullspaceError
        from nullspace.metrics.sample_size import require_enough

        try:
            require_enough(self.calibration_images, self.epsilon, self.confidence)
        except NullspaceError as error:
            raise ValueError(f"calibration_images, epsilon: {error}") from error
        return self


class EvaluateSettings(Settings):
    batch_images: int = Field(default=64, ge=1)
    examples: int = Field(default=6, ge=0, le=64, description="images kept as pictures for the report")


class HiddenSettings(Settings):
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


Position = Literal[
    "center", "top", "bottom", "left", "right", "top-left", "top-right", "bottom-left", "bottom-right", "tile"
]


class WatermarkSettings(Settings):
    """Marks in the kernel: a visible one, and hidden messages."""

    text: str = Field(default="NULL", min_length=1, max_length=64, description="text of the mark; \\n breaks lines")
    logo: LocalLogo = Field(default=None, description="PNG with transparency used instead of the text")
    scale: float = Field(default=0.9, gt=0, le=1, description="width of the mark over the width of the image")
    position: Position = Field(default="center", description="where the mark lies; `tile` repeats it all over")
    opacity: float = Field(
        default=1.0, gt=0, le=1, description="share of the way to black and white that a pixel of the mark may go"
    )
    jpeg: bool = Field(default=True, description="keep the mark in the kernel after JPEG has thinned out its colours")
    iterations: int = Field(default=1000, ge=1, description="projections onto kernel ∩ pixel box, at most")
    batch_images: int = Field(default=32, ge=1)
    examples: int = Field(default=4, ge=0, le=64)
    hidden: HiddenSettings = HiddenSettings()

    @field_validator("text")
    @classmethod
    def _visible(cls, value: str) -> str:
        if not value.strip():
            raise ValueError("expected a text that can be seen, got blanks alone")
        return value


class ResourceSettings(Settings):
    """How a stage is spread; `None` asks the cluster."""

    workers: int | None = Field(
        default=None,
        ge=0,
        description="actors per stage; default: what the cluster can hold; 0: none, the run itself works on images, "
        "which for a few hundred costs less than starting actors (on a cluster 0 means 1)",
    )
    models_at_once: int | None = Field(
        default=None, ge=1, description="models worked on side by side; default: as many as there are workers for"
    )
    cpus_per_worker: float = Field(default=1, gt=0)
    gpus_per_worker: float = Field(
        default=1, ge=0, le=8, description="used only when the device is a GPU; fractions share one"
    )


class TrackingSettings(Settings):
    uri: str | None = Field(default=None, description="MLflow server; default sqlite beside the work folder")

    @field_validator("uri")
    @classmethod
    def _no_password(cls, value: str | None) -> str | None:
        if value and re.match(r"[\w+.-]+://[^/?#]*@", value):
            raise ValueError(
                "credentials do not belong in a config, which is recorded; set MLFLOW_TRACKING_USERNAME/_PASSWORD, or "
                "the whole uri as MLFLOW_TRACKING_URI"
            )
        return value


class PipelineConfig(Settings):
    name: str = Field(description="name of the experiment in MLflow", pattern=f"^{_LABEL.pattern}$")
    seed: int = Field(default=0, ge=0)
    device: str = Field(default="auto", description="auto, cpu, cuda, cuda:N or mps")
    source: SourceSettings
    models: list[ModelSettings] = Field(min_length=1)
    ingest: IngestSettings = IngestSettings()
    kernel: KernelSettings = KernelSettings()
    search: SearchSettings = SearchSettings()
    evaluate: EvaluateSettings = EvaluateSettings()
    watermark: WatermarkSettings = WatermarkSettings()
    resources: ResourceSettings = ResourceSettings()
    tracking: TrackingSettings = TrackingSettings()

    @model_validator(mode="after")
    def _labels_differ(self) -> PipelineConfig:
        labels = [model.label for model in self.models]
        twice = sorted({label for label in labels if labels.count(label) > 1})
        if twice:
            raise ValueError(f"models share the label {', '.join(twice)}; give each its own `label`")
        return self

    def fingerprint(self) -> str:
        """Hash of everything the config says that can change a result (not how the work is spread)."""
        said = self.model_dump(mode="json", exclude=_HOW_NOT_WHAT)
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()

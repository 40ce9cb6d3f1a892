"""Which models a run is about, and how its work is spread and recorded."""

from __future__ import annotations

import re
from typing import Any

from pydantic import Field, JsonValue, field_validator

from pipelines.local_options import LocalWeights
from pipelines.settings import Settings

LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


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
        if not LABEL.fullmatch(value):
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

"""One YAML file describes a whole run; unknown keys are refused by name, with the nearest right one."""

from __future__ import annotations

import difflib
import hashlib
import json
import os
import re
import types
import typing
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from pipelines.errors import ConfigError
from pipelines.ledger import redact
from pipelines.sources import SourceSettings

SHIPPED = Path(__file__).with_name("configs")
_VARIABLE = re.compile(r"\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^}]*))?\}")
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

    name: str = Field(description="timm model name, e.g. vit_small_patch32_224.augreg_in21k_ft_in1k")
    weights: str = Field(
        default="pretrained", description="`pretrained`, `random`, or a weights file (.safetensors, .pth)"
    )
    label: str = Field(
        default="", description="branch name in results; the model name when left out", validate_default=True
    )

    @field_validator("label")
    @classmethod
    def _label(cls, value: str, info: Any) -> str:
        value = value or str(info.data.get("name", "")).replace("/", "_").replace(":", "_")
        if not _LABEL.fullmatch(value):
            raise ValueError(f"label {value!r} must be made of letters, digits, '.', '_' and '-'")
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
        default=(0.01, 0.3), description="per step, as a share of the noise's RMS; searched on a log scale"
    )
    steps: tuple[int, int] = Field(default=(50, 200), description="optimiser steps of a trial")
    batch_images: int = Field(default=32, ge=1)
    learn_images: int = Field(default=256, ge=1, description="images the noise is learned on")
    validation_images: int = Field(default=128, ge=1, description="held-out images that rank the trials")
    epsilon: float = Field(
        default=0.02, gt=0, lt=2, description="bound on mean ‖Δ softmax‖² over the validation images"
    )
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


class EvaluateSettings(Settings):
    batch_images: int = Field(default=64, ge=1)
    examples: int = Field(default=6, ge=0, le=64, description="images kept as pictures for the report")


class WatermarkSettings(Settings):
    text: str = Field(
        default="NULL\nSPACE", min_length=1, max_length=64, description="text of the mark; \\n breaks lines"
    )
    logo: str | None = Field(default=None, description="PNG with transparency used instead of the text")
    scale: float = Field(default=0.9, gt=0, le=1, description="width of the mark over the width of the image")
    position: Literal["center", "top", "bottom"] = "center"
    strength: float = Field(default=1.0, gt=0, le=4, description="how strong the mark is laid on")
    iterations: int = Field(default=200, ge=1, description="projections onto kernel ∩ pixel box")
    batch_images: int = Field(default=32, ge=1)
    examples: int = Field(default=4, ge=0, le=64)

    @field_validator("text")
    @classmethod
    def _visible(cls, value: str) -> str:
        if not value.strip():
            raise ValueError("expected a text that can be seen, got blanks alone")
        return value


class ResourceSettings(Settings):
    """How a stage is spread; `None` asks the cluster."""

    workers: int | None = Field(default=None, ge=1, description="actors per stage; default: what the cluster can hold")
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


def find_config(config: str | Path) -> Path:
    """A path as given, or the name of a shipped config (`demo`, `demo.yaml`)."""
    path = Path(config)
    if path.is_file():
        return path
    shipped = {file.stem: file for file in SHIPPED.glob("*.yaml")}
    if path.parent == Path() and path.name.removesuffix(".yaml") in shipped:
        return shipped[path.name.removesuffix(".yaml")]
    names = ", ".join(sorted(shipped))
    raise ConfigError(f"no config at {path}, and none of that name is shipped; shipped are: {names}")


def load_config(config: str | Path, overrides: list[str] | None = None) -> PipelineConfig:
    """Read, override (`key.sub=value`), validate. Raises ConfigError naming the key and what was expected."""
    path = find_config(config)
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, ValueError) as error:  # ValueError: not UTF-8, or a date that does not exist
        raise ConfigError(f"{path} is not YAML: {error}") from error
    except OSError as error:
        raise ConfigError(f"cannot read the config {path}: {error}") from error
    if not isinstance(raw, dict):
        raise ConfigError(f"{path}: expected keys and values, got {type(raw).__name__}")
    for override in overrides or []:
        _override(raw, override)
    try:
        return PipelineConfig.model_validate(_expand(raw, str(path)))
    except ValidationError as error:
        raise ConfigError(_explain(error, str(path))) from error


def _override(raw: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise ConfigError(f"--set {override!r}: expected key=value, e.g. search.trials=4 or models.0.weights=FILE")
    *parents, last = key.split(".")
    node: Any = raw
    try:
        for part in parents:
            node = node[int(part)] if isinstance(node, list) else node.setdefault(part, {})
        node[int(last) if isinstance(node, list) else last] = yaml.safe_load(text)
    except (IndexError, ValueError, TypeError, AttributeError) as error:
        raise ConfigError(f"--set {override!r}: there is no {key!r} in this config ({error})") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {override!r}: {text!r} is not a YAML value; quote it") from error


def _expand(value: Any, where: str) -> Any:
    """Replace ${NAME} and ${NAME:-default} in strings by the environment."""
    if isinstance(value, dict):
        return {key: _expand(inner, where) for key, inner in value.items()}
    if isinstance(value, list):
        return [_expand(inner, where) for inner in value]
    if not isinstance(value, str):
        return value

    def replace(match: re.Match[str]) -> str:
        found = os.environ.get(match["name"]) or match["default"]
        if found is None:
            raise ConfigError(f"{where}: the environment variable {match['name']} is not set; set it or use --set")
        return found

    return _VARIABLE.sub(replace, value)


def _explain(error: ValidationError, where: str) -> str:
    lines = []
    for problem in error.errors(include_url=False):
        key = ".".join(map(str, problem["loc"])) or "(whole file)"
        if problem["type"] == "extra_forbidden":
            right = _keys_at(problem["loc"][:-1])
            near = difflib.get_close_matches(str(problem["loc"][-1]), right, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}?" if near else f"known keys here: {', '.join(right)}"
            lines.append(f"  {key}: unknown key; {hint}")
        elif problem["type"] == "missing":
            lines.append(f"  {key}: required, but missing")
        else:
            # A whole section as it was given says nothing beside its key.
            got = "" if isinstance(problem["input"], dict) else f" (got {redact(repr(problem['input']))})"
            lines.append(f"  {key}: {problem['msg'].removeprefix('Value error, ')}{got}")
    return f"{where} has {len(lines)} problem{'s' if len(lines) > 1 else ''}:\n" + "\n".join(lines)


def _keys_at(loc: tuple[int | str, ...]) -> list[str]:
    node: Any = PipelineConfig
    for part in loc:
        if isinstance(part, int):
            continue
        node = node.model_fields[part].annotation
        node = next((a for a in _arguments(node) if isinstance(a, type) and issubclass(a, BaseModel)), node)
    return sorted(node.model_fields) if isinstance(node, type) and issubclass(node, BaseModel) else []


def _arguments(annotation: Any) -> tuple[Any, ...]:
    is_union_or_list = typing.get_origin(annotation) in (list, typing.Union, types.UnionType)
    return typing.get_args(annotation) if is_union_or_list else (annotation,)

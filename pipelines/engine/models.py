"""A model as the pipeline passes it on: what loads it, and the facts on which other stages depend."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nullspace.errors import CannotCutError, WeightsError
from nullspace.model.names import absolute_name
from nullspace.model.preprocessing import Preprocessing
from nullspace.model.vit import SplitViT
from pipelines import digits
from pipelines.engine.settings import ModelSettings


@dataclass(frozen=True)
class ModelSpec:
    """All that a worker needs to load the same model."""

    label: str
    name: str
    weights: str
    seed: int
    weights_sha256: str
    args: Mapping[str, Any] = field(default_factory=dict)
    """Arguments of `timm.create_model` given by the user; those that follow from a file's shapes are found again."""
    ema: bool = True
    class_numbers: tuple[int, ...] | None = None
    """The model's class for each class of the source, where they differ (see `stages/reference/class_numbers`)."""

    def load(self, device: str) -> SplitViT:
        """The model on `device`. Raises WeightsError when this machine's weights differ from the driver's."""
        model = load_model(
            self.name,
            self.weights,
            seed=self.seed,
            device=device,
            verify=False,
            model_args=self.args,
            ema=self.ema,
        )
        if model.weights_sha256 != self.weights_sha256:
            raise WeightsError(
                f"{self.name}: the run began with weights {self.weights_sha256[:12]}, here they are "
                f"{model.weights_sha256[:12]}; give every node the same file {self.weights}"
            )
        return model


@dataclass(frozen=True)
class ModelFacts:
    """What the driver learned by loading the model once."""

    spec: ModelSpec
    source: str
    preprocessing: Preprocessing
    num_classes: int
    embed_dim: int
    num_patches: int
    notes: tuple[str, ...] = ()
    """What a user should know about the weights: what was taken from a file's shapes, what timm adapted."""
    label_warnings: tuple[str, ...] = ()
    """Warnings about the source's classes compared with the model's."""


def load_model(
    name: str,
    weights: str,
    *,
    seed: int,
    device: str,
    verify: bool = True,
    model_args: Mapping[str, Any] | None = None,
    ema: bool = True,
) -> SplitViT:
    """Load a timm model or the packaged digits model, cut at its patch embedding."""
    digits.register()
    return SplitViT.load(name, weights=weights, seed=seed, device=device, verify=verify, model_args=model_args, ema=ema)


def learn_facts(settings: ModelSettings, seed: int) -> tuple[ModelFacts, SplitViT]:
    """Load the model on the CPU and say what it is; raises before any image is read."""
    weights = settings.weights
    if weights not in ("pretrained", "random"):
        weights = str(Path(weights).expanduser().absolute())
    name = absolute_name(settings.name)
    model = load_model(name, weights, seed=seed, device="cpu", model_args=settings.args, ema=settings.ema)
    check_usable(model)
    spec = ModelSpec(settings.label, name, weights, seed, model.weights_sha256, settings.args, settings.ema)
    facts = ModelFacts(
        spec=spec,
        source=model.weights_source,
        preprocessing=model.preprocessing,
        num_classes=model.num_classes,
        embed_dim=model.embed_dim,
        num_patches=model.num_patches,
        notes=model.notes,
    )
    return facts, model


def check_usable(model: SplitViT) -> None:
    """Refuse before any work a model that a later stage would refuse after an hour."""
    if not model.num_classes:
        why = f" ({'; '.join(model.notes)})" if model.notes else ""
        raise CannotCutError(
            f"{model.name} has no classifier{why}, so no prediction can stay unchanged; choose one with a head"
        )
    _ = model.patch_projection  # raises with the reason when the stem is not one convolution over patches

"""A model as the pipeline hands it round: what loads it, and the facts that decide other stages."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from nullspace.errors import CannotCutError, WeightsError
from nullspace.preprocessing import Preprocessing
from nullspace.vit import SplitViT
from pipelines import digits
from pipelines.config import ModelSettings


@dataclass(frozen=True)
class ModelSpec:
    """All a worker needs to load the very same model."""

    label: str
    name: str
    weights: str
    seed: int
    weights_sha256: str
    class_numbers: tuple[int, ...] | None = None
    """The model's class for each class of the source, where they differ (see `pipelines.class_numbers`)."""

    def load(self, device: str) -> SplitViT:
        """The model on `device`. Raises WeightsError when this machine's weights differ from the driver's."""
        model = load_model(self.name, self.weights, seed=self.seed, device=device, verify=False)
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
    label_warnings: tuple[str, ...] = ()
    """What there is to tell about the source's classes beside the model's."""


def load_model(name: str, weights: str, *, seed: int, device: str, verify: bool = True) -> SplitViT:
    """Load a timm model or the packaged digits model, cut at its patch embedding."""
    digits.register()
    return SplitViT.load(name, weights=weights, seed=seed, device=device, verify=verify)


def learn_facts(settings: ModelSettings, seed: int) -> tuple[ModelFacts, SplitViT]:
    """Load the model on the CPU and say what it is; raises before any image is read."""
    weights = settings.weights
    if weights not in ("pretrained", "random"):
        weights = str(Path(weights).expanduser().absolute())
    model = load_model(settings.name, weights, seed=seed, device="cpu")
    _check_usable(model)
    spec = ModelSpec(settings.label, settings.name, weights, seed, model.weights_sha256)
    facts = ModelFacts(
        spec=spec,
        source=model.weights_source,
        preprocessing=model.preprocessing,
        num_classes=model.num_classes,
        embed_dim=model.embed_dim,
        num_patches=model.num_patches,
    )
    return facts, model


def _check_usable(model: SplitViT) -> None:
    """Refuse before any work what a later stage would refuse after an hour."""
    if not model.num_classes:
        raise CannotCutError(
            f"{model.name} has no classifier, so no prediction can stay unchanged; choose one with a head"
        )
    _ = model.patch_projection  # raises with the reason when the stem is not one convolution over patches

"""Other models as judges of what a fooled picture shows, in place of people, whose answers they predict well.

Feather et al. (Nature Neuroscience 2023) found that people recognise a model's metamers about as well as other models
do. A model with the same patch embedding is no judge: it is blind to the same changes.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from nullspace.model.vit import SplitViT
from pipelines.engine.models import ModelSpec
from pipelines.evaluations.other_model import OtherModel


class Judge(OtherModel):
    """A model that says what it sees in pictures."""

    def says(self, pictures: Tensor) -> Tensor:
        """Its class (n,) for pictures uint8 (n,3,H,W)."""
        return self.outputs(pictures).logits.argmax(dim=1).cpu()

    def sees(self, fooled: Tensor, image: Tensor, look: Tensor) -> dict[str, Tensor]:
        """Whether it sees the image, the look or something else: (n,) each, NaN where it takes both for the same."""
        of_fooled, of_image, of_look = (self.says(pictures) for pictures in (fooled, image, look))
        apart = of_image != of_look
        other = (of_fooled != of_image) & (of_fooled != of_look)
        answers = {"image": of_fooled == of_image, "look": of_fooled == of_look, "other": other}
        return {name: torch.where(apart, answer.double(), torch.nan) for name, answer in answers.items()}


def load_judges(others: Mapping[str, ModelSpec], model: SplitViT, device: str) -> dict[str, Judge]:
    """The judges among other models, by label."""
    loaded = {label: spec.load(device) for label, spec in others.items()}
    return {label: Judge(other) for label, other in loaded.items() if not same_embedding(other, model)}


def same_embedding(one: SplitViT, other: SplitViT) -> bool:
    """Whether two models embed patches alike."""
    weights = [each.patch_projection.weight.detach().cpu() for each in (one, other)]
    return weights[0].shape == weights[1].shape and torch.equal(weights[0], weights[1])

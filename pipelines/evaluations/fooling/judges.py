"""Other models as judges of what a fooled picture shows, in place of people, whose answers they predict well.

Feather et al. (Nature Neuroscience 2023) found that people recognise a model's metamers about as well as other models
do. A model with the same patch embedding is no judge: it is blind to the same changes.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from PIL import Image
from torch import Tensor

from nullspace.model.images import from_uint8
from nullspace.model.vit import SplitViT
from pipelines.engine.models import ModelSpec


class Judge:
    """A model that is shown pictures of another one's input size, as files of that size."""

    def __init__(self, model: SplitViT) -> None:
        self.model, self._transform = model, model.preprocessing.transform()

    def says(self, pictures: Tensor) -> Tensor:
        """Its class (n,) for pictures uint8 (n,3,H,W)."""
        files = [Image.fromarray(picture.permute(1, 2, 0).cpu().numpy()) for picture in pictures]
        read = torch.stack([self._transform(file) for file in files])
        return self.model(from_uint8(read).to(self.model.patch_projection.weight)).argmax(dim=1).cpu()

    def sees(self, fooled: Tensor, image: Tensor, look: Tensor) -> dict[str, Tensor]:
        """Whether it sees the image, the look or something else: (n,) each, NaN where it takes both for the same."""
        said, of_image, of_look = (self.says(pictures) for pictures in (fooled, image, look))
        apart = of_image != of_look
        answers = {"image": said == of_image, "look": said == of_look, "other": (said != of_image) & (said != of_look)}
        return {name: torch.where(apart, answer.double(), torch.nan) for name, answer in answers.items()}


def load_judges(others: Mapping[str, ModelSpec], model: SplitViT, device: str) -> dict[str, Judge]:
    """The judges among other models, by label."""
    loaded = {label: spec.load(device) for label, spec in others.items()}
    return {label: Judge(other) for label, other in loaded.items() if not same_embedding(other, model)}


def same_embedding(one: SplitViT, other: SplitViT) -> bool:
    """Whether two models embed patches alike."""
    weights = [each.patch_projection.weight.detach().cpu() for each in (one, other)]
    return weights[0].shape == weights[1].shape and torch.equal(weights[0], weights[1])

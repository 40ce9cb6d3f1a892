"""Another model, shown pictures that were made for this one."""

from __future__ import annotations

import torch
from PIL import Image
from torch import Tensor

from nullspace.model.images import from_uint8
from nullspace.model.vit import Outputs, SplitViT
from pipelines.evaluations.base import as_float


class OtherModel:
    """A model that is shown pictures of another one's input size: as they are where it is its own, else as files."""

    def __init__(self, model: SplitViT) -> None:
        self.model, self._transform = model, model.preprocessing.transform()

    def reads(self, pictures: Tensor) -> Tensor:
        """What it makes of pictures uint8 (n,3,H,W): images in [0,1] of its own size, on its device."""
        like = self.model.patch_projection.weight
        if pictures.shape[2:] == self.model.preprocessing.input_size:  # cropped already: it would crop them once more
            return from_uint8(pictures).to(like)
        files = [Image.fromarray(picture.permute(1, 2, 0).cpu().numpy()) for picture in pictures]
        read = torch.stack([self._transform(file) for file in files])
        return from_uint8(read).to(like)

    def outputs(self, pictures: Tensor) -> Outputs:
        """What it says of pictures uint8 (n,3,H,W), in float32."""
        return as_float(self.model.outputs_from_tokens(self.model.tokens(self.reads(pictures))))

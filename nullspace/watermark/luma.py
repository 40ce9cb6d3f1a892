"""Luma: brightness with the weights of the eye for red, green and blue."""

from __future__ import annotations

import torch
from torch import Tensor

from nullspace.model.shapes import Float, Shaped

LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601


def luma(images: Shaped[Tensor, "... 3 H W"]) -> Float[Tensor, "... H W"]:
    """Brightness (…,H,W) of images or changes (…,3,H,W), in their dtype; of 8-bit ones in float32."""
    images = images if images.is_floating_point() else images.float()
    return torch.einsum("c,...chw->...hw", images.new_tensor(LUMA), images)

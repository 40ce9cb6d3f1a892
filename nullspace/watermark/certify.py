"""What the model can notice of a mark, as saved: the change of its tokens, patch by patch, and of its outputs.

A mark in the kernel changes no token; what is left comes from 8-bit pixels, saturated areas and, on files, from the
rounding of the resize. The change of a token is exactly A·δ of its patch, so its norm bounds what any later layer gets.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from nullspace.errors import NullspaceError
from nullspace.lift import patch_map
from nullspace.pixels import check_unit_range, from_uint8
from nullspace.stability import largest_probability_change
from nullspace.vit import SplitViT


@dataclass(frozen=True, eq=False)
class Certificate:
    """Every figure is one number per image (B,). Norms are relative to the mean token norm of the image before.

    `token_change` is the root mean square over patches, `largest_token_change` that of the worst patch. `same` tells
    whether the predicted class is the same, `probability_change` the largest change of any class's probability,
    `logit_change` that of any logit.
    """

    token_change: Tensor
    largest_token_change: Tensor
    logit_change: Tensor
    probability_change: Tensor
    same: Tensor

    def to_dict(self, image: int) -> dict[str, float | bool]:
        """The figures of one image as plain JSON values."""
        return {
            "token_change": float(self.token_change[image]),
            "largest_token_change": float(self.largest_token_change[image]),
            "logit_change": float(self.logit_change[image]),
            "probability_change": float(self.probability_change[image]),
            "same_prediction": bool(self.same[image]),
        }


@torch.no_grad()
def certify(model: SplitViT, images: Tensor, marked: Tensor) -> Certificate:
    """Compare images (B,3,H,W) with their marked versions, uint8 or float in [0,1], as the model is given them.

    A·δ is computed in float64. Raises NullspaceError when the shapes differ, CannotCutError without a plain patch
    embedding.
    """
    if images.shape != marked.shape:
        raise NullspaceError(f"expected images of one shape, got {tuple(images.shape)} and {tuple(marked.shape)}")
    before, after = (_float(each).cpu() for each in (images, marked))
    delta = model.patchify(after.double() - before.double())  # in float64 on the CPU, which every device has beside it
    changes = torch.linalg.vector_norm(patch_map(model).tokens(delta), dim=-1)
    device = model.patch_projection.weight.device
    tokens = [model.tokens(each.to(device)) for each in (before, after)]
    size = torch.linalg.vector_norm(tokens[0], dim=-1).mean(dim=1).to(changes)
    logits = [model.outputs_from_tokens(each).logits.double().cpu() for each in tokens]
    return Certificate(
        token_change=changes.square().mean(dim=1).sqrt() / size,
        largest_token_change=changes.amax(dim=1) / size,
        logit_change=(logits[1] - logits[0]).abs().amax(dim=1),
        probability_change=largest_probability_change(logits[0], logits[1]),
        same=logits[0].argmax(dim=1) == logits[1].argmax(dim=1),
    )


def _float(images: Tensor) -> Tensor:
    values = from_uint8(images) if images.dtype == torch.uint8 else images.float()
    check_unit_range(values)
    return values

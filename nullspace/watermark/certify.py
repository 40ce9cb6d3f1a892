"""What the model sees of a mark, as saved: the change of its tokens, patch by patch, and of its outputs.

A mark in the kernel changes no token; what is left comes from 8-bit pixels, saturated areas and, on files, from the
rounding of the resize. The change of a token is exactly A·δ of its patch, so its norm bounds the input of later layers.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from nullspace.errors import NullspaceError
from nullspace.metrics.outcomes import largest_probability_change
from nullspace.model.images import check_unit_range, from_uint8
from nullspace.model.shapes import Bool, Float, Shaped
from nullspace.model.vit import SplitViT
from nullspace.pixels.lift import PatchMap, patch_map


@dataclass(frozen=True, eq=False)
class Certificate:
    """Every figure is one number per image (B,). Norms are relative to the mean token norm of the image before.

    `token_change` is the root mean square over patches, `largest_token_change` that of the worst patch. `same` states
    whether the predicted class is the same, `probability_change` the largest change of any class's probability,
    `logit_change` that of any logit.
    """

    token_change: Float[Tensor, " B"]
    largest_token_change: Float[Tensor, " B"]
    logit_change: Float[Tensor, " B"]
    probability_change: Float[Tensor, " B"]
    same: Bool[Tensor, " B"]

    def to_dict(self, image: int) -> dict[str, float | bool]:
        """The figures of one image as plain JSON values."""
        return {
            "token_change": float(self.token_change[image]),
            "largest_token_change": float(self.largest_token_change[image]),
            "logit_change": float(self.logit_change[image]),
            "probability_change": float(self.probability_change[image]),
            "same_prediction": bool(self.same[image]),
        }


def token_changes(
    model: SplitViT, mapping: PatchMap, images: Float[Tensor, "B 3 H W"], changed: Float[Tensor, "B 3 H W"]
) -> Float[Tensor, "B N"]:
    """|A·δ| of every patch (B,N) over the mean token norm of its image: `changed` beside `images`, both (B,3,H,W).

    Floats in pixel units, also outside [0,1]; A·δ in float64. With a map modulo the shift, the component of
    A·δ along (1,…,1), which the model was measured to ignore, is removed.
    """
    before, after = (each.cpu() if each.device.type == "mps" else each for each in (images, changed))  # no float64
    norms = torch.linalg.vector_norm(mapping.tokens(model.patchify(after.double() - before.double())), dim=-1)
    size = torch.linalg.vector_norm(model.tokens(images.to(_device(model)), check_range=False).float(), dim=-1)
    return norms / size.mean(dim=1, keepdim=True).to(norms)


def mean_and_worst(changes: Float[Tensor, "B N"]) -> tuple[Float[Tensor, " B"], Float[Tensor, " B"]]:
    """Of changes (B,N): root mean square over patches (B,), and the largest (B,)."""
    return changes.square().mean(dim=1).sqrt(), changes.amax(dim=1)


@torch.no_grad()
def certify(
    model: SplitViT, images: Shaped[Tensor, "B 3 H W"], marked: Shaped[Tensor, "B 3 H W"], *, modulo_shift: bool = False
) -> Certificate:
    """Compare images (B,3,H,W) with their marked versions, uint8 or float in [0,1], at the input of the model.

    `modulo_shift` is right for models measured to ignore shifts, see `token_changes`. Raises NullspaceError when the
    shapes differ, CannotCutError without a plain patch embedding.
    """
    if images.shape != marked.shape:
        raise NullspaceError(f"expected images of one shape, got {tuple(images.shape)} and {tuple(marked.shape)}")
    before, after = (_float(each).cpu() for each in (images, marked))
    mean, worst = mean_and_worst(token_changes(model, patch_map(model, modulo_shift=modulo_shift), before, after))
    logits = [model(each.to(_device(model))).double().cpu() for each in (before, after)]
    return Certificate(
        token_change=mean,
        largest_token_change=worst,
        logit_change=(logits[1] - logits[0]).abs().amax(dim=1),
        probability_change=largest_probability_change(logits[0], logits[1]),
        same=logits[0].argmax(dim=1) == logits[1].argmax(dim=1),
    )


def _device(model: SplitViT) -> torch.device:
    return model.patch_projection.weight.device


def _float(images: Tensor) -> Tensor:
    values = from_uint8(images) if images.dtype == torch.uint8 else images.float()
    check_unit_range(values)
    return values

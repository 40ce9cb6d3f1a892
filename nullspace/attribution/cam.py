"""Grad-CAM of a ViT (Selvaraju et al. 2017): tokens before the last attention, weighted by their mean gradient.

Behind the last attention the patch tokens have no gradient where a class token is read, so the place is the first
normalisation of the last block.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from nullspace.attribution.attention import unfused_attention
from nullspace.attribution.classes import differentiable, score_of
from nullspace.errors import NullspaceError
from nullspace.model.shapes import Float
from nullspace.model.vit import SplitViT


def grad_cam(
    model: SplitViT, images: Float[Tensor, "B 3 H W"], classes: Tensor, *, create_graph: bool = False
) -> Float[Tensor, "B N"]:
    """relu of the channels before the last attention, each times its gradient's mean over the patch tokens.

    The gradient is that of the logit of `classes` (B,). With `create_graph` it can be differentiated by the images.
    Raises NullspaceError for a model whose last block has no `norm1` on all tokens, or classes that do not fit.
    """
    seen: list[Tensor] = []

    def keep(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
        seen.append(output)

    handle = _place(model).register_forward_hook(keep)
    try:
        with torch.enable_grad(), unfused_attention(model, off=create_graph):
            leaf = differentiable(images)
            score = score_of(model(leaf, check_range=False), classes)
            states = _of_all_tokens(model, seen)
            (slope,) = torch.autograd.grad(score, states, create_graph=create_graph)
            patches = slice(model.num_prefix_tokens, None)
            weights = slope[:, patches].mean(dim=1, keepdim=True)
            found = (states[:, patches] * weights).sum(dim=2).clamp_min(0)
    finally:
        handle.remove()
    return found if create_graph else found.detach()


def _place(model: SplitViT) -> nn.Module:
    wrapped: Any = model.model
    blocks = getattr(wrapped, "blocks", None)
    place = getattr(blocks[-1], "norm1", None) if isinstance(blocks, (nn.Sequential, nn.ModuleList)) else None
    if not isinstance(place, nn.Module):
        raise NullspaceError(f"{model.name} has no norm1 in a last block, where Grad-CAM would look")
    return place


def _of_all_tokens(model: SplitViT, seen: list[Tensor]) -> Tensor:
    count = model.num_prefix_tokens + model.num_patches
    if len(seen) != 1 or seen[0].ndim != 3 or seen[0].shape[1] != count:
        shapes = [tuple(each.shape) for each in seen]
        raise NullspaceError(f"expected all {count} tokens of {model.name} before its last attention, got {shapes}")
    return seen[0]

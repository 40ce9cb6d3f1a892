"""Maps made of attention: rollout (Abnar & Zuidema 2020) and gradient-weighted attention (Chefer et al. 2021)."""

from __future__ import annotations

import torch
from torch import Tensor

from nullspace.attribution.attention import of_all_tokens, read_at_output, recorded_attention
from nullspace.attribution.classes import differentiable, score_of
from nullspace.model.shapes import Float
from nullspace.model.vit import SplitViT


def attention_rollout(model: SplitViT, images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B N"]:
    """How much of each patch token reaches the output through attention and the paths around it; knows no class.

    The product over blocks of (A + I)/2, A being the mean of the heads: Abnar & Zuidema (ACL 2020). Raises
    NullspaceError for a model without attention between all tokens.
    """
    with recorded_attention(model) as found:
        model(images, check_range=False)
    matrices = of_all_tokens(model, found)
    reached = _identity(matrices[0])
    for matrix in matrices:
        reached = (matrix.mean(dim=1) + _identity(matrix)) / 2 @ reached
    return read_at_output(model, reached)


def gradient_weighted_attention(
    model: SplitViT,
    images: Float[Tensor, "B 3 H W"],
    classes: Tensor,
    *,
    create_graph: bool = False,
) -> Float[Tensor, "B N"]:
    """What speaks for `classes` (B,) in each patch token: R ← R + Ā·R with Ā the mean over heads of relu(∇A ⊙ A).

    The generic rule for self-attention of Chefer, Gur & Wolf (ICCV 2021), ∇A being the gradient of the class's logit.
    With `create_graph` it can be differentiated by the images. Raises NullspaceError for a model without attention
    between all tokens, or classes that do not fit.
    """
    with torch.enable_grad(), recorded_attention(model) as found:
        leaf = differentiable(images)
        score = score_of(model(leaf, check_range=False), classes)
        matrices = of_all_tokens(model, found)
        slopes = torch.autograd.grad(score, matrices, create_graph=create_graph)
        relevance = _identity(matrices[0])
        for matrix, slope in zip(matrices, slopes, strict=True):
            relevance = relevance + (slope * matrix).clamp_min(0).mean(dim=1) @ relevance
        found_map = read_at_output(model, relevance)
    return found_map if create_graph else found_map.detach()


def _identity(matrix: Tensor) -> Tensor:
    return torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device).expand(len(matrix), -1, -1)

"""The maps by name, each over patch tokens: what commands and evaluations choose from."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

import torch
from torch import Tensor

from nullspace.attribution.attention_maps import attention_rollout, gradient_weighted_attention
from nullspace.attribution.cam import grad_cam
from nullspace.attribution.gradients import (
    gradient,
    input_times_gradient,
    integrated_gradients,
    on_tokens,
    smooth_gradient,
)
from nullspace.errors import NullspaceError
from nullspace.metrics.draws import Draws
from nullspace.model.vit import SplitViT


class TokenMap(Protocol):
    """A map (B,N) of patch tokens, of images (B,3,H,W) in [0,1] and the classes (B,) that are explained.

    With `create_graph` it can be differentiated by the images.
    """

    def __call__(self, model: SplitViT, images: Tensor, classes: Tensor, *, create_graph: bool = False) -> Tensor: ...


def _gradient(model: SplitViT, images: Tensor, classes: Tensor, *, create_graph: bool = False) -> Tensor:
    return on_tokens(model, gradient(model, images, classes, create_graph=create_graph).abs())


def _input_times_gradient(model: SplitViT, images: Tensor, classes: Tensor, *, create_graph: bool = False) -> Tensor:
    return on_tokens(model, input_times_gradient(model, images, classes, create_graph=create_graph))


def _integrated(model: SplitViT, images: Tensor, classes: Tensor, *, create_graph: bool = False) -> Tensor:
    return on_tokens(model, integrated_gradients(model, images, classes, create_graph=create_graph))


def _smooth(model: SplitViT, images: Tensor, classes: Tensor, *, create_graph: bool = False) -> Tensor:
    draws = Draws(0, "smooth_gradient", ["every image"])  # so that the map is a function of the image alone
    return on_tokens(model, smooth_gradient(model, images, classes, draws, create_graph=create_graph).abs())


def _rollout(model: SplitViT, images: Tensor, classes: Tensor, *, create_graph: bool = False) -> Tensor:
    del classes, create_graph  # it knows no class, and its own pass is its graph
    return attention_rollout(model, images)


MAPS: dict[str, TokenMap] = {
    "gradient": _gradient,
    "input_times_gradient": _input_times_gradient,
    "integrated_gradients": _integrated,
    "smooth_gradient": _smooth,
    "attention_rollout": _rollout,
    "gradient_weighted_attention": gradient_weighted_attention,
    "grad_cam": grad_cam,
}


def map_named(name: str) -> TokenMap:
    """The map called `name`; raises NullspaceError with the names there are."""
    if name not in MAPS:
        raise NullspaceError(f"expected a map of {', '.join(MAPS)}, got {name!r}")
    return MAPS[name]


def reasons_against(model: SplitViT, names: Iterable[str]) -> dict[str, str]:
    """Which of the maps called `names` the model lacks, and why: each is tried on one image."""
    parameter = next(model.model.parameters())
    image = torch.full((1, 3, *model.preprocessing.input_size), 0.5, device=parameter.device)
    reasons = {}
    for name in names:
        try:
            map_named(name)(model, image, torch.zeros(1, dtype=torch.long))
        except NullspaceError as error:
            reasons[name] = str(error)
    return reasons

"""The maps by name, each over patch tokens: what commands and evaluations choose from."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from nullspace.attribution.attention_maps import attention_rollout, gradient_weighted_attention
from nullspace.attribution.cam import grad_cam
from nullspace.attribution.gradients import gradient, input_times_gradient, integrated_gradients, on_tokens
from nullspace.errors import NullspaceError
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


def _rollout(model: SplitViT, images: Tensor, classes: Tensor, *, create_graph: bool = False) -> Tensor:
    del classes, create_graph  # it knows no class, and its own pass is its graph
    return attention_rollout(model, images)


MAPS: dict[str, TokenMap] = {
    "gradient": _gradient,
    "input_times_gradient": _input_times_gradient,
    "integrated_gradients": _integrated,
    "attention_rollout": _rollout,
    "gradient_weighted_attention": gradient_weighted_attention,
    "grad_cam": grad_cam,
}


def map_named(name: str) -> TokenMap:
    """The map called `name`; raises NullspaceError with the names there are."""
    if name not in MAPS:
        raise NullspaceError(f"expected a map of {', '.join(MAPS)}, got {name!r}")
    return MAPS[name]

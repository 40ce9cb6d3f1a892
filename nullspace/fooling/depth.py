"""What of a model is matched: its logits, its features, the state before a block, or its patch tokens."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeAlias

from torch import Tensor

from nullspace.errors import NullspaceError
from nullspace.model.encoder import Encoder
from nullspace.model.vit import SplitViT

DEPTHS = "logits, features, tokens or block:N"
_DEPTH = re.compile(r"logits|features|tokens|block:\d+")

State: TypeAlias = Callable[[Tensor], Tensor]


def is_depth(name: str) -> bool:
    """Whether `name` is one of "logits", "features", "tokens", "block:N"."""
    return _DEPTH.fullmatch(name) is not None


def state_at(model: SplitViT, at: str) -> State:
    """A function of images (B,3,H,W) that gives what `model` makes of them at a depth, flat: (B,K).

    "block:N" is the state that enters block N (from 0), prefix tokens included. Raises NullspaceError for another name
    or a block that is not there, CannotCutError for a model that cannot be entered at a block.
    """
    if not is_depth(at):
        raise NullspaceError(f"expected {DEPTHS}, got {at!r}")
    if at == "logits":
        return lambda images: model(images, check_range=False)
    if at == "features":
        return lambda images: model.features_from_tokens(model.tokens(images, check_range=False))
    if at == "tokens":
        return lambda images: model.tokens(images, check_range=False).flatten(1)
    encoder = Encoder(model, at)
    return lambda images: encoder.states(images, check_range=False).flatten(1)


def squared_distance(states: Tensor, others: Tensor) -> Tensor:
    """Squared Euclidean distance (B,) of states (B,K), in float32 at least."""
    return (states.float() - others.float()).square().sum(dim=1)

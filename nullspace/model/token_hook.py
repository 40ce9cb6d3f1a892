"""Noise on the patch tokens of a model, wherever it is run from."""

from __future__ import annotations

from torch import Tensor
from torch.utils.hooks import RemovableHandle

from nullspace.model.vit import SplitViT


def add_to_tokens(model: SplitViT, noise: Tensor) -> RemovableHandle:
    """From now on `noise` (N,D) or (B,N,D), of which gradients may be taken, is added to every patch token.

    Until the handle that is returned is removed.
    """
    return model.stem.register_forward_hook(
        lambda _module, _inputs, raw: model.layout.from_tokens(model.layout.to_tokens(raw) + noise.to(raw))
    )

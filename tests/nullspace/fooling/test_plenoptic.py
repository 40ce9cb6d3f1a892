"""Beside plenoptic's Metamer, at equal passes: nearer in features, and inside the pixel range."""

from __future__ import annotations

import importlib
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from nullspace.fooling.depth import squared_distance, state_at
from nullspace.fooling.metamer import metamers
from nullspace.model.images import from_uint8, round_to_uint8
from nullspace.model.vit import SplitViT

TINY: dict[str, Any] = {
    "depth": 2, "embed_dim": 48, "num_heads": 3, "img_size": 32, "patch_size": 8, "num_classes": 10,
}  # fmt: skip
PASSES = 40


class Features(nn.Module):
    """The features of a model, as plenoptic wants a model: without gradients of its own."""

    def __init__(self, model: SplitViT) -> None:
        super().__init__()
        self.model, self._state = model, state_at(model, "features")

    def forward(self, images: Tensor) -> Tensor:
        return self._state(images)


def theirs(plenoptic: Any, model: SplitViT, image: Tensor, look: Tensor) -> Tensor:
    """plenoptic's metamer (1,3,H,W) of an image, begun at a look, with its own settings."""
    metamer = plenoptic.Metamer(image, Features(model).eval())
    metamer.setup(initial_image=look.clone())
    metamer.synthesize(max_iter=PASSES, stop_criterion=0)
    return metamer.metamer.detach()


def test_nearer_than_plenoptic_at_equal_passes_and_in_range() -> None:
    pytest.importorskip("plenoptic", reason="plenoptic is not installed; it is a reference alone")
    plenoptic = importlib.import_module("plenoptic")
    model = SplitViT.load("vit_tiny_patch16_224", weights="random", model_args=TINY)
    drawn = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    images, looks = from_uint8(round_to_uint8(drawn)).split(2)
    ours = metamers(model, images, looks, at="features", steps=PASSES, enough=0)
    state = state_at(model, "features")
    wanted, apart = state(images), squared_distance(state(looks), state(images))
    for at in range(len(images)):
        other = theirs(plenoptic, model, images[at : at + 1], looks[at : at + 1])
        saved = from_uint8(round_to_uint8(other.clamp(0, 1)))  # what a file would keep of it
        left = squared_distance(state(saved), wanted[at : at + 1]) / apart[at]
        assert float(ours.distance[at]) < float(left)

"""A small random model that reacts to its input, images for it, and learners with small settings."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from nullspace.metrics.encoder_data import EncoderData, prepare
from nullspace.model.encoder import Encoder
from nullspace.model.vit import SplitViT
from nullspace.noise.learner import NoiseLearner, NoiseSettings

TINY: dict[str, Any] = {
    "depth": 2, "embed_dim": 48, "num_heads": 3, "img_size": 32, "patch_size": 8, "num_classes": 10,
}  # fmt: skip


def reacting(model_args: dict[str, Any]) -> SplitViT:
    """A small random ViT whose encoder and head are scaled up, so that it does react to its input."""
    split = SplitViT.load("vit_tiny_patch16_224", weights="random", model_args=model_args)
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for name, weight in split.model.named_parameters():
            if weight.ndim == 2 and "blocks" in name:
                weight.copy_(torch.randn(weight.shape, generator=generator) * weight.shape[1] ** -0.5 * 1.5)
        split.model.get_submodule("head").get_parameter("weight").normal_(0, 1.0, generator=generator)
    return split


def images(count: int, seed: int = 0) -> Tensor:
    """Random images (count,3,32,32)."""
    return torch.rand(count, 3, 32, 32, generator=torch.Generator().manual_seed(seed))


def data_of(encoder: Encoder, count: int, seed: int = 0, **options: Any) -> EncoderData:
    """`prepare` of random images; the shift part does nothing in this model."""
    return prepare(encoder, images(count, seed), **{"shift_invariant": True, **options})


def learner(data: EncoderData, **chosen: Any) -> NoiseLearner:
    """A learner with small settings, changed as chosen."""
    start, micro_batch = chosen.pop("start_noise", None), chosen.pop("micro_batch", None)
    settings = NoiseSettings(**{"steps": 20, "batch_size": 16, **chosen})
    return NoiseLearner(data, settings, start=start, micro_batch=micro_batch)

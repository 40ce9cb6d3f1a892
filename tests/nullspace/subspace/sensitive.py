"""A small model in float64 that reacts to its input, its states, and its sensitivity spectrum."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from nullspace.model.encoder import Encoder
from nullspace.model.vit import SplitViT
from nullspace.subspace.sensitivity import sensitivity_spectrum
from nullspace.subspace.spectrum import SensitivitySpectrum

TINY: dict[str, Any] = {
    "depth": 2, "embed_dim": 24, "num_heads": 2, "img_size": 32, "patch_size": 8, "num_classes": 5,
}  # fmt: skip


def tiny(name: str = "vit_tiny_patch16_224", **changed: Any) -> SplitViT:
    """A small random ViT in float64 whose encoder and head are scaled up, so that it does react to its input."""
    split = SplitViT.load(name, weights="random", model_args={**TINY, **changed}).double()
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for weight_name, weight in split.model.named_parameters():
            if weight.ndim == 2 and ("blocks" in weight_name or "head" in weight_name):
                weight.copy_(torch.randn(weight.shape, generator=generator) * 1.5 * weight.shape[1] ** -0.5)
    return split


def states_of(encoder: Encoder, n: int = 4, seed: int = 0) -> Tensor:
    size = encoder.model.preprocessing.input_size
    return encoder.states(torch.rand(n, 3, *size, generator=torch.Generator().manual_seed(seed)).double())


def spectrum_of(encoder: Encoder, states: Tensor, **options: Any) -> SensitivitySpectrum:
    chosen: dict[str, Any] = {"shift_invariant": True, "k": 6, "cotangents": 5, "iterations": 0, **options}
    return sensitivity_spectrum(encoder, states, **chosen)

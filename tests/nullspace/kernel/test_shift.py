"""Shift directions: decided by measuring, whatever the model is called."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from nullspace.errors import NullspaceError
from nullspace.kernel.shift import SHIFT_THRESHOLD, shift_test
from nullspace.model.vit import SplitViT

SMALL: dict[str, Any] = {"depth": 2, "embed_dim": 96, "num_heads": 3}
TINY: dict[str, Any] = {**SMALL, "img_size": 32, "patch_size": 8, "num_classes": 10}
BUILDS: dict[str, tuple[str, dict[str, Any], bool]] = {
    "deit": ("deit_tiny_patch16_224", {"depth": 2}, True),
    "vit": ("vit_tiny_patch16_224", TINY, True),
    "clip-norm-first": ("vit_base_patch16_clip_224", SMALL, True),
    "average": ("vit_base_patch16_gap_224", SMALL, True),
    "dynamic-nhwc": ("vit_tiny_patch16_224", {"depth": 2, "dynamic_img_size": True}, True),
    "eva02": ("eva02_tiny_patch14_224", {"depth": 2}, True),
    "beit": ("beit_base_patch16_224", SMALL, True),
    "rms-norm": ("vit_tiny_patch16_224", {**TINY, "norm_layer": "rmsnorm"}, False),
    "merging-swin": ("swin_tiny_patch4_window7_224", {"depths": (1, 1, 1, 1)}, False),
    "post-norm-swinv2": ("swinv2_tiny_window8_256", {"depths": (1, 1, 1, 1)}, False),
    "convolutions-pit": ("pit_ti_224", {}, False),
}


def measured(build: str, dtype: torch.dtype = torch.float32) -> tuple[SplitViT, torch.Tensor]:
    name, arguments, _ = BUILDS[build]
    model = SplitViT.load(name, weights="random", model_args=arguments, verify=False).to(dtype)
    images = torch.rand(2, 3, *model.preprocessing.input_size, generator=torch.Generator().manual_seed(1))
    return model, images


@pytest.mark.parametrize("build", BUILDS)
def test_the_models_that_read_only_through_layer_norm_are_found(build: str) -> None:
    result = shift_test(*measured(build))
    assert result.invariant is BUILDS[build][2]
    ratio = result.max_abs_logit_change / result.control_max_abs_logit_change
    assert ratio < SHIFT_THRESHOLD / 3 if result.invariant else ratio > 10 * SHIFT_THRESHOLD  # far on either side


def test_in_float64_the_change_is_nothing_but_rounding() -> None:
    model, images = measured("vit", torch.float64)
    result = shift_test(model, images, relative_shift=1000.0)
    assert result.invariant and result.max_abs_logit_change < 1e-11 < result.control_max_abs_logit_change


def test_images_and_their_tokens_give_the_same_result() -> None:
    model, images = measured("vit")
    assert shift_test(model, images) == shift_test(model, model.tokens(images))
    values = json.loads(json.dumps(shift_test(model, images).to_dict()))
    assert values["invariant"] is True and values["relative_shift"] == 10.0


def test_a_model_that_moves_for_nothing_is_not_called_invariant() -> None:
    model, images = measured("vit")
    head: Any = model.model
    head.head.weight.zero_()
    result = shift_test(model, images)
    assert result.control_max_abs_logit_change == 0 and not result.invariant


@pytest.mark.parametrize(("shape", "shift"), [((16, 96), 10.0), ((1, 16, 96), 0.0)], ids=["shape", "shift"])
def test_errors(shape: tuple[int, ...], shift: float) -> None:
    with pytest.raises(NullspaceError, match="expected images"):
        shift_test(measured("vit")[0], torch.ones(shape), relative_shift=shift)


@pytest.mark.real
def test_real_deit_tiny_ignores_a_shift_of_900_token_norms(assets: Path) -> None:
    weights = assets / "deit_tiny_patch16_224" / "model.safetensors"
    model = SplitViT.load("deit_tiny_patch16_224", weights=weights).double()
    images = torch.rand(2, 3, 224, 224, generator=torch.Generator().manual_seed(1))
    result = shift_test(model, images, relative_shift=900.0)
    assert result.invariant and result.max_abs_logit_change < 1e-10
    assert shift_test(model.float(), images).invariant

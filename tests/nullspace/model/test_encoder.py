"""Entering a model at its patch tokens or before a block: the rest is the model's own, and nothing of it is altered."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from nullspace.errors import CannotCutError, NullspaceError
from nullspace.model.encoder import Encoder
from nullspace.model.vit import SplitViT
from tests.nullspace.reacting import TINY, images, reacting

SMALL: dict[str, Any] = {"depth": 3, "embed_dim": 96, "num_heads": 3}
BUILDS: dict[str, tuple[str, dict[str, Any], int]] = {
    "deit": ("deit_tiny_patch16_224", {"depth": 3}, 1),
    "deit-distilled": ("deit_tiny_distilled_patch16_224", {"depth": 3}, 2),
    "registers-average": ("vit_little_patch16_reg4_gap_256", {"depth": 3}, 4),
    "average-no-class": ("vit_base_patch16_gap_224", SMALL, 0),
    "clip-norm-pre": ("vit_base_patch16_clip_224", SMALL, 1),
    "beit": ("beit_base_patch16_224", SMALL, 1),
    "eva-rope": ("eva02_tiny_patch14_224", {"depth": 3}, 1),
    "dinov2-registers": ("vit_small_patch14_reg4_dinov2", {"depth": 3, "img_size": 56}, 5),
    "dinov3-rope": ("vit_base_patch16_dinov3", {**SMALL, "img_size": 64}, 5),
    "relative-position": ("vit_relpos_small_patch16_rpn_224", {"depth": 3}, 0),
    "class-token-late": ("cait_xxs24_224", {"depth": 3}, 0),
    "mixer": ("mixer_s32_224", {}, 0),
}


def loaded(name: str, arguments: dict[str, Any]) -> SplitViT:
    return SplitViT.load(name, weights="random", model_args=arguments, verify=False)


@pytest.mark.parametrize("build", BUILDS)
@torch.no_grad()
def test_entering_before_a_block_is_the_model(build: str) -> None:
    name, arguments, prefix = BUILDS[build]
    model = loaded(name, arguments)
    size = model.preprocessing.input_size
    image = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0))
    expected = model.outputs_from_tokens(model.tokens(image))
    for block in (0, 2):
        encoder = Encoder(model, f"block:{block}")
        states = encoder.states(image)
        assert encoder.prefix == prefix and states.shape[1] == prefix + model.num_patches
        torch.testing.assert_close(encoder.outputs(states).logits, expected.logits)
        torch.testing.assert_close(encoder.outputs(states).features, expected.features)
        torch.testing.assert_close(encoder.logits(states), expected.logits)
    assert float(expected.features.std()) > 0, "or the comparison would say nothing"


@torch.no_grad()
def test_noise_goes_on_patch_tokens_only() -> None:
    encoder = Encoder(loaded("deit_tiny_distilled_patch16_224", {"depth": 2}), "block:1")
    states = torch.zeros(3, 2 + 196, 192)
    one = encoder.add(states, torch.ones(196, 192))
    assert float(one[:, :2].abs().max()) == 0.0 and float(one[:, 2:].min()) == 1.0
    each = encoder.add(states, torch.arange(3.0)[:, None, None].expand(3, 196, 192))
    assert each[:, 2:].amax((1, 2)).tolist() == [0.0, 1.0, 2.0]
    assert torch.equal(encoder.patch_part(each), each[:, 2:])


@torch.no_grad()
def test_patch_tokens_are_the_cut_of_the_model() -> None:
    model = reacting(TINY)
    encoder = Encoder(model)
    assert encoder.noise_shape == (16, 48) and encoder.prefix == 0
    torch.testing.assert_close(encoder.states(images(2)), model.tokens(images(2)))
    torch.testing.assert_close(encoder.logits(encoder.states(images(2))), model(images(2)))


def test_the_model_is_as_it_was() -> None:
    model = reacting(TINY)
    before = dict(model.model.named_modules())
    encoder = Encoder(model, "block:1")
    noise = torch.zeros(encoder.noise_shape, requires_grad=True)
    encoder.logits(encoder.add(encoder.states(images(2)), noise)).sum().backward()
    assert noise.grad is not None and float(noise.grad.abs().max()) > 0
    with pytest.raises(RuntimeError):  # a failing pass leaves nothing behind either
        encoder.logits(torch.zeros(1, 5, 7))
    assert dict(model.model.named_modules()) == before
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    with torch.no_grad():
        torch.testing.assert_close(encoder.logits(encoder.states(images(2))), model(images(2)))


def test_what_cannot_be_entered_says_why() -> None:
    model = reacting(TINY)
    with pytest.raises(NullspaceError, match="expected an injection point 'patch_tokens' or 'block:0', got 'blocks'"):
        Encoder(model, "blocks")
    with pytest.raises(NullspaceError, match="expected a block below 2"):
        Encoder(model, "block:2")
    with pytest.raises(CannotCutError, match="no plain sequence of blocks"):
        Encoder(loaded("swin_tiny_patch4_window7_224", {"depths": (1, 1, 1, 1)}), "block:0")
    with pytest.raises(CannotCutError, match="expected one state of at least"):
        Encoder(loaded("samvit_base_patch16_224", {**SMALL, "global_attn_indexes": (1,)}), "block:1")

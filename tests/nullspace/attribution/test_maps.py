"""Every map beside captum or grad-cam where they are installed, and beside its formula written out on a tiny model."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from nullspace.attribution.attention import recorded_attention
from nullspace.attribution.attention_maps import attention_rollout, gradient_weighted_attention
from nullspace.attribution.cam import grad_cam
from nullspace.attribution.gradients import (
    baseline,
    gradient,
    input_times_gradient,
    integrated_gradients,
    on_tokens,
    smooth_gradient,
)
from nullspace.attribution.maps import MAPS, map_named
from nullspace.errors import NullspaceError
from nullspace.metrics.draws import Draws
from nullspace.model.vit import SplitViT
from tests.nullspace.attribution.tiny import tiny

CLASSES = torch.tensor([1, 7, 3])


@pytest.fixture(scope="module")
def model() -> SplitViT:
    return tiny().double()


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def attention_by_hand(model: SplitViT, images: Tensor) -> tuple[list[Tensor], Tensor]:
    """Matrices of every block and the logits, the model's pass written out."""
    wrapped: Any = model.model
    tokens = wrapped._pos_embed(wrapped.patch_embed(model.preprocessing.normalise(images)))
    found: list[Tensor] = []
    for block in wrapped.blocks:
        batch, count, width = tokens.shape
        heads = block.attn.num_heads
        query, key, value = (
            block.attn.qkv(block.norm1(tokens)).reshape(batch, count, 3, heads, width // heads).permute(2, 0, 3, 1, 4)
        )
        found.append((query @ key.transpose(-2, -1) / (width // heads) ** 0.5).softmax(-1))
        mixed = (found[-1] @ value).transpose(1, 2).reshape(batch, count, width)
        tokens = tokens + block.attn.proj(mixed)
        tokens = tokens + block.mlp(block.norm2(tokens))
    return found, wrapped.forward_head(wrapped.norm(tokens))


def test_attention_maps_are_the_formulas_written_out(model: SplitViT, images: Tensor) -> None:
    matrices, logits = attention_by_hand(model, images.clone().requires_grad_())
    assert torch.allclose(logits, model(images), atol=1e-10)
    score = sum(logits[row, kind] for row, kind in enumerate(CLASSES.tolist()))
    slopes = torch.autograd.grad(torch.as_tensor(score), matrices)
    rolled, weighted = (torch.eye(17, dtype=torch.float64).repeat(3, 1, 1) for _ in range(2))
    for matrix, slope in zip(matrices, slopes, strict=True):
        rolled = torch.einsum("bij,bjk->bik", 0.5 * matrix.mean(1) + 0.5 * torch.eye(17), rolled)
        weighted = weighted + torch.einsum("bij,bjk->bik", (slope * matrix).relu().mean(1), weighted)
    assert torch.allclose(attention_rollout(model, images), rolled[:, 0, 1:], atol=1e-10)
    assert torch.allclose(gradient_weighted_attention(model, images, CLASSES), weighted[:, 0, 1:], atol=1e-10)


def test_the_gradient_is_that_of_differences_and_maps_follow_from_it(model: SplitViT, images: Tensor) -> None:
    slope, step = gradient(model, images, CLASSES), 1e-6
    direction = torch.randn(images.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    rows = torch.arange(3)
    moved = [model(images + sign * step * direction, check_range=False)[rows, CLASSES] for sign in (1, -1)]
    assert torch.allclose((slope * direction).sum(dim=(1, 2, 3)), (moved[0] - moved[1]) / (2 * step), rtol=1e-5)
    begin = baseline(model, images)
    assert torch.equal(input_times_gradient(model, images, CLASSES), (images - begin) * slope)
    blank = begin.expand_as(images)
    gained = model(images)[rows, CLASSES] - model(blank)[rows, CLASSES]
    total = integrated_gradients(model, images, CLASSES, points=100).sum(dim=(1, 2, 3))
    assert torch.allclose(total, gained, rtol=1e-5)  # completeness
    sums = on_tokens(model, slope)
    assert torch.allclose(sums[:, 5], slope[:, :, 8:16, 8:16].sum(dim=(1, 2, 3)))


def test_smoothed_gradients_are_the_mean_and_do_not_depend_on_the_batch(model: SplitViT, images: Tensor) -> None:
    draws = Draws(0, "smooth", ["a", "b", "c"])
    found = smooth_gradient(model, images, CLASSES, draws, samples=3, spread=0.1)
    noise = draws.normal(3, 3, 32, 32).double()
    by_hand = sum(gradient(model, images + 0.1 * noise[:, n], CLASSES) for n in range(3)) / 3
    assert torch.allclose(found, torch.as_tensor(by_hand))
    alone = smooth_gradient(model, images[1:2], CLASSES[1:2], Draws(0, "smooth", ["b"]), samples=3, spread=0.1)
    assert torch.allclose(found[1:2], alone)


def test_grad_cam_is_its_formula(model: SplitViT, images: Tensor) -> None:
    wrapped: Any = model.model
    tokens = wrapped._pos_embed(wrapped.patch_embed(model.preprocessing.normalise(images)))
    tokens = wrapped.blocks[0](tokens)
    states = wrapped.blocks[1].norm1(tokens).detach().requires_grad_()
    after = tokens + wrapped.blocks[1].attn(states)
    after = after + wrapped.blocks[1].mlp(wrapped.blocks[1].norm2(after))
    logits = wrapped.forward_head(wrapped.norm(after))
    (slope,) = torch.autograd.grad(logits.gather(1, CLASSES[:, None]).sum(), states)
    expected = torch.einsum("bnd,bd->bn", states[:, 1:], slope[:, 1:].mean(1)).relu()
    assert torch.allclose(grad_cam(model, images, CLASSES), expected, atol=1e-10)


class _Normalised(nn.Module):
    """The model as other libraries want it: of normalised images."""

    def __init__(self, model: SplitViT) -> None:
        super().__init__()
        self.inner = model.model

    def forward(self, images: Tensor) -> Tensor:
        return self.inner(images)


def test_equal_to_captum(model: SplitViT, images: Tensor) -> None:
    captum = pytest.importorskip("captum.attr")
    inputs, plain = model.preprocessing.normalise(images), _Normalised(model)
    std = torch.tensor(model.preprocessing.std, dtype=torch.float64)[None, :, None, None]
    saliency = captum.Saliency(plain).attribute(inputs.clone(), CLASSES, abs=False)
    assert torch.allclose(gradient(model, images, CLASSES), saliency / std, atol=1e-10)
    times = captum.InputXGradient(plain).attribute(inputs.clone(), CLASSES)
    assert torch.allclose(input_times_gradient(model, images, CLASSES), times, atol=1e-10)
    integrated = captum.IntegratedGradients(plain).attribute(inputs.clone(), target=CLASSES, n_steps=20)
    assert torch.allclose(integrated_gradients(model, images, CLASSES, points=20), integrated, atol=1e-8)


def test_equal_to_grad_cam(model: SplitViT, images: Tensor) -> None:
    cam = pytest.importorskip("pytorch_grad_cam")
    targets = pytest.importorskip("pytorch_grad_cam.utils.model_targets")
    plain = _Normalised(model)

    def grid_of(states: Tensor) -> Tensor:
        return states[:, 1:].reshape(len(states), 4, 4, -1).permute(0, 3, 1, 2)

    with cam.GradCAM(plain, [model.model.blocks[-1].norm1], reshape_transform=grid_of) as explain:  # type: ignore[union-attr, index]
        kinds = [targets.ClassifierOutputTarget(int(kind)) for kind in CLASSES]
        theirs = explain(model.preprocessing.normalise(images).requires_grad_(), kinds)
    ours = grad_cam(model, images, CLASSES)
    for mine, other in zip(ours, theirs, strict=True):  # theirs is scaled to [0,1] and drawn at the image's size
        small = torch.from_numpy(np.asarray(other))[4::8, 4::8].flatten()
        assert float(torch.corrcoef(torch.stack([mine, small.double()]))[0, 1]) > 0.95


def test_nothing_of_the_recording_is_left_behind(model: SplitViT, images: Tensor) -> None:
    layers: list[Any] = [block.attn for block in model.model.blocks]  # type: ignore[union-attr]
    before = [layer.fused_attn for layer in layers]
    with pytest.raises(ZeroDivisionError), recorded_attention(model) as found:
        assert not any(layer.fused_attn for layer in layers)
        model(images)
        assert len(found) == 2
        raise ZeroDivisionError
    assert [layer.fused_attn for layer in layers] == before
    assert not any(layer.attn_drop._forward_hooks for layer in layers)
    gradient_weighted_attention(model, images, CLASSES)
    grad_cam(model, images, CLASSES)
    assert not any(module._forward_hooks for module in model.modules())


def test_maps_can_be_differentiated_again(model: SplitViT, images: Tensor) -> None:
    leaf = images.clone().requires_grad_()
    maps = [
        gradient_weighted_attention(model, leaf, CLASSES, create_graph=True),
        grad_cam(model, leaf, CLASSES, create_graph=True),
        on_tokens(model, input_times_gradient(model, leaf, CLASSES, create_graph=True)),
        on_tokens(model, integrated_gradients(model, leaf, CLASSES, points=2, create_graph=True)),
    ]
    for each in maps:
        (slope,) = torch.autograd.grad(each.square().sum(), leaf, retain_graph=True)
        assert bool(torch.isfinite(slope).all()) and float(slope.abs().max()) > 0


def test_every_map_has_a_value_for_every_patch_token(images: Tensor) -> None:
    for name, more in (
        ("vit_tiny_patch16_224", {"reg_tokens": 3}),
        ("vit_tiny_patch16_224", {"global_pool": "avg", "class_token": False}),
        ("deit_tiny_distilled_patch16_224", {}),
    ):
        model = tiny(name, **more).double()
        for each in MAPS:
            assert map_named(each)(model, images, CLASSES).shape == (3, 16), (name, more, each)


def test_what_a_model_has_not_is_said(model: SplitViT, images: Tensor) -> None:
    mixer = SplitViT.load("mixer_s32_224", weights="random", model_args={"num_classes": 10})
    with pytest.raises(NullspaceError, match="no attention in its blocks"):
        attention_rollout(mixer, torch.zeros(1, 3, 224, 224))
    with pytest.raises(NullspaceError, match="expected classes from 0 to 9, got 10 to 10"):
        gradient(model, images[:1], torch.tensor([10]))
    with pytest.raises(NullspaceError, match="the class that is explained"):
        grad_cam(model, images, CLASSES[:2])
    with pytest.raises(NullspaceError, match="expected a map of gradient"):
        map_named("lrp")

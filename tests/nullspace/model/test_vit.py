"""The cut: two halves equal the whole, over models of different build; images are checked."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
import timm
import torch
from timm.data.config import resolve_model_data_config
from torch import nn

from nullspace.errors import CannotCutError, ImageRangeError, NullspaceError
from nullspace.model.vit import SplitViT

SMALL: dict[str, Any] = {"depth": 2, "embed_dim": 96, "num_heads": 3}
TINY: dict[str, Any] = {"depth": 2, "embed_dim": 48, "num_heads": 3, "img_size": 32, "patch_size": 8, "num_classes": 10}
# name, arguments, prefix tokens, patch size (None: the stem is not one convolution)
BUILDS: dict[str, tuple[str, dict[str, Any], int, int | None]] = {
    "deit": ("deit_tiny_patch16_224", {"depth": 2}, 1, 16),
    "deit-distilled": ("deit_tiny_distilled_patch16_224", {"depth": 2}, 2, 16),
    "deit3": ("deit3_small_patch16_224", {"depth": 2}, 1, 16),
    "augreg": ("vit_tiny_patch16_224.augreg_in21k_ft_in1k", {"depth": 2}, 1, 16),
    "registers-average": ("vit_little_patch16_reg4_gap_256", {"depth": 2}, 4, 16),
    "average-no-class": ("vit_base_patch16_gap_224", SMALL, 0, 16),
    "attention-pool": ("vit_base_patch16_siglip_224", SMALL, 0, 16),
    "clip": ("vit_base_patch16_clip_224", SMALL, 1, 16),
    "patch14": ("vit_huge_patch14_gap_224", SMALL, 0, 14),
    "patch32": ("vit_small_patch32_224", {"depth": 2}, 1, 32),
    "beit": ("beit_base_patch16_224", SMALL, 1, 16),
    "eva": ("eva_giant_patch14_224", SMALL, 1, 14),
    "eva02": ("eva02_tiny_patch14_224", {"depth": 2}, 1, 14),
    "dinov2": ("vit_small_patch14_dinov2", {"depth": 2, "img_size": 56}, 1, 14),
    "dinov2-registers": ("vit_small_patch14_reg4_dinov2", {"depth": 2, "img_size": 56}, 5, 14),
    "dinov3-rope": ("vit_base_patch16_dinov3", {**SMALL, "img_size": 64}, 5, 16),
    "dynamic-size": ("vit_small_patch16_224", {"depth": 2, "dynamic_img_size": True}, 1, 16),
    "not-square": ("vit_tiny_patch16_224", {"depth": 2, "img_size": (64, 96)}, 1, 16),
    "relative-position": ("vit_relpos_small_patch16_rpn_224", {"depth": 2}, 0, 16),
    "swin": ("swin_tiny_patch4_window7_224", {"depths": (1, 1, 1, 1)}, 0, 4),
    "swinv2": ("swinv2_tiny_window8_256", {"depths": (1, 1, 1, 1)}, 0, 4),
    "mixer": ("mixer_s32_224", {}, 0, 32),
    "cait": ("cait_xxs24_224", {"depth": 2}, 1, 16),
    "convit": ("convit_tiny", {"depth": 2}, 1, 16),
    "sam": ("samvit_base_patch16_224", {**SMALL, "global_attn_indexes": (1,)}, 0, 16),
    "hybrid": ("vit_tiny_r_s16_p8_224", {"depth": 2}, 1, None),
    "overlapping-nchw": ("pit_ti_224", {}, 0, None),
}


def random_images(model: SplitViT, count: int = 2) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(count, 3, *model.preprocessing.input_size, generator=generator)


@pytest.fixture(scope="module")
def tiny() -> SplitViT:
    return SplitViT.load("vit_tiny_patch16_224", weights="random", model_args=TINY)


@pytest.mark.parametrize("build", BUILDS)
def test_two_halves_are_the_whole(build: str) -> None:
    name, arguments, prefix, patch = BUILDS[build]
    reference: Any = timm.create_model(name, **arguments).eval()
    model = SplitViT(reference, name=name, verify=False)
    images = random_images(model)
    data = resolve_model_data_config(reference)
    mean, std = (torch.tensor(data[key]).view(3, 1, 1) for key in ("mean", "std"))
    with torch.no_grad():
        expected = reference((images - mean) / std)
        expected_features = reference.forward_head(reference.forward_features((images - mean) / std), pre_logits=True)
        tokens = model.tokens(images)
        outputs = model.outputs_from_tokens(tokens)
    assert tokens.shape == (2, model.num_patches, model.embed_dim)
    torch.testing.assert_close(model(images), expected)
    torch.testing.assert_close(outputs.logits, expected)
    torch.testing.assert_close(outputs.features, expected_features)
    torch.testing.assert_close(model.logits_from_tokens(tokens), expected)
    torch.testing.assert_close(model.features_from_tokens(tokens), expected_features)
    assert float(expected_features.std()) > 0  # or the comparison would say nothing
    assert model.num_prefix_tokens == prefix
    assert model.num_classes == reference.num_classes
    if patch is None:
        with pytest.raises(CannotCutError, match="not one linear map on separate patches"):
            _ = model.patch_size
    else:
        assert model.patch_size == (patch, patch)


@pytest.mark.parametrize("build", [build for build, row in BUILDS.items() if row[3] is not None])
def test_a_token_is_the_weight_times_its_patch(build: str) -> None:
    name, arguments, _, _ = BUILDS[build]
    model = SplitViT.load(name, weights="random", model_args=arguments, verify=False)
    images = random_images(model)
    conv = model.patch_projection
    patches = model.patchify(model.preprocessing.normalise(images))
    by_hand = patches @ conv.weight.flatten(1).T + (0 if conv.bias is None else conv.bias)
    norm: Any = getattr(model.stem, "norm", nn.Identity())
    with torch.no_grad():
        torch.testing.assert_close(norm(by_hand), model.tokens(images), atol=2e-5, rtol=1e-4)


def test_grid_of_a_wide_image_is_rows_by_columns() -> None:
    name, arguments, _, _ = BUILDS["not-square"]
    model = SplitViT.load(name, weights="random", model_args=arguments)
    assert model.grid == (4, 6)
    assert model.preprocessing.input_size == (64, 96)
    images = random_images(model)
    patches = model.patchify(images)
    assert torch.equal(patches[0, 7].view(3, 16, 16), images[0, :, 16:32, 16:32])
    assert torch.equal(model.unpatchify(patches), images)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("xcit_nano_12_p16_224", "got a tuple from ConvPatchEmbed"),
        ("mvitv2_tiny", "got a tuple from PatchEmbed"),
        ("crossvit_tiny_240", "several patch embeddings"),
        ("resnet18", "expected a model with a patch embedding, got ResNet"),
        ("levit_128s", "expected a model with a patch embedding, got LevitDistilled"),
        ("convnext_atto", "expected a model with a patch embedding, got ConvNeXt"),
    ],
)
def test_a_model_that_cannot_be_cut_says_why(name: str, why: str) -> None:
    with pytest.raises(CannotCutError, match=why):
        SplitViT.load(name, weights="random")


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("hiera_tiny_224", r"stride \(7, 7\)\), got stride \(4, 4\)"),
        ("pit_ti_224", r"stride \(16, 16\)\), got stride \(8, 8\)"),
        ("vit_tiny_r_s16_p8_224", "expected one convolution that reads the image, got 2"),
    ],
)
def test_a_stem_that_is_no_plain_convolution_says_why(name: str, why: str) -> None:
    with pytest.raises(CannotCutError, match=why):
        _ = SplitViT.load(name, weights="random", verify=False).patch_projection


class Blurred(nn.Module):
    """A stem whose only convolution does not read the image itself."""

    def __init__(self, stem: nn.Module) -> None:
        super().__init__()
        self.stem, self.blur = stem, nn.AvgPool2d(3, 1, 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.stem(self.blur(images))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"padding": (8, 8), "stride": (8, 8)}, r"expected no padding, got padding \(8, 8\)"),
        ({"dilation": (2, 2)}, r"expected no dilation, got dilation \(2, 2\)"),
    ],
    ids=["padded", "dilated"],
)
def test_a_padded_or_dilated_convolution_is_refused(change: dict[str, Any], why: str) -> None:
    model = SplitViT.load("vit_tiny_patch16_224", weights="random", model_args=TINY)
    conv = model.stem.proj
    for name, value in change.items():
        setattr(conv, name, value)
    with pytest.raises(CannotCutError, match=why):
        _ = model.patch_projection


def test_a_layer_before_the_convolution_is_refused() -> None:
    plain: Any = timm.create_model("vit_tiny_patch16_224", **TINY)
    model = SplitViT(plain, name="blurred")
    model.model.patch_embed = Blurred(plain.patch_embed)
    with pytest.raises(CannotCutError, match="got another layer before it"):
        _ = model.patch_projection


class Peeking(nn.Module):
    """A ViT that also reads its image past the patch embedding."""

    def __init__(self) -> None:
        super().__init__()
        inner: Any = timm.create_model("vit_tiny_patch16_224", **TINY)
        self.inner, self.patch_embed, self.num_classes = inner, inner.patch_embed, 10
        self.pretrained_cfg = inner.pretrained_cfg

    def forward_features(self, images: torch.Tensor) -> torch.Tensor:
        mean = images.mean()
        return self.inner.norm(self.inner.blocks(self.inner._pos_embed(self.patch_embed(images)))) + mean

    def forward_head(self, tokens: torch.Tensor, pre_logits: bool = False) -> torch.Tensor:
        return self.inner.forward_head(tokens, pre_logits=pre_logits)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.forward_head(self.forward_features(images))


def test_the_self_check_finds_a_model_that_reads_its_image_twice() -> None:
    with pytest.raises(CannotCutError, match="gives other outputs from its tokens than from its image"):
        SplitViT(Peeking(), name="peeking")


def test_the_callers_model_is_not_altered() -> None:
    mine = timm.create_model("vit_tiny_patch16_224", **TINY).train()
    keys, ids = list(mine.state_dict()), [id(parameter) for parameter in mine.parameters()]
    stem = mine.patch_embed
    model = SplitViT(mine, name="mine")
    model.double()
    assert mine.training and all(parameter.requires_grad for parameter in mine.parameters())
    assert mine.patch_embed is stem and list(mine.state_dict()) == keys
    assert [id(parameter) for parameter in mine.parameters()] == ids
    assert all(parameter.dtype == torch.float32 for parameter in mine.parameters())


def test_always_frozen_and_in_eval_mode(tiny: SplitViT) -> None:
    assert not any(parameter.requires_grad for parameter in tiny.train().parameters())
    assert not any(module.training for module in tiny.modules())
    tokens = tiny.tokens(random_images(tiny)).requires_grad_()
    tiny.logits_from_tokens(tokens).sum().backward()
    assert tokens.grad is not None and float(tokens.grad.abs().max()) > 0


def test_both_halves_follow_a_change_of_dtype_and_a_copy_by_pickle() -> None:
    model = SplitViT.load("vit_tiny_patch16_224", weights="random", model_args=TINY)
    digest, images = model.weights_sha256, random_images(model)
    model = pickle.loads(pickle.dumps(model)).double()
    assert model.tokens(images).dtype == torch.float64
    torch.testing.assert_close(model.logits_from_tokens(model.tokens(images)), model(images))
    assert model.weights_sha256 == digest


@pytest.mark.parametrize(
    ("images", "error", "why"),
    [
        (torch.full((1, 3, 32, 32), 1.5), ImageRangeError, "got values from 1.5 to 1.5"),
        (torch.full((1, 3, 32, 32), -0.01), ImageRangeError, "expected images in"),
        (torch.full((1, 3, 32, 32), float("nan")), ImageRangeError, "got values from nan"),
        (torch.zeros(1, 3, 32, 32, dtype=torch.uint8), ImageRangeError, "divide 8-bit images by 255"),
        (torch.zeros(1, 3, 32, 33), NullspaceError, r"\(B,3,32,32\), got \(1, 3, 32, 33\)"),
        (torch.zeros(1, 1, 32, 32), NullspaceError, r"\(B,3,32,32\), got \(1, 1, 32, 32\)"),
        (torch.zeros(3, 32, 32), NullspaceError, r"got \(3, 32, 32\)"),
    ],
    ids=["above", "below", "nan", "uint8", "size", "channels", "no-batch"],
)
def test_unsuitable_images_are_refused(tiny: SplitViT, images: torch.Tensor, error: type[Exception], why: str) -> None:
    for call in (tiny, tiny.tokens):
        with pytest.raises(error, match=why):
            call(images)


def test_the_range_check_allows_rounding_and_can_be_waived(tiny: SplitViT) -> None:
    assert tiny.tokens(torch.full((1, 3, 32, 32), 1.00005)).isfinite().all()
    assert tiny.tokens(torch.full((1, 3, 32, 32), 7.0), check_range=False).isfinite().all()


def test_tokens_and_patches_of_another_shape_are_refused(tiny: SplitViT) -> None:
    with pytest.raises(NullspaceError, match=r"expected tokens \(B,16,48\), got shape \(1, 17, 48\)"):
        tiny.logits_from_tokens(torch.zeros(1, 17, 48))
    with pytest.raises(NullspaceError, match=r"expected patches \(B,16,192\), got shape \(1, 16, 191\)"):
        tiny.unpatchify(torch.zeros(1, 16, 191))
    with pytest.raises(NullspaceError, match="that 8x8 patches tile"):
        tiny.patchify(torch.zeros(1, 3, 32, 33))


def test_a_grey_model_is_refused() -> None:
    grey = timm.create_model("vit_tiny_patch16_224", in_chans=1, depth=1)
    with pytest.raises(CannotCutError, match=r"channels|plain image"):
        SplitViT(grey, name="grey")

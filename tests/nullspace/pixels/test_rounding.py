"""8-bit rounding in the kernel: against every rounding on tiny problems, by its promises, and on a real model."""

from __future__ import annotations

import itertools
import time
from pathlib import Path

import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from nullspace.errors import ImageRangeError, NullspaceError
from nullspace.kernel.patch_kernel import patch_kernel
from nullspace.model.images import from_uint8, round_to_uint8
from nullspace.model.vit import SplitViT
from nullspace.pixels.lift import PatchMap, map_of, patch_map
from nullspace.pixels.projection import project_to_box
from nullspace.pixels.rounding import Rounding, round_in_kernel, round_patches, round_quickly, rounding_plan

STD = (0.229, 0.224, 0.225)


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def uniform(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def smooth(rows: int, columns: int) -> PatchMap:
    """A map whose singular values fall over three decades, as those of trained patch embeddings do."""
    left, _, right = torch.linalg.svd(draw(rows, columns), full_matrices=False)
    return map_of(left * torch.logspace(0, -3, len(right), dtype=torch.float64) @ right, STD)


MAPS = {
    "wide": map_of(draw(8, 48), STD),
    "smooth": smooth(24, 48),
    "square": map_of(draw(48, 48), STD),
    "singular": map_of(draw(48, 6) @ draw(6, 48, seed=1), STD),
    "tall": map_of(draw(60, 48), STD),
    "zero": map_of(torch.zeros(5, 48), STD),
    "modulo-shift": map_of(draw(48, 48), STD, modulo_shift=True),
}


def assert_honest(found: Rounding, patches: Tensor, mapping: PatchMap, max_move: float) -> None:
    """Residuals as measured, moves as promised, nowhere worse than nearest rounding."""
    nearest = round_to_uint8(patches)
    for pixels, told in ((found.pixels, found.residual), (nearest, found.nearest_residual)):
        measured = mapping.tokens(pixels.double() / 255 - patches.double()).norm(dim=-1)
        torch.testing.assert_close(told, measured, atol=1e-9, rtol=1e-9)
    assert found.pixels.dtype == torch.uint8 and found.pixels.shape == patches.shape
    assert bool((found.residual <= found.nearest_residual).all())
    assert torch.equal(found.moved, (found.pixels != nearest).sum(-1))
    move = float((found.pixels.double() - patches.double() * 255).abs().max())
    assert move <= max_move + 1e-9 and abs(found.largest_move - move) < 1e-9


@pytest.mark.parametrize("max_move", [1.0, 1.5, 2.0])
@pytest.mark.parametrize("name", MAPS)
def test_keeps_its_promises(name: str, max_move: float) -> None:
    patches = uniform(10, 48)
    patches[0], patches[1] = 0.0, 1.0
    found = round_patches(patches, rounding_plan(MAPS[name]), max_move=max_move)
    assert_honest(found, patches, MAPS[name], max_move)


@given(st.integers(0, 10_000), st.floats(1e-6, 1.0), st.sampled_from([torch.float32, torch.float64]))
@settings(max_examples=25, deadline=None)
def test_keeps_its_promises_whatever_the_damping(seed: int, damping: float, dtype: torch.dtype) -> None:
    mapping = map_of(draw(7, 27, seed=seed), STD)
    patches = (uniform(4, 27, seed=seed) * 1.4 - 0.2).clamp(0, 1).to(dtype)
    found = round_patches(patches, rounding_plan(mapping, damping=damping), max_move=2.0)
    assert_honest(found, patches, mapping, 2.0)


def test_is_near_the_best_of_all_roundings() -> None:
    """All 2^12 ways to round 12 values up or down: ours lies among the best half percent, within 3 times the best."""
    mapping, patches = map_of(draw(4, 12), STD), uniform(20, 12)
    floor = (patches * 255).floor()
    ups = torch.tensor(list(itertools.product([0.0, 1.0], repeat=12)), dtype=torch.float64)
    every = mapping.tokens((floor[:, None] + ups - patches[:, None] * 255) / 255).norm(dim=-1)
    found = round_patches(patches, rounding_plan(mapping, damping=1e-3), max_move=1.0)
    share_better = (every < found.residual[:, None] - 1e-12).double().mean(dim=-1)
    assert float(share_better.median()) < 0.02
    assert float(found.residual.mean()) < 0.5 * float(found.nearest_residual.mean())


@pytest.mark.parametrize(("name", "gain"), [("wide", 4.0), ("smooth", 3.0)])
def test_is_many_times_better_than_nearest(name: str, gain: float) -> None:
    found = round_patches(uniform(50, 48), rounding_plan(MAPS[name]))
    assert found.gain > gain


def test_whole_levels_stay() -> None:
    patches = from_uint8(torch.randint(0, 256, (6, 48), dtype=torch.uint8)).double()
    found = round_patches(patches, rounding_plan(MAPS["wide"]))
    assert torch.equal(found.pixels, round_to_uint8(patches)) and int(found.moved.sum()) == 0


def test_a_zero_map_rounds_to_nearest() -> None:
    patches = uniform(3, 48)
    found = round_patches(patches, rounding_plan(MAPS["zero"]))
    assert torch.equal(found.pixels, round_to_uint8(patches)) and found.gain == 1.0


def test_patches_are_independent_and_axes_kept() -> None:
    plan, patches = rounding_plan(MAPS["wide"]), uniform(2, 3, 48)
    together = round_patches(patches, plan)
    assert together.residual.shape == together.moved.shape == (2, 3)
    assert torch.equal(together.pixels[1, 2], round_patches(patches[1, 2], plan).pixels)
    assert round_patches(patches[:0], plan).pixels.shape == (0, 3, 48)


def test_input_is_left_alone() -> None:
    patches = uniform(3, 48)
    before = patches.clone()
    round_patches(patches, rounding_plan(MAPS["wide"]))
    assert torch.equal(patches, before)


def test_images_of_a_model() -> None:
    torch.manual_seed(0)
    vit = timm.create_model("vit_tiny_patch16_224", img_size=32, patch_size=8, embed_dim=48, depth=2, num_classes=10)
    model = SplitViT(vit.double(), name="tiny")
    images = uniform(2, 3, 32, 32)
    found = round_in_kernel(model, images)
    change = (model.tokens(from_uint8(found.pixels).double()) - model.tokens(images)).norm(dim=-1)
    assert found.pixels.shape == images.shape and found.residual.shape == (2, 16)
    torch.testing.assert_close(change, found.residual, atol=1e-5, rtol=1e-4)
    assert found.gain > 2.0


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_cuda_keeps_its_promises() -> None:
    patches = uniform(10, 48)
    found = round_patches(patches.cuda(), rounding_plan(MAPS["wide"]))
    assert found.pixels.is_cuda and found.gain > 3.0


@pytest.mark.real
def test_deit_tiny_hardly_notices_8_bits(assets: Path) -> None:
    """Kernel noise in four real images, in 8 bits: tokens keep to it six times closer, and so do the logits."""
    model = SplitViT.load("deit_tiny_patch16_224", weights=assets / "deit_tiny_patch16_224" / "model.safetensors")
    files = sorted((assets / "imagenet_val_600" / "images").glob("*.JPEG"))[:4]
    transform = model.preprocessing.transform()
    images = from_uint8(torch.stack([transform(Image.open(file).convert("RGB")) for file in files])).double()
    patches = model.patchify(images)
    delta = project_to_box(patches, 0.1 * draw(*patches.shape), patch_kernel(model), iterations=2000, tolerance=1e-9)
    hidden = model.unpatchify((patches + delta.delta).clamp(0, 1))
    plan, start = rounding_plan(patch_map(model)), time.process_time()
    found = round_patches(model.patchify(hidden), plan)
    assert time.process_time() - start < 30  # under 1 s on a quiet core
    assert found.gain > 6.0 and found.largest_move <= 2.0
    with torch.no_grad():
        clean = model(images.float())
        ours, nearest = (
            float((model(from_uint8(pixels)) - clean).abs().max())
            for pixels in (model.unpatchify(found.pixels), round_to_uint8(hidden))
        )
    assert ours < nearest / 2


@pytest.mark.parametrize(
    ("patches", "max_move", "error", "message"),
    [
        (torch.rand(2, 47), 2.0, NullspaceError, r"patches \(\.\.\.,48\)"),
        (torch.zeros(2, 48, dtype=torch.uint8), 2.0, NullspaceError, "got torch.uint8"),
        (torch.rand(2, 48), 0.5, NullspaceError, "max_move of 1 to 255"),
        (torch.rand(2, 48), float("nan"), NullspaceError, "max_move of 1 to 255"),
        (torch.rand(2, 48) * 255, 2.0, ImageRangeError, r"pixels in \[0,1\]"),
        (torch.full((2, 48), torch.nan), 2.0, ImageRangeError, r"pixels in \[0,1\]"),
    ],
    ids=["patch-size", "8-bit", "half-a-level", "nan-move", "range", "nan"],
)
def test_bad_input_is_refused(patches: Tensor, max_move: float, error: type[NullspaceError], message: str) -> None:
    with pytest.raises(error, match=message):
        round_patches(patches, rounding_plan(MAPS["wide"]), max_move=max_move)


@pytest.mark.parametrize("damping", [0.0, -1.0, float("inf"), float("nan")])
def test_damping_is_checked(damping: float) -> None:
    with pytest.raises(NullspaceError, match="damping > 0"):
        rounding_plan(MAPS["wide"], damping=damping)


def test_quick_rounding_is_nearly_as_good() -> None:
    mapping = MAPS["smooth"]
    plan, patches = rounding_plan(mapping), uniform(40, 5, 48)
    quick = round_quickly(patches.float(), plan)
    found = round_patches(patches, plan)
    left = mapping.tokens(quick.double() / 255 - patches).norm(dim=-1)
    assert quick.dtype == torch.uint8 and quick.shape == patches.shape
    assert float(left.square().mean().sqrt()) < 1.5 * float(found.residual.square().mean().sqrt())
    assert float((quick.double() - 255 * patches).abs().max()) <= 2 + 1e-4
    with pytest.raises(ImageRangeError):
        round_quickly(patches.float() * 255, plan)

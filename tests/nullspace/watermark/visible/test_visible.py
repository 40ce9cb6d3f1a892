"""A visible mark: seen in the pixels, not in the tokens."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

from nullspace.errors import ImageRangeError, NullspaceError
from nullspace.kernel.patch_kernel import PatchKernel, patch_kernel
from nullspace.model.images import from_uint8, round_to_uint8
from nullspace.model.vit import SplitViT
from nullspace.pixels.projection import project_to_box
from nullspace.watermark.luma import luma
from nullspace.watermark.visible.legibility import texture_contrast
from nullspace.watermark.visible.texture import EDGE
from nullspace.watermark.visible.visible import blend, embed, shown, token_residual
from tests.nullspace.tiny_vit import tiny_vit


@pytest.fixture(scope="module")
def model() -> SplitViT:
    return tiny_vit(depth=2, img_size=48)


@pytest.fixture(scope="module")
def kernel(model: SplitViT) -> PatchKernel:
    return patch_kernel(model)


def images(count: int = 2, size: int = 48) -> Tensor:
    """Smooth images, neither black nor white."""
    coarse = torch.rand(count, 3, 6, 6, generator=torch.Generator().manual_seed(0)) * 0.6 + 0.2
    return torch.nn.functional.interpolate(coarse, size=(size, size), mode="bilinear")


def cross(size: int = 48) -> tuple[Tensor, Tensor]:
    """A white cross of strokes with a dark block beside it, and its opacity."""
    mark, alpha = torch.ones(3, size, size), torch.zeros(size, size)
    alpha[size // 4 : size // 4 + 4, 4:-4] = 0.9
    alpha[4:-4, size // 4 : size // 4 + 4] = 0.9
    alpha[size // 2 :, size // 2 :] = 0.8
    mark[:, size // 2 :, size // 2 :] = 0.1
    return mark, alpha


def test_blend_is_alpha_compositing() -> None:
    mark, alpha = cross()
    plain = blend(images(), mark, alpha)
    torch.testing.assert_close(plain, (1 - alpha) * images() + alpha * mark)
    assert torch.equal(plain[:, :, alpha == 0], images()[:, :, alpha == 0])
    assert float(blend(torch.ones(1, 3, 48, 48), mark, alpha).max()) <= 1.0


def test_model_does_not_see_the_mark(model: SplitViT, kernel: PatchKernel) -> None:
    found = embed(model, kernel, images(), *cross())
    assert found.converged
    assert found.marked.shape == images().shape and found.marked.dtype == torch.float32
    assert float(found.marked.min()) >= 0.0 and float(found.marked.max()) <= 1.0
    assert found.residual.shape == (2,) and float(found.residual.max()) < 2e-5
    torch.testing.assert_close(model(found.marked), model(images()), atol=1e-4, rtol=0.0)
    assert float((model(found.plain) - model(images())).abs().max()) > 1e-3
    assert torch.equal(found.plain, blend(images(), *cross()))


def test_people_see_the_mark(model: SplitViT, kernel: PatchKernel) -> None:
    _, alpha = cross()
    found = embed(model, kernel, images(), *cross())
    change = (found.marked - images()).abs().amax(dim=1)
    light = (alpha > 0) & (cross()[0][0] == 1)
    under, beside = change[:, light].mean(), change[:, alpha == 0]
    assert float(under) > 0.15 and float(under) > 5 * float(beside.mean())
    assert float(beside.max()) <= EDGE * 0.9 + 1e-6  # of the range, of which the mark's opacity leaves .9
    contrast = [texture_contrast(each, alpha * (cross()[0][0] == 1)) for each in (images(), found.marked)]
    assert float((contrast[1] - contrast[0]).min()) > 0.5


def test_opacity_scales_what_is_seen(model: SplitViT, kernel: PatchKernel) -> None:
    mark, alpha = cross()
    sizes = [float((embed(model, kernel, images(), mark, a * alpha).marked - images()).norm()) for a in (0.2, 0.5, 1)]
    assert sizes[0] < sizes[1] < sizes[2]


def test_it_is_stronger_than_random_noise_or_a_chequerboard_under_the_mark(
    model: SplitViT, kernel: PatchKernel
) -> None:
    mark, alpha = cross()
    mark = torch.ones_like(mark)
    found = embed(model, kernel, images(), mark, alpha, within=kernel)
    patches, room = model.patchify(images()), model.patchify(alpha.expand(2, 3, -1, -1))
    board = (torch.arange(48)[:, None] + torch.arange(48)) % 2 * 2.0 - 1
    noise = torch.randn(48, 48, generator=torch.Generator().manual_seed(0)).sign()
    for carrier in (board, noise):
        wanted = 1.5 * model.patchify((carrier * alpha).expand(2, 3, -1, -1))
        plain = model.unpatchify(project_to_box(patches, wanted, kernel, room=room, iterations=2000).delta)
        assert energies(found.marked - images(), alpha) > 1.2 * energies(plain, alpha)


def energies(change: Tensor, alpha: Tensor) -> float:
    """Energy of brightness at half size under the mark."""
    return float(torch.nn.functional.avg_pool2d(luma(change * alpha), 2).square().sum())


def test_dark_parts_of_a_drawing_take_an_eighth_and_one_tone_takes_all() -> None:
    mark, alpha = cross()
    mask = shown(mark, alpha)
    assert torch.equal(mask[mark[0] == 1], alpha[mark[0] == 1])
    torch.testing.assert_close(mask[mark[0] < 1], alpha[mark[0] < 1] / 8)
    for tone in (0.0, 0.5, 1.0):
        assert torch.equal(shown(torch.full((3, 48, 48), tone), alpha), alpha)


def test_patches_without_a_mark_stay_as_they_are(model: SplitViT, kernel: PatchKernel) -> None:
    mark, alpha = torch.ones(3, 48, 48), torch.zeros(48, 48)
    alpha[8:16, 8:16] = 1.0  # one patch exactly
    found = embed(model, kernel, images(), mark, alpha)
    changed = (model.patchify(found.marked) != model.patchify(images())).any(dim=-1)
    assert changed.nonzero()[:, 1].tolist() == [7, 7]


def test_no_room_where_pixels_are_saturated(model: SplitViT, kernel: PatchKernel) -> None:
    mark, alpha = cross()
    found = embed(model, kernel, torch.ones(1, 3, 48, 48), 1 - mark, alpha)
    assert float(found.marked.max()) <= 1.0 and float(found.residual.max()) < 1e-3


def test_same_input_same_mark(model: SplitViT, kernel: PatchKernel) -> None:
    first, second = (embed(model, kernel, images(), *cross()) for _ in range(2))
    assert torch.equal(first.marked, second.marked)


def test_a_trivial_kernel_is_refused() -> None:
    square = tiny_vit(depth=2, img_size=48, patch_size=4)
    assert patch_kernel(square).is_trivial
    with pytest.raises(NullspaceError, match="its kernel is zero"):
        embed(square, patch_kernel(square), images(), *cross())


def test_bad_input_is_refused(model: SplitViT, kernel: PatchKernel) -> None:
    mark, alpha = cross()
    with pytest.raises(NullspaceError, match="shrink or pad the mark"):
        embed(model, kernel, images(), *cross(64))
    with pytest.raises(NullspaceError, match="shrink or pad the mark"):
        blend(images(), mark, alpha[None])
    with pytest.raises(NullspaceError, match=r"images \(B,3,H,W\)"):
        blend(images()[0], mark, alpha)
    with pytest.raises(ImageRangeError, match=r"\[0,1\]"):
        blend(images(), 255 * mark, alpha)
    with pytest.raises(ImageRangeError, match=r"\[0,1\]"):
        blend(images() - 1, mark, alpha)
    with pytest.raises(NullspaceError, match="nothing would be marked"):
        embed(model, kernel, images(), mark, 0 * alpha)
    other = tiny_vit(depth=2, img_size=48, patch_size=16)
    with pytest.raises(NullspaceError, match="make it with patch_kernel"):
        embed(model, patch_kernel(other), images(), mark, alpha)


@pytest.mark.real
def test_mark_on_real_images(assets: Path) -> None:
    deit = SplitViT.load(
        "deit_tiny_patch16_224", weights=assets / "deit_tiny_patch16_224" / "model.safetensors", verify=False
    )
    transform = deit.preprocessing.transform()
    files = sorted((assets / "imagenet_val_600" / "images").glob("*.JPEG"))[3:7]
    batch = torch.stack([transform(Image.open(file).convert("RGB")) for file in files]) / 255
    _, alpha = cross(224)
    found = embed(deit, patch_kernel(deit), batch, torch.ones(3, 224, 224), alpha)
    saved = from_uint8(round_to_uint8(found.marked))
    clean, marked, rounded = deit(batch), deit(found.marked), deit(saved)
    torch.testing.assert_close(marked, clean, atol=1e-3, rtol=0.0)
    assert torch.equal(rounded.argmax(-1), clean.argmax(-1))
    assert float(token_residual(deit, batch, saved).max()) < 0.02
    assert float((found.marked - batch).abs().amax(dim=1)[:, alpha > 0].mean()) > 0.1

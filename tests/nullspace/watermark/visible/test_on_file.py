"""A visible mark on a file of another size: texture that the model's own resize takes away."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from nullspace.errors import NullspaceError
from nullspace.kernel.file_kernel import FileKernel, kernel_on_file
from nullspace.model.images import from_uint8, round_to_uint8
from nullspace.model.vit import SplitViT
from nullspace.watermark.visible.legibility import texture_contrast
from nullspace.watermark.visible.on_file import embed_visible_on_file
from nullspace.watermark.visible.visible import blend
from tests.nullspace.tiny_vit import tiny_vit


@pytest.fixture(scope="module")
def model() -> SplitViT:
    return tiny_vit(img_size=48)


def file(height: int, width: int) -> Tensor:
    coarse = 60 + 130 * torch.rand(1, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    smooth = torch.nn.functional.interpolate(coarse, size=(height, width), mode="bilinear")
    return smooth[0].round().to(torch.uint8)


def bar(height: int, width: int) -> tuple[Tensor, Tensor]:
    alpha = torch.zeros(height, width)
    alpha[height // 3 : 2 * height // 3, width // 4 : -width // 4] = 1.0
    return torch.ones(3, height, width), alpha


@pytest.mark.parametrize("size", [(40, 44), (60, 80), (121, 97)])
def test_people_see_it_and_the_resized_picture_has_it_not(model: SplitViT, size: tuple[int, int]) -> None:
    clean = file(*size)
    mark, alpha = bar(*size)
    made = embed_visible_on_file(model, clean, mark, alpha)
    assert made.pixels.dtype == torch.uint8 and made.pixels.shape == clean.shape
    images = [from_uint8(each)[None] for each in (clean, made.pixels)]
    contrast = [float(texture_contrast(each, alpha)) for each in images]
    assert contrast[1] > contrast[0] + 0.3
    kernel = kernel_on_file(model, size)
    change = (images[1] - images[0]).double()
    assert kernel.seen(change).norm() < 0.03 * kernel.seen((blend(images[0], mark, alpha) - images[0]).double()).norm()


def test_a_file_with_pixels_to_spare_is_marked_in_grey_and_another_in_colour(model: SplitViT) -> None:
    for size, grey in (((121, 97), True), ((50, 50), False)):
        clean = from_uint8(file(*size)).double()
        marked = []

        def save(_: FileKernel, changed: Tensor, marked: list[Tensor] = marked) -> Tensor:
            marked.append(changed)
            return round_to_uint8(changed)

        embed_visible_on_file(model, file(*size), *bar(*size), save=save)
        change = marked[0] - clean
        assert bool((change.amax(dim=0) - change.amin(dim=0)).max() < 1e-9) == grey


def test_far_from_the_mark_nothing_changes(model: SplitViT) -> None:
    clean = file(120, 120)
    mark, alpha = torch.ones(3, 120, 120), torch.zeros(120, 120)
    alpha[60:80, 60:80] = 1.0
    pixels = embed_visible_on_file(model, clean, mark, alpha).pixels
    assert torch.equal(pixels[:, :30], clean[:, :30]) and torch.equal(pixels[:, :, 110:], clean[:, :, 110:])


def test_where_the_model_reads_nothing_the_mark_is_of_light_and_dark_squares_too(model: SplitViT) -> None:
    mark, alpha = torch.ones(3, 60, 120), torch.zeros(60, 120)
    alpha[20:40] = 1.0  # from edge to edge, of which the crop is the middle
    clean = file(60, 120)
    change = from_uint8(embed_visible_on_file(model, clean, mark, alpha).pixels) - from_uint8(clean)
    beyond = change[:, 20:40, :20].mean(0)
    assert 0.2 < float((beyond > 0).float().mean()) < 0.8
    assert float(beyond.abs().min()) > 0.1


def test_a_mark_outside_the_crop_is_refused(model: SplitViT) -> None:
    mark, alpha = torch.ones(3, 60, 120), torch.zeros(60, 120)
    alpha[:, :8] = 1.0  # the crop of a wide file is its middle
    with pytest.raises(NullspaceError, match="outside the model's crop"):
        embed_visible_on_file(model, file(60, 120), mark, alpha)

"""Deletion: as a loop over pixels has it, better in the map's order than in random order, along patches and across."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from nullspace.attribution.deletion import area, deletion
from nullspace.attribution.gradients import baseline
from nullspace.errors import NullspaceError
from nullspace.kernel.patch_kernel import patch_kernel
from nullspace.model.vit import SplitViT
from tests.nullspace.attribution.tiny import tiny

GRID, PATCH = 4, 8


@pytest.fixture(scope="module")
def model() -> SplitViT:
    return tiny()


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def maps() -> Tensor:
    return torch.rand(2, GRID * GRID, generator=torch.Generator().manual_seed(1))


def by_pixels(model: SplitViT, image: Tensor, kind: int, values: Tensor, shares: int, shift: int) -> list[float]:
    """One curve, cell by cell: `shift` pixels up and to the left, each cell the mean of the patches it touches."""
    side = GRID + (1 if shift else 0)
    cells = []
    for row in range(side):
        for column in range(side):
            rows = range(max(0, row * PATCH - shift), min(32, (row + 1) * PATCH - shift))
            columns = range(max(0, column * PATCH - shift), min(32, (column + 1) * PATCH - shift))
            touched = {(r // PATCH) * GRID + c // PATCH for r in rows for c in columns}
            cells.append((float(values[sorted(touched)].mean()), rows, columns))
    cells.sort(key=lambda cell: -cell[0])
    curve = []
    for share in range(shares + 1):
        changed = image.clone()
        for _, rows, columns in cells[: round(share / shares * len(cells))]:
            changed[:, rows.start : rows.stop, columns.start : columns.stop] = baseline(model, image)[0]
        curve.append(float(model(changed[None], check_range=False).softmax(dim=1)[0, kind]))
    return curve


@pytest.mark.parametrize("across", [False, True])
def test_it_is_what_a_loop_over_pixels_gives(model: SplitViT, images: Tensor, maps: Tensor, across: bool) -> None:
    classes = torch.tensor([3, 7])
    found = deletion(model, images, classes, maps, across=across, shares=4)
    for number in range(2):
        kind = int(classes[number])
        expected = by_pixels(model, images[number], kind, maps[number], 4, PATCH // 2 if across else 0)
        assert found[number].tolist() == pytest.approx(expected, abs=1e-5)


def test_it_begins_with_the_image_and_ends_in_grey(model: SplitViT, images: Tensor, maps: Tensor) -> None:
    classes = model(images).argmax(dim=1)
    found = deletion(model, images, classes, maps)
    grey = baseline(model, images).expand_as(images)
    for column, pictures in ((0, images), (-1, grey)):
        expected = model(pictures, check_range=False).softmax(dim=1).gather(1, classes[:, None])[:, 0]
        assert torch.allclose(found[:, column], expected, atol=1e-6)
    assert torch.allclose(area(found), torch.trapezoid(found, dx=1 / 8, dim=1))


def test_along_patches_it_cannot_see_the_kernel(model: SplitViT, images: Tensor, maps: Tensor) -> None:
    kernel, classes = patch_kernel(model), model(images).argmax(dim=1)
    generator = torch.Generator().manual_seed(2)
    noise = kernel.sample(2 * GRID * GRID, rms=0.5, generator=generator).view(2, GRID * GRID, -1).float()
    noised = images + model.unpatchify(noise)
    along, across = (
        (deletion(model, noised, classes, maps, across=way) - deletion(model, images, classes, maps, across=way)).abs()
        for way in (False, True)
    )
    assert float(along.max()) < 1e-4 < 10 * float(across.max())


def test_maps_that_do_not_fit_are_refused(model: SplitViT, images: Tensor, maps: Tensor) -> None:
    with pytest.raises(NullspaceError, match="expected maps"):
        deletion(model, images, torch.tensor([1, 2]), maps[:, :5])
    with pytest.raises(NullspaceError, match="shares >= 1"):
        deletion(model, images, torch.tensor([1, 2]), maps, shares=0)

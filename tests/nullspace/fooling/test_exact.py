"""The nearest look in the kernel: no nearer one exists, tokens stay, and shares of energy are those of a basis."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from nullspace.errors import ImageRangeError, NullspaceError
from nullspace.fooling.exact import kernel_share, nearest_look
from nullspace.kernel.patch_kernel import PatchKernel, patch_kernel
from nullspace.model.images import from_uint8, round_to_uint8
from nullspace.model.vit import SplitViT
from nullspace.pixels.projection import project_to_box
from nullspace.watermark.certify import certify
from tests.nullspace.tiny_vit import tiny_vit


@pytest.fixture(scope="module")
def model() -> SplitViT:
    return tiny_vit()


@pytest.fixture(scope="module")
def kernel(model: SplitViT) -> PatchKernel:
    return patch_kernel(model)


def pictures(seed: int, count: int = 3) -> Tensor:
    drawn = 0.2 + 0.6 * torch.rand(count, 3, 32, 32, generator=torch.Generator().manual_seed(seed))
    return from_uint8(round_to_uint8(drawn))


def test_tokens_and_outputs_stay_while_the_picture_goes_towards_the_look(model: SplitViT, kernel: PatchKernel) -> None:
    images, looks = pictures(0), pictures(1)
    found = nearest_look(model, images, looks, kernel)
    assert found.saved.dtype == torch.uint8
    seen = certify(model, images, found.saved)
    assert bool(seen.same.all()) and float(seen.largest_token_change.max()) < 0.01
    assert bool((found.reached > 0.5).all()) and bool((found.reached <= found.possible + 0.01).all())


def test_it_is_the_projection_onto_kernel_and_box(model: SplitViT, kernel: PatchKernel) -> None:
    images, looks = pictures(0), pictures(1)
    patches, wanted = model.patchify(images).double(), model.patchify(looks).double()
    best = project_to_box(patches, wanted - patches, kernel, iterations=3000, tolerance=1e-10).delta
    limit = 1 - (wanted - patches - best).square().sum((1, 2)) / (wanted - patches).square().sum((1, 2))
    assert torch.allclose(nearest_look(model, images, looks, kernel).reached.double(), limit, atol=2e-3)


def test_the_share_is_that_of_an_orthonormal_basis(model: SplitViT, kernel: PatchKernel) -> None:
    changes = model.patchify(pictures(1)) - model.patchify(pictures(0))
    inside = changes.double() @ kernel.basis()
    reference = inside.square().sum((1, 2)) / changes.double().square().sum((1, 2))
    assert torch.allclose(kernel_share(changes, kernel).double(), reference, atol=1e-5)
    within = kernel.project(changes.double())
    assert kernel_share(within, kernel).tolist() == pytest.approx([1, 1, 1])
    assert kernel_share(changes.double() - within, kernel).tolist() == pytest.approx([0, 0, 0], abs=1e-10)


def test_the_image_itself_is_its_own_nearest_look(model: SplitViT, kernel: PatchKernel) -> None:
    images = pictures(0)
    assert torch.equal(nearest_look(model, images, images, kernel).saved, round_to_uint8(images))


def test_wrong_input_is_refused(model: SplitViT, kernel: PatchKernel) -> None:
    with pytest.raises(NullspaceError, match="a look for every image"):
        nearest_look(model, pictures(0), pictures(1, count=2), kernel)
    with pytest.raises(ImageRangeError):
        nearest_look(model, pictures(0), 2 + pictures(1), kernel)

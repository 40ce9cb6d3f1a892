"""Maps steered in the kernel: as near to what is wanted as scipy finds, the model unmoved, patch sums as before."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import LinearConstraint, minimize
from torch import Tensor

from nullspace.attribution.gradients import gradient, input_times_gradient
from nullspace.attribution.steering import elsewhere, map_of, steer
from nullspace.errors import ImageRangeError, NullspaceError
from nullspace.kernel.patch_kernel import PatchKernel, patch_kernel
from nullspace.model.images import from_uint8, round_to_uint8
from nullspace.model.vit import SplitViT

TINY: dict[str, Any] = {
    "depth": 1, "embed_dim": 12, "num_heads": 3, "img_size": 8, "patch_size": 4, "num_classes": 10,
}  # fmt: skip
CLASSES = torch.tensor([1, 7])


@pytest.fixture(scope="module")
def model() -> SplitViT:
    return SplitViT.load("vit_tiny_patch16_224", weights="random", model_args=TINY)


@pytest.fixture(scope="module")
def kernel(model: SplitViT) -> PatchKernel:
    return patch_kernel(model)


@pytest.fixture(scope="module")
def images() -> Tensor:
    return from_uint8(round_to_uint8(torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))))


def best_left(model: SplitViT, kernel: PatchKernel, images: Tensor, slope: Tensor, wanted: Tensor) -> float:
    """The least squared distance of the first image's map to the wanted one, patch by patch, by scipy."""
    missing = (wanted - map_of(model, images, slope))[:, None].expand(-1, 3, -1, -1).contiguous()
    parts = [model.patchify(each)[0].double().numpy() for each in (images, slope, missing)]
    rows, left = kernel.row_space.T.numpy(), 0.0
    for pixels, slopes, lacking in zip(*parts, strict=True):
        summing = np.hstack([np.diag(channel) for channel in slopes.reshape(3, 16)])
        scale = float(np.square(lacking[:16]).sum())

        def distance(change: np.ndarray, summing: Any = summing, lacking: Any = lacking, scale: float = scale) -> Any:
            residual = summing @ change - lacking[:16]
            return residual @ residual / scale, 2 * summing.T @ residual / scale

        found = minimize(
            distance, np.zeros(48), jac=True, method="SLSQP", bounds=list(zip(-pixels, 1 - pixels, strict=True)),
            constraints=LinearConstraint(rows, 0, 0), options={"maxiter": 500, "ftol": 1e-12},
        )  # fmt: skip
        left += float(found.fun) * scale
    return left


def test_it_comes_as_near_as_scipy_and_the_model_does_not_notice(
    model: SplitViT, kernel: PatchKernel, images: Tensor
) -> None:
    slope = gradient(model, images, CLASSES)
    before = map_of(model, images, slope)
    assert torch.allclose(before, input_times_gradient(model, images, CLASSES).sum(dim=1))
    wanted = before.flip(0)
    found = steer(model, images, slope, wanted, kernel, steps=400)
    pictures = from_uint8(found.saved)
    assert torch.allclose(model(pictures), model(images), atol=2e-2)  # a step of 8 bits in patches of 48 values
    again = gradient(model, pictures, CLASSES)
    assert float((again - slope).norm() / slope.norm()) < 0.02
    left = float((found.maps[0] - wanted[0]).square().sum())
    apart = float((before[0] - wanted[0]).square().sum())
    assert float(found.reached[0]) == pytest.approx(1 - left / apart, abs=1e-5)
    assert left / apart <= best_left(model, kernel, images, slope, wanted) / apart + 0.03
    assert float(found.reached.min()) > 0.1
    sums = [each.unfold(1, 4, 4).unfold(2, 4, 4).sum(dim=(3, 4)) for each in (before, found.maps)]
    assert float((sums[1] - sums[0]).norm() / found.maps.norm()) < 0.02


def test_what_cannot_be_is_refused(model: SplitViT, kernel: PatchKernel, images: Tensor) -> None:
    slope = gradient(model, images, CLASSES)
    with pytest.raises(NullspaceError, match="a wanted map"):
        steer(model, images, slope, slope, kernel)
    with pytest.raises(ImageRangeError):
        steer(model, 2 * images, slope, slope[:, 0], kernel)


def test_the_largest_pixels_make_room_for_others(model: SplitViT, kernel: PatchKernel, images: Tensor) -> None:
    slope = gradient(model, images, CLASSES)
    own, wanted = map_of(model, images, slope), elsewhere(model, images, slope, 6)
    for before, after in zip(own.flatten(1), wanted.flatten(1), strict=True):
        order = before.abs().argsort(descending=True)
        changed = (before != after).nonzero().flatten().tolist()
        assert len(changed) == 6 + 9 and set(order[:6].tolist()) <= set(changed)
        assert not bool(after[order[:6]].any())
        least = float(before.abs()[order[5]])
        raised = after[[place for place in changed if place not in set(order[:6].tolist())]]
        assert torch.allclose(raised.abs(), torch.full_like(raised, 1.5 * least))
    with pytest.raises(NullspaceError, match="a quarter of the 64 pixels"):
        elsewhere(model, images, slope, 17)

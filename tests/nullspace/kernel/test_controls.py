"""Controls of kernel noise: its norm in normalised units, image by image, and nothing of its structure."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from nullspace.kernel.controls import gaussian, permuted
from nullspace.kernel.patch_kernel import PatchKernel, kernel_of
from nullspace.metrics.keyed import generator


@pytest.fixture(scope="module")
def kernel() -> PatchKernel:
    weight = torch.randn(24, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    return kernel_of(weight, (0.2, 0.3, 0.5))


@pytest.fixture(scope="module")
def noise(kernel: PatchKernel) -> Tensor:
    return torch.stack([kernel.sample(4, rms=0.5, generator=generator("noise", i)) for i in range(3)])


def sources(count: int) -> list[torch.Generator]:
    return [generator("control", i) for i in range(count)]


@pytest.mark.parametrize("control", [permuted, gaussian])
def test_controls_have_the_norm_of_each_image_and_are_seen(
    control: Callable[..., Tensor], kernel: PatchKernel, noise: Tensor
) -> None:
    made = control(noise, kernel, sources(3))
    norms = [(each / kernel.std).flatten(1).norm(dim=1) for each in (made, noise)]
    torch.testing.assert_close(norms[0], norms[1])
    seen = (made @ kernel.row_space).norm(dim=-1)
    assert bool((seen > 0.1 * made.norm(dim=-1)).all())
    assert float((noise @ kernel.row_space).abs().max()) < 1e-10


def test_permuted_noise_has_the_same_elements_in_normalised_units(kernel: PatchKernel, noise: Tensor) -> None:
    made = permuted(noise, kernel, sources(3))
    before, after = ((each / kernel.std).flatten(1).sort().values for each in (noise, made))
    torch.testing.assert_close(before, after)


@pytest.mark.parametrize("control", [permuted, gaussian])
def test_the_control_of_an_image_depends_on_no_other(
    control: Callable[..., Tensor], kernel: PatchKernel, noise: Tensor
) -> None:
    whole, alone = control(noise, kernel, sources(3)), control(noise[1:2], kernel, sources(3)[1:2])
    torch.testing.assert_close(whole[1:2], alone)


@pytest.mark.parametrize("control", [permuted, gaussian])
def test_every_image_needs_a_generator(control: Callable[..., Tensor], kernel: PatchKernel, noise: Tensor) -> None:
    with pytest.raises(ValueError, match="zip"):
        control(noise, kernel, sources(1))

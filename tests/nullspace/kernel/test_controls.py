"""Controls of kernel noise: its norm in normalised units, image by image, and nothing of its structure."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from nullspace.errors import NullspaceError
from nullspace.kernel.controls import gaussian, permuted
from nullspace.kernel.patch_kernel import PatchKernel, kernel_of
from nullspace.metrics.draws import Draws

IDS = ["a", "b", "c"]


@pytest.fixture(scope="module")
def kernel() -> PatchKernel:
    weight = torch.randn(24, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    return kernel_of(weight, (0.2, 0.3, 0.5))


@pytest.fixture(scope="module")
def noise(kernel: PatchKernel) -> Tensor:
    return kernel.drawn(4, rms=0.5, draws=Draws(0, "noise", IDS))


def sources(ids: list[str] = IDS) -> Draws:
    return Draws(0, "control", ids)


def test_noise_is_drawn_as_sample_draws_it(kernel: PatchKernel, noise: Tensor) -> None:
    assert noise.shape == (3, 4, kernel.patch_dim) and noise.dtype == torch.float32
    torch.testing.assert_close((noise / kernel.std).square().mean(-1).sqrt(), torch.full((3, 4), 0.5).double())
    assert torch.equal(kernel.drawn(4, rms=0.5, draws=Draws(0, "noise", ["b"]))[0], noise[1])
    with pytest.raises(NullspaceError, match="expected rms > 0"):
        kernel.drawn(4, rms=0, draws=sources())


@pytest.mark.parametrize("control", [permuted, gaussian])
def test_controls_have_the_norm_of_each_image_and_are_seen(
    control: Callable[..., Tensor], kernel: PatchKernel, noise: Tensor
) -> None:
    made = control(noise, kernel, sources())
    norms = [(each / kernel.std).flatten(1).norm(dim=1) for each in (made, noise)]
    torch.testing.assert_close(norms[0], norms[1])
    seen = (made.double() @ kernel.row_space).norm(dim=-1)
    assert bool((seen > 0.1 * made.norm(dim=-1)).all())
    assert float((noise.double() @ kernel.row_space).abs().max()) < 1e-6


def test_permuted_noise_has_the_same_elements_in_normalised_units(kernel: PatchKernel, noise: Tensor) -> None:
    made = permuted(noise, kernel, sources())
    before, after = ((each / kernel.std).flatten(1).sort().values for each in (noise, made))
    torch.testing.assert_close(before, after)


@pytest.mark.parametrize("control", [permuted, gaussian])
def test_the_control_of_an_image_depends_on_no_other(
    control: Callable[..., Tensor], kernel: PatchKernel, noise: Tensor
) -> None:
    whole, alone = control(noise, kernel, sources()), control(noise[1:2], kernel, sources(["b"]))
    torch.testing.assert_close(whole[1:2], alone)


def test_every_image_needs_its_draws(kernel: PatchKernel, noise: Tensor) -> None:
    with pytest.raises(NullspaceError, match="for each of 1 ids, got 3"):
        permuted(noise, kernel, sources(["a"]))

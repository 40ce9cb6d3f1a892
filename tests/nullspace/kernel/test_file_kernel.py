"""The kernel on the user's own file: against the explicit matrix, and through timm's real transform."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.linalg
import torch
from PIL import Image

from nullspace.errors import ImageRangeError, NullspaceError
from nullspace.kernel.file_kernel import FileKernel, kernel_on_file
from nullspace.kernel.patch_kernel import kernel_of
from nullspace.model.preprocessing import Preprocessing
from nullspace.model.resize import resize_of
from nullspace.model.vit import SplitViT

STD = (0.229, 0.224, 0.225)
PREPROCESSING = Preprocessing((8, 8), "bicubic", 0.9, "center", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
SIZES = {"shrink": (13, 11), "enlarge": (7, 8), "same-size": (8, 8), "wide": (9, 20)}


def tiny(size: tuple[int, int], dim: int = 5) -> FileKernel:
    weight = torch.randn(dim, 48, generator=torch.Generator().manual_seed(dim), dtype=torch.float64)
    return FileKernel(kernel_of(weight, STD), resize_of(PREPROCESSING, size), (4, 4))


def explicit(kernel: FileKernel) -> torch.Tensor:
    """B as a matrix, column by column."""
    height, width = kernel.resize.file_size
    basis = torch.eye(3 * height * width, dtype=torch.float64).view(-1, 3, height, width)
    return kernel.seen(basis).flatten(1).T


def noise(size: tuple[int, int], count: int = 3, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, 3, *size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("dim", [5, 30, 48])
def test_projection_is_that_of_scipys_null_space(size: tuple[int, int], dim: int) -> None:
    kernel = tiny(size, dim)
    matrix = explicit(kernel)
    null = torch.from_numpy(scipy.linalg.null_space(matrix.numpy(), rcond=1e-9))
    assert null.shape[1] >= kernel.least_nullity
    if dim == 5:
        assert null.shape[1] == kernel.least_nullity
    found = kernel.project(noise(size), tolerance=1e-11)
    expected = (noise(size).flatten(1) @ null @ null.T).view_as(found.delta)
    assert bool(found.converged.all()) and found.iterations < 1000
    torch.testing.assert_close(found.delta, expected, atol=1e-7, rtol=0)
    by_hand = (found.delta.flatten(1) @ matrix.T).norm(dim=1)
    torch.testing.assert_close(found.residual, by_hand, atol=1e-12, rtol=0)


def test_grey_changes_are_equal_in_all_channels_and_the_nearest_such() -> None:
    grey = replace(tiny((9, 11)), grey=True)
    wanted = noise((9, 11))
    found = grey.project(wanted)
    assert torch.equal(found.delta[:, 0], found.delta[:, 1]) and bool(found.converged.all())
    matrix = explicit(tiny((9, 11))).reshape(-1, 3, 9 * 11).sum(1)  # of one grey value per pixel
    torch.testing.assert_close(explicit(grey), (matrix / 3).repeat(1, 3))
    null = torch.from_numpy(scipy.linalg.null_space(matrix.numpy()))
    plain = wanted.mean(1).flatten(1)
    torch.testing.assert_close(found.delta[:, 0].flatten(1), plain @ null @ null.T, atol=1e-7, rtol=0)
    images = torch.rand(3, 3, 9, 11, generator=torch.Generator().manual_seed(5))
    boxed = grey.project_to_box(images, wanted, iterations=5000, tolerance=1e-6)
    assert torch.equal(boxed.delta[:, 0], boxed.delta[:, 2]) and bool(boxed.converged.all())
    assert float((images + boxed.delta).min()) >= -1e-9 and float((images + boxed.delta).max()) <= 1 + 1e-9


def test_adjoint() -> None:
    kernel = tiny((13, 11))
    x, y = noise((13, 11)), torch.randn(3, 4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    assert kernel.grid == (2, 2)
    torch.testing.assert_close((kernel.seen(x) * y).sum(), (x * kernel.adjoint(y)).sum())


def test_pixels_outside_the_crop_are_free() -> None:
    kernel = tiny((9, 40))
    outside = noise((9, 40)) * ~kernel.resize.read
    assert outside.any()
    torch.testing.assert_close(kernel.project(outside).delta, outside)


def test_samples_have_the_rms_and_are_not_seen() -> None:
    kernel = tiny((13, 11))
    drawn = kernel.sample(4, rms=0.25, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(drawn.delta.square().mean(dim=(1, 2, 3)).sqrt(), torch.full((4,), 0.25).double())
    assert drawn.delta.shape == (4, 3, 13, 11) and float(drawn.residual.max()) < 1e-7
    again = kernel.sample(4, rms=0.25, generator=torch.Generator().manual_seed(2))
    assert torch.equal(drawn.delta, again.delta)


def test_in_the_box_it_is_the_nearest_point_and_files_hold_it() -> None:
    size = (13, 11)
    kernel = tiny(size)
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, 3, *size), dtype=np.uint8))
    x = images.double() / 255
    found = kernel.project_to_box(x, noise(size), tolerance=1e-8, iterations=5000)
    assert bool(found.converged.all())
    assert float((x + found.delta).min()) >= -1e-15 and float((x + found.delta).max()) <= 1 + 1e-15
    null = torch.from_numpy(scipy.linalg.null_space(explicit(kernel).numpy()))
    towards = (noise(size) - found.delta).flatten(1)
    for seed in range(20):  # no other element of kernel ∩ box lies on the wanted side: the projection's own inequality
        other = (noise(size, seed=seed + 1).flatten(1) @ null) @ null.T
        room = torch.where(other > 0, 1 - x.flatten(1), x.flatten(1)) / other.abs()
        other = other * room.min(dim=1, keepdim=True).values
        assert bool(((other - found.delta.flatten(1)) * towards).sum(1).le(1e-6).all())
    saved = kernel.noised(images, noise(size), tolerance=1e-6, iterations=5000)
    assert saved.images.dtype == torch.uint8 and bool(saved.converged.all())
    error = (saved.images.double() / 255 - x - saved.delta).abs()
    assert float(error.max()) <= 0.5 / 255 + 1e-9
    assert bool((saved.rounded_residual <= saved.residual + kernel.resize.norm * error.flatten(1).norm(dim=1)).all())


@pytest.mark.parametrize(
    ("call", "error", "why"),
    [
        (
            lambda k, z: k.project(z[0]),
            NullspaceError,
            r"float delta \(B,3,13,11\), got torch.float64 of shape \(3, 13",
        ),
        (lambda k, z: k.project(z[:, :, :12]), NullspaceError, "files of one size"),
        (lambda k, z: k.project(z * float("nan")), NullspaceError, "expected a finite delta"),
        (lambda k, z: k.project(z, iterations=0), NullspaceError, "expected iterations >= 1"),
        (lambda k, z: k.project_to_box(z[:1].abs().clamp(0, 1), z), NullspaceError, "images and delta of one shape"),
        (lambda k, z: k.project_to_box(z + 9, z), ImageRangeError, r"expected pixels in \[0,1\]"),
        (lambda k, z: k.noised(z, z), ImageRangeError, "expected 8-bit images"),
        (lambda k, z: k.sample(1, rms=0.0, generator=torch.Generator()), NullspaceError, "expected rms > 0"),
    ],
)
def test_errors(call: Any, error: type[Exception], why: str) -> None:
    with pytest.raises(error, match=why):
        call(tiny((13, 11)), noise((13, 11)))


def test_nothing_can_be_sampled_where_the_model_sees_all() -> None:
    with pytest.raises(NullspaceError, match="the model sees every change of a file of this size"):
        whole = replace(PREPROCESSING, crop_pct=1.0)
        square = replace(tiny((8, 8), dim=48), resize=resize_of(whole, (8, 8)))
        square.sample(1, rms=1.0, generator=torch.Generator())


@pytest.mark.real
def test_real_noise_on_the_file_survives_timms_own_transform(assets: Path) -> None:
    weights = assets / "deit_tiny_patch16_224" / "model.safetensors"
    model = SplitViT.load("deit_tiny_patch16_224", weights=weights, verify=False)
    transform = model.preprocessing.transform()
    generator = torch.Generator().manual_seed(0)
    changes, controls, agreed = [], [], 0
    for file in sorted((assets / "imagenet_val_600" / "images").iterdir())[:2]:
        image = torch.from_numpy(np.array(Image.open(file).convert("RGB"))).permute(2, 0, 1)
        kernel = kernel_on_file(model, (image.shape[1], image.shape[2]))
        drawn = kernel.sample(1, rms=0.1, generator=generator)
        saved = kernel.noised(image[None], drawn.delta)
        assert bool(saved.converged.all())
        added = saved.images[0].double() - image.double()
        assert float(added.square().mean().sqrt()) > 20  # grey levels
        shuffled = added.flatten()[torch.randperm(added.numel(), generator=generator)].view_as(added)
        control = (image.double() + shuffled).round().clamp(0, 255).to(torch.uint8)
        files = [Image.fromarray(each.permute(1, 2, 0).numpy()) for each in (image, saved.images[0], control)]
        with torch.no_grad():
            clean, noised, permuted = model(torch.stack([transform(each) for each in files]) / 255)
        changes.append(float((noised - clean).abs().max()))
        controls.append(float((permuted - clean).abs().max()))
        agreed += int(noised.argmax() == clean.argmax())
    assert agreed == 2 and max(changes) < 1.0 and sum(changes) < sum(controls) / 4

"""The projection onto kernel and pixel box against a quadratic-programming reference, by its properties, and 8-bit."""

from __future__ import annotations

import time

import numpy as np
import pytest
import scipy.optimize
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from nullspace.errors import ImageRangeError, NullspaceError
from nullspace.kernel.patch_kernel import PatchKernel, kernel_of
from nullspace.model.images import from_uint8, round_to_uint8
from nullspace.pixels.projection import project_to_box

STD = (0.229, 0.224, 0.225)


def kernel(embed_dim: int = 4, patch: int = 2, seed: int = 0) -> PatchKernel:
    weight = torch.randn(embed_dim, 3, patch, patch, generator=torch.Generator().manual_seed(seed))
    return kernel_of(weight, STD)


def problem(count: int, size: int, seed: int, amount: float, saturated: bool = False) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    patches = torch.rand(count, size, generator=generator, dtype=torch.float64)
    if saturated:  # a third of all pixels at 0 or 1, as in real photographs
        patches = (patches * 1.5 - 0.25).clamp(0, 1)
    return patches, amount * torch.randn(count, size, generator=generator, dtype=torch.float64)


def reference(patch: Tensor, wanted: Tensor, rows: Tensor) -> np.ndarray:
    """The same projection for one patch by scipy's SLSQP."""
    found = scipy.optimize.minimize(
        lambda d: 0.5 * ((d - wanted.numpy()) ** 2).sum(),
        np.zeros(len(patch)),
        jac=lambda d: d - wanted.numpy(),
        bounds=list(zip((-patch).tolist(), (1 - patch).tolist(), strict=True)),
        constraints={"type": "eq", "fun": lambda d: rows.T.numpy() @ d, "jac": lambda _: rows.T.numpy()},
        method="SLSQP",
        options={"ftol": 1e-14, "maxiter": 500},
    )
    assert found.success, found.message
    return found.x


@pytest.mark.parametrize("saturated", [False, True], ids=["inside", "saturated"])
@pytest.mark.parametrize("amount", [0.01, 0.3, 2.0])
@pytest.mark.parametrize(("embed_dim", "patch"), [(4, 2), (9, 2), (5, 3)])
def test_is_the_true_projection(embed_dim: int, patch: int, amount: float, saturated: bool) -> None:
    ker = kernel(embed_dim, patch)
    patches, wanted = problem(6, ker.patch_dim, 1, amount, saturated)
    found = project_to_box(patches, wanted, ker, tolerance=1e-11, iterations=20_000)
    assert found.converged
    for index in range(6):
        expected = reference(patches[index], wanted[index], ker.row_space)
        np.testing.assert_allclose(found.delta[index].numpy(), expected, atol=2e-6)


@given(st.integers(0, 10_000), st.floats(0.001, 10.0), st.booleans(), st.sampled_from([torch.float32, torch.float64]))
@settings(max_examples=40, deadline=None)
def test_box_is_exact_and_residual_is_honest(seed: int, amount: float, saturated: bool, dtype: torch.dtype) -> None:
    ker = kernel(embed_dim=7, patch=3, seed=seed)
    patches, wanted = (part.to(dtype) for part in problem(5, ker.patch_dim, seed, amount, saturated))
    found = project_to_box(patches, wanted, ker, iterations=50)
    changed = patches + found.delta
    assert found.delta.dtype == dtype
    assert float(changed.min()) >= 0.0 and float(changed.max()) <= 1.0
    outside = (found.delta.double() @ ker.row_space).norm(dim=-1)
    torch.testing.assert_close(found.residual.double(), outside, atol=2e-6, rtol=1e-3)


@given(st.integers(0, 10_000), st.floats(0.01, 3.0))
@settings(max_examples=25, deadline=None)
def test_is_idempotent_and_never_further_than_doing_nothing(seed: int, amount: float) -> None:
    ker = kernel(embed_dim=5, patch=2, seed=seed)
    patches, wanted = problem(4, ker.patch_dim, seed, amount)
    once = project_to_box(patches, wanted, ker, tolerance=1e-10, iterations=5000).delta
    twice = project_to_box(patches, once, ker, tolerance=1e-10, iterations=5000).delta
    torch.testing.assert_close(twice, once, atol=1e-7, rtol=0.0)
    assert bool(((once - wanted).norm(dim=-1) <= wanted.norm(dim=-1) + 1e-9).all())


def test_is_the_kernel_projection_where_the_box_is_far() -> None:
    ker = kernel(embed_dim=6, patch=3)
    wanted = 1e-3 * problem(5, ker.patch_dim, 0, 1.0)[1]
    found = project_to_box(torch.full_like(wanted, 0.5), wanted, ker, tolerance=1e-12)
    assert found.iterations == 0
    torch.testing.assert_close(found.delta, ker.project(wanted))


def test_batch_axes_and_patches_are_independent() -> None:
    ker = kernel(embed_dim=6, patch=3)
    patches, wanted = problem(12, ker.patch_dim, 3, 0.5)
    together = project_to_box(
        patches.reshape(3, 4, -1), wanted.reshape(3, 4, -1), ker, tolerance=1e-10, iterations=5000
    )
    assert together.delta.shape == (3, 4, ker.patch_dim) and together.residual.shape == (3, 4)
    alone = project_to_box(patches[5], wanted[5], ker, tolerance=1e-10, iterations=5000)
    torch.testing.assert_close(together.delta[1, 1], alone.delta, atol=1e-8, rtol=0.0)


@pytest.mark.parametrize("seed", range(4))
def test_a_pixel_with_less_room_goes_only_so_far(seed: int) -> None:
    patches, wanted = problem(3, 12, seed, 1.0)
    room = torch.rand(3, 12, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    room[:, :2] = 0.0
    found = project_to_box(patches, wanted, kernel(), room=room, iterations=5000, tolerance=1e-9)
    assert found.converged and not found.delta[:, :2].any()
    assert bool((found.delta >= -room * patches - 1e-12).all() & (found.delta <= room * (1 - patches) + 1e-12).all())
    rows = kernel().row_space.double().numpy()
    for patch, target, share, got in zip(patches, wanted, room, found.delta, strict=True):
        best = scipy.optimize.minimize(
            lambda d, target=target: 0.5 * ((d - target.numpy()) ** 2).sum(),
            np.zeros(12),
            jac=lambda d, target=target: d - target.numpy(),
            bounds=list(zip((-share * patch).tolist(), (share * (1 - patch)).tolist(), strict=True)),
            constraints={"type": "eq", "fun": lambda d: rows.T @ d, "jac": lambda _: rows.T},
            method="SLSQP",
            options={"ftol": 1e-14, "maxiter": 500},
        )
        assert float((got - target).norm()) <= np.linalg.norm(best.x - target.numpy()) + 1e-5


def test_room_is_a_share() -> None:
    patches, wanted = problem(1, 12, 0, 1.0)
    with pytest.raises(ImageRangeError):
        project_to_box(patches, wanted, kernel(), room=2 * torch.ones(1, 12))


def test_a_trivial_kernel_allows_no_change() -> None:
    ker = kernel(embed_dim=12, patch=2)
    assert ker.is_trivial
    patches, wanted = problem(3, ker.patch_dim, 0, 0.3)
    found = project_to_box(patches, wanted, ker, tolerance=1e-9, iterations=5000)
    assert float(found.delta.abs().max()) < 1e-8


def test_an_all_black_patch_has_room_only_upwards() -> None:
    ker = kernel(embed_dim=2, patch=3)
    wanted = problem(4, ker.patch_dim, 0, 0.3)[1]
    found = project_to_box(torch.zeros_like(wanted), wanted, ker, tolerance=1e-9, iterations=20_000)
    assert found.converged and float(found.delta.min()) >= 0.0


def test_few_iterations_say_that_they_were_few() -> None:
    ker = kernel(embed_dim=20, patch=3)
    patches, wanted = problem(20, ker.patch_dim, 0, 2.0)
    assert not project_to_box(patches, wanted, ker, iterations=1, tolerance=1e-10).converged


def test_input_is_left_alone() -> None:
    ker = kernel()
    patches, wanted = problem(3, ker.patch_dim, 0, 1.0)
    before = patches.clone(), wanted.clone()
    project_to_box(patches, wanted, ker)
    assert torch.equal(patches, before[0]) and torch.equal(wanted, before[1])


def test_speed_on_the_size_of_real_images() -> None:
    ker = kernel(embed_dim=192, patch=16)
    patches, wanted = (part.float().reshape(8, 196, 768) for part in problem(8 * 196, 768, 0, 0.3))
    start = time.process_time()
    project_to_box(patches, wanted, ker, iterations=100, tolerance=0.0)
    assert time.process_time() - start < 20  # 2 s on a quiet core; the rest is for busy machines


@pytest.mark.parametrize(
    ("patches", "wanted", "error", "message"),
    [
        (torch.rand(2, 12), torch.rand(2, 11), NullspaceError, "of one shape"),
        (torch.rand(2, 11), torch.rand(2, 11), NullspaceError, r"\(\.\.\.,12\)"),
        (torch.rand(2, 12) * 255, torch.rand(2, 12), ImageRangeError, r"pixels in \[0,1\]"),
        (torch.rand(2, 12) - 0.5, torch.rand(2, 12), ImageRangeError, "do not normalise"),
        (torch.full((2, 12), torch.nan), torch.rand(2, 12), ImageRangeError, r"pixels in \[0,1\]"),
        (torch.rand(2, 12), torch.full((2, 12), torch.nan), NullspaceError, "finite float delta"),
    ],
    ids=["unequal", "patch-size", "8-bit", "normalised", "nan-pixels", "nan-delta"],
)
def test_bad_input_is_refused(patches: Tensor, wanted: Tensor, error: type[NullspaceError], message: str) -> None:
    with pytest.raises(error, match=message):
        project_to_box(patches, wanted, kernel())


def test_iterations_are_checked() -> None:
    with pytest.raises(NullspaceError, match="iterations >= 1"):
        project_to_box(torch.rand(2, 12), torch.rand(2, 12), kernel(), iterations=0)


def test_every_8_bit_value_survives() -> None:
    values = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16)
    assert torch.equal(round_to_uint8(from_uint8(values)), values)


@given(st.floats(0, 1, width=32))
def test_rounding_is_to_the_nearest(value: float) -> None:
    image = torch.full((1, 3, 1, 1), value)
    assert float((from_uint8(round_to_uint8(image)) - image).abs().max()) <= 0.5 / 255 + 1e-7


def test_rounding_refuses_what_it_cannot_keep() -> None:
    with pytest.raises(ImageRangeError, match=r"pixels in \[0,1\]"):
        round_to_uint8(torch.tensor([1.01]))
    with pytest.raises(ImageRangeError, match="uint8"):
        from_uint8(torch.rand(3))

"""Lifting token noise to pixels against scipy's bounded least squares, by its certificate, and through a model."""

from __future__ import annotations

import numpy as np
import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from nullspace.errors import ImageRangeError, NullspaceError
from nullspace.model.vit import SplitViT
from nullspace.pixels.lift import Lift, PatchMap, lift_noise, map_of, patch_map
from nullspace.pixels.solvers.box_problem import BoxProblem
from nullspace.pixels.solvers.interior_point import interior_point
from tests.nullspace.pixels.lifting import MATRICES, STD, draw, reachable, reference, saturated


def assert_proved(lift: Lift, mapping: PatchMap, noise: Tensor, patches: Tensor) -> None:
    """Inside the box exactly, the residual as said, and not below its floor."""
    changed = patches + lift.delta
    assert float(changed.min()) >= 0.0 and float(changed.max()) <= 1.0
    left = torch.linalg.vector_norm(mapping.tokens(lift.delta) - mapping.wanted(noise), dim=-1)
    torch.testing.assert_close(lift.residual, left, atol=1e-10, rtol=1e-9)
    assert bool((lift.floor <= lift.residual + 1e-9 * (1 + lift.residual)).all())
    assert bool(lift.converged.all())


@pytest.mark.parametrize("modulo_shift", [False, True], ids=["plain", "modulo-shift"])
@pytest.mark.parametrize("size", [0.01, 1.0, 30.0])
@pytest.mark.parametrize("name", MATRICES)
def test_residual_is_scipys(name: str, size: float, modulo_shift: bool) -> None:
    mapping = map_of(MATRICES[name], STD, modulo_shift=modulo_shift)
    patches = saturated(4, 27)
    noise = size * draw(4, len(mapping.matrix), seed=9)
    lift = lift_noise(noise, patches, mapping)
    assert_proved(lift, mapping, noise, patches)
    for index in range(4):
        least = reference(mapping.matrix, mapping.wanted(noise)[index], -patches[index], 1 - patches[index])
        allowed = 2e-7 * float(noise[index].norm())
        assert float(lift.residual[index]) <= least + allowed and float(lift.floor[index]) <= least + allowed
        if name != "very-ill-conditioned":  # there scipy stops above the floor that ours is proved to reach
            assert least <= float(lift.residual[index]) + allowed


@pytest.mark.parametrize("name", MATRICES)
def test_reachable_noise_is_reached(name: str) -> None:
    mapping = map_of(MATRICES[name], STD)
    patches = saturated(6, 27)
    noise = reachable(mapping, patches)
    lift = lift_noise(noise, patches, mapping)
    assert_proved(lift, mapping, noise, patches)
    assert float(lift.relative.max()) < 1e-7


def test_far_from_the_box_it_is_nearly_the_least_norm_solution() -> None:
    mapping = map_of(MATRICES["ill-conditioned"], STD)
    patches = torch.full((5, 27), 0.5, dtype=torch.float64)
    noise = mapping.tokens(1e-3 * draw(5, 27))
    least = noise @ torch.linalg.pinv(mapping.matrix).T
    torch.testing.assert_close(lift_noise(noise, patches, mapping).delta, least, atol=1e-6, rtol=1e-2)


@given(st.integers(0, 10_000), st.floats(1e-3, 100.0), st.integers(1, 30), st.booleans())
@settings(max_examples=40, deadline=None)
def test_every_answer_proves_itself(seed: int, size: float, rows: int, shift: bool) -> None:
    mapping = map_of(draw(rows, 27, seed=seed), STD, modulo_shift=shift)
    patches = saturated(3, 27, seed=seed)
    noise = size * draw(3, rows, seed=seed + 1)
    assert_proved(lift_noise(noise, patches, mapping), mapping, noise, patches)


@given(st.integers(0, 10_000), st.floats(0.01, 10.0))
@settings(max_examples=25, deadline=None)
def test_the_floor_holds_for_any_allowed_change(seed: int, size: float) -> None:
    mapping = map_of(MATRICES["wide"], STD)
    patches, noise = saturated(1, 27, seed=seed), size * draw(1, 8, seed=seed)
    floor = float(lift_noise(noise, patches, mapping).floor)
    others = torch.rand(500, 27, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).round()
    assert float((mapping.tokens(others - patches) - noise).norm(dim=-1).min()) >= floor - 1e-9


def test_both_solvers_agree() -> None:
    mapping = map_of(MATRICES["ill-conditioned"], STD)
    patches, scale = saturated(8, 27), float(mapping.sigma[0])
    noise = reachable(mapping, patches)
    rows, sigma = mapping.right * (mapping.sigma / scale), mapping.sigma / scale
    target, allowed = noise @ mapping.left / scale, 1e-8 * noise.norm(dim=-1) / scale
    problem = BoxProblem(rows, sigma, target, -patches, 1 - patches, allowed)
    delta, _, solved = interior_point(problem)
    assert bool(solved.all())
    assert float(((mapping.tokens(delta) - noise).norm(dim=-1) / noise.norm(dim=-1)).max()) < 1e-7


def test_zero_matrix_and_zero_noise_change_nothing() -> None:
    patches = saturated(3, 27)
    nothing = lift_noise(draw(3, 5), patches, map_of(torch.zeros(5, 27), STD))
    assert bool((nothing.delta == 0).all()) and bool(nothing.converged.all())
    torch.testing.assert_close(nothing.relative, torch.ones(3, dtype=torch.float64))
    silent = lift_noise(torch.zeros(3, 8), patches, map_of(MATRICES["wide"], STD))
    assert bool((silent.delta == 0).all()) and bool((silent.relative == 0).all()) and bool(silent.converged.all())


def test_pixels_without_effect_stay() -> None:
    mapping = map_of(MATRICES["zero-columns"], STD)
    lift = lift_noise(50 * draw(4, 10), saturated(4, 27), mapping)
    assert bool((lift.delta[:, 20:] == 0).all())


def test_the_shift_need_not_be_matched() -> None:
    """Square and of full rank: no kernel, so a shift costs pixels, unless it is free."""
    matrix, patches = MATRICES["square"], saturated(4, 27)
    noise = torch.full((4, 27), 1000.0, dtype=torch.float64)
    assert float(lift_noise(noise, patches, map_of(matrix, STD)).relative.min()) > 0.1
    free = lift_noise(noise, patches, map_of(matrix, STD, modulo_shift=True))
    assert bool((free.residual < 1e-9).all()) and bool(free.converged.all())


def test_noise_of_one_tensor_serves_every_image() -> None:
    mapping = map_of(MATRICES["wide"], STD)
    patches, noise = saturated(6, 27).reshape(2, 3, 27), draw(3, 8)
    both = lift_noise(noise, patches, mapping)
    alone = lift_noise(noise, patches[1], mapping)
    assert both.delta.shape == (2, 3, 27) and both.residual.shape == both.iterations.shape == (2, 3)
    torch.testing.assert_close(both.residual[1], alone.residual, atol=1e-6, rtol=0.0)
    single = lift_noise(noise[2], patches[1, 2], mapping)
    torch.testing.assert_close(single.residual, both.residual[1, 2], atol=1e-6, rtol=0.0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_answers_are_float64_and_input_is_left_alone(dtype: torch.dtype) -> None:
    mapping = map_of(MATRICES["wide"].to(dtype), STD)
    patches, noise = saturated(3, 27).to(dtype), draw(3, 8).to(dtype)
    before = patches.clone(), noise.clone()
    lift = lift_noise(noise, patches, mapping)
    assert lift.delta.dtype == torch.float64 and bool(lift.converged.all())
    assert torch.equal(patches, before[0]) and torch.equal(noise, before[1])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_cuda_gives_the_same() -> None:
    mapping, patches, noise = map_of(MATRICES["wide"], STD), saturated(3, 27), 3 * draw(3, 8)
    there = lift_noise(noise.cuda(), patches.cuda(), mapping)
    assert there.delta.is_cuda
    torch.testing.assert_close(there.residual.cpu(), lift_noise(noise, patches, mapping).residual, atol=1e-6, rtol=0.0)


@pytest.mark.parametrize("name", ["wide", "square", "tall", "square-singular"])
def test_map_is_its_own_decomposition(name: str) -> None:
    mapping = map_of(MATRICES[name], STD)
    torch.testing.assert_close(mapping.left * mapping.sigma @ mapping.right.T, mapping.matrix)
    unit = torch.eye(mapping.rank, dtype=torch.float64)
    torch.testing.assert_close(mapping.right.T @ mapping.right, unit)
    torch.testing.assert_close(mapping.left.T @ mapping.left, unit)
    assert mapping.rank == np.linalg.matrix_rank(MATRICES[name].numpy())


def test_a_model_sees_the_noise() -> None:
    """Images changed by the lift give the tokens, and the logits, of tokens with the noise added."""
    torch.manual_seed(0)
    vit = timm.create_model("vit_tiny_patch16_224", img_size=32, patch_size=8, embed_dim=48, depth=2, num_classes=10)
    model = SplitViT(vit.double(), name="tiny")
    mapping = patch_map(model)
    images = saturated(2, 3 * 32 * 32).reshape(2, 3, 32, 32)
    patches = model.patchify(images)
    noise = reachable(mapping, patches)
    lift = lift_noise(noise, patches, mapping)
    changed = model.unpatchify(patches + lift.delta)
    wanted = model.tokens(images) + noise
    torch.testing.assert_close(model.tokens(changed), wanted, atol=1e-6, rtol=0.0)
    torch.testing.assert_close(model(changed), model.logits_from_tokens(wanted), atol=1e-5, rtol=0.0)


@pytest.mark.parametrize(
    ("noise", "patches", "error", "message"),
    [
        (draw(2, 7), torch.rand(2, 27), NullspaceError, r"noise \(\.\.\.,8\)"),
        (draw(2, 8), torch.rand(2, 26), NullspaceError, r"patches \(\.\.\.,27\)"),
        (draw(3, 8), torch.rand(2, 27), NullspaceError, "of the same tokens"),
        (draw(2, 2, 8), torch.rand(2, 27), NullspaceError, "of the same tokens"),
        (draw(2, 8) * torch.nan, torch.rand(2, 27), NullspaceError, "finite float noise"),
        (torch.ones(2, 8, dtype=torch.long), torch.rand(2, 27), NullspaceError, "finite float noise"),
        (draw(2, 8), torch.rand(2, 27) * 255, ImageRangeError, r"pixels in \[0,1\]"),
        (draw(2, 8), torch.full((2, 27), torch.nan), ImageRangeError, r"pixels in \[0,1\]"),
    ],
    ids=["token-size", "patch-size", "tokens", "more-axes", "nan", "integers", "8-bit", "nan-pixels"],
)
def test_bad_input_is_refused(noise: Tensor, patches: Tensor, error: type[NullspaceError], message: str) -> None:
    with pytest.raises(error, match=message):
        lift_noise(noise, patches, map_of(MATRICES["wide"], STD))


def test_tolerance_is_checked() -> None:
    with pytest.raises(NullspaceError, match="tolerance > 0"):
        lift_noise(draw(2, 8), torch.rand(2, 27), map_of(MATRICES["wide"], STD), tolerance=0.0)


@pytest.mark.parametrize(
    ("weight", "std", "message"),
    [
        (torch.rand(4, 3, 2), STD, r"weight \(D,3,p,p\)"),
        (torch.rand(4, 28), STD, "three channels"),
        (torch.rand(4, 27), (1.0, 1.0), "three channels"),
        (torch.rand(4, 27), (1.0, 1.0, 0.0), "std > 0"),
        (torch.full((4, 27), torch.nan), STD, "finite weights"),
    ],
    ids=["three-axes", "not-rgb", "two-std", "zero-std", "nan"],
)
def test_bad_maps_are_refused(weight: Tensor, std: tuple[float, ...], message: str) -> None:
    with pytest.raises(NullspaceError, match=message):
        map_of(weight, std)

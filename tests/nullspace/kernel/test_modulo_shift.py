"""The kernel modulo the shift, and the shift in pixels: against scipy on matrices, and on models in float64."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nullspace.errors import CannotCutError, NullspaceError
from nullspace.kernel.patch_kernel import PatchKernel, across_shift, kernel_of, patch_kernel
from nullspace.kernel.shift import exact_kernel, projection_shift_test, shift_test
from nullspace.kernel.shift_lift import shift_lift, shift_lift_of
from nullspace.model.vit import SplitViT

STD = (0.229, 0.224, 0.225)
FLAT = (1.0, 1.0, 1.0)


def matrix(rows: int, columns: int, rank: int | None = None, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)

    def draw(m: int, n: int) -> torch.Tensor:
        return torch.randn(m, n, generator=generator, dtype=torch.float64)

    return draw(rows, columns) if rank is None else draw(rows, rank) @ draw(rank, columns)


def with_ones(rows: int, columns: int, rank: int) -> torch.Tensor:
    """A singular matrix that has (1,…,1) in its range."""
    left = torch.cat([torch.ones(rows, 1, dtype=torch.float64), matrix(rows, rank - 1, seed=1)], dim=1)
    return left @ matrix(rank, columns, seed=2)


# matrix, whether (1,…,1) is in its range
MATRICES: dict[str, tuple[torch.Tensor, bool]] = {
    "wide": (matrix(20, 48), True),
    "wide-singular": (matrix(20, 48, rank=7), False),
    "wide-singular-ones": (with_ones(20, 48, 7), True),
    "square": (matrix(48, 48), True),
    "square-singular": (matrix(48, 48, rank=31), False),
    "square-singular-ones": (with_ones(48, 48, 31), True),
    "tall": (matrix(60, 27), False),
    "tall-ones": (with_ones(60, 27, 27), True),
    "nothing-but-ones": (torch.ones(10, 12, dtype=torch.float64), True),
    "zero": (torch.zeros(10, 12, dtype=torch.float64), False),
    "one-row": (matrix(1, 12), True),
    "large-mean": (matrix(12, 27) + 1e6 * torch.ones(12, 27, dtype=torch.float64), True),
    "ill-conditioned": (matrix(12, 27) * torch.logspace(0, -6, 12, dtype=torch.float64)[:, None], True),
}


def centred(weight: torch.Tensor) -> np.ndarray[Any, Any]:
    """(I - 11ᵀ/D) W diag(1/std), written out."""
    scale = np.repeat(STD, weight.shape[1] // 3)
    rows = weight.shape[0]
    return (np.eye(rows) - np.ones((rows, rows)) / rows) @ (weight.numpy() / scale)


def projector(kernel: PatchKernel) -> torch.Tensor:
    return kernel.project(torch.eye(kernel.patch_dim, dtype=torch.float64))


@pytest.mark.parametrize("case", MATRICES)
def test_equals_scipys_null_space_of_the_centred_matrix(case: str) -> None:
    weight, in_range = MATRICES[case]
    plain, found = kernel_of(weight, STD), kernel_of(weight, STD, modulo_shift=True)
    reference, norm = centred(weight), float(np.linalg.norm(weight.numpy() / 0.224, 2))
    # The centred matrix has rounding of the size of A where a singular value is zero: rtol relative to that of A.
    own = np.linalg.norm(reference, 2)
    rtol = 10 * max(weight.shape) * 2.0**-52 * norm / own if own > 1e-10 * norm and norm else 0.99
    basis = scipy.linalg.null_space(reference, rcond=rtol) if rtol < 0.9 else np.eye(weight.shape[1])
    assert found.nullity == basis.shape[1] == plain.nullity + in_range
    torch.testing.assert_close(projector(found), torch.from_numpy(basis @ basis.T), atol=1e-6, rtol=0)
    assert float(np.abs(reference @ projector(found).numpy()).max(initial=0.0)) <= 1e-12 * norm
    assert found.modulo_shift and not plain.modulo_shift


@settings(max_examples=40, deadline=None)
@given(rows=st.integers(1, 30), side=st.integers(1, 3), share=st.floats(0, 1), seed=st.integers(0, 10_000))
def test_the_plain_kernel_is_part_of_it_and_one_dimension_at_most_is_added(
    rows: int, side: int, share: float, seed: int
) -> None:
    weight = matrix(rows, 3 * side**2, rank=round(share * min(rows, 3 * side**2)), seed=seed)
    plain, found = kernel_of(weight, STD), kernel_of(weight, STD, modulo_shift=True)
    assert found.nullity - plain.nullity in (0, 1)
    p, larger = projector(plain), projector(found)
    torch.testing.assert_close(larger @ p, p, atol=1e-7, rtol=0)
    torch.testing.assert_close(larger @ larger, larger, atol=1e-12, rtol=0)


@settings(max_examples=40, deadline=None)
@given(rows=st.integers(1, 30), columns=st.integers(1, 12), mean=st.floats(-1e3, 1e3), seed=st.integers(0, 10_000))
def test_the_coordinates_across_the_shift_keep_all_lengths(rows: int, columns: int, mean: float, seed: int) -> None:
    weight = mean + matrix(rows, columns, seed=seed)
    across, along = across_shift(weight)
    assert across.shape == (rows - 1, columns)
    exact = weight - weight.mean(dim=0)
    torch.testing.assert_close(across.T @ across, exact.T @ exact, atol=1e-8, rtol=1e-8)
    assert along == pytest.approx(float(weight.mean(dim=0).norm()) * rows**0.5, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("case", MATRICES)
def test_the_lift_is_the_pseudo_inverse_applied_to_ones(case: str) -> None:
    weight, in_range = MATRICES[case]
    if not in_range:
        with pytest.raises(NullspaceError, match=r"expected \(1,…,1\) in the range of the patch embedding, got"):
            shift_lift_of(weight, STD)
        return
    lift = shift_lift_of(weight, STD)
    scaled = weight.numpy() / np.repeat(STD, weight.shape[1] // 3)
    expected = scipy.linalg.pinv(scaled) @ np.ones(len(weight))
    torch.testing.assert_close(lift.patch, torch.from_numpy(expected), rtol=1e-6, atol=1e-9 * lift.norm)
    assert lift.residual <= lift.tolerance <= 1e-4
    kernel = kernel_of(weight, STD, modulo_shift=True)
    torch.testing.assert_close(kernel.project(lift.patch), lift.patch, rtol=1e-6, atol=1e-6 * lift.norm)
    assert json.loads(json.dumps(lift.to_dict()))["rank"] == kernel_of(weight, STD).rank


SMALL: dict[str, Any] = {"depth": 2, "num_heads": 3, "num_classes": 10}
SQUARE: dict[str, Any] = {**SMALL, "img_size": 32, "patch_size": 8, "embed_dim": 192}
# name, arguments, nullity of A, whether the shift of the convolution's output is ignored
MODELS: dict[str, tuple[str, dict[str, Any], int, bool]] = {
    "square": ("vit_tiny_patch16_224", SQUARE, 0, True),
    "square-no-bias-norm-pre": ("vit_base_patch16_clip_224", SQUARE, 0, True),
    "square-dinov2": ("vit_small_patch14_dinov2", SQUARE, 0, True),
    "wide": ("vit_tiny_patch16_224", {**SQUARE, "embed_dim": 48}, 144, True),
    "patch-norm-then-post-norm": (
        "swinv2_tiny_window8_256",
        {"depths": (1, 1, 1, 1), "embed_dim": 24, "num_classes": 10, "img_size": 64, "window_size": 2},
        24,
        True,
    ),
    "rms-norm": ("vit_tiny_patch16_224", {**SQUARE, "norm_layer": "rmsnorm"}, 0, False),
}


@pytest.mark.parametrize("case", MODELS)
def test_the_model_does_not_see_its_kernel_modulo_the_shift(case: str) -> None:
    name, arguments, nullity, invariant = MODELS[case]
    model = SplitViT.load(name, weights="random", model_args=arguments).double()
    plain, kernel = patch_kernel(model), exact_kernel(model)
    assert plain.nullity == nullity and kernel.modulo_shift is invariant
    forced = patch_kernel(model, modulo_shift=True)
    assert forced.nullity == nullity + 1
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(2, 3, *model.preprocessing.input_size, generator=generator, dtype=torch.float64)
    noise = forced.sample(2 * model.num_patches, rms=0.5, generator=generator).view(2, model.num_patches, -1)
    with torch.no_grad():
        change = float((model(images + model.unpatchify(noise), check_range=False) - model(images)).abs().max())
    assert float((model.unpatchify(noise)).abs().max()) > 0.1
    assert change < 1e-10 if invariant else change > 1e-3


def test_the_lift_of_a_model_shifts_its_tokens_by_one() -> None:
    model = SplitViT.load("vit_tiny_patch16_224", weights="random", model_args=SQUARE).double()
    lift = shift_lift(model)
    images = torch.rand(1, 3, 32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    pattern = model.unpatchify(lift.patch.expand(1, model.num_patches, -1))
    moved = model.tokens(images + pattern, check_range=False) - model.tokens(images)
    torch.testing.assert_close(moved, torch.ones_like(moved), atol=1e-9, rtol=0)
    with pytest.raises(NullspaceError, match=r"residual of .* at rank 12 of 24"):
        swin = {"depths": (1, 1, 1, 1), "embed_dim": 24, "patch_size": 2, "img_size": 32, "window_size": 2}
        shift_lift(SplitViT.load("swin_tiny_patch4_window7_224", weights="random", model_args=swin))


def test_a_patch_norm_ignores_the_shift_that_its_encoder_would_see() -> None:
    """swinv2 reads tokens without a LayerNorm first, but its patch embedding ends in one."""
    name, arguments, _, _ = MODELS["patch-norm-then-post-norm"]
    model = SplitViT.load(name, weights="random", model_args=arguments)
    images = torch.rand(2, 3, *model.preprocessing.input_size, generator=torch.Generator().manual_seed(1))
    assert not shift_test(model, images).invariant
    assert projection_shift_test(model, images).invariant
    assert exact_kernel(model, images).modulo_shift


def test_without_a_patch_norm_both_tests_are_the_same_and_leave_no_hook() -> None:
    model = SplitViT.load("vit_tiny_patch16_224", weights="random", model_args=SQUARE).double()
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    at_tokens, at_convolution = shift_test(model, images), projection_shift_test(model, images)
    assert at_tokens.control_max_abs_logit_change == pytest.approx(at_convolution.control_max_abs_logit_change)
    assert at_tokens.invariant and at_convolution.invariant
    assert not model.patch_projection._forward_hooks


def test_what_rounding_leaves_in_doubt_is_measured_in_float64() -> None:
    """In bfloat16 rounding alone leaves a hundredth of what the control changes."""
    model = SplitViT.load("vit_tiny_patch16_224", weights="random", model_args=SQUARE).bfloat16()
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    rounded = projection_shift_test(model, images)
    assert not rounded.invariant and rounded.in_doubt
    assert exact_kernel(model, images).modulo_shift
    assert next(model.parameters()).dtype == torch.bfloat16, "the caller's model is as it was"
    seen = SplitViT.load("vit_tiny_patch16_224", weights="random", model_args={**SQUARE, "norm_layer": "rmsnorm"})
    assert not projection_shift_test(seen, images).in_doubt


def test_errors() -> None:
    model = SplitViT.load("vit_tiny_patch16_224", weights="random", model_args=SQUARE)
    with pytest.raises(NullspaceError, match=r"expected images \(B,3,H,W\) and relative_shift > 0, got shape \(1, 16"):
        projection_shift_test(model, torch.zeros(1, 16, 192))
    hybrid = SplitViT.load("vit_tiny_r_s16_p8_224", weights="random", model_args={"depth": 1}, verify=False)
    with pytest.raises(CannotCutError, match="expected one convolution that reads the image, got 2"):
        exact_kernel(hybrid)
    with pytest.raises(NullspaceError, match="or use exact_kernel, which adds the shift where the model ignores it"):
        patch_kernel(model).sample(1, rms=1.0, generator=torch.Generator())

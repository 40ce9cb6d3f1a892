"""The exact kernel against scipy, by its algebra, and on models: what is added stays unseen."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nullspace.errors import CannotCutError, NullspaceError
from nullspace.kernel.patch_kernel import PatchKernel, kernel_of, patch_kernel
from nullspace.model.vit import SplitViT

STD = (0.229, 0.224, 0.225)
EXACT: dict[str, Any] = {"atol": 1e-10, "rtol": 0.0}


def matrix(rows: int, columns: int, rank: int | None = None, seed: int = 0) -> torch.Tensor:
    """A random matrix, of `rank` when given."""
    generator = torch.Generator().manual_seed(seed)

    def draw(m: int, n: int) -> torch.Tensor:
        return torch.randn(m, n, generator=generator, dtype=torch.float64)

    return draw(rows, columns) if rank is None else draw(rows, rank) @ draw(rank, columns)


MATRICES = {
    "wide": (matrix(20, 48), 20),
    "wide-singular": (matrix(20, 48, rank=7), 7),
    "square": (matrix(48, 48), 48),
    "square-singular": (matrix(48, 48, rank=31), 31),
    "tall": (matrix(60, 27), 27),
    "tall-singular": (matrix(60, 27, rank=5), 5),
    "zero": (torch.zeros(10, 12, dtype=torch.float64), 0),
    "one-row": (matrix(1, 12), 1),
    "repeated-rows": (matrix(4, 27).repeat(3, 1), 4),
    "zero-columns": (torch.cat([matrix(8, 8), torch.zeros(8, 4, dtype=torch.float64)], dim=1), 8),
    "ill-conditioned": (matrix(12, 27) * torch.logspace(0, -9, 12, dtype=torch.float64)[:, None], 12),
    "tiny-scale": (1e-200 * matrix(6, 12), 6),
}


def scaled(weight: torch.Tensor) -> np.ndarray[Any, Any]:
    """A = W·diag(1/std), written out a second time, column by column."""
    per_channel = weight.shape[1] // 3
    return np.stack([weight[:, j].double().numpy() / STD[j // per_channel] for j in range(weight.shape[1])], axis=1)


def projector(kernel: PatchKernel) -> torch.Tensor:
    return kernel.project(torch.eye(kernel.patch_dim, dtype=torch.float64))


@pytest.mark.parametrize("case", MATRICES)
def test_equals_scipys_null_space_as_a_projector(case: str) -> None:
    weight, rank = MATRICES[case]
    kernel = kernel_of(weight, STD)
    basis = scipy.linalg.null_space(scaled(weight))
    assert (kernel.rank, kernel.nullity) == (rank, basis.shape[1])
    torch.testing.assert_close(projector(kernel), torch.from_numpy(basis @ basis.T), atol=1e-6, rtol=0)


@pytest.mark.parametrize("case", MATRICES)
def test_algebra(case: str) -> None:
    weight, rank = MATRICES[case]
    kernel = kernel_of(weight, STD)
    a, p, n = torch.from_numpy(scaled(weight)), projector(kernel), kernel.basis()
    scale = float(a.norm())
    assert kernel.rank + kernel.nullity == kernel.patch_dim == weight.shape[1]
    assert kernel.rank == rank and kernel.is_trivial == (rank == weight.shape[1])
    assert float((a @ n).norm()) <= 1e-12 * scale
    torch.testing.assert_close(p @ p, p, **EXACT)
    torch.testing.assert_close(p, p.T, **EXACT)
    torch.testing.assert_close(n.T @ n, torch.eye(kernel.nullity, dtype=torch.float64), **EXACT)
    torch.testing.assert_close(n @ n.T, p, **EXACT)
    torch.testing.assert_close(torch.trace(p), torch.tensor(float(kernel.nullity), dtype=torch.float64), **EXACT)
    torch.testing.assert_close(kernel.singular_values, torch.from_numpy(np.linalg.svd(a, compute_uv=False)), **EXACT)


@settings(max_examples=40, deadline=None)
@given(
    rows=st.integers(1, 40),
    side=st.integers(1, 3),
    share=st.floats(0, 1),
    seed=st.integers(0, 10_000),
)
def test_any_shape_and_rank(rows: int, side: int, share: float, seed: int) -> None:
    columns = 3 * side**2
    rank = round(share * min(rows, columns))
    weight = matrix(rows, columns, rank=rank, seed=seed)
    kernel = kernel_of(weight.view(rows, 3, side, side), STD)
    assert kernel.rank <= rank and kernel.rank + kernel.nullity == columns
    p = projector(kernel)
    torch.testing.assert_close(p @ p, p, **EXACT)
    assert float((torch.from_numpy(scaled(weight)) @ p).norm()) <= 1e-9 * (1 + float(weight.norm()))


# The table of the field, at full row rank: name, D, p, nullity 3p²-D or 0.
FULL_RANK = [
    ("vit_tiny_patch16", 192, 16, 576),
    ("vit_small_patch16", 384, 16, 384),
    ("vit_small_patch32", 384, 32, 2688),
    ("dinov2_small_patch14", 384, 14, 204),
    ("vit_base_patch16", 768, 16, 0),
    ("vit_large_patch16", 1024, 16, 0),
    ("vit_base_patch8", 768, 8, 0),
    ("swin_patch4", 96, 4, 0),
]


@pytest.mark.parametrize(("name", "dim", "patch", "nullity"), FULL_RANK, ids=[row[0] for row in FULL_RANK])
def test_nullities_of_the_usual_models(name: str, dim: int, patch: int, nullity: int) -> None:
    del name
    weight = 0.02 * torch.randn(dim, 3, patch, patch, generator=torch.Generator().manual_seed(dim))
    kernel = kernel_of(weight, STD)
    assert (kernel.patch_dim, kernel.embed_dim, kernel.nullity) == (3 * patch**2, dim, nullity)


def test_float32_tolerance_would_invent_a_kernel_for_a_square_model() -> None:
    sigma = torch.logspace(0, -4.5, 768, dtype=torch.float64)  # condition 3e4: nothing is lost in float64
    q, r = (torch.linalg.qr(matrix(768, 768, seed=seed)).Q for seed in (1, 2))
    weight = (q * sigma) @ r
    flat = (1.0, 1.0, 1.0)
    assert kernel_of(weight, flat).is_trivial
    assert kernel_of(weight, flat, rtol=768 * torch.finfo(torch.float32).eps).nullity > 0


def test_the_three_colours_are_one_map() -> None:
    """Per channel, a p x p map to D >= p² has no kernel; jointly it has."""
    weight = matrix(20, 48)
    assert kernel_of(weight, STD).nullity == 28
    assert all(scipy.linalg.null_space(weight[:, 16 * c : 16 * (c + 1)].numpy()).shape[1] == 0 for c in range(3))


def test_the_evidence_is_plain_json_and_says_how_clear_the_rank_is() -> None:
    full = kernel_of(matrix(5, 12), STD)
    assert full.gap is None
    evidence = json.loads(json.dumps(full.to_dict(), allow_nan=False))
    assert evidence["rtol"] == pytest.approx(12 * 2.0**-52)
    assert evidence["tolerance"] == pytest.approx(evidence["rtol"] * evidence["sigma_max"])
    assert evidence["sigma_min"] == pytest.approx(float(full.singular_values[-1]))
    singular = kernel_of(matrix(8, 12, rank=3), STD)
    assert singular.gap is not None and singular.gap > 1e10
    assert singular.to_dict()["sigma_min"] == pytest.approx(float(singular.singular_values[2]))
    zero = kernel_of(torch.zeros(3, 12), STD).to_dict()
    assert (zero["rank"], zero["gap"], zero["sigma_max"], zero["sigma_min"]) == (0, None, 0.0, 0.0)
    step = torch.diag(torch.tensor([1.0, 1.0, 0.0], dtype=torch.float64))
    assert kernel_of(step, STD).gap == math.inf and kernel_of(step, STD).to_dict()["gap"] is None


def test_rtol_decides_the_rank_when_given() -> None:
    weight = torch.diag(torch.tensor([1.0, 1e-3, 1e-6], dtype=torch.float64))
    ranks = [kernel_of(weight, (1.0, 1.0, 1.0), rtol=rtol).rank for rtol in (0.0, 1e-5, 1e-2)]
    assert ranks == [3, 2, 1]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_project_keeps_shape_and_dtype(dtype: torch.dtype) -> None:
    kernel = kernel_of(matrix(5, 12), STD)
    patches = matrix(8, 12).view(2, 4, 12).to(dtype)
    projected = kernel.project(patches)
    assert projected.shape == patches.shape and projected.dtype == dtype
    torch.testing.assert_close(projected.double(), patches.double() @ projector(kernel), atol=2e-2, rtol=0)


def test_samples_are_in_the_kernel_with_the_rms_asked_for() -> None:
    weight = matrix(20, 48)
    kernel = kernel_of(weight, STD)
    drawn = kernel.sample(6, rms=0.5, generator=torch.Generator().manual_seed(3))
    assert drawn.shape == (6, 48) and drawn.dtype == torch.float64
    normalised = drawn / torch.tensor(STD, dtype=torch.float64).repeat_interleave(16)
    torch.testing.assert_close(normalised.square().mean(1).sqrt(), torch.full((6,), 0.5, dtype=torch.float64))
    torch.testing.assert_close(normalised @ weight.T, torch.zeros(6, 20, dtype=torch.float64), **EXACT)
    assert torch.equal(drawn, kernel.sample(6, rms=0.5, generator=torch.Generator().manual_seed(3)))
    assert int(torch.linalg.matrix_rank(kernel.sample(64, rms=1.0, generator=torch.Generator()))) == kernel.nullity


@pytest.mark.parametrize(
    ("call", "why"),
    [
        (
            lambda k: kernel_of(matrix(48, 48), STD).sample(1, rms=1.0, generator=torch.Generator()),
            "its kernel is zero",
        ),
        (lambda k: k.sample(1, rms=0.0, generator=torch.Generator()), "expected rms > 0"),
        (
            lambda k: k.project(torch.zeros(2, 13)),
            r"expected float patches \(…,12\), got torch.float32 of shape \(2, 13\)",
        ),
        (lambda k: k.project(torch.zeros(2, 12, dtype=torch.uint8)), "got torch.uint8"),
        (lambda k: kernel_of(torch.zeros(4, 1, 2, 2), STD), r"expected a weight \(D,3,p,p\)"),
        (lambda k: kernel_of(torch.zeros(0, 12), STD), r"got shape \(0, 12\)"),
        (lambda k: kernel_of(torch.zeros(4, 13), STD), "expected three channels in weight and std, got 13"),
        (lambda k: kernel_of(torch.zeros(4, 12), (1.0, 1.0)), r"got 12 and \(2,\)"),
        (lambda k: kernel_of(torch.zeros(4, 12), (1.0, 0.0, 1.0)), "std > 0"),
        (lambda k: kernel_of(torch.full((4, 12), math.nan), STD), "expected finite weights"),
        (lambda k: kernel_of(torch.zeros(4, 12), STD, rtol=1.0), r"expected rtol in \[0,1\)"),
    ],
)
def test_errors(call: Any, why: str) -> None:
    with pytest.raises(NullspaceError, match=why):
        call(kernel_of(matrix(5, 12), STD))


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("vit_tiny_patch16_224", {"depth": 2, "embed_dim": 48, "num_heads": 3, "img_size": 32, "patch_size": 8}),
        ("vit_small_patch32_224", {"depth": 1}),
        ("swin_tiny_patch4_window7_224", {"depths": (1, 1, 1, 1), "embed_dim": 24}),
        ("vit_base_patch16_clip_224", {"depth": 1, "embed_dim": 96, "num_heads": 3}),
    ],
    ids=["patch8", "patch32", "swin-nhwc-norm", "clip-no-bias"],
)
def test_the_model_does_not_see_its_kernel(name: str, arguments: dict[str, Any]) -> None:
    model = SplitViT.load(name, weights="random", model_args=arguments).double()
    kernel = patch_kernel(model)
    assert not kernel.is_trivial
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(2, 3, *model.preprocessing.input_size, generator=generator, dtype=torch.float64)
    noise = torch.randn(2, model.num_patches, kernel.patch_dim, generator=generator, dtype=torch.float64)
    with torch.no_grad():
        clean = model(images)
        unseen = model(images + model.unpatchify(kernel.project(noise)), check_range=False)
        seen = model(images + model.unpatchify(noise - kernel.project(noise)), check_range=False)
    torch.testing.assert_close(unseen, clean, atol=1e-10, rtol=0)
    assert float((seen - clean).abs().max()) > 1e-3


def test_a_stem_that_is_not_one_map_has_no_exact_kernel() -> None:
    model = SplitViT.load("vit_tiny_r_s16_p8_224", weights="random", model_args={"depth": 1})
    with pytest.raises(CannotCutError, match="exact kernel cannot be read off a weight"):
        patch_kernel(model)


@pytest.fixture(scope="module")
def deit_tiny(assets: Path) -> SplitViT:
    return SplitViT.load("deit_tiny_patch16_224", weights=assets / "deit_tiny_patch16_224" / "model.safetensors")


@pytest.mark.real
def test_real_deit_tiny_has_the_known_spectrum(deit_tiny: SplitViT) -> None:
    weight = deit_tiny.patch_projection.weight
    unscaled, kernel = kernel_of(weight, (1.0, 1.0, 1.0)), patch_kernel(deit_tiny)
    for each in (unscaled, kernel):
        assert (each.patch_dim, each.embed_dim, each.rank, each.nullity) == (768, 192, 192, 576)
    assert unscaled.to_dict()["sigma_max"] == pytest.approx(2.78, abs=0.005)
    assert unscaled.to_dict()["sigma_min"] == pytest.approx(0.007, abs=0.0005)
    assert float((weight.detach().double().flatten(1) @ unscaled.basis()).abs().max()) < 1e-14
    assert kernel.to_dict()["sigma_max"] == pytest.approx(12.30, abs=0.01)
    assert kernel.to_dict()["sigma_min"] == pytest.approx(0.0308, abs=0.0001)


@pytest.mark.real
def test_real_deit_tiny_in_float32_does_not_see_strong_kernel_noise(deit_tiny: SplitViT, assets: Path) -> None:
    from PIL import Image

    transform = deit_tiny.preprocessing.transform()
    files = sorted((assets / "imagenet_val_600" / "images").iterdir())[:8]
    images = torch.stack([transform(Image.open(file).convert("RGB")) for file in files]) / 255
    kernel = patch_kernel(deit_tiny)
    noise = kernel.sample(8 * 196, rms=0.5, generator=torch.Generator().manual_seed(0)).view(8, 196, 768)
    scramble = torch.randperm(768, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        clean = deit_tiny(images)
        unseen = deit_tiny(images + deit_tiny.unpatchify(noise).float(), check_range=False)
        control = deit_tiny(images + deit_tiny.unpatchify(noise[..., scramble]).float(), check_range=False)
    assert float((unseen - clean).abs().max()) <= 1e-3
    assert float((control - clean).abs().max()) > 1.0

"""Resizing as matrices: against PIL itself and against timm's own transform."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from nullspace.errors import NullspaceError
from nullspace.model.preprocessing import Preprocessing
from nullspace.model.resize import FILTERS, Resize, resize_matrix, resize_of

PIL_FILTERS = {
    "box": Image.Resampling.BOX,
    "bilinear": Image.Resampling.BILINEAR,
    "hamming": Image.Resampling.HAMMING,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
PLAIN = Preprocessing((24, 24), "bicubic", 0.9, "center", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def smooth(height: int, width: int, seed: int = 0) -> np.ndarray[Any, Any]:
    """An 8-bit image (H,W,3) that keeps clear of 0 and 255, where PIL would clip what a filter overshoots."""
    return np.random.default_rng(seed).integers(90, 165, (height, width, 3), dtype=np.uint8)


def as_tensor(image: np.ndarray[Any, Any]) -> torch.Tensor:
    return torch.from_numpy(image).permute(2, 0, 1).double()


@pytest.mark.parametrize("name", FILTERS)
@pytest.mark.parametrize(("source", "target"), [(50, 20), (37, 41), (20, 63), (31, 31), (64, 1), (1, 5)])
def test_the_matrix_is_what_pil_does_to_real_numbers(name: str, source: int, target: int) -> None:
    """Mode F is PIL's resampling without 8-bit rounding: equal to float32."""
    column = np.random.default_rng(source).standard_normal((source, 7)).astype(np.float32)
    resized = np.array(Image.fromarray(column).resize((7, target), PIL_FILTERS[name]))
    matrix = resize_matrix(source, target, name)
    torch.testing.assert_close(
        matrix @ torch.from_numpy(column).double(), torch.from_numpy(resized).double(), atol=1e-6, rtol=1e-5
    )
    torch.testing.assert_close(matrix.sum(dim=1), torch.ones(target, dtype=torch.float64))


CASES: dict[str, tuple[dict[str, Any], tuple[int, int]]] = {
    "shrink": ({}, (61, 40)),
    "wide": ({}, (40, 97)),
    "enlarge": ({}, (17, 20)),
    "same": ({"crop_pct": 1.0}, (24, 24)),
    "bilinear": ({"interpolation": "bilinear", "crop_pct": 0.875}, (51, 77)),
    "lanczos": ({"interpolation": "lanczos"}, (70, 50)),
    "odd-crop": ({"crop_pct": 0.83}, (45, 64)),
    "squash": ({"crop_mode": "squash"}, (61, 40)),
    "not-square": ({"input_size": (16, 32)}, (61, 90)),
    "not-square-tall": ({"input_size": (32, 16), "crop_pct": 0.8}, (50, 41)),
}


@pytest.mark.parametrize("case", CASES)
def test_equals_timms_transform_up_to_rounding(case: str) -> None:
    changes, size = CASES[case]
    preprocessing = replace(PLAIN, **changes)
    image = smooth(*size)
    expected = preprocessing.transform()(Image.fromarray(image)).double()
    resize = resize_of(preprocessing, size)
    found = resize.apply(as_tensor(image))
    assert found.shape == expected.shape == (3, *preprocessing.input_size)
    assert (resize.file_size, resize.input_size) == (size, preprocessing.input_size)
    assert float((found - expected).abs().max()) <= 1.5, "half a grey level per direction, the first one resampled"
    assert float((found - expected).abs().mean()) <= 0.4


def test_with_clipping_hard_edges_agree_too() -> None:
    image = 255 * np.random.default_rng(0).integers(0, 2, (60, 50, 3), dtype=np.uint8)
    resize = resize_of(PLAIN, (60, 50))
    expected = PLAIN.transform()(Image.fromarray(image)).double()
    assert float((255 * resize.model_pixels(as_tensor(image) / 255) - expected).abs().max()) <= 1.5
    assert float((resize.apply(as_tensor(image)) - expected).abs().max()) > 5


@settings(max_examples=10, deadline=None)
@given(height=st.integers(8, 40), width=st.integers(8, 40), seed=st.integers(0, 100))
def test_adjoint_norm_and_free_pixels(height: int, width: int, seed: int) -> None:
    resize = resize_of(PLAIN, (height, width))
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(2, 3, height, width, generator=generator, dtype=torch.float64)
    y = torch.randn(2, 3, 24, 24, generator=generator, dtype=torch.float64)
    torch.testing.assert_close((resize.apply(x) * y).sum(), (x * resize.adjoint(y)).sum())
    assert float(resize.apply(x).norm()) <= resize.norm * float(x.norm()) * (1 + 1e-12)
    free = x * ~resize.read
    assert not resize.apply(free).any()
    largest = [torch.linalg.svd(each)[2][0] for each in (resize.rows, resize.columns)]
    reached = resize.apply(torch.outer(*largest)).norm()
    assert resize.norm == pytest.approx(float(reached)), "the norm is reached"


@pytest.mark.parametrize(
    ("call", "why"),
    [
        (lambda: resize_matrix(4, 2, "nearest"), "expected an interpolation of box, bilinear, .*, got 'nearest'"),
        (lambda: resize_of(replace(PLAIN, crop_mode="border"), (30, 30)), "got 'border', which pads the image"),
        (lambda: resize_of(replace(PLAIN, crop_pct=1.2), (30, 30)), r"the crop would be padded; use crop_pct <= 1"),
        (lambda: resize_of(PLAIN, (0, 30)), "expected a file size"),
    ],
)
def test_errors(call: Any, why: str) -> None:
    with pytest.raises(NullspaceError, match=why):
        call()


def test_float32_images_stay_float32() -> None:
    resize = Resize(resize_matrix(9, 4, "bicubic"), resize_matrix(8, 4, "bicubic"))
    assert resize.apply(torch.zeros(3, 9, 8)).dtype == resize.adjoint(torch.zeros(3, 4, 4)).dtype == torch.float32

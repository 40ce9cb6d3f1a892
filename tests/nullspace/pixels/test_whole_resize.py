"""The resize in whole numbers is PIL's to the last level, also after single pixels were changed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from nullspace.model.preprocessing import Preprocessing
from nullspace.model.resize import resize_of
from nullspace.pixels.whole_resize import WholeResize

SIZES = [(75, 50), (36, 36), (30, 41), (35, 35), (19, 22), (8, 9), (40, 300)]  # PIL takes the rows first


def extreme(size: tuple[int, int]) -> Tensor:
    """Noise (3,H,W) with so much of black and white that sums leave the range."""
    noise = torch.randn(3, *size, generator=torch.Generator().manual_seed(0)) * 200 + 128
    return noise.clamp(0, 255).to(torch.uint8)


def by_pil(preprocessing: Preprocessing, pixels: Tensor) -> Tensor:
    return preprocessing.transform()(Image.fromarray(np.ascontiguousarray(pixels.permute(1, 2, 0))))


def preparing(interpolation: str) -> Preprocessing:
    grey = (0.5, 0.5, 0.5)
    return Preprocessing((32, 32), interpolation, 0.9, "center", grey, grey)


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear", "lanczos"])
def test_it_is_what_pil_makes_of_the_file(size: tuple[int, int], interpolation: str) -> None:
    preprocessing = preparing(interpolation)
    pixels = extreme(size)
    whole = WholeResize(resize_of(preprocessing, size), pixels)
    assert torch.equal(whole.seen, by_pil(preprocessing, pixels).int())
    assert torch.equal(whole.file, pixels)
    generator = torch.Generator().manual_seed(1)
    places = torch.randperm(whole.pixels.numel(), generator=generator)[: whole.pixels.numel() // 3]
    colour, row, column = torch.unravel_index(places, whole.pixels.shape)
    inwards = torch.where(whole.pixels[colour, row, column] > 128, -1, 1).int()
    whole.change(colour, row, column, inwards)
    assert not torch.equal(whole.file, pixels)
    assert torch.equal(whole.seen, by_pil(preprocessing, whole.file).int())


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_pixels_that_are_apart_have_no_output_in_common(size: tuple[int, int]) -> None:
    preprocessing = preparing("bicubic")
    bands = WholeResize(resize_of(preprocessing, size), extreme(size)).rows
    apart = bands.apart
    for first, later in zip(bands.taps, bands.taps[apart:], strict=False):
        assert not set(first.tolist()) & set(later.tolist())

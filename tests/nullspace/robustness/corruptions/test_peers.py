"""Beside `imagecorruptions`, where it is installed: the same pixels without chance, with it changes of that size."""

from __future__ import annotations

import numpy as np
import pytest

from nullspace.robustness.corruptions.corruption import Corruption, corrupted
from nullspace.robustness.corruptions.names import NAMES, SEVERITIES
from tests.nullspace.watermark.payload.marked import pictures

peer = pytest.importorskip("imagecorruptions", reason="imagecorruptions-imaug is not installed")
OTHERWISE = ("elastic_transform", "frost")  # its own settings, photographs of frost
SAME = ("defocus_blur", "zoom_blur", "brightness", "contrast", "pixelate", "jpeg_compression")


@pytest.mark.parametrize("name", [name for name in NAMES if name not in OTHERWISE])
def test_it_makes_the_same_of_an_image(name: str) -> None:
    images = pictures(6, 224)
    theirs = images.permute(0, 2, 3, 1).numpy()
    np.random.seed(0)
    for severity in SEVERITIES:
        ours = corrupted(images, Corruption(name, severity), list("abcdef")).permute(0, 2, 3, 1).numpy().astype(float)
        other = np.stack([peer.corrupt(each, severity=severity, corruption_name=name) for each in theirs]).astype(float)
        if name in SAME:
            # It cuts values off where they are rounded here; its large disks are up to 1.3 % too bright.
            assert np.abs(ours - other).max() <= (4 if name == "defocus_blur" else 1)
        else:
            sizes = [np.sqrt(np.square(made - theirs).mean()) for made in (ours, other)]
            assert sizes[0] == pytest.approx(sizes[1], rel=0.25)

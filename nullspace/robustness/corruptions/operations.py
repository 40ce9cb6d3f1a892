"""The operation behind each name: an image (3,H,W) in [0,1], a severity and the image's draws to values (3,H,W).

Values may leave [0,1] and are no 8-bit levels yet.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from nullspace.metrics.draws import Draws
from nullspace.robustness.corruptions.blur.defocus import defocus_blur
from nullspace.robustness.corruptions.blur.glass import glass_blur
from nullspace.robustness.corruptions.blur.motion import motion_blur
from nullspace.robustness.corruptions.blur.zoom import zoom_blur
from nullspace.robustness.corruptions.digital import brightness, contrast, jpeg_compression, pixelate
from nullspace.robustness.corruptions.elastic import elastic_transform
from nullspace.robustness.corruptions.frost import frost
from nullspace.robustness.corruptions.noise import gaussian_noise, impulse_noise, shot_noise
from nullspace.robustness.corruptions.weather import fog, snow

OPERATIONS: dict[str, Callable[[Tensor, int, Draws], Tensor]] = {
    operation.__name__: operation
    for operation in (
        *(gaussian_noise, shot_noise, impulse_noise, defocus_blur, glass_blur, motion_blur, zoom_blur),
        *(snow, frost, fog, brightness, contrast, elastic_transform, pixelate, jpeg_compression),
    )
}

"""Mean errors under corruptions: over corruptions alone, and relative to AlexNet as on ImageNet-C.

Hendrycks & Dietterich (2019): the corruption error of one kind is the model's error summed over severities over that of
AlexNet; mCE is its mean over the 15 kinds. It means something only for models of the 1000 classes of ImageNet.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from nullspace.errors import NullspaceError
from nullspace.model.shapes import Float
from nullspace.robustness.corruptions.names import NAMES

ALEXNET = {
    "gaussian_noise": 0.886428, "shot_noise": 0.894468, "impulse_noise": 0.922640, "defocus_blur": 0.819880,
    "glass_blur": 0.826268, "motion_blur": 0.785948, "zoom_blur": 0.798360, "snow": 0.866816, "frost": 0.826572,
    "fog": 0.819324, "brightness": 0.564592, "contrast": 0.853204, "elastic_transform": 0.646056,
    "pixelate": 0.717840, "jpeg_compression": 0.606500,
}  # fmt: skip
"""Error of AlexNet for each corruption, mean over severities, from the authors' code."""


def mean_error(errors: Mapping[str, Float[Tensor, " B"]]) -> Float[Tensor, " B"]:
    """Mean (B,) over corruptions of errors (B,) of images."""
    return torch.stack(list(errors.values())).mean(dim=0)


def corruption_error(errors: Mapping[str, Float[Tensor, " B"]]) -> Float[Tensor, " B"]:
    """What each image (B,) adds to mCE: its errors, mean over severities, over AlexNet's, mean over all 15 corruptions.

    Their mean over images is mCE, as errors enter it linearly; so it has an interval. Raises NullspaceError unless all
    15 are given.
    """
    missing = [name for name in NAMES if name not in errors]
    if missing:
        raise NullspaceError(f"mCE is defined over all 15 corruptions; {', '.join(missing)} are missing")
    return mean_error({name: errors[name] / ALEXNET[name] for name in NAMES})

"""Maps made of the gradient by the pixels: the gradient, times the input, integrated, and smoothed by noise.

All are (B,3,H,W) and signed, of pixels in [0,1]; `on_tokens` sums them over patches. The baseline, what counts as no
input, is the model's mean colour: the 0 of what the model is given, not the 0 of pixels.
"""

from __future__ import annotations

from typing import cast

import numpy as np
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from nullspace.attribution.attention import unfused_attention
from nullspace.attribution.classes import differentiable, score_of
from nullspace.errors import NullspaceError
from nullspace.metrics.draws import Draws
from nullspace.model.shapes import Float
from nullspace.model.vit import SplitViT

POINTS = 32  # of the path's quadrature
SAMPLES, SPREAD = 16, 0.15  # of SmoothGrad's noise: how many, and its standard deviation of the pixel range


def gradient(
    model: SplitViT, images: Float[Tensor, "B 3 H W"], classes: Tensor, *, create_graph: bool = False
) -> Float[Tensor, "B 3 H W"]:
    """Gradient of each image's logit of `classes` (B,) by its pixels in [0,1] (Simonyan et al. 2014).

    With `create_graph` it can be differentiated by the images. Raises NullspaceError for classes that do not fit.
    """
    with torch.enable_grad(), unfused_attention(model, off=create_graph):
        leaf = differentiable(images)
        (found,) = torch.autograd.grad(
            score_of(model(leaf, check_range=False), classes), leaf, create_graph=create_graph
        )
    return found


def input_times_gradient(
    model: SplitViT, images: Float[Tensor, "B 3 H W"], classes: Tensor, *, create_graph: bool = False
) -> Float[Tensor, "B 3 H W"]:
    """The gradient times the image's distance from the baseline (Shrikumar et al. 2016)."""
    slope = gradient(model, images, classes, create_graph=create_graph)
    return (images.to(slope) - baseline(model, slope)) * slope


def integrated_gradients(
    model: SplitViT,
    images: Float[Tensor, "B 3 H W"],
    classes: Tensor,
    *,
    points: int = POINTS,
    create_graph: bool = False,
) -> Float[Tensor, "B 3 H W"]:
    """The mean gradient on the way from the baseline, times the way (Sundararajan et al. 2017).

    By Gauss-Legendre quadrature of `points` points. Its sum is the logit of the image less that of the baseline, up to
    the error of the quadrature.
    """
    if points < 1:
        raise NullspaceError(f"expected points >= 1, got {points}")
    places, weights = np.polynomial.legendre.leggauss(points)
    begin = baseline(model, images)
    mean = torch.zeros_like(images)
    for place, weight in zip((places + 1) / 2, weights / 2, strict=True):
        here = begin + float(place) * (images - begin)
        mean = mean + float(weight) * _one_of_many(model, here, classes, create_graph)
    return (images - begin) * mean


def smooth_gradient(
    model: SplitViT,
    images: Float[Tensor, "B 3 H W"],
    classes: Tensor,
    draws: Draws,
    *,
    samples: int = SAMPLES,
    spread: float = SPREAD,
    create_graph: bool = False,
) -> Float[Tensor, "B 3 H W"]:
    """The mean gradient under normal noise of standard deviation `spread` (SmoothGrad, Smilkov et al. 2017).

    `draws` are keyed by the images' ids, so that an image has the same noise in every batch, or of one id for all.
    """
    if samples < 1 or not spread > 0:
        raise NullspaceError(f"expected samples >= 1 and spread > 0, got {samples} and {spread}")
    noise = draws.to(images.device).normal(samples, *images.shape[1:]).to(images)
    mean = torch.zeros_like(images)
    for number in range(samples):
        here = images + spread * noise[:, number]
        mean = mean + _one_of_many(model, here, classes, create_graph) / samples
    return mean


def _one_of_many(model: SplitViT, images: Tensor, classes: Tensor, create_graph: bool) -> Tensor:
    """One gradient of a mean: its graph is made again when it is differentiated, so that only one is in memory."""
    if not create_graph:
        return gradient(model, images, classes)
    return cast(Tensor, checkpoint(gradient, model, images, classes, create_graph=True, use_reentrant=False))


def baseline(model: SplitViT, like: Tensor) -> Tensor:
    """The model's mean colour as pixels (1,3,1,1), in the type of `like`."""
    return torch.tensor(model.preprocessing.mean, dtype=like.dtype, device=like.device)[None, :, None, None]


def on_tokens(model: SplitViT, pixel_map: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B N"]:
    """A map of pixels summed over each patch, and its channels."""
    return model.patchify(pixel_map).sum(dim=2)

"""Maps of gradient times input steered by noise that the model cannot see, without a pass of the network.

Noise n in the kernel of the patch embedding leaves the gradient g as it is, and input × gradient becomes (x + n - b)⊙g:
known in advance, and linear in n. What no such noise can change is the sum of the map over a patch. The same holds for
integrated gradients with their mean gradient.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from nullspace.attribution.gradients import baseline
from nullspace.errors import NullspaceError
from nullspace.kernel.patch_kernel import PatchKernel
from nullspace.model.images import from_uint8
from nullspace.model.preprocessing import check_images
from nullspace.model.shapes import Float
from nullspace.model.vit import SplitViT
from nullspace.pixels.eight_bits import EightBits
from nullspace.pixels.projection import project_to_box

STEPS = 60
ITERATIONS = 100  # of each projection into kernel and box; the last one has twice as many
OTHERS, ABOVE = 1.5, 1.5  # how many pixels take the place of the largest, and how far above the least of these
_TINY = 1e-30


@dataclass(frozen=True, eq=False)
class SteeredMaps:
    """Pictures `saved` (B,3,H,W) uint8 that the model cannot distinguish from their images, and their maps (B,H,W).

    `reached` (B,) is the share of the squared distance between the image's map and the wanted one that is covered.
    """

    saved: Tensor
    maps: Tensor
    reached: Tensor


@torch.no_grad()
def steer(
    model: SplitViT,
    images: Float[Tensor, "B 3 H W"],
    slope: Float[Tensor, "B 3 H W"],
    wanted: Float[Tensor, "B H W"],
    kernel: PatchKernel,
    *,
    steps: int = STEPS,
    eight_bits: EightBits | None = None,
) -> SteeredMaps:
    """Pictures whose map, `slope` times input summed over channels, is as near to `wanted` (B,H,W) as may be.

    `slope` (B,3,H,W) is the gradient of the images, or the mean gradient of their path; `kernel` is that of the model.
    Accelerated projected gradient descent on the squared distance of the maps (Beck & Teboulle 2009), each patch with
    the step its own gradient allows; `steps` projections into kernel ∩ [0,1], then 8 bits in the kernel (`eight_bits`,
    made when not given). Raises NullspaceError, ImageRangeError.
    """
    check_images(images, model.preprocessing.input_size, check_range=True)
    if slope.shape != images.shape or wanted.shape != images[:, 0].shape or steps < 1:
        raise NullspaceError(
            f"expected a slope (B,3,H,W), a wanted map (B,H,W) of {tuple(images.shape)} and steps >= 1, got "
            f"{tuple(slope.shape)}, {tuple(wanted.shape)} and {steps}"
        )
    images, slope = images.detach().float(), slope.detach().float()
    patches, slopes = model.patchify(images), model.patchify(slope)
    missing = _over_channels(model, wanted.float() - map_of(model, images, slope))
    delta = _nearest(patches, slopes, missing, kernel, steps)
    rounding = EightBits.of(model, kernel) if eight_bits is None else eight_bits
    saved = rounding.save(images, model.unpatchify(patches + delta).clamp(0, 1))
    found = map_of(model, from_uint8(saved).to(images), slope)
    left = (found - wanted).square().sum(dim=(1, 2))
    apart = (map_of(model, images, slope) - wanted).square().sum(dim=(1, 2))
    return SteeredMaps(saved, found, 1 - left / apart.clamp_min(_TINY))


def map_of(model: SplitViT, images: Tensor, slope: Tensor) -> Tensor:
    """Slope times the images' distance from the baseline, summed over channels: (B,H,W)."""
    return ((images - baseline(model, images)) * slope).sum(dim=1)


def elsewhere(
    model: SplitViT, images: Float[Tensor, "B 3 H W"], slope: Float[Tensor, "B 3 H W"], k: int
) -> Float[Tensor, "B H W"]:
    """A map to steer to that rests on other pixels: its own at the k largest in absolute value is 0.

    In their place come those of the others that have most room, the slope times the pixel range around the baseline.
    """
    own = map_of(model, images, slope)
    if not 1 <= k <= own[0].numel() / 4:
        raise NullspaceError(f"expected k from 1 to a quarter of the {own[0].numel()} pixels of the map, got {k}")
    flat, start = own.flatten(1), baseline(model, images)
    largest = flat.abs().topk(k, dim=1)
    room = (slope.abs() * torch.maximum(1 - start, start)).sum(dim=1).flatten(1).scatter(1, largest.indices, 0.0)
    others = room.topk(round(OTHERS * k), dim=1).indices
    height = ABOVE * largest.values[:, -1:]
    raised = torch.where(flat >= 0, height, -height).gather(1, others)
    return flat.scatter(1, largest.indices, 0.0).scatter(1, others, raised).view_as(own)


def _nearest(patches: Tensor, slopes: Tensor, missing: Tensor, kernel: PatchKernel, steps: int) -> Tensor:
    """Changes (B,N,3p²) in the kernel and the box whose map is nearest to what is `missing` (B,N,3p²), by channel.

    The map of a change is S·change with S summing slope times change over the three values of each pixel; SᵀS has
    |slope of the pixel|² as its largest value.
    """
    steepest = _sum_of_pixel(slopes.square()).amax(dim=2, keepdim=True).clamp_min(_TINY)
    delta = ahead = torch.zeros_like(patches)
    pace = 1.0
    for step in range(steps):
        residual = _sum_of_pixel(slopes * ahead) - missing
        target = ahead - slopes * residual / steepest
        count = ITERATIONS * (2 if step == steps - 1 else 1)
        after = project_to_box(patches, target, kernel, iterations=count).delta
        following = (1 + (1 + 4 * pace**2) ** 0.5) / 2
        ahead = after + (pace - 1) / following * (after - delta)
        delta, pace = after, following
    return delta


def _sum_of_pixel(patches: Tensor) -> Tensor:
    """The sum over the three channels of every pixel, at each of them: (B,N,3p²)."""
    channels = patches.unflatten(2, (3, -1))
    return channels.sum(dim=2, keepdim=True).expand_as(channels).flatten(2)


def _over_channels(model: SplitViT, pixel_map: Tensor) -> Tensor:
    """A map (B,H,W) as patches (B,N,3p²), the same in each channel."""
    return model.patchify(pixel_map[:, None].expand(-1, 3, -1, -1).contiguous())

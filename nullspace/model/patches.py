"""Images as patches, and the one convolution that reads them.

A patch is flattened in the order of the convolution's weight, (3,ph,pw), so that
token = weight.flatten(1) @ patch + bias.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from nullspace.errors import CannotCutError, NullspaceError


def patchify(images: Tensor, patch_size: tuple[int, int]) -> Tensor:
    """Images (B,3,H,W) to patches (B,N,3·ph·pw), row by row of the grid; raises NullspaceError if they do not tile."""
    ph, pw = patch_size
    if images.ndim != 4 or images.shape[2] % ph or images.shape[3] % pw:
        raise NullspaceError(f"expected images (B,C,H,W) that {ph}x{pw} patches tile, got shape {tuple(images.shape)}")
    rows = images.unflatten(3, (-1, pw)).unflatten(2, (-1, ph))  # (B,3,gh,ph,gw,pw)
    return rows.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)


def unpatchify(patches: Tensor, patch_size: tuple[int, int], grid: tuple[int, int]) -> Tensor:
    """Patches (B,N,3·ph·pw) back to images (B,3,gh·ph,gw·pw), the inverse of `patchify`."""
    expected = (grid[0] * grid[1], 3 * patch_size[0] * patch_size[1])
    if patches.ndim != 3 or tuple(patches.shape[1:]) != expected:
        raise NullspaceError(f"expected patches (B,{expected[0]},{expected[1]}), got shape {tuple(patches.shape)}")
    blocks = patches.unflatten(2, (3, *patch_size)).unflatten(1, grid)  # (B,gh,gw,3,ph,pw)
    return blocks.permute(0, 3, 1, 4, 2, 5).flatten(4).flatten(2, 3)


def single_convolution(stem: nn.Module, grid: tuple[int, int], input_size: tuple[int, int]) -> nn.Conv2d:
    """The one non-overlapping convolution (D,3,ph,pw) through which the stem reads the image.

    Raises CannotCutError with the reason when patches overlap, are padded or dilated, or pass other layers first.
    """
    convolutions = [module for module in stem.modules() if isinstance(module, nn.Conv2d)]
    if len(convolutions) != 1:
        raise _refusal(stem, f"expected one convolution that reads the image, got {len(convolutions)}")
    conv = convolutions[0]
    kernel = tuple(conv.kernel_size)
    if tuple(conv.stride) != kernel:
        raise _refusal(stem, f"expected patches side by side (stride {kernel}), got stride {tuple(conv.stride)}")
    if conv.padding not in ((0, 0), "valid"):
        raise _refusal(stem, f"expected no padding, got padding {conv.padding}")
    if tuple(conv.dilation) != (1, 1):
        raise _refusal(stem, f"expected no dilation, got dilation {tuple(conv.dilation)}")
    if conv.in_channels != 3 or conv.groups != 1:
        raise _refusal(stem, f"expected 3 channels in 1 group, got {conv.in_channels} in {conv.groups}")
    if (grid[0] * kernel[0], grid[1] * kernel[1]) != input_size:
        raise _refusal(stem, f"expected {kernel} patches that tile {input_size} pixels, got a grid of {grid}")
    if not _reads_the_raw_image(stem, conv, input_size):
        raise _refusal(stem, "expected the convolution to read the image itself, got another layer before it")
    return conv


def _refusal(stem: nn.Module, reason: str) -> CannotCutError:
    return CannotCutError(
        f"the patch embedding {type(stem).__name__} is not one linear map on separate patches: {reason}. Its exact "
        "kernel cannot be read off a weight; choose a model with a plain patch embedding, e.g. deit_tiny_patch16_224"
    )


def _reads_the_raw_image(stem: nn.Module, conv: nn.Conv2d, input_size: tuple[int, int]) -> bool:
    """Whether what reaches the convolution is what was put into the stem: measured, whatever the stem is called."""
    seen: list[Tensor] = []

    def keep(_module: nn.Module, inputs: tuple[Any, ...]) -> None:
        seen.append(inputs[0])

    image = torch.linspace(-1, 1, 3 * input_size[0] * input_size[1]).view(1, 3, *input_size).to(conv.weight)
    hook = conv.register_forward_pre_hook(keep)
    try:
        with torch.no_grad():
            stem(image)
    finally:
        hook.remove()
    return len(seen) == 1 and seen[0].shape == image.shape and torch.equal(seen[0], image)

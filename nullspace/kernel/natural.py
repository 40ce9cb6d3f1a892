"""How much of what photographs differ by a kernel holds: its share of the energy of natural patches.

Patches are drawn from a stationary model of photographs: power falls with frequency as f^-SLOPE (Field 1987, J. Opt.
Soc. Am. A 4, found about 2), and colours are correlated. Both constants are measured on 600 ImageNet validation images
as models are given them, at 224×224 pixels; resizing makes their power fall faster than that of the camera's picture.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nullspace.kernel.patch_kernel import PatchKernel

SLOPE = 2.5
COLOURS = ((1.0, 0.89, 0.76), (0.89, 1.0, 0.88), (0.76, 0.88, 1.0))
"""Correlation of red, green and blue at one pixel."""


def natural_share(kernel: PatchKernel, patch_size: tuple[int, int], input_size: tuple[int, int]) -> float:
    """Share of the expected squared norm of natural patches that lies in the kernel, in [0,1].

    It is also the expected share of the difference of two photographs: what the nearest look can cover of it without a
    pixel range, see `fooling.exact`. `input_size` (H,W) sets the lowest frequency.
    """
    space = patch_covariance(patch_size, input_size)
    colours = torch.tensor(COLOURS, dtype=torch.float64)
    rows = kernel.row_space.cpu().double().view(3, len(space), -1)
    mixed = torch.einsum("cd,dpr->cpr", colours, torch.einsum("pq,cqr->cpr", space, rows))
    whole = float(colours.trace() * space.trace())
    return 1 - float((rows * mixed).sum()) / whole


def patch_covariance(patch_size: tuple[int, int], input_size: tuple[int, int]) -> Tensor:
    """Covariance (p²,p²) of the pixels of a patch (in rows) in one colour, of variance 1, float64."""
    height, width = input_size
    down, across = (torch.fft.fftfreq(side, dtype=torch.float64) for side in input_size)
    frequency = (down[:, None].square() + across.square()).sqrt()
    power = torch.where(frequency > 0, frequency.clamp_min(1e-9) ** -SLOPE, 0.0)
    field = torch.fft.ifft2(power).real
    rows, columns = (torch.arange(side)[:, None] - torch.arange(side) for side in patch_size)
    found = field[(rows % height)[:, None, :, None], (columns % width)[None, :, None, :]]
    count = patch_size[0] * patch_size[1]
    return found.reshape(count, count) / field[0, 0]

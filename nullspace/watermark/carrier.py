"""The look a mark can take in the kernel: hues and stripes that the patch embedding passes over.

A patch embedding reads coarse brightness first of all, so a plain white mark projected onto the kernel nearly vanishes.
What it hardly reads is colour at the scale of strokes, and fine stripes. Which of them is measured on the kernel and
the mark at hand, not assumed.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

if TYPE_CHECKING:
    from nullspace.kernel import PatchKernel
    from nullspace.vit import SplitViT

LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601: how bright red, green and blue look
# Light parts take the positive side: red, which on photographs reads as magenta and stands out; dark ones the negative.
# The weight is how well the eye sees the contrast.
HUES = {"red-green": ((1.0, -1.0, 0.0), 1.0), "yellow-blue": ((0.5, 0.5, -1.0), 0.5), "grey": ((1.0, 1.0, 1.0), 1.0)}
PERIODS = (8, 6, 4, 3)  # of diagonal stripes in pixels, coarse (easier to see) to fine (often easier to pass)


@dataclass(frozen=True)
class Carrier:
    """A pattern (3,H,W), at most 1.5 in size, for one mark, with the share of its energy that lies in the kernel."""

    pattern: Tensor
    hue: str
    period: int
    gain: float


def choose_carrier(model: SplitViT, kernel: PatchKernel, mark: Tensor, alpha: Tensor) -> Carrier:
    """The most visible pattern for `mark` (3,H,W) under opacity `alpha` (H,W) that the kernel lets through.

    Strokes get a flat hue, one for light and its opposite for dark parts. Inside wide areas a flat hue is mostly patch
    mean, which does not pass: there stripes modulate it. Chosen is the hue and period of largest gain, weighted by how
    well the eye sees the hue and, as the square root of the period, the stripes.
    """
    candidates = []
    for hue, period in product(HUES, PERIODS):
        look = pattern(mark, alpha, hue, period, model.patch_size[0])
        candidates.append(Carrier(look, hue, period, _gain(model, kernel, look)))
    return max(candidates, key=_visibility)


def kept_less(model: SplitViT, kernel: PatchKernel, carrier: Carrier) -> float:
    """How many times larger (at least 1) what all of `kernel` keeps of a carrier is than what it was chosen for."""
    return max(1.0, (_gain(model, kernel, carrier.pattern) / max(carrier.gain, 1e-12)) ** 0.5)


def pattern(mark: Tensor, alpha: Tensor, hue: str, period: int, patch: float) -> Tensor:
    """The look (3,H,W) of `mark` (3,H,W) under opacity `alpha` (H,W), for patches of so many pixels a side."""
    tone = _tone(mark, alpha) * alpha
    return _tinted(tone * (0.75 + 0.75 * _inside(alpha, patch) * _stripes(period, tone)), hue)


def _visibility(carrier: Carrier) -> float:
    return carrier.gain * HUES[carrier.hue][1] * (carrier.period / max(PERIODS)) ** 0.5


def _tone(mark: Tensor, alpha: Tensor) -> Tensor:
    """(H,W) in [-1,-.5] for the dark and [.5,1] for the light parts of the mark; all 1 for a mark of one brightness.

    Never near 0: every part of the mark has to differ from where there is no mark.
    """
    luma = (mark * torch.tensor(LUMA, device=mark.device, dtype=mark.dtype)[:, None, None]).sum(0)
    shown = luma[alpha > 0.1 * alpha.max()]
    low, high = shown.min(), shown.max()
    if float(high - low) < 0.1:
        return torch.ones_like(luma)
    relative = ((luma - low) / (high - low) * 2 - 1).clamp(-1, 1)
    return torch.where(relative < 0, relative.clamp(max=-0.5), relative.clamp(min=0.5))


def _inside(alpha: Tensor, patch: float) -> Tensor:
    """(H,W): 1 where the mark covers all within a quarter of a patch, 0 at strokes and edges."""
    reach = max(1, round(patch / 5))
    cover = functional.avg_pool2d((alpha / alpha.max())[None, None], 2 * reach + 1, stride=1, padding=reach)[0, 0]
    return ((cover - 0.8) / 0.2).clamp(0, 1)


def _stripes(period: int, like: Tensor) -> Tensor:
    """Diagonal stripes (H,W) of +1 and -1 (a cosine for odd periods), one `period` along each axis."""
    rows = torch.arange(like.shape[0], device=like.device)[:, None]
    phase = (rows + torch.arange(like.shape[1], device=like.device)) % period
    if period % 2:
        return torch.cos(phase * (2 * torch.pi / period)).to(like.dtype)
    return torch.where(phase < period // 2, 1.0, -1.0).to(like.dtype)


def _tinted(field: Tensor, hue: str) -> Tensor:
    """A pattern (3,H,W) of one hue with the signed strength `field` (H,W)."""
    return field * torch.tensor(HUES[hue][0], device=field.device, dtype=field.dtype)[:, None, None]


def _gain(model: SplitViT, kernel: PatchKernel, look: Tensor) -> float:
    """Share of the energy of a pattern (3,H,W) that lies in the kernel, 0 to 1."""
    patches = model.patchify(look[None])
    energy = float(patches.square().sum())
    return float(kernel.project(patches).square().sum()) / energy if energy > 0 else 0.0

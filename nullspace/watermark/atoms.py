"""Where hidden marks are written: brightness patterns that JPEG keeps and the kernel of the patches lets through.

A slot is one cosine over one 8×8 block of a patch, in luma: an axis along which JPEG itself rounds. These axes are the
same on every machine, which bases of a kernel are not: their signs and turns are free. Which of them are used follows
from the kernel. Moving a slot by a step means adding the smallest change in the kernel that does it; its cost is the
energy of that change, and the step is what JPEG at quality 50 cannot blur. Fine patterns pass the kernel easily but
JPEG drops them; coarse ones survive but hardly pass: the cheapest at their steps lie between.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from nullspace.errors import NullspaceError
from nullspace.kernel import PatchKernel
from nullspace.watermark.carrier import LUMA

BLOCK = 8  # JPEG's
# Luminance steps at quality 50 (ITU-T T.81, table K.1), row k for k half waves downwards.
STEPS = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
# Half waves down plus across that are considered. Finer patterns never win; fewer make choosing quick.
FINEST = 7
NOISE = 15.0  # grey levels added to the steps (root of squares): else quiet patterns win, and any noise drowns them
LEAST_SHARE = 1e-3  # of a slot's pattern in the kernel: with less, moving it costs more than any budget


@dataclass(frozen=True, eq=False)
class Atoms:
    """`filters` (3p²,k) read k slots off a patch in pixel units, `movers` (k,3p²) move them one by one, in the kernel.

    `movers @ filters` is the identity, and no mover changes the token. `steps` (k,) are what JPEG rounds the slots to
    at quality 50, in units of the pixel range; `cost` is the mean energy per patch of moving each by up to a step.
    """

    filters: Tensor
    movers: Tensor
    steps: Tensor
    cost: float

    @property
    def count(self) -> int:
        """Slots per patch."""
        return len(self.steps)

    def to(self, device: torch.device, dtype: torch.dtype) -> Atoms:
        return Atoms(
            self.filters.to(device, dtype), self.movers.to(device, dtype), self.steps.to(device, dtype), self.cost
        )


def choose_atoms(kernel: PatchKernel, patch_size: tuple[int, int], *, count: int) -> Atoms:
    """The `count` slots of a patch that cost least at their steps together, chosen one after the other, in float64.

    Together: two that are close in the kernel are dearer than each alone. Raises NullspaceError when the kernel holds
    fewer than `count`.
    """
    patterns, steps = _candidates(patch_size)
    held = kernel.project(patterns.T).T
    gram = patterns.T @ held
    usable = gram.diagonal() > LEAST_SHARE
    chosen: list[int] = []
    for _ in range(count):
        best = _cheapest(gram, steps, chosen, usable)
        if best is None:
            raise NullspaceError(
                f"the kernel of these patches, of dimension {kernel.nullity}, holds {len(chosen)} brightness patterns "
                f"that JPEG keeps, {count} are needed; choose a model with a larger kernel, e.g. deit_tiny_patch16_224"
            )
        chosen.append(best)
    inverse = torch.linalg.inv(gram[chosen][:, chosen])
    cost = float((inverse.diagonal() * steps[chosen].square()).sum() / 3)
    return Atoms(patterns[:, chosen], inverse @ held[:, chosen].T, steps[chosen], cost)


def _cheapest(gram: Tensor, steps: Tensor, chosen: list[int], usable: Tensor) -> int | None:
    """The pattern that adds least to the cost of those chosen, by bordering the inverse of their Gram matrix."""
    if not chosen:
        costs = steps.square() / gram.diagonal()
    else:
        inverse = torch.linalg.inv(gram[chosen][:, chosen])
        onto = inverse @ gram[chosen]  # (c,n)
        left = gram.diagonal() - (gram[chosen] * onto).sum(0)  # energy that is not in the span of the chosen
        more = (onto.square() * steps[chosen, None].square()).sum(0) + steps.square()
        costs = torch.where(left > LEAST_SHARE / 10, more / left.clamp_min(1e-12), torch.inf)
    costs = torch.where(usable, costs, torch.inf)
    costs[chosen] = torch.inf
    best = int(costs.argmin())
    return best if math.isfinite(float(costs[best])) else None


def _candidates(patch_size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Unit patterns (3p²,n) in reading order of blocks and half waves, and their steps (n,), in float64."""
    height, width = patch_size
    if height < BLOCK or width < BLOCK:
        raise NullspaceError(
            f"expected patches of at least {BLOCK}×{BLOCK} pixels, got {height}×{width}; smaller ones hold no pattern "
            "that JPEG keeps"
        )
    waves = _cosines(BLOCK)
    colour = torch.tensor(LUMA, dtype=torch.float64)
    patterns, steps = [], []
    for top, left in _blocks(height, width):
        for down in range(BLOCK):
            for across in range(BLOCK):
                if not 1 <= down + across <= FINEST:
                    continue
                pattern = torch.zeros(3, height, width, dtype=torch.float64)
                wave = torch.outer(waves[down], waves[across])
                pattern[:, top : top + BLOCK, left : left + BLOCK] = colour[:, None, None] / colour.norm() * wave
                patterns.append(pattern.flatten())
                steps.append(math.hypot(STEPS[down][across] / float(colour.norm()), NOISE) / 255)
    return torch.stack(patterns, dim=1), torch.tensor(steps, dtype=torch.float64)


def _blocks(height: int, width: int) -> list[tuple[int, int]]:
    """Upper left corners of as many whole blocks as fit, in the middle of the patch."""
    rows, columns = height // BLOCK, width // BLOCK
    first = ((height - rows * BLOCK) // 2, (width - columns * BLOCK) // 2)
    return [(first[0] + BLOCK * row, first[1] + BLOCK * column) for row in range(rows) for column in range(columns)]


def _cosines(size: int) -> Tensor:
    """The orthonormal DCT-II, (size,size) float64: row k is the cosine of k half waves."""
    at = torch.arange(size, dtype=torch.float64)
    rows = torch.cos(math.pi * (2 * at + 1) * at[:, None] / (2 * size)) * math.sqrt(2 / size)
    rows[0] /= math.sqrt(2)
    return rows

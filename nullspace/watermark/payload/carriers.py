"""Carriers of hidden messages: brightness patterns that survive JPEG and have a part in the kernel of the patches.

An embedding site ("site" from here on) is one cosine over one 8×8 block of a patch, in luma: an axis along which JPEG
itself rounds. These axes are the same on every machine; bases of a kernel are not, being unique up to rotation only.
Which axes are used follows from the kernel. Moving a site by a step means adding the smallest change in the kernel
that does so; its cost is the energy of that change, and the step is large enough for JPEG at quality 50. Fine patterns
lie mostly in the kernel but JPEG removes them; coarse ones survive JPEG but lie mostly outside the kernel: those that
cost least at their steps are in between.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from nullspace.errors import NullspaceError
from nullspace.kernel.patch_kernel import PatchKernel
from nullspace.watermark.luma import LUMA
from nullspace.watermark.payload.likelihood import information

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
FINEST = 2 * (BLOCK - 1)  # half waves down plus across: all. Kernels that hold fine patterns alone have only these
NOISE = 15.0  # grey levels added to the steps (root of squares): else patterns of small steps win, which noise erases
CLOSE = 0.05  # of the most information: more sites with nearly as much are better where some are covered or saturated
TIE = 1e-9  # costs this close, relative, are equal
LEAST_SHARE = 1e-3  # of the energy of a site's pattern in the kernel: with less, moving it exceeds any budget


@dataclass(frozen=True, eq=False)
class Carriers:
    """`filters` (3p²,k) read the k sites of a patch in pixel units, `movers` (k,3p²) move each alone, in the kernel.

    `movers @ filters` is the identity, and no mover changes the token. `jpeg_steps` (k,) are the multiples to which
    JPEG rounds the sites at quality 50, in units of the pixel range, and `steps` (k,) the same with an allowance for
    other noise; `cost` is the mean energy per patch of moving each by up to a step.
    """

    filters: Tensor
    movers: Tensor
    steps: Tensor
    jpeg_steps: Tensor
    cost: float

    @property
    def count(self) -> int:
        """Sites per patch."""
        return len(self.steps)

    def periods(self, energy: float) -> Tensor:
        """Periods (k,) of the sites' lattices for which embedding takes `energy` per patch as mean, in pixel units."""
        return 2 * self.steps * math.sqrt(energy / self.cost)

    def information(self, energy: float) -> float:
        """Bits per patch that can still be distinguished after JPEG at quality 50 when `energy` is spent."""
        return float(information(self.periods(energy), self.jpeg_steps).sum())


def fitting_carriers(kernel: PatchKernel, patch_size: tuple[int, int], *, most: int, energy: float) -> Carriers:
    """As many sites of a patch, up to `most`, as carry nearly the most bits through JPEG at quality 50 for an energy.

    Where a kernel holds little of any pattern, a few sites moved far carry more than many that JPEG makes ambiguous.
    Raises NullspaceError when the kernel holds no pattern.
    """
    choice = _Choice.of(kernel, patch_size)
    chosen = choice.sequence(most)
    if not chosen:
        raise NullspaceError(_too_small(kernel, 0, 1))
    found = [choice.carriers(chosen[:count]) for count in range(1, len(chosen) + 1)]
    enough = (1 - CLOSE) * max(carriers.information(energy) for carriers in found)
    return next(carriers for carriers in reversed(found) if carriers.information(energy) >= enough)


def choose_carriers(kernel: PatchKernel, patch_size: tuple[int, int], *, count: int) -> Carriers:
    """The `count` sites of a patch that cost least at their steps together, chosen greedily, in float64.

    Together: two that are nearly parallel in the kernel cost more than the sum of each alone. Raises NullspaceError
    when the kernel holds fewer than `count`.
    """
    choice = _Choice.of(kernel, patch_size)
    chosen = choice.sequence(count)
    if len(chosen) < count:
        raise NullspaceError(_too_small(kernel, len(chosen), count))
    return choice.carriers(chosen)


def _too_small(kernel: PatchKernel, held: int, needed: int) -> str:
    return (
        f"the kernel of these patches, of dimension {kernel.nullity}, holds {held} brightness patterns that "
        f"survive JPEG, {needed} are needed; choose a model with a larger kernel, e.g. deit_tiny_patch16_224"
    )


@dataclass(frozen=True, eq=False)
class _Choice:
    """All candidate patterns (3p²,n), their projections `held` (n,3p²) onto the kernel, and their JPEG steps (n,)."""

    patterns: Tensor
    held: Tensor
    gram: Tensor
    jpeg_steps: Tensor

    @classmethod
    def of(cls, kernel: PatchKernel, patch_size: tuple[int, int]) -> _Choice:
        patterns, steps = _candidates(patch_size)
        held = kernel.project(patterns.T.contiguous())
        return cls(patterns, held, patterns.T @ held.T, steps)

    @property
    def steps(self) -> Tensor:
        return (self.jpeg_steps.square() + (NOISE / 255) ** 2).sqrt()

    def sequence(self, count: int) -> list[int]:
        """Up to `count` patterns, each being the one that adds least to the cost of those before it."""
        chosen: list[int] = []
        usable = self.gram.diagonal() > LEAST_SHARE
        while len(chosen) < count:
            best = _cheapest(self.gram, self.steps, chosen, usable)
            if best is None:
                break
            chosen.append(best)
        return chosen

    def carriers(self, chosen: list[int]) -> Carriers:
        inverse = torch.linalg.inv(self.gram[chosen][:, chosen])
        steps = self.steps[chosen]
        cost = float((inverse.diagonal() * steps.square()).sum() / 3)
        return Carriers(self.patterns[:, chosen], inverse @ self.held[chosen], steps, self.jpeg_steps[chosen], cost)


def _cheapest(gram: Tensor, steps: Tensor, chosen: list[int], usable: Tensor) -> int | None:
    """The pattern that adds least to the cost of those chosen, by bordering the inverse of their Gram matrix."""
    if not chosen:
        costs = steps.square() / gram.diagonal()
    else:
        inverse = torch.linalg.inv(gram[chosen][:, chosen])
        onto = inverse @ gram[chosen]  # (c,n)
        left = gram.diagonal() - (gram[chosen] * onto).sum(0)  # energy outside the span of those chosen
        more = (onto.square() * steps[chosen, None].square()).sum(0) + steps.square()
        costs = torch.where(left > LEAST_SHARE / 10, more / left.clamp_min(1e-12), torch.inf)
    costs = torch.where(usable, costs, torch.inf)
    costs[chosen] = torch.inf
    least = float(costs.min())
    if not math.isfinite(least):
        return None
    return int((costs <= least * (1 + TIE)).nonzero()[0])  # the first: how ties are rounded differs by machine


def _candidates(patch_size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Unit patterns (3p²,n) in reading order of blocks and half waves, and JPEG's steps (n,), in float64."""
    height, width = patch_size
    if height < BLOCK or width < BLOCK:
        raise NullspaceError(
            f"expected patches of at least {BLOCK}×{BLOCK} pixels, got {height}×{width}; smaller ones hold no pattern "
            "that survives JPEG"
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
                steps.append(STEPS[down][across] / float(colour.norm()) / 255)
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

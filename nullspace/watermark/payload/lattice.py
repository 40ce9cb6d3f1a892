"""The embedding sites of an image and their lattices, as the key assigns them to bits.

Every bit has several sites all over the image. A site's lattice has points for a 1 and, halfway between them, for a 0;
only the key knows its offset (dithered quantisation index modulation, Chen & Wornell 2001).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from nullspace.errors import NullspaceError
from nullspace.watermark.payload.carriers import Carriers
from nullspace.watermark.payload.code import Code
from nullspace.watermark.payload.detection import scores
from nullspace.watermark.payload.likelihood import tables
from nullspace.watermark.payload.secret import Secret

STRENGTHS = tuple(range(34, 51))  # dB of PSNR that can be chosen; a reader tries them all
ROUNDING = 0.28 / 255**2  # least mean square error of rounding within the kernel; periods allow for it
_SHARE = 0.97  # of the energy that a strength allows, a margin for images that cost more than the mean
_EDGE = 4 / 255  # a pixel this close to black or white has no room; compression blurs the very edge


def planned_energy(patch_dim: int, psnr: float) -> float:
    """Mean energy per patch of `patch_dim` numbers, in pixel units, available for moving sites at a PSNR in dB."""
    return _SHARE * patch_dim * (10 ** (-psnr / 10) - ROUNDING)


@dataclass(frozen=True, eq=False)
class Lattice:
    """`carriers` (k per patch) of `patches` patches, assigned by `secret`: n = patches · k sites."""

    carriers: Carriers
    secret: Secret
    patches: int
    _tables: dict[float, Tensor] = field(default_factory=dict, init=False, repr=False)

    @property
    def sites(self) -> int:
        """Sites per image."""
        return self.patches * self.carriers.count

    @cached_property
    def filters(self) -> Tensor:
        """(3p²,k) float32: the filters that read the sites of a patch."""
        return self.carriers.filters.float()

    @cached_property
    def order(self) -> Tensor:
        """(n,) sites in the order in which they are assigned to bits."""
        # The label is part of every mark that was ever embedded: it stays.
        drawn = np.frombuffer(self.secret.bytes("slots", 8 * self.sites), "<u8")
        return torch.from_numpy(np.argsort(drawn, kind="stable"))

    @cached_property
    def kinds(self) -> Tensor:
        """(n,) which of the k sites of a patch each is, in the order in which they are assigned."""
        return self.order % self.carriers.count

    @cached_property
    def offsets(self) -> Tensor:
        """(n,) offset of each site's lattice, in periods, in the order of the image."""
        return self.secret.uniform("offsets", (self.sites,)).float()

    def periods(self, psnr: float) -> Tensor:
        """Periods (k,) of the lattices at a strength: points of a 1 are a period apart, those of a 0 halfway."""
        if psnr not in STRENGTHS:
            raise NullspaceError(
                f"expected a PSNR of {STRENGTHS[0]}, {STRENGTHS[0] + 1}, … {STRENGTHS[-1]} dB, got {psnr}"
            )
        return self.carriers.periods(planned_energy(len(self.filters), psnr)).float()

    def tables(self, psnr: float) -> Tensor:
        """Likelihoods of phases at a strength, for every assumed distortion of the image: `likelihood.tables`."""
        if psnr not in self._tables:
            self._tables[psnr] = tables(self.periods(psnr), self.carriers.jpeg_steps)
        return self._tables[psnr]

    def phases(self, read: Tensor, psnr: float) -> Tensor:
        """Readings (B,N,k) of sites to phases (B,n) in periods, in the order of the image."""
        return (read / self.periods(psnr)).flatten(1) - self.offsets

    def scores(self, read: Tensor, psnr: float) -> Tensor:
        """Scores (B,n) of readings (B,N,k), in the order in which sites are assigned to bits."""
        return scores(self.phases(read, psnr))[:, self.order]

    def weights(self, patches: Tensor) -> Tensor:
        """Weights (B,n) of sites in order: the share of each of patches (B,N,3p²) that is neither black nor white."""
        room = ((patches > _EDGE) & (patches < 1 - _EDGE)).float().mean(dim=-1)
        return room.repeat_interleave(self.carriers.count, dim=-1)[:, self.order]

    def signs(self, message: bytes) -> Tensor:
        """+1 or -1 for every site (n,), in the order of the image."""
        coded = torch.from_numpy(Code(len(message), self.secret).encode(message)).float()
        signs = torch.empty(self.sites)
        signs[self.order] = coded[torch.arange(self.sites) % len(coded)]
        return signs

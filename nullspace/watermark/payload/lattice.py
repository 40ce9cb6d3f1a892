"""The slots of an image and the lattices that bits are written on, as the key deals them.

Every bit has several slots all over the image. A slot's lattice has points for a 1 and, halfway between them, for a 0;
where it begins only the key knows (dithered quantisation index modulation, Chen & Wornell 2001).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from nullspace.errors import NullspaceError
from nullspace.watermark.payload.atoms import Atoms
from nullspace.watermark.payload.code import Code
from nullspace.watermark.payload.detection import scores
from nullspace.watermark.payload.likelihood import tables
from nullspace.watermark.payload.secret import Secret

STRENGTHS = tuple(range(34, 51))  # dB of PSNR that can be asked for; every reading tries them all
ROUNDING = 0.28 / 255**2  # mean square of what rounding within the kernel adds at least; periods allow for it
_SHARE = 0.97  # of the energy a strength allows, so that an image dearer than the mean need not hold back
_EDGE = 4 / 255  # this near to black or white a pixel has no room; compression blurs the very edge


def planned_energy(patch_dim: int, psnr: float) -> float:
    """Mean energy per patch of `patch_dim` numbers, in pixel units, that slots are moved with at a PSNR in dB."""
    return _SHARE * patch_dim * (10 ** (-psnr / 10) - ROUNDING)


@dataclass(frozen=True, eq=False)
class Lattice:
    """`atoms` (k to a patch) of `patches` patches, dealt by `secret`: n = patches · k slots."""

    atoms: Atoms
    secret: Secret
    patches: int
    _tables: dict[float, Tensor] = field(default_factory=dict, init=False, repr=False)

    @property
    def slots(self) -> int:
        """Slots per image."""
        return self.patches * self.atoms.count

    @cached_property
    def filters(self) -> Tensor:
        """(3p²,k) float32: what reads the slots off a patch."""
        return self.atoms.filters.float()

    @cached_property
    def order(self) -> Tensor:
        """(n,) slots in the order in which they are dealt to bits."""
        drawn = np.frombuffer(self.secret.bytes("slots", 8 * self.slots), "<u8")
        return torch.from_numpy(np.argsort(drawn, kind="stable"))

    @cached_property
    def kinds(self) -> Tensor:
        """(n,) which of a patch's k slots each is, in the order in which they are dealt."""
        return self.order % self.atoms.count

    @cached_property
    def offsets(self) -> Tensor:
        """(n,) where each slot's lattice begins, in periods, in the order of the image."""
        return self.secret.uniform("offsets", (self.slots,)).float()

    def periods(self, psnr: float) -> Tensor:
        """Periods (k,) of the lattices at a strength: a bit's points are a period apart, another bit's halfway."""
        if psnr not in STRENGTHS:
            raise NullspaceError(
                f"expected a PSNR of {STRENGTHS[0]}, {STRENGTHS[0] + 1}, … {STRENGTHS[-1]} dB, got {psnr}"
            )
        return self.atoms.periods(planned_energy(len(self.filters), psnr)).float()

    def tables(self, psnr: float) -> Tensor:
        """What phases are likely at a strength, whatever may have happened to the image: `likelihood.tables`."""
        if psnr not in self._tables:
            self._tables[psnr] = tables(self.periods(psnr), self.atoms.jpeg_steps)
        return self._tables[psnr]

    def phases(self, read: Tensor, psnr: float) -> Tensor:
        """Readings (B,N,k) of slots to phases (B,n) in periods, in the order of the image."""
        return (read / self.periods(psnr)).flatten(1) - self.offsets

    def scores(self, read: Tensor, psnr: float) -> Tensor:
        """(B,N,k) to what each slot says (B,n), in the order in which slots are dealt to bits."""
        return scores(self.phases(read, psnr))[:, self.order]

    def weights(self, patches: Tensor) -> Tensor:
        """How much room patches (B,N,3p²) had for a mark, as weights (B,n) of slots in order; white areas have none."""
        room = ((patches > _EDGE) & (patches < 1 - _EDGE)).float().mean(dim=-1)
        return room.repeat_interleave(self.atoms.count, dim=-1)[:, self.order]

    def signs(self, message: bytes) -> Tensor:
        """+1 or -1 for every slot (n,), in the order of the image."""
        coded = torch.from_numpy(Code(len(message), self.secret).encode(message)).float()
        signs = torch.empty(self.slots)
        signs[self.order] = coded[torch.arange(self.slots) % len(coded)]
        return signs

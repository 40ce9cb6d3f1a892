"""PIL's resize in its own whole numbers, kept up to date while single pixels of the file change.

Source: Pillow, Resample.c. Along the rows, then along the columns, each in fixed point of 22 bits, rounded and clipped
to 8 bits. That is exact where `Resize` is exact up to rounding. Newer versions take the columns of tall files first:
that is the same of files mirrored at their diagonal.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from nullspace.model.resize import Resize

_BITS = 22  # PRECISION_BITS
_HALF = 1 << (_BITS - 1)


@dataclass(frozen=True, eq=False)
class Bands:
    """One direction of a resize by pixels of the file: pixel i weighs `weights[i]` (K,) in the outputs `taps[i]` (K,).

    Only those that have weight: pixel i is the file's pixel `start` + i. `own` (n,) is the output it weighs most in.
    """

    start: int
    taps: Tensor  # (n,K) long
    weights: Tensor  # (n,K) int32, in units of 2^-22
    own: Tensor
    outputs: int

    @classmethod
    def of(cls, matrix: Tensor) -> Bands:
        """Of `matrix` (outputs,inputs) in float64, rounded as PIL does: halves away from zero."""
        whole = (matrix.abs() * (1 << _BITS) + 0.5).floor() * matrix.sign()
        used = whole.ne(0).any(dim=0).nonzero().squeeze(1)
        start = int(used[0])
        by_pixel = whole[:, start : int(used[-1]) + 1].T
        some = by_pixel.ne(0).int()
        first, last = some.argmax(dim=1), by_pixel.shape[1] - 1 - some.flip(1).argmax(dim=1)
        reach = int((last - first).amax()) + 1
        taps = first.clamp_max(by_pixel.shape[1] - reach)[:, None] + torch.arange(reach)
        return cls(start, taps, by_pixel.gather(1, taps).int(), by_pixel.abs().argmax(dim=1), by_pixel.shape[1])

    @property
    def used(self) -> slice:
        """The file's pixels that have weight."""
        return slice(self.start, self.start + len(self.taps))

    @property
    def apart(self) -> int:
        """Pixels so far from each other have no output in common."""
        first = self.taps[:, 0].contiguous()
        behind = torch.searchsorted(first, first + self.taps.shape[1])
        return int((behind - torch.arange(len(first))).amax())

    @property
    def matrix(self) -> Tensor:
        """(outputs,n) float64, of whole numbers."""
        return torch.zeros(len(self.taps), self.outputs).double().scatter_(1, self.taps, self.weights.double()).T


def levels(sums: Tensor) -> Tensor:
    """8-bit levels, int32, of sums in fixed point."""
    return ((sums + _HALF) >> _BITS).clamp_(0, 255)


class WholeResize:
    """What PIL makes of one file's pixels (3,H,W) uint8.

    `pixels` (3,n,m) int32 are those that have weight; `across` (3,n,w) and `down` (3,h,w) the sums after each
    direction, `between` (3,n,w) the levels after the first.
    """

    def __init__(self, resize: Resize, pixels: Tensor) -> None:
        self.rows, self.columns = Bands.of(resize.rows), Bands.of(resize.columns)
        self._file = pixels
        self.pixels = self.used(pixels).int()
        # Whole numbers below 2^53 are exact in float64, which multiplies matrices faster.
        self.across = (self.pixels.double() @ self.columns.matrix.T).int()
        self.between = levels(self.across)
        self.down = (self.rows.matrix @ self.between.double()).int()

    def used(self, image: Tensor) -> Tensor:
        """Of values (3,H,W) those that have weight (3,n,m)."""
        return image[:, self.rows.used, self.columns.used]

    @property
    def seen(self) -> Tensor:
        """What the model is given, (3,h,w) int32."""
        return levels(self.down)

    @property
    def file(self) -> Tensor:
        """The whole file's pixels (3,H,W) uint8."""
        answer = self._file.clone()
        self.used(answer).copy_(self.pixels)
        return answer

    def change(self, colour: Tensor, row: Tensor, column: Tensor, by: Tensor) -> None:
        """Change pixels, each named once, at (k,) indices into `pixels` by (k,) levels int32."""
        self.pixels[colour, row, column] += by
        across = by[:, None] * self.columns.weights[column]
        self.across.index_put_((colour[:, None], row[:, None], self.columns.taps[column]), across, accumulate=True)
        between = levels(self.across)
        moved = between - self.between
        colour, row, column = moved.nonzero().unbind(1)
        down = moved[colour, row, column, None] * self.rows.weights[row]
        self.down.index_put_((colour[:, None], self.rows.taps[row], column[:, None]), down, accumulate=True)
        self.between = between

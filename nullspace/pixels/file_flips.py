"""Single levels of a file's pixels, changed where that brings the model's tokens nearer to where they are to be.

The resize rounds twice, so that the tokens of a file are off by what no better choice of its pixels as real numbers
could take away. But for every pixel of the file it is known which of the model's pixels change by a level when it
does, few as they are (`WholeResize`). So |A (seen - wanted)|² is brought down patch by patch, all at once: every patch
looks at some pixels, drawn again in every step, and takes the best of those whose change no other patch would notice.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from nullspace.model.patches import patchify, unpatchify
from nullspace.pixels.whole_resize import Bands, WholeResize, levels

_POOL = 64  # pixels of each colour that a patch looks at in a step; 256 win little more, for four times the time
_CLOSER = 12  # changes of them whose gain is computed with all products
_TOGETHER = 4  # changes that a patch takes in a step at most
_STEPS, _FEW = 60, 0.25  # steps at most; the last is where so few changes are taken, per patch


@dataclass(frozen=True, eq=False)
class _Looked:
    """Changes that are looked at more closely: (P,k) each, indices into the resize's pixels and +1 or -1."""

    colour: Tensor
    row: Tensor
    column: Tensor
    sign: Tensor
    allowed: Tensor

    def near(self, chosen: Tensor, apart: tuple[int, int]) -> Tensor:
        """Which (P,k) may change the same outputs as the chosen one (P,)."""
        distances = ((each - each.gather(1, chosen[:, None])).abs() for each in (self.colour, self.row, self.column))
        colour, row, column = distances
        return (colour == 0) & (row < apart[0]) & (column < apart[1])


class FileFlips:
    """A search over whole levels `low` to `high` (3,H,W) for what `resize` is to give the model: `wanted` (3,h,w).

    `factor` (3p²,r) takes a change of a patch of `patch_size`, in levels, to that of its token, up to a rotation."""

    def __init__(
        self,
        resize: WholeResize,
        patch_size: tuple[int, int],
        factor: Tensor,
        wanted: Tensor,
        low: Tensor,
        high: Tensor,
    ) -> None:
        self.resize, self.size = resize, patch_size
        sides = (resize.rows.outputs, resize.columns.outputs)
        self.grid = (sides[0] // patch_size[0], sides[1] // patch_size[1])
        self.factor, self.wanted = factor.float(), wanted.float()
        self.low, self.high = (resize.used(each.int()) for each in (low, high))
        self.cost_alone = self._image(self.factor.square().sum(dim=1).expand(self.grid[0] * self.grid[1], -1))
        self.own_rows = _own(resize.rows, patch_size[0], self.grid[0])
        self.own_columns = _own(resize.columns, patch_size[1], self.grid[1])
        self.apart = (resize.rows.apart, resize.columns.apart)
        self.generator = torch.Generator().manual_seed(0)

    def run(self) -> None:
        """Change pixels until little is left to be won."""
        for _ in range(_STEPS):
            if self.step() < _FEW * self.grid[0] * self.grid[1]:
                break

    @property
    def moved(self) -> Tensor:
        """How far every token (P,r) is from where it is to be, up to a rotation, in levels."""
        return self._patches(self.resize.seen - self.wanted) @ self.factor

    def step(self) -> int:
        """Look once and take what helps; how many changes those were."""
        moved = self.moved
        looked = self._most_promising(self._image(2 * moved @ self.factor.T))
        vectors = self._changes(looked) @ self.factor  # (P,k,r)
        gain = 2 * torch.einsum("pkr,pr->pk", vectors, moved) + vectors.square().sum(dim=2)
        gain = torch.where(looked.allowed, gain, torch.inf)
        patches, taken = torch.arange(len(gain)), []
        for _ in range(_TOGETHER):
            best, chosen = gain.min(dim=1)
            helps = best < 0
            taken.append(
                torch.stack(
                    [each[patches, chosen] for each in (looked.colour, looked.row, looked.column, looked.sign)]
                )[:, helps]
            )
            gain += 2 * torch.einsum("pkr,pr->pk", vectors, vectors[patches, chosen])
            gain[looked.near(chosen, self.apart) | ~helps[:, None]] = torch.inf
        colour, row, column, sign = torch.cat(taken, dim=1)
        self.resize.change(colour, row, column, sign.int())
        return len(sign)

    def _most_promising(self, slope: Tensor) -> _Looked:
        """Of pixels drawn for every patch, changes of least first-order cost and of their outputs taken one by one."""
        (gh, gw), resize = self.grid, self.resize
        few = max(2, _POOL // self.own_columns.shape[1])
        row_of = self._drawn(self.own_rows, few)
        column_of = self._drawn(self.own_columns, max(2, _POOL // row_of.shape[1]))
        rows, columns = row_of.flatten(), column_of.flatten()
        costs = self._costs_between(rows.clamp_min(0), slope)
        taps = resize.columns.taps[columns.clamp_min(0)]  # (m,K)
        sums = resize.across[:, rows.clamp_min(0)][:, :, taps]
        now = levels(sums)
        elsewhere = taps // self.size[1] != torch.arange(gw).repeat_interleave(column_of.shape[1])[:, None]
        up, down = (cost[:, :, taps].masked_fill(changes[:, :, taps] & elsewhere, torch.inf) for cost, changes in costs)
        at = (slice(None), rows.clamp_min(0)[:, None], columns.clamp_min(0))
        pixels, low, high = resize.pixels[at], self.low[at], self.high[at]
        there = (rows >= 0)[:, None] & (columns >= 0)
        totals = []
        for sign in (1, -1):
            change = levels(sums + sign * resize.columns.weights[columns.clamp_min(0)]) - now
            cost = torch.where(change > 0, up, torch.where(change < 0, down, 0.0)).sum(dim=3)
            fits = there & (pixels + sign >= low) & (pixels + sign <= high) & change.ne(0).any(dim=3)
            totals.append(torch.where(fits, cost, torch.inf))
        shape = (2, 3, gh, row_of.shape[1], gw, column_of.shape[1])
        total = torch.stack(totals).view(shape).permute(2, 4, 0, 1, 3, 5).reshape(gh * gw, -1)
        least, index = total.topk(min(_CLOSER, total.shape[1]), dim=1, largest=False)
        sign, colour, row, column = torch.unravel_index(index, (2, 3, shape[3], shape[5]))
        patch = torch.arange(gh * gw)[:, None]
        row, column = row_of[patch // gw, row].clamp_min(0), column_of[patch % gw, column].clamp_min(0)
        return _Looked(colour, row, column, 1 - 2 * sign, least.isfinite())

    def _costs_between(self, rows: Tensor, slope: Tensor) -> list[tuple[Tensor, Tensor]]:
        """For a level up and one down between the two directions, at `rows` (n,): cost (3,n,w), and whether any output
        changes. Infinite where one of another patch would."""
        taps, weights = self.resize.rows.taps[rows], self.resize.rows.weights[rows]
        sums, slope, alone = (each[:, taps] for each in (self.resize.down, slope, self.cost_alone))  # (3,n,K,w)
        now = levels(sums)
        elsewhere = (taps // self.size[0] != (self.resize.rows.own[rows] // self.size[0])[:, None])[..., None]
        costs = []
        for sign in (1, -1):
            change = levels(sums + sign * weights[..., None]) - now
            cost = (change * slope + change.abs() * alone).sum(dim=2)
            changes = change.ne(0)
            costs.append((cost.masked_fill((changes & elsewhere).any(dim=2), torch.inf), changes.any(dim=2)))
        return costs

    def _changes(self, looked: _Looked) -> Tensor:
        """Changes of the patches (P,k,3p²) in levels, exactly."""
        resize, (ph, pw) = self.resize, self.size
        columns, rows = resize.columns.taps[looked.column], resize.rows.taps[looked.row]  # (P,k,K)
        sums = resize.across[looked.colour[..., None], looked.row[..., None], columns]
        between = levels(sums + looked.sign[..., None].int() * resize.columns.weights[looked.column]) - levels(sums)
        colour, rows, columns = looked.colour[..., None, None], rows[..., :, None], columns[..., None, :]
        sums = resize.down[colour, rows, columns]
        change = levels(sums + resize.rows.weights[looked.row][..., :, None] * between[..., None, :]) - levels(sums)
        inside = (colour * ph + rows % ph) * pw + columns % pw
        patches = torch.zeros(*looked.row.shape, 3 * ph * pw)
        return patches.scatter_add_(2, inside.flatten(2), change.flatten(2).float())

    def _drawn(self, own: Tensor, count: int) -> Tensor:
        if count >= own.shape[1]:
            return own
        return own[:, torch.randperm(own.shape[1], generator=self.generator)[:count]]

    def _patches(self, image: Tensor) -> Tensor:
        return patchify(image[None], self.size)[0]

    def _image(self, patches: Tensor) -> Tensor:
        return unpatchify(patches[None], self.size, self.grid)[0]


def _own(bands: Bands, size: int, count: int) -> Tensor:
    """(count,m) the pixels that weigh most in each of `count` patches of `size`; -1 where there are fewer."""
    patch = bands.own // size
    most = int(torch.bincount(patch, minlength=count).amax())
    own = torch.full((count, most), -1)
    for each in range(count):
        found = (patch == each).nonzero().squeeze(1)
        own[each, : len(found)] = found
    return own

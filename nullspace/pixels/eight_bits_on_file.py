"""8 bits on the user's own file: whole levels of its pixels, of which the model's own resizing makes the same tokens.

A file that is only cropped is rounded as a picture of the model's size is (`EightBits`). Otherwise, first the pixels as
real numbers are moved, by as little as does it, until the tokens fit: what PIL clips between its two directions, at the
overshoots of contours that reach black or white, no linear map knows of, and it is most of the error of a visible mark.
Then they are rounded, and single levels are changed against what the roundings of file and resize leave (`FileFlips`).
A file much larger than the input has pixels to spare for each that the model is given: it is rounded to what resizes to
the model's picture rounded in the kernel.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nullspace.errors import NullspaceError
from nullspace.model.images import from_uint8, round_to_uint8
from nullspace.model.patches import patchify, unpatchify
from nullspace.model.resize import Resize
from nullspace.pixels.eight_bits import MAX_MOVE, EightBits
from nullspace.pixels.file_flips import FileFlips
from nullspace.pixels.solvers.smallest import smallest_change
from nullspace.pixels.whole_resize import WholeResize

_ROUNDS = 6  # of rounding towards a picture: each corrects most of the pixels that the one before left a level off
_MUCH_LARGER = 1.5  # times the input, from which on every pixel of it can nearly always be hit
_SETTLED = 0.05  # of what rounding adds: where the tokens of real-valued pixels are near enough
_SETTLING = 5  # rounds, each linear
_LINEAR: dict[str, Any] = {"damping": 1e-4, "iterations": 30, "tolerance": 1e-2}


@torch.no_grad()
def save_on_file(
    eight_bits: EightBits,
    resize: Resize,
    file: Tensor,
    changed: Tensor,
    seen: Callable[[Tensor], Tensor],
    *,
    free: Tensor | None = None,
) -> Tensor:
    """8-bit pixels (3,H,W) of `changed` (3,H,W) in [0,1], whose tokens are those of `file` (3,H,W) uint8.

    `seen` takes 8-bit pixels of a file to what the model is given of them, (3,h,w) uint8, with all rounding. Pixels
    that are not `free` (H,W), by default all are, stay as they are in `changed`. Where `seen` is not PIL's resize, the
    best of plain rounding and rounding towards a picture is returned. Raises NullspaceError when the shapes differ.
    """
    if file.shape != changed.shape or file.dtype != torch.uint8:
        raise NullspaceError(
            f"expected a file (3,H,W) uint8 and its changed pixels of the same shape, got {file.dtype} "
            f"{tuple(file.shape)} and {tuple(changed.shape)}"
        )
    clean = seen(file)
    if free is None and resize.only_crops:
        return _cropped(eight_bits, resize, clean, changed)
    may = torch.ones_like(changed[:1], dtype=torch.bool) if free is None else free[None].bool()
    reading = next((each for each in _Reading.both(eight_bits, resize) if each.reads(file, clean)), None)
    settled = changed if reading is None else reading.settled(from_uint8(clean), changed.float(), may)
    starts = [round_to_uint8(changed), round_to_uint8(settled)]
    if free is None and (reading is None or min(_ratios(resize)) > _MUCH_LARGER):
        starts.append(_towards(eight_bits, resize, clean, settled, seen))
    start = min(starts, key=lambda pixels: _moved(eight_bits, clean, seen(pixels)))
    if reading is None:
        return start
    low, high = (255 * settled - MAX_MOVE).ceil().clamp_min(0), (255 * settled + MAX_MOVE).floor().clamp_max(255)
    flipped = reading.flipped(clean, start, *(torch.where(may, each, start) for each in (low, high)))
    return min((start, flipped), key=lambda pixels: _moved(eight_bits, clean, seen(pixels)))


def _ratios(resize: Resize) -> tuple[float, float]:
    """Pixels of the file that are read for each of the input, by direction."""
    read = resize.read
    return int(read.any(dim=1).sum()) / resize.input_size[0], int(read.any(dim=0).sum()) / resize.input_size[1]


def _cropped(eight_bits: EightBits, resize: Resize, clean: Tensor, changed: Tensor) -> Tensor:
    pixels = round_to_uint8(changed)
    view = resize.apply(changed).clamp(0, 1)
    saved = eight_bits.save(from_uint8(clean)[None], view[None])[0]
    pixels[:, resize.read] = saved.flatten(1)
    return pixels


def _moved(eight_bits: EightBits, clean: Tensor, got: Tensor) -> float:
    """Norm of all changes of tokens, in levels."""
    patches = eight_bits.model.patchify((got.double() - clean.double())[None])
    return float(eight_bits.plan.mapping.tokens(patches).norm())


@dataclass(frozen=True, eq=False)
class _Reading:
    """The model's reading of files: resize, then patches; where `turned`, of pictures mirrored at their diagonal.

    PIL takes the rows first, and some of its versions the columns where the file is tall: the rows of the turned one.
    """

    resize: Resize
    patch_size: tuple[int, int]
    right: Tensor  # (3p²,r) orthonormal: what the model sees of a patch
    factor: Tensor  # (3p²,r): the same, as much as tokens move by it
    turned: bool

    @classmethod
    def both(cls, eight_bits: EightBits, resize: Resize) -> tuple[_Reading, _Reading]:
        """Rows first, and columns first."""
        mapping, (ph, pw) = eight_bits.plan.mapping, eight_bits.model.patch_size
        right = mapping.right.float()
        other = right.unflatten(0, (3, ph, pw)).transpose(1, 2).flatten(0, 2)
        sigma = mapping.sigma.float()
        return (
            cls(resize, (ph, pw), right, right * sigma, False),
            cls(Resize(resize.columns, resize.rows), (pw, ph), other, other * sigma, True),
        )

    def turn(self, image: Tensor) -> Tensor:
        """Of a picture the one that is read, and back."""
        return image.mT.contiguous() if self.turned else image

    def reads(self, file: Tensor, seen: Tensor) -> bool:
        """Whether this is how `seen` (3,h,w) was made of a file."""
        return torch.equal(self.turn(WholeResize(self.resize, self.turn(file)).seen), seen.int())

    def flipped(self, clean: Tensor, start: Tensor, low: Tensor, high: Tensor) -> Tensor:
        """`start` (3,H,W) uint8 with single levels changed."""
        clean, start, low, high = (self.turn(each) for each in (clean, start, low, high))
        whole = WholeResize(self.resize, start)
        FileFlips(whole, self.patch_size, self.factor, clean, low, high).run()
        return self.turn(whole.file)

    def settled(self, clean: Tensor, changed: Tensor, may: Tensor) -> Tensor:
        """`changed`, moved by little so that its tokens are those of `clean` (3,h,w) through a resize that clips.

        A Gauss-Newton method: the smallest move that does it where what is clipped stays clipped, pixels that would
        leave the range being held from then on.
        """
        clean, answer, may = self.turn(clean), self.turn(changed).clone(), self.turn(may)
        box = [slice(int(used[0]), int(used[-1]) + 1) for used in map(_used, (self.resize.rows, self.resize.columns))]
        area = (slice(None), *box)
        rows, columns = self.resize.rows[:, box[0]].float(), self.resize.columns[:, box[1]].float()
        free = may.expand_as(answer)[area].float()
        grid = (clean.shape[1] // self.patch_size[0], clean.shape[2] // self.patch_size[1])
        enough = _SETTLED * math.sqrt(math.prod(grid) * self.right.shape[1] / 12) / 255
        for _ in range(_SETTLING):
            between = answer[area] @ columns.T
            down = rows @ between.clamp(0, 1)
            missing = patchify((clean - down.clamp(0, 1))[None], self.patch_size)[0] @ self.right
            if float(missing.norm()) <= enough:
                break
            unclipped = [((each >= 0) & (each <= 1)).float() for each in (between, down)]

            def forward(change: Tensor, unclipped: list[Tensor] = unclipped) -> Tensor:
                image = (rows @ (change @ columns.T * unclipped[0])) * unclipped[1]
                return patchify(image[None], self.patch_size)[0] @ self.right

            def adjoint(tokens: Tensor, unclipped: list[Tensor] = unclipped, free: Tensor = free) -> Tensor:
                image = unpatchify((tokens @ self.right.T)[None], self.patch_size, grid)[0] * unclipped[1]
                return (rows.T @ image * unclipped[0]) @ columns * free

            moved = answer[area] + smallest_change(forward, adjoint, missing, **_LINEAR)
            free = free * ((moved >= 0) & (moved <= 1))
            answer[area] = moved.clamp(0, 1)
        return self.turn(answer)


def _used(matrix: Tensor) -> Tensor:
    return matrix.ne(0).any(dim=0).nonzero().squeeze(1)


def _towards(
    eight_bits: EightBits, resize: Resize, clean: Tensor, changed: Tensor, seen: Callable[[Tensor], Tensor]
) -> Tensor:
    """Pixels (3,H,W) uint8 of `changed` that resize to its model's picture rounded in the kernel, but for a few."""
    unrounded, wanted = from_uint8(clean), changed.double()
    view = resize.model_pixels(wanted).float()
    target = from_uint8(eight_bits.save(unrounded[None], view[None]))[0].double()
    rows, columns = torch.linalg.pinv(resize.rows), torch.linalg.pinv(resize.columns)
    missing, aim = target - view, wanted
    best, least = round_to_uint8(wanted), math.inf
    for _ in range(_ROUNDS):
        aim = (aim + rows @ missing @ columns.T).clamp(0, 1)
        pixels = round_to_uint8(aim)
        got = seen(pixels)
        moved = _moved(eight_bits, clean, got)
        if moved < least:
            best, least = pixels, moved
        missing = (target - from_uint8(got).double()) / 2
        if not bool(missing.any()):
            break
    return best

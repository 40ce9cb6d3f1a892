"""8 bits on the user's own file: what the model's resizing makes of it is the picture that is rounded in the kernel.

A file larger than the model's input has many pixels for each that the model is given. So the model's picture is rounded
first (`EightBits`), to whole levels, and the file is moved to what resizes to it: rounded to the nearest levels it is
off by a fraction of a level after the resize, and the resize's own rounding takes that away. Files that are enlarged
cannot be moved everywhere: of them the better of this and plain rounding is kept.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from nullspace.eight_bits import EightBits
from nullspace.errors import NullspaceError
from nullspace.pixels import from_uint8, round_to_uint8
from nullspace.resize import Resize

_ROUNDS = 6  # each mends most of the pixels that the one before left a level off


@torch.no_grad()
def save_on_file(
    eight_bits: EightBits, resize: Resize, file: Tensor, changed: Tensor, seen: Callable[[Tensor], Tensor]
) -> Tensor:
    """8-bit pixels (3,H,W) of `changed` (3,H,W) in [0,1], whose tokens are those of `file` (3,H,W) uint8.

    `seen` takes 8-bit pixels of a file to what the model is given of them, (3,h,w) uint8, with all rounding. Raises
    NullspaceError when the shapes differ.
    """
    if file.shape != changed.shape or file.dtype != torch.uint8:
        raise NullspaceError(
            f"expected a file (3,H,W) uint8 and its changed pixels of the same shape, got {file.dtype} "
            f"{tuple(file.shape)} and {tuple(changed.shape)}"
        )
    clean, wanted = from_uint8(seen(file)).double(), changed.double()
    view = (clean + resize.apply(wanted - from_uint8(file).double())).clamp(0, 1)
    target = from_uint8(eight_bits.save(clean[None], view[None]))[0].double()
    rows, columns = torch.linalg.pinv(resize.rows), torch.linalg.pinv(resize.columns)
    best = round_to_uint8(changed)
    least = _moved(eight_bits, clean, from_uint8(seen(best)).double())
    missing, aim = target - resize.apply(wanted), wanted
    for _ in range(_ROUNDS):
        aim = (aim + rows @ missing @ columns.T).clamp(0, 1)
        pixels = round_to_uint8(aim)
        got = from_uint8(seen(pixels)).double()
        moved = _moved(eight_bits, clean, got)
        if moved < least:
            best, least = pixels, moved
        missing = (target - got) / 2
        if not bool(missing.any()):
            break
    return best


def _moved(eight_bits: EightBits, clean: Tensor, got: Tensor) -> float:
    """Norm of all changes of tokens."""
    patches = eight_bits.model.patchify((got - clean)[None])
    return float(eight_bits.plan.mapping.tokens(patches).norm())

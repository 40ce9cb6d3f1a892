"""Corruptions by name: the 15 of ImageNet-C at severities 1 to 5 (Hendrycks & Dietterich 2019, ICLR).

The parameters are those that were published for 224×224 pixels. They hold at any other size, where the same radius in
pixels is another change; only the elastic ones are shares of a side, as published. What is random is keyed by seed,
corruption, severity and the image's id. All is computed on the CPU, an image at a time: neither device nor batch
changes a pixel.

Two things differ from the published files in all corruptions: values are rounded to 8 bits, where these were cut off,
and there is no JPEG of quality 85 after them. What differs in one of them stands in the file that makes it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nullspace.errors import NullspaceError
from nullspace.metrics.draws import Draws
from nullspace.model.shapes import UInt8
from nullspace.robustness.corruptions.names import FAMILIES, NAMES, SEVERITIES

LEAST_SIDE = 32  # pixels: the widest blurs reach 21 pixels, of which a smaller image has too few


@dataclass(frozen=True)
class Corruption:
    """One corruption at one severity, 1 to 5. Raises NullspaceError for others."""

    kind: str
    severity: int

    def __post_init__(self) -> None:
        if self.kind not in NAMES:
            raise NullspaceError(f"unknown corruption {self.kind!r}; known are {', '.join(NAMES)}")
        if self.severity not in SEVERITIES:
            raise NullspaceError(f"expected a severity of 1 to 5 of {self.kind}, got {self.severity}")

    @property
    def name(self) -> str:
        """`fog_3`."""
        return f"{self.kind}_{self.severity}"

    @property
    def family(self) -> str:
        """noise, blur, weather or digital."""
        return next(family for family, names in FAMILIES.items() if self.kind in names)


def corruption_named(name: str) -> Corruption:
    """The corruption of a name, `kind_severity` as in `fog_3`. Raises NullspaceError."""
    kind, _, severity = name.rpartition("_")
    if not severity.isdecimal():
        raise NullspaceError(f"expected a corruption and its severity, as in fog_3, got {name!r}")
    return Corruption(kind, int(severity))


def corrupted(
    images: UInt8[Tensor, "B 3 H W"], corruption: Corruption, ids: Sequence[str], *, seed: int = 0
) -> UInt8[Tensor, "B 3 H W"]:
    """Images (B,3,H,W) uint8 after the corruption, on their device; `ids` (B,) decide its random part.

    Raises NullspaceError on other images, sides below 32 pixels, or a number of ids other than B.
    """
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != 3:
        raise NullspaceError(f"expected 8-bit images (B,3,H,W), got {images.dtype} of shape {tuple(images.shape)}")
    if min(images.shape[2:]) < LEAST_SIDE:
        raise NullspaceError(f"expected sides of at least {LEAST_SIDE} pixels, got {tuple(images.shape[2:])}; enlarge")
    if len(ids) != len(images):
        raise NullspaceError(f"expected an id for each of {len(images)} images, got {len(ids)}")
    # Not before: configs are checked for the names of corruptions, and scipy's filters take time to import.
    from nullspace.robustness.corruptions.operations import OPERATIONS

    operation, draws = OPERATIONS[corruption.kind], Draws(seed, f"corruption_{corruption.name}", ids)
    made = torch.empty_like(images, device="cpu")
    for at, image in enumerate(images.cpu()):
        values = operation(image.float() / 255, corruption.severity, draws[at : at + 1])
        made[at] = values.mul(255).round_().clamp_(0, 255)
    return made.to(images.device)

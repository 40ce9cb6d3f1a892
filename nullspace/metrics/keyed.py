"""The order of images by a keyed hash of their ids: the same on any machine, and known before any image is read.

Numbers that are drawn for an image come from `draws`. Stored results rest on these hashes as they are.
"""

from __future__ import annotations

import hashlib


def place(id_: str, seed: int) -> int:
    """Place of an image in the seeded random order of all images: 63 bits."""
    return int.from_bytes(hashlib.blake2b(f"{seed}:{id_}".encode(), digest_size=8).digest(), "big") >> 1

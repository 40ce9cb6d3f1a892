"""Chance keyed by what it is for: an image gets the same draw on any worker and in any order, as its id decides it.

Every function hashes its key. How a key is written and how many bits are kept differs among them; stored results rest
on each as it is.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def generator(*key: object) -> torch.Generator:
    """A generator (CPU) for the draws named by `key`, e.g. a seed, a condition and an image's id; 63 bits."""
    import torch  # here: the listing of images needs places alone, and starts without torch

    return torch.Generator().manual_seed(_hash(json.dumps([str(part) for part in key])) >> 1)


def place(id_: str, seed: int) -> int:
    """Place of an image in the seeded random order of all images: 63 bits."""
    return rank(id_, seed) >> 1


def rank(id_: str, seed: int) -> int:
    """As `place`, with 64 bits: who is drawn into a random subset."""
    return _hash(f"{seed}:{id_}")


def distortion_seed(seed: int, distortion: str, id_: str) -> int:
    """What is random in one distortion of one image: 56 bits."""
    return _hash(f"{seed}:{distortion}:{id_}", size=7)


def message(seed: int, id_: str, length: int) -> bytes:
    """The `length` random bytes hidden in an image."""
    return hashlib.shake_256(f"{seed}:{id_}".encode()).digest(length)


def _hash(text: str, size: int = 8) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=size).digest(), "big")

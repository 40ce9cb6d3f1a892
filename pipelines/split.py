"""Which images noise is learned on, which rank the trials, and which only test: by a seeded hash of the id.

Two thresholds on the hash say everything, so that any worker can tell the part of any image by itself.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal

from pipelines.errors import ConfigError

Part = Literal["learn", "validation", "test"]


def place(id_: str, seed: int) -> int:
    """Place of an image in the seeded random order of all images: 63 bits of a hash of its id."""
    return int.from_bytes(hashlib.blake2b(f"{seed}:{id_}".encode(), digest_size=8).digest(), "big") >> 1


@dataclass(frozen=True)
class Split:
    """Images below `learn_below` are learned on, those below `validation_below` validate, the rest tests."""

    seed: int
    learn_below: int
    validation_below: int

    def part(self, id_: str) -> Part:
        at = place(id_, self.seed)
        if at < self.learn_below:
            return "learn"
        return "validation" if at < self.validation_below else "test"


def make_split(places: list[int], seed: int, *, learn: int, validation: int, total: int) -> Split:
    """Split from the lowest `learn + validation + 1` places. Raises ConfigError when none is left to test."""
    if total < learn + validation + 1:
        raise ConfigError(
            f"the source has {total} readable images, but search.learn_images + search.validation_images = "
            f"{learn} + {validation} leave none to test on; lower them (e.g. --set search.learn_images={total // 3} "
            f"--set search.validation_images={max(total // 6, 1)}) or give more images"
        )
    return Split(seed, places[learn], places[learn + validation])

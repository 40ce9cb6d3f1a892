"""Which images noise is learned on, which rank the trials, which set its scale and which only test: by hash of the id.

Three thresholds on the hash say everything, so that any worker can tell the part of any image by itself.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal

from pipelines.errors import ConfigError

Part = Literal["learn", "validation", "calibration", "test"]


def place(id_: str, seed: int) -> int:
    """Place of an image in the seeded random order of all images: 63 bits of a hash of its id."""
    return int.from_bytes(hashlib.blake2b(f"{seed}:{id_}".encode(), digest_size=8).digest(), "big") >> 1


@dataclass(frozen=True)
class Split:
    """Images placed below `learn_below` are learned on, the next ones validate, the next calibrate, the rest tests."""

    seed: int
    learn_below: int
    validation_below: int
    calibration_below: int

    def part(self, id_: str) -> Part:
        at = place(id_, self.seed)
        if at < self.learn_below:
            return "learn"
        if at < self.validation_below:
            return "validation"
        return "calibration" if at < self.calibration_below else "test"


def make_split(places: list[int], seed: int, *, learn: int, validation: int, calibration: int, total: int) -> Split:
    """Split from the lowest places, one more than are used. Raises ConfigError when none is left to test."""
    used = learn + validation + calibration
    if total < used + 1:
        raise ConfigError(
            f"the source has {total} readable images, but search.learn_images + search.validation_images + "
            f"search.calibration_images = {learn} + {validation} + {calibration} leave none to test on; lower them "
            f"(e.g. --set search.learn_images={max(total // 4, 1)} --set search.validation_images={max(total // 8, 1)} "
            f"--set search.calibration_images={max(total // 3, 1)}, and search.epsilon where calibration needs more) "
            "or give more images"
        )
    return Split(seed, places[learn], places[learn + validation], places[used])

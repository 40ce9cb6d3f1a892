"""Which images noise is learned on, which rank the trials, which set its scale and which only test: by hash of the id.

Three thresholds on the hash decide it, so that any worker can tell the part of any image by itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from nullspace.metrics.keyed import place
from pipelines.errors import ConfigError

Part = Literal["learn", "validation", "calibration", "test"]


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


def make_split(
    places: list[int], seed: int, *, learn: int, validation: int, calibration: int, total: int, fewest: int = 1
) -> Split:
    """Split from the lowest places, one more than are used; `fewest` images can calibrate at all.

    Raises ConfigError, with numbers that fit, when none is left to test.
    """
    require_images(total, learn=learn, validation=validation, calibration=calibration, fewest=fewest)
    return Split(seed, places[learn], places[learn + validation], places[learn + validation + calibration])


def require_images(total: int, *, learn: int, validation: int, calibration: int, fewest: int) -> None:
    """Raises ConfigError unless `total` images are enough for all parts and one to test on."""
    if total > learn + validation + calibration:
        return
    fitting = _fitting(total, fewest)
    remedy = (
        "give more images, or raise search.epsilon so that fewer can calibrate"
        if fitting is None
        else "lower them (e.g. " + " ".join(f"--set search.{part}_images={n}" for part, n in fitting.items()) + ")"
        " or give more images"
    )
    raise ConfigError(
        f"the source has {total} readable images, but search.learn_images + search.validation_images + "
        f"search.calibration_images = {learn} + {validation} + {calibration} leave none to test on; {remedy}"
    )


def _fitting(total: int, fewest: int) -> dict[str, int] | None:
    """Sizes of the parts that fit, a quarter left to test on; None when too few are left beside the calibration."""
    calibration = max(fewest, total // 3)
    rest = total - calibration
    if rest < 4:
        return None
    return {"learn": rest // 2, "validation": max(rest // 4, 1), "calibration": calibration}

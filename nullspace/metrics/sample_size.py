"""How many images it takes to show anything about a mean: the fewest for an epsilon, the least epsilon for so many.

No bound does with much less than `values_needed`: a quantity that is `largest` with probability target/largest, and
else 0, shows n zeros with probability (1 - target/largest)^n, so fewer than log(1 - confidence)/log(1 - target/largest)
zeros refute nothing.
"""

from __future__ import annotations

import math

from nullspace.errors import NullspaceError

LARGEST_CHANGE = 2.0  # of |p - q|² for two distributions p and q


def values_needed(target: float, *, confidence: float = 0.95, largest: float = 1.0) -> int:
    """Fewest values in [0, largest], all of them 0, that bring `upper_mean_bound` down to `target`."""
    check_bound(target, confidence, largest)
    return math.ceil(-math.log1p(-confidence) / math.log1p(target / largest))


def images_needed(epsilon: float, confidence: float = 0.95) -> int:
    """Fewest calibration images that can show mean |Δsoftmax|² <= epsilon, for noise of any size."""
    return values_needed(epsilon, confidence=confidence, largest=LARGEST_CHANGE)


def epsilon_within_reach(images: int, confidence: float = 0.95) -> float:
    """Smallest epsilon that so many calibration images can show, rounded up to two digits."""
    least = LARGEST_CHANGE * math.expm1(-math.log1p(-confidence) / images)
    unit = 10.0 ** (math.floor(math.log10(least)) - 1)
    return math.ceil(least / unit) * unit


def require_enough(images: int, epsilon: float, confidence: float = 0.95) -> None:
    """Raises NullspaceError, with the number that is needed, when so many calibration images can show nothing."""
    needed = images_needed(epsilon, confidence)
    if images >= needed:
        return
    reach = epsilon_within_reach(images, confidence) if images else math.inf
    instead = f" (to {reach:.2g} for {images})" if reach < LARGEST_CHANGE else ""
    raise NullspaceError(
        f"expected at least {needed} calibration images, the fewest that can show mean ‖Δsoftmax‖² <= {epsilon:g} at "
        f"confidence {confidence:g}, got {images}; give more, or raise epsilon{instead}"
    )


def check_bound(target: float, confidence: float, largest: float) -> None:
    """Raises NullspaceError unless a bound on a mean can be asked for with these."""
    if not (0 < confidence < 1 and 0 < target < largest < math.inf):
        raise NullspaceError(
            f"expected 0 < confidence < 1 and 0 < target < {largest:g}, got confidence {confidence:g} and {target:g}"
        )

"""The smallest adversarial change in L2: decoupled direction and norm (Rony et al. 2019), then bisection.

The direction follows the gradient of the best other class's margin; the norm shrinks after a success and grows after a
failure. What was found is then taken back towards the image until it is at the boundary.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from nullspace.errors import NullspaceError
from nullspace.metrics.draws import Draws
from nullspace.model.images import check_unit_range
from nullspace.robustness.attacks.case import Case, Threat, opened
from nullspace.robustness.attacks.losses import margin, untargeted
from nullspace.robustness.attacks.norm import column, unit
from nullspace.robustness.attacks.subspace import Subspace
from nullspace.robustness.attacks.victim import Victim

_FIRST_NORM = 0.5  # pixel units
_GAMMA = 0.05  # by what share the norm changes in a step
_LEAST_STEP = 0.01  # of the step along the gradient, which begins at 1
_BISECTIONS = 8


@dataclass(frozen=True, eq=False)
class SmallestChanges:
    """Of n images: adversarial `pictures` (n,3,H,W) at `distance` (n,) in L2, infinite where none was found.

    Zero for an image that is taken for another class as it is. Passes (n,) are counted for each image.
    """

    pictures: Tensor
    distance: Tensor
    forwards: Tensor
    backwards: Tensor


def smallest_l2(
    model: Callable[[Tensor], Tensor],
    images: Tensor,
    labels: Tensor,
    draws: Draws,
    *,
    steps: int = 40,
    inside: Subspace | None = None,
) -> SmallestChanges:
    """The smallest changes found of images (n,3,H,W) in [0,1] in `steps` gradients; arguments as for `attacked`.

    Nothing is drawn: `draws` only identifies the images. Raises NullspaceError, ImageRangeError.
    """
    check_unit_range(images)
    if steps < 1:
        raise NullspaceError(f"expected steps >= 1, got {steps}")
    victim = Victim(model, len(images))
    case = opened(victim, images, labels, draws, "l2")
    _descend(victim, case, Threat("l2", _FIRST_NORM, inside), steps)
    _to_the_boundary(victim, case)
    return SmallestChanges(case.pictures, case.distance, victim.forwards, victim.backwards)


def _descend(victim: Victim, case: Case, threat: Threat, steps: int) -> None:
    """`steps` gradients for each image that is taken for its label; the norm begins at the epsilon of the threat."""
    index = case.open(0)
    if not len(index):
        return
    images, point = case.images[index], case.images[index]
    norm = images.new_full((len(index),), threat.epsilon)
    loss = untargeted(margin)
    for step in range(steps):
        logits, _, slope = victim.slope(point, case.labels[index], index, loss)
        fooled = case.note(index, point, logits)
        length = _LEAST_STEP + (1 - _LEAST_STEP) * (1 + math.cos(math.pi * step / steps)) / 2
        norm = torch.where(fooled, norm * (1 - _GAMMA), norm * (1 + _GAMMA))
        change = point - images + length * column(norm) * threat.steepest(slope)
        point = threat.nearest(images, images + column(norm) * unit(change), norm)
    case.note(index, point, victim.logits(point, index))


def _to_the_boundary(victim: Victim, case: Case) -> None:
    """Bisect between each image and its picture; a picture on the way is kept where it still succeeds."""
    chosen = ((case.distance > 0) & torch.isfinite(case.distance)).nonzero()[:, 0]
    index = chosen.to(case.images.device)
    if not len(index):
        return
    images = case.images[index]
    change = case.pictures[index] - images
    least, most = (change.new_full((len(index),), value) for value in (0.0, 1.0))
    for _ in range(_BISECTIONS):
        middle = (least + most) / 2
        pictures = images + column(middle) * change
        fooled = case.note(index, pictures, victim.logits(pictures, index))
        least, most = torch.where(fooled, least, middle), torch.where(fooled, middle, most)

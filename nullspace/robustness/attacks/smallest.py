"""The smallest adversarial change in L2: decoupled direction and norm (Rony et al. 2019), then bisection.

The direction follows the gradient of the cross-entropy; the norm shrinks after a success and grows after a failure.
What was found is then taken back towards the image until it is at the boundary.
"""

from __future__ import annotations

import math

import torch

from nullspace.robustness.attacks.case import Case, Threat
from nullspace.robustness.attacks.losses import margin, untargeted
from nullspace.robustness.attacks.norm import column, sizes, unit
from nullspace.robustness.attacks.victim import Victim

_FIRST_NORM = 0.5  # pixel units
_GAMMA = 0.05  # by what share the norm changes in a step
_LEAST_STEP = 0.01  # of the step along the gradient, which begins at 1
_BISECTIONS = 8


def smallest(victim: Victim, case: Case, threat: Threat, *, steps: int) -> None:
    """`steps` gradients and 8 looks for each image that is taken for its label; see `Case.distance`.

    Changes may be of any size; the epsilon of the threat is where the norm begins.
    """
    index = case.open(0)
    if not len(index):
        return
    images, point = case.images[index], case.images[index]
    norm = images.new_full((len(index),), min(threat.epsilon, _FIRST_NORM))
    loss = untargeted(margin)
    for step in range(steps):
        logits, _, slope = victim.slope(point, case.labels[index], index, loss)
        fooled = case.note(index, point, logits)
        length = _LEAST_STEP + (1 - _LEAST_STEP) * (1 + math.cos(math.pi * step / steps)) / 2
        norm = torch.where(fooled, norm * (1 - _GAMMA), norm * (1 + _GAMMA))
        change = point - images + length * column(norm) * threat.steepest(slope)
        point = threat.nearest(images, images + column(norm) * unit(change), norm)
    case.note(index, point, victim.logits(point, index))
    _to_the_boundary(victim, case)


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


def lengths(case: Case) -> torch.Tensor:
    """The L2 norm (n,) of the nearest adversarial change; infinite where none was found."""
    found = sizes(case.pictures - case.images, "l2").cpu()
    return torch.where(torch.isfinite(case.distance), found, torch.inf)

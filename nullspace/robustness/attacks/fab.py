"""FAB, targeted: smallest adversarial changes by steps onto the linearised boundary of a class (Croce & Hein 2020).

Each step goes to the nearest point of the hyperplane at which label and target would tie, drawn towards the point of it
that is nearest to the image; a picture beyond the boundary is taken back part of the way to the image.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nullspace.robustness.attacks.case import Case, Threat, likeliest_others
from nullspace.robustness.attacks.hyperplane import nearest_on
from nullspace.robustness.attacks.losses import margin_of
from nullspace.robustness.attacks.norm import NormName, column, sizes
from nullspace.robustness.attacks.victim import Victim

_TOWARDS_IMAGE = 0.1  # at most, share of the point nearest to the image (alpha_max)
_BEYOND = 1.05  # of a step, so that it ends on the other side (eta)
_BACK = 0.9  # of the change that is left after a success (beta)


def fab_t(victim: Victim, case: Case, threat: Threat, *, steps: int, targets: int) -> None:
    """`steps` passes for each open image and each of `targets` classes, the likeliest first; from the image on.

    The smallest change that was found is kept, also where it is larger than ε.
    """
    index = case.open(threat.epsilon)
    if not len(index):
        return
    wanted, _ = likeliest_others(victim, case, index, targets)
    for target in wanted.unbind(1):
        _run(victim, case, threat, target, steps)


def _run(victim: Victim, case: Case, threat: Threat, wanted: Tensor, steps: int) -> None:
    index = case.open(threat.epsilon)
    points = case.images[index]

    def lead(logits: Tensor, labels: Tensor, places: Tensor) -> Tensor:
        return margin_of(logits, labels, wanted[places])

    for _ in range(steps):
        if not len(index):
            return
        logits, gap, normal = victim.slope(points, case.labels[index], index, lead)
        fooled = case.note(index, points, logits)
        left = ~case.broken(index, threat.epsilon)
        index, points, gap, normal, fooled = (each[left] for each in (index, points, gap, normal, fooled))
        if len(index):
            images = case.images[index]
            nearer = images + _BACK * (points - images)
            onwards = _onwards(images, points, -gap, normal, case.norm)
            points = torch.where(column(fooled), nearer, onwards)
    if len(index):
        case.note(index, points, victim.logits(points, index))


def _onwards(images: Tensor, points: Tensor, lacking: Tensor, normal: Tensor, norm: NormName) -> Tensor:
    """A step onto and past the hyperplane on which `lacking` (n,) is gained, drawn towards the images."""
    step = nearest_on(points, normal, lacking, norm)
    from_image = lacking + (normal * (points - images)).sum(dim=(1, 2, 3))
    direct = nearest_on(images, normal, from_image, norm)
    own, other = (sizes(each, norm).to(points) for each in (step, direct))
    share = column((own / (own + other).clamp_min(1e-12)).clamp_max(_TOWARDS_IMAGE))
    return ((1 - share) * (points + _BEYOND * step) + share * (images + _BEYOND * direct)).clamp(0, 1)

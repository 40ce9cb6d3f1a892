"""Projected gradient ascent on the cross-entropy (Madry et al. 2018); in one step, the fast gradient sign method."""

from __future__ import annotations

from nullspace.robustness.attacks.case import Case, Threat
from nullspace.robustness.attacks.losses import cross_entropy, untargeted
from nullspace.robustness.attacks.norm import column, random_change
from nullspace.robustness.attacks.victim import Victim

_STRIDE = 2.5  # of epsilon, over all steps together: room to go to the border and along it


def pgd(victim: Victim, case: Case, threat: Threat, *, steps: int) -> None:
    """`steps` gradients for each open image and a last look; a single one is taken at the image itself.

    Steps are 2.5 ε/steps long, a single one ε. Images are done as soon as they are broken.
    """
    index = case.open(threat.epsilon)
    images, points = case.images[index], case.images[index]
    if steps > 1 and len(index):
        chance = random_change(case.draws[index.to(case.draws.device)], images.shape[1:], threat.norm).to(images)
        points = threat.nearest(images, images + threat.epsilon * chance)
    length = threat.epsilon * (1 if steps == 1 else _STRIDE / steps)
    loss = untargeted(cross_entropy)
    for _ in range(steps):
        if not len(index):
            return
        logits, _, slope = victim.slope(points, case.labels[index], index, loss)
        case.note(index, points, logits)
        left = ~case.broken(index, threat.epsilon)
        index, points, slope = index[left], points[left], slope[left]
        images = case.images[index]
        if len(index):
            stride = column(images.new_full((len(index),), length))
            points = threat.nearest(images, points + stride * threat.steepest(slope))
    if len(index):
        case.note(index, points, victim.logits(points, index))

"""Images under attack: what is allowed, and the nearest adversarial picture that any attack has found of each."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from nullspace.errors import NullspaceError
from nullspace.metrics.draws import Draws
from nullspace.robustness.attacks.losses import best_others
from nullspace.robustness.attacks.norm import NormName, sizes, steepest, within
from nullspace.robustness.attacks.subspace import Subspace
from nullspace.robustness.attacks.victim import Victim

CLEAN = "clean"
"""What broke an image that is taken for another class as it is."""


@dataclass(frozen=True, eq=False)
class Threat:
    """Changes of norm `epsilon` or less, in pixel units, with pixels in [0,1]; of a subspace where one is given."""

    norm: NormName
    epsilon: float
    inside: Subspace | None = None

    def __post_init__(self) -> None:
        if not 0 < self.epsilon < float("inf"):
            raise NullspaceError(f"expected epsilon > 0, in pixel units of [0,1], got {self.epsilon}")

    def nearest(self, images: Tensor, pictures: Tensor, radius: Tensor | None = None) -> Tensor:
        """The nearest allowed pictures; `radius` (n,) takes the place of epsilon."""
        most = images.new_full((len(images),), self.epsilon) if radius is None else radius
        if self.inside is None:
            return within(images, pictures - images, self.norm, most)
        return self.inside.within(images, pictures - images, self.norm, most)

    def steepest(self, gradient: Tensor) -> Tensor:
        """The change of norm 1 along which a loss grows most, in the subspace before it is made of norm 1."""
        return steepest(gradient if self.inside is None else self.inside.project(gradient), self.norm)


@dataclass(eq=False)
class Case:
    """Images (n,3,H,W) with labels (n,), and the nearest `pictures` found that are not taken for their label.

    `distance` (n,) is infinite where none was found, and zero where the image itself is taken for another class; `by`
    names the attack that found it.
    """

    images: Tensor
    labels: Tensor
    draws: Draws
    norm: NormName
    pictures: Tensor = field(init=False)
    distance: Tensor = field(init=False)
    by: list[str] = field(init=False)
    attack: str = ""
    """The one under way."""

    def __post_init__(self) -> None:
        self.pictures = self.images.clone()
        self.distance = torch.full((len(self.images),), torch.inf, dtype=torch.float64)
        self.by = [""] * len(self.images)

    def open(self, epsilon: float) -> Tensor:
        """Places (m,) of the images without an adversarial picture at distance `epsilon` or less."""
        return (self.distance > epsilon).nonzero()[:, 0].to(self.images.device)

    def note(self, index: Tensor, pictures: Tensor, logits: Tensor) -> Tensor:
        """Whether each picture (m,3,H,W) of images `index` (m,) is taken for another class, (m,); the nearest is kept.

        Logits that are not finite count as no success.
        """
        fooled = (logits.argmax(dim=1) != self.labels[index]) & torch.isfinite(logits).all(dim=1)
        places, sound = index.cpu(), fooled.cpu()
        distance = sizes(pictures - self.images[index], self.norm).cpu()
        nearer = sound & (distance < self.distance[places])
        chosen = nearer.nonzero()[:, 0]
        self.distance[places[chosen]] = distance[chosen]
        at = chosen.to(index.device)
        self.pictures[index[at]] = pictures[at].detach()
        for place in places[chosen].tolist():
            self.by[place] = self.attack
        return fooled

    def broken(self, index: Tensor, epsilon: float) -> Tensor:
        """Whether images `index` (m,) have an adversarial picture at distance `epsilon` or less."""
        return (self.distance[index.cpu()] <= epsilon).to(index.device)


def opened(victim: Victim, images: Tensor, labels: Tensor, draws: Draws, norm: NormName) -> Case:
    """A case of which the images that are taken for another class as they are count as broken, at no distance."""
    everywhere = torch.arange(len(images), device=images.device)
    logits = victim.logits(images, everywhere)
    given = labels.to(images.device)
    case = Case(images, torch.where(given >= 0, given, logits.argmax(dim=1)), draws, norm, attack=CLEAN)
    case.note(everywhere, images, logits)
    return case


def likeliest_others(victim: Victim, case: Case, index: Tensor, count: int) -> tuple[Tensor, int]:
    """For all images of a case, (n,t) classes to attack towards, and how many classes there are.

    Those of images `index` (m,), at a pass for each, are up to `count` others than the label, the likeliest first.
    """
    logits = victim.logits(case.images[index], index)
    others = best_others(logits, case.labels[index], count)
    wanted = case.labels.new_zeros(len(case.labels), others.shape[1])
    wanted[index] = others
    return wanted, logits.shape[1]

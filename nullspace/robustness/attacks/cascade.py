"""The worst case of several attacks: each on the images that those before it did not break, for one ε after the other.

In this order cheap attacks break what is easily broken; the verdict is that of all of them together (Croce & Hein
2020). An image broken at one ε is broken at every larger one, at no cost.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nullspace.errors import NullspaceError
from nullspace.metrics.draws import Draws
from nullspace.model.images import check_unit_range
from nullspace.robustness.attacks.apgd import apgd_ce, apgd_t
from nullspace.robustness.attacks.case import Case, Threat, opened
from nullspace.robustness.attacks.fab import fab_t
from nullspace.robustness.attacks.norm import checked_norm
from nullspace.robustness.attacks.pgd import pgd
from nullspace.robustness.attacks.square import square
from nullspace.robustness.attacks.subspace import Subspace
from nullspace.robustness.attacks.victim import Victim

ATTACKS = ("fgsm", "pgd", "apgd_ce", "apgd_t", "fab_t", "square")
"""In the order of the cascade."""
BY_GRADIENT = ATTACKS[:4]
"""Those that can be confined to a subspace."""


@dataclass(frozen=True)
class Cascade:
    """Which attacks are made, and passes for each image: gradients of PGD, of APGD and of each target of APGD-T and
    FAB-T, queries of Square."""

    attacks: tuple[str, ...] = ATTACKS
    pgd_steps: int = 10
    steps: int = 50
    targets: int = 9
    queries: int = 1000

    @classmethod
    def of(cls, steps: int, attacks: Sequence[str] = ATTACKS) -> Cascade:
        """By the passes of APGD: as many for each of up to 9 targets, 20 times as many queries, at most 10 of PGD."""
        return cls(tuple(attacks), pgd_steps=min(10, steps), steps=steps, queries=20 * steps)

    def __post_init__(self) -> None:
        checked_attacks(self.attacks)
        for name in ("pgd_steps", "steps", "targets", "queries"):
            if getattr(self, name) < 1:
                raise NullspaceError(f"expected {name} >= 1, got {getattr(self, name)}")


@dataclass(frozen=True, eq=False)
class Verdicts:
    """Of n images at each ε: `robust` (E,n), the attack that broke it in `by`, empty for a robust one.

    `pictures` (n,3,H,W) is the nearest adversarial picture found at `distance` (n,), infinite without one. Passes
    (E,n) are those spent up to that ε. `labels` (n,) are those given, or the clean prediction where none is known.
    """

    epsilons: tuple[float, ...]
    robust: Tensor
    by: list[list[str]]
    pictures: Tensor
    distance: Tensor
    labels: Tensor
    forwards: Tensor
    backwards: Tensor


def attacked(
    model: Callable[[Tensor], Tensor],
    images: Tensor,
    labels: Tensor,
    draws: Draws,
    *,
    norm: str,
    epsilons: Sequence[float],
    cascade: Cascade | None = None,
    inside: Subspace | None = None,
) -> Verdicts:
    """What is robust among images (n,3,H,W) in [0,1] at each of `epsilons`, rising, in pixel units.

    `model` gives logits (n,K) in float32 of images in [0,1]; `labels` (n,) hold -1 where the class is not known.
    `inside` confines every change to a subspace. Raises NullspaceError, ImageRangeError.
    """
    check_unit_range(images)
    chosen = cascade or Cascade()
    names = checked_attacks(chosen.attacks, inside)
    if not epsilons or list(epsilons) != sorted(set(epsilons)):
        raise NullspaceError(f"expected values of epsilon that rise, got {list(epsilons)}; sort them")
    if not len(images) == len(labels) == len(draws):
        raise NullspaceError(
            f"expected a label and an id for each of {len(images)} images, got {len(labels)} and {len(draws)}"
        )
    victim = Victim(model, len(images))
    case = opened(victim, images, labels, draws, checked_norm(norm))
    known = []
    for epsilon in epsilons:
        for name in names:
            case.attack = name
            _attack(name, victim, case, Threat(case.norm, float(epsilon), inside), chosen)
        known.append((case.distance > epsilon, list(case.by), victim.forwards.clone(), victim.backwards.clone()))
    return Verdicts(
        epsilons=tuple(float(each) for each in epsilons),
        robust=torch.stack([each[0] for each in known]),
        by=[[name if not safe else "" for name, safe in zip(by, robust, strict=True)] for robust, by, *_ in known],
        pictures=case.pictures,
        distance=case.distance,
        labels=case.labels,
        forwards=torch.stack([each[2] for each in known]),
        backwards=torch.stack([each[3] for each in known]),
    )


def checked_attacks(names: Sequence[str], inside: Subspace | None = None) -> list[str]:
    """The attacks of these names, in the order of the cascade. Raises NullspaceError for one that is not known."""
    known = ATTACKS if inside is None else BY_GRADIENT
    unknown = [name for name in names if name not in known]
    if unknown and set(unknown) <= set(ATTACKS):
        raise NullspaceError(f"{', '.join(unknown)} cannot be confined to a subspace; leave {', '.join(known)}")
    if unknown or not names:
        raise NullspaceError(f"expected attacks among {', '.join(known)}, got {', '.join(unknown) or 'none'}")
    return [name for name in known if name in names]


def _attack(name: str, victim: Victim, case: Case, threat: Threat, cascade: Cascade) -> None:
    run: Mapping[str, Callable[[], None]] = {
        "fgsm": lambda: pgd(victim, case, threat, steps=1),
        "pgd": lambda: pgd(victim, case, threat, steps=cascade.pgd_steps),
        "apgd_ce": lambda: apgd_ce(victim, case, threat, steps=cascade.steps),
        "apgd_t": lambda: apgd_t(victim, case, threat, steps=cascade.steps, targets=cascade.targets),
        "fab_t": lambda: fab_t(victim, case, threat, steps=cascade.steps, targets=cascade.targets),
        "square": lambda: square(victim, case, threat, queries=cascade.queries),
    }
    run[name]()

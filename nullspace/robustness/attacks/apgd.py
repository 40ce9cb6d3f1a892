"""Auto-PGD: projected gradient ascent with momentum that halves its step when progress stops (Croce & Hein 2020)."""

from __future__ import annotations

from dataclasses import dataclass, fields
from math import ceil

import torch
from torch import Tensor

from nullspace.robustness.attacks.case import Case, Threat, likeliest_others
from nullspace.robustness.attacks.losses import cross_entropy, towards, untargeted
from nullspace.robustness.attacks.norm import column, random_change
from nullspace.robustness.attacks.victim import IndexedLoss, Victim

_MOMENTUM = 0.75  # share of the gradient step; the rest goes on along the step before
_RISING = 0.75  # share of steps between checkpoints that have to raise the loss


def apgd_ce(victim: Victim, case: Case, threat: Threat, *, steps: int) -> None:
    """`steps` passes on the cross-entropy for each open image."""
    _run(victim, case, threat, untargeted(cross_entropy), steps, stream=1)


def apgd_t(victim: Victim, case: Case, threat: Threat, *, steps: int, targets: int) -> None:
    """`steps` passes for each open image and each of `targets` classes, the likeliest first, on the targeted DLR."""
    index = case.open(threat.epsilon)
    if not len(index):
        return
    wanted, classes = likeliest_others(victim, case, index, targets)
    for number, target in enumerate(wanted.unbind(1)):
        _run(victim, case, threat, towards(target, classes), steps, stream=2 + number)


def checkpoints(steps: int) -> set[int]:
    """After which steps progress is judged: shares .22 of all, then intervals that shrink by .03 to .06 (section 3)."""
    found, at, before = set[int](), 0.22, 0.0
    while at < 1:
        found.add(ceil(at * steps))
        at, before = at + max(at - before - 0.03, 0.06), at
    return found


@dataclass(eq=False)
class _Search:
    """Images (n) that are not broken yet: where each is, was, and was best, and what decides its step."""

    index: Tensor
    point: Tensor
    before: Tensor
    slope: Tensor
    value: Tensor
    best: Tensor
    best_slope: Tensor
    best_value: Tensor
    step: Tensor
    risen: Tensor  # steps since the last checkpoint that raised the loss
    halved: Tensor  # whether the last checkpoint halved the step
    checked_value: Tensor  # best value at the last checkpoint

    def keep(self, mask: Tensor) -> _Search:
        """Those that a mask (n,) names."""
        return self if bool(mask.all()) else _Search(**{each.name: getattr(self, each.name)[mask] for each in _FIELDS})


_FIELDS = fields(_Search)


def _run(victim: Victim, case: Case, threat: Threat, loss: IndexedLoss, steps: int, *, stream: int) -> None:
    index = case.open(threat.epsilon)
    if not len(index):
        return
    search = _started(victim, case, threat, loss, index, stream)
    judged, last = checkpoints(steps), 0
    for step in range(1, steps):
        search = search.keep(~case.broken(search.index, threat.epsilon))
        if not len(search.index):
            return
        _move(search, case.images[search.index], threat, first=step == 1)
        _look(victim, case, search, loss)
        if step in judged:
            _judge(search, step - last)
            last = step


def _started(victim: Victim, case: Case, threat: Threat, loss: IndexedLoss, index: Tensor, stream: int) -> _Search:
    images = case.images[index]
    draws = case.draws[index.to(case.draws.device)].stream(stream)
    chance = random_change(draws, images.shape[1:], threat.norm).to(images)
    point = threat.nearest(images, images + threat.epsilon * chance)
    logits, value, slope = victim.slope(point, case.labels[index], index, loss)
    case.note(index, point, logits)
    return _Search(
        index=index, point=point, before=point, slope=slope, value=value, best=point, best_slope=slope,
        best_value=value, step=images.new_full((len(index),), 2 * threat.epsilon),
        risen=torch.zeros_like(index), halved=torch.ones_like(index, dtype=torch.bool), checked_value=value,
    )  # fmt: skip


def _move(search: _Search, images: Tensor, threat: Threat, *, first: bool) -> None:
    """One step along the gradient and, after the first, along the step before."""
    goal = threat.nearest(images, search.point + column(search.step) * threat.steepest(search.slope))
    if not first:
        onwards = _MOMENTUM * (goal - search.point) + (1 - _MOMENTUM) * (search.point - search.before)
        goal = threat.nearest(images, search.point + onwards)
    search.before, search.point = search.point, goal


def _look(victim: Victim, case: Case, search: _Search, loss: IndexedLoss) -> None:
    logits, value, search.slope = victim.slope(search.point, case.labels[search.index], search.index, loss)
    case.note(search.index, search.point, logits)
    search.risen = search.risen + (value > search.value)
    search.value, better = value, value > search.best_value
    search.best_value = torch.where(better, value, search.best_value)
    search.best = torch.where(column(better), search.point, search.best)
    search.best_slope = torch.where(column(better), search.slope, search.best_slope)


def _judge(search: _Search, steps: int) -> None:
    """Halve the step and go back to the best point where too few steps rose, or none since the last checkpoint."""
    idle = ~search.halved & (search.best_value <= search.checked_value)
    halve = (search.risen < _RISING * steps) | idle
    search.step = torch.where(halve, search.step / 2, search.step)
    search.point = torch.where(column(halve), search.best, search.point)
    search.before = torch.where(column(halve), search.best, search.before)
    search.slope = torch.where(column(halve), search.best_slope, search.slope)
    search.value = torch.where(halve, search.best_value, search.value)
    search.halved, search.checked_value = halve, search.best_value
    search.risen = torch.zeros_like(search.risen)

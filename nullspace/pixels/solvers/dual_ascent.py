"""The projection onto kernel ∩ box as the maximum of a concave function, for many patches at once.

With Q the row space the nearest change of pixels x to w is z = clip(x + w - Q m) - x for the multipliers m (r) at which
Qᵀz = 0; Qᵀz is the gradient of the dual. It is climbed along conjugate directions (Polak and Ribière 1969, restarted
where one does not lead uphill). The slope along a direction d is ⟨z, Q d⟩, which costs no product with Q beyond the one
that moves the point: a step of a secant's length and its gradient are one product each with Q and Qᵀ. Conjugate
directions see the spread of the curvature QᵀDQ, D being the pixels inside the box, which is small as long as most are
inside: 7 steps on average for kernel noise on photographs, where Nesterov's method took 30. It ends what they leave.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from nullspace.kernel.solvers import Ascent

_TOGETHER = 1 << 20  # pixels of a part on a CPU: memory is used again instead of being asked for
_FIRST_STEPS = 10  # within a part of the patches; the few that are left go on together
_CONJUGATE_STEPS = 20  # together; what is open then needs the method that cannot fail
_SET_ASIDE = 0.3  # of the patches must have converged before the others are copied


@dataclass(frozen=True, eq=False)
class Box:
    """Pixels `low` <= x + z <= `high`, each a number or (n,k)."""

    low: Tensor | float = 0.0
    high: Tensor | float = 1.0

    def part(self, chosen: slice | Tensor) -> Box:
        """Of some patches."""
        return Box(*(each[chosen] if isinstance(each, Tensor) else each for each in (self.low, self.high)))

    def clip(self, point: Tensor, out: Tensor | None = None) -> Tensor:
        """The nearest pixels in the box."""
        return torch.clamp(point, self.low, self.high, out=out)  # type: ignore[arg-type]

    @classmethod
    def together(cls, parts: list[Box]) -> Box:
        """Of the patches of several parts."""
        low, high = ([getattr(part, name) for part in parts] for name in ("low", "high"))
        return cls(torch.cat(low), torch.cat(high)) if isinstance(low[0], Tensor) else parts[0]


@dataclass(eq=False)
class Answers:
    """What is known of every patch so far: pixels x + z (n,k), multipliers (n,r), the norm (n,) of Qᵀz; steps taken."""

    pixels: Tensor
    multiplier: Tensor
    residual: Tensor
    tolerance: float
    steps: int = 0

    def note(self, where: Tensor | slice, pixels: Tensor, multiplier: Tensor, residual: Tensor) -> None:
        """Results of the patches at `where`."""
        self.pixels[where], self.multiplier[where], self.residual[where] = pixels, multiplier, residual


@dataclass(eq=False)
class Climb:
    """Patches on their way; `point` is x + w - Qm, `seen` Qᵀx, `step` the last step's length, `where` their places."""

    box: Box
    point: Tensor  # (n,k)
    multiplier: Tensor  # (n,r)
    seen: Tensor
    gradient: Tensor
    direction: Tensor
    step: Tensor  # (n,1)
    where: Tensor  # (n,)

    def subset(self, keep: Tensor) -> Climb:
        """Those that a mask (n,) names."""
        if bool(keep.all()):
            return self
        chosen = keep.nonzero().squeeze(-1)
        return Climb(self.box.part(chosen), *(each[chosen] for each in self._tensors))

    @classmethod
    def together(cls, parts: list[Climb]) -> Climb:
        """All of several parts."""
        tensors = (torch.cat(each) for each in zip(*(part._tensors for part in parts), strict=True))
        return cls(Box.together([part.box for part in parts]), *tensors)

    @property
    def _tensors(self) -> tuple[Tensor, ...]:
        return self.point, self.multiplier, self.seen, self.gradient, self.direction, self.step, self.where


def project(pixels: Tensor, wanted: Tensor, box: Box, rows: Tensor, *, iterations: int, tolerance: float) -> Answers:
    """Pixels (n,k) in the box whose change z from `pixels` is nearest to `wanted` with Qᵀz = 0, Q being `rows` (k,r).

    A patch ends when the norm of Qᵀz is at most `tolerance`, all of them after `iterations` steps.
    """
    multiplier = wanted.new_empty(len(wanted), rows.shape[1])
    answers = Answers(torch.empty_like(wanted), multiplier, wanted.new_empty(len(wanted)), tolerance)
    size = len(wanted) if wanted.device.type != "cpu" else _TOGETHER // wanted.shape[1]
    begun = min(_FIRST_STEPS, iterations)
    parts: list[Climb] = []
    for first in range(0, len(wanted), max(1, size)):
        part = slice(first, first + max(1, size))
        begin = _start(pixels[part], wanted[part], box.part(part), rows, answers, part)
        left, steps = climb(begin, rows, answers, begun)
        parts, answers.steps = [*parts, left], max(answers.steps, steps)
    for way, most in ((climb, _CONJUGATE_STEPS), (settle, iterations)):
        if any(len(part.where) for part in parts) and answers.steps < iterations:
            left, steps = way(Climb.together(parts), rows, answers, min(most, iterations - answers.steps))
            parts, answers.steps = [left], answers.steps + steps
    return answers


def _start(pixels: Tensor, wanted: Tensor, box: Box, rows: Tensor, answers: Answers, part: slice) -> Climb:
    """From the multipliers of the plain projection onto the kernel: exact when the box is never touched."""
    multiplier = wanted @ rows
    point = torch.addmm(wanted, multiplier, rows.T, alpha=-1).add_(pixels)
    seen = pixels @ rows
    inside = box.clip(point)
    gradient = inside @ rows - seen
    residual = torch.linalg.vector_norm(gradient, dim=-1)
    answers.note(part, inside, multiplier, residual)
    where = torch.arange(part.start, part.start + len(wanted), device=wanted.device)
    begin = Climb(box, point, multiplier, seen, gradient, gradient, torch.ones_like(gradient[:, :1]), where)
    return begin.subset(residual > answers.tolerance)


def climb(now: Climb, rows: Tensor, answers: Answers, steps: int) -> tuple[Climb, int]:
    """Up to `steps` steps, each answer noted when its patch gets there; the patches still open, and the steps taken."""
    open_ = torch.ones_like(now.where, dtype=torch.bool)
    used, inside = 0, torch.empty_like(now.point)
    while used < steps and len(now.where):
        used += 1
        _move(now, now.direction @ rows.T, inside)
        following = torch.addmm(now.seen, inside, rows, beta=-1)
        size = torch.linalg.vector_norm(following, dim=-1)
        arrived = (open_ & (size <= answers.tolerance)).nonzero().squeeze(-1)
        if len(arrived):
            answers.note(now.where[arrived], inside[arrived], now.multiplier[arrived], size[arrived])
            open_[arrived] = False
        now.direction = _conjugate(now.gradient, following, now.direction)
        now.gradient = following
        if used == steps:
            answers.note(now.where[open_], inside[open_], now.multiplier[open_], size[open_])
        elif len(arrived) and float(open_.double().mean()) <= 1 - _SET_ASIDE:
            now, open_ = now.subset(open_), open_[open_]
            inside = torch.empty_like(now.point)
    return now.subset(open_), used


def settle(now: Climb, rows: Tensor, answers: Answers, steps: int) -> tuple[Climb, int]:
    """As `climb` by Nesterov's method with steps of length 1, which the curvature allows everywhere.

    For patches whose best multipliers lie far away or at infinity, where nearly all pixels are at an end of the box and
    conjugate directions jump between its faces. The best answer of all steps is kept.
    """
    ascent, origin, used = Ascent.start(now.multiplier), now.point + now.multiplier @ rows.T, 0
    while used < steps and len(now.where):
        used += 1
        inside = now.box.clip(torch.addmm(origin, ascent.ahead, rows.T, alpha=-1))
        gradient = torch.addmm(now.seen, inside, rows, beta=-1)
        size = torch.linalg.vector_norm(gradient, dim=-1)
        better = (size < answers.residual[now.where]).nonzero().squeeze(-1)
        answers.note(now.where[better], inside[better], ascent.ahead[better], size[better])
        ascent = ascent.climbed(gradient, 1.0)
        open_ = size > answers.tolerance
        if not bool(open_.all()):
            now, ascent, origin = now.subset(open_), ascent.subset(open_), origin[open_]
    return now, used


def _move(now: Climb, lifted: Tensor, inside: Tensor) -> None:
    """Go along `lifted` (n,k) to where the slope would vanish by a secant; `inside` becomes the point clipped there."""
    slope = _dot(now.gradient, now.direction)
    torch.addcmul(now.point, lifted, now.step, value=-1, out=inside)
    now.box.clip(inside, out=inside)
    fallen = slope - (_dot(inside, lifted) - _dot(now.seen, now.direction))
    # Where every pixel is at its end the slope does not fall, and where it hardly does rounding decides by how much.
    now.step = now.step * torch.where(fallen > 0, slope / fallen, 5).clamp(0.2, 5)
    now.multiplier = now.multiplier + now.step * now.direction
    now.point.addcmul_(lifted, now.step, value=-1)
    now.box.clip(now.point, out=inside)


def _conjugate(gradient: Tensor, following: Tensor, direction: Tensor) -> Tensor:
    tiny = torch.finfo(gradient.dtype).tiny
    kept = _dot(following, following - gradient) / _dot(gradient, gradient).clamp(min=tiny)
    turned = following + kept.clamp(min=0) * direction
    return torch.where(_dot(following, turned) > 0, turned, following)


def _dot(one: Tensor, other: Tensor) -> Tensor:
    """Inner products (n,1) of rows."""
    return (one * other).sum(dim=-1, keepdim=True)

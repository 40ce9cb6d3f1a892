"""Noise that leaves the prediction as it is and moves its explanation: away from where it was, or to a wanted map.

Ghorbani et al. (AAAI 2019) and Dombrowski et al. (NeurIPS 2019) did so for convolutional networks. Here what is
reported, Spearman's correlation over tokens, is what is descended on, by ranks made soft; the prediction is held by a
weight that each picture finds for itself; and what is returned are the file's 8-bit pixels, measured as such.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from nullspace.attribution.compare import correlation, spearman
from nullspace.attribution.maps import TokenMap
from nullspace.errors import NullspaceError
from nullspace.fooling.ball import LEVELS, Ball
from nullspace.metrics.draws import Draws
from nullspace.model.preprocessing import check_images
from nullspace.model.shapes import Float
from nullspace.model.vit import SplitViT

STEPS = 40
LIMIT = 0.01  # of the squared change of the probabilities
MOMENTUM = 0.9
FIRST_STEP, LAST_STEP, DECAY = 0.5, 0.05, 1.5  # of the ball's reach, and power of the share of steps that are left
SOFTNESS = 0.1  # of a map's standard deviation: differences below it count in part
FIRST_WEIGHT, FASTER, SLOWER = 1.0, 1.5, 0.9  # of what holds the prediction, and how it grows and shrinks
_TINY = 1e-12


@dataclass(frozen=True, eq=False)
class MovedMaps:
    """Pictures `saved` (B,3,H,W) uint8 with the predictions of their images, and another explanation.

    `likeness` (B,) is Spearman's correlation of the saved picture's map with the image's, or with the wanted one;
    `change` (B,) the squared change of the probabilities; `kept` (B,) whether the class stayed.
    """

    saved: Tensor
    likeness: Tensor
    change: Tensor
    kept: Tensor


def move_map(
    model: SplitViT,
    images: Float[Tensor, "B 3 H W"],
    classes: Tensor,
    found: TokenMap,
    draws: Draws,
    *,
    epsilon: float,
    towards: Float[Tensor, "B N"] | None = None,
    steps: int = STEPS,
    limit: float = LIMIT,
) -> MovedMaps:
    """Pictures within `epsilon` (Linf, relative to the pixel range) of the images, whose map `found` is another one.

    The map is that of `classes` (B,), the clean ones, and goes away from the image's, or `towards` wanted maps (B,N).
    Of all pictures visited the one is kept whose map is furthest on its way among those that keep their class and
    change probabilities by at most `limit`, ‖Δp‖². `steps` passes, each forward, back and back again; `draws` are keyed
    by the images' ids and give the start, as an image itself is where its likeness to itself is flat. Raises
    NullspaceError, ImageRangeError.
    """
    check_images(images, model.preprocessing.input_size, check_range=True)
    if steps < 1 or not limit > 0:
        raise NullspaceError(f"expected steps >= 1 and limit > 0, got {steps} and {limit}")
    images = images.detach().float()
    before = found(model, images, classes).detach()
    if towards is not None and towards.shape != before.shape:
        raise NullspaceError(f"expected wanted maps of shape {tuple(before.shape)}, got {tuple(towards.shape)}")
    ball = Ball.around(images, epsilon=epsilon)
    search = _Search(model, ball, classes, found, before if towards is None else towards.to(before), towards is None)
    search.here = ball.nearest(ball.centre + ball.reach / 2 * draws.to(images.device).signs(*images.shape[1:]))
    for step in range(steps):
        search.step(max(FIRST_STEP * ((steps - step) / steps) ** DECAY, LAST_STEP), limit)
    saved = ball.rounded(search.best)
    pictures = saved / LEVELS
    with torch.no_grad():
        logits = model(pictures)
    change = search.change(logits)
    likeness = spearman(found(model, pictures, classes), search.goal)
    return MovedMaps(saved.to(torch.uint8), likeness, change, logits.argmax(dim=1) == search.clean.argmax(dim=1))


class _Search:
    """All pictures of a batch on their way."""

    def __init__(self, model: SplitViT, ball: Ball, classes: Tensor, found: TokenMap, goal: Tensor, away: bool) -> None:
        self.model, self.ball, self.classes, self.found, self.goal = model, ball, classes, found, goal
        self.sign = 1.0 if away else -1.0
        self.ranks = soft_ranks(goal)
        with torch.no_grad():
            self.clean = model(ball.centre / LEVELS)
        self.here = self.best = ball.centre.clone()
        self.reached = torch.full((len(goal),), torch.inf, device=goal.device)
        self.weight = torch.full((len(goal),), FIRST_WEIGHT, device=goal.device)
        self.momentum = torch.zeros_like(ball.centre)

    def change(self, logits: Tensor) -> Tensor:
        """Squared change (B,) of the probabilities."""
        return (logits.softmax(dim=1) - self.clean.softmax(dim=1)).square().sum(dim=1)

    def step(self, share: float, limit: float) -> None:
        """Look at the pictures, keep those that are better, and move on."""
        with torch.enable_grad():
            levels = self.here.detach().requires_grad_()
            pictures = levels / LEVELS
            logits = self.model(pictures, check_range=False)
            here = self.found(self.model, pictures, self.classes, create_graph=True)
            likeness = correlation(soft_ranks(here), self.ranks, least=_TINY)
            held = _divergence(self.clean, logits)
            (gradient,) = torch.autograd.grad((self.sign * likeness + self.weight * held).sum(), levels)
        change = self.change(logits.detach())
        same = logits.argmax(dim=1) == self.clean.argmax(dim=1)
        self._keep(self.sign * likeness.detach(), same & (change <= limit / 2))
        # Half the limit is aimed at: the 8-bit picture is another one.
        self.weight = torch.where(change > limit / 2, self.weight * FASTER, self.weight * SLOWER)
        size = gradient.abs().mean(dim=(1, 2, 3), keepdim=True).clamp_min(1e-30)
        self.momentum = MOMENTUM * self.momentum + gradient / size
        self.here = self.ball.nearest(levels.detach() - share * self.ball.reach * self.momentum.sign())

    def _keep(self, reached: Tensor, allowed: Tensor) -> None:
        better = allowed & (reached < self.reached)
        self.reached = torch.where(better, reached, self.reached)
        self.best = torch.where(better[:, None, None, None], self.here, self.best)


def soft_ranks(maps: Float[Tensor, "B N"]) -> Float[Tensor, "B N"]:
    """Ranks (B,N) that can be differentiated: how many entries each one exceeds, near ties counting in part."""
    scale = SOFTNESS * maps.std(dim=1, keepdim=True)[:, :, None] + _TINY
    return ((maps[:, :, None] - maps[:, None, :]) / scale).sigmoid().sum(dim=2)


def _divergence(clean: Tensor, logits: Tensor) -> Tensor:
    """KL(clean ‖ now) (B,) of the probabilities, in nats: it has a slope also where their squared change has none."""
    before, now = clean.log_softmax(dim=1), logits.log_softmax(dim=1)
    return functional.kl_div(now, before, log_target=True, reduction="none").sum(dim=1)

"""Noise that holds the prediction and moves its explanation: away from where it was, or to a wanted map.

Ghorbani et al. (AAAI 2019) and Dombrowski et al. (NeurIPS 2019) did so for convolutional networks. Here what is
reported, Spearman's correlation over tokens, is what is descended on, by ranks made soft; the prediction is held by a
weight that each picture finds for itself; and what is returned is measured as it is handed out: pixels as 8 bits.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from nullspace.attribution.compare import correlation, spearman
from nullspace.attribution.maps import TokenMap
from nullspace.attribution.places import Place
from nullspace.errors import NullspaceError
from nullspace.model.shapes import Float
from nullspace.model.vit import SplitViT

STEPS = 40
LIMIT = 0.01  # of the squared change of the probabilities
MOMENTUM = 0.9
FIRST_STEP, LAST_STEP, DECAY = 0.5, 0.05, 1.5  # of how far noise may go, and power of the share of steps that are left
SOFTNESS = 0.1  # of a map's standard deviation: differences below it count in part
FIRST_WEIGHT, FASTER, SLOWER = 0.1, 1.5, 0.9  # of what holds the prediction; begun at 1 it never lets go of some
_TINY = 1e-12
_WORSE = 10.0  # than any correlation: of two that do not hold the prediction the one that changes it less is better


@dataclass(frozen=True, eq=False)
class MovedMaps:
    """What the search made, `made`: pictures (B,3,H,W) uint8, or noise (B,N,D) on tokens.

    `likeness` (B,) is Spearman's correlation of its map with the image's, or with the wanted one; `change` (B,) the
    squared change of the probabilities; `kept` (B,) whether the class stayed.
    """

    made: Tensor
    likeness: Tensor
    change: Tensor
    kept: Tensor


def move_map(
    model: SplitViT,
    images: Float[Tensor, "B 3 H W"],
    found: TokenMap,
    place: Place,
    *,
    towards: Float[Tensor, "B N"] | None = None,
    steps: int = STEPS,
    limit: float = LIMIT,
) -> MovedMaps:
    """Noise in `place` under which the model says of it what it says of `images`, and `found` gives another map.

    The map is that of the images' classes, as the model sees them clean. It goes away from the images' own map, or
    `towards` wanted maps (B,N). `place` is `PixelPlace.around` the images, or around other pictures, which then become
    the images to the model; or `TokenPlace.of` the images. Of all noise visited that is kept whose map is furthest on
    its way among what keeps the class and changes probabilities by at most `limit`, ‖Δp‖². `steps` passes, each
    forward, back and back again. Raises NullspaceError.
    """
    if steps < 1 or not limit > 0:
        raise NullspaceError(f"expected steps >= 1 and limit > 0, got {steps} and {limit}")
    search = _Search(model, images.detach(), found, place, towards)
    for step in range(steps):
        search.step(max(FIRST_STEP * ((steps - step) / steps) ** DECAY, LAST_STEP), limit)
    return search.result()


class _Search:
    """All images of a batch on their way."""

    def __init__(self, model: SplitViT, images: Tensor, found: TokenMap, place: Place, towards: Tensor | None) -> None:
        self.model, self.found, self.place = model, found, place
        with torch.no_grad():
            self.clean = model(images)
        self.classes = self.clean.argmax(dim=1)
        own = found(model, images, self.classes).detach()
        if towards is not None and towards.shape != own.shape:
            raise NullspaceError(f"expected wanted maps of shape {tuple(own.shape)}, got {tuple(towards.shape)}")
        self.goal, self.sign = (own, 1.0) if towards is None else (towards.detach().to(own), -1.0)
        self.ranks = soft_ranks(self.goal)
        self.here = self.best = place.start
        self.reached = torch.full((len(own),), torch.inf, device=own.device)
        self.weight = torch.full((len(own),), FIRST_WEIGHT, device=own.device)
        self.momentum = torch.zeros_like(self.here)

    def step(self, share: float, limit: float) -> None:
        """Look at what is here, keep what is better, and move on."""
        with torch.enable_grad():
            values = self.here.detach().requires_grad_()
            with self.place.seen(self.model, values) as pictures:
                with _answers(self.model) as answers:
                    here = self.found(self.model, pictures, self.classes, create_graph=True)
                # Most maps take one pass, of the pictures themselves, whose answer need not be computed again.
                logits = answers[0] if len(answers) == 1 else self.model(pictures, check_range=False)
                likeness = correlation(soft_ranks(here), self.ranks, least=_TINY)
                held = _divergence(self.clean, logits)
                # Within it, because whatever a map computes again for its slope is to see the noise, too.
                (slope,) = torch.autograd.grad((self.sign * likeness + self.weight * held).sum(), values)
        change = self._change(logits.detach())
        allowed = self._kept(logits) & (change <= limit)
        self._keep(torch.where(allowed, self.sign * likeness.detach(), _WORSE + change))
        # Half the limit is aimed at, so that steps to both sides of it are allowed.
        self.weight = torch.where(change > limit / 2, self.weight * FASTER, self.weight * SLOWER)
        size = slope.abs().mean(dim=tuple(range(1, slope.ndim)), keepdim=True).clamp_min(1e-30)
        self.momentum = MOMENTUM * self.momentum + slope / size
        self.here = self.place.moved(values.detach(), self.momentum, share)

    def result(self) -> MovedMaps:
        """What was best, as it is handed out, and measured so."""
        made = self.place.kept(self.best)
        with self.place.seen(self.model, made) as pictures:
            with torch.no_grad():
                logits = self.model(pictures)
            likeness = spearman(self.found(self.model, pictures, self.classes), self.goal)
        return MovedMaps(self.place.handed(made), likeness, self._change(logits), self._kept(logits))

    def _change(self, logits: Tensor) -> Tensor:
        """Squared change (B,) of the probabilities."""
        return (logits.softmax(dim=1) - self.clean.softmax(dim=1)).square().sum(dim=1)

    def _kept(self, logits: Tensor) -> Tensor:
        return logits.argmax(dim=1) == self.classes

    def _keep(self, reached: Tensor) -> None:
        better = reached < self.reached
        self.reached = torch.where(better, reached, self.reached)
        self.best = torch.where(better.view(-1, *[1] * (self.here.ndim - 1)), self.here, self.best)


def soft_ranks(maps: Float[Tensor, "B N"]) -> Float[Tensor, "B N"]:
    """Ranks (B,N) that can be differentiated: how many entries each one exceeds, near ties counting in part."""
    scale = SOFTNESS * maps.std(dim=1, keepdim=True)[:, :, None] + _TINY
    return ((maps[:, :, None] - maps[:, None, :]) / scale).sigmoid().sum(dim=2)


@contextmanager
def _answers(model: SplitViT) -> Iterator[list[Tensor]]:
    """The logits of every pass of the model within it."""
    found: list[Tensor] = []

    def keep(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
        found.append(output)

    hook = model.register_forward_hook(keep)
    try:
        yield found
    finally:
        hook.remove()


def _divergence(clean: Tensor, logits: Tensor) -> Tensor:
    """KL(clean ‖ now) (B,) of the probabilities, in nats: it has a slope also where their squared change has none."""
    before, now = clean.log_softmax(dim=1), logits.log_softmax(dim=1)
    return functional.kl_div(now, before, log_target=True, reduction="none").sum(dim=1)

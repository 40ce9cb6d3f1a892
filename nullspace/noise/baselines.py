"""The published algorithms for encoder noise, as baselines to compare with: faithful, without their mistakes.

"gradient_descent" is that of the paper (ICLR 2023 submission): rate 0.01, divided by 10 at three rounds. "adamw" is
that of the follow-ups: cosine schedule, ended once the mean squared change of probabilities is below epsilon. Both
start from U(-limit, limit) and leave the norm free. Not taken over: gradients that add up from step to step, the
default weight decay on the noise, and unseeded draws.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from nullspace.errors import NullspaceError
from nullspace.metrics.encoder_data import EncoderData
from nullspace.model.vit import Outputs
from nullspace.noise.batches import Batches
from nullspace.noise.objectives import logits, squared_probabilities

_DEFAULT_RATES = {"gradient_descent": 0.01, "adamw": 0.1}


@dataclass(frozen=True)
class PublishedSettings:
    """Settings of a published algorithm, under its own names; `rounds` are optimiser steps of one batch each.

    `learning_rate` None is the published one (0.01, or 0.1 for AdamW, whose authors used 0.02 to 0.1). `milestones` are
    the shares of the rounds after which gradient descent divides it by 10 (150, 300 and 400 of 500). `epsilon` ends
    AdamW early; None never does.
    """

    algorithm: Literal["gradient_descent", "adamw"] = "gradient_descent"
    limit: float = 0.5
    learning_rate: float | None = None
    rounds: int = 500
    batch_size: int = 256
    milestones: tuple[float, ...] = (0.3, 0.6, 0.8)
    epsilon: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.algorithm not in _DEFAULT_RATES:
            raise NullspaceError(f"expected an algorithm of {', '.join(_DEFAULT_RATES)}, got {self.algorithm!r}")
        for name in ("limit", "rate", "rounds", "batch_size"):
            if not 0 < getattr(self, name) < math.inf:
                raise NullspaceError(f"expected {name} > 0 and finite, got {getattr(self, name)}")
        if self.epsilon is not None and not self.epsilon > 0:
            raise NullspaceError(f"expected epsilon > 0, or None for all rounds, got {self.epsilon}")

    @property
    def rate(self) -> float:
        """The learning rate in use."""
        return _DEFAULT_RATES[self.algorithm] if self.learning_rate is None else self.learning_rate


@dataclass(frozen=True, eq=False)
class PublishedNoise:
    """Noise (N,D) as learned, the loss of every round, and the number of images seen, each once forward and back."""

    noise: Tensor
    losses: tuple[float, ...]
    image_steps: int
    reached_epsilon: bool


def learn_published(
    data: EncoderData,
    settings: PublishedSettings,
    *,
    progress: Callable[[int, Tensor], None] | None = None,
) -> PublishedNoise:
    """Minimise mean_x |Δlogits|₂ over noise (N,D) of free norm.

    Clean outputs are given, not computed again each round, which changes no number. `progress` gets the number of
    images seen and the noise after every round. Raises NullspaceError.
    """
    encoder, states, clean = data.encoder, data.states, data.clean
    generator = torch.Generator().manual_seed(settings.seed)
    noise = ((torch.rand(encoder.noise_shape, generator=generator) * 2 - 1) * settings.limit).to(encoder.device)
    noise.requires_grad_()
    optimiser, schedule = _optimiser(noise, settings)
    batches = Batches(len(states), settings.batch_size, generator)
    losses: list[float] = []
    reached = False
    while len(losses) < settings.rounds and not reached:
        index = batches.next().to(states.device)
        before = Outputs(clean.features[index].to(encoder.device), clean.logits[index].to(encoder.device))
        after = encoder.outputs(encoder.add(states[index].to(encoder.device), noise))
        loss = logits(before, after).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        losses.append(_finite(float(loss.detach()), len(losses) + 1, settings))
        if progress is not None:
            progress(len(losses) * batches.size, noise.detach())
        if settings.algorithm == "adamw" and settings.epsilon is not None:
            reached = float(squared_probabilities(before, after).mean().detach()) < settings.epsilon
    return PublishedNoise(noise.detach(), tuple(losses), len(losses) * batches.size, reached)


def _optimiser(
    noise: Tensor, settings: PublishedSettings
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    if settings.algorithm == "adamw":
        adamw = torch.optim.AdamW([noise], lr=settings.rate, weight_decay=0.0)
        return adamw, torch.optim.lr_scheduler.CosineAnnealingLR(adamw, T_max=settings.rounds)
    descent = torch.optim.SGD([noise], lr=settings.rate)
    milestones = [round(share * settings.rounds) for share in settings.milestones]
    return descent, torch.optim.lr_scheduler.MultiStepLR(descent, milestones, gamma=0.1)


def _finite(loss: float, round_: int, settings: PublishedSettings) -> float:
    if not math.isfinite(loss):
        raise NullspaceError(
            f"the published algorithm diverged in round {round_}: the loss is {loss} (rate {settings.rate}, limit "
            f"{settings.limit}); lower them"
        )
    return loss

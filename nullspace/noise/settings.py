"""How noise is learned: settings that are recorded beside it, and the phases they mean."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from nullspace.errors import NullspaceError
from nullspace.noise.objectives import objective

Precision: TypeAlias = Literal["float32", "bfloat16"]
_CHOICES = {"start": ("channels", "random"), "scope": ("universal", "image"), "precision": get_args(Precision)}


@dataclass(frozen=True)
class RankPhase:
    """Steps `begin` to `end` of learning, at one rank (None: a whole tensor)."""

    begin: int
    end: int
    rank: int | None


@dataclass(frozen=True)
class NoiseSettings:
    """How noise is learned; every value is recorded beside the noise.

    `relative_norm`: norm of every token over the mean token norm of the data, held. `ranks`: the noise is that many
    directions shared by all tokens (see `noise_form`), one rank after the other for equal shares of the `steps`, each
    going on from what the one before found; None is a whole tensor from the start. Ranks above min(N,D) are cut to it.
    `start`: "channels" (see `channel_start`) or "random". `learning_rate`: of each phase's first step, as a share of
    the root mean square of what is learned. `scope`: one noise for all images ("universal"), or one for each ("image").
    `precision`: "bfloat16" runs a copy of the model with weights in bfloat16, also for the clean outputs; noise and
    loss stay float32.
    """

    relative_norm: float = 0.5
    ranks: tuple[int, ...] | None = (1, 4, 16, 64)
    objective: str = "logits"
    start: Literal["channels", "random"] = "channels"
    learning_rate: float = 0.04
    steps: int = 400
    batch_size: int = 16
    scope: Literal["universal", "image"] = "universal"
    precision: Precision = "float32"
    seed: int = 0

    def __post_init__(self) -> None:
        objective(self.objective)
        for name, allowed in _CHOICES.items():
            if getattr(self, name) not in allowed:
                raise NullspaceError(f"expected {name} of {', '.join(allowed)}, got {getattr(self, name)!r}")
        for name in ("relative_norm", "learning_rate", "steps", "batch_size"):
            value = getattr(self, name)
            if not 0 < value < math.inf:
                raise NullspaceError(f"expected {name} > 0 and finite, got {value}")
        if self.scope == "image" and self.start == "channels":
            raise NullspaceError('expected start "random" with scope "image": a channel start is one for all images')
        self._check_ranks()

    def phase(self, step: int) -> RankPhase:
        """The phase that step number `step` (from 0) belongs to; the last one for all beyond the end."""
        if self.ranks is None:
            return RankPhase(0, self.steps, None)
        edges = [round(share * self.steps / len(self.ranks)) for share in range(len(self.ranks) + 1)]
        index = next((i for i, end in enumerate(edges[1:]) if step < end), len(self.ranks) - 1)
        return RankPhase(edges[index], edges[index + 1], self.ranks[index])

    def rate(self, step: int) -> float:
        """Learning rate of a step: a cosine from `learning_rate` to 0 over its phase."""
        phase = self.phase(step)
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - phase.begin) / (phase.end - phase.begin)))

    def _check_ranks(self) -> None:
        if self.ranks is None:
            return
        if self.scope == "image":
            raise NullspaceError(
                f'expected ranks None with scope "image", got {self.ranks}: directions are shared by images'
            )
        if not self.ranks or min(self.ranks) < 1 or list(self.ranks) != sorted(set(self.ranks)):
            raise NullspaceError(f"expected rising ranks >= 1, or None for a whole tensor, got {self.ranks}")
        if len(self.ranks) > self.steps:
            raise NullspaceError(
                f"expected at least one step for each of the ranks {self.ranks}, got {self.steps} steps"
            )

"""Learning noise from start to end at a given relative norm, with an early stop on held-out images.

`growing` asks for the largest norm instead.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

from torch import Tensor

from nullspace.errors import NullspaceError
from nullspace.metrics.encoder_data import EncoderData
from nullspace.metrics.radius import Measurement, measure
from nullspace.metrics.unit import Unit
from nullspace.model.shapes import Float
from nullspace.noise.artifact import NullNoise
from nullspace.noise.learner import NoiseLearner, NoiseSettings


@dataclass(frozen=True, eq=False)
class LearnedNoise:
    """Noise (N,D) or (n,N,D) float32, with how it was obtained.

    `losses` are those of every step; `checks` what was measured on held-out images, by step; `best_step` the step the
    noise is of. `image_steps` counts images run forward and back, the start included.
    """

    noise: Float[Tensor, "*n N D"]
    settings: NoiseSettings
    relative_norm: float
    token_norm: float
    losses: tuple[float, ...]
    checks: tuple[tuple[int, Measurement], ...]
    best_step: int
    stopped_early: bool
    image_steps: int

    def artifact(self, data: EncoderData) -> NullNoise:
        """What can be saved and applied: the noise (N,D) with where it comes from. `data`: as it was learned on."""
        if self.noise.ndim != 2:
            raise NullspaceError(
                "noise that is one per image belongs to those images and has no artifact; save it as is"
            )
        encoder = data.encoder
        return NullNoise.of(
            self.noise,
            Unit(self.token_norm, data.unit.shift_invariant),
            model=encoder.model,
            objective=self.settings.objective,
            seed=self.settings.seed,
            data_fingerprint=data.fingerprint(),
            injection=encoder.injection,
            settings=asdict(self.settings) | {"best_step": self.best_step, "image_steps": self.image_steps},
        )


def learn_noise(
    data: EncoderData,
    settings: NoiseSettings,
    *,
    held_out: EncoderData | None = None,
    check_every: int = 25,
    patience: int | None = None,
    start: Float[Tensor, "*n N D"] | None = None,
    micro_batch: int | None = None,
    progress: Callable[[NoiseLearner, float], None] | None = None,
) -> LearnedNoise:
    """Learn noise of `settings.relative_norm` that changes the outputs of `data` least.

    With `held_out` images the noise of the step that changed their probabilities least is kept, looked at every
    `check_every` steps; with `patience` learning ends after that many looks without a better one. `progress` is shown
    the learner after every step, and the loss. Raises NullspaceError.

    Held-out images matter: at small norms, where the change is nearly linear in the noise, high ranks fit the images
    they are learned on and lose on others.
    """
    if check_every < 1 or (patience is not None and (patience < 1 or held_out is None)):
        raise NullspaceError(
            f"expected check_every >= 1, and patience >= 1 with held_out images, got {check_every} and {patience}"
        )
    if held_out is not None and settings.scope != "universal":
        raise NullspaceError('expected no held_out images with scope "image": that noise is for the images it is of')
    learner = NoiseLearner(data, settings, start=start, micro_batch=micro_batch)
    watch = _Watch(None if held_out is None else replace(held_out, batch_size=settings.batch_size))
    losses: list[float] = []
    stopped = False
    while learner.steps_done < settings.steps and not stopped:
        until_look = min(check_every - learner.steps_done % check_every, settings.steps - learner.steps_done)
        losses += learner.steps(until_look if progress is None else 1)
        if progress is not None:
            progress(learner, losses[-1])
        if learner.steps_done % check_every == 0 or learner.steps_done == settings.steps:
            watch.look(learner)
            stopped = patience is not None and watch.looks_since_best >= patience
    noise = watch.best if watch.best is not None else learner.noise
    return LearnedNoise(
        noise=noise,
        settings=settings,
        relative_norm=data.unit.relative_norm(noise.flatten(0, -2)),
        token_norm=data.unit.token_norm,
        losses=tuple(losses),
        checks=tuple(watch.checks),
        best_step=watch.best_step or learner.steps_done,
        stopped_early=stopped and learner.steps_done < settings.steps,
        image_steps=learner.image_steps,
    )


class _Watch:
    """What held-out images say of the noise, and the best noise so far."""

    def __init__(self, held_out: EncoderData | None) -> None:
        self._held_out = held_out
        self.checks: list[tuple[int, Measurement]] = []
        self.best: Tensor | None = None
        self.best_step = self.looks_since_best = 0
        self._least = float("inf")

    def look(self, learner: NoiseLearner) -> None:
        if self._held_out is None:
            return
        noise = learner.noise
        found = measure(self._held_out, noise)
        self.checks.append((learner.steps_done, found))
        self.looks_since_best += 1
        if found.probability_change < self._least:
            self._least, self.best, self.best_step, self.looks_since_best = (
                found.probability_change, noise, learner.steps_done, 0,
            )  # fmt: skip

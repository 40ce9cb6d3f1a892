"""One trial of the search: learn a noise, and report how large it may be before the model notices."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from ray.tune import Trainable
from safetensors.torch import load_file, save_file

from nullspace.metrics.radius import Radius, null_radius
from nullspace.metrics.unit import Unit
from nullspace.model.encoder import Encoder
from nullspace.noise.learner import NoiseLearner, NoiseSettings
from nullspace.noise.settings import Precision
from pipelines.engine.models import ModelSpec
from pipelines.files import read_json, write_json
from pipelines.stages.search.images import read_images

_STATE, _TENSORS, _NOISE = "state.json", "state.safetensors", "noise.safetensors"


@dataclass(frozen=True)
class TrialData:
    """What all trials of a search share; paths and numbers only, so that it travels in Tune's config."""

    model: dict[str, Any]
    images: str
    device: str
    batch_images: int
    epsilon: float
    report_every: int
    shift_invariant: bool
    token_norm: float
    ranks: tuple[int, ...]
    precision: Precision
    seed: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "ranks", tuple(self.ranks))  # after a kill Tune reads its trials from JSON: a list

    @property
    def unit(self) -> Unit:
        """What relative norms are measured in."""
        return Unit(self.token_norm, self.shift_invariant)


class NoiseTrial(Trainable):
    """Searched: `relative_norm` held per token, `learning_rate` (share of its own size per step), `steps`.

    Reported: `radius`, the relative norm at which the mean squared probability change on validation images reaches
    epsilon. It compares trials of any norm: the noise is scaled to it, so a trial wins by direction, not by size. It is
    that of the best step so far, whose noise is kept: a trial that begins to fit its own images loses nothing.
    """

    def setup(self, config: dict[str, Any]) -> None:
        data = TrialData(**config["data"])
        self.data = data
        self.encoder = Encoder(ModelSpec(**data.model).load(data.device))
        self.parts = read_images(data.images, ("learn", "validation"), self.encoder, data.unit, data.batch_images)
        self._begin(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next trial into this process: the model and the tokens stay."""
        if TrialData(**new_config["data"]) != self.data:  # after False Tune would wait for this process forever
            return False
        self._begin(new_config)
        return True

    def _begin(self, config: dict[str, Any]) -> None:
        self.loss: float | None = None
        self.best: dict[str, Any] = {}
        self.best_noise: torch.Tensor | None = None
        self.settings = trial_settings(config, self.data)
        self.learner = NoiseLearner(self.parts["learn"], self.settings)

    def step(self) -> dict[str, Any]:
        left = self.settings.steps - self.learner.steps_done
        losses = self.learner.steps(min(self.data.report_every, left))
        if losses:  # none are left when a kill came between a trial's last checkpoint and its end
            self.loss = sum(losses) / len(losses)
            self._compare(self.learner.noise)
        done = self.learner.steps_done >= self.settings.steps
        return {"step": self.learner.steps_done, "loss": self.loss, **self.best, "done": done}

    def _compare(self, noise: torch.Tensor) -> None:
        """Keep the noise when its radius is the largest so far."""
        radius = self._radius(noise)
        norm = self.data.unit.relative_norm(noise)
        if self.best_noise is None or radius.scale * norm > self.best["radius"]:
            self.best_noise = noise
            self.best = {
                "radius": radius.scale * norm,
                "scale": radius.scale,
                "probability_change": radius.probability_change,
                "agreement": radius.agreement,
                "capped": int(radius.capped),
                "best_step": self.learner.steps_done,
            }

    def _radius(self, noise: torch.Tensor) -> Radius:
        with torch.no_grad():
            return null_radius(self.parts["validation"], noise, epsilon=self.data.epsilon)

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        state = self.learner.state_dict()
        tensors = {name: value.contiguous() for name, value in state.items() if isinstance(value, torch.Tensor)}
        save_file(tensors, Path(checkpoint_dir, _TENSORS))
        counts = {name: value for name, value in state.items() if not isinstance(value, torch.Tensor)}
        write_json(Path(checkpoint_dir, _STATE), {"loss": self.loss, "best": self.best, "learner": counts})
        if self.best_noise is not None:
            save_file({"noise": self.best_noise.cpu().contiguous()}, Path(checkpoint_dir, _NOISE))

    def load_checkpoint(self, checkpoint: str | dict[str, Any] | None) -> None:
        folder = Path(str(checkpoint))
        state = read_json(folder / _STATE)
        self.loss, self.best = state["loss"], state["best"]
        self.best_noise = read_noise(folder).to(self.encoder.device) if self.best else None
        self.learner.load_state_dict({**load_file(folder / _TENSORS), **state["learner"]})


def read_noise(checkpoint: Path) -> torch.Tensor:
    """The noise (N,D) of a trial's best step, as it was learned."""
    return load_file(checkpoint / _NOISE)["noise"]


def trial_settings(config: dict[str, Any], data: TrialData) -> NoiseSettings:
    """Settings of the learner for the values a trial was given."""
    return NoiseSettings(
        relative_norm=config["relative_norm"],
        ranks=data.ranks,
        learning_rate=config["learning_rate"],
        steps=int(config["steps"]),
        batch_size=data.batch_images,
        precision=data.precision,
        seed=data.seed,
    )

"""The learned noise and its controls of equal norm, drawn for each image by its id."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from nullspace.metrics import controls
from nullspace.metrics.draws import Draws
from nullspace.noise.artifact import NullNoise

CONDITIONS = ("learned", "permuted", "gaussian")


@dataclass(frozen=True)
class TokenNoise:
    """The learned noise and its controls, drawn anew for every image so that no result depends on one draw."""

    noise: NullNoise
    seed: int

    def draw(self, condition: str, ids: list[str], device: torch.device) -> Tensor:
        """Noise of a condition for each image: (n,N,D)."""
        noise = self.noise.tensor.to(device)
        if condition == "learned":
            return noise.expand(len(ids), -1, -1)
        control = {"permuted": controls.permuted, "gaussian": controls.gaussian}[condition]
        # Held per token: relative norm and spread of the control are then exactly those of the noise.
        draws = Draws(self.seed, condition, ids)
        return control(noise, draws, shift_invariant=self.noise.shift_invariant, hold="token")

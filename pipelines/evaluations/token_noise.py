"""The learned noise and its controls of equal norm, drawn for each image by its id."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from nullspace.metrics import controls
from nullspace.metrics.draws import Draws
from nullspace.noise.artifact import NullNoise
from pipelines.data.split import Split
from pipelines.engine.stage import Done

CONDITIONS = ("learned", "permuted", "gaussian")


@dataclass(frozen=True)
class TokenNoise:
    """The learned noise and its controls, drawn for every image so that no result depends on one draw."""

    noise: NullNoise
    split: Split

    @classmethod
    def found(cls, searched: Done) -> TokenNoise:
        """What a finished search found."""
        return cls(NullNoise.load(searched.folder / "noise.safetensors"), Split(**searched.result["split"]))

    def parts(self, ids: list[str]) -> dict[str, list[str]]:
        """The column `split` of rows: what each image was to the search; see `tested`."""
        return {"split": [self.split.part(id_) for id_ in ids]}

    def draw(self, condition: str, ids: list[str], device: torch.device) -> Tensor:
        """Noise of a condition for each image: (n,N,D)."""
        noise = self.noise.tensor.to(device)
        if condition == "learned":
            return noise.expand(len(ids), -1, -1)
        control = {"permuted": controls.permuted, "gaussian": controls.gaussian}[condition]
        # Held per token: relative norm and spread of the control are then exactly those of the noise.
        draws = Draws(self.split.seed, condition, ids)
        return control(noise, draws, shift_invariant=self.noise.shift_invariant, hold="token")


def tested(rows: pa.Table) -> pa.Table:
    """Of rows with a column `split` those of images on which the noise was not learned, ranked or calibrated."""
    return rows.filter(pc.field("split") == "test")

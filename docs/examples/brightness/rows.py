"""Does the model notice a step of brightness? Every image brighter and darker, beside itself as the control."""

from __future__ import annotations

from collections.abc import Iterator

from pipelines.evaluations.base import Columns, Evaluation, EvaluationShards, ImageBatch, outcome_columns
from pipelines.evaluations.brightness.settings import BrightnessSettings
from pipelines.evaluations.tallies import OutcomeTally

CONDITIONS = {"brighter": 1, "darker": -1, "unchanged": 0}


class BrightnessShards(EvaluationShards[BrightnessSettings]):
    """Adds a step to the pixels of a shard, within [0,1], and asks the model."""

    def conditions(self, batch: ImageBatch) -> Iterator[tuple[str, Columns]]:
        for name, sign in CONDITIONS.items():
            changed = (batch.images + sign * self.settings.step).clamp(0, 1)
            yield name, outcome_columns(batch.before, self.outputs(changed))


EVALUATION = Evaluation(
    name="brightness",
    version=1,
    settings=BrightnessSettings,
    worker=BrightnessShards,
    tallies=lambda asked: {name: OutcomeTally() for name in CONDITIONS},
    headlines=("brighter.agreement", "darker.agreement"),
)

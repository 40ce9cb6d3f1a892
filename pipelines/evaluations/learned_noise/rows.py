"""Does the model notice the learned noise? Added to the tokens of every image, beside controls of equal norm."""

from __future__ import annotations

from collections.abc import Iterator

from pipelines.evaluations.base import (
    Asked,
    Columns,
    Evaluation,
    EvaluationShards,
    ImageBatch,
    as_float,
    outcome_columns,
)
from pipelines.evaluations.learned_noise.settings import LearnedNoiseSettings
from pipelines.evaluations.tallies import OutcomeTally
from pipelines.evaluations.token_noise import CONDITIONS, TokenNoise, tested


class LearnedNoiseShards(EvaluationShards[LearnedNoiseSettings]):
    """Adds the learned noise, and its controls, to the tokens of a shard's images."""

    def __init__(self, out: str, asked: Asked[LearnedNoiseSettings], device: str, with_examples: str) -> None:
        super().__init__(out, asked, device, with_examples)
        self.noise = TokenNoise.found(asked.inputs["search"])

    def conditions(self, batch: ImageBatch) -> Iterator[tuple[str, Columns]]:
        tokens = self.model.tokens(batch.images)
        parts = self.noise.parts(batch.ids)
        for condition in CONDITIONS:
            noised = tokens + self.noise.draw(condition, batch.ids, self.device)
            after = as_float(self.model.outputs_from_tokens(noised))
            yield condition, parts | outcome_columns(batch.before, after)


EVALUATION = Evaluation(
    name="learned_noise",
    version=2,
    settings=LearnedNoiseSettings,
    worker=LearnedNoiseShards,
    tallies=lambda asked: {name: OutcomeTally(only=tested) for name in CONDITIONS},
    needs=("search",),
    from_inputs=lambda asked: {name: asked.inputs["search"].result[name] for name in ("relative_norm", "epsilon")},
    headlines=("learned.agreement", "learned.mse_probabilities", "permuted.agreement"),
)

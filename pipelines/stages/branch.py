"""What the stages of one model have in common: the model, the images it reads, the seed, and what they work with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pipelines.data.sources import Source
from pipelines.engine.machines.compute import Compute
from pipelines.engine.models import ModelFacts, ModelSpec
from pipelines.engine.stage import Context, Stage
from pipelines.tracking.tracker import Tracker


@dataclass(frozen=True)
class Means:
    """What the stages work with, none of which decides their results."""

    source: Source
    compute: Compute
    tracker: Tracker


@dataclass(frozen=True)
class Branch:
    """One model, for which stages are made."""

    facts: ModelFacts
    seed: int
    ingested: Stage
    means: Means
    models: Mapping[str, ModelSpec] = field(default_factory=dict)
    """All models of the run, by label: a question may also ask other models."""

    def stage(
        self,
        name: str,
        version: int,
        settings: Mapping[str, Any],
        inputs: Mapping[str, Stage],
        make: Callable[[Context], dict[str, Any]],
        *,
        data: str = "",
        headlines: Mapping[str, str] | None = None,
        tracked: Callable[[str], bool] = lambda place: True,
    ) -> Stage:
        """A stage of this model: the ingest is among its inputs, the weights among what decides its result."""
        spec = self.facts.spec
        decides = {"name": spec.name, "weights_sha256": spec.weights_sha256, **settings}
        if spec.args:  # pooling and normalisation decide results and are in no weights
            decides["model_args"] = dict(spec.args)
        inputs = {"ingest": self.ingested, **inputs}
        return Stage(
            name, version, decides, inputs, make, branch=spec.label, data=data, headlines=dict(headlines or {}),
            tracked=tracked,
        )  # fmt: skip

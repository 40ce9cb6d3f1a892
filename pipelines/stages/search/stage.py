"""The stage that finds the noise: what decides it, and its trials written to MLflow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nullspace.metrics.sample_size import images_needed
from pipelines.data.split import require_images
from pipelines.engine.stage import Check, Context, Stage
from pipelines.settings import deciding
from pipelines.stages.branch import Branch
from pipelines.stages.search.settings import SearchSettings
from pipelines.stages.search.tables import SEARCHED
from pipelines.stages.search.tuning import Search, search
from pipelines.tracking.trial_runs import TrialCallback, reconnect

VERSION = 6


def search_stage(branch: Branch, settings: SearchSettings, inputs: Mapping[str, Stage]) -> Stage:
    """The stage of one model; `inputs` are its reference and its kernel."""

    def make(context: Context) -> dict[str, Any]:
        return _recorded(context, branch, settings, f"{branch.facts.spec.label}-{stage.fingerprint[:12]}")

    decides = {"seed": branch.seed, **deciding(settings)}
    headlines = {"relative_norm": "relative_norm", "guaranteed_mse_probabilities": "guarantee.bound"}
    stage = branch.stage("search", VERSION, decides, inputs, make, data="training", headlines=headlines)
    return stage


def enough_images(settings: SearchSettings) -> Check:
    """A check of the ingest result, before any model runs: raises ConfigError where a part of the search gets none."""

    def check(result: dict[str, Any]) -> None:
        require_images(
            result["images"],
            learn=settings.learn_images,
            validation=settings.validation_images,
            calibration=settings.calibration_images,
            fewest=images_needed(settings.epsilon, settings.confidence),
        )

    return check


def _recorded(context: Context, branch: Branch, settings: SearchSettings, study: str) -> dict[str, Any]:
    """The search, with each of its trials written to MLflow."""
    means = branch.means
    means.compute.start()
    writer = [TrialCallback(means.tracker, context.run_id, searched=SEARCHED, steps="steps")]

    def restored(tuner: Any) -> None:
        writer[0] = reconnect(tuner, means.tracker)

    plan = Search(
        facts=branch.facts,
        settings=settings,
        seed=branch.seed,
        device=means.compute.device,
        workers=context.workers(),
        study=study,
        callbacks=writer,
        restored=restored,
        written=lambda: writer[0].flush(),
    )
    return search(context, plan)

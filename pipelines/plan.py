"""The order of work: which stages a config means, what each reads, and what each does."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pipelines import evaluate, ingest, kernel, reference, search, watermark
from pipelines.compute import Compute
from pipelines.config import PipelineConfig
from pipelines.marks import logo_digest
from pipelines.models import ModelFacts
from pipelines.sources import Source
from pipelines.stages import Context, Stage
from pipelines.tracking import Tracker
from pipelines.trials import TrialCallback, reconnect


@dataclass(frozen=True)
class Plan:
    """All stages but the report: `ingests` by preprocessing key, `branches` by model label and then stage name."""

    ingests: Mapping[str, Stage]
    branches: Mapping[str, Mapping[str, Stage]]

    def in_order(self) -> list[Stage]:
        return [*self.ingests.values(), *(stage for branch in self.branches.values() for stage in branch.values())]


@dataclass(frozen=True)
class Means:
    """What the stages work with, none of which decides their results."""

    source: Source
    compute: Compute
    tracker: Tracker


def make_plan(config: PipelineConfig, models: list[ModelFacts], source_digest: str, means: Means) -> Plan:
    """Stages for all models; models of equal preprocessing share one ingest."""
    ingests: dict[str, Stage] = {}
    branches: dict[str, Mapping[str, Stage]] = {}
    for facts in models:
        key = facts.preprocessing.key()
        if key not in ingests:
            ingests[key] = _ingest(config, facts, source_digest, means)
        branches[facts.spec.label] = _branch(config, facts, ingests[key], means)
    return Plan(ingests, branches)


def _ingest(config: PipelineConfig, facts: ModelFacts, source_digest: str, means: Means) -> Stage:
    settings = config.ingest

    def make(context: Context) -> dict[str, Any]:
        return ingest.ingest(
            context,
            source=means.source,
            preprocessing=facts.preprocessing,
            settings=settings,
            spread=means.compute.spread(),
        )

    return Stage(
        name="ingest",
        branch=facts.preprocessing.key(),
        version=ingest.VERSION,
        # The tolerated share of errors is checked each time, but changes no shard.
        settings={
            "source": source_digest,
            "preprocessing": facts.preprocessing.key(),
            **settings.model_dump(mode="json", exclude={"max_error_fraction"}),
        },
        inputs={},
        make=make,
        accept=ingest.tolerates(settings.max_error_fraction),
    )


def _branch(config: PipelineConfig, facts: ModelFacts, ingested: Stage, means: Means) -> dict[str, Stage]:
    weights = {"name": facts.spec.name, "weights_sha256": facts.spec.weights_sha256}

    def stage(
        module: Any, name: str, settings: Mapping[str, Any], inputs: Mapping[str, Stage], make: Callable[..., Any]
    ) -> Stage:
        inputs = {"ingest": ingested, **inputs}
        said = {**weights, **settings}
        return Stage(name, module.VERSION, said, inputs, make, branch=facts.spec.label)

    def arguments(batch_images: int) -> dict[str, Any]:
        return {"model": facts.spec, "device": means.compute.device, "batch_images": batch_images}

    clean = stage(
        reference,
        "reference",
        {},
        {},
        lambda context: reference.reference(
            context, arguments=arguments(config.evaluate.batch_images), spread=means.compute.spread()
        ),
    )
    exact = stage(
        kernel,
        "kernel",
        {"rtol": config.kernel.rtol},
        {},
        lambda context: kernel.kernel(context, model=facts.spec.load("cpu"), rtol=config.kernel.rtol),
    )
    searched = stage(
        search,
        "search",
        {"seed": config.seed, **config.search.model_dump(mode="json", exclude={"max_concurrent"})},
        {"reference": clean, "kernel": exact},
        lambda context: _search(context, config, facts, searched.fingerprint, means),
    )
    evaluated = stage(
        evaluate,
        "evaluate",
        {"rms": config.kernel.rms, "examples": config.evaluate.examples, "rtol": config.kernel.rtol},
        {"reference": clean, "search": searched},
        lambda context: evaluate.evaluate(
            context,
            arguments=arguments(config.evaluate.batch_images) | {"rtol": config.kernel.rtol},
            rms=config.kernel.rms,
            examples=config.evaluate.examples,
            spread=means.compute.spread(),
        ),
    )
    marked = stage(
        watermark,
        "watermark",
        {"rtol": config.kernel.rtol, "seed": config.seed, **_mark_settings(config)},
        {"reference": clean, "kernel": exact},
        lambda context: watermark.watermark(
            context,
            arguments=arguments(config.watermark.batch_images) | {"rtol": config.kernel.rtol, "seed": config.seed},
            settings=config.watermark,
            spread=means.compute.spread(),
        ),
    )
    return {"reference": clean, "kernel": exact, "search": searched, "evaluate": evaluated, "watermark": marked}


def _mark_settings(config: PipelineConfig) -> dict[str, Any]:
    settings = config.watermark.model_dump(mode="json", exclude={"batch_images"})
    return settings | {"logo": logo_digest(config.watermark.logo)}


def _search(
    context: Context, config: PipelineConfig, facts: ModelFacts, fingerprint: str, means: Means
) -> dict[str, Any]:
    writer = [TrialCallback(means.tracker, context.run_id, searched=search.SEARCHED, steps="steps")]

    def restored(tuner: Any) -> None:
        writer[0] = reconnect(tuner, means.tracker)

    plan = search.Search(
        facts=facts,
        settings=config.search,
        seed=config.seed,
        device=means.compute.device,
        spread=means.compute.spread(),
        study=f"{facts.spec.label}-{fingerprint[:12]}",
        callbacks=writer,
        restored=restored,
        written=lambda: writer[0].flush(),
    )
    return search.search(context, plan)

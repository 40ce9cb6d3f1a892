"""The order of work: which stages a config means, what each reads, and what each does."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from nullspace.metrics.sample_size import images_needed
from pipelines.configs.pipeline import PipelineConfig
from pipelines.data.sources import Source
from pipelines.data.split import require_images
from pipelines.engine.compute import Compute
from pipelines.engine.models import ModelFacts
from pipelines.engine.stage import Context, Stage
from pipelines.evaluations.learned_noise import rows as evaluate
from pipelines.evaluations.visible_watermark import rows as watermark
from pipelines.evaluations.visible_watermark.mark import logo_digest
from pipelines.stages.ingest import stage as ingest
from pipelines.stages.kernel import stage as kernel
from pipelines.stages.reference import class_numbers
from pipelines.stages.reference import stage as reference
from pipelines.stages.search import stage as search
from pipelines.stages.search.tables import SEARCHED
from pipelines.tracking.tracker import Tracker
from pipelines.tracking.trial_runs import TrialCallback, reconnect


@dataclass(frozen=True)
class Plan:
    """All stages but the report: `ingests` by preprocessing key, `branches` by model label and then stage name."""

    ingests: Mapping[str, Stage]
    branches: Mapping[str, Mapping[str, Stage]]

    def only(self, labels: Collection[str]) -> Plan:
        """The plan of some of its models."""
        return Plan(self.ingests, {label: branch for label, branch in self.branches.items() if label in labels})

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
        branches[facts.spec.label] = Branch(config, facts, ingests[key], means).stages()
    return Plan(ingests, branches)


def _ingest(config: PipelineConfig, facts: ModelFacts, source_digest: str, means: Means) -> Stage:
    settings = config.ingest

    def make(context: Context) -> dict[str, Any]:
        return ingest.ingest(
            context,
            source=means.source,
            preprocessing=facts.preprocessing,
            settings=settings,
            spread=context.spread(),
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
        accept=_acceptable(config),
    )


def _acceptable(config: PipelineConfig) -> Callable[[dict[str, Any]], None]:
    """A check of the ingest result, before any model runs: few enough errors, and images for all parts of a search."""
    tolerated, settings = ingest.tolerates(config.ingest.max_error_fraction), config.search

    def check(result: dict[str, Any]) -> None:
        tolerated(result)
        require_images(
            result["images"],
            learn=settings.learn_images,
            validation=settings.validation_images,
            calibration=settings.calibration_images,
            fewest=images_needed(settings.epsilon, settings.confidence),
        )

    return check


@dataclass(frozen=True)
class Branch:
    """The stages of one model."""

    config: PipelineConfig
    facts: ModelFacts
    ingested: Stage
    means: Means

    def stages(self) -> dict[str, Stage]:
        """All of them by name, in the order they are done."""
        clean, exact = self._reference(), self._kernel()
        searched = self._search({"reference": clean, "kernel": exact})
        evaluated = self._evaluate({"reference": clean, "kernel": exact, "search": searched})
        marked = self._watermark({"reference": clean, "kernel": exact})
        return {stage.name: stage for stage in (clean, exact, searched, evaluated, marked)}

    def _reference(self) -> Stage:
        def make(context: Context) -> dict[str, Any]:
            work = self._arguments(self.config.evaluate.batch_images)
            return reference.reference(
                context,
                arguments=work,
                num_classes=self.facts.num_classes,
                label_warnings=self.facts.label_warnings,
                spread=context.spread(),
            )

        return self._stage("reference", reference.VERSION, class_numbers.fingerprint(self.facts), {}, make)

    def _kernel(self) -> Stage:
        rtol = self.config.kernel.rtol

        def make(context: Context) -> dict[str, Any]:
            return kernel.kernel(context, model=self.facts.spec.load("cpu"), rtol=rtol)

        return self._stage("kernel", kernel.VERSION, {"rtol": rtol}, {}, make)

    def _search(self, inputs: Mapping[str, Stage]) -> Stage:
        # How many trials run at once changes how fast they are done, not what is searched.
        said = {"seed": self.config.seed, **self.config.search.model_dump(mode="json", exclude={"max_concurrent"})}

        def make(context: Context) -> dict[str, Any]:
            return _searched(context, self, f"{self.facts.spec.label}-{stage.fingerprint[:12]}")

        stage = self._stage("search", search.VERSION, said, inputs, make)
        return stage

    def _evaluate(self, inputs: Mapping[str, Stage]) -> Stage:
        rms, rtol = self.config.kernel.rms, self.config.kernel.rtol
        examples = self.config.evaluate.examples

        def make(context: Context) -> dict[str, Any]:
            work = self._arguments(self.config.evaluate.batch_images) | {"rtol": rtol}
            return evaluate.evaluate(context, arguments=work, rms=rms, examples=examples, spread=context.spread())

        said = {"rms": rms, "examples": examples, "rtol": rtol}
        return self._stage("evaluate", evaluate.VERSION, said, inputs, make)

    def _watermark(self, inputs: Mapping[str, Stage]) -> Stage:
        settings = self.config.watermark
        more = {"rtol": self.config.kernel.rtol, "seed": self.config.seed}
        said = settings.model_dump(mode="json", exclude={"batch_images"}) | {"logo": logo_digest(settings.logo)} | more

        def make(context: Context) -> dict[str, Any]:
            work = self._arguments(settings.batch_images) | more
            return watermark.watermark(context, arguments=work, settings=settings, spread=context.spread())

        return self._stage("watermark", watermark.VERSION, said, inputs, make)

    def _arguments(self, batch_images: int) -> dict[str, Any]:
        return {"model": self.facts.spec, "device": self.means.compute.device, "batch_images": batch_images}

    def _stage(
        self,
        name: str,
        version: int,
        settings: Mapping[str, Any],
        inputs: Mapping[str, Stage],
        make: Callable[[Context], dict[str, Any]],
    ) -> Stage:
        spec = self.facts.spec
        said = {"name": spec.name, "weights_sha256": spec.weights_sha256, **settings}
        if spec.args:  # pooling and normalisation decide results and are in no weights
            said["model_args"] = dict(spec.args)
        return Stage(name, version, said, {"ingest": self.ingested, **inputs}, make, branch=spec.label)


def _searched(context: Context, branch: Branch, study: str) -> dict[str, Any]:
    means = branch.means
    means.compute.start()
    writer = [TrialCallback(means.tracker, context.run_id, searched=SEARCHED, steps="steps")]

    def restored(tuner: Any) -> None:
        writer[0] = reconnect(tuner, means.tracker)

    plan = search.Search(
        facts=branch.facts,
        settings=branch.config.search,
        seed=branch.config.seed,
        device=means.compute.device,
        spread=context.spread(),
        study=study,
        callbacks=writer,
        restored=restored,
        written=lambda: writer[0].flush(),
    )
    return search.search(context, plan)

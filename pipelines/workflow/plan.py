"""The order of work: which stages a config means, and what each reads."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.configs.pipeline import PipelineConfig
from pipelines.engine.models import ModelFacts
from pipelines.engine.stage import Stage, find_done
from pipelines.errors import ConfigError
from pipelines.evaluations.adversarial.rows import EVALUATION as ADVERSARIAL
from pipelines.evaluations.attribution.rows import EVALUATION as ATTRIBUTION
from pipelines.evaluations.base import Evaluation, evaluation_stage
from pipelines.evaluations.corruption.rows import EVALUATION as CORRUPTION
from pipelines.evaluations.fooling.rows import EVALUATION as FOOLING
from pipelines.evaluations.kernel_noise.rows import EVALUATION as KERNEL_NOISE
from pipelines.evaluations.learned_noise.rows import EVALUATION as LEARNED_NOISE
from pipelines.evaluations.payload.rows import EVALUATION as PAYLOAD
from pipelines.evaluations.transfer.rows import EVALUATION as TRANSFER
from pipelines.evaluations.visible_watermark.rows import EVALUATION as VISIBLE_WATERMARK
from pipelines.stages.branch import Branch, Means
from pipelines.stages.ingest.stage import ingest_stage
from pipelines.stages.kernel.stage import kernel_stage
from pipelines.stages.reference.stage import reference_stage
from pipelines.stages.search.stage import enough_images, search_stage

EVALUATIONS: tuple[Evaluation[Any], ...] = (
    KERNEL_NOISE, LEARNED_NOISE, VISIBLE_WATERMARK, PAYLOAD,
    ATTRIBUTION, ADVERSARIAL, CORRUPTION, FOOLING, TRANSFER,
)  # fmt: skip


@dataclass(frozen=True)
class Plan:
    """All stages but the report: `ingests` by preprocessing key, `branches` by model label and then stage name."""

    ingests: Mapping[str, Stage]
    branches: Mapping[str, Mapping[str, Stage]]

    def of_models(self, labels: Collection[str]) -> Plan:
        """The plan of some of its models."""
        return Plan(self.ingests, {label: branch for label, branch in self.branches.items() if label in labels})

    def only(self, names: Collection[str], *, also: Callable[[Stage], bool] = lambda stage: False) -> Plan:
        """The stages of these names with what they need, and those for which `also` holds, with theirs."""
        return Plan(self.ingests, {label: _only(branch, names, also) for label, branch in self.branches.items()})

    def in_order(self) -> list[Stage]:
        return [*self.ingests.values(), *(stage for branch in self.branches.values() for stage in branch.values())]


def _only(branch: Mapping[str, Stage], names: Collection[str], also: Callable[[Stage], bool]) -> dict[str, Stage]:
    roots = [stage for name, stage in branch.items() if name in names or also(stage)]
    needed = {stage.place for root in roots for stage in with_needs(root)}
    return {name: stage for name, stage in branch.items() if stage.place in needed}


def with_needs(stage: Stage) -> Iterator[Stage]:
    """A stage and all it reads, directly or not."""
    yield stage
    for other in stage.inputs.values():
        yield from with_needs(other)


def make_plan(config: PipelineConfig, models: list[ModelFacts], source_digest: str, means: Means) -> Plan:
    """Stages for all models; models of equal preprocessing share one ingest."""
    ingests: dict[str, Stage] = {}
    branches: dict[str, Mapping[str, Stage]] = {}
    specs = {facts.spec.label: facts.spec for facts in models}
    accept = enough_images(config.search) if config.search else lambda result: None
    for facts in models:
        key = facts.preprocessing.key()
        if key not in ingests:
            ingests[key] = ingest_stage(config.ingest, facts, source_digest, means, accept)
        branches[facts.spec.label] = _stages(config, Branch(facts, config.seed, ingests[key], means, specs))
    return Plan(ingests, branches)


def _stages(config: PipelineConfig, branch: Branch) -> dict[str, Stage]:
    """The stages of one model by name, in the order they are done; a section that is null has none."""
    made = {
        "reference": reference_stage(branch, config.reference),
        "kernel": kernel_stage(branch, config.kernel),
    }
    if config.search is not None:
        made["search"] = search_stage(branch, config.search, dict(made))
    for evaluation in EVALUATIONS:
        settings = settings_of(config, evaluation)
        if settings is not None:
            made[evaluation.name] = evaluation_stage(evaluation, branch, settings, made)
    return made


def require_stages(config: PipelineConfig, names: Collection[str]) -> None:
    """Raise ConfigError for a name that is no stage of this config, before anything is opened."""
    known = ["reference", "kernel", *(["search"] if config.search is not None else [])]
    known += [each.name for each in EVALUATIONS if settings_of(config, each) is not None]
    for name in names:
        if name in ("ingest", "report"):
            raise ConfigError(f"--only {name}: it is made in every run; name one of {', '.join(known)}")
        if name not in known:
            raise ConfigError(f"--only {name!r}: this run has no such stage; it has {', '.join(known)} (repeat --only)")


def settings_of(config: PipelineConfig, evaluation: Evaluation[Any]) -> Any:
    """The section of a question; None where it is not asked. Raises ConfigError where there is no such section."""
    if evaluation.name not in PipelineConfig.model_fields:
        raise ConfigError(
            f"{evaluation.name}: PipelineConfig has no section of this name; add one in pipelines/configs/pipeline.py"
        )
    return getattr(config, evaluation.name)


def with_finished(plan: Plan, names: Collection[str], workdir: Path) -> Plan:
    """The stages of these names with what they need, and others that the work folder holds; all where none is named."""
    return plan.only(names, also=lambda stage: find_done(stage, workdir) is not None) if names else plan

"""The contract of evaluations: one question asked of every image, by workers that hold the model, in one stage.

A question is a folder: `settings.py` (its section of the config), `rows.py` (what runs on workers, and the tallies of
their rows; ends in an `Evaluation`), `report.py` (texts and figures, for the driver alone). What all of them share is
here: the loop over batches, clean outputs, examples, the stage.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from nullspace.metrics.outcomes import largest_probability_change, outcomes
from nullspace.model.vit import Outputs
from pipelines.data.shards import Shard, shard_sizes
from pipelines.engine.ids import IdDigest, check_ids, digest_files
from pipelines.engine.models import ModelSpec
from pipelines.engine.stage import Context, Done, Stage
from pipelines.engine.workers.batch_size import is_given
from pipelines.engine.workers.model_workers import ModelShards, read_outputs
from pipelines.engine.workers.shard_workers import ShardWorker, run_shards
from pipelines.evaluations.drawn import draw, shards_of
from pipelines.evaluations.settings import EvaluationSettings
from pipelines.evaluations.tallies import Tally, take_in
from pipelines.files import write_json
from pipelines.settings import deciding
from pipelines.stages.branch import Branch

S = TypeVar("S", bound=EvaluationSettings)
Columns = Mapping[str, "Tensor | np.ndarray | list[Any]"]
"""Columns of rows by name, an entry per image: numbers on any device, or a list."""
_ON_A_CPU = 6  # images per pass on a CPU: the activations of more do not fit its cache


@dataclass(frozen=True)
class Asked(Generic[S]):
    """A question about one model: its settings, and the finished stages that it reads, by name."""

    settings: S
    model: ModelSpec
    seed: int
    inputs: Mapping[str, Done]
    others: Mapping[str, ModelSpec] = field(default_factory=dict)
    """Other models of the run that are also asked, by label."""
    drawn: frozenset[str] | None = None
    """Ids of the images it is asked of; None: of all."""


@dataclass(frozen=True)
class ImageBatch:
    """Images that are worked on at once: `saved` uint8 (n,3,H,W), `images` the same as floats on the device."""

    ids: list[str]
    labels: Tensor
    saved: Tensor
    images: Tensor
    before: Outputs
    """Outputs of the model for the clean images, on the CPU."""
    first: int
    """Position of its first image among the images of the shard that the question is asked of."""
    keep: int
    """How many of its images, from the first on, are kept as pictures for the report."""


class EvaluationShards(ModelShards, Generic[S]):
    """Base of the workers: `conditions(batch)` gives, one condition after the other, a row for every image."""

    def __init__(self, out: str, asked: Asked[S], device: str, with_examples: str) -> None:
        """`with_examples` is the shard whose first images are kept as pictures."""
        size, fixed = asked.settings.batch_images, is_given(asked.settings)
        super().__init__(out, asked.model, str(asked.inputs["ingest"].folder), device, size, fixed)
        self.settings, self.seed, self.inputs, self.drawn = asked.settings, asked.seed, asked.inputs, asked.drawn
        self.with_examples = with_examples

    @abstractmethod
    def conditions(self, batch: ImageBatch) -> Iterator[tuple[str, Columns]]:
        """Each condition's name with its columns, an entry per image of the batch, in its order.

        id, label and condition are added. Figures of one's own are added up by `OutcomeTally(means)`.
        """

    def rows(self, name: str, shard: Shard) -> pa.Table:
        clean = read_outputs(self.inputs["reference"].folder, name)
        # Not every question has pictures to show.
        keep = getattr(self.settings, "examples", 0) if name == self.with_examples else 0
        asked = [place for place, id_ in enumerate(shard.ids) if self.drawn is None or id_ in self.drawn]

        def tables(numbers: Sequence[int]) -> list[pa.Table]:
            batch = self._batch(shard, clean, [asked[number] for number in numbers], numbers[0], keep)
            return [_table(batch, condition, columns) for condition, columns in self.conditions(batch)]

        parts = [table for found in self.batch_size.each(range(len(asked)), tables) for table in found]
        return pa.concat_tables(parts, promote_options="default")  # a column that a condition lacks is null

    def _batch(self, shard: Shard, clean: Outputs, at: list[int], first: int, keep: int) -> ImageBatch:
        """The images at these places of the shard."""
        saved = shard.images[at]
        return ImageBatch(
            ids=[shard.ids[place] for place in at],
            labels=shard.labels[at],
            saved=saved,
            images=self.on_device(saved),
            before=Outputs(features=clean.features[at], logits=clean.logits[at]),
            first=first,
            keep=min(max(0, keep - first), len(at)),
        )

    def outputs(self, images: Tensor) -> Outputs:
        """What the model says of images (n,3,H,W), which may leave [0,1]: float32."""
        parts = images.split(len(images) if images.is_cuda else _ON_A_CPU)
        found = [self.model.outputs_from_tokens(self.model.tokens(part, check_range=False)) for part in parts]
        return as_float(
            Outputs(*(torch.cat([getattr(each, name) for each in found]) for name in ("features", "logits")))
        )


def as_float(outputs: Outputs) -> Outputs:
    """The same in float32, in whatever precision the model computes."""
    return Outputs(features=outputs.features.float(), logits=outputs.logits.float())


def outcome_columns(before: Outputs, after: Outputs) -> dict[str, Tensor]:
    """What changed from one answer of the model to the other, for every image: see `nullspace.metrics.outcomes`."""
    return {"probability_change": largest_probability_change(before.logits, after.logits), **outcomes(before, after)}


def _table(batch: ImageBatch, condition: str, columns: Columns) -> pa.Table:
    named = {"id": batch.ids, "label": batch.labels.numpy(), "condition": [condition] * len(batch.ids)}
    arrays = {name: each.cpu().numpy() if isinstance(each, Tensor) else each for name, each in columns.items()}
    return pa.table(named | arrays)


@dataclass(frozen=True)
class Verdict:
    """What is known of a question before it is asked of any image."""

    skipped: str | None = None
    """A sentence that says why it makes no sense for the model, or None."""
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Preparation:
    """What workers make before any image is asked, `shards` of it by name and size, and find in the stage's folder."""

    worker: type[ShardWorker]
    shards: Mapping[str, int]


NO_KERNEL = (
    "the kernel is trivial (nullity 0, also modulo the shift of tokens): nothing can be added to pixels that the model "
    "does not see"
)


def needs_kernel(asked: Asked[Any]) -> Verdict:
    """The verdict on questions that need a kernel: skipped where it is trivial."""
    return Verdict(None if asked.inputs["kernel"].result["nullity"] else NO_KERNEL)


@dataclass(frozen=True)
class Evaluation(Generic[S]):
    """One question: its name in configs, results, folders and MLflow, its worker, and the tallies of its rows."""

    name: str
    version: int
    """To be raised with every change of its rows or figures."""
    settings: type[S]
    worker: type[EvaluationShards[S]]
    tallies: Callable[[Asked[S]], Mapping[str, Tally]]
    """What adds up the rows of each condition."""
    needs: tuple[str, ...] = ()
    """Stages it reads beside the ingest and the reference."""
    reads: Callable[[S], tuple[str, ...]] = field(default=lambda settings: ())
    """Further stages that it reads where the run has them."""
    draws: Callable[[S], int | None] = field(default=lambda settings: None)
    """Of how many images it is asked, drawn by seed and id; None: of all."""
    others: Callable[[S], Sequence[str] | None] = field(default=lambda settings: ())
    """Labels of other models of the run that are also asked; None: of all."""
    verdict: Callable[[Asked[S]], Verdict] = field(default=lambda asked: Verdict())
    """Asked first, on the driver: whether the question makes sense for this model."""
    prepares: Callable[[Asked[S]], Preparation | None] = field(default=lambda asked: None)
    """What all its workers read, made once for them by `worker(out=…, asked=…, device=…)`."""
    from_inputs: Callable[[Asked[S]], dict[str, Any]] = field(default=lambda asked: {})
    """Figures of the stages it reads that belong beside its own in results and report."""
    headlines: tuple[str, ...] = ()
    """The figures that models are compared by in MLflow: places in `conditions`, as `a.b`."""
    tracked: Callable[[str], bool] = field(default=lambda place: True)
    """Which figures become metrics in MLflow, by their place in the result: pages of thousands are of no use."""


def evaluation_stage(evaluation: Evaluation[S], branch: Branch, settings: S, made: Mapping[str, Stage]) -> Stage:
    """The stage of a question about one model; `made` holds the model's other stages by name."""
    read = [name for name in evaluation.reads(settings) if name in made]
    needs = ("reference", *evaluation.needs, *read)
    named = evaluation.others(settings)
    labels = [label for label in (branch.models if named is None else named) if label != branch.facts.spec.label]
    others = {label: branch.models[label] for label in labels if label in branch.models}  # it may have failed to load
    decides = {"seed": branch.seed, **deciding(settings, contents=True)}
    if others:
        decides["others"] = {label: spec.weights_sha256 for label, spec in others.items()}

    def make(context: Context) -> dict[str, Any]:
        asked = Asked(settings, branch.facts.spec, branch.seed, context.inputs, others)
        return evaluate(context, evaluation, asked, branch.means.compute.device)

    return branch.stage(
        evaluation.name,
        evaluation.version,
        decides,
        {name: made[name] for name in needs},
        make,
        data="evaluation",
        headlines={f"{evaluation.name}.{place}": f"conditions.{place}" for place in evaluation.headlines},
        tracked=evaluation.tracked,
    )


def evaluate(context: Context, evaluation: Evaluation[S], asked: Asked[S], device: str) -> dict[str, Any]:
    """Ask the question of every image; returns the figures of each condition, or why there are none."""
    ingested = asked.inputs["ingest"]
    shards, expected = shard_sizes(ingested.folder), IdDigest.from_dict(ingested.result["ids"])
    count = evaluation.draws(asked.settings)
    if count is not None and count < expected.count:
        drawn = draw(ingested.folder, count, evaluation.name, asked.seed)
        asked = replace(asked, drawn=drawn)
        shards, expected = shards_of(ingested.folder, drawn), IdDigest().add(drawn)
    verdict = evaluation.verdict(asked)
    if verdict.skipped:
        return {"skipped": verdict.skipped}
    work: dict[str, Any] = {"asked": asked, "device": device}
    means: dict[str, Any] = {"out": context.folder, "progress": context.progress}
    prepared = evaluation.prepares(asked)
    if prepared is not None:
        run_shards(prepared.worker, work, prepared.shards, workers=context.workers(), **means)
    work["with_examples"] = next(iter(shards))
    run_shards(evaluation.worker, work, shards, workers=context.workers(), **means)
    files = [context.folder / f"{evaluation.worker.prefix}-{name}.parquet" for name in shards]
    check_ids(evaluation.name, expected, digest_files(files, split_by="condition"))
    tallies = evaluation.tallies(asked)
    take_in(files, tallies)
    result = {
        **evaluation.from_inputs(asked),
        "conditions": {name: tally.to_dict() for name, tally in tallies.items()},
        "settings": deciding(asked.settings),
        "warnings": list(verdict.warnings),
    }
    write_json(context.folder / f"{evaluation.name}.json", result)
    return result

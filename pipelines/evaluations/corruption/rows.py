"""How does the model bear natural corruptions of its images, and how much of them lies in its kernel?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from nullspace.fooling.exact import kernel_share
from nullspace.model.images import from_uint8
from nullspace.robustness.corruptions.corruption import LEAST_SIDE, Corruption, corrupted
from nullspace.robustness.mean_error import corruption_error
from pipelines.data.shards import first_images, ids_of
from pipelines.evaluations.base import (
    Asked,
    Columns,
    Evaluation,
    EvaluationShards,
    ImageBatch,
    Verdict,
    outcome_columns,
)
from pipelines.evaluations.changes import controls
from pipelines.evaluations.corruption.settings import CorruptionSettings
from pipelines.evaluations.corruption.stored import StoredImages
from pipelines.evaluations.corruption.tally import CellTally, MeanTally
from pipelines.evaluations.corruption.ways import (
    AGREEMENT,
    AVERAGED,
    CHANGE,
    CLEAN,
    ERROR,
    EXCESS,
    KERNEL,
    MCE,
    MEAN,
    RMS,
    at,
    cells,
    is_whole,
    means,
    permuted,
    stored,
)
from pipelines.evaluations.found_kernel import kernel_of
from pipelines.evaluations.pictures import keep
from pipelines.evaluations.tallies import Tally

NAME = "corruption"
_IMAGENET = 1000  # classes
_SHOWN = 3  # of the severities asked, the one nearest to it is shown in pictures

Figures = Mapping[str, Tensor]
"""Figures (n,) float64 of the images of a batch, by name: `AVERAGED`."""


class CorruptionShards(EvaluationShards[CorruptionSettings]):
    """Corrupts the drawn images of a shard in every way, and asks the model of each."""

    def __init__(self, out: str, asked: Asked[CorruptionSettings], device: str, with_examples: str) -> None:
        super().__init__(out, asked, device, with_examples)
        kernel = kernel_of(asked, self.model)
        self.kernel = None if kernel is None else kernel.to(self.device)
        self.stored = _stored(asked)
        self.shown = min(self.settings.severities, key=lambda severity: abs(severity - _SHOWN))

    def conditions(self, batch: ImageBatch) -> Iterator[tuple[str, Columns]]:
        wrong = _wrong(batch, batch.before.logits)
        yield CLEAN, {ERROR: wrong, AGREEMENT: torch.ones_like(wrong)}
        found: dict[str, Figures] = {}
        for name in self.settings.names:
            for severity in self.settings.severities:
                for condition, pictures in self._made(Corruption(name, severity), batch):
                    columns = self._asked(batch, pictures)
                    found[condition] = _figures(columns)
                    yield condition, columns
        yield from self._means(found, wrong)
        if self.stored is not None:
            yield from self._of_files(self.stored, batch, wrong)

    def _of_files(self, files: StoredImages, batch: ImageBatch, wrong: Tensor) -> Iterator[tuple[str, Columns]]:
        """What the model makes of stored images; they were cropped otherwise: no change of pixels can be measured."""
        found: dict[str, Figures] = {}
        for name in self.settings.names:
            for severity in self.settings.severities:
                after = self.outputs(self.on_device(files.images(name, severity, batch.ids)))
                unknown = torch.full_like(wrong, torch.nan)
                columns = outcome_columns(batch.before, after) | {
                    ERROR: _wrong(batch, after.logits), RMS: unknown, KERNEL: unknown,
                }  # fmt: skip
                found[at(name, severity)] = _figures(columns)
                yield stored(at(name, severity)), columns
        for condition, columns in self._averages(found, wrong):
            yield stored(condition), columns

    def _made(self, corruption: Corruption, batch: ImageBatch) -> Iterator[tuple[str, Tensor]]:
        """The corrupted images, and the control of equal size."""
        saved = corrupted(batch.saved, corruption, batch.ids, seed=self.seed)
        pictures = from_uint8(saved).to(self.device)
        if corruption.severity == self.shown:
            keep(self.out, batch, {"original": batch.images, corruption.kind: pictures})
        condition = at(corruption.kind, corruption.severity)
        yield condition, pictures
        if self.settings.controls:
            yield (
                permuted(condition),
                controls(batch.images, pictures, batch.ids, self.seed, f"{NAME}_{corruption.name}")[0],
            )

    def _asked(self, batch: ImageBatch, pictures: Tensor) -> dict[str, Tensor]:
        after, change = self.outputs(pictures), pictures - batch.images
        return outcome_columns(batch.before, after) | {
            ERROR: _wrong(batch, after.logits),
            RMS: change.double().square().mean(dim=(1, 2, 3)).sqrt(),
            KERNEL: self._unseen(change),
        }

    def _unseen(self, change: Tensor) -> Tensor:
        """Share (n,) of changes (n,3,H,W) in the kernel; NaN where it is trivial, or nothing has changed."""
        if self.kernel is None:
            return torch.full((len(change),), torch.nan, dtype=torch.float64)
        share = kernel_share(self.model.patchify(change), self.kernel).double()
        return share.masked_fill(change.flatten(1).eq(0).all(dim=1), torch.nan)

    def _means(self, found: Mapping[str, Figures], wrong: Tensor) -> Iterator[tuple[str, Columns]]:
        """For every image the means over severities, over corruptions, and over both, controls too."""
        yield from self._averages(found, wrong)
        if self.settings.controls:
            for condition, over in means(self.settings):
                yield permuted(condition), _mean([found[permuted(cell)] for cell in over])

    def _averages(self, found: Mapping[str, Figures], wrong: Tensor) -> Iterator[tuple[str, Columns]]:
        for condition, over in means(self.settings):
            columns = _mean([found[cell] for cell in over])
            columns[EXCESS] = columns[ERROR] - wrong
            if condition == MEAN and is_whole(self.settings) and self.model.num_classes == _IMAGENET:
                columns[MCE] = self._corruption_error(found)
            yield condition, columns

    def _corruption_error(self, found: Mapping[str, Figures]) -> Tensor:
        severities = self.settings.severities
        return corruption_error(
            {name: _mean([found[at(name, each)] for each in severities])[ERROR] for name in self.settings.names}
        )


def _wrong(batch: ImageBatch, logits: Tensor) -> Tensor:
    """Whether the answer (n,) is not the label: 1 or 0, NaN without a label."""
    wrong = (logits.argmax(dim=1).cpu() != batch.labels).double()
    return wrong.masked_fill(batch.labels < 0, torch.nan)


def _figures(columns: Mapping[str, Tensor]) -> Figures:
    named = {AGREEMENT: columns["agree"], CHANGE: columns["squared_probability_change"]}
    return {name: each.double().cpu() for name, each in (dict(columns) | named).items() if name in AVERAGED}


def _mean(found: list[Figures]) -> dict[str, Tensor]:
    """The mean of each figure of every image over conditions; of the conditions that changed it, where some did not."""
    return {name: torch.stack([each[name] for each in found]).nanmean(dim=0) for name in found[0]}


def _tallies(asked: Asked[CorruptionSettings]) -> dict[str, Tally]:
    settings = asked.settings
    tallies: dict[str, Tally] = {CLEAN: MeanTally()}
    tallies |= {condition: MeanTally() for condition, _ in means(settings)}
    tallies |= {condition: CellTally() for condition in cells(settings)}
    others: dict[str, Tally] = {}
    if settings.controls:
        others |= {permuted(name): type(tally)() for name, tally in tallies.items() if name != CLEAN}
    if settings.stored is not None:
        others |= {stored(name): type(tally)() for name, tally in tallies.items() if name != CLEAN}
    return tallies | others


def _white(asked: Asked[CorruptionSettings]) -> dict[str, Any]:
    """Of white noise the kernel holds its share of all dimensions of a patch."""
    kernel = asked.inputs["kernel"].result
    return {"white_share": kernel["nullity"] / kernel["patch_dim"]}


def _size(asked: Asked[CorruptionSettings]) -> tuple[int, int]:
    """Height and width of the images, in pixels."""
    height, width = first_images(asked.inputs["ingest"].folder, 1).shape[2:]
    return height, width


def _stored(asked: Asked[CorruptionSettings]) -> StoredImages | None:
    settings = asked.settings
    if settings.stored is None:
        return None
    return StoredImages(settings.stored, settings.names, settings.severities, _size(asked))


def _verdict(asked: Asked[CorruptionSettings]) -> Verdict:
    height, width = _size(asked)
    if min(height, width) < LEAST_SIDE:
        return Verdict(f"corruptions are defined for sides of at least {LEAST_SIDE} pixels, not for {height}×{width}")
    if (files := _stored(asked)) is not None:
        ids = (id_ for _, part in ids_of(asked.inputs["ingest"].folder) for id_ in part)
        files.check(asked.drawn or frozenset(ids))
    return Verdict()


def tracked(place: str) -> bool:
    """Whether a figure becomes a metric: error, agreement and kernel share of every mean; not those of each cell."""
    condition, _, figure = place.removeprefix("conditions.").partition(".")
    return figure.split("_ci")[0] in (ERROR, AGREEMENT, KERNEL, EXCESS, MCE) and not _is_cell(condition)


def _is_cell(condition: str) -> bool:
    start, _, severity = condition.removesuffix("_permuted").removeprefix("stored_").rpartition("_")
    return severity.isdecimal() and start != "severity"


EVALUATION = Evaluation(
    name=NAME,
    version=1,
    settings=CorruptionSettings,
    worker=CorruptionShards,
    tallies=_tallies,
    needs=("kernel",),
    draws=lambda settings: settings.images,
    verdict=_verdict,
    from_inputs=_white,
    tracked=tracked,
    headlines=(f"{MEAN}.{ERROR}", f"{MEAN}.{AGREEMENT}"),
)

"""Does the model notice a mark that people see? Laid on every image through kernel and pixel range, also after JPEG."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
from torch import Tensor

from nullspace.metrics.draws import Draws
from nullspace.model.images import from_uint8, round_to_uint8
from nullspace.model.vit import Outputs
from nullspace.pixels.eight_bits import EightBits
from nullspace.watermark.certify import mean_and_worst, token_changes
from nullspace.watermark.distortions import distorted, distortion_named
from nullspace.watermark.jpeg import jpeg_kernel
from nullspace.watermark.visible.legibility import texture_contrast
from nullspace.watermark.visible.visible import embed
from pipelines.evaluations.base import (
    Asked,
    Columns,
    Evaluation,
    EvaluationShards,
    ImageBatch,
    needs_kernel,
    outcome_columns,
)
from pipelines.evaluations.found_kernel import found_kernel
from pipelines.evaluations.image_quality import psnr, ssim
from pipelines.evaluations.pictures import keep
from pipelines.evaluations.tallies import OutcomeTally
from pipelines.evaluations.visible_watermark.mark import JPEG_QUALITIES, make_mark
from pipelines.evaluations.visible_watermark.settings import VisibleWatermarkSettings

# The mark as saved; the same mark laid on plainly; and the mark's own change in random order, of equal norm.
CONDITIONS = ("marked", "plain", "permuted")
# How far the mark is from its ground by its texture, at full and half size, and as a control the clean picture there.
_CONTRAST = ("texture_contrast", "texture_contrast_half", "clean_texture_contrast")
_MEANS = ("psnr", "ssim", *_CONTRAST, "token_change")


class VisibleWatermarkShards(EvaluationShards[VisibleWatermarkSettings]):
    """Marks the images of a shard, rounds them to 8 bits in the kernel, and asks the model."""

    def __init__(self, out: str, asked: Asked[VisibleWatermarkSettings], device: str, with_examples: str) -> None:
        super().__init__(out, asked, device, with_examples)
        self.kernel = found_kernel(asked, self.model)
        self.within = jpeg_kernel(self.model, self.kernel) if self.settings.jpeg else self.kernel
        self.eight_bits = EightBits.of(self.model, self.kernel)
        self.mark = make_mark(self.settings, self.model.preprocessing.input_size)

    def conditions(self, batch: ImageBatch) -> Iterator[tuple[str, Columns]]:
        images = batch.images
        mark, alpha = (part.to(self.device) for part in self.mark)
        iterations = self.settings.iterations
        made = embed(self.model, self.kernel, images, mark, alpha, within=self.within, iterations=iterations)
        saved = from_uint8(self.eight_bits.save(images, made.marked))
        plain = from_uint8(round_to_uint8(made.plain))
        pictures = {"original": batch.images, "plain": plain, "marked": saved}
        keep(self.out, batch, pictures, {"difference": (batch.images, saved)})
        shuffled = images + Draws(self.seed, "mark_permuted", batch.ids).shuffled(saved - images)
        for condition, changed in zip(CONDITIONS, (saved, plain, shuffled), strict=True):
            yield condition, self._columns(images, changed, batch.before)
        for quality in JPEG_QUALITIES:
            clean_jpeg, marked_jpeg = (_as_jpeg(each, quality) for each in (images, saved))
            yield jpeg_condition(quality), self._columns(clean_jpeg, marked_jpeg, self.outputs(clean_jpeg))

    def _columns(self, images: Tensor, changed: Tensor, before: Outputs) -> Columns:
        """How `changed` looks beside `images`, and what the model says of it."""
        moved, worst = mean_and_worst(token_changes(self.model, self.eight_bits.plan.mapping, images, changed))
        return {
            "psnr": psnr(changed, images),
            "ssim": ssim(changed, images),
            **self._contrasts(images, changed),
            "token_change": moved,
            "largest_token_change": worst,
            **outcome_columns(before, self.outputs(changed)),
        }

    def _contrasts(self, images: Tensor, changed: Tensor) -> dict[str, Tensor]:
        alpha = self.mark[1]
        looks = (changed, 1), (changed, 2), (images, 1)
        found = [texture_contrast(look, alpha, shrink=shrink) for look, shrink in looks]
        return dict(zip(_CONTRAST, found, strict=True))


def jpeg_condition(quality: int) -> str:
    """The condition of marked pictures saved as JPEG, beside clean ones saved likewise."""
    return f"jpeg_{quality}"


def _as_jpeg(images: Tensor, quality: int) -> Tensor:
    """Images (n,3,H,W) in [0,1] as a JPEG file of each keeps them."""
    return from_uint8(distorted(round_to_uint8(images), distortion_named(f"jpeg_{quality}")))


class _MarkTally(OutcomeTally):
    """Also counts the images that have no room for the mark."""

    def __init__(self) -> None:
        super().__init__(_MEANS)
        self.unmarked = 0

    def add(self, rows: pa.Table) -> None:
        super().add(rows)
        self.unmarked += int(np.isinf(rows.column("psnr").to_numpy()).sum())

    def to_dict(self) -> dict[str, Any]:
        return {"unmarked": self.unmarked, **super().to_dict()}


def _tallies(asked: Asked[VisibleWatermarkSettings]) -> dict[str, _MarkTally]:
    return {name: _MarkTally() for name in (*CONDITIONS, *map(jpeg_condition, JPEG_QUALITIES))}


EVALUATION = Evaluation(
    name="visible_watermark",
    version=2,
    settings=VisibleWatermarkSettings,
    worker=VisibleWatermarkShards,
    tallies=_tallies,
    needs=("kernel",),
    verdict=needs_kernel,
    headlines=("marked.psnr", "marked.ssim", "marked.agreement", "marked.max_probability_change"),
)
